//! What every test of the running server starts from: a server in this process on free ports with a data directory of
//! its own, a small HTTP client, and accounts and tenders in a few words. Nothing here is a stand-in for a real part.

#![allow(dead_code)] // Every test binary uses its own part of it.

pub mod contract;
pub mod program;
pub mod socket;
pub mod spec;

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use api::config::{Config, Values};
use api::server::Server;
use axum::body::Body;
use axum::http::{HeaderMap, Method, Request, StatusCode};
use hyper_util::rt::TokioIo;
use serde_json::{Value, json};
use tokio::net::TcpStream;

/// A running server.
pub struct TestServer {
    server: Server,
    config: Config,
    directory: Arc<tempfile::TempDir>,
}

impl TestServer {
    /// A server with a data directory of its own and without limits: tests go faster than people.
    pub async fn start() -> Self {
        Self::start_with(|_| {}).await
    }

    /// As [`TestServer::start`], with other settings than those of a test.
    pub async fn start_with(change: impl FnOnce(&mut Config)) -> Self {
        let directory = Arc::new(tempfile::tempdir().expect("a directory"));
        let mut values = Values::default();
        for (key, value) in [
            ("data", directory.path().join("data").to_string_lossy().into_owned()),
            ("listen", "127.0.0.1:0".to_owned()),
            ("admin_listen", "127.0.0.1:0".to_owned()),
            ("segment_bytes", (1 << 20).to_string()),
            ("shards", "2".to_owned()),
            ("limits", "off".to_owned()),
        ] {
            values.offer(key, value, "test".to_owned());
        }
        let mut config = Config::resolve(&values).expect("the settings of a test are valid");
        change(&mut config);
        let server = Server::start(&config).await.expect("the server starts");
        Self { server, config, directory }
    }

    /// The running parts.
    pub fn server(&self) -> &Server {
        &self.server
    }

    /// Where the API is.
    pub fn address(&self) -> SocketAddr {
        self.server.address()
    }

    /// A client without a token.
    pub fn client(&self) -> Client {
        Client { address: self.address(), token: None }
    }

    /// A client of the admin listener.
    pub fn admin(&self) -> Client {
        Client { address: self.server.admin_address(), token: None }
    }

    /// Drains the server and starts another one on the same data.
    pub async fn restart(self) -> Self {
        self.restart_after(Duration::ZERO).await
    }

    /// As [`TestServer::restart`], with nobody there for `away`.
    pub async fn restart_after(self, away: Duration) -> Self {
        let Self { server, config, directory } = self;
        server.stop().await;
        tokio::time::sleep(away).await;
        let server = Server::start(&config).await.expect("the server starts again");
        Self { server, config, directory }
    }

    /// Drains the server.
    pub async fn stop(self) {
        self.server.stop().await;
    }
}

/// An answer.
#[derive(Clone, Debug)]
pub struct Answer {
    /// Its status.
    pub status: StatusCode,
    /// Its headers.
    pub headers: HeaderMap,
    /// Its body.
    pub body: bytes::Bytes,
}

impl Answer {
    /// The body as JSON; null without a body.
    pub fn json(&self) -> Value {
        if self.body.is_empty() {
            return Value::Null;
        }
        serde_json::from_slice(&self.body).unwrap_or_else(|error| panic!("{error}: {:?}", self.body))
    }

    /// The header `name`; empty when it is not there.
    pub fn header(&self, name: &str) -> &str {
        self.headers.get(name).map_or("", |value| value.to_str().expect("visible characters"))
    }

    /// The body of an answer that must have `status`.
    #[track_caller]
    pub fn expect(&self, status: u16) -> Value {
        assert_eq!(self.status.as_u16(), status, "{}", String::from_utf8_lossy(&self.body));
        self.json()
    }

    /// Checks that this is a problem with `status` and `code`, whole and well formed.
    #[track_caller]
    pub fn refused(&self, status: u16, code: &str) -> Value {
        let body = self.expect(status);
        assert_eq!(body["code"], code, "{body}");
        assert_eq!(body["status"], status);
        assert_eq!(self.header("content-type"), "application/problem+json");
        for field in ["type", "title", "detail", "instance", "trace_id"] {
            assert!(body[field].as_str().is_some_and(|text| !text.is_empty()), "{field} in {body}");
        }
        assert!(body["errors"].is_array(), "{body}");
        let later = matches!(status, 429 | 503);
        assert_eq!(later, self.headers.contains_key("retry-after"), "Retry-After goes with 429 and 503");
        body
    }
}

