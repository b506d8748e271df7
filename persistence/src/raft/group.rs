//! One shard's group: raft's node, what waits for a flush, and what the core is told of it.
//!
//! Nothing leaves before it may: a leader's entries at once, everything else when what it speaks of is durable. Who
//! leads is told when all of earlier terms was handed out.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;

use engine::{Command, Entry};
use raft::eraftpb::{self, ConfState, HardState, MessageType};
use raft::{Config, ProgressState, RawNode, SnapshotStatus, StateRole};
use tracing::warn;

use super::store::Store;
use super::wire::{self, About, Arrived};
use super::{RaftOptions, ShardLog, node_of, raft_id};
use crate::{Change, Last, Lead, NotProposed, Placed, Ready, ReplicationError, Vote};

/// Stands in the place of a vote while the disk's votes do not count.
pub(super) const NOT_JOINED: u64 = u64::MAX;

/// Ticks between two questions of a node whose disk does not count to those that it has not heard.
const ASK_TICKS: u32 = 5;

/// Bytes of entries that a leader proposes and that are not committed; then it takes no more.
const UNCOMMITTED_MAX: u64 = 64 << 20;

/// What was handed out to be made durable.
struct Flight {
    number: u64,
    /// Raft's number of the same.
    ready: u64,
    /// First and last index of its entries.
    entries: Option<(u64, u64)>,
    /// Messages that speak of it.
    messages: Vec<eraftpb::Message>,
}

/// One group.
pub(super) struct Group {
    shard: u16,
    node: RawNode<Store>,
    /// A lone voter sends nothing, so nothing is encoded for it.
    alone: bool,
    witness: bool,
    /// As a witness, for now; and the others that are.
    aside: bool,
    priority: i64,
    asides: BTreeSet<u64>,
    /// Entries that came in or were proposed and that raft has not handed out yet.
    fresh: BTreeMap<(u64, u64), Arc<Entry>>,
    flights: VecDeque<Flight>,
    /// What the log refused, to be handed out again: from this index, up to this number of raft's.
    again: Option<(Option<u64>, u64, Vec<eraftpb::Message>)>,
    /// The newest hard state that no flush was given.
    unsaved: Option<Vote>,
    saved: Vote,
    /// Messages that may leave.
    outbox: Vec<eraftpb::Message>,
    /// Own proposals that are not handed out as committed.
    mine: VecDeque<u64>,
    /// The term they are of.
    mine_term: u64,
    /// The last entry handed out as committed.
    handed: Last,
    told: (Lead, u64),
    /// The term in which the leader told this node to stand in its place.
    given: Option<u64>,
    /// Whether this disk's votes count.
    joined: bool,
    /// The others whose disks count and that were heard since the start, while this one's does not.
    heard: BTreeSet<u64>,
    /// Ticks that passed while this disk's votes did not count.
    silent: u32,
    /// How far the log was committed when a leader said so last, and in which term.
    tip: Option<(u64, u64)>,
    /// Where a snapshot that a leader offered reaches, and who.
    wanted: Option<(u16, Last)>,
    /// Whether commits wait for both sites, and for how many ticks none came though entries wait.
    both: bool,
    stalled: u32,
    stalled_at: u64,
    preferred: Option<u64>,
    steady: u32,
}

