//! One file of the disk: what processes see of it, what was promised, what the device holds, and what is pending.
//! Decides nothing.

use std::collections::BTreeMap;

use super::hazards::Crash;
use crate::chance::Random;

/// The unit a device writes whole or not at all.
pub const SECTOR: usize = 512;

#[derive(Default)]
pub(super) struct Inode {
    /// What a process sees.
    pub(super) cache: Vec<u8>,
    /// What processes wrote, even where the cache holds something else: then a lie was read back before it was written to.
    pub(super) meant: Vec<u8>,
    /// What was promised to be durable.
    pub(super) image: Vec<u8>,
    /// What the device holds instead, by sector.
    pub(super) overlay: BTreeMap<usize, Vec<u8>>,
    /// What a sector held before its last sync.
    pub(super) before: BTreeMap<usize, Vec<u8>>,
    /// Versions of sectors written since the last sync.
    pub(super) pending: BTreeMap<usize, Vec<Version>>,
    /// Whether the cache holds a sector as it was before, or one of another place.
    pub(super) stale: bool,
    /// Sectors whose reads end in another place, a file and a sector in it, whatever is written here.
    pub(super) elsewhere: BTreeMap<usize, (u64, usize)>,
}

/// A sector as it was written: what the cache held of it, and what was meant where that is something else.
pub(super) struct Version {
    pub(super) bytes: Vec<u8>,
    pub(super) meant: Option<Vec<u8>>,
}

/// Where a sector lies in a file of `len` bytes.
pub(super) fn range(sector: usize, len: usize) -> std::ops::Range<usize> {
    (sector * SECTOR).min(len)..((sector + 1) * SECTOR).min(len)
}

impl Inode {
    /// What the device holds of a sector.
    pub(super) fn device(&self, sector: usize) -> Vec<u8> {
        match self.overlay.get(&sector) {
            Some(bytes) => bytes.clone(),
            None => self.image[range(sector, self.image.len())].to_vec(),
        }
    }

    /// Forgets the cache.
    pub(super) fn reload(&mut self) {
        self.stale = false;
        self.cache.clone_from(&self.image);
        self.meant.clone_from(&self.image);
        for (sector, bytes) in &self.overlay {
            let place = range(*sector, self.cache.len());
            let len = place.len().min(bytes.len());
            self.cache[place.start..place.start + len].copy_from_slice(&bytes[..len]);
        }
    }

    /// A sector is read as `bytes`, as far as they reach; tells whether that is something else than it was.
    pub(super) fn read_as(&mut self, sector: usize, bytes: &[u8]) -> bool {
        let place = range(sector, self.cache.len());
        let len = place.len().min(bytes.len());
        let cached = &mut self.cache[place.start..place.start + len];
        let differs = *cached != bytes[..len];
        cached.copy_from_slice(&bytes[..len]);
        self.stale |= differs;
        differs
    }

    /// Keeps of what is pending what a crash leaves. True when a length was lost.
    pub(super) fn lose(&mut self, crash: Crash, random: &mut Random) -> bool {
        let pending = std::mem::take(&mut self.pending);
        let length = self.cache.len();
        let grows = length > self.image.len();
        let length_kept = match crash {
            Crash::Lost => false,
            Crash::Kept | Crash::Process => true,
            Crash::Reordered | Crash::Torn => random.one_in(2),
        };
        if grows && length_kept {
            self.image.resize(length, 0);
        }
        let kept = match crash {
            Crash::Lost => 0,
            Crash::Torn => random.between(0, pending.len() as i64) as usize,
            _ => pending.len(),
        };
        for (sector, versions) in pending.into_iter().take(kept) {
            let version = match crash {
                Crash::Reordered => random.between(0, versions.len() as i64) as usize,
                _ => versions.len(),
            };
            let Some(version) = version.checked_sub(1).map(|version| &versions[version]) else { continue };
            let Version { bytes, meant } = version;
            let place = range(sector, self.image.len());
            let len = place.len().min(bytes.len());
            let promised = meant.as_ref().unwrap_or(bytes);
            self.image[place.start..place.start + len].copy_from_slice(&promised[..len]);
            self.overlay.remove(&sector);
            if meant.is_some() {
                self.overlay.insert(sector, bytes[..len].to_vec());
            }
        }
        grows && !length_kept
    }

    pub(super) fn write(&mut self, offset: usize, bytes: &[u8]) {
        let end = offset + bytes.len();
        for content in [&mut self.cache, &mut self.meant] {
            if content.len() < end {
                content.resize(end, 0);
            }
            content[offset..end].copy_from_slice(bytes);
        }
        for sector in offset / SECTOR..end.div_ceil(SECTOR) {
            let place = range(sector, self.cache.len());
            let (bytes, meant) = (&self.cache[place.clone()], &self.meant[place]);
            let meant = (bytes != meant).then(|| meant.to_vec());
            self.pending.entry(sector).or_default().push(Version { bytes: bytes.to_vec(), meant });
        }
    }
}
