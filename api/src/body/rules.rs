//! The rules of a lot as JSON, and their way to and from the engine's specification.

use engine::{
    BufferSpec, Decimal, DecrementRow, DecrementSpec, DutchSpec, FeatureSpec, JapaneseSpec, OvertimeSpec,
    ReserveSpec, RoundsSpec, RulesSpec, SealedSpec, VisibilitySpec,
};
use serde::de::Error;
use serde::{Deserialize, Deserializer, Serialize};
use utoipa::ToSchema;

use super::scalar::{
    AwardMode, DecimalText, Format, Improvement, LeadVisibility, OvertimeMode, OvertimeScope, OvertimeTrigger,
    Prebid, SealedPricing, TieRank, unknown_word,
};
use crate::text;

/// The rules of a lot. What is left out has its default and comes back with it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct RulesBody {
    /// The format.
    #[schema(inline)]
    pub format: Format,
    /// Seconds from opening to the first end; required in english and sealed.
    #[serde(default)]
    pub duration_s: Option<i64>,
    /// Digits behind the point, 0 to 6; default: the currency's.
    #[serde(default)]
    pub price_scale: Option<i64>,
    /// The highest price taken.
    #[serde(default)]
    pub ceiling: Option<DecimalText>,
    /// The lowest price taken.
    #[serde(default)]
    pub floor: Option<DecimalText>,
    /// The highest price awarded.
    #[serde(default)]
    pub reserve: Option<ReserveBody>,
    /// What a bid must beat.
    #[serde(default = "own")]
    #[schema(inline)]
    pub improvement: Improvement,
    /// The distance to another bidder's lead, for `own_and_buffer`.
    #[serde(default)]
    pub buffer: Option<BufferBody>,
    /// The least improvement; default: one unit of the price scale.
    #[serde(default)]
    pub decrement: Option<DecrementBody>,
    /// Prices are whole multiples of it.
    #[serde(default)]
    pub tick: Option<DecimalText>,
    /// The largest drop of one bid.
    #[serde(default)]
    pub max_step: Option<DecimalText>,
    /// The drop in percent below the highest valid price that needs `confirm`; `null` is off.
    #[serde(default = "guard_percent")]
    pub guard_percent: Option<DecimalText>,
    /// The rank that tied bidders are shown.
    #[serde(default = "by_time")]
    #[schema(inline)]
    pub tie_rank: TieRank,
    /// Down to which rank ties are forbidden; 0 allows them.
    #[serde(default)]
    pub tie_free_ranks: i64,
    /// The most accepted bids of a bidder.
    #[serde(default)]
    pub max_bids: Option<i64>,
    /// The fewest admitted bidders with which the lot opens; default 1, with open access 0.
    #[serde(default)]
    pub min_bidders: Option<i64>,
    /// Overtime; default: none.
    #[serde(default)]
    pub overtime: Option<OvertimeBody>,
    /// Who sees what.
    #[serde(default)]
    pub visibility: VisibilityBody,
    /// The traffic light is yellow within this percentage of the lead.
    #[serde(default = "near_percent")]
    pub near_percent: DecimalText,
    /// Whether bids may be left before the opening.
    #[serde(default = "no_prebid")]
    #[schema(inline)]
    pub prebid: Prebid,
    /// Whether bidders may leave secret limits.
    #[serde(default)]
    pub auto_bid: bool,
    /// How the lot is awarded.
    #[serde(default = "manual")]
    #[schema(inline)]
    pub award: AwardMode,
    /// Seconds after the close in which the buyer must award.
    #[serde(default)]
    pub decision_s: Option<i64>,
    /// Seconds a lot stays open after an interruption of the service.
    #[serde(default = "outage_grace_s")]
    pub outage_grace_s: i64,
    /// How many steps `seen_seq` may be behind.
    #[serde(default)]
    pub max_view_age: Option<i64>,
    /// Whether bids may be bound together across lots.
    #[serde(default)]
    pub all_or_nothing: bool,
    /// Weighted features.
    #[serde(default)]
    pub features: Vec<FeatureBody>,
    /// The largest sum of feature weights.
    #[serde(default)]
    pub max_weight_sum: Option<DecimalText>,
    /// The block of format `dutch`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub dutch: Option<DutchBody>,
    /// The block of format `japanese`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub japanese: Option<JapaneseBody>,
    /// The block of format `rounds`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rounds: Option<RoundsBody>,
    /// The block of format `sealed`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sealed: Option<SealedBody>,
}

