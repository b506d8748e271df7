//! A lot as one reader may see it now: its public state, and the reader's own part of it.

use engine::{
    Adjust, Bidder, BidderNumber, Format, Light, LogTime, Lot, MaxNext, Phase, Price, Ranks, Sight, Tender,
};
use serde::Serialize;
use utoipa::ToSchema;

use super::{Audience, price};
use crate::body::{DecimalText, DecrementBody, IdText, TimeText};

/// A lot as one reader may see it: the answer to GET `/v1/lots/{lot}`, and what the feed's `snap` carries.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub struct SnapBody {
    /// The lot.
    pub lot: IdText,
    /// The id of the history; positions of another history mean nothing.
    pub epoch: String,
    /// The step of which this is.
    pub seq: u64,
    /// What this reader may see of what is public.
    pub state: StateBody,
    /// The reader's own part; bidders only.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub you: Option<YouBody>,
}

/// The public fields of a lot, as far as a reader may see them.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub struct StateBody {
    /// The tender.
    pub tender: IdText,
    /// The lot.
    pub lot: IdText,
    /// The lot's number in the tender, from 1.
    pub number: u16,
    /// The lot's title.
    pub title: String,
    /// ISO 4217 code.
    pub currency: String,
    /// Digits behind the point of every price.
    pub price_scale: u8,
    /// The format.
    pub format: &'static str,
    /// The stage.
    pub stage: &'static str,
    /// When it opens or opened.
    pub opens_at: Option<TimeText>,
    /// When it ends or ended; null while paused, and without a schedule.
    pub closes_at: Option<TimeText>,
    /// How often overtime moved the end.
    pub extensions: u32,
    /// The highest price taken.
    pub ceiling: Option<DecimalText>,
    /// The least improvement; one unit where the rules name none, null in formats without improvement.
    pub decrement: Option<DecrementBody>,
    /// The lead; null while nobody leads.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub lead: Option<Option<LeadBody>>,
    /// All standing bids in award order.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub board: Option<Vec<BoardRow>>,
    /// How many bidders have a standing bid.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub bidder_count: Option<usize>,
    /// Whether the lead meets the reserve; left out where there is none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reserve_met: Option<bool>,
    /// The phase that runs; only in formats that have phases.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub phase: Option<PhaseBody>,
}

/// The phase that runs in a lot.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, ToSchema)]
pub struct PhaseBody {
    /// `lead_in`, `turn`, `pause`, `announce`, `step` or `level`.
    pub kind: &'static str,
    /// The round, from 1.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub round: Option<u16>,
    /// The turn in it, from 1.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub turn: Option<u16>,
    /// Whose turn it is.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub bidder: Option<u16>,
    /// The step or level, from 0.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub step: Option<u64>,
    /// Its price.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub price: Option<DecimalText>,
    /// When it ends; null while paused.
    pub ends_at: Option<TimeText>,
}

/// The phase that runs in `lot`: everybody who sees the lot may know whose turn it is, by number.
pub(super) fn phase(lot: &Lot) -> Option<PhaseBody> {
    let now = lot.phase()?;
    let (kind, round, turn, step) = match now.phase {
        Phase::None => return None,
        Phase::LeadIn => ("lead_in", None, None, None),
        Phase::Turn { round, turn } => ("turn", Some(round), Some(turn), None),
        Phase::Pause { round } => ("pause", Some(round), None, None),
        Phase::Announce => ("announce", None, None, None),
        Phase::Step(step) if lot.rules().format == Format::Dutch => ("step", None, None, Some(step)),
        Phase::Step(level) => ("level", None, None, Some(level)),
    };
    Some(PhaseBody {
        kind,
        round,
        turn,
        bidder: now.bidder.map(|bidder| bidder.0),
        step,
        price: now.price.map(|amount| price(amount, lot.rules().price_scale)),
        ends_at: now.ends_at.map(TimeText),
    })
}

