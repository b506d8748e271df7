//! What rows the entries of one shard make. A function of the entries alone: where one batch ends and the next begins
//! changes no row, so whoever begins again from any position ends with the same tables.
//!
//! Shows nothing that others than its own bidder may not see: decisions come from [`Lot::decisions_shown`], numbers of
//! bidders from the moment they are drawn, limits never.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use engine::{
    AccountAction, Accounts, Action, Decision, Engine, Entry, Event, LogTime, Lot, LotId, MaxNext, OrganisationId,
    Outcome, Price, Ranks, Reply, Sink, Step, Tender, TenderId,
};

use super::row::{Batch, Value};
use super::tables::{
    AWARDS, BIDDERS, BIDS, EVENTS, EXTENSIONS, LOT_STATES, LOTS, MEMBERS, ORGANISATIONS, TENDERS,
};
use crate::uuid_text;

/// What of a tender has changed.
#[derive(Clone, Copy, Debug, Default)]
struct Touched {
    bidders: bool,
}

/// Gathers the rows of one shard.
#[derive(Debug, Default)]
pub struct Gather {
    batch: Batch,
    tenders: BTreeMap<TenderId, Touched>,
    /// Lots that changed, and whether decisions that were written already may have too.
    lots: BTreeMap<LotId, bool>,
    /// Lots that made a step in the entry that is applied, with the stamp of the newest.
    stepped: BTreeMap<LotId, LogTime>,
    /// How many decisions of a lot are written.
    shown: HashMap<LotId, u32>,
    /// How many lots of a draft are written.
    drafts: HashMap<TenderId, u16>,
}

impl Sink for Gather {
    fn reply(&mut self, _: usize, _: &Reply) {}

    fn step(&mut self, tender: &Tender, lot: &Lot, step: &Step) {
        let lot_id = uuid_text(lot.id.0);
        self.stepped.insert(lot.id, step.at);
        let touched = self.tenders.entry(tender.id).or_default();
        let again = self.lots.entry(lot.id).or_default();
        for (n, event) in (0i64..).zip(&step.events) {
            let place = || vec![Value::from(lot_id.clone()), int(step.seq), Value::Int(n), Value::Int(step.at.0)];
            let row = |rest: Vec<Value>| place().into_iter().chain(rest).collect::<Vec<Value>>();
            match event {
                Event::Bid { .. } => {}
                Event::Extended { closes_at, added_ms, reason } => {
                    let rest = vec![reason.word().into(), Value::Int(*added_ms), time(*closes_at)];
                    self.batch.put(&EXTENSIONS, row(rest));
                }
                _ => {
                    // What was accepted may have been taken back, what was hidden may have come to light.
                    *again = true;
                    touched.bidders = true;
                }
            }
            match event {
                Event::Awarded { bidder, price } => {
                    let rest = vec!["awarded".into(), int(bidder.0), Value::Int(price.0)];
                    self.batch.put(&AWARDS, row(rest));
                }
                Event::Rejected { bidder } => {
                    self.batch.put(&AWARDS, row(vec!["rejected".into(), int(bidder.0), Value::Null]));
                }
                Event::Closed | Event::Unsuccessful | Event::Cancelled { .. } => {
                    self.batch.put(&LOT_STATES, state_row(lot, step.at, true));
                }
                _ => {}
            }
            self.batch.put(&EVENTS, row(event_values(event)));
        }
    }
}

impl Gather {
    /// Gathers behind a state whose rows are written.
    pub fn behind(engine: &Engine) -> Self {
        let mut gather = Self::default();
        for tender in engine.tenders() {
            gather.drafts.insert(tender.id, tender.lots().len() as u16);
            for lot in tender.lots() {
                gather.shown.insert(lot.id, lot.shown_count());
            }
        }
        gather
    }

    /// Told after the engine has applied `entry` with this as its sink.
    pub fn applied(&mut self, engine: &Engine, entry: &Entry) {
        for (lot, at) in std::mem::take(&mut self.stepped) {
            if let Some((_, lot)) = engine.lot(lot) {
                self.batch.put(&LOT_STATES, state_row(lot, at, false));
            }
        }
        for command in &entry.commands {
            match &command.action {
                Action::Bid { lot, .. } | Action::Accept { lot, .. } | Action::AutoBid { lot, .. } => {
                    self.lots.entry(*lot).or_default();
                }
                Action::Admit { tender, .. } | Action::Join { tender } | Action::Disqualify { tender, .. } => {
                    self.tenders.entry(*tender).or_default().bidders = true;
                }
                Action::CreateTender { tender, .. } | Action::UpdateTender { tender, .. } => {
                    self.tenders.entry(*tender).or_default();
                    self.touch_lots(engine, *tender);
                }
                action => {
                    if let Some(tender) = action.tender() {
                        self.tenders.entry(tender).or_default();
                    }
                }
            }
        }
    }

