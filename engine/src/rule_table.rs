//! The one table of all rules: name, kind, default, range and the formats in which each is allowed.
//! Validation hangs on it, and `GET /v1/rules` serves it.

use crate::{
    AwardMode, Format, Improvement, LeadVisibility, OvertimeMode, OvertimeScope, OvertimeTrigger, Prebid,
    SealedPricing, TieRank,
};

/// One rule of a lot.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RuleRow {
    /// Its name in `rules`, with a point for a member of a block: `overtime.window_s`.
    pub name: &'static str,
    /// What a value is.
    pub kind: RuleKind,
    /// What it is when it is left out, as JSON text; none: absent, or required where `required` says so.
    pub default: Option<&'static str>,
    /// Whether it must be there: a rule in its formats, a member in its block.
    pub required: bool,
    /// The formats in which it is allowed.
    pub formats: &'static [Format],
}

/// What a value of a rule is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RuleKind {
    /// A whole number in this range, both ends included.
    Integer(i64, i64),
    /// A positive amount on the lot's scale, as a decimal string.
    Amount,
    /// An amount on the lot's scale that may be zero, as a decimal string.
    AmountOrZero,
    /// A percentage from the first to the second, as a decimal string with up to six digits behind the point.
    Percent(i64, i64),
    /// A decimal string from 0 to 1.
    Fraction,
    /// `true` or `false`.
    Flag,
    /// One of these words.
    Word(&'static [&'static str]),
    /// An object with members of its own.
    Block,
    /// A list.
    List,
}

impl RuleKind {
    /// The kind in one word, as served.
    pub const fn word(self) -> &'static str {
        match self {
            Self::Integer(..) => "integer",
            Self::Amount | Self::AmountOrZero => "amount",
            Self::Percent(..) => "percent",
            Self::Fraction => "fraction",
            Self::Flag => "boolean",
            Self::Word(_) => "word",
            Self::Block => "object",
            Self::List => "list",
        }
    }
}

impl RuleRow {
    /// The row of a rule.
    ///
    /// # Panics
    /// If there is none: every rule is in the table.
    pub fn of(name: &str) -> &'static Self {
        RULES.iter().find(|row| row.name == name).unwrap_or_else(|| panic!("{name} is in the table of rules"))
    }

    /// What is valid, in words.
    pub fn valid(&self) -> String {
        match self.kind {
            RuleKind::Integer(least, most) => format!("an integer from {least} to {most}"),
            RuleKind::Amount => {
                "a positive decimal string with no more digits behind the point than price_scale".into()
            }
            RuleKind::AmountOrZero => {
                "a decimal string from 0 with no more digits behind the point than price_scale".into()
            }
            RuleKind::Percent(least, most) => format!("a decimal string above {least} and up to {most}"),
            RuleKind::Fraction => "a decimal string from 0 to 1".into(),
            RuleKind::Flag => "true or false".into(),
            RuleKind::Word(words) => format!("one of: {}", words.join(", ")),
            RuleKind::Block => "an object".into(),
            RuleKind::List => "a list".into(),
        }
    }
}

use Format::{Dutch, English, Japanese, Rounds, Sealed};

const ALL: &[Format] = &[English, Sealed, Dutch, Japanese, Rounds];
const BIDDING: &[Format] = &[English, Sealed, Rounds];
const DAY: i64 = 86_400;

const fn row(
    name: &'static str,
    kind: RuleKind,
    default: Option<&'static str>,
    formats: &'static [Format],
) -> RuleRow {
    RuleRow { name, kind, default, required: false, formats }
}

const fn required(name: &'static str, kind: RuleKind, formats: &'static [Format]) -> RuleRow {
    RuleRow { name, kind, default: None, required: true, formats }
}

