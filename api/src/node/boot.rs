//! The start of a node: opens the log, replays it, passes by what panicked before, and starts the threads.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use crossbeam::channel::bounded;
use engine::{Action, LogTime};
use persistence::archive::{ArchiveError, Archiver, Shipper};
use persistence::checkpoint::AuditSigner;
use persistence::peers::PeersError;
use persistence::{
    AuditPlace, AuditShard, Disk, Log, LogThread, OpenError, Options, RealDisk, Recovered, Replicator, SkipMark,
    Solo, note_poison,
};

use super::audit::{Audit, Followers};
use super::clock::LeaderClock;
use super::cluster;
use super::core::{Core, CoreParts, Shared, Sleeper, stop_process};
use super::door::{Door, Gates};
use super::erasure::Eraser;
use super::machine::Machine;
use super::projector::Projector;
use super::replay::{FRAMES_BYTES, Poison, Replayed, replay};
use super::scrub::Scrubbing;
use super::sequencer::{Submission, system_command};
use super::snapshots::Snapshotter;
use super::stamp::Stamps;
use super::view::{ViewShard, Views};
use super::{Archive, Inner, Node, NodeOptions, RING, VIEW_QUEUE};
use crate::feed::Hub;

/// Why a node can't start. The text says what to do.
#[derive(Debug, thiserror::Error)]
pub enum BootError {
    /// Data folder, keys or log.
    #[error(transparent)]
    Open(#[from] OpenError),
    /// A snapshot that passed its checksums can't be understood.
    #[error(
        "snapshot {number} can't be loaded: {why}. Start the program that wrote it, or move the file away: the older one and the log give the same state"
    )]
    Snapshot {
        /// The snapshot's number.
        number: u64,
        /// What is wrong.
        why: String,
    },
    /// The files of the audit can't be used.
    #[error("the audit can't be opened: {0}")]
    Audit(std::io::Error),
    /// The folder can't be shipped to an archive.
    #[error(transparent)]
    Archive(ArchiveError),
    /// Passing the command by does not help: the panic does not come from it.
    #[error(
        "applying entry {index} of shard {shard} panics whether command {position} is passed by or not: the state before it is wrong. Start the program that wrote it, or restore"
    )]
    Panics {
        /// The shard.
        shard: u16,
        /// The entry.
        index: u64,
        /// The command in it.
        position: u32,
    },
    /// The links to the other nodes can't be made.
    #[error(transparent)]
    Peers(#[from] PeersError),
    /// An empty data folder was to begin a cluster that was begun before.
    #[error(
        "{path} says that this node began the cluster with another data directory, whose promises this one does not know: give --cluster-state existing, and it catches up from the others. If the cluster itself is to begin anew, remove that file on every node"
    )]
    BegunBefore {
        /// The file.
        path: PathBuf,
    },
    /// The folder is a cluster's, and the node was started alone.
    #[error(
        "the data directory belongs to a cluster, whose entries a node alone can't tell from those that were never committed: give --peers and --peer-listen, as the other nodes have them"
    )]
    OfACluster,
    /// The system refused a thread.
    #[error("a thread can't be started: {0}")]
    Thread(#[source] std::io::Error),
}

