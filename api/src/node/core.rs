//! The core: the one thread that orders commands, logs them in batches and applies what is durable.
//!
//! It owns the state of all shards of this node and never waits for a disk, a reader or a socket: the log thread
//! flushes one batch while the next one gathers, and the view thread serves everybody who only looks.

use std::collections::VecDeque;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};
use std::thread::Thread;
use std::time::{Duration, Instant};

use crossbeam::channel::{Receiver, Sender, TryRecvError};
use engine::{Action, Command, Entry, Envelope, LogTime, Reply, Sink};
use persistence::{Batch, Class, LogEvent, LogThread, Placed, Ready, Replicator, Sealer};

use super::SubmitError;
use super::clock::LeaderClock;
use super::machine::Machine;
use super::stamp::Stamps;

/// Most commands of one shard in one batch.
const BATCH_COMMANDS: usize = 512;
/// Most bytes of one shard in one batch; a larger command travels alone.
const BATCH_BYTES: usize = 64 << 10;
/// Most commands taken from the ring and not yet written; then the ring fills, and the edge answers `busy`.
const PENDING_MAX: usize = 8_192;
/// How long a refused batch waits for room before it is tried again.
const HOLD: Duration = Duration::from_millis(100);
/// How often the clock is drawn towards the wall clock.
const CLOCK_PERIOD: Duration = Duration::from_secs(1);

/// Takes the answer to one command. Runs on the core thread: it must only hand the answer on.
pub type AnswerFn = Box<dyn FnOnce(Result<Reply, SubmitError>) + Send>;

/// What the edge puts into the ring.
#[allow(clippy::large_enum_variant)] // Commands are the common case and must not be boxed.
pub enum Submission {
    /// A stamped command for a shard.
    Command {
        /// The shard that decides it.
        shard: u16,
        /// The command, stamped.
        command: Command,
        /// Who waits for the answer; nobody for the system's own commands.
        answer: Option<AnswerFn>,
    },
    /// Asks to be told when everything that came before it is applied or refused.
    Settle(Box<dyn FnOnce() + Send>),
    /// Finish what was taken, then end.
    Stop,
}

/// One entry that is durable and applied by the core, on its way to the view.
pub struct Committed {
    /// Its shard.
    pub shard: u16,
    /// The term it was proposed in.
    pub term: u64,
    /// The entry.
    pub entry: Arc<Entry>,
}

/// What the core shares with the other threads.
pub struct Shared {
    /// The clock that stamps.
    pub clock: Arc<LeaderClock>,
    /// Commands between stamp and ring.
    pub stamps: Arc<Stamps>,
    /// The last entry of each shard whose answers may have been sent.
    pub applied: Box<[AtomicU64]>,
    /// The log has no room: commands are refused before they are sequenced.
    pub read_only: AtomicBool,
    /// The node takes no more commands because it stops.
    pub draining: AtomicBool,
    /// Bytes that were made durable in the log since the start.
    pub log_bytes: Arc<AtomicU64>,
    /// The thread of the core, to be woken when something was queued for it.
    pub core: Sleeper,
    /// The thread of the view, likewise.
    pub view: Sleeper,
}

/// A thread that sleeps when its queues are empty. Waking one that is awake costs no system call, and the queues'
/// own locks are never fought over with a thread that is just being woken.
#[derive(Debug, Default)]
pub struct Sleeper(OnceLock<Thread>);

impl Sleeper {
    /// To be called by the thread itself before it first looks into its queues.
    pub fn settle(&self) {
        self.0.set(std::thread::current()).expect("one thread sleeps here");
    }

    /// To be called after something was queued.
    pub fn wake(&self) {
        if let Some(thread) = self.0.get() {
            thread.unpark();
        }
    }
}

struct Pending {
    command: Command,
    answer: Option<AnswerFn>,
}

struct Shard {
    machine: Machine,
    /// Stamp of the last command that was proposed.
    stamp: LogTime,
    pending: VecDeque<Pending>,
    /// Proposed entries that are not yet applied, oldest first.
    waiting: VecDeque<Waiting>,
    /// How many of them hold commands that may bring a deadline forward.
    unsettled: u32,
    /// Commands taken from the ring, and those of them that were answered; tells when a `Settle` is due.
    taken: u64,
    done: u64,
}

