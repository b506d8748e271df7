//! Records on their way to the log: encoded once, side by side, in a buffer that is used again and again.
//!
//! The log thread only fills in what depends on the place (mark and checksum) and writes the buffer as it is.

use engine::Entry;

use crate::codec::{self, EncodeError, SCHEMA};
use crate::format::{RECORD_HEADER, RecordHeader, record_len};
use crate::{Sealer, Vote};

/// What a record is. The numbers are on disk: never renumber.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Kind {
    /// A batch of commands of one shard.
    Entry = 1,
    /// First record of a segment: where the log stood when the segment was begun.
    Open = 2,
    /// Term, vote and commit mark of one shard.
    Vote = 3,
    /// As [`Kind::Entry`], and one of its commands names a command to be passed by; found before the replay.
    Skip = 4,
    /// The Merkle tree of one shard as of an entry.
    TreeHead = 5,
}

impl Kind {
    /// All kinds, in order of their numbers.
    pub const ALL: [Self; 5] = [Self::Entry, Self::Open, Self::Vote, Self::Skip, Self::TreeHead];

    /// The kind with number `byte`.
    pub fn from_byte(byte: u8) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| *kind as u8 == byte)
    }

    /// The first format version whose segments may hold it.
    pub const fn since(self) -> u32 {
        match self {
            Self::Entry | Self::Open | Self::Vote | Self::Skip => 1,
            Self::TreeHead => 3,
        }
    }

    /// Whether the record has a place of its own in the shard's log.
    pub const fn is_entry(self) -> bool {
        matches!(self, Self::Entry | Self::Skip)
    }
}

/// Which space a batch may use.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Class {
    /// Commands of clients: refused while the log is read-only.
    #[default]
    Ordinary,
    /// Ticks, take-overs, votes: may use the reserve that is kept for them.
    Control,
}

/// Records that become durable by one flush.
#[derive(Debug, Default)]
pub struct Batch {
    /// Which space it may use.
    pub class: Class,
    /// Chosen by who submits it and returned with the answer.
    pub ticket: u64,
    pub(crate) bytes: Vec<u8>,
    pub(crate) starts: Vec<usize>,
}

impl Batch {
    /// An empty batch.
    pub fn new() -> Self {
        Self::default()
    }

    /// Empties it and keeps its buffers.
    pub fn clear(&mut self) {
        self.class = Class::Ordinary;
        self.ticket = 0;
        self.bytes.clear();
        self.starts.clear();
    }

    /// Empties it but keeps its ticket.
    pub(crate) fn empty(&mut self) {
        self.bytes.clear();
        self.starts.clear();
    }

    /// How many records it holds.
    pub fn len(&self) -> usize {
        self.starts.len()
    }

    /// Whether it holds none.
    pub fn is_empty(&self) -> bool {
        self.starts.is_empty()
    }

    /// Bytes it will take in a segment.
    pub fn bytes_len(&self) -> usize {
        self.bytes.len()
    }

    /// The payload of record `number`, from 0, as it will be stored.
    ///
    /// # Panics
    /// If there are fewer records.
    pub fn payload(&self, number: usize) -> &[u8] {
        let record = &self.bytes[self.range(number)];
        let length = RecordHeader::decode(record).length as usize;
        &record[RECORD_HEADER..RECORD_HEADER + length]
    }

    /// Adds an entry of a shard. Secret parts are sealed here. On an error the batch is as before.
    pub fn push_entry(
        &mut self,
        shard: u16,
        term: u64,
        entry: &Entry,
        sealer: &Sealer,
    ) -> Result<(), EncodeError> {
        self.push_with(shard, term, entry.index, codec::kind_of(entry), SCHEMA, |bytes| {
            codec::encode(entry, shard, sealer, bytes)
        })
    }

    /// Adds the term, vote and commit mark of a shard.
    pub fn push_vote(&mut self, shard: u16, vote: Vote) -> Result<(), EncodeError> {
        self.push_with(shard, vote.term, vote.commit, Kind::Vote, SCHEMA, |bytes| {
            bytes.extend_from_slice(&vote.vote.to_le_bytes());
            Ok(())
        })
    }

    /// Adds a record whose payload `write` appends to the buffer.
    pub(crate) fn push_with(
        &mut self,
        shard: u16,
        term: u64,
        index: u64,
        kind: Kind,
        schema: u8,
        write: impl FnOnce(&mut Vec<u8>) -> Result<(), EncodeError>,
    ) -> Result<(), EncodeError> {
        let start = self.bytes.len();
        self.bytes.resize(start + RECORD_HEADER, 0);
        let written = write(&mut self.bytes).and_then(|()| {
            let length = self.bytes.len() - start - RECORD_HEADER;
            u32::try_from(length).map_err(|_| EncodeError::TooLarge)
        });
        let length = match written {
            Ok(length) => length,
            Err(error) => {
                self.bytes.truncate(start);
                return Err(error);
            }
        };
        let header = RecordHeader { length, index, term, synced: 0, shard, kind: kind as u8, schema };
        header.encode(&mut self.bytes[start..]);
        self.bytes.resize(start + record_len(length as usize), 0);
        self.starts.push(start);
        Ok(())
    }

    /// Adds the records of another batch.
    pub(crate) fn extend(&mut self, other: &Self) {
        let start = self.bytes.len();
        self.bytes.extend_from_slice(&other.bytes);
        self.starts.extend(other.starts.iter().map(|other| start + other));
    }

    /// Where record `number` lies in the buffer.
    pub(crate) fn range(&self, number: usize) -> std::ops::Range<usize> {
        let end = self.starts.get(number + 1).copied().unwrap_or(self.bytes.len());
        self.starts[number]..end
    }
}
