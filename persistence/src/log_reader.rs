//! Reads the log of a running node from its files, for whoever follows it and has fallen behind. Takes no lock and
//! changes nothing; a flush under way, or a segment that goes meanwhile, is an error after which one asks again.

use std::path::PathBuf;
use std::sync::Arc;

use crate::disk::Disk;
use crate::entries::Entries;
use crate::error::OpenError;
use crate::scan::{SkipMark, scan};
use crate::segment::Identity;
use crate::{Sealer, SnapshotReader, Snapshots, noted_poison};

/// Reads a log beside the node that writes it.
#[derive(Clone)]
pub struct LogReader {
    pub(crate) disk: Arc<dyn Disk>,
    pub(crate) dir: PathBuf,
    pub(crate) identity: Identity,
    pub(crate) sealer: Sealer,
    pub(crate) snapshots: Snapshots,
}

/// What a log holds now.
pub struct LogNow {
    /// Up to which entry of each shard the log no longer holds any.
    pub base: Vec<u64>,
    /// The last entry of each shard.
    pub last: Vec<u64>,
    /// Commands to be passed by.
    pub skips: Vec<SkipMark>,
    /// The entries behind those asked for.
    pub entries: Entries,
}

impl LogReader {
    /// The entries behind `after`, as far as they are durable.
    ///
    /// # Errors
    /// [`OpenError`]: the log changed while it was read, or is damaged.
    pub fn read(&self, after: Vec<u64>) -> Result<LogNow, OpenError> {
        let keys = Some(self.sealer.keys());
        let found = scan(&*self.disk, &self.dir, self.identity, keys, false)?;
        let opening = found.used.first().and_then(|file| file.opening.as_ref());
        let base = opening
            .map_or_else(|| vec![0; after.len()], |opening| opening.base.iter().map(|last| last.index).collect());
        let last = found.last.iter().map(|last| last.index).collect();
        let entries =
            Entries::new(Arc::clone(&self.disk), self.sealer.clone(), &found.used, after, found.overwrites);
        let mut skips = found.skips;
        let data = self.dir.parent().unwrap_or(&self.dir);
        let noted = noted_poison(&*self.disk, data).map_err(OpenError::disk(data))?;
        skips.extend(noted);
        Ok(LogNow { base, last, skips, entries })
    }

    /// The newest sound snapshot, or the newest one before number `before`.
    ///
    /// # Errors
    /// The folder can't be read.
    pub fn snapshot(&self, before: Option<u64>) -> Result<Option<SnapshotReader>, OpenError> {
        self.snapshots.newest_sound(before)
    }
}
