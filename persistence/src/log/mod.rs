//! The log of a node: one stream of records of all shards, durable by one sync a batch.
//!
//! Appends only; never takes back what it said is durable, and never writes again after the disk failed. When the next
//! segment can't be made ready it turns read-only while the reserve of the present one is still untouched.

mod open;
mod options;
mod ready;
mod recovered;

use std::collections::VecDeque;
use std::io;
use std::sync::Arc;

use self::ready::{Maker, Request, helper_gone, make_error};
pub use self::{options::Options, recovered::Recovered};
use crate::archive::Reach;
use crate::disk::DiskFile;
use crate::file_seal::{FileSealer, SealHeader, TAG};
use crate::format::{RECORD_HEADER, RecordHeader, SEGMENT_HEADER, record_len, seal_record, u32_at};
use crate::scan::{seal_into, vote};
use crate::segment::{END_MARK, Last, Opening, Prepared};
use crate::tree_heads::TreeHeads;
use crate::votes::Votes;
use crate::{Batch, Class, Kind, SCHEMA, Sealer};

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

/// The log. Used by one thread.
pub struct Log {
    active: Option<Active>,
    prepared: VecDeque<Prepared>,
    kept: VecDeque<Kept>,
    last: Vec<Last>,
    votes: Votes,
    /// What the audit knows of the trees.
    heads: Arc<TreeHeads>,
    /// What the next segment states of it.
    stating: Batch,
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
    /// Where others read how far the log is durable, the archive says what it has, and the scrub what is damaged.
    reach: Arc<Reach>,
    sealer: Sealer,
    /// Sealed records on their way to the disk.
    sealed: Vec<u8>,
    _lock: Box<dyn Send + Sync>,
}

impl Log {
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
            self.gather_heads(batch);
            let made = self.make_room(batch);
            let room = self.active.as_ref().is_some_and(|active| active.needs(batch) <= active.room());
            if mutant!(RefusedStillWritten) && made.is_err() && room {
                self.flush(batch, 0..batch.len(), None)?;
            }
            made?;
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

    /// Takes the tree heads that the next segment begins with; none where the first record of the batch would not fit
    /// behind them, because nothing waits for a larger segment on their account.
    fn gather_heads(&mut self, batch: &Batch) {
        self.stating.clear();
        self.heads.state(&self.last, &mut self.stating);
        let tag = if self.sealer.seals_everything() { TAG } else { 0 };
        let head = SEGMENT_HEADER + self.opening_len(batch, tag) + self.heads_len(tag);
        if head + batch.range(0).len() + tag + END_MARK > self.segment_bytes as usize {
            self.stating.clear();
        }
    }

    fn heads_len(&self, tag: usize) -> usize {
        self.stating.bytes_len() + tag * self.stating.len()
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
        let head = SEGMENT_HEADER + self.opening_len(batch, tag) + END_MARK;
        let mut parts: Vec<(usize, u32)> = Vec::new();
        let mut used = usize::MAX;
        for number in 0..batch.len() {
            let len = batch.range(number).len() + tag;
            let size = parts.last().map_or(0, |part| part.1 as usize);
            if used.saturating_add(len) > size {
                let size = (head + len).next_multiple_of(4096).max(self.segment_bytes as usize);
                parts.push((0, u32::try_from(size).unwrap_or(u32::MAX)));
                used = if parts.len() == 1 { head + self.heads_len(tag) } else { head };
            }
            used += len;
            parts.last_mut().expect("pushed at the first record").0 += 1;
        }
        parts
    }

