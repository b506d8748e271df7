//! Bids, and the other actions of bidders.

use super::{BidAsk, Event, Highest, Org, Said, Sent, Shown, Standing, Twin, refused};

impl Twin {
    /// Everything that is checked before the price: the places of tender, lot and bidder, or the refusal.
    fn may_bid(
        &self,
        sent: &Sent,
        tender: usize,
        lot: usize,
        bid: Option<&BidAsk>,
    ) -> Result<usize, &'static str> {
        let tender = &self.tenders[tender];
        let lot = &tender.lots[lot];
        let index = tender.bidders.iter().position(|bidder| bidder.org == sent.from).ok_or("not_admitted")?;
        if tender.bidders[index].status == "disqualified" {
            return Err("not_admitted");
        }
        if tender.buyer == sent.from {
            return Err("own_tender");
        }
        if tender.bidders[index].status == "invited" {
            return Err("terms_not_accepted");
        }
        match lot.stage {
            "open" => {}
            "pending" => return Err("lot_not_open"),
            "paused" => return Err("lot_paused"),
            "closed" | "awarded" | "unsuccessful" => return Err("lot_closed"),
            "cancelled" => return Err("lot_cancelled"),
            other => panic!("no such stage: {other}"),
        }
        if let Some(bid) = bid {
            if bid.expires_at.is_some_and(|expires_at| sent.at > expires_at) {
                return Err("expired");
            }
            if let Some(age) = lot.plan.max_view_age
                && bid.seen_seq.is_none_or(|seen| seen + age < lot.seq)
            {
                return Err("stale_view");
            }
        }
        Ok(index)
    }

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
        match self.check_bid(sent, place, index, bid) {
            Err(code) => self.refused_in(place, index, sent.from, code),
            Ok(bidder) => self.place_bid(sent, place, index, bidder, bid),
        }
    }

    fn check_bid(&self, sent: &Sent, place: usize, index: usize, bid: &BidAsk) -> Result<usize, &'static str> {
        let bidder = self.may_bid(sent, place, index, Some(bid))?;
        let tender = &self.tenders[place];
        let lot = &tender.lots[index];
        let number = bidder as u16 + 1;
        let price = bid.price.ok_or("wrong_action")?;
        if let Some(broken) = lot.broken_by(number, price) {
            return Err(broken);
        }
        if let (Some(guard), Highest::At(next)) = (lot.plan.guard, tender.highest_next(lot, bidder))
            && price * 100_000 <= next * (100_000 - guard)
            && !bid.confirm
        {
            return Err("drop_too_large");
        }
        if bid.limit.is_some() {
            return Err("limit_not_allowed");
        }
        if !lot.bids_left(number) {
            return Err("bids_exhausted");
        }
        Ok(bidder)
    }

    fn place_bid(&mut self, sent: &Sent, place: usize, index: usize, bidder: usize, bid: &BidAsk) -> Said {
        let number = bidder as u16 + 1;
        let price = bid.price.expect("it was checked");
        let lot = &mut self.tenders[place].lots[index];
        let before = lot.standing.clone();
        let old = lot.standing_of(number).cloned();
        let mut new =
            Standing { bidder: number, bid: sent.request, price, at: sent.at, seq: lot.seq + 1, rejected: false };
        if let Some(old) = &old
            && old.price == price
        {
            // The same amount again: it stands since it began to.
            new.at = old.at;
            new.seq = old.seq;
        }
        lot.standing.retain(|standing| standing.bidder != number);
        lot.standing.push(new);
        if lot.initial.iter().all(|(who, _)| *who != number) {
            lot.initial.push((number, price));
        }
        match lot.accepted.iter_mut().find(|(who, _)| *who == number) {
            Some((_, count)) => *count += 1,
            None => lot.accepted.push((number, 1)),
        }
        let ranks = lot.ranks_of(number).expect("it stands");
        let mut events = vec![Event::Bid { bidder: number, price, lead: ranks.award_rank == 1 }];
        events.extend(lot.overtime(number, sent.at, &before));
        self.step(place, index, sent.at, events);
        let tender = &self.tenders[place];
        let lot = &tender.lots[index];
        Said::Bid {
            bidder: number,
            price,
            seq: lot.seq,
            ranks: lot.plan.shows_rank.then_some(ranks),
            next: tender.highest_next(lot, bidder),
        }
    }

    /// An action that no lot here takes: refused with `code` where nothing earlier refuses it. An accept is in the
    /// history, a limit is not.
    pub(super) fn other_bid_action(&mut self, sent: &Sent, id: u64, number: u16, code: &'static str) -> Said {
        let Some((place, index)) = self.visible_lot(id, number, sent.from) else {
            return refused("lot_not_found");
        };
        if code == "wrong_action" {
            self.note(place, index, sent.from);
        }
        let broken = self.may_bid(sent, place, index, None).err().unwrap_or(code);
        self.refused_in(place, index, sent.from, broken)
    }
}
