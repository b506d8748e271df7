//! The JSON of an export or receipt, field by field, and what of it is signed.

use engine::{Action, Secret};
use persistence::checkpoint::{document_text, hex, unhex};
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use serde_json::Value;
use sha2::{Digest, Sha256};

use crate::body::{IdText, TimeText};

/// The first field of every document.
pub const FORMAT: &str = "reversetender audit 1";

/// `N` bytes, on the wire 2·`N` lower-case hexadecimal digits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Hex<const N: usize>(pub [u8; N]);

impl<const N: usize> std::fmt::Display for Hex<N> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&hex(&self.0))
    }
}

impl<const N: usize> Serialize for Hex<N> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&hex(&self.0))
    }
}

impl<'de, const N: usize> Deserialize<'de> for Hex<N> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let bytes = HexBytes::deserialize(deserializer)?.0;
        let len = bytes.len();
        let wrong = |_| serde::de::Error::custom(format!("{} hexadecimal digits, expected {}", 2 * len, 2 * N));
        bytes.try_into().map(Self).map_err(wrong)
    }
}

/// Bytes, on the wire lower-case hexadecimal digits.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HexBytes(pub Vec<u8>);

impl Serialize for HexBytes {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&hex(&self.0))
    }
}

impl<'de> Deserialize<'de> for HexBytes {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = std::borrow::Cow::<str>::deserialize(deserializer)?;
        unhex(&text)
            .map(Self)
            .ok_or_else(|| serde::de::Error::custom("not lower-case hexadecimal digits in pairs"))
    }
}

/// An export or a receipt.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Document {
    /// [`FORMAT`].
    pub format: String,
    /// [`Claims`], as they are signed.
    pub claims: Value,
    /// Signature over the claims.
    pub sig: Hex<64>,
    /// Signed roots, the smallest tree first.
    pub checkpoints: Vec<CheckpointLine>,
    /// The commands, oldest first.
    pub commands: Vec<CommandLine>,
}

/// What a document is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Kind {
    /// Commands of a tender.
    Export,
    /// One bid.
    Receipt,
}

/// For whom a document was made.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ReaderWord {
    /// The tender's buyer: all commands.
    Buyer,
    /// A bidder: its own.
    Bidder,
}

/// What the node says beside what is hashed.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Claims {
    /// What the document is.
    pub kind: Kind,
    /// For whom it was made.
    pub reader: ReaderWord,
    /// The reader's organisation.
    pub organisation: IdText,
    /// The tender.
    pub tender: IdText,
    /// The id of the history.
    pub epoch: String,
    /// The shard that holds the tender.
    pub shard: u16,
    /// The stamp up to which it tells everything.
    pub at: TimeText,
    /// The id of the key that signs.
    pub kid: String,
    /// The key.
    pub key: Hex<32>,
    /// How it came to this key from the node's first, oldest first; left out when it is the first.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub handovers: Vec<HandoverLine>,
    /// How many commands it has.
    pub commands: u64,
    /// The tender's chain; for the buyer, who has all of it.
    pub chain: Option<ChainLine>,
    /// When nobody served.
    pub interruptions: Vec<InterruptionLine>,
    /// Numbers of commands that failed by our fault and have no effect.
    pub passed_by: Vec<u64>,
    /// How the lots ended; for the buyer.
    pub lots: Vec<LotLine>,
    /// The decision about the bid of a receipt.
    pub decision: Option<Value>,
}

/// The old key's word that a new one is the node's.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct HandoverLine {
    /// The old key.
    pub from: Hex<32>,
    /// The new key.
    pub to: Hex<32>,
    /// When.
    pub at: TimeText,
    /// The old key's signature.
    pub sig: Hex<64>,
}

/// The two ends of a chain.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ChainLine {
    /// Before the first command; zero but for a tender that is older than its audit.
    pub from: HeadLine,
    /// Behind the last.
    pub to: HeadLine,
}

/// Head of a chain.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct HeadLine {
    /// How many leaves it has.
    pub count: u64,
    /// Its hash.
    pub head: Hex<32>,
}

/// An interruption of the service, which is of no tender and of all.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct InterruptionLine {
    /// Place of its leaf in the shard's tree, from 0.
    pub leaf_index: u64,
    /// Its leaf hash.
    pub leaf: Hex<32>,
    /// The stamp of the last command before it.
    pub served_until: TimeText,
    /// When service began again.
    pub at: TimeText,
    /// Its public part.
    pub public: HexBytes,
    /// Its salt.
    pub salt: Hex<16>,
    /// That its leaf is in the last checkpoint's tree.
    pub proof: Vec<Hex<32>>,
}

