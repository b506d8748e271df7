//! Several nodes' replication in one thread: seeded network, disks that lose what was not flushed, clocks that tick
//! apart. After every step: one leader a term, what was committed never changes, nobody leads without all of it.

mod common;

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use common::bid;
use persistence::raft::{Raft, RaftMember, RaftOptions, ShardLog};
use persistence::{Change, Last, Lead, Message, Placed, Ready, Refusal, ReplicationError, Replicator, Vote};

const SHARDS: u16 = 2;

/// SplitMix64.
struct Dice(u64);

impl Dice {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ (z >> 31)
    }

    fn below(&mut self, n: u64) -> u64 {
        self.next() % n
    }

    fn one_in(&mut self, n: u64) -> bool {
        self.below(n) == 0
    }
}

/// What a flush makes durable, in order.
enum Written {
    Entry(Placed),
    Vote(u16, Vote),
}

/// A node's disk: what is durable by shard, and flushes under way.
struct Device {
    id: u64,
    logs: Vec<ShardLog>,
    flushes: VecDeque<(u64, Vec<Written>)>,
    full: bool,
}

impl Device {
    fn new(id: u64) -> Self {
        Self { id, logs: vec![ShardLog::default(); usize::from(SHARDS)], flushes: VecDeque::new(), full: false }
    }

    fn write(&mut self, written: Written) {
        match written {
            Written::Vote(shard, vote) => {
                let known = &mut self.logs[usize::from(shard)].vote;
                let before = known.unwrap_or_default();
                assert!(vote.term >= before.term && vote.commit >= before.commit, "votes and marks never go back");
                *known = Some(vote);
            }
            Written::Entry(placed) => {
                let log = &mut self.logs[usize::from(placed.shard)];
                let (start, mark) = (log.start.index, log.vote.map_or(0, |vote| vote.commit));
                assert!(placed.entry.index > start.max(mark), "nothing is written below a commit mark");
                let place = (placed.entry.index - start - 1) as usize;
                assert!(place <= log.entries.len(), "a log has no holes");
                assert!(
                    log.entries.get(place).is_none_or(|known| known.term != placed.term),
                    "nothing is repeated"
                );
                log.entries.truncate(place);
                log.entries.push(placed);
            }
        }
    }

    fn flush(&mut self) -> Option<u64> {
        let (number, records) = self.flushes.pop_front()?;
        for record in records {
            self.write(record);
        }
        Some(number)
    }

    /// The power goes: of the flushes under way a beginning is there.
    fn crash(&mut self, dice: &mut Dice) {
        let records: Vec<_> = self.flushes.drain(..).flat_map(|(_, records)| records).collect();
        let kept = dice.below(records.len() as u64 + 1) as usize;
        for record in records.into_iter().take(kept) {
            self.write(record);
        }
    }
}

struct Member {
    raft: Option<Raft>,
    device: Device,
    /// The last entry applied, by shard.
    applied: Vec<Last>,
    /// Own proposals that wait, by shard: index and number of the command.
    waiting: Vec<VecDeque<(u64, u64)>>,
    leads: Vec<bool>,
    terms: Vec<u64>,
}

#[derive(Clone, Default)]
struct Weather {
    /// One message in so many is lost, 0: none; likewise repeated and late.
    lost: u64,
    repeated: u64,
    late: u64,
}

struct Cluster {
    dice: Dice,
    options: Vec<RaftOptions>,
    members: Vec<Member>,
    net: Vec<(u64, u16, u16, Message)>,
    /// Directions in which nothing passes.
    cut: BTreeSet<(u16, u16)>,
    weather: Weather,
    now: u64,
    number: u64,
    /// By shard and index: term and command of what was committed; 0 for none.
    history: Vec<BTreeMap<u64, (u64, u64)>>,
    /// Leader of each shard and term.
    leaders: BTreeMap<(u16, u64), u16>,
    /// Of these, terms that began because the leader before gave the lead away.
    planned: BTreeSet<(u16, u64)>,
    /// Commands whose sender was answered, and those whose sender was told that the outcome is not known.
    acked: BTreeSet<(u16, u64)>,
    unknown: BTreeSet<(u16, u64)>,
}

/// The number of the only command of an entry.
fn command_of(placed: &Placed) -> u64 {
    placed.entry.commands.first().map_or(0, |command| command.envelope.request.0 as u64)
}

