//! One record at a time into the log, and the raw write and flush below it. The row of RESULTS.md is measured by
//! `compare`, which alternates the two one by one; here each runs by itself.

use std::path::Path;
use std::sync::Arc;

use bench::floor::RawLog;
use bench::log_append::Bids;
use criterion::{Criterion, criterion_group, criterion_main};
use persistence::{Batch, Log, Options, RealDisk};

fn log_append(criterion: &mut Criterion) {
    // On the disk of the build folder: a temporary folder may lie in memory.
    let disk = Path::new(env!("CARGO_TARGET_TMPDIR"));
    let folder = tempfile::tempdir_in(disk).expect("a folder on the disk");
    let options = Options::new(folder.path().join("data"), folder.path().join("keys"));
    let (mut log, recovered) = Log::open(Arc::new(RealDisk), options).expect("a new log opens");
    let mut bids = Bids::new();
    let mut batch = Batch::new();
    bids.next(&mut batch, &recovered.sealer).expect("a bid is encoded");
    let bytes = vec![0x5A; batch.bytes_len()];
    log.append(&mut batch).expect("it is appended");

    let mut group = criterion.benchmark_group("log append, 1 in flight");
    group.bench_function("log", |bencher| {
        bencher.iter(|| {
            bids.next(&mut batch, &recovered.sealer).expect("a bid is encoded");
            log.append(&mut batch).expect("it is appended");
        });
    });
    let mut raw = RawLog::create(&folder.path().join("raw")).expect("the raw file is made");
    group.bench_function("pwrite + fdatasync", |bencher| {
        bencher.iter(|| raw.append(&bytes).expect("it is appended"));
    });
    group.finish();
}

criterion_group!(benches, log_append);
criterion_main!(benches);
