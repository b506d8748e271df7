//! The accept loop: who may connect, how long a connection may be silent, slow or idle, and how all of them end.
//! Knows HTTP/1.1 and nothing of what is served.

use std::collections::HashMap;
use std::fs::File;
use std::future::Future;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, ready};
use std::time::{Duration, Instant};

use axum::Router;
use axum::body::Body;
use axum::http::HeaderValue;
use hyper::body::Incoming;
use hyper::rt::{Sleep, Timer};
use hyper::server::conn::http1;
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinSet;
use tower::ServiceExt;

/// How often refused connections are told.
const TELL_EVERY: Duration = Duration::from_secs(5);
/// How long nothing is accepted when nothing can be.
const PAUSE: Duration = Duration::from_millis(50);
/// Largest head of a request, in bytes.
const HEAD_MAX: usize = 64 << 10;

/// The address of the other end of a connection, in the extensions of its requests.
#[derive(Clone, Copy, Debug)]
pub struct Peer(pub SocketAddr);

/// What a connection may do.
#[derive(Clone, Debug)]
pub struct Limits {
    /// From the first moment, or from the first byte of a later request, to the end of its head.
    pub head: Duration,
    /// Silence between two requests.
    pub idle: Duration,
    /// A write that the other end does not take.
    pub write: Duration,
    /// Connections from one address; `None` lifts the limit.
    pub per_address: Option<usize>,
    /// Addresses that stand for many clients: trusted proxies. They are not counted by address.
    pub proxies: Arc<[IpAddr]>,
    /// All connections.
    pub connections: usize,
    /// How long requests may take to end once the server stops.
    pub drain: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            head: Duration::from_secs(5),
            idle: Duration::from_secs(60),
            write: Duration::from_secs(30),
            per_address: Some(256),
            proxies: Arc::default(),
            connections: 16_384,
            drain: Duration::from_secs(10),
        }
    }
}

/// Serves `router` to everybody who connects, until `stop` is true; then takes no more connections, lets requests end
/// for at most [`Limits::drain`], and returns.
pub async fn run(listener: TcpListener, router: Router, limits: Limits, mut stop: watch::Receiver<bool>) {
    let doors = Arc::new(Doors::default());
    let mut connections = JoinSet::new();
    let mut refusal = Refusal::new();
    loop {
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            Some(_) = connections.join_next(), if !connections.is_empty() => continue,
            () = stopped(&mut stop) => break,
        };
        let (stream, peer) = match accepted {
            Ok(accepted) => accepted,
            Err(error) => {
                refusal.refuse(&listener, &error).await;
                continue;
            }
        };
        let Some(place) = Doors::enter(&doors, peer.ip(), &limits) else {
            metrics::counter!("rt_http_connections_refused_total").increment(1);
            continue;
        };
        if let Err(error) = stream.set_nodelay(true) {
            tracing::debug!(%error, "A connection ended before it began");
            continue;
        }
        connections.spawn(connection(stream, peer, place, router.clone(), limits.clone(), stop.clone()));
    }
    drop(listener);
    let ended = async { while connections.join_next().await.is_some() {} };
    if tokio::time::timeout(limits.drain, ended).await.is_err() {
        tracing::warn!(open = connections.len(), "Requests did not end in time; their connections are cut");
        connections.shutdown().await;
    }
}

