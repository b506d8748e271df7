//! Reads what is durable again while the node runs: every closed segment of the log, and the kept snapshots. A disk does
//! not say by itself that it has lost something; who never looks learns of it at the next start, or with a restore.
//!
//! Judges as recovery does, by the same code. Changes nothing, holds up nobody, and needs no memory of where it was: one
//! that is interrupted begins anew, and a start reads all of the log anyway. A segment that goes or is used again
//! meanwhile is no damage. The segment that is written to is not read beyond its head: its last flush may be under way.

use std::collections::{BTreeMap, VecDeque};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};

use crate::Keys;
use crate::archive::Reach;
use crate::disk::{Disk, DiskFile, read_all};
use crate::error::{Corruption, OpenError};
use crate::format::{SEGMENT_HEADER, SegmentHeader};
use crate::keys::KeyError;
use crate::log_reader::LogReader;
use crate::recovery::Region;
use crate::scan::{Walk, opener, read_head};
use crate::segment::{self, Identity, Last, Opening};
use crate::snapshot::{self, SnapshotError, Snapshots};
use crate::terms::Terms;

/// Bytes that are read at once; then comes a pause.
const CHUNK: usize = 256 << 10;
/// How often a file is tried that the disk refuses to read.
const ATTEMPTS: u32 = 3;

/// Something durable that is not what was written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Damage {
    /// The file.
    pub file: PathBuf,
    /// The segment, if it is one.
    pub sequence: Option<u64>,
    /// Where in the file, what was expected and found, and what to do.
    pub text: String,
    /// Whether an earlier pass of this process has found it.
    pub known: bool,
}

/// What one step of a scrub came to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Step {
    /// A file is sound.
    Sound(PathBuf),
    /// A file went meanwhile, as files do whose content is no longer needed.
    Gone(PathBuf),
    /// A file is damaged.
    Damaged(Damage),
    /// A file was read as something else at first, and then as it was written: the device misread it.
    Misread(PathBuf, String),
    /// The disk refused to read a file. It is tried again at the next step, unless that was the last attempt.
    Refused {
        /// What it said.
        text: String,
        /// Whether the file is passed by now.
        last: bool,
    },
    /// All files were looked at.
    Finished,
}

/// What a scrub tells others; none of them waits for it.
#[derive(Debug, Default)]
pub struct ScrubStatus {
    bytes: AtomicU64,
    passes: AtomicU64,
    finished_ms: AtomicI64,
    corruptions: AtomicU64,
    misreads: AtomicU64,
    failures: AtomicU64,
    damaged: Mutex<BTreeMap<PathBuf, String>>,
    last: Mutex<Option<String>>,
}

/// Counts since the start of the process.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ScrubCounts {
    /// Bytes read.
    pub bytes: u64,
    /// Passes that were finished.
    pub passes: u64,
    /// When the last one was, in milliseconds since 1970; 0 for never.
    pub finished_ms: i64,
    /// How often a file was found damaged; one that stays so counts in each pass.
    pub corruptions: u64,
    /// How often a file was read wrong once, and right then.
    pub misreads: u64,
    /// How often the disk refused to read.
    pub failures: u64,
}

impl ScrubStatus {
    /// The counts.
    pub fn counts(&self) -> ScrubCounts {
        let get = |count: &AtomicU64| count.load(Ordering::Relaxed);
        ScrubCounts {
            bytes: get(&self.bytes),
            passes: get(&self.passes),
            finished_ms: self.finished_ms.load(Ordering::Relaxed),
            corruptions: get(&self.corruptions),
            misreads: get(&self.misreads),
            failures: get(&self.failures),
        }
    }

