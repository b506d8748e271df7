//! The judge: knows everything that was sent and everything that was ever shown, and panics when a promise is broken.
//!
//! It holds a replica that never restarts (the cold replay) and, for every tender shard, the naive twin, which shares no
//! code with the engine. The letters in the messages are those of the invariants: D durability, A auction, F feed.
//! Never changes anything in the world.

use std::collections::{BTreeMap, BTreeSet};

use api::node::{Machine, SYSTEM_SHARD, SubmitError};
use api::render;
use engine::{
    Action, Answer, BidderNumber, Command, Engine, Entry, Key, LogTime, Lot, LotId, Recall, Reply, Sink, Step,
    Tender, TenderId,
};
use persistence::merkle::{empty_root, node_hash};
use persistence::{TreeHead, leaf_hash};
use sha2::{Digest, Sha256};

use crate::differential_parts::Comparison;
use crate::marks::{Mark, Marks};
use crate::node::{Found, TENDER_SHARDS};
use crate::totals::Totals;
use crate::twin::{Ask, Sent, Twin};

/// How often whole states are compared with the twin: every so many entries of a shard.
const STATES_EVERY: u64 = 12;

/// Seconds in which a command is answered, whatever the disk does; it may hang for five.
const ANSWERED_WITHIN: u64 = 30;

/// What became of a command.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fate {
    /// On its way, or the process that had it ended.
    UnderWay,
    /// Its sender was told that it was certainly not taken, or a start found that it had not become durable.
    NotTaken,
    /// In the log.
    Logged,
}

/// A command as a client sent it.
struct Record {
    shard: u16,
    command: Command,
    /// In the twin's words; accounts have none.
    sent: Option<Sent>,
    client: usize,
    /// Its place among what this client sent to this process.
    place: u64,
    process: u64,
    fate: Fate,
    /// Whether its sender was told anything.
    answered: bool,
}

struct Shard {
    /// Never restarted, never restored.
    replica: Machine,
    twin: Twin,
    comparison: Comparison,
    /// SHA-256 of each entry with its term, by index from 1.
    hashes: Vec<[u8; 32]>,
    /// The leaf of each command in log order, and how many there are up to each entry.
    leaves: Vec<[u8; 32]>,
    sizes: Vec<usize>,
    /// The entries themselves, and which of their commands were passed by.
    entries: Vec<(Entry, BTreeSet<usize>)>,
    /// The latest deadline that an entry has handled.
    handled: LogTime,
    /// Keys under which a command panicked.
    internal: BTreeSet<u128>,
    /// Place of the last logged command of each client's connection.
    places: BTreeMap<(u64, usize), u64>,
    since_states: u64,
}

/// Entries that a start did not find although their answers may have been seen.
#[derive(Debug)]
pub struct Loss {
    /// Shard, last known index, last found index.
    pub shards: Vec<(u16, u64, u64)>,
}

/// See the module.
pub struct Judge {
    shards: Vec<Shard>,
    sent: BTreeMap<u128, Record>,
    /// What the log says to those who were not answered yet.
    replies: BTreeMap<u128, Reply>,
    /// The first reply under each key, and its body.
    outcomes: BTreeMap<(u16, u128), (u64, Reply)>,
    /// The time and number of events of each step, by lot and seq from 1.
    steps: BTreeMap<LotId, Vec<LogTime>>,
    poisoned: BTreeSet<TenderId>,
    /// What the running process was sent and has not answered, and in which second.
    open: BTreeMap<u128, u64>,
    /// Seconds in which a process ran.
    seconds: u64,
    /// What became of what each user sent.
    senders: BTreeMap<u128, Totals>,
    history: Option<String>,
    process: u64,
    trace: Sha256,
    /// What must happen.
    pub marks: Marks,
    /// Commands in the log, answers checked, and steps shown to subscribers.
    pub commands: u64,
    /// See `commands`.
    pub answers: u64,
    /// See `commands`.
    pub frames: u64,
}

