//! The rules of one lot, compiled from what the buyer sent: every amount in units of the lot's scale.
//!
//! Compiling checks every rule alone and together; what is wrong is told with a pointer and what would have been
//! right. Nothing here knows a bid.

use crate::rule_conflicts::{conflicts, pointer};
use crate::{
    Access, AwardMode, Decimal, DecrementSpec, Format, Improvement, LOTS_MAX, LeadVisibility, LogTime, LotMode,
    LotSpec, OvertimeMode, OvertimeScope, OvertimeSpec, OvertimeTrigger, PRICE_MAX, PRICE_SCALE_MAX, Prebid,
    Price, RoundsSpec, RuleError, RuleKind, RuleRow, RulesSpec, SealedPricing, TenderSpec, TieRank,
};

/// The rules of a lot, valid alone and together.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rules {
    /// The format.
    pub format: Format,
    /// Digits behind the point of every price here.
    pub price_scale: u8,
    /// Milliseconds from the opening to the first end.
    pub duration_ms: i64,
    /// The highest price taken.
    pub ceiling: Option<Price>,
    /// The lowest price taken.
    pub floor: Option<Price>,
    /// The highest price awarded.
    pub reserve: Option<Reserve>,
    /// What a bid must beat.
    pub improvement: Improvement,
    /// The distance to another bidder's lead, with `own_and_buffer`.
    pub buffer: Option<Buffer>,
    /// The least improvement.
    pub decrement: Decrement,
    /// Prices are whole multiples of it; 1 when the buyer set none.
    pub tick: i64,
    /// The largest drop of one bid.
    pub max_step: Option<i64>,
    /// The drop below `max_next` that needs `confirm`.
    pub guard: Option<Percent>,
    /// The rank that tied bidders are shown.
    pub tie_rank: TieRank,
    /// Down to which rank ties are forbidden; 0 allows them.
    pub tie_free_ranks: u16,
    /// The most accepted bids of a bidder.
    pub max_bids: Option<u32>,
    /// The fewest admitted bidders with which the lot opens.
    pub min_bidders: u32,
    /// Overtime.
    pub overtime: Option<Overtime>,
    /// Which bidders see the lead price.
    pub lead: LeadVisibility,
    /// Whether a bidder sees its own rank.
    pub rank: bool,
    /// Whether all standing prices are shown under bidder numbers.
    pub board: bool,
    /// Whether the number of bidders is shown.
    pub bidder_count: bool,
    /// How the lot is awarded.
    pub award: AwardMode,
    /// Milliseconds a lot stays open after an interruption.
    pub outage_grace_ms: i64,
    /// How many steps `seen_seq` may be behind.
    pub max_view_age: Option<u64>,
    /// Bids before the opening; required in rounds.
    pub prebid: Prebid,
    /// Whether bidders may leave limits; always in dutch.
    pub limits: bool,
    /// Milliseconds after the close in which the buyer must award.
    pub decision_ms: Option<i64>,
    /// Whether a traffic light is shown.
    pub light: bool,
    /// How near to the lead is yellow.
    pub near: Percent,
    /// Whether adjustments of others are shown.
    pub adjustments: bool,
    /// What the winner of a sealed lot is paid.
    pub pricing: SealedPricing,
    /// The prices of a dutch or japanese lot.
    pub ladder: Option<Ladder>,
    /// The timetable of rounds.
    pub rounds: Option<Timetable>,
    /// Whether a bid may be marked as bound to the bidder's bids in other lots.
    pub all_or_nothing: bool,
    /// Weighted features: name and largest weight in millionths.
    pub features: Vec<(String, i64)>,
}

/// The prices of a dutch or japanese lot.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ladder {
    /// The price of step 0.
    pub start: Price,
    /// The distance between steps.
    pub step: i64,
    /// Milliseconds a step lasts.
    pub interval_ms: i64,
    /// The price of the last step.
    pub end: Price,
    /// The number of the last step.
    pub last: u64,
}

