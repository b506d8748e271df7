//! Power cuts, killed processes and failing syncs at every operation of a workload that spans segments, snapshots and
//! recycled files; the fault matrix's rows 1, 6 to 11 and 48 for one node.

mod common;

use std::collections::BTreeMap;

use common::*;
use engine::{Command, Entry};
use persistence::faulty::{Crash, FaultyDisk};
use persistence::{
    Batch, Chains, ChainsPart, Head, Last, Log, LogEvent, LogThread, OpenError, Part, Recovered, Section, Vote,
};

/// What a client of the log believes.
#[derive(Clone, Default)]
struct Belief {
    /// The chain of each shard after every entry that was ever proposed.
    heads: BTreeMap<(u16, u64), Head>,
    /// Last index of each shard that was answered.
    acked: [u64; SHARDS as usize],
    /// Last index that was proposed.
    proposed: [u64; SHARDS as usize],
    /// Votes of each shard in the order they were proposed, and how many of them were answered.
    votes: [Vec<Vote>; SHARDS as usize],
    voted: [usize; SHARDS as usize],
    /// Snapshots that were finished.
    snapshots: usize,
}

/// The state that a node would have: here, the chains of its shards.
#[derive(Clone, Default)]
struct State {
    chains: Vec<Chains>,
}

impl State {
    fn new() -> Self {
        Self { chains: vec![Chains::new(); usize::from(SHARDS)] }
    }

    /// Restores the snapshot and replays what follows it.
    fn recover(recovered: &Recovered) -> Result<Self, OpenError> {
        let mut state = Self::new();
        if let Some(snapshot) = &recovered.snapshot {
            let mut parts: BTreeMap<u16, Vec<ChainsPart>> = BTreeMap::new();
            for frame in snapshot.frames() {
                let frame = frame.expect("a sound snapshot");
                let Part::Clear(bytes) = frame.part else { panic!("nothing was erased") };
                if frame.section == Section::Chains {
                    let part = wincode::deserialize_exact(&bytes).expect("a part");
                    parts.entry(frame.shard).or_default().push(part);
                }
            }
            for (shard, parts) in parts {
                state.chains[usize::from(shard)] = Chains::restore(parts);
            }
        }
        for found in recovered.entries() {
            let found = found?;
            state.chains[usize::from(found.shard)].feed(&found.entry, &found.erased);
        }
        Ok(state)
    }
}

/// One command of each kind that is stored in its own way.
fn commands(round: u64) -> Vec<Command> {
    let mut commands = vec![bid(round, 0)];
    if round == 2 {
        commands.push(registration(1, MARKER));
    }
    commands
}

/// Runs the workload until it ends or the disk fails.
fn work(
    log: &mut Log,
    recovered: &Recovered,
    state: &mut State,
    belief: &mut Belief,
    rounds: u64,
) -> Result<(), String> {
    let sealer = &recovered.sealer;
    for round in 1..=rounds {
        let mut batch: Vec<(u16, Entry)> = Vec::new();
        for shard in 0..SHARDS {
            if (round + u64::from(shard)) % 2 == 0 || shard == 1 {
                let padding = if shard == 1 { 4_000 + 500 * (round as usize % 3) } else { 0 };
                let mut list = commands(round);
                list.push(bid(round, padding));
                batch.push((shard, entry(log.last()[usize::from(shard)].index + 1, list)));
            }
        }
        let mut next = state.clone();
        for (shard, entry) in &batch {
            let shard_number = usize::from(*shard);
            next.chains[shard_number].feed(entry, &[]);
            belief.heads.insert((*shard, entry.index), next.chains[shard_number].shard());
            belief.proposed[shard_number] = entry.index;
        }
        let mut records = Batch::new();
        for (shard, entry) in &batch {
            records.push_entry(*shard, 1, entry, sealer).map_err(|error| error.to_string())?;
        }
        // Shard 0 has no vote, shard 1 has many, shard 2 has one, whose segment goes long before the end.
        for shard in [1, 2].into_iter().filter(|shard| if *shard == 1 { round % 4 == 0 } else { round == 3 }) {
            let commit = belief.acked[usize::from(shard)];
            let vote = Vote { term: round, vote: round % 3, commit };
            belief.votes[usize::from(shard)].push(vote);
            records.push_vote(shard, vote).map_err(|error| error.to_string())?;
        }
        log.append(&mut records).map_err(|error| error.to_string())?;
        belief.voted = belief.votes.each_ref().map(Vec::len);
        for (shard, entry) in &batch {
            belief.acked[usize::from(*shard)] = entry.index;
        }
        *state = next;
        if round % 9 == 0 {
            let covered = snapshot(log, recovered, state).map_err(|error| error.to_string())?;
            belief.snapshots += 1;
            log.truncate(&covered).map_err(|error| error.to_string())?;
        }
    }
    Ok(())
}

