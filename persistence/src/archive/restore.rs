//! Makes a data folder of an archive: finds the way from a snapshot, or from the first entry, to the wanted point,
//! fetches and checks every object on it, and reads back what it wrote.
//!
//! Writes to an empty folder only, and its description last: a folder that is not whole can't be started.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use super::error::ArchiveError;
use super::name::{ABOUT, Piece, PieceKind, TIP, parse_history, parse_uuid};
use super::ship::{Point, SegmentBytes, Tip, about, check, file_of, head, parse, path, read, start_of};
use super::store::{Store, StoreError};
use super::text::Text;
use crate::disk::{Disk, DiskFile};
use crate::error::OpenError;
use crate::folder::{key_check, uuid_v4};
use crate::format::{SEGMENT_HEADER, SegmentHeader};
use crate::keys::{KeyError, Keys, Random};
use crate::meta::Meta;
use crate::scan::{opener, scan};
use crate::segment::{self, Identity};
use crate::snapshot::{self, Snapshots};
use crate::{HistoryId, MasterKey, Sealer, audit_growing, uuid_text};

/// How many objects are fetched at a time.
const FETCHERS: usize = 8;

/// Up to where a folder is restored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Target {
    /// Everything that the archive holds.
    Latest,
    /// So many entries of the log, counted over all shards from 1.
    Position(u64),
    /// All entries before the first one that has a command stamped later; milliseconds since 1970.
    Time(i64),
}

/// What a restore is doing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Part {
    /// Listing the archive and finding the way; counted in nothing.
    Plan,
    /// Fetching objects, checking their hashes, and writing files; counted in bytes.
    Fetch,
    /// Reading back what was written; counted in bytes.
    Verify,
}

/// Told how a restore goes on; from several threads.
pub trait Progress: Sync {
    /// A part begins, of `total` bytes.
    fn begin(&self, part: Part, total: u64);
    /// So many bytes more are done.
    fn advance(&self, bytes: u64);
    /// Something an operator should read.
    fn note(&self, text: &str);
}

/// What to restore, and where to.
pub struct Restore {
    /// The archive.
    pub store: Arc<dyn Store>,
    /// Where the folder is made.
    pub disk: Arc<dyn Disk>,
    /// The data folder: empty, or not there.
    pub dir: PathBuf,
    /// The keys that belong to it; they are not in the archive.
    pub keys_dir: PathBuf,
    /// The master key, when the keys folder does not hold it.
    pub master: Option<MasterKey>,
    /// Up to where.
    pub target: Target,
    /// Of which history; none: of the one that was shipped last.
    pub history: Option<HistoryId>,
    /// Gives the folder a new history even when nothing known is left out.
    pub new_history: bool,
    /// Where ids come from.
    pub random: Random,
}

/// What was restored.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Restored {
    /// The cluster.
    pub cluster: u128,
    /// The history of the archive.
    pub from: HistoryId,
    /// The history of the folder: the feed's `epoch`. Another one than `from` when the folder ends before the archive.
    pub history: HistoryId,
    /// Entries of the log that it holds, or a snapshot stands for.
    pub position: u64,
    /// Entries that the archive holds.
    pub tip: u64,
    /// The latest stamp in the archive, in milliseconds since 1970.
    pub tip_at: i64,
    /// When the archive was last shipped to, in milliseconds since 1970.
    pub shipped_at: i64,
    /// The snapshot that a start begins with, and the position up to which it was made.
    pub snapshot: Option<(u64, u64)>,
    /// Records of the log that are replayed at most.
    pub records: u64,
    /// Objects that were fetched.
    pub objects: u64,
    /// Their bytes.
    pub bytes: u64,
    /// How long finding the way took.
    pub plan: Duration,
    /// How long fetching, checking hashes and writing took.
    pub fetch: Duration,
    /// How long reading back took.
    pub verify: Duration,
}

/// A snapshot with all it needs.
struct Mark {
    number: u64,
    position: u64,
    segment: u64,
    bytes: u64,
    audit: Vec<(String, u64)>,
}

