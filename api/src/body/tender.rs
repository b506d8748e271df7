//! A tender as JSON, and its way to and from the engine's specification.

use engine::{Decimal, LotSpec, TenderSpec};
use serde::{Deserialize, Deserializer, Serialize};
use serde_json::Value;
use utoipa::ToSchema;

use super::parse::{BodyError, parse, parse_value};
use super::patch::merge_patch;
use super::rules::RulesBody;
use super::scalar::{Access, DecimalText, LotMode, TimeText};

/// A tender as its buyer describes it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct TenderBody {
    /// At most 200 characters.
    pub title: String,
    /// At most 10 000 characters.
    #[serde(default)]
    pub description: String,
    /// The buyer's own reference, at most 200 characters.
    #[serde(default)]
    pub reference: String,
    /// ISO 4217 code.
    pub currency: String,
    /// Who may become a bidder.
    #[serde(default = "invited")]
    #[schema(inline)]
    pub access: Access,
    /// Whether anybody may watch.
    #[serde(default)]
    pub public: bool,
    /// When the tender opens; absent: the buyer starts it by hand.
    #[serde(default)]
    pub opens_at: Option<TimeText>,
    /// The terms a bidder accepts by joining.
    #[serde(default)]
    pub terms: Option<String>,
    /// How the lots open and close together.
    #[serde(default = "parallel")]
    #[schema(inline)]
    pub lot_mode: LotMode,
    /// Seconds between the ends of staggered lots.
    #[serde(default)]
    pub stagger_s: i64,
    /// Whether overtime moves the ends of the later staggered lots too.
    #[serde(default = "yes")]
    pub stagger_follows: bool,
    /// Seconds between serial lots.
    #[serde(default)]
    pub serial_gap_s: i64,
    /// Whether the buyer learns only after the close who bid.
    #[serde(default)]
    pub anonymous_to_buyer: bool,
    /// 1 to 500 lots; the number of a lot is its place, from 1.
    pub lots: Vec<LotBody>,
}

fn invited() -> Access {
    Access(engine::Access::Invited)
}
fn parallel() -> LotMode {
    LotMode(engine::LotMode::Parallel)
}
fn yes() -> bool {
    true
}

/// A lot as its buyer describes it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct LotBody {
    /// How a rehearsal names the lot; no field of `/v1`.
    #[serde(default, deserialize_with = "present", skip_serializing)]
    #[schema(ignore)]
    pub alias: Option<Option<String>>,
    /// At most 200 characters.
    pub title: String,
    /// At most 100 items.
    #[serde(default)]
    pub items: Vec<ItemBody>,
    /// The rules.
    pub rules: RulesBody,
}

/// Tells a member that is `null` from one that is not there.
fn present<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Option<String>>, D::Error> {
    Option::deserialize(deserializer).map(Some)
}

/// One item of a lot.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct ItemBody {
    /// What it is.
    pub description: String,
    /// How much of it.
    #[serde(default = "one")]
    pub quantity: DecimalText,
    /// Counted in what.
    #[serde(default)]
    pub unit: String,
}

fn one() -> DecimalText {
    DecimalText(Decimal { mantissa: 1, scale: 0 })
}

/// Digits behind the point of a currency; 2 where ISO 4217 is silent or the code is unknown.
pub fn currency_exponent(code: &str) -> u8 {
    let known = iso_currency::Currency::from_code(code).and_then(|currency| currency.exponent());
    known.and_then(|digits| u8::try_from(digits).ok()).unwrap_or(2)
}

impl TenderBody {
    /// Reads the body of a new tender.
    pub fn parse(bytes: &[u8]) -> Result<Self, BodyError> {
        parse::<Self>(bytes)?.without_aliases()
    }

