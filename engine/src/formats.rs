//! How lots with phases, hidden offers or limits open, move on and end.
//! Every time comes in with the command or deadline that is handled.

use smallvec::{SmallVec, smallvec};

use crate::book::Amount;
use crate::history::{Record, Sent};
use crate::live::{ALL_SHOWN, Given, Live, Offered, Phase, set};
use crate::{
    AwardMode, BidderNumber, Event, ExtendReason, Format, LogTime, Lot, LotStage, MaxNext, Prebid, Price,
    RequestId, SealedPricing, english,
};

pub(crate) type Events = SmallVec<[Event; 2]>;

impl Lot {
    /// The end that is planned for a lot that opens at `at`.
    pub(crate) fn planned_end(&self, at: LogTime) -> Option<LogTime> {
        match (self.rules.format, self.rules.ladder) {
            (Format::Rounds, _) => None,
            (_, Some(ladder)) => Some(at.plus_ms((ladder.last as i64 + 1).saturating_mul(ladder.interval_ms))),
            _ => Some(at.plus_ms(self.rules.duration_ms + self.offset_ms)),
        }
    }

    /// When something happens to the lot by itself; `waits`: a pending lot opens by itself, at the time it knows.
    pub(crate) fn deadline(&self, waits: bool) -> Option<LogTime> {
        match self.stage {
            LotStage::Pending => self.times.opens_at.filter(|_| waits),
            LotStage::Open => self.live.as_ref().and_then(|live| live.ends_at).or(self.times.closes_at),
            LotStage::Closed => {
                let closes_at = self.times.closes_at.expect("a closed lot had an end");
                self.rules.decision_ms.map(|ms| closes_at.plus_ms(ms))
            }
            _ => None,
        }
    }

    pub(crate) fn live_mut(&mut self) -> &mut Live {
        self.live.as_deref_mut().expect("a lot that is not plain keeps more than a book")
    }

    /// The order of the next amount.
    pub(crate) fn next_order(&mut self) -> u32 {
        self.arrivals += 1;
        self.arrivals
    }

    /// Opens the lot at `at`, or lets it fail when too few may bid; `admitted`: who may bid, by dense index.
    pub(crate) fn open(&mut self, at: LogTime, admitted: &[bool]) -> Events {
        assert_eq!(self.stage, LotStage::Pending, "a lot opens once");
        self.times.opens_at = Some(at);
        let needs_prebid = self.rules.prebid == Prebid::Required;
        let has_prebid = |live: &Live, index: usize| live.hidden_of(BidderNumber::from_index(index)).is_some();
        let inside: Vec<bool> = match &self.live {
            Some(live) if needs_prebid => {
                admitted.iter().enumerate().map(|(index, may)| *may && has_prebid(live, index)).collect()
            }
            _ => admitted.to_vec(),
        };
        let count = inside.iter().filter(|inside| **inside).count();
        if count < self.rules.min_bidders as usize {
            self.stage = LotStage::Unsuccessful;
            self.times.closes_at = Some(at);
            return smallvec![Event::Unsuccessful];
        }
        self.stage = LotStage::Open;
        self.times.opened = true;
        self.times.closes_at = self.planned_end(at);
        self.book.reserve(admitted.len());
        let mut events: Events = smallvec![Event::Opened];
        if self.live.is_none() {
            return events;
        }
        let format = self.rules.format;
        let live = self.live_mut();
        live.inside = inside;
        if needs_prebid {
            for index in 0..live.limits.len() {
                if !live.inside.get(index).copied().unwrap_or(false) {
                    live.limits[index] = None;
                }
            }
        }
        match format {
            Format::English => {
                live.hidden_from = ALL_SHOWN;
                let shown = self.reveal(true);
                let fired = self.settle(at, self.seq + 1, None);
                self.tell(shown, &mut events);
                self.tell_automatic(&fired, &mut events);
            }
            Format::Sealed => {
                let first: Vec<(BidderNumber, u32)> = live
                    .hidden
                    .iter()
                    .enumerate()
                    .filter_map(|(index, it)| Some((BidderNumber::from_index(index), (*it)?.record)))
                    .collect();
                for (bidder, record) in first {
                    self.book.set_first(bidder, record);
                }
            }
            Format::Dutch => {
                live.hidden_from = ALL_SHOWN;
                self.begin_step(at, 0, &mut events);
            }
            Format::Japanese => {
                self.begin_step(at, 0, &mut events);
            }
            Format::Rounds => {
                live.hidden_from = ALL_SHOWN;
                let shown = self.reveal(true);
                self.tell(shown, &mut events);
                if count <= 1 {
                    self.close(at, &mut events);
                } else {
                    self.begin_phase(at, Phase::LeadIn, &mut events);
                }
            }
        }
        events
    }

