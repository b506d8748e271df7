//! What the core asks of replication, and the layout of one node, which commits on its own flush.
//!
//! The core's loop: `propose` what arrived, `poll`, hand `to_send` to the peers and what is to be persisted to the log
//! thread, call `persisted` when the log says so, `poll` again, apply `committed` and call `applied`. Several batches
//! may be on their way to the disk at once. Nothing here does I/O.

use std::collections::VecDeque;
use std::sync::Arc;

use engine::{Command, Entry};

use crate::raft::GroupStatus;
use crate::{Batch, EncodeError, Sealer};

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

/// Who leads a shard, as this node knows it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Lead {
    /// This node; all of earlier terms was handed out as committed.
    Me,
    /// Another node.
    Other(u16),
    /// Nobody, or it isn't known.
    #[default]
    Nobody,
}

/// Another lead of a shard, or another term.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Change {
    /// The shard.
    pub shard: u16,
    /// Who leads it.
    pub lead: Lead,
    /// The term it is in.
    pub term: u64,
    /// For [`Lead::Me`]: the leader before, alive, gave the lead to this node when it held all of the log.
    pub planned: bool,
}

/// What is to be done after a step. Kept and filled again, so that nothing is allocated in steady state.
///
/// To be taken in this order: `to_send` and what is to be persisted at once; then `lost`, `committed`, `changes`. So
/// who was deposed answers nothing any more, and who is told [`Lead::Me`] has applied everything of earlier terms.
#[derive(Debug, Default)]
pub struct Ready {
    /// Number of what is to be made durable; handed back to [`Replicator::persisted`]. 0: nothing is.
    pub number: u64,
    /// Entries to be made durable, all by one flush.
    pub to_persist: Vec<Placed>,
    /// Votes to be made durable by the same flush, behind the entries, each with its shard.
    pub votes: Vec<(u16, Vote)>,
    /// Messages to peers; they may leave before the flush has ended.
    pub to_send: Vec<Message>,
    /// Own proposals, by shard and index, whose outcome this node will not learn, because it was deposed: they may be
    /// committed yet, or never. In order of index within a shard.
    pub lost: Vec<(u16, u64)>,
    /// Committed entries, in log order within a shard, to be applied; those without commands as well. One that is not
    /// of this node's proposals, or was told as lost, is waited for by nobody.
    pub committed: Vec<Placed>,
    /// Who leads a shard from now on.
    pub changes: Vec<Change>,
}

impl Ready {
    /// Empties all lists and keeps their room.
    pub fn clear(&mut self) {
        self.number = 0;
        self.to_persist.clear();
        self.votes.clear();
        self.to_send.clear();
        self.lost.clear();
        self.committed.clear();
        self.changes.clear();
    }

