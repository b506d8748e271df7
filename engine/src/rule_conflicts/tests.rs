//! Every combination of rules that may not go together, and what is advised instead: put in, it is taken.

use std::collections::BTreeSet;

use super::*;
use crate::rules::compile_tender;
use crate::{
    Access, BufferSpec, Decimal, DecrementRow, DecrementSpec, DutchSpec, FeatureSpec, JapaneseSpec, LotMode,
    LotSpec, OvertimeSpec, RULES, ReserveSpec, RoundsSpec, SealedPricing, SealedSpec, TenderSpec, TieRank,
};

const FORMATS: [Format; 5] = [Format::English, Format::Sealed, Format::Dutch, Format::Japanese, Format::Rounds];

fn amount(text: &str) -> Decimal {
    Decimal::parse(text).unwrap_or_else(|| panic!("{text} is no decimal"))
}

fn japanese() -> JapaneseSpec {
    JapaneseSpec { start: amount("90"), step: amount("5"), interval_s: 10, floor: amount("20") }
}

fn dutch() -> DutchSpec {
    DutchSpec { start: amount("50"), step: amount("5"), interval_s: 10 }
}

fn feature(max: &str) -> Vec<FeatureSpec> {
    vec![FeatureSpec { id: "warranty".into(), max: amount(max) }]
}

/// Valid rules of a format, with nothing that need not be there.
fn plain(format: Format) -> RulesSpec {
    let mut spec = RulesSpec::default(format);
    match format {
        Format::English | Format::Sealed => spec.duration_s = Some(600),
        Format::Dutch => (spec.dutch, spec.ceiling) = (Some(dutch()), Some(amount("100"))),
        Format::Japanese => spec.japanese = Some(japanese()),
        Format::Rounds => {}
    }
    spec
}

/// What a specification of one lot gets; pointers begin at the rules.
fn errors(rules: &RulesSpec) -> Vec<RuleError> {
    let spec = TenderSpec {
        title: "parts".into(),
        description: String::new(),
        reference: String::new(),
        currency: "EUR".into(),
        currency_exponent: 2,
        access: Access::Invited,
        public: false,
        opens_at: None,
        terms: None,
        lot_mode: LotMode::Parallel,
        stagger_s: 0,
        stagger_follows: true,
        serial_gap_s: 0,
        anonymous_to_buyer: false,
        lots: vec![LotSpec { title: "lot".into(), items: vec![], rules: rules.clone() }],
    };
    let cut = |error: RuleError| {
        let pointer = error.pointer.strip_prefix("/lots/0/rules").expect("it is about the rules").to_owned();
        RuleError { pointer, ..error }
    };
    compile_tender(&spec).err().unwrap_or_default().into_iter().map(cut).collect()
}

/// The value that an advice names first; none: leave the rule out.
fn advised(valid: &str) -> Option<&str> {
    let first = valid.split(", or").next().expect("there is a first part");
    if first == "an empty list" || first.starts_with("no ") {
        return None;
    }
    if first.starts_with("an object") || first.starts_with("a positive decimal") {
        return Some("1");
    }
    if first.starts_with("a decimal string from 0") {
        return Some("0");
    }
    if let Some(range) = first.strip_prefix("a decimal string above ") {
        return range.split(" and up to ").nth(1);
    }
    if let Some(range) = first.strip_prefix("an integer from ") {
        return range.split(' ').next();
    }
    if first.ends_with("digits behind the point") {
        return Some("1");
    }
    let bound = first.strip_prefix("at most ").or_else(|| first.strip_prefix("at least "));
    bound.map_or(Some(first), |bound| bound.split(' ').next())
}

