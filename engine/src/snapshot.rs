//! The engine's state as plain data, in small parts, and back.

use wincode::{SchemaRead, SchemaWrite};

/// A small piece of an engine's state: at most 1 MiB encoded.
#[derive(Clone, Debug, PartialEq, Eq, SchemaWrite, SchemaRead)]
pub struct EnginePart(u8);

/// Why a snapshot could not be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RestoreError {
    /// It was written by a version that this program does not know.
    Version(u16),
    /// It contradicts itself; what.
    Broken(&'static str),
}

impl std::fmt::Display for RestoreError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Version(version) => write!(f, "the snapshot has version {version}, which is not known here"),
            Self::Broken(what) => write!(f, "the snapshot contradicts itself: {what}"),
        }
    }
}

impl std::error::Error for RestoreError {}
