//! The engine's state as plain data, in small parts, and back.
//!
//! What can be worked out again (compiled rules, order of the books, deadlines, the table of keys) is not in it. The
//! state hash is taken over the encoded parts, so two engines with equal parts decide alike for ever.

use sha2::{Digest, Sha256};
use wincode::{SchemaRead, SchemaWrite};

use crate::admission::Admission;
use crate::book::{Book, NO_FIRST, Slot};
use crate::deadlines::Deadlines;
use crate::history::Record;
use crate::keys::{Keys, Place};
use crate::live::Live;
use crate::lot::{Award, Times};
use crate::rules::compile_tender;
use crate::tender::Kept;
use crate::{
    Bidder, Engine, LOGIC_VERSION, LogTime, Lot, LotStage, OrganisationId, Price, Tender, TenderId, TenderSpec,
    TenderStage,
};

use RestoreError::Broken;

/// The version of the parts that are written. Parts of version 1 are read too.
const VERSION: u16 = 2;

/// Records in one part: 100 bytes each, encoded.
const RECORDS_MAX: usize = 4_096;

/// Admissions in one part.
const ADMISSIONS_MAX: usize = 1;

/// Most bytes of kept answers in one part; one answer is smaller than that.
const KEPT_BYTES_MAX: u64 = 256 << 10;

/// A small piece of an engine's state: at most 1 MiB encoded.
#[derive(Clone, Debug, PartialEq, Eq, SchemaWrite, SchemaRead)]
pub struct EnginePart(Part);

#[derive(Clone, Debug, PartialEq, Eq, SchemaWrite, SchemaRead)]
enum Part {
    /// Always first.
    #[wincode(tag = 0)]
    Head { version: u16, index: u64, now: LogTime },
    /// Answers about tenders that were never made.
    #[wincode(tag = 1)]
    Nowhere(Vec<Kept>),
    /// A tender; what follows up to the next one belongs to it.
    #[wincode(tag = 2)]
    Tender(Box<TenderPart>),
    /// The tender as it was changed.
    #[wincode(tag = 3)]
    Changed(Box<TenderSpec>),
    /// Its bidders, by number.
    #[wincode(tag = 4)]
    Bidders(Vec<Bidder>),
    /// Its kept answers, in order.
    #[wincode(tag = 5)]
    Kept(Vec<Kept>),
    /// Its next lot, in order of number, as version 1 wrote it.
    #[wincode(tag = 6)]
    LotV1(Box<LotPartV1>),
    /// The next records of that lot.
    #[wincode(tag = 7)]
    Records(Vec<Record>),
    /// Always last.
    #[wincode(tag = 8)]
    End,
    /// What its bidders were admitted with; behind its bidders.
    #[wincode(tag = 9)]
    Admissions(Vec<Admission>),
    /// Its next lot, in order of number.
    #[wincode(tag = 10)]
    Lot(Box<LotPart>),
    /// What the lot before keeps beside its book.
    #[wincode(tag = 11)]
    Live(Box<Live>),
    /// The salt of its publication; of a tender that will draw numbers, behind its specification.
    #[wincode(tag = 12)]
    Salt([u8; 16]),
}

#[derive(Clone, Debug, PartialEq, Eq, SchemaWrite, SchemaRead)]
struct TenderPart {
    id: TenderId,
    buyer: OrganisationId,
    logic: u16,
    stage: TenderStage,
    version: u32,
    created_at: LogTime,
    published_at: Option<LogTime>,
    opens_at: Option<LogTime>,
    has_opened: bool,
    spec: TenderSpec,
}

/// A lot as version 1 wrote it; only read.
#[derive(Clone, Debug, PartialEq, Eq, SchemaWrite, SchemaRead)]
struct LotPartV1 {
    stage: LotStage,
    seq: u64,
    extensions: u32,
    times: Times,
    award: Option<Award>,
    slots: Vec<SlotV1>,
}

/// A slot as version 1 wrote it; only read.
#[derive(Clone, Debug, PartialEq, Eq, SchemaWrite, SchemaRead)]
struct SlotV1 {
    price: Price,
    at: LogTime,
    seq: u32,
    newest: u32,
    first: u32,
    accepted: u32,
    stands: bool,
    rejected: bool,
}

