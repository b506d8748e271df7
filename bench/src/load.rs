//! Bids over the live feed's socket: a fixed-rate sender whose latency counts from the planned time, and a closed
//! loop of so many in flight. Every connection bids in lots and under a bidder of its own, so every bid is an
//! improvement and none waits for another.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail, ensure};
use futures_util::{SinkExt as _, StreamExt as _};
use hdrhistogram::Histogram;
use serde_json::{Value, json};
use tokio::net::TcpStream;
use tokio::sync::mpsc;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::client::IntoClientRequest as _;
use tokio_tungstenite::{MaybeTlsStream, WebSocketStream};

use crate::client::{CEILING, DECREMENT, Field, price};

/// Unanswered requests that the server takes on one socket.
const IN_FLIGHT_MAX: usize = 32;

/// The counter of batches on the admin listener; each is made durable by one flush.
pub const FLUSHES: &str = "rt_batches_total";

/// How long the last answers may take after the last bid was sent.
const DRAIN_MAX: Duration = Duration::from_secs(20);

/// What a run gave.
pub struct Outcome {
    /// Nanoseconds from the planned time (open loop) or from the sending (closed loop) to the answer.
    pub latency: Histogram<u64>,
    /// Bids that were accepted.
    pub accepted: u64,
    /// Bids that were refused or failed, by code.
    pub refused: HashMap<String, u64>,
    /// Bids that were never answered.
    pub unanswered: u64,
    /// From the first bid to the last answer.
    pub took: Duration,
}

impl Outcome {
    fn new() -> Self {
        let latency = Histogram::new_with_bounds(1, 60_000_000_000, 3).expect("the bounds are valid");
        Self { latency, accepted: 0, refused: HashMap::new(), unanswered: 0, took: Duration::ZERO }
    }

    fn add(&mut self, other: Self) {
        self.latency.add(&other.latency).expect("the bounds are the same");
        self.accepted += other.accepted;
        for (code, count) in other.refused {
            *self.refused.entry(code).or_default() += count;
        }
        self.unanswered += other.unanswered;
    }

    /// Accepted bids a second.
    pub fn rate(&self) -> f64 {
        self.accepted as f64 / self.took.as_secs_f64()
    }

    /// A quantile of the latency in microseconds.
    pub fn us(&self, quantile: f64) -> f64 {
        self.latency.value_at_quantile(quantile) as f64 / 1_000.0
    }

    fn answer(&mut self, answer: Answer, since: Instant) {
        let ns = u64::try_from(since.elapsed().as_nanos()).unwrap_or(u64::MAX);
        self.latency.saturating_record(ns.max(1));
        match answer {
            Answer::Accepted => self.accepted += 1,
            Answer::Refused(code) => *self.refused.entry(code).or_default() += 1,
        }
    }
}

/// What one bid was told.
pub enum Answer {
    /// It stands.
    Accepted,
    /// This code.
    Refused(String),
}

/// One signed-in socket that bids.
pub struct Bidder {
    socket: WebSocketStream<MaybeTlsStream<TcpStream>>,
    run: String,
    lots: Vec<String>,
    bids: i64,
    next_id: u64,
}

impl Bidder {
    /// Connection `number` of `connections` to the server at `address`. `run` makes its `cid`s differ from those of
    /// earlier runs on the same field.
    pub async fn connect(
        address: &str,
        field: &Field,
        run: &str,
        number: usize,
        connections: usize,
    ) -> Result<Self> {
        let bidders = field.bidders.len();
        let slices = connections.div_ceil(bidders);
        ensure!(slices <= field.lots.len(), "{connections} connections need {slices} lots");
        let own = field.lots.iter().skip(number / bidders).step_by(slices).cloned().collect();
        let mut request = format!("ws://{address}/v1/feed").into_client_request()?;
        request.headers_mut().insert("Sec-WebSocket-Protocol", "auction.v1.json".parse()?);
        let (socket, _) = tokio_tungstenite::connect_async(request).await.context("opening the feed")?;
        if let MaybeTlsStream::Plain(stream) = socket.get_ref() {
            stream.set_nodelay(true)?;
        }
        let run = format!("{run}-{number}");
        let mut this = Self { socket, run, lots: own, bids: 0, next_id: 1 };
        let hello = json!({ "id": 0, "op": "hello", "d": { "token": field.bidders[number % bidders] } });
        this.socket.send(Message::text(hello.to_string())).await?;
        loop {
            let frame = this.frame().await?;
            if frame["re"] == 0 {
                ensure!(frame["err"].is_null(), "hello was refused: {frame}");
                return Ok(this);
            }
        }
    }

    async fn frame(&mut self) -> Result<Value> {
        loop {
            match self.socket.next().await {
                Some(Ok(Message::Text(text))) => return Ok(serde_json::from_str(&text)?),
                Some(Ok(Message::Close(frame))) => bail!("the server closed the socket: {frame:?}"),
                Some(Ok(_)) => {}
                Some(Err(error)) => return Err(error.into()),
                None => bail!("the socket ended"),
            }
        }
    }