    /// Lets all that is hidden stand; who it is of is answered. `opening`: what stands at the opening is the bidder's
    /// initial bid.
    fn reveal(&mut self, opening: bool) -> Vec<(BidderNumber, Price)> {
        let hidden = std::mem::take(&mut self.live_mut().hidden);
        let mut shown = Vec::new();
        for (index, offered) in hidden.into_iter().enumerate() {
            let Some(offered) = offered else { continue };
            let bidder = BidderNumber::from_index(index);
            if opening {
                self.book.set_first(bidder, offered.record);
            }
            self.book.put(bidder, offered.amount(), offered.record);
            shown.push((bidder, offered.price));
        }
        shown
    }

    /// Tells bids that were hidden.
    fn tell(&self, shown: Vec<(BidderNumber, Price)>, events: &mut Events) {
        let lead = self.lead_face();
        events.extend(shown.into_iter().map(|(bidder, price)| Event::Bid {
            bidder,
            price,
            lead: lead == Some((price, bidder)),
            auto: false,
        }));
    }

    /// Tells bids that limits made.
    pub(crate) fn tell_automatic(&self, fired: &[(BidderNumber, Option<Price>)], events: &mut Events) {
        let lead = self.lead_face();
        events.extend(fired.iter().map(|(bidder, _)| {
            let price = self.book.standing(*bidder).expect("an automatic bid stands").price;
            Event::Bid { bidder: *bidder, price, lead: lead == Some((price, *bidder)), auto: true }
        }));
    }

    /// Begins a step or level, at its whole length.
    fn begin_step(&mut self, at: LogTime, step: u64, events: &mut Events) {
        let len = self.history.len();
        let is_dutch = self.rules.format == Format::Dutch;
        let live = self.live_mut();
        live.phase = Phase::Step(step);
        live.hidden_from = if is_dutch { ALL_SHOWN } else { len };
        self.restart(at, events);
        if is_dutch && let Some((bidder, limit)) = self.first_reached(step) {
            self.win_by_limit(at, bidder, limit, events);
        }
    }

    /// The earliest limit that the price of a dutch step has reached.
    fn first_reached(&self, step: u64) -> Option<(BidderNumber, crate::live::Limit)> {
        let price = self.rules.ladder.as_ref()?.price(step);
        let limits = &self.live.as_ref()?.limits;
        let reached = limits.iter().enumerate().filter_map(|(index, limit)| {
            let limit = (*limit)?;
            (limit.price <= price).then_some((BidderNumber::from_index(index), limit))
        });
        reached.min_by_key(|(_, limit)| limit.order)
    }

    /// A limit accepts the running dutch step.
    pub(crate) fn win_by_limit(
        &mut self,
        at: LogTime,
        bidder: BidderNumber,
        limit: crate::live::Limit,
        events: &mut Events,
    ) {
        let ladder = self.rules.ladder.expect("a dutch lot has steps");
        let step = self.live.as_ref().and_then(|live| live.step()).expect("a dutch lot that is open has a step");
        let price = ladder.price(step);
        let seq = self.seq + 1;
        let record = self.history.len();
        let amount = Amount { price, at, seq, order: self.next_order() };
        let place = self.book.stand_automatic(bidder, amount, record);
        let ranks = self.book.ranks_at(place, self.rules.tie_rank);
        let sent = Sent {
            request: limit.request,
            key: None,
            at,
            bidder: Some(bidder),
            price: Some(price.decimal(self.rules.price_scale)),
            is_bound: false,
        };
        self.history.push(Record::automatic(&sent, seq, ranks, MaxNext::None));
        events.push(Event::Bid { bidder, price, lead: true, auto: true });
        self.close(at, events);
    }