/// The defaults of the contract, taken from the engine's specification so that there is one list of them.
fn defaults() -> RulesSpec {
    RulesSpec::default(engine::Format::English)
}
fn own() -> Improvement {
    Improvement(defaults().improvement)
}
fn guard_percent() -> Option<DecimalText> {
    defaults().guard_percent.map(DecimalText)
}
fn by_time() -> TieRank {
    TieRank(defaults().tie_rank)
}
fn near_percent() -> DecimalText {
    DecimalText(defaults().near_percent)
}
fn no_prebid() -> Prebid {
    Prebid(defaults().prebid)
}
fn manual() -> AwardMode {
    AwardMode(defaults().award)
}
fn outage_grace_s() -> i64 {
    defaults().outage_grace_s
}

/// The highest price that is awarded.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct ReserveBody {
    /// The price.
    pub price: DecimalText,
    /// Whether bidders and observers see it.
    #[serde(default)]
    pub shown: bool,
}

/// The distance a bid keeps from another bidder's lead.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct BufferBody {
    /// At least this much below it …
    pub front: DecimalText,
    /// … or at least this much above it.
    pub back: DecimalText,
}

/// One row of a decrement table.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct DecrementRowBody {
    /// The lowest base the row is for.
    pub from: DecimalText,
    /// The step.
    pub step: DecimalText,
}

/// The least improvement: a fixed amount, a percentage of the base, or a step by price range.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, ToSchema)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum DecrementBody {
    /// A fixed amount.
    Amount {
        /// The amount.
        value: DecimalText,
    },
    /// A percentage of the base, rounded up to the scale, at least one unit.
    Percent {
        /// The percentage.
        value: DecimalText,
    },
    /// The row with the highest `from` at or below the base; a row from 0 is required.
    Table {
        /// The rows.
        rows: Vec<DecrementRowBody>,
    },
}

impl<'de> Deserialize<'de> for DecrementBody {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        /// All members of all kinds, so that errors inside keep their place.
        #[derive(Deserialize)]
        #[serde(deny_unknown_fields)]
        struct Members {
            kind: Kind,
            value: Option<DecimalText>,
            rows: Option<Vec<DecrementRowBody>>,
        }
        let members = Members::deserialize(deserializer)?;
        if matches!(members.kind, Kind::Table) {
            if members.value.is_some() {
                return Err(Error::unknown_field("value", &["kind", "rows"]));
            }
            let rows = members.rows.ok_or_else(|| Error::missing_field("rows"))?;
            return Ok(Self::Table { rows });
        }
        if members.rows.is_some() {
            return Err(Error::unknown_field("rows", &["kind", "value"]));
        }
        let value = members.value.ok_or_else(|| Error::missing_field("value"))?;
        Ok(if matches!(members.kind, Kind::Percent) { Self::Percent { value } } else { Self::Amount { value } })
    }
}

/// The kinds of a decrement.
enum Kind {
    Amount,
    Percent,
    Table,
}

const KINDS: &[&str] = &["amount", "percent", "table"];

impl<'de> Deserialize<'de> for Kind {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        match String::deserialize(deserializer)?.as_str() {
            "amount" => Ok(Self::Amount),
            "percent" => Ok(Self::Percent),
            "table" => Ok(Self::Table),
            other => Err(unknown_word(other, KINDS)),
        }
    }
}

/// Overtime: a late bid moves the end.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct OvertimeBody {
    /// Seconds before the end in which a bid may extend.
    pub window_s: i64,
    /// Seconds that an extension gives.
    pub length_s: i64,
    /// Whether the end becomes the bid's stamp plus the length, or moves by the length.
    #[serde(default = "reset")]
    #[schema(inline)]
    pub mode: OvertimeMode,
    /// Which bids extend.
    #[serde(default = "lead_trigger")]
    #[schema(inline)]
    pub trigger: OvertimeTrigger,
    /// The worst rank that extends, for trigger `rank`.
    #[serde(default = "first_rank")]
    pub rank: i64,
    /// Whether a bidder's first bid extends too.
    #[serde(default)]
    pub first_bid_triggers: bool,
    /// The most extensions.
    #[serde(default)]
    pub max_count: Option<i64>,
    /// The most seconds added altogether.
    #[serde(default)]
    pub max_total_s: Option<i64>,
    /// What is extended.
    #[serde(default = "lot_scope")]
    #[schema(inline)]
    pub scope: OvertimeScope,
}

