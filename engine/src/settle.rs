//! Automatic bids: limits are settled in one pass, never by playing the bidding out.

use crate::adjust::Effective;
use crate::book::Amount;
use crate::history::{Record, Sent};
use crate::{BidderNumber, LogTime, Lot, MaxNext, OvertimeTrigger, Price, Ranks, english};

/// A bidder whose limit made a bid, and its price before it.
pub(crate) type Fired = Vec<(BidderNumber, Option<Price>)>;

/// How far a bidder will go.
#[derive(Clone, Copy)]
struct Reach {
    bidder: BidderNumber,
    effective: Effective,
    order: u32,
}

impl Reach {
    fn is_better(&self, other: &Self) -> bool {
        self.effective.cmp(&other.effective).then(self.order.cmp(&other.order)).is_lt()
    }
}

impl Lot {
    /// What settling would move: bidder and new price, by number. `pinned`: a leader that set its own limit.
    pub(crate) fn settlement(&self, pinned: Option<BidderNumber>) -> Vec<(BidderNumber, Price)> {
        let Some(live) = self.live.as_deref().filter(|live| !live.limits.is_empty()) else { return Vec::new() };
        let book = &self.book;
        let (mut best, mut next): (Option<Reach>, Option<Reach>) = (None, None);
        let mut meet = |reach: Reach| {
            if best.as_ref().is_none_or(|best| reach.is_better(best)) {
                next = best.replace(reach);
            } else if next.as_ref().is_none_or(|next| reach.is_better(next)) {
                next = Some(reach);
            }
        };
        for (bidder, slot) in book.iter() {
            // A limit counts only where it lies below the standing price.
            let reach = live.limit_of(bidder).filter(|limit| limit.price < slot.price);
            let (price, order) = reach.map_or((slot.price, slot.order), |limit| (limit.price, limit.order));
            meet(Reach { bidder, effective: book.effective(bidder, price), order });
        }
        for (index, limit) in live.limits.iter().enumerate() {
            let bidder = BidderNumber::from_index(index);
            if let Some(limit) = limit
                && book.standing(bidder).is_none()
            {
                meet(Reach { bidder, effective: book.effective(bidder, limit.price), order: limit.order });
            }
        }
        let Some(best) = best else { return Vec::new() };
        let highest = self.rules.ceiling.unwrap_or(Price(i64::MAX));
        let mut moves = Vec::new();
        for (index, limit) in live.limits.iter().enumerate() {
            let Some(limit) = limit else { continue };
            let bidder = BidderNumber::from_index(index);
            let standing = book.standing(bidder).map(|slot| slot.price);
            let target = if bidder != best.bidder {
                limit.price
            } else if pinned == Some(bidder) {
                continue;
            } else if let Some(rival) = next {
                if standing.is_some_and(|price| book.effective(bidder, price) < rival.effective) {
                    continue;
                }
                let less = english::step_of(&self.rules.decrement, rival.effective);
                let enough = book.adjust(bidder).at_most(rival.effective.plus(-less));
                Price(enough).max(limit.price).min(highest)
            } else if standing.is_none() {
                self.rules.ceiling.unwrap_or(limit.price)
            } else {
                continue;
            };
            if standing.is_none_or(|price| target < price) {
                moves.push((bidder, target));
            }
        }
        moves
    }

    /// Settles the limits in the step `seq`.
    pub(crate) fn settle(&mut self, at: LogTime, seq: u64, pinned: Option<BidderNumber>) -> Fired {
        let moves = self.settlement(pinned);
        self.fire(at, seq, &moves)
    }

    /// Lets automatic bids stand.
    pub(crate) fn fire(&mut self, at: LogTime, seq: u64, moves: &[(BidderNumber, Price)]) -> Fired {
        let first = self.history.len();
        let mut fired = Fired::with_capacity(moves.len());
        let mut bids = Vec::with_capacity(moves.len());
        let scale = self.rules.price_scale;
        for (bidder, price) in moves {
            let limit = self.live_mut().limit_of(*bidder).expect("who has a limit is moved");
            let before = self.book.standing(*bidder).map(|slot| slot.price);
            let amount = Amount { price: *price, at: limit.at, seq: limit.seq, order: limit.order };
            bids.push((*bidder, amount, self.history.len()));
            let sent = Sent {
                request: limit.request,
                key: None,
                at,
                bidder: Some(*bidder),
                price: Some(price.decimal(scale)),
                is_bound: false,
            };
            let ranks = Ranks { rank: 0, award_rank: 0, tied: false };
            self.history.push(Record::automatic(&sent, seq, ranks, MaxNext::None));
            fired.push((*bidder, before));
        }
        self.book.stand_automatic_all(&bids);
        // Now that all stand, each knows its rank.
        for (index, (bidder, price)) in (first..).zip(moves) {
            let limit = self.live_mut().limit_of(*bidder).expect("who has a limit is moved");
            let ranks = self.ranks(*bidder).expect("an automatic bid stands");
            let max_next = english::max_next(&self.rules, &self.book, *bidder);
            let sent = Sent {
                request: limit.request,
                key: None,
                at,
                bidder: Some(*bidder),
                price: Some(price.decimal(scale)),
                is_bound: false,
            };
            *self.history.get_mut(index) = Record::automatic(&sent, seq, ranks, max_next);
        }
        fired
    }

