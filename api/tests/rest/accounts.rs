//! Sign-up, members and organisations through REST.

use serde_json::{Value, json};

use crate::support::{PASSWORD, TestServer, add_member, fresh, sign_in, sign_up};

fn register(email: &str) -> Value {
    json!({ "email": email, "password": PASSWORD, "name": "Pat", "organisation": { "name": "Org", "kind": "buyer" } })
}

#[tokio::test(flavor = "multi_thread")]
async fn who_signs_up_is_admin_of_a_new_organisation() {
    let server = TestServer::start().await;
    let client = server.client();
    let made = client.post("/v1/auth/register", &register(" Pat@Example.com ")).await.expect(201);
    assert_eq!((&made["user"]["email"], &made["user"]["name"]), (&json!("pat@example.com"), &json!("Pat")));
    assert_eq!((&made["organisation"]["name"], &made["organisation"]["kind"]), (&json!("Org"), &json!("buyer")));
    let again = client.post("/v1/auth/register", &register("pat@example.com")).await;
    again.refused(422, "email_taken");
    sign_in(&client, "PAT@example.com", PASSWORD).await;
    let wrong =
        client.post("/v1/auth/token", &json!({ "email": "pat@example.com", "password": "wrong one" })).await;
    let nobody =
        client.post("/v1/auth/token", &json!({ "email": "nobody@example.com", "password": "wrong one" })).await;
    let shape = |mut body: Value| {
        body.as_object_mut().expect("a problem").remove("trace_id");
        body
    };
    let (wrong, nobody) = (wrong.refused(401, "credentials_invalid"), nobody.refused(401, "credentials_invalid"));
    assert_eq!(shape(wrong), shape(nobody), "nothing tells whether an account exists");
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_repeat_of_a_sign_up_gives_the_first_answer() {
    let server = TestServer::start().await;
    let client = server.client();
    let body = register("pat@example.com");
    let first = client.post_with_key("/v1/auth/register", &body, "up").await;
    let again = client.post_with_key("/v1/auth/register", &body, "up").await;
    first.expect(201);
    assert_eq!((first.status, &first.body), (again.status, &again.body));
    assert_eq!(again.header("idempotency-replayed"), "true");
    let mut other = body.clone();
    other["password"] = "another password".into();
    client.post_with_key("/v1/auth/register", &other, "up").await.refused(422, "idempotency_key_reused");
    // Somebody else's key is another key, although nobody has an organisation yet.
    client.post_with_key("/v1/auth/register", &register("sam@example.com"), "up").await.expect(201);
    let credentials = json!({ "email": "pat@example.com", "password": PASSWORD });
    let first = client.post_with_key("/v1/auth/token", &credentials, "in").await;
    let again = client.post_with_key("/v1/auth/token", &credentials, "in").await;
    assert_eq!((first.expect(200), again.header("idempotency-replayed")), (again.json(), "true"));
    client.with_token(first.json()["access_token"].as_str().expect("a token")).get("/v1/me").await.expect(200);
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn sign_ups_that_cannot_be_are_refused_with_their_place() {
    let server = TestServer::start().await;
    let client = server.client();
    let with = |pointer: &str, value: Value| {
        let mut body = register("pat@example.com");
        *body.pointer_mut(pointer).expect("a field") = value;
        body
    };
    for (pointer, value) in [
        ("/email", json!("pat")),
        ("/email", json!("@example.com")),
        ("/email", json!("a b@example.com")),
        ("/email", json!(format!("{}@example.com", "x".repeat(300)))),
        ("/email", json!(7)),
        ("/password", json!("short")),
        ("/password", json!("x".repeat(1025))),
        ("/name", json!(" ")),
        ("/name", json!("x".repeat(201))),
        ("/organisation/name", json!("")),
        ("/organisation/kind", json!("seller")),
        ("/organisation", json!(null)),
    ] {
        let error = client.post("/v1/auth/register", &with(pointer, value)).await.refused(400, "malformed");
        assert_eq!(error["errors"][0]["pointer"], pointer, "{error}");
    }
    let mut body = register("pat@example.com");
    body["organisation"]["role"] = "admin".into();
    let error = client.post("/v1/auth/register", &body).await.refused(422, "unknown_field");
    assert_eq!(error["errors"][0]["pointer"], "/organisation/role");
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn members_are_added_by_admins_and_the_last_admin_stays() {
    let server = TestServer::start().await;
    let admin = sign_up(&server, "both").await;
    let email = format!("{}@example.com", fresh("new"));
    let body = json!({ "email": email, "name": "New", "role": "trader" });
    let first = admin.post_with_key("/v1/organisation/members", &body, "add").await;
    let again = admin.post_with_key("/v1/organisation/members", &body, "add").await;
    assert_eq!((first.expect(201), again.header("idempotency-replayed")), (again.json(), "true"));
    let password = first.json()["initial_password"].as_str().expect("a password").to_owned();
    let (token, _) = sign_in(&server.client(), &email, &password).await;
    let trader = server.client().with_token(&token);
    assert_eq!(trader.get("/v1/me").await.expect(200)["role"], "trader");
    let with_password = add_member(&admin, "auditor").await;
    with_password.post("/v1/tenders", &crate::support::tender_body()).await.refused(403, "forbidden");
    trader.post("/v1/organisation/members", &body).await.refused(403, "forbidden");
    trader.delete(&format!("/v1/organisation/members/{}", admin.user)).await.refused(403, "forbidden");
    let members = with_password.get("/v1/organisation/members").await.expect(200);
    let mut roles: Vec<&str> =
        members["items"].as_array().expect("items").iter().filter_map(|item| item["role"].as_str()).collect();
    roles.sort_unstable();
    assert_eq!(roles, ["admin", "auditor", "trader"]);
    assert!(members["items"].as_array().expect("items").iter().all(|item| item.get("initial_password").is_none()));
    admin.delete(&format!("/v1/organisation/members/{}", admin.user)).await.refused(422, "last_admin");
    admin.delete("/v1/organisation/members/none").await.refused(404, "not_found");
    let stranger = sign_up(&server, "buyer").await;
    stranger.delete(&format!("/v1/organisation/members/{}", admin.user)).await.refused(404, "not_found");
    admin
        .post("/v1/organisation/members", &json!({ "email": email, "name": "X", "role": "trader" }))
        .await
        .refused(422, "email_taken");
    let error =
        admin.post("/v1/organisation/members", &json!({ "email": "x@y.z", "name": "X", "role": "root" })).await;
    error.refused(400, "malformed");
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn buyers_find_suppliers() {
    let server = TestServer::start().await;
    let buyer = sign_up(&server, "buyer").await;
    let supplier = sign_up(&server, "supplier").await;
    let both = sign_up(&server, "both").await;
    let ids = |answer: &Value| -> Vec<String> {
        let items = answer["items"].as_array().expect("items");
        items.iter().map(|item| item["id"].as_str().expect("an id").to_owned()).collect()
    };
    let suppliers = ids(&buyer.get("/v1/organisations?kind=supplier").await.expect(200));
    assert!(suppliers.contains(&supplier.organisation) && suppliers.contains(&both.organisation));
    assert!(!suppliers.contains(&buyer.organisation));
    let found = buyer.get("/v1/organisations?q=SUPPLIER").await.expect(200);
    assert_eq!(ids(&found), std::slice::from_ref(&supplier.organisation));
    supplier.get("/v1/organisations").await.refused(403, "forbidden");
    buyer.get("/v1/organisations?kind=shop").await.refused(400, "malformed");
    buyer.get("/v1/organisations?limit=0").await.refused(400, "malformed");
    buyer.get("/v1/organisations?limit=201").await.refused(400, "malformed");
    buyer.get("/v1/organisations?cursor=x").await.refused(400, "malformed");
    buyer.get("/v1/organisations?colour=red").await.refused(422, "unknown_field");
    server.stop().await;
}
