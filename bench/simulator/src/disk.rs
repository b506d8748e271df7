//! A disk in memory that does what disks do to those who trust them: loses, tears and reorders what was not synced,
//! keeps lengths and names apart from data, lies, fills up, fails, and changes bytes behind everybody's back.
//!
//! Pending writes are kept by 512-byte sector with every version a device might have written. What the device holds is
//! an image of what was promised and an overlay of what is wrong with it, so that the judge knows both. Decides
//! nothing by itself: [`Hazards`] says what may go wrong now, the seed's own stream says when.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

mod file;
mod hazards;
mod inode;

pub use self::hazards::{Broken, Crash, Hazards};
pub use self::inode::SECTOR;
use self::inode::{Inode, range};
use crate::chance::{Random, stream};

/// Sectors, each by its file and its number there.
pub type Places = BTreeSet<(u64, usize)>;

#[derive(Clone)]
enum Change {
    Set(PathBuf, u64),
    Remove(PathBuf),
}

struct State {
    random: Random,
    hazards: Hazards,
    inodes: BTreeMap<u64, Inode>,
    next: u64,
    names: BTreeMap<PathBuf, u64>,
    durable_names: BTreeMap<PathBuf, u64>,
    changes: BTreeMap<PathBuf, Vec<Change>>,
    locked: bool,
    boots: u64,
    operations: u64,
    writes: u64,
    down: bool,
    /// Whether something that was promised is not as promised.
    hurt_by_sync: bool,
    /// Sectors that something was written to since [`SimDisk::take_written`].
    written: Places,
    /// Sectors that were not as promised at some time since [`SimDisk::found_whole`].
    damaged: Places,
    /// How long reads have taken since [`SimDisk::take_read_ns`].
    read_ns: i64,
    injected: BTreeMap<&'static str, u64>,
}

/// What was promised of all files at some time.
#[derive(Clone)]
pub struct Image {
    names: BTreeMap<PathBuf, u64>,
    files: BTreeMap<u64, Vec<u8>>,
}

/// The disk. Clones share it.
#[derive(Clone)]
pub struct SimDisk {
    state: Arc<Mutex<State>>,
}

/// The class of every operation that a device refuses which has failed for ever.
const DEVICE_FAILED: &str = "operation refused by a device that failed for ever";

fn gone() -> io::Error {
    io::Error::other("the power is gone")
}

fn failed() -> io::Error {
    io::Error::other("the device failed")
}

impl SimDisk {
    /// An empty disk without hazards.
    pub fn new(seed: u64) -> Self {
        let state = State {
            random: stream(seed, "disk"),
            hazards: Hazards::default(),
            inodes: BTreeMap::new(),
            next: 0,
            names: BTreeMap::new(),
            durable_names: BTreeMap::new(),
            changes: BTreeMap::new(),
            locked: false,
            boots: 0,
            operations: 0,
            writes: 0,
            down: false,
            hurt_by_sync: false,
            written: Places::new(),
            damaged: Places::new(),
            read_ns: 0,
            injected: BTreeMap::new(),
        };
        Self { state: Arc::new(Mutex::new(state)) }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Changes what may go wrong.
    pub fn plan(&self, change: impl FnOnce(&mut Hazards)) {
        change(&mut self.state().hazards);
    }

    /// Whether the power is gone.
    pub fn is_down(&self) -> bool {
        self.state().down
    }

    /// Writes, creations, renames, removals and syncs so far.
    pub fn operations(&self) -> u64 {
        self.state().operations
    }

    /// How often a write, a sync, a creation or anything else failed, other than for want of space.
    pub fn failures(&self) -> u64 {
        self.state().injected.iter().filter(|(class, _)| class.contains("failed")).map(|(_, count)| count).sum()
    }

    /// Bytes of all files.
    pub fn used(&self) -> u64 {
        self.state().used()
    }

    /// What went wrong so far, by class.
    pub fn injected(&self) -> BTreeMap<&'static str, u64> {
        self.state().injected.clone()
    }

