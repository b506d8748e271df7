//! One simulated node: the real sequencer, log, recovery, view and snapshots around a simulated disk and clock.
//!
//! Owns what a process has: it is made by a start, and everything in it is gone when the process ends. What the threads
//! of the program do side by side happens here one after the other, as the world orders it. Judges nothing.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;

use api::feed::Hub;
use api::node::{
    AnswerFn, Audit, BootError, Committed, Door, Followed, Followers, Gates, LeaderClock, Machine, MachineClocks,
    Poison, Received, Recovery, Sequencer, Stamp, Stamps, Submission, SubmitError, Surroundings, View, Views,
    copy_for_snapshot, first_commands, recover, write_snapshot,
};
use crossbeam::channel::{Receiver, bounded};
use engine::{Command, LogTime};
use persistence::archive::{ArchiveError, Reach, Shipper, Store};
use persistence::checkpoint::AuditSigner;
use persistence::{
    AppendError, Batch, Cut, Log, LogEvent, Options, RecoveredEntry, ScrubStatus, Scrubber, SkipMark, Snapshots,
    Solo, Step, TreeHead,
};

use crate::archive::SimStore;
use crate::chance::{Random, entropy};
use crate::disk::{Places, SimDisk};

/// Nanoseconds of a millisecond.
pub const MS: i64 = 1_000_000;
/// Nanoseconds of a second.
pub const SECOND: i64 = 1_000 * MS;
/// Shards of tenders; one more holds the accounts.
pub const TENDER_SHARDS: u16 = 2;
/// Entries between view and audit.
const FOLLOWED: usize = 64;
/// Commands that may wait in the ring, and that the sequencer takes from it: few, so that both are full at times.
const RING: usize = 8;
/// See `RING`.
const PENDING_MAX: usize = 12;
/// Bytes of a segment: small, so that many are rolled and used again.
const SEGMENT_BYTES: u32 = 64 << 10;
/// Bytes of log before its end whose steps come back into the feeds: fewer than most restarts replay.
const FRAMES_BYTES: u64 = 4 << 10;

/// Why a process ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Ended {
    /// The power went, or it was killed.
    Power,
    /// It stopped itself, and said why.
    Stopped(String),
}

/// The two clocks of a machine, told by true time, which only the world knows.
#[derive(Clone, Copy, Debug)]
pub struct Clocks {
    /// True time and monotonic time where the present pace began.
    from: (i64, i64),
    /// How much faster than true time they run, in parts per million.
    pace_ppm: i64,
    /// What the wall clock is ahead of the monotonic one, in nanoseconds.
    pub wall_ahead: i64,
}

impl Clocks {
    /// Clocks that run at a pace from true time 0 on.
    pub fn new(pace_ppm: i64, wall_ahead: i64) -> Self {
        Self { from: (0, 0), pace_ppm, wall_ahead }
    }

    fn mono(&self, at: i64) -> i64 {
        // Before `from` they stood still.
        let elapsed = (at - self.from.0).max(0);
        self.from.1 + elapsed + (i128::from(elapsed) * i128::from(self.pace_ppm) / 1_000_000) as i64
    }

    /// What the wall clock says.
    pub fn wall(&self, at: i64) -> i64 {
        self.mono(at) + self.wall_ahead
    }

    /// They stand still from `at` until `until`.
    pub fn stand_still(&mut self, at: i64, until: i64) {
        self.from = (until, self.mono(at));
    }

    /// They stand still no longer.
    pub fn go_on(&mut self, at: i64) {
        self.from.0 = self.from.0.min(at);
    }

    /// They run at another pace from `at` on.
    pub fn go_at(&mut self, at: i64, pace_ppm: i64) {
        self.from = (at.max(self.from.0), self.mono(at));
        self.pace_ppm = pace_ppm;
    }
}

/// What the machine's clocks say now.
#[derive(Debug, Default)]
struct Told {
    mono: AtomicI64,
    wall: AtomicI64,
}

