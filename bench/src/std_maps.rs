//! The peer of the engine's `apply`: the same checks, keys, histories and steps for a bid, on std's maps.
//!
//! Written as somebody would who reaches for `HashMap` and `BTreeMap` first and cares about speed: one look-up where
//! one will do, texts and rules never copied, nothing hashed by hand. It takes bids in English lots with the rules
//! that the workload uses, and is no auction engine otherwise. Its decisions are compared with the engine's in a test.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use engine::{
    Action, Answer, BidAnswer, Bidder, BidderNumber, BidderStatus, Changed, Command, Decimal, Decision, Decrement,
    Engine, Entry, Event, ExtendReason, Format, Improvement, Key, LogTime, LotId, LotStage, MaxNext,
    OrganisationId, Outcome, OvertimeMode, OvertimeTrigger, PRICE_MAX, Price, Ranks, Refusal, Refused, Reply,
    RequestId, Rules, Standing, Step, TenderId,
};

/// Takes what applying an entry gives.
pub trait PeerSink {
    /// The answer to the command at `position`.
    fn reply(&mut self, position: usize, reply: &Reply);
    /// A lot made a step.
    fn step(&mut self, step: &Step);
}

/// All tenders, on std's maps.
#[derive(Default)]
pub struct StdMaps {
    now: LogTime,
    tenders: HashMap<TenderId, PeerTender>,
    deadlines: BTreeSet<(LogTime, LotId)>,
}

struct PeerTender {
    buyer: OrganisationId,
    bidders: HashMap<OrganisationId, Bidder>,
    keys: HashMap<u128, Remembered>,
    lots: Vec<PeerLot>,
}

/// What was decided under a key.
struct Remembered {
    body: u64,
    lot: u16,
    decision: u32,
}

struct PeerLot {
    id: LotId,
    rules: Rules,
    stage: LotStage,
    seq: u64,
    closes_at: LogTime,
    extensions: u32,
    added_ms: i64,
    standing: HashMap<BidderNumber, Standing>,
    accepted: HashMap<BidderNumber, u32>,
    book: BTreeMap<(Price, LogTime, u64), BidderNumber>,
    decisions: Vec<Decision>,
}

impl StdMaps {
    /// The open lots of an engine without bids, on std's maps.
    ///
    /// # Panics
    /// If a lot has rules that the workload doesn't use.
    pub fn like(engine: &Engine) -> Self {
        let mut this = Self { now: engine.now(), ..Self::default() };
        for tender in engine.tenders() {
            let lots: Vec<_> = tender
                .lots()
                .iter()
                .map(|lot| PeerLot {
                    id: lot.id,
                    rules: lot.rules().clone(),
                    stage: lot.stage,
                    seq: lot.seq,
                    closes_at: lot.closes_at().expect("an open lot has an end"),
                    extensions: 0,
                    added_ms: 0,
                    standing: HashMap::new(),
                    accepted: HashMap::new(),
                    book: BTreeMap::new(),
                    decisions: Vec::new(),
                })
                .collect();
            for lot in &lots {
                let rules = &lot.rules;
                assert!(rules.format == Format::English && rules.improvement == Improvement::Own);
                assert!(rules.tie_free_ranks == 0 && matches!(rules.decrement, Decrement::Amount(_)));
                this.deadlines.insert((lot.closes_at, lot.id));
            }
            let bidders = tender.bidders().iter().map(|bidder| (bidder.organisation, *bidder)).collect();
            let keys = HashMap::new();
            this.tenders.insert(tender.id, PeerTender { buyer: tender.buyer, bidders, keys, lots });
        }
        this
    }

    /// Applies an entry of bids; answers and steps go to `sink`.
    pub fn apply(&mut self, entry: &Entry, sink: &mut impl PeerSink) {
        for (position, command) in entry.commands.iter().enumerate() {
            let at = command.envelope.at;
            assert!(self.now <= at, "time never runs back inside the log");
            self.now = at;
            // The workload ends long before its lots do; a real peer would close them here.
            let due = self.deadlines.first().is_some_and(|(deadline, _)| *deadline <= at);
            assert!(!due, "no lot of the workload closes");
            let reply = self.bid(command, sink);
            sink.reply(position, &reply);
        }
    }

