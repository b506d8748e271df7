//! Entries in the place of others, as a later leader wants them: what the log takes, and what it gives back.

mod common;

use std::path::{Path, PathBuf};

use common::*;
use engine::Entry;
use persistence::faulty::FaultyDisk;
use persistence::inspect::{Soundness, verify};
use persistence::raft::{Raft, RaftMember, RaftOptions};
use persistence::{
    Batch, Disk, Last, Lead, Log, OpenError, Placed, Ready, Recovered, Replicator, Sealer, Section, SkipMark, Vote,
};

/// Appends entries of shard 1 with their terms, and behind them a vote if there is one, by one flush.
fn flush(log: &mut Log, sealer: &Sealer, entries: &[(u64, Entry)], vote: Option<Vote>) {
    let mut batch = Batch::new();
    for (term, entry) in entries {
        batch.push_entry(1, *term, entry, sealer).expect("encoded");
    }
    if let Some(vote) = vote {
        batch.push_vote(1, vote).expect("encoded");
    }
    log.append(&mut batch).expect("appended");
}

fn numbered(index: u64, number: u64) -> Entry {
    entry(index, vec![bid(number, 0)])
}

/// Index, term and number of the command of what came back.
fn found(recovered: &Recovered) -> Vec<(u64, u64, u64)> {
    let read = |found: Result<persistence::RecoveredEntry, OpenError>| {
        let found = found.expect("read");
        (found.entry.index, found.term, found.entry.commands[0].envelope.request.0 as u64)
    };
    recovered.entries_from_start().map(read).collect()
}

#[test]
fn what_was_replaced_does_not_come_back() {
    let disk = FaultyDisk::new();
    let (mut log, recovered) = open(&disk).expect("opened");
    let sealer = &recovered.sealer;
    let first: Vec<_> = (1..=6).map(|index| (1, numbered(index, index))).collect();
    flush(&mut log, sealer, &first, Some(Vote { term: 1, vote: 2, commit: 3 }));
    // Into another segment, so that one replaces what lies in the one before.
    flush(&mut log, sealer, &[(1, entry(7, vec![bid(7, 50 << 10)]))], None);
    flush(&mut log, sealer, &[(1, entry(8, vec![bid(8, 20 << 10)]))], None);
    assert!(segments(&disk).len() > 1);
    let vote = Vote { term: 4, vote: 3, commit: 4 };
    flush(&mut log, sealer, &[(2, numbered(5, 105)), (4, numbered(6, 106))], Some(vote));
    assert_eq!(log.last()[1], Last { index: 6, term: 4 });
    flush(&mut log, sealer, &[(4, numbered(7, 107))], None);
    drop(log);
    let (mut log, again) = open(&disk).expect("opened");
    let expected: Vec<_> = (1..=4).map(|n| (n, 1, n)).chain([(5, 2, 105), (6, 4, 106), (7, 4, 107)]).collect();
    assert_eq!(found(&again), expected);
    assert_eq!((again.last[1], again.votes[1], again.term), (Last { index: 7, term: 4 }, Some(vote), 4));
    let logs = again.shard_logs().expect("read");
    let terms: Vec<_> = logs[1].entries.iter().map(|placed| (placed.entry.index, placed.term)).collect();
    assert_eq!(terms, expected.iter().map(|(index, term, _)| (*index, *term)).collect::<Vec<_>>());
    // And once more, after a start.
    flush(&mut log, sealer, &[(5, numbered(6, 206))], None);
    drop(log);
    let (_log, again) = open(&disk).expect("opened");
    assert_eq!(found(&again).last(), Some(&(6, 5, 206)));
    let mut lines = Vec::new();
    assert_eq!(verify(&disk, Path::new("/data"), &mut lines).expect("written"), Soundness::Sound);
}

