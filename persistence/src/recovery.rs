//! The decision table of recovery: what to do about each segment file and each place of the log.
//!
//! One row says what one combination of findings means; a test walks every combination and finds exactly one row.
//! Decides only. Reading is in [`crate::scan`].

/// Where a place of a segment lies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Region {
    /// Before the end that the next segment's opening record gives: all of it was durable once.
    Sealed,
    /// In the last segment that was written to: the last flush may be torn.
    Last,
}

/// Whether anything was written at a place.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Bytes {
    /// A record header of zeros.
    Blank,
    /// Anything else.
    Written,
}

/// Whether the record's length leaves it inside its segment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Length {
    /// It does.
    Fits,
    /// It does not.
    Overruns,
}

/// The checksum, which is salted with the segment's generation and the place: a record of an earlier use of the file
/// and a record of another place are bad.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Checksum {
    /// As computed.
    Good,
    /// Another.
    Bad,
}

/// Whether a record is the one that must come next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Order {
    /// Known shard, next index of its shard, term not lower, marks in range; or an entry in the place of one that no
    /// commit mark covers and that has another term, its own not lower than that of the entry before; or a tree head of
    /// no more than what is before it.
    Next,
    /// Not so.
    Broken,
    /// Of a kind that segments of its version don't hold.
    Unknown,
}

/// What good records of the same generation lie behind a place.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Follows {
    /// None.
    Nothing,
    /// Some, none of which says that this place was durable when it was written.
    SameFlush,
    /// One that says so.
    LaterFlush,
}

/// What was found at one place of a segment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Findings {
    /// Where it lies.
    pub region: Region,
    /// Whether something is there.
    pub bytes: Bytes,
    /// Its length.
    pub length: Length,
    /// Its checksum.
    pub checksum: Checksum,
    /// Its place in the order.
    pub order: Order,
    /// What lies behind it. Matters in the last segment only, and only when the record is not good.
    pub follows: Follows,
}

/// What to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// A record of the log.
    Keep,
    /// The log ends here.
    End,
    /// The log ends here, and what lies behind is a flush that nobody was answered for: cut, and said.
    Cut,
    /// Something that was durable is gone: do not start.
    Corrupt(Fault),
}

/// What is wrong with a log that was durable once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// A record was expected and nothing is there.
    Missing,
    /// The record's length can't be.
    Length,
    /// The record's bytes changed.
    Checksum,
    /// The record is sound and not the next: a hole, a repeat or a stranger.
    Order,
    /// The record is sound and of a kind that the segment's format version does not have.
    Kind,
}

impl Fault {
    /// In words, for the message.
    pub const fn words(self) -> &'static str {
        match self {
            Self::Missing => "a record that was durable is missing",
            Self::Length => "a durable record's length is damaged",
            Self::Checksum => "a durable record's checksum does not hold",
            Self::Order => "a sound record is not the next of its shard",
            Self::Kind => "a sound record is of a kind that its segment can't hold",
        }
    }
}

/// A row: a combination of findings, `None` where one does not matter, and what it means.
struct Row {
    region: Option<Region>,
    bytes: Option<Bytes>,
    length: Option<Length>,
    checksum: Option<Checksum>,
    order: Option<Order>,
    follows: Option<&'static [Follows]>,
    verdict: Verdict,
}

const TORN: &[Follows] = &[Follows::Nothing, Follows::SameFlush];
const LATER: &[Follows] = &[Follows::LaterFlush];

macro_rules! row {
    ($region:tt $bytes:tt $length:tt $checksum:tt $order:tt $follows:tt => $verdict:expr) => {
        Row {
            region: row!(@ Region $region),
            bytes: row!(@ Bytes $bytes),
            length: row!(@ Length $length),
            checksum: row!(@ Checksum $checksum),
            order: row!(@ Order $order),
            follows: row!(% $follows),
            verdict: $verdict,
        }
    };
    (@ $type:ident _) => { None };
    (@ $type:ident $value:ident) => { Some($type::$value) };
    (% _) => { None };
    (% Torn) => { Some(TORN) };
    (% Later) => { Some(LATER) };
    (% $value:ident) => { Some(&[Follows::$value]) };
}

const ROWS: &[Row] = &[
    //   region bytes   length   checksum order  follows
    row!(_      Written Fits     Good     Next   _         => Verdict::Keep),
    row!(_      Written Fits     Good     Broken _         => Verdict::Corrupt(Fault::Order)),
    row!(_      Written Fits     Good     Unknown _        => Verdict::Corrupt(Fault::Kind)),
    row!(Sealed Blank   _        _        _      _         => Verdict::Corrupt(Fault::Missing)),
    row!(Sealed Written Overruns _        _      _         => Verdict::Corrupt(Fault::Length)),
    row!(Sealed Written Fits     Bad      _      _         => Verdict::Corrupt(Fault::Checksum)),
    row!(Last   Blank   _        _        _      Nothing   => Verdict::End),
    row!(Last   Blank   _        _        _      SameFlush => Verdict::Cut),
    row!(Last   Blank   _        _        _      Later     => Verdict::Corrupt(Fault::Missing)),
    row!(Last   Written Overruns _        _      Torn      => Verdict::Cut),
    row!(Last   Written Overruns _        _      Later     => Verdict::Corrupt(Fault::Length)),
    row!(Last   Written Fits     Bad      _      Torn      => Verdict::Cut),
    row!(Last   Written Fits     Bad      _      Later     => Verdict::Corrupt(Fault::Checksum)),
];

