//! The replay of a start: snapshot and log become the shards again.
//!
//! Shards know nothing of each other, so where the disk may be asked in any order they are replayed side by side, each in
//! the order of its log.

use std::collections::BTreeSet;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::Instant;

use crossbeam::channel::{Receiver, bounded};
use persistence::{AuditPlace, AuditShard, Disk, OpenError, Recovered, RecoveredEntry, SkipMark};

use super::boot::BootError;
use super::machine::{Machine, SYSTEM_SHARD};
use super::snapshots::{self, RestoreError};
use super::view::ViewShard;
use crate::feed::Hub;

/// Steps in the last so many bytes of the log come back into the windows of the feeds, so that who was cut off by the
/// restart is told what it missed. Who missed more gets a `snap`, as after a snapshot. Rendering them takes far longer
/// than anything else of a replay: these take some 0.2 s.
pub const FRAMES_BYTES: u64 = 2 << 20;
/// Commands that are handed to another thread together: fewer would cost more in waking than in applying.
const HANDED_COMMANDS: usize = 1_024;
/// How many of these may wait for one thread.
const HANDED_MAX: usize = 16;

/// A command whose apply panicked, and where.
pub type Poison = (SkipMark, String);

/// A shard and its audit.
pub type Replica = (ViewShard, AuditShard);

/// What a replay came to.
pub struct Replayed {
    /// All shards and their audits, by number.
    pub shards: Vec<Replica>,
    /// What panicked and was not known to.
    pub poisoned: Vec<Poison>,
    /// Bytes of log that were replayed.
    pub bytes: u64,
}

/// The shards as the log says. `frames` is how many bytes before the log's end come back into the windows of the feeds.
pub fn replay(
    recovered: &mut Recovered,
    disk: &dyn Disk,
    place: &AuditPlace,
    hub: &Hub,
    frames: u64,
) -> Result<Replayed, BootError> {
    let mut poisoned: Vec<Poison> = Vec::new();
    loop {
        let mut shards = load(recovered, place, hub)?;
        let skips: BTreeSet<_> = recovered
            .skips
            .iter()
            .chain(poisoned.iter().map(|(mark, _)| mark))
            .map(|mark| (mark.shard, mark.index, mark.position))
            .collect();
        for &(shard, index, position) in &skips {
            shards[usize::from(shard)].0.machine.pass_by(index, position);
        }
        let (found, bytes) = replay_once(recovered, &mut shards, disk.readers(), frames)?;
        if found.is_empty() {
            return Ok(Replayed { shards, poisoned, bytes });
        }
        for (mark, place) in found {
            let SkipMark { shard, index, position } = mark;
            // Else it would begin again for ever.
            if skips.contains(&(shard, index, position)) {
                return Err(BootError::Panics { shard, index, position });
            }
            poisoned.push((mark, place));
        }
    }
}

/// The shards as of the newest snapshot that can be loaded. Those that can't be are put aside once it is known that the
/// rest suffices: when nothing can be loaded, what is wrong may be elsewhere, and then all of them are needed again.
fn load(recovered: &mut Recovered, place: &AuditPlace, hub: &Hub) -> Result<Vec<Replica>, BootError> {
    let mut first = None;
    let mut passed = Vec::new();
    while let Some(snapshot) = &recovered.snapshot {
        let began = Instant::now();
        let number = snapshot.number();
        match snapshots::restore(snapshot, place, hub) {
            Ok(replicas) => {
                let (bytes, took) = (snapshot.bytes(), began.elapsed().as_millis());
                tracing::info!("Snapshot {number} of {bytes} bytes loaded in {took} ms");
                put_aside(recovered, passed)?;
                return Ok(replicas);
            }
            // Without a key or the disk no other one is any better.
            Err(RestoreError::Keys(error)) => return Err(OpenError::from(error).into()),
            Err(RestoreError::Disk { path, error }) => return Err(OpenError::Disk { path, error }.into()),
            Err(error) => {
                let why = error.to_string();
                passed.push((number, why.clone()));
                let this = match error {
                    RestoreError::Audit(error) => BootError::Audit(error),
                    _ => BootError::Snapshot { number, why },
                };
                let first = first.get_or_insert(this);
                if let Err(error) = recovered.step_back() {
                    tracing::error!("{error}");
                    return Err(std::mem::replace(first, BootError::Open(error)));
                }
            }
        }
    }
    let numbers = SYSTEM_SHARD..recovered.last.len() as u16;
    let empty = |number| {
        let audit = AuditShard::open(place, number, Vec::new(), Vec::new()).map_err(BootError::Audit)?;
        Ok((ViewShard::new(Machine::new(number), 0, hub), audit))
    };
    let replicas = numbers.map(empty).collect::<Result<_, BootError>>()?;
    put_aside(recovered, passed)?;
    Ok(replicas)
}

