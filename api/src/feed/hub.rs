//! What the view thread and the sockets share: the windows of all lots and their common budget, who is to be woken,
//! and which connections belong to which sign-in. Never reads a lot and never writes to a socket.

use std::collections::{BTreeMap, VecDeque};
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, Weak};

use axum::extract::ws::Utf8Bytes;
use dashmap::DashMap;
use engine::{AccountAction, Accounts, Action, Entry, SessionId, UserId};
use persistence::checkpoint::Checkpoint;
use tokio::sync::Notify;

use super::lane::Lane;
use super::message::push;
use super::window::{LotFeed, Shared};

/// Bytes that the windows of all lots hold together.
pub const WINDOWS_BYTES_MAX: usize = 256 << 20;

/// The shared side of the feed. Cloning is cheap; all clones are one.
#[derive(Clone, Debug)]
pub struct Hub(pub(super) Arc<HubState>);

#[derive(Debug)]
pub(super) struct HubState {
    /// Lots with readers to wake, each at most once.
    dirty: Mutex<Vec<Weak<Shared>>>,
    dirty_wake: Notify,
    /// Windows in order of creation: the oldest gives way first.
    windows: Mutex<VecDeque<Weak<Shared>>>,
    windows_bytes: AtomicUsize,
    windows_bytes_max: usize,
    serialisations: AtomicU64,
    lanes: DashMap<u64, Arc<Lane>>,
    lanes_made: AtomicU64,
    lane_gone: Notify,
    sessions: DashMap<SessionId, Vec<Arc<Lane>>>,
    users: DashMap<UserId, Vec<Arc<Lane>>>,
    /// The newest signed root of each shard, as a push, with its number among all that were signed.
    roots: Mutex<BTreeMap<u16, (u64, Utf8Bytes)>>,
    roots_signed: AtomicU64,
}

impl Default for Hub {
    fn default() -> Self {
        Self::with_budget(WINDOWS_BYTES_MAX)
    }
}

impl Hub {
    /// A hub without lots or connections.
    pub fn new() -> Self {
        Self::default()
    }

    /// As [`Hub::new`], with room for `bytes` in all windows together.
    pub fn with_budget(bytes: usize) -> Self {
        Self(Arc::new(HubState {
            dirty: Mutex::default(),
            dirty_wake: Notify::new(),
            windows: Mutex::default(),
            windows_bytes: AtomicUsize::new(0),
            windows_bytes_max: bytes,
            serialisations: AtomicU64::new(0),
            lanes: DashMap::new(),
            lanes_made: AtomicU64::new(0),
            lane_gone: Notify::new(),
            sessions: DashMap::new(),
            users: DashMap::new(),
            roots: Mutex::default(),
            roots_signed: AtomicU64::new(0),
        }))
    }

    /// The feed of a lot, with an empty window that begins behind step `seq`: 0 for a new lot, the step at which the
    /// lot stands when it came out of a snapshot. Called once a lot.
    pub fn lot_feed(&self, seq: u64) -> LotFeed {
        let feed = LotFeed::new(self.clone(), seq);
        let mut windows = self.0.windows.lock().expect("nothing panics holding the windows");
        windows.push_back(Arc::downgrade(&feed.0));
        feed
    }

    /// Tells that something which no step shows may have changed for readers of the lot: its bidders, or what a
    /// bidder may do.
    pub fn touched(&self, feed: &LotFeed) {
        feed.touch();
    }

    /// Ends the connections of the sign-ins that `entry` of the system shard has ended; `accounts` is as of the entry.
    pub fn sessions_ended(&self, accounts: &Accounts, entry: &Entry) {
        for command in &entry.commands {
            let Action::Account(action) = &command.action else { continue };
            match action {
                AccountAction::CloseSession | AccountAction::Refresh { .. } => {
                    let session = command.envelope.session;
                    if accounts.session(session).is_none() {
                        self.end_all(self.0.sessions.get(&session).map(|lanes| lanes.clone()));
                    }
                }
                AccountAction::RemoveMember { user } => {
                    let lanes = self.0.users.get(user).map(|lanes| lanes.clone());
                    let gone = |lane: &Arc<Lane>| lane.session().is_none_or(|id| accounts.session(id).is_none());
                    self.end_all(lanes.map(|lanes| lanes.into_iter().filter(gone).collect()));
                }
                // Whose sessions ended is known by no command: those of the persons who are gone.
                AccountAction::Erase { .. } => {
                    for user in &self.0.users {
                        if accounts.user(*user.key()).is_none() {
                            self.end_all(Some(user.value().clone()));
                        }
                    }
                }
                _ => {}
            }
        }
    }

    fn end_all(&self, lanes: Option<Vec<Arc<Lane>>>) {
        for lane in lanes.into_iter().flatten() {
            lane.end();
        }
    }

    /// Takes a signed root, to be pushed to who follows a lot of its shard. Wakes nobody.
    pub fn publish_root(&self, checkpoint: &Checkpoint, epoch: &str, kid: &str) {
        let body = crate::render::checkpoint(checkpoint, epoch, kid);
        let mut roots = self.0.roots.lock().expect("nothing panics holding the roots");
        let number = self.0.roots_signed.load(Ordering::Relaxed) + 1;
        roots.insert(checkpoint.shard, (number, push("checkpoint", &body)));
        self.0.roots_signed.store(number, Ordering::Release);
    }

