//! Heads of the trees in the log: what segments state, what of it can be checked, and what a changed log shows by it.

mod common;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use common::*;
use engine::{Command, Entry};
use persistence::checkpoint::AuditSigner;
use persistence::faulty::{Crash, FaultyDisk};
use persistence::inspect::{Soundness, inspect, verify_with};
use persistence::merkle::{Hash, empty_root, node_hash};
use persistence::{
    AuditPlace, AuditShard, Batch, Disk, Keys, Last, Log, OpenError, Options, Recovered, Seal, Section, TreeHead,
    Vote, leaf_hash,
};
use serde_json::Value;

const DATA: &str = "/data";

/// The root as RFC 9162 section 2.1.1 defines it.
fn root_of(leaves: &[Hash]) -> Hash {
    match leaves {
        [] => empty_root(),
        [leaf] => *leaf,
        _ => {
            let (left, right) = leaves.split_at(leaves.len().next_power_of_two() / 2);
            node_hash(&root_of(left), &root_of(right))
        }
    }
}

/// Size and root of each shard's tree as of each entry that was written.
#[derive(Default)]
struct Roots {
    leaves: BTreeMap<u16, Vec<Hash>>,
    by: BTreeMap<(u16, u64), (u64, Hash)>,
}

impl Roots {
    fn add(&mut self, shard: u16, entry: &Entry) {
        let leaves = self.leaves.entry(shard).or_default();
        leaves.extend(entry.commands.iter().map(leaf_hash));
        self.by.insert((shard, entry.index), (leaves.len() as u64, root_of(leaves)));
    }

    fn check(&self, stated: &[(u16, TreeHead)]) {
        for (shard, head) in stated {
            let found = (head.size(), head.root());
            assert_eq!(self.by.get(&(*shard, head.index)), Some(&found), "shard {shard} as of {}", head.index);
        }
    }
}

/// A node: its log, and the audits of its shards, some entries behind.
struct Node {
    log: Log,
    recovered: Recovered,
    audits: Vec<AuditShard>,
    waiting: Vec<(u16, Entry)>,
    lag: usize,
}

impl Node {
    fn open(disk: &FaultyDisk, options: Options, lag: usize) -> Result<Self, OpenError> {
        let (log, recovered) = open_with(disk, options)?;
        let shared: Arc<dyn Disk> = Arc::new(disk.clone());
        let place = AuditPlace::new(shared, Path::new(DATA), recovered.sealer.clone(), recovered.history)
            .telling(log.tree_heads());
        let open = |shard| {
            AuditShard::open(&place, shard, vec![], vec![])
                .map_err(|error| OpenError::Disk { path: DATA.into(), error })
        };
        let mut audits = (0..SHARDS).map(open).collect::<Result<Vec<_>, _>>()?;
        for found in recovered.entries_from_start() {
            let found = found?;
            audits[usize::from(found.shard)].feed(&found.entry, &found.erased);
        }
        Ok(Self { log, recovered, audits, waiting: Vec::new(), lag })
    }

    fn append(&mut self, entries: &[(u16, Entry)]) -> Result<(), String> {
        append(&mut self.log, &self.recovered.sealer, entries).map_err(|error| error.to_string())?;
        self.waiting.extend(entries.iter().cloned());
        let done = self.waiting.len().saturating_sub(self.lag);
        for (shard, entry) in self.waiting.drain(..done) {
            self.audits[usize::from(shard)].feed(&entry, &[]);
        }
        Ok(())
    }

    /// One flush: commands with and without a secret part, and enough bytes that segments are full before long.
    fn round(&mut self, round: u64, padding: usize, roots: &mut Roots) -> Result<(), String> {
        let mut entries = Vec::new();
        let mut push = |shard: u16, commands: Vec<Command>| {
            let next = entry(self.log.last()[usize::from(shard)].index + 1, commands);
            roots.add(shard, &next);
            entries.push((shard, next));
        };
        push(1, vec![bid(round, 0), bid(round, padding)]);
        if round.is_multiple_of(3) {
            push(0, vec![registration(round, MARKER)]);
        }
        // For the most part nothing comes in shard 2.
        if round < 4 {
            push(2, (0..round).map(|number| bid(number, 0)).collect());
        }
        self.append(&entries)
    }

