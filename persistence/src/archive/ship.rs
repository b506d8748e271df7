//! Ships a data folder to a store: what is durable of every segment, then each new snapshot with what it counts on.
//!
//! Only adds. Reads files that a running node writes, so it takes nothing that is not durable, and checks every record
//! before it leaves: what is damaged here must not become the copy that everybody trusts.

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use tracing::warn;

use super::error::ArchiveError;
use super::name::{ABOUT, Piece, PieceKind, TIP, hex};
use super::reach::Extent;
use super::store::{Store, StoreError};
use super::text::Text;
use crate::audit_files::{FILE_HEADER, ROOT_RECORD};
use crate::codec;
use crate::disk::{Disk, DiskFile};
use crate::error::{Corruption, OpenError};
use crate::file_seal::FileOpener;
use crate::format::{
    RECORD_HEADER, RecordHeader, SEGMENT_HEADER, SegmentHeader, record_checksum, record_len, stored_checksum,
};
use crate::keys::{Keys, system_random};
use crate::meta::Meta;
use crate::scan::{Record, open_record, opener, opening_of, scan};
use crate::segment::{self, Identity, Opening};
use crate::snapshot::{self, SnapshotError, SnapshotReader, Snapshots};
use crate::{Kind, MasterKey, Sealer, uuid_text};

/// Most bytes of one piece, unless a single record is larger.
pub const PIECE_BYTES: u64 = 8 << 20;
/// So many small pieces of an open segment are stored once more as one, so that a restore fetches few.
pub(crate) const MERGE_PIECES: usize = 64;
/// A closed segment in more pieces than this is stored once more in large ones.
const CLOSED_PIECES: usize = 16;

/// A place in the log, and what is known of everything before it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Point {
    pub(crate) offset: u64,
    pub(crate) position: u64,
    pub(crate) term: u64,
    pub(crate) at: i64,
}

/// How far a segment is archived.
struct Progress {
    header: SegmentHeader,
    opening: Opening,
    start: Point,
    reach: Point,
    /// Where the small pieces begin that were not yet merged.
    small: Vec<Point>,
    pieces: usize,
    is_whole: bool,
}

/// What a round has shipped.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Shipped {
    /// Entries of all shards that the archive holds.
    pub position: u64,
    /// How far the log is in the archive.
    pub extent: Extent,
    /// The last segment that is in the archive to its end.
    pub whole: u64,
    /// Objects that were stored.
    pub objects: u64,
    /// Their bytes.
    pub bytes: u64,
}

/// A snapshot that is not in the archive yet, and how far the signed roots reached before the log was looked at.
struct Fresh {
    reader: SnapshotReader,
    roots: Vec<(String, u64)>,
}

/// Ships one data folder. Used by one thread.
pub struct Shipper {
    disk: Arc<dyn Disk>,
    store: Arc<dyn Store>,
    dir: PathBuf,
    meta: Meta,
    snapshots: Snapshots,
    is_open: bool,
    segments: BTreeMap<u64, Progress>,
    audit: BTreeMap<String, u64>,
    /// The newest snapshot that is in the archive, or was found damaged.
    marked: u64,
    /// A sync of signed roots failed: what a later one says is worth nothing, so no snapshot is shipped any more.
    unsynced: bool,
    told: Shipped,
    on_bytes: Box<dyn FnMut(u64) + Send>,
}

impl Shipper {
    /// Ships the data folder `dir`, whose snapshots are `snapshots`, to `store`. Nothing is asked of the store yet.
    ///
    /// # Errors
    /// The folder has no description, or it can't be read.
    pub fn new(
        disk: Arc<dyn Disk>,
        dir: &Path,
        snapshots: Snapshots,
        store: Arc<dyn Store>,
    ) -> Result<Self, ArchiveError> {
        let meta = Meta::read(&*disk, dir)?.ok_or_else(|| no_folder(dir))?;
        Ok(Self {
            disk,
            store,
            dir: dir.to_owned(),
            meta,
            snapshots,
            is_open: false,
            segments: BTreeMap::new(),
            audit: BTreeMap::new(),
            marked: 0,
            unsynced: false,
            told: Shipped::default(),
            on_bytes: Box::new(|_| {}),
        })
    }

    /// Tells `on_bytes` of every so many bytes of the folder that are in the archive.
    pub fn on_bytes(mut self, on_bytes: impl FnMut(u64) + Send + 'static) -> Self {
        self.on_bytes = Box::new(on_bytes);
        self
    }

