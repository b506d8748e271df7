//! The audit of one shard: its Merkle tree, the chain of every tender, and the journal that proofs and exports are made
//! from.
//!
//! Fed with committed entries, beside the core. In memory are the frontier of the tree and a few words a tender; hashes
//! of old leaves, commands and signed roots lie in files ([`crate::audit_files`]). The files are no second truth: they
//! are made durable before a snapshot that counts on them, and what a crash takes away comes back with the replay.

use std::collections::BTreeMap;
use std::io;
use std::path::Path;
use std::sync::Arc;

use engine::{Action, Entry, LogTime, TenderId};
use wincode::{SchemaRead, SchemaWrite};

use crate::audit_files::{AuditFiles, FILE_HEADER, NOWHERE, stored_roots};
use crate::audit_reader::{AuditReader, Header, RecordKind};
use crate::checkpoint::Checkpoint;
use crate::disk::Disk;
use crate::leaf::{Chains, ChainsPart, Fed, Head, salted_digest};
use crate::merkle::{Frontier, Hash, node_count};
use crate::sealer::Place;
use crate::tree_heads::{TreeHead, TreeHeads};
use crate::{HistoryId, Sealer};

/// Every so many records of a chain one is pointed at from all that follow, so that searching is quick.
pub(crate) const FAR: u64 = 64;

/// Where the newest records of a chain lie in the journal; [`NOWHERE`] for none.
#[derive(Clone, Copy, Debug, PartialEq, Eq, SchemaWrite, SchemaRead)]
pub struct Tail {
    pub(crate) last: u64,
    pub(crate) far: u64,
}

impl Tail {
    const EMPTY: Self = Self { last: NOWHERE, far: NOWHERE };
}

/// A piece of an audit for a snapshot; the chains' heads are in [`ChainsPart`]s.
#[derive(Clone, Debug, PartialEq, Eq, SchemaWrite, SchemaRead)]
pub struct AuditPart {
    index: u64,
    /// How many commands lie before the tree's first leaf, or stand together in it.
    base: u64,
    tree: Frontier,
    journal_end: u64,
    now: LogTime,
    system: Tail,
    system_count: u64,
    tenders: Vec<(TenderId, Tail)>,
}

impl AuditPart {
    /// Where the files of the nodes and of the journal end as of this part.
    pub(crate) fn ends(&self) -> (u64, u64) {
        (FILE_HEADER + 32 * node_count(self.tree.size()), self.journal_end)
    }
}

/// What a tender's chain is read from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ChainPlace {
    /// Its head.
    pub head: Head,
    pub(crate) tail: Tail,
}

/// The audit of one shard.
pub struct AuditShard {
    chains: Chains,
    tree: Frontier,
    base: u64,
    now: LogTime,
    system: Tail,
    system_count: u64,
    tails: BTreeMap<TenderId, Tail>,
    files: AuditFiles,
    /// Who is told of the tree.
    heads: Option<Arc<TreeHeads>>,
}

/// Which shard's audit is opened, and where its files are.
#[derive(Clone)]
pub struct AuditPlace {
    pub(crate) disk: Arc<dyn Disk>,
    pub(crate) dir: std::path::PathBuf,
    pub(crate) sealer: Sealer,
    pub(crate) history: HistoryId,
    /// It may miss what came before.
    pub(crate) is_partial: bool,
    /// Who is told of the trees.
    heads: Option<Arc<TreeHeads>>,
}

impl AuditPlace {
    /// The audits of the data folder `data`, whose secret parts `sealer` seals.
    pub fn new(disk: Arc<dyn Disk>, data: &Path, sealer: Sealer, history: HistoryId) -> Self {
        Self { disk, dir: data.join("audit"), sealer, history, is_partial: false, heads: None }
    }

    /// The same; the log whose `heads` these are is told of the trees, for the segments it begins.
    #[must_use]
    pub fn telling(self, heads: Arc<TreeHeads>) -> Self {
        Self { heads: Some(heads), ..self }
    }

    /// The same in another folder, beside the one that counts; what is opened there may miss what came before.
    #[must_use]
    pub fn beside(self, name: &str) -> Self {
        Self { dir: self.dir.with_file_name(name), is_partial: true, ..self }
    }

