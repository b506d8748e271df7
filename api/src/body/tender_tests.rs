//! Tests of tender bodies: defaults, round trips, patches. Drives nothing but the bodies.

use proptest::prelude::*;
use serde_json::{Value, json};

use super::*;
use engine::{DecrementSpec, OvertimeSpec, ReserveSpec, RulesSpec};

const EXAMPLE: &str = r#"{ "title": "Front bumper, Hilux 2021", "description": "", "reference": "RFQ-17", "currency": "SAR",
  "access": "invited", "public": false, "opens_at": null, "terms": "text or null",
  "lot_mode": "parallel", "stagger_s": 0, "stagger_follows": true, "serial_gap_s": 0, "anonymous_to_buyer": false,
  "lots": [ { "title": "Bumper", "items": [ {"description": "OEM 52119-0K", "quantity": "2", "unit": "piece"} ],
              "rules": { "format": "english", "duration_s": 600, "ceiling": "1000.00", "reserve": {"price": "700.00", "shown": false},
                         "improvement": "own", "decrement": {"kind": "amount", "value": "5.00"}, "guard_percent": "30",
                         "overtime": {"window_s": 120, "length_s": 120, "mode": "reset", "trigger": "lead", "max_count": null, "max_total_s": 3600},
                         "visibility": {"lead": "always", "rank": true, "board": false, "light": false, "bidder_count": true},
                         "prebid": "none", "min_bidders": 1, "auto_bid": false, "award": "manual" } } ] }"#;

