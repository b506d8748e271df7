//! Arbitrary commands of every kind, from a seed.

use engine::{
    Access, AccountAction, Action, AdjustmentSpec, AwardMode, BidderRef, BufferSpec, Command, Decimal,
    DecrementRow, DecrementSpec, DutchSpec, Envelope, FeatureSpec, FeatureValue, Format, Improvement, Item,
    JapaneseSpec, Key, LeadVisibility, LogTime, LotId, LotMode, LotSpec, OrganisationId, OrganisationKind,
    OvertimeMode, OvertimeScope, OvertimeSpec, OvertimeTrigger, Prebid, RequestId, ReserveSpec, Role, RoundsSpec,
    RulesSpec, SealedPricing, SealedSpec, Secret, SessionId, TenderId, TenderSpec, TieRank, UserId,
    VisibilitySpec,
};

/// How many kinds of command [`Pick::command_of`] makes.
pub const KINDS: u64 = 27;

pub struct Pick(pub u64);

impl Pick {
    pub fn number(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        mixed ^ (mixed >> 31)
    }

    pub fn below(&mut self, bound: u64) -> u64 {
        self.number() % bound
    }

    fn int(&mut self) -> i64 {
        self.number() as i64
    }

    fn flag(&mut self) -> bool {
        self.below(2) == 1
    }

    fn wide(&mut self) -> u128 {
        u128::from(self.number()) << 64 | u128::from(self.number())
    }

    fn one<T: Clone>(&mut self, of: &[T]) -> T {
        of[self.below(of.len() as u64) as usize].clone()
    }

    fn text(&mut self) -> String {
        let long = self.below(12);
        (0..long).map(|_| self.one(&['a', 'Z', '0', 'ü', 'س', '€', '\n'])).collect()
    }

    fn maybe<T>(&mut self, make: impl FnOnce(&mut Self) -> T) -> Option<T> {
        self.flag().then(|| make(self))
    }

    fn list<T>(&mut self, mut make: impl FnMut(&mut Self) -> T) -> Vec<T> {
        (0..self.below(4)).map(|_| make(self)).collect()
    }

    fn decimal(&mut self) -> Decimal {
        Decimal { mantissa: self.int(), scale: self.below(19) as u8 }
    }

    fn tender(&mut self) -> TenderId {
        TenderId::new(self.wide())
    }

    fn lot(&mut self) -> LotId {
        self.tender().lot(1 + self.below(500) as u16)
    }

    fn bidder(&mut self) -> BidderRef {
        if self.flag() { BidderRef::Id(RequestId(self.wide())) } else { BidderRef::Number(self.int()) }
    }

    fn envelope(&mut self) -> Envelope {
        Envelope {
            at: LogTime(self.int()),
            organisation: OrganisationId(self.wide()),
            user: UserId(self.wide()),
            session: SessionId(self.wide()),
            node: self.number() as u16,
            request: RequestId(self.wide()),
            source: self.number(),
            salt: self.wide().to_le_bytes(),
            key: self.maybe(|pick| Key { scoped: pick.wide(), body: pick.number() }),
        }
    }

