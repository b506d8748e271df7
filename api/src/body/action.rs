//! The bodies of actions: admissions, bids, limits, awards, and everything that carries a reason.

use engine::{Action, AdjustmentSpec, FeatureValue, LotId, TenderId};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::scalar::{DecimalText, IdText, LotRef, TimeText, nullable};

/// An action without a body of its own.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct EmptyBody {}

/// An action that carries a reason; which ones need it is a rule (`reason_required`).
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct ReasonBody {
    /// Why.
    #[serde(default)]
    pub reason: Option<String>,
}

/// The body of a void.
pub type VoidBody = ReasonBody;

/// More time for one lot, or for all that are open or paused.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct ExtendBody {
    /// The lot; absent: all that are open or paused.
    #[serde(default)]
    pub lot: Option<LotRef>,
    /// How many seconds, from 1.
    pub seconds: i64,
    /// Why.
    #[serde(default)]
    pub reason: Option<String>,
}

/// A supplier is admitted, or its adjustments are replaced.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct AdmitBody {
    /// The supplier's organisation.
    pub organisation: IdText,
    /// How its prices are adjusted.
    #[serde(default)]
    pub adjustments: Vec<AdjustmentBody>,
    /// The weights it won.
    #[serde(default)]
    pub features: Vec<FeatureValueBody>,
}

/// What an admission says about prices; the body of `admit` in a rehearsal.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ScoringBody {
    /// How the bidder's prices are adjusted.
    #[serde(default)]
    pub adjustments: Vec<AdjustmentBody>,
    /// The weights it won.
    #[serde(default)]
    pub features: Vec<FeatureValueBody>,
}

/// How a bidder's prices are adjusted in a lot: effective = price × factor + addend.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct AdjustmentBody {
    /// The lot.
    pub lot: LotRef,
    /// `"19/17"` or `"0.5"`; absent: 1.
    #[serde(default)]
    pub factor: Option<String>,
    /// Added to the price; absent: 0.
    #[serde(default)]
    pub addend: Option<DecimalText>,
}

impl AdjustmentBody {
    /// The engine's specification; `lot` turns a lot's name into its number.
    pub fn to_spec(&self, lot: impl Fn(&LotRef) -> i64) -> AdjustmentSpec {
        AdjustmentSpec {
            lot: lot(&self.lot),
            factor: self.factor.clone(),
            addend: self.addend.map(|addend| addend.0),
        }
    }
}

/// The weight a bidder won in a feature.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct FeatureValueBody {
    /// The lot.
    pub lot: LotRef,
    /// The feature.
    pub id: String,
    /// The weight.
    pub value: DecimalText,
}

impl FeatureValueBody {
    /// The engine's specification; `lot` turns a lot's name into its number.
    pub fn to_spec(&self, lot: impl Fn(&LotRef) -> i64) -> FeatureValue {
        FeatureValue { lot: lot(&self.lot), id: self.id.clone(), value: self.value.0 }
    }
}

impl AdmitBody {
    /// The adjustments and features as the engine takes them.
    pub fn scoring(&self, tender: TenderId) -> (Vec<AdjustmentSpec>, Vec<FeatureValue>) {
        let number = |lot: &LotRef| lot.number(tender);
        (
            self.adjustments.iter().map(|adjustment| adjustment.to_spec(number)).collect(),
            self.features.iter().map(|feature| feature.to_spec(number)).collect(),
        )
    }
}

/// A bid.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct BidBody {
    /// The price; `null` withdraws, where the format knows turns.
    #[serde(deserialize_with = "nullable")]
    #[schema(required)]
    pub price: Option<DecimalText>,
    /// Whether a large drop is meant.
    #[serde(default)]
    pub confirm: bool,
    /// Not to be taken after this time, at most 60 s ahead.
    #[serde(default)]
    pub expires_at: Option<TimeText>,
    /// The last step the bidder saw.
    #[serde(default)]
    pub seen_seq: Option<u64>,
    /// A secret limit left with the bid.
    #[serde(default)]
    pub auto_limit: Option<DecimalText>,
    /// Whether the bid is bound to the bidder's bids in other lots.
    #[serde(default)]
    pub all_or_nothing: Option<bool>,
}

impl BidBody {
    /// The command that it is, whatever door it came through.
    pub fn action(&self, lot: LotId) -> Action {
        Action::Bid {
            lot,
            price: self.price.map(|price| price.0),
            confirm: self.confirm,
            expires_at: self.expires_at.map(|at| at.0),
            seen_seq: self.seen_seq,
            auto_limit: self.auto_limit.map(|limit| limit.0),
            all_or_nothing: self.all_or_nothing,
        }
    }
}

/// A secret limit.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct AutoBidBody {
    /// The limit.
    pub limit: DecimalText,
}

/// Acceptance of a step or level.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct AcceptBody {
    /// The step or level that was seen.
    pub step: u64,
}

impl AcceptBody {
    /// The command that it is, whatever door it came through.
    pub fn action(&self, lot: LotId) -> Action {
        Action::Accept { lot, step: self.step }
    }
}

/// An award, or the rejection of a bidder after the close.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct AwardBody {
    /// The bidder's number.
    pub bidder: i64,
    /// Why; needed for another than the first in order.
    #[serde(default)]
    pub reason: Option<String>,
}
