//! Reads the segments of a folder, place by place, and asks the decision table what each place means.
//!
//! Changes nothing. What is to be cut is reported; [`crate::Log`] cuts it.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use engine::Action;

use crate::codec;
use crate::disk::{Disk, DiskFile, read_all};
use crate::error::{Corruption, OpenError};
use crate::file_seal::{FileOpener, FileSealer, TAG};
use crate::format::{
    ALIGN, CRC_OFFSET, FORMAT_VERSION, HeaderError, RECORD_HEADER, RecordHeader, SEGMENT_HEADER, SegmentHeader,
    record_checksum, record_len, seal_record, stored_checksum, u64_at,
};
use crate::recovery::{
    Bytes, Checksum, Fault, FileFindings, FileVerdict, Findings, Follows, Header, Length, Order, Region, Verdict,
    decide, decide_file,
};
use crate::segment::{self, Identity, Last, Opening};
use crate::terms::{Overwrite, Terms};
use crate::tree_heads::{PAYLOAD_MIN, TreeHead};
use crate::votes::Votes;
use crate::{Keys, Kind, Vote};

/// A command that panicked once and is to be passed by; told to the engine before the replay.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SkipMark {
    /// The shard.
    pub shard: u16,
    /// The entry.
    pub index: u64,
    /// The command's place in the entry, from 0.
    pub position: u32,
}

/// A torn tail that was cut: the rest of a flush that nobody was answered for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cut {
    /// The file.
    pub file: PathBuf,
    /// Where the sound records end.
    pub offset: u64,
    /// What was found there.
    pub found: &'static str,
}

/// One good record.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Record<'a> {
    pub(crate) offset: usize,
    pub(crate) header: RecordHeader,
    pub(crate) kind: Kind,
    pub(crate) payload: &'a [u8],
}

/// A segment file whose header is good.
#[derive(Clone, Debug)]
pub(crate) struct SegmentFile {
    pub(crate) path: PathBuf,
    pub(crate) header: SegmentHeader,
    /// Its opening record; none when nothing was written to it.
    pub(crate) opening: Option<Opening>,
    /// Where its records end.
    pub(crate) end: usize,
}

/// What the segments hold.
#[derive(Debug)]
pub(crate) struct Scan {
    /// Segments with records, oldest first, without holes.
    pub(crate) used: Vec<SegmentFile>,
    /// Segments made ready after them.
    pub(crate) prepared: Vec<SegmentFile>,
    /// Where each shard stands at the end.
    pub(crate) last: Vec<Last>,
    pub(crate) votes: Votes,
    pub(crate) skips: Vec<SkipMark>,
    pub(crate) cuts: Vec<Cut>,
    /// Entries that stand in the place of earlier ones.
    pub(crate) overwrites: Vec<Overwrite>,
    /// Where each shard's log begins, and its terms.
    pub(crate) terms: Vec<Terms>,
    /// Tree heads that can be read, in the order of the log.
    pub(crate) heads: Vec<Stated>,
    /// How many records were read.
    pub(crate) records: u64,
}

/// A tree head and where it is stated.
#[derive(Clone, Debug)]
pub(crate) struct Stated {
    pub(crate) file: PathBuf,
    pub(crate) offset: u64,
    pub(crate) shard: u16,
    pub(crate) index: u64,
    /// None when the record is not what a log writes.
    pub(crate) head: Option<TreeHead>,
}

/// Bytes of a hash of a tree.
const HASH: usize = size_of::<crate::merkle::Hash>();
/// How many of the newest segments may have been written to without a sync that was answered.
const UNSYNCED_MAX: usize = 4;

/// Adds a record, sealed, to what is on its way to `offset`; answers the bytes it takes there. Of an opening record the
/// payload stays readable: who checks a log without keys needs it.
pub(crate) fn seal_into(
    out: &mut Vec<u8>,
    sealer: &mut FileSealer,
    record: &[u8],
    generation: u64,
    offset: u32,
    synced: u32,
) -> u32 {
    let start = out.len();
    let mut header = RecordHeader::decode(record);
    let payload = &record[RECORD_HEADER..RECORD_HEADER + header.length as usize];
    (header.length, header.synced) = (header.length + TAG as u32, synced);
    out.resize(start + RECORD_HEADER, 0);
    header.encode(&mut out[start..]);
    out.extend_from_slice(payload);
    let (head, body) = out[start..].split_at_mut(RECORD_HEADER);
    let (head, clear) = sealed_parts(head, body, header.known_kind());
    let tag = sealer.seal(u64::from(offset), message_at(offset as usize), &head, clear);
    out.extend_from_slice(&tag);
    out.resize(start + record_len(header.length as usize), 0);
    seal_record(&mut out[start..], generation, offset, synced);
    (out.len() - start) as u32
}