impl Group {
    pub(super) fn new(options: &RaftOptions, shard: u16, log: ShardLog) -> Self {
        let ids: Vec<u64> = options.members.iter().map(|member| raft_id(member.node)).collect();
        let alone = ids.len() == 1;
        let is_new = log.vote.is_none() && log.entries.is_empty() && log.start.index == 0;
        let joined = alone
            || !options.doubtful
                && (!is_new || options.bootstrap)
                && log.vote.is_none_or(|vote| vote.vote != NOT_JOINED);
        let last =
            log.entries.last().map_or(log.start, |placed| Last { index: placed.entry.index, term: placed.term });
        let saved = log.vote.unwrap_or_default();
        // A flush that was torn behind its entries lost the term they came with; nobody was told of that vote.
        let (term, vote) = if last.term > saved.term {
            (last.term, 0)
        } else {
            (saved.term, if saved.vote == NOT_JOINED { 0 } else { saved.vote })
        };
        // A log that ends before its own mark lost something: it counts again when it caught up.
        let joined = joined && (alone || saved.commit <= last.index);
        let commit = saved.commit.max(log.start.index).min(last.index);
        // Raft can't refuse a vote in term 0.
        let term = term.max(1);
        let mut hard = HardState::default();
        (hard.term, hard.vote, hard.commit) = (term, vote, commit);
        let mut members = ConfState::default();
        members.voters.clone_from(&ids);
        let applied = log.applied.max(log.start.index);
        assert!(applied <= commit, "more of shard {shard} was applied than is committed");
        let mut store = Store::new(members, hard, log.start);
        for placed in log.entries {
            let data = if alone || placed.entry.commands.is_empty() {
                Vec::new()
            } else {
                wire::write_commands(&placed.entry.commands)
            };
            let mut entry = eraftpb::Entry::default();
            (entry.index, entry.term, entry.data) = (placed.entry.index, placed.term, data.into());
            store.append(entry, placed.entry);
        }
        let witness = options.members.iter().any(|member| member.node == options.node && member.witness);
        let preferred = options.preferred.get(usize::from(shard)).copied().filter(|node| *node != 0);
        let priority = match preferred {
            _ if witness => 0,
            Some(node) if node == options.node => 2,
            _ => 1,
        };
        let config = Config {
            id: raft_id(options.node),
            election_tick: options.election_ticks,
            heartbeat_tick: options.beat_ticks,
            min_election_tick: options.own_election_ticks,
            max_election_tick: options.own_election_ticks + 1,
            applied,
            max_size_per_msg: 1 << 20,
            max_inflight_msgs: 256,
            check_quorum: true,
            pre_vote: true,
            max_uncommitted_size: UNCOMMITTED_MAX,
            priority,
            ..Config::default()
        };
        let handed = store.term_of(applied).map_or(log.start, |term| Last { index: applied, term });
        store.applied(applied);
        let logger = slog::Logger::root(slog::Discard, slog::o!());
        let mut node = RawNode::new(&config, store, &logger).expect("the options were checked");
        if options.both {
            let site = |member: &super::RaftMember| (raft_id(member.node), u64::from(member.site));
            let groups: Vec<_> = options.members.iter().filter(|member| !member.witness).map(site).collect();
            node.raft.assign_commit_groups(&groups);
            node.raft.enable_group_commit(true);
        }
        if alone {
            node.campaign().expect("a lone voter may stand");
        }
        Self {
            shard,
            node,
            alone,
            witness,
            aside: false,
            priority,
            asides: BTreeSet::new(),
            fresh: BTreeMap::new(),
            flights: VecDeque::new(),
            again: None,
            // A new disk says that it is one with its first flush.
            unsaved: (!joined).then_some(Vote { term, vote: NOT_JOINED, commit }),
            saved,
            outbox: Vec::new(),
            mine: VecDeque::new(),
            mine_term: 0,
            handed,
            told: (Lead::Nobody, 0),
            given: None,
            joined,
            heard: BTreeSet::new(),
            silent: 0,
            tip: None,
            wanted: None,
            both: options.both,
            stalled: 0,
            stalled_at: 0,
            preferred: preferred.map(raft_id),
            steady: 0,
        }
    }

    pub(super) fn term(&self) -> u64 {
        self.node.raft.term
    }

    pub(super) fn last_index(&self) -> u64 {
        self.node.raft.raft_log.last_index()
    }

    pub(super) fn committed(&self) -> u64 {
        self.node.raft.raft_log.committed
    }

    pub(super) fn lead(&self) -> Lead {
        self.told.0
    }

    pub(super) fn joined(&self) -> bool {
        self.joined
    }

    pub(super) fn waits_for_both(&self) -> bool {
        self.node.raft.group_commit()
    }

    pub(super) fn wanted(&self) -> Option<(u16, Last)> {
        self.wanted
    }

