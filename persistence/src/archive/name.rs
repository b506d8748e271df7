//! The names of objects: what a piece holds can be read from its name, and its hash covers both.

use sha2::{Digest, Sha256};

use crate::{HistoryId, uuid_text};

/// Version of the archive's format. An archive of another version is refused.
pub const VERSION: u32 = 1;
/// What begins every text, and what every hash begins with.
pub(crate) const TITLE: &str = "reversetender archive";
/// The object that says whose archive it is.
pub(crate) const ABOUT: &str = "about";
/// The folder of the objects that say how far each history reaches.
pub(crate) const TIP: &str = "tip";

/// What a piece is a piece of.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum PieceKind {
    /// A segment of the log.
    Log,
    /// A snapshot.
    Snapshot,
    /// A file of the audit.
    Audit,
    /// The mark that a snapshot, and what belongs to it, is whole.
    Mark,
}

impl PieceKind {
    pub(crate) const ALL: [Self; 4] = [Self::Log, Self::Snapshot, Self::Audit, Self::Mark];

    pub(crate) const fn folder(self) -> &'static str {
        match self {
            Self::Log => "log",
            Self::Snapshot => "snap",
            Self::Audit => "audit",
            Self::Mark => "mark",
        }
    }
}

/// A piece of a file, as its name tells it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Piece {
    pub(crate) kind: PieceKind,
    pub(crate) history: HistoryId,
    /// The file: a segment's or snapshot's number, an audit file's name.
    pub(crate) file: String,
    /// Its bytes of the file, from here…
    pub(crate) from: u64,
    /// … to before here.
    pub(crate) to: u64,
    /// Entries of the log, counted over all shards from 1, from here…
    pub(crate) first: u64,
    /// … to here; `first - 1` when it holds none.
    pub(crate) last: u64,
    /// The highest term up to its end.
    pub(crate) term: u64,
    /// The latest stamp up to its end, in milliseconds since 1970.
    pub(crate) at: i64,
    pub(crate) hash: [u8; 32],
}

impl Piece {
    /// The name without the hash.
    fn stem(&self) -> String {
        let Self { kind, history, file, from, to, first, last, term, at, .. } = self;
        let folder = kind.folder();
        format!("{folder}/{history}/{file}/{from:010x}-{to:010x}.{first:016x}-{last:016x}.{term:016x}.{at:016x}")
    }

    /// Sets the hash to that of `bytes` under this name.
    pub(crate) fn seal(&mut self, bytes: &[u8]) {
        self.hash = hash(&self.stem(), bytes);
    }

    /// Whether `bytes` are what the name promises; else what they are.
    pub(crate) fn check(&self, bytes: &[u8]) -> Result<(), String> {
        let found = hash(&self.stem(), bytes);
        if found == self.hash { Ok(()) } else { Err(hex(&found)) }
    }

    /// The object's name.
    pub(crate) fn name(&self) -> String {
        format!("{}.{}", self.stem(), hex(&self.hash))
    }

    pub(crate) fn parse(name: &str) -> Option<Self> {
        let mut parts = name.split('/');
        let (folder, history, file, rest) = (parts.next()?, parts.next()?, parts.next()?, parts.next()?);
        if parts.next().is_some() {
            return None;
        }
        let mut fields = rest.split('.');
        let (range, entries) = (fields.next()?, fields.next()?);
        let (term, at, sha) = (fields.next()?, fields.next()?, fields.next()?);
        if fields.next().is_some() || sha.len() != 64 {
            return None;
        }
        let number = |text: &str| u64::from_str_radix(text, 16).ok();
        let (from, to) = range.split_once('-')?;
        let (first, last) = entries.split_once('-')?;
        let mut hash = [0; 32];
        for (byte, digits) in hash.iter_mut().zip(sha.as_bytes().chunks(2)) {
            *byte = u8::from_str_radix(std::str::from_utf8(digits).ok()?, 16).ok()?;
        }
        let piece = Self {
            kind: PieceKind::ALL.into_iter().find(|kind| kind.folder() == folder)?,
            history: parse_history(history)?,
            file: file.to_owned(),
            from: number(from)?,
            to: number(to)?,
            first: number(first)?,
            last: number(last)?,
            term: number(term)?,
            at: number(at)? as i64,
            hash,
        };
        // One writing for each name: nothing else is a name.
        (piece.name() == name && piece.from < piece.to).then_some(piece)
    }
}

