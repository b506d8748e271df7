//! One lot: its stage, its clock, its order book and the history of decisions about its bids.
//! Pure: every time comes in with the command or deadline that is handled.

use std::sync::Arc;

use smallvec::SmallVec;
use wincode::{SchemaRead, SchemaWrite};

use crate::book::{Book, Slot};
use crate::history::{History, Record};
use crate::{
    Answer, AwardMode, Bidder, BidderNumber, BidderStatus, Changed, Decision, Event, ExtendReason, LogTime,
    LotAnswer, LotId, LotStage, MaxNext, Outcome, Price, Ranks, Refusal, Refused, RequestId, Rules, english,
};

/// What is auctioned and awarded as one thing.
#[derive(Clone, Debug)]
pub struct Lot {
    /// Its id.
    pub id: LotId,
    /// Its number in the tender, from 1.
    pub number: u16,
    /// Its stage.
    pub stage: LotStage,
    /// The newest step; 0 before the publication.
    pub seq: u64,
    /// How often overtime moved the end.
    pub extensions: u32,
    /// Shared by lots of the tender that follow each other with the same rules.
    pub(crate) rules: Arc<Rules>,
    pub(crate) times: Times,
    pub(crate) book: Book,
    pub(crate) history: History,
    pub(crate) award: Option<Award>,
    /// Whether the history has grown since the last upkeep.
    pub(crate) is_touched: bool,
}

/// The clock of a lot.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, SchemaWrite, SchemaRead)]
pub(crate) struct Times {
    /// The opening: planned, then as it was.
    pub opens_at: Option<LogTime>,
    /// Whether it opened, rather than failed at that instant.
    pub opened: bool,
    /// The end, planned, then as it was; none while paused and before the opening.
    pub closes_at: Option<LogTime>,
    /// Milliseconds that are left, while paused.
    pub rest_ms: Option<i64>,
    /// What overtime added, in milliseconds.
    pub overtime_ms: i64,
}

/// To whom a lot was awarded.
#[derive(Clone, Copy, Debug, PartialEq, Eq, SchemaWrite, SchemaRead)]
pub(crate) struct Award {
    pub bidder: BidderNumber,
    pub pays: Price,
}

/// The standing bid of a bidder.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Standing {
    /// The bid: the newest accepted one.
    pub bid: RequestId,
    /// Whose.
    pub bidder: BidderNumber,
    /// Its price.
    pub price: Price,
    /// Since when the bidder stands at this price without interruption: the time that breaks ties.
    pub at: LogTime,
    /// The step since which it stands there.
    pub seq: u64,
    /// Whether the buyer passed it by.
    pub rejected: bool,
}

/// One place of the ranking.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ranked {
    /// The bid.
    pub standing: Standing,
    /// Where it stands.
    pub ranks: Ranks,
}

/// How a lot ended, or stands so far.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LotResult {
    /// Its stage.
    pub stage: LotStage,
    /// When it opened; none if it never did.
    pub opened_at: Option<LogTime>,
    /// When it ended; none while it runs and after a cancellation.
    pub closed_at: Option<LogTime>,
    /// How often overtime moved the end.
    pub extensions: u32,
    /// All standing bids in award order.
    pub ranking: Vec<Ranked>,
    /// The awarded bidder or, while the lot is closed, the first that could be awarded.
    pub winner: Option<BidderNumber>,
    /// What the winner is paid.
    pub pays: Option<Price>,
    /// Whether the winner's price is so low that the buyer should ask.
    pub abnormally_low: bool,
}

impl LotResult {
    /// The words of the flags that are set.
    pub fn flags(&self) -> Vec<&'static str> {
        if self.abnormally_low { vec!["abnormally_low"] } else { Vec::new() }
    }
}

/// The public fields of a lot that steps tell about.
#[derive(Clone, Copy)]
pub(crate) struct Face {
    stage: LotStage,
    opens_at: Option<LogTime>,
    closes_at: Option<LogTime>,
    extensions: u32,
    lead: Option<(Price, BidderNumber)>,
    bidder_count: usize,
    reserve_met: Option<bool>,
}

