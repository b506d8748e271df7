//! Rate limits through the real doors: who is over one is told so and nothing is done; nobody else notices.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::time::{Duration, Instant};

use api::config::Limits;
use axum::http::Method;
use futures_util::{SinkExt, StreamExt, future::join_all};
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio_tungstenite::tungstenite::client::IntoClientRequest;
use tokio_tungstenite::tungstenite::{Error, Message};
use tokio_tungstenite::{MaybeTlsStream, WebSocketStream};

use crate::support::socket::Socket;
use crate::support::{Account, Client, TestServer, bid, fresh, open_tender, sign_up, tender_body};

/// Where the hostile ones come from, as a trusted proxy tells it.
const HOSTILE: (&str, &str) = ("x-forwarded-for", "198.51.100.66");

/// A server behind a proxy on loopback, so that a test has more than one address.
async fn behind_a_proxy() -> TestServer {
    TestServer::start_with(|config| {
        config.limits = Limits::Default;
        config.trusted_proxies = vec![[127, 0, 0, 1].into()];
    })
    .await
}

type Wire = WebSocketStream<MaybeTlsStream<TcpStream>>;

/// A handshake from the hostile address: the socket, or the status it was refused with and `Retry-After`.
async fn shake_hands(client: &Client) -> Result<Wire, (u16, String)> {
    let mut request = format!("ws://{}/v1/feed", client.address).into_client_request().expect("a request");
    let headers = request.headers_mut();
    headers.insert("sec-websocket-protocol", api::feed::SUBPROTOCOL.parse().expect("a value"));
    headers.insert(HOSTILE.0, HOSTILE.1.parse().expect("a value"));
    match tokio_tungstenite::connect_async(request).await {
        Ok((wire, _)) => Ok(wire),
        Err(Error::Http(answer)) => {
            let after = answer.headers().get("retry-after").map(|value| value.to_str().expect("text").to_owned());
            Err((answer.status().as_u16(), after.unwrap_or_default()))
        }
        Err(other) => panic!("{other}"),
    }
}

async fn say(wire: &mut Wire, id: u64, op: &str, d: Value) -> Result<(), Error> {
    wire.send(Message::text(json!({ "id": id, "op": op, "d": d }).to_string())).await
}

