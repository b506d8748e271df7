//! Checks an export or a receipt without a server: leaves, chain, tree, signatures, and what the engine decides.
//!
//! Believes nothing but the key. Stops at the first thing that does not hold, and names it.

use std::fmt::Display;

use engine::{Action, Command, OrganisationId, Secret, TenderId};
use persistence::checkpoint::{Checkpoint, Handover, hex, is_signed};
use persistence::merkle::{Hash, is_consistent, root_of_inclusion};
use persistence::{Head, leaf_of, offer_digest, read_public_part, salted_digest};
use serde::de::DeserializeOwned;

use super::document::{
    CheckpointLine, Claims, CommandLine, Document, FORMAT, Hex, InterruptionLine, Kind, OpenLine, ReaderWord,
    SecretLine, action_word, claims_text, offered_price,
};
use super::replay::{Known, Replayed, replay};
use crate::text;

/// The first thing that does not hold.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{place}: expected {expected}; there is {found}")]
pub struct Wrong {
    /// Where in the document, such as `commands[17].leaf`.
    pub place: String,
    /// What should be there.
    pub expected: String,
    /// What is there.
    pub found: String,
}

impl Wrong {
    /// At `place` there is something else than expected.
    pub fn new(place: impl Into<String>, expected: impl Display, found: impl Display) -> Self {
        Self { place: place.into(), expected: expected.to_string(), found: found.to_string() }
    }
}