/// How a lot ended.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LotLine {
    /// The lot.
    pub lot: IdText,
    /// Its result, as GET `…/result` tells the buyer, without the winner's name.
    pub result: Value,
    /// The decisions about its bids, oldest first, as GET `…/bids` tells the buyer.
    pub decisions: Vec<Value>,
}

/// A signed root.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CheckpointLine {
    /// Leaves in the tree.
    pub size: u64,
    /// Its root.
    pub root: Hex<32>,
    /// When it was signed.
    pub at: TimeText,
    /// The signature.
    pub sig: Hex<64>,
    /// That its tree has grown out of that of the checkpoint before; empty for the first.
    pub consistency: Vec<Hex<32>>,
}

/// A command.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CommandLine {
    /// Its place in the tender's chain, from 1; for the buyer.
    pub number: Option<u64>,
    /// Place of its leaf in the shard's tree, from 0.
    pub leaf_index: u64,
    /// Its leaf hash.
    pub leaf: Hex<32>,
    /// Its stamp.
    pub at: TimeText,
    /// What was asked.
    pub action: String,
    /// Whose command it is; all zeros for the system's own.
    pub organisation: IdText,
    /// The request; the id of a bid made by it.
    pub request: IdText,
    /// What is hashed in public: envelope and action.
    pub public: HexBytes,
    /// The salt of a command without a secret part.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub salt: Option<Hex<16>>,
    /// The secret part.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub secret: Option<SecretLine>,
    /// Head of the tender's chain before it.
    pub before: Hex<32>,
    /// Head of the tender's chain behind it.
    pub head: Hex<32>,
    /// That its leaf is in the last checkpoint's tree; none if that is smaller.
    pub proof: Option<Vec<Hex<32>>>,
}

/// A secret part, as far as the reader may see it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum SecretLine {
    /// Nothing may be seen.
    Hidden {
        /// The digest.
        digest: Hex<32>,
    },
    /// All of it.
    Open(OpenLine),
    /// The price of an offer whose limit stays hidden.
    Price {
        /// The price.
        open: OpenLine,
        /// Digest of the limit.
        limit: Hex<32>,
    },
}

/// A secret part that may be seen.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct OpenLine {
    /// Its salt.
    pub salt: Hex<16>,
    /// The secret part as it is hashed.
    pub clear: HexBytes,
    /// The price, for people; none for a withdrawal.
    pub price: Option<String>,
}

/// The price in an offer, for people.
pub fn offered_price(secret: &Secret) -> Option<String> {
    match secret {
        Secret::Offer { price: Some(price), .. } => Some(price.to_string()),
        _ => None,
    }
}

/// The text that is signed for claims.
pub fn claims_text(claims: &Value) -> String {
    document_text(&Sha256::digest(canonical(claims)).into())
}

/// Canonical JSON (RFC 8785 for values without fractions): members sorted by name, no white space.
pub fn canonical(value: &Value) -> String {
    match value {
        Value::Object(fields) => {
            let mut names: Vec<&String> = fields.keys().collect();
            // By UTF-16 code units, as RFC 8785 says.
            names.sort_by(|a, b| a.encode_utf16().cmp(b.encode_utf16()));
            let member = |name: &String| format!("{}:{}", Value::from(name.as_str()), canonical(&fields[name]));
            format!("{{{}}}", names.into_iter().map(member).collect::<Vec<_>>().join(","))
        }
        Value::Array(items) => format!("[{}]", items.iter().map(canonical).collect::<Vec<_>>().join(",")),
        plain => plain.to_string(),
    }
}

/// The word for an action.
pub fn action_word(action: &Action) -> &'static str {
    match action {
        Action::Tick => "tick",
        Action::Takeover { .. } => "takeover",
        Action::Skip { .. } => "skip",
        Action::CreateTender { .. } => "create_tender",
        Action::UpdateTender { .. } => "update_tender",
        Action::Publish { .. } => "publish",
        Action::Start { .. } => "start",
        Action::Pause { .. } => "pause",
        Action::Resume { .. } => "resume",
        Action::Cancel { .. } => "cancel",
        Action::Extend { .. } => "extend",
        Action::Admit { .. } => "admit",
        Action::Join { .. } => "join",
        Action::Disqualify { .. } => "disqualify",
        Action::Bid { .. } => "bid",
        Action::Accept { .. } => "accept",
        Action::AutoBid { .. } => "auto_bid",
        Action::Void { .. } => "void",
        Action::Award { .. } => "award",
        Action::RejectAward { .. } => "award_reject",
        Action::Account(_) => "account",
    }
}
