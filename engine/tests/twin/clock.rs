//! What time alone does: openings, ends, interruptions, and how overtime moves an end.

use super::{Amount, Event, Format, Lot, Ms, Twin};

/// What may be due.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Due {
    /// A whole tender opens.
    Opening,
    /// A serial lot opens.
    Next,
    /// The time to award is over.
    Decision,
    /// An end, or the end of a phase.
    End,
}

impl Twin {
    /// Everything that will happen by itself: time, tender, lot number (0 for the whole tender), and what.
    fn deadlines(&self) -> Vec<(Ms, usize, u16, Due)> {
        let mut all = Vec::new();
        for (place, tender) in self.tenders.iter().enumerate() {
            if let (true, Some(opens_at)) = (tender.stage == "published", tender.plan.opens_at) {
                all.push((opens_at, place, 0, Due::Opening));
            }
            for lot in &tender.lots {
                let due = match lot.stage {
                    "pending" if tender.stage == "open" => lot.opens.map(|at| (at, Due::Next)),
                    "open" => Some((lot.next_end(), Due::End)),
                    "closed" => lot.decision_ends().map(|at| (at, Due::Decision)),
                    _ => None,
                };
                all.extend(due.map(|(at, due)| (at, place, lot.number, due)));
            }
        }
        all
    }

