//! What the log asks of storage, and the real disk.
//!
//! Nothing else in this crate touches the file system, so that [`crate::faulty::FaultyDisk`] can lose, tear and
//! refuse everything that a real disk could. Never buffers, never retries a failed sync.

use std::fs;
use std::io::{self, IoSlice};
use std::os::unix::fs::{DirBuilderExt, FileExt, OpenOptionsExt};
use std::path::Path;

use rustix::fs::FlockOperation;

/// Makes a call to the disk; a test build may have something else happen to it.
macro_rules! call {
    ($call:ident, $path:expr, $run:expr) => {{
        #[cfg(feature = "failpoints")]
        let done = crate::failpoints::around(crate::failpoints::Call::$call, $path, || $run);
        #[cfg(not(feature = "failpoints"))]
        let done = $run;
        done
    }};
}

/// As `call`, for an open file.
macro_rules! file_call {
    ($call:ident, $file:expr, $run:expr) => {{
        #[cfg(feature = "failpoints")]
        let done = crate::failpoints::around_file(crate::failpoints::Call::$call, $file, || $run);
        #[cfg(not(feature = "failpoints"))]
        let done = $run;
        done
    }};
}

/// A file system, as far as the log needs one. Paths are absolute or relative to the process.
pub trait Disk: Send + Sync {
    /// Makes a directory and those above it, readable by the owner alone, and makes their entries durable.
    fn create_dir(&self, path: &Path) -> io::Result<()>;
    /// Opens an existing file for reading and writing.
    fn open(&self, path: &Path) -> io::Result<Box<dyn DiskFile>>;
    /// Makes a file, readable by the owner alone; one that exists is emptied. Its directory entry is durable only
    /// after [`Disk::sync_dir`].
    fn create(&self, path: &Path) -> io::Result<Box<dyn DiskFile>>;
    /// Renames a file; one at `to` is replaced. Durable only after [`Disk::sync_dir`].
    fn rename(&self, from: &Path, to: &Path) -> io::Result<()>;
    /// Removes a file. Durable only after [`Disk::sync_dir`].
    fn remove(&self, path: &Path) -> io::Result<()>;
    /// The names of the files in a directory, sorted. A directory that does not exist holds none.
    fn list(&self, path: &Path) -> io::Result<Vec<String>>;
    /// Makes the entries of a directory durable.
    fn sync_dir(&self, path: &Path) -> io::Result<()>;
    /// Takes the one lock on a directory's file `lock`, held until the returned value is dropped; fails with
    /// [`io::ErrorKind::WouldBlock`] when somebody else has it.
    fn lock(&self, dir: &Path) -> io::Result<Box<dyn Send + Sync>>;
    /// How many threads may read at once; one where every run must ask in the same order.
    fn readers(&self) -> usize {
        1
    }
}

/// Most parts of one write.
pub const PARTS_MAX: usize = 4;

/// One open file.
pub trait DiskFile: Send + Sync {
    /// Length in bytes.
    fn len(&self) -> io::Result<u64>;
    /// Whether the length is zero.
    fn is_empty(&self) -> io::Result<bool> {
        Ok(self.len()? == 0)
    }
    /// Reads exactly `bytes.len()` bytes at `offset`.
    fn read_at(&self, offset: u64, bytes: &mut [u8]) -> io::Result<()>;
    /// Writes all parts (at most [`PARTS_MAX`]), one after another, at `offset`. Durable only after a sync.
    fn write_at(&self, offset: u64, parts: &[&[u8]]) -> io::Result<()>;
    /// Makes data durable, and of the metadata what is needed to read it. An error is final: what was not synced
    /// may be lost whatever a later sync says.
    fn sync_data(&self) -> io::Result<()>;
    /// Makes data and metadata durable.
    fn sync_all(&self) -> io::Result<()>;
    /// Forgets what is cached of a synced file, so that the next read shows what the device holds.
    fn forget_cache(&self) -> io::Result<()>;
}

/// Reads a whole file.
pub fn read_all(file: &dyn DiskFile) -> io::Result<Vec<u8>> {
    let len = usize::try_from(file.len()?).map_err(io::Error::other)?;
    let mut bytes = vec![0; len];
    file.read_at(0, &mut bytes)?;
    Ok(bytes)
}

/// Replaces the file `dir/name` by `bytes` as one step: after a crash it has its old or its new content.
pub fn replace(disk: &dyn Disk, dir: &Path, name: &str, bytes: &[u8]) -> io::Result<()> {
    let aside = dir.join(format!("{name}.tmp"));
    let file = disk.create(&aside)?;
    file.write_at(0, &[bytes])?;
    file.sync_all()?;
    drop(file);
    disk.rename(&aside, &dir.join(name))?;
    disk.sync_dir(dir)
}

/// The file system of the machine.
#[derive(Clone, Copy, Debug, Default)]
pub struct RealDisk;

impl Disk for RealDisk {
    fn create_dir(&self, path: &Path) -> io::Result<()> {
        let mut made = Vec::new();
        let mut above = Some(path);
        while let Some(dir) = above.filter(|dir| !dir.as_os_str().is_empty() && !dir.exists()) {
            made.push(dir);
            above = dir.parent();
        }
        call!(CreateDir, path, fs::DirBuilder::new().recursive(true).mode(0o700).create(path))?;
        for dir in made {
            let parent = match dir.parent() {
                Some(parent) if !parent.as_os_str().is_empty() => parent,
                _ => Path::new("."),
            };
            self.sync_dir(parent)?;
        }
        Ok(())
    }

