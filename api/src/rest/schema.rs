//! The shapes of `/v1` that are not those of tenders, lots or bids: bodies and answers of accounts, lists, problems.
//! The OpenAPI document is made from them, so their names and comments are part of it. Decides nothing.

use engine::{OrganisationKind, Role};
use serde::de::Error;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use serde_json::{Value, json};
use utoipa::openapi::schema::{ObjectBuilder, Type};
use utoipa::openapi::{RefOr, Schema};
use utoipa::{PartialSchema, ToSchema};

use crate::body::{DecimalText, IdText, TimeText};
use crate::render::BidLine;

/// A word of a fixed list, as JSON reads and writes it.
macro_rules! word {
    ($(#[$doc:meta])* $name:ident, $engine:ty, [$($word:literal),*]) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub struct $name(pub $engine);

        impl Serialize for $name {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.serialize_str(self.0.word())
            }
        }

        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                let word = String::deserialize(deserializer)?;
                Self::parse(&word).ok_or_else(|| D::Error::custom(concat!("not one of", $(" ", $word),*)))
            }
        }

        impl PartialSchema for $name {
            fn schema() -> RefOr<Schema> {
                ObjectBuilder::new().schema_type(Type::String).enum_values(Some([$($word),*])).into()
            }
        }
        impl ToSchema for $name {}
    };
}

word!(
    /// What an organisation does.
    KindWord, OrganisationKind, ["buyer", "supplier", "both"]
);
word!(
    /// What a person may do in its organisation.
    RoleWord, Role, ["admin", "trader", "auditor"]
);

/// A person signs up with a new organisation.
#[derive(Clone, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct RegisterBody {
    /// E-mail address; lower case counts.
    pub email: String,
    /// 6 to 1 024 characters.
    pub password: String,
    /// At most 200 characters.
    pub name: String,
    /// The new organisation.
    pub organisation: OrganisationBody,
}

/// A new organisation.
#[derive(Clone, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct OrganisationBody {
    /// At most 200 characters.
    pub name: String,
    /// What it does.
    #[schema(inline)]
    pub kind: KindWord,
}

/// A person signs in.
#[derive(Clone, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct TokenBody {
    /// E-mail address.
    pub email: String,
    /// Password.
    pub password: String,
}

/// A refresh token is exchanged.
#[derive(Clone, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct RefreshBody {
    /// The token; it works once.
    pub refresh_token: String,
}

/// A new member.
#[derive(Clone, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct MemberBody {
    /// E-mail address.
    pub email: String,
    /// At most 200 characters.
    pub name: String,
    /// What it may do.
    #[schema(inline)]
    pub role: RoleWord,
    /// 6 to 1 024 characters; absent: one is made and told in the answer.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub password: Option<String>,
}

/// A person.
#[derive(Serialize, ToSchema)]
pub struct UserAnswer {
    /// Its id.
    pub id: IdText,
    /// E-mail address.
    pub email: String,
    /// Name.
    pub name: String,
}

/// An organisation.
#[derive(Serialize, ToSchema)]
pub struct Organisation {
    /// Its id.
    pub id: IdText,
    /// Its name.
    pub name: String,
    /// What it does.
    #[schema(inline)]
    pub kind: KindWord,
}

/// Who signed up.
#[derive(Serialize, ToSchema)]
pub struct Registered {
    /// The person.
    pub user: UserAnswer,
    /// Its organisation.
    pub organisation: Organisation,
}

/// What a person signs its requests with.
#[derive(Serialize, ToSchema)]
pub struct Tokens {
    /// Goes into `Authorization: Bearer …`.
    pub access_token: String,
    /// Always `Bearer`.
    pub token_type: String,
    /// Seconds until the access token ends.
    pub expires_in: i64,
    /// Works once.
    pub refresh_token: String,
}

