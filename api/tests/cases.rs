//! Runs scenarios through `simulate` and compares with what their sources state, or with the contract.
//! Knows nothing of the engine: everything is read from the output.

use std::fs;
use std::path::{Path, PathBuf};

use api::simulate::{SimulateError, run};
use serde_json::{Value, json};

fn simulate(scenario: &str) -> Result<Vec<Value>, SimulateError> {
    let mut out = Vec::new();
    run(scenario, &mut out)?;
    let text = String::from_utf8(out).expect("output is UTF-8");
    Ok(text.lines().map(|line| serde_json::from_str(line).expect(line)).collect())
}

/// The answer to an input line.
fn answer(output: &[Value], line: u64) -> &Value {
    output.iter().find(|value| value["line"] == line).unwrap_or_else(|| panic!("no answer to line {line}"))
}

/// The result of a lot.
fn result<'a>(output: &'a [Value], lot: &str) -> &'a Value {
    let of_lot = |value: &&Value| value["result"]["lot"] == lot;
    &output.iter().find(of_lot).unwrap_or_else(|| panic!("no result of {lot}"))["result"]
}

/// The events of a lot as `seq type`.
fn events(output: &[Value], lot: &str) -> Vec<String> {
    let steps = output.iter().filter(|value| value["lot"] == lot && value.get("ev").is_some());
    steps
        .flat_map(|step| {
            let events = step["ev"].as_array().expect("a list of events");
            events.iter().map(|event| format!("{} {}", step["seq"], event["type"].as_str().expect("a type")))
        })
        .collect()
}

fn check(name: &str, output: &[Value], expect: &Value) {
    for (line, wanted) in expect["lines"].as_object().expect("lines") {
        let given = answer(output, line.parse().expect("a line number"));
        for (field, value) in wanted.as_object().expect("fields") {
            match (field.as_str(), value) {
                ("ok", Value::Bool(true)) => assert!(given.get("ok").is_some(), "{name} line {line}: {given}"),
                ("refused", Value::Bool(true)) => {
                    assert!(given.get("refused").is_some(), "{name} line {line}: {given}")
                }
                ("refused", code) => assert_eq!(&given["refused"], code, "{name} line {line}: {given}"),
                ("max_next", next) => {
                    let next_given = given.get("max_next").unwrap_or(&given["ok"]["max_next"]);
                    assert_eq!(next_given, next, "{name} line {line}: {given}");
                }
                (other, _) => panic!("{name}: nothing is known about {other}"),
            }
        }
    }
    for (lot, wanted) in expect["results"].as_object().expect("results") {
        let given = result(output, lot);
        let ranking = given["ranking"].as_array().expect("a ranking");
        for (field, value) in wanted.as_object().expect("fields") {
            let of_bidders = |member: &str| {
                for (bidder, wanted) in value.as_object().expect("by bidder") {
                    let row = ranking.iter().find(|row| row["bidder"] == *bidder);
                    let row = row.unwrap_or_else(|| panic!("{name} {lot}: {bidder} is not ranked"));
                    assert_eq!(&row[member], wanted, "{name} {lot} {bidder} {member}");
                }
            };
            match field.as_str() {
                "order" => {
                    let mut rows: Vec<&Value> = ranking.iter().collect();
                    rows.sort_by_key(|row| row["award_rank"].as_u64());
                    let order: Vec<&Value> = rows.iter().map(|row| &row["bidder"]).collect();
                    assert_eq!(json!(order), *value, "{name} {lot}");
                }
                "prices" => of_bidders("price"),
                "effective" => of_bidders("effective"),
                "ranks" => of_bidders("rank"),
                "tied" => of_bidders("tied"),
                "at" => of_bidders("at"),
                "stage" | "winner" | "pays" | "opened_at" | "closed_at" | "extensions" => {
                    assert_eq!(&given[field], value, "{name} {lot} {field}");
                }
                "flags_has" | "flags_lacks" => {
                    let flags = given["flags"].as_array().expect("flags");
                    for flag in value.as_array().expect("a list of flags") {
                        assert_eq!(flags.contains(flag), field == "flags_has", "{name} {lot} {flag}");
                    }
                }
                other => panic!("{name}: nothing is known about {other}"),
            }
        }
    }
}

fn scenarios() -> Vec<PathBuf> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/cases");
    let files = fs::read_dir(folder).expect("the folder of cases").map(|entry| entry.expect("an entry").path());
    let mut scenarios: Vec<PathBuf> =
        files.filter(|path| path.extension().is_some_and(|ext| ext == "jsonl")).collect();
    scenarios.sort();
    scenarios
}