    /// How far each other member holds the log, and whether it was heard lately; empty unless this node leads.
    pub(super) fn followers(&self) -> Vec<(u16, u64, bool)> {
        if self.node.raft.state != StateRole::Leader {
            return Vec::new();
        }
        let own = self.node.raft.id;
        let all = self.node.raft.prs().iter().filter(|(id, _)| **id != own);
        all.map(|(id, progress)| (node_of(*id), progress.matched, progress.recent_active)).collect()
    }

    /// What travels with every message.
    pub(super) fn about(&self, disk: u64) -> About {
        let raft = &self.node.raft;
        let settled = raft.state == StateRole::Leader && raft.commit_to_current_term();
        About {
            disk,
            joined: self.joined,
            aside: self.aside,
            tip: if settled { raft.raft_log.committed } else { 0 },
        }
    }

    fn leads(&self) -> bool {
        self.node.raft.state == StateRole::Leader && self.told == (Lead::Me, self.node.raft.term)
    }

    pub(super) fn propose(&mut self, commands: Vec<Command>) -> Result<u64, NotProposed> {
        if !self.leads() {
            return Err(NotProposed { commands });
        }
        let index = self.last_index() + 1;
        let data = if self.alone { Vec::new() } else { wire::write_commands(&commands) };
        if self.node.propose(Vec::new(), data).is_err() {
            // The lead is being given to somebody, or too much waits for its commit.
            return Err(NotProposed { commands });
        }
        self.fresh.insert((index, self.term()), Arc::new(Entry { index, commands }));
        self.mine.push_back(index);
        self.mine_term = self.term();
        Ok(index)
    }

    /// The link to a member broke.
    pub(super) fn unreachable(&mut self, id: u64) {
        self.node.report_unreachable(id);
    }

    /// A member has another disk than before: what a leader knew of the old one is gone with it.
    pub(super) fn forget(&mut self, id: u64) {
        if self.node.raft.state != StateRole::Leader {
            return;
        }
        let next = self.last_index() + 1;
        if let Some(progress) = self.node.raft.mut_prs().get_mut(id) {
            progress.matched = 0;
            progress.become_probe();
            progress.next_idx = next;
        }
    }

    /// Takes a message.
    pub(super) fn step(&mut self, arrived: Arrived) -> Result<(), ReplicationError> {
        let Arrived { about, mut message, entries, snapshot } = arrived;
        let (from, kind) = (message.from, message.get_msg_type());
        let leads = self.node.raft.state == StateRole::Leader;
        let about_votes = matches!(
            kind,
            MessageType::MsgRequestVote
                | MessageType::MsgRequestVoteResponse
                | MessageType::MsgRequestPreVote
                | MessageType::MsgRequestPreVoteResponse
        );
        if about.aside {
            self.asides.insert(from);
        } else {
            self.asides.remove(&from);
        }
        if about_votes && !about.joined {
            return Err(ReplicationError::Stranger);
        }
        if about.joined && !self.joined {
            self.heard.insert(from);
        }
        if !self.joined && (about_votes || kind == MessageType::MsgTimeoutNow) {
            return Ok(());
        }
        if !about.joined && !leads && kind == MessageType::MsgHeartbeatResponse && !self.owes_a_vote() {
            // Followers have nothing to say to each other, and it must hear of more than the leader.
            self.outbox.push(self.sign(from));
        }
        match kind {
            MessageType::MsgHeartbeat if message.commit > self.last_index() => {
                // Somebody counts on entries that this disk once said it had.
                if self.joined {
                    self.doubt();
                }
                message.commit = 0;
            }
            // An old one may speak of what was overwritten or lost since.
            MessageType::MsgAppendResponse
                if leads
                    && !message.reject
                    && message.term == self.term()
                    && message.index > self.last_index() =>
            {
                return Err(ReplicationError::Malformed);
            }
            MessageType::MsgSnapshot => {
                let reaches = snapshot.unwrap_or_default();
                if reaches.index > self.committed() {
                    // Its bytes travel elsewhere and come first.
                    self.wanted = Some((node_of(from), reaches));
                    return Ok(());
                }
                // It came: the leader is told how far this node is.
                self.wanted = None;
                let metadata = message.mut_snapshot().mut_metadata();
                (metadata.index, metadata.term) = (reaches.index, reaches.term);
                *metadata.mut_conf_state() = self.node.store().members().clone();
            }
            MessageType::MsgHeartbeatResponse => self.offer_again(from),
            _ => {}
        }
        if kind == MessageType::MsgTimeoutNow && message.term == self.term() {
            self.given = Some(message.term);
        }
        let (term, tip) = (message.term, about.tip);
        for (term, entry) in entries {
            self.fresh.insert((entry.index, term), entry);
        }
        self.node.step(message).map_err(|_| ReplicationError::Malformed)?;
        if !self.joined && about.joined && tip > 0 && term == self.node.raft.term {
            self.tip = Some((term, tip));
        }
        Ok(())
    }

