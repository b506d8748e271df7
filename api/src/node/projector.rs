//! The projector: follows the view with a replica of its own and writes what the entries say into SQL.
//!
//! Never delays anybody: the view drops what does not fit into its queue, and what was dropped is read from the log's
//! files. While the database is away nothing is held but one batch. Position and rows are written in one transaction.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use crossbeam::channel::{Receiver, Sender, TryRecvError, bounded};
use engine::Entry;
use persistence::sql::{Advance, Batch, Gather, Place, Position, Store, StoreError};
use persistence::{LogReader, OpenError};

use super::machine::Machine;
use super::snapshots;

/// Entries that may wait; what comes when there is no room is read from the log later.
const ROOM: usize = 4_096;
/// How long the thread sleeps when it has nothing to do: nobody wakes it.
const NAP: Duration = Duration::from_millis(20);
/// How long entries may be missing from the queue before the log is read.
const MISSED_AFTER: Duration = Duration::from_millis(500);
/// About so many rows make a transaction.
const ROWS: usize = 8_192;
/// The longest pause between two tries.
const PATIENCE: Duration = Duration::from_secs(5);

/// Why a projection can't go on by itself.
#[derive(Debug, thiserror::Error)]
pub enum ProjectError {
    /// The database.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The log.
    #[error(transparent)]
    Log(#[from] OpenError),
    /// The snapshot.
    #[error("{0}")]
    State(String),
}

/// How far the projection is; written by its thread, read by metrics and readers.
#[derive(Debug)]
pub struct Projected {
    written: Box<[AtomicU64]>,
    failures: AtomicU64,
    away: AtomicBool,
    current_at: Mutex<Instant>,
}

impl Projected {
    fn new(shards: usize) -> Self {
        let written = (0..shards).map(|_| AtomicU64::new(0)).collect();
        Self {
            written,
            failures: AtomicU64::new(0),
            away: AtomicBool::new(true),
            current_at: Mutex::new(Instant::now()),
        }
    }

    /// The last entry of each shard whose rows are in the database.
    pub fn written(&self) -> Vec<u64> {
        self.written.iter().map(|entry| entry.load(Ordering::Acquire)).collect()
    }

    /// How often the database refused.
    pub fn failures(&self) -> u64 {
        self.failures.load(Ordering::Relaxed)
    }

    /// Whether the database did not take what it was given last.
    pub fn is_away(&self) -> bool {
        self.away.load(Ordering::Relaxed)
    }

    /// How many of the entries up to `applied` are not in the database yet, and for how long some have not been.
    pub fn lag(&self, applied: &[u64]) -> (u64, Duration) {
        let behind = applied.iter().zip(self.written()).map(|(applied, written)| applied.saturating_sub(written));
        match behind.sum() {
            0 => (0, Duration::ZERO),
            entries => {
                let since = self.current_at.lock().unwrap_or_else(PoisonError::into_inner).elapsed();
                (entries, since)
            }
        }
    }

    fn store(&self, shard: usize, entry: u64) {
        self.written[shard].store(entry, Ordering::Release);
    }

    fn is_current(&self) {
        *self.current_at.lock().unwrap_or_else(PoisonError::into_inner) = Instant::now();
    }
}

/// An entry on its way to the projector.
pub type Following = (u16, Arc<Entry>);

/// One replica, and the rows that its last entries made.
pub struct Replica {
    machines: Vec<Machine>,
    /// None while the replica is behind what is written already.
    gathers: Vec<Option<Gather>>,
    /// What the database holds.
    written: Vec<u64>,
    /// The rows up to here come from a state.
    gaps: Vec<bool>,
}

impl Replica {
    /// A replica behind or at `positions`, from the newest snapshot that is not ahead of them; from the newest of all,
    /// with a gap, when the log no longer holds what lies between.
    ///
    /// # Errors
    /// The log or a snapshot can't be read.
    pub fn load(reader: &LogReader, positions: &[Position]) -> Result<Self, ProjectError> {
        let written: Vec<u64> = positions.iter().map(|position| position.entry).collect();
        let shards = written.len();
        let base = reader.read(vec![u64::MAX; shards])?.base;
        let mut below = None;
        let snapshot = loop {
            let Some(snapshot) = reader.snapshot(below)? else { break None };
            if snapshot.indices().iter().zip(&written).all(|(index, written)| index <= written) {
                break Some(snapshot);
            }
            below = Some(snapshot.number());
        };
        let snapshot = match snapshot {
            None if base.iter().any(|base| *base > 0) => reader.snapshot(None)?,
            found => found,
        };
        let machines: Vec<Machine> = match &snapshot {
            None => (0..shards as u16).map(Machine::new).collect(),
            Some(snapshot) => snapshots::machines(snapshot).map_err(ProjectError::State)?,
        };
        let mut replica = Self { machines, gathers: Vec::new(), gaps: vec![false; shards], written };
        for (shard, machine) in replica.machines.iter().enumerate() {
            let (index, written) = (machine.index(), replica.written[shard]);
            replica.gathers.push((index >= written).then(|| behind(machine)));
            if index > written {
                tracing::warn!(
                    "The log no longer holds the entries of shard {shard} from {} to {index}: the projection takes \
                     the state from a snapshot, and has no events of that time",
                    written + 1
                );
                replica.gaps[shard] = true;
                match (machine, replica.gathers[shard].as_mut()) {
                    (Machine::Tenders(engine), Some(gather)) => gather.everything(engine),
                    (Machine::Accounts(accounts), Some(gather)) => gather.every_account(accounts),
                    (_, None) => {}
                }
            }
        }
        Ok(replica)
    }