impl Ladder {
    /// The price of a step.
    pub fn price(&self, step: u64) -> Price {
        let moved = i128::from(self.step) * i128::from(step);
        if self.start <= self.end {
            Price((i128::from(self.start.0) + moved).min(i128::from(self.end.0)) as i64)
        } else {
            Price((i128::from(self.start.0) - moved).max(i128::from(self.end.0)) as i64)
        }
    }
}

/// The timetable of rounds, in milliseconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Timetable {
    /// How many rounds.
    pub count: u16,
    /// A turn.
    pub turn_ms: i64,
    /// Between rounds.
    pub pause_ms: i64,
    /// Before the first round.
    pub lead_in_ms: i64,
    /// Behind the last round.
    pub announce_ms: i64,
}

/// The highest price that is awarded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Reserve {
    /// The price.
    pub price: Price,
    /// Whether bidders and observers see it.
    pub shown: bool,
}

/// The distance a bid keeps from another bidder's lead, in units.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Buffer {
    /// At least this much below it …
    pub front: i64,
    /// … or at least this much above it.
    pub back: i64,
}

/// An exact percentage: `numerator` / `denominator` is the fraction of one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Percent {
    /// Above the line.
    pub numerator: i64,
    /// Below the line; positive.
    pub denominator: i64,
}

/// The least improvement.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Decrement {
    /// A fixed amount, at least one unit.
    Amount(i64),
    /// Of the base, rounded up, at least one unit.
    Percent(Percent),
    /// By price range: rows of lowest base and step, by rising base, the first from 0.
    Table(Box<[(i64, i64)]>),
}

/// When and how the end of a lot moves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Overtime {
    /// Milliseconds before the end in which a bid may extend.
    pub window_ms: i64,
    /// Milliseconds that an extension gives.
    pub length_ms: i64,
    /// How the end moves.
    pub mode: OvertimeMode,
    /// Which bids extend.
    pub trigger: OvertimeTrigger,
    /// The worst rank that extends, for trigger `rank`.
    pub rank: u16,
    /// Whether a bidder's first bid extends whatever the trigger says.
    pub first_bid_triggers: bool,
    /// The most extensions.
    pub max_count: Option<u32>,
    /// The most milliseconds added altogether.
    pub max_total_ms: Option<i64>,
    /// What is extended.
    pub scope: OvertimeScope,
}

impl Rules {
    /// Whether the lot keeps more than a book: something hidden, limits, or phases.
    pub(crate) fn is_plain(&self) -> bool {
        self.format == Format::English && self.prebid == Prebid::None && !self.limits
    }

    /// Reads what a bid will be measured by.
    pub(crate) fn glance(&self) -> u64 {
        let ceiling = self.ceiling.map_or(0, |ceiling| ceiling.0);
        let window = self.overtime.map_or(0, |overtime| overtime.window_ms);
        (ceiling ^ self.tick ^ window ^ self.guard.map_or(0, |guard| guard.numerator)) as u64
    }
}

/// The most that is told about one set of rules: the rest is of the same kind.
const ERRORS_MAX: usize = 100;
const TITLE_MAX: usize = 200;
const TEXT_MAX: usize = 10_000;
const ITEMS_MAX: usize = 100;
const ROWS_MAX: usize = 100;
/// The year 2200: later openings are a mistake in units.
const OPENS_AT_MAX: LogTime = LogTime(7_258_118_400_000);