/// Who waits for the commands of a proposed entry.
struct Waiting {
    index: u64,
    answers: Vec<Option<AnswerFn>>,
    unsettling: bool,
}

struct Settle {
    taken: Vec<u64>,
    tell: Box<dyn FnOnce() + Send>,
}

/// What a core is made of.
pub struct CoreParts {
    /// The state of all shards, by number.
    pub machines: Vec<Machine>,
    /// Where commands arrive.
    pub ring: Receiver<Submission>,
    /// What decides when an entry is committed.
    pub replicator: Box<dyn Replicator + Send>,
    /// What makes entries durable.
    pub log: LogThread,
    /// What seals their secret parts.
    pub sealer: Sealer,
    /// Where applied entries go.
    pub view: Sender<Committed>,
    /// What other threads read.
    pub shared: Arc<Shared>,
}

/// The core's state. [`Core::run`] is its thread.
pub struct Core {
    shards: Vec<Shard>,
    ring: Receiver<Submission>,
    replicator: Box<dyn Replicator + Send>,
    log: LogThread,
    sealer: Sealer,
    /// The buffers of the batch that the log doesn't hold.
    batch: Option<Batch>,
    ready: Ready,
    view: Sender<Committed>,
    shared: Arc<Shared>,
    /// The number of the batch that is being flushed.
    flight: Option<u64>,
    committed: VecDeque<Placed>,
    settles: Vec<Settle>,
    pending: usize,
    stopping: bool,
    clock_due: Instant,
    /// Not to write before: the log refused a batch for want of room.
    hold_until: Option<Instant>,
}

impl Core {
    /// A core whose shards hold what recovery found.
    pub fn new(parts: CoreParts) -> Self {
        let CoreParts { machines, ring, replicator, log, sealer, view, shared } = parts;
        let shards = machines
            .into_iter()
            .map(|machine| Shard {
                stamp: machine.now(),
                machine,
                pending: VecDeque::new(),
                waiting: VecDeque::new(),
                unsettled: 0,
                taken: 0,
                done: 0,
            })
            .collect();
        Self {
            shards,
            ring,
            replicator,
            log,
            sealer,
            batch: Some(Batch::new()),
            ready: Ready::default(),
            view,
            shared,
            flight: None,
            committed: VecDeque::new(),
            settles: Vec::new(),
            pending: 0,
            stopping: false,
            clock_due: Instant::now() + CLOCK_PERIOD,
            hold_until: None,
        }
    }

    /// Serves until `Stop` has come and everything taken before it is answered.
    pub fn run(mut self) {
        self.shared.core.settle();
        loop {
            self.wait();
            self.drain_ring();
            if self.flight.is_none() && !self.held() {
                // The disk works on the next batch while this thread applies the last one.
                self.write();
            }
            while let Some(placed) = self.committed.pop_front() {
                self.apply(placed);
            }
            self.tell_settled();
            self.keep_clock();
            if self.stopping && self.pending == 0 && self.flight.is_none() {
                break;
            }
        }
        // What reached the ring behind `Stop` was never sequenced.
        while let Ok(submission) = self.ring.try_recv() {
            if let Submission::Command { answer: Some(answer), .. } = submission {
                answer(Err(SubmitError::Draining));
            }
        }
        let shared = Arc::clone(&self.shared);
        drop(self);
        // With the core the view's queue has closed.
        shared.view.wake();
    }

    /// Sleeps until there is something to do: a command, a flush that ended, or a deadline.
    fn wait(&mut self) {
        if self.flight.is_none() && self.pending > 0 && !self.held() {
            self.drain_events();
            return;
        }
        let takes = self.pending < PENDING_MAX && !self.stopping;
        if self.log.events().is_empty() && (!takes || self.ring.is_empty()) {
            // Whoever queued something in the meantime has left a token that ends this at once.
            std::thread::park_timeout(self.time_to_deadline());
        }
        self.drain_events();
    }

    fn time_to_deadline(&self) -> Duration {
        let mut timeout = self.clock_due.saturating_duration_since(Instant::now());
        // With a batch in flight nothing can be written, however due it is; its end wakes this thread.
        if let Some(until) = self.hold_until {
            timeout = timeout.min(until.saturating_duration_since(Instant::now()));
        } else if self.flight.is_none() {
            for shard in &self.shards {
                if let Some(deadline) = shard.due_next() {
                    timeout = timeout.min(self.shared.clock.until(deadline));
                }
            }
        }
        timeout
    }

