//! Turns the twin's commands into the engine's, and what the engine says and shows into the twin's words.

use std::collections::BTreeMap;

use engine::{
    Access, Action, AdjustmentSpec, Answer, AwardMode, BidderNumber, BidderRef, BufferSpec, Changed, Command,
    Decimal, DecrementRow, DecrementSpec, DutchSpec, Engine, Envelope, Event as Seen, FeatureSpec, FeatureValue,
    Format, Improvement, JapaneseSpec, Key, LeadVisibility, Light, LogTime, LotMode, LotSpec, MaxNext,
    OrganisationId, OvertimeMode, OvertimeScope, OvertimeSpec, OvertimeTrigger, PhaseNow, Prebid, Price, Reply,
    RequestId, ReserveSpec, RoundsSpec, RulesSpec, SealedPricing, SealedSpec, Sink, Step as Made, Tender,
    TenderSpec, TieRank,
};

use super::generate::tender_id;
use crate::twin::{
    Amount, Ask, BidAsk, Event, Format as TwinFormat, Happened, Highest, LotPlan, Named, Org, Plan, Ranks, Said,
    Sent, Shown, Step, Twin,
};
use crate::watch::Watch;

/// Ways to make rules invalid.
pub const INVALID: [&str; 16] = [
    "lead_hidden",
    "no_duration",
    "zero_duration",
    "negative_ceiling",
    "no_row_from_zero",
    "caps",
    "decision",
    "weights",
    "sealed_ties",
    "dutch_auto_bid",
    "dutch_without_ceiling",
    "dutch_from_above",
    "japanese_features",
    "rounds_by_lead",
    "rounds_prebid_allowed",
    "staggered_rounds",
];

/// By tender the ids of its bidders, in order of the engine's numbers.
type Drawn = BTreeMap<u64, Vec<RequestId>>;

/// The twin's number of a bidder that has this number in the engine. Only the twin tells: whoever asked first may be
/// admitted last, and several in one millisecond.
fn twin_number(drawn: &Drawn, twin: &Twin, tender: u64, number: BidderNumber) -> u16 {
    let id = drawn.get(&tender).and_then(|ids| ids.get(usize::from(number.0).checked_sub(1)?));
    let tender = twin.tenders.iter().find(|other| other.id == tender);
    let known = id.zip(tender).map(|(id, tender)| admitted(tender, *id));
    known.unwrap_or(number.0)
}

/// The twin's number of a bidder.
fn admitted(tender: &crate::twin::Tender, id: RequestId) -> u16 {
    let place = tender.bidders.iter().position(|bidder| RequestId(bidder.id.into()) == id);
    place.expect("a bidder was admitted") as u16 + 1
}

#[derive(Default)]
pub struct Comparison {
    /// The answers, each with the numbers as they were drawn then.
    replies: Vec<(Reply, Drawn)>,
    drawn: Drawn,
    /// The steps, each with its tender, the scale of its prices, and the numbers as they were drawn then.
    steps: Vec<(u64, u8, Made, Drawn)>,
    /// Looks at every step by itself.
    watch: Watch,
    /// What everybody may see of a lot, as of its last step.
    public: BTreeMap<(u64, u16), Public>,
    numbers: BTreeMap<u128, u64>,
    versions: BTreeMap<u64, u32>,
    /// How often each answer and each event came, to see that the commands reach everything.
    pub tally: BTreeMap<String, usize>,
}

#[derive(Clone, Debug, PartialEq)]
struct Public {
    stage: &'static str,
    opens_at: Option<LogTime>,
    closes_at: Option<LogTime>,
    extensions: u32,
    lead: Option<(BidderNumber, Price)>,
    board: Vec<(BidderNumber, Price)>,
    bidder_count: usize,
    reserve_met: Option<bool>,
    phase: Option<PhaseNow>,
}

impl Public {
    fn of(lot: &engine::Lot) -> Self {
        let mut board: Vec<_> =
            lot.ranking().map(|ranked| (ranked.standing.bidder, ranked.standing.price)).collect();
        let lead = board.first().copied();
        board.sort();
        Self {
            stage: lot.stage.word(),
            opens_at: lot.opens_at(),
            closes_at: lot.closes_at(),
            extensions: lot.extensions,
            lead,
            board,
            bidder_count: lot.bidder_count(),
            reserve_met: lot.reserve_met(),
            phase: lot.phase(),
        }
    }