/// Checks a whole tender and compiles the rules of its lots, by number.
pub(crate) fn compile_tender(spec: &TenderSpec) -> Result<Vec<Rules>, Vec<RuleError>> {
    let mut check = Check::default();
    check.text("/title", &spec.title, TITLE_MAX);
    check.text("/description", &spec.description, TEXT_MAX);
    check.text("/reference", &spec.reference, TITLE_MAX);
    if spec.currency.len() != 3 || !spec.currency.bytes().all(|byte| byte.is_ascii_uppercase()) {
        check.wrong("/currency", "is no ISO 4217 code", "three capital letters, such as EUR");
    }
    if spec.opens_at.is_some_and(|at| at.0 < 0 || at > OPENS_AT_MAX) {
        check.wrong("/opens_at", "is no sensible time", "a time from 1970 to 2200");
    }
    if let Some(terms) = &spec.terms {
        check.text("/terms", terms, TEXT_MAX);
    }
    let is_timed = |lot: &LotSpec| matches!(lot.rules.format, Format::English | Format::Sealed);
    if spec.lot_mode == LotMode::Staggered && !spec.lots.iter().all(is_timed) {
        check.wrong(
            "/lot_mode",
            "staggered is for lots with a duration: english and sealed",
            "parallel or serial",
        );
    }
    check.seconds("/stagger_s", spec.stagger_s);
    check.seconds("/serial_gap_s", spec.serial_gap_s);
    if spec.stagger_s != 0 && spec.lot_mode != LotMode::Staggered {
        check.wrong("/stagger_s", "belongs to lot_mode staggered", "0");
    }
    if spec.serial_gap_s != 0 && spec.lot_mode != LotMode::Serial {
        check.wrong("/serial_gap_s", "belongs to lot_mode serial", "0");
    }
    if spec.lots.is_empty() || spec.lots.len() > LOTS_MAX {
        check.wrong("/lots", "has no lots, or too many", &format!("1 to {LOTS_MAX} lots"));
    }
    let mut compiled = Vec::with_capacity(spec.lots.len());
    for (place, lot) in spec.lots.iter().take(LOTS_MAX).enumerate() {
        check.at = format!("/lots/{place}");
        check.text("/title", &lot.title, TITLE_MAX);
        if lot.items.len() > ITEMS_MAX {
            check.wrong("/items", "has too many items", &format!("at most {ITEMS_MAX}"));
        }
        for (place, item) in lot.items.iter().enumerate() {
            check.text(&format!("/items/{place}/description"), &item.description, TEXT_MAX);
            check.text(&format!("/items/{place}/unit"), &item.unit, TITLE_MAX);
            if item.quantity.mantissa <= 0 {
                check.wrong(&format!("/items/{place}/quantity"), "is not positive", "a positive decimal string");
            }
        }
        check.at = format!("/lots/{place}/rules");
        let rules = compile_lot(&mut check, spec, &lot.rules);
        compiled.extend(rules);
    }
    if check.errors.is_empty() { Ok(compiled) } else { Err(check.errors) }
}

