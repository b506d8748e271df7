//! Ready sets of rules, as they are used somewhere: `GET /v1/rule-templates` serves them. Nothing is decided here.

use crate::{
    AwardMode, BufferSpec, Decimal, DecrementSpec, DutchSpec, Format, Improvement, JapaneseSpec, LeadVisibility,
    OvertimeMode, OvertimeSpec, OvertimeTrigger, Prebid, RoundsSpec, RulesSpec, SealedPricing, SealedSpec,
};

/// A ready set of rules.
#[derive(Clone, Copy, Debug)]
pub struct RuleTemplate {
    /// Its stable name.
    pub name: &'static str,
    /// Its title.
    pub title: &'static str,
    /// Where it is used, in one sentence.
    pub used: &'static str,
    make: fn() -> RulesSpec,
}

impl RuleTemplate {
    /// The rules. Prices in them are examples.
    pub fn rules(&self) -> RulesSpec {
        (self.make)()
    }
}

const fn whole(mantissa: i64) -> Decimal {
    Decimal { mantissa, scale: 0 }
}

/// All templates.
pub const RULE_TEMPLATES: &[RuleTemplate] = &[
    RuleTemplate {
        name: "prozorro_open",
        title: "Prozorro open",
        used: "Public purchasing in Ukraine: three rounds of turns, the worst first, each bid hidden until its turn ends.",
        make: || {
            let rounds = RoundsSpec { count: 3, turn_s: 120, pause_s: 120, lead_in_s: 300, announce_s: None };
            let mut rules = RulesSpec {
                prebid: Prebid::Required,
                min_bidders: Some(2),
                decrement: Some(DecrementSpec::Percent(Decimal { mantissa: 5, scale: 1 })),
                rounds: Some(rounds),
                ..RulesSpec::default(Format::Rounds)
            };
            rules.visibility.board = true;
            rules
        },
    },
    RuleTemplate {
        name: "brazil_open_mode",
        title: "Brazil open mode",
        used: "Electronic pregão in Brazil (Decree 10.024/2019): ten minutes, then two more after each late bid.",
        make: || RulesSpec {
            duration_s: Some(600),
            overtime: Some(OvertimeSpec {
                trigger: OvertimeTrigger::Any,
                first_bid_triggers: true,
                ..OvertimeSpec::default(120, 120)
            }),
            ..RulesSpec::default(Format::English)
        },
    },
    RuleTemplate {
        name: "english_buffers",
        title: "English with buffers",
        used: "Company purchasing, as in SAP Ariba events: own improvement, a buffer around the lead, overtime for the lead.",
        make: || RulesSpec {
            duration_s: Some(1_800),
            improvement: Improvement::OwnAndBuffer,
            buffer: Some(BufferSpec { front: whole(10), back: whole(0) }),
            decrement: Some(DecrementSpec::Amount(whole(10))),
            overtime: Some(OvertimeSpec {
                mode: OvertimeMode::Add,
                trigger: OvertimeTrigger::Lead,
                ..OvertimeSpec::default(120, 120)
            }),
            ..RulesSpec::default(Format::English)
        },
    },
    RuleTemplate {
        name: "marine_fuel",
        title: "Marine fuel with auto-bid",
        used: "Buying ship fuel by the tonne: a short english auction in quarters of a dollar, limits that bid by themselves.",
        make: || RulesSpec {
            duration_s: Some(600),
            price_scale: Some(2),
            improvement: Improvement::Free,
            tick: Some(Decimal { mantissa: 25, scale: 2 }),
            decrement: Some(DecrementSpec::Amount(Decimal { mantissa: 25, scale: 2 })),
            auto_bid: true,
            overtime: Some(OvertimeSpec { trigger: OvertimeTrigger::Lead, ..OvertimeSpec::default(60, 120) }),
            ..RulesSpec::default(Format::English)
        },
    },
    RuleTemplate {
        name: "dutch",
        title: "Dutch",
        used: "Buying what must be had now: the price rises each minute, and the first supplier to accept has it.",
        make: || RulesSpec {
            ceiling: Some(whole(10_000)),
            dutch: Some(DutchSpec { start: whole(5_000), step: whole(100), interval_s: 60 }),
            award: AwardMode::Automatic,
            ..RulesSpec::default(Format::Dutch)
        },
    },
    RuleTemplate {
        name: "japanese",
        title: "Japanese",
        used: "Finding how low several suppliers would go: the price falls level by level, and who stays silent is out.",
        make: || {
            let (start, step, floor) = (whole(10_000), whole(100), whole(5_000));
            RulesSpec {
                japanese: Some(JapaneseSpec { start, step, interval_s: 60, floor }),
                ..RulesSpec::default(Format::Japanese)
            }
        },
    },
    RuleTemplate {
        name: "sealed_second_price",
        title: "Sealed, second price",
        used: "Electricity and transport contracts: nobody sees a bid, and the winner is paid what the next would have cost.",
        make: || {
            let mut rules = RulesSpec {
                duration_s: Some(86_400),
                sealed: Some(SealedSpec { pricing: SealedPricing::Second }),
                ..RulesSpec::default(Format::Sealed)
            };
            rules.visibility.lead = LeadVisibility::Never;
            rules
        },
    },
];

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rules::compile_tender;
    use crate::{Access, LotMode, LotSpec, TenderSpec};

    #[test]
    fn every_template_is_valid_and_named_once() {
        for (place, template) in RULE_TEMPLATES.iter().enumerate() {
            let lots = vec![LotSpec { title: String::new(), items: Vec::new(), rules: template.rules() }];
            let spec = TenderSpec {
                title: String::new(),
                description: String::new(),
                reference: String::new(),
                currency: "EUR".into(),
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
            };
            assert_eq!(compile_tender(&spec).map(|rules| rules.len()), Ok(1), "{}", template.name);
            assert!(template.used.ends_with('.') && !template.title.is_empty());
            assert!(RULE_TEMPLATES[..place].iter().all(|other| other.name != template.name));
        }
    }
}
