//! The thread that does the log's blocking I/O, and the helper that makes segments ready.
//!
//! It flushes what it is given, one batch after another, and says so. There is no timer: while one batch is flushed the
//! core gathers the next. After the disk failed it says [`LogEvent::Failed`], ends, and never writes again.

use std::io;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use crossbeam::channel::{Receiver, Sender, at, bounded, never};
use crossbeam::select;
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
    /// Ordinary batches are refused from now on.
    ReadOnly,
    /// Ordinary batches are taken again.
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
    Stop,
}

/// Handle of the log thread. Dropped, it lets the thread finish what it was given and waits for it.
#[derive(Debug)]
pub struct LogThread {
    orders: Option<Sender<Order>>,
    events: Receiver<LogEvent>,
    threads: Vec<JoinHandle<()>>,
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
        let thread = std::thread::Builder::new().name("log".into());
        threads.push(thread.spawn(move || run(log, &given, &tell, &wake))?);
        Ok(Self { orders: Some(orders), events, threads })
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

fn run(mut log: Log, given: &Receiver<Order>, events: &Sender<LogEvent>, wake: &dyn Fn()) {
    // When nobody listens any more, what was handed over is still made durable.
    let tell = |event| {
        events.send(event).unwrap_or(());
        wake();
    };
    let mut read_only = false;
    let mut retry_at = None;
    loop {
        if log.read_only() != read_only {
            read_only = log.read_only();
            if read_only {
                warn!("The log is read-only: the next segment can't be made ready");
                tell(LogEvent::ReadOnly);
            } else {
                info!("The log takes batches again");
                tell(LogEvent::Writable);
            }
        }
        // A point in time, not a pause: ticks that come more often must not put it off for ever.
        retry_at = log.is_full().then(|| retry_at.unwrap_or_else(|| Instant::now() + RETRY));
        let retry = retry_at.map_or_else(never, at);
        let made = log.made();
        let failed = select! {
            recv(given) -> order => match order {
                Ok(Order::Append(mut batch)) => match log.append(&mut batch) {
                    Ok(()) => {
                        batch.empty();
                        tell(LogEvent::Flushed { batch });
                        None
                    }
                    Err(AppendError::ReadOnly(reason)) => {
                        warn!("Batch refused, nothing was written: {reason}");
                        tell(LogEvent::Refused { batch });
                        None
                    }
                    Err(AppendError::Failed(error)) => Some(error),
                },
                Ok(Order::Truncate(covered)) => failure(log.truncate(&covered)),
                Ok(Order::Stop) | Err(_) => return,
            },
            recv(made) -> made => match made {
                Ok(made) => failure(log.accept(made)),
                Err(_) => Some(io::Error::other("the helper that makes segments ready is gone")),
            },
            recv(retry) -> _ => {
                retry_at = None;
                failure(log.retry())
            },
        };
        if let Some(error) = failed {
            error!("The log stops for ever: {error}");
            return tell(LogEvent::Failed { error: error.to_string() });
        }
    }
}

/// What is final in a step of the log.
fn failure(step: Result<(), AppendError>) -> Option<io::Error> {
    match step {
        Err(AppendError::Failed(error)) => Some(error),
        Ok(()) | Err(AppendError::ReadOnly(_)) => None,
    }
}
