//! The live feed: GET `/v1/feed`, subprotocol `auction.v1.json`. Many lots on one socket, each with its own sequence.
//!
//! The view thread pushes every step of a lot into its window ([`LotFeed`]), serialised once for each audience. A
//! connection ([`socket`]) holds a place in the window ([`cursor`]) and a short lane for answers ([`lane`]), and no
//! frames. What a reader may see is the visibility function's word alone (`render.rs`); nothing here decides it.
//!
//! # For who writes a client
//!
//! What the contract leaves to be found out:
//!
//! - The first frame is `hello`, and its reply comes before anything else. A subscription in `resume` that failed is in
//!   `subs` as `{lot, err: {code, …}}`; the others are `{lot, epoch, seq, recovered}`. `recovered: true` means: nothing
//!   was missed, or what was missed follows as `upd`. `recovered: false` means: a `snap` follows.
//! - The reply to `sub` comes before the frames it causes.
//! - `set` holds new values of fields of `state`; a field that is not in it did not change. `lead: null` means that
//!   nobody leads any more. A field that is not in `state` is hidden from this reader, until a `set` or `snap` has it.
//! - `you` is the whole private part, never a difference. It comes in the `snap` and in the last `upd` of those that
//!   were due together, when it changed; after a recovery without missed steps it comes by itself. Apply it after `set`.
//! - A `resync` is followed by a `snap` of that lot on the same socket: `why` is `sight` (what you may see changed, such
//!   as the lead when the only own bid was voided where the rules say `after_own_bid`), `gap` or `slow`. Nothing is wrong.
//! - Whoever sees more from a step on (the lead with the first own bid, numbers with the opening, whose factor is whose
//!   with the close) gets that step as `upd`, with all that it may see now in `set`.
//! - The answer to an own bid comes before the `upd` of it, and says the `seq` of that `upd`.
//! - An event about yourself (`bid`, `voided`, `rejected`, `awarded`) names your number and price whatever the rules hide;
//!   of others the number is told with `board` only.
//! - `hb` names the last `seq` that was sent of each lot: a higher one than yours means that a frame was lost; send
//!   `sub` with your position on the same socket.
//! - `checkpoint` is the signed root of the shard that holds one of your lots: `{size, root, at, sig, shard, epoch, kid}`,
//!   every ten seconds and when a lot has ended. Keep them: `reversetender audit verify --checkpoints` holds an export
//!   against them. What is signed is in `persistence/docs/audit.md`.
//! - `id` must grow; an `id` that does not is answered `malformed`. A frame that is no request at all ends the socket
//!   with 4000, because there is nothing to answer.
//! - Times are RFC 3339 texts everywhere, `t1` and `t2` of `time` too; `t0` comes back as it was sent.
//! - `rate_limited`: nothing was done, the `cid` is free; `after_ms` is when one more is let through. Every refusal counts
//!   towards the 100 in a minute that end the socket with 4101.
//! - `err` with `retry: "same"`: keep the `cid`. `retry: "later"`: it was certainly not taken; the same `cid` is fine too.

mod close;
mod cursor;
mod hub;
mod lane;
mod message;
mod socket;
mod window;

use std::sync::{Arc, OnceLock};
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::extract::ws::rejection::WebSocketUpgradeRejection;
use axum::extract::{State, WebSocketUpgrade};
use axum::http::header::{HOST, HeaderMap, ORIGIN};
use axum::http::{Extensions, Response};
use axum::routing::get;
use engine::{RequestId, SessionId};
use tokio::time::Instant;

use self::cursor::{Service, Viewer};
use crate::limits::{RateLimits, Subject, Told};
use crate::node::Node;
use crate::rest::App;
use crate::rest::problem::{Code, Problem};
use crate::rest::serve::Peer;
use crate::rest::tokens::{Caller, TokenError};

pub use close::Close;
pub use hub::{Hub, WINDOWS_BYTES_MAX};
pub use window::{BYTES_MAX, LotFeed, Missed, STEPS_MAX};

