//! Exports and receipts of the running server, checked offline: what was not touched holds, and whatever is touched is
//! found and named.

#[path = "support/mod.rs"]
mod support;

use std::path::Path;
use std::process::Command;

use api::audit::document::{Document, claims_text};
use api::audit::replay::Replayed;
use api::audit::verify::{Against, Outside, Verified, VerifyError, Wrong, read, verify};
use api::body::TimeText;
use api::text;
use persistence::checkpoint::{Checkpoint, unhex};
use persistence::merkle::{Frontier, Hash, Subtrees, consistency_proof, inclusion_proof, node_position};
use persistence::{Head, leaf_of, salted_digest};
use serde_json::{Value, json};
use support::socket::Socket;
use support::{Account, Ids, TestServer, bid, eventually, open_tender, sign_up, tender_body};

fn check(value: &Value) -> Result<Verified, Wrong> {
    check_against(value, &Against::default())
}

fn check_against(value: &Value, against: &Against) -> Result<Verified, Wrong> {
    let document = match read(value.to_string().as_bytes()) {
        Ok(document) => document,
        Err(VerifyError::Wrong(wrong)) => return Err(wrong),
        Err(VerifyError::Unreadable(what)) => return Err(Wrong::new("", "a document", what)),
    };
    let mut steps = 0;
    verify(&document, against, &mut |done, all| {
        assert!(steps < done && done <= all, "progress goes on");
        steps = done;
    })
}

struct Market {
    server: TestServer,
    buyer: Account,
    bidders: [Account; 2],
    ids: Ids,
}

/// A tender with one lot of two seconds and two bidders.
async fn market(rules: &Value) -> Market {
    market_with(rules, false).await
}

async fn market_with(rules: &Value, anonymous: bool) -> Market {
    let server = TestServer::start().await;
    let buyer = sign_up(&server, "buyer").await;
    let bidders = [sign_up(&server, "supplier").await, sign_up(&server, "supplier").await];
    let mut body = tender_body();
    for (name, value) in rules.as_object().expect("rules") {
        body["lots"][0]["rules"][name] = value.clone();
    }
    body["lots"][0]["rules"]["duration_s"] = 2.into();
    body["anonymous_to_buyer"] = anonymous.into();
    let ids = open_tender(&buyer, &body, &[&bidders[0], &bidders[1]]).await;
    Market { server, buyer, bidders, ids }
}

impl Market {
    async fn export(&self, reader: &Account) -> Value {
        reader.get(&self.ids.tender("/audit")).await.expect(200)
    }

    async fn closed(&self) {
        eventually("the lot closes", || async {
            self.buyer.get(&self.ids.lot("")).await.expect(200)["state"]["stage"] == "closed"
        })
        .await;
    }
}

