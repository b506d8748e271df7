//! Segment files: their names, their opening record, and the helper that makes them ready ahead of need.
//!
//! A segment is filled with zeros (or is an old one used again), its header durable, before it gets its name; so a
//! file with a segment's name always had a good header, and writing records never changes a file's length.

use std::collections::VecDeque;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use tracing::warn;
use wincode::{SchemaRead, SchemaWrite};

use crate::archive::Reach;
use crate::disk::{Disk, DiskFile};
use crate::error::lacks_descriptor;
use crate::file_seal::{FileId, FileSealer};
use crate::format::{FORMAT_VERSION, RECORD_HEADER, SEGMENT_HEADER, SegmentHeader};
use crate::keys::{KeyError, Random};
use crate::{HistoryId, Sealer};

/// Zeros that follow the last record of every flush, where there is room: the mark of the log's end.
pub(crate) const END_MARK: usize = RECORD_HEADER;
/// How much is written at once while a segment is filled.
const FILL: usize = 256 << 10;
/// How many old segments wait to be used again; more are removed.
const FREE_MAX: usize = 2;
/// Ends the name of a damaged segment that was put aside.
const ASIDE: &str = ".bad";

/// The last record of a shard up to some place of the log.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, SchemaWrite, SchemaRead)]
pub struct Last {
    /// Its index; 0 for none.
    pub index: u64,
    /// Its term.
    pub term: u64,
}

/// Whose log it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Identity {
    pub(crate) cluster: u128,
    pub(crate) history: HistoryId,
    pub(crate) shards: u16,
}

/// Payload of the opening record of a segment, schema 1.
#[derive(Clone, Debug, PartialEq, Eq, SchemaWrite, SchemaRead)]
pub(crate) struct Opening {
    /// Where the records of the segment before end; 0 in the first segment.
    pub(crate) previous_end: u32,
    /// Where each shard stood when this segment was begun.
    pub(crate) base: Vec<Last>,
}

pub(crate) fn name(sequence: u64) -> String {
    format!("{sequence:016x}.seg")
}

pub(crate) fn sequence_of(name: &str) -> Option<u64> {
    let digits = name.strip_suffix(".seg").filter(|digits| digits.len() == 16)?;
    u64::from_str_radix(digits, 16).ok()
}

/// A segment that nothing was written to yet.
pub(crate) struct Prepared {
    pub(crate) file: Box<dyn DiskFile>,
    pub(crate) header: SegmentHeader,
    /// Seals its records, when everything is sealed.
    pub(crate) sealer: Option<FileSealer>,
}

/// Which file a segment is, for its seal.
pub(crate) fn file_id(header: &SegmentHeader) -> FileId {
    FileId {
        kind: 1,
        version: header.version,
        cluster: header.cluster,
        number: header.sequence,
        generation: header.generation,
    }
}

/// Why a segment could not be made ready.
#[derive(Debug)]
pub(crate) enum MakeError {
    /// There is no space, no descriptor, or no data key that can be used: later there may be.
    NoSpace(io::Error),
    /// The disk failed: stop.
    Fatal(io::Error),
}

/// Makes segments ready. Used by one thread.
pub(crate) struct SegmentMaker {
    pub(crate) disk: Arc<dyn Disk>,
    pub(crate) dir: PathBuf,
    pub(crate) identity: Identity,
    pub(crate) segment_bytes: u32,
    pub(crate) random: Random,
    /// What the scrub found damaged, and how far the log is durable.
    pub(crate) reach: Arc<Reach>,
    sealer: Sealer,
    free: VecDeque<u64>,
    /// Names have changed and are not durable yet.
    unsynced: bool,
}

impl SegmentMaker {
    pub(crate) fn new(
        disk: Arc<dyn Disk>,
        dir: &Path,
        identity: Identity,
        segment_bytes: u32,
        random: Random,
        sealer: Sealer,
    ) -> Self {
        let (free, reach) = (VecDeque::new(), Arc::default());
        Self { disk, dir: dir.to_owned(), identity, segment_bytes, random, reach, sealer, free, unsynced: false }
    }

    /// Takes over segments whose records are no longer needed. Oldest first, so that no hole appears. What can't be let go
    /// for want of a descriptor goes later.
    pub(crate) fn retire(&mut self, sequences: Vec<u64>) -> Result<(), MakeError> {
        // The log stops at the oldest segment it keeps, so a file may stay under its name until it is used.
        self.free.extend(sequences);
        match self.let_go() {
            Err(MakeError::NoSpace(error)) => {
                warn!("Segments that are no longer needed stay for now: {error}");
                Ok(())
            }
            done => done,
        }
    }

    fn let_go(&mut self) -> Result<(), MakeError> {
        self.put_aside()?;
        while self.free.len() > FREE_MAX
            && let Some(oldest) = self.free.front().copied()
        {
            self.sync_names()?;
            self.disk.remove(&self.dir.join(name(oldest))).map_err(kind)?;
            self.free.pop_front();
            self.unsynced = true;
        }
        self.sync_names()
    }

    /// Makes the names durable that have changed. Where no descriptor is to be had, nothing was tried, and it is due
    /// before the next change; an error of the sync itself is final.
    fn sync_names(&mut self) -> Result<(), MakeError> {
        if std::mem::take(&mut self.unsynced)
            && let Err(error) = self.disk.sync_dir(&self.dir)
        {
            self.unsynced = lacks_descriptor(&error) && !mutant!(LackOfDescriptorsFatal);
            return Err(if self.unsynced { MakeError::NoSpace(error) } else { MakeError::Fatal(error) });
        }
        Ok(())
    }

