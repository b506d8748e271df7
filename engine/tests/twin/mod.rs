//! A second, naive reading of the auction rules, to judge the engine by. Written for clarity: linear scans, own
//! types, no code shared with the engine. It never tries to be fast.
//!
//! An amount is a whole number of 10^-9 of the currency (`Amount`), a time is milliseconds (`Ms`), a rank counts from 1.

mod award;
mod bidding;
mod clock;
mod lot;
mod order;
mod overtime;
mod phases;
mod prices;
mod ratio;
mod running;
mod settle;

use sha2::{Digest, Sha256};

pub use prices::Highest;
pub use ratio::Ratio;

pub type Amount = i128;
pub type Ms = i64;
pub type Org = u64;

/// What a buyer asks for.
#[derive(Clone, Debug, PartialEq)]
pub struct Plan {
    pub title: String,
    pub open_access: bool,
    pub public: bool,
    pub opens_at: Option<Ms>,
    pub terms: bool,
    /// `parallel`, `serial` or `staggered`.
    pub lot_mode: &'static str,
    pub stagger_s: i64,
    pub stagger_follows: bool,
    pub gap_s: i64,
    pub anonymous: bool,
    /// Somewhere in it is a rule that must be refused.
    pub invalid: Option<&'static str>,
    pub lots: Vec<LotPlan>,
}

#[derive(Clone, Debug, PartialEq)]
pub struct LotPlan {
    pub format: Format,
    /// Digits behind the point.
    pub scale: u32,
    /// In english and sealed lots; 0 in others.
    pub duration_s: i64,
    pub ceiling: Option<Amount>,
    pub floor: Option<Amount>,
    pub reserve: Option<Amount>,
    pub improvement: &'static str,
    pub buffer: Option<(Amount, Amount)>,
    pub step: Step,
    pub tick: Option<Amount>,
    pub max_step: Option<Amount>,
    /// In thousandths of a percent.
    pub guard: Option<i128>,
    pub tie_rank: &'static str,
    pub tie_free_ranks: usize,
    pub max_bids: Option<usize>,
    pub min_bidders: Option<usize>,
    pub overtime: Option<Overtime>,
    pub shows_rank: bool,
    /// Decides nothing here, but the engine must not mind.
    pub shows_lead: &'static str,
    pub automatic_award: bool,
    pub grace_s: i64,
    pub max_view_age: Option<u64>,
    /// `none`, `allowed` or `required`.
    pub prebid: &'static str,
    pub auto_bid: bool,
    pub decision_s: Option<i64>,
    pub all_or_nothing: bool,
    /// How near to the lead is yellow, in thousandths of a percent.
    pub near: i128,
    /// Name and largest weight, in 10^-9.
    pub features: Vec<(String, Amount)>,
}

#[derive(Clone, Debug, PartialEq)]
pub enum Format {
    English,
    Sealed { second_price: bool },
    Dutch { start: Amount, step: Amount, interval_s: i64 },
    Japanese { start: Amount, step: Amount, interval_s: i64, floor: Amount },
    Rounds { count: usize, turn_s: i64, pause_s: i64, lead_in_s: i64, announce_s: Option<i64> },
}

#[derive(Clone, Debug, PartialEq)]
pub enum Step {
    Unit,
    Amount(Amount),
    /// In thousandths of a percent.
    Percent(i128),
    /// From and step, in any order.
    Table(Vec<(Amount, Amount)>),
}

#[derive(Clone, Debug, PartialEq)]
pub struct Overtime {
    pub window_s: i64,
    pub length_s: i64,
    pub mode: &'static str,
    pub trigger: &'static str,
    pub rank: usize,
    pub first_bid_triggers: bool,
    pub max_count: Option<u32>,
    pub max_total_s: Option<i64>,
    pub scope: &'static str,
}

impl LotPlan {
    /// The smallest difference between two prices.
    pub fn unit(&self) -> Amount {
        10i128.pow(9 - self.scale)
    }

    pub fn is_english(&self) -> bool {
        self.format == Format::English
    }

    pub fn is_sealed(&self) -> bool {
        matches!(self.format, Format::Sealed { .. })
    }

    pub fn is_dutch(&self) -> bool {
        matches!(self.format, Format::Dutch { .. })
    }