/// The person that a token is about.
#[derive(Serialize, ToSchema)]
pub struct Me {
    /// The person.
    pub user: UserAnswer,
    /// Its organisation.
    pub organisation: Organisation,
    /// What it may do.
    #[schema(inline)]
    pub role: RoleWord,
    /// The same as a list.
    #[schema(inline)]
    pub roles: Vec<RoleWord>,
}

/// A member of an organisation.
#[derive(Serialize, ToSchema)]
pub struct Member {
    /// The person's id.
    pub id: IdText,
    /// E-mail address.
    pub email: String,
    /// Name.
    pub name: String,
    /// What it may do.
    #[schema(inline)]
    pub role: RoleWord,
    /// What it signs in with first; only in the answer that added it, and only without a password of its own.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub initial_password: Option<String>,
}

/// A set of public keys.
#[derive(Serialize, ToSchema)]
pub struct Jwks {
    /// The keys.
    pub keys: Vec<Jwk>,
}

/// A public key.
#[derive(Serialize, ToSchema)]
pub struct Jwk {
    /// Always `OKP`.
    pub kty: String,
    /// Always `Ed25519`.
    pub crv: String,
    /// Always `sig`.
    #[serde(rename = "use")]
    pub usage: String,
    /// Always `EdDSA`.
    pub alg: String,
    /// The key's id in token headers.
    pub kid: String,
    /// The key.
    pub x: String,
}

/// A bidder of a tender.
#[derive(Serialize, ToSchema)]
pub struct Bidder {
    /// The bidder's id.
    pub id: IdText,
    /// Its number in the tender; the buyer sees it from the opening on.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub number: Option<u16>,
    /// Its organisation.
    pub organisation: IdText,
    /// `invited`, `admitted` or `disqualified`.
    pub status: String,
    /// How its prices are adjusted, where they are; for the bidder itself, and in the buyer's list.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub adjustments: Option<Vec<Adjustment>>,
    /// The organisation's name; in lists.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// When it was admitted; in lists.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub admitted_at: Option<TimeText>,
}

/// How a bidder's prices are adjusted in a lot: effective = price × factor + addend.
#[derive(Serialize, ToSchema)]
pub struct Adjustment {
    /// The lot's number.
    pub lot: u16,
    /// A whole number or a fraction, in lowest terms.
    pub factor: String,
    /// At the lot's scale.
    pub addend: DecimalText,
}

/// A tender in a list.
#[derive(Serialize, ToSchema)]
pub struct TenderLine {
    /// Its id.
    pub id: IdText,
    /// The buyer's organisation.
    pub buyer: IdText,
    /// Its title.
    pub title: String,
    /// The buyer's own reference.
    pub reference: String,
    /// ISO 4217 code.
    pub currency: String,
    /// `invited` or `open`.
    pub access: String,
    /// Whether anybody may watch.
    pub public: bool,
    /// Its stage.
    pub stage: String,
    /// Counts its changes of specification and stage.
    pub version: u32,
    /// When it was made.
    pub created_at: TimeText,
    /// When it opens or opened.
    pub opens_at: Option<TimeText>,
    /// Its lots.
    pub lots: Vec<LotLine>,
}

/// A lot in a list of tenders.
#[derive(Serialize, ToSchema)]
pub struct LotLine {
    /// Its id.
    pub id: IdText,
    /// Its number in the tender.
    pub number: u16,
    /// Its title.
    pub title: String,
    /// Its format.
    pub format: String,
    /// Its stage.
    pub stage: String,
    /// When it opens or opened.
    pub opens_at: Option<TimeText>,
    /// When it ends.
    pub closes_at: Option<TimeText>,
}

/// A voided bid.
#[derive(Serialize, ToSchema)]
pub struct Voided {
    /// The bid.
    pub bid: IdText,
    /// The lot.
    pub lot: IdText,
    /// The number of its bidder.
    pub bidder: u16,
    /// Its price.
    pub price: DecimalText,
    /// Always `voided`.
    pub status: String,
    /// The step at which it went.
    pub seq: u64,
    /// When.
    pub at: TimeText,
}

