//! The world: one seed, a heap of events keyed by time and number, and everything that happens in them.
//!
//! Two phases: faults, then healing, in which everything must be served again. Nodes are a list and events name theirs,
//! so that a network and more of them find their place; there is one. Decides what happens, never what is right: that is
//! the [`Judge`]'s.

use std::cmp::Reverse;
use std::collections::{BTreeSet, BinaryHeap};

use api::node::SubmitError;

use crate::archive::SimStore;
use crate::chance::{Random, seed_entropy, stream};
use crate::client::Clients;
use crate::disk::{Image, SimDisk};
use crate::judge::{Judge, Loss};
use crate::marks::Mark;
use crate::node::{Clocks, Ended, Flush, MS, Node, SECOND};
use crate::quiet;
pub use crate::report::{Plan, Report};

mod archive;
mod faults;
mod heal;
mod process;
mod refusals;
mod scrub;
mod traffic;

/// Bytes of log after which a snapshot is taken.
const SNAPSHOT_BYTES: u64 = 16 << 10;
/// One file in so many that are read from the device is read wrong, where disks may do so.
const MISREAD: u64 = 25;
/// Nanoseconds that a read takes at most, of a fast disk and of a slow one.
const READ_NS: [i64; 2] = [MS / 10, 500 * MS];
/// The wall clock where true time is 0.
const EPOCH: i64 = 1_700_000_000_000 * MS;

/// What happens. Events of a node carry the number of the process they were meant for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum What {
    /// The core's thread looks around.
    Turn { process: u64 },
    /// The log thread is done.
    Flush { process: u64 },
    /// The view goes on.
    Show { process: u64 },
    /// The snapshot thread begins.
    Snapshot { process: u64 },
    /// Clock and full disk are looked at.
    Second { process: u64 },
    /// A client does something.
    Act { client: usize },
    /// A client has waited long enough.
    Impatient { client: usize, request: u64 },
    /// A subscriber looks.
    Read { reader: usize },
    /// The power goes.
    Crash,
    /// The process is asked to end.
    Stop,
    /// The process is asked to end, soon after it has cut a tail.
    Leave,
    /// A process starts.
    Start,
    /// The wall clock jumps, or the machine's clocks change their pace.
    TurnClock,
    /// The whole machine stands still for a while.
    Suspend,
    /// The wall clock is put right by so much.
    PutRight { by: i64 },
    /// The disk fills up, or has room again.
    Fill { full: bool },
    /// Nothing can be opened any more, or again.
    RunOut { out: bool },
    /// The disk becomes slow, or fast again.
    Slow { slow: bool },
    /// Something is sent that makes the engine panic.
    Poison,
    /// Somebody asks what a key came to.
    Recall,
    /// Bytes change behind everybody's back.
    Damage,
    /// The device fails for ever.
    Break,
    /// Somebody replaces it.
    Mend,
    /// Memory is short, and a file is forgotten by the cache.
    Evict,
    /// What is durable is shipped to the archive.
    Ship { process: u64 },
    /// The scrub looks at a file.
    Scrub { process: u64 },
    /// Bytes of a segment change that nobody writes to any more, and nothing else happens.
    Rot,
    /// The archive can't be reached, or can again.
    GoAway { away: bool },
    /// A client sends far more than can be decided.
    Burst,
}

