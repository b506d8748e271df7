//! Files that change while the program is down: the folder's description, keys, snapshots, files of the audit; and
//! segments while it runs. Whatever is changed is told with the file's name, or costs nobody anything; nothing that was
//! answered is cut, and the sound file put back cures it. (Segments of a stopped program are in `machine.rs`.)

use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::AtomicBool;
use std::sync::{Arc, Mutex};

use serde_json::Value;
use tokio::runtime::Handle;

use crate::judge::{answers, audit, end, judge, verify_log};
use crate::world::{Draws, Home, World};

/// What is done to a file's bytes. None: the file goes.
#[derive(Clone, Copy, Debug)]
enum Change {
    /// One bit, at so many 64ths of the file.
    Flip(usize),
    /// 64 bytes of noise there.
    Noise(usize),
    /// Zeros from there on.
    Zeros(usize),
    /// Cut there.
    Cut(usize),
    /// 64 bytes from elsewhere in the file.
    Moved(usize),
    /// Removed.
    Gone,
}

use Change::{Cut, Flip, Gone, Moved, Noise, Zeros};

fn changed(sound: &[u8], change: Change) -> Option<Vec<u8>> {
    let mut bytes = sound.to_vec();
    let at = |part: usize| (sound.len() * part / 64).min(sound.len().saturating_sub(1));
    let run = |from: usize| from..(from + 64).min(sound.len());
    match change {
        Flip(part) => bytes[at(part)] ^= 0x04,
        Noise(part) => {
            for (place, byte) in bytes[run(at(part))].iter_mut().enumerate() {
                *byte ^= 0x5A ^ place as u8 | 1;
            }
        }
        Zeros(part) => bytes[at(part)..].fill(0),
        Cut(part) => bytes.truncate(at(part)),
        Moved(part) => {
            let (to, from) = (run(at(part)), run(at((part + 32) % 64)));
            let len = to.len().min(from.len());
            bytes.copy_within(from.start..from.start + len, to.start);
        }
        Gone => return None,
    }
    Some(bytes)
}

fn write(path: &Path, bytes: Option<&[u8]>) {
    let done = match bytes {
        Some(bytes) => std::fs::write(path, bytes),
        None => std::fs::remove_file(path),
    };
    done.unwrap_or_else(|error| panic!("{}: {error}", path.display()));
}

/// What may not change while it refuses to start: description, keys and snapshots. (The log may: it makes its next
/// segment ready, and notes that nobody served, before the rest is looked at. It stays sound.)
fn contents(home: &Home) -> Vec<(String, Vec<u8>)> {
    let folders = ["data/snapshots", "keys", "keys/org"];
    let files = folders.into_iter().flat_map(|folder| files(home, folder, ""));
    let files = files.chain(["data/meta".to_owned()]).filter(|file| home.0.join(file).is_file());
    let read = |file: String| (file.clone(), std::fs::read(home.0.join(file)).expect("read"));
    let contents: Vec<_> = files.map(read).collect();
    let verified = home.run(&["log", "verify", "--data", "data"]).stdout;
    assert!(verified.windows(16).any(|window| window == b"\"result\":\"sound\""), "the log is sound");
    contents
}

/// What became of a change.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Found {
    /// It does not start, and says which file.
    NoStart,
    /// It serves everything, and says which file.
    Told,
    /// It serves everything, but proofs that need the file, and says which.
    NoProof,
    /// Nobody needs what was changed.
    Harmless,
}

