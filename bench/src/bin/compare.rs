//! Runs the rows of the benchmark against their peers, alternated in one run, and writes RESULTS.md and its plots.
//! Owns the order of the rows and the page; what a row measures is in the library.

use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context as _, Result};
use bench::log_append;
use bench::machine::Machine;
use bench::plot::{Series, chart};
use bench::replay::{self, Replay, median};
use bench::restart::Start;
use bench::servers::mysql::Program;
use bench::socket::{self, ManyInFlight, OneInFlight};
use bench::stores::{self, GroupCommit, OneAtATime};
use bench::{apply, codec, protection, replication, server};
use clap::Parser;
use hdrhistogram::Histogram;
use hdrhistogram::serialization::{Serializer as _, V2Serializer};
use indicatif::{ProgressBar, ProgressStyle};

/// Runs every row against its peers and writes the results.
///
/// Build in release first: `cargo build --release -p api -p bench` (`cargo xtask bench` does all of it).
#[derive(Parser)]
struct Options {
    /// Where the page is written; plots and raw histograms lie in `plots` beside it.
    #[arg(long, default_value = "bench/RESULTS.md")]
    out: PathBuf,
    /// The folder whose disk is measured; needs 300 MB.
    #[arg(long, default_value = "target")]
    disk: PathBuf,
    /// A run of seconds that shows that everything works; its numbers mean little.
    #[arg(long)]
    quick: bool,
    /// Only group commit, with 64 writers; the page has nothing else.
    #[arg(long)]
    group: bool,
    /// Only the restart beside Redis; the page has nothing else.
    #[arg(long)]
    restart: bool,
    /// Bids in the log for the restart; some 600 bytes of disk each.
    #[arg(long, default_value_t = 1_000_000)]
    bids: u64,
}

/// Half of what the program lets the log grow before it takes a snapshot, in bids of this workload: what is there on
/// average when it is killed. That is 64 MiB, or a quarter of what the snapshot has, if that is more; a bid takes 167 bytes of
/// log and some 92 of the snapshot.
fn behind(bids: u64) -> u64 {
    (64 << 20).max(bids * 92 / 4) / 2 / 167
}

/// How much is measured.
struct Size {
    apply_rounds: usize,
    apply_entries: usize,
    apply_lots: Vec<usize>,
    codec_times: usize,
    appends: (usize, usize),
    stores: usize,
    group: (usize, Duration),
    one: usize,
    many: (usize, Duration),
    protection: usize,
    /// Rounds of the restart.
    restart: usize,
}

impl Size {
    fn of(quick: bool) -> Self {
        if quick {
            Self {
                apply_rounds: 6,
                apply_entries: 20,
                apply_lots: vec![1, 1_000],
                codec_times: 200,
                appends: (3, 20),
                stores: 40,
                group: (1, Duration::from_millis(200)),
                one: 500,
                many: (2, Duration::from_millis(500)),
                protection: 100,
                restart: 1,
            }
        } else {
            Self {
                apply_rounds: 60,
                apply_entries: 200,
                apply_lots: apply::LOTS.to_vec(),
                codec_times: 5_000,
                appends: (40, 100),
                stores: 2_000,
                group: (4, Duration::from_secs(2)),
                one: 8_000,
                many: (6, Duration::from_secs(4)),
                protection: 2_000,
                restart: 3,
            }
        }
    }
}

/// What was measured.
struct Results {
    machine: Machine,
    quick: bool,
    apply: Vec<apply::Row>,
    codec: Vec<codec::Row>,
    append: log_append::Row,
    replication: Vec<replication::Row>,
    stores: OneAtATime,
    group: GroupCommit,
    one: OneInFlight,
    many: ManyInFlight,
    protection: Vec<protection::Row>,
    replay: Replay,
}

