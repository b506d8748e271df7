//! The threads that take what peers send: one listens, one reads for each connection.

use std::io::{self, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use rustls::{ServerConnection, StreamOwned};

use super::hello::Mismatch;
use super::{Arrival, FRAME_MAX, Frame, FrameKind, HANDSHAKE, Hello, SILENCE, Shared, wall_ms};

/// Most bytes of a hello.
pub(super) const HELLO_MAX: usize = 64 << 10;
/// Connections that may be in their handshake at once; one more is closed.
const HANDSHAKES_MAX: usize = 64;

type Stream = StreamOwned<ServerConnection, TcpStream>;

/// Listens until the links are dropped.
pub(super) fn run(shared: &Arc<Shared>, listener: &TcpListener) {
    let shaking = Arc::new(AtomicUsize::new(0));
    loop {
        let accepted = listener.accept();
        if shared.stopped() {
            return;
        }
        let stream = match accepted {
            Ok((stream, _)) => stream,
            Err(error) => {
                // Too many open files, mostly: it passes, and must not be asked for without a pause.
                tracing::warn!("A peer's connection can't be taken: {error}");
                std::thread::sleep(Duration::from_millis(100));
                continue;
            }
        };
        if shaking.fetch_add(1, Ordering::AcqRel) >= HANDSHAKES_MAX {
            shaking.fetch_sub(1, Ordering::AcqRel);
            continue;
        }
        let (shared, counter) = (Arc::clone(shared), Arc::clone(&shaking));
        let thread = std::thread::Builder::new().name("peer-in".into());
        let spawned = thread.spawn(move || {
            let shaken = accept(&shared, stream);
            counter.fetch_sub(1, Ordering::AcqRel);
            match shaken {
                Ok((stream, node)) => read_all(&shared, node, stream),
                // Anybody can dial; what they get wrong is of interest to who looks for it.
                Err(why) => tracing::debug!("A connection of a peer was refused: {why}"),
            }
        });
        if let Err(error) = spawned {
            shaking.fetch_sub(1, Ordering::AcqRel);
            tracing::warn!("A peer's connection can't be served: {error}");
        }
    }
}

/// Shakes hands; answers the connection and whose it is.
fn accept(shared: &Shared, stream: TcpStream) -> Result<(Stream, u16), String> {
    stream
        .set_nodelay(true)
        .and_then(|()| stream.set_read_timeout(Some(HANDSHAKE)))
        .and_then(|()| stream.set_write_timeout(Some(HANDSHAKE)))
        .map_err(|error| error.to_string())?;
    let tls = shared.tls.answer().map_err(|error| error.to_string())?;
    let mut stream = StreamOwned::new(tls, stream);
    let frame = Frame::read(&mut stream, HELLO_MAX).map_err(|error| error.to_string())?;
    if frame.kind != FrameKind::Hello {
        return Err("it did not say who it is".into());
    }
    let hello = read_hello(&frame.bytes)?;
    let answer = match check(&hello, shared, &stream) {
        Ok(()) => hello_frame(&shared.hello),
        Err(why) => {
            tracing::warn!("Node \"{}\" of site \"{}\" is refused: {why}", hello.name, hello.site);
            Frame { kind: FrameKind::Refusal, shard: 0, bytes: why.to_string().into_bytes() }
        }
    };
    answer.write(&mut stream).and_then(|()| stream.flush()).map_err(|error| error.to_string())?;
    if answer.kind == FrameKind::Refusal {
        return Err("it was told why".into());
    }
    stream.sock.set_read_timeout(Some(SILENCE)).map_err(|error| error.to_string())?;
    Ok((stream, hello.node))
}

fn check(hello: &Hello, shared: &Shared, stream: &Stream) -> Result<(), Mismatch> {
    hello.check(&shared.hello)?;
    let member = shared.links.get(&hello.node).map(|link| &link.member);
    if member.is_none_or(|member| member.name != hello.name) {
        return Err(Mismatch::Unknown { node: hello.node, name: hello.name.clone() });
    }
    let certificate = stream.conn.peer_certificates().and_then(<[_]>::first);
    if !shared.tls.is_of(certificate, &hello.name) {
        return Err(Mismatch::Certificate { name: hello.name.clone() });
    }
    Ok(())
}

/// Reads until the connection breaks, another takes its place, or the links are dropped.
fn read_all(shared: &Shared, node: u16, mut stream: Stream) {
    let link = &shared.links[&node];
    let number = shared.connections.fetch_add(1, Ordering::Relaxed);
    let Ok(handle) = stream.sock.try_clone() else { return };
    if let Some((_, older)) = link.state().receiving.replace((number, handle)) {
        older.shutdown(Shutdown::Both).ok();
    }
    // Between the look and the entry above the links may have been dropped.
    while !shared.stopped() {
        match Frame::read(&mut stream, FRAME_MAX) {
            Ok(frame) if frame.kind == FrameKind::Beat => {
                if !take_beat(shared, node, &frame.bytes) {
                    tracing::warn!("Node {} sent a beat that is none", link.member.name);
                    break;
                }
            }
            Ok(frame) if matches!(frame.kind, FrameKind::Hello | FrameKind::Refusal) => break,
            Ok(frame) => {
                if !shared.tell(Arrival::Frame { from: node, frame }) {
                    break;
                }
            }
            Err(error) => {
                if !shared.stopped() {
                    tracing::info!("Node {} is not heard any more: {error}", link.member.name);
                }
                break;
            }
        }
    }
    let mut state = link.state();
    if state.receiving.as_ref().is_some_and(|(current, _)| *current == number) {
        state.receiving = None;
    }
}

/// Takes a peer's clocks; the echo of our own gives the trip, and both what its wall clock is ahead.
fn take_beat(shared: &Shared, node: u16, bytes: &[u8]) -> bool {
    let Ok(bytes) = <[u8; 32]>::try_from(bytes) else { return false };
    let number = |place: usize| u64::from_le_bytes(bytes[8 * place..][..8].try_into().expect("eight bytes"));
    let (at, wall, echo, held) = (number(0), number(1) as i64, number(2), number(3));
    let now = Instant::now();
    let mut state = shared.links[&node].state();
    state.beat = Some((at, now));
    if echo != 0 {
        let trip = shared.mono_ns().saturating_sub(echo).saturating_sub(held);
        state.trip_ns = Some(trip);
        let there = wall.saturating_add((trip / 2_000_000) as i64);
        state.ahead_ms = Some(there.saturating_sub(wall_ms()));
    }
    true
}

/// A hello as a frame.
pub(super) fn hello_frame(hello: &Hello) -> Frame {
    let bytes = wincode::serialize(hello).expect("names and settings are small");
    Frame { kind: FrameKind::Hello, shard: 0, bytes }
}

/// The hello in a frame.
pub(super) fn read_hello(bytes: &[u8]) -> Result<Hello, String> {
    let protocol = bytes.get(..2).map(|bytes| u16::from_le_bytes([bytes[0], bytes[1]]));
    match protocol {
        Some(super::PROTOCOL) => wincode::deserialize_exact(bytes)
            .map_err(|error| io::Error::new(io::ErrorKind::InvalidData, error).to_string()),
        Some(theirs) => Err(Mismatch::Protocol { theirs }.to_string()),
        None => Err("its first frame is empty".into()),
    }
}
