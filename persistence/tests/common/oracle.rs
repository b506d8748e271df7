//! The same bytes by bincode itself: every field is handed to it in order, enums as their tag, structs as tuples.

use bincode::Encode;
use bincode::config::legacy;
use engine::{
    AccountAction, Action, BidderRef, Command, Decimal, DecrementSpec, Envelope, LogTime, LotSpec,
    OrganisationKind, Role, RulesSpec, TenderSpec,
};

#[derive(Default)]
pub struct Oracle(pub Vec<u8>);

type Pair = (i64, u8);

fn decimal(value: Decimal) -> Pair {
    (value.mantissa, value.scale)
}

fn time(value: LogTime) -> i64 {
    value.0
}

/// The tag of an enum of words: its place in the declaration.
fn tag(word: &str, words: &[&str]) -> u32 {
    words.iter().position(|other| *other == word).expect("a word") as u32
}

fn kind(kind: OrganisationKind) -> u32 {
    tag(kind.word(), &["buyer", "supplier", "both"])
}

fn role(role: Role) -> u32 {
    tag(role.word(), &["admin", "trader", "auditor"])
}

macro_rules! word {
    ($value:expr, $type:ident) => {
        tag($value.word(), engine::$type::WORDS)
    };
}

impl Oracle {
    pub fn put(&mut self, value: impl Encode) {
        self.0.extend(bincode::encode_to_vec(value, legacy()).expect("encoded"));
    }

    pub fn envelope(&mut self, envelope: &Envelope) {
        let Envelope { at, organisation, user, session, node, request, source, salt, key } = envelope;
        self.put((at.0, organisation.0, user.0, session.0, *node, request.0, *source, *salt));
        self.put(key.map(|key| (key.scoped, key.body)));
    }

    fn bidder(&mut self, bidder: BidderRef) {
        match bidder {
            BidderRef::Id(id) => self.put((0u32, id.0)),
            BidderRef::Number(number) => self.put((1u32, number)),
        }
    }

    fn rules(&mut self, rules: &RulesSpec) {
        self.put((word!(rules.format, Format), rules.duration_s, rules.price_scale));
        self.put((rules.ceiling.map(decimal), rules.floor.map(decimal)));
        self.put(rules.reserve.map(|reserve| (decimal(reserve.price), reserve.shown)));
        self.put(word!(rules.improvement, Improvement));
        self.put(rules.buffer.map(|buffer| (decimal(buffer.front), decimal(buffer.back))));
        match &rules.decrement {
            None => self.put(0u8),
            Some(DecrementSpec::Amount(amount)) => self.put((1u8, 0u32, decimal(*amount))),
            Some(DecrementSpec::Percent(percent)) => self.put((1u8, 1u32, decimal(*percent))),
            Some(DecrementSpec::Table(rows)) => {
                let rows: Vec<_> = rows.iter().map(|row| (decimal(row.from), decimal(row.step))).collect();
                self.put((1u8, 2u32, rows));
            }
        }
        self.put((rules.tick.map(decimal), rules.max_step.map(decimal), rules.guard_percent.map(decimal)));
        self.put((word!(rules.tie_rank, TieRank), rules.tie_free_ranks, rules.max_bids, rules.min_bidders));
        self.put(rules.overtime.as_ref().map(|overtime| {
            (
                (overtime.window_s, overtime.length_s),
                (word!(overtime.mode, OvertimeMode), word!(overtime.trigger, OvertimeTrigger)),
                (overtime.rank, overtime.first_bid_triggers, overtime.max_count, overtime.max_total_s),
                word!(overtime.scope, OvertimeScope),
            )
        }));
        let seen = &rules.visibility;
        self.put((word!(seen.lead, LeadVisibility), seen.rank, seen.board, seen.light));
        self.put((seen.adjustments, seen.bidder_count));
        self.put((decimal(rules.near_percent), word!(rules.prebid, Prebid), rules.auto_bid));
        self.put((word!(rules.award, AwardMode), rules.decision_s, rules.outage_grace_s));
        self.put((rules.max_view_age, rules.all_or_nothing));
        let features: Vec<_> =
            rules.features.iter().map(|feature| (feature.id.clone(), decimal(feature.max))).collect();
        self.put((features, rules.max_weight_sum.map(decimal)));
        self.put(rules.dutch.map(|dutch| (decimal(dutch.start), decimal(dutch.step), dutch.interval_s)));
        self.put(rules.japanese.map(|levels| {
            (decimal(levels.start), decimal(levels.step), levels.interval_s, decimal(levels.floor))
        }));
        self.put(
            rules
                .rounds
                .map(|rounds| (rounds.count, rounds.turn_s, rounds.pause_s, rounds.lead_in_s, rounds.announce_s)),
        );
        self.put(rules.sealed.map(|sealed| word!(sealed.pricing, SealedPricing)));
    }

