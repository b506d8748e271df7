//! The restore drill from the command line: prints the time of each part, and whether a large log could be restored in time.

use std::path::PathBuf;
use std::process::ExitCode;

use bench::{drill, server};
use clap::Parser;

/// Archives a made log and restores it onto empty folders: to its end, to a number of entries chosen by chance, and to just
/// before a bad command. Each state is held against a cold replay.
///
/// Exit status 0: all three are right; 1: something is not, or could not be done.
#[derive(Parser)]
struct Options {
    /// Bids in the log.
    #[arg(long, default_value_t = 1_000_000)]
    bids: u64,
    /// Lots that they are spread over.
    #[arg(long, default_value_t = 1_000)]
    lots: usize,
    /// Chooses the number of entries [default: by chance].
    #[arg(long)]
    seed: Option<u64>,
    /// Where the folders are made, and removed; needs some 1.5 kB a bid.
    #[arg(long, default_value = "target/drill")]
    dir: PathBuf,
}

#[tokio::main]
async fn main() -> ExitCode {
    match run(Options::parse()).await {
        Ok(report) => {
            println!("{report}");
            ExitCode::SUCCESS
        }
        Err(error) => {
            eprintln!("the drill FAILED: {error:#}");
            ExitCode::FAILURE
        }
    }
}

async fn run(options: Options) -> anyhow::Result<drill::Report> {
    let seed = options.seed.unwrap_or_else(drill::chance);
    println!("drill: --bids {} --lots {} --seed {seed}", options.bids, options.lots);
    let (_removed, dir) = drill::folder(&options.dir)?;
    drill::run(&server::program()?, &dir, options.bids, options.lots, seed).await
}