    /// A member that waits for a snapshot is offered it, or entries, again: it may have got it or lost the offer.
    fn offer_again(&mut self, id: u64) {
        let progress = self.node.raft.prs().get(id);
        if progress.is_some_and(|progress| progress.state == ProgressState::Snapshot) {
            self.node.report_snapshot(id, SnapshotStatus::Failure);
        }
    }

    /// This disk lost what it once had: from now on it neither votes nor stands, until it holds what is committed.
    fn doubt(&mut self) {
        warn!(shard = self.shard, "This disk lost entries that it once had: it does not count until it caught up");
        self.joined = false;
        self.heard.clear();
        self.tip = None;
        self.unsaved = Some(Vote { vote: NOT_JOINED, ..self.vote() });
    }

    fn vote(&self) -> Vote {
        let hard = self.node.raft.hard_state();
        let vote = if self.joined { hard.vote } else { NOT_JOINED };
        Vote { term: hard.term, vote, commit: hard.commit }
    }

    /// Counts again once it holds what the leader of this term said is committed, and enough others were heard that one
    /// of them took part in whatever this disk had voted for.
    fn join(&mut self) {
        let raft = &mut self.node.raft;
        let Some((term, tip)) = self.tip else { return };
        let others = raft.prs().conf().voters().ids().len() - 1;
        let enough = (raft::majority(others + 1)).min(others);
        let log = &raft.raft_log;
        let holds = term == raft.term && raft.leader_id != 0 && log.committed >= tip && log.persisted >= tip;
        if holds && self.heard.len() >= enough {
            // It may have voted in this term before: it has no other vote to give.
            raft.vote = raft.leader_id;
            self.joined = true;
            (self.tip, self.wanted) = (None, None);
            self.heard.clear();
        }
    }

    /// A message that says nothing but this node's term, and what travels with all.
    fn sign(&self, to: u64) -> eraftpb::Message {
        let mut message = eraftpb::Message::default();
        message.set_msg_type(MessageType::MsgHeartbeatResponse);
        (message.from, message.to, message.term) = (self.node.raft.id, to, self.term());
        message
    }

    pub(super) fn tick(&mut self, fall_back_ticks: u32) {
        if !self.joined {
            self.silent += 1;
            if self.silent.is_multiple_of(ASK_TICKS) && !self.owes_a_vote() {
                let own = self.node.raft.id;
                let others = self.node.raft.prs().iter().map(|(id, _)| *id);
                let ask: Vec<u64> = others.filter(|id| *id != own && !self.heard.contains(id)).collect();
                let asked: Vec<_> = ask.into_iter().map(|id| self.sign(id)).collect();
                self.outbox.extend(asked);
            }
            return;
        }
        self.node.tick();
        if self.node.raft.state != StateRole::Leader {
            (self.stalled, self.steady) = (0, 0);
            return;
        }
        self.hand_on();
        if !self.both {
            return;
        }
        let (committed, last) = (self.committed(), self.last_index());
        if self.node.raft.group_commit() {
            let moves = committed != self.stalled_at || committed == last;
            self.stalled = if moves { 0 } else { self.stalled + 1 };
            self.stalled_at = committed;
            if self.stalled >= fall_back_ticks {
                warn!(shard = self.shard, "One site does not answer: commits go on without it");
                self.stalled = 0;
                self.node.raft.enable_group_commit(false);
            }
        } else if self.is_everywhere(committed) {
            self.node.raft.enable_group_commit(true);
        }
    }

