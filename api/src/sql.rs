//! The command `sql rebuild`: empties the database and fills it again from the log of a stopped node.

use std::process::ExitCode;
use std::sync::Arc;

use anyhow::Context;
use indicatif::{ProgressBar, ProgressStyle};
use persistence::sql::Store;
use persistence::{Log, Options, RealDisk};

use crate::config::{self, Config};
use crate::node::projector;

/// Entries between two looks at how many rows wait.
const ROWS: usize = 8_192;

/// Empties and refills the database of `config`.
///
/// # Errors
/// The data folder is in use or damaged, or the database refuses; the next start of the node goes on from there.
pub fn rebuild(config: &Config) -> anyhow::Result<ExitCode> {
    let place = config.database.as_ref().context("--database is none: there is nothing to fill")?;
    anyhow::ensure!(config.data.is_dir(), "{}: no data directory", config.data.display());
    let layout = Options {
        segment_bytes: config.segment_bytes,
        shards: config.shards + 1,
        seal: config.seal,
        node: config.node_number(),
        master: config::master_key(),
        ..Options::new(&config.data, &config.keys)
    };
    // Holds the folder's lock: nobody writes meanwhile.
    let (_log, recovered) = Log::open(Arc::new(RealDisk), layout)?;
    let last: Vec<u64> = recovered.last.iter().map(|last| last.index).collect();
    let (reader, history) = (recovered.reader(), recovered.history.to_string());
    let bar = ProgressBar::new(last.iter().sum());
    let style = "{wide_bar} {pos}/{len} entries, {per_sec}, {eta} left";
    bar.set_style(ProgressStyle::with_template(style).context("the bar's template")?);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let rows = runtime.block_on(async {
        let mut store = Store::open(place).await?;
        store.empty().await?;
        let mut replica = projector::begin(&mut store, &reader, &history, &last).await?;
        let now = reader.read(replica.indexes())?;
        for skip in now.skips {
            replica.pass_by(skip.shard, skip.index, skip.position);
        }
        let mut rows = 0;
        bar.set_position(replica.indexes().iter().sum());
        for entry in now.entries {
            let entry = entry?;
            replica.apply(entry.shard, &entry.entry);
            if replica.waiting() >= ROWS
                && let Some((advances, batch)) = replica.take()
            {
                store.write(&history, &advances, &batch).await?;
                rows += batch.len();
                bar.set_position(replica.indexes().iter().sum());
            }
        }
        if let Some((advances, batch)) = replica.take() {
            store.write(&history, &advances, &batch).await?;
            rows += batch.len();
        }
        Ok::<_, anyhow::Error>(rows)
    })?;
    bar.finish();
    println!("{rows} rows of {} entries are in {place}", last.iter().sum::<u64>());
    Ok(ExitCode::SUCCESS)
}
