//! Looking at a data folder without a running node: every record as a line of JSON, and a verdict on each file.
//!
//! Reads only and takes no lock, so a running node is not disturbed (a flush that is under way then looks like a torn
//! tail). Needs no keys: secret parts stay sealed. With keys what is sealed as a whole is checked to its end.

use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use serde::Serialize;

use crate::checkpoint::hex;
use crate::codec;
use crate::disk::Disk;
use crate::error::OpenError;
use crate::format::{RecordHeader, SEGMENT_HEADER, record_len};
use crate::meta::Meta;
use crate::scan::{Scan, read, record_at, scan};
use crate::segment::Identity;
use crate::tree_check::{Checked, check};
use crate::tree_heads::TreeHead;
use crate::{Keys, Kind, uuid_text};

/// What an inspection found; the number is the exit code.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Soundness {
    /// Everything is sound.
    Sound = 0,
    /// The last flush is torn; a start cuts it.
    Torn = 1,
    /// Something that was durable is damaged or missing; a start is refused.
    Corrupt = 2,
    /// The folder can't be read: another version, no folder, no permission.
    Unreadable = 3,
}

#[derive(Serialize)]
struct RecordLine<'a> {
    file: String,
    offset: usize,
    kind: &'a str,
    shard: u16,
    term: u64,
    index: u64,
    /// Which entry of all shards it is, from 1.
    #[serde(skip_serializing_if = "Option::is_none")]
    seq: Option<u64>,
    length: u32,
    synced: u32,
    schema: u8,
    /// The number of the data key under which all of the record is sealed.
    #[serde(skip_serializing_if = "Option::is_none")]
    data_key: Option<String>,
    /// Of a tree head: the leaves, and the root over them.
    #[serde(skip_serializing_if = "Option::is_none")]
    size: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    root: Option<String>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    commands: Vec<CommandLine>,
}

#[derive(Serialize)]
struct CommandLine {
    at: i64,
    action: String,
    organisation: String,
    request: String,
    sealed: bool,
}

#[derive(Serialize)]
struct FileLine {
    file: String,
    sequence: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    records_end: Option<usize>,
    result: &'static str,
}

/// Writes one line of JSON for each record of the data folder `dir`, oldest first, then what [`verify`] would end with.
pub fn inspect(disk: &dyn Disk, dir: &Path, out: &mut dyn Write) -> io::Result<Soundness> {
    let (found, soundness, _) = look(disk, dir, None, out)?;
    let Some(found) = found else { return Ok(soundness) };
    for file in &found.used {
        let base = file.opening.iter().flat_map(|opening| &opening.base);
        let mut position: u64 = base.map(|last| last.index).sum();
        let bytes = match read(disk, &file.path) {
            Ok(bytes) => bytes,
            Err(error) => return tell(&error, out),
        };
        let mut offset = SEGMENT_HEADER;
        while let Some(record) = record_at(&bytes, &file.header, offset, file.end) {
            let RecordHeader { length, index, term, synced, shard, schema, .. } = record.header;
            let commands = if record.kind.is_entry() && file.header.seal.is_none() {
                codec::decode_stored(record.payload, schema).unwrap_or_default()
            } else {
                Vec::new()
            };
            let commands = commands.into_iter().map(|command| CommandLine {
                at: command.envelope.at.0,
                action: action_name(&command.action),
                organisation: uuid_text(command.envelope.organisation.0),
                request: uuid_text(command.envelope.request.0),
                sealed: command.sealed.is_some(),
            });
            position += u64::from(record.kind.is_entry());
            let is_head = record.kind == Kind::TreeHead && file.header.seal.is_none();
            let head = is_head.then(|| TreeHead::read(index, schema, record.payload)).flatten();
            let line = RecordLine {
                seq: record.kind.is_entry().then_some(position),
                file: file_name(&file.path),
                offset,
                kind: kind_name(record.kind),
                shard,
                term,
                index,
                length,
                synced,
                schema,
                data_key: file.header.seal.map(|seal| format!("{:016x}", seal.data_key)),
                size: head.as_ref().map(TreeHead::size),
                root: head.as_ref().map(|head| hex(&head.root())),
                commands: commands.collect(),
            };
            write_line(&line, out)?;
            offset += record_len(record.payload.len());
        }
    }
    end(&found, None, None, out)?;
    Ok(soundness)
}

/// Checks every record of the data folder `dir`, hashes all entries that can be read, and holds them against the tree heads
/// in the log and the signed roots beside it. Writes one line of JSON for each segment, then one for the whole.
pub fn verify(disk: &dyn Disk, dir: &Path, out: &mut dyn Write) -> io::Result<Soundness> {
    verify_with(disk, dir, None, out)
}

/// As [`verify`]; with `keys`, what is sealed as a whole is opened and hashed as well. Keys that don't open all of it are
/// not used, and the last line says why.
pub fn verify_with(
    disk: &dyn Disk,
    dir: &Path,
    keys: Option<&Arc<Keys>>,
    out: &mut dyn Write,
) -> io::Result<Soundness> {
    let (found, soundness, refused) = look(disk, dir, keys, out)?;
    let keys = keys.filter(|_| refused.is_none());
    let Some(found) = found else { return Ok(soundness) };
    for file in &found.used {
        let torn = found.cuts.iter().any(|cut| cut.file == file.path);
        let line = FileLine {
            file: file_name(&file.path),
            sequence: file.header.sequence,
            records_end: Some(file.end),
            result: if torn { "torn tail" } else { "sound" },
        };
        write_line(&line, out)?;
    }
    for file in &found.prepared {
        let torn = found.cuts.iter().any(|cut| cut.file == file.path);
        let line = FileLine {
            file: file_name(&file.path),
            sequence: file.header.sequence,
            records_end: None,
            result: if torn { "torn tail" } else { "not used yet" },
        };
        write_line(&line, out)?;
    }
    match check(disk, dir, &found, keys.map(AsRef::as_ref)) {
        Ok(checked) => end(&found, Some(checked), refused, out)?,
        Err(error) => return tell(&error, out),
    }
    Ok(soundness)
}

