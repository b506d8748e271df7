//! What the machine allows: a raw write and flush, and a trip over loopback. The floors that ours is compared with.

use std::fs::{File, OpenOptions};
use std::io::{self, Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::os::unix::fs::FileExt as _;
use std::path::Path;
use std::thread;
use std::time::Instant;

/// Size of the file that is written to: as large as a segment of the log.
const FILE_BYTES: u64 = 64 << 20;

/// A zero-filled file that is written to and flushed, front to back.
pub struct RawLog {
    file: File,
    offset: u64,
}

impl RawLog {
    /// Makes the file at `path`, its zeros on the disk.
    pub fn create(path: &Path) -> io::Result<Self> {
        let file = OpenOptions::new().read(true).write(true).create_new(true).open(path)?;
        let zeros = vec![0u8; 1 << 20];
        for offset in (0..FILE_BYTES).step_by(zeros.len()) {
            file.write_all_at(&zeros, offset)?;
        }
        file.sync_all()?;
        Ok(Self { file, offset: 0 })
    }

    /// Writes `bytes` behind the last ones and makes them durable; the nanoseconds it took.
    pub fn append(&mut self, bytes: &[u8]) -> io::Result<u64> {
        if self.offset + bytes.len() as u64 > FILE_BYTES {
            self.offset = 0;
        }
        let started = Instant::now();
        self.file.write_all_at(bytes, self.offset)?;
        self.file.sync_data()?;
        let ns = started.elapsed().as_nanos() as u64;
        self.offset += (bytes.len() as u64).next_multiple_of(8);
        Ok(ns)
    }
}

/// A connection over loopback to a thread that answers each request as soon as it has read it.
pub struct Trip {
    stream: TcpStream,
    request: Vec<u8>,
    answer: Vec<u8>,
}

impl Trip {
    /// Opens the connection, for requests and answers of these many bytes.
    pub fn open(request: usize, answer: usize) -> io::Result<Self> {
        let listener = TcpListener::bind("127.0.0.1:0")?;
        let stream = TcpStream::connect(listener.local_addr()?)?;
        let (mut peer, _) = listener.accept()?;
        for end in [&stream, &peer] {
            end.set_nodelay(true)?;
        }
        // Ends by itself when the other end is dropped.
        thread::spawn(move || {
            let (mut read, answer) = (vec![0u8; request], vec![7u8; answer]);
            while peer.read_exact(&mut read).is_ok() && peer.write_all(&answer).is_ok() {}
        });
        Ok(Self { stream, request: vec![1; request], answer: vec![0; answer] })
    }

    /// One request and its answer; the nanoseconds it took.
    pub fn measure(&mut self) -> io::Result<u64> {
        let started = Instant::now();
        self.stream.write_all(&self.request)?;
        self.stream.read_exact(&mut self.answer)?;
        Ok(started.elapsed().as_nanos() as u64)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_appended_is_in_the_file() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("raw");
        let mut raw = RawLog::create(&path).expect("the file is made");
        raw.append(b"first").expect("it is written");
        raw.append(b"second").expect("it is written");
        let mut head = [0u8; 14];
        raw.file.read_exact_at(&mut head, 0).expect("it is read");
        assert_eq!(&head, b"first\0\0\0second");
        assert_eq!(raw.file.metadata().expect("it has a size").len(), FILE_BYTES, "it never grows");
    }

    #[test]
    fn a_trip_goes_there_and_back() {
        let mut trip = Trip::open(140, 180).expect("loopback works");
        assert!(trip.measure().expect("it is answered") > 0);
        assert!(trip.answer.iter().all(|byte| *byte == 7));
    }
}
