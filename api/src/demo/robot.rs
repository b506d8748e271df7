//! A robot bidder: follows its lots over the feed, thinks a while, undercuts whoever leads, and stops at the price
//! below which it would lose money. It sees only what any bidder sees.

use std::collections::HashMap;
use std::time::Duration;

use anyhow::{Context as _, ensure};
use futures_util::{SinkExt as _, StreamExt as _};
use serde_json::{Value, json};
use tokio::net::TcpStream;
use tokio::time::Instant;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::client::IntoClientRequest as _;
use uuid::Uuid;

use super::client::Client;
use super::dice::Dice;

/// Between two tries to connect.
const RECONNECT_MS: (u64, u64) = (250, 5_000);
/// How long a robot thinks about its next bid in a lot.
const THINK_MS: (u64, u64) = (2_500, 14_000);
/// How long near the end, when it hurries.
const HURRY_MS: (u64, u64) = (1_500, 8_000);
/// When it begins to hurry.
const HURRY_BEFORE_S: i64 = 60;
/// No heartbeat for this long: the connection is dead.
const DEAF: Duration = Duration::from_secs(12);

/// What the robot knows of a lot.
#[derive(Debug, Default)]
struct Knowledge {
    /// The public fields.
    state: Value,
    /// The own part.
    you: Value,
    /// The lowest price it would go to, in units of the lot's scale; made up when the ceiling is known.
    floor: Option<i64>,
    /// When it has thought enough.
    ready: Option<Instant>,
}

/// Bids in `lots` for ever; comes back when the connection is lost.
pub async fn play(client: Client, lots: Vec<String>, mut dice: Dice) {
    let mut known: HashMap<String, Knowledge> = lots.into_iter().map(|lot| (lot, Knowledge::default())).collect();
    loop {
        if let Err(error) = follow(&client, &mut known, &mut dice).await {
            tracing::debug!(error = format!("{error:#}"), "A robot lost its connection");
        }
        tokio::time::sleep(Duration::from_millis(dice.between(RECONNECT_MS.0, RECONNECT_MS.1))).await;
    }
}

async fn follow(client: &Client, known: &mut HashMap<String, Knowledge>, dice: &mut Dice) -> anyhow::Result<()> {
    let token = client.sign_in().await?;
    let address = client.address();
    let mut request = format!("ws://{address}/v1/feed").into_client_request()?;
    request.headers_mut().insert("sec-websocket-protocol", "auction.v1.json".parse()?);
    let stream = TcpStream::connect(address).await?;
    stream.set_nodelay(true)?;
    let (mut socket, _) = tokio_tungstenite::client_async(request, stream).await?;
    let resume: Vec<Value> = known.keys().map(|lot| json!({ "lot": lot })).collect();
    let hello =
        json!({ "id": 1, "op": "hello", "d": { "token": token, "client": "practice-robot/1", "resume": resume } });
    socket.send(Message::text(hello.to_string())).await?;
    let mut id = 1;
    let mut heard = Instant::now();
    loop {
        let wake = known.values().filter_map(|lot| lot.ready).min().unwrap_or(heard + DEAF).min(heard + DEAF);
        let frame = tokio::select! {
            frame = socket.next() => Some(frame.context("the server closed")??),
            () = tokio::time::sleep_until(wake) => None,
        };
        match frame {
            Some(Message::Text(text)) => {
                heard = Instant::now();
                learn(&serde_json::from_str(&text)?, known, dice);
            }
            Some(Message::Close(_)) => anyhow::bail!("the server closed"),
            Some(_) => heard = Instant::now(),
            None => ensure!(heard.elapsed() < DEAF, "the server is silent"),
        }
        let now = Instant::now();
        for (lot, knowledge) in
            known.iter_mut().filter(|(_, knowledge)| knowledge.ready.is_some_and(|at| at <= now))
        {
            knowledge.ready = None;
            let Some(price) = choose(knowledge, dice) else { continue };
            id += 1;
            let bid = json!({
                "id": id, "op": "bid.place",
                // It knows what it does, however large the drop.
                "d": { "lot": lot, "cid": Uuid::now_v7().to_string(), "price": price, "confirm": true },
            });
            socket.send(Message::text(bid.to_string())).await?;
        }
    }
}

/// Takes a frame in. A lot in which the robot does not lead makes it think.
fn learn(frame: &Value, known: &mut HashMap<String, Knowledge>, dice: &mut Dice) {
    let Some(knowledge) = frame["lot"].as_str().and_then(|lot| known.get_mut(lot)) else { return };
    match frame["p"].as_str() {
        Some("snap") => {
            knowledge.state = frame["state"].clone();
            knowledge.you = frame["you"].clone();
        }
        Some("upd" | "you") => {
            if let (Some(state), Some(set)) = (knowledge.state.as_object_mut(), frame["set"].as_object()) {
                state.extend(set.clone());
            }
            if !frame["you"].is_null() {
                knowledge.you = frame["you"].clone();
            }
        }
        _ => return,
    }
    let wants = knowledge.state["stage"] == "open" && knowledge.you["lead"] != true;
    if !wants {
        knowledge.ready = None;
    } else if knowledge.ready.is_none() {
        let (low, high) = if seconds_left(&knowledge.state) < HURRY_BEFORE_S { HURRY_MS } else { THINK_MS };
        knowledge.ready = Some(Instant::now() + Duration::from_millis(dice.between(low, high)));
    }
}

