//! The keys folder: what a failing disk does to a key that is being made, and what is left of one that was destroyed.

mod common;

use std::path::Path;
use std::sync::Arc;

use common::{MARKER, append, entry, open, random, registration};
use engine::{LogTime, OrganisationId, Secret};
use persistence::checkpoint::{AuditSigner, Handover, hex, is_signed, kid_of};
use persistence::faulty::{Crash, FaultyDisk};
use persistence::{Disk, KeyError, Keys};

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

fn signer(disk: &FaultyDisk) -> Result<AuditSigner, KeyError> {
    let shared: Arc<dyn Disk> = Arc::new(disk.clone());
    AuditSigner::open(&Arc::new(Keys::open(shared, Path::new("/keys"), random(), true)?))
}

fn rotate(disk: &FaultyDisk, at: i64) -> Result<[u8; 32], KeyError> {
    let shared: Arc<dyn Disk> = Arc::new(disk.clone());
    Keys::open(shared, Path::new("/keys"), random(), true)?.rotate_audit_key(LogTime(at))
}

/// Each key signs the next, and goes; what it signed is known by its id.
#[test]
fn a_key_that_signs_roots_hands_over_to_the_next() {
    let disk = FaultyDisk::new();
    let first = signer(&disk).expect("made");
    assert!(first.handovers().is_empty() && first.publics() == [*first.public()]);
    let old = first.checkpoint("epoch", 1, 7, [3; 32], LogTime(5));
    assert!(first.renewed().expect("read").is_none());
    let private = disk.content(Path::new("/keys/audit.p8")).expect("there");
    let (two, three) = (rotate(&disk, 10).expect("made"), rotate(&disk, 20).expect("made"));
    let newest = first.renewed().expect("read").expect("a newer one");
    assert_eq!((newest.publics(), *newest.public()), (vec![*first.public(), two, three], three));
    for (handover, at) in newest.handovers().iter().zip([10, 20]) {
        let text = format!("reversetender audit key 1\n{}\n{}\n{at}\n", hex(&handover.from), hex(&handover.to));
        assert_eq!(handover.text(), text);
        assert!(handover.is_signed() && is_signed(&handover.from, text.as_bytes(), &handover.signature));
        assert!(!Handover { at: LogTime(11), ..*handover }.is_signed());
    }
    assert_eq!(newest.kid_of_signer(&old, "epoch"), kid_of(first.public()));
    let new = newest.checkpoint("epoch", 1, 8, [4; 32], LogTime(6));
    assert_eq!(newest.kid_of_signer(&new, "epoch"), kid_of(&three));
    for path in disk.files() {
        let bytes = disk.content(&path).expect("there");
        let seed = &private[16..48];
        assert!(!bytes.windows(32).any(|window| window == seed), "the old key is not in {}", path.display());
    }
    // An old key back in its place is not taken for the newest, and a changed handover for none.
    disk.damage(Path::new("/keys/audit.p8"), |bytes| bytes.clone_from(&private));
    let error = signer(&disk).expect_err("another key").to_string();
    assert!(error.contains("/keys/audit.p8") && error.contains("audit.chain"), "{error}");
    let chain = disk.content(Path::new("/keys/audit.chain")).expect("there");
    for place in 0..chain.len() {
        disk.damage(Path::new("/keys/audit.chain"), |bytes| {
            bytes.clone_from(&chain);
            bytes[place] ^= 1;
        });
        let error = signer(&disk).expect_err("damaged").to_string();
        assert!(error.contains("/keys/audit.chain"), "{error}");
    }
}

/// The power goes at each step of a rotation: afterwards there is one key, old or new, that everything leads to, and the
/// rotation can be done again.
#[test]
fn a_rotation_that_is_cut_short_leaves_one_key() {
    let mut ends = [0, 0];
    for step in 1.. {
        for crash in [Crash::Lost, Crash::Kept, Crash::Random(step)] {
            let disk = FaultyDisk::new();
            let first = *signer(&disk).expect("made").public();
            let before = disk.faults().operations;
            disk.plan(|faults| faults.crash_at = Some(before + step));
            let done = rotate(&disk, 10);
            if done.is_ok() {
                assert!(step > 8, "a rotation takes more steps than {step}");
                assert!(ends[0] > 5 && ends[1] > 1, "both ends were met: {ends:?}");
                return;
            }
            disk.restart(crash);
            let found = signer(&disk).expect("one key");
            let is_old = *found.public() == first;
            assert_eq!(found.handovers().len(), usize::from(!is_old));
            assert_eq!(found.publics()[0], first);
            ends[usize::from(!is_old)] += 1;
            let next = rotate(&disk, 20).expect("again");
            let again = signer(&disk).expect("one key");
            assert_eq!((*again.public(), again.publics()[0]), (next, first));
        }
    }
}

