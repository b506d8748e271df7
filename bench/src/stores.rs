//! Rows 2 and 3 beside embedded stores: the same bytes made durable by redb, fjall and okaywal, one at a time and from
//! 64 threads at once. Every store is asked for the same promise: what was answered survives a power cut.

use std::fs;
use std::io;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};
use crossbeam::channel::{Receiver, Sender, bounded, unbounded};
use engine::Entry;
use fjall::{Database, Keyspace, KeyspaceCreateOptions, PersistMode};
use hdrhistogram::Histogram;
use okaywal::{LogVoid, WriteAheadLog};
use persistence::{Batch, Log, Options, RealDisk, Sealer};
use redb::{Durability, TableDefinition};

use crate::log_append::Bids;
use crate::workload::Workload;

/// Writers of the second row.
pub const WRITERS: usize = 64;
/// Most bids that one flush takes, as in the program.
const BATCH_MAX: usize = 512;
/// Appends on each side before anything is measured.
const WARM_UP: usize = 30;
const TABLE: TableDefinition<u64, &[u8]> = TableDefinition::new("bids");

/// A store that answers when the bytes are durable; may be used by many threads.
trait Store: Sync {
    fn append(&self, number: u64, bytes: &[u8]) -> Result<()>;
}

struct Redb(redb::Database);

impl Store for Redb {
    fn append(&self, number: u64, bytes: &[u8]) -> Result<()> {
        let mut write = self.0.begin_write()?;
        write.set_durability(Durability::Immediate)?;
        write.open_table(TABLE)?.insert(number, bytes)?;
        write.commit()?;
        Ok(())
    }
}

struct Fjall(Database, Keyspace);

impl Store for Fjall {
    fn append(&self, number: u64, bytes: &[u8]) -> Result<()> {
        self.1.insert(number.to_be_bytes(), bytes)?;
        self.0.persist(PersistMode::SyncData)?;
        Ok(())
    }
}

struct Okaywal(WriteAheadLog);

impl Store for Okaywal {
    fn append(&self, _: u64, bytes: &[u8]) -> Result<()> {
        let mut entry = self.0.begin_entry()?;
        entry.write_chunk(bytes)?;
        entry.commit()?;
        Ok(())
    }
}

fn stores(folder: &Path) -> Result<Vec<(&'static str, Box<dyn Store>)>> {
    let place = |name: &str| -> io::Result<_> {
        let place = folder.join(name);
        fs::create_dir(&place)?;
        Ok(place)
    };
    let redb = redb::Database::create(place("redb")?.join("bids.redb"))?;
    let fjall = Database::builder(place("fjall")?).open()?;
    let keyspace = fjall.keyspace("bids", KeyspaceCreateOptions::default)?;
    let okaywal = WriteAheadLog::recover(place("okaywal")?, LogVoid)?;
    Ok(vec![
        ("redb", Box::new(Redb(redb))),
        ("fjall", Box::new(Fjall(fjall, keyspace))),
        ("okaywal", Box::new(Okaywal(okaywal))),
    ])
}

