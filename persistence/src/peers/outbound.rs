//! The thread that sends to one peer: dials, shakes hands, writes what is queued, and begins again when that fails.

use std::io::{self, BufWriter, Write};
use std::net::{TcpStream, ToSocketAddrs};
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use crossbeam::channel::{Receiver, RecvTimeoutError};
use rustls::{ClientConnection, StreamOwned};

use super::hello::Mismatch;
use super::{
    Arrival, BEAT, Frame, FrameKind, HANDSHAKE, Hello, Link, SILENCE, Shared, drop_all, inbound, wall_ms,
};

/// Pauses between two attempts grow from the first to the second.
const PAUSE_FIRST: Duration = Duration::from_millis(50);
const PAUSE_MOST: Duration = Duration::from_millis(500);
/// Most bytes that are put together for one write.
const WRITE: usize = 64 << 10;

type Stream = BufWriter<StreamOwned<ClientConnection, TcpStream>>;

/// Sends to a peer until the links are dropped.
pub(super) fn run(shared: &Shared, node: u16, frames: &Receiver<Frame>) {
    let link = &shared.links[&node];
    let mut pause = PAUSE_FIRST;
    while !shared.stopped() {
        match connect(shared, link) {
            Ok((stream, hello)) => {
                pause = PAUSE_FIRST;
                tracing::info!("Node {} at {} can be sent to", link.member.name, link.member.address);
                let mut state = link.state();
                (state.sending, state.trouble, state.hello) = (true, None, Some(hello.clone()));
                drop(state);
                if !shared.tell(Arrival::Connected { hello }) {
                    return;
                }
                let why = match write_all(shared, link, stream, frames) {
                    Ok(()) => return,
                    Err(error) => error.to_string(),
                };
                link.state().sending = false;
                drop_all(link, frames);
                trouble(link, format!("the link broke: {why}"));
                if !shared.tell(Arrival::Lost { node }) {
                    return;
                }
            }
            Err(why) => trouble(link, why),
        }
        // Nothing is queued while it can't be sent, so this is a pause; the queue closes when the links are dropped.
        let until = Instant::now() + pause;
        pause = (pause * 2).min(PAUSE_MOST);
        while let Ok(frame) = frames.recv_deadline(until) {
            link.queued_bytes.fetch_sub(frame.bytes.len(), Ordering::AcqRel);
        }
        if let Err(crossbeam::channel::TryRecvError::Disconnected) = frames.try_recv() {
            return;
        }
    }
}

/// Says once what is wrong with a link.
fn trouble(link: &Link, why: String) {
    let mut state = link.state();
    if state.trouble.as_ref() != Some(&why) {
        tracing::warn!("Node {} at {}: {why}", link.member.name, link.member.address);
        state.trouble = Some(why);
    }
}

fn connect(shared: &Shared, link: &Link) -> Result<(Stream, Hello), String> {
    let member = &link.member;
    let tls = shared.tls.dial(&member.name).map_err(|error| error.to_string())?;
    let addresses =
        member.address.to_socket_addrs().map_err(|error| format!("its address is not known: {error}"))?;
    let mut why = "its address is not known".to_owned();
    let mut connected = None;
    for address in addresses {
        match TcpStream::connect_timeout(&address, HANDSHAKE) {
            Ok(stream) => {
                connected = Some(stream);
                break;
            }
            Err(error) => why = format!("it can't be reached: {error}"),
        }
    }
    let stream = connected.ok_or(why)?;
    let prepared = stream
        .set_nodelay(true)
        .and_then(|()| stream.set_read_timeout(Some(HANDSHAKE)))
        .and_then(|()| stream.set_write_timeout(Some(SILENCE)))
        .and_then(|()| Ok(rustix::net::sockopt::set_tcp_user_timeout(&stream, SILENCE.as_millis() as u32)?));
    prepared.map_err(|error| format!("its connection can't be set up: {error}"))?;
    let mut stream = BufWriter::with_capacity(WRITE, StreamOwned::new(tls, stream));
    let failed = |error: io::Error| format!("the handshake failed: {error}");
    inbound::hello_frame(&shared.hello).write(&mut stream).and_then(|()| stream.flush()).map_err(failed)?;
    let answer = Frame::read(stream.get_mut(), inbound::HELLO_MAX).map_err(failed)?;
    match answer.kind {
        FrameKind::Hello => {
            let hello = inbound::read_hello(&answer.bytes)?;
            check(&hello, shared, link).map_err(|error| error.to_string())?;
            Ok((stream, hello))
        }
        FrameKind::Refusal => Err(format!("it refuses this node: {}", String::from_utf8_lossy(&answer.bytes))),
        _ => Err("it does not say who it is".into()),
    }
}

/// The certificate was checked by the handshake: it is of the member's name.
fn check(hello: &Hello, shared: &Shared, link: &Link) -> Result<(), Mismatch> {
    hello.check(&shared.hello)?;
    if (hello.node, &hello.name) != (link.member.node, &link.member.name) {
        return Err(Mismatch::Unknown { node: hello.node, name: hello.name.clone() });
    }
    Ok(())
}

/// Writes what is queued, and a beat when nothing is; ends when the links are dropped.
fn write_all(shared: &Shared, link: &Link, mut stream: Stream, frames: &Receiver<Frame>) -> io::Result<()> {
    let mut beat_at = Instant::now();
    loop {
        if Instant::now() >= beat_at {
            beat(shared, link).write(&mut stream)?;
            stream.flush()?;
            beat_at = Instant::now() + BEAT;
        }
        let mut next = match frames.recv_deadline(beat_at) {
            Ok(frame) => Some(frame),
            Err(RecvTimeoutError::Timeout) => continue,
            Err(RecvTimeoutError::Disconnected) => return Ok(()),
        };
        // What came in the meantime travels in the same write.
        while let Some(frame) = next {
            link.queued_bytes.fetch_sub(frame.bytes.len(), Ordering::AcqRel);
            frame.write(&mut stream)?;
            next = frames.try_recv().ok();
        }
        stream.flush()?;
    }
}

/// What our clocks say, and how long ago the peer's last beat came with what its clock said.
fn beat(shared: &Shared, link: &Link) -> Frame {
    let (echo, held) = match link.state().beat {
        Some((echo, seen)) => (echo, seen.elapsed().as_nanos() as u64),
        None => (0, 0),
    };
    let numbers = [shared.mono_ns(), wall_ms() as u64, echo, held];
    let bytes = numbers.iter().flat_map(|number| number.to_le_bytes()).collect();
    Frame { kind: FrameKind::Beat, shard: 0, bytes }
}