    /// Gives the running turn, step or level its whole length from `at`.
    fn restart(&mut self, at: LogTime, events: &mut Events) {
        let live = self.live.as_deref().expect("a phase is kept beside the book");
        let ms = match live.phase {
            Phase::Turn { .. } => self.rules.rounds.expect("turns are of rounds").turn_ms,
            Phase::Step(_) => self.rules.ladder.expect("steps have prices").interval_ms,
            _ => return,
        };
        let ends_at = at.plus_ms(ms);
        self.live_mut().ends_at = Some(ends_at);
        events.extend(self.phase_event());
        self.times.closes_at = Some(self.plan_end());
    }

    /// The event with which the running turn, step or level begins.
    fn phase_event(&self) -> Option<Event> {
        let live = self.live.as_deref()?;
        let ends_at = live.ends_at?;
        match live.phase {
            Phase::Turn { round, turn } => Some(Event::Turn { round, turn, bidder: live.whose_turn()?, ends_at }),
            Phase::Step(step) => {
                let price = self.rules.ladder.as_ref()?.price(step);
                Some(match self.rules.format {
                    Format::Dutch => Event::Step { step, price, ends_at },
                    _ => Event::Level { step, price, ends_at },
                })
            }
            _ => None,
        }
    }

    /// The end of the lot if all goes on as planned.
    pub(crate) fn plan_end(&self) -> LogTime {
        let live = self.live.as_deref().expect("a plan is kept beside the book");
        let ends_at = live.ends_at.expect("a phase that runs has an end");
        let rest = match (live.phase, self.rules.rounds, self.rules.ladder) {
            (Phase::Step(step), _, Some(ladder)) => (ladder.last - step) as i64 * ladder.interval_ms,
            (phase, Some(table), _) => {
                let count = i64::from(table.count);
                let round_ms = live.inside_count() as i64 * table.turn_ms;
                // Rounds that are to come, and whether a pause comes before the first of them.
                let (turns, rounds, pauses) = match phase {
                    Phase::LeadIn => (0, count, count - 1),
                    Phase::Turn { round, turn } => {
                        let left = count - i64::from(round);
                        (live.plan.len() as i64 - i64::from(turn), left, left)
                    }
                    Phase::Pause { round } => {
                        let left = count - i64::from(round);
                        (0, left, left - 1)
                    }
                    _ => (0, 0, 0),
                };
                let announce_ms = if phase == Phase::Announce { 0 } else { table.announce_ms };
                turns * table.turn_ms + rounds * round_ms + pauses * table.pause_ms + announce_ms
            }
            _ => 0,
        };
        ends_at.plus_ms(rest)
    }

    /// Begins a phase of rounds at `at`; those of no length are passed at once.
    fn begin_phase(&mut self, at: LogTime, phase: Phase, events: &mut Events) {
        let table = self.rules.rounds.expect("rounds have a timetable");
        let mut phase = phase;
        loop {
            let ms = match phase {
                Phase::LeadIn => table.lead_in_ms,
                Phase::Pause { .. } => table.pause_ms,
                Phase::Announce => table.announce_ms,
                Phase::Turn { round, turn } => {
                    if turn == 1 {
                        let plan = self.plan_round(round);
                        self.live_mut().plan = plan;
                    }
                    let live = self.live_mut();
                    if usize::from(turn) <= live.plan.len() { table.turn_ms } else { 0 }
                }
                Phase::None | Phase::Step(_) => unreachable!("rounds have no such phase"),
            };
            if ms > 0 {
                let len = self.history.len();
                let is_turn = matches!(phase, Phase::Turn { .. });
                let live = self.live_mut();
                live.phase = phase;
                live.ends_at = Some(at.plus_ms(ms));
                live.given = Given::Nothing;
                live.hidden_from = if is_turn { len } else { ALL_SHOWN };
                events.extend(self.phase_event());
                self.times.closes_at = Some(self.plan_end());
                return;
            }
            match self.phase_after(phase) {
                Some(next) => phase = next,
                None => return self.close(at, events),
            }
        }
    }

    /// The phase behind another; none: the close.
    fn phase_after(&self, phase: Phase) -> Option<Phase> {
        let count = self.rules.rounds.expect("rounds have a timetable").count;
        let turns = self.live.as_ref().map_or(0, |live| live.plan.len());
        match phase {
            Phase::LeadIn => Some(Phase::Turn { round: 1, turn: 1 }),
            Phase::Turn { round, turn } if usize::from(turn) < turns => {
                Some(Phase::Turn { round, turn: turn + 1 })
            }
            Phase::Turn { round, .. } if round < count => Some(Phase::Pause { round }),
            Phase::Turn { .. } => Some(Phase::Announce),
            Phase::Pause { round } => Some(Phase::Turn { round: round + 1, turn: 1 }),
            Phase::Announce | Phase::None | Phase::Step(_) => None,
        }
    }

