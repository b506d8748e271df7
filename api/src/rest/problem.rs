//! Problems: every answer that is not what was asked for, as `application/problem+json` (RFC 9457).
//! Owns the table of codes with their status and texts. Never holds a price of another party or a secret.

use axum::body::Body;
use axum::http::header::{
    ALLOW, CONNECTION, CONTENT_TYPE, HeaderName, HeaderValue, RETRY_AFTER, WWW_AUTHENTICATE,
};
use axum::http::{Response, StatusCode};
use engine::{Answer, LogTime, MaxNext, Refusal, Refused, Reply, RequestId, RuleError};
use serde::Serialize;

use crate::limits::Over;

/// Marks an answer that repeats an earlier one.
pub const IDEMPOTENCY_REPLAYED: HeaderName = HeaderName::from_static("idempotency-replayed");

macro_rules! codes {
    ($($(#[$doc:meta])* $name:ident = $status:literal, $code:literal, $title:literal;)*) => {
        /// A code that the edge gives before, or instead of, a decision of the engine.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub enum Code { $($(#[$doc])* $name,)* }

        impl Code {
            /// All codes, in order of declaration.
            pub const ALL: &[Self] = &[$(Self::$name,)*];

            /// The code on the wire, its status and its title.
            const fn row(self) -> (&'static str, u16, &'static str) {
                match self { $(Self::$name => ($code, $status, $title),)* }
            }
        }
    };
}

codes! {
    /// Not JSON, a wrong type, a missing field, no decimal string, no time, a bad parameter.
    Malformed = 400, "malformed", "The request cannot be read";
    /// The route needs an `Idempotency-Key`.
    IdempotencyKeyRequired = 400, "idempotency_key_required", "An Idempotency-Key is required";
    /// No `Authorization` header.
    TokenMissing = 401, "token_missing", "A token is required";
    /// The token is not one of ours, or its session has ended.
    TokenInvalid = 401, "token_invalid", "The token is not valid";
    /// The token was ours and has expired.
    TokenExpired = 401, "token_expired", "The token has expired";
    /// Wrong e-mail address or password; which of them is not told.
    CredentialsInvalid = 401, "credentials_invalid", "E-mail address or password is wrong";
    /// The role or the kind of organisation may not do this.
    Forbidden = 403, "forbidden", "Your role may not do this";
    /// There is no such path or thing.
    NotFound = 404, "not_found", "There is no such thing";
    /// The path exists, the method does not.
    MethodNotAllowed = 405, "method_not_allowed", "The method is not allowed here";
    /// The body did not arrive in time.
    RequestTimeout = 408, "request_timeout", "The request took too long to arrive";
    /// The `If-Match` of a change names another version.
    VersionMismatch = 412, "version_mismatch", "It has changed since you read it";
    /// The body is larger than the limit.
    TooLarge = 413, "too_large", "The body is too large";
    /// The body is not JSON by its own words.
    UnsupportedMediaType = 415, "unsupported_media_type", "The body must be JSON";
    /// A field that the route does not know.
    UnknownField = 422, "unknown_field", "The request has a field that is not known here";
    /// A change without `If-Match`.
    PreconditionRequired = 428, "precondition_required", "If-Match is required";
    /// Over a rate; nothing was done.
    RateLimited = 429, "rate_limited", "Too many requests";
    /// Our fault.
    Internal = 500, "internal", "Something failed on our side";
    /// The rings are full.
    Busy = 503, "busy", "Too much is going on";
    /// The process is about to stop.
    Draining = 503, "draining", "This node is about to stop";
    /// The log can't be written.
    ReadOnly = 503, "read_only", "Nothing can be written now";
    /// Nobody leads the shard.
    NoQuorum = 503, "no_quorum", "No majority of the nodes can be reached";
    /// Whether the command was taken is not known.
    OutcomeUnknown = 503, "outcome_unknown", "The outcome is not known";
    /// The view did not catch up in time.
    Behind = 503, "behind", "This node is behind";
}

impl Code {
    /// The code as clients read it.
    pub const fn code(self) -> &'static str {
        self.row().0
    }

    /// The status it goes with.
    pub const fn status(self) -> u16 {
        self.row().1
    }

    /// A problem of this code; `detail` says what is wrong and what would be right.
    pub fn problem(self, detail: impl Into<String>) -> Problem {
        let (code, status, title) = self.row();
        Problem::new(status, code, title, detail.into())
    }
}

/// The status that goes with a refusal.
pub const fn status_of(refusal: Refusal) -> u16 {
    use Refusal as R;
    match refusal {
        R::SessionEnded => 401,
        R::NotAdmitted | R::OwnTender | R::TermsNotAccepted | R::NotOwner => 403,
        R::LotNotFound | R::TenderNotFound | R::MemberNotFound => 404,
        R::LotNotOpen | R::LotPaused | R::LotClosed | R::LotCancelled | R::StaleView | R::NotYourTurn => 409,
        R::StaleStep | R::AlreadyOut | R::AlreadyAwarded | R::WrongStage | R::RulesFrozen => 409,
        R::VersionMismatch => 412,
        R::Expired | R::WrongAction | R::PrebidRequired | R::PriceScale | R::PriceNotPositive => 422,
        R::PriceTick | R::AboveCeiling | R::BelowFloor | R::NotImproved | R::StepTooLarge => 422,
        R::TieNotAllowed | R::DropTooLarge | R::LimitNotAllowed | R::BidsExhausted | R::BidderNotFound => 422,
        R::BidNotFound | R::ReasonRequired | R::ReserveNotMet | R::InvalidRules | R::EmailTaken => 422,
        R::LastAdmin | R::IdempotencyKeyReused => 422,
    }
}

/// The code of a refusal as REST says it: accounts have no codes of their own for what HTTP has a word for.
const fn code_of(refusal: Refusal) -> &'static str {
    match refusal {
        Refusal::SessionEnded => Code::TokenInvalid.code(),
        Refusal::MemberNotFound => Code::NotFound.code(),
        other => other.code(),
    }
}

