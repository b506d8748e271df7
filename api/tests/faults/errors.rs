//! Calls to the disk that fail with EIO, ENOSPC or EMFILE, once or for ever: which of them end the process, which are told to
//! clients, and which cost nobody anything. Whatever it is, nothing answered is lost, and a sound disk cures it.

use std::sync::atomic::AtomicBool;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::runtime::Handle;

use crate::judge::judge;
use crate::world::{Draws, Home, Op, World};

/// What a failing call comes to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Effect {
    /// The process ends with status 70 (1 while it starts) and answers nobody for what was under way; nobody is refused.
    Ends,
    /// Everything is taken, as if nothing had happened.
    Nothing,
    /// Commands are answered 503 `read_only`, reads go on, and nothing that was refused is there afterwards.
    ReadOnly,
    /// Perhaps some commands are answered 503 `read_only`, and then everything is taken again without a restart.
    Passes,
    /// It does not start: status 1, and the message names the file.
    NoStart,
}

use Effect::{Ends, NoStart, Nothing, Passes, ReadOnly};

/// Call, part of the path, which of these calls (since the start, or since it `served`), error, and what it comes to.
type Case = (&'static str, &'static str, &'static str, &'static str, Effect);

const CASES: &[Case] = &[
    // Records: what was not written or synced may be lost whatever a later sync says.
    ("write", ".seg", "1", "EIO", Ends),
    ("write", ".seg", "9", "EIO", Ends),
    ("write", ".seg", "9+", "EIO", Ends),
    ("write", ".seg", "9", "ENOSPC", Ends),
    ("write", ".seg", "9+", "ENOSPC", Ends),
    ("sync_data", ".seg", "9", "EIO", Ends),
    ("sync_data", ".seg", "9+", "EIO", Ends),
    ("sync_data", ".seg", "9", "ENOSPC", Ends),
    ("sync_data", ".seg", "9+", "ENOSPC", Ends),
    // A segment that is being made: space may come, a failing disk doesn't get better.
    ("create", ".new", "1", "EIO", Ends),
    ("create", ".new", "1", "ENOSPC", Passes),
    ("create", ".new", "1+", "ENOSPC", ReadOnly),
    ("create", ".new", "1", "EMFILE", Passes),
    ("create", ".new", "1+", "EMFILE", ReadOnly),
    ("write", ".new", "1", "EIO", Ends),
    ("write", ".new", "2", "ENOSPC", Passes),
    ("write", ".new", "1+", "ENOSPC", ReadOnly),
    ("sync_all", ".new", "1", "EIO", Ends),
    ("sync_all", ".new", "1", "ENOSPC", Passes),
    ("sync_all", ".new", "1+", "ENOSPC", ReadOnly),
    ("rename", ".seg", "1", "EIO", Ends),
    ("rename", ".seg", "1+", "ENOSPC", ReadOnly),
    ("sync_dir", "/data/log", "2", "EIO", Ends),
    ("sync_dir", "/data/log", "2+", "ENOSPC", Ends),
    // A folder that can't be opened was not synced and failed to be: that is tried again.
    ("sync_dir", "/data/log", "2", "EMFILE", Passes),
    ("sync_dir", "/data/log", "2+", "EMFILE", ReadOnly),
    // A snapshot: the one before it and the log give the same state.
    ("create", "/snapshots/", "1", "EIO", Nothing),
    ("create", "/snapshots/", "1+", "ENOSPC", Nothing),
    ("create", "/snapshots/", "1+", "EMFILE", Nothing),
    ("sync_dir", "/snapshots", "2+", "EMFILE", Nothing),
    ("write", "/snapshots/", "1", "EIO", Nothing),
    ("write", "/snapshots/", "1+", "ENOSPC", Nothing),
    ("sync_all", "/snapshots/", "1+", "EIO", Nothing),
    ("rename", "/snapshots/", "1+", "EIO", Nothing),
    ("sync_dir", "/snapshots", "2+", "EIO", Nothing),
    // The audit: made again from the log by the next start.
    ("write", "/audit/", "served 3", "EIO", Nothing),
    ("write", "/audit/", "served 3+", "EIO", Nothing),
    ("write", "/audit/", "served 3", "ENOSPC", Nothing),
    ("write", "/audit/", "served 3+", "ENOSPC", Nothing),
    ("sync_data", "/audit/", "1", "EIO", Nothing),
    ("sync_data", "/audit/", "1+", "EIO", Nothing),
    // What a start needs.
    ("sync_dir", "/keys", "1", "EIO", NoStart),
    ("sync_dir", "/data/log", "1", "EIO", NoStart),
    ("sync_dir", "/data/log", "1", "EMFILE", NoStart),
    ("sync_data", ".seg", "1", "EIO", NoStart),
    ("write", "/audit/", "1", "EIO", NoStart),
    ("write", "/audit/", "1+", "ENOSPC", NoStart),
];