fn main() -> Result<()> {
    let options = Options::parse();
    let size = Size::of(options.quick);
    fs::create_dir_all(&options.disk)?;
    let folder = tempfile::Builder::new().prefix("compare-").tempdir_in(&options.disk)?;
    let place = |name: &str| -> Result<PathBuf> {
        let place = folder.path().join(name);
        fs::create_dir(&place)?;
        Ok(place)
    };
    let mysql = || Program::find(&options.disk.join("mysql"));
    if options.group {
        let (rounds, time) = size.group;
        let group = stores::many_at_once(&place("group")?, rounds, time, mysql().as_ref())?;
        let machine = Machine::here(folder.path());
        let mut page = format!("# Group commit\n\nWritten by `compare --group`.\n\n{}\n", machine.table());
        group_section(&mut page, &group)?;
        fs::write(&options.out, &page).with_context(|| options.out.display().to_string())?;
        println!("{page}");
        return Ok(());
    }
    let program = server::program()?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let bids = if options.quick { options.bids.min(20_000) } else { options.bids };
    let restarts = |place: PathBuf| {
        runtime.block_on(replay::run(&program, &place, bids, behind(bids).min(bids / 2), size.restart))
    };
    if options.restart {
        let replay = restarts(place("restart")?)?;
        let machine = Machine::here(folder.path());
        let mut page = format!("# Restart\n\nWritten by `compare --restart`.\n\n{}\n", machine.table());
        replay_section(&mut page, &replay)?;
        fs::write(&options.out, &page).with_context(|| options.out.display().to_string())?;
        println!("{page}");
        return Ok(());
    }
    let sealer = codec::sealer(&place("keys")?)?;
    let record = socket::record_bytes(1, &sealer)?;

    let bar = ProgressBar::new(size.apply_lots.len() as u64 + 9);
    bar.set_style(ProgressStyle::with_template("{bar:30} {pos}/{len} {elapsed} {msg}").context("the template")?);
    let begin = |row: &str| {
        bar.set_message(row.to_owned());
        bar.tick();
        // On a pipe the bar is silent; a line a row tells that it goes on.
        eprintln!("compare: {row}");
    };
    let mut rows = Vec::new();
    for lots in &size.apply_lots {
        begin(&format!("apply, {lots} lots"));
        rows.push(apply::measure(*lots, size.apply_rounds, size.apply_entries));
        bar.inc(1);
    }
    begin("codec");
    let codec = [1, 8, 64].map(|bids| codec::measure(bids, size.codec_times, &sealer));
    let codec = codec.into_iter().collect::<Result<Vec<_>>>()?;
    bar.inc(1);
    begin("log append");
    let append = log_append::measure(&place("append")?, size.appends.0, size.appends.1)?;
    bar.inc(1);
    begin("one voter under Raft");
    let replication = [1, 44].map(|commands| {
        let name = format!("replication-{commands}");
        replication::measure(&place(&name)?, commands, size.appends.0 * size.appends.1)
    });
    let replication = replication.into_iter().collect::<Result<Vec<_>>>()?;
    bar.inc(1);
    begin("embedded stores, 1 at a time");
    let stores = stores::one_at_a_time(&place("stores")?, size.stores)?;
    bar.inc(1);
    begin("embedded stores, 64 writers");
    let group = stores::many_at_once(&place("group")?, size.group.0, size.group.1, mysql().as_ref())?;
    bar.inc(1);
    begin("socket, 1 in flight");
    let one = runtime.block_on(socket::one_in_flight(&program, &place("one")?, size.one, record))?;
    bar.inc(1);
    begin("socket, 64 in flight");
    let (rounds, time) = size.many;
    let many = runtime.block_on(socket::many_in_flight(&program, &place("many")?, 64, rounds, time, &sealer))?;
    bar.inc(1);
    begin("sealing and audit");
    let protection =
        [1, 64].map(|bids| protection::measure(&place(&format!("protection-{bids}"))?, bids, size.protection));
    let protection = protection.into_iter().collect::<Result<Vec<_>>>()?;
    bar.inc(1);
    begin(&format!("restart, {bids} bids"));
    let replay = restarts(place("restart")?)?;
    bar.finish_and_clear();

    let machine = Machine::here(folder.path());
    let results = Results {
        machine,
        quick: options.quick,
        apply: rows,
        codec,
        append,
        replication,
        stores,
        group,
        one,
        many,
        protection,
        replay,
    };
    let beside = options.out.parent().unwrap_or(Path::new(".")).join("plots");
    fs::create_dir_all(&beside)?;
    plots(&results, &beside)?;
    let page = page(&results)?;
    fs::write(&options.out, &page).with_context(|| options.out.display().to_string())?;
    println!("{page}");
    Ok(())
}

