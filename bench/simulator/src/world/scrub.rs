//! The scrub of a running node: one file a step, killed anywhere, over a disk that rots, lies and reads wrong. Everything
//! that is not as promised at the beginning of a pass and at its end must have been told by then, and nothing else ever.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use persistence::Step;

use super::process::device_errors;
use super::{What, World};
use crate::archive::SimStore;
use crate::marks::Mark;
use crate::node::MS;

/// Where the records of a segment begin, and how long their headers are.
const HEADER: usize = 4096;
/// See `HEADER`.
const RECORD_HEADER: usize = 32;

/// What is wrong at the beginning of a pass, and how many reads had gone wrong by then.
#[derive(Default)]
pub(super) struct ToFind {
    places: BTreeMap<PathBuf, BTreeSet<usize>>,
    misreads: u64,
    errors: u64,
}

/// Where the records of a segment end: this is not the log's own code, and needs no checksum, for it is given what was
/// promised.
fn end_of(segment: &[u8]) -> usize {
    let mut at = HEADER;
    while let Some(header) = segment.get(at..at + RECORD_HEADER) {
        if header.iter().all(|byte| *byte == 0) {
            break;
        }
        let length = u32::from_le_bytes(header[4..8].try_into().expect("four bytes")) as usize;
        at += (RECORD_HEADER + length).next_multiple_of(8);
    }
    at
}

fn number_of(path: &Path, extension: &str) -> Option<u64> {
    let name = path.file_name()?.to_str()?.strip_suffix(extension)?;
    u64::from_str_radix(name, 16).ok()
}

impl World {
    /// One step.
    pub(super) fn scrub(&mut self) {
        let (errors, misreads) = (device_errors(&self.disk), self.misreads());
        self.disk.take_read_ns();
        if self.nodes[0].as_ref().is_some_and(|node| !node.is_scrubbing()) {
            self.to_find = ToFind { places: self.wrong_places(), misreads: self.misreads(), errors };
        }
        let Some(node) = &mut self.nodes[0] else { return };
        let step = match node.scrub() {
            Ok(step) => step,
            Err(ended) => return self.end(ended),
        };
        let mut wait = self.pace.between(5, 150) * MS + self.disk.take_read_ns();
        match step {
            Step::Sound(_) => {}
            Step::Gone(_) => self.judge.marks.hit(Mark::ScrubbedFileGone),
            Step::Misread(file, text) => {
                assert!(self.misreads() > misreads, "scrub: {} was not read wrong: {text}", file.display());
                self.judge.marks.hit(Mark::ReadWrongOnce);
            }
            Step::Refused { text, .. } => {
                assert!(device_errors(&self.disk) > errors, "scrub: a sound device refuses: {text}");
            }
            Step::Damaged(damage) => {
                // It may be read right again by now.
                let wrong = self.disk.reads_wrong(&damage.file) || self.misreads() > misreads;
                assert!(wrong, "scrub: a false alarm: {}", damage.text);
                assert!(damage.text.contains(&*damage.file.to_string_lossy()), "scrub: no file: {}", damage.text);
                assert!(damage.text.contains("offset "), "scrub: no place: {}", damage.text);
                self.judge.trace("scrub found", damage.sequence.unwrap_or(0));
                let mark =
                    if damage.sequence.is_some() { Mark::ScrubFoundSegment } else { Mark::ScrubFoundSnapshot };
                self.judge.marks.hit(mark);
                if !damage.known {
                    self.two_snapshots();
                }
            }
            Step::Finished => {
                self.pass_finished();
                wait = self.pace.between(200, 6_000) * MS;
            }
        }
        if self.is_up() {
            let process = self.judge.process();
            self.after(wait, What::Scrub { process });
        }
    }

    /// What the snapshot thread does when the scrub has found damage.
    fn two_snapshots(&mut self) {
        for _ in 0..2 {
            if self.is_up() {
                self.snapshot();
            }
        }
        let aside: Vec<_> =
            self.disk.files().into_iter().filter(|path| number_of(path, ".seg.bad").is_some()).collect();
        for path in aside {
            // Somebody has looked at it.
            self.judge.marks.hit(Mark::DamagePutAside);
            self.disk.take_away(&path);
        }
    }

    fn pass_finished(&mut self) {
        let ToFind { places, misreads, errors } = std::mem::take(&mut self.to_find);
        let Some(node) = &self.nodes[0] else { return };
        let told = node.scrubbed.damaged();
        // What the device refused to read, or read as it once was, may be anything.
        if device_errors(&self.disk) > errors || self.misreads() > misreads {
            return;
        }
        let now = self.wrong_places();
        for (path, before) in &places {
            let stayed = now.get(path).is_some_and(|now| !now.is_disjoint(before));
            assert!(
                !stayed || told.contains_key(path),
                "scrub: a pass did not find what is wrong in {}, at {:?}",
                path.display(),
                before.first()
            );
        }
        if places.is_empty() && told.is_empty() {
            self.judge.marks.hit(Mark::ScrubbedSound);
        }
    }

    fn misreads(&self) -> u64 {
        let injected = self.disk.injected();
        ["stale sector read", "read misdirected"].iter().filter_map(|class| injected.get(class)).sum()
    }

    /// What is wrong of all that a scrub reads, by file: closed segments up to the end of their records, and snapshots.
    fn wrong_places(&self) -> BTreeMap<PathBuf, BTreeSet<usize>> {
        let Some(node) = &self.nodes[0] else { return BTreeMap::new() };
        let active = node.active_segment();
        let mut places = BTreeMap::new();
        for path in self.disk.files() {
            let mut wrong = self.disk.wrong(&path);
            if let Some(number) = number_of(&path, ".seg") {
                let end =
                    if number < active { self.disk.promised(&path).map_or(0, |bytes| end_of(&bytes)) } else { 0 };
                wrong.retain(|place| *place < end);
            } else if number_of(&path, ".snap").is_none() {
                continue;
            }
            if !wrong.is_empty() {
                places.insert(path, wrong);
            }
        }
        places
    }

    /// A closed segment rots while the node runs.
    pub(super) fn rot(&mut self) {
        self.some_time(15, What::Rot);
        let Some(node) = self.nodes[0].as_ref().filter(|_| !self.healing) else { return };
        let active = node.active_segment();
        // What is not archived yet is the only copy: then any segment will do, and memory is short as well.
        let away = self.store.as_ref().is_some_and(SimStore::is_away);
        let newest = if away { active } else { active.saturating_sub(1) };
        let segment = |path: &Path| number_of(path, ".seg").is_some_and(|number| number <= newest);
        if let Some((path, offset)) = self.disk.corrupt(segment) {
            if away {
                self.disk.evict(|other| other == path);
            }
            self.judge.trace(&path.to_string_lossy(), offset as u64);
            self.must_start = false;
        }
    }
}