impl Cluster {
    /// Nodes 1 to `count`; sites alternate, the last one is a witness if asked.
    fn new(seed: u64, count: u16, witness: bool, both: bool) -> Self {
        let mut dice = Dice(seed);
        let member = |node| RaftMember { node, site: 1 + (node - 1) % 2, witness: witness && node == count };
        let members: Vec<_> = (1..=count).map(member).collect();
        // A different time for every node, drawn from the seed.
        let first = 10 + dice.below(4);
        let options: Vec<_> = (1..=count)
            .map(|node| RaftOptions {
                node,
                disk: 100 + u64::from(node),
                members: members.clone(),
                bootstrap: true,
                doubtful: false,
                both,
                fall_back_ticks: 30,
                beat_ticks: 2,
                election_ticks: 10,
                own_election_ticks: (first + 3 * u64::from(node)) as usize,
                preferred: vec![1, 2],
            })
            .collect();
        let member = |options: &RaftOptions| Member {
            raft: None,
            device: Device::new(options.disk),
            applied: Vec::new(),
            waiting: Vec::new(),
            leads: Vec::new(),
            terms: vec![0; usize::from(SHARDS)],
        };
        let mut cluster = Self {
            members: options.iter().map(member).collect(),
            dice,
            options,
            net: Vec::new(),
            cut: BTreeSet::new(),
            weather: Weather::default(),
            now: 0,
            number: 0,
            history: vec![BTreeMap::new(); usize::from(SHARDS)],
            leaders: BTreeMap::new(),
            planned: BTreeSet::new(),
            acked: BTreeSet::new(),
            unknown: BTreeSet::new(),
        };
        for node in 1..=count {
            cluster.start(node);
        }
        cluster
    }

    fn member(&mut self, node: u16) -> &mut Member {
        &mut self.members[usize::from(node) - 1]
    }

    fn raft(&self, node: u16) -> &Raft {
        self.members[usize::from(node) - 1].raft.as_ref().expect("it runs")
    }

    fn nodes(&self) -> impl Iterator<Item = u16> + use<> {
        1..=self.members.len() as u16
    }

    fn start(&mut self, node: u16) {
        let mut options = self.options[usize::from(node) - 1].clone();
        // A caller may apply by itself what the log says is committed, and be handed out the rest.
        let by_itself = self.dice.one_in(2);
        let member = &mut self.members[usize::from(node) - 1];
        options.disk = member.device.id;
        let mut logs = member.device.logs.clone();
        member.applied = logs.iter().map(|log| log.start).collect();
        for (shard, log) in logs.iter_mut().enumerate().filter(|_| by_itself) {
            log.applied = log.committed();
            for placed in log.entries.iter().take_while(|placed| placed.entry.index <= log.applied) {
                let (index, what) = (placed.entry.index, (placed.term, command_of(placed)));
                assert_eq!(self.history[shard].get(&index), Some(&what), "what the mark covers was committed");
                member.applied[shard] = Last { index, term: placed.term };
            }
        }
        // What was told and not durable may be forgotten; nobody acted on it.
        member.terms = logs.iter().map(|log| log.vote.map_or(0, |vote| vote.term)).collect();
        member.waiting = vec![VecDeque::new(); usize::from(SHARDS)];
        member.leads = vec![false; usize::from(SHARDS)];
        member.raft = Some(Raft::new(options, logs));
    }

    fn crash(&mut self, node: u16) {
        let mut dice = Dice(self.dice.next());
        let member = self.member(node);
        if member.raft.take().is_some() {
            member.device.crash(&mut dice);
            let waiting: Vec<_> = member.waiting.iter_mut().map(std::mem::take).collect();
            for (shard, waiting) in waiting.into_iter().enumerate() {
                self.unknown.extend(waiting.into_iter().map(|(_, number)| (shard as u16, number)));
            }
        }
    }

    /// The node comes back with an empty disk of its own.
    fn wipe(&mut self, node: u16) {
        self.crash(node);
        let id = 1_000 + self.dice.below(1 << 40);
        self.options[usize::from(node) - 1].bootstrap = false;
        let member = self.member(node);
        member.device = Device::new(id);
        member.terms = vec![0; usize::from(SHARDS)];
        self.start(node);
    }