    /// Everything that differs must be marked as changed.
    fn check(&self, new: &Self, changed: Changed) {
        let pairs = [
            (self.stage != new.stage, changed.stage, "stage"),
            (self.opens_at != new.opens_at, changed.opens_at, "opens_at"),
            (self.closes_at != new.closes_at, changed.closes_at, "closes_at"),
            (self.extensions != new.extensions, changed.extensions, "extensions"),
            (self.lead != new.lead, changed.lead, "lead"),
            (self.board != new.board, changed.board, "board"),
            (self.bidder_count != new.bidder_count, changed.bidder_count, "bidder_count"),
            (self.reserve_met != new.reserve_met, changed.reserve_met, "reserve_met"),
            (self.phase != new.phase, changed.phase, "phase"),
        ];
        for (differs, marked, name) in pairs {
            assert!(marked || !differs, "{name} changed unmarked from {self:?} to {new:?}");
        }
    }
}

fn organisation(org: Org) -> OrganisationId {
    OrganisationId(u128::from(org))
}

/// The decimal of an amount, written as short as it can be.
fn decimal(amount: Amount) -> Decimal {
    let (mut mantissa, mut scale) = (amount, 9u8);
    while scale > 0 && mantissa % 10 == 0 {
        mantissa /= 10;
        scale -= 1;
    }
    Decimal { mantissa: i64::try_from(mantissa).expect("amounts of the test are small"), scale }
}

/// The amount of a price of the engine.
fn amount(price: Price, scale: u8) -> Amount {
    Amount::from(price.0) * 10i128.pow(9 - u32::from(scale))
}

fn highest(next: MaxNext, scale: u8) -> Highest {
    match next {
        MaxNext::None => Highest::None,
        MaxNext::Unlimited => Highest::Unlimited,
        MaxNext::At(price) => Highest::At(amount(price, scale)),
    }
}

fn ranks(ranks: engine::Ranks) -> Ranks {
    Ranks { rank: ranks.rank.into(), award_rank: ranks.award_rank.into(), tied: ranks.tied }
}

fn thousandths(percent: i128) -> Decimal {
    Decimal { mantissa: percent as i64, scale: 3 }
}

fn rules(plan: &LotPlan) -> RulesSpec {
    let mut rules = RulesSpec::default(Format::English);
    match &plan.format {
        TwinFormat::English => {}
        TwinFormat::Sealed { second_price } => {
            rules.format = Format::Sealed;
            let pricing = if *second_price { SealedPricing::Second } else { SealedPricing::First };
            rules.sealed = Some(SealedSpec { pricing });
        }
        TwinFormat::Dutch { start, step, interval_s } => {
            rules.format = Format::Dutch;
            rules.dutch =
                Some(DutchSpec { start: decimal(*start), step: decimal(*step), interval_s: *interval_s });
        }
        TwinFormat::Japanese { start, step, interval_s, floor } => {
            rules.format = Format::Japanese;
            rules.japanese = Some(JapaneseSpec {
                start: decimal(*start),
                step: decimal(*step),
                interval_s: *interval_s,
                floor: decimal(*floor),
            });
        }
        TwinFormat::Rounds { count, turn_s, pause_s, lead_in_s, announce_s } => {
            rules.format = Format::Rounds;
            rules.rounds = Some(RoundsSpec {
                count: *count as i64,
                turn_s: *turn_s,
                pause_s: *pause_s,
                lead_in_s: *lead_in_s,
                announce_s: *announce_s,
            });
        }
    }
    rules.duration_s = plan.has_duration().then_some(plan.duration_s);
    rules.prebid = Prebid::from_word(plan.prebid).expect("a word");
    rules.auto_bid = plan.auto_bid;
    rules.near_percent = thousandths(plan.near);
    rules.decision_s = plan.decision_s;
    rules.all_or_nothing = plan.all_or_nothing;
    rules.features =
        plan.features.iter().map(|(id, max)| FeatureSpec { id: id.clone(), max: decimal(*max) }).collect();
    rules.price_scale = Some(plan.scale.into());
    rules.ceiling = plan.ceiling.map(decimal);
    rules.floor = plan.floor.map(decimal);
    rules.reserve = plan.reserve.map(|price| ReserveSpec { price: decimal(price), shown: false });
    rules.improvement = Improvement::from_word(plan.improvement).expect("a word");
    rules.buffer = plan.buffer.map(|(front, back)| BufferSpec { front: decimal(front), back: decimal(back) });
    rules.decrement = match &plan.step {
        Step::Unit => None,
        Step::Amount(step) => Some(DecrementSpec::Amount(decimal(*step))),
        Step::Percent(percent) => Some(DecrementSpec::Percent(thousandths(*percent))),
        Step::Table(rows) => {
            let row =
                |(from, step): &(Amount, Amount)| DecrementRow { from: decimal(*from), step: decimal(*step) };
            Some(DecrementSpec::Table(rows.iter().map(row).collect()))
        }
    };
    rules.tick = plan.tick.map(decimal);
    rules.max_step = plan.max_step.map(decimal);
    if plan.is_english() || plan.is_rounds() {
        rules.guard_percent = plan.guard.map(thousandths);
    }
    rules.tie_rank = TieRank::from_word(plan.tie_rank).expect("a word");
    rules.tie_free_ranks = plan.tie_free_ranks as i64;
    rules.max_bids = plan.max_bids.map(|most| most as i64);
    rules.min_bidders = plan.min_bidders.map(|least| least as i64);
    rules.overtime = plan.overtime.as_ref().map(|overtime| OvertimeSpec {
        mode: OvertimeMode::from_word(overtime.mode).expect("a word"),
        trigger: OvertimeTrigger::from_word(overtime.trigger).expect("a word"),
        rank: overtime.rank as i64,
        first_bid_triggers: overtime.first_bid_triggers,
        max_count: overtime.max_count.map(i64::from),
        max_total_s: overtime.max_total_s,
        scope: OvertimeScope::from_word(overtime.scope).expect("a word"),
        ..OvertimeSpec::default(overtime.window_s, overtime.length_s)
    });
    rules.visibility.rank = plan.shows_rank;
    rules.visibility.lead = LeadVisibility::from_word(plan.shows_lead).expect("a word");
    rules.award = if plan.automatic_award { AwardMode::Automatic } else { AwardMode::Manual };
    rules.outage_grace_s = plan.grace_s;
    rules.max_view_age = plan.max_view_age.map(|age| age as i64);
    rules
}