    fn touch_lots(&mut self, engine: &Engine, tender: TenderId) {
        let count = engine.tender(tender).map_or(0, |tender| tender.lots().len() as u16);
        let before = self.drafts.insert(tender, count).unwrap_or(0);
        for number in 1..=count {
            self.lots.entry(tender.lot(number)).or_default();
        }
        for number in count + 1..=before {
            self.lots.remove(&tender.lot(number));
            self.batch.delete(&LOTS, vec![uuid_text(tender.lot(number).0).into()]);
        }
    }

    /// Told before the accounts apply `entry`: who is erased by it is known only now.
    pub fn applying_accounts(&mut self, accounts: &Accounts, entry: &Entry) {
        for command in &entry.commands {
            let Action::Account(AccountAction::Erase { organisation, .. }) = &command.action else { continue };
            for user in accounts.members(*organisation) {
                self.batch.delete(&MEMBERS, vec![uuid_text(user.id.0).into()]);
            }
        }
    }

    /// Told after the accounts have applied `entry`.
    pub fn applied_accounts(&mut self, accounts: &Accounts, entry: &Entry) {
        let mut organisations = BTreeSet::new();
        for command in &entry.commands {
            match &command.action {
                Action::Account(AccountAction::Register { organisation, .. }) => {
                    organisations.insert(*organisation);
                }
                Action::Account(AccountAction::AddMember { .. }) => {
                    organisations.insert(command.envelope.organisation);
                }
                Action::Account(AccountAction::RemoveMember { user }) if accounts.user(*user).is_none() => {
                    self.batch.delete(&MEMBERS, vec![uuid_text(user.0).into()]);
                }
                _ => {}
            }
        }
        for organisation in organisations {
            self.organisation(accounts, organisation);
        }
    }

    fn organisation(&mut self, accounts: &Accounts, id: OrganisationId) {
        let Some(organisation) = accounts.organisation(id) else { return };
        let values =
            vec![uuid_text(id.0).into(), organisation.name.as_str().into(), organisation.kind.word().into()];
        self.batch.put(&ORGANISATIONS, values);
        for user in accounts.members(id) {
            let values = vec![uuid_text(user.id.0).into(), uuid_text(id.0).into(), user.role.word().into()];
            self.batch.put(&MEMBERS, values);
        }
    }

    /// Makes all rows that a state alone can give: events and what comes of them are not among them.
    pub fn everything(&mut self, engine: &Engine) {
        for tender in engine.tenders() {
            self.tenders.insert(tender.id, Touched { bidders: true });
            self.drafts.insert(tender.id, tender.lots().len() as u16);
            self.lots.extend(tender.lots().iter().map(|lot| (lot.id, true)));
        }
    }

    /// As [`Gather::everything`], of the accounts.
    pub fn every_account(&mut self, accounts: &Accounts) {
        let ids: Vec<OrganisationId> = accounts.organisations().map(|organisation| organisation.id).collect();
        for id in ids {
            self.organisation(accounts, id);
        }
    }

    /// How many rows wait, not counting those that only the end of a batch makes.
    pub fn waiting(&self) -> usize {
        self.batch.len() + self.lots.len()
    }

    /// The rows since the last call; `engine` is the state now, none for the accounts.
    pub fn take(&mut self, engine: Option<&Engine>) -> Batch {
        let lots = std::mem::take(&mut self.lots);
        let tenders = std::mem::take(&mut self.tenders);
        if let Some(engine) = engine {
            for (id, touched) in tenders {
                let Some(tender) = engine.tender(id) else { continue };
                self.batch.put(&TENDERS, tender_row(tender));
                if touched.bidders {
                    for bidder in tender.bidders() {
                        self.batch.put(&BIDDERS, bidder_row(tender, bidder));
                    }
                }
                // A lot's end and stage may change with its tender's.
                for lot in tender.lots().iter().filter(|lot| !lots.contains_key(&lot.id)) {
                    self.batch.put(&LOTS, lot_row(tender, lot));
                }
            }
            for (id, again) in lots {
                let Some((tender, lot)) = engine.lot(id) else { continue };
                self.batch.put(&LOTS, lot_row(tender, lot));
                let shown = self.shown.entry(id).or_default();
                let from = if again { 0 } else { *shown };
                for (n, decision) in lot.decisions_shown(from) {
                    self.batch.put(&BIDS, bid_row(tender, lot, n, &decision));
                }
                *shown = lot.shown_count();
            }
        }
        std::mem::take(&mut self.batch)
    }
}

