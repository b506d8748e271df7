//! What time alone does: openings, ends, interruptions, and how overtime moves an end.

use super::{Event, Ms, Standing, Twin, order};

impl Twin {
    /// Handles everything that is due at or before `until`, each at its own time.
    pub(super) fn pass_time(&mut self, until: Ms, outage: bool) {
        loop {
            // The earliest first; at the same time by tender, then by lot (an opening comes before all lots).
            let mut due: Vec<(Ms, usize, u16)> = Vec::new();
            for (place, tender) in self.tenders.iter().enumerate() {
                if let (true, Some(opens_at)) = (tender.stage == "published", tender.plan.opens_at) {
                    due.push((opens_at, place, 0));
                }
                for lot in &tender.lots {
                    if lot.stage == "open" && !outage {
                        due.push((lot.end.expect("an open lot has an end"), place, lot.number));
                    }
                }
            }
            match due.into_iter().filter(|(at, _, _)| *at <= until).min() {
                Some((at, place, 0)) => self.open(place, at),
                Some((at, place, number)) => self.close(place, usize::from(number) - 1, at),
                None => break,
            }
        }
        if outage {
            self.grant_grace(until);
            // Without a grace the end is this very instant.
            self.pass_time(until, false);
        }
    }

    /// When something will happen by itself next.
    pub fn next_deadline(&self) -> Option<Ms> {
        let openings =
            self.tenders.iter().filter(|tender| tender.stage == "published").filter_map(|t| t.plan.opens_at);
        let lots = self.tenders.iter().flat_map(|tender| &tender.lots);
        openings.chain(lots.filter(|lot| lot.stage == "open").filter_map(|lot| lot.end)).min()
    }

    /// Nobody served until `at`: lots that ended meanwhile, or are in their window, get time.
    fn grant_grace(&mut self, at: Ms) {
        for place in 0..self.tenders.len() {
            for index in 0..self.tenders[place].lots.len() {
                let lot = &mut self.tenders[place].lots[index];
                if lot.stage != "open" {
                    continue;
                }
                let end = lot.end.expect("an open lot has an end");
                let window = lot.plan.overtime.as_ref().map(|overtime| overtime.window_s * 1000);
                let touched = end <= at || window.is_some_and(|window| end - at <= window);
                let new_end = at + lot.plan.grace_s * 1000;
                if touched && new_end > end {
                    lot.end = Some(new_end);
                    let added_ms = new_end - end;
                    self.step(
                        place,
                        index,
                        at,
                        vec![Event::Extended { closes_at: Some(new_end), added_ms, reason: "outage" }],
                    );
                }
            }
        }
    }

    /// A published tender whose time has come opens at once.
    pub(super) fn open_if_due(&mut self, place: usize, at: Ms) {
        let tender = &self.tenders[place];
        if tender.stage == "published" && tender.plan.opens_at.is_some_and(|opens_at| opens_at <= at) {
            self.open(place, at);
        }
    }

    pub(super) fn open(&mut self, place: usize, at: Ms) {
        let tender = &mut self.tenders[place];
        tender.stage = "open";
        tender.opened = true;
        let admitted = tender.bidders.iter().filter(|bidder| bidder.status == "admitted").count();
        let least = if tender.plan.open_access { 0 } else { 1 };
        for index in 0..self.tenders[place].lots.len() {
            let lot = &mut self.tenders[place].lots[index];
            if admitted < lot.plan.min_bidders.unwrap_or(least) {
                lot.stage = "unsuccessful";
                lot.closed_at = Some(at);
                lot.end = Some(at);
                self.step(place, index, at, vec![Event::Unsuccessful]);
            } else {
                lot.stage = "open";
                lot.opened_at = Some(at);
                lot.end = Some(at + lot.plan.duration_s * 1000);
                self.step(place, index, at, vec![Event::Opened]);
            }
        }
        self.settle_stage(place);
    }

    fn close(&mut self, place: usize, index: usize, at: Ms) {
        let lot = &mut self.tenders[place].lots[index];
        lot.stage = "closed";
        lot.closed_at = Some(at);
        let mut events = vec![Event::Closed];
        let first = order::candidates(lot).into_iter().find(|standing| lot.meets_reserve(standing.price));
        match first {
            Some(winner) if lot.plan.automatic_award => {
                lot.stage = "awarded";
                lot.awarded_to = Some(winner.bidder);
                events.push(Event::Awarded { bidder: winner.bidder, price: winner.price });
            }
            None if lot.plan.automatic_award || lot.standing.is_empty() => {
                lot.stage = "unsuccessful";
                events.push(Event::Unsuccessful);
            }
            _ => {}
        }
        self.step(place, index, at, events);
        self.settle_stage(place);
    }

    /// The stage of a tender follows from those of its lots.
    pub(super) fn settle_stage(&mut self, place: usize) {
        let tender = &mut self.tenders[place];
        let some = |stage: &str| tender.lots.iter().any(|lot| lot.stage == stage);
        if tender.stage != "open" && tender.stage != "closed" {
            return;
        }
        if some("pending") || some("open") || some("paused") {
            return;
        }
        tender.stage = if some("closed") {
            "closed"
        } else if some("awarded") {
            "awarded"
        } else {
            "unsuccessful"
        };
    }
}

impl super::Lot {
    /// Moves the end if the bid of `bidder` at `at` does that; `before` is the book before the bid.
    pub(super) fn overtime(&mut self, bidder: u16, at: Ms, before: &[Standing]) -> Option<Event> {
        let overtime = self.plan.overtime.clone()?;
        let end = self.end.expect("an open lot has an end");
        if end - at > overtime.window_s * 1000 {
            return None;
        }
        let rank = |book: &[Standing], who: u16| {
            let own = book.iter().find(|standing| standing.bidder == who)?.price;
            Some(1 + book.iter().filter(|other| other.price < own).count())
        };
        let rank_after = rank(&self.standing, bidder).expect("the bid stands");
        let first_bid = before.iter().all(|standing| standing.bidder != bidder);
        let triggered = match overtime.trigger {
            "any" => true,
            "lead" => rank_after == 1,
            "rank" => {
                let changed = self
                    .standing
                    .iter()
                    .any(|standing| rank(before, standing.bidder) != rank(&self.standing, standing.bidder));
                rank_after <= overtime.rank && changed
            }
            other => panic!("no such trigger: {other}"),
        };
        let extends = triggered || (first_bid && overtime.first_bid_triggers);
        if !extends {
            return None;
        }
        if overtime.max_count.is_some_and(|most| self.extensions >= most) {
            return None;
        }
        let wanted = match overtime.mode {
            "reset" => at + overtime.length_s * 1000,
            "add" => end + overtime.length_s * 1000,
            other => panic!("no such mode: {other}"),
        };
        let mut added_ms = wanted - end;
        if let Some(most) = overtime.max_total_s {
            added_ms = added_ms.min(most * 1000 - self.added_ms);
        }
        if added_ms <= 0 {
            return None;
        }
        self.end = Some(end + added_ms);
        self.added_ms += added_ms;
        self.extensions += 1;
        Some(Event::Extended { closes_at: self.end, added_ms, reason: "overtime" })
    }
}
