//! Frames: length, kind, shard, bytes. What the bytes mean is known to who sends and to who takes them.
//!
//! Little-endian: length of the bytes (u32), kind (u8), zero (u8), shard (u16), bytes. TLS authenticates every byte, so a
//! frame has no checksum of its own.

use std::io::{self, Read, Write};

/// Most bytes of one frame; a peer that announces more is cut off.
pub const FRAME_MAX: usize = 16 << 20;
const HEADER: usize = 8;

/// What a frame carries.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum FrameKind {
    /// Who speaks: the first frame in each direction.
    Hello,
    /// Why a peer is not spoken to: a text. The last frame.
    Refusal,
    /// A sign of life, with clocks.
    Beat,
    /// A message of a shard's replication.
    Raft,
    /// A command for the node that leads its shard.
    Command,
    /// Why a command was not taken.
    NotTaken,
    /// Asks for a part of a snapshot.
    SnapshotAsk,
    /// A part of a snapshot.
    SnapshotPart,
}

impl FrameKind {
    const ALL: [Self; 8] = [
        Self::Hello,
        Self::Refusal,
        Self::Beat,
        Self::Raft,
        Self::Command,
        Self::NotTaken,
        Self::SnapshotAsk,
        Self::SnapshotPart,
    ];

    fn number(self) -> u8 {
        match self {
            Self::Hello => 1,
            Self::Refusal => 2,
            Self::Beat => 3,
            Self::Raft => 16,
            Self::Command => 17,
            Self::NotTaken => 18,
            Self::SnapshotAsk => 19,
            Self::SnapshotPart => 20,
        }
    }

    fn of(number: u8) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.number() == number)
    }
}

/// One frame.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Frame {
    /// What it carries.
    pub kind: FrameKind,
    /// The shard it is about; zero where that means nothing.
    pub shard: u16,
    /// Its bytes, at most [`FRAME_MAX`].
    pub bytes: Vec<u8>,
}

impl Frame {
    /// Writes the frame.
    ///
    /// # Errors
    /// Those of the writer; `InvalidInput` for a frame that is too large.
    pub fn write(&self, to: &mut impl Write) -> io::Result<()> {
        if self.bytes.len() > FRAME_MAX {
            return Err(io::Error::new(io::ErrorKind::InvalidInput, "the frame is too large"));
        }
        let mut header = [0; HEADER];
        header[..4].copy_from_slice(&(self.bytes.len() as u32).to_le_bytes());
        header[4] = self.kind.number();
        header[6..].copy_from_slice(&self.shard.to_le_bytes());
        to.write_all(&header)?;
        to.write_all(&self.bytes)
    }

    /// Reads the next frame of at most `most` bytes.
    ///
    /// # Errors
    /// Those of the reader; `InvalidData` for what is no frame.
    pub fn read(from: &mut impl Read, most: usize) -> io::Result<Self> {
        let mut header = [0; HEADER];
        from.read_exact(&mut header)?;
        let length = u32::from_le_bytes(header[..4].try_into().expect("four bytes")) as usize;
        let kind = FrameKind::of(header[4]);
        let (Some(kind), 0, true) = (kind, header[5], length <= most) else {
            let what = format!("a frame of kind {} and {length} bytes", header[4]);
            return Err(io::Error::new(io::ErrorKind::InvalidData, what));
        };
        // Grows with what really comes, not with what is announced.
        let mut bytes = Vec::with_capacity(length.min(64 << 10));
        if from.take(length as u64).read_to_end(&mut bytes)? != length {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        let shard = u16::from_le_bytes(header[6..].try_into().expect("two bytes"));
        Ok(Self { kind, shard, bytes })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_written_is_read_and_anything_else_is_refused() {
        let mut bytes = Vec::new();
        let frames: Vec<Frame> = FrameKind::ALL
            .into_iter()
            .enumerate()
            .map(|(place, kind)| Frame {
                kind,
                shard: place as u16 * 300,
                bytes: vec![place as u8; place * 1_000],
            })
            .collect();
        for frame in &frames {
            frame.write(&mut bytes).expect("a vector takes all");
        }
        let mut rest = bytes.as_slice();
        for frame in &frames {
            assert_eq!(&Frame::read(&mut rest, FRAME_MAX).expect("whole"), frame);
        }
        let ended = Frame::read(&mut rest, FRAME_MAX).expect_err("nothing is left");
        assert_eq!(ended.kind(), io::ErrorKind::UnexpectedEof);

        for (place, value) in [(4, 0), (4, 99), (5, 1), (3, 0xff)] {
            let mut wrong = bytes[..8].to_vec();
            wrong[place] = value;
            let error = Frame::read(&mut wrong.as_slice(), FRAME_MAX).expect_err("no frame");
            assert_eq!(error.kind(), io::ErrorKind::InvalidData, "byte {place} = {value}");
        }
        let mut large = Vec::new();
        Frame { kind: FrameKind::Raft, shard: 0, bytes: vec![0; 101] }.write(&mut large).expect("fits");
        assert!(
            Frame::read(&mut large.as_slice(), 100).is_err() && Frame::read(&mut large.as_slice(), 101).is_ok()
        );
        let too_large = Frame { kind: FrameKind::Raft, shard: 0, bytes: vec![0; FRAME_MAX + 1] };
        assert!(too_large.write(&mut Vec::new()).is_err());
    }
}
