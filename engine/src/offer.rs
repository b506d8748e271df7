//! What bidders send to a lot: prices, accepts, withdrawals and limits. Checked in the order of the refusals, then
//! taken. Plain english lots have a path of their own, which allocates nothing.

use smallvec::smallvec;

use crate::book::Amount;
use crate::formats::Events;
use crate::history::{Record, Sent};
use crate::live::{ALL_SHOWN, Given, Limit, set};
use crate::tender::Flow;
use crate::{
    Answer, BidAnswer, Bidder, BidderNumber, BidderStatus, Changed, Decimal, Envelope, Event, Format, LimitAnswer,
    LogTime, Lot, LotId, LotStage, MaxNext, OvertimeScope, OvertimeTrigger, Prebid, Price, Ranks, Refusal, Sink,
    Tender, WithdrawAnswer, english,
};

/// A bid or accept as it was sent.
pub(crate) struct Offer {
    pub lot: LotId,
    /// None: a withdrawal or an accept.
    pub price: Option<Decimal>,
    /// The step that is accepted.
    pub accepts: Option<u64>,
    pub confirm: bool,
    pub expires_at: Option<LogTime>,
    /// None where the action shows by itself what its sender saw.
    pub seen_seq: Option<Option<u64>>,
    pub limit: Option<Decimal>,
    pub is_bound: bool,
}

/// What was checked and may be taken.
pub(crate) enum Taken {
    Bid(Price, Option<Price>),
    Accept,
    Withdrawal,
}

/// Checks who bids, in order.
fn check_who(tender: &Tender, bidder: Option<&Bidder>) -> Result<Bidder, Refusal> {
    let bidder = bidder.filter(|bidder| bidder.status != BidderStatus::Disqualified);
    let bidder = bidder.ok_or(Refusal::NotAdmitted)?;
    if bidder.organisation == tender.buyer {
        return Err(Refusal::OwnTender);
    }
    if bidder.status == BidderStatus::Invited {
        return Err(Refusal::TermsNotAccepted);
    }
    Ok(*bidder)
}

/// Checks who bids and whether the lot takes bids, in order; `early`: whether it would take this one before it opens.
fn check_bidder(tender: &Tender, lot: &Lot, bidder: Option<&Bidder>, early: bool) -> Result<Bidder, Refusal> {
    let bidder = check_who(tender, bidder)?;
    match lot.stage_refusal() {
        Some(Refusal::LotNotOpen) if early && lot.seq > 0 => Ok(bidder),
        Some(refusal) => Err(refusal),
        None => Ok(bidder),
    }
}

/// Checks a bid or accept against every rule, in the order of the refusals.
pub(crate) fn check(
    tender: &Tender,
    lot: usize,
    bidder: Option<&Bidder>,
    envelope: &Envelope,
    offer: &Offer,
) -> Result<Taken, Refusal> {
    let lot = &tender.lots[lot];
    let (rules, book) = (&lot.rules, &lot.book);
    let early = lot.live.is_some() && rules.prebid != Prebid::None && offer.accepts.is_none();
    let bidder = check_bidder(tender, lot, bidder, early)?;
    if offer.expires_at.is_some_and(|expires_at| envelope.at > expires_at) {
        return Err(Refusal::Expired);
    }
    if let (Some(age), Some(seen_seq)) = (rules.max_view_age, offer.seen_seq)
        && seen_seq.is_none_or(|seen| lot.seq.saturating_sub(seen) > age)
    {
        return Err(Refusal::StaleView);
    }
    if lot.live.is_some() {
        return check_live(lot, bidder.number, offer);
    }
    let price = match offer.price {
        Some(price) if !offer.is_bound || rules.all_or_nothing => price,
        _ => return Err(Refusal::WrongAction),
    };
    let price = english::check_price(rules, price)?;
    english::check_improvement(rules, book, bidder.number, price, offer.confirm)?;
    if offer.limit.is_some() {
        return Err(Refusal::LimitNotAllowed);
    }
    if english::is_exhausted(rules, book, bidder.number) {
        return Err(Refusal::BidsExhausted);
    }
    Ok(Taken::Bid(price, None))
}

