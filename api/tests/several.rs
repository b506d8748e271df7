//! Three nodes' sequencers in one thread, over real logs on disks that lose power: seeded network, virtual time. What was
//! answered is never lost, a key has one outcome, a term one writer that first says that it took over, and all states
//! are equal.

#[path = "support/spec.rs"]
mod spec;

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::path::PathBuf;
use std::rc::Rc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use api::feed::Hub;
use api::node::{
    Committed, LeaderClock, Machine, MachineClocks, Received, Recovery, Sequencer, Submission, SubmitError,
    Surroundings, recover, tender_shard,
};
use engine::{
    Action, Command, Decimal, Entry, Envelope, Format, Key, LogTime, LotStage, OrganisationId, Reply, RequestId,
    TenderId, TenderSpec,
};
use persistence::faulty::{Crash, FaultyDisk};
use persistence::raft::{Raft, RaftMember, RaftOptions};
use persistence::{AppendError, Batch, Change, Lead, Log, LogEvent, Message, Options, ReplicationError};
use spec::{one_lot, rules};

const NODES: u16 = 3;
const TENDER_SHARDS: u16 = 2;
/// Milliseconds of a step of the world.
const STEP_MS: i64 = 5;
/// Steps between two ticks of the election clock.
const TICK: i64 = 4;
/// When the world begins, by the wall clocks of its nodes.
const BEGIN_MS: i64 = 1_700_000_000_000;
const BUYER: OrganisationId = OrganisationId(1 << 64);
const SUPPLIERS: [OrganisationId; 3] = [OrganisationId(2 << 64), OrganisationId(3 << 64), OrganisationId(4 << 64)];

/// SplitMix64.
struct Dice(u64);

impl Dice {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ (z >> 31)
    }

    fn below(&mut self, n: u64) -> u64 {
        self.next() % n
    }

    fn one_in(&mut self, n: u64) -> bool {
        self.below(n) == 0
    }
}

/// A node's clocks: true time and what its wall clock is ahead of it.
#[derive(Debug)]
struct Clocks {
    at_ms: Arc<AtomicI64>,
    ahead_ms: i64,
}

impl MachineClocks for Clocks {
    fn mono_ns(&self) -> i64 {
        self.at_ms.load(Ordering::Relaxed) * 1_000_000
    }

    fn wall_ns(&self) -> i64 {
        (BEGIN_MS + self.ahead_ms + self.at_ms.load(Ordering::Relaxed)) * 1_000_000
    }
}

/// Answers, by request.
type Answers = Arc<Mutex<Vec<(u128, Result<Reply, SubmitError>)>>>;

/// What is around one sequencer.
struct Io {
    at_ms: Arc<AtomicI64>,
    clock: LeaderClock,
    ring: VecDeque<Submission>,
    log: Log,
    flight: Option<Batch>,
    events: VecDeque<LogEvent>,
    sent: Vec<Message>,
    committed: Vec<Committed>,
    led: Vec<Change>,
    leads: BTreeSet<u16>,
    read_only: bool,
    inline: bool,
}

impl Io {
    fn append(&mut self, mut batch: Batch) -> LogEvent {
        match self.log.append(&mut batch) {
            Ok(()) => LogEvent::Flushed { batch },
            Err(AppendError::ReadOnly(_)) => LogEvent::Refused { batch },
            Err(AppendError::Failed(error)) => LogEvent::Failed { error: error.to_string() },
        }
    }
}

struct Around(Rc<RefCell<Io>>);

impl Surroundings for Around {
    fn now(&self) -> LogTime {
        self.0.borrow().clock.now()
    }

    fn uptime(&self) -> Duration {
        Duration::from_millis(self.0.borrow().at_ms.load(Ordering::Relaxed) as u64)
    }

    fn receive(&mut self) -> Received {
        self.0.borrow_mut().ring.pop_front().map_or(Received::Nothing, Received::Submission)
    }

    fn wait_before(&mut self, _time: LogTime) -> bool {
        true
    }

    fn append(&mut self, batch: Batch, alone: bool) -> Option<LogEvent> {
        let mut io = self.0.borrow_mut();
        if alone && io.inline {
            return Some(io.append(batch));
        }
        assert!(io.flight.is_none(), "one flush at a time");
        io.flight = Some(batch);
        None
    }

    fn applied(&mut self, _shard: u16, _index: u64) {}

