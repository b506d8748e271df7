//! Steps and events: what the readers of a lot may come to see.
//!
//! A step is one change of a lot that the widest view its rules allow may see at that moment; it has one `seq`,
//! the same for every reader. What a reader sees of it is decided by the visibility function alone.

use smallvec::SmallVec;

use crate::{BidderNumber, LogTime, LotId, Price, Text};

/// One step of a lot.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Step {
    /// The lot.
    pub lot: LotId,
    /// From 1 with the publication, without holes.
    pub seq: u64,
    /// When it happened: a command's stamp, or the deadline that caused it.
    pub at: LogTime,
    /// What happened, in order; may be empty when only fields changed.
    pub events: SmallVec<[Event; 2]>,
    /// Which public fields changed.
    pub changed: Changed,
}

/// Which public fields of a lot changed in a step.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[allow(clippy::struct_excessive_bools)] // One flag a field, named as the field.
pub struct Changed {
    /// `stage`.
    pub stage: bool,
    /// `opens_at`.
    pub opens_at: bool,
    /// `closes_at`.
    pub closes_at: bool,
    /// `extensions`.
    pub extensions: bool,
    /// `lead`: its price or its bidder.
    pub lead: bool,
    /// `board`: any standing bid.
    pub board: bool,
    /// `bidder_count`.
    pub bidder_count: bool,
    /// `reserve_met`.
    pub reserve_met: bool,
    /// `phase`.
    pub phase: bool,
}

/// What happened to a lot.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    /// It takes bids now.
    Opened,
    /// A bid stands.
    Bid {
        /// Whose.
        bidder: BidderNumber,
        /// Its price.
        price: Price,
        /// Whether it is the lead now.
        lead: bool,
        /// Whether a limit made it.
        auto: bool,
    },
    /// A turn ended with what was given in it taken back.
    Withdrawn {
        /// Whose.
        bidder: BidderNumber,
    },
    /// A turn begins, or begins again.
    Turn {
        /// The round, from 1.
        round: u16,
        /// The turn in the round, from 1.
        turn: u16,
        /// Whose it is.
        bidder: BidderNumber,
        /// When it ends.
        ends_at: LogTime,
    },
    /// A step of a rising price begins, or begins again.
    Step {
        /// The step, from 0.
        step: u64,
        /// Its price.
        price: Price,
        /// When it ends.
        ends_at: LogTime,
    },
    /// A level of a falling price begins, or begins again.
    Level {
        /// The level, from 0.
        step: u64,
        /// Its price.
        price: Price,
        /// When it ends.
        ends_at: LogTime,
    },
    /// A bidder did not accept a level.
    Out {
        /// Who.
        bidder: BidderNumber,
    },
    /// A standing bid was taken out by the buyer.
    Voided {
        /// Whose.
        bidder: BidderNumber,
        /// Why.
        reason: Text,
    },
    /// The end moved.
    Extended {
        /// The new end; none while the lot is paused.
        closes_at: Option<LogTime>,
        /// By how much it moved.
        added_ms: i64,
        /// What moved it.
        reason: ExtendReason,
    },
    /// The time was frozen.
    Paused {
        /// Why.
        reason: Text,
    },
    /// The time runs on.
    Resumed {
        /// Why.
        reason: Text,
        /// The end.
        closes_at: LogTime,
    },
    /// A bidder was taken out of the tender.
    Disqualified {
        /// Who; none before numbers are drawn.
        bidder: Option<BidderNumber>,
    },
    /// It takes no more bids.
    Closed,
    /// It was awarded.
    Awarded {
        /// To whom.
        bidder: BidderNumber,
        /// What the winner is paid.
        price: Price,
    },
    /// A bidder was passed by.
    Rejected {
        /// Who.
        bidder: BidderNumber,
    },
    /// It ended without a result.
    Unsuccessful,
    /// It was cancelled.
    Cancelled {
        /// Why.
        reason: Text,
    },
}

/// What moved a lot's end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ExtendReason {
    /// A late bid.
    Overtime,
    /// The buyer.
    Buyer,
    /// An interruption of the service.
    Outage,
    /// Overtime of a staggered lot before it.
    Staggered,
}

impl ExtendReason {
    /// The word on the wire.
    pub const fn word(self) -> &'static str {
        match self {
            Self::Overtime => "overtime",
            Self::Buyer => "buyer",
            Self::Outage => "outage",
            Self::Staggered => "staggered",
        }
    }
}