/// Checks that it is a bidder's turn, where there are turns.
fn check_turn(lot: &Lot, bidder: BidderNumber) -> Result<(), Refusal> {
    let live = lot.live.as_deref().expect("a lot with turns keeps more than a book");
    let waits = lot.rules.format == Format::Rounds && lot.stage == LotStage::Open;
    if waits && (live.whose_turn() != Some(bidder) || !live.is_inside(bidder)) {
        return Err(Refusal::NotYourTurn);
    }
    Ok(())
}

/// Checks that a bidder left the pre-bid that is required.
fn check_prebid(lot: &Lot, bidder: BidderNumber) -> Result<(), Refusal> {
    let live = lot.live.as_deref();
    let is_missing = lot.rules.prebid == Prebid::Required
        && lot.stage == LotStage::Open
        && live.is_some_and(|live| !live.is_inside(bidder));
    if is_missing { Err(Refusal::PrebidRequired) } else { Ok(()) }
}

/// Checks price and limit by themselves, rule by rule, the price first.
fn check_both(lot: &Lot, price: Decimal, limit: Option<Decimal>) -> Result<(Price, Option<Price>), Refusal> {
    let price = english::check_price(&lot.rules, price);
    let Some(limit) = limit.filter(|_| lot.rules.limits) else { return Ok((price?, None)) };
    match (price, english::check_price(&lot.rules, limit)) {
        (Ok(price), Ok(limit)) => Ok((price, Some(limit))),
        (Err(price), Err(limit)) => Err(price.min(limit)),
        (Err(refusal), _) | (_, Err(refusal)) => Err(refusal),
    }
}

/// Checks an offer to a lot that is not plain, from the kind of action on.
fn check_live(lot: &Lot, bidder: BidderNumber, offer: &Offer) -> Result<Taken, Refusal> {
    let live = lot.live.as_deref().expect("the lot is not plain");
    let (rules, book) = (&lot.rules, &lot.book);
    let is_open = lot.stage == LotStage::Open;
    let has_steps = matches!(rules.format, Format::Dutch | Format::Japanese);
    if let Some(step) = offer.accepts {
        if !has_steps {
            return Err(Refusal::WrongAction);
        }
        if live.step() != Some(step) {
            return Err(Refusal::StaleStep);
        }
        if rules.format == Format::Japanese && !live.is_inside(bidder) {
            return Err(Refusal::AlreadyOut);
        }
        return Ok(Taken::Accept);
    }
    if has_steps || (offer.is_bound && !rules.all_or_nothing) {
        return Err(Refusal::WrongAction);
    }
    let Some(price) = offer.price else {
        if rules.format != Format::Rounds || !is_open {
            return Err(Refusal::WrongAction);
        }
        check_turn(lot, bidder)?;
        if offer.limit.is_some() {
            return Err(Refusal::LimitNotAllowed);
        }
        return Ok(Taken::Withdrawal);
    };
    check_turn(lot, bidder)?;
    check_prebid(lot, bidder)?;
    let (price, limit) = check_both(lot, price, offer.limit)?;
    if is_open && rules.format != Format::Sealed {
        english::check_improvement(rules, book, bidder, price, offer.confirm)?;
    }
    if offer.limit.is_some() && !rules.limits {
        return Err(Refusal::LimitNotAllowed);
    }
    if english::is_exhausted(rules, book, bidder) {
        return Err(Refusal::BidsExhausted);
    }
    Ok(Taken::Bid(price, limit))
}

/// Checks a limit by itself; what is answered is none where it is taken back.
pub(crate) fn check_limit(
    tender: &Tender,
    lot: usize,
    bidder: Option<&Bidder>,
    limit: Option<Decimal>,
) -> Result<(Bidder, Option<Price>), Refusal> {
    let lot = &tender.lots[lot];
    let bidder = check_bidder(tender, lot, bidder, lot.rules.limits)?;
    if lot.live.is_some() {
        check_turn(lot, bidder.number)?;
        check_prebid(lot, bidder.number)?;
    }
    if !lot.rules.limits {
        return Err(Refusal::LimitNotAllowed);
    }
    let limit = limit.map(|limit| english::check_price(&lot.rules, limit)).transpose()?;
    Ok((bidder, limit))
}