    /// Whether a sync since the last call kept less than it said.
    pub fn take_hurt(&self) -> bool {
        std::mem::take(&mut self.state().hurt_by_sync)
    }

    /// Whether something was written to a file for which `may` holds that is not durable.
    pub fn is_pending(&self, may: impl Fn(&Path) -> bool) -> bool {
        let state = self.state();
        let pending = |id: &u64| state.inodes.get(id).is_some_and(|inode| !inode.pending.is_empty());
        state.names.iter().any(|(path, id)| may(path) && pending(id))
    }

    /// How long reads have taken since the last call, in nanoseconds.
    pub fn take_read_ns(&self) -> i64 {
        std::mem::take(&mut self.state().read_ns)
    }

    /// Whether nothing but reads goes astray: the device holds everything that was promised.
    pub fn only_misreads(&self) -> bool {
        let state = self.state();
        let holds = state.inodes.values().all(|inode| inode.overlay.is_empty());
        holds && state.inodes.values().any(|inode| inode.stale || !inode.elsewhere.is_empty())
    }

    /// The sectors that something was written to since the last call.
    pub fn take_written(&self) -> Places {
        std::mem::take(&mut self.state().written)
    }

    /// Whether one of these sectors was not as promised at some time since the last [`SimDisk::found_whole`], even if
    /// it was written anew since, as a recovery does that cuts a tail.
    pub fn was_damaged(&self, places: &Places) -> bool {
        !self.state().damaged.is_disjoint(places)
    }

    /// All that was promised was found: only what is still hidden under a warm cache counts as damaged.
    pub fn found_whole(&self) {
        let mut state = self.state();
        let state = &mut *state;
        state.damaged = state
            .inodes
            .iter()
            .flat_map(|(id, inode)| {
                inode.overlay.keys().chain(inode.elsewhere.keys()).map(move |sector| (*id, *sector))
            })
            .collect();
    }

    /// Whether the device holds something else than it promised.
    pub fn is_damaged(&self) -> bool {
        let state = self.state();
        let mut inodes = state.inodes.values();
        inodes.any(|inode| inode.stale || !inode.overlay.is_empty() || !inode.elsewhere.is_empty())
    }

    /// Whether the device ever held something else than it promised.
    pub fn ever_damaged(&self) -> bool {
        let state = self.state();
        let words = [
            "bits changed",
            "sync lied",
            "write lost",
            "write misdirected",
            "stale sector read",
            "read misdirected",
        ];
        words.iter().any(|word| state.injected.contains_key(word))
    }

    /// The power goes, or the process: every operation fails until [`SimDisk::restart`].
    pub fn down(&self) {
        self.state().down = true;
    }

    /// Comes back with what was durable and what `crash` leaves of the rest.
    pub fn restart(&self, crash: Crash) {
        let mut state = self.state();
        let state = &mut *state;
        state.down = false;
        state.locked = false;
        state.boots += 1;
        let pending = state.inodes.values().any(|inode| !inode.pending.is_empty());
        state.count(crash.word());
        if pending {
            state.count("crash with writes pending");
        }
        if crash == Crash::Process {
            return;
        }
        for (_, changes) in std::mem::take(&mut state.changes) {
            let kept = match crash {
                Crash::Lost => 0,
                Crash::Kept => changes.len(),
                _ => state.random.between(0, changes.len() as i64) as usize,
            };
            if kept < changes.len() {
                *state.injected.entry("crash: names not durable").or_default() += 1;
            }
            for change in &changes[..kept] {
                change.apply(&mut state.durable_names);
            }
        }
        state.names = state.durable_names.clone();
        let named: BTreeSet<u64> = state.names.values().copied().collect();
        state.inodes.retain(|id, _| named.contains(id));
        for inode in state.inodes.values_mut() {
            if inode.lose(crash, &mut state.random) {
                *state.injected.entry("crash: length not durable").or_default() += 1;
            }
        }
        state.reload_all();
    }

