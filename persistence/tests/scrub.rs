//! The scrub of a running log: damage is told where it is, sound files never, and neither a segment that goes under it
//! nor a device that reads wrong once is taken for damage. What is damaged and no longer needed is put aside.

mod common;

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

use common::*;
use persistence::faulty::FaultyDisk;
use persistence::{Log, Options, Recovered, ScrubStatus, Scrubber, Seal, Section, Step, Vote};

const END_OF_HEADER: usize = 4096;

/// A log of five segments, the last of which is written to, and two snapshots.
struct Written {
    disk: FaultyDisk,
    log: Log,
    recovered: Recovered,
    next: u64,
}

impl Written {
    fn new(options: Options) -> Self {
        let disk = FaultyDisk::new();
        let (log, recovered) = open_with(&disk, options).expect("a new folder");
        let mut written = Self { disk, log, recovered, next: 1 };
        written.grow_to(3);
        written.snapshot();
        written.snapshot();
        written.grow_to(5);
        written
    }

    fn active(&self) -> u64 {
        u64::from(self.log.reach().durable().sequence)
    }

    fn grow_to(&mut self, active: u64) {
        while self.active() < active {
            let flush =
                [(1, entry(self.next, vec![bid(self.next, 3_000)])), (2, entry(self.next, vec![bid(7, 0)]))];
            append(&mut self.log, &self.recovered.sealer, &flush).expect("appended");
            self.next += 1;
        }
    }

    fn snapshot(&mut self) {
        let mut writer = self.recovered.snapshots.begin(self.log.last()).expect("begun");
        writer.frame(1, Section::Engine, None, &[7; 3_000]).expect("written");
        let covered = writer.finish().expect("finished");
        self.log.truncate(&covered).expect("truncated");
    }

    fn segment(&self, number: u64) -> PathBuf {
        data("log").join(format!("{number:016x}.seg"))
    }

    fn scrubber(&self, status: &Arc<ScrubStatus>, read: impl Fn() + Send + Sync + 'static) -> Scrubber {
        Scrubber::new(&self.recovered.reader(), self.log.reach(), Arc::clone(status), move |_| {
            read();
            Ok(())
        })
    }

    /// One pass.
    fn pass(&self) -> Vec<Step> {
        pass(&mut self.scrubber(&Arc::default(), || {}))
    }
}

fn pass(scrubber: &mut Scrubber) -> Vec<Step> {
    let mut steps = Vec::new();
    loop {
        let step = scrubber.step();
        if step == Step::Finished {
            return steps;
        }
        steps.push(step);
    }
}

/// The files that were told as damaged, with what was said.
fn damaged(steps: &[Step]) -> Vec<(PathBuf, String)> {
    let told = steps.iter().filter_map(|step| match step {
        Step::Damaged(damage) => Some((damage.file.clone(), damage.text.clone())),
        _ => None,
    });
    told.collect()
}

/// Where the records of a segment end, by the one behind it.
fn end_of(disk: &FaultyDisk, next: &Path) -> usize {
    let bytes = disk.content(next).expect("there");
    u32::from_le_bytes(bytes[END_OF_HEADER + 32..END_OF_HEADER + 36].try_into().expect("four")) as usize
}

#[test]
fn every_flipped_bit_of_a_closed_segment_is_told_and_nothing_else() {
    for seal in [Seal::Secrets, Seal::All] {
        let written = Written::new(Options { seal, ..options() });
        let steps = written.pass();
        assert!(steps.iter().all(|step| matches!(step, Step::Sound(_))), "{steps:?}");
        assert_eq!(steps.len(), segments(&written.disk).len() - 1 + 2, "all but the one made ready");
        for number in [3, 4] {
            let path = written.segment(number);
            let end = end_of(&written.disk, &written.segment(number + 1));
            let places = (0..end).step_by(131).chain([end - 1]).chain((end..64 << 10).step_by(509));
            for (count, place) in places.enumerate() {
                let flip = |bytes: &mut Vec<u8>| bytes[place] ^= 1 << (count % 8);
                written.disk.damage(&path, flip);
                let told = damaged(&written.pass());
                written.disk.damage(&path, flip);
                if place >= end {
                    assert_eq!(told, [], "behind the records lies nothing");
                    continue;
                }
                let [(file, text)] = &told[..] else { panic!("{place} of {end}: {told:?}") };
                assert_eq!(*file, path, "{place}: {text}");
                let words = [&*path.to_string_lossy(), "offset ", "expected ", ", found "];
                let version = text.contains("format version") || text.contains("belongs to another log");
                assert!(version || words.iter().all(|word| text.contains(word)), "{place}: {text}");
                assert!(text.contains("estore"), "{place}: it says what to do: {text}");
            }
        }
        assert_eq!(damaged(&written.pass()), []);
    }
}