/// See the module.
pub struct World {
    plan: Plan,
    at: i64,
    number: u64,
    heap: BinaryHeap<Reverse<(i64, u64, What)>>,
    events: u64,
    disk: SimDisk,
    clocks: Clocks,
    chance: Random,
    crashes: Random,
    pace: Random,
    /// All nodes; for now one, and none while it is down.
    nodes: Vec<Option<Node>>,
    turn_at: i64,
    flush_at: i64,
    show_at: i64,
    snapshot_due: bool,
    slow: bool,
    full: bool,
    refused_while_full: bool,
    /// Whether nothing can be opened, and whether commands were refused meanwhile.
    out: bool,
    /// Until then the node does nothing: its machine stands still, or it reads what it starts from.
    still_until: i64,
    refused_while_out: bool,
    /// Up to which segment the archive has them whole.
    archived: u64,
    /// Until then the core's thread gets no processor.
    starved_until: i64,
    /// Whether the last process left nothing half done: then there is nothing to be cut.
    left_clean: bool,
    /// How often the device had failed when the process started.
    failures_before: u64,
    stopping: bool,
    healing: bool,
    /// Whether the next start must succeed: the disk was put in order.
    must_start: bool,
    /// The disk before the first start that has not succeeded since; in worlds without an atlas.
    before_start: Option<Image>,
    /// The newest snapshot, if it was damaged and no start has passed it by since.
    damaged_snapshot: Option<u64>,
    ended_silently: bool,
    inline: u64,
    handed_over: u64,
    waited: u64,
    refused: u64,
    undetectable: u64,
    /// All flushes.
    flushes: Vec<Flush>,
    /// Where the log is archived; in most worlds.
    store: Option<SimStore>,
    /// Whether the archive lacked something because its store refused.
    archive_behind: bool,
    /// Whether the device has failed, and the last durable entry of each shard when it did.
    dead: bool,
    promised_when_dead: Option<Vec<u64>>,
    /// What the pass of the scrub that is under way must find.
    to_find: scrub::ToFind,
    clients: Clients,
    judge: Judge,
}

/// Runs the world of `plan`.
///
/// # Errors
/// The promise that was broken, in words.
pub fn run(plan: Plan) -> Result<Report, String> {
    quiet::run(|| {
        let mut world = World::new(plan);
        world.faults();
        if !world.ended_silently {
            world.heal();
        }
        world.report()
    })
}

impl World {
    fn new(plan: Plan) -> Self {
        seed_entropy(plan.seed);
        let mut chance = stream(plan.seed, "world");
        let mut clock = stream(plan.seed, "clock");
        let clocks = Clocks::new(clock.between(-300, 300), EPOCH + clock.between(0, 5_000) * MS);
        let disk = SimDisk::new(plan.seed);
        let pace = stream(plan.seed, "pace");
        let mut world = Self {
            plan,
            at: 0,
            number: 0,
            heap: BinaryHeap::new(),
            events: 0,
            disk,
            clocks,
            crashes: stream(plan.seed, "crash"),
            pace,
            nodes: vec![None],
            turn_at: i64::MAX,
            flush_at: i64::MAX,
            show_at: i64::MAX,
            snapshot_due: false,
            slow: false,
            full: false,
            refused_while_full: false,
            out: false,
            still_until: 0,
            refused_while_out: false,
            archived: 0,
            starved_until: 0,
            left_clean: true,
            failures_before: 0,
            stopping: false,
            healing: false,
            must_start: true,
            before_start: None,
            damaged_snapshot: None,
            ended_silently: false,
            inline: 0,
            handed_over: 0,
            waited: 0,
            refused: 0,
            undetectable: 0,
            flushes: Vec::new(),
            store: (!plan.seed.is_multiple_of(5)).then(|| SimStore::new(plan.seed)),
            archive_behind: false,
            dead: false,
            promised_when_dead: None,
            to_find: scrub::ToFind::default(),
            clients: Clients::new(plan.seed),
            judge: Judge::new(),
            chance: stream(plan.seed, "more"),
        };
        world.after(0, What::Start);
        for client in 0..world.clients.len() {
            world.after(chance.between(1, 2_000) * MS, What::Act { client });
        }
        for reader in 0..world.clients.readers() {
            world.after(chance.between(1, 4_000) * MS, What::Read { reader });
        }
        for (seconds, what) in [
            (20, What::Crash),
            (90, What::Stop),
            (30, What::TurnClock),
            (40, What::Fill { full: true }),
            (30, What::RunOut { out: true }),
            (50, What::Slow { slow: true }),
            (40, What::Suspend),
            (120, What::Poison),
            (10, What::Recall),
            (200, What::Break),
            (8, What::Evict),
            (60, What::GoAway { away: true }),
            (40, What::Burst),
        ] {
            world.some_time(seconds, what);
        }
        if !plan.recoverable {
            world.some_time(40, What::Damage);
            world.some_time(15, What::Rot);
        }
        world
    }

