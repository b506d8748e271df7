//! Rows 4 and 5: Redis as a peer. A real `redis-server` that flushes every write, a script that takes a bid when it
//! beats the best, and just enough of its protocol to ask for it.

use std::io::{Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};
use hdrhistogram::Histogram;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

/// Takes a bid that beats the best one and keeps it with its key; answers 1, or 0 when it does not beat it.
const SCRIPT: &str = "local best = redis.call('HGET', KEYS[1], 'price') \
    if best and tonumber(ARGV[1]) >= tonumber(best) then return 0 end \
    redis.call('HSET', KEYS[1], 'price', ARGV[1], 'bid', ARGV[2]) return 1";
const START_MAX: Duration = Duration::from_secs(20);
/// How long it may read its file.
const LOAD_MAX: Duration = Duration::from_secs(300);

/// A running `redis-server` with an append-only file that is flushed for every answer.
pub struct Redis {
    child: Child,
    port: u16,
    version: String,
}

impl Redis {
    /// Starts it on a free port of loopback with its file in `folder`, every write flushed; none where the program isn't
    /// installed.
    pub fn start(folder: &Path) -> Result<Option<Self>> {
        Self::start_with(folder, &["--appendfsync", "always"])
    }

    /// As [`Redis::start`], with these settings in place of the flush of every write. Does not wait until it has read
    /// its file.
    pub fn start_with(folder: &Path, settings: &[&str]) -> Result<Option<Self>> {
        let Ok(said) = Command::new("redis-server").arg("--version").output() else { return Ok(None) };
        let said = String::from_utf8_lossy(&said.stdout).into_owned();
        let version = said.split("v=").nth(1).and_then(|rest| rest.split(' ').next()).unwrap_or("?").to_owned();
        let port = TcpListener::bind("127.0.0.1:0")?.local_addr()?.port();
        let child = Command::new("redis-server")
            .args(["--bind", "127.0.0.1", "--port", &port.to_string(), "--save", "", "--appendonly", "yes"])
            .args(settings)
            .args(["--daemonize", "no", "--dir"])
            .arg(folder)
            .stdout(Stdio::null())
            .spawn()?;
        let this = Self { child, port, version };
        let started = Instant::now();
        while TcpStream::connect(("127.0.0.1", port)).is_err() {
            if started.elapsed() > START_MAX {
                bail!("redis-server was not ready within {START_MAX:?}");
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        Ok(Some(this))
    }

    /// Its version, as it says.
    pub fn version(&self) -> &str {
        &self.version
    }

    /// Bids `bids` times in `lots` lots, many in one write; every bid beats the one before in its lot.
    pub fn fill(&self, bids: u64, lots: u64) -> Result<()> {
        let stream = TcpStream::connect(("127.0.0.1", self.port))?;
        let script = load(&mut &stream)?;
        let mut answers = std::io::BufReader::with_capacity(1 << 16, stream.try_clone()?);
        let mut sent = 0;
        while sent < bids {
            let some = (bids - sent).min(1_000);
            let mut bytes = Vec::with_capacity(some as usize * 200);
            for bid in sent..sent + some {
                bytes.extend(request(&script, &lot_name(bid % lots), price_of(bid / lots)));
            }
            (&stream).write_all(&bytes)?;
            for _ in 0..some {
                let mut answer = [0; 4];
                answers.read_exact(&mut answer)?;
                taken(&answer)?;
            }
            sent += some;
        }
        Ok(())
    }

    /// Waits until it answers what the best price of a lot is, which it does when it has read its file, and checks that
    /// it is the one of the last of `bids` bids in `lots` lots.
    pub fn check(&self, bids: u64, lots: u64) -> Result<()> {
        let last = bids - 1;
        let expected = price_of(last / lots).to_string();
        let stream = TcpStream::connect(("127.0.0.1", self.port))?;
        let started = Instant::now();
        loop {
            (&stream).write_all(&command(&["HGET", &lot_name(last % lots), "price"]))?;
            let mut answer = [0; 128];
            let read = (&stream).read(&mut answer)?;
            let answer = String::from_utf8_lossy(&answer[..read]).into_owned();
            if answer.lines().nth(1) == Some(&expected) {
                return Ok(());
            }
            if !answer.starts_with("-LOADING") {
                bail!("Redis says {answer:?} where the price {expected} stands");
            }
            if started.elapsed() > LOAD_MAX {
                bail!("redis-server had not read its file within {LOAD_MAX:?}");
            }
            std::thread::sleep(Duration::from_millis(1));
        }
    }

    /// A connection whose bids come one at a time.
    pub fn bidder(&self) -> Result<Bidder> {
        let mut stream = TcpStream::connect(("127.0.0.1", self.port))?;
        stream.set_nodelay(true)?;
        let script = load(&mut stream)?;
        Ok(Bidder { stream, script, price: 900_000_000, buffer: Vec::new() })
    }

    /// Bids from `in_flight` connections, each with one in flight, for `time`: how many were taken, how long it took,
    /// and the latency of each in nanoseconds. Every connection bids in a lot of its own, so that each bid is taken.
    pub async fn closed(&self, in_flight: usize, time: Duration) -> Result<(u64, Duration, Histogram<u64>)> {
        let script = load(&mut TcpStream::connect(("127.0.0.1", self.port))?)?;
        let started = Instant::now();
        let mut tasks = tokio::task::JoinSet::new();
        for number in 0..in_flight {
            let (script, address) = (script.clone(), ("127.0.0.1", self.port));
            tasks.spawn(async move {
                let mut stream = tokio::net::TcpStream::connect(address).await?;
                stream.set_nodelay(true)?;
                let mut latency = Histogram::new_with_bounds(1, 60_000_000_000, 3)?;
                let mut answer = [0; 64];
                let mut price = 900_000_000u64;
                // A round begins where the last one of this connection's lot can't be beaten by accident.
                let lot = format!("lot-{number}-{}", started.elapsed().as_nanos());
                while started.elapsed() < time {
                    price -= 1;
                    let sent = Instant::now();
                    stream.write_all(&request(&script, &lot, price)).await?;
                    let read = stream.read(&mut answer).await?;
                    latency.record(sent.elapsed().as_nanos() as u64)?;
                    taken(&answer[..read])?;
                }
                anyhow::Ok(latency)
            });
        }
        let mut all = Histogram::new_with_bounds(1, 60_000_000_000, 3)?;
        while let Some(done) = tasks.join_next().await {
            all.add(done??)?;
        }
        Ok((all.len(), started.elapsed(), all))
    }
}

impl Drop for Redis {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// One connection to Redis with one bid in flight.
pub struct Bidder {
    stream: TcpStream,
    script: String,
    price: u64,
    buffer: Vec<u8>,
}

impl Bidder {
    /// Sends the next lower price and waits for its answer; the nanoseconds it took.
    pub fn bid(&mut self) -> Result<u64> {
        self.price -= 1;
        let started = Instant::now();
        self.stream.write_all(&request(&self.script, "lot", self.price))?;
        self.buffer.resize(64, 0);
        let read = self.stream.read(&mut self.buffer)?;
        let ns = started.elapsed().as_nanos() as u64;
        taken(&self.buffer[..read])?;
        Ok(ns)
    }
}

fn lot_name(lot: u64) -> String {
    format!("lot-{lot}")
}

/// The price of the `round`th bid in a lot.
fn price_of(round: u64) -> u64 {
    900_000_000 - round
}

fn taken(answer: &[u8]) -> Result<()> {
    match answer {
        b":1\r\n" => Ok(()),
        other => bail!("Redis did not take a bid: {:?}", String::from_utf8_lossy(other)),
    }
}

/// Loads the script; its name.
fn load(stream: &mut (impl std::io::Read + std::io::Write)) -> Result<String> {
    stream.write_all(&command(&["SCRIPT", "LOAD", SCRIPT]))?;
    let mut answer = [0; 128];
    let read = stream.read(&mut answer)?;
    let text = String::from_utf8_lossy(&answer[..read]).into_owned();
    let name = text.lines().nth(1).with_context(|| format!("Redis took no script: {text}"))?;
    Ok(name.to_owned())
}

fn request(script: &str, lot: &str, price: u64) -> Vec<u8> {
    // As much as a bid of ours says: who, what, under which key.
    command(&[
        "EVALSHA",
        script,
        "1",
        lot,
        &price.to_string(),
        "01925f7c-89ab-7cde-8f01-23456789abcd:cid-0123456789",
    ])
}

fn command(words: &[&str]) -> Vec<u8> {
    let mut bytes = format!("*{}\r\n", words.len()).into_bytes();
    for word in words {
        bytes.extend(format!("${}\r\n{word}\r\n", word.len()).into_bytes());
    }
    bytes
}
