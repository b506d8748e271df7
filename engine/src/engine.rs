//! The state machine of one shard: applies entries of the log and says what to answer and what happened.
//! Pure: no clock, no I/O; a deadline is handled when an entry at or after it comes.

use std::collections::BTreeSet;

use hashbrown::HashTable;

use crate::ahead::{self, Ahead};
use crate::deadlines::Deadlines;
use crate::history::{Record, Sent};
use crate::keys::{Keys, Place};
use crate::offer::{self, Offer, Taken};
use crate::rules::compile_tender;
use crate::sight::{reader, sight};
use crate::tender::{Decided, Flow, Kept};
use crate::{
    Action, Answer, Bidder, Command, Decimal, Entry, Envelope, Format, Key, LogTime, Lot, LotId, LotStage,
    MaxNext, OrganisationId, Refusal, Refused, Reply, Secret, Step, Tender, TenderId, TenderSpec,
};

/// The version of the rules' logic that new tenders are decided by.
pub const LOGIC_VERSION: u16 = 1;

/// Takes what applying an entry gives.
pub trait Sink {
    /// The answer to the command at `position` of the entry.
    fn reply(&mut self, position: usize, reply: &Reply);

    /// A lot made a step; tender and lot are exactly as of that step.
    fn step(&mut self, tender: &Tender, lot: &Lot, step: &Step) {
        let _ = (tender, lot, step);
    }
}

/// Takes nothing.
impl Sink for () {
    fn reply(&mut self, _: usize, _: &Reply) {}
}

/// What was answered under a key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Recall {
    /// This.
    Reply(Reply),
    /// The key was used with another body.
    Reused,
}

/// All tenders of one shard.
#[derive(Clone, Debug, Default)]
pub struct Engine {
    pub(crate) index: u64,
    pub(crate) now: LogTime,
    pub(crate) tenders: Vec<Tender>,
    /// Dense indices of the tenders, by the hash of the id.
    pub(crate) by_id: HashTable<u32>,
    pub(crate) deadlines: Deadlines,
    pub(crate) keys: Keys,
    /// Answers about tenders that were never made.
    pub(crate) nowhere: Vec<Kept>,
    /// Commands that panicked once; never part of the state.
    passed: BTreeSet<(u64, u32)>,
    /// What the batch that is applied was found to need; empty between batches, never part of the state.
    ahead: Vec<Ahead>,
    /// Lots with new records since the last upkeep.
    touched: Vec<(u32, u16)>,
}

fn hash(id: TenderId) -> u64 {
    let mixed = ((id.0 >> 64) as u64 ^ (id.0 as u64).rotate_left(20)).wrapping_mul(0xD6E8_FEB8_6659_FD93);
    mixed ^ (mixed >> 32)
}

/// What a command came to, and the tender to keep the answer with: none when there was nothing to keep it with, or
/// it is kept already.
struct Outcome {
    answer: Answer,
    keep: Option<u32>,
}

impl Outcome {
    fn lost(refusal: Refusal) -> Self {
        Self { answer: refuse(refusal), keep: None }
    }

    fn kept(tender: usize, decided: Decided) -> Self {
        Self { answer: decided.unwrap_or_else(refuse), keep: Some(tender as u32) }
    }
}

fn refuse(refusal: Refusal) -> Answer {
    let (lot, seq, closes_at, max_next, price_scale) = (None, 0, None, MaxNext::None, 0);
    Answer::Refused(Refused { refusal, lot, seq, closes_at, max_next, price_scale })
}

impl Engine {
    /// No tenders, before the first entry.
    pub fn new() -> Self {
        Self::default()
    }

    /// The last applied entry; 0 before the first.
    pub fn index(&self) -> u64 {
        self.index
    }

    /// The stamp of the last applied command.
    pub fn now(&self) -> LogTime {
        self.now
    }

    /// When something will happen by itself next; a tick is due then.
    pub fn next_deadline(&self) -> Option<LogTime> {
        self.deadlines.first().map(|due| due.at)
    }

