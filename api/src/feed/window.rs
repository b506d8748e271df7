//! The window of one lot: its last steps, each serialised once for every audience, and who waits for the next.
//! An audience is what the visibility function says; a connection keeps a place in the window and no frame.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError, RwLock};
use std::time::{Duration, Instant};

use axum::extract::ws::Utf8Bytes;
use engine::{BidderNumber, LeadVisibility, LogTime, Lot, Step, Tender};
use tokio::sync::Notify;

use super::hub::Hub;
use super::lane::Lane;
use crate::render::{self, Audience, Audiences};

/// Steps in the window of a lot.
pub const STEPS_MAX: usize = 4_096;
/// Bytes in the window of a lot.
pub const BYTES_MAX: usize = 1 << 20;
/// What a step costs beside its texts.
const STEP_BYTES: usize = 128;
/// What one text costs beside its bytes.
const TEXT_BYTES: usize = 64;

/// The feed of one lot. Cloning is cheap; all clones are one.
#[derive(Clone, Debug)]
pub struct LotFeed(pub(super) Arc<Shared>);

#[derive(Debug)]
pub(super) struct Shared {
    hub: Hub,
    /// Grows whenever a reader might see something new.
    version: AtomicU64,
    ring: RwLock<Ring>,
    /// The public part of the last `snap`, by audience, as of the version beside it.
    snaps: Mutex<Vec<(u64, Audience, Utf8Bytes)>>,
    readers: Mutex<Readers>,
    queued: AtomicBool,
    changed: Notify,
}

#[derive(Debug, Default)]
struct Ring {
    /// The last step; the window holds the steps behind `seq - steps.len()`.
    seq: u64,
    /// When the last step happened, if it was pushed.
    at: Option<LogTime>,
    steps: VecDeque<Framed>,
    bytes: usize,
    /// The audiences at the last step; none before the first.
    audiences: Option<Audiences>,
}

/// One step as frames.
#[derive(Debug)]
struct Framed {
    at: LogTime,
    pushed: Instant,
    /// The `upd` frame of each audience.
    texts: Box<[(Audience, Utf8Bytes)]>,
    /// The `upd` frame of each bidder that the step is about, where it is another than that of its audience.
    own: Box<[(BidderNumber, Utf8Bytes)]>,
    /// Bidders whose audience this step changed.
    moved: Box<[Moved]>,
    /// The audiences of the buyer and of who is no bidder that see more from this step on: their frames tell it all.
    grown: Box<[Audience]>,
}

/// A bidder that sees more, or less, of other bidders from a step on.
#[derive(Debug, PartialEq, Eq)]
struct Moved {
    bidder: BidderNumber,
    /// It is known that the bidder sees nothing less.
    grew: bool,
}

impl Framed {
    fn bytes(&self) -> usize {
        let texts = self.texts.iter().map(|(_, text)| text).chain(self.own.iter().map(|(_, text)| text));
        STEP_BYTES + texts.map(|text| TEXT_BYTES + text.len()).sum::<usize>()
    }
}

/// Who waits for steps. Each turn begins with another reader, so that nobody is always first.
#[derive(Debug, Default)]
struct Readers {
    bidders: Vec<Arc<Lane>>,
    others: Vec<Arc<Lane>>,
    turn: usize,
}

/// What a window has behind a place.
#[derive(Clone, Debug)]
pub enum Missed {
    /// Steps, oldest first, perhaps not all up to the last.
    Steps {
        /// The `upd` frames.
        frames: Vec<Utf8Bytes>,
        /// The step of the last frame, or the place itself.
        seq: u64,
        /// How long ago the oldest of them was pushed.
        age: Duration,
        /// Whether one of the frames is of the step from which the reader sees more, and tells all of that.
        grown: bool,
    },
    /// The place has left the window, lies behind the last step, or the reader's audience changed since: only a
    /// `snap` helps.
    Gone,
}

impl LotFeed {
    pub(super) fn new(hub: Hub, seq: u64) -> Self {
        Self(Arc::new(Shared {
            hub,
            version: AtomicU64::new(1),
            ring: RwLock::new(Ring { seq, ..Ring::default() }),
            snaps: Mutex::default(),
            readers: Mutex::default(),
            queued: AtomicBool::new(false),
            changed: Notify::new(),
        }))
    }