impl LotPartV1 {
    /// As it is written now: amounts stood in order of their steps.
    fn up(self) -> LotPart {
        let up = |slot: SlotV1| Slot {
            price: slot.price,
            at: slot.at,
            seq: slot.seq,
            newest: slot.newest,
            first: slot.first,
            accepted: slot.accepted,
            order: slot.seq,
            automatic: false,
            stands: slot.stands,
            rejected: slot.rejected,
        };
        let Self { stage, seq, extensions, times, award, slots } = self;
        let arrivals = seq as u32;
        LotPart { stage, seq, extensions, times, award, arrivals, slots: slots.into_iter().map(up).collect() }
    }
}

#[derive(Clone, Debug, PartialEq, Eq, SchemaWrite, SchemaRead)]
struct LotPart {
    stage: LotStage,
    seq: u64,
    extensions: u32,
    times: Times,
    award: Option<Award>,
    arrivals: u32,
    slots: Vec<Slot>,
}

/// Why a snapshot could not be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RestoreError {
    /// It was written by a version that this program does not know.
    Version(u16),
    /// It contradicts itself; what.
    Broken(&'static str),
}

impl std::fmt::Display for RestoreError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Version(version) => write!(f, "the snapshot has version {version}, which is not known here"),
            Self::Broken(what) => write!(f, "the snapshot contradicts itself: {what}"),
        }
    }
}

impl std::error::Error for RestoreError {}

/// SHA-256 over the encoded parts, one after another.
pub(crate) fn hash_parts<T: wincode::SchemaWrite<wincode::config::DefaultConfig, Src = T>>(
    parts: impl Iterator<Item = T>,
) -> [u8; 32] {
    let mut hash = Sha256::new();
    for part in parts {
        hash.update(wincode::serialize(&part).expect("parts are far below the limits of the encoding"));
    }
    hash.finalize().into()
}

/// Splits kept answers into lists of bounded size.
fn bounded(kept: &[Kept]) -> impl Iterator<Item = Vec<Kept>> + '_ {
    let mut rest = kept;
    std::iter::from_fn(move || {
        let mut bytes = 0;
        let count = rest
            .iter()
            .take_while(|kept| {
                let first = bytes == 0;
                bytes += wincode::serialized_size(*kept).expect("a kept answer has a size");
                first || bytes <= KEPT_BYTES_MAX
            })
            .count();
        let (now, later) = rest.split_at(count);
        rest = later;
        (!now.is_empty()).then(|| now.to_vec())
    })
}

impl Engine {
    /// SHA-256 over the encoded snapshot.
    pub fn state_hash(&self) -> [u8; 32] {
        hash_parts(self.snapshot())
    }

