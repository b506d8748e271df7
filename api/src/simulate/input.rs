//! The lines of a scenario, read strictly: a field that a line does not know cannot be read.

use serde::Deserialize;
use serde::de::{DeserializeOwned, Deserializer, IgnoredAny};
use serde_json::Value;

use crate::body::{BodyError, DecimalText, ScoringBody, TimeText, parse};

/// What every line begins with.
#[derive(Deserialize)]
pub struct Head {
    pub at: TimeText,
    #[serde(rename = "do")]
    pub kind: String,
}

/// A line by its kind.
pub enum Line {
    Create(CreateLine),
    Tender(TenderKind, TenderLine),
    Admit(ScoringLine),
    Lot(LotKind, LotLine),
    Outage(Outage),
    End,
}

/// What a buyer does to a tender.
#[derive(Clone, Copy)]
pub enum TenderKind {
    Publish,
    Start,
    Pause,
    Resume,
    Cancel,
    Extend,
    Disqualify,
}

/// What is done in a lot.
#[derive(Clone, Copy)]
pub enum LotKind {
    Bid,
    AutoBid,
    Accept,
    Void,
    Award,
    AwardReject,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CreateLine {
    #[serde(rename = "at")]
    _at: IgnoredAny,
    #[serde(rename = "do")]
    _kind: IgnoredAny,
    pub tender: String,
    pub body: Value,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TenderLine {
    #[serde(rename = "at")]
    _at: IgnoredAny,
    #[serde(rename = "do")]
    _kind: IgnoredAny,
    pub tender: String,
    #[serde(default)]
    pub reason: Option<String>,
    #[serde(default)]
    pub lot: Option<String>,
    #[serde(default)]
    pub seconds: Option<i64>,
    #[serde(default)]
    pub bidder: Option<String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ScoringLine {
    #[serde(rename = "at")]
    _at: IgnoredAny,
    #[serde(rename = "do")]
    _kind: IgnoredAny,
    pub tender: String,
    pub bidder: String,
    #[serde(default)]
    pub body: Option<ScoringBody>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LotLine {
    #[serde(rename = "at")]
    _at: IgnoredAny,
    #[serde(rename = "do")]
    _kind: IgnoredAny,
    pub lot: String,
    pub bidder: String,
    #[serde(default)]
    pub reason: Option<String>,
    #[serde(default)]
    pub price: Named<DecimalText>,
    #[serde(default)]
    pub confirm: bool,
    #[serde(default)]
    pub expires_at: Option<TimeText>,
    #[serde(default)]
    pub seen_seq: Option<u64>,
    #[serde(default)]
    pub auto_limit: Option<DecimalText>,
    #[serde(default)]
    pub all_or_nothing: Option<bool>,
    #[serde(default)]
    pub limit: Named<DecimalText>,
    #[serde(default)]
    pub step: Option<u64>,
}

/// A member that may be `null` but must be named; the second part tells whether it was.
pub struct Named<T>(pub Option<T>, pub bool);

impl<T> Default for Named<T> {
    fn default() -> Self {
        Self(None, false)
    }
}

impl<'de, T: Deserialize<'de>> Deserialize<'de> for Named<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Ok(Self(Option::deserialize(deserializer)?, true))
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Outage {
    #[serde(rename = "at")]
    _at: IgnoredAny,
    #[serde(rename = "do")]
    _kind: IgnoredAny,
    pub seconds: Seconds,
}

/// How long an outage lasts: whole seconds, from 1 to a year.
#[derive(Deserialize)]
#[serde(try_from = "i64")]
pub struct Seconds(pub i64);

impl TryFrom<i64> for Seconds {
    type Error = String;

    fn try_from(seconds: i64) -> Result<Self, String> {
        if (1..=31_536_000).contains(&seconds) {
            Ok(Self(seconds))
        } else {
            Err("an outage lasts 1 to 31536000 seconds".to_owned())
        }
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct EndLine {
    #[serde(rename = "at")]
    _at: IgnoredAny,
    #[serde(rename = "do")]
    _kind: IgnoredAny,
}

/// Reads a line, or says why it cannot be read.
pub fn read<T: DeserializeOwned>(text: &str) -> Result<T, String> {
    parse(text.as_bytes()).map_err(|error| match &error {
        BodyError::Malformed { pointer, detail } if pointer.is_empty() => detail.clone(),
        _ => error.to_string(),
    })
}

impl Line {
    /// Reads the line of kind `kind`.
    pub fn read(kind: &str, text: &str) -> Result<Self, String> {
        let tender =
            |kind| read(text).and_then(|line| TenderLine::check(line, kind)).map(|line| Self::Tender(kind, line));
        let lot = |kind| read(text).and_then(|line| LotLine::check(line, kind)).map(|line| Self::Lot(kind, line));
        match kind {
            "create_tender" => Ok(Self::Create(read(text)?)),
            "publish" => tender(TenderKind::Publish),
            "start" => tender(TenderKind::Start),
            "pause" => tender(TenderKind::Pause),
            "resume" => tender(TenderKind::Resume),
            "cancel" => tender(TenderKind::Cancel),
            "extend" => tender(TenderKind::Extend),
            "disqualify" => tender(TenderKind::Disqualify),
            "admit" => Ok(Self::Admit(read(text)?)),
            "bid" => lot(LotKind::Bid),
            "auto_bid" => lot(LotKind::AutoBid),
            "accept" => lot(LotKind::Accept),
            "void" => lot(LotKind::Void),
            "award" => lot(LotKind::Award),
            "award_reject" => lot(LotKind::AwardReject),
            "outage" => Ok(Self::Outage(read(text)?)),
            "end" => read::<EndLine>(text).map(|_| Self::End),
            other => Err(format!("/do: there is no {other:?}")),
        }
    }
}

/// Says which field a kind of line misses, or has without knowing it.
fn fields(fields: &[(&str, bool, bool)]) -> Result<(), String> {
    for (name, given, known) in fields {
        if *given && !*known {
            return Err(format!("/{name}: there is no such field in this kind of line"));
        }
    }
    Ok(())
}

impl TenderLine {
    fn check(self, kind: TenderKind) -> Result<Self, String> {
        let extends = matches!(kind, TenderKind::Extend);
        let disqualifies = matches!(kind, TenderKind::Disqualify);
        fields(&[
            ("lot", self.lot.is_some(), extends),
            ("seconds", self.seconds.is_some(), extends),
            ("bidder", self.bidder.is_some(), disqualifies),
        ])?;
        if extends && self.seconds.is_none() {
            return Err("/seconds: missing field `seconds`".to_owned());
        }
        if disqualifies && self.bidder.is_none() {
            return Err("/bidder: missing field `bidder`".to_owned());
        }
        Ok(self)
    }
}

impl LotLine {
    fn check(self, kind: LotKind) -> Result<Self, String> {
        let bids = matches!(kind, LotKind::Bid);
        let buyer = matches!(kind, LotKind::Void | LotKind::Award | LotKind::AwardReject);
        fields(&[
            ("price", self.price.1, bids),
            ("confirm", self.confirm, bids),
            ("expires_at", self.expires_at.is_some(), bids),
            ("seen_seq", self.seen_seq.is_some(), bids),
            ("auto_limit", self.auto_limit.is_some(), bids),
            ("all_or_nothing", self.all_or_nothing.is_some(), bids),
            ("limit", self.limit.1, matches!(kind, LotKind::AutoBid)),
            ("step", self.step.is_some(), matches!(kind, LotKind::Accept)),
            ("reason", self.reason.is_some(), buyer),
        ])?;
        let missing = match kind {
            LotKind::Bid if !self.price.1 => "price",
            LotKind::AutoBid if !self.limit.1 => "limit",
            LotKind::Accept if self.step.is_none() => "step",
            _ => return Ok(self),
        };
        Err(format!("/{missing}: missing field `{missing}`"))
    }
}
