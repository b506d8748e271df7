//! Bids, accepts and automatic bids in every format, as a log would hold them: the same on every run, on open lots that
//! never come to an end while they are measured. Every command is accepted.

use engine::{
    Action, AdjustmentSpec, Command, Decimal, DutchSpec, Engine, Entry, Envelope, Format, JapaneseSpec, Key,
    LogTime, LotId, LotSpec, OrganisationId, Prebid, RequestId, RoundsSpec, RulesSpec, TenderId, TenderSpec,
};

use crate::apply::{Spent, Swallow, on_engine};
use crate::workload::{BATCH, BIDDERS, tender_of};

/// What is measured.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Sealed bids; each replaces the bidder's last.
    Sealed,
    /// The first accept of a dutch lot: it wins, and the lot closes.
    Dutch,
    /// Accepts of japanese levels, the levels' ends with them.
    Japanese,
    /// Bids in a turn.
    Rounds,
    /// English bids, each answered by the limit of the leader.
    AutoBid,
    /// English bids of bidders with a factor and an addend.
    Adjusted,
}

impl Kind {
    /// Every kind.
    pub const ALL: [Self; 6] =
        [Self::Sealed, Self::Dutch, Self::Japanese, Self::Rounds, Self::AutoBid, Self::Adjusted];

    /// Its name among the rows.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Sealed => "sealed",
            Self::Dutch => "dutch",
            Self::Japanese => "japanese",
            Self::Rounds => "rounds",
            Self::AutoBid => "english, auto-bid",
            Self::Adjusted => "english, adjustments",
        }
    }

    const fn format(self) -> Format {
        match self {
            Self::Sealed => Format::Sealed,
            Self::Dutch => Format::Dutch,
            Self::Japanese => Format::Japanese,
            Self::Rounds => Format::Rounds,
            Self::AutoBid | Self::Adjusted => Format::English,
        }
    }
}

const BUYER: OrganisationId = OrganisationId(1);
/// In units of 0.01: far above zero for as many bids as a run can make.
const FIRST_PRICE: i64 = 900_000_000_000;
/// Open lots of a tender.
const LOTS: usize = 100;
const INTERVAL_S: i64 = 1_000;

/// Open lots of one kind, and an endless row of commands on them.
#[derive(Debug)]
pub struct FormatLoad {
    kind: Kind,
    engine: Engine,
    lots: Vec<LotId>,
    now: LogTime,
    requests: u128,
    tenders: u128,
    /// How many commands were made for the lots there are.
    made: usize,
    price: i64,
}

fn organisation(bidder: usize) -> OrganisationId {
    OrganisationId(1_000 + bidder as u128)
}

impl FormatLoad {
    /// Open lots, in which every bidder stands already where the format has that.
    pub fn new(kind: Kind) -> Self {
        let mut this = Self {
            kind,
            engine: Engine::new(),
            lots: Vec::new(),
            now: LogTime(1_700_000_000_000),
            requests: 0,
            tenders: 0,
            made: 0,
            price: FIRST_PRICE,
        };
        this.open_lots();
        this
    }

    /// The engine.
    pub fn engine(&self) -> &Engine {
        &self.engine
    }

    fn command(&mut self, organisation: OrganisationId, action: Action) -> Command {
        self.requests += 1;
        let scoped = self.requests.wrapping_mul(0x9E37_79B9_7F4A_7C15_F39C_C060_5CED_C835);
        let envelope = Envelope {
            at: self.now,
            organisation,
            request: RequestId(self.requests),
            key: Some(Key { scoped, body: 7 }),
            ..Envelope::default()
        };
        Command { envelope, action, secret: None }
    }

    fn send(&mut self, organisation: OrganisationId, action: Action) {
        let commands = vec![self.command(organisation, action)];
        let entry = Entry { index: self.engine.index() + 1, commands };
        self.engine.maintain();
        self.engine.apply(&entry, &mut ());
    }

    /// Makes a tender of open lots.
    fn open_lots(&mut self) {
        self.tenders += 1;
        let tender = TenderId::new(self.tenders << 80 | 0x7000_8000 << 32 | self.tenders << 13);
        self.send(BUYER, Action::CreateTender { tender, spec: Box::new(specification(self.kind)) });
        for bidder in 0..usize::from(BIDDERS) {
            let adjustments =
                (1..=LOTS as i64).filter(|_| self.kind == Kind::Adjusted).map(|lot| AdjustmentSpec {
                    lot,
                    factor: Some(format!("{}/17", 17 + bidder % 3)),
                    addend: Some(amount(100 * bidder as i64)),
                });
            let (organisation, adjustments, features) = (organisation(bidder), adjustments.collect(), Vec::new());
            self.send(BUYER, Action::Admit { tender, organisation, adjustments, features, accepted: true });
        }
        self.send(BUYER, Action::Publish { tender });
        self.lots = (1..=LOTS as u16).map(|number| tender.lot(number)).collect();
        self.made = 0;
        if self.kind == Kind::Rounds {
            // The first bidder stands worst, and has the first turn.
            for place in 0..LOTS * usize::from(BIDDERS) {
                let (lot, bidder) = (self.lots[place % LOTS], place / LOTS);
                self.send(organisation(bidder), bid(lot, FIRST_PRICE - bidder as i64 * 1_000));
            }
        }
        self.send(BUYER, Action::Start { tender });
        match self.kind {
            Kind::AutoBid => {
                for place in 0..LOTS {
                    let (lot, limit) = (self.lots[place], Some(amount(1)));
                    self.send(organisation(0), Action::AutoBid { lot, limit });
                }
            }
            Kind::Sealed | Kind::Adjusted => {
                for _ in 0..LOTS * usize::from(BIDDERS) {
                    let (sender, action) = self.next();
                    self.send(sender, action);
                }
            }
            _ => {}
        }
    }

