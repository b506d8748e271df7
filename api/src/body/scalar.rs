//! The scalars of the bodies: decimal strings, times, ids, words, and lots as a buyer names them.

use std::fmt;

use engine::{Decimal, LogTime, LotId, TenderId};
use serde::de::{Error, Unexpected, Visitor};
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use utoipa::openapi::RefOr;
use utoipa::openapi::schema::{ObjectBuilder, Schema, Type};
use utoipa::{PartialSchema, ToSchema};

use crate::text;

/// How the message of an unknown word begins; its valid words follow behind a line break.
pub(super) const UNKNOWN_WORD: &str = "unknown word: ";

/// A decimal number in a JSON string, `"419.50"`. A JSON number is malformed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DecimalText(pub Decimal);

impl Serialize for DecimalText {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(&self.0)
    }
}

/// Reads a string and turns it into a value, or says what was expected.
struct StringVisitor<T>(&'static str, fn(&str) -> Option<T>);

impl<T> Visitor<'_> for StringVisitor<T> {
    type Value = T;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.0)
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<T, E> {
        (self.1)(text).ok_or_else(|| E::invalid_value(Unexpected::Str(text), &self))
    }
}

impl<'de> Deserialize<'de> for DecimalText {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let read = |text: &str| Decimal::parse(text).map(DecimalText);
        deserializer.deserialize_str(StringVisitor("a decimal string such as \"419.50\"", read))
    }
}

impl PartialSchema for DecimalText {
    fn schema() -> RefOr<Schema> {
        let pattern = r"^-?[0-9]+(\.[0-9]+)?$";
        let schema = ObjectBuilder::new().schema_type(Type::String).pattern(Some(pattern)).max_length(Some(64));
        schema.description(Some("A decimal number in a string.")).examples(["419.50"]).into()
    }
}
impl ToSchema for DecimalText {}

/// A time: RFC 3339 with any offset, cut to milliseconds; written in UTC with three decimals.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TimeText(pub LogTime);

impl Serialize for TimeText {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(&text::TimeDisplay(self.0))
    }
}

impl<'de> Deserialize<'de> for TimeText {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let read = |text: &str| text::parse_time(text).map(TimeText);
        deserializer.deserialize_str(StringVisitor("an RFC 3339 time such as \"2026-01-29T13:00:00.000Z\"", read))
    }
}

impl PartialSchema for TimeText {
    fn schema() -> RefOr<Schema> {
        let format = utoipa::openapi::SchemaFormat::KnownFormat(utoipa::openapi::KnownFormat::DateTime);
        let schema = ObjectBuilder::new().schema_type(Type::String).format(Some(format));
        schema.examples(["2026-01-29T13:00:00.000Z"]).into()
    }
}
impl ToSchema for TimeText {}

/// An id as text. What is no id at all is read as one that does not exist: ids are opaque to clients.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct IdText(pub u128);

impl Serialize for IdText {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&text::id(self.0))
    }
}

impl<'de> Deserialize<'de> for IdText {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let read = |text: &str| Some(IdText(text::parse_id(text).unwrap_or(0)));
        deserializer.deserialize_str(StringVisitor("an id", read))
    }
}

impl PartialSchema for IdText {
    fn schema() -> RefOr<Schema> {
        ObjectBuilder::new().schema_type(Type::String).description(Some("An opaque id.")).into()
    }
}
impl ToSchema for IdText {}

/// A lot as a buyer names it inside its tender: by number, or by id (in rehearsals by alias).
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(untagged)]
pub enum LotRef {
    /// By number, from 1; also one that cannot exist.
    Number(i64),
    /// By id or alias.
    Name(String),
}

impl LotRef {
    /// The lot's number inside `tender`; 0, which is no lot, for the id of a lot elsewhere or no id at all.
    pub fn number(&self, tender: TenderId) -> i64 {
        match self {
            Self::Number(number) => *number,
            Self::Name(name) => match text::parse_id(name).map(LotId) {
                Some(lot) if lot.tender() == tender => i64::from(lot.number()),
                _ => 0,
            },
        }
    }
}

impl<'de> Deserialize<'de> for LotRef {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct LotVisitor;
        impl Visitor<'_> for LotVisitor {
            type Value = LotRef;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a lot's number or id")
            }
            fn visit_i64<E: Error>(self, number: i64) -> Result<LotRef, E> {
                Ok(LotRef::Number(number))
            }
            fn visit_u64<E: Error>(self, number: u64) -> Result<LotRef, E> {
                Ok(LotRef::Number(i64::try_from(number).unwrap_or(i64::MAX)))
            }
            fn visit_str<E: Error>(self, name: &str) -> Result<LotRef, E> {
                Ok(LotRef::Name(name.to_owned()))
            }
        }
        deserializer.deserialize_any(LotVisitor)
    }
}

impl PartialSchema for LotRef {
    fn schema() -> RefOr<Schema> {
        let types = utoipa::openapi::schema::SchemaType::from_iter([Type::Integer, Type::String]);
        ObjectBuilder::new().schema_type(types).description(Some("A lot of the tender, by number or id.")).into()
    }
}
impl ToSchema for LotRef {}

/// Words of the engine as JSON strings; an unknown one is an error that tells the known ones.
macro_rules! words {
    ($($(#[$doc:meta])* $name:ident;)*) => {$(
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub struct $name(pub engine::$name);

        impl Serialize for $name {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.serialize_str(self.0.word())
            }
        }

        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                let word = deserializer.deserialize_str(StringVisitor("a word", |text| Some(text.to_owned())))?;
                match engine::$name::from_word(&word) {
                    Some(known) => Ok(Self(known)),
                    None => Err(unknown_word(&word, engine::$name::WORDS)),
                }
            }
        }

        impl PartialSchema for $name {
            fn schema() -> RefOr<Schema> {
                word_schema(engine::$name::WORDS)
            }
        }
        impl ToSchema for $name {}
    )*};
}

pub(super) fn unknown_word<E: Error>(word: &str, known: &[&str]) -> E {
    let shown: String = word.chars().take(40).collect();
    E::custom(format_args!("{UNKNOWN_WORD}{shown:?} is not one of the valid words\n{}", known.join(", ")))
}

pub(super) fn word_schema(words: &'static [&'static str]) -> RefOr<Schema> {
    ObjectBuilder::new().schema_type(Type::String).enum_values(Some(words.iter().copied())).into()
}

words! {
    /// Who may become a bidder.
    Access;
    /// How the lots of a tender open and close together.
    LotMode;
    /// The format of a lot.
    Format;
    /// What a bid must beat.
    Improvement;
    /// The rank that is shown to tied bidders.
    TieRank;
    /// When overtime moves the end.
    OvertimeMode;
    /// Which bids inside the window extend.
    OvertimeTrigger;
    /// What overtime extends.
    OvertimeScope;
    /// Which bidders see the lead price.
    LeadVisibility;
    /// Whether bids may be left before the opening.
    Prebid;
    /// How a closed lot is awarded.
    AwardMode;
    /// What the winner of a sealed lot is paid.
    SealedPricing;
}

/// Reads a member that must be there but may be `null`.
pub(super) fn nullable<'de, T: Deserialize<'de>, D: Deserializer<'de>>(
    deserializer: D,
) -> Result<Option<T>, D::Error> {
    Option::deserialize(deserializer)
}
