//! Looks at a history from outside, after everything that happened to it: everything answered is there and the same,
//! nothing is doubled, the feed, the audit and the log say the same.

use std::collections::BTreeMap;
use std::time::Duration;

use serde_json::{Value, json};
use tokio::runtime::Handle;

use crate::support::Client;
use crate::support::socket::Socket;
use crate::world::{Home, Op, Served, World, request};

/// What was looked at.
#[derive(Clone, Copy, Debug, Default)]
pub struct Looked {
    /// Requests that had been answered before the crashes.
    pub answered: usize,
    /// Requests that nobody answered, and that were taken before the crash that hid the answer.
    pub taken_unanswered: usize,
    /// Requests that nobody answered, and that were not taken.
    pub not_taken: usize,
    /// Lots whose reader resumed where it stood.
    pub resumed: usize,
    /// Lots whose reader was told to begin again.
    pub begun_again: usize,
}

impl Looked {
    /// Adds what was looked at elsewhere.
    pub fn add(&mut self, other: Self) {
        self.answered += other.answered;
        self.taken_unanswered += other.taken_unanswered;
        self.not_taken += other.not_taken;
        self.resumed += other.resumed;
        self.begun_again += other.begun_again;
    }
}

fn get(served: &Served, path: &str, token: &str) -> Result<Value, String> {
    match request(served.listen, "GET", path, token, "", "") {
        Some(told) if told.status == 200 => Ok(told.body),
        Some(told) => Err(format!("GET {path} was answered {}: {}", told.status, told.body)),
        None => Err(format!("GET {path} was not answered")),
    }
}

/// Checks everything against what was `ops`; the first thing that does not hold. Ends the program.
pub fn judge(
    world: &World,
    home: &Home,
    served: &mut Served,
    ops: Vec<Op>,
    handle: &Handle,
) -> Result<Looked, String> {
    let looked = answers(world, served, ops, handle)?;
    end(world, served)?;
    audit(&world.tender, &world.tokens[0], home, served)?;
    served.kill();
    verify_log(home)?;
    Ok(looked)
}

/// Ends the tender, so that its audit can be exported.
pub fn end(world: &World, served: &Served) -> Result<(), String> {
    let cancelled = json!({ "reason": "the test is over" }).to_string();
    let path = format!("/v1/tenders/{}/cancel", world.tender);
    let key = uuid::Uuid::new_v4().to_string();
    match request(served.listen, "POST", &path, &world.tokens[0], &key, &cancelled) {
        Some(told) if told.status == 200 => Ok(()),
        told => Err(format!("cancel: {:?}", told.map(|told| told.body))),
    }
}

/// Checks what is answered and what the feed says against what was `ops`.
pub fn answers(world: &World, served: &Served, mut ops: Vec<Op>, handle: &Handle) -> Result<Looked, String> {
    let mut looked = Looked::default();
    for op in &mut ops {
        let send = || {
            let told = request(served.listen, "POST", &op.path, &world.tokens[op.who], &op.key, &op.body);
            told.ok_or_else(|| format!("{} was not answered", op.key))
        };
        let told = send()?;
        if told.status != 201 {
            return Err(format!("{} {} was answered {}: {}", op.path, op.key, told.status, told.body));
        }
        match &op.answer {
            Some(answer) => {
                if !told.replayed || told.body != *answer {
                    return Err(format!("{} was answered {answer}, and then {}", op.key, told.body));
                }
                looked.answered += 1;
            }
            None => {
                if told.replayed && op.refused.is_some() {
                    return Err(format!("{op:?} was refused and yet taken: {}", told.body));
                }
                looked.taken_unanswered += usize::from(told.replayed);
                looked.not_taken += usize::from(!told.replayed);
                let again = send()?;
                if !again.replayed || again.body != told.body {
                    return Err(format!("{} was answered {}, and then {}", op.key, told.body, again.body));
                }
                op.answer = Some(told.body);
            }
        }
    }
    drafts(world, served, &ops)?;
    for lot in 0..world.lots.len() {
        bids(world, served, &ops, lot)?;
        let last = get(served, &format!("/v1/lots/{}", world.lots[lot]), &world.tokens[0])?;
        let last = last["seq"].as_u64().ok_or("a lot without a seq")?;
        // One that was away for long, and one that was away for a moment.
        for from in [world.seqs[lot], last.saturating_sub(4).max(world.seqs[lot])] {
            let resumed = handle.block_on(feed(world, served, &ops, lot, from))?;
            looked.resumed += usize::from(resumed);
            looked.begun_again += usize::from(!resumed);
        }
    }
    Ok(looked)
}