impl Shard {
    /// The hash of the state after a replay from zero to an entry.
    fn cold(&self, number: u16, last: u64) -> [u8; 32] {
        let mut machine = Machine::new(number);
        for (entry, passed) in &self.entries[..last as usize] {
            for position in passed {
                machine.pass_by(entry.index, *position as u32);
            }
            machine.apply(entry, &mut Unheard);
            machine.maintain();
        }
        machine.state_hash()
    }
}

/// Hears nothing of what a replay says again.
struct Unheard;

impl Sink for Unheard {
    fn reply(&mut self, _position: usize, _reply: &Reply) {}
}

/// Takes what the replica says.
struct Said<'a> {
    comparison: &'a mut Comparison,
    replies: Vec<Reply>,
    /// Positions that the twin knows nothing of.
    apart: &'a BTreeSet<usize>,
    compared: usize,
    steps: &'a mut BTreeMap<LotId, Vec<LogTime>>,
}

impl Sink for Said<'_> {
    fn reply(&mut self, position: usize, reply: &Reply) {
        assert_eq!(position, self.replies.len(), "answers come in order");
        self.replies.push(reply.clone());
        if !self.apart.contains(&position) {
            self.comparison.reply(self.compared, reply);
            self.compared += 1;
        }
    }

    fn step(&mut self, tender: &Tender, lot: &Lot, step: &Step) {
        let steps = self.steps.entry(lot.id).or_default();
        assert_eq!(step.seq, steps.len() as u64 + 1, "F3: the steps of a lot have no holes");
        steps.push(step.at);
        self.comparison.step(tender, lot, step);
    }
}

fn engine(machine: &Machine) -> &Engine {
    match machine {
        Machine::Tenders(engine) => engine,
        Machine::Accounts(_) => unreachable!("a tender shard holds an engine"),
    }
}

fn hash(term: u64, entry: &Entry) -> [u8; 32] {
    let mut hash = Sha256::new();
    hash.update(term.to_le_bytes());
    hash.update(wincode::serialize(entry).expect("what was logged can be encoded"));
    hash.finalize().into()
}

impl Judge {
    /// Nothing was sent yet.
    pub fn new() -> Self {
        let shard = |number| Shard {
            replica: Machine::new(number),
            twin: Twin::default(),
            comparison: Comparison::default(),
            hashes: Vec::new(),
            leaves: Vec::new(),
            sizes: Vec::new(),
            entries: Vec::new(),
            handled: LogTime(0),
            internal: BTreeSet::new(),
            places: BTreeMap::new(),
            since_states: 0,
        };
        Self {
            shards: (0..=TENDER_SHARDS).map(shard).collect(),
            sent: BTreeMap::new(),
            replies: BTreeMap::new(),
            outcomes: BTreeMap::new(),
            steps: BTreeMap::new(),
            poisoned: BTreeSet::new(),
            open: BTreeMap::new(),
            seconds: 0,
            senders: BTreeMap::new(),
            history: None,
            process: 0,
            trace: Sha256::new(),
            marks: Marks::default(),
            commands: 0,
            answers: 0,
            frames: 0,
        }
    }

    /// The twin of a tender shard, for who makes up commands.
    pub fn twin(&self, shard: u16) -> &Twin {
        &self.shards[usize::from(shard)].twin
    }

    /// What the twin makes commands with.
    pub fn encode(&mut self, shard: u16, sent: &Sent) -> Command {
        self.shards[usize::from(shard)].comparison.command(sent)
    }

    /// Adds to the trace.
    pub fn trace(&mut self, word: &str, number: u64) {
        self.trace.update(word.as_bytes());
        self.trace.update(number.to_le_bytes());
    }

    /// The trace so far, as hexadecimal digits.
    pub fn trace_hash(&self) -> String {
        self.trace.clone().finalize().iter().map(|byte| format!("{byte:02x}")).collect()
    }

