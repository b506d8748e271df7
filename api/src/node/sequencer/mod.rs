//! The sequencer: orders commands, makes batches of them, and applies what is committed. Every promise about order, time,
//! answers and full disks is kept here.
//!
//! It is stepped and never waits: clock, log, ring, readers and the other nodes are its [`Surroundings`]. In the
//! program those are threads ([`super::core`]); in the simulator they are a seed. Which entries are committed, and who
//! leads a shard, a [`Replicator`] says: of one node, or of several.

mod apply;
mod seals;
mod take;
#[cfg(test)]
mod tests;
mod write;

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use engine::{Action, Command, Entry, Envelope, LogTime, Reply};
use persistence::raft::GroupStatus;
use persistence::{
    Batch, Change, Lead, LogEvent, Message, Placed, Ready, ReplicationError, Replicator, Sealer, SkipMark,
};

use self::seals::Seals;
use super::SubmitError;
use super::machine::Machine;
use super::replay::Poison;

/// Most commands of one shard in one batch.
const BATCH_COMMANDS: usize = 512;
/// Most bytes of one shard in one batch; a larger command travels alone.
const BATCH_BYTES: usize = 64 << 10;
/// Most commands taken from the ring and not yet written; then the ring fills, and the edge answers `busy`.
const PENDING_MAX: usize = 8_192;
/// How long is waited for whoever the lead is being given to, or for commits, when nothing can be proposed.
const PROPOSE_RETRY: Duration = Duration::from_millis(2);
/// How long a refused batch waits for room before it is tried again.
const HOLD: Duration = Duration::from_millis(100);
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
    /// Kept snapshots cover the shards up to these indexes: replication may forget what comes before.
    Covered(Vec<u64>),
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

/// What a sequencer has around it.
pub trait Surroundings {
    /// The leader's time.
    fn now(&self) -> LogTime;
    /// Time since some instant, for pauses; no jump of any clock changes it.
    fn uptime(&self) -> Duration;
    /// The next of what has arrived.
    fn receive(&mut self) -> Received;
    /// Waits until everything that was stamped before `time` can be received. False if something never came.
    fn wait_before(&mut self, time: LogTime) -> bool;
    /// Makes a batch durable, and says so by [`Sequencer::event`] or, when it was done at once, as the answer. With
    /// `alone` there is nothing to do meanwhile.
    fn append(&mut self, batch: Batch, alone: bool) -> Option<LogEvent>;
    /// The last entry of a shard whose answers may be sent from now on.
    fn applied(&mut self, shard: u16, index: u64);
    /// Takes an entry whose answers were sent.
    fn committed(&mut self, committed: Committed);
    /// Whether the log has no room for commands.
    fn read_only(&self) -> bool;
    /// Changes that.
    fn set_read_only(&mut self, read_only: bool);
    /// What nobody can guess; for commands of the system.
    fn salt(&self) -> [u8; 16];
    /// Ends the process: going on could break a promise.
    fn stop(&self, reason: &str) -> !;
    /// A committed command panicked when it was applied: the process ends, and the next one is to know of it.
    fn poisoned(&self, _mark: SkipMark) {}

    // What follows is asked where there are several nodes.

    /// Sends a message to another node. It may be lost.
    fn send(&mut self, message: Message) {
        unreachable!("one node alone has nobody to send to: {} bytes", message.bytes.len());
    }

    /// Takes a command, certainly not taken here, of a shard that another node leads, or nobody.
    fn elsewhere(&mut self, command: Elsewhere) {
        if let Some(answer) = command.answer {
            answer(Err(SubmitError::NotLeader));
        }
    }

    /// A command that was proposed by another node, or earlier, is decided.
    fn decided(&mut self, _command: &Command, _reply: &Reply) {}

    /// Who leads a shard from now on. What earlier terms committed is applied.
    fn led(&mut self, _change: Change) {}

    /// This node begins to lead a shard whose last stamp is `last`: the leader's time is no earlier from now on.
    fn anchor(&mut self, _last: LogTime) {}
}

/// A command of a shard that this node does not lead.
pub struct Elsewhere {
    /// The shard.
    pub shard: u16,
    /// Who leads it, if that is known.
    pub leader: Option<u16>,
    /// The command, with the stamp it got here.
    pub command: Command,
    /// Who waits for the answer.
    pub answer: Option<AnswerFn>,
}

