//! Writes exports and receipts from the audit's files. Reads only; a large export is written line by line.

use std::collections::HashSet;

use engine::{Action, Command, Decision, LogTime, Lot, OrganisationId, Reader, RequestId, Secret, Tender, sight};
use persistence::checkpoint::{AuditSigner, Checkpoint, Handover};
use persistence::merkle::Hash;
use persistence::{
    AuditError, AuditReader, ChainPlace, Head, OfferPart, Record, RecordKind, part_salt, salted_digest,
};
use serde_json::{Value, json};

use super::document::{
    ChainLine, CheckpointLine, Claims, CommandLine, FORMAT, HandoverLine, HeadLine, Hex, HexBytes,
    InterruptionLine, Kind, LotLine, OpenLine, ReaderWord, SecretLine, action_word, claims_text, offered_price,
};
use crate::body::{IdText, TimeText};
use crate::node::Sealed;
use crate::render;

/// What the view says of a tender, all as of one entry.
pub struct Told {
    /// The entry.
    pub index: u64,
    /// The stamp of its last command.
    pub at: LogTime,
    /// How the lots ended; for the buyer.
    pub lots: Vec<LotLine>,
    /// Bids whose price the reader may see.
    pub open: HashSet<RequestId>,
    /// The decision about the bid of a receipt.
    pub decision: Option<Value>,
    /// Whether something may happen in a lot that the reader may not even count.
    pub is_veiled: bool,
}

/// The lots of `tender` as its buyer may see them, and whose prices that shows.
pub fn lots_of(tender: &Tender) -> (Vec<LotLine>, HashSet<RequestId>) {
    let mut open = HashSet::new();
    let lots = tender.lots().iter().map(|lot| {
        let line = lot_line(tender, lot);
        open.extend(lot.decisions_seen(None).map(|decision| decision.bid));
        line
    });
    let lots = lots.collect();
    (lots, open)
}

/// How a lot ended, as its buyer may see it.
pub fn lot_line(tender: &Tender, lot: &Lot) -> LotLine {
    let sight = sight(tender, lot, Reader::Buyer).expect("a buyer sees its lots");
    let line = |decision: Decision| {
        serde_json::to_value(render::bid_line(lot, &decision, &sight)).expect("a line is JSON")
    };
    LotLine {
        lot: IdText(lot.id.0),
        result: serde_json::to_value(render::result(lot, &sight, |_| None)).expect("a result is JSON"),
        decisions: lot.decisions_seen(None).map(line).collect(),
    }
}

/// Who asks for what.
#[derive(Clone)]
pub struct Asked {
    /// Export or receipt.
    pub kind: Kind,
    /// For whom.
    pub reader: ReaderWord,
    /// Its organisation.
    pub organisation: OrganisationId,
    /// The tender.
    pub tender: engine::TenderId,
    /// The history.
    pub epoch: String,
    /// The shard.
    pub shard: u16,
    /// The bid of a receipt: its stamp and id.
    pub bid: Option<(LogTime, RequestId)>,
    /// Sizes of trees whose signed roots are wanted as well.
    pub sizes: Vec<u64>,
}

/// A document on its way out: first the head, then every command.
pub struct Export {
    asked: Asked,
    told: Told,
    reader: AuditReader,
    checkpoint: Option<Checkpoint>,
    /// Places of the commands in the journal.
    places: Vec<u64>,
    head: Value,
}

impl Export {
    /// The first signed root whose tree holds the last command that the document is about.
    ///
    /// # Errors
    /// A file of the audit is damaged.
    pub fn covering(asked: &Asked, told: &Told, sealed: &mut Sealed) -> Result<Option<Checkpoint>, AuditError> {
        let Sealed { chain, reader, .. } = sealed;
        let Some(last) = places(asked, told, chain, reader)?.pop() else { return Ok(None) };
        let leaf = reader.record(last)?.header.leaf;
        reader.covering(leaf)
    }