fn snapshot(log: &Log, recovered: &Recovered, state: &State) -> Result<Vec<u64>, persistence::SnapshotError> {
    let places: Vec<Last> = log.last().to_vec();
    let mut writer = recovered.snapshots.begin(&places)?;
    for (shard, chains) in state.chains.iter().enumerate() {
        for part in chains.snapshot() {
            let bytes = wincode::serialize(&part).expect("encoded");
            writer.frame(shard as u16, Section::Chains, None, &bytes)?;
        }
    }
    let organisation = engine::OrganisationId(1 << 64 | 5);
    writer.frame(0, Section::Accounts, Some(organisation), MARKER.as_bytes())?;
    writer.finish()
}

const ROUNDS: u64 = 45;

/// Opens and works from an empty disk until the planned fault.
fn run(disk: &FaultyDisk) -> (Belief, Result<(), String>) {
    let mut belief = Belief::default();
    let result = (|| {
        let (mut log, recovered) = open(disk).map_err(|error| error.to_string())?;
        let mut state = State::new();
        work(&mut log, &recovered, &mut state, &mut belief, ROUNDS)
    })();
    (belief, result)
}

/// Opens after a crash and checks everything that was promised. Gives where each shard stands.
fn check(disk: &FaultyDisk, belief: &Belief, context: &str) -> Vec<u64> {
    let (mut log, recovered) = match open(disk) {
        Ok(opened) => opened,
        Err(error) => panic!("{context}: {error}"),
    };
    let mut state = State::recover(&recovered).unwrap_or_else(|error| panic!("{context}: {error}"));
    let mut last = Vec::new();
    for shard in 0..SHARDS {
        let place = usize::from(shard);
        let index = recovered.last[place].index;
        assert!(index >= belief.acked[place], "{context}: shard {shard} lost an answered entry");
        assert!(index <= belief.proposed[place], "{context}: shard {shard} has entries nobody sent");
        let head = state.chains[place].shard();
        let expected = belief.heads.get(&(shard, index)).copied().unwrap_or_default();
        assert_eq!(head, expected, "{context}: shard {shard} at {index} is not what was sent");
        last.push(index);
        let votes = &belief.votes[place];
        let found = recovered.votes[place].map(|vote| votes.iter().position(|sent| *sent == vote));
        let count = found.map_or(0, |at| at.unwrap_or_else(|| panic!("{context}: a vote nobody sent")) + 1);
        assert!(count >= belief.voted[place], "{context}: shard {shard} lost a vote: {:?}", recovered.votes);
    }
    // And it goes on.
    let mut after = belief.clone();
    work(&mut log, &recovered, &mut state, &mut after, 2).unwrap_or_else(|error| panic!("{context}: {error}"));
    last
}

/// The workload with a crash at one operation, and what the disk may look like afterwards.
fn crash_at(operation: u64) -> Option<(FaultyDisk, Belief)> {
    let disk = FaultyDisk::new();
    disk.plan(|faults| faults.crash_at = Some(operation));
    let (belief, result) = run(&disk);
    assert_eq!(result.is_err(), disk.faults().crashed, "operation {operation}: {result:?}");
    disk.faults().crashed.then_some((disk, belief))
}

#[test]
fn the_workload_spans_segments_snapshots_and_recycled_files() {
    let disk = FaultyDisk::new();
    let (belief, result) = run(&disk);
    result.expect("nothing fails");
    assert_eq!(belief.snapshots, 5);
    let names: Vec<String> = segments(&disk).iter().map(|path| path.display().to_string()).collect();
    assert!(!names.iter().any(|name| name.ends_with("/0000000000000001.seg")), "{names:?}");
    assert_eq!(snapshots(&disk).len(), 2);
    let (_, recovered) = open(&disk).expect("opened");
    let last = belief.votes.each_ref().map(|votes| votes.last().copied());
    assert!(recovered.votes == last && last[0].is_none() && last[2].is_some_and(|vote| vote.term == 3));
    assert!(recovered.cuts.is_empty(), "stale bytes of recycled files are not a torn tail: {:?}", recovered.cuts);
}