    /// The signed roots of `shard` that can still be read, in whatever state the files are: each has a checksum and a
    /// signature of its own.
    ///
    /// # Errors
    /// The disk refused.
    pub fn stored_roots(&self, shard: u16) -> io::Result<Vec<Checkpoint>> {
        stored_roots(&*self.disk, &self.dir, shard)
    }
}

impl AuditShard {
    /// The audit of `shard` as of the parts of a snapshot; without parts: before the first entry. A snapshot of version
    /// 1 has no [`AuditPart`]: the tree then begins with one leaf that stands for all commands before.
    ///
    /// # Errors
    /// A file can't be opened or made, or belongs to another log.
    pub fn open(
        place: &AuditPlace,
        shard: u16,
        chains: Vec<ChainsPart>,
        parts: Vec<AuditPart>,
    ) -> io::Result<Self> {
        let mut audit = Self {
            chains: Chains::restore(chains),
            tree: Frontier::default(),
            base: 0,
            now: LogTime(0),
            system: Tail::EMPTY,
            system_count: 0,
            tails: BTreeMap::new(),
            files: AuditFiles::open(place, shard)?,
            heads: place.heads.clone(),
        };
        let mut journal_end = None;
        let is_old = parts.is_empty() && audit.chains.index() > 0;
        for part in parts {
            if part.index != audit.chains.index() || !part.tree.is_sound() {
                return Err(io::Error::new(
                    io::ErrorKind::InvalidData,
                    "the parts of an audit don't fit together",
                ));
            }
            (audit.base, audit.tree, audit.now) = (part.base, part.tree, part.now);
            (audit.system, audit.system_count) = (part.system, part.system_count);
            journal_end = Some(part.journal_end);
            audit.tails.extend(part.tenders);
        }
        audit.files.rewind(audit.tree.size(), journal_end, place.is_partial);
        if is_old {
            audit.base = audit.chains.shard().count;
            let leaf = old_leaf(audit.chains.shard());
            let files = &mut audit.files;
            audit.tree.push(leaf, |hash| files.push_node(hash));
        }
        audit.tell();
        Ok(audit)
    }

    fn tell(&self) {
        if let Some(heads) = &self.heads {
            heads.publish(self.files.shard(), self.index(), self.base, &self.tree);
        }
    }

    /// A tree head that the log states and that its entries don't give: they were changed since, or the record was.
    pub fn disputed(&self) -> Option<TreeHead> {
        self.heads.as_ref()?.disputed(self.files.shard())
    }

    /// Adds the commands of a committed entry. `erased` is what the log said about erased secret parts.
    ///
    /// A file that can't be written is told by [`AuditShard::sync`]; roots and heads stay right.
    ///
    /// # Panics
    /// If an entry was left out.
    pub fn feed(&mut self, entry: &Entry, erased: &[(u32, [u8; 32])]) {
        let Self { chains, tree, now, system, system_count, tails, files, .. } = self;
        let index = entry.index;
        chains.feed_each(entry, erased, |fed| {
            let leaf = tree.size();
            tree.push(fed.leaf, |hash| files.push_node(hash));
            let before = std::mem::replace(now, fed.command.envelope.at);
            let (kind, tail, number, head) = match (&fed.command.action, fed.link) {
                (_, Some((tender, head))) => {
                    let tail = tails.entry(tender).or_insert(Tail::EMPTY);
                    (RecordKind::Tender, tail, head.count + 1, head.hash)
                }
                (Action::Takeover { .. } | Action::Skip { .. }, None) => {
                    *system_count += 1;
                    (RecordKind::System, &mut *system, *system_count, [0; 32])
                }
                _ => return,
            };
            let header = Header {
                kind,
                leaf,
                index,
                position: fed.position,
                number,
                previous: tail.last,
                far: tail.far,
                at: fed.command.envelope.at,
                before: head,
                served_until: before,
                digest: fed.digest,
                // With a secret part it is sealed with it.
                salt: if fed.command.secret.is_some() { [0; 16] } else { fed.command.envelope.salt },
                is_erased: fed.is_erased,
            };
            tail.last = append(files, index, &header, &fed);
            if number.is_multiple_of(FAR) {
                tail.far = tail.last;
            }
        });
        self.files.flush_if_large();
        self.tell();
    }