/// One history as the archive lists it.
struct Listed {
    tip: Tip,
    segments: BTreeMap<u64, Vec<Piece>>,
    audit: BTreeMap<String, Vec<Piece>>,
    snapshots: BTreeMap<String, Vec<Piece>>,
    /// Newest first.
    marks: Vec<Mark>,
}

/// What will be fetched of the log.
struct Way {
    pieces: Vec<Piece>,
    /// The entry after which the log is cut; none: not at all.
    cut: Option<Cut>,
    mark: Option<Mark>,
}

#[derive(Clone, Copy)]
enum Cut {
    Position(u64),
    Time(i64),
}

impl Restore {
    /// Restores.
    ///
    /// # Errors
    /// [`ArchiveError`] names the object or file, what was expected there, and what to do. The folder is then not
    /// whole and can't be started; it may be removed.
    pub fn run(&self, progress: &dyn Progress) -> Result<Restored, ArchiveError> {
        let began = Instant::now();
        progress.begin(Part::Plan, 0);
        self.check_empty()?;
        let mut meta = self.about()?;
        let (from, listed) = self.list(meta)?;
        meta.history = from;
        let way = self.way(meta, &listed, progress)?;
        let is_latest = way.cut.is_none();
        let history = if is_latest && !self.new_history { from } else { self.new_id() };
        let plan = began.elapsed();

        let began = Instant::now();
        let audit = self.audit_pieces(&way, &listed, is_latest && history == from);
        let snapshot = self.snapshot_pieces(&way, &listed);
        let pieces: Vec<Piece> = way.pieces.iter().chain(&audit).chain(&snapshot).cloned().collect();
        let bytes = pieces.iter().map(|piece| piece.to - piece.from).sum();
        progress.begin(Part::Fetch, bytes);
        self.fetch(&pieces, progress)?;
        self.check_joints(&meta, &way.pieces)?;
        if let Some(cut) = way.cut {
            self.cut(&meta, &way, cut)?;
        }
        let restored = Meta { history, ..meta };
        if history != from {
            self.adopt(&restored, &audit, &snapshot)?;
        }
        self.settle()?;
        let fetch = began.elapsed();

        let began = Instant::now();
        progress.begin(Part::Verify, bytes);
        let (position, records) = self.verify(&restored, &way, progress)?;
        let dir = OpenError::disk(&self.dir);
        restored.write(&*self.disk, &self.dir).map_err(dir)?;
        Ok(Restored {
            cluster: meta.cluster,
            from,
            history,
            position,
            tip: listed.tip.position,
            tip_at: listed.tip.at,
            shipped_at: listed.tip.shipped_at,
            snapshot: way.mark.map(|mark| (mark.number, mark.position)),
            records,
            objects: pieces.len() as u64,
            bytes,
            plan,
            fetch,
            verify: began.elapsed(),
        })
    }

    fn keys(&self) -> Result<Keys, KeyError> {
        Keys::open_known(Arc::clone(&self.disk), &self.keys_dir, self.random, self.master.as_ref())
    }

    fn new_id(&self) -> HistoryId {
        let mut bytes = [0; 16];
        (self.random)(&mut bytes);
        HistoryId(uuid_v4(bytes))
    }

    fn check_empty(&self) -> Result<(), ArchiveError> {
        let folders = ["", "log", "snapshots", "audit"];
        for folder in folders {
            let dir = self.dir.join(folder);
            let names = self.disk.list(&dir).map_err(OpenError::disk(&dir))?;
            // Whoever has just looked whether the folder is in use leaves its lock.
            if names.iter().any(|name| name != "lock") {
                return Err(ArchiveError::NotEmpty { dir: self.dir.clone() });
            }
        }
        Ok(())
    }

    fn get(&self, object: &str, expected: &str) -> Result<Vec<u8>, ArchiveError> {
        self.store.get(object).map_err(|error| match error {
            StoreError::Missing => {
                ArchiveError::Missing { object: object.to_owned(), expected: expected.to_owned() }
            }
            error => self.failed(object, error),
        })
    }

    fn failed(&self, object: &str, error: StoreError) -> ArchiveError {
        ArchiveError::Store { place: self.store.place(), object: object.to_owned(), error }
    }

