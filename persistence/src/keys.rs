//! The keys folder: the master key, data keys, a key per organisation, the keys that tokens and roots are signed with.
//!
//! It lies outside the data folder's backup; without it no secret part can be read. A key is durable before anything
//! is sealed with it. Nothing here ever prints a key.

use std::collections::HashMap;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use aws_lc_rs::aead::{AES_256_GCM, Aad, LessSafeKey, NONCE_LEN, Nonce, UnboundKey};
use aws_lc_rs::hmac;
use aws_lc_rs::signature::Ed25519KeyPair;
use engine::OrganisationId;
use zeroize::Zeroizing;

use crate::disk::{Disk, read_all, replace};
use crate::uuid_text;

/// Fills bytes with randomness that nobody can guess; a simulator gives its own.
pub type Random = fn(&mut [u8]);

/// Randomness of the operating system.
pub fn system_random(bytes: &mut [u8]) {
    aws_lc_rs::rand::fill(bytes).expect("the operating system gives randomness");
}

const MASTER: &str = "master.key";
const TOKEN: &str = "token.p8";
const AUDIT: &str = "audit.p8";
const ORGANISATIONS: &str = "org";
const ORDERS: &str = "orders";
/// Ends the name of a key that is being overwritten.
const GONE: &str = "gone";
const DATA: &str = "data";
const MASTER_MAGIC: &[u8; 8] = b"RTMASTK1";
const ORGANISATION_MAGIC: &[u8; 8] = b"RTORGKY1";
const DATA_MAGIC: &[u8; 8] = b"RTDATAK1";
const DESTROYED_MAGIC: &[u8; 8] = b"RTORGXX1";

/// What is wrong with the keys folder.
#[derive(Debug, thiserror::Error)]
pub enum KeyError {
    /// The data folder was written with keys that are not here: bring back the keys folder.
    #[error(
        "{path}: the key is missing; restore the keys folder that belongs to this data folder (option --keys)"
    )]
    Missing {
        /// The file.
        path: PathBuf,
    },
    /// The keys are those of another data folder: point to the right keys folder.
    #[error(
        "{path}: this master key is not the one the data folder was written with; give the keys folder that belongs to it (option --keys)"
    )]
    WrongMaster {
        /// The file.
        path: PathBuf,
    },
    /// A file was sealed under a data key that is not here: bring it back.
    #[error(
        "{}: sealed under data key {key:016x}, which is missing: restore {} from the backup of the keys folder", .path.display(), .file.display()
    )]
    MissingData {
        /// The file that can't be read.
        path: PathBuf,
        /// The key's number.
        key: u64,
        /// The key's file.
        file: PathBuf,
    },
    /// A file was sealed under a data key that was revoked: bring the key back, or do without the file.
    #[error(
        "{}: sealed under data key {key:016x}, which was revoked: {}. If the file is still needed, rename that file back to {key:016x}.key; if not, restore from a backup taken after the rotation", .path.display(), .file.display()
    )]
    RevokedData {
        /// The file that can't be read.
        path: PathBuf,
        /// The key's number.
        key: u64,
        /// The revoked key's file.
        file: PathBuf,
    },
    /// The data key of that number is another one: give the right keys folder.
    #[error(
        "{}: sealed under data key {key:016x}, and {} holds another key of that number; give the keys folder that belongs to this data folder (option --keys), or restore the key file from its backup", .path.display(), .file.display()
    )]
    WrongData {
        /// The file that can't be read.
        path: PathBuf,
        /// The key's number.
        key: u64,
        /// The key's file.
        file: PathBuf,
    },
    /// The master key that was given is none: see what the message says.
    #[error("the master key that was given is not valid; valid: 64 hexadecimal digits (32 bytes)")]
    Given,
    /// A key file is damaged: restore it from its backup.
    #[error("{path}: the key file is damaged ({what}); restore it from its backup")]
    Damaged {
        /// The file.
        path: PathBuf,
        /// What was found.
        what: &'static str,
    },
    /// A sealed part does not open with its key at this place: it was moved or changed.
    #[error(
        "a sealed part of organisation {organisation} does not open at this place: it was moved or changed; restore the file that holds it from a backup"
    )]
    Unsealed {
        /// The organisation, as a UUID.
        organisation: String,
    },
    /// The disk refused.
    #[error("{path}: {error}. {}", crate::error::remedy(.error))]
    Disk {
        /// The file.
        path: PathBuf,
        /// The error.
        error: io::Error,
    },
}

