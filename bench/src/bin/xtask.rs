//! The project's chores: set-up and tests, read-only checks, fixes, benchmarks.
//! Owns the order, the times and the summary; never decides what a test or a check means.
//!
//! Needs no dependency, so that `cargo xtask` starts within seconds on a machine that has built nothing yet.

use std::collections::BTreeMap;
use std::env;
use std::fs::OpenOptions;
use std::io::{self, BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode, Stdio};
use std::time::{Duration, Instant};

const HELP: &str = "\
cargo xtask: the chores of this repository

Usage: cargo xtask <COMMAND> [OPTIONS]

Commands:
  test [PART]...   install what the tests need, build, run all tests (or only the named parts)
  verify           read-only checks: layout, lints, supply chain, tidy rules, web bundle
  fix              lay the code out and apply the fixes that clippy is sure of
  simulate [OPTIONS]  build the simulator in release and run it (10 minutes); --seeds N, --minutes M, --seed S
  faults [--points N] kill the real program at N calls to its disk (1000), also while it recovers; --seed S
  drill [--bids N]    archive a made log (a million bids), restore it to three points, print each part's time
  restart [--bids N]  kill a node with a fresh snapshot of a million standing bids, print what each start takes
  bench [--quick]  build in release, run every benchmark, write bench/RESULTS.md
  help             this text

Parts of `test`, with the minutes that each may take on two cores:
  engine      6   engine and rules: unit, script and property tests, the naive twin, simulate
  log         8   log and simulator: formats, recovery, crashes at every write and sync, kill and restart
  replication 8   Raft, links between nodes, three nodes in memory and as processes that are killed, frozen and cut off
  feed        5   REST, feed, attacks, against the real program
  browser     7   the page in a real Chromium
  repository  -   tidy rules, deployment files, every benchmark once in small

Examples:
  cargo xtask test               everything, as CI does
  cargo xtask test engine log    two parts
  cargo test -p engine tie_      one package, tests whose names contain `tie_`
  .ci/run                        test and verify with the times of each part

What `test` installs by apt-get, when it is missing and you are root: Chromium, and libfaketime, which turns the clock of
the program; anything else it needs comes with cargo. `verify` runs cargo-deny when it is installed (`cargo install cargo-deny --locked`, some 5 minutes) and says so
when it isn't; the floors of the lock file are checked always.
";

/// A part of the tests: its name, what it is called in the summary, and the minutes it may take.
struct Part {
    name: &'static str,
    title: &'static str,
    minutes: Option<u64>,
}

const PARTS: &[Part] = &[
    Part { name: "engine", title: "engine and rules", minutes: Some(6) },
    Part { name: "log", title: "log and simulator", minutes: Some(8) },
    Part { name: "replication", title: "replication", minutes: Some(8) },
    Part { name: "feed", title: "feed and attacks", minutes: Some(5) },
    Part { name: "browser", title: "browser", minutes: Some(7) },
    Part { name: "repository", title: "repository and benches", minutes: None },
];

/// Minutes in which everything must be built from nothing.
const BUILD_MINUTES: u64 = 20;

fn main() -> ExitCode {
    let arguments: Vec<String> = env::args().skip(1).collect();
    let words: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let done = match words.as_slice() {
        ["test", parts @ ..] => test(parts),
        ["verify"] => verify(),
        ["fix"] => fix(),
        ["simulate", options @ ..] => simulate(options),
        ["faults", options @ ..] => faults(options),
        ["drill", options @ ..] => drill(options),
        ["restart", options @ ..] => restart(options),
        ["bench"] => bench(&[]),
        ["bench", options @ ..] => bench(options),
        [] | ["help" | "--help" | "-h", ..] => {
            print!("{HELP}");
            Ok(true)
        }
        [other, ..] => {
            eprintln!("`{other}` is no command here; `cargo xtask help` lists them");
            return ExitCode::from(2);
        }
    };
    match done {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("xtask: {error}");
            ExitCode::from(2)
        }
    }
}

fn root() -> PathBuf {
    let bench = Path::new(env!("CARGO_MANIFEST_DIR"));
    bench.parent().expect("bench/ lies in the workspace").to_path_buf()
}

