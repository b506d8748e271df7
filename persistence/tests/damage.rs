//! Damage: every flipped bit of a small folder is told or lies where nothing is; sealed parts that were moved, changed
//! or whose key is gone.

mod common;

use std::path::{Path, PathBuf};
use std::sync::Arc;

use common::*;
use engine::{Entry, OrganisationId, Secret};
use persistence::faulty::{Crash, FaultyDisk};
use persistence::inspect::{Soundness, inspect, verify};
use persistence::{
    Batch, Chains, Disk, KeyError, Last, OpenError, Part, Section, decode, leaf_hash, leaf_hash_with,
    secret_digest,
};

const HEADER: usize = 4096;

/// A folder of one segment with six flushes of one or two entries each.
fn small() -> (FaultyDisk, Vec<Vec<(u16, Entry)>>) {
    let disk = FaultyDisk::new();
    let (mut log, recovered) = open(&disk).expect("opened");
    let mut flushes = Vec::new();
    for round in 1..=6 {
        let mut flush = vec![(1, entry(round, vec![bid(round, 0)]))];
        if round % 2 == 0 {
            flush.push((2, entry(round / 2, vec![bid(round, 30)])));
        }
        append(&mut log, &recovered.sealer, &flush).expect("appended");
        flushes.push(flush);
    }
    (disk, flushes)
}

fn first_segment(disk: &FaultyDisk) -> PathBuf {
    segments(disk)[0].clone()
}

/// Where the records of a file of zeros end.
fn end_of(bytes: &[u8]) -> usize {
    bytes.iter().rposition(|byte| *byte != 0).map_or(0, |last| last + 1).next_multiple_of(8)
}

#[test]
fn every_flipped_bit_of_a_small_log_is_told() {
    let (disk, flushes) = small();
    let path = first_segment(&disk);
    let written: Vec<_> = flushes.iter().flatten().cloned().collect();
    let last_flush = flushes.last().expect("six").len();
    let end = end_of(&disk.content(&path).expect("there"));
    let bits = (0..HEADER * 8)
        .filter(|bit| bit / 8 < 80 || bit % 97 == 0)
        .chain(HEADER * 8..(end + 32) * 8)
        .chain(((end + 32) * 8..(64 << 10) * 8).step_by(1009));
    let (mut refused, mut cut, mut unused) = (0, 0, 0);
    let (mut lines, mut verified) = (Vec::new(), 0);
    for bit in bits {
        let flip = |bytes: &mut Vec<u8>| bytes[bit / 8] ^= 1 << (bit % 8);
        disk.damage(&path, flip);
        let fork = disk.fork();
        if bit % 13 == 0 {
            lines.clear();
            let soundness = verify(&fork, Path::new("/data"), &mut lines).expect("written");
            assert_eq!(soundness == Soundness::Sound, open(&fork.fork()).is_ok_and(|(_, r)| r.cuts.is_empty()));
            verified += 1;
        }
        match open(&fork) {
            Err(error) => {
                let text = error.to_string();
                assert!(text.contains(&path.display().to_string()), "{text}");
                assert!(bit / 8 < end, "bit {bit}: {text}");
                refused += 1;
            }
            Ok((_, recovered)) => {
                let found = replay(&recovered);
                assert_eq!(found, written[..found.len()], "bit {bit}: a wrong record");
                if found.len() < written.len() {
                    assert!(!recovered.cuts.is_empty(), "bit {bit}: lost without a word");
                    assert!(found.len() >= written.len() - last_flush, "bit {bit}: more than the last flush");
                    cut += 1;
                } else {
                    assert!(bit / 8 >= end, "bit {bit}: not seen");
                    unused += 1;
                }
            }
        }
        disk.damage(&path, flip);
    }
    assert!(refused > 5_000 && cut > 500 && unused > 100 && verified > 100, "{refused} {cut} {unused} {verified}");
}

