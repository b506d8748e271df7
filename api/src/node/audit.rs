//! The audit thread: follows the view, hashes what was committed, signs the roots, and lets others read proofs.
//!
//! Never delays an answer: it comes last, and wakes by itself. What it signs it publishes to the feed.

use std::io;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock};
use std::time::{Duration, Instant};

use crossbeam::channel::{Receiver, SendError, Sender, TryRecvError, bounded};
use engine::{Entry, TenderId};
use persistence::checkpoint::{AuditSigner, Checkpoint};
use persistence::{AuditError, AuditPart, AuditReader, AuditShard, ChainPlace, ChainsPart};

use super::clock::LeaderClock;
use super::core::Sleeper;
use super::once::Once;
use super::projector::Following;
use super::view::{Behind, tender_shard};
use crate::feed::Hub;

/// How often roots are signed.
pub const SIGN_EVERY: Duration = Duration::from_secs(10);
/// How long the thread sleeps when it has nothing to do: nobody wakes it for a single entry.
const NAP: Duration = Duration::from_millis(20);
/// How often it looks whether there is a newer key to sign with.
const LOOK_EVERY: Duration = Duration::from_secs(1);
/// How often all sockets are woken at most because roots were signed.
const WAKE_EVERY: Duration = Duration::from_secs(1);
/// How long a reader waits for what its node has answered already.
const BEHIND_AFTER: Duration = Duration::from_secs(1);

/// What the audit thread is told, in this order for each shard.
pub enum Followed {
    /// The view has applied an entry.
    Entry {
        /// Its shard.
        shard: u16,
        /// The entry.
        entry: Arc<Entry>,
        /// A lot has closed with it.
        closed: bool,
    },
    /// A snapshot wants the audit as of here.
    Copy {
        /// The shard.
        shard: u16,
        /// Where the copy goes.
        reply: Sender<io::Result<Copied>>,
    },
}

/// The audit of a shard as a snapshot keeps it.
pub struct Copied {
    /// The heads of its chains.
    pub chains: Vec<ChainsPart>,
    /// The rest.
    pub audit: Vec<AuditPart>,
    /// Reads, and makes durable, the files that these count on.
    pub files: AuditReader,
}

/// Hands entries to the audit thread.
#[derive(Clone)]
pub struct Followers {
    queue: Sender<Followed>,
    audit: Arc<Audit>,
    projector: Option<Sender<Following>>,
}

impl Followers {
    /// The queue of `audit`, and its other end.
    pub fn new(audit: Arc<Audit>, room: usize) -> (Self, Receiver<Followed>) {
        let (queue, followed) = bounded(room);
        (Self { queue, audit, projector: None }, followed)
    }

    /// Hands entries to a projector too, as far as it has room.
    #[must_use]
    pub fn projecting(self, projector: Option<Sender<Following>>) -> Self {
        Self { projector, ..self }
    }

    /// Queues an entry; waits when the audit is far behind.
    pub fn entry(&self, shard: u16, entry: Arc<Entry>, closed: bool) {
        if let Some(projector) = &self.projector {
            // What does not fit is read from the log.
            let _full = projector.try_send((shard, Arc::clone(&entry)));
        }
        // Nobody is there any more only when the process stops.
        let _gone: Result<(), SendError<_>> = self.queue.send(Followed::Entry { shard, entry, closed });
        if closed || self.queue.len() * 2 > self.queue.capacity().unwrap_or(usize::MAX) {
            self.audit.sleeper.wake();
        }
    }

    /// Asks for a copy as of the last entry queued for `shard`.
    pub fn copy(&self, shard: u16) -> Receiver<io::Result<Copied>> {
        let (reply, copied) = bounded(1);
        let _gone: Result<(), SendError<_>> = self.queue.send(Followed::Copy { shard, reply });
        self.audit.sleeper.wake();
        copied
    }
}

struct Shard {
    audit: AuditShard,
    /// How many leaves the newest kept root covers.
    kept: u64,
}