    pub fn is_japanese(&self) -> bool {
        matches!(self.format, Format::Japanese { .. })
    }

    pub fn is_rounds(&self) -> bool {
        matches!(self.format, Format::Rounds { .. })
    }

    /// Whether one end is fixed at the opening, and may be moved.
    pub fn has_duration(&self) -> bool {
        self.is_english() || self.is_sealed()
    }

    /// Whether a pre-bid must be there at the opening.
    pub fn needs_prebid(&self) -> bool {
        self.prebid == "required" || self.is_rounds()
    }

    /// Whether pre-bids are taken.
    pub fn takes_prebids(&self) -> bool {
        self.prebid != "none" || self.is_rounds()
    }

    /// Whether bidders may leave a limit.
    pub fn takes_limits(&self) -> bool {
        self.auto_bid || self.is_dutch()
    }
}

/// A command with its sender.
#[derive(Clone, Debug)]
pub struct Sent {
    pub at: Ms,
    pub from: Org,
    pub request: u64,
    pub salt: [u8; 16],
    /// Key and body.
    pub key: Option<(u64, u64)>,
    pub ask: Ask,
}

/// What is asked. Tenders are named by a number of their own, lots by tender and number.
#[derive(Clone, Debug)]
pub enum Ask {
    Tick,
    Takeover {
        planned: bool,
    },
    Create {
        tender: u64,
        plan: Plan,
    },
    /// `seen`: the stage in which the sender saw the tender; the version counts that too.
    Update {
        tender: u64,
        plan: Plan,
        right_version: bool,
        seen: &'static str,
    },
    Publish {
        tender: u64,
    },
    Start {
        tender: u64,
    },
    Pause {
        tender: u64,
        reason: Option<String>,
    },
    Resume {
        tender: u64,
        reason: Option<String>,
    },
    Cancel {
        tender: u64,
        reason: Option<String>,
    },
    Extend {
        tender: u64,
        lot: Option<u16>,
        seconds: i64,
        reason: Option<String>,
    },
    Admit {
        tender: u64,
        who: Org,
        accepted: bool,
        scoring: Scoring,
    },
    Join {
        tender: u64,
    },
    Disqualify {
        tender: u64,
        bidder: Named,
        reason: Option<String>,
    },
    Bid {
        tender: u64,
        lot: u16,
        bid: BidAsk,
    },
    Accept {
        tender: u64,
        lot: u16,
        step: u64,
    },
    Limit {
        tender: u64,
        lot: u16,
        limit: Option<Amount>,
    },
    Void {
        tender: u64,
        lot: u16,
        bid: u64,
        reason: Option<String>,
    },
    Award {
        tender: u64,
        lot: u16,
        bidder: Named,
        reason: Option<String>,
    },
    Reject {
        tender: u64,
        lot: u16,
        bidder: Named,
        reason: Option<String>,
    },
}

#[derive(Clone, Debug)]
pub struct BidAsk {
    pub price: Option<Amount>,
    pub confirm: bool,
    pub expires_at: Option<Ms>,
    pub seen_seq: Option<u64>,
    pub limit: Option<Amount>,
    pub all_or_nothing: Option<bool>,
}

/// What an admission says about a bidder's prices.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Scoring {
    /// Lot number, factor, addend.
    pub adjustments: Vec<(i64, Option<Ratio>, Option<Amount>)>,
    /// Lot number, feature, weight won in 10^-9.
    pub features: Vec<(i64, String, Amount)>,
}

/// A bidder as a buyer names it.
#[derive(Clone, Copy, Debug)]
pub enum Named {
    Id(u64),
    Number(i64),
}

/// The answer to a command.
#[derive(Clone, Debug, PartialEq)]
pub enum Said {
    Done,
    Refused {
        code: &'static str,
        shown: Option<Shown>,
    },
    Bid {
        bidder: u16,
        price: Amount,
        seq: u64,
        ranks: Option<Ranks>,
        next: Highest,
    },
    /// A turn's bids were dropped.
    Withdrawn {
        seq: u64,
        next: Highest,
    },
    /// A limit was left or taken back.
    Limit {
        seq: u64,
        next: Highest,
    },
    Tender {
        stage: &'static str,
    },
    Bidder {
        number: Option<u16>,
        org: Org,
        status: &'static str,
    },
    Voided {
        bidder: u16,
        price: Amount,
        seq: u64,
    },
    Award {
        stage: &'static str,
        bidder: u16,
        pays: Option<Amount>,
        seq: u64,
    },
}