#[test]
fn a_damaged_record_before_good_ones_names_file_offset_and_what_to_do() {
    let (disk, _) = small();
    let path = first_segment(&disk);
    let offset = HEADER + 200;
    disk.damage(&path, |bytes| bytes[offset] ^= 0x10);
    let error = open(&disk).err().expect("refused");
    let OpenError::Corrupt(corruption) = &error else { panic!("{error}") };
    assert!(corruption.file == path && corruption.offset <= offset as u64, "{error}");
    let text = error.to_string();
    for part in ["checksum", "expected", "found", "offset", "Restore", "log verify", "0000000000000001.seg"] {
        assert!(text.contains(part), "{part}: {text}");
    }
    let mut lines = Vec::new();
    assert_eq!(verify(&disk, Path::new("/data"), &mut lines).expect("written"), Soundness::Corrupt);
    assert!(String::from_utf8(lines).expect("text").contains("\"offset\""));
}

#[test]
fn a_lost_a_foreign_a_swapped_and_a_shortened_segment_are_refused() {
    let disk = FaultyDisk::new();
    let (mut log, recovered) = open(&disk).expect("opened");
    for round in 1..=60 {
        append(&mut log, &recovered.sealer, &[(1, entry(round, vec![bid(round, 4_000)]))]).expect("appended");
    }
    drop(log);
    disk.restart(Crash::Kept);
    let files = segments(&disk);
    assert!(files.len() > 3);
    let refusal = |change: &dyn Fn(&FaultyDisk)| {
        let fork = disk.fork();
        change(&fork);
        open(&fork).err().expect("refused").to_string()
    };
    let lost = refusal(&|disk| disk.remove(&files[1]).expect("removed"));
    assert!(lost.contains("a segment is missing"), "{lost}");
    let first = refusal(&|disk| disk.remove(&files[0]).expect("removed"));
    assert!(first.contains("missing"), "{first}");
    let swapped = refusal(&|disk| disk.rename(&files[0], &files[1]).expect("renamed"));
    assert!(swapped.contains("the name of another"), "{swapped}");
    let short = refusal(&|disk| disk.damage(&files[1], |bytes| bytes.truncate(20_000)));
    assert!(short.contains("another length"), "{short}");
    let other = FaultyDisk::new();
    drop(open(&other).expect("opened"));
    let theirs = other.content(&segments(&other)[0]).expect("there");
    let foreign = refusal(&|disk| disk.damage(&files[0], |bytes| bytes.clone_from(&theirs)));
    assert!(foreign.contains("belongs to another log (cluster)"), "{foreign}");
    let newer = refusal(&|disk| disk.damage(&files[0], |bytes| bytes[8] = 9));
    assert!(newer.contains("version 9"), "{newer}");
    let meta = refusal(&|disk| disk.remove(&data("meta")).expect("removed"));
    assert!(meta.contains("/data/meta"), "{meta}");
}

#[test]
fn inspect_shows_every_record_and_no_secret() {
    let disk = FaultyDisk::new();
    let (mut log, recovered) = open(&disk).expect("opened");
    append(&mut log, &recovered.sealer, &[(0, entry(1, vec![registration(1, MARKER)]))]).expect("appended");
    append(&mut log, &recovered.sealer, &[(1, entry(1, vec![bid(1, 0), bid(2, 9)]))]).expect("appended");
    let mut lines = Vec::new();
    assert_eq!(inspect(&disk, Path::new("/data"), &mut lines).expect("written"), Soundness::Sound);
    let text = String::from_utf8(lines).expect("text");
    assert!(!text.contains(MARKER), "{text}");
    let values: Vec<serde_json::Value> =
        text.lines().map(|line| serde_json::from_str(line).expect("a line of JSON")).collect();
    let kinds: Vec<_> = values.iter().filter_map(|value| value["kind"].as_str()).collect();
    assert_eq!(kinds, ["open", "entry", "entry"]);
    assert_eq!(values[1]["commands"][0]["action"], "Register");
    assert_eq!(values[1]["commands"][0]["sealed"], true);
    assert_eq!(values[2]["commands"].as_array().map(Vec::len), Some(2));
    assert_eq!(values[3]["result"], "sound");
    let mut lines = Vec::new();
    assert_eq!(verify(&disk, Path::new("/none"), &mut lines).expect("written"), Soundness::Unreadable);
}

