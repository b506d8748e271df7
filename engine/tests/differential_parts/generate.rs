//! Makes random tenders and commands. It looks at the twin to find what is worth asking: prices at the edge of what
//! is taken, times around deadlines, bids that stand. It decides nothing.

use engine::TenderId;

use super::random::Random;
use crate::twin::{
    Amount, Ask, BidAsk, Format, Highest, Lot, LotPlan, Ms, Named, Org, Overtime, Plan, Ratio, Scoring, Sent,
    Step, Tender, Twin,
};

const BUYERS: [Org; 2] = [1, 2];
const SUPPLIERS: [Org; 6] = [10, 11, 12, 13, 14, 15];
const STRANGER: Org = 99;

/// How many tenders may be unfinished at a time.
const LIVE_TENDERS: usize = 3;

/// Whether the engine draws numbers.
const ANONYMOUS: bool = true;

/// Whether the engine takes bids bound together.
const ALL_OR_NOTHING: bool = true;

pub struct Generator {
    random: Random,
    now: Ms,
    requests: u64,
    tenders: u64,
    /// Keyed commands of the past, to be repeated.
    keyed: Vec<Sent>,
    /// Prices are divided by this: where there are few, bidders meet.
    narrow: i64,
    /// The shard that tenders are made for, and how many there are.
    shard: Option<(u16, u16)>,
}

/// The engine's id of the tender with this number.
pub fn tender_id(tender: u64) -> TenderId {
    TenderId::new(u128::from(tender) << 80 | 0x7000_8000 << 32 | u128::from(tender) << 13)
}

impl Generator {
    pub fn new(seed: u64) -> Self {
        let narrow = if seed % 3 == 2 { 15 } else { 1 };
        let random = Random::new(seed);
        Self { random, now: 1_700_000_000_000, requests: 0, tenders: 0, keyed: Vec::new(), narrow, shard: None }
    }

    /// One whose tenders belong to `shard` (from 0) of `shards`.
    pub fn of_shard(seed: u64, shard: u16, shards: u16) -> Self {
        Self { shard: Some((shard, shards)), ..Self::new(seed) }
    }

    /// A command for a world that has its own time and numbers, and whose twin may be behind: neither a tick nor a
    /// take-over. With `alone` nothing else is on its way.
    pub fn command_at(&mut self, twin: &Twin, now: Ms, request: u64, alone: bool) -> Sent {
        (self.now, self.requests) = (now, request);
        if self.random.one_in(30)
            && let Some(old) = (!self.keyed.is_empty()).then(|| self.random.pick(&self.keyed))
        {
            let repeated = self.repeat(old);
            return Sent { request, ..repeated };
        }
        let (from, ask) = loop {
            let (from, ask) = self.ask(twin, alone);
            if !matches!(ask, Ask::Tick | Ask::Takeover { .. }) {
                break (from, ask);
            }
        };
        let salt = u128::from(self.random.next()).to_le_bytes();
        let mut sent = Sent { at: now, from, request, salt, key: None, ask };
        if self.random.percent(70) {
            sent.key = Some((request, 7));
            self.keyed.push(sent.clone());
        }
        sent
    }

    /// A new tender and who makes it.
    pub fn tender(&mut self) -> (Org, Ask) {
        let (tender, plan) = (self.next_tender(), self.plan());
        (self.random.pick(&BUYERS), Ask::Create { tender, plan })
    }

    /// The number of the next tender.
    fn next_tender(&mut self) -> u64 {
        loop {
            self.tenders += 1;
            if self.shard.is_none_or(|(shard, shards)| tender_id(self.tenders).shard(shards) == shard) {
                return self.tenders;
            }
        }
    }

    pub fn one_in(&mut self, many: u64) -> bool {
        self.random.one_in(many)
    }

    /// The commands of the next entry: mostly one.
    pub fn batch(&mut self, twin: &Twin) -> Vec<Sent> {
        let count = if self.random.one_in(8) { self.random.between(2, 5) } else { 1 };
        (0..count).map(|place| self.command(twin, place == 0)).collect()
    }

