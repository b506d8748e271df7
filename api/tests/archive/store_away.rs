//! A store that is full or away while the node serves: the lag grows and is told, bids go on, no segment goes that the
//! archive does not have, and when the disk has no room left commands are refused before it is hurt. And a node that is
//! killed at any moment of its shipping misses nothing afterwards.

use std::time::Duration;

use persistence::archive::Target;
use serde_json::json;

use crate::damage::Mounted;
use crate::process::{Process, sign_up};
use crate::world::World;

/// A metric's value.
async fn metric(process: &Process, name: &str) -> f64 {
    let page = process.admin().get("/metrics").await;
    let text = String::from_utf8_lossy(&page.body).into_owned();
    let line = text.lines().find(|line| line.split(' ').next() == Some(name));
    line.and_then(|line| line.split(' ').nth(1)?.parse().ok()).unwrap_or_else(|| panic!("no {name} in {text}"))
}

/// Waits until the archive has everything.
async fn archived(process: &Process) {
    for _ in 0..1_200 {
        if metric(process, "rt_archive_lag_entries").await == 0.0 {
            return;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    panic!("the archive never caught up: {}", process.said());
}

fn large() -> serde_json::Value {
    let description = "x".repeat(9_000);
    let lots: Vec<_> = (0..10)
        .map(|_| {
            let item = json!({ "description": description, "quantity": "1", "unit": "piece" });
            json!({ "title": "Lot", "items": [item], "rules": { "format": "english", "duration_s": 600 } })
        })
        .collect();
    json!({ "title": "Large", "currency": "SAR", "lots": lots })
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_full_archive_keeps_the_log_until_commands_are_refused() {
    let world = World::new();
    let (disk, target) = (world.path("disk"), world.path("target"));
    let (Some(disk_mount), Some(target_mount)) = (Mounted::new(&disk, 9_000), Mounted::new(&target, 400)) else {
        println!("skipped: tmpfs (a file system cannot be mounted by this user on this machine)");
        return;
    };
    let archive = target.display().to_string();
    let settings = ["--archive", archive.as_str(), "--snapshot-bytes", "300000"];
    let process = Process::start_with(&disk, world.dir.path(), &settings).await;
    let (buyer, _) = sign_up(&process.client(), "buyer", "buyer").await;
    let large = large();
    let mut made = Vec::new();
    let refused = loop {
        let answer = buyer.post("/v1/tenders", &large).await;
        if answer.status != 201 {
            break answer;
        }
        made.push(answer.json()["id"].as_str().expect("an id").to_owned());
        // Snapshots pass old segments, but the archive does not have them.
        tokio::time::sleep(Duration::from_millis(30)).await;
        assert!(made.len() < 200, "the disk never filled");
    };
    refused.refused(503, "read_only");
    assert!(metric(&process, "rt_archive_lag_entries").await > 0.0);
    assert!(metric(&process, "rt_archive_lag_seconds").await > 0.0);
    assert!(metric(&process, "rt_archive_failures_total").await > 0.0);
    assert!(process.said().contains("Not archived: "), "{}", process.said());
    let kept = |name: &str| {
        std::fs::read_dir(disk.join("data/log"))
            .is_ok_and(|mut files| files.any(|file| file.is_ok_and(|file| file.file_name() == name)))
    };
    assert!(kept("0000000000000005.seg"), "nothing goes before the archive has it");
    buyer.get(&format!("/v1/tenders/{}", made[0])).await.expect(200);

    // The store has room again: what was held back is shipped, segments go, and commands are taken.
    target_mount.grow(64 << 10);
    archived(&process).await;
    let mut taken = false;
    for _ in 0..200 {
        taken = buyer.post("/v1/tenders", &large).await.status == 201;
        if taken {
            break;
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    assert!(taken, "service never returned: {}", process.said());
    archived(&process).await;
    drop(process);
    let restored = world.restore_from(world.store("target"), "made", Target::Latest).expect("restored");
    assert!(restored.position as usize > made.len());
    drop((disk_mount, target_mount));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_killed_while_it_ships_misses_nothing() {
    let world = World::new();
    let home = world.dir.path();
    let archive = world.path("archive").display().to_string();
    let settings = ["--archive", archive.as_str(), "--snapshot-bytes", "100000"];
    let mut process = Process::start_with(home, home, &settings).await;
    let (buyer, _) = sign_up(&process.client(), "buyer", "buyer").await;
    let draft = json!({ "title": "Draft", "currency": "SAR", "lots": [{ "title": "Lot", "items": [
        { "description": "y".repeat(2_000), "quantity": "1", "unit": "piece" }],
        "rules": { "format": "english", "duration_s": 600 } }] });
    for round in 0..6u64 {
        for _ in 0..20 {
            buyer.post("/v1/tenders", &draft).await.expect(201);
        }
        // At another moment of the archive's second each time.
        tokio::time::sleep(Duration::from_millis(170 * round)).await;
        process.kill_and_start().await;
    }
    archived(&process).await;
    drop(process);
    let restored = world.restore("archive", "made", Target::Latest).expect("restored");
    let state = world.recovered("data");
    assert_eq!(world.recovered("made"), state);
    assert_eq!(restored.position, state.iter().map(|(index, _)| index).sum::<u64>());
    assert_eq!(restored.history, restored.from);
}
