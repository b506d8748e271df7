//! One request on its way to its answer: what was sent, who sent it, and the few things every handler does with it.

use axum::body::Body;
use axum::extract::RawPathParams;
use axum::http::header::{CONTENT_TYPE, HeaderValue};
use axum::http::request::Parts;
use axum::http::{Response, StatusCode};
use bytes::Bytes;
use engine::{Action, Command, Envelope, Key, LotId, OrganisationId, Refusal, Reply, RequestId, TenderId};
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::body::BodyError;
use crate::node::{Stamp, SubmitError, View};

use super::App;
use super::problem::{Code, IDEMPOTENCY_REPLAYED, Problem};
use super::routes::Route;
use super::serve::Peer;
use super::tokens::Caller;

/// One request.
pub struct Call<'a> {
    /// What every request needs.
    pub app: &'a App,
    /// Its route.
    pub route: &'static Route,
    /// Who asks.
    pub caller: Option<Caller>,
    /// The parameters of its path.
    pub params: &'a RawPathParams,
    /// Its head.
    pub parts: &'a Parts,
    /// Its body.
    pub body: Bytes,
    /// Its idempotency key.
    pub key: Option<String>,
    /// Its id.
    pub request: RequestId,
    /// When its last byte was read. Handlers that have to wait before they submit drop it and take another.
    pub stamp: Option<Stamp>,
}