    fn after(&mut self, wait: i64, what: What) {
        self.number += 1;
        self.heap.push(Reverse((self.at + wait, self.number, what)));
    }

    /// At some time, `seconds` from now in the mean.
    fn some_time(&mut self, seconds: i64, what: What) {
        let wait = self.chance.between(1, 2_000 * seconds) * MS;
        self.after(wait, what);
    }

    /// What the atlas allows to go wrong.
    fn allow_faults(&mut self) {
        let recoverable = self.plan.recoverable;
        self.disk.plan(|hazards| {
            hazards.crash = 6_000;
            hazards.sync_error = 1_000;
            hazards.write_error = 3_000;
            if !recoverable {
                hazards.lie = 400;
                hazards.lost = 400;
                hazards.misdirect = 400;
                hazards.stale = 60;
                hazards.misread = MISREAD;
            }
        });
    }

    fn faults(&mut self) {
        while self.clients.sent() < self.plan.commands && !self.ended_silently {
            self.next_event();
        }
    }

    fn next_event(&mut self) {
        let Some(Reverse((at, _, what))) = self.heap.pop() else { unreachable!("clients always do something") };
        assert!(at >= self.at, "time goes forward");
        self.at = at;
        self.events += 1;
        self.happen(what);
    }

    fn is_up(&self) -> bool {
        self.nodes[0].is_some()
    }

    /// Whether somebody would answer.
    fn serves(&self) -> bool {
        self.is_up() && self.at >= self.still_until
    }

    fn happen(&mut self, what: What) {
        if self.at < self.still_until && self.stands_still(what) {
            return;
        }
        match what {
            What::Turn { process } => {
                if process == self.judge.process() && self.at == self.turn_at {
                    self.turn_at = i64::MAX;
                    self.starve();
                    self.act(Node::turn);
                }
            }
            What::Flush { process } => {
                if process == self.judge.process() && self.is_up() {
                    self.flush_at = i64::MAX;
                    self.act(Node::flush);
                }
            }
            What::Show { process } => {
                if process == self.judge.process() && self.at == self.show_at {
                    self.show_at = i64::MAX;
                    let most = self.pace.between(1, 40) as usize;
                    if let Some(node) = &mut self.nodes[0]
                        && node.show(most) > 0
                    {
                        self.show_soon();
                    }
                }
            }
            What::Snapshot { process } => {
                if process == self.judge.process() && self.is_up() {
                    self.snapshot();
                }
            }
            What::Second { process } => {
                if process == self.judge.process() && self.is_up() {
                    self.second();
                }
            }
            What::Act { client } => self.client_acts(client),
            What::Impatient { client, request } => {
                if self.clients.is_waiting_for(client, request) && self.serves() && !self.stopping {
                    self.send_again(client);
                }
            }
            What::Read { reader } => self.read(reader),
            What::Crash => {
                if !self.healing {
                    self.crash();
                    self.some_time(30, What::Crash);
                }
            }
            What::Stop => {
                if !self.healing {
                    self.ask_to_stop();
                    self.some_time(150, What::Stop);
                }
            }
            What::Leave => {
                if !self.healing && self.serves() {
                    self.ask_to_stop();
                }
            }
            What::Start => self.start(),
            What::TurnClock => {
                if !self.healing {
                    self.turn_clock();
                    self.some_time(40, What::TurnClock);
                }
            }
            What::Suspend => self.suspend(),
            What::PutRight { by } => self.wall_jumps(by),
            What::Fill { full } => self.fill(full),
            What::RunOut { out } => self.run_out(out),
            What::Slow { slow } => {
                self.slow = slow && !self.healing;
                self.read_time();
                self.some_time(if slow { 10 } else { 60 }, What::Slow { slow: !slow });
            }
            What::Poison => {
                if !self.healing {
                    self.poison();
                }
            }
            What::Break => self.break_device(),
            What::Mend => self.mend_device(),
            What::Evict => {
                self.evict();
                self.some_time(8, What::Evict);
            }
            What::Ship { process } => {
                if process == self.judge.process() && self.is_up() {
                    self.ship();
                }
            }
            What::Scrub { process } => {
                if process == self.judge.process() && self.is_up() {
                    self.scrub();
                }
            }
            What::Rot => self.rot(),
            What::GoAway { away } => self.go_away(away),
            What::Burst => self.burst(),
            What::Recall => {
                self.recall();
                self.some_time(10, What::Recall);
            }
            What::Damage => {
                if !self.healing {
                    self.damage(|_| true);
                    self.some_time(60, What::Damage);
                }
            }
        }
    }