fn snapshot_folder() -> (FaultyDisk, Vec<(u16, Entry)>) {
    let disk = FaultyDisk::new();
    let (mut log, recovered) = open(&disk).expect("opened");
    let mut written = Vec::new();
    for round in 1..=6 {
        let next = [(1, entry(round, vec![bid(round, 0)]))];
        append(&mut log, &recovered.sealer, &next).expect("appended");
        written.extend(next);
        if round % 2 == 0 {
            let places: Vec<Last> = log.last().to_vec();
            let mut writer = recovered.snapshots.begin(&places).expect("begun");
            writer.frame(1, Section::Engine, None, &round.to_le_bytes()).expect("written");
            writer.frame(0, Section::Accounts, Some(OrganisationId(9)), MARKER.as_bytes()).expect("written");
            let covered = writer.finish().expect("finished");
            assert_eq!(covered[1], round.saturating_sub(2));
            log.truncate(&covered).expect("truncated");
        }
    }
    (disk, written)
}

#[test]
fn every_flipped_bit_of_a_snapshot_makes_the_older_one_count() {
    let (disk, written) = snapshot_folder();
    let path = snapshots(&disk)[1].clone();
    let len = disk.content(&path).expect("there").len();
    for bit in 0..len * 8 {
        let fork = disk.fork();
        fork.damage(&path, |bytes| bytes[bit / 8] ^= 1 << (bit % 8));
        let (_log, recovered) = open(&fork).unwrap_or_else(|error| panic!("bit {bit}: {error}"));
        let snapshot = recovered.snapshot.as_ref().expect("the older one");
        assert_eq!(snapshot.indices(), [0, 4, 0], "bit {bit}");
        let tail: Vec<_> = recovered.entries().map(|found| found.expect("read").entry).collect();
        assert_eq!(tail, [written[4].1.clone(), written[5].1.clone()]);
    }
    let (_log, recovered) = open(&disk).expect("opened");
    let newest = recovered.snapshot.as_ref().expect("the newest");
    assert_eq!((newest.indices(), recovered.entries().count()), (vec![0, 6, 0], 0));
    let parts: Vec<Part> = newest.frames().map(|frame| frame.expect("sound").part).collect();
    assert_eq!(parts, [Part::Clear(6u64.to_le_bytes().to_vec()), Part::Clear(MARKER.as_bytes().to_vec())]);
}

#[test]
fn half_a_snapshot_counts_for_nothing_and_a_log_that_ends_before_one_is_refused() {
    let (disk, _) = snapshot_folder();
    for cut in [0, 10, 63, 100, 200] {
        let fork = disk.fork();
        fork.damage(&snapshots(&disk)[1], |bytes| bytes.truncate(cut));
        let (_log, recovered) = open(&fork).expect("opened");
        assert_eq!(recovered.snapshot.expect("the older").indices(), [0, 4, 0]);
    }
    let segment = first_segment(&disk);
    let end = end_of(&disk.content(&segment).expect("there"));
    disk.damage(&segment, |bytes| bytes[end - 100..end].fill(0));
    let error = open(&disk).err().expect("refused").to_string();
    assert!(error.contains("ends before a snapshot") && error.contains("index 6 of shard 1"), "{error}");
}

#[test]
fn every_flipped_bit_of_the_folders_description_and_keys_is_refused() {
    let disk = FaultyDisk::new();
    let (mut log, recovered) = open(&disk).expect("opened");
    append(&mut log, &recovered.sealer, &[(0, entry(1, vec![registration(1, MARKER)]))]).expect("appended");
    drop(log);
    let keys: Vec<PathBuf> = disk.files().into_iter().filter(|path| path.starts_with("/keys")).collect();
    assert_eq!(keys.len(), 2, "{keys:?}");
    for path in keys.into_iter().chain([data("meta")]) {
        let len = disk.content(&path).expect("there").len();
        for bit in 0..len * 8 {
            let fork = disk.fork();
            fork.damage(&path, |bytes| bytes[bit / 8] ^= 1 << (bit % 8));
            let refused = match open(&fork) {
                Err(_) => true,
                Ok((_, recovered)) => recovered.entries().any(|found| found.is_err()),
            };
            assert!(refused, "{} bit {bit}", path.display());
        }
    }
}