async fn connection(
    stream: TcpStream,
    peer: SocketAddr,
    place: Place,
    router: Router,
    limits: Limits,
    mut stop: watch::Receiver<bool>,
) {
    let pace = Arc::new(Pace::new(limits.clone()));
    let stream = Guarded { stream, pace: Arc::clone(&pace), stalled: None, _place: place };
    let service = {
        let pace = Arc::clone(&pace);
        hyper::service::service_fn(move |mut request: hyper::Request<Incoming>| {
            request.extensions_mut().insert(Peer(peer));
            let answer = router.clone().oneshot(request.map(Body::new));
            let pace = Arc::clone(&pace);
            async move {
                let answer = answer.await;
                pace.answered();
                answer
            }
        })
    };
    let served = http1::Builder::new()
        .timer(HeadTimer { pace })
        .header_read_timeout(limits.head)
        .max_buf_size(HEAD_MAX)
        .serve_connection(TokioIo::new(stream), service)
        .with_upgrades();
    let mut served = std::pin::pin!(served);
    let result = tokio::select! {
        result = served.as_mut() => result,
        () = stopped(&mut stop) => {
            served.as_mut().graceful_shutdown();
            served.await
        }
    };
    if let Err(error) = result {
        // Time-outs, resets and things that are no HTTP: the other end's doing, and of no use in a log.
        tracing::debug!(%error, "A connection ended badly");
    }
}

/// Waits until the server is to stop, or nobody is left who could say so.
async fn stopped(stop: &mut watch::Receiver<bool>) {
    while !*stop.borrow_and_update() {
        if stop.changed().await.is_err() {
            return;
        }
    }
}

/// How a connection is refused that can't be accepted because too many files are open: whoever connects is to learn it at
/// once, and not to wait for nothing.
#[derive(Debug)]
struct Refusal {
    /// A descriptor that is kept for this.
    spare: Option<File>,
    told_at: Option<Instant>,
    /// Refused since that was told.
    untold: u64,
}

impl Refusal {
    fn new() -> Self {
        Self { spare: File::open("/dev/null").ok(), told_at: None, untold: 0 }
    }

    async fn refuse(&mut self, listener: &TcpListener, error: &io::Error) {
        // With the descriptor that this gives back the connection is accepted, and ended.
        self.spare = None;
        let accepted = tokio::time::timeout(PAUSE, listener.accept()).await.is_ok_and(|accepted| accepted.is_ok());
        self.spare = File::open("/dev/null").ok();
        self.untold += 1;
        metrics::counter!("rt_http_connections_refused_total").increment(1);
        if self.told_at.is_none_or(|told_at| told_at.elapsed() >= TELL_EVERY) {
            tracing::warn!(
                "{} connections refused: {error}. Raise the limit of open files (LimitNOFILE, ulimit -n), or end what holds them",
                self.untold
            );
            (self.told_at, self.untold) = (Some(Instant::now()), 0);
        }
        if !accepted {
            // Somebody else took it. Those that end give some back.
            tokio::time::sleep(PAUSE).await;
        }
    }
}

/// Who is connected.
#[derive(Debug, Default)]
struct Doors {
    all: AtomicUsize,
    by_address: Mutex<HashMap<IpAddr, usize>>,
}

impl Doors {
    fn enter(this: &Arc<Self>, address: IpAddr, limits: &Limits) -> Option<Place> {
        let address = canonical(address);
        // Made first, so that every way out gives back what was taken.
        let mut place = Place { doors: Arc::clone(this), address: None, admitted: false };
        if this.all.fetch_add(1, Ordering::Relaxed) >= limits.connections {
            return None;
        }
        if let Some(most) = limits.per_address.filter(|_| !limits.proxies.contains(&address)) {
            let mut counts = this.by_address.lock().unwrap_or_else(PoisonError::into_inner);
            let count = counts.entry(address).or_default();
            if *count >= most {
                return None;
            }
            *count += 1;
            place.address = Some(address);
        }
        place.admitted = true;
        metrics::gauge!("rt_http_connections").increment(1);
        Some(place)
    }
}

/// One connection's place, given back when it is dropped.
#[derive(Debug)]
struct Place {
    doors: Arc<Doors>,
    address: Option<IpAddr>,
    admitted: bool,
}

impl Drop for Place {
    fn drop(&mut self) {
        self.doors.all.fetch_sub(1, Ordering::Relaxed);
        if self.admitted {
            metrics::gauge!("rt_http_connections").decrement(1);
        }
        let Some(address) = self.address else { return };
        let mut counts = self.doors.by_address.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(count) = counts.get_mut(&address) {
            *count -= 1;
            if *count == 0 {
                counts.remove(&address);
            }
        }
    }
}