#[test]
fn a_power_cut_at_every_operation_loses_and_doubles_nothing() {
    let mut operation = 1;
    while let Some((disk, belief)) = crash_at(operation) {
        for crash in [Crash::Lost, Crash::Kept, Crash::Random(operation), Crash::Torn(operation), Crash::Process] {
            let disk = disk.fork();
            disk.restart(crash);
            check(&disk, &belief, &format!("crash at operation {operation}, {crash:?}"));
        }
        operation += 1;
    }
    assert!(operation > 150, "only {operation} operations");
}

#[test]
fn a_second_crash_while_recovering_changes_nothing() {
    for operation in (1..).step_by(3) {
        let Some((disk, belief)) = crash_at(operation) else { break };
        for second in 1.. {
            let disk = disk.fork();
            disk.restart(if second % 2 == 0 { Crash::Random(second) } else { Crash::Torn(second) });
            disk.plan(|faults| faults.crash_at = Some(second));
            let opened = open(&disk);
            if opened.is_ok() {
                break;
            }
            drop(opened);
            disk.restart(Crash::Random(operation + second));
            check(&disk, &belief, &format!("crash at operation {operation} and at {second} of the recovery"));
        }
    }
}

#[test]
fn what_a_restarted_process_found_survives_a_power_cut() {
    for operation in (1..).step_by(2) {
        let Some((disk, belief)) = crash_at(operation) else { break };
        disk.restart(Crash::Process);
        let (log, recovered) = open(&disk).unwrap_or_else(|error| panic!("operation {operation}: {error}"));
        let found: Vec<u64> = recovered.last.iter().map(|last| last.index).collect();
        drop(log);
        disk.restart(Crash::Lost);
        let context = format!("killed at operation {operation}, then a power cut");
        assert_eq!(check(&disk, &belief, &context), found, "{context}");
    }
}

#[test]
fn a_failed_sync_ends_it_and_nothing_answered_is_lost() {
    for sync in 1.. {
        let disk = FaultyDisk::new();
        disk.plan(|faults| faults.fail_sync = Some(sync));
        let (belief, result) = run(&disk);
        if disk.faults().syncs < sync {
            break;
        }
        let error = result.expect_err("a failed sync is never passed over");
        assert!(error.contains("device failed"), "{error}");
        for crash in [Crash::Lost, Crash::Process] {
            let disk = disk.fork();
            disk.restart(crash);
            check(&disk, &belief, &format!("failed sync {sync}, {crash:?}"));
        }
    }
}

#[test]
fn secret_parts_are_never_on_the_disk_in_clear() {
    let disk = FaultyDisk::new();
    run(&disk).1.expect("nothing fails");
    let contains = |bytes: &[u8], text: &str| bytes.windows(text.len()).any(|window| window == text.as_bytes());
    let mut public = false;
    for path in disk.files() {
        let bytes = disk.content(&path).expect("there");
        assert!(!contains(&bytes, MARKER), "{}", path.display());
        assert!(!contains(&bytes, "A. Person"), "{}", path.display());
        public |= contains(&bytes, "xxxx");
    }
    assert!(public, "the search finds what is public");
}

/// The same promise with the log's own threads, whose order nobody plans.
#[test]
fn what_the_thread_answered_survives_a_power_cut() {
    let mut failed = 0;
    for operation in (20..400).step_by(5) {
        let disk = FaultyDisk::new();
        let (log, recovered) = open(&disk).expect("opened");
        disk.plan(|faults| faults.crash_at = Some(faults.operations + operation));
        let thread = LogThread::spawn(log).expect("spawned");
        let mut acked = 0;
        let mut batch = Batch::new();
        for index in 1..=120 {
            let next = entry(index, vec![bid(index, 2_000)]);
            batch.push_entry(1, 1, &next, &recovered.sealer).expect("encoded");
            batch.ticket = index;
            if thread.submit(std::mem::take(&mut batch)).is_err() {
                break;
            }
            match thread.events().recv().expect("an answer") {
                LogEvent::Flushed { batch: back } => (acked, batch) = (back.ticket, back),
                LogEvent::Failed { .. } => {
                    failed += 1;
                    break;
                }
                other => panic!("{other:?}"),
            }
        }
        drop(thread);
        disk.restart(if operation % 2 == 0 { Crash::Lost } else { Crash::Random(operation) });
        let (_log, again) = open(&disk).unwrap_or_else(|error| panic!("operation {operation}: {error}"));
        let found = replay(&again);
        assert!(found.len() as u64 >= acked, "operation {operation}: {acked} answered, {} found", found.len());
        for (number, (shard, entry)) in found.iter().enumerate() {
            let index = number as u64 + 1;
            assert_eq!((*shard, entry.index, &entry.commands[0]), (1, index, &bid(index, 2_000)));
        }
    }
    assert!(failed > 20, "the power went {failed} times only");
}
