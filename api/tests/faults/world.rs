//! A folder with a history, the program as a process on copies of it, and clients that write down what they were told.

use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Output, Stdio};
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};
use serde_json::{Value, json};

use crate::process::sign_up;
use crate::support::Client;

pub const PROGRAM: &str = env!("CARGO_BIN_EXE_reversetender");
/// The smallest segments and snapshots, so that both come often.
const LAYOUT: [&str; 9] =
    ["serve", "--shards", "2", "--segment-bytes", "65536", "--snapshot-bytes", "65536", "--limits", "off"];
const SUPPLIERS: usize = 2;
pub const LOTS: usize = 2;

/// Draws that a seed gives again.
#[derive(Debug)]
pub struct Draws(pub u64);

impl Draws {
    pub fn below(&mut self, below: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mixed = (self.0 ^ self.0 >> 30).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        let mixed = (mixed ^ mixed >> 27).wrapping_mul(0x94D0_49BB_1331_11EB);
        (mixed ^ mixed >> 31) % below
    }

    pub fn one_of<'a, T>(&mut self, all: &'a [T]) -> &'a T {
        &all[self.below(all.len() as u64) as usize]
    }
}

/// Status, whether it was answered before, and body.
pub struct Told {
    pub status: u16,
    pub replayed: bool,
    pub body: Value,
}

/// One request on a connection of its own. None: nobody answered all of it.
pub fn request(address: SocketAddr, method: &str, path: &str, token: &str, key: &str, body: &str) -> Option<Told> {
    let mut stream = TcpStream::connect_timeout(&address, Duration::from_secs(1)).ok()?;
    stream.set_read_timeout(Some(Duration::from_secs(10))).ok()?;
    let mut head = format!("{method} {path} HTTP/1.1\r\nhost: {address}\r\nconnection: close\r\n");
    if !token.is_empty() {
        head += &format!("authorization: Bearer {token}\r\n");
    }
    if !key.is_empty() {
        head += &format!("idempotency-key: {key}\r\ncontent-type: application/json\r\n");
    }
    head += &format!("content-length: {}\r\n\r\n", body.len());
    stream.write_all(head.as_bytes()).ok()?;
    stream.write_all(body.as_bytes()).ok()?;
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).ok()?;
    let end = answer.windows(4).position(|window| window == b"\r\n\r\n")?;
    let body = answer.split_off(end + 4);
    let head = String::from_utf8(answer).ok()?;
    let status = head.split(' ').nth(1)?.parse().ok()?;
    let header = |name: &str| {
        let mut lines = head.lines().filter_map(|line| line.split_once(": "));
        lines.find(|(known, _)| known.eq_ignore_ascii_case(name)).map(|(_, value)| value.to_owned())
    };
    // An answer that was cut off is none.
    if header("content-length").is_some_and(|len| len.parse() != Ok(body.len())) {
        return None;
    }
    let body = if header("transfer-encoding").is_some() { unchunked(&body)? } else { body };
    let body = String::from_utf8(body).ok()?;
    let json = header("content-type").is_some_and(|kind| kind.contains("json"));
    let body = if json { serde_json::from_str(&body).ok()? } else { Value::from(body) };
    Some(Told { status, replayed: header("idempotency-replayed").is_some(), body })
}

/// A body that came in chunks. None: it ended before its end.
fn unchunked(mut rest: &[u8]) -> Option<Vec<u8>> {
    let mut body = Vec::new();
    loop {
        let line = rest.windows(2).position(|window| window == b"\r\n")?;
        let len = usize::from_str_radix(std::str::from_utf8(&rest[..line]).ok()?, 16).ok()?;
        if len == 0 {
            return Some(body);
        }
        body.extend_from_slice(rest.get(line + 2..line + 2 + len)?);
        rest = rest.get(line + 4 + len..)?;
    }
}

fn free() -> SocketAddr {
    TcpListener::bind("127.0.0.1:0").and_then(|listener| listener.local_addr()).expect("a free port")
}

/// How often each call to the disk was made, by name.
pub type Counts = BTreeMap<String, u64>;

/// A data folder, its keys, and what the program says on them.
#[derive(Clone, Debug)]
pub struct Home(pub PathBuf);

impl Home {
    pub fn data(&self) -> PathBuf {
        self.0.join("data")
    }

    pub fn said(&self) -> String {
        std::fs::read_to_string(self.0.join("said")).unwrap_or_default()
    }

