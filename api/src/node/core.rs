//! The core: the one thread that orders commands, logs them in batches and applies what is durable.
//!
//! It owns the [`Sequencer`] and never waits for a disk, a reader or a socket: the log thread flushes one batch while
//! the next one gathers, and the view thread serves everybody who only looks.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};
use std::thread::Thread;
use std::time::{Duration, Instant};

use crossbeam::channel::{Receiver, Sender, TryRecvError};
use engine::{Command, LogTime, Reply};
use persistence::peers::{Arrival, Frame, FrameKind};
use persistence::raft::GroupStatus;
use persistence::{Batch, Change, Lead, LogEvent, LogThread, Message, RealDisk, Replicator, Sealer, SkipMark};

use super::SubmitError;
use super::clock::LeaderClock;
use super::cluster::{Links, TICK};
use super::door::Gates;
use super::forward::{self, Forwards};
use super::machine::{Machine, SYSTEM_SHARD};
use super::replay::Poison;
use super::sequencer::{Committed, Elsewhere, Received, Sequencer, Submission, Surroundings};
use super::view::tender_shard;

/// How often the clock is drawn towards the wall clock.
const CLOCK_PERIOD: Duration = Duration::from_secs(1);
/// Most frames of other nodes that are taken before the sequencer's next turn.
const ARRIVALS_A_TURN: usize = 256;
/// Ticks between two looks at how the groups are doing.
const BOARD_TICKS: u32 = 5;
/// How far a wall clock may be from the median of all nodes, in milliseconds, for its node to lead.
const CLOCK_TOLERANCE_MS: i64 = 500;
/// Ticks between two looks at the others' clocks.
const CLOCKS_TICKS: u32 = 25;
/// How long a node that stops tries to give its leads away.
const HAND_OVER: Duration = Duration::from_millis(1_500);

/// What the core shares with the other threads.
pub struct Shared {
    /// The clock that stamps.
    pub clock: Arc<LeaderClock>,
    /// What decides whether commands are taken, and which are between stamp and ring.
    pub gates: Arc<Gates>,
    /// The last entry of each shard whose answers may have been sent.
    pub applied: Box<[AtomicU64]>,
    /// Bytes that were made durable in the log since the start, and those behind the snapshot before.
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
    /// The other nodes, where there are any.
    pub links: Option<Links>,
    /// Commands that panicked, to be logged as passed by where nodes take turns in leading.
    pub poison: Vec<Poison>,
}

/// The threads around the sequencer.
struct Threads {
    origin: Instant,
    ring: Receiver<Submission>,
    log: LogThread,
    view: Sender<Committed>,
    shared: Arc<Shared>,
    cluster: Option<Cluster>,
}

/// What the core keeps where there are other nodes.
struct Cluster {
    links: Links,
    forwards: Forwards,
    /// Who leads each shard, and in which term.
    leads: Vec<(Lead, u64)>,
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

    fn poisoned(&self, mark: SkipMark) {
        // A node alone meets it again in its replay.
        let Some(cluster) = &self.cluster else { return };
        if let Err(error) = persistence::note_poison(&RealDisk, &cluster.links.data, mark) {
            tracing::error!("The command can't be noted and will stop the node again: {error}");
        }
    }

    fn send(&mut self, message: Message) {
        let Some(Cluster { links, .. }) = &self.cluster else { return };
        let Message { peer, shard, bytes } = message;
        // What is dropped is sent again by replication, in its own time.
        links.peers.send(peer, Frame { kind: FrameKind::Raft, shard, bytes });
    }

    fn elsewhere(&mut self, elsewhere: Elsewhere) {
        let now = self.uptime();
        match &mut self.cluster {
            // One hop: what another node sent goes back there.
            Some(cluster) if elsewhere.command.envelope.node == cluster.links.board.node => {
                cluster.forwards.add(elsewhere, now);
            }
            _ => {
                if let Some(answer) = elsewhere.answer {
                    answer(Err(SubmitError::NotLeader));
                }
            }
        }
    }

    fn decided(&mut self, command: &Command, reply: &Reply) {
        if let Some(Cluster { links, forwards, .. }) = &mut self.cluster
            && command.envelope.node == links.board.node
        {
            forwards.decided(command.envelope.request, reply);
        }
    }

    fn led(&mut self, change: Change) {
        let Some(Cluster { links, leads, .. }) = &mut self.cluster else { return };
        let Change { shard, lead, term, planned } = change;
        leads[usize::from(shard)] = (lead, term);
        let who = match lead {
            Lead::Me => "this node",
            Lead::Other(node) => links.board.name_of(node),
            Lead::Nobody => "nobody",
        };
        tracing::info!(shard, term, planned, "Shard {shard} is led by {who} in term {term}");
        let led = leads.iter().filter(|(lead, _)| *lead == Lead::Me).count();
        metrics::gauge!("rt_shards_led").set(led as f64);
    }