    fn truncate(&mut self) {
        let places: Vec<Last> = self.log.last().to_vec();
        let mut covered = Vec::new();
        for _ in 0..2 {
            let mut writer = self.recovered.snapshots.begin(&places).expect("begun");
            writer.frame(1, Section::Engine, None, b"state").expect("written");
            covered = writer.finish().expect("finished");
        }
        self.log.truncate(&covered).expect("truncated");
    }
}

/// What `log verify` ends with: the verdict, and its last line.
fn verified(disk: &FaultyDisk) -> (Soundness, Value) {
    verified_with(disk, None)
}

fn verified_with(disk: &FaultyDisk, keys: Option<&Arc<Keys>>) -> (Soundness, Value) {
    let mut lines = Vec::new();
    let soundness = verify_with(disk, Path::new(DATA), keys, &mut lines).expect("written");
    let text = String::from_utf8(lines).expect("text");
    (soundness, serde_json::from_str(text.lines().last().expect("a line")).expect("JSON"))
}

fn heads_of(line: &Value) -> [u64; 3] {
    ["checked", "unchecked", "signed_roots"].map(|name| line["tree_heads"][name].as_u64().expect("a number"))
}

/// The records of each segment as `log inspect` tells them.
fn records(disk: &FaultyDisk) -> BTreeMap<String, Vec<Value>> {
    let mut lines = Vec::new();
    inspect(disk, Path::new(DATA), &mut lines).expect("written");
    let mut files: BTreeMap<String, Vec<Value>> = BTreeMap::new();
    for line in String::from_utf8(lines).expect("text").lines() {
        let line: Value = serde_json::from_str(line).expect("JSON");
        if line["kind"].is_string() {
            files.entry(line["file"].as_str().expect("a file").to_owned()).or_default().push(line);
        }
    }
    files
}

fn log_of(file: &str) -> PathBuf {
    Path::new("/data/log").join(file)
}

/// Gives the record at `offset` the checksum that belongs to its bytes, as somebody who wants to hide a change would.
fn seal(bytes: &mut [u8], offset: usize) {
    let length = u32::from_le_bytes(bytes[offset + 4..offset + 8].try_into().expect("four bytes"));
    let end = offset + (32 + length as usize).next_multiple_of(8);
    let crc = crc32c::crc32c(&bytes[56..64]);
    let crc = crc32c::crc32c_append(crc, &(offset as u32).to_le_bytes());
    let crc = crc32c::crc32c_append(crc, &bytes[offset + 4..end]);
    bytes[offset..offset + 4].copy_from_slice(&crc.to_le_bytes());
}

const ROUNDS: u64 = 40;

/// A log of several segments whose audit is `lag` entries behind.
fn several(options: Options, lag: usize) -> (FaultyDisk, Node, Roots) {
    let disk = FaultyDisk::new();
    let mut roots = Roots::default();
    let mut node = Node::open(&disk, options, lag).expect("opened");
    for round in 1..=ROUNDS {
        node.round(round, 6_000, &mut roots).expect("appended");
    }
    (disk, node, roots)
}

