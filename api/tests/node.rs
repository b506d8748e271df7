//! The node without HTTP: what is answered is durable, a restart gives the same state, deadlines come in time.

#[path = "support/spec.rs"]
mod spec;

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use api::feed::{Hub, LotFeed};
use api::node::{Node, NodeOptions, SubmitError, View, Views, recover};
use engine::{
    AccountAction, Action, Answer, Command, Decimal, Envelope, Format, Key, LotStage, OrganisationId,
    OrganisationKind, Recall, Reply, RequestId, Secret, TenderId, UserId,
};
use persistence::inspect::{Soundness, verify};
use persistence::merkle::is_consistent;
use persistence::{Options, RealDisk};
use spec::{one_lot, rules};

/// Last entry, size and root of each shard's tree.
type Roots = Vec<(u64, u64, [u8; 32])>;

const BUYER: OrganisationId = OrganisationId(1 << 64);
const SUPPLIERS: [OrganisationId; 3] = [OrganisationId(2 << 64), OrganisationId(3 << 64), OrganisationId(4 << 64)];

fn options(dir: &Path) -> NodeOptions {
    NodeOptions {
        shards: 3,
        segment_bytes: 64 << 10,
        snapshot_bytes: u64::MAX,
        ..NodeOptions::new(dir.join("data"), dir.join("keys"))
    }
}

fn start(options: &NodeOptions) -> Node {
    Node::start(options, &Hub::new()).expect("the node starts")
}

fn command(organisation: OrganisationId, request: u128, action: Action) -> Command {
    let key = Some(Key { scoped: request, body: 1 });
    let request = RequestId(request);
    Command { envelope: Envelope { organisation, request, key, ..Envelope::default() }, action, secret: None }
}

async fn submit(
    node: &Node,
    organisation: OrganisationId,
    request: u128,
    action: Action,
) -> Result<Reply, SubmitError> {
    node.submit(node.stamp(), command(organisation, request, action)).await
}

async fn open_tender(node: &Node, id: u128, duration_s: i64) -> TenderId {
    let tender = TenderId::new(id << 32);
    let base = id * 1_000;
    let mut actions = vec![(
        BUYER,
        Action::CreateTender { tender, spec: Box::new(one_lot(rules(Format::English, duration_s))) },
    )];
    for organisation in SUPPLIERS {
        let (adjustments, features) = (Vec::new(), Vec::new());
        actions.push((BUYER, Action::Admit { tender, organisation, adjustments, features, accepted: false }));
    }
    actions.push((BUYER, Action::Publish { tender }));
    actions.push((BUYER, Action::Start { tender }));
    for (number, (organisation, action)) in actions.into_iter().enumerate() {
        let reply = submit(node, organisation, base + number as u128, action).await.expect("taken");
        assert!(matches!(reply.answer, Answer::Tender(_) | Answer::Bidder(_)), "{reply:?}");
    }
    tender
}

fn bid(tender: TenderId, price: i64) -> Action {
    Action::Bid {
        lot: tender.lot(1),
        price: Some(Decimal { mantissa: price, scale: 2 }),
        confirm: true,
        expires_at: None,
        seen_seq: None,
        auto_limit: None,
        all_or_nothing: None,
    }
}

