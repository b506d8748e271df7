//! What a log does while nothing fails, and what it does when there is no space.

mod common;

use std::sync::Arc;
use std::time::Duration;

use common::*;
use engine::{Action, Command, Entry, Envelope};
use persistence::faulty::FaultyDisk;
use persistence::{
    AppendError, Batch, Class, LogEvent, LogThread, OpenError, Options, RealDisk, Section, SkipMark,
    SnapshotError, Vote,
};

#[test]
fn what_was_appended_comes_back_in_order() {
    let disk = FaultyDisk::new();
    let (mut log, recovered) = open(&disk).expect("opened");
    assert!(recovered.entries().next().is_none() && recovered.term == 0);
    let sealer = recovered.sealer.clone();
    let mut written = Vec::new();
    for round in 1..=40 {
        let batch = [
            (0, entry(round, vec![registration(round, MARKER)])),
            (2, entry(2 * round - 1, vec![bid(round, 0), bid(round, 700)])),
            (2, entry(2 * round, Vec::new())),
        ];
        append(&mut log, &sealer, &batch).expect("appended");
        written.extend(batch);
    }
    assert!(segments(&disk).len() > 1, "several segments");
    drop(log);
    let (mut log, again) = open(&disk).expect("opened");
    assert_eq!(again.history, recovered.history);
    assert_eq!(again.last.iter().map(|last| last.index).collect::<Vec<_>>(), [40, 0, 80]);
    assert_eq!((again.term, again.cuts.len()), (1, 0));
    assert_eq!(replay(&again), written);
    append(&mut log, &sealer, &[(1, entry(1, vec![bid(1, 0)]))]).expect("goes on");
    drop(log);
    let (_log, again) = open(&disk).expect("opened");
    assert_eq!(replay(&again).len(), written.len() + 1);
}

#[test]
fn votes_and_skips_are_found_before_the_replay() {
    let disk = FaultyDisk::new();
    let (mut log, recovered) = open(&disk).expect("opened");
    let skip = Command {
        envelope: Envelope::default(),
        action: Action::Skip { index: 3, position: 1, place: "engine/src/lot.rs:7".into() },
        secret: None,
    };
    let mut batch = Batch::new();
    let vote = Vote { term: 4, vote: 2, commit: 0 };
    batch.push_vote(1, vote).expect("encoded");
    batch.push_entry(1, 4, &entry(1, vec![skip]), &recovered.sealer).expect("encoded");
    log.append(&mut batch).expect("appended");
    drop(log);
    let (_log, again) = open(&disk).expect("opened");
    assert_eq!(again.votes, [None, Some(vote), None]);
    assert_eq!(again.skips, [SkipMark { shard: 1, index: 3, position: 1 }]);
    assert_eq!(again.term, 4);
}

#[test]
fn a_record_larger_than_a_segment_gets_one_of_its_size() {
    let disk = FaultyDisk::new();
    let (mut log, recovered) = open(&disk).expect("opened");
    let sealer = &recovered.sealer;
    let batch = [
        (1, entry(1, vec![bid(1, 0)])),
        (1, entry(2, vec![bid(2, 200 << 10)])),
        (1, entry(3, vec![bid(3, 40 << 10)])),
        (2, entry(1, vec![bid(4, 40 << 10)])),
    ];
    append(&mut log, sealer, &[(0, entry(1, Vec::new()))]).expect("appended");
    append(&mut log, sealer, &batch).expect("appended");
    append(&mut log, sealer, &[(1, entry(4, vec![bid(5, 10)]))]).expect("appended");
    drop(log);
    let (_log, again) = open(&disk).expect("opened");
    assert_eq!(replay(&again)[1..5], batch);
}

