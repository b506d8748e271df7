//! Starts and ends of the process: crashes, stops, refused starts and what an operator then does. Decides what happens;
//! what a start found is judged where it is looked at.

use std::path::Path;

use super::refusals::{self, Refusal};
use super::{Ended, What, World};
use crate::chance::Random;
use crate::disk::{Broken, Crash, Hazards, SimDisk};
use crate::marks::Mark;
use crate::node::{MS, NoStart, Node, SECOND};

impl World {
    /// The power goes now, or at one of the next operations of the disk.
    pub(super) fn crash(&mut self) {
        if !self.is_up() {
            return;
        }
        if self.crashes.one_in(3) {
            return self.end(Ended::Power);
        }
        self.disk.plan(|hazards| hazards.crash = 20);
    }

    pub(super) fn ask_to_stop(&mut self) {
        if self.stopping || self.at < self.still_until {
            return;
        }
        if let Some(node) = &mut self.nodes[0] {
            node.ask_to_stop();
            self.stopping = true;
            self.act(Node::turn);
        }
    }

    pub(super) fn end_as_asked(&mut self) {
        self.judge.marks.hit(Mark::GracefulStop);
        self.left_clean = true;
        self.judge.ended_as_asked();
        let node = self.nodes[0].take();
        if let Some(mut node) = node {
            self.flushes.append(&mut node.io().flushes);
            node.show(usize::MAX);
            self.judge.same_states(node.machines(), "at the end");
            // Behind the core: then the log is complete, and the last round ships all of it.
            let errors = device_errors(&self.disk);
            let round = node.ship(self.at);
            self.archived = self.archived.max(node.archived());
            match round {
                Ok(trouble) => self.shipped(trouble, device_errors(&self.disk) > errors),
                Err(ended) => return self.end(ended),
            }
        }
        self.down();
        let wait = self.crashes.between(10, 4_000) * MS;
        self.after(wait, What::Start);
    }

    /// The process has ended: what it knew is gone.
    pub(super) fn end(&mut self, ended: Ended) {
        if let Ended::Stopped(reason) = &ended {
            let poison = reason.contains("panicked") && self.judge.knows_poison();
            let device = reason.contains("could not be written or flushed");
            assert!(poison || device, "V: the process stopped itself: {reason}");
            if device {
                let failed = self.disk.failures() > self.failures_before;
                assert!(failed, "V3: the process stopped itself over a device that did not fail: {reason}");
                self.judge.marks.hit(Mark::SyncFailed);
            }
        }
        self.judge.trace(if ended == Ended::Power { "power" } else { "stopped" }, self.at as u64);
        // Nothing that is dropped may reach the disk any more.
        self.disk.down();
        let segment = |path: &Path| path.extension().is_some_and(|extension| extension == "seg");
        self.left_clean = ended == Ended::Power && !self.disk.is_pending(segment);
        if let Some(node) = &self.nodes[0] {
            self.flushes.append(&mut node.io().flushes);
            if node.is_scrubbing() {
                self.judge.marks.hit(Mark::ScrubInterrupted);
            }
        }
        self.nodes[0] = None;
        self.down();
        self.clients.answers();
        let crash = match ended {
            Ended::Stopped(_) => Crash::Process,
            Ended::Power => self.crashes.pick(&Crash::ALL),
        };
        // A full disk stays full, and a broken one broken; descriptors are given back by who ends.
        self.out = false;
        self.clients.press(self.full);
        self.disk.plan(|hazards| {
            let Hazards { capacity, broken, .. } = *hazards;
            *hazards = Hazards { capacity, broken, ..Hazards::default() };
        });
        if !self.plan.recoverable {
            self.disk.plan(|hazards| (hazards.stale, hazards.misread) = (60, super::MISREAD));
        }
        self.disk.restart(crash);
        // Long enough, at times, for lots to end meanwhile.
        let longest = if self.crashes.one_in(3) { 60_000 } else { 1_500 };
        let wait = if self.healing { 10 } else { self.crashes.between(1, longest) } * MS;
        if self.plan.recoverable && self.crashes.one_in(3) {
            self.damage_a_snapshot();
        }
        self.after(wait, What::Start);
    }

    pub(super) fn down(&mut self) {
        self.still_until = self.at;
        // The next process does not begin in a machine that stands still.
        self.clocks.go_on(self.at);
        self.turn_at = i64::MAX;
        self.flush_at = i64::MAX;
        self.show_at = i64::MAX;
        self.snapshot_due = false;
        self.stopping = false;
        (self.inline, self.handed_over, self.waited) = (0, 0, 0);
        self.clients.connections_break();
        for client in self.clients.left_alone() {
            let wait = self.pace.between(1, 3_000) * MS;
            self.after(wait, What::Act { client });
        }
    }