fn person(n: u128) -> Command {
    let organisation = OrganisationId(n << 64);
    let action = AccountAction::Register {
        user: UserId(n),
        organisation,
        organisation_name: format!("Parts {n}"),
        kind: OrganisationKind::Both,
    };
    let mut command = command(OrganisationId(0), 900 + n, Action::Account(action));
    let (email, name) = (format!("p{n}@parts.example"), format!("Person {n}"));
    command.secret = Some(Secret::Person { organisation, email, name, password: "$argon2id$".into() });
    command
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_restart_gives_every_answer_and_the_same_state() {
    let dir = tempfile::tempdir().expect("a folder");
    let mut options = options(dir.path());
    let node = start(&options);
    for n in 1..=4 {
        node.submit(node.stamp(), person(n)).await.expect("taken");
    }
    let tender = open_tender(&node, 7, 3_600).await;
    let mut answered = Vec::new();
    for n in 0..600u128 {
        let supplier = SUPPLIERS[n as usize % 3];
        let reply = submit(&node, supplier, 10_000 + n, bid(tender, 1_000_000 - n as i64)).await.expect("taken");
        let Answer::Bid(_) = reply.answer else { panic!("{reply:?}") };
        answered.push((10_000 + n, reply));
        // The audit has hashed the beginning by the time that the next segment is begun.
        while n == 100 && node.audit_roots().iter().skip(1).all(|(index, ..)| *index < 50) {
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    }
    node.read().await.expect("at the tip");
    let (epoch, before) = (node.epoch().to_owned(), node.state_hashes());
    node.stop();
    assert_eq!(
        submit(&node, SUPPLIERS[0], 1, bid(tender, 1)).await,
        Err(SubmitError::Draining),
        "a node that stopped takes nothing"
    );
    // Its segments state the trees that the audit's thread has left, and its entries give them.
    let mut lines = Vec::new();
    assert_eq!(verify(&RealDisk, &options.data, &mut lines).expect("written"), Soundness::Sound);
    let lines = String::from_utf8(lines).expect("text");
    let last: serde_json::Value = serde_json::from_str(lines.lines().last().expect("a line")).expect("JSON");
    assert!(last["segments"].as_u64() > Some(1) && last["tree_heads"]["unchecked"] == 0, "{last}");
    assert!(last["tree_heads"]["checked"].as_u64() > Some(0), "{last}");
    assert!(last["tree_heads"]["signed_roots"].as_u64() > Some(0), "signed when it ended: {last}");

    // From zero, with snapshots from now on.
    options.snapshot_bytes = 20_000;
    let node = start(&options);
    assert_eq!(node.epoch(), epoch);
    let view = node.read().await.expect("at the tip");
    assert_eq!(
        view.accounts(|accounts| accounts.user_by_email("p3@parts.example").map(|user| user.id)),
        Some(UserId(3))
    );
    for (key, reply) in &answered {
        let recalled = view.recall(tender, Key { scoped: *key, body: 1 });
        let Some(Recall::Reply(recalled)) = recalled else { panic!("an answered bid is gone: {recalled:?}") };
        assert_eq!((&recalled.answer, recalled.at), (&reply.answer, reply.at));
    }
    let replayed = submit(&node, SUPPLIERS[0], 10_000, bid(tender, 1_000_000)).await.expect("taken");
    assert!(replayed.replayed);
    for n in 0..600u128 {
        submit(&node, SUPPLIERS[n as usize % 3], 20_000 + n, bid(tender, 900_000 - n as i64))
            .await
            .expect("taken");
        if n % 200 == 0 {
            tokio::time::sleep(Duration::from_millis(450)).await;
        }
    }
    node.read().await.expect("at the tip");
    let before_snapshot = node.state_hashes();
    assert_ne!(before, before_snapshot);
    node.stop();

    // From a snapshot and the tail: a start only adds the entry that says so.
    let node = start(&options);
    let after = node.state_hashes();
    for ((index_before, _), (index_after, _)) in before_snapshot.iter().zip(&after).skip(1) {
        assert_eq!(index_before + 1, *index_after);
    }
    assert_eq!(before_snapshot[0], after[0], "nothing happened to the accounts");
    node.stop();
    assert!(std::fs::read_dir(options.data.join("snapshots")).is_ok_and(|mut files| files.next().is_some()));
}

/// Restarts from the log alone, and from a snapshot and the log behind it: every tree has grown out of the one before,
/// and what was committed long ago is still read and proved.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_restart_goes_on_with_the_same_trees() {
    let dir = tempfile::tempdir().expect("a folder");
    let mut options = options(dir.path());
    let mut before: Option<(Roots, u64)> = None;
    let mut tender = TenderId::new(7 << 32);
    for round in 0..4u128 {
        let node = start(&options);
        if round == 0 {
            tender = open_tender(&node, 7, 3_600).await;
        }
        for n in 0..60u128 {
            let price = 1_000_000 - (round * 100 + n) as i64;
            let key = 10_000 + round * 1_000 + n;
            submit(&node, SUPPLIERS[n as usize % 3], key, bid(tender, price)).await.expect("taken");
        }
        if round >= 1 {
            // A snapshot is due; what follows is in the log alone.
            tokio::time::sleep(Duration::from_millis(450)).await;
            submit(&node, SUPPLIERS[0], 50_000 + round, bid(tender, 800_000 - round as i64)).await.expect("taken");
        }
        let audit = node.audit(tender).await.expect("at the tip");
        let sealed = audit.seal(tender, true).expect("readable").expect("it has commands");
        let mut reader = sealed.reader;
        let checkpoint = sealed.checkpoint.expect("signed");
        let places = reader.places(&sealed.chain, 0).expect("read");
        assert_eq!(places.len() as u64, sealed.chain.head.count);
        for at in places {
            let record = reader.record(at).expect("sound");
            reader.inclusion(record.header.leaf, &record.leaf_hash, &checkpoint).expect("proved");
        }
        let roots = node.audit_roots();
        if let Some((old, of_tender)) = &before {
            for ((_, old_size, old_root), (_, size, _)) in old.iter().zip(&roots) {
                assert!(old_size <= size);
                if *old_size == *of_tender {
                    assert_eq!(reader.root(*old_size).expect("read"), *old_root);
                    let proof = reader.consistency(*old_size, checkpoint.size).expect("read");
                    let (new_size, new_root) = (checkpoint.size, &checkpoint.root);
                    assert!(is_consistent(*old_size, old_root, new_size, new_root, &proof));
                }
            }
        }
        before = Some((roots, checkpoint.size));
        node.stop();
        options.snapshot_bytes = 4_000;
    }
    assert!(std::fs::read_dir(options.data.join("snapshots")).is_ok_and(|mut files| files.next().is_some()));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_lot_closes_by_itself_and_what_comes_later_is_late() {
    let dir = tempfile::tempdir().expect("a folder");
    let node = start(&options(dir.path()));
    let tender = open_tender(&node, 9, 1).await;
    let mut taken = 0u32;
    let mut number = 0u128;
    let closes_at = node
        .read()
        .await
        .expect("at the tip")
        .lot(tender.lot(1), |_, lot, _| lot.closes_at())
        .flatten()
        .expect("an open lot ends");
    loop {
        number += 1;
        let price = 1_000_000 - number as i64;
        let reply = submit(&node, SUPPLIERS[number as usize % 3], 50_000 + number, bid(tender, price))
            .await
            .expect("taken");
        match reply.answer {
            Answer::Bid(_) => {
                assert!(reply.at < closes_at, "a bid counts before the end only");
                taken += 1;
            }
            Answer::Refused(refused) => {
                assert_eq!(refused.refusal.code(), "lot_closed");
                assert!(reply.at >= closes_at, "nobody is late before the end");
                break;
            }
            other => panic!("{other:?}"),
        }
    }
    assert!(taken > 0);
    let view = node.settle().await.expect("settled");
    let (stage, closed_at) = view
        .lot(tender.lot(1), |_, lot, feed| {
            assert_eq!(feed.seq(), lot.seq, "the window stands where the lot stands");
            (lot.stage, lot.closed_at())
        })
        .expect("the lot is there");
    assert_eq!((stage, closed_at), (LotStage::Closed, Some(closes_at)));
    node.stop();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_replay_gives_the_same_state_whatever_it_keeps_of_the_feeds() {
    const BIDS: u64 = 300;
    let dir = tempfile::tempdir().expect("a folder");
    let options = options(dir.path());
    let node = start(&options);
    let tender = open_tender(&node, 7, 3_600).await;
    for n in 0..BIDS {
        let supplier = SUPPLIERS[n as usize % 3];
        let action = bid(tender, 1_000_000 - n as i64);
        submit(&node, supplier, 10_000 + u128::from(n), action).await.expect("taken");
    }
    node.read().await.expect("at the tip");
    let before = node.state_hashes();
    node.stop();
    drop(node);

    let mut kept = Vec::new();
    for frames in [0, 8 << 10, u64::MAX] {
        let layout = Options { shards: 4, segment_bytes: 64 << 10, ..Options::new(&options.data, &options.keys) };
        let recovery = recover(Arc::new(RealDisk), layout, &Hub::new(), frames).expect("it starts");
        let bytes = recovery.bytes;
        assert!(bytes > BIDS * 100 && bytes < BIDS * 500, "{bytes} bytes of log for {BIDS} bids");
        let machines = recovery.shards.iter().map(|shard| &shard.machine);
        let after: Vec<_> = machines.map(|machine| (machine.index(), machine.state_hash())).collect();
        assert_eq!(after, before);
        let view = View::new(Views::new(recovery.shards));
        let feed = |_: &_, lot: &engine::Lot, feed: &LotFeed| (lot.seq, feed.seq(), feed.steps());
        let (lot, seq, steps) = view.lot(tender.lot(1), feed).expect("it has a feed");
        assert_eq!(lot, seq, "the window ends where the lot stands");
        kept.push((steps as u64, seq));
    }
    let [(none, _), (some, _), (all, seq)] = kept[..] else { panic!("{kept:?}") };
    assert_eq!((none, all), (0, seq));
    assert!(some > 10 && some < BIDS / 2, "{some} of {all} steps lie in the last 8 KiB");
}