/// Checks the rules of one lot; `None` when something was wrong.
fn compile_lot(check: &mut Check, tender: &TenderSpec, spec: &RulesSpec) -> Option<Rules> {
    let errors = check.errors.len();
    let format = spec.format;
    for RuleError { pointer, detail, valid } in conflicts(spec) {
        check.wrong(&pointer, &detail, &valid);
    }

    let scale = spec.price_scale.unwrap_or(i64::from(tender.currency_exponent));
    check.integer("price_scale", scale);
    if !(0..=i64::from(PRICE_SCALE_MAX)).contains(&scale) {
        return None;
    }
    check.scale = scale as u8;
    let is_timed = matches!(format, Format::English | Format::Sealed);
    let duration_s = spec.duration_s.filter(|_| is_timed).inspect(|value| check.integer("duration_s", *value));

    let ceiling = spec.ceiling.and_then(|sent| check.amount("ceiling", sent)).map(Price);
    let floor = spec.floor.and_then(|sent| check.amount("floor", sent)).map(Price);
    let reserve = spec.reserve.and_then(|sent| {
        let price = Price(check.amount("reserve.price", sent.price)?);
        Some(Reserve { price, shown: sent.shown })
    });
    let tick = spec.tick.and_then(|sent| check.amount("tick", sent)).unwrap_or(1);
    check_limits(check, ceiling, floor, reserve, tick);
    let ladder = compile_ladder(check, spec, ceiling);
    let rounds = compile_rounds(check, spec);

    let buffer = spec.buffer.and_then(|sent| {
        let front = check.amount("buffer.front", sent.front);
        let back = check.amount("buffer.back", sent.back);
        Some(Buffer { front: front?, back: back? })
    });
    let max_step = spec.max_step.and_then(|sent| check.amount("max_step", sent));
    let decrement = match &spec.decrement {
        None => Some(Decrement::Amount(1)),
        Some(sent) => compile_decrement(check, sent),
    };
    if let (Some(max_step), Some(Decrement::Amount(least))) = (max_step, &decrement)
        && max_step < *least
    {
        let valid = format!("at least {}", Price(*least).decimal(check.scale));
        check.wrong("/max_step", "is smaller than the decrement: no second bid could be taken", &valid);
    }
    let guard = spec.guard_percent.and_then(|sent| check.percent("guard_percent", "/guard_percent", sent));
    let near = check.percent("near_percent", "/near_percent", spec.near_percent);
    check.integer("tie_free_ranks", spec.tie_free_ranks);
    let max_bids = spec.max_bids.inspect(|value| check.integer("max_bids", *value));
    let by_access = i64::from(tender.access == Access::Invited);
    let min_bidders = spec.min_bidders.unwrap_or(by_access);
    check.integer("min_bidders", min_bidders);
    check.integer("outage_grace_s", spec.outage_grace_s);
    let max_view_age = spec.max_view_age.inspect(|value| check.integer("max_view_age", *value));
    let decision_s = spec.decision_s.inspect(|value| check.integer("decision_s", *value));
    let overtime = spec.overtime.as_ref().map(|sent| compile_overtime(check, sent));
    let features = compile_features(check, spec);
    let is_rounds = format == Format::Rounds;

    (check.errors.len() == errors).then(|| Rules {
        format,
        price_scale: scale as u8,
        duration_ms: duration_s.unwrap_or(0) * 1_000,
        ceiling,
        floor,
        reserve,
        improvement: spec.improvement,
        buffer,
        decrement: decrement.expect("a wrong decrement was told"),
        tick,
        max_step,
        guard,
        tie_rank: spec.tie_rank,
        tie_free_ranks: spec.tie_free_ranks as u16,
        max_bids: max_bids.map(|value| value as u32),
        min_bidders: min_bidders as u32,
        overtime,
        lead: spec.visibility.lead,
        rank: spec.visibility.rank,
        board: spec.visibility.board,
        bidder_count: spec.visibility.bidder_count,
        award: spec.award,
        outage_grace_ms: spec.outage_grace_s * 1_000,
        max_view_age: max_view_age.map(|value| value as u64),
        prebid: if is_rounds { Prebid::Required } else { spec.prebid },
        limits: spec.auto_bid || format == Format::Dutch,
        decision_ms: decision_s.map(|value| value * 1_000),
        light: spec.visibility.light,
        near: near.expect("a wrong percentage was told"),
        adjustments: spec.visibility.adjustments,
        pricing: spec.sealed.map_or(SealedPricing::First, |sealed| sealed.pricing),
        ladder,
        rounds,
        all_or_nothing: spec.all_or_nothing,
        features,
    })
}

/// Steps or levels a lot may have.
const STEPS_MAX: i64 = 100_000;

fn compile_ladder(check: &mut Check, spec: &RulesSpec, ceiling: Option<Price>) -> Option<Ladder> {
    let (name, block, floor) = match spec.format {
        Format::Dutch => ("dutch", spec.dutch.map(|it| (it.start, it.step, it.interval_s)), None),
        Format::Japanese => {
            let block = spec.japanese.map(|it| (it.start, it.step, it.interval_s));
            ("japanese", block, spec.japanese.map(|it| it.floor))
        }
        _ => return None,
    };
    let (start, step, interval_s) = block?;
    let start = check.amount(&format!("{name}.start"), start);
    let step = check.amount(&format!("{name}.step"), step);
    check.integer(&format!("{name}.interval_s"), interval_s);
    let end = match spec.format {
        Format::Dutch => ceiling.map(|ceiling| ceiling.0),
        _ => floor.and_then(|floor| check.amount("japanese.floor", floor)),
    };
    let (start, step, end) = (start?, step?, end?);
    if spec.format == Format::Dutch && end < start {
        let valid = format!("at most {}", Price(end).decimal(check.scale));
        check.wrong("/dutch/start", "is above the ceiling", &valid);
        return None;
    }
    if spec.format == Format::Japanese {
        if end > start {
            let valid = format!("at most {}", Price(start).decimal(check.scale));
            check.wrong("/japanese/floor", "is above the start", &valid);
            return None;
        }
        if let Some(ceiling) = ceiling.filter(|ceiling| start > ceiling.0) {
            let valid = format!("at most {}", ceiling.decimal(check.scale));
            check.wrong("/japanese/start", "is above the ceiling", &valid);
            return None;
        }
    }
    let way = (end - start).abs();
    let last = way / step + i64::from(way % step != 0);
    if last >= STEPS_MAX {
        let detail = format!("makes more than {STEPS_MAX} steps");
        let least = way / (STEPS_MAX - 1) + i64::from(way % (STEPS_MAX - 1) != 0);
        check.wrong(&format!("/{name}/step"), &detail, &format!("at least {}", Price(least).decimal(check.scale)));
        return None;
    }
    let (start, end) = (Price(start), Price(end));
    Some(Ladder { start, step, interval_ms: interval_s.saturating_mul(1_000), end, last: last as u64 })
}

