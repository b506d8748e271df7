//! Automatic bids: what the limits of a lot make of its book, in one pass.

use super::{Amount, Event, Limit, Lot, Ms, Ratio, Standing};

/// How far down a bidder would go, and since when.
struct Reach {
    bidder: u16,
    effective: Ratio,
    at: Ms,
    order: u64,
}

impl Lot {
    pub fn limit_of(&self, bidder: u16) -> Option<&Limit> {
        self.limits.iter().find(|limit| limit.bidder == bidder)
    }

    /// Leaves a limit; the same again changes nothing.
    pub fn leave_limit(&mut self, limit: Limit) {
        if self.limit_of(limit.bidder).is_some_and(|old| old.price == limit.price) {
            return;
        }
        self.limits.retain(|old| old.bidder != limit.bidder);
        self.limits.push(limit);
    }

    /// The limit of a bidder, where it asks for less than the bidder stands at.
    fn busy_limit(&self, bidder: u16) -> Option<&Limit> {
        let limit = self.limit_of(bidder)?;
        self.standing_of(bidder).is_none_or(|standing| limit.price < standing.price).then_some(limit)
    }

    fn reach(&self, bidder: u16) -> Option<Reach> {
        if let Some(limit) = self.busy_limit(bidder) {
            let effective = self.effective(bidder, limit.price);
            return Some(Reach { bidder, effective, at: limit.at, order: limit.order });
        }
        let standing = self.standing_of(bidder)?;
        Some(Reach { bidder, effective: self.worth(standing), at: standing.at, order: standing.order })
    }

    /// Lets the limits act. `spared` led and left its limit with this command, so it is not moved.
    /// Answers who was moved, by number.
    pub fn settle(&mut self, spared: Option<u16>) -> Vec<u16> {
        let mut bidders: Vec<u16> = self.standing.iter().map(|standing| standing.bidder).collect();
        bidders.extend(self.limits.iter().map(|limit| limit.bidder));
        bidders.sort_by_key(|bidder| self.number_of(*bidder));
        bidders.dedup();
        let reaches: Vec<Reach> = bidders.iter().filter_map(|bidder| self.reach(*bidder)).collect();
        let best = reaches.iter().min_by_key(|reach| (reach.effective, reach.at, reach.order));
        let Some(leader) = best.map(|reach| reach.bidder) else { return Vec::new() };
        let rival = reaches.iter().filter(|reach| reach.bidder != leader).map(|reach| reach.effective).min();
        let mut moves: Vec<(Limit, Amount)> = Vec::new();
        for bidder in bidders {
            let Some(limit) = self.busy_limit(bidder) else { continue };
            let standing = self.standing_of(bidder);
            let wanted = if bidder != leader {
                Some(limit.price)
            } else if Some(bidder) == spared {
                None
            } else {
                match rival {
                    None if standing.is_some() => None,
                    None => Some(self.plan.ceiling.unwrap_or(limit.price)),
                    Some(rival) if standing.is_some_and(|standing| self.worth(standing) < rival) => None,
                    Some(rival) => {
                        let below = rival - Ratio::whole(self.step_below(rival));
                        let price = self.price_for(bidder, below, self.plan.unit()).max(limit.price);
                        Some(self.plan.ceiling.map_or(price, |ceiling| price.min(ceiling)))
                    }
                }
            };
            let Some(wanted) = wanted else { continue };
            if standing.is_none_or(|standing| wanted < standing.price) {
                moves.push((limit.clone(), wanted));
            }
        }
        let moved = moves.iter().map(|(limit, _)| limit.bidder).collect();
        for (limit, price) in moves {
            self.stand(Standing {
                bidder: limit.bidder,
                bid: limit.request,
                price,
                at: limit.at,
                seq: limit.seq,
                order: limit.order,
                auto: true,
                rejected: false,
            });
            self.decisions += 1;
        }
        moved
    }

    /// Puts a bid into the book. The same amount again stands since it began to.
    pub fn stand(&mut self, mut new: Standing) {
        if let Some(old) = self.standing_of(new.bidder)
            && old.price == new.price
        {
            (new.at, new.seq, new.order) = (old.at, old.seq, old.order);
        }
        self.standing.retain(|standing| standing.bidder != new.bidder);
        if self.initial.iter().all(|(who, _)| *who != new.bidder) {
            self.initial.push((new.bidder, new.price));
        }
        self.standing.push(new);
    }

    /// The event of what a bidder stands at.
    pub fn bid_event(&self, bidder: u16) -> Event {
        let standing = self.standing_of(bidder).expect("it stands");
        let lead = self.lead().is_some_and(|lead| lead.bidder == bidder);
        Event::Bid { bidder, price: standing.price, lead, auto: standing.auto }
    }
}