#[test]
fn nothing_below_a_commit_mark_is_replaced_and_nothing_is_repeated() {
    // The entry that comes behind six of term 2 with a mark at 4, and whether the log is sound then.
    for (index, term, sound) in [(5, 3, true), (4, 3, false), (6, 2, false), (5, 1, false), (8, 3, false)] {
        let disk = FaultyDisk::new();
        let (mut log, recovered) = open(&disk).expect("opened");
        let first: Vec<_> = (1..=6).map(|index| (2, numbered(index, index))).collect();
        flush(&mut log, &recovered.sealer, &first, Some(Vote { term: 2, vote: 0, commit: 4 }));
        flush(&mut log, &recovered.sealer, &[(term, numbered(index, 100))], None);
        drop(log);
        match open(&disk) {
            Ok(_) => assert!(sound, "{index} {term}"),
            Err(error) => assert!(!sound && matches!(error, OpenError::Corrupt { .. }), "{index} {term}: {error}"),
        }
    }
}

#[test]
fn a_replaced_skip_passes_nothing_by() {
    let skip = |target| engine::Command {
        action: engine::Action::Skip { index: target, position: 0, place: "engine/src/lot.rs:7".into() },
        ..bid(1, 0)
    };
    let disk = FaultyDisk::new();
    let (mut log, recovered) = open(&disk).expect("opened");
    let entries = [(1, numbered(1, 1)), (1, entry(2, vec![skip(1)])), (1, entry(3, vec![skip(1)]))];
    flush(&mut log, &recovered.sealer, &entries[..2], None);
    drop(log);
    let (mut log, again) = open(&disk).expect("opened");
    assert_eq!(again.skips, [SkipMark { shard: 1, index: 1, position: 0 }]);
    flush(&mut log, &recovered.sealer, &[(2, numbered(2, 2))], None);
    drop(log);
    let (_log, again) = open(&disk).expect("opened");
    assert_eq!(again.skips, []);
}

fn alone() -> RaftOptions {
    RaftOptions {
        node: 1,
        disk: 1,
        members: vec![RaftMember { node: 1, site: 1, witness: false }],
        bootstrap: true,
        doubtful: false,
        both: false,
        fall_back_ticks: 10,
        beat_ticks: 1,
        election_ticks: 5,
        own_election_ticks: 5,
        preferred: Vec::new(),
    }
}

/// Does what is to be done until nothing is; what was committed.
fn settle(raft: &mut Raft, log: &mut Log, sealer: &Sealer) -> Vec<Placed> {
    let (mut batch, mut ready, mut committed) = (Batch::new(), Ready::default(), Vec::new());
    loop {
        ready.clear();
        raft.poll(&mut ready);
        for placed in ready.committed.drain(..) {
            raft.applied(placed.shard, placed.entry.index);
            committed.push(placed);
        }
        if ready.number == 0 {
            return committed;
        }
        batch.clear();
        ready.fill(&mut batch, sealer).expect("encoded");
        log.append(&mut batch).expect("appended");
        raft.persisted(batch.ticket);
    }
}

#[test]
fn a_lone_voter_goes_on_after_every_start() {
    let disk = FaultyDisk::new();
    let mut applied = Vec::new();
    for start in 1..=4 {
        let (mut log, recovered) = open(&disk).expect("opened");
        let mut raft = Raft::new(alone(), recovered.shard_logs().expect("read"));
        let again = settle(&mut raft, &mut log, &recovered.sealer);
        let commands = |placed: &[Placed]| -> Vec<u64> {
            let of_shard = placed.iter().filter(|placed| placed.shard == 1);
            let commands = of_shard.flat_map(|placed| &placed.entry.commands);
            commands.map(|command| command.envelope.request.0 as u64).collect()
        };
        assert_eq!(commands(&again), applied, "all of it comes back, once");
        assert_eq!(raft.lead(1), Lead::Me);
        for number in 0..5 {
            let number = 10 * start + number;
            raft.propose(1, vec![bid(number, 0)]).expect("it leads");
            let done = settle(&mut raft, &mut log, &recovered.sealer);
            assert_eq!(commands(&done), [number]);
            applied.push(number);
        }
    }
}

