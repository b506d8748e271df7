//! One lot: its stage, its clock, its order book and the history of decisions about its bids.
//! Pure: every time comes in with the command or deadline that is handled.

use std::sync::Arc;

use wincode::{SchemaRead, SchemaWrite};

use crate::book::{Book, Slot};
use crate::history::{History, Record};
use crate::live::{ALL_SHOWN, Live, Phase};
use crate::tender::permuted;
use crate::{
    Answer, Bidder, BidderNumber, BidderStatus, Changed, Decision, Event, ExtendReason, Format, LogTime,
    LotAnswer, LotId, LotStage, MaxNext, Outcome, Prebid, Price, Ranks, Refusal, Refused, RequestId, Rules,
    english,
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
    /// What is kept beside the book; none in plain english lots.
    pub(crate) live: Option<Box<Live>>,
    /// How many amounts were offered; their order.
    pub(crate) arrivals: u32,
    /// By how much a staggered lot ends later than the first, in milliseconds.
    pub(crate) offset_ms: i64,
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
    /// Its effective price, rounded half up to the lot's scale.
    pub effective: Price,
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

/// The phase that runs in a lot.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PhaseNow {
    /// What runs.
    pub phase: Phase,
    /// Whose turn it is.
    pub bidder: Option<BidderNumber>,
    /// The price of the step or level.
    pub price: Option<Price>,
    /// When it ends; none while paused.
    pub ends_at: Option<LogTime>,
}

/// The traffic light.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Light {
    /// The lead.
    Green,
    /// Near to it.
    Yellow,
    /// Far from it.
    Red,
}

impl Light {
    /// The word on the wire.
    pub const fn word(self) -> &'static str {
        match self {
            Self::Green => "green",
            Self::Yellow => "yellow",
            Self::Red => "red",
        }
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
    phase: Option<PhaseNow>,
}

impl Face {
    /// As before the time of the opening was known.
    pub(crate) fn without_opening(self) -> Self {
        Self { opens_at: None, closes_at: None, ..self }
    }
}

