//! Snapshots of the view: taken in the background, so that a restart replays little and the log can be cut.
//!
//! One shard at a time is copied under its lock and written from the copy; the core never notices. A snapshot counts once
//! a second process has loaded it and found the same states.

use std::io;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use crossbeam::channel::{Receiver, RecvTimeoutError, TryRecvError, bounded};
use engine::{Accounts, AccountsPart, Engine, EnginePart};
use persistence::{
    AuditPart, AuditPlace, AuditShard, ChainsPart, Frame, KeyError, Keys, Last, MasterKey, Part, RealDisk,
    Rejection, Section, SnapshotError, SnapshotReader, Snapshots, Truncator, system_random,
};

use super::audit::{Copied, Followers};
use super::core::Shared;
use super::erasure::Eraser;
use super::machine::{Machine, SYSTEM_SHARD};
use super::once::Once;
use super::sequencer::Submission;
use super::view::{ViewShard, Views};
use crate::feed::Hub;

/// How often the thread looks whether a snapshot is due, and whether there is a newer data key.
const PERIOD: Duration = Duration::from_millis(200);
/// How often it looks whether the second process has ended.
const PATIENCE: Duration = Duration::from_millis(5);

/// Exit status of the second process when it can't read what it is to load.
pub const UNREADABLE: i32 = 3;

/// How the snapshots of this process went.
#[derive(Debug, Default)]
pub struct Tally {
    written: AtomicU64,
    failed: AtomicU64,
    meanwhile: AtomicU64,
}

impl Tally {
    /// Snapshots that were written, loaded by the second process, and kept.
    pub fn written(&self) -> u64 {
        self.written.load(Ordering::Acquire)
    }

    /// Snapshots that could not be written or not be loaded.
    pub fn failed(&self) -> u64 {
        self.failed.load(Ordering::Acquire)
    }

    /// Entries that the core applied between the beginning and the end of the newest one.
    pub fn entries_meanwhile(&self) -> u64 {
        self.meanwhile.load(Ordering::Acquire)
    }
}

/// Writes snapshots when enough log has gathered.
pub struct Snapshotter {
    /// What is copied.
    pub views: Arc<Views>,
    /// What is copied of the audit.
    pub audit: Followers,
    /// Where they are written.
    pub snapshots: Snapshots,
    /// Lets segments go that are no longer needed.
    pub truncator: Truncator,
    /// How much log was written, and what the core applied.
    pub shared: Arc<Shared>,
    /// How many bytes of log make a snapshot due; a quarter of what the last one has, if that is more: so
    /// snapshots are at most four times what is written to the log, and what is replayed takes about as long as the
    /// loading.
    pub every_bytes: u64,
    /// The program that loads a snapshot before it counts, and the folder of its keys.
    pub verifier: Option<(PathBuf, PathBuf)>,
    /// The keys; looked after, so that a rotation is noticed.
    pub keys: Arc<Keys>,
    /// Carries out orders to destroy keys, which takes snapshots.
    pub eraser: Eraser,
    /// How they went.
    pub tally: Arc<Tally>,
    /// Two are wanted at once, so that the next start does not need a file that was found damaged.
    pub wanted: Arc<AtomicBool>,
}

impl Snapshotter {
    /// The snapshot thread; ends when `stop` closes.
    pub fn run(self, stop: &Receiver<()>) {
        let (mut taken_at, mut every) = (0, self.every());
        let (mut keys_told, mut orders_told) = (Once::default(), Once::default());
        while stop.recv_timeout(PERIOD) == Err(RecvTimeoutError::Timeout) {
            let before = self.keys.newest_data_key_number();
            match self.keys.look_for_data_keys() {
                Ok(newest) if newest != before => {
                    keys_told.clear();
                    tracing::info!(
                        "Data key {newest:016x} is there: what is begun from now on is sealed under it"
                    );
                }
                Ok(_) => keys_told.clear(),
                Err(error) if keys_told.is_due(&error.to_string()) => {
                    tracing::error!("The data keys can't be looked at: {error}");
                }
                Err(_) => {}
            }
            self.eraser.obey(stop, &mut orders_told, || self.snapshot(stop));
            if self.wanted.swap(false, Ordering::AcqRel) {
                // The log goes that both of those kept have passed. What went wrong was told.
                let _told = self.snapshot(stop).and_then(|()| self.snapshot(stop));
            }
            let now = self.shared.log_bytes.load(Ordering::Relaxed);
            if now - taken_at < every {
                continue;
            }
            taken_at = now;
            // What went wrong was told; it is due again after as many bytes.
            let _told = self.snapshot(stop);
            every = self.every();
        }
    }