/// See [`Node::start`].
pub fn start(options: &NodeOptions, hub: &Hub) -> Result<Node, BootError> {
    let layout = Options {
        segment_bytes: options.segment_bytes,
        shards: options.shards + 1,
        seal: options.seal,
        node: options.node,
        master: options.master.clone(),
        cluster: options.cluster.as_ref().map(|cluster| cluster.cluster(&options.keys)).transpose()?,
        replicated: options.cluster.is_some(),
        ..Options::new(&options.data, &options.keys)
    };
    let Recovery { mut log, recovered, shards, audits, poisoned, bytes } =
        recover(Arc::new(RealDisk), layout, hub, FRAMES_BYTES)?;
    if options.cluster.is_none() && recovered.history.0 == recovered.cluster {
        return Err(BootError::OfACluster);
    }
    let machines = copies(&shards);
    let last = machines.iter().map(Machine::now).max().unwrap_or(LogTime(0));
    let clock = Arc::new(LeaderClock::new(last));
    let shared = Arc::new(Shared {
        gates: Gates::new(Stamps::new(Arc::clone(&clock))),
        clock,
        applied: machines.iter().map(|machine| AtomicU64::new(machine.index())).collect(),
        log_bytes: Arc::new(AtomicU64::new(bytes)),
        core: Sleeper::default(),
        view: Sleeper::default(),
    });
    let views = Views::new(shards);
    let signer = AuditSigner::open(recovered.sealer.keys()).map_err(OpenError::from)?;
    let epoch = recovered.history.to_string();
    let audit = Audit::new(audits, signer, epoch.clone(), Arc::clone(&shared.clock), hub.clone());
    let audit = audit.map_err(BootError::Audit)?;
    let (projector, projecting, to_projector) = match &options.database {
        None => (None, None, None),
        Some(place) => {
            let shared = Arc::clone(&shared);
            let applied = move || shared.applied.iter().map(|index| index.load(Ordering::Acquire)).collect();
            let (thread, held, queue) = Projector::new(place.clone(), recovered.reader(), epoch.clone(), applied);
            (Some(thread), Some(held), Some(queue))
        }
    };
    let (followers, followed) = Followers::new(Arc::clone(&audit), VIEW_QUEUE);
    let followers = followers.projecting(to_projector);
    let (ring, submissions) = bounded(RING);
    let (to_view, committed) = bounded(VIEW_QUEUE);
    let shipper = options.archive.as_ref().map(|store| {
        let snapshots = recovered.snapshots.clone();
        Shipper::new(Arc::new(RealDisk), &options.data, snapshots, Arc::clone(store))
    });
    let shipper = shipper.transpose().map_err(BootError::Archive)?;
    // Before the first segment can go.
    let reach = shipper.is_some().then(|| log.keep_for_archive());
    let scrub = options.scrub.map(|scrub| (scrub, recovered.reader(), log.reach()));
    let log = {
        let shared = Arc::clone(&shared);
        LogThread::spawn_waking(log, move || shared.core.wake()).map_err(BootError::Thread)?
    };
    let snapshotter = Snapshotter {
        views: Arc::clone(&views),
        audit: followers.clone(),
        snapshots: recovered.snapshots.clone(),
        truncator: log.truncator().expect("the log thread has just started"),
        shared: Arc::clone(&shared),
        every_bytes: options.snapshot_bytes,
        verifier: options.verifier.clone().map(|program| (program, options.keys.clone())),
        keys: Arc::clone(recovered.sealer.keys()),
        eraser: Eraser {
            views: Arc::clone(&views),
            ring: ring.clone(),
            shared: Arc::clone(&shared),
            keys: Arc::clone(recovered.sealer.keys()),
        },
        tally: Arc::default(),
        wanted: Arc::default(),
    };
    let archiver = shipper.zip(reach).map(|(shipper, reach)| Archiver {
        shipper,
        reach,
        truncator: log.truncator().expect("the log thread has just started"),
        status: Arc::default(),
        clock: super::clock::wall_ms,
    });
    let (tally, wanted) = (Arc::clone(&snapshotter.tally), Arc::clone(&snapshotter.wanted));
    let joined = options.cluster.as_ref().map(|cluster| {
        let places = (options.data.as_path(), options.keys.as_path());
        cluster::join(cluster, places, &recovered, &shared)
    });
    let (replicator, links): (Box<dyn Replicator + Send>, _) = match joined.transpose()? {
        Some((raft, links)) => (Box::new(raft), Some(links)),
        None => (Box::new(Solo::new(recovered.last.iter().map(|last| last.index), recovered.term)), None),
    };
    let board = links.as_ref().map(|links| Arc::clone(&links.board));
    for (mark, _) in poisoned.iter().filter(|_| board.is_some()) {
        let path = options.data.clone();
        note_poison(&RealDisk, &path, *mark).map_err(|error| OpenError::Disk { path, error })?;
    }
    let noted = |mark: &SkipMark| (*mark, "its apply panicked when it was committed".to_owned());
    let poison = poisoned.iter().cloned().chain(recovered.noted.iter().map(noted)).collect();
    let core = Core::new(CoreParts {
        machines,
        ring: submissions,
        replicator,
        poison: if board.is_some() { poison } else { Vec::new() },
        links,
        log,
        sealer: recovered.sealer.clone(),
        view: to_view,
        shared: Arc::clone(&shared),
    });

    // Among several nodes a term begins with them, whoever leads it.
    if board.is_none() {
        for submission in first_commands(recovered.last.len(), &poisoned, shared.clock.now(), super::salt) {
            ring.send(submission).expect("the ring is empty and has a reader");
        }
    }
    let (tell, told) = bounded(1);
    let settle = Submission::Settle(Box::new(move || {
        let _gone = tell.send(());
    }));
    ring.send(settle).expect("the ring has room and a reader");

    let (stop_snapshots, stopped) = bounded(0);
    let threads = vec![
        spawn("snapshots", move || snapshotter.run(&stopped))?,
        spawn("core", move || core.run())?,
        spawn("view", {
            let (views, shared) = (Arc::clone(&views), Arc::clone(&shared));
            move || views.run(&committed, &shared.view, &followers)
        })?,
        spawn("audit", {
            let audit = Arc::clone(&audit);
            move || audit.run(&followed)
        })?,
    ];
    // Served only once everybody knows that nobody served.
    told.recv().expect("the core settles what it took");
    while !shared.applied.iter().zip(views.indexes()).all(|(core, view)| view >= core.load(Ordering::Acquire)) {
        std::thread::sleep(Duration::from_millis(1));
    }
    let archive = archiver.map(|archiver| {
        let (stop, stopped) = bounded(0);
        let status = Arc::clone(&archiver.status);
        let thread = spawn("archive", move || archiver.run(&stopped))?;
        Ok::<_, BootError>(Archive { status, stop: Mutex::new(Some(stop)), thread: Mutex::new(Some(thread)) })
    });
    let mut threads = threads;
    if let Some(projector) = projector {
        threads.push(spawn_apart("projector", move || projector.run())?);
    }
    let scrub = scrub.map(|(options, reader, reach)| Scrubbing::start(options, reader, reach, wanted));
    let (scrub, thread) = scrub.transpose()?.unzip();
    threads.extend(thread);
    let door = Door {
        gates: Arc::clone(&shared.gates),
        ring,
        node: options.node,
        tender_shards: views.tender_shards(),
        random: persistence::system_random,
    };
    let inner = Inner {
        projecting,
        board,
        archive: archive.transpose()?,
        scrub,
        door,
        shared,
        keys: Arc::clone(recovered.sealer.keys()),
        snapshots: tally,
        epoch,
        tender_shards: views.tender_shards(),
        views,
        audit,
        stop_snapshots: Mutex::new(Some(stop_snapshots)),
        threads: Mutex::new(threads),
    };
    Ok(Node { inner: Arc::new(inner) })
}