    /// The last entry of each shard that was applied.
    pub fn indexes(&self) -> Vec<u64> {
        self.machines.iter().map(Machine::index).collect()
    }

    /// Passes a command by.
    pub fn pass_by(&mut self, shard: u16, index: u64, position: u32) {
        let machine = &mut self.machines[usize::from(shard)];
        if index > machine.index() {
            machine.pass_by(index, position);
        }
    }

    /// Applies an entry if it is the next; answers whether it came too early.
    pub fn apply(&mut self, shard: u16, entry: &Entry) -> bool {
        let number = usize::from(shard);
        let machine = &mut self.machines[number];
        if entry.index != machine.index() + 1 {
            return entry.index > machine.index();
        }
        match &mut self.gathers[number] {
            None => {
                machine.apply(entry, &mut ());
                machine.maintain();
                if machine.index() >= self.written[number] {
                    self.gathers[number] = Some(behind(machine));
                }
            }
            Some(gather) => {
                if let Machine::Accounts(accounts) = &*machine {
                    gather.applying_accounts(accounts, entry);
                }
                machine.apply(entry, gather);
                machine.maintain();
                match machine {
                    Machine::Tenders(engine) => gather.applied(engine, entry),
                    Machine::Accounts(accounts) => gather.applied_accounts(accounts, entry),
                }
            }
        }
        false
    }

    /// About how many rows wait.
    pub fn waiting(&self) -> usize {
        self.gathers.iter().flatten().map(Gather::waiting).sum()
    }

    /// What is to be written next, if anything is.
    pub fn take(&mut self) -> Option<(Vec<Advance>, Batch)> {
        let (mut advances, mut batch) = (Vec::new(), Batch::default());
        for (number, machine) in self.machines.iter().enumerate() {
            let (from, to) = (self.written[number], machine.index());
            let Some(gather) = self.gathers[number].as_mut().filter(|_| to > from) else { continue };
            let engine = match machine {
                Machine::Tenders(engine) => Some(engine),
                Machine::Accounts(_) => None,
            };
            batch.append(gather.take(engine));
            let gap = std::mem::take(&mut self.gaps[number]);
            advances.push(Advance { shard: number as u16, from, to, at_ms: machine.now().0, gap });
            self.written[number] = to;
        }
        (!advances.is_empty()).then_some((advances, batch))
    }
}

fn behind(machine: &Machine) -> Gather {
    match machine {
        Machine::Tenders(engine) => Gather::behind(engine),
        Machine::Accounts(_) => Gather::default(),
    }
}

/// Where a projection begins: empties the database when it is of another log.
///
/// # Errors
/// The database or the log.
pub async fn begin(
    store: &mut Store,
    reader: &LogReader,
    history: &str,
    last: &[u64],
) -> Result<Replica, ProjectError> {
    let shards = last.len() as u16;
    let mut positions = store.positions(shards).await?;
    let is_other = |(position, last): (&Position, &u64)| {
        !position.history.is_empty() && (position.history != history || position.entry > *last)
    };
    if positions.iter().zip(last).any(is_other) {
        tracing::warn!("The database holds the projection of another history: it is emptied and filled again");
        store.empty().await?;
        positions = vec![Position::default(); usize::from(shards)];
    }
    Replica::load(reader, &positions)
}

/// The thread that projects.
pub struct Projector {
    place: Place,
    reader: LogReader,
    history: String,
    queue: Receiver<Following>,
    /// What the node has applied, by shard.
    applied: Box<dyn Fn() -> Vec<u64> + Send>,
    projected: Arc<Projected>,
    stop: Receiver<()>,
}

/// What the node holds of its projector.
pub struct Projecting {
    /// How far it is.
    pub projected: Arc<Projected>,
    /// Where it is.
    pub place: Place,
    /// Closing it ends the thread.
    pub stop: Mutex<Option<Sender<()>>>,
}

impl Projector {
    /// A projector into `place`, what the node holds of it, and where the view puts entries.
    pub fn new(
        place: Place,
        reader: LogReader,
        history: String,
        applied: impl Fn() -> Vec<u64> + Send + 'static,
    ) -> (Self, Projecting, Sender<Following>) {
        let (entries, queue) = bounded(ROOM);
        let (end, stop) = bounded(0);
        let projected = Arc::new(Projected::new(applied().len()));
        let projecting =
            Projecting { projected: Arc::clone(&projected), place: place.clone(), stop: Mutex::new(Some(end)) };
        let applied = Box::new(applied);
        (Self { place, reader, history, queue, applied, projected, stop }, projecting, entries)
    }

