//! What must hold when everything is sealed: nothing readable on the disk, nothing moved or changed that opens, and no
//! key that meets a number twice, whatever crashes and is rolled back (every seal of this test binary is noted).

use std::path::{Path, PathBuf};
use std::sync::Arc;

use engine::{Action, Command, Entry, Envelope, OrganisationId, Secret, TenderId};

use crate::faulty::{Crash, FaultyDisk};
use crate::file_seal::used;
use crate::format::{RECORD_HEADER, RecordHeader, SEGMENT_HEADER, SegmentHeader, record_len, seal_record, u64_at};
use crate::{Batch, Disk, Last, Log, OpenError, Options, Recovered, Seal, Section, Vote};

const MARKER: &str = "marker-1c7e-of-a-command";
const ROUNDS: u64 = 30;
/// Written with the first entries and never again, and read whichever segments have gone.
const VOTE: Vote = Vote { term: 7, vote: 4, commit: 0 };

fn open(disk: &FaultyDisk, seal: Seal) -> Result<(Log, Recovered), OpenError> {
    let options = Options { segment_bytes: 64 << 10, shards: 2, seal, node: 3, ..Options::new("/data", "/keys") };
    Log::open(Arc::new(disk.clone()), options)
}

fn entry(index: u64) -> Entry {
    let organisation = OrganisationId(9);
    let (email, name) = (MARKER.to_owned(), MARKER.to_owned());
    let reason = Some(format!("{MARKER} {}", "x".repeat(6_000)));
    let command = Command {
        envelope: Envelope { organisation, salt: [index as u8; 16], ..Envelope::default() },
        action: Action::Cancel { tender: TenderId::new(1 << 64), reason },
        secret: Some(Secret::Person { organisation, email, name, password: MARKER.to_owned() }),
    };
    Entry { index, commands: vec![command] }
}

fn append(log: &mut Log, recovered: &Recovered) -> Result<(), String> {
    let mut batch = Batch::new();
    for shard in [0, 1] {
        let next = entry(log.last()[usize::from(shard)].index + 1);
        batch.push_entry(shard, 1, &next, &recovered.sealer).map_err(|error| error.to_string())?;
    }
    log.append(&mut batch).map_err(|error| error.to_string())
}

/// Appends, snapshots, truncates and rotates; answers how many rounds were answered.
fn work(log: &mut Log, recovered: &Recovered, rounds: u64, answered: &mut u64) -> Result<(), String> {
    if log.last()[1].index == 0 {
        let mut batch = Batch::new();
        batch.push_vote(1, VOTE).map_err(|error| error.to_string())?;
        log.append(&mut batch).map_err(|error| error.to_string())?;
    }
    for round in 1..=rounds {
        append(log, recovered)?;
        *answered = log.last()[1].index;
        if round % 12 == 0 {
            recovered.sealer.keys().rotate().map_err(|error| error.to_string())?;
        }
        if round % 8 == 0 {
            let places: Vec<Last> = log.last().to_vec();
            let snapshot = || {
                let mut writer = recovered.snapshots.begin(&places)?;
                writer.frame(1, Section::Engine, None, MARKER.as_bytes())?;
                writer.frame(0, Section::Accounts, Some(OrganisationId(9)), MARKER.as_bytes())?;
                writer.finish()
            };
            let covered = snapshot().map_err(|error| error.to_string())?;
            log.truncate(&covered).map_err(|error| error.to_string())?;
        }
    }
    Ok(())
}

fn run(disk: &FaultyDisk) -> (u64, Result<(), String>) {
    let mut answered = 0;
    let worked = open(disk, Seal::All)
        .map_err(|error| error.to_string())
        .and_then(|(mut log, recovered)| work(&mut log, &recovered, ROUNDS, &mut answered));
    (answered, worked)
}

/// Opens, compares every entry, and goes on.
fn check(disk: &FaultyDisk, answered: u64, context: &str) -> u64 {
    let (mut log, recovered) = open(disk, Seal::All).unwrap_or_else(|error| panic!("{context}: {error}"));
    let stands = recovered.last[1].index;
    assert!(stands >= answered, "{context}: {stands} of {answered}");
    assert!(answered == 0 || recovered.votes == [None, Some(VOTE)], "{context}: {:?}", recovered.votes);
    for found in recovered.entries() {
        let found = found.unwrap_or_else(|error| panic!("{context}: {error}"));
        assert_eq!(found.entry, entry(found.entry.index), "{context}");
    }
    work(&mut log, &recovered, 3, &mut 0).unwrap_or_else(|error| panic!("{context}: {error}"));
    stands
}

fn segments(disk: &FaultyDisk) -> Vec<PathBuf> {
    disk.files().into_iter().filter(|path| path.extension().is_some_and(|kind| kind == "seg")).collect()
}

fn header(disk: &FaultyDisk, path: &Path) -> SegmentHeader {
    SegmentHeader::decode(&disk.content(path).expect("there")).expect("a header")
}

