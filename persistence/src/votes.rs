//! The latest term, vote and commit mark of each shard, and which segment holds the record that says so.
//!
//! A segment goes with all of its records, and a vote is written only when it changes; so the votes in force are written
//! again at the beginning of every segment, and a segment that holds the only record of one stays.

use crate::{Batch, Vote};

/// The votes of all shards.
#[derive(Clone, Debug)]
pub(crate) struct Votes {
    /// By shard: the vote, and the sequence number of the segment its record lies in.
    held: Vec<Option<(Vote, u64)>>,
}

impl Votes {
    pub(crate) fn new(shards: u16) -> Self {
        Self { held: vec![None; usize::from(shards)] }
    }

    /// A vote was read or written in segment `sequence`.
    pub(crate) fn set(&mut self, shard: u16, vote: Vote, sequence: u64) {
        self.held[usize::from(shard)] = Some((vote, sequence));
    }

    /// The vote of each shard, where there is one.
    pub(crate) fn latest(&self) -> Vec<Option<Vote>> {
        self.held.iter().map(|held| held.map(|(vote, _)| vote)).collect()
    }

    /// Whether a shard has a vote.
    pub(crate) fn has(&self, shard: u16) -> bool {
        self.held[usize::from(shard)].is_some()
    }

    /// Whether segment `sequence` holds the record of a vote that is in force.
    pub(crate) fn need(&self, sequence: u64) -> bool {
        self.held.iter().flatten().any(|(_, at)| *at == sequence)
    }

    /// Adds all votes to what is written at the beginning of segment `sequence`.
    pub(crate) fn carry(&mut self, sequence: u64, opening: &mut Batch) {
        for (shard, held) in self.held.iter_mut().enumerate() {
            if let Some((vote, at)) = held {
                opening.push_vote(shard as u16, *vote).expect("a vote is small");
                *at = sequence;
            }
        }
    }
}