    /// Ships everything that is durable and not yet in the archive. `durable` is asked once.
    ///
    /// # Errors
    /// A store that refuses: what was shipped stays, and the next call goes on behind it. Everything else asks for
    /// somebody to look.
    pub fn ship(&mut self, durable: impl FnOnce() -> Extent, now_ms: i64) -> Result<Shipped, ArchiveError> {
        // Signed roots are of committed entries: looked at before the log, they never reach further than it.
        let fresh = self.fresh_snapshot()?;
        let end = durable();
        if !self.is_open {
            self.open(end)?;
        }
        let before = self.told.extent;
        self.ship_log(end)?;
        if self.told.extent != before {
            self.tell_tip(now_ms)?;
        }
        if let Some(fresh) = fresh {
            self.ship_snapshot(&fresh)?;
        }
        Ok(self.told)
    }

    /// What has been shipped, also by rounds that failed half-way.
    pub fn shipped(&self) -> Shipped {
        self.told
    }

    fn store_error(&self, object: &str) -> impl Fn(StoreError) -> ArchiveError + use<> {
        let (place, object) = (self.store.place(), object.to_owned());
        move |error| ArchiveError::Store { place: place.clone(), object: object.clone(), error }
    }

    /// Finds out what the archive holds of this history, and that it is this history.
    fn open(&mut self, end: Extent) -> Result<(), ArchiveError> {
        let about = about(&self.meta);
        match self.store.put_new(ABOUT, about.encode()) {
            Ok(()) => {}
            Err(StoreError::Exists) => {
                let found = self.store.get(ABOUT).map_err(self.store_error(ABOUT))?;
                check_about(&self.meta, &Text::decode(ABOUT, &found)?)?;
            }
            Err(error) => return Err(self.store_error(ABOUT)(error)),
        }
        let local = self.local(end)?;
        let tip = tip_name(&self.meta);
        match self.store.get(&tip) {
            Ok(bytes) => {
                let tip = Tip::decode(&tip, &bytes)?;
                let here = local.last().copied().unwrap_or(0);
                if (tip.segment, tip.to) > (here, u64::from(end.offset)) {
                    return Err(ArchiveError::Forked {
                        segment: tip.segment,
                        archived: format!("its bytes up to {}", tip.to),
                        here: format!("segment {here:016x} up to {}", end.offset),
                    });
                }
            }
            Err(StoreError::Missing) => {}
            Err(error) => return Err(self.store_error(&tip)(error)),
        }
        let mut before = Point::default();
        let mut segments = BTreeMap::new();
        for (number, sequence) in local.iter().copied().enumerate() {
            let limit = self.limit(&local, number, end)?;
            let progress = self.look_at(sequence, limit, number + 1 < local.len(), before)?;
            before = progress.reach;
            segments.insert(sequence, progress);
        }
        let folder = format!("{}/{}", PieceKind::Audit.folder(), self.meta.history);
        let mut files: BTreeMap<String, Vec<Piece>> = BTreeMap::new();
        for piece in self.pieces(&folder)? {
            files.entry(piece.file.clone()).or_default().push(piece);
        }
        self.audit = files.into_iter().map(|(file, pieces)| (file, reach_of(&path(pieces)))).collect();
        let folder = format!("{}/{}", PieceKind::Mark.folder(), self.meta.history);
        let marks = self.pieces(&folder)?;
        let marked = marks.iter().filter_map(|mark| u64::from_str_radix(&mark.file, 16).ok()).max();
        self.marked = marked.unwrap_or(0);
        self.segments = segments;
        self.is_open = true;
        Ok(())
    }

    /// The segments that hold what is durable, oldest first.
    fn local(&self, end: Extent) -> Result<Vec<u64>, ArchiveError> {
        let dir = self.dir.join("log");
        let names = self.disk.list(&dir).map_err(OpenError::disk(&dir))?;
        let all = names.iter().filter_map(|name| segment::sequence_of(name));
        let mut local: Vec<u64> = all.filter(|sequence| *sequence <= u64::from(end.sequence)).collect();
        local.sort_unstable();
        // What lies before a hole was given up, and waits to be used again.
        let hole = (1..local.len()).rev().find(|&number| local[number - 1] + 1 != local[number]);
        Ok(local.split_off(hole.unwrap_or(0)))
    }

