//! Which files of a data folder are sealed under a data key: what can't be read any more when it goes.
//!
//! Reads heads only, and may be asked beside a running node: that one begins files under the newest key alone.

use std::io;
use std::path::{Path, PathBuf};

use crate::audit_files::{FILE_HEADER, FLAG_WHOLE, FLAGS, JOURNAL_MAGIC, LENGTH, RECORD_HEADER, SEAL};
use crate::disk::{Disk, DiskFile};
use crate::file_seal::{CIPHER, SEAL_HEADER, SealHeader};
use crate::format::{SEGMENT_HEADER, SegmentHeader, u16_at, u32_at};
use crate::snapshot::{CIPHER_OFFSET, MAGIC, PLACE, SHARDS, VECTOR};

/// What is sealed under a data key.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SealedUnder {
    /// Segments and snapshots: without the key no start.
    pub needed: Vec<PathBuf>,
    /// Journals of the audit: without the key no proof of the records that it seals. They are never cut.
    pub journals: Vec<PathBuf>,
}

/// The files of the data folder `data` that are sealed under the data key with number `key`.
///
/// # Errors
/// A file can't be read.
pub fn sealed_under(disk: &dyn Disk, data: &Path, key: u64) -> io::Result<SealedUnder> {
    let mut found = SealedUnder::default();
    for (folder, look) in [("log", segment as Look), ("snapshots", snapshot), ("audit", journal)] {
        let dir = data.join(folder);
        for name in disk.list(&dir)? {
            let path = dir.join(name);
            let file = match disk.open(&path) {
                // A running node removes and renames.
                Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
                file => file?,
            };
            if look(&*file, key)? {
                let files = if folder == "audit" { &mut found.journals } else { &mut found.needed };
                files.push(path);
            }
        }
    }
    Ok(found)
}

/// Whether a file is, or holds something, sealed under a key.
type Look = fn(&dyn DiskFile, u64) -> io::Result<bool>;

/// The first `size` bytes of a file; none if it has fewer.
fn head(file: &dyn DiskFile, size: usize) -> io::Result<Option<Vec<u8>>> {
    if file.len()? < size as u64 {
        return Ok(None);
    }
    let mut bytes = vec![0; size];
    file.read_at(0, &mut bytes)?;
    Ok(Some(bytes))
}

fn segment(file: &dyn DiskFile, key: u64) -> io::Result<bool> {
    let Some(bytes) = head(file, SEGMENT_HEADER)? else { return Ok(false) };
    let seal = SegmentHeader::decode(&bytes).ok().and_then(|header| header.seal);
    Ok(seal.is_some_and(|seal| seal.data_key == key))
}

fn snapshot(file: &dyn DiskFile, key: u64) -> io::Result<bool> {
    let Some(bytes) = head(file, VECTOR)? else { return Ok(false) };
    if bytes[..8] != MAGIC || u32_at(&bytes, 8) < 3 || u16_at(&bytes, CIPHER_OFFSET) != CIPHER {
        return Ok(false);
    }
    let at = VECTOR + PLACE * usize::from(u16_at(&bytes, SHARDS));
    let Some(bytes) = head(file, at + SEAL_HEADER)? else { return Ok(false) };
    Ok(SealHeader::decode(&bytes[at..]).data_key == key)
}

fn journal(file: &dyn DiskFile, key: u64) -> io::Result<bool> {
    let Some(bytes) = head(file, FILE_HEADER as usize)? else { return Ok(false) };
    if bytes[..8] != JOURNAL_MAGIC {
        return Ok(false);
    }
    let (mut at, end) = (FILE_HEADER, file.len()?);
    let mut record = [0; RECORD_HEADER];
    while at + RECORD_HEADER as u64 <= end {
        file.read_at(at, &mut record)?;
        // Nothing was written from here on: what a node has in memory it will seal under the newest key.
        if record == [0; RECORD_HEADER] {
            break;
        }
        if u32_at(&record, FLAGS) & FLAG_WHOLE != 0 && SealHeader::decode(&record[SEAL..]).data_key == key {
            return Ok(true);
        }
        at += (RECORD_HEADER as u64 + u64::from(u32_at(&record, LENGTH))).next_multiple_of(8);
    }
    Ok(false)
}
