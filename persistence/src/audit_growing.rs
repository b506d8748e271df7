//! One file of an audit: its head, and bytes that are buffered and added at its end. Names the file in every error.
//! What the bytes are, [`crate::audit_files`] knows.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::audit::AuditPlace;
use crate::audit_files::{AUDIT_VERSION, AUDIT_VERSION_MIN, CLUSTER, FILE_HEADER, HISTORY, SHARD};
use crate::disk::{Disk, DiskFile, replace};
use crate::error::remedy;
use crate::format::{put, u16_at, u32_at, u128_at};
use crate::{HistoryId, uuid_text};

/// A file that only grows at its end.
pub(crate) struct Growing {
    pub(crate) path: PathBuf,
    pub(crate) file: Arc<dyn DiskFile>,
    /// Where the buffer belongs.
    pub(crate) written: u64,
    pub(crate) buffer: Vec<u8>,
}

impl Growing {
    pub(crate) fn open(place: &AuditPlace, shard: u16, kind: &str, magic: [u8; 8]) -> io::Result<Self> {
        let path = place.dir.join(format!("{shard:04x}.{kind}"));
        let head_of = |version: u32| {
            let mut head = vec![0; FILE_HEADER as usize];
            put(&mut head, 0, &magic);
            put(&mut head, 8, &version.to_le_bytes());
            put(&mut head, CLUSTER, &place.sealer.cluster().to_le_bytes());
            put(&mut head, HISTORY, &place.history.0.to_le_bytes());
            put(&mut head, SHARD, &shard.to_le_bytes());
            let crc = head_checksum(&head);
            put(&mut head, 12, &crc.to_le_bytes());
            head
        };
        let is_sealed = place.sealer.seals_everything();
        let head = head_of(if is_sealed { AUDIT_VERSION } else { AUDIT_VERSION_MIN });
        let at = named(&path);
        let file = match place.disk.open(&path) {
            Ok(file) if file.len().map_err(&at)? >= FILE_HEADER => {
                let mut found = vec![0; FILE_HEADER as usize];
                file.read_at(0, &mut found).map_err(&at)?;
                let version = (AUDIT_VERSION_MIN..=AUDIT_VERSION).find(|version| found == head_of(*version));
                if version == Some(AUDIT_VERSION_MIN) && is_sealed {
                    // Before the first record that an older program would take for damage. A head lies in one sector.
                    file.write_at(0, &[&head]).and_then(|()| file.sync_data()).map_err(&at)?;
                } else if version.is_none() {
                    return Err(io::Error::new(io::ErrorKind::InvalidData, differs(&path, &found, &head)));
                }
                file
            }
            // A start that was cut short left it without a head.
            Ok(_) => create(&*place.disk, place, &path, &head).map_err(&at)?,
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                create(&*place.disk, place, &path, &head).map_err(&at)?
            }
            Err(error) => return Err(at(error)),
        };
        drop(at);
        Ok(Self { path, file: Arc::from(file), written: FILE_HEADER, buffer: Vec::new() })
    }

    pub(crate) fn end(&self) -> u64 {
        self.written + self.buffer.len() as u64
    }

    pub(crate) fn flush(&mut self) -> io::Result<()> {
        if !self.buffer.is_empty() {
            self.file.write_at(self.written, &[&self.buffer]).map_err(named(&self.path))?;
            self.written += self.buffer.len() as u64;
            self.buffer.clear();
        }
        Ok(())
    }
}

/// Gives a file of an audit to another history. Its records don't know theirs.
pub(crate) fn adopt(file: &dyn DiskFile, history: HistoryId) -> io::Result<()> {
    let mut head = vec![0; FILE_HEADER as usize];
    file.read_at(0, &mut head)?;
    put(&mut head, HISTORY, &history.0.to_le_bytes());
    let crc = head_checksum(&head);
    put(&mut head, 12, &crc.to_le_bytes());
    file.write_at(0, &[&head])
}

fn head_checksum(head: &[u8]) -> u32 {
    crc32c::crc32c_append(crc32c::crc32c(&head[..12]), &head[CLUSTER..])
}

/// Aside first: a file that has its name has its head, whatever a power cut leaves of what was not synced.
fn create(disk: &dyn Disk, place: &AuditPlace, path: &Path, head: &[u8]) -> io::Result<Box<dyn DiskFile>> {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    replace(disk, &place.dir, &name, head)?;
    disk.open(path)
}

/// An error of the disk with its file, and what an operator does about it.
pub(crate) fn named(path: &Path) -> impl Fn(io::Error) -> io::Error + '_ {
    |error| io::Error::new(error.kind(), format!("{}: {error}. {}", path.display(), remedy(&error)))
}

/// In words, how a head differs from what it must be.
fn differs(path: &Path, found: &[u8], expected: &[u8]) -> String {
    let is_known = (AUDIT_VERSION_MIN..=AUDIT_VERSION).contains(&u32_at(found, 8));
    let (cluster, history) = (|head: &[u8]| u128_at(head, CLUSTER), |head: &[u8]| u128_at(head, HISTORY));
    let id = |head: &[u8]| uuid_text(u128_at(head, CLUSTER)) + " " + &uuid_text(u128_at(head, HISTORY));
    let hex = |bytes: &[u8]| bytes.iter().map(|byte| format!("{byte:02x}")).collect::<String>();
    let (offset, what, wanted, there) = if found[..8] != expected[..8] || !is_known {
        let what = format!("not a file of an audit of version {AUDIT_VERSION_MIN} to {AUDIT_VERSION}");
        (0, what, hex(&expected[..12]), hex(&found[..12]))
    } else if u32_at(found, 12) != head_checksum(found) {
        let crc = |crc: u32| format!("checksum {crc:#010x}");
        (12, "its head is damaged".into(), crc(head_checksum(found)), crc(u32_at(found, 12)))
    } else if (cluster(found), history(found)) != (cluster(expected), history(expected)) {
        (CLUSTER, "it belongs to another log".into(), id(expected), id(found))
    } else {
        let shard = |head: &[u8]| format!("shard {}", u16_at(head, SHARD));
        (SHARD, "it belongs to another shard".into(), shard(expected), shard(found))
    };
    format!(
        "{}, offset {offset}: {what}: expected {wanted}, found {there}; restore the folder `audit` that belongs to this \
         data folder, or move it away: then only what comes can be proved",
        path.display()
    )
}