    /// What was promised so far.
    pub fn image(&self) -> Image {
        let state = self.state();
        let files = state.inodes.iter().map(|(id, inode)| (*id, inode.image.clone())).collect();
        Image { names: state.durable_names.clone(), files }
    }

    /// Writes to files so far.
    pub fn writes(&self) -> u64 {
        self.state().writes
    }

    /// A process has read and checked the files for which `may` holds: what the device holds of them is what counts
    /// from now on. Not where a warm cache hid the device from it: that is still to be found.
    pub fn accept(&self, may: impl Fn(&Path) -> bool) {
        let mut state = self.state();
        let state = &mut *state;
        for id in state.names.iter().filter(|(path, _)| may(path)).map(|(_, id)| id) {
            let Some(inode) = state.inodes.get_mut(id) else { continue };
            for (sector, bytes) in std::mem::take(&mut inode.overlay) {
                let place = range(sector, inode.image.len());
                let len = place.len().min(bytes.len());
                let read = inode.cache.get(place.start..place.start + len);
                if read.is_none_or(|read| *read != bytes[..len]) {
                    inode.overlay.insert(sector, bytes);
                    continue;
                }
                inode.image[place.start..place.start + len].copy_from_slice(&bytes[..len]);
                inode.meant[place.start..place.start + len].copy_from_slice(&bytes[..len]);
            }
        }
    }

    /// An operator puts back what was promised; with `image`, what was promised then.
    pub fn heal(&self, image: Option<Image>) {
        let mut state = self.state();
        if let Some(Image { names, files }) = image {
            state.changes.clear();
            state.names.clone_from(&names);
            state.durable_names = names;
            state.inodes =
                files.into_iter().map(|(id, image)| (id, Inode { image, ..Inode::default() })).collect();
        }
        for inode in state.inodes.values_mut() {
            inode.overlay.clear();
            inode.elsewhere.clear();
            inode.stale = false;
            inode.cache.clone_from(&inode.image);
            inode.meant.clone_from(&inode.image);
            inode.pending.clear();
        }
    }

    /// Changes some bits or a sector of some file for which `may` holds; tells which and where.
    pub fn corrupt(&self, may: impl Fn(&Path) -> bool) -> Option<(PathBuf, usize)> {
        let mut state = self.state();
        let state = &mut *state;
        let files: Vec<(PathBuf, u64)> = state
            .durable_names
            .iter()
            .filter(|(path, id)| may(path) && state.inodes.get(id).is_some_and(|inode| !inode.image.is_empty()))
            .map(|(path, id)| (path.clone(), *id))
            .collect();
        if files.is_empty() {
            return None;
        }
        let (path, id) = state.random.pick(&files);
        let inode = state.inodes.get_mut(&id)?;
        // Mostly where something was written: long stretches of a segment are zeros.
        let written: Vec<usize> = (0..inode.image.len().div_ceil(SECTOR))
            .filter(|sector| inode.image[range(*sector, inode.image.len())].iter().any(|byte| *byte != 0))
            .collect();
        let all = inode.image.len().div_ceil(SECTOR) as i64;
        let sector = if written.is_empty() || state.random.one_in(8) {
            state.random.between(0, all - 1) as usize
        } else {
            state.random.pick(&written)
        };
        let mut bytes = inode.device(sector);
        let at = state.random.between(0, bytes.len() as i64 - 1) as usize;
        if state.random.one_in(4) {
            bytes.fill(0);
        } else {
            bytes[at] ^= 1 << state.random.between(0, 7);
        }
        if bytes == inode.image[range(sector, inode.image.len())] {
            return None;
        }
        // Under a warm cache: found when the file is read from the device again.
        inode.overlay.insert(sector, bytes);
        state.damaged.insert((id, sector));
        *state.injected.entry("bits changed").or_default() += 1;
        Some((path, sector * SECTOR))
    }

