//! A disk in memory that loses power: for tests of this crate and of others.
//!
//! It keeps what a process sees apart from what is durable. Pending writes are kept by 512-byte sector with every
//! version a device might have written; directory entries are kept apart from data. Not for production.

use std::collections::{BTreeMap, HashMap};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::disk::{Disk, DiskFile};

/// The unit a device writes whole or not at all.
pub const SECTOR: usize = 512;

/// What becomes of pending writes when the power goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Crash {
    /// All are lost.
    Lost,
    /// All reached the device.
    Kept,
    /// The process was killed and the machine lives: what it wrote is in the cache, pending as before.
    Process,
    /// Each sector has one of its pending versions, chosen by the seed; directory entries up to some point.
    Random(u64),
    /// The first part of the pending sectors of each file is kept, up to a sector chosen by the seed.
    Torn(u64),
}

/// Counts and plans of a [`FaultyDisk`]. Operations are writes, creations, renames, removals and
/// syncs, counted from 1.
#[derive(Clone, Debug, Default)]
pub struct Faults {
    /// Operations so far.
    pub operations: u64,
    /// Syncs so far, of files and directories.
    pub syncs: u64,
    /// The power goes at this operation: it is pending, whole or half; it and all after it fail.
    pub crash_at: Option<u64>,
    /// This sync fails once; what it should have made durable is lost.
    pub fail_sync: Option<u64>,
    /// Bytes all files may take together.
    pub capacity: Option<u64>,
    /// Whether the power is gone.
    pub crashed: bool,
}

#[derive(Default)]
struct Inode {
    now: Vec<u8>,
    durable: Vec<u8>,
    /// Versions of sectors written since the last sync.
    pending: BTreeMap<usize, Vec<Vec<u8>>>,
    links: usize,
}

#[derive(Clone)]
enum DirChange {
    Set(PathBuf, u64),
    Remove(PathBuf),
}

#[derive(Default)]
struct State {
    faults: Faults,
    inodes: HashMap<u64, Inode>,
    next: u64,
    names: BTreeMap<PathBuf, u64>,
    durable_names: BTreeMap<PathBuf, u64>,
    changes: HashMap<PathBuf, Vec<DirChange>>,
    locked: bool,
    boots: u64,
}

/// The disk. Clones share it.
#[derive(Clone, Default)]
pub struct FaultyDisk {
    state: Arc<Mutex<State>>,
}

