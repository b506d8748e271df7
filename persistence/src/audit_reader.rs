//! Reads an audit: records checked against the tree, proofs checked against signed roots. Never writes.

use std::io;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, PoisonError};

use engine::{Command, LogTime, RequestId};

use crate::audit::ChainPlace;
use crate::audit_files::{
    AT, BEFORE, COUNT, DIGEST, FAR_AT, FILE_HEADER, FLAG_ERASED, FLAG_SEALED, FLAG_SYSTEM, FLAG_WHOLE, FLAGS,
    HIDDEN, INDEX, LEAF, LENGTH, NOWHERE, NUMBER, OPENERS_MAX, Openers, POSITION, PREVIOUS, PUBLIC, RECORD_HEADER,
    ROOT_RECORD, SALT, SEAL, SERVED, checksum, file_id, read_root,
};
use crate::checkpoint::Checkpoint;
use crate::disk::DiskFile;
use crate::file_seal::{FileOpener, SealHeader};
use crate::format::{u32_at, u64_at};
use crate::leaf::{Head, leaf_of, read_public_part, secret_digest};
use crate::merkle::{self, Hash, Subtrees, node_position};
use crate::sealer::{Opened, Place, Sealed};
use crate::{KeyError, Sealer};

/// Why something can't be read from an audit.
#[derive(Debug, thiserror::Error)]
pub enum AuditError {
    /// A file is shorter than, or not as, it was written: bring back the folder `audit` from the backup that the data
    /// folder came from. Roots and chains of what comes are not touched.
    #[error(
        "{}, offset {offset}: {what}; restore the folder `audit` that belongs to this data folder, or stop the node and make it again: `reversetender audit rebuild`", .path.display()
    )]
    Damaged {
        /// The file.
        path: PathBuf,
        /// Where in it.
        offset: u64,
        /// What is wrong.
        what: &'static str,
    },
    /// The disk refused.
    #[error("{}: {error}. {}", .path.display(), crate::error::remedy(.error))]
    Disk {
        /// The file.
        path: PathBuf,
        /// The error.
        error: io::Error,
    },
    /// A sealed part can't be opened.
    #[error(transparent)]
    Keys(#[from] KeyError),
}

/// What a record of the journal is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RecordKind {
    /// A command of a tender's chain.
    Tender,
    /// An interruption, or a command that is passed by: of no tender, and of all.
    System,
}

/// What is known of a record beside its command.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Header {
    /// What it is about.
    pub kind: RecordKind,
    /// Place of its leaf in the tree, from 0.
    pub leaf: u64,
    /// The entry of the log.
    pub index: u64,
    /// Its place in the entry, from 0.
    pub position: u32,
    /// Its place in its chain, from 1.
    pub number: u64,
    pub(crate) previous: u64,
    pub(crate) far: u64,
    /// Its stamp.
    pub at: LogTime,
    /// The hash of the tender's chain before it.
    pub before: Hash,
    /// The stamp of the shard's command before it.
    pub served_until: LogTime,
    /// Digest of its secret part.
    pub digest: Hash,
    /// The salt, when there is no secret part.
    pub salt: [u8; 16],
    /// The secret part's key was destroyed.
    pub is_erased: bool,
}

/// A record of the journal, checked against the tree.
#[derive(Clone, Debug)]
pub struct Record {
    /// What is known of it.
    pub header: Header,
    /// The command; its secret part is there when it could be read, with its salt.
    pub command: Command,
    /// The bytes that are hashed in public.
    pub public: Vec<u8>,
    /// Its leaf hash.
    pub leaf_hash: Hash,
    /// Whether it has a secret part, readable or not.
    pub has_secret: bool,
}

/// A file as it stood when the reader was made.
#[derive(Clone)]
pub(crate) struct Shared {
    pub(crate) path: PathBuf,
    pub(crate) file: Arc<dyn DiskFile>,
    pub(crate) end: u64,
}

