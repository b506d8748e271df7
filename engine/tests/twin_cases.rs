//! Runs the sample cases through the naive twin alone and compares with what their sources state, so that the twin
//! is judged by somebody else's numbers before it judges the engine.

#[allow(dead_code)] // The differential test uses the rest.
mod twin;

use std::collections::BTreeMap;
use std::fs;
use std::path::PathBuf;

use serde_json::{Map, Value, json};
use twin::{
    Amount, Ask, BidAsk, Format, Highest, Lot, LotPlan, Named, Org, Overtime, Plan, Ratio, Said, Scoring, Sent,
    Step, Twin,
};

const BUYER: Org = 1;
const NANO: Amount = 1_000_000_000;

/// A decimal string in 10^-9.
fn amount(text: &str) -> Amount {
    let (negative, digits) = text.strip_prefix('-').map_or((false, text), |rest| (true, rest));
    let (whole, fraction) = digits.split_once('.').unwrap_or((digits, ""));
    assert!(fraction.len() <= 9, "{text} is too fine for a case");
    let value =
        whole.parse::<Amount>().expect(text) * NANO + format!("{fraction:0<9}").parse::<Amount>().expect(text);
    if negative { -value } else { value }
}

/// An amount with `scale` digits behind the point.
fn written(amount: Amount, scale: u32) -> String {
    let units = amount / 10i128.pow(9 - scale);
    let one = 10i128.pow(scale);
    if scale == 0 { units.to_string() } else { format!("{}.{:02$}", units / one, units % one, scale as usize) }
}

/// Milliseconds of `2024-01-29T10:00:00.000Z`.
fn ms(text: &str) -> i64 {
    let number = |from: usize, to: usize| text[from..to].parse::<i64>().expect(text);
    let (year, month, day) = (number(0, 4), number(5, 7), number(8, 10));
    // Days since 1970 by the civil calendar, with years that begin in March.
    let (year, month) = if month > 2 { (year, month - 3) } else { (year - 1, month + 9) };
    let days = 365 * year + year / 4 - year / 100 + year / 400 + (153 * month + 2) / 5 + day - 1 - 719_468;
    ((days * 24 + number(11, 13)) * 60 + number(14, 16)) * 60_000 + number(17, 19) * 1000 + number(20, 23)
}

/// The members of an object; a member that nobody reads fails the case.
struct Members<'a>(Map<String, Value>, &'a str);

impl<'a> Members<'a> {
    fn of(value: &Value, what: &'a str) -> Self {
        Self(value.as_object().unwrap_or_else(|| panic!("{what} is no object")).clone(), what)
    }

    fn take(&mut self, name: &str) -> Option<Value> {
        self.0.remove(name).filter(|value| !value.is_null())
    }

    fn text(&mut self, name: &str) -> Option<String> {
        self.take(name).map(|value| value.as_str().expect(name).to_owned())
    }

    fn amount(&mut self, name: &str) -> Option<Amount> {
        self.text(name).map(|text| amount(&text))
    }

    fn needed(&mut self, name: &str) -> Amount {
        self.amount(name).unwrap_or_else(|| panic!("{} has no {name}", self.1))
    }

    fn integer(&mut self, name: &str) -> Option<i64> {
        self.take(name).map(|value| value.as_i64().expect(name))
    }

    fn flag(&mut self, name: &str) -> Option<bool> {
        self.take(name).map(|value| value.as_bool().expect(name))
    }

    fn block(&mut self, name: &'a str) -> Option<Self> {
        self.take(name).map(|value| Self::of(&value, name))
    }

