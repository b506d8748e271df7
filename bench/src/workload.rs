//! Bids on many open lots, as a log would hold them: the same on every run. Makes entries, applies none of its bids.

use engine::{
    Access, Action, Command, Decimal, Engine, Entry, Envelope, Format, Item, Key, LogTime, LotId, LotMode,
    LotSpec, OrganisationId, OvertimeSpec, RequestId, ReserveSpec, RulesSpec, TenderId, TenderSpec,
};

/// Bidders of each tender; each bids in every lot. Between the handful of a car-part tender and the thousand that a
/// tender may have. What ranks cost grows with it: fewer favour std's maps, more the engine.
pub const BIDDERS: u16 = 20;

/// Most lots of one tender here, so that many lots also mean many tenders.
const LOTS_OF_TENDER_MAX: usize = 100;

/// Commands of one entry: about what a full flush of 64 clients brings.
pub const BATCH: usize = 64;

/// Of this many bids one names the bidder's own standing price again, and is refused.
const REFUSED_OF: u64 = 16;

const BUYER: OrganisationId = OrganisationId(1);
const START_MS: i64 = 1_700_000_000_000;
/// In units of 0.01: far above zero for as many bids as a run can make.
const FIRST_PRICE: i64 = 900_000_000_000;

/// Open lots and an endless row of bids on them.
pub struct Workload {
    lots: Vec<LotId>,
    /// Standing price of each bidder in each lot; lots by place, then bidders.
    prices: Vec<i64>,
    index: u64,
    now: LogTime,
    random: u64,
    requests: u128,
    /// The shard that all tenders belong to, and among how many; none: any.
    home: Option<(u16, u16)>,
}

impl Workload {
    /// `lots` open lots, and an engine in which they are.
    pub fn new(lots: usize) -> (Self, Engine) {
        let (this, engine, _) = Self::recorded(lots);
        (this, engine)
    }

    /// As [`Workload::new`], with the entries that opened the lots.
    pub fn recorded(lots: usize) -> (Self, Engine, Vec<Entry>) {
        Self::begin(lots, 7, None)
    }

    /// As [`Workload::recorded`], of tenders that belong to shard `shard` of `shards`, counted from 0.
    pub fn of_shard(lots: usize, shard: u16, shards: u16) -> (Self, Engine, Vec<Entry>) {
        Self::begin(lots, 7 + u64::from(shard), Some((shard, shards)))
    }

    fn begin(lots: usize, random: u64, home: Option<(u16, u16)>) -> (Self, Engine, Vec<Entry>) {
        let mut this = Self {
            lots: Vec::with_capacity(lots),
            prices: vec![FIRST_PRICE; lots * usize::from(BIDDERS)],
            index: 0,
            now: LogTime(START_MS),
            random,
            requests: 0,
            home,
        };
        let mut engine = Engine::new();
        let mut entries = Vec::new();
        let mut left = lots;
        while left > 0 {
            let here = left.min(LOTS_OF_TENDER_MAX);
            let entry = this.tender(here);
            engine.apply(&entry, &mut ());
            entries.push(entry);
            left -= here;
        }
        engine.maintain();
        (this, engine, entries)
    }

    /// The lots, in order of creation.
    pub fn lots(&self) -> &[LotId] {
        &self.lots
    }

    fn next_random(&mut self) -> u64 {
        // splitmix64
        self.random = self.random.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut mixed = self.random;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        mixed ^ (mixed >> 31)
    }

    fn envelope(&mut self, organisation: OrganisationId) -> Envelope {
        self.requests += 1;
        let scoped = u128::from(self.next_random()) << 64 | u128::from(self.next_random());
        let body = self.next_random();
        Envelope {
            at: self.now,
            organisation,
            request: RequestId(self.requests),
            key: Some(Key { scoped, body }),
            ..Envelope::default()
        }
    }

    fn command(&mut self, organisation: OrganisationId, action: Action) -> Command {
        Command { envelope: self.envelope(organisation), action, secret: None }
    }

    fn entry(&mut self, commands: Vec<Command>) -> Entry {
        self.index += 1;
        self.now = self.now.plus_ms(1);
        Entry { index: self.index, commands }
    }

