//! Backups of a node that is bid on, with a master key from the environment; and the choice of a history.

use std::process::{Command, Output};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use api::feed::Hub;
use api::node::{Node, NodeOptions, recover};
use persistence::archive::Target;
use persistence::{Options, RealDisk, Seal, system_random};

use crate::drill::history;
use crate::support::program::said;
use crate::world::{World, aside, bids, open_tender, person};

/// The state of each shard: index and hash.
type States = Vec<(u64, [u8; 32])>;

/// Digits of a master key of this run.
fn digits() -> String {
    let mut bytes = [0; 32];
    system_random(&mut bytes);
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Runs the program with the master key in its environment.
fn run(world: &World, master: &str, arguments: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_reversetender"));
    command.current_dir(world.dir.path()).env("RT_MASTER_KEY", master).args(arguments);
    command.output().expect("it runs")
}

fn recovered(world: &World, master: &str, data: &str) -> States {
    let master = Some(persistence::MasterKey::new(master.to_owned()));
    let layout = Options { shards: 3, master, ..Options::new(world.path(data), world.path("keys")) };
    let recovery = recover(Arc::new(RealDisk), layout, &Hub::new(), 0).expect("it starts");
    recovery.shards.iter().map(|shard| (shard.machine.index(), shard.machine.state_hash())).collect()
}

/// Three backups while bids come: each holds at least what the archive had shipped before it began, gives a state that the
/// node had, and none of it can be restored without the master key.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_that_is_bid_on_is_backed_up() {
    let world = World { seal: Seal::All, ..World::new() };
    let master = digits();
    let options = NodeOptions {
        master: Some(persistence::MasterKey::new(master.clone())),
        ..world.options("data", Some("archive"))
    };
    let node = Arc::new(Node::start(&options, &Hub::new()).expect("it starts"));
    person(&node, 1).await;
    open_tender(&node).await;
    let (stop, answered) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
    let bidding = tokio::spawn({
        let (node, stop, answered) = (Arc::clone(&node), Arc::clone(&stop), Arc::clone(&answered));
        async move {
            while !stop.load(Ordering::Acquire) {
                bids(&node, answered.load(Ordering::Acquire), 1).await;
                answered.fetch_add(1, Ordering::AcqRel);
            }
        }
    });
    let mut during = 0;
    for number in 0..3 {
        // What is applied now is in the archive a round later.
        let shipped: u64 = node.view().engines(|engine| engine.index()).iter().sum();
        tokio::time::sleep(Duration::from_millis(1_500)).await;
        let before = answered.load(Ordering::Acquire);
        let to = format!("copy-{number}");
        let arguments = ["backup", "--data", "data", "--keys", "keys", "--archive", "archive", "--to", &to];
        let output = aside(|| run(&world, &master, &arguments));
        assert!(output.status.success(), "{}", said(&output));
        assert!(said(&output).contains("a node runs on"), "{}", said(&output));
        during += answered.load(Ordering::Acquire) - before;
        let data = format!("again-{number}");
        let arguments = ["restore", "--from", &to, "--data", &data, "--keys", "keys", "--to", "latest"];
        // The keys folder holds no master key, so without it nothing is even begun.
        let output = aside(|| world.run(&arguments));
        assert_eq!(output.status.code(), Some(2), "{}", said(&output));
        assert!(!world.path(&data).join("meta").exists());
        let output = aside(|| run(&world, &"0".repeat(64), &arguments));
        assert_eq!(output.status.code(), Some(2), "another master key: {}", said(&output));
        let output = aside(|| run(&world, &master, &arguments));
        assert!(output.status.success(), "{}", said(&output));
        let indexes: u64 = recovered(&world, &master, &data)[1..].iter().map(|(index, _)| index).sum();
        assert!(indexes >= shipped, "backup {number} holds {indexes} entries of tenders, {shipped} were shipped");
    }
    assert!(during > 0, "bids came while backups were made");
    stop.store(true, Ordering::Release);
    bidding.await.expect("every bid was taken");
    node.read().await.expect("at the tip");
    node.stop();
    drop(node);

    // The whole archive, copied once more by the program, is the state of the node.
    let output = aside(|| run(&world, &master, &["backup", "--data", "data", "--keys", "keys", "--to", "whole"]));
    assert!(output.status.success(), "the folder of a stopped node: {}", said(&output));
    let arguments = ["restore", "--from", "whole", "--data", "again", "--keys", "keys", "--to", "latest"];
    let output = aside(|| run(&world, &master, &arguments));
    assert!(output.status.success(), "{}", said(&output));
    assert_eq!(recovered(&world, &master, "again"), recovered(&world, &master, "data"));
}

/// An archive that holds two histories gives either of them.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_history_that_is_asked_for_is_restored() {
    let world = World::new();
    let end = history(&world, "data", "archive").await;
    let first = world.recovered("data");
    let node = Node::start(&world.options("data", None), &Hub::new()).expect("it starts");
    let epoch = node.epoch().to_owned();
    node.stop();
    drop(node);
    let below = world.restore("archive", "below", Target::Position(end / 2)).expect("restored");
    assert_ne!(below.history.to_string(), epoch);
    let node = Node::start(&world.options("below", Some("archive")), &Hub::new()).expect("it starts");
    bids(&node, 9_000, 5).await;
    node.read().await.expect("at the tip");
    node.stop();
    drop(node);
    let second = world.recovered("below");
    assert_ne!(first, second);
    for (history, data, expected) in
        [(epoch.as_str(), "old", &first), (below.history.to_string().as_str(), "new", &second)]
    {
        let arguments = [
            "restore",
            "--from",
            "archive",
            "--data",
            data,
            "--keys",
            "keys",
            "--to",
            "latest",
            "--history",
            history,
        ];
        let output = aside(|| world.run(&arguments));
        assert!(output.status.success(), "{}", said(&output));
        assert_eq!(&world.recovered(data), expected, "history {history}");
    }
    let nobody = "00000000-0000-4000-8000-000000000001";
    let arguments = [
        "restore",
        "--from",
        "archive",
        "--data",
        "none",
        "--keys",
        "keys",
        "--to",
        "latest",
        "--history",
        nobody,
    ];
    let output = aside(|| world.run(&arguments));
    assert!(!output.status.success() && said(&output).contains(nobody), "{}", said(&output));
}
