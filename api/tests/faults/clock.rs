//! The wall clock jumps, and the program stands still, while a lot closes: stamps run on, the lot closes once and at its
//! end, nothing is accepted behind it, and a replay decides the same.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use rustix::process::Signal;
use serde_json::{Value, json};

use crate::judge::{audit, verify_log};
use crate::world::{Home, Served, World, request};

/// How long a lot is open.
const OPEN: Duration = Duration::from_secs(3);
/// Never asserted: a test that waits this long has failed.
const PATIENCE: Duration = Duration::from_secs(30);

fn post(address: SocketAddr, path: &str, token: &str, body: &Value) -> Option<(u16, Value)> {
    let key = uuid::Uuid::new_v4().to_string();
    request(address, "POST", path, token, &key, &body.to_string()).map(|told| (told.status, told.body))
}

/// Where the wall clock of a process comes from, if it can be turned here.
fn library() -> Option<PathBuf> {
    let output = std::process::Command::new("sh")
        .args(["-c", "ls /usr/lib/*/faketime/libfaketimeMT.so.1 /usr/lib/faketime/libfaketimeMT.so.1 2>/dev/null"])
        .output()
        .ok()?;
    let path = String::from_utf8(output.stdout).ok()?.lines().next().map(PathBuf::from);
    if path.is_none() {
        println!("skipped: libfaketime (apt-get install libfaketime)");
    }
    path
}

/// A lot of three seconds, on a program of its own.
struct Closing {
    world: Arc<World>,
    home: Home,
    _dir: tempfile::TempDir,
    served: Served,
    tender: String,
    lot: String,
    opened: Instant,
}

/// What a bidder was told, in order: status and body.
type Told = Vec<(u16, Value)>;

impl Closing {
    fn new(world: &Arc<World>, turned: Option<(&PathBuf, &str)>) -> Self {
        let dir = tempfile::tempdir().expect("a folder");
        let home = world.home().copied(dir.path());
        let environment = environment(&home, turned);
        let mut served = home.serve(&environment);
        served.ready().unwrap_or_else(|status| panic!("{status}: {}", home.said()));
        let buyer = &world.tokens[0];
        let rules = json!({ "format": "english", "duration_s": OPEN.as_secs(), "guard_percent": null,
            "improvement": "free", "outage_grace_s": 2 });
        let body = json!({ "title": "Closing", "currency": "SAR", "lots": [{ "title": "Lot", "items": [], "rules": rules }] });
        let told = |path: &str, body: &Value| {
            let (status, told) = post(served.listen, path, buyer, body).expect("it answers");
            assert!(matches!(status, 200 | 201), "{path}: {status} {told}");
            told
        };
        let made = told("/v1/tenders", &body);
        let id = |value: &Value| value["id"].as_str().expect("an id").to_owned();
        let (tender, lot) = (id(&made), id(&made["lots"][0]));
        for organisation in &world.organisations {
            told(&format!("/v1/tenders/{tender}/bidders"), &json!({ "organisation": organisation }));
        }
        told(&format!("/v1/tenders/{tender}/publish"), &json!({}));
        told(&format!("/v1/tenders/{tender}/start"), &json!({}));
        Self { world: Arc::clone(world), home, _dir: dir, served, tender, lot, opened: Instant::now() }
    }

    /// Bids, one after another, until `over`; what was told.
    fn bidding(&self, over: &Arc<AtomicBool>) -> std::thread::JoinHandle<Told> {
        let (address, over) = (self.served.listen, Arc::clone(over));
        let (token, path) = (self.world.tokens[1].clone(), format!("/v1/lots/{}/bids", self.lot));
        std::thread::spawn(move || {
            let (mut told, mut price) = (Told::new(), 90_000);
            while !over.load(Ordering::Acquire) {
                price -= 1;
                told.extend(post(address, &path, &token, &json!({ "price": format!("{price}.00") })));
                std::thread::sleep(Duration::from_millis(10));
            }
            told
        })
    }

    fn snap(&self) -> Value {
        let path = format!("/v1/lots/{}", self.lot);
        let told = request(self.served.listen, "GET", &path, &self.world.tokens[0], "", "");
        told.map(|told| told.body).unwrap_or_default()
    }