    fn bid(&mut self, command: &Command, sink: &mut impl PeerSink) -> Reply {
        let envelope = &command.envelope;
        let Action::Bid { lot, .. } = &command.action else { panic!("the workload is made of bids") };
        let fresh = |answer| Reply { answer, at: envelope.at, request: envelope.request, replayed: false };
        let Some(tender) = self.tenders.get_mut(&lot.tender()) else {
            return fresh(Answer::Refused(refused(Refusal::LotNotFound)));
        };
        if let Some(key) = envelope.key
            && let Some(answer) = tender.recall(key)
        {
            return answer;
        }
        let bidder = tender.bidders.get(&envelope.organisation);
        let place = usize::from(lot.number()).wrapping_sub(1);
        let Some(lot) = tender.lots.get_mut(place) else {
            return fresh(Answer::Refused(refused(Refusal::LotNotFound)));
        };
        let outcome = match lot.check(command, tender.buyer, bidder) {
            Ok((price, bidder)) => {
                let (answer, step) = lot.stand(bidder, price, envelope.at, envelope.request, &mut self.deadlines);
                sink.step(&step);
                Outcome::Accepted(answer)
            }
            Err(refusal) => Outcome::Refused(Refused {
                refusal,
                lot: Some(lot.id),
                seq: lot.seq,
                closes_at: Some(lot.closes_at),
                max_next: bidder.map_or(MaxNext::None, |bidder| lot.max_next(bidder.number)),
                price_scale: lot.rules.price_scale,
            }),
        };
        let Action::Bid { price, .. } = &command.action else { unreachable!() };
        let decision = Decision {
            bid: envelope.request,
            bidder: bidder.map(|bidder| bidder.number),
            price: *price,
            at: envelope.at,
            outcome,
            all_or_nothing: false,
        };
        if let Some(key) = envelope.key {
            let seen = Remembered { body: key.body, lot: place as u16, decision: lot.decisions.len() as u32 };
            tender.keys.insert(key.scoped, seen);
        }
        lot.decisions.push(decision);
        fresh(answer_of(&outcome))
    }
}

fn refused(refusal: Refusal) -> Refused {
    Refused { refusal, lot: None, seq: 0, closes_at: None, max_next: MaxNext::None, price_scale: 0 }
}

fn answer_of(outcome: &Outcome) -> Answer {
    match outcome {
        Outcome::Accepted(answer) | Outcome::Voided(answer) => Answer::Bid(*answer),
        Outcome::Refused(refused) => Answer::Refused(*refused),
        Outcome::Automatic(_) | Outcome::Dropped(_) | Outcome::Withdrawal(_) => {
            unreachable!("the workload has no limits and no turns")
        }
    }
}

impl PeerTender {
    fn recall(&self, key: Key) -> Option<Reply> {
        let seen = self.keys.get(&key.scoped)?;
        let decision = &self.lots[usize::from(seen.lot)].decisions[seen.decision as usize];
        let answer = if seen.body == key.body {
            answer_of(&decision.outcome)
        } else {
            Answer::Refused(refused(Refusal::IdempotencyKeyReused))
        };
        Some(Reply { answer, at: decision.at, request: decision.bid, replayed: true })
    }
}