/// What an export or a receipt is made from, all of one moment.
pub struct Sealed {
    /// The tender's chain.
    pub chain: ChainPlace,
    /// The shard's interruptions, and what was passed by.
    pub system: ChainPlace,
    /// The newest signed root.
    pub checkpoint: Option<Checkpoint>,
    /// The stamp of the shard's last command.
    pub now: engine::LogTime,
    /// Reads everything up to here.
    pub reader: AuditReader,
}

/// The audits of all shards.
pub struct Audit {
    shards: Box<[Mutex<Shard>]>,
    indexes: Box<[AtomicU64]>,
    signer: RwLock<Arc<AuditSigner>>,
    epoch: String,
    clock: Arc<LeaderClock>,
    hub: Hub,
    sleeper: Sleeper,
}

impl Audit {
    /// Audits of `shards`, by number.
    ///
    /// # Errors
    /// A file can't be read.
    pub fn new(
        shards: Vec<AuditShard>,
        signer: AuditSigner,
        epoch: String,
        clock: Arc<LeaderClock>,
        hub: Hub,
    ) -> io::Result<Arc<Self>> {
        let indexes = shards.iter().map(|audit| AtomicU64::new(audit.index())).collect();
        let shards = shards.into_iter().enumerate().map(|(shard, mut audit)| {
            if let Some(head) = audit.disputed() {
                metrics::counter!("rt_audit_contradictions_total").increment(1);
                tracing::error!(
                    "The log of shard {shard} states a tree of {} leaves as of entry {}, and its entries don't give it: it \
                     was changed since then; `reversetender log verify` says where. Restore",
                    head.size(),
                    head.index
                );
            }
            if let Some(root) = audit.contradicted()? {
                metrics::counter!("rt_audit_contradictions_total").increment(1);
                tracing::error!(
                    "The log of shard {} does not give the root that was signed of {} leaves: it was changed or cut \
                     since then. Compare it with a root that was kept outside, and restore",
                    root.shard,
                    root.size
                );
            }
            let newest = audit.reader()?.latest().map_err(io::Error::other)?;
            Ok(Mutex::new(Shard { audit, kept: newest.map_or(0, |root| root.size) }))
        });
        let shards = shards.collect::<io::Result<Box<[_]>>>()?;
        let signer = RwLock::new(Arc::new(signer));
        Ok(Arc::new(Self { shards, indexes, signer, epoch, clock, hub, sleeper: Sleeper::default() }))
    }

    /// The audit thread: hashes and signs until the view ends.
    pub fn run(&self, followed: &Receiver<Followed>) {
        self.sleeper.settle();
        let mut closed = vec![false; self.shards.len()];
        let (mut look_at, mut key_told) = (Instant::now() + LOOK_EVERY, Once::default());
        let (mut sign_at, mut wake_at, mut to_wake) = (Instant::now() + SIGN_EVERY, Instant::now(), false);
        loop {
            let ended = loop {
                match followed.try_recv() {
                    Ok(next) => self.follow(next, &mut closed),
                    Err(TryRecvError::Empty) => break false,
                    Err(TryRecvError::Disconnected) => break true,
                }
                if Instant::now() >= sign_at {
                    break false;
                }
            };
            let now = Instant::now();
            let due = now >= sign_at;
            for (shard, closed) in closed.iter_mut().enumerate() {
                if std::mem::take(closed) || due || ended {
                    self.sign(shard as u16);
                    to_wake = true;
                }
            }
            if now >= look_at {
                self.look_for_key(&mut key_told);
                look_at = now + LOOK_EVERY;
            }
            if due {
                sign_at = now + SIGN_EVERY;
            }
            if to_wake && (now >= wake_at || ended) {
                (to_wake, wake_at) = (false, now + WAKE_EVERY);
                self.hub.wake_all();
            }
            if ended {
                return;
            }
            if followed.is_empty() {
                std::thread::park_timeout(NAP);
            }
        }
    }

