//! Data keys are rotated while bids come: nobody waits for it, what follows is sealed under the newest key, and a restart
//! reads all of it.

mod process;
mod support;

use std::collections::BTreeSet;
use std::path::Path;
use std::process::{Command, Output};
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

/// Starts the program where it must refuse to.
fn serve(dir: &Path) -> Output {
    let mut serve = Command::new(env!("CARGO_BIN_EXE_reversetender"));
    serve.args(["serve", "--listen", "127.0.0.1:0", "--admin-listen", "127.0.0.1:0", "--data"]);
    serve.arg(dir.join("data")).arg("--keys").arg(dir.join("keys")).output().expect("it runs")
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

    // An export has the journal written as it stands: under all four keys. (What a start replays it writes again, under
    // the newest.)
    actor.get(&ids.tender("/audit")).await.expect(200);
    let (data, proofs) = (dir.path().join("data"), dir.path().join("proofs"));
    std::fs::create_dir_all(proofs.join("audit")).expect("a folder");
    for entry in std::fs::read_dir(data.join("audit")).expect("a folder") {
        let path = entry.expect("an entry").path();
        std::fs::copy(&path, proofs.join("audit").join(path.file_name().expect("a name"))).expect("copied");
    }
    process.kill_and_start().await;
    let now = actor.get(&ids.lot("")).await.expect(200);
    assert_eq!(now["you"]["standing"], format!("{}.00", 900_000 - (count - 1)), "the last bid of {count}");
    let audit = actor.get(&ids.tender("/audit")).await.expect(200);
    let commands = audit["commands"].as_array().expect("a list");
    let bids = commands.iter().filter(|command| command["action"] == "bid").count();
    assert_eq!(bids as u64, count, "every one of them is proved, whatever key it lies under");

    // A key that is needed is not taken out of use; one that seals proofs alone is, when that is said.
    let keys = dir.path().join("keys");
    let revoke = |data: &Path, arguments: &[&str]| {
        let mut revoke = Command::new(env!("CARGO_BIN_EXE_reversetender"));
        revoke.args(["keys", "revoke"]).args(arguments).arg("--data").arg(data).arg("--keys").arg(&keys);
        let output = revoke.output().expect("it runs");
        let said = [output.stdout, output.stderr].concat();
        (output.status.code(), String::from_utf8_lossy(&said).into_owned())
    };
    for wrong in ["key", "0", "4", "0000000000000005"] {
        let (status, said) = revoke(&data, &[wrong]);
        assert_eq!(status, Some(2), "{wrong}: {said}");
    }
    let (status, said) = revoke(&data, &["2", "--lose-proofs"]);
    assert!(status == Some(1) && said.contains(".seg") && said.contains("could not start"), "{said}");
    let (status, said) = revoke(&proofs, &["2"]);
    assert!(status == Some(1) && said.contains(".journal") && said.contains("--lose-proofs"), "{said}");
    let (key, revoked) = (keys.join("data/0000000000000002.key"), keys.join("data/0000000000000002.revoked"));
    assert!(key.exists() && !revoked.exists(), "nothing was changed");
    let (status, said) = revoke(&proofs, &["2", "--lose-proofs"]);
    assert!(status == Some(0) && said.contains("out of use") && !key.exists() && revoked.exists(), "{said}");
    drop(process);
    let output = serve(dir.path());
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(!output.status.success() && said.contains("which was revoked"), "{said}");
    std::fs::rename(revoked, key).expect("renamed back");

    // Without an old key the start is refused, and says which file is missing.
    let key = dir.path().join("keys/data/0000000000000002.key");
    std::fs::rename(&key, key.with_extension("away")).expect("renamed");
    let output = serve(dir.path());
    assert!(!output.status.success());
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(said.contains("sealed under data key 0000000000000002, which is missing"), "{said}");
}