    /// Takes the next step of the lot. The view thread calls it exactly when `lot` is as of the step.
    ///
    /// # Panics
    /// When a step is left out: readers would never notice.
    pub fn push(&self, tender: &Tender, lot: &Lot, step: &Step) {
        let audiences = render::audiences(tender, lot);
        // Only this thread pushes, so nothing changes between here and the push.
        let (moved, grown_others) = self.ring().changes(&audiences, lot, step);
        let mut texts: Vec<(Audience, Utf8Bytes)> = Vec::with_capacity(4);
        for audience in audiences.all() {
            if texts.iter().any(|(known, _)| *known == audience) {
                continue;
            }
            let text = render::update(lot, step, &audience, None, grown_others.contains(&audience));
            self.0.hub.count_serialisation();
            texts.push((audience, text.into()));
        }
        // Whom the step is about sees more of it than others with the same sight: an audience of one.
        let mut own: Vec<(BidderNumber, Utf8Bytes)> = Vec::new();
        for bidder in render::actors(step) {
            // Who sees more from its first bid on is told all of it, and nobody else is: that it was the first is not
            // for others.
            let widened = moved.iter().any(|moved| moved.bidder == bidder);
            let audience = audiences.bidders.get(bidder.index()).copied().flatten();
            let Some(audience) = audience.filter(|audience| widened || !audience.numbers) else { continue };
            if own.iter().all(|(number, _)| *number != bidder) {
                let text = render::update(lot, step, &audience, Some(bidder), widened);
                self.0.hub.count_serialisation();
                own.push((bidder, text.into()));
            }
        }
        let mut grown;
        {
            let mut ring = self.0.ring.write().unwrap_or_else(PoisonError::into_inner);
            assert_eq!(step.seq, ring.seq + 1, "the steps of a lot have no holes");
            ring.audiences = Some(audiences);
            let (texts, own) = (texts.into(), own.into());
            let framed = Framed { at: step.at, pushed: Instant::now(), texts, own, moved, grown: grown_others };
            grown = framed.bytes() as isize;
            ring.seq = step.seq;
            ring.at = Some(step.at);
            ring.bytes += framed.bytes();
            ring.steps.push_back(framed);
            while ring.steps.len() > STEPS_MAX || (ring.bytes > BYTES_MAX && ring.steps.len() > 1) {
                grown -= ring.drop_oldest() as isize;
            }
        }
        if grown >= 0 {
            self.0.hub.window_grew(grown.unsigned_abs());
        } else {
            self.0.hub.window_shrank(grown.unsigned_abs());
        }
        self.touch();
    }

    /// Takes the next step without its frames, as if the window began behind it. For a replay, before there are readers.
    ///
    /// # Panics
    /// As [`LotFeed::push`].
    pub fn pass(&self, step: &Step) {
        let mut ring = self.0.ring.write().unwrap_or_else(PoisonError::into_inner);
        assert_eq!(step.seq, ring.seq + 1, "the steps of a lot have no holes");
        assert!(ring.steps.is_empty(), "steps are passed before others are kept");
        ring.seq = step.seq;
    }

    /// Lets readers look again although there is no step.
    pub(super) fn touch(&self) {
        self.0.version.fetch_add(1, Ordering::AcqRel);
        if !self.0.queued.swap(true, Ordering::AcqRel) {
            self.0.hub.mark_dirty(self);
        }
    }

    /// Grows whenever a reader might see something new; compare before taking a lock.
    pub fn version(&self) -> u64 {
        self.0.version.load(Ordering::Acquire)
    }

    /// The last step.
    pub fn seq(&self) -> u64 {
        self.ring().seq
    }

    /// How many steps are in the window.
    pub fn steps(&self) -> usize {
        self.ring().steps.len()
    }

    /// The steps behind `after` as `audience` sees them: at most `frames_max` frames of about `bytes_max` together, at
    /// least one if there is one. `bidder` is the reader's number, if it has one.
    pub fn since(
        &self,
        audience: &Audience,
        bidder: Option<BidderNumber>,
        after: u64,
        frames_max: usize,
        bytes_max: usize,
    ) -> Missed {
        self.since_as(audience, None, bidder, after, frames_max, bytes_max)
    }

    /// As [`Self::since`], for a reader that was `was` when it was told the step `after`: what happened before it saw
    /// more is told as it was seen then.
    pub(super) fn since_as(
        &self,
        audience: &Audience,
        was: Option<&Audience>,
        bidder: Option<BidderNumber>,
        after: u64,
        frames_max: usize,
        bytes_max: usize,
    ) -> Missed {
        let ring = self.ring();
        let Some(first) = ring.place(after) else { return Missed::Gone };
        let Some(change) = ring.change(first, audience, was, bidder) else { return Missed::Gone };
        let mut frames = Vec::new();
        let (mut bytes, mut age, mut grown) = (0, Duration::ZERO, false);
        for (index, framed) in ring.steps.range(first..).enumerate() {
            if frames.len() == frames_max || (bytes > 0 && bytes >= bytes_max) {
                break;
            }
            let seen_as = was.filter(|_| change.is_some_and(|change| index < change)).unwrap_or(audience);
            match framed.text(seen_as, bidder) {
                Some(text) => {
                    if frames.is_empty() {
                        age = framed.pushed.elapsed();
                    }
                    bytes += text.len();
                    frames.push(text.clone());
                    grown |=
                        if bidder.is_some() { change == Some(index) } else { framed.grown.contains(audience) };
                }
                None => return Missed::Gone,
            }
        }
        let seq = after + frames.len() as u64;
        Missed::Steps { frames, seq, age, grown }
    }