#[test]
fn the_head_of_the_segment_that_is_written_to_and_snapshots_are_looked_at() {
    let written = Written::new(options());
    let head = written.segment(written.active());
    let flip = |bytes: &mut Vec<u8>| bytes[END_OF_HEADER + 40] ^= 2;
    written.disk.damage(&head, flip);
    let told = damaged(&written.pass());
    assert!(matches!(&told[..], [(file, text)] if *file == head && text.contains("opening record")), "{told:?}");
    // Then it is not known where the one before ends; a record of it that is damaged is told all the same.
    let before = written.segment(written.active() - 1);
    let last = end_of(&written.disk, &head) - 9;
    written.disk.damage(&before, |bytes| bytes[last] ^= 1);
    let told = damaged(&written.pass());
    assert_eq!(told.iter().map(|(file, _)| file).collect::<Vec<_>>(), [&before, &head], "{told:?}");

    let written = Written::new(options());
    let snapshot = snapshots(&written.disk)[0].clone();
    for place in [0, 9, 40, 70, 150, 2_000] {
        written.disk.damage(&snapshot, |bytes| bytes[place] ^= 8);
        let told = damaged(&written.pass());
        assert!(matches!(&told[..], [(file, text)] if *file == snapshot && text.contains("offset")), "{told:?}");
        written.disk.damage(&snapshot, |bytes| bytes[place] ^= 8);
    }
    written.disk.damage(&snapshot, |bytes| bytes.truncate(100));
    assert_eq!(damaged(&written.pass()).len(), 1);
}

#[test]
fn replaced_entries_are_no_damage() {
    let disk = FaultyDisk::new();
    let (mut log, recovered) = open(&disk).expect("opened");
    let flush = |log: &mut Log, term, index, padding| {
        let mut batch = batch_of(&[(1, entry(index, vec![bid(index, padding)]))], term, &recovered.sealer);
        if index == 3 {
            batch.push_vote(1, Vote { term, vote: 0, commit: 1 }).expect("encoded");
        }
        log.append(&mut batch).expect("appended");
    };
    for index in 1..=8 {
        flush(&mut log, 1, index, 15_000);
    }
    // What lies in the first segment is replaced by what lies in others.
    for index in 3..=12 {
        flush(&mut log, 2, index, 15_000);
    }
    assert!(segments(&disk).len() > 4);
    let reader = recovered.reader();
    let mut scrubber = Scrubber::new(&reader, log.reach(), Arc::default(), |_| Ok(()));
    let steps = pass(&mut scrubber);
    assert!(steps.iter().all(|step| matches!(step, Step::Sound(_))), "{steps:?}");
}

#[test]
fn a_segment_that_is_used_again_while_it_is_read_is_no_damage() {
    let mut gone = 0;
    // At each pause of a pass in turn, the log lets go what it can and uses it again.
    for at in 1..30 {
        let written = Arc::new(Mutex::new(Written::new(options())));
        let reads = AtomicU64::new(0);
        let status = Arc::default();
        let during = Arc::downgrade(&written);
        let mut scrubber = written.lock().expect("free").scrubber(&status, move || {
            if reads.fetch_add(1, Ordering::Relaxed) + 1 == at {
                let written = during.upgrade().expect("there");
                let mut written = written.lock().expect("free");
                written.snapshot();
                written.snapshot();
                let active = written.active();
                written.grow_to(active + 4);
            }
        });
        let steps = pass(&mut scrubber);
        // This disk refuses to read on in a file that was removed.
        let sound =
            |step: &Step| matches!(step, Step::Sound(_) | Step::Gone(_) | Step::Refused { last: false, .. });
        assert!(steps.iter().all(sound), "at pause {at}: {steps:?}");
        gone += steps.iter().filter(|step| matches!(step, Step::Gone(_))).count();
        assert_eq!((status.counts().corruptions, status.damaged().len()), (0, 0));
    }
    assert!(gone > 10, "{gone} of them went");
}

#[test]
fn what_is_read_wrong_once_is_told_as_that() {
    let written = Written::new(options());
    let path = written.segment(3);
    let (disk, wrong) = (written.disk.clone(), path.clone());
    // The file is as it was when it is read again.
    let reads = AtomicU64::new(0);
    let flip = |bytes: &mut Vec<u8>| bytes[END_OF_HEADER + 300] ^= 4;
    written.disk.damage(&path, flip);
    let status = Arc::default();
    let mut scrubber = written.scrubber(&status, move || {
        // Of each segment: the head, the records, the head behind.
        let read = reads.fetch_add(1, Ordering::Relaxed) + 1;
        if read == 3 {
            disk.damage(&wrong, flip);
        }
    });
    let steps = pass(&mut scrubber);
    let misread = steps.iter().filter(|step| matches!(step, Step::Misread(file, _) if *file == path)).count();
    let others = steps.iter().filter(|step| matches!(step, Step::Sound(_))).count();
    let counts = status.counts();
    assert_eq!((misread, others, counts.misreads, counts.corruptions), (1, steps.len() - 1, 1, 0), "{steps:?}");
}

