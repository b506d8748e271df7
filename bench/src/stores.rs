//! Rows 2 and 3 beside embedded stores: the same bytes made durable by redb, fjall and okaywal, one at a time and from
//! 64 threads at once. Every store is asked for the same promise: what was answered survives a power cut.

use std::fs;
use std::io;
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
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

use crate::floor::RawLog;
use crate::log_append::Bids;
use crate::servers::mysql::{Connection, Mysql, Program};
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

/// A database server that takes a bid when it beats the best: one statement, one transaction, flushed when it commits. Each
/// writer has a connection and a lot of its own, so that none waits for another's row.
struct Sql {
    free: Mutex<Vec<(Connection, usize, u64)>>,
    _server: Mysql,
}

impl Sql {
    fn start(program: &Program, folder: &Path) -> Result<Self> {
        let server = Mysql::start(program, folder)?;
        let mut first = server.connect()?;
        first.execute("CREATE DATABASE bench")?;
        first.execute(
            "CREATE TABLE bench.lots (id INT PRIMARY KEY, price BIGINT NOT NULL, bid CHAR(64) NOT NULL) ENGINE=InnoDB",
        )?;
        let mut free = Vec::new();
        for lot in 0..WRITERS {
            first.execute(&format!("INSERT INTO bench.lots VALUES ({lot}, 1000000000000, '')"))?;
            free.push((server.connect()?, lot, 1_000_000_000_000));
        }
        Ok(Self { free: Mutex::new(free), _server: server })
    }

    fn place(connection: &mut Connection, lot: usize, price: u64) -> Result<()> {
        let changed = connection.execute(&format!(
            "UPDATE bench.lots SET price = {price}, bid = '01925f7c-89ab-7cde-8f01-23456789abcd:cid-{price}' \
             WHERE id = {lot} AND price > {price}"
        ))?;
        anyhow::ensure!(changed == 1, "a bid was not taken");
        Ok(())
    }
}

impl Store for Sql {
    fn append(&self, _: u64, _: &[u8]) -> Result<()> {
        let lock = || self.free.lock().unwrap_or_else(PoisonError::into_inner);
        let (mut connection, lot, price) = lock().pop().context("there are as many connections as writers")?;
        let taken = Self::place(&mut connection, lot, price - 1);
        lock().push((connection, lot, price - 1));
        taken
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

/// Row 3: every side, and how often ours flushed beside a bare write and flush.
pub struct GroupCommit {
    /// What each side got through; ours first.
    pub sides: Vec<Many>,
    /// Flushes a second of ours.
    pub flushes_per_s: f64,
    /// A bare thread's flushes a second, of as many bytes as ours wrote with each.
    pub raw_per_s: f64,
    /// Name and version of the database server; none where there is none.
    pub server: Option<String>,
}

/// Measures `rounds` rounds of `time` on every side, in turns, a bare write and flush at the end of each round. `mysql` is
/// measured as well when there is one.
pub fn many_at_once(folder: &Path, rounds: usize, time: Duration, mysql: Option<&Program>) -> Result<GroupCommit> {
    let options = Options::new(folder.join("data"), folder.join("keys"));
    let (log, recovered) = Log::open(Arc::new(RealDisk), options)?;
    let record = {
        let mut batch = Batch::new();
        Bids::new().next(&mut batch, &recovered.sealer)?;
        vec![0x5A; batch.bytes_len()]
    };
    let mut stores = stores(folder)?;
    if let Some(program) = mysql {
        let place = folder.join("mysql");
        fs::create_dir(&place)?;
        stores.push(("MySQL, UPDATE … WHERE price >", Box::new(Sql::start(program, &place)?)));
    }
    let group = Group::start(log, recovered.sealer);
    let mut raw = RawLog::create(&folder.join("raw"))?;
    let (mut raw_flushes, mut raw_time) = (0u64, Duration::ZERO);
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
        let flushes = group.flushes.load(Ordering::Relaxed).max(1);
        let bytes = vec![0x5A; (group.bytes.load(Ordering::Relaxed) / flushes) as usize];
        let started = Instant::now();
        while started.elapsed() < time {
            raw.append(&bytes)?;
            raw_flushes += 1;
        }
        raw_time += started.elapsed();
    }
    let flushes_per_s = group.flushes.load(Ordering::Relaxed) as f64 / sides[0].2.as_secs_f64();
    let side = |(name, done, took): (_, u64, Duration)| Many { name, per_s: done as f64 / took.as_secs_f64() };
    Ok(GroupCommit {
        sides: sides.into_iter().map(side).collect(),
        flushes_per_s,
        raw_per_s: raw_flushes as f64 / raw_time.as_secs_f64(),
        server: mysql.map(|program| program.version().to_owned()),
    })
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
struct Group {
    ask: Sender<Sender<()>>,
    flushes: Arc<AtomicU64>,
    bytes: Arc<AtomicU64>,
}

impl Group {
    fn start(log: Log, sealer: Sealer) -> Self {
        let (ask, asked) = unbounded();
        let this = Self { ask, flushes: Arc::default(), bytes: Arc::default() };
        let counts = [Arc::clone(&this.flushes), Arc::clone(&this.bytes)];
        thread::spawn(move || Self::run(log, &sealer, &asked, &counts));
        this
    }

    fn writer(&self) -> impl Fn() -> Result<()> + Sync {
        let ask = self.ask.clone();
        move || {
            thread_local! { static TOLD: (Sender<()>, Receiver<()>) = bounded(1); }
            TOLD.with(|(tell, told)| {
                ask.send(tell.clone()).ok().context("the log ended")?;
                told.recv().context("the log ended")
            })
        }
    }

    fn run(mut log: Log, sealer: &Sealer, asked: &Receiver<Sender<()>>, counts: &[Arc<AtomicU64>; 2]) {
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
            let pushed = batch.push_entry(1, 1, &entry, sealer).is_ok();
            let bytes = batch.bytes_len() as u64;
            let durable = pushed && log.append(&mut batch).is_ok();
            if !durable {
                return; // Writers learn it from the closed channel.
            }
            counts[0].fetch_add(1, Ordering::Relaxed);
            counts[1].fetch_add(bytes, Ordering::Relaxed);
            for waiting in waiting.drain(..) {
                // A round may have ended and its writers with it.
                waiting.send(()).ok();
            }
        }
    }
}
