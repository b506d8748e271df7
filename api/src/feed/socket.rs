//! One connection: reads requests, and writes answers, frames and pushes in an order that a client can rely on.
//!
//! Order of writing: frames are collected first, then the lane of answers is emptied, then answers go out, then the
//! frames. An answer is in the lane before the view sees its bid, so it precedes the `upd` of the bid on this socket.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use axum::extract::ws::{Message, Utf8Bytes, WebSocket};
use engine::{Action, Command, Envelope, LogTime, LotId, RequestId};
use futures_util::{SinkExt, StreamExt};
use serde::Serialize;
use serde_json::{Value, json};
use tokio::time::Instant;
use uuid::Uuid;

use super::close::Close;
use super::cursor::{Cursor, Progress, Viewer};
use super::lane::{Control, Lane};
use super::message::{
    AuthRefresh, BidAccept, BidPlace, BidQuery, Failure, Hello, Request, Retry, Sub, Time, Unsub, check_cid,
    decided, err, ok, push, recorded,
};
use super::{Feed, HELLO_BYTES_MAX, IN_FLIGHT_MAX, MESSAGE_BYTES_MAX};
use crate::body::{IdText, TimeText};
use crate::limits::gcra::Bucket;
use crate::limits::{MESSAGES, REFUSALS_MAX, REFUSALS_WITHIN, Subject, Told};
use crate::node::Stamp;
use crate::rest::tokens::{Caller, TokenError};

/// Bytes of frames that are collected before they are written: what a stalled reader costs beside its buffers.
const BATCH_BYTES: usize = 32 << 10;
/// Characters of a client's name that are logged.
const CLIENT_MAX: usize = 100;
/// Requests that could not be understood, on one socket.
const ERRORS_MAX: u32 = 50;
/// In the last part of a lot, heartbeats come faster.
const HURRY_MS: i64 = 120_000;

/// How a connection ends.
enum End {
    /// The server says why.
    Close(Close),
    /// The client has gone or said good-bye.
    Gone,
}

impl From<Close> for End {
    fn from(close: Close) -> Self {
        Self::Close(close)
    }
}

/// What is told under `ok` or `err` now; nothing when the answer comes through the lane.
type Answered = Result<Option<Value>, Failure>;

/// The state of one connection.
struct Connection {
    feed: Feed,
    lane: Arc<Lane>,
    /// Hash of the client's address.
    source: u64,
    id: String,
    caller: Option<Caller>,
    /// Said `hello`.
    greeted: bool,
    last_id: Option<u64>,
    cursors: BTreeMap<LotId, Cursor>,
    /// With which lot collecting begins; moves on so that no lot is always last.
    turn: usize,
    in_flight: usize,
    errors: u32,
    /// Its messages, and when the first of the refusals for their rate came that are counted, and how many came.
    messages: Bucket,
    refused: (Instant, u32),
    /// What is to be written next, in order.
    out: Vec<Utf8Bytes>,
    born: Instant,
    heartbeat_at: Instant,
    ping_at: Instant,
    pings_missed: u32,
    /// The token whose end was told.
    expiring_told: Option<LogTime>,
    drain_told: Option<Instant>,
    /// How many roots were signed when they were looked at last, and of each shard when one was sent.
    roots_seen: u64,
    roots_sent: BTreeMap<u16, u64>,
}

/// Serves one connection until it ends.
pub(super) async fn serve(feed: Feed, mut socket: WebSocket, source: u64) {
    let lane = feed.hub().connect();
    let now = Instant::now();
    let mut connection = Connection {
        lane: Arc::clone(&lane),
        source,
        id: Uuid::now_v7().to_string(),
        caller: None,
        greeted: false,
        last_id: None,
        cursors: BTreeMap::new(),
        turn: 0,
        in_flight: 0,
        errors: 0,
        messages: Bucket::default(),
        refused: (now, 0),
        out: Vec::new(),
        born: now,
        heartbeat_at: now,
        ping_at: now,
        pings_missed: 0,
        expiring_told: None,
        drain_told: None,
        roots_seen: feed.hub().roots_signed(),
        roots_sent: BTreeMap::new(),
        feed,
    };
    metrics::gauge!("feed_connections").increment(1.0);
    let Err(end) = connection.run(&mut socket).await;
    for cursor in connection.cursors.values() {
        cursor.feed.unsubscribe(&lane);
    }
    if let End::Close(close) = end {
        metrics::counter!("feed_closes_total", "code" => close.code().to_string()).increment(1);
        tracing::debug!(conn = connection.id, code = close.code(), "Closing a feed: {}", close.reason());
        say_good_bye(&mut socket, close).await;
    }
    connection.feed.hub().disconnect(&lane);
    metrics::gauge!("feed_connections").decrement(1.0);
}

