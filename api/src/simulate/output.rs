//! What a rehearsal writes: answers, steps and results as JSON Lines with their members in a fixed order.
//! The reader of a rehearsal sees everything, whatever the rules show to bidders.

use std::collections::BTreeMap;
use std::io::{self, Write};

use engine::{
    Answer, BidderNumber, Engine, Event, LogTime, Lot, LotId, MaxNext, OrganisationId, Price, Reply, RuleError,
    Step, Tender, TenderId,
};
use serde::Serialize;

use crate::body::TimeText;
use crate::text;

/// Names of the scenario for the ids of the engine.
#[derive(Default)]
pub struct Names {
    tenders: BTreeMap<TenderId, String>,
    lots: BTreeMap<LotId, String>,
    organisations: BTreeMap<String, OrganisationId>,
    bidders: BTreeMap<OrganisationId, String>,
}

/// The organisation of the first bidder that is named; the next have the next numbers.
const FIRST_BIDDER: u128 = 1_000;

impl Names {
    pub fn tender(&mut self, id: TenderId, name: &str) {
        self.tenders.insert(id, name.to_owned());
    }

    pub fn lot(&mut self, id: LotId, name: &str) {
        self.lots.insert(id, name.to_owned());
    }

    /// The organisation of a bidder; one that is named for the first time gets its own.
    pub fn organisation(&mut self, name: &str) -> OrganisationId {
        if let Some(known) = self.organisations.get(name) {
            return *known;
        }
        let new = OrganisationId(FIRST_BIDDER + self.organisations.len() as u128);
        self.organisations.insert(name.to_owned(), new);
        self.bidders.insert(new, name.to_owned());
        new
    }

    fn of_lot(&self, lot: LotId) -> &str {
        self.lots.get(&lot).map_or("", String::as_str)
    }

    fn of_bidder(&self, tender: &Tender, number: BidderNumber) -> String {
        let bidder = tender.bidder(number).expect("the number of a bidder");
        self.of_organisation(bidder.organisation)
    }

    fn of_organisation(&self, organisation: OrganisationId) -> String {
        self.bidders.get(&organisation).expect("every bidder was named").clone()
    }
}

fn json(value: &impl Serialize) -> String {
    serde_json::to_string(value).expect("output is JSON")
}

/// `max_next` and, only when true, `max_next_unlimited`.
#[derive(Serialize)]
struct Next {
    max_next: Option<String>,
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    max_next_unlimited: bool,
}

impl Next {
    fn of(next: MaxNext, scale: u8) -> Self {
        let max_next = match next {
            MaxNext::At(price) => Some(text::price(price, scale)),
            MaxNext::None | MaxNext::Unlimited => None,
        };
        Self { max_next, max_next_unlimited: next == MaxNext::Unlimited }
    }
}

#[derive(Serialize)]
struct AnswerLine<'a> {
    line: usize,
    #[serde(skip_serializing_if = "Option::is_none")]
    ok: Option<Ok<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    refused: Option<&'a str>,
    #[serde(flatten)]
    next: Option<Next>,
    #[serde(skip_serializing_if = "<[_]>::is_empty")]
    errors: Vec<RuleErrorText<'a>>,
}

#[derive(Serialize)]
struct RuleErrorText<'a> {
    pointer: &'a str,
    detail: &'a str,
    valid: &'a str,
}

/// What an accepted line is told.
#[derive(Serialize)]
#[serde(untagged)]
enum Ok<'a> {
    Nothing {},
    Tender {
        tender: &'a str,
        stage: &'static str,
        lots: Vec<LotText<'a>>,
    },
    Bidder {
        bidder: String,
        status: &'static str,
    },
    Bid {
        bid: String,
        lot: &'a str,
        bidder: Option<String>,
        price: String,
        status: &'static str,
        seq: u64,
        at: TimeText,
        #[serde(skip_serializing_if = "Option::is_none")]
        rank: Option<u16>,
        #[serde(skip_serializing_if = "Option::is_none")]
        award_rank: Option<u16>,
        #[serde(skip_serializing_if = "Option::is_none")]
        tied: Option<bool>,
        #[serde(skip_serializing_if = "Option::is_none")]
        lead: Option<bool>,
        #[serde(flatten)]
        next: Next,
    },
    Voided {
        bid: String,
        lot: &'a str,
        price: String,
        status: &'static str,
        seq: u64,
    },
    Award {
        lot: &'a str,
        stage: &'static str,
        #[serde(skip_serializing_if = "Option::is_none")]
        pays: Option<String>,
        seq: u64,
    },
    Next(Next),
}

#[derive(Serialize)]
struct LotText<'a> {
    lot: &'a str,
    stage: &'static str,
    opens_at: Option<TimeText>,
    closes_at: Option<TimeText>,
}

/// Writes that a line was taken and has nothing to tell.
pub fn done(out: &mut impl Write, line: usize) -> io::Result<()> {
    write_answer(out, line, Some(Ok::Nothing {}), None, None, &[])
}

