//! The audit of a shard: hashes made as the page says, rebuilt by a restart with the same roots, read back record by
//! record; what is damaged is never proved.

mod common;
#[allow(dead_code)] // One kind is enough here.
#[path = "common/pick.rs"]
mod pick;

use std::path::Path;
use std::sync::Arc;

use common::*;
use engine::{Action, Command, Decimal, Entry, Envelope, LogTime, OrganisationId, RequestId, Secret, TenderId};
use persistence::checkpoint::{AuditSigner, Checkpoint, hex, is_signed, unhex};
use persistence::faulty::{Crash, FaultyDisk};
use persistence::merkle::{self, root_of_inclusion};
use persistence::{
    AuditError, AuditPlace, AuditReader, AuditShard, Chains, Disk, Keys, OfferPart, Options, Recovered, Seal,
    leaf_hash, leaf_of, offer_digest, part_salt, public_part, salted_digest, secret_digest, system_random,
};
use sha2::{Digest, Sha256};

const EPOCH: &str = "0190a7c5-6f7e-7cc3-98c4-dc0c0c07398f";

fn place(disk: &FaultyDisk, recovered: &Recovered) -> AuditPlace {
    let disk: Arc<dyn Disk> = Arc::new(disk.clone());
    AuditPlace::new(disk, Path::new("/data"), recovered.sealer.clone(), recovered.history)
}

fn tenders() -> [TenderId; 2] {
    [tender(), TenderId::new(tender().0 ^ (1 << 40))]
}

fn command(number: u64, action: Action) -> Command {
    Command { action, ..bid(number, 0) }
}

fn create(number: u64, tender: TenderId) -> Command {
    let kinds = (0..pick::KINDS).map(|kind| pick::Pick(1).command_of(kind).action);
    let spec = kinds.into_iter().find_map(|action| match action {
        Action::CreateTender { spec, .. } => Some(spec),
        _ => None,
    });
    command(number, Action::CreateTender { tender, spec: spec.expect("one of the kinds") })
}

fn concealed(number: u64, tender: TenderId, limit: Option<i64>) -> Command {
    let mut command = bid(number, 0);
    let Action::Bid { lot, price, .. } = &mut command.action else { unreachable!("it is a bid") };
    (*lot, *price) = (tender.lot(1), None);
    let decimal = |mantissa| Decimal { mantissa, scale: 2 };
    let limit = limit.map(decimal);
    command.secret = Some(Secret::Offer { organisation: OrganisationId(7), price: Some(decimal(95_000)), limit });
    command
}

/// Two tenders, ticks, an interruption, commands that name no tender that is there, open and concealed bids.
fn entries(count: u64) -> Vec<Entry> {
    let mut number = 0;
    let mut next = || {
        number += 1;
        number
    };
    (1..=count)
        .map(|index| {
            let tender = tenders()[(index % 2) as usize];
            let commands = match index {
                1 => vec![command(next(), Action::Takeover { planned: false }), command(next(), Action::Tick)],
                2 => vec![create(next(), tenders()[0]), create(next(), tenders()[1])],
                _ if index % 17 == 0 => vec![command(next(), Action::Takeover { planned: false })],
                _ if index % 5 == 0 => vec![command(next(), Action::Publish { tender: TenderId::new(99 << 20) })],
                _ => vec![
                    command(next(), Action::Publish { tender }),
                    concealed(next(), tender, (index % 3 == 0).then_some(90_000)),
                    command(next(), Action::Tick),
                ],
            };
            entry(index, commands)
        })
        .collect()
}

fn feed(audit: &mut AuditShard, entries: &[Entry]) {
    entries.iter().for_each(|entry| audit.feed(entry, &[]));
}

fn signer(recovered: &Recovered) -> AuditSigner {
    AuditSigner::open(recovered.sealer.keys()).expect("a key")
}