/// Closes a socket that offered no subprotocol that we speak.
pub(super) async fn refuse_version(mut socket: WebSocket) {
    say_good_bye(&mut socket, Close::Version).await;
}

/// Sends the closing frame and waits shortly for the client's own, so that a reset doesn't overtake it.
async fn say_good_bye(socket: &mut WebSocket, close: Close) {
    let polite = async {
        if socket.send(close.message()).await.is_ok() {
            while let Some(Ok(_)) = socket.next().await {}
        }
    };
    let _late = tokio::time::timeout(Duration::from_secs(2), polite).await;
}

impl Connection {
    async fn run(&mut self, socket: &mut WebSocket) -> Result<std::convert::Infallible, End> {
        loop {
            self.pump(socket).await?;
            let lane = Arc::clone(&self.lane);
            let timer = self.next_timer();
            // Not biased: neither a stream of steps nor a stream of requests may starve the other.
            tokio::select! {
                () = lane.ended() => return Err(Close::Forbidden.into()),
                () = lane.woken() => {}
                message = socket.next() => {
                    // The last byte has just been read: this is when the request was made.
                    let stamp = self.feed.node().stamp();
                    self.receive(message, stamp).await?;
                }
                () = tokio::time::sleep_until(timer) => self.ring(socket).await?,
            }
        }
    }

    /// Writes all that is to be written now.
    async fn pump(&mut self, socket: &mut WebSocket) -> Result<(), End> {
        loop {
            self.lane.rest();
            self.tell_drain()?;
            let more = self.collect();
            self.collect_roots();
            let mut answers = Vec::new();
            for control in self.lane.drain() {
                self.in_flight -= 1;
                answers.push(self.answer(control));
            }
            if answers.is_empty() && self.out.is_empty() {
                return Ok(());
            }
            answers.append(&mut self.out);
            self.write(socket, answers).await?;
            if !more {
                return Ok(());
            }
        }
    }

    /// Collects frames of all lots that moved. True: there is more.
    fn collect(&mut self) -> bool {
        let count = self.cursors.len();
        if count == 0 || !self.cursors.values().any(Cursor::is_behind) {
            return false;
        }
        self.turn = self.turn.wrapping_add(1);
        let first = self.turn % count;
        let lots: Vec<LotId> = self.cursors.keys().copied().collect();
        let (view, viewer, feed) = (self.feed.node().view(), self.viewer(), self.feed.clone());
        let service = feed.service(viewer);
        let mut more = false;
        let mut bytes: usize = self.out.iter().map(|text| text.len()).sum();
        for lot in lots[first..].iter().chain(&lots[..first]) {
            let cursor = self.cursors.get_mut(lot).expect("its key was just read");
            if !cursor.is_behind() {
                continue;
            }
            if bytes >= BATCH_BYTES {
                more = true;
                break;
            }
            let (before, bid) = (self.out.len(), cursor.bids());
            let out = &mut self.out;
            let progress = view.lot(*lot, |tender, lot, _| cursor.advance(tender, lot, service, out));
            if cursor.bids() != bid {
                cursor.feed.subscribe(&self.lane, cursor.bids());
            }
            match progress.unwrap_or(Progress::Hidden) {
                Progress::Done => {}
                Progress::More => more = true,
                Progress::Hidden => {
                    cursor.feed.unsubscribe(&self.lane);
                    self.cursors.remove(lot);
                }
            }
            bytes += self.out[before..].iter().map(|text| text.len()).sum::<usize>();
        }
        more
    }

