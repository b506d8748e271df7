//! Rows 3 to 5: a bid over the socket to its durable answer, beside what the machine allows, alternated in one run.
//! Starts the real program on a folder of its own.

use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use hdrhistogram::Histogram;
use persistence::{Batch, Sealer};

use crate::client::{metric, set_up};
use crate::floor::{RawLog, Trip};
use crate::load::{self, Answer, FLUSHES};
use crate::redis::Redis;
use crate::server::Server;
use crate::workload::Workload;

/// About what a bid and its answer take on the wire: the frames of the load generator, with their headers.
const REQUEST_BYTES: usize = 150;
const ANSWER_BYTES: usize = 260;

/// Bids before anything is measured.
const WARM_UP: usize = 200;

/// One bid in flight, beside a trip and a flush.
pub struct OneInFlight {
    /// Nanoseconds from sending a bid to reading its answer.
    pub bid: Histogram<u64>,
    /// Nanoseconds of a trip over loopback.
    pub trip: Histogram<u64>,
    /// Nanoseconds of a raw write and flush of as many bytes.
    pub flush: Histogram<u64>,
    /// Nanoseconds of a bid to Redis, with its version; none where it isn't installed.
    pub redis: Option<(String, Histogram<u64>)>,
}

impl OneInFlight {
    /// Median of the bid ÷ (median of the trip + median of the flush).
    pub fn ratio(&self) -> f64 {
        let median = |histogram: &Histogram<u64>| histogram.value_at_quantile(0.5) as f64;
        median(&self.bid) / (median(&self.trip) + median(&self.flush))
    }

    /// Median of the bid ÷ median of Redis.
    pub fn redis_ratio(&self) -> Option<f64> {
        let median = |histogram: &Histogram<u64>| histogram.value_at_quantile(0.5) as f64;
        self.redis.as_ref().map(|(_, redis)| median(&self.bid) / median(redis))
    }
}

/// So many bids in flight, beside raw flushes.
pub struct ManyInFlight {
    /// Bids in flight.
    pub in_flight: usize,
    /// Accepted bids a second, all rounds together.
    pub bids_per_s: f64,
    /// Accepted bids a flush.
    pub bids_per_flush: f64,
    /// Flushes a second while bids were sent.
    pub flushes_per_s: f64,
    /// Raw flushes a second of as many bytes as an average batch takes.
    pub raw_flushes_per_s: f64,
    /// Nanoseconds from sending a bid to reading its answer.
    pub latency: Histogram<u64>,
    /// Processor time of the server a bid, in microseconds.
    pub server_cpu_us: f64,
    /// Bids a second that Redis took in turns with ours; none where it isn't installed.
    pub redis_per_s: Option<f64>,
}

/// Bytes of a log record with `commands` bids.
pub fn record_bytes(commands: usize, sealer: &Sealer) -> Result<usize> {
    let (mut workload, _) = Workload::new(1);
    let mut entry = workload.entries(1).remove(0);
    entry.commands.truncate(commands.max(1));
    let mut batch = Batch::new();
    batch.push_entry(1, 1, &entry, sealer)?;
    Ok(batch.bytes_len())
}

/// Measures one bid in flight: `times` times a bid, a trip and a flush, one after the other, so that all three meet the
/// same moods of machine and disk. `record` is the size of a record with one bid.
pub async fn one_in_flight(program: &Path, folder: &Path, times: usize, record: usize) -> Result<OneInFlight> {
    let server = Server::start(program, &folder.join("data")).await?;
    let field = set_up(&server.address, "one", 10, 1).await?;
    let mut bidder = load::connect(&server.address, &field, "one", 1).await?.remove(0);
    let mut raw = RawLog::create(&folder.join("raw"))?;
    let mut trip = Trip::open(REQUEST_BYTES, ANSWER_BYTES)?;
    let bytes = vec![0x5A; record];
    let redis = start_redis(folder)?;
    let mut peer = redis.as_ref().map(Redis::bidder).transpose()?;
    let mut row = OneInFlight {
        bid: Histogram::new(3)?,
        trip: Histogram::new(3)?,
        flush: Histogram::new(3)?,
        redis: redis
            .as_ref()
            .map(|redis| Ok::<_, anyhow::Error>((redis.version().to_owned(), Histogram::new(3)?)))
            .transpose()?,
    };
    for _ in 0..WARM_UP {
        if let Some(peer) = &mut peer {
            peer.bid()?;
        }
        accepted(&bidder.bid().await?)?;
        trip.measure()?;
        raw.append(&bytes)?;
    }
    for _ in 0..times {
        let started = Instant::now();
        let answer = bidder.bid().await?;
        row.bid.record(started.elapsed().as_nanos() as u64)?;
        accepted(&answer)?;
        row.trip.record(trip.measure()?)?;
        row.flush.record(raw.append(&bytes)?)?;
        if let (Some(peer), Some((_, histogram))) = (&mut peer, &mut row.redis) {
            histogram.record(peer.bid()?)?;
        }
    }
    Ok(row)
}

