//! Snapshots: the state of all shards as plain data, at one index a shard, in a file of checked frames.
//!
//! Written aside, made durable and renamed, so that a file with a snapshot's name was whole once. Two are kept; if the
//! newest is damaged the older one and a longer replay give the same state. Knows nothing of what the parts mean.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use engine::OrganisationId;
use tracing::warn;
use zeroize::Zeroizing;

use crate::HistoryId;
use crate::audit::AuditPart;
use crate::disk::{Disk, DiskFile};
use crate::error::OpenError;
use crate::format::{ALIGN, put, u16_at, u32_at, u64_at, u128_at};
use crate::keys::KeyError;
use crate::sealer::{Place, Sealed, Sealer};
use crate::segment::{Identity, Last};

/// Version of the snapshot format that is written. One of a later version is passed by, as a damaged one is.
pub const SNAPSHOT_VERSION: u32 = 2;
/// The oldest version that is read: without the section [`Section::Audit`].
pub const SNAPSHOT_VERSION_MIN: u32 = 1;
/// Most bytes of one part.
pub const FRAME_MAX: usize = 1 << 20;
/// How many snapshots are kept.
pub const SNAPSHOTS_KEPT: usize = 2;
pub(crate) const MAGIC: [u8; 8] = *b"RTSNAPSH";

// Header, little-endian: 0 magic | 8 version u32 | 12 crc32c u32 | 16 cluster u128 | 32 history u128 |
// 48 number u64 | 56 shards u16 | 58 zero | 64 for each shard: index u64, term u64
pub(crate) const CLUSTER: usize = 16;
pub(crate) const HISTORY: usize = 32;
pub(crate) const NUMBER: usize = 48;
pub(crate) const SHARDS: usize = 56;
pub(crate) const VECTOR: usize = 64;
pub(crate) const PLACE: usize = 16;

// Frame, little-endian: 0 crc32c u32 | 4 length u32 | 8 number u32 | 12 shard u16 | 14 section u8 | 15 sealed u8 |
// 16 payload, then zeros to a multiple of 8
pub(crate) const FRAME_LENGTH: usize = 4;
pub(crate) const FRAME_NUMBER: usize = 8;
pub(crate) const FRAME_SHARD: usize = 12;
pub(crate) const FRAME_SECTION: usize = 14;
pub(crate) const FRAME_SEALED: usize = 15;
pub(crate) const FRAME_HEADER: usize = 16;
/// Longest payload of a frame: a part, sealed.
const PAYLOAD_MAX: usize = FRAME_MAX + 1024;
/// Frames are written together up to about this size.
const WRITE_BYTES: usize = 256 << 10;

/// What a frame holds. The numbers are on disk: never renumber.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Section {
    /// A part of a tender shard's engine.
    Engine = 1,
    /// A part of the accounts.
    Accounts = 2,
    /// A part of a shard's hash chains.
    Chains = 3,
    /// A part of a shard's audit; since version 2.
    Audit = 4,
    /// Last frame of the file.
    End = 255,
}

impl Section {
    const ALL: [Self; 5] = [Self::Engine, Self::Accounts, Self::Chains, Self::Audit, Self::End];

    fn from_byte(byte: u8) -> Option<Self> {
        Self::ALL.into_iter().find(|section| *section as u8 == byte)
    }
}

/// What a frame's payload turned out to be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Part {
    /// The part as it was written.
    Clear(Vec<u8>),
    /// The key of this organisation was destroyed.
    Erased(OrganisationId),
}

/// One frame read back.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Frame {
    /// The shard.
    pub shard: u16,
    /// What it holds.
    pub section: Section,
    /// Its payload.
    pub part: Part,
}

