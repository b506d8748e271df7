//! What the log and the archive tell each other without waiting for one another: how far the log is durable, and which
//! segments the archive has.

use std::sync::atomic::{AtomicU64, Ordering};

/// A place in the log: a segment and an offset in it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Extent {
    /// The segment; 0 before the first.
    pub sequence: u32,
    /// Where in it.
    pub offset: u32,
}

/// Shared by the log, which writes how far it is durable, and the archive, which writes what may go.
#[derive(Debug, Default)]
pub struct Reach {
    durable: AtomicU64,
    archived: AtomicU64,
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
}