    /// The next bid: lots in turn, the price always lower than this connection's last in that lot.
    fn next_bid(&mut self) -> (u64, Message) {
        let id = self.next_id;
        self.next_id += 1;
        let lots = self.lots.len() as i64;
        let lot = &self.lots[(self.bids % lots) as usize];
        let price = price(CEILING - DECREMENT * (self.bids / lots));
        self.bids += 1;
        // Written by hand: the generator shares the machine with what it measures.
        let run = &self.run;
        let text = format!(
            r#"{{"id":{id},"op":"bid.place","d":{{"lot":"{lot}","cid":"{run}-{id}","price":"{price}"}}}}"#
        );
        (id, Message::text(text))
    }

    /// Sends one bid and waits for its answer.
    pub async fn bid(&mut self) -> Result<Answer> {
        let (id, message) = self.next_bid();
        self.socket.send(message).await?;
        loop {
            if let Some((re, answer)) = answered(&self.frame().await?)
                && re == id
            {
                return Ok(answer);
            }
        }
    }
}

/// The request that a frame answers, and how; a push answers none.
fn answered(frame: &Value) -> Option<(u64, Answer)> {
    let re = frame["re"].as_u64()?;
    if frame["ok"].is_object() {
        return Some((re, Answer::Accepted));
    }
    let code = frame["err"]["code"].as_str().unwrap_or("no code");
    Some((re, Answer::Refused(code.to_owned())))
}

/// Opens `connections` sockets.
pub async fn connect(address: &str, field: &Field, run: &str, connections: usize) -> Result<Vec<Bidder>> {
    let mut bidders = Vec::new();
    for number in 0..connections {
        bidders.push(Bidder::connect(address, field, run, number, connections).await?);
    }
    Ok(bidders)
}

/// Every bidder sends its next bid as soon as the one before is answered, for `time`. The bidders come back to go on.
pub async fn closed(bidders: Vec<Bidder>, time: Duration) -> Result<(Outcome, Vec<Bidder>)> {
    let started = Instant::now();
    let tasks: Vec<_> = bidders
        .into_iter()
        .map(|mut bidder| {
            tokio::spawn(async move {
                let mut outcome = Outcome::new();
                while started.elapsed() < time {
                    let sent = Instant::now();
                    let answer = bidder.bid().await?;
                    outcome.answer(answer, sent);
                }
                anyhow::Ok((outcome, bidder))
            })
        })
        .collect();
    let (mut all, mut bidders) = (Outcome::new(), Vec::new());
    for task in tasks {
        let (outcome, bidder) = task.await??;
        all.add(outcome);
        bidders.push(bidder);
    }
    all.took = started.elapsed();
    Ok((all, bidders))
}

/// Bids at a fixed rate a second for `time`, spread over the bidders, whatever the server does. `sent` is told how
/// many have been sent so far.
pub async fn open(
    bidders: Vec<Bidder>,
    rate: u32,
    time: Duration,
    sent: impl Fn(u64) + Send + 'static,
) -> Result<Outcome> {
    let (mut lanes, mut tasks) = (Vec::new(), Vec::new());
    for bidder in bidders {
        let (lane, due) = mpsc::unbounded_channel();
        lanes.push(lane);
        tasks.push(tokio::spawn(send_when_due(bidder, due)));
    }
    let count = u64::from(rate) * time.as_millis() as u64 / 1_000;
    let started = Instant::now();
    // The pace is kept by a thread that sleeps to each planned time: a timer of the runtime is a millisecond coarse.
    // When it ends it drops the lanes, and that ends the tasks.
    let pace = std::thread::spawn(move || {
        for number in 0..count {
            let planned = started + Duration::from_nanos(number * 1_000_000_000 / u64::from(rate));
            if let Some(left) = planned.checked_duration_since(Instant::now()) {
                std::thread::sleep(left);
            }
            // A lane whose task failed is closed; the task's error is told when it is joined.
            let _ = lanes[number as usize % lanes.len()].send(planned);
            if number % 256 == 0 {
                sent(number);
            }
        }
        sent(count);
    });
    let mut all = Outcome::new();
    for task in tasks {
        all.add(task.await??);
    }
    all.took = started.elapsed();
    pace.join().map_err(|_| anyhow::anyhow!("the pacing thread panicked"))?;
    Ok(all)
}

/// Sends a bid for every planned time that arrives, as soon as the socket may have another in flight.
async fn send_when_due(mut bidder: Bidder, mut due: mpsc::UnboundedReceiver<Instant>) -> Result<Outcome> {
    let mut outcome = Outcome::new();
    let mut waiting: HashMap<u64, Instant> = HashMap::new();
    let mut open = true;
    let mut give_up = None;
    while open || !waiting.is_empty() {
        tokio::select! {
            planned = due.recv(), if open && waiting.len() < IN_FLIGHT_MAX => match planned {
                Some(planned) => {
                    let (id, message) = bidder.next_bid();
                    waiting.insert(id, planned);
                    bidder.socket.send(message).await?;
                }
                None => {
                    open = false;
                    give_up = Some(tokio::time::Instant::now() + DRAIN_MAX);
                }
            },
            frame = bidder.frame() => {
                if let Some((id, answer)) = answered(&frame?)
                    && let Some(planned) = waiting.remove(&id)
                {
                    outcome.answer(answer, planned);
                }
            }
            () = until(give_up) => break,
        }
    }
    outcome.unanswered = waiting.len() as u64;
    Ok(outcome)
}

async fn until(time: Option<tokio::time::Instant>) {
    match time {
        Some(time) => tokio::time::sleep_until(time).await,
        None => std::future::pending().await,
    }
}
