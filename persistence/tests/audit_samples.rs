//! Audits as every version wrote them: read back, proved, and gone on with; and written by this program byte for byte as
//! they are stored.

mod common;
#[allow(dead_code)] // One kind is enough here.
#[path = "common/pick.rs"]
mod pick;

use std::path::{Path, PathBuf};
use std::sync::Arc;

use common::*;
use engine::{Action, Command, Decimal, Entry, LogTime, OrganisationId, RequestId, Secret};
use persistence::checkpoint::{AuditSigner, Checkpoint};
use persistence::faulty::FaultyDisk;
use persistence::merkle::is_consistent;
use persistence::{AuditPart, AuditPlace, AuditShard, ChainsPart, Disk, Log, Options, Recovered, Seal, leaf_hash};

const EPOCH: &str = "0190a7c5-6f7e-7cc3-98c4-dc0c0c07398f";
const SHARD: u16 = 1;
/// What of a folder the samples hold: the log is not among it.
const KINDS: [&str; 4] = ["/keys", "/data/audit", "/data/meta", "/data/parts"];

/// Bytes that anybody can guess, so that a sample is the same on every run.
fn fixed(bytes: &mut [u8]) {
    for (place, byte) in bytes.iter_mut().enumerate() {
        *byte = 29 + 5 * place as u8;
    }
}

fn sample_options(seal: Seal) -> Options {
    Options { random: fixed, seal, node: 513, ..options() }
}

fn samples(folder: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/samples").join(folder)
}

/// A tender's commands, open and concealed, an interruption, a tick, and one that names no tender.
fn sample_entries() -> Vec<Entry> {
    let command = |number, action| Command { action, ..bid(number, 0) };
    let concealed = |number, limit: Option<i64>| {
        let mut command = bid(number, 0);
        let Action::Bid { price, .. } = &mut command.action else { unreachable!("it is a bid") };
        let price = price.take();
        let limit = limit.map(|mantissa| Decimal { mantissa, scale: 2 });
        command.secret = Some(Secret::Offer { organisation: OrganisationId(7), price, limit });
        command
    };
    let kinds = (0..pick::KINDS).map(|kind| pick::Pick(1).command_of(kind).action);
    let spec = kinds.into_iter().find_map(|action| match action {
        Action::CreateTender { spec, .. } => Some(spec),
        _ => None,
    });
    let spec = Action::CreateTender { tender: tender(), spec: spec.expect("one of the kinds") };
    vec![
        entry(1, vec![command(1, Action::Takeover { planned: false }), command(2, Action::Tick)]),
        entry(2, vec![command(3, spec), bid(4, 0)]),
        entry(3, vec![concealed(5, None), concealed(6, Some(88_000))]),
        entry(4, vec![command(7, Action::Takeover { planned: true })]),
        entry(5, vec![bid(8, 0), command(9, Action::Cancel { tender: tender(), reason: Some("enough".into()) })]),
    ]
}

fn place(disk: &FaultyDisk, recovered: &Recovered) -> AuditPlace {
    let disk: Arc<dyn Disk> = Arc::new(disk.clone());
    AuditPlace::new(disk, Path::new("/data"), recovered.sealer.clone(), recovered.history)
}

/// Puts the files of a sample whose path begins with one of `kinds` on a disk.
fn put(disk: &FaultyDisk, folder: &str, kinds: &[&str]) {
    let Ok(files) = std::fs::read_dir(samples(folder)) else { return };
    for file in files {
        let file = file.expect("an entry");
        let name = file.file_name().into_string().expect("a name");
        let path = Path::new("/").join(name.trim_end_matches(".bin").replace("__", "/"));
        if kinds.iter().any(|kind| path.starts_with(kind)) {
            let bytes = std::fs::read(file.path()).expect("read");
            disk.create(&path).expect("made").write_at(0, &[&bytes]).expect("written");
        }
    }
}

/// Writes an audit as this program does, with the keys of `folder`; the signed roots of 4 and of all leaves are in it.
fn write(disk: &FaultyDisk, folder: &str, seal: Seal) -> (Log, Recovered) {
    put(disk, folder, &["/keys/audit.p8"]);
    let (log, recovered) = open_with(disk, sample_options(seal)).expect("opened");
    let signer = AuditSigner::open(recovered.sealer.keys()).expect("a key");
    let mut audit = AuditShard::open(&place(disk, &recovered), SHARD, vec![], vec![]).expect("opened");
    for entry in sample_entries() {
        audit.feed(&entry, &[]);
        if [2, 5].contains(&entry.index) {
            let (size, at) = (audit.size(), LogTime(1_767_225_600_000 + entry.index as i64));
            audit.keep(&signer.checkpoint(EPOCH, SHARD, size, audit.root(), at));
        }
    }
    audit.sync().expect("written").sync().expect("durable");
    let parts = wincode::serialize(&audit.snapshot()).expect("plain data");
    disk.create(&data("parts")).expect("made").write_at(0, &[&parts]).expect("written");
    (log, recovered)
}

