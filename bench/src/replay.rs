//! Row 10: `kill -9` to the first answer with many bids in the log, beside Redis reading its append-only file of as many
//! bids. Ours starts from its snapshot and what lies behind it, and, told apart, from the log alone.

use std::fs;
use std::io::Read as _;
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};

use crate::redis::Redis;
use crate::restart::{self, Content, SHARDS, Start};
use crate::workload::{BATCH, BIDDERS};

/// Bids to a lot: each bidder comes back now and then.
const BIDS_A_LOT: u64 = 200;

/// What was measured; times in the order of the rounds.
#[derive(Debug)]
pub struct Replay {
    /// Bids in the log.
    pub bids: u64,
    /// Of these behind the snapshot.
    pub behind: u64,
    /// Open lots.
    pub lots: u64,
    /// Bytes of the log's segments.
    pub log_bytes: u64,
    /// Bytes of the snapshot.
    pub snapshot_bytes: u64,
    /// Starts from the snapshot.
    pub snapshot: Vec<Start>,
    /// Starts from the log alone.
    pub log: Vec<Start>,
    /// Reading the segments and their checksum, which is the floor of reading a log.
    pub read: Vec<Duration>,
    /// Redis: version, and from starting it to the first answer about a lot.
    pub redis: Option<(String, Vec<Duration>)>,
}

/// The median.
pub fn median(times: impl IntoIterator<Item = Duration>) -> Duration {
    let mut times: Vec<Duration> = times.into_iter().collect();
    times.sort_unstable();
    times.get(times.len() / 2).copied().unwrap_or_default()
}

/// Makes a log of about `bids` bids in `dir`, `behind` of them after its snapshot, and starts both sides in turns.
///
/// # Errors
/// A folder can't be made, a start fails, or something is lost.
pub async fn run(program: &Path, dir: &Path, bids: u64, behind: u64, rounds: usize) -> Result<Replay> {
    let (data, keys) = (dir.join("data"), dir.join("data-keys"));
    let a_shard = |bids: u64| bids.div_ceil(u64::from(SHARDS) * BATCH as u64).max(1) as usize;
    let lots_a_shard = bids.div_ceil(BIDS_A_LOT * u64::from(SHARDS)).max(1);
    let content = Content {
        lots: lots_a_shard as usize,
        each_once: false,
        before: a_shard(bids - behind),
        behind: a_shard(behind),
    };
    let snapshot_bytes = restart::make(&data, &keys, content)?;
    let lots = lots_a_shard * u64::from(SHARDS);
    let made = |entries: usize| entries as u64 * u64::from(SHARDS) * BATCH as u64;
    let bids = made(content.before + content.behind);

    let redis_dir = dir.join("redis");
    fs::create_dir(&redis_dir)?;
    // Its file as it was written: what it would make of it meanwhile has forgotten all but the best bids.
    let settings = ["--appendfsync", "everysec", "--auto-aof-rewrite-percentage", "0"];
    let redis = Redis::start_with(&redis_dir, &settings)?;
    let mut redis = match redis {
        None => None,
        Some(redis) => {
            redis.fill(bids, lots)?;
            redis.check(bids, lots)?;
            // What it was told a second ago it has flushed.
            std::thread::sleep(Duration::from_secs(2));
            Some((redis.version().to_owned(), Vec::new()))
        }
    };

    let (mut snapshot, mut log, mut read) = (Vec::new(), Vec::new(), Vec::new());
    for round in 0..rounds {
        for (whole, starts) in [(true, &mut snapshot), (false, &mut log)] {
            let own = dir.join(format!("run-{round}"));
            let own_keys = dir.join(format!("run-{round}-keys"));
            restart::copy(&data, &own)?;
            restart::copy(&keys, &own_keys)?;
            if !whole {
                fs::remove_dir_all(own.join("snapshots"))?;
                fs::remove_dir_all(own.join("audit"))?;
            }
            starts.push(restart::start(program, &own).await.with_context(|| format!("snapshot: {whole}"))?);
            fs::remove_dir_all(&own)?;
            fs::remove_dir_all(&own_keys)?;
        }
        read.push(read_through(&data.join("log"))?.0);
        if let Some((_, times)) = &mut redis {
            let began = Instant::now();
            let started = Redis::start_with(&redis_dir, &settings)?.context("it was there before")?;
            started.check(bids, lots)?;
            times.push(began.elapsed());
        }
    }
    let log_bytes = read_through(&data.join("log"))?.1;
    let behind = made(content.behind);
    Ok(Replay { bids, behind, lots, log_bytes, snapshot_bytes, snapshot, log, read, redis })
}

/// Reads all segments from end to end with a checksum over them; the time and the bytes.
fn read_through(dir: &Path) -> Result<(Duration, u64)> {
    let began = Instant::now();
    let mut buffer = vec![0; 1 << 20];
    let (mut bytes, mut checksum) = (0, 0);
    for entry in fs::read_dir(dir)? {
        let entry = entry?;
        if entry.path().extension().is_none_or(|extension| extension != "seg") {
            continue;
        }
        let mut file = fs::File::open(entry.path())?;
        loop {
            let read = file.read(&mut buffer)?;
            if read == 0 {
                break;
            }
            checksum = crc32c::crc32c_append(checksum, &buffer[..read]);
            bytes += read as u64;
        }
    }
    std::hint::black_box(checksum);
    Ok((began.elapsed(), bytes))
}

impl Replay {
    /// Bids that stand at most: one of each bidder in a lot.
    pub fn standing(&self) -> u64 {
        self.lots * u64::from(BIDDERS)
    }
}