fn check(world: &World, file: &str, change: Change, handle: &Handle) -> Result<Option<Found>, String> {
    let dir = tempfile::tempdir().map_err(|error| error.to_string())?;
    let home = world.home().copied(dir.path());
    let path = home.0.join(file);
    let before = contents(&home);
    let sound = std::fs::read(&path).map_err(|error| format!("{file}: {error}"))?;
    let bytes = changed(&sound, change);
    if bytes.as_deref() == Some(&sound) {
        return Ok(None);
    }
    write(&path, bytes.as_deref());
    // Two files of the audit that don't agree are told as the folder that both are in.
    let name = if file.contains("/audit/") { "/audit/" } else { file };
    let mut served = home.serve(&[]);
    if let Err(status) = served.ready() {
        let said = served.said();
        if status.code() != Some(1) || !said.contains(name) || !says_what_to_do(&said) {
            return Err(format!("it ended with {status}, and said: {said}"));
        }
        write(&path, Some(&sound));
        let after = contents(&home);
        if let Some(((file, _), _)) = before.iter().zip(&after).find(|(before, after)| before != after) {
            return Err(format!("it changed {file}"));
        }
        // Then the sound file cures it; that takes longer, so it is tried with the worst.
        if matches!(change, Gone | Cut(_)) {
            let mut served = home.serve(&[]);
            served.ready().map_err(|status| format!("no cure: {status}, {}", served.said()))?;
            answers(world, &served, world.ops.clone(), handle).map_err(|why| format!("no cure: {why}"))?;
            served.kill();
            verify_log(&home)?;
        }
        return Ok(Some(Found::NoStart));
    }
    answers(world, &served, world.ops.clone(), handle)?;
    end(world, &served)?;
    let proved = audit(&world.tender, &world.tokens[0], &home, &served);
    served.kill();
    verify_log(&home)?;
    let told = served.said().contains(name);
    match proved {
        Ok(()) if told => Ok(Some(Found::Told)),
        Ok(()) => Ok(Some(Found::Harmless)),
        Err(_) if told => Ok(Some(Found::NoProof)),
        Err(why) => Err(format!("{why}, and nothing was said: {}", served.said())),
    }
}

/// Whether a refusal to start ends in something that an operator can do.
fn says_what_to_do(said: &str) -> bool {
    let said = said.to_lowercase();
    ["restore", "give the", "start the program"].iter().any(|word| said.contains(word))
}

/// The segments that hold records, oldest first, and where their records end.
fn used_segments(home: &Home) -> Vec<(PathBuf, usize)> {
    let verified = home.run(&["log", "verify", "--data", "data"]);
    let lines = String::from_utf8_lossy(&verified.stdout).into_owned();
    let lines = lines.lines().map(|line| serde_json::from_str::<Value>(line).expect("JSON"));
    let segments = lines.filter_map(|line| {
        let end = line["records_end"].as_u64()? as usize;
        Some((home.data().join("log").join(line["file"].as_str()?), end))
    });
    segments.collect()
}

/// Changes a segment under the running program, at so many 64ths of its records; the program goes on, and the next start
/// tells it.
fn check_running(world: &World, part: usize, len: usize, handle: &Handle) -> Result<(), String> {
    let dir = tempfile::tempdir().map_err(|error| error.to_string())?;
    let home = world.home().copied(dir.path());
    let segments = used_segments(&home);
    // Full and durable, and young enough to stay.
    let (path, end) = segments.get(segments.len().wrapping_sub(2)).ok_or("too few segments")?;
    let (ops, dead, mut draws) = (Mutex::new(world.ops.clone()), AtomicBool::new(false), Draws(part as u64));
    let mut served = home.serve(&[]);
    served.ready().map_err(|status| format!("{status}"))?;
    world.load(served.listen, 6, &mut draws, &ops, &dead);
    let file = std::fs::OpenOptions::new().read(true).write(true).open(path).map_err(|error| error.to_string())?;
    let at = (4096 + (end - 4096) * part / 64).min(end - len);
    let mut sound = vec![0; len];
    file.read_exact_at(&mut sound, at as u64).map_err(|error| error.to_string())?;
    let changed: Vec<u8> = sound.iter().map(|byte| byte ^ 0x10).collect();
    file.write_all_at(&changed, at as u64).map_err(|error| error.to_string())?;
    world.load(served.listen, 6, &mut draws, &ops, &dead);
    served.kill();
    let ops = ops.into_inner().expect("nobody panicked");
    if ops.iter().any(|op| op.answer.is_none()) {
        return Err("it did not go on".into());
    }
    let mut served = home.serve(&[]);
    let Err(status) = served.ready() else { return Err("the next start does not see it".into()) };
    let said = served.said();
    let named = said.contains(&path.display().to_string()) && said.contains("offset");
    if status.code() != Some(1) || !named || !says_what_to_do(&said) {
        return Err(format!("it ended with {status}, and said: {said}"));
    }
    file.write_all_at(&sound, at as u64).map_err(|error| error.to_string())?;
    let mut served = home.serve(&[]);
    served.ready().map_err(|status| format!("no cure: {status}, {}", served.said()))?;
    judge(world, &home, &mut served, ops, handle).map(|_| ())
}