    /// The state as plain data, in parts of at most 1 MiB.
    pub fn snapshot(&self) -> impl Iterator<Item = EnginePart> + '_ {
        self.snapshot_to_seal().map(|(part, _)| part)
    }

    /// As [`Engine::snapshot`], each part with the organisation under whose key it must be sealed where it is stored:
    /// the buyer's, for what lots keep of offers that are or were hidden. None: it holds nothing secret.
    pub fn snapshot_to_seal(&self) -> impl Iterator<Item = (EnginePart, Option<OrganisationId>)> + '_ {
        let head = Part::Head { version: VERSION, index: self.index, now: self.now };
        let nowhere = bounded(&self.nowhere).map(Part::Nowhere);
        let tenders = self.tenders.iter().flat_map(|tender| {
            let buyer = tender.buyer;
            let open = tender_parts(tender).map(|part| (part, None));
            let lots = tender.lots.iter().flat_map(lot_parts);
            open.chain(lots.map(move |(part, is_secret)| (part, is_secret.then_some(buyer))))
        });
        let open = std::iter::once(head).chain(nowhere).map(|part| (part, None));
        let parts = open.chain(tenders).chain(std::iter::once((Part::End, None)));
        parts.map(|(part, organisation)| (EnginePart(part), organisation))
    }

    /// Whether a snapshot would hold a part that is sealed under the key of `organisation`, as a buyer.
    pub fn seals_under(&self, organisation: OrganisationId) -> bool {
        let own = self.tenders.iter().filter(|tender| tender.buyer == organisation);
        own.flat_map(|tender| &tender.lots).flat_map(lot_parts).any(|(_, is_secret)| is_secret)
    }

    /// The engine that a snapshot was taken of.
    pub fn restore(parts: impl Iterator<Item = EnginePart>) -> Result<Self, RestoreError> {
        let mut parts = parts.map(|part| part.0);
        let Some(Part::Head { version, index, now }) = parts.next() else { return Err(Broken("no head")) };
        if version == 0 || version > VERSION {
            return Err(RestoreError::Version(version));
        }
        let mut engine = Self::new();
        (engine.index, engine.now) = (index, now);
        // How many lots of the newest tender are there.
        let mut lots = 0;
        let complete = |engine: &Self, lots: usize| match engine.tenders.last() {
            Some(tender) if tender.lots.len() != lots => Err(Broken("a lot is missing")),
            _ => Ok(()),
        };
        while let Some(part) = parts.next() {
            match part {
                Part::Head { .. } => return Err(Broken("a second head")),
                Part::Nowhere(kept) => engine.nowhere.extend(kept),
                Part::Tender(part) => {
                    complete(&engine, lots)?;
                    lots = 0;
                    let tender = restore_tender(*part, engine.tenders.len() as u32)?;
                    if engine.tender(tender.id).is_some() {
                        return Err(Broken("a tender twice"));
                    }
                    engine.register(tender);
                }
                Part::End => {
                    complete(&engine, lots)?;
                    if parts.next().is_some() {
                        return Err(Broken("something behind the end"));
                    }
                    engine.rebuild()?;
                    return Ok(engine);
                }
                part => {
                    let tender = engine.tenders.last_mut().ok_or(Broken("a part without a tender"))?;
                    restore_part(tender, part, &mut lots)?;
                }
            }
        }
        Err(Broken("no end"))
    }

    /// Works out again what is not in the parts.
    fn rebuild(&mut self) -> Result<(), RestoreError> {
        let mut deadlines = Deadlines::default();
        // Grown from small it would be filled twice over.
        let answers = |tender: &Tender| -> usize {
            tender.kept.len() + tender.lots.iter().map(|lot| lot.history.len() as usize).sum::<usize>()
        };
        let mut keys = Keys::with_room(self.nowhere.len() + self.tenders.iter().map(answers).sum::<usize>());
        for (index, kept) in self.nowhere.iter().enumerate() {
            keys.insert(kept.key.scoped, Place { tender: Place::NOWHERE, lot: 0, index: index as u32 });
        }
        for tender in &mut self.tenders {
            let place = tender.place;
            if tender.published_at.is_some() {
                tender.clock = Some(deadlines.clocks(tender.lots.len() + 1));
                tender.set_opening(&mut deadlines);
                for lot in 0..tender.lots.len() {
                    tender.set_end(lot, &mut deadlines);
                }
            }
            for (index, kept) in tender.kept.iter().enumerate() {
                keys.insert(kept.key.scoped, Place { tender: place, lot: 0, index: index as u32 });
            }
            for lot in &tender.lots {
                let missing = |slot: &Slot| {
                    let first = if slot.first == NO_FIRST { 0 } else { slot.first };
                    slot.newest.max(first) >= lot.history.len()
                };
                if lot.book.slots().iter().any(|slot| slot.has_bid() && missing(slot)) {
                    return Err(Broken("a record is missing"));
                }
                for (index, record) in lot.history.iter().enumerate() {
                    if let Some(key) = record.key() {
                        keys.insert(key.scoped, Place { tender: place, lot: lot.number, index: index as u32 });
                    }
                }
            }
        }
        (self.deadlines, self.keys) = (deadlines, keys);
        Ok(())
    }
}

/// A tender and all that belongs to it but its lots.
fn tender_parts(tender: &Tender) -> impl Iterator<Item = Part> + '_ {
    let head = Part::Tender(Box::new(TenderPart {
        id: tender.id,
        buyer: tender.buyer,
        logic: tender.logic,
        stage: tender.stage,
        version: tender.version,
        created_at: tender.created_at,
        published_at: tender.published_at,
        opens_at: tender.opens_at,
        has_opened: tender.has_opened,
        spec: (*tender.created).clone(),
    }));
    let changed = tender.changed.iter().map(|spec| Part::Changed(spec.clone()));
    let bidders = (!tender.bidders.is_empty()).then(|| Part::Bidders(tender.bidders.clone()));
    let salt = (tender.salt != [0; 16]).then_some(Part::Salt(tender.salt));
    let kept = bounded(&tender.kept).map(Part::Kept);
    let admissions = tender.admissions.chunks(ADMISSIONS_MAX).map(|some| Part::Admissions(some.to_vec()));
    std::iter::once(head).chain(changed).chain(salt).chain(bidders).chain(admissions).chain(kept)
}

