//! Rehearsals: runs a scenario of JSON Lines through the engine on a virtual clock and writes what it decided.
//! The same input gives the same bytes: no clock, no randomness, ids counted from one. Decides nothing itself.
//!
//! What a line names and nobody has introduced (a tender, lot or bidder) is sent to the engine as one that does not
//! exist, and the engine's refusal is the answer. Only a line that cannot be read stops the run.

mod input;
mod output;

use std::collections::BTreeMap;
use std::io::{self, Write};
use std::path::Path;

use engine::{
    Action, Answer, BidderRef, Command, Engine, Entry, Envelope, Format, LogTime, Lot, LotId, OrganisationId,
    Reply, RequestId, Sink, Step, Tender, TenderId,
};

use self::input::{Head, Line, LotLine, Outage, ScoringLine, Seconds, TenderLine, read};
use self::output::{Names, Sender};
use crate::body::{BodyError, ScoringBody, TenderBody, parse_value};
use crate::text;

/// Why a run stopped.
#[derive(Debug, thiserror::Error)]
pub enum SimulateError {
    /// A line cannot be read, or stands where it may not stand.
    #[error("line {line}: {reason}")]
    Line {
        /// Counted from 1, blank lines too.
        line: usize,
        /// Why.
        reason: String,
    },
    /// The file cannot be read.
    #[error("{0}")]
    Read(io::Error),
    /// The output cannot be written.
    #[error("the output cannot be written: {0}")]
    Write(#[from] io::Error),
}

/// The organisation that runs every tender of a rehearsal.
const BUYER: OrganisationId = OrganisationId(1);

/// A lot and a tender that never exist.
const NOWHERE: TenderId = TenderId::new(u128::MAX);

/// Runs the scenario in a file.
pub fn run_file(path: &Path, out: &mut impl Write) -> Result<(), SimulateError> {
    let bytes = std::fs::read(path).map_err(|error| {
        SimulateError::Read(io::Error::new(error.kind(), format!("{}: {error}", path.display())))
    })?;
    match std::str::from_utf8(&bytes) {
        Ok(text) => run(text, out),
        Err(error) => {
            let line = 1 + bytes[..error.valid_up_to()].iter().filter(|byte| **byte == b'\n').count();
            Err(SimulateError::Line { line, reason: "this is no UTF-8 text".to_owned() })
        }
    }
}

/// Runs a scenario and writes answers, events and results as JSON Lines.
pub fn run(input: &str, out: &mut impl Write) -> Result<(), SimulateError> {
    let mut rehearsal = Rehearsal::default();
    let mut ended = false;
    for (index, text) in input.lines().enumerate() {
        if text.trim().is_empty() {
            continue;
        }
        ended = rehearsal.line(index + 1, text, out)?;
        if ended {
            break;
        }
    }
    if !ended {
        rehearsal.pass_time(LogTime(i64::MAX), out)?;
    }
    for tender in rehearsal.engine.tenders() {
        for lot in tender.lots() {
            output::result(out, &rehearsal.names, tender, lot)?;
        }
    }
    out.flush()?;
    Ok(())
}

/// A scenario on its way: the engine, its clock, and who is who.
#[derive(Default)]
struct Rehearsal {
    engine: Engine,
    /// The time of the last line or the end of the last outage.
    clock: Option<LogTime>,
    /// Whether the clock stands at the end of an outage.
    after_outage: bool,
    tenders: BTreeMap<String, TenderId>,
    lots: BTreeMap<String, LotId>,
    names: Names,
    tenders_made: u128,
}

/// What applying one command gave: the answer, and the steps as they shall be written.
#[derive(Default)]
struct Taken<'a> {
    reply: Option<Reply>,
    steps: Vec<String>,
    names: Option<&'a Names>,
}

impl Sink for Taken<'_> {
    fn reply(&mut self, _: usize, reply: &Reply) {
        self.reply = Some(reply.clone());
    }

    fn step(&mut self, tender: &Tender, lot: &Lot, step: &Step) {
        if let Some(names) = self.names
            && !step.events.is_empty()
        {
            self.steps.push(output::step(names, tender, lot, step));
        }
    }
}