/// What arrived.
#[allow(clippy::large_enum_variant)] // As for what it holds.
pub enum Received {
    /// This.
    Submission(Submission),
    /// Nothing for now.
    Nothing,
    /// Nothing any more.
    Closed,
}

struct Pending {
    command: Command,
    answer: Option<AnswerFn>,
}

struct Shard {
    machine: Machine,
    /// Who leads it. Commands are taken, and deadlines kept, where that is this node.
    lead: Lead,
    term: u64,
    /// Commands that panicked here, and where; to be logged as passed by in every term of this node until they are.
    poison: Vec<Poison>,
    /// To be logged before anything else of this node's term; whether the lead was given to it.
    takeover: Option<bool>,
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
    term: u64,
    answers: Vec<Option<AnswerFn>>,
    unsettling: bool,
}

struct Settle {
    taken: Vec<u64>,
    tell: Box<dyn FnOnce() + Send>,
}

/// The sequencer's state.
pub struct Sequencer<S> {
    shards: Vec<Shard>,
    replicator: Box<dyn Replicator + Send>,
    /// Whether there are other nodes.
    replicates: bool,
    seals: Seals,
    /// What is to be made durable by the next flush.
    gather: Batch,
    /// The first of replication's numbers that it holds; 0 while it is empty.
    gather_from: u64,
    /// Whether it may use the space that is kept for the system's own.
    control: bool,
    /// The buffers of a batch that the log gave back.
    spare: Option<Batch>,
    ready: Ready,
    /// The first number of the batch that is being flushed.
    flight: Option<u64>,
    committed: VecDeque<Placed>,
    /// Who leads, to be heeded when everything that was committed is applied.
    changes: Vec<Change>,
    /// Replication has something to say.
    stirred: bool,
    settles: Vec<Settle>,
    pending: usize,
    pending_max: usize,
    stopping: bool,
    /// Nothing is written before this [`Surroundings::uptime`]: the log refused a batch for want of room, or nothing
    /// could be proposed.
    hold_until: Option<Duration>,
    surroundings: S,
}

impl<S: Surroundings> Sequencer<S> {
    /// A sequencer whose shards hold what recovery found, by number.
    pub fn new(
        machines: Vec<Machine>,
        replicator: Box<dyn Replicator + Send>,
        sealer: Sealer,
        surroundings: S,
    ) -> Self {
        let shard = |(number, machine): (usize, Machine)| Shard {
            lead: replicator.lead(number as u16),
            term: replicator.term(number as u16),
            ..Shard::new(machine)
        };
        Self {
            shards: machines.into_iter().enumerate().map(shard).collect(),
            replicates: replicator.status(0).is_some(),
            replicator,
            seals: Seals::new(sealer),
            gather: Batch::new(),
            gather_from: 0,
            control: true,
            spare: None,
            ready: Ready::default(),
            flight: None,
            committed: VecDeque::new(),
            changes: Vec::new(),
            stirred: false,
            settles: Vec::new(),
            pending: 0,
            pending_max: PENDING_MAX,
            stopping: false,
            hold_until: None,
            surroundings,
        }
    }

    /// Takes at most `commands` from the ring that are not yet written, in place of 8192.
    #[must_use]
    pub fn with_pending_max(mut self, commands: usize) -> Self {
        self.pending_max = commands;
        self
    }

    /// Logs, where several nodes take turns in leading, that these commands were passed by. Their machines know already.
    #[must_use]
    pub fn with_poison(mut self, poison: Vec<Poison>) -> Self {
        for (mark, place) in poison {
            self.shards[usize::from(mark.shard)].poison.push((mark, place));
        }
        self
    }

    /// What is around it.
    pub fn surroundings(&self) -> &S {
        &self.surroundings
    }

    /// The same, to be changed.
    pub fn surroundings_mut(&mut self) -> &mut S {
        &mut self.surroundings
    }

    /// The states that decide, by shard.
    pub fn machines(&self) -> impl ExactSizeIterator<Item = &Machine> {
        self.shards.iter().map(|shard| &shard.machine)
    }

    /// How a shard's replication is doing; none where there is one node.
    pub fn group(&self, shard: u16) -> Option<GroupStatus> {
        self.replicator.status(shard)
    }

