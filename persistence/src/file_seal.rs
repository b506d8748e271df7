//! Sealing whole files: every record of a segment and every frame of a snapshot, under a key of that file alone; and the
//! records of an audit's journal, under a key of the process that writes them.
//!
//! The file's key is derived from a data key and a random salt that lies in the file's header, and messages are numbered
//! upwards from 0, so no key ever meets one number twice: who seals holds the only counter, which can't be copied, and it is never
//! made for a file of another process. What is authenticated names log, node, file, place and format, so a record that
//! was moved does not open. Knows neither segments nor snapshots.

use std::path::Path;

use aws_lc_rs::aead::{AES_256_GCM, Aad, LessSafeKey, NONCE_LEN, Nonce, UnboundKey};
use aws_lc_rs::hkdf::{HKDF_SHA256, KeyType, Salt};
use zeroize::Zeroizing;

use crate::format::{put, u16_at, u64_at};
use crate::keys::{KeyError, Keys};

/// What is sealed where it is stored.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Seal {
    /// Secret parts of commands alone.
    #[default]
    Secrets,
    /// Every record of the log and of the audit's journal, and every snapshot.
    All,
}

/// Bytes by which a sealed message is longer.
pub(crate) const TAG: usize = 16;
/// Bytes of a seal's description in a file's header.
pub(crate) const SEAL_HEADER: usize = 72;
/// In the header of a sealed file: AES-256-GCM under a key by HKDF-SHA-256.
pub(crate) const CIPHER: u16 = 1;
/// GCM's bound on messages under one key is 2^32 for random numbers; counted ones are further from it.
const MESSAGES_MAX: u64 = 1 << 32;

/// What a sealed file's header says of its seal, little-endian: 0 data key u64 | 8 incarnation u64 | 16 node u16 |
/// 18 zero | 24 check | 40 salt.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SealHeader {
    /// Number of the data key.
    pub data_key: u64,
    /// Random, new for every process that opens the folder.
    pub incarnation: u64,
    /// The node that sealed.
    pub node: u16,
    /// Derived with the file's key; tells a wrong data key from a changed file.
    pub check: [u8; 16],
    /// Random, new for every file.
    pub salt: [u8; 32],
}

impl SealHeader {
    pub(crate) fn encode(&self) -> [u8; SEAL_HEADER] {
        let mut bytes = [0; SEAL_HEADER];
        put(&mut bytes, 0, &self.data_key.to_le_bytes());
        put(&mut bytes, 8, &self.incarnation.to_le_bytes());
        put(&mut bytes, 16, &self.node.to_le_bytes());
        put(&mut bytes, 24, &self.check);
        put(&mut bytes, 40, &self.salt);
        bytes
    }

    pub(crate) fn decode(bytes: &[u8]) -> Self {
        let (mut check, mut salt) = ([0; 16], [0; 32]);
        check.copy_from_slice(&bytes[24..40]);
        salt.copy_from_slice(&bytes[40..72]);
        Self { data_key: u64_at(bytes, 0), incarnation: u64_at(bytes, 8), node: u16_at(bytes, 16), check, salt }
    }
}

/// Which file it is; part of its key and of all that is authenticated.
#[derive(Clone, Copy, Debug)]
pub(crate) struct FileId {
    /// 1: segment; 2: snapshot; 3: journal of an audit.
    pub(crate) kind: u8,
    /// Version of its format.
    pub(crate) version: u32,
    /// The log's id.
    pub(crate) cluster: u128,
    /// Sequence of the segment, number of the snapshot, shard of the journal.
    pub(crate) number: u64,
    /// Generation of the segment; 0 for others.
    pub(crate) generation: u64,
}

const CONTEXT: usize = 64;