impl PeerLot {
    /// Every rule in its order; the first broken one is the answer.
    fn check(
        &self,
        command: &Command,
        buyer: OrganisationId,
        bidder: Option<&Bidder>,
    ) -> Result<(Price, BidderNumber), Refusal> {
        let Action::Bid { price, confirm, expires_at, seen_seq, auto_limit, .. } = &command.action else {
            unreachable!()
        };
        let at = command.envelope.at;
        let Some(bidder) = bidder.filter(|bidder| bidder.status != BidderStatus::Disqualified) else {
            return Err(Refusal::NotAdmitted);
        };
        if command.envelope.organisation == buyer {
            return Err(Refusal::OwnTender);
        }
        if bidder.status == BidderStatus::Invited {
            return Err(Refusal::TermsNotAccepted);
        }
        match self.stage {
            LotStage::Open => {}
            LotStage::Pending => return Err(Refusal::LotNotOpen),
            LotStage::Paused => return Err(Refusal::LotPaused),
            LotStage::Cancelled => return Err(Refusal::LotCancelled),
            LotStage::Closed | LotStage::Awarded | LotStage::Unsuccessful => return Err(Refusal::LotClosed),
        }
        if expires_at.is_some_and(|expires| expires < at) {
            return Err(Refusal::Expired);
        }
        if let Some(age) = self.rules.max_view_age
            && seen_seq.is_none_or(|seen| seen + age < self.seq)
        {
            return Err(Refusal::StaleView);
        }
        let Some(price) = price else { return Err(Refusal::WrongAction) };
        let price = self.price(*price)?;
        let own = self.standing.get(&bidder.number).map(|standing| standing.price);
        let step = self.step();
        if own.is_some_and(|own| own.0 - step < price.0) {
            return Err(Refusal::NotImproved);
        }
        if let (Some(max), Some(own)) = (self.rules.max_step, own)
            && own.0 - price.0 > max
        {
            return Err(Refusal::StepTooLarge);
        }
        if let (Some(guard), MaxNext::At(max), false) = (self.rules.guard, self.max_next(bidder.number), *confirm)
        {
            let least = i128::from(max.0) * i128::from(guard.denominator - guard.numerator);
            if i128::from(price.0) * i128::from(guard.denominator) <= least {
                return Err(Refusal::DropTooLarge);
            }
        }
        if auto_limit.is_some() {
            return Err(Refusal::LimitNotAllowed);
        }
        if self.used_up(bidder.number) {
            return Err(Refusal::BidsExhausted);
        }
        Ok((price, bidder.number))
    }

    fn price(&self, price: Decimal) -> Result<Price, Refusal> {
        let rules = &self.rules;
        if price.exceeds_scale(rules.price_scale) {
            return Err(Refusal::PriceScale);
        }
        let Some(units) = price.units(rules.price_scale) else { return Err(Refusal::AboveCeiling) };
        if units <= 0 {
            return Err(Refusal::PriceNotPositive);
        }
        if units % rules.tick != 0 {
            return Err(Refusal::PriceTick);
        }
        if rules.ceiling.unwrap_or(PRICE_MAX) < Price(units) || PRICE_MAX < Price(units) {
            return Err(Refusal::AboveCeiling);
        }
        if rules.floor.is_some_and(|floor| Price(units) < floor) {
            return Err(Refusal::BelowFloor);
        }
        Ok(Price(units))
    }

    fn step(&self) -> i64 {
        match &self.rules.decrement {
            Decrement::Amount(amount) => *amount,
            _ => unreachable!("checked when the peer was made"),
        }
    }

    fn used_up(&self, bidder: BidderNumber) -> bool {
        let used = |max| self.accepted.get(&bidder).is_some_and(|count| max <= *count);
        self.rules.max_bids.is_some_and(used)
    }

    fn max_next(&self, bidder: BidderNumber) -> MaxNext {
        if self.stage != LotStage::Open || self.used_up(bidder) {
            return MaxNext::None;
        }
        let highest = match (self.standing.get(&bidder), self.rules.ceiling) {
            (Some(own), _) => own.price.0 - self.step(),
            (None, Some(ceiling)) => ceiling.0,
            (None, None) => return MaxNext::Unlimited,
        };
        let highest = highest - highest.rem_euclid(self.rules.tick);
        let lowest = self.rules.floor.map_or(1, |floor| floor.0);
        if highest < lowest { MaxNext::None } else { MaxNext::At(Price(highest)) }
    }