/// Puts the advised value of an error into the rules.
fn heed(spec: &mut RulesSpec, error: &RuleError) {
    let value = advised(&error.valid);
    let number = || value.map(|value| value.parse::<i64>().unwrap_or_else(|_| panic!("{error:?}")));
    let decimal = || value.map(amount);
    let flag = || value == Some("true");
    let left_out = RulesSpec::default(spec.format);
    let overtime = spec.overtime.as_mut();
    match error.pointer.as_str() {
        "/duration_s" => spec.duration_s = number(),
        "/price_scale" => spec.price_scale = number(),
        "/ceiling" => spec.ceiling = decimal(),
        "/floor" => spec.floor = decimal(),
        "/reserve/price" => spec.reserve.as_mut().expect("it is wrong").price = decimal().expect("a price"),
        "/improvement" => {
            spec.improvement = Improvement::from_word(value.expect("a word")).expect("a known word");
        }
        "/buffer" => {
            let buffer = BufferSpec { front: amount("1"), back: amount("1") };
            spec.buffer = value.map(|_| buffer);
        }
        "/buffer/front" => spec.buffer.as_mut().expect("it is wrong").front = decimal().expect("an amount"),
        "/decrement" => spec.decrement = None,
        "/decrement/value" => {
            let value = decimal().expect("a value");
            spec.decrement = Some(match spec.decrement {
                Some(DecrementSpec::Percent(_)) => DecrementSpec::Percent(value),
                _ => DecrementSpec::Amount(value),
            });
        }
        "/tick" => spec.tick = decimal(),
        "/max_step" => spec.max_step = decimal(),
        "/guard_percent" => spec.guard_percent = decimal(),
        "/near_percent" => spec.near_percent = decimal().expect("a percentage"),
        "/tie_free_ranks" => spec.tie_free_ranks = number().expect("a number"),
        "/max_bids" => spec.max_bids = number(),
        "/min_bidders" => spec.min_bidders = number(),
        "/overtime" => spec.overtime = None,
        "/overtime/window_s" => overtime.expect("it is wrong").window_s = number().expect("a number"),
        "/overtime/length_s" => overtime.expect("it is wrong").length_s = number().expect("a number"),
        "/overtime/rank" => overtime.expect("it is wrong").rank = number().expect("a number"),
        "/overtime/max_count" => overtime.expect("it is wrong").max_count = number(),
        "/overtime/max_total_s" => overtime.expect("it is wrong").max_total_s = number(),
        "/visibility/lead" => {
            spec.visibility.lead = LeadVisibility::from_word(value.expect("a word")).expect("a known word");
        }
        "/visibility/adjustments" => spec.visibility.adjustments = flag(),
        "/prebid" => spec.prebid = Prebid::from_word(value.expect("a word")).expect("a known word"),
        "/auto_bid" => spec.auto_bid = flag(),
        "/all_or_nothing" => spec.all_or_nothing = flag(),
        "/decision_s" => spec.decision_s = number(),
        "/outage_grace_s" => spec.outage_grace_s = number().expect("a number"),
        "/max_view_age" => spec.max_view_age = number(),
        "/features" if value.is_none() => spec.features = left_out.features,
        "/features" => spec.features = feature(value.expect("a weight")),
        "/max_weight_sum" => spec.max_weight_sum = decimal(),
        "/dutch" => spec.dutch = value.map(|_| dutch()),
        "/dutch/start" => spec.dutch.as_mut().expect("it is wrong").start = decimal().expect("a price"),
        "/dutch/step" => spec.dutch.as_mut().expect("it is wrong").step = decimal().expect("a step"),
        "/dutch/interval_s" => spec.dutch.as_mut().expect("it is wrong").interval_s = number().expect("a number"),
        "/japanese" => spec.japanese = value.map(|_| japanese()),
        "/japanese/start" => spec.japanese.as_mut().expect("it is wrong").start = decimal().expect("a price"),
        "/japanese/floor" => spec.japanese.as_mut().expect("it is wrong").floor = decimal().expect("a price"),
        "/rounds" => spec.rounds = None,
        "/rounds/count" => spec.rounds.as_mut().expect("it is wrong").count = number().expect("a number"),
        "/rounds/turn_s" => spec.rounds.as_mut().expect("it is wrong").turn_s = number().expect("a number"),
        "/sealed" => spec.sealed = None,
        other => panic!("nobody knows how to heed what is said of {other}: {error:?}"),
    }
}

/// All errors at once are heeded, and the rules are taken.
fn heeded(spec: &RulesSpec, found: &[RuleError]) {
    let mut cured = spec.clone();
    for error in found {
        assert!(!error.detail.is_empty() && !error.valid.is_empty());
        heed(&mut cured, error);
    }
    assert_eq!(errors(&cured), [], "the advice {found:?} for {spec:?}");
}

/// The specifications that differ from `base` by each way of each rule.
fn cross(base: Vec<RulesSpec>, ways: &[fn(&mut RulesSpec)]) -> Vec<RulesSpec> {
    let put = |spec: &RulesSpec, way: &fn(&mut RulesSpec)| {
        let mut spec = spec.clone();
        way(&mut spec);
        spec
    };
    base.iter().flat_map(|spec| ways.iter().map(move |way| put(spec, way))).collect()
}