    /// Publishing this tender panics.
    pub fn poisons(&mut self, tender: TenderId) {
        self.poisoned.insert(tender);
    }

    /// Whether something that panics may be in the log.
    pub fn knows_poison(&self) -> bool {
        !self.poisoned.is_empty()
    }

    /// A client sends a command.
    pub fn sends(&mut self, client: usize, place: u64, shard: u16, command: &Command, sent: Option<Sent>) {
        let record = Record {
            shard,
            command: command.clone(),
            sent,
            client,
            place,
            process: self.process,
            fate: Fate::UnderWay,
            answered: false,
        };
        self.senders.entry(command.envelope.user.0).or_default().submitted += 1;
        self.open.insert(command.envelope.request.0, self.seconds);
        let before = self.sent.insert(command.envelope.request.0, record);
        assert!(before.is_none(), "the world gives every command its own request");
    }

    /// A client is answered.
    pub fn answered(&mut self, request: u128, answer: &Result<Reply, SubmitError>) {
        let record = self.sent.get_mut(&request).expect("D5: only what was sent is answered");
        self.answers += 1;
        self.open.remove(&request);
        assert!(!std::mem::replace(&mut record.answered, true), "A7: request {request} was answered twice");
        let totals = self.senders.entry(record.command.envelope.user.0).or_default();
        match answer {
            Ok(reply) => totals.decided(reply),
            Err(SubmitError::OutcomeUnknown) => totals.unknown += 1,
            Err(why) => *totals.not_taken.entry(format!("{why:?}")).or_default() += 1,
        }
        if matches!(answer, Err(SubmitError::Busy)) {
            self.marks.hit(Mark::Busy);
        }
        match answer {
            Ok(reply) => {
                assert_eq!(
                    record.fate,
                    Fate::Logged,
                    "D4: request {request} was answered before it was in the log"
                );
                let expected = self.replies.remove(&request).expect("A7: a command is answered once");
                assert_eq!(*reply, expected, "A1: the answer (left) to request {request}");
                let word = if reply.replayed { "replayed" } else { "answered" };
                self.trace(word, request as u64);
            }
            Err(SubmitError::OutcomeUnknown) => self.trace("unknown", request as u64),
            Err(
                SubmitError::Busy
                | SubmitError::Draining
                | SubmitError::ReadOnly
                | SubmitError::Unsealable
                | SubmitError::NotLeader
                | SubmitError::NoQuorum,
            ) => {
                assert_ne!(record.fate, Fate::Logged, "D6: request {request} was refused and is in the log");
                record.fate = Fate::NotTaken;
                self.trace("not taken", request as u64);
            }
        }
    }

    /// An entry was applied and answered by the running process.
    pub fn published(&mut self, shard: u16, term: u64, entry: &Entry, promised: u64) {
        assert!(
            entry.index <= promised,
            "D4: entry {} of shard {shard} was answered and is not durable",
            entry.index
        );
        let known = self.shards[usize::from(shard)].hashes.len() as u64;
        assert_eq!(entry.index, known + 1, "D3: entries of shard {shard} are published in order and once");
        self.entry(shard, term, entry, &BTreeSet::new());
    }

