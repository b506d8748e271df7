//! Archives that are not whole: an object missing or with a flipped bit, a backup stopped half-way, a full target, the
//! wrong cluster, the wrong keys. Each is found, and the message names what is wrong.

use std::path::Path;
use std::process::Command as Process;
use std::sync::Mutex;

use persistence::archive::{Part, Progress, Restore, Target};
use persistence::{RealDisk, system_random};

use crate::drill::history;
use crate::world::{World, aside, objects};

/// Keeps the notes.
#[derive(Default)]
struct Notes(Mutex<String>);

impl Progress for Notes {
    fn begin(&self, _: Part, _: u64) {}
    fn advance(&self, _: u64) {}
    fn note(&self, text: &str) {
        self.0.lock().expect("the notes").push_str(text);
    }
}

/// Restores everything; what the program says of it, and whether it was restored.
fn attempt(world: &World, data: &str) -> (bool, String) {
    let restore = Restore {
        store: world.store("archive"),
        disk: std::sync::Arc::new(RealDisk),
        dir: world.path(data),
        keys_dir: world.path("keys"),
        master: None,
        target: Target::Latest,
        history: None,
        new_history: false,
        random: system_random,
    };
    let notes = Notes::default();
    let restored = aside(|| restore.run(&notes));
    let mut said = notes.0.into_inner().expect("the notes");
    if let Err(error) = &restored {
        said.push_str(&error.to_string());
    }
    (restored.is_ok(), said)
}