/// Why a document is not verified.
#[derive(Debug, thiserror::Error)]
pub enum VerifyError {
    /// It can't be read at all.
    #[error("this is no export or receipt: {0}")]
    Unreadable(String),
    /// Something in it does not hold.
    #[error(transparent)]
    Wrong(#[from] Wrong),
}

/// What a document is held against besides itself.
#[derive(Clone, Debug, Default)]
pub struct Against {
    /// The key that must have signed; without it the one that the document names.
    pub key: Option<[u8; 32]>,
    /// Roots that were kept elsewhere, as the feed pushed them.
    pub checkpoints: Vec<Outside>,
}

/// A root that was kept elsewhere.
#[derive(Clone, Debug)]
pub struct Outside {
    /// Where it was found, for the error.
    pub place: String,
    /// The root.
    pub checkpoint: Checkpoint,
    /// The history it is of.
    pub epoch: String,
}

/// What holds.
#[derive(Clone, Debug)]
pub struct Verified {
    /// What the document claims.
    pub claims: Claims,
    /// How many roots were checked, and the size of the largest tree.
    pub roots: (usize, u64),
    /// How many commands are proved to be in the tree.
    pub proved: usize,
    /// How many roots from elsewhere agree.
    pub outside: usize,
    /// What the engine says.
    pub replayed: Replayed,
}

/// How far the checks are: `done` of `all` steps.
pub type Progress<'a> = &'a mut dyn FnMut(u64, u64);

/// Reads a document, or an answer of the receipt route, which has one under `audit`.
///
/// # Errors
/// It is no JSON, or not of this form; a field that can't be right is named.
pub fn read(bytes: &[u8]) -> Result<Document, VerifyError> {
    let unreadable = |error: serde_json::Error| VerifyError::Unreadable(error.to_string());
    #[derive(serde::Deserialize)]
    struct Answer {
        audit: Option<serde::de::IgnoredAny>,
    }
    #[derive(serde::Deserialize)]
    struct Receipt {
        audit: Document,
    }
    // Told apart first, so that an error names the field.
    let answer: Answer = serde_json::from_slice(bytes).map_err(unreadable)?;
    if answer.audit.is_some() { Ok(parse::<Receipt>(bytes)?.audit) } else { parse(bytes) }
}

fn parse<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, VerifyError> {
    let mut json = serde_json::Deserializer::from_slice(bytes);
    serde_path_to_error::deserialize(&mut json).map_err(|error| {
        let place = error.path().to_string();
        let what = error.inner().to_string();
        if place == "." {
            VerifyError::Unreadable(what)
        } else {
            Wrong::new(place, "what the format says", what).into()
        }
    })
}

/// Checks everything that can be checked.
///
/// # Errors
/// The first thing that does not hold.
pub fn verify(document: &Document, against: &Against, progress: Progress<'_>) -> Result<Verified, Wrong> {
    if document.format != FORMAT {
        return Err(Wrong::new("format", FORMAT, &document.format));
    }
    let claims: Claims = serde_path_to_error::deserialize(document.claims.clone())
        .map_err(|error| Wrong::new(format!("claims.{}", error.path()), "what the format says", error.inner()))?;
    let key = claims.key.0;
    let keys = check_keys(&claims)?;
    if let Some(wanted) = against.key.filter(|wanted| !keys.contains(wanted)) {
        let expected = format!("the key {}, or one that it handed over to", hex(&wanted));
        return Err(Wrong::new("claims.key", expected, claims.key));
    }
    let all = 2 * document.commands.len() as u64;
    let last = check_roots(document, &claims, &keys)?;
    let mut chain = Chain::new(&claims);
    let (mut known, mut unknown) = (Vec::new(), None);
    let mut proved = 0;
    for (place, line) in document.commands.iter().enumerate() {
        let at = format!("commands[{place}]");
        let (command, is_whole) = check_command(&at, line, &claims)?;
        chain.push(&at, line)?;
        proved += usize::from(check_inclusion(&at, line, last.as_ref(), &claims)?);
        if is_whole {
            let (leaf, number) = (line.leaf_index, line.number.unwrap_or(0));
            known.push(Known { leaf, number, command });
        } else {
            unknown.get_or_insert_with(|| format!("the secret part of {at} is not open, as that of every limit"));
        }
        progress(place as u64 + 1, all);
    }
    chain.end(document.commands.len())?;
    for (place, line) in claims.interruptions.iter().enumerate() {
        check_interruption(&format!("claims.interruptions[{place}]"), line, last.as_ref())?;
    }
    check_receipt(document, &claims)?;
    // Last, because it says only that something was changed, not what.
    if !is_signed(&key, claims_text(&document.claims).as_bytes(), &document.sig.0) {
        let expected = format!("a signature of the key {} over the claims", hex(&key));
        return Err(Wrong::new(
            "sig",
            expected,
            "one that does not fit: a claim was changed, or another key signed",
        ));
    }
    let outside = against.checkpoints.iter().map(|outside| check_outside(outside, document, &claims, &keys));
    let outside = outside.collect::<Result<Vec<()>, Wrong>>()?.len();
    let why = match (claims.kind, claims.reader, &claims.chain, unknown) {
        (Kind::Receipt, ..) => Some("a receipt has one command only".to_owned()),
        (_, ReaderWord::Bidder, ..) => Some("the export has the commands of one bidder only".to_owned()),
        (_, _, Some(chain), _) if chain.from.count > 0 => Some("the tender is older than its audit".to_owned()),
        (_, _, None, _) => Some("there are no commands".to_owned()),
        (.., unknown) => unknown,
    };
    let mut done = document.commands.len() as u64;
    let replayed = match why {
        Some(why) => Replayed::Not(why),
        None => replay(&claims, known, || {
            done += 1;
            progress(done, all);
        })?,
    };
    let roots = (document.checkpoints.len(), last.map_or(0, |last| last.size));
    Ok(Verified { claims, roots, proved, outside, replayed })
}

/// The keys that may have signed roots, oldest first: each handed over to the next, the last one to nobody. The last
/// one signs the claims and so vouches for those before it.
fn check_keys(claims: &Claims) -> Result<Vec<[u8; 32]>, Wrong> {
    let mut keys: Vec<[u8; 32]> = Vec::new();
    for (place, line) in claims.handovers.iter().enumerate() {
        let at = format!("claims.handovers[{place}]");
        let handover = Handover { from: line.from.0, to: line.to.0, at: line.at.0, signature: line.sig.0 };
        if place > 0 && claims.handovers[place - 1].to != line.from {
            let expected = format!("{}, the key that was handed over to", claims.handovers[place - 1].to);
            return Err(Wrong::new(format!("{at}.from"), expected, line.from));
        }
        if !handover.is_signed() {
            let expected = format!("a signature of the key {} over the next", line.from);
            return Err(Wrong::new(format!("{at}.sig"), expected, "one that does not fit"));
        }
        keys.push(line.from.0);
    }
    if let Some(last) = claims.handovers.last().filter(|last| last.to != claims.key) {
        return Err(Wrong::new("claims.key", format!("{}, the key that was handed over to", last.to), claims.key));
    }
    keys.push(claims.key.0);
    Ok(keys)
}

/// Checks the signed roots among each other; answers that of the largest tree. None is signed by an older key than a
/// smaller one is.
fn check_roots(document: &Document, claims: &Claims, keys: &[[u8; 32]]) -> Result<Option<CheckpointLine>, Wrong> {
    let mut before: Option<&CheckpointLine> = None;
    let mut keys = keys;
    for (place, line) in document.checkpoints.iter().enumerate() {
        let at = format!("checkpoints[{place}]");
        let checkpoint = Checkpoint {
            shard: claims.shard,
            size: line.size,
            root: line.root.0,
            at: line.at.0,
            signature: line.sig.0,
        };
        let Some(signed) = keys.iter().position(|key| checkpoint.is_signed_by(key, &claims.epoch)) else {
            let names: Vec<String> = keys.iter().map(|key| hex(key)).collect();
            let expected = format!("a signature of the key {} over size, root and time", names.join(" or "));
            return Err(Wrong::new(format!("{at}.sig"), expected, "one that does not fit"));
        };
        keys = &keys[signed..];
        let proof: Vec<Hash> = line.consistency.iter().map(|hash| hash.0).collect();
        match before {
            None if proof.is_empty() => {}
            None => return Err(Wrong::new(format!("{at}.consistency"), "nothing, it is the first", "a proof")),
            Some(before) if before.size >= line.size => {
                return Err(Wrong::new(format!("{at}.size"), format!("more than {}", before.size), line.size));
            }
            Some(before) => {
                if !is_consistent(before.size, &before.root.0, line.size, &line.root.0, &proof) {
                    let expected = format!(
                        "a proof that the tree of {} leaves begins with that of {}",
                        line.size, before.size
                    );
                    return Err(Wrong::new(format!("{at}.consistency"), expected, "one that does not lead there"));
                }
            }
        }
        before = Some(line);
    }
    Ok(before.cloned())
}

/// Checks a command by itself; answers it, and whether it is known in full.
fn check_command(at: &str, line: &CommandLine, claims: &Claims) -> Result<(Command, bool), Wrong> {
    let (mut envelope, action) = read_public_part(&line.public.0)
        .map_err(|error| Wrong::new(format!("{at}.public"), "envelope and action of a command", error))?;
    let (digest, salt, secret, is_whole) = match (&line.secret, line.salt) {
        (None, Some(salt)) => (salted_digest(salt.0, &[]), salt.0, None, true),
        (Some(SecretLine::Hidden { digest }), None) => (digest.0, [0; 16], None, false),
        (Some(SecretLine::Open(open)), None) => {
            let secret = check_open(&format!("{at}.secret.open"), open)?;
            (salted_digest(open.salt.0, &open.clear.0), open.salt.0, Some(secret), true)
        }
        (Some(SecretLine::Price { open, limit }), None) => {
            let secret = check_open(&format!("{at}.secret.price.open"), open)?;
            let price = salted_digest(open.salt.0, &open.clear.0);
            (offer_digest(&price, &limit.0), [0; 16], Some(secret), false)
        }
        _ => return Err(Wrong::new(at, "a salt or a secret part", "both or none")),
    };
    let leaf = leaf_of(&line.public.0, &digest);
    if leaf != line.leaf.0 {
        return Err(Wrong::new(
            format!("{at}.leaf"),
            format!("{}, the hash of what is shown", hex(&leaf)),
            line.leaf,
        ));
    }
    let field = |name: &str, ours: String, theirs: String| {
        if ours == theirs { Ok(()) } else { Err(Wrong::new(format!("{at}.{name}"), ours, theirs)) }
    };
    field("at", text::time(envelope.at), text::time(line.at.0))?;
    field("action", action_word(&action).to_owned(), line.action.clone())?;
    field("organisation", text::id(envelope.organisation.0), text::id(line.organisation.0))?;
    field("request", text::id(envelope.request.0), text::id(line.request.0))?;
    let tender = action.tender();
    if tender != Some(TenderId(claims.tender.0)) {
        let found = tender.map_or_else(|| "none".to_owned(), |tender| text::id(tender.0));
        return Err(Wrong::new(
            format!("{at}.public"),
            format!("a command of tender {}", text::id(claims.tender.0)),
            found,
        ));
    }
    if claims.reader == ReaderWord::Bidder && envelope.organisation != OrganisationId(claims.organisation.0) {
        let expected = format!("a command of {}", text::id(claims.organisation.0));
        return Err(Wrong::new(format!("{at}.organisation"), expected, text::id(envelope.organisation.0)));
    }
    envelope.salt = salt;
    Ok((Command { envelope, action, secret }, is_whole))
}

fn check_open(at: &str, open: &OpenLine) -> Result<Secret, Wrong> {
    let secret: Secret = wincode::deserialize_exact(&open.clear.0)
        .map_err(|error| Wrong::new(format!("{at}.clear"), "a secret part", error))?;
    let price = offered_price(&secret);
    if price != open.price {
        let word = |price: &Option<String>| price.clone().unwrap_or_else(|| "null".to_owned());
        return Err(Wrong::new(format!("{at}.price"), word(&price), word(&open.price)));
    }
    Ok(secret)
}

/// The chain, and the order in the tree.
struct Chain<'a> {
    claims: &'a Claims,
    /// The head behind the command before, where the commands are all of the chain.
    head: Option<Head>,
    leaf: Option<u64>,
}