    /// Memory is short: some file for which `may` holds and of which nothing is pending is forgotten by the cache, so
    /// that who reads it from now on sees what the device holds.
    pub fn evict(&self, may: impl Fn(&Path) -> bool) {
        let mut state = self.state();
        let state = &mut *state;
        let clean = |id: &u64| state.inodes.get(id).is_some_and(|inode| inode.pending.is_empty());
        let files: Vec<u64> =
            state.names.iter().filter(|(path, id)| may(path) && clean(id)).map(|(_, id)| *id).collect();
        if state.down || files.is_empty() {
            return;
        }
        let id = state.random.pick(&files);
        let lied = state.inodes.get(&id).is_some_and(|inode| !inode.overlay.is_empty());
        state.reload(id);
        state.count(if lied { "file evicted, and the device holds something else" } else { "file evicted" });
    }

    /// Copies the files under `dir` of another disk, as durable ones.
    pub fn copy_from(&self, other: &Self, dir: &Path) {
        let (mut state, other) = (self.state(), other.state());
        for (path, id) in other.durable_names.iter().filter(|(path, _)| path.starts_with(dir)) {
            let Some(from) = other.inodes.get(id) else { continue };
            let content = || from.image.clone();
            let inode = Inode { image: content(), cache: content(), meant: content(), ..Inode::default() };
            let id = state.next;
            state.next += 1;
            state.inodes.insert(id, inode);
            state.names.insert(path.clone(), id);
            state.durable_names.insert(path.clone(), id);
        }
    }

    /// Where in a file the device holds something else than was promised, by byte.
    pub fn wrong(&self, path: &Path) -> BTreeSet<usize> {
        let state = self.state();
        let Some(inode) = state.names.get(path).and_then(|id| state.inodes.get(id)) else {
            return BTreeSet::new();
        };
        let strays = inode.elsewhere.iter().map(|(sector, place)| (*sector, state.held(*place)));
        let overlay = inode.overlay.iter().filter(|(sector, _)| !inode.elsewhere.contains_key(*sector));
        let overlay = overlay.map(|(sector, bytes)| (*sector, bytes.clone()));
        let differing = overlay.chain(strays).flat_map(|(sector, bytes)| {
            let place = range(sector, inode.image.len());
            let pairs = inode.image[place.clone()].iter().zip(bytes).zip(place);
            pairs.filter(|((promised, held), _)| **promised != *held).map(|(_, at)| at).collect::<Vec<_>>()
        });
        differing.collect()
    }

    /// Whether what is read of a file now may be something else than was promised.
    pub fn reads_wrong(&self, path: &Path) -> bool {
        let state = self.state();
        let inode = state.names.get(path).and_then(|id| state.inodes.get(id));
        inode.is_some_and(|inode| inode.stale || inode.cache != inode.image)
    }

    /// What was promised of a file.
    pub fn promised(&self, path: &Path) -> Option<Vec<u8>> {
        let state = self.state();
        Some(state.inodes.get(state.names.get(path)?)?.image.clone())
    }

    /// Somebody takes a file away, for good: its folder is durable, so that none of the file's names comes back.
    pub fn take_away(&self, path: &Path) {
        let mut state = self.state();
        for change in state.changes.remove(path.parent().unwrap_or(Path::new(""))).unwrap_or_default() {
            change.apply(&mut state.durable_names);
        }
        state.durable_names.remove(path);
        if let Some(id) = state.names.remove(path) {
            state.inodes.remove(&id);
        }
    }

    /// All files, sorted.
    pub fn files(&self) -> Vec<PathBuf> {
        self.state().names.keys().cloned().collect()
    }
}

impl Change {
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
    fn count(&mut self, class: &'static str) {
        *self.injected.entry(class).or_default() += 1;
    }

    /// A read takes its time.
    fn take_time(&mut self) {
        let most = self.hazards.read_ns;
        if most > 0 {
            const SECOND: i64 = 1_000_000_000;
            let hangs = self.random.one_in(1_000);
            self.read_ns +=
                if hangs { self.random.between(SECOND, 5 * SECOND) } else { self.random.between(most / 20, most) };
        }
    }

