//! Applying a bid in engine and peer, by number of open lots. The row of RESULTS.md is measured by `compare`, which
//! alternates the sides; this one is for looking at one side while changing it.

use std::time::{Duration, Instant};

use bench::apply::{LOTS, Swallow, on_engine, on_peer};
use bench::std_maps::StdMaps;
use bench::workload::{BATCH, Workload};
use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};

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

criterion_group!(benches, apply);
criterion_main!(benches);