impl KeyError {
    /// Whether there was no room for a key: tried again when there is, it may go well.
    pub fn is_full(&self) -> bool {
        matches!(self, Self::Disk { error, .. } if error.kind() == io::ErrorKind::StorageFull)
    }
}

/// A master key that is given from outside, as 64 hexadecimal digits. Never printed.
#[derive(Clone)]
pub struct MasterKey(Zeroizing<String>);

impl MasterKey {
    /// Takes the digits.
    pub fn new(digits: String) -> Self {
        Self(digits.into())
    }

    /// The keys in `dir` under this master key.
    pub fn keys(&self, disk: Arc<dyn Disk>, dir: &Path, random: Random) -> Result<Keys, KeyError> {
        Keys::open_given(disk, dir, random, &self.0)
    }
}

impl std::fmt::Debug for MasterKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("MasterKey(…)")
    }
}

/// One organisation's key.
pub(crate) struct OrganisationKey {
    pub(crate) id: u64,
    pub(crate) key: LessSafeKey,
}

/// What there is of an organisation's keys.
#[derive(Clone, Default)]
struct Organisation {
    key: Option<Arc<OrganisationKey>>,
    destroyed: Vec<u64>,
}

/// The keys folder. Shared by all threads.
pub struct Keys {
    disk: Arc<dyn Disk>,
    dir: PathBuf,
    random: Random,
    master: Zeroizing<[u8; 32]>,
    wrap: LessSafeKey,
    organisations: Mutex<HashMap<u128, Organisation>>,
    /// Number of the newest data key; 0: there was none when somebody looked last.
    newest_data: AtomicU64,
}

impl std::fmt::Debug for Keys {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Keys").field("dir", &self.dir).finish_non_exhaustive()
    }
}