#[test]
fn a_sealed_part_opens_at_its_place_only_and_every_flipped_bit_is_refused() {
    let disk = FaultyDisk::new();
    let (_log, recovered) = open(&disk).expect("opened");
    let sealer = &recovered.sealer;
    let sent = entry(5, vec![bid(1, 0), registration(1, MARKER)]);
    let mut batch = Batch::new();
    batch.push_entry(0, 1, &sent, sealer).expect("encoded");
    let mut again = Batch::new();
    again.push_entry(0, 1, &sent, sealer).expect("encoded");
    let payload = |batch: &Batch| batch.payload(0).to_vec();
    assert_ne!(payload(&batch), payload(&again), "a nonce is never used twice");
    let bytes = payload(&batch);
    assert_eq!(decode(&bytes, 1, 0, 5, sealer).expect("opened").entry, sent);
    for (shard, index) in [(1, 5), (0, 6), (0, 4)] {
        let error = decode(&bytes, 1, shard, index, sealer).expect_err("moved");
        assert!(error.to_string().contains("moved or changed"), "{error}");
    }
    // From the sealed part on, every bit is bound: by the seal, by its key's number, or by the form.
    let start = bytes.len() - 128 - 16 - 8 - 32 - 12 - 8 - 16;
    for bit in start * 8..bytes.len() * 8 {
        let mut bytes = bytes.clone();
        bytes[bit / 8] ^= 1 << (bit % 8);
        assert!(decode(&bytes, 1, 0, 5, sealer).is_err(), "bit {bit}");
    }
    let error = decode(&bytes, 2, 0, 5, sealer).expect_err("a newer schema");
    assert!(error.to_string().contains("schema version 2 is not known"), "{error}");
}

#[test]
fn a_destroyed_key_erases_and_the_chain_still_holds() {
    let disk = FaultyDisk::new();
    let (mut log, recovered) = open(&disk).expect("opened");
    let sent = entry(1, vec![registration(1, MARKER), registration(2, "other@example.org")]);
    append(&mut log, &recovered.sealer, &[(0, sent.clone())]).expect("appended");
    let organisation = OrganisationId(1 << 64 | 5);
    let mut writer = recovered.snapshots.begin(&[Last::default(); SHARDS as usize]).expect("begun");
    writer.frame(0, Section::Accounts, Some(organisation), MARKER.as_bytes()).expect("written");
    writer.finish().expect("finished");
    let mut before = Chains::new();
    before.feed(&sent, &[]);

    recovered.sealer.keys().destroy(organisation).expect("destroyed");
    recovered.sealer.keys().destroy(organisation).expect("again is nothing");
    drop(log);
    disk.restart(Crash::Lost);
    let (_log, again) = open(&disk).expect("opened");
    let found = again.entries().next().expect("one").expect("read");
    let Some(Secret::Person { organisation: whose, email, name, password }) = &found.entry.commands[0].secret
    else {
        panic!("the placeholder")
    };
    assert_eq!((*whose, email.as_str(), name.as_str(), password.as_str()), (organisation, "", "", ""));
    assert_eq!(found.entry.commands[0].envelope.salt, [0; 16], "what blinded the digest went with the secret");
    assert_eq!(found.entry.commands[1], sent.commands[1]);
    let mut after = Chains::new();
    after.feed(&found.entry, &found.erased);
    assert_eq!(after.shard(), before.shard());
    let frames = again.snapshot.as_ref().expect("there").frames();
    let parts: Vec<Part> = frames.map(|frame| frame.expect("sound").part).collect();
    assert_eq!(parts, [Part::Erased(organisation)]);

    // A key that is gone without having been destroyed is an error, not an erasure.
    let path = Path::new("/keys/org/00000000-0000-0002-0000-000000000005.key");
    disk.remove(path).expect("removed");
    disk.restart(Crash::Kept);
    let (_log, again) = open(&disk).expect("opened");
    let error = again.entries().next().expect("one").expect_err("lost").to_string();
    assert!(error.contains(&path.display().to_string()) && error.contains("restore the keys folder"), "{error}");
}