#[test]
fn a_damaged_segment_is_put_aside_once_nothing_needs_it_and_the_next_start_is_as_good() {
    let mut written = Written::new(options());
    written.grow_to(6);
    let (path, last) = (written.segment(4), written.log.last().to_vec());
    written.disk.damage(&path, |bytes| bytes[END_OF_HEADER + 777] ^= 1);
    let bytes = written.disk.content(&path);
    // Its name stays as long as a start would need it.
    let status = Arc::default();
    let mut scrubber = written.scrubber(&status, || {});
    let told = damaged(&pass(&mut scrubber));
    assert_eq!(told.len(), 1, "{told:?}");
    written.log.truncate(&[]).expect("truncated");
    assert!(segments(&written.disk).contains(&path));
    scrubber.look_for_gone();
    assert_eq!(status.damaged().into_keys().collect::<Vec<_>>(), std::slice::from_ref(&path));
    let Err(error) = open(&FaultyDisk::fork(&written.disk)).map(|_| ()) else { panic!("damage is refused") };
    assert!(error.to_string().contains(&told[0].1), "recovery and scrub say the same: {error}, {told:?}");

    written.snapshot();
    written.snapshot();
    let aside = path.with_extension("seg.bad");
    assert_eq!(written.disk.content(&aside), bytes, "kept for who wants to look at it");
    assert!(!segments(&written.disk).iter().any(|segment| *segment <= path), "{:?}", segments(&written.disk));
    scrubber.look_for_gone();
    assert_eq!(status.damaged().len(), 0);
    assert!(
        status.last_trouble().is_some_and(|text| text.contains("checksum")),
        "it is told until the next start"
    );
    assert_eq!(damaged(&pass(&mut scrubber)), []);
    // It is never written to again.
    let active = written.active();
    written.grow_to(active + 3);
    assert_eq!(written.disk.content(&aside), bytes);
    drop(scrubber);
    let Written { disk, log, recovered, .. } = written;
    let expected = log.last().to_vec();
    assert!(expected[1].index > last[1].index);
    drop((log, recovered));
    let (_, again) = open(&disk).expect("nothing needs the damaged segment");
    assert_eq!(again.last, expected);
}

#[test]
fn an_archive_that_lacks_a_damaged_segment_keeps_it_where_it_is() {
    let mut written = Written::new(options());
    let reach = written.log.keep_for_archive();
    reach.set_archived(3);
    let path = written.segment(4);
    written.disk.damage(&path, |bytes| bytes[END_OF_HEADER + 777] ^= 1);
    assert_eq!(damaged(&written.pass()).len(), 1);
    written.snapshot();
    written.snapshot();
    assert!(segments(&written.disk).contains(&path), "it is the only copy");
    reach.set_archived(4);
    written.log.truncate(&[]).expect("truncated");
    assert!(
        !segments(&written.disk).contains(&path)
            && written.disk.content(&path.with_extension("seg.bad")).is_some()
    );
}

#[test]
fn a_segment_that_somebody_removed_is_told() {
    use persistence::Disk;
    let mut written = Written::new(options());
    written.grow_to(7);
    let path = written.segment(5);
    written.disk.remove(&path).expect("removed");
    let steps = written.pass();
    let told = damaged(&steps);
    assert!(
        matches!(&told[..], [(file, text)] if *file == data("log") && text.contains("0000000000000005.seg")),
        "{told:?}"
    );
    assert!(
        steps.iter().any(|step| matches!(step, Step::Sound(file) if *file == written.segment(6))),
        "{steps:?}"
    );
}

#[test]
fn a_disk_that_refuses_is_asked_again_and_then_passed_by() {
    let written = Written::new(options());
    let refuse = Arc::new(AtomicU64::new(u64::MAX));
    let (status, left) = (Arc::<ScrubStatus>::default(), Arc::clone(&refuse));
    let mut scrubber =
        Scrubber::new(&written.recovered.reader(), written.log.reach(), Arc::clone(&status), move |_| {
            let refuses = left.fetch_sub(1, Ordering::Relaxed) <= 4;
            if refuses { Err(std::io::Error::other("no such sector")) } else { Ok(()) }
        });
    assert!(matches!(scrubber.step(), Step::Sound(_)));
    refuse.store(4, Ordering::Relaxed);
    let refused = [scrubber.step(), scrubber.step(), scrubber.step(), scrubber.step()];
    let last = |step: &Step| match step {
        Step::Refused { text, last } if text.contains("no such sector") && text.contains(".seg") => *last,
        step => panic!("{step:?}"),
    };
    assert_eq!(refused.iter().map(last).collect::<Vec<_>>(), [false, false, true, false], "three attempts a file");
    refuse.store(u64::MAX, Ordering::Relaxed);
    assert!(pass(&mut scrubber).iter().all(|step| matches!(step, Step::Sound(_))));
    assert_eq!((status.counts().failures, status.counts().corruptions), (4, 0));
}