    /// Takes a descriptor, if there is one.
    fn descriptor(&mut self) -> io::Result<()> {
        self.alive()?;
        if self.happens(self.hazards.descriptors, "no descriptor") {
            const EMFILE: i32 = 24;
            return Err(io::Error::from_raw_os_error(EMFILE));
        }
        Ok(())
    }

    /// A file that somebody has open.
    fn inode(&mut self, id: u64) -> &mut Inode {
        self.inodes.get_mut(&id).expect("an open file exists")
    }

    fn happens(&mut self, one_in: u64, class: &'static str) -> bool {
        let happens = one_in > 0 && self.random.one_in(one_in);
        if happens {
            self.count(class);
        }
        happens
    }

    fn alive(&mut self) -> io::Result<()> {
        if self.down {
            return Err(gone());
        }
        if self.hazards.broken == Some(Broken::All) {
            self.count(DEVICE_FAILED);
            return Err(failed());
        }
        Ok(())
    }

    /// Counts an operation; tells whether the power goes at it.
    fn operate(&mut self) -> io::Result<bool> {
        self.alive()?;
        if self.hazards.broken.is_some() {
            self.count(DEVICE_FAILED);
            return Err(failed());
        }
        self.operations += 1;
        let pending = self.inodes.values().any(|inode| !inode.pending.is_empty()) || !self.changes.is_empty();
        let one_in = if pending { self.hazards.crash.div_ceil(10) } else { self.hazards.crash };
        if one_in > 0 && self.random.one_in(one_in) {
            self.down = true;
            self.count("power lost at an operation of the disk");
            return Ok(true);
        }
        Ok(false)
    }

    fn used(&self) -> u64 {
        self.names.values().filter_map(|id| self.inodes.get(id)).map(|inode| inode.cache.len() as u64).sum()
    }

    fn change(&mut self, changes: &[Change]) {
        for change in changes {
            change.apply(&mut self.names);
            let (Change::Set(path, _) | Change::Remove(path)) = change;
            let dir = path.parent().unwrap_or(Path::new("")).to_owned();
            self.changes.entry(dir).or_default().push(change.clone());
        }
    }

    fn reload_all(&mut self) {
        let ids: Vec<u64> = self.inodes.keys().copied().collect();
        for id in ids {
            self.reload(id);
        }
    }

    /// What the device holds of a sector of a file; nothing of one that is gone.
    fn held(&self, (id, sector): (u64, usize)) -> Vec<u8> {
        self.inodes.get(&id).map(|inode| inode.device(sector)).unwrap_or_default()
    }

    /// Lets one sector of a file be read from another place, this once or from now on.
    fn misread(&mut self, id: u64) {
        let Some(inode) = self.inodes.get(&id).filter(|inode| !inode.image.is_empty()) else { return };
        let sector = self.random.between(0, inode.image.len().div_ceil(SECTOR) as i64 - 1) as usize;
        let ids: Vec<u64> = self.names.values().copied().collect();
        let Some(other) = (!ids.is_empty()).then(|| self.random.pick(&ids)) else { return };
        let sectors = self.inodes.get(&other).map_or(0, |inode| inode.image.len() / SECTOR) as i64;
        if sectors == 0 {
            return;
        }
        // Mostly near: an arm that missed its track, a table that is off by one.
        let near = (sector as i64 + self.random.between(-8, 8)).clamp(0, sectors - 1);
        let from = if self.random.one_in(2) { near } else { self.random.between(0, sectors - 1) } as usize;
        let bytes = self.held((other, from));
        let for_ever = self.random.one_in(4);
        let inode = self.inodes.get_mut(&id).expect("looked at above");
        if !inode.read_as(sector, &bytes) {
            return;
        }
        if for_ever {
            inode.elsewhere.insert(sector, (other, from));
        }
        self.damaged.insert((id, sector));
        self.count("read misdirected");
        if for_ever {
            self.count("read misdirected from then on");
        }
    }

