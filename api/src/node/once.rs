//! Says what is wrong once, and not each time that it is looked at: again when it is another thing, and after a while.

use std::time::{Duration, Instant};

/// After so long the same thing is said again.
const AGAIN: Duration = Duration::from_secs(60);

/// What was said last.
#[derive(Debug, Default)]
pub(super) struct Once(Option<(String, Instant)>);

impl Once {
    /// Whether `text` is to be said now.
    pub(super) fn is_due(&mut self, text: &str) -> bool {
        let same = self.0.as_ref().is_some_and(|(last, at)| last == text && at.elapsed() < AGAIN);
        if !same {
            self.0 = Some((text.to_owned(), Instant::now()));
        }
        !same
    }

    /// Nothing is wrong.
    pub(super) fn clear(&mut self) {
        self.0 = None;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_is_said_once_until_it_was_right_in_between() {
        let mut once = Once::default();
        let said = ["a", "a", "b", "b", "a"].map(|text| once.is_due(text));
        assert_eq!(said, [true, false, true, false, true]);
        once.clear();
        assert!(once.is_due("a"));
    }
}
