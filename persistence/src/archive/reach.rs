//! What the log, the archive and the scrub tell each other without waiting for one another: how far the log is durable,
//! which segments the archive has, and which of them were found damaged.

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};

/// A place in the log: a segment and an offset in it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Extent {
    /// The segment; 0 before the first.
    pub sequence: u32,
    /// Where in it.
    pub offset: u32,
}

/// Shared by the log, which writes how far it is durable, the archive, which writes what may go, and the scrub, which
/// writes what it found damaged.
#[derive(Debug, Default)]
pub struct Reach {
    durable: AtomicU64,
    archived: AtomicU64,
    keeps: AtomicBool,
    damaged: Mutex<BTreeSet<u64>>,
}

impl Reach {
    /// Everything before this is durable.
    pub fn durable(&self) -> Extent {
        let both = self.durable.load(Ordering::Acquire);
        Extent { sequence: (both >> 32) as u32, offset: both as u32 }
    }

    pub(crate) fn set_durable(&self, sequence: u64, offset: u32) {
        // Segments are numbered from 1; the four thousand millionth is 256 PiB away.
        self.durable.store(sequence << 32 | u64::from(offset), Ordering::Release);
    }

    /// Every segment up to this one is in the archive to its end.
    pub fn archived(&self) -> u64 {
        self.archived.load(Ordering::Acquire)
    }

    /// Raises [`Reach::archived`].
    pub fn set_archived(&self, sequence: u64) {
        self.archived.fetch_max(sequence, Ordering::AcqRel);
    }

    /// From now on a segment goes only when it is archived.
    pub(crate) fn keep(&self) {
        self.keeps.store(true, Ordering::Release);
    }

    /// Up to which segment the archive, if there is one, allows them to go.
    pub(crate) fn may_go(&self) -> u64 {
        if self.keeps.load(Ordering::Acquire) { self.archived() } else { u64::MAX }
    }

    /// What this segment holds is not what was written: it is not written to again, and once nothing needs it any more
    /// it is put aside.
    pub fn set_damaged(&self, sequence: u64) {
        self.damaged.lock().unwrap_or_else(PoisonError::into_inner).insert(sequence);
    }

    /// The segments that were found damaged since the start.
    pub fn damaged(&self) -> BTreeSet<u64> {
        self.damaged.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}