/// Checks everything that a reader gives against the entries themselves.
fn check(reader: &mut AuditReader, audit: &AuditShard, entries: &[Entry], signed: &Checkpoint) {
    let all: Vec<&Command> = entries.iter().flat_map(|entry| &entry.commands).collect();
    let leaves: Vec<[u8; 32]> = all.iter().map(|command| leaf_hash(command)).collect();
    assert_eq!(audit.size(), leaves.len() as u64);
    let mut tree = merkle::Frontier::default();
    leaves.iter().for_each(|leaf| tree.push(*leaf, |_| {}));
    assert_eq!(audit.root(), tree.root());
    assert_eq!(reader.root(audit.size()).expect("read"), tree.root());
    let mut chains = Chains::new();
    entries.iter().for_each(|entry| chains.feed(entry, &[]));
    for id in tenders() {
        let chain = audit.chain(id).expect("it has commands");
        assert_eq!(Some(chain.head), chains.tender(id));
        let places = reader.places(&chain, 0).expect("read");
        assert_eq!(places.len() as u64, chain.head.count);
        let mut head = [0; 32];
        for (number, at) in (1..).zip(&places) {
            let record = reader.record(*at).expect("sound");
            assert_eq!((record.header.number, record.header.before), (number, head));
            assert_eq!(&record.command, all[record.header.leaf as usize]);
            let leaf = leaves[record.header.leaf as usize];
            assert_eq!(record.leaf_hash, leaf);
            head = Sha256::new().chain_update([2]).chain_update(head).chain_update(leaf).finalize().into();
            let proof = reader.inclusion(record.header.leaf, &leaf, signed).expect("proved");
            assert_eq!(root_of_inclusion(&leaf, record.header.leaf, signed.size, &proof), Some(signed.root));
            let Envelope { at: stamp, request, .. } = record.command.envelope;
            assert_eq!(reader.find(&chain, stamp, request).expect("read"), Some(*at));
            assert_eq!(reader.find(&chain, stamp, RequestId(0xFFFF)).expect("read"), None);
        }
        assert_eq!(head, chain.head.hash);
        assert_eq!(reader.find(&chain, LogTime(1), RequestId(1)).expect("read"), None);
    }
    let system = reader.places(&audit.system(), 0).expect("read");
    let takeovers = all.iter().filter(|command| matches!(command.action, Action::Takeover { .. }));
    assert_eq!(system.len(), takeovers.count());
}

#[test]
fn what_is_fed_is_read_back_proved_and_found() {
    let disk = FaultyDisk::new();
    let (_log, recovered) = open(&disk).expect("opened");
    let mut audit = AuditShard::open(&place(&disk, &recovered), 1, vec![], vec![]).expect("opened");
    let entries = entries(120);
    feed(&mut audit, &entries);
    let signer = signer(&recovered);
    let checkpoint = signer.checkpoint(EPOCH, 1, audit.size(), audit.root(), LogTime(5));
    audit.keep(&checkpoint);
    let mut reader = audit.reader().expect("written");
    check(&mut reader, &audit, &entries, &checkpoint);
    assert_eq!(reader.latest().expect("read"), Some(checkpoint));
    assert_eq!(reader.covering(audit.size() - 1).expect("read"), Some(checkpoint));
    assert_eq!(reader.covering(audit.size()).expect("read"), None);
}

