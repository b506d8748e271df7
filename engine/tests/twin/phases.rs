//! Lots that run in steps, levels or turns.

use super::{Amount, Event, Format, Lot, Ms, Phase, Plan, Standing, Twin};

impl Lot {
    /// Start, step, last price and interval of a dutch or japanese lot.
    fn ladder(&self) -> Option<(Amount, Amount, Amount, Ms)> {
        match self.plan.format {
            Format::Dutch { start, step, interval_s } => {
                Some((start, step, self.plan.ceiling.expect("dutch lots have a ceiling"), interval_s * 1000))
            }
            Format::Japanese { start, step, interval_s, floor } => Some((start, -step, floor, interval_s * 1000)),
            _ => None,
        }
    }

    /// The price of a step or level; the last is the end of the ladder itself.
    fn price_of_step(&self, number: u64) -> Amount {
        let (start, step, last, _) = self.ladder().expect("it has a ladder");
        let price = start + step * Amount::from(number);
        if step > 0 { price.min(last) } else { price.max(last) }
    }

    /// How many steps there are behind this one.
    fn steps_left(&self, price: Amount) -> i64 {
        let (_, step, last, _) = self.ladder().expect("it has a ladder");
        let way = (last - price).abs();
        i64::try_from((way + step.abs() - 1) / step.abs()).expect("ladders of the test are short")
    }

    /// How long the lot runs, where that is known before it opens.
    pub fn planned_length(&self, tender: &Plan) -> Option<Ms> {
        match self.plan.format {
            Format::English | Format::Sealed { .. } => {
                let stagger =
                    if tender.lot_mode == "staggered" { i64::from(self.number - 1) * tender.stagger_s } else { 0 };
                Some((self.plan.duration_s + stagger) * 1000)
            }
            Format::Dutch { .. } | Format::Japanese { .. } => {
                let (start, _, _, interval) = self.ladder()?;
                Some((1 + self.steps_left(start)) * interval)
            }
            Format::Rounds { .. } => None,
        }
    }

    /// Works out where the plan ends from the phase that runs.
    pub fn plan_end(&mut self) {
        let phase = self.phase.as_ref().expect("it has phases");
        let rest = match self.plan.format {
            Format::Rounds { count, turn_s, pause_s, announce_s, .. } => {
                let announce_s = announce_s.unwrap_or(pause_s);
                let round_s = turn_s * self.inside.len() as i64;
                let later = (count - phase.round) as i64;
                let behind = match phase.kind {
                    "lead_in" => count as i64 * round_s + (count as i64 - 1) * pause_s,
                    "turn" => (self.order.len() - phase.turn) as i64 * turn_s + later * (pause_s + round_s),
                    "pause" => later * round_s + (later - 1) * pause_s,
                    "announce" => -announce_s,
                    other => panic!("no such phase: {other}"),
                };
                (behind + announce_s) * 1000
            }
            _ => self.steps_left(phase.price) * self.phase_length(),
        };
        self.end = Some(phase.ends + rest);
    }

    /// Whether the running phase starts again after an interruption.
    pub fn starts_again(&self) -> bool {
        self.phase.as_ref().is_some_and(|phase| ["turn", "step", "level"].contains(&phase.kind))
    }

    /// The whole length of the running turn, step or level.
    pub fn phase_length(&self) -> Ms {
        match self.plan.format {
            Format::Rounds { turn_s, .. } => turn_s * 1000,
            _ => self.ladder().expect("it has a ladder").3,
        }
    }

    /// What announces the running phase.
    pub fn phase_event(&self) -> Option<Event> {
        let phase = self.phase.clone()?;
        let (step, price, ends_at) = (phase.step, phase.price, phase.ends);
        match phase.kind {
            "turn" => Some(Event::Turn { round: phase.round, turn: phase.turn, bidder: phase.bidder, ends_at }),
            "step" => Some(Event::Step { step, price, ends_at }),
            "level" => Some(Event::Level { step, price, ends_at }),
            _ => None,
        }
    }

    /// The price of the running step or level.
    pub fn ladder_price(&self) -> Option<Amount> {
        self.ladder()?;
        self.phase.as_ref().map(|phase| phase.price)
    }

    pub fn is_turn_of(&self, bidder: u16) -> bool {
        self.phase.as_ref().is_some_and(|phase| phase.kind == "turn" && phase.bidder == bidder)
    }

    /// Whether a bidder is in its turn, or has one to come.
    pub fn has_a_turn(&self, bidder: u16) -> bool {
        let Format::Rounds { count, .. } = self.plan.format else { return false };
        let Some(phase) = &self.phase else { return false };
        if !self.inside.contains(&bidder) {
            return false;
        }
        match phase.kind {
            "turn" => phase.round < count || self.order[phase.turn - 1..].contains(&bidder),
            "announce" => false,
            _ => true,
        }
    }

    /// The turns of a round, from now on: who has no bid first, then the worst.
    fn turns(&self) -> Vec<u16> {
        let mut without: Vec<u16> =
            self.inside.iter().copied().filter(|bidder| self.standing_of(*bidder).is_none()).collect();
        without.sort_by_key(|bidder| self.number_of(*bidder));
        let mut worst_first = self.ranking();
        worst_first.reverse();
        let with =
            worst_first.iter().map(|standing| standing.bidder).filter(|bidder| self.inside.contains(bidder));
        without.into_iter().chain(with).collect()
    }