fn plots(results: &Results, folder: &Path) -> Result<()> {
    let line = |name: &str, y: &dyn Fn(&apply::Row) -> f64| Series {
        name: name.into(),
        points: results.apply.iter().map(|row| (row.lots as f64, y(row))).collect(),
    };
    let series = [line("engine", &|row| row.engine_ns), line("std maps", &|row| row.peer_ns)];
    let svg = chart("Applying a bid", "open lots", "nanoseconds a bid (median)", &series);
    fs::write(folder.join("apply.svg"), svg)?;

    let histograms = [
        ("bid, 1 in flight", "bid-1", &results.one.bid),
        ("loopback trip", "trip", &results.one.trip),
        ("raw flush", "flush", &results.one.flush),
        ("bid, 64 in flight", "bid-64", &results.many.latency),
    ];
    let series = histograms.map(|(name, _, histogram)| Series { name: name.into(), points: tail(histogram) });
    let title = "Bid over the socket to durable answer";
    let svg = chart(title, "one in so many is slower (2 = median)", "microseconds", &series);
    fs::write(folder.join("socket.svg"), svg)?;
    for (_, file, histogram) in histograms {
        let mut bytes = Vec::new();
        V2Serializer::new().serialize(histogram, &mut bytes)?;
        fs::write(folder.join(format!("{file}.hdr")), bytes)?;
    }
    Ok(())
}

/// Latency in microseconds against the odds of being slower: 2 is the median, 100 the 99th percentile.
fn tail(histogram: &Histogram<u64>) -> Vec<(f64, f64)> {
    let odds = [1.1, 1.25, 1.5, 2.0, 3.0, 5.0, 10.0, 20.0, 50.0, 100.0, 200.0, 500.0, 1_000.0];
    let seen = |odds: &&f64| (**odds) <= histogram.len() as f64;
    odds.iter().filter(seen).map(|odds| (*odds, us(histogram, 1.0 - 1.0 / odds))).collect()
}

fn us(histogram: &Histogram<u64>, quantile: f64) -> f64 {
    histogram.value_at_quantile(quantile) as f64 / 1_000.0
}

fn verdict(reached: bool) -> &'static str {
    if reached { "reached" } else { "**not reached**" }
}

fn page(results: &Results) -> Result<String> {
    let Results {
        machine, apply, codec, append, replication, stores, group, one, many, protection, replay, ..
    } = results;
    let mut text = String::from("# Results\n\nWritten by `cargo xtask bench`; edited by nobody.\n");
    if results.quick {
        text.push_str("**A quick run: it shows that everything works, its numbers mean little.**\n");
    }
    writeln!(
        text,
        "Both sides of a comparison run in one process or beside each other, alternated in one run, in the same \
         scheduling class. The machine is virtual and shares its cores: absolute times mean little there, ratios and \
         counts are what is compared. Client and server share the machine.\n\n{}",
        machine.table()
    )?;

    writeln!(text, "## Goals\n\n| goal | measured | |\n|---|---|---|")?;
    if let Some(row) = apply.iter().find(|row| row.lots == 10_000) {
        let reached = verdict(row.ratio >= 3.0);
        writeln!(text, "| apply ≥ 3 × std maps at 10 000 lots | {:.2} × | {reached} |", row.ratio)?;
    }
    let most = apply.iter().map(|row| row.engine_allocations).fold(0.0, f64::max);
    let counts: Vec<_> = apply
        .iter()
        .map(|row| format!("{:.0} in {} at {} lots", row.engine_allocations * row.bids as f64, row.bids, row.lots))
        .collect();
    writeln!(text, "| 0 allocations a bid in apply | {} | {} |", counts.join(", "), verdict(most == 0.0))?;
    let ratio = append.ratio();
    writeln!(text, "| log append ≤ 1.05 × raw p50 | {ratio:.3} × | {} |", verdict(ratio <= 1.05))?;
    let overhead = codec.iter().map(|row| row.overhead).max().unwrap_or(0);
    writeln!(text, "| ≤ 48 bytes a record beside its payload | {overhead} | {} |", verdict(overhead <= 48))?;
    let ratio = one.ratio();
    writeln!(
        text,
        "| socket bid, 1 in flight, ≤ 1.5 × (trip + raw flush) | {ratio:.2} × | {} |",
        verdict(ratio <= 1.5)
    )?;
    if let Some(ratio) = one.redis_ratio() {
        let reached = verdict(ratio <= 0.8);
        writeln!(
            text,
            "| socket bid, 1 in flight, ≤ 0.8 × Redis (script, every write flushed) | {ratio:.2} × | {reached} |"
        )?;
    }
    if let Some(redis) = many.redis_per_s {
        let ratio = many.bids_per_s / redis;
        let reached = verdict(ratio >= 3.0);
        writeln!(text, "| 64 in flight, ≥ 3 × Redis bids/s | {ratio:.2} × | {reached} |")?;
    }
    let share = many.flushes_per_s / many.raw_flushes_per_s;
    writeln!(
        text,
        "| 64 in flight: told, no goal yet | {:.0} bids/s, {:.1} bids a flush, {:.0} % of the raw flush rate | |",
        many.bids_per_s,
        many.bids_per_flush,
        share * 100.0
    )?;

    apply_section(&mut text, apply)?;
    codec_section(&mut text, codec)?;
    append_section(&mut text, append)?;
    replication_section(&mut text, replication)?;
    stores_section(&mut text, stores, group)?;
    protection_section(&mut text, protection)?;
    socket_section(&mut text, one, many)?;
    replay_section(&mut text, replay)?;
    text.push_str(NOT_MEASURED);
    Ok(text)
}