    fn propose(&mut self, node: u16, shard: u16) -> bool {
        let number = self.number + 1;
        let member = &mut self.members[usize::from(node) - 1];
        let Some(raft) = &mut member.raft else { return false };
        match raft.propose(shard, vec![bid(number, 0)]) {
            Ok(index) => {
                self.number = number;
                member.waiting[usize::from(shard)].push_back((index, number));
                true
            }
            Err(_) => false,
        }
    }

    /// Polls a node, as its core would.
    fn poll(&mut self, node: u16) {
        let member = &mut self.members[usize::from(node) - 1];
        let Some(raft) = &mut member.raft else { return };
        let mut ready = Ready::default();
        raft.poll(&mut ready);
        let Ready { number, to_persist, votes, to_send, lost, committed, changes } = ready;
        assert_eq!(number == 0, to_persist.is_empty() && votes.is_empty(), "a number for what is to be durable");
        if number > 0 {
            let entries = to_persist.into_iter().map(Written::Entry);
            let votes = votes.into_iter().map(|(shard, vote)| Written::Vote(shard, vote));
            member.device.flushes.push_back((number, entries.chain(votes).collect()));
        }
        for (shard, index) in lost {
            let (first, number) = member.waiting[usize::from(shard)].pop_front().expect("a proposal waits");
            assert_eq!(first, index, "lost in order of index");
            self.unknown.insert((shard, number));
        }
        for placed in committed {
            let shard = usize::from(placed.shard);
            let (index, what) = (placed.entry.index, (placed.term, command_of(&placed)));
            assert_eq!(index, member.applied[shard].index + 1, "applied in order, without holes");
            member.applied[shard] = Last { index, term: placed.term };
            let known = *self.history[shard].entry(index).or_insert(what);
            assert_eq!(known, what, "shard {shard}, index {index}: what was committed never changes");
            if member.waiting[shard].front().is_some_and(|(first, _)| *first == index) {
                let (_, number) = member.waiting[shard].pop_front().expect("looked at");
                assert_eq!(number, what.1, "an answer is for its own proposal");
                self.acked.insert((placed.shard, number));
            }
            raft.applied(placed.shard, index);
        }
        for Change { shard, lead, term, planned } in changes {
            let place = usize::from(shard);
            assert!(term >= member.terms[place], "terms never go back");
            member.terms[place] = term;
            member.leads[place] = lead == Lead::Me;
            if lead == Lead::Me {
                let first = *self.leaders.entry((shard, term)).or_insert(node);
                assert_eq!(first, node, "one leader a term");
                if planned {
                    self.planned.insert((shard, term));
                }
                // What earlier terms committed is applied here before anything is proposed.
                let reached = self.history[place].iter().rev().find(|(_, (known, _))| *known < term);
                assert!(
                    reached.is_none_or(|(index, _)| *index <= member.applied[place].index),
                    "a leader has it all"
                );
                assert!(member.waiting[place].is_empty());
            }
        }
        for message in to_send {
            self.send(node, message);
        }
    }

    fn send(&mut self, from: u16, message: Message) {
        let to = message.peer;
        let Weather { lost, repeated, late } = self.weather;
        if lost > 0 && self.dice.one_in(lost) {
            return;
        }
        let copies = 1 + u64::from(repeated > 0 && self.dice.one_in(repeated));
        for _ in 0..copies {
            let delay = if late > 0 && self.dice.one_in(late) { self.dice.below(300) } else { 1 };
            let arrives = Message { peer: from, ..message.clone() };
            self.net.push((self.now + delay, from, to, arrives));
        }
    }

    /// One unit of time: what is due arrives, some disks finish, some clocks tick.
    fn step(&mut self) {
        self.now += 1;
        let now = self.now;
        let due: Vec<_> = self.net.extract_if(.., |(at, ..)| *at <= now).collect();
        for (_, from, to, message) in due {
            if !self.cut.contains(&(from, to))
                && let Some(raft) = &mut self.members[usize::from(to) - 1].raft
            {
                match raft.step(message) {
                    Ok(()) | Err(ReplicationError::Stranger) => {}
                    Err(error) => panic!("a member's message is understood: {error}"),
                }
                if self.dice.one_in(2) {
                    self.poll(to);
                }
            }
        }
        for node in self.nodes() {
            if self.dice.one_in(2) {
                let member = self.member(node);
                if let Some(raft) = &mut member.raft {
                    if member.device.full {
                        if let Some(number) = member.device.flushes.front().map(|(number, _)| *number) {
                            member.device.flushes.clear();
                            assert_eq!(raft.refused(number, &mut Vec::new()), Refusal::Kept);
                        }
                    } else if let Some(number) = member.device.flush() {
                        raft.persisted(number);
                    }
                }
            }
            // All clocks tick at nearly one rate.
            if now % 4 == u64::from(node) % 4
                && let Some(raft) = &mut self.member(node).raft
            {
                raft.tick();
            }
            if !self.members[usize::from(node) - 1].device.full {
                self.poll(node);
            }
        }
        self.install_snapshots();
    }