    fn every(&self) -> u64 {
        // A folder that can't be read fails the next snapshot, which says so.
        (self.snapshots.newest_bytes().unwrap_or_default() / 4).max(self.every_bytes)
    }

    /// Takes a snapshot, counts it, and lets the log go that it covers.
    fn snapshot(&self, stop: &Receiver<()>) -> Result<(), String> {
        let (began, applied) = (Instant::now(), self.applied());
        match self.take(stop) {
            Ok(covered) => {
                let (took, meanwhile) = (began.elapsed().as_millis(), self.applied() - applied);
                metrics::counter!("rt_snapshots_total").increment(1);
                self.tally.meanwhile.store(meanwhile, Ordering::Release);
                self.tally.written.fetch_add(1, Ordering::Release);
                tracing::info!(
                    "Snapshot written and loaded in {took} ms; {meanwhile} entries were applied meanwhile"
                );
                // Replication keeps entries in memory for nodes that are behind, up to what is covered.
                if self.eraser.ring.send(Submission::Covered(covered.clone())).is_ok() {
                    self.shared.core.wake();
                }
                self.truncator.truncate(covered).map_err(|error| error.to_string())
            }
            Err(error) if stop.try_recv() == Err(TryRecvError::Disconnected) => Err(error.to_string()),
            Err(error) => {
                metrics::counter!("rt_snapshot_failures_total").increment(1);
                self.tally.failed.fetch_add(1, Ordering::Release);
                tracing::error!("No new snapshot; those before it and the log are kept: {error}");
                Err(error.to_string())
            }
        }
    }

    /// How many entries the core has applied, of all shards.
    fn applied(&self) -> u64 {
        self.shared.applied.iter().map(|index| index.load(Ordering::Acquire)).sum()
    }

    fn take(&self, stop: &Receiver<()>) -> Result<Vec<u64>, SnapshotError> {
        write_checked(copy(&self.views, &self.audit), &self.snapshots, |path, states| match &self.verifier {
            Some((program, keys)) => verify_elsewhere(program, keys, path, states, stop),
            None => {
                let found = Snapshots::open_file(Arc::new(RealDisk), path, Arc::clone(&self.keys));
                let found = found.map_err(|error| match error {
                    SnapshotError::Damaged { .. } => Rejection::Wrong(error.to_string()),
                    error => Rejection::Untried(error.to_string()),
                });
                found.and_then(|found| {
                    loaded(&found).and_then(|found| compare(states, &found)).map_err(Rejection::Wrong)
                })
            }
        })
    }
}

/// What a snapshot is written from: each shard's place and state, and where the copy of its audit comes.
pub struct Copies(Vec<(Last, Machine, Receiver<io::Result<Copied>>)>);

impl Copies {
    /// Of states that nobody serves, with their audits.
    pub fn of(shards: impl IntoIterator<Item = (Last, Machine, Copied)>) -> Self {
        let with_audit = |(last, machine, copied)| {
            let (give, given) = bounded(1);
            give.send(Ok(copied)).expect("there is room for one");
            (last, machine, given)
        };
        Self(shards.into_iter().map(with_audit).collect())
    }
}

/// Copies `views` and asks for copies of `audit`, shard by shard.
pub fn copy(views: &Views, audit: &Followers) -> Copies {
    let copies = (0..=views.tender_shards()).map(|number| {
        let shard = views.shard(number);
        // Asked for under the lock, so that both are as of the same entry.
        let audit = audit.copy(number);
        (Last { index: shard.machine.index(), term: shard.term }, shard.machine.clone(), audit)
    });
    Copies(copies.collect())
}

/// Writes a snapshot that counts at once; answers up to which index each shard's log is no longer needed.
///
/// # Errors
/// The disk refused, or a key is missing: the log is kept for longer.
pub fn write(copies: Copies, snapshots: &Snapshots) -> Result<Vec<u64>, SnapshotError> {
    write_checked(copies, snapshots, |_, _| Ok(()))
}