    fn command(&mut self, twin: &Twin, first: bool) -> Sent {
        self.advance(twin);
        if self.random.one_in(25)
            && let Some(old) = (!self.keyed.is_empty()).then(|| self.random.pick(&self.keyed))
        {
            return self.repeat(old);
        }
        let (from, ask) = self.ask(twin, first);
        if matches!(ask, Ask::Takeover { .. })
            && let Some(deadline) = twin.next_deadline()
            && self.random.one_in(2)
        {
            self.now = self.now.max(deadline);
        }
        self.requests += 1;
        let salt = u128::from(self.random.next()).to_le_bytes();
        let mut sent = Sent { at: self.now, from, request: self.requests, salt, key: None, ask };
        if self.random.one_in(3) && !matches!(sent.ask, Ask::Tick | Ask::Takeover { .. }) {
            sent.key = Some((self.requests, 7));
            self.keyed.push(sent.clone());
        }
        sent
    }

    /// A keyed command again, sometimes with another body.
    fn repeat(&mut self, mut old: Sent) -> Sent {
        self.requests += 1;
        old.at = self.now;
        old.request = self.requests;
        if self.random.one_in(4)
            && let Some((_, body)) = &mut old.key
        {
            *body = 8;
        }
        old
    }

    /// Lets time pass: little, or to the edge of something.
    fn advance(&mut self, twin: &Twin) {
        let random = &mut self.random;
        let wanted = match random.between(0, 99) {
            0..50 => self.now,
            50..88 => self.now + random.between(0, 1_500),
            88..90 => self.now + random.between(0, 40_000),
            _ => match twin.next_deadline() {
                Some(deadline) => {
                    let lots = twin.tenders.iter().flat_map(|tender| &tender.lots);
                    let windows: Vec<Ms> = lots
                        .filter(|lot| lot.end == Some(deadline))
                        .filter_map(|lot| Some(lot.plan.overtime.as_ref()?.window_s * 1000))
                        .collect();
                    let window = if windows.is_empty() { 0 } else { random.pick(&windows) };
                    let back = if random.one_in(3) { 0 } else { window };
                    deadline - back + random.pick(&[-1, -1, 0, 1])
                }
                None => self.now + random.between(0, 10_000),
            },
        };
        self.now = self.now.max(wanted);
    }

    fn reason(&mut self) -> Option<String> {
        self.random.pick(&[Some("because"), Some("because"), Some("because"), Some("  "), None]).map(str::to_owned)
    }

    fn ask(&mut self, twin: &Twin, first: bool) -> (Org, Ask) {
        let finished = ["awarded", "unsuccessful", "cancelled"];
        let live: Vec<&Tender> = twin.tenders.iter().filter(|tender| !finished.contains(&tender.stage)).collect();
        // Inside a batch the twin is behind what the commands before do; a takeover is always an entry's first.
        if first && self.random.one_in(60) {
            return (0, Ask::Takeover { planned: self.random.one_in(4) });
        }
        if self.random.one_in(40) {
            return (0, Ask::Tick);
        }
        if live.is_empty() || (live.len() < LIVE_TENDERS && self.random.one_in(30)) {
            let plan = self.plan();
            let tender = self.next_tender();
            return (self.random.pick(&BUYERS), Ask::Create { tender, plan });
        }
        if self.random.one_in(50) {
            return self.about_nothing();
        }
        let open: Vec<&Tender> = live.iter().copied().filter(|tender| tender.stage == "open").collect();
        let tender = match self.random.between(0, 19) {
            0 => self.random.pick(&twin.tenders.iter().collect::<Vec<_>>()),
            1..15 if !open.is_empty() => self.random.pick(&open),
            _ => self.random.pick(&live),
        };
        let buyer = if self.random.one_in(25) { self.random.pick(&[1, 2, 10, STRANGER]) } else { tender.buyer };
        match tender.stage {
            "draft" => self.in_draft(tender, buyer, first),
            "published" => self.in_published(tender, buyer, first),
            "open" => self.in_open(tender, buyer),
            _ => self.after_close(tender, buyer),
        }
    }