    /// The tender with this id.
    pub fn tender(&self, id: TenderId) -> Option<&Tender> {
        self.find(id).map(|place| &self.tenders[place])
    }

    /// The lot with this id, and its tender.
    pub fn lot(&self, id: LotId) -> Option<(&Tender, &Lot)> {
        let tender = self.tender(id.tender())?;
        Some((tender, tender.lot(id.number())?))
    }

    /// All tenders, in order of creation.
    pub fn tenders(&self) -> impl DoubleEndedIterator<Item = &Tender> + ExactSizeIterator {
        self.tenders.iter()
    }

    pub(crate) fn find(&self, id: TenderId) -> Option<usize> {
        self.by_id.find(hash(id), |place| self.tenders[*place as usize].id == id).map(|place| *place as usize)
    }

    pub(crate) fn register(&mut self, tender: Tender) {
        let place = tender.place;
        assert_eq!(place as usize, self.tenders.len(), "tenders are dense");
        self.tenders.push(tender);
        let tenders = &self.tenders;
        let id = tenders[place as usize].id;
        self.by_id.insert_unique(hash(id), place, |other| hash(tenders[*other as usize].id));
    }

    /// Told before replay: the command at `position` of entry `index` panicked once. It is answered
    /// [`Answer::Internal`] under its key and has no effect.
    pub fn pass_by(&mut self, index: u64, position: u32) {
        self.passed.insert((index, position));
    }

    /// Makes room between batches, so that applying a bid allocates nothing.
    pub fn maintain(&mut self) {
        while let Some((tender, lot)) = self.touched.pop() {
            let lot = &mut self.tenders[tender as usize].lots[usize::from(lot)];
            lot.is_touched = false;
            lot.history.maintain();
        }
        if self.touched.capacity() < 1_024 {
            self.touched.reserve_exact(1_024);
        }
        self.keys.maintain();
    }

    /// Applies the next entry; answers and steps go to `sink`.
    ///
    /// # Panics
    /// If the entry is not the next one, or a stamp runs backwards.
    pub fn apply(&mut self, entry: &Entry, sink: &mut impl Sink) {
        assert_eq!(entry.index, self.index + 1, "the log has no gaps and no repeats");
        let mut found = std::mem::take(&mut self.ahead);
        ahead::look(self, &entry.commands, &mut found);
        for (position, (command, ahead)) in entry.commands.iter().zip(&found).enumerate() {
            assert!(self.now <= command.envelope.at, "time never runs back inside the log");
            let reply = if !self.passed.is_empty() && self.passed.remove(&(entry.index, position as u32)) {
                self.pass(&command.envelope, &command.action)
            } else {
                self.decide(command, *ahead, sink)
            };
            sink.reply(position, &reply);
        }
        self.ahead = found;
        self.index = entry.index;
    }

    /// What a command that panicked once comes to: no effect, not even of time.
    fn pass(&mut self, envelope: &Envelope, action: &Action) -> Reply {
        #[cfg(feature = "failpoints")]
        if let Some(place) = action.tender().and_then(|tender| self.find(tender)) {
            let title = &self.tenders[place].spec().title;
            assert!(title != "failpoint: panic at publication and when passed by", "the failpoint was asked for");
        }
        let outcome = self.nothing(action);
        self.answer(envelope, outcome)
    }

    /// A command without effect, known under its key.
    fn nothing(&self, action: &Action) -> Outcome {
        let keep =
            action.tender().and_then(|tender| self.find(tender)).map_or(Place::NOWHERE, |place| place as u32);
        Outcome { answer: Answer::Internal, keep: Some(keep) }
    }

    fn decide(&mut self, command: &Command, ahead: Ahead, sink: &mut impl Sink) -> Reply {
        let envelope = &command.envelope;
        self.now = envelope.at;
        // The salt of a command with a secret is sealed with it: once the key is gone a replay would draw otherwise.
        let salt = command.secret.is_none().then_some(envelope.salt);
        if let Action::Takeover { planned: false } = command.action {
            self.interruption(envelope.at, salt, sink);
        }
        self.handle_due(envelope.at, salt, sink);
        if let Some(key) = envelope.key
            && let Some(recall) = self.recall(key)
        {
            return match recall {
                Recall::Reply(reply) => reply,
                Recall::Reused => self.answer(envelope, Outcome::lost(Refusal::IdempotencyKeyReused)),
            };
        }
        let outcome = self.act(command, ahead, sink);
        // What a command made due at its own stamp happens with it: a serial lot without a gap.
        self.handle_due(envelope.at, salt, sink);
        self.answer(envelope, outcome)
    }

