//! Every verb of a bidder in every format, stage and from every wrong party, through both doors: the status and code of
//! the contract, and what cannot be read.

use std::cell::RefCell;

use axum::http::Method;
use serde_json::{Value, json};

use crate::support::socket::Socket;
use crate::support::{
    Account, Answer, Client, Ids, TestServer, add_member, create_tender, fresh, open_tender, sign_up,
};

/// What a bidder may send.
#[derive(Clone, Debug)]
enum Verb {
    Bid(Value),
    Accept(Value),
    Limit(Value),
    NoLimit,
}

impl Verb {
    async fn rest(&self, client: &Client, ids: &Ids) -> Answer {
        match self {
            Self::Bid(body) => client.post(&ids.lot("/bids"), body).await,
            Self::Accept(body) => client.post(&ids.lot("/accept"), body).await,
            Self::Limit(body) => client.put(&ids.lot("/auto-bid"), body).await,
            Self::NoLimit => client.delete(&ids.lot("/auto-bid")).await,
        }
    }

    /// The same over the socket, where it has the verb.
    async fn socket(&self, socket: &mut Socket, ids: &Ids) -> Option<Value> {
        let (op, mut d) = match self {
            Self::Bid(body) => ("bid.place", body.clone()),
            Self::Accept(body) => ("bid.accept", body.clone()),
            Self::Limit(_) | Self::NoLimit => return None,
        };
        (d["lot"], d["cid"]) = (json!(ids.lots[0]), json!(fresh("cid")));
        Some(socket.ask(op, d).await)
    }
}

fn price(text: &str) -> Verb {
    Verb::Bid(json!({ "price": text, "confirm": true }))
}

fn withdrawal() -> Verb {
    Verb::Bid(json!({ "price": null }))
}

fn step(step: u64) -> Verb {
    Verb::Accept(json!({ "step": step }))
}

fn limit(text: &str) -> Verb {
    Verb::Limit(json!({ "limit": text }))
}

/// One of each, all sound.
fn verbs() -> [Verb; 6] {
    let with_limit = Verb::Bid(json!({ "price": "900.00", "confirm": true, "auto_limit": "800.00" }));
    [price("900.00"), with_limit, withdrawal(), step(0), limit("800.00"), Verb::NoLimit]
}

/// The status that the contract gives a code.
fn status(code: &str) -> u16 {
    match code {
        "not_admitted" | "not_owner" | "own_tender" | "terms_not_accepted" | "forbidden" => 403,
        "lot_not_found" => 404,
        "lot_not_open" | "lot_paused" | "lot_closed" | "lot_cancelled" | "stale_view" | "stale_step"
        | "not_your_turn" | "already_out" => 409,
        "malformed" => 400,
        _ => 422,
    }
}

/// A bidder with both doors.
struct Doors {
    client: Client,
    socket: RefCell<Socket>,
}

impl Doors {
    async fn of(client: &Client) -> Self {
        Self { client: client.clone(), socket: RefCell::new(Socket::connect(client).await) }
    }

    /// `verb` is refused with `code`, through both doors.
    #[allow(clippy::await_holding_refcell_ref)] // One test, one thing at a time.
    async fn refused(&self, ids: &Ids, verb: &Verb, code: &str, context: &str) {
        let answer = verb.rest(&self.client, ids).await;
        let body = answer.json();
        assert_eq!(
            (&body["code"], answer.status.as_u16()),
            (&json!(code), status(code)),
            "{context}, {verb:?}: {body}"
        );
        let mut socket = self.socket.borrow_mut();
        let Some(reply) = verb.socket(&mut socket, ids).await else { return };
        let err = &reply["err"];
        assert_eq!((&err["code"], &err["retry"]), (&json!(code), &json!("no")), "{context}, {verb:?}: {reply}");
        assert_eq!(err["max_next"], body["max_next"], "{context}, {verb:?}: {reply} {body}");
        assert_eq!(err["closes_at"], body["closes_at"], "{context}, {verb:?}: {reply} {body}");
    }

    async fn all_refused(&self, ids: &Ids, code: &str, context: &str) {
        for verb in &verbs() {
            self.refused(ids, verb, code, context).await;
        }
    }
}

const FORMATS: [&str; 5] = ["english", "sealed", "dutch", "japanese", "rounds"];