    pub(super) fn start(&mut self) {
        if self.is_up() {
            return;
        }
        if !self.healing && self.crashes.one_in(5) {
            self.disk.plan(|hazards| hazards.crash = 60);
        }
        self.read_time();
        self.disk.take_read_ns();
        if self.must_start {
            self.disk.plan(|hazards| hazards.misread = 0);
        }
        let before = device_errors(&self.disk);
        let writes = self.disk.writes();
        if !self.plan.recoverable && self.before_start.is_none() {
            self.before_start = Some(self.disk.image());
        }
        // A node that starts finds the device as it is; a stale page of the start before is gone.
        let random = Random::new(self.plan.seed ^ self.number);
        match Node::start(&self.disk, self.store.as_ref(), self.at, self.clocks, random) {
            Ok((node, found)) => self.started(node, &found),
            Err(NoStart::Power) => {
                self.left_clean = false;
                self.judge.marks.hit(Mark::CrashInRecovery);
                self.judge.trace("crash in recovery", self.at as u64);
                self.disk.plan(|hazards| hazards.crash = 0);
                let crash = self.crashes.pick(&Crash::ALL);
                self.disk.restart(crash);
                let wait = self.crashes.between(1, 500) * MS;
                self.after(wait, What::Start);
            }
            Err(NoStart::Refused(text)) => {
                let device = device_errors(&self.disk) > before;
                self.refused_start(&text, device, writes);
            }
        }
    }

    /// A start has refused: the text must be worth reading, and somebody does what it says.
    fn refused_start(&mut self, text: &str, device: bool, writes: u64) {
        let refusal = refusals::read(text);
        let refusal =
            refusal.unwrap_or_else(|lack| panic!("D7: a refusal says where, what and what to do: {lack}"));
        if refusal == Refusal::Device {
            assert!(device, "D7: a start on a sound device is refused: {text}");
            self.judge.trace("refused", self.at as u64);
            if self.dead {
                self.judge.marks.hit(Mark::DeadDeviceRefused);
            }
            // As a supervisor does: again, after a while.
            let wait = self.crashes.between(2_000, 15_000) * MS;
            self.disk.restart(Crash::Process);
            return self.after(wait, What::Start);
        }
        let damaged = !self.plan.recoverable && self.disk.is_damaged();
        assert!(damaged, "D7: a start on a sound disk is refused: {text}");
        assert!(!self.must_start, "D7: a start on a restored disk is refused: {text}");
        self.judge.trace("refused", self.at as u64);
        self.refused += 1;
        if self.disk.only_misreads() {
            self.judge.marks.hit(Mark::MisreadRefused);
        }
        let lied = self.flushes.iter().any(|flush| flush.hurt);
        self.judge.marks.hit(if lied { Mark::LieRefused } else { Mark::DamageRefused });
        // The operator brings back what was damaged.
        let before = self.before_start.take();
        let changed = text.contains("Nothing was changed") && self.disk.writes() != writes;
        assert!(!changed, "D7: a start that refused has written: {text}");
        // From here on nothing goes astray until it has started; whoever looks at the disk meanwhile would else make it so.
        self.disk.plan(|hazards| hazards.misread = 0);
        self.disk.restart(Crash::Process);
        self.disk.heal(before);
        self.must_start = true;
        self.after(SECOND, What::Start);
    }

    /// The device fails, and stays so until somebody replaces it.
    pub(super) fn break_device(&mut self) {
        if !self.healing && !self.dead {
            self.dead = true;
            self.promised_when_dead = self.nodes[0].as_ref().map(|node| node.io().promised.clone());
            let broken = self.crashes.pick(&Broken::ALL);
            self.disk.plan(|hazards| hazards.broken = Some(broken));
            let wait = self.crashes.between(3_000, 60_000) * MS;
            self.after(wait, What::Mend);
        }
        self.some_time(150, What::Break);
    }

    /// What was durable is there again: a cable was put back, or the device moved to another machine.
    pub(super) fn mend_device(&mut self) {
        if !std::mem::take(&mut self.dead) {
            return;
        }
        self.promised_when_dead = None;
        self.disk.plan(|hazards| hazards.broken = None);
        if !self.is_up() {
            let crash = self.crashes.pick(&Crash::ALL);
            self.disk.restart(crash);
        }
    }
}

/// How often the device has refused something so far.
pub(super) fn device_errors(disk: &SimDisk) -> u64 {
    let injected = disk.injected();
    let of = |word: &&&str| ["failed", "no space", "no descriptor"].iter().any(|part| word.contains(part));
    injected.keys().filter(of).map(|word| injected[word]).sum()
}
