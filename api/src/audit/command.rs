//! `reversetender audit verify`: reads a document and roots from elsewhere, says what holds, or the first thing that
//! does not. Needs no server and no data directory.

use std::fs::File;
use std::io::{Read, Write};
use std::path::{Path, PathBuf};

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use indicatif::{ProgressBar, ProgressStyle};
use persistence::checkpoint::{Checkpoint, hex, unhex};
use serde::Deserialize;

use super::document::{Hex, Kind, ReaderWord};
use super::replay::Replayed;
use super::verify::{Against, Outside, Verified, VerifyError, Wrong, read, verify};
use crate::body::TimeText;
use crate::text;

/// Why nothing could be checked.
#[derive(Debug, thiserror::Error)]
pub enum CommandError {
    /// A file can't be read.
    #[error("{}: {error}", .path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// Why.
        error: String,
    },
    /// The key is none.
    #[error(
        "--key {0}: a public key is 64 hexadecimal digits, or the 43 characters of `x` in /.well-known/jwks.json"
    )]
    Key(String),
}

/// What was found out.
#[derive(Debug)]
pub enum Outcome {
    /// Everything holds.
    Holds(Box<Verified>),
    /// This does not.
    Broken(Wrong),
}

/// Checks the document in `file`. `key`: what must have signed it, as it is written on the command line; `kept`: files
/// with roots that were kept elsewhere.
///
/// # Errors
/// A file can't be read, or is no such document; the key is none.
pub fn run(file: &Path, key: Option<&str>, kept: &[PathBuf]) -> Result<Outcome, CommandError> {
    let mut against = Against { key: key.map(read_key).transpose()?, checkpoints: Vec::new() };
    for path in kept {
        against.checkpoints.append(&mut read_kept(path)?);
    }
    let bytes = read_file(file)?;
    let document = match read(&bytes) {
        Ok(document) => document,
        Err(VerifyError::Wrong(wrong)) => return Ok(Outcome::Broken(wrong)),
        Err(error) => return Err(CommandError::File { path: file.to_owned(), error: error.to_string() }),
    };
    drop(bytes);
    let bar = bar("Checking", "{pos}/{len} steps");
    let checked = verify(&document, &against, &mut |done, all| {
        bar.set_length(all);
        bar.set_position(done);
    });
    bar.finish_and_clear();
    Ok(checked.map_or_else(Outcome::Broken, |verified| Outcome::Holds(Box::new(verified))))
}

/// A bar on standard error, if that is a terminal.
fn bar(what: &'static str, unit: &str) -> ProgressBar {
    let template = format!("{{msg}} [{{bar:30}}] {unit}, {{eta}} left");
    let style = ProgressStyle::with_template(&template).expect("the template is right").progress_chars("=> ");
    ProgressBar::new(0).with_style(style).with_message(what)
}

fn read_file(path: &Path) -> Result<Vec<u8>, CommandError> {
    let failed = |error: std::io::Error| CommandError::File { path: path.to_owned(), error: error.to_string() };
    let file = File::open(path).map_err(failed)?;
    let bar = bar("Reading", "{bytes}/{total_bytes}");
    let len = file.metadata().map_err(failed)?.len();
    bar.set_length(len);
    let mut bytes = Vec::with_capacity(usize::try_from(len).unwrap_or(0));
    bar.wrap_read(file).read_to_end(&mut bytes).map_err(failed)?;
    bar.finish_and_clear();
    Ok(bytes)
}

fn read_key(text: &str) -> Result<[u8; 32], CommandError> {
    let bytes = unhex(text).or_else(|| URL_SAFE_NO_PAD.decode(text).ok());
    bytes.and_then(|bytes| bytes.try_into().ok()).ok_or_else(|| CommandError::Key(text.to_owned()))
}

/// Reads roots as the feed pushes them, one a line; lines of other pushes are passed by.
fn read_kept(path: &Path) -> Result<Vec<Outside>, CommandError> {
    #[derive(Deserialize)]
    struct Line {
        p: Option<String>,
        size: Option<u64>,
        root: Option<Hex<32>>,
        at: Option<TimeText>,
        sig: Option<Hex<64>>,
        shard: Option<u16>,
        epoch: Option<String>,
    }
    let wrong = |error: String| CommandError::File { path: path.to_owned(), error };
    let text = String::from_utf8(read_file(path)?).map_err(|error| wrong(error.to_string()))?;
    let mut found = Vec::new();
    for (number, line) in (1..).zip(text.lines()).filter(|(_, line)| !line.trim().is_empty()) {
        let line: Line = serde_json::from_str(line).map_err(|error| wrong(format!("line {number}: {error}")))?;
        match line {
            Line { p: Some(p), .. } if p != "checkpoint" => {}
            Line {
                size: Some(size),
                root: Some(root),
                at: Some(at),
                sig: Some(sig),
                shard: Some(shard),
                epoch: Some(epoch),
                ..
            } => {
                let checkpoint = Checkpoint { shard, size, root: root.0, at: at.0, signature: sig.0 };
                found.push(Outside { place: format!("{} line {number}", path.display()), checkpoint, epoch });
            }
            _ => return Err(wrong(format!("line {number}: no `checkpoint` of the feed: a field is missing"))),
        }
    }
    if found.is_empty() { Err(wrong("there is no `checkpoint` in it".into())) } else { Ok(found) }
}

/// Tells what holds, and what was not looked at.
///
/// # Errors
/// It can't be written.
pub fn tell(verified: &Verified, key_given: bool, out: &mut dyn Write) -> std::io::Result<()> {
    let Verified { claims, roots, proved, outside, replayed } = verified;
    let kind = match claims.kind {
        Kind::Export => "Export",
        Kind::Receipt => "Receipt",
    };
    let reader = match claims.reader {
        ReaderWord::Buyer => "its buyer",
        ReaderWord::Bidder => "a bidder",
    };
    let (tender, at) = (text::id(claims.tender.0), text::time(claims.at.0));
    writeln!(
        out,
        "{kind} of tender {tender} for {reader}, as of {at}, epoch {}, shard {}",
        claims.epoch, claims.shard
    )?;
    writeln!(out, "holds: claims, signed by the key {} ({})", hex(&claims.key.0), claims.kid)?;
    if let Some(last) = claims.handovers.last() {
        let (count, at) = (claims.handovers.len(), text::time(last.at.0));
        writeln!(
            out,
            "holds: the key was handed over {count} times, each signed by the one before, last at {at}"
        )?;
    }
    if !key_given {
        writeln!(
            out,
            "note:  the key is the one that the file names; compare it with one from elsewhere (--key)"
        )?;
    }
    writeln!(
        out,
        "holds: {} signed roots, each grown out of the one before, the last of {} leaves",
        roots.0, roots.1
    )?;
    let links = if claims.chain.is_some() { ", the chain without a gap" } else { "" };
    writeln!(
        out,
        "holds: {} commands give their leaf hashes{links}, {proved} are in the last root",
        claims.commands
    )?;
    if *outside > 0 {
        writeln!(out, "holds: {outside} roots that were kept elsewhere agree")?;
    } else {
        writeln!(
            out,
            "note:  no roots from elsewhere were compared (--checkpoints): whoever has the key can make all of this"
        )?;
    }
    match replayed {
        Replayed::Same { lots, decisions } => {
            writeln!(
                out,
                "holds: the engine decides the same: {decisions} decisions and the results of {lots} lots"
            )
        }
        Replayed::Not(why) => writeln!(out, "note:  not run through the engine: {why}"),
    }
}
