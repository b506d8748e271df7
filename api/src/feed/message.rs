//! The envelopes of the feed: requests as they are read, replies and pushes as they are written.
//! Knows no connection and no lot.

use axum::extract::ws::Utf8Bytes;
use engine::{Answer, LogTime, LotId, Refusal, Reply};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::body::{BidBody, BodyError, IdText, TimeText, parse_value};
use crate::limits::Over;
use crate::node::SubmitError;
use crate::render;
use crate::rest::problem::texts_of;

/// One request.
#[derive(Debug, Deserialize)]
pub(super) struct Request {
    /// Grows on a socket.
    pub id: u64,
    /// What is asked.
    pub op: String,
    /// With what.
    #[serde(default)]
    pub d: Value,
}

impl Request {
    /// Reads a frame; none if it cannot even be answered.
    pub fn parse(text: &str) -> Option<Self> {
        serde_json::from_str(text).ok()
    }

    /// The `d` of the request.
    pub fn data<T: serde::de::DeserializeOwned>(&mut self) -> Result<T, Failure> {
        let data = match self.d.take() {
            Value::Null => Value::Object(serde_json::Map::new()),
            data => data,
        };
        parse_value(data).map_err(Failure::of_body)
    }
}

/// `d` of `hello`.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Hello {
    #[serde(default)]
    pub token: Option<String>,
    /// Name and version of the client's program; for the log only.
    #[serde(default)]
    pub client: Option<String>,
    #[serde(default)]
    pub resume: Vec<Sub>,
}

/// `d` of `sub`, and one lot of `hello`.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Sub {
    pub lot: IdText,
    #[serde(default)]
    pub epoch: Option<String>,
    #[serde(default)]
    pub seq: Option<u64>,
}

/// `d` of `unsub`.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Unsub {
    pub lot: IdText,
}

/// `d` of `auth.refresh`.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct AuthRefresh {
    pub token: String,
}

/// `d` of `bid.accept`.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct BidAccept {
    pub lot: IdText,
    pub cid: String,
    pub step: u64,
}

/// `d` of `bid.query`.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct BidQuery {
    pub lot: IdText,
    pub cid: String,
}

/// `d` of `time`.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Time {
    #[serde(default)]
    pub t0: Value,
}

/// `d` of `bid.place`: the body of POST bids, and beside it lot and `cid`.
#[derive(Debug)]
pub(super) struct BidPlace {
    pub lot: LotId,
    pub cid: String,
    pub body: BidBody,
}

impl BidPlace {
    pub fn parse(request: &mut Request) -> Result<Self, Failure> {
        /// The two fields that REST has elsewhere.
        #[derive(Deserialize)]
        struct Place {
            lot: IdText,
            cid: String,
        }
        let Value::Object(mut fields) = request.d.take() else {
            return Err(Failure::malformed("d: an object is expected"));
        };
        let mut place = serde_json::Map::new();
        for name in ["lot", "cid"] {
            if let Some(value) = fields.remove(name) {
                place.insert(name.to_owned(), value);
            }
        }
        let Place { lot, cid } = parse_value(Value::Object(place)).map_err(Failure::of_body)?;
        let body = parse_value(Value::Object(fields)).map_err(Failure::of_body)?;
        Ok(Self { lot: LotId(lot.0), cid: check_cid(cid)?, body })
    }
}

/// A `cid` is an idempotency key.
pub(super) fn check_cid(cid: String) -> Result<String, Failure> {
    if crate::key::is_valid(&cid) {
        return Ok(cid);
    }
    Err(Failure::malformed("/cid: 1 to 255 visible ASCII characters are expected"))
}

/// What the client should do after an error.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Retry {
    /// Nothing: the same request will be refused again.
    No,
    /// Send the same `cid`: the outcome is unknown.
    Same,
    /// Send it again after `auth.refresh`, or on a socket with a token.
    AfterAuth,
    /// Send it again after a while: it was certainly not taken.
    Later,
}

/// An error as it is written.
#[derive(Clone, Debug, Serialize)]
pub(super) struct Failure {
    pub code: &'static str,
    pub detail: String,
    pub retry: Retry,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub after_ms: Option<u64>,
}

impl Failure {
    pub fn new(code: &'static str, retry: Retry, detail: impl Into<String>) -> Self {
        let after_ms = (retry == Retry::Later).then_some(250);
        Self { code, detail: detail.into(), retry, after_ms }
    }

    pub fn malformed(detail: impl Into<String>) -> Self {
        Self::new("malformed", Retry::No, detail)
    }

    pub fn refusal(refusal: Refusal) -> Self {
        Self::new(refusal.code(), Retry::No, texts_of(refusal).1)
    }

    fn of_body(error: BodyError) -> Self {
        Self::new(error.code(), Retry::No, error.to_string())
    }

    /// It was over a limit; nothing was done.
    pub fn over(over: Over) -> Self {
        let text = format!("Over the limit \"{}\"; nothing was done.", over.name);
        Self { after_ms: Some(over.after_ms()), ..Self::new("rate_limited", Retry::Later, text) }
    }

