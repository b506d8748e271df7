//! One tender: its specification, stage, bidders and lots.
//! Pure: time and identities come in with the command.

mod anonymity;
mod award;
mod bidders;

use std::sync::Arc;

pub(crate) use anonymity::permuted;
use smallvec::{SmallVec, smallvec};
use wincode::{SchemaRead, SchemaWrite};

use crate::admission::{self, Admission};
use crate::deadlines::{Deadlines, Due};
use crate::lot::Face;
use crate::{
    Access, Adjust, AdjustmentSpec, Answer, BidderNumber, BidderStatus, Changed, Event, FeatureValue, Format, Key,
    LogTime, Lot, LotMode, LotStage, OrganisationId, OvertimeScope, Refusal, RequestId, RuleError, Rules, Sink,
    Step, TenderAnswer, TenderId, TenderSpec, TenderStage, Text, VoidAnswer,
};

/// One procurement event of one buyer.
#[derive(Clone, Debug)]
pub struct Tender {
    /// Its id.
    pub id: TenderId,
    /// Whose it is.
    pub buyer: OrganisationId,
    /// The version of the rules' logic it is decided by, fixed at its creation.
    pub logic: u16,
    /// Its stage.
    pub stage: TenderStage,
    /// Counts every change of specification or stage, from 1.
    pub version: u32,
    /// When it was created.
    pub created_at: LogTime,
    /// When its rules were frozen.
    pub published_at: Option<LogTime>,
    /// When it will open or opened.
    pub opens_at: Option<LogTime>,
    pub(crate) has_opened: bool,
    /// The salt of the publication, where numbers are drawn at the opening; zeros otherwise and from then on.
    pub(crate) salt: [u8; 16],
    /// Its dense index in the engine.
    pub(crate) place: u32,
    /// The clock of its opening; the clock of a lot is this plus the lot's number. Given at publication.
    pub(crate) clock: Option<u32>,
    pub(crate) created: Box<TenderSpec>,
    pub(crate) changed: Option<Box<TenderSpec>>,
    pub(crate) bidders: Vec<Bidder>,
    /// Organisation and dense index of every bidder, by organisation.
    pub(crate) by_organisation: Vec<(OrganisationId, u16)>,
    pub(crate) lots: Vec<Lot>,
    /// The answers that are not in a lot's history, in order of time.
    pub(crate) kept: Vec<Kept>,
    /// What bidders were admitted with, where it is anything.
    pub(crate) admissions: Vec<Admission>,
}

/// An answer kept for a repeat under its key.
#[derive(Clone, Debug, PartialEq, Eq, SchemaWrite, SchemaRead)]
pub(crate) struct Kept {
    pub key: Key,
    pub at: LogTime,
    pub request: RequestId,
    pub answer: Answer,
}

/// What a change of a tender works with.
pub(crate) struct Flow<'a, S> {
    pub deadlines: &'a mut Deadlines,
    pub sink: &'a mut S,
    /// The command's stamp, or the deadline that is handled.
    pub at: LogTime,
    /// The salt of the command that is handled; none where it is sealed with a secret, and goes with its key.
    pub salt: Option<[u8; 16]>,
}

pub(crate) type Decided = Result<Answer, Refusal>;

/// A supplier that may bid in a tender, or was invited to, or was taken out.
#[derive(Clone, Copy, Debug, PartialEq, Eq, SchemaWrite, SchemaRead)]
pub struct Bidder {
    /// The request that admitted it.
    pub id: RequestId,
    /// Its number in the tender: in order of admission or, where the buyer must not know who is who, as drawn at the
    /// opening. Until then nobody is shown it.
    pub number: BidderNumber,
    /// Who it is.
    pub organisation: OrganisationId,
    /// What it may do.
    pub status: BidderStatus,
    /// When it was admitted, invited, or joined an open tender.
    pub admitted_at: LogTime,
    /// Whether it accepted the terms.
    pub accepted: bool,
}

impl Tender {
    /// What the tender is now.
    pub fn spec(&self) -> &TenderSpec {
        self.changed.as_deref().unwrap_or(&self.created)
    }

    /// What the tender was when it was created.
    pub fn created_spec(&self) -> &TenderSpec {
        &self.created
    }

    /// Its lots, by number.
    pub fn lots(&self) -> &[Lot] {
        &self.lots
    }

    /// The lot with this number, from 1.
    pub fn lot(&self, number: u16) -> Option<&Lot> {
        self.lots.get(usize::from(number).checked_sub(1)?)
    }

