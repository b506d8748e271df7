//! One organisation's key can't be made or read: its secret parts are refused and nobody else's, the log says which file
//! and what to do, and it heals when the key can be used.

mod process;
mod support;

use std::path::{Path, PathBuf};
use std::time::Duration;

use api::feed::Hub;
use api::node::{BootError, Node, NodeOptions, SubmitError};
use engine::{
    Action, Answer, Command, Decimal, Envelope, Format, Key, OrganisationId, Refusal, Reply, RequestId, RulesSpec,
    TenderId,
};
use futures_util::future::join_all;
use process::{Process, sign_up};
use serde_json::json;
use support::spec::{one_lot, rules};
use support::{PASSWORD, create_tender, eventually};

const BUYER: OrganisationId = OrganisationId(1 << 64);
/// The one whose key is damaged, and one whose key is sound.
const HURT: OrganisationId = OrganisationId(2 << 64);
const SOUND: OrganisationId = OrganisationId(3 << 64);

fn options(dir: &Path) -> NodeOptions {
    NodeOptions {
        shards: 1,
        segment_bytes: 64 << 10,
        snapshot_bytes: u64::MAX,
        ..NodeOptions::new(dir.join("data"), dir.join("keys"))
    }
}

fn start(options: &NodeOptions) -> Result<Node, BootError> {
    Node::start(options, &Hub::new())
}

fn key_file(options: &NodeOptions, organisation: OrganisationId) -> PathBuf {
    let name = uuid::Uuid::from_u128(organisation.0);
    options.keys.join("org").join(format!("{name}.key"))
}

async fn submit(
    node: &Node,
    organisation: OrganisationId,
    request: u128,
    action: Action,
) -> Result<Reply, SubmitError> {
    let key = Some(Key { scoped: request, body: 1 });
    let envelope = Envelope { organisation, request: RequestId(request), key, ..Envelope::default() };
    node.submit(node.stamp(), Command { envelope, action, secret: None }).await
}

async fn open_tender(node: &Node) -> TenderId {
    let tender = TenderId::new(7 << 32);
    let spec = one_lot(RulesSpec { auto_bid: true, ..rules(Format::English, 3_600) });
    let admit = |organisation| {
        let (adjustments, features) = (Vec::new(), Vec::new());
        Action::Admit { tender, organisation, adjustments, features, accepted: false }
    };
    let actions = [
        Action::CreateTender { tender, spec: Box::new(spec) },
        admit(HURT),
        admit(SOUND),
        Action::Publish { tender },
        Action::Start { tender },
    ];
    for (number, action) in actions.into_iter().enumerate() {
        let reply = submit(node, BUYER, 1 + number as u128, action).await.expect("taken");
        assert!(!matches!(reply.answer, Answer::Refused(_)), "{reply:?}");
    }
    tender
}

fn limit(tender: TenderId, mantissa: i64) -> Action {
    Action::AutoBid { lot: tender.lot(1), limit: Some(Decimal { mantissa, scale: 2 }) }
}

fn bid(tender: TenderId, mantissa: i64) -> Action {
    Action::Bid {
        lot: tender.lot(1),
        price: Some(Decimal { mantissa, scale: 2 }),
        confirm: true,
        expires_at: None,
        seen_seq: None,
        auto_limit: None,
        all_or_nothing: None,
    }
}