#[test]
fn no_key_meets_a_number_twice_over_crashes_and_roll_backs() {
    let mut crashes = 0;
    for operation in (1..).step_by(5) {
        let disk = FaultyDisk::new();
        disk.plan(|faults| faults.crash_at = Some(operation));
        let (answered, worked) = run(&disk);
        if !disk.faults().crashed {
            worked.expect("nothing fails");
            break;
        }
        for crash in [Crash::Lost, Crash::Kept, Crash::Torn(operation), Crash::Process] {
            // Each goes on from the same image: what one wrote is rolled back for the next.
            let disk = disk.fork();
            disk.restart(crash);
            let context = format!("crash at operation {operation}, {crash:?}");
            let stands = check(&disk, answered, &context);
            check(&disk, stands, &context);
            crashes += 1;
        }
    }
    println!("{crashes} crashes and roll-backs, {} messages under keys of their own", used::pairs());
    assert!(crashes > 100 && used::pairs() > 2_000);
}

#[test]
fn nothing_of_any_command_can_be_read_on_the_disk() {
    let disk = FaultyDisk::new();
    run(&disk).1.expect("worked");
    let holds = |bytes: &[u8]| bytes.windows(MARKER.len()).any(|window| window == MARKER.as_bytes());
    let files = disk.files();
    let kind = |kind: &str| files.iter().filter(|path| path.extension().is_some_and(|has| has == kind)).count();
    assert!(kind("seg") > 2 && kind("snap") == 2 && kind("key") > 3, "{files:?}");
    for path in &files {
        assert!(!holds(&disk.content(path).expect("there")), "{}", path.display());
    }
    // The same with secrets alone sealed shows the open part: the search finds what is there.
    let plain = FaultyDisk::new();
    let (mut log, recovered) = open(&plain, Seal::Secrets).expect("opened");
    append(&mut log, &recovered).expect("appended");
    assert!(holds(&plain.content(&segments(&plain)[0]).expect("there")));
}

/// Two segments of one entry a shard each, sealed by two processes.
fn two_segments() -> FaultyDisk {
    let disk = FaultyDisk::new();
    for _ in 0..2 {
        let (mut log, recovered) = open(&disk, Seal::All).expect("opened");
        append(&mut log, &recovered).expect("appended");
    }
    disk
}

#[test]
fn a_segment_is_written_to_by_the_process_that_made_it_alone() {
    let disk = two_segments();
    let used: Vec<SegmentHeader> = segments(&disk)[..2].iter().map(|path| header(&disk, path)).collect();
    let seals: Vec<_> = used.iter().map(|header| header.seal.expect("sealed")).collect();
    assert!(seals[0].salt != seals[1].salt && seals[0].incarnation != seals[1].incarnation);
    let before = disk.content(&segments(&disk)[1]).expect("there");
    // Nor is it written to once the option is off; old and new are read together.
    let (mut log, recovered) = open(&disk, Seal::Secrets).expect("opened");
    append(&mut log, &recovered).expect("appended");
    append(&mut log, &recovered).expect("appended");
    assert_eq!(disk.content(&segments(&disk)[1]).expect("there"), before);
    assert_eq!(header(&disk, &segments(&disk)[2]).seal, None);
    drop(log);
    let (mut log, recovered) = open(&disk, Seal::All).expect("opened");
    append(&mut log, &recovered).expect("appended");
    let (_log, recovered) = {
        drop(log);
        open(&disk, Seal::All).expect("opened")
    };
    let entries: Vec<u64> = recovered.entries().map(|found| found.expect("read").entry.index).collect();
    assert_eq!(entries, [1, 1, 2, 2, 3, 3, 4, 4, 5, 5]);
}

/// Records of a segment: offset and length.
fn records(bytes: &[u8]) -> Vec<(usize, usize)> {
    let mut found = Vec::new();
    let mut offset = SEGMENT_HEADER;
    loop {
        let length = RecordHeader::decode(&bytes[offset..]).length as usize;
        if length == 0 {
            return found;
        }
        found.push((offset, record_len(length)));
        offset += record_len(length);
    }
}

/// Gives a record the checksum that it has at a place: what somebody does who knows the format and not the key.
fn forge(record: &mut [u8], header: &SegmentHeader, offset: usize) {
    let synced = RecordHeader::decode(record).synced;
    seal_record(record, header.generation, offset as u32, synced);
}