    /// Whose archive it is, and that the keys belong to it.
    fn about(&self) -> Result<Meta, ArchiveError> {
        let bytes = self.store.get(ABOUT).map_err(|error| match error {
            StoreError::Missing => ArchiveError::Empty { place: self.store.place(), object: ABOUT.into() },
            error => self.failed(ABOUT, error),
        })?;
        let text = Text::decode(ABOUT, &bytes)?;
        let cluster = text.value(ABOUT, "cluster", parse_uuid)?;
        let shards = text.value(ABOUT, "shards", |value| value.parse().ok())?;
        let keys = self.keys()?;
        let meta = Meta { cluster, history: HistoryId(0), key_check: key_check(&keys, cluster), shards };
        let expected = text.value(ABOUT, "key", |value| Some(value.to_owned()))?;
        if about(&meta).value(ABOUT, "key", |value| Some(value.to_owned()))? != expected {
            return Err(KeyError::WrongMaster { path: keys.master_path() }.into());
        }
        Ok(meta)
    }

    /// The history that is to be restored, and what the archive holds of it.
    fn list(&self, meta: Meta) -> Result<(HistoryId, Listed), ArchiveError> {
        let names = self.store.list(TIP).map_err(|error| self.failed(TIP, error))?;
        let mut tips = Vec::new();
        for name in names {
            let history = name.split('/').next_back().and_then(parse_history);
            let Some(history) = history.filter(|id| self.history.is_none_or(|wanted| *id == wanted)) else {
                continue;
            };
            tips.push((history, Tip::decode(&name, &self.get(&name, "how far a history reaches")?)?));
        }
        let newest = tips.into_iter().max_by_key(|(_, tip)| tip.shipped_at);
        let Some((history, tip)) = newest else {
            let object = self.history.map_or(TIP.to_owned(), |history| format!("{TIP}/{history}"));
            let expected =
                "how far the history reaches; a backup that was stopped half-way has none, run it again";
            return Err(ArchiveError::Missing { object, expected: expected.into() });
        };
        let all = |kind: PieceKind| -> Result<Vec<Piece>, ArchiveError> {
            let folder = format!("{}/{history}", kind.folder());
            let names = self.store.list(&folder).map_err(|error| self.failed(&folder, error))?;
            names.iter().map(|name| parse(name)).collect()
        };
        let by_file = |pieces: Vec<Piece>| {
            let mut files: BTreeMap<String, Vec<Piece>> = BTreeMap::new();
            for piece in pieces {
                files.entry(piece.file.clone()).or_default().push(piece);
            }
            files
        };
        let mut segments = BTreeMap::new();
        for (file, pieces) in by_file(all(PieceKind::Log)?) {
            let number = u64::from_str_radix(&file, 16).map_err(|_| ArchiveError::Damaged {
                object: pieces[0].name(),
                expected: "a segment's number".into(),
                found: file.clone(),
            })?;
            segments.insert(number, pieces);
        }
        let mut marks = Vec::new();
        for piece in all(PieceKind::Mark)? {
            let name = piece.name();
            let bytes = self.get(&name, "the mark of a snapshot")?;
            check(&piece, &name, &bytes)?;
            let text = Text::decode(&name, &bytes)?;
            let number =
                |word: &str, radix| text.value(&name, word, |value| u64::from_str_radix(value, radix).ok());
            let audit = text.values("audit").filter_map(|line| {
                let (file, end) = line.split_once(' ')?;
                Some((file.to_owned(), end.parse().ok()?))
            });
            marks.push(Mark {
                number: number("snapshot", 16)?,
                position: number("position", 10)?,
                segment: number("segment", 16)?,
                bytes: number("bytes", 10)?,
                audit: audit.collect(),
            });
        }
        marks.sort_by_key(|mark| std::cmp::Reverse((mark.position, mark.number)));
        let listed = Listed {
            tip,
            segments,
            audit: by_file(all(PieceKind::Audit)?),
            snapshots: by_file(all(PieceKind::Snapshot)?),
            marks,
        };
        debug_assert_eq!(meta.history, HistoryId(0), "which history is only known now");
        Ok((history, listed))
    }

