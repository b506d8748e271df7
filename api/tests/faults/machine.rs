//! The program stopped for a while, and segments of its log corrupted while it was down.

use std::collections::BTreeSet;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;

use crate::process::{Process, sign_up};

const PROGRAM: &str = env!("CARGO_BIN_EXE_reversetender");
const LAYOUT: [&str; 7] = ["serve", "--shards", "2", "--segment-bytes", "65536", "--snapshot-bytes", "150000"];

/// One request on a connection of its own: status and body. None: nobody answered all of it.
fn request(address: SocketAddr, method: &str, path: &str, token: &str, body: &str) -> Option<(u16, Value)> {
    let mut stream = TcpStream::connect_timeout(&address, Duration::from_secs(1)).ok()?;
    stream.set_read_timeout(Some(Duration::from_secs(10))).ok()?;
    let key = uuid::Uuid::new_v4();
    let head = format!(
        "{method} {path} HTTP/1.1\r\nhost: {address}\r\nauthorization: Bearer {token}\r\nidempotency-key: {key}\r\n\
         content-type: application/json\r\ncontent-length: {}\r\nconnection: close\r\n\r\n",
        body.len()
    );
    stream.write_all(head.as_bytes()).ok()?;
    stream.write_all(body.as_bytes()).ok()?;
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).ok()?;
    let answer = String::from_utf8_lossy(&answer);
    let (head, body) = answer.split_once("\r\n\r\n")?;
    let status = head.split(' ').nth(1)?.parse().ok()?;
    // An answer that was cut off is none.
    let body = if body.is_empty() { Value::Null } else { serde_json::from_str(body).ok()? };
    Some((status, body))
}

/// A folder with a signed-in buyer, and the tenders that it was told it has.
struct World {
    dir: tempfile::TempDir,
    token: String,
    listen: SocketAddr,
    admin: SocketAddr,
    answered: BTreeSet<String>,
}

fn free() -> SocketAddr {
    TcpListener::bind("127.0.0.1:0").and_then(|listener| listener.local_addr()).expect("a free port")
}

impl World {
    async fn new() -> Self {
        let dir = tempfile::tempdir().expect("a folder");
        let process = Process::start(dir.path(), dir.path()).await;
        let (buyer, _) = sign_up(&process.client(), "buyer", "buyer").await;
        let token = buyer.token.expect("signed in");
        Self { dir, token, listen: free(), admin: free(), answered: BTreeSet::new() }
    }

    /// Starts the program.
    fn start(&self) -> Child {
        let mut command = Command::new(PROGRAM);
        let errors = std::fs::OpenOptions::new().create(true).append(true).open(self.dir.path().join("said"));
        command.args(LAYOUT).args(["--limits", "off", "--log", "warn"]);
        command.arg("--data").arg(self.dir.path().join("data")).arg("--keys").arg(self.dir.path().join("keys"));
        command.args(["--listen", &self.listen.to_string(), "--admin-listen", &self.admin.to_string()]);
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(errors.expect("a file"));
        command.spawn().expect("it starts")
    }

    /// Waits until it serves; false when it ended before.
    fn ready(&self, child: &mut Child) -> bool {
        let began = Instant::now();
        while began.elapsed() < Duration::from_secs(30) {
            if child.try_wait().expect("a child").is_some() {
                return false;
            }
            if request(self.admin, "GET", "/readyz", "", "").is_some_and(|(status, _)| status == 200) {
                return true;
            }
            // `ready` is no JSON: who listens and says so is asked in a way that needs none.
            if self.is_ready() {
                return true;
            }
            std::thread::sleep(Duration::from_millis(5));
        }
        panic!("neither ready nor ended");
    }

    fn is_ready(&self) -> bool {
        let Ok(mut stream) = TcpStream::connect(self.admin) else { return false };
        let asked = stream.write_all(b"GET /readyz HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n");
        let mut answer = String::new();
        asked.is_ok() && stream.read_to_string(&mut answer).is_ok() && answer.starts_with("HTTP/1.1 200")
    }

    /// Makes up to `most` tenders until nobody answers or it is refused. Answers whether somebody still answers.
    fn load(&mut self, most: usize) -> bool {
        let body = format!(
            r#"{{"title":"T","description":"{0}","currency":"SAR","lots":[{{"title":"Lot","items":[],"rules":{{"format":"english","duration_s":600}}}}]}}"#,
            "x".repeat(4_000)
        );
        for _ in 0..most {
            match request(self.listen, "POST", "/v1/tenders", &self.token, &body) {
                None => return false,
                Some((201, tender)) => {
                    self.answered.insert(tender["id"].as_str().expect("an id").to_owned());
                }
                Some((503 | 500, _)) => {}
                Some((status, body)) => panic!("{status}: {body}"),
            }
        }
        true
    }