    /// Lets the node do something at this instant, and sees to what comes of it.
    fn act(&mut self, act: impl FnOnce(&mut Node, i64) -> Result<(), Ended>) {
        let Some(node) = &mut self.nodes[0] else { return };
        let done = act(node, self.at);
        if let Err(ended) = done {
            if ended == Ended::Power {
                self.judge.marks.hit(Mark::CrashInFlush);
            }
            return self.end(ended);
        }
        self.look();
    }

    /// Sees what the node has made known, tells the judge and the clients, and when to look again.
    fn look(&mut self) {
        let Some(node) = &mut self.nodes[0] else { return };
        loop {
            let (published, promised) = {
                let mut io = node.io();
                (io.published.pop_front(), io.promised.clone())
            };
            let Some(published) = published else { break };
            let (shard, promised) = (published.shard, promised[usize::from(published.shard)]);
            if let Some(before) = &self.promised_when_dead {
                let durable = published.entry.index <= before[usize::from(shard)];
                assert!(durable, "D4: an entry was answered that a device took which had failed for ever");
            }
            self.judge.published(shard, published.term, &published.entry, promised);
            node.publish(published);
        }
        let finished = self.stopping && node.is_finished();
        if finished {
            node.refuse_rest();
        }
        for (client, request, answer) in self.clients.answers() {
            self.judge.answered(request.into(), &answer);
            self.refused_while_full |= answer.is_err() && self.full;
            let refused = matches!(answer, Err(SubmitError::ReadOnly | SubmitError::Unsealable));
            self.refused_while_out |= self.out && !self.full && refused;
            if answer.is_ok() && self.refused_while_out && !self.out {
                self.refused_while_out = false;
                self.judge.marks.hit(Mark::DescriptorsOutAndBack);
            }
            if answer.is_ok() && self.refused_while_full && !self.full {
                self.refused_while_full = false;
                self.judge.marks.hit(Mark::FullAndBack);
            }
            if let Some(wait) = self.clients.answered(client, request, &answer, &mut self.judge) {
                let wait = self.at_an_edge(client, wait);
                self.after(wait, What::Act { client });
            }
        }
        let Some(node) = &mut self.nodes[0] else { return };
        let (flying, inline) = {
            let io = node.io();
            if io.waited > self.waited {
                self.judge.marks.hit(Mark::DeadlineWaited);
            }
            self.waited = io.waited;
            let done = (io.flight.is_some(), io.inline > self.inline);
            (self.inline, self.handed_over) = (io.inline, io.handed_over);
            done
        };
        if inline {
            self.judge.marks.hit(Mark::FlushedByCore);
        }
        if finished {
            return self.end_as_asked();
        }
        let process = self.judge.process();
        if flying && self.flush_at == i64::MAX {
            self.judge.marks.hit(Mark::FlushedByLogThread);
            let latency = self.flush_latency();
            self.flush_at = self.at + latency;
            self.after(latency, What::Flush { process });
        }
        // A flush on the core's own thread keeps it for as long as it takes.
        let busy = if inline { self.flush_latency() } else { 0 };
        let Some(node) = &mut self.nodes[0] else { return };
        let arrives = node.io().arrives();
        let due = node.due(self.at);
        let snapshot = node.io().log_bytes > SNAPSHOT_BYTES && !self.snapshot_due;
        let starved = self.starved_until;
        let wake = due.into_iter().chain(arrives).min().map(|wake| wake.max(self.at + busy).max(starved));
        if let Some(wake) = wake.filter(|wake| *wake < self.turn_at) {
            self.turn_at = wake;
            self.after(wake - self.at, What::Turn { process });
        }
        if snapshot {
            self.snapshot_due = true;
            // The second process that loads it may take long, and nothing counts before it has.
            let longest = if self.pace.one_in(4) { 20_000 } else { 200 };
            let wait = self.pace.between(0, longest) * MS;
            self.after(wait, What::Snapshot { process });
        }
        self.show_soon();
    }

