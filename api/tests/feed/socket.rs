//! The feed's protocol over real sockets: who may connect, how requests are answered, what ends a socket.

use std::time::Duration;

use crate::support::{Client, Person, Server, rules};
use api::feed::{FeedOptions, HELLO_BYTES_MAX, Limits, MESSAGE_BYTES_MAX, Timings};
use api::rest::tokens::ACCESS_S;
use api::text;
use engine::{LotId, OrganisationKind, RequestId, Role};
use futures_util::SinkExt;
use serde_json::{Value, json};
use tokio_tungstenite::tungstenite::http::{HeaderMap, HeaderValue};
use tokio_tungstenite::tungstenite::{Error, Message};

const HOUR: Duration = Duration::from_secs(3_600);

fn lot_text(lot: LotId) -> String {
    text::id(lot.0)
}

/// A server with an open lot, its buyer and two bidders.
async fn market(options: FeedOptions) -> (Server, LotId, Person, [Person; 2]) {
    let server = Server::start_with(options).await;
    let buyer = server.sign_up("buyer", OrganisationKind::Buyer).await;
    let a = server.sign_up("a", OrganisationKind::Supplier).await;
    let b = server.sign_up("b", OrganisationKind::Supplier).await;
    let lot = server.opened(&buyer, false, &rules(), &[&a, &b]).await;
    (server, lot, buyer, [a, b])
}

