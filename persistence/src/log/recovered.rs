//! What a folder held when its log was opened. Reads only.

use std::sync::Arc;

use crate::disk::Disk;
use crate::entries::{Entries, RecoveredEntry};
use crate::error::{Corruption, OpenError};
use crate::format::SEGMENT_HEADER;
use crate::log_reader::LogReader;
use crate::raft::ShardLog;
use crate::scan::{Cut, SegmentFile, SkipMark};
use crate::segment::{Identity, Last};
use crate::snapshot::{SnapshotReader, Snapshots};
use crate::terms::{Overwrite, Terms};
use crate::tree_heads::TreeHead;
use crate::{HistoryId, Placed, Sealer, Vote};

/// What a folder held when it was opened.
pub struct Recovered {
    /// The history of this log; the feed's `epoch`.
    pub history: HistoryId,
    /// The cluster this log belongs to.
    pub cluster: u128,
    /// Where each shard stands.
    pub last: Vec<Last>,
    /// The highest term in the log.
    pub term: u64,
    /// Term, vote and commit mark of each shard, where one was written.
    pub votes: Vec<Option<Vote>>,
    /// What segments state of the trees of their shards, in the order of the log.
    pub tree_heads: Vec<(u16, TreeHead)>,
    /// Commands to be passed by in the replay.
    pub skips: Vec<SkipMark>,
    /// Those of them that this node noted and its log does not say.
    pub noted: Vec<SkipMark>,
    /// What was cut, if the last flush was torn.
    pub cuts: Vec<Cut>,
    /// The newest sound snapshot.
    pub snapshot: Option<SnapshotReader>,
    /// Snapshots are written here.
    pub snapshots: Snapshots,
    /// Seals and opens secret parts.
    pub sealer: Sealer,
    pub(super) disk: Arc<dyn Disk>,
    pub(super) files: Vec<SegmentFile>,
    pub(super) overwrites: Vec<Overwrite>,
    pub(super) terms: Vec<Terms>,
    pub(super) replicated: bool,
}

impl Recovered {
    /// Reads the same log later, beside the node that writes it.
    pub fn reader(&self) -> LogReader {
        let shards = self.last.len() as u16;
        LogReader {
            disk: Arc::clone(&self.disk),
            dir: self.snapshots.dir().with_file_name("log"),
            identity: Identity { cluster: self.cluster, history: self.history, shards },
            sealer: self.sealer.clone(),
            snapshots: self.snapshots.clone(),
        }
    }

    /// The entries after the snapshot, in log order; of a node among several only those that are known to be committed.
    /// To be read before anything is truncated.
    pub fn entries(&self) -> Entries {
        let entries = self.entries_of_all_fates();
        if !self.replicated {
            return entries;
        }
        let mark = |vote: &Option<Vote>| vote.map_or(0, |vote| vote.commit);
        entries.until(self.votes.iter().map(mark).collect())
    }

    fn entries_of_all_fates(&self) -> Entries {
        let start = || vec![0; self.last.len()];
        let after = self.snapshot.as_ref().map_or_else(start, SnapshotReader::indices);
        let (disk, sealer) = (Arc::clone(&self.disk), self.sealer.clone());
        Entries::new(disk, sealer, &self.files, after, self.overwrites.clone())
    }

    /// What replication by Raft goes on from, by shard. All entries after the snapshot are read into memory. Of a node
    /// among several, the caller has applied what [`Recovered::entries`] gave.
    ///
    /// # Errors
    /// [`OpenError`] when a segment can't be read, or the log does not know the term at the snapshot's end.
    pub fn shard_logs(&self) -> Result<Vec<ShardLog>, OpenError> {
        let start = |shard: usize| self.snapshot.as_ref().map_or(0, |snapshot| snapshot.indices()[shard]);
        let mut logs = Vec::with_capacity(self.last.len());
        for (shard, terms) in self.terms.iter().enumerate() {
            let index = start(shard);
            let term = terms.at(index).unwrap_or_default();
            logs.push(ShardLog {
                vote: self.votes[shard],
                start: Last { index, term },
                entries: Vec::new(),
                applied: 0,
            });
        }
        for entry in self.entries_of_all_fates() {
            let RecoveredEntry { shard, term, entry, .. } = entry?;
            logs[usize::from(shard)].entries.push(Placed { shard, term, entry: Arc::new(entry) });
        }
        if self.replicated {
            for log in &mut logs {
                log.applied = log.committed();
            }
        }
        Ok(logs)
    }

    /// Turns to the snapshot before this one, which can't be loaded, or to the beginning of the log. Changes no file.
    ///
    /// # Errors
    /// [`OpenError::Corrupt`] when the log begins behind what is left.
    pub fn step_back(&mut self) -> Result<(), OpenError> {
        let Some(bad) = self.snapshot.take() else {
            return Ok(());
        };
        let older = self.snapshots.newest_sound(Some(bad.number()))?;
        let base = self.files.first().and_then(|file| Some((file, file.opening.as_ref()?)));
        for shard in 0..self.last.len() {
            let reaches = older.as_ref().map_or(0, |snapshot| snapshot.indices()[shard]);
            if let Some((file, opening)) = base.filter(|(_, opening)| opening.base[shard].index > reaches) {
                return Err(Corruption {
                    file: file.path.clone(),
                    offset: SEGMENT_HEADER as u64,
                    what: "no snapshot can be loaded that reaches the first segment",
                    expected: format!("index {} of shard {shard}", reaches + 1),
                    found: format!("index {}", opening.base[shard].index + 1),
                }
                .into());
            }
        }
        self.snapshot = older;
        Ok(())
    }

    /// All entries that the folder still holds, the snapshot's included.
    pub fn entries_from_start(&self) -> Entries {
        let after = vec![0; self.last.len()];
        let (disk, sealer) = (Arc::clone(&self.disk), self.sealer.clone());
        Entries::new(disk, sealer, &self.files, after, self.overwrites.clone())
    }
}
