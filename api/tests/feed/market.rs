//! An engine with the windows of its lots, without log, threads or sockets: what the view thread does, step by step.

use std::collections::HashMap;

use api::body::TenderBody;
use api::feed::{Hub, LotFeed};
use engine::{
    Action, AdjustmentSpec, Answer, Command, Decimal, Engine, Entry, Envelope, FeatureValue, LogTime, Lot, LotId,
    OrganisationId, Reader, Reply, RequestId, Sight, Sink, Step, Tender, TenderId, sight,
};
use serde_json::{Value, json};

/// The buyer of every tender here.
pub const BUYER: OrganisationId = OrganisationId(1);
/// The first bidder; the others follow.
pub const BIDDER: u128 = 101;
/// When everything begins.
pub const START: LogTime = LogTime(1_800_000_000_000);

/// One shard, as the view thread keeps it.
pub struct Market {
    pub engine: Engine,
    pub hub: Hub,
    feeds: HashMap<LotId, LotFeed>,
    index: u64,
    now: LogTime,
    requests: u128,
    /// The salt of all commands.
    pub salt: [u8; 16],
    /// Tenders are anonymous to their buyer.
    pub anonymous: bool,
}

#[derive(Default)]
struct Taken {
    replies: Vec<Reply>,
}

struct Windows<'a> {
    hub: &'a Hub,
    feeds: &'a mut HashMap<LotId, LotFeed>,
    taken: &'a mut Taken,
    each: &'a mut dyn FnMut(&Tender, &Lot, &Step),
}

impl Sink for Windows<'_> {
    fn reply(&mut self, _position: usize, reply: &Reply) {
        self.taken.replies.push(reply.clone());
    }

    fn step(&mut self, tender: &Tender, lot: &Lot, step: &Step) {
        let feed = self.feeds.entry(lot.id).or_insert_with(|| self.hub.lot_feed(step.seq - 1));
        feed.push(tender, lot, step);
        (self.each)(tender, lot, step);
    }
}

impl Market {
    pub fn new(hub: Hub) -> Self {
        Self {
            engine: Engine::new(),
            hub,
            feeds: HashMap::new(),
            index: 0,
            now: START,
            requests: 1_000,
            salt: [0; 16],
            anonymous: false,
        }
    }

    /// Lets `ms` milliseconds pass before the next command.
    pub fn wait(&mut self, ms: i64) {
        self.now = self.now.plus_ms(ms);
    }

    /// Does what nobody else may notice: requests that come later have the ids they would have had without it.
    pub fn secretly<R>(&mut self, act: impl FnOnce(&mut Self) -> R) -> R {
        let requests = self.requests;
        self.requests += 1_000_000;
        let result = act(self);
        self.requests = requests;
        result
    }

    /// Applies one command of `organisation` in an entry of its own.
    pub fn apply(&mut self, organisation: OrganisationId, action: Action) -> Reply {
        self.apply_each(organisation, action, &mut |_, _, _| {})
    }

    /// As [`Market::apply`]; `each` is called at every step, when the state is as of the step.
    pub fn apply_each(
        &mut self,
        organisation: OrganisationId,
        action: Action,
        each: &mut dyn FnMut(&Tender, &Lot, &Step),
    ) -> Reply {
        self.index += 1;
        self.requests += 1;
        let envelope = Envelope {
            at: self.now,
            organisation,
            request: RequestId(self.requests),
            salt: self.salt,
            ..Envelope::default()
        };
        let entry = Entry { index: self.index, commands: vec![Command { envelope, action, secret: None }] };
        let mut taken = Taken::default();
        let mut windows = Windows { hub: &self.hub, feeds: &mut self.feeds, taken: &mut taken, each };
        self.engine.apply(&entry, &mut windows);
        self.engine.maintain();
        taken.replies.pop().expect("a command is answered")
    }

    /// A published tender of one lot with `bidders` admitted bidders, not yet opened.
    pub fn tender(&mut self, number: u128, public: bool, rules: &Value, bidders: usize) -> LotId {
        let nothing = vec![(vec![], vec![]); bidders];
        self.try_tender(number, public, rules, nothing).expect("valid rules")
    }

    /// As [`Market::tender`]; each bidder is admitted with adjustments and features of its own. None: the rules are refused.
    pub fn try_tender(
        &mut self,
        number: u128,
        public: bool,
        rules: &Value,
        bidders: Vec<(Vec<AdjustmentSpec>, Vec<FeatureValue>)>,
    ) -> Option<LotId> {
        let tender = TenderId::new(number << 64);
        let body = json!({
            "title": "Front bumper", "currency": "SAR", "public": public,
            "anonymous_to_buyer": self.anonymous, "lots": [{ "title": "Bumper", "rules": rules }],
        });
        let spec = TenderBody::parse(body.to_string().as_bytes()).expect("a valid body").to_spec();
        let created = self.apply(BUYER, Action::CreateTender { tender, spec: Box::new(spec) });
        if let Answer::InvalidRules(_) = created.answer {
            return None;
        }
        assert!(matches!(created.answer, Answer::Tender(_)), "{created:?}");
        for (bidder, (adjustments, features)) in bidders.into_iter().enumerate() {
            let organisation = OrganisationId(BIDDER + bidder as u128);
            let admit = Action::Admit { tender, organisation, adjustments, features, accepted: false };
            let admitted = self.apply(BUYER, admit);
            assert!(matches!(admitted.answer, Answer::Bidder(_)), "{admitted:?}");
        }
        let published = self.apply(BUYER, Action::Publish { tender });
        assert!(matches!(published.answer, Answer::Tender(_)), "{published:?}");
        Some(tender.lot(1))
    }

    /// As [`Market::tender`], opened.
    pub fn opened(&mut self, number: u128, public: bool, rules: &Value, bidders: usize) -> LotId {
        let lot = self.tender(number, public, rules, bidders);
        let started = self.apply(BUYER, Action::Start { tender: lot.tender() });
        assert!(matches!(started.answer, Answer::Tender(_)), "{started:?}");
        lot
    }

    /// The action of a bid.
    pub fn bid_action(lot: LotId, price: &str) -> Action {
        Action::Bid {
            lot,
            price: Decimal::parse(price),
            confirm: true,
            expires_at: None,
            seen_seq: None,
            auto_limit: None,
            all_or_nothing: None,
        }
    }

    /// A bid that must be accepted.
    pub fn bid(&mut self, lot: LotId, bidder: u128, price: &str) {
        let reply = self.apply(OrganisationId(BIDDER + bidder), Self::bid_action(lot, price));
        assert!(matches!(reply.answer, Answer::Bid(_)), "{price}: {reply:?}");
    }

    /// Tender, lot and window.
    pub fn lot(&self, lot: LotId) -> (&Tender, &Lot, &LotFeed) {
        let (tender, found) = self.engine.lot(lot).expect("the lot exists");
        (tender, found, &self.feeds[&lot])
    }

    /// What `reader` may see of `lot` now.
    pub fn sight(&self, lot: LotId, reader: Reader) -> Option<Sight> {
        let (tender, lot, _) = self.lot(lot);
        sight(tender, lot, reader)
    }
}
