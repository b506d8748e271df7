//! Row 10 in part: from `kill -9` to the first answer of a node with a fresh snapshot.

use std::path::PathBuf;
use std::process::ExitCode;

use bench::{drill, restart, server};
use clap::Parser;

/// Makes the folder of a node in which many bids stand, with a fresh snapshot, kills the program on it again and again and
/// prints what each start took to its first answer.
///
/// Build in release first: `cargo build --release -p api -p bench`. Exit status 0: measured; 1: it could not be.
#[derive(Parser)]
struct Options {
    /// Bids that stand.
    #[arg(long, default_value_t = 1_000_000)]
    bids: u64,
    /// How often the program is started.
    #[arg(long, default_value_t = 7)]
    runs: usize,
    /// Where the folder is made, and removed; needs some 2 kB a bid.
    #[arg(long, default_value = "target/restart")]
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
            eprintln!("not measured: {error:#}");
            ExitCode::FAILURE
        }
    }
}

async fn run(options: Options) -> anyhow::Result<restart::Report> {
    let (_removed, dir) = drill::folder(&options.dir)?;
    restart::run(&server::program()?, &dir, options.bids, options.runs.max(1)).await
}