/// Gives snapshots that can't be loaded names under which they count for nothing.
fn put_aside(recovered: &Recovered, passed: Vec<(u64, String)>) -> Result<(), BootError> {
    for (number, why) in passed {
        let aside = recovered.snapshots.put_aside(number).map_err(|error| match error.into() {
            RestoreError::Disk { path, error } => BootError::Open(OpenError::Disk { path, error }),
            error => BootError::Snapshot { number, why: error.to_string() },
        })?;
        tracing::error!(
            "Snapshot {number} can't be loaded: {why}. It lies in {} now; the one before it and a longer replay give the same state",
            aside.display()
        );
    }
    Ok(())
}

/// Applies everything after the snapshot, on as many threads. Answers what panicked, at most once a shard, in the order
/// of shards, so that the caller begins again and passes it by; and how many bytes of log there were.
fn replay_once(
    recovered: &Recovered,
    shards: &mut [Replica],
    threads: usize,
    frames: u64,
) -> Result<(Vec<Poison>, u64), BootError> {
    let threads = threads.min(shards.len());
    let mut workers: Vec<Worker<'_>> =
        (0..threads.max(1)).map(|_| Worker { shards: Vec::new(), frames, poisoned: Vec::new() }).collect();
    let count = workers.len();
    for (number, replica) in shards.iter_mut().enumerate() {
        workers[number % count].shards.push(replica);
    }
    let mut entries = recovered.entries().peekable();
    let bytes = entries.peek().and_then(|entry| entry.as_ref().ok()).map_or(0, |entry| entry.behind);
    if let [worker] = &mut workers[..] {
        for entry in entries {
            worker.take(entry?, 1);
        }
    } else {
        workers = side_by_side(entries, workers)?;
    }
    let mut poisoned: Vec<Poison> = workers.into_iter().flat_map(|worker| worker.poisoned).collect();
    poisoned.sort_unstable_by_key(|(mark, _)| mark.shard);
    Ok((poisoned, bytes))
}

/// This thread reads, the workers apply.
fn side_by_side<'a>(
    entries: impl Iterator<Item = Result<RecoveredEntry, OpenError>>,
    workers: Vec<Worker<'a>>,
) -> Result<Vec<Worker<'a>>, BootError> {
    let count = workers.len();
    std::thread::scope(|scope| {
        let mut queues = Vec::with_capacity(count);
        let mut running = Vec::with_capacity(count);
        for mut worker in workers {
            let (queue, handed): (_, Receiver<Vec<RecoveredEntry>>) = bounded(HANDED_MAX);
            queues.push((queue, Vec::new(), 0));
            running.push(scope.spawn(move || {
                for entry in handed.into_iter().flatten() {
                    worker.take(entry, count);
                }
                worker
            }));
        }
        let mut failed = None;
        for entry in entries {
            let entry = match entry {
                Ok(entry) => entry,
                Err(error) => {
                    failed = Some(error);
                    break;
                }
            };
            let (queue, gathered, commands) = &mut queues[usize::from(entry.shard) % count];
            *commands += entry.entry.commands.len();
            gathered.push(entry);
            if *commands >= HANDED_COMMANDS {
                *commands = 0;
                // A worker that is gone has panicked, and that is told below.
                let _gone = queue.send(std::mem::take(gathered));
            }
        }
        for (queue, gathered, _) in queues {
            let _gone = queue.send(gathered);
        }
        let done = |worker: std::thread::ScopedJoinHandle<'_, Worker<'a>>| {
            worker.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
        };
        let workers = running.into_iter().map(done).collect();
        failed.map_or(Ok(workers), |error| Err(error.into()))
    })
}

/// Applies the entries of some of the shards.
struct Worker<'a> {
    /// Those whose number is the worker's, counted round all workers.
    shards: Vec<&'a mut Replica>,
    frames: u64,
    poisoned: Vec<Poison>,
}

impl Worker<'_> {
    fn take(&mut self, entry: RecoveredEntry, workers: usize) {
        let RecoveredEntry { shard: number, term, entry, erased, behind } = entry;
        if self.poisoned.iter().any(|(mark, _)| mark.shard == number) {
            return;
        }
        let (shard, audit) = &mut *self.shards[usize::from(number) / workers];
        let apply = || {
            if behind < self.frames { shard.apply(&entry, term) } else { shard.pass(&entry, term) }
        };
        if catch_unwind(AssertUnwindSafe(apply)).is_err() {
            let position = shard.replied();
            let place = format!("its apply panicked in a replay of {} commands", entry.commands.len());
            self.poisoned.push((SkipMark { shard: number, index: entry.index, position }, place));
            return;
        }
        audit.feed(&entry, &erased);
    }
}
