//! What is told about bids: to their sender at once, and in a lot's history later.

use engine::{Answer, BidAnswer, Decision, Lot, LotId, MaxNext, Outcome, Refused, Reply, Sight};
use serde::Serialize;
use utoipa::ToSchema;

use super::price;
use crate::body::{DecimalText, IdText, TimeText};
use crate::text;

/// An accepted bid, as POST `/v1/lots/{lot}/bids` and the feed's `bid.place` answer it.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub struct BidBodyAnswer {
    /// The bid.
    pub bid: IdText,
    /// The lot.
    pub lot: IdText,
    /// The price, at the lot's scale; null for a withdrawal.
    pub price: Option<DecimalText>,
    /// `accepted`, or `withdrawn` for a withdrawal.
    pub status: BidStatus,
    /// The step at which the world sees it.
    pub seq: u64,
    /// The leader's stamp.
    pub at: TimeText,
    /// The shown rank after it; left out where the rules hide ranks.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rank: Option<u16>,
    /// Whether another standing bid has the same effective price.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tied: Option<bool>,
    /// The highest price that would be accepted next; null when none would be, or when there is no upper limit.
    pub max_next: Option<DecimalText>,
    /// True when there is no upper limit.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub max_next_unlimited: bool,
    /// Whether the bid leads.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub lead: Option<bool>,
}

/// What became of a bid.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum BidStatus {
    /// It stood, and perhaps still stands.
    Accepted,
    /// It broke a rule.
    Refused,
    /// The buyer took it out.
    Voided,
    /// It was given in a turn or level and dropped in it, or it took back what was given.
    Withdrawn,
}

/// A limit that was left or taken back, as PUT and DELETE `/v1/lots/{lot}/auto-bid` answer it. The limit itself is in
/// the reader's own `you.auto_limit` and nowhere else.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub struct LimitBody {
    /// The lot.
    pub lot: IdText,
    /// Whether there is a limit now.
    pub status: LimitStatus,
    /// The step at which the lot stands.
    pub seq: u64,
    /// The leader's stamp.
    pub at: TimeText,
    /// The shown rank after it; left out without a standing bid, and where the rules hide ranks.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rank: Option<u16>,
    /// Whether another standing bid has the same effective price.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tied: Option<bool>,
    /// The highest price that would be accepted next; null when none would be, or when there is no upper limit.
    pub max_next: Option<DecimalText>,
    /// True when there is no upper limit.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub max_next_unlimited: bool,
    /// Whether the standing bid leads.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub lead: Option<bool>,
}

/// What became of a limit.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum LimitStatus {
    /// It is there.
    Set,
    /// There is none any more.
    Deleted,
}

/// What a bidder needs for the next try, with every refusal of a bid, accept or limit.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub struct Refusal {
    /// The first broken rule.
    pub code: &'static str,
    /// The step at which the lot stands.
    pub seq: u64,
    /// The highest price that would have been accepted.
    pub max_next: Option<DecimalText>,
    /// True when there is no upper limit.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub max_next_unlimited: bool,
    /// The lot's end.
    pub closes_at: Option<TimeText>,
}

/// One line of a lot's history of bids.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub struct BidLine {
    /// The bid.
    pub bid: IdText,
    /// The lot.
    pub lot: IdText,
    /// The number of its bidder; null if the sender was none, and before numbers are drawn.
    pub bidder: Option<u16>,
    /// The price as it was sent, at the lot's scale where it fits; null for another action.
    pub price: Option<DecimalText>,
    /// What became of it.
    pub status: BidStatus,
    /// Why it was refused.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub code: Option<&'static str>,
    /// The step at which it stood, or at which the lot stood when it was refused.
    pub seq: u64,
    /// The leader's stamp.
    pub at: TimeText,
    /// Whether a limit made it.
    pub auto: bool,
    /// True when the bidder wants all the lots it marked so, or none.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub all_or_nothing: bool,
}

/// `max_next` and `max_next_unlimited`.
pub fn max_next(max_next: MaxNext, scale: u8) -> (Option<DecimalText>, bool) {
    match max_next {
        MaxNext::None => (None, false),
        MaxNext::Unlimited => (None, true),
        MaxNext::At(amount) => (Some(price(amount, scale)), false),
    }
}