    fn is_stopping(&self) -> bool {
        self.stop.try_recv() == Err(TryRecvError::Disconnected)
    }

    /// The thread: ends when it is told to, with everything written that the database takes.
    pub fn run(self) {
        let runtime = match tokio::runtime::Builder::new_current_thread().enable_all().build() {
            Ok(runtime) => runtime,
            Err(error) => return tracing::error!("Nothing is projected into SQL: {error}"),
        };
        let mut pause = NAP;
        while let Err(error) = runtime.block_on(self.follow(&mut pause)) {
            self.projected.failures.fetch_add(1, Ordering::Relaxed);
            self.projected.away.store(true, Ordering::Relaxed);
            if self.is_stopping() {
                tracing::warn!("The projection into {} ends behind the log: {error}", self.place);
                return;
            }
            tracing::warn!("The projection into {} waits {} ms: {error}", self.place, pause.as_millis());
            let _woken = self.stop.recv_timeout(pause);
            pause = (pause * 2).min(PATIENCE);
        }
    }

    /// Opens the database and follows until the end; whatever fails begins again from what the database holds.
    async fn follow(&self, pause: &mut Duration) -> Result<(), ProjectError> {
        let mut store = Store::open(&self.place).await?;
        let mut replica = begin(&mut store, &self.reader, &self.history, &(self.applied)()).await?;
        for (shard, entry) in replica.written.iter().enumerate() {
            self.projected.store(shard, *entry);
        }
        let mut missed = true;
        let mut behind_since: Option<Instant> = None;
        loop {
            let stopping = self.is_stopping();
            if missed {
                self.read_log(&mut store, &mut replica).await?;
                missed = false;
            }
            while replica.waiting() < ROWS {
                let Ok((shard, entry)) = self.queue.try_recv() else { break };
                missed |= replica.apply(shard, &entry);
            }
            let wrote = self.write(&mut store, &mut replica).await?;
            if wrote {
                *pause = NAP;
            }
            self.projected.away.store(false, Ordering::Relaxed);
            let is_current = (self.applied)().iter().zip(replica.indexes()).all(|(applied, own)| *applied <= own);
            if is_current {
                self.projected.is_current();
                behind_since = None;
                if stopping {
                    return Ok(());
                }
            } else if stopping && self.queue.is_empty() {
                missed = true;
            } else if self.queue.is_empty() {
                missed |= behind_since.get_or_insert_with(Instant::now).elapsed() > MISSED_AFTER;
            }
            if !missed && self.queue.is_empty() && !stopping {
                std::thread::sleep(NAP);
            }
        }
    }

    /// Applies what the log's files hold and this has not seen.
    async fn read_log(&self, store: &mut Store, replica: &mut Replica) -> Result<(), ProjectError> {
        let now = self.reader.read(replica.indexes())?;
        if now.base.iter().zip(replica.indexes()).any(|(base, own)| *base > own) {
            return Err(ProjectError::State("the log was cut while the projection was behind".into()));
        }
        for skip in now.skips {
            replica.pass_by(skip.shard, skip.index, skip.position);
        }
        let applied = (self.applied)();
        for entry in now.entries {
            let entry = entry?;
            // What is not committed may still be taken back.
            if entry.entry.index <= applied[usize::from(entry.shard)] {
                replica.apply(entry.shard, &entry.entry);
            }
            if replica.waiting() >= ROWS {
                self.write(store, replica).await?;
            }
        }
        self.write(store, replica).await?;
        Ok(())
    }

    async fn write(&self, store: &mut Store, replica: &mut Replica) -> Result<bool, ProjectError> {
        let Some((advances, batch)) = replica.take() else { return Ok(false) };
        store.write(&self.history, &advances, &batch).await?;
        metrics::counter!("rt_projection_rows_total").increment(batch.len() as u64);
        for advance in &advances {
            self.projected.store(usize::from(advance.shard), advance.to);
        }
        Ok(true)
    }
}
