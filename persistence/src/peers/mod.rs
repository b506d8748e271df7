//! The links between the nodes of a cluster: frames over TCP under mutual TLS, one connection for each direction.
//!
//! Owns certificates, handshakes, queues and reconnecting. Never looks into a frame, never keeps one for later: what
//! can't be sent now is dropped and counted, and whoever sent it sends again in its own time.
//!
//! Each node dials every other and only sends on what it dialled, so a link that works in one direction alone is seen as
//! just that. Every thread blocks on one thing: a queue, or a socket.

mod authority;
mod error;
mod frame;
mod hello;
mod inbound;
mod outbound;
mod tls;

use std::collections::BTreeMap;
use std::net::{SocketAddr, TcpListener};
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use crossbeam::channel::{Receiver, Sender, TrySendError, bounded};

pub use self::authority::{Authority, PEER_FOLDER, cluster_of, is_node_name, secret_of};
pub use self::error::PeersError;
pub use self::frame::{FRAME_MAX, Frame, FrameKind};
pub use self::hello::{Hello, Mismatch, PROTOCOL};
use self::tls::Tls;

/// Frames that may wait for one peer.
const QUEUE: usize = 4_096;
/// Bytes that may wait for one peer; one more frame is dropped. A frame that is larger travels when nothing waits.
const QUEUE_BYTES: usize = 64 << 20;
/// How often a peer hears of us at least.
const BEAT: Duration = Duration::from_millis(500);
/// A peer that is silent for so long is lost.
const SILENCE: Duration = Duration::from_secs(5);
/// How long a connection and its handshake may take.
const HANDSHAKE: Duration = Duration::from_secs(3);

/// One other node of the cluster.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Member {
    /// Its name, a DNS label: what its certificate says.
    pub name: String,
    /// Its number.
    pub node: u16,
    /// Where it listens for peers: host and port.
    pub address: String,
}

/// What links are made of.
#[derive(Clone, Debug)]
pub struct PeerOptions {
    /// What this node says of itself.
    pub hello: Hello,
    /// Where it listens.
    pub listen: SocketAddr,
    /// The others.
    pub members: Vec<Member>,
    /// The folder with its certificate: see [`Authority::issue`].
    pub folder: PathBuf,
}

/// What arrived, in the order of its link.
#[derive(Debug)]
pub enum Arrival {
    /// A frame.
    Frame {
        /// The node that sent it.
        from: u16,
        /// The frame.
        frame: Frame,
    },
    /// A link to a node works: it said who it is.
    Connected {
        /// What it said.
        hello: Hello,
    },
    /// A link to a node broke; what was sent lately may be lost.
    Lost {
        /// The node.
        node: u16,
    },
}

/// How a peer is doing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PeerStatus {
    /// The peer.
    pub member: Member,
    /// What it said last, if it ever did.
    pub hello: Option<Hello>,
    /// Whether we can send to it.
    pub sending: bool,
    /// Whether it can send to us.
    pub receiving: bool,
    /// Time a frame takes to it and back, in nanoseconds, when it was measured last.
    pub trip_ns: Option<u64>,
    /// How far its wall clock is ahead of ours, in milliseconds, when it was measured last.
    pub ahead_ms: Option<i64>,
    /// Frames that were dropped because the peer was away or slow.
    pub dropped: u64,
    /// Why it can't be reached, if it can't.
    pub trouble: Option<String>,
}

/// What the threads of one peer share.
struct Link {
    member: Member,
    queued_bytes: AtomicUsize,
    dropped: AtomicU64,
    state: Mutex<LinkState>,
}

#[derive(Default)]
struct LinkState {
    hello: Option<Hello>,
    sending: bool,
    /// The connection it sends on: its number, and a handle to shut it down when another takes its place.
    receiving: Option<(u64, std::net::TcpStream)>,
    trip_ns: Option<u64>,
    ahead_ms: Option<i64>,
    /// Its last beat, to be echoed: what its monotonic clock said, and when ours saw it.
    beat: Option<(u64, Instant)>,
    trouble: Option<String>,
}

impl Link {
    fn state(&self) -> MutexGuard<'_, LinkState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What all threads share.
struct Shared {
    hello: Hello,
    tls: Tls,
    links: BTreeMap<u16, Link>,
    arrived: Sender<Arrival>,
    wake: Box<dyn Fn() + Send + Sync>,
    origin: Instant,
    stop: AtomicBool,
    connections: AtomicU64,
}

impl Shared {
    fn stopped(&self) -> bool {
        self.stop.load(Ordering::Acquire)
    }

    /// Hands on what arrived; waits while the reader is behind, so that the peer does as well. False when nobody reads.
    fn tell(&self, arrival: Arrival) -> bool {
        let told = self.arrived.send(arrival).is_ok();
        (self.wake)();
        told
    }

    fn mono_ns(&self) -> u64 {
        self.origin.elapsed().as_nanos() as u64
    }
}

/// The links of one node. Dropped, they are closed.
pub struct Peers {
    shared: Arc<Shared>,
    queues: BTreeMap<u16, Sender<Frame>>,
    listen: SocketAddr,
    threads: Vec<JoinHandle<()>>,
}

impl std::fmt::Debug for Peers {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Peers").field("listen", &self.listen).finish_non_exhaustive()
    }
}

