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

/// Domain of the digest of an offer with a price and a limit.
const OFFER: u8 = 0x03;

/// Which part of an offer a salt is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum OfferPart {
    /// The price, which may be opened one day.
    Price = 0x04,
    /// The limit, which never is.
    Limit = 0x05,
}

/// The digest of a command's secret part: SHA-256(salt ‖ secret part). A command without one has an empty part. An
/// offer with a price and a limit has two parts, so that the price can be shown without the limit:
/// SHA-256(0x03 ‖ digest of the price ‖ digest of the limit), each with a salt of its own ([`part_salt`]).
pub fn secret_digest(salt: [u8; 16], secret: Option<&Secret>) -> [u8; 32] {
    match secret {
        Some(Secret::Offer { organisation, price: Some(price), limit: Some(limit) }) => {
            let organisation = *organisation;
            let price = Secret::Offer { organisation, price: Some(*price), limit: None };
            let limit = Secret::Offer { organisation, price: None, limit: Some(*limit) };
            offer_digest(
                &part_digest(part_salt(salt, OfferPart::Price), Some(&price)),
                &part_digest(part_salt(salt, OfferPart::Limit), Some(&limit)),
            )
        }
        secret => part_digest(salt, secret),
    }
}

/// The salt of a part of an offer that has two: the first 16 bytes of SHA-256(number of the part ‖ salt). Who is
/// given one can't tell the other.
pub fn part_salt(salt: [u8; 16], part: OfferPart) -> [u8; 16] {
    let hash = Sha256::new().chain_update([part as u8]).chain_update(salt).finalize();
    hash[..16].try_into().expect("a hash is longer")
}

/// The digest of an offer with a price and a limit.
pub fn offer_digest(price: &[u8; 32], limit: &[u8; 32]) -> [u8; 32] {
    Sha256::new().chain_update([OFFER]).chain_update(price).chain_update(limit).finalize().into()
}

fn part_digest(salt: [u8; 16], secret: Option<&Secret>) -> [u8; 32] {
    salted_digest(salt, &secret.map(encoded).unwrap_or_default())
}

/// SHA-256(salt ‖ bytes).
pub fn salted_digest(salt: [u8; 16], bytes: &[u8]) -> [u8; 32] {
    Sha256::new().chain_update(salt).chain_update(bytes).finalize().into()
}

/// The public part of a command, as it is hashed: envelope (its salt set to zero) and action in the log's encoding.
pub fn public_part(command: &Command) -> Vec<u8> {
    let mut bytes = encoded(&Envelope { salt: [0; 16], ..command.envelope.clone() });
    bytes.append(&mut encoded(&command.action));
    bytes
}

/// The leaf hash over a public part and the digest of the secret part: SHA-256(0x00 ‖ length of the public part, u64
/// little-endian ‖ public part ‖ digest).
pub fn leaf_of(public: &[u8], digest: &[u8; 32]) -> [u8; 32] {
    let mut hash = Sha256::new();
    hash.update([LEAF]);
    hash.update((public.len() as u64).to_le_bytes());
    hash.update(public);
    hash.update(digest);
    hash.finalize().into()
}

/// The leaf hash of a command whose secret part has `digest`.
pub fn leaf_hash_with(command: &Command, digest: [u8; 32]) -> [u8; 32] {
    leaf_of(&public_part(command), &digest)
}

/// The leaf hash of a command that is known in full.
pub fn leaf_hash(command: &Command) -> [u8; 32] {
    leaf_hash_with(command, secret_digest(command.envelope.salt, command.secret.as_ref()))
}

/// Reads a public part back.
///
/// # Errors
/// What is wrong with it.
pub fn read_public_part(bytes: &[u8]) -> Result<(Envelope, Action), String> {
    #[derive(SchemaRead)]
    struct Public {
        envelope: Envelope,
        action: Action,
    }
    let public: Public = wincode::deserialize_exact(bytes).map_err(|error| error.to_string())?;
    Ok((public.envelope, public.action))
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
    /// Adds a leaf.
    pub fn push(&mut self, leaf: [u8; 32]) {
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

/// One command on its way into the chains.
pub(crate) struct Fed<'a> {
    /// Its place in the entry, from 0.
    pub(crate) position: u32,
    pub(crate) command: &'a Command,
    pub(crate) public: Vec<u8>,
    pub(crate) digest: [u8; 32],
    /// Its secret part can't be read any more.
    pub(crate) is_erased: bool,
    pub(crate) leaf: [u8; 32],
    /// The tender whose chain it joined, and that chain's head before.
    pub(crate) link: Option<(TenderId, Head)>,
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
        self.feed_each(entry, erased, |_| {});
    }

    /// As [`Chains::feed`]; `each` is told of every command.
    pub(crate) fn feed_each(&mut self, entry: &Entry, erased: &[(u32, [u8; 32])], mut each: impl FnMut(Fed<'_>)) {
        assert_eq!(entry.index, self.index + 1, "chains are fed every entry, in order");
        self.index = entry.index;
        for (position, command) in entry.commands.iter().enumerate() {
            let position = position as u32;
            let erased = erased.iter().find(|(place, _)| *place == position).map(|(_, digest)| *digest);
            let digest = erased.unwrap_or_else(|| secret_digest(command.envelope.salt, command.secret.as_ref()));
            let public = public_part(command);
            let leaf = leaf_of(&public, &digest);
            self.shard.push(leaf);
            let head = match &command.action {
                Action::CreateTender { tender, .. } => Some((*tender, self.tenders.entry(*tender).or_default())),
                // A chain begins with its tender, so that naming tenders at random grows nothing.
                action => action.tender().and_then(|id| Some((id, self.tenders.get_mut(&id)?))),
            };
            let link = head.map(|(tender, head)| {
                let before = *head;
                head.push(leaf);
                (tender, before)
            });
            each(Fed { position, command, public, digest, is_erased: erased.is_some(), leaf, link });
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
