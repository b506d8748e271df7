//! One lot on one connection: the place up to which its reader has been told, and nothing else of it.
//! Says what is to be sent next; sends nothing.

use std::time::Duration;

use axum::extract::ws::Utf8Bytes;
use engine::{BidderNumber, LogTime, Lot, LotId, LotStage, OrganisationId, Reader, Sight, Tender};
use serde::Serialize;

use super::message::{push, with_you};
use super::window::{LotFeed, Missed};
use crate::body::IdText;
use crate::render::{self, Audience, StateBody, You};

/// Frames that are taken from a window at once; more are taken when these are on their way. What is taken outlives the
/// window while a reader stalls, so it is little.
const FRAMES_MAX: usize = 64;
/// Bytes of frames that are taken at once.
const BYTES_MAX: usize = 16 << 10;
/// Who reads on a connection, and how patiently it is served.
#[derive(Clone, Copy, Debug)]
pub(super) struct Service<'a> {
    /// Who; none: nobody known.
    pub viewer: Option<Viewer>,
    /// The id of the history.
    pub epoch: &'a str,
    /// How far an observer may be behind before it is given the present instead of the past.
    pub observer_behind: Duration,
}

/// An organisation that reads.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Viewer {
    pub organisation: OrganisationId,
    /// Whether the organisation may bid at all.
    pub supplies: bool,
}

/// What a viewer is to a lot at one moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Role {
    audience: Audience,
    bidder: Option<BidderNumber>,
    buyer: bool,
}

impl Role {
    /// Whether `now` is the same reader, and sees all it saw. A bidder's number may be drawn meanwhile, at the opening.
    fn grows_into(self, now: &Self) -> bool {
        self.bidder.is_some() == now.bidder.is_some()
            && self.buyer == now.buyer
            && self.audience.grows_into(&now.audience)
    }
}

/// The place of a reader in one lot.
#[derive(Debug)]
pub(super) struct Cursor {
    pub lot: LotId,
    pub feed: LotFeed,
    /// The feed's version when the cursor last was at the tip.
    version: u64,
    /// The last step that was told; none: a `snap` is due.
    seq: Option<u64>,
    role: Role,
    /// The own part that was told last; none: tell it in any case.
    you: Option<You>,
    /// Whether the cursor has been at the tip: what is behind now is the reader's slowness, not its absence.
    live: bool,
    /// The lot's end while it is open.
    closes_at: Option<LogTime>,
}

/// How far [`Cursor::advance`] came.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Progress {
    /// To the tip.
    Done,
    /// Not to the tip; call again when the frames are on their way.
    More,
    /// The reader may no longer see the lot, or there is no such lot any more.
    Hidden,
}

fn role(tender: &Tender, lot: &Lot, viewer: Option<Viewer>) -> Option<(Sight, Role)> {
    let reader = match viewer {
        Some(viewer) => engine::reader(tender, Some(viewer.organisation), viewer.supplies),
        None => engine::reader(tender, None, false),
    };
    let sight = engine::sight(tender, lot, reader)?;
    let role = Role { audience: Audience::of(&sight), bidder: sight.own(), buyer: sight.reader == Reader::Buyer };
    Some((sight, role))
}

impl Cursor {
    /// A cursor on a lot that `viewer` may see; none if it may not. With a position from which it can be told all it
    /// missed, it starts there, else with a `snap`.
    pub fn new(
        tender: &Tender,
        lot: &Lot,
        feed: &LotFeed,
        viewer: Option<Viewer>,
        position: Option<u64>,
    ) -> Option<Self> {
        let (_, role) = role(tender, lot, viewer)?;
        // What the reader saw before its admission it saw as somebody else.
        let since = role.bidder.and_then(|number| tender.bidder(number)).map(|bidder| bidder.admitted_at);
        let seq = position.filter(|after| feed.recovers(&role.audience, role.bidder, *after, since));
        Some(Self {
            lot: lot.id,
            feed: feed.clone(),
            version: 0,
            seq,
            role,
            you: None,
            live: false,
            closes_at: None,
        })
    }

    /// Whether `viewer` may see the lot at all.
    pub fn sees(tender: &Tender, lot: &Lot, viewer: Option<Viewer>) -> bool {
        role(tender, lot, viewer).is_some()
    }

    /// Whether the reader goes on from its own position.
    pub fn recovered(&self) -> bool {
        self.seq.is_some()
    }

    /// Whether the reader is a bidder of the lot.
    pub fn bids(&self) -> bool {
        self.role.bidder.is_some()
    }

    /// Whether there may be something to tell. Takes no lock.
    pub fn is_behind(&self) -> bool {
        self.version != self.feed.version()
    }

    /// The last step that was told; 0 before the first.
    pub fn seq(&self) -> u64 {
        self.seq.unwrap_or(0)
    }

    /// The lot's end while it is open.
    pub fn closes_at(&self) -> Option<LogTime> {
        self.closes_at
    }

