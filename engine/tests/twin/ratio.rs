//! Exact fractions of whole numbers.

use std::cmp::Ordering;
use std::ops::{Add, Mul, Sub};

use super::Amount;

/// A fraction in lowest terms, with a positive denominator.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ratio {
    pub above: i128,
    pub below: i128,
}

impl Ratio {
    pub fn new(above: i128, below: i128) -> Self {
        assert!(below != 0, "a fraction has a denominator");
        let divisor = common_divisor(above.abs(), below.abs()).max(1) * below.signum();
        Self { above: above / divisor, below: below / divisor }
    }

    pub fn whole(above: i128) -> Self {
        Self { above, below: 1 }
    }

    /// Whether a buyer may say this factor.
    pub fn is_sensible_factor(self) -> bool {
        self.above > 0 && self.above <= 1_000_000_000 && self.below <= 1_000_000_000
    }

    /// The largest multiple of `unit` that is not above this.
    pub fn floor_to(self, unit: Amount) -> Amount {
        self.above.div_euclid(self.below * unit) * unit
    }

    /// The smallest multiple of `unit` that is not below this.
    pub fn ceil_to(self, unit: Amount) -> Amount {
        -Self { above: -self.above, below: self.below }.floor_to(unit)
    }

    /// Rounded to a multiple of `unit`, half up.
    pub fn round_to(self, unit: Amount) -> Amount {
        (self + Self::new(unit, 2)).floor_to(unit)
    }

    /// This divided by a positive fraction.
    pub fn over(self, other: Self) -> Self {
        Self::new(self.above * other.below, self.below * other.above)
    }
}

fn common_divisor(one: i128, other: i128) -> i128 {
    if other == 0 { one } else { common_divisor(other, one % other) }
}

impl Add for Ratio {
    type Output = Self;
    fn add(self, other: Self) -> Self {
        Self::new(self.above * other.below + other.above * self.below, self.below * other.below)
    }
}

impl Sub for Ratio {
    type Output = Self;
    fn sub(self, other: Self) -> Self {
        self + Self { above: -other.above, below: other.below }
    }
}

impl Mul for Ratio {
    type Output = Self;
    fn mul(self, other: Self) -> Self {
        Self::new(self.above * other.above, self.below * other.below)
    }
}

impl PartialOrd for Ratio {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Ratio {
    fn cmp(&self, other: &Self) -> Ordering {
        (self.above * other.below).cmp(&(other.above * self.below))
    }
}