fn reset() -> OvertimeMode {
    OvertimeMode(OvertimeSpec::default(0, 0).mode)
}
fn lead_trigger() -> OvertimeTrigger {
    OvertimeTrigger(OvertimeSpec::default(0, 0).trigger)
}
fn first_rank() -> i64 {
    OvertimeSpec::default(0, 0).rank
}
fn lot_scope() -> OvertimeScope {
    OvertimeScope(OvertimeSpec::default(0, 0).scope)
}

/// Who sees what.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields, default)]
pub struct VisibilityBody {
    /// Which bidders see the lead price.
    #[schema(inline)]
    pub lead: LeadVisibility,
    /// Whether a bidder sees its own rank.
    pub rank: bool,
    /// Whether all standing prices are shown under bidder numbers.
    pub board: bool,
    /// Whether a traffic light is shown.
    pub light: bool,
    /// Whether adjustments of others are shown.
    pub adjustments: bool,
    /// Whether the number of bidders is shown.
    pub bidder_count: bool,
}

impl Default for VisibilityBody {
    fn default() -> Self {
        Self::from_spec(&VisibilitySpec::default())
    }
}

/// A weighted feature.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct FeatureBody {
    /// Its name.
    pub id: String,
    /// Its largest weight.
    pub max: DecimalText,
}

/// The block of format `dutch`; its last price is the rule `ceiling`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct DutchBody {
    /// The price of step 0.
    pub start: DecimalText,
    /// By how much the price rises.
    pub step: DecimalText,
    /// Seconds a step lasts.
    pub interval_s: i64,
}

/// The block of format `japanese`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct JapaneseBody {
    /// The price of level 0.
    pub start: DecimalText,
    /// By how much the price falls.
    pub step: DecimalText,
    /// Seconds a level lasts.
    pub interval_s: i64,
    /// The price of the last level.
    pub floor: DecimalText,
}

/// The block of format `rounds`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields, default)]
pub struct RoundsBody {
    /// How many rounds.
    pub count: i64,
    /// Seconds of a turn.
    pub turn_s: i64,
    /// Seconds between rounds.
    pub pause_s: i64,
    /// Seconds before the first round.
    pub lead_in_s: i64,
    /// Seconds of the announcement; default `pause_s`.
    pub announce_s: Option<i64>,
}

impl Default for RoundsBody {
    fn default() -> Self {
        Self { count: 3, turn_s: 120, pause_s: 120, lead_in_s: 300, announce_s: None }
    }
}

/// The block of format `sealed`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct SealedBody {
    /// What the winner is paid.
    #[serde(default = "first_price")]
    #[schema(inline)]
    pub pricing: SealedPricing,
}

fn first_price() -> SealedPricing {
    SealedPricing(engine::SealedPricing::First)
}

fn value(text: &Option<DecimalText>) -> Option<Decimal> {
    text.map(|text| text.0)
}

impl RulesBody {
    /// The engine's specification of these rules.
    pub fn to_spec(&self) -> RulesSpec {
        RulesSpec {
            format: self.format.0,
            duration_s: self.duration_s,
            price_scale: self.price_scale,
            ceiling: value(&self.ceiling),
            floor: value(&self.floor),
            reserve: self.reserve.as_ref().map(|r| ReserveSpec { price: r.price.0, shown: r.shown }),
            improvement: self.improvement.0,
            buffer: self.buffer.as_ref().map(|b| BufferSpec { front: b.front.0, back: b.back.0 }),
            decrement: self.decrement.as_ref().map(DecrementBody::to_spec),
            tick: value(&self.tick),
            max_step: value(&self.max_step),
            guard_percent: value(&self.guard_percent),
            tie_rank: self.tie_rank.0,
            tie_free_ranks: self.tie_free_ranks,
            max_bids: self.max_bids,
            min_bidders: self.min_bidders,
            overtime: self.overtime.as_ref().map(OvertimeBody::to_spec),
            visibility: self.visibility.to_spec(),
            near_percent: self.near_percent.0,
            prebid: self.prebid.0,
            auto_bid: self.auto_bid,
            award: self.award.0,
            decision_s: self.decision_s,
            outage_grace_s: self.outage_grace_s,
            max_view_age: self.max_view_age,
            all_or_nothing: self.all_or_nothing,
            features: self.features.iter().map(|f| FeatureSpec { id: f.id.clone(), max: f.max.0 }).collect(),
            max_weight_sum: value(&self.max_weight_sum),
            dutch: self.dutch.as_ref().map(|d| DutchSpec {
                start: d.start.0,
                step: d.step.0,
                interval_s: d.interval_s,
            }),
            japanese: self.japanese.as_ref().map(|j| JapaneseSpec {
                start: j.start.0,
                step: j.step.0,
                interval_s: j.interval_s,
                floor: j.floor.0,
            }),
            rounds: self.rounds.as_ref().map(|r| RoundsSpec {
                count: r.count,
                turn_s: r.turn_s,
                pause_s: r.pause_s,
                lead_in_s: r.lead_in_s,
                announce_s: r.announce_s,
            }),
            sealed: self.sealed.as_ref().map(|s| SealedSpec { pricing: s.pricing.0 }),
        }
    }