fn spec(plan: &Plan) -> TenderSpec {
    let lot = |lot: &LotPlan| LotSpec { title: "lot".to_owned(), items: Vec::new(), rules: rules(lot) };
    let mut spec = TenderSpec {
        title: plan.title.clone(),
        description: String::new(),
        reference: String::new(),
        currency: "SAR".to_owned(),
        currency_exponent: 2,
        access: if plan.open_access { Access::Open } else { Access::Invited },
        public: plan.public,
        opens_at: plan.opens_at.map(LogTime),
        terms: plan.terms.then(|| "pay".to_owned()),
        lot_mode: LotMode::from_word(plan.lot_mode).expect("a word"),
        stagger_s: plan.stagger_s,
        stagger_follows: plan.stagger_follows,
        serial_gap_s: plan.gap_s,
        anonymous_to_buyer: plan.anonymous,
        lots: plan.lots.iter().map(lot).collect(),
    };
    if let Some(way) = plan.invalid {
        make_invalid(&mut spec, way);
    }
    spec
}

/// Replaces the rules of the last lot by some that must be refused.
fn make_invalid(spec: &mut TenderSpec, way: &str) {
    let whole = |mantissa| Decimal { mantissa, scale: 0 };
    let format = match way.split('_').next() {
        Some("sealed") => Format::Sealed,
        Some("dutch") => Format::Dutch,
        Some("japanese") => Format::Japanese,
        Some("rounds") => Format::Rounds,
        _ => Format::English,
    };
    let mut rules = RulesSpec::default(format);
    match format {
        Format::English | Format::Sealed => rules.duration_s = Some(60),
        Format::Dutch => {
            rules.ceiling = Some(whole(100));
            rules.dutch = Some(DutchSpec { start: whole(50), step: whole(5), interval_s: 5 });
        }
        Format::Japanese => {
            rules.japanese =
                Some(JapaneseSpec { start: whole(50), step: whole(5), interval_s: 5, floor: whole(10) });
        }
        Format::Rounds => rules.prebid = Prebid::Required,
    }
    match way {
        "lead_hidden" => {
            rules.improvement = Improvement::Lead;
            rules.visibility.lead = LeadVisibility::Never;
        }
        "no_duration" => rules.duration_s = None,
        "zero_duration" => rules.duration_s = Some(0),
        "negative_ceiling" => rules.ceiling = Some(whole(-5)),
        "no_row_from_zero" => {
            rules.decrement = Some(DecrementSpec::Table(vec![DecrementRow { from: whole(1), step: whole(1) }]));
        }
        "caps" => {
            rules.overtime =
                Some(OvertimeSpec { max_count: Some(2), max_total_s: Some(20), ..OvertimeSpec::default(10, 10) });
        }
        "decision" => {
            rules.decision_s = Some(60);
            rules.award = AwardMode::Automatic;
        }
        "weights" => {
            let feature = |id: &str| FeatureSpec { id: id.to_owned(), max: Decimal { mantissa: 16, scale: 2 } };
            rules.features = vec![feature("one"), feature("other")];
        }
        "sealed_ties" => rules.tie_free_ranks = 1,
        "dutch_auto_bid" => rules.auto_bid = true,
        "dutch_without_ceiling" => rules.ceiling = None,
        "dutch_from_above" => rules.ceiling = Some(whole(40)),
        "japanese_features" => {
            rules.features = vec![FeatureSpec { id: "one".to_owned(), max: Decimal { mantissa: 1, scale: 1 } }];
        }
        "rounds_by_lead" => rules.improvement = Improvement::Lead,
        "rounds_prebid_allowed" => rules.prebid = Prebid::Allowed,
        "staggered_rounds" => {
            let timed = spec.lots.last().is_some_and(|lot| lot.rules.duration_s.is_some());
            spec.lot_mode = LotMode::Staggered;
            spec.serial_gap_s = 0;
            if timed {
                rules = RulesSpec::default(Format::Dutch);
                rules.ceiling = Some(whole(100));
                rules.dutch = Some(DutchSpec { start: whole(50), step: whole(5), interval_s: 5 });
            } else {
                return;
            }
        }
        other => panic!("no such way: {other}"),
    }
    spec.lots.last_mut().expect("a tender has lots").rules = rules;
}