#[test]
fn every_segment_states_the_trees_as_of_what_was_hashed() {
    for lag in [0, 1, 7, 1000] {
        let (disk, node, roots) = several(options(), lag);
        drop(node);
        let (_log, recovered) = open(&disk).expect("opened");
        roots.check(&recovered.tree_heads);
        assert_eq!(
            recovered.tree_heads.is_empty(),
            lag == 1000,
            "what is not hashed is not stated, and not waited for"
        );
        let files = records(&disk);
        assert!(files.len() > 4);
        let (mut begins, mut stated) = (Vec::new(), 0);
        for (file, records) in &files {
            let heads: Vec<&Value> = records.iter().filter(|record| record["kind"] == "tree_head").collect();
            stated += heads.len();
            assert_eq!(heads.is_empty(), begins.is_empty() || lag == 1000, "{file}");
            let is_head = |record: &&Value| record["kind"] != "entry";
            assert_eq!(records.iter().take_while(is_head).count(), 1 + heads.len(), "{file}: before all entries");
            // As of the beginning of the segment before, and as of the newest.
            let before = begins.last().copied().unwrap_or_default();
            let of_shard_1: Vec<u64> = heads
                .iter()
                .filter(|head| head["shard"] == 1)
                .map(|head| head["index"].as_u64().expect("one"))
                .collect();
            begins.push(
                records
                    .iter()
                    .find(|r| r["kind"] == "entry" && r["shard"] == 1)
                    .map_or(0, |record| record["index"].as_u64().expect("one") - 1),
            );
            let now = begins[begins.len() - 1];
            if lag == 0 && begins.len() > 1 {
                let expected = if before == 0 { vec![now] } else { vec![before, now] };
                assert_eq!(of_shard_1, expected, "{file}");
            } else if lag == 7 && begins.len() > 2 {
                assert!(
                    of_shard_1[0] == before && (before + 1..now).contains(&of_shard_1[1]),
                    "{file}: {of_shard_1:?}"
                );
            }
            for head in heads {
                let place = (head["shard"].as_u64().expect("one") as u16, head["index"].as_u64().expect("one"));
                let root: String = roots.by[&place].1.iter().map(|byte| format!("{byte:02x}")).collect();
                assert_eq!(
                    (head["size"].as_u64(), head["root"].as_str()),
                    (Some(roots.by[&place].0), Some(&*root))
                );
            }
        }
        let (soundness, line) = verified(&disk);
        assert_eq!((soundness, heads_of(&line)), (Soundness::Sound, [stated as u64, 0, 0]), "lag {lag}");
    }
}

#[test]
fn segments_are_checked_without_those_before_them() {
    for lag in [0, 7] {
        let (disk, mut node, roots) = several(options(), lag);
        node.truncate();
        // Two old segments wait to be used again; more rounds do so.
        let mut more = Roots { leaves: roots.leaves, by: roots.by };
        for round in ROUNDS + 1..=2 * ROUNDS {
            node.round(round, 6_000, &mut more).expect("appended");
        }
        drop(node);
        let (_log, recovered) = open(&disk).expect("opened");
        more.check(&recovered.tree_heads);
        let files = records(&disk);
        assert!(!files.contains_key("0000000000000001.seg"), "the beginning is gone");
        let (soundness, line) = verified(&disk);
        let [checked, unchecked, _] = heads_of(&line);
        assert!(soundness == Soundness::Sound && checked > 2 * (files.len() as u64 - 3), "{line}");
        assert!(unchecked <= 9, "the first ones have nothing before them: {line}");
        // A changed bid in any segment but the last ones is found, though every checksum holds.
        let newest =
            recovered.tree_heads.iter().filter(|(shard, _)| *shard == 1).map(|(_, head)| head.index).max();
        let (mut found, mut beyond) = (0, 0);
        for (file, records) in &files {
            for record in records.iter().filter(|record| record["kind"] == "entry" && record["shard"] == 1) {
                let offset = record["offset"].as_u64().expect("one") as usize;
                let fork = disk.fork();
                fork.damage(&log_of(file), |bytes| {
                    // A letter of the text that fills it up.
                    let end = offset + record["length"].as_u64().expect("one") as usize;
                    assert_eq!(bytes[end], b'x');
                    bytes[end] = b'y';
                    seal(bytes, offset);
                });
                let (soundness, line) = verified(&fork);
                if record["index"].as_u64() <= newest {
                    let error = line["error"].as_str().expect("an error");
                    assert_eq!(soundness, Soundness::Corrupt, "{file} {offset}");
                    assert!(error.contains("tree head") && error.contains("of shard 1"), "{error}");
                    assert!(line["offset"].as_u64().is_some_and(|at| at > 4096), "{line}");
                    found += 1;
                } else {
                    assert_eq!(soundness, Soundness::Sound, "nothing is stated of it yet");
                    beyond += 1;
                }
            }
        }
        assert!(found > 10 && beyond > 0, "{found} {beyond}");
    }
}

