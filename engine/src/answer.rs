//! Answers: what the sender of a command is told once the command is durable and applied.

use std::sync::Arc;

use wincode::{SchemaRead, SchemaWrite};

use crate::{
    BidderNumber, Decimal, LogTime, LotId, OrganisationId, Price, Refusal, RequestId, Role, SessionId, TenderId,
    UserId,
};

/// An answer with what a repeat under the same key needs to give the first answer again.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reply {
    /// The answer of the first command under the key.
    pub answer: Answer,
    /// The first command's stamp.
    pub at: LogTime,
    /// The first command's request.
    pub request: RequestId,
    /// Whether this repeats an earlier answer.
    pub replayed: bool,
}

/// What the sender is told.
#[derive(Clone, Debug, PartialEq, Eq, SchemaWrite, SchemaRead)]
pub enum Answer {
    /// Done; there is nothing to tell.
    #[wincode(tag = 0)]
    Done,
    /// The command broke a rule and changed nothing.
    #[wincode(tag = 1)]
    Refused(Refused),
    /// The rules are refused, and why.
    #[wincode(tag = 2)]
    InvalidRules(Vec<RuleError>),
    /// A bid stands.
    #[wincode(tag = 3)]
    Bid(BidAnswer),
    /// A tender was made or changed its stage.
    #[wincode(tag = 4)]
    Tender(Box<TenderAnswer>),
    /// A bidder was admitted, joined or was disqualified.
    #[wincode(tag = 5)]
    Bidder(BidderAnswer),
    /// A standing bid was taken out.
    #[wincode(tag = 6)]
    Voided(VoidAnswer),
    /// A lot was awarded, or a bidder was passed by.
    #[wincode(tag = 7)]
    Award(AwardAnswer),
    /// Something about accounts was done.
    #[wincode(tag = 8)]
    Account(AccountAnswer),
    /// Applying the command failed by our fault; it had no effect and never will.
    #[wincode(tag = 9)]
    Internal,
    /// A limit was set or taken back.
    #[wincode(tag = 10)]
    Limit(LimitAnswer),
    /// What was given in the running turn was taken back.
    #[wincode(tag = 11)]
    Withdrawn(WithdrawAnswer),
}

/// A refusal of a bid, accept or limit carries what the bidder needs for the next try.
#[derive(Clone, Copy, Debug, PartialEq, Eq, SchemaWrite, SchemaRead)]
pub struct Refused {
    /// The first broken rule.
    pub refusal: Refusal,
    /// The lot, where one was found that the sender may see; the fields below are then filled.
    pub lot: Option<LotId>,
    /// The step at which the lot stands; 0 without a lot.
    pub seq: u64,
    /// The lot's end.
    pub closes_at: Option<LogTime>,
    /// The highest price that would have been taken.
    pub max_next: MaxNext,
    /// The scale of `max_next`.
    pub price_scale: u8,
}

/// The highest price that would be accepted from a bidder now, given `confirm`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, SchemaWrite, SchemaRead)]
pub enum MaxNext {
    /// No price would be.
    #[default]
    #[wincode(tag = 0)]
    None,
    /// Any price would be: there is no upper limit.
    #[wincode(tag = 1)]
    Unlimited,
    /// This price.
    #[wincode(tag = 2)]
    At(Price),
}

/// An accepted bid.
#[derive(Clone, Copy, Debug, PartialEq, Eq, SchemaWrite, SchemaRead)]
pub struct BidAnswer {
    /// The lot. The bid's id is the reply's request.
    pub lot: LotId,
    /// The bidder.
    pub bidder: BidderNumber,
    /// The price.
    pub price: Price,
    /// The scale of the prices here.
    pub price_scale: u8,
    /// The step at which the world sees it.
    pub seq: u64,
    /// The ranks of the bidder after it, unless the lot hides them from bidders.
    pub ranks: Option<Ranks>,
    /// The highest price that would be accepted next.
    pub max_next: MaxNext,
}

/// A limit that was set or taken back. The limit itself is told to nobody again.
#[derive(Clone, Copy, Debug, PartialEq, Eq, SchemaWrite, SchemaRead)]
pub struct LimitAnswer {
    /// The lot.
    pub lot: LotId,
    /// The bidder.
    pub bidder: BidderNumber,
    /// Whether there is a limit now.
    pub is_set: bool,
    /// The step at which the lot stands.
    pub seq: u64,
    /// The ranks of the bidder's standing bid, unless the lot hides them from bidders.
    pub ranks: Option<Ranks>,
    /// The highest price that would be accepted next.
    pub max_next: MaxNext,
    /// The scale of `max_next`.
    pub price_scale: u8,
}