/// A lot after an award or a rejection.
#[derive(Serialize, ToSchema)]
pub struct Award {
    /// The lot.
    pub lot: IdText,
    /// Its stage.
    pub stage: String,
    /// Who was awarded or passed by.
    pub bidder: u16,
    /// What the winner is paid; null after a rejection.
    pub pays: Option<DecimalText>,
    /// The step at which it happened.
    pub seq: u64,
    /// When.
    pub at: TimeText,
}

/// The steps of a lot behind a position.
#[derive(Serialize, ToSchema)]
pub struct Events {
    /// The lot.
    pub lot: IdText,
    /// The id of the history.
    pub epoch: String,
    /// The step of the last item, or at which the lot stands: the next `after`.
    pub seq: u64,
    /// False when steps behind the position are gone; then `snap` says how the lot stands.
    pub recovered: bool,
    /// The steps, oldest first, as the feed's `upd`.
    pub items: Vec<crate::render::UpdateBody>,
    /// How the lot stands, when steps are gone.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub snap: Option<crate::render::SnapBody>,
}

/// Commands of a tender with proofs and signed roots; `reversetender audit verify` checks it offline.
#[derive(Serialize, ToSchema)]
pub struct AuditExport {
    /// The format and its version.
    pub format: String,
    /// What the node says: for whom it is, the tender, the key, the two ends of the chain, interruptions, the decisions
    /// and results.
    #[schema(value_type = Object)]
    pub claims: Value,
    /// The signature over the claims.
    pub sig: String,
    /// Signed roots, the smallest tree first, each proved to have grown out of the one before.
    #[schema(value_type = Vec<Object>)]
    pub checkpoints: Vec<Value>,
    /// The commands, oldest first.
    #[schema(value_type = Vec<Object>)]
    pub commands: Vec<Value>,
}

/// A bid as the log has it.
#[derive(Serialize, ToSchema)]
pub struct Receipt {
    /// The bid.
    pub bid: IdText,
    /// The lot.
    pub lot: IdText,
    /// What became of it.
    pub status: crate::render::BidStatus,
    /// The step at which it stood, or at which the lot stood when it was refused.
    pub seq: u64,
    /// The leader's stamp.
    pub at: TimeText,
    /// Its leaf hash.
    pub leaf: String,
    /// Place of the leaf in the shard's tree, from 0.
    pub leaf_index: u64,
    /// Head of the tender's chain behind it.
    pub head: String,
    /// The newest signed root; null until one covers the bid.
    #[schema(value_type = Option<Object>)]
    pub checkpoint: Option<Value>,
    /// That the leaf is in the tree of that root.
    pub proof: Option<Vec<String>>,
    /// The same as a signed document; `reversetender audit verify` checks it offline.
    pub audit: AuditExport,
}

/// The leader's time.
#[derive(Serialize, ToSchema)]
pub struct Time {
    /// The time.
    pub now: TimeText,
}

/// One rule.
#[derive(Serialize, ToSchema)]
pub struct RuleLine {
    /// Its name, with a point for a member of a block.
    pub name: String,
    /// What a value is.
    #[serde(rename = "type")]
    pub kind: String,
    /// What it is when it is left out.
    pub default: Option<Value>,
    /// Whether it must be there: a rule in its formats, a member in its block.
    pub required: bool,
    /// What is valid, in words.
    pub valid: String,
    /// The formats in which it is allowed.
    pub formats: Vec<String>,
    /// The least whole number.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub minimum: Option<i64>,
    /// The largest whole number.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub maximum: Option<i64>,
    /// The words.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub words: Option<Vec<String>>,
}

/// A ready set of rules.
#[derive(Serialize, ToSchema)]
pub struct RuleTemplateLine {
    /// Its stable name.
    pub name: String,
    /// Its title.
    pub title: String,
    /// Where it is used, in one sentence.
    pub used: String,
    /// The rules, to be put into a lot as they are; prices in them are examples.
    pub rules: crate::body::RulesBody,
}

