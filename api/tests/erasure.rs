//! An organisation's personal data is erased under the running program: memory forgets, nothing on the disk and no backup
//! of it gives the data any more, and everything else goes on and is proved as before.

mod process;
mod support;

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;

use persistence::{Log, Options, Part, RealDisk, Snapshots};
use process::{Process, sign_up};
use serde_json::json;
use support::program::{copy, program, said};
use support::socket::Socket;
use support::{Client, Ids, PASSWORD, create_tender, eventually};

/// What must not be found any more: two persons' addresses, a name, and a limit. (The name of the first is that of the
/// organisation too, which stays.)
const GONE: [&str; 3] = ["marker-5d1f@example.com", "marker-8e2a@example.com", "Nadia marker"];
const LIMIT: &str = "731904551127.93";

/// Everything that `keys` opens of the data folder `data`, as text: every entry of the log and every snapshot.
fn opened(data: &Path, keys: &Path) -> String {
    let (_log, recovered) = Log::open(Arc::new(RealDisk), Options::new(data, keys)).expect("it opens");
    let mut text = String::new();
    for entry in recovered.entries_from_start() {
        text.push_str(&format!("{:?}\n", entry.expect("readable").entry));
    }
    let mut snapshots = 0;
    for path in snapshots_of(data) {
        let found = Snapshots::open_file(Arc::new(RealDisk), &path, Arc::clone(recovered.sealer.keys()));
        for frame in found.expect("sound").frames() {
            if let Part::Clear(bytes) = frame.expect("sound").part {
                text.push_str(&String::from_utf8_lossy(&bytes));
            }
        }
        snapshots += 1;
    }
    assert!(snapshots > 0, "there are snapshots in {}", data.display());
    text
}

/// The snapshots that count.
fn snapshots_of(data: &Path) -> Vec<PathBuf> {
    let files = std::fs::read_dir(data.join("snapshots")).expect("a folder");
    let paths = files.map(|entry| entry.expect("an entry").path());
    paths.filter(|path| path.extension().is_some_and(|ending| ending == "snap")).collect()
}

/// All bytes of all files under `dir`, looked through for what is gone.
fn raw(dir: &Path) {
    for entry in std::fs::read_dir(dir).expect("a folder") {
        let path = entry.expect("an entry").path();
        if path.is_dir() {
            raw(&path);
            continue;
        }
        let bytes = std::fs::read(&path).expect("a file");
        for marker in &GONE {
            let found = bytes.windows(marker.len()).any(|window| window == marker.as_bytes());
            assert!(!found, "{marker} is in {}", path.display());
        }
    }
}