/// Why a snapshot can't be written or read.
#[derive(Debug, thiserror::Error)]
pub enum SnapshotError {
    /// The disk refused: try again later; the log is unhurt.
    #[error("{}: {error}", .path.display())]
    Disk {
        /// The file.
        path: PathBuf,
        /// The error.
        error: io::Error,
    },
    /// It is damaged: use the older one.
    #[error("{}, offset {offset}: {what}", .path.display())]
    Damaged {
        /// The file.
        path: PathBuf,
        /// Where in it.
        offset: u64,
        /// What is wrong.
        what: String,
    },
    /// A part is larger than [`FRAME_MAX`]: a defect of who made it.
    #[error("a part of {0} bytes is larger than {FRAME_MAX}")]
    TooLarge(usize),
    /// A key is missing or wrong.
    #[error(transparent)]
    Keys(#[from] KeyError),
}

/// The snapshots of a data folder. Cheap to clone.
#[derive(Clone)]
pub struct Snapshots {
    disk: Arc<dyn Disk>,
    dir: PathBuf,
    sealer: Sealer,
    identity: Identity,
}

pub(crate) fn name(number: u64) -> String {
    format!("{number:016x}.snap")
}

fn number_of(name: &str) -> Option<u64> {
    let digits = name.strip_suffix(".snap").filter(|digits| digits.len() == 16)?;
    u64::from_str_radix(digits, 16).ok()
}

fn disk_error(path: &Path) -> impl Fn(io::Error) -> SnapshotError + '_ {
    |error| SnapshotError::Disk { path: path.to_owned(), error }
}

impl Snapshots {
    pub(crate) fn new(disk: Arc<dyn Disk>, dir: PathBuf, sealer: Sealer, identity: Identity) -> Self {
        Self { disk, dir, sealer, identity }
    }

    pub(crate) fn dir(&self) -> &Path {
        &self.dir
    }

    /// The numbers of the snapshots that are there, newest first.
    pub(crate) fn numbers(&self) -> io::Result<Vec<u64>> {
        let names = self.disk.list(&self.dir)?;
        let mut numbers: Vec<u64> = names.iter().filter_map(|name| number_of(name)).collect();
        numbers.sort_unstable_by(|a, b| b.cmp(a));
        Ok(numbers)
    }

    /// All sound snapshots, newest first; what is wrong with the others is logged.
    pub(crate) fn sound(&self) -> Result<Vec<SnapshotReader>, OpenError> {
        let mut sound = Vec::new();
        for number in self.numbers().map_err(OpenError::disk(&self.dir))? {
            match self.read(number) {
                Ok(snapshot) => sound.push(snapshot),
                Err(SnapshotError::Disk { path, error }) => {
                    return Err(OpenError::Disk { path, error });
                }
                Err(error) => warn!("Snapshot passed by, the one before it is used: {error}"),
            }
        }
        Ok(sound)
    }

    /// Opens a snapshot after checking every byte of it.
    pub(crate) fn read(&self, number: u64) -> Result<SnapshotReader, SnapshotError> {
        let path = self.dir.join(name(number));
        let file = self.disk.open(&path).map_err(disk_error(&path))?;
        let len = file.len().map_err(disk_error(&path))?;
        let damaged = |offset: usize, what: &str| SnapshotError::Damaged {
            path: path.clone(),
            offset: offset as u64,
            what: what.to_owned(),
        };
        let size = VECTOR + PLACE * usize::from(self.identity.shards);
        if len < size as u64 {
            return Err(damaged(0, "shorter than its header"));
        }
        let mut head = vec![0; size];
        file.read_at(0, &mut head).map_err(disk_error(&path))?;
        if head[..8] != MAGIC {
            return Err(damaged(0, "the first bytes are not those of a snapshot"));
        }
        let version = u32_at(&head, 8);
        if !(SNAPSHOT_VERSION_MIN..=SNAPSHOT_VERSION).contains(&version) {
            let what =
                format!("version {version}, this program reads {SNAPSHOT_VERSION_MIN} to {SNAPSHOT_VERSION}");
            return Err(damaged(8, &what));
        }
        if u32_at(&head, 12) != header_checksum(&head) {
            return Err(damaged(12, "the header's checksum does not hold"));
        }
        let theirs = Identity {
            cluster: u128_at(&head, CLUSTER),
            history: HistoryId(u128_at(&head, HISTORY)),
            shards: u16_at(&head, SHARDS),
        };
        if theirs != self.identity {
            return Err(damaged(CLUSTER, "it belongs to another log"));
        }
        if u64_at(&head, NUMBER) != number {
            return Err(damaged(NUMBER, "it has the name of another snapshot"));
        }
        let places = head[VECTOR..]
            .chunks_exact(PLACE)
            .map(|place| Last { index: u64_at(place, 0), term: u64_at(place, 8) });
        let reader = SnapshotReader {
            file: Arc::from(file),
            path: path.clone(),
            number,
            places: places.collect(),
            start: size as u64,
            len,
            sealer: self.sealer.clone(),
        };
        let mut frames = reader.raw();
        while let Some(frame) = frames.next_frame()? {
            if frame.section == Section::End && frames.offset != len {
                return Err(damaged(frames.offset as usize, "bytes behind the last frame"));
            }
        }
        Ok(reader)
    }

