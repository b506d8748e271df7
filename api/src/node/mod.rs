//! The node: the threads that order, log, apply and show, and the handle that the edge talks to.
//!
//! The edge (REST, feed) stamps a command and submits it; the answer comes when the command is durable and applied.
//! Reads go to the view, a second replica that follows the core. Nothing here knows HTTP.

mod audit;
mod boot;
mod clock;
mod cluster;
mod core;
mod door;
mod erasure;
mod forward;
mod machine;
mod once;
pub mod projector;
mod replay;
mod scrub;
mod sequencer;
mod snapshots;
mod stamp;
mod view;

use std::path::PathBuf;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;

use crossbeam::channel::Sender;
use engine::{Command, LogTime, Reply, TenderId};
use persistence::archive::{Lag, Status, Store};
use persistence::checkpoint::{Checkpoint, kid_of};
use persistence::{Keys, MasterKey, ScrubStatus, Seal};

pub use self::audit::{Audit, Copied, Followed, Followers, SIGN_EVERY, Sealed};
pub use self::boot::{AUDIT, BootError, Recovery, first_commands, recover, recover_beside};
pub use self::clock::{LeaderClock, MachineClocks, wall_ms};
pub use self::cluster::{Board, ClusterOptions};
pub use self::door::{Door, Gates};
pub use self::machine::{Machine, SYSTEM_SHARD};
pub use self::replay::Poison;
pub use self::scrub::ScrubOptions;
pub use self::sequencer::{AnswerFn, Committed, Elsewhere, Received, Sequencer, Submission, Surroundings};
pub use self::snapshots::{
    Copies, Tally, UNREADABLE, VerifyError, copy as copy_for_snapshot, verify, write as write_snapshot,
};
pub use self::stamp::{Stamp, Stamps};
pub use self::view::{Behind, View, ViewShard, Views, tender_shard};

use self::core::Shared;
use self::scrub::Scrubbing;
use crate::feed::Hub;

/// Commands that may wait in the ring; one more is answered `busy`.
const RING: usize = 8_192;
/// Applied entries that may wait for the view; then the core waits for it.
const VIEW_QUEUE: usize = 4_096;

/// Where and how a node keeps its state.
#[derive(Clone, Debug)]
pub struct NodeOptions {
    /// The data folder.
    pub data: PathBuf,
    /// The folder of the keys.
    pub keys: PathBuf,
    /// How many shards hold tenders; counts at the first start only.
    pub shards: u16,
    /// Bytes of a log segment.
    pub segment_bytes: u32,
    /// A snapshot is taken after so many bytes of log, or a quarter of what the last one has, if that is more.
    pub snapshot_bytes: u64,
    /// This node's number, part of every command it takes.
    pub node: u16,
    /// Where the log is archived, if it is.
    pub archive: Option<Arc<dyn Store>>,
    /// How log and snapshots are read again while the node runs, if they are.
    pub scrub: Option<ScrubOptions>,
    /// The cluster that the node is of, if it is of one.
    pub cluster: Option<ClusterOptions>,
    /// Where the log is projected into SQL, if it is.
    pub database: Option<persistence::sql::Place>,
    /// What is sealed of what is written.
    pub seal: Seal,
    /// The master key, when the keys folder is not to hold it.
    pub master: Option<MasterKey>,
    /// The program that loads each new snapshot as a process of its own (`PROGRAM snapshot verify FILE --keys DIR`)
    /// before it counts; none: this process does.
    pub verifier: Option<PathBuf>,
}

impl NodeOptions {
    /// A node with its data in `data` and its keys in `keys`, and what the configuration has by default.
    pub fn new(data: impl Into<PathBuf>, keys: impl Into<PathBuf>) -> Self {
        Self {
            data: data.into(),
            keys: keys.into(),
            shards: 8,
            segment_bytes: persistence::SEGMENT_BYTES,
            snapshot_bytes: 64 << 20,
            node: 1,
            seal: Seal::Secrets,
            archive: None,
            scrub: None,
            database: None,
            master: None,
            verifier: None,
            cluster: None,
        }
    }
}

/// Why a command was not decided.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SubmitError {
    /// Too many commands wait already. Certainly not taken.
    #[error("too many commands are waiting")]
    Busy,
    /// The node stops. Certainly not taken.
    #[error("the node is stopping")]
    Draining,
    /// The disk is full. Certainly not taken.
    #[error("the disk is full")]
    ReadOnly,
    /// What the sender's organisation keeps secret can't be sealed now. Certainly not taken.
    #[error("the organisation's key can't be made or read now")]
    Unsealable,
    /// Another node leads the shard. Certainly not taken.
    #[error("another node leads the shard")]
    NotLeader,
    /// Nobody leads the shard now. Certainly not taken.
    #[error("no majority of the nodes can be reached")]
    NoQuorum,
    /// It may have been taken: send it again under the same key, or ask.
    #[error("the outcome is unknown")]
    OutcomeUnknown,
}