fn apply_section(text: &mut String, rows: &[apply::Row]) -> Result<()> {
    writeln!(
        text,
        "\n## Applying a bid\n\nPeer: the same checks, keys, histories, answers and steps on std's `HashMap` (SipHash) \
         and `BTreeMap` ([std_maps.rs](src/std_maps.rs)); a test compares every answer and step of both. 20 bidders a \
         lot, entries of {} bids, one bid in 16 refused; keys arrive hashed on both sides. The engine's time includes \
         `maintain`, which grows its tables between entries; its allocations are told apart. In `apply` only a lot \
         allocates that gets more bids in one entry than it has room for.\n\n\
         ![nanoseconds a bid by open lots](plots/apply.svg)\n\n\
         | open lots | engine ns | std maps ns | ratio (median of rounds) | allocations a bid in apply | in maintain | std maps |\n\
         |---|---|---|---|---|---|---|",
        bench::workload::BATCH
    )?;
    for row in rows {
        writeln!(
            text,
            "| {} | {:.0} | {:.0} | {:.2} × | {:.4} | {:.4} | {:.2} |",
            row.lots,
            row.engine_ns,
            row.peer_ns,
            row.ratio,
            row.engine_allocations,
            row.maintain_allocations,
            row.peer_allocations
        )?;
    }
    Ok(())
}

fn codec_section(text: &mut String, rows: &[codec::Row]) -> Result<()> {
    writeln!(
        text,
        "\n## Codec\n\n| bids in the entry | record bytes | of these no payload | encode ns a bid | decode ns a bid | \
         allocations of an encoding |\n|---|---|---|---|---|---|"
    )?;
    for row in rows {
        writeln!(
            text,
            "| {} | {} | {} | {:.0} | {:.0} | {} |",
            row.bids, row.bytes, row.overhead, row.encode_ns, row.decode_ns, row.encode_allocations
        )?;
    }
    Ok(())
}

fn quantiles(text: &mut String, rows: &[(&str, &Histogram<u64>)]) -> Result<()> {
    writeln!(text, "| | n | p50 µs | p90 µs | p99 µs |\n|---|---|---|---|---|")?;
    for (name, histogram) in rows {
        let [half, most, nearly] = [0.5, 0.9, 0.99].map(|quantile| us(histogram, quantile));
        writeln!(text, "| {name} | {} | {half:.1} | {most:.1} | {nearly:.1} |", histogram.len())?;
    }
    Ok(())
}

fn append_section(text: &mut String, row: &log_append::Row) -> Result<()> {
    writeln!(
        text,
        "\n## Log append, 1 in flight\n\nA record with one bid ({} bytes), encoded and appended, beside `pwrite` + `fdatasync` \
         of as many bytes on a zero-filled file; alternated in {}. The same through the log thread as the program does \
         it, two hand-overs between threads included: {:.3} × raw.\n",
        row.bytes,
        row.alternation,
        row.thread_ratio()
    )?;
    quantiles(text, &row.lines())
}

