//! Tokens at the door: which requests count as signed in, and how a sign-in goes on and ends.

use axum::http::Method;
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::{Value, json};

use crate::support::{PASSWORD, TestServer, add_member, bid, open_tender, sign_in, sign_up, tender_body};

/// The parts of a token, decoded.
fn parts(token: &str) -> (Value, Value) {
    let mut parts = token.split('.').map(|part| URL_SAFE_NO_PAD.decode(part).expect("base64"));
    let mut next = || serde_json::from_slice(&parts.next().expect("a part")).expect("JSON");
    (next(), next())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_token_says_what_the_contract_lists() {
    let server = TestServer::start().await;
    let buyer = sign_up(&server, "buyer").await;
    let token = buyer.token.clone().expect("a token");
    let (header, claims) = parts(&token);
    let mut names: Vec<&String> = claims.as_object().expect("claims").keys().collect();
    names.sort();
    assert_eq!(names, ["aud", "exp", "iat", "iss", "jti", "org", "role", "sid", "sub", "typ"]);
    assert_eq!((&claims["sub"], &claims["org"]), (&json!(buyer.user), &json!(buyer.organisation)));
    assert_eq!(claims["exp"].as_i64().expect("a time") - claims["iat"].as_i64().expect("a time"), 900);
    let keys = server.client().get("/.well-known/jwks.json").await.expect(200);
    assert_eq!((&header["alg"], &keys["keys"][0]["crv"]), (&json!("EdDSA"), &json!("Ed25519")));
    assert_eq!(header["kid"], keys["keys"][0]["kid"]);
    let me = buyer.get("/v1/me").await.expect(200);
    assert_eq!((&me["user"]["id"], &me["user"]["email"]), (&json!(buyer.user), &json!(buyer.email)));
    assert_eq!((&me["organisation"]["kind"], &me["roles"]), (&json!("buyer"), &json!(["admin"])));
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn only_our_tokens_in_one_header_count() {
    let server = TestServer::start().await;
    let buyer = sign_up(&server, "buyer").await;
    let token = buyer.token.clone().expect("a token");
    let good = format!("Bearer {token}");
    let client = server.client();
    let ask = async |headers: &[(&'static str, &str)]| client.request(Method::GET, "/v1/me", None, headers).await;
    ask(&[("authorization", &good)]).await.expect(200);
    ask(&[("authorization", &format!("bearer {token}"))]).await.expect(200);
    let missing = ask(&[]).await;
    missing.refused(401, "token_missing");
    assert_eq!(missing.header("www-authenticate"), "Bearer");

    let (header, _) = parts(&token);
    let body = token.split('.').nth(1).expect("claims");
    let signature = token.split('.').nth(2).expect("a signature");
    let with_header =
        |header: &Value| format!("Bearer {}.{body}.{signature}", URL_SAFE_NO_PAD.encode(header.to_string()));
    let mut none = header.clone();
    none["alg"] = "none".into();
    let mut long_kid = header.clone();
    long_kid["kid"] = "k".repeat(8_000).into();
    let mut stranger = header.clone();
    stranger["kid"] = "somebody-else".into();
    let unsigned = format!("Bearer {}.{body}.", URL_SAFE_NO_PAD.encode(none.to_string()));
    let cases = [
        "Bearer".to_owned(),
        "Bearer ".to_owned(),
        "Basic dTpw".to_owned(),
        token.clone(),
        format!("Bearer {token} {token}"),
        format!("Bearer {token}x"),
        format!("Bearer {}", buyer.refresh),
        format!("Bearer {}", "a".repeat(20_000)),
        with_header(&none),
        with_header(&long_kid),
        with_header(&stranger),
        unsigned,
    ];
    for case in cases {
        ask(&[("authorization", &case)]).await.refused(401, "token_invalid");
    }
    ask(&[("authorization", &good), ("authorization", &good)]).await.refused(401, "token_invalid");
    // Where a token is optional, a wrong one is wrong all the same.
    client
        .request(Method::GET, "/v1/tenders", None, &[("authorization", "Bearer x")])
        .await
        .refused(401, "token_invalid");
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_token_of_another_installation_is_none_of_ours() {
    let (here, there) = (TestServer::start().await, TestServer::start().await);
    let stranger = sign_up(&there, "buyer").await;
    let client = here.client().with_token(stranger.token.as_deref().expect("a token"));
    client.get("/v1/me").await.refused(401, "token_invalid");
    here.client()
        .post("/v1/auth/refresh", &json!({ "refresh_token": stranger.refresh }))
        .await
        .refused(401, "token_invalid");
    here.stop().await;
    there.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_refresh_token_works_once_and_its_reuse_ends_the_sign_in() {
    let server = TestServer::start().await;
    let buyer = sign_up(&server, "buyer").await;
    let client = server.client();
    let refresh =
        async |token: &str| client.post_without_key("/v1/auth/refresh", &json!({ "refresh_token": token })).await;
    let next = refresh(&buyer.refresh).await.expect(200);
    assert_eq!((&next["token_type"], &next["expires_in"]), (&json!("Bearer"), &json!(900)));
    let text = |name: &str| next[name].as_str().expect("a token").to_owned();
    let (access, second) = (text("access_token"), text("refresh_token"));
    client.with_token(&access).get("/v1/me").await.expect(200);
    refresh(&buyer.refresh).await.refused(401, "token_invalid");
    refresh(&second).await.refused(401, "token_invalid");
    client.with_token(&access).get("/v1/me").await.refused(401, "token_invalid");
    for odd in ["", "rt_", "rt_AAAA", "x", &"rt_A".repeat(100)] {
        refresh(odd).await.refused(401, "token_invalid");
    }
    // A repeat under its key is no reuse.
    let (_, other) = sign_in(&client, &buyer.email, PASSWORD).await;
    let body = json!({ "refresh_token": other });
    let first = client.post_with_key("/v1/auth/refresh", &body, "once").await;
    let again = client.post_with_key("/v1/auth/refresh", &body, "once").await;
    assert_eq!((first.expect(200), again.header("idempotency-replayed")), (again.json(), "true"));
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn who_signed_out_or_was_removed_is_out() {
    let server = TestServer::start().await;
    let buyer = sign_up(&server, "buyer").await;
    let supplier = sign_up(&server, "supplier").await;
    let trader = add_member(&supplier, "trader").await;
    let ids = open_tender(&buyer, &tender_body(), &[&supplier]).await;
    bid(&trader, &ids, "900").await.expect(201);
    assert_eq!(supplier.delete(&format!("/v1/organisation/members/{}", trader.user)).await.status, 204);
    bid(&trader, &ids, "800").await.refused(401, "token_invalid");
    trader
        .post("/v1/auth/refresh", &json!({ "refresh_token": trader.refresh }))
        .await
        .refused(401, "token_invalid");
    let wrong = json!({ "email": trader.email, "password": PASSWORD });
    server.client().post("/v1/auth/token", &wrong).await.refused(401, "credentials_invalid");

    let (second, _) = sign_in(&server.client(), &supplier.email, PASSWORD).await;
    let out = supplier.post("/v1/auth/logout", &json!({})).await;
    assert_eq!((out.status.as_u16(), out.body.len()), (204, 0));
    bid(&supplier, &ids, "700").await.refused(401, "token_invalid");
    bid(&supplier.with_token(&second), &ids, "700").await.expect(201);
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn tokens_live_on_through_a_restart() {
    let server = TestServer::start().await;
    let buyer = sign_up(&server, "buyer").await;
    let server = server.restart().await;
    let client = server.client();
    client.with_token(buyer.token.as_deref().expect("a token")).get("/v1/me").await.expect(200);
    client.post("/v1/auth/refresh", &json!({ "refresh_token": buyer.refresh })).await.expect(200);
    server.stop().await;
}