/// The lead.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, ToSchema)]
pub struct LeadBody {
    /// Its price.
    pub price: DecimalText,
    /// The price that ranks; left out where the reader may not see how prices are adjusted.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub effective: Option<DecimalText>,
    /// The number of its bidder.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub bidder: Option<u16>,
}

/// One standing bid.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, ToSchema)]
pub struct BoardRow {
    /// The number of its bidder.
    pub bidder: u16,
    /// Its price.
    pub price: DecimalText,
    /// The price that ranks; left out where the reader may not see how prices are adjusted.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub effective: Option<DecimalText>,
    /// Its shown rank.
    pub rank: u16,
}

/// The public fields of `lot` that `audience` may see.
pub fn state(tender: &Tender, lot: &Lot, audience: &Audience) -> StateBody {
    let spec = tender.spec();
    let of_lot = &spec.lots[usize::from(lot.number) - 1];
    let rules = lot.rules();
    StateBody {
        tender: IdText(tender.id.0),
        lot: IdText(lot.id.0),
        number: lot.number,
        title: of_lot.title.clone(),
        currency: spec.currency.clone(),
        price_scale: rules.price_scale,
        format: rules.format.word(),
        stage: lot.stage.word(),
        opens_at: lot.opens_at().map(TimeText),
        closes_at: lot.closes_at().map(TimeText),
        extensions: lot.extensions,
        ceiling: rules.ceiling.map(|ceiling| price(ceiling, rules.price_scale)),
        decrement: matches!(rules.format, Format::English | Format::Rounds)
            .then(|| DecrementBody::effective(of_lot.rules.decrement.as_ref(), rules.price_scale)),
        lead: audience.lead.then(|| lead(lot, audience)),
        board: audience.board.then(|| board(lot, audience)),
        bidder_count: audience.bidder_count.then(|| lot.bidder_count()),
        reserve_met: lot.reserve_met(),
        phase: phase(lot),
    }
}

/// The effective price of a price of `bidder`, where `lot` has adjustments and `audience` may see them; of the own
/// price always, where it is adjusted.
pub(super) fn shown_effective(
    lot: &Lot,
    bidder: BidderNumber,
    amount: Price,
    audience: &Audience,
    is_own: bool,
) -> Option<DecimalText> {
    let all = audience.effective && lot.is_adjusted();
    let own = is_own && lot.adjust(bidder) != Adjust::NONE;
    (all || own).then(|| price(lot.effective(bidder, amount), lot.rules().price_scale))
}

pub(super) fn lead(lot: &Lot, audience: &Audience) -> Option<LeadBody> {
    lot.lead().map(|lead| LeadBody {
        price: price(lead.price, lot.rules().price_scale),
        effective: shown_effective(lot, lead.bidder, lead.price, audience, false),
        bidder: audience.lead_bidder.then_some(lead.bidder.0),
    })
}

pub(super) fn board(lot: &Lot, audience: &Audience) -> Vec<BoardRow> {
    let scale = lot.rules().price_scale;
    lot.ranking()
        .map(|ranked| BoardRow {
            bidder: ranked.standing.bidder.0,
            price: price(ranked.standing.price, scale),
            effective: shown_effective(lot, ranked.standing.bidder, ranked.standing.price, audience, false),
            rank: ranked.ranks.rank,
        })
        .collect()
}

/// What only the bidder itself sees of a lot. Small and plain, so that a connection can keep the last one it sent and
/// write the next only if it differs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct You {
    number: Option<u16>,
    standing: Option<(Price, LogTime)>,
    effective: Option<Price>,
    shows_ranks: bool,
    ranks: Option<Ranks>,
    max_next: MaxNext,
    scale: u8,
    auto_limit: Option<Price>,
    light: Option<Light>,
    shows_light: bool,
    is_in: Option<bool>,
}

