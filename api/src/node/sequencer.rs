//! The sequencer: orders commands, makes batches of them, and applies what is durable. Every promise about order, time,
//! answers and full disks is kept here.
//!
//! It is stepped and never waits: clock, log, ring and readers are its [`Surroundings`]. In the program those are
//! threads ([`super::core`]); in the simulator they are a seed.

use std::collections::{BTreeMap, VecDeque};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::time::Duration;

use engine::{Action, Command, Entry, Envelope, LogTime, OrganisationId, Reply, Secret, Sink};
use persistence::{Batch, Class, LogEvent, Placed, Ready, Refusal, Replicator, Sealer};

use super::SubmitError;
use super::machine::Machine;

/// Most commands of one shard in one batch.
const BATCH_COMMANDS: usize = 512;
/// Most bytes of one shard in one batch; a larger command travels alone.
const BATCH_BYTES: usize = 64 << 10;
/// Most commands taken from the ring and not yet written; then the ring fills, and the edge answers `busy`.
const PENDING_MAX: usize = 8_192;
/// How long a refused batch waits for room before it is tried again.
const HOLD: Duration = Duration::from_millis(100);
/// How long an organisation whose key can't be made or read waits until that is tried again: each time costs the core
/// a visit to the disk.
const KEY_RETRY: Duration = Duration::from_secs(1);

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

/// The sequencer's state.
pub struct Sequencer<S> {
    shards: Vec<Shard>,
    replicator: Box<dyn Replicator + Send>,
    seals: Seals,
    /// The buffers of the batch that the log doesn't hold.
    batch: Option<Batch>,
    ready: Ready,
    /// The number of the batch that is being flushed.
    flight: Option<u64>,
    committed: VecDeque<Placed>,
    settles: Vec<Settle>,
    pending: usize,
    pending_max: usize,
    stopping: bool,
    /// Not to write before this [`Surroundings::uptime`]: the log refused a batch for want of room.
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
            replicator,
            seals: Seals { sealer, failing: BTreeMap::new() },
            batch: Some(Batch::new()),
            ready: Ready::default(),
            flight: None,
            committed: VecDeque::new(),
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

    /// Takes what has arrived, hands the log one batch of it and of what is due, and applies what is durable.
    pub fn turn(&mut self) {
        self.drain();
        if self.flight.is_none() && !self.held() {
            // The disk works on the next batch while this thread applies the last one.
            self.write();
        }
        while let Some(placed) = self.committed.pop_front() {
            self.apply(placed);
        }
        self.tell_settled();
    }

    /// Whether a turn would write at once.
    pub fn has_work(&mut self) -> bool {
        self.flight.is_none() && self.pending > 0 && !self.held()
    }

    /// Whether it takes more from the ring.
    pub fn takes(&self) -> bool {
        self.pending < self.pending_max && !self.stopping
    }

    /// Whether `Stop` has come and everything taken before it is answered.
    pub fn is_finished(&self) -> bool {
        self.stopping && self.pending == 0 && self.flight.is_none()
    }

    /// When a deadline is due next, unless a batch is under way: until its end nothing can be written.
    pub fn next_deadline(&self) -> Option<LogTime> {
        if self.flight.is_some() || self.hold_until.is_some() {
            return None;
        }
        self.shards.iter().filter_map(Shard::due_next).min()
    }

    /// Until which [`Surroundings::uptime`] nothing is written because the log had no room.
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

    fn drain(&mut self) {
        while self.takes() {
            match self.surroundings.receive() {
                Received::Submission(submission) => self.take(submission),
                Received::Nothing => break,
                Received::Closed => self.stopping = true,
            }
        }
    }

    /// Takes everything that is in the ring now, however much is pending: a command that stays there would be written
    /// behind a deadline that it was stamped before. The ring holds no more than may be pending, so this ends, and
    /// memory stays bounded.
    fn drain_all(&mut self) {
        for _ in 0..self.pending_max {
            if self.stopping {
                return;
            }
            match self.surroundings.receive() {
                Received::Submission(submission) => self.take(submission),
                Received::Nothing => return,
                Received::Closed => self.stopping = true,
            }
        }
    }