/// What was given in a turn was taken back.
#[derive(Clone, Copy, Debug, PartialEq, Eq, SchemaWrite, SchemaRead)]
pub struct WithdrawAnswer {
    /// The lot.
    pub lot: LotId,
    /// The bidder.
    pub bidder: BidderNumber,
    /// The step at which the lot stands.
    pub seq: u64,
    /// The highest price that would be accepted next.
    pub max_next: MaxNext,
    /// The scale of `max_next`.
    pub price_scale: u8,
}

/// Where a standing bid stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, SchemaWrite, SchemaRead)]
pub struct Ranks {
    /// The rank that is shown, by the lot's `tie_rank`.
    pub rank: u16,
    /// The place in award order.
    pub award_rank: u16,
    /// Whether another standing bid has the same effective price.
    pub tied: bool,
}

impl Ranks {
    /// Whether the bid is the lead: the first in award order.
    pub const fn lead(self) -> bool {
        self.award_rank == 1
    }
}

/// A tender right after the command. The texts come from its specification.
#[derive(Clone, Debug, PartialEq, Eq, SchemaWrite, SchemaRead)]
pub struct TenderAnswer {
    /// The tender.
    pub tender: TenderId,
    /// Counts every change of specification or stage, from 1.
    pub version: u32,
    /// Its stage.
    pub stage: TenderStage,
    /// When it opens or opened.
    pub opens_at: Option<LogTime>,
    /// Whether the texts are those of its creation (true) or of its publication (false).
    pub as_created: bool,
    /// Its lots, by number.
    pub lots: Vec<LotAnswer>,
}

/// A lot right after a command.
#[derive(Clone, Copy, Debug, PartialEq, Eq, SchemaWrite, SchemaRead)]
pub struct LotAnswer {
    /// Its stage.
    pub stage: LotStage,
    /// When it opens or opened.
    pub opens_at: Option<LogTime>,
    /// When it ends; none while it is pending without a schedule, or paused.
    pub closes_at: Option<LogTime>,
}

/// The stage of a tender.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, SchemaWrite, SchemaRead)]
pub enum TenderStage {
    /// Being written.
    #[wincode(tag = 0)]
    Draft,
    /// Rules frozen, visible to bidders.
    #[wincode(tag = 1)]
    Published,
    /// Opened.
    #[wincode(tag = 2)]
    Open,
    /// No lot is pending, open or paused.
    #[wincode(tag = 3)]
    Closed,
    /// All lots decided, at least one awarded.
    #[wincode(tag = 4)]
    Awarded,
    /// All lots decided, none awarded.
    #[wincode(tag = 5)]
    Unsuccessful,
    /// Cancelled by the buyer.
    #[wincode(tag = 6)]
    Cancelled,
}

impl TenderStage {
    /// The word on the wire.
    pub const fn word(self) -> &'static str {
        match self {
            Self::Draft => "draft",
            Self::Published => "published",
            Self::Open => "open",
            Self::Closed => "closed",
            Self::Awarded => "awarded",
            Self::Unsuccessful => "unsuccessful",
            Self::Cancelled => "cancelled",
        }
    }
}

/// The stage of a lot.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, SchemaWrite, SchemaRead)]
pub enum LotStage {
    /// Not yet open.
    #[wincode(tag = 0)]
    Pending,
    /// Takes bids.
    #[wincode(tag = 1)]
    Open,
    /// Its time is frozen.
    #[wincode(tag = 2)]
    Paused,
    /// Ended, to be awarded.
    #[wincode(tag = 3)]
    Closed,
    /// Awarded.
    #[wincode(tag = 4)]
    Awarded,
    /// Ended without a result.
    #[wincode(tag = 5)]
    Unsuccessful,
    /// Cancelled by the buyer.
    #[wincode(tag = 6)]
    Cancelled,
}

impl LotStage {
    /// The word on the wire.
    pub const fn word(self) -> &'static str {
        match self {
            Self::Pending => "pending",
            Self::Open => "open",
            Self::Paused => "paused",
            Self::Closed => "closed",
            Self::Awarded => "awarded",
            Self::Unsuccessful => "unsuccessful",
            Self::Cancelled => "cancelled",
        }
    }
}

/// A bidder right after the command.
#[derive(Clone, Copy, Debug, PartialEq, Eq, SchemaWrite, SchemaRead)]
pub struct BidderAnswer {
    /// The bidder's id: the request that admitted it.
    pub id: RequestId,
    /// Its number, where the sender may know it: the bidder always, the buyer after the opening.
    pub number: Option<BidderNumber>,
    /// The organisation.
    pub organisation: OrganisationId,
    /// What it may do.
    pub status: BidderStatus,
}