    /// Whether a reader that saw everything up to `after` can go on with the steps behind it. `since` is when the
    /// reader became what it is; what it saw before, it saw with other eyes.
    pub fn recovers(
        &self,
        audience: &Audience,
        bidder: Option<BidderNumber>,
        after: u64,
        since: Option<LogTime>,
    ) -> bool {
        let ring = self.ring();
        let Some(first) = ring.place(after) else { return false };
        // The time of the place itself: the step before the first missed one, where the window has it.
        let at = match first.checked_sub(1) {
            Some(before) => Some(ring.steps[before].at),
            None if ring.steps.is_empty() => ring.at,
            None => None,
        };
        if let (Some(at), Some(since)) = (at, since)
            && since > at
        {
            return false;
        }
        ring.change(first, audience, None, bidder).is_some()
            && ring.steps.range(first..).all(|framed| framed.text(audience, bidder).is_some())
    }

    /// The text that `render` makes for `audience`, made once for all readers as long as the lot doesn't change.
    /// The caller holds the view's lock, so the version can't change meanwhile.
    pub(super) fn snap(&self, audience: &Audience, render: impl FnOnce() -> Utf8Bytes) -> Utf8Bytes {
        let version = self.version();
        let mut snaps = self.0.snaps.lock().unwrap_or_else(PoisonError::into_inner);
        snaps.retain(|(of, _, _)| *of == version);
        if let Some((_, _, text)) = snaps.iter().find(|(_, known, _)| known == audience) {
            return text.clone();
        }
        let text = render();
        snaps.push((version, *audience, text.clone()));
        text
    }

    /// Waits until there is a step behind `after`. For long polls.
    pub async fn beyond(&self, after: u64) {
        loop {
            let changed = self.0.changed.notified();
            tokio::pin!(changed);
            changed.as_mut().enable();
            if self.seq() > after {
                return;
            }
            changed.await;
        }
    }

    /// Adds a reader; a second call moves it.
    pub(super) fn subscribe(&self, lane: &Arc<Lane>, bids: bool) {
        let mut readers = self.readers();
        readers.remove(lane);
        let list = if bids { &mut readers.bidders } else { &mut readers.others };
        list.push(Arc::clone(lane));
    }

    pub(super) fn unsubscribe(&self, lane: &Arc<Lane>) {
        self.readers().remove(lane);
    }

    /// Wakes the readers: bidders first, each time beginning with another one.
    pub(super) fn wake_readers(&self) {
        // Before anybody looks: what comes from now on is marked anew.
        self.0.queued.store(false, Ordering::Release);
        self.0.changed.notify_waiters();
        for lane in self.readers().next_turn() {
            lane.wake();
        }
    }

    fn ring(&self) -> std::sync::RwLockReadGuard<'_, Ring> {
        self.0.ring.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn readers(&self) -> std::sync::MutexGuard<'_, Readers> {
        self.0.readers.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Shared {
    /// Gives way: drops all steps. Readers that still need one get a `snap`.
    pub(super) fn forget_steps(&self) {
        let mut ring = self.ring.write().unwrap_or_else(PoisonError::into_inner);
        let mut freed = 0;
        while !ring.steps.is_empty() {
            freed += ring.drop_oldest();
        }
        drop(ring);
        self.hub.window_shrank(freed);
    }
}

impl Drop for Shared {
    fn drop(&mut self) {
        let bytes = self.ring.get_mut().unwrap_or_else(PoisonError::into_inner).bytes;
        self.hub.window_shrank(bytes);
    }
}

impl Ring {
    /// The index of the first step behind `after`; none if that step has left the window or never was.
    fn place(&self, after: u64) -> Option<usize> {
        let missed = usize::try_from(self.seq.checked_sub(after)?).ok()?;
        self.steps.len().checked_sub(missed)
    }

    fn drop_oldest(&mut self) -> usize {
        let bytes = self.steps.pop_front().map_or(0, |framed| framed.bytes());
        self.bytes -= bytes;
        bytes
    }