fn bidder(named: Named) -> BidderRef {
    match named {
        Named::Id(id) => BidderRef::Id(RequestId(id.into())),
        Named::Number(number) => BidderRef::Number(number),
    }
}

impl Comparison {
    /// The engine's form of a command.
    pub fn command(&mut self, sent: &Sent) -> Command {
        let envelope = Envelope {
            at: LogTime(sent.at),
            organisation: organisation(sent.from),
            request: RequestId(sent.request.into()),
            salt: sent.salt,
            key: sent.key.map(|(key, body)| Key { scoped: u128::from(key) << 64 | 0xABCD, body }),
            ..Envelope::default()
        };
        Command { envelope, action: self.action(&sent.ask), secret: None }
    }

    fn action(&mut self, ask: &Ask) -> Action {
        let lot_id = |tender: u64, lot: u16| tender_id(tender).lot(lot);
        match ask.clone() {
            Ask::Tick => Action::Tick,
            Ask::Takeover { planned } => Action::Takeover { planned },
            Ask::Create { tender, plan } => {
                self.numbers.insert(tender_id(tender).0, tender);
                Action::CreateTender { tender: tender_id(tender), spec: Box::new(spec(&plan)) }
            }
            Ask::Update { tender, plan, right_version, .. } => {
                let version = self.versions.get(&tender).copied().unwrap_or(0) + if right_version { 0 } else { 7 };
                Action::UpdateTender { tender: tender_id(tender), spec: Box::new(spec(&plan)), version }
            }
            Ask::Publish { tender } => Action::Publish { tender: tender_id(tender) },
            Ask::Start { tender } => Action::Start { tender: tender_id(tender) },
            Ask::Pause { tender, reason } => Action::Pause { tender: tender_id(tender), reason },
            Ask::Resume { tender, reason } => Action::Resume { tender: tender_id(tender), reason },
            Ask::Cancel { tender, reason } => Action::Cancel { tender: tender_id(tender), reason },
            Ask::Extend { tender, lot, seconds, reason } => {
                Action::Extend { tender: tender_id(tender), lot, seconds, reason }
            }
            Ask::Admit { tender, who, accepted, scoring } => Action::Admit {
                tender: tender_id(tender),
                organisation: organisation(who),
                adjustments: scoring
                    .adjustments
                    .iter()
                    .map(|(lot, factor, addend)| AdjustmentSpec {
                        lot: *lot,
                        factor: factor.map(|factor| format!("{}/{}", factor.above, factor.below)),
                        addend: addend.map(decimal),
                    })
                    .collect(),
                features: scoring
                    .features
                    .into_iter()
                    .map(|(lot, id, value)| FeatureValue { lot, id, value: decimal(value) })
                    .collect(),
                accepted,
            },
            Ask::Join { tender } => Action::Join { tender: tender_id(tender) },
            Ask::Disqualify { tender, bidder: named, reason } => {
                Action::Disqualify { tender: tender_id(tender), bidder: bidder(named), reason }
            }
            Ask::Bid {
                tender,
                lot,
                bid: BidAsk { price, confirm, expires_at, seen_seq, limit, all_or_nothing },
            } => Action::Bid {
                lot: lot_id(tender, lot),
                price: price.map(decimal),
                confirm,
                expires_at: expires_at.map(LogTime),
                seen_seq,
                auto_limit: limit.map(decimal),
                all_or_nothing,
            },
            Ask::Accept { tender, lot, step } => Action::Accept { lot: lot_id(tender, lot), step },
            Ask::Limit { tender, lot, limit } => {
                Action::AutoBid { lot: lot_id(tender, lot), limit: limit.map(decimal) }
            }
            Ask::Void { tender, lot, bid, reason } => {
                Action::Void { lot: lot_id(tender, lot), bid: RequestId(bid.into()), reason }
            }
            Ask::Award { tender, lot, bidder: named, reason } => {
                Action::Award { lot: lot_id(tender, lot), bidder: bidder(named), reason }
            }
            Ask::Reject { tender, lot, bidder: named, reason } => {
                Action::RejectAward { lot: lot_id(tender, lot), bidder: bidder(named), reason }
            }
        }
    }