    /// Bytes that a segment begins with before the first record of the batch, at most: the opening record and the votes,
    /// those that the batch brings included.
    fn opening_len(&self, batch: &Batch, tag: usize) -> usize {
        let mut voted: Vec<bool> = (0..self.last.len() as u16).map(|shard| self.votes.has(shard)).collect();
        for number in 0..batch.len() {
            let header = RecordHeader::decode(&batch.bytes[batch.range(number)]);
            voted[usize::from(header.shard)] |= header.known_kind() == Some(Kind::Vote);
        }
        let votes = voted.iter().filter(|voted| **voted).count();
        // previous_end u32, count u64, and two u64 a shard; a vote is a u64.
        record_len(4 + 8 + 16 * self.last.len()) + tag + votes * (record_len(size_of::<u64>()) + tag)
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
            // All of the segment before is durable, so no mark says more than the disk has.
            self.votes.carry(sequence, &mut self.opening);
            if next.header.version >= Kind::TreeHead.since() {
                self.opening.extend(&self.stating);
            }
            self.stating.clear();
            self.heads.begin(&opening.base);
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

    /// Writes some records of a batch behind the last ones, after what a segment opens with if it is new, and syncs.
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
            for number in 0..opening.len() {
                let range = opening.range(number);
                let record = &mut opening.bytes[range];
                match &mut active.seal {
                    Some((sealer, _)) => {
                        offset += seal_into(&mut self.sealed, sealer, record, active.generation, offset, start);
                    }
                    None => {
                        seal_record(record, active.generation, offset, start);
                        offset += record.len() as u32;
                    }
                }
            }
            if active.seal.is_none() {
                head = &opening.bytes;
            }
        }
        let bytes = batch.range(records.start).start..batch.range(records.end - 1).end;
        for number in records {
            let range = batch.range(number);
            let len = range.len() as u32;
            let record = &mut batch.bytes[range];
            let header = RecordHeader::decode(record);
            match header.known_kind() {
                Some(Kind::Entry | Kind::Skip) => {
                    self.last[usize::from(header.shard)] = Last { index: header.index, term: header.term };
                }
                Some(Kind::Vote) => {
                    let sequence = self.kept.back().map_or(self.first_sequence, |kept| kept.sequence);
                    self.votes.set(header.shard, vote(&header, &record[RECORD_HEADER..]), sequence);
                }
                Some(Kind::Open | Kind::TreeHead) | None => {}
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
        self.reach.keep();
        self.reach()
    }

    /// Where it stands how far the log is durable.
    pub fn reach(&self) -> Arc<Reach> {
        Arc::clone(&self.reach)
    }

    fn tell_reach(&self) {
        if let (Some(active), Some(kept)) = (&self.active, self.kept.back()) {
            self.reach.set_durable(kept.sequence, active.offset);
        }
    }

    /// Lets segments go whose records are all covered and that the archive has, if there is one: `covered` holds, for
    /// each shard, the index that the older of the kept snapshots reaches; what was covered before stays so. A segment with
    /// the only record of a vote in force stays: one of an earlier program, or one whose successor began by a torn flush.
    pub fn truncate(&mut self, covered: &[u64]) -> Result<(), AppendError> {
        for (known, covered) in self.covered.iter_mut().zip(covered) {
            *known = (*known).max(*covered);
        }
        let may_go = if mutant!(TruncatedBeforeArchived) { u64::MAX } else { self.reach.may_go() };
        let mut gone = Vec::new();
        while let [oldest, next, ..] = self.kept.make_contiguous() {
            let is_covered = next.base.iter().zip(&self.covered).all(|(base, covered)| base.index <= *covered);
            if !is_covered || oldest.sequence > may_go || self.votes.need(oldest.sequence) {
                break;
            }
            gone.extend(self.kept.pop_front().map(|oldest| oldest.sequence));
        }
        match &mut self.maker {
            Maker::Inline(maker) => maker.retire(gone).map_err(make_error),
            Maker::Helper { requests, .. } => requests.send(Request::Retire(gone)).map_err(|_| helper_gone()),
        }
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

    /// Where the audit leaves the heads of its trees ([`crate::AuditPlace::telling`]), to be stated by segments that are begun.
    pub fn tree_heads(&self) -> Arc<TreeHeads> {
        Arc::clone(&self.heads)
    }

    /// Where each shard stands.
    pub fn last(&self) -> &[Last] {
        &self.last
    }

    fn refusal(&self) -> AppendError {
        AppendError::ReadOnly(self.full.clone().unwrap_or_else(|| "no space left".into()))
    }
}

const _: () = assert!(RECORD_HEADER <= END_MARK);
