//! Heads of the shards' Merkle trees, on their way from the audit to the log.
//!
//! The audit computes them beside the core and leaves them here; whenever a segment is begun the log writes down what is
//! here. Nobody waits: what is not here yet is stated by a later segment. The log says where its present segment begins,
//! so that the head as of exactly there is kept: with it a segment and the one behind it can be checked by themselves.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use wincode::{SchemaRead, SchemaWrite};

use crate::merkle::{Frontier, Hash};
use crate::{Batch, Kind, Last};

/// Version of the payload schema of a record of this kind.
const SCHEMA: u8 = 1;
/// Bytes of its payload without hashes: base, size, and how many hashes follow.
pub(crate) const PAYLOAD_MIN: usize = 24;

/// The tree of a shard as of an entry: enough to go on from there.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TreeHead {
    /// The last entry whose commands are in it.
    pub index: u64,
    /// How many commands lie before the tree's first leaf, or stand together in it; 0 when it begins with the log.
    pub(crate) base: u64,
    pub(crate) tree: Frontier,
}

/// Its payload, schema 1.
#[derive(SchemaWrite, SchemaRead)]
struct Stored {
    base: u64,
    tree: Frontier,
}

impl TreeHead {
    /// How many leaves the tree has.
    pub fn size(&self) -> u64 {
        self.tree.size()
    }

    /// The root over all leaves.
    pub fn root(&self) -> Hash {
        self.tree.root()
    }

    fn push(&self, shard: u16, batch: &mut Batch) {
        let stored = Stored { base: self.base, tree: self.tree.clone() };
        let written = batch.push_with(shard, 0, self.index, Kind::TreeHead, SCHEMA, |bytes| {
            wincode::serialize_into(bytes, &stored).map_err(|_| crate::EncodeError::TooLarge)
        });
        written.expect("a tree head is small");
    }

    /// What a record says; none: its checksum holds, and it is not what a log writes.
    pub(crate) fn read(index: u64, schema: u8, payload: &[u8]) -> Option<Self> {
        let Stored { base, tree } = wincode::deserialize_exact(payload).ok().filter(|_| schema == SCHEMA)?;
        tree.is_sound().then_some(Self { index, base, tree })
    }
}

/// The heads of all shards.
pub struct TreeHeads {
    shards: Box<[Slot]>,
}

struct Slot {
    /// The last entry before the present segment.
    begins: AtomicU64,
    told: Mutex<Told>,
}

#[derive(Default)]
struct Told {
    /// As of the last entry that the audit has hashed; its index is 0 before the first.
    newest: TreeHead,
    /// As of the beginning of the present segment.
    begun: Option<TreeHead>,
    /// What the log says that the audit has not come to yet, oldest first.
    stated: VecDeque<TreeHead>,
    /// What it said and the audit does not find.
    disputed: Option<TreeHead>,
}

impl Slot {
    fn lock(&self) -> MutexGuard<'_, Told> {
        self.told.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl TreeHeads {
    /// Nothing is hashed yet; the log says `stated`, each with its shard, in the order of the log.
    pub(crate) fn new(begins: &[Last], stated: Vec<(u16, TreeHead)>) -> Self {
        let slot = |last: &Last| Slot { begins: AtomicU64::new(last.index), told: Mutex::default() };
        let heads = Self { shards: begins.iter().map(slot).collect() };
        for (shard, head) in stated {
            heads.shards[usize::from(shard)].lock().stated.push_back(head);
        }
        heads
    }

    /// The audit has hashed everything of a shard up to `index`.
    pub(crate) fn publish(&self, shard: u16, index: u64, base: u64, tree: &Frontier) {
        let slot = &self.shards[usize::from(shard)];
        let told = &mut *slot.lock();
        (told.newest.index, told.newest.base) = (index, base);
        told.newest.tree.copy_from(tree);
        if slot.begins.load(Ordering::SeqCst) == index {
            told.begun = Some(told.newest.clone());
        }
        while let Some(stated) = told.stated.pop_front_if(|stated| stated.index <= index) {
            // A tree that begins elsewhere says nothing about this one.
            if stated.index == index && stated.base == base && stated.tree != *tree {
                told.disputed = Some(stated);
            }
        }
    }

    /// A head that the log states and the audit does not find when it hashes the same entries: they were changed.
    pub(crate) fn disputed(&self, shard: u16) -> Option<TreeHead> {
        self.shards[usize::from(shard)].lock().disputed.clone()
    }

    /// Adds what is known now of entries up to `last` to what a segment begins with. Leaves out what another thread has
    /// in its hands.
    pub(crate) fn state(&self, last: &[Last], batch: &mut Batch) {
        for (shard, (slot, last)) in self.shards.iter().zip(last).enumerate() {
            let Ok(told) = slot.told.try_lock() else { continue };
            let Told { newest, begun, .. } = &*told;
            let begun = begun.as_ref().filter(|begun| begun.index < newest.index);
            for head in begun.into_iter().chain([newest]) {
                if !(1..=last.index).contains(&head.index) {
                    continue;
                }
                if mutant!(TreeHeadAhead) {
                    TreeHead { index: last.index, ..head.clone() }.push(shard as u16, batch);
                    continue;
                }
                head.push(shard as u16, batch);
            }
        }
    }

    /// A segment is begun behind `base`.
    pub(crate) fn begin(&self, base: &[Last]) {
        for (slot, base) in self.shards.iter().zip(base) {
            slot.begins.store(base.index, Ordering::SeqCst);
            // When nothing of the shard comes any more, the audit does not look again.
            if let Ok(mut told) = slot.told.try_lock() {
                told.begun = (told.newest.index == base.index).then(|| told.newest.clone());
            }
        }
    }
}