/// A client that opens a connection for every request.
#[derive(Clone, Debug)]
pub struct Client {
    /// Where it sends to.
    pub address: SocketAddr,
    /// The token it sends, if it has one.
    pub token: Option<String>,
}

impl Client {
    /// The same client with another token.
    pub fn with_token(&self, token: &str) -> Self {
        Self { address: self.address, token: Some(token.to_owned()) }
    }

    /// Sends a request as it is; only the host and the token are added.
    pub async fn send(&self, mut request: Request<Body>) -> Answer {
        let stream = TcpStream::connect(self.address).await.expect("a connection");
        let (mut sender, connection) =
            hyper::client::conn::http1::handshake(TokioIo::new(stream)).await.expect("a handshake");
        let running = tokio::spawn(connection);
        let headers = request.headers_mut();
        headers.insert("host", self.address.to_string().parse().expect("a host"));
        if let Some(token) = &self.token {
            headers.entry("authorization").or_insert(format!("Bearer {token}").parse().expect("a token"));
        }
        let response = sender.send_request(request).await.expect("an answer");
        let (parts, body) = response.into_parts();
        let body = axum::body::to_bytes(Body::new(body), 64 << 20).await.expect("a body");
        running.abort();
        Answer { status: parts.status, headers: parts.headers, body }
    }

