//! The second phase: no more faults, everything must be served again and read back, from the disk and from the archive.
//! And what the world came to.

use persistence::inspect::{Soundness, verify};

use super::{Report, World};
use crate::archive::SimStore;
use crate::chance::Random;
use crate::disk::Hazards;
use crate::node::{NoStart, Node, SECOND, layout};
use crate::totals::Totals;

/// How long a fresh command may take once everything is healed.
const HEALED_WITHIN: i64 = 10 * SECOND;

impl World {
    /// No more faults: everything must be served again, within a bound, and read back.
    pub(super) fn heal(&mut self) {
        while self.at < self.still_until && !self.ended_silently {
            self.next_event();
        }
        if self.ended_silently {
            return;
        }
        self.healing = true;
        self.disk.plan(|hazards| *hazards = Hazards::default());
        if !self.plan.recoverable {
            self.disk.heal(None);
        }
        (self.slow, self.full, self.out) = (false, false, false);
        self.clients.heal();
        if let Some(store) = &self.store {
            store.heal();
        }
        (self.dead, self.promised_when_dead) = (false, None);
        self.must_start = false;
        let until = self.at + 60 * SECOND;
        let mut fresh = None;
        while fresh.is_none() || self.at < until {
            self.next_event();
            assert!(!self.ended_silently, "D1: answered entries are gone after everything was healed");
            if let Some(node) = &self.nodes[0]
                && fresh.is_none()
                && !self.stopping
                && self.at > until - 40 * SECOND
            {
                let stamp = node.stamp(self.at);
                let sent = self.clients.fresh(stamp.at(), &mut self.judge);
                fresh = Some(self.at);
                self.send(self.clients.len() - 1, stamp, sent);
            }
            if let Some(since) = fresh {
                let answered = self.clients.is_fresh_done(&self.judge);
                assert!(
                    answered || self.at < since + HEALED_WITHIN,
                    "V1: a fresh command is not answered in time; up: {}, stopping: {}, starts so far: {}, {:?}",
                    self.is_up(),
                    self.stopping,
                    self.judge.process(),
                    self.clients.stuck(),
                );
            }
            assert!(self.at < until + 120 * SECOND, "V1: the node does not come back");
        }
        assert!(self.clients.is_fresh_done(&self.judge), "V1: a fresh command is not answered");
        // The last word: a clean end, a start on what the disk holds, and everything once more.
        self.ask_to_stop();
        while self.is_up() {
            self.next_event();
        }
        let random = Random::new(self.plan.seed);
        match Node::start(&self.disk, None, self.at, self.clocks, random) {
            Ok((_, found)) => {
                let lost = self.judge.recovered(&found);
                assert!(lost.is_ok(), "D1: answered entries are gone in the end: {lost:?}");
            }
            Err(NoStart::Power) => unreachable!("the power does not go any more"),
            Err(NoStart::Refused(text)) => panic!("D7: the last start is refused: {text}"),
        }
        let mut lines = Vec::new();
        let verified = verify(&self.disk, &layout().dir, &mut lines);
        let said = String::from_utf8_lossy(&lines);
        assert!(matches!(verified, Ok(Soundness::Sound)), "D7: `log verify` does not find it sound: {said}");
        self.judge.everything();
        self.restore();
    }

    pub(super) fn report(&mut self) -> Report {
        self.judge.trace("end", self.at as u64);
        self.judge.trace("operations", self.disk.operations());
        // A world that ended half-way leaves something open.
        let totals = if self.ended_silently { Totals::default() } else { self.judge.totals() };
        let mut injected = self.disk.injected();
        injected.extend(self.store.iter().flat_map(SimStore::injected));
        Report {
            virtual_ns: self.at,
            events: self.events,
            commands: self.judge.commands,
            answers: self.judge.answers,
            frames: self.judge.frames,
            starts: self.judge.process(),
            crash_points: injected.get("power lost at an operation of the disk").copied().unwrap_or(0),
            injected,
            refused: self.refused,
            undetectable: self.undetectable,
            marks: self.judge.marks.clone(),
            totals,
            met: self.judge.met(),
            trace: self.judge.trace_hash(),
        }
    }
}