    /// Its bidders, by number.
    pub fn bidders(&self) -> &[Bidder] {
        &self.bidders
    }

    /// The bidder with this number.
    pub fn bidder(&self, number: BidderNumber) -> Option<&Bidder> {
        self.bidders.get(usize::from(number.0).checked_sub(1)?)
    }

    /// The bidder that this organisation is.
    pub fn bidder_of(&self, organisation: OrganisationId) -> Option<&Bidder> {
        self.bidder_index(organisation).map(|index| &self.bidders[usize::from(index)])
    }

    /// The dense index of the bidder that this organisation is.
    pub(crate) fn bidder_index(&self, organisation: OrganisationId) -> Option<u16> {
        let place = self.by_organisation.binary_search_by_key(&organisation, |(id, _)| *id).ok()?;
        Some(self.by_organisation[place].1)
    }

    /// Whether the tender has opened.
    pub fn opened(&self) -> bool {
        self.has_opened
    }

    /// Whether bidders have numbers: where those are drawn at the opening, nobody has one before.
    pub fn is_numbered(&self) -> bool {
        self.has_opened || !self.spec().anonymous_to_buyer
    }

    /// Whether the buyer may know which organisation has which number.
    pub fn shows_names(&self) -> bool {
        let runs = matches!(self.stage, TenderStage::Draft | TenderStage::Published | TenderStage::Open);
        self.has_opened && !(self.spec().anonymous_to_buyer && runs)
    }

    /// Its bidders in order of admission, which tells nothing of drawn numbers.
    pub fn bidders_by_admission(&self) -> Vec<&Bidder> {
        let mut bidders: Vec<&Bidder> = self.bidders.iter().collect();
        if self.spec().anonymous_to_buyer {
            bidders.sort_unstable_by_key(|bidder| (bidder.admitted_at, bidder.id));
        }
        bidders
    }

    /// Whether a reader may see the tender: the organisation and whether it supplies, or nobody known.
    pub fn visible_to(&self, reader: Option<(OrganisationId, bool)>) -> bool {
        if reader.is_some_and(|(organisation, _)| organisation == self.buyer) {
            return true;
        }
        if self.published_at.is_none() {
            return false;
        }
        self.spec().public
            || reader.is_some_and(|(organisation, supplies)| {
                (supplies && self.spec().access == Access::Open) || self.bidder_of(organisation).is_some()
            })
    }
}

/// The reason for an action that needs one.
fn required(reason: Option<&str>) -> Result<Text, Refusal> {
    match reason {
        Some(reason) if !reason.trim().is_empty() => Ok(Text::from(reason)),
        _ => Err(Refusal::ReasonRequired),
    }
}

fn invalid(pointer: &str, detail: &str, valid: &str) -> Answer {
    Answer::InvalidRules(vec![RuleError {
        pointer: pointer.to_owned(),
        detail: detail.to_owned(),
        valid: valid.to_owned(),
    }])
}

/// What comes in and goes away by itself.
impl Tender {
    /// A draft.
    pub(crate) fn new(
        id: TenderId,
        place: u32,
        buyer: OrganisationId,
        logic: u16,
        at: LogTime,
        spec: Box<TenderSpec>,
        rules: Vec<Rules>,
    ) -> Self {
        let mut tender = Self {
            id,
            buyer,
            logic,
            stage: TenderStage::Draft,
            version: 1,
            created_at: at,
            published_at: None,
            opens_at: spec.opens_at,
            has_opened: false,
            salt: [0; 16],
            place,
            clock: None,
            created: spec,
            changed: None,
            bidders: Vec::new(),
            by_organisation: Vec::new(),
            lots: Vec::new(),
            kept: Vec::new(),
            admissions: Vec::new(),
        };
        tender.make_lots(rules);
        tender
    }