impl Shared {
    fn read(&self, offset: u64, bytes: &mut [u8]) -> Result<(), AuditError> {
        let failed = |error: io::Error| match error.kind() {
            io::ErrorKind::UnexpectedEof => self.damaged(offset, "it is too short"),
            _ => AuditError::Disk { path: self.path.clone(), error },
        };
        self.file.read_at(offset, bytes).map_err(failed)
    }

    fn damaged(&self, offset: u64, what: &'static str) -> AuditError {
        AuditError::Damaged { path: self.path.clone(), offset, what }
    }
}

/// Reads an audit as it stood at one moment. Cheap to clone; needs no lock.
#[derive(Clone)]
pub struct AuditReader {
    pub(crate) shard: u16,
    pub(crate) sealer: Sealer,
    pub(crate) size: u64,
    pub(crate) unsynced: Arc<AtomicBool>,
    pub(crate) openers: Openers,
    pub(crate) nodes: Shared,
    pub(crate) journal: Shared,
    pub(crate) roots: Shared,
}

impl Subtrees for AuditReader {
    type Error = AuditError;

    fn subtree(&mut self, level: u32, index: u64) -> Result<Hash, AuditError> {
        let mut hash = [0; 32];
        self.nodes.read(FILE_HEADER + 32 * node_position(level, index), &mut hash)?;
        Ok(hash)
    }
}

impl AuditReader {
    /// How many leaves the tree has.
    pub fn size(&self) -> u64 {
        self.size
    }

    /// Makes everything durable that it reads.
    ///
    /// # Errors
    /// A sync failed, now or before: nothing may count on the files until the next start.
    pub fn sync(&self) -> io::Result<()> {
        if self.unsynced.load(Ordering::Acquire) {
            return Err(io::Error::other("a sync of the audit failed before; it is made good by the next start"));
        }
        let synced =
            [&self.nodes, &self.journal, &self.roots].into_iter().try_for_each(|shared| shared.file.sync_data());
        if synced.is_err() {
            self.unsynced.store(true, Ordering::Release);
        }
        synced
    }

    /// The root of the first `size` leaves.
    ///
    /// # Errors
    /// A file is damaged.
    pub fn root(&mut self, size: u64) -> Result<Hash, AuditError> {
        merkle::root(size, self)
    }

    /// The proof that leaf `index` is in the tree whose root `checkpoint` signs, checked against that root.
    ///
    /// # Errors
    /// A file is damaged.
    pub fn inclusion(
        &mut self,
        index: u64,
        leaf: &Hash,
        checkpoint: &Checkpoint,
    ) -> Result<Vec<Hash>, AuditError> {
        let proof = merkle::inclusion_proof(index, checkpoint.size, self)?;
        if merkle::root_of_inclusion(leaf, index, checkpoint.size, &proof) != Some(checkpoint.root) {
            return Err(self.nodes.damaged(FILE_HEADER, "its hashes don't give the root that was signed"));
        }
        Ok(proof)
    }

    /// The proof that the tree of `size` leaves begins with that of `before` leaves.
    ///
    /// # Errors
    /// A file is damaged.
    pub fn consistency(&mut self, before: u64, size: u64) -> Result<Vec<Hash>, AuditError> {
        merkle::consistency_proof(before, size, self)
    }