/// What is authenticated and what is sealed of a record with this header and this payload, without its tag.
fn sealed_parts<'a>(head: &[u8], body: &'a mut [u8], kind: Option<Kind>) -> (Vec<u8>, &'a mut [u8]) {
    let head = &head[CRC_OFFSET + size_of::<u32>()..];
    match kind {
        Some(Kind::Open) => ([head, body].concat(), &mut []),
        _ => (head.to_vec(), body),
    }
}

/// The number of the message that the record at `offset` is: units of [`ALIGN`] behind the header.
fn message_at(offset: usize) -> u64 {
    ((offset - SEGMENT_HEADER) / ALIGN) as u64
}

/// Opens the records of a sealed segment; none where nothing is sealed but secret parts, or nobody has keys.
pub(crate) fn opener(
    header: &SegmentHeader,
    path: &Path,
    keys: Option<&Keys>,
) -> Result<Option<FileOpener>, OpenError> {
    let (Some(seal), Some(keys)) = (&header.seal, keys) else { return Ok(None) };
    Ok(Some(FileOpener::new(keys, seal, &segment::file_id(header), path)?))
}

/// The payload of a record of a sealed segment; none: the record was changed or moved.
pub(crate) fn open_record(opener: &FileOpener, record: &Record<'_>, head: &[u8]) -> Option<Vec<u8>> {
    let count = message_at(record.offset);
    let clear = record.payload.len().checked_sub(TAG)?;
    let mut bytes = record.payload.to_vec();
    if record.kind == Kind::Open {
        let (head, _) = sealed_parts(head, &mut bytes[..clear], Some(record.kind));
        opener.open(record.offset as u64, count, &head, &mut bytes[clear..])?;
    } else {
        let (head, _) = sealed_parts(head, &mut [], Some(record.kind));
        opener.open(record.offset as u64, count, &head, &mut bytes)?;
    }
    bytes.truncate(clear);
    Some(bytes)
}