fn overtime(spec: &mut RulesSpec, change: impl FnOnce(&mut OvertimeSpec)) {
    let mut overtime = OvertimeSpec::default(60, 60);
    change(&mut overtime);
    spec.overtime = Some(overtime);
}

#[test]
fn every_combination_is_taken_or_refused_by_one_row_a_rule_whose_advice_is_taken() {
    let same: fn(&mut RulesSpec) = |_| {};
    let rules: [&[fn(&mut RulesSpec)]; 9] = [
        &[
            same,
            |spec| spec.improvement = Improvement::Lead,
            |spec| spec.improvement = Improvement::OwnAndBuffer,
            |spec| spec.improvement = Improvement::Free,
        ],
        &[same, |spec| spec.visibility.lead = LeadVisibility::AfterOwnBid],
        &[same, |spec| spec.buffer = Some(BufferSpec { front: amount("1"), back: amount("2") })],
        &[same, |spec| spec.max_step = Some(amount("9"))],
        &[same, |spec| spec.award = AwardMode::Automatic],
        &[same, |spec| (spec.decision_s, spec.all_or_nothing) = (Some(9), true)],
        &[same, |spec| spec.prebid = Prebid::Allowed, |spec| spec.prebid = Prebid::Required],
        &[
            same,
            |spec| spec.features = feature("0.1"),
            |spec| spec.max_weight_sum = Some(amount("0.2")),
            |spec| (spec.max_weight_sum, spec.features) = (Some(amount("0.2")), feature("0.1")),
        ],
        &[
            same,
            |spec| overtime(spec, |it| it.rank = 2),
            |spec| overtime(spec, |it| (it.rank, it.trigger) = (2, OvertimeTrigger::Rank)),
            |spec| overtime(spec, |it| (it.max_count, it.max_total_s) = (Some(2), Some(120))),
            |spec| overtime(spec, |it| (it.max_count, it.max_total_s) = (Some(2), Some(119))),
        ],
    ];
    let mut specs: Vec<RulesSpec> = FORMATS.into_iter().map(plain).collect();
    for ways in rules {
        specs = cross(specs, ways);
    }
    assert_eq!(specs.len(), 5 * 4 * 2 * 2 * 2 * 2 * 2 * 3 * 4 * 5);
    let mut taken = BTreeSet::new();
    for spec in &specs {
        let found = conflicts(spec);
        let pointers: BTreeSet<&str> = found.iter().map(|error| error.pointer.as_str()).collect();
        assert_eq!(pointers.len(), found.len(), "two rows for one rule: {found:?}");
        assert_eq!(errors(spec), found, "what the table says is what is told");
        match found.is_empty() {
            true => drop(taken.insert(spec.format.word())),
            false => heeded(spec, &found),
        }
    }
    assert_eq!(taken.len(), 5, "in every format something is taken");
}