    /// Starts it on a sound machine and looks for everything that was answered: how many are lost.
    fn lost(&self) -> usize {
        let mut child = Ended(self.start());
        assert!(self.ready(&mut child.0), "it starts again: {}", self.said());
        let path = |id: &String| format!("/v1/tenders/{id}");
        let is_lost = |id: &&String| {
            request(self.listen, "GET", &path(id), &self.token, "").is_none_or(|(status, _)| status != 200)
        };
        self.answered.iter().filter(is_lost).count()
    }

    fn said(&self) -> String {
        std::fs::read_to_string(self.dir.path().join("said")).unwrap_or_default()
    }
}

/// A process that ends with the test.
struct Ended(Child);

impl Ended {
    fn end(&mut self) {
        let _gone = self.0.kill();
        let _reaped = self.0.wait();
    }
}

impl Drop for Ended {
    fn drop(&mut self) {
        self.end();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn pauses_lose_nothing() {
    let mut world = World::new().await;
    let mut child = Ended(world.start());
    assert!(world.ready(&mut child.0));
    let pid = i32::try_from(child.0.id()).ok().and_then(Pid::from_raw).expect("a process");
    let mut pauses = 0;
    for milliseconds in [100, 300, 1_000, 2_500, 5_000] {
        let resume = std::thread::spawn(move || {
            std::thread::sleep(Duration::from_millis(30));
            kill_process(pid, Signal::STOP).expect("stopped");
            std::thread::sleep(Duration::from_millis(milliseconds));
            kill_process(pid, Signal::CONT).expect("goes on");
        });
        while !resume.is_finished() {
            assert!(world.load(5), "it answers after a pause");
        }
        resume.join().expect("resumed");
        pauses += 1;
    }
    child.end();
    let lost = world.lost();
    println!("{pauses} pauses, {} answered, violations {lost}", world.answered.len());
    assert_eq!(lost, 0);
}

/// What is done to a file's bytes between two offsets.
type Corruption = fn(&mut Vec<u8>, usize, usize);

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_corruption_of_stopped_files_is_told() {
    let mut world = World::new().await;
    let mut child = Ended(world.start());
    assert!(world.ready(&mut child.0) && world.load(160));
    child.end();
    let log = world.dir.path().join("data/log");
    let mut segments: Vec<PathBuf> =
        std::fs::read_dir(&log).expect("a folder").map(|entry| entry.expect("an entry").path()).collect();
    segments.sort();
    let verify = || {
        let output =
            Command::new(PROGRAM).args(["log", "verify", "--data"]).arg(world.dir.path().join("data")).output();
        let output = output.expect("it runs");
        (output.status.code(), String::from_utf8_lossy(&output.stdout).into_owned())
    };
    assert_eq!(verify().0, Some(0));
    let kinds: [(&str, Corruption); 5] = [
        ("a flipped bit", |bytes, at, _| bytes[at] ^= 0x10),
        ("1 KiB of noise", |bytes, at, end| {
            for (place, byte) in bytes[at..end.min(at + 1024)].iter_mut().enumerate() {
                *byte ^= 0x5A ^ place as u8 | 1;
            }
        }),
        ("1 MiB of zeros", |bytes, at, end| bytes[at..end.min(at + (1 << 20))].fill(0)),
        ("a block from another offset", |bytes, at, end| {
            let len = 512.min((end - at) / 2);
            bytes.copy_within(at + len..at + 2 * len, at);
        }),
        ("the start of the file over its middle", |bytes, at, end| bytes.copy_within(0..(end - at).min(4096), at)),
    ];
    let (mut injected, mut undetected) = (0, 0);
    // The last segment that was written to ends in what may be torn; those before it were durable to their ends.
    let used: Vec<&PathBuf> = segments.iter().rev().skip(2).collect();
    assert!(!used.is_empty(), "{segments:?}");
    for path in used {
        let sound = std::fs::read(path).expect("read");
        let end = sound.iter().rposition(|byte| *byte != 0).expect("it was written to");
        for (name, corrupt) in &kinds {
            for part in 1..8 {
                let at = (end * part / 8).max(4096);
                let mut bytes = sound.clone();
                corrupt(&mut bytes, at, end);
                if bytes == sound {
                    continue;
                }
                std::fs::write(path, &bytes).expect("written");
                let (status, said) = verify();
                injected += 1;
                let named = said.contains(&path.display().to_string()) && said.contains("offset");
                if status != Some(2) || !named {
                    undetected += 1;
                    println!("{name} at {at} of {}: {status:?} {said}", path.display());
                }
            }
        }
        std::fs::write(path, &sound).expect("written");
    }
    assert_eq!(verify().0, Some(0), "everything is as it was");
    println!("{injected} corruptions, violations {undetected}");
    assert_eq!(undetected, 0);
    assert_eq!(world.lost(), 0);
}
