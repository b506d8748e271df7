//! Chance for the demo, so that no two practice tenders are alike. Good for play, never for keys.

use uuid::Uuid;

/// A small generator (SplitMix64).
#[derive(Clone, Debug)]
pub struct Dice {
    state: u64,
}

impl Dice {
    /// Another one at each start.
    pub fn new() -> Self {
        Self { state: Uuid::now_v7().as_u64_pair().1 }
    }

    /// A generator of its own, for somebody else.
    pub fn split(&mut self) -> Self {
        Self { state: self.next() }
    }

    fn next(&mut self) -> u64 {
        self.state = self.state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.state;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// A number from `low` to `high`, both included.
    pub fn between(&mut self, low: u64, high: u64) -> u64 {
        low + self.next() % (high.saturating_sub(low) + 1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_throw_stays_within_its_bounds_and_reaches_them() {
        let mut dice = Dice { state: 7 };
        let throws: Vec<u64> = (0..600).map(|_| dice.between(1, 6)).collect();
        assert_eq!((throws.iter().min(), throws.iter().max()), (Some(&1), Some(&6)));
        assert_eq!(dice.between(5, 5), 5);
    }
}