/// Lets a checked bid stand in a plain lot; nothing here can refuse. The answer, and its place in the lot's history.
pub(crate) fn take_plain<S: Sink>(
    tender: &mut Tender,
    lot: usize,
    bidder: Bidder,
    price: Price,
    sent: &Sent,
    flow: &mut Flow<'_, S>,
) -> (u32, Answer) {
    let number = bidder.number;
    let it = &mut tender.lots[lot];
    let before = it.book.standing(number).map(|slot| slot.price);
    let lead_before = it.lead_face();
    let reserve_before = it.reserve_met();
    let seq = it.seq + 1;
    let amount = Amount { price, at: flow.at, seq, order: it.next_order() };
    let place = it.book.stand(number, amount, it.history.len());
    let ranks = it.book.ranks_at(place, it.rules.tie_rank);
    let mut events = smallvec![Event::Bid { bidder: number, price, lead: place == 0, auto: false }];
    let (extended, spreads) = match &it.rules.overtime {
        Some(overtime) if overtime.scope == OvertimeScope::Tender => {
            let triggers = it.is_extending(flow.at, number, price, before);
            (if triggers { it.overtime_anyway(flow.at) } else { None }, triggers)
        }
        Some(_) => {
            let extended = it.overtime(flow.at, number, price, before);
            let spreads = extended.is_some();
            (extended, spreads)
        }
        None => (None, false),
    };
    // The standing bid points into the history, so the record is there before anybody is shown the step.
    let max_next = it.max_next(&bidder);
    let index = it.history.push(Record::accepted(sent, seq, ranks, max_next));
    let changed = Changed {
        closes_at: extended.is_some(),
        extensions: extended.is_some(),
        lead: it.lead_face() != lead_before,
        board: before != Some(price),
        bidder_count: before.is_none(),
        reserve_met: it.reserve_met() != reserve_before,
        ..Changed::default()
    };
    let answer = bid_answer(it, number, price, seq, Some(ranks), max_next);
    if let Some(extended) = extended.clone() {
        events.push(extended);
        tender.set_end(lot, flow.deadlines);
    }
    tender.step_changed(lot, changed, events, flow);
    if spreads {
        tender.spread(lot, extended.as_ref(), flow);
    }
    (index, Answer::Bid(answer))
}

fn bid_answer(
    lot: &Lot,
    bidder: BidderNumber,
    price: Price,
    seq: u64,
    ranks: Option<Ranks>,
    max_next: MaxNext,
) -> BidAnswer {
    let ranks = ranks.filter(|_| lot.rules.rank);
    BidAnswer { lot: lot.id, bidder, price, price_scale: lot.rules.price_scale, seq, ranks, max_next }
}

/// Takes a checked offer in a lot that is not plain.
pub(crate) fn take_live<S: Sink>(
    tender: &mut Tender,
    lot: usize,
    bidder: Bidder,
    taken: &Taken,
    sent: &Sent,
    flow: &mut Flow<'_, S>,
) -> (u32, Answer) {
    let it = &tender.lots[lot];
    match *taken {
        Taken::Withdrawal => take_withdrawal(&mut tender.lots[lot], bidder, sent),
        Taken::Accept if it.rules.format == Format::Dutch => take_dutch(tender, lot, bidder, sent, flow),
        Taken::Accept => {
            let live = it.live.as_deref().expect("a japanese lot has levels");
            let ladder = it.rules.ladder.as_ref().expect("a japanese lot has levels");
            let price = ladder.price(live.step().expect("an accepted level runs"));
            take_hidden(&mut tender.lots[lot], bidder, price, sent, flow.at)
        }
        Taken::Bid(price, limit) => {
            if it.rules.format == Format::English && it.stage == LotStage::Open {
                return take_settled(tender, lot, bidder, (price, limit), sent, flow);
            }
            let it = &mut tender.lots[lot];
            let answer = take_hidden(it, bidder, price, sent, flow.at);
            if let Some(limit) = limit {
                let seq = it.seq;
                put_limit(it, bidder.number, limit, sent, seq);
            }
            answer
        }
    }
}

/// Takes an offer that nobody else sees yet.
fn take_hidden(it: &mut Lot, bidder: Bidder, price: Price, sent: &Sent, at: LogTime) -> (u32, Answer) {
    let (number, seq) = (bidder.number, it.seq);
    let sent = Sent { price: Some(price.decimal(it.rules.price_scale)), ..*sent };
    let index = it.history.len();
    let is_again = it.rules.format == Format::Japanese
        && it.live.as_ref().is_some_and(|live| live.hidden_of(number).is_some());
    it.book.note(number, index);
    if !is_again {
        it.hide(number, price, at, index);
    }
    let max_next = it.max_next(&bidder);
    it.history.push(Record::hidden(&sent, seq, max_next));
    (index, Answer::Bid(bid_answer(it, number, price, seq, None, max_next)))
}

