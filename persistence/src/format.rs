//! The bytes of a segment: where each field lies, how a record is sealed by its checksum and read back.
//!
//! `docs/log-format.md` draws the same; a test holds the two together. Knows nothing of files, of what a payload
//! means, or of what to do about a bad record (see [`crate::recovery`]).

use crate::file_seal::{CIPHER, SEAL_HEADER, SealHeader, TAG};
use crate::{HistoryId, Kind};

/// Version of the segments that are written. Those of a later version are refused.
pub const FORMAT_VERSION: u32 = 3;
/// Version of earlier segments all of whose records are sealed, and before which none were.
pub(crate) const FORMAT_VERSION_SEALED: u32 = 2;
/// Version of the first segments.
pub(crate) const FORMAT_VERSION_MIN: u32 = 1;
/// First bytes of every segment.
pub const MAGIC: [u8; 8] = *b"RTSEGMNT";
/// Size of a segment when nothing else is configured.
pub const SEGMENT_BYTES: u32 = 64 << 20;
/// Smallest configurable segment: a disk of a test is full after a few.
pub const SEGMENT_BYTES_MIN: u32 = 64 << 10;
/// Largest configurable segment; offsets fit 32 bits.
pub const SEGMENT_BYTES_MAX: u32 = 1 << 30;
/// Records start at multiples of this.
pub const ALIGN: usize = 8;
/// Most shards of a folder, the system shard included.
pub const SHARDS_MAX: u16 = 256;

// Segment header, little-endian: 0 magic | 8 version u32 | 12 crc32c u32 | 16 cluster u128 | 32 history u128 |
// 48 sequence u64 | 56 generation u64 | 64 segment_bytes u32 | 68 shards u16 | 70 cipher u16 | 72 seal | 144 zero |
// 4096 first record
pub(crate) const MAGIC_OFFSET: usize = 0;
pub(crate) const VERSION_OFFSET: usize = MAGIC_OFFSET + MAGIC.len();
pub(crate) const HEADER_CRC_OFFSET: usize = VERSION_OFFSET + size_of::<u32>();
pub(crate) const CLUSTER_OFFSET: usize = HEADER_CRC_OFFSET + size_of::<u32>();
pub(crate) const HISTORY_OFFSET: usize = CLUSTER_OFFSET + size_of::<u128>();
pub(crate) const SEQUENCE_OFFSET: usize = HISTORY_OFFSET + size_of::<u128>();
pub(crate) const GENERATION_OFFSET: usize = SEQUENCE_OFFSET + size_of::<u64>();
pub(crate) const SEGMENT_BYTES_OFFSET: usize = GENERATION_OFFSET + size_of::<u64>();
pub(crate) const SHARDS_OFFSET: usize = SEGMENT_BYTES_OFFSET + size_of::<u32>();
pub(crate) const CIPHER_OFFSET: usize = SHARDS_OFFSET + size_of::<u16>();
pub(crate) const SEAL_OFFSET: usize = CIPHER_OFFSET + size_of::<u16>();
pub(crate) const HEADER_ZERO_OFFSET: usize = SEAL_OFFSET + SEAL_HEADER;
/// Size of a segment's header: one page, so that no record shares a sector with it.
pub const SEGMENT_HEADER: usize = 4096;
const _: () = assert!(HEADER_ZERO_OFFSET == 144 && SEGMENT_HEADER.is_multiple_of(ALIGN));
const _: () = assert!(TAG.is_multiple_of(ALIGN), "a sealed record is longer by its tag and no more");

// Record header, little-endian: 0 crc32c u32 | 4 length u32 | 8 index u64 | 16 term u64 | 24 synced u32 |
// 28 shard u16 | 30 kind u8 | 31 schema u8 | 32 payload, then zeros to a multiple of 8
pub(crate) const CRC_OFFSET: usize = 0;
pub(crate) const LENGTH_OFFSET: usize = CRC_OFFSET + size_of::<u32>();
pub(crate) const INDEX_OFFSET: usize = LENGTH_OFFSET + size_of::<u32>();
pub(crate) const TERM_OFFSET: usize = INDEX_OFFSET + size_of::<u64>();
pub(crate) const SYNCED_OFFSET: usize = TERM_OFFSET + size_of::<u64>();
pub(crate) const SHARD_OFFSET: usize = SYNCED_OFFSET + size_of::<u32>();
pub(crate) const KIND_OFFSET: usize = SHARD_OFFSET + size_of::<u16>();
pub(crate) const SCHEMA_OFFSET: usize = KIND_OFFSET + size_of::<u8>();
/// Size of a record's header.
pub const RECORD_HEADER: usize = SCHEMA_OFFSET + size_of::<u8>();
const _: () = assert!(RECORD_HEADER == 32);
/// Most bytes a record may need beside its payload.
pub const RECORD_OVERHEAD_MAX: usize = RECORD_HEADER + ALIGN - 1;
const _: () = assert!(RECORD_OVERHEAD_MAX <= 48, "the overhead that is promised for a batch");

