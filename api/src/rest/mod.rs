//! REST: the routes of `/v1` over the node. Owns what happens around a request: who asks, whether it may, how much it
//! sends, and how answers and problems are written. Decides nothing that the engine decides.

pub mod openapi;
pub mod passwords;
pub mod problem;
pub mod routes;
pub mod serve;
pub mod tokens;

mod accounts;
mod audit;
mod call;
mod lists;
mod lots;
mod schema;
mod tenders;

use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::{Duration, Instant};

use aws_lc_rs::hmac;
use axum::Router;
use axum::body::Body;
use axum::extract::rejection::RawPathParamsRejection;
use axum::extract::{RawPathParams, Request, State};
use axum::http::header::{AUTHORIZATION, CACHE_CONTROL, HeaderMap, HeaderName, HeaderValue, VARY};
use axum::http::{Method, Response};
use axum::routing::{MethodFilter, MethodRouter};
use engine::{Accounts, LogTime, LotId, RequestId, TenderId};
use futures_util::FutureExt;
use uuid::Uuid;

use crate::limits::{self, RateLimits, Subject, Told};
use crate::node::Node;

use self::call::Call;
use self::passwords::Passwords;
use self::problem::{Code, GENERIC, Problem};
use self::routes::{Cell, KeyUse, Op, Party, ROUTES, Route, Verb};
use self::tokens::{Caller, Proven, TokenError, Tokens};

/// A request's own name for itself, given back with the answer.
pub const X_REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");
/// Longest `X-Request-Id` that is given back, in bytes.
const REQUEST_ID_MAX: usize = 128;
/// Largest body, in bytes.
pub const BODY_MAX: usize = 256 << 10;
/// How long a body may take to arrive.
const BODY_TIMEOUT: Duration = Duration::from_secs(10);

/// What every request needs.
pub struct App {
    /// The node.
    pub node: Node,
    /// Signs and checks tokens.
    pub tokens: Tokens,
    /// Hashes and checks passwords.
    pub passwords: Passwords,
    /// Derives what must be the same in a repeat and cannot be guessed.
    pub master: hmac::Key,
    /// How much anybody may send.
    pub limits: RateLimits,
    /// Peers whose `X-Forwarded-For` is believed.
    pub trusted_proxies: Vec<std::net::IpAddr>,
    /// The server is about to stop: what is under way goes on, nothing new should be sent here.
    pub stopping: AtomicBool,
}

impl App {
    /// Who `token` says asks, checked against the accounts as they are now: the session must run, the person must
    /// still be a member, and the role is the one the person has now.
    ///
    /// # Errors
    /// [`TokenError`].
    pub async fn authenticate(&self, token: &str) -> Result<Caller, TokenError> {
        let view = self.node.view();
        let find = |kid: &str| view.accounts(|accounts| announced(accounts, kid));
        // The node's own key is good before its announcement reached the view.
        let own = |kid: &str| (kid == self.tokens.kid()).then(|| self.tokens.public());
        let proven = self.tokens.prove(token, self.node.now(), |kid| own(kid).or_else(|| find(kid)))?;
        if let Some(caller) = view.accounts(|accounts| resolve(accounts, &proven)) {
            return Ok(caller);
        }
        // The sign-in may have been answered a moment before the view learned of it.
        let view = self.node.read().await.map_err(|_| TokenError::Invalid)?;
        view.accounts(|accounts| resolve(accounts, &proven)).ok_or(TokenError::Invalid)
    }

    /// Whether the sign-in of `caller` still runs and the token has not ended, as far as the view knows.
    pub fn still_in(&self, caller: &Caller) -> Result<(), TokenError> {
        if caller.expires_at <= self.node.now() {
            return Err(TokenError::Expired);
        }
        let runs = self.node.view().accounts(|accounts| accounts.session(caller.session).is_some());
        if runs { Ok(()) } else { Err(TokenError::Invalid) }
    }

    /// A keyed hash of the sender's address, so that the log can be searched for one but not read for all.
    pub fn source(&self, peer: Option<serve::Peer>, headers: &HeaderMap) -> u64 {
        let address = self.address(peer, headers);
        let text = address.map_or_else(String::new, |address| address.to_string());
        let hash = self.derive("source address", &[text.as_bytes()]);
        u64::from_be_bytes(hash[..8].try_into().expect("8 of 32 bytes"))
    }

