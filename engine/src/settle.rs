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
        let scale = self.rules.price_scale;
        for (bidder, price) in moves {
            let limit = self.live_mut().limit_of(*bidder).expect("who has a limit is moved");
            let before = self.book.standing(*bidder).map(|slot| slot.price);
            let amount = Amount { price: *price, at: limit.at, seq: limit.seq, order: limit.order };
            self.book.stand_automatic(*bidder, amount, self.history.len());
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