/// A closed English tender in which three bids were taken and one was refused, its export for the buyer and the root that the feed pushed at its close.
async fn closed_english() -> (Market, Value, Value) {
    let market = market(&json!({})).await;
    let [a, b] = &market.bidders;
    let mut socket = Socket::connect(a).await;
    socket.sub(&market.ids.lots[0]).await;
    bid(a, &market.ids, "900.00").await.expect(201);
    bid(b, &market.ids, "890.00").await.expect(201);
    bid(a, &market.ids, "899.00").await.refused(422, "not_improved");
    bid(a, &market.ids, "880.00").await.expect(201);
    market.buyer.get(&market.ids.tender("/audit")).await.refused(409, "wrong_stage");
    let root = socket.push("checkpoint", |_| true).await;
    market.closed().await;
    market.buyer.post(&market.ids.lot("/award"), &json!({ "bidder": 1 })).await.expect(200);
    let export = market.export(&market.buyer).await;
    (market, export, root)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_buyer_checks_all_of_its_tender_and_a_bidder_its_own() {
    let (market, export, root) = closed_english().await;
    let verified = check(&export).expect("it holds");
    assert_eq!(verified.replayed, Replayed::Same { lots: 1, decisions: 4 });
    let words: Vec<&str> = export["commands"]
        .as_array()
        .expect("a list")
        .iter()
        .map(|line| line["action"].as_str().expect("a word"))
        .collect();
    let expected = ["create_tender", "admit", "admit", "publish", "start", "bid", "bid", "bid", "bid", "award"];
    assert_eq!(words, expected);
    assert_eq!((verified.claims.commands, verified.proved), (10, 10));

    // The key is the published one, and the root of the feed agrees.
    let keys = market.buyer.get("/.well-known/jwks.json").await.expect(200);
    let published =
        keys["keys"].as_array().expect("keys").iter().find(|key| key["kid"] == export["claims"]["kid"]);
    assert_eq!(published.expect("it is published")["use"], "sig");
    assert_eq!(root["kid"], export["claims"]["kid"]);
    let key = market.server.server().node().audit_key().1;
    let against = Against { key: Some(key), checkpoints: vec![outside(&root)] };
    let size = root["size"].as_u64().expect("a number");
    let asked = market.buyer.get(&market.ids.tender(&format!("/audit?sizes={size}"))).await.expect(200);
    assert_eq!(check_against(&asked, &against).expect("it holds").outside, 1);
    market.buyer.get(&market.ids.tender("/audit?sizes=many")).await.refused(400, "malformed");

    let asked = market.bidders[1].get(&market.ids.tender(&format!("/audit?sizes={size}"))).await.expect(200);
    assert_eq!(check_against(&asked, &against).expect("it holds").outside, 1, "a bidder compares as well");

    // A bidder has its own commands, and nothing that counts those of others.
    let own = market.export(&market.bidders[0]).await;
    let verified = check(&own).expect("it holds");
    assert_eq!((verified.claims.commands, verified.proved), (3, 3));
    assert!(matches!(verified.replayed, Replayed::Not(_)));
    assert!(own["claims"]["chain"].is_null() && own["claims"]["lots"] == json!([]));
    for line in own["commands"].as_array().expect("a list") {
        assert_eq!(line["organisation"], market.bidders[0].organisation.as_str());
        assert!(line["number"].is_null());
    }
    let stranger = sign_up(&market.server, "supplier").await;
    stranger.get(&market.ids.tender("/audit")).await.refused(404, "tender_not_found");

    // After a restart everything is still there, and an interruption of the service with it.
    let Market { server, buyer, ids, .. } = market;
    let server = server.restart().await;
    let client = support::Client { address: server.address(), ..buyer.client.clone() };
    let again = client.get(&ids.tender("/audit")).await.expect(200);
    let verified = check_against(&again, &Against { key: Some(key), checkpoints: vec![] }).expect("it holds");
    assert_eq!(verified.replayed, Replayed::Same { lots: 1, decisions: 4 });
    assert_eq!(verified.claims.interruptions.len(), 1);
    assert_eq!(again["commands"].as_array().map(Vec::len), Some(10));
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_receipt_proves_one_bid() {
    let (market, ..) = closed_english().await;
    let [a, b] = &market.bidders;
    let bids = a.get(&market.ids.lot("/bids")).await.expect(200);
    for line in bids["items"].as_array().expect("a list") {
        let id = line["bid"].as_str().expect("an id");
        let path = market.ids.lot(&format!("/bids/{id}/receipt"));
        let receipt = a.get(&path).await.expect(200);
        for field in ["bid", "lot", "seq", "at", "status"] {
            assert_eq!(receipt[field], line[field], "{field}");
        }
        let verified = check(&receipt).expect("it holds");
        assert_eq!(verified.claims.decision.as_ref(), Some(line));
        assert_eq!(verified.proved, 1, "the close was signed");
        assert_eq!(receipt["leaf"], receipt["audit"]["commands"][0]["leaf"]);
        assert_eq!(receipt["checkpoint"]["root"], receipt["audit"]["checkpoints"][0]["root"]);
        // It is the bidder's alone.
        b.get(&path).await.refused(404, "not_found");
        market.buyer.get(&path).await.refused(403, "not_admitted");
        let mut forged = receipt.clone();
        forged["audit"]["claims"]["decision"]["seq"] = 99.into();
        assert_eq!(check(&forged).expect_err("found").place, "sig");
    }
    a.get(&market.ids.lot("/bids/nonsense/receipt")).await.refused(404, "not_found");
    market.server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn sealed_prices_open_and_limits_never_do() {
    let sealed = market(&json!({ "format": "sealed", "decrement": null })).await;
    let [a, b] = &sealed.bidders;
    bid(a, &sealed.ids, "711.00").await.expect(201);
    bid(b, &sealed.ids, "722.00").await.expect(201);
    // The own price is shown at once, and nobody else's ever.
    let own = sealed.export(a).await;
    check(&own).expect("it holds");
    bid(b, &sealed.ids, "721.00").await.expect(201);
    sealed.export(b).await;
    let again = sealed.export(a).await;
    assert_eq!(again["checkpoints"], own["checkpoints"], "no size tells that others sent something");
    assert_eq!(own["commands"][0]["secret"]["open"]["price"], "711.00");
    assert!(!own.to_string().contains("722.00"));
    sealed.closed().await;
    let export = sealed.export(&sealed.buyer).await;
    let verified = check(&export).expect("it holds");
    assert_eq!(verified.replayed, Replayed::Same { lots: 1, decisions: 3 });
    sealed.server.stop().await;

    let english = market(&json!({ "auto_bid": true })).await;
    let [a, b] = &english.bidders;
    let place = json!({ "price": "900.00", "auto_limit": "812.34" });
    a.post(&english.ids.lot("/bids"), &place).await.expect(201);
    bid(b, &english.ids, "890.00").await.expect(201);
    english.closed().await;
    let export = english.export(&english.buyer).await;
    let limited = |export: &Value| {
        let lines = export["commands"].as_array().expect("a list").clone();
        lines.into_iter().find(|line| line["action"] == "bid" && !line["secret"].is_null()).expect("the bid")
    };
    for export in [&export, &english.export(a).await] {
        let verified = check(export).expect("it holds");
        assert!(matches!(&verified.replayed, Replayed::Not(_)), "{:?}", verified.replayed);
        let line = limited(export);
        assert!(line["secret"]["hidden"]["digest"].is_string() && line["salt"].is_null(), "{line}");
        // 81234 as the log encodes it.
        assert!(!export.to_string().contains("812.34") && !export.to_string().contains("523d010000000000"));
    }
    english.server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_anonymous_tender_is_told_when_its_buyer_may_know_who_is_who() {
    let market = market_with(&json!({}), true).await;
    let [a, b] = &market.bidders;
    bid(a, &market.ids, "900.00").await.expect(201);
    bid(b, &market.ids, "890.00").await.expect(201);
    market.closed().await;
    // Its numbers were drawn with the salt of the start, which is a command of its own.
    let verified = check(&market.export(&market.buyer).await).expect("it holds");
    assert_eq!(verified.replayed, Replayed::Same { lots: 1, decisions: 2 });

    let mut body = tender_body();
    body["anonymous_to_buyer"] = true.into();
    let ids = support::create_tender(&market.buyer, &body).await;
    market.buyer.post(&ids.tender("/bidders"), &json!({ "organisation": a.organisation })).await.expect(201);
    market.buyer.post(&ids.tender("/publish"), &json!({})).await.expect(200);
    bid(a, &ids, "900.00").await.refused(409, "lot_not_open");
    market.buyer.post(&ids.tender("/cancel"), &json!({ "reason": "no need" })).await.expect(200);
    market.buyer.get(&ids.tender("/audit")).await.refused(409, "wrong_stage");
    let own = a.get(&ids.tender("/audit")).await.expect(200);
    assert_eq!(check(&own).expect("it holds").claims.commands, 1);
    market.server.stop().await;
}

/// The service is away while a lot is open, and comes back with a later end: the engine, given the export, finds it too.
#[tokio::test(flavor = "multi_thread")]
async fn an_interruption_is_part_of_what_is_run_again() {
    let market = market(&json!({ "outage_grace_s": 2 })).await;
    let [a, b] = &market.bidders;
    bid(a, &market.ids, "900.00").await.expect(201);
    let ends_at = market.buyer.get(&market.ids.lot("")).await.expect(200)["state"]["closes_at"].clone();
    let (buyer, second, ids) = (market.buyer.client.clone(), b.client.clone(), market.ids.clone());
    // Away beyond the end that the lot had.
    let server = market.server.restart_after(std::time::Duration::from_millis(2_500)).await;
    let here = |client: &support::Client| support::Client { address: server.address(), ..client.clone() };
    let (buyer, second) = (here(&buyer), here(&second));
    bid(&second, &ids, "890.00").await.expect(201);
    eventually("the lot closes", || async {
        buyer.get(&ids.lot("")).await.expect(200)["state"]["stage"] == "closed"
    })
    .await;
    let export = buyer.get(&ids.tender("/audit")).await.expect(200);
    let verified = check(&export).expect("it holds");
    assert_eq!(verified.replayed, Replayed::Same { lots: 1, decisions: 2 });
    assert_eq!(verified.claims.interruptions.len(), 1);
    let closed_at = export["claims"]["lots"][0]["result"]["closed_at"].as_str().expect("a time");
    assert!(closed_at > ends_at.as_str().expect("a time"), "{closed_at} is after {ends_at}");
    // Without the interruption the second bid would be late: whoever leaves it out has to sign another story.
    let mut changed = export.clone();
    changed["claims"]["interruptions"] = json!([]);
    let document = read(changed.to_string().as_bytes()).expect("readable");
    let claims = serde_json::from_value(document.claims.clone()).expect("claims");
    let known = document.commands.iter().map(|line| {
        let (mut envelope, action) = persistence::read_public_part(&line.public.0).expect("a command");
        envelope.salt = line.salt.expect("no secrets here").0;
        let command = engine::Command { envelope, action, secret: None };
        api::audit::replay::Known { leaf: line.leaf_index, number: line.number.expect("the buyer's"), command }
    });
    let wrong = api::audit::replay::replay(&claims, known.collect(), || {}).expect_err("another story");
    assert!(wrong.place.starts_with("claims.lots[0].decisions[1]"), "{wrong}");
    server.stop().await;
}

/// A format in which the clock moves the price.
#[tokio::test(flavor = "multi_thread")]
async fn a_dutch_lot_is_run_again_as_well() {
    let server = TestServer::start().await;
    let buyer = sign_up(&server, "buyer").await;
    let bidder = sign_up(&server, "supplier").await;
    let mut body = tender_body();
    body["lots"][0]["rules"] = json!({
        "format": "dutch", "ceiling": "1000.00", "dutch": { "start": "800.00", "step": "10.00", "interval_s": 1 },
    });
    let ids = open_tender(&buyer, &body, &[&bidder]).await;
    let step = async || {
        let lot = bidder.get(&ids.lot("")).await.expect(200);
        lot["state"]["phase"]["step"].as_u64().unwrap_or(0)
    };
    eventually("the price has moved", || async { step().await >= 2 }).await;
    let accepted = loop {
        let answer = bidder.post(&ids.lot("/accept"), &json!({ "step": step().await })).await;
        if answer.status != 409 {
            break answer;
        }
    };
    assert!(accepted.status.is_success(), "{:?}", accepted.json());
    let export = buyer.get(&ids.tender("/audit")).await.expect(200);
    let verified = check(&export).expect("it holds");
    assert!(matches!(verified.replayed, Replayed::Same { lots: 1, decisions: 1.. }), "{:?}", verified.replayed);
    server.stop().await;
}

fn outside(push: &Value) -> Outside {
    let bytes = |field: &str| unhex(push[field].as_str().expect("a text")).expect("hexadecimal");
    let checkpoint = Checkpoint {
        shard: push["shard"].as_u64().expect("a number") as u16,
        size: push["size"].as_u64().expect("a number"),
        root: bytes("root").try_into().expect("32 bytes"),
        at: text::parse_time(push["at"].as_str().expect("a time")).expect("a time"),
        signature: bytes("sig").try_into().expect("64 bytes"),
    };
    Outside {
        place: "kept.jsonl line 1".into(),
        checkpoint,
        epoch: push["epoch"].as_str().expect("a text").into(),
    }
}

/// Every place of a value, as JSON pointers.
fn places(value: &Value, at: String, all: &mut Vec<String>) {
    match value {
        Value::Object(fields) => {
            fields.iter().for_each(|(name, value)| places(value, format!("{at}/{name}"), all));
        }
        Value::Array(items) => {
            items.iter().enumerate().for_each(|(number, value)| places(value, format!("{at}/{number}"), all));
        }
        _ => {}
    }
    all.push(at);
}

/// The same value with the smallest change.
fn flipped(value: &Value) -> Value {
    match value {
        Value::Null => 1.into(),
        Value::Bool(flag) => (!flag).into(),
        Value::Number(number) => (number.as_u64().expect("a whole number") + 1).into(),
        Value::String(text) => {
            let mut text = text.clone().into_bytes();
            // The last digit: of a hash, an id, a price, the milliseconds of a time.
            match text.iter().rposition(u8::is_ascii_hexdigit) {
                Some(at) => text[at] = if text[at] == b'1' { b'2' } else { b'1' },
                None => text.push(b'x'),
            }
            String::from_utf8(text).expect("ASCII").into()
        }
        Value::Array(_) | Value::Object(_) => Value::Null,
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn whatever_is_touched_is_found_and_named() {
    let (market, export, _) = closed_english().await;
    let (other, other_export, _) = closed_english().await;
    market.server.stop().await;
    other.server.stop().await;
    check(&export).expect("it holds");
    let mut all = Vec::new();
    places(&export, String::new(), &mut all);
    let named = |changed: &Value, place: &str| {
        let Err(wrong) = check(changed) else { panic!("a change of {place} is not found") };
        // What is hashed is named; what is only signed is named by its signature or by what contradicts it.
        let mut parts = place.split('/').skip(1);
        if let (Some("commands"), Some(number)) = (parts.next(), parts.next()) {
            let at = format!("commands[{number}]");
            assert!(wrong.place.starts_with(&at), "{place}: {wrong}");
        }
        assert!(!wrong.place.is_empty() && wrong.expected != wrong.found, "{place}: {wrong}");
    };
    let mut count = 0;
    for place in all.iter().filter(|place| !place.is_empty()) {
        let mut changed = export.clone();
        let target = changed.pointer_mut(place).expect("it is there");
        *target = flipped(target);
        named(&changed, place);
        count += 1;
        // Left out, and one more of what is in a list.
        let (above, last) = place.rsplit_once('/').expect("a pointer");
        let mut without = export.clone();
        match without.pointer_mut(above).expect("it is there") {
            Value::Object(fields) => drop(fields.remove(last)),
            Value::Array(items) => drop(items.remove(last.parse().expect("a number"))),
            _ => unreachable!("it has members"),
        }
        if without.pointer(above).is_some_and(|value| !value.is_array()) {
            // A field that is null may be left out: that says the same.
            let is_same = export.pointer(place).is_some_and(Value::is_null) && check(&without).is_ok();
            assert!(is_same || check(&without).is_err(), "{place} can be left out");
        } else {
            assert!(check(&without).is_err(), "{place} can be left out");
        }
        count += 1;
    }
    for list in ["/commands", "/checkpoints", "/claims/lots/0/decisions", "/claims/lots/0/result/ranking"] {
        let len = export.pointer(list).and_then(Value::as_array).map(Vec::len).expect("a list");
        for at in 0..len {
            let mut doubled = export.clone();
            let items = doubled.pointer_mut(list).and_then(Value::as_array_mut).expect("a list");
            items.insert(at, items[at].clone());
            assert!(check(&doubled).is_err(), "{list} {at} twice");
            if at > 0 {
                let mut swapped = export.clone();
                swapped.pointer_mut(list).and_then(Value::as_array_mut).expect("a list").swap(at - 1, at);
                let wrong = check(&swapped).expect_err("found");
                if list == "/commands" {
                    assert!(wrong.place.starts_with(&format!("commands[{}]", at - 1)), "{wrong}");
                }
            }
            count += 2;
        }
    }
    // Something of another tender, with its own proofs.
    for at in 0..3 {
        let mut mixed = export.clone();
        mixed["commands"][at] = other_export["commands"][at].clone();
        let wrong = check(&mixed).expect_err("found");
        assert!(wrong.place.starts_with(&format!("commands[{at}]")), "{wrong}");
    }
    let mut mixed = export.clone();
    mixed["checkpoints"] = other_export["checkpoints"].clone();
    assert_eq!(check(&mixed).expect_err("found").place, "checkpoints[0].sig");
    // Another key: all of it is signed again, and only the key from elsewhere tells.
    let key = unhex(export["claims"]["key"].as_str().expect("a text")).expect("hex").try_into().expect("32 bytes");
    let against = Against { key: Some(key), checkpoints: vec![] };
    check_against(&export, &against).expect("it holds");
    assert_eq!(check_against(&other_export, &against).expect_err("found").place, "claims.key");
    assert!(count > 500, "{count} changes");
}

struct Nodes(Vec<Hash>);

impl Subtrees for Nodes {
    type Error = std::convert::Infallible;

    fn subtree(&mut self, level: u32, index: u64) -> Result<Hash, Self::Error> {
        Ok(self.0[node_position(level, index) as usize])
    }
}

/// Row 53 of the fault matrix: an insider has the data, the program and the signing key, edits a command and makes
/// everything again, leaves, chain, tree and signatures. The file holds by itself; a root that a bidder kept does not.
#[tokio::test(flavor = "multi_thread")]
async fn an_insider_with_the_key_is_exposed_by_a_root_that_a_bidder_kept() {
    let (market, export, kept) = closed_english().await;
    let mut document: Document = serde_json::from_value(export.clone()).expect("a document");
    let tender = text::parse_id(&market.ids.tender).map(engine::TenderId).expect("an id");
    let audit = market.server.server().node().audit(tender).await.expect("at the tip");
    let mut reader = audit.seal(tender, false).expect("readable").expect("there").reader;
    let size = document.checkpoints.last().expect("signed").size;
    let mut leaves: Vec<Hash> = (0..size).map(|leaf| reader.subtree(0, leaf).expect("read")).collect();

    // The winner's bid becomes a little cheaper: 880.00 in cents, as the log encodes it.
    let line = document.commands.iter_mut().rfind(|line| line.action == "bid").expect("the last bid");
    let before = 88_000_i64.to_le_bytes();
    let at = line.public.0.windows(8).position(|window| window == before).expect("the price");
    line.public.0[at..at + 8].copy_from_slice(&87_000_i64.to_le_bytes());
    let mut head: Option<Head> = None;
    for line in &mut document.commands {
        let digest = salted_digest(line.salt.expect("no secrets here").0, &[]);
        line.leaf.0 = leaf_of(&line.public.0, &digest);
        leaves[line.leaf_index as usize] = line.leaf.0;
        let mut next = head.unwrap_or(Head { count: 0, hash: line.before.0 });
        line.before.0 = next.hash;
        next.push(line.leaf.0);
        line.head.0 = next.hash;
        head = Some(next);
    }
    let mut nodes = Nodes(Vec::new());
    let mut roots = vec![Frontier::default().root()];
    let mut tree = Frontier::default();
    for leaf in &leaves {
        tree.push(*leaf, |hash| nodes.0.push(*hash));
        roots.push(tree.root());
    }
    let hexed = |proof: Vec<Hash>| proof.into_iter().map(api::audit::document::Hex).collect::<Vec<_>>();
    for line in &mut document.commands {
        let Ok(proof) = inclusion_proof(line.leaf_index, size, &mut nodes);
        line.proof = Some(hexed(proof));
    }
    let (signer, epoch) = (audit.signer(), market.server.server().node().epoch());
    let mut smaller = 0;
    for line in &mut document.checkpoints {
        let TimeText(at) = line.at;
        let signed = signer.checkpoint(
            epoch,
            kept["shard"].as_u64().expect("a number") as u16,
            line.size,
            roots[line.size as usize],
            at,
        );
        (line.root.0, line.sig.0) = (signed.root, signed.signature);
        if smaller > 0 {
            let Ok(proof) = consistency_proof(smaller, line.size, &mut nodes);
            line.consistency = hexed(proof);
        }
        smaller = line.size;
    }
    let claims = &mut document.claims;
    claims["chain"]["to"]["head"] = persistence::checkpoint::hex(&head.expect("commands").hash).into();
    for lot in claims["lots"].as_array_mut().expect("lots") {
        let edited = lot.to_string().replace("880.00", "870.00");
        *lot = serde_json::from_str(&edited).expect("JSON");
    }
    document.sig.0 = signer.sign(claims_text(&document.claims).as_bytes());

    let forged = serde_json::to_value(&document).expect("JSON");
    assert_ne!(forged, export);
    let against = |checkpoints| Against { key: Some(*signer.public()), checkpoints };
    let verified = check_against(&forged, &against(vec![])).expect("by itself it holds");
    assert_eq!(verified.replayed, Replayed::Same { lots: 1, decisions: 4 });
    let wrong = check_against(&forged, &against(vec![outside(&kept)])).expect_err("exposed");
    assert!(wrong.place.starts_with("checkpoints"), "{wrong}");
    assert!(wrong.expected.contains("kept.jsonl line 1"), "{wrong}");
    // The honest export agrees with the kept root.
    let honest = format!("/audit?sizes={}", kept["size"]);
    let honest = market.buyer.get(&market.ids.tender(&honest)).await.expect(200);
    assert_eq!(check_against(&honest, &against(vec![outside(&kept)])).expect("it holds").outside, 1);
    market.server.stop().await;
}

fn program(arguments: &[&str]) -> (Option<i32>, String, String) {
    let output =
        Command::new(env!("CARGO_BIN_EXE_reversetender")).args(arguments).output().expect("the program runs");
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    (output.status.code(), text(&output.stdout), text(&output.stderr))
}

#[tokio::test(flavor = "multi_thread")]
async fn the_program_checks_a_saved_file() {
    let (market, _, root) = closed_english().await;
    let size = root["size"].as_u64().expect("a number");
    let export = market.buyer.get(&market.ids.tender(&format!("/audit?sizes={size}"))).await.expect(200);
    let keys = market.buyer.get("/.well-known/jwks.json").await.expect(200);
    let key =
        keys["keys"].as_array().expect("keys").iter().find(|key| key["kid"] == root["kid"]).expect("published");
    let x = key["x"].as_str().expect("a text");
    market.server.stop().await;
    let dir = tempfile::tempdir().expect("a folder");
    let save = |name: &str, text: String| {
        let path = dir.path().join(name);
        std::fs::write(&path, text).expect("written");
        path.to_str().expect("UTF-8").to_owned()
    };
    // As somebody's tool may write it again: other white space.
    let file = save("tender.json", serde_json::to_string_pretty(&export).expect("JSON"));
    let kept = save("kept.jsonl", format!("{{\"p\":\"hb\",\"lots\":[]}}\n{root}\n"));
    let (code, out, err) = program(&["audit", "verify", &file, "--key", x, "--checkpoints", &kept]);
    assert_eq!(code, Some(0), "{err}");
    let expected =
        ["10 commands", "1 roots that were kept elsewhere agree", "the engine decides the same: 4 decisions"];
    assert!(expected.iter().all(|part| out.contains(part)), "{out}");
    let (code, out, _) = program(&["audit", "verify", &file]);
    assert!(code == Some(0) && out.contains("compare it with one from elsewhere"), "{out}");

    let mut changed = export.clone();
    changed["commands"][6]["leaf_index"] = 1.into();
    let broken = save("broken.json", changed.to_string());
    let (code, _, err) = program(&["audit", "verify", &broken]);
    assert_eq!(code, Some(1));
    assert!(err.contains("commands[6].leaf_index: expected more than") && err.contains("there is 1"), "{err}");
    let mut unreadable = export.clone();
    unreadable["commands"][2]["leaf"] = "xyz".into();
    let broken = save("unreadable.json", unreadable.to_string());
    let (code, _, err) = program(&["audit", "verify", &broken]);
    assert!(code == Some(1) && err.contains("commands[2].leaf"), "{err}");
    let (code, _, err) = program(&["audit", "verify", &file, "--key", &"0".repeat(64)]);
    assert!(code == Some(1) && err.contains("claims.key"), "{err}");

    let nothing = save("nothing.json", "no JSON".into());
    for arguments in [
        &["audit", "verify", &nothing][..],
        &["audit", "verify", "/nowhere.json"],
        &["audit", "verify", &file, "--key", "short"],
        &["audit", "verify", &file, "--checkpoints", &file],
    ] {
        let (code, _, err) = program(arguments);
        assert!(code == Some(2) && err.starts_with("error: "), "{arguments:?}: {err}");
    }
    let (code, out, _) = program(&["audit", "verify", "--help"]);
    let expected = ["Exit status 0", "--key", "--checkpoints", "first thing that does not hold"];
    assert!(code == Some(0) && expected.iter().all(|part| out.contains(part)), "{out}");
    assert!(Path::new(&file).exists());
}
