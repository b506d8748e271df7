//! A tender from draft to award through REST, and what a repeat, a patch and a poll give.

use axum::http::Method;
use serde_json::{Value, json};

use crate::support::{Answer, TestServer, bid, create_tender, eventually, open_tender, sign_up, tender_body};

#[tokio::test(flavor = "multi_thread")]
async fn a_tender_from_draft_to_award() {
    let server = TestServer::start().await;
    let buyer = sign_up(&server, "buyer").await;
    let (one, two) = (sign_up(&server, "supplier").await, sign_up(&server, "supplier").await);
    let mut body = tender_body();
    body["lots"][0]["rules"]["duration_s"] = 2.into();
    body["lots"][0]["rules"]["visibility"] = json!({ "lead": "always" });

    let made = buyer.post("/v1/tenders", &body).await;
    assert_eq!(made.header("etag"), "\"1\"");
    let tender = made.expect(201);
    assert_eq!(made.header("location"), format!("/v1/tenders/{}", tender["id"].as_str().expect("an id")));
    assert_eq!((&tender["stage"], &tender["version"]), (&json!("draft"), &json!(1)));
    assert_eq!(tender["buyer"], buyer.organisation);
    assert_eq!(tender["lots"][0]["number"], 1);
    assert_eq!(tender["lots"][0]["rules"]["improvement"], "own", "defaults come back");
    assert_eq!(tender["lots"][0]["rules"]["visibility"]["bidder_count"], true);

    let ids = crate::support::Ids {
        tender: tender["id"].as_str().expect("an id").to_owned(),
        lots: vec![tender["lots"][0]["id"].as_str().expect("an id").to_owned()],
    };
    for supplier in [&one, &two] {
        let body = json!({ "organisation": supplier.organisation });
        let bidder = buyer.post(&ids.tender("/bidders"), &body).await.expect(201);
        assert_eq!((&bidder["status"], &bidder["organisation"]), (&json!("admitted"), &body["organisation"]));
        assert!(bidder.get("number").is_none(), "the buyer learns numbers at the opening");
    }
    let published = buyer.post(&ids.tender("/publish"), &json!({})).await.expect(200);
    assert_eq!(published["stage"], "published");
    let started = buyer.post(&ids.tender("/start"), &json!({})).await.expect(200);
    assert_eq!((&started["stage"], &started["lots"][0]["stage"]), (&json!("open"), &json!("open")));

    let first = bid(&one, &ids, "900.00").await.expect(201);
    assert_eq!((&first["status"], &first["rank"], &first["lead"]), (&json!("accepted"), &json!(1), &json!(true)));
    assert_eq!((&first["price"], &first["max_next"]), (&json!("900.00"), &json!("895.00")));
    let second = bid(&two, &ids, "880.00").await.expect(201);
    assert_eq!(second["seq"].as_u64(), first["seq"].as_u64().map(|seq| seq + 1));
    let refused = bid(&one, &ids, "899.00").await.refused(422, "not_improved");
    assert_eq!(refused["max_next"], "895.00");
    assert!(refused["server_time"].is_string() && refused["closes_at"].is_string(), "{refused}");

    let lot = one.get(&ids.lot("")).await.expect(200);
    assert_eq!((&lot["state"]["lead"]["price"], &lot["you"]["rank"]), (&json!("880.00"), &json!(2)));
    let all = buyer.get(&ids.lot("/bids")).await.expect(200);
    let line = |index: usize| (all["items"][index]["status"].clone(), all["items"][index]["price"].clone());
    assert_eq!(line(0), (json!("refused"), json!("899.00")), "newest first");
    assert_eq!(line(1), (json!("accepted"), json!("880.00")));
    assert_eq!(all["items"].as_array().map(Vec::len), Some(3));
    let own = two.get(&ids.lot("/bids")).await.expect(200);
    assert_eq!(own["items"].as_array().map(Vec::len), Some(1), "a bidder sees its own");

    buyer.get(&ids.lot("/result")).await.refused(409, "wrong_stage");
    eventually("the close", || async { buyer.get(&ids.lot("")).await.expect(200)["state"]["stage"] == "closed" })
        .await;
    let result = buyer.get(&ids.lot("/result")).await.expect(200);
    assert_eq!((&result["winner"], &result["pays"]), (&json!(2), &json!("880.00")));
    bid(&one, &ids, "800.00").await.refused(409, "lot_closed");

    buyer.post(&ids.lot("/award"), &json!({ "bidder": 1 })).await.refused(422, "reason_required");
    buyer.post(&ids.lot("/award"), &json!({ "bidder": 9 })).await.refused(422, "bidder_not_found");
    let award = buyer.post(&ids.lot("/award"), &json!({ "bidder": 2 })).await.expect(200);
    assert_eq!((&award["stage"], &award["pays"]), (&json!("awarded"), &json!("880.00")));
    buyer.post(&ids.lot("/award"), &json!({ "bidder": 1, "reason": "x" })).await.refused(409, "already_awarded");
    let seen = two.get(&ids.lot("/result")).await.expect(200);
    assert_eq!((&seen["won"], &seen["stage"]), (&json!(true), &json!("awarded")));
    let tender = buyer.get(&ids.tender("")).await.expect(200);
    assert_eq!(tender["stage"], "awarded");
    let bidders = buyer.get(&ids.tender("/bidders")).await.expect(200);
    assert_eq!(bidders["items"][0]["number"], 1);
    server.stop().await;
}