    /// Index of the last entry that was fed.
    pub fn index(&self) -> u64 {
        self.chains.index()
    }

    /// How many leaves the tree has.
    pub fn size(&self) -> u64 {
        self.tree.size()
    }

    /// The root over all leaves.
    pub fn root(&self) -> Hash {
        self.tree.root()
    }

    /// The stamp of the last command.
    pub fn now(&self) -> LogTime {
        self.now
    }

    /// The chains' heads.
    pub fn chains(&self) -> &Chains {
        &self.chains
    }

    /// Where a tender's commands are read from.
    pub fn chain(&self, tender: TenderId) -> Option<ChainPlace> {
        let head = self.chains.tender(tender)?;
        Some(ChainPlace { head, tail: self.tails.get(&tender).copied().unwrap_or(Tail::EMPTY) })
    }

    /// Where interruptions and commands that are passed by are read from.
    pub fn system(&self) -> ChainPlace {
        let head = Head { count: self.system_count, hash: [0; 32] };
        ChainPlace { head, tail: self.system }
    }

    /// Keeps a signed root.
    pub fn keep(&mut self, checkpoint: &Checkpoint) {
        self.files.push_root(checkpoint);
    }

    /// A reader of everything that was fed so far; it needs no lock.
    ///
    /// # Errors
    /// A file can't be written.
    pub fn reader(&mut self) -> io::Result<AuditReader> {
        self.files.flush()?;
        Ok(self.files.reader(self.tree.size()))
    }

    /// Writes what is buffered; the reader's `sync` makes it durable.
    ///
    /// # Errors
    /// A file can't be written; it stays so until the next start, and no snapshot may count on this audit.
    pub fn sync(&mut self) -> io::Result<AuditReader> {
        self.reader()
    }

    /// The audit as plain data, beside the chains' parts; there is always at least one part.
    pub fn snapshot(&self) -> (Vec<ChainsPart>, Vec<AuditPart>) {
        const PART_TENDERS: usize = 4096;
        let tenders: Vec<_> = self.tails.iter().map(|(id, tail)| (*id, *tail)).collect();
        let parts = tenders.len().div_ceil(PART_TENDERS).max(1);
        let audit = (0..parts).map(|part| AuditPart {
            index: self.chains.index(),
            base: self.base,
            tree: self.tree.clone(),
            journal_end: self.files.journal_end(),
            now: self.now,
            system: self.system,
            system_count: self.system_count,
            tenders: tenders.iter().skip(part * PART_TENDERS).take(PART_TENDERS).copied().collect(),
        });
        (self.chains.snapshot().collect(), audit.collect())
    }

    /// Checks the newest stored root against the tree: what the log says now
    /// must be what was signed. Answers the root when it does not hold, or lies beyond the log.
    ///
    /// # Errors
    /// A file can't be read.
    pub fn contradicted(&mut self) -> io::Result<Option<Checkpoint>> {
        let mut reader = self.reader()?;
        let Some(newest) = reader.latest().map_err(io::Error::other)? else { return Ok(None) };
        let holds =
            newest.size <= self.tree.size() && reader.root(newest.size).is_ok_and(|root| root == newest.root);
        Ok((!holds).then_some(newest))
    }
}

fn append(files: &mut AuditFiles, index: u64, header: &Header, fed: &Fed<'_>) -> u64 {
    let place = Place::Log { shard: files.shard(), index, position: fed.position };
    let secret = fed.command.secret.as_ref().filter(|_| !fed.is_erased);
    files.push_record(header, &fed.public, place, fed.command.envelope.salt, secret)
}

/// The leaf that stands for everything before a tree that began later than its log: SHA-256 as
/// [`salted_digest`] of 16 zeros over 0x06 ‖ count (u64) ‖ hash of the shard's chain.
fn old_leaf(head: Head) -> Hash {
    let mut bytes = vec![0x06];
    bytes.extend_from_slice(&head.count.to_le_bytes());
    bytes.extend_from_slice(&head.hash);
    salted_digest([0; 16], &bytes)
}