    /// Adds what is to be made durable to a batch, in the order it must have there, and sets its ticket. On an error the
    /// batch is of no use.
    ///
    /// # Errors
    /// An entry is too large for a record, or a key can't be made or read.
    pub fn fill(&self, batch: &mut Batch, sealer: &Sealer) -> Result<(), EncodeError> {
        batch.ticket = self.number;
        for placed in &self.to_persist {
            batch.push_entry(placed.shard, placed.term, &placed.entry, sealer)?;
        }
        // Behind the entries: a mark may say that they are committed, and a torn flush keeps the first part.
        self.votes.iter().try_for_each(|(shard, vote)| batch.push_vote(*shard, *vote))
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

/// Nothing was proposed: this node does not lead the shard, or not yet, or is giving the lead away, or too much waits
/// for its commit already. The commands come back.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("nothing was proposed: this node does not lead the shard, or can't take more now")]
pub struct NotProposed {
    /// What was not proposed.
    pub commands: Vec<Command>,
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
    /// No member has that number, or no group that shard.
    #[error("no member of the cluster, or no shard, has that number")]
    Unknown,
    /// The message is not what members send: it is dropped.
    #[error("the bytes are no message of this protocol")]
    Malformed,
    /// The sender's disk is another than the one whose votes counted, and does not hold yet what is committed.
    #[error("the sender's disk is a new one and does not count yet")]
    Stranger,
}

/// What became of a batch that the log took nothing of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// Its entries were given back, and their places are free again.
    TakenBack,
    /// They were sent to peers and may be committed without this disk: they keep their places, and the next
    /// [`Replicator::poll`] hands out again all that is not durable, under a new number. Poll when there is room.
    Kept,
}

/// Replication of the logs of all shards, as the core sees it.
pub trait Replicator {
    /// Proposes commands as the next entry of a shard; returns the entry's index. Nothing is proposed on an error.
    fn propose(&mut self, shard: u16, commands: Vec<Command>) -> Result<u64, NotProposed>;
    /// Takes a message from a peer. After an error it is as if the message was lost.
    fn step(&mut self, message: Message) -> Result<(), ReplicationError>;
    /// A tick of the election clock passed.
    fn tick(&mut self);
    /// The link to a node broke: what was sent to it lately may be lost.
    fn unreachable(&mut self, node: u16);
    /// Appends to `ready` what is to be done. What is to be persisted has a number unless there is nothing.
    fn poll(&mut self, ready: &mut Ready);
    /// All that was handed out up to `number` is durable.
    fn persisted(&mut self, number: u64);
    /// The log took nothing of `number`, nor of any later one (the disk is full). What is taken back is appended to
    /// `refused` in the order it was proposed.
    fn refused(&mut self, number: u64, refused: &mut Vec<Placed>) -> Refusal;
    /// Everything of a shard up to `index` is applied.
    fn applied(&mut self, shard: u16, index: u64);
    /// Gives the lead of a shard to another node, when that one holds all of the log. Proposals are refused meanwhile.
    fn transfer(&mut self, shard: u16, to: u16) -> Result<(), ReplicationError>;
    /// Whether this node stands aside: it votes and keeps the log, and what lead it has or wins it gives away at once
    /// without proposing anything.
    fn stand_aside(&mut self, aside: bool);
    /// Kept snapshots cover a shard up to `index`: entries up to there may be forgotten.
    fn compact(&mut self, shard: u16, index: u64);
    /// Last index of a shard's log, durable or not.
    fn last_index(&self, shard: u16) -> u64;
    /// The term a shard is in.
    fn term(&self, shard: u16) -> u64;
    /// Who leads a shard, as the last of [`Ready::changes`] said.
    fn lead(&self, shard: u16) -> Lead;
    /// How a shard's group is doing; none where the layout has one node.
    fn status(&self, shard: u16) -> Option<GroupStatus>;
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
    /// Whether it was told that this node leads.
    told: bool,
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
            told: false,
        }
    }
}

impl Replicator for Solo {
    fn propose(&mut self, shard: u16, commands: Vec<Command>) -> Result<u64, NotProposed> {
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

    fn unreachable(&mut self, _node: u16) {}

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
        if !self.told {
            self.told = true;
            let shards = 0..self.last.len() as u16;
            let change = |shard| Change { shard, lead: Lead::Me, term: self.term, planned: false };
            ready.changes.extend(shards.map(change));
        }
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

    fn refused(&mut self, number: u64, refused: &mut Vec<Placed>) -> Refusal {
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
        Refusal::TakenBack
    }

    fn applied(&mut self, _shard: u16, _index: u64) {}

    fn transfer(&mut self, _shard: u16, _to: u16) -> Result<(), ReplicationError> {
        Err(ReplicationError::OneNode)
    }

    fn stand_aside(&mut self, _aside: bool) {}

    fn compact(&mut self, _shard: u16, _index: u64) {}

    fn last_index(&self, shard: u16) -> u64 {
        self.last[usize::from(shard)]
    }

    fn term(&self, _shard: u16) -> u64 {
        self.term
    }

    fn lead(&self, _shard: u16) -> Lead {
        Lead::Me
    }

    fn status(&self, _shard: u16) -> Option<GroupStatus> {
        None
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
        let change = |shard| Change { shard, lead: Lead::Me, term: 7, planned: false };
        assert_eq!(ready.changes, [change(0), change(1)]);
        assert_eq!(solo.propose(1, Vec::new()), Ok(2));
        ready.clear();
        solo.poll(&mut ready);
        assert!(ready.number == 2 && ready.changes.is_empty());
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
        assert_eq!(solo.refused(2, &mut refused), Refusal::TakenBack);
        assert_eq!(indices(&refused), [(0, 2), (1, 1), (0, 3)]);
        assert_eq!((solo.last_index(0), solo.last_index(1)), (1, 0));
        ready.clear();
        solo.poll(&mut ready);
        assert!(ready.committed.is_empty() && ready.to_persist.is_empty());
        assert_eq!(solo.propose(0, Vec::new()), Ok(2));
    }
}
