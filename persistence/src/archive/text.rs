//! The texts of an archive: lines of a word and its value, closed by their hash. Knows no store.

use sha2::{Digest, Sha256};

use super::error::ArchiveError;
use super::name::{TITLE, VERSION, hex};

/// A text under way, or read back.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Text {
    lines: Vec<(String, String)>,
}

impl Text {
    pub(crate) fn new() -> Self {
        Self { lines: Vec::new() }
    }

    pub(crate) fn with(mut self, word: &str, value: impl ToString) -> Self {
        self.lines.push((word.to_owned(), value.to_string()));
        self
    }

    /// The bytes of the object.
    pub(crate) fn encode(&self) -> Vec<u8> {
        let mut text = format!("{TITLE} {VERSION}\n");
        for (word, value) in &self.lines {
            text.push_str(&format!("{word} {value}\n"));
        }
        let hash = hex(&Sha256::digest(&text));
        text.push_str(&format!("sha256 {hash}\n"));
        text.into_bytes()
    }

    /// Reads what [`Text::encode`] wrote as object `object`.
    pub(crate) fn decode(object: &str, bytes: &[u8]) -> Result<Self, ArchiveError> {
        let damaged =
            |expected: String, found: String| ArchiveError::Damaged { object: object.to_owned(), expected, found };
        let Ok(text) = std::str::from_utf8(bytes) else {
            return Err(damaged("a text".into(), "other bytes".into()));
        };
        let title = text.lines().next().unwrap_or_default();
        let Some(version) = title.strip_prefix(TITLE) else {
            return Err(damaged(format!("`{TITLE}`"), format!("{title:?}")));
        };
        let Some(at) = text.rfind("sha256 ") else {
            return Err(damaged("a last line with its hash".into(), "none".into()));
        };
        let (body, last) = text.split_at(at);
        let expected = format!("sha256 {}\n", hex(&Sha256::digest(body)));
        if last != expected {
            return Err(damaged(expected.trim_end().to_owned(), format!("{:?}", last.trim_end())));
        }
        // Behind the hash: a flipped bit of the version is damage, a sound other version is another program's.
        if version != format!(" {VERSION}") {
            let (object, found) = (object.to_owned(), version.trim().to_owned());
            return Err(ArchiveError::Version { object, expected: VERSION, found });
        }
        let lines = body.lines().skip(1);
        let lines = lines.map(|line| line.split_once(' ').unwrap_or((line, "")));
        Ok(Self { lines: lines.map(|(word, value)| (word.to_owned(), value.to_owned())).collect() })
    }

    /// The value of the first line that begins with `word`, as `read` reads it.
    pub(crate) fn value<T>(
        &self,
        object: &str,
        word: &str,
        read: impl Fn(&str) -> Option<T>,
    ) -> Result<T, ArchiveError> {
        let found = self.lines.iter().find(|(known, _)| known == word).map(|(_, value)| value.as_str());
        found.and_then(read).ok_or_else(|| ArchiveError::Damaged {
            object: object.to_owned(),
            expected: format!("a line `{word}`"),
            found: format!("{found:?}"),
        })
    }

    /// The values of all lines that begin with `word`.
    pub(crate) fn values<'a>(&'a self, word: &'a str) -> impl Iterator<Item = &'a str> {
        self.lines.iter().filter(move |(known, _)| known == word).map(|(_, value)| value.as_str())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_flipped_bit_of_a_text_is_seen() {
        let text = Text::new().with("cluster", "a b").with("shards", 9);
        let bytes = text.encode();
        assert_eq!(Text::decode("about", &bytes).expect("sound"), text);
        for bit in 0..bytes.len() * 8 {
            let mut bytes = bytes.clone();
            bytes[bit / 8] ^= 1 << (bit % 8);
            assert!(Text::decode("about", &bytes).is_err(), "bit {bit}");
        }
    }

    #[test]
    fn a_later_version_is_told_apart_from_damage() {
        let text = String::from_utf8(Text::new().with("shards", 9).encode()).expect("a text");
        let body = text.replace(&format!("{TITLE} {VERSION}"), &format!("{TITLE} 9"));
        let body = &body[..body.find("sha256").expect("a hash")];
        let later = format!("{body}sha256 {}\n", hex(&Sha256::digest(body)));
        let error = Text::decode("about", later.as_bytes()).expect_err("a later one");
        assert!(matches!(error, ArchiveError::Version { ref found, .. } if found == "9"), "{error}");
    }
}