    /// Takes what was given in a turn or level into the book; answers the events, by number.
    fn take_given(&mut self) -> Vec<Event> {
        let mut given: Vec<Standing> = std::mem::take(&mut self.given);
        given.sort_by_key(|bid| self.number_of(bid.bidder));
        let bidders: Vec<u16> = given.iter().map(|bid| bid.bidder).collect();
        for bid in given {
            self.stand(bid);
        }
        bidders.into_iter().map(|bidder| self.bid_event(bidder)).collect()
    }
}

impl Twin {
    /// Enters a step or level.
    pub(super) fn climb(&mut self, place: usize, index: usize, step: u64, mut events: Vec<Event>, at: Ms) {
        let lot = &mut self.tenders[place].lots[index];
        let kind = if lot.plan.is_dutch() { "step" } else { "level" };
        let ends = at + lot.phase_length();
        let price = lot.price_of_step(step);
        lot.phase = Some(Phase { kind, ends, round: 0, turn: 0, bidder: 0, step, price });
        lot.plan_end();
        events.extend(lot.phase_event());
        if lot.plan.is_dutch() && lot.limits.iter().any(|limit| limit.price <= price) {
            self.win_dutch(place, index, events, at);
        } else {
            self.step(place, index, at, events);
        }
    }

    /// A limit has been reached: the earliest wins.
    pub(super) fn win_dutch(&mut self, place: usize, index: usize, mut events: Vec<Event>, at: Ms) {
        let lot = &mut self.tenders[place].lots[index];
        let price = lot.ladder_price().expect("a step runs");
        let reached = lot.limits.iter().filter(|limit| limit.price <= price);
        let limit = reached.min_by_key(|limit| (limit.at, limit.seq, limit.order)).expect("one was").clone();
        lot.stand(Standing {
            bidder: limit.bidder,
            bid: limit.request,
            price,
            at,
            seq: lot.seq + 1,
            order: limit.order,
            auto: true,
            rejected: false,
        });
        lot.decisions += 1;
        events.push(lot.bid_event(limit.bidder));
        self.close(place, index, at, events);
    }

    /// Ends the running phase and enters what follows.
    pub(super) fn end_phase(&mut self, place: usize, index: usize, at: Ms) {
        let lot = &mut self.tenders[place].lots[index];
        let phase = lot.phase.clone().expect("a phase runs");
        match phase.kind {
            "step" if lot.steps_left(phase.price) == 0 => self.close(place, index, at, Vec::new()),
            "step" => self.climb(place, index, phase.step + 1, Vec::new(), at),
            "level" => {
                let confirmed: Vec<u16> = lot.given.iter().map(|bid| bid.bidder).collect();
                let mut events = lot.take_given();
                let (inside, mut out): (Vec<u16>, Vec<u16>) =
                    lot.inside.iter().partition(|bidder| confirmed.contains(bidder));
                out.sort_by_key(|bidder| lot.number_of(*bidder));
                events.extend(out.into_iter().map(|bidder| Event::Out { bidder }));
                lot.inside = inside;
                if lot.inside.len() <= 1 || lot.steps_left(phase.price) == 0 {
                    self.close(place, index, at, events);
                } else {
                    self.climb(place, index, phase.step + 1, events, at);
                }
            }
            "turn" => {
                let mut events = lot.take_given();
                if std::mem::take(&mut lot.withdrew) {
                    events.push(Event::Withdrawn { bidder: phase.bidder });
                }
                self.next_turn(place, index, phase.round, phase.turn, events, at);
            }
            "lead_in" => self.start_round(place, index, 1, Vec::new(), at),
            "pause" => self.start_round(place, index, phase.round + 1, Vec::new(), at),
            "announce" => self.close(place, index, at, Vec::new()),
            other => panic!("no such phase: {other}"),
        }
    }

    /// Enters a lead-in, a pause or the announcement; what has no length is passed.
    pub(super) fn enter(
        &mut self,
        place: usize,
        index: usize,
        kind: &'static str,
        length_s: i64,
        events: Vec<Event>,
        at: Ms,
    ) {
        let lot = &mut self.tenders[place].lots[index];
        let round = lot.phase.as_ref().map_or(0, |phase| phase.round);
        let ends = at + length_s * 1000;
        lot.phase = Some(Phase { kind, ends, round, turn: 0, bidder: 0, step: 0, price: 0 });
        if length_s > 0 {
            lot.plan_end();
            self.step(place, index, at, events);
            return;
        }
        match kind {
            "announce" => self.close(place, index, at, events),
            _ => self.start_round(place, index, round + 1, events, at),
        }
    }

    fn start_round(&mut self, place: usize, index: usize, round: usize, events: Vec<Event>, at: Ms) {
        let lot = &mut self.tenders[place].lots[index];
        lot.order = lot.turns();
        self.next_turn(place, index, round, 0, events, at);
    }

    /// Enters the turn behind `turn`, or what follows the round.
    fn next_turn(
        &mut self,
        place: usize,
        index: usize,
        round: usize,
        turn: usize,
        mut events: Vec<Event>,
        at: Ms,
    ) {
        let lot = &mut self.tenders[place].lots[index];
        let Format::Rounds { count, pause_s, announce_s, .. } = lot.plan.format else {
            panic!("only rounds have turns");
        };
        let ends = at + lot.phase_length();
        let bidder = lot.order.get(turn).copied().unwrap_or(0);
        lot.phase = Some(Phase { kind: "turn", ends, round, turn: turn + 1, bidder, step: 0, price: 0 });
        if turn < lot.order.len() {
            lot.plan_end();
            events.extend(lot.phase_event());
            self.step(place, index, at, events);
        } else if round < count {
            self.enter(place, index, "pause", pause_s, events, at);
        } else {
            self.enter(place, index, "announce", announce_s.unwrap_or(pause_s), events, at);
        }
    }
}