/// All rules of a lot.
pub const RULES: &[RuleRow] = &[
    required("format", RuleKind::Word(Format::WORDS), ALL),
    required("duration_s", RuleKind::Integer(1, 366 * DAY), &[English, Sealed]),
    row("price_scale", RuleKind::Integer(0, 6), None, ALL),
    row("ceiling", RuleKind::Amount, None, ALL),
    row("floor", RuleKind::Amount, None, BIDDING),
    row("reserve", RuleKind::Block, None, ALL),
    required("reserve.price", RuleKind::Amount, ALL),
    row("reserve.shown", RuleKind::Flag, Some("false"), ALL),
    row("improvement", RuleKind::Word(Improvement::WORDS), Some("\"own\""), &[English]),
    row("buffer", RuleKind::Block, None, &[English]),
    required("buffer.front", RuleKind::AmountOrZero, &[English]),
    required("buffer.back", RuleKind::AmountOrZero, &[English]),
    row("decrement", RuleKind::Block, None, &[English, Rounds]),
    required("decrement.kind", RuleKind::Word(&["amount", "percent", "table"]), &[English, Rounds]),
    row("decrement.value", RuleKind::Amount, None, &[English, Rounds]),
    row("decrement.rows", RuleKind::List, None, &[English, Rounds]),
    required("decrement.rows.from", RuleKind::AmountOrZero, &[English, Rounds]),
    required("decrement.rows.step", RuleKind::Amount, &[English, Rounds]),
    row("tick", RuleKind::Amount, None, BIDDING),
    row("max_step", RuleKind::Amount, None, &[English, Rounds]),
    row("guard_percent", RuleKind::Percent(0, 100), Some("\"30\""), &[English, Rounds]),
    row("tie_rank", RuleKind::Word(TieRank::WORDS), Some("\"by_time\""), ALL),
    row("tie_free_ranks", RuleKind::Integer(0, 1_000), Some("0"), &[English, Rounds]),
    row("max_bids", RuleKind::Integer(1, 1_000_000), None, BIDDING),
    row("min_bidders", RuleKind::Integer(0, 1_000), None, ALL),
    row("overtime", RuleKind::Block, None, &[English]),
    required("overtime.window_s", RuleKind::Integer(1, 30 * DAY), &[English]),
    required("overtime.length_s", RuleKind::Integer(1, 30 * DAY), &[English]),
    row("overtime.mode", RuleKind::Word(OvertimeMode::WORDS), Some("\"reset\""), &[English]),
    row("overtime.trigger", RuleKind::Word(OvertimeTrigger::WORDS), Some("\"lead\""), &[English]),
    row("overtime.rank", RuleKind::Integer(1, 1_000), Some("1"), &[English]),
    row("overtime.first_bid_triggers", RuleKind::Flag, Some("false"), &[English]),
    row("overtime.max_count", RuleKind::Integer(1, 1_000_000), None, &[English]),
    row("overtime.max_total_s", RuleKind::Integer(1, 366 * DAY), None, &[English]),
    row("overtime.scope", RuleKind::Word(OvertimeScope::WORDS), Some("\"lot\""), &[English]),
    row("visibility", RuleKind::Block, None, ALL),
    row("visibility.lead", RuleKind::Word(LeadVisibility::WORDS), Some("\"always\""), ALL),
    row("visibility.rank", RuleKind::Flag, Some("true"), ALL),
    row("visibility.board", RuleKind::Flag, Some("false"), ALL),
    row("visibility.light", RuleKind::Flag, Some("false"), ALL),
    row("visibility.adjustments", RuleKind::Flag, Some("false"), BIDDING),
    row("visibility.bidder_count", RuleKind::Flag, Some("true"), ALL),
    row("near_percent", RuleKind::Percent(0, 100), Some("\"3\""), ALL),
    row("prebid", RuleKind::Word(Prebid::WORDS), Some("\"none\""), BIDDING),
    row("auto_bid", RuleKind::Flag, Some("false"), &[English]),
    row("award", RuleKind::Word(AwardMode::WORDS), Some("\"manual\""), ALL),
    row("decision_s", RuleKind::Integer(1, 366 * DAY), None, ALL),
    row("outage_grace_s", RuleKind::Integer(0, DAY), Some("120"), ALL),
    row("max_view_age", RuleKind::Integer(0, 1_000_000), None, ALL),
    row("all_or_nothing", RuleKind::Flag, Some("false"), BIDDING),
    row("features", RuleKind::List, Some("[]"), BIDDING),
    required("features.id", RuleKind::Word(&[]), BIDDING),
    required("features.max", RuleKind::Fraction, BIDDING),
    row("max_weight_sum", RuleKind::Fraction, Some("\"0.30\""), BIDDING),
    row("dutch", RuleKind::Block, None, &[Dutch]),
    required("dutch.start", RuleKind::Amount, &[Dutch]),
    required("dutch.step", RuleKind::Amount, &[Dutch]),
    required("dutch.interval_s", RuleKind::Integer(1, 30 * DAY), &[Dutch]),
    row("japanese", RuleKind::Block, None, &[Japanese]),
    required("japanese.start", RuleKind::Amount, &[Japanese]),
    required("japanese.step", RuleKind::Amount, &[Japanese]),
    required("japanese.interval_s", RuleKind::Integer(1, 30 * DAY), &[Japanese]),
    required("japanese.floor", RuleKind::Amount, &[Japanese]),
    row("rounds", RuleKind::Block, None, &[Rounds]),
    row("rounds.count", RuleKind::Integer(1, 100), Some("3"), &[Rounds]),
    row("rounds.turn_s", RuleKind::Integer(1, DAY), Some("120"), &[Rounds]),
    row("rounds.pause_s", RuleKind::Integer(0, DAY), Some("120"), &[Rounds]),
    row("rounds.lead_in_s", RuleKind::Integer(0, 30 * DAY), Some("300"), &[Rounds]),
    row("rounds.announce_s", RuleKind::Integer(0, DAY), None, &[Rounds]),
    row("sealed", RuleKind::Block, None, &[Sealed]),
    row("sealed.pricing", RuleKind::Word(SealedPricing::WORDS), Some("\"first\""), &[Sealed]),
];

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        BufferSpec, DecrementRow, DutchSpec, FeatureSpec, JapaneseSpec, OvertimeSpec, ReserveSpec, RoundsSpec,
        RulesSpec, SealedSpec, VisibilitySpec,
    };

    /// The names of a struct's fields; it doesn't compile when one is missing.
    macro_rules! names {
        ($type:ident { $($field:ident),* $(,)? }) => {{
            #[allow(dead_code)]
            fn all_fields_are_here(value: $type) {
                let $type { $($field: _),* } = value;
            }
            [$(stringify!($field)),*]
        }};
    }

    #[test]
    fn every_rule_is_in_the_table_and_nothing_else() {
        let rules = names!(RulesSpec {
            format,
            duration_s,
            price_scale,
            ceiling,
            floor,
            reserve,
            improvement,
            buffer,
            decrement,
            tick,
            max_step,
            guard_percent,
            tie_rank,
            tie_free_ranks,
            max_bids,
            min_bidders,
            overtime,
            visibility,
            near_percent,
            prebid,
            auto_bid,
            award,
            decision_s,
            outage_grace_s,
            max_view_age,
            all_or_nothing,
            features,
            max_weight_sum,
            dutch,
            japanese,
            rounds,
            sealed,
        });
        let overtime = names!(OvertimeSpec {
            window_s,
            length_s,
            mode,
            trigger,
            rank,
            first_bid_triggers,
            max_count,
            max_total_s,
            scope
        });
        let visibility = names!(VisibilitySpec { lead, rank, board, light, adjustments, bidder_count });
        let members: [(&str, &[&str]); 10] = [
            ("reserve", &names!(ReserveSpec { price, shown })),
            ("buffer", &names!(BufferSpec { front, back })),
            ("decrement", &["kind", "value", "rows"]),
            ("decrement.rows", &names!(DecrementRow { from, step })),
            ("overtime", &overtime),
            ("visibility", &visibility),
            ("features", &names!(FeatureSpec { id, max })),
            ("dutch", &names!(DutchSpec { start, step, interval_s })),
            ("japanese", &names!(JapaneseSpec { start, step, interval_s, floor })),
            ("rounds", &names!(RoundsSpec { count, turn_s, pause_s, lead_in_s, announce_s })),
        ];
        let mut wanted: Vec<String> = rules.iter().map(|name| (*name).to_owned()).collect();
        for (block, fields) in members {
            wanted.extend(fields.iter().map(|field| format!("{block}.{field}")));
        }
        wanted.extend(names!(SealedSpec { pricing }).iter().map(|field| format!("sealed.{field}")));
        wanted.sort();
        let mut found: Vec<&str> = RULES.iter().map(|row| row.name).collect();
        found.sort_unstable();
        assert_eq!(found, wanted);
    }

    #[test]
    fn the_defaults_of_the_table_are_those_of_the_code() {
        let rules = RulesSpec::default(Format::English);
        let overtime = OvertimeSpec::default(1, 1);
        let quoted = |word: &str| format!("\"{word}\"");
        for (name, default) in [
            ("improvement", quoted(rules.improvement.word())),
            ("guard_percent", quoted(&rules.guard_percent.expect("on by default").to_string())),
            ("tie_rank", quoted(rules.tie_rank.word())),
            ("tie_free_ranks", rules.tie_free_ranks.to_string()),
            ("overtime.mode", quoted(overtime.mode.word())),
            ("overtime.trigger", quoted(overtime.trigger.word())),
            ("overtime.rank", overtime.rank.to_string()),
            ("overtime.first_bid_triggers", overtime.first_bid_triggers.to_string()),
            ("overtime.scope", quoted(overtime.scope.word())),
            ("visibility.lead", quoted(rules.visibility.lead.word())),
            ("visibility.rank", rules.visibility.rank.to_string()),
            ("visibility.board", rules.visibility.board.to_string()),
            ("visibility.light", rules.visibility.light.to_string()),
            ("visibility.adjustments", rules.visibility.adjustments.to_string()),
            ("visibility.bidder_count", rules.visibility.bidder_count.to_string()),
            ("near_percent", quoted(&rules.near_percent.to_string())),
            ("prebid", quoted(rules.prebid.word())),
            ("auto_bid", rules.auto_bid.to_string()),
            ("award", quoted(rules.award.word())),
            ("outage_grace_s", rules.outage_grace_s.to_string()),
            ("all_or_nothing", rules.all_or_nothing.to_string()),
        ] {
            assert_eq!(RuleRow::of(name).default, Some(default.as_str()), "{name}");
        }
    }
}
