//! The log of a node: one stream of records of all shards, durable by one sync a batch.
//!
//! Appends only; never takes back what it said is durable, and never writes again after the disk failed. When the next
//! segment can't be made ready it turns read-only while the reserve of the present one is still untouched.

use std::collections::VecDeque;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crossbeam::channel::{Receiver, Sender, TryRecvError};
use tracing::{info, warn};

use crate::archive::Reach;
use crate::disk::{Disk, DiskFile};
use crate::error::{Corruption, OpenError};
use crate::file_seal::{FileSealer, SealHeader, TAG};
use crate::folder;
use crate::format::{
    RECORD_HEADER, RecordHeader, SEGMENT_BYTES, SEGMENT_BYTES_MAX, SEGMENT_BYTES_MIN, SEGMENT_HEADER, SHARDS_MAX,
    record_len, seal_record, u32_at,
};
use crate::keys::{MasterKey, Random, system_random};
use crate::log_reader::LogReader;
use crate::raft::ShardLog;
use crate::scan::{Cut, Entries, RecoveredEntry, Scan, SegmentFile, SkipMark, scan, seal_into};
use crate::segment::{END_MARK, Identity, Last, MakeError, Opening, Prepared, SegmentMaker};
use crate::snapshot::{SnapshotReader, Snapshots};
use crate::terms::{Overwrite, Terms};
use crate::{Batch, Class, HistoryId, Kind, Placed, SCHEMA, Seal, Sealer, Vote};

/// Where a node's log lies and how it is laid out.
#[derive(Clone, Debug)]
pub struct Options {
    /// The data folder.
    pub dir: PathBuf,
    /// The keys folder, outside the backup of the data folder.
    pub keys_dir: PathBuf,
    /// Size of new segments, [`SEGMENT_BYTES_MIN`] to [`SEGMENT_BYTES_MAX`] bytes, a multiple of 4096.
    pub segment_bytes: u32,
    /// Shards of a new folder, the system shard included; an old folder keeps the number it was made with.
    pub shards: u16,
    /// The cluster the folder must belong to; none: a new folder gets a new one, an old one keeps its own.
    pub cluster: Option<u128>,
    /// What is sealed; what is there stays as it is, and readable.
    pub seal: Seal,
    /// Number of the node; part of the keys of what it seals.
    pub node: u16,
    /// The master key, when the keys folder is not to hold it.
    pub master: Option<MasterKey>,
    /// Where ids, generations, keys and nonces come from.
    pub random: Random,
}

impl Options {
    /// The usual layout: segments of [`SEGMENT_BYTES`], the system shard and eight more.
    pub fn new(dir: impl Into<PathBuf>, keys_dir: impl Into<PathBuf>) -> Self {
        Self {
            dir: dir.into(),
            keys_dir: keys_dir.into(),
            segment_bytes: SEGMENT_BYTES,
            shards: 9,
            cluster: None,
            seal: Seal::Secrets,
            node: 0,
            master: None,
            random: system_random,
        }
    }