/// The clocks as the leader's clock reads them.
#[derive(Debug)]
struct SimClocks(Arc<Told>);

impl MachineClocks for SimClocks {
    fn mono_ns(&self) -> i64 {
        self.0.mono.load(Ordering::Relaxed)
    }

    fn wall_ns(&self) -> i64 {
        self.0.wall.load(Ordering::Relaxed)
    }
}

/// A command between stamp and ring.
struct UnderWay {
    arrives: i64,
    stamp: Stamp,
    command: Command,
    answer: AnswerFn,
}

/// What one flush made durable.
#[derive(Debug)]
pub struct Flush {
    /// Whether the disk kept less than it said.
    pub hurt: bool,
    /// The sectors that were written for it.
    pub places: Places,
    /// The entries, by shard and index.
    pub entries: Vec<(u16, u64)>,
}

/// What is around the sequencer, and what the world does to it.
pub struct Io {
    /// True time, in nanoseconds.
    pub at: i64,
    /// The machine's clocks.
    pub clocks: Clocks,
    told: Arc<Told>,
    clock: Arc<LeaderClock>,
    /// Commands between stamp and ring, in order of arrival.
    under_way: VecDeque<UnderWay>,
    door: Door,
    ring: Receiver<Submission>,
    /// `Stop` waits for a place in the ring.
    stop_due: bool,
    log: Log,
    /// What was told of the space; nothing behind a refusal.
    told_read_only: Option<bool>,
    disk: SimDisk,
    random: Random,
    /// The batch that the log thread has.
    pub flight: Option<Batch>,
    /// What the log tells, not yet seen by the sequencer.
    pub events: VecDeque<LogEvent>,
    /// Entries that the sequencer has applied and answered; first the world looks at them, then the view.
    pub published: VecDeque<Committed>,
    /// The last entry of each shard that the log said is durable.
    pub promised: Vec<u64>,
    /// The flushes so far.
    pub flushes: Vec<Flush>,
    /// Bytes appended since the last snapshot.
    pub log_bytes: u64,
    /// How many appends were done on the core's thread, and on the log's.
    pub inline: u64,
    /// See `inline`.
    pub handed_over: u64,
    /// How often a deadline had to wait for a command that was stamped before it.
    pub waited: u64,
}

/// The sequencer's side of [`Io`].
pub struct Around(Rc<RefCell<Io>>);

impl Io {
    /// It is `at` now.
    fn go(&mut self, at: i64) {
        self.at = at;
        self.told.mono.store(self.clocks.mono(at), Ordering::Relaxed);
        self.told.wall.store(self.clocks.wall(at), Ordering::Relaxed);
    }

    /// When the next command comes to the door.
    pub fn arrives(&self) -> Option<i64> {
        self.under_way.front().map(|first| first.arrives)
    }

    /// Whether the next segment can't be made.
    pub fn log_is_full(&self) -> bool {
        self.log.is_full()
    }

    /// The next command comes to the door.
    fn deliver(&mut self) {
        if let Some(UnderWay { stamp, command, answer, .. }) = self.under_way.pop_front() {
            self.door.submit(stamp, command, answer);
        }
    }

    fn append(&mut self, mut batch: Batch) -> LogEvent {
        let bytes = batch.bytes_len() as u64;
        self.disk.take_hurt();
        let before: Vec<u64> = self.log.last().iter().map(|last| last.index).collect();
        let failures = self.disk.failures();
        let appended = self.log.append(&mut batch);
        if self.disk.is_down() {
            resume_unwind(Box::new(Ended::Power));
        }
        let ends = matches!(appended, Err(AppendError::Failed(_)));
        assert!(
            ends || self.disk.failures() == failures,
            "D4: the device failed in an append, and the log goes on"
        );
        match appended {
            Ok(()) => {
                self.log_bytes += bytes;
                let mut entries = Vec::new();
                for (shard, (before, last)) in before.iter().zip(self.log.last()).enumerate() {
                    self.promised[shard] = last.index;
                    entries.extend((before + 1..=last.index).map(|index| (shard as u16, index)));
                }
                let (hurt, places) = (self.disk.take_hurt(), self.disk.take_written());
                self.flushes.push(Flush { hurt, places, entries });
                LogEvent::Flushed { batch }
            }
            Err(AppendError::ReadOnly(_)) => {
                self.told_read_only = None;
                LogEvent::Refused { batch }
            }
            Err(AppendError::Failed(error)) => LogEvent::Failed { error: error.to_string() },
        }
    }