/// As [`write`], and it counts once `check` has loaded it and found the same states.
fn write_checked(
    Copies(copies): Copies,
    snapshots: &Snapshots,
    check: impl FnOnce(&Path, &[[u8; 32]]) -> Result<(), Rejection>,
) -> Result<Vec<u64>, SnapshotError> {
    let places: Vec<Last> = copies.iter().map(|(place, ..)| *place).collect();
    let mut writer = snapshots.begin(&places)?;
    let mut states = Vec::with_capacity(places.len());
    for (number, (_, machine, audit)) in copies.into_iter().enumerate() {
        let number = number as u16;
        let failed = |error| SnapshotError::Disk { path: "audit".into(), error };
        let gone = |_| failed(io::Error::other("the audit thread has ended"));
        let audit = audit.recv().map_err(gone)?.map_err(failed)?;
        // A snapshot counts on the files of the audit up to here.
        audit.files.sync().map_err(failed)?;
        let state = machine.state_hash();
        match machine {
            Machine::Accounts(accounts) => {
                for part in accounts.snapshot() {
                    writer.frame(number, Section::Accounts, part.sealed_under(), &encode(&part))?;
                }
            }
            Machine::Tenders(engine) => {
                for (part, organisation) in engine.snapshot_to_seal() {
                    writer.frame(number, Section::Engine, organisation, &encode(&part))?;
                }
            }
        }
        for part in &audit.chains {
            writer.frame(number, Section::Chains, None, &encode(part))?;
        }
        for part in &audit.audit {
            writer.frame(number, Section::Audit, None, &encode(part))?;
        }
        writer.frame(number, Section::State, None, &state)?;
        states.push(state);
    }
    writer.finish_checked(|path| check(path, &states))
}

/// Has another process load the snapshot in `path`, which must find `states`.
fn verify_elsewhere(
    program: &Path,
    keys: &Path,
    path: &Path,
    states: &[[u8; 32]],
    stop: &Receiver<()>,
) -> Result<(), Rejection> {
    let untried = |why: String| Rejection::Untried(why);
    let mut command = Command::new(program);
    command.args(["snapshot", "verify"]).arg(path).arg("--keys").arg(keys);
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::inherit());
    let begun = |error| untried(format!("{} can't be started to verify it: {error}", program.display()));
    let mut child = Ended(command.spawn().map_err(begun)?);
    let mut said = String::new();
    let mut out = child.0.stdout.take().ok_or_else(|| untried("the second process has no output".into()))?;
    let status = loop {
        match child.0.try_wait() {
            Ok(Some(status)) => break status,
            Ok(None) if stop.try_recv() == Err(TryRecvError::Disconnected) => {
                return Err(untried("the node stops".into()));
            }
            // One line for each shard: the pipe holds far more.
            Ok(None) => std::thread::sleep(PATIENCE),
            Err(error) => return Err(untried(error.to_string())),
        }
    };
    io::Read::read_to_string(&mut out, &mut said).map_err(|error| untried(error.to_string()))?;
    if !status.success() {
        // Killed, or it could not read the file: that says nothing of what is in it.
        let tried = status.code().is_some_and(|code| code != UNREADABLE);
        let reject = if tried { Rejection::Wrong } else { untried };
        return Err(reject(format!("the second process ended with {status}: {}", said.trim())));
    }
    let found = said.lines().filter_map(|line| {
        let line: serde_json::Value = serde_json::from_str(line).ok()?;
        Some(line.get("state")?.as_str()?.to_owned())
    });
    let expected = states.iter().map(|state| hex(state));
    let same = found.eq(expected);
    if same { Ok(()) } else { Err(Rejection::Wrong("the second process loaded other states".into())) }
}

/// A second process that does not outlive who waits for it.
struct Ended(Child);

