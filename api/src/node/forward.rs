//! Commands of shards that another node leads: passed on to it, one hop, and answered from the entries that this node
//! applies. Waits for nothing; a command that finds no leader within five seconds is given back as not taken, and one
//! that was sent and not seen since as unknown.

use std::collections::HashMap;
use std::time::Duration;

use engine::{Command, Reply, RequestId};
use persistence::Lead;
use persistence::peers::{Frame, FrameKind};
use wincode::{SchemaRead, SchemaWrite};

use super::SubmitError;
use super::sequencer::{AnswerFn, Elsewhere};

/// How long a command is passed on, again and again, before its sender is told.
const PATIENCE: Duration = Duration::from_secs(5);
/// After how long a command that has a key is sent again to the same leader.
const AGAIN: Duration = Duration::from_secs(1);
/// Commands that may wait; one more is answered `busy`.
const WAITING_MAX: usize = 8_192;

/// A command on its way to the leader of its shard.
#[derive(Debug, SchemaWrite, SchemaRead)]
struct Passed {
    /// The term in which its sender believes the leader to lead.
    term: u64,
    command: Command,
}

/// Why a command was not taken. The numbers travel: never renumber.
#[derive(Debug, SchemaWrite, SchemaRead)]
struct NotTaken {
    request: u128,
    why: u8,
}

const REASONS: [(u8, SubmitError); 5] = [
    (1, SubmitError::NotLeader),
    (2, SubmitError::Busy),
    (3, SubmitError::Draining),
    (4, SubmitError::ReadOnly),
    (5, SubmitError::Unsealable),
];

/// The frame that passes a command on.
pub(super) fn passed_on(shard: u16, term: u64, command: &Command) -> Option<Frame> {
    let passed = Passed { term, command: command.clone() };
    let bytes = wincode::serialize(&passed).ok()?;
    Some(Frame { kind: FrameKind::Command, shard, bytes })
}

/// The term and the command of such a frame; none: it is not one.
pub(super) fn read_passed(bytes: &[u8]) -> Option<(u64, Command)> {
    let Passed { term, command } = wincode::deserialize_exact(bytes).ok()?;
    Some((term, command))
}

/// The frame that says why a command was not taken; none for what is not known.
pub(super) fn not_taken(shard: u16, request: RequestId, why: SubmitError) -> Option<Frame> {
    let (why, _) = REASONS.into_iter().find(|(_, reason)| *reason == why)?;
    let bytes = wincode::serialize(&NotTaken { request: request.0, why }).ok()?;
    Some(Frame { kind: FrameKind::NotTaken, shard, bytes })
}

/// What such a frame says.
pub(super) fn read_not_taken(bytes: &[u8]) -> Option<(RequestId, SubmitError)> {
    let NotTaken { request, why } = wincode::deserialize_exact(bytes).ok()?;
    let (_, why) = REASONS.into_iter().find(|(number, _)| *number == why)?;
    Some((RequestId(request), why))
}

struct Waiting {
    shard: u16,
    command: Command,
    answer: Option<AnswerFn>,
    since: Duration,
    /// To whom it was sent last, and when.
    sent: Option<(u16, Duration)>,
    /// How many sendings were not refused.
    open: u32,
}

/// Commands that are passed on. Times are those of [`super::Surroundings::uptime`].
#[derive(Default)]
pub(super) struct Forwards {
    waiting: HashMap<u128, Waiting>,
}

/// What is to be done with a command that waits.
#[derive(Debug, PartialEq, Eq)]
enum Next {
    Wait,
    Send(u16),
    /// This node leads by now.
    Take,
    Tell(SubmitError),
}

