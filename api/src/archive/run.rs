//! The commands `backup` and `restore`: progress on a terminal, one line a part, and an exit status that says whose turn
//! it is. Decides nothing about an archive.

use std::path::Path;
use std::process::ExitCode;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressStyle};
use persistence::archive::{ArchiveError, Part, Progress, Restore, Target, copy, ship_folder};
use persistence::{Disk, HistoryId, OpenError, RealDisk, system_random};

use super::Location;
use crate::config::{Config, master_key};

/// What was asked for is wrong: a location, a point, a folder, keys.
const WRONG: u8 = 2;
/// The archive or the folder is damaged, or something of it is missing.
const DAMAGED: u8 = 3;

/// Ships the data folder of a stopped node to `to`, or copies the archive of a running one.
///
/// # Errors
/// A location can't be opened.
pub fn backup(config: &Config, to: &Location) -> anyhow::Result<ExitCode> {
    let store = to.open()?;
    let began = Instant::now();
    let disk: Arc<dyn Disk> = Arc::new(RealDisk);
    let bar = Arc::new(bar(log_bytes(&config.data), "shipping", true));
    let shown = Arc::clone(&bar);
    let tell = move |bytes| shown.inc(bytes);
    let master = master_key();
    let keys = (config.keys.as_path(), master.as_ref());
    let shipped = ship_folder(&disk, &config.data, keys, Arc::clone(&store), now_ms(), tell);
    bar.finish_and_clear();
    match shipped {
        Ok(shipped) => {
            println!("entries {}", shipped.position);
            println!("stored {} objects, {} bytes, {}", shipped.objects, shipped.bytes, seconds(began.elapsed()));
            println!("{to} holds everything that is durable in {}; the keys are not in it", config.data.display());
            Ok(ExitCode::SUCCESS)
        }
        Err(ArchiveError::Folder(OpenError::Locked { dir })) => {
            let Some(archive) = &config.archive else {
                eprintln!(
                    "error: {}: a node runs on this folder and has no archive to copy from. Give the location of its \
                     archive (option --archive, or the --config of the node), or stop the node",
                    dir.display()
                );
                return Ok(ExitCode::from(WRONG));
            };
            if archive == to {
                eprintln!(
                    "error: --to {to}: this is the archive of the running node itself; give another location"
                );
                return Ok(ExitCode::from(WRONG));
            }
            let from = archive.open()?;
            let bar = self::bar(0, "copying", false);
            let copied = copy(&*from, &*store, |done, total| {
                bar.set_length(total);
                bar.set_position(done);
            });
            bar.finish_and_clear();
            match copied {
                Ok((objects, bytes)) => {
                    println!("stored {objects} objects, {bytes} bytes, {}", seconds(began.elapsed()));
                    println!("{to} holds what {archive} held when this began; a node runs on {}", dir.display());
                    Ok(ExitCode::SUCCESS)
                }
                Err(error) => Ok(failed(&error)),
            }
        }
        Err(error) => Ok(failed(&error)),
    }
}

/// Makes the data folder of `config` of the archive at `from`.
///
/// # Errors
/// The location can't be opened.
pub fn restore(
    config: &Config,
    from: &Location,
    target: Target,
    history: Option<HistoryId>,
    new_history: bool,
) -> anyhow::Result<ExitCode> {
    if let Location::Folder(dir) = from
        && !dir.is_dir()
    {
        eprintln!(
            "error: --from {from}: there is no such folder. Give the location that `backup` or --archive wrote to"
        );
        return Ok(ExitCode::from(WRONG));
    }
    let restore = Restore {
        store: from.open()?,
        disk: Arc::new(RealDisk),
        dir: config.data.clone(),
        keys_dir: config.keys.clone(),
        master: master_key(),
        target,
        history,
        new_history,
        random: system_random,
    };
    let bars = Bars::default();
    let restored = restore.run(&bars);
    bars.end();
    match restored {
        Ok(restored) => {
            println!("{restored}");
            println!("plan {}", seconds(restored.plan));
            println!("fetch {} ({} objects, {} bytes)", seconds(restored.fetch), restored.objects, restored.bytes);
            println!("verify {} ({} records)", seconds(restored.verify), restored.records);
            if restored.history == restored.from {
                println!(
                    "archive shipped last at {}; what was answered after that is not in it, and if anything was, restore \
                     with --new-history",
                    timestamp(restored.shipped_at)
                );
            }
            println!("{} can be served", config.data.display());
            Ok(ExitCode::SUCCESS)
        }
        Err(error) => Ok(failed(&error)),
    }
}