    /// The files that are damaged and still in their places, and what is wrong with each.
    pub fn damaged(&self) -> BTreeMap<PathBuf, String> {
        self.damaged.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// The damage or refusal that was found last, cured or not.
    pub fn last_trouble(&self) -> Option<String> {
        self.last.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn trouble(&self, text: &str) {
        *self.last.lock().unwrap_or_else(PoisonError::into_inner) = Some(text.to_owned());
    }

    fn set_damaged(&self, file: &Path, text: Option<&str>) -> bool {
        let mut damaged = self.damaged.lock().unwrap_or_else(PoisonError::into_inner);
        let before = match text {
            Some(text) => damaged.insert(file.to_owned(), text.to_owned()),
            None => damaged.remove(file),
        };
        before.is_some()
    }

    pub(crate) fn finished(&self, now_ms: i64) {
        self.passes.fetch_add(1, Ordering::Relaxed);
        self.finished_ms.store(now_ms, Ordering::Relaxed);
    }
}

/// Why a file could not be called sound.
enum Trouble {
    Gone,
    Damaged(String),
    Refused(String),
}

impl From<OpenError> for Trouble {
    fn from(error: OpenError) -> Self {
        match error {
            OpenError::Disk { error, .. } if error.kind() == io::ErrorKind::NotFound => Self::Gone,
            OpenError::Corrupt(_)
            | OpenError::Entry { .. }
            | OpenError::Foreign { .. }
            | OpenError::Version { .. } => Self::Damaged(error.to_string()),
            error => Self::Refused(error.to_string()),
        }
    }
}

impl From<SnapshotError> for Trouble {
    fn from(error: SnapshotError) -> Self {
        let damaged = |error: &dyn std::fmt::Display| {
            Self::Damaged(format!("{error}. The snapshot before it and the log give the same state"))
        };
        match error {
            SnapshotError::Disk { error, .. } if error.kind() == io::ErrorKind::NotFound => Self::Gone,
            SnapshotError::Disk { path, error } => {
                Self::Refused(format!("{}: {error}. {}", path.display(), crate::remedy(&error)))
            }
            SnapshotError::Keys(error @ KeyError::Unsealed { .. }) => damaged(&error),
            SnapshotError::Keys(error) => Self::Refused(error.to_string()),
            error => damaged(&error),
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Item {
    /// A segment behind which another was begun.
    Closed(u64),
    /// The head of the one that is written to.
    Head(u64),
    Snapshot(u64),
}

/// Where the segment before ended.
struct Carried {
    next: u64,
    last: Vec<Last>,
    terms: Vec<Terms>,
}

/// Looks at one file a step. Used by one thread.
pub struct Scrubber {
    disk: Arc<dyn Disk>,
    dir: PathBuf,
    identity: Identity,
    keys: Arc<Keys>,
    snapshots: Snapshots,
    reach: Arc<Reach>,
    status: Arc<ScrubStatus>,
    /// What is still to be looked at in this pass; none between passes.
    items: Option<VecDeque<Item>>,
    carried: Option<Carried>,
    attempts: u32,
}

impl Scrubber {
    /// Of the log that `reader` reads and that `reach` tells of. `pause` is called behind so many bytes that were read, and
    /// waits; an error of it ends the reading.
    pub fn new(
        reader: &LogReader,
        reach: Arc<Reach>,
        status: Arc<ScrubStatus>,
        pause: impl Fn(usize) -> io::Result<()> + Send + Sync + 'static,
    ) -> Self {
        let inner = Arc::clone(&reader.disk);
        let disk: Arc<dyn Disk> = Arc::new(Paced { inner, pause: Arc::new(pause), status: Arc::clone(&status) });
        let (dir, sealer) = (reader.snapshots.dir().to_owned(), reader.sealer.clone());
        Self {
            snapshots: Snapshots::new(Arc::clone(&disk), dir, sealer, reader.identity),
            disk,
            dir: reader.dir.clone(),
            identity: reader.identity,
            keys: Arc::clone(reader.sealer.keys()),
            reach,
            status,
            items: None,
            carried: None,
            attempts: 0,
        }
    }

    /// Looks at one file more.
    pub fn step(&mut self) -> Step {
        if self.items.is_none() {
            match self.begin() {
                Ok(()) => {}
                Err(Trouble::Refused(text)) => return self.refused(text, None),
                Err(Trouble::Damaged(text)) => {
                    let file = self.dir.clone();
                    return self.damaged(file, None, text);
                }
                Err(Trouble::Gone) => unreachable!("a folder that does not exist holds no files"),
            }
        }
        let Some(item) = self.items.as_mut().and_then(|items| items.front().copied()) else {
            self.items = None;
            return Step::Finished;
        };
        let file = self.path(item);
        let checked = match self.check(item) {
            // Once more, from the device: what a file holds is damage, what was read of it once is not.
            Err(Trouble::Damaged(first)) => self.check(item).map(|()| Some(first)),
            checked => checked.map(|()| None),
        };
        if let Err(Trouble::Refused(text)) = checked {
            return self.refused(text, Some(item));
        }
        self.passed();
        match checked {
            Ok(misread) => {
                self.status.set_damaged(&file, None);
                match misread {
                    None => Step::Sound(file),
                    Some(text) => {
                        self.status.misreads.fetch_add(1, Ordering::Relaxed);
                        self.status.trouble(&text);
                        Step::Misread(file, text)
                    }
                }
            }
            Err(Trouble::Gone) => {
                self.status.set_damaged(&file, None);
                self.carried = None;
                Step::Gone(file)
            }
            Err(Trouble::Damaged(text)) => {
                self.carried = None;
                let sequence = match item {
                    Item::Closed(sequence) | Item::Head(sequence) => Some(sequence),
                    Item::Snapshot(_) => None,
                };
                self.damaged(file, sequence, text)
            }
            Err(Trouble::Refused(_)) => unreachable!("told above"),
        }
    }

    /// Whether a pass is under way.
    pub fn is_under_way(&self) -> bool {
        self.items.is_some()
    }

    /// Forgets damaged files that are no longer in their places: put aside by the log, or removed.
    pub fn look_for_gone(&self) {
        for file in self.status.damaged().into_keys().filter(|file| *file != self.dir) {
            let (Some(dir), Some(name)) = (file.parent(), file.file_name()) else { continue };
            let gone = |names: Vec<String>| !names.iter().any(|other| name == other.as_str());
            if self.disk.list(dir).is_ok_and(gone) {
                self.status.set_damaged(&file, None);
            }
        }
    }

    fn passed(&mut self) {
        self.attempts = 0;
        if let Some(items) = &mut self.items {
            items.pop_front();
        }
    }

    fn refused(&mut self, text: String, item: Option<Item>) -> Step {
        self.attempts += 1;
        self.status.failures.fetch_add(1, Ordering::Relaxed);
        self.status.trouble(&text);
        let last = self.attempts >= ATTEMPTS;
        if last {
            self.attempts = 0;
            self.carried = None;
            // Without its list of files a pass ends before it began.
            match item {
                Some(_) => self.passed(),
                None => self.items = Some(VecDeque::new()),
            }
        }
        Step::Refused { text, last }
    }

    fn damaged(&mut self, file: PathBuf, sequence: Option<u64>, text: String) -> Step {
        self.status.corruptions.fetch_add(1, Ordering::Relaxed);
        self.status.trouble(&text);
        let known = self.status.set_damaged(&file, Some(&text));
        if let Some(sequence) = sequence {
            self.reach.set_damaged(sequence);
        }
        Step::Damaged(Damage { file, sequence, text, known })
    }

    fn path(&self, item: Item) -> PathBuf {
        match item {
            Item::Closed(sequence) | Item::Head(sequence) => self.dir.join(segment::name(sequence)),
            Item::Snapshot(number) => self.snapshots.dir().join(snapshot::name(number)),
        }
    }

    /// The segments up to `active`, oldest first.
    fn segments(&self, active: u64) -> Result<Vec<u64>, OpenError> {
        let names = self.disk.list(&self.dir).map_err(OpenError::disk(&self.dir))?;
        Ok(names.iter().filter_map(|name| segment::sequence_of(name)).filter(|found| *found <= active).collect())
    }

    /// Finds out what there is to look at.
    fn begin(&mut self) -> Result<(), Trouble> {
        self.carried = None;
        let active = u64::from(self.reach.durable().sequence);
        let found = self.segments(active)?;
        let numbers = self.snapshots.numbers().map_err(OpenError::disk(self.snapshots.dir()))?;
        let last = if mutant!(ScrubEndsEarly) { active.saturating_sub(1) } else { active };
        let closed = found.iter().filter(|sequence| **sequence < last).map(|sequence| Item::Closed(*sequence));
        let head = found.last().filter(|last| **last == active).map(|last| Item::Head(*last));
        let snapshots = numbers.iter().rev().map(|number| Item::Snapshot(*number));
        self.items = Some(closed.chain(head).chain(snapshots).collect());
        // They go oldest first: one that is missing behind another, which a later look still finds, did not go that way.
        let missing =
            (found.first().copied().unwrap_or(active)..=active).find(|sequence| !found.contains(sequence));
        let Some(missing) = missing.filter(|_| active > 0) else {
            self.status.set_damaged(&self.dir, None);
            return Ok(());
        };
        let again = self.segments(active)?;
        if again.contains(&missing) || again.first().is_none_or(|first| *first > missing) {
            return Ok(());
        }
        let (expected, found) = (segment::name(missing), "no such file".into());
        let (file, what) = (self.dir.clone(), "a segment is missing");
        Err(OpenError::from(Corruption { file, offset: 0, what, expected, found }).into())
    }

    fn check(&mut self, item: Item) -> Result<(), Trouble> {
        match item {
            Item::Closed(sequence) => self.check_closed(sequence),
            Item::Head(sequence) => {
                let (path, file) = self.open(sequence)?;
                self.head(&*file, &path, sequence)?;
                Ok(())
            }
            Item::Snapshot(number) => {
                self.snapshots.read(number)?;
                Ok(())
            }
        }
    }

    fn open(&self, sequence: u64) -> Result<(PathBuf, Box<dyn DiskFile>), OpenError> {
        let path = self.dir.join(segment::name(sequence));
        let file = self.disk.open(&path).map_err(OpenError::disk(&path))?;
        Ok((path, file))
    }

    fn head(
        &self,
        file: &dyn DiskFile,
        path: &Path,
        sequence: u64,
    ) -> Result<(SegmentHeader, Opening), OpenError> {
        let (header, opening) = read_head(file, path, sequence, None, self.identity)?;
        let opening = opening.ok_or_else(|| Corruption {
            file: path.to_owned(),
            offset: SEGMENT_HEADER as u64,
            what: "the segment's opening record is damaged",
            expected: "an opening record".into(),
            found: "none".into(),
        })?;
        Ok((header, opening))
    }

    fn check_closed(&mut self, sequence: u64) -> Result<(), Trouble> {
        let checked = self.check_segment(sequence);
        let Err(Trouble::Damaged(_)) = &checked else { return checked };
        // Before a file is used again its name goes. So what was read of one that still has it was not written over.
        let names = self.segments(u64::MAX)?;
        if names.contains(&sequence) { checked } else { Err(Trouble::Gone) }
    }

    fn check_segment(&mut self, sequence: u64) -> Result<(), Trouble> {
        let (path, file) = self.open(sequence)?;
        let (header, opening) = self.head(&*file, &path, sequence)?;
        let bytes = read_all(&*file).map_err(OpenError::disk(&path))?;
        drop(file);
        // Where it ends says the one behind it. When that one's head is damaged, which is told by itself, all sound
        // records are looked at, and a torn one is damage as well: nothing is torn in a segment that was left.
        let (next_path, next) = self.open(sequence + 1)?;
        let next_opening = match self.head(&*next, &next_path, sequence + 1) {
            Ok((_, opening)) => Some(opening),
            Err(error @ (OpenError::Disk { .. } | OpenError::Keys(_))) => return Err(error.into()),
            Err(_) => None,
        };
        let size = (header.segment_bytes as usize).min(bytes.len());
        let end = next_opening.as_ref().map(|next| next.previous_end as usize);
        let end = end.filter(|end| (SEGMENT_HEADER..=size).contains(end));
        let (region, limit) = end.map_or((Region::Last, size), |end| (Region::Sealed, end));
        let carried = self.carried.take().filter(|carried| carried.next == sequence);
        let begins = |base: &[Last]| (base.to_vec(), base.iter().map(|last| Terms::new(*last)).collect());
        let (last, terms) = carried.map_or_else(|| begins(&opening.base), |carried| (carried.last, carried.terms));
        let opener = opener(&header, &path, Some(&self.keys))?;
        let (bytes, header, path) = (&bytes[..], &header, &path);
        let mut walk = Walk { path, bytes, header, region, limit, last, terms, overwrites: Vec::new(), opener };
        let differs = |walk: &Walk<'_>, expected: &[Last]| {
            let what = "the segment does not begin where the one before it ends";
            walk.corruption(SEGMENT_HEADER, what, format!("{expected:?}"), format!("{:?}", walk.last))
        };
        if walk.last != opening.base {
            return Err(differs(&walk, &opening.base).into());
        }
        let ended = walk.run(&mut |_| Ok(()))?;
        if let Some(cut) = ended.cut {
            let expected = "a sound record".into();
            return Err(walk
                .corruption(ended.offset, "a closed segment is damaged", expected, cut.found.into())
                .into());
        }
        if let Some(next) = next_opening.filter(|_| end.is_some()) {
            if walk.last != next.base {
                return Err(differs(&walk, &next.base).into());
            }
            self.carried = Some(Carried { next: sequence + 1, last: walk.last, terms: walk.terms });
        }
        Ok(())
    }
}

type Pause = dyn Fn(usize) -> io::Result<()> + Send + Sync;

/// Reads from the device and not from the cache, a little at a time, and leaves nothing in the cache.
struct Paced {
    inner: Arc<dyn Disk>,
    pause: Arc<Pause>,
    status: Arc<ScrubStatus>,
}

struct PacedFile {
    inner: Box<dyn DiskFile>,
    pause: Arc<Pause>,
    status: Arc<ScrubStatus>,
}

impl Drop for PacedFile {
    fn drop(&mut self) {
        // Only memory is at stake.
        if !mutant!(ScrubReadsTheCache) {
            self.inner.forget_cache().ok();
        }
    }
}

fn read_only() -> io::Error {
    io::ErrorKind::ReadOnlyFilesystem.into()
}

impl Disk for Paced {
    fn create_dir(&self, _path: &Path) -> io::Result<()> {
        Err(read_only())
    }

    fn open(&self, path: &Path) -> io::Result<Box<dyn DiskFile>> {
        let inner = self.inner.open(path)?;
        if !mutant!(ScrubReadsTheCache) {
            inner.forget_cache()?;
        }
        let (pause, status) = (Arc::clone(&self.pause), Arc::clone(&self.status));
        Ok(Box::new(PacedFile { inner, pause, status }))
    }

    fn create(&self, _path: &Path) -> io::Result<Box<dyn DiskFile>> {
        Err(read_only())
    }

    fn rename(&self, _from: &Path, _to: &Path) -> io::Result<()> {
        Err(read_only())
    }

    fn remove(&self, _path: &Path) -> io::Result<()> {
        Err(read_only())
    }

    fn list(&self, path: &Path) -> io::Result<Vec<String>> {
        self.inner.list(path)
    }

    fn sync_dir(&self, _path: &Path) -> io::Result<()> {
        Err(read_only())
    }

    fn lock(&self, _dir: &Path) -> io::Result<Box<dyn Send + Sync>> {
        Err(read_only())
    }
}

impl DiskFile for PacedFile {
    fn len(&self) -> io::Result<u64> {
        self.inner.len()
    }

    fn read_at(&self, mut offset: u64, bytes: &mut [u8]) -> io::Result<()> {
        for part in bytes.chunks_mut(CHUNK) {
            self.inner.read_at(offset, part)?;
            offset += part.len() as u64;
            self.status.bytes.fetch_add(part.len() as u64, Ordering::Relaxed);
            (self.pause)(part.len())?;
        }
        Ok(())
    }

    fn write_at(&self, _offset: u64, _parts: &[&[u8]]) -> io::Result<()> {
        Err(read_only())
    }

    fn sync_data(&self) -> io::Result<()> {
        Err(read_only())
    }

    fn sync_all(&self) -> io::Result<()> {
        Err(read_only())
    }

    fn forget_cache(&self) -> io::Result<()> {
        self.inner.forget_cache()
    }
}
