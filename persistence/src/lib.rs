//! The log: commands made durable before anybody is answered, snapshots, and what comes back after a crash.
//!
//! Owns every byte in the data folder and the keys folder, and the links between nodes. Never decides anything about a tender,
//! never asks a clock for a stamp, and never goes on after the disk failed to sync.
//!
//! How a node uses it:
//! ```text
//! let (log, recovered) = Log::open(Arc::new(RealDisk), Options { dir, keys_dir, segment_bytes, shards, .. })?;
//!     recovered.history (HistoryId), .sealer (Sealer), .snapshots (Snapshots), .snapshot (Option<SnapshotReader>),
//!     .last (Vec<Last { index, term }> by shard), .term, .skips (Vec<SkipMark { shard, index, position }>),
//!     .cuts (Vec<Cut>), .entries() -> Iterator<Item = Result<RecoveredEntry { shard, term, entry, erased }, OpenError>>
//!     // in log order, everything after the snapshot
//! let mut solo = Solo::new(recovered.last.iter().map(|last| last.index), recovered.term);
//! let thread = LogThread::spawn(log);              // thread.events(): &Receiver<LogEvent>
//! loop { solo.propose(shard, commands); solo.poll(&mut ready);
//!     batch.clear(); batch.class = Class::Ordinary; ready.fill(&mut batch, &sealer)?; thread.submit(batch);
//!     match event { LogEvent::Flushed { batch } => solo.persisted(batch.ticket),     // batch comes back for reuse
//!                   LogEvent::Refused { batch } => solo.refused(batch.ticket, &mut refused),  // full disk: 503 read_only
//!                   LogEvent::ReadOnly | LogEvent::Writable => …, LogEvent::Failed { error } => abort } }
//! snapshots.begin(&[Last])? -> SnapshotWriter { frame(shard, Section, Option<OrganisationId>, &bytes)?, finish()? -> covered }
//! thread.truncate(covered);
//! ```

/// Whether a known bug is put back; always false but in test builds with the feature `mutants`.
macro_rules! mutant {
    ($name:ident) => {{
        #[cfg(feature = "mutants")]
        let is = crate::mutants::is(crate::mutants::Mutant::$name);
        #[cfg(not(feature = "mutants"))]
        let is = false;
        is
    }};
}

pub mod archive;
mod audit;
mod audit_files;
mod audit_growing;
mod audit_key;
mod audit_reader;
mod batch;
pub mod checkpoint;
mod codec;
mod disk;
mod entries;
mod error;
#[cfg(feature = "failpoints")]
mod failpoints;
pub mod faulty;
mod file_seal;
mod folder;
mod format;
pub mod inspect;
mod keys;
mod keys_orders;
mod keys_use;
mod leaf;
mod log;
mod log_reader;
mod log_thread;
pub mod merkle;
mod meta;
#[cfg(feature = "mutants")]
pub mod mutants;
pub mod peers;
mod poison;
pub mod raft;
pub mod recovery;
mod replicator;
mod scan;
mod scrub;
mod scrub_thread;
mod sealer;
#[cfg(test)]
mod sealing_tests;
mod segment;
mod snapshot;
pub mod sql;
mod terms;
mod tree_check;
mod tree_heads;
mod votes;

pub use audit::{AuditPart, AuditPlace, AuditShard, ChainPlace};
pub use audit_files::AUDIT_VERSION;
pub use audit_reader::{AuditError, AuditReader, Header, Record, RecordKind};
pub use batch::{Batch, Class, Kind};
pub use codec::{DecodeError, Decoded, EncodeError, SCHEMA, decode};
pub use disk::{Disk, DiskFile, RealDisk};
pub use entries::{Entries, RecoveredEntry};
pub use error::{Corruption, OpenError, remedy};
pub use file_seal::Seal;
pub use format::{FORMAT_VERSION, SEGMENT_BYTES, SEGMENT_BYTES_MAX, SEGMENT_BYTES_MIN};
pub use keys::{KeyError, Keys, MasterKey, Random, system_random};
pub use keys_orders::{Order, Ordered};
pub use keys_use::{SealedUnder, sealed_under};
pub use leaf::{
    Chains, ChainsPart, Head, OfferPart, leaf_hash, leaf_hash_with, leaf_of, offer_digest, part_salt, public_part,
    read_public_part, salted_digest, secret_digest,
};
pub use log::{AppendError, Log, Options, Recovered};
pub use log_reader::{LogNow, LogReader};
pub use log_thread::{Ended, LogEvent, LogThread, Truncator};
pub use poison::{note_poison, noted_poison};
pub use replicator::{
    Change, Lead, Message, NotProposed, Placed, Ready, Refusal, ReplicationError, Replicator, Solo, Vote,
};
pub use scan::{Cut, SkipMark};
pub use scrub::{Damage, ScrubCounts, ScrubStatus, Scrubber, Step};
pub use scrub_thread::Scrub;
pub use sealer::Sealer;
pub use segment::Last;
pub use snapshot::{Frame, Part, Rejection, Section, SnapshotError, SnapshotReader, SnapshotWriter, Snapshots};
pub use tree_heads::{TreeHead, TreeHeads};

/// Names one history of a log: what the feed calls `epoch`. Made with the data folder, kept across restarts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct HistoryId(pub u128);

impl std::fmt::Display for HistoryId {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&uuid_text(self.0))
    }
}

/// Not the text of a history.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a history is written as a UUID in lower-case letters")]
pub struct NoHistory;

impl std::str::FromStr for HistoryId {
    type Err = NoHistory;

    fn from_str(text: &str) -> Result<Self, NoHistory> {
        archive::parse_history(text).ok_or(NoHistory)
    }
}

/// The hyphenated text of a 128-bit id.
pub(crate) fn uuid_text(id: u128) -> String {
    let hex = format!("{id:032x}");
    format!("{}-{}-{}-{}-{}", &hex[..8], &hex[8..12], &hex[12..16], &hex[16..20], &hex[20..])
}
