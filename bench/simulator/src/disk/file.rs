//! The disk as the node asks for it: files, names and syncs, each of which may go wrong. What goes wrong is decided in
//! [`super`].

use std::collections::BTreeSet;
use std::io;
use std::path::Path;

use persistence::{Disk, DiskFile};

use super::inode::{Inode, SECTOR};
use super::{Change, SimDisk, State, failed, gone};

impl Disk for SimDisk {
    fn create_dir(&self, _path: &Path) -> io::Result<()> {
        // Folders are part of the paths of their files.
        self.state().descriptor()
    }

    fn open(&self, path: &Path) -> io::Result<Box<dyn DiskFile>> {
        let mut state = self.state();
        state.descriptor()?;
        let inode = *state.names.get(path).ok_or(io::ErrorKind::NotFound)?;
        Ok(Box::new(SimFile { disk: self.clone(), inode, boots: state.boots }))
    }

    fn create(&self, path: &Path) -> io::Result<Box<dyn DiskFile>> {
        let mut state = self.state();
        state.descriptor()?;
        let crashes = state.operate()?;
        let one_in = state.hazards.write_error;
        if state.happens(one_in, "creation failed") {
            return Err(failed());
        }
        if state.hazards.capacity.is_some_and(|capacity| capacity <= state.used()) {
            state.count("no space for a file");
            return Err(io::ErrorKind::StorageFull.into());
        }
        let inode = state.next;
        state.next += 1;
        state.inodes.insert(inode, Inode::default());
        state.change(&[Change::Set(path.to_owned(), inode)]);
        if crashes {
            return Err(gone());
        }
        let boots = state.boots;
        drop(state);
        Ok(Box::new(SimFile { disk: self.clone(), inode, boots }))
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        let mut state = self.state();
        state.alive()?;
        let inode = *state.names.get(from).ok_or(io::ErrorKind::NotFound)?;
        let crashes = state.operate()?;
        state.change(&[Change::Set(to.to_owned(), inode), Change::Remove(from.to_owned())]);
        if crashes { Err(gone()) } else { Ok(()) }
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        let mut state = self.state();
        state.alive()?;
        if !state.names.contains_key(path) {
            return Err(io::ErrorKind::NotFound.into());
        }
        let crashes = state.operate()?;
        state.change(&[Change::Remove(path.to_owned())]);
        if crashes { Err(gone()) } else { Ok(()) }
    }

    fn list(&self, path: &Path) -> io::Result<Vec<String>> {
        let mut state = self.state();
        state.descriptor()?;
        let inside = state.names.keys().filter(|file| file.parent() == Some(path));
        Ok(inside.filter_map(|file| Some(file.file_name()?.to_str()?.to_owned())).collect())
    }

    fn sync_dir(&self, path: &Path) -> io::Result<()> {
        let mut state = self.state();
        state.descriptor()?;
        if state.operate()? {
            return Err(gone());
        }
        let one_in = state.hazards.sync_error;
        if state.happens(one_in, "sync of a folder failed") {
            return Err(failed());
        }
        let state = &mut *state;
        for change in state.changes.remove(path).unwrap_or_default() {
            change.apply(&mut state.durable_names);
        }
        // A name that was made and removed again may still come back with the power.
        let changing = state.changes.values().flatten().filter_map(|change| match change {
            Change::Set(_, id) => Some(*id),
            Change::Remove(_) => None,
        });
        let named: BTreeSet<u64> =
            state.durable_names.values().chain(state.names.values()).copied().chain(changing).collect();
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
        Ok(Box::new(SimLock { disk: self.clone(), boots: state.boots }))
    }
}

struct SimLock {
    disk: SimDisk,
    boots: u64,
}

impl Drop for SimLock {
    fn drop(&mut self) {
        let mut state = self.disk.state();
        if state.boots == self.boots {
            state.locked = false;
        }
    }
}

struct SimFile {
    disk: SimDisk,
    inode: u64,
    boots: u64,
}

impl SimFile {
    fn with<T>(&self, act: impl FnOnce(&mut State, u64) -> io::Result<T>) -> io::Result<T> {
        let mut state = self.disk.state();
        state.alive()?;
        if state.boots != self.boots || !state.inodes.contains_key(&self.inode) {
            return Err(gone());
        }
        act(&mut state, self.inode)
    }
}

impl DiskFile for SimFile {
    fn len(&self) -> io::Result<u64> {
        self.with(|state, id| Ok(state.inode(id).cache.len() as u64))
    }

    fn read_at(&self, offset: u64, bytes: &mut [u8]) -> io::Result<()> {
        self.with(|state, id| {
            state.take_time();
            let cache = &state.inode(id).cache;
            let start = usize::try_from(offset).unwrap_or(usize::MAX);
            let end = start.saturating_add(bytes.len());
            bytes.copy_from_slice(cache.get(start..end).ok_or(io::ErrorKind::UnexpectedEof)?);
            Ok(())
        })
    }

    fn write_at(&self, offset: u64, parts: &[&[u8]]) -> io::Result<()> {
        self.with(|state, id| {
            let mut bytes = parts.concat();
            let crashes = state.operate()?;
            state.writes += 1;
            if state.happens(state.hazards.write_error, "write failed") {
                return Err(failed());
            }
            let offset = usize::try_from(offset).map_err(io::Error::other)?;
            let grows = (offset + bytes.len()).saturating_sub(state.inode(id).cache.len()) as u64;
            if state.hazards.capacity.is_some_and(|all| all.saturating_sub(state.used()) < grows) {
                state.count("no space for a write");
                return Err(io::ErrorKind::StorageFull.into());
            }
            if crashes {
                // Not more than the kernel had taken of it when the power went.
                let taken = state.random.between(0, bytes.len() as i64) as usize;
                bytes.truncate(taken);
            }
            state.inode(id).write(offset, &bytes);
            let sectors = offset / SECTOR..(offset + bytes.len()).div_ceil(SECTOR);
            state.written.extend(sectors.map(|sector| (id, sector)));
            if crashes { Err(gone()) } else { Ok(()) }
        })
    }

    fn sync_data(&self) -> io::Result<()> {
        self.with(State::sync)
    }

    fn sync_all(&self) -> io::Result<()> {
        self.with(State::sync)
    }

    fn forget_cache(&self) -> io::Result<()> {
        self.with(|state, id| {
            if state.inode(id).pending.is_empty() {
                state.reload(id);
            }
            Ok(())
        })
    }
}
