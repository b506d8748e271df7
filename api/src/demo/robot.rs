//! A robot bidder: follows its lots over the feed, thinks a while, and does what a bidder of the lot's format does:
//! undercuts whoever leads, sends its sealed bid, waits for its price, stays in, bids in its turn. It stops at the price
//! below which it would lose money, and sees only what any bidder sees.

use std::collections::{BTreeSet, HashMap};
use std::time::Duration;

use anyhow::{Context as _, ensure};
use futures_util::{SinkExt as _, StreamExt as _};
use serde_json::{Value, json};
use tokio::net::TcpStream;
use tokio::sync::watch;
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
/// How long near the end, in a step, level or turn, when it hurries.
const HURRY_MS: (u64, u64) = (1_500, 6_000);
/// When it begins to hurry.
const HURRY_BEFORE_S: i64 = 60;
/// No heartbeat for this long: the connection is dead.
const DEAF: Duration = Duration::from_secs(12);
/// The lowest price a robot goes to, in percent of the highest one: from, to.
const FLOOR_PERCENT: (u64, u64) = (62, 82);

/// What the robot knows of a lot.
#[derive(Debug, Default)]
struct Knowledge {
    /// The public fields.
    state: Value,
    /// The own part.
    you: Value,
    /// The lowest price it would go to, in units of the lot's scale; made up when the lot is seen first.
    floor: Option<i64>,
    /// When it has thought enough.
    ready: Option<Instant>,
    /// The turn in which it has bid, so that it bids once a turn.
    turn: Option<(u64, u64)>,
}

/// What a robot does.
#[derive(Debug, PartialEq, Eq)]
enum Move {
    /// A bid at this price.
    Bid(String),
    /// An accept of this step or level.
    Accept(u64),
}

/// Plays in whatever `lots` holds, for ever; comes back when the connection is lost.
pub async fn play(client: Client, mut lots: watch::Receiver<BTreeSet<String>>, mut dice: Dice) {
    let mut known = HashMap::new();
    loop {
        if let Err(error) = follow(&client, &mut lots, &mut known, &mut dice).await {
            tracing::debug!(error = format!("{error:#}"), "A robot lost its connection");
        }
        tokio::time::sleep(Duration::from_millis(dice.between(RECONNECT_MS.0, RECONNECT_MS.1))).await;
    }
}

async fn follow(
    client: &Client,
    lots: &mut watch::Receiver<BTreeSet<String>>,
    known: &mut HashMap<String, Knowledge>,
    dice: &mut Dice,
) -> anyhow::Result<()> {
    let token = client.sign_in().await?;
    let address = client.address();
    let mut request = format!("ws://{address}/v1/feed").into_client_request()?;
    request.headers_mut().insert("sec-websocket-protocol", "auction.v1.json".parse()?);
    let stream = TcpStream::connect(address).await?;
    stream.set_nodelay(true)?;
    let (mut socket, _) = tokio_tungstenite::client_async(request, stream).await?;
    known.retain(|lot, _| lots.borrow().contains(lot));
    let resume: Vec<Value> = known.keys().map(|lot| json!({ "lot": lot })).collect();
    let hello =
        json!({ "id": 1, "op": "hello", "d": { "token": token, "client": "practice-robot/1", "resume": resume } });
    socket.send(Message::text(hello.to_string())).await?;
    let mut id = 1;
    // Lots of before the connection are in `hello`; those that came since are followed like all later ones.
    lots.mark_changed();
    let mut heard = Instant::now();
    loop {
        let wake = known.values().filter_map(|lot| lot.ready).min().unwrap_or(heard + DEAF).min(heard + DEAF);
        let frame = tokio::select! {
            frame = socket.next() => Some(frame.context("the server closed")??),
            () = tokio::time::sleep_until(wake) => None,
            changed = lots.changed() => {
                changed.context("the demo ends")?;
                let asked: Vec<_> = changes(&lots.borrow_and_update(), known).collect();
                for (op, lot) in asked {
                    id += 1;
                    let request = json!({ "id": id, "op": op, "d": { "lot": lot } });
                    socket.send(Message::text(request.to_string())).await?;
                }
                continue;
            }
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
            let Some(next) = choose(knowledge, dice) else { continue };
            id += 1;
            let cid = Uuid::now_v7().to_string();
            let request = match next {
                // It knows what it does, however large the drop.
                Move::Bid(price) => {
                    json!({ "id": id, "op": "bid.place", "d": { "lot": lot, "cid": cid, "price": price, "confirm": true } })
                }
                Move::Accept(step) => {
                    json!({ "id": id, "op": "bid.accept", "d": { "lot": lot, "cid": cid, "step": step } })
                }
            };
            socket.send(Message::text(request.to_string())).await?;
        }
    }
}