    /// The sender's address, as far as the proxies that are trusted tell it.
    pub fn address(&self, peer: Option<serve::Peer>, headers: &HeaderMap) -> Option<std::net::IpAddr> {
        let forwarded = headers.get("x-forwarded-for");
        peer.map(|peer| serve::client_address(peer.0.ip(), forwarded, &self.trusted_proxies))
    }

    /// What stands for the sender's address in limits.
    pub fn limited_address(&self, peer: Option<serve::Peer>, headers: &HeaderMap) -> u128 {
        self.address(peer, headers).map_or(0, limits::address)
    }

    /// 32 bytes that only this installation can derive from `parts`, under the name `purpose`.
    pub fn derive(&self, purpose: &str, parts: &[&[u8]]) -> [u8; 32] {
        let mut context = hmac::Context::with_key(&self.master);
        for part in [purpose.as_bytes()].iter().chain(parts) {
            context.update(&(part.len() as u64).to_be_bytes());
            context.update(part);
        }
        context.sign().as_ref().try_into().expect("HMAC-SHA-256 has 32 bytes")
    }
}

fn announced(accounts: &Accounts, kid: &str) -> Option<[u8; 32]> {
    accounts.keys().iter().find(|key| key.kid == kid).map(|key| key.public)
}

/// The caller that a token's proof is about, if session, person and organisation are still there.
fn resolve(accounts: &Accounts, proven: &Proven) -> Option<Caller> {
    let session = accounts.session(proven.session)?;
    let user = accounts.user(proven.user)?;
    if session.user != user.id || user.organisation != proven.organisation {
        return None;
    }
    let organisation = accounts.organisation(user.organisation)?;
    Some(Caller {
        user: user.id,
        organisation: organisation.id,
        kind: organisation.kind,
        role: user.role,
        session: session.id,
        expires_at: proven.expires_at,
    })
}

type Params = Result<RawPathParams, RawPathParamsRejection>;

/// The routes of the table, with what any path answers that is not in it.
pub fn router(app: Arc<App>) -> Router {
    let mut router = Router::new();
    let mut done: Vec<&str> = Vec::new();
    for route in ROUTES {
        if done.contains(&route.path) {
            continue;
        }
        done.push(route.path);
        let mut methods = MethodRouter::new();
        for route in routes::of_path(route.path) {
            let filter = match route.verb {
                Verb::Get => MethodFilter::GET,
                Verb::Post => MethodFilter::POST,
                Verb::Put => MethodFilter::PUT,
                Verb::Patch => MethodFilter::PATCH,
                Verb::Delete => MethodFilter::DELETE,
            };
            let handler = move |State(app): State<Arc<App>>, params: Params, request: Request| async move {
                match params {
                    Ok(params) => handle(app, route, params, request).await,
                    // What is no UTF-8 is the name of nothing.
                    Err(_) => not_found(request).await,
                }
            };
            methods = methods.on(filter, handler);
        }
        let path = route.path;
        let refuse = move |request: Request| async move {
            let allowed = allowed(path);
            let text = format!("{} is not allowed here; allowed: {allowed}.", request.method());
            refuse(&request, Code::MethodNotAllowed.problem(text).allow(&allowed))
        };
        router = router.route(route.path, methods.fallback(refuse));
    }
    router.with_state(app)
}

/// The answer to a path that nothing is at.
pub async fn not_found(request: Request) -> Response<Body> {
    let text = format!("There is nothing at {}.", request.uri().path());
    refuse(&request, Code::NotFound.problem(text))
}

/// The answer to a request that no route of the table took.
pub fn refuse(request: &Request, problem: Problem) -> Response<Body> {
    let id = new_request();
    let mut response = problem.response(id, request.uri().path());
    finish(&mut response, request.headers(), id, false);
    response
}

fn allowed(path: &str) -> String {
    let words = routes::of_path(path).flat_map(|route| match route.verb {
        Verb::Get => vec!["GET", "HEAD"],
        other => vec![other.word()],
    });
    words.collect::<Vec<_>>().join(", ")
}