fn take_withdrawal(it: &mut Lot, bidder: Bidder, sent: &Sent) -> (u32, Answer) {
    let (bidder_number, seq) = (bidder.number, it.seq);
    let live = it.live_mut();
    live.given = Given::Withdrawal;
    let from = live.hidden_from;
    it.drop_records(from, Some(bidder_number));
    let max_next = it.max_next(&bidder);
    let index = it.history.push(Record::withdrawal(sent, seq, max_next));
    let price_scale = it.rules.price_scale;
    let answer = WithdrawAnswer { lot: it.id, bidder: bidder_number, seq, max_next, price_scale };
    (index, Answer::Withdrawn(answer))
}

/// The first accept of the running dutch step wins.
fn take_dutch<S: Sink>(
    tender: &mut Tender,
    lot: usize,
    bidder: Bidder,
    sent: &Sent,
    flow: &mut Flow<'_, S>,
) -> (u32, Answer) {
    let it = &mut tender.lots[lot];
    let before = it.face();
    let step = it.live.as_ref().and_then(|live| live.step()).expect("an accepted step runs");
    let price = it.rules.ladder.as_ref().expect("a dutch lot has steps").price(step);
    let (number, seq) = (bidder.number, it.seq + 1);
    let amount = Amount { price, at: flow.at, seq, order: it.next_order() };
    let place = it.book.stand(number, amount, it.history.len());
    let ranks = it.book.ranks_at(place, it.rules.tie_rank);
    let sent = Sent { price: Some(price.decimal(it.rules.price_scale)), ..*sent };
    let index = it.history.push(Record::accepted(&sent, seq, ranks, MaxNext::None));
    let mut events: Events = smallvec![Event::Bid { bidder: number, price, lead: true, auto: false }];
    it.close(flow.at, &mut events);
    let answer = bid_answer(it, number, price, seq, Some(ranks), MaxNext::None);
    tender.ended(lot, &before, true, events, flow);
    (index, Answer::Bid(answer))
}

/// Sets a limit; the same again keeps its time.
fn put_limit(it: &mut Lot, bidder: BidderNumber, price: Price, sent: &Sent, seq: u64) {
    if it.live_mut().limit_of(bidder).is_some_and(|old| old.price == price) {
        return;
    }
    let limit = Limit { price, at: sent.at, seq, order: it.next_order(), request: sent.request };
    set(&mut it.live_mut().limits, bidder.index(), Some(limit));
}

/// Takes a bid in an open english lot with limits, and settles them.
fn take_settled<S: Sink>(
    tender: &mut Tender,
    lot: usize,
    bidder: Bidder,
    (price, limit): (Price, Option<Price>),
    sent: &Sent,
    flow: &mut Flow<'_, S>,
) -> (u32, Answer) {
    let number = bidder.number;
    let it = &mut tender.lots[lot];
    let face = it.face();
    let leader = it.book.lead().map(|(leader, _)| leader);
    let before = it.book.standing(number).map(|slot| slot.price);
    let seq = it.seq + 1;
    let amount = Amount { price, at: flow.at, seq, order: it.next_order() };
    let index = it.history.len();
    it.book.stand(number, amount, index);
    // The ranks are known when all is settled.
    let unknown = Ranks { rank: 0, award_rank: 0, tied: false };
    it.history.push(Record::accepted(sent, seq, unknown, MaxNext::None));
    let mut extends = it.is_extending(flow.at, number, price, before);
    if let Some(limit) = limit {
        put_limit(it, number, limit, sent, seq);
    }
    let pinned = limit.and(leader).filter(|leader| *leader == number);
    let (fired, fired_extend) = it.settle_in_time(flow.at, seq, pinned);
    extends |= fired_extend;
    let ranks = it.ranks(number).expect("a bid that was taken stands");
    let max_next = it.max_next(&bidder);
    *it.history.get_mut(index) = Record::accepted(sent, seq, ranks, max_next);
    let lead = it.lead_face() == Some((price, number));
    let mut events: Events = smallvec![Event::Bid { bidder: number, price, lead, auto: false }];
    it.tell_automatic(&fired, &mut events);
    let answer = bid_answer(it, number, price, seq, Some(ranks), max_next);
    let extended = if extends { it.overtime_anyway(flow.at) } else { None };
    events.extend(extended.clone());
    tender.set_end(lot, flow.deadlines);
    tender.step(lot, &face, before != Some(price) || !fired.is_empty(), events, flow);
    if extends {
        tender.spread(lot, extended.as_ref(), flow);
    }
    (index, Answer::Bid(answer))
}

