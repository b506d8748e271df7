//! The decision table of rules that don't go together: which combination is refused, why, and what is valid instead.
//! Ranges and amounts are checked elsewhere; in which formats a rule is at all says the table of rules.

use crate::rules::{WEIGHT_DIGITS, WEIGHT_SUM};
use crate::{
    AwardMode, Decimal, Format, Improvement, LeadVisibility, OvertimeTrigger, Prebid, RuleError, RuleKind,
    RuleRow, RulesSpec,
};

/// A combination that is refused in the formats in which its rule is allowed. No two rows of one rule ever match the
/// same specification.
pub(crate) struct Conflict {
    /// The rule that is told of, by its name in the table of rules.
    pub rule: &'static str,
    /// Whether a specification has the combination.
    pub matches: fn(&RulesSpec) -> bool,
    /// What is wrong.
    pub detail: &'static str,
    /// What would be right, first of all a value that can be put in.
    pub valid: fn(&RulesSpec) -> String,
}

const fn conflict(
    rule: &'static str,
    matches: fn(&RulesSpec) -> bool,
    detail: &'static str,
    valid: fn(&RulesSpec) -> String,
) -> Conflict {
    Conflict { rule, matches, detail, valid }
}

/// What overtime would add if every extension came that `max_count` allows, in seconds.
fn counted_s(spec: &RulesSpec) -> i64 {
    let overtime = spec.overtime.as_ref();
    overtime.map_or(0, |it| it.max_count.unwrap_or(i64::MAX).saturating_mul(it.length_s))
}

fn total_never_binds(spec: &RulesSpec) -> bool {
    let total_s = spec.overtime.as_ref().and_then(|it| it.max_count.and(it.max_total_s));
    total_s.is_some_and(|total_s| total_s >= counted_s(spec))
}

fn binding_total(spec: &RulesSpec) -> String {
    let least = counted_s(spec).saturating_sub(1);
    if least < 1 { "no max_total_s".into() } else { format!("at most {least}, or no max_total_s") }
}

/// A fraction or percentage, however it was written.
fn by_value(sent: Decimal) -> Option<i64> {
    sent.units(WEIGHT_DIGITS)
}

/// Whether the largest sum of weights is another than where it was left out.
fn has_weight_sum(spec: &RulesSpec) -> bool {
    spec.max_weight_sum.is_some_and(|sum| by_value(sum) != by_value(WEIGHT_SUM))
}

/// Every combination that is refused.
pub(crate) const CONFLICTS: &[Conflict] = &[
    conflict("duration_s", |spec| spec.duration_s.is_none(), "is required", |_| RuleRow::of("duration_s").valid()),
    conflict(
        "ceiling",
        |spec| spec.format == Format::Dutch && spec.ceiling.is_none(),
        "is required in dutch: it is the last step",
        |spec| spec.dutch.map_or("an amount".into(), |dutch| format!("at least {}", dutch.start)),
    ),
    conflict(
        "dutch",
        |spec| spec.dutch.is_none(),
        "is required",
        |_| "an object with start, step and interval_s".into(),
    ),
    conflict(
        "japanese",
        |spec| spec.japanese.is_none(),
        "is required",
        |_| "an object with start, step, interval_s and floor".into(),
    ),
    conflict(
        "visibility.lead",
        |spec| spec.improvement == Improvement::Lead && spec.visibility.lead != LeadVisibility::Always,
        "with improvement lead every bidder learns the lead from max_next",
        |_| LeadVisibility::Always.word().into(),
    ),
    conflict(
        "buffer",
        |spec| spec.improvement == Improvement::OwnAndBuffer && spec.buffer.is_none(),
        "is required by improvement own_and_buffer",
        |_| "an object with front and back".into(),
    ),
    conflict(
        "buffer",
        |spec| spec.improvement != Improvement::OwnAndBuffer && spec.buffer.is_some(),
        "belongs to improvement own_and_buffer",
        |_| "no buffer".into(),
    ),
    conflict(
        "max_step",
        |spec| spec.max_step.is_some() && spec.improvement == Improvement::Free,
        "has no base with improvement free",
        |_| "no max_step".into(),
    ),
    conflict(
        "prebid",
        |spec| spec.format == Format::Rounds && spec.prebid == Prebid::Allowed,
        "rounds begin with pre-bids",
        |_| Prebid::Required.word().into(),
    ),
    conflict(
        "decision_s",
        |spec| spec.decision_s.is_some() && spec.award == AwardMode::Automatic,
        "nobody decides with award automatic",
        |_| "no decision_s".into(),
    ),
    conflict(
        "all_or_nothing",
        |spec| spec.all_or_nothing && spec.award == AwardMode::Automatic,
        "only a buyer can weigh lots against each other",
        |_| "false, or award manual".into(),
    ),
    conflict(
        "max_weight_sum",
        |spec| has_weight_sum(spec) && spec.features.is_empty(),
        "belongs to features",
        |_| "no max_weight_sum, or features".into(),
    ),
    conflict(
        "overtime.rank",
        |spec| spec.overtime.as_ref().is_some_and(|it| it.rank != 1 && it.trigger != OvertimeTrigger::Rank),
        "belongs to trigger rank",
        |_| "1, or trigger rank".into(),
    ),
    conflict("overtime.max_total_s", total_never_binds, "can never bind: max_count ends it before", binding_total),
];