/// A fresh request id; UUIDv7, because it is also the id of what the request makes.
fn new_request() -> RequestId {
    RequestId(Uuid::now_v7().as_u128())
}

async fn handle(app: Arc<App>, route: &'static Route, params: RawPathParams, request: Request) -> Response<Body> {
    let started = Instant::now();
    let id = new_request();
    let (parts, body) = request.into_parts();
    let path = parts.uri.path().to_owned();
    let mut told = Told::default();
    let asked = answer(&app, route, &params, &parts, body, id, &mut told);
    let answered = guarded(asked, route, id).await;
    let mut response = answered.unwrap_or_else(|problem| problem.response(id, &path));
    let with_token = parts.headers.contains_key(AUTHORIZATION) || route.policy != routes::Policy::Open;
    finish(&mut response, &parts.headers, id, with_token);
    told.write(response.headers_mut());
    let status = response.status().as_u16();
    let elapsed = started.elapsed();
    metrics::counter!("rt_http_requests_total", "route" => route.path, "method" => route.verb.word(), "status" => status.to_string())
        .increment(1);
    metrics::histogram!("rt_http_request_duration_seconds", "route" => route.path, "method" => route.verb.word())
        .record(elapsed);
    let name = response.headers().get(X_REQUEST_ID).and_then(|name| name.to_str().ok()).unwrap_or("");
    let (request, method, ms) = (Uuid::from_u128(id.0), route.verb.word(), elapsed.as_millis() as u64);
    // Never the query: people search for names.
    match status {
        500 => tracing::error!(%request, name, method, path, status, ms, "Answered"),
        501.. => tracing::warn!(%request, name, method, path, status, ms, "Answered"),
        _ => tracing::debug!(%request, name, method, path, status, ms, "Answered"),
    }
    response
}

/// The last resort: a handler that panics becomes a problem that tells nothing but its id.
async fn guarded(
    asked: impl Future<Output = Result<Response<Body>, Problem>>,
    route: &Route,
    id: RequestId,
) -> Result<Response<Body>, Problem> {
    AssertUnwindSafe(asked).catch_unwind().await.unwrap_or_else(|_| {
        tracing::error!(request = %Uuid::from_u128(id.0), route = route.path, "A handler panicked");
        Err(Code::Internal.problem(GENERIC))
    })
}

/// The headers that every answer has.
fn finish(response: &mut Response<Body>, request: &HeaderMap, id: RequestId, with_token: bool) {
    let headers = response.headers_mut();
    let usable = |name: &&HeaderValue| {
        let bytes = name.as_bytes();
        (1..=REQUEST_ID_MAX).contains(&bytes.len()) && bytes.iter().all(u8::is_ascii_graphic)
    };
    let name = request.get(X_REQUEST_ID).filter(usable).cloned();
    let name = name
        .unwrap_or_else(|| HeaderValue::from_str(&crate::text::id(id.0)).expect("an id is visible characters"));
    headers.insert(X_REQUEST_ID, name);
    headers.insert("x-content-type-options", HeaderValue::from_static("nosniff"));
    if with_token {
        headers.insert(CACHE_CONTROL, HeaderValue::from_static("private, no-cache"));
        headers.insert(VARY, HeaderValue::from_static("Authorization, Accept-Language"));
    } else if !headers.contains_key(CACHE_CONTROL) {
        headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    }
}

/// The token of the `Authorization` header, if there is one.
fn bearer(headers: &HeaderMap) -> Result<Option<&str>, Problem> {
    let invalid = || Code::TokenInvalid.problem("Send exactly one header: Authorization: Bearer <access token>.");
    let mut values = headers.get_all(AUTHORIZATION).iter();
    let Some(value) = values.next() else { return Ok(None) };
    if values.next().is_some() {
        return Err(invalid());
    }
    let (scheme, token) = value.to_str().ok().and_then(|text| text.split_once(' ')).ok_or_else(invalid)?;
    if scheme.eq_ignore_ascii_case("bearer") { Ok(Some(token.trim())) } else { Err(invalid()) }
}

