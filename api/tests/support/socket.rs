//! A client of the feed over a real socket: requests with their replies, and everything that came, in order.

use std::time::Duration;

use futures_util::{SinkExt, StreamExt};
use serde_json::{Value, json};
use tokio::net::TcpStream;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::client::IntoClientRequest;
use tokio_tungstenite::tungstenite::http::HeaderValue;
use tokio_tungstenite::{MaybeTlsStream, WebSocketStream};

use super::Client;

/// How long a test waits for what must come. Never asserted: a test that waits this long has failed.
const PATIENCE: Duration = Duration::from_secs(20);

/// One socket.
pub struct Socket {
    socket: WebSocketStream<MaybeTlsStream<TcpStream>>,
    last_id: u64,
    /// The texts of all pushes about lots that came, in order; heartbeats and signed roots come by the clock.
    pub pushes: Vec<String>,
}

impl Socket {
    /// Connects as whoever `client` is, and says hello.
    pub async fn connect(client: &Client) -> Self {
        let mut request = format!("ws://{}/v1/feed", client.address).into_client_request().expect("a request");
        let protocol = HeaderValue::from_static(api::feed::SUBPROTOCOL);
        request.headers_mut().insert("sec-websocket-protocol", protocol);
        let (socket, _) = tokio_tungstenite::connect_async(request).await.expect("connected");
        let mut this = Self { socket, last_id: 0, pushes: Vec::new() };
        let welcome = this.ask("hello", json!({ "token": client.token })).await;
        assert!(welcome["ok"].is_object(), "{welcome}");
        this
    }

    /// Sends a request and reads until its reply; what was pushed meanwhile is kept.
    pub async fn ask(&mut self, op: &str, d: Value) -> Value {
        self.last_id += 1;
        let id = self.last_id;
        let text = json!({ "id": id, "op": op, "d": d }).to_string();
        self.socket.send(Message::text(text)).await.expect("sent");
        loop {
            let frame = self.next().await;
            if frame["re"] == id {
                return frame;
            }
        }
    }

    /// Subscribes; the reply.
    pub async fn sub(&mut self, lot: &str) -> Value {
        let reply = self.ask("sub", json!({ "lot": lot })).await;
        assert!(reply["ok"].is_object(), "{reply}");
        reply
    }

    /// Reads until a push of kind `p` that `wanted` likes; it.
    pub async fn push(&mut self, p: &str, wanted: impl Fn(&Value) -> bool) -> Value {
        loop {
            let frame = self.next().await;
            if frame["p"] == p && wanted(&frame) {
                return frame;
            }
        }
    }

    /// Reads until the node closes the socket; its close code.
    pub async fn closed(&mut self) -> Option<u16> {
        loop {
            match tokio::time::timeout(PATIENCE, self.socket.next()).await.expect("something comes") {
                Some(Ok(Message::Close(frame))) => return frame.map(|frame| frame.code.into()),
                Some(Ok(_)) => {}
                Some(Err(_)) | None => return None,
            }
        }
    }

    /// The next frame.
    pub async fn next(&mut self) -> Value {
        loop {
            let message = tokio::time::timeout(PATIENCE, self.socket.next()).await.expect("something comes");
            match message {
                Some(Ok(Message::Text(text))) => {
                    let frame: Value = serde_json::from_str(&text).expect("JSON");
                    if frame["p"].is_string() && frame["p"] != "hb" && frame["p"] != "checkpoint" {
                        self.pushes.push(text.to_string());
                    }
                    return frame;
                }
                Some(Ok(Message::Close(frame))) => panic!("the socket was closed: {frame:?}"),
                Some(Ok(_)) => {}
                Some(Err(error)) => panic!("the socket broke: {error}"),
                None => panic!("the socket ended"),
            }
        }
    }
}
