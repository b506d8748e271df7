//! What a buyer does to a running tender: pause, resume, extend, cancel, void, disqualify.

use super::{Event, Named, Said, Sent, Twin, given, refused};

/// The most seconds of one extension: 30 days.
const SECONDS_MAX: i64 = 2_592_000;

impl Twin {
    /// The places of the lots of a tender in one of these stages.
    fn lots_in(&self, place: usize, stages: &[&str]) -> Vec<usize> {
        let lots = &self.tenders[place].lots;
        (0..lots.len()).filter(|index| stages.contains(&lots[*index].stage)).collect()
    }

    pub(super) fn pause(&mut self, sent: &Sent, id: u64, reason: &Option<String>) -> Said {
        let place = match self.owned(id, sent.from) {
            Ok(place) => place,
            Err(said) => return said,
        };
        let open = self.lots_in(place, &["open"]);
        if open.is_empty() {
            return refused("wrong_stage");
        }
        let Some(reason) = given(reason) else { return refused("reason_required") };
        for index in open {
            let lot = &mut self.tenders[place].lots[index];
            lot.stage = "paused";
            lot.rest = match &lot.phase {
                None => lot.end.expect("an open lot has an end") - sent.at,
                Some(phase) => phase.ends - sent.at,
            };
            if lot.starts_again() {
                lot.given.clear();
                lot.withdrew = false;
            }
            self.step(place, index, sent.at, vec![Event::Paused { reason: reason.clone() }]);
        }
        Said::Tender { stage: self.tenders[place].stage }
    }

    pub(super) fn resume(&mut self, sent: &Sent, id: u64, reason: &Option<String>) -> Said {
        let place = match self.owned(id, sent.from) {
            Ok(place) => place,
            Err(said) => return said,
        };
        let paused = self.lots_in(place, &["paused"]);
        if paused.is_empty() {
            return refused("wrong_stage");
        }
        let Some(reason) = given(reason) else { return refused("reason_required") };
        for index in paused {
            let lot = &mut self.tenders[place].lots[index];
            lot.stage = "open";
            let mut again = None;
            if lot.phase.is_some() {
                let rest = if lot.starts_again() { lot.phase_length() } else { lot.rest };
                lot.phase.as_mut().expect("it has one").ends = sent.at + rest;
                lot.plan_end();
                again = lot.phase_event();
            } else {
                let least = lot.plan.overtime.as_ref().map_or(0, |overtime| overtime.window_s * 1000);
                lot.end = Some(sent.at + lot.rest.max(least));
            }
            let closes_at = lot.end.expect("an open lot has an end");
            let mut events = vec![Event::Resumed { reason: reason.clone(), closes_at }];
            events.extend(again);
            self.step(place, index, sent.at, events);
        }
        Said::Tender { stage: self.tenders[place].stage }
    }

    pub(super) fn extend(
        &mut self,
        sent: &Sent,
        id: u64,
        lot: Option<u16>,
        seconds: i64,
        reason: &Option<String>,
    ) -> Said {
        let Some(place) = self.visible(id, sent.from) else { return refused("tender_not_found") };
        if lot.is_some_and(|lot| lot == 0 || usize::from(lot) > self.tenders[place].lots.len()) {
            return refused("lot_not_found");
        }
        if self.tenders[place].buyer != sent.from {
            return refused("not_owner");
        }
        let mut running = self.lots_in(place, &["open", "paused"]);
        running.retain(|index| self.tenders[place].lots[*index].plan.has_duration());
        if let Some(lot) = lot {
            running.retain(|index| *index == usize::from(lot) - 1);
        }
        if running.is_empty() {
            return refused("wrong_stage");
        }
        if given(reason).is_none() {
            return refused("reason_required");
        }
        if !(1..=SECONDS_MAX).contains(&seconds) {
            return refused("invalid_rules");
        }
        for index in running {
            let added_ms = seconds * 1000;
            let lot = &mut self.tenders[place].lots[index];
            let mut closes_at = None;
            if lot.stage == "open" {
                closes_at = lot.end.map(|end| end + added_ms);
                lot.end = closes_at;
            } else {
                lot.rest += added_ms;
            }
            self.step(place, index, sent.at, vec![Event::Extended { closes_at, added_ms, reason: "buyer" }]);
        }
        Said::Tender { stage: self.tenders[place].stage }
    }