fn compile_rounds(check: &mut Check, spec: &RulesSpec) -> Option<Timetable> {
    if spec.format != Format::Rounds {
        return None;
    }
    let sent = spec.rounds.unwrap_or(RoundsSpec {
        count: 3,
        turn_s: 120,
        pause_s: 120,
        lead_in_s: 300,
        announce_s: None,
    });
    let announce_s = sent.announce_s.unwrap_or(sent.pause_s);
    for (name, value) in [
        ("rounds.count", sent.count),
        ("rounds.turn_s", sent.turn_s),
        ("rounds.pause_s", sent.pause_s),
        ("rounds.lead_in_s", sent.lead_in_s),
        ("rounds.announce_s", announce_s),
    ] {
        check.integer(name, value);
    }
    Some(Timetable {
        count: sent.count as u16,
        turn_ms: sent.turn_s.saturating_mul(1_000),
        pause_ms: sent.pause_s.saturating_mul(1_000),
        lead_in_ms: sent.lead_in_s.saturating_mul(1_000),
        announce_ms: announce_s.saturating_mul(1_000),
    })
}

/// Digits behind the point of a weight.
pub(crate) const WEIGHT_DIGITS: u8 = 6;
/// The largest sum of weights where the buyer set none.
pub(crate) const WEIGHT_SUM: Decimal = Decimal { mantissa: 30, scale: 2 };
/// A weight of one.
pub(crate) const WEIGHT_ONE: i64 = 1_000_000;
const FEATURES_MAX: usize = 100;
const NAME_MAX: usize = 200;

fn compile_features(check: &mut Check, spec: &RulesSpec) -> Vec<(String, i64)> {
    let most = spec.max_weight_sum.unwrap_or(WEIGHT_SUM);
    let most = most.units(WEIGHT_DIGITS).filter(|most| (0..WEIGHT_ONE).contains(most));
    if most.is_none() {
        let valid = "0.30, or another decimal string from 0 and below 1, up to six digits behind the point";
        check.wrong("/max_weight_sum", "is no sum of weights", valid);
    }
    if spec.features.len() > FEATURES_MAX {
        check.wrong("/features", "are too many", &format!("at most {FEATURES_MAX}"));
        return Vec::new();
    }
    let mut features: Vec<(String, i64)> = Vec::with_capacity(spec.features.len());
    for (place, feature) in spec.features.iter().enumerate() {
        let units = feature.max.units(WEIGHT_DIGITS).filter(|max| (1..WEIGHT_ONE).contains(max));
        if units.is_none() {
            let valid = "a decimal string above 0 and below 1, up to six digits behind the point";
            check.wrong(&format!("/features/{place}/max"), "is no weight", valid);
        }
        check.text(&format!("/features/{place}/id"), &feature.id, NAME_MAX);
        if feature.id.is_empty() || features.iter().any(|(id, _)| *id == feature.id) {
            check.wrong(&format!("/features/{place}/id"), "is empty or there already", "each name once");
        }
        features.push((feature.id.clone(), units.unwrap_or(0)));
    }
    let sum: i64 = features.iter().map(|(_, max)| max).sum();
    if most.is_some_and(|most| sum > most) {
        let most = Decimal { mantissa: most.unwrap_or(0), scale: WEIGHT_DIGITS };
        check.wrong("/features", "weigh more than max_weight_sum together", &format!("at most {most} together"));
    }
    features
}