    /// The one place where every action is told apart.
    fn act(&mut self, command: &Command, ahead: Ahead, sink: &mut impl Sink) -> Outcome {
        let Command { envelope, action, secret } = command;
        let Envelope { at, organisation, request, .. } = *envelope;
        match action {
            // What it offered was destroyed with its organisation's key; the log hands over an empty person instead.
            Action::Bid { .. } | Action::AutoBid { .. } if matches!(secret, Some(Secret::Person { .. })) => {
                self.nothing(action)
            }
            Action::Tick | Action::Takeover { .. } | Action::Skip { .. } => {
                Outcome { answer: Answer::Done, keep: None }
            }
            Action::CreateTender { tender, spec } => self.create(*tender, spec, envelope),
            Action::UpdateTender { tender, spec, version } => {
                self.owned(*tender, None, envelope, sink, |tender, _, flow| {
                    tender.update(spec, *version, compile_tender(spec), flow)
                })
            }
            Action::Publish { tender } => {
                self.owned(*tender, None, envelope, sink, |tender, _, flow| tender.publish(flow))
            }
            Action::Start { tender } => {
                self.owned(*tender, None, envelope, sink, |tender, _, flow| tender.start(flow))
            }
            Action::Pause { tender, reason } => {
                self.owned(*tender, None, envelope, sink, |tender, _, flow| tender.pause(reason.as_deref(), flow))
            }
            Action::Resume { tender, reason } => {
                self.owned(*tender, None, envelope, sink, |tender, _, flow| tender.resume(reason.as_deref(), flow))
            }
            Action::Cancel { tender, reason } => {
                self.owned(*tender, None, envelope, sink, |tender, _, flow| tender.cancel(reason.as_deref(), flow))
            }
            Action::Extend { tender, lot, seconds, reason } => {
                self.owned(*tender, *lot, envelope, sink, |tender, _, flow| {
                    tender.extend(*lot, *seconds, reason.as_deref(), flow)
                })
            }
            Action::Admit { tender, organisation, adjustments, features, accepted } => {
                self.owned(*tender, None, envelope, sink, |tender, _, _| {
                    tender.admit(*organisation, *accepted, adjustments, features, request, at)
                })
            }
            Action::Join { tender } => self.join(*tender, organisation, envelope),
            Action::Disqualify { tender, bidder, reason } => {
                self.owned(*tender, None, envelope, sink, |tender, _, flow| {
                    tender.disqualify(*bidder, reason.as_deref(), flow)
                })
            }
            Action::Bid { lot, price, confirm, expires_at, seen_seq, auto_limit, all_or_nothing } => {
                let (price, limit) = offered(secret.as_ref(), *price, *auto_limit);
                let offer = Offer {
                    lot: *lot,
                    price,
                    accepts: None,
                    confirm: *confirm,
                    expires_at: *expires_at,
                    seen_seq: Some(*seen_seq),
                    limit,
                    is_bound: *all_or_nothing == Some(true),
                };
                self.bid(envelope, &offer, ahead, sink)
            }
            Action::Accept { lot, step } => {
                let offer = Offer {
                    lot: *lot,
                    price: None,
                    accepts: Some(*step),
                    confirm: false,
                    expires_at: None,
                    seen_seq: None,
                    limit: None,
                    is_bound: false,
                };
                self.bid(envelope, &offer, ahead, sink)
            }
            Action::AutoBid { lot, limit } => {
                let (_, limit) = offered(secret.as_ref(), None, *limit);
                self.auto_bid(envelope, *lot, limit, sink)
            }
            Action::Void { lot, bid, reason } => self.owned_lot(*lot, envelope, sink, |tender, lot, flow| {
                tender.void(lot, *bid, reason.as_deref(), flow)
            }),
            Action::Award { lot, bidder, reason } => self.owned_lot(*lot, envelope, sink, |tender, lot, flow| {
                tender.award(lot, *bidder, reason.as_deref(), flow)
            }),
            Action::RejectAward { lot, bidder, reason } => {
                self.owned_lot(*lot, envelope, sink, |tender, lot, flow| {
                    tender.reject(lot, *bidder, reason.as_deref(), flow)
                })
            }
            Action::Account(_) => panic!("accounts belong to the system shard"),
        }
    }