    /// Handles everything that is due at or before `until`, each at its own time. Deadlines of one instant go by
    /// tender, then by lot.
    pub(super) fn pass_time(&mut self, until: Ms, outage: bool) {
        loop {
            let mut due = self.deadlines();
            due.retain(|(at, _, _, due)| *at <= until && !(outage && *due == Due::End));
            let Some((at, place, number, due)) = due.into_iter().min() else { break };
            match due {
                Due::Opening => self.open(place, at),
                Due::Next => self.open_lot(place, usize::from(number) - 1, at),
                Due::End => self.end(place, usize::from(number) - 1, at),
                Due::Decision => {
                    let index = usize::from(number) - 1;
                    self.tenders[place].lots[index].stage = "unsuccessful";
                    self.step(place, index, at, vec![Event::Unsuccessful]);
                    self.settle_stage(place);
                }
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
        self.deadlines().into_iter().map(|(at, ..)| at).min()
    }

    /// Nobody served until `at`: lots that ended meanwhile, or are in their window, get time; what runs in turns,
    /// steps or levels runs its whole length again.
    fn grant_grace(&mut self, at: Ms) {
        for place in 0..self.tenders.len() {
            for index in 0..self.tenders[place].lots.len() {
                let lot = &mut self.tenders[place].lots[index];
                if lot.stage != "open" {
                    continue;
                }
                let end = lot.end.expect("an open lot has an end");
                if lot.phase.is_some() {
                    let (again, length) = (lot.starts_again(), lot.phase_length());
                    let phase = lot.phase.as_mut().expect("it has one");
                    if again {
                        phase.ends = at + length;
                    } else {
                        phase.ends = phase.ends.max(at);
                    }
                    lot.plan_end();
                } else {
                    let window = lot.plan.overtime.as_ref().map(|overtime| overtime.window_s * 1000);
                    let touched = end <= at || window.is_some_and(|window| end - at <= window);
                    let new_end = at + lot.plan.grace_s * 1000;
                    if touched && new_end > end {
                        lot.end = Some(new_end);
                    }
                }
                let closes_at = lot.end;
                let added_ms = closes_at.expect("it has one") - end;
                if added_ms > 0 {
                    self.step(place, index, at, vec![Event::Extended { closes_at, added_ms, reason: "outage" }]);
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
        let salt = if self.draws_by_publication { tender.salt } else { self.salt };
        tender.stage = "open";
        tender.opened = true;
        tender.draw_numbers(salt);
        let lots = if tender.plan.lot_mode == "serial" { 1 } else { tender.lots.len() };
        for index in 0..lots {
            self.open_lot(place, index, at);
        }
    }

    fn open_lot(&mut self, place: usize, index: usize, at: Ms) {
        let tender = &mut self.tenders[place];
        let admitted: Vec<u16> = (1..=tender.bidders.len() as u16)
            .filter(|number| tender.bidders[usize::from(*number) - 1].status == "admitted")
            .collect();
        let stagger_ms = match tender.plan.lot_mode {
            "staggered" => index as i64 * tender.plan.stagger_s * 1000,
            _ => 0,
        };
        let least = if tender.plan.open_access { 0 } else { 1 };
        let lot = &mut tender.lots[index];
        let prebidders: Vec<u16> = lot.hidden.iter().map(|bid| bid.bidder).collect();
        let counted = if lot.plan.needs_prebid() { prebidders.len() } else { admitted.len() };
        if counted < lot.plan.min_bidders.unwrap_or(least) {
            lot.stage = "unsuccessful";
            lot.closed_at = Some(at);
            lot.end = Some(at);
            lot.forget_hidden();
            self.step(place, index, at, vec![Event::Unsuccessful]);
            self.begin_next(place, index, at);
            self.settle_stage(place);
            return;
        }
        lot.stage = "open";
        lot.opened_at = Some(at);
        lot.end = Some(at + lot.plan.duration_s * 1000 + stagger_ms);
        if lot.plan.needs_prebid() {
            lot.limits.retain(|limit| prebidders.contains(&limit.bidder));
        }
        lot.prebidders = prebidders;
        lot.initial = lot.hidden.iter().map(|bid| (bid.bidder, bid.price)).collect();
        let mut events = vec![Event::Opened];
        match lot.plan.format {
            Format::Sealed { .. } => {}
            Format::English => {
                let sent = lot.reveal();
                let fired = if lot.plan.auto_bid { lot.settle(None) } else { Vec::new() };
                let lead = lot.lead().map(|lead| lead.bidder);
                for (bidder, price) in sent {
                    let leads = lead == Some(bidder) && !fired.contains(&bidder);
                    events.push(Event::Bid { bidder, price, lead: leads, auto: false });
                }
                events.extend(fired.iter().map(|bidder| lot.bid_event(*bidder)));
            }
            Format::Dutch { .. } | Format::Japanese { .. } => {
                lot.inside = admitted;
                return self.climb(place, index, 0, events, at);
            }
            Format::Rounds { lead_in_s, .. } => {
                let sent = lot.reveal();
                events.extend(sent.iter().map(|(bidder, _)| lot.bid_event(*bidder)));
                lot.inside = sent.iter().map(|(bidder, _)| *bidder).collect();
                if lot.inside.len() <= 1 {
                    return self.close(place, index, at, events);
                }
                return self.enter(place, index, "lead_in", lead_in_s, events, at);
            }
        }
        self.step(place, index, at, events);
        self.settle_stage(place);
    }

    /// What comes at the end of a lot or of its phase.
    fn end(&mut self, place: usize, index: usize, at: Ms) {
        match self.tenders[place].lots[index].phase {
            None => self.close(place, index, at, Vec::new()),
            Some(_) => self.end_phase(place, index, at),
        }
    }

    /// Closes a lot, with what happened right before in the same step.
    pub(super) fn close(&mut self, place: usize, index: usize, at: Ms, mut events: Vec<Event>) {
        let lot = &mut self.tenders[place].lots[index];
        lot.stage = "closed";
        lot.closed_at = Some(at);
        lot.end = Some(at);
        lot.phase = None;
        events.push(Event::Closed);
        let sealed = lot.reveal();
        events.extend(sealed.iter().map(|(bidder, _)| lot.bid_event(*bidder)));
        lot.forget_hidden();
        let first = lot.candidates().into_iter().find(|standing| lot.meets_reserve(standing.price));
        match first {
            Some(winner) if lot.plan.automatic_award => {
                lot.stage = "awarded";
                lot.awarded_to = Some(winner.bidder);
                events.push(Event::Awarded { bidder: winner.bidder, price: lot.pays(winner.bidder) });
            }
            None if lot.plan.automatic_award || lot.standing.is_empty() => {
                lot.stage = "unsuccessful";
                events.push(Event::Unsuccessful);
            }
            _ => {}
        }
        self.step(place, index, at, events);
        self.begin_next(place, index, at);
        self.settle_stage(place);
    }

    /// A serial lot has closed: the next has its time.
    fn begin_next(&mut self, place: usize, index: usize, at: Ms) {
        let tender = &mut self.tenders[place];
        if tender.plan.lot_mode != "serial" || index + 1 >= tender.lots.len() {
            return;
        }
        let gap_s = tender.plan.gap_s;
        tender.lots[index + 1].opens = Some(at + gap_s * 1000);
        if gap_s > 0 {
            self.step(place, index + 1, at, Vec::new());
        }
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

impl Lot {
    /// The next end of an open lot: its own, or that of its phase.
    fn next_end(&self) -> Ms {
        self.phase.as_ref().map_or_else(|| self.end.expect("an open lot has an end"), |phase| phase.ends)
    }

    /// Until when a closed lot must be awarded.
    fn decision_ends(&self) -> Option<Ms> {
        Some(self.closed_at? + self.plan.decision_s? * 1000)
    }

    /// Puts the hidden bids into the book; answers whose and at what price, by number.
    fn reveal(&mut self) -> Vec<(u16, Amount)> {
        let mut hidden = std::mem::take(&mut self.hidden);
        hidden.sort_by_key(|bid| self.number_of(bid.bidder));
        let sent = hidden.iter().map(|bid| (bid.bidder, bid.price)).collect();
        for bid in hidden {
            self.stand(bid);
        }
        sent
    }

    /// Drops what was never opened, and the limits.
    pub(super) fn forget_hidden(&mut self) {
        self.hidden.clear();
        self.given.clear();
        self.withdrew = false;
        self.limits.clear();
        self.phase = None;
    }
}