    /// Collects the roots that were signed since they were looked at last, of the shards that hold its lots. A root
    /// tells how many commands the shard has taken, so it waits while one of these lots hides that there were any.
    fn collect_roots(&mut self) {
        let hub = self.feed.hub();
        let (seen, signed) = (self.roots_seen, hub.roots_signed());
        if seen == signed || self.cursors.is_empty() {
            return;
        }
        self.roots_seen = signed;
        let node = self.feed.node();
        let view = node.view();
        let mut shards = BTreeMap::new();
        for lot in self.cursors.keys() {
            let veiled = view.lot(*lot, |_, lot, _| lot.is_veiled()).unwrap_or(false);
            *shards.entry(node.shard_of_tender(lot.tender())).or_insert(false) |= veiled;
        }
        for (shard, _) in shards.into_iter().filter(|(_, veiled)| !veiled) {
            // One that was held back comes with the next that is signed: the end of a lot signs.
            let sent = self.roots_sent.entry(shard).or_insert(seen);
            self.out.extend(hub.root_since(shard, *sent));
            *sent = signed;
        }
    }

    async fn write(&self, socket: &mut WebSocket, texts: Vec<Utf8Bytes>) -> Result<(), End> {
        let patience = self.feed.timings().write;
        let sending = async {
            for text in texts {
                let fed = tokio::time::timeout(patience, socket.feed(Message::Text(text))).await;
                fed.map_err(|_| End::Close(Close::Slow))?.map_err(|_| End::Gone)?;
            }
            let flushed = tokio::time::timeout(patience, socket.flush()).await;
            flushed.map_err(|_| End::Close(Close::Slow))?.map_err(|_| End::Gone)
        };
        tokio::select! {
            sent = sending => sent,
            () = self.lane.ended() => Err(Close::Forbidden.into()),
        }
    }

    /// Turns what came through the lane into its reply.
    fn answer(&self, control: Control) -> Utf8Bytes {
        let now = self.feed.node().now();
        match control {
            Control::Bid { re, cid, rx, outcome } => decided(re, &outcome, &cid, rx, now),
            Control::Query { re, rx, told: Ok(body) } => ok(re, &body, rx, now),
            Control::Query { re, rx, told: Err(failure) } => err(re, &failure, rx, now),
        }
    }

    async fn receive(&mut self, message: Option<Result<Message, axum::Error>>, stamp: Stamp) -> Result<(), End> {
        let text = match message {
            None => return Err(End::Gone),
            Some(Err(error)) => return Err(broken(&error)),
            Some(Ok(Message::Close(_))) => return Err(End::Gone),
            Some(Ok(Message::Pong(_) | Message::Ping(_))) => {
                self.pings_missed = 0;
                let rates = self.feed.clone();
                let within = rates.rates().take_from(&mut self.messages, "messages", MESSAGES);
                return if within.is_ok() { Ok(()) } else { self.count_refusal() };
            }
            Some(Ok(Message::Binary(_))) => return Err(Close::BadFrame("text frames only").into()),
            Some(Ok(Message::Text(text))) => text,
        };
        self.pings_missed = 0;
        if text.len() > if self.greeted { MESSAGE_BYTES_MAX } else { HELLO_BYTES_MAX } {
            return Err(Close::BadFrame("the frame is too large").into());
        }
        let Some(request) = Request::parse(&text) else {
            return Err(Close::BadFrame("no request: {\"id\":1,\"op\":\"…\",\"d\":{…}}").into());
        };
        let (re, rx) = (request.id, stamp.at());
        let rates = self.feed.clone();
        let within = rates.rates().take_from(&mut self.messages, "messages", MESSAGES).map_err(Failure::over);
        let answered = if self.last_id.is_some_and(|last| re <= last) {
            Err(Failure::malformed("id: must be greater than that of the request before"))
        } else if let (true, Err(failure)) = (self.greeted, within) {
            self.last_id = Some(re);
            Err(failure)
        } else {
            self.last_id = Some(re);
            self.handle(request, stamp).await?
        };
        let tx = self.feed.node().now();
        match answered {
            Ok(None) => {}
            // What the request itself queued comes behind its reply.
            Ok(Some(body)) => self.out.insert(0, ok(re, &body, rx, tx)),
            Err(failure) => {
                self.out.push(err(re, &failure, rx, tx));
                let misunderstood = matches!(failure.code, "malformed" | "unknown_field" | "unknown_op");
                self.errors += u32::from(misunderstood);
                if failure.code == "rate_limited" {
                    self.count_refusal()?;
                }
                if self.errors > ERRORS_MAX {
                    return Err(Close::TooManyErrors.into());
                }
            }
        }
        Ok(())
    }