    /// Collects what is to be written, and signs the claims. Nothing when the bid of a receipt is not there.
    ///
    /// # Errors
    /// A file of the audit is damaged.
    pub fn new(
        asked: Asked,
        told: Told,
        sealed: Sealed,
        signer: &AuditSigner,
    ) -> Result<Option<Self>, AuditError> {
        let Sealed { chain, system, checkpoint, mut reader, .. } = sealed;
        let places = places(&asked, &told, &chain, &mut reader)?;
        if asked.kind == Kind::Receipt && places.is_empty() {
            return Ok(None);
        }
        let first = places.first().map(|at| reader.record(*at)).transpose()?;
        let last = places.last().map(|at| reader.record(*at)).transpose()?;
        let covered = |leaf: u64| checkpoint.as_ref().is_some_and(|checkpoint| leaf < checkpoint.size);
        // A receipt that is not covered yet has no use for a root.
        let checkpoint = checkpoint
            .filter(|_| asked.kind == Kind::Export || last.as_ref().is_some_and(|last| covered(last.header.leaf)));
        let is_buyer = asked.reader == ReaderWord::Buyer;
        let chain = match (&first, &last) {
            (Some(first), Some(last)) if is_buyer => Some(ChainLine {
                from: head_line(Head { count: first.header.number - 1, hash: first.header.before }),
                to: head_line(AuditReader::head_behind(last)),
            }),
            _ => None,
        };
        let (mut interruptions, mut passed_by) = (Vec::new(), Vec::new());
        if let (true, Some(first)) = (is_buyer, &first) {
            let mut skipped = HashSet::new();
            for at in reader.places(&system, first.header.leaf)? {
                let record = reader.record(at)?;
                match record.command.action {
                    _ if record.header.index > told.index => {}
                    Action::Takeover { planned: false } => {
                        interruptions.push(interruption(&record, checkpoint.as_ref(), &mut reader)?);
                    }
                    Action::Skip { index, position, .. } => {
                        skipped.insert((index, position));
                    }
                    _ => {}
                }
            }
            if !skipped.is_empty() {
                for at in &places {
                    let header = reader.record(*at)?.header;
                    if skipped.contains(&(header.index, header.position)) {
                        passed_by.push(header.number);
                    }
                }
            }
        }
        let checkpoints = checkpoints(&asked, &places, checkpoint.as_ref(), &mut reader)?;
        let claims = Claims {
            kind: asked.kind,
            reader: asked.reader,
            organisation: IdText(asked.organisation.0),
            tender: IdText(asked.tender.0),
            epoch: asked.epoch.clone(),
            shard: asked.shard,
            at: TimeText(told.at),
            kid: signer.kid(),
            key: Hex(*signer.public()),
            handovers: signer.handovers().iter().map(handover_line).collect(),
            commands: places.len() as u64,
            chain,
            interruptions,
            passed_by,
            lots: told.lots.clone(),
            decision: told.decision.clone(),
        };
        let claims = serde_json::to_value(claims).expect("claims are JSON");
        let sig = Hex(signer.sign(claims_text(&claims).as_bytes()));
        let head = json!({ "format": FORMAT, "claims": claims, "sig": sig, "checkpoints": checkpoints });
        Ok(Some(Self { asked, told, reader, checkpoint, places, head }))
    }

    /// Everything but the commands.
    pub fn head(&self) -> &Value {
        &self.head
    }

    /// The newest root that covers all of it.
    pub fn checkpoint(&self) -> Option<&Checkpoint> {
        self.checkpoint.as_ref()
    }

    /// How many commands it has.
    pub fn len(&self) -> usize {
        self.places.len()
    }

    /// Whether it has no commands.
    pub fn is_empty(&self) -> bool {
        self.places.is_empty()
    }

    /// The command at `number`, from 0.
    ///
    /// # Errors
    /// A file of the audit is damaged.
    pub fn command(&mut self, number: usize) -> Result<CommandLine, AuditError> {
        let record = self.reader.record(self.places[number])?;
        let proof = match &self.checkpoint {
            Some(checkpoint) if record.header.leaf < checkpoint.size => {
                let proof = self.reader.inclusion(record.header.leaf, &record.leaf_hash, checkpoint)?;
                Some(proof.into_iter().map(Hex).collect())
            }
            _ => None,
        };
        let envelope = &record.command.envelope;
        let is_own = self.asked.reader == ReaderWord::Bidder && envelope.organisation == self.asked.organisation;
        let shows_price = is_own || self.told.open.contains(&envelope.request);
        Ok(CommandLine {
            number: (self.asked.reader == ReaderWord::Buyer).then_some(record.header.number),
            leaf_index: record.header.leaf,
            leaf: Hex(record.leaf_hash),
            at: TimeText(envelope.at),
            action: action_word(&record.command.action).to_owned(),
            organisation: IdText(envelope.organisation.0),
            request: IdText(envelope.request.0),
            public: HexBytes(record.public.clone()),
            salt: (!record.has_secret).then_some(Hex(envelope.salt)),
            secret: record.has_secret.then(|| secret_line(&record, shows_price)),
            before: Hex(record.header.before),
            head: Hex(AuditReader::head_behind(&record).hash),
            proof,
        })
    }
}

/// The commands that a document is about.
fn places(
    asked: &Asked,
    told: &Told,
    chain: &ChainPlace,
    reader: &mut AuditReader,
) -> Result<Vec<u64>, AuditError> {
    match asked.bid {
        Some((at, bid)) => Ok(reader.find(chain, at, bid)?.into_iter().collect()),
        None => select(asked, told, chain, reader),
    }
}