    /// A process has started.
    ///
    /// # Errors
    /// [`Loss`] when entries are gone whose answers may have been seen; whether that can be told apart from a torn
    /// tail, the world knows.
    pub fn recovered(&mut self, found: &Found) -> Result<(), Loss> {
        let history = self.history.get_or_insert_with(|| found.history.clone());
        assert_eq!(*history, found.history, "D3: the history stays the same");
        let lost = |(shard, last): (usize, &u64)| {
            let known = self.shards[shard].hashes.len() as u64;
            (*last < known).then_some((shard as u16, known, *last))
        };
        let shards: Vec<_> = found.last.iter().enumerate().filter_map(lost).collect();
        if !shards.is_empty() {
            return Err(Loss { shards });
        }
        let panicked = found.poisoned.iter().map(|(mark, _)| mark);
        let marks: Vec<_> = found.skips.iter().chain(panicked).copied().collect();
        for recovered in &found.entries {
            let (shard, index) = (recovered.shard, recovered.entry.index);
            let known = self.shards[usize::from(shard)].hashes.len() as u64;
            if index <= known {
                let expected = self.shards[usize::from(shard)].hashes[index as usize - 1];
                let same = hash(recovered.term, &recovered.entry) == expected;
                assert!(same, "D3: entry {index} of shard {shard} has changed");
                continue;
            }
            assert_eq!(index, known + 1, "D7: entries of shard {shard} are missing");
            let passed: BTreeSet<usize> = marks
                .iter()
                .filter(|mark| (mark.shard, mark.index) == (shard, index))
                .map(|mark| mark.position as usize)
                .collect();
            self.entry(shard, recovered.term, &recovered.entry, &passed);
        }
        for (shard, last) in found.last.iter().enumerate() {
            let known = self.shards[shard].hashes.len() as u64;
            assert_eq!(known, *last, "D7: shard {shard} stands where its entries end");
        }
        self.stated(&found.tree_heads);
        self.same_states(found.machines.iter(), "after a start");
        if !found.poisoned.is_empty() {
            self.marks.hit(Mark::PoisonPassedBy);
        }
        self.open.clear();
        self.nobody_answers();
        // What the process before had not made durable is gone for ever.
        for record in self.sent.values_mut().filter(|record| record.fate == Fate::UnderWay) {
            record.fate = Fate::NotTaken;
        }
        self.process += 1;
        self.trace("started", self.process);
        Ok(())
    }

    /// D7: what the log states of the trees is what its entries give, computed from all leaves.
    fn stated(&mut self, heads: &[(u16, TreeHead)]) {
        for (number, head) in heads {
            let shard = &self.shards[usize::from(*number)];
            let size = shard.sizes.get(head.index as usize - 1).copied().unwrap_or(usize::MAX);
            assert_eq!(
                head.size(),
                size as u64,
                "D7: the size of the tree of shard {number} as stated (left) as of entry {}",
                head.index
            );
            let root = root_of(&shard.leaves[..size]);
            assert!(head.root() == root, "D7: the root of shard {number} as stated as of entry {}", head.index);
            self.trace.update(root);
            self.marks.hit(Mark::TreeHeadStated);
        }
    }

    /// A process has started on a folder that was restored: to its end, or to some point.
    pub fn restored(&mut self, found: &Found, to_end: bool) {
        self.stated(&found.tree_heads);
        for recovered in &found.entries {
            let (shard, index) = (recovered.shard, recovered.entry.index);
            let expected = self.shards[usize::from(shard)].hashes.get(index as usize - 1);
            let same = expected == Some(&hash(recovered.term, &recovered.entry));
            assert!(same, "P3: entry {index} of shard {shard} was restored as another");
        }
        for (number, (last, machine)) in found.last.iter().zip(&found.machines).enumerate() {
            let shard = &self.shards[number];
            let known = shard.hashes.len() as u64;
            assert!(
                *last == known || (!to_end && *last < known),
                "P3: shard {number} is restored to {last} of {known}"
            );
            let cold = if *last == known { shard.replica.state_hash() } else { shard.cold(number as u16, *last) };
            assert!(
                machine.state_hash() == cold,
                "P3: shard {number} restored to {last} differs from a cold replay"
            );
            self.trace.update(cold);
        }
    }

    /// The process has ended: what it did not answer nobody will.
    fn nobody_answers(&mut self) {
        for record in self.sent.values_mut().filter(|record| !record.answered) {
            record.answered = true;
            self.senders.entry(record.command.envelope.user.0).or_default().unknown += 1;
        }
    }