    /// Counts a request that was over a rate; who goes on with it is sent away.
    fn count_refusal(&mut self) -> Result<(), End> {
        let now = Instant::now();
        if now >= self.refused.0 + REFUSALS_WITHIN {
            self.refused = (now, 0);
        }
        self.refused.1 += 1;
        if self.refused.1 >= REFUSALS_MAX { Err(Close::Rate.into()) } else { Ok(()) }
    }

    async fn handle(&mut self, mut request: Request, stamp: Stamp) -> Result<Answered, End> {
        let re = request.id;
        if !self.greeted && request.op != "hello" {
            return Err(Close::BadFrame("hello must be first").into());
        }
        let answered = match request.op.as_str() {
            // These two submit; for everything else the stamp would only delay deadlines.
            "bid.place" => BidPlace::parse(&mut request).and_then(|place| self.place(re, place, stamp)),
            "bid.accept" => request.data().and_then(|accept| self.accept(re, accept, stamp)),
            "hello" => {
                drop(stamp);
                return self.hello(request).await;
            }
            "auth.refresh" => {
                drop(stamp);
                match request.data::<AuthRefresh>() {
                    Ok(refresh) => self.refresh(&refresh.token).await,
                    Err(failure) => Err(failure),
                }
            }
            "sub" => {
                drop(stamp);
                match request.data::<Sub>() {
                    Ok(sub) => self.subscribe(&sub).await,
                    Err(failure) => Err(failure),
                }
            }
            "unsub" => request.data::<Unsub>().map(|unsub| {
                if let Some(cursor) = self.cursors.remove(&LotId(unsub.lot.0)) {
                    cursor.feed.unsubscribe(&self.lane);
                }
                Some(json!({}))
            }),
            "bid.query" => request.data().and_then(|query| self.query(re, query, stamp.at())),
            "time" => request.data::<Time>().map(|time| {
                let (t1, t2) = (TimeText(stamp.at()), TimeText(self.feed.node().now()));
                Some(json!({ "t0": time.t0, "t1": t1, "t2": t2 }))
            }),
            _ => Err(Failure::new("unknown_op", Retry::No, "There is no such op.")),
        };
        Ok(answered)
    }

    async fn hello(&mut self, mut request: Request) -> Result<Answered, End> {
        if self.greeted {
            return Ok(Err(Failure::malformed("hello: was said already")));
        }
        let hello: Hello = match request.data() {
            Ok(hello) => hello,
            Err(failure) => return Ok(Err(failure)),
        };
        let limits = *self.feed.limits();
        if let Some(token) = &hello.token {
            let caller = match self.feed.authenticate(token).await {
                Ok(caller) => caller,
                Err(TokenError::Invalid) => return Err(Close::BadToken.into()),
                Err(TokenError::Expired) => return Err(Close::TokenExpired.into()),
            };
            if !self.feed.hub().sign_in(&self.lane, caller.user, caller.session, limits.sockets_per_user) {
                return Err(Close::TooManySockets.into());
            }
            // A sign-in that ended before it was registered here was told to nobody.
            if !self.feed.session_runs(caller.session) {
                return Err(Close::Forbidden.into());
            }
            self.caller = Some(caller);
        }
        self.greeted = true;
        if let Some(client) = &hello.client {
            let client: String = client.chars().take(CLIENT_MAX).collect();
            tracing::debug!(conn = self.id, client, "A feed says hello");
        }
        let mut subs = Vec::with_capacity(hello.resume.len());
        for sub in &hello.resume {
            subs.push(match self.subscribe(sub).await {
                Ok(Some(ok)) => ok,
                Ok(None) => unreachable!("a subscription is answered at once"),
                Err(failure) => json!({ "lot": sub.lot, "err": failure }),
            });
        }
        let now = self.feed.node().now();
        self.heartbeat_at = Instant::now() + self.heartbeat_every();
        self.ping_at = Instant::now() + self.feed.timings().ping;
        Ok(Ok(Some(json!({
            "conn": self.id,
            "now": TimeText(now),
            "exp": self.caller.as_ref().map(|caller| TimeText(caller.expires_at)),
            "hb_ms": self.feed.timings().heartbeat.as_millis() as u64,
            "limits": {
                "in_flight": IN_FLIGHT_MAX,
                "lots": count(limits.lots),
                "sockets": count(limits.sockets_per_user),
                "message_bytes": MESSAGE_BYTES_MAX,
            },
            "policy": { "bids_survive_disconnect": true },
            "subs": subs,
        }))))
    }

