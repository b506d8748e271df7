//! A piece of network on one machine: a TCP relay that can be slow, silent, or torn, in either direction.
//!
//! Owns its listener and relays bytes without looking at them. What is slow is late and never out of order; what is silent is
//! kept, as a network keeps it that drops packets which TCP sends again.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{mpsc, watch};
use tokio::task::AbortHandle;
use tokio::time::Instant;

/// Most bytes that are read at once.
const CHUNK: usize = 64 << 10;
/// Chunks that may be under way in one direction of a connection.
const UNDER_WAY: usize = 1_024;

/// Which way bytes go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Way {
    /// From who dialled to who was dialled.
    Forth,
    /// The other.
    Back,
}

#[derive(Default)]
struct Lane {
    delay_us: AtomicU64,
    silent: AtomicBool,
}

struct State {
    lanes: [Lane; 2],
    /// Counts changes, to wake who waits for one.
    changes: watch::Sender<u64>,
    /// Counts the times everything was torn.
    tears: watch::Sender<u64>,
}

impl State {
    fn lane(&self, way: Way) -> &Lane {
        &self.lanes[usize::from(way == Way::Back)]
    }
}

/// A relay to one address. Dropped, it is gone with all its connections.
pub struct Wire {
    address: SocketAddr,
    state: Arc<State>,
    listening: AbortHandle,
}

impl std::fmt::Debug for Wire {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Wire").field("address", &self.address).finish_non_exhaustive()
    }
}

impl Wire {
    /// Lays a wire from a free loopback port to `to`.
    ///
    /// # Errors
    /// What the system says when no port is free.
    pub async fn lay(to: SocketAddr) -> io::Result<Self> {
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let address = listener.local_addr()?;
        let state = Arc::new(State {
            lanes: Default::default(),
            changes: watch::Sender::new(0),
            tears: watch::Sender::new(0),
        });
        let shared = Arc::clone(&state);
        let listening = tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let state = Arc::clone(&shared);
                let mut torn = state.tears.subscribe();
                tokio::spawn(async move {
                    tokio::select! {
                        // Whoever relayed finds out by the end of its connection.
                        _ = torn.changed() => {}
                        _ = relay(stream, to, &state) => {}
                    }
                });
            }
        });
        Ok(Self { address, state, listening: listening.abort_handle() })
    }

    /// Where to dial.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// From now on, what goes this way takes so long.
    pub fn delay(&self, way: Way, delay: Duration) {
        self.state.lane(way).delay_us.store(delay.as_micros() as u64, Ordering::Release);
        self.change();
    }

    /// From now on, nothing that goes this way arrives; or everything does, and what was held up first.
    pub fn silence(&self, way: Way, silent: bool) {
        self.state.lane(way).silent.store(silent, Ordering::Release);
        self.change();
    }

    /// Cuts all connections; what was under way is lost.
    pub fn tear(&self) {
        self.state.tears.send_modify(|tears| *tears += 1);
    }

    fn change(&self) {
        self.state.changes.send_modify(|changes| *changes += 1);
    }
}

impl Drop for Wire {
    fn drop(&mut self) {
        self.listening.abort();
        self.tear();
    }
}

async fn relay(stream: TcpStream, to: SocketAddr, state: &Arc<State>) -> io::Result<()> {
    // A connection is made by packets in both directions.
    pass(state, Way::Forth).await;
    pass(state, Way::Back).await;
    let other = TcpStream::connect(to).await?;
    stream.set_nodelay(true)?;
    other.set_nodelay(true)?;
    let (near_read, near_write) = stream.into_split();
    let (far_read, far_write) = other.into_split();
    let forth = lane(near_read, far_write, state, Way::Forth);
    let back = lane(far_read, near_write, state, Way::Back);
    tokio::try_join!(forth, back).map(|_| ())
}

async fn lane(mut from: OwnedReadHalf, mut to: OwnedWriteHalf, state: &Arc<State>, way: Way) -> io::Result<()> {
    let (send, mut under_way) = mpsc::channel::<(Instant, Vec<u8>)>(UNDER_WAY);
    let take = async {
        loop {
            let mut chunk = vec![0; CHUNK];
            let read = from.read(&mut chunk).await?;
            chunk.truncate(read);
            let sent = send.send((Instant::now(), chunk)).await;
            if read == 0 || sent.is_err() {
                return io::Result::Ok(());
            }
        }
    };
    let give = async {
        while let Some((at, chunk)) = under_way.recv().await {
            let delay = state.lane(way).delay_us.load(Ordering::Acquire);
            tokio::time::sleep_until(at + Duration::from_micros(delay)).await;
            pass(state, way).await;
            if chunk.is_empty() {
                return to.shutdown().await;
            }
            to.write_all(&chunk).await?;
        }
        Ok(())
    };
    tokio::try_join!(take, give).map(|_| ())
}

/// Waits while nothing arrives this way.
async fn pass(state: &State, way: Way) {
    let mut changes = state.changes.subscribe();
    while state.lane(way).silent.load(Ordering::Acquire) {
        if changes.changed().await.is_err() {
            return;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn echo() -> SocketAddr {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port is free");
        let address = listener.local_addr().expect("bound");
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                tokio::spawn(async move {
                    let (mut read, mut write) = stream.into_split();
                    tokio::io::copy(&mut read, &mut write).await.ok();
                });
            }
        });
        address
    }

    async fn says(stream: &mut TcpStream, word: &[u8; 4]) -> bool {
        stream.write_all(word).await.expect("open");
        heard(stream, word).await
    }

    async fn heard(stream: &mut TcpStream, word: &[u8; 4]) -> bool {
        let mut answer = [0; 4];
        let read = tokio::time::timeout(Duration::from_millis(300), stream.read_exact(&mut answer)).await;
        read.is_ok_and(|read| read.is_ok()) && &answer == word
    }

    #[tokio::test]
    async fn it_relays_and_is_silent_slow_and_torn_when_told() {
        let wire = Wire::lay(echo().await).await.expect("laid");
        let mut stream = TcpStream::connect(wire.address()).await.expect("it listens");
        assert!(says(&mut stream, b"here").await);
        for way in [Way::Forth, Way::Back] {
            wire.silence(way, true);
            assert!(!says(&mut stream, b"hush").await);
            wire.silence(way, false);
            assert!(heard(&mut stream, b"hush").await, "what was held up comes");
        }
        wire.delay(Way::Forth, Duration::from_millis(60));
        wire.delay(Way::Back, Duration::from_millis(60));
        let began = Instant::now();
        assert!(says(&mut stream, b"slow").await && began.elapsed() >= Duration::from_millis(120));
        wire.tear();
        let mut rest = Vec::new();
        let ended = tokio::time::timeout(Duration::from_secs(10), stream.read_to_end(&mut rest)).await;
        assert!(ended.is_ok() && rest.is_empty(), "the connection ended");
        let mut again = TcpStream::connect(wire.address()).await.expect("it still listens");
        assert!(says(&mut again, b"anew").await);
        let address = wire.address();
        drop(wire);
        let gone = async {
            while TcpStream::connect(address).await.is_ok() {
                tokio::task::yield_now().await
            }
        };
        tokio::time::timeout(Duration::from_secs(10), gone).await.expect("nobody listens any more");
    }
}
