//! Taking: what comes from the ring, and what is refused at once.

use std::sync::Arc;

use engine::Action;
use persistence::{Lead, LogEvent, Refusal};

use super::{Elsewhere, HOLD, Pending, Received, Sequencer, Settle, Submission, Surroundings};
use crate::node::SubmitError;

impl<S: Surroundings> Sequencer<S> {
    pub(super) fn drain(&mut self) {
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
    pub(super) fn drain_all(&mut self) {
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

    /// Takes one submission, as if it had come from the ring.
    pub fn take(&mut self, submission: Submission) {
        match submission {
            Submission::Command { shard: number, command, answer } => {
                let shard = &mut self.shards[usize::from(number)];
                if shard.lead != Lead::Me {
                    let leader = shard.leader();
                    self.surroundings.elsewhere(Elsewhere { shard: number, leader, command, answer });
                    return;
                }
                if self.surroundings.read_only() && answer.is_some() {
                    if let Some(answer) = answer {
                        answer(Err(SubmitError::ReadOnly));
                    }
                    return;
                }
                shard.taken += 1;
                shard.pending.push_back(Pending { command, answer });
                self.pending += 1;
            }
            Submission::Settle(tell) => {
                let taken = self.shards.iter().map(|shard| shard.taken).collect();
                self.settles.push(Settle { taken, tell });
            }
            Submission::Covered(covered) => self.compact(&covered),
            Submission::Stop => self.stopping = true,
        }
    }

    /// Takes what the log tells.
    pub fn event(&mut self, event: LogEvent) {
        match event {
            LogEvent::Flushed { batch } => {
                self.flight = None;
                self.replicator.persisted(batch.ticket);
                self.give_back(batch);
                self.poll();
            }
            LogEvent::Refused { batch } => {
                let from = self.flight.take().expect("a batch that was refused was handed over");
                self.take_back(from);
                self.give_back(batch);
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

    /// Takes back a batch of which the log took nothing, and what was gathered behind it.
    pub(super) fn take_back(&mut self, number: u64) {
        self.gather.clear();
        (self.gather_from, self.control) = (0, true);
        self.hold_until = Some(self.surroundings.uptime() + HOLD);
        let mut refused = Vec::new();
        if self.replicator.refused(number, &mut refused) == Refusal::Kept {
            // Others may have it, and commit it. It is handed out again, with what came behind it.
            self.stirred = true;
            return;
        }
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
}