/// Writes that a line's rules were refused.
pub fn invalid_rules(out: &mut impl Write, line: usize, errors: &[RuleError]) -> io::Result<()> {
    write_answer(out, line, None, Some("invalid_rules"), None, errors)
}

fn write_answer(
    out: &mut impl Write,
    line: usize,
    ok: Option<Ok<'_>>,
    refused: Option<&str>,
    next: Option<Next>,
    errors: &[RuleError],
) -> io::Result<()> {
    let errors = errors
        .iter()
        .map(|error| RuleErrorText { pointer: &error.pointer, detail: &error.detail, valid: &error.valid })
        .collect();
    writeln!(out, "{}", json(&AnswerLine { line, ok, refused, next, errors }))
}

/// The bidder whose line is answered, and where it bids.
pub struct Sender<'a> {
    pub engine: &'a Engine,
    pub lot: LotId,
    pub organisation: OrganisationId,
}

impl Sender<'_> {
    /// What would be taken from the bidder next.
    fn next(&self) -> Next {
        let found = self.engine.lot(self.lot).and_then(|(tender, lot)| {
            let bidder = tender.bidder_of(self.organisation)?;
            Some(Next::of(lot.max_next(bidder), lot.rules().price_scale))
        });
        found.unwrap_or(Next { max_next: None, max_next_unlimited: false })
    }
}

/// Writes the answer to a line; `bidder`: the sender, where the line is a bidder's.
pub fn answer(
    out: &mut impl Write,
    names: &Names,
    line: usize,
    reply: &Reply,
    bidder: Option<Sender<'_>>,
) -> io::Result<()> {
    let id = text::id(reply.request.0);
    let ok = match &reply.answer {
        Answer::Refused(refused) => {
            let next = bidder.is_some().then(|| Next::of(refused.max_next, refused.price_scale));
            return write_answer(out, line, None, Some(refused.refusal.code()), next, &[]);
        }
        Answer::InvalidRules(errors) => return invalid_rules(out, line, errors),
        Answer::Internal => return write_answer(out, line, None, Some("internal"), None, &[]),
        Answer::Limit(limit) => Ok::Next(Next::of(limit.max_next, limit.price_scale)),
        Answer::Withdrawn(withdrawn) => Ok::Next(Next::of(withdrawn.max_next, withdrawn.price_scale)),
        Answer::Done | Answer::Account(_) => bidder.map_or(Ok::Nothing {}, |sender| Ok::Next(sender.next())),
        Answer::Bid(bid) => Ok::Bid {
            bid: id,
            lot: names.of_lot(bid.lot),
            bidder: bidder.map(|sender| names.of_organisation(sender.organisation)),
            price: text::price(bid.price, bid.price_scale),
            status: "accepted",
            seq: bid.seq,
            at: TimeText(reply.at),
            rank: bid.ranks.map(|ranks| ranks.rank),
            award_rank: bid.ranks.map(|ranks| ranks.award_rank),
            tied: bid.ranks.map(|ranks| ranks.tied),
            lead: bid.ranks.map(|ranks| ranks.lead()),
            next: Next::of(bid.max_next, bid.price_scale),
        },
        Answer::Tender(tender) => Ok::Tender {
            tender: names.tenders.get(&tender.tender).map_or("", String::as_str),
            stage: tender.stage.word(),
            lots: tender
                .lots
                .iter()
                .zip(1..)
                .map(|(lot, number)| LotText {
                    lot: names.of_lot(tender.tender.lot(number)),
                    stage: lot.stage.word(),
                    opens_at: lot.opens_at.map(TimeText),
                    closes_at: lot.closes_at.map(TimeText),
                })
                .collect(),
        },
        Answer::Bidder(bidder) => {
            Ok::Bidder { bidder: names.of_organisation(bidder.organisation), status: bidder.status.word() }
        }
        Answer::Voided(void) => Ok::Voided {
            bid: text::id(void.bid.0),
            lot: names.of_lot(void.lot),
            price: text::price(void.price, void.price_scale),
            status: "voided",
            seq: void.seq,
        },
        Answer::Award(award) => Ok::Award {
            lot: names.of_lot(award.lot),
            stage: award.stage.word(),
            pays: award.pays.map(|price| text::price(price, award.price_scale)),
            seq: award.seq,
        },
    };
    write_answer(out, line, Some(ok), None, None, &[])
}

#[derive(Serialize)]
struct StepLine<'a> {
    at: TimeText,
    lot: &'a str,
    seq: u64,
    ev: Vec<EventText<'a>>,
}