impl Peers {
    /// Listens, and dials every member until the links work. What arrives goes into `arrived`; `wake` is called behind
    /// each arrival.
    ///
    /// # Errors
    /// [`PeersError`] when certificates are missing or wrong, the address is taken, or a thread can't be started.
    pub fn start(
        options: PeerOptions,
        arrived: Sender<Arrival>,
        wake: impl Fn() + Send + Sync + 'static,
    ) -> Result<Self, PeersError> {
        let PeerOptions { hello, listen, members, folder } = options;
        let tls = Tls::open(folder, &hello)?;
        let listener = TcpListener::bind(listen).map_err(|error| PeersError::Listen { address: listen, error })?;
        let listen = listener.local_addr().map_err(|error| PeersError::Listen { address: listen, error })?;
        let mut links = BTreeMap::new();
        for member in members {
            let (node, name) = (member.node, member.name.clone());
            let link = Link {
                member,
                queued_bytes: AtomicUsize::new(0),
                dropped: AtomicU64::new(0),
                state: Mutex::default(),
            };
            if node == hello.node || links.insert(node, link).is_some() {
                return Err(PeersError::Twice { name });
            }
        }
        let shared = Arc::new(Shared {
            hello,
            tls,
            links,
            arrived,
            wake: Box::new(wake),
            origin: Instant::now(),
            stop: AtomicBool::new(false),
            connections: AtomicU64::new(0),
        });
        let mut peers = Self { shared, queues: BTreeMap::new(), listen, threads: Vec::new() };
        for &node in peers.shared.links.keys() {
            let (queue, frames) = bounded(QUEUE);
            peers.queues.insert(node, queue);
            let shared = Arc::clone(&peers.shared);
            let run: Box<dyn FnOnce() + Send> = Box::new(move || outbound::run(&shared, node, &frames));
            peers.threads.push(spawn(format!("peer-{node}"), run)?);
        }
        let shared = Arc::clone(&peers.shared);
        peers.threads.push(spawn("peers".into(), Box::new(move || inbound::run(&shared, &listener)))?);
        Ok(peers)
    }

    /// Where it listens.
    pub fn listen(&self) -> SocketAddr {
        self.listen
    }

    /// Queues a frame for a node. False, and the frame is gone, when the node is away, its queue is full, or it is no
    /// member. Never waits.
    pub fn send(&self, node: u16, frame: Frame) -> bool {
        let (Some(link), Some(queue)) = (self.shared.links.get(&node), self.queues.get(&node)) else {
            return false;
        };
        let bytes = frame.bytes.len();
        let waiting = link.queued_bytes.fetch_add(bytes, Ordering::AcqRel);
        let sent = link.state().sending
            && (waiting == 0 || waiting + bytes <= QUEUE_BYTES)
            && match queue.try_send(frame) {
                Ok(()) => true,
                Err(TrySendError::Full(_) | TrySendError::Disconnected(_)) => false,
            };
        if !sent {
            link.queued_bytes.fetch_sub(bytes, Ordering::AcqRel);
            link.dropped.fetch_add(1, Ordering::Relaxed);
        }
        sent
    }

    /// How all peers are doing, by number.
    pub fn status(&self) -> Vec<PeerStatus> {
        let status = |link: &Link| {
            let state = link.state();
            PeerStatus {
                member: link.member.clone(),
                hello: state.hello.clone(),
                sending: state.sending,
                receiving: state.receiving.is_some(),
                trip_ns: state.trip_ns,
                ahead_ms: state.ahead_ms,
                dropped: link.dropped.load(Ordering::Relaxed),
                trouble: state.trouble.clone(),
            }
        };
        self.shared.links.values().map(status).collect()
    }
}

impl Drop for Peers {
    fn drop(&mut self) {
        self.shared.stop.store(true, Ordering::Release);
        self.queues.clear();
        for link in self.shared.links.values() {
            if let Some((_, stream)) = link.state().receiving.take() {
                // It may be closed already.
                stream.shutdown(std::net::Shutdown::Both).ok();
            }
        }
        // The listener waits in `accept` and looks at the flag behind it.
        std::net::TcpStream::connect_timeout(&reachable(self.listen), HANDSHAKE).ok();
        for thread in self.threads.drain(..) {
            if thread.join().is_err() {
                tracing::error!("A thread of the links panicked");
            }
        }
    }
}

/// Where a listener is reached from its own machine.
fn reachable(mut listen: SocketAddr) -> SocketAddr {
    if listen.ip().is_unspecified() {
        listen.set_ip(match listen {
            SocketAddr::V4(_) => std::net::Ipv4Addr::LOCALHOST.into(),
            SocketAddr::V6(_) => std::net::Ipv6Addr::LOCALHOST.into(),
        });
    }
    listen
}

fn spawn(name: String, run: Box<dyn FnOnce() + Send>) -> Result<JoinHandle<()>, PeersError> {
    std::thread::Builder::new().name(name).spawn(run).map_err(PeersError::Thread)
}

/// What the wall clock says, in milliseconds since 1970; compared between nodes, stamps nothing.
fn wall_ms() -> i64 {
    match SystemTime::now().duration_since(UNIX_EPOCH) {
        Ok(since) => since.as_millis() as i64,
        Err(before) => -(before.duration().as_millis() as i64),
    }
}

/// Takes what waits for a peer that is away.
fn drop_all(link: &Link, frames: &Receiver<Frame>) {
    while let Ok(frame) = frames.try_recv() {
        link.queued_bytes.fetch_sub(frame.bytes.len(), Ordering::AcqRel);
        link.dropped.fetch_add(1, Ordering::Relaxed);
    }
}