    /// A request with a body, a key and more headers; its answer is held against the OpenAPI document.
    pub async fn request(
        &self,
        method: Method,
        path: &str,
        body: Option<String>,
        headers: &[(&'static str, &str)],
    ) -> Answer {
        let word = method.to_string();
        let mut request = Request::builder().method(method).uri(path);
        if body.is_some() && !headers.iter().any(|(name, _)| *name == "content-type") {
            request = request.header("content-type", "application/json");
        }
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let answer = self.send(request.body(body.map_or_else(Body::empty, Body::from)).expect("a request")).await;
        contract::check(&word, path, &answer);
        answer
    }

    /// GET.
    pub async fn get(&self, path: &str) -> Answer {
        self.request(Method::GET, path, None, &[]).await
    }

    /// DELETE.
    pub async fn delete(&self, path: &str) -> Answer {
        self.request(Method::DELETE, path, None, &[]).await
    }

    /// POST with a fresh key.
    pub async fn post(&self, path: &str, body: &Value) -> Answer {
        self.post_with_key(path, body, &fresh("key")).await
    }

    /// POST with this key.
    pub async fn post_with_key(&self, path: &str, body: &Value, key: &str) -> Answer {
        self.request(Method::POST, path, Some(body.to_string()), &[("idempotency-key", key)]).await
    }

    /// PUT with a fresh key.
    pub async fn put(&self, path: &str, body: &Value) -> Answer {
        self.put_with_key(path, body, &fresh("key")).await
    }

    /// PUT with this key.
    pub async fn put_with_key(&self, path: &str, body: &Value, key: &str) -> Answer {
        self.request(Method::PUT, path, Some(body.to_string()), &[("idempotency-key", key)]).await
    }

    /// POST without a key.
    pub async fn post_without_key(&self, path: &str, body: &Value) -> Answer {
        self.request(Method::POST, path, Some(body.to_string()), &[]).await
    }
}

/// A word that no other call in this process gives.
pub fn fresh(what: &str) -> String {
    static COUNT: AtomicU64 = AtomicU64::new(0);
    format!("{what}-{}", COUNT.fetch_add(1, Ordering::Relaxed))
}

/// The password of all test accounts.
pub const PASSWORD: &str = "correct horse battery";

/// A person that signed up and in.
#[derive(Clone, Debug)]
pub struct Account {
    /// Its client, with its access token.
    pub client: Client,
    /// E-mail address.
    pub email: String,
    /// The person's id.
    pub user: String,
    /// The organisation's id.
    pub organisation: String,
    /// A refresh token.
    pub refresh: String,
}

impl std::ops::Deref for Account {
    type Target = Client;
    fn deref(&self) -> &Client {
        &self.client
    }
}

/// Signs up a person with a new organisation of `kind`, and signs in.
pub async fn sign_up(server: &TestServer, kind: &str) -> Account {
    let client = server.client();
    let email = format!("{}@example.com", fresh(kind));
    let body = json!({
        "email": email, "password": PASSWORD, "name": "Pat", "organisation": { "name": fresh(kind), "kind": kind },
    });
    let made = client.post("/v1/auth/register", &body).await.expect(201);
    let (token, refresh) = sign_in(&client, &email, PASSWORD).await;
    Account {
        client: client.with_token(&token),
        email,
        user: made["user"]["id"].as_str().expect("an id").to_owned(),
        organisation: made["organisation"]["id"].as_str().expect("an id").to_owned(),
        refresh,
    }
}

/// Signs in; access and refresh token.
pub async fn sign_in(client: &Client, email: &str, password: &str) -> (String, String) {
    let tokens = client.post_without_key("/v1/auth/token", &json!({ "email": email, "password": password })).await;
    let tokens = tokens.expect(200);
    let text = |name: &str| tokens[name].as_str().expect("a token").to_owned();
    (text("access_token"), text("refresh_token"))
}

/// Adds a member with `role` to the organisation of `admin`, and signs it in.
pub async fn add_member(admin: &Account, role: &str) -> Account {
    let email = format!("{}@example.com", fresh(role));
    let body = json!({ "email": email, "name": "Sam", "role": role, "password": PASSWORD });
    let made = admin.post("/v1/organisation/members", &body).await.expect(201);
    let (token, refresh) = sign_in(admin, &email, PASSWORD).await;
    Account {
        client: admin.with_token(&token),
        email,
        user: made["id"].as_str().expect("an id").to_owned(),
        organisation: admin.organisation.clone(),
        refresh,
    }
}

/// The body of a tender with one English lot of ten minutes; a test changes what it needs.
pub fn tender_body() -> Value {
    json!({
        "title": "Front bumper",
        "currency": "SAR",
        "lots": [{
            "title": "Bumper",
            "items": [{ "description": "OEM 52119-0K", "quantity": "2", "unit": "piece" }],
            "rules": {
                "format": "english", "duration_s": 600, "ceiling": "1000.00",
                "decrement": { "kind": "amount", "value": "5.00" },
            },
        }],
    })
}

/// A tender with its lots, as ids.
#[derive(Clone, Debug)]
pub struct Ids {
    /// The tender.
    pub tender: String,
    /// Its lots.
    pub lots: Vec<String>,
}

impl Ids {
    /// The path of the tender with `rest` behind it.
    pub fn tender(&self, rest: &str) -> String {
        format!("/v1/tenders/{}{rest}", self.tender)
    }

    /// The path of the first lot with `rest` behind it.
    pub fn lot(&self, rest: &str) -> String {
        format!("/v1/lots/{}{rest}", self.lots[0])
    }
}

/// Makes a draft.
pub async fn create_tender(buyer: &Client, body: &Value) -> Ids {
    let made = buyer.post("/v1/tenders", body).await.expect(201);
    let id = |value: &Value| value["id"].as_str().expect("an id").to_owned();
    Ids { tender: id(&made), lots: made["lots"].as_array().expect("lots").iter().map(id).collect() }
}

/// Admits `suppliers` to a draft, publishes and starts it.
pub async fn open_tender(buyer: &Client, body: &Value, suppliers: &[&Account]) -> Ids {
    let ids = create_tender(buyer, body).await;
    for supplier in suppliers {
        let body = json!({ "organisation": supplier.organisation });
        buyer.post(&ids.tender("/bidders"), &body).await.expect(201);
    }
    buyer.post(&ids.tender("/publish"), &json!({})).await.expect(200);
    buyer.post(&ids.tender("/start"), &json!({})).await.expect(200);
    ids
}

/// Places a bid.
pub async fn bid(bidder: &Client, ids: &Ids, price: &str) -> Answer {
    bidder.post(&ids.lot("/bids"), &json!({ "price": price })).await
}

/// Waits until `done` holds, for as long as a slow machine may take; fails with `what` otherwise.
pub async fn eventually<F: Future<Output = bool>>(what: &str, mut done: impl FnMut() -> F) {
    for _ in 0..400 {
        if done().await {
            return;
        }
        tokio::time::sleep(Duration::from_millis(25)).await;
    }
    panic!("{what} did not happen");
}
