//! Hashes the entries of a scanned log again and holds the trees against what segments state of them and what was signed.
//!
//! Needs no snapshot, no journal and, for what is not sealed as a whole, no key: the digest of a secret part is stored
//! beside it. Behind what can't be opened the check goes on from the next head that is stated.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use engine::Command;

use crate::Keys;
use crate::audit_files::{roots_path, stored_roots};
use crate::checkpoint::hex;
use crate::codec::{self, StoredCommand};
use crate::disk::Disk;
use crate::error::{Corruption, OpenError};
use crate::format::{RECORD_HEADER, RecordHeader, SEGMENT_HEADER, record_len};
use crate::leaf::{leaf_of, public_part, secret_digest};
use crate::merkle::{Frontier, Hash};
use crate::scan::{Record, Scan, Stated, entry_error, open_record, opener, read, record_at};

/// How much could be checked.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Checked {
    /// Tree heads that the entries give.
    pub(crate) heads: u64,
    /// Tree heads for which not all entries could be hashed: those before the first one that a run begins with, that one,
    /// and those behind sealed segments.
    pub(crate) unchecked: u64,
    /// Signed roots that the entries give.
    pub(crate) roots: u64,
}

/// The tree of a shard on the way through the log.
struct Walk<'a> {
    shard: u16,
    /// The last entry that was passed.
    index: u64,
    /// The tree as of it, and how much lies before that tree; none while it can't be known.
    tree: Option<(Frontier, u64)>,
    /// The entry after which the tree was known.
    since: u64,
    /// What is stated of the shard, by index.
    stated: BTreeMap<u64, Vec<&'a Stated>>,
    /// Signed roots by size.
    roots: BTreeMap<u64, Hash>,
    roots_path: PathBuf,
    checked: Checked,
}

/// Checks all that the segments hold; what is sealed as a whole when there are `keys`.
pub(crate) fn check(disk: &dyn Disk, dir: &Path, found: &Scan, keys: Option<&Keys>) -> Result<Checked, OpenError> {
    let audit = dir.join("audit");
    let Some(base) = found.used.first().and_then(|file| file.opening.as_ref()) else {
        return Ok(Checked::default());
    };
    let mut walks = Vec::with_capacity(base.base.len());
    for (shard, base) in base.base.iter().enumerate() {
        let shard = shard as u16;
        let mut walk = Walk {
            shard,
            index: base.index,
            tree: None,
            since: base.index,
            stated: BTreeMap::new(),
            roots: BTreeMap::new(),
            roots_path: roots_path(&audit, shard),
            checked: Checked::default(),
        };
        for stated in found.heads.iter().filter(|stated| stated.shard == shard) {
            let head = stated.head.as_ref().ok_or_else(|| unlawful(stated))?;
            // A tree that began later than its log can't be made from the log's beginning.
            if base.index == 0 && head.base == 0 {
                walk.tree = Some((Frontier::default(), 0));
            }
            walk.stated.entry(stated.index).or_default().push(stated);
        }
        if !walk.stated.is_empty() {
            let roots = stored_roots(disk, &audit, shard).map_err(OpenError::disk(&audit))?;
            walk.roots = roots.iter().map(|root| (root.size, root.root)).collect();
        }
        walk.meet()?;
        walks.push(walk);
    }
    for file in &found.used {
        let bytes = read(disk, &file.path)?;
        let opener = opener(&file.header, &file.path, keys)?;
        let mut offset = SEGMENT_HEADER;
        while let Some(record) = record_at(&bytes, &file.header, offset, file.end) {
            let RecordHeader { shard, index, .. } = record.header;
            let place = (file.header.sequence, offset);
            offset += record_len(record.payload.len());
            let is_replaced = || found.overwrites.iter().any(|by| by.replaces(shard, index, place));
            if record.kind.is_entry() && !is_replaced() {
                let opened;
                let payload = match (&opener, file.header.seal) {
                    (None, None) => Some(record.payload),
                    (None, Some(_)) => None,
                    (Some(opener), _) => {
                        let head = &bytes[record.offset..record.offset + RECORD_HEADER];
                        opened = open_record(opener, &record, head);
                        opened.as_deref()
                    }
                };
                walks[usize::from(shard)].entry(&record, &file.path, payload)?;
            }
        }
    }
    let mut checked = Checked::default();
    for walk in walks {
        let stated: usize = walk.stated.values().map(Vec::len).sum();
        checked.heads += walk.checked.heads;
        checked.unchecked += stated as u64 - walk.checked.heads;
        checked.roots += walk.checked.roots;
    }
    Ok(checked)
}

impl Walk<'_> {
    /// Passes an entry; without its payload, when that can't be read.
    fn entry(&mut self, record: &Record<'_>, path: &Path, payload: Option<&[u8]>) -> Result<(), OpenError> {
        let RecordHeader { index, schema, .. } = record.header;
        self.index = index;
        if payload.is_none() {
            self.tree = None;
        } else if let (Some((tree, _)), Some(payload)) = (&mut self.tree, payload) {
            let stored =
                codec::decode_stored(payload, schema).map_err(|error| entry_error(path, record.offset, error))?;
            for command in stored {
                tree.push(leaf_of_stored(command), |_| {});
                let Some(signed) = self.roots.get(&tree.size()) else { continue };
                if *signed != tree.root() {
                    return Err(Corruption {
                        file: self.roots_path.clone(),
                        offset: 0,
                        what: "the entries of the log don't give a root that was signed",
                        expected: format!(
                            "{}, by the entries {} to {index} of shard {}",
                            root_text(tree.size(), &tree.root()),
                            self.since + 1,
                            self.shard
                        ),
                        found: root_text(tree.size(), signed),
                    }
                    .into());
                }
                self.checked.roots += 1;
            }
        }
        self.meet()
    }

    /// Holds the tree against what is stated as of the entry that was just passed, or takes it from there.
    fn meet(&mut self) -> Result<(), OpenError> {
        for stated in self.stated.get(&self.index).into_iter().flatten() {
            let Some(head) = &stated.head else { continue };
            match &self.tree {
                None => (self.tree, self.since) = (Some((head.tree.clone(), head.base)), self.index),
                Some((tree, base)) if (tree, base) == (&head.tree, &head.base) => self.checked.heads += 1,
                Some((tree, _)) => {
                    let (from, to) = (self.since + 1, self.index);
                    let by = format!("by the entries {from} to {to} of shard {}", self.shard);
                    return Err(Corruption {
                        file: stated.file.clone(),
                        offset: stated.offset,
                        what: "the entries of the log don't give the tree head that this record states",
                        expected: format!("{}, {by}", root_text(tree.size(), &tree.root())),
                        found: root_text(head.size(), &head.root()),
                    }
                    .into());
                }
            }
        }
        Ok(())
    }
}

fn leaf_of_stored(command: StoredCommand) -> Hash {
    let StoredCommand { envelope, action, sealed } = command;
    let digest = sealed.map_or_else(|| secret_digest(envelope.salt, None), |sealed| sealed.digest);
    leaf_of(&public_part(&Command { envelope, action, secret: None }), &digest)
}

fn unlawful(stated: &Stated) -> OpenError {
    let expected = "a tree with a hash for each bit of its size".into();
    let (file, offset) = (stated.file.clone(), stated.offset);
    let what = "a tree head is not one";
    Corruption { file, offset, what, expected, found: "something else".into() }.into()
}

fn root_text(size: u64, root: &Hash) -> String {
    format!("{size} leaves under the root {}", hex(root))
}