    pub(super) fn cancel(&mut self, sent: &Sent, id: u64, reason: &Option<String>) -> Said {
        let place = match self.owned(id, sent.from) {
            Ok(place) => place,
            Err(said) => return said,
        };
        if ["awarded", "unsuccessful", "cancelled"].contains(&self.tenders[place].stage) {
            return refused("wrong_stage");
        }
        let Some(reason) = given(reason) else { return refused("reason_required") };
        self.tenders[place].stage = "cancelled";
        for index in self.lots_in(place, &["pending", "open", "paused", "closed"]) {
            let lot = &mut self.tenders[place].lots[index];
            lot.stage = "cancelled";
            lot.closed_at = None;
            lot.forget_hidden();
            if self.tenders[place].published {
                self.step(place, index, sent.at, vec![Event::Cancelled { reason: reason.clone() }]);
            }
        }
        Said::Tender { stage: "cancelled" }
    }

    pub(super) fn void(&mut self, sent: &Sent, id: u64, number: u16, bid: u64, reason: &Option<String>) -> Said {
        let (place, index) = match self.owned_lot(id, number, sent.from) {
            Ok(places) => places,
            Err(said) => return said,
        };
        let lot = &self.tenders[place].lots[index];
        if ["awarded", "unsuccessful", "cancelled"].contains(&lot.stage) {
            return refused("wrong_stage");
        }
        let mut removable = lot.standing.iter().chain(&lot.hidden);
        let Some(gone) = removable.find(|standing| standing.bid == bid).cloned() else {
            return refused("bid_not_found");
        };
        let Some(reason) = given(reason) else { return refused("reason_required") };
        let hidden = lot.hidden.contains(&gone);
        let lot = &mut self.tenders[place].lots[index];
        lot.limits.retain(|limit| limit.bidder != gone.bidder);
        if hidden {
            // Nobody saw it come, so nobody sees it go.
            lot.hidden.retain(|standing| standing.bidder != gone.bidder);
            let seq = lot.seq;
            let tender = &self.tenders[place];
            let shown = if tender.plan.anonymous && !tender.opened { 0 } else { gone.bidder };
            return Said::Voided { bidder: shown, price: gone.price, seq };
        }
        self.take_out(place, index, gone.bidder, sent.at, Event::Voided { bidder: gone.bidder, reason });
        let seq = self.tenders[place].lots[index].seq;
        Said::Voided { bidder: gone.bidder, price: gone.price, seq }
    }

    pub(super) fn disqualify(&mut self, sent: &Sent, id: u64, bidder: Named, reason: &Option<String>) -> Said {
        let place = match self.owned(id, sent.from) {
            Ok(place) => place,
            Err(said) => return said,
        };
        let touched = self.lots_in(place, &["pending", "open", "paused", "closed"]);
        if touched.is_empty() {
            return refused("wrong_stage");
        }
        let Some(who) = self.tenders[place].named(bidder) else { return refused("bidder_not_found") };
        if given(reason).is_none() {
            return refused("reason_required");
        }
        self.tenders[place].bidders[who].status = "disqualified";
        let number = who as u16 + 1;
        let tender = &self.tenders[place];
        let shown = if tender.plan.anonymous && !tender.opened { 0 } else { number };
        for index in touched {
            let lot = &mut self.tenders[place].lots[index];
            lot.hidden.retain(|standing| standing.bidder != number);
            lot.limits.retain(|limit| limit.bidder != number);
            lot.inside.retain(|inside| *inside != number);
            lot.given.retain(|given| given.bidder != number);
            if lot.is_turn_of(number) {
                lot.withdrew = false;
            }
            if lot.stage == "open" && lot.phase.is_some() {
                // Later rounds have a turn less.
                lot.plan_end();
            }
            if self.tenders[place].published {
                self.take_out(place, index, number, sent.at, Event::Disqualified { bidder: shown });
            }
        }
        let tender = &self.tenders[place];
        let shown = (tender.opened && !tender.hides_names()).then_some(number);
        Said::Bidder { number: shown, org: tender.bidders[who].org, status: "disqualified" }
    }

    /// Removes a standing bid, if there is one; a closed lot that has nothing left to award is unsuccessful.
    fn take_out(&mut self, place: usize, index: usize, bidder: u16, at: i64, event: Event) {
        let lot = &mut self.tenders[place].lots[index];
        lot.standing.retain(|standing| standing.bidder != bidder);
        let mut events = vec![event];
        if lot.stage == "closed" && lot.candidates().is_empty() {
            lot.stage = "unsuccessful";
            events.push(Event::Unsuccessful);
        }
        self.step(place, index, at, events);
        self.settle_stage(place);
    }
}
