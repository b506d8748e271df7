//! Snapshots: the state of all shards as plain data, at one index a shard, in a file of checked frames.
//!
//! Written aside, made durable and renamed, so that a file with a snapshot's name was whole once. Two are kept; if the
//! newest is damaged the older one and a longer replay give the same state. Knows nothing of what the parts mean; whether
//! they can be loaded is judged by a check that the caller brings, before a snapshot gets its name.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use engine::OrganisationId;
use tracing::error;
use zeroize::Zeroizing;

use crate::HistoryId;
use crate::audit::AuditPart;
use crate::disk::{Disk, DiskFile};
use crate::error::OpenError;
use crate::file_seal::{CIPHER, FileId, FileOpener, FileSealer, SEAL_HEADER, SealHeader, TAG};
use crate::format::{ALIGN, put, u16_at, u32_at, u64_at, u128_at};
use crate::keys::{KeyError, Keys};
use crate::sealer::{Place, Sealed, Sealer};
use crate::segment::{Identity, Last};

/// Version of the snapshot format that is written. One of a later version is passed by, as a damaged one is.
pub const SNAPSHOT_VERSION: u32 = 3;
/// The oldest version that is read: without the sections [`Section::Audit`] (since 2) and [`Section::State`] (since 3).
pub const SNAPSHOT_VERSION_MIN: u32 = 1;
/// The version since which a whole snapshot can be sealed; authenticated with every frame.
const SEALED_SINCE: u32 = 3;
/// Most bytes of one part.
pub const FRAME_MAX: usize = 1 << 20;
/// How many snapshots are kept.
pub const SNAPSHOTS_KEPT: usize = 2;
pub(crate) const MAGIC: [u8; 8] = *b"RTSNAPSH";

// Header, little-endian: 0 magic | 8 version u32 | 12 crc32c u32 | 16 cluster u128 | 32 history u128 |
// 48 number u64 | 56 shards u16 | 58 cipher u16 | 60 zero | 64 for each shard: index u64, term u64 | seal, if a cipher
pub(crate) const CLUSTER: usize = 16;
pub(crate) const HISTORY: usize = 32;
pub(crate) const NUMBER: usize = 48;
pub(crate) const SHARDS: usize = 56;
pub(crate) const CIPHER_OFFSET: usize = 58;
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
/// Frames are read together, this much at once.
const READ_BYTES: usize = 1 << 20;
/// Ends the name of a snapshot that was put aside because it can't be loaded.
const ASIDE: &str = ".bad";

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
    /// SHA-256 over a shard's state, of 32 bytes: what loading the shard must give again; since version 3.
    State = 5,
    /// Last frame of the file.
    End = 255,
}

impl Section {
    const ALL: [Self; 6] = [Self::Engine, Self::Accounts, Self::Chains, Self::Audit, Self::State, Self::End];

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
    /// It is whole and can't be loaded: it was put aside, the one before it is kept.
    #[error("{}: {why}. It was put aside under this name; the snapshots before it and the log behind them are kept", .path.display())]
    Rejected {
        /// Where it lies now.
        path: PathBuf,
        /// What is wrong.
        why: String,
    },
    /// It could not be found out whether it can be loaded: it was removed; try again later.
    #[error("{}: {why}. It was removed; the snapshots before it and the log behind them are kept", .path.display())]
    Unchecked {
        /// Where it lay.
        path: PathBuf,
        /// Why not.
        why: String,
    },
    /// A part is larger than [`FRAME_MAX`]: a defect of who made it.
    #[error("a part of {0} bytes is larger than {FRAME_MAX}")]
    TooLarge(usize),
    /// A key is missing or wrong.
    #[error(transparent)]
    Keys(#[from] KeyError),
}

/// Why a snapshot that was written does not count.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Rejection {
    /// It can't be loaded, or gives something else.
    Wrong(String),
    /// That could not be tried: no process, no memory, no descriptor, or no time.
    Untried(String),
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

