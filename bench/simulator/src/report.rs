//! How a world is made, and what it came to. Plain data; decides nothing.

use std::collections::BTreeMap;

use crate::marks::Marks;
use crate::totals::Totals;

/// How a world is made.
#[derive(Clone, Copy, Debug)]
pub struct Plan {
    /// Everything follows from it.
    pub seed: u64,
    /// Whether the world stays recoverable (mode 1), or disks may lie and change bytes (mode 2).
    pub recoverable: bool,
    /// Commands that clients send before the world heals.
    pub commands: u64,
}

impl Plan {
    /// The usual world of a seed: every fourth is without an atlas.
    pub fn of(seed: u64) -> Self {
        Self { seed, recoverable: seed % 4 != 3, commands: 500 + seed % 5 * 200 }
    }
}

/// What a world came to.
#[derive(Clone, Debug, Default)]
pub struct Report {
    /// Virtual time, in nanoseconds.
    pub virtual_ns: i64,
    /// Events of the heap.
    pub events: u64,
    /// Commands in the log.
    pub commands: u64,
    /// Answers checked.
    pub answers: u64,
    /// Steps shown to subscribers and checked.
    pub frames: u64,
    /// Processes started.
    pub starts: u64,
    /// Operations of the disk at which the power went.
    pub crash_points: u64,
    /// Injections by class.
    pub injected: BTreeMap<&'static str, u64>,
    /// Damage that a start refused, and damage that no single node can tell from a torn tail.
    pub refused: u64,
    /// See `refused`.
    pub undetectable: u64,
    /// The marks.
    pub marks: Marks,
    /// What became of everything that was sent.
    pub totals: Totals,
    /// Answers and events met, by the twin's words.
    pub met: BTreeMap<String, usize>,
    /// SHA-256 over everything that was decided, in order.
    pub trace: String,
}

impl Report {
    /// Adds what another world came to. The trace becomes one of both, whatever their order.
    pub fn add(&mut self, other: &Self) {
        self.virtual_ns += other.virtual_ns;
        self.events += other.events;
        self.commands += other.commands;
        self.answers += other.answers;
        self.frames += other.frames;
        self.starts += other.starts;
        self.crash_points += other.crash_points;
        self.refused += other.refused;
        self.undetectable += other.undetectable;
        for (class, count) in &other.injected {
            *self.injected.entry(class).or_default() += count;
        }
        for (word, count) in &other.met {
            *self.met.entry(word.clone()).or_default() += count;
        }
        self.marks.add(&other.marks);
        self.totals.add(&other.totals);
        let part = |trace: &str| u64::from_str_radix(trace.get(..16).unwrap_or("0"), 16).unwrap_or(0);
        self.trace = format!("{:016x}", part(&self.trace) ^ part(&other.trace));
    }
}
