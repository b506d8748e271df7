//! The file `meta` of a data folder: whose log it is, which history, and which master key it was written with.

use std::io;
use std::path::Path;

use crate::HistoryId;
use crate::disk::{Disk, read_all, replace};
use crate::error::{Corruption, OpenError};
use crate::format::{put, u16_at, u32_at, u128_at};

/// Name of the file.
pub(crate) const NAME: &str = "meta";
pub(crate) const MAGIC: [u8; 8] = *b"RTFOLDER";
/// Version of this file. A folder of another version is refused.
pub(crate) const VERSION: u32 = 1;

// Little-endian: 0 magic | 8 version u32 | 12 crc32c u32 | 16 cluster u128 | 32 history u128 | 48 key check |
// 64 shards u16 | 66 zero
pub(crate) const CLUSTER: usize = 16;
pub(crate) const HISTORY: usize = 32;
pub(crate) const KEY_CHECK: usize = 48;
pub(crate) const SHARDS: usize = 64;
pub(crate) const SIZE: usize = 72;

/// Whose log a folder holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Meta {
    pub(crate) cluster: u128,
    pub(crate) history: HistoryId,
    /// Derived from the master key; shows a wrong one.
    pub(crate) key_check: [u8; 16],
    /// The system shard included.
    pub(crate) shards: u16,
}

impl Meta {
    pub(crate) fn read(disk: &dyn Disk, dir: &Path) -> Result<Option<Self>, OpenError> {
        let path = dir.join(NAME);
        let bytes = match disk.open(&path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            file => file.and_then(|file| read_all(&*file)).map_err(OpenError::disk(&path))?,
        };
        let damaged = |what, expected: String, found: String| {
            OpenError::from(Corruption { file: path.clone(), offset: 0, what, expected, found })
        };
        if bytes.len() < 12 || bytes[..8] != MAGIC {
            let found = format!("{} bytes", bytes.len());
            return Err(damaged("not a folder's description", "its first bytes".into(), found));
        }
        let found = u32_at(&bytes, 8);
        if found != VERSION {
            return Err(OpenError::Version { file: path, expected: VERSION, found });
        }
        if bytes.len() != SIZE {
            let found = format!("{} bytes", bytes.len());
            return Err(damaged("wrong length", format!("{SIZE} bytes"), found));
        }
        let (expected, found) = (checksum(&bytes), u32_at(&bytes, 12));
        if expected != found {
            let words = |crc: u32| format!("checksum {crc:#010x}");
            return Err(damaged("damaged", words(expected), words(found)));
        }
        let mut key_check = [0; 16];
        key_check.copy_from_slice(&bytes[KEY_CHECK..KEY_CHECK + 16]);
        Ok(Some(Self {
            cluster: u128_at(&bytes, CLUSTER),
            history: HistoryId(u128_at(&bytes, HISTORY)),
            key_check,
            shards: u16_at(&bytes, SHARDS),
        }))
    }

    pub(crate) fn write(&self, disk: &dyn Disk, dir: &Path) -> io::Result<()> {
        replace(disk, dir, NAME, &self.encode())
    }

    pub(crate) fn encode(&self) -> [u8; SIZE] {
        let mut bytes = [0; SIZE];
        put(&mut bytes, 0, &MAGIC);
        put(&mut bytes, 8, &VERSION.to_le_bytes());
        put(&mut bytes, CLUSTER, &self.cluster.to_le_bytes());
        put(&mut bytes, HISTORY, &self.history.0.to_le_bytes());
        put(&mut bytes, KEY_CHECK, &self.key_check);
        put(&mut bytes, SHARDS, &self.shards.to_le_bytes());
        let crc = checksum(&bytes);
        put(&mut bytes, 12, &crc.to_le_bytes());
        bytes
    }
}

fn checksum(bytes: &[u8]) -> u32 {
    crc32c::crc32c_append(crc32c::crc32c(&bytes[..12]), &bytes[16..])
}