/// Bytes a record with a payload of `length` bytes takes in a segment.
pub const fn record_len(length: usize) -> usize {
    (RECORD_HEADER + length).next_multiple_of(ALIGN)
}

/// What a segment says of itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SegmentHeader {
    /// The format version; with its kinds of records.
    pub version: u32,
    /// The cluster whose log this is.
    pub cluster: u128,
    /// The history of that log.
    pub history: HistoryId,
    /// Place of the segment in the log, from 1 without holes.
    pub sequence: u64,
    /// Random, new for every use of a file; salts the checksum of every record.
    pub generation: u64,
    /// Size of the segment in bytes.
    pub segment_bytes: u32,
    /// Shards of the log, the system shard included.
    pub shards: u16,
    /// How its records are sealed; none: only their secret parts are.
    pub seal: Option<SealHeader>,
}

/// Why a segment's header can't be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum HeaderError {
    /// Not the first bytes of a segment.
    #[error("the first bytes are not those of a segment")]
    Magic,
    /// Made by a program of another format.
    #[error("the format version is {0}, this program reads {FORMAT_VERSION_MIN} to {FORMAT_VERSION}")]
    Version(u32),
    /// Sealed in a way that this program doesn't know.
    #[error("cipher {0} is not known to this program")]
    Cipher(u16),
    /// Damaged.
    #[error("the header's checksum is {found:#010x}, expected {expected:#010x}")]
    Checksum {
        /// Computed over what is there.
        expected: u32,
        /// Stored.
        found: u32,
    },
}

impl SegmentHeader {
    /// Writes the header.
    pub fn encode(&self) -> Box<[u8; SEGMENT_HEADER]> {
        let mut bytes = Box::new([0; SEGMENT_HEADER]);
        put(&mut bytes[..], MAGIC_OFFSET, &MAGIC);
        put(&mut bytes[..], VERSION_OFFSET, &self.version.to_le_bytes());
        put(&mut bytes[..], CLUSTER_OFFSET, &self.cluster.to_le_bytes());
        put(&mut bytes[..], HISTORY_OFFSET, &self.history.0.to_le_bytes());
        put(&mut bytes[..], SEQUENCE_OFFSET, &self.sequence.to_le_bytes());
        put(&mut bytes[..], GENERATION_OFFSET, &self.generation.to_le_bytes());
        put(&mut bytes[..], SEGMENT_BYTES_OFFSET, &self.segment_bytes.to_le_bytes());
        put(&mut bytes[..], SHARDS_OFFSET, &self.shards.to_le_bytes());
        if let Some(seal) = &self.seal {
            put(&mut bytes[..], CIPHER_OFFSET, &CIPHER.to_le_bytes());
            put(&mut bytes[..], SEAL_OFFSET, &seal.encode());
        }
        let crc = Self::checksum(&bytes[..]);
        put(&mut bytes[..], HEADER_CRC_OFFSET, &crc.to_le_bytes());
        bytes
    }

    /// Reads the header from the first [`SEGMENT_HEADER`] bytes of a segment.
    pub fn decode(bytes: &[u8]) -> Result<Self, HeaderError> {
        if bytes.len() < SEGMENT_HEADER || bytes[..MAGIC.len()] != MAGIC {
            return Err(HeaderError::Magic);
        }
        let version = u32_at(bytes, VERSION_OFFSET);
        if !(FORMAT_VERSION_MIN..=FORMAT_VERSION).contains(&version) {
            return Err(HeaderError::Version(version));
        }
        let (expected, found) = (Self::checksum(bytes), u32_at(bytes, HEADER_CRC_OFFSET));
        if expected != found {
            return Err(HeaderError::Checksum { expected, found });
        }
        let seal = match u16_at(bytes, CIPHER_OFFSET) {
            _ if version < FORMAT_VERSION_SEALED => None,
            0 if version > FORMAT_VERSION_SEALED => None,
            CIPHER => Some(SealHeader::decode(&bytes[SEAL_OFFSET..])),
            cipher => return Err(HeaderError::Cipher(cipher)),
        };
        Ok(Self {
            version,
            cluster: u128_at(bytes, CLUSTER_OFFSET),
            history: HistoryId(u128_at(bytes, HISTORY_OFFSET)),
            sequence: u64_at(bytes, SEQUENCE_OFFSET),
            generation: u64_at(bytes, GENERATION_OFFSET),
            segment_bytes: u32_at(bytes, SEGMENT_BYTES_OFFSET),
            shards: u16_at(bytes, SHARDS_OFFSET),
            seal,
        })
    }

