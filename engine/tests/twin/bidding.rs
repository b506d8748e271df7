//! Bids, accepts and limits.

use super::Amount;
use super::{BidAsk, Event, Highest, Limit, Lot, Org, Said, Sent, Shown, Standing, Tender, Twin, refused};

/// What a bidder wants of a lot.
#[derive(Clone, Copy)]
enum Want<'a> {
    Bid(&'a BidAsk),
    Accept(u64),
    Limit,
}

impl Tender {
    /// Everything that is checked before the price: the index of the bidder, or the refusal.
    fn may_bid(&self, sent: &Sent, lot: &Lot, want: Want) -> Result<usize, &'static str> {
        let index = self.bidders.iter().position(|bidder| bidder.org == sent.from).ok_or("not_admitted")?;
        let number = index as u16 + 1;
        if self.bidders[index].status == "disqualified" {
            return Err("not_admitted");
        }
        if self.buyer == sent.from {
            return Err("own_tender");
        }
        if self.bidders[index].status == "invited" {
            return Err("terms_not_accepted");
        }
        let plan = &lot.plan;
        match lot.stage {
            "open" => {}
            "pending" => {
                let early = match want {
                    Want::Bid(_) => plan.takes_prebids(),
                    Want::Limit => plan.takes_limits(),
                    Want::Accept(_) => false,
                };
                if !early {
                    return Err("lot_not_open");
                }
            }
            "paused" => return Err("lot_paused"),
            "closed" | "awarded" | "unsuccessful" => return Err("lot_closed"),
            "cancelled" => return Err("lot_cancelled"),
            other => panic!("no such stage: {other}"),
        }
        let open = lot.stage == "open";
        if let Want::Bid(bid) = want {
            if bid.expires_at.is_some_and(|expires_at| sent.at > expires_at) {
                return Err("expired");
            }
            if let Some(age) = plan.max_view_age
                && bid.seen_seq.is_none_or(|seen| seen + age < lot.seq)
            {
                return Err("stale_view");
            }
        }
        let fits = match want {
            Want::Bid(bid) => {
                let marked = bid.all_or_nothing == Some(true) && !plan.all_or_nothing;
                let withdraws = bid.price.is_none();
                !plan.is_dutch() && !plan.is_japanese() && !marked && (!withdraws || (plan.is_rounds() && open))
            }
            Want::Accept(_) => plan.is_dutch() || plan.is_japanese(),
            Want::Limit => true,
        };
        if !fits {
            return Err("wrong_action");
        }
        if plan.is_rounds() && open && !lot.is_turn_of(number) {
            return Err("not_your_turn");
        }
        if let Want::Accept(step) = want {
            if lot.phase.as_ref().is_none_or(|phase| phase.step != step) {
                return Err("stale_step");
            }
            if plan.is_japanese() && !lot.inside.contains(&number) {
                return Err("already_out");
            }
        }
        if open && plan.needs_prebid() && !lot.prebidders.contains(&number) {
            return Err("prebid_required");
        }
        Ok(index)
    }

    fn check_bid(&self, sent: &Sent, lot: &Lot, bid: &BidAsk) -> Result<usize, &'static str> {
        let index = self.may_bid(sent, lot, Want::Bid(bid))?;
        let number = index as u16 + 1;
        let Some(price) = bid.price else {
            return if bid.limit.is_some() { Err("limit_not_allowed") } else { Ok(index) };
        };
        let limit = bid.limit.filter(|_| lot.plan.takes_limits());
        if let Some(broken) = lot.broken_by(number, Some(price), limit) {
            return Err(broken);
        }
        if lot.guarded(number, price) && !bid.confirm {
            return Err("drop_too_large");
        }
        if bid.limit.is_some() && !lot.plan.takes_limits() {
            return Err("limit_not_allowed");
        }
        if !lot.bids_left(number) {
            return Err("bids_exhausted");
        }
        Ok(index)
    }

    fn check_limit(&self, sent: &Sent, lot: &Lot, limit: Option<Amount>) -> Result<usize, &'static str> {
        let index = self.may_bid(sent, lot, Want::Limit)?;
        if !lot.plan.takes_limits() {
            return Err("limit_not_allowed");
        }
        match lot.broken_as_limit(limit) {
            Some(broken) => Err(broken),
            None => Ok(index),
        }
    }
}

impl Twin {
    /// The places of a lot and its tender that the sender may see.
    fn visible_lot(&self, tender: u64, lot: u16, from: Org) -> Option<(usize, usize)> {
        let place = self.visible(tender, from)?;
        let index = usize::from(lot).checked_sub(1)?;
        (index < self.tenders[place].lots.len()).then_some((place, index))
    }