    /// As the log thread does after each order.
    fn tell_space(&mut self) {
        let read_only = self.log.read_only();
        if self.told_read_only.replace(read_only) != Some(read_only) {
            self.events.push_back(if read_only { LogEvent::ReadOnly } else { LogEvent::Writable });
        }
    }
}

impl Surroundings for Around {
    fn now(&self) -> LogTime {
        self.0.borrow().clock.now()
    }

    fn uptime(&self) -> Duration {
        let io = self.0.borrow();
        Duration::from_nanos(io.clocks.mono(io.at).unsigned_abs())
    }

    fn receive(&mut self) -> Received {
        self.0.borrow_mut().ring.try_recv().map_or(Received::Nothing, Received::Submission)
    }

    fn wait_before(&mut self, time: LogTime) -> bool {
        let mut io = self.0.borrow_mut();
        let io = &mut *io;
        let gates: Arc<Gates> = Arc::clone(&io.door.gates);
        let settled = gates.stamps.settled_before(time);
        io.waited += u64::from(!settled);
        // Whoever holds a stamp comes to the door before long; the core waits, and time stands still.
        while !gates.stamps.settled_before(time) {
            assert!(!io.under_way.is_empty(), "A4: a stamp is held, and its command is nowhere");
            io.deliver();
        }
        true
    }

    fn append(&mut self, batch: Batch, alone: bool) -> Option<LogEvent> {
        let mut io = self.0.borrow_mut();
        // The core finds the log's lock taken now and then.
        if alone && !io.random.one_in(4) {
            io.inline += 1;
            let event = io.append(batch);
            io.tell_space();
            return Some(event);
        }
        io.handed_over += 1;
        assert!(io.flight.is_none(), "one batch is under way at a time");
        io.flight = Some(batch);
        None
    }

    fn applied(&mut self, _shard: u16, _index: u64) {}

    fn committed(&mut self, committed: Committed) {
        self.0.borrow_mut().published.push_back(committed);
    }

    fn read_only(&self) -> bool {
        self.0.borrow().door.gates.read_only.load(Ordering::Relaxed)
    }

    fn set_read_only(&mut self, read_only: bool) {
        self.0.borrow().door.gates.read_only.store(read_only, Ordering::Relaxed);
    }

    fn salt(&self) -> [u8; 16] {
        salt()
    }

    fn stop(&self, reason: &str) -> ! {
        resume_unwind(Box::new(Ended::Stopped(reason.to_owned())))
    }
}

fn salt() -> [u8; 16] {
    let mut salt = [0; 16];
    entropy(&mut salt);
    salt
}

/// A running process.
pub struct Node {
    sequencer: Sequencer<Around>,
    io: Rc<RefCell<Io>>,
    /// What readers see.
    pub views: Arc<Views>,
    snapshots: Snapshots,
    audit: Arc<Audit>,
    followers: Followers,
    /// What the audit thread has not seen yet.
    followed: Receiver<Followed>,
    /// Entries on their way to the view.
    to_view: VecDeque<Committed>,
    archiving: Option<Archiving>,
    scrubber: Scrubber,
    /// What the scrub has found.
    pub scrubbed: Arc<ScrubStatus>,
}