fn rules(format: &str) -> Value {
    match format {
        "english" => json!({ "format": "english", "duration_s": 600, "ceiling": "1000.00" }),
        "sealed" => json!({ "format": "sealed", "duration_s": 600, "ceiling": "1000.00" }),
        "dutch" => json!({ "format": "dutch", "ceiling": "1000.00",
            "dutch": { "start": "500.00", "step": "10.00", "interval_s": 600 } }),
        "japanese" => json!({ "format": "japanese",
            "japanese": { "start": "1000.00", "step": "10.00", "interval_s": 600, "floor": "500.00" } }),
        _ => json!({ "format": "rounds", "ceiling": "1000.00",
            "rounds": { "count": 1, "turn_s": 600, "pause_s": 0, "lead_in_s": 0, "announce_s": 0 } }),
    }
}

fn body(format: &str) -> Value {
    json!({ "title": "T", "currency": "SAR", "lots": [{ "title": "L", "items": [], "rules": rules(format) }] })
}

async fn published(buyer: &Account, body: &Value, suppliers: &[&Account]) -> Ids {
    let ids = create_tender(buyer, body).await;
    for supplier in suppliers {
        let admit = json!({ "organisation": supplier.organisation });
        buyer.post(&ids.tender("/bidders"), &admit).await.expect(201);
    }
    buyer.post(&ids.tender("/publish"), &json!({})).await.expect(200);
    ids
}