    fn anchor(&mut self, last: LogTime) {
        let stamps = |cluster: &Cluster| cluster.leads.iter().any(|(lead, _)| *lead == Lead::Me);
        // While it stamps for another shard, no jump of the wall clock changes its stamps.
        let wall = !self.cluster.as_ref().is_some_and(stamps);
        self.shared.clock.anchor(last, wall);
    }
}

/// The sequencer and what wakes it. [`Core::run`] is its thread.
pub struct Core {
    sequencer: Sequencer<Threads>,
    clock_due: Instant,
    tick_due: Instant,
    ticks: u32,
    /// Whether it stands aside because of its clock.
    aside: bool,
    /// When it began to give its leads away, to stop.
    leaving: Option<Instant>,
}

impl Core {
    /// A core whose shards hold what recovery found.
    pub fn new(parts: CoreParts) -> Self {
        let CoreParts { machines, ring, replicator, log, sealer, view, shared, links, poison } = parts;
        let origin = Instant::now();
        let leads = vec![(Lead::Nobody, 0); machines.len()];
        let cluster = links.map(|links| Cluster { links, forwards: Forwards::default(), leads });
        let threads = Threads { origin, ring, log, view, shared, cluster };
        let sequencer = Sequencer::new(machines, replicator, sealer, threads).with_poison(poison);
        Self {
            sequencer,
            clock_due: origin + CLOCK_PERIOD,
            tick_due: origin,
            ticks: 0,
            aside: false,
            leaving: None,
        }
    }