    /// Signs with the newer key from now on, when there is one.
    fn look_for_key(&self, told: &mut Once) {
        match self.signer().renewed() {
            Ok(None) => told.clear(),
            Ok(Some(newer)) => {
                tracing::info!("Roots are signed by the key {} from now on", newer.kid());
                *self.signer.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(newer);
            }
            Err(error) if told.is_due(&error.to_string()) => {
                tracing::error!("The key that roots are signed with can't be looked at: {error}");
            }
            Err(_) => {}
        }
    }

    /// Takes what comes next; `closed` gets the shards whose root is to be signed because a lot has closed.
    pub fn follow(&self, next: Followed, closed: &mut [bool]) {
        match next {
            Followed::Entry { shard, entry, closed: has_closed } => {
                let number = usize::from(shard);
                self.lock(shard).audit.feed(&entry, &[]);
                self.indexes[number].store(entry.index, Ordering::Release);
                closed[number] |= has_closed;
            }
            Followed::Copy { shard, reply } => {
                let mut shard = self.lock(shard);
                let (chains, audit) = shard.audit.snapshot();
                let copied = shard.audit.sync().map(|files| Copied { chains, audit, files });
                // A snapshot that was given up waits no longer.
                let _gone = reply.send(copied);
            }
        }
    }

    fn lock(&self, shard: u16) -> MutexGuard<'_, Shard> {
        self.shards[usize::from(shard)].lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Signs the root of `shard` as it is, keeps it when it is new, and publishes it.
    pub fn sign(&self, shard: u16) -> Checkpoint {
        let mut locked = self.lock(shard);
        let signer = self.signer();
        let Shard { audit, kept } = &mut *locked;
        let checkpoint = signer.checkpoint(&self.epoch, shard, audit.size(), audit.root(), self.clock.now());
        if audit.size() > *kept {
            *kept = audit.size();
            audit.keep(&checkpoint);
            // What others are shown is not to be forgotten when the process ends. A failure is told by who needs the files.
            let _later = audit.reader();
        }
        // Under the lock, so that the feed never sees an older one behind a newer one.
        self.hub.publish_root(&checkpoint, &self.epoch, &signer.kid());
        checkpoint
    }

    /// What can be proved of `tender` now. With `cover`, a root is signed first unless one covers everything.
    ///
    /// # Errors
    /// A file can't be read or written.
    pub fn seal(&self, tender: TenderId, cover: bool) -> Result<Option<Sealed>, AuditError> {
        let number = tender_shard(tender, self.shards.len() as u16 - 1);
        if cover {
            let is_new = {
                let locked = self.lock(number);
                locked.audit.size() > locked.kept
            };
            if is_new {
                self.sign(number);
            }
        }
        let mut locked = self.lock(number);
        let Some(chain) = locked.audit.chain(tender) else { return Ok(None) };
        let (system, now) = (locked.audit.system(), locked.audit.now());
        let reader = locked.audit.reader().map_err(|error| AuditError::Disk { path: "audit".into(), error })?;
        drop(locked);
        let checkpoint = reader.latest()?;
        Ok(Some(Sealed { chain, system, checkpoint, now, reader }))
    }

    /// Waits until the audit holds at least entry `index` of `shard`.
    ///
    /// # Errors
    /// [`Behind`] when it takes longer than a second.
    pub async fn wait(&self, shard: u16, index: u64) -> Result<(), Behind> {
        let late = Instant::now() + BEHIND_AFTER;
        while self.indexes[usize::from(shard)].load(Ordering::Acquire) < index {
            if Instant::now() >= late {
                return Err(Behind);
            }
            self.sleeper.wake();
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
        Ok(())
    }

    /// What signs.
    pub fn signer(&self) -> Arc<AuditSigner> {
        Arc::clone(&self.signer.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// The size and root of each shard's tree, and its last entry.
    pub fn roots(&self) -> Vec<(u64, u64, [u8; 32])> {
        let shards = (0..self.shards.len()).map(|number| self.lock(number as u16));
        shards.map(|shard| (shard.audit.index(), shard.audit.size(), shard.audit.root())).collect()
    }
}
