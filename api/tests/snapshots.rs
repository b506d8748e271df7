//! Snapshots of a running node: the core goes on while one is written and loaded by a second process; one that can't be
//! loaded is put aside; and whatever happens to the newest, the older one and a longer replay give the same state.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use api::feed::Hub;
use api::node::{Node, NodeOptions};
use engine::{
    AccountAction, Action, Command as EngineCommand, Envelope, Key, OrganisationId, OrganisationKind, RequestId,
    Secret, UserId,
};
use persistence::Seal;

const PROGRAM: &str = env!("CARGO_BIN_EXE_reversetender");

fn options(dir: &Path, every: u64, seal: Seal) -> NodeOptions {
    NodeOptions {
        shards: 2,
        segment_bytes: 64 << 10,
        snapshot_bytes: every,
        seal,
        verifier: Some(PROGRAM.into()),
        ..NodeOptions::new(dir.join("data"), dir.join("keys"))
    }
}

fn start(options: &NodeOptions) -> Node {
    Node::start(options, &Hub::new()).expect("the node starts")
}

fn person(n: u128) -> EngineCommand {
    let organisation = OrganisationId(n % 50 + 1);
    let action = AccountAction::Register {
        user: UserId(n),
        organisation: OrganisationId(n << 64),
        organisation_name: format!("Parts {n}"),
        kind: OrganisationKind::Both,
    };
    let (email, name) = (format!("p{n}@parts.example"), format!("Person {n}"));
    let key = Some(Key { scoped: n, body: 1 });
    EngineCommand {
        envelope: Envelope { request: RequestId(n), key, ..Envelope::default() },
        action: Action::Account(action),
        secret: Some(Secret::Person { organisation, email, name, password: "$argon2id$".into() }),
    }
}

/// Registers people until `done`, one after another; answers how many.
async fn busy(node: &Node, from: u128, mut done: impl FnMut() -> bool) -> u128 {
    let mut n = from;
    let began = Instant::now();
    while !done() {
        assert!(began.elapsed() < Duration::from_secs(60), "no snapshot: {:?}", node.snapshots());
        node.submit(node.stamp(), person(n)).await.expect("taken");
        n += 1;
    }
    n
}

fn files(options: &NodeOptions, ending: &str) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(options.data.join("snapshots")).expect("a folder");
    let mut files: Vec<PathBuf> = entries.map(|entry| entry.expect("an entry").path()).collect();
    files.retain(|path| path.to_string_lossy().ends_with(ending));
    files.sort();
    files
}

fn verify(file: &Path, options: &NodeOptions) -> (Option<i32>, String) {
    let mut command = Command::new(PROGRAM);
    command.args(["snapshot", "verify"]).arg(file).arg("--keys").arg(&options.keys);
    let output = command.output().expect("it runs");
    (output.status.code(), String::from_utf8_lossy(&output.stdout).into_owned())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_core_goes_on_and_every_damaged_snapshot_is_stepped_over() {
    for seal in [Seal::Secrets, Seal::All] {
        let dir = tempfile::tempdir().expect("a folder");
        let options = options(dir.path(), 30_000, seal);
        let node = start(&options);
        let next = busy(&node, 1, || node.snapshots().written() >= 3).await;
        let meanwhile = node.snapshots().entries_meanwhile();
        println!("{seal:?}: {meanwhile} entries were applied between the beginning and the end of a snapshot");
        assert!(meanwhile >= 10, "the core waited for the snapshot: {meanwhile}");
        // Not in the snapshot.
        let last = busy(&node, next, {
            let mut left = 20;
            move || {
                left -= 1;
                left == 0
            }
        })
        .await;
        assert!(last > next);
        node.stop();
        let expected = node.state_hashes()[0];
        drop(node);
        let kept = files(&options, ".snap");
        assert_eq!(kept.len(), 2, "{kept:?}");
        for file in &kept {
            let (status, said) = verify(file, &options);
            assert!(
                status == Some(0) && said.lines().count() == 3 && said.contains("\"state\":"),
                "{status:?} {said}"
            );
        }
        let newest = kept[1].clone();
        let sound = std::fs::read(&newest).expect("read");
        type Damage = fn(&Path, &[u8]);
        let cases: [(&str, Damage); 5] = [
            ("corrupt", |path, bytes| {
                let mut bytes = bytes.to_vec();
                let middle = bytes.len() / 2;
                bytes[middle] ^= 4;
                std::fs::write(path, bytes).expect("written");
            }),
            ("missing", |path, _| std::fs::remove_file(path).expect("removed")),
            ("from the future", |path, bytes| {
                let mut bytes = bytes.to_vec();
                bytes[8] = 99;
                std::fs::write(path, bytes).expect("written");
            }),
            ("half-written", |path, bytes| std::fs::write(path, &bytes[..bytes.len() / 2]).expect("written")),
            ("not renamed yet", |path, bytes| {
                let aside = path.with_extension("snap.tmp");
                std::fs::write(aside, &bytes[..bytes.len() / 3]).expect("written");
                std::fs::remove_file(path).expect("removed");
            }),
        ];
        for (name, damage) in cases {
            let copy = tempfile::tempdir().expect("a folder");
            let status = Command::new("cp").arg("-r").arg(dir.path()).arg(copy.path().join("c")).status();
            assert!(status.expect("copied").success());
            let copied = self::options(&copy.path().join("c"), u64::MAX, seal);
            let path = copied.data.join("snapshots").join(newest.file_name().expect("a name"));
            damage(&path, &sound);
            if path.exists() {
                let (status, said) = verify(&path, &copied);
                assert!(matches!(status, Some(2)), "{name}: {status:?} {said}");
            }
            let began = Instant::now();
            let node = start(&copied);
            println!("{seal:?}, {name}: started after {} ms", began.elapsed().as_millis());
            assert_eq!(node.state_hashes()[0], expected, "{name}");
            node.stop();
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_snapshot_that_does_not_verify_is_put_aside_and_the_older_one_kept() {
    let dir = tempfile::tempdir().expect("a folder");
    let mut options = options(dir.path(), 30_000, Seal::Secrets);
    let node = start(&options);
    let next = busy(&node, 1, || node.snapshots().written() >= 1).await;
    node.stop();
    drop(node);
    let kept = files(&options, ".snap");
    // A program that can't load anything.
    options.verifier = Some("/bin/false".into());
    let node = start(&options);
    busy(&node, next, || node.snapshots().failed() >= 2).await;
    node.stop();
    assert_eq!((node.snapshots().written(), files(&options, ".snap")), (0, kept));
    assert_eq!(files(&options, ".bad").len(), 1, "the newest is kept to be looked at");
    let expected = node.state_hashes()[0];
    drop(node);
    options.verifier = Some(PROGRAM.into());
    let node = start(&options);
    assert_eq!(node.state_hashes()[0], expected);
    node.stop();
}