/// Sets a rule, in the way of its kind, to something that it isn't when it is left out.
fn set(spec: &mut RulesSpec, rule: &str) {
    match rule {
        "format" => {}
        "duration_s" => spec.duration_s = Some(60),
        "price_scale" => spec.price_scale = Some(3),
        "ceiling" => spec.ceiling = Some(amount("100")),
        "floor" => spec.floor = Some(amount("1")),
        "reserve" | "reserve.price" => spec.reserve = Some(ReserveSpec { price: amount("60"), shown: false }),
        "reserve.shown" => spec.reserve = Some(ReserveSpec { price: amount("60"), shown: true }),
        "improvement" => spec.improvement = Improvement::Free,
        "buffer" | "buffer.front" | "buffer.back" => {
            spec.buffer = Some(BufferSpec { front: amount("1"), back: amount("1") });
            spec.improvement = Improvement::OwnAndBuffer;
        }
        "decrement" | "decrement.kind" | "decrement.value" => {
            spec.decrement = Some(DecrementSpec::Amount(amount("2")));
        }
        "decrement.rows" | "decrement.rows.from" | "decrement.rows.step" => {
            let row = DecrementRow { from: amount("0"), step: amount("1") };
            spec.decrement = Some(DecrementSpec::Table(vec![row]));
        }
        "tick" => spec.tick = Some(amount("5")),
        "max_step" => spec.max_step = Some(amount("9")),
        "guard_percent" => spec.guard_percent = Some(amount("20")),
        "tie_rank" => spec.tie_rank = TieRank::Worst,
        "tie_free_ranks" => spec.tie_free_ranks = 2,
        "max_bids" => spec.max_bids = Some(3),
        "min_bidders" => spec.min_bidders = Some(2),
        "overtime.rank" => overtime(spec, |it| (it.rank, it.trigger) = (2, OvertimeTrigger::Rank)),
        "overtime.max_count" => overtime(spec, |it| it.max_count = Some(3)),
        "overtime.max_total_s" => overtime(spec, |it| it.max_total_s = Some(3)),
        name if name.starts_with("overtime") => overtime(spec, |it| it.first_bid_triggers = true),
        "visibility" | "visibility.lead" => spec.visibility.lead = LeadVisibility::Never,
        "visibility.rank" => spec.visibility.rank = false,
        "visibility.board" => spec.visibility.board = true,
        "visibility.light" => spec.visibility.light = true,
        "visibility.adjustments" => spec.visibility.adjustments = true,
        "visibility.bidder_count" => spec.visibility.bidder_count = false,
        "near_percent" => spec.near_percent = amount("9"),
        "prebid" => spec.prebid = Prebid::Required,
        "auto_bid" => spec.auto_bid = true,
        "award" => spec.award = AwardMode::Automatic,
        "decision_s" => spec.decision_s = Some(60),
        "outage_grace_s" => spec.outage_grace_s = 60,
        "max_view_age" => spec.max_view_age = Some(6),
        "all_or_nothing" => spec.all_or_nothing = true,
        "features" | "features.id" | "features.max" => spec.features = feature("0.1"),
        "max_weight_sum" => (spec.max_weight_sum, spec.features) = (Some(amount("0.2")), feature("0.1")),
        name if name.starts_with("dutch") => spec.dutch = Some(dutch()),
        name if name.starts_with("japanese") => spec.japanese = Some(japanese()),
        name if name.starts_with("rounds") => {
            spec.rounds =
                Some(RoundsSpec { count: 2, turn_s: 60, pause_s: 60, lead_in_s: 60, announce_s: Some(60) });
        }
        name if name.starts_with("sealed") => spec.sealed = Some(SealedSpec { pricing: SealedPricing::Second }),
        other => panic!("{other} has no way to be set"),
    }
}

#[test]
fn a_rule_is_taken_in_the_formats_of_its_row_and_refused_with_advice_in_all_others() {
    for row in RULES {
        for format in FORMATS {
            let mut spec = plain(format);
            set(&mut spec, row.name);
            let found = errors(&spec);
            assert_eq!(found.is_empty(), row.formats.contains(&format), "{} in {format:?}: {found:?}", row.name);
            heeded(&spec, &found);
        }
    }
}

#[test]
fn what_left_out_means_is_taken_in_every_format() {
    for format in FORMATS {
        let mut spec = plain(format);
        assert_eq!(errors(&spec), []);
        (spec.guard_percent, spec.max_weight_sum) = (Some(amount("30.00")), Some(amount("0.3")));
        assert_eq!(errors(&spec), [], "however it is written");
        spec.guard_percent = None;
        assert_eq!(errors(&spec), [], "no guard where there is none anyway");
    }
}