    /// Where the durable records of segment `local[number]` end.
    fn limit(&self, local: &[u64], number: usize, end: Extent) -> Result<u64, ArchiveError> {
        let Some(next) = local.get(number + 1) else { return Ok(u64::from(end.offset)) };
        let (_, _, opening) = head(&*self.disk, &self.dir, &self.meta, *next)?;
        Ok(u64::from(opening.previous_end))
    }

    /// What the archive holds of a segment.
    fn look_at(
        &self,
        sequence: u64,
        limit: u64,
        is_closed: bool,
        before: Point,
    ) -> Result<Progress, ArchiveError> {
        let (file, header, opening) = head(&*self.disk, &self.dir, &self.meta, sequence)?;
        let folder = format!("{}/{}/{}", PieceKind::Log.folder(), self.meta.history, file_of(sequence));
        let known = path(self.pieces(&folder)?);
        let start = start_of(&opening, before);
        let mut reach = start;
        if let Some(last) = known.last() {
            let here = if last.to <= limit {
                let bytes = read(&*file, last.from, last.to).map_err(self.disk_error(sequence))?;
                last.check(&bytes)
            } else {
                Err(format!("records up to {limit} only"))
            };
            here.map_err(|here| ArchiveError::Forked { segment: sequence, archived: last.name(), here })?;
            reach = Point { offset: last.to, position: last.last, term: last.term, at: last.at };
        }
        let is_whole = is_closed && reach.offset == limit;
        Ok(Progress { header, opening, start, reach, small: Vec::new(), pieces: known.len(), is_whole })
    }

    fn pieces(&self, folder: &str) -> Result<Vec<Piece>, ArchiveError> {
        let names = self.store.list(folder).map_err(self.store_error(folder))?;
        names.iter().map(|name| parse(name)).collect()
    }

    fn disk_error(&self, sequence: u64) -> impl Fn(std::io::Error) -> ArchiveError + use<> {
        let path = self.dir.join("log").join(segment::name(sequence));
        move |error| OpenError::Disk { path: path.clone(), error }.into()
    }

    fn ship_log(&mut self, end: Extent) -> Result<(), ArchiveError> {
        if end.sequence == 0 {
            return Ok(());
        }
        let local = self.local(end)?;
        let Some(oldest) = local.first().copied() else { return Ok(()) };
        self.segments.retain(|sequence, _| *sequence >= oldest);
        let mut before = Point::default();
        for (number, sequence) in local.iter().copied().enumerate() {
            let is_closed = number + 1 < local.len();
            if let Some(done) = self.segments.get(&sequence).filter(|known| known.is_whole) {
                before = done.reach;
                self.told.whole = self.told.whole.max(sequence);
                continue;
            }
            let limit = self.limit(&local, number, end)?;
            if !self.segments.contains_key(&sequence) {
                let progress = self.look_at(sequence, limit, is_closed, before)?;
                self.segments.insert(sequence, progress);
            }
            let mut progress = self.segments.remove(&sequence).expect("it was just put there");
            let shipped = self.ship_segment(sequence, &mut progress, limit, is_closed);
            before = progress.reach;
            let is_whole = progress.is_whole;
            self.segments.insert(sequence, progress);
            self.told.position = before.position;
            self.told.extent = Extent { sequence: sequence as u32, offset: before.offset as u32 };
            shipped?;
            if is_whole {
                self.told.whole = self.told.whole.max(sequence);
            }
        }
        Ok(())
    }

    fn ship_segment(
        &mut self,
        sequence: u64,
        progress: &mut Progress,
        limit: u64,
        is_closed: bool,
    ) -> Result<(), ArchiveError> {
        let path = self.dir.join("log").join(segment::name(sequence));
        let file = self.disk.open(&path).map_err(OpenError::disk(&path))?;
        let segment = SegmentBytes {
            path: &path,
            file: &*file,
            header: progress.header,
            opener: opener(&progress.header, &path, Some(self.snapshots.keys()))?,
        };
        while progress.reach.offset < limit {
            let from = progress.reach;
            progress.reach = self.ship_piece(sequence, &segment, from, limit)?;
            progress.pieces += 1;
            progress.small.push(from);
            (self.on_bytes)(progress.reach.offset - from.offset);
        }
        if is_closed {
            if progress.pieces > CLOSED_PIECES {
                self.ship_again(sequence, &segment, progress.start, limit)?;
            }
            progress.is_whole = true;
        } else if progress.small.len() >= MERGE_PIECES {
            self.ship_again(sequence, &segment, progress.small[0], limit)?;
            progress.small.clear();
        }
        Ok(())
    }

