//! Why a data folder can't be opened; each variant is something else that an operator does.

use std::io;
use std::path::{Path, PathBuf};

use crate::codec::DecodeError;
use crate::keys::KeyError;

/// Something that was durable is damaged or gone.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "{file}, offset {offset}: {what}: expected {expected}, found {found}. Nothing was changed. Restore this data folder from a backup, or copy the file from a sound copy; `reversetender log verify` shows the rest", file = .file.display()
)]
pub struct Corruption {
    /// The file.
    pub file: PathBuf,
    /// Where in it.
    pub offset: u64,
    /// What is wrong.
    pub what: &'static str,
    /// What should be there.
    pub expected: String,
    /// What is there.
    pub found: String,
}

/// Why a data folder can't be opened.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// Another process has it open: stop that one, or give this one another folder.
    #[error("{}: another process uses this data folder", .dir.display())]
    Locked {
        /// The folder.
        dir: PathBuf,
    },
    /// An option is out of range: change it.
    #[error("{name}: {value} is not valid; {valid}")]
    Option {
        /// The option.
        name: &'static str,
        /// Its value.
        value: String,
        /// What would be valid.
        valid: String,
    },
    /// It belongs to another cluster, history or shard set: give the right folder.
    #[error(
        "{}: belongs to another log ({what}): expected {expected}, found {found}. Nothing was changed; give the folder that belongs to it, or restore this file from a backup", .file.display()
    )]
    Foreign {
        /// The file.
        file: PathBuf,
        /// What differs.
        what: &'static str,
        /// This log's.
        expected: String,
        /// The file's.
        found: String,
    },
    /// Made by another version: start the program that reads it.
    #[error(
        "{}: format version {found} is not known to this program, which reads version {expected}. Nothing was changed; start the program that wrote it, or restore the file from a backup", .file.display()
    )]
    Version {
        /// The file.
        file: PathBuf,
        /// This program's.
        expected: u32,
        /// The file's.
        found: u32,
    },
    /// Something that was durable is damaged or gone: restore it.
    #[error(transparent)]
    Corrupt(#[from] Corruption),
    /// An entry can't be read: start a newer program, or restore.
    #[error(
        "{}, offset {offset}: an entry can't be read: {error}. Start the program that wrote it, or restore this data folder from a backup", .file.display()
    )]
    Entry {
        /// The file.
        file: PathBuf,
        /// Where in it.
        offset: u64,
        /// What is wrong.
        error: DecodeError,
    },
    /// Something is wrong with the keys folder.
    #[error(transparent)]
    Keys(#[from] KeyError),
    /// The disk refused: look at the device, then start again.
    #[error("{}: {error}. {}", .path.display(), remedy(.error))]
    Disk {
        /// The file or folder.
        path: PathBuf,
        /// The error.
        error: io::Error,
    },
}

impl OpenError {
    pub(crate) fn disk(path: &Path) -> impl Fn(io::Error) -> Self + '_ {
        |error| Self::Disk { path: path.to_owned(), error }
    }
}

/// Whether nothing failed but that no file can be opened now: too many are. What was asked for was not done.
pub(crate) fn lacks_descriptor(error: &io::Error) -> bool {
    const EMFILE: i32 = 24;
    const ENFILE: i32 = 23;
    matches!(error.raw_os_error(), Some(EMFILE | ENFILE))
}

/// What an operator does about an error of the disk: a sentence without its point.
pub fn remedy(error: &io::Error) -> &'static str {
    match error.kind() {
        _ if lacks_descriptor(error) => {
            "Raise the limit of open files (LimitNOFILE, ulimit -n), or end what holds them, then start again"
        }
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => {
            "Free some space on this device, then start again"
        }
        io::ErrorKind::PermissionDenied | io::ErrorKind::ReadOnlyFilesystem => {
            "Let the user that runs this program read and write there, then start again"
        }
        io::ErrorKind::NotFound => "Check that the device is mounted and the path is right, then start again",
        _ => {
            "Look for this device in the system's log and start again when it works; if it does not, \
             `reversetender restore` fills a folder on another device from the archive"
        }
    }
}