    pub(crate) fn make_lots(&mut self, rules: Vec<Rules>) {
        let (id, opens_at) = (self.id, self.opens_at);
        let spec = self.spec();
        let is_serial = spec.lot_mode == LotMode::Serial;
        let stagger_ms = if spec.lot_mode == LotMode::Staggered { spec.stagger_s * 1_000 } else { 0 };
        let mut shared: Option<Arc<Rules>> = None;
        let numbered = rules.into_iter().zip(1u16..);
        self.lots = numbered
            .map(|(rules, number)| {
                let same = shared.take().filter(|shared| **shared == rules);
                let rules = same.unwrap_or_else(|| Arc::new(rules));
                shared = Some(rules.clone());
                // When the lots behind the first of a serial tender open is not known yet.
                let mut lot = Lot::new(id.lot(number), rules, opens_at.filter(|_| !is_serial || number == 1));
                lot.offset_ms = i64::from(number - 1) * stagger_ms;
                lot
            })
            .collect();
        for place in 0..self.admissions.len() {
            let admission = self.admissions[place].clone();
            let found = self.adjusts(&admission.adjustments, &admission.features);
            self.set_adjusts(admission.bidder, &found.expect("a change that no admission fits is refused"));
        }
    }

    /// The adjustments of each lot that an admission asks for.
    fn adjusts(
        &self,
        adjustments: &[AdjustmentSpec],
        features: &[FeatureValue],
    ) -> Result<Vec<Adjust>, Vec<RuleError>> {
        let rules: Vec<&Rules> = self.lots.iter().map(Lot::rules).collect();
        admission::adjusts(&rules, adjustments, features)
    }

    fn set_adjusts(&mut self, bidder: BidderNumber, adjusts: &[Adjust]) {
        for (lot, adjust) in self.lots.iter_mut().zip(adjusts) {
            lot.book.set_adjust(bidder, *adjust);
        }
    }

