//! Entries to bytes and back, by number of bids in the entry.

use bench::codec::{encode, entry, payload, read, sealer};
use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use persistence::Batch;

fn codec(criterion: &mut Criterion) {
    let folder = tempfile::tempdir().expect("a folder for the keys");
    let sealer = sealer(folder.path()).expect("keys are made");
    let mut group = criterion.benchmark_group("codec");
    for bids in [1usize, 64] {
        let entry = entry(bids);
        let payload = payload(&entry).expect("it is encoded");
        group.throughput(Throughput::Elements(bids as u64));
        let mut batch = Batch::new();
        group.bench_function(BenchmarkId::new("encode", bids), |bencher| {
            bencher.iter(|| encode(&mut batch, &entry, &sealer).expect("it is encoded"));
        });
        group.bench_function(BenchmarkId::new("decode", bids), |bencher| {
            bencher.iter(|| read(&payload, &entry, &sealer).expect("it is decoded"));
        });
    }
    group.finish();
}

criterion_group!(benches, codec);
criterion_main!(benches);