/// The machines of `shards` once more, for the core. What it takes is memory that is touched first, so shards are copied
/// side by side.
fn copies(shards: &[ViewShard]) -> Vec<Machine> {
    let next = AtomicUsize::new(0);
    let work = || {
        let mut done = Vec::new();
        loop {
            let number = next.fetch_add(1, Ordering::Relaxed);
            let Some(shard) = shards.get(number) else { return done };
            done.push((number, shard.machine.clone()));
        }
    };
    let threads = RealDisk.readers().min(shards.len());
    let mut machines: Vec<(usize, Machine)> = std::thread::scope(|scope| {
        let others: Vec<_> = (1..threads).map(|_| scope.spawn(work)).collect();
        let mut done = work();
        for other in others {
            done.extend(other.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic)));
        }
        done
    });
    machines.sort_unstable_by_key(|(number, _)| *number);
    machines.into_iter().map(|(_, machine)| machine).collect()
}

/// What a data folder came to.
pub struct Recovery {
    /// The log, ready to be appended to.
    pub log: Log,
    /// What it held.
    pub recovered: Recovered,
    /// All shards as the log says, by number.
    pub shards: Vec<ViewShard>,
    /// Their audits.
    pub audits: Vec<AuditShard>,
    /// What panicked in the replay and was not known to.
    pub poisoned: Vec<Poison>,
    /// Bytes of log that lie behind the snapshot.
    pub bytes: u64,
}

