//! The english format: what a bid must beat, which price would be taken next, when a late bid extends.
//!
//! Straight arithmetic over rules and book; nothing here changes anything.

use crate::adjust::Effective;
use crate::book::Book;
use crate::{
    BidderNumber, Decimal, Decrement, Improvement, LogTime, MaxNext, Overtime, OvertimeMode, OvertimeTrigger,
    PRICE_MAX, Percent, Price, Refusal, Rules,
};

/// A fraction of an amount that is not negative, rounded up.
fn fraction_up(amount: i64, percent: Percent) -> i64 {
    let product = i128::from(amount) * i128::from(percent.numerator);
    let denominator = i128::from(percent.denominator);
    ((product + denominator - 1) / denominator) as i64
}

/// The least improvement upon a base.
pub(crate) fn step(decrement: &Decrement, base: Price) -> i64 {
    match decrement {
        Decrement::Amount(amount) => *amount,
        Decrement::Percent(percent) => fraction_up(base.0, *percent).max(1),
        Decrement::Table(rows) => {
            let next = rows.partition_point(|(from, _)| *from <= base.0);
            rows[next.saturating_sub(1)].1
        }
    }
}

/// The least improvement upon an effective base; one below zero counts as zero.
pub(crate) fn step_of(decrement: &Decrement, base: Effective) -> i64 {
    match decrement {
        Decrement::Percent(percent) => base.fraction_up(percent.numerator, percent.denominator).max(1),
        // The rows begin at whole units, so the rest below one doesn't matter.
        other => step(other, base.floor()),
    }
}

/// What a new price is measured against.
#[derive(Clone, Copy, Default)]
struct Base {
    /// The highest price that improves enough.
    improved: Option<i64>,
    /// The lowest price that is no larger drop than `max_step` allows.
    lowest: Option<i64>,
}

/// The own price, in `lead` mode the lead's effective price.
fn base(rules: &Rules, book: &Book, bidder: BidderNumber) -> Base {
    let from = |price: Price| Base {
        improved: Some(price.0 - step(&rules.decrement, price)),
        lowest: rules.max_step.map(|most| price.0 - most),
    };
    match rules.improvement {
        Improvement::Own | Improvement::OwnAndBuffer => {
            book.standing(bidder).map(|slot| from(slot.price)).unwrap_or_default()
        }
        Improvement::Lead if book.is_adjusted() => {
            let Some((leader, lead)) = book.lead() else { return Base::default() };
            let (own, lead) = (book.adjust(bidder), book.effective(leader, lead.price));
            Base {
                improved: Some(own.at_most(lead.plus(-step_of(&rules.decrement, lead)))),
                lowest: rules.max_step.map(|most| own.at_least(lead.plus(-most))),
            }
        }
        Improvement::Lead => book.lead().map(|(_, slot)| from(slot.price)).unwrap_or_default(),
        Improvement::Free => Base::default(),
    }
}

/// The prices around another bidder's lead that may not be named: all strictly between the two.
fn buffer_zone(rules: &Rules, book: &Book, bidder: BidderNumber) -> Option<(i64, i64)> {
    let buffer = rules.buffer?;
    let (leader, lead) = book.lead()?;
    if leader == bidder {
        return None;
    }
    if book.is_adjusted() {
        let (own, lead) = (book.adjust(bidder), book.effective(leader, lead.price));
        return Some((own.at_most(lead.plus(-buffer.front)), own.at_least(lead.plus(buffer.back))));
    }
    Some((lead.price.0 - buffer.front, lead.price.0 + buffer.back))
}

/// Whether another bidder stands at this price at a rank that must stay free of ties.
fn is_forbidden_tie(rules: &Rules, book: &Book, bidder: BidderNumber, price: Price) -> bool {
    if rules.tie_free_ranks == 0 {
        return false;
    }
    let mut better = book.better(bidder, price);
    let mut equal = book.not_worse(bidder, price) - better;
    if let Some(own) = book.standing(bidder) {
        better -= usize::from(own.price < price);
        equal -= usize::from(own.price == price);
    }
    equal > 0 && better < usize::from(rules.tie_free_ranks)
}