    /// Commands about tenders and lots that do not exist.
    fn about_nothing(&mut self) -> (Org, Ask) {
        let tender = 1_000_000;
        let reason = self.reason();
        let ask = match self.random.between(0, 4) {
            0 => Ask::Publish { tender },
            1 => Ask::Join { tender },
            2 => Ask::Void { tender, lot: 1, bid: 1, reason },
            3 => Ask::Cancel { tender, reason },
            _ => Ask::Bid { tender, lot: 1, bid: self.bid_ask(Some(1_000_000_000)) },
        };
        (self.random.pick(&[1, 10]), ask)
    }

    fn in_draft(&mut self, tender: &Tender, buyer: Org, first: bool) -> (Org, Ask) {
        let id = tender.id;
        match self.random.between(0, 99) {
            0..65 => (buyer, self.admit(tender)),
            65..75 => (buyer, Ask::Publish { tender: id }),
            75..85 => (buyer, self.update(tender, first)),
            85..87 => (buyer, Ask::Cancel { tender: id, reason: self.reason() }),
            _ => self.odd(tender, buyer),
        }
    }

    fn in_published(&mut self, tender: &Tender, buyer: Org, first: bool) -> (Org, Ask) {
        let id = tender.id;
        let early = tender.lots.iter().any(|lot| lot.plan.takes_prebids() || lot.plan.takes_limits());
        if early && !tender.bidders.is_empty() && !self.random.one_in(4) {
            return match self.random.between(0, 19) {
                0 => (buyer, self.void(tender)),
                1 => (buyer, self.disqualify(tender)),
                _ => self.bid(tender),
            };
        }
        match self.random.between(0, 99) {
            0..30 => (buyer, self.admit(tender)),
            30..60 => (self.supplier(), Ask::Join { tender: id }),
            60..75 => (buyer, Ask::Start { tender: id }),
            75..82 => (buyer, self.update(tender, first)),
            82..84 => (buyer, Ask::Cancel { tender: id, reason: self.reason() }),
            _ => self.odd(tender, buyer),
        }
    }

    fn in_open(&mut self, tender: &Tender, buyer: Org) -> (Org, Ask) {
        let id = tender.id;
        if tender.lots.iter().any(|lot| lot.stage == "paused") && self.random.one_in(6) {
            return (buyer, Ask::Resume { tender: id, reason: self.reason() });
        }
        match self.random.between(0, 999) {
            0..820 => self.bid(tender),
            820..840 => (buyer, self.admit(tender)),
            840..870 => (self.supplier(), Ask::Join { tender: id }),
            870..880 => (buyer, Ask::Pause { tender: id, reason: self.reason() }),
            880..910 => (buyer, Ask::Resume { tender: id, reason: self.reason() }),
            910..920 => {
                let lot = self.random.maybe(50, |random| random.between(0, 3) as u16);
                let seconds = self.random.pick(&[0, -1, 1, 10, 10, 30, 2_592_001]);
                (buyer, Ask::Extend { tender: id, lot, seconds, reason: self.reason() })
            }
            920..945 => (buyer, self.void(tender)),
            945..955 => (buyer, self.disqualify(tender)),
            955..956 => (buyer, Ask::Cancel { tender: id, reason: self.reason() }),
            _ => self.odd(tender, buyer),
        }
    }

    fn after_close(&mut self, tender: &Tender, buyer: Org) -> (Org, Ask) {
        match self.random.between(0, 99) {
            0..35 => (buyer, self.award(tender, false)),
            35..60 => (buyer, self.award(tender, true)),
            60..75 => (buyer, self.void(tender)),
            75..80 => (buyer, self.disqualify(tender)),
            80..90 => self.bid(tender),
            90..92 => (buyer, Ask::Cancel { tender: tender.id, reason: self.reason() }),
            _ => self.odd(tender, buyer),
        }
    }

    /// Something that mostly does not fit the stage.
    fn odd(&mut self, tender: &Tender, buyer: Org) -> (Org, Ask) {
        let id = tender.id;
        let reason = self.reason();
        match self.random.between(0, 11) {
            0 => (buyer, Ask::Publish { tender: id }),
            1 => (buyer, Ask::Start { tender: id }),
            2 => (buyer, Ask::Pause { tender: id, reason }),
            3 => (buyer, Ask::Resume { tender: id, reason }),
            4 => (buyer, Ask::Extend { tender: id, lot: None, seconds: 5, reason }),
            5 => (buyer, self.award(tender, false)),
            6 => (buyer, self.award(tender, true)),
            7 => (buyer, self.void(tender)),
            8 => (buyer, self.disqualify(tender)),
            9 => (self.supplier(), Ask::Join { tender: id }),
            10 => (buyer, self.admit(tender)),
            _ => self.bid(tender),
        }
    }