#[test]
fn what_was_changed_or_moved_does_not_open_though_its_checksum_holds() {
    let disk = two_segments();
    let paths = segments(&disk);
    let (first, second) = (header(&disk, &paths[0]), header(&disk, &paths[1]));
    let bytes = disk.content(&paths[0]).expect("there");
    let found = records(&bytes);
    assert_eq!(found.len(), 3, "the opening record and an entry of each shard");
    let refused = |path: &Path, forged: Vec<u8>, what: &str| {
        let fork = disk.fork();
        fork.damage(path, |bytes| bytes.clone_from(&forged));
        let error = open(&fork, Seal::All).err().unwrap_or_else(|| panic!("{what} was taken")).to_string();
        assert!(error.contains("changed or moved") && error.contains(".seg, offset"), "{what}: {error}");
    };
    // Any bit of any record: of its term, its schema, its ciphertext, its tag; and of the opening record.
    for &(offset, len) in &found {
        let fields = (16 * 8..24 * 8).step_by(7).chain(31 * 8..32 * 8);
        let payload = RECORD_HEADER + RecordHeader::decode(&bytes[offset..]).length as usize;
        for bit in fields.chain((RECORD_HEADER * 8..payload * 8).step_by(997)).chain([payload * 8 - 1]) {
            let mut forged = bytes.clone();
            forged[offset + bit / 8] ^= 1 << (bit % 8);
            forge(&mut forged[offset..offset + len], &first, offset);
            let fork = disk.fork();
            fork.damage(&paths[0], |bytes| bytes.clone_from(&forged));
            assert!(open(&fork, Seal::All).is_err(), "bit {bit} of the record at {offset}");
        }
    }
    // A record in another's place: the two entries of the segment have equal lengths.
    let (one, two) = (found[1], found[2]);
    assert_eq!(one.1, two.1);
    let mut forged = bytes.clone();
    forged.copy_within(two.0..two.0 + two.1, one.0);
    let shard = forged[one.0 + 28];
    forged[one.0 + 28] = bytes[one.0 + 28];
    assert_ne!(shard, forged[one.0 + 28]);
    forge(&mut forged[one.0..one.0 + one.1], &first, one.0);
    refused(&paths[0], forged, "a record of another place");
    // The same place of another segment, whose entry has the next index.
    let mut forged = disk.content(&paths[1]).expect("there");
    let index = u64_at(&forged, one.0 + 8);
    forged[one.0..one.0 + one.1].copy_from_slice(&bytes[one.0..one.0 + one.1]);
    forged[one.0 + 8..one.0 + 16].copy_from_slice(&index.to_le_bytes());
    forge(&mut forged[one.0..one.0 + one.1], &second, one.0);
    refused(&paths[1], forged, "a record of another segment");
    // Another node's seal: the key is another.
    let other =
        SegmentHeader { seal: first.seal.map(|seal| crate::file_seal::SealHeader { node: 4, ..seal }), ..first };
    let fork = disk.fork();
    fork.damage(&paths[0], |bytes| bytes[..SEGMENT_HEADER].copy_from_slice(&other.encode()[..]));
    let error = open(&fork, Seal::All).err().expect("refused").to_string();
    assert!(error.contains("0000000000000001.seg: sealed under data key 0000000000000001"), "{error}");
    // And rot is told as rot.
    let fork = disk.fork();
    fork.damage(&paths[0], |bytes| bytes[one.0 + 40] ^= 1);
    let error = open(&fork, Seal::All).err().expect("refused").to_string();
    assert!(error.contains("checksum does not hold"), "{error}");
}

#[test]
fn every_flipped_bit_of_a_sealed_snapshot_makes_the_older_one_count() {
    let disk = FaultyDisk::new();
    run(&disk).1.expect("worked");
    let is_snapshot = |path: &PathBuf| path.extension().is_some_and(|kind| kind == "snap");
    let newest = disk.files().into_iter().rfind(is_snapshot).expect("two are there");
    let (_, whole) = open(&disk, Seal::All).expect("opened");
    let number = whole.snapshot.expect("the newest").number();
    for bit in (0..disk.content(&newest).expect("there").len() * 8).step_by(5) {
        let fork = disk.fork();
        fork.damage(&newest, |bytes| bytes[bit / 8] ^= 1 << (bit % 8));
        let (_, recovered) = open(&fork, Seal::All).unwrap_or_else(|error| panic!("bit {bit}: {error}"));
        assert!(recovered.snapshot.expect("the older one").number() < number, "bit {bit}");
    }
}

#[test]
fn a_rotation_in_the_middle_of_a_segment_begins_the_next_and_lost_keys_are_told() {
    let disk = FaultyDisk::new();
    let (mut log, recovered) = open(&disk, Seal::All).expect("opened");
    append(&mut log, &recovered).expect("appended");
    assert_eq!(recovered.sealer.keys().rotate().expect("rotated"), 2);
    for _ in 0..3 {
        append(&mut log, &recovered).expect("appended");
    }
    drop(log);
    let keys: Vec<u64> =
        segments(&disk).iter().map(|path| header(&disk, path).seal.expect("sealed").data_key).collect();
    assert_eq!(keys, [1, 2, 2], "the second was begun at once, the third waits");
    let (_, recovered) = open(&disk, Seal::All).expect("old and new are readable");
    assert_eq!(recovered.entries().filter(Result::is_ok).count(), 8);
    for (number, ending, words) in [(1, "", "is missing"), (2, "", "is missing"), (1, "revoked", "was revoked")] {
        let fork = disk.fork();
        let key = PathBuf::from(format!("/keys/data/{number:016x}.key"));
        match ending {
            "" => fork.remove(&key).expect("removed"),
            ending => fork.rename(&key, &key.with_extension(ending)).expect("renamed"),
        }
        let error = open(&fork, Seal::All).err().expect("refused").to_string();
        let parts = [".seg: sealed under data key", &format!("{number:016x}"), words, "restore"];
        assert!(parts.iter().all(|part| error.contains(part)), "{error}");
    }
}