/// The same request twice: the same bytes.
#[track_caller]
fn same(first: &Answer, again: &Answer) {
    assert_eq!(first.status, again.status, "{}", String::from_utf8_lossy(&again.body));
    assert_eq!(first.body, again.body);
    assert_eq!((first.header("idempotency-replayed"), again.header("idempotency-replayed")), ("", "true"));
    assert_eq!(first.header("location"), again.header("location"));
    assert_eq!(first.header("etag"), again.header("etag"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_repeat_gives_the_first_answer() {
    let server = TestServer::start().await;
    let buyer = sign_up(&server, "buyer").await;
    let supplier = sign_up(&server, "supplier").await;
    let twice = async |client: &crate::support::Client, path: &str, body: &Value, key: &str| {
        let first = client.post_with_key(path, body, key).await;
        let again = client.post_with_key(path, body, key).await;
        same(&first, &again);
        first
    };
    let made = twice(&buyer, "/v1/tenders", &tender_body(), "make").await.expect(201);
    let mut other = tender_body();
    other["title"] = "Another".into();
    buyer.post_with_key("/v1/tenders", &other, "make").await.refused(422, "idempotency_key_reused");
    let (tender, lot) = (format!("/v1/tenders/{}", made["id"].as_str().expect("an id")), &made["lots"][0]["id"]);
    let lot = format!("/v1/lots/{}", lot.as_str().expect("an id"));
    twice(&buyer, &format!("{tender}/bidders"), &json!({ "organisation": supplier.organisation }), "admit")
        .await
        .expect(201);
    let key_of_publish = twice(&buyer, &format!("{tender}/publish"), &json!({}), "go").await;
    twice(&buyer, &format!("{tender}/start"), &json!({}), "go").await.expect(200);
    key_of_publish.expect(200);
    twice(&supplier, &format!("{lot}/bids"), &json!({ "price": "2000" }), "high")
        .await
        .refused(422, "above_ceiling");
    twice(&supplier, &format!("{lot}/bids"), &json!({ "price": "900" }), "bid").await.expect(201);
    // Whitespace and defaults that are written out are the same body; another price is not.
    let spaced = r#"{ "confirm" : false,  "price":"900" }"#;
    let again = supplier
        .request(Method::POST, &format!("{lot}/bids"), Some(spaced.to_owned()), &[("idempotency-key", "bid")])
        .await;
    assert_eq!(again.header("idempotency-replayed"), "true");
    let reused = supplier.post_with_key(&format!("{lot}/bids"), &json!({ "price": "890" }), "bid").await;
    reused.refused(422, "idempotency_key_reused");
    // The key belongs to the organisation: another bidder's same key is its own.
    buyer
        .post_with_key(&format!("{lot}/bids"), &json!({ "price": "900" }), "bid")
        .await
        .refused(403, "not_admitted");
    twice(&buyer, &format!("{tender}/pause"), &json!({ "reason": "lunch" }), "pause").await.expect(200);
    twice(&supplier, &format!("{lot}/bids"), &json!({ "price": "800" }), "late").await.refused(409, "lot_paused");
    twice(&buyer, &format!("{tender}/resume"), &json!({ "reason": "back" }), "resume").await.expect(200);
    twice(&buyer, &format!("{tender}/extend"), &json!({ "seconds": 5, "reason": "x" }), "extend")
        .await
        .expect(200);
    let bids = buyer.get(&format!("{lot}/bids")).await.expect(200);
    let standing = bids["items"].as_array().expect("items").iter().find(|line| line["status"] == "accepted");
    let bid = standing.expect("a bid")["bid"].as_str().expect("an id").to_owned();
    twice(&buyer, &format!("{lot}/bids/{bid}/void"), &json!({ "reason": "typo" }), "void").await.expect(200);
    twice(&buyer, &format!("{tender}/bidders/1/disqualify"), &json!({ "reason": "x" }), "out").await.expect(200);
    twice(&buyer, &format!("{tender}/cancel"), &json!({ "reason": "budget" }), "cancel").await.expect(200);
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn two_at_once_under_one_key_are_one() {
    let server = TestServer::start().await;
    let buyer = sign_up(&server, "buyer").await;
    let supplier = sign_up(&server, "supplier").await;
    let ids = open_tender(&buyer, &tender_body(), &[&supplier]).await;
    for price in ["900.00", "800.00", "700.00"] {
        let path = ids.lot("/bids");
        let body = json!({ "price": price });
        let sent = (0..4).map(|_| supplier.post_with_key(&path, &body, price));
        let answers = futures_util::future::join_all(sent).await;
        let replayed = answers.iter().filter(|answer| answer.header("idempotency-replayed") == "true").count();
        assert_eq!(replayed, 3, "one of them was first");
        assert!(answers.iter().all(|answer| answer.body == answers[0].body && answer.status == 201));
    }
    let bids = supplier.get(&ids.lot("/bids")).await.expect(200);
    assert_eq!(bids["items"].as_array().map(Vec::len), Some(3));
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_draft_is_patched_by_who_saw_it_last() {
    let server = TestServer::start().await;
    let buyer = sign_up(&server, "buyer").await;
    let ids = create_tender(&buyer, &tender_body()).await;
    let patch = async |body: Value, tag: &str| {
        let headers = [("if-match", tag), ("content-type", "application/merge-patch+json")];
        buyer.request(Method::PATCH, &ids.tender(""), Some(body.to_string()), &headers).await
    };
    let without = buyer.request(Method::PATCH, &ids.tender(""), Some("{}".to_owned()), &[]).await;
    without.refused(428, "precondition_required");
    let changed = patch(json!({ "title": "Rear bumper", "description": "as new" }), "\"1\"").await;
    assert_eq!(changed.header("etag"), "\"2\"");
    assert_eq!(changed.expect(200)["title"], "Rear bumper");
    patch(json!({ "title": "Late" }), "\"1\"").await.refused(412, "version_mismatch");
    patch(json!({ "title": "Late" }), "W/\"2\"").await.refused(412, "version_mismatch");
    patch(json!({ "title": "Late" }), "soon").await.refused(412, "version_mismatch");
    assert_eq!(patch(json!({ "description": null }), "*").await.expect(200)["description"], "");
    // What the answer tells of the lots, every default included, may be sent back: it only pins the defaults.
    let told = buyer.get(&ids.tender("")).await.expect(200);
    let lot = &told["lots"][0];
    let lots = json!([{ "title": lot["title"], "items": lot["items"], "rules": lot["rules"] }]);
    let same = patch(json!({ "lots": lots }), "\"3\"").await.expect(200);
    assert_eq!(same["lots"][0]["rules"], lot["rules"]);
    assert_eq!(same["version"], 4);
    let error = patch(json!({ "titel": "x" }), "\"4\"").await.refused(422, "unknown_field");
    assert_eq!(error["errors"][0]["pointer"], "/titel");
    patch(json!({ "title": null }), "\"4\"").await.refused(400, "malformed");
    patch(json!([]), "\"4\"").await.refused(400, "malformed");
    let error = patch(json!({ "lots": [] }), "\"4\"").await.refused(422, "invalid_rules");
    assert_eq!(error["errors"][0]["pointer"], "/lots");
    buyer.post(&ids.tender("/publish"), &json!({})).await.expect(200);
    let now = buyer.get(&ids.tender("")).await;
    patch(json!({ "title": "Frozen" }), now.header("etag")).await.refused(409, "rules_frozen");
    let later = patch(json!({ "opens_at": "2099-01-01T00:00:00Z" }), now.header("etag")).await.expect(200);
    assert_eq!(later["opens_at"], "2099-01-01T00:00:00.000Z");
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lot_is_read_again_only_when_it_changed() {
    let server = TestServer::start().await;
    let buyer = sign_up(&server, "buyer").await;
    let (one, two) = (sign_up(&server, "supplier").await, sign_up(&server, "supplier").await);
    let ids = open_tender(&buyer, &tender_body(), &[&one, &two]).await;
    let first = one.get(&ids.lot("")).await;
    first.expect(200);
    let tag = first.header("etag").to_owned();
    assert_ne!(tag, two.get(&ids.lot("")).await.header("etag"), "the private part is covered");
    let known =
        one.request(Method::GET, &ids.lot(""), None, &[("if-none-match", &format!("\"x\", W/{tag}"))]).await;
    assert_eq!((known.status.as_u16(), known.body.len()), (304, 0));
    assert_eq!(known.header("etag"), tag);
    assert_eq!(first.header("cache-control"), "private, no-cache");
    assert_eq!(first.header("vary"), "Authorization, Accept-Language");
    bid(&one, &ids, "900").await.expect(201);
    let changed = one.request(Method::GET, &ids.lot(""), None, &[("if-none-match", &tag)]).await;
    assert_eq!(changed.expect(200)["you"]["standing"], "900.00");
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn steps_are_polled_and_waited_for() {
    let server = TestServer::start().await;
    let buyer = sign_up(&server, "buyer").await;
    let supplier = sign_up(&server, "supplier").await;
    let ids = open_tender(&buyer, &tender_body(), &[&supplier]).await;
    let events = supplier.get(&ids.lot("/events")).await.expect(200);
    assert_eq!((&events["recovered"], &events["seq"]), (&json!(true), &json!(2)));
    assert_eq!(events["items"][1]["ev"][0]["type"], "opened");
    assert_eq!(events["items"][1]["seq"], 2);
    let one = supplier.get(&ids.lot("/events?limit=1")).await.expect(200);
    assert_eq!((&one["seq"], one["items"].as_array().map(Vec::len)), (&json!(1), Some(1)));
    let waiting = supplier.get(&ids.lot("/events?after=2&wait=1")).await;
    assert_eq!(waiting.status, 200);
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_poll_ends_with_the_step_it_waits_for() {
    let server = TestServer::start().await;
    let buyer = sign_up(&server, "buyer").await;
    let supplier = sign_up(&server, "supplier").await;
    let ids = open_tender(&buyer, &tender_body(), &[&supplier]).await;
    let path = ids.lot("/events?after=2&wait=30");
    let client = supplier.client.clone();
    let poll = tokio::spawn(async move { client.get(&path).await });
    bid(&supplier, &ids, "900").await.expect(201);
    let answer = poll.await.expect("the poll ends").expect(200);
    assert_eq!(answer["items"][0]["ev"][0]["type"], "bid");
    assert_eq!(answer["seq"], 3);
    let ahead = supplier.get(&ids.lot("/events?after=99")).await.expect(200);
    assert_eq!(
        (&ahead["recovered"], &ahead["snap"]["seq"]),
        (&json!(false), &json!(3)),
        "a position of no history"
    );
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn lists_come_in_pages_newest_first() {
    let server = TestServer::start().await;
    let buyer = sign_up(&server, "buyer").await;
    let supplier = sign_up(&server, "supplier").await;
    let mut made = Vec::new();
    for number in 0..5 {
        let mut body = tender_body();
        body["title"] = format!("Tender {number}").into();
        body["public"] = (number == 3).into();
        made.push(create_tender(&buyer, &body).await);
    }
    let mut seen = Vec::new();
    let mut path = "/v1/tenders?mine=true&limit=2".to_owned();
    loop {
        let page = buyer.get(&path).await;
        let body = page.expect(200);
        let items = body["items"].as_array().expect("items");
        assert!(items.len() <= 2);
        seen.extend(items.iter().map(|item| item["id"].as_str().expect("an id").to_owned()));
        let link = page.header("link").to_owned();
        match body["next"].as_str() {
            None => {
                assert_eq!(link, "");
                break;
            }
            Some(next) => {
                path = link
                    .strip_prefix('<')
                    .and_then(|rest| rest.split_once(">; rel=\"next\""))
                    .expect("a link")
                    .0
                    .to_owned();
                assert!(path.contains(next) && path.contains("mine=true&limit=2"), "{path}");
            }
        }
    }
    let newest_first: Vec<String> = made.iter().rev().map(|ids| ids.tender.clone()).collect();
    assert_eq!(seen, newest_first);
    assert_eq!(supplier.get("/v1/tenders").await.expect(200)["items"], json!([]), "drafts are the buyer's");
    buyer.post(&made[3].tender("/publish"), &json!({})).await.expect(200);
    let public = server.client().get("/v1/tenders").await.expect(200);
    assert_eq!(public["items"][0]["id"], made[3].tender);
    assert_eq!(public["items"].as_array().map(Vec::len), Some(1));
    let found = buyer.get("/v1/tenders?q=TENDER%201&stage=draft").await.expect(200);
    assert_eq!(found["items"][0]["title"], "Tender 1");
    assert_eq!(server.client().get(&made[3].tender("")).await.expect(200)["title"], "Tender 3");
    assert_eq!(server.client().get(&made[3].lot("")).await.expect(200)["seq"], 1);
    server.client().get(&made[2].tender("")).await.refused(401, "token_missing");
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_reserve_that_is_not_shown_is_the_buyers_alone() {
    let server = TestServer::start().await;
    let buyer = sign_up(&server, "buyer").await;
    let supplier = sign_up(&server, "supplier").await;
    let mut body = tender_body();
    body["public"] = true.into();
    body["lots"][0]["rules"]["reserve"] = json!({ "price": "717.17", "shown": false });
    let ids = open_tender(&buyer, &body, &[&supplier]).await;
    for path in [ids.tender(""), ids.lot(""), ids.lot("/events"), "/v1/tenders".to_owned()] {
        for reader in [&supplier.client, &server.client()] {
            let answer = reader.get(&path).await;
            answer.expect(200);
            assert!(!String::from_utf8_lossy(&answer.body).contains("717.17"), "{path}");
        }
    }
    let own = buyer.get(&ids.tender("")).await.expect(200);
    assert_eq!(own["lots"][0]["rules"]["reserve"]["price"], "717.17");
    server.stop().await;
}
