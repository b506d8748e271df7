//! The demo as somebody sees it who starts it: sign-ins on the terminal that work, a tender of each format in which
//! robots act, the same tender after a restart, and a clean end.

mod support;

use std::io::{BufRead as _, BufReader};
use std::net::TcpListener;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;
use support::{Client, sign_in};

/// How long the demo may take to tell of its tender, and its robots to bid, on a slow machine.
const PATIENCE: Duration = Duration::from_secs(120);
/// In the order in which it tells of them.
const FORMATS: [&str; 5] = ["english", "sealed", "dutch", "japanese", "rounds"];
const PASSWORD: &str = "practice makes perfect";

struct Demo {
    child: Child,
    client: Client,
    /// What it said up to the addresses of its tenders.
    said: Vec<String>,
    /// Its tenders, the main one first.
    tenders: Vec<String>,
}

impl Demo {
    fn start(folder: &Path) -> Self {
        let address =
            TcpListener::bind("127.0.0.1:0").and_then(|listener| listener.local_addr()).expect("a free port");
        let mut child = Command::new(env!("CARGO_BIN_EXE_reversetender"))
            .args(["demo", "--admin-listen", "127.0.0.1:0", "--listen", &address.to_string()])
            .current_dir(folder)
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .expect("the demo starts");
        let lines = BufReader::new(child.stdout.take().expect("it is piped")).lines();
        let client = Client { address, token: None };
        let mut demo = Self { child, client, said: Vec::new(), tenders: Vec::new() };
        for line in lines {
            demo.said.push(line.expect("text"));
            if let Some((_, id)) = demo.said.last().and_then(|line| line.split_once("/tenders/")) {
                let id = id.to_owned();
                demo.tenders.push(id);
                if demo.tenders.len() == FORMATS.len() {
                    return demo;
                }
            }
        }
        panic!("the demo ended: {:#?}", demo.said);
    }

    /// Sends the signal that an operator sends, and answers the exit status.
    fn stop(mut self) -> Option<i32> {
        kill_process(Pid::from_child(&self.child), Signal::TERM).expect("it runs");
        self.child.wait().expect("it ends").code()
    }
}

impl Drop for Demo {
    fn drop(&mut self) {
        // It may have ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[tokio::test]
async fn robots_bid_against_each_other_and_a_restart_goes_on() {
    let folder = tempfile::tempdir().expect("a folder");
    let demo = Demo::start(folder.path());
    let text = demo.said.join("\n");
    for words in ["buyer@demo.example", "supplier@demo.example", PASSWORD, "data-demo"] {
        assert!(text.contains(words), "it says {words}: {text}");
    }
    sign_in(&demo.client, "supplier@demo.example", PASSWORD).await;
    let (token, _) = sign_in(&demo.client, "buyer@demo.example", PASSWORD).await;
    let buyer = demo.client.with_token(&token);
    let mut lots = Vec::new();
    for (id, format) in demo.tenders.iter().zip(FORMATS) {
        let tender = buyer.get(&format!("/v1/tenders/{id}")).await.expect(200);
        let all = tender["lots"].as_array().expect("lots");
        assert!(all.iter().all(|lot| lot["rules"]["format"] == format), "{format}: {tender}");
        assert_eq!(all.len(), if format == "english" { 3 } else { 1 });
        lots.push(format!("/v1/lots/{}", all[0]["id"].as_str().expect("an id")));
    }
    let end = Instant::now() + PATIENCE;
    let read = async |lot: &str| buyer.get(lot).await.expect(200)["state"].clone();
    let board = |state: &Value| state["board"].as_array().map_or(0, Vec::len);
    // Robots bid against each other, say before the opening what they begin with, and stay in; what is sealed stays so.
    for (at, what) in [(0, "bid"), (4, "leave bids before the opening"), (3, "stay in")] {
        loop {
            let state = read(&lots[at]).await;
            if state["stage"] != "pending" && board(&state) >= 2 {
                break;
            }
            assert!(Instant::now() < end, "the robots do not {what}: {state}");
            tokio::time::sleep(Duration::from_millis(200)).await;
        }
    }
    let sealed = read(&lots[1]).await;
    assert!(sealed["stage"] != "open" || board(&sealed) == 0, "{sealed}");
    let (path, bids) = (lots[0].clone(), board(&read(&lots[0]).await));
    let id = demo.tenders[0].clone();
    assert_eq!(demo.stop(), Some(0));

    let demo = Demo::start(folder.path());
    assert_eq!(demo.tenders[0], id, "it goes on where it was");
    let (token, _) = sign_in(&demo.client, "buyer@demo.example", PASSWORD).await;
    let state: Value = demo.client.with_token(&token).get(&path).await.expect(200);
    assert!(state["state"]["board"].as_array().is_some_and(|board| board.len() >= bids), "{state}");
    assert_eq!(demo.stop(), Some(0));
}

#[test]
fn published_passwords_stay_on_this_machine() {
    let folder = tempfile::tempdir().expect("a folder");
    let output = Command::new(env!("CARGO_BIN_EXE_reversetender"))
        .args(["demo", "--listen", "0.0.0.0:0", "--admin-listen", "127.0.0.1:0"])
        .current_dir(folder.path())
        .output()
        .expect("it ends by itself");
    let said = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{said}");
    assert!(said.contains("loopback only"), "{said}");
}