impl FileId {
    /// 0 kind | 1 zero | 2 node | 4 version | 8 number | 16 generation | 24 cluster | 40 incarnation | 48 data key |
    /// 56 zero
    fn context(&self, seal: &SealHeader) -> [u8; CONTEXT] {
        let mut context = [0; CONTEXT];
        context[0] = self.kind;
        put(&mut context, 2, &seal.node.to_le_bytes());
        put(&mut context, 4, &self.version.to_le_bytes());
        put(&mut context, 8, &self.number.to_le_bytes());
        put(&mut context, 16, &self.generation.to_le_bytes());
        put(&mut context, 24, &self.cluster.to_le_bytes());
        put(&mut context, 40, &seal.incarnation.to_le_bytes());
        put(&mut context, 48, &seal.data_key.to_le_bytes());
        context
    }
}

struct Length(usize);

impl KeyType for Length {
    fn len(&self) -> usize {
        self.0
    }
}

/// The file's key, the first bytes of a second one that shows a wrong data key, and what is authenticated always.
struct FileKey {
    key: LessSafeKey,
    check: [u8; 16],
    context: [u8; CONTEXT],
    #[cfg(test)]
    name: [u8; 16],
}

impl FileKey {
    fn derive(data_key: &[u8; 32], id: &FileId, seal: &SealHeader) -> Self {
        let context = id.context(seal);
        let root = Salt::new(HKDF_SHA256, &seal.salt).extract(data_key);
        let expand = |label: &[u8], bytes: &mut [u8]| {
            let info = [label, &context];
            let made = root.expand(&info, Length(bytes.len())).and_then(|made| made.fill(bytes));
            made.expect("so few bytes can be derived");
        };
        let mut key = Zeroizing::new([0; 32]);
        let mut check = [0; 16];
        expand(b"reversetender file key 1", &mut key[..]);
        expand(b"reversetender file check 1", &mut check);
        let aead = LessSafeKey::new(UnboundKey::new(&AES_256_GCM, &key[..]).expect("a key of 32 bytes"));
        Self {
            key: aead,
            check,
            context,
            #[cfg(test)]
            name: key[..16].try_into().expect("16 bytes"),
        }
    }

    /// Context ‖ offset ‖ count ‖ the message's header.
    fn authenticated(&self, offset: u64, count: u64, head: &[u8]) -> Aad<Vec<u8>> {
        Aad::from([&self.context[..], &offset.to_le_bytes(), &count.to_le_bytes(), head].concat())
    }
}

fn nonce(count: u64) -> Nonce {
    let mut nonce = [0; NONCE_LEN];
    nonce[..8].copy_from_slice(&count.to_le_bytes());
    Nonce::assume_unique_for_key(nonce)
}

/// Seals the messages of one new file, in order. Can't be copied, and can't be made for a file that is there.
pub(crate) struct FileSealer {
    file: FileKey,
    /// The lowest number that the next message may have.
    next: u64,
}

impl FileSealer {
    /// For a file that this process is about to make: draws its salt, under the newest data key.
    pub(crate) fn begin(
        keys: &Keys,
        incarnation: u64,
        node: u16,
        id: &FileId,
    ) -> Result<(Self, SealHeader), KeyError> {
        let (data_key, secret) = keys.newest_data_key()?;
        let mut seal = SealHeader { data_key, incarnation, node, check: [0; 16], salt: [0; 32] };
        keys.random(&mut seal.salt);
        let file = FileKey::derive(&secret, id, &seal);
        seal.check = file.check;
        Ok((Self { file, next: 0 }, seal))
    }

    /// Seals message `count` in place; returns what goes behind it. `head` is authenticated and stays readable.
    ///
    /// # Panics
    /// If the number was used, or a higher one.
    pub(crate) fn seal(&mut self, offset: u64, count: u64, head: &[u8], clear: &mut [u8]) -> [u8; TAG] {
        assert!((self.next..MESSAGES_MAX).contains(&count), "a number seals one message, and the next is higher");
        self.next = count + 1;
        #[cfg(test)]
        used::note(self.file.name, count);
        let aad = self.file.authenticated(offset, count, head);
        let tag = self.file.key.seal_in_place_separate_tag(nonce(count), aad, clear);
        tag.expect("a record is short enough to be sealed").as_ref().try_into().expect("a tag of 16 bytes")
    }
}

