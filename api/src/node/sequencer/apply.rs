//! Applying: what is committed is decided and answered, and who leads is heeded.

use std::panic::{AssertUnwindSafe, catch_unwind};

use engine::{Action, Reply, Sink};
use persistence::{Batch, Change, Lead, Placed, SkipMark};

use super::{Committed, Elsewhere, Pending, Sequencer, Settle, Surroundings, system_command};
use crate::node::SubmitError;
use crate::node::machine::SYSTEM_SHARD;

impl<S: Surroundings> Sequencer<S> {
    pub(super) fn apply(&mut self, placed: Placed) {
        let Placed { shard: number, term, entry } = placed;
        let shard = &mut self.shards[usize::from(number)];
        let mut replies = Replies { replies: Vec::with_capacity(entry.commands.len()) };
        let applied = catch_unwind(AssertUnwindSafe(|| {
            shard.machine.apply(&entry, &mut replies);
            shard.machine.maintain();
        }));
        if applied.is_err() {
            let position = replies.replies.len() as u32;
            self.surroundings.poisoned(SkipMark { shard: number, index: entry.index, position });
            // The entry is durable, so the next start meets the same panic, passes the command by and says so.
            self.surroundings.stop(&format!(
                "applying command {} of entry {} of shard {number} panicked; it is answered to nobody and passed by \
                 at the next start",
                replies.replies.len(),
                entry.index,
            ));
        }
        // Of another node's entries, and of own ones that were lost, nobody here waits for an answer.
        let ours = |waiting: &mut super::Waiting| waiting.index == entry.index && waiting.term == term;
        let waiting = shard.waiting.pop_front_if(ours);
        assert!(self.replicates || waiting.is_some(), "an entry that was proposed is waited for");
        shard.poison.retain(|(mark, _)| {
            // Logged: every replica passes it by from now on.
            let is_it = |action: &Action| matches!(action, Action::Skip { index, position, .. } if (*index, *position) == (mark.index, mark.position));
            !entry.commands.iter().any(|command| is_it(&command.action))
        });
        self.replicator.applied(number, entry.index);
        self.surroundings.applied(number, entry.index);
        assert_eq!(replies.replies.len(), entry.commands.len(), "one reply a command");
        if let Some(waiting) = waiting {
            assert_eq!(replies.replies.len(), waiting.answers.len(), "one answer a command");
            shard.unsettled -= u32::from(waiting.unsettling);
            for (answer, reply) in waiting.answers.into_iter().zip(replies.replies) {
                if let Some(answer) = answer {
                    answer(Ok(reply));
                }
                shard.done += 1;
            }
        } else {
            for (command, reply) in entry.commands.iter().zip(&replies.replies) {
                self.surroundings.decided(command, reply);
            }
        }
        // Only now: on the bidder's own socket the answer comes before the step it caused.
        self.surroundings.committed(Committed { shard: number, term, entry });
    }

    /// Own entries whose outcome this node does not learn: their senders are told so.
    pub(super) fn forget_lost(&mut self) {
        for (number, index) in self.ready.lost.drain(..) {
            let shard = &mut self.shards[usize::from(number)];
            // In front of it may be what is committed and not applied yet.
            let place = shard.waiting.partition_point(|waiting| waiting.index < index);
            let waiting = shard.waiting.remove(place).filter(|waiting| waiting.index == index);
            let waiting = waiting.expect("an entry that was proposed is waited for");
            shard.unsettled -= u32::from(waiting.unsettling);
            for answer in waiting.answers {
                if let Some(answer) = answer {
                    metrics::counter!("rt_outcomes_unknown_total").increment(1);
                    answer(Err(SubmitError::OutcomeUnknown));
                }
                shard.done += 1;
            }
        }
    }

    /// Heeds who leads from now on. Everything that was committed before is applied.
    pub(super) fn heed_changes(&mut self) {
        for change in std::mem::take(&mut self.changes) {
            let Change { shard: number, lead, term, planned } = change;
            let shard = &mut self.shards[usize::from(number)];
            let before = (std::mem::replace(&mut shard.lead, lead), std::mem::replace(&mut shard.term, term));
            if before == (lead, term) {
                continue;
            }
            if lead == Lead::Me {
                assert!(shard.waiting.is_empty() && shard.unsettled == 0, "a term begins with nothing under way");
                shard.stamp = shard.machine.now();
                self.surroundings.anchor(shard.stamp);
                if number != SYSTEM_SHARD && shard.takeover.replace(planned).is_none() {
                    shard.taken += 1;
                    self.pending += 1;
                }
                for (SkipMark { index, position, .. }, place) in &shard.poison {
                    let skip = Action::Skip { index: *index, position: *position, place: place.clone() };
                    let command = system_command(skip, self.surroundings.now(), self.surroundings.salt());
                    shard.pending.push_back(Pending { command, answer: None });
                    shard.taken += 1;
                    self.pending += 1;
                }
            } else {
                self.pending -= shard.pending_len();
                shard.done += u64::from(shard.takeover.take().is_some());
                for pending in std::mem::take(&mut shard.pending) {
                    shard.done += 1;
                    let system = matches!(pending.command.action, Action::Tick | Action::Skip { .. });
                    if !system {
                        let leader = shard.leader();
                        let (command, answer) = (pending.command, pending.answer);
                        self.surroundings.elsewhere(Elsewhere { shard: number, leader, command, answer });
                    }
                }
            }
            self.surroundings.led(change);
        }
    }

    /// Keeps the buffers of a batch that the log gave back.
    pub(super) fn give_back(&mut self, mut batch: Batch) {
        batch.clear();
        self.spare = Some(batch);
    }

    pub(super) fn tell_settled(&mut self) {
        let shards = &self.shards;
        let settled =
            |settle: &mut Settle| settle.taken.iter().zip(shards).all(|(taken, shard)| shard.done >= *taken);
        for settle in self.settles.extract_if(.., settled) {
            (settle.tell)();
        }
    }
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