impl<'a> Chain<'a> {
    fn new(claims: &'a Claims) -> Self {
        let head = claims.chain.as_ref().map(|chain| Head { count: chain.from.count, hash: chain.from.head.0 });
        Self { claims, head, leaf: None }
    }

    fn push(&mut self, at: &str, line: &CommandLine) -> Result<(), Wrong> {
        if let Some(before) = self.leaf
            && line.leaf_index <= before
        {
            return Err(Wrong::new(format!("{at}.leaf_index"), format!("more than {before}"), line.leaf_index));
        }
        self.leaf = Some(line.leaf_index);
        if self.claims.reader == ReaderWord::Buyer {
            let Some(head) = self.head else {
                return Err(Wrong::new("claims.chain", "the ends of the chain", "null"));
            };
            if line.number != Some(head.count + 1) {
                let found = line.number.map_or_else(|| "null".to_owned(), |number| number.to_string());
                return Err(Wrong::new(format!("{at}.number"), head.count + 1, found));
            }
            if line.before.0 != head.hash {
                let expected = format!("{}, the head behind the command before", hex(&head.hash));
                return Err(Wrong::new(format!("{at}.before"), expected, line.before));
            }
        } else if let Some(number) = line.number {
            return Err(Wrong::new(format!("{at}.number"), "null", number));
        }
        let mut head = Head { count: self.head.map_or(0, |head| head.count), hash: line.before.0 };
        head.push(line.leaf.0);
        if head.hash != line.head.0 {
            return Err(Wrong::new(format!("{at}.head"), hex(&head.hash), line.head));
        }
        self.head = self.head.map(|_| head);
        Ok(())
    }