/// Opens the messages of one file, in any order.
pub(crate) struct FileOpener {
    file: FileKey,
}

impl FileOpener {
    /// For a file with this description. A data key that is missing, wrong or revoked is told with its file.
    pub(crate) fn new(keys: &Keys, seal: &SealHeader, id: &FileId, path: &Path) -> Result<Self, KeyError> {
        let secret = keys.data_key(seal.data_key, path)?;
        let file = FileKey::derive(&secret, id, seal);
        if file.check != seal.check {
            return Err(KeyError::WrongData {
                path: path.to_owned(),
                key: seal.data_key,
                file: keys.data_key_path(seal.data_key),
            });
        }
        Ok(Self { file })
    }

    /// Opens message `count` in place: `bytes` with the tag behind them. None: it was changed or moved.
    pub(crate) fn open<'a>(
        &self,
        offset: u64,
        count: u64,
        head: &[u8],
        bytes: &'a mut [u8],
    ) -> Option<&'a mut [u8]> {
        let aad = self.file.authenticated(offset, count, head);
        self.file.key.open_in_place(nonce(count), aad, bytes).ok()
    }
}

/// What was sealed by this thread in a test: no key ever meets a number twice.
#[cfg(test)]
pub(crate) mod used {
    use std::cell::RefCell;
    use std::collections::HashSet;

    thread_local! {
        static USED: RefCell<HashSet<([u8; 16], u64)>> = RefCell::default();
    }

    pub(super) fn note(key: [u8; 16], count: u64) {
        let new = USED.with_borrow_mut(|used| used.insert((key, count)));
        assert!(new, "message {count} was sealed before under this key");
    }

