//! What happened in a lot, read over REST as its buyer, run again through `simulate`: the result must be the same. Knows
//! nothing of the page.

use std::path::Path;
use std::process::Command;

use serde_json::{Value, json};

use super::support::Client;

/// What the lot's history does not tell because it is secret: who left which limit, and when.
#[derive(Debug)]
pub struct Limit<'a> {
    /// The bidder's number.
    pub bidder: u64,
    /// The limit.
    pub limit: &'a str,
    /// When it was left.
    pub at: &'a str,
}

/// Runs the first lot of `tender` again and compares the results, times included; answers what `simulate` said of it.
pub async fn check(buyer: &Client, tender: &str, limits: &[Limit<'_>], folder: &Path) -> Value {
    let path = format!("/v1/tenders/{tender}");
    let body = buyer.get(&path).await.expect(200);
    let lot = body["lots"][0]["id"].as_str().expect("an id").to_owned();
    let result = buyer.get(&format!("/v1/lots/{lot}/result")).await.expect(200);
    let bids = buyer.get(&format!("/v1/lots/{lot}/bids?limit=200")).await.expect(200);
    let events = buyer.get(&format!("/v1/lots/{lot}/events?after=0&limit=200")).await.expect(200);
    let bidders = buyer.get(&format!("{path}/bidders")).await.expect(200);

    let mut lines = vec![line(&body["created_at"], "create_tender", json!({ "body": scenario(&body) }))];
    let mut admitted: Vec<&Value> = bidders["items"].as_array().expect("a list").iter().collect();
    admitted.sort_by_key(|bidder| bidder["number"].as_u64());
    for bidder in admitted {
        let adjustments: Vec<Value> = bidder["adjustments"]
            .as_array()
            .into_iter()
            .flatten()
            .map(|one| json!({ "lot": "L1", "factor": one["factor"], "addend": one["addend"] }))
            .collect();
        let name = alias(bidder["number"].as_u64().expect("a number"));
        let admit = json!({ "bidder": name, "body": { "adjustments": adjustments } });
        lines.push(line(&body["created_at"], "admit", admit));
    }
    lines.push(line(&body["created_at"], "publish", json!({})));
    let mut acts: Vec<Value> = limits
        .iter()
        .map(|Limit { bidder, limit, at }| {
            line(&json!(at), "auto_bid", json!({ "lot": "L1", "bidder": alias(*bidder), "limit": limit }))
        })
        .collect();
    acts.push(line(&result["opened_at"], "start", json!({})));
    for bid in bids["items"].as_array().expect("a list").iter().rev().filter(|bid| bid["auto"] != true) {
        let bidder = alias(bid["bidder"].as_u64().expect("a bidder's"));
        let act = match level_of(&events, &bid["price"]) {
            Some(step) => json!({ "lot": "L1", "bidder": bidder, "step": step }),
            None => json!({ "lot": "L1", "bidder": bidder, "price": bid["price"], "confirm": true }),
        };
        let verb = if act["step"].is_null() { "bid" } else { "accept" };
        acts.push(line(&bid["at"], verb, act));
    }
    // Of one instant, what was sent first comes first: the sort keeps their order.
    acts.sort_by(|left, right| left["at"].as_str().cmp(&right["at"].as_str()));
    lines.extend(acts);
    if body["lots"][0]["rules"]["award"] == "manual" {
        let award = json!({ "lot": "L1", "bidder": alias(result["winner"].as_u64().expect("a winner")) });
        // The award comes after the close, when exactly makes no difference.
        let at = result["closed_at"].as_str().expect("a time").replacen("20", "21", 1);
        lines.push(line(&json!(at), "award", award));
    }
    let file = folder.join(format!("{tender}.jsonl"));
    let text: String = lines.iter().map(|line| format!("{line}\n")).collect();
    std::fs::write(&file, &text).expect("the folder can be written");
    let run =
        Command::new(env!("CARGO_BIN_EXE_reversetender")).arg("simulate").arg(&file).output().expect("it runs");
    assert!(run.status.success(), "{}\n{text}", String::from_utf8_lossy(&run.stderr));
    let said = String::from_utf8(run.stdout).expect("text");
    let last = said.lines().last().expect("it ends with the result");
    let simulated: Value = serde_json::from_str(last).expect("JSON");
    let simulated = &simulated["result"];
    let context = format!("\nscenario:\n{text}\nsimulate said:\n{said}\nthe server says: {result}");
    for field in ["stage", "opened_at", "closed_at", "extensions", "pays", "flags"] {
        assert_eq!(simulated[field], result[field], "{field}{context}");
    }
    assert_eq!(simulated["winner"], json!(alias(result["winner"].as_u64().expect("a winner"))), "{context}");
    let ranking = |result: &Value, named: bool| -> Vec<Value> {
        let rows = result["ranking"].as_array().expect("a list").iter();
        rows.map(|row| {
            let bidder =
                if named { row["bidder"].clone() } else { json!(alias(row["bidder"].as_u64().unwrap_or(0))) };
            json!([bidder, row["price"], row["effective"], row["rank"], row["award_rank"], row["tied"], row["at"]])
        })
        .collect()
    };
    assert_eq!(ranking(simulated, true), ranking(&result, false), "{context}");
    simulated.clone()
}

fn line(at: &Value, verb: &str, fields: Value) -> Value {
    let mut line = json!({ "at": at, "do": verb, "tender": "T" });
    let fields = fields.as_object().expect("fields are an object");
    if fields.contains_key("lot") {
        line.as_object_mut().expect("a line is an object").remove("tender");
    }
    line.as_object_mut().expect("a line is an object").extend(fields.clone());
    line
}

fn alias(bidder: u64) -> String {
    format!("B{bidder}")
}

/// The tender as it would be sent again, with one named lot.
fn scenario(tender: &Value) -> Value {
    let lot = &tender["lots"][0];
    json!({
        "title": tender["title"], "currency": tender["currency"], "access": tender["access"],
        "lots": [{ "alias": "L1", "title": lot["title"], "items": lot["items"], "rules": lot["rules"] }],
    })
}

/// The step or level of a price; none in formats without them.
fn level_of(events: &Value, price: &Value) -> Option<u64> {
    let steps = events["items"].as_array()?.iter().flat_map(|step| step["ev"].as_array().into_iter().flatten());
    steps
        .filter(|event| event["type"] == "step" || event["type"] == "level")
        .find(|event| event["price"] == *price)
        .and_then(|event| event["step"].as_u64())
}