    /// Makes the reply and keeps its answer under the key.
    fn answer(&mut self, envelope: &Envelope, outcome: Outcome) -> Reply {
        let Outcome { answer, keep } = outcome;
        let Envelope { at, request, key, .. } = *envelope;
        if let (Some(key), Some(tender)) = (key, keep) {
            let list = match self.tenders.get_mut(tender as usize) {
                Some(tender) => &mut tender.kept,
                None => &mut self.nowhere,
            };
            let index = list.len() as u32;
            list.push(Kept { key, at, request, answer: answer.clone() });
            self.keys.insert(key.scoped, Place { tender, lot: 0, index });
        }
        Reply { answer, at, request, replayed: false }
    }

    fn kept(&self, place: Place) -> &Kept {
        let list = self.tenders.get(place.tender as usize).map_or(&self.nowhere, |tender| &tender.kept);
        &list[place.index as usize]
    }

    fn record(&self, place: Place) -> (&Lot, &Record) {
        let lot = &self.tenders[place.tender as usize].lots[usize::from(place.lot) - 1];
        (lot, lot.history.get(place.index))
    }

    /// What was answered under a key.
    pub fn recall(&self, key: Key) -> Option<Recall> {
        let place = self.place_of(key.scoped)?;
        if self.key_at(place) != Some(key) {
            return Some(Recall::Reused);
        }
        Some(Recall::Reply(self.reply_at(place)))
    }

    /// What was answered under a key, whatever the body was: for who asks what became of a request.
    pub fn recorded(&self, scoped: u128) -> Option<Reply> {
        self.place_of(scoped).map(|place| self.reply_at(place))
    }

    fn key_at(&self, place: Place) -> Option<Key> {
        match place.lot {
            0 => Some(self.kept(place).key),
            _ => self.record(place).1.key(),
        }
    }

    fn place_of(&self, scoped: u128) -> Option<Place> {
        self.keys.find(scoped, |place| self.key_at(place).is_some_and(|found| found.scoped == scoped))
    }

    fn reply_at(&self, place: Place) -> Reply {
        match place.lot {
            0 => {
                let Kept { at, request, ref answer, .. } = *self.kept(place);
                Reply { answer: answer.clone(), at, request, replayed: true }
            }
            _ => {
                let (lot, record) = self.record(place);
                let answer = lot.recorded_answer(record);
                Reply { answer, at: record.at(), request: record.request(), replayed: true }
            }
        }
    }

    /// Handles the deadlines due at `at` or before, in order, each at its own time.
    fn handle_due(&mut self, at: LogTime, salt: Option<[u8; 16]>, sink: &mut impl Sink) {
        while let Some(due) = self.deadlines.first().filter(|due| due.at <= at) {
            let mut flow = Flow { deadlines: &mut self.deadlines, sink, at: due.at, salt };
            let tender = &mut self.tenders[due.tender as usize];
            match due.lot {
                0 => tender.open(&mut flow),
                number => tender.due(usize::from(number) - 1, &mut flow),
            }
        }
    }