    /// The version of a tender, for changes of it.
    pub fn seen(&mut self, tender: u64, version: u32) {
        self.versions.insert(tender, version);
    }

    /// Compares the answers to a batch, and the steps it made.
    pub fn replies(&mut self, batch: &[Sent], told: &[(Said, bool)], twin: &mut Twin) {
        let replies = std::mem::take(&mut self.replies);
        assert_eq!(replies.len(), batch.len(), "one answer each to {batch:?}");
        for ((sent, (said, repeated)), (reply, drawn)) in batch.iter().zip(told).zip(&replies) {
            let bids = matches!(sent.ask, Ask::Bid { .. } | Ask::Accept { .. } | Ask::Limit { .. });
            let twin_of = |number: BidderNumber| twin_number(drawn, twin, subject(&sent.ask), number);
            assert_eq!(
                said_by(reply, said, bids, &twin_of),
                *said,
                "the answer (left: engine) {:?} to {sent:?}",
                reply.answer
            );
            if matches!(sent.ask, Ask::Bid { .. } | Ask::Accept { .. }) {
                self.watch.decided(reply);
            }
            let word = match said {
                Said::Refused { code, .. } => (*code).to_owned(),
                other => format!("{other:?}").split(' ').next().unwrap_or_default().to_owned(),
            };
            *self.tally.entry(word).or_default() += 1;
            assert_eq!(reply.replayed, *repeated, "whether this repeats an answer, {said:?}: {sent:?}");
            if !repeated {
                assert_eq!(
                    (reply.at, reply.request),
                    (LogTime(sent.at), RequestId(sent.request.into())),
                    "{sent:?}"
                );
            }
        }
        let steps: Vec<Happened> = std::mem::take(&mut self.steps)
            .into_iter()
            .map(|(tender, scale, step, drawn)| {
                let twin_of = |number: BidderNumber| twin_number(&drawn, twin, tender, number);
                let events = step.events.iter().map(|event| seen(event, scale, &twin_of)).collect();
                Happened { tender, lot: step.lot.number(), seq: step.seq, at: step.at.0, events }
            })
            .collect();
        let happened = std::mem::take(&mut twin.happened);
        for event in happened.iter().flat_map(|step| &step.events) {
            let word = match event {
                Event::Extended { reason, .. } => format!("event:{reason}"),
                Event::Bid { auto: true, .. } => "event:Automatic".to_owned(),
                other => format!("event:{}", format!("{other:?}").split(' ').next().unwrap_or_default()),
            };
            *self.tally.entry(word).or_default() += 1;
        }
        assert_eq!(steps, happened, "the steps (left: engine) after {batch:?}");
    }