    /// The rules exactly as they were sent: what was left out is left out.
    pub fn from_spec(spec: &RulesSpec) -> Self {
        Self {
            format: Format(spec.format),
            duration_s: spec.duration_s,
            price_scale: spec.price_scale,
            ceiling: spec.ceiling.map(DecimalText),
            floor: spec.floor.map(DecimalText),
            reserve: spec.reserve.map(|r| ReserveBody { price: DecimalText(r.price), shown: r.shown }),
            improvement: Improvement(spec.improvement),
            buffer: spec.buffer.map(|b| BufferBody { front: DecimalText(b.front), back: DecimalText(b.back) }),
            decrement: spec.decrement.as_ref().map(DecrementBody::from_spec),
            tick: spec.tick.map(DecimalText),
            max_step: spec.max_step.map(DecimalText),
            guard_percent: spec.guard_percent.map(DecimalText),
            tie_rank: TieRank(spec.tie_rank),
            tie_free_ranks: spec.tie_free_ranks,
            max_bids: spec.max_bids,
            min_bidders: spec.min_bidders,
            overtime: spec.overtime.as_ref().map(OvertimeBody::from_spec),
            visibility: VisibilityBody::from_spec(&spec.visibility),
            near_percent: DecimalText(spec.near_percent),
            prebid: Prebid(spec.prebid),
            auto_bid: spec.auto_bid,
            award: AwardMode(spec.award),
            decision_s: spec.decision_s,
            outage_grace_s: spec.outage_grace_s,
            max_view_age: spec.max_view_age,
            all_or_nothing: spec.all_or_nothing,
            features: spec
                .features
                .iter()
                .map(|f| FeatureBody { id: f.id.clone(), max: DecimalText(f.max) })
                .collect(),
            max_weight_sum: spec.max_weight_sum.map(DecimalText),
            dutch: spec.dutch.map(|d| DutchBody {
                start: DecimalText(d.start),
                step: DecimalText(d.step),
                interval_s: d.interval_s,
            }),
            japanese: spec.japanese.map(|j| JapaneseBody {
                start: DecimalText(j.start),
                step: DecimalText(j.step),
                interval_s: j.interval_s,
                floor: DecimalText(j.floor),
            }),
            rounds: spec.rounds.map(|r| RoundsBody {
                count: r.count,
                turn_s: r.turn_s,
                pause_s: r.pause_s,
                lead_in_s: r.lead_in_s,
                announce_s: r.announce_s,
            }),
            sealed: spec.sealed.map(|s| SealedBody { pricing: SealedPricing(s.pricing) }),
        }
    }