/// The highest price that would be taken from an admitted bidder while the lot is open, given `confirm`.
pub(crate) fn max_next(rules: &Rules, book: &Book, bidder: BidderNumber) -> MaxNext {
    if is_exhausted(rules, book, bidder) {
        return MaxNext::None;
    }
    let base = base(rules, book, bidder);
    let ceiling = rules.ceiling.map(|ceiling| ceiling.0);
    let Some(highest) = base.improved.into_iter().chain(ceiling).min() else { return MaxNext::Unlimited };
    let mut lowest = rules.floor.map_or(1, |floor| floor.0);
    if let Some(least) = base.lowest {
        lowest = lowest.max(least);
    }
    let highest = highest.min(PRICE_MAX.0);
    if rules.tick == 1 && rules.buffer.is_none() && rules.tie_free_ranks == 0 {
        return if highest >= lowest && highest > 0 { MaxNext::At(Price(highest)) } else { MaxNext::None };
    }
    let zone = buffer_zone(rules, book, bidder);
    let on_tick = |price: i64| if rules.tick > 1 { price.div_euclid(rules.tick) * rules.tick } else { price };
    let mut price = on_tick(highest);
    while price >= lowest && price > 0 {
        match zone {
            Some((front, back)) if front < price && price < back => price = on_tick(front),
            _ if is_forbidden_tie(rules, book, bidder, Price(price)) => price = on_tick(price - 1),
            _ => return MaxNext::At(Price(price)),
        }
    }
    MaxNext::None
}

/// What `free` allows: any price up to the ceiling. For pre-bids and sealed bids.
pub(crate) fn max_free(rules: &Rules, book: &Book, bidder: BidderNumber) -> MaxNext {
    if is_exhausted(rules, book, bidder) {
        return MaxNext::None;
    }
    let Some(ceiling) = rules.ceiling else { return MaxNext::Unlimited };
    let price = ceiling.0 / rules.tick * rules.tick;
    let fits = price > 0 && rules.floor.is_none_or(|floor| price >= floor.0);
    if fits { MaxNext::At(Price(price)) } else { MaxNext::None }
}

/// Whether a bidder has used up its bids.
pub(crate) fn is_exhausted(rules: &Rules, book: &Book, bidder: BidderNumber) -> bool {
    let used = || book.slot(bidder).map_or(0, |slot| slot.accepted);
    rules.max_bids.is_some_and(|most| used() >= most)
}

/// Checks a price by itself: scale, sign, tick, ceiling and floor, in this order.
pub(crate) fn check_price(rules: &Rules, sent: Decimal) -> Result<Price, Refusal> {
    if sent.exceeds_scale(rules.price_scale) {
        return Err(Refusal::PriceScale);
    }
    if sent.mantissa <= 0 {
        return Err(Refusal::PriceNotPositive);
    }
    let Some(units) = sent.units(rules.price_scale) else {
        // Too large for the integer it would become; it is above every ceiling, but its tick comes first.
        let units = i128::from(sent.mantissa) * 10i128.pow(u32::from(rules.price_scale - sent.scale));
        let on_tick = units % i128::from(rules.tick) == 0;
        return Err(if on_tick { Refusal::AboveCeiling } else { Refusal::PriceTick });
    };
    if rules.tick > 1 && units % rules.tick != 0 {
        return Err(Refusal::PriceTick);
    }
    let price = Price(units);
    if price > rules.ceiling.unwrap_or(PRICE_MAX) {
        return Err(Refusal::AboveCeiling);
    }
    if rules.floor.is_some_and(|floor| price < floor) {
        return Err(Refusal::BelowFloor);
    }
    Ok(price)
}