impl Lot {
    /// A lot that nobody has published yet.
    pub(crate) fn new(id: LotId, rules: Arc<Rules>, opens_at: Option<LogTime>) -> Self {
        Self {
            id,
            number: id.number(),
            stage: LotStage::Pending,
            seq: 0,
            extensions: 0,
            rules,
            times: Times { opens_at, ..Times::default() },
            book: Book::default(),
            history: History::default(),
            award: None,
            is_touched: false,
        }
    }

    /// Reads what a bid will need of the lot itself.
    pub(crate) fn glance(&self) -> u64 {
        // Fields that lie far apart, so that every line of the lot is touched.
        let times = self.times.closes_at.map_or(0, |at| at.0) ^ self.times.overtime_ms;
        let lists = self.book.len() as u64 ^ u64::from(self.history.len());
        times as u64 ^ lists ^ self.seq ^ self.stage as u64
    }

    /// Its compiled rules.
    pub fn rules(&self) -> &Rules {
        &self.rules
    }

    /// When it opens or opened.
    pub fn opens_at(&self) -> Option<LogTime> {
        self.times.opens_at
    }

    /// When it ends or ended; none while it is paused, pending without a schedule, or cancelled.
    pub fn closes_at(&self) -> Option<LogTime> {
        match self.stage {
            LotStage::Pending => self.times.opens_at.map(|at| at.plus_ms(self.rules.duration_ms)),
            LotStage::Paused | LotStage::Cancelled => None,
            _ => self.times.closes_at,
        }
    }

    /// When it opened; none before, and if it failed at its opening.
    pub fn opened_at(&self) -> Option<LogTime> {
        self.times.opens_at.filter(|_| self.times.opened)
    }

    /// When it ended; none before, and after a cancellation.
    pub fn closed_at(&self) -> Option<LogTime> {
        match self.stage {
            LotStage::Closed | LotStage::Awarded | LotStage::Unsuccessful => self.times.closes_at,
            _ => None,
        }
    }

    fn stand(&self, bidder: BidderNumber, slot: &Slot) -> Standing {
        Standing {
            bid: self.history.get(slot.newest).request(),
            bidder,
            price: slot.price,
            at: slot.at,
            seq: u64::from(slot.seq),
            rejected: slot.rejected,
        }
    }

    /// The first in award order.
    pub fn lead(&self) -> Option<Standing> {
        self.book.lead().map(|(bidder, slot)| self.stand(bidder, slot))
    }

    /// The standing bid of a bidder.
    pub fn standing(&self, bidder: BidderNumber) -> Option<Standing> {
        self.book.standing(bidder).map(|slot| self.stand(bidder, slot))
    }

    /// Where a bidder's standing bid stands.
    pub fn ranks(&self, bidder: BidderNumber) -> Option<Ranks> {
        self.book.ranks(bidder, self.rules.tie_rank)
    }

    /// The highest price that would be taken from a bidder now, given `confirm`.
    pub fn max_next(&self, bidder: &Bidder) -> MaxNext {
        if self.stage != LotStage::Open || bidder.status != BidderStatus::Admitted {
            return MaxNext::None;
        }
        english::max_next(&self.rules, &self.book, bidder.number)
    }