/// Stops at every entry, with a snapshot at every third, and loses what was not synced: the roots are the same.
#[test]
fn a_restart_rebuilds_the_same_roots_from_snapshot_and_log() {
    let entries = entries(40);
    let whole = {
        let disk = FaultyDisk::new();
        let (_log, recovered) = open(&disk).expect("opened");
        let mut audit = AuditShard::open(&place(&disk, &recovered), 1, vec![], vec![]).expect("opened");
        feed(&mut audit, &entries);
        audit.root()
    };
    for stop in 1..entries.len() {
        let disk = FaultyDisk::new();
        let (log, recovered) = open(&disk).expect("opened");
        let mut audit = AuditShard::open(&place(&disk, &recovered), 1, vec![], vec![]).expect("opened");
        let snapshot_at = stop / 3 * 3;
        feed(&mut audit, &entries[..snapshot_at]);
        let (chains, parts) = audit.snapshot();
        audit.sync().expect("written").sync().expect("synced");
        feed(&mut audit, &entries[snapshot_at..stop]);
        // Half of what came behind the snapshot is written, none of it is durable.
        let _reader = audit.reader().expect("written");
        drop((audit, log));
        disk.restart(if stop % 2 == 0 { Crash::Lost } else { Crash::Kept });

        let (_log, recovered) = open(&disk).expect("opened");
        let mut audit = AuditShard::open(&place(&disk, &recovered), 1, chains, parts).expect("opened");
        assert_eq!(audit.index(), snapshot_at as u64);
        feed(&mut audit, &entries[snapshot_at..]);
        assert_eq!(audit.root(), whole, "stopped after {stop}");
        let checkpoint = signer(&recovered).checkpoint(EPOCH, 1, audit.size(), audit.root(), LogTime(5));
        let mut reader = audit.reader().expect("written");
        check(&mut reader, &audit, &entries, &checkpoint);
    }
}

#[test]
fn a_snapshot_from_before_the_tree_goes_on_with_one_leaf_for_all_before() {
    let disk = FaultyDisk::new();
    let (_log, recovered) = open(&disk).expect("opened");
    let entries = entries(30);
    let mut chains = Chains::new();
    entries[..10].iter().for_each(|entry| chains.feed(entry, &[]));
    let mut audit =
        AuditShard::open(&place(&disk, &recovered), 1, chains.snapshot().collect(), vec![]).expect("opened");
    let head = chains.shard();
    let bytes = [&[6][..], &head.count.to_le_bytes(), &head.hash].concat();
    assert_eq!((audit.size(), audit.root()), (1, salted_digest([0; 16], &bytes)));
    feed(&mut audit, &entries[10..]);
    entries[10..].iter().for_each(|entry| chains.feed(entry, &[]));
    let mut reader = audit.reader().expect("written");
    for id in tenders() {
        let chain = audit.chain(id).expect("it goes on");
        assert_eq!(Some(chain.head), chains.tender(id));
        let places = reader.places(&chain, 0).expect("read");
        let first = reader.record(places[0]).expect("sound");
        assert!(first.header.number > 1 && first.header.before != [0; 32], "its chain begins before the tree");
        let last = reader.record(*places.last().expect("some")).expect("sound");
        assert_eq!(AuditReader::head_behind(&last), chain.head);
    }
}