    /// What must be fetched to reach the target.
    fn way(&self, meta: Meta, listed: &Listed, progress: &dyn Progress) -> Result<Way, ArchiveError> {
        let tip = &listed.tip;
        let cut = match self.target {
            Target::Position(wanted) if wanted > tip.position || wanted == 0 => {
                let held = format!("entries 1 to {}", tip.position);
                return Err(ArchiveError::Target { wanted: wanted.to_string(), held });
            }
            Target::Position(wanted) if wanted < tip.position => Some(Cut::Position(wanted)),
            Target::Time(wanted) if wanted < tip.at => Some(Cut::Time(wanted)),
            _ => None,
        };
        let mut trouble = None;
        // From the newest snapshot that lies before the target, then from older ones, at last from the first entry.
        let starts = listed.marks.iter().map(Some).chain([None]);
        for mark in starts {
            if let (Some(mark), Some(Cut::Position(wanted))) = (mark, cut)
                && mark.position > wanted
            {
                continue;
            }
            if let Some(mark) = mark
                && let Err(error) = self.check_whole(meta.history, mark, listed)
            {
                progress.note(&format!("Snapshot {} is passed by: {error}", mark.number));
                trouble.get_or_insert(error);
                continue;
            }
            let begins = mark.map_or(1, |mark| mark.segment);
            match self.log_pieces(meta.history, listed, begins, cut) {
                Ok(pieces) => {
                    // How far a time reaches is known by the names of the pieces only: the last one may end later.
                    let certain = match cut {
                        Some(Cut::Time(wanted)) => {
                            pieces.last().filter(|last| last.at > wanted).map(|last| last.first - 1)
                        }
                        _ => None,
                    };
                    if let (Some(mark), Some(certain)) = (mark, certain)
                        && mark.position > certain
                    {
                        continue;
                    }
                    let mark = mark.map(|mark| Mark { audit: mark.audit.clone(), ..*mark });
                    return Ok(Way { pieces, cut, mark });
                }
                Err(error) => {
                    if let Some(mark) = mark {
                        progress.note(&format!("Snapshot {} is passed by: {error}", mark.number));
                    }
                    trouble.get_or_insert(error);
                }
            }
        }
        Err(trouble.unwrap_or_else(|| {
            let held = format!("entries up to {}, the oldest of them as a later snapshot only", tip.position);
            let wanted = match self.target {
                Target::Latest => "latest".to_owned(),
                Target::Position(position) => position.to_string(),
                Target::Time(at) => format!("{at} ms since 1970"),
            };
            ArchiveError::Target { wanted, held }
        }))
    }

    /// Whether all objects of a snapshot are listed.
    fn check_whole(&self, history: HistoryId, mark: &Mark, listed: &Listed) -> Result<(), ArchiveError> {
        let whole = |kind: PieceKind, file: &str, pieces: Option<&Vec<Piece>>, end: u64| {
            let way = path(pieces.cloned().unwrap_or_default());
            if way.iter().any(|piece| piece.to == end) || end == 0 {
                return Ok(());
            }
            let reach = way.last().map_or(0, |piece| piece.to);
            Err(ArchiveError::Missing {
                object: format!("{}/{history}/{file}/{reach:010x}-…", kind.folder()),
                expected: format!("the bytes from {reach} to {end}"),
            })
        };
        let file = file_of(mark.number);
        whole(PieceKind::Snapshot, &file, listed.snapshots.get(&file), mark.bytes)?;
        mark.audit.iter().try_for_each(|(file, end)| whole(PieceKind::Audit, file, listed.audit.get(file), *end))
    }