    /// Puts what is to be told next into `out`. `tender`, `lot` and `feed` are looked at under one lock, so the own
    /// part is that of the last step in `out`.
    pub fn advance(
        &mut self,
        tender: &Tender,
        lot: &Lot,
        service: Service<'_>,
        out: &mut Vec<Utf8Bytes>,
    ) -> Progress {
        let epoch = service.epoch;
        let Some((sight, role)) = role(tender, lot, service.viewer) else { return Progress::Hidden };
        let version = self.feed.version();
        let Some(after) = self.seq else {
            self.snap(tender, lot, &sight, role, epoch, out);
            return self.at_tip(lot, version);
        };
        // A draft changes without steps, and only its buyer sees it.
        let draft = lot.seq == 0 && self.live;
        let was = self.role;
        let grew = was != role && was.grows_into(&role);
        if (was != role && !grew) || draft {
            self.resync(why::SIGHT, tender, lot, &sight, role, epoch, out);
            return self.at_tip(lot, version);
        }
        let was_seen = grew.then_some(&was.audience);
        match self.feed.since_as(&role.audience, was_seen, role.bidder, after, FRAMES_MAX, BYTES_MAX) {
            Missed::Gone => {
                self.resync(why::GAP, tender, lot, &sight, role, epoch, out);
                self.at_tip(lot, version)
            }
            Missed::Steps { age, .. }
                if self.live && !role.buyer && role.bidder.is_none() && age > service.observer_behind =>
            {
                self.resync(why::SLOW, tender, lot, &sight, role, epoch, out);
                self.at_tip(lot, version)
            }
            Missed::Steps { frames, seq, grown, .. } => {
                let first = out.len();
                out.extend(frames);
                self.seq = Some(seq);
                if grown {
                    self.role = role;
                }
                if seq < lot.seq {
                    return Progress::More;
                }
                // More is seen without a step that told it: the tender's last lot closed, and this one had before.
                if self.role.audience.without_names() != role.audience.without_names()
                    || (lot.is_adjusted() && self.role.audience.effective != role.audience.effective)
                {
                    self.resync(why::SIGHT, tender, lot, &sight, role, epoch, out);
                    return self.at_tip(lot, version);
                }
                self.role = role;
                self.tell_you(tender, lot, &sight, first, out);
                self.at_tip(lot, version)
            }
        }
    }

    fn at_tip(&mut self, lot: &Lot, version: u64) -> Progress {
        self.version = version;
        self.live = true;
        self.closes_at = if lot.stage == LotStage::Open { lot.closes_at() } else { None };
        Progress::Done
    }

    /// Adds the own part if it is another than the reader was told last: to the last frame behind `first`, or as a
    /// push of its own.
    fn tell_you(&mut self, tender: &Tender, lot: &Lot, sight: &Sight, first: usize, out: &mut Vec<Utf8Bytes>) {
        let Some(bidder) = sight.own().and_then(|number| tender.bidder(number)) else { return };
        let you = render::you(lot, bidder, sight);
        if self.you == Some(you) {
            return;
        }
        self.you = Some(you);
        if out.len() > first {
            let last = out.last_mut().expect("there is a frame behind `first`");
            *last = with_you(last, &you.body());
        } else {
            #[derive(Serialize)]
            struct Alone {
                lot: IdText,
                seq: u64,
                you: render::YouBody,
            }
            out.push(push("you", &Alone { lot: IdText(lot.id.0), seq: lot.seq, you: you.body() }));
        }
    }

    #[allow(clippy::too_many_arguments)] // What one look at the view gives, passed on.
    fn resync(
        &mut self,
        why: &'static str,
        tender: &Tender,
        lot: &Lot,
        sight: &Sight,
        role: Role,
        epoch: &str,
        out: &mut Vec<Utf8Bytes>,
    ) {
        #[derive(Serialize)]
        struct Resync {
            lot: IdText,
            why: &'static str,
        }
        out.push(push("resync", &Resync { lot: IdText(lot.id.0), why }));
        self.snap(tender, lot, sight, role, epoch, out);
    }

    fn snap(
        &mut self,
        tender: &Tender,
        lot: &Lot,
        sight: &Sight,
        role: Role,
        epoch: &str,
        out: &mut Vec<Utf8Bytes>,
    ) {
        #[derive(Serialize)]
        struct Shared<'a> {
            lot: IdText,
            epoch: &'a str,
            seq: u64,
            state: StateBody,
        }
        let shared = self.feed.snap(&role.audience, || {
            let state = render::state(tender, lot, &role.audience);
            push("snap", &Shared { lot: IdText(lot.id.0), epoch, seq: lot.seq, state })
        });
        let first = out.len();
        out.push(shared);
        (self.seq, self.role, self.you) = (Some(lot.seq), role, None);
        self.tell_you(tender, lot, sight, first, out);
    }
}

/// Why a `snap` replaces steps.
mod why {
    /// The steps are no longer in the window, or this reader could not have seen all of them.
    pub const GAP: &str = "gap";
    /// What the reader may see has changed.
    pub const SIGHT: &str = "sight";
    /// The reader is too slow.
    pub const SLOW: &str = "slow";
}