#[test]
fn a_folder_of_another_cluster_layout_or_key_is_refused() {
    let disk = FaultyDisk::new();
    let (log, recovered) = open(&disk).expect("opened");
    let second = open(&disk).err().expect("locked");
    assert!(matches!(second, OpenError::Locked { .. }), "{second}");
    drop(log);
    let refused = |options: Options| {
        let error = open_with(&disk, options).err().expect("refused");
        error.to_string()
    };
    let other = refused(Options { cluster: Some(recovered.cluster ^ 1), ..options() });
    assert!(other.contains("/data/meta") && other.contains("cluster"), "{other}");
    let (_log, kept) = open_with(&disk, Options { shards: SHARDS + 1, ..options() }).expect("opened");
    assert_eq!(kept.last.len(), usize::from(SHARDS), "the number of shards is fixed when the folder is made");
    drop(_log);
    let other = refused(Options { keys_dir: "/elsewhere".into(), ..options() });
    assert!(other.contains("/elsewhere/master.key") && other.contains("--keys"), "{other}");
    let other = refused(Options { segment_bytes: 1000, ..options() });
    assert!(other.contains("segment_bytes: 1000") && other.contains("65536"), "{other}");
    open_with(&disk, Options { dir: "/second".into(), keys_dir: "/elsewhere".into(), ..options() })
        .expect("another");
    let other = refused(Options { keys_dir: "/elsewhere".into(), ..options() });
    assert!(other.contains("not the one the data folder was written with"), "{other}");
    open_with(&disk, Options { cluster: Some(recovered.cluster), ..options() }).expect("its own");
}

#[test]
fn a_full_disk_refuses_before_anything_is_hurt_and_comes_back() {
    let disk = FaultyDisk::new();
    let (mut log, recovered) = open(&disk).expect("opened");
    let sealer = &recovered.sealer;
    disk.plan(|faults| faults.capacity = Some(200 << 10));
    let (mut index, mut written) = (0, Vec::new());
    let refused = loop {
        let next = [(1, entry(index + 1, vec![bid(index, 900)]))];
        match append(&mut log, sealer, &next) {
            Ok(()) => (index, _) = (index + 1, written.extend(next)),
            Err(error) => break error,
        }
    };
    assert!(matches!(refused, AppendError::ReadOnly(_)), "{refused}");
    assert!(log.read_only() && index > 60);
    // Ticks still find a place in the reserve.
    for _ in 0..15 {
        let tick = [(1, entry(index + 1, vec![bid(index, 0)]))];
        append_control(&mut log, sealer, &tick).expect("the reserve");
        (index, _) = (index + 1, written.extend(tick));
    }
    log.retry().expect("still full");
    assert!(log.read_only());
    disk.plan(|faults| faults.capacity = None);
    log.retry().expect("space again");
    assert!(!log.read_only());
    let next = [(1, entry(index + 1, vec![bid(index, 900)]))];
    append(&mut log, sealer, &next).expect("appended");
    written.extend(next);
    drop(log);
    let (_log, again) = open(&disk).expect("opened");
    assert_eq!(replay(&again), written);
}

#[test]
fn the_thread_answers_each_batch_and_tells_of_space() {
    assert_eq!(answers_each_batch_and_tells_of_space(|_| false), 0);
}

#[test]
fn a_caller_that_appends_itself_is_answered_alike() {
    // The thread has the log now and then; nearly always the caller gets it.
    assert!(answers_each_batch_and_tells_of_space(|_| true) > 30);
    assert!(answers_each_batch_and_tells_of_space(|index| index % 3 == 0) > 10);
}

