//! Restart with a fresh snapshot: makes the folder of a node in which many bids stand, kills the program on it again and
//! again, and times each start to its first answer. Never touches a folder that it did not make.

use std::fmt;
use std::io::Read as _;
use std::net::TcpListener;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use engine::{Accounts, Engine};
use persistence::{AuditPlace, AuditShard, Batch, Last, Log, Options, RealDisk, Recovered, Section};
use serde_json::Value;

use crate::client::Http;
use crate::socket::processor_time;
use crate::workload::{BIDDERS, Workload};

/// Shards of tenders: as many as a node has unless it is told otherwise.
const SHARDS: u16 = 8;
/// Entries that are made durable together while the log is made.
const ENTRIES_A_FLUSH: usize = 64;
/// How long a start may take before it counts as failed.
const START_MAX: Duration = Duration::from_secs(120);
/// How often the program is asked whether it answers.
const ASK: Duration = Duration::from_millis(1);

/// One start.
#[derive(Clone, Copy, Debug)]
pub struct Start {
    /// From starting the process to its first answer over REST.
    pub first_answer: Duration,
    /// Loading the snapshot, as the program tells it, ms.
    pub load_ms: u64,
    /// Until all shards stand: opening the log, loading, replaying, ms.
    pub stand_ms: u64,
    /// Processor time of the process up to then.
    pub processor: Duration,
    /// Most memory it had, bytes.
    pub memory: u64,
}

/// What was measured.
#[derive(Debug)]
pub struct Report {
    /// Bids that stand.
    pub bids: u64,
    /// Lots in which they stand.
    pub lots: u64,
    /// Bytes of the snapshot.
    pub snapshot_bytes: u64,
    /// Making the folder.
    pub make: Duration,
    /// The starts, in order.
    pub starts: Vec<Start>,
}

impl Report {
    /// The median of the starts' times to the first answer.
    pub fn median(&self) -> Duration {
        let mut times: Vec<Duration> = self.starts.iter().map(|start| start.first_answer).collect();
        times.sort_unstable();
        times[times.len() / 2]
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(
            f,
            "{} standing bids in {} lots, snapshot {:.1} MB ({:.0} bytes a bid), made in {:.1} s",
            self.bids,
            self.lots,
            self.snapshot_bytes as f64 / 1e6,
            self.snapshot_bytes as f64 / self.bids as f64,
            self.make.as_secs_f64()
        )?;
        for start in &self.starts {
            writeln!(
                f,
                "kill -9 → first answer {:.3} s (all shards stand after {} ms, of which the snapshot {} ms; processor {:.2} s, memory {} MB)",
                start.first_answer.as_secs_f64(),
                start.stand_ms,
                start.load_ms,
                start.processor.as_secs_f64(),
                start.memory >> 20
            )?;
        }
        let median = self.median().as_secs_f64();
        let verdict = if median <= 1.0 { "reached" } else { "NOT REACHED" };
        write!(f, "median {median:.3} s; goal for 1 000 000: <= 1 s: {verdict}")
    }
}

/// Makes a folder with about `bids` standing bids in `dir`, which is empty, and starts `program` on it `runs` times.
///
/// # Errors
/// The folder can't be made, or a start fails, or loses something.
pub async fn run(program: &Path, dir: &Path, bids: u64, runs: usize) -> Result<Report> {
    let (data, keys) = (dir.join("data"), dir.join("data-keys"));
    let began = Instant::now();
    let lots_a_shard = bids.div_ceil(u64::from(BIDDERS) * u64::from(SHARDS)).max(1);
    let snapshot_bytes = make(&data, &keys, lots_a_shard as usize)?;
    let make = began.elapsed();
    let mut starts = Vec::new();
    // Each start makes a step in every open lot, so each begins with a folder of its own, or it would replay the steps of
    // those before.
    for run in 0..runs {
        let own = dir.join(format!("run-{run}"));
        copy(&data, &own)?;
        copy(&keys, &dir.join(format!("run-{run}-keys")))?;
        starts.push(start(program, &own).await?);
        std::fs::remove_dir_all(&own)?;
    }
    let lots = lots_a_shard * u64::from(SHARDS);
    Ok(Report { bids: lots * u64::from(BIDDERS), lots, snapshot_bytes, make, starts })
}

/// Copies a folder, durably: what is not on the disk would be written in the time of the start.
fn copy(from: &Path, to: &Path) -> Result<()> {
    std::fs::create_dir(to)?;
    for entry in std::fs::read_dir(from)? {
        let entry = entry?;
        let target = to.join(entry.file_name());
        if entry.file_type()?.is_dir() {
            copy(&entry.path(), &target)?;
        } else {
            std::fs::copy(entry.path(), &target)?;
            std::fs::File::open(&target)?.sync_all()?;
        }
    }
    Ok(())
}