impl Rehearsal {
    /// Takes one line; true at the end of the scenario.
    fn line(&mut self, number: usize, text: &str, out: &mut impl Write) -> Result<bool, SimulateError> {
        let stop = |reason: String| SimulateError::Line { line: number, reason };
        let head: Head = read(text).map_err(stop)?;
        let at = head.at.0;
        if let Some(clock) = self.clock.filter(|clock| at < *clock) {
            let what = if self.after_outage { "lies inside an outage that ends" } else { "runs backwards from" };
            return Err(stop(format!("`at` {what} {}", text::time(clock))));
        }
        let line = Line::read(&head.kind, text).map_err(stop)?;
        // From the start of an outage on nobody serves, not even what is due at that instant.
        let served_until = if matches!(line, Line::Outage(_)) { LogTime(at.0 - 1) } else { at };
        self.pass_time(served_until, out)?;
        self.clock = Some(at);
        self.after_outage = false;
        match line {
            Line::End => {
                output::done(out, number)?;
                return Ok(true);
            }
            Line::Outage(Outage { seconds: Seconds(seconds), .. }) => {
                let back = at.plus_ms(seconds * 1000);
                self.clock = Some(back);
                self.after_outage = true;
                output::done(out, number)?;
                let (_, steps) = self.apply(back, OrganisationId(0), 0, Action::Takeover { planned: false });
                write_all(out, &steps)?;
            }
            Line::Create(line) => match parse_value::<TenderBody>(line.body) {
                Ok(body) => self.create(number, at, &line.tender, &body, out)?,
                Err(BodyError::InvalidRules { pointer, detail, valid }) => {
                    output::invalid_rules(out, number, &[engine::RuleError { pointer, detail, valid }])?;
                }
                Err(error) => return Err(stop(format!("body{error}"))),
            },
            Line::Tender(kind, line) => self.tender(number, at, kind, line, out)?,
            Line::Admit(line) => self.admit(number, at, line, out)?,
            Line::Lot(kind, line) => self.lot(number, at, kind, line, out)?,
        }
        Ok(false)
    }

    /// Lets everything happen that is due at or before `until`, each at its own time.
    fn pass_time(&mut self, until: LogTime, out: &mut impl Write) -> Result<(), SimulateError> {
        while let Some(due) = self.engine.next_deadline().filter(|due| *due <= until) {
            let (_, steps) = self.apply(due.max(self.engine.now()), OrganisationId(0), 0, Action::Tick);
            write_all(out, &steps)?;
        }
        Ok(())
    }

    /// Sends a command to the engine, as an entry of its own.
    fn apply(&mut self, at: LogTime, from: OrganisationId, line: usize, action: Action) -> (Reply, Vec<String>) {
        let request = RequestId(1 << 96 | line as u128);
        let envelope = Envelope { at, organisation: from, request, ..Envelope::default() };
        let entry =
            Entry { index: self.engine.index() + 1, commands: vec![Command { envelope, action, secret: None }] };
        let mut taken = Taken { names: Some(&self.names), ..Taken::default() };
        self.engine.apply(&entry, &mut taken);
        let (reply, steps) = (taken.reply.expect("every command is answered"), taken.steps);
        self.engine.maintain();
        (reply, steps)
    }

    /// Sends a command and writes its answer and steps.
    fn take(
        &mut self,
        line: usize,
        at: LogTime,
        from: OrganisationId,
        action: Action,
        out: &mut impl Write,
    ) -> Result<Answer, SimulateError> {
        let lot = match action {
            Action::Bid { lot, .. } | Action::Accept { lot, .. } | Action::AutoBid { lot, .. } => Some(lot),
            _ => None,
        };
        let (reply, steps) = self.apply(at, from, line, action);
        let bidder = lot.map(|lot| Sender { engine: &self.engine, lot, organisation: from });
        output::answer(out, &self.names, line, &reply, bidder)?;
        write_all(out, &steps)?;
        Ok(reply.answer)
    }

    fn create(
        &mut self,
        line: usize,
        at: LogTime,
        name: &str,
        body: &TenderBody,
        out: &mut impl Write,
    ) -> Result<(), SimulateError> {
        let stop = |reason: String| SimulateError::Line { line, reason };
        if self.tenders.contains_key(name) {
            return Err(stop(format!("there is a tender {name:?} already")));
        }
        let mut aliases: Vec<String> = Vec::new();
        for (index, lot) in body.lots.iter().enumerate() {
            let alias = lot.alias().map_or_else(|| format!("{name}/{}", index + 1), str::to_owned);
            if self.lots.contains_key(&alias) || aliases.contains(&alias) {
                return Err(stop(format!("there is a lot {alias:?} already")));
            }
            aliases.push(alias);
        }
        self.tenders_made += 1;
        // The shape of a version 7 id, so that it looks like one where it is shown.
        let tender = TenderId::new(self.tenders_made << 80 | 7 << 76 | 2 << 62);
        let lots: Vec<LotId> = (1..=aliases.len()).map(|number| tender.lot(number as u16)).collect();
        self.names.tender(tender, name);
        for (lot, alias) in lots.iter().zip(&aliases) {
            self.names.lot(*lot, alias);
        }
        let mut spec = body.to_spec();
        for lot in spec.lots.iter_mut().filter(|lot| lot.rules.format == Format::Dutch) {
            // Limits need no rule in dutch; scenarios of other systems say it nonetheless.
            lot.rules.auto_bid = false;
        }
        let action = Action::CreateTender { tender, spec: Box::new(spec) };
        let answer = self.take(line, at, BUYER, action, out)?;
        // The names of a tender that was refused stay free for the next try.
        if matches!(answer, Answer::Tender(_)) {
            self.tenders.insert(name.to_owned(), tender);
            self.lots.extend(aliases.into_iter().zip(lots));
        }
        Ok(())
    }