    /// Takes segments that were found damaged out of the log, now that nothing needs them: each lies under a name aside
    /// from now on, for who wants to look at it, and its place on the device is not written to again. Those before it are
    /// removed, oldest first, so that no hole appears.
    fn put_aside(&mut self) -> Result<(), MakeError> {
        let damaged = self.reach.damaged();
        while self.free.iter().any(|waiting| damaged.contains(waiting))
            && let Some(oldest) = self.free.front().copied()
        {
            self.sync_names()?;
            let path = self.dir.join(name(oldest));
            if damaged.contains(&oldest) {
                let aside = self.dir.join(format!("{}{ASIDE}", name(oldest)));
                warn!(
                    "The damaged segment {} is no longer needed; it lies in {} now",
                    path.display(),
                    aside.display()
                );
                self.disk.rename(&path, &aside).map_err(kind)?;
            } else {
                self.disk.remove(&path).map_err(kind)?;
            }
            self.free.pop_front();
            self.unsynced = true;
        }
        self.sync_names()
    }

    /// Makes segment `sequence` with room for `size` bytes; replaces one that was made ready before.
    pub(crate) fn make(&mut self, sequence: u64, size: u32) -> Result<Prepared, MakeError> {
        let mut generation = [0; 8];
        (self.random)(&mut generation);
        if mutant!(GenerationNotSalted) {
            generation = [7; 8];
        }
        let mut header = SegmentHeader {
            version: FORMAT_VERSION,
            cluster: self.identity.cluster,
            history: self.identity.history,
            sequence,
            generation: u64::from_le_bytes(generation),
            segment_bytes: size,
            shards: self.identity.shards,
            seal: None,
        };
        self.sync_names()?;
        let sealer = self.sealer.begin_file(&file_id(&header)).map_err(key_kind)?;
        header.seal = sealer.as_ref().map(|(_, seal)| *seal);
        let aside = self.dir.join(format!("{sequence:016x}.new"));
        let path = self.dir.join(name(sequence));
        let recycled = if size == self.segment_bytes { self.recycle(&aside)? } else { None };
        let made = match recycled {
            Some(file) => {
                write_header(&*file, &header).and_then(|()| file.sync_data().map_err(kind)).map(|()| file)
            }
            None => self.fill(&aside, &header),
        };
        let file = match made {
            Ok(file) => file,
            Err(MakeError::NoSpace(error)) => {
                // Give back what was taken, so that records that fit elsewhere and snapshots find space.
                let removed = self.disk.remove(&aside);
                removed.or_else(|error| match error.kind() {
                    io::ErrorKind::NotFound => Ok(()),
                    _ => Err(MakeError::Fatal(error)),
                })?;
                return Err(MakeError::NoSpace(error));
            }
            Err(fatal) => return Err(fatal),
        };
        self.disk.rename(&aside, &path).map_err(kind)?;
        self.unsynced = !mutant!(NameNotSynced);
        self.sync_names()?;
        Ok(Prepared { file, header, sealer: sealer.map(|(sealer, _)| sealer) })
    }

    /// Takes an old segment of the usual size out of the log and opens it under a name aside.
    fn recycle(&mut self, aside: &Path) -> Result<Option<Box<dyn DiskFile>>, MakeError> {
        self.put_aside()?;
        while let Some(old) = self.free.front() {
            let path = self.dir.join(name(*old));
            self.disk.rename(&path, aside).map_err(kind)?;
            self.free.pop_front();
            self.unsynced = true;
            self.sync_names()?;
            let file = self.disk.open(aside).map_err(kind)?;
            if file.len().map_err(kind)? == u64::from(self.segment_bytes) {
                return Ok(Some(file));
            }
            self.disk.remove(aside).map_err(kind)?;
        }
        Ok(None)
    }

    fn fill(&self, path: &Path, header: &SegmentHeader) -> Result<Box<dyn DiskFile>, MakeError> {
        let file = self.disk.create(path).map_err(kind)?;
        write_header(&*file, header)?;
        let zeros = vec![0; FILL];
        let size = header.segment_bytes as usize;
        let mut offset = SEGMENT_HEADER + END_MARK;
        while offset < size {
            // Writes end at multiples of FILL, so that the device sees whole pages.
            let end = ((offset / FILL + 1) * FILL).min(size);
            file.write_at(offset as u64, &[&zeros[..end - offset]]).map_err(kind)?;
            offset = end;
        }
        // Also the length, which records never change again.
        if !mutant!(LengthNotSynced) {
            file.sync_all().map_err(kind)?;
        }
        Ok(file)
    }
}

/// Writes a segment's header, and the mark that no record follows.
fn write_header(file: &dyn DiskFile, header: &SegmentHeader) -> Result<(), MakeError> {
    file.write_at(0, &[&header.encode()[..], &[0; END_MARK]]).map_err(kind)
}

/// A data key that can't be used makes no new segment; records that are durable are not hurt.
fn key_kind(error: KeyError) -> MakeError {
    match error {
        KeyError::Disk { error, .. } => kind(error),
        error => MakeError::NoSpace(io::Error::other(error)),
    }
}

/// A file that is not in use yet may fail for want of space; everything else is a failing disk.
fn kind(error: io::Error) -> MakeError {
    match error.kind() {
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => MakeError::NoSpace(error),
        _ if lacks_descriptor(&error) => MakeError::NoSpace(error),
        _ => MakeError::Fatal(error),
    }
}