#[tokio::test(flavor = "multi_thread")]
async fn every_verb_in_every_format_and_stage() {
    let server = TestServer::start().await;
    let buyer = sign_up(&server, "buyer").await;
    let (one, two) = (sign_up(&server, "supplier").await, sign_up(&server, "supplier").await);
    let doors = Doors::of(&one).await;
    for format in FORMATS {
        let draft = create_tender(&buyer, &body(format)).await;
        buyer.post(&draft.tender("/bidders"), &json!({ "organisation": one.organisation })).await.expect(201);
        doors.all_refused(&draft, "lot_not_found", &format!("{format}, draft")).await;

        let ids = published(&buyer, &body(format), &[&one, &two]).await;
        let pending: [&str; 6] = match format {
            "dutch" => ["lot_not_open", "lot_not_open", "lot_not_open", "lot_not_open", "", ""],
            "rounds" => ["", "limit_not_allowed", "wrong_action", "lot_not_open", "lot_not_open", "lot_not_open"],
            _ => ["lot_not_open"; 6],
        };
        for (verb, code) in verbs().iter().zip(pending).filter(|(_, code)| !code.is_empty()) {
            doors.refused(&ids, verb, code, &format!("{format}, pending")).await;
        }
        if format == "rounds" {
            for (supplier, bid) in [(&one, "800.00"), (&two, "900.00")] {
                let bid = json!({ "price": bid });
                supplier.post(&ids.lot("/bids"), &bid).await.expect(201);
            }
        }

        buyer.post(&ids.tender("/start"), &json!({})).await.expect(200);
        // With rounds it is the turn of the other, who is worse.
        let open: &[(Verb, &str)] = match format {
            "english" | "sealed" => &[
                (withdrawal(), "wrong_action"),
                (step(0), "wrong_action"),
                (verbs()[1].clone(), "limit_not_allowed"),
                (limit("800.00"), "limit_not_allowed"),
                (Verb::NoLimit, "limit_not_allowed"),
                (price("1000.01"), "above_ceiling"),
                (price("0"), "price_not_positive"),
                (price("-1.00"), "price_not_positive"),
                (price("1.001"), "price_scale"),
            ],
            "dutch" => &[
                (price("500.00"), "wrong_action"),
                (withdrawal(), "wrong_action"),
                (verbs()[1].clone(), "wrong_action"),
                (step(1), "stale_step"),
                (step(u64::MAX), "stale_step"),
                (limit("1000.01"), "above_ceiling"),
                (limit("0.00"), "price_not_positive"),
            ],
            "japanese" => &[
                (price("1000.00"), "wrong_action"),
                (withdrawal(), "wrong_action"),
                (verbs()[1].clone(), "wrong_action"),
                (step(1), "stale_step"),
                (limit("900.00"), "limit_not_allowed"),
                (Verb::NoLimit, "limit_not_allowed"),
            ],
            _ => &[
                (price("700.00"), "not_your_turn"),
                (withdrawal(), "not_your_turn"),
                (step(0), "wrong_action"),
                (limit("700.00"), "not_your_turn"),
                (Verb::NoLimit, "not_your_turn"),
            ],
        };
        for (verb, code) in open {
            doors.refused(&ids, verb, code, &format!("{format}, open")).await;
        }
        let late = json!({ "price": "900.00", "expires_at": "2020-01-01T00:00:00Z" });
        doors.refused(&ids, &Verb::Bid(late), "expired", format).await;

        buyer.post(&ids.tender("/pause"), &json!({ "reason": "x" })).await.expect(200);
        doors.all_refused(&ids, "lot_paused", &format!("{format}, paused")).await;
        buyer.post(&ids.tender("/resume"), &json!({ "reason": "x" })).await.expect(200);
        let extend = buyer.post(&ids.tender("/extend"), &json!({ "seconds": 60, "reason": "x" })).await;
        match format {
            "english" | "sealed" => drop(extend.expect(200)),
            _ => drop(extend.refused(409, "wrong_stage")),
        }
        buyer.post(&ids.lot("/award"), &json!({ "bidder": 1 })).await.refused(409, "wrong_stage");
        buyer.get(&ids.lot("/result")).await.refused(409, "wrong_stage");
        buyer.post(&ids.tender("/cancel"), &json!({ "reason": "x" })).await.expect(200);
        doors.all_refused(&ids, "lot_cancelled", &format!("{format}, cancelled")).await;

        // The shortest lot of the format, over.
        let mut short = body(format);
        let rules = &mut short["lots"][0]["rules"];
        match format {
            "english" | "sealed" => rules["duration_s"] = 1.into(),
            "rounds" => rules["rounds"]["turn_s"] = 1.into(),
            block => {
                rules[block]["interval_s"] = 1.into();
                rules[block]["step"] = "500.00".into();
            }
        }
        let ids = published(&buyer, &short, &[&one, &two]).await;
        if format == "rounds" {
            one.post(&ids.lot("/bids"), &json!({ "price": "800.00" })).await.expect(201);
        }
        buyer.post(&ids.tender("/start"), &json!({})).await.expect(200);
        crate::support::eventually("the close", || async {
            let stage = buyer.get(&ids.lot("")).await.expect(200)["state"]["stage"].clone();
            stage == "closed" || stage == "unsuccessful"
        })
        .await;
        doors.all_refused(&ids, "lot_closed", &format!("{format}, over")).await;
    }
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn every_verb_from_every_wrong_party() {
    let server = TestServer::start().await;
    let buyer = sign_up(&server, "both").await;
    let bidder = sign_up(&server, "supplier").await;
    let (stranger, out, invited) = (
        sign_up(&server, "supplier").await,
        sign_up(&server, "supplier").await,
        sign_up(&server, "supplier").await,
    );
    let auditor = add_member(&bidder, "auditor").await;
    let nobody = server.client();
    for format in FORMATS {
        let mut hidden = body(format);
        hidden["lots"][0]["rules"]["min_bidders"] = 1.into();
        let closed = published(&buyer, &hidden, &[&bidder]).await;
        Doors::of(&stranger).await.all_refused(&closed, "lot_not_found", &format!("{format}, a stranger")).await;

        let mut open = hidden.clone();
        open["public"] = true.into();
        open["terms"] = "Pay in 30 days".into();
        let ids = published(&buyer, &open, &[&bidder, &out, &invited, &buyer]).await;
        for joining in [&bidder, &out] {
            joining.post(&ids.tender("/join"), &json!({})).await.expect(200);
        }
        buyer.post(&ids.tender("/bidders/2/disqualify"), &json!({ "reason": "x" })).await.expect(200);
        for (client, code) in [
            (&stranger.client, "not_admitted"),
            (&out.client, "not_admitted"),
            (&invited.client, "terms_not_accepted"),
            (&buyer.client, "own_tender"),
        ] {
            Doors::of(client).await.all_refused(&ids, code, format).await;
        }
        let mut sockets = [Socket::connect(&auditor).await, Socket::connect(&nobody).await];
        for verb in &verbs() {
            verb.rest(&auditor, &ids).await.refused(403, "forbidden");
            verb.rest(&nobody, &ids).await.refused(401, "token_missing");
            for (socket, code) in sockets.iter_mut().zip(["forbidden", "token_missing"]) {
                let reply = verb.socket(socket, &ids).await;
                assert!(reply.as_ref().is_none_or(|reply| reply["err"]["code"] == code), "{reply:?}");
            }
        }
    }
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_no_verb_at_all() {
    let server = TestServer::start().await;
    let buyer = sign_up(&server, "buyer").await;
    let bidder = sign_up(&server, "supplier").await;
    let ids = open_tender(&buyer, &body("japanese"), &[&bidder]).await;
    let mut socket = Socket::connect(&bidder).await;
    let accepts = [
        (json!({}), "malformed"),
        (json!({ "step": null }), "malformed"),
        (json!({ "step": "0" }), "malformed"),
        (json!({ "step": -1 }), "malformed"),
        (json!({ "step": 0.5 }), "malformed"),
        (json!({ "step": true }), "malformed"),
        (json!({ "step": [0] }), "malformed"),
        (json!({ "step": 0, "level": 0 }), "unknown_field"),
        (json!({ "step": 0, "price": "1000.00" }), "unknown_field"),
        (json!({ "step": 1e30 }), "malformed"),
    ];
    for (d, code) in accepts {
        let answer = bidder.post(&ids.lot("/accept"), &d).await;
        answer.refused(status(code), code);
        let (mut d, cid) = (d, fresh("cid"));
        (d["lot"], d["cid"]) = (json!(ids.lots[0]), json!(cid));
        let reply = socket.ask("bid.accept", d).await;
        assert_eq!(reply["err"]["code"], code, "{reply}");
        // It never came to a decision, so the cid is free.
        let asked = socket.ask("bid.query", json!({ "lot": ids.lots[0], "cid": cid })).await;
        assert_eq!(asked["ok"]["status"], "unknown", "{asked}");
    }
    for (d, code) in [
        (json!({}), "malformed"),
        (json!({ "limit": 5 }), "malformed"),
        (json!({ "limit": "five" }), "malformed"),
        (json!({ "limit": "5e1" }), "malformed"),
        (json!({ "limit": "" }), "malformed"),
        (json!({ "limit": "5", "lot": 1 }), "unknown_field"),
    ] {
        bidder.put(&ids.lot("/auto-bid"), &d).await.refused(status(code), code);
    }
    for (method, path) in [(Method::POST, "/accept"), (Method::PUT, "/auto-bid")] {
        let path = ids.lot(path);
        for text in ["", "[]", "null", "7", "{", "\u{feff}{}"] {
            let key = fresh("key");
            let headers: [(&'static str, &str); 1] = [("idempotency-key", &key)];
            let answer = bidder.request(method.clone(), &path, Some(text.to_owned()), &headers).await;
            answer.refused(400, "malformed");
        }
        for unusable in ["a b", "", &"k".repeat(256)] {
            let headers: [(&'static str, &str); 1] = [("idempotency-key", unusable)];
            let answer = bidder.request(method.clone(), &path, Some("{}".to_owned()), &headers).await;
            answer.refused(400, "malformed");
        }
        let media = [("content-type", "text/plain"), ("idempotency-key", "media")];
        bidder.request(method, &path, Some("{}".to_owned()), &media).await.refused(415, "unsupported_media_type");
    }
    let twice = [("idempotency-key", "twice")];
    let text = r#"{"step":0,"step":0}"#.to_owned();
    bidder.request(Method::POST, &ids.lot("/accept"), Some(text), &twice).await.refused(400, "malformed");
    for nowhere in ["x", "01900000-0000-7000-8000-00000000f001", "..%2f..%2fetc", &ids.tender] {
        let path = |rest: &str| format!("/v1/lots/{nowhere}{rest}");
        bidder.post(&path("/accept"), &json!({ "step": 0 })).await.refused(404, "lot_not_found");
        bidder.put(&path("/auto-bid"), &json!({ "limit": "5" })).await.refused(404, "lot_not_found");
        bidder.delete(&path("/auto-bid")).await.refused(404, "lot_not_found");
    }
    bidder.delete(&ids.lot("/auto-bid?force=1")).await.refused(422, "unknown_field");
    // After all that the level can still be accepted.
    bidder.post(&ids.lot("/accept"), &json!({ "step": 0 })).await.expect(201);
    server.stop().await;
}