    fn ship_again(
        &mut self,
        sequence: u64,
        segment: &SegmentBytes<'_>,
        mut from: Point,
        limit: u64,
    ) -> Result<(), ArchiveError> {
        while from.offset < limit {
            from = self.ship_piece(sequence, segment, from, limit)?;
        }
        Ok(())
    }

    /// Ships the records from `from` on, about [`PIECE_BYTES`] of them, and answers where they end.
    fn ship_piece(
        &mut self,
        sequence: u64,
        segment: &SegmentBytes<'_>,
        from: Point,
        limit: u64,
    ) -> Result<Point, ArchiveError> {
        let (bytes, to) = segment.records(from, limit)?;
        let piece = Piece {
            kind: PieceKind::Log,
            history: self.meta.history,
            file: file_of(sequence),
            from: from.offset,
            to: to.offset,
            first: from.position + 1,
            last: to.position,
            term: to.term,
            at: to.at,
            hash: [0; 32],
        };
        self.put(piece, bytes)?;
        Ok(to)
    }

    /// Stores a piece, or finds that it is there.
    fn put(&mut self, mut piece: Piece, bytes: Vec<u8>) -> Result<(), ArchiveError> {
        piece.seal(&bytes);
        let name = piece.name();
        let size = bytes.len() as u64;
        match self.store.put_new(&name, bytes.clone()) {
            Ok(()) => {
                self.told.objects += 1;
                self.told.bytes += size;
                Ok(())
            }
            Err(StoreError::Exists) => {
                let found = self.store.get(&name).map_err(self.store_error(&name))?;
                if found == bytes { Ok(()) } else { Err(ArchiveError::Conflict { object: name }) }
            }
            Err(error) => Err(self.store_error(&name)(error)),
        }
    }

    fn tell_tip(&self, now_ms: i64) -> Result<(), ArchiveError> {
        let Some((sequence, last)) = self.segments.last_key_value() else { return Ok(()) };
        let (to, position) = (last.reach.offset, last.reach.position);
        let tip = Tip { segment: *sequence, to, position, at: last.reach.at, shipped_at: now_ms };
        let name = tip_name(&self.meta);
        self.store.replace(&name, tip.encode()).map_err(self.store_error(&name))
    }

    /// The newest snapshot, if the archive does not have it.
    fn fresh_snapshot(&mut self) -> Result<Option<Fresh>, ArchiveError> {
        if self.unsynced {
            return Ok(None);
        }
        let dir = self.snapshots.dir().to_owned();
        let numbers = self.snapshots.numbers().map_err(OpenError::disk(&dir))?;
        let Some(number) = numbers.first().copied().filter(|number| *number > self.marked) else {
            return Ok(None);
        };
        let reader = match self.snapshots.read(number) {
            Ok(reader) => reader,
            Err(SnapshotError::Disk { path, error }) => return Err(OpenError::Disk { path, error }.into()),
            // The next one will do; the log is the truth, and is shipped.
            Err(error) => {
                warn!("Snapshot not archived: {error}");
                self.marked = number;
                return Ok(None);
            }
        };
        let mut roots = Vec::new();
        for shard in 0..self.meta.shards {
            let name = format!("{shard:04x}.roots");
            let path = self.dir.join("audit").join(&name);
            let file = match self.disk.open(&path) {
                Ok(file) => file,
                // Not signed yet. Any other error is no reason to leave roots out.
                Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
                Err(error) => return Err(OpenError::Disk { path, error }.into()),
            };
            // Durable before it is archived, so that no crash takes it here and leaves it there.
            if let Err(error) = file.sync_data() {
                warn!("No snapshot is archived until the next start: {}: {error}", path.display());
                self.unsynced = true;
                return Err(OpenError::Disk { path, error }.into());
            }
            let len = file.len().map_err(OpenError::disk(&path))?.max(FILE_HEADER);
            roots.push((name, len - (len - FILE_HEADER) % ROOT_RECORD as u64));
        }
        Ok(Some(Fresh { reader, roots }))
    }