    /// Writes in what depends on the tender where it was left out, and all prices at the lot's scale.
    pub(super) fn fill(&mut self, currency_exponent: u8, open_access: bool) {
        let scale_wanted = self.price_scale.unwrap_or(i64::from(currency_exponent));
        self.price_scale = Some(scale_wanted);
        self.min_bidders.get_or_insert(if open_access { 0 } else { 1 });
        if let Some(rounds) = &mut self.rounds {
            rounds.announce_s.get_or_insert(rounds.pause_s);
        }
        // A scale that is no scale is refused by the engine; until then prices stay as they were sent.
        let Ok(scale) = u8::try_from(scale_wanted) else { return };
        if scale > engine::PRICE_SCALE_MAX {
            return;
        }
        if self.decrement.is_none() && matches!(self.format.0, engine::Format::English | engine::Format::Rounds) {
            self.decrement = Some(DecrementBody::Amount { value: DecimalText(Decimal { mantissa: 1, scale }) });
        }
        let at_scale = |price: &mut DecimalText| price.0 = text::decimal_at(price.0, scale);
        for price in [&mut self.ceiling, &mut self.floor, &mut self.tick, &mut self.max_step] {
            price.iter_mut().for_each(at_scale);
        }
        if let Some(reserve) = &mut self.reserve {
            at_scale(&mut reserve.price);
        }
        if let Some(buffer) = &mut self.buffer {
            at_scale(&mut buffer.front);
            at_scale(&mut buffer.back);
        }
        if let Some(decrement) = &mut self.decrement {
            decrement.at_scale(scale);
        }
        if let Some(dutch) = &mut self.dutch {
            at_scale(&mut dutch.start);
            at_scale(&mut dutch.step);
        }
        if let Some(japanese) = &mut self.japanese {
            at_scale(&mut japanese.start);
            at_scale(&mut japanese.step);
            at_scale(&mut japanese.floor);
        }
    }
}

impl DecrementBody {
    /// The engine's specification of this decrement.
    pub fn to_spec(&self) -> DecrementSpec {
        match self {
            Self::Amount { value } => DecrementSpec::Amount(value.0),
            Self::Percent { value } => DecrementSpec::Percent(value.0),
            Self::Table { rows } => DecrementSpec::Table(
                rows.iter().map(|row| DecrementRow { from: row.from.0, step: row.step.0 }).collect(),
            ),
        }
    }

    /// Writes its amounts with `scale` digits behind the point.
    fn at_scale(&mut self, scale: u8) {
        let at_scale = |price: &mut DecimalText| price.0 = text::decimal_at(price.0, scale);
        match self {
            Self::Amount { value } => at_scale(value),
            Self::Table { rows } => {
                for row in rows {
                    at_scale(&mut row.from);
                    at_scale(&mut row.step);
                }
            }
            Self::Percent { .. } => {}
        }
    }

    /// The least improvement of a lot whose prices have `scale` digits behind the point, as a tender tells it: one unit
    /// where the rules name none.
    pub fn effective(spec: Option<&DecrementSpec>, scale: u8) -> Self {
        let unit = || Self::Amount { value: DecimalText(Decimal { mantissa: 1, scale }) };
        let mut decrement = spec.map_or_else(unit, Self::from_spec);
        decrement.at_scale(scale);
        decrement
    }

    /// The decrement as it was sent.
    pub fn from_spec(spec: &DecrementSpec) -> Self {
        let row =
            |row: &DecrementRow| DecrementRowBody { from: DecimalText(row.from), step: DecimalText(row.step) };
        match spec {
            DecrementSpec::Amount(value) => Self::Amount { value: DecimalText(*value) },
            DecrementSpec::Percent(value) => Self::Percent { value: DecimalText(*value) },
            DecrementSpec::Table(rows) => Self::Table { rows: rows.iter().map(row).collect() },
        }
    }
}

impl OvertimeBody {
    fn to_spec(&self) -> OvertimeSpec {
        OvertimeSpec {
            window_s: self.window_s,
            length_s: self.length_s,
            mode: self.mode.0,
            trigger: self.trigger.0,
            rank: self.rank,
            first_bid_triggers: self.first_bid_triggers,
            max_count: self.max_count,
            max_total_s: self.max_total_s,
            scope: self.scope.0,
        }
    }

    fn from_spec(spec: &OvertimeSpec) -> Self {
        Self {
            window_s: spec.window_s,
            length_s: spec.length_s,
            mode: OvertimeMode(spec.mode),
            trigger: OvertimeTrigger(spec.trigger),
            rank: spec.rank,
            first_bid_triggers: spec.first_bid_triggers,
            max_count: spec.max_count,
            max_total_s: spec.max_total_s,
            scope: OvertimeScope(spec.scope),
        }
    }
}

impl VisibilityBody {
    fn to_spec(&self) -> VisibilitySpec {
        VisibilitySpec {
            lead: self.lead.0,
            rank: self.rank,
            board: self.board,
            light: self.light,
            adjustments: self.adjustments,
            bidder_count: self.bidder_count,
        }
    }

    fn from_spec(spec: &VisibilitySpec) -> Self {
        Self {
            lead: LeadVisibility(spec.lead),
            rank: spec.rank,
            board: spec.board,
            light: spec.light,
            adjustments: spec.adjustments,
            bidder_count: spec.bidder_count,
        }
    }
}
