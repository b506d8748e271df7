//! Files of the audit are damaged or gone: they are made again from the log, prove what they proved, and go on; a log that
//! was changed or cut is found out by the roots that were signed.

mod process;
mod support;

use std::path::{Path, PathBuf};
use std::process::Command;

use process::{Process, sign_up};
use serde_json::{Value, json};
use support::program::{copy, program, said};
use support::{Client, Ids, create_tender, eventually};

fn files(dir: &Path, ending: &str) -> Vec<PathBuf> {
    let Ok(entries) = std::fs::read_dir(dir) else { return Vec::new() };
    let paths = entries.map(|entry| entry.expect("an entry").path());
    paths.filter(|path| path.extension().is_some_and(|found| found == ending)).collect()
}

/// Ends the process and waits until its lock is gone.
fn stop(process: Process) {
    drop(process);
}

async fn drafts(buyer: &Client, count: usize) {
    for draft in 0..count {
        let lots = json!([{ "title": "Lot", "items": [], "rules": { "format": "english", "duration_s": 60 } }]);
        let body = json!({ "title": format!("Draft {draft}"), "currency": "SAR", "description": "x".repeat(9_000),
            "lots": lots });
        create_tender(buyer, &body).await;
    }
}

/// The export and what in it must be the same whatever was made again: a receipt's time of signing may differ.
async fn export(buyer: &Client, ids: &Ids, dir: &Path, key: &str) -> Value {
    let export = buyer.get(&ids.tender("/audit")).await.expect(200);
    let file = dir.join("export.json");
    std::fs::write(&file, export.to_string()).expect("written");
    let mut verify = Command::new(env!("CARGO_BIN_EXE_reversetender"));
    let output = verify.args(["audit", "verify"]).arg(file).args(["--key", key]).output().expect("it runs");
    assert!(output.status.success(), "{}", said(&output));
    let proved = |command: &Value| (command["leaf"].clone(), command["head"].clone(), command["public"].clone());
    let commands: Vec<_> = export["commands"].as_array().expect("a list").iter().map(proved).collect();
    json!([commands, export["claims"]["chain"], export["claims"]["lots"]])
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn damaged_files_are_made_again_and_prove_the_same() {
    let dir = tempfile::tempdir().expect("a folder");
    let small = ["--snapshot-bytes", "65536"];
    let process = Process::start_with(dir.path(), dir.path(), &small).await;
    let (buyer, _) = sign_up(&process.client(), "buyer", "buyer").await;
    let (actor, actor_id) = sign_up(&process.client(), "actor", "supplier").await;
    let rules = json!({ "format": "english", "duration_s": 3600, "auto_bid": true });
    let body =
        json!({ "title": "Proved", "currency": "SAR", "lots": [{ "title": "Lot", "items": [], "rules": rules }] });
    let ids = create_tender(&buyer, &body).await;
    buyer.post(&ids.tender("/bidders"), &json!({ "organisation": actor_id })).await.expect(201);
    buyer.post(&ids.tender("/publish"), &json!({})).await.expect(200);
    buyer.post(&ids.tender("/start"), &json!({})).await.expect(200);
    actor.put(&ids.lot("/auto-bid"), &json!({ "limit": "400.00" })).await.expect(200);
    actor.post(&ids.lot("/bids"), &json!({ "price": "399.00", "confirm": true })).await.expect(201);
    // A snapshot, and an audit whose records are sealed in another way behind it: places move.
    drafts(&buyer, 12).await;
    let data = dir.path().join("data");
    eventually("a snapshot", || async { !files(&data.join("snapshots"), "snap").is_empty() }).await;
    stop(process);
    let all = ["--snapshot-bytes", "65536", "--seal", "all"];
    let mut process = Process::start_with(dir.path(), dir.path(), &all).await;
    let (buyer, actor) = (at(&buyer, &process), at(&actor, &process));
    actor.post(&ids.lot("/bids"), &json!({ "price": "398.00", "confirm": true })).await.expect(201);
    buyer.post(&ids.tender("/cancel"), &json!({ "reason": "enough" })).await.expect(200);
    let kept = buyer.get(&ids.tender("/audit")).await.expect(200);
    let key = kept["claims"]["key"].as_str().expect("a key").to_owned();
    let before = export(&buyer, &ids, dir.path(), &key).await;
    let running = program(dir.path(), &["audit", "rebuild"]);
    assert!(
        running.status.code() == Some(1) && said(&running).contains("uses this data folder"),
        "{}",
        said(&running)
    );

    for damage in ["bytes", "gone", "short"] {
        stop(process);
        for file in ["journal", "nodes"].iter().flat_map(|kind| files(&data.join("audit"), kind)) {
            let bytes = std::fs::read(&file).expect("a file");
            let changed = match damage {
                "bytes" => bytes.iter().map(|byte| byte ^ 0x55).collect(),
                _ => bytes[..bytes.len() / 2].to_vec(),
            };
            std::fs::write(&file, changed).expect("written");
        }
        if damage == "gone" {
            std::fs::remove_dir_all(data.join("audit")).expect("removed");
        }
        let rebuilt = program(dir.path(), &["audit", "rebuild", "--seal", "all"]);
        assert!(rebuilt.status.success(), "{damage}: {}", said(&rebuilt));
        assert_eq!(said(&rebuilt).contains(" 0 signed roots"), damage == "gone", "{damage}: {}", said(&rebuilt));
        let left = std::fs::read_dir(&data).expect("a folder").map(|entry| entry.expect("an entry").file_name());
        let left: Vec<String> = left.map(|name| name.to_string_lossy().into_owned()).collect();
        assert!(!left.iter().any(|name| name.contains("new-") || name.contains("states-")), "{left:?}");
        process = Process::start_with(dir.path(), dir.path(), &all).await;
        for restarted in [false, true] {
            if restarted {
                process.kill_and_start().await;
            }
            let (buyer, actor) = (at(&buyer, &process), at(&actor, &process));
            assert_eq!(export(&buyer, &ids, dir.path(), &key).await, before, "{damage}");
            assert!(!process.said().contains("does not give the root"), "{}", process.said());
            if damage == "bytes" && !restarted {
                // The roots that were signed are still there: a document from before agrees with one of now.
                let size = &kept["checkpoints"][0]["size"];
                let now = buyer.get(&ids.tender(&format!("/audit?sizes={size}"))).await.expect(200);
                let roots = now["checkpoints"].as_array().expect("a list");
                assert!(roots.iter().any(|root| root["sig"] == kept["checkpoints"][0]["sig"]), "{now}");
            }
            actor.get(&ids.lot("")).await.expect(200);
            drafts(&buyer, 1).await;
        }
    }
    // The log, sealed for the most part, gives the trees that its segments state and the roots that were signed; who has
    // no keys finds it whole, and can't hash it.
    stop(process);
    for (keys, hashed) in [("keys", true), ("none", false)] {
        let mut verify = Command::new(env!("CARGO_BIN_EXE_reversetender"));
        verify.args(["log", "verify", "--data"]).arg(&data).arg("--keys").arg(dir.path().join(keys));
        let output = verify.output().expect("it runs");
        let last = String::from_utf8_lossy(&output.stdout).lines().last().unwrap_or_default().to_owned();
        let last: Value = serde_json::from_str(&last).expect("JSON");
        assert!(output.status.success() && last["segments"].as_u64() > Some(4), "{last}");
        let found = ["checked", "signed_roots"].map(|name| last["tree_heads"][name].as_u64() > Some(0));
        assert_eq!(found, [hashed; 2], "{last}");
    }
}

/// The same person at another address.
fn at(client: &Client, process: &Process) -> Client {
    Client { address: process.address, token: client.token.clone() }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_log_that_lost_its_beginning_or_its_end_is_told() {
    let dir = tempfile::tempdir().expect("a folder");
    let process = Process::start_with(dir.path(), dir.path(), &["--snapshot-bytes", "100000"]).await;
    let (buyer, _) = sign_up(&process.client(), "buyer", "buyer").await;
    drafts(&buyer, 2).await;
    process.freeze();
    let earlier = tempfile::tempdir().expect("a folder");
    copy(dir.path(), earlier.path());
    stop(process);
    let process = Process::start_with(dir.path(), dir.path(), &["--snapshot-bytes", "100000"]).await;
    let buyer = at(&buyer, &process);
    let data = dir.path().join("data");
    // So much that the first segment goes.
    let first = data.join("log/0000000000000001.seg");
    let mut rounds = 0;
    while first.exists() {
        drafts(&buyer, 10).await;
        rounds += 1;
        assert!(rounds < 60, "old segments go when snapshots cover them");
    }
    // Roots of what is signed every so often are written with the next snapshot.
    let signed =
        || files(&data.join("audit"), "roots").iter().any(|file| file.metadata().is_ok_and(|of| of.len() > 64));
    while !signed() {
        drafts(&buyer, 1).await;
        tokio::time::sleep(std::time::Duration::from_millis(100)).await;
        rounds += 1;
        assert!(rounds < 600, "roots are signed");
    }
    stop(process);

    let cut = program(dir.path(), &["audit", "rebuild"]);
    assert!(cut.status.code() == Some(1) && said(&cut).contains("begins at entry"), "{}", said(&cut));
    assert!(!files(&data.join("audit"), "journal").is_empty(), "nothing was changed");
    // The earlier log is whole, and shorter than what was signed since.
    for roots in files(&data.join("audit"), "roots") {
        let target = earlier.path().join("data/audit").join(roots.file_name().expect("a name"));
        std::fs::copy(&roots, target).expect("copied");
    }
    let contradicted = program(earlier.path(), &["audit", "rebuild"]);
    assert!(contradicted.status.code() == Some(3), "{}", said(&contradicted));
    assert!(said(&contradicted).contains("changed or cut"), "{}", said(&contradicted));
    let left = std::fs::read_dir(earlier.path().join("data")).expect("a folder").count();
    let before = ["audit", "lock", "log", "meta", "snapshots", "projection.sqlite"].len();
    assert!(left <= before + 2, "nothing is left beside: {left}");
}
