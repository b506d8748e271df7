//! The result of a lot as one reader may see it: all of it, the board, or the own place and whether it won.

use engine::{BidderNumber, Lot, LotResult, LotStage, Ranked, Reader, Sight};
use serde::Serialize;
use utoipa::ToSchema;

use super::price;
use crate::body::{DecimalText, IdText, TimeText};

/// How a lot ended.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub struct ResultBody {
    /// The lot.
    pub lot: IdText,
    /// Its stage.
    pub stage: &'static str,
    /// When it opened; null if it never did.
    pub opened_at: Option<TimeText>,
    /// When it ended; null after a cancellation.
    pub closed_at: Option<TimeText>,
    /// How often overtime moved the end.
    pub extensions: u32,
    /// The places that the reader may see, in award order.
    pub ranking: Vec<RankedBody>,
    /// The number of the winner: the awarded bidder or, while the lot is closed, the first that could be awarded.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub winner: Option<Option<u16>>,
    /// The name of the winner's organisation, once the lot is awarded.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub winner_name: Option<String>,
    /// Whether the reader was awarded the lot; bidders only.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub won: Option<bool>,
    /// What the winner is paid.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub pays: Option<Option<DecimalText>>,
    /// What the buyer should look at; left out for others.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub flags: Option<Vec<&'static str>>,
}

/// One place of the ranking.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub struct RankedBody {
    /// The number of the bidder.
    pub bidder: u16,
    /// The standing price.
    pub price: DecimalText,
    /// The price that ranks; left out where the reader may not see how its bidder's prices are adjusted.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub effective: Option<DecimalText>,
    /// The shown rank.
    pub rank: u16,
    /// The place in award order.
    pub award_rank: u16,
    /// Whether another standing bid has the same effective price.
    pub tied: bool,
    /// The time that breaks ties.
    pub at: TimeText,
    /// True when the buyer passed it by.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub rejected: bool,
}

/// The result of `lot` as the reader with `sight` may see it. `name` tells the name of the organisation that has a
/// number; it is asked for the winner only, and only where the reader may know it.
pub fn result(lot: &Lot, sight: &Sight, name: impl FnOnce(BidderNumber) -> Option<String>) -> ResultBody {
    let result = lot.result();
    let LotResult { stage, opened_at, closed_at, extensions, winner, pays, .. } = result;
    let scale = lot.rules().price_scale;
    let own = sight.own();
    let own_wins = own.is_some() && winner == own;
    let shows_winner = sight.ranking || own_wins || winner.is_none();
    let flags = (sight.reader == Reader::Buyer).then(|| result.flags());
    let ranking = result.ranking.iter().filter(|ranked| sight.ranking || Some(ranked.standing.bidder) == own);
    ResultBody {
        lot: IdText(lot.id.0),
        stage: stage.word(),
        opened_at: opened_at.map(TimeText),
        closed_at: closed_at.map(TimeText),
        extensions,
        ranking: ranking
            .map(|ranked| row(ranked, scale, sight.adjustments || Some(ranked.standing.bidder) == own))
            .collect(),
        winner: shows_winner.then(|| winner.map(|winner| winner.0)),
        winner_name: if sight.winner { winner.and_then(name) } else { None },
        won: own.map(|_| own_wins && stage == LotStage::Awarded),
        pays: (sight.winning_price || own_wins).then(|| pays.map(|pays| price(pays, scale))),
        flags,
    }
}

fn row(ranked: &Ranked, scale: u8, shows_effective: bool) -> RankedBody {
    RankedBody {
        bidder: ranked.standing.bidder.0,
        price: price(ranked.standing.price, scale),
        effective: shows_effective.then(|| price(ranked.standing.effective, scale)),
        rank: ranked.ranks.rank,
        award_rank: ranked.ranks.award_rank,
        tied: ranked.ranks.tied,
        at: TimeText(ranked.standing.at),
        rejected: ranked.standing.rejected,
    }
}