    fn rules(&mut self) -> RulesSpec {
        let format = self.one(&[Format::English, Format::Sealed, Format::Dutch, Format::Japanese, Format::Rounds]);
        let decrement = match self.below(3) {
            0 => DecrementSpec::Amount(self.decimal()),
            1 => DecrementSpec::Percent(self.decimal()),
            _ => {
                DecrementSpec::Table(self.list(|pick| DecrementRow { from: pick.decimal(), step: pick.decimal() }))
            }
        };
        RulesSpec {
            format,
            duration_s: self.maybe(Self::int),
            price_scale: self.maybe(Self::int),
            ceiling: self.maybe(Self::decimal),
            floor: self.maybe(Self::decimal),
            reserve: self.maybe(|pick| ReserveSpec { price: pick.decimal(), shown: pick.flag() }),
            improvement: self.one(&[
                Improvement::Own,
                Improvement::Lead,
                Improvement::OwnAndBuffer,
                Improvement::Free,
            ]),
            buffer: self.maybe(|pick| BufferSpec { front: pick.decimal(), back: pick.decimal() }),
            decrement: self.maybe(|_| decrement),
            tick: self.maybe(Self::decimal),
            max_step: self.maybe(Self::decimal),
            guard_percent: self.maybe(Self::decimal),
            tie_rank: self.one(&[TieRank::ByTime, TieRank::Best, TieRank::Worst]),
            tie_free_ranks: self.int(),
            max_bids: self.maybe(Self::int),
            min_bidders: self.maybe(Self::int),
            overtime: self.maybe(|pick| OvertimeSpec {
                mode: pick.one(&[OvertimeMode::Reset, OvertimeMode::Add]),
                trigger: pick.one(&[OvertimeTrigger::Any, OvertimeTrigger::Lead, OvertimeTrigger::Rank]),
                rank: pick.int(),
                first_bid_triggers: pick.flag(),
                max_count: pick.maybe(Self::int),
                max_total_s: pick.maybe(Self::int),
                scope: pick.one(&[OvertimeScope::Lot, OvertimeScope::Tender]),
                ..OvertimeSpec::default(30, 60)
            }),
            visibility: VisibilitySpec {
                lead: self.one(&[LeadVisibility::Always, LeadVisibility::AfterOwnBid, LeadVisibility::Never]),
                rank: self.flag(),
                board: self.flag(),
                light: self.flag(),
                adjustments: self.flag(),
                bidder_count: self.flag(),
            },
            near_percent: self.decimal(),
            prebid: self.one(&[Prebid::None, Prebid::Allowed, Prebid::Required]),
            auto_bid: self.flag(),
            award: self.one(&[AwardMode::Manual, AwardMode::Automatic]),
            decision_s: self.maybe(Self::int),
            outage_grace_s: self.int(),
            max_view_age: self.maybe(Self::int),
            all_or_nothing: self.flag(),
            features: self.list(|pick| FeatureSpec { id: pick.text(), max: pick.decimal() }),
            max_weight_sum: self.maybe(Self::decimal),
            dutch: self.maybe(|pick| DutchSpec {
                start: pick.decimal(),
                step: pick.decimal(),
                interval_s: pick.int(),
            }),
            japanese: self.maybe(|pick| JapaneseSpec {
                start: pick.decimal(),
                step: pick.decimal(),
                interval_s: pick.int(),
                floor: pick.decimal(),
            }),
            rounds: self.maybe(|pick| RoundsSpec {
                count: pick.int(),
                turn_s: pick.int(),
                pause_s: pick.int(),
                lead_in_s: pick.int(),
                announce_s: pick.maybe(Self::int),
            }),
            sealed: self
                .maybe(|pick| SealedSpec { pricing: pick.one(&[SealedPricing::First, SealedPricing::Second]) }),
        }
    }

    fn spec(&mut self) -> Box<TenderSpec> {
        Box::new(TenderSpec {
            title: self.text(),
            description: self.text(),
            reference: self.text(),
            currency: self.text(),
            currency_exponent: self.below(5) as u8,
            access: self.one(&[Access::Invited, Access::Open]),
            public: self.flag(),
            opens_at: self.maybe(|pick| LogTime(pick.int())),
            terms: self.maybe(Self::text),
            lot_mode: self.one(&[LotMode::Parallel, LotMode::Serial, LotMode::Staggered]),
            stagger_s: self.int(),
            stagger_follows: self.flag(),
            serial_gap_s: self.int(),
            anonymous_to_buyer: self.flag(),
            lots: self.list(|pick| LotSpec {
                title: pick.text(),
                items: pick.list(|pick| Item {
                    description: pick.text(),
                    quantity: pick.decimal(),
                    unit: pick.text(),
                }),
                rules: pick.rules(),
            }),
        })
    }