    async fn refresh(&mut self, token: &str) -> Answered {
        let caller = self.feed.authenticate(token).await.map_err(|error| match error {
            TokenError::Invalid => Failure::new("token_invalid", Retry::No, "The token is not valid."),
            TokenError::Expired => Failure::new("token_expired", Retry::AfterAuth, "The token has expired."),
        })?;
        let same = self
            .caller
            .as_ref()
            .is_some_and(|known| (known.user, known.organisation) == (caller.user, caller.organisation));
        if !same {
            return Err(Failure::new("forbidden", Retry::No, "A socket stays with the person that said hello."));
        }
        self.feed.hub().change_session(&self.lane, caller.session);
        let exp = TimeText(caller.expires_at);
        self.caller = Some(caller);
        Ok(Some(json!({ "exp": exp })))
    }

    async fn subscribe(&mut self, sub: &Sub) -> Answered {
        let lot = LotId(sub.lot.0);
        if self.cursors.len() >= self.feed.limits().lots && !self.cursors.contains_key(&lot) {
            return Err(Failure::new("too_many_lots", Retry::No, "Unsubscribe from another lot first."));
        }
        // A reader is never shown less than it was answered.
        let view = self.feed.node().read().await.map_err(|_| {
            Failure::new("behind", Retry::Later, "The node has not caught up with what it answered.")
        })?;
        let (viewer, feed) = (self.viewer(), self.feed.clone());
        let service = feed.service(viewer);
        let epoch = service.epoch;
        let position = sub.seq.filter(|_| sub.epoch.as_deref() == Some(epoch));
        if let Some(seq) = position.filter(|_| self.feed.node().board().is_some()) {
            // Another node has shown it more already.
            let reached = || view.lot(lot, |_, lot, _| lot.seq >= seq).unwrap_or(false);
            let until = tokio::time::Instant::now() + BEHIND_AFTER;
            while !reached() {
                if tokio::time::Instant::now() >= until {
                    let text = "The node has not caught up with what another one showed.";
                    return Err(Failure { after_ms: Some(1_000), ..Failure::new("behind", Retry::Later, text) });
                }
                tokio::time::sleep(BEHIND_LOOK).await;
            }
        }
        let out = &mut self.out;
        let subscribed = view.lot(lot, |tender, lot, feed| {
            let mut cursor = Cursor::new(tender, lot, feed, viewer, position)?;
            let ok = json!({
                "lot": IdText(lot.id.0), "epoch": epoch, "seq": lot.seq, "recovered": cursor.recovered(),
            });
            cursor.advance(tender, lot, service, out);
            Some((cursor, ok))
        });
        let Some((cursor, ok)) = subscribed.flatten() else {
            return Err(Failure::refusal(engine::Refusal::LotNotFound));
        };
        // Registered before the cursor is looked at again: a step in between is seen there.
        cursor.feed.subscribe(&self.lane, cursor.bids());
        self.cursors.insert(lot, cursor);
        Ok(Some(ok))
    }

    /// Whoever may send commands now, or why nobody may.
    fn trader(&self, at: LogTime) -> Result<&Caller, Failure> {
        let Some(caller) = &self.caller else {
            return Err(Failure::new("token_missing", Retry::AfterAuth, "Say hello with a token to bid."));
        };
        // No grace for bids: reading may go on for a while, bidding may not.
        if at >= caller.expires_at {
            return Err(Failure::new("token_expired", Retry::AfterAuth, "Send auth.refresh with a new token."));
        }
        if !caller.role.trades() {
            return Err(Failure::new("forbidden", Retry::No, "Auditors only read."));
        }
        Ok(caller)
    }

    fn count_in(&mut self) -> Result<(), Failure> {
        if self.in_flight >= IN_FLIGHT_MAX {
            let text = format!("{IN_FLIGHT_MAX} requests are unanswered; wait for an answer.");
            return Err(Failure::new("too_many_in_flight", Retry::Later, text));
        }
        self.in_flight += 1;
        Ok(())
    }

    fn place(&mut self, re: u64, place: BidPlace, stamp: Stamp) -> Answered {
        let BidPlace { lot, cid, body } = place;
        self.submit(re, lot, cid, body.action(lot), stamp)
    }

    fn accept(&mut self, re: u64, accept: BidAccept, stamp: Stamp) -> Answered {
        let lot = LotId(accept.lot.0);
        let cid = check_cid(accept.cid)?;
        self.submit(re, lot, cid, Action::Accept { lot, step: accept.step }, stamp)
    }

