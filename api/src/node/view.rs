//! The view: a second replica of every shard, for everybody who only looks.
//!
//! The view thread applies each entry after the core did and after its answers were sent, and fills the feed windows.
//! Readers lock one shard at a time; they may delay this thread, never the core.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, PoisonError, RwLock, RwLockReadGuard};
use std::time::Duration;

use crossbeam::channel::{Receiver, TryRecvError};
use engine::{
    Accounts, Action, Answer, Engine, Entry, Event, Key, Lot, LotId, Recall, Reply, Sink, Step, Tender, TenderId,
};
use tokio::sync::watch;

use super::audit::Followers;
use super::core::Sleeper;
use super::machine::{Machine, SYSTEM_SHARD};
use super::sequencer::Committed;
use crate::feed::{Hub, LotFeed};

/// How long a read waits for what its node has answered already.
pub const BEHIND_AFTER: Duration = Duration::from_secs(1);

/// The view did not catch up in time; the client should ask again.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("this node is behind what it has answered")]
pub struct Behind;

/// One shard as readers see it.
pub struct ViewShard {
    /// The replica.
    pub machine: Machine,
    /// The term of the last entry.
    pub term: u64,
    /// How many commands of the entry that is being applied were answered.
    replied: u32,
    /// Whether a lot closed with the entry that was applied last.
    closed: bool,
    feeds: HashMap<LotId, LotFeed>,
    hub: Hub,
}

impl ViewShard {
    /// A shard that holds `machine`; the windows of its lots begin where the lots stand.
    pub fn new(machine: Machine, term: u64, hub: &Hub) -> Self {
        let mut shard = Self { machine, term, replied: 0, closed: false, feeds: HashMap::new(), hub: hub.clone() };
        if let Machine::Tenders(engine) = &shard.machine {
            for lot in engine.tenders().flat_map(Tender::lots) {
                shard.feeds.insert(lot.id, hub.lot_feed(lot.seq));
            }
        }
        shard
    }

    /// How many commands were answered of the entry that was applied last: where it panicked, if it did.
    pub fn replied(&self) -> u32 {
        self.replied
    }

    /// Applies the next entry and fills the windows of the lots it moved.
    pub fn apply(&mut self, entry: &Entry, term: u64) {
        self.apply_as(entry, term, true);
    }

    /// As [`Self::apply`], without frames: the windows begin behind what is passed. For a replay, far from its end.
    pub fn pass(&mut self, entry: &Entry, term: u64) {
        self.apply_as(entry, term, false);
    }

    fn apply_as(&mut self, entry: &Entry, term: u64, frames: bool) {
        (self.replied, self.closed) = (0, false);
        let (replied, closed) = (&mut self.replied, &mut self.closed);
        let stepped = Vec::new();
        let mut windows = Windows { feeds: &mut self.feeds, hub: &self.hub, replied, closed, stepped, frames };
        self.machine.apply(entry, &mut windows);
        self.machine.maintain();
        self.term = term;
        let engine = match &self.machine {
            Machine::Accounts(accounts) => return self.hub.sessions_ended(accounts, entry),
            Machine::Tenders(engine) => engine,
        };
        for command in &entry.commands {
            match &command.action {
                // A lot has a feed from its first day, so that its buyer can watch the draft.
                Action::CreateTender { tender, .. } | Action::UpdateTender { tender, .. } => {
                    for lot in engine.tender(*tender).into_iter().flat_map(Tender::lots) {
                        let feed = self.feeds.entry(lot.id).or_insert_with(|| self.hub.lot_feed(lot.seq));
                        // A draft changes without a step.
                        self.hub.touched(feed);
                    }
                }
                // What a bidder may do changes without a step.
                Action::Admit { tender, .. } | Action::Join { tender } | Action::Disqualify { tender, .. } => {
                    for lot in engine.tender(*tender).into_iter().flat_map(Tender::lots) {
                        if let Some(feed) = self.feeds.get(&lot.id) {
                            self.hub.touched(feed);
                        }
                    }
                }
                _ => {}
            }
        }
    }
}

struct Windows<'a> {
    feeds: &'a mut HashMap<LotId, LotFeed>,
    hub: &'a Hub,
    replied: &'a mut u32,
    closed: &'a mut bool,
    /// The lots that made a step since the last reply.
    stepped: Vec<LotId>,
    /// Whether steps are kept as frames.
    frames: bool,
}

impl Sink for Windows<'_> {
    fn reply(&mut self, _position: usize, reply: &Reply) {
        *self.replied += 1;
        if !self.frames {
            return;
        }
        // What nobody else may see makes no step; its bidder's own sockets are told all the same.
        let changed = match &reply.answer {
            Answer::Bid(bid) => Some(bid.lot),
            Answer::Limit(limit) => Some(limit.lot),
            Answer::Withdrawn(withdrawn) => Some(withdrawn.lot),
            Answer::Voided(voided) => Some(voided.lot),
            _ => None,
        };
        if let Some(lot) = changed.filter(|lot| !reply.replayed && !self.stepped.contains(lot))
            && let Some(feed) = self.feeds.get(&lot)
        {
            self.hub.touched(feed);
        }
        self.stepped.clear();
    }

    fn step(&mut self, tender: &Tender, lot: &Lot, step: &Step) {
        let feed = self.feeds.entry(lot.id).or_insert_with(|| self.hub.lot_feed(step.seq - 1));
        if !self.frames {
            return feed.pass(step);
        }
        feed.push(tender, lot, step);
        self.stepped.push(lot.id);
        let ends = |event: &Event| matches!(event, Event::Closed | Event::Unsuccessful | Event::Cancelled { .. });
        *self.closed |= step.events.iter().any(ends);
    }
}