/// `log verify` finds nothing wrong.
pub fn verify_log(home: &Home) -> Result<(), String> {
    let verified = home.run(&["log", "verify", "--data", "data"]);
    if verified.status.success() {
        return Ok(());
    }
    Err(format!("log verify: {}", String::from_utf8_lossy(&verified.stdout)))
}

/// All pages of a list.
fn pages(served: &Served, path: &str, token: &str) -> Result<Vec<Value>, String> {
    let (mut items, mut next) = (Vec::new(), format!("{path}limit=200"));
    loop {
        let page = get(served, &next, token)?;
        items.extend(page["items"].as_array().ok_or("no items")?.iter().cloned());
        let Some(cursor) = page["next"].as_str() else { return Ok(items) };
        next = format!("{path}limit=200&cursor={cursor}");
    }
}

/// Each draft is there once, and nothing else.
fn drafts(world: &World, served: &Served, ops: &[Op]) -> Result<(), String> {
    let mut expected: Vec<&str> = ops.iter().filter(|op| op.bid.is_none()).map(|op| id(op, "id")).collect();
    expected.push(&world.tender);
    expected.sort_unstable();
    let found = pages(served, "/v1/tenders?mine=true&", &world.tokens[0])?;
    let mut found: Vec<&str> = found.iter().map(|tender| tender["id"].as_str().unwrap_or_default()).collect();
    found.sort_unstable();
    if found == expected { Ok(()) } else { Err(format!("tenders: {found:?} instead of {expected:?}")) }
}

fn id<'a>(op: &'a Op, name: &str) -> &'a str {
    op.answer.as_ref().and_then(|answer| answer[name].as_str()).unwrap_or_default()
}

/// The bids of `lot` that were answered: by `seq`, the bid and its price.
fn placed(ops: &[Op], lot: usize) -> Result<BTreeMap<u64, (String, String)>, String> {
    let mut placed = BTreeMap::new();
    for op in ops {
        let Some((_, price)) = op.bid.as_ref().filter(|(of, _)| *of == lot) else { continue };
        let seq = op.answer.as_ref().and_then(|answer| answer["seq"].as_u64()).ok_or("an answer without a seq")?;
        if let Some(other) = placed.insert(seq, (id(op, "bid").to_owned(), price.clone())) {
            return Err(format!("two bids of lot {lot} have seq {seq}: {other:?} and {op:?}"));
        }
    }
    Ok(placed)
}

/// The history of a lot holds each bid once, at its `seq` and with its price, and nothing else.
fn bids(world: &World, served: &Served, ops: &[Op], lot: usize) -> Result<(), String> {
    let path = format!("/v1/lots/{}/bids?", world.lots[lot]);
    let mut found = BTreeMap::new();
    for line in pages(served, &path, &world.tokens[0])? {
        let text = |name: &str| line[name].as_str().unwrap_or_default().to_owned();
        let seq = line["seq"].as_u64().ok_or("a line without a seq")?;
        if line["status"] != "accepted" || found.insert(seq, (text("bid"), text("price"))).is_some() {
            return Err(format!("lot {lot} has a second or refused bid: {line}"));
        }
    }
    let expected = placed(ops, lot)?;
    if found == expected {
        return Ok(());
    }
    let differs = found.iter().find(|(seq, bid)| expected.get(seq) != Some(bid));
    let missing = expected.iter().find(|(seq, bid)| found.get(seq) != Some(bid));
    Err(format!("lot {lot}: {differs:?} was never answered so, {missing:?} was and is not there"))
}