async fn status(server: &Server, change: impl FnOnce(&mut HeaderMap)) -> u16 {
    match server.try_connect(change).await {
        Ok(_) => 101,
        Err(Error::Http(response)) => response.status().as_u16(),
        Err(error) => panic!("{error}"),
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn only_our_subprotocol_and_known_origins_get_in() {
    let options = FeedOptions { origins: vec!["https://auctions.example/page".into()], ..FeedOptions::default() };
    let server = Server::start_with(options).await;
    let mut client = Client::new(
        server.try_connect(|headers| drop(headers.remove("sec-websocket-protocol"))).await.expect("upgraded"),
    );
    assert_eq!(client.closed().await, Some(4004));

    let origin = |origin: String| {
        move |headers: &mut HeaderMap| {
            headers.insert("origin", HeaderValue::from_str(&origin).expect("a header"));
        }
    };
    assert_eq!(status(&server, origin("https://auctions.example".into())).await, 101);
    assert_eq!(status(&server, origin(format!("http://{}", server.address))).await, 101);
    assert_eq!(status(&server, |_| {}).await, 101, "programs send no origin");
    for foreign in ["https://evil.example", "null", "https://auctions.example.evil.example", "http://127.0.0.1"] {
        assert_eq!(status(&server, origin(foreign.into())).await, 403, "{foreign}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn hello_comes_first() {
    let (server, lot, buyer, _) = market(FeedOptions::default()).await;
    let mut client = server.connect().await;
    client.send("time", json!({ "t0": 1 })).await;
    assert_eq!(client.closed().await, Some(4000));

    let mut client = server.connect().await;
    client.send("hello", json!({ "token": "no token at all" })).await;
    assert_eq!(client.closed().await, Some(4001));

    // What cannot be read is answered, and hello may be tried again.
    let mut client = server.connect().await;
    let reply = client.ask("hello", json!({ "tokn": "x" })).await;
    assert_eq!(reply["err"]["code"], "unknown_field", "{reply}");
    let resume = json!([{ "lot": lot_text(lot) }, { "lot": text::id(99) }]);
    let reply = client.ask("hello", json!({ "token": buyer.token, "client": "test/1", "resume": resume })).await;
    let welcome = &reply["ok"];
    assert_eq!(welcome["hb_ms"], 5000);
    assert_eq!(welcome["policy"]["bids_survive_disconnect"], true);
    assert_eq!(welcome["limits"]["in_flight"], 32);
    assert!(welcome["conn"].is_string() && welcome["now"].is_string() && welcome["exp"].is_string(), "{welcome}");
    assert_eq!(welcome["subs"][0]["lot"], lot_text(lot));
    assert_eq!(welcome["subs"][0]["recovered"], false);
    assert_eq!(welcome["subs"][1]["err"]["code"], "lot_not_found");
    assert!(reply["rx"].as_str() <= reply["tx"].as_str(), "{reply}");
    assert_eq!(client.next().await["p"], "snap");
    let again = client.ask("hello", json!({})).await;
    assert_eq!(again["err"]["code"], "malformed");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_silent_socket_is_closed() {
    let server = Server::start_timed(Timings { hello: Duration::from_millis(50), ..Timings::default() }).await;
    assert_eq!(server.connect().await.closed().await, Some(4000));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn frames_that_cannot_be_answered_end_the_socket() {
    let server = Server::start().await;
    let bad = [
        Message::text("not JSON"),
        Message::text("[]"),
        Message::text("{}"),
        Message::text(r#"{"id":-1,"op":"time"}"#),
        Message::text(r#"{"id":1.5,"op":"time"}"#),
        Message::text(r#"{"id":2}"#),
        Message::text(r#"{"id":2,"op":7}"#),
        Message::text(format!(r#"{{"id":2,"op":"time","d":{}1{}}}"#, "[".repeat(500), "]".repeat(500))),
        Message::binary(br#"{"id":2,"op":"time"}"#.to_vec()),
        Message::text(format!(r#"{{"id":2,"op":"time","d":{{"t0":"{}"}}}}"#, "x".repeat(MESSAGE_BYTES_MAX))),
        Message::text("x".repeat(HELLO_BYTES_MAX + 1)),
    ];
    for message in bad {
        let mut client = server.hello(None).await;
        let shown: String = format!("{message:?}").chars().take(80).collect();
        client.socket.send(message).await.expect("sent");
        assert_eq!(client.closed().await, Some(4000), "{shown}");
    }
    // A hello may be larger than other frames.
    let mut client = server.connect().await;
    let long = "x".repeat(MESSAGE_BYTES_MAX * 2);
    let reply = client.ask("hello", json!({ "client": long })).await;
    assert!(reply.get("ok").is_some(), "{reply}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_can_be_answered_is_answered_and_counted() {
    let (server, lot, _, [a, _]) = market(FeedOptions::default()).await;
    let mut client = server.hello(Some(&a)).await;
    let cases = [
        ("nonsense", json!({}), "unknown_op"),
        ("sub", json!({}), "malformed"),
        ("sub", json!({ "lot": 7 }), "malformed"),
        ("sub", json!({ "lot": "no id" }), "lot_not_found"),
        ("sub", json!({ "lot": text::id(7) }), "lot_not_found"),
        ("sub", json!({ "lot": lot_text(lot), "from": 1 }), "unknown_field"),
        ("sub", json!([]), "malformed"),
        ("unsub", json!({}), "malformed"),
        ("bid.place", json!({ "lot": lot_text(lot), "cid": "c" }), "malformed"),
        ("bid.place", json!({ "lot": lot_text(lot), "price": "1" }), "malformed"),
        ("bid.place", json!({ "lot": lot_text(lot), "cid": "", "price": "1" }), "malformed"),
        ("bid.place", json!({ "lot": lot_text(lot), "cid": "a b", "price": "1" }), "malformed"),
        ("bid.place", json!({ "lot": lot_text(lot), "cid": "c".repeat(256), "price": "1" }), "malformed"),
        ("bid.place", json!({ "lot": lot_text(lot), "cid": "c", "price": 900 }), "malformed"),
        ("bid.place", json!({ "lot": lot_text(lot), "cid": "c", "price": "9e2" }), "malformed"),
        ("bid.place", json!({ "lot": lot_text(lot), "cid": "c", "price": "900", "sum": 1 }), "unknown_field"),
        (
            "bid.place",
            json!({ "lot": lot_text(lot), "cid": "c", "price": "900", "expires_at": "soon" }),
            "malformed",
        ),
        ("bid.query", json!({ "lot": lot_text(lot) }), "malformed"),
        ("bid.query", json!({ "lot": text::id(7), "cid": "c" }), "lot_not_found"),
        ("auth.refresh", json!({}), "malformed"),
        ("auth.refresh", json!({ "token": "no token" }), "token_invalid"),
    ];
    for (op, d, code) in cases {
        let reply = client.ask(op, d.clone()).await;
        assert_eq!(reply["err"]["code"], code, "{op} {d}: {reply}");
        assert_eq!(reply["err"]["retry"], "no", "{reply}");
        assert!(
            reply["err"]["detail"].is_string() && reply["rx"].is_string() && reply["tx"].is_string(),
            "{reply}"
        );
    }
    // An id that does not grow.
    client.send_text(json!({ "id": 1, "op": "time" }).to_string()).await;
    let reply = client.next().await;
    assert_eq!((&reply["re"], &reply["err"]["code"]), (&json!(1), &json!("malformed")));
    let time = client.ask("time", json!({ "t0": 12.5 })).await;
    assert_eq!(time["ok"]["t0"], 12.5, "the socket is still good");
    assert!(time["ok"]["t1"].as_str() <= time["ok"]["t2"].as_str());
    for _ in 0..60 {
        client.send_unchecked("nonsense").await;
    }
    assert_eq!(client.closed().await, Some(4008));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_a_token_only_public_tenders_are_seen() {
    let server = Server::start().await;
    let buyer = server.sign_up("buyer", OrganisationKind::Buyer).await;
    let private = server.opened(&buyer, false, &rules(), &[]).await;
    let open = server.tender(&buyer, true, &rules(), &[]).await;
    let mut client = server.hello(None).await;
    let snap = client.sub(open).await;
    assert_eq!(snap["state"]["stage"], "pending");
    assert!(snap.get("you").is_none());
    let reply = client.ask("sub", json!({ "lot": lot_text(private) })).await;
    assert_eq!(reply["err"]["code"], "lot_not_found");
    for op in ["bid.place", "bid.query"] {
        let d = if op == "bid.place" {
            json!({ "lot": lot_text(open), "cid": "c", "price": "1" })
        } else {
            json!({ "lot": lot_text(open), "cid": "c" })
        };
        let reply = client.ask(op, d).await;
        assert_eq!(reply["err"]["code"], "token_missing", "{reply}");
        assert_eq!(reply["err"]["retry"], "after_auth");
    }
    let reply = client.ask("auth.refresh", json!({ "token": buyer.token })).await;
    assert_eq!(reply["err"]["code"], "forbidden", "a socket stays with whoever said hello");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_bid_is_answered_before_its_step_and_with_its_seq() {
    let (server, lot, _, [a, b]) = market(FeedOptions::default()).await;
    let mut client = server.hello(Some(&a)).await;
    let mut other = server.hello(Some(&b)).await;
    let mut seq = client.sub(lot).await["seq"].as_u64().expect("a seq");
    other.sub(lot).await;
    for bid in 0..60 {
        let price = format!("{}.00", 900 - bid);
        let place = json!({ "lot": lot_text(lot), "cid": format!("c{bid}"), "price": price });
        let id = client.send("bid.place", place).await;
        let reply = client.next().await;
        assert_eq!(reply["re"], id, "the answer comes before the step: {reply}");
        let ok = &reply["ok"];
        assert_eq!((&ok["status"], &ok["price"], &ok["dup"]), (&json!("accepted"), &json!(price), &json!(false)));
        assert_eq!(ok["cid"], format!("c{bid}"));
        assert_eq!((&ok["rank"], &ok["lead"], &ok["tied"]), (&json!(1), &json!(true), &json!(false)));
        seq += 1;
        assert_eq!(ok["seq"], seq);
        let step = client.push("upd").await;
        assert_eq!(step["seq"], seq);
        assert_eq!(step["you"]["standing"], price, "the own part comes with the step: {step}");
        assert_eq!(step["set"]["lead"]["price"], price);
        assert_eq!(step["ev"][0]["bidder"], 1, "it recognises its own bid");
        let mut seen = other.push("upd").await;
        assert!(seen["ev"][0].get("bidder").is_none(), "others are not told whose it is: {seen}");
        seen["ev"][0]["bidder"] = json!(1);
        assert_eq!((&seen["seq"], &seen["ev"], &seen["set"]), (&step["seq"], &step["ev"], &step["set"]));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn answers_come_before_their_steps_however_many_are_under_way() {
    let (server, lot, _, [a, b]) = market(FeedOptions::default()).await;
    // Both see the lot before either bids: they count its steps from the same one.
    let subscribed = std::sync::Arc::new(tokio::sync::Barrier::new(2));
    let bidding = [a, b].map(|person| {
        let (server, subscribed) = (server.handle(), std::sync::Arc::clone(&subscribed));
        tokio::spawn(async move {
            let mut client = server.hello(Some(&person)).await;
            client.sub(lot).await;
            subscribed.wait().await;
            let mut bids = std::collections::BTreeMap::new();
            let (mut answered, mut last) = (std::collections::BTreeSet::new(), 2);
            for round in 0..6 {
                for bid in 0..30 {
                    let units = 90_000 - round * 30 - bid;
                    let price = format!("{}.{:02}", units / 100, units % 100);
                    let place = json!({ "lot": lot_text(lot), "cid": format!("{units}"), "price": price });
                    bids.insert(client.send("bid.place", place).await, price);
                }
                while !bids.is_empty() {
                    let frame = client.next().await;
                    if let Some(price) = frame["re"].as_u64().and_then(|re| bids.remove(&re)) {
                        assert_eq!(frame["ok"]["price"], price, "{frame}");
                        assert!(frame["ok"]["seq"].as_u64() > Some(last), "the step was not seen before: {frame}");
                        answered.insert(frame["ok"]["seq"].as_u64().expect("a seq"));
                    } else if frame["p"] == "upd" {
                        assert_eq!(frame["seq"], last + 1);
                        last += 1;
                    }
                }
            }
            answered
        })
    });
    let [a, b] = bidding;
    let mut seqs = a.await.expect("in order");
    seqs.extend(b.await.expect("in order"));
    assert_eq!(seqs.into_iter().collect::<Vec<_>>(), (3..=362).collect::<Vec<u64>>(), "each bid is one step");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn refusals_say_what_would_have_been_taken() {
    let (server, lot, _, [a, _]) = market(FeedOptions::default()).await;
    let stranger = server.sign_up("stranger", OrganisationKind::Supplier).await;
    let mut client = server.hello(Some(&a)).await;
    client.sub(lot).await;
    let reply = client.place(lot, "c1", "1000.01").await;
    let err = &reply["err"];
    assert_eq!((&err["code"], &err["retry"]), (&json!("above_ceiling"), &json!("no")));
    assert_eq!((&err["max_next"], &err["seq"]), (&json!("1000.00"), &json!(2)));
    assert!(err["closes_at"].is_string() && err["dup"] == false && err["cid"] == "c1", "{reply}");
    // Nothing moved: the next frame is the answer to the next request.
    let again = client.place(lot, "c1", "1000.01").await;
    assert_eq!((&again["err"]["code"], &again["err"]["dup"]), (&json!("above_ceiling"), &json!(true)));
    let reused = client.place(lot, "c1", "900.00").await;
    assert_eq!(reused["err"]["code"], "idempotency_key_reused");
    let accept = client.ask("bid.accept", json!({ "lot": lot_text(lot), "cid": "c2", "step": 0 })).await;
    assert_eq!(accept["err"]["code"], "wrong_action");
    let mut client = server.hello(Some(&stranger)).await;
    let reply = client.place(lot, "c1", "900.00").await;
    assert_eq!(reply["err"]["code"], "lot_not_found", "{reply}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn auditors_only_read() {
    let (server, lot, _, [a, _]) = market(FeedOptions::default()).await;
    let auditor = server.add_auditor(&a).await;
    let mut client = server.hello(Some(&auditor)).await;
    assert_eq!(client.sub(lot).await["you"]["number"], 1);
    let reply = client.place(lot, "c", "900.00").await;
    assert_eq!(reply["err"]["code"], "forbidden", "{reply}");
}

/// POST of a bid through REST: status, body and whether it was a repeat.
async fn post_bid(server: &Server, person: &Person, lot: LotId, key: &str, price: &str) -> (u16, Value, bool) {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    let body = json!({ "price": price, "confirm": true }).to_string();
    let request = format!(
        "POST /v1/lots/{}/bids HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {}\r\nidempotency-key: {key}\r\n\
         content-type: application/json\r\ncontent-length: {}\r\nconnection: close\r\n\r\n{body}",
        lot_text(lot),
        person.token,
        body.len()
    );
    let mut stream = tokio::net::TcpStream::connect(server.address).await.expect("connected");
    stream.write_all(request.as_bytes()).await.expect("sent");
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.expect("an answer");
    let (head, body) = answer.split_once("\r\n\r\n").expect("a head");
    let status = head.split(' ').nth(1).and_then(|status| status.parse().ok()).expect("a status");
    let replayed = head.to_ascii_lowercase().contains("idempotency-replayed: true");
    (status, serde_json::from_str(body).expect("JSON"), replayed)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_cid_is_one_bid_whatever_the_door() {
    let (server, lot, _, [a, b]) = market(FeedOptions::default()).await;
    let mut client = server.hello(Some(&a)).await;
    let first = client.place(lot, "k1", "900.00").await;
    let again = client.place(lot, "k1", "900.00").await;
    let told = |reply: &Value| {
        let mut told = reply["ok"].clone();
        told.as_object_mut().expect("an object").retain(|field, _| field != "dup" && field != "cid");
        told
    };
    assert_eq!((&first["ok"]["dup"], &again["ok"]["dup"]), (&json!(false), &json!(true)));
    assert_eq!(told(&first), told(&again));
    let (status, body, replayed) = post_bid(&server, &a, lot, "k1", "900.00").await;
    assert_eq!((status, replayed), (201, true));
    assert_eq!(body, told(&first), "both doors tell the same");

    let (status, body, replayed) = post_bid(&server, &a, lot, "k2", "890.00").await;
    assert_eq!((status, replayed), (201, false));
    let later = client.place(lot, "k2", "890.00").await;
    assert_eq!(later["ok"]["dup"], true);
    assert_eq!(body, told(&later));
    let (status, body, _) = post_bid(&server, &a, lot, "k2", "880.00").await;
    assert_eq!((status, &body["code"]), (422, &json!("idempotency_key_reused")));

    // Another organisation's key is another key; another socket of the same organisation's is the same.
    let mut other = server.hello(Some(&b)).await;
    assert_eq!(other.place(lot, "k1", "850.00").await["ok"]["dup"], false);
    let mut second = server.hello(Some(&a)).await;
    assert_eq!(second.place(lot, "k1", "900.00").await["ok"]["dup"], true);
    // Refusals are recorded just so.
    let refused = client.place(lot, "k3", "899.00").await;
    assert_eq!(refused["err"]["code"], "not_improved");
    let (status, body, replayed) = post_bid(&server, &a, lot, "k3", "899.00").await;
    assert_eq!((status, &body["code"], replayed), (422, &json!("not_improved"), true));
    assert_eq!(body["max_next"], refused["err"]["max_next"]);
    let bids = server.node.read().await.expect("caught up").lot(lot, |_, lot, _| lot.decisions().len());
    assert_eq!(bids, Some(4), "two bids of a, one of b, one refusal");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_query_tells_what_became_of_a_bid() {
    let (server, lot, _, [a, b]) = market(FeedOptions::default()).await;
    let mut client = server.hello(Some(&a)).await;
    let query = |cid: &str| json!({ "lot": lot_text(lot), "cid": cid });
    let unknown = client.ask("bid.query", query("k1")).await;
    assert_eq!(unknown["ok"], json!({ "status": "unknown", "cid": "k1" }));
    let placed = client.place(lot, "k1", "900.00").await;
    let known = client.ask("bid.query", query("k1")).await;
    assert_eq!(known["ok"]["status"], "accepted");
    for field in ["bid", "lot", "price", "seq", "at", "rank", "tied", "max_next", "lead", "cid"] {
        assert_eq!(known["ok"][field], placed["ok"][field], "{field}");
    }
    let placed = client.place(lot, "k2", "950.00").await;
    let known = client.ask("bid.query", query("k2")).await;
    assert_eq!((&known["ok"]["status"], &known["ok"]["code"]), (&json!("refused"), &placed["err"]["code"]));
    assert_eq!(known["ok"]["max_next"], placed["err"]["max_next"]);
    // A query behind a bid on the same socket knows it, however soon.
    for bid in 0..20 {
        let cid = format!("q{bid}");
        let place = json!({ "lot": lot_text(lot), "cid": cid, "price": format!("{}.00", 800 - bid) });
        client.send("bid.place", place).await;
        assert_eq!(client.ask("bid.query", query(&cid)).await["ok"]["status"], "accepted");
    }
    let mut other = server.hello(Some(&b)).await;
    assert_eq!(
        other.ask("bid.query", query("k1")).await["ok"]["status"],
        "unknown",
        "keys are the organisation's own"
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_thirty_third_unanswered_request_is_not_taken() {
    let (server, lot, _, [a, b]) = market(FeedOptions::default()).await;
    let mut client = server.hello(Some(&a)).await;
    // While somebody looks at the lot the view cannot go on, and queries wait for it.
    let (release, held) = std::sync::mpsc::channel::<()>();
    let (looking, looks) = tokio::sync::oneshot::channel();
    let view = server.node.view();
    let holder = tokio::task::spawn_blocking(move || {
        view.lot(lot, |_, _, _| {
            let _ = looking.send(());
            let _ = held.recv_timeout(Duration::from_secs(10));
        })
    });
    looks.await.expect("the view is held");
    server.bid(&b, lot, "900.00").await;
    let query = json!({ "lot": lot_text(lot), "cid": "c" });
    let mut ids = Vec::new();
    for _ in 0..33 {
        ids.push(client.send("bid.query", query.clone()).await);
    }
    let refused = client.until(|frame| frame.get("re").is_some()).await.pop().expect("a reply");
    assert_eq!(refused["re"], ids[32], "{refused}");
    assert_eq!(refused["err"]["code"], "too_many_in_flight");
    assert_eq!(refused["err"]["retry"], "later");
    assert!(refused["err"]["after_ms"].is_u64());
    drop(release);
    holder.await.expect("no panic");
    let mut answered = Vec::new();
    while answered.len() < 32 {
        answered.extend(client.next().await["re"].as_u64());
    }
    answered.sort_unstable();
    assert_eq!(answered, ids[..32], "every other one is answered, once");
    assert!(client.ask("bid.query", query).await.get("ok").is_some(), "there is room again");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_end_of_a_sign_in_ends_its_sockets_at_once() {
    let (server, lot, buyer, [a, _]) = market(FeedOptions::default()).await;
    let elsewhere = server.sign_in(a.user, a.organisation).await;
    let mut first = server.hello(Some(&a)).await;
    let mut second = server.hello(Some(&a)).await;
    let mut other = server.hello(Some(&elsewhere)).await;
    first.sub(lot).await;
    other.sub(lot).await;
    server.log_out(&a).await;
    assert_eq!(first.closed().await, Some(4003));
    assert_eq!(second.closed().await, Some(4003));
    assert!(other.ask("time", json!({})).await.get("ok").is_some(), "another sign-in goes on");
    let mut late = server.connect().await;
    late.send("hello", json!({ "token": a.token })).await;
    assert_eq!(late.closed().await, Some(4001), "its token is worth nothing any more");

    // A refresh token that is shown twice ends the whole sign-in.
    assert!(server.show_wrong_refresh_token(&elsewhere).await);
    assert_eq!(other.closed().await, Some(4003));

    let auditor = server.add_auditor(&buyer).await;
    let mut member = server.hello(Some(&auditor)).await;
    let mut admin = server.hello(Some(&buyer)).await;
    server.remove_member(&buyer, auditor.user).await;
    assert_eq!(member.closed().await, Some(4003));
    assert!(admin.ask("time", json!({})).await.get("ok").is_some());
}

/// A token of `person` that ends `in_ms` milliseconds from now.
fn ending(server: &Server, person: &Person, in_ms: i64) -> String {
    let at = server.node.now().plus_ms(in_ms - ACCESS_S * 1000);
    server.app.tokens.issue(person.user, person.organisation, Role::Admin, person.session, at, RequestId(1))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_token_that_ends_takes_bids_with_it_and_reading_a_little_later() {
    let timings = Timings { grace: HOUR, ..Timings::default() };
    let (server, lot, _, [a, b]) = market(FeedOptions { timings, ..FeedOptions::default() }).await;
    // Ended a second ago, which the leeway of tokens still lets in.
    let over = Person { token: ending(&server, &a, -1_000), ..a.clone() };
    let mut client = server.hello(Some(&over)).await;
    client.sub(lot).await;
    let expiring = client.push("expiring").await;
    assert_eq!(expiring["in_ms"], 0);
    let reply = client.place(lot, "c1", "900.00").await;
    assert_eq!((&reply["err"]["code"], &reply["err"]["retry"]), (&json!("token_expired"), &json!("after_auth")));
    server.bid(&b, lot, "950.00").await;
    assert_eq!(client.push("upd").await["seq"], 3, "reading goes on for a while");
    let reply = client.ask("auth.refresh", json!({ "token": b.token })).await;
    assert_eq!(reply["err"]["code"], "forbidden");
    let reply = client.ask("auth.refresh", json!({ "token": a.token })).await;
    assert!(reply["ok"]["exp"].is_string(), "{reply}");
    assert_eq!(client.place(lot, "c1", "900.00").await["ok"]["dup"], false, "the refused bid was not recorded");
    // Another sign-in of the same person takes over, and its end ends the socket.
    let again = server.sign_in(a.user, a.organisation).await;
    assert!(client.ask("auth.refresh", json!({ "token": again.token })).await.get("ok").is_some());
    server.log_out(&a).await;
    assert!(client.ask("time", json!({})).await.get("ok").is_some(), "it no longer hangs on the first sign-in");
    server.log_out(&again).await;
    assert_eq!(client.closed().await, Some(4003));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_socket_whose_token_has_ended_is_closed_after_the_grace() {
    // The ends of tokens are whole seconds: this one ended one to two seconds ago.
    let timings = Timings { grace: Duration::from_secs(4), ..Timings::default() };
    let (server, _, _, [a, _]) = market(FeedOptions { timings, ..FeedOptions::default() }).await;
    let over = Person { token: ending(&server, &a, -1_000), ..a.clone() };
    let mut client = server.hello(Some(&over)).await;
    assert_eq!(client.push("expiring").await["in_ms"], 0);
    assert_eq!(client.closed().await, Some(4201));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_person_has_a_number_of_sockets_and_a_socket_a_number_of_lots() {
    let limits = Limits { sockets_per_user: 5, lots: 1 };
    let (server, lot, buyer, [a, b]) = market(FeedOptions { limits, ..FeedOptions::default() }).await;
    let mut clients = Vec::new();
    for _ in 0..5 {
        clients.push(server.hello(Some(&a)).await);
    }
    let mut sixth = server.connect().await;
    sixth.send("hello", json!({ "token": a.token })).await;
    assert_eq!(sixth.closed().await, Some(4104));
    server.hello(Some(&b)).await;
    // One that leaves makes room.
    let mut leaving = clients.pop().expect("five");
    leaving.socket.close(None).await.expect("closed");
    leaving.closed().await;
    while server.feed.hub().connections() > 5 {
        tokio::task::yield_now().await;
    }
    let mut client = server.hello(Some(&a)).await;
    client.sub(lot).await;
    client.sub(lot).await;
    let second = server.opened(&buyer, false, &rules(), &[&a]).await;
    let reply = client.ask("sub", json!({ "lot": lot_text(second) })).await;
    assert_eq!(reply["err"]["code"], "too_many_lots");
    assert!(client.ask("unsub", json!({ "lot": lot_text(lot) })).await.get("ok").is_some());
    client.sub(second).await;

    let server = Server::start_with(FeedOptions { limits: Limits::OFF, ..FeedOptions::default() }).await;
    let a = server.sign_up("a", OrganisationKind::Supplier).await;
    let mut clients = Vec::new();
    for _ in 0..12 {
        clients.push(server.hello(Some(&a)).await);
    }
    assert_eq!(server.feed.hub().connections(), 12);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn heartbeats_name_what_was_sent() {
    let timings = Timings { heartbeat: Duration::from_millis(20), heartbeat_hurry: HOUR, ..Timings::default() };
    let (server, lot, _, [a, b]) = market(FeedOptions { timings, ..FeedOptions::default() }).await;
    let mut client = server.hello(Some(&a)).await;
    assert_eq!(client.push("hb").await["lots"], json!([]));
    let mut last = client.sub(lot).await["seq"].as_u64().expect("a seq");
    let mut beats = 0;
    for bid in 0..10 {
        server.bid(&b, lot, &format!("{}.00", 900 - bid)).await;
        for frame in client.until(|frame| frame["p"] == "hb" && frame["lots"][0]["seq"] == 3 + bid).await {
            match frame["p"].as_str() {
                Some("upd") => last = frame["seq"].as_u64().expect("a seq"),
                Some("hb") => {
                    assert_eq!(frame["lots"], json!([{ "lot": lot_text(lot), "seq": last }]));
                    assert!(frame["now"].is_string());
                    beats += 1;
                }
                _ => {}
            }
        }
    }
    assert!(beats >= 10);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn heartbeats_hurry_in_the_last_two_minutes_of_a_lot() {
    let timings = Timings { heartbeat: HOUR, heartbeat_hurry: Duration::from_millis(20), ..Timings::default() };
    let (server, _, buyer, [a, _]) = market(FeedOptions { timings, ..FeedOptions::default() }).await;
    let short = json!({ "format": "english", "duration_s": 100, "ceiling": "1000.00" });
    let lot = server.opened(&buyer, false, &short, &[&a]).await;
    let mut client = server.hello(Some(&a)).await;
    client.sub(lot).await;
    for _ in 0..3 {
        assert_eq!(client.push("hb").await["lots"][0]["seq"], 2);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_client_that_does_not_answer_pings_is_dropped() {
    let timings = Timings { ping: Duration::from_millis(500), ..Timings::default() };
    let (server, _, _, [a, b]) = market(FeedOptions { timings, ..FeedOptions::default() }).await;
    // This one answers, because it reads.
    let mut alive = server.hello(Some(&a)).await;
    let dead = server.hello(Some(&b)).await;
    while server.feed.hub().connections() > 1 {
        assert!(alive.ask("time", json!({})).await.get("ok").is_some());
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    // Its own late pongs may have met a closed socket first.
    let mut dead = dead;
    let code = dead.closed().await;
    assert!(matches!(code, Some(4103) | None), "{code:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_socket_lives_its_time() {
    let server = Server::start_timed(Timings { life: Duration::from_millis(100), ..Timings::default() }).await;
    assert_eq!(server.hello(None).await.closed().await, Some(4202));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_drain_tells_everybody_and_ends_every_socket() {
    let (server, lot, _, [a, b]) = market(FeedOptions::default()).await;
    let mut client = server.hello(Some(&a)).await;
    client.sub(lot).await;
    let mut idle = server.hello(Some(&b)).await;
    let mut silent = server.connect().await;
    let place = json!({ "lot": lot_text(lot), "cid": "last", "price": "900.00" });
    let id = client.send("bid.place", place).await;
    let feed = server.feed.clone();
    let draining = tokio::spawn(async move { feed.drain(Duration::from_secs(5)).await });
    let (mut told, mut answered) = (false, false);
    let code = loop {
        match client.next_or_close().await {
            Ok(frame) => {
                told |=
                    frame["p"] == "drain" && frame["reconnect_in_ms"].is_u64() && frame["deadline_ms"].is_u64();
                answered |= frame["re"] == id;
            }
            Err(code) => break code,
        }
    };
    assert_eq!(code, Some(4200));
    assert!(told && answered, "what was under way is answered");
    assert_eq!(idle.closed().await, Some(4200));
    assert_eq!(silent.closed().await, Some(4200));
    draining.await.expect("no panic");
    assert_eq!(server.feed.hub().connections(), 0);
    assert_eq!(status(&server, |_| {}).await, 503, "nobody gets in any more");
}