fn small(rules: &str) -> TenderSpec {
    let body = format!(r#"{{"title":"T","currency":"SAR","lots":[{{"title":"L","rules":{rules}}}]}}"#);
    TenderBody::parse(body.as_bytes()).expect("a valid body").to_spec()
}

fn filled(spec: &TenderSpec) -> Value {
    serde_json::to_value(TenderBody::filled(spec)).expect("a body is JSON")
}

#[test]
fn the_example_of_the_contract_is_read_and_echoed() {
    let spec = TenderBody::parse(EXAMPLE.as_bytes()).expect("the example").to_spec();
    let echo = filled(&spec);
    let sent: Value = serde_json::from_str(EXAMPLE).expect("the example");
    for (name, value) in sent.as_object().expect("an object") {
        if name != "lots" {
            assert_eq!(&echo[name], value, "{name}");
        }
    }
    let rules = &echo["lots"][0]["rules"];
    for (name, value) in sent["lots"][0]["rules"].as_object().expect("an object") {
        let wanted = merge_patch(rules[name].clone(), value.clone());
        // Merging what was sent into the echo changes nothing, except that the patch drops members that are null.
        let drop_nulls = |value: &Value| merge_patch(json!({}), value.clone());
        assert_eq!(drop_nulls(&rules[name]), drop_nulls(&wanted), "{name}");
    }
}

#[test]
fn what_was_left_out_comes_back_with_its_default() {
    let echo = filled(&small(
        r#"{"format":"english","duration_s":60,"ceiling":"1000","overtime":{"window_s":1,"length_s":2}}"#,
    ));
    assert_eq!(echo["access"], "invited");
    assert_eq!(echo["stagger_follows"], true);
    let rules = &echo["lots"][0]["rules"];
    let wanted = json!({
        "format": "english", "duration_s": 60, "price_scale": 2, "ceiling": "1000.00", "floor": null, "reserve": null,
        "improvement": "own", "buffer": null, "decrement": {"kind": "amount", "value": "0.01"}, "tick": null, "max_step": null,
        "guard_percent": "30", "tie_rank": "by_time", "tie_free_ranks": 0, "max_bids": null, "min_bidders": 1,
        "overtime": {"window_s": 1, "length_s": 2, "mode": "reset", "trigger": "lead", "rank": 1, "first_bid_triggers": false,
                     "max_count": null, "max_total_s": null, "scope": "lot"},
        "visibility": {"lead": "always", "rank": true, "board": false, "light": false, "adjustments": false, "bidder_count": true},
        "near_percent": "3", "prebid": "none", "auto_bid": false, "award": "manual", "decision_s": null, "outage_grace_s": 120,
        "max_view_age": null, "all_or_nothing": false, "features": [], "max_weight_sum": null
    });
    assert_eq!(rules, &wanted);
}

#[test]
fn a_guard_of_null_is_off_and_an_absent_one_is_the_default() {
    let guard = |rules: &str| small(rules).lots[0].rules.guard_percent;
    assert_eq!(guard(r#"{"format":"english","guard_percent":null}"#), None);
    assert_eq!(guard(r#"{"format":"english"}"#), Some(Decimal { mantissa: 30, scale: 0 }));
}

#[test]
fn currencies_know_their_digits() {
    let digits = |code| currency_exponent(code);
    assert_eq!([digits("SAR"), digits("JPY"), digits("KWD"), digits("XXX"), digits("???")], [2, 0, 3, 2, 2]);
}

#[test]
fn a_patch_keeps_what_it_does_not_name_and_lets_defaults_follow() {
    let spec = small(r#"{"format":"english","duration_s":60}"#);
    let patched = TenderBody::patch(
        &spec,
        br#"{"currency":"JPY","access":"open","terms":"T","opens_at":"2026-01-01T00:00:00+03:00"}"#,
    );
    let patched = patched.expect("a valid patch").to_spec();
    assert_eq!(patched.terms.as_deref(), Some("T"));
    let echo = filled(&patched);
    assert_eq!(echo["lots"][0]["rules"]["price_scale"], 0);
    assert_eq!(echo["lots"][0]["rules"]["min_bidders"], 0);
    assert_eq!(echo["opens_at"], "2025-12-31T21:00:00.000Z");

    let again =
        TenderBody::patch(&patched, br#"{"terms":null,"opens_at":null,"access":null}"#).expect("valid").to_spec();
    assert_eq!((again.terms, again.opens_at, again.access), (None, None, engine::Access::Invited));

    let refused = |patch: &str| {
        let error = TenderBody::patch(&spec, patch.as_bytes()).expect_err(patch);
        (error.code(), error.pointer().to_owned())
    };
    assert_eq!(refused(r#"{"titel":"x"}"#), ("unknown_field", "/titel".to_owned()));
    assert_eq!(refused(r#"{"title":null}"#), ("malformed", "/title".to_owned()));
    assert_eq!(refused(r#"{"lots":{}}"#), ("malformed", "/lots".to_owned()));
    assert_eq!(refused("[]"), ("malformed", String::new()));
}

#[test]
fn aliases_are_for_rehearsals_only() {
    let body =
        r#"{"title":"T","currency":"SAR","lots":[{"title":"L","rules":{"format":"english"},"alias":null}]}"#;
    let error = TenderBody::parse(body.as_bytes()).expect_err("an alias");
    assert_eq!(error, BodyError::UnknownField { pointer: "/lots/0/alias".to_owned() });
}

#[test]
fn a_secret_reserve_is_hidden_and_a_shown_one_is_not() {
    for (shown, wanted) in [(false, Value::Null), (true, json!({"price": "7.00", "shown": true}))] {
        let spec = small(&format!(r#"{{"format":"english","reserve":{{"price":"7","shown":{shown}}}}}"#));
        let mut body = TenderBody::filled(&spec);
        body.hide_reserves();
        assert_eq!(serde_json::to_value(body).expect("JSON")["lots"][0]["rules"]["reserve"], wanted);
    }
}

fn decimal() -> impl Strategy<Value = Decimal> {
    (0i64..10_000_000, 0u8..4).prop_map(|(mantissa, scale)| Decimal { mantissa, scale })
}

prop_compose! {
    fn rules()(
        format in prop::sample::select(engine::Format::WORDS),
        (duration_s, price_scale, max_bids, min_bidders) in any::<(Option<i64>, Option<u8>, Option<i64>, Option<i64>)>(),
        (ceiling, floor, tick, guard) in (prop::option::of(decimal()), prop::option::of(decimal()), prop::option::of(decimal()), prop::option::of(decimal())),
        reserve in prop::option::of((decimal(), any::<bool>())),
        decrement in prop::option::of(prop_oneof![
            decimal().prop_map(DecrementSpec::Amount),
            decimal().prop_map(DecrementSpec::Percent),
            prop::collection::vec((decimal(), decimal()), 0..4).prop_map(|rows| DecrementSpec::Table(
                rows.into_iter().map(|(from, step)| engine::DecrementRow { from, step }).collect())),
        ]),
        overtime in prop::option::of(any::<(i64, i64, bool, Option<i64>)>()),
        improvement in prop::sample::select(engine::Improvement::WORDS),
        lead in prop::sample::select(engine::LeadVisibility::WORDS),
        (board, auto_bid, outage_grace_s) in any::<(bool, bool, i64)>(),
    ) -> RulesSpec {
        let mut rules = RulesSpec::default(engine::Format::from_word(format).expect("a word"));
        rules.duration_s = duration_s;
        rules.price_scale = price_scale.map(i64::from);
        rules.max_bids = max_bids;
        rules.min_bidders = min_bidders;
        rules.ceiling = ceiling;
        rules.floor = floor;
        rules.tick = tick;
        rules.guard_percent = guard;
        rules.reserve = reserve.map(|(price, shown)| ReserveSpec { price, shown });
        rules.decrement = decrement;
        rules.overtime = overtime.map(|(window_s, length_s, first, max)| OvertimeSpec {
            first_bid_triggers: first, max_count: max, ..OvertimeSpec::default(window_s, length_s)
        });
        rules.improvement = engine::Improvement::from_word(improvement).expect("a word");
        rules.visibility.lead = engine::LeadVisibility::from_word(lead).expect("a word");
        rules.visibility.board = board;
        rules.auto_bid = auto_bid;
        rules.outage_grace_s = outage_grace_s;
        rules
    }
}

prop_compose! {
    fn tender()(
        lots in prop::collection::vec((rules(), ".{0,8}"), 1..4),
        (title, terms) in (".{0,20}", prop::option::of(".{0,20}")),
        currency in prop::sample::select(vec!["SAR", "JPY", "KWD", "???"]),
        opens_at in prop::option::of(0i64..4_000_000_000_000),
        (public, open) in any::<(bool, bool)>(),
    ) -> TenderSpec {
        TenderSpec {
            title,
            description: String::new(),
            reference: String::new(),
            currency: currency.to_owned(),
            currency_exponent: currency_exponent(currency),
            access: if open { engine::Access::Open } else { engine::Access::Invited },
            public,
            opens_at: opens_at.map(engine::LogTime),
            terms,
            lot_mode: engine::LotMode::Parallel,
            stagger_s: 0,
            stagger_follows: true,
            serial_gap_s: 0,
            anonymous_to_buyer: false,
            lots: lots.into_iter().map(|(rules, title)| LotSpec { title, items: Vec::new(), rules }).collect(),
        }
    }
}

fn through_json(body: &TenderBody) -> TenderSpec {
    let text = serde_json::to_vec(body).expect("a body is JSON");
    TenderBody::parse(&text).expect("what was written can be read").to_spec()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(128))]

    #[test]
    fn a_specification_survives_the_way_through_json(spec in tender()) {
        prop_assert_eq!(through_json(&TenderBody::from_spec(&spec)), spec.clone());
        prop_assert_eq!(TenderBody::patch(&spec, b"{}").expect("nothing to change").to_spec(), spec.clone());
        // Filling in defaults and scales is done once and for all.
        let filled = TenderBody::filled(&spec);
        prop_assert_eq!(TenderBody::filled(&through_json(&filled)), filled);
    }

    #[test]
    fn no_bytes_make_the_reader_panic(bytes in prop::collection::vec(any::<u8>(), 0..200), text in "[\\[\\]{}\":,a-z0-9.`~/-]{0,80}") {
        let _ = TenderBody::parse(&bytes);
        let _ = TenderBody::parse(text.as_bytes());
    }
}

/// Whether the engine takes this specification.
fn is_valid(spec: TenderSpec) -> Result<(), String> {
    use engine::{Action, Answer, Command, Engine, Entry, Envelope, Reply, Sink, TenderId};
    #[derive(Default)]
    struct Said(Option<Answer>);
    impl Sink for Said {
        fn reply(&mut self, _: usize, reply: &Reply) {
            self.0 = Some(reply.answer.clone());
        }
    }
    let action = Action::CreateTender { tender: TenderId::new(1 << 70), spec: Box::new(spec) };
    let commands = vec![Command { envelope: Envelope::default(), action, secret: None }];
    let mut said = Said::default();
    Engine::new().apply(&Entry { index: 1, commands }, &mut said);
    match said.0 {
        Some(Answer::Tender(_)) => Ok(()),
        other => Err(format!("{other:?}")),
    }
}

#[test]
fn what_an_answer_tells_may_be_sent_again() {
    let rules = [
        r#"{"format":"english","duration_s":60}"#,
        r#"{"format":"english","duration_s":60,"improvement":"free","guard_percent":null}"#,
        r#"{"format":"english","duration_s":60,"improvement":"lead","decrement":{"kind":"percent","value":"0.5"}}"#,
        r#"{"format":"english","duration_s":60,"improvement":"own_and_buffer","buffer":{"front":"1","back":"0"}}"#,
        r#"{"format":"english","duration_s":60,"price_scale":0,"tick":"5","max_step":"50","ceiling":"100","floor":"10"}"#,
        r#"{"format":"english","duration_s":60,"decrement":{"kind":"table","rows":[{"from":"0","step":"1"}]},"max_bids":3}"#,
        r#"{"format":"english","duration_s":60,"overtime":{"window_s":5,"length_s":5},"award":"automatic","reserve":{"price":"9","shown":true}}"#,
    ];
    for rules in rules {
        let spec = small(rules);
        assert_eq!(is_valid(spec.clone()), Ok(()), "{rules}");
        let again = through_json(&TenderBody::filled(&spec));
        assert_eq!(is_valid(again), Ok(()), "the echo of {rules}");
    }
}

#[test]
fn a_lot_tells_the_decrement_that_its_tender_tells() {
    for rules in [
        r#"{"format":"english","duration_s":60}"#,
        r#"{"format":"english","duration_s":60,"decrement":{"kind":"amount","value":"5"}}"#,
        r#"{"format":"english","duration_s":60,"decrement":{"kind":"percent","value":"0.5"}}"#,
        r#"{"format":"english","duration_s":60,"decrement":{"kind":"table","rows":[{"from":"0","step":"3"}]}}"#,
    ] {
        let spec = small(rules);
        let of_lot = crate::body::DecrementBody::effective(spec.lots[0].rules.decrement.as_ref(), 2);
        let of_lot = serde_json::to_value(of_lot).expect("JSON");
        assert_eq!(of_lot, filled(&spec)["lots"][0]["rules"]["decrement"], "{rules}");
    }
}