    /// Where a leader offered a snapshot: its state and place come, and the node starts again behind it.
    fn install_snapshots(&mut self) {
        for node in self.nodes() {
            for shard in 0..SHARDS {
                let Some(raft) = &self.members[usize::from(node) - 1].raft else { continue };
                let Some((_, reaches)) = raft.group(shard).wanted else { continue };
                self.crash(node);
                let log = &mut self.member(node).device.logs[usize::from(shard)];
                let place = reaches.index.checked_sub(log.start.index + 1).map(|place| place as usize);
                if let Some(place) = place {
                    // What follows the same entry is sound, and may have been counted on; anything else goes.
                    match log.entries.get(place).is_some_and(|placed| placed.term == reaches.term) {
                        true => drop(log.entries.drain(..=place)),
                        false => log.entries.clear(),
                    }
                    log.start = reaches;
                }
                self.start(node);
            }
        }
    }

    fn run(&mut self, steps: u64) {
        for _ in 0..steps {
            self.step();
        }
    }

    fn leader(&self, shard: u16) -> Option<u16> {
        self.nodes().find(|node| {
            let member = &self.members[usize::from(*node) - 1];
            member.raft.as_ref().is_some_and(|raft| raft.lead(shard) == Lead::Me)
        })
    }

    /// Runs until `done`, at most `steps`.
    fn until(&mut self, what: &str, steps: u64, done: impl Fn(&Self) -> bool) {
        for _ in 0..steps {
            if done(self) {
                return;
            }
            self.step();
        }
        let states: Vec<_> = self
            .nodes()
            .filter_map(|node| self.members[usize::from(node) - 1].raft.as_ref())
            .map(|raft| (raft.group(0), raft.group(1)))
            .collect();
        panic!("not in {steps} steps: {what}; {states:#?}");
    }

    fn heal(&mut self) {
        (self.cut, self.weather) = (BTreeSet::new(), Weather::default());
        for node in self.nodes() {
            self.member(node).device.full = false;
            if self.member(node).raft.is_none() {
                self.start(node);
            }
        }
    }

    fn isolate(&mut self, node: u16) {
        for other in self.nodes().filter(|other| *other != node) {
            self.cut.extend([(node, other), (other, node)]);
        }
    }

    /// A fresh proposal is answered in each shard, and every node that runs has applied the same.
    fn converge(&mut self) {
        for shard in 0..SHARDS {
            let mut proposed = None;
            for _ in 0..6_000 {
                // A leader that is about to hand on may still lose one.
                let settled = proposed.is_some_and(|number| self.acked.contains(&(shard, number)));
                if settled {
                    break;
                }
                if proposed.is_none_or(|number| self.unknown.contains(&(shard, number)))
                    && let Some(leader) = self.leader(shard)
                    && self.propose(leader, shard)
                {
                    proposed = Some(self.number);
                }
                self.step();
            }
            assert!(
                proposed.is_some_and(|number| self.acked.contains(&(shard, number))),
                "a fresh proposal is answered"
            );
        }
        self.until("everybody has applied all of it", 6_000, |cluster| {
            let tips: Vec<u64> =
                cluster.history.iter().map(|log| log.keys().last().copied().unwrap_or(0)).collect();
            cluster
                .members
                .iter()
                .filter(|member| member.raft.is_some())
                .all(|member| member.applied.iter().map(|last| last.index).eq(tips.iter().copied()))
        });
    }

    /// At the end: what was answered is there once; nothing is there that nobody proposed.
    fn check(&self) {
        for (shard, log) in self.history.iter().enumerate() {
            let mut seen = BTreeSet::new();
            for (_, command) in log.values().filter(|(_, command)| *command != 0) {
                assert!(seen.insert(*command), "a command stands once in the log");
            }
            let answered = self.acked.iter().filter(|(of, _)| usize::from(*of) == shard);
            for (_, number) in answered {
                assert!(seen.contains(number), "shard {shard}: what was answered is there");
            }
        }
        assert!(self.acked.is_disjoint(&self.unknown), "an answer, or none, never both");
    }
}