    fn checksum(bytes: &[u8]) -> u32 {
        let crc = crc32c::crc32c(&bytes[..HEADER_CRC_OFFSET]);
        crc32c::crc32c_append(crc, &bytes[CLUSTER_OFFSET..SEGMENT_HEADER])
    }
}

/// The fields of a record's header, without the checksum.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RecordHeader {
    /// Bytes of payload.
    pub length: u32,
    /// Place in the shard's log.
    pub index: u64,
    /// The term it was proposed in.
    pub term: u64,
    /// Every byte of the segment before this offset was durable when this record was written.
    pub synced: u32,
    /// The shard.
    pub shard: u16,
    /// What the payload is.
    pub kind: u8,
    /// Version of the payload's schema.
    pub schema: u8,
}

impl RecordHeader {
    /// Writes the header to the first [`RECORD_HEADER`] bytes, with a checksum of zero.
    pub(crate) fn encode(&self, bytes: &mut [u8]) {
        put(bytes, CRC_OFFSET, &[0; 4]);
        put(bytes, LENGTH_OFFSET, &self.length.to_le_bytes());
        put(bytes, INDEX_OFFSET, &self.index.to_le_bytes());
        put(bytes, TERM_OFFSET, &self.term.to_le_bytes());
        put(bytes, SYNCED_OFFSET, &self.synced.to_le_bytes());
        put(bytes, SHARD_OFFSET, &self.shard.to_le_bytes());
        bytes[KIND_OFFSET] = self.kind;
        bytes[SCHEMA_OFFSET] = self.schema;
    }

    /// Reads the header from the first [`RECORD_HEADER`] bytes, whatever they are.
    pub fn decode(bytes: &[u8]) -> Self {
        Self {
            length: u32_at(bytes, LENGTH_OFFSET),
            index: u64_at(bytes, INDEX_OFFSET),
            term: u64_at(bytes, TERM_OFFSET),
            synced: u32_at(bytes, SYNCED_OFFSET),
            shard: u16_at(bytes, SHARD_OFFSET),
            kind: bytes[KIND_OFFSET],
            schema: bytes[SCHEMA_OFFSET],
        }
    }

    /// The kind, when this program knows it.
    pub fn known_kind(&self) -> Option<Kind> {
        Kind::from_byte(self.kind)
    }

    /// The kind, when segments of that format version may hold it.
    pub fn kind_in(&self, version: u32) -> Option<Kind> {
        self.known_kind().filter(|kind| kind.since() <= version)
    }
}

/// Writes the `synced` mark and then the checksum of a whole record (header, payload and padding) that will lie at
/// `offset` of a segment of `generation`.
pub(crate) fn seal_record(record: &mut [u8], generation: u64, offset: u32, synced: u32) {
    put(record, SYNCED_OFFSET, &synced.to_le_bytes());
    let crc = record_checksum(record, generation, offset);
    put(record, CRC_OFFSET, &crc.to_le_bytes());
}

/// The checksum of a whole record at `offset` of a segment of `generation`. The salt makes a record that was left by
/// an earlier use of the file, or copied to another place, a bad one.
pub(crate) fn record_checksum(record: &[u8], generation: u64, offset: u32) -> u32 {
    let crc = crc32c::crc32c(&generation.to_le_bytes());
    let crc = crc32c::crc32c_append(crc, &offset.to_le_bytes());
    crc32c::crc32c_append(crc, &record[LENGTH_OFFSET..])
}

/// The stored checksum of a record.
pub(crate) fn stored_checksum(record: &[u8]) -> u32 {
    u32_at(record, CRC_OFFSET)
}

pub(crate) fn put(bytes: &mut [u8], offset: usize, value: &[u8]) {
    bytes[offset..offset + value.len()].copy_from_slice(value);
}

fn array<const N: usize>(bytes: &[u8], offset: usize) -> [u8; N] {
    let mut array = [0; N];
    array.copy_from_slice(&bytes[offset..offset + N]);
    array
}

pub(crate) fn u16_at(bytes: &[u8], offset: usize) -> u16 {
    u16::from_le_bytes(array(bytes, offset))
}

pub(crate) fn u32_at(bytes: &[u8], offset: usize) -> u32 {
    u32::from_le_bytes(array(bytes, offset))
}

