//! Every format from its opening to its award on the running server, through both doors, in real time; then the same
//! commands with the server's own stamps through `simulate`: the same answers, and the same result to the millisecond.

use serde_json::{Map, Value, json};

use crate::support::socket::Socket;
use crate::support::{Account, Ids, TestServer, create_tender, eventually, fresh, sign_up};

const BIDDERS: [&str; 3] = ["A", "B", "C"];
const A: usize = 0;
const B: usize = 1;
const C: usize = 2;

/// A lot that runs on the server, and the scenario that is written down meanwhile.
struct Run {
    buyer: Account,
    suppliers: Vec<Account>,
    sockets: Vec<Socket>,
    ids: Ids,
    /// The lines of the scenario, and what the server told about those of bidders.
    lines: Vec<(Value, Option<Value>)>,
    /// The door takes turns.
    asked: usize,
}

/// What both tell about one decision.
fn told(value: &Value, code: &Value) -> Value {
    let next = |field: &str| value.get(field).cloned().unwrap_or(Value::Null);
    json!({ "refused": code, "max_next": next("max_next"), "max_next_unlimited": next("max_next_unlimited") })
}

impl Run {
    /// A published tender of one lot; `scoring` is what each bidder is admitted with.
    async fn new(server: &TestServer, rules: &Value, scoring: [Value; 3]) -> Self {
        let buyer = sign_up(server, "buyer").await;
        let mut suppliers = Vec::new();
        for _ in BIDDERS {
            suppliers.push(sign_up(server, "supplier").await);
        }
        let mut body = json!({ "title": "Same", "currency": "SAR",
            "lots": [{ "title": "Lot", "items": [], "rules": rules }] });
        let ids = create_tender(&buyer, &body).await;
        let made = buyer.get(&ids.tender("")).await.expect(200);
        let at = made["created_at"].clone();
        body["lots"][0]["alias"] = "L1".into();
        let mut lines = vec![json!({ "at": at, "do": "create_tender", "tender": "T", "body": body })];
        let mut sockets = Vec::new();
        for ((alias, supplier), scoring) in BIDDERS.iter().zip(&suppliers).zip(scoring) {
            let mut admit = scoring.clone();
            admit["organisation"] = json!(supplier.organisation);
            buyer.post(&ids.tender("/bidders"), &admit).await.expect(201);
            lines.push(json!({ "at": at, "do": "admit", "tender": "T", "bidder": alias, "body": scoring }));
            sockets.push(Socket::connect(supplier).await);
        }
        buyer.post(&ids.tender("/publish"), &json!({})).await.expect(200);
        lines.push(json!({ "at": at, "do": "publish", "tender": "T" }));
        let lines = lines.into_iter().map(|line| (line, None)).collect();
        Self { buyer, suppliers, sockets, ids, lines, asked: 0 }
    }

    async fn start(&mut self) {
        let started = self.buyer.post(&self.ids.tender("/start"), &json!({})).await.expect(200);
        self.lines.push((json!({ "at": started["opens_at"], "do": "start", "tender": "T" }), None));
    }

    /// Sends `d` as `op` of the socket or as the body of `route`, in turns, and writes the line down.
    async fn send(&mut self, bidder: usize, op: &str, route: &str, d: Value, mut line: Value) -> Option<String> {
        self.asked += 1;
        let (at, told) = if self.asked.is_multiple_of(2) && !op.is_empty() {
            let mut d = d;
            d["lot"] = json!(self.ids.lots[0]);
            d["cid"] = json!(fresh("cid"));
            let reply = self.sockets[bidder].ask(op, d).await;
            match reply.get("ok") {
                Some(ok) => (ok["at"].clone(), told(ok, &Value::Null)),
                None => (reply["rx"].clone(), told(&reply["err"], &reply["err"]["code"])),
            }
        } else {
            let path = self.ids.lot(route);
            let client = &self.suppliers[bidder];
            let answer = match (route, d.is_null()) {
                ("/auto-bid", true) => client.delete(&path).await,
                ("/auto-bid", false) => client.put(&path, &d).await,
                _ => client.post(&path, &d).await,
            };
            let body = answer.json();
            let at = body.get("server_time").or_else(|| body.get("at"));
            (
                at.cloned().unwrap_or_else(|| panic!("{body}")),
                told(&body, body.get("code").unwrap_or(&Value::Null)),
            )
        };
        let code = told["refused"].as_str().map(str::to_owned);
        line["at"] = at;
        line["lot"] = "L1".into();
        line["bidder"] = BIDDERS[bidder].into();
        self.lines.push((line, Some(told)));
        code
    }