    fn show_soon(&mut self) {
        if self.show_at == i64::MAX {
            let wait = self.pace.between(10, 3_000) * 1_000;
            self.show_at = self.at + wait;
            self.after(wait, What::Show { process: self.judge.process() });
        }
    }

    fn flush_latency(&mut self) -> i64 {
        match (self.slow, self.pace.between(0, 999)) {
            (_, 0) => self.pace.between(1_000, 5_000) * MS,
            (true, _) => self.pace.between(5, 500) * MS,
            (false, _) => self.pace.between(100, 2_000) * 1_000,
        }
    }

    fn second(&mut self) {
        let process = self.judge.process();
        let Some(node) = &mut self.nodes[0] else { return };
        node.keep_clock(self.at);
        self.judge.second();
        if self.out && !self.full && node.io().log_is_full() {
            self.judge.marks.hit(Mark::SegmentNotMade);
        }
        let states = self.pace.one_in(10);
        self.act(|node, _| node.retry());
        self.kept_or_archived();
        if states && let Some(node) = &self.nodes[0] {
            self.judge.same_states(node.machines(), "while it runs");
        }
        if self.is_up() {
            self.after(SECOND, What::Second { process });
        }
    }

    fn snapshot(&mut self) {
        self.snapshot_due = false;
        let operations = self.disk.operations();
        if !self.healing && self.crashes.one_in(6) {
            self.disk.plan(|hazards| hazards.crash = 12);
        }
        let Some(node) = &mut self.nodes[0] else { return };
        let taken = node.snapshot();
        if !self.healing {
            self.allow_faults();
        }
        match taken {
            Err(Ended::Power) => {
                self.judge.marks.hit(Mark::CrashInSnapshot);
                self.end(Ended::Power);
            }
            Err(ended) => self.end(ended),
            Ok(_) => {
                self.judge.trace("snapshot", self.disk.operations() - operations);
                self.look();
            }
        }
    }

