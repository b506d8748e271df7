//! The thread that does the log's blocking I/O, and the helper that makes segments ready.
//!
//! It flushes what it is given, one batch after another, and says so. There is no timer: while one batch is flushed the
//! core gathers the next. After the disk failed it says [`LogEvent::Failed`], ends, and never writes again.
//! A core that has nothing else to do may flush on its own thread: [`LogThread::append_here`].

use std::fmt;
use std::io;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, TryLockError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use crossbeam::channel::{Receiver, Select, Sender, TryRecvError, bounded, never};
use tracing::{error, info, warn};

use crate::Batch;
use crate::log::{AppendError, Log};

/// How many batches may wait: the core hands over the next when it has seen the flush before.
const WAITING_MAX: usize = 64;
/// How often a full disk is asked again.
const RETRY: Duration = Duration::from_millis(200);

/// What the log thread tells, in order.
#[derive(Debug)]
pub enum LogEvent {
    /// All records of the batch are durable. The batch comes back empty, with its ticket.
    Flushed {
        /// The batch.
        batch: Batch,
    },
    /// There is no space and nothing of the batch was written.
    Refused {
        /// The batch, with its ticket.
        batch: Batch,
    },
    /// Ordinary batches are refused from now on. This or [`LogEvent::Writable`] follows each refusal as well, also where
    /// nothing changed: whoever takes a refusal for a full disk must learn that it isn't.
    ReadOnly,
    /// Ordinary batches are taken, again or still.
    Writable,
    /// The disk failed: stop the process now and answer nobody. The last event.
    Failed {
        /// Why.
        error: String,
    },
}

enum Order {
    Append(Batch),
    Truncate(Vec<u64>),
    /// The log was used by another thread and has something to see to.
    Look,
    Stop,
}

/// Handle of the log thread. Dropped, it lets the thread finish what it was given and waits for it.
pub struct LogThread {
    /// None only while it is dropped: the helper ends with the last handle of the log.
    log: Option<Arc<Mutex<Log>>>,
    /// A batch was refused elsewhere than on the thread, which has not told of the space since.
    refused_here: Arc<AtomicBool>,
    orders: Option<Sender<Order>>,
    events: Receiver<LogEvent>,
    threads: Vec<JoinHandle<()>>,
}

impl fmt::Debug for LogThread {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LogThread").field("threads", &self.threads).finish_non_exhaustive()
    }
}

/// The log thread has ended: an event [`LogEvent::Failed`] says why.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the log thread has ended")]
pub struct Ended;

/// Sends covered indices to the log thread, from the thread that writes snapshots.
#[derive(Clone, Debug)]
pub struct Truncator {
    orders: Sender<Order>,
}

impl Truncator {
    /// See [`LogThread::truncate`].
    pub fn truncate(&self, covered: Vec<u64>) -> Result<(), Ended> {
        self.orders.send(Order::Truncate(covered)).map_err(|_| Ended)
    }
}

impl LogThread {
    /// Starts the thread and its helper.
    pub fn spawn(log: Log) -> io::Result<Self> {
        Self::spawn_waking(log, || {})
    }

    /// As [`LogThread::spawn`], for who sleeps by other means than the channel of events: `wake` is called behind each
    /// event, on the log thread.
    pub fn spawn_waking(mut log: Log, wake: impl Fn() + Send + 'static) -> io::Result<Self> {
        let (orders, given) = bounded(WAITING_MAX);
        // Room for the answer to every batch that can wait, and for changes of state between them.
        let (tell, events) = bounded(4 * WAITING_MAX);
        let mut threads = Vec::new();
        if let Some(helper) = log.split_maker() {
            let thread = std::thread::Builder::new().name("segments".into());
            threads.push(thread.spawn(helper)?);
        }
        let log = Arc::new(Mutex::new(log));
        let thread = std::thread::Builder::new().name("log".into());
        let shared = Arc::clone(&log);
        let refused_here = Arc::new(AtomicBool::new(false));
        let refused = Arc::clone(&refused_here);
        threads.push(thread.spawn(move || run(&shared, &refused, &given, &tell, &wake))?);
        Ok(Self { log: Some(log), refused_here, orders: Some(orders), events, threads })
    }

    /// Appends on the calling thread and says what the thread would have said: two wakes of an idle processor less
    /// than [`LogThread::submit`]. For a caller that has no batch under way and could only wait. The batch comes back
    /// when the thread has the log: then submit it.
    pub fn append_here(&self, mut batch: Batch) -> Result<LogEvent, Batch> {
        let Some(log) = &self.log else { return Err(batch) };
        let mut log = match log.try_lock() {
            Ok(log) => log,
            Err(TryLockError::WouldBlock) => return Err(batch),
            // Half of an append may have been done when the other thread panicked.
            Err(TryLockError::Poisoned(_)) => {
                return Ok(LogEvent::Failed { error: "the log thread panicked".into() });
            }
        };
        let appended = log.append(&mut batch);
        let refused = matches!(appended, Err(AppendError::ReadOnly(_)));
        self.refused_here.fetch_or(refused, Ordering::AcqRel);
        if (refused || log.is_full() || log.read_only())
            && let Some(orders) = &self.orders
        {
            // An order that waits makes the thread look as well.
            orders.try_send(Order::Look).ok();
        }
        Ok(answer(appended, batch).unwrap_or_else(|error| {
            error!("The log stops for ever: {error}");
            LogEvent::Failed { error: error.to_string() }
        }))
    }

