//! The program with too few descriptors while it takes bids: who connects is refused at once, and told why; the log refuses
//! before it would need one, and goes on when there are some again; nothing answered is lost.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;
use std::time::{Duration, Instant};

use rustix::process::{Resource, Rlimit, prlimit};
use serde_json::Value;
use tokio::runtime::Handle;

use crate::judge::judge;
use crate::world::{Draws, Op, Served, World, request};

const PATIENCE: Duration = Duration::from_secs(60);

/// A connection that is kept: made while descriptors were to be had.
struct Kept(BufReader<TcpStream>);

impl Kept {
    fn open(address: SocketAddr) -> Self {
        let stream = TcpStream::connect(address).expect("connected");
        stream.set_read_timeout(Some(Duration::from_secs(30))).expect("a time-out");
        Self(BufReader::new(stream))
    }

    /// Status and body of one POST.
    fn post(&mut self, world: &World, op: &Op) -> Result<(u16, Value), String> {
        let head = format!(
            "POST {} HTTP/1.1\r\nhost: node\r\nauthorization: Bearer {}\r\nidempotency-key: {}\r\ncontent-type: \
             application/json\r\ncontent-length: {}\r\n\r\n",
            op.path,
            world.tokens[op.who],
            op.key,
            op.body.len()
        );
        let sent = self.0.get_mut().write_all(format!("{head}{}", op.body).as_bytes());
        sent.map_err(|error| error.to_string())?;
        let (mut status, mut length) = (0, 0);
        loop {
            let mut line = String::new();
            self.0.read_line(&mut line).map_err(|error| error.to_string())?;
            let line = line.trim_end();
            if let Some(rest) = line.strip_prefix("HTTP/1.1 ") {
                status = rest[..3].parse().map_err(|_| format!("a status: {line}"))?;
            } else if let Some((name, value)) = line.split_once(": ") {
                if name.eq_ignore_ascii_case("content-length") {
                    length = value.parse().map_err(|_| format!("a length: {line}"))?;
                }
            } else if line.is_empty() && status != 0 {
                break;
            } else {
                return Err(format!("no answer: {line:?}"));
            }
        }
        let mut body = vec![0; length];
        self.0.read_exact(&mut body).map_err(|error| error.to_string())?;
        Ok((status, serde_json::from_slice(&body).unwrap_or_default()))
    }
}

/// Sends one request and writes down what was told.
fn send(world: &World, kept: &mut Kept, draws: &mut Draws, ops: &mut Vec<Op>) -> Result<bool, String> {
    let mut op = world.op(draws);
    let (status, body) = kept.post(world, &op)?;
    if status == 201 {
        op.answer = Some(body);
    } else {
        op.refused = Some((status, body["code"].as_str().unwrap_or_default().to_owned()));
    }
    let taken = status == 201;
    ops.push(op);
    Ok(taken)
}

/// The first number that no open file of it has.
fn first_free(pid: u32) -> u64 {
    let files = std::fs::read_dir(format!("/proc/{pid}/fd")).expect("it runs");
    let mut numbers: Vec<u64> = files.filter_map(|file| file.ok()?.file_name().to_str()?.parse().ok()).collect();
    numbers.sort_unstable();
    (0..).zip(&numbers).find(|(number, taken)| number != *taken).map_or(numbers.len() as u64, |(number, _)| number)
}

fn limit(served: &Served, current: u64) {
    let limit = Rlimit { current: Some(current), maximum: Some(4_096) };
    prlimit(Some(served.pid()), Resource::Nofile, limit).expect("a limit");
}

/// Whether who connects is refused at once: the connection ends before anything was answered.
fn is_refused(address: SocketAddr) -> bool {
    let Ok(mut stream) = TcpStream::connect_timeout(&address, Duration::from_secs(5)) else { return true };
    stream.set_read_timeout(Some(Duration::from_secs(20))).expect("a time-out");
    let asked = stream.write_all(b"GET /v1/time HTTP/1.1\r\nhost: node\r\n\r\n");
    let mut answer = Vec::new();
    match stream.read_to_end(&mut answer) {
        Ok(_) => asked.is_err() || answer.is_empty(),
        Err(error) => error.kind() == std::io::ErrorKind::ConnectionReset,
    }
}