#[test]
fn a_changed_statement_or_log_is_told_at_the_next_start_too() {
    let (disk, node, _) = several(options(), 3);
    let disputed =
        |node: &Node| node.audits.iter().map(|audit| audit.disputed().map(|head| head.index)).collect::<Vec<_>>();
    assert_eq!(disputed(&node), [None, None, None]);
    drop(node);
    let again = Node::open(&disk, options(), 3).expect("opened");
    assert_eq!(disputed(&again), [None, None, None], "the log gives what it states");
    drop(again);
    let files = records(&disk);
    let (file, second) = files.iter().nth(2).expect("there");
    let head =
        second.iter().rfind(|record| record["kind"] == "tree_head" && record["shard"] == 1).expect("stated");
    let offset = head["offset"].as_u64().expect("one") as usize;
    // One bit of a hash; of the size there must be as many hashes as it has bits.
    for place in [32 + 24, 32 + 8] {
        let fork = disk.fork();
        fork.damage(&log_of(file), |bytes| {
            bytes[offset + place] ^= 3;
            seal(bytes, offset);
        });
        let (soundness, line) = verified(&fork);
        assert_eq!((soundness, line["offset"].as_u64()), (Soundness::Corrupt, Some(offset as u64)), "{line}");
        let node = Node::open(&fork, options(), 3).expect("it can be used");
        let is_told = disputed(&node)[1];
        assert!(is_told == head["index"].as_u64() || place == 32 + 8, "{is_told:?}");
    }
    // Beyond what is before it, or not of a tree's length: no log writes that.
    for (place, value) in [(8, u8::MAX), (4, 25)] {
        let fork = disk.fork();
        fork.damage(&log_of(file), |bytes| {
            bytes[offset + place] = value;
            seal(bytes, offset);
        });
        let error = open(&fork).err().expect("refused").to_string();
        assert!(error.contains(file) && error.contains(&format!("offset {offset}")), "{error}");
    }
}

#[test]
fn signed_roots_are_held_against_the_log() {
    let disk = FaultyDisk::new();
    let (mut roots, mut sizes) = (Roots::default(), Vec::new());
    let mut node = Node::open(&disk, options(), 0).expect("opened");
    let signer = AuditSigner::open(node.recovered.sealer.keys()).expect("a key");
    for round in 1..=ROUNDS {
        node.round(round, 6_000, &mut roots).expect("appended");
        if round % 13 == 0 {
            let audit = &mut node.audits[1];
            sizes.push((audit.size(), audit.root()));
            let root = signer.checkpoint("epoch", 1, audit.size(), audit.root(), engine::LogTime(round as i64));
            audit.keep(&root);
        }
    }
    node.audits[1].sync().expect("written");
    let (soundness, line) = verified(&disk);
    assert_eq!((soundness, heads_of(&line)[2]), (Soundness::Sound, sizes.len() as u64), "{line}");
    // The last root covers entries that no head is stated of; a bid among them that was changed shows by it.
    let files = records(&disk);
    let (file, last) = files.iter().next_back().expect("there");
    let of_root = |record: &&Value| record["kind"] == "entry" && record["shard"] == 1 && record["index"] == 39;
    let record = last.iter().find(of_root).expect("one");
    let offset = record["offset"].as_u64().expect("one") as usize;
    disk.damage(&log_of(file), |bytes| {
        bytes[offset + record["length"].as_u64().expect("one") as usize] = b'y';
        seal(bytes, offset);
    });
    let (soundness, line) = verified(&disk);
    let error = line["error"].as_str().expect("an error");
    assert!(
        soundness == Soundness::Corrupt && error.contains("0001.roots") && error.contains("signed"),
        "{error}"
    );
}