/// Redis in a folder of its own.
fn start_redis(folder: &Path) -> Result<Option<Redis>> {
    let place = folder.join("redis");
    std::fs::create_dir(&place)?;
    Redis::start(&place)
}

fn accepted(answer: &Answer) -> Result<()> {
    match answer {
        Answer::Accepted => Ok(()),
        Answer::Refused(code) => anyhow::bail!("a bid was not accepted: {code}"),
    }
}

/// Measures `in_flight` bids in flight: `rounds` rounds of `time` of bids and as long of raw flushes.
pub async fn many_in_flight(
    program: &Path,
    folder: &Path,
    in_flight: usize,
    rounds: usize,
    time: Duration,
    sealer: &Sealer,
) -> Result<ManyInFlight> {
    let server = Server::start(program, &folder.join("data")).await?;
    let field = set_up(&server.address, "many", 100, 8).await?;
    let mut bidders = load::connect(&server.address, &field, "many", in_flight).await?;
    let mut raw = RawLog::create(&folder.join("raw"))?;
    (_, bidders) = load::closed(bidders, time / 4).await?;

    let mut latency = Histogram::new_with_bounds(1, 60_000_000_000, 3)?;
    let (mut bids, mut bid_time, mut flushes, mut cpu) = (0, Duration::ZERO, 0.0, Duration::ZERO);
    let (mut raw_flushes, mut raw_time) = (0u64, Duration::ZERO);
    let redis = start_redis(folder)?;
    let (mut redis_bids, mut redis_time) = (0, Duration::ZERO);
    for _ in 0..rounds {
        if let Some(redis) = &redis {
            let (taken, took, _) = redis.closed(in_flight, time).await?;
            redis_bids += taken;
            redis_time += took;
        }
        let (flushes_before, cpu_before) = (metric(&server.admin, FLUSHES).await?, processor_time(server.id())?);
        let outcome;
        (outcome, bidders) = load::closed(bidders, time).await?;
        ensure!(outcome.refused.is_empty(), "some bids were not accepted: {:?}", outcome.refused);
        flushes += metric(&server.admin, FLUSHES).await? - flushes_before;
        cpu += processor_time(server.id())? - cpu_before;
        bids += outcome.accepted;
        bid_time += outcome.took;
        latency.add(&outcome.latency)?;

        let per_flush = (bids as f64 / flushes).round() as usize;
        let bytes = vec![0x5A; record_bytes(per_flush, sealer)?];
        let started = Instant::now();
        while started.elapsed() < time {
            raw.append(&bytes)?;
            raw_flushes += 1;
        }
        raw_time += started.elapsed();
    }
    ensure!(flushes > 0.0, "the server counted no flush");
    Ok(ManyInFlight {
        in_flight,
        bids_per_s: bids as f64 / bid_time.as_secs_f64(),
        bids_per_flush: bids as f64 / flushes,
        flushes_per_s: flushes / bid_time.as_secs_f64(),
        raw_flushes_per_s: raw_flushes as f64 / raw_time.as_secs_f64(),
        latency,
        server_cpu_us: cpu.as_secs_f64() * 1e6 / bids as f64,
        redis_per_s: redis.map(|_| redis_bids as f64 / redis_time.as_secs_f64()),
    })
}

/// Processor time that a process has used, in user and kernel.
pub(crate) fn processor_time(id: u32) -> Result<Duration> {
    let stat = std::fs::read_to_string(format!("/proc/{id}/stat"))?;
    // The command's name before the bracket may hold spaces; fields 14 and 15 are the 12th and 13th behind it.
    let behind = stat.rsplit(')').next().unwrap_or_default();
    let mut fields = behind.split_whitespace().skip(11).map(str::parse::<u64>);
    let (user, system) = (fields.next(), fields.next());
    let ticks = user.context("no user time")?? + system.context("no system time")??;
    Ok(Duration::from_millis(ticks * 10)) // USER_HZ is 100 on every Linux we run on.
}