/// The rules by format: whether each was set to something else than being left out. A rule that is not here is in every
/// format.
pub(crate) fn set_rules(spec: &RulesSpec) -> [(&'static str, bool); 21] {
    let plain = RulesSpec::default(spec.format);
    [
        ("duration_s", spec.duration_s.is_some()),
        ("floor", spec.floor.is_some()),
        ("improvement", spec.improvement != plain.improvement),
        ("buffer", spec.buffer.is_some()),
        ("decrement", spec.decrement.is_some()),
        ("tick", spec.tick.is_some()),
        ("max_step", spec.max_step.is_some()),
        (
            "guard_percent",
            spec.guard_percent.is_some_and(|it| Some(by_value(it)) != plain.guard_percent.map(by_value)),
        ),
        ("tie_free_ranks", spec.tie_free_ranks != 0),
        ("max_bids", spec.max_bids.is_some()),
        ("overtime", spec.overtime.is_some()),
        ("visibility.adjustments", spec.visibility.adjustments),
        ("prebid", spec.prebid != Prebid::None),
        ("auto_bid", spec.auto_bid),
        ("all_or_nothing", spec.all_or_nothing),
        ("features", !spec.features.is_empty()),
        ("max_weight_sum", has_weight_sum(spec)),
        ("dutch", spec.dutch.is_some()),
        ("japanese", spec.japanese.is_some()),
        ("rounds", spec.rounds.is_some()),
        ("sealed", spec.sealed.is_some()),
    ]
}

/// Where a rule is in the rules of a lot.
pub(crate) fn pointer(rule: &str) -> String {
    format!("/{}", rule.replace('.', "/"))
}

/// What doesn't go together in the rules of a lot: first by format, then with each other.
pub(crate) fn conflicts(spec: &RulesSpec) -> Vec<RuleError> {
    let mut found = Vec::new();
    for (rule, is_set) in set_rules(spec) {
        let row = RuleRow::of(rule);
        if is_set && !row.formats.contains(&spec.format) {
            let formats: Vec<&str> = row.formats.iter().map(|format| format.word()).collect();
            let detail = format!("is a rule of {} only", formats.join(", "));
            let absent = || match row.kind {
                RuleKind::List => "an empty list".to_owned(),
                _ => format!("no {rule}"),
            };
            let valid = row.default.filter(|default| *default != "[]").map(|default| default.replace('"', ""));
            found.push(RuleError { pointer: pointer(rule), detail, valid: valid.unwrap_or_else(absent) });
        }
    }
    for conflict in CONFLICTS {
        if RuleRow::of(conflict.rule).formats.contains(&spec.format) && (conflict.matches)(spec) {
            let (pointer, detail) = (pointer(conflict.rule), conflict.detail.to_owned());
            found.push(RuleError { pointer, detail, valid: (conflict.valid)(spec) });
        }
    }
    found
}

#[cfg(test)]
mod tests;
