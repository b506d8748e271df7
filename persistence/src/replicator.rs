//! What the core asks of replication, and the layout of one node, which commits on its own flush.
//!
//! The core's loop: `propose` what arrived, `poll`, hand `to_persist` to the log thread and `to_send` to the peers,
//! call `persisted` when the log says so, `poll` again and apply `committed`. Nothing here does I/O.

use std::collections::VecDeque;
use std::sync::Arc;

use engine::{Command, Entry};

/// One entry with the place it has in the log of all shards.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Placed {
    /// The shard.
    pub shard: u16,
    /// The term it was proposed in.
    pub term: u64,
    /// The entry; shared with who waits for its commit.
    pub entry: Arc<Entry>,
}

/// Term, vote and commit mark of one shard, durable before they are used.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Vote {
    /// The current term.
    pub term: u64,
    /// Whom this node voted for in it; zero for nobody.
    pub vote: u64,
    /// Highest index known to be committed.
    pub commit: u64,
}

/// What is to be done after a step. Kept and filled again, so that nothing is allocated in steady state.
#[derive(Debug, Default)]
pub struct Ready {
    /// Number of what is to be made durable; handed back to [`Replicator::persisted`].
    pub number: u64,
    /// Entries to be made durable, all by one flush.
    pub to_persist: Vec<Placed>,
    /// Votes to be made durable by the same flush, each with its shard.
    pub votes: Vec<(u16, Vote)>,
    /// Messages to peers; they may leave before the flush has ended.
    pub to_send: Vec<Message>,
    /// Committed entries, in log order, to be applied.
    pub committed: Vec<Placed>,
}

impl Ready {
    /// Empties all lists and keeps their room.
    pub fn clear(&mut self) {
        self.number = 0;
        self.to_persist.clear();
        self.votes.clear();
        self.to_send.clear();
        self.committed.clear();
    }
}

/// A message between two nodes, in the frame of the node-to-node protocol.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Message {
    /// The other node.
    pub peer: u16,
    /// The shard whose group it belongs to.
    pub shard: u16,
    /// Its bytes.
    pub bytes: Vec<u8>,
}

/// Why a request to replication is not done.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ReplicationError {
    /// Another node leads the shard: send it there.
    #[error("this node does not lead the shard")]
    NotLeader,
    /// The layout has one node.
    #[error("this needs a cluster, and the layout has one node")]
    OneNode,
}

/// Replication of the logs of all shards, as the core sees it.
pub trait Replicator {
    /// Proposes commands as the next entry of a shard; returns the entry's index.
    fn propose(&mut self, shard: u16, commands: Vec<Command>) -> Result<u64, ReplicationError>;
    /// Takes a message from a peer.
    fn step(&mut self, message: Message) -> Result<(), ReplicationError>;
    /// A tick of the election clock passed.
    fn tick(&mut self);
    /// Appends to `ready` what is to be done. What is to be persisted has a number unless there is nothing.
    fn poll(&mut self, ready: &mut Ready);
    /// All that was handed out up to `number` is durable.
    fn persisted(&mut self, number: u64);
    /// The log took nothing of `number` (the disk is full): takes the entries back, newest places first to be given
    /// anew, and appends them to `refused`.
    fn refused(&mut self, number: u64, refused: &mut Vec<Placed>);
    /// Gives the lead of a shard to another node.
    fn transfer(&mut self, shard: u16, to: u16) -> Result<(), ReplicationError>;
    /// Changes who belongs to the cluster.
    fn change_members(&mut self, members: &[u16]) -> Result<(), ReplicationError>;
    /// A snapshot covers a shard up to `index`: entries below may be forgotten.
    fn compact(&mut self, shard: u16, index: u64);
    /// Last index that was given out in a shard.
    fn last_index(&self, shard: u16) -> u64;
    /// The term this node proposes in.
    fn term(&self) -> u64;
}

/// The layout of one node: an entry is committed when the own flush has ended.
#[derive(Debug)]
pub struct Solo {
    term: u64,
    last: Vec<u64>,
    number: u64,
    proposed: Vec<Placed>,
    flushing: VecDeque<(u64, Vec<Placed>)>,
    committed: VecDeque<Placed>,
    spare: Vec<Vec<Placed>>,
}

impl Solo {
    /// Begins after what recovery found: the last index of every shard, and the highest term in the log. The term
    /// of this run is the next.
    pub fn new(last: impl IntoIterator<Item = u64>, term: u64) -> Self {
        Self {
            term: term + 1,
            last: last.into_iter().collect(),
            number: 0,
            proposed: Vec::new(),
            flushing: VecDeque::new(),
            committed: VecDeque::new(),
            spare: Vec::new(),
        }
    }
}