    fn supplier(&mut self) -> Org {
        if self.random.one_in(30) { self.random.pick(&[1, 2, STRANGER]) } else { self.random.pick(&SUPPLIERS) }
    }

    fn admit(&mut self, tender: &Tender) -> Ask {
        let who = self.supplier();
        let scoring = if self.random.one_in(2) { self.scoring(tender) } else { Scoring::default() };
        Ask::Admit { tender: tender.id, who, accepted: !self.random.one_in(3), scoring }
    }

    /// Adjustments and features, mostly of the kind that the lots take.
    fn scoring(&mut self, tender: &Tender) -> Scoring {
        let random = &mut self.random;
        let mut scoring = Scoring::default();
        let careless = random.one_in(12);
        for lot in &tender.lots {
            let number = if random.one_in(60) { random.pick(&[0, 9, -1]) } else { i64::from(lot.number) };
            if (lot.plan.is_dutch() || lot.plan.is_japanese()) && !careless {
                continue;
            }
            let unit = lot.plan.unit();
            let by_features = !lot.plan.features.is_empty() && random.one_in(2);
            for (id, max) in lot.plan.features.iter().filter(|_| by_features) {
                if random.one_in(4) {
                    continue;
                }
                let value = random.pick(&[0, *max, max / 2, max / 4]) / 1_000 * 1_000;
                let value = if careless { random.pick(&[max + 1_000, -1_000, value]) } else { value };
                scoring.features.push((number, if careless { "other".to_owned() } else { id.clone() }, value));
            }
            let factors = [(1, 1), (1, 2), (19, 17), (9, 10), (3, 2), (99, 100)];
            let factor = random.maybe(60, |random| {
                let (above, below) = random.pick(&factors);
                Ratio::new(above, below)
            });
            let addend = random.maybe(50, |random| Amount::from(random.pick(&[0, 5, 30, -10, -400, 100])) * unit);
            let addend = if careless { Some(unit / 10) } else { addend };
            let mixed = random.one_in(30);
            let factor = if by_features && !mixed { None } else { factor };
            if factor.is_some() || addend.is_some() {
                scoring.adjustments.push((number, factor, addend));
                if random.one_in(60) {
                    scoring.adjustments.push((number, factor, addend));
                }
            }
        }
        scoring
    }

    fn void(&mut self, tender: &Tender) -> Ask {
        let lot = self.random.pick(&tender.lots.iter().collect::<Vec<_>>());
        let mut standing: Vec<u64> = lot.standing.iter().chain(&lot.hidden).map(|standing| standing.bid).collect();
        standing.extend(lot.given.iter().filter(|_| self.random.one_in(4)).map(|given| given.bid));
        let bid = if standing.is_empty() || self.random.one_in(6) {
            self.random.between(1, 1 + self.requests as i64) as u64
        } else {
            self.random.pick(&standing)
        };
        let number = if self.random.one_in(30) { self.random.pick(&[0, 7]) } else { lot.number };
        Ask::Void { tender: tender.id, lot: number, bid, reason: self.reason() }
    }

    fn named(&mut self, tender: &Tender) -> Named {
        let count = tender.bidders.len() as i64;
        if count > 0 && self.random.one_in(2) {
            return Named::Id(tender.bidders[self.random.between(0, count - 1) as usize].id);
        }
        if self.random.one_in(10) {
            return Named::Number(self.random.pick(&[-1, 0, 1001, 70_000, i64::MAX, i64::MIN + 1]));
        }
        Named::Number(self.random.between(1, count.max(1)))
    }

    fn disqualify(&mut self, tender: &Tender) -> Ask {
        Ask::Disqualify { tender: tender.id, bidder: self.named(tender), reason: self.reason() }
    }