#[test]
fn every_case_ends_as_its_source_states() {
    let scenarios = scenarios();
    assert_eq!(scenarios.len(), 25, "all cases are found");
    for path in scenarios {
        let name = path.file_stem().expect("a name").to_string_lossy().into_owned();
        let scenario = fs::read_to_string(&path).expect(&name);
        let expect = fs::read_to_string(path.with_extension("expect.json")).expect(&name);
        let expect: Value = serde_json::from_str(&expect).expect(&name);
        let output = simulate(&scenario).unwrap_or_else(|error| panic!("{name}: {error}"));
        check(&name, &output, &expect);
    }
}

#[test]
fn the_same_scenario_gives_the_same_bytes() {
    for path in scenarios() {
        let scenario = fs::read_to_string(&path).expect("a scenario");
        let (mut first, mut second) = (Vec::new(), Vec::new());
        run(&scenario, &mut first).expect("it runs");
        run(&scenario, &mut second).expect("it runs");
        assert!(!first.is_empty() && first == second, "{}", path.display());
    }
}

/// A scenario with one lot under `rules`, bidders A and B, opened at 10:00:00; `lines` follow from line 6 on.
/// A line is `seconds do rest`: `5.000 bid "lot":"L1",…`.
fn story(rules: &str, lines: &str) -> String {
    let mut text = format!(
        r#"{{"at":"2024-01-01T10:00:00.000Z","do":"create_tender","tender":"T","body":{{"title":"T","currency":"EUR","lots":[{{"alias":"L1","title":"L1","rules":{{{rules}}}}}]}}}}
{{"at":"2024-01-01T10:00:00.000Z","do":"admit","tender":"T","bidder":"A","body":{{}}}}
{{"at":"2024-01-01T10:00:00.000Z","do":"admit","tender":"T","bidder":"B"}}
{{"at":"2024-01-01T10:00:00.000Z","do":"publish","tender":"T"}}
{{"at":"2024-01-01T10:00:00.000Z","do":"start","tender":"T"}}
"#
    );
    for line in lines.lines() {
        let line = line.trim();
        match line.split_once(' ').map(|(second, rest)| (second, rest.split_once(' ').unwrap_or((rest, "")))) {
            None => text.push('\n'),
            Some((second, (kind, rest))) => {
                let comma = if rest.is_empty() { "" } else { "," };
                text.push_str(&format!("{{\"at\":\"2024-01-01T10:{second}Z\",\"do\":\"{kind}\"{comma}{rest}}}\n"));
            }
        }
    }
    text
}

const MINUTE: &str = r#""format":"english","duration_s":60"#;