    async fn try_bid(&mut self, bidder: usize, d: Value) -> Option<String> {
        let mut line = d.clone();
        line["do"] = "bid".into();
        self.send(bidder, "bid.place", "/bids", d, line).await
    }

    async fn bid(&mut self, bidder: usize, price: &str) {
        let refused = self.try_bid(bidder, json!({ "price": price, "confirm": true })).await;
        assert_eq!(refused, None, "{price} of {bidder}");
    }

    async fn refused(&mut self, bidder: usize, d: Value, code: &str) {
        assert_eq!(self.try_bid(bidder, d).await.as_deref(), Some(code));
    }

    async fn accept(&mut self, bidder: usize, step: u64) -> Option<String> {
        let line = json!({ "do": "accept", "step": step });
        self.send(bidder, "bid.accept", "/accept", json!({ "step": step }), line).await
    }

    async fn limit(&mut self, bidder: usize, limit: Option<&str>) -> Option<String> {
        let d = limit.map_or(Value::Null, |limit| json!({ "limit": limit }));
        self.send(bidder, "", "/auto-bid", d, json!({ "do": "auto_bid", "limit": limit })).await
    }

    async fn state(&self) -> Value {
        self.buyer.get(&self.ids.lot("")).await.expect(200)["state"].clone()
    }

    /// Waits until the phase that runs is like `wanted`.
    async fn phase(&self, wanted: Value) -> Value {
        let wanted = wanted.as_object().expect("fields").clone();
        let fits = |phase: &Value| wanted.iter().all(|(field, value)| phase[field] == *value);
        eventually("the phase", || async { fits(&self.state().await["phase"]) }).await;
        self.state().await["phase"].clone()
    }

    /// Waits until the lot takes no more bids.
    async fn ended(&self) {
        let runs = |stage: &Value| ["pending", "open", "paused"].iter().any(|word| stage == word);
        eventually("the close", || async { !runs(&self.state().await["stage"]) }).await;
    }

    async fn award(&mut self, bidder: usize, reason: Option<&str>) {
        let body = json!({ "bidder": bidder + 1, "reason": reason });
        let award = self.buyer.post(&self.ids.lot("/award"), &body).await.expect(200);
        let line =
            json!({ "at": award["at"], "do": "award", "lot": "L1", "bidder": BIDDERS[bidder], "reason": reason });
        self.lines.push((line, None));
    }

    async fn reject(&mut self, bidder: usize) {
        let body = json!({ "bidder": bidder + 1, "reason": "late before" });
        let reject = self.buyer.post(&self.ids.lot("/award/reject"), &body).await.expect(200);
        let line = json!({ "at": reject["at"], "do": "award_reject", "lot": "L1", "bidder": BIDDERS[bidder],
            "reason": "late before" });
        self.lines.push((line, None));
    }

    /// Runs the scenario through `simulate` and compares.
    async fn compare(self, name: &str, winner: usize, pays: &str) {
        let input: String = self.lines.iter().map(|(line, _)| format!("{line}\n")).collect();
        let mut out = Vec::new();
        api::simulate::run(&input, &mut out).unwrap_or_else(|error| panic!("{name}: {error:?}\n{input}"));
        let out = String::from_utf8(out).expect("text");
        let said: Vec<Value> = out.lines().map(|line| serde_json::from_str(line).expect("JSON")).collect();
        for (number, (line, served)) in (1..).zip(&self.lines) {
            let answer = said.iter().find(|said| said["line"] == number).expect("an answer to every line");
            let Some(served) = served else {
                assert!(answer["ok"].is_object(), "{name}: {line}: {answer}");
                continue;
            };
            let rehearsed = match answer.get("refused") {
                Some(code) => told(answer, code),
                None => told(&answer["ok"], &Value::Null),
            };
            assert_eq!(*served, rehearsed, "{name}: {line}: {answer}");
        }
        let rehearsed = &said.iter().find(|line| line["result"].is_object()).expect("a result")["result"];
        let served = self.buyer.get(&self.ids.lot("/result")).await.expect(200);
        for field in ["stage", "opened_at", "closed_at", "extensions", "pays", "flags"] {
            assert_eq!(served[field], rehearsed[field], "{name}: {field} of {served} and {rehearsed}");
        }
        let named = |number: &Value| json!(BIDDERS[number.as_u64().expect("a number") as usize - 1]);
        assert_eq!(named(&served["winner"]), rehearsed["winner"], "{name}");
        let fields = ["bidder", "price", "effective", "rank", "award_rank", "tied", "at", "rejected"];
        let row = |row: &Value| -> Map<String, Value> {
            let field = |field: &&str| Some(((*field).to_owned(), row.get(*field)?.clone()));
            fields.iter().filter_map(field).collect()
        };
        let rows = |of: &Value| of["ranking"].as_array().expect("a ranking").iter().map(row).collect::<Vec<_>>();
        let mut places = rows(&served);
        for place in &mut places {
            place["bidder"] = named(&place["bidder"]);
        }
        assert_eq!(places, rows(rehearsed), "{name}");
        assert_eq!((&served["winner"], &served["pays"]), (&json!(winner + 1), &json!(pays)), "{name}: {served}");
        assert_eq!(served["stage"], "awarded", "{name}");
    }
}