    /// Hands over a batch; its ticket comes back with the event that answers it.
    pub fn submit(&self, batch: Batch) -> Result<(), Ended> {
        let orders = self.orders.as_ref().ok_or(Ended)?;
        orders.send(Order::Append(batch)).map_err(|_| Ended)
    }

    /// Lets segments go whose records the older of the kept snapshots covers; `covered` is what
    /// [`crate::SnapshotWriter::finish`] returned.
    pub fn truncate(&self, covered: Vec<u64>) -> Result<(), Ended> {
        self.truncator().ok_or(Ended)?.truncate(covered)
    }

    /// A handle that can only truncate.
    pub fn truncator(&self) -> Option<Truncator> {
        self.orders.clone().map(|orders| Truncator { orders })
    }

    /// Where events arrive. Must be read, or the thread waits.
    pub fn events(&self) -> &Receiver<LogEvent> {
        &self.events
    }
}

impl Drop for LogThread {
    fn drop(&mut self) {
        // Events that nobody reads any more must not hold it up.
        self.events = never();
        self.log = None;
        if let Some(orders) = self.orders.take() {
            // It may have ended before, for a reason it told. The helper ends with the log.
            orders.send(Order::Stop).ok();
        }
        for thread in self.threads.drain(..).rev() {
            if thread.join().is_err() {
                error!("A thread of the log panicked");
            }
        }
    }
}

fn run(
    log: &Mutex<Log>,
    refused_here: &AtomicBool,
    given: &Receiver<Order>,
    events: &Sender<LogEvent>,
    wake: &dyn Fn(),
) {
    // When nobody listens any more, what was handed over is still made durable.
    let tell = |event| {
        events.send(event).unwrap_or(());
        wake();
    };
    // What was told of the space; nothing behind a refusal.
    let mut told = Some(false);
    let mut retry_at = None;
    // Only looked at: what was made is taken under the lock, by whoever has it.
    let made = lock(log).made();
    let mut select = Select::new();
    let orders = select.recv(given);
    select.recv(&made);
    loop {
        if refused_here.swap(false, Ordering::AcqRel) {
            told = None;
        }
        // Never held while this thread waits for orders.
        let (read_only, full) = {
            let log = lock(log);
            (log.read_only(), log.is_full())
        };
        if told.replace(read_only) != Some(read_only) {
            if read_only {
                warn!("The log is read-only: the next segment can't be made ready");
                tell(LogEvent::ReadOnly);
            } else {
                info!("The log takes batches again");
                tell(LogEvent::Writable);
            }
        }
        // A point in time, not a pause: ticks that come more often must not put it off for ever.
        retry_at = full.then(|| retry_at.unwrap_or_else(|| Instant::now() + RETRY));
        let ready = match retry_at {
            Some(at) => select.ready_deadline(at).ok(),
            None => Some(select.ready()),
        };
        let failed = match ready {
            Some(ready) if ready == orders => match given.try_recv() {
                Ok(Order::Append(mut batch)) => {
                    // The lock goes before the core is told, so that the core finds the log free.
                    let appended = lock(log).append(&mut batch);
                    match answer(appended, batch) {
                        Ok(event) => {
                            if matches!(event, LogEvent::Refused { .. }) {
                                told = None;
                            }
                            tell(event);
                            None
                        }
                        Err(error) => Some(error),
                    }
                }
                Ok(Order::Truncate(covered)) => failure(lock(log).truncate(&covered)),
                Ok(Order::Look) | Err(TryRecvError::Empty) => None,
                Ok(Order::Stop) | Err(TryRecvError::Disconnected) => return,
            },
            Some(_) => failure(lock(log).take_made()),
            None => {
                retry_at = None;
                failure(lock(log).retry())
            }
        };
        if let Some(error) = failed {
            error!("The log stops for ever: {error}");
            return tell(LogEvent::Failed { error: error.to_string() });
        }
    }
}

/// The log. Who panicked inside it left a step half done: then nobody writes any more.
fn lock(log: &Mutex<Log>) -> MutexGuard<'_, Log> {
    log.lock().expect("no step of the log was left half done")
}

/// What is told of an append, or why the log has stopped.
fn answer(appended: Result<(), AppendError>, mut batch: Batch) -> io::Result<LogEvent> {
    match appended {
        Ok(()) => {
            batch.empty();
            Ok(LogEvent::Flushed { batch })
        }
        Err(AppendError::ReadOnly(reason)) => {
            warn!("Batch refused, nothing was written: {reason}");
            Ok(LogEvent::Refused { batch })
        }
        Err(AppendError::Failed(error)) => Err(error),
    }
}

/// What is final in a step of the log.
fn failure(step: Result<(), AppendError>) -> Option<io::Error> {
    match step {
        Err(AppendError::Failed(error)) => Some(error),
        Ok(()) | Err(AppendError::ReadOnly(_)) => None,
    }
}
