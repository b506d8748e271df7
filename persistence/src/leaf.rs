//! Leaf hashes of commands, and the hash chain of every tender.
//!
//! Computed beside the core, from committed entries, and stored in snapshots. Never needs a secret that was erased:
//! the digest kept with the sealed part stands for it.

use std::collections::BTreeMap;

use engine::{Action, Command, Entry, Envelope, Secret, TenderId};
use sha2::{Digest, Sha256};
use wincode::{SchemaRead, SchemaWrite};

/// Domain of a leaf (RFC 9162 section 2.1.1).
const LEAF: u8 = 0x00;
/// Domain of a link of a chain.
const LINK: u8 = 0x02;

/// The digest of a command's secret part: SHA-256(salt ‖ secret part). A command without one has an empty part.
pub fn secret_digest(salt: [u8; 16], secret: Option<&Secret>) -> [u8; 32] {
    let mut hash = Sha256::new();
    hash.update(salt);
    if let Some(secret) = secret {
        hash.update(encoded(secret));
    }
    hash.finalize().into()
}

/// The leaf hash of a command whose secret part has `digest`: SHA-256(0x00 ‖ length of the public part, u64
/// little-endian ‖ public part ‖ digest). The public part is envelope (its salt set to zero) and action in the
/// log's encoding.
pub fn leaf_hash_with(command: &Command, digest: [u8; 32]) -> [u8; 32] {
    let envelope = encoded(&Envelope { salt: [0; 16], ..command.envelope.clone() });
    let action = encoded(&command.action);
    let mut hash = Sha256::new();
    hash.update([LEAF]);
    hash.update(((envelope.len() + action.len()) as u64).to_le_bytes());
    hash.update(envelope);
    hash.update(action);
    hash.update(digest);
    hash.finalize().into()
}

/// The leaf hash of a command that is known in full.
pub fn leaf_hash(command: &Command) -> [u8; 32] {
    leaf_hash_with(command, secret_digest(command.envelope.salt, command.secret.as_ref()))
}

fn encoded<T>(value: &T) -> Vec<u8>
where
    T: SchemaWrite<wincode::config::DefaultConfig, Src = T>,
{
    wincode::serialize(value).expect("what was logged can be encoded")
}

/// Head of a hash chain.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, SchemaWrite, SchemaRead)]
pub struct Head {
    /// How many leaves it has.
    pub count: u64,
    /// SHA-256(0x02 ‖ head before ‖ leaf); zero for an empty chain.
    pub hash: [u8; 32],
}

impl Head {
    fn push(&mut self, leaf: [u8; 32]) {
        let mut hash = Sha256::new();
        hash.update([LINK]);
        hash.update(self.hash);
        hash.update(leaf);
        *self = Self { count: self.count + 1, hash: hash.finalize().into() };
    }
}

/// The chains of one shard: one of all its commands and one of each tender's.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Chains {
    /// Index of the last entry that was fed.
    index: u64,
    shard: Head,
    tenders: BTreeMap<TenderId, Head>,
}

/// A piece of [`Chains`] for a snapshot.
#[derive(Clone, Debug, PartialEq, Eq, SchemaWrite, SchemaRead)]
pub struct ChainsPart {
    index: u64,
    shard: Head,
    tenders: Vec<(TenderId, Head)>,
}

impl Chains {
    /// Most tenders in one part.
    const PART_TENDERS: usize = 4096;

    /// Chains without a leaf.
    pub fn new() -> Self {
        Self::default()
    }

    /// Index of the last entry that was fed.
    pub fn index(&self) -> u64 {
        self.index
    }

    /// The chain of all commands of the shard.
    pub fn shard(&self) -> Head {
        self.shard
    }

    /// The chain of a tender: the command that made it and all since that named it.
    pub fn tender(&self, tender: TenderId) -> Option<Head> {
        self.tenders.get(&tender).copied()
    }

    /// Adds the commands of a committed entry. `erased` is what the log said about erased secret parts.
    ///
    /// # Panics
    /// If an entry was left out.
    pub fn feed(&mut self, entry: &Entry, erased: &[(u32, [u8; 32])]) {
        assert_eq!(entry.index, self.index + 1, "chains are fed every entry, in order");
        self.index = entry.index;
        for (position, command) in entry.commands.iter().enumerate() {
            let digest = erased.iter().find(|(place, _)| *place as usize == position);
            let leaf = match digest {
                Some((_, digest)) => leaf_hash_with(command, *digest),
                None => leaf_hash(command),
            };
            self.shard.push(leaf);
            match &command.action {
                Action::CreateTender { tender, .. } => {
                    self.tenders.entry(*tender).or_default().push(leaf);
                }
                action => {
                    // A chain begins with its tender, so that naming tenders at random grows nothing.
                    if let Some(head) = tender_of(action).and_then(|id| self.tenders.get_mut(&id)) {
                        head.push(leaf);
                    }
                }
            }
        }
    }

    /// The chains as plain data; there is always at least one part.
    pub fn snapshot(&self) -> impl Iterator<Item = ChainsPart> + '_ {
        let tenders: Vec<_> = self.tenders.iter().map(|(id, head)| (*id, *head)).collect();
        let parts = tenders.len().div_ceil(Self::PART_TENDERS).max(1);
        (0..parts).map(move |part| ChainsPart {
            index: self.index,
            shard: self.shard,
            tenders: tenders.iter().skip(part * Self::PART_TENDERS).take(Self::PART_TENDERS).copied().collect(),
        })
    }

    /// The chains of all parts of one snapshot.
    pub fn restore(parts: impl IntoIterator<Item = ChainsPart>) -> Self {
        let mut chains = Self::default();
        for part in parts {
            (chains.index, chains.shard) = (part.index, part.shard);
            chains.tenders.extend(part.tenders);
        }
        chains
    }
}

/// The tender a command is about.
pub fn tender_of(action: &Action) -> Option<TenderId> {
    match action {
        Action::Tick | Action::Takeover { .. } | Action::Skip { .. } | Action::Account(_) => None,
        Action::CreateTender { tender, .. }
        | Action::UpdateTender { tender, .. }
        | Action::Publish { tender }
        | Action::Start { tender }
        | Action::Pause { tender, .. }
        | Action::Resume { tender, .. }
        | Action::Cancel { tender, .. }
        | Action::Extend { tender, .. }
        | Action::Admit { tender, .. }
        | Action::Join { tender }
        | Action::Disqualify { tender, .. } => Some(*tender),
        Action::Bid { lot, .. }
        | Action::Accept { lot, .. }
        | Action::AutoBid { lot, .. }
        | Action::Void { lot, .. }
        | Action::Award { lot, .. }
        | Action::RejectAward { lot, .. } => Some(lot.tender()),
    }
}