#[test]
fn sealed_segments_state_them_too_and_are_checked_by_who_has_the_keys() {
    let sealed = || Options { seal: Seal::All, ..options() };
    let (disk, node, roots) = several(sealed(), 2);
    drop(node);
    let again = Node::open(&disk, sealed(), 2).expect("opened");
    roots.check(&again.recovered.tree_heads);
    assert!(again.recovered.tree_heads.len() > 8);
    assert!(again.audits.iter().all(|audit| audit.disputed().is_none()), "the replay finds all of them");
    drop(again);
    let (soundness, line) = verified(&disk);
    assert_eq!((soundness, heads_of(&line)), (Soundness::Sound, [0, 0, 0]), "without keys nothing is read");
    let (log, recovered) = open_with(&disk, sealed()).expect("opened");
    let (keys, stated) = (Arc::clone(recovered.sealer.keys()), recovered.tree_heads.len() as u64);
    drop((log, recovered));
    let (soundness, line) = verified_with(&disk, Some(&keys));
    assert_eq!((soundness, heads_of(&line)), (Soundness::Sound, [stated, 0, 0]), "with them all is checked");
    // Keys of another folder open nothing, and it is said that they don't.
    let other = FaultyDisk::new();
    let (_log, recovered) = open_with(&other, sealed()).expect("opened");
    let (soundness, line) = verified_with(&disk, Some(recovered.sealer.keys()));
    assert_eq!((soundness, heads_of(&line)), (Soundness::Sound, [0, 0, 0]));
    assert!(line["keys_not_used"].as_str().is_some_and(|why| why.contains("data key")), "{line}");
    let hashes: Vec<_> = roots.by.values().map(|(_, root)| root).collect();
    for path in segments(&disk) {
        let bytes = disk.content(&path).expect("there");
        let shows = |root: &Hash| bytes.windows(32).any(|window| window == root);
        assert!(!hashes.iter().any(|root| shows(root)), "{}", path.display());
    }
    // Plain ones behind them are checked from the first head that is stated there.
    let mut node = Node::open(&disk, options(), 2).expect("opened");
    let mut roots = roots;
    for round in ROUNDS + 1..=2 * ROUNDS {
        node.round(round, 6_000, &mut roots).expect("appended");
    }
    drop(node);
    let (soundness, line) = verified(&disk);
    let [checked, unchecked, _] = heads_of(&line);
    assert!(soundness == Soundness::Sound && checked > 4 && unchecked > 0, "{line}");
}

/// A power cut at every operation: whatever a start finds stated is true, and what it replays agrees.
#[test]
fn what_is_stated_is_true_after_a_power_cut_at_every_operation() {
    let work = |disk: &FaultyDisk, roots: &mut Roots| -> Result<(), String> {
        let mut node = Node::open(disk, options(), 2).map_err(|error| error.to_string())?;
        for round in 1..=18 {
            node.round(round, 12_000, roots)?;
        }
        Ok(())
    };
    let (mut operation, mut stated) = (1, 0);
    loop {
        let (disk, mut roots) = (FaultyDisk::new(), Roots::default());
        disk.plan(|faults| faults.crash_at = Some(operation));
        if work(&disk, &mut roots).is_ok() {
            break;
        }
        for crash in [Crash::Lost, Crash::Kept, Crash::Random(operation), Crash::Torn(operation), Crash::Process] {
            let disk = disk.fork();
            disk.restart(crash);
            let context = format!("operation {operation}, {crash:?}");
            let mut node = Node::open(&disk, options(), 2).unwrap_or_else(|error| panic!("{context}: {error}"));
            roots.check(&node.recovered.tree_heads);
            stated += node.recovered.tree_heads.len();
            assert!(node.audits.iter().all(|audit| audit.disputed().is_none()), "{context}");
            // What was torn is written anew with other commands.
            let mut after = Roots::default();
            for found in node.recovered.entries_from_start() {
                let found = found.expect("read");
                after.add(found.shard, &found.entry);
            }
            for round in 50..60 {
                node.round(round, 12_000, &mut after).unwrap_or_else(|error| panic!("{context}: {error}"));
            }
            drop(node);
            let (_log, again) = open(&disk).expect("opened");
            after.check(&again.tree_heads);
            let (soundness, line) = verified(&disk);
            assert!(soundness == Soundness::Sound && heads_of(&line)[0] > 0, "{context}: {line}");
        }
        operation += 1;
    }
    assert!(operation > 40 && stated > 100, "{operation} operations, {stated} heads");
}