/// What a bidder may do.
#[derive(Clone, Copy, Debug, PartialEq, Eq, SchemaWrite, SchemaRead)]
pub enum BidderStatus {
    /// Invited; has not accepted the terms.
    #[wincode(tag = 0)]
    Invited,
    /// May bid.
    #[wincode(tag = 1)]
    Admitted,
    /// Taken out by the buyer.
    #[wincode(tag = 2)]
    Disqualified,
}

impl BidderStatus {
    /// The word on the wire.
    pub const fn word(self) -> &'static str {
        match self {
            Self::Invited => "invited",
            Self::Admitted => "admitted",
            Self::Disqualified => "disqualified",
        }
    }
}

/// A voided bid.
#[derive(Clone, Copy, Debug, PartialEq, Eq, SchemaWrite, SchemaRead)]
pub struct VoidAnswer {
    /// The lot.
    pub lot: LotId,
    /// The bid.
    pub bid: RequestId,
    /// Whose it was; [`BidderNumber::NONE`] before numbers are drawn.
    pub bidder: BidderNumber,
    /// Its price.
    pub price: Price,
    /// The scale of the price.
    pub price_scale: u8,
    /// The step at which it went.
    pub seq: u64,
}

/// A lot right after an award or a rejection.
#[derive(Clone, Copy, Debug, PartialEq, Eq, SchemaWrite, SchemaRead)]
pub struct AwardAnswer {
    /// The lot.
    pub lot: LotId,
    /// Its stage.
    pub stage: LotStage,
    /// Who was awarded or passed by.
    pub bidder: BidderNumber,
    /// The price the winner is paid; none after a rejection.
    pub pays: Option<Price>,
    /// The scale of the price.
    pub price_scale: u8,
    /// The step at which it happened.
    pub seq: u64,
}

/// What was wrong with a rule, and what would have been right.
#[derive(Clone, Debug, PartialEq, Eq, SchemaWrite, SchemaRead)]
pub struct RuleError {
    /// JSON pointer into the body, `/lots/0/rules/ceiling`.
    pub pointer: String,
    /// What is wrong and why.
    pub detail: String,
    /// A value or range that would have been valid.
    pub valid: String,
}

/// What was done about accounts.
#[derive(Clone, Debug, PartialEq, Eq, SchemaWrite, SchemaRead)]
pub enum AccountAnswer {
    /// A person and its organisation exist now.
    #[wincode(tag = 0)]
    Registered {
        /// The person.
        user: UserId,
        /// The organisation.
        organisation: OrganisationId,
    },
    /// A person was added.
    #[wincode(tag = 1)]
    Member {
        /// The person.
        user: UserId,
        /// What it may do.
        role: Role,
    },
    /// A session runs, or runs on.
    #[wincode(tag = 2)]
    Session {
        /// The session.
        session: SessionId,
        /// The person.
        user: UserId,
    },
}

/// One decision about a bid: the line of a lot's history, and what rebuilds its answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, SchemaWrite, SchemaRead)]
pub struct Decision {
    /// The bid's id.
    pub bid: RequestId,
    /// Who sent it; none if the sender was no bidder.
    pub bidder: Option<BidderNumber>,
    /// The price as it was sent; none for a withdrawal or another action.
    pub price: Option<Decimal>,
    /// The stamp.
    pub at: LogTime,
    /// What was decided.
    pub outcome: Outcome,
    /// Whether the bid is bound to the bidder's bids in other lots: all of them or none.
    pub all_or_nothing: bool,
}

/// What was decided about a bid.
#[derive(Clone, Copy, Debug, PartialEq, Eq, SchemaWrite, SchemaRead)]
pub enum Outcome {
    /// It was accepted.
    #[wincode(tag = 0)]
    Accepted(BidAnswer),
    /// It was accepted, and the buyer took it out later.
    #[wincode(tag = 1)]
    Voided(BidAnswer),
    /// It was refused.
    #[wincode(tag = 2)]
    Refused(Refused),
    /// A limit made it.
    #[wincode(tag = 3)]
    Automatic(BidAnswer),
    /// It was accepted, and dropped later in the same turn or level: by a withdrawal or a pause.
    #[wincode(tag = 4)]
    Dropped(BidAnswer),
    /// It took back what was given in the turn.
    #[wincode(tag = 5)]
    Withdrawal(WithdrawAnswer),
}

/// A text shared between a state and its events.
pub type Text = Arc<str>;