    /// Takes up again what a snapshot says of admissions.
    pub(crate) fn restore_admissions(&mut self, admissions: Vec<Admission>) -> Result<(), &'static str> {
        for admission in &admissions {
            let found = self.adjusts(&admission.adjustments, &admission.features);
            self.set_adjusts(admission.bidder, &found.map_err(|_| "an admission that is not valid")?);
        }
        self.admissions.extend(admissions);
        Ok(())
    }

    fn clock_of(&self, number: u16) -> u32 {
        self.clock.expect("clocks are given at publication") + u32::from(number)
    }

    /// Sets or clears the deadline of a lot to what its stage asks for.
    pub(crate) fn set_end(&self, lot: usize, deadlines: &mut Deadlines) {
        let Some(clock) = self.clock else { return };
        let (tender, lot) = (self.place, &self.lots[lot]);
        let clock = clock + u32::from(lot.number);
        let waits = self.waits();
        match lot.deadline(waits) {
            Some(at) => deadlines.set(Due { at, tender, lot: lot.number, clock }),
            None => deadlines.clear(clock),
        }
    }

    /// Whether pending lots open by themselves, one after another.
    fn waits(&self) -> bool {
        self.stage == TenderStage::Open && self.spec().lot_mode == LotMode::Serial
    }

    /// When something happens to a lot by itself.
    pub(crate) fn deadline_of(&self, lot: usize) -> Option<LogTime> {
        self.lots[lot].deadline(self.waits())
    }

    pub(crate) fn set_opening(&self, deadlines: &mut Deadlines) {
        let clock = self.clock_of(0);
        match self.opens_at {
            Some(at) if self.stage == TenderStage::Published => {
                deadlines.set(Due { at, tender: self.place, lot: 0, clock });
            }
            _ => deadlines.clear(clock),
        }
    }

    /// Counts the step that led from `before` to now, and tells it.
    pub(crate) fn step<S: Sink>(
        &mut self,
        lot: usize,
        before: &Face,
        board: bool,
        events: SmallVec<[Event; 2]>,
        flow: &mut Flow<'_, S>,
    ) {
        let changed = self.lots[lot].changed(before, board);
        self.step_changed(lot, changed, events, flow);
    }

    /// Counts the step that changed these fields, and tells it.
    pub(crate) fn step_changed<S: Sink>(
        &mut self,
        lot: usize,
        changed: Changed,
        events: SmallVec<[Event; 2]>,
        flow: &mut Flow<'_, S>,
    ) {
        let it = &mut self.lots[lot];
        it.seq += 1;
        let step = Step { lot: it.id, seq: it.seq, at: flow.at, events, changed };
        flow.sink.step(self, &self.lots[lot], &step);
    }

    /// Draws the tender's stage from those of its lots, once it has opened.
    fn settle(&mut self) {
        if !matches!(self.stage, TenderStage::Open | TenderStage::Closed) {
            return;
        }
        let any = |wanted: &[LotStage]| self.lots.iter().any(|lot| wanted.contains(&lot.stage));
        let stage = if any(&[LotStage::Pending, LotStage::Open, LotStage::Paused]) {
            TenderStage::Open
        } else if any(&[LotStage::Closed]) {
            TenderStage::Closed
        } else if any(&[LotStage::Awarded]) {
            TenderStage::Awarded
        } else {
            TenderStage::Unsuccessful
        };
        self.turn(stage);
    }

    fn turn(&mut self, stage: TenderStage) {
        if self.stage != stage {
            self.stage = stage;
            self.version += 1;
        }
    }

    /// Opens the tender and its lots at `flow.at`.
    pub(crate) fn open<S: Sink>(&mut self, flow: &mut Flow<'_, S>) {
        assert_eq!(self.stage, TenderStage::Published, "a tender opens once");
        self.turn(TenderStage::Open);
        self.opens_at = Some(flow.at);
        self.has_opened = true;
        if self.spec().anonymous_to_buyer {
            self.draw_numbers(flow.salt.unwrap_or(self.salt));
        }
        self.set_opening(flow.deadlines);
        let at_once = if self.spec().lot_mode == LotMode::Serial { 1 } else { self.lots.len() };
        for lot in 0..at_once {
            self.open_lot(lot, flow);
        }
        self.settle();
    }

    /// Opens a lot at `flow.at`.
    fn open_lot<S: Sink>(&mut self, lot: usize, flow: &mut Flow<'_, S>) {
        let admitted: Vec<bool> =
            self.bidders.iter().map(|bidder| bidder.status == BidderStatus::Admitted).collect();
        let mut before = self.lots[lot].face();
        if lot > 0 && self.waits() && self.spec().serial_gap_s == 0 {
            // Without a gap no step told of it.
            before = before.without_opening();
        }
        let events = self.lots[lot].open(flow.at, &admitted);
        let board = self.lots[lot].book.len() > 0;
        self.ended(lot, &before, board, events, flow);
    }

    /// Handles what is due in a lot at `flow.at`: its opening, the end of a phase, its close, the end of a decision.
    pub(crate) fn due<S: Sink>(&mut self, lot: usize, flow: &mut Flow<'_, S>) {
        match self.lots[lot].stage {
            LotStage::Pending => self.open_lot(lot, flow),
            LotStage::Closed => {
                let before = self.lots[lot].face();
                let event = self.lots[lot].fail();
                self.ended(lot, &before, false, smallvec![event], flow);
            }
            _ => {
                let before = self.lots[lot].face();
                let standing = self.lots[lot].arrivals;
                let events = self.lots[lot].due(flow.at);
                let shows = |event: &Event| matches!(event, Event::Bid { .. });
                let board = events.iter().any(shows) || standing != self.lots[lot].arrivals;
                self.ended(lot, &before, board, events, flow);
            }
        }
    }

    /// Tells the step of a lot that may have ended with it, and lets the next of a serial tender follow.
    pub(crate) fn ended<S: Sink>(
        &mut self,
        lot: usize,
        before: &Face,
        board: bool,
        events: SmallVec<[Event; 2]>,
        flow: &mut Flow<'_, S>,
    ) {
        self.set_end(lot, flow.deadlines);
        self.step(lot, before, board, events, flow);
        let runs = matches!(self.lots[lot].stage, LotStage::Pending | LotStage::Open | LotStage::Paused);
        let next = lot + 1;
        let follows = !runs
            && self.waits()
            && self
                .lots
                .get(next)
                .is_some_and(|next| next.stage == LotStage::Pending && next.times.opens_at.is_none());
        if follows {
            let gap_s = self.spec().serial_gap_s;
            let before = self.lots[next].face();
            self.lots[next].times.opens_at = Some(flow.at.plus_ms(gap_s * 1_000));
            self.set_end(next, flow.deadlines);
            if gap_s > 0 {
                self.step(next, &before, false, SmallVec::new(), flow);
            }
        }
        self.settle();
    }

    /// Lets the overtime of a lot reach others: all that have overtime, where that is its scope, or those staggered
    /// behind it, by what was added.
    pub(crate) fn spread<S: Sink>(&mut self, lot: usize, extended: Option<&Event>, flow: &mut Flow<'_, S>) {
        let is_wide =
            self.lots[lot].rules.overtime.is_some_and(|overtime| overtime.scope == OvertimeScope::Tender);
        let spec = self.spec();
        let follows = spec.lot_mode == LotMode::Staggered && spec.stagger_follows;
        let Some(added_ms) = (match extended {
            Some(Event::Extended { added_ms, .. }) => Some(*added_ms),
            _ if is_wide => Some(0),
            _ => None,
        }) else {
            return;
        };
        if !is_wide && !follows {
            return;
        }
        for other in 0..self.lots.len() {
            let it = &self.lots[other];
            if other == lot || it.stage != LotStage::Open {
                continue;
            }
            let before = it.face();
            let event = if is_wide {
                self.lots[other].overtime_anyway(flow.at)
            } else if other > lot {
                Some(self.lots[other].follow(added_ms))
            } else {
                None
            };
            let Some(event) = event else { continue };
            self.set_end(other, flow.deadlines);
            self.step(other, &before, false, smallvec![event], flow);
        }
    }

    /// Gives open lots the time that an interruption up to `flow.at` took from them.
    pub(crate) fn outage<S: Sink>(&mut self, flow: &mut Flow<'_, S>) {
        for lot in 0..self.lots.len() {
            let before = self.lots[lot].face();
            let Some(event) = self.lots[lot].outage(flow.at) else { continue };
            self.set_end(lot, flow.deadlines);
            self.step(lot, &before, false, smallvec![event], flow);
        }
    }

    /// The tender as its buyer is told.
    pub(crate) fn answer(&self, as_created: bool) -> Answer {
        Answer::Tender(Box::new(TenderAnswer {
            tender: self.id,
            version: self.version,
            stage: self.stage,
            opens_at: self.opens_at,
            as_created,
            lots: self.lots.iter().map(Lot::answer).collect(),
        }))
    }
}

