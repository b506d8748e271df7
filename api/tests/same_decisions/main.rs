//! One scenario through `simulate` and through the running server: the same decision about every bid, and the same
//! ranking in the end. Here with many English bids; `formats` takes every format to its award.

mod formats;
#[path = "../support/mod.rs"]
mod support;

use std::collections::BTreeMap;

use serde_json::{Value, json};
use support::{TestServer, open_tender, sign_up};

/// Bidders of the scenario, by the alias that the rehearsal gives them.
const BIDDERS: [&str; 3] = ["A", "B", "C"];

/// Rule sets that between them make every kind of bound: of the own price, of the lead, of ties, of drops.
fn rule_sets() -> Vec<Value> {
    let common = json!({ "format": "english", "duration_s": 3600 });
    let with = |more: Value| {
        let mut rules = common.clone();
        rules.as_object_mut().expect("rules").extend(more.as_object().expect("rules").clone());
        rules
    };
    vec![
        with(json!({ "ceiling": "1000.00", "decrement": { "kind": "percent", "value": "0.75" }, "max_bids": 12 })),
        with(json!({ "improvement": "lead", "tick": "0.50", "guard_percent": "10", "tie_rank": "worst",
            "overtime": { "window_s": 3600, "length_s": 3600, "trigger": "any" } })),
        with(json!({ "ceiling": "990.00", "floor": "300.00", "improvement": "own_and_buffer",
            "buffer": { "front": "7.00", "back": "11.00" }, "guard_percent": null, "max_step": "80.00" })),
        with(json!({ "improvement": "free", "tie_free_ranks": 2, "tie_rank": "best", "guard_percent": null,
            "reserve": { "price": "600.00", "shown": false } })),
    ]
}

/// Whose bid comes next and at what price; the same row on every run.
fn bids(seed: u64) -> Vec<(usize, String, bool)> {
    let mut state = seed;
    let mut draw = move |below: u64| {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 33) % below
    };
    let mut around = 100_000;
    (0..60)
        .map(|_| {
            around = (around - draw(1_500)).max(20_000);
            let units = around + draw(3_000);
            let price = match draw(12) {
                0 => format!("{}.{:03}", units / 100, units % 100 * 10 + 5),
                1 => "0".to_owned(),
                _ => format!("{}.{:02}", units / 100, units % 100 / 50 * 50),
            };
            (draw(3) as usize, price, draw(4) == 0)
        })
        .collect()
}

/// What `simulate` says to each bid, and its ranking.
fn rehearse(rules: &Value, bids: &[(usize, String, bool)]) -> (Vec<Value>, Value) {
    let at = |second: usize| format!("2026-01-01T10:{:02}:{:02}.000Z", second / 60, second % 60);
    let lots = json!([{ "alias": "L1", "title": "Lot", "items": [], "rules": rules }]);
    let body = json!({ "title": "Same", "currency": "SAR", "lots": lots });
    let mut lines = vec![json!({ "at": at(0), "do": "create_tender", "tender": "T", "body": body })];
    for alias in BIDDERS {
        lines.push(json!({ "at": at(0), "do": "admit", "tender": "T", "bidder": alias, "body": {} }));
    }
    lines.push(json!({ "at": at(0), "do": "publish", "tender": "T" }));
    lines.push(json!({ "at": at(0), "do": "start", "tender": "T" }));
    let first = lines.len();
    for (second, (bidder, price, confirm)) in bids.iter().enumerate() {
        let bidder = BIDDERS[*bidder];
        let bid = json!({ "at": at(second + 1), "do": "bid", "lot": "L1", "bidder": bidder, "price": price, "confirm": confirm });
        lines.push(bid);
    }
    lines.push(json!({ "at": at(bids.len() + 2), "do": "end" }));
    let input: String = lines.iter().map(|line| format!("{line}\n")).collect();
    let mut out = Vec::new();
    api::simulate::run(&input, &mut out).expect("the scenario runs");
    let out = String::from_utf8(out).expect("text");
    let said: Vec<Value> = out.lines().map(|line| serde_json::from_str(line).expect("JSON")).collect();
    let answers =
        said.iter().filter(|line| line["line"].as_u64() > Some(first as u64) && line["line"] != lines.len());
    let result = said.iter().find(|line| line["result"].is_object()).expect("a result");
    (answers.cloned().collect(), result["result"]["ranking"].clone())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn simulate_and_the_server_decide_alike() {
    let server = TestServer::start().await;
    let buyer = sign_up(&server, "buyer").await;
    let mut suppliers = Vec::new();
    for _ in BIDDERS {
        suppliers.push(sign_up(&server, "supplier").await);
    }
    let mut codes: BTreeMap<String, usize> = BTreeMap::new();
    for (number, rules) in rule_sets().into_iter().enumerate() {
        let bids = bids(number as u64 + 1);
        let (rehearsed, ranking) = rehearse(&rules, &bids);
        assert_eq!(rehearsed.len(), bids.len());
        let body = json!({ "title": "Same", "currency": "SAR", "lots": [{ "title": "Lot", "items": [], "rules": rules }] });
        let ids = open_tender(&buyer, &body, &suppliers.iter().collect::<Vec<_>>()).await;
        for ((bidder, price, confirm), said) in bids.iter().zip(&rehearsed) {
            let answer =
                suppliers[*bidder].post(&ids.lot("/bids"), &json!({ "price": price, "confirm": confirm })).await;
            let told = answer.json();
            if answer.status == 201 {
                assert!(said["ok"].is_object(), "{price}: the server takes what the rehearsal does not: {said}");
                assert_eq!(told["max_next"], said["ok"]["max_next"], "{price}: {told} {said}");
            } else {
                assert_eq!(told["code"], said["refused"], "{price}: {told} {said}");
                assert_eq!(told["max_next"], said["max_next"], "{price}: {told} {said}");
            }
            *codes.entry(told["code"].as_str().unwrap_or("accepted").to_owned()).or_default() += 1;
        }
        let lot = buyer.get(&ids.lot("")).await.expect(200);
        let served: Vec<_> = lot["state"]["board"].as_array().expect("a board").clone();
        let ranking = ranking.as_array().expect("a ranking");
        assert_eq!(served.len(), ranking.len());
        for (row, rehearsed) in served.iter().zip(ranking) {
            let alias = BIDDERS[row["bidder"].as_u64().expect("a number") as usize - 1];
            assert_eq!(
                (&json!(alias), &row["price"], &row["rank"]),
                (&rehearsed["bidder"], &rehearsed["price"], &rehearsed["rank"])
            );
        }
    }
    // A comparison that met only one kind of answer would say little.
    assert!(codes.len() >= 7 && codes["accepted"] >= 40, "{codes:?}");
    server.stop().await;
}