impl Keys {
    /// Opens the keys folder; makes it, with a master key, when it has none and `create` is set.
    pub fn open(disk: Arc<dyn Disk>, dir: &Path, random: Random, create: bool) -> Result<Self, KeyError> {
        let path = dir.join(MASTER);
        let organisations = dir.join(ORGANISATIONS);
        let master = match disk.open(&path) {
            Ok(file) => {
                // A process that was killed may have left names in the cache that the next power cut takes away.
                disk.create_dir(&organisations).map_err(at(&organisations))?;
                disk.sync_dir(&organisations).map_err(at(&organisations))?;
                disk.sync_dir(dir).map_err(at(dir))?;
                let bytes = Zeroizing::new(read_all(&*file).map_err(at(&path))?);
                let body = unframe(&bytes, MASTER_MAGIC, &path)?;
                let key = body.try_into().map_err(|_| damaged(&path, "its length"))?;
                Zeroizing::new(key)
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound && create => {
                disk.create_dir(&organisations).map_err(at(&organisations))?;
                let mut key = Zeroizing::new([0; 32]);
                random(&mut key[..]);
                let bytes = Zeroizing::new(frame(MASTER_MAGIC, &key[..]));
                replace(&*disk, dir, MASTER, &bytes).map_err(at(&path))?;
                key
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                return Err(KeyError::Missing { path });
            }
            Err(error) => return Err(KeyError::Disk { path, error }),
        };
        Self::with_master(disk, dir, random, master)
    }

    /// Opens keys that must be there, under a master key that may be given.
    pub(crate) fn open_known(
        disk: Arc<dyn Disk>,
        dir: &Path,
        random: Random,
        master: Option<&MasterKey>,
    ) -> Result<Self, KeyError> {
        match master {
            Some(master) => master.keys(disk, dir, random),
            None => Self::open(disk, dir, random, false),
        }
    }

    fn with_master(
        disk: Arc<dyn Disk>,
        dir: &Path,
        random: Random,
        master: Zeroizing<[u8; 32]>,
    ) -> Result<Self, KeyError> {
        let mut keys = Self {
            disk,
            dir: dir.to_owned(),
            random,
            wrap: aead_key(&[0; 32]),
            master,
            organisations: Mutex::default(),
            newest_data: AtomicU64::new(0),
        };
        keys.wrap = aead_key(&keys.derive("wrap organisation keys", 0));
        keys.look_for_data_keys()?;
        Ok(keys)
    }

    /// As [`Keys::open`], with the master key given by its 64 hexadecimal digits; the folder then holds none.
    pub fn open_given(disk: Arc<dyn Disk>, dir: &Path, random: Random, master: &str) -> Result<Self, KeyError> {
        let mut key = Zeroizing::new([0; 32]);
        let digits = master.trim().as_bytes();
        if digits.len() != 64 || !digits.iter().all(u8::is_ascii_hexdigit) {
            return Err(KeyError::Given);
        }
        for (byte, pair) in key.iter_mut().zip(digits.chunks_exact(2)) {
            let digit = |digit: u8| (digit as char).to_digit(16).unwrap_or(0) as u8;
            *byte = digit(pair[0]) << 4 | digit(pair[1]);
        }
        let organisations = dir.join(ORGANISATIONS);
        disk.create_dir(&organisations).map_err(at(&organisations))?;
        disk.sync_dir(&organisations).map_err(at(&organisations))?;
        disk.sync_dir(dir).map_err(at(dir))?;
        Self::with_master(disk, dir, random, key)
    }

    /// Makes a new data key, durable: what is begun from now on is sealed under it, what is there stays readable.
    /// Answers its number. Another process that has the folder open finds it by [`Keys::look_for_data_keys`].
    pub fn rotate(&self) -> Result<u64, KeyError> {
        let id = self.look_for_data_keys()? + 1;
        let dir = self.dir.join(DATA);
        self.disk.create_dir(&dir).map_err(at(&dir))?;
        let mut secret = Zeroizing::new([0; 32]);
        let mut nonce = [0; NONCE_LEN];
        (self.random)(&mut secret[..]);
        (self.random)(&mut nonce);
        let mut wrapped = secret.to_vec();
        self.wrap_data()
            .seal_in_place_append_tag(
                Nonce::assume_unique_for_key(nonce),
                Aad::from(id.to_le_bytes()),
                &mut wrapped,
            )
            .expect("a key is short enough to be sealed");
        let body = [&nonce[..], &wrapped].concat();
        let path = self.data_key_path(id);
        let name = format!("{id:016x}.key");
        replace(&*self.disk, &dir, &name, &frame(DATA_MAGIC, &body)).map_err(at(&path))?;
        self.newest_data.store(id, Ordering::Release);
        Ok(id)
    }

    /// Takes the data key with number `id` out of use: what is sealed under it can't be read any more. Nothing is
    /// destroyed, its file is renamed; who renames it back has it again. See [`crate::sealed_under`].
    ///
    /// # Errors
    /// There is no such key, or the folder can't be written.
    pub fn revoke(&self, id: u64) -> Result<PathBuf, KeyError> {
        let file = self.data_key_path(id);
        let revoked = file.with_extension("revoked");
        let renamed = self.disk.rename(&file, &revoked);
        match renamed {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Err(KeyError::Missing { path: file }),
            renamed => renamed.map_err(at(&file))?,
        }
        let dir = self.dir.join(DATA);
        self.disk.sync_dir(&dir).map_err(at(&dir))?;
        Ok(revoked)
    }

    /// Looks which data key is the newest, and answers its number; 0: there is none.
    pub fn look_for_data_keys(&self) -> Result<u64, KeyError> {
        let dir = self.dir.join(DATA);
        let names = self.disk.list(&dir).map_err(at(&dir))?;
        let numbers = names.iter().filter_map(|name| {
            let (digits, _) = name.split_once('.').filter(|(_, kind)| matches!(*kind, "key" | "revoked"))?;
            u64::from_str_radix(digits, 16).ok().filter(|_| digits.len() == 16)
        });
        let newest = numbers.max().unwrap_or(0);
        self.newest_data.store(newest, Ordering::Release);
        Ok(newest)
    }

    /// The number of the newest data key, as of the last look.
    pub fn newest_data_key_number(&self) -> u64 {
        self.newest_data.load(Ordering::Acquire)
    }

    /// The newest data key and its number; made when there is none.
    pub(crate) fn newest_data_key(&self) -> Result<(u64, Zeroizing<[u8; 32]>), KeyError> {
        let id = match self.look_for_data_keys()? {
            0 => self.rotate()?,
            id => id,
        };
        let path = self.data_key_path(id);
        Ok((id, self.data_key(id, &path)?))
    }

    /// The data key with number `id`, by which `path` was sealed.
    pub(crate) fn data_key(&self, id: u64, path: &Path) -> Result<Zeroizing<[u8; 32]>, KeyError> {
        let file = self.data_key_path(id);
        let Some(bytes) = self.read(&file)? else {
            let revoked = file.with_extension("revoked");
            let path = path.to_owned();
            return match self.read(&revoked)? {
                Some(_) => Err(KeyError::RevokedData { path, key: id, file: revoked }),
                None => Err(KeyError::MissingData { path, key: id, file }),
            };
        };
        let body = unframe(&bytes, DATA_MAGIC, &file)?;
        if body.len() != NONCE_LEN + 32 + 16 {
            return Err(damaged(&file, "its length"));
        }
        let (nonce, wrapped) = body.split_at(NONCE_LEN);
        let mut wrapped = Zeroizing::new(wrapped.to_vec());
        let nonce = Nonce::try_assume_unique_for_key(nonce).expect("twelve bytes");
        let secret = self
            .wrap_data()
            .open_in_place(nonce, Aad::from(id.to_le_bytes()), &mut wrapped)
            .map_err(|_| KeyError::WrongMaster { path: file.clone() })?;
        Ok(Zeroizing::new((&*secret).try_into().expect("32 bytes were wrapped")))
    }

    /// Where the data key with number `id` lies.
    pub(crate) fn data_key_path(&self, id: u64) -> PathBuf {
        self.dir.join(DATA).join(format!("{id:016x}.key"))
    }

    fn wrap_data(&self) -> LessSafeKey {
        aead_key(&self.derive("wrap data keys", 0))
    }

    /// The file of the master key.
    pub fn master_path(&self) -> PathBuf {
        self.dir.join(MASTER)
    }

    /// A secret of the node's own, bound to its purpose and an id: HMAC-SHA-256 under the master key.
    pub fn derive(&self, label: &str, id: u128) -> [u8; 32] {
        let key = hmac::Key::new(hmac::HMAC_SHA256, &self.master[..]);
        let mut context = hmac::Context::with_key(&key);
        context.update(label.as_bytes());
        context.update(&[0]);
        context.update(&id.to_le_bytes());
        context.sign().as_ref().try_into().expect("SHA-256 gives 32 bytes")
    }

    /// The Ed25519 key that tokens are signed with, as PKCS#8; made durable when it is asked for the first time.
    pub fn token_key(&self) -> Result<Zeroizing<Vec<u8>>, KeyError> {
        self.signing_key(TOKEN)
    }

    /// The Ed25519 key that roots of the audit are signed with, as PKCS#8; made durable when it is asked for the first
    /// time.
    pub(crate) fn audit_key(&self) -> Result<Zeroizing<Vec<u8>>, KeyError> {
        self.signing_key(AUDIT)
    }

    fn signing_key(&self, name: &str) -> Result<Zeroizing<Vec<u8>>, KeyError> {
        let path = self.dir.join(name);
        match self.disk.open(&path) {
            Ok(file) => {
                let bytes = Zeroizing::new(read_all(&*file).map_err(at(&path))?);
                let fits = Ed25519KeyPair::from_pkcs8(&bytes);
                fits.map_err(|_| damaged(&path, "not a private key in PKCS#8, or not the one of its public key"))?;
                Ok(bytes)
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                let pair = Ed25519KeyPair::generate().expect("a key can be made");
                // Version 2 of PKCS#8 holds the public key too: a private key that changed in one bit does not fit it.
                let document = pair.to_pkcs8().expect("a new key has a PKCS#8 form");
                replace(&*self.disk, &self.dir, name, document.as_ref()).map_err(at(&path))?;
                Ok(Zeroizing::new(document.as_ref().to_vec()))
            }
            Err(error) => Err(KeyError::Disk { path, error }),
        }
    }

    /// Destroys an organisation's key for ever: what was sealed with it reads as erased from now on. Whoever has it in
    /// a state in memory must have forgotten that before, and must not need the log again that came before.
    pub fn destroy(&self, organisation: OrganisationId) -> Result<(), KeyError> {
        let mut cache = self.organisations.lock().unwrap_or_else(PoisonError::into_inner);
        // Not remembered any more, also when the disk fails half-way: then the folder says how far it came.
        cache.remove(&organisation.0);
        let mut known = self.load(organisation)?;
        let Some(key) = known.key.take() else {
            return Ok(());
        };
        known.destroyed.push(key.id);
        let dir = self.dir.join(ORGANISATIONS);
        let name = format!("{}.destroyed", uuid_text(organisation.0));
        let ids: Vec<u8> = known.destroyed.iter().flat_map(|id| id.to_le_bytes()).collect();
        // The mark first: a key that is gone without one is a lost key, which is an error.
        replace(&*self.disk, &dir, &name, &frame(DESTROYED_MAGIC, &ids)).map_err(at(&dir.join(&name)))?;
        self.wipe(organisation)?;
        cache.insert(organisation.0, known);
        Ok(())
    }

    /// Whether an organisation has a key now, and whether one was destroyed; as the folder says, not as this process
    /// remembers.
    pub(crate) fn look(&self, organisation: OrganisationId) -> Result<(bool, bool), KeyError> {
        let mark = self.dir.join(ORGANISATIONS).join(format!("{}.destroyed", uuid_text(organisation.0)));
        Ok((self.read(&self.key_path(organisation))?.is_some(), self.read(&mark)?.is_some()))
    }

    pub(crate) fn orders_dir(&self) -> PathBuf {
        self.dir.join(ORDERS)
    }

    pub(crate) fn dir(&self) -> &Path {
        &self.dir
    }

    pub(crate) fn disk(&self) -> &dyn Disk {
        &*self.disk
    }

    /// Overwrites and removes a key file. It gets another name first: a half overwritten one must not be taken for a key
    /// that is damaged.
    fn wipe(&self, organisation: OrganisationId) -> Result<(), KeyError> {
        let path = self.key_path(organisation);
        let gone = path.with_extension(GONE);
        let dir = self.dir.join(ORGANISATIONS);
        self.disk.rename(&path, &gone).and_then(|()| self.disk.sync_dir(&dir)).map_err(at(&path))?;
        self.wipe_gone(&gone)
    }

    fn wipe_gone(&self, gone: &Path) -> Result<(), KeyError> {
        let file = self.disk.open(gone).map_err(at(gone))?;
        let len = usize::try_from(file.len().map_err(at(gone))?).unwrap_or(0);
        file.write_at(0, &[&vec![0; len]]).map_err(at(gone))?;
        file.sync_data().map_err(at(gone))?;
        self.disk.remove(gone).map_err(at(gone))?;
        self.disk.sync_dir(&self.dir.join(ORGANISATIONS)).map_err(at(gone))
    }

    /// The key to seal with, made and durable if there was none.
    pub(crate) fn sealing_key(&self, organisation: OrganisationId) -> Result<Arc<OrganisationKey>, KeyError> {
        let mut cache = self.organisations.lock().unwrap_or_else(PoisonError::into_inner);
        let mut known = self.known(&mut cache, organisation)?;
        if let Some(key) = known.key {
            return Ok(key);
        }
        let mut secret = Zeroizing::new([0; 32]);
        let (mut id, mut nonce) = ([0; 8], [0; NONCE_LEN]);
        (self.random)(&mut secret[..]);
        (self.random)(&mut id);
        (self.random)(&mut nonce);
        let mut body = [&id[..], &nonce[..]].concat();
        let mut wrapped = secret.to_vec();
        self.wrap
            .seal_in_place_append_tag(
                Nonce::assume_unique_for_key(nonce),
                Aad::from(wrap_context(organisation, id)),
                &mut wrapped,
            )
            .expect("a key is short enough to be sealed");
        body.append(&mut wrapped);
        let dir = self.dir.join(ORGANISATIONS);
        let path = self.key_path(organisation);
        let name = format!("{}.key", uuid_text(organisation.0));
        replace(&*self.disk, &dir, &name, &frame(ORGANISATION_MAGIC, &body)).map_err(at(&path))?;
        let key = Arc::new(OrganisationKey { id: u64::from_le_bytes(id), key: aead_key(&secret) });
        known.key = Some(Arc::clone(&key));
        cache.insert(organisation.0, known);
        Ok(key)
    }

    /// The key with number `id`, or none if it was destroyed.
    pub(crate) fn opening_key(
        &self,
        organisation: OrganisationId,
        id: u64,
    ) -> Result<Option<Arc<OrganisationKey>>, KeyError> {
        let mut cache = self.organisations.lock().unwrap_or_else(PoisonError::into_inner);
        let known = self.known(&mut cache, organisation)?;
        if let Some(key) = known.key.filter(|key| key.id == id) {
            return Ok(Some(key));
        }
        if known.destroyed.contains(&id) {
            return Ok(None);
        }
        Err(KeyError::Missing { path: self.key_path(organisation) })
    }

    pub(crate) fn random(&self, bytes: &mut [u8]) {
        (self.random)(bytes);
    }

    fn known(
        &self,
        cache: &mut HashMap<u128, Organisation>,
        organisation: OrganisationId,
    ) -> Result<Organisation, KeyError> {
        if let Some(known) = cache.get(&organisation.0) {
            return Ok(known.clone());
        }
        let known = self.load(organisation)?;
        // Kept without a key too: when one can't be made for certain, what that left in the folder is not taken for a
        // key, which a power cut could take away, but written anew.
        cache.insert(organisation.0, known.clone());
        Ok(known)
    }

    fn load(&self, organisation: OrganisationId) -> Result<Organisation, KeyError> {
        let dir = self.dir.join(ORGANISATIONS);
        let mut known = Organisation::default();
        let path = dir.join(format!("{}.destroyed", uuid_text(organisation.0)));
        if let Some(bytes) = self.read(&path)? {
            let ids = unframe(&bytes, DESTROYED_MAGIC, &path)?;
            known.destroyed =
                ids.chunks_exact(8).map(|id| u64::from_le_bytes(id.try_into().expect("eight bytes"))).collect();
        }
        let path = self.key_path(organisation);
        let gone = path.with_extension(GONE);
        if !known.destroyed.is_empty() && self.read(&gone)?.is_some() {
            // Stopped between the new name and removing.
            self.wipe_gone(&gone)?;
        }
        let Some(bytes) = self.read(&path)? else {
            return Ok(known);
        };
        if !known.destroyed.is_empty() && bytes.iter().all(|byte| *byte == 0) {
            // An earlier program, which overwrote it under its own name, stopped before removing it.
            self.wipe(organisation)?;
            return Ok(known);
        }
        let body = unframe(&bytes, ORGANISATION_MAGIC, &path)?;
        if body.len() != 8 + NONCE_LEN + 32 + 16 {
            return Err(damaged(&path, "its length"));
        }
        let (id, rest) = body.split_at(8);
        let (nonce, wrapped) = rest.split_at(NONCE_LEN);
        let id: [u8; 8] = id.try_into().expect("eight bytes");
        if known.destroyed.contains(&u64::from_le_bytes(id)) {
            // Stopped between the mark and overwriting.
            self.wipe(organisation)?;
            return Ok(known);
        }
        let mut wrapped = Zeroizing::new(wrapped.to_vec());
        let secret = self
            .wrap
            .open_in_place(
                Nonce::try_assume_unique_for_key(nonce).expect("twelve bytes"),
                Aad::from(wrap_context(organisation, id)),
                &mut wrapped,
            )
            .map_err(|_| KeyError::WrongMaster { path: path.clone() })?;
        let secret: &[u8; 32] = (&*secret).try_into().expect("32 bytes were wrapped");
        known.key = Some(Arc::new(OrganisationKey { id: u64::from_le_bytes(id), key: aead_key(secret) }));
        Ok(known)
    }

    pub(crate) fn read(&self, path: &Path) -> Result<Option<Vec<u8>>, KeyError> {
        match self.disk.open(path) {
            Ok(file) => read_all(&*file).map(Some).map_err(at(path)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(KeyError::Disk { path: path.to_owned(), error }),
        }
    }

    fn key_path(&self, organisation: OrganisationId) -> PathBuf {
        self.dir.join(ORGANISATIONS).join(format!("{}.key", uuid_text(organisation.0)))
    }
}

/// Binds a wrapped key to its organisation and number.
fn wrap_context(organisation: OrganisationId, id: [u8; 8]) -> [u8; 24] {
    let mut context = [0; 24];
    context[..16].copy_from_slice(&organisation.0.to_le_bytes());
    context[16..].copy_from_slice(&id);
    context
}

fn aead_key(secret: &[u8; 32]) -> LessSafeKey {
    LessSafeKey::new(UnboundKey::new(&AES_256_GCM, secret).expect("a key of 32 bytes"))
}

/// Magic ‖ CRC32C of the body ‖ body.
pub(crate) fn frame(magic: &[u8; 8], body: &[u8]) -> Vec<u8> {
    [&magic[..], &crc32c::crc32c(body).to_le_bytes(), body].concat()
}

pub(crate) fn unframe<'a>(bytes: &'a [u8], magic: &[u8; 8], path: &Path) -> Result<&'a [u8], KeyError> {
    if bytes.len() < 12 || bytes[..8] != *magic {
        return Err(damaged(path, "its first bytes"));
    }
    let (head, body) = bytes.split_at(12);
    if head[8..] != crc32c::crc32c(body).to_le_bytes() {
        return Err(damaged(path, "its checksum"));
    }
    Ok(body)
}

pub(crate) fn damaged(path: &Path, what: &'static str) -> KeyError {
    KeyError::Damaged { path: path.to_owned(), what }
}

pub(crate) fn at(path: &Path) -> impl Fn(io::Error) -> KeyError + '_ {
    |error| KeyError::Disk { path: path.to_owned(), error }
}
