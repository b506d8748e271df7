//! What sealing everything and the audit's hashes cost: one log without, one with each, one with both, entry by entry in
//! turns. The program feeds the audit on a thread beside the core; here it is in the time, so that it shows.

use std::path::Path;
use std::sync::Arc;
use std::time::Instant;

use anyhow::Result;
use hdrhistogram::Histogram;
use persistence::{AuditPlace, AuditShard, Batch, Log, Options, RealDisk, Seal, Sealer};

use crate::workload::Workload;

/// The shard that is appended to.
const SHARD: u16 = 1;
/// Entries of each side before anything is measured.
const WARM_UP: usize = 20;

/// One log.
struct Side {
    log: Log,
    sealer: Sealer,
    audit: Option<AuditShard>,
    workload: Workload,
    batch: Batch,
}

/// What was measured of one log, nanoseconds an entry: encoding, appending with its flush, feeding the audit.
pub struct Cost {
    /// What it does.
    pub name: &'static str,
    /// Without the flush: processor time of the thread.
    pub processor: Histogram<u64>,
    /// With it: time.
    pub time: Histogram<u64>,
}

/// What one size of entry gave.
pub struct Row {
    /// Bids in an entry.
    pub bids: usize,
    /// The logs; the first has neither.
    pub costs: Vec<Cost>,
}

impl Row {
    /// Median time and processor time of each log after the first, by that of the first.
    pub fn ratios(&self) -> Vec<(&'static str, f64, f64)> {
        let half = |histogram: &Histogram<u64>| histogram.value_at_quantile(0.5) as f64;
        let Some((first, rest)) = self.costs.split_first() else { return Vec::new() };
        let ratio = |cost: &Cost| {
            let time = half(&cost.time) / half(&first.time);
            (cost.name, time, half(&cost.processor) / half(&first.processor))
        };
        rest.iter().map(ratio).collect()
    }
}

impl Side {
    fn new(folder: &Path, seal: Seal, audit: bool) -> Result<Self> {
        let data = folder.join("data");
        let options = Options { seal, ..Options::new(&data, folder.join("keys")) };
        let (log, recovered) = Log::open(Arc::new(RealDisk), options)?;
        let sealer = recovered.sealer.clone();
        let place = AuditPlace::new(Arc::new(RealDisk), &data, sealer.clone(), recovered.history)
            .telling(log.tree_heads());
        let audit = audit.then(|| AuditShard::open(&place, SHARD, Vec::new(), Vec::new())).transpose()?;
        let (workload, _, opening) = Workload::recorded(10);
        let mut this = Self { log, sealer, audit, workload, batch: Batch::new() };
        for entry in &opening {
            this.append(entry)?;
        }
        Ok(this)
    }

    /// Appends an entry: the time, and the processor time of this thread, in nanoseconds.
    fn append(&mut self, entry: &engine::Entry) -> Result<(u64, u64)> {
        let (began, processor) = (Instant::now(), processor_ns());
        self.batch.clear();
        self.batch.push_entry(SHARD, 1, entry, &self.sealer)?;
        self.log.append(&mut self.batch)?;
        if let Some(audit) = &mut self.audit {
            audit.feed(entry, &[]);
        }
        let processor = processor_ns() - processor;
        Ok((began.elapsed().as_nanos() as u64, processor))
    }
}

/// Processor time of this thread so far, nanoseconds.
fn processor_ns() -> u64 {
    let time = rustix::time::clock_gettime(rustix::time::ClockId::ThreadCPUTime);
    time.tv_sec as u64 * 1_000_000_000 + time.tv_nsec as u64
}

/// Appends `entries` entries of `bids` bids to each log, in `folder`.
///
/// # Errors
/// The disk.
pub fn measure(folder: &Path, bids: usize, entries: usize) -> Result<Row> {
    let sides = [
        ("secret parts sealed, no audit", Seal::Secrets, false),
        ("everything sealed", Seal::All, false),
        ("audit", Seal::Secrets, true),
        ("everything sealed, audit", Seal::All, true),
    ];
    let mut costs = Vec::new();
    let mut running = Vec::new();
    for (number, (name, seal, audit)) in sides.into_iter().enumerate() {
        let own = folder.join(number.to_string());
        std::fs::create_dir(&own)?;
        running.push(Side::new(&own, seal, audit)?);
        costs.push(Cost { name, processor: Histogram::new(3)?, time: Histogram::new(3)? });
    }
    for number in 0..WARM_UP + entries {
        for turn in 0..running.len() {
            // Nobody is always behind the same neighbour's flush.
            let side = (turn + number) % running.len();
            let mut entry = running[side].workload.entries(1).remove(0);
            entry.commands.truncate(bids);
            let (time, processor) = running[side].append(&entry)?;
            if number >= WARM_UP {
                costs[side].time.record(time)?;
                costs[side].processor.record(processor)?;
            }
        }
    }
    Ok(Row { bids, costs })
}