struct Inner {
    door: Door,
    shared: Arc<Shared>,
    views: Arc<Views>,
    audit: Arc<Audit>,
    keys: Arc<Keys>,
    snapshots: Arc<Tally>,
    epoch: String,
    tender_shards: u16,
    /// Closing it ends the snapshot thread.
    stop_snapshots: Mutex<Option<Sender<()>>>,
    threads: Mutex<Vec<JoinHandle<()>>>,
    archive: Option<Archive>,
    scrub: Option<Scrubbing>,
    projecting: Option<projector::Projecting>,
    board: Option<Arc<Board>>,
}

/// The thread that archives.
struct Archive {
    status: Arc<Status>,
    /// Closing it lets the thread ship once more and end.
    stop: Mutex<Option<Sender<()>>>,
    thread: Mutex<Option<JoinHandle<()>>>,
}

/// The handle on a running node. Cheap to clone.
#[derive(Clone)]
pub struct Node {
    inner: Arc<Inner>,
}

impl Node {
    /// Recovers the state in `options.data` and serves it. Blocks until everything of the log is applied and the
    /// interruption is logged.
    ///
    /// `hub` gets the windows of all lots and is told which sign-ins end.
    ///
    /// # Errors
    /// [`BootError`] says what is wrong with folder, keys, snapshot or log, and what to do.
    pub fn start(options: &NodeOptions, hub: &Hub) -> Result<Self, BootError> {
        boot::start(options, hub)
    }

    /// Stamps a command whose last byte has just been read. Deadlines wait for it: submit or drop it soon, and wait
    /// for nothing slow in between.
    pub fn stamp(&self) -> Stamp {
        self.inner.door.stamp()
    }

    /// Submits a command and waits until it is durable and applied.
    ///
    /// # Errors
    /// [`SubmitError`]; all but `OutcomeUnknown` mean that it was certainly not taken.
    pub async fn submit(&self, stamp: Stamp, command: Command) -> Result<Reply, SubmitError> {
        let (answer, answered) = tokio::sync::oneshot::channel();
        self.submit_with(stamp, command, move |result| {
            // Whoever asked may have gone; the decision stands all the same.
            let _gone = answer.send(result);
        });
        answered.await.unwrap_or(Err(SubmitError::OutcomeUnknown))
    }

    /// Submits a command; `answer` gets the result, mostly on the core thread: it must only hand it on.
    pub fn submit_with(
        &self,
        stamp: Stamp,
        command: Command,
        answer: impl FnOnce(Result<Reply, SubmitError>) + Send + 'static,
    ) {
        self.inner.door.submit(stamp, command, answer);
        self.inner.shared.core.wake();
    }

    /// The view, once it holds everything that this node has answered.
    ///
    /// # Errors
    /// [`Behind`] when it takes longer than a second.
    pub async fn read(&self) -> Result<View, Behind> {
        let answered: Vec<u64> =
            self.inner.shared.applied.iter().map(|index| index.load(Ordering::Acquire)).collect();
        self.inner.views.wait(&answered).await?;
        Ok(self.view())
    }

    /// The view, once it holds everything that was submitted before this call.
    ///
    /// # Errors
    /// [`Behind`] when it takes longer than a second, or the node stops.
    pub async fn settle(&self) -> Result<View, Behind> {
        let (tell, told) = tokio::sync::oneshot::channel();
        let settle = Submission::Settle(Box::new(move || {
            let _gone = tell.send(());
        }));
        self.inner.door.ring.try_send(settle).map_err(|_| Behind)?;
        self.inner.shared.core.wake();
        tokio::time::timeout(view::BEHIND_AFTER, told).await.map_err(|_| Behind)?.map_err(|_| Behind)?;
        self.read().await
    }

    /// The view as it is.
    pub fn view(&self) -> View {
        View::new(Arc::clone(&self.inner.views))
    }

    /// The audit, once it holds everything of `tender`'s shard that this node has answered.
    ///
    /// # Errors
    /// [`Behind`] when it takes longer than a second.
    pub async fn audit(&self, tender: TenderId) -> Result<&Arc<Audit>, Behind> {
        let shard = view::tender_shard(tender, self.inner.tender_shards);
        let index = self.inner.shared.applied[usize::from(shard)].load(Ordering::Acquire);
        self.inner.audit.wait(shard, index).await?;
        Ok(&self.inner.audit)
    }

    /// The shard that holds `tender`.
    pub fn shard_of_tender(&self, tender: TenderId) -> u16 {
        view::tender_shard(tender, self.inner.tender_shards)
    }

    /// The key that roots are signed with: its id and its public part.
    pub fn audit_key(&self) -> (String, [u8; 32]) {
        let signer = self.inner.audit.signer();
        (signer.kid(), *signer.public())
    }

    /// All keys that roots were signed with, oldest first: ids and public parts.
    pub fn audit_keys(&self) -> Vec<(String, [u8; 32])> {
        let publics = self.inner.audit.signer().publics();
        publics.into_iter().map(|public| (kid_of(&public), public)).collect()
    }