/// The files of a folder whose names end so, sorted.
fn files(home: &Home, folder: &str, ending: &str) -> Vec<String> {
    let entries = std::fs::read_dir(home.0.join(folder)).expect("a folder");
    let paths = entries.map(|entry| entry.expect("an entry").path());
    let mut found: Vec<String> = paths
        .filter(|path: &PathBuf| path.to_string_lossy().ends_with(ending))
        .map(|path| path.strip_prefix(&home.0).expect("below it").to_string_lossy().into_owned())
        .collect();
    found.sort();
    found
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_change_of_other_files_is_told_or_harmless() {
    let world = Arc::new(World::new().await);
    let home = world.home();
    let mut cases: Vec<(String, Change)> = Vec::new();
    let mut add = |files: Vec<String>, changes: &[Change]| {
        assert!(!files.is_empty(), "no file for {changes:?}");
        cases.extend(files.into_iter().flat_map(|file| changes.iter().map(move |change| (file.clone(), *change))));
    };
    let every: Vec<Change> = (0..64).map(Flip).collect();
    let ways = [Noise(20), Zeros(0), Zeros(40), Cut(0), Cut(50), Moved(8), Gone];
    add(vec!["data/meta".into()], &every);
    add(vec!["data/meta".into()], &ways);
    add(vec!["keys/master.key".into()], &every);
    add(vec!["keys/master.key".into()], &ways);
    let organisations = files(&home, "keys/org", ".key");
    add(organisations[..1].to_vec(), &[Flip(1), Flip(20), Flip(40), Flip(63), Zeros(8), Cut(0), Cut(50), Gone]);
    add(files(&home, "keys", ".p8"), &[Flip(0), Flip(10), Flip(30), Flip(63), Zeros(32), Cut(0), Cut(50), Gone]);
    let snapshots = files(&home, "data/snapshots", ".snap");
    add(
        snapshots,
        &[Flip(0), Flip(9), Flip(33), Flip(63), Noise(50), Zeros(16), Cut(0), Cut(60), Moved(20), Gone],
    );
    for kind in ["0000.journal", "0001.journal", "0001.nodes", "0001.roots"] {
        add(
            files(&home, "data/audit", kind),
            &[Flip(0), Flip(12), Flip(40), Noise(33), Zeros(8), Cut(0), Cut(50), Moved(9), Gone],
        );
    }
    let total = cases.len();
    let next = Arc::new(Mutex::new(cases.into_iter()));
    let (found, violations) = (Arc::new(Mutex::new(Vec::new())), Arc::new(Mutex::new(Vec::new())));
    let worker = || {
        let (world, handle, next) = (Arc::clone(&world), Handle::current(), Arc::clone(&next));
        let (found, violations) = (Arc::clone(&found), Arc::clone(&violations));
        std::thread::spawn(move || {
            loop {
                let Some((file, change)) = next.lock().expect("nobody panicked").next() else { return };
                match check(&world, &file, change, &handle) {
                    Ok(what) => found.lock().expect("nobody panicked").push((file, what)),
                    Err(why) => {
                        violations.lock().expect("nobody panicked").push(format!("{file} {change:?}: {why:.600}"));
                    }
                }
            }
        })
    };
    let workers = [worker(), worker()];
    tokio::task::spawn_blocking(|| workers.into_iter().for_each(|worker| worker.join().expect("it ends")))
        .await
        .expect("it ends");
    let (found, violations) =
        (found.lock().expect("nobody panicked"), violations.lock().expect("nobody panicked"));
    let mut counts = std::collections::BTreeMap::new();
    for (file, what) in found.iter() {
        *counts.entry((file.as_str(), *what)).or_insert(0) += 1;
    }
    for ((file, what), count) in &counts {
        println!("{file}: {count} {what:?}");
    }
    println!("{total} changes, violations {}", violations.len());
    assert!(violations.is_empty(), "{}", violations.join("\n\n"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_segment_that_changes_under_the_running_program_is_told_by_the_next_start() {
    let world = Arc::new(World::new().await);
    let handle = Handle::current();
    let changes = [(0, 1), (9, 1), (21, 64), (33, 1), (48, 700), (63, 1)];
    let checked = tokio::task::spawn_blocking(move || {
        // Not on a thread of the runtime: the judge waits for sockets there.
        let all = move || changes.map(|(part, len)| check_running(&world, part, len, &handle));
        std::thread::spawn(all).join().expect("it ends")
    });
    let found = checked.await.expect("it ends");
    let violations: Vec<&String> = found.iter().filter_map(|found| found.as_ref().err()).collect();
    println!("{} changes under the running program, violations {}", found.len(), violations.len());
    assert!(violations.is_empty(), "{violations:#?}");
}