/// Takes over which lots are to be followed; answers the requests that say so to the server.
fn changes(
    wanted: &BTreeSet<String>,
    known: &mut HashMap<String, Knowledge>,
) -> impl Iterator<Item = (&'static str, String)> {
    let gone: Vec<String> = known.keys().filter(|lot| !wanted.contains(*lot)).cloned().collect();
    let come: Vec<String> = wanted.iter().filter(|lot| !known.contains_key(*lot)).cloned().collect();
    known.retain(|lot, _| wanted.contains(lot));
    known.extend(come.iter().map(|lot| (lot.clone(), Knowledge::default())));
    gone.into_iter().map(|lot| ("unsub", lot)).chain(come.into_iter().map(|lot| ("sub", lot)))
}

/// Takes a frame in. A lot in which the robot could do something makes it think.
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
    if !could_act(knowledge) {
        knowledge.ready = None;
    } else if knowledge.ready.is_none() {
        let phased = !knowledge.state["phase"].is_null();
        let (low, high) =
            if phased || seconds_left(&knowledge.state) < HURRY_BEFORE_S { HURRY_MS } else { THINK_MS };
        knowledge.ready = Some(Instant::now() + Duration::from_millis(dice.between(low, high)));
    }
}

/// Whether there is something to think about: what `choose` then does may still be nothing.
fn could_act(knowledge: &Knowledge) -> bool {
    let Knowledge { state, you, .. } = knowledge;
    let (is_open, is_pending) = (state["stage"] == "open", state["stage"] == "pending");
    match state["format"].as_str() {
        Some("english") => is_open && you["lead"] != true,
        Some("sealed") => is_open && you["standing"].is_null(),
        Some("dutch") => is_open,
        Some("japanese") => is_open && you["in"] == true && you["standing"] != state["phase"]["price"],
        Some("rounds") => {
            (is_pending && you["standing"].is_null())
                || (is_open && own_turn(state, you).is_some_and(|turn| knowledge.turn != Some(turn)))
        }
        _ => false,
    }
}

/// The turn that runs, if it is the robot's own: round and turn.
fn own_turn(state: &Value, you: &Value) -> Option<(u64, u64)> {
    let phase = &state["phase"];
    let is_own = phase["kind"] == "turn" && phase["bidder"] == you["number"];
    is_own.then(|| Some((phase["round"].as_u64()?, phase["turn"].as_u64()?)))?
}

fn seconds_left(state: &Value) -> i64 {
    let closes_at = state["closes_at"].as_str().and_then(|text| text.parse::<jiff::Timestamp>().ok());
    closes_at.map_or(i64::MAX, |at| at.as_second() - jiff::Timestamp::now().as_second())
}

