//! What goes wrong in a world beside crashes: clocks that jump and drift, disks that fill up, bytes that change.
//! Never says what is right.

use std::path::Path;

use super::{What, World};
use crate::chance::stream;
use crate::marks::Mark;
use crate::node::MS;

/// The number of a snapshot's file.
fn number_of(path: &Path) -> Option<u64> {
    u64::from_str_radix(path.file_stem()?.to_str()?, 16).ok()
}

impl World {
    pub(super) fn turn_clock(&mut self) {
        let mut clock = stream(self.plan.seed ^ self.number, "clock");
        if clock.one_in(3) {
            let pace = clock.between(-100_000, 100_000);
            self.clocks.go_at(self.at, pace);
            if let Some(node) = &self.nodes[0] {
                node.io().clocks.go_at(self.at, pace);
            }
            return;
        }
        let by = clock.pick(&[-30_000, -5_000, -1_000, 1_000, 15_000, 3_600_000]) * MS;
        let (low, high) = (self.clocks.wall(self.at).min(self.clocks.wall(self.at) + by) / MS, by.abs() / MS);
        for shard in 1..=crate::node::TENDER_SHARDS {
            if self.judge.twin(shard).next_deadline().is_some_and(|due| (low..=low + high).contains(&due)) {
                self.judge.marks.hit(Mark::ClockJumpAcrossClose);
            }
        }
        self.wall_jumps(by);
    }

    /// The wall clock jumps.
    pub(super) fn wall_jumps(&mut self, by: i64) {
        self.clocks.wall_ahead += by;
        if let Some(node) = &self.nodes[0] {
            node.io().clocks.wall_ahead += by;
        }
    }

    /// The core's thread gets no processor for a while; most of all where that matters, around a deadline.
    pub(super) fn starve(&mut self) {
        self.starved_until = 0;
        if self.healing {
            return;
        }
        let Some(node) = &self.nodes[0] else { return };
        let now = node.now(self.at).0;
        let due =
            (1..=crate::node::TENDER_SHARDS).filter_map(|shard| self.judge.twin(shard).next_deadline()).min();
        let left = due.map(|due| due - now).filter(|left| (0..200).contains(left));
        if let Some(left) = left.filter(|_| self.crashes.one_in(2)) {
            self.starved_until = self.at + (left + self.crashes.between(1, 40)) * MS;
            // Everybody wants to be the last.
            for client in 0..self.clients.len() {
                if !self.clients.waits(client) {
                    let wait = self.pace.between((left - 30).max(0), left + 20) * MS;
                    self.after(wait, What::Act { client });
                }
            }
        } else if self.crashes.one_in(20) {
            self.starved_until = self.at + self.crashes.between(1, 60) * MS;
        }
    }

    /// How long reads take now.
    pub(super) fn read_time(&mut self) {
        let read_ns = super::READ_NS[usize::from(self.slow)];
        self.disk.plan(|hazards| hazards.read_ns = read_ns);
    }

    /// The machine is suspended: nothing in it happens for a while. What its clocks do meanwhile depends on who suspends it.
    pub(super) fn suspend(&mut self) {
        self.some_time(60, What::Suspend);
        if self.healing || !self.serves() || self.stopping {
            return;
        }
        let length = if self.crashes.one_in(3) { 180 } else { 15 };
        let length = self.crashes.between(500, length * 1_000) * MS;
        let until = self.at + length;
        let due = (1..=crate::node::TENDER_SHARDS).filter_map(|shard| self.judge.twin(shard).next_deadline());
        let due: Vec<i64> = due.collect();
        let Some(node) = &self.nodes[0] else { return };
        let crosses = |from: i64| due.iter().any(|due| (from..from + length / MS).contains(due));
        if self.crashes.one_in(3) {
            // Only its processes are stopped.
            if crosses(node.now(self.at).0) {
                self.judge.marks.hit(Mark::SuspendedAcrossDeadline);
            }
        } else {
            if crosses(node.now(self.at).0.max(self.clocks.wall(self.at) / MS)) {
                self.judge.marks.hit(Mark::ClockStoodAcrossDeadline);
            }
            self.clocks.stand_still(self.at, until);
            node.io().clocks.stand_still(self.at, until);
            // The wall clock is right when it wakes up, or stands still as well and is put right a while later.
            let later = if self.crashes.one_in(2) { 0 } else { self.crashes.between(1, 20_000) * MS };
            self.after(length + later, What::PutRight { by: length });
        }
        self.judge.trace("suspended", length as u64);
        self.still_until = until;
    }

