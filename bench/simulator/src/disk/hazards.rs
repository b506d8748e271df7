//! What may go wrong with a disk, and how the power goes. Plain data; decides nothing.

/// What may go wrong from now on. Zero is never; otherwise one in so many operations.
#[derive(Clone, Copy, Debug, Default)]
pub struct Hazards {
    /// The power goes (or the process is killed) at an operation; ten times as often while writes are pending.
    pub crash: u64,
    /// A sync fails once, and what it should have made durable is lost.
    pub sync_error: u64,
    /// A write or a creation fails once.
    pub write_error: u64,
    /// A sync says it is done, and the device kept what it had before.
    pub lie: u64,
    /// One sector of a sync never reaches its place.
    pub lost: u64,
    /// One sector of a sync lands in another place.
    pub misdirect: u64,
    /// A file read back from the device shows one sector as it was before the last write.
    pub stale: u64,
    /// A file read back from the device shows one sector of another place; one in four of these places does so from then on.
    pub misread: u64,
    /// Nanoseconds that one read takes at most; one in a thousand takes seconds.
    pub read_ns: i64,
    /// Nothing can be opened for want of a descriptor: neither a file nor, to be read or synced, a folder.
    pub descriptors: u64,
    /// Bytes that all files may take together.
    pub capacity: Option<u64>,
    /// The device has failed, and stays so until it is replaced.
    pub broken: Option<Broken>,
}

/// What a device that failed for ever still does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Broken {
    /// Reads work, nothing can be written: what worn flash memory does.
    Writes,
    /// Every operation fails.
    All,
}

impl Broken {
    /// All of them.
    pub const ALL: [Self; 2] = [Self::Writes, Self::All];
}

/// How the power goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Crash {
    /// All that is pending is lost.
    Lost,
    /// All that is pending has reached the device.
    Kept,
    /// Only the process ends; the cache is as it was.
    Process,
    /// Each sector has one of its pending versions or none: any order of writes between two syncs.
    Reordered,
    /// The first part of the pending sectors of each file.
    Torn,
}

impl Crash {
    /// All of them.
    pub const ALL: [Self; 5] = [Self::Lost, Self::Kept, Self::Process, Self::Reordered, Self::Torn];

    /// Its name in figures.
    pub const fn word(self) -> &'static str {
        match self {
            Self::Lost => "crash: unsynced data lost",
            Self::Kept => "crash: unsynced data kept",
            Self::Process => "crash: process killed",
            Self::Reordered => "crash: writes reordered",
            Self::Torn => "crash: write torn",
        }
    }
}
