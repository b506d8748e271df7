//! The process is killed at any moment under load and started again: every answered bid is there with its `seq`, every
//! unanswered one has exactly one outcome, and readers that resume see no hole and nothing twice.

mod process;
mod support;

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use futures_util::{SinkExt, StreamExt};
use process::{Process, sign_up};
use serde_json::{Value, json};
use support::Client;
use tokio::net::TcpStream;
use tokio_tungstenite::tungstenite::{ClientRequestBuilder, Message};
use tokio_tungstenite::{MaybeTlsStream, WebSocketStream};

/// How often the process is killed.
const KILLS: u64 = 6;
/// Bidders, and how long each waits between two bids: 500 bids a second together.
const BIDDERS: usize = 3;
const PACE: Duration = Duration::from_millis(6);
/// The contract lets 32 requests be unanswered; one is kept for questions.
const IN_FLIGHT: usize = 31;

type Socket = WebSocketStream<MaybeTlsStream<TcpStream>>;

/// A signed-in socket. None while there is nobody to answer.
async fn connect(address: SocketAddr, token: &str) -> Option<Socket> {
    let uri = format!("ws://{address}/v1/feed").parse().expect("an address");
    let request = ClientRequestBuilder::new(uri).with_sub_protocol("auction.v1.json");
    let (mut socket, _) = tokio_tungstenite::connect_async(request).await.ok()?;
    let hello = json!({ "id": 1, "op": "hello", "d": { "token": token } });
    socket.send(Message::text(hello.to_string())).await.ok()?;
    loop {
        let frame = receive(&mut socket).await?;
        if frame["re"] == 1 {
            assert!(frame["ok"].is_object(), "{frame}");
            return Some(socket);
        }
    }
}

/// The next frame; none when the socket is gone.
async fn receive(socket: &mut Socket) -> Option<Value> {
    loop {
        match socket.next().await? {
            Ok(Message::Text(text)) => return Some(serde_json::from_str(&text).expect("JSON")),
            Ok(Message::Close(_)) | Err(_) => return None,
            Ok(_) => {}
        }
    }
}

/// What one bidder sent, and what it was told.
#[derive(Debug, Default)]
struct Book {
    /// By `cid`: the price, and the outcome once it is known.
    sent: BTreeMap<String, (String, Option<Outcome>)>,
    /// Outcomes that came by a resend or a question after a crash.
    resolved_later: usize,
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct Outcome {
    bid: String,
    seq: u64,
}

impl Book {
    fn told(&mut self, cid: &str, told: &Value) {
        let outcome = Outcome {
            bid: told["bid"].as_str().unwrap_or_else(|| panic!("no bid in {told}")).to_owned(),
            seq: told["seq"].as_u64().expect("a seq"),
        };
        let (_, known) = self.sent.get_mut(cid).expect("only what was sent is answered");
        match known {
            None => *known = Some(outcome),
            Some(known) => assert_eq!(*known, outcome, "{cid} has two outcomes"),
        }
    }

    fn open(&self) -> Vec<(String, String)> {
        let open = self.sent.iter().filter(|(_, (_, outcome))| outcome.is_none());
        open.map(|(cid, (price, _))| (cid.clone(), price.clone())).collect()
    }
}

struct Game {
    address: SocketAddr,
    lot: String,
    price: AtomicU64,
    over: AtomicBool,
}

impl Game {
    fn next_price(&self) -> String {
        let price = 900_000_000 - self.price.fetch_add(1, Ordering::Relaxed);
        format!("{}.{:02}", price / 100, price % 100)
    }
}

/// Bids at its pace, reconnects when the socket dies, and then settles what was left open: every other one by sending
/// it again, the rest by asking first. Ends when the game is over and nothing is open.
async fn bidder(game: Arc<Game>, number: usize, token: String, book: Arc<Mutex<Book>>) {
    let mut count = 0u64;
    'connections: loop {
        let Some(mut socket) = connect(game.address, &token).await else {
            tokio::time::sleep(Duration::from_millis(20)).await;
            continue;
        };
        let mut id = 1u64;
        // What each unanswered request was about: the `cid`, and whether it only asked.
        let mut asked: BTreeMap<u64, (String, bool)> = BTreeMap::new();
        let mut backlog = book.lock().expect("the book").open();
        let mut pace = tokio::time::interval(PACE);
        pace.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            let over = game.over.load(Ordering::Relaxed);
            if over && backlog.is_empty() && asked.is_empty() && book.lock().expect("the book").open().is_empty() {
                return;
            }
            tokio::select! {
                _ = pace.tick(), if asked.len() < IN_FLIGHT && !(over && backlog.is_empty()) => {
                    id += 1;
                    let (cid, price, ask) = match backlog.pop() {
                        Some((cid, price)) => { let ask = id.is_multiple_of(2); (cid, price, ask) }
                        None => {
                            count += 1;
                            let (cid, price) = (format!("{number}-{count}"), game.next_price());
                            book.lock().expect("the book").sent.insert(cid.clone(), (price.clone(), None));
                            (cid, price, false)
                        }
                    };
                    let request = if ask {
                        json!({ "id": id, "op": "bid.query", "d": { "lot": game.lot, "cid": cid } })
                    } else {
                        let d = json!({ "lot": game.lot, "cid": cid, "price": price });
                        json!({ "id": id, "op": "bid.place", "d": d })
                    };
                    asked.insert(id, (cid, ask));
                    if socket.send(Message::text(request.to_string())).await.is_err() {
                        continue 'connections;
                    }
                }
                frame = receive(&mut socket) => {
                    let Some(frame) = frame else { continue 'connections };
                    let Some(re) = frame["re"].as_u64() else { continue };
                    let (cid, ask) = asked.remove(&re).expect("only requests are answered");
                    let told = &frame["ok"];
                    assert!(told.is_object(), "every bid here is good: {frame}");
                    let mut book = book.lock().expect("the book");
                    if ask && told["status"] == "unknown" {
                        // Certainly not taken: the same key may be sent again.
                        let price = book.sent[&cid].0.clone();
                        backlog.push((cid, price));
                        // The next turn must send, not ask for ever.
                        id += u64::from(!id.is_multiple_of(2));
                    } else {
                        assert_eq!(told["status"], "accepted", "{frame}");
                        book.resolved_later += usize::from(ask || told["dup"] == true);
                        book.told(&cid, told);
                    }
                }
            }
        }
    }
}