/// What the refusal of a bid, accept or limit tells about the lot.
#[derive(Clone, Debug, PartialEq)]
pub struct Shown {
    pub seq: u64,
    pub closes_at: Option<Ms>,
    pub next: Highest,
}

#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Ranks {
    pub rank: usize,
    pub award_rank: usize,
    pub tied: bool,
}

/// One step of a lot.
#[derive(Clone, Debug, PartialEq)]
pub struct Happened {
    pub tender: u64,
    pub lot: u16,
    pub seq: u64,
    pub at: Ms,
    pub events: Vec<Event>,
}

#[derive(Clone, Debug, PartialEq)]
pub enum Event {
    Opened,
    Bid { bidder: u16, price: Amount, lead: bool, auto: bool },
    Withdrawn { bidder: u16 },
    Turn { round: usize, turn: usize, bidder: u16, ends_at: Ms },
    Step { step: u64, price: Amount, ends_at: Ms },
    Level { step: u64, price: Amount, ends_at: Ms },
    Out { bidder: u16 },
    Voided { bidder: u16, reason: String },
    Extended { closes_at: Option<Ms>, added_ms: i64, reason: &'static str },
    Paused { reason: String },
    Resumed { reason: String, closes_at: Ms },
    Disqualified { bidder: u16 },
    Closed,
    Awarded { bidder: u16, price: Amount },
    Rejected { bidder: u16 },
    Unsuccessful,
    Cancelled { reason: String },
}

#[derive(Clone, Debug)]
pub struct Tender {
    pub id: u64,
    pub buyer: Org,
    pub plan: Plan,
    pub stage: &'static str,
    pub published: bool,
    pub opened: bool,
    pub bidders: Vec<Bidder>,
    pub lots: Vec<Lot>,
    /// The salt of its publication.
    pub salt: [u8; 16],
}

#[derive(Clone, Debug)]
pub struct Bidder {
    pub id: u64,
    pub org: Org,
    pub status: &'static str,
    /// Whether it accepted the terms, whatever they were.
    pub accepted: bool,
    /// What its newest admission said about its prices.
    pub scoring: Scoring,
}

#[derive(Clone, Debug)]
pub struct Lot {
    pub number: u16,
    pub plan: LotPlan,
    pub stage: &'static str,
    pub seq: u64,
    pub opened_at: Option<Ms>,
    pub closed_at: Option<Ms>,
    /// When a pending serial lot opens, once that is known.
    pub opens: Option<Ms>,
    /// The end, while the lot is open, and after it; while a lot with phases is open, that of its plan.
    pub end: Option<Ms>,
    /// The frozen rest, while the lot is paused; of the phase, where there are phases.
    pub rest: Ms,
    /// Where a dutch, japanese or rounds lot is.
    pub phase: Option<Phase>,
    /// Who is still in (japanese), or takes part (rounds).
    pub inside: Vec<u16>,
    /// The turns of the running round.
    pub order: Vec<u16>,
    /// Pre-bids before the opening, and the bids of a sealed lot before its close.
    pub hidden: Vec<Standing>,
    /// What was given in the running turn or level.
    pub given: Vec<Standing>,
    /// Whether the last thing given in the running turn was a withdrawal.
    pub withdrew: bool,
    pub limits: Vec<Limit>,
    /// Who had a pre-bid at the opening.
    pub prebidders: Vec<u16>,
    /// Bidder, factor and addend, where they are not 1 and 0.
    pub adjustments: Vec<(u16, Ratio, Amount)>,
    /// The drawn numbers of the bidders, if they were drawn.
    pub drawn: Vec<u16>,
    pub extensions: u32,
    /// What overtime added so far.
    pub added_ms: i64,
    pub standing: Vec<Standing>,
    /// The first bid of every bidder that stood.
    pub initial: Vec<(u16, Amount)>,
    /// How many bids of a bidder were accepted.
    pub accepted: Vec<(u16, usize)>,
    /// Decisions so far.
    pub decisions: usize,
    pub awarded_to: Option<u16>,
}

#[derive(Clone, Debug, PartialEq)]
pub struct Standing {
    pub bidder: u16,
    pub bid: u64,
    pub price: Amount,
    pub at: Ms,
    pub seq: u64,
    /// Tells apart what was entered at the same time: counts commands.
    pub order: u64,
    pub auto: bool,
    pub rejected: bool,
}

/// A secret limit.
#[derive(Clone, Debug, PartialEq)]
pub struct Limit {
    pub bidder: u16,
    pub request: u64,
    pub price: Amount,
    pub at: Ms,
    pub seq: u64,
    pub order: u64,
}

/// A stretch of a dutch, japanese or rounds lot.
#[derive(Clone, Debug, PartialEq)]
pub struct Phase {
    /// `lead_in`, `turn`, `pause`, `announce`, `step` or `level`.
    pub kind: &'static str,
    pub ends: Ms,
    /// From 1; 0 where there is none.
    pub round: usize,
    pub turn: usize,
    pub bidder: u16,
    /// Of a dutch step or japanese level, from 0.
    pub step: u64,
    pub price: Amount,
}

/// The naive engine.
#[derive(Clone, Debug, Default)]
pub struct Twin {
    pub now: Ms,
    pub tenders: Vec<Tender>,
    /// Key, body, answer.
    keys: Vec<(u64, u64, Said)>,
    /// The steps since they were last taken.
    pub happened: Vec<Happened>,
    /// Whether the last command was answered from its key.
    pub repeated: bool,
    /// Counts commands.
    order: u64,
    /// The salt of the command that is being handled.
    salt: [u8; 16],
    /// Whether the next command has a secret: its salt is sealed with it, and nothing that lasts may come from it.
    pub sealed: bool,
    /// Whether who gets a number now gets it by the salt of the publication.
    draws_by_publication: bool,
}

/// What `Said` a refusal is.
fn refused(code: &'static str) -> Said {
    Said::Refused { code, shown: None }
}

/// A reason that is worth its name.
fn given(reason: &Option<String>) -> Option<String> {
    reason.clone().filter(|reason| !reason.trim().is_empty())
}

impl Twin {
    /// Takes a command and answers it.
    pub fn take(&mut self, sent: &Sent) -> Said {
        assert!(sent.at >= self.now, "time never runs backwards");
        let outage = matches!(sent.ask, Ask::Takeover { planned: false });
        self.order += 1;
        self.salt = sent.salt;
        self.draws_by_publication = std::mem::take(&mut self.sealed);
        self.pass_time(sent.at, outage);
        self.now = sent.at;
        let said = self.answer(sent);
        // What the command made due at once.
        self.pass_time(sent.at, false);
        said
    }

