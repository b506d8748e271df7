//! The state machine of one shard: applies entries of the log and says what to answer and what happened.
//! Pure: no clock, no I/O; a deadline is handled when an entry at or after it comes.

use crate::{EnginePart, Entry, Key, LogTime, Lot, LotId, Reply, RestoreError, Step, Tender, TenderId};

/// The version of the rules' logic that new tenders are decided by.
pub const LOGIC_VERSION: u16 = 1;

/// Takes what applying an entry gives.
pub trait Sink {
    /// The answer to the command at `position` of the entry.
    fn reply(&mut self, position: usize, reply: &Reply);

    /// A lot made a step; tender and lot are exactly as of that step.
    fn step(&mut self, tender: &Tender, lot: &Lot, step: &Step) {
        let _ = (tender, lot, step);
    }
}

/// Takes nothing.
impl Sink for () {
    fn reply(&mut self, _: usize, _: &Reply) {}
}

/// What was answered under a key.
#[derive(Clone, Debug, PartialEq, Eq)]
#[allow(clippy::large_enum_variant)] // Short-lived; never stored.
pub enum Recall {
    /// This.
    Reply(Reply),
    /// The key was used with another body.
    Reused,
}

/// All tenders of one shard.
#[derive(Clone, Debug, Default)]
pub struct Engine {
    index: u64,
    now: LogTime,
    tenders: Vec<Tender>,
}

impl Engine {
    /// No tenders, before the first entry.
    pub fn new() -> Self {
        Self::default()
    }

    /// Applies the next entry; answers and steps go to `sink`.
    ///
    /// # Panics
    /// If the entry is not the next one, or a stamp runs backwards.
    pub fn apply(&mut self, entry: &Entry, sink: &mut impl Sink) {
        let _ = (entry, sink);
        todo!()
    }

    /// The last applied entry; 0 before the first.
    pub fn index(&self) -> u64 {
        self.index
    }

    /// The stamp of the last applied command.
    pub fn now(&self) -> LogTime {
        self.now
    }

    /// When something will happen by itself next; a tick is due then.
    pub fn next_deadline(&self) -> Option<LogTime> {
        todo!()
    }

    /// SHA-256 over the encoded snapshot.
    pub fn state_hash(&self) -> [u8; 32] {
        todo!()
    }

    /// Makes room between batches, so that applying a bid allocates nothing.
    pub fn maintain(&mut self) {
        todo!()
    }

    /// Told before replay: the command at `position` of entry `index` panicked once. It is answered
    /// [`Answer::Internal`](crate::Answer::Internal) under its key and has no effect.
    pub fn pass_by(&mut self, index: u64, position: u32) {
        let _ = (index, position);
        todo!()
    }

    /// The state as plain data, in parts of at most 1 MiB.
    pub fn snapshot(&self) -> impl Iterator<Item = EnginePart> + '_ {
        std::iter::empty()
    }

    /// The engine that a snapshot was taken of.
    pub fn restore(parts: impl Iterator<Item = EnginePart>) -> Result<Self, RestoreError> {
        let _ = parts;
        todo!()
    }

    /// The tender with this id.
    pub fn tender(&self, id: TenderId) -> Option<&Tender> {
        self.tenders.iter().find(|tender| tender.id == id)
    }

    /// The lot with this id, and its tender.
    pub fn lot(&self, id: LotId) -> Option<(&Tender, &Lot)> {
        let tender = self.tender(id.tender())?;
        Some((tender, tender.lot(id.number())?))
    }

    /// All tenders, in order of creation.
    pub fn tenders(&self) -> impl DoubleEndedIterator<Item = &Tender> + ExactSizeIterator {
        self.tenders.iter()
    }

    /// What was answered under a key.
    pub fn recall(&self, key: Key) -> Option<Recall> {
        let _ = key;
        todo!()
    }

    /// Panics if the state contradicts itself.
    pub fn check_invariants(&self) {
        todo!()
    }
}
