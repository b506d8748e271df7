//! The files of an audit: all hashes of the tree, the journal of tenders' commands, and the signed roots.
//!
//! Append-only; docs/audit.md draws every byte. Buffered: nothing here is answered for, and a crash is made good by the
//! replay. Never decides what belongs into the tree.

use std::io;
use std::path::Path;
use std::sync::atomic::AtomicBool;
use std::sync::{Arc, Mutex};

use engine::{LogTime, Secret};

use crate::audit::{AuditPlace, FAR};
use crate::audit_growing::{Growing, named};
use crate::audit_reader::{AuditReader, Header, RecordKind, Shared};
use crate::checkpoint::Checkpoint;
use crate::disk::Disk;
use crate::file_seal::{FileId, FileOpener, FileSealer, SEAL_HEADER, SealHeader, TAG};
use crate::format::{put, u32_at, u64_at};
use crate::merkle::{Hash, node_count};
use crate::sealer::Place;
use crate::{KeyError, Sealer};

/// Newest version of the files of an audit; written where records are sealed, so that an older program refuses them.
pub const AUDIT_VERSION: u32 = 2;
/// The oldest version, in which no record is sealed as a whole; written as long as none is.
pub(crate) const AUDIT_VERSION_MIN: u32 = 1;
/// The version since which records can be sealed; authenticated with each.
const SEALED_SINCE: u32 = 2;
/// Keys of sealed records that a reader keeps: one for each process that wrote.
pub(crate) const OPENERS_MAX: usize = 16;
/// Place of a record that is not there.
pub(crate) const NOWHERE: u64 = 0;
/// What is buffered is written when it is larger.
const BUFFER_BYTES: usize = 64 << 10;
/// So much is kept while the disk is full: the log takes nothing then, so little comes.
const FULL_BYTES_MAX: usize = 64 << 20;

// Head of each file, little-endian: 0 magic | 8 version u32 | 12 crc32c u32 | 16 cluster u128 | 32 history u128 |
// 48 shard u16 | 50 zero
pub(crate) const NODES_MAGIC: [u8; 8] = *b"RTANODES";
pub(crate) const JOURNAL_MAGIC: [u8; 8] = *b"RTAJOURN";
pub(crate) const ROOTS_MAGIC: [u8; 8] = *b"RTAROOTS";
pub(crate) const FILE_HEADER: u64 = 64;
pub(crate) const CLUSTER: usize = 16;
pub(crate) const HISTORY: usize = 32;
pub(crate) const SHARD: usize = 48;

// A record of the journal, little-endian, at a multiple of 8.
pub(crate) const LENGTH: usize = 4;
pub(crate) const LEAF: usize = 8;
pub(crate) const INDEX: usize = 16;
pub(crate) const NUMBER: usize = 24;
pub(crate) const PREVIOUS: usize = 32;
pub(crate) const FAR_AT: usize = 40;
pub(crate) const AT: usize = 48;
pub(crate) const SERVED: usize = 56;
pub(crate) const POSITION: usize = 64;
pub(crate) const FLAGS: usize = 68;
pub(crate) const PUBLIC: usize = 72;
pub(crate) const SALT: usize = 80;
pub(crate) const BEFORE: usize = 96;
pub(crate) const DIGEST: usize = 128;
pub(crate) const RECORD_HEADER: usize = 160;
pub(crate) const FLAG_SEALED: u32 = 1;
pub(crate) const FLAG_ERASED: u32 = 2;
pub(crate) const FLAG_SYSTEM: u32 = 4;
pub(crate) const FLAG_WHOLE: u32 = 8;

// What a record that is sealed as a whole has from SALT on: the seal, the message's number, and sealed what stands there
// otherwise.
pub(crate) const SEAL: usize = SALT;
pub(crate) const COUNT: usize = SEAL + SEAL_HEADER;
const _: () = assert!(COUNT + 8 == RECORD_HEADER, "both forms have a head of one size");
/// Bytes of a head that are sealed with the rest.
pub(crate) const HIDDEN: usize = RECORD_HEADER - SALT;

// A signed root, little-endian.
pub(crate) const ROOT_SIZE: usize = 8;
pub(crate) const ROOT_AT: usize = 16;
pub(crate) const ROOT_HASH: usize = 24;
pub(crate) const ROOT_SIGNATURE: usize = 56;
pub(crate) const ROOT_RECORD: usize = 120;

/// The files of one shard's audit.
pub(crate) struct AuditFiles {
    shard: u16,
    sealer: Sealer,
    nodes: Growing,
    journal: Growing,
    roots: Growing,
    /// The first error of a write; nothing is written behind it.
    failed: Option<io::Error>,
    /// A sync failed: what a later one says is worth nothing.
    unsynced: Arc<AtomicBool>,
    /// Seals whole records, when everything is sealed: this process's own key, and how many it sealed.
    seal: Option<(FileSealer, SealHeader, u64)>,
    openers: Openers,
}

