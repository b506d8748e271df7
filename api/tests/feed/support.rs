//! A whole server in this process, with real sockets: node, REST and feed on a port of its own.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use api::feed::{self, Feed, FeedOptions, Hub, Timings};
use api::node::{Node, NodeOptions, View};
use api::rest::passwords::Passwords;
use api::rest::tokens::Tokens;
use api::rest::{self, App, serve};
use api::text;
use aws_lc_rs::hmac;
use axum::Router;
use engine::{
    AccountAction, Action, Answer, Command, Decimal, Envelope, LotId, OrganisationId, OrganisationKind, Reply,
    RequestId, Role, Secret, SessionId, TenderId, UserId,
};
use futures_util::{SinkExt, StreamExt};
use serde_json::{Value, json};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio_tungstenite::tungstenite::client::IntoClientRequest;
use tokio_tungstenite::tungstenite::http::HeaderValue;
use tokio_tungstenite::tungstenite::{Error, Message};
use tokio_tungstenite::{MaybeTlsStream, WebSocketStream};
use uuid::Uuid;

/// How long a test waits for what must come. Never asserted: a test that waits this long has failed.
const PATIENCE: Duration = Duration::from_secs(20);

/// A person with a token.
#[derive(Clone, Debug)]
pub struct Person {
    pub user: UserId,
    pub organisation: OrganisationId,
    pub session: SessionId,
    pub token: String,
}

/// A running server.
pub struct Server {
    pub node: Node,
    pub feed: Feed,
    pub app: Arc<App>,
    pub address: SocketAddr,
    stop: watch::Sender<bool>,
    folder: Option<tempfile::TempDir>,
}

fn id() -> u128 {
    Uuid::now_v7().as_u128()
}

impl Server {
    /// Everything at its default.
    pub async fn start() -> Self {
        Self::start_with(FeedOptions::default()).await
    }

    /// With times of the test's own.
    pub async fn start_timed(timings: Timings) -> Self {
        Self::start_with(FeedOptions { timings, ..FeedOptions::default() }).await
    }

    pub async fn start_with(options: FeedOptions) -> Self {
        Self::start_in(tempfile::tempdir().expect("a folder"), options).await
    }

    async fn start_in(folder: tempfile::TempDir, options: FeedOptions) -> Self {
        let node_options = NodeOptions {
            shards: 2,
            segment_bytes: 1 << 20,
            snapshot_bytes: 64 << 20,
            ..NodeOptions::new(folder.path().join("data"), folder.path().join("keys"))
        };
        let hub = Hub::new();
        let of_node = hub.clone();
        let started = tokio::task::spawn_blocking(move || Node::start(&node_options, &of_node));
        let node = started.await.expect("no panic").expect("the node starts");
        let pkcs8 = node.keys().token_key().expect("a key");
        let app = Arc::new(App {
            node: node.clone(),
            tokens: Tokens::new(&pkcs8, "reversetender").expect("an Ed25519 key"),
            passwords: Passwords::new(1),
            master: hmac::Key::new(hmac::HMAC_SHA256, &[7; 32]),
            // Its own tests are in rest/rates.rs: here many people share an address and bid as fast as they can.
            limits: api::limits::RateLimits::off(),
            trusted_proxies: Vec::new(),
            stopping: false.into(),
        });
        let feed = Feed::new(Arc::clone(&app), hub, options);
        let listener = TcpListener::bind(("127.0.0.1", 0)).await.expect("a free port");
        let address = listener.local_addr().expect("an address");
        let (stop, stopped) = watch::channel(false);
        let router = Router::new().merge(feed::router(feed.clone())).merge(rest::router(Arc::clone(&app)));
        let limits = serve::Limits { per_address: None, ..serve::Limits::default() };
        tokio::spawn(serve::run(listener, router, limits, stopped));
        Self { node, feed, app, address, stop, folder: Some(folder) }
    }

    /// Another handle on a running server, for a task of its own.
    pub fn handle(&self) -> Self {
        let (node, feed, app) = (self.node.clone(), self.feed.clone(), Arc::clone(&self.app));
        Self { node, feed, app, address: self.address, stop: self.stop.clone(), folder: None }
    }