    /// Whether `what` would be done by the node, which stands still: then it is done later, if at all.
    pub(super) fn stands_still(&mut self, what: What) -> bool {
        let until = self.still_until;
        match what {
            What::Turn { .. } if self.turn_at == self.at => self.turn_at = until,
            What::Show { .. } if self.show_at == self.at => self.show_at = until,
            What::Flush { .. } if self.flush_at == self.at => self.flush_at = until,
            // Put off for another time meanwhile, or of a process that has ended.
            What::Turn { .. } | What::Show { .. } | What::Flush { .. } => return true,
            What::Second { .. } | What::Snapshot { .. } | What::Ship { .. } | What::Scrub { .. } => {}
            _ => return false,
        }
        self.after(until - self.at, what);
        true
    }

    /// A process was slow to start.
    pub(super) fn late_start(&mut self) {
        let (from, late) = (self.clocks.wall(self.at) / MS, (self.still_until - self.at) / MS);
        for shard in 1..=crate::node::TENDER_SHARDS {
            if self.judge.twin(shard).next_deadline().is_some_and(|due| (from..from + late).contains(&due)) {
                self.judge.marks.hit(Mark::DeadlineInSlowStart);
            }
        }
    }

    pub(super) fn fill(&mut self, full: bool) {
        if full && self.healing {
            return;
        }
        self.full = full;
        self.clients.press(full || self.out);
        // A little is left, so that it ends at any operation.
        let left = if self.chance.one_in(2) { self.chance.between(0, 40_000) as u64 } else { 0 };
        let capacity = full.then(|| self.disk.used() + left);
        self.disk.plan(|hazards| hazards.capacity = capacity);
        if full {
            // At times for longer than what is ready lasts.
            let long = if self.chance.one_in(8) { 300 } else { 40 };
            self.some_time(long, What::Fill { full: false });
        } else {
            self.some_time(80, What::Fill { full: true });
        }
    }

    /// Descriptors are short: none is left, or now and then one.
    pub(super) fn run_out(&mut self, out: bool) {
        if out && self.healing {
            return;
        }
        self.out = out;
        self.clients.press(out || self.full);
        let one_in = if self.chance.one_in(2) { 1 } else { 3 };
        self.disk.plan(|hazards| hazards.descriptors = if out { one_in } else { 0 });
        let long = if out && self.chance.one_in(3) { 300 } else { 40 };
        self.some_time(long, What::RunOut { out: !out });
    }

    pub(super) fn damage(&mut self, may: impl Fn(&Path) -> bool) {
        if let Some((path, offset)) = self.disk.corrupt(may) {
            let file = path.to_string_lossy().into_owned();
            self.judge.trace(&file, offset as u64);
            self.must_start = false;
            // Found at the next start at the latest; let that not be long.
            if self.is_up() && self.crashes.one_in(2) {
                self.crash();
            }
        }
    }

    /// The atlas allows the newest snapshot to be damaged while the one before it is whole: both and the log lead to
    /// the same state.
    pub(super) fn damage_a_snapshot(&mut self) {
        let mut snapshots: Vec<_> = self
            .disk
            .files()
            .into_iter()
            .filter(|path| path.extension().is_some_and(|extension| extension == "snap"))
            .collect();
        snapshots.sort();
        if snapshots.len() < 2 || self.disk.is_damaged() {
            return;
        }
        let newest = snapshots.pop().expect("two at least");
        if self.disk.corrupt(|path| path == newest).is_some() {
            self.damaged_snapshot = number_of(&newest);
        }
    }
}