    fn committed(&mut self, committed: Committed) {
        self.0.borrow_mut().committed.push(committed);
    }

    fn read_only(&self) -> bool {
        self.0.borrow().read_only
    }

    fn set_read_only(&mut self, read_only: bool) {
        self.0.borrow_mut().read_only = read_only;
    }

    fn salt(&self) -> [u8; 16] {
        [7; 16]
    }

    fn stop(&self, reason: &str) -> ! {
        panic!("a node stopped: {reason}")
    }

    fn send(&mut self, message: Message) {
        self.0.borrow_mut().sent.push(message);
    }

    fn led(&mut self, change: Change) {
        let mut io = self.0.borrow_mut();
        match change.lead {
            Lead::Me => io.leads.insert(change.shard),
            _ => io.leads.remove(&change.shard),
        };
        io.led.push(change);
    }

    fn anchor(&mut self, last: LogTime) {
        let io = self.0.borrow();
        io.clock.anchor(last, io.leads.is_empty());
        assert!(io.clock.now() >= last);
    }
}

struct Running {
    sequencer: Sequencer<Around>,
    io: Rc<RefCell<Io>>,
}

struct Member {
    disk: FaultyDisk,
    running: Option<Running>,
    starts: u64,
}

/// A request that is on its way, and the step in which it was sent.
type Sent = Option<(u128, i64)>;

/// A client that sends one command after another.
#[derive(Default)]
struct Client {
    /// What is not decided yet, and its shard.
    waiting: Option<(Command, u16, Sent)>,
}

struct World {
    dice: Dice,
    members: Vec<Member>,
    net: Vec<(i64, u16, u16, Message)>,
    cut: BTreeSet<(u16, u16)>,
    /// One message in so many is lost, 0: none; likewise repeated and late.
    weather: [u64; 3],
    steps: i64,
    answers: Answers,
    clients: Vec<Client>,
    request: u128,
    key: u128,
    tenders: Vec<TenderId>,
    price: i64,
    /// By shard and index: term and entry of what was committed.
    history: Vec<BTreeMap<u64, (u64, Arc<Entry>)>>,
    /// The keys of the commands that were committed, by request.
    decided: BTreeMap<u128, Vec<u128>>,
    leaders: BTreeMap<(u16, u64), u16>,
    planned: BTreeSet<(u16, u64)>,
    /// The outcome of each key, and how many answers there were.
    outcomes: BTreeMap<u128, Reply>,
    answered: u64,
    unknown: u64,
    refused: u64,
    crashes: u64,
    full: u64,
}

fn layout(node: u16) -> Options {
    Options {
        segment_bytes: 64 << 10,
        shards: TENDER_SHARDS + 1,
        cluster: Some(77),
        replicated: true,
        node,
        ..Options::new(PathBuf::from("/data"), PathBuf::from("/keys"))
    }
}

impl World {
    fn new(seed: u64) -> Self {
        let member = |_| Member { disk: FaultyDisk::new(), running: None, starts: 0 };
        let mut world = Self {
            dice: Dice(seed),
            members: (0..NODES).map(member).collect(),
            net: Vec::new(),
            cut: BTreeSet::new(),
            weather: [0; 3],
            steps: 0,
            answers: Arc::default(),
            clients: (0..4).map(|_| Client::default()).collect(),
            request: 0,
            key: 0,
            tenders: Vec::new(),
            price: 1_000_000_000,
            history: vec![BTreeMap::new(); usize::from(TENDER_SHARDS) + 1],
            decided: BTreeMap::new(),
            leaders: BTreeMap::new(),
            planned: BTreeSet::new(),
            outcomes: BTreeMap::new(),
            answered: 0,
            unknown: 0,
            refused: 0,
            crashes: 0,
            full: 0,
        };
        for node in 1..=NODES {
            world.start(node);
        }
        world
    }