    /// A copy of data and keys in `to`.
    pub fn copied(&self, to: &Path) -> Self {
        for part in ["data", "keys"] {
            let copied = Command::new("cp").arg("-r").arg(self.0.join(part)).arg(to).status();
            assert!(copied.is_ok_and(|status| status.success()), "{} is copied", self.0.display());
        }
        Self(to.to_owned())
    }

    /// Starts the program on it, which may open `files` files.
    pub fn serve_limited(&self, files: u64) -> Served {
        self.start(&[], Some(files))
    }

    /// Starts the program on it, with `environment`.
    pub fn serve(&self, environment: &[(&'static str, String)]) -> Served {
        self.start(environment, None)
    }

    fn start(&self, environment: &[(&'static str, String)], files: Option<u64>) -> Served {
        let (listen, admin) = (free(), free());
        let calls = self.0.join("calls");
        let _none_yet = std::fs::remove_file(&calls);
        let errors = std::fs::OpenOptions::new().create(true).append(true).open(self.0.join("said"));
        let mut command = match files {
            None => Command::new(PROGRAM),
            Some(files) => {
                let mut command = Command::new("prlimit");
                command.arg(format!("--nofile={files}:{files}")).arg(PROGRAM);
                command
            }
        };
        command.args(LAYOUT).args(["--log", "warn"]);
        command.arg("--data").arg(self.data()).arg("--keys").arg(self.0.join("keys"));
        command.args(["--listen", &listen.to_string(), "--admin-listen", &admin.to_string()]);
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(errors.expect("a file"));
        command.env("RT_TEST_CALLS", &calls).envs(environment.iter().map(|(name, value)| (*name, value)));
        let before = self.said().len();
        let child = command.spawn().expect("it starts");
        let environment = environment.to_vec();
        Served { child, listen, admin, calls, home: self.clone(), environment, files, before }
    }

    /// Runs the program's `arguments` until it ends.
    pub fn run(&self, arguments: &[&str]) -> Output {
        Command::new(PROGRAM).args(arguments).current_dir(&self.0).output().expect("it runs")
    }
}

/// The program, serving. Killed when dropped.
pub struct Served {
    child: Child,
    pub listen: SocketAddr,
    admin: SocketAddr,
    calls: PathBuf,
    home: Home,
    environment: Vec<(&'static str, String)>,
    files: Option<u64>,
    /// How much had been said before it was started.
    before: usize,
}

impl Served {
    /// Waits until it serves; how it ended when it ended before.
    pub fn ready(&mut self) -> Result<(), ExitStatus> {
        let began = Instant::now();
        loop {
            if let Some(status) = self.ended() {
                // Somebody else took the port in the meantime.
                if self.said().contains("cannot listen there") {
                    *self = self.home.start(&self.environment, self.files);
                    continue;
                }
                return Err(status);
            }
            if request(self.admin, "GET", "/readyz", "", "", "").is_some_and(|told| told.status == 200) {
                return Ok(());
            }
            assert!(began.elapsed() < Duration::from_secs(60), "neither ready nor ended");
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    /// What it said since its start.
    pub fn said(&self) -> String {
        self.home.said().split_off(self.before)
    }

    /// How it ended, if it has.
    pub fn ended(&mut self) -> Option<ExitStatus> {
        self.child.try_wait().expect("a child")
    }

    /// Waits for its end; none when it still runs after `patience`.
    pub fn ends_within(&mut self, patience: Duration) -> Option<ExitStatus> {
        let began = Instant::now();
        loop {
            if let Some(status) = self.ended() {
                return Some(status);
            }
            if began.elapsed() > patience {
                return None;
            }
            std::thread::sleep(Duration::from_millis(2));
        }
    }

    pub fn pid(&self) -> Pid {
        i32::try_from(self.child.id()).ok().and_then(Pid::from_raw).expect("a process")
    }

    /// SIGSTOP or SIGCONT, for instance.
    pub fn signal(&self, signal: Signal) {
        kill_process(self.pid(), signal).expect("it is there");
    }

    /// What the admin listener says of `name`.
    pub fn metric(&self, name: &str) -> Option<f64> {
        let text = request(self.admin, "GET", "/metrics", "", "", "")?.body;
        let line = text.as_str()?.lines().find(|line| line.starts_with(name))?.to_owned();
        line.rsplit(' ').next()?.parse().ok()
    }

    /// What `/readyz?verbose` says.
    pub fn ready_lines(&self) -> String {
        let told = request(self.admin, "GET", "/readyz?verbose", "", "", "");
        told.and_then(|told| told.body.as_str().map(str::to_owned)).unwrap_or_default()
    }

    /// The status of one GET.
    pub fn status(&self, path: &str, token: &str) -> Option<u16> {
        request(self.listen, "GET", path, token, "", "").map(|told| told.status)
    }

    pub fn kill(&mut self) {
        let _gone = self.child.kill();
        let _reaped = self.child.wait();
    }

    /// The calls that it made so far; under `failed` those that were refused, under `short` writes that were not whole.
    pub fn counts(&self) -> Counts {
        let mut counts = Counts::new();
        for line in std::fs::read_to_string(&self.calls).unwrap_or_default().lines() {
            let call = line.split(' ').next().unwrap_or_default();
            *counts.entry(call.to_owned()).or_default() += 1;
        }
        counts
    }

    /// How often it made `call` with a path that holds `name`.
    pub fn number_of(&self, call: &str, name: &str) -> u64 {
        let calls = std::fs::read_to_string(&self.calls).unwrap_or_default();
        let paths = calls.lines().filter_map(|line| line.strip_prefix(call)?.strip_prefix(' '));
        paths.filter(|path| path.contains(name)).count() as u64
    }

    /// What kind of file or folder its `number`th `call` was about.
    pub fn place(&self, call: &str, number: u64) -> &'static str {
        let calls = std::fs::read_to_string(&self.calls).unwrap_or_default();
        let mut paths = calls.lines().filter_map(|line| line.strip_prefix(call)?.strip_prefix(' '));
        let path = paths.nth(number as usize - 1).unwrap_or_default();
        let places = [
            ("/keys", "keys"),
            ("/snapshots", "snapshots"),
            ("/audit", "audit"),
            (".new", "new segment"),
            (".seg", "segment"),
            ("/log", "log folder"),
            ("/meta", "meta"),
        ];
        places.into_iter().find(|(part, _)| path.contains(part)).map_or("data folder", |(_, place)| place)
    }
}

impl Drop for Served {
    fn drop(&mut self) {
        self.kill();
    }
}

/// Whether a process was killed, and not by itself ended.
pub fn was_killed(status: ExitStatus) -> bool {
    status.signal() == Some(9)
}

/// Something that a client sent under a key of its own.
#[derive(Clone, Debug)]
pub struct Op {
    pub key: String,
    /// Who sent it: 0 the buyer, then the suppliers.
    pub who: usize,
    pub path: String,
    pub body: String,
    /// The lot and the price, of a bid.
    pub bid: Option<(usize, String)>,
    /// What was answered when it was taken. None: it was refused, or nobody answered.
    pub answer: Option<Value>,
    /// What was answered when it was refused: status and code.
    pub refused: Option<(u16, String)>,
}

/// A history with a tender of two open lots, and clients that are signed in for fifteen minutes.
pub struct World {
    dir: tempfile::TempDir,
    pub made: Instant,
    pub tokens: Vec<String>,
    /// The organisations of the suppliers.
    pub organisations: Vec<String>,
    pub tender: String,
    pub lots: Vec<String>,
    pub epoch: String,
    /// Where a reader stood in each lot when the world was copied.
    pub seqs: Vec<u64>,
    pub ops: Vec<Op>,
    price: AtomicU64,
}

impl World {
    pub async fn new() -> Self {
        let dir = tempfile::tempdir().expect("a folder");
        let home = Home(dir.path().to_owned());
        let mut served = home.serve(&[]);
        served.ready().expect("a sound machine");
        let client = Client { address: served.listen, token: None };
        let (buyer, _) = sign_up(&client, "buyer", "buyer").await;
        let rules =
            json!({ "format": "english", "duration_s": 3600, "guard_percent": null, "improvement": "free" });
        let lot = json!({ "title": "Lot", "items": [], "rules": rules });
        let body = json!({ "title": "Killed", "currency": "SAR", "lots": vec![lot; LOTS] });
        let made = buyer.post("/v1/tenders", &body).await.expect(201);
        let id = |value: &Value| value["id"].as_str().expect("an id").to_owned();
        let (tender, lots) =
            (id(&made), made["lots"].as_array().expect("lots").iter().map(id).collect::<Vec<_>>());
        let mut organisations = Vec::new();
        let mut tokens = vec![buyer.token.clone().expect("signed in")];
        for number in 0..SUPPLIERS {
            let (supplier, organisation) = sign_up(&client, &format!("supplier{number}"), "supplier").await;
            let admitted = json!({ "organisation": organisation });
            buyer.post(&format!("/v1/tenders/{tender}/bidders"), &admitted).await.expect(201);
            tokens.push(supplier.token.expect("signed in"));
            organisations.push(organisation);
        }
        buyer.post(&format!("/v1/tenders/{tender}/publish"), &json!({})).await.expect(200);
        buyer.post(&format!("/v1/tenders/{tender}/start"), &json!({})).await.expect(200);
        let price = AtomicU64::new(0);
        let (seqs, epoch, ops) = (Vec::new(), String::new(), Vec::new());
        let made = Instant::now();
        let mut world = Self { dir, made, tokens, organisations, tender, lots, epoch, seqs, ops, price };
        for lot in world.lots.clone() {
            let snap = buyer.get(&format!("/v1/lots/{lot}")).await.expect(200);
            world.epoch = snap["epoch"].as_str().expect("an epoch").to_owned();
            world.seqs.push(snap["seq"].as_u64().expect("a seq"));
        }
        // Enough that there are several segments and a snapshot or two.
        let (ops, dead) = (Mutex::default(), AtomicBool::new(false));
        let mut draws = Draws(1);
        world.load(served.listen, 100, &mut draws, &ops, &dead);
        let snapshots = || {
            let files = std::fs::read_dir(home.data().join("snapshots")).expect("a folder");
            files.filter(|file| file.as_ref().is_ok_and(|file| file.path().extension() == Some("snap".as_ref())))
        };
        for _ in 0..100 {
            if snapshots().count() >= 2 {
                break;
            }
            std::thread::sleep(Duration::from_millis(100));
            world.load(served.listen, 5, &mut draws, &ops, &dead);
        }
        assert!(snapshots().count() >= 2, "there are two snapshots: {}", served.said());
        world.ops = ops.into_inner().expect("nobody panicked");
        assert!(world.ops.iter().all(|op| op.answer.is_some()), "a sound machine takes everything");
        world
    }

    pub fn home(&self) -> Home {
        Home(self.dir.path().to_owned())
    }

    /// Two clients send `most` requests, one after another each, until `dead`.
    pub fn load(
        &self,
        address: SocketAddr,
        most: usize,
        draws: &mut Draws,
        ops: &Mutex<Vec<Op>>,
        dead: &AtomicBool,
    ) {
        let sent = AtomicUsize::new(0);
        let (seed, sent) = (draws.below(u64::MAX), &sent);
        let client = |number: u64| {
            let mut draws = Draws(seed ^ number);
            while !dead.load(Ordering::Acquire) && sent.fetch_add(1, Ordering::Relaxed) < most {
                let mut op = self.op(&mut draws);
                let told = request(address, "POST", &op.path, &self.tokens[op.who], &op.key, &op.body);
                let gone = told.is_none();
                match told {
                    Some(told) if told.status == 201 => op.answer = Some(told.body),
                    Some(told) => {
                        let code = told.body["code"].as_str().unwrap_or_default().to_owned();
                        op.refused = Some((told.status, code));
                    }
                    None => {}
                }
                ops.lock().expect("nobody panicked").push(op);
                if gone {
                    return;
                }
            }
        };
        std::thread::scope(|scope| {
            scope.spawn(|| client(1));
            client(2);
        });
    }

    /// A request of somebody.
    pub fn op(&self, draws: &mut Draws) -> Op {
        let key = uuid::Uuid::new_v4().to_string();
        if draws.below(5) < 2 {
            let lots =
                json!([{ "title": "Lot", "items": [], "rules": { "format": "english", "duration_s": 600 } }]);
            let text = "x".repeat(6_000 + draws.below(4_000) as usize);
            let body = json!({ "title": "Draft", "description": text, "currency": "SAR", "lots": lots });
            let (path, body) = ("/v1/tenders".to_owned(), body.to_string());
            return Op { key, who: 0, path, body, bid: None, answer: None, refused: None };
        }
        let (lot, who) = (draws.below(LOTS as u64) as usize, 1 + draws.below(SUPPLIERS as u64) as usize);
        let price = 900_000_000 - self.price.fetch_add(1, Ordering::Relaxed);
        let price = format!("{}.{:02}", price / 100, price % 100);
        let path = format!("/v1/lots/{}/bids", self.lots[lot]);
        let body = json!({ "price": price }).to_string();
        Op { key, who, path, body, bid: Some((lot, price)), answer: None, refused: None }
    }
}
