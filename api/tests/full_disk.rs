//! A full disk: commands get 503 `read_only` before anything is hurt, reads go on, deadlines come, and the service
//! returns when space does. The disk is a real one: a small file system in memory, mounted for the test.

mod process;
mod support;

use std::path::Path;
use std::process::Command;

use process::{Process, sign_up};
use serde_json::json;
use support::eventually;

/// A file system of `kib`, unmounted when dropped. None where it can't be mounted.
struct Mounted<'a>(&'a Path);

impl<'a> Mounted<'a> {
    fn new(dir: &'a Path, kib: u32) -> Option<Self> {
        let options = format!("size={kib}k");
        let mount = Command::new("mount").args(["-t", "tmpfs", "-o", &options, "tmpfs"]).arg(dir).output().ok()?;
        mount.status.success().then_some(Self(dir))
    }
}

impl Drop for Mounted<'_> {
    fn drop(&mut self) {
        let unmounted = Command::new("umount").arg("-l").arg(self.0).status();
        assert!(unmounted.is_ok_and(|status| status.success()), "the file system of the test stays mounted");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_full_disk_refuses_writes_and_nothing_else() {
    let home = tempfile::tempdir().expect("a folder");
    let dir = home.path().join("disk");
    std::fs::create_dir(&dir).expect("made");
    let Some(mounted) = Mounted::new(&dir, 6_000) else {
        println!("skipped: tmpfs (a file system cannot be mounted by this user on this machine)");
        return;
    };
    let mut process = Process::start(&dir, home.path()).await;
    let (buyer, _) = sign_up(&process.client(), "buyer", "buyer").await;
    let (supplier, organisation) = sign_up(&process.client(), "supplier", "supplier").await;
    let body = json!({ "title": "Full", "currency": "SAR", "lots": [{ "title": "Lot", "items": [], "rules": {
        "format": "english", "duration_s": 600, "guard_percent": null } }] });
    let tender = buyer.post("/v1/tenders", &body).await.expect(201);
    let (id, lot) = (tender["id"].as_str().expect("an id"), tender["lots"][0]["id"].as_str().expect("an id"));
    buyer.post(&format!("/v1/tenders/{id}/bidders"), &json!({ "organisation": organisation })).await.expect(201);
    buyer.post(&format!("/v1/tenders/{id}/publish"), &json!({})).await.expect(200);
    buyer.post(&format!("/v1/tenders/{id}/start"), &json!({})).await.expect(200);

    // Large commands fill the log: drafts with long descriptions.
    let description = "x".repeat(9_000);
    let lots: Vec<_> = (0..10)
        .map(|_| {
            let item = json!({ "description": description, "quantity": "1", "unit": "piece" });
            json!({ "title": "Lot", "items": [item], "rules": { "format": "english", "duration_s": 600 } })
        })
        .collect();
    let large = json!({ "title": "Large", "currency": "SAR", "lots": lots });
    let mut made = Vec::new();
    let refused = loop {
        let answer = buyer.post("/v1/tenders", &large).await;
        if answer.status != 201 {
            break answer;
        }
        made.push(answer.json()["id"].as_str().expect("an id").to_owned());
        assert!(made.len() < 200, "the disk never filled");
    };
    refused.refused(503, "read_only");
    assert!(!refused.header("retry-after").is_empty());
    let bids = format!("/v1/lots/{lot}/bids");
    supplier.post(&bids, &json!({ "price": "100.00" })).await.refused(503, "read_only");
    buyer.get(&format!("/v1/lots/{lot}")).await.expect(200);
    for id in &made {
        assert_eq!(buyer.get(&format!("/v1/tenders/{id}")).await.expect(200)["title"], "Large");
    }

    // Space returns: the file system grows.
    let grown = Command::new("mount").args(["-o", "remount,size=64m"]).arg(&dir).status();
    assert!(grown.is_ok_and(|status| status.success()), "the file system grows");
    eventually("service returns", || async {
        supplier.post(&bids, &json!({ "price": "100.00" })).await.status == 201
    })
    .await;
    process.kill_and_start().await;
    for id in &made {
        buyer.get(&format!("/v1/tenders/{id}")).await.expect(200);
    }
    supplier.post(&bids, &json!({ "price": "99.00" })).await.expect(201);
    drop(process);
    drop(mounted);
}
