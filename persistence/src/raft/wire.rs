//! Messages of a group as they travel: own fixed types in wincode's format, checked field by field when they arrive.
//!
//! raft's own encoding is protobuf, whose parser recurses without bound on hostile bytes (RUSTSEC-2024-0437); it never
//! sees any. What raft keeps in an entry is the commands in wincode's format, without anything sealed: each node
//! seals with its own keys when it writes its log.

use std::sync::Arc;

use engine::{Command, Entry};
use raft::CAMPAIGN_TRANSFER;
use raft::eraftpb::{self, MessageType};
use wincode::{SchemaRead, SchemaWrite};

use super::node_of;
use crate::Last;

/// Version of these messages; stays first for ever.
const VERSION: u8 = 1;
/// Most bytes of a message; one entry of the largest command fits.
pub(super) const MESSAGE_MAX: usize = 12 << 20;
/// Most entries of a message.
const ENTRIES_MAX: usize = 4_096;

/// What travels beside raft's own message.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, SchemaWrite, SchemaRead)]
pub(super) struct About {
    /// Names this life of the sender's disk.
    pub(super) disk: u64,
    /// Whether that disk's votes count.
    pub(super) joined: bool,
    /// Whether the sender stands aside: whoever gives it the lead gets it back.
    pub(super) aside: bool,
    /// From a leader whose term has a committed entry: how far the log is committed. 0 from anybody else.
    pub(super) tip: u64,
}

/// What a message is. The numbers travel: never renumber.
#[derive(Clone, Copy, Debug, PartialEq, Eq, SchemaWrite, SchemaRead)]
enum Kind {
    Append,
    AppendAnswer,
    Vote,
    VoteAnswer,
    Snapshot,
    Beat,
    BeatAnswer,
    StandNow,
    PreVote,
    PreVoteAnswer,
}

const KINDS: [(Kind, MessageType); 10] = [
    (Kind::Append, MessageType::MsgAppend),
    (Kind::AppendAnswer, MessageType::MsgAppendResponse),
    (Kind::Vote, MessageType::MsgRequestVote),
    (Kind::VoteAnswer, MessageType::MsgRequestVoteResponse),
    (Kind::Snapshot, MessageType::MsgSnapshot),
    (Kind::Beat, MessageType::MsgHeartbeat),
    (Kind::BeatAnswer, MessageType::MsgHeartbeatResponse),
    (Kind::StandNow, MessageType::MsgTimeoutNow),
    (Kind::PreVote, MessageType::MsgRequestPreVote),
    (Kind::PreVoteAnswer, MessageType::MsgRequestPreVoteResponse),
];

#[derive(Debug, SchemaWrite, SchemaRead)]
struct WireEntry {
    term: u64,
    commands: Vec<u8>,
}

#[derive(Debug, SchemaWrite, SchemaRead)]
struct Wire {
    version: u8,
    about: About,
    kind: Kind,
    term: u64,
    log_term: u64,
    index: u64,
    commit: u64,
    commit_term: u64,
    reject: bool,
    reject_hint: u64,
    priority: i64,
    /// A vote that is asked for because the leader gave its place away.
    transfer: bool,
    /// Index and term a snapshot reaches; its bytes travel elsewhere.
    snapshot: Option<(u64, u64)>,
    /// From `index + 1` on.
    entries: Vec<WireEntry>,
}

/// A message that arrived.
#[derive(Debug)]
pub(super) struct Arrived {
    pub(super) about: About,
    pub(super) message: eraftpb::Message,
    /// Its entries.
    pub(super) entries: Vec<(u64, Arc<Entry>)>,
    /// Where a snapshot that it offers reaches.
    pub(super) snapshot: Option<Last>,
}

/// The bytes of a message; none for one that never travels.
pub(super) fn encode(about: About, message: &eraftpb::Message) -> Option<Vec<u8>> {
    let (kind, _) = KINDS.into_iter().find(|(_, kind)| *kind == message.get_msg_type())?;
    let snapshot = (kind == Kind::Snapshot).then(|| {
        let metadata = message.get_snapshot().get_metadata();
        (metadata.index, metadata.term)
    });
    let entry = |entry: &eraftpb::Entry| WireEntry { term: entry.term, commands: entry.data.to_vec() };
    let wire = Wire {
        version: VERSION,
        about,
        kind,
        term: message.term,
        log_term: message.log_term,
        index: message.index,
        commit: message.commit,
        commit_term: message.commit_term,
        reject: message.reject,
        reject_hint: message.reject_hint,
        priority: message.priority,
        transfer: message.context == CAMPAIGN_TRANSFER,
        snapshot,
        entries: message.entries.iter().map(entry).collect(),
    };
    wincode::serialize(&wire).ok()
}