/// Row 53: somebody with the whole data folder edits a record and computes everything again, chain and tree and all.
/// Everything inside agrees; the root that was signed before, and lies with others, does not.
#[test]
fn an_insider_who_edits_a_record_and_chains_again_is_exposed_by_a_root_outside() {
    let entries = entries(60);
    let run = |entries: &[Entry]| {
        let disk = FaultyDisk::new();
        let (_log, recovered) = open(&disk).expect("opened");
        let mut audit = AuditShard::open(&place(&disk, &recovered), 1, vec![], vec![]).expect("opened");
        feed(&mut audit, entries);
        let mut reader = audit.reader().expect("written");
        let early = reader.root(50).expect("read");
        let proof = reader.consistency(50, audit.size()).expect("read");
        let signer = signer(&recovered);
        let signed = signer.checkpoint(EPOCH, 1, audit.size(), audit.root(), LogTime(5));
        check(&mut reader, &audit, entries, &signed);
        (signer, early, signed, proof)
    };
    let (signer, early, ..) = run(&entries);
    let outside = signer.checkpoint(EPOCH, 1, 50, early, LogTime(4));
    for edited in [0, 1, 3, 10] {
        let mut entries = entries.clone();
        entries[edited].commands[0].envelope.organisation = OrganisationId(8);
        let (_, _, signed, proof) = run(&entries);
        let consistent = |early: &Checkpoint, proof: &[merkle::Hash]| {
            merkle::is_consistent(early.size, &early.root, signed.size, &signed.root, proof)
        };
        assert!(outside.is_signed_by(signer.public(), EPOCH));
        assert!(!consistent(&outside, &proof), "entry {edited}");
    }
    // And at home: a root that the node itself keeps contradicts the log from the next start on.
    let disk = FaultyDisk::new();
    let (_log, recovered) = open(&disk).expect("opened");
    let mut audit = AuditShard::open(&place(&disk, &recovered), 1, vec![], vec![]).expect("opened");
    feed(&mut audit, &entries[..20]);
    audit.keep(&signer.checkpoint(EPOCH, 1, audit.size(), audit.root(), LogTime(5)));
    audit.sync().expect("written").sync().expect("synced");
    let mut edited = entries[..20].to_vec();
    edited[4].commands[0].envelope.at.0 += 1;
    for (entries, holds) in [(&entries[..20], true), (&edited[..], false), (&entries[..19], false)] {
        let mut again = AuditShard::open(&place(&disk, &recovered), 1, vec![], vec![]).expect("opened");
        feed(&mut again, entries);
        assert_eq!(again.contradicted().expect("read").is_none(), holds);
    }
}

#[test]
fn damage_is_told_and_never_proved() {
    let disk = FaultyDisk::new();
    let (_log, recovered) = open(&disk).expect("opened");
    let mut audit = AuditShard::open(&place(&disk, &recovered), 1, vec![], vec![]).expect("opened");
    feed(&mut audit, &entries(20));
    let checkpoint = signer(&recovered).checkpoint(EPOCH, 1, audit.size(), audit.root(), LogTime(5));
    audit.keep(&checkpoint);
    let mut reader = audit.reader().expect("written");
    let chain = audit.chain(tender()).expect("there");
    let places = reader.places(&chain, 0).expect("read");
    let path = Path::new("/data/audit/0001.journal");
    let file = disk.open(path).expect("there");
    for (number, at) in places.iter().enumerate() {
        let mut byte = [0];
        let offset = at + 4 + 7 * number as u64;
        file.read_at(offset, &mut byte).expect("read");
        file.write_at(offset, &[&[byte[0] ^ 4]]).expect("written");
        let error = reader.record(*at).expect_err("damaged");
        assert!(matches!(error, AuditError::Damaged { .. }), "{error}");
        assert!(error.to_string().contains("restore the folder `audit`"), "{error}");
        file.write_at(offset, &[&byte]).expect("written");
        reader.record(*at).expect("sound again");
    }
    let record = reader.record(places[3]).expect("sound");
    let nodes = disk.open(Path::new("/data/audit/0001.nodes")).expect("there");
    nodes.write_at(64 + 32 * merkle::node_position(0, record.header.leaf ^ 1), &[&[0; 32]]).expect("written");
    let other = reader.inclusion(record.header.leaf, &record.leaf_hash, &checkpoint);
    assert!(matches!(other, Err(AuditError::Damaged { .. })));
}

fn open_sealed(disk: &FaultyDisk) -> (persistence::Log, Recovered) {
    open_with(disk, Options { seal: Seal::All, ..options() }).expect("opened")
}