/// Reads `latest`, a number of entries, or a time.
pub fn target(text: &str) -> Option<Target> {
    if text == "latest" {
        return Some(Target::Latest);
    }
    if let Ok(position) = text.parse() {
        return Some(Target::Position(position));
    }
    let time: jiff::Timestamp = text.parse().ok()?;
    Some(Target::Time(time.as_millisecond()))
}

/// Says what is wrong, and by the exit status whose turn it is.
fn failed(error: &ArchiveError) -> ExitCode {
    eprintln!("error: {error}");
    match error {
        ArchiveError::Store { .. } | ArchiveError::Folder(OpenError::Disk { .. }) => ExitCode::FAILURE,
        ArchiveError::Target { .. }
        | ArchiveError::NotEmpty { .. }
        | ArchiveError::Empty { .. }
        | ArchiveError::Foreign { .. }
        | ArchiveError::Keys(_)
        | ArchiveError::Version { .. }
        | ArchiveError::Folder(OpenError::Locked { .. } | OpenError::Keys(_)) => ExitCode::from(WRONG),
        _ => ExitCode::from(DAMAGED),
    }
}

/// Bytes of the segments in a data folder: about what will be shipped, or less where some of it is.
fn log_bytes(data: &Path) -> u64 {
    let entries = std::fs::read_dir(data.join("log")).into_iter().flatten().flatten();
    entries.filter_map(|entry| Some(entry.metadata().ok()?.len())).sum()
}

/// A bar on a terminal; nothing elsewhere.
fn bar(total: u64, title: &'static str, is_bytes: bool) -> ProgressBar {
    let numbers =
        if is_bytes { "{bytes}/{total_bytes} {bytes_per_sec} {eta}" } else { "{pos}/{len} objects {eta}" };
    let style = ProgressStyle::with_template(&format!("{{msg:>9}} {{wide_bar}} {numbers}"));
    ProgressBar::new(total).with_style(style.expect("the template is sound")).with_message(title)
}

/// The bar of the part that is under way.
#[derive(Default)]
struct Bars(Mutex<Option<ProgressBar>>);

impl Bars {
    fn end(&self) {
        if let Some(bar) = self.0.lock().unwrap_or_else(PoisonError::into_inner).take() {
            bar.finish_and_clear();
        }
    }
}

impl Progress for Bars {
    fn begin(&self, part: Part, total: u64) {
        self.end();
        let title = match part {
            Part::Plan => "planning",
            Part::Fetch => "fetching",
            Part::Verify => "verifying",
        };
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Some(bar(total, title, true));
    }

    fn advance(&self, bytes: u64) {
        if let Some(bar) = &*self.0.lock().unwrap_or_else(PoisonError::into_inner) {
            bar.inc(bytes);
        }
    }

    fn note(&self, text: &str) {
        let say = || eprintln!("note: {text}");
        match &*self.0.lock().unwrap_or_else(PoisonError::into_inner) {
            Some(bar) => bar.suspend(say),
            None => say(),
        }
    }
}

fn seconds(time: Duration) -> String {
    format!("{:.3} s", time.as_secs_f64())
}

fn timestamp(ms: i64) -> String {
    jiff::Timestamp::from_millisecond(ms).map_or_else(|_| format!("{ms} ms"), |time| time.to_string())
}

fn now_ms() -> i64 {
    jiff::Timestamp::now().as_millisecond()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn targets_are_latest_numbers_and_times() {
        assert_eq!(target("latest"), Some(Target::Latest));
        assert_eq!(target("120"), Some(Target::Position(120)));
        assert_eq!(target("2024-01-29T10:00:00.250Z"), Some(Target::Time(1_706_522_400_250)));
        assert_eq!(target("2024-01-29T13:00:00.250+03:00"), Some(Target::Time(1_706_522_400_250)));
        for odd in ["", "newest", "-1", "2024-01-29", "10:00"] {
            assert_eq!(target(odd), None, "{odd}");
        }
    }
}