    fn held(&mut self) -> bool {
        let held = self.hold_until.is_some_and(|until| Instant::now() < until);
        if !held {
            self.hold_until = None;
        }
        held
    }

    fn drain_events(&mut self) {
        while let Ok(event) = self.log.events().try_recv() {
            self.event(event);
        }
    }

    fn drain_ring(&mut self) {
        while self.pending < PENDING_MAX && !self.stopping {
            match self.ring.try_recv() {
                Ok(submission) => self.take(submission),
                Err(TryRecvError::Empty) => break,
                Err(TryRecvError::Disconnected) => self.stopping = true,
            }
        }
    }

    fn take(&mut self, submission: Submission) {
        match submission {
            Submission::Command { shard, command, answer } => {
                if self.shared.read_only.load(Ordering::Relaxed) && answer.is_some() {
                    if let Some(answer) = answer {
                        answer(Err(SubmitError::ReadOnly));
                    }
                    return;
                }
                let shard = &mut self.shards[usize::from(shard)];
                shard.taken += 1;
                shard.pending.push_back(Pending { command, answer });
                self.pending += 1;
            }
            Submission::Settle(tell) => {
                let taken = self.shards.iter().map(|shard| shard.taken).collect();
                self.settles.push(Settle { taken, tell });
            }
            Submission::Stop => self.stopping = true,
        }
    }

    fn event(&mut self, event: LogEvent) {
        match event {
            LogEvent::Flushed { batch } => {
                self.flight = None;
                self.replicator.persisted(batch.ticket);
                self.batch = Some(batch);
                self.poll();
            }
            LogEvent::Refused { batch } => {
                self.flight = None;
                self.take_back(batch.ticket);
                self.batch = Some(batch);
                self.set_read_only(true);
            }
            LogEvent::ReadOnly => self.set_read_only(true),
            LogEvent::Writable => self.set_read_only(false),
            LogEvent::Failed { error } => stop_process(&format!(
                "the log could not be written or flushed: {error}. Nothing after the last answer is promised; check \
                 the disk, then start again"
            )),
        }
    }

    fn set_read_only(&mut self, read_only: bool) {
        if self.shared.read_only.swap(read_only, Ordering::Relaxed) == read_only {
            return;
        }
        metrics::gauge!("rt_read_only").set(f64::from(u8::from(read_only)));
        if read_only {
            tracing::error!("The disk is full: commands are refused with read_only, reads go on");
            // Deadlines stay: they may use the reserve. Everything that somebody waits for is refused.
            for shard in &mut self.shards {
                let pending = std::mem::take(&mut shard.pending);
                for mut pending in pending {
                    match pending.answer.take() {
                        Some(answer) => {
                            answer(Err(SubmitError::ReadOnly));
                            shard.done += 1;
                            self.pending -= 1;
                        }
                        None => shard.pending.push_back(pending),
                    }
                }
            }
        } else {
            tracing::info!("The disk has room again: commands are taken");
        }
    }

    /// Takes back a batch of which the log took nothing.
    fn take_back(&mut self, number: u64) {
        self.hold_until = Some(Instant::now() + HOLD);
        let mut refused = Vec::new();
        self.replicator.refused(number, &mut refused);
        // Newest first: they stand at the end of the queues, and their commands go back to the front.
        for placed in refused.into_iter().rev() {
            let shard = &mut self.shards[usize::from(placed.shard)];
            let waiting = shard.waiting.pop_back().expect("an entry that was proposed is waited for");
            assert_eq!(waiting.index, placed.entry.index, "entries are taken back newest first");
            shard.unsettled -= u32::from(waiting.unsettling);
            shard.stamp = shard.machine.now();
            let commands = Arc::unwrap_or_clone(placed.entry).commands;
            for (command, answer) in commands.into_iter().zip(waiting.answers).rev() {
                if let Some(answer) = answer {
                    answer(Err(SubmitError::ReadOnly));
                    shard.done += 1;
                } else if matches!(command.action, Action::Tick) {
                    // The deadline is still due and makes a tick of its own again.
                    shard.done += 1;
                } else {
                    shard.pending.push_front(Pending { command, answer: None });
                    self.pending += 1;
                }
            }
        }
    }