    fn start(&mut self, node: u16) {
        let member = &mut self.members[usize::from(node) - 1];
        member.starts += 1;
        let recovery = recover(Arc::new(member.disk.clone()), layout(node), &Hub::new(), 0).expect("it starts");
        let Recovery { log, recovered, shards, poisoned, .. } = recovery;
        assert!(poisoned.is_empty());
        let machines: Vec<Machine> = shards.into_iter().map(|shard| shard.machine).collect();
        for (shard, machine) in machines.iter().enumerate() {
            let known = self.history[shard].last_key_value().map_or(0, |(index, _)| *index);
            assert!(machine.index() <= known, "a start applies what was committed and nothing else");
        }
        let members = (1..=NODES).map(|node| RaftMember { node, site: node, witness: false }).collect();
        let options = RaftOptions {
            node,
            disk: u64::from(node),
            members,
            bootstrap: true,
            doubtful: false,
            both: false,
            fall_back_ticks: 50,
            beat_ticks: 2,
            election_ticks: 10,
            own_election_ticks: 10 + 3 * usize::from(node),
            preferred: vec![1, 2, 3],
        };
        let raft = Raft::new(options, recovered.shard_logs().expect("read"));
        let last = machines.iter().map(Machine::now).max().unwrap_or(LogTime(0));
        let at_ms = Arc::new(AtomicI64::new(self.steps * STEP_MS));
        let clocks = Clocks { at_ms: Arc::clone(&at_ms), ahead_ms: 40 * (i64::from(node) - 2) };
        let io = Io {
            at_ms,
            clock: LeaderClock::of_machine(Box::new(clocks), last),
            ring: VecDeque::new(),
            log,
            flight: None,
            events: VecDeque::new(),
            sent: Vec::new(),
            committed: Vec::new(),
            led: Vec::new(),
            leads: BTreeSet::new(),
            read_only: false,
            inline: self.dice.one_in(2),
        };
        let io = Rc::new(RefCell::new(io));
        let sequencer = Sequencer::new(machines, Box::new(raft), recovered.sealer.clone(), Around(Rc::clone(&io)));
        self.members[usize::from(node) - 1].running = Some(Running { sequencer, io });
    }

    fn crash(&mut self, node: u16) {
        let kind = self.dice.next();
        let later = 1 + self.dice.below(4);
        let member = &mut self.members[usize::from(node) - 1];
        let Some(running) = member.running.take() else { return };
        self.crashes += 1;
        // In the middle of a flush, if there is one.
        let flight = running.io.borrow_mut().flight.take();
        if let Some(batch) = flight {
            member.disk.plan(|faults| faults.crash_at = Some(faults.operations + later));
            let mut io = running.io.borrow_mut();
            io.append(batch);
        }
        drop(running);
        member.disk.restart(match kind % 4 {
            0 => Crash::Lost,
            1 => Crash::Process,
            2 => Crash::Torn(kind),
            _ => Crash::Random(kind),
        });
    }

    fn send(&mut self, from: u16, message: Message) {
        let [lost, repeated, late] = self.weather;
        if lost > 0 && self.dice.one_in(lost) {
            return;
        }
        let copies = 1 + u64::from(repeated > 0 && self.dice.one_in(repeated));
        for _ in 0..copies {
            let delay = if late > 0 && self.dice.one_in(late) { self.dice.below(100) as i64 } else { 1 };
            let arrives = Message { peer: from, ..message.clone() };
            self.net.push((self.steps + delay, from, message.peer, arrives));
        }
    }

    /// One step of the world.
    fn step(&mut self) {
        self.steps += 1;
        let now = self.steps;
        let due: Vec<_> = self.net.extract_if(.., |(at, ..)| *at <= now).collect();
        for (_, from, to, message) in due {
            if !self.cut.contains(&(from, to))
                && let Some(running) = &mut self.members[usize::from(to) - 1].running
            {
                match running.sequencer.step(message) {
                    Ok(()) | Err(ReplicationError::Stranger) => {}
                    Err(error) => panic!("a member's message is understood: {error}"),
                }
            }
        }
        for node in 1..=NODES {
            let flushes = self.dice.one_in(2);
            let Some(running) = &mut self.members[usize::from(node) - 1].running else { continue };
            {
                let mut io = running.io.borrow_mut();
                io.at_ms.store(now * STEP_MS, Ordering::Relaxed);
                if flushes && let Some(batch) = io.flight.take() {
                    let event = io.append(batch);
                    io.events.push_back(event);
                }
                // As the log thread does.
                if io.log.is_full() {
                    io.log.retry().ok();
                }
                if io.read_only && !io.log.read_only() && io.events.is_empty() {
                    io.events.push_back(LogEvent::Writable);
                }
            }
            if now % TICK == 0 {
                running.sequencer.tick();
            }
            let events = std::mem::take(&mut running.io.borrow_mut().events);
            for event in events {
                self.full += u64::from(matches!(event, LogEvent::Refused { .. }));
                running.sequencer.event(event);
            }
            running.sequencer.turn();
            self.look(node);
        }
        self.read_answers();
    }