    fn word(&mut self, name: &str, words: &[&'static str]) -> &'static str {
        let Some(word) = self.text(name) else { return words[0] };
        words.iter().copied().find(|known| *known == word).unwrap_or_else(|| panic!("{name} cannot be {word}"))
    }

    fn done(self) {
        assert!(self.0.values().all(Value::is_null), "{} has members nobody reads: {:?}", self.1, self.0);
    }
}

fn step(rules: &mut Members) -> Step {
    let Some(mut sent) = rules.block("decrement") else { return Step::Unit };
    let step = match sent.text("kind").as_deref() {
        Some("amount") => Step::Amount(sent.needed("value")),
        Some("percent") => Step::Percent(sent.needed("value") / (NANO / 1000)),
        Some("table") => {
            let rows = sent.take("rows").expect("a table has rows");
            let row = |row: &Value| {
                (amount(row["from"].as_str().expect("from")), amount(row["step"].as_str().expect("step")))
            };
            Step::Table(rows.as_array().expect("rows").iter().map(row).collect())
        }
        other => panic!("no such decrement: {other:?}"),
    };
    sent.done();
    step
}

fn format(rules: &mut Members) -> Format {
    let format = rules.word("format", &["english", "sealed", "dutch", "japanese", "rounds"]);
    let mut block = rules.block(format).unwrap_or_else(|| Members(Map::new(), format));
    let made = match format {
        "english" => Format::English,
        "sealed" => Format::Sealed { second_price: block.word("pricing", &["first", "second"]) == "second" },
        "dutch" => Format::Dutch {
            start: block.needed("start"),
            step: block.needed("step"),
            interval_s: block.integer("interval_s").expect("interval_s"),
        },
        "japanese" => Format::Japanese {
            start: block.needed("start"),
            step: block.needed("step"),
            interval_s: block.integer("interval_s").expect("interval_s"),
            floor: block.needed("floor"),
        },
        _ => Format::Rounds {
            count: block.integer("count").unwrap_or(3) as usize,
            turn_s: block.integer("turn_s").unwrap_or(120),
            pause_s: block.integer("pause_s").unwrap_or(120),
            lead_in_s: block.integer("lead_in_s").unwrap_or(300),
            announce_s: block.integer("announce_s"),
        },
    };
    block.done();
    made
}

fn lot_plan(rules: &Value) -> LotPlan {
    let mut rules = Members::of(rules, "rules");
    let format = format(&mut rules);
    let overtime = rules.block("overtime").map(|mut sent| {
        let made = Overtime {
            window_s: sent.integer("window_s").expect("window_s"),
            length_s: sent.integer("length_s").expect("length_s"),
            mode: sent.word("mode", &["reset", "add"]),
            trigger: sent.word("trigger", &["lead", "any", "rank"]),
            rank: sent.integer("rank").unwrap_or(1) as usize,
            first_bid_triggers: sent.flag("first_bid_triggers").unwrap_or(false),
            max_count: sent.integer("max_count").map(|most| most as u32),
            max_total_s: sent.integer("max_total_s"),
            scope: sent.word("scope", &["lot", "tender"]),
        };
        sent.done();
        made
    });
    let reserve = rules.block("reserve").map(|mut sent| sent.needed("price"));
    let buffer = rules.block("buffer").map(|mut sent| (sent.needed("front"), sent.needed("back")));
    let features = rules.take("features").map_or(Vec::new(), |sent| {
        let feature = |sent: &Value| {
            (sent["id"].as_str().expect("id").to_owned(), amount(sent["max"].as_str().expect("max")))
        };
        sent.as_array().expect("features").iter().map(feature).collect()
    });
    let guard = match rules.0.remove("guard_percent") {
        None => Some(30_000),
        Some(sent) => sent.as_str().map(|text| amount(text) / (NANO / 1000)),
    };
    let shown = rules.block("visibility");
    let plan = LotPlan {
        format,
        scale: rules.integer("price_scale").unwrap_or(2) as u32,
        duration_s: rules.integer("duration_s").unwrap_or(0),
        ceiling: rules.amount("ceiling"),
        floor: rules.amount("floor"),
        reserve,
        improvement: rules.word("improvement", &["own", "lead", "own_and_buffer", "free"]),
        buffer,
        step: step(&mut rules),
        tick: rules.amount("tick"),
        max_step: rules.amount("max_step"),
        guard,
        tie_rank: rules.word("tie_rank", &["by_time", "best", "worst"]),
        tie_free_ranks: rules.integer("tie_free_ranks").unwrap_or(0) as usize,
        max_bids: rules.integer("max_bids").map(|most| most as usize),
        min_bidders: rules.integer("min_bidders").map(|least| least as usize),
        overtime,
        shows_rank: shown.and_then(|mut shown| shown.flag("rank")).unwrap_or(true),
        shows_lead: "always",
        automatic_award: rules.word("award", &["manual", "automatic"]) == "automatic",
        grace_s: rules.integer("outage_grace_s").unwrap_or(120),
        max_view_age: rules.integer("max_view_age").map(|age| age as u64),
        prebid: rules.word("prebid", &["none", "allowed", "required"]),
        auto_bid: rules.flag("auto_bid").unwrap_or(false),
        decision_s: rules.integer("decision_s"),
        near: rules.amount("near_percent").unwrap_or(3 * NANO) / (NANO / 1000),
        all_or_nothing: rules.flag("all_or_nothing").unwrap_or(false),
        features,
    };
    rules.done();
    plan
}

/// A scenario under way.
#[derive(Default)]
struct Run {
    twin: Twin,
    requests: u64,
    lots: BTreeMap<String, u16>,
    bidders: BTreeMap<String, Org>,
}

impl Run {
    fn take(&mut self, at: i64, from: Org, ask: Ask) -> Said {
        self.requests += 1;
        self.twin.take(&Sent { at, from, request: self.requests, salt: [0; 16], key: None, ask })
    }

    fn org(&mut self, alias: &str) -> Org {
        let next = 10 + self.bidders.len() as Org;
        *self.bidders.entry(alias.to_owned()).or_insert(next)
    }

    fn alias(&self, bidder: u16) -> &str {
        let org = self.twin.tenders[0].bidders[usize::from(bidder) - 1].org;
        self.bidders.iter().find(|(_, known)| **known == org).expect("it was named").0
    }

    /// Handles a line; answers what its sender is told.
    fn line(&mut self, line: &Value) -> Value {
        let mut line = Members::of(line, "a line");
        let at = ms(&line.text("at").expect("at"));
        let kind = line.text("do").expect("do");
        line.take("tender");
        let reason = line.text("reason");
        let lot = line.text("lot").map(|alias| self.lots[&alias]);
        let alias = line.text("bidder");
        let from = alias.map(|alias| self.org(&alias));
        let place =
            from.and_then(|from| self.twin.tenders.first()?.bidders.iter().position(|bidder| bidder.org == from));
        let named = Named::Number(place.map_or(0, |place| place as i64 + 1));
        let lot_number = lot.unwrap_or(0);
        let (from, ask) = match kind.as_str() {
            "create_tender" => (BUYER, self.create(&line.take("body").expect("body"))),
            "publish" => (BUYER, Ask::Publish { tender: 1 }),
            "start" => (BUYER, Ask::Start { tender: 1 }),
            "pause" => (BUYER, Ask::Pause { tender: 1, reason }),
            "resume" => (BUYER, Ask::Resume { tender: 1, reason }),
            "cancel" => (BUYER, Ask::Cancel { tender: 1, reason }),
            "extend" => {
                (BUYER, Ask::Extend { tender: 1, lot, seconds: line.integer("seconds").expect("seconds"), reason })
            }
            "admit" => {
                let scoring = self.scoring(line.take("body"));
                (BUYER, Ask::Admit { tender: 1, who: from.expect("a bidder"), accepted: true, scoring })
            }
            "disqualify" => (BUYER, Ask::Disqualify { tender: 1, bidder: named, reason }),
            "award" => (BUYER, Ask::Award { tender: 1, lot: lot_number, bidder: named, reason }),
            "award_reject" => (BUYER, Ask::Reject { tender: 1, lot: lot_number, bidder: named, reason }),
            "void" => {
                let known = &self.twin.tenders[0].lots[usize::from(lot_number) - 1];
                let number = place.map_or(0, |place| place as u16 + 1);
                let bid =
                    known.standing.iter().chain(&known.hidden).find(|bid| bid.bidder == number).map(|bid| bid.bid);
                (BUYER, Ask::Void { tender: 1, lot: lot_number, bid: bid.unwrap_or(0), reason })
            }
            "bid" => {
                let bid = BidAsk {
                    price: line.amount("price"),
                    confirm: line.flag("confirm").unwrap_or(false),
                    expires_at: line.text("expires_at").map(|text| ms(&text)),
                    seen_seq: line.integer("seen_seq").map(|seq| seq as u64),
                    limit: line.amount("auto_limit"),
                    all_or_nothing: line.flag("all_or_nothing"),
                };
                (from.expect("a bidder"), Ask::Bid { tender: 1, lot: lot_number, bid })
            }
            "auto_bid" => {
                (from.expect("a bidder"), Ask::Limit { tender: 1, lot: lot_number, limit: line.amount("limit") })
            }
            "accept" => {
                let step = line.integer("step").expect("step") as u64;
                (from.expect("a bidder"), Ask::Accept { tender: 1, lot: lot_number, step })
            }
            "outage" => {
                let back = at + line.integer("seconds").expect("seconds") * 1000;
                line.done();
                self.take(back, 0, Ask::Takeover { planned: false });
                return json!({"ok": {}});
            }
            other => panic!("no such line: {other}"),
        };
        line.done();
        let said = self.take(at, from, ask);
        let next = match &said {
            Said::Refused { shown, .. } => shown.as_ref().map_or(Highest::None, |shown| shown.next),
            Said::Bid { next, .. } | Said::Withdrawn { next, .. } | Said::Limit { next, .. } => *next,
            _ => Highest::None,
        };
        let scale = lot.map_or(2, |lot| self.twin.tenders[0].lots[usize::from(lot) - 1].plan.scale);
        let max_next = match next {
            Highest::At(next) => Value::String(written(next, scale)),
            _ => Value::Null,
        };
        match said {
            Said::Refused { code, .. } => json!({"refused": code, "max_next": max_next}),
            _ => json!({"ok": {}, "max_next": max_next}),
        }
    }

    fn create(&mut self, body: &Value) -> Ask {
        let mut body = Members::of(body, "the tender");
        let lots = body.take("lots").expect("lots");
        let mut plans = Vec::new();
        for (place, lot) in lots.as_array().expect("lots").iter().enumerate() {
            self.lots.insert(lot["alias"].as_str().expect("alias").to_owned(), place as u16 + 1);
            plans.push(lot_plan(&lot["rules"]));
        }
        body.take("currency");
        let plan = Plan {
            title: body.text("title").expect("title"),
            open_access: body.word("access", &["invited", "open"]) == "open",
            public: body.flag("public").unwrap_or(false),
            opens_at: body.text("opens_at").map(|text| ms(&text)),
            terms: body.text("terms").is_some(),
            lot_mode: body.word("lot_mode", &["parallel", "serial", "staggered"]),
            stagger_s: body.integer("stagger_s").unwrap_or(0),
            stagger_follows: body.flag("stagger_follows").unwrap_or(true),
            gap_s: body.integer("serial_gap_s").unwrap_or(0),
            anonymous: body.flag("anonymous_to_buyer").unwrap_or(false),
            invalid: None,
            lots: plans,
        };
        body.done();
        Ask::Create { tender: 1, plan }
    }

    fn scoring(&self, body: Option<Value>) -> Scoring {
        let Some(body) = body else { return Scoring::default() };
        let mut body = Members::of(&body, "an admission");
        let mut scoring = Scoring::default();
        let rows = |sent: Option<Value>| sent.and_then(|sent| sent.as_array().cloned()).unwrap_or_default();
        for row in rows(body.take("adjustments")) {
            let mut row = Members::of(&row, "an adjustment");
            let lot = i64::from(self.lots[&row.text("lot").expect("lot")]);
            let factor = row.text("factor").map(|text| match text.split_once('/') {
                Some((above, below)) => Ratio::new(amount(above), amount(below)),
                None => Ratio::new(amount(&text), NANO),
            });
            scoring.adjustments.push((lot, factor, row.amount("addend")));
            row.done();
        }
        for row in rows(body.take("features")) {
            let mut row = Members::of(&row, "a feature");
            let lot = i64::from(self.lots[&row.text("lot").expect("lot")]);
            let id = row.text("id").expect("id");
            scoring.features.push((lot, id, row.needed("value")));
            row.done();
        }
        body.done();
        scoring
    }

    /// The result of a lot, in the words of `simulate`.
    fn result(&self, lot: &Lot) -> Value {
        let scale = lot.plan.scale;
        let outcome = lot.outcome();
        let ranking: Vec<Value> = lot
            .ranking()
            .iter()
            .map(|bid| {
                let ranks = lot.ranks_of(bid.bidder).expect("it stands");
                json!({
                    "bidder": self.alias(bid.bidder),
                    "price": written(bid.price, scale),
                    "effective": written(lot.worth(bid).round_to(lot.plan.unit()), scale),
                    "rank": ranks.rank,
                    "tied": ranks.tied,
                    "at": bid.at,
                })
            })
            .collect();
        json!({
            "stage": lot.stage,
            "opened_at": lot.opened_at,
            "closed_at": lot.closed_at,
            "extensions": lot.extensions,
            "ranking": ranking,
            "winner": outcome.winner.map(|winner| self.alias(winner)),
            "pays": outcome.pays.map(|pays| written(pays, scale)),
            "flags": if outcome.abnormally_low { vec!["abnormally_low"] } else { Vec::new() },
        })
    }
}

/// What a source states may hold times as texts.
fn in_ms(stated: &Value) -> Value {
    match stated.as_str() {
        Some(text) if text.ends_with('Z') => json!(ms(text)),
        _ => stated.clone(),
    }
}

fn check_answer(stated: &Value, answer: &Value, name: &str) {
    for (field, stated) in stated.as_object().expect("an object") {
        match field.as_str() {
            "ok" => assert!(answer.get("ok").is_some(), "{name} was refused: {answer}"),
            "refused" if *stated == json!(true) => assert!(answer.get("refused").is_some(), "{name} was accepted"),
            "refused" => assert_eq!(answer.get("refused"), Some(stated), "{name}: {answer}"),
            "max_next" => assert_eq!(&answer["max_next"], stated, "max_next of {name}: {answer}"),
            other => panic!("{name} states {other}"),
        }
    }
}

fn check_result(stated: &Value, result: &Value, name: &str) {
    let ranking = result["ranking"].as_array().expect("a ranking");
    for (field, stated) in stated.as_object().expect("an object") {
        let each = |member: &str| {
            for (bidder, value) in stated.as_object().expect("by bidder") {
                let row = ranking.iter().find(|row| row["bidder"] == json!(bidder));
                let row = row.unwrap_or_else(|| panic!("{bidder} is not in the ranking of {name}"));
                assert_eq!(row[member], in_ms(value), "{member} of {bidder} in {name}");
            }
        };
        let flags = |there: bool| {
            for flag in stated.as_array().expect("flags") {
                let has = result["flags"].as_array().expect("flags").contains(flag);
                assert_eq!(has, there, "flag {flag} of {name}");
            }
        };
        match field.as_str() {
            "order" => {
                let order: Vec<&Value> = ranking.iter().map(|row| &row["bidder"]).collect();
                assert_eq!(json!(order), *stated, "the order of {name}");
            }
            "prices" => each("price"),
            "effective" => each("effective"),
            "ranks" => each("rank"),
            "tied" => each("tied"),
            "at" => each("at"),
            "flags_has" => flags(true),
            "flags_lacks" => flags(false),
            other => assert_eq!(result[other], in_ms(stated), "{other} of {name}"),
        }
    }
}

fn check(name: &str, scenario: &str, stated: &Value) {
    let mut run = Run::default();
    for (place, text) in scenario.lines().enumerate() {
        if text.trim().is_empty() {
            continue;
        }
        let line: Value = serde_json::from_str(text).expect(text);
        if line["do"] == json!("end") {
            run.take(ms(line["at"].as_str().expect("at")), 0, Ask::Tick);
            break;
        }
        let answer = run.line(&line);
        if let Some(stated) = stated["lines"].get((place + 1).to_string()) {
            check_answer(stated, &answer, &format!("line {} of {name}", place + 1));
        }
    }
    if !scenario.contains("\"do\":\"end\"") {
        while let Some(deadline) = run.twin.next_deadline() {
            run.take(deadline, 0, Ask::Tick);
        }
    }
    for (alias, stated) in stated["results"].as_object().into_iter().flatten() {
        let lot = &run.twin.tenders[0].lots[usize::from(run.lots[alias]) - 1];
        check_result(stated, &run.result(lot), &format!("{alias} of {name}"));
    }
}

#[test]
#[allow(clippy::disallowed_methods)] // The test reads files; the engine may not.
fn the_twin_agrees_with_all_sources() {
    let folder = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../api/tests/cases");
    let mut names: Vec<PathBuf> = fs::read_dir(&folder)
        .expect("the cases are there")
        .map(|entry| entry.expect("a file").path())
        .filter(|path| path.extension().is_some_and(|extension| extension == "jsonl"))
        .collect();
    names.sort();
    for path in &names {
        let scenario = fs::read_to_string(path).expect("a scenario");
        let stated =
            fs::read_to_string(path.with_extension("").with_extension("expect.json")).expect("a statement");
        let name = path.file_stem().expect("a name").to_string_lossy().into_owned();
        println!("{name}");
        check(&name, &scenario, &serde_json::from_str(&stated).expect("JSON"));
    }
    assert!(names.len() >= 25, "only {} cases", names.len());
}