/// Title and detail of a refusal.
pub const fn texts_of(refusal: Refusal) -> (&'static str, &'static str) {
    use Refusal as R;
    match refusal {
        R::LotNotFound => ("There is no such lot", "No lot with this id is visible to you."),
        R::NotAdmitted => {
            ("You are not a bidder here", "The buyer has not admitted your organisation, or has taken it out.")
        }
        R::OwnTender => ("This is your own tender", "A buyer may not bid in its own tender."),
        R::TermsNotAccepted => ("The terms are not accepted yet", "Accept the terms by joining the tender first."),
        R::LotNotOpen => ("The lot is not open yet", "Bids are taken from the opening on."),
        R::LotPaused => {
            ("The lot is paused", "The buyer has frozen the lot's time; bids are taken when it runs on.")
        }
        R::LotClosed => ("The lot has closed", "No more bids are taken."),
        R::LotCancelled => ("The lot was cancelled", "No more bids are taken."),
        R::Expired => ("The request came too late", "It was read after its own `expires_at`."),
        R::StaleView => ("You saw an old state", "`seen_seq` is missing or too far behind; read the lot again."),
        R::WrongAction => ("The format has no such action", "This lot's format does not know this action."),
        R::NotYourTurn => ("It is not your turn", "Another bidder's turn is running."),
        R::StaleStep => ("That step is over", "The named step or level is not the current one."),
        R::AlreadyOut => ("You are out", "You dropped out at an earlier level."),
        R::PrebidRequired => ("A bid before the opening was required", "Only who left one may bid in this lot."),
        R::PriceScale => ("Too many digits", "The price has more digits behind the point than the lot allows."),
        R::PriceNotPositive => ("The price is not positive", "Prices are above zero."),
        R::PriceTick => ("The price misses the tick", "Prices are whole multiples of the lot's tick."),
        R::AboveCeiling => ("The price is too high", "It is above the lot's ceiling."),
        R::BelowFloor => ("The price is too low", "It is below the lot's floor."),
        R::NotImproved => ("The price does not improve", "It must be at most `max_next`."),
        R::StepTooLarge => ("The step is too large", "The price drops by more than the lot's largest step."),
        R::TieNotAllowed => ("The price is taken", "Another bidder stands at this price."),
        R::DropTooLarge => {
            ("That is a large drop", "If the price is meant, send it again with `confirm: true`, under a new key.")
        }
        R::LimitNotAllowed => ("No limits here", "This lot takes no automatic limits."),
        R::BidsExhausted => ("All bids are used", "You used up your bids in this lot."),
        R::TenderNotFound => ("There is no such tender", "No tender with this id is visible to you."),
        R::NotOwner => ("Not your tender", "Only the organisation that runs the tender may do this."),
        R::AlreadyAwarded => ("Already awarded", "The lot has been awarded."),
        R::WrongStage => ("Not at this stage", "The tender or lot is not in a stage that allows this."),
        R::RulesFrozen => (
            "The rules are frozen",
            "After the publication only `opens_at` may change, and only before the opening.",
        ),
        R::BidderNotFound => ("There is no such bidder", "This tender has no such bidder."),
        R::BidNotFound => ("There is no such bid", "There is no such standing bid."),
        R::ReasonRequired => ("A reason is required", "Say why in `reason`."),
        R::ReserveNotMet => ("The reserve is not met", "The bid is above the lot's reserve."),
        R::InvalidRules => ("The rules are not valid", "See `errors` for what is wrong and what would be valid."),
        R::VersionMismatch => {
            ("It has changed since you read it", "Read the tender again and send its new `ETag` in `If-Match`.")
        }
        R::EmailTaken => ("The e-mail address is taken", "An account with this address exists."),
        R::MemberNotFound => ("There is no such thing", "Your organisation has no such member."),
        R::LastAdmin => ("The last admin stays", "An organisation keeps at least one admin."),
        R::SessionEnded => {
            ("The token is not valid", "The session has ended, or the refresh token was used before.")
        }
        R::IdempotencyKeyReused => {
            ("The key was used with another body", "Take a new Idempotency-Key for another request.")
        }
    }
}