/// The same on an empty folder, where the files of a first start are made.
const FIRST: &[Case] = &[
    ("create", "/data/meta", "1", "EIO", NoStart),
    ("write", "/data/meta", "1", "ENOSPC", NoStart),
    ("sync_all", "/data/meta", "1", "EIO", NoStart),
    ("rename", "/data/meta", "1", "EIO", NoStart),
    ("create", "master.key", "1", "ENOSPC", NoStart),
    ("write", "master.key", "1", "EIO", NoStart),
    ("rename", "master.key", "1", "ENOSPC", NoStart),
    ("write", "token.p8", "1", "ENOSPC", NoStart),
    ("sync_all", "audit.p8", "1", "EIO", NoStart),
    ("create", "/log/", "1", "EIO", NoStart),
    ("create", "/audit/", "1", "ENOSPC", NoStart),
];

/// Requests of one case: enough for two segments and a snapshot.
const LOAD: usize = 45;

fn environment((call, name, when, error, _): &Case, before: u64) -> [(&'static str, String); 1] {
    let Some(when) = when.strip_prefix("served ") else {
        return [("RT_TEST_FAIL_AT", format!("{call}:{name}:{when}:{error}"))];
    };
    let for_ever = if when.ends_with('+') { "+" } else { "" };
    let at: u64 = when.trim_end_matches('+').parse().expect("a number");
    [("RT_TEST_FAIL_AT", format!("{call}:{name}:{}{for_ever}:{error}", before + at))]
}

/// How many such calls a start on the world makes.
fn in_start(world: &World, (call, name, ..): &Case) -> u64 {
    let dir = tempfile::tempdir().expect("a folder");
    let mut served = world.home().copied(dir.path()).serve(&[]);
    served.ready().expect("a sound machine");
    served.number_of(call, name)
}

fn not_started(home: &Home, case: &Case) -> Result<(), String> {
    let mut served = home.serve(&environment(case, 0));
    let Err(status) = served.ready() else { return Err("it started".into()) };
    let said = served.said();
    if status.code() != Some(1) || !said.contains(case.1.trim_matches('/')) {
        return Err(format!("it ended with {status}, and said: {said}"));
    }
    Ok(())
}

/// One case on a copy of the world; what does not hold, if anything.
fn check(world: &World, case: &Case, handle: &Handle) -> Result<(), String> {
    let dir = tempfile::tempdir().map_err(|error| error.to_string())?;
    let home = world.home().copied(dir.path());
    let ops: Mutex<Vec<Op>> = Mutex::new(world.ops.clone());
    let effect = case.4;
    if effect == NoStart {
        not_started(&home, case)?;
    } else {
        let before = if case.2.starts_with("served") { in_start(world, case) } else { 0 };
        let mut served = home.serve(&environment(case, before));
        let ready = served.ready();
        let ended = match ready {
            Err(status) => Some(status),
            Ok(()) => {
                let (dead, mut draws) = (AtomicBool::new(false), Draws(7));
                // The second burst finds what became of the first.
                for _ in 0..2 {
                    world.load(served.listen, LOAD, &mut draws, &ops, &dead);
                    if served.ends_within(Duration::from_millis(500)).is_some() {
                        break;
                    }
                }
                served.ended()
            }
        };
        if !served.counts().contains_key("failed") {
            return Err(format!("no call failed: {:?}", served.counts()));
        }
        let refused: Vec<_> =
            ops.lock().expect("nobody panicked").iter().filter_map(|op| op.refused.clone()).collect();
        if refused.iter().any(|(status, code)| (*status, code.as_str()) != (503, "read_only")) {
            return Err(format!("refused otherwise than as read-only: {refused:?}"));
        }
        let last_taken = ops.lock().expect("nobody panicked").iter().rev().take(3).all(|op| op.answer.is_some());
        let holds = match effect {
            Ends => {
                let code = ended.and_then(|status| status.code());
                // The world may have no segment ready: then the call comes while the start makes one.
                (code == Some(70) || code == Some(1) && ready.is_err()) && refused.is_empty()
            }
            Nothing => ended.is_none() && refused.is_empty() && last_taken,
            Passes => ended.is_none() && last_taken,
            ReadOnly => ended.is_none() && !refused.is_empty(),
            NoStart => false,
        };
        if !holds {
            return Err(format!("ended {ended:?}, {} refused, said {}", refused.len(), served.said()));
        }
        let reads = || served.status(&format!("/v1/tenders/{}", world.tender), &world.tokens[0]);
        if ended.is_none() && reads() != Some(200) {
            return Err("reads don't go on".into());
        }
        served.kill();
    }
    let mut served = home.serve(&[]);
    if let Err(status) = served.ready() {
        return Err(format!("a sound disk does not cure it: {status}, {}", served.said()));
    }
    let ops = ops.into_inner().expect("nobody panicked");
    judge(world, &home, &mut served, ops, handle).map(|_| ())
}

/// One case of a first start.
fn check_first(case: &Case) -> Result<(), String> {
    let dir = tempfile::tempdir().map_err(|error| error.to_string())?;
    let home = Home(dir.path().to_owned());
    not_started(&home, case)?;
    let mut served = home.serve(&[]);
    served.ready().map_err(|status| format!("a sound disk does not cure it: {status}, {}", served.said()))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn each_call_that_fails_has_the_effect_that_it_should_have() {
    let world = Arc::new(World::new().await);
    let handle = Handle::current();
    let next = Arc::new(Mutex::new(CASES.iter().chain(FIRST).enumerate()));
    let violations = Arc::new(Mutex::new(Vec::new()));
    let worker = || {
        let (world, handle) = (Arc::clone(&world), handle.clone());
        let (next, violations) = (Arc::clone(&next), Arc::clone(&violations));
        std::thread::spawn(move || {
            loop {
                let Some((number, case)) = next.lock().expect("nobody panicked").next() else { return };
                let found = if number < CASES.len() { check(&world, case, &handle) } else { check_first(case) };
                if let Err(why) = found {
                    violations.lock().expect("nobody panicked").push(format!("{case:?}: {why}"));
                }
            }
        })
    };
    let workers = [worker(), worker()];
    tokio::task::spawn_blocking(|| workers.into_iter().for_each(|worker| worker.join().expect("it ends")))
        .await
        .expect("it ends");
    let violations = violations.lock().expect("nobody panicked");
    println!("{} injections, violations {}", CASES.len() + FIRST.len(), violations.len());
    assert!(violations.is_empty(), "{}", violations.join("\n\n"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn writes_that_are_cut_short_or_interrupted_lose_nothing() {
    let world = Arc::new(World::new().await);
    let handle = Handle::current();
    let checked = tokio::task::spawn_blocking(move || {
        std::thread::spawn(move || {
            let mut short = 0;
            for seed in 1..=4 {
                let dir = tempfile::tempdir().expect("a folder");
                let home = world.home().copied(dir.path());
                let (ops, dead) = (Mutex::new(world.ops.clone()), AtomicBool::new(false));
                // The second life recovers from the first under the same fault.
                for _ in 0..2 {
                    let mut served = home.serve(&[("RT_TEST_SHORT_WRITES", seed.to_string())]);
                    served.ready().unwrap_or_else(|status| panic!("{status}: {}", home.said()));
                    world.load(served.listen, LOAD, &mut Draws(seed), &ops, &dead);
                    short += served.counts()["short"];
                    served.kill();
                }
                let ops = ops.into_inner().expect("nobody panicked");
                assert!(ops.iter().all(|op| op.answer.is_some()), "everything is taken");
                let mut served = home.serve(&[]);
                served.ready().expect("it starts");
                judge(&world, &home, &mut served, ops, &handle).unwrap_or_else(|why| panic!("seed {seed}: {why}"));
            }
            short
        })
        .join()
    });
    let short = checked.await.expect("it ends").expect("nothing is lost");
    println!("{short} writes cut short or interrupted, violations 0");
    assert!(short > 100, "the test tried too little");
}