    fn end(&self, count: usize) -> Result<(), Wrong> {
        if self.claims.commands != count as u64 {
            return Err(Wrong::new(
                "commands",
                format!("{} of them", self.claims.commands),
                format!("{count} of them"),
            ));
        }
        if let (Some(chain), Some(head)) = (&self.claims.chain, self.head) {
            if chain.from.count == 0 && chain.from.head.0 != [0; 32] {
                return Err(Wrong::new("claims.chain.from.head", hex(&[0; 32]), chain.from.head));
            }
            if head.count != chain.to.count {
                return Err(Wrong::new("claims.chain.to.count", head.count, chain.to.count));
            }
            if head.hash != chain.to.head.0 {
                return Err(Wrong::new("claims.chain.to.head", hex(&head.hash), chain.to.head));
            }
        }
        Ok(())
    }
}

/// Whether the command is proved to be in the tree.
fn check_inclusion(
    at: &str,
    line: &CommandLine,
    last: Option<&CheckpointLine>,
    claims: &Claims,
) -> Result<bool, Wrong> {
    let Some(proof) = &line.proof else {
        // Only what is newer than the newest root can be without.
        return match last {
            Some(last) if line.leaf_index < last.size || claims.kind == Kind::Export => {
                Err(Wrong::new(format!("{at}.proof"), "a proof of inclusion", "null"))
            }
            _ if claims.kind == Kind::Export => Err(Wrong::new("checkpoints", "a signed root", "none")),
            _ => Ok(false),
        };
    };
    check_proof(at, line.leaf_index, &line.leaf, proof, last)?;
    Ok(true)
}