/// A seed's story: faults for a while, then calm.
fn story(seed: u64, count: u16) {
    let mut cluster = Cluster::new(seed, count, count == 3 && seed.is_multiple_of(2), seed.is_multiple_of(5));
    cluster.weather = match seed % 4 {
        0 => Weather::default(),
        1 => Weather { lost: 8, repeated: 10, late: 6 },
        2 => Weather { lost: 0, repeated: 3, late: 3 },
        _ => Weather { lost: 4, repeated: 0, late: 10 },
    };
    for _ in 0..40 {
        let node = 1 + cluster.dice.below(u64::from(count)) as u16;
        let other = 1 + cluster.dice.below(u64::from(count)) as u16;
        match cluster.dice.below(12) {
            0 => cluster.crash(node),
            1 | 2 if cluster.member(node).raft.is_none() => cluster.start(node),
            3 => drop(cluster.cut.insert((node, other))),
            4 => cluster.isolate(node),
            5 | 6 => cluster.cut.clear(),
            7 => {
                let full = &mut cluster.member(node).device.full;
                *full = !*full;
            }
            8 => {
                if let Some(raft) = &mut cluster.member(node).raft {
                    raft.transfer(0, other).ok();
                }
            }
            9 => {
                // A kept snapshot covers what is applied.
                let applied = cluster.member(node).applied.clone();
                let member = cluster.member(node);
                if let Some(raft) = &mut member.raft {
                    for (shard, applied) in applied.into_iter().enumerate() {
                        raft.compact(shard as u16, applied.index);
                        let log = &mut member.device.logs[shard];
                        let covered =
                            (applied.index.saturating_sub(log.start.index) as usize).min(log.entries.len());
                        if covered > 0 && raft.group(shard as u16).committed >= applied.index {
                            log.entries.drain(..covered);
                            log.start = applied;
                        }
                    }
                }
            }
            _ => {}
        }
        for _ in 0..8 {
            for node in 1..=count {
                let shard = cluster.dice.below(u64::from(SHARDS)) as u16;
                if cluster.dice.one_in(3) {
                    cluster.propose(node, shard);
                }
            }
            cluster.step();
        }
    }
    cluster.heal();
    cluster.converge();
    cluster.check();
    assert!(!cluster.acked.is_empty());
}

#[test]
fn three_nodes_keep_their_promises_under_every_seed() {
    for seed in 0..3_000 {
        std::panic::catch_unwind(|| story(seed, 3)).unwrap_or_else(|_| panic!("seed {seed}"));
    }
}

#[test]
fn five_nodes_keep_their_promises_under_every_seed() {
    for seed in 0..700 {
        std::panic::catch_unwind(|| story(seed, 5)).unwrap_or_else(|_| panic!("seed {seed}"));
    }
}

#[test]
fn a_seed_gives_the_same_run_twice() {
    let run = |seed| {
        let mut cluster = Cluster::new(seed, 3, false, false);
        cluster.weather = Weather { lost: 6, repeated: 6, late: 6 };
        for round in 0..600 {
            if let Some(leader) = cluster.leader((round % 2) as u16) {
                cluster.propose(leader, (round % 2) as u16);
            }
            cluster.step();
        }
        (cluster.history, cluster.leaders, cluster.acked, cluster.unknown)
    };
    assert_eq!(run(7), run(7));
    assert_ne!(run(7).0, run(8).0);
}

/// `security-reliability`, the scenario to design by: A and B in sync, B is cut off, A and the witness commit, A dies,
/// B returns and sees the witness alone.
#[test]
fn a_and_the_witness_commit_alone_then_a_dies_and_stale_b_returns() {
    const A: u16 = 1;
    const B: u16 = 2;
    const W: u16 = 3;
    for seed in 0..50 {
        let mut cluster = Cluster::new(seed, 3, true, false);
        cluster.until("A leads", 2_000, |cluster| cluster.leader(0) == Some(A));
        assert!(cluster.propose(A, 0));
        cluster.run(60);
        let in_sync = cluster.acked.len();
        cluster.isolate(B);
        cluster.run(100);
        for _ in 0..20 {
            cluster.propose(A, 0);
            cluster.run(5);
        }
        cluster.run(60);
        let answered = cluster.acked.len();
        assert!(answered >= in_sync + 20, "A and the witness commit alone");
        cluster.crash(A);
        let reached = cluster.history[0].keys().last().copied().unwrap_or(0);
        cluster.cut.clear();
        cluster.cut.extend([(A, B), (A, W), (B, A), (W, A)]);
        cluster.until("B leads", 4_000, |cluster| cluster.leader(0) == Some(B));
        assert!(
            cluster.member(B).applied[0].index >= reached,
            "B holds all that the witness holds before it serves"
        );
        assert!(cluster.propose(B, 0));
        cluster.run(80);
        assert_eq!(cluster.acked.len(), answered + 1, "bidding goes on");
        assert_eq!(cluster.leader(0), Some(B), "the witness never leads");
        cluster.heal();
        cluster.converge();
        cluster.check();
    }
}

