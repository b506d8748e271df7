//! Sends bids to a running server and tells how long the answers took. Owns its options, its progress and its report.

use std::fs;
use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use bench::client::{metric, set_up};
use bench::load::{self, FLUSHES, Outcome};
use bench::machine::Machine;
use clap::{Parser, Subcommand};
use hdrhistogram::serialization::{Serializer as _, V2Serializer};
use indicatif::{ProgressBar, ProgressStyle};

/// Sends bids to a running reversetender and measures the time to their durable answers.
///
/// The server must run with `--limits off`, or the rates of one machine are refused. The generator signs up its own
/// buyer and bidders and opens its own tenders, so a throw-away data folder is best. Loopback only.
#[derive(Parser)]
#[command(after_help = "Examples:\n  reversetender serve --data /tmp/load --limits off &\n  \
    loadgen open --rate 1000 --seconds 20     fixed rate, latency from the planned time\n  \
    loadgen closed --in-flight 1              one bid after the other\n  \
    loadgen closed --in-flight 64 --hist h.hgrm")]
struct Options {
    /// HOST:PORT of the public listener.
    #[arg(long, default_value = "127.0.0.1:8000", global = true)]
    address: String,
    /// HOST:PORT of the admin listener, for the number of flushes.
    #[arg(long, default_value = "127.0.0.1:9600", global = true)]
    admin: String,
    /// Open lots to bid in, 1 to 10000.
    #[arg(long, default_value_t = 100, global = true, value_parser = clap::value_parser!(u32).range(1..=10_000))]
    lots: u32,
    /// Bidders, 1 to 64; each is an organisation of its own.
    #[arg(long, default_value_t = 8, global = true, value_parser = clap::value_parser!(u32).range(1..=64))]
    bidders: u32,
    /// Seconds to measure, 1 to 600.
    #[arg(long, default_value_t = 10, global = true, value_parser = clap::value_parser!(u64).range(1..=600))]
    seconds: u64,
    /// Where the raw histogram is kept (HdrHistogram V2 log encoding).
    #[arg(long, value_name = "FILE", global = true)]
    hist: Option<PathBuf>,
    #[command(subcommand)]
    mode: Mode,
}

#[derive(Subcommand)]
enum Mode {
    /// A fixed rate, whatever the server does; latency counts from the planned time.
    Open {
        /// Bids a second.
        #[arg(long, default_value_t = 1_000, value_parser = clap::value_parser!(u32).range(1..=100_000))]
        rate: u32,
        /// Sockets that the bids are spread over.
        #[arg(long, default_value_t = 32, value_parser = clap::value_parser!(u32).range(1..=1_000))]
        connections: u32,
    },
    /// So many in flight, each sent when the one before it is answered.
    Closed {
        /// Bids in flight, one a socket.
        #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=1_000))]
        in_flight: u32,
    },
}

#[tokio::main]
async fn main() -> Result<()> {
    let options = Options::parse();
    let loopback = ["127.", "localhost:", "[::1]:"].iter().any(|head| options.address.starts_with(head));
    ensure!(loopback, "{} is not on this machine; load goes to loopback only", options.address);
    print!("{}", Machine::here(&std::env::current_dir()?).table());

    let run = format!("load-{}", std::process::id());
    eprintln!("signing up {} bidders, opening {} lots …", options.bidders, options.lots);
    let field = set_up(&options.address, &run, options.lots as usize, options.bidders as usize).await?;
    let time = Duration::from_secs(options.seconds);
    let flushes_before = metric(&options.admin, FLUSHES).await;
    let (what, outcome) = match options.mode {
        Mode::Open { rate, connections } => {
            let bidders = load::connect(&options.address, &field, &run, connections as usize).await?;
            let bar = progress(u64::from(rate) * options.seconds);
            let told = bar.clone();
            let outcome = load::open(bidders, rate, time, move |sent| told.set_position(sent)).await?;
            bar.finish_and_clear();
            (format!("open loop, {rate} bids/s planned, {connections} sockets, from the planned time"), outcome)
        }
        Mode::Closed { in_flight } => {
            let bidders = load::connect(&options.address, &field, &run, in_flight as usize).await?;
            let bar = progress(options.seconds);
            let told = bar.clone();
            let ticks = tokio::spawn(async move {
                for second in 1.. {
                    tokio::time::sleep(Duration::from_secs(1)).await;
                    told.set_position(second);
                }
            });
            let (outcome, _) = load::closed(bidders, time).await?;
            ticks.abort();
            bar.finish_and_clear();
            (format!("closed loop, {in_flight} in flight, from the sending"), outcome)
        }
    };
    println!("\n{what}");
    tell(&outcome);
    match (flushes_before, metric(&options.admin, FLUSHES).await) {
        (Ok(before), Ok(after)) if after > before => {
            println!("bids per flush {:.1}", outcome.accepted as f64 / (after - before));
        }
        (_, Err(error)) => println!("bids per flush unknown: {error:#}"),
        _ => println!("bids per flush unknown: the server counted no flush"),
    }
    if let Some(path) = options.hist {
        let mut bytes = Vec::new();
        V2Serializer::new().serialize(&outcome.latency, &mut bytes).context("encoding the histogram")?;
        fs::write(&path, bytes).with_context(|| path.display().to_string())?;
        println!("raw histogram in {}", path.display());
    }
    ensure!(outcome.unanswered == 0, "{} bids were never answered", outcome.unanswered);
    ensure!(outcome.refused.is_empty(), "some bids were not accepted: {:?}", outcome.refused);
    Ok(())
}

fn progress(length: u64) -> ProgressBar {
    let bar = ProgressBar::new(length);
    let style = ProgressStyle::with_template("{bar:40} {pos}/{len} {elapsed}").expect("the template is valid");
    bar.set_style(style);
    bar
}

fn tell(outcome: &Outcome) {
    println!("accepted {} in {:.2} s: {:.0} bids/s", outcome.accepted, outcome.took.as_secs_f64(), outcome.rate());
    for (code, count) in &outcome.refused {
        println!("not accepted: {count} × {code}");
    }
    for (name, quantile) in [("p50", 0.5), ("p90", 0.9), ("p99", 0.99), ("p99.9", 0.999), ("max", 1.0)] {
        println!("{name:>6} {:>10.1} µs", outcome.us(quantile));
    }
}