/// The answer to an accepted bid; none for any other reply.
pub fn bid_answer(reply: &Reply) -> Option<BidBodyAnswer> {
    let bid = match &reply.answer {
        Answer::Bid(bid) => bid,
        Answer::Withdrawn(withdrawn) => {
            let (max_next, max_next_unlimited) = max_next(withdrawn.max_next, withdrawn.price_scale);
            return Some(BidBodyAnswer {
                bid: IdText(reply.request.0),
                lot: IdText(withdrawn.lot.0),
                price: None,
                status: BidStatus::Withdrawn,
                seq: withdrawn.seq,
                at: TimeText(reply.at),
                rank: None,
                tied: None,
                max_next,
                max_next_unlimited,
                lead: None,
            });
        }
        _ => return None,
    };
    let (max_next, max_next_unlimited) = max_next(bid.max_next, bid.price_scale);
    Some(BidBodyAnswer {
        bid: IdText(reply.request.0),
        lot: IdText(bid.lot.0),
        price: Some(price(bid.price, bid.price_scale)),
        status: BidStatus::Accepted,
        seq: bid.seq,
        at: TimeText(reply.at),
        rank: bid.ranks.map(|ranks| ranks.rank),
        tied: bid.ranks.map(|ranks| ranks.tied),
        max_next,
        max_next_unlimited,
        lead: bid.ranks.map(engine::Ranks::lead),
    })
}

/// The answer to a limit; none for any other reply.
pub fn limit_answer(reply: &Reply) -> Option<LimitBody> {
    let Answer::Limit(limit) = &reply.answer else { return None };
    let (max_next, max_next_unlimited) = max_next(limit.max_next, limit.price_scale);
    Some(LimitBody {
        lot: IdText(limit.lot.0),
        status: if limit.is_set { LimitStatus::Set } else { LimitStatus::Deleted },
        seq: limit.seq,
        at: TimeText(reply.at),
        rank: limit.ranks.map(|ranks| ranks.rank),
        tied: limit.ranks.map(|ranks| ranks.tied),
        max_next,
        max_next_unlimited,
        lead: limit.ranks.map(engine::Ranks::lead),
    })
}

/// The fields of a refusal.
pub fn refusal(refused: &Refused) -> Refusal {
    let (max_next, max_next_unlimited) = max_next(refused.max_next, refused.price_scale);
    Refusal {
        code: refused.refusal.code(),
        seq: refused.seq,
        max_next,
        max_next_unlimited,
        closes_at: refused.closes_at.map(TimeText),
    }
}

/// One line of the history of `lot` for the reader with `sight`. Whether it may see it is [`Sight::decisions`], or that
/// it is the reader's own.
pub fn bid_line(lot: &Lot, decision: &Decision, sight: &Sight) -> BidLine {
    let scale = lot.rules().price_scale;
    let seq_of = |bid: &BidAnswer| bid.seq;
    let (status, code, seq) = match &decision.outcome {
        Outcome::Accepted(bid) | Outcome::Automatic(bid) => (BidStatus::Accepted, None, seq_of(bid)),
        Outcome::Dropped(bid) => (BidStatus::Withdrawn, None, seq_of(bid)),
        Outcome::Withdrawal(withdrawal) => (BidStatus::Withdrawn, None, withdrawal.seq),
        Outcome::Voided(bid) => (BidStatus::Voided, None, seq_of(bid)),
        Outcome::Refused(refused) => (BidStatus::Refused, Some(refused.refusal.code()), refused.seq),
    };
    let LotId(id) = lot.id;
    BidLine {
        bid: IdText(decision.bid.0),
        lot: IdText(id),
        bidder: decision.bidder.filter(|_| sight.numbers).map(|bidder| bidder.0),
        price: decision.price.map(|sent| DecimalText(text::decimal_at(sent, scale))),
        status,
        code,
        seq,
        at: TimeText(decision.at),
        auto: matches!(decision.outcome, Outcome::Automatic(_)),
        all_or_nothing: decision.all_or_nothing,
    }
}