    /// Begins a snapshot in which each shard has applied the log up to its place in `places`.
    pub fn begin(&self, places: &[Last]) -> Result<SnapshotWriter, SnapshotError> {
        assert_eq!(places.len(), usize::from(self.identity.shards), "one place a shard");
        let number = self.numbers().map_err(disk_error(&self.dir))?.first().map_or(1, |n| n + 1);
        let path = self.dir.join(format!("{}.tmp", name(number)));
        let file = self.disk.create(&path).map_err(disk_error(&path))?;
        let mut buffer = vec![0; VECTOR + PLACE * places.len()];
        put(&mut buffer, 0, &MAGIC);
        put(&mut buffer, 8, &SNAPSHOT_VERSION.to_le_bytes());
        put(&mut buffer, CLUSTER, &self.identity.cluster.to_le_bytes());
        put(&mut buffer, HISTORY, &self.identity.history.0.to_le_bytes());
        put(&mut buffer, NUMBER, &number.to_le_bytes());
        put(&mut buffer, SHARDS, &self.identity.shards.to_le_bytes());
        for (place, bytes) in places.iter().zip(buffer[VECTOR..].chunks_exact_mut(PLACE)) {
            put(bytes, 0, &place.index.to_le_bytes());
            put(bytes, 8, &place.term.to_le_bytes());
        }
        let crc = header_checksum(&buffer);
        put(&mut buffer, 12, &crc.to_le_bytes());
        Ok(SnapshotWriter {
            snapshots: self.clone(),
            file,
            path,
            number,
            places: places.to_vec(),
            frames: 0,
            buffer,
            offset: 0,
            renamed: false,
        })
    }

    /// Up to which index each shard's log is no longer needed: the end of the older of the two newest snapshots.
    pub fn covered(&self) -> Result<Vec<u64>, SnapshotError> {
        let numbers = self.numbers().map_err(disk_error(&self.dir))?;
        match numbers.get(SNAPSHOTS_KEPT - 1) {
            Some(older) => Ok(self.read(*older)?.indices()),
            None => Ok(vec![0; usize::from(self.identity.shards)]),
        }
    }
}

/// Gives the snapshot in `file` to another history. Its frames don't know theirs.
pub(crate) fn adopt(file: &dyn DiskFile, history: HistoryId) -> io::Result<()> {
    let mut head = vec![0; VECTOR];
    file.read_at(0, &mut head)?;
    let size = VECTOR + PLACE * usize::from(u16_at(&head, SHARDS));
    head.resize(size, 0);
    file.read_at(0, &mut head)?;
    put(&mut head, HISTORY, &history.0.to_le_bytes());
    let crc = header_checksum(&head);
    put(&mut head, 12, &crc.to_le_bytes());
    file.write_at(0, &[&head])
}

fn header_checksum(head: &[u8]) -> u32 {
    crc32c::crc32c_append(crc32c::crc32c(&head[..12]), &head[CLUSTER..])
}

/// The checksum of a whole frame, salted with the snapshot's number.
fn frame_checksum(frame: &[u8], number: u64) -> u32 {
    crc32c::crc32c_append(crc32c::crc32c(&number.to_le_bytes()), &frame[FRAME_LENGTH..])
}