    /// A second has passed: what the running process was sent long before was answered.
    pub fn second(&mut self) {
        self.seconds += 1;
        let overdue = self.open.iter().find(|(_, since)| **since + ANSWERED_WITHIN < self.seconds);
        assert!(overdue.is_none(), "V3: request {overdue:?} is not answered by second {}", self.seconds);
    }

    /// A process ends as it was asked to: everything that came to it was answered.
    pub fn ended_as_asked(&mut self) {
        let left = self.sent.iter().find(|(_, record)| !record.answered);
        assert!(left.is_none(), "A7: request {:?} was never answered", left.map(|(request, _)| request));
    }

    /// What became of everything that was sent.
    ///
    /// # Panics
    /// When something is left over, of any sender.
    pub fn totals(&self) -> Totals {
        let mut all = Totals::default();
        for (sender, totals) in &self.senders {
            assert_eq!(totals.submitted, totals.accounted(), "A7: what sender {sender} sent (left): {totals:?}");
            all.add(totals);
        }
        all
    }

    /// The last known entry of each shard.
    pub fn known(&self) -> Vec<u64> {
        self.shards.iter().map(|shard| shard.hashes.len() as u64).collect()
    }

    /// How many processes have started.
    pub fn process(&self) -> u64 {
        self.process
    }

    /// Whether a request is in the log.
    pub fn is_logged(&self, request: u128) -> bool {
        self.sent.get(&request).is_some_and(|record| record.fate == Fate::Logged)
    }