/// Keys of sealed records, the newest last.
pub(crate) type Openers = Arc<Mutex<Vec<(SealHeader, Arc<FileOpener>)>>>;

/// Which file a journal is, for its seals.
pub(crate) fn file_id(sealer: &Sealer, shard: u16) -> FileId {
    let cluster = sealer.cluster();
    FileId { kind: 3, version: SEALED_SINCE, cluster, number: u64::from(shard), generation: 0 }
}

impl AuditFiles {
    pub(crate) fn open(place: &AuditPlace, shard: u16) -> io::Result<Self> {
        place.disk.create_dir(&place.dir).map_err(named(&place.dir))?;
        let mut roots = Growing::open(place, shard, "roots", ROOTS_MAGIC)?;
        roots.written = sound_roots(&roots, shard)?;
        Ok(Self {
            shard,
            sealer: place.sealer.clone(),
            nodes: Growing::open(place, shard, "nodes", NODES_MAGIC)?,
            journal: Growing::open(place, shard, "journal", JOURNAL_MAGIC)?,
            roots,
            failed: None,
            unsynced: Arc::default(),
            seal: None,
            openers: Openers::default(),
        })
    }

    /// Goes on behind `size` leaves and the journal's `end`; what lies behind is written again by the replay.
    pub(crate) fn rewind(&mut self, size: u64, journal_end: Option<u64>, is_partial: bool) {
        self.nodes.written = FILE_HEADER + 32 * node_count(size);
        self.journal.written = journal_end.unwrap_or(FILE_HEADER);
        for file in [&self.nodes, &self.journal] {
            if !is_partial && file.file.len().is_ok_and(|len| len < file.written) {
                tracing::error!(
                    "{} is shorter than the snapshot counts on: what came before it can't be proved; restore the \
                     folder `audit`, or stop and run `reversetender audit rebuild`",
                    file.path.display()
                );
            }
        }
    }

    pub(crate) fn shard(&self) -> u16 {
        self.shard
    }

    pub(crate) fn journal_end(&self) -> u64 {
        self.journal.end()
    }

    pub(crate) fn push_node(&mut self, hash: &Hash) {
        self.nodes.buffer.extend_from_slice(hash);
    }

    /// Appends a record and answers its place.
    pub(crate) fn push_record(
        &mut self,
        header: &Header,
        public: &[u8],
        place: Place,
        salt: [u8; 16],
        secret: Option<&Secret>,
    ) -> u64 {
        let mut flags = if header.is_erased { FLAG_ERASED } else { 0 };
        if header.kind == RecordKind::System {
            flags |= FLAG_SYSTEM;
        }
        let mut sealed = Vec::new();
        if let Some(secret) = secret {
            match self.sealer.seal_secret(place, salt, secret) {
                Ok(part) => {
                    flags |= FLAG_SEALED;
                    sealed = wincode::serialize(&part).expect("a sealed part is below the limits");
                }
                Err(error) => self.fail(io::Error::other(error)),
            }
        }
        if let Err(error) = self.renew_seal() {
            // Nothing is written behind a failure, so nothing is left readable.
            self.fail(io::Error::other(error));
        }
        let at = self.journal.end();
        let mut seal = self.seal.as_mut();
        let buffer = &mut self.journal.buffer;
        let start = buffer.len();
        buffer.resize(start + RECORD_HEADER, 0);
        buffer.extend_from_slice(public);
        buffer.extend_from_slice(&sealed);
        let mut length = buffer.len() - start - RECORD_HEADER;
        if seal.is_some() {
            flags |= FLAG_WHOLE;
            length += HIDDEN + TAG;
        }
        buffer.resize(start + (RECORD_HEADER + length).next_multiple_of(8), 0);
        let record = &mut buffer[start..];
        put(record, LENGTH, &(length as u32).to_le_bytes());
        put(record, LEAF, &header.leaf.to_le_bytes());
        put(record, INDEX, &header.index.to_le_bytes());
        put(record, NUMBER, &header.number.to_le_bytes());
        put(record, PREVIOUS, &header.previous.to_le_bytes());
        put(record, FAR_AT, &header.far.to_le_bytes());
        put(record, AT, &header.at.0.to_le_bytes());
        put(record, SERVED, &header.served_until.0.to_le_bytes());
        put(record, POSITION, &header.position.to_le_bytes());
        put(record, FLAGS, &flags.to_le_bytes());
        put(record, PUBLIC, &(public.len() as u32).to_le_bytes());
        put(record, SALT, &header.salt);
        put(record, BEFORE, &header.before);
        put(record, DIGEST, &header.digest);
        if let Some((sealer, seal, sealed)) = &mut seal {
            let clear = RECORD_HEADER + length - HIDDEN - TAG;
            record.copy_within(SALT..clear, RECORD_HEADER);
            put(record, SEAL, &seal.encode());
            put(record, COUNT, &sealed.to_le_bytes());
            let (head, rest) = record.split_at_mut(RECORD_HEADER);
            let (clear, rest) = rest.split_at_mut(length - TAG);
            let tag = sealer.seal(at, *sealed, &head[LENGTH..COUNT], clear);
            put(rest, 0, &tag);
            *sealed += 1;
        }
        let crc = checksum(record, self.shard, at);
        put(record, 0, &crc.to_le_bytes());
        at
    }

