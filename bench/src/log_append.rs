//! Row 2: one record at a time into the log, beside a raw write and flush of as many bytes, alternated one by one.

use std::path::Path;
use std::sync::Arc;
use std::time::Instant;

use anyhow::{Context as _, Result};
use hdrhistogram::Histogram;
use persistence::{Batch, Log, LogEvent, LogThread, Options, RealDisk, Sealer};

use crate::floor::RawLog;
use crate::workload::Workload;

/// The shard that is appended to.
const SHARD: u16 = 1;

/// Appends on each side before anything is measured.
const WARM_UP: usize = 50;

/// What was measured, in nanoseconds.
pub struct Row {
    /// Bytes of a record.
    pub bytes: usize,
    /// How the sides were alternated.
    pub alternation: String,
    /// Raw write and flush, beside the log itself.
    pub raw: Histogram<u64>,
    /// Encoding a batch and appending it.
    pub append: Histogram<u64>,
    /// Raw write and flush, beside the log thread.
    pub raw_beside_thread: Histogram<u64>,
    /// Handing an encoded batch to the log thread until the thread says that it is durable.
    pub thread: Histogram<u64>,
}

impl Row {
    /// Median of the log's append ÷ median of the raw write and flush beside it.
    pub fn ratio(&self) -> f64 {
        median(&self.append) / median(&self.raw)
    }

    /// What was measured, by name.
    pub fn lines(&self) -> [(&'static str, &Histogram<u64>); 4] {
        [
            ("log append", &self.append),
            ("raw write and flush beside it", &self.raw),
            ("through the log thread", &self.thread),
            ("raw write and flush beside that", &self.raw_beside_thread),
        ]
    }

    /// The same through the log thread, two hand-overs between threads included.
    pub fn thread_ratio(&self) -> f64 {
        median(&self.thread) / median(&self.raw_beside_thread)
    }
}

fn median(histogram: &Histogram<u64>) -> f64 {
    histogram.value_at_quantile(0.5) as f64
}

/// Bids one by one, each as the next entry of the shard.
pub struct Bids {
    workload: Workload,
    made: Vec<engine::Command>,
    index: u64,
}

impl Default for Bids {
    fn default() -> Self {
        Self::new()
    }
}

impl Bids {
    /// Bids on a few lots, from the first entry on.
    pub fn new() -> Self {
        Self { workload: Workload::new(10).0, made: Vec::new(), index: 0 }
    }

    /// Puts the next bid into `batch`, which is emptied before.
    pub fn next(&mut self, batch: &mut Batch, sealer: &Sealer) -> Result<()> {
        if self.made.is_empty() {
            self.made = self.workload.entries(1).remove(0).commands;
        }
        let command = self.made.pop().context("an entry has commands")?;
        self.index += 1;
        let entry = engine::Entry { index: self.index, commands: vec![command] };
        batch.clear();
        batch.push_entry(SHARD, 1, &entry, sealer)?;
        Ok(())
    }
}

/// Measures `rounds` rounds of `each` appends on both sides, in `folder`.
pub fn measure(folder: &Path, rounds: usize, each: usize) -> Result<Row> {
    let options = Options::new(folder.join("data"), folder.join("keys"));
    let (mut log, recovered) = Log::open(Arc::new(RealDisk), options)?;
    let sealer = recovered.sealer.clone();
    let mut raw = RawLog::create(&folder.join("raw"))?;
    let mut bids = Bids::new();
    let mut batch = Batch::new();
    bids.next(&mut batch, &sealer)?;
    let bytes = vec![0x5A; batch.bytes_len()];
    log.append(&mut batch)?;
    let empty = || Histogram::new(3);
    let mut row = Row {
        bytes: bytes.len(),
        alternation: format!("pairs, {} of them, the first side changing every {each}", rounds * each),
        raw: empty()?,
        append: empty()?,
        raw_beside_thread: empty()?,
        thread: empty()?,
    };

    for number in 0..WARM_UP + rounds * each {
        let measured = number >= WARM_UP;
        let raw_first = (number / each).is_multiple_of(2);
        for raw_now in [raw_first, !raw_first] {
            if raw_now {
                let ns = raw.append(&bytes)?;
                if measured {
                    row.raw.record(ns)?;
                }
                continue;
            }
            let started = Instant::now();
            bids.next(&mut batch, &sealer)?;
            log.append(&mut batch)?;
            if measured {
                row.append.record(started.elapsed().as_nanos() as u64)?;
            }
        }
    }

    let thread = LogThread::spawn(log)?;
    for number in 0..WARM_UP + rounds * each {
        let measured = number >= WARM_UP;
        let raw_first = (number / each).is_multiple_of(2);
        for raw_now in [raw_first, !raw_first] {
            if raw_now {
                let ns = raw.append(&bytes)?;
                if measured {
                    row.raw_beside_thread.record(ns)?;
                }
                continue;
            }
            bids.next(&mut batch, &sealer)?;
            let started = Instant::now();
            thread.submit(std::mem::take(&mut batch))?;
            batch = flushed(&thread)?;
            if measured {
                row.thread.record(started.elapsed().as_nanos() as u64)?;
            }
        }
    }
    Ok(row)
}

/// Waits until the batch under way is durable, and returns it for reuse.
fn flushed(thread: &LogThread) -> Result<Batch> {
    loop {
        match thread.events().recv().context("the log thread ended")? {
            LogEvent::Flushed { batch } => return Ok(batch),
            LogEvent::Refused { .. } => anyhow::bail!("the disk is full"),
            LogEvent::Failed { error } => return Err(anyhow::anyhow!("the disk failed: {error}")),
            _ => {}
        }
    }
}