/// What is hashed: title and version, the name without its hash, a zero byte, the bytes.
fn hash(stem: &str, bytes: &[u8]) -> [u8; 32] {
    let mut hash = Sha256::new();
    hash.update(format!("{TITLE} {VERSION}\n{stem}\0"));
    hash.update(bytes);
    hash.finalize().into()
}

pub(crate) fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

pub(crate) fn parse_uuid(text: &str) -> Option<u128> {
    let id = u128::from_str_radix(&text.replace('-', ""), 16).ok()?;
    (uuid_text(id) == text).then_some(id)
}

pub(crate) fn parse_history(text: &str) -> Option<HistoryId> {
    parse_uuid(text).map(HistoryId)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::format::page;

    fn piece() -> Piece {
        let mut piece = Piece {
            kind: PieceKind::Log,
            history: HistoryId(7 << 100 | 5),
            file: "0000000000000003".into(),
            from: 4096,
            to: 8192,
            first: 10,
            last: 12,
            term: 2,
            at: 1_700_000_000_000,
            hash: [0; 32],
        };
        piece.seal(b"bytes");
        piece
    }

    #[test]
    fn a_name_tells_the_piece_and_nothing_else_is_a_name() {
        let name = piece().name();
        assert_eq!(Piece::parse(&name), Some(piece()));
        for odd in [
            name.to_uppercase(),
            name.replace("log/", "logs/"),
            name.replace(".0000000000000002.", ".2."),
            format!("{name}0"),
            format!("x/{name}"),
            name.replace("0000001000-", "0000002000-"),
        ] {
            assert_eq!(Piece::parse(&odd), None, "{odd}");
        }
    }

    #[test]
    fn the_hash_covers_bytes_and_name() {
        let good = piece();
        assert_eq!(good.check(b"bytes"), Ok(()));
        assert!(good.check(b"bytez").is_err());
        for renamed in [
            Piece { from: 4104, ..good.clone() },
            Piece { last: 13, ..good.clone() },
            Piece { kind: PieceKind::Audit, ..good.clone() },
            Piece { history: HistoryId(1), ..good.clone() },
        ] {
            assert!(renamed.check(b"bytes").is_err(), "{}", renamed.name());
        }
    }

    #[test]
    fn the_page_tells_these_names() {
        let text = include_str!("../../docs/archive.md");
        let fields = page::table(text, "### Name of a piece");
        let drawn: Vec<&str> = fields.iter().map(|row| row[0].as_str()).collect();
        assert_eq!(
            drawn,
            ["folder", "history", "file", "from", "to", "first", "last", "term", "at", "hash"].map(|n| n).to_vec()
        );
        let name = piece().name();
        assert!(text.contains(&name), "the page's sample is {name}");
        let kinds: Vec<String> = page::table(text, "### Folders").into_iter().map(|row| row[0].clone()).collect();
        let known: Vec<String> = PieceKind::ALL.iter().map(|kind| format!("`{}`", kind.folder())).collect();
        assert_eq!(kinds[..4], known[..]);
        assert_eq!(kinds[4..], [format!("`{ABOUT}`"), format!("`{TIP}`")]);
        for fact in [
            format!("Archive version {VERSION}."),
            format!("`{TITLE} {VERSION}`"),
            format!("at most {} MiB", super::super::PIECE_BYTES >> 20),
        ] {
            assert!(text.contains(&fact), "the page does not say: {fact}");
        }
    }
}
