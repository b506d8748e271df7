//! Signed roots on the feed: what every reader of a lot is given, so that nobody can change the log later without it.

use std::time::Duration;

use api::text;
use engine::{Action, OrganisationKind};
use futures_util::SinkExt as _;
use persistence::checkpoint::{Checkpoint, unhex};
use serde_json::{Value, json};
use tokio_tungstenite::tungstenite::Message;

use crate::support::{Server, rules};

/// The root in a push, read as the contract and persistence/docs/audit.md say.
fn read(push: &Value) -> Checkpoint {
    let bytes = |field: &str| unhex(push[field].as_str().expect("a text")).expect("hexadecimal");
    Checkpoint {
        shard: push["shard"].as_u64().expect("a number") as u16,
        size: push["size"].as_u64().expect("a number"),
        root: bytes("root").try_into().expect("32 bytes"),
        at: text::parse_time(push["at"].as_str().expect("a time")).expect("a time"),
        signature: bytes("sig").try_into().expect("64 bytes"),
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_lot_that_ends_is_followed_by_the_signed_root_that_covers_it() {
    let server = Server::start().await;
    let buyer = server.sign_up("buyer", OrganisationKind::Buyer).await;
    let bidder = server.sign_up("a", OrganisationKind::Supplier).await;
    let lot = server.opened(&buyer, true, &rules(), &[&bidder]).await;
    let (mut own, mut anonymous) = (server.hello(Some(&bidder)).await, server.hello(None).await);
    own.sub(lot).await;
    anonymous.sub(lot).await;
    assert_eq!(own.place(lot, "one", "900.00").await["ok"]["status"], "accepted");
    server.act(&buyer, Action::Cancel { tender: lot.tender(), reason: Some("no need".into()) }).await;

    let (kid, key) = server.node.audit_key();
    let mut roots = Vec::new();
    for client in [&mut own, &mut anonymous] {
        let push = client.root().await;
        assert_eq!(push["epoch"], server.node.epoch());
        assert_eq!(push["kid"], kid.as_str());
        let root = read(&push);
        assert_eq!(root.shard, server.node.shard_of_tender(lot.tender()));
        assert!(root.is_signed_by(&key, server.node.epoch()), "{push}");
        roots.push(root);
    }
    assert_eq!(roots[0], roots[1], "everybody is given the same root");

    // It covers everything up to the end of the lot, and the node can prove it.
    let audit = server.node.audit(lot.tender()).await.expect("at the tip");
    let sealed = audit.seal(lot.tender(), false).expect("readable").expect("it has commands");
    let mut reader = sealed.reader;
    assert_eq!(reader.root(roots[0].size).expect("read"), roots[0].root);
    let places = reader.places(&sealed.chain, 0).expect("read");
    let last = reader.record(*places.last().expect("some")).expect("sound");
    assert!(matches!(last.command.action, Action::Cancel { .. }));
    assert!(last.header.leaf < roots[0].size);
    reader.inclusion(last.header.leaf, &last.leaf_hash, &roots[0]).expect("proved");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_root_waits_while_a_lot_hides_that_anything_was_sent() {
    let server = Server::start().await;
    let buyer = server.sign_up("buyer", OrganisationKind::Buyer).await;
    let (bidder, rival) = (
        server.sign_up("a", OrganisationKind::Supplier).await,
        server.sign_up("b", OrganisationKind::Supplier).await,
    );
    let sealed = json!({ "format": "sealed", "duration_s": 600, "ceiling": "1000.00" });
    let lot = server.opened(&buyer, true, &sealed, &[&bidder, &rival]).await;
    let (mut own, mut other) = (server.hello(Some(&bidder)).await, server.hello(Some(&rival)).await);
    own.sub(lot).await;
    other.sub(lot).await;
    assert_eq!(own.place(lot, "one", "900.00").await["ok"]["status"], "accepted");
    // A root that covers the bid is signed now; its size would tell of it.
    let audit = server.node.audit(lot.tender()).await.expect("at the tip");
    let early = audit.sign(server.node.shard_of_tender(lot.tender()));
    // Both sockets have something to do meanwhile, and would send what is there.
    for client in [&mut own, &mut other] {
        let asked = json!({ "id": 90, "op": "time" }).to_string();
        client.socket.send(Message::text(asked)).await.expect("sent");
    }
    tokio::time::sleep(Duration::from_millis(300)).await;
    server.act(&buyer, Action::Cancel { tender: lot.tender(), reason: Some("no need".into()) }).await;
    for client in [&mut own, &mut other] {
        let root = read(&client.root().await);
        assert!(root.size > early.size, "the first root that is told covers the end: {root:?} {early:?}");
    }
}