/// Reads a message from `from` to `to`; none: it is not one that a member sends.
pub(super) fn decode(bytes: &[u8], from: u64, to: u64) -> Option<Arrived> {
    if bytes.len() > MESSAGE_MAX || bytes.first() != Some(&VERSION) {
        return None;
    }
    let wire: Wire = wincode::deserialize_exact(bytes).ok()?;
    let (_, kind) = KINDS.into_iter().find(|(kind, _)| *kind == wire.kind)?;
    let is_append = wire.kind == Kind::Append;
    // Terms never go back in a log, and nobody sends entries of a later term than its own.
    let terms = wire.entries.iter().map(|entry| entry.term);
    let rising = std::iter::once(wire.log_term).chain(terms.clone()).zip(terms).all(|(a, b)| a <= b);
    let sound = wire.term > 0
        && (is_append || wire.entries.is_empty())
        && wire.entries.len() <= ENTRIES_MAX
        && wire.entries.iter().all(|entry| (1..=wire.term).contains(&entry.term))
        && rising
        && wire.log_term <= wire.term
        && wire.index.checked_add(ENTRIES_MAX as u64).is_some()
        && (wire.kind == Kind::Snapshot) == wire.snapshot.is_some();
    if !sound {
        return None;
    }
    let mut message = eraftpb::Message::default();
    message.set_msg_type(kind);
    (message.from, message.to) = (from, to);
    (message.term, message.log_term, message.index) = (wire.term, wire.log_term, wire.index);
    (message.commit, message.commit_term) = (wire.commit, wire.commit_term);
    (message.reject, message.reject_hint, message.priority) = (wire.reject, wire.reject_hint, wire.priority);
    if wire.transfer {
        message.context = CAMPAIGN_TRANSFER.to_vec().into();
    }
    let mut entries = Vec::with_capacity(wire.entries.len());
    for (place, WireEntry { term, commands }) in wire.entries.into_iter().enumerate() {
        let index = wire.index + 1 + place as u64;
        let commands_read = if commands.is_empty() { Vec::new() } else { read_commands(&commands)? };
        let mut entry = eraftpb::Entry::default();
        (entry.index, entry.term, entry.data) = (index, term, commands.into());
        message.mut_entries().push(entry);
        entries.push((term, Arc::new(Entry { index, commands: commands_read })));
    }
    let snapshot = wire.snapshot.map(|(index, term)| Last { index, term });
    Some(Arrived { about: wire.about, message, entries, snapshot })
}

/// What raft keeps of an entry.
pub(super) fn write_commands(commands: &Vec<Command>) -> Vec<u8> {
    // Fails for one reason only: a list or text beyond the limit of the format, which the edge refuses.
    wincode::serialize(commands).expect("a command that was taken can be encoded")
}

fn read_commands(bytes: &[u8]) -> Option<Vec<Command>> {
    wincode::deserialize_exact(bytes).ok()
}

/// In words, for a line of the log.
pub(super) fn describe(message: &eraftpb::Message) -> String {
    format!("{:?} from {} in term {}", message.get_msg_type(), node_of(message.from), message.term)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn sample() -> eraftpb::Message {
        let mut message = eraftpb::Message::default();
        message.set_msg_type(MessageType::MsgAppend);
        (message.from, message.to, message.term, message.index, message.log_term) = (1, 2, 7, 4, 5);
        for (index, term) in [(5, 5), (6, 7)] {
            let mut entry = eraftpb::Entry::default();
            (entry.index, entry.term) = (index, term);
            entry.data = write_commands(&Vec::new()).into();
            message.mut_entries().push(entry);
        }
        message
    }

    #[test]
    fn every_kind_comes_back_as_it_was() {
        let about = About { disk: 77, joined: true, aside: true, tip: 3 };
        for (_, kind) in KINDS {
            let mut message = if kind == MessageType::MsgAppend { sample() } else { eraftpb::Message::default() };
            message.set_msg_type(kind);
            (message.from, message.to, message.term, message.commit) = (1, 2, 7, 9);
            (message.reject, message.reject_hint, message.priority) = (true, 3, -1);
            if kind == MessageType::MsgSnapshot {
                let metadata = message.mut_snapshot().mut_metadata();
                (metadata.index, metadata.term) = (12, 6);
            }
            let bytes = encode(about, &message).expect("it travels");
            let arrived = decode(&bytes, 1, 2).expect("it is read");
            assert_eq!(arrived.about, about);
            if kind == MessageType::MsgSnapshot {
                assert_eq!(arrived.snapshot, Some(Last { index: 12, term: 6 }));
            } else {
                assert_eq!(arrived.message, message);
            }
        }
        let mut local = eraftpb::Message::default();
        local.set_msg_type(MessageType::MsgHup);
        assert!(encode(about, &local).is_none());
    }

    #[test]
    fn entries_of_impossible_terms_are_refused() {
        for (log_term, first, second) in [(6, 5, 7), (5, 7, 6), (5, 5, 8), (5, 0, 7)] {
            let mut message = sample();
            message.log_term = log_term;
            message.mut_entries()[0].term = first;
            message.mut_entries()[1].term = second;
            let bytes = encode(About::default(), &message).expect("encoded");
            assert!(decode(&bytes, 1, 2).is_none(), "{log_term} {first} {second}");
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(2_000))]

        #[test]
        fn hostile_bytes_are_read_or_refused(mut bytes in prop::collection::vec(any::<u8>(), 0..400)) {
            if let Some(first) = bytes.first_mut() {
                *first = VERSION;
            }
            if let Some(arrived) = decode(&bytes, 1, 2) {
                prop_assert!(arrived.message.entries.len() == arrived.entries.len());
            }
        }

        #[test]
        fn a_changed_byte_is_read_or_refused(place in 0usize..200, value in any::<u8>(), cut in 0usize..200) {
            let mut bytes = encode(About::default(), &sample()).expect("encoded");
            let length = bytes.len();
            bytes[place % length] = value;
            let at = cut % length;
            if let Some(arrived) = decode(&bytes, 1, 2) {
                prop_assert!(arrived.message.term > 0);
            }
            prop_assert!(decode(&bytes[..at], 1, 2).is_none(), "nothing cut off is a message");
        }
    }
}
