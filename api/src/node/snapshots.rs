//! Snapshots of the view: taken in the background, so that a restart replays little and the log can be cut.
//!
//! One shard at a time is copied under its lock and written from the copy; the core never notices.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use crossbeam::channel::{Receiver, RecvTimeoutError};
use engine::{Accounts, AccountsPart, Engine, EnginePart};
use persistence::{
    AuditPart, AuditPlace, AuditShard, ChainsPart, Frame, Last, Part, Section, SnapshotError, SnapshotReader,
    Snapshots, Truncator,
};

use super::audit::{Copied, Followers};
use super::machine::{Machine, SYSTEM_SHARD};
use super::view::{ViewShard, Views};
use crate::feed::Hub;

/// How often the thread looks whether a snapshot is due.
const PERIOD: Duration = Duration::from_millis(200);

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
    /// Bytes written to the log since the start.
    pub log_bytes: Arc<AtomicU64>,
    /// How many bytes of log make a snapshot due.
    pub every_bytes: u64,
}

impl Snapshotter {
    /// The snapshot thread; ends when `stop` closes.
    pub fn run(self, stop: &Receiver<()>) {
        let mut taken_at = 0;
        while stop.recv_timeout(PERIOD) == Err(RecvTimeoutError::Timeout) {
            let now = self.log_bytes.load(Ordering::Relaxed);
            if now - taken_at < self.every_bytes {
                continue;
            }
            taken_at = now;
            match write(copy(&self.views, &self.audit), &self.snapshots) {
                Ok(covered) => {
                    metrics::counter!("rt_snapshots_total").increment(1);
                    if self.truncator.truncate(covered).is_err() {
                        return;
                    }
                }
                Err(error) => {
                    metrics::counter!("rt_snapshot_failures_total").increment(1);
                    tracing::error!("A snapshot could not be written; the log is kept for longer: {error}");
                }
            }
        }
    }
}

/// What a snapshot is written from: each shard's place and state, and where the copy of its audit comes.
pub struct Copies(Vec<(Last, Machine, Receiver<io::Result<Copied>>)>);

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

/// Writes a snapshot; answers up to which index each shard's log is no longer needed.
///
/// # Errors
/// The disk refused, or a key is missing: the log is kept for longer.
pub fn write(Copies(copies): Copies, snapshots: &Snapshots) -> Result<Vec<u64>, SnapshotError> {
    let places: Vec<Last> = copies.iter().map(|(place, ..)| *place).collect();
    let mut writer = snapshots.begin(&places)?;
    for (number, (_, machine, audit)) in copies.into_iter().enumerate() {
        let number = number as u16;
        let failed = |error| SnapshotError::Disk { path: "audit".into(), error };
        let gone = |_| failed(io::Error::other("the audit thread has ended"));
        let audit = audit.recv().map_err(gone)?.map_err(failed)?;
        // A snapshot counts on the files of the audit up to here.
        audit.files.sync().map_err(failed)?;
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
    }
    writer.finish()
}

fn encode<T: wincode::SchemaWrite<wincode::config::DefaultConfig, Src = T>>(part: &T) -> Vec<u8> {
    wincode::serialize(part).expect("a part is plain data below the codec's limits")
}

/// The shards, and their audits at `place`, as of a snapshot.
///
/// # Errors
/// A text that names what can't be read.
pub fn restore(
    snapshot: &SnapshotReader,
    place: &AuditPlace,
    hub: &Hub,
) -> Result<Vec<(ViewShard, AuditShard)>, String> {
    let mut parts: Vec<ShardParts> = snapshot.places().iter().map(|_| ShardParts::default()).collect();
    for frame in snapshot.frames() {
        let Frame { shard, section, part } = frame.map_err(|error| error.to_string())?;
        let Part::Clear(bytes) = part else {
            tracing::info!("A part of the snapshot stays erased: its key was destroyed");
            continue;
        };
        let of_shard = parts.get_mut(usize::from(shard)).ok_or("a frame names a shard that is not there")?;
        match section {
            Section::Accounts => of_shard.accounts.push(decode(&bytes)?),
            Section::Engine => of_shard.engine.push(decode(&bytes)?),
            Section::Chains => of_shard.chains.push(decode(&bytes)?),
            Section::Audit => of_shard.audit.push(decode(&bytes)?),
            Section::End => {}
        }
    }
    let places = snapshot.places().iter();
    places
        .zip(parts)
        .enumerate()
        .map(|(number, (last, parts))| {
            let machine = if number as u16 == SYSTEM_SHARD {
                Accounts::restore(parts.accounts.into_iter()).map(Machine::Accounts)
            } else {
                Engine::restore(parts.engine.into_iter()).map(Machine::Tenders)
            };
            let machine = machine.map_err(|error| format!("shard {number}: {error}"))?;
            if machine.index() != last.index {
                return Err(format!("shard {number} stands at {}, not at {}", machine.index(), last.index));
            }
            let audit = AuditShard::open(place, number as u16, parts.chains, parts.audit);
            let audit = audit.map_err(|error| error.to_string())?;
            if audit.index() != last.index {
                return Err(format!(
                    "the audit of shard {number} stands at {}, not at {}",
                    audit.index(),
                    last.index
                ));
            }
            Ok((ViewShard::new(machine, last.term, hub), audit))
        })
        .collect()
}

#[derive(Default)]
struct ShardParts {
    accounts: Vec<AccountsPart>,
    engine: Vec<EnginePart>,
    chains: Vec<ChainsPart>,
    audit: Vec<AuditPart>,
}

fn decode<'a, T>(bytes: &'a [u8]) -> Result<T, String>
where
    T: wincode::SchemaRead<'a, wincode::config::DefaultConfig, Dst = T>,
{
    wincode::deserialize_exact(bytes).map_err(|error| format!("a part can't be decoded: {error}"))
}