/// What ships the log to an archive.
struct Archiving {
    shipper: Shipper,
    reach: Arc<Reach>,
}

/// What a start found; for the judge.
pub struct Found {
    /// All entries that the folder still holds, in log order.
    pub entries: Vec<RecoveredEntry>,
    /// Where each shard stands.
    pub last: Vec<u64>,
    /// Index of each shard in the snapshot that was used.
    pub snapshot: Option<Vec<u64>>,
    /// Its number.
    pub snapshot_number: Option<u64>,
    /// Commands that are passed by.
    pub skips: Vec<SkipMark>,
    /// Commands that panicked in this replay.
    pub poisoned: Vec<Poison>,
    /// What was cut.
    pub cuts: Vec<Cut>,
    /// What the segments state of the trees of their shards.
    pub tree_heads: Vec<(u16, TreeHead)>,
    /// The states, by shard.
    pub machines: Vec<Machine>,
    /// The id of the history.
    pub history: String,
}

/// Why a start failed.
pub enum NoStart {
    /// The power went during it.
    Power,
    /// It refused, and says why.
    Refused(String),
}

/// Ids and random bytes come from the world's seed.
pub fn layout() -> Options {
    Options {
        segment_bytes: SEGMENT_BYTES,
        shards: TENDER_SHARDS + 1,
        random: entropy,
        ..Options::new("/data", "/keys")
    }
}

impl Node {
    /// Starts a process on `disk` at `at`, as the program does; with a `store` its log is archived there.
    pub fn start(
        disk: &SimDisk,
        store: Option<&SimStore>,
        at: i64,
        clocks: Clocks,
        random: Random,
    ) -> Result<(Self, Found), NoStart> {
        let failed = |text: String| if disk.is_down() { NoStart::Power } else { NoStart::Refused(text) };
        let hub = Hub::new();
        let recovery = recover(Arc::new(disk.clone()), layout(), &hub, FRAMES_BYTES)
            .map_err(|error| failed(error.to_string()))?;
        let Recovery { mut log, recovered, shards, audits, poisoned, .. } = recovery;
        let mut entries = Vec::new();
        for entry in recovered.entries_from_start() {
            entries.push(entry.map_err(|error| failed(error.to_string()))?);
        }
        let signer = AuditSigner::open(recovered.sealer.keys()).map_err(|error| failed(error.to_string()))?;
        // Roots are not signed here, so the clock that would date them is never read.
        let clock = Arc::new(LeaderClock::new(LogTime(0)));
        let audit = Audit::new(audits, signer, recovered.history.to_string(), clock, hub)
            .map_err(|error| failed(BootError::Audit(error).to_string()))?;
        if disk.is_down() {
            return Err(NoStart::Power);
        }
        let archiving = store.map(|store| {
            let store: Arc<dyn Store> = Arc::new(store.clone());
            let (dir, snapshots) = (layout().dir, recovered.snapshots.clone());
            Shipper::new(Arc::new(disk.clone()), &dir, snapshots, store)
                // Before the first segment can go.
                .map(|shipper| Archiving { shipper, reach: log.keep_for_archive() })
        });
        let archiving = archiving.transpose().map_err(|error| failed(error.to_string()))?;
        let (followers, followed) = Followers::new(Arc::clone(&audit), FOLLOWED);
        let machines: Vec<Machine> = shards.iter().map(|shard| shard.machine.clone()).collect();
        let last = machines.iter().map(Machine::now).max().unwrap_or(LogTime(0));
        let found = Found {
            entries,
            last: recovered.last.iter().map(|last| last.index).collect(),
            snapshot: recovered.snapshot.as_ref().map(persistence::SnapshotReader::indices),
            snapshot_number: recovered.snapshot.as_ref().map(persistence::SnapshotReader::number),
            skips: recovered.skips.clone(),
            poisoned: poisoned.clone(),
            cuts: recovered.cuts.clone(),
            tree_heads: recovered.tree_heads.clone(),
            machines: machines.clone(),
            history: recovered.history.to_string(),
        };
        let told = Arc::new(Told::default());
        told.mono.store(clocks.mono(at), Ordering::Relaxed);
        told.wall.store(clocks.wall(at), Ordering::Relaxed);
        let clock = Arc::new(LeaderClock::of_machine(Box::new(SimClocks(Arc::clone(&told))), last));
        let (sender, ring) = bounded(RING);
        let door = Door {
            gates: Gates::new(Stamps::new(Arc::clone(&clock))),
            ring: sender,
            node: 1,
            tender_shards: TENDER_SHARDS,
            random: entropy,
        };
        let scrubbed = Arc::<ScrubStatus>::default();
        let scrubber = Scrubber::new(&recovered.reader(), log.reach(), Arc::clone(&scrubbed), |_| Ok(()));
        let io = Io {
            at,
            clocks,
            told,
            clock,
            under_way: VecDeque::new(),
            door,
            ring,
            stop_due: false,
            told_read_only: Some(false),
            promised: found.last.clone(),
            log,
            disk: disk.clone(),
            random,
            flight: None,
            events: VecDeque::new(),
            published: VecDeque::new(),
            flushes: Vec::new(),
            log_bytes: 0,
            inline: 0,
            handed_over: 0,
            waited: 0,
        };
        let io = Rc::new(RefCell::new(io));
        io.borrow_mut().tell_space();
        let replicator = Solo::new(found.last.iter().copied(), recovered.term);
        let around = Around(Rc::clone(&io));
        let sequencer = Sequencer::new(machines, Box::new(replicator), recovered.sealer.clone(), around)
            .with_pending_max(PENDING_MAX);
        let first = first_commands(recovered.last.len(), &poisoned, io.borrow().clock.now(), salt);
        for submission in first {
            let sent = io.borrow().door.ring.try_send(submission);
            assert!(sent.is_ok(), "the ring is empty and has room for what is logged first");
        }
        let views = Views::new(shards);
        let (snapshots, to_view) = (recovered.snapshots, VecDeque::new());
        let node = Self {
            sequencer,
            io,
            views,
            snapshots,
            audit,
            followers,
            followed,
            to_view,
            archiving,
            scrubber,
            scrubbed,
        };
        Ok((node, found))
    }