impl Call<'_> {
    /// The answer `value` with status 200.
    pub fn ok(&self, value: &impl Serialize) -> Response<Body> {
        json(StatusCode::OK, value)
    }

    /// The answer `value` to a command, with the status of the route, marked when it repeats an earlier one.
    pub fn decided(&self, value: &impl Serialize, replayed: bool) -> Response<Body> {
        let status = StatusCode::from_u16(self.route.answer.0).expect("the table holds statuses");
        mark(json(status, value), replayed)
    }

    /// The answer to a command about which there is nothing to tell: 204.
    pub fn done(&self, replayed: bool) -> Response<Body> {
        let mut response = Response::new(Body::empty());
        *response.status_mut() = StatusCode::NO_CONTENT;
        mark(response, replayed)
    }

    /// Who asks; the policy lets nobody else get here.
    ///
    /// # Panics
    /// When the route is open to anonymous readers.
    pub fn member(&self) -> &Caller {
        self.caller.as_ref().expect("the policy asks for a token on this route")
    }

    /// The parameter `name` of the path.
    pub fn param(&self, name: &str) -> &str {
        self.params.iter().find(|(key, _)| *key == name).map_or("", |(_, value)| value)
    }

    /// The tender in the path.
    ///
    /// # Errors
    /// 404 `tender_not_found` for what is no id at all.
    pub fn tender(&self) -> Result<TenderId, Problem> {
        crate::text::parse_id(self.param("tender"))
            .filter(|bits| TenderId::new(*bits).0 == *bits)
            .map(TenderId)
            .ok_or_else(|| self.hidden(Refusal::TenderNotFound))
    }

    /// The lot in the path.
    ///
    /// # Errors
    /// 404 `lot_not_found` for what is no id at all.
    pub fn lot(&self) -> Result<LotId, Problem> {
        crate::text::parse_id(self.param("lot")).map(LotId).ok_or_else(|| self.hidden(Refusal::LotNotFound))
    }

    /// What a reader is told of something it may not see, or that is not there: who has no token, to sign in.
    pub fn hidden(&self, refusal: Refusal) -> Problem {
        if self.caller.is_none() { super::sign_in() } else { Problem::refusal(refusal) }
    }

    /// The query parameter `name`, decoded.
    ///
    /// # Errors
    /// 400 `malformed` when it is there twice or is no UTF-8.
    pub fn query(&self, name: &str) -> Result<Option<String>, Problem> {
        let mut found = None;
        for pair in self.parts.uri.query().unwrap_or("").split('&') {
            let (key, value) = pair.split_once('=').unwrap_or((pair, ""));
            if key != name {
                continue;
            }
            let text = percent_decoded(value)
                .ok_or_else(|| Code::Malformed.problem(format!("{name} is not UTF-8.")).at(format!("?{name}")))?;
            if found.replace(text).is_some() {
                return Err(Code::Malformed.problem(format!("{name} is given twice.")).at(format!("?{name}")));
            }
        }
        Ok(found)
    }

    /// Refuses query parameters that the route does not know.
    ///
    /// # Errors
    /// 422 `unknown_field`.
    pub fn check_query(&self) -> Result<(), Problem> {
        for pair in self.parts.uri.query().unwrap_or("").split('&').filter(|pair| !pair.is_empty()) {
            let key = pair.split_once('=').map_or(pair, |(key, _)| key);
            if !self.route.query.contains(&key) {
                let text = format!("There is no such parameter here; there are: {}.", self.route.query.join(", "));
                return Err(Code::UnknownField.problem(text).at(format!("?{key}")));
            }
        }
        Ok(())
    }

    /// The body as `T`.
    ///
    /// # Errors
    /// 400 `malformed`, 422 `unknown_field` or `invalid_rules`, with the place.
    pub fn read<T: DeserializeOwned>(&self) -> Result<T, Problem> {
        crate::body::parse(&self.body).map_err(unreadable)
    }

    /// The body as `T`, which may be left out.
    ///
    /// # Errors
    /// As [`Call::read`].
    pub fn read_optional<T: DeserializeOwned>(&self) -> Result<T, Problem> {
        crate::body::parse_optional(&self.body).map_err(unreadable)
    }

    /// The view, once it holds everything that was answered.
    ///
    /// # Errors
    /// 503 `behind`.
    pub async fn view(&self) -> Result<View, Problem> {
        let behind = |_| Code::Behind.problem("The node has not caught up with what it answered; try again.");
        self.app.node.read().await.map_err(behind)
    }

    /// The key of this request in its organisation and route.
    pub fn route_key(&self, action: &Action) -> Option<Key> {
        let text = self.key.as_deref()?;
        Some(crate::key::of_route(self.organisation(), &self.route_name(), text, action))
    }

    /// As [`Call::route_key`], for a body that holds a secret: only a keyed hash of it is kept.
    pub fn secret_key(&self, organisation: OrganisationId, scope: &str, body: &impl Serialize) -> Option<Key> {
        let text = self.key.as_deref()?;
        let canonical = serde_json::to_vec(body).expect("what was read from JSON can be written as JSON");
        let hash = self.app.derive("body of an idempotency key", &[&canonical]);
        let route = format!("{} {scope}", self.route_name());
        Some(crate::key::of_route_with_body(organisation, &route, text, hash))
    }

    fn route_name(&self) -> String {
        format!("{} {}", self.route.verb.word(), self.parts.uri.path())
    }

    fn organisation(&self) -> OrganisationId {
        self.caller.as_ref().map_or(OrganisationId(0), |caller| caller.organisation)
    }

    /// The envelope of a command of this caller; the node adds stamp and number.
    pub fn envelope(&self, key: Option<Key>) -> Envelope {
        let caller = self.caller.as_ref();
        Envelope {
            organisation: self.organisation(),
            user: caller.map_or_else(Default::default, |caller| caller.user),
            session: caller.map_or_else(Default::default, |caller| caller.session),
            request: self.request,
            source: self.app.source(self.parts.extensions.get::<Peer>().copied(), &self.parts.headers),
            key,
            ..Envelope::default()
        }
    }

    /// Submits a command and waits for its decision; a refusal is a problem.
    ///
    /// # Errors
    /// The refusal, or 503 when it was not or perhaps not taken.
    pub async fn submit(&mut self, action: Action, key: Option<Key>) -> Result<Reply, Problem> {
        let envelope = self.envelope(key);
        self.submit_command(Command { envelope, action, secret: None }).await
    }

    /// As [`Call::submit`], with an envelope and secret of the handler's own.
    ///
    /// # Errors
    /// As [`Call::submit`].
    pub async fn submit_command(&mut self, command: Command) -> Result<Reply, Problem> {
        // The token, or the sign-in, may have ended while the body was on its way.
        if let Some(caller) = &self.caller {
            self.app.still_in(caller).map_err(super::not_signed_in)?;
        }
        let stamp = self.stamp.take().unwrap_or_else(|| self.app.node.stamp());
        let reply = self.app.node.submit(stamp, command).await.map_err(not_decided)?;
        match Problem::of_reply(&reply) {
            Some(problem) => Err(problem),
            None => Ok(reply),
        }
    }

    /// The value `extract` finds in the answer of `reply`.
    ///
    /// # Errors
    /// 500 when the engine answered something else than the command asks for, which is our fault.
    pub fn expect<T>(
        &self,
        reply: &Reply,
        extract: impl FnOnce(&engine::Answer) -> Option<T>,
    ) -> Result<T, Problem> {
        extract(&reply.answer).ok_or_else(|| {
            tracing::error!(route = self.route.path, answer = ?reply.answer, "An answer does not fit its command");
            Code::Internal.problem(super::problem::GENERIC)
        })
    }
}

