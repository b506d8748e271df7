//! Why an archive can't be written or read; each variant names the object, and says what to do.

use std::path::PathBuf;

use super::store::StoreError;
use crate::error::OpenError;
use crate::keys::KeyError;

/// What is wrong with an archive.
#[derive(Debug, thiserror::Error)]
pub enum ArchiveError {
    /// The store refused: it is tried again.
    #[error(
        "{place}, object {object}: {error}. Nothing is lost: what is not archived stays in the data folder, and is tried again"
    )]
    Store {
        /// The store.
        place: String,
        /// The object.
        object: String,
        /// Its words.
        error: StoreError,
    },
    /// The name is taken by other bytes: two nodes write to this archive, or someone changed an object.
    #[error(
        "object {object}: there is one of this name with other bytes, so nothing was written. Find out who wrote it; give this node a location of its own (option --archive)"
    )]
    Conflict {
        /// The object.
        object: String,
    },
    /// An object that must be there is not.
    #[error(
        "object {object} is missing: expected {expected}. Bring it back from a copy of the archive, or restore to a point that does not need it (option --to)"
    )]
    Missing {
        /// Its name, or how it begins.
        object: String,
        /// What it should hold.
        expected: String,
    },
    /// An object is not what its name says.
    #[error(
        "object {object} is damaged: expected {expected}, found {found}. Bring it back from a copy of the archive, or restore to a point that does not need it (option --to)"
    )]
    Damaged {
        /// The object.
        object: String,
        /// What its name promises.
        expected: String,
        /// What it holds.
        found: String,
    },
    /// The archive belongs to another log.
    #[error(
        "object {object}: the archive belongs to another {what}: expected {expected}, found {found}. Give the location that belongs to it"
    )]
    Foreign {
        /// The object.
        object: String,
        /// What differs.
        what: &'static str,
        /// This side's.
        expected: String,
        /// The archive's.
        found: String,
    },
    /// Made by another version.
    #[error(
        "object {object}: archive version {found} is not known to this program, which reads version {expected}; start the program that reads it"
    )]
    Version {
        /// The object.
        object: String,
        /// This program's.
        expected: u32,
        /// The archive's, as it is written there.
        found: String,
    },
    /// The archive holds what this log does not: the folder was set back, or another node went on with its history.
    #[error(
        "segment {segment:016x}: the archive holds {archived}, this data folder {here}. They are no longer one history: do not let this node go on, `restore` a folder from the archive, with --new-history if answers were given in both"
    )]
    Forked {
        /// The segment.
        segment: u64,
        /// What the archive holds.
        archived: String,
        /// What the folder holds.
        here: String,
    },
    /// There is no archive.
    #[error(
        "{place}: there is no archive here ({object} is missing). Give the location that `backup` or the option --archive of a node wrote to"
    )]
    Empty {
        /// The store.
        place: String,
        /// The object that every archive has.
        object: String,
    },
    /// The point is not in the archive.
    #[error("--to {wanted}: not in the archive, which holds {held}. Give a point in it")]
    Target {
        /// What was asked for.
        wanted: String,
        /// What could be.
        held: String,
    },
    /// The folder to restore to holds something.
    #[error("{}: not an empty folder. A restore writes to an empty or new folder only; give another (option --data), or move this one away", .dir.display())]
    NotEmpty {
        /// The folder.
        dir: PathBuf,
    },
    /// The data folder can't be read or written.
    #[error(transparent)]
    Folder(#[from] OpenError),
    /// The keys are missing or wrong.
    #[error(transparent)]
    Keys(#[from] KeyError),
}

impl ArchiveError {
    /// Whether the same may succeed later.
    pub fn is_passing(&self) -> bool {
        matches!(self, Self::Store { .. })
    }
}