    /// Which bidders see more or less of others from `step` on, and which other audiences see more.
    /// Numbers come with an opening and effective prices with a close; what is in the frames before is enough then.
    fn changes(&self, now: &Audiences, lot: &Lot, step: &Step) -> (Box<[Moved]>, Box<[Audience]>) {
        let before = self.audiences.as_ref();
        let gates = lot.rules().lead == LeadVisibility::AfterOwnBid;
        let mut grown = Vec::new();
        if let Some(before) = before {
            let others = before.others.iter().zip(&now.others);
            let pairs = others.filter_map(|(before, now)| Some(((*before)?, (*now)?)));
            for (before, now) in std::iter::once((before.buyer, now.buyer)).chain(pairs) {
                let shows_factors = lot.is_adjusted() && !before.effective && now.effective;
                if shows_factors || before.without_names() != now.without_names() {
                    grown.push(now);
                }
            }
        }
        let mut moved = Vec::new();
        for (index, now) in now.bidders.iter().enumerate() {
            let bidder = BidderNumber::from_index(index);
            match before.and_then(|before| before.bidders.get(index)) {
                Some(Some(before)) if now.is_some_and(|now| before.without_names() == now.without_names()) => {}
                Some(None) if now.is_none() => {}
                Some(before) => {
                    let grew = before.zip(*now).is_some_and(|(before, now)| before.grows_into(&now));
                    moved.push(Moved { bidder, grew });
                }
                // Of a bidder that is new to this window only the step's own events can tell.
                None if gates && render::actors(step).any(|actor| actor == bidder) => {
                    moved.push(Moved { bidder, grew: false });
                }
                None => {}
            }
        }
        (moved.into(), grown.into())
    }

    /// Behind the place `first`, the step from which the reader is `audience`, counted from there; none inside if it
    /// always was. None at all if it can't be told what it missed.
    #[allow(clippy::option_option)] // Whether it can be told, and where it changed.
    fn change(
        &self,
        first: usize,
        audience: &Audience,
        was: Option<&Audience>,
        bidder: Option<BidderNumber>,
    ) -> Option<Option<usize>> {
        let mut change = None;
        for (index, framed) in self.steps.range(first..).enumerate() {
            let Some(moved) = framed.moved.iter().find(|moved| Some(moved.bidder) == bidder) else { continue };
            let can_tell = match was {
                Some(was) => was.grows_into(audience),
                None => index == 0 && moved.grew,
            };
            if !can_tell || change.replace(index).is_some() {
                return None;
            }
        }
        Some(change)
    }
}

impl Framed {
    fn text(&self, audience: &Audience, bidder: Option<BidderNumber>) -> Option<&Utf8Bytes> {
        if let Some((_, text)) = self.own.iter().find(|(number, _)| Some(*number) == bidder) {
            return Some(text);
        }
        let exact = self.texts.iter().find(|(known, _)| known == audience);
        // Numbers and effective prices may have been learnt since; then the frame of that time is the reader's own.
        let then = |(known, _): &&(Audience, Utf8Bytes)| {
            known.without_names() == audience.without_names() && known.grows_into(audience)
        };
        exact.or_else(|| self.texts.iter().find(then)).map(|(_, text)| text)
    }
}

impl Readers {
    /// All readers in the order of the next turn: bidders before others, each beginning with another one than before.
    fn next_turn(&mut self) -> impl Iterator<Item = &Arc<Lane>> {
        self.turn = self.turn.wrapping_add(1);
        [&self.bidders, &self.others].into_iter().flat_map(|list| {
            let first = if list.is_empty() { 0 } else { self.turn % list.len() };
            list[first..].iter().chain(&list[..first])
        })
    }

    fn remove(&mut self, lane: &Arc<Lane>) {
        for list in [&mut self.bidders, &mut self.others] {
            list.retain(|other| other.number != lane.number);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bidders_come_before_others_and_nobody_is_always_first() {
        let lane = |number| Arc::new(Lane::new(number));
        let mut readers =
            Readers { bidders: vec![lane(1), lane(2), lane(3)], others: vec![lane(4), lane(5)], turn: 0 };
        let turns: Vec<Vec<u64>> = (0..6).map(|_| readers.next_turn().map(|lane| lane.number).collect()).collect();
        for turn in &turns {
            let mut bidders = turn[..3].to_vec();
            bidders.sort_unstable();
            assert_eq!(bidders, [1, 2, 3], "{turn:?}");
        }
        let firsts: Vec<u64> = turns.iter().map(|turn| turn[0]).collect();
        assert_eq!(firsts, [2, 3, 1, 2, 3, 1]);
        let firsts: Vec<u64> = turns.iter().map(|turn| turn[3]).collect();
        assert_eq!(firsts, [5, 4, 5, 4, 5, 4]);
        readers.remove(&lane(2));
        assert_eq!(readers.next_turn().count(), 4);
    }
}