    /// Serves until `Stop` has come and everything taken before it is answered.
    pub fn run(mut self) {
        self.threads().shared.core.settle();
        loop {
            self.wait();
            self.arrivals();
            self.sequencer.turn();
            self.keep_clock();
            self.tick();
            if self.sequencer.is_finished() && self.has_left() {
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
            let arrived = threads.cluster.as_ref().is_some_and(|cluster| !cluster.links.arrivals.is_empty());
            if threads.log.events().is_empty() && (!takes || threads.ring.is_empty()) && !arrived {
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
        let due = if threads.cluster.is_some() { self.clock_due.min(self.tick_due) } else { self.clock_due };
        let mut timeout = due.saturating_duration_since(Instant::now());
        if let Some(until) = self.sequencer.held_until() {
            timeout = timeout.min(until.saturating_sub(threads.uptime()));
        } else if let Some(deadline) = self.sequencer.next_deadline() {
            timeout = timeout.min(threads.shared.clock.until(deadline));
        }
        timeout
    }

    /// Takes what other nodes sent.
    fn arrivals(&mut self) {
        for _ in 0..ARRIVALS_A_TURN {
            let Some(cluster) = &self.threads().cluster else { return };
            let Ok(arrival) = cluster.links.arrivals.try_recv() else { return };
            match arrival {
                Arrival::Frame { from, frame: Frame { kind: FrameKind::Raft, shard, bytes } } => {
                    if let Err(error) = self.sequencer.step(Message { peer: from, shard, bytes }) {
                        tracing::debug!(from, shard, "A message of replication was dropped: {error}");
                    }
                }
                Arrival::Frame { from, frame: Frame { kind: FrameKind::Command, shard, bytes } } => {
                    self.take_passed(from, shard, &bytes);
                }
                Arrival::Frame { from, frame: Frame { kind: FrameKind::NotTaken, bytes, .. } } => {
                    match (forward::read_not_taken(&bytes), &mut self.sequencer.surroundings_mut().cluster) {
                        (Some((request, why)), Some(cluster)) => cluster.forwards.refused(request, why),
                        _ => tracing::warn!(from, "A refusal of another node can't be read"),
                    }
                }
                Arrival::Frame { from, frame } => {
                    tracing::warn!(from, "A frame of kind {:?} is not known here", frame.kind);
                }
                Arrival::Connected { hello } => tracing::info!("Node {} is linked", hello.name),
                Arrival::Lost { node } => self.sequencer.unreachable(node),
            }
        }
    }

    /// Takes a command that another node passed on, or says why not. It is stamped here.
    fn take_passed(&mut self, from: u16, shard: u16, bytes: &[u8]) {
        let takes = self.sequencer.takes();
        let threads = self.threads();
        let Some(cluster) = &threads.cluster else { return };
        let tender_shards = cluster.leads.len() as u16 - 1;
        let is_of = |command: &Command| {
            let place = command.action.tender().map_or(SYSTEM_SHARD, |tender| tender_shard(tender, tender_shards));
            command.envelope.node == from && place == shard
        };
        let Some((term, mut command)) = forward::read_passed(bytes).filter(|(_, command)| is_of(command)) else {
            tracing::warn!(from, shard, "A command of another node can't be read, or is not its own");
            return;
        };
        let request = command.envelope.request;
        let peers = Arc::clone(&cluster.links.peers);
        let refuse = move |why| {
            if let Some(frame) = forward::not_taken(shard, request, why) {
                peers.send(from, frame);
            }
        };
        let gates = &threads.shared.gates;
        if cluster.leads[usize::from(shard)] != (Lead::Me, term) {
            refuse(SubmitError::NotLeader);
        } else if gates.draining.load(Ordering::Relaxed) {
            refuse(SubmitError::Draining);
        } else if !takes {
            refuse(SubmitError::Busy);
        } else {
            command.envelope.at = threads.shared.clock.now();
            command.envelope.salt = threads.salt();
            // What was decided its sender learns from the entry, which it applies as well.
            let answer = move |result: Result<Reply, SubmitError>| result.map_or_else(refuse, |_| ());
            self.sequencer.take(Submission::Command { shard, command, answer: Some(Box::new(answer)) });
        }
    }

    /// A tick of the election clock, when one is due.
    fn tick(&mut self) {
        let now = Instant::now();
        if self.threads().cluster.is_none() {
            return;
        }
        self.pass_on();
        if now < self.tick_due {
            return;
        }
        // One, however late: a node that stood still must not think that all others did.
        self.tick_due = now + TICK;
        self.ticks += 1;
        self.sequencer.tick();
        if self.ticks.is_multiple_of(CLOCKS_TICKS) {
            self.compare_clocks();
        }
        if self.ticks.is_multiple_of(BOARD_TICKS) {
            let shards = 0..self.sequencer.machines().len() as u16;
            let groups: Vec<GroupStatus> = shards.filter_map(|shard| self.sequencer.group(shard)).collect();
            if let Some(cluster) = &self.threads().cluster {
                for (shard, group) in groups.iter().enumerate() {
                    if let (Some((from, _)), true) = (group.wanted, self.ticks.is_multiple_of(500)) {
                        tracing::error!(
                            "Shard {shard} needs a snapshot of node {}: this node was away for longer than the others                              keep their entries, and it can't fetch one yet",
                            cluster.links.board.name_of(from)
                        );
                    }
                }
                metrics::gauge!("rt_forwards_waiting").set(cluster.forwards.len() as f64);
                cluster.links.board.update(groups);
            }
        }
    }

    /// Leads nothing while its clock is far from the others': it would stamp bids and close lots by a wrong time, and time
    /// never runs back.
    fn compare_clocks(&mut self) {
        let off = self.threads().cluster.as_ref().and_then(|cluster| cluster.links.board.clock_off_by());
        // With too few to compare with, what was known stands.
        let Some(ms) = off else { return };
        metrics::gauge!("rt_clock_off_ms").set(ms as f64);
        let aside = ms.abs() > CLOCK_TOLERANCE_MS;
        if aside == self.aside {
            return;
        }
        self.aside = aside;
        self.sequencer.stand_aside(aside);
        if aside {
            tracing::error!(
                clock.off_ms = ms,
                "This node's clock is {ms} ms from the median of all nodes: it gives its leads away and takes none until \
                 the clock is right"
            );
        } else {
            tracing::info!(clock.off_ms = ms, "This node's clock is right: it may lead");
        }
    }

    /// Passes commands on to who leads their shards.
    fn pass_on(&mut self) {
        let threads = self.sequencer.surroundings_mut();
        let (now, at) = (threads.uptime(), threads.now());
        let Some(Cluster { links, forwards, leads }) = &mut threads.cluster else { return };
        if forwards.len() == 0 {
            return;
        }
        let place = |shard: u16| leads[usize::from(shard)];
        let taken = forwards.turn(
            now,
            |shard| place(shard).0,
            |to, shard, command| {
                let frame = forward::passed_on(shard, place(shard).1, command);
                frame.is_some_and(|frame| links.peers.send(to, frame))
            },
        );
        for (shard, mut command, answer) in taken {
            command.envelope.at = at;
            self.sequencer.take(Submission::Command { shard, command, answer });
        }
    }

    /// Whether a node that stops has given its leads to others, or has tried for long enough.
    fn has_left(&mut self) -> bool {
        let Some(cluster) = &self.threads().cluster else { return true };
        let leads = cluster.leads.iter().any(|(lead, _)| *lead == Lead::Me);
        match self.leaving {
            None => {
                self.leaving = Some(Instant::now());
                self.sequencer.hand_over(|status| {
                    let heard = status.followers.iter().filter(|(_, _, heard)| *heard);
                    heard.max_by_key(|(_, matched, _)| *matched).map(|(node, ..)| *node)
                });
                !leads
            }
            Some(since) => !leads || since.elapsed() > HAND_OVER,
        }
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