/// What only the bidder itself sees of a lot.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub struct YouBody {
    /// The bidder's number in the tender; null before numbers are drawn.
    pub number: Option<u16>,
    /// The price of the standing bid; null without one.
    pub standing: Option<DecimalText>,
    /// The price that ranks; left out without a standing bid, and where the bidder's prices are not adjusted.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub effective: Option<DecimalText>,
    /// Since when the bidder stands at that price.
    pub best_at: Option<TimeText>,
    /// The shown rank; null without a standing bid, left out where the rules hide ranks.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rank: Option<Option<u16>>,
    /// The place in award order.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub award_rank: Option<Option<u16>>,
    /// Whether another standing bid has the same effective price.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tied: Option<bool>,
    /// Whether the bidder leads.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub lead: Option<bool>,
    /// The highest price that would be accepted now; null when none would be, or when there is no upper limit.
    pub max_next: Option<DecimalText>,
    /// True when there is no upper limit.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub max_next_unlimited: bool,
    /// The traffic light: `green`, `yellow` or `red`; null without a standing bid, left out where there is none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub light: Option<Option<&'static str>>,
    /// The own secret limit; left out without one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub auto_limit: Option<DecimalText>,
    /// Whether the bidder is still in; japanese lots only.
    #[serde(rename = "in", skip_serializing_if = "Option::is_none")]
    pub is_in: Option<bool>,
}

/// The own part of `bidder`. Ranks are as `sight` allows.
pub fn you(lot: &Lot, bidder: &Bidder, sight: &Sight) -> You {
    let standing = lot.own_standing(bidder.number);
    You {
        number: sight.numbers.then_some(bidder.number.0),
        standing,
        effective: standing
            .filter(|_| lot.adjust(bidder.number) != Adjust::NONE)
            .map(|(standing, _)| lot.effective(bidder.number, standing)),
        shows_ranks: sight.rank,
        ranks: if sight.rank && standing.is_some() { lot.ranks(bidder.number) } else { None },
        max_next: lot.max_next(bidder),
        scale: lot.rules().price_scale,
        auto_limit: lot.own_limit(bidder.number),
        light: if sight.light { lot.light(bidder.number) } else { None },
        shows_light: sight.light,
        is_in: lot.is_in(bidder.number),
    }
}

impl You {
    /// As it is written.
    pub fn body(&self) -> YouBody {
        let ranks = |value: fn(Ranks) -> u16| self.shows_ranks.then(|| self.ranks.map(value));
        YouBody {
            number: self.number,
            standing: self.standing.map(|(standing, _)| price(standing, self.scale)),
            effective: self.effective.map(|effective| price(effective, self.scale)),
            best_at: self.standing.map(|(_, at)| TimeText(at)),
            rank: ranks(|ranks| ranks.rank),
            award_rank: ranks(|ranks| ranks.award_rank),
            tied: self.shows_ranks.then(|| self.ranks.is_some_and(|ranks| ranks.tied)),
            lead: self.shows_ranks.then(|| self.ranks.is_some_and(Ranks::lead)),
            max_next: super::max_next(self.max_next, self.scale).0,
            max_next_unlimited: self.max_next == MaxNext::Unlimited,
            light: self.shows_light.then(|| self.light.map(Light::word)),
            auto_limit: self.auto_limit.map(|limit| price(limit, self.scale)),
            is_in: self.is_in,
        }
    }
}

/// The lot as the reader with `sight` may see it, of the step at which it stands. `epoch`: the id of the history.
pub fn snap(tender: &Tender, lot: &Lot, sight: &Sight, epoch: &str) -> SnapBody {
    let bidder = sight.own().and_then(|number| tender.bidder(number));
    SnapBody {
        lot: IdText(lot.id.0),
        epoch: epoch.to_owned(),
        seq: lot.seq,
        state: state(tender, lot, &Audience::of(sight)),
        you: bidder.map(|bidder| you(lot, bidder, sight).body()),
    }
}
