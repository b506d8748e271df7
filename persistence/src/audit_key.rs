//! The key that roots are signed with, and how one is handed over to the next.
//!
//! A handover is the old key's signature over the new one. With them whoever knows one key of the node can check what any
//! later one has signed, and a newer one vouches for those before it in every export. Only the newest can sign: with
//! the handover the old private key goes.

use std::io;
use std::sync::Arc;

use aws_lc_rs::signature::{Ed25519KeyPair, KeyPair};
use engine::LogTime;
use sha2::{Digest, Sha256};
use zeroize::Zeroizing;

use crate::checkpoint::{Checkpoint, hex, is_signed};
use crate::disk::replace;
use crate::format::u64_at;
use crate::keys::{KeyError, Keys, at, damaged, frame, unframe};
use crate::merkle::Hash;

/// First line of the text that is signed for a handover.
pub const HANDOVER_TEXT: &str = "reversetender audit key 1";
const CURRENT: &str = "audit.p8";
const NEXT: &str = "audit.next.p8";
const CHAIN: &str = "audit.chain";
const CHAIN_MAGIC: &[u8; 8] = b"RTAUDCH1";
// A handover, little-endian: 0 from | 32 to | 64 at i64 | 72 signature
const HANDOVER: usize = 136;

/// The old key's word that a new one is the node's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Handover {
    /// The old public key.
    pub from: [u8; 32],
    /// The new one.
    pub to: [u8; 32],
    /// When.
    pub at: LogTime,
    /// Ed25519 of the old key over [`Handover::text`].
    pub signature: [u8; 64],
}

impl Handover {
    /// The text that is signed: four lines, each ended by a line feed: `reversetender audit key 1`, the old and the new
    /// public key in lower-case hexadecimal, the time in milliseconds.
    pub fn text(&self) -> String {
        format!("{HANDOVER_TEXT}\n{}\n{}\n{}\n", hex(&self.from), hex(&self.to), self.at.0)
    }

    /// Whether the old key signed it.
    pub fn is_signed(&self) -> bool {
        is_signed(&self.from, self.text().as_bytes(), &self.signature)
    }

    fn encode(&self) -> [u8; HANDOVER] {
        let mut bytes = [0; HANDOVER];
        bytes[..32].copy_from_slice(&self.from);
        bytes[32..64].copy_from_slice(&self.to);
        bytes[64..72].copy_from_slice(&self.at.0.to_le_bytes());
        bytes[72..].copy_from_slice(&self.signature);
        bytes
    }

    fn decode(bytes: &[u8]) -> Self {
        let (mut from, mut to, mut signature) = ([0; 32], [0; 32], [0; 64]);
        from.copy_from_slice(&bytes[..32]);
        to.copy_from_slice(&bytes[32..64]);
        signature.copy_from_slice(&bytes[72..]);
        Self { from, to, at: LogTime(u64_at(bytes, 64) as i64), signature }
    }
}

/// The id of a key: `audit-` and the first 8 bytes of its SHA-256 in hexadecimal.
pub fn kid_of(public: &[u8; 32]) -> String {
    format!("audit-{}", hex(&Sha256::digest(public)[..8]))
}

/// Signs for this node.
#[derive(Debug)]
pub struct AuditSigner {
    pair: Ed25519KeyPair,
    public: [u8; 32],
    handovers: Vec<Handover>,
    keys: Arc<Keys>,
}

impl AuditSigner {
    /// Signs with the audit key of `keys`, which is made if there is none.
    ///
    /// # Errors
    /// A file of the keys folder can't be read, or does not belong to the others.
    pub fn open(keys: &Arc<Keys>) -> Result<Self, KeyError> {
        let (document, handovers) = keys.audit_key_and_handovers()?;
        let (pair, public) = pair_of(&document);
        Ok(Self { pair, public, handovers, keys: Arc::clone(keys) })
    }

    /// Signs with the newer key, when there is one.
    ///
    /// # Errors
    /// As [`AuditSigner::open`].
    pub fn renewed(&self) -> Result<Option<Self>, KeyError> {
        let found = Self::open(&self.keys)?;
        Ok((found.public != self.public).then_some(found))
    }

    /// The public key.
    pub fn public(&self) -> &[u8; 32] {
        &self.public
    }

    /// The key's id: [`kid_of`].
    pub fn kid(&self) -> String {
        kid_of(&self.public)
    }

    /// How it came to this key from the first, oldest first.
    pub fn handovers(&self) -> &[Handover] {
        &self.handovers
    }

    /// All public keys of the node, oldest first; the last one signs.
    pub fn publics(&self) -> Vec<[u8; 32]> {
        self.handovers.iter().map(|handover| handover.from).chain([self.public]).collect()
    }