    /// Who has a turn in a round, in order: who lost its bid first, by number, then the worst first.
    fn plan_round(&self, _round: u16) -> Vec<u16> {
        let live = self.live.as_deref().expect("a plan is kept beside the book");
        let inside = |bidder: &BidderNumber| live.is_inside(*bidder);
        let all = (0..live.inside.len()).map(BidderNumber::from_index).filter(inside);
        let without = all.filter(|bidder| self.book.standing(*bidder).is_none());
        let standing = self.book.iter().rev().map(|(bidder, _)| bidder).filter(inside);
        without.chain(standing).map(|bidder| bidder.index() as u16).collect()
    }

    /// What is due at `at` in an open lot: its end, or that of its turn, step or level.
    pub(crate) fn due(&mut self, at: LogTime) -> Events {
        let mut events = Events::new();
        let phase = self.live.as_ref().map_or(Phase::None, |live| live.phase);
        match (phase, self.rules.format) {
            (Phase::None, _) => self.close(at, &mut events),
            (Phase::Step(step), Format::Dutch) => {
                if step == self.rules.ladder.expect("a dutch lot has steps").last {
                    self.close(at, &mut events);
                } else {
                    self.begin_step(at, step + 1, &mut events);
                }
            }
            (Phase::Step(level), _) => self.end_level(at, level, &mut events),
            (phase, _) => {
                if matches!(phase, Phase::Turn { .. }) {
                    self.end_turn(&mut events);
                }
                match self.phase_after(phase) {
                    Some(next) => self.begin_phase(at, next, &mut events),
                    None => self.close(at, &mut events),
                }
            }
        }
        events
    }

    /// Shows what was given in the running turn.
    fn end_turn(&mut self, events: &mut Events) {
        let live = self.live_mut();
        live.hidden_from = ALL_SHOWN;
        let bidder = live.whose_turn().expect("a turn is somebody's");
        match std::mem::take(&mut live.given) {
            Given::Nothing => {}
            Given::Withdrawal => events.push(Event::Withdrawn { bidder }),
            Given::Bid(offered) => {
                let place = self.book.put(bidder, offered.amount(), offered.record);
                events.push(Event::Bid { bidder, price: offered.price, lead: place == 0, auto: false });
            }
        }
    }

    /// Shows who accepted a level, and who is out.
    fn end_level(&mut self, at: LogTime, level: u64, events: &mut Events) {
        self.live_mut().hidden_from = ALL_SHOWN;
        let shown = self.reveal(false);
        let mut accepted = vec![false; self.live_mut().inside.len()];
        for (bidder, _) in &shown {
            set(&mut accepted, bidder.index(), true);
        }
        let left = shown.len();
        self.tell(shown, events);
        let before = std::mem::replace(&mut self.live_mut().inside, accepted.clone());
        for (index, was_in) in before.into_iter().enumerate() {
            if was_in && !accepted[index] {
                events.push(Event::Out { bidder: BidderNumber::from_index(index) });
            }
        }
        if left <= 1 || level == self.rules.ladder.expect("a japanese lot has levels").last {
            self.close(at, events);
        } else {
            self.begin_step(at, level + 1, events);
        }
    }

    /// Ends an open lot at `at`, and decides what can be decided at once.
    pub(crate) fn close(&mut self, at: LogTime, events: &mut Events) {
        assert_eq!(self.stage, LotStage::Open, "only an open lot ends by itself");
        self.stage = LotStage::Closed;
        self.times.closes_at = Some(at);
        events.push(Event::Closed);
        if let Some(live) = self.live.as_deref_mut() {
            live.phase = Phase::None;
            live.ends_at = None;
            live.plan.clear();
            live.hidden_from = ALL_SHOWN;
            if self.rules.format == Format::Sealed {
                let shown = self.reveal(false);
                self.tell(shown, events);
            }
        }
        if self.rules.award == AwardMode::Automatic {
            let first = self.book.iter().find(|(_, slot)| self.meets_reserve(slot.price));
            match first.map(|(bidder, _)| bidder) {
                Some(bidder) => events.push(self.award_to(bidder, self.pays(bidder))),
                None => events.push(self.fail()),
            }
        } else if self.book.len() == 0 {
            events.push(self.fail());
        }
    }

