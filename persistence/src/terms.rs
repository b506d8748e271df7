//! Which term each index of a shard's log has, and which entries stand in the place of earlier ones. Knows no bytes.

use crate::Last;

/// The terms of a shard's log and how far it is known to be committed.
#[derive(Clone, Debug, Default)]
pub(crate) struct Terms {
    /// From which index on, which term; the first one says where the log begins.
    runs: Vec<(u64, u64)>,
    /// The highest commit mark.
    mark: u64,
}

impl Terms {
    pub(crate) fn new(base: Last) -> Self {
        Self { runs: vec![(base.index, base.term)], mark: 0 }
    }

    /// The term of the entry at `index`; none before the log begins. Says nothing about where it ends.
    pub(crate) fn at(&self, index: u64) -> Option<u64> {
        self.runs.iter().rev().find(|(first, _)| *first <= index).map(|(_, term)| *term)
    }

    /// Whether an entry may stand in the place of another and of all behind it: behind every commit mark, of another
    /// term than what is there, and not of an earlier one than what is before it.
    pub(crate) fn may_replace(&self, index: u64, term: u64) -> bool {
        let begins = self.runs.first().map_or(u64::MAX, |(first, _)| *first);
        index > begins
            && index > self.mark
            && self.at(index) != Some(term)
            && self.at(index - 1).is_none_or(|before| before <= term)
    }

    /// Everything up to `index` is known to be committed.
    pub(crate) fn mark(&mut self, index: u64) {
        self.mark = self.mark.max(index);
    }

    /// An entry was read.
    pub(crate) fn push(&mut self, index: u64, term: u64) {
        while self.runs.len() > 1 && self.runs.last().is_some_and(|(first, _)| *first >= index) {
            self.runs.pop();
        }
        if self.runs.last().is_none_or(|(_, last)| *last != term) {
            self.runs.push((index, term));
        }
    }
}

/// An entry that stands in the place of another and of all behind it, which a later leader did not have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Overwrite {
    pub(crate) shard: u16,
    /// Where its record lies.
    pub(crate) sequence: u64,
    pub(crate) offset: usize,
    /// From which index on it counts.
    pub(crate) index: u64,
}

impl Overwrite {
    /// Whether the entry of `shard` at `index`, whose record lies at `place` (segment, offset), is replaced by it.
    pub(crate) fn replaces(&self, shard: u16, index: u64, place: (u64, usize)) -> bool {
        self.shard == shard && self.index <= index && (self.sequence, self.offset) > place
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_no_mark_covers_is_replaced_and_only_by_another_term() {
        let mut terms = Terms::new(Last { index: 3, term: 2 });
        for (index, term) in [(4, 2), (5, 4), (6, 4), (7, 5)] {
            terms.push(index, term);
        }
        assert_eq!(
            [2, 3, 4, 5, 7, 9].map(|index| terms.at(index)),
            [None, Some(2), Some(2), Some(4), Some(5), Some(5)]
        );
        // The place, the term it is proposed in, and whether it may stand there.
        let table = [
            (3, 6, false), // the log begins behind it
            (4, 6, true),
            (4, 2, false), // a repeat
            (5, 3, true),  // of a lower term than what is there, as a later leader may have it
            (5, 1, false), // lower than what is before it
            (7, 4, true),
            (7, 5, false), // a repeat
        ];
        for (index, term, may) in table {
            assert_eq!(terms.may_replace(index, term), may, "{index} {term}");
        }
        terms.mark(5);
        assert!(!terms.may_replace(5, 6) && terms.may_replace(6, 6));
        terms.push(6, 6);
        assert_eq!((terms.at(5), terms.at(6), terms.at(7)), (Some(4), Some(6), Some(6)));
    }
}
