//! Marks: what must happen somewhere in a batch of seeds, or the batch proves less than it says. Counts only.

/// What must happen.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[repr(u8)]
pub enum Mark {
    /// A start cut the tail of a flush that nobody was answered for.
    TailCut,
    /// A record of that tail was torn: there, and its checksum does not hold.
    RecordTorn,
    /// The power went while a process was starting.
    CrashInRecovery,
    /// The power went while a snapshot was being written.
    CrashInSnapshot,
    /// The power went while a batch was being written or synced.
    CrashInFlush,
    /// A command was sent again after a crash and got its first outcome.
    DuplicateAfterCrash,
    /// A command was sent again after a crash that had taken the first.
    LostCommandSentAgain,
    /// A deadline passed while nobody served.
    DeadlineWhileDown,
    /// The wall clock jumped across the end of an open lot.
    ClockJumpAcrossClose,
    /// A batch held a deadline and a client's command.
    DeadlineAndBidInOneBatch,
    /// A deadline waited for a command that was stamped before it and had not arrived.
    DeadlineWaited,
    /// The disk was full, commands were refused, and later they were taken again.
    FullAndBack,
    /// Nothing could be opened, commands were refused for it, and later they were taken again.
    DescriptorsOutAndBack,
    /// The next segment could not be made for want of a descriptor, and the log went on in the present one.
    SegmentNotMade,
    /// A segment was begun, and an old one was used again.
    SegmentRolled,
    /// See `SegmentRolled`.
    SegmentRecycled,
    /// A start used a snapshot and entries after it.
    SnapshotAndTail,
    /// A damaged snapshot was passed by.
    SnapshotPassedBy,
    /// A sync failed, and the process stopped.
    SyncFailed,
    /// A command panicked, and was passed by after the restart.
    PoisonPassedBy,
    /// A process ended as asked.
    GracefulStop,
    /// A batch was flushed on the core's thread, and another on the log's.
    FlushedByCore,
    /// See `FlushedByCore`.
    FlushedByLogThread,
    /// A subscriber went on after a restart with the steps it had missed.
    FeedResumed,
    /// A subscriber's place had left the window, and it was told so.
    FeedGone,
    /// What a key came to was asked, and told.
    KeyRecalled,
    /// Something that was durable had changed, and a start refused and said where.
    DamageRefused,
    /// What a lying or careless disk lost was found missing.
    LieRefused,
    /// A start on a device that had failed for ever was refused, and said so.
    DeadDeviceRefused,
    /// A command found the ring full, and was told so.
    Busy,
    /// What was durable reached the archive.
    Archived,
    /// The archive was away, and got everything later.
    ArchiveCaughtUp,
    /// A lie of the disk, or rot, was found when a durable record was read to be archived.
    DamageNotArchived,
    /// A folder was restored from the archive, and was all there.
    Restored,
    /// A folder was restored to a point before the end.
    RestoredToPoint,
    /// A scrub of a running node looked at everything, and all of it was sound.
    ScrubbedSound,
    /// A scrub found a damaged segment behind which another was begun.
    ScrubFoundSegment,
    /// A scrub found a damaged snapshot.
    ScrubFoundSnapshot,
    /// A scrub came to a file that had gone meanwhile.
    ScrubbedFileGone,
    /// A process ended in the middle of a scrub.
    ScrubInterrupted,
    /// A damaged segment was put aside, because nothing needed it any more.
    DamagePutAside,
    /// A scrub read a file wrong once, and said that of it.
    ReadWrongOnce,
    /// A start was refused over bytes that the device holds, and did not read.
    MisreadRefused,
    /// A start read so slowly that a deadline passed before anybody was served.
    DeadlineInSlowStart,
    /// The machine was suspended across a deadline, and its clocks ran on.
    SuspendedAcrossDeadline,
    /// It was suspended with its monotonic clock, and the wall clock jumped across a deadline.
    ClockStoodAcrossDeadline,
    /// A segment stated a tree, and its root was compared.
    TreeHeadStated,
}

impl Mark {
    /// All of them.
    pub const ALL: [Self; 47] = [
        Self::TailCut,
        Self::RecordTorn,
        Self::CrashInRecovery,
        Self::CrashInSnapshot,
        Self::CrashInFlush,
        Self::DuplicateAfterCrash,
        Self::LostCommandSentAgain,
        Self::DeadlineWhileDown,
        Self::ClockJumpAcrossClose,
        Self::DeadlineAndBidInOneBatch,
        Self::DeadlineWaited,
        Self::FullAndBack,
        Self::DescriptorsOutAndBack,
        Self::SegmentNotMade,
        Self::SegmentRolled,
        Self::SegmentRecycled,
        Self::SnapshotAndTail,
        Self::SnapshotPassedBy,
        Self::SyncFailed,
        Self::PoisonPassedBy,
        Self::GracefulStop,
        Self::FlushedByCore,
        Self::FlushedByLogThread,
        Self::FeedResumed,
        Self::FeedGone,
        Self::KeyRecalled,
        Self::DamageRefused,
        Self::LieRefused,
        Self::DeadDeviceRefused,
        Self::Busy,
        Self::Archived,
        Self::ArchiveCaughtUp,
        Self::DamageNotArchived,
        Self::Restored,
        Self::RestoredToPoint,
        Self::ScrubbedSound,
        Self::ScrubFoundSegment,
        Self::ScrubFoundSnapshot,
        Self::ScrubbedFileGone,
        Self::ScrubInterrupted,
        Self::DamagePutAside,
        Self::ReadWrongOnce,
        Self::MisreadRefused,
        Self::DeadlineInSlowStart,
        Self::SuspendedAcrossDeadline,
        Self::ClockStoodAcrossDeadline,
        Self::TreeHeadStated,
    ];
}

/// How often each mark was hit.
#[derive(Clone, Debug)]
pub struct Marks([u64; Mark::ALL.len()]);

impl Default for Marks {
    fn default() -> Self {
        Self([0; Mark::ALL.len()])
    }
}

impl Marks {
    /// It happened.
    pub fn hit(&mut self, mark: Mark) {
        self.0[mark as usize] += 1;
    }

    /// How often it happened.
    pub fn count(&self, mark: Mark) -> u64 {
        self.0[mark as usize]
    }

    /// Adds what happened elsewhere.
    pub fn add(&mut self, other: &Self) {
        for (count, more) in self.0.iter_mut().zip(other.0) {
            *count += more;
        }
    }

    /// All of them, by name.
    pub fn named(&self) -> impl Iterator<Item = (String, u64)> + '_ {
        Mark::ALL.iter().map(|mark| (format!("{mark:?}"), self.count(*mark)))
    }

    /// Those that never happened.
    pub fn missing(&self) -> Vec<Mark> {
        Mark::ALL.into_iter().filter(|mark| self.count(*mark) == 0).collect()
    }
}
