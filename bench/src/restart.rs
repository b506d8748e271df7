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
use engine::{Accounts, Engine, Entry};
use persistence::{AuditPlace, AuditShard, Batch, Last, Log, Options, RealDisk, Recovered, Sealer, Section};
use serde_json::Value;

use crate::client::Http;
use crate::socket::processor_time;
use crate::workload::{BIDDERS, Workload};

/// Shards of tenders: as many as a node has unless it is told otherwise.
pub(crate) const SHARDS: u16 = 8;
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
    /// Loading the snapshot, as the program tells it, ms; none without one.
    pub load_ms: Option<u64>,
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
                start.load_ms.unwrap_or_default(),
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
    let content = Content { lots: lots_a_shard as usize, each_once: true, before: 0, behind: 0 };
    let snapshot_bytes = make(&data, &keys, content)?;
    let make = began.elapsed();
    let mut starts = Vec::new();
    // Each start makes a step in every open lot, so each begins with a folder of its own, or it would replay the steps of
    // those before.
    for run in 0..runs {
        let own = dir.join(format!("run-{run}"));
        copy(&data, &own)?;
        copy(&keys, &dir.join(format!("run-{run}-keys")))?;
        let start = start(program, &own).await?;
        ensure!(start.load_ms.is_some(), "the snapshot was not loaded");
        starts.push(start);
        std::fs::remove_dir_all(&own)?;
    }
    let lots = lots_a_shard * u64::from(SHARDS);
    Ok(Report { bids: lots * u64::from(BIDDERS), lots, snapshot_bytes, make, starts })
}

/// Copies a folder, durably: what is not on the disk would be written in the time of the start.
pub(crate) fn copy(from: &Path, to: &Path) -> Result<()> {
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

/// What a made log holds, in each shard of tenders.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Content {
    /// Open lots.
    pub lots: usize,
    /// Whether every bidder has bid in every lot.
    pub each_once: bool,
    /// Entries of bids before the snapshot.
    pub before: usize,
    /// Entries of bids behind it.
    pub behind: usize,
}

/// A shard while its log is made.
struct Shard {
    workload: Workload,
    engine: Engine,
    audit: AuditShard,
}

impl Shard {
    /// Makes entries durable; they are applied already, or need not be.
    fn append(
        &mut self,
        log: &mut Log,
        batch: &mut Batch,
        shard: u16,
        entries: &[Entry],
        sealer: &Sealer,
    ) -> Result<()> {
        for some in entries.chunks(ENTRIES_A_FLUSH) {
            for entry in some {
                batch.push_entry(shard, 1, entry, sealer)?;
                self.audit.feed(entry, &[]);
            }
            log.append(batch)?;
            batch.clear();
        }
        Ok(())
    }

    /// The next `count` entries, a flush's worth at a time.
    fn bids(&mut self, log: &mut Log, batch: &mut Batch, shard: u16, count: usize, sealer: &Sealer) -> Result<()> {
        let mut left = count;
        while left > 0 {
            let entries = self.workload.entries(left.min(ENTRIES_A_FLUSH));
            left -= entries.len();
            for entry in &entries {
                self.engine.apply(entry, &mut ());
                self.engine.maintain();
            }
            self.append(log, batch, shard, &entries, sealer)?;
        }
        Ok(())
    }
}

/// Makes the log, its audit, and a snapshot; its bytes.
pub(crate) fn make(data: &Path, keys: &Path, content: Content) -> Result<u64> {
    let options = Options { shards: SHARDS + 1, ..Options::new(data, keys) };
    let (mut log, recovered) = Log::open(Arc::new(RealDisk), options)?;
    let place = AuditPlace::new(Arc::new(RealDisk), data, recovered.sealer.clone(), recovered.history);
    let sealer = recovered.sealer.clone();
    let mut accounts = AuditShard::open(&place, 0, Vec::new(), Vec::new())?;
    let mut shards = Vec::new();
    let mut batch = Batch::new();
    let Content { lots, each_once, before, behind } = content;
    for number in 0..SHARDS {
        let (workload, engine, opening) = Workload::of_shard(lots, number, SHARDS);
        let audit = AuditShard::open(&place, number + 1, Vec::new(), Vec::new())?;
        let mut shard = Shard { workload, engine, audit };
        shard.append(&mut log, &mut batch, number + 1, &opening, &sealer)?;
        if each_once {
            let bids = shard.workload.one_bid_each();
            for entry in &bids {
                shard.engine.apply(entry, &mut ());
                shard.engine.maintain();
            }
            shard.append(&mut log, &mut batch, number + 1, &bids, &sealer)?;
            let standing: usize =
                shard.engine.tenders().flat_map(|tender| tender.lots()).map(|lot| lot.bidder_count()).sum();
            ensure!(standing == lots * usize::from(BIDDERS), "{standing} bids stand in shard {number}");
        }
        shard.bids(&mut log, &mut batch, number + 1, before, &sealer)?;
        shards.push(shard);
    }
    snapshot(&recovered, &mut accounts, &mut shards)?;
    let file = std::fs::read_dir(data.join("snapshots"))?.next().context("a snapshot was written")??;
    let bytes = file.metadata()?.len();
    for (number, shard) in shards.iter_mut().enumerate() {
        shard.bids(&mut log, &mut batch, number as u16 + 1, behind, &sealer)?;
        shard.audit.sync()?.sync()?;
    }
    Ok(bytes)
}

fn snapshot(recovered: &Recovered, accounts: &mut AuditShard, shards: &mut [Shard]) -> Result<()> {
    let ends = shards.iter().map(|shard| Last { index: shard.engine.index(), term: 1 });
    let places: Vec<Last> = std::iter::once(Last::default()).chain(ends).collect();
    let mut writer = recovered.snapshots.begin(&places)?;
    let all = std::iter::once((accounts, None))
        .chain(shards.iter_mut().map(|shard| (&mut shard.audit, Some(&shard.engine))));
    for (number, (audit, engine)) in all.enumerate() {
        audit.sync()?.sync()?;
        let shard = number as u16;
        let state = match engine {
            None => {
                let accounts = Accounts::new();
                for part in accounts.snapshot() {
                    writer.frame(shard, Section::Accounts, part.sealed_under(), &wincode::serialize(&part)?)?;
                }
                accounts.state_hash()
            }
            Some(engine) => {
                for (part, organisation) in engine.snapshot_to_seal() {
                    writer.frame(shard, Section::Engine, organisation, &wincode::serialize(&part)?)?;
                }
                engine.state_hash()
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
pub(crate) async fn start(program: &Path, data: &Path) -> Result<Start> {
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
    let load_ms = told(&said, "Snapshot ", "loaded in ").ok();
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