#[test]
fn leaf_hashes_bind_every_part_and_hide_the_secret_behind_its_salt() {
    let command = registration(1, MARKER);
    let leaf = leaf_hash(&command);
    let digest = secret_digest(command.envelope.salt, command.secret.as_ref());
    assert_eq!(leaf, leaf_hash_with(&command, digest));
    let mut other = command.clone();
    other.envelope.at.0 += 1;
    assert_ne!(leaf_hash(&other), leaf);
    let mut other = command.clone();
    other.envelope.salt[0] ^= 1;
    assert_ne!(leaf_hash(&other), leaf);
    let other = registration(1, "other@example.org");
    assert_ne!(leaf_hash(&other), leaf);
    assert_ne!(leaf_hash(&bid(1, 0)), leaf_hash(&bid(2, 0)));
}

#[test]
fn derived_secrets_and_the_token_key_stay_the_same_and_differ_by_purpose() {
    let disk = FaultyDisk::new();
    let (log, recovered) = open(&disk).expect("opened");
    let keys = recovered.sealer.keys();
    let secret = keys.derive("demo", 1);
    assert!(secret != keys.derive("demo", 2) && secret != keys.derive("demos", 1));
    let token = keys.token_key().expect("made");
    drop(log);
    disk.restart(Crash::Lost);
    let (_log, again) = open(&disk).expect("opened");
    assert_eq!(again.sealer.keys().derive("demo", 1), secret);
    assert_eq!(*again.sealer.keys().token_key().expect("kept"), *token);
    let disk: Arc<dyn Disk> = Arc::new(disk);
    let wrong = persistence::Keys::open(disk, Path::new("/none"), random(), false);
    assert!(matches!(wrong, Err(KeyError::Missing { .. })));
}

/// What a torn flush leaves behind its cut must not be found again when the log has gone on.
#[test]
fn a_torn_flush_is_cut_said_once_and_erased() {
    let (disk, flushes) = small();
    let path = first_segment(&disk);
    assert_eq!(flushes.last().map(Vec::len), Some(2), "the last flush has a record behind the one that is torn");
    let written: usize = flushes.iter().map(Vec::len).sum();
    let end = end_of(&disk.content(&path).expect("there"));
    let mut lines = Vec::new();
    inspect(&disk, Path::new("/data"), &mut lines).expect("written");
    let records = String::from_utf8(lines).expect("text");
    let last = records.lines().rfind(|line| line.contains("\"synced\"")).expect("a record");
    let last: serde_json::Value = serde_json::from_str(last).expect("a line of JSON");
    let flush = last["synced"].as_u64().expect("where the last flush begins") as usize;
    disk.damage(&path, |bytes| bytes[flush + 40] ^= 0x55);
    let (log, recovered) = open(&disk).expect("a torn tail is no damage");
    let [cut] = &recovered.cuts[..] else { panic!("{:?}", recovered.cuts) };
    assert!(cut.file == path && cut.offset == flush as u64 && flush < end, "{cut:?}");
    assert_eq!(replay(&recovered).len(), written - 2);
    let bytes = disk.content(&path).expect("there");
    assert!(bytes[cut.offset as usize..].iter().all(|byte| *byte == 0));
    drop(log);
    let (_log, recovered) = open(&disk).expect("opened");
    assert!(recovered.cuts.is_empty(), "said once: {:?}", recovered.cuts);
}

#[test]
fn a_segment_whose_first_flush_was_torn_is_made_anew() {
    let disk = FaultyDisk::new();
    let (mut log, recovered) = open(&disk).expect("opened");
    let flush = [(1, entry(1, vec![bid(1, 0)])), (2, entry(1, vec![bid(2, 0)]))];
    append(&mut log, &recovered.sealer, &flush).expect("appended");
    drop(log);
    let path = first_segment(&disk);
    // The opening record is torn, and what follows it was kept.
    disk.damage(&path, |bytes| bytes[HEADER + 5] ^= 1);
    let (mut log, recovered) = open(&disk).expect("nothing of it was answered");
    assert_eq!((recovered.cuts.len(), replay(&recovered).len()), (1, 0));
    let bytes = disk.content(&path).expect("made anew");
    assert!(bytes[HEADER..].iter().all(|byte| *byte == 0));
    append(&mut log, &recovered.sealer, &flush[..1]).expect("appended");
    drop(log);
    let (_log, recovered) = open(&disk).expect("opened");
    assert_eq!((recovered.cuts.len(), replay(&recovered)), (0, flush[..1].to_vec()));
}