/// Where in the body something is wrong.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Fault {
    /// JSON pointer into the body; for a parameter its name behind `?`.
    pub pointer: String,
    /// What is wrong, as a code.
    pub code: String,
    /// What is wrong, and what would be valid.
    pub detail: String,
}

/// What a bidder needs for the next try, with every refusal of a bid.
#[derive(Clone, Debug, PartialEq, Eq)]
struct NextTry {
    max_next: Option<String>,
    unlimited: bool,
    server_time: LogTime,
    closes_at: Option<LogTime>,
}

/// An answer that is not what was asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem(Box<Parts>);

#[derive(Clone, Debug, PartialEq, Eq)]
struct Parts {
    status: u16,
    code: &'static str,
    title: &'static str,
    detail: String,
    errors: Vec<Fault>,
    next_try: Option<NextTry>,
    /// The request that was answered first, when this repeats its answer.
    decided: Option<(RequestId, bool)>,
    retry_after_s: Option<u32>,
    allow: Option<HeaderValue>,
}

impl Problem {
    fn new(status: u16, code: &'static str, title: &'static str, detail: String) -> Self {
        Self(Box::new(Parts {
            status,
            code,
            title,
            detail,
            errors: Vec::new(),
            next_try: None,
            decided: None,
            retry_after_s: (status == 503).then_some(1),
            allow: None,
        }))
    }