fn nothing() -> [Value; 3] {
    [json!({}), json!({}), json!({})]
}

async fn sealed(server: &TestServer, pricing: &str, pays: &str) {
    let rules =
        json!({ "format": "sealed", "duration_s": 5, "ceiling": "1000.00", "sealed": { "pricing": pricing } });
    let mut run = Run::new(server, &rules, nothing()).await;
    run.refused(A, json!({ "price": "900.00" }), "lot_not_open").await;
    run.start().await;
    run.bid(A, "900.00").await;
    run.bid(B, "700.00").await;
    run.bid(B, "800.00").await;
    run.bid(C, "850.00").await;
    run.refused(A, json!({ "price": "1000.01" }), "above_ceiling").await;
    run.refused(C, json!({ "price": null }), "wrong_action").await;
    run.ended().await;
    run.refused(C, json!({ "price": "1.00" }), "lot_closed").await;
    run.award(B, None).await;
    run.compare(pricing, B, pays).await;
}

fn dutch_rules() -> Value {
    json!({ "format": "dutch", "ceiling": "600.00", "award": "automatic",
        "dutch": { "start": "500.00", "step": "10.00", "interval_s": 3 } })
}

async fn dutch_by_accept(server: &TestServer) {
    let mut run = Run::new(server, &dutch_rules(), nothing()).await;
    assert_eq!(run.limit(C, Some("590.00")).await, None);
    run.start().await;
    assert_eq!(run.accept(A, 7).await.as_deref(), Some("stale_step"));
    run.refused(A, json!({ "price": "500.00" }), "wrong_action").await;
    run.phase(json!({ "step": 1 })).await;
    assert_eq!(run.accept(B, 0).await.as_deref(), Some("stale_step"));
    assert_eq!(run.accept(B, 1).await, None);
    assert_eq!(run.accept(A, 1).await.as_deref(), Some("lot_closed"));
    run.compare("dutch, accept", B, "510.00").await;
}

async fn dutch_by_limit(server: &TestServer) {
    let mut run = Run::new(server, &dutch_rules(), nothing()).await;
    assert_eq!(run.limit(A, Some("515.00")).await, None);
    run.start().await;
    assert_eq!(run.limit(B, Some("520.00")).await, None);
    assert_eq!(run.limit(C, Some("510.00")).await, None);
    assert_eq!(run.limit(C, None).await, None);
    run.ended().await;
    run.compare("dutch, limit", A, "520.00").await;
}

async fn japanese(server: &TestServer) {
    let rules = json!({ "format": "japanese",
        "japanese": { "start": "1000.00", "step": "10.00", "interval_s": 3, "floor": "900.00" } });
    let mut run = Run::new(server, &rules, nothing()).await;
    run.start().await;
    for bidder in [A, B, C] {
        assert_eq!(run.accept(bidder, 0).await, None);
    }
    assert_eq!(run.accept(A, 0).await, None, "again is fine");
    run.phase(json!({ "step": 1 })).await;
    assert_eq!(run.accept(B, 1).await, None);
    assert_eq!(run.accept(A, 1).await, None);
    run.phase(json!({ "step": 2 })).await;
    assert_eq!(run.accept(C, 2).await.as_deref(), Some("already_out"));
    assert_eq!(run.accept(A, 1).await.as_deref(), Some("stale_step"));
    assert_eq!(run.accept(A, 2).await, None);
    run.ended().await;
    run.award(A, None).await;
    run.compare("japanese", A, "980.00").await;
}