/// With several nodes what was not committed may be replaced, also behind a segment's beginning: what is stated are trees
/// of what was committed, and the log gives them by what stands in the end.
#[test]
fn replaced_entries_are_in_no_tree() {
    let disk = FaultyDisk::new();
    let (mut node, mut roots) = (Node::open(&disk, options(), 0).expect("opened"), Roots::default());
    let sealer = node.recovered.sealer.clone();
    let write = |node: &mut Node, index: u64, term: u64, number: u64, mark: Option<u64>| {
        let next = entry(index, vec![bid(number, 8_000), bid(number, 0)]);
        let mut batch = Batch::new();
        batch.push_entry(1, term, &next, &sealer).expect("encoded");
        if let Some(commit) = mark {
            batch.push_vote(1, Vote { term, vote: 2, commit }).expect("encoded");
        }
        node.log.append(&mut batch).expect("appended");
        next
    };
    let (mut replaced, mut over_the_edge) = (0, 0);
    for term in 1..=12 {
        // Eight entries, of which the first four are committed; the others are replaced in the next term.
        let committed = 4 * (term - 1);
        for place in 1..=8 {
            let (index, before) = (committed + place, segments(&disk).len());
            let next = write(&mut node, index, term, 100 * term + place, (place == 5).then_some(committed + 4));
            if place <= 4 {
                roots.add(1, &next);
                node.audits[1].feed(&next, &[]);
            } else {
                replaced += 1;
                over_the_edge += u64::from(segments(&disk).len() > before);
            }
        }
    }
    assert!(replaced > 40 && over_the_edge > 2, "{replaced} {over_the_edge}");
    drop(node);
    let (_log, recovered) = open(&disk).expect("opened");
    assert!(recovered.tree_heads.len() > 8);
    roots.check(&recovered.tree_heads);
    let (soundness, line) = verified(&disk);
    let [checked, unchecked, _] = heads_of(&line);
    assert_eq!(
        (soundness, checked as usize, unchecked),
        (Soundness::Sound, recovered.tree_heads.len(), 0),
        "{line}"
    );
}

/// A segment that an earlier program made ready has no place for them.
#[test]
fn a_segment_of_an_earlier_version_holds_none() {
    let as_version_1 = |bytes: &mut Vec<u8>| {
        bytes[8] = 1;
        let crc = crc32c::crc32c_append(crc32c::crc32c(&bytes[..12]), &bytes[16..4096]);
        bytes[12..16].copy_from_slice(&crc.to_le_bytes());
    };
    let disk = FaultyDisk::new();
    let (mut node, mut roots) = (Node::open(&disk, options(), 0).expect("opened"), Roots::default());
    node.round(1, 40_000, &mut roots).expect("appended");
    drop(node);
    // Both were made by it: the one with records, and the one that is ready.
    assert_eq!(segments(&disk).len(), 2);
    segments(&disk).iter().for_each(|path| disk.damage(path, as_version_1));
    let mut node = Node::open(&disk, options(), 0).expect("opened");
    for round in 2..6 {
        node.round(round, 40_000, &mut roots).expect("appended");
    }
    let files = records(&disk);
    let heads: Vec<usize> = files
        .values()
        .map(|records| records.iter().filter(|record| record["kind"] == "tree_head").count())
        .collect();
    assert!(heads[..2] == [0, 0] && heads.len() > 3 && heads[2..].iter().all(|count| *count > 2), "{heads:?}");
    drop(node);
    open(&disk).expect("opened");
    assert_eq!(verified(&disk).0, Soundness::Sound);
    // And one there is refused for what it is.
    disk.damage(Path::new("/data/log/0000000000000003.seg"), as_version_1);
    let error = open(&disk).err().expect("refused").to_string();
    assert!(error.contains("a kind that its segment can't hold") && error.contains("format version 1"), "{error}");
}

/// A version that this program does not know is refused as such, not taken for damage.
#[test]
fn a_segment_of_a_later_version_is_refused() {
    let (disk, node, _) = several(options(), 0);
    drop(node);
    disk.damage(Path::new("/data/log/0000000000000002.seg"), |bytes| {
        bytes[8] = 4;
        let crc = crc32c::crc32c_append(crc32c::crc32c(&bytes[..12]), &bytes[16..4096]);
        bytes[12..16].copy_from_slice(&crc.to_le_bytes());
    });
    let error = open(&disk).err().expect("refused");
    assert!(matches!(error, OpenError::Version { found: 4, .. }), "{error}");
}