/// Checks what a price must beat and keep clear of, up to the guard, in order.
pub(crate) fn check_improvement(
    rules: &Rules,
    book: &Book,
    bidder: BidderNumber,
    price: Price,
    confirm: bool,
) -> Result<(), Refusal> {
    let base = base(rules, book, bidder);
    let improved = base.improved;
    if improved.is_some_and(|improved| price.0 > improved) {
        return Err(Refusal::NotImproved);
    }
    if let Some((front, back)) = buffer_zone(rules, book, bidder)
        && front < price.0
        && price.0 < back
    {
        return Err(Refusal::NotImproved);
    }
    if base.lowest.is_some_and(|lowest| price.0 < lowest) {
        return Err(Refusal::StepTooLarge);
    }
    if is_forbidden_tie(rules, book, bidder, price) {
        return Err(Refusal::TieNotAllowed);
    }
    if let (Some(guard), false) = (rules.guard, confirm) {
        let rest = i128::from(guard.denominator - guard.numerator);
        let falls_far = |from: i64| i128::from(price.0) * i128::from(guard.denominator) <= i128::from(from) * rest;
        // `max_next` is no higher than this; where the price is near it, the rest need not be worked out.
        let highest = improved.or(rules.ceiling.map(|ceiling| ceiling.0));
        if highest.is_some_and(falls_far)
            && let MaxNext::At(max_next) = max_next(rules, book, bidder)
            && falls_far(max_next.0)
        {
            return Err(Refusal::DropTooLarge);
        }
    }
    Ok(())
}

/// Whether an accepted bid is one that extends; `before` is the bidder's price before it, the book is as after it.
pub(crate) fn triggers(
    overtime: &Overtime,
    book: &Book,
    bidder: BidderNumber,
    price: Price,
    before: Option<Price>,
) -> bool {
    if before.is_none() && overtime.first_bid_triggers {
        return true;
    }
    let rank = book.better(bidder, price) + 1;
    match overtime.trigger {
        OvertimeTrigger::Any => true,
        OvertimeTrigger::Lead => rank == 1,
        OvertimeTrigger::Rank => rank <= usize::from(overtime.rank) && moved_a_rank(book, bidder, price, before),
    }
}

/// Whether a bid gave some bidder a new or different rank.
fn moved_a_rank(book: &Book, bidder: BidderNumber, price: Price, before: Option<Price>) -> bool {
    let Some(before) = before else { return true };
    if before == price {
        return false;
    }
    // The bid itself is one of those in the range it moved across.
    book.not_worse(bidder, price.max(before)) - book.better(bidder, price.min(before)) > 1
}

/// The end that overtime gives to a lot that would end at `closes_at`, if it moves; `added_ms` is what it got so far.
pub(crate) fn extended(
    overtime: &Overtime,
    closes_at: LogTime,
    at: LogTime,
    extensions: u32,
    added_ms: i64,
) -> Option<LogTime> {
    if closes_at.0 - at.0 > overtime.window_ms {
        return None;
    }
    extended_anyway(overtime, closes_at, at, extensions, added_ms)
}

