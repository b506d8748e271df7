//! Row 1: applying a bid, the engine beside the same work on std's maps, alternated in one run.
//!
//! Keys arrive hashed and nothing is sealed on either side, as in the program, where that happens at the edge.
//! The engine's time includes `maintain`, which grows its tables between entries; the maps grow inside `apply`.

use std::hint::black_box;
use std::time::{Duration, Instant};

use engine::{Engine, Entry, Lot, Reply, Settling, Sink, Step, Tender};

use crate::allocations;
use crate::std_maps::{PeerSink, StdMaps};
use crate::workload::{BATCH, BIDDERS, Workload};

/// Fewest entries before anything is measured: a lot whose history is short still grows it within an entry.
const WARM_UP: usize = 100;

/// The numbers of open lots that are measured.
pub const LOTS: [usize; 4] = [1, 1_000, 10_000, 100_000];

/// What one size gave.
#[derive(Clone, Debug)]
pub struct Row {
    /// Open lots.
    pub lots: usize,
    /// Bids applied on each side while measuring.
    pub bids: usize,
    /// Median over rounds of the engine's nanoseconds a bid, `maintain` included.
    pub engine_ns: f64,
    /// Median over rounds of the peer's nanoseconds a bid.
    pub peer_ns: f64,
    /// Median over rounds of peer ÷ engine.
    pub ratio: f64,
    /// Allocations a bid inside the engine's `apply`, over all rounds.
    pub engine_allocations: f64,
    /// Allocations a bid in the engine's `maintain`, over all rounds.
    pub maintain_allocations: f64,
    /// Allocations a bid inside the peer's `apply`, over all rounds.
    pub peer_allocations: f64,
}

/// Takes answers and steps and lets the compiler drop none of the work behind them.
#[derive(Default)]
pub struct Swallow {
    /// How many answers came.
    pub replies: u64,
    /// How many steps came.
    pub steps: u64,
}

impl Sink for Swallow {
    fn reply(&mut self, _: usize, reply: &Reply) {
        self.replies += 1;
        black_box(reply);
    }

    fn step(&mut self, _: &Tender, _: &Lot, step: &Step) {
        self.steps += 1;
        black_box(step);
    }
}

impl PeerSink for Swallow {
    fn reply(&mut self, _: usize, reply: &Reply) {
        self.replies += 1;
        black_box(reply);
    }

    fn step(&mut self, step: &Step) {
        self.steps += 1;
        black_box(step);
    }
}

/// One side's time and allocations for some entries.
#[derive(Clone, Copy, Default)]
pub struct Spent {
    /// Nanoseconds.
    pub ns: f64,
    /// Allocations while applying.
    pub apply: u64,
    /// Allocations between entries.
    pub between: u64,
}

/// Applies entries as the core does: tables grow between entries, never inside.
pub fn on_engine(engine: &mut Engine, entries: &[Entry], sink: &mut Swallow) -> Spent {
    let mut spent = Spent::default();
    let started = Instant::now();
    for entry in entries {
        let before = allocations::on_this_thread();
        engine.maintain();
        let between = allocations::on_this_thread();
        engine.apply(entry, sink);
        spent.between += between - before;
        spent.apply += allocations::on_this_thread() - between;
    }
    spent.ns = started.elapsed().as_nanos() as f64;
    spent
}

/// Applies entries on the peer.
pub fn on_peer(peer: &mut StdMaps, entries: &[Entry], sink: &mut Swallow) -> Spent {
    let before = allocations::on_this_thread();
    let started = Instant::now();
    for entry in entries {
        peer.apply(entry, sink);
    }
    let ns = started.elapsed().as_nanos() as f64;
    Spent { ns, apply: allocations::on_this_thread() - before, between: 0 }
}

/// Measures one size: `rounds` rounds of `entries` entries, the sides changing places every round. Before that every
/// lot gets its share of bids, so that books and tables are in their steady state.
pub fn measure(lots: usize, rounds: usize, entries: usize) -> Row {
    let (mut workload, mut engine) = Workload::new(lots);
    let mut peer = StdMaps::like(&engine);
    let mut sink = Swallow::default();
    let mut warm = (lots * usize::from(BIDDERS)).div_ceil(BATCH).max(WARM_UP);
    while warm > 0 {
        let some = workload.entries(warm.min(1_000));
        warm -= some.len();
        on_engine(&mut engine, &some, &mut sink);
        on_peer(&mut peer, &some, &mut sink);
    }

    let bids = entries * BATCH;
    let (mut engine_ns, mut peer_ns, mut ratios) = (Vec::new(), Vec::new(), Vec::new());
    let (mut on_ours, mut between, mut on_theirs) = (0, 0, 0);
    for round in 0..rounds {
        let some = workload.entries(entries);
        let (ours, theirs);
        if round % 2 == 0 {
            ours = on_engine(&mut engine, &some, &mut sink);
            theirs = on_peer(&mut peer, &some, &mut sink);
        } else {
            theirs = on_peer(&mut peer, &some, &mut sink);
            ours = on_engine(&mut engine, &some, &mut sink);
        }
        engine_ns.push(ours.ns / bids as f64);
        peer_ns.push(theirs.ns / bids as f64);
        ratios.push(theirs.ns / ours.ns);
        on_ours += ours.apply;
        between += ours.between;
        on_theirs += theirs.apply;
    }
    let all = (bids * rounds) as f64;
    Row {
        lots,
        bids: bids * rounds,
        engine_ns: median(&mut engine_ns),
        peer_ns: median(&mut peer_ns),
        ratio: median(&mut ratios),
        engine_allocations: on_ours as f64 / all,
        maintain_allocations: between as f64 / all,
        peer_allocations: on_theirs as f64 / all,
    }
}

/// How many auto bidders settling is measured with: far more than a tender takes.
pub const AUTO_BIDDERS: [u16; 5] = [2, 10, 100, 1_000, 10_000];

/// The time that settling the limits of `bidders` at an opening takes, `times` times.
pub fn opening(bidders: u16, times: u64) -> Duration {
    let fresh = Settling::new(bidders);
    (0..times)
        .map(|_| {
            let mut lot = fresh.clone();
            let started = Instant::now();
            black_box(lot.open());
            started.elapsed()
        })
        .sum()
}

/// The middle of `values`, the upper one of two.
///
/// # Panics
/// If there are none, or one is no number.
pub fn median(values: &mut [f64]) -> f64 {
    values.sort_by(|a, b| a.partial_cmp(b).expect("a measurement is a number"));
    values[values.len() / 2]
}
