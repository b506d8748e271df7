//! The scrub of a node: its thread, and what becomes of what it finds. What is read and how it is judged is in
//! `persistence`.
//!
//! A node that finds damage goes on: what it holds in memory was checked when it was read or written. It takes two
//! snapshots, because a start needs nothing that both of those kept have passed, and then the log puts the segment aside
//! as it lets any other go. So the next start is not refused, and nothing is lost with it that would not have gone soon:
//! with an archive the log waits until that has a sound copy, and keeps the only one there is.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use crossbeam::channel::{Sender, bounded};
use persistence::archive::Reach;
use persistence::{LogReader, Scrub, ScrubStatus};

use super::boot::{BootError, spawn_apart};

/// How often and how fast the log and the snapshots are read again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ScrubOptions {
    /// From one pass's beginning to the next one's.
    pub period: Duration,
    /// How much is read in a second at most.
    pub bytes_per_s: u64,
}

/// A scrub that runs.
pub(super) struct Scrubbing {
    /// What it has found.
    pub(super) status: Arc<ScrubStatus>,
    /// Closing it ends the thread.
    stop: Mutex<Option<Sender<()>>>,
}

impl Scrubbing {
    /// Starts it; `wanted` is set when two snapshots are.
    pub(super) fn start(
        options: ScrubOptions,
        reader: LogReader,
        reach: Arc<Reach>,
        wanted: Arc<AtomicBool>,
    ) -> Result<(Self, JoinHandle<()>), BootError> {
        let (stop, stopped) = bounded(0);
        let status = Arc::<ScrubStatus>::default();
        let scrub = Scrub {
            reader,
            reach,
            period: options.period,
            bytes_per_s: options.bytes_per_s,
            status: Arc::clone(&status),
            on_damage: Box::new(move |_| wanted.store(true, Ordering::Release)),
            clock: super::clock::wall_ms,
        };
        let thread = spawn_apart("scrub", move || {
            // Of this thread alone: whoever serves comes first.
            if let Err(error) = rustix::process::nice(19) {
                tracing::warn!("The scrub is as urgent as everything else: {error}");
            }
            scrub.run(&stopped);
        })?;
        Ok((Self { status, stop: Mutex::new(Some(stop)) }, thread))
    }

    /// Asks the thread to end.
    pub(super) fn stop(&self) {
        self.stop.lock().unwrap_or_else(PoisonError::into_inner).take();
    }
}
