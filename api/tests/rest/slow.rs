//! Clients that are silent, slow, too many, or not speaking HTTP: each is ended within its limit, others don't notice.

use std::time::{Duration, Instant};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::support::{TestServer, open_tender, sign_up, tender_body};

/// More than any limit here, less than a test may hang.
const ENDLESS: Duration = Duration::from_secs(30);

async fn connect(server: &TestServer) -> TcpStream {
    TcpStream::connect(server.address()).await.expect("a connection")
}

/// Everything that comes until the other end closes, and how long that took.
async fn until_closed(stream: &mut TcpStream) -> (String, Duration) {
    let began = Instant::now();
    let mut bytes = Vec::new();
    let read = tokio::time::timeout(ENDLESS, stream.read_to_end(&mut bytes)).await.expect("it is closed");
    if let Err(error) = read {
        assert_eq!(error.kind(), std::io::ErrorKind::ConnectionReset, "{error}");
    }
    (String::from_utf8_lossy(&bytes).into_owned(), began.elapsed())
}

/// Sends `bytes` one by one, ten a second, until the other end closes.
async fn drip(mut stream: TcpStream, bytes: Vec<u8>) -> Duration {
    let began = Instant::now();
    let (mut read, mut write) = stream.split();
    let write = async {
        for byte in bytes.iter().cycle() {
            if write.write_all(&[*byte]).await.is_err() {
                return;
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    };
    let read = async {
        let mut ignored = Vec::new();
        let _closed_or_reset = read.read_to_end(&mut ignored).await;
    };
    tokio::time::timeout(ENDLESS, async {
        tokio::select! { () = write => {}, () = read => {} }
    })
    .await
    .expect("it is closed");
    began.elapsed()
}

#[tokio::test(flavor = "multi_thread")]
async fn slow_clients_are_ended_within_their_limits() {
    let server = TestServer::start().await;
    let buyer = sign_up(&server, "buyer").await;
    let token = buyer.token.clone().expect("a token");
    let head_limit = Duration::from_secs(4)..Duration::from_secs(9);
    let body_limit = Duration::from_secs(9)..Duration::from_secs(15);

    let silent = async {
        let mut stream = connect(&server).await;
        let (_, took) = until_closed(&mut stream).await;
        assert!(head_limit.contains(&took), "silent: {took:?}");
    };
    let half_head = async {
        let mut stream = connect(&server).await;
        stream.write_all(b"GET /v1/time HTTP/1.1\r\nHost: x\r\n").await.expect("sent");
        let (_, took) = until_closed(&mut stream).await;
        assert!(head_limit.contains(&took), "half a head: {took:?}");
    };
    let dripping_head = async {
        let took = drip(connect(&server).await, b"X-Header: and one more line\r\n".to_vec()).await;
        assert!(took < head_limit.end, "a dripping head: {took:?}");
    };
    let dripping_after_an_answer = async {
        let mut stream = connect(&server).await;
        stream.write_all(b"GET /v1/time HTTP/1.1\r\nHost: x\r\n\r\n").await.expect("sent");
        let mut first = [0; 12];
        stream.read_exact(&mut first).await.expect("an answer");
        assert_eq!(&first, b"HTTP/1.1 200");
        // Idle connections live on past the limit of a head …
        tokio::time::sleep(Duration::from_secs(7)).await;
        stream.write_all(b"GET /v1/time HTTP/1.1\r\nHost: x\r\n").await.expect("still open");
        // … but the next head has its own limit, from its first byte.
        let (_, took) = until_closed(&mut stream).await;
        assert!(took < head_limit.end, "the second head: {took:?}");
    };
    let stuck_body = async {
        let mut stream = connect(&server).await;
        let head = format!(
            "POST /v1/tenders HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {token}\r\nContent-Type: application/json\r\nContent-Length: 1000\r\n\r\n{{"
        );
        stream.write_all(head.as_bytes()).await.expect("sent");
        let (answer, took) = until_closed(&mut stream).await;
        assert!(answer.starts_with("HTTP/1.1 408") && answer.contains("request_timeout"), "{answer}");
        assert!(body_limit.contains(&took), "a stuck body: {took:?}");
    };
    let dripping_body = async {
        let mut stream = connect(&server).await;
        let head = format!(
            "POST /v1/tenders HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {token}\r\nContent-Type: application/json\r\nContent-Length: 100000\r\n\r\n"
        );
        stream.write_all(head.as_bytes()).await.expect("sent");
        let took = drip(stream, b" ".to_vec()).await;
        assert!(took < body_limit.end, "a dripping body: {took:?}");
    };
    let others = async {
        for _ in 0..20 {
            buyer.get("/v1/me").await.expect(200);
            tokio::time::sleep(Duration::from_millis(250)).await;
        }
    };
    tokio::join!(silent, half_head, dripping_head, dripping_after_an_answer, stuck_body, dripping_body, others);
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_no_http_is_closed_and_harms_nobody() {
    let server = TestServer::start().await;
    for bytes in [
        &b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03"[..],
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
        b"GET / HTTP/9.9\r\n\r\n",
        b"\0\0\0\0\r\n\r\n",
        b"GET /v1/time HTTP/1.1\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        b"GET /v1/time HTTP/1.1\r\nHost: x\r\nContent-Length: 3\r\nContent-Length: 4\r\n\r\nabc",
        b"POST /v1/auth/token HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\nZZ\r\n",
        b"GET http://[ HTTP/1.1\r\n\r\n",
    ] {
        let mut stream = connect(&server).await;
        stream.write_all(bytes).await.expect("sent");
        stream.shutdown().await.expect("sent");
        let (answer, _) = until_closed(&mut stream).await;
        assert!(answer.is_empty() || answer.starts_with("HTTP/1.1 "), "{answer}");
    }
    let mut stream = connect(&server).await;
    let many: String = (0..2000).map(|number| format!("X-{number}: x\r\n")).collect();
    stream.write_all(format!("GET /v1/time HTTP/1.1\r\nHost: x\r\n{many}\r\n").as_bytes()).await.expect("sent");
    let (answer, _) = until_closed(&mut stream).await;
    assert!(answer.starts_with("HTTP/1.1 431"), "{answer:.100}");
    server.client().get("/v1/time").await.expect(200);
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn one_address_has_a_share_of_the_connections() {
    let server = TestServer::start_with(|config| config.limits = api::config::Limits::Default).await;
    let mut held = Vec::new();
    for _ in 0..256 {
        held.push(connect(&server).await);
    }
    let mut refused = connect(&server).await;
    let (answer, took) = until_closed(&mut refused).await;
    assert!(answer.is_empty() && took < Duration::from_secs(4), "{answer} {took:?}");
    drop(held);
    crate::support::eventually("room again", || async {
        let mut stream = connect(&server).await;
        let sent = stream.write_all(b"GET /v1/time HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n").await;
        sent.is_ok() && until_closed(&mut stream).await.0.starts_with("HTTP/1.1 200")
    })
    .await;
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_request_under_way_ends_before_the_server_does() {
    let server = TestServer::start().await;
    let buyer = sign_up(&server, "buyer").await;
    let supplier = sign_up(&server, "supplier").await;
    let ids = open_tender(&buyer, &tender_body(), &[&supplier]).await;
    let (address, client) = (server.address(), supplier.client.clone());
    let path = ids.lot("/events?after=2&wait=2");
    let polling = tokio::spawn(async move { client.get(&path).await });
    let mut idle = connect(&server).await;
    idle.write_all(b"GET /v1/time HTTP/1.1\r\nHost: x\r\n\r\n").await.expect("sent");
    crate::support::eventually("the poll is under way", || async {
        let metrics = server.admin().get("/metrics").await;
        String::from_utf8_lossy(&metrics.body).contains("route=\"/v1/time\"")
    })
    .await;
    let admin = server.admin();
    let stopping = tokio::spawn(server.stop());
    // The poll holds the server up for two seconds; meanwhile a balancer is told to look elsewhere.
    crate::support::eventually("not ready", || async { admin.get("/readyz").await.status == 503 }).await;
    assert_eq!(polling.await.expect("an answer").status, 200);
    stopping.await.expect("it stops");
    let (_, took) = until_closed(&mut idle).await;
    assert!(took < Duration::from_secs(5), "an idle connection is closed at once: {took:?}");
    assert!(TcpStream::connect(address).await.is_err(), "nobody listens any more");
}
