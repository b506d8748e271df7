//! Applying a bid in engine and peer, by number of open lots; a bid or accept of every other format; and settling
//! limits, by number of those who left one. The row of RESULTS.md is measured by `compare`, which
//! alternates the sides; this one is for looking at one side while changing it.

use std::hint::black_box;
use std::time::{Duration, Instant};

use bench::apply::{AUTO_BIDDERS, LOTS, Swallow, on_engine, on_peer, opening};
use bench::formats::{FormatLoad, Kind};
use bench::std_maps::StdMaps;
use bench::workload::{BATCH, Workload};
use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use engine::Settling;

fn apply(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("apply");
    group.throughput(Throughput::Elements(1)).sample_size(20);
    group.warm_up_time(Duration::from_millis(500)).measurement_time(Duration::from_secs(2));
    for lots in LOTS {
        let (mut workload, mut engine) = Workload::new(lots);
        let mut peer = StdMaps::like(&engine);
        let mut sink = Swallow::default();
        group.bench_function(BenchmarkId::new("engine", lots), |bencher| {
            bencher.iter_custom(|bids| {
                let entries = workload.entries((bids as usize).div_ceil(BATCH));
                let spent = on_engine(&mut engine, &entries, &mut sink);
                let made = (entries.len() * BATCH) as f64;
                Duration::from_nanos((spent.ns * bids as f64 / made) as u64)
            });
        });
        // The peer meets the same bids from the beginning.
        let (mut workload, _) = Workload::new(lots);
        group.bench_function(BenchmarkId::new("std maps", lots), |bencher| {
            bencher.iter_custom(|bids| {
                let entries = workload.entries((bids as usize).div_ceil(BATCH));
                let spent = on_peer(&mut peer, &entries, &mut sink);
                let made = (entries.len() * BATCH) as f64;
                Duration::from_nanos((spent.ns * bids as f64 / made) as u64)
            });
        });
    }
    group.finish();
    // Keeps the clock's own cost in sight: it is in every sample above once per round.
    criterion.bench_function("reading the clock", |bencher| bencher.iter(Instant::now));
}

fn formats(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("formats");
    group.throughput(Throughput::Elements(1)).sample_size(20);
    group.warm_up_time(Duration::from_millis(500)).measurement_time(Duration::from_secs(2));
    for kind in Kind::ALL {
        let mut load = FormatLoad::new(kind);
        let mut sink = Swallow::default();
        group.bench_function(kind.name(), |bencher| {
            bencher.iter_custom(|commands| {
                let (spent, made) = load.apply(commands as usize, &mut sink);
                Duration::from_nanos((spent.ns * commands as f64 / made as f64) as u64)
            });
        });
    }
}

/// The time is for one auto bidder: it stays about the same where settling is linear.
fn settling(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("settling, each auto bidder");
    group.sample_size(20).warm_up_time(Duration::from_millis(500)).measurement_time(Duration::from_secs(2));
    for bidders in AUTO_BIDDERS {
        group.throughput(Throughput::Elements(u64::from(bidders)));
        group.bench_function(BenchmarkId::new("opening", bidders), |bencher| {
            bencher.iter_custom(|times| opening(bidders, times) / u32::from(bidders));
        });
        let mut lot = Settling::new(bidders);
        lot.open();
        group.bench_function(BenchmarkId::new("bid", bidders), |bencher| {
            bencher.iter_custom(|times| {
                let started = Instant::now();
                for _ in 0..times {
                    black_box(lot.bid());
                }
                started.elapsed() / u32::from(bidders)
            });
        });
    }
}

criterion_group!(benches, apply, formats, settling);
criterion_main!(benches);