fn check_proof(
    at: &str,
    index: u64,
    leaf: &Hex<32>,
    proof: &[Hex<32>],
    last: Option<&CheckpointLine>,
) -> Result<(), Wrong> {
    let Some(last) = last else { return Err(Wrong::new("checkpoints", "a signed root", "none")) };
    let hashes: Vec<Hash> = proof.iter().map(|hash| hash.0).collect();
    let root = root_of_inclusion(&leaf.0, index, last.size, &hashes);
    if root != Some(last.root.0) {
        let found = root.map_or_else(
            || format!("one that can't be of leaf {index} of {}", last.size),
            |root| format!("one that gives {}", hex(&root)),
        );
        let expected = format!("a proof that gives the signed root {} of {} leaves", last.root, last.size);
        return Err(Wrong::new(format!("{at}.proof"), expected, found));
    }
    Ok(())
}

fn check_interruption(at: &str, line: &InterruptionLine, last: Option<&CheckpointLine>) -> Result<(), Wrong> {
    let (envelope, action) = read_public_part(&line.public.0)
        .map_err(|error| Wrong::new(format!("{at}.public"), "envelope and action of a command", error))?;
    if !matches!(action, Action::Takeover { planned: false }) {
        return Err(Wrong::new(format!("{at}.public"), "takeover", action_word(&action)));
    }
    let leaf = leaf_of(&line.public.0, &salted_digest(line.salt.0, &[]));
    if leaf != line.leaf.0 {
        return Err(Wrong::new(format!("{at}.leaf"), hex(&leaf), line.leaf));
    }
    if envelope.at != line.at.0 {
        return Err(Wrong::new(format!("{at}.at"), text::time(envelope.at), text::time(line.at.0)));
    }
    if line.served_until.0 > line.at.0 {
        let found = text::time(line.served_until.0);
        return Err(Wrong::new(
            format!("{at}.served_until"),
            format!("not after {}", text::time(line.at.0)),
            found,
        ));
    }
    check_proof(at, line.leaf_index, &line.leaf, &line.proof, last)
}

/// A receipt is about the one command that it has.
fn check_receipt(document: &Document, claims: &Claims) -> Result<(), Wrong> {
    match (claims.kind, &claims.decision, document.commands.as_slice()) {
        (Kind::Export, None, _) => Ok(()),
        (Kind::Export, Some(_), _) => Err(Wrong::new("claims.decision", "null", "a decision")),
        (Kind::Receipt, Some(decision), [line]) => {
            let fields = [("bid", text::id(line.request.0)), ("at", text::time(line.at.0))];
            for (name, ours) in fields {
                if decision[name] != ours.as_str() {
                    return Err(Wrong::new(format!("claims.decision.{name}"), ours, &decision[name]));
                }
            }
            Ok(())
        }
        (Kind::Receipt, None, _) => Err(Wrong::new("claims.decision", "a decision", "null")),
        (Kind::Receipt, _, lines) => Err(Wrong::new("commands", "1 of them", format!("{} of them", lines.len()))),
    }
}

/// Holds a root that was kept elsewhere against the document.
fn check_outside(outside: &Outside, document: &Document, claims: &Claims, keys: &[[u8; 32]]) -> Result<(), Wrong> {
    let Outside { place, checkpoint, epoch } = outside;
    if *epoch != claims.epoch {
        return Err(Wrong::new(place, format!("a root of the history {}", claims.epoch), epoch));
    }
    if checkpoint.shard != claims.shard {
        return Err(Wrong::new(place, format!("a root of shard {}", claims.shard), checkpoint.shard));
    }
    if !keys.iter().any(|key| checkpoint.is_signed_by(key, epoch)) {
        let names: Vec<String> = keys.iter().map(|key| hex(key)).collect();
        let expected = format!("a signature of the key {}", names.join(" or "));
        return Err(Wrong::new(place, expected, "one that does not fit"));
    }
    match document.checkpoints.iter().position(|line| line.size == checkpoint.size) {
        Some(at) if document.checkpoints[at].root.0 == checkpoint.root => Ok(()),
        Some(at) => Err(Wrong::new(
            format!("checkpoints[{at}].root"),
            format!(
                "{}, as {place} says, signed by the same key: the log was changed since then",
                hex(&checkpoint.root)
            ),
            document.checkpoints[at].root,
        )),
        None => Err(Wrong::new(
            "checkpoints",
            format!(
                "the root of {size} leaves, as {place} says; save GET …/audit?sizes={size} once the lots have ended: a root \
                 that was signed and is not given then is denied",
                size = checkpoint.size
            ),
            "no root of that size",
        )),
    }
}