/// What to do now; nothing if it would be below the robot's floor.
fn choose(knowledge: &mut Knowledge, dice: &mut Dice) -> Option<Move> {
    if !could_act(knowledge) {
        return None;
    }
    let Knowledge { state, you, floor, turn, .. } = knowledge;
    let scale = u32::try_from(state["price_scale"].as_u64()?).ok()?;
    let units = |value: &Value| value.as_str().and_then(|text| units(text, scale));
    let highest = units(&you["max_next"])?;
    let top = units(&state["ceiling"]).unwrap_or(highest);
    let floor = *floor.get_or_insert_with(|| top * dice.between(FLOOR_PERCENT.0, FLOOR_PERCENT.1) as i64 / 100);
    if let ("dutch" | "japanese", Some(step)) = (state["format"].as_str()?, state["phase"]["step"].as_u64()) {
        return (units(&state["phase"]["price"])? >= floor).then_some(Move::Accept(step));
    }
    let step = units(&state["decrement"]["value"]).filter(|_| state["decrement"]["kind"] == "amount");
    let step = step.unwrap_or(top / 200).max(1);
    let target = match (state["format"].as_str()?, units(&state["lead"]["price"])) {
        // Once, and not far from what it costs.
        ("sealed", _) => floor + (top - floor) * dice.between(5, 50) as i64 / 100,
        // Under the lead by one to three steps; the first bid a little under the ceiling.
        (_, Some(lead)) => lead - step * dice.between(1, 3) as i64,
        (_, None) => top - step * dice.between(0, 6) as i64,
    };
    *turn = own_turn(state, you).or(*turn);
    let price = target.min(highest);
    (price >= floor).then(|| Move::Bid(text(price, scale)))
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

    fn knowledge(state: Value, you: Value) -> Knowledge {
        let mut all = json!({
            "stage": "open", "format": "english", "price_scale": 2, "ceiling": "1000.00", "closes_at": null,
            "decrement": { "kind": "amount", "value": "5.00" },
        });
        all.as_object_mut().expect("an object").extend(state.as_object().expect("an object").clone());
        Knowledge { state: all, you, floor: Some(70_000), ..Knowledge::default() }
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
        let mut bid = |lead: &str, max_next: &str| {
            let mut known =
                knowledge(json!({ "lead": { "price": lead } }), json!({ "max_next": max_next, "lead": false }));
            choose(&mut known, &mut dice)
        };
        for _ in 0..100 {
            let Some(Move::Bid(price)) = bid("900.00", "950.00") else { panic!("no bid") };
            let price = units(&price, 2).expect("a price");
            assert!((88_500..=89_500).contains(&price), "{price}");
            assert_eq!(bid("702.00", "950.00"), None);
            assert_eq!(
                bid("900.00", "800.00"),
                Some(Move::Bid("800.00".to_owned())),
                "never above what would be taken"
            );
        }
    }

    #[test]
    fn it_accepts_the_step_that_runs_from_its_price_on_and_stays_in_down_to_it() {
        let mut dice = Dice::new();
        for (format, price, you, expected) in [
            ("dutch", "690.00", json!({ "max_next": "690.00" }), None),
            ("dutch", "700.00", json!({ "max_next": "700.00" }), Some(Move::Accept(4))),
            (
                "japanese",
                "700.00",
                json!({ "max_next": "700.00", "in": true, "standing": "750.00" }),
                Some(Move::Accept(4)),
            ),
            ("japanese", "700.00", json!({ "max_next": "700.00", "in": true, "standing": "700.00" }), None),
            ("japanese", "700.00", json!({ "max_next": "700.00", "in": false }), None),
            ("japanese", "650.00", json!({ "max_next": "650.00", "in": true }), None),
        ] {
            let phase = json!({ "format": format, "phase": { "kind": "step", "step": 4, "price": price } });
            assert_eq!(choose(&mut knowledge(phase, you), &mut dice), expected, "{format} {price}");
        }
    }

    #[test]
    fn it_bids_once_in_its_own_turn_and_before_the_opening() {
        let mut dice = Dice::new();
        let turn = |bidder: u64| {
            json!({ "format": "rounds", "lead": { "price": "900.00" },
                    "phase": { "kind": "turn", "round": 1, "turn": 2, "bidder": bidder } })
        };
        let you = json!({ "number": 3, "standing": "950.00", "max_next": "945.00" });
        assert_eq!(choose(&mut knowledge(turn(1), you.clone()), &mut dice), None);
        let mut own = knowledge(turn(3), you.clone());
        assert!(matches!(choose(&mut own, &mut dice), Some(Move::Bid(_))));
        assert_eq!(choose(&mut own, &mut dice), None, "once");
        let pending = json!({ "format": "rounds", "stage": "pending" });
        let mut before = knowledge(pending, json!({ "number": 3, "standing": null, "max_next": "1000.00" }));
        assert!(matches!(choose(&mut before, &mut dice), Some(Move::Bid(_))));
    }

    #[test]
    fn it_thinks_only_while_it_could_gain() {
        let mut dice = Dice::new();
        let mut known = HashMap::from([("L".to_owned(), Knowledge::default())]);
        let frame = |stage: &str, leads: bool| {
            let state = json!({ "stage": stage, "format": "english", "price_scale": 2, "closes_at": null });
            json!({ "p": "snap", "lot": "L", "state": state, "you": { "lead": leads } })
        };
        for (stage, leads, thinks) in [("open", false, true), ("open", true, false), ("paused", false, false)] {
            learn(&frame(stage, leads), &mut known, &mut dice);
            assert_eq!(known["L"].ready.is_some(), thinks, "{stage} {leads}");
        }
        learn(&json!({ "p": "snap", "lot": "other", "state": {} }), &mut known, &mut dice);
        assert_eq!(known.len(), 1);
    }

    #[test]
    fn it_follows_new_lots_and_forgets_old_ones() {
        let mut known = HashMap::from([("old".to_owned(), Knowledge::default())]);
        let wanted = BTreeSet::from(["new".to_owned()]);
        let asked: Vec<_> = changes(&wanted, &mut known).collect();
        assert_eq!(asked, [("unsub", "old".to_owned()), ("sub", "new".to_owned())]);
        assert!(changes(&wanted, &mut known).next().is_none());
    }
}