    pub(crate) fn keys(&self) -> &Arc<Keys> {
        self.sealer.keys()
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

    /// The newest sound snapshot, of those before `below` if it is given; what is wrong with those passed by is logged.
    pub(crate) fn newest_sound(&self, below: Option<u64>) -> Result<Option<SnapshotReader>, OpenError> {
        let numbers = self.numbers().map_err(OpenError::disk(&self.dir))?;
        for number in numbers.into_iter().filter(|number| below.is_none_or(|below| *number < below)) {
            match self.read(number) {
                Ok(snapshot) => return Ok(Some(snapshot)),
                Err(SnapshotError::Disk { path, error }) => {
                    return Err(OpenError::Disk { path, error });
                }
                // Not damage: what is passed by for want of a key would be overwritten in the end.
                Err(SnapshotError::Keys(error)) => return Err(OpenError::Keys(error)),
                Err(error) => error!("Snapshot passed by, the one before it is used: {error}"),
            }
        }
        Ok(None)
    }

    /// Gives a snapshot that can't be loaded a name under which it counts for nothing; answers its path.
    pub fn put_aside(&self, number: u64) -> Result<PathBuf, SnapshotError> {
        let path = self.dir.join(name(number));
        let aside = self.dir.join(format!("{}{ASIDE}", name(number)));
        self.disk.rename(&path, &aside).map_err(disk_error(&path))?;
        self.disk.sync_dir(&self.dir).map_err(disk_error(&self.dir))?;
        Ok(aside)
    }

    /// Opens the snapshot in the file `path`, whatever its name, after checking every byte of it. It may be of any log;
    /// `keys` are those of the node that wrote it.
    pub fn open_file(disk: Arc<dyn Disk>, path: &Path, keys: Arc<Keys>) -> Result<SnapshotReader, SnapshotError> {
        let file = disk.open(path).map_err(disk_error(path))?;
        let mut head = [0; VECTOR];
        if file.len().map_err(disk_error(path))? < VECTOR as u64 {
            let what = "shorter than its header".to_owned();
            return Err(SnapshotError::Damaged { path: path.to_owned(), offset: 0, what });
        }
        file.read_at(0, &mut head).map_err(disk_error(path))?;
        let identity = Identity {
            cluster: u128_at(&head, CLUSTER),
            history: HistoryId(u128_at(&head, HISTORY)),
            shards: u16_at(&head, SHARDS),
        };
        let sealer = Sealer::new(keys, identity.cluster);
        let dir = path.parent().unwrap_or(Path::new(".")).to_owned();
        Self::new(disk, dir, sealer, identity).read_file(path.to_owned(), None)
    }

    /// Opens a snapshot after checking every byte of it.
    pub(crate) fn read(&self, number: u64) -> Result<SnapshotReader, SnapshotError> {
        self.read_file(self.dir.join(name(number)), Some(number))
    }

    fn read_file(&self, path: PathBuf, named: Option<u64>) -> Result<SnapshotReader, SnapshotError> {
        let file = self.disk.open(&path).map_err(disk_error(&path))?;
        let len = file.len().map_err(disk_error(&path))?;
        let damaged = |offset: usize, what: &str| SnapshotError::Damaged {
            path: path.clone(),
            offset: offset as u64,
            what: what.to_owned(),
        };
        let size = VECTOR + PLACE * usize::from(self.identity.shards);
        let mut head = vec![0; size.min(usize::try_from(len).unwrap_or(size))];
        file.read_at(0, &mut head).map_err(disk_error(&path))?;
        if head.len() < size {
            return Err(damaged(0, "shorter than its header"));
        }
        if head[..8] != MAGIC {
            return Err(damaged(0, "the first bytes are not those of a snapshot"));
        }
        let version = u32_at(&head, 8);
        if !(SNAPSHOT_VERSION_MIN..=SNAPSHOT_VERSION).contains(&version) {
            let what =
                format!("version {version}, this program reads {SNAPSHOT_VERSION_MIN} to {SNAPSHOT_VERSION}");
            return Err(damaged(8, &what));
        }
        let cipher = if version < 3 { 0 } else { u16_at(&head, CIPHER_OFFSET) };
        if cipher != 0 {
            if len < (size + SEAL_HEADER) as u64 {
                return Err(damaged(0, "shorter than its header"));
            }
            head.resize(size + SEAL_HEADER, 0);
            file.read_at(size as u64, &mut head[size..]).map_err(disk_error(&path))?;
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
        let number = u64_at(&head, NUMBER);
        if named.is_some_and(|named| named != number) {
            return Err(damaged(NUMBER, "it has the name of another snapshot"));
        }
        let opener = match cipher {
            0 => None,
            CIPHER => {
                let seal = SealHeader::decode(&head[size..]);
                let id = file_id(self.identity.cluster, number);
                Some(Arc::new(FileOpener::new(self.sealer.keys(), &seal, &id, &path)?))
            }
            cipher => {
                let what = format!("cipher {cipher} is not known to this program");
                return Err(damaged(CIPHER_OFFSET, &what));
            }
        };
        let places = head[VECTOR..size]
            .chunks_exact(PLACE)
            .map(|place| Last { index: u64_at(place, 0), term: u64_at(place, 8) });
        let reader = SnapshotReader {
            file: Arc::from(file),
            path: path.clone(),
            number,
            places: places.collect(),
            runs: Vec::new().into(),
            len,
            readers: self.disk.readers(),
            sealer: self.sealer.clone(),
            opener,
        };
        let mut runs: Vec<Run> = Vec::new();
        let mut frames = reader.raw(Run { shard: 0, start: head.len() as u64, end: len, number: 0 });
        loop {
            let (start, number) = (frames.offset, frames.number);
            // Behind its checksum nothing is looked at: who reads the frames opens what is sealed.
            let Some(frame) = frames.next_frame()? else { break };
            if frame.section == Section::End && frames.offset != len {
                return Err(damaged(frames.offset as usize, "bytes behind the last frame"));
            }
            match runs.last_mut() {
                Some(run) if run.shard == frame.shard => run.end = frames.offset,
                _ => runs.push(Run { shard: frame.shard, start, end: frames.offset, number }),
            }
        }
        let reader = SnapshotReader { runs: runs.into(), ..reader };
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
        let sealer = self.sealer.begin_file(&file_id(self.identity.cluster, number))?;
        if let Some((_, seal)) = &sealer {
            put(&mut buffer, CIPHER_OFFSET, &CIPHER.to_le_bytes());
            buffer.extend_from_slice(&seal.encode());
        }
        let crc = header_checksum(&buffer);
        put(&mut buffer, 12, &crc.to_le_bytes());
        Ok(SnapshotWriter {
            sealer: sealer.map(|(sealer, _)| sealer),
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

    /// Bytes of the newest snapshot, sound or not; 0 if there is none.
    ///
    /// # Errors
    /// The disk refused.
    pub fn newest_bytes(&self) -> Result<u64, SnapshotError> {
        let numbers = self.numbers().map_err(disk_error(&self.dir))?;
        let Some(newest) = numbers.first() else { return Ok(0) };
        let path = self.dir.join(name(*newest));
        self.disk.open(&path).and_then(|file| file.len()).map_err(disk_error(&path))
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
    let seal = if u16_at(&head, CIPHER_OFFSET) == 0 { 0 } else { SEAL_HEADER };
    let size = VECTOR + PLACE * usize::from(u16_at(&head, SHARDS)) + seal;
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
    sealer: Option<FileSealer>,
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
        let tag = if self.sealer.is_some() { TAG } else { 0 };
        let frame = &mut self.buffer[start..];
        put(frame, FRAME_LENGTH, &((payload.len() + tag) as u32).to_le_bytes());
        put(frame, FRAME_NUMBER, &self.frames.to_le_bytes());
        put(frame, FRAME_SHARD, &shard.to_le_bytes());
        frame[FRAME_SECTION] = section as u8;
        frame[FRAME_SEALED] = u8::from(sealed);
        if let Some(sealer) = &mut self.sealer {
            let (head, clear) = frame.split_at_mut(FRAME_HEADER);
            let offset = self.offset + start as u64;
            let number = u64::from(self.frames);
            let tag = sealer.seal(offset, number, &head[FRAME_LENGTH..], &mut clear[..payload.len()]);
            self.buffer.truncate(start + FRAME_HEADER + payload.len());
            self.buffer.extend_from_slice(&tag);
            self.buffer.resize(self.buffer.len().next_multiple_of(ALIGN), 0);
        }
        let frame = &mut self.buffer[start..];
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
    pub fn finish(self) -> Result<Vec<u64>, SnapshotError> {
        self.finish_checked(|_| Ok(()))
    }

    /// As [`SnapshotWriter::finish`], and `check` says whether the durable file can be loaded before it gets its name.
    /// One that can't be is put aside, one that could not be tried is removed; those before it are kept.
    pub fn finish_checked(
        mut self,
        check: impl FnOnce(&Path) -> Result<(), Rejection>,
    ) -> Result<Vec<u64>, SnapshotError> {
        self.push(0, Section::End, false, &[])?;
        self.write()?;
        self.file.sync_all().map_err(disk_error(&self.path))?;
        let snapshots = self.snapshots.clone();
        let dir = &snapshots.dir;
        let to = dir.join(name(self.number));
        if let Err(rejection) = check(&self.path) {
            let why = match rejection {
                Rejection::Wrong(why) => why,
                Rejection::Untried(why) => return Err(SnapshotError::Unchecked { path: self.path.clone(), why }),
            };
            // One is enough to find out what is wrong.
            let aside = dir.join(format!("{}{ASIDE}", name(self.number)));
            snapshots.disk.rename(&self.path, &aside).map_err(disk_error(&self.path))?;
            self.renamed = true;
            for old in snapshots.disk.list(dir).map_err(disk_error(dir))? {
                let path = dir.join(&old);
                if old.ends_with(ASIDE) && path != aside {
                    snapshots.disk.remove(&path).map_err(disk_error(&path))?;
                }
            }
            snapshots.disk.sync_dir(dir).map_err(disk_error(dir))?;
            return Err(SnapshotError::Rejected { path: aside, why });
        }
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
    /// Where the frames lie.
    runs: Arc<[Run]>,
    len: u64,
    readers: usize,
    sealer: Sealer,
    /// Opens its frames, when all of it is sealed.
    opener: Option<Arc<FileOpener>>,
}

/// Frames of one shard that lie side by side.
#[derive(Clone, Copy)]
struct Run {
    shard: u16,
    start: u64,
    end: u64,
    /// The number of the first.
    number: u32,
}

/// Which file a snapshot is, for its seal.
fn file_id(cluster: u128, number: u64) -> FileId {
    FileId { kind: 2, version: SEALED_SINCE, cluster, number, generation: 0 }
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

    /// How many threads may read it at once.
    pub fn readers(&self) -> usize {
        self.readers
    }

    /// Bytes of the file.
    pub fn bytes(&self) -> u64 {
        self.len
    }

    /// Its parts, in the order they were written.
    pub fn frames(&self) -> impl Iterator<Item = Result<Frame, SnapshotError>> + use<> {
        self.frames_in(self.runs.to_vec())
    }

    /// The parts of one shard, in the order they were written. Shards may be read at the same time.
    pub fn frames_of(&self, shard: u16) -> impl Iterator<Item = Result<Frame, SnapshotError>> + use<> {
        self.frames_in(self.runs.iter().filter(|run| run.shard == shard).copied().collect())
    }

    fn frames_in(&self, runs: Vec<Run>) -> impl Iterator<Item = Result<Frame, SnapshotError>> + use<> {
        let reader = self.clone();
        let mut failed = false;
        let frames = runs.into_iter().flat_map(move |run| {
            let mut raw = reader.raw(run);
            std::iter::from_fn(move || {
                raw.next_frame().and_then(|frame| frame.map(|f| raw.open(f)).transpose()).transpose()
            })
        });
        frames.filter(|frame| !matches!(frame, Ok(Frame { section: Section::End, .. }))).take_while(move |frame| {
            // What is behind a frame that can't be read is not looked at.
            !std::mem::replace(&mut failed, frame.is_err())
        })
    }

    /// The parts that tell where the audits stand, with their shards. Needs a key only where everything is sealed.
    pub(crate) fn audit_parts(&self) -> Result<Vec<(u16, AuditPart)>, SnapshotError> {
        let mut parts = Vec::new();
        for run in self.runs.iter() {
            let mut frames = self.raw(*run);
            while let Some(frame) = frames.next_frame()? {
                if frame.section != Section::Audit {
                    continue;
                }
                if let Frame { shard, part: Part::Clear(bytes), .. } = frames.open(frame)? {
                    let part = wincode::deserialize_exact(&bytes)
                        .map_err(|_| frames.damaged("a part of the audit is not one"))?;
                    parts.push((shard, part));
                }
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

    fn raw(&self, run: Run) -> RawFrames {
        let Run { start, end, number, .. } = run;
        RawFrames { reader: self.clone(), offset: start, end, number, buffer: Vec::new(), buffered: start }
    }
}

struct RawFrame {
    offset: u64,
    number: u32,
    shard: u16,
    section: Section,
    head: [u8; FRAME_HEADER],
    payload: Vec<u8>,
}

struct RawFrames {
    reader: SnapshotReader,
    offset: u64,
    /// Where the last of them ends; for a whole file the file does.
    end: u64,
    number: u32,
    /// What was read ahead, from `buffered` on.
    buffer: Vec<u8>,
    buffered: u64,
}

impl RawFrames {
    fn damaged(&self, what: impl Into<String>) -> SnapshotError {
        let path = self.reader.path.clone();
        SnapshotError::Damaged { path, offset: self.offset, what: what.into() }
    }

    /// The next `size` bytes, which the file has.
    fn peek(&mut self, size: usize) -> Result<&[u8], SnapshotError> {
        let from = (self.offset - self.buffered) as usize;
        if from + size > self.buffer.len() {
            let more = ((self.end - self.offset) as usize).min(READ_BYTES.max(size));
            self.buffer.resize(more, 0);
            self.buffered = self.offset;
            let read = self.reader.file.read_at(self.offset, &mut self.buffer);
            read.map_err(disk_error(&self.reader.path))?;
            return Ok(&self.buffer[..size]);
        }
        Ok(&self.buffer[from..from + size])
    }

    fn next_frame(&mut self) -> Result<Option<RawFrame>, SnapshotError> {
        let rest = self.end - self.offset;
        if rest == 0 && self.number > 0 {
            return Ok(None);
        }
        if rest < FRAME_HEADER as u64 {
            return Err(self.damaged("the last frame is missing"));
        }
        let length = u32_at(self.peek(FRAME_HEADER)?, FRAME_LENGTH) as usize;
        let size = (FRAME_HEADER + length).next_multiple_of(ALIGN);
        if length > PAYLOAD_MAX || size as u64 > rest {
            return Err(self.damaged(format!("a frame's length can't be {length}")));
        }
        let snapshot = self.reader.number;
        let frame = self.peek(size)?;
        let (expected, found) = (frame_checksum(frame, snapshot), u32_at(frame, 0));
        let (number, section) = (u32_at(frame, FRAME_NUMBER), frame[FRAME_SECTION]);
        let mut head = [0; FRAME_HEADER];
        head.copy_from_slice(&frame[..FRAME_HEADER]);
        let payload = frame[FRAME_HEADER..FRAME_HEADER + length].to_vec();
        if expected != found {
            let what = format!("a frame's checksum is {found:#010x}, expected {expected:#010x}");
            return Err(self.damaged(what));
        }
        if number != self.number {
            return Err(self.damaged(format!("frame {number}, expected {}", self.number)));
        }
        let Some(section) = Section::from_byte(section) else {
            return Err(self.damaged(format!("section {section} is not known")));
        };
        let offset = self.offset;
        self.offset += size as u64;
        self.number += 1;
        if section != Section::End && self.offset == self.reader.len {
            return Err(self.damaged("the last frame is missing"));
        }
        Ok(Some(RawFrame { offset, number, shard: u16_at(&head, FRAME_SHARD), section, head, payload }))
    }

    fn open(&self, frame: RawFrame) -> Result<Frame, SnapshotError> {
        let RawFrame { offset, number, shard, section, head, mut payload } = frame;
        let damaged =
            |what: &str| SnapshotError::Damaged { path: self.reader.path.clone(), offset, what: what.to_owned() };
        if let Some(opener) = &self.reader.opener {
            let clear = opener.open(offset, u64::from(number), &head[FRAME_LENGTH..], &mut payload);
            let length = clear.ok_or_else(|| damaged("a sealed frame was changed or moved by somebody"))?.len();
            payload.truncate(length);
        }
        if head[FRAME_SEALED] == 0 {
            return Ok(Frame { shard, section, part: Part::Clear(payload) });
        }
        let sealed: Sealed =
            wincode::deserialize_exact(&payload).map_err(|_| damaged("a sealed part is not one"))?;
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
                (CIPHER_OFFSET, "cipher"),
                (CIPHER_OFFSET + 2, "zero"),
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