/// What a buyer does. The buyer is known to be the owner.
impl Tender {
    /// Changes the specification; `rules` are those of the new one, or what was wrong with it.
    pub(crate) fn update<S: Sink>(
        &mut self,
        spec: &TenderSpec,
        version: u32,
        rules: Result<Vec<Rules>, Vec<RuleError>>,
        flow: &mut Flow<'_, S>,
    ) -> Decided {
        if version != self.version {
            return Err(Refusal::VersionMismatch);
        }
        let published = match self.stage {
            TenderStage::Draft => false,
            TenderStage::Published => true,
            _ => return Err(Refusal::WrongStage),
        };
        let opens_at = spec.opens_at;
        let same_but_for_opening = || TenderSpec { opens_at, ..self.spec().clone() } == *spec;
        if published && !same_but_for_opening() {
            return Err(Refusal::RulesFrozen);
        }
        let rules = match rules {
            Ok(rules) => rules,
            Err(errors) => return Ok(Answer::InvalidRules(errors)),
        };
        if spec == self.spec() {
            return Ok(self.answer(false));
        }
        if !published && !self.admissions.is_empty() {
            let of_lots: Vec<&Rules> = rules.iter().collect();
            let fits = |it: &Admission| admission::adjusts(&of_lots, &it.adjustments, &it.features).is_ok();
            if !self.admissions.iter().all(fits) {
                let detail = "does not fit the adjustments or features of a bidder that was admitted";
                return Ok(invalid(
                    "/lots",
                    detail,
                    "lots in which they are valid; admit the bidder again without",
                ));
            }
        }
        let faces: Vec<Face> = self.lots.iter().map(Lot::face).collect();
        self.changed = Some(Box::new(spec.clone()));
        self.version += 1;
        self.opens_at = opens_at;
        if !published {
            self.make_lots(rules);
            return Ok(self.answer(false));
        }
        for (lot, before) in faces.iter().enumerate() {
            let knows = lot == 0 || self.spec().lot_mode != LotMode::Serial;
            self.lots[lot].times.opens_at = opens_at.filter(|_| knows);
            self.step(lot, before, false, SmallVec::new(), flow);
        }
        self.open_or_wait(flow);
        Ok(self.answer(false))
    }

    /// Opens a published tender whose time has come, or waits for it.
    fn open_or_wait<S: Sink>(&mut self, flow: &mut Flow<'_, S>) {
        match self.opens_at {
            Some(opens_at) if opens_at <= flow.at => self.open(flow),
            _ => self.set_opening(flow.deadlines),
        }
    }

