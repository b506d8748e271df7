//! How late bids move the end of their lot, and of others.

use super::order::Book;
use super::{Event, Lot, Ms, Twin};

impl Lot {
    /// Whether these bidders, by bids that made `after` out of `before`, trigger overtime.
    fn triggers(&self, bidders: &[u16], before: &Book, after: &Book) -> bool {
        let Some(overtime) = &self.plan.overtime else { return false };
        let changed = after.iter().any(|s| self.rank_in(before, s.bidder) != self.rank_in(after, s.bidder));
        bidders.iter().any(|bidder| {
            let rank = self.rank_in(after, *bidder).expect("the bid stands");
            let first = before.iter().all(|standing| standing.bidder != *bidder);
            let triggered = match overtime.trigger {
                "any" => true,
                "lead" => rank == 1,
                "rank" => rank <= overtime.rank && changed,
                other => panic!("no such trigger: {other}"),
            };
            triggered || (first && overtime.first_bid_triggers)
        })
    }

    /// Moves the end by the rules and caps of this lot alone; answers by how much.
    fn extend_by_overtime(&mut self, at: Ms) -> Option<Ms> {
        let overtime = self.plan.overtime.clone()?;
        let end = self.end.expect("an open lot has an end");
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
        Some(added_ms)
    }

    fn extended(&self, added_ms: Ms, reason: &'static str) -> Event {
        Event::Extended { closes_at: self.end, added_ms, reason }
    }
}

impl Twin {
    /// The step of an accepted bid or limit of an english lot, with the overtime it causes here and elsewhere.
    /// `sent` is who sent a bid, `fired` whose automatic bids followed; the books are those before, with the sent
    /// bid, and settled.
    #[allow(clippy::too_many_arguments)]
    pub(super) fn step_with_overtime(
        &mut self,
        place: usize,
        index: usize,
        at: Ms,
        mut events: Vec<Event>,
        sent: Option<u16>,
        fired: &[u16],
        before: &Book,
        with_sent: &Book,
    ) {
        let lot = &self.tenders[place].lots[index];
        let inside = lot
            .plan
            .overtime
            .as_ref()
            .is_some_and(|overtime| lot.end.expect("an open lot has an end") - at <= overtime.window_s * 1000);
        let sent: Vec<u16> = sent.into_iter().collect();
        let extends =
            inside && (lot.triggers(&sent, before, with_sent) || lot.triggers(fired, with_sent, &lot.standing));
        if !extends {
            self.step(place, index, at, events);
            return;
        }
        let all = lot.plan.overtime.as_ref().is_some_and(|overtime| overtime.scope == "tender");
        let lot = &mut self.tenders[place].lots[index];
        let added = lot.extend_by_overtime(at);
        if let Some(added_ms) = added {
            events.push(lot.extended(added_ms, "overtime"));
        }
        self.step(place, index, at, events);
        let tender = &self.tenders[place];
        let follows = tender.plan.lot_mode == "staggered" && tender.plan.stagger_follows && !all;
        for other in 0..self.tenders[place].lots.len() {
            let lot = &mut self.tenders[place].lots[other];
            if other == index || lot.stage != "open" {
                continue;
            }
            if all && lot.plan.is_english() {
                if let Some(added_ms) = lot.extend_by_overtime(at) {
                    let event = lot.extended(added_ms, "overtime");
                    self.step(place, other, at, vec![event]);
                }
            } else if let Some(added_ms) = added.filter(|_| follows && other > index) {
                lot.end = lot.end.map(|end| end + added_ms);
                let event = lot.extended(added_ms, "staggered");
                self.step(place, other, at, vec![event]);
            }
        }
    }
}