    /// Answers a command, from its key or by deciding it.
    fn answer(&mut self, sent: &Sent) -> Said {
        self.repeated = false;
        if let Some((key, body)) = sent.key
            && let Some((_, first_body, first)) = self.keys.iter().find(|(known, _, _)| *known == key)
        {
            self.repeated = *first_body == body;
            return if self.repeated { first.clone() } else { refused("idempotency_key_reused") };
        }
        let said = self.decide(sent);
        let not_found = ["lot_not_found", "tender_not_found"];
        if let Some((key, body)) = sent.key
            && !matches!(&said, Said::Refused { code, .. } if not_found.contains(code))
        {
            self.keys.push((key, body, said.clone()));
        }
        said
    }

    fn decide(&mut self, sent: &Sent) -> Said {
        match &sent.ask {
            Ask::Tick | Ask::Takeover { .. } => Said::Done,
            Ask::Create { tender, plan } => self.create(sent, *tender, plan),
            Ask::Update { tender, plan, right_version, seen } => {
                self.update(sent, *tender, plan, *right_version, seen)
            }
            Ask::Publish { tender } => self.publish(sent, *tender),
            Ask::Start { tender } => self.start(sent, *tender),
            Ask::Pause { tender, reason } => self.pause(sent, *tender, reason),
            Ask::Resume { tender, reason } => self.resume(sent, *tender, reason),
            Ask::Cancel { tender, reason } => self.cancel(sent, *tender, reason),
            Ask::Extend { tender, lot, seconds, reason } => self.extend(sent, *tender, *lot, *seconds, reason),
            Ask::Admit { tender, who, accepted, scoring } => self.admit(sent, *tender, *who, *accepted, scoring),
            Ask::Join { tender } => self.join(sent, *tender),
            Ask::Disqualify { tender, bidder, reason } => self.disqualify(sent, *tender, *bidder, reason),
            Ask::Bid { tender, lot, bid } => self.bid(sent, *tender, *lot, bid),
            Ask::Accept { tender, lot, step } => self.accept(sent, *tender, *lot, *step),
            Ask::Limit { tender, lot, limit } => self.limit(sent, *tender, *lot, *limit),
            Ask::Void { tender, lot, bid, reason } => self.void(sent, *tender, *lot, *bid, reason),
            Ask::Award { tender, lot, bidder, reason } => self.award(sent, *tender, *lot, *bidder, reason),
            Ask::Reject { tender, lot, bidder, reason } => self.reject(sent, *tender, *lot, *bidder, reason),
        }
    }