    /// Whether each site has a member that holds everything up to `index` and was heard lately.
    fn is_everywhere(&self, index: u64) -> bool {
        let own = self.node.raft.id;
        let mut sites = BTreeMap::new();
        for (id, progress) in self.node.raft.prs().iter().filter(|(_, progress)| progress.commit_group_id > 0) {
            let holds = progress.matched >= index && (*id == own || progress.recent_active);
            *sites.entry(progress.commit_group_id).or_insert(false) |= holds;
        }
        sites.values().all(|holds| *holds)
    }

    /// A witness hands the lead on as soon as it can; another node to who is preferred, when that one has caught up for
    /// a while.
    fn hand_on(&mut self) {
        let raft = &self.node.raft;
        let (own, last) = (raft.id, raft.raft_log.last_index());
        if raft.lead_transferee.is_some() {
            return;
        }
        let able = |id: u64| id != own && !self.asides.contains(&id);
        let caught_up = |id: u64| able(id) && raft.prs().get(id).is_some_and(|progress| progress.matched == last);
        let to = match self.preferred.filter(|id| caught_up(*id)) {
            Some(id) => Some(id),
            None if self.witness || self.aside => raft.prs().iter().map(|(id, _)| *id).find(|id| caught_up(*id)),
            None => None,
        };
        let Some(to) = to else {
            self.steady = 0;
            return;
        };
        self.steady += 1;
        let patience = if self.witness || self.aside { 1 } else { 2 * raft.election_timeout() as u32 };
        // Raft forgets once an election time-out who was active, and asks anew.
        let active = raft.prs().get(to).is_some_and(|progress| progress.recent_active);
        if active && self.steady >= patience {
            self.steady = 0;
            self.node.transfer_leader(to);
        }
    }

    pub(super) fn stand_aside(&mut self, aside: bool) {
        self.aside = aside;
        // Else it would refuse its vote to those who are less preferred.
        self.node.set_priority(if aside { 0 } else { self.priority });
    }

    pub(super) fn transfer(&mut self, to: u64) -> Result<(), ReplicationError> {
        if self.node.raft.state != StateRole::Leader {
            return Err(ReplicationError::NotLeader);
        }
        self.node.transfer_leader(to);
        Ok(())
    }

    /// What is to be done. Answers whether something is to be made durable under `number`.
    pub(super) fn poll(&mut self, number: u64, ready: &mut Ready) -> bool {
        // Not who is standing aside: it still leads, and learns what becomes of them.
        if self.node.raft.state != StateRole::Leader || self.term() != self.mine_term {
            ready.lost.extend(self.mine.drain(..).map(|index| (self.shard, index)));
        }
        self.join();
        let (mut from, mut must, mut last_ready, mut messages) = (None, false, 0, Vec::new());
        if let Some((first, number, waiting)) = self.again.take() {
            (last_ready, must, messages) = (number, true, waiting);
            from = first;
            for index in first.into_iter().flat_map(|first| first..=self.node.store().last().index) {
                let (term, entry) = self.node.store().get(index).expect("what is not durable is kept");
                ready.to_persist.push(Placed { shard: self.shard, term, entry: Arc::clone(entry) });
            }
            self.unsaved = Some(self.vote());
        }
        while self.node.has_ready() {
            let mut rd = self.node.ready();
            last_ready = rd.number();
            self.outbox.append(&mut rd.take_messages());
            messages.append(&mut rd.take_persisted_messages());
            must |= rd.must_sync();
            for raft in rd.take_entries() {
                let (index, term) = (raft.index, raft.term);
                let entry = match self.fresh.remove(&(index, term)) {
                    Some(entry) => entry,
                    // What a new leader begins its term with.
                    None if raft.data.is_empty() => Arc::new(Entry { index, commands: Vec::new() }),
                    None => unreachable!("entries with commands were proposed or came in since the last poll"),
                };
                from = Some(from.map_or(index, |from| index.min(from)));
                ready.to_persist.push(Placed { shard: self.shard, term, entry: Arc::clone(&entry) });
                self.node.mut_store().append(raft, entry);
            }
            for raft in rd.take_committed_entries() {
                let (term, entry) = self.node.store().get(raft.index).expect("what was committed is kept");
                self.handed = Last { index: raft.index, term };
                ready.committed.push(Placed { shard: self.shard, term, entry: Arc::clone(entry) });
            }
            if rd.hs().is_some() {
                self.unsaved = Some(self.vote());
            }
            self.node.advance_append_async(rd);
            if !must && !self.owes_a_vote() && self.flights.is_empty() {
                // Nothing of it has to be durable.
                self.node.on_persist_ready(last_ready);
                self.outbox.append(&mut messages);
            }
        }
        self.fresh.clear();
        while self.mine.front().is_some_and(|index| *index <= self.handed.index) {
            self.mine.pop_front();
        }
        self.tell(ready);
        must |= self.owes_a_vote();
        if must {
            if let Some(vote) = self.unsaved.take() {
                self.saved = vote;
                ready.votes.push((self.shard, vote));
            }
            let entries = from.map(|from| (from, self.node.store().last().index));
            self.flights.push_back(Flight { number, ready: last_ready, entries, messages });
        } else if let Some(flight) = self.flights.back_mut() {
            flight.ready = flight.ready.max(last_ready);
            flight.messages.append(&mut messages);
        } else {
            self.outbox.append(&mut messages);
        }
        must
    }