    fn header(&self, at: u64) -> Result<(Header, [u8; RECORD_HEADER]), AuditError> {
        let mut bytes = [0; RECORD_HEADER];
        if at < FILE_HEADER || !at.is_multiple_of(8) || at + RECORD_HEADER as u64 > self.journal.end {
            return Err(self.journal.damaged(at, "no record can be here"));
        }
        self.journal.read(at, &mut bytes)?;
        let flags = u32_at(&bytes, FLAGS);
        let hash = |at: usize| bytes[at..at + 32].try_into().expect("32 bytes");
        let header = Header {
            kind: if flags & FLAG_SYSTEM == 0 { RecordKind::Tender } else { RecordKind::System },
            leaf: u64_at(&bytes, LEAF),
            index: u64_at(&bytes, INDEX),
            position: u32_at(&bytes, POSITION),
            number: u64_at(&bytes, NUMBER),
            previous: u64_at(&bytes, PREVIOUS),
            far: u64_at(&bytes, FAR_AT),
            at: LogTime(u64_at(&bytes, AT) as i64),
            before: hash(BEFORE),
            served_until: LogTime(u64_at(&bytes, SERVED) as i64),
            // In a record that is sealed as a whole these three stand behind it: who opens it puts them in.
            digest: hash(DIGEST),
            salt: bytes[SALT..SALT + 16].try_into().expect("16 bytes"),
            is_erased: flags & FLAG_ERASED != 0,
        };
        // The rest is checked with the whole record; this much keeps a walk from going astray.
        if header.previous >= at || header.far >= at {
            return Err(self.journal.damaged(at, "a record points forward"));
        }
        Ok((header, bytes))
    }

    fn opener(&self, seal: &SealHeader) -> Result<Arc<FileOpener>, KeyError> {
        let mut openers = self.openers.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((_, opener)) = openers.iter().find(|(known, _)| known == seal) {
            return Ok(Arc::clone(opener));
        }
        let id = file_id(&self.sealer, self.shard);
        let opener = Arc::new(FileOpener::new(self.sealer.keys(), seal, &id, &self.journal.path)?);
        if openers.len() == OPENERS_MAX {
            openers.remove(0);
        }
        openers.push((*seal, Arc::clone(&opener)));
        Ok(opener)
    }

    /// The record at a place that [`AuditReader::places`] or [`AuditReader::find`] gave.
    ///
    /// # Errors
    /// It is damaged, or its secret part can't be opened.
    pub fn record(&mut self, at: u64) -> Result<Record, AuditError> {
        let (mut header, head) = self.header(at)?;
        let length = u32_at(&head, LENGTH) as usize;
        let padded = (RECORD_HEADER + length).next_multiple_of(8);
        let public_length = u32_at(&head, PUBLIC) as usize;
        if at + padded as u64 > self.journal.end {
            return Err(self.journal.damaged(at, "a record's length can't be right"));
        }
        let mut bytes = vec![0; padded];
        self.journal.read(at, &mut bytes)?;
        if u32_at(&bytes, 0) != checksum(&bytes, self.shard, at) {
            return Err(self.journal.damaged(at, "a record's checksum does not hold"));
        }
        let mut body = bytes.split_off(RECORD_HEADER);
        body.truncate(length);
        if u32_at(&head, FLAGS) & FLAG_WHOLE != 0 {
            let opener = self.opener(&SealHeader::decode(&head[SEAL..COUNT]))?;
            let clear =
                opener.open(at, u64_at(&head, COUNT), &head[LENGTH..COUNT], &mut body).map(|clear| clear.len());
            let clear = clear.filter(|clear| *clear >= HIDDEN);
            let clear = clear
                .ok_or_else(|| self.journal.damaged(at, "a sealed record was changed or moved by somebody"))?;
            body.truncate(clear);
            let rest = body.split_off(HIDDEN);
            let field = |at: usize| &body[at - SALT..];
            header.salt.copy_from_slice(&field(SALT)[..16]);
            header.before.copy_from_slice(&field(BEFORE)[..32]);
            header.digest.copy_from_slice(&field(DIGEST)[..32]);
            body = rest;
        }
        if public_length > body.len() {
            return Err(self.journal.damaged(at, "a record's length can't be right"));
        }
        let sealed_part = body.split_off(public_length);
        let public = body;
        let (envelope, action) =
            read_public_part(&public).map_err(|_| self.journal.damaged(at, "a record's command can't be read"))?;
        let mut command = Command { envelope, action, secret: None };
        let mut has_secret = header.is_erased;
        if u32_at(&head, FLAGS) & FLAG_SEALED != 0 {
            has_secret = true;
            let sealed: Sealed = wincode::deserialize_exact(&sealed_part)
                .map_err(|_| self.journal.damaged(at, "a record's sealed part can't be read"))?;
            let place = Place::Log { shard: self.shard, index: header.index, position: header.position };
            match self.sealer.open_secret(place, &sealed)? {
                Opened::Clear { salt, secret } => {
                    command.envelope.salt = salt;
                    command.secret = Some(secret);
                }
                Opened::Erased(_) => header.is_erased = true,
            }
        } else {
            command.envelope.salt = header.salt;
        }
        let leaf_hash = leaf_of(&public, &header.digest);
        let is_whole =
            header.is_erased || header.digest == secret_digest(command.envelope.salt, command.secret.as_ref());
        if !is_whole || self.subtree(0, header.leaf)? != leaf_hash {
            return Err(self.journal.damaged(at, "a record does not give the leaf that is in the tree"));
        }
        Ok(Record { header, command, public, leaf_hash, has_secret })
    }