fn cargo() -> Command {
    let mut command = Command::new(env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    command.current_dir(root());
    command
}

/// Tells the script that wraps this run what happened, one tab-separated line each.
fn report(line: &str) {
    let Some(path) = env::var_os("XTASK_REPORT") else {
        return;
    };
    if let Ok(mut file) = OpenOptions::new().create(true).append(true).open(path) {
        // The summary on the terminal has it as well; a missing line only leaves the wrapper's table short.
        let _ = writeln!(file, "{line}");
    }
}

fn minutes(time: Duration) -> String {
    format!("{} min {:02} s", time.as_secs() / 60, time.as_secs() % 60)
}

fn report_part(title: &str, time: Duration, budget: Option<u64>) {
    let budget = budget.map_or("no budget".to_owned(), |minutes| format!("of {minutes} min"));
    report(&format!("part\t{title}\t{}\t{budget}", minutes(time)));
}

/// Runs one step with its output shown; says before what it does and after how long it took.
fn step(title: &str, command: &mut Command) -> io::Result<bool> {
    println!("── {title}: {}", shown(command));
    let started = Instant::now();
    let status = command.status()?;
    let word = if status.success() { "ok" } else { "FAILED" };
    println!("── {title}: {word} ({})", minutes(started.elapsed()));
    Ok(status.success())
}

fn shown(command: &Command) -> String {
    let program = Path::new(command.get_program()).file_name().unwrap_or(command.get_program());
    let mut text = program.to_string_lossy().into_owned();
    for argument in command.get_args() {
        text.push(' ');
        text.push_str(&argument.to_string_lossy());
    }
    text
}

/// Whether a command can be run, and succeeds.
fn allowed(program: &str, arguments: &[&str]) -> bool {
    Command::new(program).args(arguments).status().is_ok_and(|status| status.success())
}

/// Whether `program` is on the search path.
fn installed(program: &str) -> bool {
    let path = env::var_os("PATH").unwrap_or_default();
    env::split_paths(&path).any(|folder| folder.join(program).is_file())
}

// ── test ─────────────────────────────────────────────────────────────────────────────────────────

/// One test binary that cargo built.
struct Binary {
    package: String,
    target: String,
    folder: PathBuf,
    executable: PathBuf,
}

#[derive(Default)]
struct Tally {
    passed: u64,
    failed: u64,
    ignored: u64,
    names: Vec<String>,
}

fn test(parts: &[&str]) -> io::Result<bool> {
    for part in parts {
        if !PARTS.iter().any(|known| known.name == *part) {
            let names: Vec<_> = PARTS.iter().map(|part| part.name).collect();
            eprintln!("`{part}` is no part; there are {}", names.join(", "));
            return Ok(false);
        }
    }
    let wanted = |part: &Part| parts.is_empty() || parts.contains(&part.name);
    if PARTS.iter().any(|part| part.name == "browser" && wanted(part)) {
        set_up_browser()?;
    }
    if PARTS.iter().any(|part| part.name == "log" && wanted(part)) {
        set_up_clock()?;
    }

    let started = Instant::now();
    let Some(binaries) = build()? else {
        report("failed\t1");
        println!("the build failed");
        return Ok(false);
    };
    let built = started.elapsed();
    report_part("builds", built, Some(BUILD_MINUTES));

    let mut rows = vec![("builds", built, Some(BUILD_MINUTES), Tally::default())];
    for part in PARTS.iter().filter(|part| wanted(part)) {
        let started = Instant::now();
        let mut tally = Tally::default();
        for binary in binaries.iter().filter(|binary| part_of(binary) == part.name) {
            run(binary, &mut tally)?;
        }
        if part.name == "repository" {
            doc_tests(&mut tally)?;
        }
        report_part(part.title, started.elapsed(), part.minutes);
        rows.push((part.title, started.elapsed(), part.minutes, tally));
    }
    Ok(summary(&rows))
}

fn summary(rows: &[(&str, Duration, Option<u64>, Tally)]) -> bool {
    println!("\n── summary");
    println!("{:<24} {:>7} {:>7} {:>12}  budget", "part", "passed", "failed", "time");
    let mut all = Tally::default();
    for (title, time, budget, tally) in rows {
        let note = match budget {
            Some(budget) if time.as_secs() > budget * 60 => format!("{budget} min, OVER"),
            Some(budget) => format!("{budget} min"),
            None => "-".to_owned(),
        };
        let time = minutes(*time);
        println!("{title:<24} {:>7} {:>7} {time:>12}  {note}", tally.passed, tally.failed);
        all.passed += tally.passed;
        all.failed += tally.failed;
        all.ignored += tally.ignored;
        all.names.extend(tally.names.iter().cloned());
    }
    for name in &all.names {
        println!("failed: {name}");
    }
    report(&format!("passed\t{}", all.passed));
    report(&format!("failed\t{}", all.failed));
    println!("tests: {} passed, {} failed, {} ignored", all.passed, all.failed, all.ignored);
    all.failed == 0
}

/// The part a test binary belongs to.
fn part_of(binary: &Binary) -> &'static str {
    match (binary.package.as_str(), binary.target.as_str()) {
        ("engine", _) | ("api", "simulate" | "cases" | "twin") => "engine",
        ("persistence", "raft" | "peers" | "votes") | ("api", "several" | "cluster") => "replication",
        ("persistence" | "simulator", _)
        | ("api", "node" | "kill" | "full_disk" | "poison" | "snapshots" | "faults" | "rotation") => "log",
        ("api", "browser" | "page") => "browser",
        ("api", _) => "feed",
        _ => "repository",
    }
}

