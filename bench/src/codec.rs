//! Entries to bytes and back: what the core spends on a batch before the log thread has it, and a replay on reading.

use std::hint::black_box;
use std::path::Path;
use std::sync::Arc;
use std::time::Instant;

use anyhow::Result;
use engine::Entry;
use persistence::{Batch, Keys, RealDisk, SCHEMA, Sealer, decode, system_random};

use crate::allocations;
use crate::apply::median;
use crate::workload::Workload;

/// The shard the entries belong to.
const SHARD: u16 = 1;

/// What one size of entry gave.
#[derive(Clone, Debug)]
pub struct Row {
    /// Bids in the entry.
    pub bids: usize,
    /// Bytes of its record in the log.
    pub bytes: usize,
    /// Of these, bytes that are no payload.
    pub overhead: usize,
    /// Median nanoseconds a bid to encode.
    pub encode_ns: f64,
    /// Median nanoseconds a bid to decode.
    pub decode_ns: f64,
    /// Allocations of one encoding into a batch that was used before.
    pub encode_allocations: u64,
}

/// What seals, with keys made in `folder`.
pub fn sealer(folder: &Path) -> Result<Sealer> {
    let keys = Keys::open(Arc::new(RealDisk), folder, system_random, true)?;
    Ok(Sealer::new(Arc::new(keys), 1))
}

/// An entry of `bids` bids.
pub fn entry(bids: usize) -> Entry {
    let (mut workload, _) = Workload::new(10);
    let mut entry = workload.entries(1).remove(0);
    entry.commands.truncate(bids);
    entry
}

/// The payload of an entry's record. Equal to what a batch holds for it: a test compares.
pub fn payload(entry: &Entry) -> Result<Vec<u8>> {
    Ok(wincode::serialize(&entry.commands)?)
}

/// Encodes `entry` into `batch`, which is emptied before.
pub fn encode(batch: &mut Batch, entry: &Entry, sealer: &Sealer) -> Result<usize> {
    batch.clear();
    batch.push_entry(SHARD, 1, entry, sealer)?;
    Ok(batch.bytes_len())
}

/// Decodes the payload of `entry`'s record.
pub fn read(payload: &[u8], entry: &Entry, sealer: &Sealer) -> Result<Entry> {
    Ok(decode(payload, SCHEMA, SHARD, entry.index, sealer)?.entry)
}

/// Measures entries of `bids` bids, `times` times each way.
pub fn measure(bids: usize, times: usize, sealer: &Sealer) -> Result<Row> {
    let entry = entry(bids);
    let mut batch = Batch::new();
    let bytes = encode(&mut batch, &entry, sealer)?;
    let before = allocations::on_this_thread();
    encode(&mut batch, &entry, sealer)?;
    let encode_allocations = allocations::on_this_thread() - before;
    let payload = payload(&entry)?;
    let (mut encoding, mut decoding) = (Vec::new(), Vec::new());
    for _ in 0..times {
        let started = Instant::now();
        black_box(encode(&mut batch, black_box(&entry), sealer)?);
        encoding.push(started.elapsed().as_nanos() as f64 / bids as f64);
        let started = Instant::now();
        black_box(read(black_box(&payload), &entry, sealer)?);
        decoding.push(started.elapsed().as_nanos() as f64 / bids as f64);
    }
    Ok(Row {
        bids,
        bytes,
        overhead: bytes - payload.len(),
        encode_ns: median(&mut encoding),
        decode_ns: median(&mut decoding),
        encode_allocations,
    })
}