/// Reads the whole log in `dir`; of sealed segments the records are authenticated when there are `keys`. With
/// `settle`, what the last process left in the cache is first made durable and
/// then read back from the device.
pub(crate) fn scan(
    disk: &dyn Disk,
    dir: &Path,
    identity: Identity,
    keys: Option<&Arc<Keys>>,
    settle: bool,
) -> Result<Scan, OpenError> {
    let mut files = list(disk, dir, identity, settle)?;
    let used = files.iter().rposition(|file| file.opening.is_some()).map_or(0, |last| last + 1);
    let prepared = files.split_off(used);
    let mut scan = Scan {
        last: vec![Last::default(); usize::from(identity.shards)],
        votes: Votes::new(identity.shards),
        used: files,
        prepared,
        skips: Vec::new(),
        cuts: Vec::new(),
        overwrites: Vec::new(),
        terms: Vec::new(),
        heads: Vec::new(),
        records: 0,
    };
    let (ends, bases) = sealed_ends(&scan.used)?;
    if let Some(base) = bases.first() {
        scan.last.clone_from(base);
    }
    // One for all: memory that was never touched costs more than what is read into it.
    let mut bytes = Vec::new();
    scan.terms = scan.last.iter().map(|last| Terms::new(*last)).collect();
    let mut skips: Vec<(u64, SkipMark)> = Vec::new();
    for (number, base) in bases.iter().enumerate() {
        let file = scan.used[number].clone();
        read_into(disk, &file.path, &mut bytes)?;
        let (region, limit) = match ends.get(number) {
            Some(end) => (Region::Sealed, *end),
            None => (Region::Last, bytes.len().min(file.header.segment_bytes as usize)),
        };
        let mut walk = Walk {
            path: &file.path,
            bytes: &bytes,
            header: &file.header,
            region,
            limit,
            last: scan.last.clone(),
            terms: std::mem::take(&mut scan.terms),
            overwrites: Vec::new(),
            opener: opener(&file.header, &file.path, keys.map(AsRef::as_ref))?,
        };
        if walk.last != *base {
            return Err(walk.corruption(
                SEGMENT_HEADER,
                "the segment does not begin where the one before it ends",
                format!("{base:?}"),
                format!("{:?}", walk.last),
            ));
        }
        let (mut votes, mut heads, mut records) = (Vec::new(), Vec::new(), 0);
        let end = walk.run(&mut |record| {
            records += 1;
            if record.kind.is_entry() {
                // What was to be passed by may have been overwritten, and then it is not.
                let RecordHeader { shard, index, .. } = record.header;
                skips.retain(|(at, mark)| mark.shard != shard || *at < index);
            }
            match record.kind {
                Kind::Entry | Kind::Open => {}
                _ if file.header.seal.is_some() && keys.is_none() => {}
                Kind::Skip => collect_skips(record, &file.path, &mut skips)?,
                Kind::TreeHead => heads.push(Stated {
                    file: file.path.clone(),
                    offset: record.offset as u64,
                    shard: record.header.shard,
                    index: record.header.index,
                    head: TreeHead::read(record.header.index, record.header.schema, record.payload),
                }),
                Kind::Vote => votes.push((record.header.shard, vote(&record.header, record.payload))),
            }
            Ok(())
        })?;
        (scan.last, scan.terms) = (walk.last, walk.terms);
        scan.overwrites.append(&mut walk.overwrites);
        scan.records += records;
        scan.heads.append(&mut heads);
        for (shard, vote) in votes {
            scan.votes.set(shard, vote, file.header.sequence);
        }
        scan.used[number].end = end.offset;
        scan.cuts.extend(end.cut);
    }
    scan.skips = skips.into_iter().map(|(_, mark)| mark).collect();
    for file in &scan.prepared {
        read_into(disk, &file.path, &mut bytes)?;
        let mut walk = Walk {
            path: &file.path,
            bytes: &bytes,
            header: &file.header,
            region: Region::Last,
            limit: bytes.len().min(file.header.segment_bytes as usize),
            last: scan.last.clone(),
            terms: scan.terms.clone(),
            overwrites: Vec::new(),
            opener: None,
        };
        let end = walk.run(&mut |_| Ok(()))?;
        if let Some(cut) = end.cut {
            // Nothing is written to a segment before all of the one before it is durable.
            if let (Some(before), Some(last)) = (scan.cuts.first(), scan.used.last()) {
                return Err(Corruption {
                    file: last.path.clone(),
                    offset: before.offset,
                    what: "the next segment was written to, and this one is damaged",
                    expected: "a sound record".into(),
                    found: before.found.into(),
                }
                .into());
            }
            scan.cuts.push(cut);
        }
    }
    Ok(scan)
}

/// Reads the headers and opening records of all segment files.
fn list(disk: &dyn Disk, dir: &Path, identity: Identity, settle: bool) -> Result<Vec<SegmentFile>, OpenError> {
    let names = disk.list(dir).map_err(OpenError::disk(dir))?;
    let sequences: Vec<u64> = names.iter().filter_map(|name| segment::sequence_of(name)).collect();
    let mut files: Vec<SegmentFile> = Vec::with_capacity(sequences.len());
    for (number, &sequence) in sequences.iter().enumerate() {
        let path = dir.join(segment::name(sequence));
        let at = OpenError::disk(&path);
        let file = disk.open(&path).map_err(&at)?;
        if settle && !mutant!(UnsyncedCacheTrusted) && number + UNSYNCED_MAX >= sequences.len() {
            file.sync_data().and_then(|()| file.forget_cache()).map_err(&at)?;
        }
        let before = number.checked_sub(1).map(|before| sequences[before]);
        let (header, opening) = read_head(&*file, &path, sequence, before, identity)?;
        let path = path.clone();
        files.push(SegmentFile { path, header, opening, end: SEGMENT_HEADER });
    }
    Ok(files)
}

