//! Payloads: byte for byte bincode's format, readable in every version ever written, whatever the commands are.

mod common;
#[path = "common/oracle.rs"]
mod oracle;
#[path = "common/pick.rs"]
mod pick;

use std::path::{Path, PathBuf};

use common::*;
use engine::{Action, Command, Decimal, Entry, OrganisationId, Secret};
use oracle::Oracle;
use persistence::faulty::FaultyDisk;
use persistence::inspect::{Soundness, verify};
use persistence::{Batch, Disk, Last, Options, Part, Seal, Section, decode};
use pick::{KINDS, Pick};
use proptest::prelude::*;

fn payload(entry: &Entry, shard: u16, sealer: &persistence::Sealer) -> Vec<u8> {
    let mut batch = Batch::new();
    batch.push_entry(shard, 1, entry, sealer).expect("encoded");
    batch.payload(0).to_vec()
}

/// One command of every kind, always the same.
fn every_kind() -> Vec<Command> {
    let mut pick = Pick(1);
    (0..KINDS).map(|kind| pick.command_of(kind)).collect()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

    #[test]
    fn public_commands_are_bincode(seed in any::<u64>(), count in 0usize..5) {
        let disk = FaultyDisk::new();
        let (_log, recovered) = open(&disk).expect("opened");
        let mut pick = Pick(seed);
        let commands: Vec<Command> =
            (0..count).map(|_| Command { secret: None, ..pick.command() }).collect();
        let bytes = payload(&entry(1, commands.clone()), 1, &recovered.sealer);
        prop_assert_eq!(&bytes, &Oracle::entry(&commands));
        prop_assert_eq!(decode(&bytes, 1, 1, 1, &recovered.sealer).expect("decoded").entry.commands, commands);
    }

    #[test]
    fn whatever_is_appended_comes_back(seed in any::<u64>(), rounds in 1u64..12) {
        let disk = FaultyDisk::new();
        let mut pick = Pick(seed);
        let mut written: Vec<(u16, Entry)> = Vec::new();
        for _ in 0..2 {
            let (mut log, recovered) = open(&disk).expect("opened");
            for _ in 0..rounds {
                let mut flush: Vec<(u16, Entry)> = Vec::new();
                for shard in 0..SHARDS {
                    if pick.below(3) > 0 {
                        let commands = (0..pick.below(4)).map(|_| pick.command()).collect();
                        flush.push((shard, entry(log.last()[usize::from(shard)].index + 1, commands)));
                    }
                }
                append(&mut log, &recovered.sealer, &flush).expect("appended");
                written.extend(flush);
            }
        }
        let (_log, recovered) = open(&disk).expect("opened");
        prop_assert_eq!(replay(&recovered), written);
        prop_assert!(recovered.cuts.is_empty());
    }

    #[test]
    fn no_bytes_make_decoding_panic(mut bytes in proptest::collection::vec(any::<u8>(), 0..300), cut in 0usize..400) {
        let disk = FaultyDisk::new();
        let (_log, recovered) = open(&disk).expect("opened");
        let sent = entry(1, vec![bid(1, 0), bid(2, 5)]);
        let good = payload(&sent, 1, &recovered.sealer);
        // A sound beginning, so that something is reached.
        let cut = cut.min(good.len());
        let mut mixed = good[..cut].to_vec();
        mixed.append(&mut bytes);
        if let Ok(decoded) = decode(&mixed, 1, 1, 1, &recovered.sealer) {
            prop_assert!(payload(&decoded.entry, 1, &recovered.sealer) == mixed);
        }
    }
}

#[test]
fn commands_of_every_kind_are_bincode() {
    let disk = FaultyDisk::new();
    let (_log, recovered) = open(&disk).expect("opened");
    let mut names = std::collections::BTreeSet::new();
    for command in every_kind() {
        let command = Command { secret: None, ..command };
        names.insert(format!("{:?}", command.action).split([' ', '{']).next().map(str::to_owned));
        let bytes = payload(&entry(1, vec![command.clone()]), 1, &recovered.sealer);
        assert_eq!(bytes, Oracle::entry(std::slice::from_ref(&command)), "{command:?}");
    }
    assert_eq!(names.len(), KINDS as usize, "{names:?}");
}