    fn wait_for_close(&self) {
        let began = Instant::now();
        while self.snap()["state"]["stage"] != "closed" {
            assert!(began.elapsed() < PATIENCE, "it never closes: {}", self.snap());
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    /// Checks answers, steps, a restart and the audit. Answers how many bids were accepted and how many were late.
    fn check(&mut self, told: &Told) -> (usize, usize) {
        let buyer = self.world.tokens[0].clone();
        let path = format!("/v1/lots/{}/events?limit=200", self.lot);
        let mut steps: Vec<Value> = Vec::new();
        loop {
            let after = steps.last().map_or(0, |step| step["seq"].as_u64().expect("a seq"));
            let page = request(self.served.listen, "GET", &format!("{path}&after={after}"), &buyer, "", "");
            let page = page.expect("it answers").body;
            let items = page["items"].as_array().unwrap_or_else(|| panic!("no steps in {page}"));
            if items.is_empty() {
                break;
            }
            steps.extend(items.iter().cloned());
        }
        let at = |step: &Value| step["at"].as_str().expect("a time").to_owned();
        // Texts of one length, so they sort as the times do.
        assert!(steps.is_sorted_by(|one, next| at(one) <= at(next)), "stamps ran back: {steps:?}");
        let is = |step: &Value, kind: &str| {
            step["ev"].as_array().is_some_and(|events| events.iter().any(|event| event["type"] == kind))
        };
        let closed: Vec<usize> = (0..steps.len()).filter(|number| is(&steps[*number], "closed")).collect();
        assert_eq!(closed.len(), 1, "it closes once: {steps:?}");
        let snap = self.snap();
        let end = snap["state"]["closes_at"].as_str().expect("an end");
        assert_eq!(at(&steps[closed[0]]), end, "it closes at its end");
        assert!(steps[closed[0]..].iter().all(|step| !is(step, "bid")), "a bid behind the close");
        let bids: Vec<&Value> = steps.iter().filter(|step| is(step, "bid")).collect();
        assert!(bids.iter().all(|step| at(step).as_str() < end), "a bid at or behind the end");
        let accepted: Vec<u64> = told
            .iter()
            .filter(|(status, _)| *status == 201)
            .map(|(_, body)| body["seq"].as_u64().expect("a seq"))
            .collect();
        assert!(accepted.is_sorted_by(|one, next| one < next), "answers in the order of the questions");
        let known: Vec<u64> = bids.iter().map(|step| step["seq"].as_u64().expect("a seq")).collect();
        assert!(accepted.iter().all(|seq| known.contains(seq)), "an accepted bid is no step");
        let late: Vec<&(u16, Value)> = told.iter().filter(|(status, _)| *status != 201).collect();
        let refused = |(status, body): &&(u16, Value)| *status == 409 && body["code"] == "lot_closed";
        assert!(late.iter().all(refused), "refused otherwise: {late:?}");
        audit(&self.tender, &buyer, &self.home, &self.served).expect("the audit decides the same");
        self.served.kill();
        self.start(None);
        let again = self.snap();
        assert_eq!(again["state"], snap["state"], "a replay decides the same");
        self.served.kill();
        verify_log(&self.home).expect("the log is sound");
        (accepted.len(), late.len())
    }

    fn start(&mut self, turned: Option<(&PathBuf, &str)>) {
        self.served = self.home.serve(&environment(&self.home, turned));
        self.served.ready().unwrap_or_else(|status| panic!("{status}: {}", self.home.said()));
    }
}

fn environment(home: &Home, turned: Option<(&PathBuf, &str)>) -> Vec<(&'static str, String)> {
    let Some((library, offset)) = turned else { return Vec::new() };
    turn(home, offset);
    vec![
        ("LD_PRELOAD", library.display().to_string()),
        ("FAKETIME_TIMESTAMP_FILE", home.0.join("clock").display().to_string()),
        ("FAKETIME_NO_CACHE", "1".into()),
        // The monotonic clock of a machine does not jump with the wall clock.
        ("FAKETIME_DONT_FAKE_MONOTONIC", "1".into()),
    ]
}

/// Turns the wall clock of a running process, in one step.
fn turn(home: &Home, offset: &str) {
    let (aside, clock) = (home.0.join("clock.new"), home.0.join("clock"));
    std::fs::write(&aside, offset).and_then(|()| std::fs::rename(&aside, &clock)).expect("turned");
}

async fn threads(work: Vec<std::thread::JoinHandle<()>>) {
    let all = || work.into_iter().for_each(|thread| thread.join().expect("its checks hold"));
    tokio::task::spawn_blocking(all).await.expect("they end");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_wall_clock_that_jumps_while_a_lot_closes_changes_nothing() {
    let Some(library) = library() else { return };
    let world = Arc::new(World::new().await);
    let jump = |offset: &'static str| {
        let (world, library) = (Arc::clone(&world), library.clone());
        std::thread::spawn(move || {
            let mut closing = Closing::new(&world, Some((&library, "+0")));
            let over = Arc::new(AtomicBool::new(false));
            let bidding = closing.bidding(&over);
            std::thread::sleep((OPEN - Duration::from_millis(900)).saturating_sub(closing.opened.elapsed()));
            turn(&closing.home, offset);
            closing.wait_for_close();
            // The clock is looked at once a second.
            let began = Instant::now();
            while closing.served.metric("rt_clock_jumps_total").is_none_or(|jumps| jumps < 1.0) {
                assert!(began.elapsed() < PATIENCE, "{offset}: the clock never jumped");
                std::thread::sleep(Duration::from_millis(50));
            }
            std::thread::sleep(Duration::from_millis(100));
            over.store(true, Ordering::Release);
            let told = bidding.join().expect("the bidder ends");
            let (accepted, late) = closing.check(&told);
            println!("jump of {offset} s: {accepted} accepted, {late} late, violations 0");
            assert!(accepted > 20 && late > 0, "the test tried too little");
        })
    };
    threads(["-3600", "-90", "-2", "+2", "+90", "+3600"].map(jump).into()).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_wall_clock_that_jumps_while_the_program_is_down_does_not_close_twice() {
    let Some(library) = library() else { return };
    let world = Arc::new(World::new().await);
    let jump = |offset: &'static str| {
        let (world, library) = (Arc::clone(&world), library.clone());
        std::thread::spawn(move || {
            let mut closing = Closing::new(&world, Some((&library, "+0")));
            let over = Arc::new(AtomicBool::new(false));
            let bidding = closing.bidding(&over);
            std::thread::sleep((OPEN - Duration::from_millis(900)).saturating_sub(closing.opened.elapsed()));
            closing.served.kill();
            over.store(true, Ordering::Release);
            let mut told = bidding.join().expect("the bidder ends");
            closing.start(Some((&library, offset)));
            let over = Arc::new(AtomicBool::new(false));
            let bidding = closing.bidding(&over);
            closing.wait_for_close();
            std::thread::sleep(Duration::from_millis(100));
            over.store(true, Ordering::Release);
            told.extend(bidding.join().expect("the bidder ends"));
            let (accepted, late) = closing.check(&told);
            println!("jump of {offset} s while it was down: {accepted} accepted, {late} late, violations 0");
            assert!(accepted > 20 && late > 0, "the test tried too little");
        })
    };
    threads(["-300", "-2", "+2", "+300"].map(jump).into()).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_program_that_stands_still_over_the_closing_second_takes_nothing_late() {
    let world = Arc::new(World::new().await);
    let stop = |beyond: u64| {
        let world = Arc::clone(&world);
        std::thread::spawn(move || {
            let mut closing = Closing::new(&world, None);
            let over = Arc::new(AtomicBool::new(false));
            let bidding = closing.bidding(&over);
            std::thread::sleep((OPEN - Duration::from_millis(500)).saturating_sub(closing.opened.elapsed()));
            closing.served.signal(Signal::STOP);
            std::thread::sleep(OPEN.saturating_sub(closing.opened.elapsed()) + Duration::from_millis(beyond));
            // Sent before the program goes on, and behind the end: whoever reads it must not take it.
            let late = closing.bidding(&over);
            std::thread::sleep(Duration::from_millis(50));
            closing.served.signal(Signal::CONT);
            closing.wait_for_close();
            std::thread::sleep(Duration::from_millis(100));
            over.store(true, Ordering::Release);
            let late = late.join().expect("the bidder ends");
            let refused = late.iter().all(|(status, body)| *status == 409 && body["code"] == "lot_closed");
            assert!(refused && !late.is_empty(), "taken behind the end: {late:?}");
            let told = bidding.join().expect("the bidder ends");
            let (accepted, refused) = closing.check(&told);
            println!(
                "stopped until {beyond} ms behind the end: {accepted} accepted, {refused} late, violations 0"
            );
            assert!(accepted > 20, "the test tried too little");
        })
    };
    threads([50, 1_000, 4_000].map(stop).into()).await;
}