    /// What a bidder whose bid stands is paid if it wins.
    pub(crate) fn pays(&self, bidder: BidderNumber) -> Price {
        let own = self.book.standing(bidder).expect("a winner has a standing bid").price;
        if self.rules.format != Format::Sealed || self.rules.pricing == SealedPricing::First {
            return own;
        }
        let mut behind = self.book.iter().skip_while(|(other, _)| *other != bidder).skip(1);
        let next = behind.find(|(_, slot)| !slot.rejected);
        let reserve = self.rules.reserve.map(|reserve| reserve.price);
        let ceiling = self.rules.ceiling;
        let Some((rival, slot)) = next else { return reserve.or(ceiling).unwrap_or(own).max(own) };
        let equal = self.book.adjust(bidder).at_most(self.book.effective(rival, slot.price));
        let most = reserve.into_iter().chain(ceiling).fold(Price(equal), Price::min);
        most.max(own)
    }

    /// Freezes the time of an open lot.
    pub(crate) fn pause(&mut self, at: LogTime) {
        let closes_at = self.times.closes_at.take().expect("an open lot has an end");
        let mut rest_ms = closes_at.0 - at.0;
        if let Some(live) = self.live.as_deref_mut().filter(|live| live.phase != Phase::None) {
            let ends_at = live.ends_at.take().expect("a phase that runs has an end");
            rest_ms = ends_at.0 - at.0;
            if matches!(live.phase, Phase::Turn { .. } | Phase::Step(_)) {
                self.drop_given();
            }
        }
        self.times.rest_ms = Some(rest_ms);
        self.stage = LotStage::Paused;
    }

    /// Drops what was given in the running turn or level.
    fn drop_given(&mut self) {
        let live = self.live_mut();
        let from = live.hidden_from;
        live.given = Given::Nothing;
        live.hidden.clear();
        // They stay hidden as long as the turn or level, which begins again, is not over.
        self.drop_records(from, None);
    }

    /// Marks accepted records from a place on as dropped, of one bidder or of all.
    pub(crate) fn drop_records(&mut self, from: u32, bidder: Option<BidderNumber>) {
        for index in from.min(self.history.len())..self.history.len() {
            let record = self.history.get_mut(index);
            if record.is_accepted() && (bidder.is_none() || record.bidder() == bidder) {
                record.drop_out();
            }
        }
    }

    /// Lets the lot run on; what is told of it besides that it does.
    pub(crate) fn resume(&mut self, at: LogTime) -> Events {
        let rest = self.times.rest_ms.take().expect("a paused lot has time left");
        self.stage = LotStage::Open;
        let mut events = Events::new();
        let phase = self.live.as_ref().map_or(Phase::None, |live| live.phase);
        match phase {
            Phase::None => {
                let least = self.rules.overtime.map_or(0, |overtime| overtime.window_ms);
                self.times.closes_at = Some(at.plus_ms(rest.max(least)));
            }
            Phase::Turn { .. } | Phase::Step(_) => self.restart(at, &mut events),
            _ => {
                self.live_mut().ends_at = Some(at.plus_ms(rest));
                self.times.closes_at = Some(self.plan_end());
            }
        }
        events
    }

    /// Gives an open lot what an interruption up to `at` took from it; none where nothing moves.
    pub(crate) fn outage(&mut self, at: LogTime) -> Option<Event> {
        if self.stage != LotStage::Open {
            return None;
        }
        let before = self.times.closes_at?;
        let phase = self.live.as_ref().map_or(Phase::None, |live| live.phase);
        match phase {
            Phase::None => {
                let end = self.outage_end(at)?;
                self.times.closes_at = Some(end);
            }
            Phase::Turn { .. } | Phase::Step(_) => {
                let mut events = Events::new();
                self.restart(at, &mut events);
            }
            _ => {
                let live = self.live_mut();
                if live.ends_at.is_none_or(|ends_at| ends_at >= at) {
                    return None;
                }
                live.ends_at = Some(at);
                self.times.closes_at = Some(self.plan_end());
            }
        }
        let end = self.times.closes_at?;
        (end != before).then_some(Event::Extended {
            closes_at: Some(end),
            added_ms: end.0 - before.0,
            reason: ExtendReason::Outage,
        })
    }