    pub fn find(&self, tender: u64) -> Option<usize> {
        self.tenders.iter().position(|known| known.id == tender)
    }

    /// The place of a tender that the sender may see.
    fn visible(&self, tender: u64, from: Org) -> Option<usize> {
        self.find(tender).filter(|place| self.tenders[*place].visible_to(from))
    }

    /// The place of a tender that the sender may see and owns.
    fn owned(&self, tender: u64, from: Org) -> Result<usize, Said> {
        let place = self.visible(tender, from).ok_or_else(|| refused("tender_not_found"))?;
        if self.tenders[place].buyer != from {
            return Err(refused("not_owner"));
        }
        Ok(place)
    }

    /// The places of a lot and its tender that the sender may see and owns.
    fn owned_lot(&self, tender: u64, lot: u16, from: Org) -> Result<(usize, usize), Said> {
        let place = self.visible(tender, from).ok_or_else(|| refused("lot_not_found"))?;
        if lot == 0 || usize::from(lot) > self.tenders[place].lots.len() {
            return Err(refused("lot_not_found"));
        }
        if self.tenders[place].buyer != from {
            return Err(refused("not_owner"));
        }
        Ok((place, usize::from(lot) - 1))
    }

    /// Writes down a step of a lot.
    fn step(&mut self, tender: usize, lot: usize, at: Ms, events: Vec<Event>) {
        let id = self.tenders[tender].id;
        let lot = &mut self.tenders[tender].lots[lot];
        lot.seq += 1;
        self.happened.push(Happened { tender: id, lot: lot.number, seq: lot.seq, at, events });
    }

    fn create(&mut self, sent: &Sent, id: u64, plan: &Plan) -> Said {
        if plan.invalid.is_some() {
            return refused("invalid_rules");
        }
        self.tenders.push(Tender {
            id,
            buyer: sent.from,
            plan: plan.clone(),
            stage: "draft",
            published: false,
            opened: false,
            bidders: Vec::new(),
            lots: plan.lots.iter().enumerate().map(|(index, lot)| Lot::new(index, lot)).collect(),
            salt: [0; 16],
        });
        Said::Tender { stage: "draft" }
    }

    fn update(&mut self, sent: &Sent, id: u64, plan: &Plan, right_version: bool, seen: &str) -> Said {
        let place = match self.owned(id, sent.from) {
            Ok(place) => place,
            Err(said) => return said,
        };
        let tender = &mut self.tenders[place];
        if !right_version || tender.stage != seen {
            return refused("version_mismatch");
        }
        if tender.stage != "draft" && tender.stage != "published" {
            return refused("wrong_stage");
        }
        if tender.stage == "draft" {
            if plan.invalid.is_some() {
                return refused("invalid_rules");
            }
            // Adjustments name lots: they stay, and must fit the new ones.
            let mut lots: Vec<Lot> =
                plan.lots.iter().enumerate().map(|(index, lot)| Lot::new(index, lot)).collect();
            for (bidder, number) in tender.bidders.iter().zip(1..) {
                let Some(scores) = scores(&lots, &bidder.scoring) else { return refused("invalid_rules") };
                adjust(&mut lots, number, &scores);
            }
            tender.plan = plan.clone();
            tender.lots = lots;
            return Said::Tender { stage: "draft" };
        }
        if (Plan { opens_at: tender.plan.opens_at, ..plan.clone() }) != tender.plan {
            return refused("rules_frozen");
        }
        if plan.opens_at != tender.plan.opens_at {
            tender.plan.opens_at = plan.opens_at;
            for lot in 0..self.tenders[place].lots.len() {
                self.step(place, lot, sent.at, Vec::new());
            }
        }
        self.open_if_due(place, sent.at);
        Said::Tender { stage: self.tenders[place].stage }
    }

