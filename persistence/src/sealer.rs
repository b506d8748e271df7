//! Sealing secret parts: AES-256-GCM under the key of the organisation they belong to.
//!
//! Nonces are random, 96 bits, one for each message. Secret parts are rare (a person signs up), so a key never comes
//! near the 2^32 messages up to which random nonces are safe, and no counter has to survive a crash or a roll-back.
//! What is authenticated names the place, so a sealed part that is moved to another record does not open.

use std::sync::Arc;

use aws_lc_rs::aead::{Aad, NONCE_LEN, Nonce};
use engine::{OrganisationId, Secret};
use wincode::{SchemaRead, SchemaWrite};
use zeroize::Zeroizing;

use crate::codec::secret_digest;
use crate::file_seal::{FileId, FileSealer, SealHeader};
use crate::format::u32_at;
use crate::keys::{KeyError, Keys};
use crate::uuid_text;

/// Sealed parts (their length u32, then their bytes) are padded with zeros to multiples of this, so that the length of
/// what is stored tells little.
const PAD: usize = 128;
const LENGTH: usize = size_of::<u32>();

/// Where a sealed part lies; authenticated with it.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Place {
    /// A command of an entry.
    Log { shard: u16, index: u64, position: u32 },
    /// A frame of a snapshot.
    Snapshot { number: u64, frame: u32 },
}

/// A sealed part, as stored.
#[derive(Clone, Debug, PartialEq, Eq, SchemaWrite, SchemaRead)]
pub(crate) struct Sealed {
    pub(crate) organisation: OrganisationId,
    /// Number of the organisation's key.
    pub(crate) key: u64,
    pub(crate) nonce: [u8; NONCE_LEN],
    /// What stands for the secret part in the leaf hash.
    pub(crate) digest: [u8; 32],
    pub(crate) bytes: Vec<u8>,
}

/// What a sealed part turned out to be.
#[derive(Debug)]
pub(crate) enum Opened {
    /// As it was.
    Clear { salt: [u8; 16], secret: Secret },
    /// Its key was destroyed; the fields are empty.
    Erased(Secret),
}

#[derive(SchemaWrite, SchemaRead)]
struct Salted {
    salt: [u8; 16],
    secret: Secret,
}

/// Seals and opens for one data folder. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Sealer {
    keys: Arc<Keys>,
    cluster: u128,
    everything: Option<Incarnation>,
}

/// Who seals everything: part of every file's key.
#[derive(Clone, Copy, Debug)]
struct Incarnation {
    /// Random, new for every process.
    number: u64,
    node: u16,
}

impl Sealer {
    /// Seals under `keys` for the log of `cluster`.
    pub fn new(keys: Arc<Keys>, cluster: u128) -> Self {
        Self { keys, cluster, everything: None }
    }

    /// Seals everything that is written from now on, as a new incarnation of `node`.
    pub(crate) fn of_everything(mut self, node: u16) -> Self {
        let mut number = [0; 8];
        self.keys.random(&mut number);
        self.everything = Some(Incarnation { number: u64::from_le_bytes(number), node });
        self
    }

    /// Whether everything is sealed, not secret parts alone.
    pub fn seals_everything(&self) -> bool {
        self.everything.is_some()
    }

    /// Begins to seal a new file, when everything is sealed.
    pub(crate) fn begin_file(&self, id: &FileId) -> Result<Option<(FileSealer, SealHeader)>, KeyError> {
        let begin = |who: Incarnation| FileSealer::begin(&self.keys, who.number, who.node, id);
        self.everything.map(begin).transpose()
    }

    /// Whether a file with this seal is to be left for a new one: a newer data key is there.
    pub(crate) fn is_stale(&self, seal: Option<SealHeader>) -> bool {
        self.everything.is_some() && seal.is_some_and(|seal| seal.data_key != self.keys.newest_data_key_number())
    }

    /// The keys.
    pub fn keys(&self) -> &Arc<Keys> {
        &self.keys
    }

    /// Makes sure that what `organisation` keeps secret can be sealed: its key is there, durable and in memory.
    ///
    /// # Errors
    /// The key can't be made or read; nothing was sealed, and a later call tries again.
    pub fn ready(&self, organisation: OrganisationId) -> Result<(), KeyError> {
        self.keys.sealing_key(organisation).map(|_| ())
    }