#[derive(Serialize)]
#[serde(tag = "type", rename_all = "snake_case")]
enum EventText<'a> {
    Opened,
    Bid {
        bidder: String,
        price: String,
        lead: bool,
        auto: bool,
    },
    Withdrawn {
        bidder: String,
    },
    Turn {
        round: u16,
        turn: u16,
        bidder: String,
        ends_at: TimeText,
    },
    Step {
        step: u64,
        price: String,
        ends_at: TimeText,
    },
    Level {
        step: u64,
        price: String,
        ends_at: TimeText,
    },
    Out {
        bidder: String,
    },
    Voided {
        bidder: String,
        reason: &'a str,
    },
    Extended {
        closes_at: Option<TimeText>,
        added_s: i64,
        reason: &'static str,
    },
    Paused {
        reason: &'a str,
    },
    Resumed {
        reason: &'a str,
        closes_at: TimeText,
    },
    Disqualified {
        #[serde(skip_serializing_if = "Option::is_none")]
        bidder: Option<String>,
    },
    Closed,
    Awarded {
        bidder: String,
        price: String,
    },
    Rejected {
        bidder: String,
    },
    Unsuccessful,
    Cancelled {
        reason: &'a str,
    },
}

/// The line of a step.
pub fn step(names: &Names, tender: &Tender, lot: &Lot, step: &Step) -> String {
    let scale = lot.rules().price_scale;
    let bidder = |number: &BidderNumber| names.of_bidder(tender, *number);
    let price = |price: &Price| text::price(*price, scale);
    let event = |event| match event {
        &Event::Opened => EventText::Opened,
        Event::Bid { bidder: who, price: p, lead, auto } => {
            EventText::Bid { bidder: bidder(who), price: price(p), lead: *lead, auto: *auto }
        }
        Event::Withdrawn { bidder: who } => EventText::Withdrawn { bidder: bidder(who) },
        Event::Turn { round, turn, bidder: who, ends_at } => {
            EventText::Turn { round: *round, turn: *turn, bidder: bidder(who), ends_at: TimeText(*ends_at) }
        }
        Event::Step { step, price: p, ends_at } => {
            EventText::Step { step: *step, price: price(p), ends_at: TimeText(*ends_at) }
        }
        Event::Level { step, price: p, ends_at } => {
            EventText::Level { step: *step, price: price(p), ends_at: TimeText(*ends_at) }
        }
        Event::Out { bidder: who } => EventText::Out { bidder: bidder(who) },
        Event::Voided { bidder: who, reason } => EventText::Voided { bidder: bidder(who), reason },
        Event::Extended { closes_at, added_ms, reason } => EventText::Extended {
            closes_at: closes_at.map(TimeText),
            added_s: (added_ms + 500).div_euclid(1000),
            reason: reason.word(),
        },
        Event::Paused { reason } => EventText::Paused { reason },
        Event::Resumed { reason, closes_at } => EventText::Resumed { reason, closes_at: TimeText(*closes_at) },
        Event::Disqualified { bidder: who } => EventText::Disqualified { bidder: who.as_ref().map(bidder) },
        Event::Closed => EventText::Closed,
        Event::Awarded { bidder: who, price: p } => EventText::Awarded { bidder: bidder(who), price: price(p) },
        Event::Rejected { bidder: who } => EventText::Rejected { bidder: bidder(who) },
        Event::Unsuccessful => EventText::Unsuccessful,
        Event::Cancelled { reason } => EventText::Cancelled { reason },
    };
    let ev = step.events.iter().map(event).collect();
    json(&StepLine { at: TimeText(step.at), lot: names.of_lot(step.lot), seq: step.seq, ev })
}

#[derive(Serialize)]
struct ResultLine<'a> {
    result: ResultText<'a>,
}

#[derive(Serialize)]
struct ResultText<'a> {
    lot: &'a str,
    stage: &'static str,
    opened_at: Option<TimeText>,
    closed_at: Option<TimeText>,
    extensions: u32,
    ranking: Vec<RankedText>,
    winner: Option<String>,
    pays: Option<String>,
    flags: Vec<&'static str>,
}

#[derive(Serialize)]
struct RankedText {
    bidder: String,
    price: String,
    effective: String,
    rank: u16,
    award_rank: u16,
    tied: bool,
    at: TimeText,
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    rejected: bool,
}

/// Writes how a lot ended, or stands.
pub fn result(out: &mut impl Write, names: &Names, tender: &Tender, lot: &Lot) -> io::Result<()> {
    let result = lot.result();
    let scale = lot.rules().price_scale;
    let time = |at: Option<LogTime>| at.map(TimeText);
    let ranking = result.ranking.iter().map(|ranked| {
        let price = text::price(ranked.standing.price, scale);
        RankedText {
            bidder: names.of_bidder(tender, ranked.standing.bidder),
            effective: text::price(ranked.standing.effective, scale),
            price,
            rank: ranked.ranks.rank,
            award_rank: ranked.ranks.award_rank,
            tied: ranked.ranks.tied,
            at: TimeText(ranked.standing.at),
            rejected: ranked.standing.rejected,
        }
    });
    let line = ResultLine {
        result: ResultText {
            lot: names.of_lot(lot.id),
            stage: result.stage.word(),
            opened_at: time(result.opened_at),
            closed_at: time(result.closed_at),
            extensions: result.extensions,
            ranking: ranking.collect(),
            winner: result.winner.map(|winner| names.of_bidder(tender, winner)),
            pays: result.pays.map(|price| text::price(price, scale)),
            flags: result.flags(),
        },
    };
    writeln!(out, "{}", json(&line))
}