    fn submit(&mut self, re: u64, lot: LotId, cid: String, action: Action, stamp: Stamp) -> Answered {
        let rx = stamp.at();
        let caller = self.trader(rx)?;
        let envelope = Envelope {
            organisation: caller.organisation,
            user: caller.user,
            session: caller.session,
            request: RequestId(Uuid::now_v7().as_u128()),
            source: self.source,
            key: Some(crate::key::of_lot(caller.organisation, lot, &cid, &action)),
            ..Envelope::default()
        };
        let told = &mut Told::default();
        for subject in
            [Subject::Tender(caller.organisation, lot.tender()), Subject::Bids(caller.organisation, lot)]
        {
            self.feed.rates().take(subject, told).map_err(Failure::over)?;
        }
        self.count_in()?;
        let lane = Arc::clone(&self.lane);
        let command = Command { envelope, action, secret: None };
        self.feed.node().submit_with(stamp, command, move |outcome| {
            lane.push(Control::Bid { re, cid, rx, outcome });
        });
        Ok(None)
    }

    fn query(&mut self, re: u64, query: BidQuery, rx: LogTime) -> Answered {
        let lot = LotId(query.lot.0);
        let cid = check_cid(query.cid)?;
        let Some(caller) = &self.caller else {
            return Err(Failure::new("token_missing", Retry::AfterAuth, "Say hello with a token to ask."));
        };
        let scoped = crate::key::of_lot(caller.organisation, lot, &cid, &Action::Tick).scoped;
        self.count_in()?;
        let (feed, lane, viewer) = (self.feed.clone(), Arc::clone(&self.lane), self.viewer());
        tokio::spawn(async move {
            let told = look_up(&feed, lot, viewer, scoped, &cid).await;
            lane.push(Control::Query { re, rx, told });
        });
        Ok(None)
    }

    fn viewer(&self) -> Option<Viewer> {
        let caller = self.caller.as_ref()?;
        Some(Viewer { organisation: caller.organisation, supplies: caller.kind.supplies() })
    }

    fn heartbeat_every(&self) -> Duration {
        let timings = self.feed.timings();
        let now = self.feed.node().now();
        let hurry = |cursor: &Cursor| cursor.closes_at().is_some_and(|at| at.0 - now.0 <= HURRY_MS);
        if self.cursors.values().any(hurry) { timings.heartbeat_hurry } else { timings.heartbeat }
    }

    /// When the next thing happens by itself.
    fn next_timer(&mut self) -> Instant {
        let timings = *self.feed.timings();
        let mut next = self.born + if self.greeted { timings.life } else { timings.hello };
        if self.greeted {
            // The end of a lot may have come near since the last heartbeat.
            self.heartbeat_at = self.heartbeat_at.min(Instant::now() + self.heartbeat_every());
            next = next.min(self.heartbeat_at).min(self.ping_at);
        }
        if let Some(caller) = &self.caller {
            let until = |at: LogTime| {
                Instant::now() + Duration::from_millis(at.0.saturating_sub(self.feed.node().now().0).max(0) as u64)
            };
            let warned = self.expiring_told == Some(caller.expires_at);
            let warn_at = caller.expires_at.plus_ms(-(timings.expiring.as_millis() as i64));
            let end_at = caller.expires_at.plus_ms(timings.grace.as_millis() as i64);
            next = next.min(until(if warned { end_at } else { warn_at }));
        }
        if let Some(told) = self.drain_told {
            // Behind the pause the last answer wakes the connection, and only the deadline is left to wait for.
            let paused = Instant::now() < told + DRAIN_PAUSE;
            let deadline = self.feed.drain_deadline().unwrap_or(told);
            next = next.min(if paused { (told + DRAIN_PAUSE).min(deadline) } else { deadline });
        }
        next.max(Instant::now() + Duration::from_millis(1))
    }