async fn open(buyer: &Client, title: &str, suppliers: &[&str]) -> Ids {
    let rules = json!({ "format": "english", "duration_s": 3600, "auto_bid": true });
    let body =
        json!({ "title": title, "currency": "SAR", "lots": [{ "title": "Lot", "items": [], "rules": rules }] });
    let ids = create_tender(buyer, &body).await;
    for supplier in suppliers {
        buyer.post(&ids.tender("/bidders"), &json!({ "organisation": supplier })).await.expect(201);
    }
    buyer.post(&ids.tender("/publish"), &json!({})).await.expect(200);
    buyer.post(&ids.tender("/start"), &json!({})).await.expect(200);
    ids
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_organisations_personal_data_is_erased_while_others_bid() {
    let dir = tempfile::tempdir().expect("a folder");
    let mut process = Process::start_with(dir.path(), dir.path(), &["--snapshot-bytes", "65536"]).await;
    let (buyer, _) = sign_up(&process.client(), "buyer", "buyer").await;
    let (actor, actor_id) = sign_up(&process.client(), "marker-5d1f", "supplier").await;
    let (rival, rival_id) = sign_up(&process.client(), "rival", "supplier").await;
    let member = json!({ "email": GONE[1], "name": GONE[2], "role": "trader", "password": PASSWORD });
    actor.post("/v1/organisation/members", &member).await.expect(201);
    let ended = open(&buyer, "Ended", &[&actor_id, &rival_id]).await;
    let going_on = open(&buyer, "Goes on", &[&rival_id]).await;
    actor.post(&ended.lot("/bids"), &json!({ "price": "900000000000.00", "auto_limit": LIMIT })).await.expect(201);
    rival.post(&ended.lot("/bids"), &json!({ "price": "890000000000.00" })).await.expect(201);

    let destroy = ["keys", "destroy", actor_id.as_str(), "--reason", "request 2026-117"];
    let confirmed = [&destroy[..], &["--yes-i-know"]].concat();
    let refused = program(dir.path(), &destroy);
    assert!(refused.status.code() == Some(2) && said(&refused).contains("--yes-i-know"), "{}", said(&refused));
    let refused = program(dir.path(), &confirmed);
    let tender = ended.tender.as_str();
    assert!(refused.status.code() == Some(1) && said(&refused).contains(tender), "{}", said(&refused));
    assert!(said(&refused).contains("order it again") && !said(&refused).contains(&going_on.tender));
    actor.get("/v1/organisation/members").await.expect(200);

    buyer.post(&ended.tender("/cancel"), &json!({ "reason": "enough" })).await.expect(200);
    // Enough log for a snapshot that holds the persons, and a backup of all of it.
    for draft in 0..12 {
        let lots = json!([{ "title": "Lot", "items": [], "rules": { "format": "english", "duration_s": 60 } }]);
        let body = json!({ "title": format!("Draft {draft}"), "currency": "SAR", "description": "x".repeat(9_000), "lots": lots });
        create_tender(&buyer, &body).await;
    }
    let data = dir.path().join("data");
    eventually("a snapshot", || async { !snapshots_of(&data).is_empty() }).await;
    process.kill_and_start().await;
    let backup = dir.path().join("backup");
    process.freeze();
    copy(&dir.path().join("data"), &backup.join("data"));
    copy(&dir.path().join("keys"), &backup.join("keys"));
    process.kill_and_start().await;
    let before = opened(&backup.join("data"), &backup.join("keys"));
    for marker in GONE {
        assert!(before.contains(marker), "with its key {marker} is read, so that the search can find it");
    }
    assert!(before.contains("73190455112793"), "its limit as well");

    let mut socket = Socket::connect(&actor).await;
    let done = program(dir.path(), &confirmed);
    assert!(done.status.success() && said(&done).contains("destroyed"), "{}", said(&done));
    assert!(program(dir.path(), &confirmed).status.success(), "again is nothing");
    // Memory has forgotten: no sign-in, no token, no socket; the address is free.
    actor.get("/v1/organisation/members").await.refused(401, "token_invalid");
    let sign_in = json!({ "email": GONE[0], "password": PASSWORD });
    process.client().post_without_key("/v1/auth/token", &sign_in).await.refused(401, "credentials_invalid");
    assert_eq!(socket.closed().await, Some(4003), "its sign-in has ended");
    rival.post(&going_on.lot("/bids"), &json!({ "price": "500.00" })).await.expect(201);
    rival.put(&going_on.lot("/auto-bid"), &json!({ "limit": "400.00" })).await.expect(200);

    for round in 0..2 {
        raw(&dir.path().join("data"));
        raw(&dir.path().join("keys"));
        assert!(!dir.path().join(format!("keys/org/{actor_id}.key")).exists());
        // What the node holds now, and the backup from before, with the keys as they are.
        let (now, old) = (dir.path().join(format!("now{round}")), dir.path().join(format!("old{round}")));
        copy(&dir.path().join("data"), &now);
        copy(&backup.join("data"), &old);
        for data in [&now, &old] {
            let text = opened(data, &dir.path().join("keys"));
            for marker in GONE.iter().chain(&["73190455112793"]) {
                assert!(!text.contains(marker), "{marker} is read from {}", data.display());
            }
            assert!(text.contains("rival@example.com"), "others are read from {}", data.display());
        }
        // The export of its tender is complete, tells its secrets as hashes, and verifies.
        let export = buyer.get(&ended.tender("/audit")).await;
        let file = dir.path().join(format!("export{round}.json"));
        std::fs::write(&file, &export.body).expect("written");
        let export = export.expect(200);
        assert!(export["commands"].as_array().is_some_and(|commands| commands.len() > 5), "{export}");
        assert!(!export.to_string().contains(LIMIT));
        let verified =
            Command::new(env!("CARGO_BIN_EXE_reversetender")).args(["audit", "verify"]).arg(&file).output();
        let verified = verified.expect("it runs");
        assert!(verified.status.success(), "{}", said(&verified));
        assert!(program(dir.path(), &["log", "verify"]).status.success());
        // Once more behind a restart, which replays what came since.
        process.kill_and_start().await;
        assert_eq!(rival.get(&going_on.lot("")).await.expect(200)["you"]["standing"], "500.00");
    }
    let again = json!({ "email": GONE[0], "password": PASSWORD, "name": "New", "organisation": { "name": "New", "kind": "supplier" } });
    process.client().post("/v1/auth/register", &again).await.expect(201);
    drop(process);
    let nobody = program(dir.path(), &confirmed);
    assert!(nobody.status.code() == Some(1) && said(&nobody).contains("no node serves"), "{}", said(&nobody));
}

/// Who runs tenders keeps what others offered in them: with its key the snapshots would go.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_buyers_key_stays_while_it_seals_what_others_offered() {
    let dir = tempfile::tempdir().expect("a folder");
    let mut process = Process::start(dir.path(), dir.path()).await;
    let (buyer, buyer_id) = sign_up(&process.client(), "buyer", "buyer").await;
    let (actor, actor_id) = sign_up(&process.client(), "actor", "supplier").await;
    let ids = open(&buyer, "Bought", &[&actor_id]).await;
    actor.put(&ids.lot("/auto-bid"), &json!({ "limit": "400.00" })).await.expect(200);
    let destroy = ["keys", "destroy", buyer_id.as_str(), "--reason", "r", "--yes-i-know"];
    let refused = program(dir.path(), &destroy);
    assert!(
        refused.status.code() == Some(1) && said(&refused).contains("it runs one tender"),
        "{}",
        said(&refused)
    );
    buyer.post(&ids.tender("/cancel"), &json!({ "reason": "enough" })).await.expect(200);
    let refused = program(dir.path(), &destroy);
    assert!(
        refused.status.code() == Some(1) && said(&refused).contains("keep hidden offers"),
        "{}",
        said(&refused)
    );
    buyer.get("/v1/organisation/members").await.expect(200);
    process.kill_and_start().await;
    buyer.get("/v1/organisation/members").await.expect(200);

    // Nobody by that id has ever sealed anything; and wrong arguments change nothing.
    let unknown = uuid::Uuid::from_u128(77).to_string();
    let nothing = program(dir.path(), &["keys", "destroy", &unknown, "--reason", "r", "--yes-i-know"]);
    assert!(nothing.status.success() && said(&nothing).contains("no key"), "{}", said(&nothing));
    let wrong = program(dir.path(), &["keys", "destroy", "me", "--reason", "r", "--yes-i-know"]);
    assert_eq!(wrong.status.code(), Some(2), "{}", said(&wrong));
}