/// A snapshot that is being written. Dropped before [`SnapshotWriter::finish`] it is removed, so that one that found no
/// space doesn't hold any; what a crash leaves of it is ignored and replaced by the next.
pub struct SnapshotWriter {
    snapshots: Snapshots,
    file: Box<dyn DiskFile>,
    path: PathBuf,
    number: u64,
    places: Vec<Last>,
    frames: u32,
    buffer: Vec<u8>,
    offset: u64,
    renamed: bool,
}

impl Drop for SnapshotWriter {
    fn drop(&mut self) {
        if !self.renamed {
            // Only space is at stake, and the next snapshot takes the same name.
            self.snapshots.disk.remove(&self.path).ok();
        }
    }
}

impl SnapshotWriter {
    /// Adds a part of at most [`FRAME_MAX`] bytes, as the state machine encoded it. Personal data of an organisation
    /// is sealed under its key when `organisation` is named, and reads as erased once that key is destroyed.
    pub fn frame(
        &mut self,
        shard: u16,
        section: Section,
        organisation: Option<OrganisationId>,
        bytes: &[u8],
    ) -> Result<(), SnapshotError> {
        if bytes.len() > FRAME_MAX {
            return Err(SnapshotError::TooLarge(bytes.len()));
        }
        let Some(organisation) = organisation else {
            return self.push(shard, section, false, bytes);
        };
        let place = Place::Snapshot { number: self.number, frame: self.frames };
        let sealed = self.snapshots.sealer.seal(place, organisation, [0; 32], bytes.to_vec())?;
        let payload = wincode::serialize(&sealed).expect("a sealed part is below the limits");
        self.push(shard, section, true, &payload)
    }

    fn push(&mut self, shard: u16, section: Section, sealed: bool, payload: &[u8]) -> Result<(), SnapshotError> {
        let start = self.buffer.len();
        self.buffer.resize(start + FRAME_HEADER, 0);
        self.buffer.extend_from_slice(payload);
        self.buffer.resize(self.buffer.len().next_multiple_of(ALIGN), 0);
        let frame = &mut self.buffer[start..];
        put(frame, FRAME_LENGTH, &(payload.len() as u32).to_le_bytes());
        put(frame, FRAME_NUMBER, &self.frames.to_le_bytes());
        put(frame, FRAME_SHARD, &shard.to_le_bytes());
        frame[FRAME_SECTION] = section as u8;
        frame[FRAME_SEALED] = u8::from(sealed);
        let crc = frame_checksum(frame, self.number);
        put(frame, 0, &crc.to_le_bytes());
        self.frames += 1;
        if self.buffer.len() >= WRITE_BYTES { self.write() } else { Ok(()) }
    }

    fn write(&mut self) -> Result<(), SnapshotError> {
        self.file.write_at(self.offset, &[&self.buffer]).map_err(disk_error(&self.path))?;
        self.offset += self.buffer.len() as u64;
        self.buffer.clear();
        Ok(())
    }

    /// Makes the snapshot durable, lets those before the last two go, and returns up to which index each shard's log
    /// is no longer needed: to be given to the log's `truncate`.
    pub fn finish(mut self) -> Result<Vec<u64>, SnapshotError> {
        self.push(0, Section::End, false, &[])?;
        self.write()?;
        self.file.sync_all().map_err(disk_error(&self.path))?;
        let snapshots = self.snapshots.clone();
        let dir = &snapshots.dir;
        let to = dir.join(name(self.number));
        snapshots.disk.rename(&self.path, &to).map_err(disk_error(&self.path))?;
        self.renamed = true;
        snapshots.disk.sync_dir(dir).map_err(disk_error(dir))?;
        // Read back what is kept before the log that made it may go: a damaged one must not count.
        let mut kept: Vec<SnapshotReader> = Vec::new();
        for number in snapshots.numbers().map_err(disk_error(dir))? {
            let sound = match snapshots.read(number) {
                Ok(snapshot) if kept.len() < SNAPSHOTS_KEPT => {
                    kept.push(snapshot);
                    true
                }
                Ok(_) => false,
                Err(SnapshotError::Damaged { .. }) => false,
                Err(error) => return Err(error),
            };
            if !sound && kept.len() >= SNAPSHOTS_KEPT {
                let path = dir.join(name(number));
                snapshots.disk.remove(&path).map_err(disk_error(&path))?;
            }
        }
        snapshots.disk.sync_dir(dir).map_err(disk_error(dir))?;
        match kept.get(SNAPSHOTS_KEPT - 1) {
            Some(older) => Ok(older.indices()),
            None => Ok(vec![0; usize::from(snapshots.identity.shards)]),
        }
    }