    pub(crate) fn cluster(&self) -> u128 {
        self.cluster
    }

    pub(crate) fn seal_secret(&self, place: Place, salt: [u8; 16], secret: &Secret) -> Result<Sealed, KeyError> {
        let organisation = secret.organisation();
        let digest = secret_digest(salt, secret);
        let clear = Salted { salt, secret: secret.clone() };
        let clear = wincode::serialize(&clear).expect("what was hashed can be encoded");
        self.seal(place, organisation, digest, clear)
    }

    pub(crate) fn open_secret(&self, place: Place, sealed: &Sealed) -> Result<Opened, KeyError> {
        let organisation = sealed.organisation;
        let Some(clear) = self.open(place, sealed)? else {
            let (email, name, password) = Default::default();
            return Ok(Opened::Erased(Secret::Person { organisation, email, name, password }));
        };
        let Salted { salt, secret } = wincode::deserialize_exact(&clear)
            .map_err(|_| KeyError::Unsealed { organisation: uuid_text(organisation.0) })?;
        Ok(Opened::Clear { salt, secret })
    }

    pub(crate) fn seal(
        &self,
        place: Place,
        organisation: OrganisationId,
        digest: [u8; 32],
        clear: Vec<u8>,
    ) -> Result<Sealed, KeyError> {
        let key = self.keys.sealing_key(organisation)?;
        let mut nonce = [0; NONCE_LEN];
        self.keys.random(&mut nonce);
        let clear = Zeroizing::new(clear);
        let mut bytes = Zeroizing::new(vec![0; (LENGTH + clear.len()).next_multiple_of(PAD)]);
        bytes[..LENGTH].copy_from_slice(&(clear.len() as u32).to_le_bytes());
        bytes[LENGTH..LENGTH + clear.len()].copy_from_slice(&clear);
        let tag = key
            .key
            .seal_in_place_separate_tag(
                Nonce::assume_unique_for_key(nonce),
                Aad::from(self.context(place, organisation, key.id, digest)),
                &mut bytes,
            )
            .expect("a secret part is short enough to be sealed");
        let bytes = [&bytes[..], tag.as_ref()].concat();
        Ok(Sealed { organisation, key: key.id, nonce, digest, bytes })
    }

    /// The clear bytes, or none if the key was destroyed.
    pub(crate) fn open(&self, place: Place, sealed: &Sealed) -> Result<Option<Zeroizing<Vec<u8>>>, KeyError> {
        let Some(key) = self.keys.opening_key(sealed.organisation, sealed.key)? else {
            return Ok(None);
        };
        let mut bytes = Zeroizing::new(sealed.bytes.clone());
        let moved = || KeyError::Unsealed { organisation: uuid_text(sealed.organisation.0) };
        let clear = key
            .key
            .open_in_place(
                Nonce::assume_unique_for_key(sealed.nonce),
                Aad::from(self.context(place, sealed.organisation, sealed.key, sealed.digest)),
                &mut bytes,
            )
            .map_err(|_| moved())?;
        let length = u32_at(clear.get(..LENGTH).ok_or_else(moved)?, 0) as usize;
        let clear = clear.get(LENGTH..LENGTH + length).ok_or_else(moved)?;
        Ok(Some(Zeroizing::new(clear.to_vec())))
    }

    /// What is authenticated beside the sealed bytes: version, cluster, place, organisation, key and digest.
    fn context(&self, place: Place, organisation: OrganisationId, key: u64, digest: [u8; 32]) -> [u8; 88] {
        let mut context = [0; 88];
        let (tag, a, b, c) = match place {
            Place::Log { shard, index, position } => (1, shard, index, position),
            Place::Snapshot { number, frame } => (2, 0, number, frame),
        };
        context[0] = 1; // Version of this layout.
        context[1] = tag;
        context[2..4].copy_from_slice(&a.to_le_bytes());
        context[4..8].copy_from_slice(&c.to_le_bytes());
        context[8..16].copy_from_slice(&b.to_le_bytes());
        context[16..32].copy_from_slice(&self.cluster.to_le_bytes());
        context[32..48].copy_from_slice(&organisation.0.to_le_bytes());
        context[48..56].copy_from_slice(&key.to_le_bytes());
        context[56..88].copy_from_slice(&digest);
        context
    }
}