fn run_out(world: &World, handle: &Handle) -> Result<[usize; 3], String> {
    let dir = tempfile::tempdir().map_err(|error| error.to_string())?;
    let home = world.home().copied(dir.path());
    let mut served = home.serve(&[]);
    served.ready().map_err(|status| format!("{status}"))?;
    let (mut ops, mut draws) = (world.ops.clone(), Draws(5));
    let known = ops.len();
    let mut kept = Kept::open(served.listen);
    for _ in 0..5 {
        send(world, &mut kept, &mut draws, &mut ops)?;
    }
    // So small that nothing more can be opened. Some files come and go: the least number that was ever free.
    let pid = served.pid().as_raw_nonzero().get() as u32;
    let looks = (0..100).map(|_| {
        std::thread::sleep(Duration::from_millis(5));
        first_free(pid)
    });
    limit(&served, looks.min().expect("a hundred"));
    let mut refused = 0;
    let began = Instant::now();
    while refused < 5 {
        refused += usize::from(is_refused(served.listen));
        if began.elapsed() > PATIENCE {
            return Err(format!("who connects is served: {}", served.said()));
        }
    }
    // The segment that is ready is used up, and then the one behind it can't be made.
    let mut taken = 0;
    while send(world, &mut kept, &mut draws, &mut ops)? {
        taken += 1;
        if taken > 400 {
            return Err("it never needs a descriptor".into());
        }
    }
    for _ in 0..10 {
        send(world, &mut kept, &mut draws, &mut ops)?;
    }
    let codes: Vec<_> = ops[known..].iter().filter_map(|op| op.refused.clone()).collect();
    if codes.iter().any(|(status, code)| (*status, code.as_str()) != (503, "read_only")) {
        return Err(format!("refused otherwise than as read-only: {codes:?}"));
    }
    let said = served.said();
    for line in ["connections refused: ", "Raise the limit of open files", "The next segment can't be made ready"]
    {
        if !said.contains(line) || served.ended().is_some() {
            return Err(format!("{line} is not told: {said}"));
        }
    }
    if said.lines().filter(|line| line.contains("connections refused")).count() > 30 {
        return Err(format!("that is told too often: {said}"));
    }
    // They are there again: without a restart everything is taken.
    limit(&served, 1_024);
    let began = Instant::now();
    while !send(world, &mut kept, &mut draws, &mut ops)? {
        if began.elapsed() > PATIENCE {
            return Err(format!("it does not come back: {}", served.said()));
        }
        std::thread::sleep(Duration::from_millis(50));
    }
    for _ in 0..40 {
        if !send(world, &mut kept, &mut draws, &mut ops)? {
            return Err("it comes back for a moment only".into());
        }
    }
    let answers = request(served.listen, "GET", "/v1/time", "", "", "").is_some_and(|told| told.status == 200);
    let counted = served.metric("rt_http_connections_refused_total").unwrap_or(0.0) >= refused as f64;
    if !answers || !counted {
        return Err(format!("who connects is not served again, or was not counted: {}", served.said()));
    }
    // A snapshot that could not be written or verified meanwhile comes later; none is called bad.
    let bad = std::fs::read_dir(home.data().join("snapshots")).map_err(|error| error.to_string())?;
    let bad = bad.filter(|file| file.as_ref().is_ok_and(|file| file.path().extension() == Some("bad".as_ref())));
    if bad.count() > 0 {
        return Err(format!("a sound snapshot was put aside: {}", served.said()));
    }
    served.kill();
    let mut served = home.serve(&[]);
    served.ready().map_err(|status| format!("{status}, {}", served.said()))?;
    let refusals = ops.iter().filter(|op| op.refused.is_some()).count();
    let looked = judge(world, &home, &mut served, ops, handle)?;
    Ok([looked.answered, refusals, refused])
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_descriptors_it_refuses_and_comes_back() {
    let world = Arc::new(World::new().await);
    let handle = Handle::current();
    let run = move || std::thread::spawn(move || run_out(&world, &handle)).join().expect("it ends");
    let [answered, refused, connections] =
        tokio::task::spawn_blocking(run).await.expect("it ends").unwrap_or_else(|why| panic!("{why}"));
    println!("{answered} answered and there, {refused} refused, {connections} connections refused, violations 0");
    assert!(answered > 100 && refused >= 10);
}

/// A limit that the program is started with: connections leave enough for the log, however many there are.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn connections_leave_descriptors_for_the_log() {
    let world = Arc::new(World::new().await);
    let handle = Handle::current();
    let run = move || -> Result<(usize, usize), String> {
        let dir = tempfile::tempdir().map_err(|error| error.to_string())?;
        let home = world.home().copied(dir.path());
        let mut served = home.serve_limited(160);
        served.ready().map_err(|status| format!("{status}, {}", served.said()))?;
        let (mut ops, mut draws) = (world.ops.clone(), Draws(9));
        let mut kept = Kept::open(served.listen);
        send(&world, &mut kept, &mut draws, &mut ops)?;
        // More than it has descriptors for, all silent; half of them come again.
        let crowd = |many: usize| -> Vec<TcpStream> {
            (0..many)
                .filter_map(|_| TcpStream::connect_timeout(&served.listen, Duration::from_secs(5)).ok())
                .collect()
        };
        let silent = crowd(300);
        let (mut taken, mut again) = (0, Vec::new());
        for number in 0..120 {
            taken += usize::from(send(&world, &mut kept, &mut draws, &mut ops)?);
            if number % 40 == 20 {
                again.extend(crowd(60));
            }
        }
        let said = served.said();
        if taken != 120 || said.contains("can't be made ready") || !said.contains("may open 160 files") {
            return Err(format!("{taken} of 120 taken; said: {said}"));
        }
        drop((silent, again));
        served.kill();
        let mut served = home.serve(&[]);
        served.ready().map_err(|status| format!("{status}, {}", served.said()))?;
        let looked = judge(&world, &home, &mut served, ops, &handle)?;
        Ok((taken, looked.answered))
    };
    let run = move || std::thread::spawn(run).join().expect("it ends");
    let (taken, answered) =
        tokio::task::spawn_blocking(run).await.expect("it ends").unwrap_or_else(|why| panic!("{why}"));
    println!("{taken} taken beside 480 silent connections, {answered} answered and there, violations 0");
}
