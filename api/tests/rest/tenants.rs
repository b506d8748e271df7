//! Other people's things: every route with every kind of stranger, and every cell of the policy.

use api::rest::routes::{Cell, Op, PARTIES, Party, ROUTES, Route, Verb};
use axum::http::Method;
use engine::{OrganisationKind, Role};
use serde_json::{Value, json};

use crate::support::{
    Account, Answer, Client, Ids, TestServer, add_member, bid, create_tender, fresh, open_tender, sign_up,
    tender_body,
};

/// A body that can be read on this route.
fn body(route: &Route, organisation: &str) -> Option<Value> {
    let body = match route.op {
        Op::Register => json!({
            "email": format!("{}@example.com", fresh("r")), "password": "a good password", "name": "R",
            "organisation": { "name": "R", "kind": "buyer" },
        }),
        Op::Token => json!({ "email": "nobody@example.com", "password": "a good password" }),
        Op::Refresh => json!({ "refresh_token": "rt_none" }),
        Op::AddMember => json!({ "email": format!("{}@example.com", fresh("m")), "name": "M", "role": "auditor" }),
        Op::CreateTender => tender_body(),
        Op::UpdateTender => json!({ "title": "Mine now" }),
        Op::Extend => json!({ "seconds": 60, "reason": "x" }),
        Op::Admit => json!({ "organisation": organisation }),
        Op::PlaceBid => json!({ "price": "500.00" }),
        Op::Accept => json!({ "step": 0 }),
        Op::SetAutoBid => json!({ "limit": "400.00" }),
        Op::Award | Op::RejectAward => json!({ "bidder": 1, "reason": "x" }),
        Op::Pause | Op::Resume | Op::Cancel | Op::Disqualify | Op::Void => json!({ "reason": "x" }),
        Op::Publish | Op::Start | Op::Join => json!({}),
        _ => return None,
    };
    Some(body)
}