fn int(number: impl TryInto<i64>) -> Value {
    // Counts and steps are far below 2^63.
    Value::Int(number.try_into().unwrap_or(i64::MAX))
}

fn flag(set: bool) -> Value {
    Value::Int(i64::from(set))
}

fn time(at: Option<LogTime>) -> Value {
    at.map(|at| at.0).into()
}

fn price(price: Option<Price>) -> Value {
    price.map(|price| price.0).into()
}

fn tender_row(tender: &Tender) -> Vec<Value> {
    let spec = tender.spec();
    vec![
        uuid_text(tender.id.0).into(),
        uuid_text(tender.buyer.0).into(),
        spec.title.as_str().into(),
        spec.reference.as_str().into(),
        spec.description.as_str().into(),
        format!("{}\u{1}{}", spec.title.to_lowercase(), spec.reference.to_lowercase()).into(),
        spec.currency.as_str().into(),
        spec.access.word().into(),
        flag(spec.public),
        spec.lot_mode.word().into(),
        flag(spec.anonymous_to_buyer),
        tender.stage.word().into(),
        int(tender.version),
        int(tender.lots().len()),
        Value::Int(tender.created_at.0),
        time(tender.published_at),
        time(tender.opens_at),
        flag(tender.opened()),
    ]
}

fn lot_row(tender: &Tender, lot: &Lot) -> Vec<Value> {
    let rules = lot.rules();
    let (lead, result) = (lot.lead(), lot.result());
    let title = tender.spec().lots.get(usize::from(lot.number) - 1).map_or("", |spec| spec.title.as_str());
    let first = lot.decisions_shown(0).find_map(|(_, decision)| match decision.outcome {
        Outcome::Accepted(answer) | Outcome::Automatic(answer) => Some(answer.price),
        _ => None,
    });
    vec![
        uuid_text(lot.id.0).into(),
        uuid_text(tender.id.0).into(),
        int(lot.number),
        title.into(),
        rules.format.word().into(),
        int(rules.price_scale),
        Value::Int(10i64.pow(u32::from(rules.price_scale))),
        price(rules.ceiling),
        price(rules.reserve.map(|reserve| reserve.price)),
        lot.stage.word().into(),
        time(lot.opens_at()),
        time(lot.opened_at()),
        time(lot.closes_at()),
        time(lot.closed_at()),
        int(lot.extensions),
        int(lot.seq),
        int(lot.bidder_count()),
        price(first),
        price(lead.map(|lead| lead.price)),
        lead.map(|lead| i64::from(lead.bidder.0)).into(),
        result.winner.map(|bidder| i64::from(bidder.0)).into(),
        price(result.pays),
        flag(result.abnormally_low),
    ]
}

fn bidder_row(tender: &Tender, bidder: &engine::Bidder) -> Vec<Value> {
    // Who bids under which number must not be found out by joining tables.
    let numbered = tender.is_numbered() && (!tender.spec().anonymous_to_buyer || tender.shows_names());
    vec![
        uuid_text(tender.id.0).into(),
        uuid_text(bidder.id.0).into(),
        numbered.then_some(i64::from(bidder.number.0)).into(),
        uuid_text(bidder.organisation.0).into(),
        bidder.status.word().into(),
        Value::Int(bidder.admitted_at.0),
    ]
}