pub(crate) fn read_head(
    file: &dyn DiskFile,
    path: &Path,
    sequence: u64,
    before: Option<u64>,
    identity: Identity,
) -> Result<(SegmentHeader, Option<Opening>), OpenError> {
    let at = OpenError::disk(path);
    let len = usize::try_from(file.len().map_err(&at)?).unwrap_or(usize::MAX);
    // Enough for the header and the opening record of the most shards.
    let mut bytes = vec![0; len.min(4 * SEGMENT_HEADER)];
    file.read_at(0, &mut bytes).map_err(&at)?;
    let decoded = SegmentHeader::decode(&bytes);
    let header = decoded.ok();
    let theirs = header.map(|h| Identity { cluster: h.cluster, history: h.history, shards: h.shards });
    let findings = FileFindings {
        header: match decoded {
            Ok(_) => Header::Good,
            Err(HeaderError::Magic) => Header::Magic,
            Err(HeaderError::Version(_)) => Header::Version,
            Err(HeaderError::Checksum { .. } | HeaderError::Cipher(_)) => Header::Checksum,
        },
        ours: theirs == Some(identity),
        named: header.is_some_and(|header| header.sequence == sequence),
        joined: before.is_none_or(|before| before + 1 == sequence),
    };
    let file = path.to_owned();
    let corrupt = |what, expected: String, found: String| {
        Err(Corruption { file: file.clone(), offset: 0, what, expected, found }.into())
    };
    let (Ok(header), FileVerdict::Read) = (&decoded, decide_file(&findings)) else {
        return match (decide_file(&findings), decoded) {
            (FileVerdict::Version, Err(HeaderError::Version(found))) => {
                Err(OpenError::Version { file, expected: FORMAT_VERSION, found })
            }
            (FileVerdict::Foreign, Ok(header)) => Err(foreign(path, identity, &header)),
            (FileVerdict::Misnamed, Ok(header)) => corrupt(
                "the segment has the name of another",
                format!("segment {sequence}"),
                format!("segment {}", header.sequence),
            ),
            (FileVerdict::Hole, _) => corrupt(
                "a segment is missing",
                format!("{} before this file", segment::name(sequence - 1)),
                before.map_or("none".into(), segment::name),
            ),
            (_, Err(error)) => corrupt("the segment's header is damaged", "a header".into(), error.to_string()),
            (_, Ok(_)) => corrupt("the segment can't be read", "a segment".into(), "none".into()),
        };
    };
    if len != header.segment_bytes as usize {
        let expected = format!("{} bytes", header.segment_bytes);
        return corrupt("the segment file has another length", expected, format!("{len} bytes"));
    }
    let opening = opening_of(&bytes, header, identity.shards);
    Ok((*header, opening))
}

/// The opening record in the first bytes of a segment, if it is sound.
pub(crate) fn opening_of(bytes: &[u8], header: &SegmentHeader, shards: u16) -> Option<Opening> {
    let record = record_at(bytes, header, SEGMENT_HEADER, bytes.len())?;
    let tag = if header.seal.is_some() { TAG } else { 0 };
    let payload = record.payload.get(..record.payload.len().checked_sub(tag)?)?;
    let opening: Opening = wincode::deserialize_exact(payload).ok()?;
    let is_ours = record.kind == Kind::Open && record.header.index == header.sequence;
    (is_ours && opening.base.len() == usize::from(shards)).then_some(opening)
}

fn foreign(path: &Path, ours: Identity, theirs: &SegmentHeader) -> OpenError {
    let (what, expected, found) = if ours.cluster != theirs.cluster {
        ("cluster", crate::uuid_text(ours.cluster), crate::uuid_text(theirs.cluster))
    } else if ours.history != theirs.history {
        ("history", ours.history.to_string(), theirs.history.to_string())
    } else {
        ("number of shards", ours.shards.to_string(), theirs.shards.to_string())
    };
    OpenError::Foreign { file: path.to_owned(), what, expected, found }
}