    /// Judges what a node did in its turn, and sends what it sent.
    fn look(&mut self, node: u16) {
        let Some(running) = &mut self.members[usize::from(node) - 1].running else { return };
        let mut io = running.io.borrow_mut();
        let (sent, committed) = (std::mem::take(&mut io.sent), std::mem::take(&mut io.committed));
        let led = std::mem::take(&mut io.led);
        drop(io);
        for Committed { shard, term, entry } in committed {
            let known = self.history[usize::from(shard)].entry(entry.index).or_insert_with(|| {
                for Command { envelope, .. } in &entry.commands {
                    let key = envelope.key.map_or(0, |key| key.scoped);
                    self.decided.entry(envelope.request.0).or_default().push(key);
                }
                (term, Arc::clone(&entry))
            });
            assert_eq!(*known, (term, entry), "what was committed never changes");
        }
        for change in led.into_iter().filter(|change| change.lead == Lead::Me) {
            let first = *self.leaders.entry((change.shard, change.term)).or_insert(node);
            assert_eq!(first, node, "one writer a term");
            if change.planned {
                self.planned.insert((change.shard, change.term));
            }
        }
        for message in sent {
            self.send(node, message);
        }
    }

    fn read_answers(&mut self) {
        let answers = std::mem::take(&mut *self.answers.lock().expect("one thread"));
        for (request, answer) in answers {
            match &answer {
                Ok(reply) => self.answered(request, reply),
                Err(SubmitError::OutcomeUnknown) => self.unknown += 1,
                Err(_) => self.refused += 1,
            }
            let found = self.clients.iter_mut().find(|client| {
                client.waiting.as_ref().is_some_and(|(.., sent)| sent.is_some_and(|(known, _)| known == request))
            });
            let Some(client) = found else { continue };
            match answer {
                Ok(_) => client.waiting = None,
                // Under the same key, and as another request.
                Err(_) => {
                    if let Some((.., sent)) = &mut client.waiting {
                        *sent = None;
                    }
                }
            }
        }
    }

    fn answered(&mut self, request: u128, reply: &Reply) {
        let keys = self.decided.get(&request).expect("what is answered is committed");
        let [key] = keys[..] else { panic!("and once: {keys:?}") };
        let outcome = self.outcomes.entry(key).or_insert_with(|| reply.clone());
        assert_eq!(
            (&outcome.answer, outcome.at, outcome.request),
            (&reply.answer, reply.at, reply.request),
            "a key has one outcome"
        );
        self.answered += 1;
    }

    /// Puts a command into a node's ring; answers its request, if the node runs.
    fn submit(&mut self, node: u16, shard: u16, mut command: Command) -> Option<u128> {
        let running = self.members[usize::from(node) - 1].running.as_mut()?;
        self.request += 1;
        let request = self.request;
        let mut io = running.io.borrow_mut();
        command.envelope.request = RequestId(request);
        command.envelope.node = node;
        command.envelope.at = io.clock.now();
        let answers = Arc::clone(&self.answers);
        let answer = move |result| answers.lock().expect("one thread").push((request, result));
        io.ring.push_back(Submission::Command { shard, command, answer: Some(Box::new(answer)) });
        Some(request)
    }

    fn command(&mut self, organisation: OrganisationId, action: Action) -> (Command, u16) {
        self.key += 1;
        let key = Some(Key { scoped: self.key, body: 1 });
        let shard = tender_shard(action.tender().expect("about a tender"), TENDER_SHARDS);
        (Command { envelope: Envelope { organisation, key, ..Envelope::default() }, action, secret: None }, shard)
    }