impl FaultyDisk {
    /// An empty disk without faults.
    pub fn new() -> Self {
        Self::default()
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Changes what will go wrong.
    pub fn plan(&self, change: impl FnOnce(&mut Faults)) {
        change(&mut self.state().faults);
    }

    /// What happened so far.
    pub fn faults(&self) -> Faults {
        self.state().faults.clone()
    }

    /// Loses the power now and comes back with what was durable and what `crash` says of the rest. Files that were
    /// open stay dead; the plan of faults is empty.
    pub fn restart(&self, crash: Crash) {
        let mut state = self.state();
        let state = &mut *state;
        state.faults = Faults::default();
        state.locked = false;
        state.boots += 1;
        if crash == Crash::Process {
            return;
        }
        let mut random = match crash {
            Crash::Random(seed) | Crash::Torn(seed) => Splitmix(seed),
            _ => Splitmix(0),
        };
        let mut dirs: Vec<_> = state.changes.drain().collect();
        dirs.sort_by(|a, b| a.0.cmp(&b.0));
        for (_, changes) in dirs {
            let kept = match crash {
                Crash::Lost => 0,
                Crash::Kept => changes.len(),
                _ => random.below(changes.len() + 1),
            };
            for change in &changes[..kept] {
                change.apply(&mut state.durable_names);
            }
        }
        let mut ids: Vec<u64> = state.inodes.keys().copied().collect();
        ids.sort_unstable();
        for id in ids {
            if let Some(inode) = state.inodes.get_mut(&id) {
                inode.lose(crash, &mut random);
            }
        }
        state.names = state.durable_names.clone();
        let mut links: HashMap<u64, usize> = HashMap::new();
        for id in state.names.values() {
            *links.entry(*id).or_default() += 1;
        }
        state.inodes.retain(|id, inode| {
            inode.links = links.get(id).copied().unwrap_or(0);
            inode.links > 0
        });
    }

    /// A copy that shares nothing with this one. Files must be opened anew.
    pub fn fork(&self) -> Self {
        let state = self.state();
        let inodes = state.inodes.iter().map(|(id, inode)| {
            let copy = Inode {
                now: inode.now.clone(),
                durable: inode.durable.clone(),
                pending: inode.pending.clone(),
                links: inode.links,
            };
            (*id, copy)
        });
        let copy = State {
            faults: state.faults.clone(),
            inodes: inodes.collect(),
            next: state.next,
            names: state.names.clone(),
            durable_names: state.durable_names.clone(),
            changes: state.changes.clone(),
            locked: false,
            boots: state.boots,
        };
        Self { state: Arc::new(Mutex::new(copy)) }
    }

    /// All files, sorted.
    pub fn files(&self) -> Vec<PathBuf> {
        self.state().names.keys().cloned().collect()
    }

    /// The content of a file as the process sees it.
    pub fn content(&self, path: &Path) -> Option<Vec<u8>> {
        let state = self.state();
        let id = state.names.get(path)?;
        Some(state.inodes[id].now.clone())
    }

    /// Changes the content of a file behind everybody's back, durably.
    ///
    /// # Panics
    /// If there is no such file.
    pub fn damage(&self, path: &Path, change: impl FnOnce(&mut Vec<u8>)) {
        let mut state = self.state();
        let id = state.names[path];
        let inode = state.inodes.get_mut(&id).expect("a named file exists");
        change(&mut inode.now);
        inode.durable = inode.now.clone();
        inode.pending.clear();
    }
}

impl Inode {
    fn lose(&mut self, crash: Crash, random: &mut Splitmix) {
        let pending = std::mem::take(&mut self.pending);
        let kept = match crash {
            Crash::Lost => 0,
            Crash::Torn(_) => random.below(pending.len() + 1),
            Crash::Kept | Crash::Process | Crash::Random(_) => pending.len(),
        };
        for (sector, versions) in pending.into_iter().take(kept) {
            let version = match crash {
                Crash::Random(_) => random.below(versions.len() + 1),
                _ => versions.len(),
            };
            let Some(bytes) = version.checked_sub(1).map(|version| &versions[version]) else {
                continue;
            };
            let start = sector * SECTOR;
            if self.durable.len() < start + bytes.len() {
                self.durable.resize(start + bytes.len(), 0);
            }
            self.durable[start..start + bytes.len()].copy_from_slice(bytes);
        }
        if crash == Crash::Kept {
            self.durable = std::mem::take(&mut self.now);
        }
        self.now = self.durable.clone();
    }

    fn write(&mut self, offset: usize, bytes: &[u8]) {
        let end = offset + bytes.len();
        if self.now.len() < end {
            self.now.resize(end, 0);
        }
        self.now[offset..end].copy_from_slice(bytes);
        for sector in offset / SECTOR..end.div_ceil(SECTOR) {
            let range = sector * SECTOR..((sector + 1) * SECTOR).min(self.now.len());
            self.pending.entry(sector).or_default().push(self.now[range].to_vec());
        }
    }
}

impl DirChange {
    fn apply(&self, names: &mut BTreeMap<PathBuf, u64>) {
        match self {
            Self::Set(path, id) => {
                names.insert(path.clone(), *id);
            }
            Self::Remove(path) => {
                names.remove(path);
            }
        }
    }
}

impl State {
    /// Counts an operation; tells whether the power goes at it.
    fn operate(&mut self) -> io::Result<bool> {
        self.alive()?;
        self.faults.operations += 1;
        if self.faults.crash_at == Some(self.faults.operations) {
            self.faults.crashed = true;
            return Ok(true);
        }
        Ok(false)
    }

    fn alive(&self) -> io::Result<()> {
        if self.faults.crashed { Err(gone()) } else { Ok(()) }
    }

    fn used(&self) -> u64 {
        self.inodes.values().map(|inode| inode.now.len() as u64).sum()
    }

    fn change(&mut self, changes: &[DirChange]) {
        for change in changes {
            change.apply(&mut self.names);
            let (DirChange::Set(path, _) | DirChange::Remove(path)) = change;
            let dir = path.parent().unwrap_or(Path::new("")).to_owned();
            self.changes.entry(dir).or_default().push(change.clone());
        }
    }

    fn sync(&mut self) -> io::Result<bool> {
        let crashes = self.operate()?;
        self.faults.syncs += 1;
        if crashes {
            return Err(gone());
        }
        Ok(self.faults.fail_sync == Some(self.faults.syncs))
    }
}

fn gone() -> io::Error {
    io::Error::other("the power is gone")
}

fn missing() -> io::Error {
    io::ErrorKind::NotFound.into()
}

impl Disk for FaultyDisk {
    fn create_dir(&self, _path: &Path) -> io::Result<()> {
        // Folders are part of the paths of their files.
        self.state().alive()
    }

