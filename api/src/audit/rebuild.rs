//! `reversetender audit rebuild`: makes the files of the audit again from the log of a stopped node.
//!
//! What was signed is held against what the log says, and kept. Nothing that counts is touched before all of it is
//! there and durable.

use std::path::Path;
use std::process::ExitCode;
use std::sync::Arc;

use anyhow::{Context, bail, ensure};
use indicatif::{ProgressBar, ProgressStyle};
use persistence::checkpoint::AuditSigner;
use persistence::{AuditPlace, AuditShard, Disk, Options, RealDisk, RecoveredEntry};

use crate::config::{self, Config};
use crate::feed::Hub;
use crate::node::{self, AUDIT, Copied, Copies, Recovery};
use crate::text;

/// The log contradicts a root that was signed.
const CONTRADICTED: u8 = 3;

/// Rebuilds the folder `audit` of the data folder.
///
/// # Errors
/// The data folder is in use or damaged, the log does not begin at the beginning, or the disk refuses. Nothing is changed
/// then, unless the text says so.
pub fn rebuild(config: &Config) -> anyhow::Result<ExitCode> {
    let data = &config.data;
    ensure!(data.is_dir(), "{}: no data directory", data.display());
    let layout = Options {
        segment_bytes: config.segment_bytes,
        shards: config.shards + 1,
        seal: config.seal,
        node: config.node_number(),
        master: config::master_key(),
        ..Options::new(data, &config.keys)
    };
    let scratch = Scratch::new(data);
    // States as of the end of the log, from the newest snapshot on. Holds the folder's lock: nobody writes meanwhile.
    let Recovery { log: _log, recovered, shards, poisoned, .. } =
        node::recover_beside(Arc::new(RealDisk), layout, &Hub::new(), &scratch.name("states"), 0)?;
    ensure!(
        poisoned.is_empty(),
        "a command panics that the log does not pass by yet: start the node once, then again"
    );
    let place = || AuditPlace::new(Arc::new(RealDisk), data, recovered.sealer.clone(), recovered.history);
    let fresh = place().beside(&scratch.name("new"));
    let numbers = 0..shards.len() as u16;
    let audits: Result<Vec<AuditShard>, _> =
        numbers.map(|number| AuditShard::open(&fresh, number, Vec::new(), Vec::new())).collect();
    let mut audits = audits?;
    let bar = ProgressBar::new(recovered.last.iter().map(|last| last.index).sum());
    bar.set_style(ProgressStyle::with_template("{wide_bar} {pos}/{len} entries, {per_sec}, {eta} left")?);
    for found in recovered.entries_from_start() {
        let RecoveredEntry { shard, entry, erased, .. } = found?;
        let audit = &mut audits[usize::from(shard)];
        if entry.index != audit.index() + 1 {
            bail!(
                "the log of shard {shard} begins at entry {}: what came before went when snapshots covered it, and with it \
                 the hashes. Bring back the folder `audit` from the archive (`restore` to another directory) or from a \
                 backup. Nothing was changed",
                entry.index
            );
        }
        audit.feed(&entry, &erased);
        bar.inc(1);
    }
    bar.finish_and_clear();
    for (audit, last) in audits.iter().zip(&recovered.last) {
        ensure!(
            audit.index() == last.index,
            "the log is missing entries up to {}. Nothing was changed",
            last.index
        );
    }

    let publics = AuditSigner::open(recovered.sealer.keys())?.publics();
    let epoch = recovered.history.to_string();
    let (mut kept, mut unsigned) = (0, 0);
    for (number, audit) in audits.iter_mut().enumerate() {
        let mut reader = audit.reader()?;
        let mut size = 0;
        for root in place().stored_roots(number as u16)? {
            if !publics.iter().any(|public| root.is_signed_by(public, &epoch)) {
                unsigned += 1;
                continue;
            }
            if root.size > audit.size() || reader.root(root.size)? != root.root {
                eprintln!(
                    "error: the log of shard {number} does not give the root of {} leaves that was signed at {}: it was \
                     changed or cut since then. Keep it, compare it with roots that were kept elsewhere, and restore. \
                     Nothing was changed",
                    root.size,
                    text::time(root.at)
                );
                return Ok(ExitCode::from(CONTRADICTED));
            }
            if root.size > size {
                size = root.size;
                audit.keep(&root);
                kept += 1;
            }
        }
        audit.sync()?.sync()?;
    }

    // All of it is there: it takes its place, and two snapshots, because those before point into the old files.
    let old = data.join(format!("{AUDIT}.damaged-{}", node::wall_ms()));
    let was_there = data.join(AUDIT).exists();
    if was_there {
        std::fs::rename(data.join(AUDIT), &old).with_context(|| old.display().to_string())?;
    }
    std::fs::rename(data.join(scratch.name("new")), data.join(AUDIT)).context("audit")?;
    RealDisk.sync_dir(data)?;
    for _ in 0..2 {
        let mut copies = Vec::with_capacity(shards.len());
        for ((shard, audit), last) in shards.iter().zip(&mut audits).zip(&recovered.last) {
            let (chains, parts) = audit.snapshot();
            copies.push((*last, shard.machine.clone(), Copied { chains, audit: parts, files: audit.sync()? }));
        }
        node::write_snapshot(Copies::of(copies), &recovered.snapshots)
            .context("the audit is there, a snapshot that points into it is not: run this again before a start")?;
    }
    let entries: u64 = recovered.last.iter().map(|last| last.index).sum();
    println!("the audit of {entries} entries is made again; {kept} signed roots hold and were kept");
    if unsigned > 0 {
        println!("{unsigned} roots bear no signature of this node and were left out");
    }
    if was_there {
        println!("what was there lies in {}", old.display());
    }
    Ok(ExitCode::SUCCESS)
}

/// Folders beside the one that counts, removed in the end.
struct Scratch<'a>(&'a Path);

impl<'a> Scratch<'a> {
    fn new(data: &'a Path) -> Self {
        Self(data)
    }

    fn name(&self, what: &str) -> String {
        format!("{AUDIT}.{what}-{}", std::process::id())
    }
}

impl Drop for Scratch<'_> {
    fn drop(&mut self) {
        for what in ["states", "new"] {
            // Only space is at stake.
            let _gone = std::fs::remove_dir_all(self.0.join(self.name(what)));
        }
    }
}