    /// The pieces from the start of segment `begins` up to the cut, without a hole.
    fn log_pieces(
        &self,
        history: HistoryId,
        listed: &Listed,
        begins: u64,
        cut: Option<Cut>,
    ) -> Result<Vec<Piece>, ArchiveError> {
        let tip = &listed.tip;
        let missing = |sequence: u64, reach: u64, expected: String| ArchiveError::Missing {
            object: format!("{}/{history}/{}/{reach:010x}-…", PieceKind::Log.folder(), file_of(sequence)),
            expected,
        };
        let is_beyond = |piece: &Piece| match cut {
            Some(Cut::Position(wanted)) => piece.last > wanted,
            Some(Cut::Time(wanted)) => piece.at > wanted,
            None => false,
        };
        let mut pieces: Vec<Piece> = Vec::new();
        for sequence in begins..=tip.segment {
            let all = listed.segments.get(&sequence).cloned().unwrap_or_default();
            let known = path(all.clone());
            for piece in &known {
                if let Some(before) = pieces.last()
                    && before.last + 1 != piece.first
                {
                    let (file, from) =
                        if before.file == piece.file { (sequence, piece.from) } else { (sequence - 1, before.to) };
                    let expected = format!("entries {} to {}", before.last + 1, piece.first - 1);
                    return Err(missing(file, from, expected));
                }
                pieces.push(piece.clone());
                if is_beyond(piece) {
                    return Ok(pieces);
                }
            }
            let reach = known.last().map_or(0, |piece| piece.to);
            let listed_to = all.iter().map(|piece| piece.to).max().unwrap_or(0);
            let needed = if sequence == tip.segment { tip.to.max(listed_to) } else { listed_to.max(1) };
            if reach < needed {
                return Err(missing(
                    sequence,
                    reach,
                    format!("the bytes from {reach} on, up to {needed} at least"),
                ));
            }
        }
        Ok(pieces)
    }

    fn snapshot_pieces(&self, way: &Way, listed: &Listed) -> Vec<Piece> {
        let Some(mark) = &way.mark else { return Vec::new() };
        let pieces = listed.snapshots.get(&file_of(mark.number)).cloned().unwrap_or_default();
        up_to(path(pieces), mark.bytes)
    }

    /// What of the audit is fetched: what the snapshot counts on; and signed roots if they are of this history.
    fn audit_pieces(&self, way: &Way, listed: &Listed, with_roots: bool) -> Vec<Piece> {
        let wanted = way.mark.iter().flat_map(|mark| &mark.audit);
        let wanted = wanted.filter(|(file, _)| with_roots || !file.ends_with(".roots"));
        wanted
            .flat_map(|(file, end)| up_to(path(listed.audit.get(file).cloned().unwrap_or_default()), *end))
            .collect()
    }

    fn path_of(&self, piece: &Piece) -> PathBuf {
        match piece.kind {
            PieceKind::Log => self.dir.join("log").join(format!("{}.seg", piece.file)),
            PieceKind::Snapshot | PieceKind::Mark => {
                self.dir.join("snapshots").join(format!("{}.snap", piece.file))
            }
            PieceKind::Audit => self.dir.join("audit").join(&piece.file),
        }
    }

    /// Fetches the pieces with several threads, checks each and writes it to its place.
    fn fetch(&self, pieces: &[Piece], progress: &dyn Progress) -> Result<(), ArchiveError> {
        for folder in ["log", "snapshots", "audit"] {
            let dir = self.dir.join(folder);
            self.disk.create_dir(&dir).map_err(OpenError::disk(&dir))?;
        }
        let mut files: BTreeMap<PathBuf, Box<dyn DiskFile>> = BTreeMap::new();
        for piece in pieces {
            let path = self.path_of(piece);
            if let Entry::Vacant(vacant) = files.entry(path) {
                let file = self.disk.create(vacant.key()).map_err(OpenError::disk(vacant.key()))?;
                vacant.insert(file);
            }
        }
        let next = AtomicUsize::new(0);
        let failed = Mutex::new(None);
        let worker = || {
            while let Some(piece) = pieces.get(next.fetch_add(1, Ordering::Relaxed)) {
                let path = self.path_of(piece);
                let name = piece.name();
                let written = self
                    .get(&name, &format!("bytes {} to {} of {}", piece.from, piece.to, path.display()))
                    .and_then(|bytes| check(piece, &name, &bytes).map(|()| bytes))
                    .and_then(|bytes| {
                        files[&path].write_at(piece.from, &[&bytes]).map_err(OpenError::disk(&path))?;
                        Ok(bytes.len() as u64)
                    });
                match written {
                    Ok(bytes) => progress.advance(bytes),
                    Err(error) => {
                        failed.lock().unwrap_or_else(PoisonError::into_inner).get_or_insert(error);
                        next.store(pieces.len(), Ordering::Relaxed);
                    }
                }
            }
        };
        std::thread::scope(|scope| {
            for _ in 0..FETCHERS.min(pieces.len()) {
                scope.spawn(worker);
            }
        });
        match failed.into_inner().unwrap_or_else(PoisonError::into_inner) {
            Some(error) => Err(error),
            None => Ok(()),
        }
    }