    /// Nobody served until `at`: openings keep their time, but no lot ends by a time in which nobody could bid.
    fn interruption(&mut self, at: LogTime, salt: Option<[u8; 16]>, sink: &mut impl Sink) {
        let mut ended = Vec::new();
        while let Some(due) = self.deadlines.first().filter(|due| due.at <= at) {
            if due.lot == 0 {
                let mut flow = Flow { deadlines: &mut self.deadlines, sink, at: due.at, salt };
                self.tenders[due.tender as usize].open(&mut flow);
            } else if self.tenders[due.tender as usize].lots[usize::from(due.lot) - 1].stage != LotStage::Open {
                // Openings and decisions keep their own time.
                let mut flow = Flow { deadlines: &mut self.deadlines, sink, at: due.at, salt };
                self.tenders[due.tender as usize].due(usize::from(due.lot) - 1, &mut flow);
            } else {
                self.deadlines.clear(due.clock);
                ended.push((due.tender, usize::from(due.lot) - 1));
            }
        }
        for (tender, lot) in ended {
            self.tenders[tender as usize].set_end(lot, &mut self.deadlines);
        }
        let mut flow = Flow { deadlines: &mut self.deadlines, sink, at, salt };
        for tender in &mut self.tenders {
            tender.outage(&mut flow);
        }
    }

    fn create(&mut self, id: TenderId, spec: &TenderSpec, envelope: &Envelope) -> Outcome {
        if let Some(place) = self.find(id) {
            // The id is drawn at the edge, or made of organisation and key: it can only be the same key again,
            // in another scope.
            return Outcome::kept(place, Err(Refusal::IdempotencyKeyReused));
        }
        let rules = match compile_tender(spec) {
            Ok(rules) => rules,
            Err(errors) => return Outcome { answer: Answer::InvalidRules(errors), keep: Some(Place::NOWHERE) },
        };
        let place = self.tenders.len() as u32;
        let Envelope { organisation, at, .. } = *envelope;
        let tender = Tender::new(id, place, organisation, LOGIC_VERSION, at, Box::new(spec.clone()), rules);
        let answer = tender.answer(true);
        self.register(tender);
        Outcome { answer, keep: Some(place) }
    }