    fn started(&mut self, node: Node, found: &crate::node::Found) {
        assert!(!self.dead, "D4: a process serves from a device that has failed");
        self.must_start = false;
        self.before_start = None;
        // A warm cache may still hide the damage: then the damaged one is used, and passed by at a later start.
        if self.damaged_snapshot.is_some() && found.snapshot_number < self.damaged_snapshot {
            self.damaged_snapshot = None;
            self.judge.marks.hit(Mark::SnapshotPassedBy);
        }
        let known = self.judge.known();
        if let Err(loss) = self.judge.recovered(found) {
            // Only what the disk itself threw away behind the last sound flush may be missing, and only where it may.
            let excused = !self.plan.recoverable && self.excuses(&loss);
            assert!(
                excused,
                "D1: answered entries are gone: {loss:?}; the last flushes: {:?}; damaged now: {}; anything possible: {}; cuts: {:?}",
                &self.flushes[self.flushes.len().saturating_sub(4)..],
                self.disk.is_damaged(),
                !self.plan.recoverable,
                found.cuts,
            );
            self.undetectable += 1;
            self.ended_silently = true;
            return;
        }
        if !self.plan.recoverable {
            self.disk.accept(|path| path.extension().is_some_and(|extension| extension == "seg"));
        }
        // What was durable although nobody was answered for it.
        let more = known.iter().zip(&found.last).enumerate();
        let more =
            more.flat_map(|(shard, (known, last))| (known + 1..=*last).map(move |index| (shard as u16, index)));
        let (entries, places) = (more.collect(), self.disk.take_written());
        self.flushes.push(Flush { hurt: false, places, entries });
        self.disk.found_whole();
        let expected = !self.plan.recoverable || !std::mem::take(&mut self.left_clean);
        assert!(expected || found.cuts.is_empty(), "D7: cut, and nothing was under way: {:?}", found.cuts);
        if !found.cuts.is_empty() {
            self.judge.marks.hit(Mark::TailCut);
            // What was cut must not come back when little was written over it.
            if self.crashes.one_in(2) {
                let wait = self.crashes.between(50, 1_500) * MS;
                self.after(wait, What::Leave);
            }
            if found.cuts.iter().any(|cut| cut.found.contains("checksum") || cut.found.contains("length")) {
                self.judge.marks.hit(Mark::RecordTorn);
            }
        }
        if let Some(snapshot) = &found.snapshot
            && snapshot.iter().zip(&found.last).any(|(snapshot, last)| snapshot < last)
        {
            self.judge.marks.hit(Mark::SnapshotAndTail);
        }
        self.nodes[0] = Some(node);
        self.read_time();
        self.failures_before = self.disk.failures();
        self.see_files();
        if self.healing {
            self.disk.plan(|hazards| *hazards = crate::disk::Hazards::default());
        } else {
            self.allow_faults();
        }
        let process = self.judge.process();
        self.after(SECOND, What::Second { process });
        if self.store.is_some() {
            self.after(SECOND, What::Ship { process });
        }
        self.to_find = scrub::ToFind::default();
        let wait = self.pace.between(200, 4_000) * MS;
        self.after(wait, What::Scrub { process });
        // Reads took their time, and nobody was served meanwhile.
        let late = self.disk.take_read_ns();
        self.still_until = self.at + late;
        self.late_start();
        self.turn_at = self.still_until;
        self.after(late, What::Turn { process });
    }

    /// Whether a loss is one that no single node can tell from a torn tail: all that is missing are the last flushes,
    /// and of each of them a sector was not as promised. Two flushes may share one.
    fn excuses(&self, loss: &Loss) -> bool {
        let mut missing: BTreeSet<(u16, u64)> = BTreeSet::new();
        for (shard, known, found) in &loss.shards {
            missing.extend((found + 1..=*known).map(|index| (*shard, index)));
        }
        for flush in self.flushes.iter().rev().filter(|flush| !flush.entries.is_empty()) {
            if missing.is_empty() {
                break;
            }
            if !self.disk.was_damaged(&flush.places) {
                return false;
            }
            for entry in &flush.entries {
                missing.remove(entry);
            }
        }
        missing.is_empty()
    }

    fn see_files(&mut self) {
        let segments: Vec<u64> = self
            .disk
            .files()
            .iter()
            .filter_map(|path| u64::from_str_radix(path.file_name()?.to_str()?.strip_suffix(".seg")?, 16).ok())
            .collect();
        if segments.iter().any(|number| *number > 2) {
            self.judge.marks.hit(Mark::SegmentRolled);
        }
        // Old ones wait under their names until they are used again: the first is gone when it was.
        if segments.iter().min().is_some_and(|first| *first > 1) {
            self.judge.marks.hit(Mark::SegmentRecycled);
        }
    }
}
