//! Bids, accepts and limits through both doors: the same outcome under one key, and ready rules that can be used.

use axum::http::Method;
use serde_json::{Value, json};

use crate::support::socket::Socket;
use crate::support::{Account, Ids, TestServer, fresh, open_tender, sign_up, tender_body};

fn body_with(rules: Value) -> Value {
    let mut body = tender_body();
    body["lots"][0]["rules"] = rules;
    body
}

/// A lot of these rules, opened, with two bidders.
async fn lot(server: &TestServer, rules: Value) -> (Account, [Account; 2], Ids) {
    let buyer = sign_up(server, "buyer").await;
    let suppliers = [sign_up(server, "supplier").await, sign_up(server, "supplier").await];
    let ids = open_tender(&buyer, &body_with(rules), &[&suppliers[0], &suppliers[1]]).await;
    (buyer, suppliers, ids)
}

/// What both doors tell of one decision.
fn core(told: &Value) -> Value {
    let mut told = told.clone();
    let fields = told.as_object_mut().expect("an object");
    fields.retain(|field, _| !matches!(field.as_str(), "dup" | "cid"));
    told
}

#[tokio::test(flavor = "multi_thread")]
async fn an_accept_is_one_accept_whatever_the_door() {
    let server = TestServer::start().await;
    let japanese = json!({ "format": "japanese",
        "japanese": { "start": "1000.00", "step": "10.00", "interval_s": 60, "floor": "500.00" } });
    let (_, [one, two], ids) = lot(&server, japanese).await;
    let lot = ids.lots[0].clone();

    one.post(&ids.lot("/accept"), &json!({ "step": 1 })).await.refused(409, "stale_step");
    let first = one.post_with_key(&ids.lot("/accept"), &json!({ "step": 0 }), "k").await.expect(201);
    assert_eq!((&first["price"], &first["status"]), (&json!("1000.00"), &json!("accepted")));
    assert_eq!(first["seq"], 2, "what a level hides makes no step");
    assert_eq!((first.get("rank"), first.get("lead")), (None, None), "nor has it a rank yet");
    let mut socket = Socket::connect(&one).await;
    let again = socket.ask("bid.accept", json!({ "lot": lot, "cid": "k", "step": 0 })).await;
    assert_eq!((&again["ok"]["dup"], core(&again["ok"])), (&json!(true), first.clone()));
    let reused = socket.ask("bid.accept", json!({ "lot": lot, "cid": "k", "step": 1 })).await;
    assert_eq!(reused["err"]["code"], "idempotency_key_reused");
    let asked = socket.ask("bid.query", json!({ "lot": lot, "cid": "k" })).await;
    assert_eq!(core(&asked["ok"]), first);

    // And the other way round; a refusal too is one refusal.
    let mut socket = Socket::connect(&two).await;
    let stale = socket.ask("bid.accept", json!({ "lot": lot, "cid": "s", "step": 7 })).await;
    assert_eq!((&stale["err"]["code"], &stale["err"]["max_next"]), (&json!("stale_step"), &json!("1000.00")));
    let repeated = two.post_with_key(&ids.lot("/accept"), &json!({ "step": 7 }), "s").await;
    assert_eq!(repeated.header("idempotency-replayed"), "true");
    assert_eq!(repeated.refused(409, "stale_step")["max_next"], "1000.00");
    let taken = socket.ask("bid.accept", json!({ "lot": lot, "cid": "t", "step": 0 })).await;
    let repeated = two.post_with_key(&ids.lot("/accept"), &json!({ "step": 0 }), "t").await.expect(201);
    assert_eq!(core(&taken["ok"]), repeated);
    two.post_without_key(&ids.lot("/accept"), &json!({ "step": 0 }))
        .await
        .refused(400, "idempotency_key_required");
    two.post(&ids.lot("/bids"), &json!({ "price": "900.00" })).await.refused(422, "wrong_action");
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_first_accept_of_a_dutch_step_wins() {
    let server = TestServer::start().await;
    let dutch = json!({ "format": "dutch", "ceiling": "1000.00", "award": "automatic",
        "dutch": { "start": "500.00", "step": "10.00", "interval_s": 60 } });
    let (buyer, [one, two], ids) = lot(&server, dutch).await;
    let seen = one.get(&ids.lot("")).await.expect(200);
    assert_eq!((&seen["state"]["phase"]["kind"], &seen["you"]["max_next"]), (&json!("step"), &json!("500.00")));
    let won = one.post(&ids.lot("/accept"), &json!({ "step": 0 })).await.expect(201);
    assert_eq!((&won["price"], &won["lead"], &won["max_next"]), (&json!("500.00"), &json!(true), &Value::Null));
    two.post(&ids.lot("/accept"), &json!({ "step": 0 })).await.refused(409, "lot_closed");
    let result = buyer.get(&ids.lot("/result")).await.expect(200);
    assert_eq!((&result["stage"], &result["pays"]), (&json!("awarded"), &json!("500.00")));
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn limits_are_left_replaced_and_taken_back() {
    let server = TestServer::start().await;
    let rules = json!({ "format": "english", "duration_s": 600, "ceiling": "1000.00", "auto_bid": true,
        "decrement": { "kind": "amount", "value": "5.00" } });
    let (buyer, [one, two], ids) = lot(&server, rules).await;
    let path = ids.lot("/auto-bid");
    let set = one.put_with_key(&path, &json!({ "limit": "800.00" }), "k").await;
    let told = set.expect(200);
    assert_eq!((&told["status"], &told["seq"]), (&json!("set"), &json!(3)));
    assert_eq!((&told["rank"], &told["lead"], &told["max_next"]), (&json!(1), &json!(true), &json!("995.00")));
    assert!(!told.to_string().contains("800.00"), "{told}");
    let again = one.put_with_key(&path, &json!({ "limit": "800.00" }), "k").await;
    assert_eq!((again.header("idempotency-replayed"), &again.body), ("true", &set.body));
    one.put_with_key(&path, &json!({ "limit": "700.00" }), "k").await.refused(422, "idempotency_key_reused");
    // One space of keys with bids and the feed's cid.
    one.post_with_key(&ids.lot("/bids"), &json!({ "price": "900" }), "k")
        .await
        .refused(422, "idempotency_key_reused");
    let mut socket = Socket::connect(&one).await;
    let asked = socket.ask("bid.query", json!({ "lot": ids.lots[0], "cid": "k" })).await;
    assert_eq!((&asked["ok"]["status"], &asked["ok"]["seq"]), (&json!("accepted"), &json!(3)), "{asked}");
    assert_eq!(one.get(&ids.lot("")).await.expect(200)["you"]["auto_limit"], "800.00");

    // A bid of the rival is answered by the limit at once, in one step.
    let rival = two.post(&ids.lot("/bids"), &json!({ "price": "900.00" })).await.expect(201);
    assert_eq!((&rival["rank"], &rival["lead"]), (&json!(2), &json!(false)));
    let lot = two.get(&ids.lot("")).await.expect(200);
    assert_eq!(lot["state"]["lead"]["price"], "895.00");
    assert_eq!((&lot["seq"], &rival["seq"]), (&json!(4), &json!(4)));

    let gone = one.delete(&path).await.expect(200);
    assert_eq!((&gone["status"], &gone["lead"]), (&json!("deleted"), &json!(true)));
    assert!(one.get(&ids.lot("")).await.expect(200)["you"].get("auto_limit").is_none());
    assert_eq!(one.delete(&path).await.expect(200)["status"], "deleted", "nothing is deleted as well");

    for (limit, code) in [("800.001", "price_scale"), ("0", "price_not_positive"), ("1000.01", "above_ceiling")] {
        one.put_with_key(&path, &json!({ "limit": limit }), &fresh("k")).await.refused(422, code);
    }
    one.put_with_key(&path, &json!({ "limit": null }), "m1").await.refused(400, "malformed");
    one.put_with_key(&path, &json!({ "limit": 800 }), "m2").await.refused(400, "malformed");
    one.put_with_key(&path, &json!({ "limit": "800", "secret": true }), "m3").await.refused(422, "unknown_field");
    one.post(&path, &json!({ "limit": "800" })).await.refused(405, "method_not_allowed");
    buyer.put_with_key(&path, &json!({ "limit": "800" }), "b").await.refused(403, "not_admitted");
    let stranger = sign_up(&server, "supplier").await;
    stranger.put_with_key(&path, &json!({ "limit": "800" }), "b").await.refused(404, "lot_not_found");
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn every_rule_template_makes_a_tender() {
    let server = TestServer::start().await;
    let buyer = sign_up(&server, "buyer").await;
    let served = server.client().request(Method::GET, "/v1/rule-templates", None, &[]).await.expect(200);
    let templates = served["items"].as_array().expect("templates");
    let names: Vec<&str> = templates.iter().filter_map(|template| template["name"].as_str()).collect();
    let wanted = ["prozorro_open", "brazil_open_mode", "english_buffers", "marine_fuel", "dutch", "japanese"];
    for name in wanted.into_iter().chain(["sealed_second_price"]) {
        assert!(names.contains(&name), "{name} in {names:?}");
    }
    for template in templates {
        assert!(template["used"].as_str().is_some_and(|used| used.ends_with('.')), "{template}");
        let made = buyer.post("/v1/tenders", &body_with(template["rules"].clone())).await.expect(201);
        let rules = &made["lots"][0]["rules"];
        for (rule, value) in
            template["rules"].as_object().expect("rules").iter().filter(|(_, value)| !value.is_null())
        {
            let same =
                &rules[rule] == value || rule == "decrement" || value.as_str().is_some() || value.is_object();
            assert!(same, "{}: {rule} is {value}, came back as {}", template["name"], rules[rule]);
        }
        // What came back with all its defaults makes the same tender again.
        let again = buyer.post("/v1/tenders", &body_with(rules.clone())).await.expect(201);
        assert_eq!(&again["lots"][0]["rules"], rules, "{}", template["name"]);
    }
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_nobody_else_sees_is_pushed_to_its_own_sockets_only() {
    let server = TestServer::start().await;
    let rules = json!({ "format": "sealed", "duration_s": 600, "ceiling": "1000.00" });
    let (buyer, [one, two], ids) = lot(&server, rules).await;
    let mut sockets = Vec::new();
    for client in [&one, &one, &two, &buyer] {
        let mut socket = Socket::connect(client).await;
        socket.sub(&ids.lots[0]).await;
        socket.push("snap", |_| true).await;
        socket.pushes.clear();
        sockets.push(socket);
    }
    let tags = async |client: &Account| {
        let (lot, tender) = (client.get(&ids.lot("")).await, client.get(&ids.tender("")).await);
        (lot.header("etag").to_owned(), lot.body, tender.header("etag").to_owned(), tender.body)
    };
    let (before, own) = ([tags(&two).await, tags(&buyer).await], tags(&one).await);
    let placed = one.post(&ids.lot("/bids"), &json!({ "price": "613.37" })).await.expect(201);
    assert_eq!([tags(&two).await, tags(&buyer).await], before, "neither lot nor tender has changed for others");
    assert_ne!(tags(&one).await.0, own.0, "the own part has");
    let known = [("if-none-match", before[0].0.as_str())];
    assert_eq!(two.request(Method::GET, &ids.lot(""), None, &known).await.status, 304);
    assert_eq!(placed["seq"], 2, "the step at which the lot stands");
    for socket in &mut sockets[..2] {
        let you = socket.push("you", |_| true).await;
        assert_eq!((&you["seq"], &you["you"]["standing"]), (&json!(2), &json!("613.37")), "{you}");
    }
    // The next thing that the others are told is the next step.
    buyer.post(&ids.tender("/pause"), &json!({ "reason": "lunch" })).await.expect(200);
    for socket in &mut sockets {
        assert_eq!(socket.push("upd", |_| true).await["seq"], 3);
    }
    let told: Vec<usize> = sockets.iter().map(|socket| socket.pushes.len()).collect();
    assert_eq!(told, [2, 2, 1, 1], "{:?}", sockets[3].pushes);
    server.stop().await;
}