    /// Where each shard stands in it.
    pub fn places(&self) -> &[Last] {
        &self.places
    }
}

/// A sound snapshot.
#[derive(Clone)]
pub struct SnapshotReader {
    file: Arc<dyn DiskFile>,
    path: PathBuf,
    number: u64,
    places: Vec<Last>,
    start: u64,
    len: u64,
    sealer: Sealer,
}

impl SnapshotReader {
    /// Where each shard stands in it.
    pub fn places(&self) -> &[Last] {
        &self.places
    }

    /// The index of each shard.
    pub fn indices(&self) -> Vec<u64> {
        self.places.iter().map(|place| place.index).collect()
    }

    /// Its number; a later snapshot has a higher one.
    pub fn number(&self) -> u64 {
        self.number
    }

    /// Its parts, in the order they were written.
    pub fn frames(&self) -> impl Iterator<Item = Result<Frame, SnapshotError>> + use<> {
        let mut frames = self.raw();
        std::iter::from_fn(move || match frames.next_frame() {
            Ok(Some(frame)) if frame.section == Section::End => None,
            Ok(frame) => frame.map(|frame| frames.open(frame)),
            Err(error) => {
                frames.offset = frames.reader.len;
                frames.ended = true;
                Some(Err(error))
            }
        })
    }

    /// The parts that tell where the audits stand, with their shards. Needs no key.
    pub(crate) fn audit_parts(&self) -> Result<Vec<(u16, AuditPart)>, SnapshotError> {
        let mut frames = self.raw();
        let mut parts = Vec::new();
        while let Some(frame) = frames.next_frame()? {
            if frame.section == Section::Audit {
                let part = wincode::deserialize_exact(&frame.payload)
                    .map_err(|_| frames.damaged("a part of the audit is not one"))?;
                parts.push((frame.shard, part));
            }
        }
        Ok(parts)
    }

    /// Bytes of the file.
    pub(crate) fn len(&self) -> u64 {
        self.len
    }

    /// Reads bytes of the file as they are.
    pub(crate) fn read_at(&self, offset: u64, bytes: &mut [u8]) -> io::Result<()> {
        self.file.read_at(offset, bytes)
    }

    fn raw(&self) -> RawFrames {
        RawFrames { reader: self.clone(), offset: self.start, number: 0, ended: false }
    }
}

struct RawFrame {
    number: u32,
    shard: u16,
    section: Section,
    sealed: bool,
    payload: Vec<u8>,
}

struct RawFrames {
    reader: SnapshotReader,
    offset: u64,
    number: u32,
    ended: bool,
}

impl RawFrames {
    fn damaged(&self, what: impl Into<String>) -> SnapshotError {
        let path = self.reader.path.clone();
        SnapshotError::Damaged { path, offset: self.offset, what: what.into() }
    }