    /// How many pairs of key and number were used so far.
    pub(crate) fn pairs() -> usize {
        USED.with_borrow(HashSet::len)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::disk::Disk;
    use crate::faulty::FaultyDisk;
    use crate::format::page;
    use crate::keys::system_random;

    fn id() -> FileId {
        FileId { kind: 1, version: 2, cluster: 5, number: 1, generation: 77 }
    }

    fn keys(disk: &FaultyDisk, dir: &str) -> Keys {
        Keys::open(Arc::new(disk.clone()), Path::new(dir), system_random, true).expect("opened")
    }

    #[test]
    fn the_page_draws_these_bytes() {
        let text = include_str!("../docs/log-format.md");
        page::check(
            text,
            "### Seal",
            &[(0, "data_key"), (8, "incarnation"), (16, "node"), (18, "zero"), (24, "check"), (40, "salt")],
        );
        let (offset, size, _) = page::fields(text, "### Seal").pop().expect("a last field");
        assert_eq!(offset + size, SEAL_HEADER);
        let header = SealHeader { data_key: 1, incarnation: 2, node: 3, check: [4; 16], salt: [5; 32] };
        assert_eq!(SealHeader::decode(&header.encode()), header);
    }

    #[test]
    fn a_message_opens_as_it_is_at_its_place_in_its_file_only() {
        let disk = FaultyDisk::new();
        let keys = keys(&disk, "/keys");
        let (mut sealer, header) = FileSealer::begin(&keys, 9, 4, &id()).expect("begun");
        let path = Path::new("/data/log/1.seg");
        let seal = |sealer: &mut FileSealer, offset, count| {
            let mut bytes = b"a price".to_vec();
            let tag = sealer.seal(offset, count, b"head", &mut bytes);
            bytes.extend_from_slice(&tag);
            bytes
        };
        let (first, second) = (seal(&mut sealer, 4096, 0), seal(&mut sealer, 4136, 1));
        let open = |header: &SealHeader, id: &FileId, offset, count, head: &[u8], bytes: &[u8]| {
            let mut bytes = bytes.to_vec();
            let opener = FileOpener::new(&keys, header, id, path).expect("the key is there");
            opener.open(offset, count, head, &mut bytes).map(|clear| clear.to_vec())
        };
        assert_eq!(open(&header, &id(), 4096, 0, b"head", &first).as_deref(), Some(&b"a price"[..]));
        assert_eq!(open(&header, &id(), 4136, 1, b"head", &second).as_deref(), Some(&b"a price"[..]));
        for bit in 0..first.len() * 8 {
            let mut flipped = first.clone();
            flipped[bit / 8] ^= 1 << (bit % 8);
            assert_eq!(open(&header, &id(), 4096, 0, b"head", &flipped), None, "bit {bit}");
        }
        // Another place, another number, another header.
        assert_eq!(open(&header, &id(), 4136, 0, b"head", &first), None);
        assert_eq!(open(&header, &id(), 4096, 1, b"head", &first), None);
        assert_eq!(open(&header, &id(), 4096, 0, b"held", &first), None);
        // Another segment, another generation, another log, another node, another process: other keys, which the
        // check tells first.
        let refused = |header: &SealHeader, id: &FileId| {
            matches!(FileOpener::new(&keys, header, id, path), Err(KeyError::WrongData { key: 1, .. }))
        };
        assert!(refused(&header, &FileId { number: 2, ..id() }));
        assert!(refused(&header, &FileId { generation: 78, ..id() }));
        assert!(refused(&header, &FileId { cluster: 6, ..id() }));
        assert!(refused(&header, &FileId { kind: 2, ..id() }));
        assert!(refused(&header, &FileId { version: 3, ..id() }));
        assert!(refused(&SealHeader { node: 5, ..header }, &id()));
        assert!(refused(&SealHeader { incarnation: 8, ..header }, &id()));
        assert!(refused(&SealHeader { salt: [0; 32], ..header }, &id()));
        // The same file, begun again: another salt and so another key.
        let (mut again, other) = FileSealer::begin(&keys, 9, 4, &id()).expect("begun");
        assert_ne!((seal(&mut again, 4096, 0), header.salt), (first, other.salt));
    }

    #[test]
    fn rotated_lost_wrong_and_revoked_keys_are_told_apart() {
        let disk = FaultyDisk::new();
        let mine = keys(&disk, "/keys");
        let running = keys(&disk, "/keys");
        let (_, first) = FileSealer::begin(&mine, 1, 1, &id()).expect("begun");
        assert_eq!((first.data_key, mine.rotate().expect("rotated")), (1, 2));
        assert_eq!(running.newest_data_key_number(), 0);
        assert_eq!((running.look_for_data_keys().expect("looked"), running.newest_data_key_number()), (2, 2));
        let (_, second) = FileSealer::begin(&running, 1, 1, &id()).expect("begun");
        assert_eq!(second.data_key, 2);
        let path = Path::new("/data/log/1.seg");
        assert!(FileOpener::new(&running, &first, &id(), path).is_ok(), "what is there stays readable");
        let key = Path::new("/keys/data/0000000000000001.key");
        let told = |keys: &Keys| {
            let error = FileOpener::new(keys, &first, &id(), path).err().expect("refused").to_string();
            assert!(error.contains("0000000000000001.") && error.contains("restore"), "{error}");
            error
        };
        // Another key under this number, of another master.
        let content = disk.content(key).expect("there");
        let third = keys(&disk, "/others");
        third.rotate().expect("made");
        let other = disk.content(Path::new("/others/data/0000000000000001.key")).expect("there");
        disk.damage(key, |bytes| bytes.clone_from(&other));
        let error = told_master(&running, &first, path);
        assert!(error.contains("master key is not the one"), "{error}");
        disk.damage(key, |bytes| bytes.clone_from(&content));
        assert!(FileOpener::new(&running, &first, &id(), path).is_ok());
        disk.rename(key, &key.with_extension("revoked")).expect("renamed");
        assert!(told(&running).contains("was revoked"));
        disk.remove(&key.with_extension("revoked")).expect("removed");
        assert!(told(&running).contains("is missing"));
    }

    fn told_master(keys: &Keys, header: &SealHeader, path: &Path) -> String {
        FileOpener::new(keys, header, &id(), path).err().expect("refused").to_string()
    }
}