#[tokio::test(flavor = "multi_thread")]
async fn bids_of_one_bidder_in_one_lot_count_together_over_both_doors() {
    let server = behind_a_proxy().await;
    let (buyer, one) = (sign_up(&server, "buyer").await, sign_up(&server, "supplier").await);
    let mut body = tender_body();
    body["lots"] = json!([body["lots"][0], body["lots"][0]]);
    let ids = open_tender(&buyer, &body, &[&one]).await;
    let mut socket = Socket::connect(&one).await;
    let began = Instant::now();
    // Refused by the engine or not: all of them count.
    let rest = join_all((0..40).map(async |_| bid(&one, &ids, "1.001").await)).await;
    let mut over = Vec::new();
    for n in 0..40 {
        let asked =
            socket.ask("bid.place", json!({ "lot": ids.lots[0], "cid": format!("c{n}"), "price": "2.001" }));
        over.push(asked.await["err"].clone());
    }
    let limit = one.put(&ids.lot("/auto-bid"), &json!({ "limit": "800.00" })).await;
    let limited = rest.iter().find(|answer| answer.status == 429).expect("forty at once are too many");
    let told = limited.refused(429, "rate_limited");
    assert!(told["detail"].as_str().is_some_and(|text| text.contains("bids")), "{told}");
    assert_eq!(limited.header("retry-after"), "1");
    assert!(limited.header("ratelimit-policy").contains("\"bids\";q=10;w=2"), "{limited:?}");
    assert!(limited.header("ratelimit").contains("\"bids\";r=0;t="), "{limited:?}");
    assert!(limit.status == 429 || limit.status == 422, "a limit is an offer like any other: {limit:?}");
    let seen = one.get(&ids.lot("/bids?limit=200")).await.expect(200);
    let taken = seen["items"].as_array().expect("items").len();
    let most = 10 + began.elapsed().as_millis() / 200;
    assert!((10..=most as usize).contains(&taken), "{taken} of 80, at most {most}");
    let refused = over.iter().find(|err| err["code"] == "rate_limited").expect("the socket is no way round");
    assert_eq!(refused["retry"], "later");
    assert!((1..=200).contains(&refused["after_ms"].as_u64().expect("a number")), "{refused}");

    // What was over a limit was not recorded: the key is free, and after the time that was told it is taken.
    let n = over.iter().position(|err| err["code"] == "rate_limited").expect("one was");
    let again = loop {
        tokio::time::sleep(Duration::from_millis(210)).await;
        let d = json!({ "lot": ids.lots[0], "cid": format!("c{n}"), "price": "900.00" });
        let answer = socket.ask("bid.place", d).await;
        if answer["err"]["code"] != "rate_limited" {
            break answer;
        }
    };
    assert_eq!(again["ok"]["status"], "accepted", "{again}");
    let other = one.post(&format!("/v1/lots/{}/bids", ids.lots[1]), &json!({ "price": "900.00" })).await;
    other.expect(201);
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_thousandfold_attacker_shuts_nobody_out() {
    let server = behind_a_proxy().await;
    let buyer = sign_up(&server, "buyer").await;
    let (victim, attacker) = (sign_up(&server, "supplier").await, sign_up(&server, "supplier").await);
    let ids = open_tender(&buyer, &tender_body(), &[&victim, &attacker]).await;
    let (stop, sent) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU32::new(0)));
    let (limited, thrown_out) = (Arc::new(AtomicU32::new(0)), Arc::new(AtomicU32::new(0)));
    let mut attacks = Vec::new();
    for door in 0..4 {
        let (attacker, ids) = (attacker.clone(), ids.clone());
        let (stop, sent, limited, thrown_out) =
            (Arc::clone(&stop), Arc::clone(&sent), Arc::clone(&limited), Arc::clone(&thrown_out));
        attacks.push(tokio::spawn(async move {
            while !stop.load(Ordering::Relaxed) {
                if door < 2 {
                    let body = json!({ "price": "990.00" }).to_string();
                    let key = fresh("hostile");
                    let headers = [("idempotency-key", key.as_str()), HOSTILE];
                    let answer = attacker.request(Method::POST, &ids.lot("/bids"), Some(body), &headers).await;
                    limited.fetch_add(u32::from(answer.status == 429), Ordering::Relaxed);
                    sent.fetch_add(1, Ordering::Relaxed);
                } else if let Ok(mut wire) = shake_hands(&attacker).await {
                    say(&mut wire, 1, "hello", json!({ "token": attacker.token })).await.expect("sent");
                    for n in 2..2_000 {
                        let d = json!({ "lot": ids.lots[0], "cid": format!("{door}.{n}"), "price": "990.00" });
                        if say(&mut wire, n, "bid.place", d).await.is_err() {
                            break;
                        }
                        sent.fetch_add(1, Ordering::Relaxed);
                    }
                    while let Some(Ok(message)) = wire.next().await {
                        if let Message::Close(Some(frame)) = message {
                            thrown_out.fetch_add(u32::from(u16::from(frame.code) == 4101), Ordering::Relaxed);
                        }
                    }
                } else {
                    tokio::time::sleep(Duration::from_millis(50)).await;
                }
            }
        }));
    }
    for n in 0..20 {
        // 5 a second: as fast as one may go for ever.
        let price = format!("{}.00", 900 - 10 * n);
        let placed = victim.post(&ids.lot("/bids"), &json!({ "price": price })).await.expect(201);
        assert_eq!((&placed["status"], &placed["lead"]), (&json!("accepted"), &json!(true)), "{placed}");
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
    stop.store(true, Ordering::Relaxed);
    for attack in attacks {
        attack.await.expect("an attack ends");
    }
    let (sent, limited) = (sent.load(Ordering::Relaxed), limited.load(Ordering::Relaxed));
    println!("{sent} hostile bids sent, {limited} of REST limited, 20 of 20 of the victim accepted");
    assert!(limited > 0 && thrown_out.load(Ordering::Relaxed) > 0, "{sent} sent, {limited} limited");
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_socket_over_its_rate_is_told_and_then_closed() {
    let server = behind_a_proxy().await;
    let mut wire = shake_hands(&server.client()).await.expect("a socket");
    say(&mut wire, 1, "hello", json!({})).await.expect("sent");
    let sending = (2..1_500).map(|id| json!({ "id": id, "op": "time", "d": { "t0": "x" } }).to_string());
    for text in sending {
        // It may be closed before all of them are sent.
        if wire.feed(Message::text(text)).await.is_err() {
            break;
        }
    }
    let _closed = wire.flush().await;
    let (mut fine, mut over, mut code) = (0, 0, 0);
    while let Some(Ok(message)) = wire.next().await {
        match message {
            Message::Text(text) => {
                let frame: Value = serde_json::from_str(&text).expect("JSON");
                if frame["err"]["code"] == "rate_limited" {
                    assert_eq!(frame["err"]["retry"], "later");
                    assert!(frame["err"]["after_ms"].as_u64().is_some_and(|ms| (1..=50).contains(&ms)), "{frame}");
                    over += 1;
                } else {
                    fine += u32::from(frame["ok"].is_object());
                }
            }
            Message::Close(Some(frame)) => code = u16::from(frame.code),
            _ => {}
        }
    }
    assert_eq!(code, 4101, "{fine} answered, {over} over");
    assert!(fine >= 40 && over <= 100, "{fine} answered, {over} over");
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn handshakes_are_limited_by_address() {
    let server = behind_a_proxy().await;
    let client = server.client();
    let shaken = join_all((0..80).map(|_| shake_hands(&client))).await;
    let refused: Vec<_> = shaken.iter().filter_map(|answer| answer.as_ref().err()).collect();
    assert!(!refused.is_empty() && shaken.len() - refused.len() >= 30, "{} refused", refused.len());
    assert!(refused.iter().all(|refused| **refused == (429, "1".to_owned())), "{refused:?}");
    let person = sign_up(&server, "supplier").await;
    Socket::connect(&person).await;
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn passwords_are_tried_a_few_times_only_and_from_there_only() {
    let server = behind_a_proxy().await;
    let person = sign_up(&server, "supplier").await;
    let wrong = json!({ "email": person.email, "password": "not this one" }).to_string();
    let tries = (0..80).map(async |_| {
        server.client().request(Method::POST, "/v1/auth/token", Some(wrong.clone()), &[HOSTILE]).await
    });
    let answers = join_all(tries).await;
    let limited = answers.iter().filter(|answer| answer.status == 429).count();
    assert!(limited > 0 && answers.iter().all(|answer| matches!(answer.status.as_u16(), 401 | 429 | 503)));
    // The person itself, from another address, is let in all the while.
    crate::support::sign_in(&server.client(), &person.email, crate::support::PASSWORD).await;
    server.stop().await;
}

/// Sends `GET path` over one connection until an answer is 429; how many were not. Panics when none is.
async fn flood(client: &Client, path: &str, token: Option<&str>) -> u32 {
    let mut stream = TcpStream::connect(client.address).await.expect("a connection");
    let token = token.map_or_else(String::new, |token| format!("authorization: Bearer {token}\r\n"));
    let (name, address) = HOSTILE;
    let one = format!("GET {path} HTTP/1.1\r\nhost: x\r\n{name}: {address}\r\n{token}\r\n");
    let (mut fine, mut seen, mut buffer) = (0, Vec::new(), vec![0; 64 << 10]);
    for _ in 0..200 {
        stream.write_all(one.repeat(100).as_bytes()).await.expect("sent");
        let mut answers = 0;
        while answers < 100 {
            let read = stream.read(&mut buffer).await.expect("an answer");
            assert!(read > 0, "the connection ended after {fine}");
            seen.extend_from_slice(&buffer[..read]);
            while let Some(at) = seen.windows(9).position(|bytes| bytes == b"HTTP/1.1 ") {
                let Some(status) = seen.get(at + 9..at + 12).map(<[u8]>::to_vec) else { break };
                seen.drain(..at + 12);
                if status == b"429" {
                    return fine;
                }
                assert_eq!(status, b"200");
                (fine, answers) = (fine + 1, answers + 1);
            }
        }
    }
    panic!("{fine} requests were all answered");
}

#[tokio::test(flavor = "multi_thread")]
async fn persons_and_addresses_have_limits_of_their_own() {
    let server = behind_a_proxy().await;
    let person: Account = sign_up(&server, "supplier").await;
    let colleague = crate::support::add_member(&person, "trader").await;
    let fine = flood(&server.client(), "/v1/me", person.token.as_deref()).await;
    assert!(fine >= 390, "{fine} of one person");
    // On a slow machine the next request comes when there is room for it again, 10 ms later.
    let limited = person.get("/v1/me").await;
    if limited.status == 429 {
        limited.refused(429, "rate_limited");
    }
    colleague.get("/v1/me").await.expect(200);
    let fine = flood(&server.client(), "/v1/time", None).await;
    assert!(fine >= 1_000, "{fine} of one address");
    let limited = server.client().request(Method::GET, "/v1/time", None, &[HOSTILE]).await;
    if limited.status == 429 {
        limited.refused(429, "rate_limited");
    }
    let other = server.client().get("/v1/time").await;
    other.expect(200);
    assert!(other.header("ratelimit-policy").starts_with("\"address\";q=2000;w=4"), "{other:?}");
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn limits_can_be_lifted() {
    let server = TestServer::start().await;
    let (buyer, one) = (sign_up(&server, "buyer").await, sign_up(&server, "supplier").await);
    let ids = open_tender(&buyer, &tender_body(), &[&one]).await;
    let answers = join_all((0..60).map(async |_| bid(&one, &ids, "1.001").await)).await;
    for answer in answers {
        answer.refused(422, "price_scale");
        assert!(!answer.headers.contains_key("ratelimit"), "nothing is said of what does not hold");
    }
    server.stop().await;
}