    fn award(&mut self, tender: &Tender, reject: bool) -> Ask {
        let lot = self.random.pick(&tender.lots.iter().collect::<Vec<_>>());
        let first = lot.ranking().iter().find(|standing| !standing.rejected).map(|standing| standing.bidder);
        let bidder = match first {
            Some(first) if self.random.one_in(2) => Named::Number(i64::from(first)),
            _ => self.named(tender),
        };
        let (tender, lot, reason) = (tender.id, lot.number, self.reason());
        if reject {
            Ask::Reject { tender, lot, bidder, reason }
        } else {
            Ask::Award { tender, lot, bidder, reason }
        }
    }

    fn update(&mut self, tender: &Tender, first: bool) -> Ask {
        if !first {
            // The version that the commands before make is not known yet.
            return self.admit(tender);
        }
        let mut plan =
            if tender.stage == "draft" || self.random.one_in(8) { self.plan() } else { tender.plan.clone() };
        if tender.stage == "published" {
            plan.opens_at = self.opening();
        }
        Ask::Update { tender: tender.id, plan, right_version: !self.random.one_in(6), seen: tender.stage }
    }

    fn opening(&mut self) -> Option<Ms> {
        let now = self.now;
        self.random.maybe(50, |random| now + random.pick(&[-5_000, 0, 1, 1_000, 7_500, 20_000, 60_000]))
    }

    fn bid_ask(&mut self, price: Option<Amount>) -> BidAsk {
        let now = self.now;
        BidAsk {
            price,
            confirm: self.random.one_in(2),
            expires_at: self.random.maybe(10, |random| now + random.pick(&[-1_000, -1, 0, 1, 60_000])),
            seen_seq: None,
            limit: self.random.maybe(2, |random| Amount::from(random.between(1, 500)) * 1_000_000_000),
            all_or_nothing: None,
        }
    }

    fn bid(&mut self, tender: &Tender) -> (Org, Ask) {
        let takes = |lot: &&Lot| {
            lot.stage == "open"
                || (lot.stage == "pending" && (lot.plan.takes_prebids() || lot.plan.takes_limits()))
        };
        let open: Vec<&Lot> = tender.lots.iter().filter(takes).collect();
        let lot = if open.is_empty() || self.random.one_in(10) {
            self.random.pick(&tender.lots.iter().collect::<Vec<_>>())
        } else {
            self.random.pick(&open)
        };
        let admitted: Vec<Org> = tender.bidders.iter().map(|bidder| bidder.org).collect();
        let turn =
            lot.phase.as_ref().filter(|phase| phase.kind == "turn").map(|phase| usize::from(phase.bidder) - 1);
        let from = if admitted.is_empty() || self.random.one_in(20) {
            self.random.pick(&[1, 10, 11, 12, 13, 14, 15, STRANGER])
        } else if let Some(turn) = turn.filter(|_| !self.random.one_in(5)) {
            tender.bidders[turn].org
        } else {
            self.random.pick(&admitted)
        };
        let number = if self.random.one_in(100) { self.random.pick(&[0, 9]) } else { lot.number };
        let ladder = lot.plan.is_dutch() || lot.plan.is_japanese();
        let accepts = if lot.plan.is_japanese() {
            90
        } else if ladder {
            12
        } else {
            2
        };
        if self.random.percent(accepts) {
            let current = lot.phase.as_ref().map_or(0, |phase| phase.step);
            let step = if self.random.one_in(8) {
                self.random.pick(&[current + 1, current.saturating_sub(1), 77])
            } else {
                current
            };
            return (from, Ask::Accept { tender: tender.id, lot: number, step });
        }
        let limits = if lot.plan.is_dutch() {
            60
        } else if lot.plan.auto_bid {
            35
        } else {
            2
        };
        if self.random.percent(limits) {
            let limit = self.random.percent(85).then(|| self.limit(tender, lot, from));
            return (from, Ask::Limit { tender: tender.id, lot: number, limit });
        }
        if lot.plan.is_rounds() && lot.stage == "open" && self.random.one_in(8) {
            let bid = self.bid_ask(None);
            return (from, Ask::Bid { tender: tender.id, lot: number, bid });
        }
        let mut price = if self.random.one_in(80) { None } else { Some(self.price(tender, lot, from)) };
        if let (Some(price), Some(tick)) = (&mut price, lot.plan.tick)
            && !self.random.one_in(5)
        {
            *price = price.div_euclid(tick) * tick;
        }
        let mut bid = self.bid_ask(price);
        if lot.plan.auto_bid && self.random.one_in(4) {
            bid.limit = Some(self.limit(tender, lot, from));
        }
        if self.random.one_in(if lot.plan.all_or_nothing { 2 } else { 60 }) {
            bid.all_or_nothing = Some(self.random.one_in(2));
        }
        let age = lot.plan.max_view_age.unwrap_or(0);
        bid.seen_seq = match self.random.between(0, 9) {
            0 => None,
            1 => Some(0),
            2 => Some(lot.seq.saturating_sub(age + 1)),
            3 => Some(lot.seq.saturating_sub(age)),
            4 => Some(lot.seq + 1),
            _ => Some(lot.seq),
        };
        (from, Ask::Bid { tender: tender.id, lot: number, bid })
    }