    /// Compares everything that can be read; of tenders that are over only now and then.
    pub fn states(&mut self, twin: &Twin, engine: &Engine, everything: bool) {
        engine.check_invariants();
        if everything {
            self.watch.counts(engine);
        }
        assert_eq!(engine.next_deadline(), twin.next_deadline().map(LogTime), "the next deadline");
        assert_eq!(engine.tenders().count(), twin.tenders.len(), "how many tenders there are");
        for (tender, theirs) in twin.tenders.iter().zip(engine.tenders()) {
            let id = tender.id;
            assert_eq!(theirs.id, tender_id(id), "tenders in order of creation");
            self.versions.insert(id, theirs.version);
            assert_eq!(theirs.stage.word(), tender.stage, "the stage of tender {id}");
            if !everything && ["awarded", "unsuccessful", "cancelled"].contains(&tender.stage) {
                continue;
            }
            assert_eq!(theirs.opened(), tender.opened, "whether tender {id} has opened");
            for org in [1, 2, 10, 15, 99] {
                let visible = theirs.visible_to(Some((organisation(org), true)));
                assert_eq!(visible, tender.visible_to(org), "whether {org} sees tender {id}");
            }
            assert_eq!(theirs.bidders().len(), tender.bidders.len(), "bidders of tender {id}");
            assert_eq!(theirs.shows_names(), tender.opened && !tender.hides_names(), "who is who in tender {id}");
            assert_eq!(theirs.is_numbered(), tender.opened || !tender.plan.anonymous, "numbers of tender {id}");
            let mut bidders: Vec<_> = tender.bidders.iter().collect();
            let mut their_bidders = theirs.bidders_by_admission();
            assert!(their_bidders.is_sorted_by_key(|bidder| bidder.admitted_at), "in order of admission");
            if tender.plan.anonymous {
                // Whose numbers are drawn have no order within a millisecond.
                bidders.sort_by_key(|bidder| bidder.id);
                their_bidders.sort_by_key(|bidder| bidder.id);
            }
            for (bidder, their_bidder) in bidders.into_iter().zip(their_bidders) {
                assert_eq!(their_bidder.id, RequestId(bidder.id.into()), "the id of a bidder of tender {id}");
                assert_eq!(their_bidder.organisation, organisation(bidder.org), "whose bidder it is");
                assert_eq!(their_bidder.status.word(), bidder.status, "status of {} in tender {id}", bidder.org);
            }
            assert_eq!(theirs.lots().len(), tender.lots.len());
            for (lot, their_lot) in tender.lots.iter().zip(theirs.lots()) {
                compare_lot(tender, lot, theirs, their_lot);
            }
        }
    }
}

fn compare_lot(tender: &crate::twin::Tender, lot: &crate::twin::Lot, theirs: &Tender, their_lot: &engine::Lot) {
    let name = format!("lot {} of tender {}", lot.number, tender.id);
    let scale = their_lot.rules().price_scale;
    let twin_of = |number: BidderNumber| admitted(tender, theirs.bidders()[number.index()].id);
    assert_eq!(u32::from(scale), lot.plan.scale, "the scale of {name}");
    assert_eq!(their_lot.stage.word(), lot.stage, "the stage of {name}");
    assert_eq!(their_lot.seq, lot.seq, "the seq of {name}");
    assert_eq!(their_lot.closes_at(), lot.closes_at(&tender.plan).map(LogTime), "the end of {name}");
    assert_eq!(their_lot.opens_at(), lot.opens_at(tender).map(LogTime), "when {name} opens");
    assert_eq!(their_lot.opened_at(), lot.opened_at.map(LogTime), "when {name} opened");
    assert_eq!(their_lot.closed_at(), lot.closed_at.map(LogTime), "when {name} closed");
    assert_eq!(their_lot.extensions, lot.extensions, "the extensions of {name}");
    assert_eq!(their_lot.bidder_count(), lot.standing.len(), "the bidder count of {name}");
    assert_eq!(their_lot.reserve_met(), lot.reserve_met(), "whether the reserve of {name} is met");
    assert_eq!(their_lot.decisions().len(), lot.decisions, "how many decisions {name} has");
    let phase = their_lot.phase();
    let runs = phase.map(|phase| (phase.bidder.map(twin_of), phase.price.map(|price| amount(price, scale))));
    let wanted = lot.phase.as_ref().map(|phase| {
        let ladder = ["step", "level"].contains(&phase.kind);
        ((phase.kind == "turn").then_some(phase.bidder), ladder.then_some(phase.price))
    });
    assert_eq!(runs, wanted, "the phase of {name}");
    if lot.stage == "open" {
        let ends = phase.and_then(|phase| phase.ends_at);
        assert_eq!(ends, lot.phase.as_ref().map(|phase| LogTime(phase.ends)), "when the phase of {name} ends");
    }
    let their_ranking: Vec<_> = their_lot
        .ranking()
        .map(|ranked| {
            let s = ranked.standing;
            let shown = amount(s.effective, scale);
            (twin_of(s.bidder), s.bid, amount(s.price, scale), shown, s.at, s.seq, s.rejected, ranks(ranked.ranks))
        })
        .collect();
    let ranking: Vec<_> = lot
        .ranking()
        .into_iter()
        .map(|s| {
            let ranks = lot.ranks_of(s.bidder).expect("it stands");
            let shown = lot.worth(&s).round_to(lot.plan.unit());
            (s.bidder, RequestId(s.bid.into()), s.price, shown, LogTime(s.at), s.seq, s.rejected, ranks)
        })
        .collect();
    assert_eq!(their_ranking, ranking, "the ranking (left: engine) of {name}");
    assert_eq!(
        their_lot.lead().map(|lead| twin_of(lead.bidder)),
        ranking.first().map(|first| first.0),
        "the lead of {name}"
    );
    for bidder in theirs.bidders() {
        let index = usize::from(twin_of(bidder.number)) - 1;
        // A lot alone does not know that this bidder is the tender's own buyer, who may never bid.
        if bidder.organisation != theirs.buyer {
            let next = highest(their_lot.max_next(bidder), scale);
            assert_eq!(
                next,
                tender.highest_next(lot, index),
                "max_next (left: engine) of bidder {} in {name}",
                index + 1
            );
        }
        let standing = their_lot.standing(bidder.number).map(|standing| amount(standing.price, scale));
        assert_eq!(
            standing,
            lot.standing_of(twin_of(bidder.number)).map(|s| s.price),
            "what bidder {} stands at",
            index + 1
        );
        let who = twin_of(bidder.number);
        assert_eq!(their_lot.ranks(bidder.number).map(ranks), lot.ranks_of(who), "ranks in {name}");
        assert_eq!(
            their_lot.light(bidder.number).map(Light::word),
            lot.light(who),
            "the light of {who} in {name}"
        );
        let limit = their_lot.own_limit(bidder.number).map(|limit| amount(limit, scale));
        // What a bidder is told of its own secrets after the end is nobody's business here.
        let runs_or_waits = ["pending", "open", "paused"].contains(&lot.stage);
        let limit = limit.filter(|_| runs_or_waits);
        assert_eq!(limit, lot.limit_of(who).map(|limit| limit.price), "the limit of {who} in {name}");
        let own = their_lot.own_standing(bidder.number).map(|(price, at)| (amount(price, scale), at.0));
        let own = own.filter(|_| runs_or_waits);
        assert_eq!(own, lot.own_standing(who).filter(|_| runs_or_waits), "what {who} knows to stand at in {name}");
        let is_in =
            (lot.plan.is_japanese() && ["open", "paused"].contains(&lot.stage)).then(|| lot.inside.contains(&who));
        assert_eq!(their_lot.is_in(bidder.number), is_in, "whether {who} is in in {name}");
    }
    let (result, outcome) = (their_lot.result(), lot.outcome());
    assert_eq!(result.winner.map(twin_of), outcome.winner, "the winner of {name}");
    assert_eq!(result.pays.map(|price| amount(price, scale)), outcome.pays, "what the winner of {name} is paid");
    assert_eq!(result.abnormally_low, outcome.abnormally_low, "whether the winner of {name} is abnormally low");
    assert_eq!(result.stage, their_lot.stage);
    assert_eq!(result.ranking, their_lot.ranking().collect::<Vec<_>>());
    assert_eq!((result.opened_at, result.closed_at), (their_lot.opened_at(), their_lot.closed_at()));
}