    /// The next command.
    fn next(&mut self) -> (OrganisationId, Action) {
        let place = self.made;
        self.made += 1;
        let lot = self.lots[place % LOTS];
        let bidder = place / LOTS % usize::from(BIDDERS);
        if place.is_multiple_of(LOTS) {
            self.price -= 10_000;
        }
        match self.kind {
            Kind::Sealed | Kind::Adjusted => (organisation(bidder), bid(lot, self.price)),
            Kind::Rounds => (organisation(0), bid(lot, self.price)),
            // Everybody but the leader, each time lower than all before.
            Kind::AutoBid => (organisation(1 + place / LOTS % (usize::from(BIDDERS) - 1)), bid(lot, self.price)),
            Kind::Dutch => (organisation(bidder), Action::Accept { lot, step: 0 }),
            Kind::Japanese => {
                let step = (place / (LOTS * usize::from(BIDDERS))) as u64;
                (organisation(bidder), Action::Accept { lot, step })
            }
        }
    }

    /// Applies at least `commands` commands in batches; what they took, and how many they were.
    pub fn apply(&mut self, commands: usize, sink: &mut Swallow) -> (Spent, usize) {
        let (mut spent, mut applied) = (Spent::default(), 0);
        while applied < commands {
            let mut entries = Vec::new();
            let mut planned = 0;
            // A dutch lot takes one accept; everything else goes on for ever.
            while applied + planned < commands && (self.kind != Kind::Dutch || self.made < LOTS) {
                self.now = self.now.plus_ms(1);
                let batch = if self.kind == Kind::Dutch { BATCH.min(LOTS - self.made) } else { BATCH };
                let mut commands = Vec::with_capacity(batch);
                for _ in 0..batch {
                    if self.kind == Kind::Japanese
                        && self.made > 0
                        && self.made.is_multiple_of(LOTS * usize::from(BIDDERS))
                    {
                        // The next level; all lots opened at one time.
                        self.now = self.now.plus_ms(INTERVAL_S * 1_000 - self.now.0 % (INTERVAL_S * 1_000));
                    }
                    let (sender, action) = self.next();
                    commands.push(self.command(sender, action));
                }
                planned += batch;
                entries.push(Entry { index: self.engine.index() + 1 + entries.len() as u64, commands });
            }
            let these = on_engine(&mut self.engine, &entries, sink);
            spent.ns += these.ns;
            spent.apply += these.apply;
            spent.between += these.between;
            applied += planned;
            if self.kind == Kind::Dutch && self.made == LOTS {
                self.open_lots();
            }
        }
        (spent, applied)
    }
}

fn amount(mantissa: i64) -> Decimal {
    Decimal { mantissa, scale: 2 }
}

fn bid(lot: LotId, price: i64) -> Action {
    Action::Bid {
        lot,
        price: Some(amount(price)),
        confirm: true,
        expires_at: None,
        seen_seq: None,
        auto_limit: None,
        all_or_nothing: None,
    }
}

fn specification(kind: Kind) -> TenderSpec {
    let mut rules = RulesSpec::default(kind.format());
    rules.ceiling = Some(amount(FIRST_PRICE));
    match kind {
        Kind::Sealed | Kind::Adjusted => rules.duration_s = Some(366 * 86_400),
        Kind::AutoBid => {
            rules.duration_s = Some(366 * 86_400);
            rules.auto_bid = true;
        }
        Kind::Dutch => {
            rules.dutch = Some(DutchSpec {
                start: amount(FIRST_PRICE / 2),
                step: amount(5_000_000_000),
                interval_s: 86_400,
            });
        }
        Kind::Japanese => {
            rules.japanese = Some(JapaneseSpec {
                start: amount(FIRST_PRICE),
                step: amount(10_000_000),
                interval_s: INTERVAL_S,
                floor: amount(100_000_000),
            });
        }
        Kind::Rounds => {
            rules.prebid = Prebid::Required;
            rules.rounds =
                Some(RoundsSpec { count: 1, turn_s: 86_400, pause_s: 0, lead_in_s: 0, announce_s: None });
        }
    }
    tender_of(vec![LotSpec { title: "Bumper".into(), items: Vec::new(), rules }; LOTS])
}