fn seconds_left(state: &Value) -> i64 {
    let closes_at = state["closes_at"].as_str().and_then(|text| text.parse::<jiff::Timestamp>().ok());
    closes_at.map_or(i64::MAX, |at| at.as_second() - jiff::Timestamp::now().as_second())
}

/// The next bid, or none if it would be below the robot's floor.
fn choose(knowledge: &mut Knowledge, dice: &mut Dice) -> Option<String> {
    let scale = u32::try_from(knowledge.state["price_scale"].as_u64()?).ok()?;
    let units = |value: &Value| value.as_str().and_then(|text| units(text, scale));
    let highest = units(&knowledge.you["max_next"])?;
    let ceiling = units(&knowledge.state["ceiling"]).unwrap_or(highest);
    let step = units(&knowledge.state["decrement"]["value"]).unwrap_or(1);
    let floor = *knowledge.floor.get_or_insert_with(|| ceiling * dice.between(68, 82) as i64 / 100);
    // Under the lead by one to three steps; the first bid a little under the ceiling.
    let target = match units(&knowledge.state["lead"]["price"]) {
        Some(lead) => lead - step * dice.between(1, 3) as i64,
        None => ceiling - step * dice.between(0, 6) as i64,
    };
    let price = target.min(highest);
    (price >= floor).then(|| text(price, scale))
}

/// A decimal string as units of 10^-`scale`.
fn units(text: &str, scale: u32) -> Option<i64> {
    let (whole, part) = text.split_once('.').unwrap_or((text, ""));
    let shift = usize::try_from(scale).ok()?;
    if part.len() > shift && part[shift..].bytes().any(|digit| digit != b'0') {
        return None;
    }
    let digits: String = part.chars().chain(std::iter::repeat('0')).take(shift).collect();
    format!("{whole}{digits}").parse().ok()
}

/// Units of 10^-`scale` as a decimal string.
fn text(units: i64, scale: u32) -> String {
    let unit = 10_i64.pow(scale);
    match scale {
        0 => units.to_string(),
        _ => format!("{}.{:0width$}", units / unit, units % unit, width = scale as usize),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn knowledge(lead: Value, max_next: &str, leads: bool) -> Knowledge {
        let state = json!({
            "stage": "open", "price_scale": 2, "ceiling": "1000.00", "lead": lead, "closes_at": null,
            "decrement": { "kind": "amount", "value": "5.00" },
        });
        Knowledge { state, you: json!({ "max_next": max_next, "lead": leads }), floor: Some(70_000), ready: None }
    }

    #[test]
    fn prices_go_through_units_unharmed() {
        for (text_, scale, expected) in [("419.50", 2, 41_950), ("7", 2, 700), ("7.5", 1, 75), ("12", 0, 12)] {
            assert_eq!(units(text_, scale), Some(expected));
            assert_eq!(units(&text(expected, scale), scale), Some(expected));
        }
        assert_eq!(units("1.005", 2), None);
        assert_eq!(units("1.500", 2), Some(150));
        assert_eq!(units("x", 2), None);
    }

    #[test]
    fn it_undercuts_the_lead_and_never_its_own_floor() {
        let mut dice = Dice::new();
        for _ in 0..100 {
            let price = choose(&mut knowledge(json!({ "price": "900.00" }), "950.00", false), &mut dice);
            let price = units(&price.expect("a bid"), 2).expect("a price");
            assert!((88_500..=89_500).contains(&price), "{price}");
            assert_eq!(choose(&mut knowledge(json!({ "price": "702.00" }), "950.00", false), &mut dice), None);
            let own = choose(&mut knowledge(json!({ "price": "900.00" }), "800.00", false), &mut dice);
            assert_eq!(own.as_deref(), Some("800.00"), "never above what would be taken");
        }
    }

    #[test]
    fn it_thinks_only_while_it_could_gain() {
        let mut dice = Dice::new();
        let mut known = HashMap::from([("L".to_owned(), Knowledge::default())]);
        let frame = |stage: &str, leads: bool| {
            let state = json!({ "stage": stage, "price_scale": 2, "closes_at": null });
            json!({ "p": "snap", "lot": "L", "state": state, "you": { "lead": leads } })
        };
        for (stage, leads, thinks) in [("open", false, true), ("open", true, false), ("paused", false, false)] {
            learn(&frame(stage, leads), &mut known, &mut dice);
            assert_eq!(known["L"].ready.is_some(), thinks, "{stage} {leads}");
        }
        learn(&json!({ "p": "snap", "lot": "other", "state": {} }), &mut known, &mut dice);
        assert_eq!(known.len(), 1);
    }
}