/// What the engine said, in the twin's words; `wanted` tells which of the engine's details it has no words for.
fn said_by(reply: &Reply, wanted: &Said, bids: bool, twin_of: &dyn Fn(BidderNumber) -> u16) -> Said {
    match &reply.answer {
        Answer::Done => Said::Done,
        Answer::Refused(refused) => {
            let reused = refused.refusal.code() == "idempotency_key_reused";
            let shown = refused.lot.filter(|_| bids && !reused).map(|_| Shown {
                seq: refused.seq,
                closes_at: refused.closes_at.map(|at| at.0),
                next: highest(refused.max_next, refused.price_scale),
            });
            Said::Refused { code: refused.refusal.code(), shown }
        }
        Answer::InvalidRules(errors) => {
            assert!(!errors.is_empty() && errors.iter().all(|error| error.pointer.starts_with('/')), "{errors:?}");
            Said::Refused { code: "invalid_rules", shown: None }
        }
        Answer::Bid(bid) => Said::Bid {
            bidder: twin_of(bid.bidder),
            price: amount(bid.price, bid.price_scale),
            seq: bid.seq,
            ranks: bid.ranks.map(ranks),
            next: highest(bid.max_next, bid.price_scale),
        },
        Answer::Withdrawn(gone) => {
            Said::Withdrawn { seq: gone.seq, next: highest(gone.max_next, gone.price_scale) }
        }
        Answer::Limit(limit) => Said::Limit { seq: limit.seq, next: highest(limit.max_next, limit.price_scale) },
        Answer::Tender(tender) => Said::Tender { stage: tender.stage.word() },
        Answer::Bidder(bidder) => Said::Bidder {
            number: bidder.number.map(twin_of),
            org: bidder.organisation.0 as Org,
            status: bidder.status.word(),
        },
        Answer::Voided(void) => Said::Voided {
            bidder: twin_of(void.bidder),
            price: amount(void.price, void.price_scale),
            seq: void.seq,
        },
        Answer::Award(award) => Said::Award {
            stage: award.stage.word(),
            bidder: twin_of(award.bidder),
            pays: award.pays.map(|price| amount(price, award.price_scale)),
            seq: award.seq,
        },
        other => panic!("the engine said {other:?}, the twin {wanted:?}"),
    }
}