    pub(crate) fn publish<S: Sink>(&mut self, flow: &mut Flow<'_, S>) -> Decided {
        if self.stage != TenderStage::Draft {
            return Err(Refusal::WrongStage);
        }
        #[cfg(feature = "failpoints")]
        assert!(!self.spec().title.starts_with("failpoint: panic at publication"), "the failpoint was asked for");
        self.turn(TenderStage::Published);
        self.published_at = Some(flow.at);
        if self.spec().anonymous_to_buyer {
            self.salt = flow.salt.unwrap_or_default();
        }
        self.clock = Some(flow.deadlines.clocks(self.lots.len() + 1));
        let terms = self.spec().terms.is_some();
        for bidder in &mut self.bidders {
            // The terms may have changed since the admission.
            if bidder.status != BidderStatus::Disqualified {
                let invited = terms && !bidder.accepted;
                bidder.status = if invited { BidderStatus::Invited } else { BidderStatus::Admitted };
            }
        }
        for lot in 0..self.lots.len() {
            let before = self.lots[lot].face();
            self.step(lot, &before, false, SmallVec::new(), flow);
        }
        self.open_or_wait(flow);
        Ok(self.answer(false))
    }

    pub(crate) fn start<S: Sink>(&mut self, flow: &mut Flow<'_, S>) -> Decided {
        if self.stage != TenderStage::Published || self.opens_at.is_some() {
            return Err(Refusal::WrongStage);
        }
        self.open(flow);
        Ok(self.answer(false))
    }

    fn lots_in(&self, stages: &[LotStage]) -> SmallVec<[usize; 8]> {
        (0..self.lots.len()).filter(|lot| stages.contains(&self.lots[*lot].stage)).collect()
    }

    pub(crate) fn pause<S: Sink>(&mut self, reason: Option<&str>, flow: &mut Flow<'_, S>) -> Decided {
        let open = self.lots_in(&[LotStage::Open]);
        if open.is_empty() {
            return Err(Refusal::WrongStage);
        }
        let reason = required(reason)?;
        for lot in open {
            let before = self.lots[lot].face();
            self.lots[lot].pause(flow.at);
            self.set_end(lot, flow.deadlines);
            self.step(lot, &before, false, smallvec![Event::Paused { reason: reason.clone() }], flow);
        }
        Ok(self.answer(false))
    }

    pub(crate) fn resume<S: Sink>(&mut self, reason: Option<&str>, flow: &mut Flow<'_, S>) -> Decided {
        let paused = self.lots_in(&[LotStage::Paused]);
        if paused.is_empty() {
            return Err(Refusal::WrongStage);
        }
        let reason = required(reason)?;
        for lot in paused {
            let before = self.lots[lot].face();
            let begun = self.lots[lot].resume(flow.at);
            self.set_end(lot, flow.deadlines);
            let closes_at = self.lots[lot].times.closes_at.expect("a lot that runs on has an end");
            let mut events = smallvec![Event::Resumed { reason: reason.clone(), closes_at }];
            events.extend(begun);
            self.step(lot, &before, false, events, flow);
        }
        Ok(self.answer(false))
    }

    pub(crate) fn cancel<S: Sink>(&mut self, reason: Option<&str>, flow: &mut Flow<'_, S>) -> Decided {
        use TenderStage::{Awarded, Cancelled, Unsuccessful};
        if matches!(self.stage, Awarded | Unsuccessful | Cancelled) {
            return Err(Refusal::WrongStage);
        }
        let reason = required(reason)?;
        self.turn(Cancelled);
        if self.clock.is_some() {
            self.set_opening(flow.deadlines);
        }
        for lot in self.lots_in(&[LotStage::Pending, LotStage::Open, LotStage::Paused, LotStage::Closed]) {
            let before = self.lots[lot].face();
            self.lots[lot].stage = LotStage::Cancelled;
            self.lots[lot].times.rest_ms = None;
            self.set_end(lot, flow.deadlines);
            if self.published_at.is_some() {
                let event = Event::Cancelled { reason: reason.clone() };
                self.step(lot, &before, false, smallvec![event], flow);
            }
        }
        Ok(self.answer(false))
    }

