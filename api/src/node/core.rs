//! The core: the one thread that orders commands, logs them in batches and applies what is durable.
//!
//! It owns the [`Sequencer`] and never waits for a disk, a reader or a socket: the log thread flushes one batch while
//! the next one gathers, and the view thread serves everybody who only looks.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};
use std::thread::Thread;
use std::time::{Duration, Instant};

use crossbeam::channel::{Receiver, Sender, TryRecvError};
use engine::LogTime;
use persistence::{Batch, LogEvent, LogThread, Replicator, Sealer};

use super::SubmitError;
use super::clock::LeaderClock;
use super::door::Gates;
use super::machine::Machine;
use super::sequencer::{Committed, Received, Sequencer, Submission, Surroundings};

/// How often the clock is drawn towards the wall clock.
const CLOCK_PERIOD: Duration = Duration::from_secs(1);

/// What the core shares with the other threads.
pub struct Shared {
    /// The clock that stamps.
    pub clock: Arc<LeaderClock>,
    /// What decides whether commands are taken, and which are between stamp and ring.
    pub gates: Arc<Gates>,
    /// The last entry of each shard whose answers may have been sent.
    pub applied: Box<[AtomicU64]>,
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

/// The threads around the sequencer.
struct Threads {
    origin: Instant,
    ring: Receiver<Submission>,
    log: LogThread,
    view: Sender<Committed>,
    shared: Arc<Shared>,
}

impl Surroundings for Threads {
    fn now(&self) -> LogTime {
        self.shared.clock.now()
    }

    fn uptime(&self) -> Duration {
        self.origin.elapsed()
    }

    fn receive(&mut self) -> Received {
        match self.ring.try_recv() {
            Ok(submission) => Received::Submission(submission),
            Err(TryRecvError::Empty) => Received::Nothing,
            Err(TryRecvError::Disconnected) => Received::Closed,
        }
    }

    fn wait_before(&mut self, time: LogTime) -> bool {
        self.shared.gates.stamps.wait_before(time)
    }

    fn append(&mut self, mut batch: Batch, alone: bool) -> Option<LogEvent> {
        self.shared.log_bytes.fetch_add(batch.bytes_len() as u64, Ordering::Relaxed);
        if alone {
            match self.log.append_here(batch) {
                Ok(event) => return Some(event),
                Err(back) => batch = back,
            }
        }
        if self.log.submit(batch).is_err() {
            stop_process("the log thread ended");
        }
        None
    }

    fn applied(&mut self, shard: u16, index: u64) {
        self.shared.applied[usize::from(shard)].store(index, Ordering::Release);
    }

    fn committed(&mut self, committed: Committed) {
        if self.view.send(committed).is_err() {
            stop_process("the view thread ended");
        }
        self.shared.view.wake();
    }

    fn read_only(&self) -> bool {
        self.shared.gates.read_only.load(Ordering::Relaxed)
    }

    fn set_read_only(&mut self, read_only: bool) {
        self.shared.gates.read_only.store(read_only, Ordering::Relaxed);
    }

    fn salt(&self) -> [u8; 16] {
        super::salt()
    }

    fn stop(&self, reason: &str) -> ! {
        stop_process(reason)
    }
}

/// The sequencer and what wakes it. [`Core::run`] is its thread.
pub struct Core {
    sequencer: Sequencer<Threads>,
    clock_due: Instant,
}

impl Core {
    /// A core whose shards hold what recovery found.
    pub fn new(parts: CoreParts) -> Self {
        let CoreParts { machines, ring, replicator, log, sealer, view, shared } = parts;
        let origin = Instant::now();
        let threads = Threads { origin, ring, log, view, shared };
        let sequencer = Sequencer::new(machines, replicator, sealer, threads);
        Self { sequencer, clock_due: origin + CLOCK_PERIOD }
    }

    /// Serves until `Stop` has come and everything taken before it is answered.
    pub fn run(mut self) {
        self.threads().shared.core.settle();
        loop {
            self.wait();
            self.sequencer.turn();
            self.keep_clock();
            if self.sequencer.is_finished() {
                break;
            }
        }
        // What reached the ring behind `Stop` was never sequenced.
        while let Ok(submission) = self.threads().ring.try_recv() {
            if let Submission::Command { answer: Some(answer), .. } = submission {
                answer(Err(SubmitError::Draining));
            }
        }
        let shared = Arc::clone(&self.threads().shared);
        drop(self);
        // With the core the view's queue has closed.
        shared.view.wake();
    }

    fn threads(&self) -> &Threads {
        self.sequencer.surroundings()
    }

    /// Sleeps until there is something to do: a command, a flush that ended, or a deadline.
    fn wait(&mut self) {
        if !self.sequencer.has_work() {
            let takes = self.sequencer.takes();
            let threads = self.threads();
            if threads.log.events().is_empty() && (!takes || threads.ring.is_empty()) {
                // Whoever queued something in the meantime has left a token that ends this at once.
                std::thread::park_timeout(self.time_to_deadline());
            }
        }
        while let Ok(event) = self.threads().log.events().try_recv() {
            self.sequencer.event(event);
        }
    }

    fn time_to_deadline(&self) -> Duration {
        let threads = self.threads();
        let mut timeout = self.clock_due.saturating_duration_since(Instant::now());
        if let Some(until) = self.sequencer.held_until() {
            timeout = timeout.min(until.saturating_sub(threads.uptime()));
        } else if let Some(deadline) = self.sequencer.next_deadline() {
            timeout = timeout.min(threads.shared.clock.until(deadline));
        }
        timeout
    }

    fn keep_clock(&mut self) {
        if Instant::now() < self.clock_due {
            return;
        }
        self.clock_due = Instant::now() + CLOCK_PERIOD;
        let threads = self.threads();
        if let Some(jump_ms) = threads.shared.clock.adjust() {
            metrics::counter!("rt_clock_jumps_total").increment(1);
            tracing::warn!(clock.jump_ms = jump_ms, "The wall clock jumped; stamps follow it slowly");
        }
        metrics::gauge!("rt_ring_depth").set(threads.ring.len() as f64);
    }
}

/// Ends the process: going on could break a promise. Standard error and the log say why.
pub fn stop_process(reason: &str) -> ! {
    tracing::error!("Stopping: {reason}");
    eprintln!("reversetender: stopping: {reason}");
    std::process::exit(70)
}