pub(crate) fn u64_at(bytes: &[u8], offset: usize) -> u64 {
    u64::from_le_bytes(array(bytes, offset))
}

pub(crate) fn u128_at(bytes: &[u8], offset: usize) -> u128 {
    u128::from_le_bytes(array(bytes, offset))
}

/// Reads the tables of the format pages, for the tests that hold them against the constants.
#[cfg(test)]
pub(crate) mod page {
    /// The rows of the first table below `heading`, as cells.
    pub(crate) fn table(page: &str, heading: &str) -> Vec<Vec<String>> {
        let start = page.find(heading).unwrap_or_else(|| panic!("no heading {heading}"));
        page[start..]
            .lines()
            .skip_while(|line| !line.starts_with('|'))
            .take_while(|line| line.starts_with('|'))
            .skip(2)
            .map(|line| line.trim_matches('|').split('|').map(|cell| cell.trim().to_owned()).collect())
            .collect()
    }

    /// The table below `heading` as offset, size and name of each field; checks that it has no gap.
    pub(crate) fn fields(page: &str, heading: &str) -> Vec<(usize, usize, String)> {
        let mut next = 0;
        let field = |row: Vec<String>| {
            let number = |cell: &String| cell.parse::<usize>().expect("a number");
            let (offset, size) = (number(&row[0]), number(&row[1]));
            assert_eq!(offset, next, "{heading}: {} begins where the field before ends", row[2]);
            next = offset + size;
            (offset, size, row[2].clone())
        };
        table(page, heading).into_iter().map(field).collect()
    }