impl Waiting {
    fn next(&self, lead: Lead, now: Duration) -> Next {
        if now.saturating_sub(self.since) >= PATIENCE {
            return Next::Tell(if self.open == 0 { SubmitError::NoQuorum } else { SubmitError::OutcomeUnknown });
        }
        // Without a key a second copy would be decided a second time.
        let may = self.open == 0 || self.command.envelope.key.is_some();
        match (lead, self.sent) {
            (Lead::Me, _) if may => Next::Take,
            (Lead::Other(node), Some((to, at))) if to == node && now.saturating_sub(at) < AGAIN => Next::Wait,
            (Lead::Other(node), _) if may => Next::Send(node),
            _ => Next::Wait,
        }
    }
}

impl Forwards {
    /// How many commands wait.
    pub(super) fn len(&self) -> usize {
        self.waiting.len()
    }

    /// Takes a command; it is passed on by the next [`Forwards::turn`].
    pub(super) fn add(&mut self, elsewhere: Elsewhere, now: Duration) {
        let Elsewhere { shard, command, answer, .. } = elsewhere;
        if self.waiting.len() >= WAITING_MAX {
            if let Some(answer) = answer {
                answer(Err(SubmitError::Busy));
            }
            return;
        }
        let request = command.envelope.request.0;
        let waiting = Waiting { shard, command, answer, since: now, sent: None, open: 0 };
        self.waiting.insert(request, waiting);
    }

    /// A command of this node was decided.
    pub(super) fn decided(&mut self, request: RequestId, reply: &Reply) {
        if let Some(answer) = self.waiting.remove(&request.0).and_then(|waiting| waiting.answer) {
            answer(Ok(reply.clone()));
        }
    }

    /// A leader did not take a command.
    pub(super) fn refused(&mut self, request: RequestId, why: SubmitError) {
        let Some(waiting) = self.waiting.get_mut(&request.0) else { return };
        waiting.open = waiting.open.saturating_sub(1);
        waiting.sent = None;
        // Another leads, or will before long: the next turn sends it there.
        let elsewhere = matches!(why, SubmitError::NotLeader | SubmitError::Draining);
        if !elsewhere
            && waiting.open == 0
            && let Some(answer) = self.waiting.remove(&request.0).and_then(|waiting| waiting.answer)
        {
            answer(Err(why));
        }
    }