    /// The code as clients read it.
    pub fn code(&self) -> &'static str {
        self.0.code
    }

    /// The status.
    pub fn status(&self) -> u16 {
        self.0.status
    }

    /// The same with one place in the body that is wrong.
    #[must_use]
    pub fn at(mut self, pointer: impl Into<String>) -> Self {
        let fault = Fault { pointer: pointer.into(), code: self.0.code.to_owned(), detail: self.0.detail.clone() };
        self.0.errors.push(fault);
        self
    }

    /// The same with one place in the body that is wrong, and why.
    #[must_use]
    pub fn because(mut self, pointer: impl Into<String>, detail: impl Into<String>) -> Self {
        let fault = Fault { pointer: pointer.into(), code: self.0.code.to_owned(), detail: detail.into() };
        self.0.errors.push(fault);
        self
    }

    /// The answer to a request that was over a limit.
    pub fn over(over: Over) -> Self {
        let text = format!("Over the limit \"{}\"; nothing was done. Send it again later.", over.name);
        let mut problem = Code::RateLimited.problem(text);
        problem.0.retry_after_s = Some(over.after_s());
        problem
    }

    /// The same with the methods that would have been allowed.
    #[must_use]
    pub fn allow(mut self, methods: &str) -> Self {
        self.0.allow = HeaderValue::from_str(methods).ok();
        self
    }

    /// A refusal that the engine did not have to be asked for.
    pub fn refusal(refusal: Refusal) -> Self {
        let (title, detail) = texts_of(refusal);
        Self::new(status_of(refusal), code_of(refusal), title, detail.to_owned())
    }

    /// The problem that a reply of the engine is; `None` for an answer that is what was asked for.
    /// The same reply gives the same bytes, so that a repeat does.
    pub fn of_reply(reply: &Reply) -> Option<Self> {
        let mut problem = match &reply.answer {
            Answer::Refused(refused) => Self::of_refused(refused, reply.at),
            Answer::InvalidRules(errors) => Self::of_rules(errors),
            Answer::Internal => Code::Internal.problem(GENERIC),
            _ => return None,
        };
        problem.0.decided = Some((reply.request, reply.replayed));
        Some(problem)
    }

    fn of_refused(refused: &Refused, at: LogTime) -> Self {
        let mut problem = Self::refusal(refused.refusal);
        problem.0.next_try = refused.lot.map(|_| NextTry {
            max_next: match refused.max_next {
                MaxNext::At(price) => Some(price.decimal(refused.price_scale).to_string()),
                MaxNext::None | MaxNext::Unlimited => None,
            },
            unlimited: refused.max_next == MaxNext::Unlimited,
            server_time: at,
            closes_at: refused.closes_at,
        });
        problem
    }

    fn of_rules(errors: &[RuleError]) -> Self {
        let mut problem = Self::refusal(Refusal::InvalidRules);
        problem.0.errors = errors
            .iter()
            .map(|error| Fault {
                pointer: error.pointer.clone(),
                code: Refusal::InvalidRules.code().to_owned(),
                detail: if error.valid.is_empty() {
                    error.detail.clone()
                } else {
                    format!("{}. Valid: {}", error.detail, error.valid)
                },
            })
            .collect();
        problem
    }

    /// The response to the request with id `trace` for `path`.
    pub fn response(self, trace: RequestId, path: &str) -> Response<Body> {
        let (trace, replayed) = self.0.decided.unwrap_or((trace, false));
        let mut body = serde_json::json!({
            "type": format!("urn:reversetender:problem:{}", self.0.code),
            "title": self.0.title,
            "status": self.0.status,
            "detail": self.0.detail,
            "instance": path,
            "code": self.0.code,
            "errors": self.0.errors,
            "trace_id": uuid::Uuid::from_u128(trace.0),
        });
        let fields = body.as_object_mut().expect("an object was written");
        if let Some(next) = self.0.next_try {
            fields.insert("max_next".into(), next.max_next.into());
            if next.unlimited {
                fields.insert("max_next_unlimited".into(), true.into());
            }
            fields.insert("server_time".into(), super::time_text(next.server_time).into());
            fields.insert("closes_at".into(), next.closes_at.map(super::time_text).into());
        }
        let mut response = Response::new(Body::from(body.to_string()));
        *response.status_mut() = StatusCode::from_u16(self.0.status).expect("the tables hold statuses");
        let headers = response.headers_mut();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/problem+json"));
        if replayed {
            headers.insert(IDEMPOTENCY_REPLAYED, HeaderValue::from_static("true"));
        }
        if self.0.status == 401 {
            headers.insert(WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
        }
        if let Some(seconds) = self.0.retry_after_s {
            headers.insert(RETRY_AFTER, seconds.into());
        }
        if let Some(allow) = self.0.allow {
            headers.insert(ALLOW, allow);
        }
        if matches!(self.0.status, 408 | 413) {
            // What is left of the body is not waited for.
            headers.insert(CONNECTION, HeaderValue::from_static("close"));
        }
        response
    }
}

/// All that is told of a fault of our own.
pub const GENERIC: &str = "The request failed for a reason that is not yours. The trace id names it in our logs.";

#[cfg(test)]
mod tests {
    use super::*;

    /// The lists of section 1 of the contract.
    #[test]
    fn refusals_have_the_statuses_of_the_contract() {
        let of = |status| {
            let codes = Refusal::ALL.iter().filter(|refusal| status_of(**refusal) == status);
            codes.map(|refusal| refusal.code()).collect::<Vec<_>>()
        };
        assert_eq!(of(403), ["not_admitted", "own_tender", "terms_not_accepted", "not_owner"]);
        assert_eq!(of(404), ["lot_not_found", "tender_not_found", "member_not_found"]);
        let conflicts = [
            "lot_not_open",
            "lot_paused",
            "lot_closed",
            "lot_cancelled",
            "stale_view",
            "not_your_turn",
            "stale_step",
            "already_out",
            "already_awarded",
            "wrong_stage",
            "rules_frozen",
        ];
        assert_eq!(of(409), conflicts);
        assert_eq!(of(412), ["version_mismatch"]);
        assert_eq!(of(401), ["session_ended"]);
        assert_eq!(of(422).len(), Refusal::ALL.len() - 4 - 3 - 11 - 1 - 1);
    }

    #[test]
    fn codes_are_unique_among_each_other() {
        for (i, one) in Code::ALL.iter().enumerate() {
            assert!(Code::ALL[i + 1..].iter().all(|other| other.code() != one.code()), "{one:?}");
            assert!(StatusCode::from_u16(one.status()).is_ok());
        }
    }
}
