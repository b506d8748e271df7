//! Every status and code that the edge gives, and the headers of every answer.

use axum::http::Method;
use serde_json::{Value, json};

use crate::support::{Client, TestServer, bid, create_tender, fresh, open_tender, sign_up, tender_body};

async fn raw_post(
    client: &Client,
    path: &str,
    body: &str,
    headers: &[(&'static str, &str)],
) -> crate::support::Answer {
    let key = fresh("raw");
    let mut all = vec![("idempotency-key", key.as_str())];
    all.extend_from_slice(headers);
    client.request(Method::POST, path, Some(body.to_owned()), &all).await
}

#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_be_read_is_malformed_with_its_place() {
    let server = TestServer::start().await;
    let buyer = sign_up(&server, "buyer").await;
    let supplier = sign_up(&server, "supplier").await;
    let ids = open_tender(&buyer, &tender_body(), &[&supplier]).await;
    let bids = ids.lot("/bids");
    for (body, pointer) in [
        ("", ""),
        ("{", ""),
        ("null", ""),
        ("[]", ""),
        ("{} {}", ""),
        ("{}", "/price"),
        (r#"{"price":900}"#, "/price"),
        (r#"{"price":"9e2"}"#, "/price"),
        (r#"{"price":"1,5"}"#, "/price"),
        (r#"{"price":" 900"}"#, "/price"),
        (r#"{"price":"٩٠٠"}"#, "/price"),
        (r#"{"price":"900","confirm":"yes"}"#, "/confirm"),
        (r#"{"price":"900","expires_at":"soon"}"#, "/expires_at"),
        (r#"{"price":"900","seen_seq":-1}"#, "/seen_seq"),
        (r#"{"price":"900","price":"800"}"#, "/price"),
    ] {
        let error = raw_post(&supplier, &bids, body, &[]).await.refused(400, "malformed");
        let shown = error["errors"][0]["pointer"].as_str().expect("a pointer");
        assert!(shown == pointer || pointer.is_empty(), "{body}: {error}");
    }
    let error =
        raw_post(&supplier, &bids, r#"{"price":"900","limit":"1"}"#, &[]).await.refused(422, "unknown_field");
    assert_eq!(error["errors"][0]["pointer"], "/limit");
    let deep = format!(r#"{{"price":{}{}}}"#, "[".repeat(100_000), "]".repeat(100_000));
    raw_post(&supplier, &bids, &deep, &[]).await.refused(400, "malformed");
    let invalid = format!("{{\"price\":\"{}\"}}", '\u{0}');
    raw_post(&supplier, &bids, &invalid, &[]).await.refused(400, "malformed");
    let error = raw_post(
        &buyer,
        "/v1/tenders",
        r#"{"title":"T","currency":"SAR","lots":[{"title":"L","rules":{"format":"auction"}}]}"#,
        &[],
    )
    .await;
    let error = error.refused(422, "invalid_rules");
    assert_eq!(error["errors"][0]["pointer"], "/lots/0/rules/format");
    assert!(error["errors"][0]["detail"].as_str().expect("a text").contains("english"), "{error}");
    bid(&supplier, &ids, "900").await.expect(201);
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn keys_are_required_where_a_repeat_would_hurt() {
    let server = TestServer::start().await;
    let buyer = sign_up(&server, "buyer").await;
    let supplier = sign_up(&server, "supplier").await;
    let ids = open_tender(&buyer, &tender_body(), &[&supplier]).await;
    let price = json!({ "price": "900" });
    let reason = json!({ "reason": "x" });
    let required: [(&Client, String, &Value); 8] = [
        (&supplier, ids.lot("/bids"), &price),
        (&buyer, ids.tender("/publish"), &reason),
        (&buyer, ids.tender("/start"), &reason),
        (&buyer, ids.tender("/pause"), &reason),
        (&buyer, ids.tender("/resume"), &reason),
        (&buyer, ids.tender("/cancel"), &reason),
        (&buyer, ids.lot("/award"), &reason),
        (&buyer, ids.lot("/award/reject"), &reason),
    ];
    for (client, path, body) in required {
        client.post_without_key(&path, body).await.refused(400, "idempotency_key_required");
    }
    for key in ["", " ", "a b", &"k".repeat(256)] {
        supplier.post_with_key(&ids.lot("/bids"), &price, key).await.refused(400, "malformed");
    }
    let twice = [("idempotency-key", "a"), ("idempotency-key", "b")];
    supplier
        .request(Method::POST, &ids.lot("/bids"), Some(price.to_string()), &twice)
        .await
        .refused(400, "malformed");
    supplier.post_with_key(&ids.lot("/bids"), &price, &"k".repeat(255)).await.expect(201);
    buyer.post_without_key("/v1/tenders", &tender_body()).await.expect(201);
    // What was answered before the log leaves the key free.
    let path = ids.lot("/bids");
    raw_post(&supplier, &path, "{", &[]).await.refused(400, "malformed");
    supplier.post_with_key(&path, &json!({ "price": 1 }), "free").await.refused(400, "malformed");
    let taken = supplier.post_with_key(&path, &json!({ "price": "800" }), "free").await;
    taken.expect(201);
    assert_eq!(taken.header("idempotency-replayed"), "");
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn paths_and_methods_that_are_not_there() {
    let server = TestServer::start().await;
    let client = server.client();
    for path in [
        "/v1",
        "/v1/",
        "/v2/tenders",
        "/v1/tender",
        "/v1/tenders/",
        "/v1/tenders/x/y/z",
        "/v1/me/totp",
        "/admin",
        "/metrics",
        "/v1/asyncapi.json",
        "/v1/lots",
        "/v1/lots/x/receipts",
        "/v1/tenders/x/messages",
        "/v1/tenders/x/nothing",
        "/v1/tenders/x/ocds",
        "/v1/lots/x/bids/y/nothing",
        "/livez",
        "/%2e%2e/etc/passwd",
        "/v1/lots/%ff",
        "/v1/tenders/%c0%ae",
        "/v1//tenders",
    ] {
        let error = client.get(path).await.refused(404, "not_found");
        assert_eq!(error["instance"].as_str().map(|path| path.split('?').next().unwrap_or("")), Some(path));
    }
    for (method, path, allow) in [
        (Method::PUT, "/v1/tenders", "GET, HEAD, POST"),
        (Method::DELETE, "/v1/lots/x/bids", "POST, GET, HEAD"),
        (Method::GET, "/v1/auth/token", "POST"),
        (Method::GET, "/v1/lots/x/accept", "POST"),
        (Method::GET, "/v1/lots/x/auto-bid", "PUT, DELETE"),
        (Method::POST, "/v1/time", "GET, HEAD"),
        (Method::GET, "/v1/organisation/members/x", "DELETE"),
        (Method::TRACE, "/v1/me", "GET, HEAD"),
        (Method::OPTIONS, "/v1/tenders/x", "GET, HEAD, PATCH"),
    ] {
        let answer = client.request(method, path, None, &[]).await;
        answer.refused(405, "method_not_allowed");
        assert_eq!(answer.header("allow"), allow, "{path}");
    }
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn sizes_and_types_of_bodies() {
    let server = TestServer::start().await;
    let buyer = sign_up(&server, "buyer").await;
    let mut body = tender_body();
    body["description"] = "x".repeat(256 * 1024).into();
    buyer.post("/v1/tenders", &body).await.refused(413, "too_large");
    let text = tender_body().to_string();
    for media in [
        "text/plain",
        "application/x-www-form-urlencoded",
        "application/merge-patch+json",
        "application/jsonx",
        "x",
    ] {
        raw_post(&buyer, "/v1/tenders", &text, &[("content-type", media)])
            .await
            .refused(415, "unsupported_media_type");
    }
    raw_post(&buyer, "/v1/tenders", &text, &[("content-encoding", "gzip")])
        .await
        .refused(415, "unsupported_media_type");
    for media in ["application/json", "Application/JSON; charset=utf-8"] {
        raw_post(&buyer, "/v1/tenders", &text, &[("content-type", media)]).await.expect(201);
    }
    // The largest body that fits is read, and judged by the rules.
    let mut body = tender_body();
    let room = 256 * 1024 - body.to_string().len() - r#","description":"""#.len();
    body["description"] = "x".repeat(room).into();
    assert_eq!(body.to_string().len(), 256 * 1024);
    let error = buyer.post("/v1/tenders", &body).await.refused(422, "invalid_rules");
    assert_eq!(error["errors"][0]["pointer"], "/description");
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn invalid_rules_say_where_and_what_would_be_valid() {
    let server = TestServer::start().await;
    let buyer = sign_up(&server, "buyer").await;
    for (pointer, change) in [
        ("/title", json!({ "title": "x".repeat(201) })),
        ("/currency", json!({ "currency": "XX" })),
        ("/lots", json!({ "lots": [] })),
    ] {
        let mut body = tender_body();
        for (name, value) in change.as_object().expect("fields") {
            body[name] = value.clone();
        }
        let error = buyer.post("/v1/tenders", &body).await.refused(422, "invalid_rules");
        assert_eq!(error["errors"][0]["pointer"], pointer, "{error}");
        assert!(error["errors"][0]["detail"].as_str().expect("a text").contains("Valid:"), "{error}");
    }
    let mut body = tender_body();
    body["lots"][0]["rules"]["ceiling"] = "-1".into();
    let error = buyer.post("/v1/tenders", &body).await.refused(422, "invalid_rules");
    assert_eq!(error["errors"][0]["pointer"], "/lots/0/rules/ceiling");
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn refusals_of_bids_and_stages_have_their_status() {
    let server = TestServer::start().await;
    let buyer = sign_up(&server, "buyer").await;
    let supplier = sign_up(&server, "supplier").await;
    let draft = create_tender(&buyer, &tender_body()).await;
    buyer.post(&draft.tender("/start"), &json!({})).await.refused(409, "wrong_stage");
    buyer.post(&draft.tender("/pause"), &json!({ "reason": "x" })).await.refused(409, "wrong_stage");
    let mut body = tender_body();
    body["terms"] = "Pay in 30 days".into();
    body["lots"][0]["rules"]["tick"] = "0.50".into();
    body["lots"][0]["rules"]["floor"] = "100.00".into();
    let ids = create_tender(&buyer, &body).await;
    let admitted =
        buyer.post(&ids.tender("/bidders"), &json!({ "organisation": supplier.organisation })).await.expect(201);
    assert_eq!(admitted["status"], "invited");
    buyer.post(&ids.tender("/publish"), &json!({})).await.expect(200);
    bid(&supplier, &ids, "900").await.refused(403, "terms_not_accepted");
    let joined = supplier.post(&ids.tender("/join"), &json!({})).await.expect(200);
    assert_eq!((&joined["status"], &joined["number"]), (&json!("admitted"), &json!(1)));
    assert_eq!(supplier.get(&ids.tender("")).await.expect(200)["bidder"]["status"], "admitted");
    bid(&supplier, &ids, "900").await.refused(409, "lot_not_open");
    buyer.post(&ids.tender("/start"), &json!({})).await.expect(200);
    for (price, code) in [
        ("0", "price_not_positive"),
        ("-5", "price_not_positive"),
        ("900.001", "price_scale"),
        ("900.25", "price_tick"),
        ("1000.50", "above_ceiling"),
        ("99999999999999999999", "above_ceiling"),
        ("99.50", "below_floor"),
        ("500", "drop_too_large"),
    ] {
        let error = bid(&supplier, &ids, price).await.refused(422, code);
        assert_eq!(error["max_next"], "1000.00", "{price}");
    }
    let confirmed = json!({ "price": "500", "confirm": true });
    supplier.post(&ids.lot("/bids"), &confirmed).await.expect(201);
    let past = json!({ "price": "400", "confirm": true, "expires_at": "2020-01-01T00:00:00Z" });
    supplier.post(&ids.lot("/bids"), &past).await.refused(422, "expired");
    supplier.post(&ids.lot("/bids"), &json!({ "price": null })).await.refused(422, "wrong_action");
    let limit = json!({ "price": "490", "auto_limit": "450" });
    supplier.post(&ids.lot("/bids"), &limit).await.refused(422, "limit_not_allowed");
    buyer.post(&ids.tender("/pause"), &json!({})).await.refused(422, "reason_required");
    buyer
        .post(&ids.tender("/extend"), &json!({ "seconds": 0, "reason": "x" }))
        .await
        .refused(422, "invalid_rules");
    buyer
        .post(&ids.tender("/extend"), &json!({ "seconds": 60, "reason": "x", "lot": 9 }))
        .await
        .refused(404, "lot_not_found");
    let extended =
        buyer.post(&ids.tender("/extend"), &json!({ "seconds": 60, "reason": "x", "lot": 1 })).await.expect(200);
    assert_eq!(extended["lots"][0]["stage"], "open");
    let nobody = "01900000-0000-7000-8000-000000000001";
    buyer
        .post(&ids.lot(&format!("/bids/{nobody}/void")), &json!({ "reason": "x" }))
        .await
        .refused(422, "bid_not_found");
    buyer.post(&ids.lot("/bids/x/void"), &json!({ "reason": "x" })).await.refused(422, "bid_not_found");
    buyer
        .post(&ids.tender(&format!("/bidders/{nobody}/disqualify")), &json!({ "reason": "x" }))
        .await
        .refused(422, "bidder_not_found");
    buyer.post(&ids.tender("/bidders/1/disqualify"), &json!({})).await.refused(422, "reason_required");
    buyer.post(&ids.tender("/bidders/1/disqualify"), &json!({ "reason": "x" })).await.expect(200);
    bid(&supplier, &ids, "300").await.refused(403, "not_admitted");
    buyer.post(&ids.tender("/cancel"), &json!({ "reason": "x" })).await.expect(200);
    buyer.post(&ids.lot("/award"), &json!({ "bidder": 1 })).await.refused(409, "wrong_stage");
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn every_answer_has_its_headers() {
    let server = TestServer::start().await;
    let buyer = sign_up(&server, "buyer").await;
    let named = buyer.request(Method::GET, "/v1/me", None, &[("x-request-id", "my-name-1")]).await;
    assert_eq!(named.header("x-request-id"), "my-name-1");
    assert_eq!(
        (named.header("cache-control"), named.header("vary")),
        ("private, no-cache", "Authorization, Accept-Language")
    );
    assert_eq!(named.header("content-type"), "application/json");
    let odd = buyer.request(Method::GET, "/v1/me", None, &[("x-request-id", "a b")]).await;
    assert_eq!(odd.header("x-request-id").len(), 36, "a name that is none is replaced");
    let missing = server.client().get("/v1/nowhere").await;
    assert_eq!(missing.refused(404, "not_found")["trace_id"], missing.header("x-request-id"));
    let head = server.client().request(Method::HEAD, "/v1/time", None, &[]).await;
    assert_eq!((head.status.as_u16(), head.body.len()), (200, 0));
    let time = server.client().get("/v1/time").await.expect(200);
    assert_eq!(time["now"].as_str().map(str::len), Some("2026-01-29T13:00:00.000Z".len()));
    let rules = server.client().get("/v1/rules").await.expect(200);
    assert!(rules["items"].as_array().is_some_and(|rows| rows.len() > 40));
    let document = server.client().get("/v1/openapi.json").await.expect(200);
    assert_eq!(document["openapi"], "3.1.0");
    for page in ["/", "/sign-in"] {
        let page = server.client().get(page).await;
        assert_eq!((page.status.as_u16(), page.header("x-frame-options")), (200, "DENY"));
    }
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_draining_node_takes_nothing_and_says_so() {
    let server = TestServer::start().await;
    let buyer = sign_up(&server, "buyer").await;
    let supplier = sign_up(&server, "supplier").await;
    let ids = open_tender(&buyer, &tender_body(), &[&supplier]).await;
    server.server().node().drain();
    let refused = bid(&supplier, &ids, "900").await;
    refused.refused(503, "draining");
    assert_eq!(refused.header("retry-after"), "1");
    supplier.get(&ids.lot("")).await.expect(200);
    assert_eq!(server.admin().get("/readyz").await.status, 503);
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_admin_listener_tells_health_and_metrics() {
    let server = TestServer::start().await;
    let buyer = sign_up(&server, "buyer").await;
    buyer.get("/v1/me").await.expect(200);
    let admin = server.admin();
    let text = |answer: crate::support::Answer| String::from_utf8(answer.body.to_vec()).expect("text");
    assert_eq!(text(admin.get("/livez").await), "ok\n");
    let ready = admin.get("/readyz?verbose").await;
    assert_eq!(ready.status, 200);
    let ready = text(ready);
    assert!(ready.contains("[+] serving\n") && ready.ends_with("ready\n"), "{ready}");
    let metrics = text(admin.get("/metrics").await);
    assert!(metrics.contains("rt_http_requests_total{") && metrics.contains("route=\"/v1/me\""), "{metrics}");
    assert!(!metrics.contains(&buyer.email), "no personal data in metrics");
    admin.get("/v1/nowhere").await.refused(404, "not_found");
    server.stop().await;
}
