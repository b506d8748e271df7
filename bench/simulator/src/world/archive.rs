//! What an archive sees of a world: rounds of shipping, a store that is away, what must not be shipped, and folders that
//! are restored from it. Decides what happens; the judge knows what must be in a restored folder.

use std::path::Path;
use std::sync::Arc;

use persistence::OpenError;
use persistence::archive::{ArchiveError, Part, Progress, Restore, Restored, Target};

use super::process::device_errors;
use super::refusals::{self, Refusal};
use super::{What, World};
use crate::archive::SimStore;
use crate::chance::{Random, entropy};
use crate::disk::SimDisk;
use crate::marks::Mark;
use crate::node::{Found, NoStart, Node, SECOND, layout};

/// Nobody looks on.
struct Unseen;

impl Progress for Unseen {
    fn begin(&self, _part: Part, _total: u64) {}
    fn advance(&self, _bytes: u64) {}
    fn note(&self, _text: &str) {}
}

impl World {
    /// A round of the archive's thread.
    pub(super) fn ship(&mut self) {
        let Some(node) = &mut self.nodes[0] else { return };
        let errors = device_errors(&self.disk);
        let round = node.ship(self.at);
        self.archived = self.archived.max(node.archived());
        match round {
            Ok(trouble) => self.shipped(trouble, device_errors(&self.disk) > errors),
            Err(ended) => return self.end(ended),
        }
        let process = self.judge.process();
        self.after(SECOND, What::Ship { process });
        self.look();
    }

    /// A round has ended; what kept it from shipping everything must be something that went wrong, in the store or in
    /// the `device`.
    pub(super) fn shipped(&mut self, trouble: Option<ArchiveError>, device: bool) {
        let Some(error) = trouble else {
            if self.store.is_some() {
                self.judge.marks.hit(Mark::Archived);
                if std::mem::take(&mut self.archive_behind) {
                    self.judge.marks.hit(Mark::ArchiveCaughtUp);
                }
            }
            return;
        };
        match &error {
            ArchiveError::Store { .. } => {
                assert!(!self.healing, "V1: a sound store refuses: {error}");
                self.archive_behind = true;
            }
            ArchiveError::Folder(OpenError::Disk { .. }) => {
                assert!(device, "P3: a sound device refuses the archive: {error}");
            }
            // What is not what was promised is found here at the latest, and does not become the copy that counts.
            ArchiveError::Folder(_) | ArchiveError::Forked { .. } => {
                let damaged = !self.plan.recoverable && self.disk.ever_damaged();
                assert!(damaged, "P3: a sound log is not archived: {error}");
                if let ArchiveError::Folder(error) = &error {
                    let said = refusals::read(&error.to_string());
                    assert_eq!(said, Ok(Refusal::Damage), "D7: what is not archived is told");
                }
                self.judge.marks.hit(Mark::DamageNotArchived);
            }
            _ => panic!("P3: the archive is not as it was written: {error}"),
        }
        self.judge.trace("not archived", self.at as u64);
    }

    /// P3: what is no longer here is there.
    pub(super) fn kept_or_archived(&mut self) {
        let Some(node) = self.nodes[0].as_ref().filter(|_| self.store.is_some()) else { return };
        self.archived = self.archived.max(node.archived());
        let number = |path: &Path| u64::from_str_radix(path.file_name()?.to_str()?.strip_suffix(".seg")?, 16).ok();
        let oldest = self.disk.files().iter().filter_map(|path| number(path)).min().unwrap_or(1);
        assert!(
            oldest <= self.archived + 1,
            "P3: segment {} is gone, and the archive has them up to {}",
            oldest - 1,
            self.archived
        );
    }

    pub(super) fn go_away(&mut self, away: bool) {
        if let Some(store) = self.store.as_ref().filter(|_| !self.healing) {
            store.go_away(away);
            // At times for longer than several segments are filled.
            let long = if self.chance.one_in(3) { 400 } else { 40 };
            self.some_time(if away { long } else { 60 }, What::GoAway { away: !away });
        }
    }

    /// A segment or a snapshot is forgotten by the cache; mostly the segment that is written to.
    pub(super) fn evict(&mut self) {
        let is = |path: &Path, word: &str| path.extension().is_some_and(|extension| extension == word);
        // The last one is made ready, and nothing is written to it yet.
        let newest: Vec<_> = self.disk.files().into_iter().rev().filter(|path| is(path, "seg")).take(2).collect();
        let any = self.chance.one_in(3);
        self.disk.evict(|path| {
            if any { is(path, "snap") || is(path, "seg") } else { newest.iter().any(|newest| newest == path) }
        });
    }

    /// The folder is lost, and restored from the archive: to its end, and to some point before it.
    pub(super) fn restore(&mut self) {
        let Some(store) = self.store.clone() else { return };
        let (restored, found) = self.restore_to(&store, Target::Latest);
        assert_eq!(restored.position, self.judge.known().iter().sum::<u64>(), "P3: the archive holds all entries");
        assert_eq!(restored.history, restored.from, "P3: all of it is the same history");
        self.judge.restored(&found, true);
        self.judge.marks.hit(Mark::Restored);
        if restored.position < 2 {
            return;
        }
        let point = self.chance.between(1, restored.position as i64 - 1) as u64;
        let (restored, found) = self.restore_to(&store, Target::Position(point));
        assert_eq!(restored.position, point, "P3: a restore ends where it was asked to");
        assert_ne!(restored.history, restored.from, "P3: a restore below the end is another history");
        self.judge.restored(&found, false);
        self.judge.marks.hit(Mark::RestoredToPoint);
    }

    /// Restores to an empty disk and starts there.
    fn restore_to(&mut self, store: &SimStore, target: Target) -> (Restored, Found) {
        let disk = SimDisk::new(self.plan.seed);
        let (layout, keys) = (layout(), layout().keys_dir);
        // Keys are not in the archive: they have a backup of their own.
        disk.copy_from(&self.disk, &keys);
        let restore = Restore {
            store: Arc::new(store.clone()),
            disk: Arc::new(disk.clone()),
            dir: layout.dir,
            keys_dir: keys,
            master: None,
            target,
            history: None,
            new_history: false,
            random: entropy,
        };
        let restored =
            restore.run(&Unseen).unwrap_or_else(|error| panic!("P3: {target:?} can't be restored: {error}"));
        match Node::start(&disk, None, self.at, self.clocks, Random::new(self.plan.seed)) {
            Ok((_, found)) => (restored, found),
            Err(NoStart::Power) => unreachable!("this disk has no hazards"),
            Err(NoStart::Refused(text)) => panic!("P3: a restored folder is refused: {text}"),
        }
    }
}