fn replication_section(text: &mut String, rows: &[replication::Row]) -> Result<()> {
    for row in rows {
        writeln!(
            text,
            "\n## One voter under Raft, {} commands a batch\n\nFrom a proposal to its commit, each side with a log of its \
             own, one by one in turns. One node alone ÷ one voter under Raft: **{:.3}** (target 0.95 or more).\n",
            row.commands,
            row.ratio()
        )?;
        quantiles(text, &[("one node alone", &row.solo), ("one voter under Raft", &row.raft)])?;
    }
    Ok(())
}

fn stores_section(text: &mut String, one: &OneAtATime, many: &GroupCommit) -> Result<()> {
    writeln!(
        text,
        "\n## Embedded stores\n\nThe same bytes into redb (`Durability::Immediate`), fjall (`PersistMode::SyncData`) and \
         okaywal, sides in turns append by append ([stores.rs](src/stores.rs)); ours encodes the bid as well.\n"
    )?;
    let rows: Vec<_> = one.0.iter().map(|(name, histogram)| (*name, histogram)).collect();
    quantiles(text, &rows)?;
    let ratios: Vec<_> = one.ratios().iter().map(|(name, ratio)| format!("{name} {ratio:.2} ×")).collect();
    writeln!(text, "\nTime of an append beside ours: {}.\n", ratios.join(", "))?;
    group_section(text, many)
}

fn group_section(text: &mut String, group: &GroupCommit) -> Result<()> {
    writeln!(
        text,
        "{} threads, each with one record in flight, sides in turns. Database server: {}, \
         `innodb_flush_log_at_trx_commit = 1`, no binary log, over a Unix socket, every writer on a row of its own.\n\n\
         | | durable records/s | ours ÷ theirs |\n|---|---|---|",
        stores::WRITERS,
        group.server.as_deref().unwrap_or("skipped, none to be had"),
    )?;
    let ours = group.sides.first().map_or(0.0, |side| side.per_s);
    for side in &group.sides {
        writeln!(text, "| {} | {:.0} | {:.1} × |", side.name, side.per_s, ours / side.per_s)?;
    }
    let share = group.flushes_per_s / group.raw_per_s;
    writeln!(
        text,
        "\n| goal | measured | |\n|---|---|---|\n| flushes ≥ 95 % of a bare thread's, of as many bytes | {:.0} of {:.0} a second, {:.0} % | {} |",
        group.flushes_per_s,
        group.raw_per_s,
        share * 100.0,
        if share > 1.05 { "inconclusive: the bare thread was disturbed" } else { verdict(share >= 0.95) }
    )?;
    if let Some(server) = group.server.as_ref().and(group.sides.last()) {
        let ratio = ours / server.per_s;
        writeln!(text, "| group commit ≥ 20 × the database server | {ratio:.1} × | {} |", verdict(ratio >= 20.0))?;
    }
    Ok(())
}

fn socket_section(text: &mut String, one: &OneInFlight, many: &ManyInFlight) -> Result<()> {
    writeln!(
        text,
        "\n## Bid over the socket to durable answer\n\nThe real program with `--limits off`, the load generator's \
         client. Floor: a trip over loopback of as many bytes plus a raw `pwrite` + `fdatasync`; bid, trip and flush take turns \
         one by one.\n\n\
         ![latency by odds](plots/socket.svg)\n"
    )?;
    let mut rows = vec![
        ("bid, 1 in flight", &one.bid),
        ("loopback trip", &one.trip),
        ("raw flush", &one.flush),
        ("bid, 64 in flight", &many.latency),
    ];
    let redis =
        one.redis.as_ref().map(|(version, histogram)| (format!("Redis {version}, 1 in flight"), histogram));
    if let Some((name, histogram)) = &redis {
        rows.insert(3, (name, histogram));
    }
    quantiles(text, &rows)?;
    if redis.is_none() {
        writeln!(text, "\nSkipped: Redis (`redis-server` is not installed on this machine).")?;
    }
    writeln!(
        text,
        "\n| {} in flight | |\n|---|---|\n| accepted bids/s | {:.0} |\n| bids a flush | {:.1} |\n| flushes/s | {:.0} |\n\
         | raw flushes/s of as many bytes | {:.0} |\n| share of the raw flush rate | {:.0} % |\n\
         | processor time of the server a bid | {:.0} µs |\n| Redis, as many in flight, bids/s | {} |",
        many.in_flight,
        many.bids_per_s,
        many.bids_per_flush,
        many.flushes_per_s,
        many.raw_flushes_per_s,
        many.flushes_per_s / many.raw_flushes_per_s * 100.0,
        many.server_cpu_us,
        many.redis_per_s.map_or("skipped".into(), |per_s| format!("{per_s:.0}"))
    )?;
    Ok(())
}