    fn spec(&mut self, spec: &TenderSpec) {
        self.put((&spec.title, &spec.description, &spec.reference, &spec.currency, spec.currency_exponent));
        self.put((word!(spec.access, Access), spec.public, spec.opens_at.map(time), &spec.terms));
        self.put((word!(spec.lot_mode, LotMode), spec.stagger_s, spec.stagger_follows, spec.serial_gap_s));
        self.put((spec.anonymous_to_buyer, spec.lots.len() as u64));
        for LotSpec { title, items, rules } in &spec.lots {
            let items: Vec<_> = items
                .iter()
                .map(|item| (item.description.clone(), decimal(item.quantity), item.unit.clone()))
                .collect();
            self.put((title, items));
            self.rules(rules);
        }
    }

    fn account(&mut self, action: &AccountAction) {
        self.put(100u32);
        match action {
            AccountAction::Register { user, organisation, organisation_name, kind: does } => {
                self.put((0u32, user.0, organisation.0, organisation_name, kind(*does)));
            }
            AccountAction::AddMember { user, role: may } => self.put((1u32, user.0, role(*may))),
            AccountAction::RemoveMember { user } => self.put((2u32, user.0)),
            AccountAction::OpenSession { token, expires_at } => self.put((3u32, token, expires_at.0)),
            AccountAction::Refresh { token, next, expires_at } => self.put((4u32, token, next, expires_at.0)),
            AccountAction::CloseSession => self.put(5u32),
            AccountAction::AnnounceKey { kid, public } => self.put((6u32, kid, public)),
            AccountAction::Erase { organisation, reason } => self.put((7u32, organisation.0, reason)),
        }
    }

    pub fn action(&mut self, action: &Action) {
        match action {
            Action::Tick => self.put(0u32),
            Action::Takeover { planned } => self.put((1u32, planned)),
            Action::Skip { index, position, place } => self.put((2u32, index, position, place)),
            Action::CreateTender { tender, spec } => {
                self.put((10u32, tender.0));
                self.spec(spec);
            }
            Action::UpdateTender { tender, spec, version } => {
                self.put((11u32, tender.0));
                self.spec(spec);
                self.put(version);
            }
            Action::Publish { tender } => self.put((12u32, tender.0)),
            Action::Start { tender } => self.put((13u32, tender.0)),
            Action::Pause { tender, reason } => self.put((14u32, tender.0, reason)),
            Action::Resume { tender, reason } => self.put((15u32, tender.0, reason)),
            Action::Cancel { tender, reason } => self.put((16u32, tender.0, reason)),
            Action::Extend { tender, lot, seconds, reason } => self.put((17u32, tender.0, lot, seconds, reason)),
            Action::Admit { tender, organisation, adjustments, features, accepted } => {
                let adjustments: Vec<_> = adjustments
                    .iter()
                    .map(|adjustment| (adjustment.lot, adjustment.factor.clone(), adjustment.addend.map(decimal)))
                    .collect();
                let features: Vec<_> = features
                    .iter()
                    .map(|feature| (feature.lot, feature.id.clone(), decimal(feature.value)))
                    .collect();
                self.put((18u32, tender.0, organisation.0, adjustments, features, accepted));
            }
            Action::Join { tender } => self.put((19u32, tender.0)),
            Action::Disqualify { tender, bidder, reason } => {
                self.put((20u32, tender.0));
                self.bidder(*bidder);
                self.put(reason);
            }
            Action::Bid { lot, price, confirm, expires_at, seen_seq, auto_limit, all_or_nothing } => {
                self.put((30u32, lot.0, price.map(decimal), confirm, expires_at.map(time), seen_seq));
                self.put((auto_limit.map(decimal), all_or_nothing));
            }
            Action::Accept { lot, step } => self.put((31u32, lot.0, step)),
            Action::AutoBid { lot, limit } => self.put((32u32, lot.0, limit.map(decimal))),
            Action::Void { lot, bid, reason } => self.put((33u32, lot.0, bid.0, reason)),
            Action::Award { lot, bidder, reason } => {
                self.put((34u32, lot.0));
                self.bidder(*bidder);
                self.put(reason);
            }
            Action::RejectAward { lot, bidder, reason } => {
                self.put((35u32, lot.0));
                self.bidder(*bidder);
                self.put(reason);
            }
            Action::Account(account) => self.account(account),
        }
    }

    /// The payload of an entry whose commands have no secret part.
    pub fn entry(commands: &[Command]) -> Vec<u8> {
        let mut oracle = Self::default();
        oracle.put(commands.len() as u64);
        for command in commands {
            assert!(command.secret.is_none(), "sealed bytes are random");
            oracle.envelope(&command.envelope);
            oracle.action(&command.action);
            oracle.put(0u8);
        }
        oracle.0
    }
}