/// The key that roots are signed with is rotated under a running node: what the old one signed still counts, for whoever
/// knows any of the keys.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_key_of_the_roots_is_handed_over_while_bids_come() {
    let dir = tempfile::tempdir().expect("a folder");
    let mut process = Process::start(dir.path(), dir.path()).await;
    let (buyer, _) = sign_up(&process.client(), "buyer", "buyer").await;
    let (actor, actor_id) = sign_up(&process.client(), "actor", "supplier").await;
    let body = json!({ "title": "Handover", "currency": "SAR",
        "lots": [{ "title": "Lot", "items": [], "rules": { "format": "english", "duration_s": 36_000 } }] });
    let ids = create_tender(&buyer, &body).await;
    buyer.post(&ids.tender("/bidders"), &json!({ "organisation": actor_id })).await.expect(201);
    buyer.post(&ids.tender("/publish"), &json!({})).await.expect(200);
    buyer.post(&ids.tender("/start"), &json!({})).await.expect(200);
    let bid = async |price: &str| {
        actor.post(&ids.lot("/bids"), &json!({ "price": price, "confirm": true })).await.expect(201)
    };

    let first = bid("900.00").await;
    let receipt = ids.lot(&format!("/bids/{}/receipt", first["bid"].as_str().expect("an id")));
    // An export has a root signed that covers it.
    actor.get(&ids.tender("/audit")).await.expect(200);
    let before = actor.get(&receipt).await.expect(200);
    let kept = before["checkpoint"].clone();
    let mut keys = vec![before["audit"]["claims"]["key"].as_str().expect("a key").to_owned()];
    assert!(before["audit"]["claims"]["handovers"].is_null(), "there is nothing to tell: {before}");
    for round in 0..2 {
        let mut rotate = Command::new(env!("CARGO_BIN_EXE_reversetender"));
        rotate.args(["keys", "rotate", "--audit", "--data"]).arg(dir.path().join("data"));
        let output = rotate.arg("--keys").arg(dir.path().join("keys")).output().expect("it runs");
        let made = String::from_utf8_lossy(&output.stdout).trim().to_owned();
        assert!(output.status.success() && made.len() == 64 && !keys.contains(&made), "{output:?}");
        let mut price = 890 - 300 * round;
        let mut is_used = async || {
            price -= 1;
            bid(&format!("{price}.00")).await;
            actor.get(&ids.tender("/audit")).await.expect(200)["claims"]["key"] == made.as_str()
        };
        let mut tries = 0;
        while !is_used().await {
            tries += 1;
            assert!(tries < 200, "the node goes on with the new key");
            tokio::time::sleep(std::time::Duration::from_millis(50)).await;
        }
        keys.push(made);
    }
    bid("7.00").await;
    let jwks = process.client().get("/.well-known/jwks.json").await.expect(200);
    let kids: Vec<&str> =
        jwks["keys"].as_array().expect("a list").iter().filter_map(|key| key["kid"].as_str()).collect();
    assert_eq!(kids.iter().filter(|kid| kid.starts_with("audit-")).count(), 3, "{jwks}");

    let verify = |name: &str, document: &serde_json::Value, arguments: &[&str]| {
        let file = dir.path().join(name);
        std::fs::write(&file, document.to_string()).expect("written");
        let mut verify = Command::new(env!("CARGO_BIN_EXE_reversetender"));
        let output = verify.args(["audit", "verify"]).arg(file).args(arguments).output().expect("it runs");
        let said = [output.stdout, output.stderr].concat();
        (output.status.success(), String::from_utf8_lossy(&said).into_owned())
    };
    let roots = dir.path().join("kept.jsonl");
    std::fs::write(&roots, format!("{kept}\n")).expect("written");
    let roots = roots.display().to_string();
    let path = ids.tender(&format!("/audit?sizes={}", kept["size"]));
    for restarted in [false, true] {
        if restarted {
            process.kill_and_start().await;
        }
        let export = actor.get(&path).await.expect(200);
        assert_eq!(export["claims"]["handovers"].as_array().map(Vec::len), Some(2), "{export}");
        for key in &keys {
            let (holds, said) = verify("export", &export, &["--key", key, "--checkpoints", &roots]);
            assert!(holds && said.contains("handed over 2 times"), "{said}");
        }
        let (holds, said) = verify("export", &export, &["--key", &"ab".repeat(32)]);
        assert!(!holds && said.contains("claims.key"), "{said}");
        // The first receipt, of the first key, is told with the id of the key that signed its root.
        let again = actor.get(&receipt).await.expect(200);
        assert!(kids.contains(&again["checkpoint"]["kid"].as_str().expect("an id")), "{again}");
        assert!(verify("receipt", &again, &["--key", &keys[0]]).0);
        assert!(verify("before", &before, &["--key", &keys[0]]).0, "an old document needs no newer key");

        // Without its handovers, with one changed, or with roots of an older key behind those of a newer one it does
        // not hold, and the place is named.
        let mut changed = export.clone();
        changed["claims"]["handovers"] = json!([]);
        let (holds, said) = verify("export", &changed, &[]);
        assert!(!holds && said.contains("checkpoints[0].sig"), "{said}");
        changed = export.clone();
        changed["claims"]["handovers"][1]["at"] = "2026-01-01T00:00:00.000Z".into();
        let (holds, said) = verify("export", &changed, &[]);
        assert!(!holds && said.contains("claims.handovers[1].sig"), "{said}");
        changed = export.clone();
        changed["claims"]["handovers"].as_array_mut().expect("a list").remove(1);
        let (holds, said) = verify("export", &changed, &[]);
        assert!(!holds && said.contains("claims.key"), "{said}");
    }
}