    fn open(&self, path: &Path) -> io::Result<Box<dyn DiskFile>> {
        let state = self.state();
        state.alive()?;
        let inode = *state.names.get(path).ok_or_else(missing)?;
        Ok(Box::new(FaultyFile { disk: self.clone(), inode, boots: state.boots }))
    }

    fn create(&self, path: &Path) -> io::Result<Box<dyn DiskFile>> {
        let mut state = self.state();
        let crashes = state.operate()?;
        let inode = state.next;
        state.next += 1;
        state.inodes.insert(inode, Inode { links: 1, ..Inode::default() });
        state.change(&[DirChange::Set(path.to_owned(), inode)]);
        if crashes {
            return Err(gone());
        }
        let boots = state.boots;
        drop(state);
        Ok(Box::new(FaultyFile { disk: self.clone(), inode, boots }))
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        let mut state = self.state();
        state.alive()?;
        let inode = *state.names.get(from).ok_or_else(missing)?;
        let crashes = state.operate()?;
        let changes = [DirChange::Set(to.to_owned(), inode), DirChange::Remove(from.to_owned())];
        state.change(&changes);
        if crashes { Err(gone()) } else { Ok(()) }
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        let mut state = self.state();
        state.alive()?;
        let inode = *state.names.get(path).ok_or_else(missing)?;
        let crashes = state.operate()?;
        state.change(&[DirChange::Remove(path.to_owned())]);
        if !state.durable_names.values().any(|other| *other == inode) {
            state.inodes.remove(&inode);
        }
        if crashes { Err(gone()) } else { Ok(()) }
    }

    fn list(&self, path: &Path) -> io::Result<Vec<String>> {
        let state = self.state();
        state.alive()?;
        let inside = state.names.keys().filter(|file| file.parent() == Some(path));
        Ok(inside.filter_map(|file| Some(file.file_name()?.to_str()?.to_owned())).collect())
    }

    fn sync_dir(&self, path: &Path) -> io::Result<()> {
        let mut state = self.state();
        if state.sync()? {
            return Err(io::Error::other("the device failed"));
        }
        let state = &mut *state;
        for change in state.changes.remove(path).unwrap_or_default() {
            change.apply(&mut state.durable_names);
        }
        let durable = &state.durable_names;
        let now = &state.names;
        let named: std::collections::HashSet<u64> = durable.values().chain(now.values()).copied().collect();
        state.inodes.retain(|id, _| named.contains(id));
        Ok(())
    }

    fn lock(&self, _dir: &Path) -> io::Result<Box<dyn Send + Sync>> {
        let mut state = self.state();
        state.alive()?;
        if state.locked {
            return Err(io::ErrorKind::WouldBlock.into());
        }
        state.locked = true;
        Ok(Box::new(FaultyLock { disk: self.clone(), boots: state.boots }))
    }
}

struct FaultyLock {
    disk: FaultyDisk,
    boots: u64,
}

impl Drop for FaultyLock {
    fn drop(&mut self) {
        let mut state = self.disk.state();
        if state.boots == self.boots {
            state.locked = false;
        }
    }
}

struct FaultyFile {
    disk: FaultyDisk,
    inode: u64,
    boots: u64,
}

impl FaultyFile {
    fn with<T>(&self, act: impl FnOnce(&mut State, u64) -> io::Result<T>) -> io::Result<T> {
        let mut state = self.disk.state();
        state.alive()?;
        if state.boots != self.boots || !state.inodes.contains_key(&self.inode) {
            return Err(gone());
        }
        act(&mut state, self.inode)
    }
}

fn inode(state: &mut State, id: u64) -> &mut Inode {
    state.inodes.get_mut(&id).expect("an open file exists")
}

impl DiskFile for FaultyFile {
    fn len(&self) -> io::Result<u64> {
        self.with(|state, id| Ok(inode(state, id).now.len() as u64))
    }

    fn read_at(&self, offset: u64, bytes: &mut [u8]) -> io::Result<()> {
        self.with(|state, id| {
            let now = &inode(state, id).now;
            let start = usize::try_from(offset).unwrap_or(usize::MAX);
            let end = start.saturating_add(bytes.len());
            let found = now.get(start..end).ok_or(io::ErrorKind::UnexpectedEof)?;
            bytes.copy_from_slice(found);
            Ok(())
        })
    }

