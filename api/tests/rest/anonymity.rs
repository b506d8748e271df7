//! A tender that is anonymous to its buyer: no number before the opening, no name before the close, in any answer.

use serde_json::{Value, json};

use crate::support::{Account, Ids, TestServer, create_tender, sign_up};

async fn own_number(supplier: &Account, ids: &Ids) -> Value {
    supplier.get(&ids.lot("")).await.expect(200)["you"]["number"].clone()
}

async fn listed(buyer: &Account, ids: &Ids) -> Vec<Value> {
    buyer.get(&ids.tender("/bidders")).await.expect(200)["items"].as_array().expect("a list").clone()
}

#[tokio::test(flavor = "multi_thread")]
async fn the_buyer_sees_numbers_at_the_opening_and_names_at_the_close() {
    let server = TestServer::start().await;
    let buyer = sign_up(&server, "buyer").await;
    let mut suppliers = Vec::new();
    for _ in 0..4 {
        suppliers.push(sign_up(&server, "supplier").await);
    }
    let body = json!({ "title": "T", "currency": "SAR", "anonymous_to_buyer": true, "lots": [{ "title": "L", "items": [],
        "rules": { "format": "sealed", "duration_s": 2, "prebid": "allowed", "ceiling": "1000.00" } }] });
    let ids = create_tender(&buyer, &body).await;
    for supplier in &suppliers {
        let made = buyer.post(&ids.tender("/bidders"), &json!({ "organisation": supplier.organisation })).await;
        assert!(made.expect(201).get("number").is_none(), "nobody has a number yet");
    }
    buyer.post(&ids.tender("/publish"), &json!({})).await.expect(200);
    for (place, supplier) in suppliers.iter().enumerate() {
        assert_eq!(own_number(supplier, &ids).await, Value::Null);
        supplier.post(&ids.lot("/bids"), &json!({ "price": format!("{}.00", 500 + place) })).await.expect(201);
        let own = supplier.get(&ids.lot("/bids")).await.expect(200);
        assert_eq!((&own["items"][0]["bidder"], &own["items"][0]["status"]), (&Value::Null, &json!("accepted")));
    }
    let by_number = buyer.post(&ids.tender("/bidders/1/disqualify"), &json!({ "reason": "x" })).await;
    assert_eq!(by_number.json()["code"], "bidder_not_found");

    let admitted: Vec<&str> = suppliers.iter().map(|supplier| supplier.organisation.as_str()).collect();
    let in_order = |bidders: &[Value]| {
        let organisations: Vec<&str> =
            bidders.iter().filter_map(|bidder| bidder["organisation"].as_str()).collect();
        assert_eq!(organisations, admitted, "the list goes by admission");
    };
    for stage in ["published", "open"] {
        if stage == "open" {
            buyer.post(&ids.tender("/start"), &json!({})).await.expect(200);
        }
        let bidders = listed(&buyer, &ids).await;
        in_order(&bidders);
        assert!(bidders.iter().all(|bidder| bidder.get("number").is_none()), "{stage}: {bidders:?}");
    }
    let mut numbers = Vec::new();
    for supplier in &suppliers {
        numbers.push(own_number(supplier, &ids).await.as_u64().expect("drawn at the opening"));
    }
    crate::support::eventually("the close", || async {
        buyer.get(&ids.lot("")).await.expect(200)["state"]["stage"] == "closed"
    })
    .await;
    let bidders = listed(&buyer, &ids).await;
    in_order(&bidders);
    let shown: Vec<u64> = bidders.iter().filter_map(|bidder| bidder["number"].as_u64()).collect();
    assert_eq!(shown, numbers, "who is who is told at the close");
    numbers.sort_unstable();
    assert_eq!(numbers, [1, 2, 3, 4]);
    let result = buyer.get(&ids.lot("/result")).await.expect(200);
    assert_eq!(result["winner"], shown[0]);
    let ranking: Vec<u64> = result["ranking"]
        .as_array()
        .expect("a ranking")
        .iter()
        .filter_map(|ranked| ranked["bidder"].as_u64())
        .collect();
    assert_eq!(ranking, shown, "what was left before the opening is its bidder's still");
    buyer.post(&ids.lot("/award"), &json!({ "bidder": shown[0] })).await.expect(200);
    assert!(buyer.get(&ids.lot("/result")).await.expect(200)["winner_name"].is_string());
    server.stop().await;
}