/// Fills the disk up, batch by batch; how many of them the caller itself appended.
fn answers_each_batch_and_tells_of_space(here: impl Fn(u64) -> bool) -> u64 {
    let disk = FaultyDisk::new();
    let (log, recovered) = open(&disk).expect("opened");
    let thread = LogThread::spawn(log).expect("spawned");
    disk.plan(|faults| faults.capacity = Some(200 << 10));
    let wait = || thread.events().recv_timeout(Duration::from_secs(60)).expect("an event");
    let mut batch = Batch::new();
    let (mut index, mut flushed, mut appended_here) = (0, 0, 0);
    loop {
        batch.ticket = index + 1;
        batch.class = Class::Ordinary;
        let next = entry(index + 1, vec![bid(index, 900)]);
        batch.push_entry(1, 1, &next, &recovered.sealer).expect("encoded");
        let answer = match if here(index) { thread.append_here(batch) } else { Err(batch) } {
            Ok(event) => {
                appended_here += 1;
                event
            }
            Err(batch) => {
                thread.submit(batch).expect("taken");
                wait()
            }
        };
        match answer {
            LogEvent::Flushed { batch: back } => {
                assert!(back.is_empty() && back.ticket == index + 1);
                (batch, index, flushed) = (back, index + 1, flushed + 1);
            }
            LogEvent::Refused { batch: back } => {
                assert_eq!((back.len(), back.ticket), (1, index + 1));
                assert!(matches!(wait(), LogEvent::ReadOnly));
                break;
            }
            LogEvent::ReadOnly => {
                assert!(matches!(wait(), LogEvent::Flushed { .. } | LogEvent::Refused { .. }));
                break;
            }
            other => panic!("{other:?}"),
        }
    }
    assert!(flushed > 60);
    disk.plan(|faults| faults.capacity = None);
    assert!(matches!(wait(), LogEvent::Writable));
    drop(thread);
    let (_log, again) = open(&disk).expect("opened");
    assert_eq!(replay(&again).len(), flushed as usize);
    appended_here
}

#[test]
fn after_a_failed_sync_nothing_is_answered_and_nothing_is_written() {
    let disk = FaultyDisk::new();
    let (log, recovered) = open(&disk).expect("opened");
    let thread = LogThread::spawn(log).expect("spawned");
    let submit = |index: u64| {
        let mut batch = Batch::new();
        batch.push_entry(1, 1, &entry(index, vec![bid(index, 0)]), &recovered.sealer).expect("encoded");
        thread.submit(batch)
    };
    let wait = || thread.events().recv_timeout(Duration::from_secs(60)).expect("an event");
    submit(1).expect("taken");
    assert!(matches!(wait(), LogEvent::Flushed { .. }));
    // The helper's syncs are over once the next segment is there.
    while segments(&disk).len() < 2 {
        std::thread::yield_now();
    }
    std::thread::sleep(Duration::from_millis(20));
    disk.plan(|faults| faults.fail_sync = Some(faults.syncs + 1));
    submit(2).expect("taken");
    submit(3).ok();
    let event = wait();
    assert!(matches!(event, LogEvent::Failed { .. }), "{event:?}");
    let operations = disk.faults().operations;
    submit(4).ok();
    thread.events().recv_timeout(Duration::from_secs(60)).expect_err("the last event");
    assert_eq!(disk.faults().operations, operations);
}

#[test]
fn works_on_the_real_disk() {
    let dir = tempfile::tempdir().expect("a folder");
    let options = || Options {
        segment_bytes: 64 << 10,
        shards: SHARDS,
        ..Options::new(dir.path().join("data"), dir.path().join("keys"))
    };
    let (log, recovered) = persistence::Log::open(Arc::new(RealDisk), options()).expect("opened");
    let thread = LogThread::spawn(log).expect("spawned");
    let mut written: Vec<(u16, Entry)> = Vec::new();
    let mut batch = Batch::new();
    for round in 1..=150 {
        let next = entry(round, vec![registration(round % 3, MARKER), bid(round, 900)]);
        batch.push_entry(1, 1, &next, &recovered.sealer).expect("encoded");
        batch.ticket = round;
        thread.submit(batch).expect("taken");
        let event = thread.events().recv_timeout(Duration::from_secs(60)).expect("an event");
        let LogEvent::Flushed { batch: back } = event else { panic!("{event:?}") };
        batch = back;
        written.push((1, next));
    }
    drop(thread);
    let (_log, again) = persistence::Log::open(Arc::new(RealDisk), options()).expect("opened");
    assert_eq!(replay(&again), written);
    let second = persistence::Log::open(Arc::new(RealDisk), options()).err().expect("locked");
    assert!(matches!(second, OpenError::Locked { .. }), "{second}");
}