/// What the folder holds, how sound it is, and why the keys could not be used.
fn look(
    disk: &dyn Disk,
    dir: &Path,
    keys: Option<&Arc<Keys>>,
    out: &mut dyn Write,
) -> io::Result<(Option<Scan>, Soundness, Option<String>)> {
    let meta = match Meta::read(disk, dir) {
        Ok(Some(meta)) => meta,
        Ok(None) => {
            let error = io::Error::new(io::ErrorKind::NotFound, "no data folder: the file `meta` is missing");
            return Ok((None, tell(&OpenError::Disk { path: dir.to_owned(), error }, out)?, None));
        }
        Err(error) => return Ok((None, tell(&error, out)?, None)),
    };
    let identity = Identity { cluster: meta.cluster, history: meta.history, shards: meta.shards };
    let scan_with = |keys| scan(disk, &dir.join("log"), identity, keys, false);
    let (found, refused) = match (scan_with(keys), keys) {
        (Err(OpenError::Keys(error)), Some(_)) => (scan_with(None), Some(error.to_string())),
        (found, _) => (found, None),
    };
    match found {
        Ok(found) => {
            let soundness = if found.cuts.is_empty() { Soundness::Sound } else { Soundness::Torn };
            Ok((Some(found), soundness, refused))
        }
        Err(error) => Ok((None, tell(&error, out)?, refused)),
    }
}

#[derive(Serialize)]
struct ErrorLine {
    result: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    file: Option<PathBuf>,
    #[serde(skip_serializing_if = "Option::is_none")]
    offset: Option<u64>,
    error: String,
}

/// Writes what is wrong, and says how bad it is.
fn tell(error: &OpenError, out: &mut dyn Write) -> io::Result<Soundness> {
    let (soundness, file, offset) = match error {
        OpenError::Corrupt(corruption) => {
            (Soundness::Corrupt, Some(corruption.file.clone()), Some(corruption.offset))
        }
        OpenError::Entry { file, offset, .. } => (Soundness::Corrupt, Some(file.clone()), Some(*offset)),
        OpenError::Foreign { file, .. } => (Soundness::Corrupt, Some(file.clone()), None),
        OpenError::Version { file, .. } => (Soundness::Unreadable, Some(file.clone()), None),
        OpenError::Disk { path, .. } => (Soundness::Unreadable, Some(path.clone()), None),
        OpenError::Locked { .. } | OpenError::Option { .. } | OpenError::Keys(_) => {
            (Soundness::Unreadable, None, None)
        }
    };
    let result = if soundness == Soundness::Corrupt { "corrupt" } else { "unreadable" };
    write_line(&ErrorLine { result, file, offset, error: error.to_string() }, out)?;
    Ok(soundness)
}

#[derive(Serialize)]
struct EndLine {
    result: &'static str,
    segments: usize,
    records: u64,
    last: Vec<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    cut: Option<String>,
    /// Tree heads that the entries give, those for which not all entries could be hashed, and signed roots that they give.
    #[serde(skip_serializing_if = "Option::is_none")]
    tree_heads: Option<HeadsLine>,
    /// Why what is sealed as a whole was not opened, although there are keys.
    #[serde(skip_serializing_if = "Option::is_none")]
    keys_not_used: Option<String>,
}

#[derive(Serialize)]
struct HeadsLine {
    checked: u64,
    unchecked: u64,
    signed_roots: u64,
}

fn end(
    found: &Scan,
    checked: Option<Checked>,
    keys_not_used: Option<String>,
    out: &mut dyn Write,
) -> io::Result<()> {
    let cut = found.cuts.first();
    let line = EndLine {
        result: if cut.is_some() { "torn tail" } else { "sound" },
        segments: found.used.len(),
        records: found.records,
        last: found.last.iter().map(|last| last.index).collect(),
        cut: cut.map(|cut| format!("{}, offset {}: {}", cut.file.display(), cut.offset, cut.found)),
        tree_heads: checked.map(|Checked { heads, unchecked, roots }| HeadsLine {
            checked: heads,
            unchecked,
            signed_roots: roots,
        }),
        keys_not_used,
    };
    write_line(&line, out)
}

fn write_line(line: &impl Serialize, out: &mut dyn Write) -> io::Result<()> {
    serde_json::to_writer(&mut *out, line)?;
    out.write_all(b"\n")
}

fn file_name(path: &Path) -> String {
    path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default()
}

fn kind_name(kind: Kind) -> &'static str {
    match kind {
        Kind::Entry => "entry",
        Kind::Open => "open",
        Kind::Vote => "vote",
        Kind::Skip => "skip",
        Kind::TreeHead => "tree_head",
    }
}

/// The variant's name alone: fields may hold prices.
fn action_name(action: &engine::Action) -> String {
    let text = match action {
        engine::Action::Account(account) => format!("{account:?}"),
        action => format!("{action:?}"),
    };
    text.split([' ', '{', '(']).next().unwrap_or_default().to_owned()
}