    /// Does something to a tender that only its owner may; `number` names a lot of it.
    fn owned<S: Sink>(
        &mut self,
        id: TenderId,
        number: Option<u16>,
        envelope: &Envelope,
        sink: &mut S,
        act: impl FnOnce(&mut Tender, usize, &mut Flow<'_, S>) -> Decided,
    ) -> Outcome {
        let place = self.find(id).filter(|place| is_visible(&self.tenders[*place], envelope.organisation));
        let Some(place) = place else { return Outcome::lost(Refusal::TenderNotFound) };
        self.owner_acts(place, number, envelope, sink, act)
    }

    /// Does something to a lot that only its owner may.
    fn owned_lot<S: Sink>(
        &mut self,
        id: LotId,
        envelope: &Envelope,
        sink: &mut S,
        act: impl FnOnce(&mut Tender, usize, &mut Flow<'_, S>) -> Decided,
    ) -> Outcome {
        let place =
            self.find(id.tender()).filter(|place| is_visible(&self.tenders[*place], envelope.organisation));
        let Some(place) = place else { return Outcome::lost(Refusal::LotNotFound) };
        self.owner_acts(place, Some(id.number()), envelope, sink, act)
    }

    fn owner_acts<S: Sink>(
        &mut self,
        place: usize,
        number: Option<u16>,
        envelope: &Envelope,
        sink: &mut S,
        act: impl FnOnce(&mut Tender, usize, &mut Flow<'_, S>) -> Decided,
    ) -> Outcome {
        let tender = &mut self.tenders[place];
        let number = number.unwrap_or(1);
        if tender.lot(number).is_none() {
            return Outcome::lost(Refusal::LotNotFound);
        }
        if envelope.organisation != tender.buyer {
            return Outcome::kept(place, Err(Refusal::NotOwner));
        }
        let mut flow = Flow { deadlines: &mut self.deadlines, sink, at: envelope.at, salt: Some(envelope.salt) };
        let decided = act(tender, usize::from(number) - 1, &mut flow);
        Outcome::kept(place, decided)
    }

    fn join(&mut self, id: TenderId, organisation: OrganisationId, envelope: &Envelope) -> Outcome {
        let place = self.find(id).filter(|place| is_visible(&self.tenders[*place], organisation));
        let Some(place) = place else { return Outcome::lost(Refusal::TenderNotFound) };
        let decided = self.tenders[place].join(organisation, envelope.request, envelope.at);
        Outcome::kept(place, decided)
    }

    /// Finds the lot of a bid, accept or limit: the tender's place and the lot's index.
    fn lot_of_bid(&self, id: LotId, organisation: OrganisationId) -> Option<(usize, usize)> {
        let place = self.find(id.tender())?;
        let tender = &self.tenders[place];
        tender.lot(id.number())?;
        is_visible(tender, organisation).then(|| (place, usize::from(id.number()) - 1))
    }

    fn bid<S: Sink>(&mut self, envelope: &Envelope, offer: &Offer, ahead: Ahead, sink: &mut S) -> Outcome {
        let known = self.tenders.get(ahead.tender as usize).and_then(|tender| {
            // Somebody who is a bidder stays one, and lots that were published stay where they are.
            tender.published_at?;
            let bidder = tender.bidders.get(usize::from(ahead.bidder))?;
            // It has another place if the batch opened the tender and numbers were drawn.
            if bidder.organisation != envelope.organisation {
                return None;
            }
            let lot = usize::from(offer.lot.number()).checked_sub(1).filter(|lot| *lot < tender.lots.len())?;
            Some((ahead.tender as usize, lot, Some(*bidder)))
        });
        let found = known.or_else(|| {
            let (place, lot) = self.lot_of_bid(offer.lot, envelope.organisation)?;
            Some((place, lot, self.tenders[place].bidder_of(envelope.organisation).copied()))
        });
        let Some((place, lot, bidder)) = found else { return Outcome::lost(Refusal::LotNotFound) };
        let tender = &mut self.tenders[place];
        let sent = Sent {
            request: envelope.request,
            key: envelope.key,
            at: envelope.at,
            bidder: bidder.map(|bidder| bidder.number),
            price: offer.price,
            is_bound: offer.is_bound,
        };
        let checked = offer::check(tender, lot, bidder.as_ref(), envelope, offer);
        let (index, answer) = match (checked, bidder) {
            (Ok(taken), Some(bidder)) => {
                let mut flow =
                    Flow { deadlines: &mut self.deadlines, sink, at: envelope.at, salt: Some(envelope.salt) };
                match taken {
                    Taken::Bid(price, None) if tender.lots[lot].live.is_none() => {
                        offer::take_plain(tender, lot, bidder, price, &sent, &mut flow)
                    }
                    taken => offer::take_live(tender, lot, bidder, &taken, &sent, &mut flow),
                }
            }
            (refused, bidder) => {
                let refusal = refused.err().unwrap_or(Refusal::NotAdmitted);
                if !leaves_a_record(tender, lot, bidder.as_ref(), envelope.organisation) {
                    return Outcome::kept(place, Err(refusal));
                }
                let refused = tender.lots[lot].refused(refusal, bidder.as_ref());
                let Refused { seq, closes_at, max_next, .. } = refused;
                let record = Record::refused(&sent, refusal, seq, closes_at, max_next);
                (tender.lots[lot].history.push(record), Answer::Refused(refused))
            }
        };
        let it = &mut tender.lots[lot];
        if !it.is_touched {
            it.is_touched = true;
            self.touched.push((place as u32, lot as u16));
        }
        if let Some(key) = envelope.key {
            self.keys.insert(key.scoped, Place { tender: place as u32, lot: lot as u16 + 1, index });
        }
        Outcome { answer, keep: None }
    }

    /// Leaves, replaces or takes back a limit.
    fn auto_bid<S: Sink>(
        &mut self,
        envelope: &Envelope,
        id: LotId,
        limit: Option<Decimal>,
        sink: &mut S,
    ) -> Outcome {
        let Some((place, lot)) = self.lot_of_bid(id, envelope.organisation) else {
            return Outcome::lost(Refusal::LotNotFound);
        };
        let tender = &mut self.tenders[place];
        let bidder = tender.bidder_of(envelope.organisation).copied();
        let answer = match offer::check_limit(tender, lot, bidder.as_ref(), limit) {
            Ok((bidder, limit)) => {
                let sent = Sent {
                    request: envelope.request,
                    key: envelope.key,
                    at: envelope.at,
                    bidder: Some(bidder.number),
                    price: None,
                    is_bound: false,
                };
                let mut flow =
                    Flow { deadlines: &mut self.deadlines, sink, at: envelope.at, salt: Some(envelope.salt) };
                offer::take_limit(tender, lot, bidder, limit, &sent, &mut flow)
            }
            Err(refusal) => {
                let it = &tender.lots[lot];
                // As for bids: the lots of a draft are not told of.
                let is_seen = tender.published_at.is_some()
                    && sight(tender, it, reader(tender, Some(envelope.organisation), true)).is_some();
                if is_seen { Answer::Refused(it.refused(refusal, bidder.as_ref())) } else { refuse(refusal) }
            }
        };
        Outcome { answer, keep: Some(place as u32) }
    }

    /// Moves what must stay secret out of a command's action, before it is logged: every limit, and the price of every
    /// bid in a lot that is not known to be an open english one.
    pub fn conceal(&self, command: &mut Command) {
        let organisation = command.envelope.organisation;
        match &mut command.action {
            Action::Bid { lot, price, auto_limit, .. } => {
                let known = self.lot(*lot);
                let is_shown = known.is_some_and(|(_, lot)| {
                    lot.rules().format == Format::English && lot.stage != LotStage::Pending
                });
                let price = if is_shown { None } else { price.take() };
                let limit = auto_limit.take();
                if !is_shown || limit.is_some() {
                    command.secret = Some(Secret::Offer { organisation, price, limit });
                }
            }
            Action::AutoBid { limit, .. } => {
                let limit = limit.take();
                command.secret = Some(Secret::Offer { organisation, price: None, limit });
            }
            _ => {}
        }
    }

    /// Panics if the state contradicts itself.
    pub fn check_invariants(&self) {
        self.deadlines.check_invariants();
        let mut set = 0;
        for (place, tender) in self.tenders.iter().enumerate() {
            assert_eq!((tender.place as usize, self.find(tender.id)), (place, Some(place)));
            tender.check_invariants();
            let Some(clock) = tender.clock else { continue };
            let opening = self.deadlines.get(clock).map(|due| due.at);
            let waits = tender.stage == crate::TenderStage::Published;
            assert_eq!(opening, tender.opens_at.filter(|_| waits), "a published tender waits for its opening");
            set += usize::from(opening.is_some());
            for (index, lot) in tender.lots.iter().enumerate() {
                let end = self.deadlines.get(clock + u32::from(lot.number)).map(|due| due.at);
                assert_eq!(end, tender.deadline_of(index), "a lot waits for what it will do by itself");
                set += usize::from(end.is_some());
            }
        }
        assert_eq!(self.deadlines.len(), set, "nobody else waits");
        if let Some(next) = self.next_deadline() {
            assert!(next > self.now, "what was due is done");
        }
    }
}

/// Whether an organisation that sends commands may see a tender; what it supplies is known to the edge.
fn is_visible(tender: &Tender, organisation: OrganisationId) -> bool {
    tender.visible_to(Some((organisation, true)))
}

/// Whether a refused bid is in the lot's history, and told of the lot: its sender may see it, and it is no draft,
/// whose lots may still be replaced.
fn leaves_a_record(tender: &Tender, lot: usize, bidder: Option<&Bidder>, organisation: OrganisationId) -> bool {
    tender.published_at.is_some()
        && (bidder.is_some()
            || sight(tender, &tender.lots[lot], reader(tender, Some(organisation), true)).is_some())
}

/// Price and limit of an offer, wherever they are.
fn offered(
    secret: Option<&Secret>,
    price: Option<Decimal>,
    limit: Option<Decimal>,
) -> (Option<Decimal>, Option<Decimal>) {
    match secret {
        Some(Secret::Offer { price: hidden, limit: hidden_limit, .. }) => {
            (price.or(*hidden), limit.or(*hidden_limit))
        }
        _ => (price, limit),
    }
}