    /// Ships a snapshot, what its audit counts on, and at last the mark that it is whole.
    fn ship_snapshot(&mut self, fresh: &Fresh) -> Result<(), ArchiveError> {
        let Fresh { reader, roots } = fresh;
        let number = reader.number();
        let parts = match reader.audit_parts() {
            Ok(parts) => parts,
            Err(SnapshotError::Disk { path, error }) => return Err(OpenError::Disk { path, error }.into()),
            Err(error) => {
                warn!("Snapshot not archived: {error}");
                self.marked = number;
                return Ok(());
            }
        };
        let mut ends: BTreeMap<String, u64> = roots.iter().cloned().collect();
        for (shard, part) in parts {
            let (nodes, journal) = part.ends();
            ends.insert(format!("{shard:04x}.nodes"), nodes);
            ends.insert(format!("{shard:04x}.journal"), journal);
        }
        for (name, end) in &ends {
            let path = self.dir.join("audit").join(name);
            let file = self.disk.open(&path).map_err(OpenError::disk(&path))?;
            let from = self.audit.get(name).copied().unwrap_or(0);
            let len = file.len().map_err(OpenError::disk(&path))?;
            if len < *end {
                warn!("Snapshot not archived: {} is shorter than it counts on", path.display());
                self.marked = number;
                return Ok(());
            }
            let place = path.clone();
            let read = |offset, bytes: &mut [u8]| file.read_at(offset, bytes).map_err(OpenError::disk(&place));
            self.ship_file(PieceKind::Audit, name, from, *end, read)?;
            self.audit.insert(name.clone(), (*end).max(from));
        }
        let file = file_of(number);
        let place = self.snapshots.dir().join(snapshot::name(number));
        let read = |offset, bytes: &mut [u8]| reader.read_at(offset, bytes).map_err(OpenError::disk(&place));
        self.ship_file(PieceKind::Snapshot, &file, 0, reader.len(), read)?;
        // The first segment that a replay behind the snapshot needs.
        let covered = |known: &Progress| {
            known.opening.base.iter().zip(reader.places()).all(|(base, place)| base.index <= place.index)
        };
        let begins = self.segments.iter().rev().find(|(_, known)| covered(known));
        let Some((begins, _)) = begins else {
            warn!("Snapshot not archived: the log behind it is gone");
            self.marked = number;
            return Ok(());
        };
        let position = self.position_of(*begins, reader)?;
        let mut mark = Text::new()
            .with("snapshot", &file)
            .with("position", position)
            .with("segment", file_of(*begins))
            .with("bytes", reader.len());
        for (name, end) in &ends {
            mark = mark.with("audit", format!("{name} {end}"));
        }
        let bytes = mark.encode();
        let piece = self.whole(PieceKind::Mark, &file, 0, bytes.len() as u64);
        self.put(piece, bytes)?;
        self.marked = number;
        Ok(())
    }

    /// The last entry that is in a snapshot, counted over all shards: a snapshot takes its shards one after the other, so
    /// it may lack entries before that one.
    fn position_of(&self, begins: u64, reader: &SnapshotReader) -> Result<u64, ArchiveError> {
        let mut last: Vec<u64> = Vec::new();
        for (sequence, known) in self.segments.range(begins..) {
            if last.is_empty() {
                last = known.opening.base.iter().map(|base| base.index).collect();
            }
            let is_there =
                |last: &[u64]| last.iter().zip(reader.places()).all(|(last, place)| *last >= place.index);
            let mut position = known.start.position;
            let path = self.dir.join("log").join(segment::name(*sequence));
            let at = OpenError::disk(&path);
            let bytes = self.disk.open(&path).and_then(|file| read(&*file, 0, known.reach.offset)).map_err(&at)?;
            // Every record was checked when it was shipped.
            let mut offset = SEGMENT_HEADER;
            while !is_there(&last)
                && let Some(head) = bytes.get(offset..offset + RECORD_HEADER)
            {
                let fields = RecordHeader::decode(head);
                if fields.known_kind().is_some_and(Kind::is_entry) {
                    position += 1;
                    if let Some(last) = last.get_mut(usize::from(fields.shard)) {
                        *last = fields.index;
                    }
                }
                offset += record_len(fields.length as usize);
            }
            if is_there(&last) {
                return Ok(position);
            }
        }
        Ok(self.told.position)
    }