/// The node is killed with an order before it: the next one carries it out, and whoever ordered it is answered.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_order_outlives_the_node_that_it_was_given_to() {
    let dir = tempfile::tempdir().expect("a folder");
    let mut process = Process::start(dir.path(), dir.path()).await;
    let (actor, actor_id) = sign_up(&process.client(), "actor", "supplier").await;
    let (rival, _) = sign_up(&process.client(), "rival", "supplier").await;
    process.freeze();
    let (home, id) = (dir.path().to_owned(), actor_id.clone());
    let ordered = tokio::task::spawn_blocking(move || {
        program(&home, &["keys", "destroy", &id, "--reason", "request 2026-118", "--yes-i-know"])
    });
    let order = dir.path().join(format!("keys/orders/{actor_id}.order"));
    eventually("the order", || async { order.exists() }).await;
    assert!(dir.path().join(format!("keys/org/{actor_id}.key")).exists());
    process.kill_and_start().await;
    let done = ordered.await.expect("it ended");
    assert!(done.status.success() && said(&done).contains("destroyed"), "{}", said(&done));
    assert!(!order.exists() && !dir.path().join(format!("keys/org/{actor_id}.key")).exists());
    actor.get("/v1/organisation/members").await.refused(401, "token_invalid");
    rival.get("/v1/organisation/members").await.expect(200);
}