/// All but counts, times and lengths is sealed; each start, and each new data key, seals under a key of its own.
#[test]
fn a_sealed_journal_tells_nothing_and_is_read_by_whoever_has_the_keys() {
    let all = entries(120);
    let disk = FaultyDisk::new();
    let mut parts = (vec![], vec![]);
    for (number, some) in all.chunks(30).enumerate() {
        let (_log, recovered) = open_sealed(&disk);
        let (chains, audit) = std::mem::take(&mut parts);
        let mut audit = AuditShard::open(&place(&disk, &recovered), 1, chains, audit).expect("opened");
        feed(&mut audit, &some[..15]);
        if number == 2 {
            recovered.sealer.keys().rotate().expect("a new data key");
        }
        feed(&mut audit, &some[15..]);
        let checkpoint = signer(&recovered).checkpoint(EPOCH, 1, audit.size(), audit.root(), LogTime(5));
        let mut reader = audit.reader().expect("written");
        check(&mut reader, &audit, &all[..30 * (number + 1)], &checkpoint);
        reader.sync().expect("durable");
        parts = audit.snapshot();
    }
    let journal = disk.content(Path::new("/data/audit/0001.journal")).expect("there");
    let open = FaultyDisk::new();
    let (_log, recovered) = open_with(&open, options()).expect("opened");
    let mut audit = AuditShard::open(&place(&open, &recovered), 1, vec![], vec![]).expect("opened");
    feed(&mut audit, &all);
    audit.reader().expect("written").sync().expect("durable");
    let readable = open.content(Path::new("/data/audit/0001.journal")).expect("there");
    let holds = |bytes: &[u8], needle: &[u8]| bytes.windows(needle.len()).any(|window| window == needle);
    let mut looked_for = 0;
    for command in all.iter().flat_map(|entry| &entry.commands) {
        if command.action.tender().is_none_or(|tender| !tenders().contains(&tender)) {
            continue;
        }
        let public = public_part(command);
        for needle in [&public[..], &command.envelope.salt[..]] {
            // Zeros are everywhere.
            let is_telling = needle.iter().any(|byte| *byte != 0);
            assert!(!is_telling || !holds(&journal, needle), "{command:?}");
        }
        assert!(holds(&readable, &public), "it would be found: {command:?}");
        looked_for += 1;
    }
    assert!(looked_for > 100);
    for id in tenders() {
        assert!(!holds(&journal, &id.0.to_le_bytes()) && holds(&readable, &id.0.to_le_bytes()));
    }
    // Not even who mends the checksum changes a bit of it.
    let (_log, recovered) = open_sealed(&disk);
    let (chains, parts) = parts;
    let mut audit = AuditShard::open(&place(&disk, &recovered), 1, chains, parts).expect("opened");
    let mut reader = audit.reader().expect("written");
    let at = reader.places(&audit.chain(tender()).expect("there"), 0).expect("read")[5];
    let file = disk.open(Path::new("/data/audit/0001.journal")).expect("there");
    let mut head = [0; 160];
    file.read_at(at, &mut head).expect("read");
    let length = u32::from_le_bytes(head[4..8].try_into().expect("four")) as usize;
    let mut sound = vec![0; (160 + length).next_multiple_of(8)];
    file.read_at(at, &mut sound).expect("read");
    for byte in (8..160 + length).step_by(3) {
        let mut record = sound.clone();
        record[byte] ^= 16;
        let salt = crc32c::crc32c_append(crc32c::crc32c(&1u16.to_le_bytes()), &at.to_le_bytes());
        let crc = crc32c::crc32c_append(salt, &record[4..]);
        record[..4].copy_from_slice(&crc.to_le_bytes());
        file.write_at(at, &[&record]).expect("written");
        reader.record(at).expect_err("changed");
    }
    file.write_at(at, &[&sound]).expect("written");
    reader.record(at).expect("sound again");
}