    fn check(&self) -> Result<(), OpenError> {
        let (bytes, shards) = (self.segment_bytes, self.shards);
        if !(SEGMENT_BYTES_MIN..=SEGMENT_BYTES_MAX).contains(&bytes) || bytes % 4096 != 0 {
            let valid = format!("a multiple of 4096 from {SEGMENT_BYTES_MIN} to {SEGMENT_BYTES_MAX} is");
            return Err(OpenError::Option { name: "segment_bytes", value: bytes.to_string(), valid });
        }
        if !(1..=SHARDS_MAX).contains(&shards) {
            let valid = format!("1 to {SHARDS_MAX}, the system shard included, is");
            return Err(OpenError::Option { name: "shards", value: shards.to_string(), valid });
        }
        Ok(())
    }
}

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
    /// Commands to be passed by in the replay.
    pub skips: Vec<SkipMark>,
    /// What was cut, if the last flush was torn.
    pub cuts: Vec<Cut>,
    /// The newest sound snapshot.
    pub snapshot: Option<SnapshotReader>,
    /// Snapshots are written here.
    pub snapshots: Snapshots,
    /// Seals and opens secret parts.
    pub sealer: Sealer,
    disk: Arc<dyn Disk>,
    files: Vec<SegmentFile>,
    overwrites: Vec<Overwrite>,
    terms: Vec<Terms>,
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

    /// The entries after the snapshot, in log order. To be read before anything is truncated.
    pub fn entries(&self) -> Entries {
        let start = || vec![0; self.last.len()];
        let after = self.snapshot.as_ref().map_or_else(start, SnapshotReader::indices);
        let (disk, sealer) = (Arc::clone(&self.disk), self.sealer.clone());
        Entries::new(disk, sealer, &self.files, after, self.overwrites.clone())
    }

    /// What replication by Raft goes on from, by shard. All entries after the snapshot are read into memory.
    ///
    /// # Errors
    /// [`OpenError`] when a segment can't be read, or the log does not know the term at the snapshot's end.
    pub fn shard_logs(&self) -> Result<Vec<ShardLog>, OpenError> {
        let start = |shard: usize| self.snapshot.as_ref().map_or(0, |snapshot| snapshot.indices()[shard]);
        let mut logs = Vec::with_capacity(self.last.len());
        for (shard, terms) in self.terms.iter().enumerate() {
            let index = start(shard);
            let term = terms.at(index).unwrap_or_default();
            logs.push(ShardLog { vote: self.votes[shard], start: Last { index, term }, entries: Vec::new() });
        }
        for entry in self.entries() {
            let RecoveredEntry { shard, term, entry, .. } = entry?;
            logs[usize::from(shard)].entries.push(Placed { shard, term, entry: Arc::new(entry) });
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

/// Why a batch is not durable.
#[derive(Debug, thiserror::Error)]
pub enum AppendError {
    /// There is no space and nothing was written: refuse the commands, go on reading.
    #[error("the log is read-only until there is space: {0}")]
    ReadOnly(String),
    /// The disk failed: stop the process, answer nobody.
    #[error("the disk failed, what was not answered may be lost: {0}")]
    Failed(#[source] io::Error),
}

/// The segment that is written to.
struct Active {
    file: Box<dyn DiskFile>,
    generation: u64,
    size: u32,
    /// Everything before it is durable.
    offset: u32,
    /// Seals its records, when everything is sealed, and how its header says so.
    seal: Option<(FileSealer, SealHeader)>,
    /// Nothing may be added: a sealed segment is written to by the process that made it, and by no other.
    closed: bool,
}

impl Active {
    fn room(&self) -> usize {
        if self.closed { 0 } else { (self.size - self.offset) as usize }
    }

    /// Bytes that a batch takes in it.
    fn needs(&self, batch: &Batch) -> usize {
        let tag = if self.seal.is_some() { TAG } else { 0 };
        batch.bytes.len() + tag * batch.len()
    }
}

/// A segment with records.
struct Kept {
    sequence: u64,
    /// Where each shard stood when it was begun.
    base: Vec<Last>,
}

/// What the helper is asked.
pub(crate) enum Request {
    Make { sequence: u64, size: u32 },
    Retire(u64),
}

/// Who makes segments ready.
enum Maker {
    /// The caller, when one is needed.
    Inline(Box<SegmentMaker>),
    /// A helper thread, ahead of need.
    Helper {
        requests: Sender<Request>,
        made: Receiver<Result<Prepared, MakeError>>,
        /// Whether a request is with the helper.
        busy: bool,
    },
}

/// The log. Used by one thread.
pub struct Log {
    active: Option<Active>,
    prepared: VecDeque<Prepared>,
    kept: VecDeque<Kept>,
    last: Vec<Last>,
    /// Number of the first segment, while there is none.
    first_sequence: u64,
    segment_bytes: u32,
    reserve: usize,
    maker: Maker,
    /// Why the next segment could not be made ready, while that is so.
    full: Option<String>,
    read_only: bool,
    failed: bool,
    opening: Batch,
    /// How far each shard's kept snapshots reach.
    covered: Vec<u64>,
    /// Where an archive reads how far the log is durable and says what it has, if there is one.
    reach: Option<Arc<Reach>>,
    sealer: Sealer,
    /// Sealed records on their way to the disk.
    sealed: Vec<u8>,
    _lock: Box<dyn Send + Sync>,
}

impl Log {
    /// Opens a data folder, or makes it; reads and checks all of it, cuts a torn tail and says so.
    pub fn open(disk: Arc<dyn Disk>, options: Options) -> Result<(Self, Recovered), OpenError> {
        options.check()?;
        let dir = &options.dir;
        disk.create_dir(dir).map_err(OpenError::disk(dir))?;
        let lock = disk.lock(dir).map_err(|error| match error.kind() {
            io::ErrorKind::WouldBlock => OpenError::Locked { dir: dir.clone() },
            _ => OpenError::Disk { path: dir.clone(), error },
        })?;
        // Names that a killed process left in the cache must not go with the next power cut, once they are relied on.
        disk.sync_dir(dir).map_err(OpenError::disk(dir))?;
        let (meta, keys) = folder::open(&disk, &options)?;
        let identity = Identity { cluster: meta.cluster, history: meta.history, shards: meta.shards };
        let sealer = Sealer::new(Arc::new(keys), meta.cluster);
        let sealer = if options.seal == Seal::All { sealer.of_everything(options.node) } else { sealer };

        let snapshots = Snapshots::new(Arc::clone(&disk), dir.join("snapshots"), sealer.clone(), identity);
        disk.create_dir(snapshots.dir()).map_err(OpenError::disk(snapshots.dir()))?;
        disk.sync_dir(snapshots.dir()).map_err(OpenError::disk(snapshots.dir()))?;
        let log_dir = dir.join("log");
        disk.create_dir(&log_dir).map_err(OpenError::disk(&log_dir))?;
        remove_leftovers(&*disk, &log_dir)?;
        disk.sync_dir(&log_dir).map_err(OpenError::disk(&log_dir))?;
        let scan_log = || scan(&*disk, &log_dir, identity, Some(sealer.keys()), true);
        let (newest, scan) = if disk.readers() > 1 {
            std::thread::scope(|scope| {
                let newest = scope.spawn(|| snapshots.newest_sound(None));
                let scan = scan_log();
                (newest.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic)), scan)
            })
        } else {
            (snapshots.newest_sound(None), scan_log())
        };
        let (newest, scan) = (newest?, scan?);
        check_snapshots(&scan, newest.as_ref(), &log_dir)?;

        let Options { segment_bytes: bytes, random, .. } = options;
        let maker = SegmentMaker::new(Arc::clone(&disk), &log_dir, identity, bytes, random, sealer.clone());
        let log = Self::resume(&*disk, maker, &scan, sealer.clone(), lock)?;
        let votes = scan.votes.iter().flatten().map(|vote| vote.term);
        let term = scan.last.iter().map(|last| last.term).chain(votes).max().unwrap_or(0);
        let recovered = Recovered {
            history: meta.history,
            cluster: meta.cluster,
            last: scan.last,
            term,
            votes: scan.votes,
            skips: scan.skips,
            cuts: scan.cuts,
            snapshot: newest,
            snapshots,
            sealer,
            disk,
            files: scan.used,
            overwrites: scan.overwrites,
            terms: scan.terms,
        };
        info!(
            log.records = scan.records,
            log.segments = recovered.files.len(),
            log.history = %recovered.history,
            "Log opened: {} records in {} segments",
            scan.records,
            recovered.files.len(),
        );
        Ok((log, recovered))
    }

    fn resume(
        disk: &dyn Disk,
        maker: SegmentMaker,
        scan: &Scan,
        sealer: Sealer,
        lock: Box<dyn Send + Sync>,
    ) -> Result<Self, OpenError> {
        for cut in &scan.cuts {
            warn!(
                log.file = %cut.file.display(),
                log.offset = cut.offset,
                "Torn tail cut in {} at offset {}: {}; nobody was answered for it",
                cut.file.display(),
                cut.offset,
                cut.found,
            );
        }
        let mut active = None;
        if let Some(file) = scan.used.last() {
            let at = OpenError::disk(&file.path);
            let opened = disk.open(&file.path).map_err(&at)?;
            let size = file.header.segment_bytes;
            if scan.cuts.iter().any(|cut| cut.file == file.path) {
                erase(&*opened, file.end, size as usize).map_err(&at)?;
            }
            active = Some(Active {
                file: opened,
                generation: file.header.generation,
                size,
                offset: file.end as u32,
                seal: None,
                closed: sealer.seals_everything() || file.header.seal.is_some(),
            });
        }
        // One is enough; and one whose first flush was torn must hold nothing when it is used. From the last on,
        // so that no hole appears.
        let torn = |file: &SegmentFile| scan.cuts.iter().any(|cut| cut.file == file.path);
        // Nor may it have been sealed by another process, or not be sealed when everything is.
        let plain = |file: &SegmentFile| file.header.seal.is_none() && !sealer.seals_everything();
        let usable = usize::from(scan.prepared.first().is_some_and(|first| !torn(first) && plain(first)));
        for file in scan.prepared.iter().skip(usable).rev() {
            disk.remove(&file.path).map_err(OpenError::disk(&file.path))?;
            disk.sync_dir(&maker.dir).map_err(OpenError::disk(&maker.dir))?;
        }
        let mut prepared = VecDeque::new();
        if let Some(file) = scan.prepared.first().filter(|_| usable == 1) {
            let opened = disk.open(&file.path).map_err(OpenError::disk(&file.path))?;
            prepared.push_back(Prepared { file: opened, header: file.header, sealer: None });
        }
        let kept = scan.used.iter().map(|file| Kept {
            sequence: file.header.sequence,
            base: file.opening.as_ref().map(|opening| opening.base.clone()).unwrap_or_default(),
        });
        let (segment_bytes, log_dir) = (maker.segment_bytes, maker.dir.clone());
        let mut log = Self {
            active,
            first_sequence: 1,
            prepared,
            kept: kept.collect(),
            last: scan.last.clone(),
            segment_bytes,
            reserve: (segment_bytes as usize / 64).max(4096),
            maker: Maker::Inline(Box::new(maker)),
            full: None,
            read_only: false,
            failed: false,
            opening: Batch::new(),
            covered: vec![0; scan.last.len()],
            reach: None,
            sealer,
            sealed: Vec::new(),
            _lock: lock,
        };
        match log.prepare_ahead() {
            Ok(()) | Err(AppendError::ReadOnly(_)) => {}
            Err(AppendError::Failed(error)) => return Err(OpenError::Disk { path: log_dir, error }),
        }
        log.judge_space();
        Ok(log)
    }

    /// Makes a batch durable: one write and one sync, whatever shards it serves. An error of the disk is final.
    pub fn append(&mut self, batch: &mut Batch) -> Result<(), AppendError> {
        if self.failed {
            return Err(AppendError::Failed(io::Error::other("the disk failed before")));
        }
        if batch.is_empty() {
            return Ok(());
        }
        if batch.class == Class::Ordinary && self.read_only {
            return Err(self.refusal());
        }
        let written = self.append_inner(batch);
        if matches!(written, Err(AppendError::Failed(_))) {
            if mutant!(FailureForgotten) {
                return Err(self.refusal());
            }
            self.failed = true;
        }
        written
    }

    fn append_inner(&mut self, batch: &mut Batch) -> Result<(), AppendError> {
        self.take_made()?;
        if !self.fits(batch) {
            self.make_room(batch)?;
        }
        if self.fits(batch) {
            self.flush(batch, 0..batch.len(), None)?;
        } else {
            self.append_to_new(batch)?;
        }
        match self.prepare_ahead() {
            Ok(()) | Err(AppendError::ReadOnly(_)) => {}
            Err(failed) => return Err(failed),
        }
        self.judge_space();
        Ok(())
    }

    /// Whether a batch can go into the present segment, the reserve left alone where it must be.
    fn fits(&self, batch: &Batch) -> bool {
        let Some(active) = &self.active else {
            return false;
        };
        let fresh = |ready: &Prepared| !self.sealer.is_stale(ready.header.seal);
        if self.sealer.is_stale(active.seal.as_ref().map(|(_, seal)| *seal))
            && self.prepared.front().is_some_and(fresh)
        {
            return false; // The next segment is under the newest data key.
        }
        let reserved = batch.class == Class::Ordinary && self.prepared.is_empty();
        let reserve = if reserved { self.reserve } else { 0 };
        active.needs(batch) + reserve <= active.room()
    }

    /// Makes sure, before anything is written, that the batch finds a place.
    fn make_room(&mut self, batch: &Batch) -> Result<(), AppendError> {
        for (number, (_, size)) in self.parts(batch).into_iter().enumerate() {
            // A record larger than a usual segment gets a segment of its own size.
            while self.prepared.get(number).is_none_or(|ready| ready.header.segment_bytes < size) {
                if let Err(error) = self.obtain(number, size) {
                    let ordinary = batch.class == Class::Ordinary;
                    self.read_only |= ordinary && self.prepared.is_empty();
                    return Err(error);
                }
            }
            if number == 0 && self.fits(batch) {
                return Ok(());
            }
        }
        Ok(())
    }

    /// How a batch is spread over new segments: the number of records and the size of each segment.
    fn parts(&self, batch: &Batch) -> Vec<(usize, u32)> {
        let tag = if self.sealer.seals_everything() { TAG } else { 0 };
        let head = SEGMENT_HEADER + self.opening_len() + tag + END_MARK;
        let mut parts: Vec<(usize, u32)> = Vec::new();
        let mut used = usize::MAX;
        for number in 0..batch.len() {
            let len = batch.range(number).len() + tag;
            let size = parts.last().map_or(0, |part| part.1 as usize);
            if used.saturating_add(len) > size {
                let size = (head + len).next_multiple_of(4096).max(self.segment_bytes as usize);
                parts.push((0, u32::try_from(size).unwrap_or(u32::MAX)));
                used = head;
            }
            used += len;
            parts.last_mut().expect("pushed at the first record").0 += 1;
        }
        parts
    }

    fn opening_len(&self) -> usize {
        // previous_end u32, count u64, and two u64 a shard.
        record_len(4 + 8 + 16 * self.last.len())
    }

    fn append_to_new(&mut self, batch: &mut Batch) -> Result<(), AppendError> {
        let mut first = 0;
        for (count, _) in self.parts(batch) {
            let next = self.prepared.pop_front().expect("room was made for the whole batch");
            let opening = Opening {
                previous_end: self
                    .active
                    .as_ref()
                    .map_or(0, |active| if mutant!(PreviousEndWrong) { active.offset - 8 } else { active.offset }),
                base: self.last.clone(),
            };
            let sequence = next.header.sequence;
            self.opening.clear();
            let written = self.opening.push_with(0, 0, sequence, Kind::Open, SCHEMA, |bytes| {
                wincode::serialize_into(bytes, &opening).map_err(|_| crate::EncodeError::TooLarge)
            });
            written.expect("an opening record is small");
            self.active = Some(Active {
                file: next.file,
                generation: next.header.generation,
                size: next.header.segment_bytes,
                offset: SEGMENT_HEADER as u32,
                seal: next.sealer.zip(next.header.seal),
                closed: false,
            });
            self.kept.push_back(Kept { sequence, base: opening.base });
            let mut opening = std::mem::take(&mut self.opening);
            let flushed = self.flush(batch, first..first + count, Some(&mut opening));
            self.opening = opening;
            flushed?;
            first += count;
        }
        Ok(())
    }

    /// Writes some records of a batch behind the last ones, after an opening record if there is one, and syncs.
    fn flush(
        &mut self,
        batch: &mut Batch,
        records: std::ops::Range<usize>,
        opening: Option<&mut Batch>,
    ) -> Result<(), AppendError> {
        let active = self.active.as_mut().expect("a segment was chosen");
        let start = active.offset;
        let mut offset = start;
        self.sealed.clear();
        let mut head: &[u8] = &[];
        if let Some(opening) = opening {
            match &mut active.seal {
                Some((sealer, _)) => {
                    let record = &opening.bytes;
                    offset += seal_into(&mut self.sealed, sealer, record, active.generation, offset, start);
                }
                None => {
                    seal_record(&mut opening.bytes, active.generation, offset, start);
                    offset += opening.bytes.len() as u32;
                    head = &opening.bytes;
                }
            }
        }
        let bytes = batch.range(records.start).start..batch.range(records.end - 1).end;
        for number in records {
            let range = batch.range(number);
            let len = range.len() as u32;
            let record = &mut batch.bytes[range];
            let header = RecordHeader::decode(record);
            if header.known_kind().is_some_and(Kind::is_entry) {
                self.last[usize::from(header.shard)] = Last { index: header.index, term: header.term };
            }
            debug_assert_eq!(record_len(u32_at(record, 4) as usize), len as usize);
            match &mut active.seal {
                Some((sealer, _)) => {
                    offset += seal_into(&mut self.sealed, sealer, record, active.generation, offset, start);
                }
                None => {
                    seal_record(record, active.generation, offset, start);
                    offset += len;
                }
            }
        }
        let mark = END_MARK.min((active.size - offset) as usize);
        let body = if active.seal.is_some() { &self.sealed } else { &batch.bytes[bytes] };
        let zeros = &[0; END_MARK][..mark];
        let written = if head.is_empty() {
            active.file.write_at(u64::from(start), &[body, zeros])
        } else {
            active.file.write_at(u64::from(start), &[head, body, zeros])
        };
        let synced = |file: &dyn DiskFile| match file.sync_data() {
            Err(_) if mutant!(FailedSyncRetried) => file.sync_data(),
            synced => synced,
        };
        let skipped = mutant!(SyncSkipped) && (start / 8).is_multiple_of(3);
        written
            .and_then(|()| if skipped { Ok(()) } else { synced(&*active.file) })
            .map_err(AppendError::Failed)?;
        active.offset = offset;
        self.tell_reach();
        Ok(())
    }

    /// From now on a segment goes only when the archive has it as well. The archive reads from what is returned how
    /// far the log is durable.
    pub fn keep_for_archive(&mut self) -> Arc<Reach> {
        let reach = Arc::clone(self.reach.get_or_insert_default());
        self.tell_reach();
        reach
    }

    fn tell_reach(&self) {
        if let (Some(reach), Some(active), Some(kept)) = (&self.reach, &self.active, self.kept.back()) {
            reach.set_durable(kept.sequence, active.offset);
        }
    }

    /// Lets segments go whose records are all covered and that the archive has, if there is one: `covered` holds, for
    /// each shard, the index that the older of the kept snapshots reaches; what was covered before stays so.
    pub fn truncate(&mut self, covered: &[u64]) -> Result<(), AppendError> {
        for (known, covered) in self.covered.iter_mut().zip(covered) {
            *known = (*known).max(*covered);
        }
        let archived = self.reach.as_ref().map_or(u64::MAX, |reach| reach.archived());
        while let [oldest, next, ..] = self.kept.make_contiguous() {
            let is_covered = next.base.iter().zip(&self.covered).all(|(base, covered)| base.index <= *covered);
            if !is_covered || oldest.sequence > archived {
                break;
            }
            let Some(oldest) = self.kept.pop_front() else { break };
            match &mut self.maker {
                Maker::Inline(maker) => maker.retire(oldest.sequence).map_err(make_error)?,
                Maker::Helper { requests, .. } => {
                    requests.send(Request::Retire(oldest.sequence)).map_err(|_| helper_gone())?;
                }
            }
        }
        Ok(())
    }

    /// Tries again to make the next segment ready after there was no space.
    pub fn retry(&mut self) -> Result<(), AppendError> {
        self.full = None;
        let tried = self.prepare_ahead();
        self.judge_space();
        match tried {
            Err(AppendError::ReadOnly(_)) | Ok(()) => Ok(()),
            failed => failed,
        }
    }

    /// Whether ordinary batches are refused for want of space.
    pub fn read_only(&self) -> bool {
        self.read_only
    }

    /// Whether the next segment could not be made ready: then [`Log::retry`] is due now and then.
    pub fn is_full(&self) -> bool {
        self.full.is_some()
    }

    /// Where each shard stands.
    pub fn last(&self) -> &[Last] {
        &self.last
    }

    fn refusal(&self) -> AppendError {
        AppendError::ReadOnly(self.full.clone().unwrap_or_else(|| "no space left".into()))
    }

    fn judge_space(&mut self) {
        if !self.prepared.is_empty() {
            (self.full, self.read_only) = (None, false);
        } else if self.full.is_some() {
            let room = self.active.as_ref().map_or(0, Active::room);
            self.read_only |= room < self.reserve;
        }
    }

    /// Asks for the next segment, so that it is ready when it is needed.
    fn prepare_ahead(&mut self) -> Result<(), AppendError> {
        let stale = |ready: &Prepared| self.sealer.is_stale(ready.header.seal);
        let idle = matches!(self.maker, Maker::Inline(_) | Maker::Helper { busy: false, .. });
        if idle && self.prepared.iter().any(stale) {
            // Made before the newest data key was; they are made again, and never written to.
            self.prepared.clear();
        }
        if !self.prepared.is_empty() || self.full.is_some() {
            return Ok(());
        }
        if matches!(self.maker, Maker::Inline(_)) {
            return self.obtain(0, self.segment_bytes);
        }
        self.ask(0, self.segment_bytes)
    }

    /// Asks the helper for the segment that will be number `place` of those ready, unless it is busy.
    fn ask(&mut self, place: usize, size: u32) -> Result<(), AppendError> {
        let sequence = self.first_prepared() + place as u64;
        if let Maker::Helper { requests, busy, .. } = &mut self.maker
            && !*busy
        {
            requests.send(Request::Make { sequence, size }).map_err(|_| helper_gone())?;
            *busy = true;
        }
        Ok(())
    }

    fn first_prepared(&self) -> u64 {
        self.kept.back().map_or(self.first_sequence, |kept| kept.sequence + 1)
    }

    /// Takes what the helper has finished.
    pub(crate) fn take_made(&mut self) -> Result<(), AppendError> {
        while let Maker::Helper { made, .. } = &self.maker {
            match made.try_recv() {
                Ok(result) => self.accept(result)?,
                Err(TryRecvError::Empty) => break,
                Err(TryRecvError::Disconnected) => return Err(helper_gone()),
            }
        }
        Ok(())
    }

    /// Takes one result of the maker.
    fn accept(&mut self, result: Result<Prepared, MakeError>) -> Result<(), AppendError> {
        if let Maker::Helper { busy, .. } = &mut self.maker {
            *busy = false;
        }
        match result {
            Ok(prepared) => {
                let place = (prepared.header.sequence - self.first_prepared()) as usize;
                if place < self.prepared.len() {
                    self.prepared[place] = prepared;
                } else {
                    assert_eq!(place, self.prepared.len(), "segments are made ready in order");
                    self.prepared.push_back(prepared);
                }
                self.full = None;
            }
            Err(MakeError::NoSpace(error)) => {
                warn!("The next segment can't be made ready: {error}");
                self.full = Some(error.to_string());
            }
            Err(MakeError::Fatal(error)) => {
                self.failed = true;
                return Err(AppendError::Failed(error));
            }
        }
        self.judge_space();
        Ok(())
    }

    /// Gets the segment that will be number `place` of those ready, in `size` bytes, waiting for it. One that the
    /// helper was asked for before comes first, and the caller looks again.
    fn obtain(&mut self, place: usize, size: u32) -> Result<(), AppendError> {
        if let Some(reason) = &self.full {
            return Err(AppendError::ReadOnly(reason.clone()));
        }
        let sequence = self.first_prepared() + place as u64;
        self.ask(place, size)?;
        let made = match &mut self.maker {
            Maker::Inline(maker) => maker.make(sequence, size),
            Maker::Helper { made, .. } => made.recv().map_err(|_| helper_gone())?,
        };
        let failed = match &made {
            Err(MakeError::NoSpace(error)) => Some(error.to_string()),
            _ => None,
        };
        self.accept(made)?;
        failed.map_or(Ok(()), |reason| Err(AppendError::ReadOnly(reason)))
    }

    /// Gives the making of segments to a helper thread; returns what that thread runs.
    pub(crate) fn split_maker(&mut self) -> Option<impl FnOnce() + Send + 'static> {
        let (requests, asked) = crossbeam::channel::unbounded();
        let (done, made) = crossbeam::channel::unbounded();
        let helper = Maker::Helper { requests, made, busy: false };
        let Maker::Inline(mut maker) = std::mem::replace(&mut self.maker, helper) else {
            return None;
        };
        Some(move || {
            for request in asked {
                let result = match request {
                    Request::Make { sequence, size } => Some(maker.make(sequence, size)),
                    Request::Retire(sequence) => match maker.retire(sequence) {
                        Ok(()) => None,
                        Err(MakeError::NoSpace(error) | MakeError::Fatal(error)) => {
                            Some(Err(MakeError::Fatal(error)))
                        }
                    },
                };
                if let Some(result) = result
                    && done.send(result).is_err()
                {
                    return;
                }
            }
        })
    }

    /// Where the helper's results arrive, each to be given to [`Log::accept`].
    pub(crate) fn made(&self) -> Receiver<Result<Prepared, MakeError>> {
        match &self.maker {
            Maker::Inline(_) => crossbeam::channel::never(),
            Maker::Helper { made, .. } => made.clone(),
        }
    }
}