impl Lot {
    /// A lot that nobody has published yet.
    pub(crate) fn new(id: LotId, rules: Arc<Rules>, opens_at: Option<LogTime>) -> Self {
        let live = (!rules.is_plain()).then(Box::default);
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
            live,
            arrivals: 0,
            offset_ms: 0,
            is_touched: false,
        }
    }

    /// Gives bidders the numbers that were drawn, before the lot opens; `moves` has the new index by the old one.
    pub(crate) fn renumber(&mut self, moves: &[usize]) {
        assert_eq!(self.stage, LotStage::Pending, "numbers are drawn before a lot opens");
        self.book.renumber(moves);
        if let Some(live) = self.live.as_deref_mut() {
            live.hidden = permuted(std::mem::take(&mut live.hidden), moves, Some(None));
            live.limits = permuted(std::mem::take(&mut live.limits), moves, Some(None));
        }
        for index in 0..self.history.len() {
            self.history.get_mut(index).renumber(moves);
        }
    }

    /// Whether something may happen in it now that nobody else may know of, not even that it happened: sealed bids,
    /// pre-bids, bids inside a turn, limits. Counts of commands are then not to be told.
    pub fn is_veiled(&self) -> bool {
        let secretive = matches!(self.rules.format, Format::Sealed | Format::Rounds) || self.rules.limits;
        match self.stage {
            LotStage::Pending => secretive || self.rules.prebid != Prebid::None,
            LotStage::Open | LotStage::Paused => secretive,
            _ => false,
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
            LotStage::Pending => self.times.opens_at.and_then(|at| self.planned_end(at)),
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
            effective: self.book.effective(bidder, slot.price).rounded(),
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

    /// What a bidder stands at as far as it knows itself: what it offered and nobody else sees yet, or its standing bid.
    pub fn own_standing(&self, bidder: BidderNumber) -> Option<(Price, LogTime)> {
        let own = self.live.as_ref().and_then(|live| live.own(bidder)).map(|own| (own.price, own.at));
        own.or_else(|| self.book.standing(bidder).map(|slot| (slot.price, slot.at)))
    }

    /// The limit of a bidder; for that bidder alone.
    pub fn own_limit(&self, bidder: BidderNumber) -> Option<Price> {
        self.live.as_ref()?.limit_of(bidder).map(|limit| limit.price)
    }

    /// Whether a bidder is still in; none in formats where nobody drops out, and while the lot does not run.
    pub fn is_in(&self, bidder: BidderNumber) -> Option<bool> {
        let runs = matches!(self.stage, LotStage::Open | LotStage::Paused);
        (runs && self.rules.format == Format::Japanese)
            .then(|| self.live.as_ref().is_some_and(|live| live.is_inside(bidder)))
    }

    /// The phase that runs, whose turn it is, the price of its step or level and its end; the end is none while paused.
    pub fn phase(&self) -> Option<PhaseNow> {
        let live = self.live.as_deref()?;
        let runs = matches!(self.stage, LotStage::Open | LotStage::Paused) && live.phase != Phase::None;
        runs.then(|| PhaseNow {
            phase: live.phase,
            bidder: live.whose_turn(),
            price: live.step().and_then(|step| Some(self.rules.ladder.as_ref()?.price(step))),
            ends_at: live.ends_at,
        })
    }

    /// The traffic light of a bidder, where it has a standing bid.
    pub fn light(&self, bidder: BidderNumber) -> Option<Light> {
        let own = self.book.standing(bidder)?;
        let (leader, lead) = self.book.lead()?;
        if leader == bidder {
            return Some(Light::Green);
        }
        let lead = self.book.effective(leader, lead.price);
        let near = self.rules.near;
        let is_near = self.book.effective(bidder, own.price).is_near(lead, near.numerator, near.denominator);
        Some(if is_near { Light::Yellow } else { Light::Red })
    }

    /// How a bidder's prices are adjusted.
    pub fn adjust(&self, bidder: BidderNumber) -> crate::Adjust {
        self.book.adjust(bidder)
    }

    /// The effective price of a bidder's price, rounded half up as it is shown.
    pub fn effective(&self, bidder: BidderNumber, price: Price) -> Price {
        self.book.effective(bidder, price).rounded()
    }

    /// Whether prices of the lot are adjusted at all.
    pub fn is_adjusted(&self) -> bool {
        self.book.is_adjusted()
    }

    /// Where a bidder's standing bid stands.
    pub fn ranks(&self, bidder: BidderNumber) -> Option<Ranks> {
        self.book.ranks(bidder, self.rules.tie_rank)
    }

    /// The highest price that would be taken from a bidder now, given `confirm`.
    pub fn max_next(&self, bidder: &Bidder) -> MaxNext {
        let takes = self.stage == LotStage::Open || (self.stage == LotStage::Pending && self.live.is_some());
        if !takes || bidder.status != BidderStatus::Admitted {
            return MaxNext::None;
        }
        match &self.live {
            None => english::max_next(&self.rules, &self.book, bidder.number),
            Some(live) => self.max_next_live(live, bidder.number),
        }
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

    /// The decisions that others than their own bidder may see, and those of `own`, in order of time.
    pub fn decisions_seen(&self, own: Option<BidderNumber>) -> impl DoubleEndedIterator<Item = Decision> + '_ {
        let shown = self.live.as_ref().map_or(ALL_SHOWN, |live| live.hidden_from);
        let seen = (0u32..self.history.len()).map(|index| (index, self.history.get(index)));
        seen.filter(move |(index, record)| *index < shown || (own.is_some() && record.bidder() == own))
            .map(|(_, record)| record.decision(self.id, &self.rules))
    }

    /// How many of the first decisions others than their own bidder may see.
    pub fn shown_count(&self) -> u32 {
        self.live.as_ref().map_or(ALL_SHOWN, |live| live.hidden_from).min(self.history.len())
    }

    /// The decisions that others than their own bidder may see, from place `from` on, with their places.
    pub fn decisions_shown(&self, from: u32) -> impl Iterator<Item = (u32, Decision)> + '_ {
        (from..self.shown_count()).map(|index| (index, self.history.get(index).decision(self.id, &self.rules)))
    }

    /// Every decision about a bid, in order of time, whoever may see it.
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
                .map(|(bidder, _)| (bidder, self.pays(bidder))),
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
        if matches!(self.rules.format, Format::Dutch | Format::Japanese) {
            return false;
        }
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
            phase: self.phase(),
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
            phase: now.phase != before.phase,
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
            Outcome::Accepted(answer)
            | Outcome::Voided(answer)
            | Outcome::Automatic(answer)
            | Outcome::Dropped(answer) => Answer::Bid(answer),
            Outcome::Withdrawal(answer) => Answer::Withdrawn(answer),
            Outcome::Refused(refused) => Answer::Refused(refused),
        }
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

    /// Moves the end if an accepted bid at this price asks for it.
    pub(crate) fn overtime(
        &mut self,
        at: LogTime,
        bidder: BidderNumber,
        price: Price,
        before: Option<Price>,
    ) -> Option<Event> {
        let overtime = self.rules.overtime.as_ref()?;
        let closes_at = self.times.closes_at?;
        let end = english::extended(overtime, closes_at, at, self.extensions, self.times.overtime_ms)?;
        if !english::triggers(overtime, &self.book, bidder, price, before) {
            return None;
        }
        Some(self.overtime_to(closes_at, end))
    }

    /// Moves the end by overtime, whatever the window.
    pub(crate) fn overtime_anyway(&mut self, at: LogTime) -> Option<Event> {
        let overtime = self.rules.overtime.as_ref()?;
        let closes_at = self.times.closes_at?;
        let end = english::extended_anyway(overtime, closes_at, at, self.extensions, self.times.overtime_ms)?;
        Some(self.overtime_to(closes_at, end))
    }

    fn overtime_to(&mut self, closes_at: LogTime, end: LogTime) -> Event {
        let added_ms = end.0 - closes_at.0;
        self.times.closes_at = Some(end);
        self.times.overtime_ms += added_ms;
        self.extensions += 1;
        Event::Extended { closes_at: Some(end), added_ms, reason: ExtendReason::Overtime }
    }

    /// Moves the end of a staggered lot by what overtime added to one before it.
    pub(crate) fn follow(&mut self, added_ms: i64) -> Event {
        let end = self.times.closes_at.expect("an open lot has an end").plus_ms(added_ms);
        self.times.closes_at = Some(end);
        Event::Extended { closes_at: Some(end), added_ms, reason: ExtendReason::Staggered }
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
            assert!(!times.opened && self.book.len() == 0, "nothing stands before the opening");
            assert!(self.live.is_some() || self.history.iter().all(|record| !record.is_accepted()));
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
            assert!(slot.order <= self.arrivals);
            assert!(slot.automatic || slot.price.0 % self.rules.tick == 0);
            assert!(u64::from(slot.seq) <= self.seq);
        }
        let accepted = self.book.slots().iter().map(|slot| slot.accepted as usize).sum::<usize>();
        let recorded =
            self.history.iter().filter(|record| record.was_accepted() && !record.is_automatic()).count();
        assert_eq!(accepted, recorded, "every accepted bid is in the history");
        assert!(self.history.iter().is_sorted_by_key(Record::at), "the history is in order of time");
    }
}