    /// Clients send, and send again.
    fn clients_go_on(&mut self) {
        for place in 0..self.clients.len() {
            if self.dice.one_in(2) {
                continue;
            }
            let node = 1 + self.dice.below(u64::from(NODES)) as u16;
            let now = self.steps;
            let (command, shard) = match &self.clients[place].waiting {
                // Given up after two seconds: it may have been lost with its node.
                Some((command, shard, sent)) if sent.is_none_or(|(_, at)| now - at > 400) => {
                    (command.clone(), *shard)
                }
                Some(_) => continue,
                None if self.tenders.is_empty() => continue,
                // A draft that nobody publishes: bytes, so that segments are rolled and disks fill up.
                None if self.dice.one_in(3) => {
                    let tender = TenderId::new((1_000 + self.key) << 32);
                    let spec =
                        TenderSpec { description: "x".repeat(6 << 10), ..one_lot(rules(Format::English, 60)) };
                    self.command(BUYER, Action::CreateTender { tender, spec: Box::new(spec) })
                }
                None => {
                    let tender = self.tenders[self.dice.below(self.tenders.len() as u64) as usize];
                    self.price -= 1;
                    let supplier = SUPPLIERS[self.dice.below(3) as usize];
                    let price = self.price;
                    self.command(supplier, bid(tender, price))
                }
            };
            let request = self.submit(node, shard, command.clone());
            self.clients[place].waiting = Some((command, shard, request.map(|request| (request, now))));
        }
    }

    /// Has a command decided, whoever leads, however often it must be sent.
    fn decide(&mut self, organisation: OrganisationId, action: Action) {
        let (command, shard) = self.command(organisation, action);
        let key = self.key;
        for step in 0..20_000 {
            if self.outcomes.contains_key(&key) {
                return;
            }
            if step % 40 == 0 {
                let node = 1 + self.dice.below(u64::from(NODES)) as u16;
                self.submit(node, shard, command.clone());
            }
            self.step();
        }
        panic!("a command is decided before long");
    }

    fn open_tender(&mut self, id: u128, duration_s: i64) {
        let tender = TenderId::new(id << 32);
        self.decide(
            BUYER,
            Action::CreateTender { tender, spec: Box::new(one_lot(rules(Format::English, duration_s))) },
        );
        for organisation in SUPPLIERS {
            let (adjustments, features) = (Vec::new(), Vec::new());
            self.decide(BUYER, Action::Admit { tender, organisation, adjustments, features, accepted: false });
        }
        self.decide(BUYER, Action::Publish { tender });
        self.decide(BUYER, Action::Start { tender });
        self.tenders.push(tender);
    }

    fn heal(&mut self) {
        (self.cut, self.weather) = (BTreeSet::new(), [0; 3]);
        for node in 1..=NODES {
            self.members[usize::from(node) - 1].disk.plan(|faults| faults.capacity = None);
            if self.members[usize::from(node) - 1].running.is_none() {
                self.start(node);
            }
        }
    }

    fn machines(&self, node: u16) -> Vec<&Machine> {
        let running = self.members[usize::from(node) - 1].running.as_ref().expect("it runs");
        running.sequencer.machines().collect()
    }

    /// After the faults: all goes on, all is equal, and nothing is missing.
    fn judge(&mut self) {
        self.heal();
        for round in 0..3 {
            self.open_tender(900 + round, 30);
        }
        // Everything ends at its own time, whoever leads.
        let all_ended = |world: &Self| {
            (1..=NODES).all(|node| {
                world.machines(node).iter().all(|machine| {
                    let Machine::Tenders(engine) = machine else { return true };
                    let ended = |stage| !matches!(stage, LotStage::Open | LotStage::Pending);
                    world
                        .tenders
                        .iter()
                        .filter_map(|tender| engine.lot(tender.lot(1)))
                        .all(|(_, lot)| ended(lot.stage))
                })
            })
        };
        for _ in 0..80_000 {
            if self.steps % 200 == 0 && all_ended(self) {
                break;
            }
            if self.steps % 50 == 0 {
                self.clients_go_on();
            }
            self.step();
        }
        assert!(all_ended(self), "every lot ends");
        for _ in 0..2_000 {
            self.step();
        }
        let mut replay: Vec<Machine> = (0..=TENDER_SHARDS).map(Machine::new).collect();
        for (machine, history) in replay.iter_mut().zip(&self.history) {
            for (_, entry) in history.values() {
                machine.apply(entry, &mut ());
            }
        }
        for node in 1..=NODES {
            for (machine, expected) in self.machines(node).iter().zip(&replay) {
                assert_eq!(machine.index(), expected.index(), "node {node} has it all");
                assert_eq!(machine.state_hash(), expected.state_hash(), "node {node}: the same state");
            }
        }
        for (key, reply) in &self.outcomes {
            let found = replay.iter().find_map(|machine| match machine {
                Machine::Tenders(engine) => engine.recorded(*key),
                Machine::Accounts(_) => None,
            });
            let found = found.expect("what was answered is there");
            assert_eq!((&found.answer, found.request), (&reply.answer, reply.request));
        }
        self.judge_terms();
    }

