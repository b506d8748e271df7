//! Clients: connections that send commands one after another, wait, give up, and send again under the same key; and
//! subscribers that follow lots. They know what any client could know, and the twin to find what is worth asking.
//! Never look into a node but through its view.

use std::sync::{Arc, Mutex, PoisonError};

use api::feed::Missed;
use api::node::{AnswerFn, SYSTEM_SHARD, SubmitError, View, tender_shard};
use engine::{
    AccountAction, Action, Command, Envelope, Key, LogTime, LotId, OrganisationId, OrganisationKind, Reply,
    RequestId, Secret, SessionId, TenderId, UserId,
};

use crate::chance::{Random, stream};
use crate::differential_parts::{Generator, tender_id};
use crate::judge::{Judge, audience};
use crate::marks::Mark;
use crate::node::{MS, TENDER_SHARDS};
use crate::twin::{Ask, Sent};

/// How many connections send.
const CLIENTS: usize = 6;
/// How many subscribers follow lots.
const READERS: usize = 4;

/// An answer with whose it is.
pub type Told = (usize, u64, Result<Reply, SubmitError>);

/// Something that a client sends: its request, the command, and where the answer goes.
pub type Sending = (u64, Command, AnswerFn);

#[derive(Default)]
struct Client {
    waiting: Option<Waiting>,
    /// How much it sent on this connection.
    place: u64,
    /// When the last of it arrives.
    arrives: i64,
}

/// A command whose outcome its client does not know.
#[derive(Clone)]
struct Waiting {
    sent: Option<Sent>,
    command: Command,
    shard: u16,
    /// Each time it was sent is another request.
    requests: Vec<u64>,
    /// Those of them that came in a burst: what is not taken of it is nobody's loss.
    burst: Vec<u64>,
    /// The process it was sent to first.
    process: u64,
}

#[derive(Clone, Copy, Default)]
struct Reader {
    lot: Option<LotId>,
    after: u64,
    process: u64,
}

/// See the module.
pub struct Clients {
    random: Random,
    /// Whether much is written: accounts are made often, and take up to a good part of a segment.
    heavy: bool,
    /// Whether that is done all the time, because room or descriptors are short: then the log comes to its end.
    pressed: bool,
    generators: Vec<Generator>,
    clients: Vec<Client>,
    readers: Vec<Reader>,
    inbox: Arc<Mutex<Vec<Told>>>,
    requests: u64,
    sent: u64,
    /// Commands of a plan that is carried out before anything else: the poison and its antidote.
    prepared: Vec<Sent>,
    people: Vec<(UserId, OrganisationId)>,
    sessions: Vec<SessionId>,
    /// Keyed commands, to be asked about.
    keyed: Vec<(u64, TenderId, Key)>,
    /// Each time the command was sent that must be answered.
    fresh: Vec<u64>,
}

impl Clients {
    /// The clients of the world of `seed`.
    pub fn new(seed: u64) -> Self {
        let generator = |shard| Generator::of_shard(seed.wrapping_mul(3) + u64::from(shard), shard, TENDER_SHARDS);
        Self {
            random: stream(seed, "workload"),
            heavy: stream(seed, "heavy").one_in(2),
            pressed: false,
            generators: (0..TENDER_SHARDS).map(generator).collect(),
            clients: (0..CLIENTS).map(|_| Client::default()).collect(),
            readers: vec![Reader::default(); READERS],
            inbox: Arc::default(),
            requests: 0,
            sent: 0,
            prepared: Vec::new(),
            people: Vec::new(),
            sessions: Vec::new(),
            keyed: Vec::new(),
            fresh: Vec::new(),
        }
    }

    /// How many connections there are.
    pub fn len(&self) -> usize {
        self.clients.len()
    }

    /// How many subscribers there are.
    pub fn readers(&self) -> usize {
        self.readers.len()
    }

    /// Commands sent so far, repeats included.
    pub fn sent(&self) -> u64 {
        self.sent
    }