/// Sends to `node`, all at once, limits of both and open bids of the damaged one; answers how many of its limits were
/// taken. All else must be.
async fn send_all(node: &Node, tender: TenderId, round: u128) -> usize {
    let sent = (0..60u128).map(|n| async move {
        let (request, price) = (round * 1_000 + n, 900_000 - (round * 1_000 + n) as i64);
        let (organisation, action) = match n % 3 {
            0 => (HURT, limit(tender, price)),
            1 => (SOUND, limit(tender, price)),
            _ => (HURT, bid(tender, price)),
        };
        (n, submit(node, organisation, request, action).await)
    });
    let mut taken = 0;
    for (n, answer) in join_all(sent).await {
        match answer {
            Err(SubmitError::Unsealable) => assert_eq!(n % 3, 0, "only what must be sealed under the damaged key"),
            Ok(reply) => {
                // A bid that another of the round has undercut is decided all the same.
                let refused = matches!(&reply.answer, Answer::Refused(why) if why.refusal != Refusal::NotImproved);
                assert!(!refused && !matches!(reply.answer, Answer::Internal), "command {n}: {reply:?}");
                taken += usize::from(n % 3 == 0);
            }
            Err(error) => panic!("command {n}: {error}"),
        }
    }
    taken
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_damaged_key_stops_its_organisation_and_nobody_else() {
    let dir = tempfile::tempdir().expect("a folder");
    let options = options(dir.path());
    let node = start(&options).expect("it starts");
    let tender = open_tender(&node).await;
    // Not one that the node could have made: it finds the file when the first secret part comes.
    std::fs::write(key_file(&options, HURT), b"RTORGKY1 and then nothing that is a key").expect("written");
    for round in 1..=4 {
        assert_eq!(send_all(&node, tender, round).await, 0, "round {round}");
    }
    assert!(!node.read_only(), "the disk has room");
    node.stop();

    // The key is still damaged at the next start, which needs nothing of it.
    let node = start(&options).expect("it starts");
    assert_eq!(send_all(&node, tender, 5).await, 0);
    // It heals by itself: here the operator takes away what never was a key.
    std::fs::remove_file(key_file(&options, HURT)).expect("removed");
    tokio::time::sleep(Duration::from_millis(1_100)).await;
    assert_eq!(send_all(&node, tender, 6).await, 20, "all of its limits");
    // What was refused is in no log: sent again under its key, it is new.
    let first = (1_000, limit(tender, 890_000));
    let reply = submit(&node, HURT, first.0, first.1.clone()).await.expect("taken");
    assert!(!reply.replayed && !matches!(reply.answer, Answer::Internal), "{reply:?}");
    node.stop();

    // Now the log holds what it sealed. Without it nobody can say what was decided: the start is refused, nothing is
    // changed, and with the file from the backup everything is there.
    let key = std::fs::read(key_file(&options, HURT)).expect("a key");
    let mut damaged = key.clone();
    damaged[20] ^= 1;
    std::fs::write(key_file(&options, HURT), damaged).expect("written");
    let refusal = start(&options).err().expect("refused").to_string();
    let file = key_file(&options, HURT).display().to_string();
    assert!(refusal.contains(&file) && refusal.contains("restore it from its backup"), "{refusal}");
    std::fs::write(key_file(&options, HURT), key).expect("written");
    let node = start(&options).expect("it starts");
    let again = submit(&node, HURT, first.0, first.1).await.expect("known");
    assert!(again.replayed, "{again:?}");
    node.stop();
}

/// The folder of organisations' keys is away: no key can be made, and those in memory go on.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn while_no_key_can_be_made_others_bid_on() {
    let dir = tempfile::tempdir().expect("a folder");
    let process = Process::start(dir.path(), dir.path()).await;
    let (buyer, _) = sign_up(&process.client(), "buyer", "buyer").await;
    let (actor, actor_id) = sign_up(&process.client(), "actor", "supplier").await;
    let rules = json!({ "format": "english", "duration_s": 3600, "auto_bid": true });
    let body =
        json!({ "title": "Keys", "currency": "SAR", "lots": [{ "title": "Lot", "items": [], "rules": rules }] });
    let ids = create_tender(&buyer, &body).await;
    buyer.post(&ids.tender("/bidders"), &json!({ "organisation": actor_id })).await.expect(201);
    buyer.post(&ids.tender("/publish"), &json!({})).await.expect(200);
    buyer.post(&ids.tender("/start"), &json!({})).await.expect(200);

    let folder = dir.path().join("keys/org");
    std::fs::rename(&folder, folder.with_extension("away")).expect("moved");
    let newcomer = json!({ "email": "new@example.com", "password": PASSWORD, "name": "New",
        "organisation": { "name": "New", "kind": "supplier" } });
    for round in 0..3 {
        let refused = process.client().post("/v1/auth/register", &newcomer).await;
        refused.refused(503, "read_only");
        assert!(refused.header("retry-after").parse::<u64>().is_ok(), "it may be sent again");
        let price = format!("{}.00", 9_000 - round);
        actor.post(&ids.lot("/bids"), &json!({ "price": price })).await.expect(201);
        actor.put(&ids.lot("/auto-bid"), &json!({ "limit": format!("{}.00", 8_000 - round) })).await.expect(200);
    }
    assert_eq!(process.admin().get("/readyz").await.status, 200);
    let said = process.said();
    assert!(said.contains("keys/org") && said.contains("to nobody else"), "{said}");
    assert!(
        String::from_utf8_lossy(&process.admin().get("/metrics").await.body).contains("rt_key_refusals_total")
    );

    std::fs::rename(folder.with_extension("away"), &folder).expect("moved");
    eventually("it heals by itself", || async {
        process.client().post("/v1/auth/register", &newcomer).await.status == 201
    })
    .await;
}