    /// Makes ready to seal a whole record, when everything is sealed; the key is this process's own, so that no number
    /// meets a key twice, whatever a replay writes again.
    fn renew_seal(&mut self) -> Result<(), KeyError> {
        let newest = self.seal.as_ref().map(|(_, seal, _)| *seal);
        if newest.is_none() || self.sealer.is_stale(newest) {
            let begun = self.sealer.begin_file(&file_id(&self.sealer, self.shard))?;
            self.seal = begun.map(|(sealer, seal)| (sealer, seal, 0));
        }
        Ok(())
    }

    pub(crate) fn push_root(&mut self, checkpoint: &Checkpoint) {
        let mut record = [0; ROOT_RECORD];
        put(&mut record, ROOT_SIZE, &checkpoint.size.to_le_bytes());
        put(&mut record, ROOT_AT, &checkpoint.at.0.to_le_bytes());
        put(&mut record, ROOT_HASH, &checkpoint.root);
        put(&mut record, ROOT_SIGNATURE, &checkpoint.signature);
        let crc = checksum(&record, self.shard, self.roots.end());
        put(&mut record, 0, &crc.to_le_bytes());
        self.roots.buffer.extend_from_slice(&record);
    }

    fn fail(&mut self, error: io::Error) {
        if self.failed.is_none() {
            tracing::error!(
                "The audit of shard {} can't be written: no snapshot is taken until the next start: {error}",
                self.shard
            );
            self.failed = Some(error);
        }
    }

    pub(crate) fn flush_if_large(&mut self) {
        if self.failed.is_some() || self.journal.buffer.len() + self.nodes.buffer.len() >= BUFFER_BYTES {
            // Kept and told to who wants to count on the files.
            let _told = self.flush();
        }
    }

    pub(crate) fn flush(&mut self) -> io::Result<()> {
        if self.failed.is_none() {
            let flushed =
                [&mut self.nodes, &mut self.journal, &mut self.roots].into_iter().try_for_each(Growing::flush);
            if let Err(error) = flushed {
                // What could not be written is written again at the same place when there is room.
                let held = self.nodes.buffer.len() + self.journal.buffer.len() + self.roots.buffer.len();
                if error.kind() == io::ErrorKind::StorageFull && held <= FULL_BYTES_MAX {
                    return Err(error);
                }
                self.fail(error);
            }
        }
        let Some(error) = &self.failed else { return Ok(()) };
        let error = io::Error::new(error.kind(), error.to_string());
        for file in [&mut self.nodes, &mut self.journal, &mut self.roots] {
            // Counted on, so that places stay right, but not kept.
            file.written = file.end();
            file.buffer = Vec::new();
        }
        Err(error)
    }

    pub(crate) fn reader(&self, size: u64) -> AuditReader {
        let share =
            |file: &Growing| Shared { path: file.path.clone(), file: Arc::clone(&file.file), end: file.end() };
        AuditReader {
            shard: self.shard,
            sealer: self.sealer.clone(),
            size,
            unsynced: Arc::clone(&self.unsynced),
            openers: Arc::clone(&self.openers),
            nodes: share(&self.nodes),
            journal: share(&self.journal),
            roots: share(&self.roots),
        }
    }
}

/// The checksum of a record, salted with its shard and place.
pub(crate) fn checksum(record: &[u8], shard: u16, at: u64) -> u32 {
    let salt = crc32c::crc32c_append(crc32c::crc32c(&shard.to_le_bytes()), &at.to_le_bytes());
    crc32c::crc32c_append(salt, &record[LENGTH..])
}

/// The file of the signed roots of `shard`, in the audit's folder.
pub(crate) fn roots_path(dir: &Path, shard: u16) -> std::path::PathBuf {
    dir.join(format!("{shard:04x}.roots"))
}

