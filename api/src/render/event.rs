//! Steps as the feed's `upd` frames and as the events of REST: what happened and which public fields changed.

use engine::{BidderNumber, Event, ExtendReason, LogTime, Lot, Step};
use serde::Serialize;
use utoipa::ToSchema;

use super::state::{BoardRow, LeadBody, PhaseBody, board, lead, phase, shown_effective};
use super::{Audience, price};
use crate::body::{DecimalText, IdText, TimeText};

/// One step of a lot as an audience sees it.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub struct UpdateBody {
    /// The lot.
    pub lot: IdText,
    /// The step.
    pub seq: u64,
    /// When it happened.
    pub at: TimeText,
    /// What happened, in order.
    pub ev: Vec<EventBody>,
    /// The public fields that changed, with their new values.
    pub set: SetBody,
}

/// Public fields that changed in a step.
#[derive(Clone, Debug, Default, Serialize, ToSchema)]
pub struct SetBody {
    /// The stage.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub stage: Option<&'static str>,
    /// When it opens or opened.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub opens_at: Option<Option<TimeText>>,
    /// When it ends.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub closes_at: Option<Option<TimeText>>,
    /// How often overtime moved the end.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub extensions: Option<u32>,
    /// The lead; null when nobody leads any more.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub lead: Option<Option<LeadBody>>,
    /// All standing bids in award order.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub board: Option<Vec<BoardRow>>,
    /// How many bidders have a standing bid.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub bidder_count: Option<usize>,
    /// Whether the lead meets the reserve.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reserve_met: Option<bool>,
    /// The phase that runs; null when none does any more.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub phase: Option<Option<PhaseBody>>,
}

/// What happened. A field is left out where the reader may not see it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, ToSchema)]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum EventBody {
    /// It takes bids now.
    Opened {},
    /// A bid stands.
    Bid {
        /// Whose.
        #[serde(skip_serializing_if = "Option::is_none")]
        bidder: Option<u16>,
        /// Its price.
        #[serde(skip_serializing_if = "Option::is_none")]
        price: Option<DecimalText>,
        /// The price that ranks; left out where the reader may not see how its bidder's prices are adjusted.
        #[serde(skip_serializing_if = "Option::is_none")]
        effective: Option<DecimalText>,
        /// Whether it is the lead now.
        #[serde(skip_serializing_if = "Option::is_none")]
        lead: Option<bool>,
        /// True when a limit made it.
        #[serde(skip_serializing_if = "std::ops::Not::not")]
        auto: bool,
    },
    /// A turn ended with what was given in it taken back.
    Withdrawn {
        /// Whose.
        #[serde(skip_serializing_if = "Option::is_none")]
        bidder: Option<u16>,
    },
    /// A turn begins.
    Turn {
        /// The round, from 1.
        round: u16,
        /// The turn in it, from 1.
        turn: u16,
        /// Whose it is.
        bidder: u16,
        /// When it ends.
        ends_at: TimeText,
    },
    /// A step of a rising price begins.
    Step {
        /// The step, from 0.
        step: u64,
        /// Its price.
        price: DecimalText,
        /// When it ends.
        ends_at: TimeText,
    },
    /// A level of a falling price begins.
    Level {
        /// The level, from 0.
        step: u64,
        /// Its price.
        price: DecimalText,
        /// When it ends.
        ends_at: TimeText,
    },
    /// A bidder did not accept a level.
    Out {
        /// Who.
        bidder: u16,
    },
    /// The buyer took a standing bid out.
    Voided {
        /// Whose.
        #[serde(skip_serializing_if = "Option::is_none")]
        bidder: Option<u16>,
        /// Why.
        #[serde(skip_serializing_if = "Option::is_none")]
        reason: Option<String>,
    },
    /// The end moved.
    Extended {
        /// The new end; null while paused.
        closes_at: Option<TimeText>,
        /// By how much, in seconds, rounded.
        added_s: i64,
        /// What moved it: `overtime`, `buyer`, `outage` or `staggered`.
        reason: &'static str,
    },
    /// The time was frozen.
    Paused {
        /// Why.
        #[serde(skip_serializing_if = "Option::is_none")]
        reason: Option<String>,
    },
    /// The time runs on.
    Resumed {
        /// Why.
        #[serde(skip_serializing_if = "Option::is_none")]
        reason: Option<String>,
        /// The end.
        closes_at: TimeText,
    },
    /// The buyer took a bidder out.
    Disqualified {
        /// Whom.
        #[serde(skip_serializing_if = "Option::is_none")]
        bidder: Option<u16>,
    },
    /// It takes no more bids.
    Closed {},
    /// It was awarded.
    Awarded {
        /// To whom.
        #[serde(skip_serializing_if = "Option::is_none")]
        bidder: Option<u16>,
        /// What the winner is paid.
        #[serde(skip_serializing_if = "Option::is_none")]
        price: Option<DecimalText>,
    },
    /// A bidder was passed by.
    Rejected {
        /// Whom.
        #[serde(skip_serializing_if = "Option::is_none")]
        bidder: Option<u16>,
    },
    /// It ended without a result.
    Unsuccessful {},
    /// The buyer cancelled it.
    Cancelled {
        /// Why.
        #[serde(skip_serializing_if = "Option::is_none")]
        reason: Option<String>,
    },
}

/// The events of a step of `lot` as `audience` sees them. `own`: the reader's own number, where the events are for one
/// bidder alone: what is about itself it may see.
pub fn events(lot: &Lot, step: &Step, audience: &Audience, own: Option<BidderNumber>) -> Vec<EventBody> {
    step.events.iter().map(|event| body(lot, event, audience, own)).collect()
}