    /// Takes what has arrived, hands the log one batch of it and of what is due, and applies what is committed.
    pub fn turn(&mut self) {
        self.drain();
        if self.stirred {
            self.poll();
        }
        if self.flight.is_none() && !self.held() {
            // The disk works on the next batch while this thread applies the last one.
            self.write();
        }
        while let Some(placed) = self.committed.pop_front() {
            self.apply(placed);
        }
        self.heed_changes();
        self.tell_settled();
    }

    /// Takes a message of another node; what follows from it comes with the next turn.
    ///
    /// # Errors
    /// What is wrong with it: then it is as if it was lost.
    pub fn step(&mut self, message: Message) -> Result<(), ReplicationError> {
        self.stirred = true;
        self.replicator.step(message)
    }

    /// A tick of the election clock passed; what follows from it comes with the next turn.
    pub fn tick(&mut self) {
        self.stirred = true;
        self.replicator.tick();
    }

    /// The link to a node broke.
    pub fn unreachable(&mut self, node: u16) {
        self.stirred = true;
        self.replicator.unreachable(node);
    }

    /// Whether this node gives away what lead it has or wins: its clock is not to be believed.
    pub fn stand_aside(&mut self, aside: bool) {
        self.stirred = true;
        self.replicator.stand_aside(aside);
    }

    /// Kept snapshots cover the shards up to these indexes.
    pub fn compact(&mut self, covered: &[u64]) {
        for (shard, index) in covered.iter().enumerate() {
            self.replicator.compact(shard as u16, *index);
        }
    }

    /// Gives the lead of every shard that this node leads to another, as far as that is possible at once.
    pub fn hand_over(&mut self, to: impl Fn(&GroupStatus) -> Option<u16>) {
        for number in 0..self.shards.len() as u16 {
            let led = self.replicator.status(number).filter(|status| status.lead == Lead::Me);
            if let Some(to) = led.as_ref().and_then(&to) {
                self.stirred = true;
                // Who can't take it is not given it; then there is an election.
                self.replicator.transfer(number, to).ok();
            }
        }
    }

    /// Whether a turn would do something at once.
    pub fn has_work(&mut self) -> bool {
        let writes = self.flight.is_none() && (self.pending > 0 || !self.gather.is_empty()) && !self.held();
        writes || self.stirred || !self.committed.is_empty() || !self.changes.is_empty()
    }

    /// Whether it takes more from the ring.
    pub fn takes(&self) -> bool {
        self.pending < self.pending_max && !self.stopping
    }

    /// Whether `Stop` has come and everything taken before it is answered.
    pub fn is_finished(&self) -> bool {
        self.stopping
            && self.pending == 0
            && self.flight.is_none()
            && self.gather.is_empty()
            && self.shards.iter().all(|shard| shard.waiting.is_empty())
    }

    /// When a deadline is due next, unless a batch is under way: until its end nothing can be written.
    pub fn next_deadline(&self) -> Option<LogTime> {
        if self.flight.is_some() || self.hold_until.is_some() {
            return None;
        }
        self.shards.iter().filter_map(Shard::due_next).min()
    }

    /// Until which [`Surroundings::uptime`] nothing is written because the log had no room, or nothing could be
    /// proposed.
    pub fn held_until(&self) -> Option<Duration> {
        self.hold_until
    }

    fn held(&mut self) -> bool {
        let held = self.hold_until.is_some_and(|until| self.surroundings.uptime() < until);
        if !held {
            self.hold_until = None;
        }
        held
    }
}

impl Shard {
    fn new(machine: Machine) -> Self {
        Self {
            stamp: machine.now(),
            machine,
            lead: Lead::Me,
            term: 0,
            poison: Vec::new(),
            takeover: None,
            pending: VecDeque::new(),
            waiting: VecDeque::new(),
            unsettled: 0,
            taken: 0,
            done: 0,
        }
    }
}

/// A command of the system itself. It is salted, because it may open a tender whose numbers are drawn.
pub fn system_command(action: Action, at: LogTime, salt: [u8; 16]) -> Command {
    Command { envelope: Envelope { at, salt, ..Envelope::default() }, action, secret: None }
}

/// Bids only move ends later; everything else may open or end something earlier than was known.
fn may_bring_a_deadline_forward(action: &Action) -> bool {
    !matches!(action, Action::Bid { .. } | Action::Account(_))
}

fn size(command: &Command) -> usize {
    wincode::serialized_size(command).map_or(BATCH_BYTES, |size| size as usize)
}
