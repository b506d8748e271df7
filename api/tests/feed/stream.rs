//! The streams of lots over real sockets: no hole and nothing twice for any reader, however it comes and goes, and
//! nobody is told what it may not know.

use std::collections::BTreeMap;
use std::time::Duration;

use crate::support::{Client, Person, Server, bid_action, rules};
use api::feed::{BYTES_MAX, FeedOptions, Limits, STEPS_MAX, Timings};
use api::text;
use engine::{Action, AdjustmentSpec, LotId, OrganisationKind, RequestId, TenderId};
use serde_json::{Value, json};

fn lot_text(lot: LotId) -> String {
    text::id(lot.0)
}

async fn supplier(server: &Server, name: &str) -> Person {
    server.sign_up(name, OrganisationKind::Supplier).await
}

/// What a client's program keeps of a lot: the reference client in small.
#[derive(Clone, Debug, Default)]
struct Replica {
    epoch: String,
    seq: u64,
    state: Value,
    you: Option<Value>,
    snaps: usize,
    steps: usize,
}

impl Replica {
    /// Takes a frame; anything but the next step is a hole or a double.
    fn take(&mut self, frame: &Value) {
        match frame["p"].as_str() {
            Some("snap") => {
                self.epoch = frame["epoch"].as_str().expect("an epoch").to_owned();
                self.seq = frame["seq"].as_u64().expect("a seq");
                self.state = frame["state"].clone();
                self.you = frame.get("you").cloned();
                self.snaps += 1;
            }
            Some("upd") => {
                let seq = frame["seq"].as_u64().expect("a seq");
                assert_eq!(seq, self.seq + 1, "a hole or a double: {frame}");
                self.seq = seq;
                for (field, value) in frame["set"].as_object().expect("an object") {
                    self.state[field] = value.clone();
                }
                if let Some(you) = frame.get("you") {
                    self.you = Some(you.clone());
                }
                self.steps += 1;
            }
            Some("you") => {
                assert_eq!(frame["seq"], self.seq, "the own part belongs to the last step: {frame}");
                self.you = Some(frame["you"].clone());
            }
            _ => {}
        }
    }

    fn position(&self, lot: LotId) -> Value {
        json!({ "lot": lot_text(lot), "epoch": self.epoch, "seq": self.seq })
    }

    /// Reads until the replica is at `seq`.
    async fn read_to(&mut self, client: &mut Client, seq: u64) {
        while self.seq < seq {
            self.take(&client.next().await);
        }
    }
}