    /// The id of the key that signed a root of this node.
    pub fn kid_of_signer(&self, checkpoint: &Checkpoint, epoch: &str) -> String {
        let publics = self.publics();
        let signed = publics.iter().rev().find(|public| checkpoint.is_signed_by(public, epoch));
        kid_of(signed.unwrap_or(&self.public))
    }

    /// Signs a root.
    pub fn checkpoint(&self, epoch: &str, shard: u16, size: u64, root: Hash, at: LogTime) -> Checkpoint {
        let mut checkpoint = Checkpoint { shard, size, root, at, signature: [0; 64] };
        checkpoint.signature = self.sign(checkpoint.text(epoch).as_bytes());
        checkpoint
    }

    /// Signs a text.
    pub fn sign(&self, text: &[u8]) -> [u8; 64] {
        sign(&self.pair, text)
    }
}

fn sign(pair: &Ed25519KeyPair, text: &[u8]) -> [u8; 64] {
    pair.sign(text).as_ref().try_into().expect("an Ed25519 signature has 64 bytes")
}

fn pair_of(document: &[u8]) -> (Ed25519KeyPair, [u8; 32]) {
    let pair = Ed25519KeyPair::from_pkcs8(document).expect("the key was checked when it was read");
    let public = pair.public_key().as_ref().try_into().expect("an Ed25519 key has 32 bytes");
    (pair, public)
}

impl Keys {
    /// Makes a new key to sign roots with, signed by the one before, which goes; answers its public part. A running node
    /// goes on with it by [`AuditSigner::renewed`].
    ///
    /// # Errors
    /// The keys folder can't be read or written; done again, it is finished.
    pub fn rotate_audit_key(&self, now: LogTime) -> Result<[u8; 32], KeyError> {
        let (document, mut handovers) = self.audit_key_and_handovers()?;
        let (old, from) = pair_of(&document);
        let pair = Ed25519KeyPair::generate().expect("a key can be made");
        let next = pair.to_pkcs8().expect("a new key has a PKCS#8 form");
        let to = pair.public_key().as_ref().try_into().expect("an Ed25519 key has 32 bytes");
        // First the key, so that nothing is handed over to one that a power cut took away.
        self.replace(NEXT, next.as_ref())?;
        let mut handover = Handover { from, to, at: now, signature: [0; 64] };
        handover.signature = sign(&old, handover.text().as_bytes());
        handovers.push(handover);
        let body: Vec<u8> = handovers.iter().flat_map(Handover::encode).collect();
        self.replace(CHAIN, &frame(CHAIN_MAGIC, &body))?;
        self.finish_audit_rotation()?;
        Ok(to)
    }

    fn replace(&self, name: &str, bytes: &[u8]) -> Result<(), KeyError> {
        replace(self.disk(), self.dir(), name, bytes).map_err(at(&self.dir().join(name)))
    }

    /// The new key takes the place of the old one. A node that looks meanwhile may have done it.
    fn finish_audit_rotation(&self) -> Result<(), KeyError> {
        let (from, to) = (self.dir().join(NEXT), self.dir().join(CURRENT));
        match self.disk().rename(&from, &to) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
            renamed => renamed.and_then(|()| self.disk().sync_dir(self.dir())).map_err(at(&to)),
        }
    }

    /// The private key as PKCS#8, made when there is none, and the handovers that lead to it.
    fn audit_key_and_handovers(&self) -> Result<(Zeroizing<Vec<u8>>, Vec<Handover>), KeyError> {
        let path = self.dir().join(CHAIN);
        let handovers: Vec<Handover> = match self.read(&path)? {
            None => Vec::new(),
            Some(bytes) => {
                let body = unframe(&bytes, CHAIN_MAGIC, &path)?;
                if body.is_empty() || body.len() % HANDOVER != 0 {
                    return Err(damaged(&path, "its length"));
                }
                body.chunks_exact(HANDOVER).map(Handover::decode).collect()
            }
        };
        let linked = handovers.windows(2).all(|pair| pair[0].to == pair[1].from);
        if !linked || !handovers.iter().all(Handover::is_signed) {
            return Err(damaged(&path, "a handover that does not follow from the one before"));
        }
        let document = self.audit_key()?;
        let Some(last) = handovers.last().filter(|last| last.to != pair_of(&document).1) else {
            return Ok((document, handovers));
        };
        // A rotation was cut short behind the handover.
        if let Some(next) = self.read(&self.dir().join(NEXT))?
            && Ed25519KeyPair::from_pkcs8(&next).is_ok()
            && pair_of(&next).1 == last.to
        {
            self.finish_audit_rotation()?;
        }
        let document = self.audit_key()?;
        if pair_of(&document).1 != last.to {
            return Err(damaged(&self.dir().join(CURRENT), "not the key that audit.chain hands over to"));
        }
        Ok((document, handovers))
    }
}