    fn whole(&self, kind: PieceKind, file: &str, from: u64, to: u64) -> Piece {
        let position = self.told.position;
        Piece {
            kind,
            history: self.meta.history,
            file: file.to_owned(),
            from,
            to,
            first: position + 1,
            last: position,
            term: 0,
            at: 0,
            hash: [0; 32],
        }
    }

    fn ship_file(
        &mut self,
        kind: PieceKind,
        name: &str,
        mut from: u64,
        end: u64,
        read: impl Fn(u64, &mut [u8]) -> Result<(), OpenError>,
    ) -> Result<(), ArchiveError> {
        while from < end {
            let to = (from + PIECE_BYTES).min(end);
            let mut bytes = vec![0; (to - from) as usize];
            read(from, &mut bytes)?;
            let piece = self.whole(kind, name, from, to);
            self.put(piece, bytes)?;
            (self.on_bytes)(to - from);
            from = to;
        }
        Ok(())
    }
}

/// Ships the folder of a node that is stopped; takes its lock.
///
/// # Errors
/// [`OpenError::Locked`] for a running node, and whatever else is wrong with folder, keys or store.
pub fn ship_folder(
    disk: &Arc<dyn Disk>,
    dir: &Path,
    (keys_dir, master): (&Path, Option<&MasterKey>),
    store: Arc<dyn Store>,
    now_ms: i64,
    tell: impl FnMut(u64) + Send + 'static,
) -> Result<Shipped, ArchiveError> {
    let meta = Meta::read(&**disk, dir)?.ok_or_else(|| no_folder(dir))?;
    let _lock = disk.lock(dir).map_err(|error| match error.kind() {
        std::io::ErrorKind::WouldBlock => OpenError::Locked { dir: dir.to_owned() },
        _ => OpenError::Disk { path: dir.to_owned(), error },
    })?;
    let keys = Keys::open_known(Arc::clone(disk), keys_dir, system_random, master)?;
    let sealer = Sealer::new(Arc::new(keys), meta.cluster);
    let identity = Identity { cluster: meta.cluster, history: meta.history, shards: meta.shards };
    // Also makes durable what a killed process left in the cache, and reads it back.
    let found = scan(&**disk, &dir.join("log"), identity, Some(sealer.keys()), true)?;
    let end = found.used.last().map_or(Extent::default(), |file| Extent {
        sequence: file.header.sequence as u32,
        offset: file.end as u32,
    });
    let snapshots = Snapshots::new(Arc::clone(disk), dir.join("snapshots"), sealer, identity);
    Shipper::new(Arc::clone(disk), dir, snapshots, store)?.on_bytes(tell).ship(|| end, now_ms)
}

fn no_folder(dir: &Path) -> ArchiveError {
    let error = std::io::Error::new(std::io::ErrorKind::NotFound, "no data folder: the file `meta` is missing");
    OpenError::Disk { path: dir.to_owned(), error }.into()
}

/// Bytes of a segment that can be read as records.
pub(crate) struct SegmentBytes<'a> {
    pub(crate) path: &'a Path,
    pub(crate) file: &'a dyn DiskFile,
    pub(crate) header: SegmentHeader,
    /// Opens its records, when they are sealed: only to know their time.
    pub(crate) opener: Option<FileOpener>,
}

