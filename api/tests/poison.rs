//! A command whose apply panics: answered to nobody, the process stops once, and at the next start every replica passes
//! it by; its sender gets 500 `internal` under its key. (The panic is a failpoint that only test builds have.)

mod process;
mod support;

use process::{Process, sign_up};
use serde_json::json;
use support::Client;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_command_that_panics_stops_the_process_once_and_is_passed_by() {
    let dir = tempfile::tempdir().expect("a folder");
    let mut process = Process::start(dir.path(), dir.path()).await;
    let (buyer, _) = sign_up(&process.client(), "buyer", "buyer").await;
    let lots = json!([{ "title": "Lot", "items": [], "rules": { "format": "english", "duration_s": 600 } }]);
    let poisoned = json!({ "title": "failpoint: panic at publication", "currency": "SAR", "lots": lots });
    let poisoned = buyer.post("/v1/tenders", &poisoned).await.expect(201);
    let sound =
        buyer.post("/v1/tenders", &json!({ "title": "Sound", "currency": "SAR", "lots": lots })).await.expect(201);
    let path =
        |tender: &serde_json::Value| format!("/v1/tenders/{}/publish", tender["id"].as_str().expect("an id"));

    let send = {
        let (buyer, path): (Client, String) = (buyer.clone(), path(&poisoned));
        // The connection ends without an answer, which the client meets as a panic of its own.
        tokio::spawn(async move { buyer.post_with_key(&path, &json!({}), "poison").await })
    };
    assert!(send.await.is_err(), "a poisoned command is answered to nobody");
    assert_eq!(process.start_again().await, Some(70), "the process stopped by itself");
    assert!(process.said().contains("passed by"), "{}", process.said());

    let again = buyer.post_with_key(&path(&poisoned), &json!({}), "poison").await;
    again.refused(500, "internal");
    assert_eq!(again.header("idempotency-replayed"), "true");
    let other = buyer
        .post_with_key("/v1/tenders", &json!({ "title": "After", "currency": "SAR", "lots": lots }), "k")
        .await;
    other.expect(201);
    buyer.post(&path(&sound), &json!({})).await.expect(200);

    // Now the log says so itself: a start with nothing to find out.
    process.kill_and_start().await;
    let draft = buyer.get(&format!("/v1/tenders/{}", poisoned["id"].as_str().expect("an id"))).await.expect(200);
    assert_eq!(draft["stage"], "draft", "it had no effect");
    buyer.post_with_key(&path(&poisoned), &json!({}), "poison").await.refused(500, "internal");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_panic_that_passing_by_does_not_cure_is_told_at_each_start_and_changes_nothing() {
    let dir = tempfile::tempdir().expect("a folder");
    let mut process = Process::start(dir.path(), dir.path()).await;
    let (buyer, _) = sign_up(&process.client(), "buyer", "buyer").await;
    let lots = json!([{ "title": "Lot", "items": [], "rules": { "format": "english", "duration_s": 600 } }]);
    let title = "failpoint: panic at publication and when passed by";
    let poisoned = json!({ "title": title, "currency": "SAR", "lots": lots });
    let poisoned = buyer.post("/v1/tenders", &poisoned).await.expect(201);
    let path = format!("/v1/tenders/{}/publish", poisoned["id"].as_str().expect("an id"));
    let send = tokio::spawn(async move { buyer.post_with_key(&path, &json!({}), "poison").await });
    assert!(send.await.is_err(), "a poisoned command is answered to nobody");

    let segments = || {
        let files = std::fs::read_dir(dir.path().join("data/log")).expect("a folder");
        let mut files: Vec<_> = files.map(|file| file.expect("an entry").path()).collect();
        files.sort();
        files.into_iter().map(|path| (path.clone(), std::fs::read(path).expect("read"))).collect::<Vec<_>>()
    };
    let mut before = None;
    for start in 1..=2 {
        let said = process.said().len();
        let (stopped, started) = process.start_in_vain();
        // The first time it had served, and stopped by itself.
        assert_eq!((stopped, started), (Some(if start == 1 { 70 } else { 1 }), Some(1)));
        let said = process.said().split_off(said);
        assert!(said.contains("panics whether command 0 is passed by or not"), "{said}");
        assert!(said.contains("Start the program that wrote it, or restore"), "it says what to do: {said}");
        let now = segments();
        assert!(before.replace(now.clone()).is_none_or(|before| before == now), "the log is as it was");
    }
}