/// Where each used segment but the last ends, as the next one says, and where all begin.
fn sealed_ends(used: &[SegmentFile]) -> Result<(Vec<usize>, Vec<Vec<Last>>), OpenError> {
    let mut ends = Vec::new();
    let mut bases = Vec::new();
    for (number, file) in used.iter().enumerate() {
        let corrupt = |what, expected: String, found: String| {
            let (path, offset) = (file.path.clone(), SEGMENT_HEADER as u64);
            OpenError::from(Corruption { file: path, offset, what, expected, found })
        };
        let Some(opening) = &file.opening else {
            return Err(corrupt(
                "the segment's opening record is damaged, and later segments were written",
                "an opening record".into(),
                "none".into(),
            ));
        };
        let end = opening.previous_end as usize;
        let range = used.get(number.wrapping_sub(1)).map(|before| before.header.segment_bytes);
        let valid = match range {
            Some(size) => (SEGMENT_HEADER..=size as usize).contains(&end),
            None => true,
        };
        if !valid {
            let expected = "an end inside the segment before".into();
            return Err(corrupt("the opening record can't be", expected, end.to_string()));
        }
        if number > 0 {
            ends.push(end);
        }
        bases.push(opening.base.clone());
    }
    Ok((ends, bases))
}

/// Reads a whole file into `bytes`, whatever they hold.
fn read_into(disk: &dyn Disk, path: &Path, bytes: &mut Vec<u8>) -> Result<(), OpenError> {
    let at = OpenError::disk(path);
    let file = disk.open(path).map_err(&at)?;
    let len = usize::try_from(file.len().map_err(&at)?).map_err(|error| at(io::Error::other(error)))?;
    bytes.resize(len, 0);
    file.read_at(0, bytes).map_err(&at)
}

pub(crate) fn read(disk: &dyn Disk, path: &Path) -> Result<Vec<u8>, OpenError> {
    disk.open(path).and_then(|file| read_all(&*file)).map_err(OpenError::disk(path))
}

/// The good record at `offset`, if there is one that ends before `limit`.
pub(crate) fn record_at<'a>(
    bytes: &'a [u8],
    header: &SegmentHeader,
    offset: usize,
    limit: usize,
) -> Option<Record<'a>> {
    let (fields, kind, end) = plausible_at(bytes, header, offset, limit)?;
    let record = &bytes[offset..end];
    if stored_checksum(record) != record_checksum(record, header.generation, offset as u32) {
        return None;
    }
    let start = offset + RECORD_HEADER;
    let payload = &bytes[start..start + fields.length as usize];
    Some(Record { offset, header: fields, kind, payload })
}

/// What may be a record, and where it would end; its checksum is not looked at.
fn plausible_at(
    bytes: &[u8],
    header: &SegmentHeader,
    offset: usize,
    limit: usize,
) -> Option<(RecordHeader, Kind, usize)> {
    if offset + RECORD_HEADER > limit {
        return None;
    }
    let fields = RecordHeader::decode(&bytes[offset..]);
    let kind = fields.kind_in(header.version)?;
    let synced = fields.synced as usize;
    let plausible = fields.shard < header.shards
        && (SEGMENT_HEADER..=offset).contains(&synced)
        && synced.is_multiple_of(ALIGN);
    let end = offset.checked_add(record_len(fields.length as usize))?;
    (plausible && end <= limit).then_some((fields, kind, end))
}

static ZEROS: [u8; 4096] = [0; 4096];

/// What good records lie behind a place that holds none.
fn follows(bytes: &[u8], header: &SegmentHeader, place: usize, limit: usize) -> Follows {
    let mut follows = Follows::Nothing;
    let mut offset = place + ALIGN;
    // Payloads are chosen by clients. One full of what looks like long records must not make a start take for ever:
    // beyond this many bytes, checksums are taken from those of all prefixes.
    let mut budget = 8 * bytes.len();
    let mut prefixes = None;
    while offset + RECORD_HEADER <= limit {
        // Most of a segment is zeros: pages of them are passed at once.
        if bytes.get(offset..offset + ZEROS.len()) == Some(&ZEROS[..]) {
            offset += ZEROS.len();
            continue;
        }
        if let Some((fields, _, end)) = plausible_at(bytes, header, offset, limit) {
            let record = &bytes[offset..end];
            let computed = if record.len() <= budget {
                budget -= record.len();
                record_checksum(record, header.generation, offset as u32)
            } else {
                let prefixes = prefixes.get_or_insert_with(|| Prefixes::new(bytes, place, limit));
                prefixes.record_checksum(bytes, header.generation, offset, end)
            };
            if computed == stored_checksum(record) {
                if fields.synced as usize > place && !mutant!(CutBelowTheCommitMark) {
                    return Follows::LaterFlush;
                }
                follows = Follows::SameFlush;
            }
        }
        offset += ALIGN;
    }
    follows
}