fn helper_gone() -> AppendError {
    AppendError::Failed(io::Error::other("the helper that makes segments ready is gone"))
}

fn make_error(error: MakeError) -> AppendError {
    match error {
        MakeError::NoSpace(error) | MakeError::Fatal(error) => AppendError::Failed(error),
    }
}

/// Removes segments that were being made when the process ended.
fn remove_leftovers(disk: &dyn Disk, dir: &Path) -> Result<(), OpenError> {
    for name in disk.list(dir).map_err(OpenError::disk(dir))? {
        if name.ends_with(".new") {
            let path = dir.join(name);
            disk.remove(&path).map_err(OpenError::disk(&path))?;
        }
    }
    Ok(())
}

/// Writes zeros over a torn tail, so that nothing of it can be taken for a record once the log has gone on.
fn erase(file: &dyn DiskFile, from: usize, to: usize) -> io::Result<()> {
    let zeros = vec![0; 256 << 10];
    let mut offset = from;
    while offset < to {
        let end = (offset + zeros.len()).min(to);
        file.write_at(offset as u64, &[&zeros[..end - offset]])?;
        offset = end;
    }
    file.sync_data()
}

/// The log must begin before the end of the newest snapshot and reach it.
fn check_snapshots(scan: &Scan, newest: Option<&SnapshotReader>, log_dir: &Path) -> Result<(), OpenError> {
    let base = scan.used.first().and_then(|file| file.opening.as_ref()).map(|first| &first.base);
    let first = scan.used.first().map_or(log_dir, |file| &file.path);
    for (shard, last) in scan.last.iter().enumerate() {
        let begins = base.map_or(0, |base| base[shard].index);
        let reaches = newest.map_or(0, |snapshot| snapshot.indices()[shard]);
        let corrupt = |what, expected, found| {
            let (file, offset) = (first.to_owned(), SEGMENT_HEADER as u64);
            Err(Corruption { file, offset, what, expected, found }.into())
        };
        if begins > reaches {
            return corrupt(
                "entries between the newest sound snapshot and the first segment are missing",
                format!("index {} of shard {shard}", reaches + 1),
                format!("index {}", begins + 1),
            );
        }
        if last.index < reaches {
            return corrupt(
                "the log ends before a snapshot that was made of it",
                format!("index {reaches} of shard {shard}"),
                format!("index {}", last.index),
            );
        }
    }
    Ok(())
}

const _: () = assert!(RECORD_HEADER <= END_MARK);