/// Makes the log, its audit, and a snapshot at its end.
fn make(data: &Path, keys: &Path, lots: usize) -> Result<u64> {
    let options = Options { shards: SHARDS + 1, ..Options::new(data, keys) };
    let (mut log, recovered) = Log::open(Arc::new(RealDisk), options)?;
    let place = AuditPlace::new(Arc::new(RealDisk), data, recovered.sealer.clone(), recovered.history);
    let mut audits = vec![AuditShard::open(&place, 0, Vec::new(), Vec::new())?];
    let mut engines = Vec::new();
    let mut batch = Batch::new();
    for shard in 0..SHARDS {
        let (mut workload, mut engine, opening) = Workload::of_shard(lots, shard, SHARDS);
        let mut audit = AuditShard::open(&place, shard + 1, Vec::new(), Vec::new())?;
        let bids = workload.one_bid_each();
        for entry in &bids {
            engine.apply(entry, &mut ());
            engine.maintain();
        }
        let entries: Vec<_> = opening.into_iter().chain(bids).collect();
        for some in entries.chunks(ENTRIES_A_FLUSH) {
            for entry in some {
                batch.push_entry(shard + 1, 1, entry, &recovered.sealer)?;
                audit.feed(entry, &[]);
            }
            log.append(&mut batch)?;
            batch.clear();
        }
        let standing: usize =
            engine.tenders().flat_map(|tender| tender.lots()).map(|lot| lot.bidder_count()).sum();
        ensure!(standing == lots * usize::from(BIDDERS), "{standing} bids stand in shard {shard}");
        engines.push(engine);
        audits.push(audit);
    }
    snapshot(&recovered, &engines, &mut audits)?;
    let file = std::fs::read_dir(data.join("snapshots"))?.next().context("a snapshot was written")??;
    Ok(file.metadata()?.len())
}

fn snapshot(recovered: &Recovered, engines: &[Engine], audits: &mut [AuditShard]) -> Result<()> {
    let ends = engines.iter().map(|engine| Last { index: engine.index(), term: 1 });
    let places: Vec<Last> = std::iter::once(Last::default()).chain(ends).collect();
    let mut writer = recovered.snapshots.begin(&places)?;
    for (number, audit) in audits.iter_mut().enumerate() {
        audit.sync()?.sync()?;
        let shard = number as u16;
        let state = match number.checked_sub(1) {
            None => {
                let accounts = Accounts::new();
                for part in accounts.snapshot() {
                    writer.frame(shard, Section::Accounts, part.sealed_under(), &wincode::serialize(&part)?)?;
                }
                accounts.state_hash()
            }
            Some(engine) => {
                for (part, organisation) in engines[engine].snapshot_to_seal() {
                    writer.frame(shard, Section::Engine, organisation, &wincode::serialize(&part)?)?;
                }
                engines[engine].state_hash()
            }
        };
        let (chains, parts) = audit.snapshot();
        for part in &chains {
            writer.frame(shard, Section::Chains, None, &wincode::serialize(part)?)?;
        }
        for part in &parts {
            writer.frame(shard, Section::Audit, None, &wincode::serialize(part)?)?;
        }
        writer.frame(shard, Section::State, None, &state)?;
    }
    writer.finish()?;
    Ok(())
}

/// The program while it is timed; killed, as by a crash, when dropped.
struct Killed(Child);

impl Drop for Killed {
    fn drop(&mut self) {
        let _gone = self.0.kill();
        let _reaped = self.0.wait();
    }
}

/// Starts the program, waits for its first answer, and kills it.
async fn start(program: &Path, data: &Path) -> Result<Start> {
    let free = || -> Result<String> { Ok(TcpListener::bind("127.0.0.1:0")?.local_addr()?.to_string()) };
    let (address, admin) = (free()?, free()?);
    let mut command = Command::new(program);
    command.arg("serve").arg("--data").arg(data);
    command.args(["--listen", &address, "--admin-listen", &admin, "--limits", "off", "--log", "info"]);
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped());
    let began = Instant::now();
    let mut child = Killed(command.spawn().with_context(|| format!("starting {}", program.display()))?);
    let first_answer = loop {
        if let Ok(mut http) = Http::connect(&address).await
            && let Ok(answer) = http.send("GET", "/v1/time", None, None, &Value::Null).await
        {
            ensure!(answer.status == 200, "the first answer is {}: {}", answer.status, answer.body);
            break began.elapsed();
        }
        if let Some(status) = child.0.try_wait()? {
            anyhow::bail!("the program ended before it answered: {status}");
        }
        ensure!(began.elapsed() < START_MAX, "no answer within {START_MAX:?}");
        tokio::time::sleep(ASK).await;
    };
    let (processor, memory) = (processor_time(child.0.id())?, peak(child.0.id())?);
    let mut output = child.0.stderr.take().context("its lines are piped")?;
    drop(child);
    let mut said = String::new();
    output.read_to_string(&mut said)?;
    let load_ms = told(&said, "Snapshot ", "loaded in ")?;
    let stand_ms = told(&said, "log entries stand after", "stand after ")?;
    Ok(Start { first_answer, load_ms, stand_ms, processor, memory })
}

/// The number behind `before` in the line that has `word`.
fn told(said: &str, word: &str, before: &str) -> Result<u64> {
    let line = said.lines().find(|line| line.contains(word) && line.contains(before));
    let number = line.and_then(|line| line.split(before).nth(1)?.split(' ').next()?.parse().ok());
    number.with_context(|| format!("the program did not tell {word:?} in {said}"))
}

/// The most memory that a process had, bytes.
fn peak(process: u32) -> Result<u64> {
    let status = std::fs::read_to_string(format!("/proc/{process}/status"))?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    let kib: u64 = line.and_then(|line| line.split_whitespace().next()).context("VmHWM")?.parse()?;
    Ok(kib << 10)
}
