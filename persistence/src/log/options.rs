//! Where a node's log lies and how it is laid out. Never touches the disk.

use std::path::PathBuf;

use crate::Seal;
use crate::error::OpenError;
use crate::format::{SEGMENT_BYTES, SEGMENT_BYTES_MAX, SEGMENT_BYTES_MIN, SHARDS_MAX};
use crate::keys::{MasterKey, Random, system_random};

/// Where a node's log lies and how it is laid out.
#[derive(Clone, Debug)]
pub struct Options {
    /// The data folder.
    pub dir: PathBuf,
    /// The keys folder, outside the backup of the data folder.
    pub keys_dir: PathBuf,
    /// Size of new segments, [`SEGMENT_BYTES_MIN`] to [`SEGMENT_BYTES_MAX`] bytes, a multiple of 4096.
    pub segment_bytes: u32,
    /// Shards of a new folder, the system shard included; an old folder keeps the number it was made with.
    pub shards: u16,
    /// The cluster the folder must belong to; none: a new folder gets a new one, an old one keeps its own.
    pub cluster: Option<u128>,
    /// The node is one of several: a new folder's history is the cluster's own, and [`crate::Recovered::entries`] ends
    /// where the log is known to be committed.
    pub replicated: bool,
    /// What is sealed; what is there stays as it is, and readable.
    pub seal: Seal,
    /// Number of the node; part of the keys of what it seals.
    pub node: u16,
    /// The master key, when the keys folder is not to hold it.
    pub master: Option<MasterKey>,
    /// Where ids, generations, keys and nonces come from.
    pub random: Random,
}

impl Options {
    /// The usual layout: segments of [`SEGMENT_BYTES`], the system shard and eight more.
    pub fn new(dir: impl Into<PathBuf>, keys_dir: impl Into<PathBuf>) -> Self {
        Self {
            dir: dir.into(),
            keys_dir: keys_dir.into(),
            segment_bytes: SEGMENT_BYTES,
            shards: 9,
            cluster: None,
            replicated: false,
            seal: Seal::Secrets,
            node: 0,
            master: None,
            random: system_random,
        }
    }

    pub(super) fn check(&self) -> Result<(), OpenError> {
        let (bytes, shards) = (self.segment_bytes, self.shards);
        if !(SEGMENT_BYTES_MIN..=SEGMENT_BYTES_MAX).contains(&bytes) || bytes % 4096 != 0 {
            let valid = format!("a multiple of 4096 from {SEGMENT_BYTES_MIN} to {SEGMENT_BYTES_MAX} is");
            return Err(OpenError::Option { name: "segment_bytes", value: bytes.to_string(), valid });
        }
        if !(1..=SHARDS_MAX).contains(&shards) {
            let valid = format!("1 to {SHARDS_MAX}, the system shard included, is");
            return Err(OpenError::Option { name: "shards", value: shards.to_string(), valid });
        }
        Ok(())
    }
}