    fn account(&mut self, kind: u64) -> AccountAction {
        match kind {
            0 => AccountAction::Register {
                user: UserId(self.wide()),
                organisation: OrganisationId(self.wide()),
                organisation_name: self.text(),
                kind: self.one(&[OrganisationKind::Buyer, OrganisationKind::Supplier, OrganisationKind::Both]),
            },
            1 => AccountAction::AddMember {
                user: UserId(self.wide()),
                role: self.one(&[Role::Admin, Role::Trader, Role::Auditor]),
            },
            2 => AccountAction::RemoveMember { user: UserId(self.wide()) },
            3 => {
                AccountAction::OpenSession { token: [self.below(256) as u8; 32], expires_at: LogTime(self.int()) }
            }
            4 => AccountAction::Refresh {
                token: [self.below(256) as u8; 32],
                next: [self.below(256) as u8; 32],
                expires_at: LogTime(self.int()),
            },
            5 => AccountAction::CloseSession,
            _ => AccountAction::AnnounceKey { kid: self.text(), public: [self.below(256) as u8; 32] },
        }
    }

    fn action(&mut self, kind: u64) -> Action {
        let (tender, lot) = (self.tender(), self.lot());
        match kind {
            0 => Action::Tick,
            1 => Action::Takeover { planned: self.flag() },
            2 => Action::Skip { index: self.number(), position: self.number() as u32, place: self.text() },
            3 => Action::CreateTender { tender, spec: self.spec() },
            4 => Action::UpdateTender { tender, spec: self.spec(), version: self.number() as u32 },
            5 => Action::Publish { tender },
            6 => Action::Start { tender },
            7 => Action::Pause { tender, reason: self.maybe(Self::text) },
            8 => Action::Resume { tender, reason: self.maybe(Self::text) },
            9 => Action::Cancel { tender, reason: self.maybe(Self::text) },
            10 => Action::Extend {
                tender,
                lot: self.maybe(|pick| pick.number() as u16),
                seconds: self.int(),
                reason: self.maybe(Self::text),
            },
            11 => Action::Admit {
                tender,
                organisation: OrganisationId(self.wide()),
                adjustments: self.list(|pick| AdjustmentSpec {
                    lot: pick.int(),
                    factor: pick.maybe(Self::text),
                    addend: pick.maybe(Self::decimal),
                }),
                features: self.list(|pick| FeatureValue {
                    lot: pick.int(),
                    id: pick.text(),
                    value: pick.decimal(),
                }),
                accepted: self.flag(),
            },
            12 => Action::Join { tender },
            13 => Action::Disqualify { tender, bidder: self.bidder(), reason: self.maybe(Self::text) },
            14 => Action::Bid {
                lot,
                price: self.maybe(Self::decimal),
                confirm: self.flag(),
                expires_at: self.maybe(|pick| LogTime(pick.int())),
                seen_seq: self.maybe(Self::number),
                auto_limit: self.maybe(Self::decimal),
                all_or_nothing: self.maybe(Self::flag),
            },
            15 => Action::Accept { lot, step: self.number() },
            16 => Action::AutoBid { lot, limit: self.maybe(Self::decimal) },
            17 => Action::Void { lot, bid: RequestId(self.wide()), reason: self.maybe(Self::text) },
            18 => Action::Award { lot, bidder: self.bidder(), reason: self.maybe(Self::text) },
            19 => Action::RejectAward { lot, bidder: self.bidder(), reason: self.maybe(Self::text) },
            account => Action::Account(self.account(account - 20)),
        }
    }

    /// A command of kind `kind`, below [`KINDS`].
    pub fn command_of(&mut self, kind: u64) -> Command {
        let secret = (kind == 20 || kind == 21).then(|| Secret::Person {
            organisation: OrganisationId(u128::from(self.below(3))),
            email: self.text(),
            name: self.text(),
            password: self.text(),
        });
        Command { envelope: self.envelope(), action: self.action(kind), secret }
    }

    pub fn command(&mut self) -> Command {
        let kind = self.below(KINDS);
        self.command_of(kind)
    }
}
