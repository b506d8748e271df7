//! Terms, votes and commit marks outlive the segments they were written in.

mod common;

use std::path::{Path, PathBuf};

use common::*;
use persistence::faulty::FaultyDisk;
use persistence::inspect::inspect;
use persistence::{Batch, Disk, Last, Log, Options, Recovered, Seal, Section, Vote};
use serde_json::Value;

const FIRST: Vote = Vote { term: 3, vote: 2, commit: 0 };

/// Appends one entry of shard 1 with `padding` bytes, and behind it the votes.
fn flush(log: &mut Log, recovered: &Recovered, padding: usize, votes: &[(u16, Vote)]) {
    let mut batch = Batch::new();
    let next = entry(log.last()[1].index + 1, vec![bid(1, padding)]);
    batch.push_entry(1, 3, &next, &recovered.sealer).expect("encoded");
    for (shard, vote) in votes {
        batch.push_vote(*shard, *vote).expect("encoded");
    }
    log.append(&mut batch).expect("appended");
}

/// Two snapshots of all that is there, so that both kept ones cover it, and every segment goes that may.
fn truncate(log: &mut Log, recovered: &Recovered) {
    let places: Vec<Last> = log.last().to_vec();
    let mut covered = Vec::new();
    for _ in 0..2 {
        let mut writer = recovered.snapshots.begin(&places).expect("begun");
        writer.frame(1, Section::Engine, None, b"state").expect("written");
        covered = writer.finish().expect("finished");
    }
    log.truncate(&covered).expect("truncated");
}

/// Kind, shard, term and index of a record.
type Found = (String, u64, u64, u64);

/// The records of each segment.
fn records(disk: &FaultyDisk) -> Vec<(String, Vec<Found>)> {
    let mut lines = Vec::new();
    inspect(disk, Path::new("/data"), &mut lines).expect("written");
    let mut files: Vec<(String, Vec<_>)> = Vec::new();
    for line in String::from_utf8(lines).expect("text").lines() {
        let line: Value = serde_json::from_str(line).expect("JSON");
        let Some(kind) = line["kind"].as_str() else { continue };
        let file = line["file"].as_str().expect("a file").to_owned();
        if files.last().is_none_or(|(last, _)| *last != file) {
            files.push((file, Vec::new()));
        }
        let number = |name: &str| line[name].as_u64().expect("a number");
        let record = (kind.to_owned(), number("shard"), number("term"), number("index"));
        files.last_mut().expect("one").1.push(record);
    }
    files
}

/// Leaves of the log the newest segment with records alone, as if all before had been removed.
fn leave_the_last(disk: &FaultyDisk) -> PathBuf {
    let last = records(disk).last().expect("some").0.clone();
    let last = Path::new("/data/log").join(last);
    for path in segments(disk).into_iter().filter(|path| *path < last) {
        Disk::remove(disk, &path).expect("removed");
    }
    last
}

#[test]
fn every_segment_begins_with_the_votes_in_force() {
    for seal in [Seal::Secrets, Seal::All] {
        let options = || Options { seal, ..options() };
        let disk = FaultyDisk::new();
        let (mut log, recovered) = open_with(&disk, options()).expect("opened");
        flush(&mut log, &recovered, 100, &[(1, FIRST)]);
        for round in 1..=4 {
            flush(&mut log, &recovered, 30 << 10, &[]);
            flush(&mut log, &recovered, 30 << 10, &[(2, Vote { term: 5 + round, vote: 1, commit: 0 })]);
        }
        let files = records(&disk);
        assert!(files.len() >= 4, "{files:?}");
        let mut second = None;
        for (number, (name, records)) in files.iter().enumerate() {
            let head: Vec<_> = records.iter().take_while(|(kind, ..)| kind != "entry").cloned().collect();
            let vote = |shard: u64, term: u64| ("vote".to_owned(), shard, term, 0);
            let mut expected = vec![("open".to_owned(), 0, 0, number as u64 + 1)];
            expected.extend((number > 0).then(|| vote(1, FIRST.term)));
            expected.extend(second.map(|term| vote(2, term)));
            assert_eq!(head, expected, "{name}");
            let votes = records.iter().filter(|(kind, shard, ..)| kind == "vote" && *shard == 2);
            second = votes.map(|(_, _, term, _)| *term).next_back().or(second);
        }
        truncate(&mut log, &recovered);
        drop(log);
        leave_the_last(&disk);
        let (mut log, again) = open_with(&disk, options()).expect("opened");
        let votes = [None, Some(FIRST), Some(Vote { term: 9, vote: 1, commit: 0 })];
        assert_eq!((again.votes.as_slice(), again.term), (votes.as_slice(), 9));
        assert_eq!(again.shard_logs().expect("read")[1].vote, Some(FIRST));
        // And so on, after a start.
        for _ in 0..4 {
            flush(&mut log, &again, 30 << 10, &[]);
        }
        truncate(&mut log, &again);
        drop(log);
        leave_the_last(&disk);
        assert_eq!(open_with(&disk, options()).expect("opened").1.votes, votes);
    }
}