/// The power goes at each step of destroying a key: afterwards it is whole or destroyed, never missing; destroyed again,
/// it is, and the file is gone.
#[test]
fn a_destruction_that_is_cut_short_leaves_a_key_or_none() {
    let sent = entry(1, vec![registration(1, MARKER)]);
    let organisation = OrganisationId(1 << 64 | 5);
    let path = Path::new("/keys/org/00000000-0000-0001-0000-000000000005.key");
    let mut ends = [0, 0];
    for step in 1.. {
        for crash in [Crash::Lost, Crash::Kept, Crash::Process, Crash::Random(step), Crash::Torn(step)] {
            let disk = FaultyDisk::new();
            let (mut log, recovered) = open(&disk).expect("opened");
            append(&mut log, &recovered.sealer, &[(0, sent.clone())]).expect("appended");
            let key = disk.content(path).expect("there");
            let before = disk.faults().operations;
            disk.plan(|faults| faults.crash_at = Some(before + step));
            let done = recovered.sealer.keys().destroy(organisation).is_ok();
            drop((log, recovered));
            if done {
                assert!(step > 8 && ends[0] > 5 && ends[1] > 5, "both ends were met in {step} steps: {ends:?}");
                return;
            }
            disk.restart(crash);
            let (_log, again) = open(&disk).expect("opened");
            let found = again.entries().next().expect("one").expect("readable, whatever was done").entry;
            let is_erased = found != sent;
            ends[usize::from(is_erased)] += 1;
            if is_erased {
                let Some(Secret::Person { email, name, password, .. }) = &found.commands[0].secret else {
                    panic!("{found:?}")
                };
                assert!(email.is_empty() && name.is_empty() && password.is_empty());
            }
            again.sealer.keys().destroy(organisation).expect("done again");
            for file in disk.files() {
                let bytes = disk.content(&file).expect("there");
                let wrapped = &key[32..80];
                assert!(!bytes.windows(48).any(|window| window == wrapped), "the key is in {}", file.display());
            }
            assert!(disk.content(path).is_none());
            assert_ne!(again.entries().next().expect("one").expect("readable").entry, sent);
        }
    }
}

/// A key file is what was written or is refused by name: its public key beside it tells a changed private key.
#[test]
fn every_changed_bit_of_a_signing_key_is_told_or_harmless() {
    let disk = FaultyDisk::new();
    let keys = || Keys::open(Arc::new(disk.clone()) as Arc<dyn Disk>, Path::new("/keys"), random(), true);
    let token = keys().expect("opened").token_key().expect("made");
    let public = *signer(&disk).expect("made").public();
    rotate(&disk, 10).expect("made");
    let rotated = *signer(&disk).expect("read").public();
    assert_ne!(public, rotated);
    for name in ["token.p8", "audit.p8"] {
        let path = Path::new("/keys").join(name);
        let whole = disk.content(&path).expect("there");
        let (mut refused, seed) = (0, 16..48);
        for bit in 0..whole.len() * 8 {
            disk.damage(&path, |bytes| {
                bytes.clone_from(&whole);
                bytes[bit / 8] ^= 1 << (bit % 8);
            });
            let found = if name == "token.p8" {
                keys().expect("opened").token_key().map(|found| found[seed.clone()] == token[seed.clone()])
            } else {
                signer(&disk).map(|found| *found.public() == rotated)
            };
            match found {
                Ok(same) => assert!(same && !seed.contains(&(bit / 8)), "{name}: bit {bit} is another key"),
                Err(error) => {
                    assert!(error.to_string().contains(&path.display().to_string()), "{error}");
                    refused += 1;
                }
            }
        }
        assert!(refused >= 64 * 8, "{name}: both keys, and most of what is around them: {refused}");
        disk.damage(&path, |bytes| bytes.clone_from(&whole));
    }
}

/// Key files of earlier programs hold the private key alone.
#[test]
fn signing_keys_of_earlier_programs_are_read() {
    let sample = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/samples/audit-v1/keys__audit.p8.bin");
    let old = std::fs::read(sample).expect("in the repository");
    assert_eq!(old.len(), 48, "PKCS#8 version 1");
    let disk = FaultyDisk::new();
    signer(&disk).expect("made");
    for name in ["token.p8", "audit.p8"] {
        let file = disk.create(&Path::new("/keys").join(name)).expect("made");
        file.write_at(0, &[&old]).expect("written");
    }
    let first = *signer(&disk).expect("read").public();
    let keys = Keys::open(Arc::new(disk.clone()) as Arc<dyn Disk>, Path::new("/keys"), random(), true);
    assert_eq!(keys.expect("opened").token_key().expect("read")[..], old);
    assert_eq!(disk.content(Path::new("/keys/audit.p8")).expect("there"), old, "left as it is");
    // The next one holds its public key.
    let second = rotate(&disk, 10).expect("made");
    let found = signer(&disk).expect("read");
    assert_eq!((*found.public(), found.publics()[0]), (second, first));
    let new = disk.content(Path::new("/keys/audit.p8")).expect("there");
    assert!(new.len() > 64 && new.windows(32).any(|window| window == second));
}
