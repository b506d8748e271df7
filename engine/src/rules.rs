//! The rules of one lot, compiled from what the buyer sent: every amount in units of the lot's scale.
//!
//! Compiling checks every rule alone and together; what is wrong is told with a pointer and what would have been
//! right. Nothing here knows a bid.

use crate::{AwardMode, Format, Improvement, LeadVisibility, OvertimeMode, OvertimeTrigger, Price, TieRank};

/// The rules of a lot, valid alone and together.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rules {
    /// The format.
    pub format: Format,
    /// Digits behind the point of every price here.
    pub price_scale: u8,
    /// Milliseconds from the opening to the first end.
    pub duration_ms: i64,
    /// The highest price taken.
    pub ceiling: Option<Price>,
    /// The lowest price taken.
    pub floor: Option<Price>,
    /// The highest price awarded.
    pub reserve: Option<Reserve>,
    /// What a bid must beat.
    pub improvement: Improvement,
    /// The distance to another bidder's lead, with `own_and_buffer`.
    pub buffer: Option<Buffer>,
    /// The least improvement.
    pub decrement: Decrement,
    /// Prices are whole multiples of it; 1 when the buyer set none.
    pub tick: i64,
    /// The largest drop of one bid.
    pub max_step: Option<i64>,
    /// The drop below `max_next` that needs `confirm`.
    pub guard: Option<Percent>,
    /// The rank that tied bidders are shown.
    pub tie_rank: TieRank,
    /// Down to which rank ties are forbidden; 0 allows them.
    pub tie_free_ranks: u16,
    /// The most accepted bids of a bidder.
    pub max_bids: Option<u32>,
    /// The fewest admitted bidders with which the lot opens.
    pub min_bidders: u32,
    /// Overtime.
    pub overtime: Option<Overtime>,
    /// Which bidders see the lead price.
    pub lead: LeadVisibility,
    /// Whether a bidder sees its own rank.
    pub rank: bool,
    /// Whether all standing prices are shown under bidder numbers.
    pub board: bool,
    /// Whether the number of bidders is shown.
    pub bidder_count: bool,
    /// How the lot is awarded.
    pub award: AwardMode,
    /// Milliseconds a lot stays open after an interruption.
    pub outage_grace_ms: i64,
    /// How many steps `seen_seq` may be behind.
    pub max_view_age: Option<u64>,
}

/// The highest price that is awarded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Reserve {
    /// The price.
    pub price: Price,
    /// Whether bidders and observers see it.
    pub shown: bool,
}

/// The distance a bid keeps from another bidder's lead, in units.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Buffer {
    /// At least this much below it …
    pub front: i64,
    /// … or at least this much above it.
    pub back: i64,
}

/// An exact percentage: `numerator` / `denominator` is the fraction of one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Percent {
    /// Above the line.
    pub numerator: i64,
    /// Below the line; positive.
    pub denominator: i64,
}

/// The least improvement.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Decrement {
    /// A fixed amount, at least one unit.
    Amount(i64),
    /// Of the base, rounded up, at least one unit.
    Percent(Percent),
    /// By price range: rows of lowest base and step, by rising base, the first from 0.
    Table(Box<[(i64, i64)]>),
}

/// When and how the end of a lot moves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Overtime {
    /// Milliseconds before the end in which a bid may extend.
    pub window_ms: i64,
    /// Milliseconds that an extension gives.
    pub length_ms: i64,
    /// How the end moves.
    pub mode: OvertimeMode,
    /// Which bids extend.
    pub trigger: OvertimeTrigger,
    /// The worst rank that extends, for trigger `rank`.
    pub rank: u16,
    /// Whether a bidder's first bid extends whatever the trigger says.
    pub first_bid_triggers: bool,
    /// The most extensions.
    pub max_count: Option<u32>,
    /// The most milliseconds added altogether.
    pub max_total_ms: Option<i64>,
}