async fn call(client: &Client, route: &Route, path: &str, organisation: &str) -> Answer {
    let method = match route.verb {
        Verb::Get => Method::GET,
        Verb::Post => Method::POST,
        Verb::Put => Method::PUT,
        Verb::Patch => Method::PATCH,
        Verb::Delete => Method::DELETE,
    };
    let key = fresh("key");
    let headers: &[(&'static str, &str)] = match route.verb {
        Verb::Post => &[("idempotency-key", &key)],
        Verb::Patch => &[("if-match", "*")],
        _ => &[],
    };
    client.request(method, path, body(route, organisation).map(|body| body.to_string()), headers).await
}

fn fill(route: &Route, ids: &Ids, bid: &str, user: &str) -> String {
    route
        .path
        .replace("{tender}", &ids.tender)
        .replace("{lot}", &ids.lots[0])
        .replace("{bidder}", "1")
        .replace("{bid}", bid)
        .replace("{user}", user)
}

#[tokio::test(flavor = "multi_thread")]
async fn what_one_may_not_see_is_not_there() {
    let server = TestServer::start().await;
    let buyer = sign_up(&server, "buyer").await;
    let bidder = sign_up(&server, "supplier").await;
    let draft = create_tender(&buyer, &tender_body()).await;
    let open = open_tender(&buyer, &tender_body(), &[&bidder]).await;
    let placed = bid(&bidder, &open, "900").await.expect(201)["bid"].as_str().expect("an id").to_owned();
    let nowhere = Ids {
        tender: "01900000-0000-7000-8000-00000000f000".to_owned(),
        lots: vec!["01900000-0000-7000-8000-00000000f001".to_owned()],
    };
    let garbage = Ids { tender: "..%2F..%2Fetc".to_owned(), lots: vec!["1%27%20OR%201=1".to_owned()] };
    let swapped = Ids { tender: open.lots[0].clone(), lots: vec![open.tender.clone()] };
    let strangers =
        [sign_up(&server, "buyer").await, sign_up(&server, "supplier").await, sign_up(&server, "both").await];
    let anonymous = server.client();
    let mut asked = 0;
    for route in ROUTES.iter().filter(|route| route.path.contains("{tender}") || route.path.contains("{lot}")) {
        let code = if route.path.contains("{lot}") { "lot_not_found" } else { "tender_not_found" };
        for stranger in &strangers {
            let mut seen = Vec::new();
            for ids in [&draft, &open, &nowhere, &garbage, &swapped] {
                let answer = call(stranger, route, &fill(route, ids, &placed, ""), &bidder.organisation).await;
                let mut body = answer.refused(404, code);
                for own in ["trace_id", "instance"] {
                    body.as_object_mut().expect("a problem").remove(own);
                }
                seen.push(body);
                asked += 1;
            }
            assert!(seen.iter().all(|body| *body == seen[0]), "{:?} tells what is there: {seen:?}", route.op);
        }
        for ids in [&draft, &open, &nowhere] {
            let answer = call(&anonymous, route, &fill(route, ids, &placed, ""), &bidder.organisation).await;
            answer.refused(401, "token_missing");
        }
    }
    assert!(asked >= 20 * 15, "{asked} requests cover the routes");
    // A bidder of the one tender is a stranger to the other, and not its owner.
    bidder.get(&draft.tender("")).await.refused(404, "tender_not_found");
    for (path, body) in
        [("/pause", json!({ "reason": "x" })), ("/cancel", json!({ "reason": "x" })), ("/start", json!({}))]
    {
        bidder.post(&open.tender(path), &body).await.refused(403, "not_owner");
    }
    bidder.get(&open.tender("/bidders")).await.refused(403, "not_owner");
    bidder
        .post(&open.tender("/bidders"), &json!({ "organisation": bidder.organisation }))
        .await
        .refused(403, "not_owner");
    bidder
        .post(&open.lot(&format!("/bids/{placed}/void")), &json!({ "reason": "x" }))
        .await
        .refused(403, "not_owner");
    bidder.post(&open.lot("/award"), &json!({ "bidder": 1 })).await.refused(403, "not_owner");
    let untouched = buyer.get(&open.tender("")).await.expect(200);
    assert_eq!((&untouched["stage"], &untouched["title"]), (&json!("open"), &json!("Front bumper")));
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_public_tender_is_seen_but_not_touched() {
    let server = TestServer::start().await;
    let buyer = sign_up(&server, "buyer").await;
    let bidder = sign_up(&server, "supplier").await;
    let mut body = tender_body();
    body["public"] = true.into();
    let ids = open_tender(&buyer, &body, &[&bidder]).await;
    let stranger = sign_up(&server, "both").await;
    bid(&stranger, &ids, "500").await.refused(403, "not_admitted");
    stranger.post(&ids.tender("/join"), &json!({})).await.refused(403, "not_admitted");
    stranger.get(&ids.lot("/bids")).await.refused(403, "not_admitted");
    stranger.post(&ids.tender("/pause"), &json!({ "reason": "x" })).await.refused(403, "not_owner");
    assert!(stranger.get(&ids.lot("")).await.expect(200).get("you").is_none());
    let other_buyer = sign_up(&server, "buyer").await;
    other_buyer.post(&ids.tender("/join"), &json!({})).await.refused(403, "forbidden");
    buyer.post(&ids.tender("/join"), &json!({})).await.refused(403, "own_tender");
    bid(&buyer, &ids, "500").await.refused(403, "not_admitted");
    buyer
        .post(&ids.tender("/bidders"), &json!({ "organisation": other_buyer.organisation }))
        .await
        .refused(404, "not_found");
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn every_cell_of_the_policy_holds() {
    let server = TestServer::start().await;
    let owner = sign_up(&server, "buyer").await;
    let bidder = sign_up(&server, "supplier").await;
    let ids = open_tender(&owner, &tender_body(), &[&bidder]).await;
    let mut members: Vec<(Party, Account)> = Vec::new();
    for kind in [OrganisationKind::Buyer, OrganisationKind::Supplier, OrganisationKind::Both] {
        let admin = sign_up(&server, kind.word()).await;
        for role in [Role::Trader, Role::Auditor] {
            members.push((Party::Member(role, kind), add_member(&admin, role.word()).await));
        }
        members.push((Party::Member(Role::Admin, kind), admin));
    }
    let anonymous = server.client();
    let mut cells = 0;
    for route in ROUTES {
        for party in PARTIES {
            let account = members.iter().find(|(of, _)| *of == party).map(|(_, account)| account);
            let user = "01900000-0000-7000-8000-000000000001";
            let client = account.map_or(&anonymous, |account| &account.client);
            if route.op == Op::Logout && account.is_some() {
                continue; // Its cell is exercised by the test of signing out; here the accounts are needed on.
            }
            let answer = call(client, route, &fill(route, &ids, user, user), &bidder.organisation).await;
            let code = if answer.status.is_success() { Value::Null } else { answer.json()["code"].clone() };
            let place = format!("{:?} by {party:?}: {} {code}", route.op, answer.status);
            match route.policy.cell(party) {
                Cell::Allow => {
                    assert!(code != "forbidden", "{place}");
                    // Who has no token is asked for one only about what is not public.
                    assert!(code != "token_missing" || party == Party::Anonymous, "{place}");
                }
                Cell::SignIn => assert_eq!(code, "token_missing", "{place}"),
                Cell::Forbid => assert_eq!(code, "forbidden", "{place}"),
            }
            assert!(answer.status.as_u16() < 500, "{place}");
            cells += 1;
        }
    }
    assert_eq!(cells, ROUTES.len() * PARTIES.len() - 9);
    server.stop().await;
}