    /// The entry that makes a tender of `lots` open lots with all bidders admitted.
    fn tender(&mut self, lots: usize) -> Entry {
        let tender = loop {
            let random = u128::from(self.next_random()) << 64 | u128::from(self.next_random());
            let tender = TenderId::new(random);
            if self.home.is_none_or(|(shard, shards)| tender.shard(shards) == shard) {
                break tender;
            }
        };
        let spec = Box::new(specification(lots));
        let mut commands = vec![
            self.command(BUYER, Action::CreateTender { tender, spec }),
            self.command(BUYER, Action::Publish { tender }),
        ];
        for bidder in 0..BIDDERS {
            let organisation = bidder_organisation(bidder);
            let (adjustments, features) = (Vec::new(), Vec::new());
            let action = Action::Admit { tender, organisation, adjustments, features, accepted: true };
            commands.push(self.command(BUYER, action));
        }
        commands.push(self.command(BUYER, Action::Start { tender }));
        self.lots.extend((1..=lots as u16).map(|number| tender.lot(number)));
        self.entry(commands)
    }

    /// The next `count` entries of [`BATCH`] bids each.
    pub fn entries(&mut self, count: usize) -> Vec<Entry> {
        (0..count)
            .map(|_| {
                let commands = (0..BATCH).map(|_| self.bid()).collect();
                self.entry(commands)
            })
            .collect()
    }

    /// Entries in which every bidder bids once in every lot, so that all of their bids stand.
    pub fn one_bid_each(&mut self) -> Vec<Entry> {
        let bidders = usize::from(BIDDERS);
        let all: Vec<(usize, u16)> =
            (0..self.lots.len() * bidders).map(|bid| (bid / bidders, (bid % bidders) as u16)).collect();
        let entry = |bids: &[(usize, u16)]| {
            let commands = bids.iter().map(|(lot, bidder)| self.bid_of(*lot, *bidder, 5 + i64::from(*bidder) * 5));
            let commands = commands.collect();
            self.entry(commands)
        };
        all.chunks(BATCH).map(entry).collect()
    }

    fn bid(&mut self) -> Command {
        let random = self.next_random();
        let lot = (random % self.lots.len() as u64) as usize;
        let bidder = (self.next_random() % u64::from(BIDDERS)) as u16;
        let better = if (random >> 32).is_multiple_of(REFUSED_OF) { 0 } else { 5 + ((random >> 40) % 10) as i64 };
        self.bid_of(lot, bidder, better)
    }

    /// A bid that is `better` than the bidder's last one, in units of 0.01.
    fn bid_of(&mut self, lot: usize, bidder: u16, better: i64) -> Command {
        let price = &mut self.prices[lot * usize::from(BIDDERS) + usize::from(bidder)];
        *price -= better;
        let price = Decimal { mantissa: *price, scale: 2 };
        let action = Action::Bid {
            lot: self.lots[lot],
            price: Some(price),
            confirm: false,
            expires_at: None,
            seen_seq: None,
            auto_limit: None,
            all_or_nothing: None,
        };
        self.command(bidder_organisation(bidder), action)
    }
}

fn bidder_organisation(bidder: u16) -> OrganisationId {
    OrganisationId(1_000 + u128::from(bidder))
}

fn specification(lots: usize) -> TenderSpec {
    let amount = |mantissa| Decimal { mantissa, scale: 2 };
    let rules = RulesSpec {
        duration_s: Some(86_400),
        ceiling: Some(amount(FIRST_PRICE)),
        reserve: Some(ReserveSpec { price: amount(FIRST_PRICE / 2), shown: false }),
        decrement: Some(engine::DecrementSpec::Amount(amount(5))),
        overtime: Some(OvertimeSpec::default(120, 120)),
        ..RulesSpec::default(Format::English)
    };
    let items = vec![Item {
        description: "OEM 52119-0K".into(),
        quantity: Decimal { mantissa: 2, scale: 0 },
        unit: "piece".into(),
    }];
    tender_of(vec![LotSpec { title: "Bumper".into(), items, rules }; lots])
}

/// A tender as every benchmark makes it, with these lots.
pub(crate) fn tender_of(lots: Vec<LotSpec>) -> TenderSpec {
    TenderSpec {
        title: "Front bumper, Hilux 2021".into(),
        description: String::new(),
        reference: String::new(),
        currency: "SAR".into(),
        currency_exponent: 2,
        access: Access::Invited,
        public: false,
        opens_at: None,
        terms: None,
        lot_mode: LotMode::Parallel,
        stagger_s: 0,
        stagger_follows: true,
        serial_gap_s: 0,
        anonymous_to_buyer: false,
        lots,
    }
}