/// Where in a request something is wrong.
#[derive(Serialize, ToSchema)]
pub struct Fault {
    /// JSON pointer into the body; `?name` for a parameter.
    pub pointer: String,
    /// What is wrong, as a code.
    pub code: String,
    /// What is wrong, and what would be valid.
    pub detail: String,
}

/// An answer that is not what was asked for (RFC 9457).
#[derive(Serialize, ToSchema)]
pub struct Problem {
    /// Names the kind of problem.
    #[serde(rename = "type")]
    pub kind: String,
    /// The kind of problem in a few words.
    pub title: String,
    /// The status.
    pub status: u16,
    /// What is wrong here.
    pub detail: String,
    /// The path of the request.
    pub instance: String,
    /// The kind of problem as a stable word.
    pub code: String,
    /// The places that are wrong.
    pub errors: Vec<Fault>,
    /// The id of the request, as our logs know it.
    pub trace_id: IdText,
    /// With a refused bid: the highest price that would have been accepted.
    pub max_next: Option<DecimalText>,
    /// With a refused bid: true when there is no upper limit.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub max_next_unlimited: bool,
    /// With a refused bid: when it was decided.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub server_time: Option<TimeText>,
    /// With a refused bid: the lot's end.
    pub closes_at: Option<TimeText>,
}

/// Declares lists of items with a cursor.
macro_rules! lists {
    ($($(#[$doc:meta])* $name:ident of $item:ty;)*) => {$(
        $(#[$doc])*
        #[derive(Serialize, ToSchema)]
        pub struct $name {
            /// One page of it.
            pub items: Vec<$item>,
            /// The cursor of the next page; null on the last.
            pub next: Option<String>,
        }
    )*};
}

lists! {
    /// Members.
    Members of Member;
    /// Organisations.
    Organisations of Organisation;
    /// Tenders.
    Tenders of TenderLine;
    /// Bidders.
    Bidders of Bidder;
    /// Decisions about bids.
    Bids of BidLine;
    /// The table of all rules.
    Rules of RuleLine;
    /// Ready sets of rules.
    RuleTemplates of RuleTemplateLine;
}

/// The table of rules as it is served.
pub fn rules() -> Value {
    let rows = engine::RULES.iter().map(|row| {
        let default =
            row.default.map(|text| serde_json::from_str::<Value>(text).expect("defaults are JSON texts"));
        let mut value = json!({
            "name": row.name,
            "type": row.kind.word(),
            "default": default,
            "required": row.required,
            "valid": row.valid(),
            "formats": row.formats.iter().map(|format| format.word()).collect::<Vec<_>>(),
        });
        match row.kind {
            engine::RuleKind::Integer(least, most) => {
                value["minimum"] = least.into();
                value["maximum"] = most.into();
            }
            engine::RuleKind::Word(words) => value["words"] = json!(words),
            _ => {}
        }
        value
    });
    json!({ "items": rows.collect::<Vec<Value>>(), "next": null })
}

/// The ready sets of rules as they are served.
pub fn rule_templates() -> RuleTemplates {
    let line = |template: &engine::RuleTemplate| RuleTemplateLine {
        name: template.name.to_owned(),
        title: template.title.to_owned(),
        used: template.used.to_owned(),
        rules: crate::body::RulesBody::from_spec(&template.rules()),
    };
    RuleTemplates { items: engine::RULE_TEMPLATES.iter().map(line).collect(), next: None }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_of_rules_can_be_served() {
        let served = rules();
        let rows = served["items"].as_array().expect("a list");
        assert_eq!(rows.len(), engine::RULES.len());
        let format = rows.iter().find(|row| row["name"] == "format").expect("the format is a rule");
        assert_eq!(format["words"][0], "english");
    }
}