/// The checksums of all beginnings of a range, from which that of any part follows in a few steps.
struct Prefixes {
    start: usize,
    crcs: Vec<u32>,
    /// For each power of two, what that many words of zeros behind it make of each bit of a checksum.
    shifts: Vec<[u32; 32]>,
}

impl Prefixes {
    fn new(bytes: &[u8], start: usize, end: usize) -> Self {
        let words = (end - start) / ALIGN;
        let mut crcs = Vec::with_capacity(words + 1);
        let mut crc = 0;
        crcs.push(crc);
        for word in bytes[start..end].chunks_exact(ALIGN) {
            crc = crc32c::crc32c_append(crc, word);
            crcs.push(crc);
        }
        let powers = usize::BITS - words.leading_zeros();
        let shift = |power: u32| std::array::from_fn(|bit| crc32c::crc32c_combine(1 << bit, 0, ALIGN << power));
        Self { start, crcs, shifts: (0..powers).map(shift).collect() }
    }

    /// What `words` words behind it make of a checksum, up to their own.
    fn shift(&self, mut crc: u32, words: usize) -> u32 {
        for (power, shift) in self.shifts.iter().enumerate() {
            if words >> power & 1 == 1 {
                let bits = shift.iter().enumerate().filter(|(bit, _)| crc >> bit & 1 == 1);
                crc = bits.fold(0, |sum, (_, part)| sum ^ part);
            }
        }
        crc
    }

    /// As [`record_checksum`] of the record from `offset` to `end`.
    fn record_checksum(&self, bytes: &[u8], generation: u64, offset: usize, end: usize) -> u32 {
        let at = |offset: usize| self.crcs[(offset - self.start) / ALIGN];
        // Behind the checksum itself come four bytes and then whole words.
        let words = offset + ALIGN;
        let head = record_checksum(&bytes[offset..words], generation, offset as u32);
        self.shift(head ^ at(words), (end - words) / ALIGN) ^ at(end)
    }
}

pub(crate) struct End {
    pub(crate) offset: usize,
    pub(crate) cut: Option<Cut>,
}

/// One pass over the places of a segment.
pub(crate) struct Walk<'a> {
    pub(crate) path: &'a Path,
    pub(crate) bytes: &'a [u8],
    pub(crate) header: &'a SegmentHeader,
    pub(crate) region: Region,
    pub(crate) limit: usize,
    pub(crate) last: Vec<Last>,
    pub(crate) terms: Vec<Terms>,
    /// Entries that took the place of others.
    pub(crate) overwrites: Vec<Overwrite>,
    /// Opens its records, when they are sealed.
    pub(crate) opener: Option<FileOpener>,
}