    /// How many roots were signed.
    pub(super) fn roots_signed(&self) -> u64 {
        self.0.roots_signed.load(Ordering::Acquire)
    }

    /// The newest root of `shard`, if it was signed behind number `seen`.
    pub(super) fn root_since(&self, shard: u16, seen: u64) -> Option<Utf8Bytes> {
        let roots = self.0.roots.lock().expect("nothing panics holding the roots");
        roots.get(&shard).filter(|(number, _)| *number > seen).map(|(_, text)| text.clone())
    }

    /// How many steps were serialised, once for each audience. For tests and metrics.
    pub fn serialisations(&self) -> u64 {
        self.0.serialisations.load(Ordering::Relaxed)
    }

    /// Bytes in all windows together.
    pub fn windows_bytes(&self) -> usize {
        self.0.windows_bytes.load(Ordering::Relaxed)
    }

    /// How many connections there are.
    pub fn connections(&self) -> usize {
        self.0.lanes.len()
    }

    pub(super) fn count_serialisation(&self) {
        self.0.serialisations.fetch_add(1, Ordering::Relaxed);
    }

    /// Counts bytes that a window took, and makes the oldest windows give way when it is too much. The caller holds
    /// no window.
    pub(super) fn window_grew(&self, bytes: usize) {
        let mut total = self.0.windows_bytes.fetch_add(bytes, Ordering::Relaxed) + bytes;
        if total <= self.0.windows_bytes_max {
            return;
        }
        let mut windows = self.0.windows.lock().expect("nothing panics holding the windows");
        let mut rounds = windows.len();
        while total > self.0.windows_bytes_max && rounds > 0 {
            rounds -= 1;
            let Some(oldest) = windows.pop_front() else { break };
            let Some(oldest) = oldest.upgrade() else { continue };
            oldest.forget_steps();
            // It stays in line, at the end: it may grow again.
            windows.push_back(Arc::downgrade(&oldest));
            total = self.0.windows_bytes.load(Ordering::Relaxed);
        }
    }

    pub(super) fn window_shrank(&self, bytes: usize) {
        self.0.windows_bytes.fetch_sub(bytes, Ordering::Relaxed);
    }

    /// Lets the waker tell the readers of `feed`. Called by the view thread once a step: cheap, never waits.
    pub(super) fn mark_dirty(&self, feed: &LotFeed) {
        self.0.dirty.lock().expect("nothing panics holding the dirty lots").push(Arc::downgrade(&feed.0));
        self.0.dirty_wake.notify_one();
    }

    /// Wakes the readers of lots that changed, for ever. One task of this runs beside the sockets, so that the view
    /// thread pays the same for one reader and for ten thousand.
    pub(super) async fn wake_readers(self) {
        loop {
            let dirty = std::mem::take(&mut *self.0.dirty.lock().expect("nothing panics holding the dirty lots"));
            if dirty.is_empty() {
                self.0.dirty_wake.notified().await;
            }
            for feed in dirty.iter().filter_map(Weak::upgrade) {
                LotFeed(feed).wake_readers();
            }
        }
    }

    pub(super) fn connect(&self) -> Arc<Lane> {
        let number = self.0.lanes_made.fetch_add(1, Ordering::Relaxed) + 1;
        let lane = Arc::new(Lane::new(number));
        self.0.lanes.insert(number, Arc::clone(&lane));
        lane
    }

    /// Registers whose the connection is. False: this user has `sockets_max` already.
    pub(super) fn sign_in(&self, lane: &Arc<Lane>, user: UserId, session: SessionId, sockets_max: usize) -> bool {
        let mut of_user = self.0.users.entry(user).or_default();
        if of_user.len() >= sockets_max {
            return false;
        }
        of_user.push(Arc::clone(lane));
        drop(of_user);
        lane.identify(user, session);
        self.0.sessions.entry(session).or_default().push(Arc::clone(lane));
        true
    }

    /// The person went on with another of its own sign-ins.
    pub(super) fn change_session(&self, lane: &Arc<Lane>, session: SessionId) {
        let (Some(user), Some(before)) = (lane.user(), lane.session()) else { return };
        if before == session {
            return;
        }
        self.leave_session(lane, before);
        lane.identify(user, session);
        self.0.sessions.entry(session).or_default().push(Arc::clone(lane));
    }

    fn leave_session(&self, lane: &Arc<Lane>, session: SessionId) {
        self.0.sessions.remove_if_mut(&session, |_, lanes| {
            lanes.retain(|other| other.number != lane.number);
            lanes.is_empty()
        });
    }

    pub(super) fn disconnect(&self, lane: &Arc<Lane>) {
        if let Some(session) = lane.session() {
            self.leave_session(lane, session);
        }
        if let Some(user) = lane.user() {
            self.0.users.remove_if_mut(&user, |_, lanes| {
                lanes.retain(|other| other.number != lane.number);
                lanes.is_empty()
            });
        }
        self.0.lanes.remove(&lane.number);
        self.0.lane_gone.notify_waiters();
    }

    /// Wakes every connection: something changed that concerns all.
    pub fn wake_all(&self) {
        for lane in &self.0.lanes {
            lane.wake();
        }
    }

    /// Waits until no connection is left.
    pub(super) async fn all_gone(&self) {
        loop {
            let gone = self.0.lane_gone.notified();
            tokio::pin!(gone);
            gone.as_mut().enable();
            if self.0.lanes.is_empty() {
                return;
            }
            gone.await;
        }
    }
}