/// Follows the lot across all crashes. Answers the steps it saw, in the order in which it saw them.
async fn reader(game: Arc<Game>, token: String) -> Vec<u64> {
    let mut seen: Vec<u64> = Vec::new();
    let mut position: Option<(String, u64)> = None;
    'connections: loop {
        let Some(mut socket) = connect(game.address, &token).await else {
            tokio::time::sleep(Duration::from_millis(20)).await;
            continue;
        };
        let mut d = json!({ "lot": game.lot });
        if let Some((epoch, seq)) = &position {
            d["epoch"] = json!(epoch);
            d["seq"] = json!(seq);
        }
        let sub = json!({ "id": 2, "op": "sub", "d": d });
        if socket.send(Message::text(sub.to_string())).await.is_err() {
            continue;
        }
        loop {
            let Some(frame) = receive(&mut socket).await else { continue 'connections };
            if frame["re"] == 2 {
                let epoch = frame["ok"]["epoch"].as_str().expect("an epoch").to_owned();
                if let Some((known, _)) = &position {
                    assert_eq!(*known, epoch, "a crash does not change history");
                    assert_eq!(frame["ok"]["recovered"], true, "all missed steps are in the window: {frame}");
                } else {
                    position = Some((epoch, 0));
                }
            } else if frame["p"] == "snap" {
                assert!(seen.is_empty(), "a reader that resumes gets steps: {frame}");
                seen.push(frame["seq"].as_u64().expect("a seq"));
            } else if frame["p"] == "upd" {
                seen.push(frame["seq"].as_u64().expect("a seq"));
            }
            if let (Some((_, at)), Some(last)) = (&mut position, seen.last()) {
                *at = *last;
            }
            let last = frame["lots"][0]["seq"].as_u64();
            if game.over.load(Ordering::Relaxed)
                && frame["p"] == "hb"
                && last.is_some()
                && last == seen.last().copied()
            {
                return seen;
            }
        }
    }
}