    /// Whether each segment ends where the next one says.
    fn check_joints(&self, meta: &Meta, pieces: &[Piece]) -> Result<(), ArchiveError> {
        for pair in pieces.windows(2) {
            let [before, piece] = pair else { continue };
            if before.file == piece.file {
                continue;
            }
            let sequence = u64::from_str_radix(&piece.file, 16).unwrap_or_default();
            let (_, _, opening) = head(&*self.disk, &self.dir, meta, sequence)?;
            let expected = u64::from(opening.previous_end);
            if before.to != expected {
                return Err(ArchiveError::Missing {
                    object: format!("log/{}/{}/{:010x}-…", meta.history, before.file, before.to),
                    expected: format!("the bytes from {} to {expected}", before.to),
                });
            }
        }
        Ok(())
    }

    /// Takes away what lies behind the cut.
    fn cut(&self, meta: &Meta, way: &Way, cut: Cut) -> Result<(), ArchiveError> {
        let Some(last) = way.pieces.last() else { return Ok(()) };
        let sequence = u64::from_str_radix(&last.file, 16).unwrap_or_default();
        let (file, header, opening) = head(&*self.disk, &self.dir, meta, sequence)?;
        let path = self.dir.join("log").join(segment::name(sequence));
        let keys = self.keys()?;
        let opener = opener(&header, &path, Some(&keys))?;
        let segment = SegmentBytes { path: &path, file: &*file, header, opener };
        let begins = way.pieces.iter().rev().take_while(|piece| piece.file == last.file).last();
        let before =
            Point { at: begins.map_or(0, |first| if first.from == 0 { 0 } else { first.at }), ..Point::default() };
        let mut to = Point { offset: SEGMENT_HEADER as u64, ..start_of(&opening, before) };
        let bytes = read(&*file, 0, last.to).map_err(OpenError::disk(&path))?;
        let goes_on = |_: Point, next: Point, is_entry: bool| {
            !is_entry
                || match cut {
                    Cut::Position(wanted) => next.position <= wanted,
                    Cut::Time(wanted) => next.at <= wanted,
                }
        };
        segment.walk(&bytes, 0, &mut to, goes_on, true)?;
        drop(bytes);
        // Written anew and put in its place, so that nothing of what was cut is left in the file.
        let kept = read(&*file, 0, to.offset).map_err(OpenError::disk(&path))?;
        drop(file);
        let file = self.disk.create(&path).map_err(OpenError::disk(&path))?;
        file.write_at(0, &[&kept]).map_err(OpenError::disk(&path))?;
        Ok(())
    }

    /// Gives all files to the new history.
    fn adopt(&self, restored: &Meta, audit: &[Piece], snapshot: &[Piece]) -> Result<(), ArchiveError> {
        let open = |path: &Path| self.disk.open(path).map_err(OpenError::disk(path));
        let dir = self.dir.join("log");
        for name in self.disk.list(&dir).map_err(OpenError::disk(&dir))? {
            let path = dir.join(name);
            let file = open(&path)?;
            let bytes = read(&*file, 0, SEGMENT_HEADER as u64).map_err(OpenError::disk(&path))?;
            let header = SegmentHeader::decode(&bytes).map_err(|error| OpenError::Disk {
                path: path.clone(),
                error: std::io::Error::other(error.to_string()),
            })?;
            let header = SegmentHeader { history: restored.history, ..header };
            file.write_at(0, &[&header.encode()[..]]).map_err(OpenError::disk(&path))?;
        }
        for piece in snapshot.iter().take(1) {
            let path = self.path_of(piece);
            snapshot::adopt(&*open(&path)?, restored.history).map_err(OpenError::disk(&path))?;
        }
        for piece in audit.iter().filter(|piece| piece.from == 0) {
            let path = self.path_of(piece);
            audit_growing::adopt(&*open(&path)?, restored.history).map_err(OpenError::disk(&path))?;
        }
        Ok(())
    }