impl<'a> Walk<'a> {
    pub(crate) fn run(
        &mut self,
        visit: &mut dyn FnMut(&Record<'_>) -> Result<(), OpenError>,
    ) -> Result<End, OpenError> {
        let mut offset = SEGMENT_HEADER;
        loop {
            if self.region == Region::Sealed && offset == self.limit {
                return Ok(End { offset, cut: None });
            }
            if self.region == Region::Last && offset + RECORD_HEADER > self.limit {
                return Ok(End { offset, cut: None });
            }
            let (findings, record) = self.look(offset);
            match (decide(&findings), record) {
                (Verdict::Keep, Some(record)) => {
                    let shard = usize::from(record.header.shard);
                    let RecordHeader { index, term, .. } = record.header;
                    if record.kind.is_entry() {
                        if index <= self.last[shard].index {
                            let (shard, sequence) = (record.header.shard, self.header.sequence);
                            self.overwrites.push(Overwrite { shard, sequence, offset, index });
                        }
                        self.last[shard] = Last { index, term };
                        self.terms[shard].push(index, term);
                    } else if record.kind == Kind::Vote {
                        self.terms[shard].mark(index);
                    }
                    match &self.opener {
                        None => visit(&record)?,
                        Some(opener) => {
                            let head = &self.bytes[offset..offset + RECORD_HEADER];
                            let Some(clear) = open_record(opener, &record, head) else {
                                return Err(self.corruption(
                                    offset,
                                    "a sealed record was changed or moved by somebody",
                                    "one that opens with the segment's key at this place".into(),
                                    "another, with a checksum that holds".into(),
                                ));
                            };
                            visit(&Record { payload: &clear, ..record })?;
                        }
                    }
                    offset += record_len(record.payload.len());
                }
                (Verdict::End, _) => return Ok(End { offset, cut: None }),
                (Verdict::Cut, _) => {
                    let found = match (findings.bytes, findings.length) {
                        (Bytes::Blank, _) => "nothing, and records of the same flush behind",
                        (_, Length::Overruns) => "a record whose length can't be",
                        (_, Length::Fits) => "a record whose checksum does not hold",
                    };
                    let cut = Cut { file: self.path.to_owned(), offset: offset as u64, found };
                    return Ok(End { offset, cut: Some(cut) });
                }
                (Verdict::Corrupt(fault), _) => return Err(self.fault(offset, fault)),
                (Verdict::Keep, None) => unreachable!("only a good record is kept"),
            }
        }
    }

    fn look(&self, offset: usize) -> (Findings, Option<Record<'a>>) {
        let mut findings = Findings {
            region: self.region,
            bytes: Bytes::Blank,
            length: Length::Overruns,
            checksum: Checksum::Bad,
            order: Order::Broken,
            follows: Follows::Nothing,
        };
        let head = self.bytes.get(offset..(offset + RECORD_HEADER).min(self.limit)).unwrap_or(&[]);
        if head.iter().any(|byte| *byte != 0) {
            findings.bytes = Bytes::Written;
        }
        let mut good = None;
        if findings.bytes == Bytes::Written && head.len() == RECORD_HEADER {
            let header = RecordHeader::decode(head);
            let len = record_len(header.length as usize);
            if offset.checked_add(len).is_some_and(|end| end <= self.limit) {
                findings.length = Length::Fits;
                let record = &self.bytes[offset..offset + len];
                let crc = record_checksum(record, self.header.generation, offset as u32);
                if crc == stored_checksum(record) || mutant!(BadChecksumAccepted) {
                    findings.checksum = Checksum::Good;
                    good = record_at(self.bytes, self.header, offset, self.limit)
                        .filter(|record| self.is_next(record));
                    findings.order = match &good {
                        Some(_) => Order::Next,
                        None if header.kind_in(self.header.version).is_none() => Order::Unknown,
                        None => Order::Broken,
                    };
                    return (findings, good);
                }
            }
        }
        if self.region == Region::Last {
            findings.follows = follows(self.bytes, self.header, offset, self.limit);
        }
        (findings, good)
    }

    fn is_next(&self, record: &Record<'_>) -> bool {
        let last = self.last[usize::from(record.header.shard)];
        let first = record.offset == SEGMENT_HEADER;
        let tag = if self.header.seal.is_some() { TAG } else { 0 };
        let clear_len = record.payload.len().checked_sub(tag);
        match record.kind {
            Kind::Open => first && record.header.index == self.header.sequence,
            Kind::Entry | Kind::Skip => {
                let RecordHeader { index, term, shard, .. } = record.header;
                let follows = index == last.index + 1 && term >= last.term;
                let replaces = || index <= last.index && self.terms[usize::from(shard)].may_replace(index, term);
                !first && (follows || replaces())
            }
            Kind::Vote => !first && clear_len == Some(size_of::<u64>()),
            Kind::TreeHead => {
                let hashes = clear_len.and_then(|len| len.checked_sub(PAYLOAD_MIN));
                !first && record.header.index <= last.index && hashes.is_some_and(|len| len.is_multiple_of(HASH))
            }
        }
    }

    fn fault(&self, offset: usize, fault: Fault) -> OpenError {
        let head = self.bytes.get(offset..offset + RECORD_HEADER);
        let fields = head.map(RecordHeader::decode);
        let (expected, found) = match (fault, fields) {
            (Fault::Checksum, Some(fields)) => {
                let record = &self.bytes[offset..offset + record_len(fields.length as usize)];
                let computed = record_checksum(record, self.header.generation, offset as u32);
                (format!("checksum {computed:#010x}"), format!("{:#010x}", stored_checksum(record)))
            }
            (Fault::Length, Some(fields)) => {
                (format!("a record that ends before offset {}", self.limit), format!("length {}", fields.length))
            }
            (Fault::Kind, Some(fields)) => {
                (format!("a kind of record of format version {}", self.header.version), format!("{fields:?}"))
            }
            (Fault::Order, Some(fields)) => {
                let last = self.last.get(usize::from(fields.shard));
                let expected = last.map_or("a known shard".into(), |last| {
                    format!("index {} of shard {}", last.index + 1, fields.shard)
                });
                (expected, format!("{fields:?}"))
            }
            _ => ("a record".into(), "nothing".into()),
        };
        self.corruption(offset, fault.words(), expected, found)
    }

    pub(crate) fn corruption(
        &self,
        offset: usize,
        what: &'static str,
        expected: String,
        found: String,
    ) -> OpenError {
        let (file, offset) = (self.path.to_owned(), offset as u64);
        Corruption { file, offset, what, expected, found }.into()
    }
}

/// What a record of a vote says.
pub(crate) fn vote(header: &RecordHeader, payload: &[u8]) -> Vote {
    Vote { term: header.term, vote: u64_at(payload, 0), commit: header.index }
}

fn collect_skips(record: &Record<'_>, path: &Path, skips: &mut Vec<(u64, SkipMark)>) -> Result<(), OpenError> {
    let stored = codec::decode_stored(record.payload, record.header.schema)
        .map_err(|error| entry_error(path, record.offset, error))?;
    for command in stored {
        if let Action::Skip { index, position, .. } = command.action {
            skips.push((record.header.index, SkipMark { shard: record.header.shard, index, position }));
        }
    }
    Ok(())
}

pub(crate) fn entry_error(path: &Path, offset: usize, error: codec::DecodeError) -> OpenError {
    OpenError::Entry { file: path.to_owned(), offset: offset as u64, error }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::HistoryId;
    use crate::format::seal_record;

    fn header() -> SegmentHeader {
        SegmentHeader {
            version: FORMAT_VERSION,
            cluster: 1,
            history: HistoryId(2),
            sequence: 1,
            generation: 0x1234_5678_9ABC_DEF0,
            segment_bytes: 1 << 20,
            shards: 3,
            seal: None,
        }
    }

    /// A megabyte of what looks like records that reach to its end.
    fn hostile() -> Vec<u8> {
        let mut bytes = vec![0; 1 << 20];
        let mut offset = SEGMENT_HEADER;
        while offset + RECORD_HEADER <= bytes.len() {
            let length = (bytes.len() - offset - RECORD_HEADER) as u32;
            let fields = RecordHeader { length, index: 1, term: 1, synced: 4096, shard: 1, kind: 1, schema: 1 };
            fields.encode(&mut bytes[offset..]);
            offset += RECORD_HEADER;
        }
        bytes
    }

    #[test]
    fn checksums_from_prefixes_are_those_of_records() {
        let bytes = hostile();
        let prefixes = Prefixes::new(&bytes, SEGMENT_HEADER, bytes.len());
        for (offset, end) in [(4096, 4128), (4104, 9000), (8192, 1 << 20), (500_000, 500_032)] {
            let expected = record_checksum(&bytes[offset..end], 77, offset as u32);
            assert_eq!(prefixes.record_checksum(&bytes, 77, offset, end), expected, "{offset} to {end}");
        }
    }

    #[test]
    fn a_payload_full_of_long_lookalikes_hides_no_record() {
        let mut bytes = hostile();
        let limit = bytes.len();
        assert_eq!(follows(&bytes, &header(), SEGMENT_HEADER, limit), Follows::Nothing);
        let offset = limit - 64;
        for (synced, expected) in [(4096, Follows::SameFlush), (8192, Follows::LaterFlush)] {
            let record = &mut bytes[offset..];
            let fields = RecordHeader { length: 32, index: 9, term: 1, synced, shard: 1, kind: 1, schema: 1 };
            fields.encode(record);
            seal_record(record, header().generation, offset as u32, synced);
            assert_eq!(follows(&bytes, &header(), SEGMENT_HEADER, limit), expected);
        }
    }
}