#[test]
fn a_deposed_leader_answers_nothing_and_loses_no_proposal_silently() {
    let mut cluster = Cluster::new(3, 3, false, false);
    cluster.until("somebody leads", 2_000, |cluster| cluster.leader(0) == Some(1));
    cluster.isolate(1);
    let before = cluster.acked.len();
    assert!(cluster.propose(1, 0) && cluster.propose(1, 0));
    let lost = [(0, cluster.number - 1), (0, cluster.number)];
    cluster.until("another leads", 3_000, |cluster| {
        cluster.nodes().skip(1).any(|node| cluster.raft(node).lead(0) == Lead::Me)
    });
    cluster.run(200);
    assert_eq!(cluster.acked.len(), before);
    assert!(lost.iter().all(|proposal| cluster.unknown.contains(proposal)), "their senders are told");
    assert!(!cluster.propose(1, 0));
    cluster.heal();
    cluster.converge();
    cluster.check();
}

#[test]
fn a_wiped_disk_neither_votes_nor_stands_until_it_holds_what_is_committed() {
    for seed in 0..20 {
        let mut cluster = Cluster::new(seed, 3, false, false);
        cluster.until("1 leads", 2_000, |cluster| cluster.leader(0) == Some(1));
        cluster.isolate(2);
        for _ in 0..10 {
            cluster.propose(1, 0);
            cluster.run(10);
        }
        // 1 and 3 alone hold it. 3 loses its disk and comes back beside 2, which is stale: these two are a majority.
        cluster.wipe(3);
        cluster.cut.clear();
        cluster.isolate(1);
        let terms = cluster.leaders.clone();
        cluster.run(2_000);
        assert_eq!(cluster.leaders, terms, "nobody leads on the vote of a disk that lost what it promised");
        assert!(!cluster.raft(3).group(0).joined);
        cluster.heal();
        cluster.converge();
        cluster.until("it counts again", 2_000, |cluster| cluster.raft(3).group(0).joined);
        cluster.check();
        // And does count.
        cluster.isolate(1);
        cluster.until("2 and 3 go on", 3_000, |cluster| {
            [2, 3].iter().any(|node| cluster.raft(*node).lead(0) == Lead::Me)
        });
    }
}

#[test]
fn a_wiped_disk_counts_again_under_a_leader_that_stays() {
    for seed in 0..20 {
        let mut cluster = Cluster::new(seed, 3, false, false);
        cluster.until("all where preferred", 4_000, |cluster| {
            cluster.leader(0) == Some(1) && cluster.leader(1) == Some(2)
        });
        for _ in 0..10 {
            cluster.propose(1, 0);
            cluster.run(10);
        }
        cluster.wipe(3);
        let leaders = cluster.leaders.clone();
        cluster.until("it counts again", 1_000, |cluster| {
            (0..SHARDS).all(|shard| cluster.raft(3).group(shard).joined)
        });
        assert_eq!(cluster.leaders, leaders, "nobody had to be elected for it");
        cluster.converge();
        cluster.check();
    }
}

#[test]
fn a_copy_of_a_disk_has_no_vote_until_it_has_caught_up() {
    let mut cluster = Cluster::new(4, 3, false, false);
    cluster.until("1 leads", 2_000, |cluster| cluster.leader(0) == Some(1));
    assert!(cluster.propose(1, 0));
    cluster.run(60);
    cluster.crash(3);
    cluster.crash(1);
    cluster.options[2].doubtful = true;
    cluster.start(3);
    cluster.run(2_000);
    assert_eq!(cluster.leader(0), None, "2 gets no vote of a disk whose past is not known");
    cluster.options[2].doubtful = false;
    cluster.crash(3);
    cluster.start(3);
    cluster.run(2_000);
    assert_eq!(cluster.leader(0), None, "which another start does not change");
    cluster.start(1);
    cluster.until("it counts again", 2_000, |cluster| cluster.raft(3).group(0).joined);
    cluster.converge();
    cluster.check();
}