    /// Whether the sender may see the lots of a tender as they run: there is nothing to see before the publication. An open tender that is not
    /// public shows itself to suppliers, but its lots to its bidders only.
    fn seen_lot(&self, place: usize, from: Org) -> bool {
        let tender = &self.tenders[place];
        let may =
            tender.buyer == from || tender.plan.public || tender.bidders.iter().any(|bidder| bidder.org == from);
        tender.published && may
    }

    /// Counts a decision in the history of a lot.
    fn note(&mut self, place: usize, index: usize, from: Org) {
        if self.seen_lot(place, from) {
            self.tenders[place].lots[index].decisions += 1;
        }
    }

    /// A refusal with what the sender needs for the next try.
    fn refused_in(&self, place: usize, index: usize, from: Org, code: &'static str) -> Said {
        if !self.seen_lot(place, from) {
            return refused(code);
        }
        let tender = &self.tenders[place];
        let lot = &tender.lots[index];
        let bidder = tender.bidders.iter().position(|bidder| bidder.org == from);
        let next = bidder.map_or(Highest::None, |bidder| tender.highest_next(lot, bidder));
        let closes_at = lot.closes_at(&tender.plan);
        Said::Refused { code, shown: Some(Shown { seq: lot.seq, closes_at, next }) }
    }

    pub(super) fn bid(&mut self, sent: &Sent, id: u64, number: u16, bid: &BidAsk) -> Said {
        let Some((place, index)) = self.visible_lot(id, number, sent.from) else {
            return refused("lot_not_found");
        };
        self.note(place, index, sent.from);
        let tender = &self.tenders[place];
        let bidder = match tender.check_bid(sent, &tender.lots[index], bid) {
            Ok(bidder) => bidder,
            Err(code) => return self.refused_in(place, index, sent.from, code),
        };
        let lot = &mut self.tenders[place].lots[index];
        let who = bidder as u16 + 1;
        let Some(price) = bid.price else {
            lot.given.clear();
            lot.withdrew = true;
            let seq = lot.seq;
            return Said::Withdrawn { seq, next: self.next(place, index, bidder) };
        };
        match lot.accepted.iter_mut().find(|(known, _)| *known == who) {
            Some((_, count)) => *count += 1,
            None => lot.accepted.push((who, 1)),
        }
        let shows_at_once = lot.plan.is_english() && lot.stage == "open";
        let seq = lot.seq + u64::from(shows_at_once);
        let (at, order) = (sent.at, self.order);
        let new = Standing { bidder: who, bid: sent.request, price, at, seq, order, auto: false, rejected: false };
        let limit = bid.limit.map(|price| Limit { bidder: who, request: sent.request, price, at, seq, order });
        if shows_at_once {
            self.bid_in_english(place, index, Some(new), limit, who, at);
        } else {
            lot.hide(new);
            if let Some(limit) = limit {
                lot.leave_limit(limit);
            }
        }
        let lot = &self.tenders[place].lots[index];
        let ranks = lot.ranks_of(who).filter(|_| shows_at_once && lot.plan.shows_rank);
        Said::Bid { bidder: who, price, seq: lot.seq, ranks, next: self.next(place, index, bidder) }
    }

    pub(super) fn limit(&mut self, sent: &Sent, id: u64, number: u16, limit: Option<Amount>) -> Said {
        let Some((place, index)) = self.visible_lot(id, number, sent.from) else {
            return refused("lot_not_found");
        };
        let tender = &self.tenders[place];
        let bidder = match tender.check_limit(sent, &tender.lots[index], limit) {
            Ok(bidder) => bidder,
            Err(code) => return self.refused_in(place, index, sent.from, code),
        };
        let who = bidder as u16 + 1;
        let lot = &mut self.tenders[place].lots[index];
        match limit {
            None => lot.limits.retain(|limit| limit.bidder != who),
            Some(price) => {
                let (at, order) = (sent.at, self.order);
                let limit = Limit { bidder: who, request: sent.request, price, at, seq: lot.seq, order };
                if lot.stage == "pending" {
                    lot.leave_limit(limit);
                } else if lot.plan.is_dutch() {
                    lot.leave_limit(limit);
                    let current = lot.ladder_price().expect("an open dutch lot has a step");
                    if price <= current {
                        self.win_dutch(place, index, Vec::new(), at);
                    }
                } else {
                    self.bid_in_english(place, index, None, Some(limit), who, at);
                }
            }
        }
        let seq = self.tenders[place].lots[index].seq;
        Said::Limit { seq, next: self.next(place, index, bidder) }
    }