/// The name up to its place in the file: what can be said of an object that is not there.
fn place_of(name: &str) -> &str {
    match name.rfind('/') {
        Some(slash) if name[slash..].contains('-') && !name.starts_with("tip") => {
            &name[..slash + name[slash..].find('-').unwrap_or(0)]
        }
        _ => name.split('/').next().unwrap_or(name),
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_missing_and_every_damaged_object_is_named_or_not_needed() {
    let world = World::new();
    history(&world, "data", "archive").await;
    let state = world.recovered("data");
    let all = objects(&world.path("archive"));
    let mut named = [0; 2];
    let (mut skipped, mut tried) = (0, 0);
    for (number, (name, path)) in all.iter().enumerate() {
        // Of the many small files of the audit some will do.
        if name.starts_with("audit/") && number % 7 != 0 {
            skipped += 1;
            continue;
        }
        tried += 1;
        let bytes = std::fs::read(path).expect("an object");
        for (kind, count) in named.iter_mut().enumerate() {
            if kind == 0 {
                std::fs::remove_file(path).expect("removed");
            } else {
                let mut bad = bytes.clone();
                let bit = (number * 7_919) % (bad.len() * 8);
                bad[bit / 8] ^= 1 << (bit % 8);
                std::fs::write(path, bad).expect("written");
            }
            let data = format!("restored-{number}-{kind}");
            let (is_restored, said) = attempt(&world, &data);
            if said.is_empty() {
                assert_eq!(world.recovered(&data), state, "{name} was not needed, and not missed");
            } else {
                assert!(said.contains(place_of(name)), "{name} (case {kind}) is not named: {said}");
                *count += 1;
            }
            if is_restored {
                assert_eq!(world.recovered(&data), state, "{name}, case {kind}");
            } else {
                assert!(!world.path(&data).join("meta").exists(), "a folder that is not whole can't be started");
            }
            std::fs::remove_dir_all(world.path(&data)).unwrap_or(());
            std::fs::write(path, &bytes).expect("written");
        }
    }
    println!(
        "{tried} objects tried, {skipped} of the audit left out; named: missing {}, damaged {}",
        named[0], named[1]
    );
    assert!(named[0] > 5 && named[1] > 5, "{named:?} of {tried}");
    assert!(attempt(&world, "sound").0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_backup_that_was_stopped_goes_on() {
    let world = World::new();
    history(&world, "data", "archive").await;
    let state = world.recovered("data");
    let backup = ["backup", "--data", "data", "--keys", "keys", "--to", "copy"];
    let restore = ["restore", "--from", "copy", "--data", "made", "--keys", "keys"];

    let nothing = world.run(&restore);
    assert_eq!(nothing.status.code(), Some(2), "no archive there");
    // Killed wherever it is; then nothing says that it is whole.
    let mut halves = 0;
    for after_ms in [2, 5, 9, 14, 20] {
        let mut command = Process::new(env!("CARGO_BIN_EXE_reversetender"));
        let mut child = command.current_dir(world.dir.path()).args(backup).spawn().expect("it runs");
        std::thread::sleep(std::time::Duration::from_millis(after_ms));
        child.kill().expect("killed");
        child.wait().expect("reaped");
        let half = world.run(&restore);
        let said = String::from_utf8_lossy(&half.stderr).into_owned();
        if half.status.success() {
            break;
        }
        halves += 1;
        assert!(said.contains("about") || said.contains("tip") || said.contains("no such folder"), "{said}");
        assert!(!world.path("made/meta").exists());
    }
    assert!(halves > 0, "none was killed half-way");
    let whole = world.run(&backup);
    assert!(whole.status.success(), "{}", String::from_utf8_lossy(&whole.stderr));
    let again = world.run(&backup);
    assert!(String::from_utf8_lossy(&again.stdout).contains("stored 0 objects"), "only what is new is stored");
    if !world.path("made/meta").exists() {
        let made = world.run(&restore);
        assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
    }
    assert_eq!(world.recovered("made"), state);
    let full = world.run(&restore);
    assert_eq!(full.status.code(), Some(2), "the folder is not empty");
    assert!(!objects(&world.path("copy")).keys().any(|name| name.contains("master")), "keys are not in it");

    // A piece whose name is taken by other bytes: the snapshot is shipped once more, and does not go over it.
    std::fs::remove_dir_all(world.path("copy/mark")).expect("removed");
    let all = objects(&world.path("copy"));
    let (name, path) = all.iter().rfind(|(name, _)| name.starts_with("snap/")).expect("a snapshot");
    let mut bytes = std::fs::read(path).expect("an object");
    bytes[100] ^= 1;
    std::fs::write(path, &bytes).expect("written");
    let conflict = world.run(&backup);
    let said = String::from_utf8_lossy(&conflict.stderr).into_owned();
    assert_eq!(conflict.status.code(), Some(3), "{said}");
    assert!(said.contains(name) && said.contains("other bytes"), "{said}");
    assert_eq!(std::fs::read(path).expect("an object"), bytes, "nothing was changed");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn another_cluster_and_other_keys_are_refused() {
    let world = World::new();
    history(&world, "data", "archive").await;
    let other = World::new();
    history(&other, "data", "elsewhere").await;
    let archive = world.path("archive").display().to_string();

    let foreign = other.run(&["backup", "--data", "data", "--keys", "keys", "--to", &archive]);
    let said = String::from_utf8_lossy(&foreign.stderr).into_owned();
    assert_eq!(foreign.status.code(), Some(2), "{said}");
    assert!(said.contains("another cluster") && said.contains("about"), "{said}");

    for (keys, words) in [("keys", "master key is not the one"), ("nowhere", "the key is missing")] {
        let wrong = other.run(&["restore", "--from", &archive, "--data", "made", "--keys", keys]);
        let said = String::from_utf8_lossy(&wrong.stderr).into_owned();
        assert_eq!(wrong.status.code(), Some(2), "{said}");
        assert!(said.contains(words) && said.contains("--keys"), "{said}");
        assert!(!other.path("made/meta").exists());
    }
    for (option, value) in [("--to", "yesterday"), ("--history", "x"), ("--from", "ftp://x")] {
        let mut arguments = vec!["restore", "--data", "made", "--keys", "keys", option, value];
        if option != "--from" {
            arguments.extend(["--from", &archive]);
        }
        let wrong = world.run(&arguments);
        let said = String::from_utf8_lossy(&wrong.stderr).into_owned();
        assert_eq!(wrong.status.code(), Some(2), "{said}");
        assert!(said.contains(option) && said.contains(value) && said.contains("valid: "), "{said}");
    }
}

/// A file system of `kib`, unmounted when dropped. None where it can't be mounted.
pub struct Mounted<'a>(&'a Path);

impl<'a> Mounted<'a> {
    pub fn new(dir: &'a Path, kib: u32) -> Option<Self> {
        std::fs::create_dir_all(dir).expect("made");
        let options = format!("size={kib}k");
        let mount = Process::new("mount").args(["-t", "tmpfs", "-o", &options, "tmpfs"]).arg(dir).output().ok()?;
        mount.status.success().then_some(Self(dir))
    }

    pub fn grow(&self, kib: u32) {
        let options = format!("remount,size={kib}k");
        let grown = Process::new("mount").args(["-o", &options]).arg(self.0).status();
        assert!(grown.is_ok_and(|status| status.success()), "the file system grows");
    }
}

impl Drop for Mounted<'_> {
    fn drop(&mut self) {
        let unmounted = Process::new("umount").arg("-l").arg(self.0).status();
        assert!(unmounted.is_ok_and(|status| status.success()), "the file system of the test stays mounted");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_full_target_is_told_and_the_rest_is_stored_when_it_has_room() {
    let world = World::new();
    history(&world, "data", "archive").await;
    let target = world.path("full");
    let Some(mounted) = Mounted::new(&target, 120) else {
        println!("skipped: tmpfs (a file system cannot be mounted by this user on this machine)");
        return;
    };
    let backup = ["backup", "--data", "data", "--keys", "keys", "--to", "full"];
    let full = world.run(&backup);
    let said = String::from_utf8_lossy(&full.stderr).into_owned();
    assert_eq!(full.status.code(), Some(1), "{said}");
    assert!(said.contains("object ") && said.contains("No space left"), "{said}");
    mounted.grow(64 << 10);
    let whole = world.run(&backup);
    assert!(whole.status.success(), "{}", String::from_utf8_lossy(&whole.stderr));
    world.restore("full", "made", Target::Latest).expect("restored");
    assert_eq!(world.recovered("made"), world.recovered("data"));
    drop(mounted);
}
