//! What raft reads of a group's log: the entries since the last compaction, in memory.
//!
//! Written to when raft hands entries out, before they are durable; what is durable is raft's own count. Never touches
//! a disk: what was compacted is behind a kept snapshot, and whoever needs it gets that.

use std::collections::VecDeque;
use std::sync::Arc;

use engine::Entry;
use raft::eraftpb::{self, ConfState, HardState, Snapshot};
use raft::{Error, GetEntriesContext, RaftState, StorageError};

use crate::Last;

/// One entry.
#[derive(Debug)]
struct Held {
    raft: eraftpb::Entry,
    /// None once it is applied: then only its bytes may be wanted, by a node that is behind.
    entry: Option<Arc<Entry>>,
}

/// The log of one group.
#[derive(Debug)]
pub(super) struct Store {
    members: ConfState,
    hard: HardState,
    /// The place before the first entry.
    start: Last,
    entries: VecDeque<Held>,
    /// Up to which index entries are kept as bytes alone.
    bare: u64,
}

impl Store {
    pub(super) fn new(members: ConfState, hard: HardState, start: Last) -> Self {
        Self { members, hard, start, entries: VecDeque::new(), bare: start.index }
    }

    pub(super) fn last(&self) -> Last {
        self.entries.back().map_or(self.start, |held| Last { index: held.raft.index, term: held.raft.term })
    }

    pub(super) fn members(&self) -> &ConfState {
        &self.members
    }

    fn place(&self, index: u64) -> Option<usize> {
        let place = index.checked_sub(self.start.index + 1)? as usize;
        (place < self.entries.len()).then_some(place)
    }

    /// The term of the entry at `index`.
    pub(super) fn term_of(&self, index: u64) -> Option<u64> {
        Some(self.entries[self.place(index)?].raft.term)
    }

    /// The entry at `index`, which is not applied, and its term.
    pub(super) fn get(&self, index: u64) -> Option<(u64, &Arc<Entry>)> {
        let held = &self.entries[self.place(index)?];
        Some((held.raft.term, held.entry.as_ref()?))
    }

    /// Everything up to `index` is applied.
    pub(super) fn applied(&mut self, index: u64) {
        for index in self.bare + 1..=index {
            if let Some(place) = self.place(index) {
                self.entries[place].entry = None;
            }
        }
        self.bare = self.bare.max(index);
    }

    /// Adds an entry behind the last one, or in place of one and all behind it.
    pub(super) fn append(&mut self, raft: eraftpb::Entry, entry: Arc<Entry>) {
        if let Some(place) = self.place(raft.index) {
            self.entries.truncate(place);
        }
        assert_eq!(raft.index, self.last().index + 1, "a log has no holes");
        self.entries.push_back(Held { raft, entry: Some(entry) });
    }

    /// Forgets the entries up to `index`.
    pub(super) fn compact(&mut self, index: u64) {
        while let Some(first) = self.entries.front()
            && first.raft.index <= index
        {
            self.start = Last { index: first.raft.index, term: first.raft.term };
            self.entries.pop_front();
        }
    }
}

impl raft::Storage for Store {
    fn initial_state(&self) -> raft::Result<RaftState> {
        Ok(RaftState::new(self.hard.clone(), self.members.clone()))
    }

    fn entries(
        &self,
        low: u64,
        high: u64,
        max_size: impl Into<Option<u64>>,
        _context: GetEntriesContext,
    ) -> raft::Result<Vec<eraftpb::Entry>> {
        let Some(place) = self.place(low) else {
            return Err(Error::Store(StorageError::Compacted));
        };
        let count = (high - low) as usize;
        if place + count > self.entries.len() {
            return Err(Error::Store(StorageError::Unavailable));
        }
        let mut room = max_size.into().unwrap_or(u64::MAX);
        let mut entries = Vec::with_capacity(count.min(64));
        for held in self.entries.range(place..place + count) {
            // 32 bytes for what is not data; the first one always travels.
            let size = held.raft.data.len() as u64 + 32;
            if size > room && !entries.is_empty() {
                break;
            }
            room = room.saturating_sub(size);
            entries.push(held.raft.clone());
        }
        Ok(entries)
    }

    fn term(&self, index: u64) -> raft::Result<u64> {
        if index == self.start.index {
            return Ok(self.start.term);
        }
        match self.place(index) {
            Some(place) => Ok(self.entries[place].raft.term),
            None if index < self.start.index => Err(Error::Store(StorageError::Compacted)),
            None => Err(Error::Store(StorageError::Unavailable)),
        }
    }

    fn first_index(&self) -> raft::Result<u64> {
        Ok(self.start.index + 1)
    }

    fn last_index(&self) -> raft::Result<u64> {
        Ok(self.last().index)
    }

    /// A reference: where the kept snapshot reaches at least.
    fn snapshot(&self, request_index: u64, _to: u64) -> raft::Result<Snapshot> {
        if self.start.index == 0 || self.start.index < request_index {
            return Err(Error::Store(StorageError::SnapshotTemporarilyUnavailable));
        }
        let mut snapshot = Snapshot::default();
        let metadata = snapshot.mut_metadata();
        (metadata.index, metadata.term) = (self.start.index, self.start.term);
        *metadata.mut_conf_state() = self.members.clone();
        Ok(snapshot)
    }
}