#[test]
fn what_was_handed_over_is_flushed_when_the_handle_goes_and_a_truncator_does_not_hold_it() {
    let disk = FaultyDisk::new();
    let (log, recovered) = open(&disk).expect("opened");
    let thread = LogThread::spawn(log).expect("spawned");
    let truncator = thread.truncator().expect("running");
    for index in 1..=20 {
        let mut batch = Batch::new();
        batch.push_entry(1, 1, &entry(index, vec![bid(index, 0)]), &recovered.sealer).expect("encoded");
        thread.submit(batch).expect("taken");
    }
    drop(thread);
    truncator.truncate(vec![0; 3]).expect_err("ended");
    let (_log, again) = open(&disk).expect("opened");
    assert_eq!(replay(&again).len(), 20);
}

#[test]
fn a_snapshot_without_space_leaves_nothing_and_hurts_nothing() {
    let disk = FaultyDisk::new();
    let (mut log, recovered) = open(&disk).expect("opened");
    append(&mut log, &recovered.sealer, &[(1, entry(1, vec![bid(1, 0)]))]).expect("appended");
    let files = disk.files();
    let used: usize = files.iter().filter_map(|path| disk.content(path)).map(|bytes| bytes.len()).sum();
    disk.plan(|faults| faults.capacity = Some(used as u64 + 300_000));
    let mut writer = recovered.snapshots.begin(log.last()).expect("begun");
    let part = vec![1; 200_000];
    let written: Result<(), _> = (0..4).try_for_each(|_| writer.frame(1, Section::Engine, None, &part));
    assert!(matches!(written, Err(SnapshotError::Disk { .. })), "{written:?}");
    drop(writer);
    assert_eq!(disk.files(), files);
    let large =
        recovered.snapshots.begin(log.last()).expect("begun").frame(1, Section::Engine, None, &vec![0; 1 << 21]);
    assert!(matches!(large, Err(SnapshotError::TooLarge(_))));
    append(&mut log, &recovered.sealer, &[(1, entry(2, vec![bid(2, 0)]))]).expect("appended");
}

#[test]
fn one_large_batch_does_not_eat_the_reserve() {
    let disk = FaultyDisk::new();
    let (mut log, recovered) = open(&disk).expect("opened");
    disk.plan(|faults| faults.capacity = Some(66 << 10));
    let large = |index| [(1, entry(index, vec![bid(index, 20_000)]))];
    append(&mut log, &recovered.sealer, &large(1)).expect("appended");
    append(&mut log, &recovered.sealer, &large(2)).expect("appended");
    assert!(!log.read_only());
    let refused =
        append(&mut log, &recovered.sealer, &large(3)).expect_err("it would leave less than the reserve");
    assert!(matches!(refused, AppendError::ReadOnly(_)) && log.read_only());
    append_control(&mut log, &recovered.sealer, &large(3)).expect("control batches may");
}

/// A tick that finds no room is refused while others are still taken; whoever heard of the refusal must hear that.
#[test]
fn behind_each_refusal_the_space_is_told_of_again() {
    for here in [false, true] {
        let disk = FaultyDisk::new();
        let (log, recovered) = open(&disk).expect("opened");
        let thread = LogThread::spawn(log).expect("spawned");
        let wait = || thread.events().recv_timeout(Duration::from_secs(60)).expect("an event");
        let mut batch = Batch::new();
        batch.ticket = 1;
        batch.class = Class::Control;
        // Larger than a segment: it wants one of its own, for which there is no space; others find their place.
        disk.plan(|faults| faults.capacity = Some(200 << 10));
        let large = entry(1, vec![bid(0, 1 << 20)]);
        batch.push_entry(1, 1, &large, &recovered.sealer).expect("encoded");
        let refused = match if here { thread.append_here(batch) } else { Err(batch) } {
            Ok(event) => event,
            Err(batch) => {
                thread.submit(batch).expect("taken");
                wait()
            }
        };
        assert!(matches!(refused, LogEvent::Refused { .. }), "{refused:?}");
        let mut told = wait();
        if matches!(told, LogEvent::ReadOnly) {
            disk.plan(|faults| faults.capacity = None);
            told = wait();
        }
        assert!(matches!(told, LogEvent::Writable), "{told:?}");
    }
}