fn protection_section(text: &mut String, rows: &[protection::Row]) -> Result<()> {
    writeln!(
        text,
        "\n## Sealing and audit\n\nAn entry encoded, appended and flushed, by logs that seal their secret parts or \
         everything, with and without feeding the audit's chains and tree; entry by entry in turns. The program feeds \
         the audit on a thread of its own. Ratios to the first.\n"
    )?;
    for row in rows {
        let sides: Vec<_> = row.costs.iter().map(|cost| (cost.name, &cost.time)).collect();
        writeln!(text, "Entries of {} bids:\n", row.bids)?;
        quantiles(text, &sides)?;
        writeln!(text, "\n| | time | processor time |\n|---|---|---|")?;
        for (name, time, processor) in row.ratios() {
            writeln!(text, "| {name} | {time:.3} × | {processor:.2} × |")?;
        }
        writeln!(text)?;
    }
    Ok(())
}

fn replay_section(text: &mut String, replay: &Replay) -> Result<()> {
    let seconds = |time: Duration| time.as_secs_f64();
    let starts = |starts: &[Start]| seconds(median(starts.iter().map(|start| start.first_answer)));
    let (snapshot, log) = (starts(&replay.snapshot), starts(&replay.log));
    writeln!(
        text,
        "\n## Restart\n\n`kill -9` to the first answer, {} bids in {} lots of {} bidders; sides in turns. The log has \
         {:.0} MB; the snapshot, {:.0} MB, lies {} bids before its end, half of what the program lets the log grow. \
         Redis reads the append-only file of as many bids in as many lots (the script of the socket's row, its file not \
         rewritten, since that would forget all but the best bids); it keeps one best bid a lot, ours every bid with \
         its key and outcome.\n\n| | median s | ours from snapshot ÷ this |\n|---|---|---|",
        replay.bids,
        replay.lots,
        bench::workload::BIDDERS,
        replay.log_bytes as f64 / 1e6,
        replay.snapshot_bytes as f64 / 1e6,
        replay.behind,
    )?;
    writeln!(text, "| from the snapshot and what lies behind it | {snapshot:.2} | |")?;
    writeln!(
        text,
        "| from the log alone ({:.0} bids/s) | {log:.2} | {:.2} × |",
        replay.bids as f64 / log,
        snapshot / log
    )?;
    let read = seconds(median(replay.read.iter().copied()));
    writeln!(text, "| reading the log from end to end with a checksum | {read:.2} | {:.1} × |", snapshot / read)?;
    match &replay.redis {
        None => writeln!(text, "\nSkipped: Redis (`redis-server` is not installed on this machine).")?,
        Some((version, times)) => {
            let redis = seconds(median(times.iter().copied()));
            writeln!(text, "| Redis {version}, its append-only file | {redis:.2} | {:.2} × |", snapshot / redis)?;
            let ratio = redis / snapshot;
            writeln!(
                text,
                "\n| goal | measured | |\n|---|---|---|\n| restart ≥ 5 × as fast as Redis reading its file | {ratio:.2} × | {} |",
                verdict(ratio >= 5.0)
            )?;
        }
    }
    Ok(())
}

const NOT_MEASURED: &str = "
## Not measured yet

Rows beside etcd and other order books, open loop at fixed rates, three
nodes, fan-out, memory, many closes at once. `loadgen open` sends at a fixed rate against any
running server; raw histograms of this page lie beside the plots.
";