fn mark(mut response: Response<Body>, replayed: bool) -> Response<Body> {
    if replayed {
        response.headers_mut().insert(IDEMPOTENCY_REPLAYED, HeaderValue::from_static("true"));
    }
    response
}

/// A JSON answer.
pub fn json(status: StatusCode, value: &impl Serialize) -> Response<Body> {
    let bytes = serde_json::to_vec(value).expect("answers are made of strings, numbers and lists");
    raw_json(status, bytes)
}

/// A JSON answer that is written already.
pub fn raw_json(status: StatusCode, bytes: impl Into<Body>) -> Response<Body> {
    let mut response = Response::new(bytes.into());
    *response.status_mut() = status;
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    response
}

/// What is wrong with a body.
pub fn unreadable(error: BodyError) -> Problem {
    match error {
        BodyError::Malformed { pointer, detail } => Code::Malformed.problem(detail).at(pointer),
        BodyError::UnknownField { pointer } => Code::UnknownField.problem("There is no such field.").at(pointer),
        BodyError::InvalidRules { pointer, detail, valid } => {
            Problem::refusal(Refusal::InvalidRules).because(pointer, format!("{detail}. Valid: {valid}"))
        }
    }
}

fn not_decided(error: SubmitError) -> Problem {
    match error {
        SubmitError::Busy => Code::Busy.problem("The request was not taken; send it again."),
        SubmitError::Draining => Code::Draining.problem("The request was not taken; send it again."),
        SubmitError::ReadOnly => Code::ReadOnly.problem("The log has no room; the request was not taken."),
        SubmitError::Unsealable => Code::ReadOnly
            .problem("What your organisation keeps secret can't be sealed now; the request was not taken."),
        SubmitError::NotLeader | SubmitError::NoQuorum => {
            Code::NoQuorum.problem("No majority of the nodes can be reached; the request was not taken.")
        }
        SubmitError::OutcomeUnknown => {
            Code::OutcomeUnknown.problem("The request may be taken; send it again with the same Idempotency-Key.")
        }
    }
}

/// `%41+b` → `A b`; `None` when it is no UTF-8.
fn percent_decoded(text: &str) -> Option<String> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.bytes();
    while let Some(byte) = rest.next() {
        bytes.push(match byte {
            b'+' => b' ',
            b'%' => {
                let digits = [rest.next()?, rest.next()?];
                u8::from_str_radix(std::str::from_utf8(&digits).ok()?, 16).ok()?
            }
            other => other,
        });
    }
    String::from_utf8(bytes).ok()
}