/// A draw from 0 to `below` that differs from run to run; the moments are printed.
fn draw(below: u64) -> u64 {
    let bits = uuid::Uuid::new_v4().as_u128() as u64;
    bits % below
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn killed_at_any_moment_nothing_answered_is_lost_or_doubled() {
    let dir = tempfile::tempdir().expect("a folder");
    let mut process = Process::start(dir.path(), dir.path()).await;
    let client = Client { address: process.address, token: None };
    let (buyer, _) = sign_up(&client, "buyer", "buyer").await;
    let tender = buyer
        .post(
            "/v1/tenders",
            &json!({ "title": "Killed", "currency": "SAR", "lots": [{ "title": "Lot", "items": [], "rules": {
                "format": "english", "duration_s": 3600, "guard_percent": null, "improvement": "free" } }] }),
        )
        .await
        .expect(201);
    let (id, lot) =
        (tender["id"].as_str().expect("an id"), tender["lots"][0]["id"].as_str().expect("an id").to_owned());
    let mut tokens = Vec::new();
    for number in 0..BIDDERS {
        let (supplier, organisation) = sign_up(&client, &format!("supplier{number}"), "supplier").await;
        buyer
            .post(&format!("/v1/tenders/{id}/bidders"), &json!({ "organisation": organisation }))
            .await
            .expect(201);
        tokens.push(supplier.token.expect("signed in"));
    }
    buyer.post(&format!("/v1/tenders/{id}/publish"), &json!({})).await.expect(200);
    buyer.post(&format!("/v1/tenders/{id}/start"), &json!({})).await.expect(200);

    let game = Arc::new(Game {
        address: process.address,
        lot: lot.clone(),
        price: AtomicU64::new(0),
        over: AtomicBool::new(false),
    });
    let reading = tokio::spawn(reader(Arc::clone(&game), buyer.token.clone().expect("signed in")));
    let books: Vec<_> = tokens.iter().map(|_| Arc::new(Mutex::new(Book::default()))).collect();
    let bidding: Vec<_> = tokens
        .into_iter()
        .enumerate()
        .map(|(number, token)| tokio::spawn(bidder(Arc::clone(&game), number, token, Arc::clone(&books[number]))))
        .collect();
    let in_flight = |books: &[Arc<Mutex<Book>>]| -> usize {
        books.iter().map(|book| book.lock().expect("the book").open().len()).sum()
    };
    let mut met = 0;
    for kill in 1..=KILLS {
        let moment = 300 + draw(900);
        tokio::time::sleep(Duration::from_millis(moment)).await;
        if kill % 2 == 0 {
            // Any moment, and every other time one at which somebody certainly waits: what is sent to a process that
            // stands still is in flight until it dies.
            process.freeze();
            let waited = Instant::now();
            tokio::time::sleep(Duration::from_millis(50)).await;
            while in_flight(&books) == 0 {
                assert!(waited.elapsed() < Duration::from_secs(20), "nobody bids");
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        }
        met += in_flight(&books);
        println!("kill {kill} after {moment} ms");
        process.kill_and_start().await;
    }
    tokio::time::sleep(Duration::from_millis(300)).await;
    game.over.store(true, Ordering::Relaxed);
    // Far longer than settling takes: without an end a test that can't end says nothing.
    let patience = Duration::from_secs(120);
    for task in bidding {
        let settled = tokio::time::timeout(patience, task).await.expect("every bid is settled in the end");
        settled.expect("the bidder's checks hold");
    }
    let read = tokio::time::timeout(patience, reading).await.expect("the reader reaches the last step");
    let seen = read.expect("the reader's checks hold");

    let path = format!("/v1/lots/{lot}");
    let before = buyer.get(&path).await.expect(200);
    process.kill_and_start().await;
    let after = buyer.get(&path).await.expect(200);
    // The last crash makes no step: nobody's end had come.
    assert_eq!(before, after, "the lot is as it was");

    let mut history: BTreeMap<String, (u64, String)> = BTreeMap::new();
    let mut next = format!("{path}/bids?limit=200");
    loop {
        let page = buyer.get(&next).await.expect(200);
        for line in page["items"].as_array().expect("items") {
            assert_eq!(line["status"], "accepted", "{line}");
            let text = |name: &str| line[name].as_str().expect("a text").to_owned();
            let doubled = history.insert(text("bid"), (line["seq"].as_u64().expect("a seq"), text("price")));
            assert_eq!(doubled, None, "{line} is there twice");
        }
        let Some(cursor) = page["next"].as_str() else { break };
        next = format!("{path}/bids?limit=200&cursor={cursor}");
    }
    let (mut answered, mut resolved_later) = (0, 0);
    let mut seqs = BTreeSet::new();
    for book in &books {
        let book = book.lock().expect("the book");
        resolved_later += book.resolved_later;
        for (cid, (price, outcome)) in &book.sent {
            let outcome = outcome.as_ref().expect("everything was settled");
            let (seq, stands_at) =
                history.get(&outcome.bid).unwrap_or_else(|| panic!("{cid} was answered and is lost"));
            assert_eq!((*seq, stands_at), (outcome.seq, price), "{cid}");
            assert!(seqs.insert(*seq), "{cid}: two bids with one seq");
            answered += 1;
        }
    }
    assert_eq!(history.len(), answered, "nothing is there that nobody sent");
    assert!(seen.windows(2).all(|pair| pair[1] == pair[0] + 1), "the reader saw a hole or a step twice");
    assert!(
        seqs.iter().all(|seq| seen.first().is_some_and(|first| seq <= first) || seen.binary_search(seq).is_ok())
    );
    println!(
        "{KILLS} kills met {met} bids in flight; {answered} bids, {resolved_later} of them answered after a crash, {} \
         steps read",
        seen.len()
    );
    assert!(met >= usize::try_from(KILLS / 2).expect("few"), "the kills met nothing in flight");
    assert!(answered >= 300, "the test tried too little");
}
