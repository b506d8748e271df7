//! Effective prices: a price after its bidder's adjustment, as an exact rational. Comparing never rounds.

use std::cmp::Ordering;

use wincode::{SchemaRead, SchemaWrite};

use crate::Price;

/// Largest numerator and denominator of a factor, in lowest terms.
pub(crate) const FACTOR_MAX: i64 = 1_000_000_000;

/// How the prices of one bidder are adjusted in a lot: effective = price × `numerator` / `denominator` + `addend`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, SchemaWrite, SchemaRead)]
pub struct Adjust {
    /// Above the line; positive.
    pub numerator: i64,
    /// Below the line; positive.
    pub denominator: i64,
    /// In units of the lot's scale; may be negative.
    pub addend: i64,
}

impl Adjust {
    /// No adjustment.
    pub const NONE: Self = Self { numerator: 1, denominator: 1, addend: 0 };

    /// The effective price.
    pub(crate) fn effective(self, price: Price) -> Effective {
        let over = i128::from(price.0) * i128::from(self.numerator)
            + i128::from(self.addend) * i128::from(self.denominator);
        Effective { over, under: self.denominator }
    }

    /// The highest price whose effective price is not above `limit`.
    pub(crate) fn at_most(self, limit: Effective) -> i64 {
        let (over, under) = self.solve(limit);
        clamp(over.div_euclid(under))
    }

    /// The lowest price whose effective price is not below `limit`.
    pub(crate) fn at_least(self, limit: Effective) -> i64 {
        let (over, under) = self.solve(limit);
        clamp(-((-over).div_euclid(under)))
    }

    /// (limit − addend) / factor, as a fraction.
    fn solve(self, limit: Effective) -> (i128, i128) {
        let over = limit.over - i128::from(self.addend) * i128::from(limit.under);
        (over * i128::from(self.denominator), i128::from(limit.under) * i128::from(self.numerator))
    }
}

fn clamp(value: i128) -> i64 {
    value.clamp(i128::from(i64::MIN / 4), i128::from(i64::MAX / 4)) as i64
}

/// An effective price: `over` / `under` units of the lot's scale.
#[derive(Clone, Copy, Debug)]
pub struct Effective {
    over: i128,
    under: i64,
}

impl Effective {
    /// A whole number of units.
    #[cfg(test)]
    fn whole(price: Price) -> Self {
        Self { over: i128::from(price.0), under: 1 }
    }

    /// This plus a whole number of units.
    #[must_use]
    pub(crate) fn plus(self, units: i64) -> Self {
        Self { over: self.over + i128::from(units) * i128::from(self.under), under: self.under }
    }

    /// Rounded half up to whole units; −0.5 becomes 0.
    pub fn rounded(self) -> Price {
        let under = i128::from(self.under);
        Price(clamp((2 * self.over + under).div_euclid(2 * under)))
    }

    /// Not below zero, rounded down to whole units.
    pub(crate) fn floor(self) -> Price {
        Price(clamp(self.over.max(0) / i128::from(self.under)))
    }

    /// This × `numerator` / `denominator`, rounded up to whole units; nothing below zero.
    pub(crate) fn fraction_up(self, numerator: i64, denominator: i64) -> i64 {
        let over = self.over.max(0) * i128::from(numerator);
        let under = i128::from(self.under) * i128::from(denominator);
        clamp((over + under - 1) / under)
    }

    /// Whether this is at most `lead` × (1 + `numerator` / `denominator`).
    pub(crate) fn is_near(self, lead: Self, numerator: i64, denominator: i64) -> bool {
        let left = self.over * i128::from(lead.under) - lead.over * i128::from(self.under);
        let right = lead.over * i128::from(self.under);
        let (numerator, denominator) = (i128::from(numerator), i128::from(denominator));
        // left ≤ right × numerator / denominator, taken apart so that nothing overflows; left is whole.
        let (whole, rest) = (right.div_euclid(denominator), right.rem_euclid(denominator));
        left <= whole * numerator + (rest * numerator).div_euclid(denominator)
    }
}

impl PartialEq for Effective {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other) == Ordering::Equal
    }
}

impl Eq for Effective {}

impl PartialOrd for Effective {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Effective {
    fn cmp(&self, other: &Self) -> Ordering {
        (self.over * i128::from(other.under)).cmp(&(other.over * i128::from(self.under)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_is_rounded_and_the_way_back_is_exact() {
        let adjust = Adjust { numerator: 17, denominator: 19, addend: -3 };
        for price in [1, 2, 18, 19, 20, 47_500_000, 1_000_000_000_000_000] {
            let effective = adjust.effective(Price(price));
            assert_eq!(adjust.at_most(effective), price);
            assert_eq!(adjust.at_least(effective), price);
            assert!(effective < adjust.effective(Price(price + 1)));
            assert_eq!(adjust.at_most(effective.plus(1)), price + 1);
            assert_eq!(adjust.at_least(effective.plus(1)), price + 2);
        }
        assert_eq!(adjust.effective(Price(47_500_000)).rounded(), Price(42_499_997));
        assert_eq!(Effective { over: -1, under: 2 }.rounded(), Price(0));
        assert!(Effective { over: 2, under: 4 } == Effective { over: 1, under: 2 });
        let lead = Effective::whole(Price(10_000));
        assert!(Effective::whole(Price(10_300)).is_near(lead, 3, 100));
        assert!(!Effective { over: 10_301, under: 1 }.is_near(lead, 3, 100));
    }
}
