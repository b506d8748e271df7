//! The keys folder: what a failing disk does to a key that is being made, and what is left of one that was destroyed.

mod common;

use std::path::Path;

use common::open;
use engine::OrganisationId;
use persistence::faulty::{Crash, FaultyDisk};

/// The disk fails at any step of making an organisation's key: nothing is sealed with a key that a power cut may take
/// away, the failure names the file, and a later try makes one that stays.
#[test]
fn a_key_that_could_not_be_made_for_certain_is_made_anew() {
    let organisation = OrganisationId(1 << 64 | 5);
    let path = Path::new("/keys/org/00000000-0000-0001-0000-000000000005.key");
    for sync in 1..=2 {
        let disk = FaultyDisk::new();
        let (_log, recovered) = open(&disk).expect("opened");
        let before = disk.faults().syncs;
        disk.plan(|faults| faults.fail_sync = Some(before + sync));
        let error = recovered.sealer.ready(organisation).expect_err("the sync failed");
        assert!(error.to_string().contains(&path.display().to_string()) && !error.is_full(), "{error}");
        recovered.sealer.ready(organisation).expect("made anew");
        let made = disk.content(path).expect("there");
        disk.restart(Crash::Lost);
        assert_eq!(disk.content(path).expect("durable"), made, "sync {sync}");
        let (_log, again) = open(&disk).expect("opened");
        again.sealer.ready(organisation).expect("read");
    }
    let disk = FaultyDisk::new();
    let (_log, recovered) = open(&disk).expect("opened");
    disk.plan(|faults| faults.capacity = Some(1));
    let error = recovered.sealer.ready(organisation).expect_err("no room");
    assert!(error.is_full(), "{error}");
    disk.plan(|faults| faults.capacity = None);
    recovered.sealer.ready(organisation).expect("there is room");
}