    /// What was answered since the last call.
    pub fn answers(&mut self) -> Vec<Told> {
        std::mem::take(&mut *self.inbox.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Room or descriptors are short, or not any more.
    pub fn press(&mut self, pressed: bool) {
        self.pressed = pressed;
    }

    /// Nothing odd is sent any more.
    pub fn heal(&mut self) {
        self.prepared.clear();
        self.pressed = false;
    }

    /// All connections are new.
    pub fn connections_break(&mut self) {
        for client in &mut self.clients {
            (client.place, client.arrives) = (0, 0);
        }
    }

    /// Those that wait for an answer that will not come.
    pub fn left_alone(&self) -> Vec<usize> {
        (0..self.clients.len()).filter(|client| self.clients[*client].waiting.is_some()).collect()
    }

    /// Whether a client waits for an answer.
    pub fn waits(&self, client: usize) -> bool {
        self.clients[client].waiting.is_some()
    }

    /// Whether a client waits for an answer to something that may be sent twice.
    pub fn may_repeat(&self, client: usize) -> bool {
        self.clients[client].waiting.as_ref().is_some_and(|waiting| waiting.command.envelope.key.is_some())
    }

    /// Whether a client waits for the answer to this request.
    pub fn is_waiting_for(&self, client: usize, request: u64) -> bool {
        self.clients[client].waiting.as_ref().is_some_and(|waiting| waiting.requests.contains(&request))
    }

    /// When something that would arrive at `at` does, behind what its client sent before.
    pub fn in_order(&mut self, client: usize, at: i64) -> i64 {
        let arrives = &mut self.clients[client].arrives;
        *arrives = (*arrives).max(at);
        *arrives
    }

    /// A client is answered; the pause before it does something else, unless it did so before.
    pub fn answered(
        &mut self,
        client: usize,
        request: u64,
        answer: &Result<Reply, SubmitError>,
        judge: &mut Judge,
    ) -> Option<i64> {
        if !self.is_waiting_for(client, request) {
            return None;
        }
        let waiting = self.clients[client].waiting.as_ref()?;
        let keyed = waiting.command.envelope.key.is_some();
        match answer {
            Ok(reply) => {
                if waiting.process < judge.process() && !reply.replayed && keyed {
                    judge.marks.hit(Mark::LostCommandSentAgain);
                }
                self.clients[client].waiting = None;
            }
            Err(_) if waiting.burst.contains(&request) => return None,
            // Certainly not taken: without a key it is forgotten.
            Err(_) if !keyed => self.clients[client].waiting = None,
            Err(_) => {}
        }
        let slow = self.random.one_in(4);
        Some(self.random.between(1, if slow { 12_000 } else { 900 }) * MS)
    }

    /// Plans a tender whose publication panics, then its cancellation.
    pub fn prepare_poison(&mut self, stamp: LogTime, judge: &mut Judge) {
        let shard = self.random.between(1, i64::from(TENDER_SHARDS)) as u16;
        let generator = &mut self.generators[usize::from(shard) - 1];
        let (from, mut ask) = generator.tender();
        let Ask::Create { tender, plan } = &mut ask else { return };
        plan.title = "failpoint: panic at publication".to_owned();
        plan.invalid = None;
        let tender = *tender;
        judge.poisons(tender_id(tender));
        let reason = Some("enough".to_owned());
        let mut steps = vec![Ask::Cancel { tender, reason }, Ask::Publish { tender }, ask];
        for ask in steps.drain(..) {
            let key = Some((0, 7));
            self.prepared.push(Sent { at: stamp.0, from, request: 0, salt: [1; 16], key, ask });
        }
    }

    /// The next command of a client.
    pub fn new_command(&mut self, client: usize, stamp: LogTime, judge: &mut Judge) -> Sending {
        self.requests += 1;
        let request = self.requests;
        if let Some(mut prepared) = self.prepared.pop() {
            (prepared.request, prepared.key, prepared.at) = (request, Some((request, 7)), stamp.0);
            return self.first(client, stamp, Some(prepared), judge);
        }
        let one_in = match (self.heavy, self.pressed) {
            (true, true) => 3,
            (true, false) => 6,
            (false, _) => 12,
        };
        if self.random.one_in(one_in) {
            return self.first(client, stamp, None, judge);
        }
        let shard = self.random.between(1, i64::from(TENDER_SHARDS)) as u16;
        let of_shard = |client: &Client| client.waiting.as_ref().is_some_and(|waiting| waiting.shard == shard);
        let alone = !self.clients.iter().any(of_shard);
        let generator = &mut self.generators[usize::from(shard) - 1];
        let sent = generator.command_at(judge.twin(shard), stamp.0, request, alone);
        self.first(client, stamp, Some(sent), judge)
    }

    /// A command that must be answered, of the last client.
    pub fn fresh(&mut self, stamp: LogTime, judge: &mut Judge) -> Sending {
        self.requests += 1;
        let client = self.clients.len() - 1;
        let ask = Ask::Join { tender: 1 };
        let key = Some((self.requests, 7));
        self.fresh.push(self.requests);
        let sent = Sent { at: stamp.0, from: 10, request: self.requests, salt: [2; 16], key, ask };
        self.first(client, stamp, Some(sent), judge)
    }

    fn first(&mut self, client: usize, stamp: LogTime, sent: Option<Sent>, judge: &mut Judge) -> Sending {
        let command = match &sent {
            // Any twin's words do: what a command is called is the same in all.
            Some(sent) => judge.encode(1, sent),
            None => self.account_command(stamp),
        };
        let home = command.action.tender();
        let shard = home.map_or(SYSTEM_SHARD, |tender| tender_shard(tender, TENDER_SHARDS));
        // Its own shard's comparison knows the versions of its tenders.
        let command = match &sent {
            Some(sent) => judge.encode(shard, sent),
            None => command,
        };
        if let (Some(tender), Some(key)) = (home, command.envelope.key) {
            self.keyed.push((self.requests, tender, key));
        }
        let waiting =
            Waiting { sent, command, shard, requests: Vec::new(), burst: Vec::new(), process: judge.process() };
        self.clients[client].waiting = Some(waiting);
        self.submit(client, stamp, self.requests, judge)
    }

    /// What a client waits for, again; none when it has no key, and is given up.
    pub fn again(&mut self, client: usize, stamp: LogTime, in_burst: bool, judge: &mut Judge) -> Option<Sending> {
        let waiting = self.clients[client].waiting.as_ref()?;
        if waiting.command.envelope.key.is_none() {
            self.clients[client].waiting = None;
            return None;
        }
        self.requests += 1;
        if in_burst {
            // What is sent more does not make the world shorter.
            self.sent -= 1;
            self.clients[client].waiting.as_mut()?.burst.push(self.requests);
        }
        let waiting = self.clients[client].waiting.as_ref()?;
        if waiting.requests.iter().any(|request| self.fresh.contains(request)) {
            self.fresh.push(self.requests);
        }
        Some(self.submit(client, stamp, self.requests, judge))
    }

    /// What the client that sends fresh commands waits for, for who looks into a stall.
    pub fn stuck(&self) -> String {
        let client = self.clients.last().expect("there are clients");
        format!(
            "fresh {:?}, waiting {:?}",
            self.fresh,
            client.waiting.as_ref().map(|waiting| (&waiting.requests, waiting.process))
        )
    }

    /// Whether the command that must be answered was.
    pub fn is_fresh_done(&self, judge: &Judge) -> bool {
        self.fresh.iter().any(|request| judge.is_logged(u128::from(*request)))
    }

    fn submit(&mut self, client: usize, stamp: LogTime, request: u64, judge: &mut Judge) -> Sending {
        self.sent += 1;
        let of = &mut self.clients[client];
        of.place += 1;
        let waiting = of.waiting.as_mut().expect("it waits for what it sends");
        waiting.requests.push(request);
        let mut command = waiting.command.clone();
        command.envelope.at = stamp;
        command.envelope.request = RequestId(request.into());
        let sent = waiting.sent.clone().map(|sent| Sent { at: stamp.0, request, ..sent });
        judge.sends(client, of.place, waiting.shard, &command, sent);
        let inbox = Arc::clone(&self.inbox);
        let answer = move |result| {
            inbox.lock().unwrap_or_else(PoisonError::into_inner).push((client, request, result));
        };
        (request, command, Box::new(answer))
    }

    /// Somebody signs up, in, on or out.
    fn account_command(&mut self, stamp: LogTime) -> Command {
        let request = self.requests;
        let random = &mut self.random;
        let id = u128::from(request) << 64 | 0xACC0;
        let expires_at = stamp.plus_ms(random.between(1_000, 600_000));
        let mut token = |number: u64| {
            let mut token = [number as u8; 32];
            token[..8].copy_from_slice(&random.next().to_le_bytes());
            token
        };
        let (token, next) = (token(1), token(2));
        let mut envelope = Envelope {
            at: stamp,
            request: RequestId(request.into()),
            key: Some(Key { scoped: u128::from(request) << 64 | 0xACC, body: 7 }),
            ..Envelope::default()
        };
        let mut secret = None;
        let signs_up = self.heavy && (self.pressed || random.one_in(2));
        let action = match if signs_up { 0 } else { random.between(0, 3) } {
            1 if !self.people.is_empty() => {
                let (user, organisation) = random.pick(&self.people);
                (envelope.user, envelope.organisation, envelope.session) = (user, organisation, SessionId(id));
                self.sessions.push(SessionId(id));
                AccountAction::OpenSession { token, expires_at }
            }
            2 if !self.sessions.is_empty() => {
                envelope.session = random.pick(&self.sessions);
                AccountAction::Refresh { token, next, expires_at }
            }
            3 if !self.sessions.is_empty() => {
                envelope.session = random.pick(&self.sessions);
                AccountAction::CloseSession
            }
            _ => {
                let (user, organisation) = (UserId(id), OrganisationId(id + 1));
                self.people.push((user, organisation));
                envelope.salt = [request as u8; 16];
                secret = Some(Secret::Person {
                    organisation,
                    email: format!("{request}@example.org"),
                    name: format!("Person {request}"),
                    password: "a hash".to_owned(),
                });
                let kind = OrganisationKind::Both;
                let most = if !self.heavy {
                    0
                } else if random.one_in(4) {
                    45_000
                } else {
                    6_000
                };
                let padding = "x".repeat(random.between(0, most) as usize);
                let organisation_name = format!("Firm {request}{padding}");
                AccountAction::Register { user, organisation, organisation_name, kind }
            }
        };
        Command { envelope, action: Action::Account(action), secret }
    }

    /// Some key of the past, to be asked about.
    pub fn asks(&mut self) -> Option<(u128, TenderId, Key)> {
        if self.keyed.is_empty() {
            return None;
        }
        let (request, tender, key) = self.random.pick(&self.keyed);
        Some((request.into(), tender, key))
    }

    /// A subscriber looks at its lot, or turns to another.
    pub fn reads(&mut self, number: usize, view: &View, judge: &mut Judge) {
        let lots = judge.lots();
        let mut reader = self.readers[number];
        if lots.is_empty() {
            return;
        }
        if reader.lot.is_none() || self.random.one_in(10) {
            reader = Reader { lot: Some(self.random.pick(&lots)), after: 0, process: judge.process() };
        }
        let Some(lot) = reader.lot else { return };
        let frames_max = self.random.between(1, 64) as usize;
        view.lot(lot, |tender, lot_now, feed| {
            let audience = audience(tender, lot_now);
            match feed.since(&audience, None, reader.after, frames_max, 1 << 20) {
                Missed::Steps { frames, seq, .. } => {
                    let frames: Vec<String> = frames.iter().map(ToString::to_string).collect();
                    judge.shown(lot, reader.after, &frames, seq);
                    if reader.process < judge.process() && !frames.is_empty() && reader.after > 0 {
                        judge.marks.hit(Mark::FeedResumed);
                    }
                    reader.after = seq;
                }
                Missed::Gone => {
                    // Told so; it takes the whole state, which is as of the last step.
                    judge.shown(lot, lot_now.seq, &[] as &[String], lot_now.seq);
                    judge.marks.hit(Mark::FeedGone);
                    reader.after = lot_now.seq;
                }
            }
        });
        reader.process = judge.process();
        self.readers[number] = reader;
    }
}