    /// Whether term or vote changed since the last flush; a commit mark alone goes along with the next one.
    fn owes_a_vote(&self) -> bool {
        self.unsaved.is_some_and(|vote| (vote.term, vote.vote) != (self.saved.term, self.saved.vote))
    }

    fn tell(&mut self, ready: &mut Ready) {
        let raft = &self.node.raft;
        let lead = match raft.state {
            StateRole::Leader if self.handed.term == raft.term && !self.witness && !self.aside => Lead::Me,
            _ if raft.leader_id == 0 || raft.leader_id == raft.id => Lead::Nobody,
            _ => Lead::Other(node_of(raft.leader_id)),
        };
        if self.told != (lead, raft.term) {
            self.told = (lead, raft.term);
            let planned = lead == Lead::Me && self.given.is_some_and(|term| term + 1 == raft.term);
            ready.changes.push(Change { shard: self.shard, lead, term: raft.term, planned });
        }
    }

    /// Messages that may leave now.
    pub(super) fn outbox(&mut self) -> std::vec::Drain<'_, eraftpb::Message> {
        self.outbox.drain(..)
    }

    pub(super) fn persisted(&mut self, number: u64) {
        while self.flights.front().is_some_and(|flight| flight.number <= number) {
            let Some(mut flight) = self.flights.pop_front() else { break };
            if flight.ready > 0 {
                self.node.on_persist_ready(flight.ready);
            }
            self.outbox.append(&mut flight.messages);
        }
    }

    pub(super) fn refused(&mut self, number: u64) {
        while self.flights.back().is_some_and(|flight| flight.number >= number) {
            let Some(flight) = self.flights.pop_back() else { break };
            let first = flight.entries.map(|(first, _)| first);
            let (known, ready, mut waiting) = self.again.take().unwrap_or((None, flight.ready, Vec::new()));
            let first = match (first, known) {
                (Some(a), Some(b)) => Some(a.min(b)),
                (a, b) => a.or(b),
            };
            let mut messages = flight.messages;
            messages.append(&mut waiting);
            self.again = Some((first, ready.max(flight.ready), messages));
        }
    }

    pub(super) fn applied(&mut self, index: u64) {
        let log = &self.node.raft.raft_log;
        let index = index.min(log.committed).min(log.persisted);
        if index > log.applied() {
            self.node.advance_apply_to(index);
            self.node.mut_store().applied(index);
        }
    }

    pub(super) fn compact(&mut self, index: u64) {
        let log = &self.node.raft.raft_log;
        let index = index.min(log.applied()).min(log.persisted);
        self.node.mut_store().compact(index);
    }
}