    /// All standing bids in award order.
    pub fn ranking(&self) -> impl DoubleEndedIterator<Item = Ranked> + ExactSizeIterator + '_ {
        self.book.iter().map(|(bidder, slot)| Ranked {
            standing: self.stand(bidder, slot),
            ranks: self.ranks(bidder).expect("who stands has a rank"),
        })
    }

    /// How many bidders have a standing bid.
    pub fn bidder_count(&self) -> usize {
        self.book.len()
    }

    /// Whether the lead meets the reserve; none without a reserve.
    pub fn reserve_met(&self) -> Option<bool> {
        let reserve = self.rules.reserve?;
        Some(self.book.lead().is_some_and(|(_, lead)| lead.price <= reserve.price))
    }

    /// Every decision about a bid, in order of time.
    pub fn decisions(&self) -> impl DoubleEndedIterator<Item = Decision> + ExactSizeIterator + '_ {
        self.history.iter().map(|record| record.decision(self.id, &self.rules))
    }

    /// The decision about the bid with this id.
    pub fn decision(&self, bid: RequestId) -> Option<Decision> {
        let record = self.history.iter().rev().find(|record| record.request() == bid)?;
        Some(record.decision(self.id, &self.rules))
    }

    /// How the lot ended, or stands so far.
    pub fn result(&self) -> LotResult {
        let winner = match self.award {
            Some(award) => Some((award.bidder, award.pays)),
            None if self.stage == LotStage::Closed => self
                .book
                .iter()
                .find(|(_, slot)| !slot.rejected && self.meets_reserve(slot.price))
                .map(|(bidder, slot)| (bidder, slot.price)),
            None => None,
        };
        LotResult {
            stage: self.stage,
            opened_at: self.opened_at(),
            closed_at: self.closed_at(),
            extensions: self.extensions,
            ranking: self.ranking().collect(),
            winner: winner.map(|(bidder, _)| bidder),
            pays: winner.map(|(_, pays)| pays),
            abnormally_low: winner.is_some_and(|(bidder, _)| self.is_abnormally_low(bidder)),
        }
    }

    /// 40 % below the mean of the others' initial bids, or 30 % below the next in award order.
    fn is_abnormally_low(&self, winner: BidderNumber) -> bool {
        let Some(own) = self.book.standing(winner) else { return false };
        let own_price = i128::from(own.price.0);
        let (mut sum, mut count) = (0i128, 0i128);
        let mut next = None;
        let mut seen_winner = false;
        for (bidder, slot) in self.book.iter() {
            if bidder == winner {
                seen_winner = true;
                continue;
            }
            if seen_winner && next.is_none() {
                next = Some(i128::from(slot.price.0));
            }
            sum += i128::from(self.history.get(slot.first).price(&self.rules).0);
            count += 1;
        }
        let far_below_mean = count > 0 && own_price * count * 100 <= sum * 60;
        let far_below_next = next.is_some_and(|next| own_price * 100 <= next * 70);
        far_below_mean || far_below_next
    }

    pub(crate) fn meets_reserve(&self, price: Price) -> bool {
        self.rules.reserve.is_none_or(|reserve| price <= reserve.price)
    }

    /// What readers may see of the lead.
    pub(crate) fn lead_face(&self) -> Option<(Price, BidderNumber)> {
        self.book.lead().map(|(bidder, slot)| (slot.price, bidder))
    }

    pub(crate) fn face(&self) -> Face {
        Face {
            stage: self.stage,
            opens_at: self.opens_at(),
            closes_at: self.closes_at(),
            extensions: self.extensions,
            lead: self.lead_face(),
            bidder_count: self.book.len(),
            reserve_met: self.reserve_met(),
        }
    }

    /// Which public fields differ from what they were; whether the board does is known to who changed it.
    pub(crate) fn changed(&self, before: &Face, board: bool) -> Changed {
        let now = self.face();
        Changed {
            stage: now.stage != before.stage,
            opens_at: now.opens_at != before.opens_at,
            closes_at: now.closes_at != before.closes_at,
            extensions: now.extensions != before.extensions,
            lead: now.lead != before.lead,
            board,
            bidder_count: now.bidder_count != before.bidder_count,
            reserve_met: now.reserve_met != before.reserve_met,
        }
    }

    /// How it looks in an answer about its tender.
    pub(crate) fn answer(&self) -> LotAnswer {
        LotAnswer { stage: self.stage, opens_at: self.opens_at(), closes_at: self.closes_at() }
    }

    /// The refusal that the stage gives to every bid, if it does.
    pub(crate) fn stage_refusal(&self) -> Option<Refusal> {
        match self.stage {
            LotStage::Open => None,
            LotStage::Pending => Some(Refusal::LotNotOpen),
            LotStage::Paused => Some(Refusal::LotPaused),
            LotStage::Closed | LotStage::Awarded | LotStage::Unsuccessful => Some(Refusal::LotClosed),
            LotStage::Cancelled => Some(Refusal::LotCancelled),
        }
    }

    /// A refusal as its sender is told it; `max_next` only for bidders.
    pub(crate) fn refused(&self, refusal: Refusal, bidder: Option<&Bidder>) -> Refused {
        // Nothing would ever be taken from the buyer, also where it admitted itself.
        let bidder = bidder.filter(|_| refusal != Refusal::OwnTender);
        Refused {
            refusal,
            lot: Some(self.id),
            seq: self.seq,
            closes_at: self.closes_at(),
            max_next: bidder.map_or(MaxNext::None, |bidder| self.max_next(bidder)),
            price_scale: self.rules.price_scale,
        }
    }

    /// What the sender of a recorded bid was told.
    pub(crate) fn recorded_answer(&self, record: &Record) -> Answer {
        match record.outcome(self.id, &self.rules) {
            Outcome::Accepted(answer) | Outcome::Voided(answer) => Answer::Bid(answer),
            Outcome::Refused(refused) => Answer::Refused(refused),
        }
    }

    /// Opens the lot at `at`, or lets it fail when too few may bid.
    pub(crate) fn open(&mut self, at: LogTime, admitted: usize) -> Event {
        assert_eq!(self.stage, LotStage::Pending, "a lot opens once");
        self.times.opens_at = Some(at);
        if admitted < self.rules.min_bidders as usize {
            self.stage = LotStage::Unsuccessful;
            self.times.closes_at = Some(at);
            return Event::Unsuccessful;
        }
        self.stage = LotStage::Open;
        self.times.opened = true;
        self.times.closes_at = Some(at.plus_ms(self.rules.duration_ms));
        self.book.reserve(admitted);
        Event::Opened
    }

    /// Ends the lot at its time, and decides what can be decided at once.
    pub(crate) fn close(&mut self) -> SmallVec<[Event; 2]> {
        assert_eq!(self.stage, LotStage::Open, "only an open lot ends by itself");
        self.stage = LotStage::Closed;
        let mut events = SmallVec::from_iter([Event::Closed]);
        if self.rules.award == AwardMode::Automatic {
            let first = self.book.iter().find(|(_, slot)| self.meets_reserve(slot.price));
            match first.map(|(bidder, slot)| (bidder, slot.price)) {
                Some((bidder, price)) => events.push(self.award_to(bidder, price)),
                None => events.push(self.fail()),
            }
        } else if self.book.len() == 0 {
            events.push(self.fail());
        }
        events
    }

    pub(crate) fn fail(&mut self) -> Event {
        self.stage = LotStage::Unsuccessful;
        Event::Unsuccessful
    }

    pub(crate) fn award_to(&mut self, bidder: BidderNumber, price: Price) -> Event {
        self.stage = LotStage::Awarded;
        self.award = Some(Award { bidder, pays: price });
        Event::Awarded { bidder, price }
    }

    /// A closed lot in which nobody is left to be awarded has failed.
    pub(crate) fn fail_if_none_left(&mut self) -> Option<Event> {
        (self.stage == LotStage::Closed && self.book.first_left().is_none()).then(|| self.fail())
    }

    pub(crate) fn pause(&mut self, at: LogTime) {
        let closes_at = self.times.closes_at.take().expect("an open lot has an end");
        self.times.rest_ms = Some(closes_at.0 - at.0);
        self.stage = LotStage::Paused;
    }

    /// Lets the lot run on; its new end is answered.
    pub(crate) fn resume(&mut self, at: LogTime) -> LogTime {
        let rest = self.times.rest_ms.take().expect("a paused lot has time left");
        let least = self.rules.overtime.map_or(0, |overtime| overtime.window_ms);
        let closes_at = at.plus_ms(rest.max(least));
        self.times.closes_at = Some(closes_at);
        self.stage = LotStage::Open;
        closes_at
    }

    /// Adds the buyer's time.
    pub(crate) fn extend(&mut self, ms: i64) -> Event {
        match &mut self.times.rest_ms {
            Some(rest) => *rest += ms,
            None => {
                let closes_at = self.times.closes_at.expect("a lot that is not paused has an end");
                self.times.closes_at = Some(closes_at.plus_ms(ms));
            }
        }
        Event::Extended { closes_at: self.closes_at(), added_ms: ms, reason: ExtendReason::Buyer }
    }

    /// The end that an interruption up to `at` asks for, if the lot gets one.
    pub(crate) fn outage_end(&self, at: LogTime) -> Option<LogTime> {
        if self.stage != LotStage::Open {
            return None;
        }
        let closes_at = self.times.closes_at?;
        let window_ms = self.rules.overtime.map(|overtime| overtime.window_ms);
        let touched = closes_at <= at || window_ms.is_some_and(|window| closes_at.0 - at.0 <= window);
        let end = at.plus_ms(self.rules.outage_grace_ms);
        (touched && end > closes_at).then_some(end)
    }

    /// Moves the end for an interruption.
    pub(crate) fn outage(&mut self, end: LogTime) -> Event {
        let before = self.times.closes_at.replace(end).expect("an open lot has an end");
        Event::Extended { closes_at: Some(end), added_ms: end.0 - before.0, reason: ExtendReason::Outage }
    }

    /// Moves the end if an accepted bid at this price asks for it.
    pub(crate) fn overtime(&mut self, at: LogTime, price: Price, before: Option<Price>) -> Option<Event> {
        let overtime = self.rules.overtime.as_ref()?;
        let closes_at = self.times.closes_at?;
        let end = english::extended(overtime, closes_at, at, self.extensions, self.times.overtime_ms)?;
        if !english::triggers(overtime, &self.book, price, before) {
            return None;
        }
        let added_ms = end.0 - closes_at.0;
        self.times.closes_at = Some(end);
        self.times.overtime_ms += added_ms;
        self.extensions += 1;
        Some(Event::Extended { closes_at: Some(end), added_ms, reason: ExtendReason::Overtime })
    }

    /// Panics if the lot contradicts itself; `bidders` is how many the tender has.
    pub(crate) fn check_invariants(&self, bidders: usize) {
        self.book.check_invariants();
        let times = &self.times;
        assert!(self.book.slots().len() <= bidders);
        assert_eq!(times.rest_ms.is_some(), self.stage == LotStage::Paused, "time left is of paused lots");
        assert_eq!(self.award.is_some(), self.stage == LotStage::Awarded);
        if self.stage == LotStage::Open {
            assert!(times.opened && times.closes_at.is_some(), "an open lot has an end");
        }
        if self.stage == LotStage::Pending {
            assert!(!times.opened && self.history.iter().all(|record| !record.is_accepted()));
        }
        if let Some(overtime) = &self.rules.overtime {
            assert!(overtime.max_count.is_none_or(|most| self.extensions <= most));
            assert!(overtime.max_total_ms.is_none_or(|most| times.overtime_ms <= most));
        } else {
            assert_eq!((self.extensions, times.overtime_ms), (0, 0));
        }
        for (_, slot) in self.book.iter() {
            let newest = self.history.get(slot.newest);
            assert!(newest.is_accepted() && newest.price(&self.rules) == slot.price);
            assert!(self.rules.ceiling.is_none_or(|ceiling| slot.price <= ceiling));
            assert!(self.rules.floor.is_none_or(|floor| slot.price >= floor));
            assert_eq!(slot.price.0 % self.rules.tick, 0);
            assert!(u64::from(slot.seq) <= self.seq);
        }
        let accepted = self.book.slots().iter().map(|slot| slot.accepted as usize).sum::<usize>();
        let recorded = self.history.iter().filter(|record| record.was_accepted()).count();
        assert_eq!(accepted, recorded, "every accepted bid is in the history");
        assert!(self.history.iter().is_sorted_by_key(Record::at), "the history is in order of time");
    }
}