    /// Its surroundings.
    pub fn io(&self) -> std::cell::RefMut<'_, Io> {
        self.io.borrow_mut()
    }

    /// The leader's time at `at`.
    pub fn now(&self, at: i64) -> LogTime {
        let mut io = self.io.borrow_mut();
        io.go(at);
        io.clock.now()
    }

    /// Stamps a command whose last byte is read at `at`.
    pub fn stamp(&self, at: i64) -> Stamp {
        let mut io = self.io.borrow_mut();
        io.go(at);
        io.door.stamp()
    }

    /// The deciding states, by shard.
    pub fn machines(&self) -> impl ExactSizeIterator<Item = &Machine> {
        self.sequencer.machines()
    }

    /// Draws the leader's clock towards the wall clock. True if the wall clock jumped.
    pub fn keep_clock(&mut self, at: i64) -> bool {
        let mut io = self.io.borrow_mut();
        io.go(at);
        io.clock.adjust().is_some()
    }

    /// Puts a stamped command on its way to the door.
    pub fn send(&mut self, arrives: i64, stamp: Stamp, command: Command, answer: AnswerFn) {
        let mut io = self.io.borrow_mut();
        let place = io.under_way.partition_point(|other| other.arrives <= arrives);
        io.under_way.insert(place, UnderWay { arrives, stamp, command, answer });
    }

    /// Asks for the end, as a signal does: what was taken is answered first, and nothing more is taken.
    pub fn ask_to_stop(&mut self) {
        let mut io = self.io.borrow_mut();
        io.door.gates.draining.store(true, Ordering::Relaxed);
        io.stop_due = true;
    }

    /// What came to the door after the end is refused.
    pub fn refuse_rest(&mut self) {
        let mut io = self.io.borrow_mut();
        while !io.under_way.is_empty() {
            io.deliver();
        }
        // What reached the ring behind `Stop` was never sequenced.
        while let Ok(submission) = io.ring.try_recv() {
            if let Submission::Command { answer: Some(answer), .. } = submission {
                answer(Err(SubmitError::Draining));
            }
        }
    }

    /// Whether it has ended as asked.
    pub fn is_finished(&self) -> bool {
        self.sequencer.is_finished() && self.io.borrow().published.is_empty() && self.to_view.is_empty()
    }

    /// One round of the core's thread.
    pub fn turn(&mut self, at: i64) -> Result<(), Ended> {
        {
            let mut io = self.io.borrow_mut();
            io.go(at);
            while io.arrives().is_some_and(|arrives| arrives <= at) {
                io.deliver();
            }
            if io.stop_due && io.door.ring.try_send(Submission::Stop).is_ok() {
                io.stop_due = false;
            }
        }
        self.guarded(|node| {
            while let Some(event) = node.next_event() {
                node.sequencer.event(event);
            }
            node.sequencer.turn();
        })
    }

    fn next_event(&self) -> Option<LogEvent> {
        self.io.borrow_mut().events.pop_front()
    }

    /// The log thread makes durable what it was given.
    pub fn flush(&mut self, at: i64) -> Result<(), Ended> {
        self.guarded(|node| {
            let mut io = node.io.borrow_mut();
            io.go(at);
            let Some(batch) = io.flight.take() else { return };
            let event = io.append(batch);
            io.events.push_back(event);
            io.tell_space();
        })
    }

    /// A full disk is asked again.
    pub fn retry(&mut self) -> Result<(), Ended> {
        self.guarded(|node| {
            let mut io = node.io.borrow_mut();
            if io.log.is_full() {
                let tried = io.log.retry();
                io.after(tried);
            }
        })
    }

    /// Lets the view see `published`, which the judge has seen.
    pub fn publish(&mut self, published: Committed) {
        self.to_view.push_back(published);
    }

    /// The view applies at most `most` entries; tells how many are left.
    pub fn show(&mut self, most: usize) -> usize {
        for _ in 0..most {
            let Some(committed) = self.to_view.pop_front() else { break };
            self.views.apply(committed, &self.followers);
            self.audit();
        }
        self.to_view.len()
    }

    /// The audit thread goes on.
    fn audit(&self) {
        let mut closed = [false; TENDER_SHARDS as usize + 1];
        while let Ok(next) = self.followed.try_recv() {
            self.audit.follow(next, &mut closed);
        }
    }

    /// A reader's handle on the view.
    pub fn view(&self) -> View {
        View::new(Arc::clone(&self.views))
    }

    /// Writes a snapshot of the view and lets go what it covers. An error of the disk is told, not fatal.
    pub fn snapshot(&mut self) -> Result<Option<String>, Ended> {
        let copies = copy_for_snapshot(&self.views, &self.followers);
        self.audit();
        let taken = write_snapshot(copies, &self.snapshots);
        self.guarded(|node| {
            let mut io = node.io.borrow_mut();
            if io.disk.is_down() {
                resume_unwind(Box::new(Ended::Power));
            }
            io.log_bytes = 0;
            match taken {
                Ok(covered) => {
                    let cut = io.log.truncate(&covered);
                    io.after(cut);
                    None
                }
                Err(error) => Some(error.to_string()),
            }
        })
    }

    /// Ships what is durable to the archive, as its thread does every second, and lets go what waited for it. What kept
    /// it from shipping is told, not fatal.
    pub fn ship(&mut self, at: i64) -> Result<Option<ArchiveError>, Ended> {
        let now = self.now(at);
        let Some(Archiving { shipper, reach }) = &mut self.archiving else { return Ok(None) };
        let trouble = shipper.ship(|| reach.durable(), now.0).err();
        let whole = shipper.shipped().whole;
        let more = whole > reach.archived();
        reach.set_archived(whole);
        self.guarded(|node| {
            let mut io = node.io.borrow_mut();
            if io.disk.is_down() {
                resume_unwind(Box::new(Ended::Power));
            }
            if more {
                let cut = io.log.truncate(&[]);
                io.after(cut);
            }
            trouble
        })
    }

    /// The scrub's thread looks at one file.
    pub fn scrub(&mut self) -> Result<Step, Ended> {
        self.guarded(|node| node.scrubber.step())
    }

    /// Whether a pass of the scrub is under way.
    pub fn is_scrubbing(&self) -> bool {
        self.scrubber.is_under_way()
    }

    /// Up to which segment the archive has them whole, as far as this process knows.
    pub fn archived(&self) -> u64 {
        self.archiving.as_ref().map_or(0, |archiving| archiving.shipper.shipped().whole)
    }

    /// The segment that is written to.
    pub fn active_segment(&self) -> u64 {
        u64::from(self.io.borrow().log.reach().durable().sequence)
    }

    /// When the core has something to do by itself: a deadline, or the end of a pause after a refusal. In true time.
    pub fn due(&mut self, at: i64) -> Option<i64> {
        let (waits, events, stops) = {
            let mut io = self.io.borrow_mut();
            io.go(at);
            (!io.ring.is_empty(), !io.events.is_empty(), io.stop_due && !io.ring.is_full())
        };
        if self.sequencer.has_work() || events || stops || (waits && self.sequencer.takes()) {
            return Some(at);
        }
        let io = self.io.borrow();
        if let Some(until) = self.sequencer.held_until() {
            let mono = io.clocks.mono(at);
            return Some(at + (until.as_nanos() as i64 - mono).max(0) + 1_000);
        }
        let wait = io.clock.until(self.sequencer.next_deadline()?).as_nanos() as i64;
        // Never exactly right, as no timer is: looked at again when it fires.
        Some(at + wait + 1_000)
    }

    fn guarded<R>(&mut self, act: impl FnOnce(&mut Self) -> R) -> Result<R, Ended> {
        match catch_unwind(AssertUnwindSafe(|| act(self))) {
            // Not everything that meets the dead disk ends the process by itself: a key that can't be made is a refusal.
            Ok(_) if self.io.borrow().disk.is_down() => Err(Ended::Power),
            Ok(result) => Ok(result),
            Err(payload) => match payload.downcast::<Ended>() {
                Ok(ended) => Err(*ended),
                Err(payload) => resume_unwind(payload),
            },
        }
    }
}

impl Io {
    fn after(&mut self, step: Result<(), AppendError>) {
        if self.disk.is_down() {
            resume_unwind(Box::new(Ended::Power));
        }
        self.tell_space();
        if let Err(AppendError::Failed(error)) = step {
            self.events.push_back(LogEvent::Failed { error: error.to_string() });
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn clocks_that_stand_still_go_on_where_they_stood() {
        let mut clocks = Clocks::new(0, 7);
        clocks.stand_still(10 * SECOND, 40 * SECOND);
        let told = [5, 10, 25, 40, 41].map(|at| clocks.mono(at * SECOND) / SECOND);
        assert_eq!(told, [10, 10, 10, 10, 11], "what was before is not asked any more");
        // Another pace that is chosen meanwhile counts from when they go on.
        clocks.stand_still(50 * SECOND, 60 * SECOND);
        clocks.go_at(55 * SECOND, 1_000_000);
        let told = [55, 60, 61].map(|at| clocks.mono(at * SECOND) / SECOND);
        assert_eq!(told, [20, 20, 22]);
        assert_eq!(clocks.wall(61 * SECOND), 22 * SECOND + 7);
    }
}