/// Where the first record would not find room behind them they are left out: nothing waits for a larger segment.
#[test]
fn no_segment_is_made_larger_for_them() {
    for padding in (60_600..61_400).step_by(40) {
        let disk = FaultyDisk::new();
        let (mut node, mut roots) = (Node::open(&disk, options(), 0).expect("opened"), Roots::default());
        for round in 1..5 {
            node.round(round, padding, &mut roots).expect("appended");
        }
        drop(node);
        let (_log, again) = open(&disk).expect("opened");
        roots.check(&again.tree_heads);
        assert_eq!((again.last[1].index, again.cuts.len()), (4, 0));
        if padding <= 60_800 {
            assert!(!again.tree_heads.is_empty(), "{padding}: there is room");
            for path in segments(&disk) {
                assert_eq!(disk.content(&path).expect("there").len(), 64 << 10, "{padding}");
            }
        }
    }
}

/// Bytes that anybody can guess, so that a sample is the same on every run.
fn fixed(bytes: &mut [u8]) {
    for (place, byte) in bytes.iter_mut().enumerate() {
        *byte = 41 + place as u8;
    }
}

/// A folder of three segments, plain, sealed and plain, each behind a start; trees and a vote are stated in two of them.
fn sample(roots: &mut Roots) -> FaultyDisk {
    let disk = FaultyDisk::new();
    for (start, seal) in [Seal::Secrets, Seal::All, Seal::Secrets].into_iter().enumerate() {
        let options = Options { random: fixed, node: 513, seal, ..options() };
        let mut node = Node::open(&disk, options, 0).expect("opened");
        for round in 1..=3 {
            node.round(3 * start as u64 + round, 10, roots).expect("appended");
        }
        if start == 0 {
            let mut batch = Batch::new();
            batch.push_vote(1, Vote { term: 2, vote: 1, commit: 3 }).expect("encoded");
            node.log.append(&mut batch).expect("appended");
        }
    }
    disk
}

fn stored(path: &Path) -> PathBuf {
    let name = path.display().to_string().trim_start_matches('/').replace('/', "__");
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/samples/tree-heads").join(format!("{name}.bin"))
}

/// Format 3 with tree heads, schema 1 of theirs: written and read for ever so.
#[test]
fn the_stored_log_with_tree_heads_is_written_and_read_as_ever() {
    let mut roots = Roots::default();
    let disk = sample(&mut roots);
    let of_sample = |path: &PathBuf| !path.starts_with("/data/audit") && !path.ends_with("0000000000000004.seg");
    let trimmed =
        |bytes: &[u8]| bytes[..bytes.iter().rposition(|byte| *byte != 0).map_or(0, |last| last + 1)].to_vec();
    let again = FaultyDisk::new();
    for path in disk.files().into_iter().filter(of_sample) {
        let bytes = disk.content(&path).expect("there");
        if std::env::var("SAMPLES").is_ok_and(|what| what == "write") {
            std::fs::create_dir_all(stored(&path).parent().expect("a folder")).expect("made");
            std::fs::write(stored(&path), trimmed(&bytes)).expect("written");
        }
        let mut kept = std::fs::read(stored(&path)).expect("the sample is in the repository");
        assert!(kept == trimmed(&bytes), "{} is written differently", path.display());
        kept.resize(bytes.len(), 0);
        again.create(&path).expect("made").write_at(0, &[&kept]).expect("written");
    }
    let node = Node::open(&again, options(), 0).expect("opened");
    roots.check(&node.recovered.tree_heads);
    let indexes: Vec<_> = node.recovered.tree_heads.iter().map(|(shard, head)| (*shard, head.index)).collect();
    assert_eq!(indexes, [(0, 1), (1, 3), (2, 3), (0, 1), (0, 2), (1, 3), (1, 6), (2, 3)]);
    assert!(node.audits.iter().all(|audit| audit.disputed().is_none()));
    assert_eq!(node.recovered.votes[1].map(|vote| vote.term), Some(2));
    drop(node);
    let (soundness, line) = verified(&again);
    assert_eq!((soundness, heads_of(&line)), (Soundness::Sound, [3, 2, 0]), "{line}");
}
