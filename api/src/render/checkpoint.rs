//! A signed root as it is told: on the feed, in receipts and in exports. What is signed is in persistence/docs/audit.md.

use persistence::checkpoint::{Checkpoint, hex};
use serde::Serialize;

use crate::body::TimeText;

/// A signed root.
#[derive(Clone, Debug, Serialize)]
pub struct CheckpointBody<'a> {
    /// Leaves in the tree.
    pub size: u64,
    /// The root, in hexadecimal.
    pub root: String,
    /// When it was signed.
    pub at: TimeText,
    /// The Ed25519 signature, in hexadecimal.
    pub sig: String,
    /// The shard whose tree it is.
    pub shard: u16,
    /// The history.
    pub epoch: &'a str,
    /// The id of the key that signed.
    pub kid: &'a str,
}

/// Writes a signed root.
pub fn checkpoint<'a>(checkpoint: &Checkpoint, epoch: &'a str, kid: &'a str) -> CheckpointBody<'a> {
    CheckpointBody {
        size: checkpoint.size,
        root: hex(&checkpoint.root),
        at: TimeText(checkpoint.at),
        sig: hex(&checkpoint.signature),
        shard: checkpoint.shard,
        epoch,
        kid,
    }
}