    /// Why a command was not decided.
    pub fn of_submit(error: SubmitError) -> Self {
        match error {
            SubmitError::Busy => Self::new("busy", Retry::Later, "Too much is going on; it was not taken."),
            SubmitError::Draining => Self {
                after_ms: Some(1_000),
                ..Self::new("draining", Retry::Later, "This node is about to stop; it was not taken.")
            },
            SubmitError::ReadOnly => Self {
                after_ms: Some(1_000),
                ..Self::new("read_only", Retry::Later, "Nothing can be written now; it was not taken.")
            },
            SubmitError::Unsealable => Self {
                after_ms: Some(1_000),
                ..Self::new(
                    "read_only",
                    Retry::Later,
                    "Your organisation's secrets can't be sealed now; it was not taken.",
                )
            },
            SubmitError::NotLeader | SubmitError::NoQuorum => Self {
                after_ms: Some(1_000),
                ..Self::new(
                    "no_quorum",
                    Retry::Later,
                    "No majority of the nodes can be reached; it was not taken.",
                )
            },
            SubmitError::OutcomeUnknown => {
                Self::new("outcome_unknown", Retry::Same, "Send the same cid again, or ask bid.query.")
            }
        }
    }
}

/// Writes a reply that is fine.
pub(super) fn ok(re: u64, body: &impl Serialize, rx: LogTime, tx: LogTime) -> Utf8Bytes {
    #[derive(Serialize)]
    struct Ok<'a, T> {
        re: u64,
        ok: &'a T,
        rx: TimeText,
        tx: TimeText,
    }
    text(&Ok { re, ok: body, rx: TimeText(rx), tx: TimeText(tx) })
}

/// Writes a reply that is an error.
pub(super) fn err(re: u64, body: &impl Serialize, rx: LogTime, tx: LogTime) -> Utf8Bytes {
    #[derive(Serialize)]
    struct Err<'a, T> {
        re: u64,
        err: &'a T,
        rx: TimeText,
        tx: TimeText,
    }
    text(&Err { re, err: body, rx: TimeText(rx), tx: TimeText(tx) })
}

/// Writes a push. `fields` is an object.
pub(super) fn push(p: &'static str, fields: &impl Serialize) -> Utf8Bytes {
    #[derive(Serialize)]
    struct Push<'a, T> {
        p: &'static str,
        #[serde(flatten)]
        fields: &'a T,
    }
    text(&Push { p, fields })
}

fn text(value: &impl Serialize) -> Utf8Bytes {
    serde_json::to_string(value).expect("what is written is plain data").into()
}

/// An object with one more field `you`. The shared part is copied, so this is for the last frame of a bidder only.
pub(super) fn with_you(shared: &str, you: &render::YouBody) -> Utf8Bytes {
    let you = serde_json::to_string(you).expect("what is written is plain data");
    let open = shared.strip_suffix('}').expect("a frame is an object");
    format!("{open},\"you\":{you}}}").into()
}

/// Tells the sender of a bid or accept what became of it.
pub(super) fn decided(
    re: u64,
    outcome: &Result<Reply, SubmitError>,
    cid: &str,
    rx: LogTime,
    tx: LogTime,
) -> Utf8Bytes {
    #[derive(Serialize)]
    struct With<'a, T> {
        #[serde(flatten)]
        told: T,
        cid: &'a str,
        #[serde(skip_serializing_if = "Option::is_none")]
        dup: Option<bool>,
    }
    let reply = match outcome {
        Ok(reply) => reply,
        Err(error) => {
            return err(re, &With { told: Failure::of_submit(*error), cid, dup: None }, rx, tx);
        }
    };
    let dup = Some(reply.replayed);
    if let Some(told) = render::bid_answer(reply) {
        return ok(re, &With { told, cid, dup }, rx, tx);
    }
    match &reply.answer {
        Answer::Refused(refused) => err(re, &With { told: Refused::of(refused), cid, dup }, rx, tx),
        Answer::Internal => {
            let told = Failure::new("internal", Retry::No, "It failed by our fault and has no effect.");
            err(re, &With { told, cid, dup }, rx, tx)
        }
        _ => ok(re, &With { told: serde_json::Map::new(), cid, dup }, rx, tx),
    }
}

/// A refusal of the engine as it is told under `err`.
#[derive(Serialize)]
struct Refused {
    #[serde(flatten)]
    refusal: render::Refusal,
    detail: &'static str,
    retry: Retry,
}

impl Refused {
    fn of(refused: &engine::Refused) -> Self {
        Self { refusal: render::refusal(refused), detail: texts_of(refused.refusal).1, retry: Retry::No }
    }
}

/// What `bid.query` tells of what was recorded under a `cid`.
pub(super) fn recorded(reply: Option<&Reply>, cid: &str) -> Value {
    let told = match reply {
        None => json!({ "status": "unknown" }),
        Some(reply) => match &reply.answer {
            Answer::Refused(refused) => json!(Refused::of(refused)),
            Answer::Internal => json!({ "code": "internal" }),
            _ => match (render::bid_answer(reply), render::limit_answer(reply)) {
                (Some(answer), _) => json!(answer),
                (None, limit) => json!(limit),
            },
        },
    };
    let is_taken = reply.is_some_and(|reply| !matches!(reply.answer, Answer::Refused(_) | Answer::Internal));
    let Value::Object(mut told) = told else { unreachable!("what is told is an object") };
    // Of a withdrawal or a limit too the question is only whether it was taken.
    let known = if is_taken { "accepted" } else { "refused" };
    if reply.is_some() {
        told.insert("status".into(), known.into());
    }
    if let Some(reply) = reply {
        told.insert("at".into(), json!(TimeText(reply.at)));
    }
    // What to do about it was told with the first answer.
    told.remove("retry");
    told.insert("cid".into(), cid.into());
    told.into()
}