    fn publish(&mut self, sent: &Sent, id: u64) -> Said {
        let place = match self.owned(id, sent.from) {
            Ok(place) => place,
            Err(said) => return said,
        };
        if self.tenders[place].stage != "draft" {
            return refused("wrong_stage");
        }
        self.tenders[place].stage = "published";
        self.tenders[place].published = true;
        self.tenders[place].salt = self.salt;
        let terms = self.tenders[place].plan.terms;
        for bidder in &mut self.tenders[place].bidders {
            if bidder.status != "disqualified" {
                bidder.status = if bidder.accepted || !terms { "admitted" } else { "invited" };
            }
        }
        for lot in 0..self.tenders[place].lots.len() {
            self.step(place, lot, sent.at, Vec::new());
        }
        self.open_if_due(place, sent.at);
        Said::Tender { stage: self.tenders[place].stage }
    }

    fn start(&mut self, sent: &Sent, id: u64) -> Said {
        let place = match self.owned(id, sent.from) {
            Ok(place) => place,
            Err(said) => return said,
        };
        if self.tenders[place].stage != "published" || self.tenders[place].plan.opens_at.is_some() {
            return refused("wrong_stage");
        }
        self.open(place, sent.at);
        Said::Tender { stage: self.tenders[place].stage }
    }

    fn admit(&mut self, sent: &Sent, id: u64, who: Org, accepted: bool, scoring: &Scoring) -> Said {
        let place = match self.owned(id, sent.from) {
            Ok(place) => place,
            Err(said) => return said,
        };
        let tender = &mut self.tenders[place];
        if !["draft", "published", "open"].contains(&tender.stage) {
            return refused("wrong_stage");
        }
        let known = tender.bidders.iter().position(|bidder| bidder.org == who);
        if known.is_some_and(|known| tender.opened || tender.bidders[known].status == "disqualified") {
            return refused("rules_frozen");
        }
        let Some(scores) = scores(&tender.lots, scoring) else { return refused("invalid_rules") };
        let index = known.unwrap_or_else(|| {
            let scoring = Scoring::default();
            tender.bidders.push(Bidder {
                id: sent.request,
                org: who,
                status: "invited",
                accepted: false,
                scoring,
            });
            tender.bidders.len() - 1
        });
        let bidder = &mut tender.bidders[index];
        bidder.accepted |= accepted;
        bidder.status = if bidder.accepted || !tender.plan.terms { "admitted" } else { "invited" };
        let number = index as u16 + 1;
        bidder.scoring = scoring.clone();
        adjust(&mut tender.lots, number, &scores);
        let shown = (tender.opened && !tender.hides_names()).then_some(number);
        Said::Bidder { number: shown, org: who, status: tender.bidders[index].status }
    }

    fn join(&mut self, sent: &Sent, id: u64) -> Said {
        let Some(place) = self.visible(id, sent.from) else { return refused("tender_not_found") };
        let tender = &mut self.tenders[place];
        if tender.buyer == sent.from {
            return refused("own_tender");
        }
        let known = tender.bidders.iter().position(|bidder| bidder.org == sent.from);
        match known {
            Some(index) if tender.bidders[index].status == "disqualified" => return refused("not_admitted"),
            None if !tender.plan.open_access => return refused("not_admitted"),
            _ => {}
        }
        if tender.stage != "published" && tender.stage != "open" {
            return refused("wrong_stage");
        }
        let index = known.unwrap_or_else(|| {
            let scoring = Scoring::default();
            let status = "admitted";
            tender.bidders.push(Bidder { id: sent.request, org: sent.from, status, accepted: true, scoring });
            tender.bidders.len() - 1
        });
        tender.bidders[index].status = "admitted";
        tender.bidders[index].accepted = true;
        let shown = tender.opened || !tender.plan.anonymous;
        Said::Bidder { number: shown.then_some(index as u16 + 1), org: sent.from, status: "admitted" }
    }
}

impl Tender {
    pub fn visible_to(&self, org: Org) -> bool {
        org == self.buyer
            || (self.published
                && (self.plan.public
                    || self.plan.open_access
                    || self.bidders.iter().any(|bidder| bidder.org == org)))
    }

