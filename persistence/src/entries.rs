//! Reads the entries of a scanned log, one segment in memory at a time. Every record was checked by the scan.

use std::io;
use std::sync::Arc;

use crate::Sealer;
use crate::codec::{self, Decoded};
use crate::disk::Disk;
use crate::error::OpenError;
use crate::file_seal::FileOpener;
use crate::format::{RECORD_HEADER, RecordHeader, SEGMENT_HEADER, record_len};
use crate::scan::{SegmentFile, entry_error, open_record, opener, read, record_at};
use crate::terms::Overwrite;

/// One entry read back.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RecoveredEntry {
    /// The shard.
    pub shard: u16,
    /// The term it was proposed in.
    pub term: u64,
    /// The entry.
    pub entry: engine::Entry,
    /// What the chains need of secret parts whose key was destroyed.
    pub erased: Vec<(u32, [u8; 32])>,
    /// How many bytes of log lie behind its record; 0 for the last one.
    pub behind: u64,
}

/// The entries of the log in its order, those after the snapshot.
pub struct Entries {
    disk: Arc<dyn Disk>,
    sealer: Sealer,
    files: std::vec::IntoIter<SegmentFile>,
    /// Bytes of records in `files`.
    bytes: u64,
    after: Vec<u64>,
    /// The last entry of each shard that is wanted, where not all are.
    until: Option<Vec<u64>>,
    overwrites: Vec<Overwrite>,
    now: Option<Reading>,
}

/// The segment that is being read.
struct Reading {
    file: SegmentFile,
    bytes: Vec<u8>,
    offset: usize,
    opener: Option<FileOpener>,
}

impl Entries {
    pub(crate) fn new(
        disk: Arc<dyn Disk>,
        sealer: Sealer,
        files: &[SegmentFile],
        after: Vec<u64>,
        overwrites: Vec<Overwrite>,
    ) -> Self {
        // A segment is not read when the next one begins before the snapshot's end in every shard.
        let covered = files.windows(2).take_while(|pair| {
            let base = pair[1].opening.as_ref().map_or(&[][..], |opening| &opening.base);
            base.iter().zip(&after).all(|(last, after)| last.index <= *after)
        });
        let files = files[covered.count()..].to_vec();
        let bytes = files.iter().map(content).sum();
        Self { disk, sealer, files: files.into_iter(), bytes, after, until: None, overwrites, now: None }
    }

    /// Those up to entry `until[shard]` of every shard.
    pub(crate) fn until(self, until: Vec<u64>) -> Self {
        Self { until: Some(until), ..self }
    }

    fn next_entry(&mut self) -> Result<Option<RecoveredEntry>, OpenError> {
        loop {
            let Some(Reading { file, bytes, offset, opener }) = &mut self.now else {
                let Some(file) = self.files.next() else {
                    return Ok(None);
                };
                self.bytes -= content(&file);
                let bytes = read(&*self.disk, &file.path)?;
                let opener = opener(&file.header, &file.path, Some(self.sealer.keys()))?;
                self.now = Some(Reading { file, bytes, offset: SEGMENT_HEADER, opener });
                continue;
            };
            if *offset >= file.end {
                self.now = None;
                continue;
            }
            let changed = |offset: usize| {
                let error = io::Error::other(format!("offset {offset} changed while it was read"));
                OpenError::Disk { path: file.path.clone(), error }
            };
            let at = *offset;
            let record = record_at(bytes, &file.header, at, file.end).ok_or_else(|| changed(at))?;
            *offset = at + record_len(record.payload.len());
            let RecordHeader { shard, term, index, schema, .. } = record.header;
            if !record.kind.is_entry() || index <= self.after[usize::from(shard)] {
                continue;
            }
            if self.until.as_ref().is_some_and(|until| index > until[usize::from(shard)]) {
                continue;
            }
            let place = (file.header.sequence, at);
            let replaced = |by: &Overwrite| by.replaces(shard, index, place);
            if self.overwrites.iter().any(replaced) {
                continue;
            }
            let opened;
            let payload = match opener {
                None => record.payload,
                Some(opener) => {
                    let head = &bytes[at..at + RECORD_HEADER];
                    opened = open_record(opener, &record, head).ok_or_else(|| changed(at))?;
                    &opened
                }
            };
            let Decoded { entry, erased } = codec::decode(payload, schema, shard, index, &self.sealer)
                .map_err(|error| entry_error(&file.path, at, error))?;
            let behind = self.bytes + file.end.saturating_sub(*offset) as u64;
            return Ok(Some(RecoveredEntry { shard, term, entry, erased, behind }));
        }
    }
}

impl Iterator for Entries {
    type Item = Result<RecoveredEntry, OpenError>;

    fn next(&mut self) -> Option<Self::Item> {
        self.next_entry().transpose()
    }
}

/// Bytes of the records of a file.
fn content(file: &SegmentFile) -> u64 {
    file.end.saturating_sub(SEGMENT_HEADER) as u64
}