/// Ceiling, floor, reserve and tick against each other.
fn check_limits(
    check: &mut Check,
    ceiling: Option<Price>,
    floor: Option<Price>,
    reserve: Option<Reserve>,
    tick: i64,
) {
    let scale = check.scale;
    let written = |price: i64| Price(price).decimal(scale).to_string();
    let highest = ceiling.unwrap_or(PRICE_MAX).0;
    let lowest = floor.map_or(1, |floor| floor.0);
    if lowest > highest {
        let valid = format!("at most {}", written(highest));
        check.wrong("/floor", "is above the ceiling", &valid);
    } else if highest / tick * tick < lowest {
        let detail = "has no multiple between floor and ceiling";
        // One unit always has a multiple.
        check.wrong("/tick", detail, &format!("{}, or another with a multiple between the two", written(1)));
    }
    if let Some(reserve) = reserve {
        if reserve.price.0 > highest {
            let valid = format!("at most {}", written(highest));
            check.wrong("/reserve/price", "is above the ceiling", &valid);
        }
        if reserve.price.0 < lowest {
            let valid = format!("at least {}", written(lowest));
            check.wrong("/reserve/price", "is below the floor: no bid could meet it", &valid);
        }
    }
}

fn compile_decrement(check: &mut Check, sent: &DecrementSpec) -> Option<Decrement> {
    match sent {
        DecrementSpec::Amount(value) => check.amount("decrement.value", *value).map(Decrement::Amount),
        DecrementSpec::Percent(value) => {
            let percent = check.percent("guard_percent", "/decrement/value", *value)?;
            Some(Decrement::Percent(percent))
        }
        DecrementSpec::Table(sent) => {
            if sent.is_empty() || sent.len() > ROWS_MAX {
                check.wrong("/decrement/rows", "has no rows, or too many", &format!("1 to {ROWS_MAX} rows"));
                return None;
            }
            let mut rows = Vec::with_capacity(sent.len());
            for (place, row) in sent.iter().enumerate() {
                let from =
                    check.amount_at("decrement.rows.from", &format!("/decrement/rows/{place}/from"), row.from);
                let step =
                    check.amount_at("decrement.rows.step", &format!("/decrement/rows/{place}/step"), row.step);
                rows.push((from?, step?));
            }
            rows.sort_unstable();
            if rows[0].0 != 0 {
                check.wrong("/decrement/rows", "has no row for the lowest prices", "a row with from 0");
                return None;
            }
            if rows.windows(2).any(|pair| pair[0].0 == pair[1].0) {
                check.wrong("/decrement/rows", "has two rows with the same from", "each from once");
                return None;
            }
            Some(Decrement::Table(rows.into_boxed_slice()))
        }
    }
}

/// What is answered counts only if nothing was told.
fn compile_overtime(check: &mut Check, sent: &OvertimeSpec) -> Overtime {
    check.integer("overtime.window_s", sent.window_s);
    check.integer("overtime.length_s", sent.length_s);
    check.integer("overtime.rank", sent.rank);
    let max_count = sent.max_count.inspect(|value| check.integer("overtime.max_count", *value));
    let max_total_s = sent.max_total_s.inspect(|value| check.integer("overtime.max_total_s", *value));
    Overtime {
        window_ms: sent.window_s.saturating_mul(1_000),
        length_ms: sent.length_s.saturating_mul(1_000),
        mode: sent.mode,
        trigger: sent.trigger,
        rank: sent.rank as u16,
        first_bid_triggers: sent.first_bid_triggers,
        max_count: max_count.map(|value| value as u32),
        max_total_ms: max_total_s.map(|value| value.saturating_mul(1_000)),
        scope: sent.scope,
    }
}

/// Gathers what is wrong.
#[derive(Default)]
struct Check {
    errors: Vec<RuleError>,
    /// Where the part that is checked begins.
    at: String,
    scale: u8,
}