/// As [`extended`], whatever the window.
pub(crate) fn extended_anyway(
    overtime: &Overtime,
    closes_at: LogTime,
    at: LogTime,
    extensions: u32,
    added_ms: i64,
) -> Option<LogTime> {
    if overtime.max_count.is_some_and(|most| extensions >= most) {
        return None;
    }
    let wanted = match overtime.mode {
        OvertimeMode::Reset => at.plus_ms(overtime.length_ms),
        OvertimeMode::Add => closes_at.plus_ms(overtime.length_ms),
    };
    let allowed = overtime.max_total_ms.map(|most| closes_at.plus_ms(most - added_ms));
    let new = allowed.map_or(wanted, |allowed| wanted.min(allowed));
    (new > closes_at).then_some(new)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::book::Amount;

    const A: BidderNumber = BidderNumber(1);
    const B: BidderNumber = BidderNumber(2);

    fn book(bids: &[(u16, i64)]) -> Book {
        let mut book = Book::default();
        for (step, (bidder, price)) in bids.iter().enumerate() {
            let amount = Amount { price: Price(*price), at: LogTime(0), seq: step as u64 + 1, order: step as u32 };
            book.stand(BidderNumber(*bidder), amount, step as u32);
        }
        book
    }

    #[test]
    fn percent_steps_are_rounded_up_and_at_least_one_unit() {
        let percent = Decrement::Percent(Percent { numerator: 5, denominator: 1_000 });
        assert_eq!(step(&percent, Price(100_000)), 500);
        assert_eq!(step(&percent, Price(100_001)), 501);
        assert_eq!(step(&percent, Price(1)), 1);
    }

    #[test]
    fn table_steps_take_the_row_at_or_below_the_base() {
        let table = Decrement::Table(Box::new([(0, 3_000), (80_001, 7_000), (100_001, 20_000)]));
        assert_eq!(step(&table, Price(80_000)), 3_000);
        assert_eq!(step(&table, Price(80_001)), 7_000);
        assert_eq!(step(&table, Price(100_001)), 20_000);
    }

    #[test]
    fn max_next_keeps_clear_of_everything_that_would_refuse() {
        let mut rules = Rules::plain();
        assert_eq!(max_next(&rules, &book(&[]), A), MaxNext::Unlimited);
        rules.ceiling = Some(Price(1_003));
        rules.tick = 5;
        assert_eq!(max_next(&rules, &book(&[]), A), MaxNext::At(Price(1_000)));
        rules.tie_free_ranks = 2;
        assert_eq!(max_next(&rules, &book(&[(2, 1_000), (3, 995)]), A), MaxNext::At(Price(990)));
        rules.floor = Some(Price(991));
        assert_eq!(max_next(&rules, &book(&[(2, 1_000), (3, 995)]), A), MaxNext::None);
    }

    #[test]
    fn the_buffer_lies_around_another_bidders_lead_only() {
        let mut rules = Rules::plain();
        rules.improvement = Improvement::OwnAndBuffer;
        rules.buffer = Some(crate::Buffer { front: 10, back: 20 });
        let book = book(&[(1, 500), (2, 400)]);
        for (price, taken) in [(390, true), (391, false), (419, false), (420, true), (499, true)] {
            let checked = check_improvement(&rules, &book, A, Price(price), true);
            assert_eq!(checked.is_ok(), taken, "{price}");
        }
        assert_eq!(check_improvement(&rules, &book, B, Price(399), true), Ok(()));
    }

    #[test]
    fn a_rank_moves_when_the_bid_crosses_or_meets_another() {
        for (before, price, other, moved) in [
            (500, 450, 400, false),
            (500, 400, 400, true),
            (500, 390, 400, true),
            (500, 450, 500, true),
            (400, 390, 400, true),
            (300, 290, 400, false),
        ] {
            let book = book(&[(1, price), (2, other)]);
            assert_eq!(
                moved_a_rank(&book, A, Price(price), Some(Price(before))),
                moved,
                "{before} {price} {other}"
            );
        }
    }

    #[test]
    fn caps_stop_and_shorten_extensions() {
        let overtime = Overtime {
            window_ms: 100,
            length_ms: 80,
            mode: OvertimeMode::Add,
            trigger: OvertimeTrigger::Any,
            rank: 1,
            first_bid_triggers: false,
            max_count: Some(2),
            max_total_ms: Some(150),
            scope: crate::OvertimeScope::Lot,
        };
        let ends = |at, extensions, added| extended(&overtime, LogTime(1_000), LogTime(at), extensions, added);
        assert_eq!(ends(899, 0, 0), None);
        assert_eq!(ends(900, 0, 0), Some(LogTime(1_080)));
        assert_eq!(ends(999, 1, 80), Some(LogTime(1_070)));
        assert_eq!(ends(999, 1, 150), None);
        assert_eq!(ends(999, 2, 0), None);
        let reset = Overtime { mode: OvertimeMode::Reset, ..overtime };
        assert_eq!(extended(&reset, LogTime(1_000), LogTime(920), 0, 0), None);
        assert_eq!(extended(&reset, LogTime(1_000), LogTime(921), 0, 0), Some(LogTime(1_001)));
    }
}