    /// Takes a bidder out of all that is not in the book; whether something of it was there is not told.
    pub(crate) fn forget(&mut self, bidder: BidderNumber, is_out: bool) {
        let Some(live) = self.live.as_deref_mut() else { return };
        let index = bidder.index();
        if let Some(limit) = live.limits.get_mut(index) {
            *limit = None;
        }
        if !is_out {
            return;
        }
        if let Some(offered) = live.hidden.get_mut(index) {
            *offered = None;
        }
        if let Some(inside) = live.inside.get_mut(index) {
            *inside = false;
        }
        if live.whose_turn() == Some(bidder) {
            live.given = Given::Nothing;
        }
        if live.ends_at.is_some() {
            self.times.closes_at = Some(self.plan_end());
        }
    }

    /// The pre-bid or sealed bid with this id that nobody else sees yet.
    pub(crate) fn hidden_bid(&self, bid: RequestId) -> Option<(BidderNumber, Price)> {
        let live = self.live.as_deref()?;
        if self.rules.format == Format::Japanese {
            return None;
        }
        let mut hidden = live.hidden.iter().enumerate();
        hidden.find_map(|(index, offered)| {
            let offered = (*offered)?;
            let is_it = self.history.get(offered.record).request() == bid;
            is_it.then_some((BidderNumber::from_index(index), offered.price))
        })
    }

    /// Takes out a bid that nobody else sees yet, with the bidder's limit.
    pub(crate) fn void_hidden(&mut self, bidder: BidderNumber) {
        let live = self.live_mut();
        let offered = live.hidden[bidder.index()].take().expect("it was found");
        self.history.get_mut(offered.record).void();
        self.forget(bidder, false);
        if self.stage == LotStage::Pending {
            self.book.forget_first(bidder);
        }
    }

    /// The highest price that would be taken from an admitted bidder now, in a lot that is not plain.
    pub(crate) fn max_next_live(&self, live: &Live, bidder: BidderNumber) -> MaxNext {
        let (rules, book) = (&*self.rules, &self.book);
        let at_step = || {
            let price = live.step().and_then(|step| Some(rules.ladder.as_ref()?.price(step)));
            price.map_or(MaxNext::None, MaxNext::At)
        };
        let is_missing = rules.prebid == Prebid::Required && !live.is_inside(bidder);
        match (self.stage, rules.format) {
            (LotStage::Pending, _) if rules.prebid != Prebid::None && self.seq > 0 => {
                english::max_free(rules, book, bidder)
            }
            (LotStage::Open, Format::English | Format::Sealed) if is_missing => MaxNext::None,
            (LotStage::Open, Format::English) => english::max_next(rules, book, bidder),
            (LotStage::Open, Format::Sealed) => english::max_free(rules, book, bidder),
            (LotStage::Open, Format::Dutch) => at_step(),
            (LotStage::Open, Format::Japanese) if live.is_inside(bidder) => at_step(),
            (LotStage::Open, Format::Rounds) if self.has_turn(live, bidder) => {
                english::max_next(rules, book, bidder)
            }
            _ => MaxNext::None,
        }
    }

    /// Whether a bidder has its turn now or later.
    fn has_turn(&self, live: &Live, bidder: BidderNumber) -> bool {
        if !live.is_inside(bidder) {
            return false;
        }
        let count = self.rules.rounds.map_or(0, |table| table.count);
        match live.phase {
            Phase::LeadIn => true,
            Phase::Turn { round, turn } => {
                let index = bidder.index() as u16;
                round < count || live.plan.iter().skip(usize::from(turn) - 1).any(|other| *other == index)
            }
            Phase::Pause { round } => round < count,
            _ => false,
        }
    }

    /// Keeps an offer that nobody else sees yet, in place of the bidder's last; `record` is its record's place.
    pub(crate) fn hide(&mut self, bidder: BidderNumber, price: Price, at: LogTime, record: u32) -> Offered {
        let offered = Offered { price, at, seq: self.seq, order: self.next_order(), record };
        let live = self.live_mut();
        if live.whose_turn() == Some(bidder) {
            let old = match live.given {
                Given::Bid(old) => Some(old),
                _ => None,
            };
            let offered = offered.instead_of(old);
            live.given = Given::Bid(offered);
            return offered;
        }
        let offered = offered.instead_of(live.hidden_of(bidder));
        set(&mut live.hidden, bidder.index(), Some(offered));
        offered
    }
}
