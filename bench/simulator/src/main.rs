//! `simulate`: runs worlds until a number of seeds or of minutes is reached, and prints what they proved.
//! Owns the command line and the figures; what a world is and what is right is the library's.

use std::collections::BTreeMap;
use std::process::{Command, ExitCode};
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use clap::Parser;
use indicatif::{ProgressBar, ProgressStyle};
use simulator::totals::Totals;
use simulator::world::{Plan, Report, run};

/// Runs the real node in simulated worlds, one a seed.
#[derive(Parser)]
#[command(name = "simulate", version)]
struct Options {
    /// How many seeds; without it, as many as fit into the minutes.
    #[arg(long)]
    seeds: Option<u64>,
    /// How long at most.
    #[arg(long)]
    minutes: Option<u64>,
    /// The first seed; alone, only this one.
    #[arg(long)]
    seed: Option<u64>,
    /// Prints one line a seed and nothing else.
    #[arg(long)]
    brief: bool,
}

#[derive(Default)]
struct Sum {
    seeds: u64,
    report: Report,
    failed: Vec<(u64, String)>,
}

fn main() -> ExitCode {
    let options = Options::parse();
    let first = options.seed.unwrap_or(1);
    let alone = options.seed.is_some() && options.seeds.is_none() && options.minutes.is_none();
    let seeds = options.seeds.unwrap_or(if alone { 1 } else { u64::MAX - first });
    let minutes = options.minutes.unwrap_or(if options.seeds.is_some() || alone { u64::MAX / 60 } else { 1 });
    let begun = Instant::now();
    let end = begun.checked_add(Duration::from_secs(minutes * 60));
    let bar = progress(&options, seeds, minutes);
    let (next, stop, sum) = (AtomicU64::new(first), AtomicBool::new(false), Mutex::new(Sum::default()));
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    std::thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(|| {
                while !stop.load(Ordering::Relaxed) && end.is_none_or(|end| Instant::now() < end) {
                    let seed = next.fetch_add(1, Ordering::Relaxed);
                    if seed - first >= seeds {
                        break;
                    }
                    let result = run(Plan::of(seed));
                    let mut sum = sum.lock().expect("nothing panics holding the sum");
                    if options.brief {
                        let trace = result.as_ref().map_or_else(Clone::clone, |report| report.trace.clone());
                        println!("{seed} {trace}");
                    }
                    sum.seeds += 1;
                    match result {
                        Ok(report) => sum.report.add(&report),
                        Err(text) => {
                            sum.failed.push((seed, text));
                            // A handful says enough.
                            stop.store(sum.failed.len() >= 5, Ordering::Relaxed);
                        }
                    }
                    if seeds < 1 << 32 {
                        bar.inc(1);
                    } else {
                        bar.set_position(begun.elapsed().as_secs());
                    }
                    bar.set_message(format!("{} seeds, {} violations", sum.seeds, sum.failed.len()));
                }
            });
        }
    });
    bar.finish_and_clear();
    let sum = sum.into_inner().expect("nothing panics holding the sum");
    if !options.brief {
        print(&sum, begun.elapsed(), !alone);
    }
    let complete = alone || options.brief || sum.report.marks.missing().is_empty();
    if sum.failed.is_empty() && complete { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

fn progress(options: &Options, seeds: u64, minutes: u64) -> ProgressBar {
    if options.brief {
        return ProgressBar::hidden();
    }
    let length = if seeds < 1 << 32 { seeds } else { minutes * 60 };
    let style = ProgressStyle::with_template("{bar:40} {pos}/{len} {msg}, {eta} left");
    ProgressBar::new(length).with_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()))
}

fn commit() -> String {
    let commit = Command::new("git").args(["rev-parse", "--short", "HEAD"]).output();
    let text = commit.map(|output| String::from_utf8_lossy(&output.stdout).trim().to_owned()).unwrap_or_default();
    if text.is_empty() { "unknown".to_owned() } else { text }
}

fn print(sum: &Sum, took: Duration, whole: bool) {
    let Sum { seeds, report, failed } = sum;
    let seconds = took.as_secs_f64().max(0.001);
    let virtual_s = report.virtual_ns as f64 / 1e9;
    println!("seeds               {seeds} in {seconds:.0} s");
    println!("simulated hours     {:.2} ({:.0} times real time)", virtual_s / 3_600.0, virtual_s / seconds);
    println!("events              {} ({:.0} a second)", report.events, report.events as f64 / seconds);
    println!("commands, answers   {}, {} checked", report.commands, report.answers);
    let Totals { submitted, accepted, rejected, not_taken, unknown } = &report.totals;
    let of = |counts: &BTreeMap<String, u64>| counts.values().sum::<u64>();
    println!(
        "sent                {submitted} = {accepted} accepted + {} rejected ({} reasons) + {} not taken + {unknown} unknown",
        of(rejected),
        rejected.len(),
        of(not_taken)
    );
    let words: Vec<_> = not_taken.iter().map(|(why, count)| format!("{why} {count}")).collect();
    println!("not taken           {}", words.join(", "));
    println!("steps shown         {} checked", report.frames);
    println!("processes started   {}", report.starts);
    println!("crash points        {} operations of the disk at which the power went", report.crash_points);
    println!(
        "damage refused      {} starts; {} tails that one node can't tell from torn",
        report.refused, report.undetectable
    );
    println!("injections by class");
    for (class, count) in &report.injected {
        println!("  {count:>9}  {class}");
    }
    println!("marks");
    for (name, count) in report.marks.named() {
        println!("  {count:>9}  {name}{}", if count == 0 && whole { "  NEVER" } else { "" });
    }
    let met: BTreeMap<_, _> = report.met.iter().filter(|(word, _)| word.starts_with("event:")).collect();
    println!("kinds of answers and events met: {} ({} of them events)", report.met.len(), met.len());
    println!("trace               {}", report.trace);
    for (seed, text) in failed {
        println!("VIOLATION in seed {seed}: {text}");
        println!("  again: cargo xtask simulate --seed {seed}   (commit {})", commit());
    }
    println!("{} violations, commit {}", failed.len(), commit());
}