/// The subprotocol on the wire.
pub const SUBPROTOCOL: &str = "auction.v1.json";
/// Largest frame of a client, in bytes.
pub const MESSAGE_BYTES_MAX: usize = 8 << 10;
/// Largest `hello`, in bytes: it may resume many lots.
pub const HELLO_BYTES_MAX: usize = 32 << 10;
/// Requests of one socket that may be unanswered.
pub const IN_FLIGHT_MAX: usize = 32;
/// What a connection keeps for reading, in bytes.
const READ_BUFFER_BYTES: usize = 4 << 10;
/// What a connection collects before it writes, in bytes.
const WRITE_BUFFER_BYTES: usize = 16 << 10;
/// What a connection may have unwritten before it stops collecting: a batch of frames and the largest `snap`.
const WRITE_BUFFER_BYTES_MAX: usize = 4 << 20;

/// Limits of counts; `--limits off` lifts them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Sockets of one person.
    pub sockets_per_user: usize,
    /// Lots of one socket.
    pub lots: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self { sockets_per_user: 5, lots: 128 }
    }
}

impl Limits {
    /// No limits: for tests and measurements behind a loopback address.
    pub const OFF: Self = Self { sockets_per_user: usize::MAX, lots: usize::MAX };
}

/// How long things take. The defaults are the contract's; tests shorten them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Timings {
    /// Within which `hello` must come.
    pub hello: Duration,
    /// Between heartbeats.
    pub heartbeat: Duration,
    /// Between heartbeats in the last two minutes of a lot.
    pub heartbeat_hurry: Duration,
    /// Between pings.
    pub ping: Duration,
    /// How long a write may be blocked.
    pub write: Duration,
    /// Before the end of a token, when the client is told.
    pub expiring: Duration,
    /// After the end of a token, while reading goes on.
    pub grace: Duration,
    /// How long a socket lives.
    pub life: Duration,
    /// How far an observer may be behind before it is given the present instead of the past.
    pub observer_behind: Duration,
}

impl Default for Timings {
    fn default() -> Self {
        Self {
            hello: Duration::from_secs(5),
            heartbeat: Duration::from_secs(5),
            heartbeat_hurry: Duration::from_secs(1),
            ping: Duration::from_secs(15),
            write: Duration::from_secs(10),
            expiring: Duration::from_secs(60),
            grace: Duration::from_secs(30),
            life: Duration::from_secs(24 * 60 * 60),
            observer_behind: Duration::from_secs(2),
        }
    }
}

/// How the feed is served.
#[derive(Clone, Debug, Default)]
pub struct FeedOptions {
    /// Limits of counts.
    pub limits: Limits,
    /// How long things take.
    pub timings: Timings,
    /// Addresses whose pages may connect (`https://host[:port]`, a path is left aside), beside the one the page itself
    /// came from. Programs send no origin and are always let in.
    pub origins: Vec<String>,
}

/// The socket side of the feed. Cloning is cheap; all clones are one.
#[derive(Clone)]
pub struct Feed(Arc<FeedState>);

struct FeedState {
    app: Arc<App>,
    hub: Hub,
    options: FeedOptions,
    drain: OnceLock<Instant>,
}

impl Feed {
    /// The feed of `app`; `hub` is the one its node pushes steps into. Starts the task that wakes readers, so it must be
    /// called inside the runtime that serves the sockets.
    pub fn new(app: Arc<App>, hub: Hub, options: FeedOptions) -> Self {
        tokio::spawn(hub.clone().wake_readers());
        Self(Arc::new(FeedState { app, hub, options, drain: OnceLock::new() }))
    }

