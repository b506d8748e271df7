//! The archive of a running node: a thread that ships every second, tries again when the store refuses, and knows how
//! far it lags behind.
//!
//! Nothing waits for it but the re-use of segments: a store that is away costs disk space, never a bid.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use crossbeam::channel::{Receiver, RecvTimeoutError};
use tracing::{error, info, warn};

use super::reach::Reach;
use super::ship::Shipper;
use crate::log_thread::Truncator;

/// How often it is looked for something to ship.
const PERIOD: Duration = Duration::from_secs(1);
/// The longest pause after a failure; the first is [`PERIOD`], each next one twice as long.
const PAUSE_MAX: Duration = Duration::from_secs(30);
/// A lag of this much is an alarm in the log, again and again.
pub const ALARM_AFTER: Duration = Duration::from_secs(60);

/// How far the archive is behind the log.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Lag {
    /// Entries that are durable here and not archived.
    pub entries: u64,
    /// For how long the oldest of them has waited.
    pub since: Duration,
}

/// What the archive tells others; none of them waits for it.
#[derive(Debug)]
pub struct Status {
    began: Instant,
    /// Entries that are archived.
    position: AtomicU64,
    /// Everything that was durable at this moment is archived; milliseconds after `began`.
    caught_up_ms: AtomicU64,
    /// Whether more was durable when it was last looked.
    is_behind: AtomicBool,
    objects: AtomicU64,
    bytes: AtomicU64,
    failures: AtomicU64,
    trouble: Mutex<Option<String>>,
}

impl Default for Status {
    fn default() -> Self {
        Self {
            began: Instant::now(),
            position: AtomicU64::new(0),
            caught_up_ms: AtomicU64::new(0),
            is_behind: AtomicBool::new(true),
            objects: AtomicU64::new(0),
            bytes: AtomicU64::new(0),
            failures: AtomicU64::new(0),
            trouble: Mutex::default(),
        }
    }
}

impl Status {
    /// The lag, when the log holds `entries` entries of all shards.
    pub fn lag(&self, entries: u64) -> Lag {
        let entries = entries.saturating_sub(self.position.load(Ordering::Acquire));
        let caught_up = Duration::from_millis(self.caught_up_ms.load(Ordering::Acquire));
        let since = if entries == 0 { Duration::ZERO } else { self.began.elapsed().saturating_sub(caught_up) };
        Lag { entries, since }
    }

    /// Objects and bytes that were stored, and how often the store refused, since the start.
    pub fn counts(&self) -> (u64, u64, u64) {
        let get = |count: &AtomicU64| count.load(Ordering::Relaxed);
        (get(&self.objects), get(&self.bytes), get(&self.failures))
    }

    /// What the last attempt failed with.
    pub fn trouble(&self) -> Option<String> {
        self.trouble.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

/// The thread's work.
pub struct Archiver {
    /// What ships.
    pub shipper: Shipper,
    /// How far the log is durable, and what it may let go.
    pub reach: Arc<Reach>,
    /// Asks the log to let go.
    pub truncator: Truncator,
    /// What others read.
    pub status: Arc<Status>,
    /// Milliseconds since 1970.
    pub clock: fn() -> i64,
}

impl Archiver {
    /// Ships until `stop` closes, and once more then: after an orderly stop the archive lacks nothing, unless the store
    /// is away.
    pub fn run(mut self, stop: &Receiver<()>) {
        let mut pause = PERIOD;
        let mut alarm_at = ALARM_AFTER;
        loop {
            let stopped = stop.recv_timeout(pause) != Err(RecvTimeoutError::Timeout);
            let failed = self.round();
            if failed {
                pause = (2 * pause).min(PAUSE_MAX)
            } else {
                pause = PERIOD
            }
            let behind = self.behind();
            if behind >= alarm_at {
                let why = self.status.trouble().unwrap_or_else(|| "it is slower than the log".into());
                error!("The archive is {} s behind the log, and the log is kept for it: {why}", behind.as_secs());
                alarm_at = behind + ALARM_AFTER;
            } else if behind < ALARM_AFTER {
                alarm_at = ALARM_AFTER;
            }
            if stopped {
                return;
            }
        }
    }

    fn behind(&self) -> Duration {
        if !self.status.is_behind.load(Ordering::Acquire) {
            return Duration::ZERO;
        }
        let caught_up = Duration::from_millis(self.status.caught_up_ms.load(Ordering::Acquire));
        self.status.began.elapsed().saturating_sub(caught_up)
    }

    /// Ships once; answers whether that failed.
    fn round(&mut self) -> bool {
        let status = &self.status;
        let mut looked = status.began.elapsed();
        let (reach, began) = (Arc::clone(&self.reach), status.began);
        let durable = || {
            looked = began.elapsed();
            reach.durable()
        };
        let shipped = self.shipper.ship(durable, (self.clock)());
        let told = self.shipper.shipped();
        status.position.store(told.position, Ordering::Release);
        status.objects.store(told.objects, Ordering::Relaxed);
        status.bytes.store(told.bytes, Ordering::Relaxed);
        if told.whole > self.reach.archived() {
            self.reach.set_archived(told.whole);
            // Nothing new is covered; what is, waited for the archive. A log that has ended needs no room.
            self.truncator.truncate(Vec::new()).unwrap_or(());
        }
        let trouble = shipped.err();
        status.is_behind.store(told.extent < self.reach.durable(), Ordering::Release);
        let mut last = status.trouble.lock().unwrap_or_else(PoisonError::into_inner);
        match &trouble {
            None => {
                status.caught_up_ms.store(looked.as_millis() as u64, Ordering::Release);
                if last.is_some() {
                    info!("The archive takes the log again");
                }
            }
            Some(error) => {
                status.failures.fetch_add(1, Ordering::Relaxed);
                if last.as_deref() != Some(&error.to_string()) {
                    warn!("Not archived: {error}");
                }
            }
        }
        *last = trouble.map(|error| error.to_string());
        last.is_some()
    }
}