    /// Applies a merge patch to a tender's specification.
    ///
    /// What the buyer left out stays left out, so that its default follows what the patch changes.
    pub fn patch(spec: &TenderSpec, patch: &[u8]) -> Result<Self, BodyError> {
        let patch: Value = parse(patch)?;
        if !patch.is_object() {
            return Err(BodyError::Malformed {
                pointer: String::new(),
                detail: "a merge patch is an object".to_owned(),
            });
        }
        let target = serde_json::to_value(Self::from_spec(spec)).expect("a body is JSON");
        parse_value::<Self>(merge_patch(target, patch))?.without_aliases()
    }

    fn without_aliases(self) -> Result<Self, BodyError> {
        match self.lots.iter().position(|lot| lot.alias.is_some()) {
            Some(place) => Err(BodyError::UnknownField { pointer: format!("/lots/{place}/alias") }),
            None => Ok(self),
        }
    }

    /// The engine's specification of this tender.
    pub fn to_spec(&self) -> TenderSpec {
        TenderSpec {
            title: self.title.clone(),
            description: self.description.clone(),
            reference: self.reference.clone(),
            currency: self.currency.clone(),
            currency_exponent: currency_exponent(&self.currency),
            access: self.access.0,
            public: self.public,
            opens_at: self.opens_at.map(|time| time.0),
            terms: self.terms.clone(),
            lot_mode: self.lot_mode.0,
            stagger_s: self.stagger_s,
            stagger_follows: self.stagger_follows,
            serial_gap_s: self.serial_gap_s,
            anonymous_to_buyer: self.anonymous_to_buyer,
            lots: self.lots.iter().map(LotBody::to_spec).collect(),
        }
    }

    /// The tender exactly as it was sent: what was left out is left out.
    pub fn from_spec(spec: &TenderSpec) -> Self {
        Self {
            title: spec.title.clone(),
            description: spec.description.clone(),
            reference: spec.reference.clone(),
            currency: spec.currency.clone(),
            access: Access(spec.access),
            public: spec.public,
            opens_at: spec.opens_at.map(TimeText),
            terms: spec.terms.clone(),
            lot_mode: LotMode(spec.lot_mode),
            stagger_s: spec.stagger_s,
            stagger_follows: spec.stagger_follows,
            serial_gap_s: spec.serial_gap_s,
            anonymous_to_buyer: spec.anonymous_to_buyer,
            lots: spec.lots.iter().map(LotBody::from_spec).collect(),
        }
    }

    /// The tender as an answer tells it: every rule with its default, prices at the lot's scale.
    pub fn filled(spec: &TenderSpec) -> Self {
        let mut body = Self::from_spec(spec);
        for lot in &mut body.lots {
            lot.rules.fill(spec.currency_exponent, spec.access == engine::Access::Open);
        }
        body
    }

    /// Takes out the reserves that only the buyer may see.
    pub fn hide_reserves(&mut self) {
        for lot in &mut self.lots {
            if lot.rules.reserve.as_ref().is_some_and(|reserve| !reserve.shown) {
                lot.rules.reserve = None;
            }
        }
    }
}

impl LotBody {
    /// How a rehearsal names the lot.
    pub fn alias(&self) -> Option<&str> {
        self.alias.as_ref()?.as_deref()
    }

    fn to_spec(&self) -> LotSpec {
        let item = |item: &ItemBody| engine::Item {
            description: item.description.clone(),
            quantity: item.quantity.0,
            unit: item.unit.clone(),
        };
        LotSpec {
            title: self.title.clone(),
            items: self.items.iter().map(item).collect(),
            rules: self.rules.to_spec(),
        }
    }

    fn from_spec(spec: &LotSpec) -> Self {
        let item = |item: &engine::Item| ItemBody {
            description: item.description.clone(),
            quantity: DecimalText(item.quantity),
            unit: item.unit.clone(),
        };
        Self {
            alias: None,
            title: spec.title.clone(),
            items: spec.items.iter().map(item).collect(),
            rules: RulesBody::from_spec(&spec.rules),
        }
    }
}

#[cfg(test)]
#[path = "tender_tests.rs"]
mod tests;