    pub(super) fn accept(&mut self, sent: &Sent, id: u64, number: u16, step: u64) -> Said {
        let Some((place, index)) = self.visible_lot(id, number, sent.from) else {
            return refused("lot_not_found");
        };
        self.note(place, index, sent.from);
        let tender = &self.tenders[place];
        let bidder = match tender.may_bid(sent, &tender.lots[index], Want::Accept(step)) {
            Ok(bidder) => bidder,
            Err(code) => return self.refused_in(place, index, sent.from, code),
        };
        let who = bidder as u16 + 1;
        let lot = &mut self.tenders[place].lots[index];
        let price = lot.ladder_price().expect("there is a step or level");
        let dutch = lot.plan.is_dutch();
        let seq = lot.seq + u64::from(dutch);
        let (at, order) = (sent.at, self.order);
        let new = Standing { bidder: who, bid: sent.request, price, at, seq, order, auto: false, rejected: false };
        let mut ranks = None;
        if dutch {
            lot.stand(new);
            let events = vec![lot.bid_event(who)];
            self.close(place, index, at, events);
            let lot = &self.tenders[place].lots[index];
            ranks = lot.ranks_of(who).filter(|_| lot.plan.shows_rank);
        } else if lot.given.iter().all(|given| given.bidder != who) {
            lot.given.push(new);
        }
        let seq = self.tenders[place].lots[index].seq;
        Said::Bid { bidder: who, price, seq, ranks, next: self.next(place, index, bidder) }
    }

    fn next(&self, place: usize, index: usize, bidder: usize) -> Highest {
        let tender = &self.tenders[place];
        tender.highest_next(&tender.lots[index], bidder)
    }

    /// A bid, a limit or both in an open english lot: the book, the automatic bids, overtime, and the step if there
    /// is one.
    fn bid_in_english(
        &mut self,
        place: usize,
        index: usize,
        bid: Option<Standing>,
        limit: Option<Limit>,
        who: u16,
        at: i64,
    ) {
        let lot = &mut self.tenders[place].lots[index];
        let before = lot.standing.clone();
        let led = lot.lead().is_some_and(|lead| lead.bidder == who);
        let spared = (led && limit.is_some()).then_some(who);
        let sent = bid.as_ref().map(|_| who);
        let settles = lot.plan.auto_bid;
        let asked = limit.as_ref().map(|limit| limit.price);
        if let Some(limit) = limit {
            lot.leave_limit(limit);
        }
        let price = bid.as_ref().map(|bid| bid.price);
        if let Some(bid) = bid {
            lot.stand(bid);
        }
        let with_sent = lot.standing.clone();
        let fired = if settles { lot.settle(spared) } else { Vec::new() };
        if sent.is_none() && fired.is_empty() {
            return;
        }
        if sent.is_none()
            && let Some(limit) = lot.limits.iter_mut().find(|limit| limit.bidder == who && limit.at == at)
            && limit.seq == lot.seq
            && Some(limit.price) == asked
            && limit.order == self.order
        {
            // The limit is answered with the step that it makes.
            limit.seq += 1;
            let seq = limit.seq;
            if let Some(own) = lot.standing.iter_mut().find(|own| own.bidder == who && fired.contains(&who)) {
                own.seq = seq;
            }
        }
        let mut events = Vec::new();
        if let (Some(who), Some(price)) = (sent, price) {
            let lead = !fired.contains(&who) && lot.lead().is_some_and(|lead| lead.bidder == who);
            events.push(Event::Bid { bidder: who, price, lead, auto: false });
        }
        events.extend(fired.iter().map(|bidder| lot.bid_event(*bidder)));
        self.step_with_overtime(place, index, at, events, sent, &fired, &before, &with_sent);
    }
}

impl Lot {
    /// Keeps what nobody else may see yet: a pre-bid, a sealed bid, or a bid inside a turn.
    fn hide(&mut self, mut new: Standing) {
        // The same amount again counts since it was first sent.
        let mut earlier = self.given.iter().chain(&self.hidden).filter(|old| old.bidder == new.bidder);
        if let Some(old) = earlier.find(|old| old.price == new.price) {
            (new.at, new.seq, new.order) = (old.at, old.seq, old.order);
        }
        if self.plan.is_rounds() && self.stage == "open" {
            self.given = vec![new];
            self.withdrew = false;
            return;
        }
        self.hidden.retain(|old| old.bidder != new.bidder);
        if self.stage == "open" && self.initial.iter().all(|(who, _)| *who != new.bidder) {
            self.initial.push((new.bidder, new.price));
        }
        self.hidden.push(new);
    }
}