/// An IPv4 address that came in over IPv6 is the IPv4 address.
fn canonical(address: IpAddr) -> IpAddr {
    address.to_canonical()
}

/// The address a request came from: the peer's, unless the peer is a trusted proxy; then the last one that the
/// proxies did not add themselves.
pub fn client_address(peer: IpAddr, forwarded: Option<&HeaderValue>, trusted: &[IpAddr]) -> IpAddr {
    let mut address = canonical(peer);
    let hops = forwarded.and_then(|value| value.to_str().ok()).unwrap_or("");
    for hop in hops.rsplit(',') {
        if !trusted.contains(&address) {
            break;
        }
        match hop.trim().parse::<IpAddr>() {
            Ok(hop) => address = canonical(hop),
            Err(_) => break,
        }
    }
    address
}

/// Where a connection is between two requests, for its time limits. Times are milliseconds since it began.
#[derive(Debug)]
struct Pace {
    limits: Limits,
    began: Instant,
    /// No byte of the next request has come yet.
    waiting: AtomicBool,
    /// When the last answer was made, or the first byte of the request came that is being read; 0 at first.
    since_ms: AtomicU64,
    /// Whether there was an answer yet.
    answered: AtomicBool,
}

impl Pace {
    fn new(limits: Limits) -> Self {
        Self {
            limits,
            began: Instant::now(),
            waiting: AtomicBool::new(true),
            since_ms: AtomicU64::new(0),
            answered: AtomicBool::new(false),
        }
    }

    fn now_ms(&self) -> u64 {
        self.began.elapsed().as_millis() as u64
    }

    fn answered(&self) {
        self.since_ms.store(self.now_ms(), Ordering::Relaxed);
        self.answered.store(true, Ordering::Relaxed);
        self.waiting.store(true, Ordering::Relaxed);
    }

    fn read(&self) {
        if self.waiting.swap(false, Ordering::Relaxed) && self.answered.load(Ordering::Relaxed) {
            self.since_ms.store(self.now_ms(), Ordering::Relaxed);
        }
    }

    /// When the head that is waited for must be there.
    fn due(&self) -> Instant {
        let idle = self.waiting.load(Ordering::Relaxed) && self.answered.load(Ordering::Relaxed);
        let room = if idle { self.limits.idle } else { self.limits.head };
        self.began + Duration::from_millis(self.since_ms.load(Ordering::Relaxed)) + room
    }
}

/// The timer that hyper reads heads by: it tells an idle connection from a slow one, which hyper does not.
#[derive(Clone, Debug)]
struct HeadTimer {
    pace: Arc<Pace>,
}

impl Timer for HeadTimer {
    fn sleep(&self, duration: Duration) -> Pin<Box<dyn Sleep>> {
        self.sleep_until(Instant::now() + duration)
    }

    fn sleep_until(&self, deadline: Instant) -> Pin<Box<dyn Sleep>> {
        Box::pin(HeadSleep {
            pace: Arc::clone(&self.pace),
            inner: Box::pin(tokio::time::sleep_until(deadline.into())),
        })
    }

    fn reset(&self, sleep: &mut Pin<Box<dyn Sleep>>, deadline: Instant) {
        *sleep = self.sleep_until(deadline);
    }
}

struct HeadSleep {
    pace: Arc<Pace>,
    inner: Pin<Box<tokio::time::Sleep>>,
}

impl Future for HeadSleep {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<()> {
        loop {
            // What was an idle connection may have become a slow one since the last look, and the other way round.
            let due = self.pace.due();
            if self.inner.deadline() != due.into() {
                self.inner.as_mut().reset(due.into());
            }
            ready!(self.inner.as_mut().poll(context));
            if self.pace.due() == due {
                return Poll::Ready(());
            }
        }
    }
}

impl Sleep for HeadSleep {}

