//! Replication by Raft: one group for each shard, all of them over one log with one flush.
//!
//! Owns the rules of who counts: votes, terms, disks that are new. Does no I/O, knows no clock and no network: it is
//! ticked, polled and given what arrived. The network's bytes are read by [`wire`] alone.

mod group;
mod store;
mod wire;

use std::collections::{BTreeMap, BTreeSet};

use engine::Command;
use tracing::debug;

use self::group::Group;
use crate::{Last, Lead, Message, NotProposed, Placed, Ready, Refusal, ReplicationError, Replicator, Vote};

/// A member of the cluster, as replication sees it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RaftMember {
    /// Its number.
    pub node: u16,
    /// Its site, from 1; nodes of one site may be lost together.
    pub site: u16,
    /// It votes and keeps the log, and never leads for longer than it takes to hand on.
    pub witness: bool,
}

/// How a node takes part.
#[derive(Clone, Debug)]
pub struct RaftOptions {
    /// This node; one of the members.
    pub node: u16,
    /// Names this life of its disk: new with every data folder.
    pub disk: u64,
    /// All members, this node included.
    pub members: Vec<RaftMember>,
    /// The cluster is a new one: empty disks may vote. Never when any member has ever held something.
    pub bootstrap: bool,
    /// This disk may have promised what it does not hold: it is a copy of another, or an older state of itself. It counts
    /// when it has caught up.
    pub doubtful: bool,
    /// Commits wait for both sites, until one is silent for [`RaftOptions::fall_back_ticks`].
    pub both: bool,
    /// Ticks without a commit after which the other site is not waited for.
    pub fall_back_ticks: u32,
    /// Ticks between two heartbeats of a leader.
    pub beat_ticks: usize,
    /// Ticks without a majority after which a leader steps down; the same on all nodes, more than `beat_ticks`.
    pub election_ticks: usize,
    /// Ticks without a leader after which this node stands; different on every node, at least `election_ticks`.
    pub own_election_ticks: usize,
    /// Who is to lead each shard when it can, by shard; 0 or nothing: anybody.
    pub preferred: Vec<u16>,
}

/// What a node's log holds of a shard.
#[derive(Clone, Debug, Default)]
pub struct ShardLog {
    /// Term, vote and commit mark, if one was written.
    pub vote: Option<Vote>,
    /// How far the state is that is applied already: the snapshot's place.
    pub start: Last,
    /// The entries behind it, without holes; what was overwritten is not among them.
    pub entries: Vec<Placed>,
    /// Up to which index the caller has applied the entries itself; never beyond [`ShardLog::committed`]. 0: none.
    pub applied: u64,
}

impl ShardLog {
    /// Up to which index the log is known to be committed, by its own mark or the snapshot.
    pub fn committed(&self) -> u64 {
        let last = self.entries.last().map_or(self.start.index, |placed| placed.entry.index);
        self.vote.map_or(0, |vote| vote.commit).max(self.start.index).min(last)
    }
}

/// How a group is doing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GroupStatus {
    /// The term it is in.
    pub term: u64,
    /// Who leads it.
    pub lead: Lead,
    /// The last index that is known to be committed.
    pub committed: u64,
    /// The last index.
    pub last: u64,
    /// Whether this disk's votes count.
    pub joined: bool,
    /// Whether commits wait for both sites now.
    pub both: bool,
    /// Where a snapshot reaches that this node needs, and who has it: the log is cut behind what this node holds.
    pub wanted: Option<(u16, Last)>,
    /// The other members, how far they hold the log, and whether they were heard lately; empty unless this node leads.
    pub followers: Vec<(u16, u64, bool)>,
}

/// Raft takes zero for nobody.
fn raft_id(node: u16) -> u64 {
    u64::from(node) + 1
}

fn node_of(id: u64) -> u16 {
    (id - 1) as u16
}

/// The replication of a node by Raft.
pub struct Raft {
    options: RaftOptions,
    groups: Vec<Group>,
    number: u64,
    /// The disk of each other member, as it said last, and those it had before.
    disks: BTreeMap<u16, u64>,
    former: BTreeSet<(u16, u64)>,
}

impl Raft {
    /// Goes on after what the log held, by shard.
    ///
    /// Of `entries` the caller has applied those up to [`ShardLog::applied`]; all others are handed out when they are
    /// known to be committed.
    ///
    /// # Panics
    /// On options that contradict each other: no member with this node's number, or times out of order. On a log of
    /// which more was applied than is committed.
    pub fn new(options: RaftOptions, shards: Vec<ShardLog>) -> Self {
        assert!(options.members.iter().any(|member| member.node == options.node), "this node is a member");
        assert!(options.members.iter().all(|member| member.site > 0), "sites count from 1");
        assert!(
            0 < options.beat_ticks
                && options.beat_ticks < options.election_ticks
                && options.election_ticks <= options.own_election_ticks,
            "beats come more often than elections"
        );
        let group = |(shard, log)| Group::new(&options, shard as u16, log);
        let groups = shards.into_iter().enumerate().map(group).collect();
        Self { groups, options, number: 0, disks: BTreeMap::new(), former: BTreeSet::new() }
    }