impl Check {
    fn wrong(&mut self, pointer: &str, detail: &str, valid: &str) {
        if self.errors.len() < ERRORS_MAX {
            let pointer = format!("{}{pointer}", self.at);
            self.errors.push(RuleError { pointer, detail: detail.to_owned(), valid: valid.to_owned() });
        }
    }

    fn seconds(&mut self, pointer: &str, value: i64) {
        if !(0..=366 * 86_400).contains(&value) {
            self.wrong(pointer, "is out of range", "an integer from 0 to 31622400");
        }
    }

    fn text(&mut self, pointer: &str, text: &str, most: usize) {
        if text.len() > most && text.chars().count() > most {
            self.wrong(pointer, "is too long", &format!("at most {most} characters"));
        }
    }

    fn integer(&mut self, name: &str, value: i64) {
        let row = RuleRow::of(name);
        let RuleKind::Integer(least, most) = row.kind else { unreachable!("{name} is an integer") };
        if !(least..=most).contains(&value) {
            self.wrong(&pointer(name), "is out of range", &row.valid());
        }
    }

    fn amount(&mut self, name: &str, sent: Decimal) -> Option<i64> {
        self.amount_at(name, &pointer(name), sent)
    }

    fn amount_at(&mut self, name: &str, pointer: &str, sent: Decimal) -> Option<i64> {
        let row = RuleRow::of(name);
        let least = i64::from(row.kind != RuleKind::AmountOrZero);
        if sent.exceeds_scale(self.scale) {
            let valid = format!("at most {} digits behind the point", self.scale);
            self.wrong(pointer, "is finer than price_scale", &valid);
            return None;
        }
        match sent.units(self.scale) {
            Some(units) if (least..=PRICE_MAX.0).contains(&units) => Some(units),
            Some(units) if units < least => {
                self.wrong(pointer, "is too small", &row.valid());
                None
            }
            _ => {
                let valid = format!("at most {}", PRICE_MAX.decimal(self.scale));
                self.wrong(pointer, "is too large", &valid);
                None
            }
        }
    }

    /// A percentage by the range of the rule `name`, above its lower and up to its upper end.
    fn percent(&mut self, name: &str, pointer: &str, sent: Decimal) -> Option<Percent> {
        let row = RuleRow::of(name);
        let RuleKind::Percent(least, most) = row.kind else { unreachable!("{name} is a percentage") };
        const DIGITS: u8 = 6;
        const ONE: i64 = 1_000_000;
        match sent.units(DIGITS) {
            Some(units) if least * ONE < units && units <= most * ONE => {
                Some(Percent { numerator: units, denominator: 100 * ONE })
            }
            _ => {
                self.wrong(pointer, "is no percentage in range", &row.valid());
                None
            }
        }
    }
}

impl Rules {
    /// English rules at their defaults, with limits.
    pub(crate) fn for_settling() -> Self {
        Self { limits: true, ..Self::plain() }
    }

    /// English rules at their defaults, without a guard.
    pub(crate) fn plain() -> Self {
        Self {
            format: Format::English,
            price_scale: 2,
            duration_ms: 600_000,
            ceiling: None,
            floor: None,
            reserve: None,
            improvement: Improvement::Own,
            buffer: None,
            decrement: Decrement::Amount(1),
            tick: 1,
            max_step: None,
            guard: None,
            tie_rank: TieRank::ByTime,
            tie_free_ranks: 0,
            max_bids: None,
            min_bidders: 1,
            overtime: None,
            lead: LeadVisibility::Always,
            rank: true,
            board: false,
            bidder_count: true,
            award: AwardMode::Manual,
            outage_grace_ms: 120_000,
            max_view_age: None,
            prebid: Prebid::None,
            limits: false,
            decision_ms: None,
            light: false,
            near: Percent { numerator: 3, denominator: 100 },
            adjustments: false,
            pricing: SealedPricing::First,
            ladder: None,
            rounds: None,
            all_or_nothing: false,
            features: Vec::new(),
        }
    }
}