    /// Ends the process's part of the server and starts it again over the same data.
    pub async fn restart(self) -> Self {
        let Self { node, feed, app, stop, folder, .. } = self;
        stop.send_replace(true);
        feed.drain(Duration::from_millis(100)).await;
        drop((feed, app));
        tokio::task::spawn_blocking(move || node.stop()).await.expect("no panic");
        Self::start_in(folder.expect("the server itself, no handle"), FeedOptions::default()).await
    }

    /// Logs a command and waits for its answer.
    pub async fn submit(&self, envelope: Envelope, action: Action, secret: Option<Secret>) -> Reply {
        let command = Command { envelope, action, secret };
        self.node.submit(self.node.stamp(), command).await.expect("decided")
    }

    /// The view, when it holds all that was answered, however long that takes.
    pub async fn caught_up(&self) -> View {
        loop {
            if let Ok(view) = self.node.read().await {
                return view;
            }
        }
    }

    async fn account(&self, envelope: Envelope, action: AccountAction, secret: Option<Secret>) -> Reply {
        let envelope = Envelope { request: RequestId(id()), ..envelope };
        let reply = self.submit(envelope, Action::Account(action), secret).await;
        assert!(matches!(reply.answer, Answer::Account(_) | Answer::Done), "{reply:?}");
        reply
    }

    /// A new person in a new organisation, signed in.
    pub async fn sign_up(&self, name: &str, kind: OrganisationKind) -> Person {
        let (user, organisation) = (UserId(id()), OrganisationId(id()));
        let person = Secret::Person {
            organisation,
            email: format!("{name}@example.org"),
            name: name.to_owned(),
            password: "$argon2id$v=19$m=8,t=1,p=1$c2FsdHNhbHQ$aGFzaGhhc2hoYXNo".to_owned(),
        };
        let register = AccountAction::Register { user, organisation, organisation_name: name.to_owned(), kind };
        self.account(Envelope::default(), register, Some(person)).await;
        self.sign_in(user, organisation).await
    }

    /// A new sign-in of a person.
    pub async fn sign_in(&self, user: UserId, organisation: OrganisationId) -> Person {
        let session = SessionId(id());
        let expires_at = self.node.now().plus_ms(1_000_000);
        let envelope = Envelope { user, organisation, session, ..Envelope::default() };
        let mut token = [0; 32];
        token[..16].copy_from_slice(&session.0.to_be_bytes());
        self.account(envelope, AccountAction::OpenSession { token, expires_at }, None).await;
        let now = self.node.now();
        let token = self.app.tokens.issue(user, organisation, Role::Admin, session, now, RequestId(id()));
        Person { user, organisation, session, token }
    }

    /// An auditor of the same organisation.
    pub async fn add_auditor(&self, admin: &Person) -> Person {
        let user = UserId(id());
        let person = Secret::Person {
            organisation: admin.organisation,
            email: format!("{}@example.org", text::id(user.0)),
            name: "Auditor".to_owned(),
            password: "$argon2id$v=19$m=8,t=1,p=1$c2FsdHNhbHQ$aGFzaGhhc2hoYXNo".to_owned(),
        };
        let add = AccountAction::AddMember { user, role: Role::Auditor };
        self.account(Self::envelope(admin), add, Some(person)).await;
        self.sign_in(user, admin.organisation).await
    }

    pub async fn remove_member(&self, admin: &Person, user: UserId) {
        self.account(Self::envelope(admin), AccountAction::RemoveMember { user }, None).await;
    }

    /// Exchanges a refresh token that was used before; true if that is refused.
    pub async fn show_wrong_refresh_token(&self, person: &Person) -> bool {
        let mut token = [0; 32];
        token[..16].copy_from_slice(&person.session.0.to_be_bytes());
        let expires_at = self.node.now().plus_ms(1_000_000);
        let mut refused = false;
        for next in [[8; 32], [9; 32]] {
            let refresh = AccountAction::Refresh { token, next, expires_at };
            let envelope = Self::envelope(person);
            let reply = self.submit(envelope, Action::Account(refresh), None).await;
            refused = matches!(reply.answer, Answer::Refused(_));
        }
        refused
    }