    /// Reads a file from the device anew, perhaps with one sector as it was before, or from elsewhere.
    fn reload(&mut self, id: u64) {
        let stale = self.hazards.stale;
        let Some(inode) = self.inodes.get_mut(&id) else { return };
        inode.reload();
        for (sector, place) in inode.elsewhere.clone() {
            let bytes = self.held(place);
            self.inode(id).read_as(sector, &bytes);
        }
        if self.hazards.misread > 0 && self.random.one_in(self.hazards.misread) {
            self.misread(id);
        }
        let Some(inode) = self.inodes.get_mut(&id) else { return };
        if stale > 0 && !inode.before.is_empty() && self.random.one_in(stale) {
            let sectors: Vec<usize> = inode.before.keys().copied().collect();
            let sector = self.random.pick(&sectors);
            let place = range(sector, inode.cache.len());
            let bytes = inode.before[&sector].clone();
            if place.len() == bytes.len() && inode.cache[place.clone()] != bytes[..] {
                inode.cache[place].copy_from_slice(&bytes);
                inode.stale = true;
                self.damaged.insert((id, sector));
                self.count("stale sector read");
            }
        }
    }

    fn sync(&mut self, id: u64) -> io::Result<()> {
        if self.hazards.broken.is_some() && !self.down {
            // As for one sync that fails: what was pending counts as clean from now on, and is not on the device.
            self.inode(id).pending.clear();
        }
        if self.operate()? {
            return Err(gone());
        }
        let sync_error = self.happens(self.hazards.sync_error, "sync failed");
        let lies = self.happens(self.hazards.lie, "sync lied");
        let inode = self.inodes.get_mut(&id).expect("an open file exists");
        let pending = std::mem::take(&mut inode.pending);
        if sync_error {
            // As Linux does: the pages count as clean, are still readable, and are gone with the power.
            return Err(failed());
        }
        let before_len = inode.image.len();
        inode.image.resize(inode.cache.len(), 0);
        let mut sectors = Vec::with_capacity(pending.len());
        for sector in pending.into_keys() {
            let place = range(sector, inode.image.len());
            let mut old = inode.image[place.clone()].to_vec();
            if place.start < before_len {
                old = inode.overlay.remove(&sector).filter(|bytes| bytes.len() == old.len()).unwrap_or(old);
            }
            inode.image[place.clone()].copy_from_slice(&inode.meant[place.clone()]);
            if lies {
                inode.overlay.insert(sector, old.clone());
            } else if inode.cache[place.clone()] != inode.meant[place.clone()] {
                inode.overlay.insert(sector, inode.cache[place].to_vec());
            }
            inode.before.insert(sector, old);
            sectors.push(sector);
        }
        if lies {
            self.damaged.extend(sectors.iter().map(|sector| (id, *sector)));
            self.hurt_by_sync = true;
        } else if !sectors.is_empty() {
            self.misplace(id, &sectors);
        }
        Ok(())
    }

    /// Lets one sector of a sync go astray.
    fn misplace(&mut self, id: u64, sectors: &[usize]) {
        if self.happens(self.hazards.lost, "write lost") {
            let sector = self.random.pick(sectors);
            let inode = self.inodes.get_mut(&id).expect("an open file exists");
            inode.overlay.insert(sector, inode.before[&sector].clone());
            self.damaged.insert((id, sector));
            self.hurt_by_sync = true;
        }
        if self.happens(self.hazards.misdirect, "write misdirected") {
            let sector = self.random.pick(sectors);
            let inode = self.inodes.get_mut(&id).expect("an open file exists");
            let bytes = inode.device(sector);
            inode.overlay.insert(sector, inode.before[&sector].clone());
            let ids: Vec<u64> = self.durable_names.values().copied().collect();
            let victim = if ids.is_empty() { id } else { self.random.pick(&ids) };
            if let Some(inode) = self.inodes.get_mut(&victim) {
                let all = inode.image.len() / SECTOR;
                if all > 0 && bytes.len() == SECTOR {
                    let target = self.random.between(0, all as i64 - 1) as usize;
                    inode.overlay.insert(target, bytes);
                    self.damaged.insert((victim, target));
                }
            }
            self.damaged.insert((id, sector));
            self.hurt_by_sync = true;
        }
    }
}