    /// How a shard's group is doing.
    pub fn group(&self, shard: u16) -> GroupStatus {
        let group = &self.groups[usize::from(shard)];
        GroupStatus {
            term: group.term(),
            lead: group.lead(),
            committed: group.committed(),
            last: group.last_index(),
            joined: group.joined(),
            both: group.waits_for_both(),
            wanted: group.wanted(),
            followers: group.followers(),
        }
    }

    /// Whether a member's disk is another than before; none: it is one that it had before.
    fn meet(&mut self, node: u16, disk: u64) -> Option<bool> {
        if self.former.contains(&(node, disk)) {
            return None;
        }
        let known = self.disks.insert(node, disk);
        if let Some(known) = known.filter(|known| *known != disk) {
            self.former.insert((node, known));
            return Some(true);
        }
        Some(false)
    }
}

impl Replicator for Raft {
    fn propose(&mut self, shard: u16, commands: Vec<Command>) -> Result<u64, NotProposed> {
        self.groups[usize::from(shard)].propose(commands)
    }

    fn step(&mut self, message: Message) -> Result<(), ReplicationError> {
        let Message { peer, shard, bytes } = message;
        let known = peer != self.options.node && self.options.members.iter().any(|member| member.node == peer);
        if !known || usize::from(shard) >= self.groups.len() {
            return Err(ReplicationError::Unknown);
        }
        let arrived = wire::decode(&bytes, raft_id(peer), raft_id(self.options.node));
        let arrived = arrived.ok_or(ReplicationError::Malformed)?;
        let forgotten = match self.meet(peer, arrived.about.disk) {
            None => return Err(ReplicationError::Stranger),
            Some(false) => false,
            Some(true) => {
                for group in &mut self.groups {
                    group.forget(raft_id(peer));
                }
                true
            }
        };
        debug!(shard, forgotten, "Message: {}", wire::describe(&arrived.message));
        self.groups[usize::from(shard)].step(arrived)
    }

    fn tick(&mut self) {
        for group in &mut self.groups {
            group.tick(self.options.fall_back_ticks);
        }
    }

    fn unreachable(&mut self, node: u16) {
        for group in &mut self.groups {
            group.unreachable(raft_id(node));
        }
    }

    fn poll(&mut self, ready: &mut Ready) {
        let number = self.number + 1;
        let mut used = false;
        for (shard, group) in self.groups.iter_mut().enumerate() {
            used |= group.poll(number, ready);
            let about = group.about(self.options.disk);
            for message in group.outbox() {
                if let Some(bytes) = wire::encode(about, &message) {
                    ready.to_send.push(Message { peer: node_of(message.to), shard: shard as u16, bytes });
                }
            }
        }
        if used {
            self.number = number;
            ready.number = number;
        }
    }

    fn persisted(&mut self, number: u64) {
        for group in &mut self.groups {
            group.persisted(number);
        }
    }

    fn refused(&mut self, number: u64, _refused: &mut Vec<Placed>) -> Refusal {
        for group in &mut self.groups {
            group.refused(number);
        }
        Refusal::Kept
    }

    fn applied(&mut self, shard: u16, index: u64) {
        self.groups[usize::from(shard)].applied(index);
    }

    fn transfer(&mut self, shard: u16, to: u16) -> Result<(), ReplicationError> {
        if !self.options.members.iter().any(|member| member.node == to) {
            return Err(ReplicationError::Unknown);
        }
        let group = self.groups.get_mut(usize::from(shard)).ok_or(ReplicationError::Unknown)?;
        group.transfer(raft_id(to))
    }

    fn stand_aside(&mut self, aside: bool) {
        for group in &mut self.groups {
            group.stand_aside(aside);
        }
    }

    fn compact(&mut self, shard: u16, index: u64) {
        self.groups[usize::from(shard)].compact(index);
    }

    fn last_index(&self, shard: u16) -> u64 {
        self.groups[usize::from(shard)].last_index()
    }

    fn term(&self, shard: u16) -> u64 {
        self.groups[usize::from(shard)].term()
    }

    fn lead(&self, shard: u16) -> Lead {
        self.groups[usize::from(shard)].lead()
    }

    fn status(&self, shard: u16) -> Option<GroupStatus> {
        Some(self.group(shard))
    }
}