    pub async fn log_out(&self, person: &Person) {
        self.account(Self::envelope(person), AccountAction::CloseSession, None).await;
    }

    pub fn envelope(person: &Person) -> Envelope {
        Envelope {
            organisation: person.organisation,
            user: person.user,
            session: person.session,
            request: RequestId(id()),
            ..Envelope::default()
        }
    }

    /// Sends what a person decides; it must not be refused.
    pub async fn act(&self, person: &Person, action: Action) -> Reply {
        let reply = self.submit(Self::envelope(person), action, None).await;
        assert!(!matches!(reply.answer, Answer::Refused(_) | Answer::InvalidRules(_)), "{reply:?}");
        reply
    }

    /// A published tender with one lot, in which `bidders` are admitted; not started.
    pub async fn tender(&self, buyer: &Person, public: bool, rules: &Value, bidders: &[&Person]) -> LotId {
        let tender = TenderId::new(id());
        let body = json!({
            "title": "Front bumper", "currency": "SAR", "public": public,
            "lots": [{ "title": "Bumper", "rules": rules }],
        });
        let spec = api::body::TenderBody::parse(body.to_string().as_bytes()).expect("valid").to_spec();
        self.act(buyer, Action::CreateTender { tender, spec: Box::new(spec) }).await;
        for bidder in bidders {
            self.admit(buyer, tender, bidder).await;
        }
        self.act(buyer, Action::Publish { tender }).await;
        tender.lot(1)
    }

    pub async fn admit(&self, buyer: &Person, tender: TenderId, bidder: &Person) {
        let admit = Action::Admit {
            tender,
            organisation: bidder.organisation,
            adjustments: vec![],
            features: vec![],
            accepted: false,
        };
        self.act(buyer, admit).await;
    }

    /// As [`Server::tender`], and started.
    pub async fn opened(&self, buyer: &Person, public: bool, rules: &Value, bidders: &[&Person]) -> LotId {
        let lot = self.tender(buyer, public, rules, bidders).await;
        self.act(buyer, Action::Start { tender: lot.tender() }).await;
        lot
    }

    /// A bid that is accepted, past all doors.
    pub async fn bid(&self, person: &Person, lot: LotId, price: &str) -> Reply {
        let reply = self.act(person, bid_action(lot, price)).await;
        assert!(matches!(reply.answer, Answer::Bid(_)), "{reply:?}");
        reply
    }

    /// Connects, without saying anything.
    pub async fn connect(&self) -> Client {
        Client::new(self.try_connect(|_| {}).await.expect("connected"))
    }

    /// Connects with headers changed by `change`.
    pub async fn try_connect(
        &self,
        change: impl FnOnce(&mut tokio_tungstenite::tungstenite::http::HeaderMap),
    ) -> Result<Socket, Error> {
        let mut request = format!("ws://{}/v1/feed", self.address).into_client_request().expect("a request");
        let headers = request.headers_mut();
        headers.insert("sec-websocket-protocol", HeaderValue::from_static(feed::SUBPROTOCOL));
        change(headers);
        tokio_tungstenite::connect_async(request).await.map(|(socket, _)| socket)
    }

    /// Connects and says hello.
    pub async fn hello(&self, person: Option<&Person>) -> Client {
        self.resume(person, json!([])).await.0
    }

    /// Connects and says hello with lots to resume; also the `welcome`.
    pub async fn resume(&self, person: Option<&Person>, resume: Value) -> (Client, Value) {
        let mut client = self.connect().await;
        let hello = json!({ "token": person.map(|person| person.token.clone()), "resume": resume });
        let id = client.send("hello", hello).await;
        let reply = client.next().await;
        assert_eq!(reply["re"], id, "the welcome comes first: {reply}");
        assert!(reply.get("ok").is_some(), "{reply}");
        (client, reply["ok"].clone())
    }
}

/// The action of a bid.
pub fn bid_action(lot: LotId, price: &str) -> Action {
    Action::Bid {
        lot,
        price: Decimal::parse(price),
        confirm: true,
        expires_at: None,
        seen_seq: None,
        auto_limit: None,
        all_or_nothing: None,
    }
}