/// The stream of a connection, which keeps its place, its pace, and ends a write that nobody takes. It lives as long
/// as the socket does, also when that becomes a feed.
struct Guarded {
    stream: TcpStream,
    pace: Arc<Pace>,
    stalled: Option<Pin<Box<tokio::time::Sleep>>>,
    _place: Place,
}

impl Guarded {
    fn watched<R>(&mut self, context: &mut Context<'_>, poll: Poll<io::Result<R>>) -> Poll<io::Result<R>> {
        if poll.is_ready() {
            self.stalled = None;
            return poll;
        }
        let room = self.pace.limits.write;
        let sleep = self.stalled.get_or_insert_with(|| Box::pin(tokio::time::sleep(room)));
        match sleep.as_mut().poll(context) {
            Poll::Ready(()) => Poll::Ready(Err(io::ErrorKind::TimedOut.into())),
            Poll::Pending => Poll::Pending,
        }
    }
}

impl AsyncRead for Guarded {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buffer.filled().len();
        let poll = Pin::new(&mut self.stream).poll_read(context, buffer);
        if buffer.filled().len() > before {
            self.pace.read();
        }
        poll
    }
}

impl AsyncWrite for Guarded {
    fn poll_write(mut self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let poll = Pin::new(&mut self.stream).poll_write(context, bytes);
        self.watched(context, poll)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        parts: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let poll = Pin::new(&mut self.stream).poll_write_vectored(context, parts);
        self.watched(context, poll)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let poll = Pin::new(&mut self.stream).poll_flush(context);
        self.watched(context, poll)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let poll = Pin::new(&mut self.stream).poll_shutdown(context);
        self.watched(context, poll)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ip(text: &str) -> IpAddr {
        text.parse().expect("an address")
    }

    #[test]
    fn forwarded_addresses_count_only_behind_trusted_proxies() {
        let proxies = [ip("10.0.0.1"), ip("10.0.0.2")];
        let of = |peer, header: &'static str| {
            client_address(ip(peer), Some(&HeaderValue::from_static(header)), &proxies).to_string()
        };
        assert_eq!(of("203.0.113.9", "1.2.3.4"), "203.0.113.9", "a client that calls itself another");
        assert_eq!(of("10.0.0.1", "198.51.100.7"), "198.51.100.7");
        assert_eq!(of("10.0.0.1", "1.2.3.4, 198.51.100.7"), "198.51.100.7", "what the client wrote in front");
        assert_eq!(of("10.0.0.1", "1.2.3.4, 198.51.100.7, 10.0.0.2"), "198.51.100.7", "two proxies");
        assert_eq!(of("::ffff:10.0.0.1", "198.51.100.7"), "198.51.100.7", "IPv4 over IPv6");
        assert_eq!(of("10.0.0.1", "unknown"), "10.0.0.1");
        assert_eq!(client_address(ip("10.0.0.1"), None, &proxies), ip("10.0.0.1"));
    }

    #[test]
    fn doors_count_by_address_and_altogether() {
        let doors = Arc::new(Doors::default());
        let limits = Limits { per_address: Some(2), connections: 3, ..Limits::default() };
        let first = Doors::enter(&doors, ip("192.0.2.1"), &limits).expect("a place");
        let _second = Doors::enter(&doors, ip("192.0.2.1"), &limits).expect("a place");
        assert!(Doors::enter(&doors, ip("::ffff:192.0.2.1"), &limits).is_none(), "the same address");
        let _other = Doors::enter(&doors, ip("192.0.2.2"), &limits).expect("a place");
        assert!(Doors::enter(&doors, ip("192.0.2.3"), &limits).is_none(), "all places are taken");
        drop(first);
        assert!(Doors::enter(&doors, ip("192.0.2.1"), &limits).is_some());
        assert_eq!(doors.all.load(Ordering::Relaxed), 3 - 1);
        let proxies = Arc::from([ip("192.0.2.9")]);
        let limits = Limits { per_address: Some(1), proxies, ..Limits::default() };
        let _places = [0; 3].map(|_| Doors::enter(&doors, ip("192.0.2.9"), &limits).expect("many clients"));
    }
}