fn bid_row(tender: &Tender, lot: &Lot, n: u32, decision: &Decision) -> Vec<Value> {
    let (status, code, seq, max_next, ranks): (_, Option<&str>, _, _, Option<Ranks>) = match &decision.outcome {
        Outcome::Accepted(bid) | Outcome::Automatic(bid) => ("accepted", None, bid.seq, bid.max_next, bid.ranks),
        Outcome::Voided(bid) => ("voided", None, bid.seq, bid.max_next, bid.ranks),
        Outcome::Dropped(bid) => ("withdrawn", None, bid.seq, bid.max_next, bid.ranks),
        Outcome::Withdrawal(taken) => ("withdrawn", None, taken.seq, taken.max_next, None),
        Outcome::Refused(refused) => {
            ("refused", Some(refused.refusal.code()), refused.seq, refused.max_next, None)
        }
    };
    let max_next = match max_next {
        MaxNext::At(price) => Value::Int(price.0),
        MaxNext::None | MaxNext::Unlimited => Value::Null,
    };
    vec![
        uuid_text(lot.id.0).into(),
        int(n),
        uuid_text(decision.bid.0).into(),
        decision.bidder.filter(|_| tender.is_numbered()).map(|bidder| i64::from(bidder.0)).into(),
        decision.price.and_then(|sent| sent.units(lot.rules().price_scale)).into(),
        decision.price.map(|sent| sent.to_string()).into(),
        status.into(),
        code.map(str::to_owned).into(),
        max_next,
        int(seq),
        ranks.map(|ranks| i64::from(ranks.rank)).into(),
        ranks.map(|ranks| i64::from(ranks.award_rank)).into(),
        flag(matches!(decision.outcome, Outcome::Automatic(_))),
        Value::Int(decision.at.0),
    ]
}

fn state_row(lot: &Lot, at: LogTime, is_end: bool) -> Vec<Value> {
    let lead = lot.lead();
    let mut book = String::from("[");
    for ranked in lot.ranking() {
        let comma = if book.len() > 1 { ", " } else { "" };
        let (standing, rank) = (&ranked.standing, ranked.ranks.rank);
        book.push_str(&format!("{comma}[{}, {}, {rank}]", standing.bidder.0, standing.price.0));
    }
    book.push(']');
    vec![
        uuid_text(lot.id.0).into(),
        Value::Int(at.0.div_euclid(1_000)),
        flag(is_end),
        Value::Int(at.0),
        int(lot.seq),
        lot.stage.word().into(),
        time(lot.closes_at()),
        int(lot.extensions),
        price(lead.map(|lead| lead.price)),
        lead.map(|lead| i64::from(lead.bidder.0)).into(),
        int(lot.bidder_count()),
        book.into(),
    ]
}

/// Kind, bidder, price, whether it became the lead, detail.
fn event_values(event: &Event) -> Vec<Value> {
    let mut told = (Value::Null, Value::Null, Value::Null, Value::Null);
    let kind = match event {
        Event::Opened => "opened",
        Event::Bid { bidder, price, lead, auto: _ } => {
            told = (int(bidder.0), Value::Int(price.0), flag(*lead), Value::Null);
            "bid"
        }
        Event::Withdrawn { bidder } => {
            told.0 = int(bidder.0);
            "withdrawn"
        }
        Event::Turn { round, turn, bidder, .. } => {
            told = (int(bidder.0), Value::Null, Value::Null, format!("{round}.{turn}").into());
            "turn"
        }
        Event::Step { step, price, .. } => {
            told = (Value::Null, Value::Int(price.0), Value::Null, step.to_string().into());
            "step"
        }
        Event::Level { step, price, .. } => {
            told = (Value::Null, Value::Int(price.0), Value::Null, step.to_string().into());
            "level"
        }
        Event::Out { bidder } => {
            told.0 = int(bidder.0);
            "out"
        }
        Event::Voided { bidder, reason } => {
            told = (int(bidder.0), Value::Null, Value::Null, reason.to_string().into());
            "voided"
        }
        Event::Extended { reason, .. } => {
            told.3 = reason.word().into();
            "extended"
        }
        Event::Paused { reason } => {
            told.3 = reason.to_string().into();
            "paused"
        }
        Event::Resumed { reason, .. } => {
            told.3 = reason.to_string().into();
            "resumed"
        }
        Event::Disqualified { bidder } => {
            told.0 = bidder.map(|bidder| i64::from(bidder.0)).into();
            "disqualified"
        }
        Event::Closed => "closed",
        Event::Awarded { bidder, price } => {
            told = (int(bidder.0), Value::Int(price.0), Value::Null, Value::Null);
            "awarded"
        }
        Event::Rejected { bidder } => {
            told.0 = int(bidder.0);
            "rejected"
        }
        Event::Unsuccessful => "unsuccessful",
        Event::Cancelled { reason } => {
            told.3 = reason.to_string().into();
            "cancelled"
        }
    };
    vec![kind.into(), told.0, told.1, told.2, told.3]
}
