//! One voter under Raft beside one node alone: from a proposal to its commit, each on a log of its own, in turns.
//!
//! The target: Raft takes no more than 1 ÷ 0.95 of the time.

use std::path::Path;
use std::sync::Arc;
use std::time::Instant;

use anyhow::{Context as _, Result, ensure};
use engine::Command;
use hdrhistogram::Histogram;
use persistence::raft::{Raft, RaftMember, RaftOptions};
use persistence::{Batch, Log, Options, Ready, RealDisk, Replicator, Sealer, Solo};

use crate::workload::Workload;

/// The shard that is proposed to.
const SHARD: u16 = 1;
/// Proposals on each side before anything is measured.
const WARM_UP: usize = 50;

/// What was measured, in nanoseconds a proposal.
pub struct Row {
    /// Commands of a proposal.
    pub commands: usize,
    /// One node alone.
    pub solo: Histogram<u64>,
    /// One voter under Raft.
    pub raft: Histogram<u64>,
}

impl Row {
    /// Median of one node alone ÷ median of one voter under Raft.
    pub fn ratio(&self) -> f64 {
        self.solo.value_at_quantile(0.5) as f64 / self.raft.value_at_quantile(0.5) as f64
    }
}

/// One side.
struct Side {
    replicator: Box<dyn Replicator>,
    log: Log,
    sealer: Sealer,
    batch: Batch,
    ready: Ready,
}

impl Side {
    fn open(folder: &Path, raft: bool) -> Result<Self> {
        let options = Options::new(folder.join("data"), folder.join("keys"));
        let (log, recovered) = Log::open(Arc::new(RealDisk), options)?;
        let replicator: Box<dyn Replicator> = if raft {
            let options = RaftOptions {
                node: 1,
                disk: 1,
                members: vec![RaftMember { node: 1, site: 1, witness: false }],
                bootstrap: true,
                doubtful: false,
                both: false,
                fall_back_ticks: 10,
                beat_ticks: 1,
                election_ticks: 10,
                own_election_ticks: 10,
                preferred: Vec::new(),
            };
            Box::new(Raft::new(options, recovered.shard_logs()?))
        } else {
            Box::new(Solo::new(recovered.last.iter().map(|last| last.index), recovered.term))
        };
        let sealer = recovered.sealer.clone();
        let mut side = Self { replicator, log, sealer, batch: Batch::new(), ready: Ready::default() };
        side.settle()?;
        Ok(side)
    }

    /// Makes durable what is to be, until nothing is; the entries of the shard that were committed.
    fn settle(&mut self) -> Result<usize> {
        let mut committed = 0;
        loop {
            self.ready.clear();
            self.replicator.poll(&mut self.ready);
            for placed in &self.ready.committed {
                committed += usize::from(placed.shard == SHARD);
                self.replicator.applied(placed.shard, placed.entry.index);
                // A snapshot now and then, or memory would be measured.
                if placed.entry.index.is_multiple_of(1_024) {
                    self.replicator.compact(placed.shard, placed.entry.index - 1);
                }
            }
            if self.ready.number == 0 {
                return Ok(committed);
            }
            self.batch.clear();
            self.ready.fill(&mut self.batch, &self.sealer)?;
            self.log.append(&mut self.batch)?;
            self.replicator.persisted(self.ready.number);
        }
    }

    fn commit(&mut self, commands: Vec<Command>) -> Result<u64> {
        let started = Instant::now();
        self.replicator.propose(SHARD, commands).context("it leads")?;
        let committed = self.settle()?;
        let took = started.elapsed().as_nanos() as u64;
        ensure!(committed == 1, "one proposal, one commit");
        Ok(took)
    }
}

/// Measures `times` proposals of `commands` commands on both sides, one by one, in `folder`.
pub fn measure(folder: &Path, commands: usize, times: usize) -> Result<Row> {
    let (solo, raft) = (folder.join("solo"), folder.join("raft"));
    for folder in [&solo, &raft] {
        std::fs::create_dir(folder)?;
    }
    let mut sides = [Side::open(&solo, false)?, Side::open(&raft, true)?];
    let mut workload = Workload::new(10).0;
    let mut made = Vec::new();
    let mut row = Row { commands, solo: Histogram::new(3)?, raft: Histogram::new(3)? };
    for number in 0..WARM_UP + times {
        while made.len() < commands {
            made.extend(workload.entries(1).remove(0).commands);
        }
        let batch: Vec<Command> = made.drain(..commands).collect();
        let first = number % 2;
        for side in [first, 1 - first] {
            let took = sides[side].commit(batch.clone())?;
            if number >= WARM_UP {
                [&mut row.solo, &mut row.raft][side].record(took)?;
            }
        }
    }
    Ok(row)
}