/// The roots of a file that are sound by themselves; its head may be damaged, and records between.
pub(crate) fn stored_roots(disk: &dyn Disk, dir: &Path, shard: u16) -> io::Result<Vec<Checkpoint>> {
    let file = match disk.open(&roots_path(dir, shard)) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        file => file?,
    };
    let count = file.len()?.saturating_sub(FILE_HEADER) / ROOT_RECORD as u64;
    let mut found = Vec::new();
    for at in (0..count).map(|number| FILE_HEADER + number * ROOT_RECORD as u64) {
        let mut record = [0; ROOT_RECORD];
        file.read_at(at, &mut record)?;
        if u32_at(&record, 0) == checksum(&record, shard, at) {
            found.push(read_root(&record, shard));
        }
    }
    Ok(found)
}

/// A root as it is stored.
pub(crate) fn read_root(record: &[u8; ROOT_RECORD], shard: u16) -> Checkpoint {
    Checkpoint {
        shard,
        size: u64_at(record, ROOT_SIZE),
        root: record[ROOT_HASH..ROOT_SIGNATURE].try_into().expect("32 bytes"),
        at: LogTime(u64_at(record, ROOT_AT) as i64),
        signature: record[ROOT_SIGNATURE..].try_into().expect("64 bytes"),
    }
}

/// Where the sound roots end: a crash may have torn the last ones.
fn sound_roots(roots: &Growing, shard: u16) -> io::Result<u64> {
    let at_path = named(&roots.path);
    let len = roots.file.len().map_err(&at_path)?;
    let mut count = (len - FILE_HEADER) / ROOT_RECORD as u64;
    while count > 0 {
        let at = FILE_HEADER + (count - 1) * ROOT_RECORD as u64;
        let mut record = [0; ROOT_RECORD];
        roots.file.read_at(at, &mut record).map_err(&at_path)?;
        if u32_at(&record, 0) == checksum(&record, shard, at) {
            break;
        }
        count -= 1;
    }
    Ok(FILE_HEADER + count * ROOT_RECORD as u64)
}

const _: () = assert!(FAR > 1);

#[cfg(test)]
mod tests {
    use super::*;
    use crate::checkpoint::{CHECKPOINT_TEXT, HANDOVER_TEXT};
    use crate::format::page;

    #[test]
    fn the_page_draws_these_bytes() {
        let text = include_str!("../docs/audit.md");
        page::check(
            text,
            "### File head",
            &[
                (0, "magic"),
                (8, "version"),
                (12, "crc32c"),
                (CLUSTER, "cluster"),
                (HISTORY, "history"),
                (SHARD, "shard"),
                (SHARD + 2, "zero"),
            ],
        );
        let (offset, size, _) = page::fields(text, "### File head").pop().expect("a last field");
        assert_eq!((offset + size) as u64, FILE_HEADER);
        page::check(
            text,
            "### Journal record",
            &[
                (0, "crc32c"),
                (LENGTH, "length"),
                (LEAF, "leaf"),
                (INDEX, "index"),
                (NUMBER, "number"),
                (PREVIOUS, "previous"),
                (FAR_AT, "far"),
                (AT, "at"),
                (SERVED, "served"),
                (POSITION, "position"),
                (FLAGS, "flags"),
                (PUBLIC, "public"),
                (PUBLIC + 4, "zero"),
                (SALT, "salt"),
                (BEFORE, "before"),
                (DIGEST, "digest"),
                (RECORD_HEADER, "bytes"),
            ],
        );
        page::check(
            text,
            "### Sealed journal record",
            &[(0, "head"), (SEAL, "seal"), (COUNT, "count"), (RECORD_HEADER, "bytes")],
        );
        page::check(
            text,
            "### Root record",
            &[
                (0, "crc32c"),
                (LENGTH, "zero"),
                (ROOT_SIZE, "size"),
                (ROOT_AT, "at"),
                (ROOT_HASH, "root"),
                (ROOT_SIGNATURE, "signature"),
            ],
        );
        let (offset, size, _) = page::fields(text, "### Root record").pop().expect("a last field");
        assert_eq!(offset + size, ROOT_RECORD);
        assert!(text.contains(&format!("Audit version {AUDIT_VERSION}")));
        for line in [CHECKPOINT_TEXT, HANDOVER_TEXT] {
            assert!(text.contains(&format!("\n{line}\n")));
        }
        for magic in [NODES_MAGIC, JOURNAL_MAGIC, ROOTS_MAGIC] {
            assert!(text.contains(&format!("`{}`", String::from_utf8_lossy(&magic))));
        }
        let flags = format!(
            "{FLAG_SEALED}: has a sealed part; {FLAG_ERASED}: its secret part was erased; {FLAG_SYSTEM}: system; {FLAG_WHOLE}: sealed as a whole"
        );
        assert!(text.contains(&flags));
        assert!(text.contains(&format!("whose number is a multiple of {FAR};")));
    }
}