    /// Gives the log one batch of everything that is pending or due.
    fn write(&mut self) {
        let mut now = self.shared.clock.now();
        if self.shards.iter().any(|shard| shard.unsettled > 0 || shard.due(now)) {
            // A deadline is written after every command that was stamped before it.
            if !self.shared.stamps.wait_before(now) {
                tracing::error!("A stamped command never reached the core; the deadline goes on without it");
            }
            self.drain_ring();
        } else {
            now = self.shared.clock.now();
        }
        let mut commands_total = 0;
        let mut control = true;
        for (number, shard) in self.shards.iter_mut().enumerate() {
            if shard.pending.is_empty() && !shard.due(now) {
                continue;
            }
            let before = shard.pending.len();
            let Some((commands, mut waiting)) = shard.next_commands(now) else { continue };
            self.pending -= before - shard.pending.len();
            commands_total += commands.len() as u64;
            control &= waiting.answers.iter().all(Option::is_none);
            waiting.index =
                self.replicator.propose(number as u16, commands).expect("this node leads all its shards");
            shard.waiting.push_back(waiting);
        }
        if commands_total == 0 {
            return;
        }
        metrics::counter!("rt_batches_total").increment(1);
        metrics::counter!("rt_batch_commands_total").increment(commands_total);
        let alone = commands_total == 1 && self.pending == 0;
        self.persist(if control { Class::Control } else { Class::Ordinary }, alone);
    }

    /// Makes what was proposed durable: on the log thread, so that this one applies and gathers meanwhile; or right
    /// here where it could only wait.
    fn persist(&mut self, class: Class, alone: bool) {
        self.poll();
        let alone = alone && self.committed.is_empty();
        let mut batch = self.batch.take().unwrap_or_default();
        batch.clear();
        batch.class = class;
        batch.ticket = self.ready.number;
        let encoded = self
            .ready
            .to_persist
            .iter()
            .try_for_each(|placed| batch.push_entry(placed.shard, placed.term, &placed.entry, &self.sealer));
        if let Err(error) = encoded {
            // A key could not be made or read: nothing of the batch is written, and its senders are told so.
            tracing::error!("A batch could not be encoded for the log: {error}");
            self.take_back(batch.ticket);
            self.batch = Some(batch);
            return;
        }
        self.shared.log_bytes.fetch_add(batch.bytes_len() as u64, Ordering::Relaxed);
        self.flight = Some(batch.ticket);
        if alone {
            match self.log.append_here(batch) {
                Ok(event) => return self.event(event),
                Err(back) => batch = back,
            }
        }
        if self.log.submit(batch).is_err() {
            stop_process("the log thread ended");
        }
    }

    fn poll(&mut self) {
        self.ready.clear();
        self.replicator.poll(&mut self.ready);
        self.committed.extend(self.ready.committed.drain(..));
    }

    fn apply(&mut self, placed: Placed) {
        let Placed { shard: number, term, entry } = placed;
        let shard = &mut self.shards[usize::from(number)];
        let mut replies = Replies { replies: Vec::with_capacity(entry.commands.len()) };
        let applied = catch_unwind(AssertUnwindSafe(|| {
            shard.machine.apply(&entry, &mut replies);
            shard.machine.maintain();
        }));
        if applied.is_err() {
            // The entry is durable, so the next start meets the same panic, passes the command by and says so.
            stop_process(&format!(
                "applying command {} of entry {} of shard {number} panicked; it is answered to nobody and passed by \
                 at the next start",
                replies.replies.len(),
                entry.index,
            ));
        }
        let waiting = shard.waiting.pop_front().expect("an entry that was proposed is waited for");
        assert_eq!(waiting.index, entry.index, "entries are committed in order");
        assert_eq!(replies.replies.len(), waiting.answers.len(), "one reply a command");
        shard.unsettled -= u32::from(waiting.unsettling);
        self.shared.applied[usize::from(number)].store(entry.index, Ordering::Release);
        for (answer, reply) in waiting.answers.into_iter().zip(replies.replies) {
            if let Some(answer) = answer {
                answer(Ok(reply));
            }
            shard.done += 1;
        }
        // Only now: on the bidder's own socket the answer comes before the step it caused.
        if self.view.send(Committed { shard: number, term, entry }).is_err() {
            stop_process("the view thread ended");
        }
        self.shared.view.wake();
    }