/// The tender that a command is about.
fn subject(ask: &Ask) -> u64 {
    match ask {
        Ask::Create { tender, .. }
        | Ask::Update { tender, .. }
        | Ask::Publish { tender }
        | Ask::Start { tender }
        | Ask::Pause { tender, .. }
        | Ask::Resume { tender, .. }
        | Ask::Cancel { tender, .. }
        | Ask::Extend { tender, .. }
        | Ask::Admit { tender, .. }
        | Ask::Join { tender }
        | Ask::Disqualify { tender, .. }
        | Ask::Bid { tender, .. }
        | Ask::Accept { tender, .. }
        | Ask::Limit { tender, .. }
        | Ask::Void { tender, .. }
        | Ask::Award { tender, .. }
        | Ask::Reject { tender, .. } => *tender,
        Ask::Tick | Ask::Takeover { .. } => 0,
    }
}

impl Sink for Comparison {
    fn reply(&mut self, position: usize, reply: &Reply) {
        assert_eq!(position, self.replies.len(), "answers come in order");
        self.replies.push((reply.clone(), self.drawn.clone()));
    }

    fn step(&mut self, tender: &Tender, lot: &engine::Lot, step: &Made) {
        assert_eq!((lot.id, lot.seq), (step.lot, step.seq), "the state is as of the step");
        self.watch.step(tender, lot, step);
        let number = self.numbers[&tender.id.0];
        let scale = lot.rules().price_scale;
        let mut drawn = Drawn::new();
        if tender.spec().anonymous_to_buyer {
            let ids: Vec<RequestId> = tender.bidders().iter().map(|bidder| bidder.id).collect();
            self.drawn.insert(number, ids.clone());
            drawn.insert(number, ids);
        }
        self.steps.push((number, scale, step.clone(), drawn));
        let new = Public::of(lot);
        if let Some(old) = self.public.insert((number, lot.number), new.clone()) {
            old.check(&new, step.changed);
        }
    }
}

fn seen(event: &Seen, scale: u8, twin_of: &dyn Fn(BidderNumber) -> u16) -> Event {
    match event {
        Seen::Opened => Event::Opened,
        Seen::Bid { bidder, price, lead, auto } => {
            Event::Bid { bidder: twin_of(*bidder), price: amount(*price, scale), lead: *lead, auto: *auto }
        }
        Seen::Voided { bidder, reason } => Event::Voided { bidder: twin_of(*bidder), reason: reason.to_string() },
        Seen::Extended { closes_at, added_ms, reason } => {
            Event::Extended { closes_at: closes_at.map(|at| at.0), added_ms: *added_ms, reason: reason.word() }
        }
        Seen::Paused { reason } => Event::Paused { reason: reason.to_string() },
        Seen::Resumed { reason, closes_at } => {
            Event::Resumed { reason: reason.to_string(), closes_at: closes_at.0 }
        }
        Seen::Disqualified { bidder } => Event::Disqualified { bidder: bidder.map_or(0, twin_of) },
        Seen::Withdrawn { bidder } => Event::Withdrawn { bidder: twin_of(*bidder) },
        Seen::Turn { round, turn, bidder, ends_at } => Event::Turn {
            round: usize::from(*round),
            turn: usize::from(*turn),
            bidder: twin_of(*bidder),
            ends_at: ends_at.0,
        },
        Seen::Step { step, price, ends_at } => {
            Event::Step { step: *step, price: amount(*price, scale), ends_at: ends_at.0 }
        }
        Seen::Level { step, price, ends_at } => {
            Event::Level { step: *step, price: amount(*price, scale), ends_at: ends_at.0 }
        }
        Seen::Out { bidder } => Event::Out { bidder: twin_of(*bidder) },
        Seen::Closed => Event::Closed,
        Seen::Awarded { bidder, price } => {
            Event::Awarded { bidder: twin_of(*bidder), price: amount(*price, scale) }
        }
        Seen::Rejected { bidder } => Event::Rejected { bidder: twin_of(*bidder) },
        Seen::Unsuccessful => Event::Unsuccessful,
        Seen::Cancelled { reason } => Event::Cancelled { reason: reason.to_string() },
    }
}