/// Rules of a lot that anybody can bid in for ten minutes.
pub fn rules() -> Value {
    json!({ "format": "english", "duration_s": 600, "ceiling": "1000.00" })
}

pub type Socket = WebSocketStream<MaybeTlsStream<TcpStream>>;

/// One socket, as a client's program sees it.
pub struct Client {
    pub socket: Socket,
    last_id: u64,
}

impl Client {
    pub fn new(socket: Socket) -> Self {
        Self { socket, last_id: 0 }
    }

    /// Sends a request and answers its id.
    pub async fn send(&mut self, op: &str, d: Value) -> u64 {
        self.last_id += 1;
        let text = json!({ "id": self.last_id, "op": op, "d": d }).to_string();
        self.send_text(text).await;
        self.last_id
    }

    pub async fn send_text(&mut self, text: impl Into<String>) {
        self.socket.send(Message::text(text.into())).await.expect("sent");
    }

    /// Sends a request, and does not mind if the socket has been closed meanwhile.
    pub async fn send_unchecked(&mut self, op: &str) {
        self.last_id += 1;
        let text = json!({ "id": self.last_id, "op": op }).to_string();
        let _closed = self.socket.send(Message::text(text)).await;
    }

    /// The next text frame.
    pub async fn next(&mut self) -> Value {
        match self.next_or_close().await {
            Ok(value) => value,
            Err(code) => panic!("the socket was closed with {code:?}"),
        }
    }

    /// The next text frame, or the code with which the socket was closed (none: it broke). Signed roots come when they
    /// come: they are passed by here, [`Client::root`] waits for one.
    pub async fn next_or_close(&mut self) -> Result<Value, Option<u16>> {
        loop {
            let frame = self.any_or_close().await?;
            if frame["p"] != "checkpoint" {
                return Ok(frame);
            }
        }
    }

    /// Reads until a signed root; it.
    pub async fn root(&mut self) -> Value {
        loop {
            let frame = self.any_or_close().await.expect("the socket stays open");
            if frame["p"] == "checkpoint" {
                return frame;
            }
        }
    }

    async fn any_or_close(&mut self) -> Result<Value, Option<u16>> {
        loop {
            let message = tokio::time::timeout(PATIENCE, self.socket.next()).await.expect("something comes");
            match message {
                Some(Ok(Message::Text(text))) => return Ok(serde_json::from_str(&text).expect("JSON")),
                Some(Ok(Message::Close(frame))) => return Err(frame.map(|frame| frame.code.into())),
                Some(Ok(_)) => {}
                Some(Err(_)) | None => return Err(None),
            }
        }
    }

    /// Reads until the socket is closed; the code.
    pub async fn closed(&mut self) -> Option<u16> {
        loop {
            if let Err(code) = self.next_or_close().await {
                return code;
            }
        }
    }

    /// Reads until `wanted`; all that came, it included.
    pub async fn until(&mut self, wanted: impl Fn(&Value) -> bool) -> Vec<Value> {
        let mut all = Vec::new();
        loop {
            let frame = self.next().await;
            let found = wanted(&frame);
            all.push(frame);
            if found {
                return all;
            }
        }
    }

    /// Reads until a push `p`; it.
    pub async fn push(&mut self, p: &str) -> Value {
        self.until(|frame| frame["p"] == p).await.pop().expect("at least it")
    }

    /// Sends a request and reads until its reply; it.
    pub async fn ask(&mut self, op: &str, d: Value) -> Value {
        let id = self.send(op, d).await;
        self.until(|frame| frame["re"] == id).await.pop().expect("at least it")
    }

    /// Subscribes with a fresh view; the `snap`.
    pub async fn sub(&mut self, lot: LotId) -> Value {
        let reply = self.ask("sub", json!({ "lot": text::id(lot.0) })).await;
        assert_eq!(reply["ok"]["recovered"], false, "{reply}");
        let snap = self.next().await;
        assert_eq!(snap["p"], "snap", "{snap}");
        snap
    }

    /// Bids; the reply.
    pub async fn place(&mut self, lot: LotId, cid: &str, price: &str) -> Value {
        let place = json!({ "lot": text::id(lot.0), "cid": cid, "price": price, "confirm": true });
        self.ask("bid.place", place).await
    }
}