    /// Compares the states of a running node with the replica's, where both stand at the same entry.
    pub fn same_states<'a>(&mut self, machines: impl Iterator<Item = &'a Machine>, when: &str) {
        for (shard, machine) in machines.enumerate() {
            let replica = &self.shards[shard].replica;
            if machine.index() == replica.index() {
                let hash = replica.state_hash();
                assert!(machine.state_hash() == hash, "A1: the state of shard {shard} differs {when}");
                self.trace.update(hash);
            }
        }
    }

    /// What a running node would show a reader of a lot behind `after`: frames, and where they end.
    pub fn shown(&mut self, lot: LotId, after: u64, frames: &[impl AsRef<str>], seq: u64) {
        let steps = self.steps.get(&lot).map_or(&[][..], Vec::as_slice);
        assert!(
            seq <= steps.len() as u64,
            "F7: lot {lot:?} shows step {seq}, of {} that are durable",
            steps.len()
        );
        assert_eq!(seq, after + frames.len() as u64, "F6: a place is the last step that was sent");
        for (number, frame) in frames.iter().enumerate() {
            let expected = after + number as u64 + 1;
            let frame: serde_json::Value = serde_json::from_str(frame.as_ref()).expect("a frame is JSON");
            assert_eq!(frame["seq"].as_u64(), Some(expected), "F1 to F3: steps come in order, once, all");
            let at = api::body::TimeText(steps[expected as usize - 1]);
            let at = serde_json::to_value(at).expect("a time can be written");
            assert_eq!(frame["at"], at, "F4: step {expected} of {lot:?} is shown as it happened");
            self.frames += 1;
        }
    }

    /// What a reader is told about a command under its key, after everything before is settled.
    pub fn recalled(&mut self, request: u128, recall: Option<Recall>) {
        let record = &self.sent[&request];
        let Some(key) = record.command.envelope.key else { return };
        let expected = self.outcomes.get(&(record.shard, key.scoped));
        let drawn = draws_numbers(&self.shards[usize::from(record.shard)].replica, &record.command);
        let told = match recall {
            Some(Recall::Reply(reply)) => Some(comparable(Reply { replayed: false, ..reply }, drawn)),
            Some(Recall::Reused) => {
                assert!(expected.is_some_and(|(body, _)| *body != key.body), "D6: a key is told to be used again");
                return;
            }
            None => None,
        };
        let expected = expected.filter(|(body, _)| *body == key.body);
        let expected = expected.map(|(_, reply)| comparable(reply.clone(), drawn));
        assert_eq!(told, expected, "D6: what is told (left) about the key of request {request}");
    }

    /// A tender lot whose feed exists, chosen by `pick` among them.
    pub fn lots(&self) -> Vec<LotId> {
        self.steps.keys().copied().collect()
    }

    /// Takes the next entry of a shard, wherever it was seen first; `passed` are the commands that panicked.
    fn entry(&mut self, number: u16, term: u64, entry: &Entry, passed: &BTreeSet<usize>) {
        let hash = hash(term, entry);
        self.trace.update(hash);
        self.commands += entry.commands.len() as u64;
        for command in &entry.commands {
            self.was_sent(number, command);
        }
        if number == SYSTEM_SHARD {
            self.accounts(entry);
        } else {
            self.tenders(number, entry, passed);
        }
        let shard = &mut self.shards[usize::from(number)];
        shard.hashes.push(hash);
        shard.leaves.extend(entry.commands.iter().map(leaf_hash));
        shard.sizes.push(shard.leaves.len());
        shard.entries.push((entry.clone(), passed.clone()));
    }

    /// D5, D6, A5, A8: a logged command is one that a client sent, once, unchanged but for its stamp, in order.
    fn was_sent(&mut self, number: u16, command: &Command) {
        let envelope = &command.envelope;
        let shard = &mut self.shards[usize::from(number)];
        if envelope.request.0 == 0 {
            let system = matches!(command.action, Action::Tick | Action::Takeover { .. } | Action::Skip { .. });
            assert!(system, "D5: a phantom: {command:?}");
            return;
        }
        let record = self.sent.get_mut(&envelope.request.0).expect("D5: a phantom: nobody sent this command");
        assert_eq!(record.fate, Fate::UnderWay, "D6: {:?} is in the log and was settled before", envelope.request);
        record.fate = Fate::Logged;
        assert_eq!(record.shard, number, "D5: a command is in the shard it was sent to");
        let of_client = &record.command.envelope;
        assert!(envelope.at >= of_client.at, "A5: a stamp is never lowered");
        let same = (envelope.organisation, envelope.key, envelope.request, envelope.user)
            == (of_client.organisation, of_client.key, of_client.request, of_client.user);
        assert!(same && command.action.tender() == record.command.action.tender(), "D5: {command:?} was changed");
        if command.secret.is_none() || record.command.secret.is_some() {
            assert_eq!(command.action, record.command.action, "D5: the command was changed");
            assert_eq!(command.secret, record.command.secret, "D5: the secret was changed");
        }
        assert!(
            of_client.at >= shard.handled,
            "A4: request {} was stamped at {} and is logged behind the deadline {}",
            envelope.request.0,
            of_client.at.0,
            shard.handled.0
        );
        let last = shard.places.insert((record.process, record.client), record.place);
        assert!(last.is_none_or(|last| last < record.place), "A8: commands of client {} overtook", record.client);
    }

    fn accounts(&mut self, entry: &Entry) {
        let shard = &mut self.shards[usize::from(SYSTEM_SHARD)];
        let none = BTreeSet::from_iter(0..entry.commands.len());
        let mut said = Said {
            comparison: &mut shard.comparison,
            replies: Vec::new(),
            apart: &none,
            compared: 0,
            steps: &mut self.steps,
        };
        shard.replica.apply(entry, &mut said);
        let replies = said.replies;
        self.outcome(SYSTEM_SHARD, entry, &replies);
    }

    fn tenders(&mut self, number: u16, entry: &Entry, passed: &BTreeSet<usize>) {
        let shard = &mut self.shards[usize::from(number)];
        let mut apart = passed.clone();
        for (position, command) in entry.commands.iter().enumerate() {
            let scoped = command.envelope.key.map(|key| key.scoped);
            if passed.contains(&position) {
                let publishes =
                    matches!(command.action, Action::Publish { tender } if self.poisoned.contains(&tender));
                assert!(publishes, "A1: a sound command panicked: {command:?}");
                shard.replica.pass_by(entry.index, position as u32);
                shard.internal.extend(scoped);
            } else if scoped.is_some_and(|scoped| shard.internal.contains(&scoped)) {
                apart.insert(position);
            }
        }
        let mut said = Said {
            comparison: &mut shard.comparison,
            replies: Vec::new(),
            apart: &apart,
            compared: 0,
            steps: &mut self.steps,
        };
        shard.replica.apply(entry, &mut said);
        shard.replica.maintain();
        let replies = said.replies;
        let (mut batch, mut told) = (Vec::new(), Vec::new());
        for (position, command) in entry.commands.iter().enumerate() {
            if passed.contains(&position) {
                continue;
            }
            let record = self.sent.get(&command.envelope.request.0);
            let mut sent = words(command, record.and_then(|record| record.sent.as_ref()));
            if apart.contains(&position) {
                sent = Sent { ask: Ask::Tick, key: None, ..sent };
            }
            let due = shard.twin.next_deadline().filter(|due| *due <= sent.at);
            if let Some(due) = due {
                shard.handled = shard.handled.max(LogTime(due));
                if matches!(sent.ask, Ask::Takeover { .. }) {
                    self.marks.hit(Mark::DeadlineWhileDown);
                } else if command.envelope.request.0 != 0 {
                    self.marks.hit(Mark::DeadlineAndBidInOneBatch);
                }
            }
            // Also within one entry, whatever stamp it was given there.
            if let Some(record) = record {
                let at = record.command.envelope.at;
                assert!(
                    at >= shard.handled,
                    "A4: request {} was stamped at {} and is decided behind the deadline {}",
                    command.envelope.request.0,
                    at.0,
                    shard.handled.0
                );
            }
            if let Ask::Update { tender, right_version, seen, .. } = &mut sent.ask {
                // The twin counts no versions; that they count is the engine's own tests' affair.
                let tick = Sent { ask: Ask::Tick, key: None, ..sent_at(command) };
                shard.twin.sealed = command.secret.is_some();
                shard.twin.take(&tick);
                *right_version = !replies[position].answer.is_refused_as("version_mismatch");
                if let Some(place) = shard.twin.find(*tender) {
                    *seen = shard.twin.tenders[place].stage;
                }
            }
            shard.twin.sealed = command.secret.is_some();
            let said = shard.twin.take(&sent);
            if !apart.contains(&position) {
                told.push((said, shard.twin.repeated));
                batch.push(sent);
            }
        }
        shard.comparison.replies(&batch, &told, &mut shard.twin);
        let replica = engine(&shard.replica);
        for tender in &shard.twin.tenders {
            if let Some(theirs) = replica.tender(crate::differential_parts::tender_id(tender.id)) {
                shard.comparison.seen(tender.id, theirs.version);
            }
        }
        shard.since_states += 1;
        if shard.since_states >= STATES_EVERY {
            shard.since_states = 0;
            shard.comparison.states(&shard.twin, replica, false);
        }
        self.outcome(number, entry, &replies);
    }

    /// D6: one outcome a key.
    fn outcome(&mut self, number: u16, entry: &Entry, replies: &[Reply]) {
        for (command, reply) in entry.commands.iter().zip(replies) {
            let request = command.envelope.request.0;
            if request == 0 {
                continue;
            }
            self.replies.insert(request, reply.clone());
            let Some(Key { scoped, body }) = command.envelope.key else { continue };
            let drawn = draws_numbers(&self.shards[usize::from(number)].replica, command);
            if reply.replayed {
                let (first_body, first) = self.outcomes.get(&(number, scoped)).expect("D6: a first outcome");
                assert_eq!(*first_body, body, "D6: another body under the key is told");
                let expected = Reply { replayed: true, ..first.clone() };
                assert_eq!(
                    comparable(reply.clone(), drawn),
                    comparable(expected, drawn),
                    "D6: the outcome (left) under the key of request {request}"
                );
                if self.sent.get(&first.request.0).is_some_and(|first| first.process < self.process) {
                    self.marks.hit(Mark::DuplicateAfterCrash);
                }
            } else if !self.outcomes.contains_key(&(number, scoped))
                && !reply.answer.is_refused_as("tender_not_found")
                && !reply.answer.is_refused_as("lot_not_found")
            {
                self.outcomes.insert((number, scoped), (body, reply.clone()));
            }
        }
    }

    /// Compares everything that can be compared.
    pub fn everything(&mut self) {
        for shard in &mut self.shards[1..] {
            shard.comparison.states(&shard.twin, engine(&shard.replica), true);
        }
    }

    /// Answers and events met so far, by the twin's words.
    pub fn met(&self) -> BTreeMap<String, usize> {
        let mut met = BTreeMap::new();
        for (word, count) in self.shards.iter().flat_map(|shard| &shard.comparison.tally) {
            *met.entry(word.clone()).or_default() += count;
        }
        met
    }
}