/// The folders of samples, each with what was sealed. When a version is added its samples are added; these files are
/// never written again.
const FOLDERS: [(&str, Seal); 2] = [("audit-v1", Seal::Secrets), ("audit-v2", Seal::All)];

#[test]
fn the_audit_that_every_version_wrote_is_still_read_and_gone_on_with() {
    for (folder, _) in FOLDERS {
        // Whatever is sealed now: what is there stays readable.
        for now in [Seal::Secrets, Seal::All] {
            let disk = FaultyDisk::new();
            put(&disk, folder, &KINDS);
            let (_log, recovered) = open_with(&disk, sample_options(now)).expect("opened");
            let parts = disk.content(&data("parts")).expect("there");
            let (chains, parts): (Vec<ChainsPart>, Vec<AuditPart>) =
                wincode::deserialize_exact(&parts).expect("as it was");
            let mut audit = AuditShard::open(&place(&disk, &recovered), SHARD, chains, parts).expect("opened");
            assert!(audit.contradicted().expect("readable").is_none(), "{folder}: what was signed holds");
            let mut entries = sample_entries();
            read(&mut audit, &entries, &recovered, folder);
            entries.push(entry(6, vec![bid(10, 0)]));
            audit.feed(&entries[5], &[]);
            read(&mut audit, &entries, &recovered, folder);
        }
    }
}

/// Reads all of an audit back and proves it.
fn read(audit: &mut AuditShard, entries: &[Entry], recovered: &Recovered, folder: &str) {
    let all: Vec<&Command> = entries.iter().flat_map(|entry| &entry.commands).collect();
    let mut reader = audit.reader().expect("written");
    let newest: Checkpoint = reader.latest().expect("read").expect("signed");
    let signer = AuditSigner::open(recovered.sealer.keys()).expect("a key");
    let first = reader.covering(0).expect("read").expect("signed");
    for root in [&first, &newest] {
        assert!(root.is_signed_by(signer.public(), EPOCH), "{folder}");
        assert_eq!(reader.root(root.size).expect("read"), root.root, "{folder}");
    }
    assert_eq!((first.size, newest.size), (4, 9), "{folder}");
    let proof = reader.consistency(first.size, newest.size).expect("read");
    assert!(is_consistent(first.size, &first.root, newest.size, &newest.root, &proof), "{folder}");
    let chain = audit.chain(tender()).expect("it has commands");
    let places = reader.places(&chain, 0).expect("read");
    assert_eq!(places.len(), all.len() - 3, "{folder}: all but two interruptions and a tick");
    for at in places {
        let record = reader.record(at).expect("sound");
        let command = all[record.header.leaf as usize];
        assert_eq!((&record.command, record.leaf_hash), (command, leaf_hash(command)), "{folder}");
        if record.header.leaf < newest.size {
            reader.inclusion(record.header.leaf, &record.leaf_hash, &newest).expect("proved");
        }
        let found = reader.find(&chain, command.envelope.at, RequestId(command.envelope.request.0));
        assert_eq!(found.expect("read"), Some(at), "{folder}");
    }
    assert_eq!(reader.places(&audit.system(), 0).expect("read").len(), 2, "{folder}");
}

/// As long as this program writes these versions, it writes these bytes.
#[test]
fn audits_are_written_byte_for_byte_as_stored() {
    let write_them = std::env::var("SAMPLES").is_ok_and(|what| what == "write");
    for (folder, seal) in FOLDERS {
        let disk = FaultyDisk::new();
        let _open = write(&disk, folder, seal);
        let of_sample = |path: &PathBuf| KINDS.iter().any(|kind| path.starts_with(kind));
        for path in disk.files().into_iter().filter(of_sample) {
            let name = path.display().to_string().trim_start_matches('/').replace('/', "__");
            let (sample, bytes) =
                (samples(folder).join(format!("{name}.bin")), disk.content(&path).expect("there"));
            if write_them {
                std::fs::create_dir_all(samples(folder)).expect("made");
                std::fs::write(&sample, &bytes).expect("written");
            }
            let kept = std::fs::read(&sample).unwrap_or_else(|error| panic!("{}: {error}", sample.display()));
            assert!(kept == bytes, "{} is written differently", sample.display());
        }
    }
}