    /// The rank of every bidder by strictly better prices, by dense index; 0: no bid.
    pub(crate) fn strict_ranks(&self) -> Vec<u16> {
        let mut ranks = vec![0; self.book.slots().len()];
        for (bidder, slot) in self.book.iter() {
            ranks[bidder.index()] = self.book.better(bidder, slot.price) as u16 + 1;
        }
        ranks
    }

    /// Whether automatic bids extend; `ranks`: those before them, where the trigger asks for it.
    pub(crate) fn fired_triggers(&self, fired: &Fired, ranks: &[u16]) -> bool {
        let Some(overtime) = &self.rules.overtime else { return false };
        if fired.is_empty() {
            return false;
        }
        if overtime.first_bid_triggers && fired.iter().any(|(_, before)| before.is_none()) {
            return true;
        }
        let rank = |bidder: BidderNumber| {
            let price = self.book.standing(bidder).expect("an automatic bid stands").price;
            self.book.better(bidder, price) + 1
        };
        match overtime.trigger {
            OvertimeTrigger::Any => true,
            OvertimeTrigger::Lead => fired.iter().any(|(bidder, _)| rank(*bidder) == 1),
            OvertimeTrigger::Rank => {
                let now = self.strict_ranks();
                let old = |index: usize| ranks.get(index).copied().unwrap_or(0);
                let is_moved = now.iter().enumerate().any(|(index, rank)| *rank != 0 && *rank != old(index));
                is_moved && fired.iter().any(|(bidder, _)| rank(*bidder) <= usize::from(overtime.rank))
            }
        }
    }
}

/// A lot in which limits are settled, for benchmarks: with more bidders than a tender takes.
#[doc(hidden)]
#[derive(Clone, Debug)]
pub struct Settling {
    lot: Lot,
    /// Bids without a limit behind it.
    rival: BidderNumber,
}

impl Settling {
    /// `bidders` have left limits, and the lot is about to open.
    pub fn new(bidders: u16) -> Self {
        const HIGHEST: i64 = 1 << 50;
        let rules = crate::Rules::for_settling();
        let mut lot = Lot::new(crate::LotId(1), std::sync::Arc::new(rules), None);
        lot.book.reserve(usize::from(bidders) + 1);
        for index in 0..usize::from(bidders) {
            // In no order of price; one would go to the lowest price there is.
            let price = if index == 0 { 1 } else { HIGHEST + (index as i64 * 7_919) % 65_537 * 100 };
            let (request, order) = (crate::RequestId(index as u128 + 1), lot.next_order());
            let limit = crate::live::Limit { price: Price(price), at: LogTime(0), seq: 0, order, request };
            crate::live::set(&mut lot.live_mut().limits, index, Some(limit));
        }
        Self { lot, rival: BidderNumber::from_index(usize::from(bidders)) }
    }

    /// Settles the limits as at the opening: everybody's makes a bid. How many did is answered.
    pub fn open(&mut self) -> usize {
        self.lot.settle(LogTime(1), 1, None).len()
    }

    /// The rival bids less than the lead, and its limit answers. How many limits made a bid is answered.
    pub fn bid(&mut self) -> usize {
        let price = Price(self.lot.book.lead().map_or(1 << 49, |(_, lead)| lead.price.0) - 1);
        let amount = Amount { price, at: LogTime(2), seq: 2, order: self.lot.next_order() };
        self.lot.book.stand(self.rival, amount, self.lot.history.len());
        let sent = Sent {
            request: crate::RequestId(1 << 20),
            key: None,
            at: LogTime(2),
            bidder: Some(self.rival),
            price: Some(price.decimal(2)),
            is_bound: false,
        };
        let ranks = Ranks { rank: 1, award_rank: 1, tied: false };
        self.lot.history.push(Record::accepted(&sent, 2, ranks, MaxNext::None));
        self.lot.settle(LogTime(2), 2, None).len()
    }

    /// Panics if the book contradicts itself.
    pub fn check(&self) {
        self.lot.book.check_invariants();
    }
}