impl SegmentBytes<'_> {
    /// Whole records from `from` on, about [`PIECE_BYTES`] of them and none behind `limit`, and where they end. At the
    /// start of the segment its header comes first.
    pub(crate) fn records(&self, from: Point, limit: u64) -> Result<(Vec<u8>, Point), ArchiveError> {
        let mut size = PIECE_BYTES.min(limit - from.offset);
        loop {
            let bytes = read(self.file, from.offset, from.offset + size).map_err(OpenError::disk(self.path))?;
            let mut to = from;
            to.offset = from.offset.max(SEGMENT_HEADER as u64);
            let whole = from.offset + size == limit;
            self.walk(&bytes, from.offset, &mut to, |_, _, _| true, whole)?;
            let len = (to.offset - from.offset) as usize;
            if len > 0 && (to.offset > SEGMENT_HEADER as u64 || whole) {
                let mut bytes = bytes;
                bytes.truncate(len);
                return Ok((bytes, to));
            }
            size = (2 * size).min(limit - from.offset);
        }
    }

    /// Walks the records in `bytes`, which lie at `base` of the segment, from `to` on, and moves `to` behind each that
    /// `goes_on` lets pass; it gets where the record begins, what is known of everything up to its end, and whether
    /// it is an entry. A record that is not all there ends the walk, or is damage when all bytes are `whole`.
    pub(crate) fn walk(
        &self,
        bytes: &[u8],
        base: u64,
        to: &mut Point,
        mut goes_on: impl FnMut(Point, Point, bool) -> bool,
        whole: bool,
    ) -> Result<(), ArchiveError> {
        loop {
            let start = (to.offset - base) as usize;
            let Some(head) = bytes.get(start..start + RECORD_HEADER) else {
                return if whole && start < bytes.len() {
                    Err(self.damaged(to.offset, "a record"))
                } else {
                    Ok(())
                };
            };
            let fields = RecordHeader::decode(head);
            let len = record_len(fields.length as usize);
            let Some(record) = bytes.get(start..start + len) else {
                return if whole { Err(self.damaged(to.offset, "a whole record")) } else { Ok(()) };
            };
            let expected = record_checksum(record, self.header.generation, to.offset as u32);
            if expected != stored_checksum(record) {
                return Err(self.damaged(to.offset, &format!("a record with checksum {expected:#010x}")));
            }
            let Some(kind) = fields.kind_in(self.header.version) else {
                return Err(self.damaged(to.offset, "a record of a known kind"));
            };
            let mut next = Point { offset: to.offset + len as u64, ..*to };
            if kind.is_entry() {
                next.position += 1;
                next.term = next.term.max(fields.term);
                let payload = &record[RECORD_HEADER..RECORD_HEADER + fields.length as usize];
                let at = match &self.opener {
                    None => stamp(payload, fields.schema),
                    Some(opener) => {
                        let sealed = Record { offset: to.offset as usize, header: fields, kind, payload };
                        let clear = open_record(opener, &sealed, head).ok_or_else(|| {
                            self.damaged(to.offset, "a sealed record that nobody changed or moved")
                        })?;
                        stamp(&clear, fields.schema)
                    }
                };
                next.at = next.at.max(at.unwrap_or(next.at));
            }
            if !goes_on(*to, next, kind.is_entry()) {
                return Ok(());
            }
            *to = next;
        }
    }

    fn damaged(&self, offset: u64, expected: &str) -> ArchiveError {
        let (file, found) = (self.path.to_owned(), "something else".to_owned());
        let what = "not archived: a durable record is damaged";
        OpenError::from(Corruption { file, offset, what, expected: expected.to_owned(), found }).into()
    }
}

/// The latest stamp in an entry.
fn stamp(payload: &[u8], schema: u8) -> Option<i64> {
    let commands = codec::decode_stored(payload, schema).ok()?;
    commands.iter().map(|command| command.envelope.at.0).max()
}

/// The start of a segment: everything before it is known from its opening record, and from the segment before.
pub(crate) fn start_of(opening: &Opening, before: Point) -> Point {
    Point {
        offset: 0,
        position: opening.base.iter().map(|last| last.index).sum(),
        term: opening.base.iter().map(|last| last.term).max().unwrap_or(0),
        at: before.at,
    }
}

/// A segment's header and opening record.
pub(crate) fn head(
    disk: &dyn Disk,
    dir: &Path,
    meta: &Meta,
    sequence: u64,
) -> Result<(Box<dyn DiskFile>, SegmentHeader, Opening), ArchiveError> {
    let path = dir.join("log").join(segment::name(sequence));
    let at = OpenError::disk(&path);
    let file = disk.open(&path).map_err(&at)?;
    let len = file.len().map_err(&at)?.min(4 * SEGMENT_HEADER as u64);
    let bytes = read(&*file, 0, len).map_err(&at)?;
    let corrupt = |what, expected: String, found: String| {
        OpenError::from(Corruption { file: path.clone(), offset: 0, what, expected, found })
    };
    let header = SegmentHeader::decode(&bytes)
        .map_err(|error| corrupt("the segment's header is damaged", "a header".into(), error.to_string()))?;
    if (header.cluster, header.history, header.sequence) != (meta.cluster, meta.history, sequence) {
        let expected = format!("segment {sequence} of history {}", meta.history);
        return Err(corrupt("another segment", expected, format!("{header:?}")).into());
    }
    let opening = opening_of(&bytes, &header, meta.shards);
    let opening = opening.ok_or_else(|| {
        corrupt("the segment's opening record is damaged", "an opening record".into(), "none".into())
    })?;
    Ok((file, header, opening))
}

