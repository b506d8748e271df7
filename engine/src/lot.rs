//! One lot: its stage, its clock, its order book and the history of decisions about its bids.
//! Pure: every time comes in with the command or deadline that is handled.

use crate::{Bidder, BidderNumber, Decision, LogTime, LotId, LotStage, MaxNext, Price, Ranks, RequestId, Rules};

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
    pub(crate) rules: Rules,
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

impl Lot {
    /// Its compiled rules.
    pub fn rules(&self) -> &Rules {
        &self.rules
    }

    /// When it opens or opened.
    pub fn opens_at(&self) -> Option<LogTime> {
        todo!()
    }

    /// When it ends or ended; none while it is paused, or pending without a schedule.
    pub fn closes_at(&self) -> Option<LogTime> {
        todo!()
    }

    /// When it opened; none before, and if it failed at its opening.
    pub fn opened_at(&self) -> Option<LogTime> {
        todo!()
    }

    /// When it ended; none before, and after a cancellation.
    pub fn closed_at(&self) -> Option<LogTime> {
        todo!()
    }

    /// The first in award order.
    pub fn lead(&self) -> Option<Standing> {
        todo!()
    }

    /// The standing bid of a bidder.
    pub fn standing(&self, bidder: BidderNumber) -> Option<Standing> {
        let _ = bidder;
        todo!()
    }

    /// Where a bidder's standing bid stands.
    pub fn ranks(&self, bidder: BidderNumber) -> Option<Ranks> {
        let _ = bidder;
        todo!()
    }

    /// The highest price that would be taken from a bidder now, given `confirm`.
    pub fn max_next(&self, bidder: &Bidder) -> MaxNext {
        let _ = bidder;
        todo!()
    }

    /// All standing bids in award order.
    pub fn ranking(&self) -> impl ExactSizeIterator<Item = Ranked> + '_ {
        let all: Vec<Ranked> = todo!();
        #[allow(unreachable_code)]
        all.into_iter()
    }

    /// How many bidders have a standing bid.
    pub fn bidder_count(&self) -> usize {
        todo!()
    }

    /// Whether the lead meets the reserve; none without a reserve.
    pub fn reserve_met(&self) -> Option<bool> {
        todo!()
    }

    /// Every decision about a bid, in order of time.
    pub fn decisions(&self) -> impl DoubleEndedIterator<Item = Decision> + ExactSizeIterator + '_ {
        let all: Vec<Decision> = todo!();
        #[allow(unreachable_code)]
        all.into_iter()
    }

    /// The decision about the bid with this id.
    pub fn decision(&self, bid: RequestId) -> Option<Decision> {
        let _ = bid;
        todo!()
    }

    /// How the lot ended, or stands so far.
    pub fn result(&self) -> LotResult {
        todo!()
    }
}
