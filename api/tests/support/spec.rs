//! The specification of a plain tender, for tests that submit commands without HTTP.

use engine::{Access, Decimal, Format, Item, LotMode, LotSpec, RulesSpec, TenderSpec};

/// Rules of `format` with that duration and without a guard against low bids.
pub fn rules(format: Format, duration_s: i64) -> RulesSpec {
    RulesSpec { duration_s: Some(duration_s), guard_percent: None, ..RulesSpec::default(format) }
}

/// A tender by invitation with one lot.
pub fn one_lot(rules: RulesSpec) -> TenderSpec {
    let item =
        Item { description: "52119-0K".into(), quantity: Decimal { mantissa: 1, scale: 0 }, unit: "piece".into() };
    TenderSpec {
        title: "Bumper".into(),
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
        lots: vec![LotSpec { title: "Lot".into(), items: vec![item], rules }],
    }
}