#[test]
fn with_durability_both_a_commit_waits_for_the_other_site_and_falls_back() {
    let mut cluster = Cluster::new(11, 3, true, true);
    cluster.until("1 leads", 2_000, |cluster| cluster.leader(0) == Some(1));
    assert!(cluster.raft(1).group(0).both);
    cluster.isolate(2);
    let before = cluster.acked.len();
    assert!(cluster.propose(1, 0));
    cluster.run(60);
    assert_eq!(cluster.acked.len(), before, "a majority is not enough");
    cluster.run(120);
    assert_eq!(cluster.acked.len(), before + 1, "after the time-out it is");
    assert!(!cluster.raft(1).group(0).both);
    cluster.heal();
    cluster.converge();
    cluster.until("it waits for both again", 2_000, |cluster| {
        cluster.leader(0).is_some_and(|leader| cluster.raft(leader).group(0).both)
    });
}

#[test]
fn the_lead_goes_where_it_is_preferred_and_where_it_is_sent() {
    let mut cluster = Cluster::new(5, 3, false, false);
    cluster.until("both where preferred", 4_000, |cluster| {
        cluster.leader(0) == Some(1) && cluster.leader(1) == Some(2)
    });
    cluster.member(1).raft.as_mut().expect("it runs").transfer(0, 3).expect("it leads");
    cluster.until("3 leads", 200, |cluster| cluster.raft(3).lead(0) == Lead::Me);
    let term = cluster.raft(3).term(0);
    assert!(cluster.planned.contains(&(0, term)), "the new leader knows that it was given the lead");
    cluster.until("1 gets it back", 2_000, |cluster| cluster.leader(0) == Some(1));
    cluster.crash(1);
    cluster.until("somebody leads", 2_000, |cluster| cluster.leader(0).is_some());
    let leader = cluster.leader(0).expect("looked at");
    let term = cluster.raft(leader).term(0);
    assert!(!cluster.planned.contains(&(0, term)), "nobody gave it away");
}

#[test]
fn who_stands_aside_gives_the_lead_away_and_never_keeps_it() {
    for seed in 0..20 {
        let mut cluster = Cluster::new(seed, 3, false, false);
        cluster.until("1 leads", 2_000, |cluster| cluster.leader(0) == Some(1));
        assert!(cluster.propose(1, 0) && cluster.propose(1, 0));
        let number = cluster.number;
        cluster.member(1).raft.as_mut().expect("it runs").stand_aside(true);
        cluster.until("another leads", 400, |cluster| cluster.leader(0).is_some_and(|leader| leader != 1));
        let told = |cluster: &Cluster, number| {
            cluster.acked.contains(&(0, number)) || cluster.unknown.contains(&(0, number))
        };
        cluster.until("both are told", 400, |cluster| told(cluster, number) && told(cluster, number - 1));
        // Even where nobody else can be elected it proposes nothing, and with others it hands on.
        let leader = cluster.leader(0).expect("looked at");
        cluster.crash(leader);
        for _ in 0..3_000 {
            cluster.step();
            assert_ne!(cluster.leader(0), Some(1), "it stands aside");
        }
        assert!(cluster.leader(0).is_some(), "the third leads");
        cluster.start(leader);
        cluster.member(1).raft.as_mut().expect("it runs").stand_aside(false);
        cluster.until("it may lead again", 4_000, |cluster| cluster.leader(0) == Some(1));
        cluster.converge();
        cluster.check();
    }
}

#[test]
fn a_full_disk_keeps_what_others_may_have_committed() {
    let mut cluster = Cluster::new(9, 3, false, false);
    cluster.until("1 leads", 2_000, |cluster| cluster.leader(0) == Some(1));
    cluster.member(1).device.full = true;
    // The core polls for what it proposed and sends it; the log refuses it.
    assert!(cluster.propose(1, 0));
    cluster.poll(1);
    cluster.run(40);
    cluster.member(1).device.full = false;
    cluster.run(100);
    cluster.converge();
    cluster.check();
}