impl Drop for Ended {
    fn drop(&mut self) {
        let _gone = self.0.kill();
        let _reaped = self.0.wait();
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Why a snapshot does not verify.
#[derive(Debug, thiserror::Error)]
pub enum VerifyError {
    /// It can't be read: no file, no keys, no permission.
    #[error("{0}")]
    Unreadable(String),
    /// It is damaged, or does not give the state it says.
    #[error("{0}")]
    Damaged(String),
}

/// Loads the snapshot in `file` with the keys in `keys` as a start would, and compares every shard's state hash with the
/// one that is stored; answers a line of JSON for each shard.
///
/// # Errors
/// [`VerifyError`] says what is wrong.
pub fn verify(file: &Path, keys: &Path, master: Option<&MasterKey>) -> Result<Vec<String>, VerifyError> {
    let disk = Arc::new(RealDisk);
    let unreadable = |error: String| VerifyError::Unreadable(error);
    let keys = match master {
        Some(master) => master.keys(disk.clone(), keys, system_random),
        None => Keys::open(disk.clone(), keys, system_random, false),
    };
    let keys = keys.map_err(|error| unreadable(error.to_string()))?;
    let snapshot = Snapshots::open_file(disk, file, Arc::new(keys)).map_err(|error| match error {
        SnapshotError::Damaged { .. } => VerifyError::Damaged(error.to_string()),
        error => unreadable(error.to_string()),
    })?;
    let damaged = |why: String| VerifyError::Damaged(format!("{}: {why}", file.display()));
    let shards = loaded(&snapshot).map_err(damaged)?;
    let lines = shards.iter().zip(snapshot.places()).enumerate().map(|(number, (shard, last))| {
        let state = hex(&shard.state);
        serde_json::json!({ "shard": number, "index": last.index, "state": state, "erased": shard.erased })
            .to_string()
    });
    Ok(lines.collect())
}

fn compare(states: &[[u8; 32]], found: &[Loaded]) -> Result<(), String> {
    let same = states.iter().eq(found.iter().map(|shard| &shard.state));
    if same { Ok(()) } else { Err("it gives other states".to_owned()) }
}

/// A shard that was loaded to see whether it can be.
struct Loaded {
    state: [u8; 32],
    /// How many parts were left out because their key was destroyed.
    erased: usize,
}

/// Loads every shard and compares what it is with what the snapshot says of it.
fn loaded(snapshot: &SnapshotReader) -> Result<Vec<Loaded>, String> {
    let shards = side_by_side(snapshot, |number, parts| {
        let (stored, erased) = (parts.state, parts.erased);
        let state = machine_of(number, parts.accounts, parts.engine)?.state_hash();
        match stored {
            // What was erased is not in it any more.
            Some(stored) if stored != state && erased == 0 => {
                let (found, stored) = (hex(&state), hex(&stored));
                Err(format!("shard {number} has the state {found}, and {stored} was stored").into())
            }
            _ => Ok(Loaded { state, erased }),
        }
    });
    shards.map_err(|error| error.to_string())
}

fn encode<T: wincode::SchemaWrite<wincode::config::DefaultConfig, Src = T>>(part: &T) -> Vec<u8> {
    wincode::serialize(part).expect("a part is plain data below the codec's limits")
}

/// Why a start can't load a snapshot.
#[derive(Debug, thiserror::Error)]
pub enum RestoreError {
    /// What it holds makes no sense: use the one before it.
    #[error("{0}")]
    Wrong(String),
    /// A key can't be used. The snapshot may be sound: restore the key.
    #[error(transparent)]
    Keys(KeyError),
    /// The disk refused: start again when it works.
    #[error("{}: {error}", .path.display())]
    Disk {
        /// The file.
        path: PathBuf,
        /// The error.
        error: io::Error,
    },
    /// The files of the audit don't go with it: with the one before it they may.
    #[error("{0}")]
    Audit(io::Error),
}

impl From<String> for RestoreError {
    fn from(why: String) -> Self {
        Self::Wrong(why)
    }
}

impl From<SnapshotError> for RestoreError {
    fn from(error: SnapshotError) -> Self {
        match error {
            // Its parts were moved or changed: no other key helps.
            SnapshotError::Keys(error @ KeyError::Unsealed { .. }) => Self::Wrong(error.to_string()),
            SnapshotError::Keys(error) => Self::Keys(error),
            SnapshotError::Disk { path, error } => Self::Disk { path, error },
            error => Self::Wrong(error.to_string()),
        }
    }
}

/// The shards, and their audits at `place`, as of a snapshot.
///
/// # Errors
/// [`RestoreError`] says what can't be read.
pub fn restore(
    snapshot: &SnapshotReader,
    place: &AuditPlace,
    hub: &Hub,
) -> Result<Vec<(ViewShard, AuditShard)>, RestoreError> {
    side_by_side(snapshot, |number, parts| {
        if parts.erased > 0 {
            let erased = parts.erased;
            tracing::info!("{erased} parts of shard {number} in the snapshot are erased: their key was destroyed");
        }
        let last = snapshot.places()[usize::from(number)];
        let machine = machine_of(number, parts.accounts, parts.engine)?;
        if machine.index() != last.index {
            return Err(format!("shard {number} stands at {}, not at {}", machine.index(), last.index).into());
        }
        let audit = AuditShard::open(place, number, parts.chains, parts.audit);
        let audit = audit.map_err(RestoreError::Audit)?;
        if audit.index() != last.index {
            let (found, expected) = (audit.index(), last.index);
            return Err(format!("the audit of shard {number} stands at {found}, not at {expected}").into());
        }
        Ok((ViewShard::new(machine, last.term, hub), audit))
    })
}

/// The machines of all shards as of a snapshot, without their audits.
///
/// # Errors
/// A text that names what can't be read.
pub fn machines(snapshot: &SnapshotReader) -> Result<Vec<Machine>, String> {
    let machines = side_by_side(snapshot, |number, parts| Ok(machine_of(number, parts.accounts, parts.engine)?));
    machines.map_err(|error| error.to_string())
}

/// What `load` makes of the parts of each shard, in order of their numbers. Shards are read and loaded side by side, by
/// as many threads as the disk allows.
fn side_by_side<T: Send>(
    snapshot: &SnapshotReader,
    load: impl Fn(u16, ShardParts) -> Result<T, RestoreError> + Sync,
) -> Result<Vec<T>, RestoreError> {
    let count = snapshot.places().len();
    let next = AtomicUsize::new(0);
    let work = || {
        let mut done = Vec::new();
        loop {
            let number = next.fetch_add(1, Ordering::Relaxed);
            if number >= count {
                return done;
            }
            let number = number as u16;
            done.push((number, ShardParts::read(snapshot, number).and_then(|parts| load(number, parts))));
        }
    };
    let threads = snapshot.readers().min(count);
    let mut done: Vec<(u16, Result<T, RestoreError>)> = std::thread::scope(|scope| {
        let others: Vec<_> = (1..threads).map(|_| scope.spawn(work)).collect();
        let mut done = work();
        for other in others {
            done.extend(other.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic)));
        }
        done
    });
    done.sort_unstable_by_key(|(number, _)| *number);
    done.into_iter().map(|(_, loaded)| loaded).collect()
}