/// What came after the samples were stored: they hold every kind of command of the first release.
#[test]
fn an_erasure_is_bincode() {
    let disk = FaultyDisk::new();
    let (_log, recovered) = open(&disk).expect("opened");
    let erase = engine::AccountAction::Erase { organisation: OrganisationId(7), reason: "asked to".into() };
    let command = Command { action: Action::Account(erase), ..bid(1, 0) };
    let bytes = payload(&entry(1, vec![command.clone()]), 0, &recovered.sealer);
    assert_eq!(bytes, Oracle::entry(std::slice::from_ref(&command)));
    assert_eq!(decode(&bytes, 1, 0, 1, &recovered.sealer).expect("decoded").entry.commands, [command]);
}

/// Bytes that anybody can guess, so that a sample is the same on every run.
fn fixed(bytes: &mut [u8]) {
    for (place, byte) in bytes.iter_mut().enumerate() {
        *byte = 17 + 3 * place as u8;
    }
}

fn sample_options() -> Options {
    Options { random: fixed, ..options() }
}

fn samples(folder: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/samples").join(folder)
}

/// The content of the sample folder.
fn sample_entries() -> Vec<(u16, Entry)> {
    let commands = every_kind();
    let (accounts, tenders): (Vec<_>, Vec<_>) =
        commands.into_iter().partition(|command| matches!(command.action, engine::Action::Account(_)));
    vec![
        (0, entry(1, accounts)),
        (1, entry(1, tenders)),
        (2, entry(1, Vec::new())),
        (1, entry(2, vec![bid(1, 0)])),
    ]
}

/// Writes the sample folder as this program does.
fn sample_disk(options: Options) -> FaultyDisk {
    let disk = FaultyDisk::new();
    let (mut log, recovered) = open_with(&disk, options).expect("opened");
    let entries = sample_entries();
    append(&mut log, &recovered.sealer, &entries[..3]).expect("appended");
    let places: Vec<Last> = log.last().to_vec();
    let mut writer = recovered.snapshots.begin(&places).expect("begun");
    writer.frame(1, Section::Engine, None, b"a part of an engine").expect("written");
    writer.frame(0, Section::Accounts, Some(OrganisationId(1)), b"a part of the accounts").expect("written");
    writer.frame(1, Section::State, None, &[7; 32]).expect("written");
    writer.finish().expect("finished");
    append(&mut log, &recovered.sealer, &entries[3..]).expect("appended");
    disk
}

/// A file as it is stored: without the zeros at its end, their number in its name.
fn stored(path: &Path, bytes: &[u8]) -> (String, Vec<u8>) {
    let end = bytes.iter().rposition(|byte| *byte != 0).map_or(0, |last| last + 1);
    let name = path.display().to_string().trim_start_matches('/').replace('/', "__");
    (format!("{name}__{}.bin", bytes.len()), bytes[..end].to_vec())
}

fn restored(name: &str, mut bytes: Vec<u8>) -> (PathBuf, Vec<u8>) {
    let (path, len) = name.trim_end_matches(".bin").rsplit_once("__").expect("a length");
    bytes.resize(len.parse().expect("a length"), 0);
    (Path::new("/").join(path.replace("__", "/")), bytes)
}

/// Puts the files of a sample on a disk.
fn put(disk: &FaultyDisk, folder: &str) {
    for file in std::fs::read_dir(samples(folder)).expect("the samples are in the repository") {
        let file = file.expect("an entry");
        let name = file.file_name().into_string().expect("a name");
        let (path, bytes) = restored(&name, std::fs::read(file.path()).expect("read"));
        disk.create(&path).expect("made").write_at(0, &[&bytes]).expect("written");
    }
}

/// Log formats 1 and 3, schema 1, with snapshots of each version. When a version is added its samples are added; these
/// files are never written again.
#[test]
fn the_folder_that_every_version_wrote_is_still_read() {
    let folders = [&["v1"][..], &["v1", "v2"], &["v1", "v2", "v3"], &["v1", "v2", "v3", "log-v3"]];
    for (number, folders) in folders.into_iter().enumerate() {
        let snapshot_version = (number + 1).min(3);
        let disk = FaultyDisk::new();
        folders.iter().for_each(|folder| put(&disk, folder));
        let mut lines = Vec::new();
        assert_eq!(verify(&disk, Path::new("/data"), &mut lines).expect("written"), Soundness::Sound);
        let (_log, recovered) = open_with(&disk, sample_options()).expect("opened");
        assert_eq!(replay(&recovered), sample_entries());
        let snapshot = recovered.snapshot.as_ref().expect("there");
        let parts: Vec<Part> = snapshot.frames().map(|frame| frame.expect("sound").part).collect();
        let texts = ["a part of an engine", "a part of the accounts"];
        assert_eq!(parts[..2], texts.map(|text| Part::Clear(text.as_bytes().to_vec())));
        assert_eq!(parts.len(), if snapshot_version < 3 { 2 } else { 3 });
        // Made without chance, cluster and history of the samples are one number, as of a node among several, to which
        // `entries` gives only what is known to be committed.
        let indices = snapshot.indices();
        let tail = recovered.entries_from_start().map(|found| found.expect("read"));
        let tail = tail.filter(|found| found.entry.index > indices[usize::from(found.shard)]);
        assert_eq!(tail.map(|found| (found.shard, found.entry.index)).collect::<Vec<_>>(), [(1, 2)]);
    }
}

