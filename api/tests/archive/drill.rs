//! The drill in small: a history is archived, and restored onto empty folders to the newest entry, to a number of
//! entries, and to just before a bad command; each state is that of a cold replay.

use std::time::Duration;

use api::feed::Hub;
use api::node::Node;
use engine::Action;
use persistence::Seal;
use persistence::archive::{ArchiveError, Target};

use crate::support::program::copy;
use crate::world::{BUYER, TENDER, World, bids, objects, open_tender, person, submit};

/// A history with several segments and snapshots, shipped while it went on; how many entries it has.
pub async fn history(world: &World, data: &str, archive: &str) -> u64 {
    let node = Node::start(&world.options(data, Some(archive)), &Hub::new()).expect("it starts");
    for n in 1..=3 {
        person(&node, n).await;
    }
    open_tender(&node).await;
    for round in 0..4 {
        bids(&node, 300 * round, 300).await;
        // Longer than a round of the archive and of the snapshots.
        tokio::time::sleep(Duration::from_millis(1_100)).await;
    }
    person(&node, 4).await;
    node.read().await.expect("at the tip");
    node.stop();
    let (lag, _) = node.archive_lag().expect("it is archived");
    assert_eq!(lag.entries, 0, "an orderly stop leaves nothing behind");
    world.recovered(data).iter().map(|(index, _)| index).sum()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_target_gives_the_state_of_a_cold_replay() {
    let world = World::new();
    let entries = history(&world, "data", "archive").await;
    let before = world.recovered("data");

    let latest = world.restore("archive", "latest", Target::Latest).expect("restored");
    assert_eq!((latest.position, latest.tip, latest.history), (entries, entries, latest.from));
    assert!(latest.snapshot.is_some(), "the newest snapshot is used: {latest:?}");
    assert_eq!(world.recovered("latest"), before);

    // Without any snapshot the whole log is there, and gives the same.
    copy(&world.path("archive"), &world.path("bare"));
    std::fs::remove_dir_all(world.path("bare/mark")).expect("removed");
    let bare = world.restore("bare", "whole", Target::Latest).expect("restored");
    assert_eq!((bare.position, bare.snapshot), (entries, None));
    assert_eq!(world.cold("whole", entries), before);

    // The numbers are chosen: the first, around the middle, just before the end.
    let mut with_snapshot = 0;
    for (number, wanted) in [1, 5, entries / 3, entries / 2, entries - 2, entries - 1].into_iter().enumerate() {
        let name = format!("to-{number}");
        let restored = world.restore("archive", &name, Target::Position(wanted)).expect("restored");
        assert_eq!((restored.position, restored.tip), (wanted, entries));
        assert_ne!(restored.history, restored.from, "another history");
        assert_eq!(world.recovered(&name), world.cold("whole", wanted), "to {wanted}");
        with_snapshot += u64::from(restored.snapshot.is_some());
    }
    assert!(with_snapshot > 1, "some of them begin with a snapshot");
    for beyond in [0, entries + 1] {
        let error = world.restore("archive", "beyond", Target::Position(beyond)).expect_err("not there");
        assert!(matches!(error, ArchiveError::Target { .. }), "{error}");
    }
    let error = world.restore("archive", "latest", Target::Latest).expect_err("not empty");
    assert!(matches!(error, ArchiveError::NotEmpty { .. }), "{error}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_sealed_as_a_whole_is_restored_to_any_point() {
    let world = World { seal: Seal::All, ..World::new() };
    let entries = history(&world, "data", "archive").await;
    let latest = world.restore("archive", "latest", Target::Latest).expect("restored");
    assert_eq!(latest.position, entries);
    assert_eq!(world.recovered("latest"), world.recovered("data"));
    std::fs::remove_dir_all(world.path("archive/mark")).expect("removed");
    world.restore("archive", "whole", Target::Latest).expect("restored");
    let wanted = entries * 2 / 3;
    let restored = world.restore("archive", "part", Target::Position(wanted)).expect("restored");
    assert_ne!(restored.history, restored.from);
    assert_eq!(world.recovered("part"), world.cold("whole", wanted));
    // Journals of the audit hold what is public as it is.
    let sealed = objects(&world.path("archive")).into_iter().filter(|(name, _)| !name.starts_with("audit/"));
    let clear = sealed.map(|(_, path)| path).any(|path| {
        let bytes = std::fs::read(path).expect("an object");
        bytes.windows(8).any(|window| window == b"52119-0K")
    });
    assert!(!clear, "a word of the tender is readable in the archive");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_bad_command_is_left_out_and_the_service_goes_on() {
    let world = World::new();
    let good = history(&world, "data", "archive").await;
    let kept = world.recovered("data");
    let options = world.options("data", Some("archive"));
    let node = Node::start(&options, &Hub::new()).expect("it starts");
    let epoch = node.epoch().to_owned();
    tokio::time::sleep(Duration::from_millis(20)).await;
    let until = node.now().0 - 5;
    submit(&node, BUYER, 77, Action::Cancel { tender: TENDER, reason: Some("a mistake".into()) }).await;
    node.stop();
    drop(node);

    // To a time: the take-overs of the second start are in, the cancelling is not.
    let restored = world.restore("archive", "again", Target::Time(until)).expect("restored");
    assert_eq!(restored.position, good + 2, "one take-over a tender shard");
    assert!(restored.tip > restored.position);
    let shards = world.recovered("again");
    assert_eq!(shards[0], kept[0], "nothing happened to the accounts");

    // It serves, under another epoch, and is archived beside the old history.
    let node = Node::start(&world.options("again", Some("archive")), &Hub::new()).expect("it starts");
    assert_ne!(node.epoch(), epoch);
    assert_eq!(node.epoch(), restored.history.to_string());
    bids(&node, 5_000, 3).await;
    node.read().await.expect("at the tip");
    let shown = node.view().tender(TENDER, |tender| tender.lots()[0].seq);
    assert!(shown.is_some(), "the tender is there");
    node.stop();
    assert_eq!(node.archive_lag().expect("archived").0.entries, 0);
    drop(node);
    let newest = world.restore("archive", "third", Target::Latest).expect("restored");
    assert_eq!(newest.from, restored.history, "the history that was shipped last");
    assert_eq!(world.recovered("third"), world.recovered("again"));
    let histories = objects(&world.path("archive")).keys().filter(|name| name.starts_with("tip/")).count();
    assert_eq!(histories, 2);
}

/// Two folders made of one archive can't both go on with its history.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_second_of_two_that_go_on_is_refused() {
    let world = World::new();
    history(&world, "data", "archive").await;
    world.restore("archive", "twin", Target::Latest).expect("restored");
    for (data, fits) in [("data", true), ("twin", false)] {
        let node = Node::start(&world.options(data, Some("archive")), &Hub::new()).expect("it starts");
        bids(&node, 7_000, 20).await;
        node.stop();
        let (lag, (_, _, failures)) = node.archive_lag().expect("archived");
        assert_eq!((lag.entries == 0, failures == 0), (fits, fits), "{data}: {lag:?}");
    }
    let backup = world.run(&["backup", "--data", "twin", "--keys", "keys", "--to", "archive"]);
    let said = String::from_utf8_lossy(&backup.stderr).into_owned();
    assert_eq!(backup.status.code(), Some(3), "{said}");
    assert!(said.contains("no longer one history") && said.contains("segment "), "{said}");
}