/// A journal in which nothing is sealed is one of version 1, gets version 2 before its first sealed record, and keeps it.
#[test]
fn a_journal_of_version_1_goes_on_under_a_seal() {
    let all = entries(40);
    let disk = FaultyDisk::new();
    let version = |disk: &FaultyDisk| {
        u32::from_le_bytes(
            disk.content(Path::new("/data/audit/0001.journal")).expect("there")[8..12].try_into().expect("four"),
        )
    };
    let mut parts = (vec![], vec![]);
    for (number, some) in all.chunks(10).enumerate() {
        let seal = if number == 2 { Seal::All } else { Seal::Secrets };
        let (_log, recovered) = open_with(&disk, Options { seal, ..options() }).expect("opened");
        let (chains, audit) = std::mem::take(&mut parts);
        let mut audit = AuditShard::open(&place(&disk, &recovered), 1, chains, audit).expect("opened");
        feed(&mut audit, some);
        let checkpoint = signer(&recovered).checkpoint(EPOCH, 1, audit.size(), audit.root(), LogTime(5));
        let mut reader = audit.reader().expect("written");
        check(&mut reader, &audit, &all[..10 * (number + 1)], &checkpoint);
        reader.sync().expect("durable");
        parts = audit.snapshot();
        assert_eq!(version(&disk), if number >= 2 { 2 } else { 1 });
    }
}

/// While the disk is full nothing is lost: heads and roots go on, files follow when there is room.
#[test]
fn a_full_disk_is_waited_for() {
    let disk = FaultyDisk::new();
    let (_log, recovered) = open(&disk).expect("opened");
    let mut audit = AuditShard::open(&place(&disk, &recovered), 1, vec![], vec![]).expect("opened");
    let entries = entries(90);
    feed(&mut audit, &entries[..30]);
    audit.reader().expect("written");
    disk.plan(|faults| faults.capacity = Some(0));
    feed(&mut audit, &entries[30..60]);
    let error = audit.sync().err().expect("full");
    assert_eq!(error.kind(), std::io::ErrorKind::StorageFull);
    feed(&mut audit, &entries[60..]);
    assert!(audit.reader().is_err());
    disk.plan(|faults| faults.capacity = None);
    let checkpoint = signer(&recovered).checkpoint(EPOCH, 1, audit.size(), audit.root(), LogTime(5));
    audit.sync().expect("written").sync().expect("synced");
    let mut reader = audit.reader().expect("written");
    check(&mut reader, &audit, &entries, &checkpoint);
}

#[test]
fn a_sync_that_failed_is_final() {
    let disk = FaultyDisk::new();
    let (_log, recovered) = open(&disk).expect("opened");
    let mut audit = AuditShard::open(&place(&disk, &recovered), 1, vec![], vec![]).expect("opened");
    feed(&mut audit, &entries(10));
    let reader = audit.sync().expect("written");
    disk.plan(|faults| faults.fail_sync = Some(faults.syncs + 2));
    assert!(reader.sync().is_err());
    assert!(reader.sync().is_err(), "a later sync is not believed");
    assert!(audit.sync().expect("written").sync().is_err());
}

#[test]
fn an_audit_of_another_log_is_refused() {
    let disk = FaultyDisk::new();
    let (_log, recovered) = open(&disk).expect("opened");
    let own = place(&disk, &recovered);
    AuditShard::open(&own, 1, vec![], vec![]).expect("made");
    let shared: Arc<dyn Disk> = Arc::new(disk.clone());
    let history = persistence::HistoryId(recovered.history.0 ^ 1);
    let other = AuditPlace::new(shared, Path::new("/data"), recovered.sealer.clone(), history);
    let error = AuditShard::open(&other, 1, vec![], vec![]).err().expect("refused").to_string();
    assert!(error.contains("it belongs to another log"), "{error}");
    // A start that was cut short left a file without its head.
    disk.create(Path::new("/data/audit/0001.nodes")).expect("emptied");
    AuditShard::open(&own, 1, vec![], vec![]).expect("made again");
}