/// Builds all tests and programs once, with the features of the whole workspace, and returns the test binaries.
fn build() -> io::Result<Option<Vec<Binary>>> {
    let mut command = cargo();
    command.args(["test", "--workspace", "--locked", "--no-run"]);
    command.arg("--message-format=json-render-diagnostics").stdout(Stdio::piped());
    println!("── build: {}", shown(&command));
    let mut child = command.spawn()?;
    let mut binaries = BTreeMap::new();
    for line in BufReader::new(child.stdout.take().expect("it is piped")).lines() {
        let line = line?;
        if !line.starts_with(r#"{"reason":"compiler-artifact""#) || !line.contains(r#""test":true},"features""#) {
            continue;
        }
        let (Some(executable), Some(manifest)) =
            (text_field(&line, "executable"), text_field(&line, "manifest_path"))
        else {
            continue;
        };
        let folder = Path::new(&manifest).parent().expect("a manifest lies in a folder").to_path_buf();
        let package = folder.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let target = text_field(&line, "name").unwrap_or_default();
        let executable = PathBuf::from(executable);
        binaries.insert(executable.clone(), Binary { package, target, folder, executable });
    }
    Ok(child.wait()?.success().then(|| binaries.into_values().collect()))
}

/// The text of `"name":"…"` in a line of cargo's JSON. The last one counts: the target's `name` comes after others,
/// and paths and target names hold no quotes or escapes.
fn text_field(line: &str, name: &str) -> Option<String> {
    let mark = format!("\"{name}\":\"");
    let from = line.rfind(&mark)? + mark.len();
    let length = line[from..].find('"')?;
    Some(line[from..from + length].to_owned())
}

/// Runs a test binary from its package's folder, as `cargo test` does, and counts.
fn run(binary: &Binary, tally: &mut Tally) -> io::Result<()> {
    println!("\n── {} {}", binary.package, binary.target);
    let mut command = Command::new(&binary.executable);
    command.current_dir(&binary.folder).env("CARGO_MANIFEST_DIR", &binary.folder);
    count(&mut command, &format!("{}::{}", binary.package, binary.target), tally)
}

fn doc_tests(tally: &mut Tally) -> io::Result<()> {
    println!("\n── documentation examples");
    count(cargo().args(["test", "--workspace", "--locked", "--quiet", "--doc"]), "doc", tally)
}

/// Shows a test run and adds its counts. A run that ends badly without a failed test (an abort) counts as one failed.
fn count(command: &mut Command, name: &str, tally: &mut Tally) -> io::Result<()> {
    let mut child = command.stdout(Stdio::piped()).spawn()?;
    let failed_before = tally.failed;
    for line in BufReader::new(child.stdout.take().expect("it is piped")).lines() {
        let line = line?;
        println!("{line}");
        if let Some(counts) = line.strip_prefix("test result: ") {
            tally.passed += count_before(counts, " passed");
            tally.failed += count_before(counts, " failed");
            tally.ignored += count_before(counts, " ignored");
        } else if let Some(test) = line.strip_prefix("test ").and_then(|line| line.strip_suffix(" ... FAILED")) {
            tally.names.push(format!("{name}::{test}"));
        }
    }
    let status = child.wait()?;
    if !status.success() && tally.failed == failed_before {
        tally.failed += 1;
        tally.names.push(format!("{name} ({status})"));
    }
    Ok(())
}