    /// Each term of a tender shard begins with who took over; nobody but its one writer wrote in it.
    fn judge_terms(&self) {
        for shard in 1..=TENDER_SHARDS {
            let mut last_term = 0;
            for (term, entry) in self.history[usize::from(shard)].values() {
                let Some(first) = entry.commands.first() else { continue };
                if *term > last_term {
                    let planned = self.planned.contains(&(shard, *term));
                    assert!(
                        matches!(first.action, Action::Takeover { planned: told } if planned || !told),
                        "shard {shard}, term {term} begins with its takeover"
                    );
                    assert_eq!(entry.commands.len(), 1, "which stands alone");
                }
                last_term = *term;
                assert!(self.leaders.contains_key(&(shard, *term)));
            }
        }
    }
}

fn bid(tender: TenderId, price: i64) -> Action {
    Action::Bid {
        lot: tender.lot(1),
        price: Some(Decimal { mantissa: price, scale: 2 }),
        confirm: true,
        expires_at: None,
        seen_seq: None,
        auto_limit: None,
        all_or_nothing: None,
    }
}

/// A seed's story; answers how many answers, unknown outcomes, refusals, crashes, refused flushes and planned terms
/// there were.
fn story(seed: u64) -> [u64; 6] {
    let mut world = World::new(seed);
    for (place, duration) in [10, 15, 20, 40].into_iter().enumerate() {
        world.open_tender(1 + place as u128, duration);
    }
    world.weather = match seed % 4 {
        0 => [0, 0, 0],
        1 => [10, 10, 8],
        2 => [0, 4, 4],
        _ => [6, 0, 10],
    };
    for _ in 0..40 {
        let node = 1 + world.dice.below(u64::from(NODES)) as u16;
        let other = 1 + world.dice.below(u64::from(NODES)) as u16;
        match world.dice.below(14) {
            0 | 1 => world.crash(node),
            2 | 3 if world.members[usize::from(node) - 1].running.is_none() => world.start(node),
            4 => drop(world.cut.insert((node, other))),
            5 => {
                for other in (1..=NODES).filter(|other| *other != node) {
                    world.cut.extend([(node, other), (other, node)]);
                }
            }
            6 | 7 => world.cut.clear(),
            8 | 9 => {
                // Full, or with room again.
                let disk = &world.members[usize::from(node) - 1].disk;
                let full = disk.faults().capacity.is_none();
                disk.plan(|faults| faults.capacity = full.then_some(0));
            }
            10 | 11 if world.members.iter().all(|member| member.running.is_some()) => {
                // Snapshots cover what all have applied, and so hold.
                let index = |node, shard: u16| world.machines(node)[usize::from(shard)].index();
                let least = |shard| (1..=NODES).map(|node| index(node, shard)).min().unwrap_or(0);
                let covered: Vec<u64> = (0..=TENDER_SHARDS).map(least).collect();
                for running in world.members.iter_mut().filter_map(|member| member.running.as_mut()) {
                    running.io.borrow_mut().ring.push_back(Submission::Covered(covered.clone()));
                }
            }
            _ => {
                if let Some(running) = &mut world.members[usize::from(node) - 1].running {
                    running.sequencer.hand_over(|_| Some(other));
                }
            }
        }
        for _ in 0..60 {
            world.clients_go_on();
            world.step();
        }
    }
    world.judge();
    [world.answered, world.unknown, world.refused, world.crashes, world.full, world.planned.len() as u64]
}

#[test]
fn three_sequencers_keep_their_promises_under_every_seed() {
    let mut sums = [0; 6];
    for seed in 0..16 {
        let counts = std::panic::catch_unwind(|| story(seed)).unwrap_or_else(|_| panic!("seed {seed}"));
        sums.iter_mut().zip(counts).for_each(|(sum, count)| *sum += count);
    }
    let [answered, unknown, refused, crashes, full, planned] = sums;
    println!(
        "{answered} answered, {unknown} unknown, {refused} refused, {crashes} crashes, {full} refused flushes, \
         {planned} planned terms"
    );
    assert!(answered > 1_000 && unknown > 10 && refused > 100 && crashes > 20 && full > 10 && planned > 20);
}
