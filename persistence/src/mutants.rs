//! Known bugs, put back one at a time so that the simulator can show that it finds them. Compiled only with the feature
//! `mutants`, which only tests switch on; one is active on the thread that chose it, and none by default.

use std::cell::Cell;

/// A bug.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mutant {
    /// Every third flush is not synced.
    SyncSkipped,
    /// A failed sync is tried again, and the second one believed.
    FailedSyncRetried,
    /// Recovery takes a record whose checksum does not hold.
    BadChecksumAccepted,
    /// Damage before a later flush is cut as if it were a torn tail.
    CutBelowTheCommitMark,
    /// All segments of files have one generation.
    GenerationNotSalted,
    /// A new segment's zeros and length are not synced.
    LengthNotSynced,
    /// A new segment's name is not synced.
    NameNotSynced,
    /// A part of a snapshot gets lost on the way back.
    SnapshotPartLost,
    /// Answers leave before the flush.
    AnsweredBeforeTheFlush,
    /// A deadline does not wait for commands that were stamped before it and are on their way.
    DeadlineDoesNotWait,
    /// A stamp holds no slot, so no deadline waits for its command.
    StampNotHeld,
    /// The clock begins at the wall clock although the log's last stamp is later.
    ClockBehindTheLog,
    /// A new segment says that the one before it ended a few bytes earlier.
    PreviousEndWrong,
    /// A failed write or sync is told as a lack of room, and the log goes on.
    FailureForgotten,
    /// A segment goes although the archive does not have it yet.
    TruncatedBeforeArchived,
    /// A batch that is refused for want of space was written all the same.
    RefusedStillWritten,
    /// Commands stand in the order in which they arrived, also around a deadline.
    NotSortedByStamp,
    /// What a killed process left in the cache is taken as durable.
    UnsyncedCacheTrusted,
    /// A folder that can't be opened to be synced is taken for one whose sync failed.
    LackOfDescriptorsFatal,
    /// A scrub is told what the cache holds, and not what the device does.
    ScrubReadsTheCache,
    /// A scrub leaves out the newest of the segments behind which another was begun.
    ScrubEndsEarly,
    /// A segment says that the tree it states covers everything before it, wherever the audit is.
    TreeHeadAhead,
}

impl Mutant {
    /// All of them.
    pub const ALL: [Self; 22] = [
        Self::SyncSkipped,
        Self::FailedSyncRetried,
        Self::BadChecksumAccepted,
        Self::CutBelowTheCommitMark,
        Self::GenerationNotSalted,
        Self::LengthNotSynced,
        Self::NameNotSynced,
        Self::SnapshotPartLost,
        Self::AnsweredBeforeTheFlush,
        Self::DeadlineDoesNotWait,
        Self::StampNotHeld,
        Self::ClockBehindTheLog,
        Self::PreviousEndWrong,
        Self::FailureForgotten,
        Self::TruncatedBeforeArchived,
        Self::RefusedStillWritten,
        Self::NotSortedByStamp,
        Self::UnsyncedCacheTrusted,
        Self::LackOfDescriptorsFatal,
        Self::ScrubReadsTheCache,
        Self::ScrubEndsEarly,
        Self::TreeHeadAhead,
    ];
}

thread_local! {
    static ACTIVE: Cell<Option<Mutant>> = const { Cell::new(None) };
}

/// Chooses the bug of this thread.
pub fn choose(mutant: Option<Mutant>) {
    ACTIVE.set(mutant);
}

/// Whether this bug is active on this thread.
pub fn is(mutant: Mutant) -> bool {
    ACTIVE.get() == Some(mutant)
}
