//! The archive as a library: what a failed sync means for what is shipped. A whole node with its archive is tested in
//! `api`.

mod common;

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::{Arc, Mutex};

use common::*;
use persistence::archive::{Shipper, Store, StoreError};
use persistence::faulty::FaultyDisk;
use persistence::{Disk, Section};

/// A store of objects in memory.
#[derive(Debug, Default)]
struct Memory(Mutex<BTreeMap<String, Vec<u8>>>);

impl Memory {
    fn names(&self, folder: &str) -> Vec<String> {
        self.list(folder).expect("memory lists")
    }
}

impl Store for Memory {
    fn put_new(&self, name: &str, bytes: Vec<u8>) -> Result<(), StoreError> {
        let mut objects = self.0.lock().expect("no test panics with it");
        if objects.contains_key(name) {
            return Err(StoreError::Exists);
        }
        objects.insert(name.to_owned(), bytes);
        Ok(())
    }

    fn replace(&self, name: &str, bytes: Vec<u8>) -> Result<(), StoreError> {
        self.0.lock().expect("no test panics with it").insert(name.to_owned(), bytes);
        Ok(())
    }

    fn get(&self, name: &str) -> Result<Vec<u8>, StoreError> {
        self.0.lock().expect("no test panics with it").get(name).cloned().ok_or(StoreError::Missing)
    }

    fn list(&self, folder: &str) -> Result<Vec<String>, StoreError> {
        let objects = self.0.lock().expect("no test panics with it");
        Ok(objects.keys().filter(|name| name.starts_with(&format!("{folder}/"))).cloned().collect())
    }

    fn place(&self) -> String {
        "memory".to_owned()
    }
}

#[test]
fn a_failed_sync_of_signed_roots_is_not_tried_again() {
    let disk = FaultyDisk::new();
    let (mut log, recovered) = open(&disk).expect("a new folder");
    let reach = log.keep_for_archive();
    append(&mut log, &recovered.sealer, &[(1, entry(1, vec![bid(1, 0)]))]).expect("appended");
    let mut snapshot = recovered.snapshots.begin(log.last()).expect("begun");
    snapshot.frame(1, Section::Engine, None, b"a part").expect("written");
    snapshot.finish().expect("finished");
    let roots = Path::new("/data/audit/0001.roots");
    let file = disk.create(roots).expect("created");
    file.write_at(0, &[&[7; 64 + 120]]).expect("written");

    let store = Arc::new(Memory::default());
    let shipper = || {
        let disk: Arc<dyn Disk> = Arc::new(disk.clone());
        Shipper::new(disk, Path::new("/data"), recovered.snapshots.clone(), Arc::<Memory>::clone(&store) as _)
            .expect("the folder has a description")
    };
    let mut first = shipper();
    disk.plan(|faults| faults.fail_sync = Some(faults.syncs + 1));
    let error = first.ship(|| reach.durable(), 1).expect_err("the sync fails").to_string();
    assert!(error.contains("0001.roots") && error.contains("start again"), "{error}");

    // As Linux does, the disk says that the second sync went well, and the bytes are gone with the power.
    let syncs = disk.faults().syncs;
    let shipped = first.ship(|| reach.durable(), 2).expect("the log is shipped all the same");
    assert_eq!(shipped.position, 1, "the entry is in the archive");
    assert_eq!(disk.faults().syncs, syncs, "and no sync was tried again");
    assert_eq!(store.names("audit").len() + store.names("snap").len() + store.names("mark").len(), 0);

    shipper().ship(|| reach.durable(), 3).expect("the next start begins anew");
    assert!(store.names("audit").iter().any(|name| name.contains("0001.roots")), "{:?}", store.names("audit"));
}