/// Who asks, if the route looks at tokens and there is one.
async fn caller(app: &App, route: &Route, headers: &HeaderMap) -> Result<Option<Caller>, Problem> {
    if route.policy == routes::Policy::Open {
        return Ok(None);
    }
    let Some(token) = bearer(headers)? else { return Ok(None) };
    app.authenticate(token).await.map(Some).map_err(not_signed_in)
}

fn not_signed_in(error: TokenError) -> Problem {
    match error {
        TokenError::Expired => Code::TokenExpired.problem("Refresh the token at /v1/auth/refresh."),
        TokenError::Invalid => Code::TokenInvalid.problem("Sign in at /v1/auth/token."),
    }
}

async fn answer(
    app: &App,
    route: &'static Route,
    params: &RawPathParams,
    parts: &axum::http::request::Parts,
    body: Body,
    id: RequestId,
    told: &mut Told,
) -> Result<Response<Body>, Problem> {
    // Before anything that costs more than being refused.
    let address = app.limited_address(parts.extensions.get::<serve::Peer>().copied(), &parts.headers);
    let mut take = |subject| app.limits.take(subject, told).map_err(Problem::over);
    take(Subject::Address(address))?;
    if matches!(route.op, Op::Register | Op::Token | Op::Refresh) {
        take(Subject::SignIns(address))?;
    }
    let caller = caller(app, route, &parts.headers).await?;
    if let Some(caller) = &caller {
        take(Subject::User(caller.user))?;
        take(Subject::Organisation(caller.organisation))?;
    }
    match route.policy.cell(Party::of(caller.as_ref())) {
        Cell::Allow => {}
        Cell::SignIn => return Err(sign_in()),
        Cell::Forbid => {
            return Err(Code::Forbidden.problem("Neither your role nor your kind of organisation allows this."));
        }
    }
    let key = idempotency_key(route, &parts.headers)?;
    let body = read_body(&parts.headers, body).await?;
    // Read to its end first, so that the connection is good for the next try.
    if let Some(caller) = &caller {
        for subject in subjects(route, params, caller).into_iter().flatten() {
            take(subject)?;
        }
    }
    // The last byte has been read: this is when the command was made, whatever happens to it from here on.
    let stamp = (parts.method != Method::GET && parts.method != Method::HEAD).then(|| app.node.stamp());
    if route.body.is_some() {
        check_media_type(route, &parts.headers, &body)?;
    }
    let call = Call { app, route, caller, params, parts, body, key, request: id, stamp };
    match route.op {
        Op::Register | Op::Token | Op::Refresh | Op::Logout | Op::Me | Op::Jwks => accounts::answer(call).await,
        Op::Members | Op::AddMember | Op::RemoveMember | Op::Organisations => accounts::answer(call).await,
        Op::Tenders | Op::CreateTender | Op::Tender | Op::UpdateTender => tenders::answer(call).await,
        Op::Publish | Op::Start | Op::Pause | Op::Resume | Op::Cancel | Op::Extend => tenders::answer(call).await,
        Op::Bidders | Op::Admit | Op::Disqualify | Op::Join => tenders::answer(call).await,
        Op::Lot | Op::PlaceBid | Op::Bids | Op::Void | Op::Events | Op::Result => lots::answer(call).await,
        Op::Accept | Op::SetAutoBid | Op::DropAutoBid => lots::answer(call).await,
        Op::Receipt | Op::Audit => audit::answer(call).await,
        Op::Award | Op::RejectAward => lots::answer(call).await,
        Op::Time => Ok(call.ok(&serde_json::json!({ "now": time_text(app.node.now()) }))),
        Op::Rules => Ok(call.ok(&crate::rest::schema::rules())),
        Op::RuleTemplates => Ok(call.ok(&crate::rest::schema::rule_templates())),
        Op::OpenApi => Ok(openapi::response()),
    }
}

/// What a command about a tender or lot is counted for, beside its sender.
fn subjects(route: &Route, params: &RawPathParams, caller: &Caller) -> [Option<Subject>; 2] {
    if route.verb == Verb::Get {
        return [None, None];
    }
    let id = |name| {
        let found = params.iter().find(|(key, _)| *key == name);
        found.and_then(|(_, text)| crate::text::parse_id(text))
    };
    let lot = id("lot").map(LotId);
    let tender = id("tender").map(TenderId).or_else(|| lot.map(LotId::tender));
    let bids = matches!(route.op, Op::PlaceBid | Op::Accept | Op::SetAutoBid | Op::DropAutoBid);
    [
        tender.map(|tender| Subject::Tender(caller.organisation, tender)),
        lot.filter(|_| bids).map(|lot| Subject::Bids(caller.organisation, lot)),
    ]
}