#[test]
fn erased_secrets_keep_their_leaf() {
    let disk = FaultyDisk::new();
    let (_log, recovered) = open(&disk).expect("opened");
    let mut audit = AuditShard::open(&place(&disk, &recovered), 1, vec![], vec![]).expect("opened");
    let entries = [entry(1, vec![create(1, tender()), concealed(2, tender(), Some(80_000))])];
    feed(&mut audit, &entries);
    let chain = audit.chain(tender()).expect("there");
    let mut reader = audit.reader().expect("written");
    let places = reader.places(&chain, 0).expect("read");
    let before = reader.record(places[1]).expect("sound");
    assert!(before.command.secret.is_some() && before.has_secret);
    recovered.sealer.keys().destroy(OrganisationId(7)).expect("destroyed");
    let after = reader.record(places[1]).expect("sound");
    assert!(after.command.secret.is_none() && after.has_secret && after.header.is_erased);
    assert_eq!(after.leaf_hash, before.leaf_hash);
    // A replay of the log is told the digest.
    let mut again = AuditShard::open(&place(&disk, &recovered), 1, vec![], vec![]).expect("opened");
    let erased = concealed(2, tender(), None);
    let known = [(1, before.header.digest)];
    again.feed(&entry(1, vec![create(1, tender()), erased]), &known);
    assert_eq!(again.root(), audit.root());
}

/// A price can be opened without the limit that came with it, and the other way round nothing is told.
#[test]
fn a_price_opens_without_its_limit() {
    let command = concealed(1, tender(), Some(80_000));
    let salt = command.envelope.salt;
    let Some(Secret::Offer { organisation, price, limit }) = command.secret.clone() else {
        unreachable!("an offer")
    };
    let encode = |secret: &Secret| wincode::serialize(secret).expect("plain data");
    let price = encode(&Secret::Offer { organisation, price, limit: None });
    let limit = encode(&Secret::Offer { organisation, price: None, limit });
    let opened = salted_digest(part_salt(salt, OfferPart::Price), &price);
    let hidden = salted_digest(part_salt(salt, OfferPart::Limit), &limit);
    let digest = offer_digest(&opened, &hidden);
    assert_eq!(digest, secret_digest(salt, command.secret.as_ref()));
    assert_eq!(leaf_of(&public_part(&command), &digest), leaf_hash(&command));
    assert_ne!(part_salt(salt, OfferPart::Price), part_salt(salt, OfferPart::Limit));
}

#[test]
fn roots_are_signed_over_the_text_of_the_page() {
    let disk = FaultyDisk::new();
    let shared: Arc<dyn Disk> = Arc::new(disk.clone());
    let keys = Keys::open(Arc::clone(&shared), Path::new("/keys"), system_random, true).expect("made");
    let signer = AuditSigner::open(&Arc::new(keys)).expect("made");
    let root = [0xAB; 32];
    let signed = signer.checkpoint(EPOCH, 3, 12, root, LogTime(1_700_000_000_123));
    let text = format!("reversetender checkpoint 1\n{EPOCH}\n3\n12\n{}\n1700000000123\n", "ab".repeat(32));
    assert_eq!(signed.text(EPOCH), text);
    assert!(is_signed(signer.public(), text.as_bytes(), &signed.signature));
    assert!(signed.is_signed_by(signer.public(), EPOCH));
    assert!(!signed.is_signed_by(signer.public(), "another"));
    for wrong in [
        Checkpoint { shard: 4, ..signed },
        Checkpoint { size: 13, ..signed },
        Checkpoint { root: [0xAA; 32], ..signed },
        Checkpoint { at: LogTime(0), ..signed },
    ] {
        assert!(!wrong.is_signed_by(signer.public(), EPOCH), "{wrong:?}");
    }
    assert!(signer.kid().starts_with("audit-") && signer.kid().len() == 22);
    let again = Keys::open(shared, Path::new("/keys"), system_random, false).expect("opened");
    assert_eq!(AuditSigner::open(&Arc::new(again)).expect("read").public(), signer.public(), "the key stays");
    assert_eq!(unhex(&hex(&root)), Some(root.to_vec()));
    assert_eq!((unhex("a"), unhex("AB"), unhex("zz")), (None, None, None));
}