    /// Lets the bid stand, judges overtime, and tells what changed. Nothing here can refuse.
    fn stand(
        &mut self,
        bidder: BidderNumber,
        price: Price,
        at: LogTime,
        bid: RequestId,
        deadlines: &mut BTreeSet<(LogTime, LotId)>,
    ) -> (BidAnswer, Step) {
        self.seq += 1;
        let lead_before = self.lead();
        let met_before = self.reserve_met();
        let standing = Standing { bid, bidder, price, effective: price, at, seq: self.seq, rejected: false };
        let old = self.standing.insert(bidder, standing);
        if let Some(old) = &old {
            self.book.remove(&(old.price, old.at, old.seq));
        }
        self.book.insert((price, at, self.seq), bidder);
        *self.accepted.entry(bidder).or_default() += 1;
        let ranks = self.ranks(&standing);

        let mut changed = Changed { board: true, bidder_count: old.is_none(), ..Changed::default() };
        changed.lead = lead_before != self.lead();
        changed.reserve_met = met_before != self.reserve_met();
        let mut step =
            Step { lot: self.id, seq: self.seq, at, events: Default::default(), changed: Changed::default() };
        step.events.push(Event::Bid { bidder, price, lead: ranks.lead(), auto: false });
        if let Some(extended) = self.overtime(at, &ranks, old.is_none(), deadlines) {
            (changed.closes_at, changed.extensions) = (true, true);
            step.events.push(extended);
        }
        step.changed = changed;
        let answer = BidAnswer {
            lot: self.id,
            bidder,
            price,
            price_scale: self.rules.price_scale,
            seq: self.seq,
            ranks: self.rules.rank.then_some(ranks),
            max_next: self.max_next(bidder),
        };
        (answer, step)
    }

    fn lead(&self) -> Option<(Price, BidderNumber)> {
        self.book.first_key_value().map(|((price, ..), bidder)| (*price, *bidder))
    }

    fn reserve_met(&self) -> Option<bool> {
        let reserve = self.rules.reserve?;
        Some(self.lead().is_some_and(|(price, _)| price <= reserve.price))
    }

    fn ranks(&self, standing: &Standing) -> Ranks {
        let own = (standing.price, standing.at, standing.seq);
        let award_rank = 1 + self.book.range(..own).count() as u16;
        let at_price = (standing.price, LogTime(i64::MIN), 0)..=(standing.price, LogTime(i64::MAX), u64::MAX);
        let tied = self.book.range(at_price).take(2).count() > 1;
        Ranks { rank: award_rank, award_rank, tied }
    }

    fn overtime(
        &mut self,
        at: LogTime,
        ranks: &Ranks,
        first: bool,
        deadlines: &mut BTreeSet<(LogTime, LotId)>,
    ) -> Option<Event> {
        let overtime = self.rules.overtime?;
        if self.closes_at.0 - at.0 > overtime.window_ms {
            return None;
        }
        let triggers = match overtime.trigger {
            OvertimeTrigger::Any => true,
            OvertimeTrigger::Lead | OvertimeTrigger::Rank => ranks.award_rank <= overtime.rank,
        };
        if !(triggers || first && overtime.first_bid_triggers) {
            return None;
        }
        if overtime.max_count.is_some_and(|max| max <= self.extensions) {
            return None;
        }
        let mut end = match overtime.mode {
            OvertimeMode::Reset => at.0 + overtime.length_ms,
            OvertimeMode::Add => self.closes_at.0 + overtime.length_ms,
        };
        if let Some(max) = overtime.max_total_ms {
            end = end.min(self.closes_at.0 + max - self.added_ms);
        }
        let added_ms = end - self.closes_at.0;
        if added_ms <= 0 {
            return None;
        }
        deadlines.remove(&(self.closes_at, self.id));
        self.closes_at = LogTime(end);
        deadlines.insert((self.closes_at, self.id));
        self.extensions += 1;
        self.added_ms += added_ms;
        Some(Event::Extended { closes_at: Some(self.closes_at), added_ms, reason: ExtendReason::Overtime })
    }
}