    /// Sends what is to be sent and tells who has waited too long. Answers what is for this node, which leads by now.
    pub(super) fn turn(
        &mut self,
        now: Duration,
        lead: impl Fn(u16) -> Lead,
        mut send: impl FnMut(u16, u16, &Command) -> bool,
    ) -> Vec<(u16, Command, Option<AnswerFn>)> {
        let mut out = Vec::new();
        for (request, waiting) in &mut self.waiting {
            match waiting.next(lead(waiting.shard), now) {
                Next::Wait => {}
                Next::Send(to) => {
                    if send(to, waiting.shard, &waiting.command) {
                        (waiting.sent, waiting.open) = (Some((to, now)), waiting.open + 1);
                    }
                }
                next => out.push((*request, next)),
            }
        }
        let mut taken = Vec::new();
        for (request, next) in out {
            let Some(waiting) = self.waiting.remove(&request) else { continue };
            match (next, waiting.answer) {
                (Next::Take, answer) => taken.push((waiting.shard, waiting.command, answer)),
                (Next::Tell(why), Some(answer)) => answer(Err(why)),
                _ => {}
            }
        }
        taken
    }
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Mutex};

    use engine::{Action, Envelope, Key, LogTime};

    use super::*;

    fn command(request: u128, keyed: bool) -> Command {
        let key = keyed.then_some(Key { scoped: request, body: 1 });
        let envelope = Envelope { request: RequestId(request), key, at: LogTime(5), ..Envelope::default() };
        Command { envelope, action: Action::Tick, secret: None }
    }

    /// What is waiting for a command's answer.
    fn ask(forwards: &mut Forwards, request: u128, keyed: bool) -> Arc<Mutex<Vec<SubmitError>>> {
        let told = Arc::new(Mutex::new(Vec::new()));
        let tell = Arc::clone(&told);
        let answer: AnswerFn =
            Box::new(move |result| tell.lock().expect("one thread").push(result.expect_err("refused")));
        let command = command(request, keyed);
        forwards.add(Elsewhere { shard: 1, leader: None, command, answer: Some(answer) }, Duration::ZERO);
        told
    }

    fn sent(forwards: &mut Forwards, at_ms: u64, lead: Lead) -> (Vec<u16>, usize) {
        let mut to = Vec::new();
        let taken = forwards.turn(
            Duration::from_millis(at_ms),
            |_| lead,
            |node, _, _| {
                to.push(node);
                true
            },
        );
        (to, taken.len())
    }

    #[test]
    fn a_command_follows_the_leader_and_is_sent_twice_only_under_a_key() {
        let mut forwards = Forwards::default();
        ask(&mut forwards, 1, true);
        assert_eq!(sent(&mut forwards, 0, Lead::Nobody), (vec![], 0));
        assert_eq!(sent(&mut forwards, 10, Lead::Other(7)), (vec![7], 0));
        assert_eq!(sent(&mut forwards, 500, Lead::Other(7)), (vec![], 0), "once a second");
        assert_eq!(sent(&mut forwards, 1_010, Lead::Other(7)), (vec![7], 0));
        assert_eq!(sent(&mut forwards, 1_020, Lead::Other(8)), (vec![8], 0), "at once to another");
        assert_eq!(sent(&mut forwards, 1_030, Lead::Me), (vec![], 1), "and to this node itself");
        ask(&mut forwards, 2, false);
        assert_eq!(sent(&mut forwards, 2_000, Lead::Other(7)), (vec![7], 0));
        assert_eq!(sent(&mut forwards, 4_000, Lead::Other(8)), (vec![], 0));
        assert_eq!(sent(&mut forwards, 4_500, Lead::Me), (vec![], 0));
        forwards.refused(RequestId(2), SubmitError::NotLeader);
        assert_eq!(sent(&mut forwards, 4_600, Lead::Other(8)), (vec![8], 0), "the first was refused for certain");
    }

    #[test]
    fn only_what_was_certainly_not_taken_is_told_as_such() {
        let mut forwards = Forwards::default();
        let (never, lost, full) =
            (ask(&mut forwards, 1, true), ask(&mut forwards, 2, true), ask(&mut forwards, 3, true));
        let mut only = |request: u128, at_ms| {
            forwards.turn(
                Duration::from_millis(at_ms),
                |_| Lead::Other(7),
                |_, _, command| command.envelope.request.0 == request,
            );
        };
        only(2, 1);
        only(3, 2);
        only(3, 1_002);
        forwards.refused(RequestId(3), SubmitError::ReadOnly);
        assert!(full.lock().expect("one thread").is_empty(), "the other sending may have been taken");
        forwards.refused(RequestId(3), SubmitError::ReadOnly);
        assert_eq!(*full.lock().expect("one thread"), [SubmitError::ReadOnly]);
        sent(&mut forwards, 5_000, Lead::Nobody);
        assert_eq!(*never.lock().expect("one thread"), [SubmitError::NoQuorum]);
        assert_eq!(*lost.lock().expect("one thread"), [SubmitError::OutcomeUnknown]);
        assert_eq!(forwards.len(), 0);
    }

    #[test]
    fn frames_are_read_as_they_were_written() {
        let command = command(9, true);
        let frame = passed_on(3, 8, &command).expect("written");
        assert_eq!(read_passed(&frame.bytes), Some((8, command)));
        assert_eq!(read_passed(&frame.bytes[1..]), None);
        for (_, why) in REASONS {
            let frame = not_taken(3, RequestId(9), why).expect("written");
            assert_eq!(read_not_taken(&frame.bytes), Some((RequestId(9), why)));
        }
        assert!(not_taken(3, RequestId(9), SubmitError::OutcomeUnknown).is_none());
    }
}