    /// Whether the buyer must not learn yet which organisation has which number.
    pub fn hides_names(&self) -> bool {
        self.plan.anonymous && ["draft", "published", "open"].contains(&self.stage)
    }

    /// The dense index of a bidder that is still in the tender.
    fn named(&self, named: Named) -> Option<usize> {
        let index = match named {
            Named::Id(id) => self.bidders.iter().position(|bidder| bidder.id == id)?,
            Named::Number(_) if self.plan.anonymous && !self.opened => return None,
            Named::Number(number) => (0..self.bidders.len())
                .find(|index| i64::from(self.lots[0].number_of(*index as u16 + 1)) == number)?,
        };
        (index < self.bidders.len() && self.bidders[index].status != "disqualified").then_some(index)
    }

    /// Draws the numbers of the bidders, where the buyer must not know them.
    fn draw_numbers(&mut self, salt: [u8; 16]) {
        if !self.plan.anonymous {
            return;
        }
        let lot = |index: usize| {
            Sha256::new()
                .chain_update(salt)
                .chain_update(u128::from(self.bidders[index].id).to_be_bytes())
                .finalize()
        };
        let mut drawn: Vec<usize> = (0..self.bidders.len()).collect();
        drawn.sort_by_key(|index| lot(*index));
        let place = |index: usize| drawn.iter().position(|one| *one == index).expect("everybody draws") as u16 + 1;
        let numbers: Vec<u16> = (0..self.bidders.len()).map(place).collect();
        for lot in &mut self.lots {
            lot.drawn.clone_from(&numbers);
        }
    }
}

/// Factor and addend for each lot, unless something is wrong with them.
fn scores(all: &[Lot], scoring: &Scoring) -> Option<Vec<(Ratio, Amount)>> {
    let lots: Vec<i64> = (1..=all.len() as i64).collect();
    let named =
        scoring.adjustments.iter().map(|(lot, ..)| lot).chain(scoring.features.iter().map(|(lot, ..)| lot));
    for lot in named {
        let plan = &all[lots.iter().position(|known| known == lot)?].plan;
        if plan.is_dutch() || plan.is_japanese() {
            return None;
        }
    }
    let mut scores = Vec::new();
    for (lot, number) in all.iter().zip(lots) {
        let rows: Vec<_> = scoring.adjustments.iter().filter(|(lot, ..)| *lot == number).collect();
        let won: Vec<_> = scoring.features.iter().filter(|(lot, ..)| *lot == number).collect();
        if rows.len() > 1 {
            return None;
        }
        let (factor, addend) = rows.first().map_or((None, None), |(_, factor, addend)| (*factor, *addend));
        if factor.is_some_and(|factor| !factor.is_sensible_factor()) {
            return None;
        }
        if addend.is_some_and(|addend| addend % lot.plan.unit() != 0) {
            return None;
        }
        if factor.is_some() && !won.is_empty() {
            return None;
        }
        for (place, (_, id, value)) in won.iter().enumerate() {
            let max = lot.plan.features.iter().find(|(known, _)| known == id)?.1;
            if *value < 0 || *value > max || won[..place].iter().any(|(_, other, _)| other == id) {
                return None;
            }
        }
        let by_features = {
            // K = 1 + won / (1 - max); the factor is 1 / K.
            let most = 1_000_000_000 - lot.plan.features.iter().map(|(_, max)| max).sum::<Amount>();
            let won = won.iter().map(|(_, _, value)| value).sum::<Amount>();
            if won == 0 { Ratio::whole(1) } else { Ratio::new(most, most + won) }
        };
        scores.push((factor.unwrap_or(by_features), addend.unwrap_or(0)));
    }
    Some(scores)
}

/// Sets the adjustments of a bidder in all lots.
fn adjust(lots: &mut [Lot], number: u16, scores: &[(Ratio, Amount)]) {
    for (lot, (factor, addend)) in lots.iter_mut().zip(scores) {
        lot.adjustments.retain(|(bidder, _, _)| *bidder != number);
        if (*factor, *addend) != (Ratio::whole(1), 0) {
            lot.adjustments.push((number, *factor, *addend));
        }
    }
}