    fn write_at(&self, offset: u64, parts: &[&[u8]]) -> io::Result<()> {
        self.with(|state, id| {
            let mut bytes = parts.concat();
            let crashes = state.operate()?;
            let offset = usize::try_from(offset).map_err(io::Error::other)?;
            let grows = (offset + bytes.len()).saturating_sub(inode(state, id).now.len()) as u64;
            let room = state.faults.capacity.map(|all| all.saturating_sub(state.used()));
            if room.is_some_and(|room| room < grows) {
                return Err(io::ErrorKind::StorageFull.into());
            }
            if crashes && state.faults.operations.is_multiple_of(2) {
                bytes.truncate(bytes.len() / 2);
            }
            inode(state, id).write(offset, &bytes);
            if crashes { Err(gone()) } else { Ok(()) }
        })
    }

    fn sync_data(&self) -> io::Result<()> {
        self.with(|state, id| {
            let fails = state.sync()?;
            let inode = inode(state, id);
            let pending = std::mem::take(&mut inode.pending);
            if fails {
                // As Linux does: the pages count as clean, are still readable, and are gone with the power.
                return Err(io::Error::other("the device failed"));
            }
            inode.durable.resize(inode.now.len(), 0);
            for sector in pending.into_keys() {
                let range = sector * SECTOR..((sector + 1) * SECTOR).min(inode.now.len());
                inode.durable[range.clone()].copy_from_slice(&inode.now[range]);
            }
            Ok(())
        })
    }

    fn sync_all(&self) -> io::Result<()> {
        self.sync_data()
    }

    fn forget_cache(&self) -> io::Result<()> {
        self.with(|state, id| {
            let inode = inode(state, id);
            if inode.pending.is_empty() {
                inode.now = inode.durable.clone();
            }
            Ok(())
        })
    }
}

/// A small generator, so that a seed says everything about a crash.
struct Splitmix(u64);

impl Splitmix {
    fn below(&mut self, bound: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        ((mixed ^ (mixed >> 31)) % bound as u64) as usize
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn disk_with_pending() -> FaultyDisk {
        let disk = FaultyDisk::new();
        let dir = Path::new("/d");
        let file = disk.create(&dir.join("a")).expect("made");
        file.write_at(0, &[&[1; 4 * SECTOR]]).expect("written");
        file.sync_data().expect("synced");
        disk.sync_dir(dir).expect("synced");
        file.write_at(0, &[&[2; 4 * SECTOR]]).expect("written");
        disk.create(&dir.join("b")).expect("made");
        disk
    }

    #[test]
    fn what_was_not_synced_is_lost_kept_or_torn_by_sector() {
        let seen = |crash| {
            let disk = disk_with_pending();
            disk.restart(crash);
            let bytes = disk.content(Path::new("/d/a")).expect("there");
            let sectors: Vec<u8> = bytes.chunks(SECTOR).map(|sector| sector[0]).collect();
            (sectors, disk.files().len())
        };
        assert_eq!(seen(Crash::Lost), (vec![1; 4], 1));
        assert_eq!(seen(Crash::Kept), (vec![2; 4], 2));
        let mut random = std::collections::BTreeSet::new();
        for seed in 0..64 {
            random.insert(seen(Crash::Random(seed)));
            let (torn, _) = seen(Crash::Torn(seed));
            assert!(torn.is_sorted_by(|a, b| a >= b), "{torn:?}");
        }
        assert!(random.len() > 8, "{random:?}");
    }

    #[test]
    fn a_crash_a_failed_sync_and_a_full_disk_are_told_to_the_writer() {
        let disk = disk_with_pending();
        disk.plan(|faults| faults.capacity = Some(4 * SECTOR as u64));
        let file = disk.open(Path::new("/d/a")).expect("there");
        let full = file.write_at(4 * SECTOR as u64, &[b"x"]).expect_err("full");
        assert_eq!(full.kind(), io::ErrorKind::StorageFull);
        disk.plan(|faults| faults.fail_sync = Some(faults.syncs + 1));
        file.sync_data().expect_err("fails once");
        file.sync_data().expect("and then pretends");
        disk.plan(|faults| faults.crash_at = Some(faults.operations + 1));
        file.write_at(0, &[b"y"]).expect_err("the power goes");
        disk.open(Path::new("/d/a")).err().expect("and stays away");
        disk.restart(Crash::Lost);
        file.len().expect_err("an open file does not outlive the power");
        disk.open(Path::new("/d/a")).expect("there again");
    }
}