    /// A limit near what others stand at or would go to.
    fn limit(&mut self, tender: &Tender, lot: &Lot, from: Org) -> Amount {
        let unit = lot.plan.unit();
        let others: Vec<Amount> = lot.limits.iter().map(|limit| limit.price).collect();
        let steps: Vec<Amount> = lot.ladder_price().into_iter().collect();
        let near = if self.random.one_in(2) { others } else { steps };
        let shift = Amount::from(self.random.pick(&[-30, -3, -2, -1, 0, 0, 0, 1, 2, 40])) * unit;
        let mut limit = match near.is_empty() {
            false => self.random.pick(&near) + shift,
            true if lot.plan.is_dutch() => {
                Amount::from(self.random.between(100 / self.narrow, 900 / self.narrow)) * unit
            }
            true if self.random.one_in(2) => self.price(tender, lot, from),
            true => self.price(tender, lot, from) - Amount::from(self.random.between(0, 100)) * unit,
        };
        if let Some(tick) = lot.plan.tick.filter(|_| !self.random.one_in(8)) {
            limit = limit.div_euclid(tick) * tick;
        }
        limit
    }

    /// A price at the edge of something.
    fn price(&mut self, tender: &Tender, lot: &Lot, from: Org) -> Amount {
        let unit = lot.plan.unit();
        let index = tender.bidders.iter().position(|bidder| bidder.org == from);
        let next = index.map_or(Highest::None, |index| tender.highest_next(lot, index));
        let random = &mut self.random;
        let shift = Amount::from(random.pick(&[-2, -1, 0, 0, 0, 1])) * unit;
        let some = Amount::from(random.between(1, 1_200 / self.narrow)) * unit;
        match random.between(0, 99) {
            0..50 => match next {
                Highest::At(next) => {
                    let guard = lot.plan.guard.unwrap_or(30_000);
                    match random.between(0, 9) {
                        0..5 => next + shift,
                        5 => next * (100_000 - guard) / 100_000 / unit * unit + shift,
                        6 => next - lot.plan.max_step.unwrap_or(unit) + shift,
                        _ => next - Amount::from(random.between(0, 20)) * unit * 5,
                    }
                }
                _ => some,
            },
            50..65 => match lot.standing.is_empty() {
                false => random.pick(&lot.standing).price + shift,
                true => some,
            },
            65..70 => lot.plan.ceiling.unwrap_or(some) + shift,
            70..75 => lot.plan.floor.unwrap_or(some) + shift,
            // Abnormally low, or just not: 30 % below the next, 40 % below the mean.
            84..88 => match lot.standing.is_empty() {
                false => random.pick(&lot.standing).price * random.pick(&[6, 7]) / 10 / unit * unit + shift.min(0),
                true => some / (10 * unit) * 10 * unit,
            },
            75..78 => lot.plan.reserve.unwrap_or(some) + shift,
            78..80 => some + unit / 10,
            80..82 => random.pick(&[0, -unit, unit, 1]),
            82..84 => 1_000_000_000_000_000 * unit + shift,
            _ => some,
        }
    }