/// A reader that stood at `from` goes on from there: every bid is a step at its `seq`, without a hole. Answers whether it
/// could resume; else it got the whole lot, and that agrees.
async fn feed(world: &World, served: &Served, ops: &[Op], lot: usize, from: u64) -> Result<bool, String> {
    let client = Client { address: served.listen, token: Some(world.tokens[0].clone()) };
    let snap = client.get(&format!("/v1/lots/{}", world.lots[lot])).await.expect(200);
    let last = snap["seq"].as_u64().ok_or("a lot without a seq")?;
    let mut socket = Socket::connect(&client).await;
    let reply = socket.ask("sub", json!({ "lot": world.lots[lot], "epoch": world.epoch, "seq": from })).await;
    if reply["ok"]["epoch"] != world.epoch {
        return Err(format!("lot {lot} has another epoch: {reply}"));
    }
    let bids = placed(ops, lot)?;
    if reply["ok"]["recovered"] != true {
        let found = socket.push("snap", |frame| frame["lot"] == world.lots[lot]).await;
        // Bids may get worse here: what stands is each supplier's last.
        let mut standing = BTreeMap::new();
        for op in ops.iter().filter(|op| op.bid.as_ref().is_some_and(|(of, _)| *of == lot)) {
            let seq = op.answer.as_ref().and_then(|answer| answer["seq"].as_u64());
            let last = standing.entry(op.who).or_insert((seq, op));
            if last.0 < seq {
                *last = (seq, op);
            }
        }
        // Prices of one length: the least text is the least price.
        let lowest = standing.values().filter_map(|(_, op)| Some(op.bid.as_ref()?.1.as_str())).min();
        let same = found["seq"].as_u64() == Some(last) && found["state"] == snap["state"];
        let leads = found["state"]["lead"]["price"].as_str() == lowest;
        return if same && leads { Ok(false) } else { Err(format!("lot {lot}: {found} instead of {snap}")) };
    }
    for expected in from + 1..=last {
        let frame = socket.push("upd", |frame| frame["lot"] == world.lots[lot]).await;
        if frame["seq"].as_u64() != Some(expected) {
            return Err(format!("lot {lot}: step {expected} did not follow, but {frame}"));
        }
        let event = frame["ev"].as_array().and_then(|events| events.iter().find(|event| event["type"] == "bid"));
        let told = event.and_then(|event| event["price"].as_str());
        let answered = bids.get(&expected).map(|(_, price)| price.as_str());
        if told != answered {
            return Err(format!("lot {lot}, step {expected}: {answered:?} was answered, the feed says {frame}"));
        }
    }
    Ok(true)
}

/// Lets another process verify the export of the audit of a tender that has ended.
pub fn audit(tender: &str, token: &str, home: &Home, served: &Served) -> Result<(), String> {
    let path = format!("/v1/tenders/{tender}/audit");
    let mut exported = get(served, &path, token);
    for _ in 0..40 {
        // The audit follows the log within moments.
        if !exported.as_ref().is_err_and(|why| why.contains("answered 503")) {
            break;
        }
        std::thread::sleep(Duration::from_millis(25));
        exported = get(served, &path, token);
    }
    std::fs::write(home.0.join("audit.json"), exported?.to_string()).map_err(|error| error.to_string())?;
    let verified = home.run(&["audit", "verify", "audit.json"]);
    if verified.status.success() {
        return Ok(());
    }
    let said = String::from_utf8_lossy(&verified.stdout) + String::from_utf8_lossy(&verified.stderr);
    Err(format!("audit verify: {said}"))
}