/// Takes a limit by itself.
pub(crate) fn take_limit<S: Sink>(
    tender: &mut Tender,
    lot: usize,
    bidder: Bidder,
    limit: Option<Price>,
    sent: &Sent,
    flow: &mut Flow<'_, S>,
) -> Answer {
    let number = bidder.number;
    let it = &mut tender.lots[lot];
    let is_set = limit.is_some();
    let is_open = it.stage == LotStage::Open;
    match limit {
        None => it.forget(number, false),
        Some(price) => {
            let face = it.face();
            let seq = it.seq;
            put_limit(it, number, price, sent, seq);
            if is_open && it.rules.format == Format::English {
                let leader = it.book.lead().map(|(leader, _)| leader).filter(|leader| *leader == number);
                if !it.settlement(leader).is_empty() {
                    let seq = it.seq + 1;
                    let limits = &mut it.live_mut().limits;
                    if let Some(own) = limits[number.index()].as_mut().filter(|own| own.request == sent.request) {
                        own.seq = seq;
                    }
                    let (fired, extends) = it.settle_in_time(flow.at, seq, leader);
                    let mut events = Events::new();
                    it.tell_automatic(&fired, &mut events);
                    let extended = if extends { it.overtime_anyway(flow.at) } else { None };
                    events.extend(extended.clone());
                    tender.set_end(lot, flow.deadlines);
                    tender.step(lot, &face, true, events, flow);
                    if extends {
                        tender.spread(lot, extended.as_ref(), flow);
                    }
                }
            } else if is_open && let Some(limit) = it.reached_limit(number) {
                let mut events = Events::new();
                it.win_by_limit(flow.at, number, limit, &mut events);
                tender.ended(lot, &face, true, events, flow);
            }
        }
    }
    let it = &tender.lots[lot];
    Answer::Limit(LimitAnswer {
        lot: it.id,
        bidder: number,
        is_set,
        seq: it.seq,
        ranks: it.ranks(number).filter(|_| it.rules.rank),
        max_next: it.max_next(&bidder),
        price_scale: it.rules.price_scale,
    })
}

impl Lot {
    /// Whether an accepted bid lies in the window and triggers overtime.
    pub(crate) fn is_extending(
        &self,
        at: LogTime,
        bidder: BidderNumber,
        price: Price,
        before: Option<Price>,
    ) -> bool {
        self.rules.overtime.as_ref().is_some_and(|overtime| {
            self.is_in_window(at) && english::triggers(overtime, &self.book, bidder, price, before)
        })
    }

    fn is_in_window(&self, at: LogTime) -> bool {
        let window_ms = self.rules.overtime.map_or(-1, |overtime| overtime.window_ms);
        self.times.closes_at.is_some_and(|closes_at| closes_at.0 - at.0 <= window_ms)
    }

    /// Settles the limits; whether the bids they made extend is answered too.
    fn settle_in_time(
        &mut self,
        at: LogTime,
        seq: u64,
        pinned: Option<BidderNumber>,
    ) -> (crate::settle::Fired, bool) {
        let by_rank = self.rules.overtime.is_some_and(|overtime| overtime.trigger == OvertimeTrigger::Rank);
        let ranks = if by_rank { self.strict_ranks() } else { Vec::new() };
        let fired = self.settle(at, seq, pinned);
        let extends = self.is_in_window(at) && self.fired_triggers(&fired, &ranks);
        (fired, extends)
    }

    /// The limit of a bidder that the running dutch step has reached.
    fn reached_limit(&self, bidder: BidderNumber) -> Option<Limit> {
        let live = self.live.as_deref()?;
        let price = self.rules.ladder.as_ref()?.price(live.step()?);
        live.limit_of(bidder).filter(|limit| limit.price <= price)
    }

    /// Whether records of the lot, from a place on, are for their own bidder only.
    pub fn hides_offers(&self) -> bool {
        self.live.as_ref().is_some_and(|live| live.hidden_from != ALL_SHOWN)
    }
}