    fn take(&mut self, submission: Submission) {
        match submission {
            Submission::Command { shard, command, answer } => {
                if self.surroundings.read_only() && answer.is_some() {
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

    /// Takes what the log tells.
    pub fn event(&mut self, event: LogEvent) {
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
            LogEvent::Failed { error } => self.surroundings.stop(&format!(
                "the log could not be written or flushed: {error}. Nothing after the last answer is promised; check \
                 the disk, then start again"
            )),
        }
    }

    fn set_read_only(&mut self, read_only: bool) {
        if self.surroundings.read_only() == read_only {
            return;
        }
        self.surroundings.set_read_only(read_only);
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
        self.hold_until = Some(self.surroundings.uptime() + HOLD);
        let mut refused = Vec::new();
        let refusal = self.replicator.refused(number, &mut refused);
        assert_eq!(refusal, Refusal::TakenBack, "one node alone gives its entries back");
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
        let mut now = self.surroundings.now();
        if self.shards.iter().any(|shard| shard.unsettled > 0 || shard.due(now)) {
            // A deadline is written after every command that was stamped before it.
            if !mutant!(DeadlineDoesNotWait) && !self.surroundings.wait_before(now) {
                tracing::error!("A stamped command never reached the core; the deadline goes on without it");
            }
            self.drain_all();
        } else {
            now = self.surroundings.now();
        }
        let mut commands_total = 0;
        let mut control = true;
        for (number, shard) in self.shards.iter_mut().enumerate() {
            if shard.pending.is_empty() && !shard.due(now) {
                continue;
            }
            let before = shard.pending.len();
            let salt = || self.surroundings.salt();
            let seals = &mut self.seals;
            let ready = |secret: &Secret| seals.ready(secret, self.surroundings.uptime());
            let next = shard.next_commands(now, BATCH_COMMANDS, salt, ready);
            self.pending -= before - shard.pending.len();
            let Some((commands, mut waiting)) = next else { continue };
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

    /// Makes what was proposed durable: elsewhere, so that this thread applies and gathers meanwhile; or right here where
    /// it could only wait.
    fn persist(&mut self, class: Class, alone: bool) {
        self.poll();
        let alone = alone && self.committed.is_empty();
        let mut batch = self.batch.take().unwrap_or_default();
        batch.clear();
        batch.class = class;
        if let Err(error) = self.ready.fill(&mut batch, &self.seals.sealer) {
            // Keys were looked at before: what is left is an entry too large for a record, which the edge refuses.
            tracing::error!("A batch could not be encoded for the log: {error}");
            self.take_back(batch.ticket);
            self.batch = Some(batch);
            return;
        }
        self.flight = Some(batch.ticket);
        if mutant!(AnsweredBeforeTheFlush) {
            self.replicator.persisted(batch.ticket);
            self.poll();
            while let Some(placed) = self.committed.pop_front() {
                self.apply(placed);
            }
        }
        if let Some(event) = self.surroundings.append(batch, alone) {
            self.event(event);
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
            self.surroundings.stop(&format!(
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
        self.replicator.applied(number, entry.index);
        self.surroundings.applied(number, entry.index);
        for (answer, reply) in waiting.answers.into_iter().zip(replies.replies) {
            if let Some(answer) = answer {
                answer(Ok(reply));
            }
            shard.done += 1;
        }
        // Only now: on the bidder's own socket the answer comes before the step it caused.
        self.surroundings.committed(Committed { shard: number, term, entry });
    }

    fn tell_settled(&mut self) {
        let shards = &self.shards;
        let settled =
            |settle: &mut Settle| settle.taken.iter().zip(shards).all(|(taken, shard)| shard.done >= *taken);
        for settle in self.settles.extract_if(.., settled) {
            (settle.tell)();
        }
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
    ///
    /// A command whose secret part can't be sealed now (`ready` says so) is refused here, before it has a place: the others
    /// go on.
    fn next_commands(
        &mut self,
        now: LogTime,
        most: usize,
        salt: impl Fn() -> [u8; 16],
        mut ready: impl FnMut(&Secret) -> Result<(), SubmitError>,
    ) -> Option<(Vec<Command>, Waiting)> {
        if self.due(now) || self.unsettled > 0 {
            self.pending.make_contiguous().sort_by_key(|pending| pending.command.envelope.at);
        }
        let due = self.due_next().filter(|deadline| *deadline <= now);
        let mut commands = Vec::with_capacity(self.pending.len().min(most) + 1);
        let mut answers = Vec::with_capacity(commands.capacity());
        let mut bytes = 0;
        let mut unsettling = false;
        while let Some(next) = self.pending.front() {
            // One that was stamped after `now` may stand behind a deadline that another, still on its way, precedes.
            if next.command.envelope.at > now || commands.len() == most {
                break;
            }
            bytes += size(&next.command);
            if bytes > BATCH_BYTES && !commands.is_empty() {
                break;
            }
            let Some(Pending { mut command, answer }) = self.pending.pop_front() else { break };
            self.machine.conceal(&mut command);
            if let Some(Err(error)) = command.secret.as_ref().map(&mut ready) {
                if let Some(answer) = answer {
                    answer(Err(error));
                }
                self.done += 1;
                continue;
            }
            self.stamp = self.stamp.max(command.envelope.at);
            command.envelope.at = self.stamp;
            unsettling |= may_bring_a_deadline_forward(&command.action);
            commands.push(command);
            answers.push(answer);
        }
        // What found no room in this entry goes before the tick, in the next: it was stamped before.
        let left = self.pending.front().is_some_and(|next| next.command.envelope.at <= now);
        if !left && due.is_some_and(|deadline| deadline > self.stamp) {
            self.stamp = now;
            commands.push(system_command(Action::Tick, now, salt()));
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

/// Whose secret parts can be sealed.
struct Seals {
    sealer: Sealer,
    /// Organisations whose key could not be made or read, each with the [`Surroundings::uptime`] from which that is tried
    /// again, and what is answered until then.
    failing: BTreeMap<OrganisationId, (Duration, SubmitError)>,
}

impl Seals {
    /// Makes sure that a secret part can be sealed: its key is there, durable and in memory from now on.
    fn ready(&mut self, secret: &Secret, uptime: Duration) -> Result<(), SubmitError> {
        let organisation = secret.organisation();
        let failing = self.failing.get(&organisation).copied();
        if let Some((_, error)) = failing.filter(|(until, _)| uptime < *until) {
            metrics::counter!("rt_key_refusals_total").increment(1);
            return Err(error);
        }
        let Err(error) = self.sealer.ready(organisation) else {
            if failing.is_some() {
                self.failing.remove(&organisation);
                metrics::gauge!("rt_keys_failing").set(self.failing.len() as f64);
                tracing::info!(
                    "The key of organisation {:032x} can be used: its commands are taken",
                    organisation.0
                );
            }
            return Ok(());
        };
        let answer = if error.is_full() { SubmitError::ReadOnly } else { SubmitError::Unsealable };
        self.failing.insert(organisation, (uptime + KEY_RETRY, answer));
        metrics::counter!("rt_key_refusals_total").increment(1);
        metrics::gauge!("rt_keys_failing").set(self.failing.len() as f64);
        if failing.is_none() {
            tracing::error!(
                "The secret parts of an organisation can't be sealed, so commands with one are refused to it and to \
                 nobody else, until its key can be used; that is tried again by itself: {error}"
            );
        }
        Err(answer)
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

#[cfg(test)]
mod tests {
    use engine::{
        Access, Decimal, Entry, Format, LotMode, LotSpec, OrganisationId, RulesSpec, TenderId, TenderSpec,
    };

    use super::*;

    const START: LogTime = LogTime(1_700_000_000_000);

    fn command(at: LogTime, action: Action) -> Command {
        let mut command = system_command(action, at, [7; 16]);
        command.envelope.organisation = OrganisationId(1);
        command
    }

    /// A shard in which one lot runs, and when it ends.
    fn running() -> (Shard, LogTime) {
        let tender = TenderId::new(5);
        let rules = RulesSpec { duration_s: Some(60), ..RulesSpec::default(Format::English) };
        let spec = Box::new(TenderSpec {
            title: "Bumper".into(),
            description: String::new(),
            reference: String::new(),
            currency: "SAR".into(),
            currency_exponent: 2,
            access: Access::Open,
            public: false,
            opens_at: None,
            terms: None,
            lot_mode: LotMode::Parallel,
            stagger_s: 0,
            stagger_follows: true,
            serial_gap_s: 0,
            anonymous_to_buyer: false,
            lots: vec![LotSpec { title: "Bumper".into(), items: Vec::new(), rules }],
        });
        let actions =
            [Action::CreateTender { tender, spec }, Action::Publish { tender }, Action::Start { tender }];
        let commands = actions.map(|action| command(START, action)).into();
        let mut machine = Machine::new(1);
        machine.apply(&Entry { index: 1, commands }, &mut ());
        let shard = Shard {
            stamp: machine.now(),
            machine,
            pending: VecDeque::new(),
            waiting: VecDeque::new(),
            unsettled: 0,
            taken: 0,
            done: 0,
        };
        let ends = shard.due_next().expect("the lot runs and ends");
        assert!(ends > START);
        (shard, ends)
    }

    fn bid(at: LogTime) -> Pending {
        let price = Some(Decimal { mantissa: 100, scale: 2 });
        let action = Action::Bid {
            lot: TenderId::new(5).lot(1),
            price,
            confirm: false,
            expires_at: None,
            seen_seq: None,
            auto_limit: None,
            all_or_nothing: None,
        };
        Pending { command: command(at, action), answer: None }
    }

    #[test]
    fn a_deadline_waits_for_what_found_no_room_in_the_entry() {
        let (mut shard, ends) = running();
        let (before, now) = (LogTime(ends.0 - 1), ends.plus_ms(5));
        // Five in time, one late, in any order.
        for at in [before, before, now, before, before, before] {
            shard.pending.push_back(bid(at));
        }
        let mut next = || {
            let (commands, _) = shard.next_commands(now, 3, || [0; 16], |_| Ok(()))?;
            let ticks = commands.iter().map(|command| matches!(command.action, Action::Tick));
            let stamps: Vec<_> = commands.iter().map(|command| command.envelope.at).zip(ticks).collect();
            Some(stamps)
        };
        assert_eq!(next(), Some(vec![(before, false); 3]), "no room is left, and no tick is written");
        // The late bid itself ends the lot as of the deadline.
        assert_eq!(next(), Some(vec![(before, false), (before, false), (now, false)]));
    }

    #[test]
    fn a_deadline_behind_everything_that_was_in_time_is_written_with_it() {
        let (mut shard, ends) = running();
        let (before, now) = (LogTime(ends.0 - 1), ends.plus_ms(5));
        shard.pending.extend([bid(before), bid(now.plus_ms(1))]);
        let (commands, _) = shard.next_commands(now, 3, || [0; 16], |_| Ok(())).expect("written");
        let stamps: Vec<_> = commands.iter().map(|command| command.envelope.at).collect();
        assert_eq!(stamps, [before, now]);
        assert!(matches!(commands[1].action, Action::Tick));
        assert_eq!(shard.pending.len(), 1, "what was stamped later comes later");
    }
}