#[test]
fn a_flush_that_spans_segments_carries_the_votes_it_brings() {
    for seal in [Seal::Secrets, Seal::All] {
        let options = || Options { seal, ..options() };
        let disk = FaultyDisk::new();
        let (mut log, recovered) = open_with(&disk, options()).expect("opened");
        let mut batch = Batch::new();
        for index in 1..=6 {
            // Each of them fills a segment to the last bytes that opening record and votes leave.
            let next = entry(index, vec![bid(index, 61_000)]);
            batch.push_entry(1, 3, &next, &recovered.sealer).expect("encoded");
            batch.push_vote(index as u16 % 3, Vote { term: index, vote: 1, commit: 0 }).expect("encoded");
        }
        log.append(&mut batch).expect("appended");
        assert!(records(&disk).len() >= 5);
        truncate(&mut log, &recovered);
        drop(log);
        leave_the_last(&disk);
        let (_log, again) = open_with(&disk, options()).expect("opened");
        let terms: Vec<_> = again.votes.iter().map(|vote| vote.expect("a vote").term).collect();
        assert_eq!((terms, again.last[1].index), (vec![6, 4, 5], 6));
    }
}

#[test]
fn a_record_of_any_size_finds_room_behind_the_votes() {
    for padding in (60_900..61_500).step_by(8) {
        let disk = FaultyDisk::new();
        let (mut log, recovered) = open(&disk).expect("opened");
        let votes: Vec<_> = (0..SHARDS).map(|shard| (shard, FIRST)).collect();
        flush(&mut log, &recovered, 30 << 10, &votes);
        flush(&mut log, &recovered, padding, &[]);
        flush(&mut log, &recovered, padding, &votes);
        drop(log);
        let (_log, again) = open(&disk).expect("opened");
        assert_eq!((again.last[1].index, replay(&again).len(), again.cuts.len()), (3, 3, 0), "{padding}");
        assert_eq!(again.votes, [Some(FIRST); SHARDS as usize]);
    }
}

#[test]
fn the_segment_with_the_only_record_of_a_vote_stays() {
    let disk = FaultyDisk::new();
    let (mut log, recovered) = open(&disk).expect("opened");
    flush(&mut log, &recovered, 30 << 10, &[(1, FIRST)]);
    flush(&mut log, &recovered, 10 << 10, &[]);
    // The next segment's first flush is torn behind its opening record: it has no vote, and is written on.
    flush(&mut log, &recovered, 30 << 10, &[]);
    drop(log);
    let second = Path::new("/data/log/0000000000000002.seg");
    let vote = 4096 + 32 + (4 + 8 + 16 * usize::from(SHARDS)).next_multiple_of(8);
    disk.damage(second, |bytes| bytes[vote..].fill(0));
    let (mut log, again) = open(&disk).expect("opened");
    assert_eq!((again.votes[1], again.last[1].index), (Some(FIRST), 2));
    flush(&mut log, &again, 100, &[]);
    truncate(&mut log, &again);
    assert!(segments(&disk).contains(&"/data/log/0000000000000001.seg".into()));
    let (first, records_of_second) = (records(&disk)[0].clone(), records(&disk)[1].clone());
    assert!(first.1.iter().any(|record| record.0 == "vote") && records_of_second.1.len() == 2);
    // Three more segments, so that whatever may go is made anew.
    for round in 0..9 {
        flush(&mut log, &again, 30 << 10, &[]);
        assert_eq!(open(&disk.fork()).expect("opened").1.votes[1], Some(FIRST), "{round}");
        truncate(&mut log, &again);
    }
    assert!(!segments(&disk).contains(&"/data/log/0000000000000001.seg".into()), "it goes in the end");
}