/// What the contract names, and amounts that don't go together.
#[test]
fn amounts_that_do_not_go_together_are_refused_with_a_value_that_is_taken() {
    let english = |change: fn(&mut RulesSpec)| {
        let mut spec = plain(Format::English);
        change(&mut spec);
        spec
    };
    let other = |format: Format, change: fn(&mut RulesSpec)| {
        let mut spec = plain(format);
        change(&mut spec);
        spec
    };
    let wrong = [
        (english(|it| it.duration_s = None), "/duration_s"),
        (english(|it| it.duration_s = Some(0)), "/duration_s"),
        (english(|it| it.price_scale = Some(7)), "/price_scale"),
        (english(|it| it.ceiling = Some(amount("0"))), "/ceiling"),
        (english(|it| it.ceiling = Some(amount("1.001"))), "/ceiling"),
        (english(|it| it.ceiling = Some(amount("99999999999999999"))), "/ceiling"),
        (english(|it| (it.ceiling, it.floor) = (Some(amount("5")), Some(amount("6")))), "/floor"),
        (english(|it| (it.ceiling, it.tick) = (Some(amount("5")), Some(amount("6")))), "/tick"),
        (
            english(|it| {
                (it.floor, it.tick, it.ceiling) = (Some(amount("11")), Some(amount("10")), Some(amount("19")))
            }),
            "/tick",
        ),
        (
            english(|it| {
                (it.ceiling, it.reserve) =
                    (Some(amount("5")), Some(ReserveSpec { price: amount("6"), shown: true }))
            }),
            "/reserve/price",
        ),
        (
            english(|it| {
                (it.floor, it.reserve) = (Some(amount("5")), Some(ReserveSpec { price: amount("4"), shown: true }))
            }),
            "/reserve/price",
        ),
        (
            english(|it| (it.improvement, it.visibility.lead) = (Improvement::Lead, LeadVisibility::Never)),
            "/visibility/lead",
        ),
        (english(|it| it.improvement = Improvement::OwnAndBuffer), "/buffer"),
        (
            english(|it| {
                (it.max_step, it.decrement) = (Some(amount("4")), Some(DecrementSpec::Amount(amount("5"))))
            }),
            "/max_step",
        ),
        (english(|it| it.decrement = Some(DecrementSpec::Amount(amount("0")))), "/decrement/value"),
        (english(|it| it.decrement = Some(DecrementSpec::Percent(amount("101")))), "/decrement/value"),
        (english(|it| it.guard_percent = Some(amount("0"))), "/guard_percent"),
        (english(|it| it.near_percent = amount("101")), "/near_percent"),
        (english(|it| it.tie_free_ranks = -1), "/tie_free_ranks"),
        (english(|it| it.max_bids = Some(0)), "/max_bids"),
        (english(|it| it.min_bidders = Some(1_001)), "/min_bidders"),
        (english(|it| it.decision_s = Some(0)), "/decision_s"),
        (english(|it| it.outage_grace_s = -1), "/outage_grace_s"),
        (english(|it| it.max_view_age = Some(-1)), "/max_view_age"),
        (english(|it| it.features = feature("0.31")), "/features"),
        (english(|it| (it.features, it.max_weight_sum) = (feature("0.3"), Some(amount("1")))), "/max_weight_sum"),
        (english(|it| overtime(it, |it| it.window_s = 0)), "/overtime/window_s"),
        (english(|it| overtime(it, |it| it.length_s = 0)), "/overtime/length_s"),
        (english(|it| overtime(it, |it| it.max_count = Some(0))), "/overtime/max_count"),
        (
            english(|it| overtime(it, |it| (it.max_count, it.max_total_s) = (Some(3), Some(1_000)))),
            "/overtime/max_total_s",
        ),
        (
            english(|it| overtime(it, |it| (it.length_s, it.max_count, it.max_total_s) = (1, Some(1), Some(1)))),
            "/overtime/max_total_s",
        ),
        (other(Format::Sealed, |it| it.tie_free_ranks = 1), "/tie_free_ranks"),
        (other(Format::Dutch, |it| it.auto_bid = true), "/auto_bid"),
        (other(Format::Dutch, |it| it.ceiling = None), "/ceiling"),
        (other(Format::Dutch, |it| it.dutch = None), "/dutch"),
        (other(Format::Dutch, |it| it.ceiling = Some(amount("40"))), "/dutch/start"),
        (other(Format::Dutch, |it| it.dutch.as_mut().expect("dutch").interval_s = 0), "/dutch/interval_s"),
        (
            other(Format::Dutch, |it| {
                (it.ceiling, it.dutch.as_mut().expect("dutch").step) = (Some(amount("99999")), amount("0.01"))
            }),
            "/dutch/step",
        ),
        (other(Format::Japanese, |it| it.japanese = None), "/japanese"),
        (other(Format::Japanese, |it| it.features = feature("0.1")), "/features"),
        (other(Format::Japanese, |it| it.visibility.adjustments = true), "/visibility/adjustments"),
        (
            other(Format::Japanese, |it| it.japanese.as_mut().expect("japanese").floor = amount("91")),
            "/japanese/floor",
        ),
        (other(Format::Japanese, |it| it.ceiling = Some(amount("89"))), "/japanese/start"),
        (other(Format::Rounds, |it| it.improvement = Improvement::Lead), "/improvement"),
        (other(Format::Rounds, |it| it.prebid = Prebid::Allowed), "/prebid"),
        (
            other(Format::Rounds, |it| {
                it.rounds = Some(RoundsSpec { count: 0, turn_s: 60, pause_s: 0, lead_in_s: 0, announce_s: None })
            }),
            "/rounds/count",
        ),
    ];
    for (spec, pointer) in &wrong {
        let found = errors(spec);
        let pointers: Vec<&str> = found.iter().map(|error| error.pointer.as_str()).collect();
        assert_eq!(pointers, [*pointer], "{found:?}");
        heeded(spec, &found);
    }
}