#[test]
fn an_auction_is_told_in_answers_events_and_a_result() {
    let output = simulate(&story(
        &format!(r#"{MINUTE},"ceiling":"100.00","overtime":{{"window_s":10,"length_s":10,"trigger":"any"}}"#),
        r#"00:01.000 bid "lot":"L1","bidder":"A","price":"95"
           00:52.000 bid "lot":"L1","bidder":"B","price":"94.5"
           01:01.999 bid "lot":"L1","bidder":"B","price":"94.5"
           01:02.000 bid "lot":"L1","bidder":"A","price":"90"
           01:03.000 award "lot":"L1","bidder":"A"
           01:04.000 award_reject "lot":"L1","bidder":"B","reason":"no papers"
           01:05.000 award "lot":"L1","bidder":"A""#,
    ))
    .expect("it runs");
    let bid = &answer(&output, 6)["ok"];
    assert_eq!((&bid["price"], &bid["rank"], &bid["max_next"]), (&json!("95.00"), &json!(1), &json!("94.99")));
    assert_eq!(answer(&output, 8), &json!({"line": 8, "refused": "not_improved", "max_next": "94.49"}));
    assert_eq!(answer(&output, 9), &json!({"line": 9, "refused": "lot_closed", "max_next": null}));
    assert_eq!(answer(&output, 10), &json!({"line": 10, "refused": "reason_required"}));
    assert_eq!(answer(&output, 12)["ok"], json!({"lot": "L1", "stage": "awarded", "pays": "95.00", "seq": 7}));
    let wanted = ["2 opened", "3 bid", "4 bid", "4 extended", "5 closed", "6 rejected", "7 awarded"];
    assert_eq!(events(&output, "L1"), wanted);
    let extension = output.iter().find(|value| value["seq"] == 4).expect("step 4");
    let wanted =
        json!({"type": "extended", "closes_at": "2024-01-01T10:01:02.000Z", "added_s": 2, "reason": "overtime"});
    assert_eq!(extension["ev"][1], wanted);
    let wanted = json!({
        "lot": "L1", "stage": "awarded", "opened_at": "2024-01-01T10:00:00.000Z", "closed_at": "2024-01-01T10:01:02.000Z",
        "extensions": 1, "winner": "A", "pays": "95.00", "flags": [],
        "ranking": [
            {"bidder": "B", "price": "94.50", "effective": "94.50", "rank": 1, "award_rank": 1, "tied": false,
             "at": "2024-01-01T10:00:52.000Z", "rejected": true},
            {"bidder": "A", "price": "95.00", "effective": "95.00", "rank": 2, "award_rank": 2, "tied": false,
             "at": "2024-01-01T10:00:01.000Z"}
        ]
    });
    assert_eq!(result(&output, "L1"), &wanted);
}

#[test]
fn what_has_no_upper_limit_says_so() {
    let output =
        simulate(&story(MINUTE, r#"00:01.000 bid "lot":"L1","bidder":"A","price":"-1""#)).expect("it runs");
    let wanted = json!({"line": 6, "refused": "price_not_positive", "max_next": null, "max_next_unlimited": true});
    assert_eq!(answer(&output, 6), &wanted);
}

#[test]
fn an_outage_takes_nothing_and_gives_time_afterwards() {
    let output = simulate(&story(
        &format!(r#"{MINUTE},"outage_grace_s":30"#),
        r#"00:50.000 outage "seconds":40
           01:59.999 bid "lot":"L1","bidder":"A","price":"90"
           02:00.000 bid "lot":"L1","bidder":"B","price":"80""#,
    ))
    .expect("it runs");
    assert!(answer(&output, 7).get("ok").is_some());
    assert_eq!(answer(&output, 8)["refused"], "lot_closed");
    assert_eq!(events(&output, "L1"), ["2 opened", "3 extended", "4 bid", "5 closed"]);
    let extension = output.iter().find(|value| value["seq"] == 3).expect("step 3");
    assert_eq!(extension["at"], "2024-01-01T10:01:30.000Z");
    assert_eq!(extension["ev"][0]["closes_at"], "2024-01-01T10:02:00.000Z");
    assert_eq!(result(&output, "L1")["extensions"], 0);
}

#[test]
fn the_end_stops_the_clock_and_the_reading() {
    let output = simulate(&story(MINUTE, "00:59.999 end\n           this is no JSON"))
        .expect("lines after the end are ignored");
    assert_eq!(answer(&output, 6), &json!({"line": 6, "ok": {}}));
    assert_eq!(result(&output, "L1")["stage"], "open");
    assert_eq!(result(&output, "L1")["closed_at"], Value::Null);
}

#[test]
fn blank_lines_are_counted_and_skipped() {
    let output = simulate(&story(MINUTE, "\n\n00:01.000 pause \"tender\":\"T\"")).expect("it runs");
    assert_eq!(answer(&output, 8), &json!({"line": 8, "refused": "reason_required"}));
}

#[test]
fn buyers_pause_resume_extend_void_disqualify_and_cancel() {
    let output = simulate(&story(
        MINUTE,
        r#"00:01.000 bid "lot":"L1","bidder":"A","price":"90"
           00:02.000 pause "tender":"T","reason":"question"
           00:12.000 extend "tender":"T","seconds":5,"reason":"answer","lot":"L1"
           00:12.000 resume "tender":"T","reason":"answered"
           00:13.000 void "lot":"L1","bidder":"A","reason":"typing error"
           00:13.000 void "lot":"L1","bidder":"A","reason":"typing error"
           00:14.000 disqualify "tender":"T","bidder":"B","reason":"collusion"
           00:15.000 bid "lot":"L1","bidder":"B","price":"90"
           00:16.000 cancel "tender":"T","reason":"not needed""#,
    ))
    .expect("it runs");
    assert_eq!(answer(&output, 11)["refused"], "bid_not_found");
    assert_eq!(answer(&output, 13)["refused"], "not_admitted");
    let wanted =
        ["2 opened", "3 bid", "4 paused", "5 extended", "6 resumed", "7 voided", "8 disqualified", "9 cancelled"];
    assert_eq!(events(&output, "L1"), wanted);
    let given = result(&output, "L1");
    assert_eq!(
        (&given["stage"], &given["closed_at"], &given["winner"]),
        (&json!("cancelled"), &Value::Null, &Value::Null)
    );
}

#[test]
fn an_anonymous_tender_goes_by_name_in_rehearsals() {
    let lines = [
        r#"00.000Z","do":"create_tender","tender":"T","body":{"title":"t","currency":"EUR","access":"invited","anonymous_to_buyer":true,"opens_at":"2024-01-01T10:00:10.000Z","lots":[{"alias":"L1","title":"l","rules":{"format":"sealed","duration_s":30,"prebid":"allowed"}}]}}"#,
        r#"00.000Z","do":"admit","tender":"T","bidder":"A","body":{}}"#,
        r#"00.000Z","do":"admit","tender":"T","bidder":"B","body":{}}"#,
        r#"00.000Z","do":"admit","tender":"T","bidder":"C","body":{}}"#,
        r#"00.000Z","do":"publish","tender":"T"}"#,
        r#"01.000Z","do":"bid","lot":"L1","bidder":"A","price":"90"}"#,
        r#"02.000Z","do":"bid","lot":"L1","bidder":"B","price":"80"}"#,
        r#"03.000Z","do":"disqualify","tender":"T","bidder":"C","reason":"x"}"#,
        r#"11.000Z","do":"bid","lot":"L1","bidder":"B","price":"70"}"#,
        r#"50.000Z","do":"award","lot":"L1","bidder":"B"}"#,
    ];
    let text: String = lines.iter().map(|line| format!("{{\"at\":\"2024-01-01T10:00:{line}\n")).collect();
    let output = simulate(&text).expect("it runs");
    for line in 1..=10 {
        assert!(answer(&output, line).get("ok").is_some(), "{:?}", answer(&output, line));
    }
    assert_eq!(events(&output, "L1"), ["2 disqualified", "3 opened", "4 closed", "4 bid", "4 bid", "5 awarded"]);
    let given = result(&output, "L1");
    assert_eq!((&given["winner"], &given["pays"]), (&json!("B"), &json!("70.00")));
}

#[test]
fn a_lot_that_fails_at_its_opening_never_opened() {
    let output = simulate(&story(&format!(r#"{MINUTE},"min_bidders":3"#), "")).expect("it runs");
    assert_eq!(events(&output, "L1"), ["2 unsuccessful"]);
    let given = result(&output, "L1");
    assert_eq!(given["opened_at"], Value::Null);
    assert_eq!(given["closed_at"], "2024-01-01T10:00:00.000Z");
}

#[test]
fn rules_that_are_invalid_are_refused_and_the_rest_of_the_story_has_no_tender() {
    let unsupported = [
        r#""format":"sealed","duration_s":60,"improvement":"lead""#,
        r#""format":"dutch","dutch":{"start":"1","step":"1","interval_s":5}"#,
        r#""format":"japanese","japanese":{"start":"9","step":"1","interval_s":5,"floor":"10"}"#,
        r#""format":"rounds","rounds":{},"prebid":"allowed""#,
        r#""format":"english","duration_s":60,"all_or_nothing":true,"award":"automatic""#,
        r#""format":"english""#,
        r#""format":"auction","duration_s":60"#,
    ];
    for rules in unsupported {
        let lines = r#"00:01.000 bid "lot":"L1","bidder":"A","price":"90""#;
        let output = simulate(&story(rules, lines)).expect("it runs");
        assert_eq!(answer(&output, 1)["refused"], "invalid_rules", "{rules}");
        let error = &answer(&output, 1)["errors"][0];
        assert!(
            error["pointer"].as_str().is_some_and(|pointer| pointer.starts_with("/lots/0/rules")),
            "{rules}: {error}"
        );
        assert_eq!(answer(&output, 4)["refused"], "tender_not_found", "{rules}");
        assert_eq!(answer(&output, 6)["refused"], "lot_not_found", "{rules}");
        assert!(output.iter().all(|value| value.get("result").is_none()), "{rules}");
    }
}

#[test]
fn names_that_nobody_introduced_are_refused_by_the_engine() {
    let output = simulate(&story(
        MINUTE,
        r#"00:01.000 bid "lot":"L2","bidder":"A","price":"90"
           00:01.000 bid "lot":"L1","bidder":"C","price":"90"
           00:01.000 publish "tender":"U"
           00:01.000 extend "tender":"T","lot":"L9","seconds":5,"reason":"why"
           00:01.000 disqualify "tender":"T","bidder":"C","reason":"why"
           00:01.000 void "lot":"L1","bidder":"C","reason":"why""#,
    ))
    .expect("it runs");
    // Who is no bidder does not even see the lots of a tender that is neither public nor open.
    let refused: Vec<&Value> = (6..12).map(|line| &answer(&output, line)["refused"]).collect();
    let wanted = [
        "lot_not_found",
        "lot_not_found",
        "tender_not_found",
        "lot_not_found",
        "bidder_not_found",
        "bid_not_found",
    ];
    assert_eq!(json!(refused), json!(wanted));
    assert_eq!(answer(&output, 6)["max_next"], Value::Null);
}

#[test]
fn a_line_that_cannot_be_read_stops_the_run() {
    let cases = [
        ("00:01.000 bid nonsense", "key must be a string"),
        (r#"00:01.000 sing "tender":"T""#, r#"/do: there is no "sing""#),
        (r#"00:01.000 bid "lot":"L1","bidder":"A""#, "/price: missing field `price`"),
        (r#"00:01.000 bid "lot":"L1","bidder":"A","price":90"#, "/price: invalid type: integer `90`"),
        (r#"00:01.000 bid "lot":"L1","bidder":"A","price":"90","prize":"1""#, "/prize: there is no such field"),
        (r#"00:01.000 bid "lot":"L1","bidder":"A","price":"90","reason":"x""#, "/reason: there is no such field"),
        (r#"00:01.000 auto_bid "lot":"L1","bidder":"A""#, "/limit: missing field `limit`"),
        (r#"00:01.000 accept "lot":"L1","bidder":"A""#, "/step: missing field `step`"),
        (r#"00:01.000 extend "tender":"T","reason":"x""#, "/seconds: missing field `seconds`"),
        (r#"00:01.000 outage "seconds":0"#, "/seconds: an outage lasts"),
        (r#"00:01.00x end "#, "/at: invalid value"),
        (
            r#"00:01.000 create_tender "tender":"T","body":{"title":"T","currency":"EUR","lots":[]}"#,
            "a tender \"T\" already",
        ),
        (
            r#"00:01.000 create_tender "tender":"U","body":{"title":"T","currency":"EUR","lots":[{"alias":"L1","title":"L","rules":{"format":"english"}}]}"#,
            "a lot \"L1\" already",
        ),
        (
            r#"00:01.000 create_tender "tender":"U","body":{"title":"T","lots":[]}"#,
            "body/currency: missing field `currency`",
        ),
    ];
    for (line, reason) in cases {
        let error = simulate(&story(MINUTE, line)).expect_err(line);
        let SimulateError::Line { line: number, reason: given } = &error else { panic!("{line}: {error}") };
        assert_eq!(*number, 6, "{line}");
        assert!(given.contains(reason), "{line}: {given}");
        assert!(error.to_string().starts_with("line 6: "), "{error}");
    }
}

#[test]
fn time_never_runs_backwards_nor_lies_inside_an_outage() {
    let reason = |lines: &str| {
        let error = simulate(&story(MINUTE, lines)).expect_err(lines);
        match error {
            SimulateError::Line { line: 7, reason } => reason,
            other => panic!("{lines}: {other}"),
        }
    };
    let backwards = reason("00:01.000 publish \"tender\":\"T\"\n00:00.999 publish \"tender\":\"T\"");
    assert_eq!(backwards, "`at` runs backwards from 2024-01-01T10:00:01.000Z");
    let inside = reason("00:01.000 outage \"seconds\":10\n00:10.999 publish \"tender\":\"T\"");
    assert_eq!(inside, "`at` lies inside an outage that ends 2024-01-01T10:00:11.000Z");
    let last = simulate(&story(MINUTE, "00:01.000 outage \"seconds\":10\n00:11.000 publish \"tender\":\"T\""));
    assert_eq!(answer(&last.expect("the end of an outage is outside"), 7)["refused"], "wrong_stage");
}

#[test]
fn a_file_is_read_or_the_reason_told() {
    let folder = tempfile::tempdir().expect("a folder");
    let missing = folder.path().join("missing.jsonl");
    let error = api::simulate::run_file(&missing, &mut Vec::new()).expect_err("no such file");
    assert!(matches!(error, SimulateError::Read(_)) && error.to_string().contains("missing.jsonl"), "{error}");
    let broken = folder.path().join("broken.jsonl");
    fs::write(&broken, b"\n\xff\n").expect("a file");
    let error = api::simulate::run_file(&broken, &mut Vec::new()).expect_err("no text");
    assert_eq!(error.to_string(), "line 2: this is no UTF-8 text");
}