    fn readers(&self) -> usize {
        std::thread::available_parallelism().map_or(1, usize::from)
    }

    fn open(&self, path: &Path) -> io::Result<Box<dyn DiskFile>> {
        let file = fs::OpenOptions::new().read(true).write(true).open(path)?;
        Ok(Box::new(RealFile { file }))
    }

    fn create(&self, path: &Path) -> io::Result<Box<dyn DiskFile>> {
        let mut options = fs::OpenOptions::new();
        options.read(true).write(true).create(true).truncate(true).mode(0o600);
        let file = call!(Create, path, options.open(path))?;
        Ok(Box::new(RealFile { file }))
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        call!(Rename, to, fs::rename(from, to))
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        call!(Remove, path, fs::remove_file(path))
    }

    fn list(&self, path: &Path) -> io::Result<Vec<String>> {
        let entries = match fs::read_dir(path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            entries => entries?,
        };
        let mut names = Vec::new();
        for entry in entries {
            let entry = entry?;
            if entry.file_type()?.is_file() {
                names.push(entry.file_name().to_string_lossy().into_owned());
            }
        }
        names.sort();
        Ok(names)
    }

    fn sync_dir(&self, path: &Path) -> io::Result<()> {
        call!(SyncDir, path, fs::File::open(path)?.sync_all())
    }

    fn lock(&self, dir: &Path) -> io::Result<Box<dyn Send + Sync>> {
        let file =
            fs::OpenOptions::new().write(true).create(true).truncate(false).mode(0o600).open(dir.join("lock"))?;
        rustix::fs::flock(&file, FlockOperation::NonBlockingLockExclusive)?;
        Ok(Box::new(file))
    }
}

/// A file of [`RealDisk`].
struct RealFile {
    file: fs::File,
}

impl DiskFile for RealFile {
    fn len(&self) -> io::Result<u64> {
        Ok(self.file.metadata()?.len())
    }

    fn read_at(&self, offset: u64, bytes: &mut [u8]) -> io::Result<()> {
        self.file.read_exact_at(bytes, offset)
    }

    fn write_at(&self, mut offset: u64, parts: &[&[u8]]) -> io::Result<()> {
        let mut slices = [IoSlice::new(&[]); PARTS_MAX];
        let Some(mut rest) = slices.get_mut(..parts.len()) else {
            return Err(io::ErrorKind::InvalidInput.into());
        };
        for (slice, part) in rest.iter_mut().zip(parts) {
            *slice = IoSlice::new(part);
        }
        IoSlice::advance_slices(&mut rest, 0);
        while !rest.is_empty() {
            #[cfg(feature = "failpoints")]
            let written = crate::failpoints::pwritev(&self.file, rest, offset);
            #[cfg(not(feature = "failpoints"))]
            let written = rustix::io::pwritev(&self.file, rest, offset);
            match written {
                Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
                Ok(written) => {
                    offset += written as u64;
                    IoSlice::advance_slices(&mut rest, written);
                }
                Err(rustix::io::Errno::INTR) => {}
                Err(error) => return Err(error.into()),
            }
        }
        Ok(())
    }

    fn sync_data(&self) -> io::Result<()> {
        // Not retried on any error: after a failed sync the kernel may have dropped the pages it could not write.
        file_call!(SyncData, &self.file, rustix::fs::fdatasync(&self.file).map_err(Into::into))
    }

    fn sync_all(&self) -> io::Result<()> {
        file_call!(SyncAll, &self.file, rustix::fs::fsync(&self.file).map_err(Into::into))
    }

    fn forget_cache(&self) -> io::Result<()> {
        rustix::fs::fadvise(&self.file, 0, None, rustix::fs::Advice::DontNeed).map_err(Into::into)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn writes_parts_in_order_and_lists_sorted() {
        let dir = tempfile::tempdir().expect("a folder");
        let path = dir.path().join("a/b");
        RealDisk.create_dir(&path).expect("made");
        let file = RealDisk.create(&path.join("two")).expect("made");
        file.write_at(2, &[b"ab", b"", b"cde"]).expect("written");
        file.sync_data().expect("synced");
        file.forget_cache().expect("forgotten");
        assert_eq!(read_all(&*file).expect("read"), b"\0\0abcde");
        replace(&RealDisk, &path, "one", b"x").expect("replaced");
        assert_eq!(RealDisk.list(&path).expect("listed"), ["one", "two"]);
        assert_eq!(RealDisk.list(&path.join("none")).expect("listed"), Vec::<String>::new());
    }

    #[test]
    fn a_second_lock_is_refused_until_the_first_is_dropped() {
        let dir = tempfile::tempdir().expect("a folder");
        let first = RealDisk.lock(dir.path()).expect("locked");
        let second = RealDisk.lock(dir.path()).err().expect("refused");
        assert_eq!(second.kind(), io::ErrorKind::WouldBlock);
        drop(first);
        RealDisk.lock(dir.path()).expect("locked again");
    }
}