    /// The places of the records of a chain, oldest first, from leaf `from` on.
    ///
    /// # Errors
    /// The journal is damaged.
    pub fn places(&self, chain: &ChainPlace, from: u64) -> Result<Vec<u64>, AuditError> {
        let mut places = Vec::new();
        let mut at = chain.tail.last;
        while at != NOWHERE {
            let (header, _) = self.header(at)?;
            if header.leaf < from {
                break;
            }
            places.push(at);
            at = header.previous;
        }
        places.reverse();
        Ok(places)
    }

    /// The place of the command of a chain that was stamped `at` and made by `request`.
    ///
    /// # Errors
    /// The journal is damaged.
    pub fn find(
        &mut self,
        chain: &ChainPlace,
        at: LogTime,
        request: RequestId,
    ) -> Result<Option<u64>, AuditError> {
        let mut place = chain.tail.last;
        while place != NOWHERE {
            let (header, _) = self.header(place)?;
            if header.at > at {
                // A record pointed at from afar is at most FAR records away; what lies between is later still.
                let far = if header.far == NOWHERE { None } else { Some(self.header(header.far)?.0.at) };
                place = if far.is_some_and(|far| far > at) { header.far } else { header.previous };
                continue;
            }
            if header.at < at {
                return Ok(None);
            }
            if self.record(place)?.command.envelope.request == request {
                return Ok(Some(place));
            }
            place = header.previous;
        }
        Ok(None)
    }

    fn root_count(&self) -> u64 {
        (self.roots.end - FILE_HEADER) / ROOT_RECORD as u64
    }

    fn stored_root(&self, number: u64) -> Result<Checkpoint, AuditError> {
        let at = FILE_HEADER + number * ROOT_RECORD as u64;
        let mut record = [0; ROOT_RECORD];
        self.roots.read(at, &mut record)?;
        if u32_at(&record, 0) != checksum(&record, self.shard, at) {
            return Err(self.roots.damaged(at, "a signed root's checksum does not hold"));
        }
        Ok(read_root(&record, self.shard))
    }

    /// The newest signed root.
    ///
    /// # Errors
    /// The file is damaged.
    pub fn latest(&self) -> Result<Option<Checkpoint>, AuditError> {
        self.root_count().checked_sub(1).map(|last| self.stored_root(last)).transpose()
    }

    /// The first signed root of a tree with more than `leaf` leaves.
    ///
    /// # Errors
    /// The file is damaged.
    pub fn covering(&self, leaf: u64) -> Result<Option<Checkpoint>, AuditError> {
        let (mut low, mut high) = (0, self.root_count());
        while low < high {
            let middle = low + (high - low) / 2;
            if self.stored_root(middle)?.size > leaf { high = middle } else { low = middle + 1 }
        }
        (low < self.root_count()).then(|| self.stored_root(low)).transpose()
    }

    /// Head of a tender's chain behind `record`.
    pub fn head_behind(record: &Record) -> Head {
        let mut head = Head { count: record.header.number - 1, hash: record.header.before };
        head.push(record.leaf_hash);
        head
    }
}