/// Log formats 2 and 3 and a sealed snapshot: the folder with `seal all`.
#[test]
fn the_sealed_folder_is_still_read() {
    for folders in [&["sealed"][..], &["sealed", "log-v3-sealed"]] {
        let disk = FaultyDisk::new();
        folders.iter().for_each(|folder| put(&disk, folder));
        sealed_folder_is_read(&disk);
    }
}

fn sealed_folder_is_read(disk: &FaultyDisk) {
    let mut lines = Vec::new();
    assert_eq!(verify(disk, Path::new("/data"), &mut lines).expect("written"), Soundness::Sound);
    // It needs no option to be read.
    let (_log, recovered) = open_with(disk, sample_options()).expect("opened");
    assert_eq!(replay(&recovered), sample_entries());
    let snapshot = recovered.snapshot.as_ref().expect("there");
    let parts: Vec<Part> = snapshot.frames().map(|frame| frame.expect("sound").part).collect();
    assert_eq!(parts[0], Part::Clear(b"a part of an engine".to_vec()));
    assert_eq!(snapshot.frames_of(0).map(|frame| frame.expect("sound").part).collect::<Vec<_>>(), parts[1..2]);
}

/// As long as this program writes these versions, it writes these bytes: no stored type was edited.
#[test]
fn versions_are_written_byte_for_byte_as_stored() {
    let write = std::env::var("SAMPLES").is_ok_and(|what| what == "write");
    for seal in [Seal::Secrets, Seal::All] {
        let disk = sample_disk(Options { seal, node: 513, ..sample_options() });
        for path in disk.files().into_iter().filter(|path| !path.ends_with("0000000000000002.seg")) {
            let (name, bytes) = stored(&path, &disk.content(&path).expect("there"));
            let is_log = name.starts_with("data__log");
            let folder = match seal {
                Seal::All if is_log => "log-v3-sealed",
                Seal::All => "sealed",
                Seal::Secrets if is_log => "log-v3",
                Seal::Secrets if name.contains("snapshots") => "v3",
                Seal::Secrets => "v1",
            };
            let sample = samples(folder).join(name);
            if write {
                std::fs::create_dir_all(samples(folder)).expect("made");
                std::fs::write(&sample, &bytes).expect("written");
            }
            let kept = std::fs::read(&sample).unwrap_or_else(|error| panic!("{}: {error}", sample.display()));
            assert!(kept == bytes, "{} is written differently", sample.display());
        }
    }
}

/// Prices of sealed lots and limits are sealed under their bidder's organisation, whatever the command.
#[test]
fn an_offer_is_sealed_and_comes_back() {
    let disk = FaultyDisk::new();
    let (_log, recovered) = open(&disk).expect("opened");
    let marked = Decimal { mantissa: 0x1122_3344_5566_7788, scale: 2 };
    let secret = Secret::Offer { organisation: OrganisationId(7), price: Some(marked), limit: Some(marked) };
    let mut command = bid(1, 0);
    let Action::Bid { price, .. } = &mut command.action else { unreachable!("it is a bid") };
    *price = None;
    command.secret = Some(secret.clone());
    let commands = vec![command];
    let bytes = payload(&entry(1, commands.clone()), 1, &recovered.sealer);
    let mark = marked.mantissa.to_le_bytes();
    assert!(!bytes.windows(mark.len()).any(|window| window == mark), "the price is not in clear");
    let plain = wincode::serialize(&secret).expect("a secret is plain data");
    assert!(plain.windows(mark.len()).any(|window| window == mark), "it would be found");
    let decoded = decode(&bytes, 1, 1, 1, &recovered.sealer).expect("decoded");
    assert_eq!((decoded.entry.commands, decoded.erased), (commands, vec![]));
}