/// What anybody without a token is told where one is needed, whether the thing exists or not.
fn sign_in() -> Problem {
    Code::TokenMissing.problem("Send a token: Authorization: Bearer <access token>.")
}

fn idempotency_key(route: &Route, headers: &HeaderMap) -> Result<Option<String>, Problem> {
    let mut values = headers.get_all("idempotency-key").iter();
    let value = values.next();
    if route.key == KeyUse::None {
        return Ok(None);
    }
    let Some(value) = value else {
        if route.key == KeyUse::Required {
            let text = "Send a header Idempotency-Key of 1 to 255 visible characters, a new one for every request that is meant anew.";
            return Err(Code::IdempotencyKeyRequired.problem(text));
        }
        return Ok(None);
    };
    let text = value.to_str().ok().filter(|text| crate::key::is_valid(text));
    match (text, values.next()) {
        (Some(text), None) => Ok(Some(text.to_owned())),
        _ => Err(Code::Malformed.problem(
            "The header Idempotency-Key holds 1 to 255 visible ASCII characters, and there is one of it.",
        )),
    }
}

async fn read_body(headers: &HeaderMap, body: Body) -> Result<bytes::Bytes, Problem> {
    let too_large = || Code::TooLarge.problem(format!("A body has at most {BODY_MAX} bytes."));
    let declared = headers.get("content-length").and_then(|length| length.to_str().ok()?.parse::<u64>().ok());
    if declared.is_some_and(|length| length > BODY_MAX as u64) {
        return Err(too_large());
    }
    match tokio::time::timeout(BODY_TIMEOUT, axum::body::to_bytes(body, BODY_MAX)).await {
        Ok(Ok(bytes)) => Ok(bytes),
        Ok(Err(error)) => {
            let limited = std::error::Error::source(&error)
                .is_some_and(|source| source.to_string().contains("length limit exceeded"));
            Err(if limited { too_large() } else { Code::Malformed.problem("The body ended before its end.") })
        }
        Err(_) => {
            let text = format!("The body did not arrive within {} seconds.", BODY_TIMEOUT.as_secs());
            Err(Code::RequestTimeout.problem(text))
        }
    }
}

fn check_media_type(route: &Route, headers: &HeaderMap, body: &[u8]) -> Result<(), Problem> {
    if body.is_empty() {
        return Ok(());
    }
    if headers.get("content-encoding").is_some_and(|coding| coding != "identity") {
        return Err(Code::UnsupportedMediaType.problem("Send the body without a Content-Encoding."));
    }
    let Some(value) = headers.get("content-type") else { return Ok(()) };
    let named = value.to_str().unwrap_or("");
    let media = named.split(';').next().unwrap_or("").trim().to_ascii_lowercase();
    let patch = route.verb == Verb::Patch && media == "application/merge-patch+json";
    if media == "application/json" || patch {
        return Ok(());
    }
    Err(Code::UnsupportedMediaType.problem("Send the body as application/json."))
}

/// A time as clients read it.
pub fn time_text(at: LogTime) -> String {
    crate::text::time(at)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_panic_is_answered_with_nothing_but_its_id() {
        let route = &ROUTES[0];
        let asked = async { panic!("secret of the inside") };
        let problem = guarded(asked, route, RequestId(7)).await.expect_err("it panicked");
        let response = problem.response(RequestId(7), route.path);
        assert_eq!(response.status(), 500);
        let body = axum::body::to_bytes(response.into_body(), BODY_MAX).await.expect("a body");
        let body: serde_json::Value = serde_json::from_slice(&body).expect("JSON");
        assert_eq!((&body["code"], &body["detail"]), (&"internal".into(), &GENERIC.into()));
        assert_eq!(body["trace_id"], crate::text::id(7));
        assert!(!body.to_string().contains("secret"));
    }
}
