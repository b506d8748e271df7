//! Signed roots: what the node vouches for, in a form that anybody can check with the node's public key.
//!
//! Owns the texts that are signed (docs/audit.md). Never looks at a tree or a clock.

use aws_lc_rs::signature::{ED25519, UnparsedPublicKey};
use engine::LogTime;

pub use crate::audit_key::{AuditSigner, HANDOVER_TEXT, Handover, kid_of};
use crate::merkle::Hash;

/// First line of the text that is signed for a root.
pub const CHECKPOINT_TEXT: &str = "reversetender checkpoint 1";
/// First line of the text that is signed for an export or a receipt.
pub const DOCUMENT_TEXT: &str = "reversetender audit 1";

/// The root of a shard's tree at one size, signed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Checkpoint {
    /// The shard.
    pub shard: u16,
    /// How many leaves the tree has.
    pub size: u64,
    /// Its root.
    pub root: Hash,
    /// When it was signed.
    pub at: LogTime,
    /// Ed25519 over [`Checkpoint::text`].
    pub signature: [u8; 64],
}

impl Checkpoint {
    /// The text that is signed: six lines, each ended by a line feed: `reversetender checkpoint 1`, the epoch, the
    /// shard, the size, the root in lower-case hexadecimal, the time in milliseconds.
    pub fn text(&self, epoch: &str) -> String {
        let Self { shard, size, root, at, .. } = self;
        format!("{CHECKPOINT_TEXT}\n{epoch}\n{shard}\n{size}\n{}\n{}\n", hex(root), at.0)
    }

    /// Whether `key` signed it.
    pub fn is_signed_by(&self, key: &[u8; 32], epoch: &str) -> bool {
        is_signed(key, self.text(epoch).as_bytes(), &self.signature)
    }
}

/// Whether `signature` is that of `key` over `text`.
pub fn is_signed(key: &[u8; 32], text: &[u8], signature: &[u8; 64]) -> bool {
    UnparsedPublicKey::new(&ED25519, key).verify(text, signature).is_ok()
}

/// The text that is signed for an export or a receipt whose signed fields, written as canonical JSON, have `digest`.
pub fn document_text(digest: &Hash) -> String {
    format!("{DOCUMENT_TEXT}\n{}\n", hex(digest))
}

/// Lower-case hexadecimal.
pub fn hex(bytes: &[u8]) -> String {
    use std::fmt::Write;
    bytes.iter().fold(String::with_capacity(2 * bytes.len()), |mut text, byte| {
        write!(text, "{byte:02x}").expect("a string takes everything");
        text
    })
}

/// Reads lower-case hexadecimal.
pub fn unhex(text: &str) -> Option<Vec<u8>> {
    let digit = |byte: u8| match byte {
        b'0'..=b'9' => Some(byte - b'0'),
        b'a'..=b'f' => Some(byte - b'a' + 10),
        _ => None,
    };
    let pairs = text.as_bytes().chunks(2);
    pairs.map(|pair| Some(digit(pair[0])? << 4 | digit(*pair.get(1)?)?)).collect()
}