/// Takes the carried votes out of a segment, as earlier programs wrote it: `votes` records behind the opening one. What
/// lies behind them moves up, and so does the end of the segment before where that one lost as many.
fn as_before(bytes: &[u8], votes: usize, moved_before: bool) -> Vec<u8> {
    const VOTE: usize = 32 + 8;
    let number = |bytes: &[u8], at: usize| u32::from_le_bytes(bytes[at..at + 4].try_into().expect("four bytes"));
    let mut out = bytes[..4096].to_vec();
    let (mut at, mut count) = (4096, 0);
    while bytes[at + 30] != 0 {
        let end = at + (32 + number(bytes, at + 4) as usize).next_multiple_of(8);
        let mut record = bytes[at..end].to_vec();
        (at, count) = (end, count + 1);
        if (2..2 + votes).contains(&count) {
            assert_eq!((record.len(), record[30]), (VOTE, 3), "a vote");
            continue;
        }
        if count == 1 && moved_before {
            let end = number(&record, 32) - (votes * VOTE) as u32;
            record[32..36].copy_from_slice(&end.to_le_bytes());
        }
        let synced = number(&record, 24);
        if synced > 4096 {
            record[24..28].copy_from_slice(&(synced - (votes * VOTE) as u32).to_le_bytes());
        }
        let crc = crc32c::crc32c(&bytes[56..64]);
        let crc = crc32c::crc32c_append(crc, &(out.len() as u32).to_le_bytes());
        let crc = crc32c::crc32c_append(crc, &record[4..]);
        record[..4].copy_from_slice(&crc.to_le_bytes());
        out.extend(record);
    }
    out.resize(bytes.len(), 0);
    out
}

#[test]
fn of_an_earlier_programs_log_the_segment_with_the_vote_stays() {
    let disk = FaultyDisk::new();
    let (mut log, recovered) = open(&disk).expect("opened");
    flush(&mut log, &recovered, 40 << 10, &[(1, FIRST)]);
    for _ in 0..8 {
        flush(&mut log, &recovered, 30 << 10, &[]);
    }
    drop(log);
    let names: Vec<String> = records(&disk).into_iter().map(|(name, _)| name).collect();
    assert!(names.len() > 4);
    for (number, name) in names.iter().enumerate().skip(1) {
        disk.damage(&Path::new("/data/log").join(name), |bytes| *bytes = as_before(bytes, 1, number > 1));
    }
    let votes = |disk: &FaultyDisk| records(disk).iter().flat_map(|(_, found)| found.clone()).collect::<Vec<_>>();
    assert_eq!(votes(&disk).iter().filter(|record| record.0 == "vote").count(), 1);
    let (mut log, again) = open(&disk).expect("opened");
    assert_eq!((again.votes[1], again.last[1].index), (Some(FIRST), 9));
    truncate(&mut log, &again);
    assert_eq!(open(&disk.fork()).expect("opened").1.votes[1], Some(FIRST));
    assert_eq!(segments(&disk)[0], Path::new("/data/log").join(&names[0]), "nothing else has the vote");
    for round in 0..4 {
        flush(&mut log, &again, 30 << 10, &[]);
        truncate(&mut log, &again);
        assert_eq!(open(&disk.fork()).expect("opened").1.votes[1], Some(FIRST), "{round}");
    }
    assert!(segments(&disk)[0] > Path::new("/data/log").join(&names[1]), "they go when it is carried");
}

#[test]
fn without_votes_nothing_more_is_written() {
    let disk = FaultyDisk::new();
    let (mut log, recovered) = open(&disk).expect("opened");
    for _ in 0..4 {
        flush(&mut log, &recovered, 30 << 10, &[]);
    }
    let files = records(&disk);
    assert!(files.len() > 1);
    for (name, records) in files {
        let kinds: Vec<_> = records.iter().map(|record| record.0.as_str()).collect();
        assert!(kinds[0] == "open" && kinds[1..].iter().all(|kind| *kind == "entry"), "{name}: {kinds:?}");
    }
}