    fn plan(&mut self) -> Plan {
        let lots = self.random.pick(&[1, 1, 2, 3]);
        let lot_mode = self.random.pick(&["parallel", "parallel", "serial", "staggered"]);
        let staggered = lot_mode == "staggered";
        let lots: Vec<LotPlan> = (0..lots).map(|_| self.lot_plan(staggered)).collect();
        Plan {
            title: self.random.pick(&["bumpers", "lamps"]).to_owned(),
            open_access: self.random.one_in(3),
            public: self.random.one_in(2),
            opens_at: self.opening(),
            terms: self.random.one_in(4),
            lot_mode,
            stagger_s: if staggered { self.random.between(0, 20) } else { 0 },
            stagger_follows: !staggered || !self.random.one_in(4),
            gap_s: if lot_mode == "serial" { self.random.pick(&[0, 0, 1, 5, 20]) } else { 0 },
            anonymous: ANONYMOUS && self.random.one_in(6),
            invalid: self.random.maybe(8, |random| random.pick(&super::compare::INVALID)),
            lots,
        }
    }

    fn lot_plan(&mut self, timed: bool) -> LotPlan {
        let plan = self.english_plan();
        let kinds: &[&str] = if timed {
            &["english", "english", "sealed"]
        } else {
            &["english", "english", "english", "sealed", "dutch", "japanese", "rounds", "rounds"]
        };
        match self.random.pick(kinds) {
            "english" => plan,
            "sealed" => self.sealed_plan(plan),
            "rounds" => self.rounds_plan(plan),
            kind => self.ladder_plan(plan, kind == "dutch"),
        }
    }

    /// What of an english plan makes no sense elsewhere goes.
    fn without_english(&mut self, plan: LotPlan) -> LotPlan {
        LotPlan { improvement: "own", buffer: None, overtime: None, auto_bid: false, ..plan }
    }

    fn sealed_plan(&mut self, plan: LotPlan) -> LotPlan {
        let second_price = self.random.one_in(2);
        LotPlan {
            format: Format::Sealed { second_price },
            step: Step::Unit,
            max_step: None,
            guard: None,
            tie_free_ranks: 0,
            shows_lead: self.random.pick(&["always", "never"]),
            ..self.without_english(plan)
        }
    }

    fn rounds_plan(&mut self, plan: LotPlan) -> LotPlan {
        let random = &mut self.random;
        let format = Format::Rounds {
            count: random.pick(&[1, 2, 3]),
            turn_s: random.between(2, 8),
            pause_s: random.pick(&[0, 1, 5]),
            lead_in_s: random.pick(&[0, 1, 6]),
            announce_s: random.pick(&[None, Some(0), Some(3)]),
        };
        let step = match &plan.step {
            Step::Table(_) => Step::Unit,
            step => step.clone(),
        };
        let max_bids = plan.max_bids.map(|most| most + 2);
        LotPlan { format, duration_s: 0, step, max_bids, prebid: "required", ..self.without_english(plan) }
    }

    fn ladder_plan(&mut self, plan: LotPlan, dutch: bool) -> LotPlan {
        let unit = plan.unit();
        let random = &mut self.random;
        let narrow = self.narrow;
        let mut amount = |low: i64, high: i64| Amount::from(random.between(low / narrow, high / narrow)) * unit;
        let (low, high, step) = (amount(100, 400), amount(400, 900), amount(60, 300));
        let inside = amount(100, 900).clamp(low, high);
        let interval_s = random.between(2, 10);
        let format = if dutch {
            Format::Dutch { start: low, step, interval_s }
        } else {
            Format::Japanese { start: high, step, interval_s, floor: low }
        };
        LotPlan {
            format,
            duration_s: 0,
            ceiling: dutch.then_some(high),
            floor: None,
            reserve: random.maybe(30, |_| inside),
            step: Step::Unit,
            tick: None,
            max_step: None,
            guard: None,
            tie_free_ranks: 0,
            max_bids: None,
            prebid: "none",
            all_or_nothing: false,
            features: Vec::new(),
            ..self.without_english(plan)
        }
    }