pub(crate) fn read(file: &dyn DiskFile, from: u64, to: u64) -> std::io::Result<Vec<u8>> {
    let mut bytes = vec![0; (to - from) as usize];
    file.read_at(from, &mut bytes)?;
    Ok(bytes)
}

/// The name of a segment or snapshot in an object's name.
pub(crate) fn file_of(number: u64) -> String {
    format!("{number:016x}")
}

pub(crate) fn parse(name: &str) -> Result<Piece, ArchiveError> {
    Piece::parse(name).ok_or_else(|| ArchiveError::Damaged {
        object: name.to_owned(),
        expected: "the name of a piece".into(),
        found: "another".into(),
    })
}

/// Whether an object's bytes are what its name promises.
pub(crate) fn check(piece: &Piece, name: &str, bytes: &[u8]) -> Result<(), ArchiveError> {
    let damaged =
        |expected: String, found: String| ArchiveError::Damaged { object: name.to_owned(), expected, found };
    let expected = piece.to - piece.from;
    if bytes.len() as u64 != expected {
        return Err(damaged(format!("{expected} bytes"), format!("{} bytes", bytes.len())));
    }
    piece.check(bytes).map_err(|found| damaged(format!("hash {}", hex(&piece.hash)), format!("hash {found}")))
}

/// The fewest pieces of one file that lead from its start as far as can be.
pub(crate) fn path(mut pieces: Vec<Piece>) -> Vec<Piece> {
    pieces.sort_by_key(|piece| (piece.from, piece.to));
    // For each place that can be reached: in how many pieces, and by which one.
    let mut reached: BTreeMap<u64, (usize, Option<usize>)> = BTreeMap::from([(0, (0, None))]);
    for (number, piece) in pieces.iter().enumerate() {
        let Some((hops, _)) = reached.get(&piece.from).copied() else { continue };
        let known = reached.get(&piece.to).map_or(usize::MAX, |(hops, _)| *hops);
        if hops + 1 < known {
            reached.insert(piece.to, (hops + 1, Some(number)));
        }
    }
    let mut way = Vec::new();
    let mut at = reached.last_key_value().map_or(0, |(place, _)| *place);
    while let Some((_, Some(number))) = reached.get(&at).copied() {
        way.push(pieces[number].clone());
        at = pieces[number].from;
    }
    way.reverse();
    way
}

fn reach_of(path: &[Piece]) -> u64 {
    path.last().map_or(0, |piece| piece.to)
}

pub(crate) fn about(meta: &Meta) -> Text {
    Text::new()
        .with("cluster", uuid_text(meta.cluster))
        .with("shards", meta.shards)
        .with("key", hex(&meta.key_check))
}

fn check_about(meta: &Meta, found: &Text) -> Result<(), ArchiveError> {
    let words =
        [("cluster", uuid_text(meta.cluster)), ("shards", meta.shards.to_string()), ("key", hex(&meta.key_check))];
    for (what, expected) in words {
        let found = found.value(ABOUT, what, |text| Some(text.to_owned()))?;
        if found != expected {
            return Err(ArchiveError::Foreign { object: ABOUT.into(), what, expected, found });
        }
    }
    Ok(())
}

fn tip_name(meta: &Meta) -> String {
    format!("{TIP}/{}", meta.history)
}

/// How far a history reaches in the archive: proof that nothing behind is missing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Tip {
    pub(crate) segment: u64,
    pub(crate) to: u64,
    pub(crate) position: u64,
    pub(crate) at: i64,
    pub(crate) shipped_at: i64,
}

impl Tip {
    pub(crate) fn encode(&self) -> Vec<u8> {
        let text = Text::new().with("segment", file_of(self.segment)).with("to", self.to);
        text.with("position", self.position).with("at", self.at).with("shipped", self.shipped_at).encode()
    }

    pub(crate) fn decode(object: &str, bytes: &[u8]) -> Result<Self, ArchiveError> {
        let text = Text::decode(object, bytes)?;
        let decimal = |word| text.value(object, word, |value| value.parse::<u64>().ok());
        let stamp = |word| text.value(object, word, |value| value.parse::<i64>().ok());
        Ok(Self {
            segment: text.value(object, "segment", |value| u64::from_str_radix(value, 16).ok())?,
            to: decimal("to")?,
            position: decimal("position")?,
            at: stamp("at")?,
            shipped_at: stamp("shipped")?,
        })
    }
}