fn machine_of(number: u16, accounts: Vec<AccountsPart>, engine: Vec<EnginePart>) -> Result<Machine, String> {
    let machine = if number == SYSTEM_SHARD {
        Accounts::restore(accounts.into_iter()).map(Machine::Accounts)
    } else {
        Engine::restore(engine.into_iter()).map(Machine::Tenders)
    };
    machine.map_err(|error| format!("shard {number}: {error}"))
}

#[derive(Default)]
struct ShardParts {
    accounts: Vec<AccountsPart>,
    engine: Vec<EnginePart>,
    chains: Vec<ChainsPart>,
    audit: Vec<AuditPart>,
    state: Option<[u8; 32]>,
    erased: usize,
}

impl ShardParts {
    fn read(snapshot: &SnapshotReader, shard: u16) -> Result<Self, RestoreError> {
        let mut parts = Self::default();
        let mut lost = false;
        for frame in snapshot.frames_of(shard) {
            let Frame { section, part, .. } = frame?;
            let Part::Clear(bytes) = part else {
                parts.erased += 1;
                continue;
            };
            match section {
                Section::Accounts
                    if mutant!(SnapshotPartLost)
                        && parts.accounts.len() == 1
                        && !std::mem::replace(&mut lost, true) => {}
                Section::Accounts => parts.accounts.push(decode(&bytes)?),
                Section::Engine => parts.engine.push(decode(&bytes)?),
                Section::Chains => parts.chains.push(decode(&bytes)?),
                Section::Audit => parts.audit.push(decode(&bytes)?),
                Section::State => {
                    let state = bytes.try_into().map_err(|_| "a state hash has 32 bytes".to_owned())?;
                    parts.state = Some(state);
                }
                Section::End => {}
            }
        }
        Ok(parts)
    }
}

fn decode<'a, T>(bytes: &'a [u8]) -> Result<T, String>
where
    T: wincode::SchemaRead<'a, wincode::config::DefaultConfig, Dst = T>,
{
    wincode::deserialize_exact(bytes).map_err(|error| format!("a part can't be decoded: {error}"))
}