    /// Checks the fields' offsets and names.
    pub(crate) fn check(page: &str, heading: &str, expected: &[(usize, &str)]) {
        let found = fields(page, heading);
        let found: Vec<_> = found.iter().map(|(offset, _, name)| (*offset, name.as_str())).collect();
        assert_eq!(found, expected, "{heading}");
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::meta;

    #[test]
    fn the_page_draws_these_bytes() {
        let text = include_str!("../docs/log-format.md");
        page::check(
            text,
            "### Segment header",
            &[
                (MAGIC_OFFSET, "magic"),
                (VERSION_OFFSET, "version"),
                (HEADER_CRC_OFFSET, "crc32c"),
                (CLUSTER_OFFSET, "cluster"),
                (HISTORY_OFFSET, "history"),
                (SEQUENCE_OFFSET, "sequence"),
                (GENERATION_OFFSET, "generation"),
                (SEGMENT_BYTES_OFFSET, "segment_bytes"),
                (SHARDS_OFFSET, "shards"),
                (CIPHER_OFFSET, "cipher"),
                (SEAL_OFFSET, "seal"),
                (HEADER_ZERO_OFFSET, "zero"),
            ],
        );
        let (offset, size, _) = page::fields(text, "### Segment header").pop().expect("a last field");
        assert_eq!(offset + size, SEGMENT_HEADER);
        page::check(
            text,
            "### Record header",
            &[
                (CRC_OFFSET, "crc32c"),
                (LENGTH_OFFSET, "length"),
                (INDEX_OFFSET, "index"),
                (TERM_OFFSET, "term"),
                (SYNCED_OFFSET, "synced"),
                (SHARD_OFFSET, "shard"),
                (KIND_OFFSET, "kind"),
                (SCHEMA_OFFSET, "schema"),
                (RECORD_HEADER, "payload"),
            ],
        );
        page::check(
            text,
            "### Description",
            &[
                (0, "magic"),
                (8, "version"),
                (12, "crc32c"),
                (meta::CLUSTER, "cluster"),
                (meta::HISTORY, "history"),
                (meta::KEY_CHECK, "key_check"),
                (meta::SHARDS, "shards"),
                (meta::SHARDS + 2, "zero"),
            ],
        );
        let (offset, size, _) = page::fields(text, "### Description").pop().expect("a last field");
        assert_eq!(offset + size, meta::SIZE);
        let kinds = page::table(text, "### Kinds").into_iter().map(|row| format!("{} {}", row[0], row[1]));
        let known = Kind::ALL.iter().map(|kind| format!("{} {kind:?}", *kind as u8));
        let since = page::table(text, "### Kinds").into_iter().map(|row| row[2].clone());
        assert!(since.eq(Kind::ALL.iter().map(|kind| kind.since().to_string())));
        let versions = page::table(text, "### Versions").into_iter().map(|row| row[0].clone());
        assert!(versions.eq((FORMAT_VERSION_MIN..=FORMAT_VERSION).map(|version| version.to_string())));
        assert!(kinds.eq(known));
        let facts = [
            format!("Format version {FORMAT_VERSION}."),
            format!("format version ({})", meta::VERSION),
            format!("`{}`", String::from_utf8_lossy(&MAGIC)),
            format!("`{}`", String::from_utf8_lossy(&meta::MAGIC)),
            format!("{} MiB", SEGMENT_BYTES >> 20),
            format!("from {} KiB", SEGMENT_BYTES_MIN >> 10),
            format!("from offset {SEGMENT_HEADER}, each at a multiple of {ALIGN}"),
            format!("{} zero bytes that mark the end", crate::segment::END_MARK),
            format!("at most {RECORD_OVERHEAD_MAX} bytes beside its payload"),
            format!("schema {}", crate::SCHEMA),
        ];
        for fact in facts {
            assert!(text.contains(&fact), "the page does not say: {fact}");
        }
    }

    fn header() -> SegmentHeader {
        SegmentHeader {
            version: FORMAT_VERSION,
            cluster: 1 << 100,
            history: HistoryId(7 << 90),
            sequence: 3,
            generation: 0xDEAD_BEEF_0BAD_CAFE,
            segment_bytes: SEGMENT_BYTES,
            shards: 9,
            seal: None,
        }
    }

    #[test]
    fn a_header_tells_how_its_records_are_sealed() {
        let seal = SealHeader { data_key: 7, incarnation: 1 << 63, node: 513, check: [3; 16], salt: [9; 32] };
        let sealed = SegmentHeader { seal: Some(seal), ..header() };
        assert_eq!(SegmentHeader::decode(&sealed.encode()[..]), Ok(sealed));
        for version in [FORMAT_VERSION_MIN, FORMAT_VERSION] {
            let plain = SegmentHeader { version, ..header() };
            assert_eq!(SegmentHeader::decode(&plain.encode()[..]), Ok(plain));
            assert!(plain.encode()[CIPHER_OFFSET..].iter().all(|byte| *byte == 0));
        }
        let old = SegmentHeader { version: FORMAT_VERSION_SEALED, ..sealed };
        assert_eq!(SegmentHeader::decode(&old.encode()[..]), Ok(old));
        let lacking = SegmentHeader { version: FORMAT_VERSION_SEALED, ..header() }.encode();
        assert_eq!(SegmentHeader::decode(&lacking[..]), Err(HeaderError::Cipher(0)));
        for version in [0, FORMAT_VERSION + 1] {
            let strange = SegmentHeader { version, ..header() }.encode();
            assert_eq!(SegmentHeader::decode(&strange[..]), Err(HeaderError::Version(version)));
        }
        let mut strange = sealed.encode();
        strange[CIPHER_OFFSET] = 2;
        let crc = SegmentHeader::checksum(&strange[..]);
        put(&mut strange[..], HEADER_CRC_OFFSET, &crc.to_le_bytes());
        assert_eq!(SegmentHeader::decode(&strange[..]), Err(HeaderError::Cipher(2)));
    }

    #[test]
    fn every_flipped_bit_of_a_segment_header_is_seen() {
        let bytes = header().encode();
        assert_eq!(SegmentHeader::decode(&bytes[..]), Ok(header()));
        for bit in 0..SEGMENT_HEADER * 8 {
            let mut bytes = bytes.clone();
            bytes[bit / 8] ^= 1 << (bit % 8);
            assert!(SegmentHeader::decode(&bytes[..]).is_err(), "bit {bit}");
        }
    }

    #[test]
    fn the_checksum_of_a_record_depends_on_generation_place_and_every_bit() {
        let mut record = vec![0; record_len(21)];
        let fields = RecordHeader { length: 21, index: 5, term: 2, synced: 0, shard: 1, kind: 1, schema: 1 };
        fields.encode(&mut record);
        record[RECORD_HEADER..RECORD_HEADER + 21].fill(0xA5);
        seal_record(&mut record, 11, 4096, 4096);
        let crc = stored_checksum(&record);
        assert_eq!(crc, record_checksum(&record, 11, 4096));
        assert_ne!(crc, record_checksum(&record, 12, 4096));
        assert_ne!(crc, record_checksum(&record, 11, 4104));
        assert_eq!(RecordHeader::decode(&record), RecordHeader { synced: 4096, ..fields });
        for bit in 32..record.len() * 8 {
            record[bit / 8] ^= 1 << (bit % 8);
            assert_ne!(crc, record_checksum(&record, 11, 4096), "bit {bit}");
            record[bit / 8] ^= 1 << (bit % 8);
        }
    }
}