    fn tender(
        &mut self,
        number: usize,
        at: LogTime,
        kind: input::TenderKind,
        line: TenderLine,
        out: &mut impl Write,
    ) -> Result<(), SimulateError> {
        use input::TenderKind::{Cancel, Disqualify, Extend, Pause, Publish, Resume, Start};
        let tender = self.tenders.get(&line.tender).copied().unwrap_or(NOWHERE);
        let reason = line.reason;
        let action = match kind {
            Publish => Action::Publish { tender },
            Start => Action::Start { tender },
            Pause => Action::Pause { tender, reason },
            Resume => Action::Resume { tender, reason },
            Cancel => Action::Cancel { tender, reason },
            Extend => Action::Extend {
                tender,
                // The number 0 is no lot of any tender.
                lot: line.lot.map(|lot| self.lot_of(tender, &lot)),
                seconds: line.seconds.unwrap_or(0),
                reason,
            },
            Disqualify => {
                let bidder = self.bidder_of(tender, line.bidder.as_deref().unwrap_or_default());
                Action::Disqualify { tender, bidder, reason }
            }
        };
        self.take(number, at, BUYER, action, out)?;
        Ok(())
    }

    fn admit(
        &mut self,
        number: usize,
        at: LogTime,
        line: ScoringLine,
        out: &mut impl Write,
    ) -> Result<(), SimulateError> {
        let tender = self.tenders.get(&line.tender).copied().unwrap_or(NOWHERE);
        let organisation = self.names.organisation(&line.bidder);
        let ScoringBody { adjustments, features } = line.body.unwrap_or_default();
        let lot = |lot: &crate::body::LotRef| match lot {
            crate::body::LotRef::Number(number) => *number,
            crate::body::LotRef::Name(name) => i64::from(self.lot_of(tender, name)),
        };
        let action = Action::Admit {
            tender,
            organisation,
            adjustments: adjustments.iter().map(|adjustment| adjustment.to_spec(lot)).collect(),
            features: features.iter().map(|feature| feature.to_spec(lot)).collect(),
            accepted: true,
        };
        self.take(number, at, BUYER, action, out)?;
        Ok(())
    }

    fn lot(
        &mut self,
        number: usize,
        at: LogTime,
        kind: input::LotKind,
        line: LotLine,
        out: &mut impl Write,
    ) -> Result<(), SimulateError> {
        use input::LotKind::{Accept, AutoBid, Award, AwardReject, Bid, Void};
        let lot = self.lots.get(&line.lot).copied().unwrap_or(NOWHERE.lot(1));
        let organisation = self.names.organisation(&line.bidder);
        let reason = line.reason;
        let (from, action) = match kind {
            Bid => {
                let action = Action::Bid {
                    lot,
                    price: line.price.0.map(|price| price.0),
                    confirm: line.confirm,
                    expires_at: line.expires_at.map(|time| time.0),
                    seen_seq: line.seen_seq,
                    auto_limit: line.auto_limit.map(|limit| limit.0),
                    all_or_nothing: line.all_or_nothing,
                };
                (organisation, action)
            }
            AutoBid => (organisation, Action::AutoBid { lot, limit: line.limit.0.map(|limit| limit.0) }),
            Accept => (organisation, Action::Accept { lot, step: line.step.unwrap_or(0) }),
            Void => (BUYER, Action::Void { lot, bid: self.standing_of(lot, organisation), reason }),
            Award => (BUYER, Action::Award { lot, bidder: self.bidder_of(lot.tender(), &line.bidder), reason }),
            AwardReject => {
                (BUYER, Action::RejectAward { lot, bidder: self.bidder_of(lot.tender(), &line.bidder), reason })
            }
        };
        self.take(number, at, from, action, out)?;
        Ok(())
    }

    /// The number of a lot inside `tender`; 0 for a lot elsewhere or nowhere.
    fn lot_of(&self, tender: TenderId, name: &str) -> u16 {
        self.lots.get(name).filter(|lot| lot.tender() == tender).map_or(0, |lot| lot.number())
    }

    /// How the buyer names a bidder: by its number, before numbers are drawn by its id; by the number 0, which nobody
    /// has, if it is none.
    fn bidder_of(&mut self, tender: TenderId, name: &str) -> BidderRef {
        let organisation = self.names.organisation(name);
        let tender = self.engine.tender(tender);
        match tender.and_then(|tender| Some((tender, tender.bidder_of(organisation)?))) {
            Some((tender, bidder)) if tender.is_numbered() => BidderRef::Number(bidder.number.0.into()),
            Some((_, bidder)) => BidderRef::Id(bidder.id),
            None => BidderRef::Number(0),
        }
    }

    /// The standing bid of an organisation; an id that no bid has, if there is none.
    fn standing_of(&self, lot: LotId, organisation: OrganisationId) -> RequestId {
        let standing =
            self.engine.lot(lot).and_then(|(tender, lot)| lot.standing(tender.bidder_of(organisation)?.number));
        standing.map_or(RequestId(0), |standing| standing.bid)
    }
}

fn write_all(out: &mut impl Write, lines: &[String]) -> io::Result<()> {
    lines.iter().try_for_each(|line| writeln!(out, "{line}"))
}