fn count_before(counts: &str, word: &str) -> u64 {
    let head = counts.split(word).next().unwrap_or_default();
    let digits = head.rsplit(|c: char| !c.is_ascii_digit()).next().unwrap_or_default();
    digits.parse().unwrap_or(0)
}

/// The names under which Chromium is installed.
const BROWSERS: &[&str] = &["chromium", "chromium-browser", "google-chrome", "google-chrome-stable"];

fn set_up_browser() -> io::Result<()> {
    if let Some(browser) = BROWSERS.iter().find(|browser| installed(browser)) {
        println!("── set-up: {browser} is installed, the browser tests can drive it");
        return Ok(());
    }
    if !may_install()? {
        println!("── set-up: Chromium is missing. The browser tests need it: sudo apt-get install chromium");
        return Ok(());
    }
    println!("── set-up: installing Chromium for the browser tests (some 100 MB, 1 to 3 minutes)");
    install("chromium")
}

/// The folders in which Debian puts what turns a program's clock.
const CLOCKS: &[&str] = &["/usr/lib/x86_64-linux-gnu/faketime", "/usr/lib/aarch64-linux-gnu/faketime"];

fn set_up_clock() -> io::Result<()> {
    if CLOCKS.iter().any(|folder| Path::new(folder).is_dir()) {
        return Ok(());
    }
    if !may_install()? {
        println!("── set-up: libfaketime is missing: the tests that turn the clock are skipped without it");
        println!("   sudo apt-get install libfaketime");
        return Ok(());
    }
    println!("── set-up: installing libfaketime for the tests that turn the clock (some 100 KB)");
    install("libfaketime")
}

fn may_install() -> io::Result<bool> {
    let user = Command::new("id").arg("-u").output()?;
    Ok(user.stdout.trim_ascii() == b"0" && installed("apt-get"))
}

/// Installs a package of Debian. One that can't be had is told by the tests that need it.
fn install(package: &str) -> io::Result<()> {
    let quiet = |arguments: &[&str]| {
        let mut command = Command::new("apt-get");
        command.args(arguments).env("DEBIAN_FRONTEND", "noninteractive").stdout(Stdio::null());
        command
    };
    step("set-up", &mut quiet(&["update", "-qq"]))?;
    step("set-up", &mut quiet(&["install", "-y", "-qq", "--no-install-recommends", package]))?;
    Ok(())
}

// ── verify ───────────────────────────────────────────────────────────────────────────────────────

fn verify() -> io::Result<bool> {
    let started = Instant::now();
    let mut failed: Vec<&str> = Vec::new();
    let mut check = |title: &'static str, command: &mut Command| -> io::Result<()> {
        if !step(title, command)? {
            failed.push(title);
        }
        Ok(())
    };
    check("layout", cargo().args(["fmt", "--all", "--check"]))?;
    check(
        "lints",
        cargo().args(["clippy", "--workspace", "--all-targets", "--locked", "--quiet", "--", "-D", "warnings"]),
    )?;
    if installed("cargo-deny") {
        check("supply chain", cargo().args(["deny", "--offline", "check", "bans", "licenses", "sources"]))?;
        advisories()?;
    } else {
        println!("── supply chain: SKIPPED, cargo-deny is not installed (cargo install cargo-deny --locked)");
        println!("   the advisory floors of the lock file are checked by the tidy test below");
    }
    // With the features of the whole workspace, so that nothing is built a second time.
    check("tidy", cargo().args(["test", "--workspace", "--locked", "--quiet", "--test", "tidy"]))?;
    let bundle = root().join("api/web/check.sh");
    if bundle.is_file() {
        check("web bundle", Command::new("bash").arg(bundle).current_dir(root()))?;
    }
    report_part("verify", started.elapsed(), None);
    report(&format!("failed\t{}", failed.len()));
    if failed.is_empty() {
        println!("── verify: everything holds ({})", minutes(started.elapsed()));
    } else {
        println!("── verify: FAILED: {}", failed.join(", "));
        println!("   `cargo xtask fix` mends layout and simple lints");
    }
    Ok(failed.is_empty())
}

