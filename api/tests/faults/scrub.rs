//! Damage under the running program: the scrub tells it by line and metric, answers go on, and the next start does not
//! need what was damaged. A scrub that is cut off harms nothing.

use std::os::unix::fs::FileExt;
use std::path::PathBuf;
use std::sync::atomic::AtomicBool;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use rustix::process::Signal;
use serde_json::Value;
use tokio::runtime::Handle;

use crate::judge::judge;
use crate::world::{Draws, Home, Served, World};

/// Long enough for a slow machine; passes come every second.
const PATIENCE: Duration = Duration::from_secs(60);

fn wait_for(what: &str, served: &Served, holds: impl Fn() -> bool) -> Result<(), String> {
    let began = Instant::now();
    while !holds() {
        if began.elapsed() > PATIENCE {
            return Err(format!("{what} never came; said: {}", served.said()));
        }
        std::thread::sleep(Duration::from_millis(20));
    }
    Ok(())
}

/// The newest segment behind which another was begun, and where its records end.
fn newest_closed(home: &Home) -> Option<(PathBuf, usize)> {
    let verified = home.run(&["log", "verify", "--data", "data"]);
    let lines = String::from_utf8_lossy(&verified.stdout).into_owned();
    let lines = lines.lines().map(|line| serde_json::from_str::<Value>(line).expect("JSON"));
    let used: Vec<_> = lines
        .filter_map(|line| Some((line["file"].as_str()?.to_owned(), line["records_end"].as_u64()? as usize)))
        .collect();
    let (file, end) = used.get(used.len().checked_sub(2)?)?;
    Some((home.data().join("log").join(file), *end))
}

fn flip(path: &PathBuf, at: u64) -> Result<(), String> {
    let file = std::fs::OpenOptions::new().read(true).write(true).open(path).map_err(|error| error.to_string())?;
    let mut byte = [0];
    file.read_exact_at(&mut byte, at).map_err(|error| error.to_string())?;
    file.write_all_at(&[byte[0] ^ 0x10], at).map_err(|error| error.to_string())
}

/// Flips a bit at so many 64ths of the records of a closed segment; answers how many requests were answered meanwhile.
fn damaged_while_it_runs(world: &World, part: usize, handle: &Handle) -> Result<usize, String> {
    let dir = tempfile::tempdir().map_err(|error| error.to_string())?;
    let home = world.home().copied(dir.path());
    let (ops, dead, mut draws) = (Mutex::new(world.ops.clone()), AtomicBool::new(false), Draws(part as u64));
    let mut served = home.serve(&[("RT_SCRUB_PERIOD_S", "1".into())]);
    served.ready().map_err(|status| format!("{status}"))?;
    let metric = |name: &str| served.metric(name).unwrap_or(f64::NAN);
    wait_for("a pass", &served, || metric("rt_scrub_passes_total") >= 1.0)?;
    if metric("rt_scrub_corruptions_total") != 0.0 || metric("rt_scrub_bytes_total") < 65_536.0 {
        return Err(format!("a sound log is not: {}", served.said()));
    }
    if !served.ready_lines().contains("[+] scrub: last pass finished 20") {
        return Err(format!("not told: {}", served.ready_lines()));
    }
    let (path, end) = newest_closed(&home).ok_or("too few segments")?;
    let at = (4096 + (end - 4096) * part / 64).min(end - 1) as u64;
    flip(&path, at)?;
    wait_for("the damage", &served, || metric("rt_scrub_corruptions_total") >= 1.0)?;
    let told = path.display().to_string();
    wait_for("the line", &served, || served.said().contains("Damage found: "))?;
    let said = served.said();
    let line = said.lines().find(|line| line.contains("Damage found: ")).ok_or("no line")?;
    for word in [&*told, "\"ERROR\"", "offset ", "expected ", ", found ", "Look for the device"] {
        if !line.contains(word) {
            return Err(format!("it lacks {word}: {line}"));
        }
    }
    let lines = served.ready_lines();
    if !lines.contains("[!] scrub") || !lines.contains(&told) || !lines.ends_with("ready\n") {
        return Err(format!("not told: {lines}"));
    }
    // Answers go on; two snapshots come, and nothing needs the segment any more.
    world.load(served.listen, 10, &mut draws, &ops, &dead);
    let aside = path.with_extension("seg.bad");
    wait_for("the file aside", &served, || aside.exists() && !path.exists())?;
    let ops = ops.into_inner().expect("nobody panicked");
    if let Some(op) = ops.iter().find(|op| op.answer.is_none()) {
        return Err(format!("it did not go on: {op:?}"));
    }
    if metric("rt_snapshots_total") < 1.0 || served.ended().is_some() {
        return Err(format!("no snapshots: {}", served.said()));
    }
    served.kill();
    let mut served = home.serve(&[]);
    served.ready().map_err(|status| format!("the next start needs it: {status}, {}", served.said()))?;
    let looked = judge(world, &home, &mut served, ops, handle)?;
    Ok(looked.answered)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn damage_under_the_running_program_is_told_and_costs_nothing() {
    let world = Arc::new(World::new().await);
    let handle = Handle::current();
    let all = move || [0, 17, 40, 63].map(|part| damaged_while_it_runs(&world, part, &handle));
    let found = tokio::task::spawn_blocking(move || std::thread::spawn(all).join().expect("it ends"));
    let found = found.await.expect("it ends");
    let violations: Vec<&String> = found.iter().filter_map(|found| found.as_ref().err()).collect();
    println!("{} bits flipped under the running program, violations {}", found.len(), violations.len());
    assert!(violations.is_empty(), "{violations:#?}");
    assert!(found.iter().flatten().all(|answered| *answered > 100), "{found:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_scrub_that_is_cut_off_holds_nothing_up() {
    let world = World::new().await;
    let handle = Handle::current();
    let checked = tokio::task::spawn_blocking(move || {
        let check = move || -> Result<(), String> {
            let dir = tempfile::tempdir().map_err(|error| error.to_string())?;
            let home = world.home().copied(dir.path());
            // So slow that a pass never ends.
            let slow = [("RT_SCRUB_PERIOD_S", "1".into()), ("RT_SCRUB_BYTES_PER_S", "65536".into())];
            for asked in [true, false] {
                let mut served = home.serve(&slow);
                served.ready().map_err(|status| format!("{status}"))?;
                let metric = |name: &str| served.metric(name).unwrap_or(f64::NAN);
                wait_for("a byte", &served, || metric("rt_scrub_bytes_total") >= 1.0)?;
                if metric("rt_scrub_passes_total") != 0.0 {
                    return Err("it was not in a pass".into());
                }
                if asked {
                    served.signal(Signal::TERM);
                    let ended = served.ends_within(PATIENCE).and_then(|status| status.code());
                    if ended != Some(0) || served.said().contains("scrub") {
                        return Err(format!("it ended with {ended:?}, and said: {}", served.said()));
                    }
                }
                served.kill();
            }
            let mut served = home.serve(&[]);
            served.ready().map_err(|status| format!("{status}"))?;
            judge(&world, &home, &mut served, world.ops.clone(), &handle).map(|_| ())
        };
        std::thread::spawn(check).join().expect("it ends")
    });
    checked.await.expect("it ends").unwrap_or_else(|why| panic!("{why}"));
}