/// The lot as a fresh reader sees it now.
async fn fresh(server: &Server, person: Option<&Person>, lot: LotId) -> Replica {
    let mut client = server.hello(person).await;
    let mut replica = Replica::default();
    replica.take(&client.sub(lot).await);
    replica
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_reader_goes_on_from_every_position() {
    let server = Server::start_with(FeedOptions { limits: Limits::OFF, ..FeedOptions::default() }).await;
    let buyer = server.sign_up("buyer", OrganisationKind::Buyer).await;
    let (a, b) = (supplier(&server, "a").await, supplier(&server, "b").await);
    let lot = server.opened(&buyer, true, &rules(), &[&a, &b]).await;
    let mut client = server.hello(Some(&a)).await;
    let mut live = Replica::default();
    live.take(&client.sub(lot).await);
    let mut history = vec![live.clone()];
    for bid in 0..24 {
        server.bid(if bid % 2 == 0 { &b } else { &a }, lot, &format!("{}.00", 900 - bid)).await;
        let seq = live.seq + 1;
        live.read_to(&mut client, seq).await;
        history.push(live.clone());
    }
    let last = live.seq;
    for past in &history {
        for person in [Some(&a), Some(&buyer), None] {
            let (mut client, welcome) = server.resume(person, json!([past.position(lot)])).await;
            let sub = &welcome["subs"][0];
            assert_eq!((&sub["recovered"], &sub["seq"]), (&json!(true), &json!(last)), "{welcome}");
            let mut replica = past.clone();
            let mut with_you = Vec::new();
            for _ in past.seq..last {
                let frame = client.next().await;
                with_you.push(frame.get("you").is_some());
                replica.take(&frame);
            }
            assert_eq!(replica.seq, last);
            assert_eq!(replica.snaps, past.snaps, "no snap");
            let own = person.is_some_and(|person| person.organisation == a.organisation);
            if own {
                if with_you.is_empty() {
                    replica.take(&client.push("you").await);
                } else {
                    let (end, before) = with_you.split_last().expect("not empty");
                    assert!(*end && !before.contains(&true), "only the last frame carries the own part");
                }
                assert_eq!(replica.you, live.you);
                assert_eq!(replica.state, live.state);
            } else {
                assert!(!with_you.contains(&true));
            }
            // The same on a socket that is there already.
            let reply = client.ask("sub", past.position(lot)).await;
            assert_eq!(reply["ok"]["recovered"], true);
            let mut replica = past.clone();
            replica.read_to(&mut client, last).await;
            assert_eq!(replica.snaps, past.snaps);
        }
    }
    for (epoch, seq) in [(Some("another"), last), (None, last), (Some(live.epoch.as_str()), last + 1)] {
        let (mut client, welcome) =
            server.resume(Some(&a), json!([{ "lot": lot_text(lot), "epoch": epoch, "seq": seq }])).await;
        assert_eq!(welcome["subs"][0]["recovered"], false, "{epoch:?} {seq}");
        assert_eq!(client.next().await["p"], "snap");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn readers_that_come_and_go_while_bids_run_miss_nothing() {
    let server = Server::start_with(FeedOptions { limits: Limits::OFF, ..FeedOptions::default() }).await;
    let buyer = server.sign_up("buyer", OrganisationKind::Buyer).await;
    let bidders = [supplier(&server, "a").await, supplier(&server, "b").await, supplier(&server, "c").await];
    let lot = server.opened(&buyer, true, &rules(), &bidders.each_ref()).await;
    const BIDS: u64 = 240;
    let last = 2 + BIDS;
    let readers: Vec<_> = [Some(bidders[0].clone()), Some(bidders[1].clone()), Some(buyer.clone()), None]
        .into_iter()
        .enumerate()
        .map(|(number, person)| {
            let server = server.handle();
            tokio::spawn(async move {
                let mut replica = Replica::default();
                let mut rounds = 0;
                while replica.seq < last {
                    let position =
                        if rounds == 0 { json!({ "lot": lot_text(lot) }) } else { replica.position(lot) };
                    let (mut client, welcome) = server.resume(person.as_ref(), json!([position])).await;
                    if rounds > 0 {
                        assert_eq!(welcome["subs"][0]["recovered"], true);
                    }
                    rounds += 1;
                    // Leaves in the middle, each reader after another number of steps.
                    let until = replica.seq.max(1) + 3 + number as u64 * 4;
                    replica.read_to(&mut client, until.min(last)).await;
                }
                assert_eq!(replica.snaps, 1);
                (replica, rounds)
            })
        })
        .collect();
    for bid in 0..BIDS {
        server.bid(&bidders[bid as usize % 3], lot, &format!("{}.00", 900 - bid)).await;
    }
    for (reader, person) in readers.into_iter().zip([Some(&bidders[0]), Some(&bidders[1]), Some(&buyer), None]) {
        let (replica, rounds) = reader.await.expect("no hole, nothing twice");
        let now = fresh(&server, person, lot).await;
        assert_eq!(replica.state, now.state, "after {rounds} connections");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_first_own_bid_shows_the_lead_where_the_rules_say_so() {
    let server = Server::start().await;
    let buyer = server.sign_up("buyer", OrganisationKind::Buyer).await;
    let (a, b) = (supplier(&server, "a").await, supplier(&server, "b").await);
    let mut rules = rules();
    rules["visibility"] = json!({ "lead": "after_own_bid" });
    let lot = server.opened(&buyer, false, &rules, &[&a, &b]).await;
    server.bid(&a, lot, "900.00").await;
    let mut client = server.hello(Some(&b)).await;
    let snap = client.sub(lot).await;
    assert!(snap["state"].get("lead").is_none());
    let mut replica = Replica::default();
    replica.take(&snap);
    server.bid(&a, lot, "890.00").await;
    let step = client.push("upd").await;
    assert!(step["set"].get("lead").is_none() && step["ev"][0].get("price").is_none(), "{step}");
    replica.take(&step);
    let reply = client.place(lot, "c", "950.00").await;
    assert_eq!(reply["ok"]["seq"], 5);
    let own = client.next().await;
    assert_eq!((&own["p"], &own["seq"]), (&json!("upd"), &json!(5)), "{own}");
    assert_eq!(own["ev"][0]["price"], "950.00");
    assert_eq!(own["set"]["lead"]["price"], "890.00", "what it may see from now on comes with the step");
    assert_eq!(own["you"]["standing"], "950.00");
    server.bid(&a, lot, "880.00").await;
    assert_eq!(client.push("upd").await["set"]["lead"]["price"], "880.00");
    // Whoever comes back goes on from there, and is not told of before what it could not see then.
    let mut position = replica.position(lot);
    let (mut client, welcome) = server.resume(Some(&b), json!([position])).await;
    assert_eq!(welcome["subs"][0]["recovered"], true);
    assert_eq!(client.next().await["set"]["lead"]["price"], "890.00");
    position["seq"] = json!(3);
    let (mut client, welcome) = server.resume(Some(&b), json!([position])).await;
    assert_eq!(welcome["subs"][0]["recovered"], false);
    assert_eq!(client.next().await["state"]["lead"]["price"], "880.00");
    // A voided bid takes the lead from sight: that can't be told as a step.
    let bid = reply["ok"]["bid"].as_str().expect("an id").to_owned();
    let bid = RequestId(text::parse_id(&bid).expect("an id"));
    server.act(&buyer, Action::Void { lot, bid, reason: Some("typing error".into()) }).await;
    assert_eq!(client.push("resync").await["why"], "sight");
    assert!(client.push("snap").await["state"].get("lead").is_none());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_anonymous_tender_opens_and_closes_in_steps() {
    let server = Server::start().await;
    let buyer = server.sign_up("buyer", OrganisationKind::Buyer).await;
    let (a, b) = (supplier(&server, "a").await, supplier(&server, "b").await);
    let tender = TenderId::new(0x5eed);
    let body = json!({
        "title": "Front bumper", "currency": "SAR", "anonymous_to_buyer": true,
        "lots": [{ "title": "Bumper", "rules": rules() }],
    });
    let spec = api::body::TenderBody::parse(body.to_string().as_bytes()).expect("valid").to_spec();
    server.act(&buyer, Action::CreateTender { tender, spec: Box::new(spec) }).await;
    for (bidder, factor) in [(&a, "1"), (&b, "0.5")] {
        let adjustments = vec![AdjustmentSpec { lot: 1, factor: Some(factor.into()), addend: None }];
        let organisation = bidder.organisation;
        let admit = Action::Admit { tender, organisation, adjustments, features: vec![], accepted: false };
        server.act(&buyer, admit).await;
    }
    server.act(&buyer, Action::Publish { tender }).await;
    let lot = tender.lot(1);
    let (mut clients, mut epoch) = (Vec::new(), Value::Null);
    for person in [&buyer, &a] {
        let mut client = server.hello(Some(person)).await;
        let snap = client.sub(lot).await;
        assert_eq!(snap["seq"], 1);
        epoch = snap["epoch"].clone();
        clients.push(client);
    }
    server.act(&buyer, Action::Start { tender }).await;
    server.bid(&a, lot, "900.00").await;
    server.bid(&b, lot, "800.00").await;
    for (client, names) in clients.iter_mut().zip([true, false]) {
        let mut told = Vec::new();
        while told.len() < 3 {
            let frame = client.next().await;
            assert!(frame["p"] != "resync" && frame["p"] != "snap", "{frame}");
            if frame["p"] == "upd" {
                told.push(frame);
            }
        }
        assert_eq!(told[0]["ev"][0]["type"], "opened");
        assert_eq!(told[2]["ev"][0].get("bidder").is_some(), names, "{}", told[2]);
    }
    server.act(&buyer, Action::Cancel { tender, reason: Some("budget".into()) }).await;
    let end = clients[0].push("upd").await;
    assert_eq!(end["ev"][0]["type"], "cancelled");
    let board = end["set"]["board"].as_array().expect("whose factor is whose is told with the end");
    assert_eq!(board[0]["effective"], "400.00", "{end}");
    // Whoever comes back is told the steps of before as they were seen then.
    let position = json!([{ "lot": lot_text(lot), "epoch": epoch, "seq": 1 }]);
    let (mut client, welcome) = server.resume(Some(&buyer), position).await;
    assert_eq!(welcome["subs"][0]["recovered"], true, "{welcome}");
    assert_eq!(client.push("upd").await["ev"][0]["type"], "opened");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_step_is_serialised_for_audiences_and_not_for_sockets() {
    let server = Server::start_with(FeedOptions { limits: Limits::OFF, ..FeedOptions::default() }).await;
    let buyer = server.sign_up("buyer", OrganisationKind::Buyer).await;
    let (a, b) = (supplier(&server, "a").await, supplier(&server, "b").await);
    let lot = server.opened(&buyer, true, &rules(), &[&a, &b]).await;
    let mut clients = Vec::new();
    for person in [Some(&a), Some(&b), Some(&buyer), None] {
        for _ in 0..8 {
            let mut client = server.hello(person).await;
            client.sub(lot).await;
            clients.push(client);
        }
    }
    let before = server.feed.hub().serialisations();
    for bid in 0..5 {
        server.bid(&a, lot, &format!("{}.00", 900 - bid)).await;
    }
    for client in &mut clients {
        client.until(|frame| frame["p"] == "upd" && frame["seq"] == 7).await;
    }
    let made = server.feed.hub().serialisations() - before;
    assert_eq!(made, 5 * 3, "the buyer, everybody who sees the lead, and the bidder itself");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_admission_reaches_the_socket_without_a_step() {
    let server = Server::start().await;
    let buyer = server.sign_up("buyer", OrganisationKind::Buyer).await;
    let a = supplier(&server, "a").await;
    let mut rules = rules();
    rules["min_bidders"] = json!(0);
    let lot = server.opened(&buyer, true, &rules, &[]).await;
    let mut client = server.hello(Some(&a)).await;
    assert!(client.sub(lot).await.get("you").is_none(), "an observer so far");
    server.admit(&buyer, lot.tender(), &a).await;
    assert_eq!(client.push("resync").await["lot"], lot_text(lot));
    let snap = client.push("snap").await;
    assert_eq!((&snap["you"]["number"], &snap["you"]["max_next"]), (&json!(1), &json!("1000.00")));
    assert_eq!(snap["seq"], 2, "nothing happened that others see");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_bidder_may_do_reaches_it_without_a_step() {
    let server = Server::start().await;
    let buyer = server.sign_up("buyer", OrganisationKind::Buyer).await;
    let a = supplier(&server, "a").await;
    let tender = engine::TenderId::new(1 << 100);
    let body = json!({
        "title": "T", "currency": "SAR", "terms": "Pay in 30 days.", "access": "invited",
        "lots": [{ "title": "L", "rules": { "format": "english", "duration_s": 600, "ceiling": "10.00", "min_bidders": 0 } }],
    });
    let spec = api::body::TenderBody::parse(body.to_string().as_bytes()).expect("valid").to_spec();
    server.act(&buyer, Action::CreateTender { tender, spec: Box::new(spec) }).await;
    server.admit(&buyer, tender, &a).await;
    let lot = tender.lot(1);
    let mut watching = server.hello(Some(&buyer)).await;
    let draft = watching.sub(lot).await;
    assert_eq!(
        (&draft["seq"], &draft["state"]["stage"]),
        (&json!(0), &json!("pending")),
        "a buyer sees its draft"
    );
    let changed = json!({
        "title": "T", "currency": "SAR", "terms": "Pay in 30 days.", "access": "invited",
        "lots": [{ "title": "Another title", "rules": { "format": "english", "duration_s": 600, "ceiling": "10.00", "min_bidders": 0 } }],
    });
    let spec = api::body::TenderBody::parse(changed.to_string().as_bytes()).expect("valid").to_spec();
    server.act(&buyer, Action::UpdateTender { tender, spec: Box::new(spec), version: 1 }).await;
    watching.push("resync").await;
    let draft = watching.push("snap").await;
    assert_eq!((&draft["seq"], &draft["state"]["title"]), (&json!(0), &json!("Another title")));
    server.act(&buyer, Action::Publish { tender }).await;
    server.act(&buyer, Action::Start { tender }).await;
    let mut client = server.hello(Some(&a)).await;
    assert_eq!(client.sub(lot).await["you"]["max_next"], Value::Null, "the terms are not accepted yet");
    server.act(&a, Action::Join { tender }).await;
    let you = client.push("you").await;
    assert_eq!((&you["you"]["max_next"], &you["lot"]), (&json!("10.00"), &json!(lot_text(lot))));
    let mut replica = Replica::default();
    replica.take(&draft);
    let seq = you["seq"].as_u64().expect("a seq");
    replica.read_to(&mut watching, seq).await;
    assert_eq!(replica.state["stage"], "open");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn many_lots_on_one_socket_keep_their_own_order() {
    let server = Server::start().await;
    let buyer = server.sign_up("buyer", OrganisationKind::Buyer).await;
    let a = supplier(&server, "a").await;
    let mut lots = Vec::new();
    for _ in 0..6 {
        lots.push(server.opened(&buyer, false, &rules(), &[&a]).await);
    }
    let mut client = server.hello(Some(&a)).await;
    let mut replicas = BTreeMap::new();
    for lot in &lots {
        let mut replica = Replica::default();
        replica.take(&client.sub(*lot).await);
        replicas.insert(lot_text(*lot), replica);
    }
    for bid in 0..20 {
        let all = lots
            .iter()
            .map(|lot| server.submit(Server::envelope(&a), bid_action(*lot, &format!("{}", 900 - bid)), None));
        futures_util::future::join_all(all).await;
    }
    while replicas.values().any(|replica| replica.seq < 22) {
        let frame = client.next().await;
        if let Some(replica) = frame["lot"].as_str().and_then(|lot| replicas.get_mut(lot)) {
            replica.take(&frame);
        }
    }
    assert!(replicas.values().all(|replica| replica.snaps == 1 && replica.steps == 20));
    // One is enough: the others are silent from then on.
    for lot in &lots[1..] {
        assert!(client.ask("unsub", json!({ "lot": lot_text(*lot) })).await.get("ok").is_some());
    }
    server.bid(&a, lots[1], "100.00").await;
    server.bid(&a, lots[0], "100.00").await;
    assert_eq!(client.push("upd").await["lot"], lot_text(lots[0]));
}

/// A lot with a board of `count` bidders, which makes its frames large.
async fn crowded(server: &Server, count: usize) -> (LotId, Vec<Person>) {
    let buyer = server.sign_up("buyer", OrganisationKind::Buyer).await;
    let mut bidders = Vec::new();
    for number in 0..count {
        bidders.push(supplier(server, &format!("b{number}")).await);
    }
    let mut rules = rules();
    rules["visibility"] = json!({ "board": true });
    rules["guard_percent"] = Value::Null;
    let lot = server.opened(&buyer, true, &rules, &bidders.iter().collect::<Vec<_>>()).await;
    (lot, bidders)
}

/// `rounds` bids of every bidder.
async fn burst(server: &Server, lot: LotId, bidders: &[Person], from: u64, rounds: u64) {
    for round in 0..rounds {
        let units = from - round;
        let price = format!("{}.{:02}", units / 100, units % 100);
        let all =
            bidders.iter().map(|bidder| server.submit(Server::envelope(bidder), bid_action(lot, &price), None));
        futures_util::future::join_all(all).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_falls_off_the_window_gets_the_present_and_costs_nothing() {
    let server = Server::start_with(FeedOptions { limits: Limits::OFF, ..FeedOptions::default() }).await;
    let (lot, bidders) = crowded(&server, 40).await;
    burst(&server, lot, &bidders, 99_999, 1).await;
    let mut stalled = Vec::new();
    for _ in 0..4 {
        let mut client = server.hello(Some(&bidders[0])).await;
        let mut replica = Replica::default();
        replica.take(&client.sub(lot).await);
        stalled.push((client, replica));
    }
    // Nobody of them reads: about ten megabytes of frames, far more than the buffers between hold.
    burst(&server, lot, &bidders, 90_000, 100).await;
    let last = server.caught_up().await.lot(lot, |_, lot, feed| {
        assert!(feed.steps() <= STEPS_MAX);
        lot.seq
    });
    assert!(server.feed.hub().windows_bytes() <= BYTES_MAX, "the windows hold it once, whoever reads");
    for (mut client, mut replica) in stalled {
        let seen = replica.seq;
        let mut resyncs = 0;
        while Some(replica.seq) < last {
            let frame = client.next().await;
            resyncs += usize::from(frame["p"] == "resync");
            replica.take(&frame);
        }
        assert!(resyncs >= 1, "it was told that it lost steps");
        assert_eq!(replica.snaps, 1 + resyncs, "every resync is followed by a snap");
        assert!(replica.steps < (replica.seq - seen) as usize);
        assert_eq!(replica.state, fresh(&server, Some(&bidders[0]), lot).await.state);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_blocked_write_ends_the_socket_and_delays_nobody() {
    let timings = Timings { write: Duration::from_secs(2), ..Timings::default() };
    let server = Server::start_timed(timings).await;
    let (lot, bidders) = crowded(&server, 40).await;
    let mut stalled = server.hello(Some(&bidders[0])).await;
    stalled.sub(lot).await;
    let mut reading = server.hello(Some(&bidders[1])).await;
    let mut replica = Replica::default();
    replica.take(&reading.sub(lot).await);
    let last = replica.seq + 40 * 100;
    let reader = tokio::spawn(async move {
        replica.read_to(&mut reading, last).await;
        (reading, replica)
    });
    burst(&server, lot, &bidders, 90_000, 100).await;
    let (_reading, replica) = reader.await.expect("no hole");
    assert_eq!(replica.seq, last);
    while server.feed.hub().connections() > 1 {
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    let code = stalled.closed().await;
    assert!(matches!(code, Some(4102) | None), "{code:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_observer_that_is_behind_is_given_the_present() {
    // With no patience at all every step comes too late for an observer; bidders and buyer get every one.
    let timings = Timings { observer_behind: Duration::ZERO, ..Timings::default() };
    let server = Server::start_timed(timings).await;
    let buyer = server.sign_up("buyer", OrganisationKind::Buyer).await;
    let a = supplier(&server, "a").await;
    let lot = server.opened(&buyer, true, &rules(), &[&a]).await;
    let mut observer = server.hello(None).await;
    let mut bidder = server.hello(Some(&a)).await;
    let mut watching = server.hello(Some(&buyer)).await;
    let position = observer.sub(lot).await;
    bidder.sub(lot).await;
    watching.sub(lot).await;
    server.bid(&a, lot, "900.00").await;
    let resync = observer.push("resync").await;
    assert_eq!(resync["lot"], lot_text(lot));
    assert_eq!(observer.push("snap").await["seq"], 3);
    assert_eq!(bidder.push("upd").await["seq"], 3);
    assert_eq!(watching.push("upd").await["seq"], 3);
    // Coming back is not being slow.
    let (mut back, welcome) =
        server.resume(None, json!([{ "lot": lot_text(lot), "epoch": position["epoch"], "seq": 2 }])).await;
    assert_eq!(welcome["subs"][0]["recovered"], true);
    assert_eq!(back.push("upd").await["seq"], 3);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn readers_come_back_after_a_restart() {
    let server = Server::start().await;
    let buyer = server.sign_up("buyer", OrganisationKind::Buyer).await;
    let a = supplier(&server, "a").await;
    let lot = server.opened(&buyer, true, &rules(), &[&a]).await;
    let mut client = server.hello(Some(&a)).await;
    let mut replica = Replica::default();
    replica.take(&client.sub(lot).await);
    let placed = client.place(lot, "k1", "900.00").await;
    let middle = {
        let mut replica = replica.clone();
        replica.read_to(&mut client, 3).await;
        replica
    };
    server.bid(&a, lot, "890.00").await;
    let server = server.restart().await;
    for past in [&replica, &middle] {
        let (mut client, welcome) = server.resume(Some(&a), json!([past.position(lot)])).await;
        assert_eq!(welcome["subs"][0]["recovered"], true, "{welcome}");
        let mut replica = past.clone();
        replica.read_to(&mut client, 4).await;
        assert_eq!(replica.you.as_ref().expect("a bidder")["standing"], "890.00");
        let again = client.place(lot, "k1", "900.00").await;
        assert_eq!((&again["ok"]["dup"], &again["ok"]["bid"]), (&json!(true), &placed["ok"]["bid"]));
        let query = client.ask("bid.query", json!({ "lot": lot_text(lot), "cid": "k1" })).await;
        assert_eq!(query["ok"]["seq"], placed["ok"]["seq"]);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_first_own_bid_after_a_restart_is_a_step_that_tells_the_lead() {
    let server = Server::start().await;
    let buyer = server.sign_up("buyer", OrganisationKind::Buyer).await;
    let (a, b) = (supplier(&server, "a").await, supplier(&server, "b").await);
    let mut rules = rules();
    rules["visibility"] = json!({ "lead": "after_own_bid", "board": false, "rank": false, "bidder_count": false });
    let lot = server.opened(&buyer, true, &rules, &[&a, &b]).await;
    server.bid(&a, lot, "900.00").await;
    // What the lot's window knows of who has bid is only what the log gave back.
    let server = server.restart().await;
    let mut client = server.hello(Some(&b)).await;
    let snap = client.sub(lot).await;
    assert!(snap["state"].get("lead").is_none(), "it has not bid yet: {snap}");
    server.bid(&b, lot, "950.00").await;
    let frames = client.until(|frame| frame["p"] == "upd").await;
    assert!(frames.iter().all(|frame| frame["p"] != "resync" && frame["p"] != "snap"), "{frames:?}");
    let step = frames.last().expect("the step");
    assert_eq!(step["seq"].as_u64(), snap["seq"].as_u64().map(|seq| seq + 1));
    assert_eq!(step["set"]["lead"], json!({ "price": "900.00" }), "what it sees from now on is told: {step}");
    assert_eq!(step["you"]["standing"], "950.00");
}

/// Everything in `part` is in `whole` with the same value.
fn contained(part: &Value, whole: &Value, path: &str) {
    match (part, whole) {
        (Value::Object(part), Value::Object(whole)) => {
            for (field, value) in part {
                let there = whole.get(field).unwrap_or_else(|| panic!("{path}/{field} is told to one only"));
                contained(value, there, &format!("{path}/{field}"));
            }
        }
        (Value::Array(part), Value::Array(whole)) => {
            assert_eq!(part.len(), whole.len(), "{path}");
            for (index, (part, whole)) in part.iter().zip(whole).enumerate() {
                contained(part, whole, &format!("{path}/{index}"));
            }
        }
        _ => assert_eq!(part, whole, "{path}"),
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_streams_differ_only_in_what_one_may_not_see() {
    let server = Server::start_with(FeedOptions { limits: Limits::OFF, ..FeedOptions::default() }).await;
    let buyer = server.sign_up("buyer", OrganisationKind::Buyer).await;
    let mut people = Vec::new();
    for name in ["leader", "other", "silent", "stranger"] {
        people.push(supplier(&server, name).await);
    }
    for (lead, board, public) in
        [("always", true, true), ("always", false, true), ("never", false, true), ("after_own_bid", false, false)]
    {
        let mut rules = rules();
        rules["visibility"] = json!({ "lead": lead, "board": board, "rank": board, "bidder_count": board });
        let lot = server.opened(&buyer, public, &rules, &[&people[0], &people[1], &people[2]]).await;
        let readers = [Some(&buyer), Some(&people[0]), Some(&people[1]), Some(&people[2]), Some(&people[3]), None];
        let mut clients = Vec::new();
        for person in readers {
            let mut client = server.hello(person).await;
            let reply = client.ask("sub", json!({ "lot": lot_text(lot) })).await;
            let visible = public || person.is_some_and(|person| person.organisation != people[3].organisation);
            assert_eq!(reply.get("ok").is_some(), visible, "{lead} {public}: {reply}");
            if visible {
                client.push("snap").await;
                clients.push((person, client));
            }
        }
        for (bidder, price) in [(0, "900"), (1, "950"), (1, "940"), (0, "890")] {
            server.bid(&people[bidder], lot, price).await;
        }
        server.act(&buyer, Action::Cancel { tender: lot.tender(), reason: Some("budget".into()) }).await;
        let last = 2 + 4 + 1;
        let mut streams = Vec::new();
        for (person, mut client) in clients {
            let mut stream = BTreeMap::new();
            loop {
                let frame = client.next().await;
                let Some(seq) = frame["seq"].as_u64() else { continue };
                let name =
                    |index: usize| person.is_some_and(|person| person.organisation == people[index].organisation);
                match frame["p"].as_str() {
                    Some("upd") => {
                        let you = frame.get("you");
                        assert!(you.is_none() || name(0) || name(1) || name(2), "{frame}");
                        if let Some(you) = you {
                            assert_eq!(you.get("rank").is_some(), board, "{frame}");
                        }
                        let mut public = frame.clone();
                        public.as_object_mut().expect("an object").remove("you");
                        assert!(stream.insert(seq, public).is_none(), "{frame}");
                    }
                    Some("snap") => {
                        assert!(lead == "after_own_bid" && (name(0) || name(1)), "only a first bid changes sight");
                        stream.insert(seq, Value::Null);
                    }
                    _ => {}
                }
                if seq == last && frame["p"] == "upd" {
                    break;
                }
            }
            // A snap stands for the steps before it too, when several came before it was written.
            for seq in 3..=last {
                let (_, frame) = stream.range(seq..).next().expect("the last step came");
                assert!(stream.contains_key(&seq) || frame.is_null(), "same steps for all: {seq} is missing");
            }
            streams.push(stream);
        }
        let (widest, others) = streams.split_first().expect("the buyer reads");
        for stream in others {
            for (seq, frame) in stream {
                let mut frame = frame.clone();
                let known = widest[seq]["set"].get("lead").is_some();
                if let (false, Some(told)) = (known, frame.pointer("/set/lead").cloned()) {
                    // With its first bid a bidder is told the lead that the buyer has known for longer.
                    assert_eq!(lead, "after_own_bid", "{frame}");
                    let before = widest.range(..seq).rev().find_map(|(_, frame)| frame["set"].get("lead"));
                    contained(&told, before.expect("somebody leads"), "/set/lead");
                    frame["set"].as_object_mut().expect("an object").remove("lead");
                }
                if !frame.is_null() {
                    contained(&frame, &widest[seq], "");
                }
            }
        }
        // A price that nobody but the buyer and its bidder may know is in no other stream at all.
        if lead == "never" {
            let prices = [["900.00", "890.00"], ["950.00", "940.00"]];
            for (reader, stream) in others.iter().enumerate() {
                let text = json!(stream.values().collect::<Vec<_>>()).to_string();
                for (bidder, prices) in prices.iter().enumerate() {
                    for price in prices {
                        assert_eq!(text.contains(price), reader == bidder, "{reader} reads: {text}");
                    }
                }
            }
        }
    }
}