    /// Does what is due by the clock.
    async fn ring(&mut self, socket: &mut WebSocket) -> Result<(), End> {
        let timings = *self.feed.timings();
        let now = Instant::now();
        if !self.greeted {
            return if now >= self.born + timings.hello {
                Err(Close::BadFrame("hello must be first").into())
            } else {
                Ok(())
            };
        }
        if now >= self.born + timings.life {
            return Err(Close::Moved.into());
        }
        if let Some(caller) = &self.caller {
            let left_ms = caller.expires_at.0 - self.feed.node().now().0;
            if left_ms <= -(timings.grace.as_millis() as i64) {
                return Err(Close::TokenExpired.into());
            }
            if left_ms <= timings.expiring.as_millis() as i64 && self.expiring_told != Some(caller.expires_at) {
                self.expiring_told = Some(caller.expires_at);
                self.out.push(push("expiring", &json!({ "in_ms": left_ms.max(0) })));
            }
        }
        if now >= self.ping_at {
            if self.pings_missed >= 2 {
                return Err(Close::NoPong.into());
            }
            self.pings_missed += 1;
            self.ping_at = now + timings.ping;
            let ping = tokio::time::timeout(timings.write, socket.send(Message::Ping(bytes::Bytes::new()))).await;
            ping.map_err(|_| End::Close(Close::Slow))?.map_err(|_| End::Gone)?;
        }
        if now >= self.heartbeat_at {
            self.heartbeat_at = now + self.heartbeat_every();
            // Everything up to the places it names is on its way before it.
            if !self.collect() {
                self.heartbeat();
            }
        }
        Ok(())
    }

    fn heartbeat(&mut self) {
        #[derive(Serialize)]
        struct Place {
            lot: IdText,
            seq: u64,
        }
        let place = |cursor: &Cursor| Place { lot: IdText(cursor.lot.0), seq: cursor.seq() };
        let lots: Vec<Place> = self.cursors.values().map(place).collect();
        let now = TimeText(self.feed.node().now());
        self.out.push(push("hb", &json!({ "lots": lots, "now": now })));
    }

    /// Tells that the service stops; ends the connection when nothing is unanswered any more.
    fn tell_drain(&mut self) -> Result<(), End> {
        let Some(deadline) = self.feed.drain_deadline() else { return Ok(()) };
        let now = Instant::now();
        match self.drain_told {
            None => {
                self.drain_told = Some(now);
                // Spread by the connection's number, so that not all come back in the same instant.
                let reconnect_in_ms = self.lane.number * 37 % 1_000;
                let deadline_ms = deadline.saturating_duration_since(now).as_millis() as u64;
                self.out.push(push(
                    "drain",
                    &json!({ "reconnect_in_ms": reconnect_in_ms, "deadline_ms": deadline_ms }),
                ));
            }
            Some(told) if now >= deadline || (now >= told + DRAIN_PAUSE && self.in_flight == 0) => {
                return Err(Close::Drain.into());
            }
            Some(_) => {}
        }
        Ok(())
    }
}

/// How long a node that is behind another one tries to catch up before it says so.
const BEHIND_AFTER: Duration = Duration::from_secs(1);
/// How often it looks whether it has.
const BEHIND_LOOK: Duration = Duration::from_millis(10);
/// Between the push `drain` and the close, for answers that are under way.
const DRAIN_PAUSE: Duration = Duration::from_millis(250);

/// A limit as it is told; `null` is none.
fn count(limit: usize) -> Option<usize> {
    (limit != usize::MAX).then_some(limit)
}

fn broken(error: &axum::Error) -> End {
    use std::error::Error as _;
    let text = error.source().map_or_else(|| error.to_string(), ToString::to_string);
    // The library tells sizes and broken frames apart by text only; a lost connection is no frame at all.
    if text.contains("Space limit exceeded") || text.contains("too long") || text.contains("too big") {
        return Close::BadFrame("the frame is too large").into();
    }
    if text.contains("protocol error") || text.contains("UTF-8") {
        return Close::BadFrame("the frame breaks the protocol").into();
    }
    End::Gone
}

/// What was recorded under a `cid`, once everything that was on its way is decided.
async fn look_up(
    feed: &Feed,
    lot: LotId,
    viewer: Option<Viewer>,
    scoped: u128,
    cid: &str,
) -> Result<Value, Failure> {
    let view =
        feed.node().settle().await.map_err(|_| {
            Failure::new("behind", Retry::Later, "The node has not caught up with what it answered.")
        })?;
    let visible = view.lot(lot, |tender, lot, _| Cursor::sees(tender, lot, viewer));
    if visible != Some(true) {
        return Err(Failure::refusal(engine::Refusal::LotNotFound));
    }
    Ok(recorded(view.recorded(lot.tender(), scoped).as_ref(), cid))
}
