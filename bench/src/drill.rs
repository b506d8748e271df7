//! The restore drill: makes a log with a snapshot and a bad command at its end, archives it with the program, restores it
//! onto empty folders to three points, and holds each state against a cold replay. Times every part. Never touches a
//! folder that it did not make.

use std::fmt;
use std::path::{Path, PathBuf};
use std::process::Command as Program;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail, ensure};
use engine::{
    Accounts, Action, Command, Engine, EnginePart, Entry, Envelope, OrganisationId, RequestId, TenderId,
};
use persistence::{
    AuditPart, AuditPlace, AuditShard, Batch, ChainsPart, Last, Log, Options, Part, RealDisk, Recovered, Section,
};

use crate::server::Server;
use crate::workload::{BATCH, Workload};

/// One shard of tenders, beside that of the accounts.
const SHARDS: u16 = 2;
const SHARD: u16 = 1;
/// Entries that are made durable together while the log is made.
const ENTRIES_A_FLUSH: usize = 64;
/// A snapshot is taken after so many bytes of log, unless a node is told otherwise; then two lie behind a restore at worst.
const SNAPSHOT_BYTES: f64 = (64 << 20) as f64;
/// What the extrapolation is for.
const BIDS_OF_A_LARGE_LOG: f64 = 10_000_000.0;
/// In which all of a cold restore must fit, with room to the promised 15 minutes.
const RESTORE_MAX: f64 = 600.0;

/// What a restore took.
pub struct Restored {
    /// The target, as it was given.
    pub to: String,
    /// Entries of the log.
    pub position: u64,
    /// Bytes that were fetched.
    pub bytes: u64,
    /// Finding the way.
    pub plan: Duration,
    /// Fetching, checking hashes, writing.
    pub fetch: Duration,
    /// Reading back.
    pub verify: Duration,
    /// Opening the log: every record is checked once more.
    pub open: Duration,
    /// Loading the snapshot.
    pub load: Duration,
    /// Replaying what lies behind it, the audit included.
    pub replay: Duration,
    /// Bids that were replayed.
    pub replayed: u64,
}

/// What a drill found.
pub struct Report {
    /// Bids in the log.
    pub bids: u64,
    /// Bytes of log a bid.
    pub bid_bytes: f64,
    /// Making the log.
    pub make: Duration,
    /// Shipping it.
    pub backup: Duration,
    /// A replay of the whole log without a snapshot.
    pub cold: Duration,
    /// The restores: to the end, to a number chosen by chance, to just before the bad command.
    pub restored: Vec<Restored>,
    /// From starting the program on the first restored folder until it answers.
    pub first_answer: Duration,
}

impl Report {
    /// Seconds of a cold restore of a large log: fetching and checking all of it, and replaying what two snapshots' worth
    /// of log holds; and the same when there is no snapshot at all.
    pub fn extrapolated(&self) -> (f64, f64) {
        let latest = &self.restored[0];
        let times = BIDS_OF_A_LARGE_LOG / self.bids as f64;
        let by_bytes = (latest.plan + latest.fetch + latest.verify + latest.open).as_secs_f64() * times;
        let a_second = self.replay_rate();
        let since = (2.0 * SNAPSHOT_BYTES / self.bid_bytes).min(BIDS_OF_A_LARGE_LOG);
        let with = by_bytes + latest.load.as_secs_f64() + since / a_second;
        (with, by_bytes + BIDS_OF_A_LARGE_LOG / a_second)
    }