/// The commands that the reader is given.
fn select(
    asked: &Asked,
    told: &Told,
    chain: &ChainPlace,
    reader: &mut AuditReader,
) -> Result<Vec<u64>, AuditError> {
    let mut places = Vec::new();
    for at in reader.places(chain, 0)? {
        let record = reader.record(at)?;
        let is_own = record.command.envelope.organisation == asked.organisation;
        if record.header.index <= told.index && (asked.reader == ReaderWord::Buyer || is_own) {
            places.push(at);
        }
    }
    Ok(places)
}

fn handover_line(handover: &Handover) -> HandoverLine {
    let Handover { from, to, at, signature } = *handover;
    HandoverLine { from: Hex(from), to: Hex(to), at: TimeText(at), sig: Hex(signature) }
}

fn head_line(head: Head) -> HeadLine {
    HeadLine { count: head.count, head: Hex(head.hash) }
}

fn interruption(
    record: &Record,
    checkpoint: Option<&Checkpoint>,
    reader: &mut AuditReader,
) -> Result<InterruptionLine, AuditError> {
    debug_assert_eq!(record.header.kind, RecordKind::System);
    let proof = match checkpoint {
        Some(checkpoint) => reader.inclusion(record.header.leaf, &record.leaf_hash, checkpoint)?,
        None => Vec::new(),
    };
    Ok(InterruptionLine {
        leaf_index: record.header.leaf,
        leaf: Hex(record.leaf_hash),
        served_until: TimeText(record.header.served_until),
        at: TimeText(record.command.envelope.at),
        public: HexBytes(record.public.clone()),
        salt: Hex(record.command.envelope.salt),
        proof: proof.into_iter().map(Hex).collect(),
    })
}

/// The roots that a document needs: of each command the first that covers it, those that were asked for, and the newest.
fn checkpoints(
    asked: &Asked,
    places: &[u64],
    newest: Option<&Checkpoint>,
    reader: &mut AuditReader,
) -> Result<Vec<CheckpointLine>, AuditError> {
    let Some(newest) = newest else { return Ok(Vec::new()) };
    let mut wanted = vec![*newest];
    if asked.kind == Kind::Export {
        let mut covered = 0;
        for at in places {
            let leaf = reader.record(*at)?.header.leaf;
            if leaf >= covered
                && let Some(first) = reader.covering(leaf)?
            {
                covered = first.size;
                wanted.push(first);
            }
        }
    }
    for size in &asked.sizes {
        if let Some(before) = size.checked_sub(1)
            && let Some(found) = reader.covering(before)?
            && found.size == *size
        {
            wanted.push(found);
        }
    }
    wanted.retain(|checkpoint| checkpoint.size <= newest.size);
    wanted.sort_by_key(|checkpoint| checkpoint.size);
    wanted.dedup_by_key(|checkpoint| checkpoint.size);
    let mut before = 0;
    let line = |checkpoint: Checkpoint| {
        let consistency: Vec<Hash> =
            if before == 0 { Vec::new() } else { reader.consistency(before, checkpoint.size)? };
        before = checkpoint.size;
        Ok(CheckpointLine {
            size: checkpoint.size,
            root: Hex(checkpoint.root),
            at: TimeText(checkpoint.at),
            sig: Hex(checkpoint.signature),
            consistency: consistency.into_iter().map(Hex).collect(),
        })
    };
    wanted.into_iter().map(line).collect()
}

/// The secret part as far as it may be seen: never a limit, and not that one was taken back.
fn secret_line(record: &Record, shows_price: bool) -> SecretLine {
    let hidden = SecretLine::Hidden { digest: Hex(record.header.digest) };
    let Command { envelope, action, secret } = &record.command;
    let (Some(Secret::Offer { organisation, price, limit }), Action::Bid { .. }, true) =
        (secret, action, shows_price)
    else {
        return hidden;
    };
    let of_price = Secret::Offer { organisation: *organisation, price: *price, limit: None };
    let open = |salt: [u8; 16]| OpenLine {
        salt: Hex(salt),
        clear: HexBytes(encode(&of_price)),
        price: offered_price(&of_price),
    };
    match (price, limit) {
        (_, None) => SecretLine::Open(open(envelope.salt)),
        (Some(_), Some(_)) => {
            let of_limit = Secret::Offer { organisation: *organisation, price: None, limit: *limit };
            let limit = salted_digest(part_salt(envelope.salt, OfferPart::Limit), &encode(&of_limit));
            SecretLine::Price { open: open(part_salt(envelope.salt, OfferPart::Price)), limit: Hex(limit) }
        }
        (None, Some(_)) => hidden,
    }
}

fn encode(secret: &Secret) -> Vec<u8> {
    wincode::serialize(secret).expect("what was logged can be encoded")
}