    /// The id of the key that signed a root of this node.
    pub fn kid_of_signer(&self, checkpoint: &Checkpoint) -> String {
        self.inner.audit.signer().kid_of_signer(checkpoint, &self.inner.epoch)
    }

    /// The last entry of each shard that the audit holds, and the size and root of the shard's tree there.
    pub fn audit_roots(&self) -> Vec<(u64, u64, [u8; 32])> {
        self.inner.audit.roots()
    }

    /// The leader's time.
    pub fn now(&self) -> LogTime {
        self.inner.shared.clock.now()
    }

    /// The id of the history that the log holds; changes only when history does.
    pub fn epoch(&self) -> &str {
        &self.inner.epoch
    }

    /// How the cluster is doing; none for a node alone.
    pub fn board(&self) -> Option<&Board> {
        self.inner.board.as_deref()
    }

    /// The last entry of each shard that the core has applied.
    pub fn applied(&self) -> Vec<u64> {
        self.inner.shared.applied.iter().map(|index| index.load(Ordering::Acquire)).collect()
    }

    /// This node's number.
    pub fn node_id(&self) -> u16 {
        self.inner.door.node
    }

    /// The keys of this node.
    pub fn keys(&self) -> &Keys {
        &self.inner.keys
    }

    /// How the snapshots of this process went so far.
    pub fn snapshots(&self) -> &Tally {
        &self.inner.snapshots
    }

    /// Whether commands are refused because the node stops.
    pub fn draining(&self) -> bool {
        self.inner.door.gates.draining.load(Ordering::Relaxed)
    }

    /// Whether commands are refused because the disk is full.
    pub fn read_only(&self) -> bool {
        self.inner.door.gates.read_only.load(Ordering::Relaxed)
    }

    /// The last entry of each shard that the view holds, and the SHA-256 over each shard's state there.
    pub fn state_hashes(&self) -> Vec<(u64, [u8; 32])> {
        (0..=self.inner.tender_shards)
            .map(|number| {
                let shard = self.inner.views.shard(number);
                (shard.machine.index(), shard.machine.state_hash())
            })
            .collect()
    }

    /// Refuses further commands; what was taken is still answered.
    pub fn drain(&self) {
        self.inner.door.gates.draining.store(true, Ordering::Relaxed);
    }

    /// Ends the node: answers what was taken, brings the view up to date, and ends the threads. Blocks.
    pub fn stop(&self) {
        self.drain();
        // The snapshot thread holds on to the log thread, which the core waits for.
        self.inner.stop_snapshots.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(scrub) = &self.inner.scrub {
            scrub.stop();
        }
        if let Some(projecting) = &self.inner.projecting {
            projecting.stop.lock().unwrap_or_else(PoisonError::into_inner).take();
        }
        // A full ring empties; the core is still there to do so.
        let _ended = self.inner.door.ring.send(Submission::Stop);
        self.inner.shared.core.wake();
        let threads = std::mem::take(&mut *self.inner.threads.lock().unwrap_or_else(PoisonError::into_inner));
        for thread in threads {
            if thread.join().is_err() {
                tracing::error!("A thread of the node panicked while it stopped");
            }
        }
        let Some(archive) = &self.inner.archive else { return };
        // Behind the core: then the log is complete, and the last round ships all of it.
        archive.stop.lock().unwrap_or_else(PoisonError::into_inner).take();
        let thread = archive.thread.lock().unwrap_or_else(PoisonError::into_inner).take();
        if thread.is_some_and(|thread| thread.join().is_err()) {
            tracing::error!("The archive's thread panicked while it stopped");
        }
    }

    /// How far the archive is behind what was answered, with the objects and bytes that were stored and how often the
    /// store refused; none when nothing is archived.
    pub fn archive_lag(&self) -> Option<(Lag, (u64, u64, u64))> {
        let archive = self.inner.archive.as_ref()?;
        let entries = self.inner.shared.applied.iter().map(|index| index.load(Ordering::Acquire)).sum();
        Some((archive.status.lag(entries), archive.status.counts()))
    }

    /// What the scrub has found; none when there is none.
    pub fn scrub(&self) -> Option<&ScrubStatus> {
        self.inner.scrub.as_ref().map(|scrub| &*scrub.status)
    }

    /// How many answered entries the projection does not hold yet, for how long some have been missing, and how often
    /// its database refused; none when nothing is projected.
    pub fn projection_lag(&self) -> Option<(u64, std::time::Duration, u64)> {
        let projected = &self.inner.projecting.as_ref()?.projected;
        let applied: Vec<u64> =
            self.inner.shared.applied.iter().map(|index| index.load(Ordering::Acquire)).collect();
        let (entries, since) = projected.lag(&applied);
        Some((entries, since, projected.failures()))
    }
}

pub(crate) fn salt() -> [u8; 16] {
    let mut salt = [0; 16];
    persistence::system_random(&mut salt);
    salt
}