    /// Bids a second in the longest replay behind a snapshot, audit included: what a start does but for the view.
    pub fn replay_rate(&self) -> f64 {
        let longest = self.restored.iter().max_by_key(|part| part.replayed);
        longest.map_or(0.0, |part| part.replayed as f64 / part.replay.as_secs_f64().max(1e-9))
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let s = |time: Duration| time.as_secs_f64();
        writeln!(
            f,
            "log       {} bids, {:.0} bytes each, made in {:.2} s",
            self.bids,
            self.bid_bytes,
            s(self.make)
        )?;
        writeln!(f, "backup    {:.2} s", s(self.backup))?;
        let cold = self.bids as f64 / s(self.cold);
        writeln!(f, "cold      {:.2} s, {cold:.0} bids/s without a snapshot, the engine alone", s(self.cold))?;
        for part in &self.restored {
            writeln!(f, "restore   --to {}: {} entries, the state of the cold replay", part.to, part.position)?;
            writeln!(f, "  plan    {:.3} s", s(part.plan))?;
            writeln!(f, "  fetch   {:.3} s, {:.1} MB", s(part.fetch), part.bytes as f64 / 1e6)?;
            writeln!(f, "  verify  {:.3} s", s(part.verify))?;
            writeln!(f, "  open    {:.3} s", s(part.open))?;
            writeln!(f, "  load    {:.3} s", s(part.load))?;
            let rate = part.replayed as f64 / s(part.replay).max(1e-9);
            writeln!(f, "  replay  {:.3} s, {} bids, {rate:.0}/s", s(part.replay), part.replayed)?;
        }
        writeln!(f, "answer    {:.2} s from the start of the program to its first answer", s(self.first_answer))?;
        let latest = &self.restored[0];
        let fetched = s(latest.plan + latest.fetch + latest.verify + latest.open);
        let (with, without) = self.extrapolated();
        let word = |seconds: f64| if seconds < RESTORE_MAX { "holds" } else { "DOES NOT HOLD" };
        writeln!(f, "t_fetch + t_load + events_since_snapshot / replay_rate < {RESTORE_MAX:.0} s")?;
        writeln!(
            f,
            "  here        {fetched:.2} + {:.2} + {} / {:.0} = {:.2} s: {}",
            s(latest.load),
            latest.replayed,
            self.replay_rate(),
            fetched + s(latest.load) + latest.replayed as f64 / self.replay_rate(),
            word(fetched + s(latest.load) + latest.replayed as f64 / self.replay_rate()),
        )?;
        writeln!(f, "  10 M bids   {with:.1} s with snapshots each 64 MiB of log: {}", word(with))?;
        write!(f, "  10 M bids   {without:.1} s without any snapshot: {}", word(without))
    }
}

/// Runs a drill of about `bids` bids on `lots` lots in the empty folder `dir`, with `program`; `seed` chooses the point.
pub async fn run(program: &Path, dir: &Path, bids: u64, lots: usize, seed: u64) -> Result<Report> {
    let data = dir.join("data");
    let keys = dir.join("data-keys");
    let began = Instant::now();
    let made = make(&data, &keys, bids, lots)?;
    let make = began.elapsed();

    println!("archiving {} entries", made.entries);
    let began = Instant::now();
    let archive = dir.join("archive");
    call(program, &[&"backup", &"--data", &data, &"--keys", &keys, &"--to", &archive])?;
    let backup = began.elapsed();

    let by_chance = 1 + seed % (made.entries - 1);
    let before_bad = made.entries - 1;
    println!("replaying without a snapshot");
    let (states, cold) = cold(&data, &keys, &[by_chance, before_bad, made.entries])?;
    let targets = [
        ("latest".to_owned(), states[2]),
        (by_chance.to_string(), states[0]),
        (before_bad.to_string(), states[1]),
    ];
    let mut restored = Vec::new();
    for (number, (to, expected)) in targets.into_iter().enumerate() {
        println!("restoring --to {to}");
        let target = dir.join(format!("restored-{number}"));
        let its_keys = dir.join(format!("restored-{number}-keys"));
        std::os::unix::fs::symlink(&keys, &its_keys)?;
        let said =
            call(program, &[&"restore", &"--from", &archive, &"--data", &target, &"--keys", &keys, &"--to", &to])?;
        let (part, state) = load(&target, &keys, to, &said)?;
        ensure!(state == expected, "--to {}: the state is not that of a cold replay (P3)", part.to);
        restored.push(part);
    }
    println!("starting the program");
    let began = Instant::now();
    let server = Server::start(program, &dir.join("restored-0")).await?;
    let first_answer = began.elapsed();
    drop(server);
    let bids = made.bids;
    Ok(Report { bids, bid_bytes: made.bid_bytes, make, backup, cold, restored, first_answer })
}

/// A log that was made.
struct Made {
    bids: u64,
    entries: u64,
    bid_bytes: f64,
}

