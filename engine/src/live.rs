//! What a lot keeps beside its book: what is offered and not shown yet, limits, and the phase that runs.
//! Data and questions about it; what happens is in `formats`.

use wincode::{SchemaRead, SchemaWrite};

use crate::book::Amount;
use crate::{BidderNumber, LogTime, Price, RequestId};

/// Beside the book.
#[derive(Clone, Debug, Default, PartialEq, Eq, SchemaWrite, SchemaRead)]
pub(crate) struct Live {
    /// Pre-bids, sealed bids or accepts of the running level that nobody else sees yet, by dense index.
    pub hidden: Vec<Option<Offered>>,
    /// Limits, by dense index.
    pub limits: Vec<Option<Limit>>,
    /// Records of the history from here on are shown to their own bidder only.
    pub hidden_from: u32,
    /// What runs.
    pub phase: Phase,
    /// When it ends; none without a phase, and while paused.
    pub ends_at: Option<LogTime>,
    /// The dense indices of those who have a turn in the running round, in order.
    pub plan: Vec<u16>,
    /// Who is in (japanese), takes part (rounds) or left a pre-bid where one is required, by dense index.
    pub inside: Vec<bool>,
    /// What was given in the running turn.
    pub given: Given,
}

/// Nothing is hidden.
pub(crate) const ALL_SHOWN: u32 = u32::MAX;

/// What runs in a lot of rounds, steps or levels.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, SchemaWrite, SchemaRead)]
pub enum Phase {
    /// Nothing of the kind.
    #[default]
    #[wincode(tag = 0)]
    None,
    /// Before the first round.
    #[wincode(tag = 1)]
    LeadIn,
    /// A turn, both counted from 1.
    #[wincode(tag = 2)]
    Turn {
        /// The round.
        round: u16,
        /// The turn in it.
        turn: u16,
    },
    /// Behind a round.
    #[wincode(tag = 3)]
    Pause {
        /// The round.
        round: u16,
    },
    /// Behind the last round.
    #[wincode(tag = 4)]
    Announce,
    /// A step or level, from 0.
    #[wincode(tag = 5)]
    Step(u64),
}

/// A price that was offered.
#[derive(Clone, Copy, Debug, PartialEq, Eq, SchemaWrite, SchemaRead)]
pub(crate) struct Offered {
    pub price: Price,
    pub at: LogTime,
    pub seq: u64,
    pub order: u32,
    /// The newest record of it.
    pub record: u32,
}

impl Offered {
    pub fn amount(&self) -> Amount {
        Amount { price: self.price, at: self.at, seq: self.seq, order: self.order }
    }

    /// This in place of `old`: the same amount again keeps its time.
    pub fn instead_of(self, old: Option<Self>) -> Self {
        match old {
            Some(old) if old.price == self.price => Self { record: self.record, ..old },
            _ => self,
        }
    }
}

/// A secret limit.
#[derive(Clone, Copy, Debug, PartialEq, Eq, SchemaWrite, SchemaRead)]
pub(crate) struct Limit {
    pub price: Price,
    pub at: LogTime,
    pub seq: u64,
    pub order: u32,
    /// The request that set it: the id of the bids it makes.
    pub request: RequestId,
}

/// What was given in the running turn.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, SchemaWrite, SchemaRead)]
pub(crate) enum Given {
    #[default]
    #[wincode(tag = 0)]
    Nothing,
    #[wincode(tag = 1)]
    Bid(Offered),
    #[wincode(tag = 2)]
    Withdrawal,
}

/// Sets one place of a list that is as long as it has to be.
pub(crate) fn set<T: Clone + Default>(list: &mut Vec<T>, index: usize, value: T) {
    if list.len() <= index {
        list.resize(index + 1, T::default());
    }
    list[index] = value;
}

impl Live {
    pub fn hidden_of(&self, bidder: BidderNumber) -> Option<Offered> {
        self.hidden.get(bidder.index()).copied().flatten()
    }

    pub fn limit_of(&self, bidder: BidderNumber) -> Option<Limit> {
        self.limits.get(bidder.index()).copied().flatten()
    }

    pub fn is_inside(&self, bidder: BidderNumber) -> bool {
        self.inside.get(bidder.index()).copied().unwrap_or(false)
    }

    /// How many are in.
    pub fn inside_count(&self) -> usize {
        self.inside.iter().filter(|inside| **inside).count()
    }

    /// Whose turn runs.
    pub fn whose_turn(&self) -> Option<BidderNumber> {
        let Phase::Turn { turn, .. } = self.phase else { return None };
        self.plan.get(usize::from(turn) - 1).map(|index| BidderNumber::from_index(usize::from(*index)))
    }

    /// The running step or level.
    pub fn step(&self) -> Option<u64> {
        match self.phase {
            Phase::Step(step) => Some(step),
            _ => None,
        }
    }

    /// What a bidder gave that nobody else sees yet.
    pub fn own(&self, bidder: BidderNumber) -> Option<Offered> {
        match self.given {
            Given::Bid(offered) if self.whose_turn() == Some(bidder) => Some(offered),
            _ => self.hidden_of(bidder),
        }
    }
}