async fn rounds(server: &TestServer) {
    let rules = json!({ "format": "rounds", "ceiling": "1000.00", "decrement": { "kind": "amount", "value": "5.00" },
        "rounds": { "count": 2, "turn_s": 3, "pause_s": 1, "lead_in_s": 2, "announce_s": 1 } });
    let mut run = Run::new(server, &rules, nothing()).await;
    run.bid(A, "900.00").await;
    run.bid(B, "850.00").await;
    run.bid(C, "850.00").await;
    run.start().await;
    run.refused(A, json!({ "price": "800.00" }), "not_your_turn").await;
    run.phase(json!({ "kind": "turn", "round": 1, "turn": 1, "bidder": 1 })).await;
    run.bid(A, "840.00").await;
    run.bid(A, "845.00").await;
    run.refused(B, json!({ "price": "800.00" }), "not_your_turn").await;
    run.refused(A, json!({ "price": "896.00" }), "not_improved").await;
    // Equal prices: the later one is worse, and comes first.
    run.phase(json!({ "turn": 2, "bidder": 3 })).await;
    run.bid(C, "700.00").await;
    run.bid(C, "600.00").await;
    assert_eq!(run.try_bid(C, json!({ "price": null })).await, None);
    run.phase(json!({ "turn": 3, "bidder": 2 })).await;
    run.bid(B, "830.00").await;
    run.phase(json!({ "round": 2, "turn": 1, "bidder": 3 })).await;
    run.bid(C, "820.00").await;
    run.ended().await;
    run.reject(C).await;
    run.award(B, None).await;
    run.compare("rounds", B, "830.00").await;
}

async fn english(server: &TestServer) {
    let rules = json!({ "format": "english", "duration_s": 5, "ceiling": "1000.00", "prebid": "allowed",
        "auto_bid": true, "improvement": "own", "decrement": { "kind": "percent", "value": "0.5" },
        "features": [{ "id": "warranty", "max": "0.10" }, { "id": "speed", "max": "0.20" }],
        "overtime": { "window_s": 2, "length_s": 2, "mode": "reset", "trigger": "lead", "max_count": 2 } });
    let scoring = [
        json!({ "features": [{ "lot": 1, "id": "warranty", "value": "0.05" }] }),
        json!({ "adjustments": [{ "lot": 1, "factor": "19/17", "addend": "-3.00" }] }),
        json!({}),
    ];
    let mut run = Run::new(server, &rules, scoring).await;
    run.bid(A, "980.00").await;
    assert_eq!(run.limit(C, Some("1000.01")).await.as_deref(), Some("above_ceiling"));
    assert_eq!(run.limit(C, Some("800.00")).await, None);
    run.start().await;
    run.bid(B, "850.00").await;
    let with_limit = json!({ "price": "820.00", "auto_limit": "750.00", "confirm": true });
    assert_eq!(run.try_bid(A, with_limit).await, None);
    run.refused(A, json!({ "price": "900.00" }), "not_improved").await;
    run.refused(B, json!({ "price": "849.999" }), "price_scale").await;
    // Into the window of the overtime.
    tokio::time::sleep(std::time::Duration::from_millis(3_200)).await;
    run.bid(B, "600.00").await;
    assert_eq!(run.limit(A, None).await, None);
    assert_eq!(run.limit(A, Some("700.00")).await, None);
    run.ended().await;
    run.award(A, None).await;
    // 600.00 counts as 667.59 for B; half a percent less is worth 711.69 of A, whose score is divided by 15/14.
    run.compare("english with limits and adjustments", A, "711.69").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_format_has_one_result() {
    let server = TestServer::start().await;
    // Side by side, because they run in real time.
    tokio::join!(
        sealed(&server, "first", "800.00"),
        sealed(&server, "second", "850.00"),
        dutch_by_accept(&server),
        dutch_by_limit(&server),
        japanese(&server),
        rounds(&server),
        english(&server),
    );
    server.stop().await;
}