fn open(data: &Path, keys: &Path) -> Result<(Log, Recovered)> {
    let options = Options { shards: SHARDS, ..Options::new(data, keys) };
    Ok(Log::open(Arc::new(RealDisk), options)?)
}

/// Makes a log of bids, with a snapshot at four fifths and a command at its end that nobody wants.
fn make(data: &Path, keys: &Path, bids: u64, lots: usize) -> Result<Made> {
    let (mut log, recovered) = open(data, keys)?;
    let place = AuditPlace::new(Arc::new(RealDisk), data, recovered.sealer.clone(), recovered.history);
    let mut audit = AuditShard::open(&place, SHARD, Vec::new(), Vec::new())?;
    let (mut workload, mut engine, opening) = Workload::recorded(lots);
    let mut batch = Batch::new();
    let tender = opening.iter().flat_map(|entry| &entry.commands).find_map(|command| command.action.tender());
    for entry in &opening {
        batch.push_entry(SHARD, 1, entry, &recovered.sealer)?;
        audit.feed(entry, &[]);
        log.append(&mut batch)?;
        batch.clear();
    }
    let wanted = bids.div_ceil(BATCH as u64).max(10);
    let (mut made, mut bytes, mut is_taken) = (0, 0, false);
    while made < wanted {
        for entry in workload.entries(ENTRIES_A_FLUSH.min((wanted - made) as usize)) {
            batch.push_entry(SHARD, 1, &entry, &recovered.sealer)?;
            engine.apply(&entry, &mut ());
            engine.maintain();
            audit.feed(&entry, &[]);
            made += 1;
        }
        bytes += batch.bytes_len();
        log.append(&mut batch)?;
        batch.clear();
        if !is_taken && made * 5 >= wanted * 4 {
            snapshot(&recovered, &place, &engine, &mut audit)?;
            is_taken = true;
        }
    }
    let bad = cancel(tender.context("there is a tender")?, &engine);
    batch.push_entry(SHARD, 1, &bad, &recovered.sealer)?;
    log.append(&mut batch)?;
    let bids = made * BATCH as u64;
    Ok(Made { bids, entries: bad.index, bid_bytes: bytes as f64 / bids as f64 })
}

/// The command that a restore is to leave out.
fn cancel(tender: TenderId, engine: &Engine) -> Entry {
    let buyer = engine.tender(tender).map_or(OrganisationId(1), |tender| tender.buyer);
    let envelope =
        Envelope { at: engine.now(), organisation: buyer, request: RequestId(u128::MAX), ..Envelope::default() };
    let action = Action::Cancel { tender, reason: Some("a mistake".into()) };
    Entry { index: engine.index() + 1, commands: vec![Command { envelope, action, secret: None }] }
}

fn snapshot(recovered: &Recovered, place: &AuditPlace, engine: &Engine, audit: &mut AuditShard) -> Result<()> {
    let mut empty = AuditShard::open(place, 0, Vec::new(), Vec::new())?;
    empty.sync()?.sync()?;
    audit.sync()?.sync()?;
    let places = [Last::default(), Last { index: engine.index(), term: 1 }];
    let mut writer = recovered.snapshots.begin(&places)?;
    for part in Accounts::new().snapshot() {
        writer.frame(0, Section::Accounts, part.sealed_under(), &wincode::serialize(&part)?)?;
    }
    for (part, organisation) in engine.snapshot_to_seal() {
        writer.frame(SHARD, Section::Engine, organisation, &wincode::serialize(&part)?)?;
    }
    for (shard, audit) in [(0, &empty), (SHARD, &*audit)] {
        let (chains, parts) = audit.snapshot();
        for part in &chains {
            writer.frame(shard, Section::Chains, None, &wincode::serialize(part)?)?;
        }
        for part in &parts {
            writer.frame(shard, Section::Audit, None, &wincode::serialize(part)?)?;
        }
    }
    writer.finish()?;
    Ok(())
}