    fn next_frame(&mut self) -> Result<Option<RawFrame>, SnapshotError> {
        if self.ended {
            return Ok(None);
        }
        let rest = self.reader.len - self.offset;
        if rest < FRAME_HEADER as u64 {
            return Err(self.damaged("the last frame is missing"));
        }
        let path = self.reader.path.clone();
        let mut frame = vec![0; FRAME_HEADER];
        self.reader.file.read_at(self.offset, &mut frame).map_err(disk_error(&path))?;
        let length = u32_at(&frame, FRAME_LENGTH) as usize;
        let size = (FRAME_HEADER + length).next_multiple_of(ALIGN);
        if length > PAYLOAD_MAX || size as u64 > rest {
            return Err(self.damaged(format!("a frame's length can't be {length}")));
        }
        frame.resize(size, 0);
        let body = &mut frame[FRAME_HEADER..];
        let at = self.offset + FRAME_HEADER as u64;
        self.reader.file.read_at(at, body).map_err(disk_error(&path))?;
        let (expected, found) = (frame_checksum(&frame, self.reader.number), u32_at(&frame, 0));
        if expected != found {
            let what = format!("a frame's checksum is {found:#010x}, expected {expected:#010x}");
            return Err(self.damaged(what));
        }
        let number = u32_at(&frame, FRAME_NUMBER);
        if number != self.number {
            return Err(self.damaged(format!("frame {number}, expected {}", self.number)));
        }
        let Some(section) = Section::from_byte(frame[FRAME_SECTION]) else {
            return Err(self.damaged(format!("section {} is not known", frame[FRAME_SECTION])));
        };
        self.offset += size as u64;
        self.number += 1;
        self.ended = section == Section::End;
        let (shard, sealed) = (u16_at(&frame, FRAME_SHARD), frame[FRAME_SEALED] != 0);
        frame.truncate(FRAME_HEADER + length);
        let payload = frame.split_off(FRAME_HEADER);
        Ok(Some(RawFrame { number, shard, section, sealed, payload }))
    }

    fn open(&self, frame: RawFrame) -> Result<Frame, SnapshotError> {
        let RawFrame { number, shard, section, sealed, payload } = frame;
        if !sealed {
            return Ok(Frame { shard, section, part: Part::Clear(payload) });
        }
        let sealed: Sealed =
            wincode::deserialize_exact(&payload).map_err(|_| self.damaged("a sealed part is not one"))?;
        let place = Place::Snapshot { number: self.reader.number, frame: number };
        let part = match self.reader.sealer.open(place, &sealed)? {
            Some(clear) => Part::Clear(clear_bytes(clear)),
            None => Part::Erased(sealed.organisation),
        };
        Ok(Frame { shard, section, part })
    }
}

fn clear_bytes(mut clear: Zeroizing<Vec<u8>>) -> Vec<u8> {
    std::mem::take(&mut *clear)
}

impl std::fmt::Debug for SnapshotReader {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("SnapshotReader")
            .field("path", &self.path)
            .field("places", &self.places)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::format::page;

    #[test]
    fn the_page_draws_these_bytes() {
        let text = include_str!("../docs/snapshot-format.md");
        page::check(
            text,
            "### Snapshot header",
            &[
                (0, "magic"),
                (8, "version"),
                (12, "crc32c"),
                (CLUSTER, "cluster"),
                (HISTORY, "history"),
                (NUMBER, "number"),
                (SHARDS, "shards"),
                (SHARDS + 2, "zero"),
                (VECTOR, "place"),
            ],
        );
        let (_, size, _) = page::fields(text, "### Snapshot header").pop().expect("a last field");
        assert_eq!(size, PLACE);
        page::check(
            text,
            "### Frame header",
            &[
                (0, "crc32c"),
                (FRAME_LENGTH, "length"),
                (FRAME_NUMBER, "number"),
                (FRAME_SHARD, "shard"),
                (FRAME_SECTION, "section"),
                (FRAME_SEALED, "sealed"),
                (FRAME_HEADER, "payload"),
            ],
        );
        let sections = page::table(text, "### Sections").into_iter().map(|row| format!("{} {}", row[0], row[1]));
        assert!(sections.eq(Section::ALL.iter().map(|section| format!("{} {section:?}", *section as u8))));
        assert!(text.contains(&format!("Snapshot version {SNAPSHOT_VERSION}")));
        assert!(text.contains(&format!("`{}`", String::from_utf8_lossy(&MAGIC))));
        assert!(text.contains(&format!("at most {} MiB", FRAME_MAX >> 20)));
    }
}
