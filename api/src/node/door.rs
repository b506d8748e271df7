//! The door: where a stamped command is refused, or goes into the ring. Certainly refused is certainly not taken, and
//! nobody is left without an answer. Waits for nothing and knows no thread.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use crossbeam::channel::{Sender, TrySendError};
use engine::{Action, Command, Reply};
use persistence::Random;

use super::SubmitError;
use super::machine::SYSTEM_SHARD;
use super::sequencer::Submission;
use super::stamp::{Stamp, Stamps};
use super::view::tender_shard;

/// What decides whether commands are taken; shared with the core.
#[derive(Debug)]
pub struct Gates {
    /// Commands between stamp and ring.
    pub stamps: Arc<Stamps>,
    /// The log has no room: commands are refused before they are sequenced.
    pub read_only: AtomicBool,
    /// The node takes no more commands because it stops.
    pub draining: AtomicBool,
}

impl Gates {
    /// Open gates.
    pub fn new(stamps: Arc<Stamps>) -> Arc<Self> {
        Arc::new(Self { stamps, read_only: AtomicBool::new(false), draining: AtomicBool::new(false) })
    }
}

/// See the module.
pub struct Door {
    /// What may be closed.
    pub gates: Arc<Gates>,
    /// Where commands that are taken go.
    pub ring: Sender<Submission>,
    /// This node's number, part of every command it takes.
    pub node: u16,
    /// How many shards hold tenders.
    pub tender_shards: u16,
    /// Where salts come from.
    pub random: Random,
}

impl Door {
    /// Stamps a command whose last byte has just been read. Deadlines wait for it.
    pub fn stamp(&self) -> Stamp {
        self.gates.stamps.take()
    }

    /// The shard that decides an action.
    pub fn shard_of(&self, action: &Action) -> u16 {
        action.tender().map_or(SYSTEM_SHARD, |tender| tender_shard(tender, self.tender_shards))
    }

    /// Puts a command into the ring, or answers at once why not. The stamp is given back only behind either: a deadline
    /// that waits for it finds the command.
    pub fn submit(
        &self,
        stamp: Stamp,
        mut command: Command,
        answer: impl FnOnce(Result<Reply, SubmitError>) + Send + 'static,
    ) {
        if self.gates.draining.load(Ordering::Relaxed) {
            return answer(Err(SubmitError::Draining));
        }
        if self.gates.read_only.load(Ordering::Relaxed) {
            return answer(Err(SubmitError::ReadOnly));
        }
        command.envelope.at = stamp.at();
        command.envelope.node = self.node;
        // Blinds what is sealed; and any command may be the one that opens a tender whose numbers are drawn.
        (self.random)(&mut command.envelope.salt);
        let shard = self.shard_of(&command.action);
        let submission = Submission::Command { shard, command, answer: Some(Box::new(answer)) };
        if let Err(error) = self.ring.try_send(submission) {
            let (submission, why) = match error {
                TrySendError::Full(submission) => (submission, SubmitError::Busy),
                TrySendError::Disconnected(submission) => (submission, SubmitError::Draining),
            };
            if let Submission::Command { answer: Some(answer), .. } = submission {
                answer(Err(why));
            }
        }
        drop(stamp);
    }
}