    fn tell_settled(&mut self) {
        let shards = &self.shards;
        let settled =
            |settle: &mut Settle| settle.taken.iter().zip(shards).all(|(taken, shard)| shard.done >= *taken);
        for settle in self.settles.extract_if(.., settled) {
            (settle.tell)();
        }
    }

    fn keep_clock(&mut self) {
        if Instant::now() < self.clock_due {
            return;
        }
        self.clock_due = Instant::now() + CLOCK_PERIOD;
        if let Some(jump_ms) = self.shared.clock.adjust() {
            metrics::counter!("rt_clock_jumps_total").increment(1);
            tracing::warn!(clock.jump_ms = jump_ms, "The wall clock jumped; stamps follow it slowly");
        }
        metrics::gauge!("rt_ring_depth").set(self.ring.len() as f64);
    }
}

impl Shard {
    /// The next deadline, unless a written command stands behind it already.
    fn due_next(&self) -> Option<LogTime> {
        self.machine.next_deadline().filter(|deadline| *deadline > self.stamp)
    }

    fn due(&self, now: LogTime) -> bool {
        self.due_next().is_some_and(|deadline| deadline <= now)
    }

    /// The commands of this shard's next entry: what is pending, in order of arrival, or in order of stamps where a deadline may
    /// lie between; and a tick where a deadline is due and no command stands behind it.
    fn next_commands(&mut self, now: LogTime) -> Option<(Vec<Command>, Waiting)> {
        if self.due(now) || self.unsettled > 0 {
            self.pending.make_contiguous().sort_by_key(|pending| pending.command.envelope.at);
        }
        let due = self.due_next().filter(|deadline| *deadline <= now);
        let mut commands = Vec::with_capacity(self.pending.len().min(BATCH_COMMANDS) + 1);
        let mut answers = Vec::with_capacity(commands.capacity());
        let mut bytes = 0;
        let mut unsettling = false;
        while let Some(next) = self.pending.front() {
            // One that was stamped after `now` may stand behind a deadline that another, still on its way, precedes.
            if next.command.envelope.at > now || commands.len() == BATCH_COMMANDS {
                break;
            }
            bytes += size(&next.command);
            if bytes > BATCH_BYTES && !commands.is_empty() {
                break;
            }
            let Some(Pending { mut command, answer }) = self.pending.pop_front() else { break };
            self.stamp = self.stamp.max(command.envelope.at);
            command.envelope.at = self.stamp;
            self.machine.conceal(&mut command);
            unsettling |= may_bring_a_deadline_forward(&command.action);
            commands.push(command);
            answers.push(answer);
        }
        if due.is_some_and(|deadline| deadline > self.stamp) {
            self.stamp = now;
            commands.push(system_command(Action::Tick, now));
            answers.push(None);
            self.taken += 1;
            unsettling = true;
        }
        if commands.is_empty() {
            return None;
        }
        self.unsettled += u32::from(unsettling);
        Some((commands, Waiting { index: 0, answers, unsettling }))
    }
}

/// A command of the system itself. It is salted, because it may open a tender whose numbers are drawn.
pub fn system_command(action: Action, at: LogTime) -> Command {
    Command { envelope: Envelope { at, salt: super::salt(), ..Envelope::default() }, action, secret: None }
}

/// Bids only move ends later; everything else may open or end something earlier than was known.
fn may_bring_a_deadline_forward(action: &Action) -> bool {
    !matches!(action, Action::Bid { .. } | Action::Account(_))
}

fn size(command: &Command) -> usize {
    wincode::serialized_size(command).map_or(BATCH_BYTES, |size| size as usize)
}

/// Ends the process: going on could break a promise. Standard error and the log say why.
pub fn stop_process(reason: &str) -> ! {
    tracing::error!("Stopping: {reason}");
    eprintln!("reversetender: stopping: {reason}");
    std::process::exit(70)
}

/// Collects the replies of one entry; they are sent when all of it is applied.
struct Replies {
    replies: Vec<Reply>,
}

impl Sink for Replies {
    fn reply(&mut self, position: usize, reply: &Reply) {
        debug_assert_eq!(position, self.replies.len(), "replies come in order");
        self.replies.push(reply.clone());
    }
}
