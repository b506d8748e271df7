//! Writing: which commands make the next entry of a shard, and what goes to the log and to the other nodes.

use engine::{Action, Command, Entry, LogTime, Secret};
use persistence::{Class, Lead, NotProposed};

use super::{
    BATCH_BYTES, BATCH_COMMANDS, PROPOSE_RETRY, Pending, Sequencer, Shard, Surroundings, Waiting,
    may_bring_a_deadline_forward, size, system_command,
};
use crate::node::SubmitError;

/// Most records that are made durable on the core's own thread when another node sent them.
const INLINE_RECORDS: usize = 2;

impl<S: Surroundings> Sequencer<S> {
    /// Gives the log one batch of everything that is pending or due, or that other nodes sent.
    pub(super) fn write(&mut self) {
        let commands = self.propose();
        if commands > 0 {
            self.poll();
        }
        let alone = commands == 1 || commands == 0 && self.gather.len() <= INLINE_RECORDS;
        self.flush(alone && self.pending == 0);
    }

    /// Proposes what is pending or due; answers how many commands.
    fn propose(&mut self) -> u64 {
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
        for (number, shard) in self.shards.iter_mut().enumerate() {
            if shard.lead != Lead::Me || (shard.pending_len() == 0 && !shard.due(now)) {
                continue;
            }
            let (before, stamp) = (shard.pending_len(), shard.stamp);
            let salt = || self.surroundings.salt();
            let seals = &mut self.seals;
            let ready = |secret: &Secret| seals.ready(secret, self.surroundings.uptime());
            let next = shard.next_commands(now, BATCH_COMMANDS, salt, ready);
            self.pending -= before - shard.pending_len();
            let Some((commands, mut waiting)) = next else { continue };
            let (count, control) = (commands.len() as u64, waiting.answers.iter().all(Option::is_none));
            match self.replicator.propose(number as u16, commands) {
                Ok(index) => {
                    (waiting.index, waiting.term) = (index, self.replicator.term(number as u16));
                    shard.waiting.push_back(waiting);
                    commands_total += count;
                    self.control &= control;
                }
                Err(NotProposed { commands }) => {
                    // The lead is on its way to another node, or commits are: either is known before long.
                    self.pending += shard.put_back(commands, waiting, stamp);
                    self.hold_until = Some(self.surroundings.uptime() + PROPOSE_RETRY);
                }
            }
        }
        if commands_total > 0 {
            metrics::counter!("rt_batches_total").increment(1);
            metrics::counter!("rt_batch_commands_total").increment(commands_total);
        }
        commands_total
    }

    /// Makes what was gathered durable: elsewhere, so that this thread applies and gathers meanwhile; or right here where
    /// it could only wait.
    fn flush(&mut self, alone: bool) {
        if self.gather.is_empty() || self.flight.is_some() {
            return;
        }
        let alone = alone && self.committed.is_empty();
        let next = self.spare.take().unwrap_or_default();
        let mut batch = std::mem::replace(&mut self.gather, next);
        batch.class = if self.control { Class::Control } else { Class::Ordinary };
        self.control = true;
        self.flight = Some(std::mem::take(&mut self.gather_from));
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

    /// Asks replication what is to be done, sends what is to be sent, and gathers what is to be made durable.
    pub(super) fn poll(&mut self) {
        self.stirred = false;
        self.ready.clear();
        self.replicator.poll(&mut self.ready);
        // Before anything else: the others flush while this node does.
        for message in self.ready.to_send.drain(..) {
            self.surroundings.send(message);
        }
        if self.ready.number > 0 {
            if self.gather_from == 0 {
                self.gather_from = self.ready.number;
            }
            if self.replicates {
                self.control &= self.ready.to_persist.iter().all(|placed| is_control(&placed.entry));
            }
            if let Err(error) = self.ready.fill(&mut self.gather, &self.seals.sealer) {
                // What is proposed here was looked at before: then what is left is an entry too large for a record,
                // which the edge refuses.
                if self.replicates {
                    self.surroundings.stop(&format!(
                        "an entry that another node sent can't be written to this node's log: {error}. Check the keys \
                         directory and its disk, then start again"
                    ));
                }
                tracing::error!("A batch could not be encoded for the log: {error}");
                self.take_back(self.ready.number);
            }
        }
        self.forget_lost();
        self.committed.extend(self.ready.committed.drain(..));
        self.changes.append(&mut self.ready.changes);
    }
}

/// Whether an entry holds nothing but what the system itself must log.
fn is_control(entry: &Entry) -> bool {
    let system = |action: &Action| matches!(action, Action::Tick | Action::Takeover { .. } | Action::Skip { .. });
    entry.commands.iter().all(|command| system(&command.action))
}

impl Shard {
    /// Who leads it, when that is another node and known.
    pub(super) fn leader(&self) -> Option<u16> {
        match self.lead {
            Lead::Other(node) => Some(node),
            Lead::Me | Lead::Nobody => None,
        }
    }

    /// How many commands are pending, the takeover included.
    pub(super) fn pending_len(&self) -> usize {
        self.pending.len() + usize::from(self.takeover.is_some())
    }

    /// The next deadline that this node keeps, unless a written command stands behind it already.
    pub(super) fn due_next(&self) -> Option<LogTime> {
        if self.lead != Lead::Me {
            return None;
        }
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
    pub(super) fn next_commands(
        &mut self,
        now: LogTime,
        most: usize,
        salt: impl Fn() -> [u8; 16],
        mut ready: impl FnMut(&Secret) -> Result<(), SubmitError>,
    ) -> Option<(Vec<Command>, Waiting)> {
        let waiting = |answers, unsettling| Waiting { index: 0, term: 0, answers, unsettling };
        if let Some(planned) = self.takeover.take() {
            // Alone, so that nothing that was stamped while nobody served is decided before it.
            self.stamp = self.stamp.max(now);
            self.unsettled += 1;
            // A deadline that passed meanwhile was kept by nobody, however the lead changed.
            let planned = planned && self.machine.next_deadline().is_none_or(|deadline| deadline > self.stamp);
            let takeover = system_command(Action::Takeover { planned }, self.stamp, salt());
            return Some((vec![takeover], waiting(vec![None], true)));
        }
        if (self.due(now) || self.unsettled > 0) && !mutant!(NotSortedByStamp) {
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
        Some((commands, waiting(answers, unsettling)))
    }

    /// Takes back what could not be proposed; answers how many commands are pending again.
    fn put_back(&mut self, commands: Vec<Command>, waiting: Waiting, stamp: LogTime) -> usize {
        let before = self.pending_len();
        self.unsettled -= u32::from(waiting.unsettling);
        self.stamp = stamp;
        for (command, answer) in commands.into_iter().zip(waiting.answers).rev() {
            match (&command.action, answer) {
                // The deadline is still due and makes a tick of its own again.
                (Action::Tick, None) => self.done += 1,
                (Action::Takeover { planned }, None) => self.takeover = Some(*planned),
                (_, answer) => self.pending.push_front(Pending { command, answer }),
            }
        }
        self.pending_len() - before
    }
}