/// A lot and all that belongs to it, and whether each part is secret.
fn lot_parts(lot: &Lot) -> impl Iterator<Item = (Part, bool)> + '_ {
    let is_secret = lot.live.is_some();
    let head = Part::Lot(Box::new(LotPart {
        stage: lot.stage,
        seq: lot.seq,
        extensions: lot.extensions,
        times: lot.times,
        award: lot.award,
        arrivals: lot.arrivals,
        slots: lot.book.slots().to_vec(),
    }));
    let mut records = lot.history.iter().copied();
    let chunks = std::iter::from_fn(move || {
        let chunk: Vec<Record> = records.by_ref().take(RECORDS_MAX).collect();
        (!chunk.is_empty()).then_some(Part::Records(chunk))
    });
    let live = lot.live.iter().map(|live| Part::Live(live.clone()));
    std::iter::once((head, false)).chain(live.chain(chunks).map(move |part| (part, is_secret)))
}

fn restore_tender(part: TenderPart, place: u32) -> Result<Tender, RestoreError> {
    if part.logic == 0 || part.logic > LOGIC_VERSION {
        return Err(Broken("a tender of a logic that is not known here"));
    }
    let rules = compile_tender(&part.spec).map_err(|_| Broken("a tender whose rules are not valid"))?;
    let mut tender =
        Tender::new(part.id, place, part.buyer, part.logic, part.created_at, Box::new(part.spec), rules);
    (tender.stage, tender.version) = (part.stage, part.version);
    (tender.published_at, tender.opens_at) = (part.published_at, part.opens_at);
    tender.has_opened = part.has_opened;
    Ok(tender)
}

/// Restores what follows a tender; `lots` counts its lots that are there.
fn restore_part(tender: &mut Tender, part: Part, lots: &mut usize) -> Result<(), RestoreError> {
    match part {
        Part::Changed(spec) => {
            let rules = compile_tender(&spec).map_err(|_| Broken("a tender whose rules are not valid"))?;
            tender.changed = Some(spec);
            tender.make_lots(rules);
        }
        Part::Bidders(bidders) => {
            let mut by_organisation: Vec<(OrganisationId, u16)> =
                bidders.iter().zip(0u16..).map(|(bidder, index)| (bidder.organisation, index)).collect();
            by_organisation.sort_unstable();
            (tender.bidders, tender.by_organisation) = (bidders, by_organisation);
        }
        Part::Salt(salt) => tender.salt = salt,
        Part::Kept(kept) => tender.kept.extend(kept),
        Part::Admissions(admissions) => tender.restore_admissions(admissions).map_err(Broken)?,
        Part::LotV1(part) => return restore_part(tender, Part::Lot(Box::new(part.up())), lots),
        Part::Live(live) => {
            let lot = lots.checked_sub(1).and_then(|lot| tender.lots.get_mut(lot));
            let lot = lot.ok_or(Broken("live state without a lot"))?;
            if lot.live.is_none() {
                return Err(Broken("live state of a lot that has none"));
            }
            lot.live = Some(live);
        }
        Part::Lot(part) => {
            let lot = tender.lots.get_mut(*lots).ok_or(Broken("a lot too many"))?;
            *lots += 1;
            (lot.stage, lot.seq, lot.extensions) = (part.stage, part.seq, part.extensions);
            (lot.times, lot.award) = (part.times, part.award);
            lot.arrivals = part.arrivals;
            lot.book = Book::restore(part.slots, lot.book.take_adjusts());
        }
        Part::Records(records) => {
            let lot = lots.checked_sub(1).and_then(|lot| tender.lots.get_mut(lot));
            let lot = lot.ok_or(Broken("records without a lot"))?;
            lot.history.extend(records);
        }
        _ => return Err(Broken("a part out of place")),
    }
    Ok(())
}