    fn english_plan(&mut self) -> LotPlan {
        let random = &mut self.random;
        let scale = random.pick(&[0, 1, 2, 2, 3, 6]);
        let unit = 10i128.pow(9 - scale);
        let narrow = self.narrow;
        let units = |random: &mut Random, low: i64, high: i64| {
            Amount::from(random.between((low / narrow).max(1), (high / narrow).max(1))) * unit
        };
        let improvement = random.pick(&["own", "own", "lead", "lead", "own_and_buffer", "free"]);
        let tick = random.maybe(25, |random| units(random, 2, 10));
        let ceiling = random.maybe(60, |random| units(random, 500, 1_000));
        let floor = random.maybe(25, |random| units(random, 1, 300));
        let reserve = random.maybe(40, |random| units(random, 300, 500));
        let step = match random.between(0, 4) {
            0 => Step::Unit,
            1 | 2 => Step::Amount(units(random, 1, 20)),
            3 => Step::Percent(i128::from(random.pick(&[1, 500, 1_000, 3_333, 10_000, 50_000]))),
            _ => {
                let mut rows = vec![(0, units(random, 1, 5))];
                if random.one_in(2) {
                    rows.push((units(random, 200, 390), units(random, 1, 50)));
                    rows.push((units(random, 405, 900), units(random, 1, 100)));
                }
                rows.reverse();
                Step::Table(rows)
            }
        };
        let overtime = random.maybe(75, |random| {
            let trigger = random.pick(&["any", "lead", "rank"]);
            let length_s = random.between(1, 30);
            let max_count = random.maybe(30, |random| random.between(1, 4) as u32);
            // A total that the count keeps from being reached is refused.
            let reachable = max_count.map_or(60, |count| i64::from(count) * length_s - 1);
            Overtime {
                window_s: random.between(1, 30),
                length_s,
                mode: random.pick(&["reset", "add"]),
                trigger,
                rank: if trigger == "rank" { random.between(1, 4) as usize } else { 1 },
                first_bid_triggers: random.one_in(2),
                max_count,
                max_total_s: random.maybe(30, |random| random.between(1, 60)).filter(|total| *total <= reachable),
                scope: random.pick(&["lot", "lot", "tender"]),
            }
        });
        let automatic_award = random.one_in(3);
        LotPlan {
            format: Format::English,
            scale,
            duration_s: random.between(5, 90),
            ceiling,
            floor,
            reserve,
            improvement,
            buffer: (improvement == "own_and_buffer")
                .then(|| (units(random, 1, 40), random.pick(&[0, 0, 1, 30]) * unit)),
            step,
            tick,
            max_step: random.maybe(20, |random| units(random, 20, 200)).filter(|_| improvement != "free"),
            guard: random
                .maybe(60, |random| i128::from(random.pick(&[30_000, 30_000, 1_000, 12_500, 33_333, 99_000]))),
            tie_rank: random.pick(&["by_time", "best", "worst"]),
            tie_free_ranks: random.pick(&[0, 0, 0, 1, 2, 5]),
            max_bids: random.maybe(20, |random| random.between(1, 6) as usize),
            min_bidders: random.maybe(40, |random| random.between(0, 3) as usize),
            overtime,
            shows_rank: !random.one_in(4),
            shows_lead: if improvement == "lead" {
                "always"
            } else {
                random.pick(&["always", "after_own_bid", "never"])
            },
            automatic_award,
            grace_s: random.pick(&[0, 1, 20, 120]),
            max_view_age: random.maybe(15, |random| random.between(0, 3) as u64),
            prebid: random.pick(&["none", "none", "allowed", "required"]),
            auto_bid: random.percent(40),
            decision_s: random.maybe(40, |random| random.between(2, 60)).filter(|_| !automatic_award),
            near: i128::from(random.pick(&[3_000, 1_500, 20_000, 1])),
            all_or_nothing: ALL_OR_NOTHING && !automatic_award && random.one_in(5),
            features: match random.between(0, 4) {
                0 => vec![("years".to_owned(), 150_000_000)],
                1 => vec![("years".to_owned(), 125_000_000), ("near".to_owned(), 70_000_000)],
                _ => Vec::new(),
            },
        }
    }
}