/// The segments in which it voted are gone: it knows its terms, and never votes twice in one.
#[test]
fn a_lone_voter_goes_on_after_its_log_was_cut() {
    let disk = FaultyDisk::new();
    let (mut terms, mut last) = (vec![0; usize::from(SHARDS)], 0);
    for start in 1..=4 {
        let (mut log, recovered) = open(&disk).expect("opened");
        for (shard, term) in terms.iter().enumerate().filter(|(_, term)| **term > 0) {
            let vote = recovered.votes[shard].expect("it voted");
            assert_eq!((vote.term, vote.vote), (*term, 2), "start {start}, shard {shard}");
        }
        let mut raft = Raft::new(alone(), recovered.shard_logs().expect("read"));
        settle(&mut raft, &mut log, &recovered.sealer);
        for (shard, term) in terms.iter_mut().enumerate() {
            assert_eq!(raft.lead(shard as u16), Lead::Me);
            assert!(raft.term(shard as u16) > *term, "start {start}: a term is nobody's twice");
            *term = raft.term(shard as u16);
        }
        assert_eq!(raft.last_index(1), last + 1, "the entry that begins its term");
        for number in 0..12 {
            raft.propose(1, vec![bid(number, 12_000)]).expect("it leads");
            settle(&mut raft, &mut log, &recovered.sealer);
        }
        last = raft.last_index(1);
        let places: Vec<Last> = log.last().to_vec();
        let mut covered = Vec::new();
        for _ in 0..2 {
            let mut writer = recovered.snapshots.begin(&places).expect("begun");
            writer.frame(1, Section::Engine, None, b"state").expect("written");
            covered = writer.finish().expect("finished");
        }
        log.truncate(&covered).expect("truncated");
        drop(log);
        // Those that wait to be used again go too: the newest but the one that is made ready stays.
        let segments = segments(&disk);
        assert!(segments.len() >= 3, "{segments:?}");
        for path in &segments[..segments.len() - 2] {
            Disk::remove(&disk, path).expect("removed");
        }
    }
}

fn samples() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/samples")
}

/// A log of several terms with replaced entries and marks, as it is stored: it is written and read for ever so.
#[test]
fn the_stored_log_with_replaced_entries_is_written_and_read_as_ever() {
    let disk = FaultyDisk::new();
    let (mut log, recovered) =
        open_with(&disk, persistence::Options { random: counting, ..options() }).expect("opened");
    let sealer = &recovered.sealer;
    let first: Vec<_> = (1..=4).map(|index| (1, numbered(index, index))).collect();
    flush(&mut log, sealer, &first, Some(Vote { term: 1, vote: 2, commit: 1 }));
    flush(&mut log, sealer, &[(3, numbered(3, 103))], Some(Vote { term: 3, vote: 4, commit: 3 }));
    drop(log);
    let path = Path::new("/data/log/0000000000000001.seg");
    let bytes = disk.content(path).expect("there");
    let end = bytes.iter().rposition(|byte| *byte != 0).map_or(0, |last| last + 1);
    let kept = samples().join("replaced-v3/0000000000000001.seg");
    if std::env::var("SAMPLES").is_ok_and(|what| what == "write") {
        std::fs::create_dir_all(samples().join("replaced-v3")).expect("made");
        std::fs::write(&kept, &bytes[..end]).expect("written");
    }
    assert!(std::fs::read(&kept).expect("the sample is in the repository") == bytes[..end], "written differently");
    // Of format 1 as well.
    for kept in [samples().join("replaced/0000000000000001.seg"), kept] {
        let mut bytes = std::fs::read(&kept).expect("the sample is in the repository");
        disk.damage(path, |content| {
            bytes.resize(content.len(), 0);
            content.clone_from(&bytes);
        });
        let (_log, again) = open(&disk).expect("opened");
        assert_eq!(found(&again), [(1, 1, 1), (2, 1, 2), (3, 3, 103)]);
    }
}

/// Numbers in order instead of random ones, for bytes that are the same every time.
fn counting(bytes: &mut [u8]) {
    for (place, byte) in bytes.iter_mut().enumerate() {
        *byte = place as u8 + 1;
    }
}