impl Default for Judge {
    fn default() -> Self {
        Self::new()
    }
}

/// The root over leaves as RFC 9162 section 2.1.1 defines it.
fn root_of(leaves: &[[u8; 32]]) -> [u8; 32] {
    match leaves {
        [] => empty_root(),
        [leaf] => *leaf,
        _ => {
            let (left, right) = leaves.split_at(leaves.len().next_power_of_two() / 2);
            node_hash(&root_of(left), &root_of(right))
        }
    }
}

/// Whether the tender of a command is, or was when it was created, anonymous to its buyer.
fn draws_numbers(replica: &Machine, command: &Command) -> bool {
    let (Machine::Tenders(engine), Some(tender)) = (replica, command.action.tender()) else { return false };
    let tender = engine.tender(tender);
    tender.is_some_and(|tender| tender.spec().anonymous_to_buyer || tender.created_spec().anonymous_to_buyer)
}

/// An answer as it can be compared with a later one to the same command. Where numbers are `drawn` at the opening, one
/// of before is told again with the number that was drawn, so it is left out. (The twin compares numbers.)
fn comparable(mut reply: Reply, drawn: bool) -> Reply {
    if !drawn {
        return reply;
    }
    match &mut reply.answer {
        Answer::Bid(bid) => bid.bidder = BidderNumber::NONE,
        Answer::Voided(void) => void.bidder = BidderNumber::NONE,
        Answer::Bidder(bidder) => bidder.number = None,
        _ => {}
    }
    reply
}

/// Whether an answer is a refusal with this code.
trait Coded {
    fn is_refused_as(&self, code: &str) -> bool;
}

impl Coded for Answer {
    fn is_refused_as(&self, code: &str) -> bool {
        matches!(self, Self::Refused(refused) if refused.refusal.code() == code)
    }
}

fn sent_at(command: &Command) -> Sent {
    let envelope = &command.envelope;
    Sent { at: envelope.at.0, from: 0, request: 0, salt: envelope.salt, key: None, ask: Ask::Tick }
}

/// A logged command in the twin's words.
fn words(command: &Command, sent: Option<&Sent>) -> Sent {
    let system = sent_at(command);
    match sent {
        Some(sent) => Sent { at: system.at, salt: system.salt, ..sent.clone() },
        None => match command.action {
            Action::Takeover { planned } => Sent { ask: Ask::Takeover { planned }, ..system },
            _ => system,
        },
    }
}

/// The audience of the buyer, who sees everything there is to see.
pub fn audience(tender: &Tender, lot: &Lot) -> render::Audience {
    render::audiences(tender, lot).buyer
}