/// All shards as readers see them.
pub struct Views {
    shards: Box<[RwLock<ViewShard>]>,
    applied: Box<[AtomicU64]>,
    progress: watch::Sender<()>,
}

impl Views {
    /// Views of `shards`, by number.
    pub fn new(shards: Vec<ViewShard>) -> Arc<Self> {
        let applied = shards.iter().map(|shard| AtomicU64::new(shard.machine.index())).collect();
        let shards = shards.into_iter().map(RwLock::new).collect();
        Arc::new(Self { shards, applied, progress: watch::Sender::new(()) })
    }

    /// The view thread: applies what the core applied, and hands it to the audit, until the core ends. `sleeper` is
    /// woken behind each entry.
    pub fn run(&self, committed: &Receiver<Committed>, sleeper: &Sleeper, audit: &Followers) {
        sleeper.settle();
        loop {
            match committed.try_recv() {
                Ok(committed) => self.apply(committed, audit),
                Err(TryRecvError::Empty) => std::thread::park(),
                Err(TryRecvError::Disconnected) => return,
            }
        }
    }

    /// Applies the next entry of a shard, hands it to the audit, and tells whoever waits for it.
    pub fn apply(&self, committed: Committed, audit: &Followers) {
        let Committed { shard, term, entry } = committed;
        let number = usize::from(shard);
        let mut view = self.shards[number].write().unwrap_or_else(PoisonError::into_inner);
        view.apply(&entry, term);
        let index = entry.index;
        // Under the lock: who reads the view now, and asks the audit for a copy, gets both as of the same entry.
        audit.entry(shard, entry, view.closed);
        drop(view);
        self.applied[number].store(index, Ordering::Release);
        self.progress.send_replace(());
    }

    /// Waits until the view holds at least entry `indexes[shard]` of every shard.
    pub async fn wait(&self, indexes: &[u64]) -> Result<(), Behind> {
        let reached =
            || self.applied.iter().zip(indexes).all(|(applied, index)| applied.load(Ordering::Acquire) >= *index);
        if reached() {
            return Ok(());
        }
        let mut progress = self.progress.subscribe();
        let caught_up = async {
            while !reached() {
                if progress.changed().await.is_err() {
                    return;
                }
            }
        };
        tokio::time::timeout(BEHIND_AFTER, caught_up).await.map_err(|_| Behind)
    }

    /// The last entry of each shard that the view holds.
    pub fn indexes(&self) -> Vec<u64> {
        self.applied.iter().map(|applied| applied.load(Ordering::Acquire)).collect()
    }

    /// One shard, locked for reading.
    pub fn shard(&self, number: u16) -> RwLockReadGuard<'_, ViewShard> {
        self.shards[usize::from(number)].read().unwrap_or_else(PoisonError::into_inner)
    }

    /// How many shards hold tenders.
    pub fn tender_shards(&self) -> u16 {
        self.shards.len() as u16 - 1
    }
}

/// A reader's handle: looks at one shard at a time, under its lock. Do nothing slow inside the closures.
#[derive(Clone)]
pub struct View {
    views: Arc<Views>,
}

impl View {
    /// A handle on `views`.
    pub fn new(views: Arc<Views>) -> Self {
        Self { views }
    }

    /// Looks at a tender.
    pub fn tender<R>(&self, id: TenderId, look: impl FnOnce(&Tender) -> R) -> Option<R> {
        self.engine(id, |engine| engine.tender(id).map(look))
    }

    /// Looks at a lot, its tender and its feed, all of the same step.
    pub fn lot<R>(&self, id: LotId, look: impl FnOnce(&Tender, &Lot, &LotFeed) -> R) -> Option<R> {
        let shard = self.views.shard(tender_shard(id.tender(), self.views.tender_shards()));
        let Machine::Tenders(engine) = &shard.machine else { return None };
        let (tender, lot) = engine.lot(id)?;
        Some(look(tender, lot, shard.feeds.get(&id)?))
    }

    /// Looks at the accounts.
    pub fn accounts<R>(&self, look: impl FnOnce(&Accounts) -> R) -> R {
        let shard = self.views.shard(SYSTEM_SHARD);
        let Machine::Accounts(accounts) = &shard.machine else {
            unreachable!("the system shard holds the accounts")
        };
        look(accounts)
    }

    /// Looks at the engines of all shards, one after the other.
    pub fn engines<R>(&self, mut look: impl FnMut(&Engine) -> R) -> Vec<R> {
        (1..=self.views.tender_shards())
            .filter_map(|number| match &self.views.shard(number).machine {
                Machine::Tenders(engine) => Some(look(engine)),
                Machine::Accounts(_) => None,
            })
            .collect()
    }

    /// What was decided under a key about something that belongs to `tender`.
    pub fn recall(&self, tender: TenderId, key: Key) -> Option<Recall> {
        self.engine(tender, |engine| engine.recall(key))
    }

    /// What was decided under a scoped key about something that belongs to `tender`, whatever the body was.
    pub fn recorded(&self, tender: TenderId, scoped: u128) -> Option<Reply> {
        self.engine(tender, |engine| engine.recorded(scoped))
    }

    /// Looks at the engine of the shard that holds `tender`.
    pub fn engine<R>(&self, tender: TenderId, look: impl FnOnce(&Engine) -> Option<R>) -> Option<R> {
        let shard = self.views.shard(tender_shard(tender, self.views.tender_shards()));
        match &shard.machine {
            Machine::Tenders(engine) => look(engine),
            Machine::Accounts(_) => None,
        }
    }
}

/// The shard that owns `tender` among `tender_shards` of them; shard 0 holds the accounts.
pub fn tender_shard(tender: TenderId, tender_shards: u16) -> u16 {
    1 + tender.shard(tender_shards)
}
