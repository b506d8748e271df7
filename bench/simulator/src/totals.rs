//! What became of everything that each sender sent, counted where it happens: A7 says that nothing is left over.

use std::collections::BTreeMap;

use engine::{Answer, Reply};

/// Counts of one sender, or of all.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Totals {
    /// Commands sent.
    pub submitted: u64,
    /// Decided, and taken.
    pub accepted: u64,
    /// Decided, and refused; by the code of the reason.
    pub rejected: BTreeMap<String, u64>,
    /// Refused before they were sequenced, by why: certainly not taken.
    pub not_taken: BTreeMap<String, u64>,
    /// Never answered: the process ended first.
    pub unknown: u64,
}

impl Totals {
    /// One was decided.
    pub fn decided(&mut self, reply: &Reply) {
        match &reply.answer {
            Answer::Refused(refused) => {
                let code = refused.refusal.code();
                assert!(!code.is_empty(), "A7: a reject has a reason code");
                *self.rejected.entry(code.to_owned()).or_default() += 1;
            }
            _ => self.accepted += 1,
        }
    }

    /// Adds those of another.
    pub fn add(&mut self, other: &Self) {
        self.submitted += other.submitted;
        self.accepted += other.accepted;
        self.unknown += other.unknown;
        for (mine, theirs) in [(&mut self.rejected, &other.rejected), (&mut self.not_taken, &other.not_taken)] {
            for (word, count) in theirs {
                *mine.entry(word.clone()).or_default() += count;
            }
        }
    }

    /// How many of those that were sent are accounted for.
    pub fn accounted(&self) -> u64 {
        let of = |counts: &BTreeMap<String, u64>| counts.values().sum::<u64>();
        self.accepted + of(&self.rejected) + of(&self.not_taken) + self.unknown
    }
}