/// The states after the given numbers of entries, in order, by a replay from the first entry.
fn cold(data: &Path, keys: &Path, positions: &[u64]) -> Result<(Vec<[u8; 32]>, Duration)> {
    let (_log, recovered) = open(data, keys)?;
    let mut engine = Engine::new();
    let mut states = Vec::new();
    let mut hashing = Duration::ZERO;
    let began = Instant::now();
    for entry in recovered.entries_from_start() {
        engine.apply(&entry?.entry, &mut ());
        engine.maintain();
        for _ in positions.iter().filter(|position| **position == engine.index()) {
            let began = Instant::now();
            states.push(engine.state_hash());
            hashing += began.elapsed();
        }
    }
    ensure!(states.len() == positions.len(), "the log is shorter than what was written to it");
    Ok((states, began.elapsed() - hashing))
}

/// Loads a restored folder as a start does, and tells what the parts took and which state it has.
fn load(data: &Path, keys: &Path, to: String, said: &str) -> Result<(Restored, [u8; 32])> {
    let began = Instant::now();
    let (_log, recovered) = open(data, keys)?;
    let opened = began.elapsed();
    let began = Instant::now();
    let (mut parts, mut chains, mut audits) =
        (Vec::<EnginePart>::new(), Vec::<ChainsPart>::new(), Vec::<AuditPart>::new());
    for frame in recovered.snapshot.iter().flat_map(|snapshot| snapshot.frames()) {
        let frame = frame?;
        let Part::Clear(bytes) = frame.part else { bail!("a part of the snapshot is erased") };
        match frame.section {
            Section::Engine => parts.push(wincode::deserialize_exact(&bytes)?),
            Section::Chains if frame.shard == SHARD => chains.push(wincode::deserialize_exact(&bytes)?),
            Section::Audit if frame.shard == SHARD => audits.push(wincode::deserialize_exact(&bytes)?),
            _ => {}
        }
    }
    let mut engine = if parts.is_empty() { Engine::new() } else { Engine::restore(parts.into_iter())? };
    let place = AuditPlace::new(Arc::new(RealDisk), data, recovered.sealer.clone(), recovered.history);
    let mut audit = AuditShard::open(&place, SHARD, chains, audits)?;
    let loaded = began.elapsed();
    let began = Instant::now();
    let mut replayed = 0;
    for entry in recovered.entries() {
        let entry = entry?;
        engine.apply(&entry.entry, &mut ());
        engine.maintain();
        audit.feed(&entry.entry, &entry.erased);
        replayed += entry.entry.commands.len() as u64;
    }
    let replay = began.elapsed();
    let seconds = |word: &str| -> Result<Duration> {
        let line = said.lines().find_map(|line| line.strip_prefix(word));
        let number = line.and_then(|line| line.split_whitespace().next());
        let seconds: f64 = number.with_context(|| format!("`restore` tells {word}"))?.parse()?;
        Ok(Duration::from_secs_f64(seconds))
    };
    let bytes = said.lines().find(|line| line.starts_with("fetch ")).and_then(|line| {
        let words: Vec<&str> = line.split_whitespace().collect();
        words.get(words.len().checked_sub(2)?)?.parse().ok()
    });
    let restored = Restored {
        to,
        position: recovered.last.iter().map(|last| last.index).sum(),
        bytes: bytes.context("`restore` tells the bytes")?,
        plan: seconds("plan ")?,
        fetch: seconds("fetch ")?,
        verify: seconds("verify ")?,
        open: opened,
        load: loaded,
        replay,
        replayed,
    };
    Ok((restored, engine.state_hash()))
}

/// Runs the program, which must succeed; what it said.
fn call(program: &Path, arguments: &[&dyn AsRef<std::ffi::OsStr>]) -> Result<String> {
    let output = Program::new(program).args(arguments.iter().map(|argument| argument.as_ref())).output()?;
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    let why = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "{}: {}: {why}", program.display(), output.status);
    Ok(said)
}

/// A number by chance for `seed`s.
pub fn chance() -> u64 {
    let mut bytes = [0; 8];
    persistence::system_random(&mut bytes);
    u64::from_le_bytes(bytes) >> 1
}

/// An empty folder below `parent` for one drill; removed with what is returned.
pub fn folder(parent: &Path) -> Result<(tempfile::TempDir, PathBuf)> {
    std::fs::create_dir_all(parent)?;
    let dir = tempfile::tempdir_in(parent)?;
    let path = dir.path().to_owned();
    Ok((dir, path))
}