/// Checks against the advisory database where there is one; a machine without a network has none.
fn advisories() -> io::Result<()> {
    let home = env::var_os("CARGO_HOME").map(PathBuf::from);
    let home = home.or_else(|| env::var_os("HOME").map(|home| Path::new(&home).join(".cargo")));
    let database = home.map(|home| home.join("advisory-dbs"));
    if database.is_some_and(|folder| folder.is_dir()) {
        // Told, not judged: a new one appears without a change here.
        step("advisories", cargo().args(["deny", "--offline", "check", "advisories"]))?;
    } else {
        println!(
            "── advisories: SKIPPED, no database on this machine (`cargo deny fetch` where there is a network)"
        );
    }
    Ok(())
}

// ── fix and bench ────────────────────────────────────────────────────────────────────────────────

fn fix() -> io::Result<bool> {
    let lints = step(
        "lints",
        cargo().args(["clippy", "--workspace", "--all-targets", "--fix", "--allow-dirty", "--allow-staged"]),
    )?;
    Ok(step("layout", cargo().args(["fmt", "--all"]))? && lints)
}

/// Runs the simulator at length; without options for ten minutes.
fn simulate(options: &[&str]) -> io::Result<bool> {
    let mut build = cargo();
    build.args(["build", "--release", "--locked", "-p", "simulator", "--features", "failpoints"]);
    // A folder of its own: what ships is never built with the commands that panic.
    build.arg("--target-dir").arg(root().join("target/simulator"));
    if !step("build", &mut build)? {
        return Ok(false);
    }
    let mut run = Command::new(root().join("target/simulator/release/simulate"));
    run.current_dir(root()).args(if options.is_empty() { &["--minutes", "10"] } else { options });
    step("simulate", &mut run)
}

/// Kills the program at many more points than an ordinary test run does.
fn faults(options: &[&str]) -> io::Result<bool> {
    let mut command = cargo();
    // With the features of the whole workspace, so that nothing is built a second time.
    command.args(["test", "--workspace", "--locked", "--test", "faults", "--", "points::", "--nocapture"]);
    let mut points = "1000";
    let mut rest = options;
    while let [name, value, more @ ..] = rest {
        match *name {
            "--points" if value.parse::<u64>().is_ok() => points = value,
            "--seed" if value.parse::<u64>().is_ok() => {
                command.env("RT_TEST_SEED", value);
            }
            _ => break,
        }
        rest = more;
    }
    if let [odd, ..] = rest {
        eprintln!("`{odd}` is no option of faults, or has no number; there are --points N and --seed S");
        return Ok(false);
    }
    step("faults", command.env("RT_TEST_POINTS", points))
}

/// Restores a made log onto empty folders; `cargo xtask drill --help` tells the options.
fn drill(options: &[&str]) -> io::Result<bool> {
    built("drill", options)
}

/// Starts a node with a fresh snapshot of many bids; `cargo xtask restart --help` tells the options.
fn restart(options: &[&str]) -> io::Result<bool> {
    built("restart", options)
}

/// Runs a program of this package, built in release with the program that it measures.
fn built(name: &str, options: &[&str]) -> io::Result<bool> {
    if !step("build", cargo().args(["build", "--release", "--locked", "-p", "api", "-p", "bench", "--bins"]))? {
        return Ok(false);
    }
    let mut run = Command::new(root().join("target/release").join(name));
    run.current_dir(root()).args(options);
    step(name, &mut run)
}

fn bench(options: &[&str]) -> io::Result<bool> {
    if let Some(odd) = options.iter().find(|option| **option != "--quick") {
        eprintln!("`{odd}` is no option of bench; there is --quick");
        return Ok(false);
    }
    let quick = options.contains(&"--quick");
    if !step("build", cargo().args(["build", "--release", "--locked", "-p", "api", "-p", "bench"]))? {
        return Ok(false);
    }
    if !quick && !step("criterion", cargo().args(["bench", "--locked", "-p", "bench"]))? {
        return Ok(false);
    }
    // First in, first out, where that is allowed: both sides of every comparison, and nobody in between.
    let compare = root().join("target/release/compare");
    let mut compare = if allowed("chrt", &["-f", "1", "true"]) {
        let mut prioritised = Command::new("chrt");
        prioritised.args(["-f", "1"]).arg(compare);
        prioritised
    } else {
        println!("── compare runs unprioritised: chrt -f is not allowed here");
        Command::new(compare)
    };
    compare.current_dir(root());
    if quick {
        compare.arg("--quick");
    }
    step("compare", &mut compare)
}