impl Replicator for Solo {
    fn propose(&mut self, shard: u16, commands: Vec<Command>) -> Result<u64, ReplicationError> {
        let last = &mut self.last[usize::from(shard)];
        *last += 1;
        let entry = Arc::new(Entry { index: *last, commands });
        self.proposed.push(Placed { shard, term: self.term, entry });
        Ok(*last)
    }

    fn step(&mut self, _message: Message) -> Result<(), ReplicationError> {
        Err(ReplicationError::OneNode)
    }

    fn tick(&mut self) {}

    fn poll(&mut self, ready: &mut Ready) {
        if !self.proposed.is_empty() {
            self.number += 1;
            ready.number = self.number;
            ready.to_persist.extend(self.proposed.iter().cloned());
            let next = self.spare.pop().unwrap_or_default();
            let proposed = std::mem::replace(&mut self.proposed, next);
            self.flushing.push_back((self.number, proposed));
        }
        ready.committed.extend(self.committed.drain(..));
    }

    fn persisted(&mut self, number: u64) {
        while let Some((first, _)) = self.flushing.front() {
            if *first > number {
                break;
            }
            if let Some((_, mut placed)) = self.flushing.pop_front() {
                self.committed.extend(placed.drain(..));
                self.spare.push(placed);
            }
        }
    }

    fn refused(&mut self, number: u64, refused: &mut Vec<Placed>) {
        // What was proposed after it has places that build on it, so all of it comes back.
        while self.flushing.back().is_some_and(|(last, _)| *last >= number) {
            let (_, mut placed) = self.flushing.pop_back().expect("looked at just now");
            self.proposed.splice(0..0, placed.drain(..));
            self.spare.push(placed);
        }
        for placed in self.proposed.drain(..) {
            let last = &mut self.last[usize::from(placed.shard)];
            *last = (*last).min(placed.entry.index - 1);
            refused.push(placed);
        }
    }

    fn transfer(&mut self, _shard: u16, _to: u16) -> Result<(), ReplicationError> {
        Err(ReplicationError::OneNode)
    }

    fn change_members(&mut self, _members: &[u16]) -> Result<(), ReplicationError> {
        Err(ReplicationError::OneNode)
    }

    fn compact(&mut self, _shard: u16, _index: u64) {}

    fn last_index(&self, shard: u16) -> u64 {
        self.last[usize::from(shard)]
    }

    fn term(&self) -> u64 {
        self.term
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn indices(placed: &[Placed]) -> Vec<(u16, u64)> {
        placed.iter().map(|placed| (placed.shard, placed.entry.index)).collect()
    }

    #[test]
    fn commits_on_its_own_flush_in_order() {
        let mut solo = Solo::new([4, 0], 6);
        let mut ready = Ready::default();
        assert_eq!(solo.propose(0, Vec::new()), Ok(5));
        assert_eq!(solo.propose(1, Vec::new()), Ok(1));
        solo.poll(&mut ready);
        assert_eq!((ready.number, indices(&ready.to_persist)), (1, vec![(0, 5), (1, 1)]));
        assert!(ready.committed.is_empty() && ready.to_persist[0].term == 7);
        assert_eq!(solo.propose(1, Vec::new()), Ok(2));
        ready.clear();
        solo.poll(&mut ready);
        assert_eq!(ready.number, 2);
        solo.persisted(1);
        ready.clear();
        solo.poll(&mut ready);
        assert_eq!((ready.number, indices(&ready.committed)), (0, vec![(0, 5), (1, 1)]));
        solo.persisted(2);
        ready.clear();
        solo.poll(&mut ready);
        assert_eq!(indices(&ready.committed), [(1, 2)]);
    }

    #[test]
    fn what_the_log_refused_gives_its_places_back() {
        let mut solo = Solo::new([0, 0], 0);
        let mut ready = Ready::default();
        solo.propose(0, Vec::new()).expect("one node leads");
        solo.poll(&mut ready);
        solo.persisted(1);
        solo.propose(0, Vec::new()).expect("one node leads");
        solo.propose(1, Vec::new()).expect("one node leads");
        ready.clear();
        solo.poll(&mut ready);
        assert_eq!(indices(&ready.committed), [(0, 1)]);
        solo.propose(0, Vec::new()).expect("one node leads");
        let mut refused = Vec::new();
        solo.refused(2, &mut refused);
        assert_eq!(indices(&refused), [(0, 2), (1, 1), (0, 3)]);
        assert_eq!((solo.last_index(0), solo.last_index(1)), (1, 0));
        ready.clear();
        solo.poll(&mut ready);
        assert!(ready.committed.is_empty() && ready.to_persist.is_empty());
        assert_eq!(solo.propose(0, Vec::new()), Ok(2));
    }
}