/// The folder of the audit, in the data folder.
pub const AUDIT: &str = "audit";

/// Opens a data folder and brings all shards to the log's end. Steps in the last `frames` bytes of the log come back into
/// the windows of the feeds.
///
/// # Errors
/// [`BootError`] says what is wrong, where, and what to do.
pub fn recover<D: Disk + 'static>(
    disk: Arc<D>,
    layout: Options,
    hub: &Hub,
    frames: u64,
) -> Result<Recovery, BootError> {
    recover_beside(disk, layout, hub, AUDIT, frames)
}

/// As [`recover`], with the audit in a folder of another name, where it may miss what came before.
///
/// # Errors
/// As [`recover`].
pub fn recover_beside<D: Disk + 'static>(
    disk: Arc<D>,
    layout: Options,
    hub: &Hub,
    audit: &str,
    frames: u64,
) -> Result<Recovery, BootError> {
    let began = Instant::now();
    let data = layout.dir.clone();
    let (log, mut recovered) = Log::open(Arc::<D>::clone(&disk), layout)?;
    for cut in &recovered.cuts {
        tracing::warn!(
            "{}, offset {}: {}; nobody was answered for it, so it was cut",
            cut.file.display(),
            cut.offset,
            cut.found
        );
    }
    let place = AuditPlace::new(Arc::<D>::clone(&disk), &data, recovered.sealer.clone(), recovered.history)
        .telling(log.tree_heads());
    let place = if audit == AUDIT { place } else { place.beside(audit) };
    let Replayed { shards, poisoned, bytes } = replay(&mut recovered, &*disk, &place, hub, frames)?;
    let (shards, audits): (Vec<ViewShard>, Vec<AuditShard>) = shards.into_iter().unzip();
    let replayed: u64 = shards.iter().map(|shard| shard.machine.index()).sum();
    tracing::info!("{replayed} log entries stand after {} ms", began.elapsed().as_millis());
    Ok(Recovery { log, recovered, shards, audits, poisoned, bytes })
}

/// What is logged before anybody is served: in each tender shard of `shards` that nobody served, and what is passed by.
pub fn first_commands(
    shards: usize,
    poisoned: &[Poison],
    now: LogTime,
    salt: impl Fn() -> [u8; 16],
) -> Vec<Submission> {
    let submission =
        |shard, action| Submission::Command { shard, command: system_command(action, now, salt()), answer: None };
    let takeovers = (1..shards as u16).map(|shard| submission(shard, Action::Takeover { planned: false }));
    let skips = poisoned.iter().map(|(mark, place)| {
        let SkipMark { shard, index, position } = *mark;
        tracing::error!("Command {position} of entry {index} of shard {shard} is passed by: {place}");
        submission(shard, Action::Skip { index, position, place: place.clone() })
    });
    takeovers.chain(skips).collect()
}

/// A thread without which the node can't go on: a panic in it stops the process.
fn spawn(name: &'static str, run: impl FnOnce() + Send + 'static) -> Result<JoinHandle<()>, BootError> {
    let guarded = move || {
        if catch_unwind(AssertUnwindSafe(run)).is_err() {
            stop_process(&format!("the thread {name} panicked"));
        }
    };
    std::thread::Builder::new().name(name.into()).spawn(guarded).map_err(BootError::Thread)
}

/// A thread whose panic is told and harms nobody.
pub(super) fn spawn_apart(
    name: &'static str,
    run: impl FnOnce() + Send + 'static,
) -> Result<JoinHandle<()>, BootError> {
    let guarded = move || {
        if catch_unwind(AssertUnwindSafe(run)).is_err() {
            tracing::error!("The thread {name} panicked: it does nothing until the next start");
        }
    };
    std::thread::Builder::new().name(name.into()).spawn(guarded).map_err(BootError::Thread)
}