fn body(lot: &Lot, event: &Event, audience: &Audience, own: Option<BidderNumber>) -> EventBody {
    let scale = lot.rules().price_scale;
    let is_own = |bidder: &BidderNumber| own == Some(*bidder);
    let number = |bidder: &BidderNumber| (audience.numbers || is_own(bidder)).then_some(bidder.0);
    let to_all = |reason: &str| audience.reasons.then(|| reason.to_owned());
    match event {
        Event::Opened => EventBody::Opened {},
        Event::Bid { bidder, price: amount, lead, auto } => {
            let shows_price = audience.board || is_own(bidder) || (*lead && audience.lead);
            EventBody::Bid {
                bidder: number(bidder).or_else(|| (*lead && audience.lead_bidder).then_some(bidder.0)),
                price: shows_price.then(|| price(*amount, scale)),
                effective: shown_effective(lot, *bidder, *amount, audience, is_own(bidder))
                    .filter(|_| shows_price),
                lead: (audience.lead || audience.board).then_some(*lead),
                auto: *auto && shows_price,
            }
        }
        Event::Withdrawn { bidder } => EventBody::Withdrawn { bidder: number(bidder) },
        Event::Turn { round, turn, bidder, ends_at } => {
            EventBody::Turn { round: *round, turn: *turn, bidder: bidder.0, ends_at: TimeText(*ends_at) }
        }
        Event::Step { step, price: amount, ends_at } => {
            EventBody::Step { step: *step, price: price(*amount, scale), ends_at: TimeText(*ends_at) }
        }
        Event::Level { step, price: amount, ends_at } => {
            EventBody::Level { step: *step, price: price(*amount, scale), ends_at: TimeText(*ends_at) }
        }
        Event::Out { bidder } => EventBody::Out { bidder: bidder.0 },
        Event::Voided { bidder, reason } => EventBody::Voided {
            bidder: number(bidder),
            reason: (audience.bid_reasons || is_own(bidder)).then(|| reason.to_string()),
        },
        Event::Extended { closes_at, added_ms, reason } => EventBody::Extended {
            closes_at: closes_at.map(TimeText),
            added_s: seconds(*added_ms),
            reason: ExtendReason::word(*reason),
        },
        Event::Paused { reason } => EventBody::Paused { reason: to_all(reason) },
        Event::Resumed { reason, closes_at } => {
            EventBody::Resumed { reason: to_all(reason), closes_at: TimeText(*closes_at) }
        }
        Event::Disqualified { bidder } => EventBody::Disqualified { bidder: bidder.as_ref().and_then(number) },
        Event::Closed => EventBody::Closed {},
        Event::Awarded { bidder, price: amount } => EventBody::Awarded {
            bidder: number(bidder),
            price: (audience.winning_price || is_own(bidder)).then(|| price(*amount, scale)),
        },
        Event::Rejected { bidder } => EventBody::Rejected { bidder: number(bidder) },
        Event::Unsuccessful => EventBody::Unsuccessful {},
        Event::Cancelled { reason } => EventBody::Cancelled { reason: to_all(reason) },
    }
}

/// Whole seconds, half up.
const fn seconds(ms: i64) -> i64 {
    (ms + 500).div_euclid(1_000)
}

/// The public fields that `step` changed, as far as `audience` may see them; `lot` is as of the step. `widened`: the step
/// lets somebody see more than before, so what it may not have seen yet is told too.
pub fn set(lot: &Lot, step: &Step, audience: &Audience, widened: bool) -> SetBody {
    let changed = &step.changed;
    let time = |changed: bool, value: Option<LogTime>| changed.then(|| value.map(TimeText));
    SetBody {
        stage: changed.stage.then(|| lot.stage.word()),
        opens_at: time(changed.opens_at, lot.opens_at()),
        closes_at: time(changed.closes_at, lot.closes_at()),
        extensions: changed.extensions.then_some(lot.extensions),
        lead: ((changed.lead || widened) && audience.lead).then(|| lead(lot, audience)),
        board: ((changed.board || widened) && audience.board).then(|| board(lot, audience)),
        bidder_count: (changed.bidder_count && audience.bidder_count).then(|| lot.bidder_count()),
        reserve_met: if changed.reserve_met { lot.reserve_met() } else { None },
        phase: changed.phase.then(|| phase(lot)),
    }
}

/// The feed's `upd` frame of a step for `audience`, without `you`; `lot` is as of the step. `own` as in [`events`], `widened` as
/// in [`set`].
pub fn update(lot: &Lot, step: &Step, audience: &Audience, own: Option<BidderNumber>, widened: bool) -> String {
    #[derive(Serialize)]
    struct Frame {
        p: &'static str,
        #[serde(flatten)]
        update: UpdateBody,
    }
    let update = UpdateBody {
        lot: IdText(step.lot.0),
        seq: step.seq,
        at: TimeText(step.at),
        ev: events(lot, step, audience, own),
        set: set(lot, step, audience, widened),
    };
    serde_json::to_string(&Frame { p: "upd", update }).expect("a frame is plain data")
}

/// The bidders that the events of `step` are about.
pub fn actors(step: &Step) -> impl Iterator<Item = BidderNumber> + '_ {
    step.events.iter().filter_map(|event| match event {
        Event::Bid { bidder, .. }
        | Event::Withdrawn { bidder }
        | Event::Turn { bidder, .. }
        | Event::Out { bidder }
        | Event::Voided { bidder, .. }
        | Event::Awarded { bidder, .. }
        | Event::Rejected { bidder } => Some(*bidder),
        Event::Disqualified { bidder } => *bidder,
        _ => None,
    })
}