/// One record at a time: nanoseconds until it is durable, by name; ours first.
pub struct OneAtATime(pub Vec<(&'static str, Histogram<u64>)>);

impl OneAtATime {
    /// Median of each store ÷ median of ours.
    pub fn ratios(&self) -> Vec<(&'static str, f64)> {
        let median = |histogram: &Histogram<u64>| histogram.value_at_quantile(0.5) as f64;
        let Some(((_, ours), stores)) = self.0.split_first() else { return Vec::new() };
        stores.iter().map(|(name, theirs)| (*name, median(theirs) / median(ours))).collect()
    }
}

/// Measures `times` appends on every side, in turns.
pub fn one_at_a_time(folder: &Path, times: usize) -> Result<OneAtATime> {
    let options = Options::new(folder.join("data"), folder.join("keys"));
    let (mut log, recovered) = Log::open(Arc::new(RealDisk), options)?;
    let stores = stores(folder)?;
    let (mut bids, mut batch) = (Bids::new(), Batch::new());
    bids.next(&mut batch, &recovered.sealer)?;
    let bytes = vec![0x5A; batch.bytes_len()];
    log.append(&mut batch)?;
    let mut sides = vec![("log append", Histogram::new(3)?)];
    for (name, _) in &stores {
        sides.push((name, Histogram::new(3)?));
    }
    for number in 0..WARM_UP + times {
        // Each time another side begins.
        for turn in 0..sides.len() {
            let side = (number + turn) % sides.len();
            let started = Instant::now();
            if let Some((_, store)) = side.checked_sub(1).map(|store| &stores[store]) {
                store.append(number as u64, &bytes)?;
            } else {
                bids.next(&mut batch, &recovered.sealer)?;
                log.append(&mut batch)?;
            }
            if number >= WARM_UP {
                sides[side].1.record(started.elapsed().as_nanos() as u64)?;
            }
        }
    }
    Ok(OneAtATime(sides))
}

/// What 64 threads got through, each with one record in flight.
pub struct Many {
    /// The side.
    pub name: &'static str,
    /// Durable records a second.
    pub per_s: f64,
}

/// Measures `rounds` rounds of `time` on every side, in turns; ours first.
pub fn many_at_once(folder: &Path, rounds: usize, time: Duration) -> Result<Vec<Many>> {
    let options = Options::new(folder.join("data"), folder.join("keys"));
    let (log, recovered) = Log::open(Arc::new(RealDisk), options)?;
    let record = {
        let mut batch = Batch::new();
        Bids::new().next(&mut batch, &recovered.sealer)?;
        vec![0x5A; batch.bytes_len()]
    };
    let stores = stores(folder)?;
    let group = Group::start(log, recovered.sealer);
    let numbers = AtomicU64::new(0);
    let mut sides = vec![("log, group commit", 0, Duration::ZERO)];
    sides.extend(stores.iter().map(|(name, _)| (*name, 0, Duration::ZERO)));
    for round in 0..rounds {
        for turn in 0..sides.len() {
            let side = (round + turn) % sides.len();
            let (done, took) = match side.checked_sub(1).map(|store| &stores[store].1) {
                Some(store) => drive(time, || store.append(numbers.fetch_add(1, Ordering::Relaxed), &record))?,
                None => drive(time, group.writer())?,
            };
            sides[side].1 += done;
            sides[side].2 += took;
        }
    }
    Ok(sides
        .into_iter()
        .map(|(name, done, took)| Many { name, per_s: done as f64 / took.as_secs_f64() })
        .collect())
}

/// Lets all writers append for `time`; how many appends were answered, and how long it took.
fn drive(time: Duration, append: impl Fn() -> Result<()> + Sync) -> Result<(u64, Duration)> {
    let over = AtomicBool::new(false);
    let started = Instant::now();
    let done = thread::scope(|scope| -> Result<u64> {
        let writers: Vec<_> = (0..WRITERS)
            .map(|_| {
                scope.spawn(|| -> Result<u64> {
                    let mut done = 0;
                    while !over.load(Ordering::Relaxed) {
                        append()?;
                        done += 1;
                    }
                    Ok(done)
                })
            })
            .collect();
        thread::sleep(time);
        over.store(true, Ordering::Relaxed);
        writers.into_iter().map(|writer| writer.join().ok().context("a writer panicked")?).sum()
    })?;
    Ok((done, started.elapsed()))
}

/// The log as the program drives it: whoever comes while a flush runs goes with the next one.
struct Group(Sender<Sender<()>>);

impl Group {
    fn start(log: Log, sealer: Sealer) -> Self {
        let (ask, asked) = unbounded();
        thread::spawn(move || Self::run(log, &sealer, &asked));
        Self(ask)
    }

    fn writer(&self) -> impl Fn() -> Result<()> + Sync {
        let ask = self.0.clone();
        move || {
            thread_local! { static TOLD: (Sender<()>, Receiver<()>) = bounded(1); }
            TOLD.with(|(tell, told)| {
                ask.send(tell.clone()).ok().context("the log ended")?;
                told.recv().context("the log ended")
            })
        }
    }

    fn run(mut log: Log, sealer: &Sealer, asked: &Receiver<Sender<()>>) {
        let mut workload = Workload::new(10).0;
        let (mut spare, mut waiting, mut batch, mut index) = (Vec::new(), Vec::new(), Batch::new(), 0);
        while let Ok(first) = asked.recv() {
            waiting.push(first);
            waiting.extend(asked.try_iter().take(BATCH_MAX - 1));
            while spare.len() < waiting.len() {
                spare.append(&mut workload.entries(1).remove(0).commands);
            }
            index += 1;
            let entry = Entry { index, commands: spare.split_off(spare.len() - waiting.len()) };
            batch.clear();
            let durable = batch.push_entry(1, 1, &entry, sealer).is_ok() && log.append(&mut batch).is_ok();
            if !durable {
                return; // Writers learn it from the closed channel.
            }
            for waiting in waiting.drain(..) {
                // A round may have ended and its writers with it.
                waiting.send(()).ok();
            }
        }
    }
}