    pub(crate) fn extend<S: Sink>(
        &mut self,
        lot: Option<u16>,
        seconds: i64,
        reason: Option<&str>,
        flow: &mut Flow<'_, S>,
    ) -> Decided {
        const SECONDS_MAX: i64 = 30 * 86_400;
        let mut lots = self.lots_in(&[LotStage::Open, LotStage::Paused]);
        lots.retain(|lot| matches!(self.lots[*lot].rules.format, Format::English | Format::Sealed));
        if let Some(number) = lot {
            lots.retain(|lot| self.lots[*lot].number == number);
        }
        if lots.is_empty() {
            return Err(Refusal::WrongStage);
        }
        required(reason)?;
        if !(1..=SECONDS_MAX).contains(&seconds) {
            return Ok(invalid("/seconds", "is out of range", &format!("an integer from 1 to {SECONDS_MAX}")));
        }
        for lot in lots {
            let before = self.lots[lot].face();
            let event = self.lots[lot].extend(seconds * 1_000);
            self.set_end(lot, flow.deadlines);
            self.step(lot, &before, false, smallvec![event], flow);
        }
        Ok(self.answer(false))
    }

    pub(crate) fn void<S: Sink>(
        &mut self,
        lot: usize,
        bid: RequestId,
        reason: Option<&str>,
        flow: &mut Flow<'_, S>,
    ) -> Decided {
        use LotStage::{Closed, Open, Paused, Pending};
        let it = &self.lots[lot];
        if !matches!(it.stage, Pending | Open | Paused | Closed) {
            return Err(Refusal::WrongStage);
        }
        if let Some((bidder, price)) = it.hidden_bid(bid) {
            required(reason)?;
            let it = &mut self.lots[lot];
            it.void_hidden(bidder);
            let price_scale = it.rules.price_scale;
            let (id, seq) = (it.id, it.seq);
            let bidder = if self.is_numbered() { bidder } else { BidderNumber::NONE };
            return Ok(Answer::Voided(VoidAnswer { lot: id, bid, bidder, price, price_scale, seq }));
        }
        let standing = it.book.iter().find(|(_, slot)| it.history.get(slot.newest).request() == bid);
        let (bidder, slot) = standing.ok_or(Refusal::BidNotFound)?;
        let (newest, price) = (slot.newest, slot.price);
        let reason = required(reason)?;
        let before = it.face();
        let it = &mut self.lots[lot];
        it.book.take(bidder);
        it.forget(bidder, false);
        it.history.get_mut(newest).void();
        let mut events = smallvec![Event::Voided { bidder, reason }];
        events.extend(it.fail_if_none_left());
        self.set_end(lot, flow.deadlines);
        self.step(lot, &before, true, events, flow);
        self.settle();
        let it = &self.lots[lot];
        let price_scale = it.rules.price_scale;
        Ok(Answer::Voided(VoidAnswer { lot: it.id, bid, bidder, price, price_scale, seq: it.seq }))
    }
}

impl Tender {
    /// Panics if the tender contradicts itself.
    pub(crate) fn check_invariants(&self) {
        assert_eq!(self.lots.len(), self.spec().lots.len());
        assert_eq!(self.bidders.len(), self.by_organisation.len());
        assert!(self.by_organisation.is_sorted());
        for (index, bidder) in self.bidders.iter().enumerate() {
            assert_eq!(bidder.number.index(), index);
            assert_eq!(self.bidder_of(bidder.organisation), Some(bidder));
        }
        let running = |lot: &Lot| matches!(lot.stage, LotStage::Pending | LotStage::Open | LotStage::Paused);
        match self.stage {
            TenderStage::Draft | TenderStage::Published => {
                assert!(self.lots.iter().all(|lot| lot.stage == LotStage::Pending) && !self.has_opened);
            }
            TenderStage::Open => assert!(self.lots.iter().any(running) && self.has_opened),
            TenderStage::Closed => {
                assert!(!self.lots.iter().any(running));
                assert!(self.lots.iter().any(|lot| lot.stage == LotStage::Closed));
            }
            TenderStage::Awarded => assert!(self.lots.iter().any(|lot| lot.stage == LotStage::Awarded)),
            TenderStage::Unsuccessful => {
                assert!(self.lots.iter().all(|lot| lot.stage == LotStage::Unsuccessful));
            }
            TenderStage::Cancelled => assert!(!self.lots.iter().any(running)),
        }
        for lot in &self.lots {
            assert_eq!(lot.seq > 0, self.published_at.is_some(), "steps begin with the publication");
            lot.check_invariants(self.bidders.len());
            for (bidder, _) in lot.book.iter() {
                let disqualified = self.bidders[bidder.index()].status == BidderStatus::Disqualified;
                let ended = matches!(lot.stage, LotStage::Awarded | LotStage::Unsuccessful | LotStage::Cancelled);
                assert!(!disqualified || ended, "a disqualified bidder stands nowhere");
            }
        }
    }
}
