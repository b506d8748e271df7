//! The restore drill in small, with the real program: three restores, each with the state of a cold replay. And the
//! restart with a fresh snapshot, and beside Redis, in small and without a goal.

use bench::{drill, replay, restart, server};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_small_log_is_restored_to_three_points() {
    let program = server::program_built().expect("the program");
    let dir = tempfile::tempdir().expect("a folder");
    for seed in [3, 29] {
        let dir = dir.path().join(seed.to_string());
        std::fs::create_dir(&dir).expect("made");
        // The drill itself holds the states against each other.
        let report = drill::run(&program, &dir, 3_000, 20, seed).await.expect("the drill");
        let positions: Vec<u64> = report.restored.iter().map(|part| part.position).collect();
        let entries = positions[0];
        assert_eq!(positions, [entries, 1 + seed % (entries - 1), entries - 1]);
        assert_eq!(report.bids, 47 * 64);
        let latest = &report.restored[0];
        assert!(latest.replayed > 0 && latest.replayed < report.bids, "it began with the snapshot");
        let text = report.to_string();
        for word in ["fetch", "verify", "load", "replay", "answer", "events_since_snapshot", "10 M bids"] {
            assert!(text.contains(word), "{word} in {text}");
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_with_a_fresh_snapshot_is_started_again() {
    let program = server::program_built().expect("the program");
    let dir = tempfile::tempdir().expect("a folder");
    let report = restart::run(&program, dir.path(), 2_000, 2).await.expect("both starts answer");
    assert_eq!((report.bids, report.lots, report.starts.len()), (2_080, 104, 2));
    // A record of each bid is in it, and the starts loaded it: they tell so.
    assert!(report.snapshot_bytes > 80 * report.bids, "{report}");
    assert!(report.starts.iter().all(|start| start.memory > 0 && !start.first_answer.is_zero()));
    assert!(report.to_string().contains("kill -9"), "{report}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_is_started_from_its_snapshot_and_from_its_log_alone_beside_redis() {
    let program = server::program_built().expect("the program");
    let dir = tempfile::tempdir().expect("a folder");
    let row = replay::run(&program, dir.path(), 8_000, 2_000, 1).await.expect("every start answers");
    assert_eq!((row.bids, row.behind, row.lots), (8_192, 2_048, 40));
    assert!(row.log_bytes > 100 * row.bids && row.snapshot_bytes > 0);
    assert_eq!((row.snapshot.len(), row.log.len(), row.read.len()), (1, 1, 1));
    // Only one of them has a snapshot to load.
    assert!(row.snapshot[0].load_ms.is_some() && row.log[0].load_ms.is_none());
    match &row.redis {
        Some((_, times)) => assert_eq!(times.len(), 1),
        None => println!("skipped: redis-server (it is not installed)"),
    }
}