impl Row {
    fn matches(&self, findings: &Findings) -> bool {
        fn same<T: PartialEq>(wanted: Option<T>, found: T) -> bool {
            wanted.is_none_or(|wanted| wanted == found)
        }
        same(self.region, findings.region)
            && same(self.bytes, findings.bytes)
            && same(self.length, findings.length)
            && same(self.checksum, findings.checksum)
            && same(self.order, findings.order)
            && self.follows.is_none_or(|wanted| wanted.contains(&findings.follows))
    }
}

/// What the findings at a place mean.
pub fn decide(findings: &Findings) -> Verdict {
    let row = ROWS.iter().find(|row| row.matches(findings));
    row.expect("the table has a row for every combination").verdict
}

/// What the header of a segment file is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Header {
    /// Good.
    Good,
    /// Its first bytes are not those of a segment.
    Magic,
    /// Of a version this program doesn't read.
    Version,
    /// Its checksum does not hold.
    Checksum,
}

/// What was found about one segment file. The header was durable before the file got its name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FileFindings {
    /// Its header.
    pub header: Header,
    /// Whether cluster, history and shards are those of the folder.
    pub ours: bool,
    /// Whether the number in the header is that of the file's name.
    pub named: bool,
    /// Whether the file before it, if any, has the number before.
    pub joined: bool,
}

/// What to do about a segment file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FileVerdict {
    /// Read it.
    Read,
    /// It belongs to another program version: refuse the folder.
    Version,
    /// It belongs to another log: refuse the folder.
    Foreign,
    /// Its header is damaged.
    Damaged,
    /// It has the name of another segment.
    Misnamed,
    /// The file before it is missing.
    Hole,
}

type FileRow = (Option<Header>, Option<bool>, Option<bool>, Option<bool>, FileVerdict);

const FILE_ROWS: &[FileRow] = &[
    // header             ours         named        joined
    (Some(Header::Good), Some(true), Some(true), Some(true), FileVerdict::Read),
    (Some(Header::Good), Some(true), Some(true), Some(false), FileVerdict::Hole),
    (Some(Header::Good), Some(true), Some(false), None, FileVerdict::Misnamed),
    (Some(Header::Good), Some(false), None, None, FileVerdict::Foreign),
    (Some(Header::Version), None, None, None, FileVerdict::Version),
    (Some(Header::Magic), None, None, None, FileVerdict::Damaged),
    (Some(Header::Checksum), None, None, None, FileVerdict::Damaged),
];

fn file_row_matches(row: &FileRow, findings: &FileFindings) -> bool {
    let (header, ours, named, joined, _) = row;
    header.is_none_or(|wanted| wanted == findings.header)
        && ours.is_none_or(|wanted| wanted == findings.ours)
        && named.is_none_or(|wanted| wanted == findings.named)
        && joined.is_none_or(|wanted| wanted == findings.joined)
}

/// What the findings about a file mean.
pub fn decide_file(findings: &FileFindings) -> FileVerdict {
    let row = FILE_ROWS.iter().find(|row| file_row_matches(row, findings));
    row.expect("the table has a row for every combination").4
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn exactly_one_row_matches_every_combination() {
        let mut combinations = 0;
        for region in [Region::Sealed, Region::Last] {
            for bytes in [Bytes::Blank, Bytes::Written] {
                for length in [Length::Fits, Length::Overruns] {
                    for checksum in [Checksum::Good, Checksum::Bad] {
                        for order in [Order::Next, Order::Broken, Order::Unknown] {
                            for follows in [Follows::Nothing, Follows::SameFlush, Follows::LaterFlush] {
                                let findings = Findings { region, bytes, length, checksum, order, follows };
                                let rows = ROWS.iter().filter(|row| row.matches(&findings));
                                assert_eq!(rows.count(), 1, "{findings:?}");
                                combinations += 1;
                            }
                        }
                    }
                }
            }
        }
        assert_eq!(combinations, 144);
    }

    #[test]
    fn exactly_one_file_row_matches_every_combination() {
        for header in [Header::Good, Header::Magic, Header::Version, Header::Checksum] {
            for bits in 0..8 {
                let [ours, named, joined] = [1, 2, 4].map(|bit| bits & bit != 0);
                let findings = FileFindings { header, ours, named, joined };
                let rows = FILE_ROWS.iter().filter(|row| file_row_matches(row, &findings));
                assert_eq!(rows.count(), 1, "{findings:?}");
            }
        }
    }

    #[test]
    fn every_row_is_needed() {
        for (number, row) in ROWS.iter().enumerate() {
            let region = row.region.unwrap_or(Region::Last);
            let findings = Findings {
                region,
                bytes: row.bytes.unwrap_or(Bytes::Written),
                length: row.length.unwrap_or(Length::Fits),
                checksum: row.checksum.unwrap_or(Checksum::Bad),
                order: row.order.unwrap_or(Order::Next),
                follows: row.follows.map_or(Follows::Nothing, |follows| follows[0]),
            };
            assert!(ROWS[number].matches(&findings) && decide(&findings) == row.verdict);
        }
    }
}