    /// Fills the segments up to their length with zeros, and makes everything durable.
    fn settle(&self) -> Result<(), ArchiveError> {
        let zeros = vec![0; 1 << 20];
        for folder in ["log", "snapshots", "audit"] {
            let dir = self.dir.join(folder);
            for name in self.disk.list(&dir).map_err(OpenError::disk(&dir))? {
                let path = dir.join(&name);
                let at = OpenError::disk(&path);
                let file = self.disk.open(&path).map_err(&at)?;
                if segment::sequence_of(&name).is_some() {
                    let bytes = read(&*file, 0, SEGMENT_HEADER as u64).map_err(&at)?;
                    let header = SegmentHeader::decode(&bytes)
                        .map_err(|error| at(std::io::Error::other(error.to_string())))?;
                    let mut from = file.len().map_err(&at)?;
                    let end = u64::from(header.segment_bytes);
                    while from < end {
                        let to = (from + zeros.len() as u64).min(end);
                        file.write_at(from, &[&zeros[..(to - from) as usize]]).map_err(&at)?;
                        from = to;
                    }
                }
                file.sync_all().map_err(&at)?;
            }
            self.disk.sync_dir(&dir).map_err(OpenError::disk(&dir))?;
        }
        Ok(())
    }

    /// Reads the folder as a start would. Answers its entries, and how many records of the log it holds.
    fn verify(&self, meta: &Meta, way: &Way, progress: &dyn Progress) -> Result<(u64, u64), ArchiveError> {
        let identity = Identity { cluster: meta.cluster, history: meta.history, shards: meta.shards };
        let dir = self.dir.join("log");
        let keys = Arc::new(self.keys()?);
        let found = scan(&*self.disk, &dir, identity, Some(&keys), false)?;
        progress.advance(way.pieces.iter().map(|piece| piece.to - piece.from).sum());
        let position: u64 = found.last.iter().map(|last| last.index).sum();
        let damaged = |expected: String, found: String| ArchiveError::Damaged {
            object: way.pieces.last().map(Piece::name).unwrap_or_default(),
            expected,
            found,
        };
        if let Some(cut) = found.cuts.first() {
            return Err(damaged("whole records".into(), format!("{} at offset {}", cut.found, cut.offset)));
        }
        let expected = match way.cut {
            Some(Cut::Position(wanted)) => Some(wanted),
            Some(Cut::Time(_)) => None,
            None => way.pieces.last().map(|last| last.last),
        };
        if let Some(expected) = expected.filter(|expected| *expected != position) {
            return Err(damaged(format!("{expected} entries"), format!("{position}")));
        }
        if let Some(mark) = &way.mark {
            let sealer = Sealer::new(keys, meta.cluster);
            let dir = self.dir.join("snapshots");
            let snapshots = Snapshots::new(Arc::clone(&self.disk), dir, sealer, identity);
            let read = snapshots.read(mark.number).map_err(|error| ArchiveError::Damaged {
                object: format!("snap/{}/{}", meta.history, file_of(mark.number)),
                expected: "a sound snapshot".into(),
                found: error.to_string(),
            })?;
            let ahead = read.places().iter().zip(&found.last).any(|(place, last)| place.index > last.index);
            if ahead {
                return Err(damaged("all entries of its snapshot".into(), format!("{position} entries")));
            }
            progress.advance(mark.bytes);
        }
        Ok((position, found.records))
    }
}

/// The pieces up to the one that ends at `end`.
fn up_to(pieces: Vec<Piece>, end: u64) -> Vec<Piece> {
    pieces.into_iter().filter(|piece| piece.to <= end).collect()
}

impl std::fmt::Display for Restored {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { position, tip, history, from, .. } = self;
        writeln!(f, "cluster {}", uuid_text(self.cluster))?;
        writeln!(f, "entries {position} of {tip}")?;
        match self.snapshot {
            Some((number, at)) => writeln!(f, "snapshot {number}, made of the entries up to {at} at most")?,
            None => writeln!(f, "no snapshot: a start replays every entry")?,
        }
        if history == from {
            write!(f, "epoch {history}, as before")
        } else {
            write!(f, "epoch {history}, a new history: it was {from}; every reader of the feed begins anew")
        }
    }
}