    fn connect(
        &self,
        upgrade: Result<WebSocketUpgrade, WebSocketUpgradeRejection>,
        headers: &HeaderMap,
        extensions: &Extensions,
    ) -> Response<Body> {
        let upgrade = match upgrade {
            Ok(upgrade) => upgrade,
            Err(rejection) => {
                let text = format!("Connect with a WebSocket client: {}", rejection.body_text());
                return refuse(Code::Malformed.problem(text));
            }
        };
        if !self.origin_allowed(headers) {
            return refuse(Code::Forbidden.problem("Pages of this origin may not connect."));
        }
        let peer = extensions.get::<Peer>().copied();
        let address = self.0.app.limited_address(peer, headers);
        if let Err(over) = self.0.app.limits.take(Subject::Handshakes(address), &mut Told::default()) {
            return refuse(Problem::over(over));
        }
        if self.drain_deadline().is_some() || self.node().draining() {
            return refuse(Code::Draining.problem("This node is about to stop; connect again in a second."));
        }
        let upgrade = upgrade
            .protocols([SUBPROTOCOL])
            .read_buffer_size(READ_BUFFER_BYTES)
            .write_buffer_size(WRITE_BUFFER_BYTES)
            .max_write_buffer_size(WRITE_BUFFER_BYTES_MAX)
            .max_message_size(HELLO_BYTES_MAX)
            .max_frame_size(HELLO_BYTES_MAX);
        if upgrade.selected_protocol().is_none() {
            return upgrade.on_upgrade(socket::refuse_version);
        }
        let (feed, source) = (self.clone(), self.0.app.source(peer, headers));
        upgrade.on_upgrade(move |socket| socket::serve(feed, socket, source))
    }

    /// Whether a page of the request's origin may connect: the page that this server itself serves, and those listed.
    fn origin_allowed(&self, headers: &HeaderMap) -> bool {
        let mut origins = headers.get_all(ORIGIN).iter();
        let Some(origin) = origins.next() else { return true };
        let Some(origin) = origin.to_str().ok().filter(|_| origins.next().is_none()) else { return false };
        if self.0.options.origins.iter().any(|listed| origin_of(listed).eq_ignore_ascii_case(origin)) {
            return true;
        }
        let host = headers.get(HOST).and_then(|host| host.to_str().ok());
        let of_origin = origin.split_once("://").map(|(_, host)| host);
        matches!((host, of_origin), (Some(host), Some(origin)) if host.eq_ignore_ascii_case(origin))
    }

    /// Tells every client that the service stops, answers what is under way, and ends all sockets (4200) no later than
    /// `within` from now. Returns when none is left, or a little after the deadline.
    pub async fn drain(&self, within: Duration) {
        let deadline = *self.0.drain.get_or_init(|| Instant::now() + within);
        self.hub().wake_all();
        // Clients get a moment to say good-bye themselves.
        let _some_left = tokio::time::timeout_at(deadline + Duration::from_secs(1), self.hub().all_gone()).await;
    }

    /// The shared side.
    pub fn hub(&self) -> &Hub {
        &self.0.hub
    }

    fn service(&self, viewer: Option<Viewer>) -> Service<'_> {
        let observer_behind = self.timings().observer_behind;
        Service { viewer, epoch: self.node().epoch(), observer_behind }
    }

    fn node(&self) -> &Node {
        &self.0.app.node
    }

    fn limits(&self) -> &Limits {
        &self.0.options.limits
    }

    fn rates(&self) -> &RateLimits {
        &self.0.app.limits
    }

    fn timings(&self) -> &Timings {
        &self.0.options.timings
    }

    fn drain_deadline(&self) -> Option<Instant> {
        self.0.drain.get().copied()
    }

    async fn authenticate(&self, token: &str) -> Result<Caller, TokenError> {
        self.0.app.authenticate(token).await
    }

    fn session_runs(&self, session: SessionId) -> bool {
        self.node().view().accounts(|accounts| accounts.session(session).is_some())
    }
}

/// Scheme, host and port of an address, without its path.
fn origin_of(url: &str) -> &str {
    let host = url.find("://").map_or(0, |at| at + 3);
    let end = url[host..].find('/').map_or(url.len(), |at| host + at);
    &url[..end]
}

/// The route of the feed.
pub fn router(feed: Feed) -> Router {
    let wrong_method = || async { refuse(Code::MethodNotAllowed.problem("Only GET connects.").allow("GET")) };
    let connect = |State(feed): State<Feed>,
                   upgrade: Result<WebSocketUpgrade, WebSocketUpgradeRejection>,
                   request: axum::extract::Request| async move {
        feed.connect(upgrade, request.headers(), request.extensions())
    };
    Router::new().route("/v1/feed", get(connect).fallback(wrong_method)).with_state(feed)
}

fn refuse(problem: Problem) -> Response<Body> {
    problem.response(RequestId(uuid::Uuid::now_v7().as_u128()), "/v1/feed")
}
