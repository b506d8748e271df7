//! A small client of the server's own REST door, for the demo. One connection a request; speaks HTTP/1.1 to loopback.

use std::net::SocketAddr;
use std::sync::Mutex;
use std::time::Duration;

use anyhow::{Context as _, bail};
use axum::body::Body;
use axum::http::header::{AUTHORIZATION, CONTENT_TYPE, HOST};
use axum::http::{Method, Request};
use hyper_util::rt::TokioIo;
use serde_json::{Value, json};
use tokio::net::TcpStream;
use uuid::Uuid;

/// Largest answer that is read, in bytes.
const ANSWER_MAX: usize = 8 << 20;
/// How long an answer may take.
const PATIENCE: Duration = Duration::from_secs(15);
/// How often a request is sent while the server says «not now».
const TRIES: u32 = 40;
/// How long between two of them.
const PAUSE: Duration = Duration::from_millis(250);

/// An answer, whatever it says.
#[derive(Debug)]
pub struct Answer {
    /// The status.
    pub status: u16,
    /// The body; null if it is no JSON.
    pub body: Value,
}

/// Somebody who signs in with e-mail and password.
#[derive(Debug)]
pub struct Client {
    address: SocketAddr,
    email: &'static str,
    password: &'static str,
    token: Mutex<Option<String>>,
}

impl Client {
    /// Nobody is asked yet.
    pub fn new(address: SocketAddr, email: &'static str, password: &'static str) -> Self {
        Self { address, email, password, token: Mutex::new(None) }
    }

    /// Where the server listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Signs in and returns the access token.
    pub async fn sign_in(&self) -> anyhow::Result<String> {
        let body = json!({ "email": self.email, "password": self.password });
        let answer = self.open("/v1/auth/token", &body).await?;
        let Some(token) = answer.body["access_token"].as_str().filter(|_| answer.status == 200) else {
            bail!("sign-in was answered {} {}", answer.status, answer.body);
        };
        *self.token.lock().expect("nobody panics while holding it") = Some(token.to_owned());
        Ok(token.to_owned())
    }

    /// A POST without a token.
    pub async fn open(&self, path: &str, body: &Value) -> anyhow::Result<Answer> {
        self.ask(Method::POST, path, Some(body), None, &key()).await
    }

    /// A GET; its body if all went well.
    pub async fn get(&self, path: &str) -> anyhow::Result<Value> {
        self.signed(Method::GET, path, None).await
    }

    /// A POST under a key of its own; its body if all went well.
    pub async fn post(&self, path: &str, body: &Value) -> anyhow::Result<Value> {
        self.signed(Method::POST, path, Some(body)).await
    }

    async fn signed(&self, method: Method, path: &str, body: Option<&Value>) -> anyhow::Result<Value> {
        let key = key();
        for fresh in [false, true] {
            let known = self.token.lock().expect("nobody panics while holding it").clone();
            let token = match known.filter(|_| !fresh) {
                Some(token) => token,
                None => self.sign_in().await?,
            };
            let answer = self.ask(method.clone(), path, body, Some(&token), &key).await?;
            match answer.status {
                200..300 => return Ok(answer.body),
                401 if !fresh => {}
                status => bail!("{method} {path} was answered {status} {}", answer.body),
            }
        }
        bail!("{method} {path}: the token of a fresh sign-in was refused")
    }

    /// One request; sent again under the same key as long as the server can't be reached or says «not now».
    async fn ask(
        &self,
        method: Method,
        path: &str,
        body: Option<&Value>,
        token: Option<&str>,
        key: &str,
    ) -> anyhow::Result<Answer> {
        let mut tries = 0;
        loop {
            tries += 1;
            let sent = tokio::time::timeout(PATIENCE, self.send(&method, path, body, token, key)).await;
            let answer = sent.context("no answer in time").and_then(|answer| answer);
            let again = match &answer {
                Ok(answer) => matches!(answer.status, 429 | 503),
                Err(_) => true,
            };
            if !again || tries == TRIES {
                return answer.with_context(|| format!("{method} {path}"));
            }
            tokio::time::sleep(PAUSE).await;
        }
    }

    async fn send(
        &self,
        method: &Method,
        path: &str,
        body: Option<&Value>,
        token: Option<&str>,
        key: &str,
    ) -> anyhow::Result<Answer> {
        let stream = TcpStream::connect(self.address).await?;
        let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await?;
        let driver = tokio::spawn(connection);
        let mut request = Request::builder().method(method).uri(path).header(HOST, self.address.to_string());
        if let Some(token) = token {
            request = request.header(AUTHORIZATION, format!("Bearer {token}"));
        }
        if *method == Method::POST {
            request = request.header("Idempotency-Key", key);
        }
        let payload = match body {
            Some(body) => {
                request = request.header(CONTENT_TYPE, "application/json");
                Body::from(body.to_string())
            }
            None => Body::empty(),
        };
        let response = sender.send_request(request.body(payload)?).await?;
        let status = response.status().as_u16();
        let bytes = axum::body::to_bytes(Body::new(response.into_body()), ANSWER_MAX).await?;
        driver.abort();
        Ok(Answer { status, body: serde_json::from_slice(&bytes).unwrap_or(Value::Null) })
    }
}

fn key() -> String {
    Uuid::now_v7().to_string()
}
