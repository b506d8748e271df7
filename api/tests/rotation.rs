//! Data keys are rotated while bids come: nobody waits for it, what follows is sealed under the newest key, and a restart
//! reads all of it.

mod process;
mod support;

use std::collections::BTreeSet;
use std::path::Path;
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use process::{Process, sign_up};
use serde_json::json;
use support::{Client, Ids, create_tender, eventually};

/// Cipher and data key in a segment's header, as log-format.md draws them.
const CIPHER: usize = 70;
const DATA_KEY: usize = 72;

/// The numbers of the data keys that the segments in `log` are sealed under.
fn keys_in_use(log: &Path) -> BTreeSet<u64> {
    let files = std::fs::read_dir(log).expect("a folder").map(|entry| entry.expect("an entry").path());
    let segments = files.filter(|path| path.extension().is_some_and(|ending| ending == "seg"));
    let key = |path: std::path::PathBuf| {
        let head = std::fs::read(path).ok()?;
        assert_eq!(head[CIPHER..CIPHER + 2], [1, 0], "everything is sealed");
        Some(u64::from_le_bytes(head[DATA_KEY..DATA_KEY + 8].try_into().expect("eight bytes")))
    };
    segments.filter_map(key).collect()
}

/// Bids until `stop` bids were answered, each lower than the one before.
async fn bid_on(supplier: Client, ids: Ids, answered: Arc<AtomicU64>, stop: Arc<AtomicU64>) {
    loop {
        let number = answered.load(Ordering::Acquire);
        if number >= stop.load(Ordering::Acquire) {
            return;
        }
        let price = format!("{}.00", 900_000 - number);
        supplier.post(&ids.lot("/bids"), &json!({ "price": price, "confirm": true })).await.expect(201);
        answered.fetch_add(1, Ordering::AcqRel);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn keys_are_rotated_while_bids_come() {
    let dir = tempfile::tempdir().expect("a folder");
    let mut process = Process::start_with(dir.path(), dir.path(), &["--seal", "all"]).await;
    let (buyer, _) = sign_up(&process.client(), "buyer", "buyer").await;
    let (actor, actor_id) = sign_up(&process.client(), "actor", "supplier").await;
    let body = json!({ "title": "Rotation", "currency": "SAR", "public": true,
        "lots": [{ "title": "Lot", "items": [], "rules": { "format": "english", "duration_s": 36_000 } }] });
    let ids = create_tender(&buyer, &body).await;
    buyer.post(&ids.tender("/bidders"), &json!({ "organisation": actor_id })).await.expect(201);
    buyer.post(&ids.tender("/publish"), &json!({})).await.expect(200);
    buyer.post(&ids.tender("/start"), &json!({})).await.expect(200);

    let (answered, stop) = (Arc::new(AtomicU64::new(0)), Arc::new(AtomicU64::new(u64::MAX)));
    let again = Ids { tender: ids.tender.clone(), lots: ids.lots.clone() };
    let bidder = Client { address: actor.address, token: actor.token.clone() };
    let bidding = tokio::spawn(bid_on(bidder, again, Arc::clone(&answered), Arc::clone(&stop)));
    let log = dir.path().join("data/log");
    for number in 2..=4u64 {
        let before = answered.load(Ordering::Acquire);
        let mut rotate = Command::new(env!("CARGO_BIN_EXE_reversetender"));
        rotate.args(["keys", "rotate"]).arg("--data").arg(dir.path().join("data"));
        let output = rotate.arg("--keys").arg(dir.path().join("keys")).output().expect("it runs");
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        assert_eq!(String::from_utf8_lossy(&output.stdout).trim(), format!("{number:016x}"));
        // The node notices, goes on in a segment under the new key, and bids go on coming.
        let is_used = || async { keys_in_use(&log).contains(&number) };
        eventually("a segment under the new key", is_used).await;
        eventually("bids behind it", || async { answered.load(Ordering::Acquire) > before + 5 }).await;
    }
    stop.store(0, Ordering::Release);
    bidding.await.expect("every bid was accepted");
    let count = answered.load(Ordering::Acquire);
    assert_eq!(keys_in_use(&log), BTreeSet::from([1, 2, 3, 4]), "what was there stays as it was");

    process.kill_and_start().await;
    let now = actor.get(&ids.lot("")).await.expect(200);
    assert_eq!(now["you"]["standing"], format!("{}.00", 900_000 - (count - 1)), "the last bid of {count}");
    let audit = actor.get(&ids.tender("/audit")).await.expect(200);
    let commands = audit["commands"].as_array().expect("a list");
    let bids = commands.iter().filter(|command| command["action"] == "bid").count();
    assert_eq!(bids as u64, count, "every one of them is proved, whatever key it lies under");

    // Without an old key the start is refused, and says which file is missing.
    drop(process);
    let key = dir.path().join("keys/data/0000000000000002.key");
    std::fs::rename(&key, key.with_extension("away")).expect("renamed");
    let mut serve = Command::new(env!("CARGO_BIN_EXE_reversetender"));
    serve.args(["serve", "--listen", "127.0.0.1:0", "--admin-listen", "127.0.0.1:0", "--data"]);
    let serve = serve.arg(dir.path().join("data")).arg("--keys").arg(dir.path().join("keys"));
    let output = serve.output().expect("it runs");
    assert!(!output.status.success());
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(said.contains("sealed under data key 0000000000000002, which is missing"), "{said}");
}
