//! What a bid must beat, and the highest price that would be taken.

use super::{Amount, Lot, Ratio, Standing, Step, Tender};

/// The highest price that would be accepted with `confirm`.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Highest {
    None,
    Unlimited,
    At(Amount),
}

/// No price is above this many units, ceiling or not.
const UNITS_MAX: Amount = 1_000_000_000_000_000;

/// The rules that a limit, a pre-bid and a sealed bid are checked by, in order.
const PLAIN: [&str; 5] = ["price_scale", "price_not_positive", "price_tick", "above_ceiling", "below_floor"];

/// Those that a bid is checked by too, in order.
const BOOK: [&str; 3] = ["not_improved", "step_too_large", "tie_not_allowed"];

impl Lot {
    /// The least improvement below `base`.
    pub fn step_below(&self, base: Ratio) -> Amount {
        let unit = self.plan.unit();
        let base = base.max(Ratio::whole(0));
        match &self.plan.step {
            Step::Unit => unit,
            Step::Amount(amount) => *amount,
            Step::Percent(thousandths) => (base * Ratio::new(*thousandths, 100_000)).ceil_to(unit).max(unit),
            Step::Table(rows) => {
                let reached = rows.iter().filter(|(from, _)| Ratio::whole(*from) <= base);
                reached.max_by_key(|(from, _)| *from).expect("a row from 0 is required").1
            }
        }
    }

    /// Whether bids are now checked by their own price only.
    fn only_plain(&self) -> bool {
        self.stage == "pending" || self.plan.is_sealed()
    }

    /// The price above which `improvement` refuses; none where it refuses none.
    fn bar(&self, bidder: u16) -> Option<Amount> {
        match self.plan.improvement {
            "own" | "own_and_buffer" => {
                let own = self.standing_of(bidder)?.price;
                Some(own - self.step_below(Ratio::whole(own)))
            }
            "lead" => {
                let lead = self.worth(&self.lead()?);
                let most = lead - Ratio::whole(self.step_below(lead));
                Some(self.price_for(bidder, most, self.plan.unit()))
            }
            "free" => None,
            other => panic!("no such improvement: {other}"),
        }
    }

    /// Whether a price breaks one rule.
    fn breaks(&self, rule: &str, bidder: u16, price: Amount) -> bool {
        let plan = &self.plan;
        let effective = self.effective(bidder, price);
        match rule {
            "price_scale" => price % plan.unit() != 0,
            "price_not_positive" => price <= 0,
            "price_tick" => plan.tick.is_some_and(|tick| price % tick != 0),
            "above_ceiling" => {
                plan.ceiling.is_some_and(|ceiling| price > ceiling) || price > UNITS_MAX * plan.unit()
            }
            "below_floor" => plan.floor.is_some_and(|floor| price < floor),
            "not_improved" => {
                self.bar(bidder).is_some_and(|bar| price > bar)
                    || self
                        .buffer_around(bidder)
                        .is_some_and(|(above, below)| above < effective && effective < below)
            }
            "step_too_large" => {
                let drop = match plan.improvement {
                    "free" => None,
                    "lead" => self.lead().map(|lead| self.worth(&lead) - effective),
                    _ => self.standing_of(bidder).map(|own| Ratio::whole(own.price - price)),
                };
                drop.zip(plan.max_step).is_some_and(|(drop, most)| drop > Ratio::whole(most))
            }
            "tie_not_allowed" => {
                let others: Vec<&Standing> = self.standing.iter().filter(|other| other.bidder != bidder).collect();
                others.iter().filter(|other| self.worth(other) == effective).any(|other| {
                    let better = others.iter().filter(|better| self.worth(better) < self.worth(other));
                    better.count() < plan.tie_free_ranks
                })
            }
            other => panic!("no such rule: {other}"),
        }
    }

    /// The open interval around another bidder's lead in which no effective price may lie.
    fn buffer_around(&self, bidder: u16) -> Option<(Ratio, Ratio)> {
        if self.plan.improvement != "own_and_buffer" {
            return None;
        }
        let (front, back) = self.plan.buffer.expect("the mode needs a buffer");
        let lead = self.worth(&self.lead().filter(|lead| lead.bidder != bidder)?);
        Some((lead - Ratio::whole(front), lead + Ratio::whole(back)))
    }

    /// The first rule about prices that a price and a limit that comes with it break, before the guard.
    pub fn broken_by(&self, bidder: u16, price: Option<Amount>, limit: Option<Amount>) -> Option<&'static str> {
        for rule in PLAIN {
            if price.into_iter().chain(limit).any(|price| self.breaks(rule, bidder, price)) {
                return Some(rule);
            }
        }
        if self.only_plain() {
            return None;
        }
        BOOK.into_iter().find(|rule| price.is_some_and(|price| self.breaks(rule, bidder, price)))
    }

    /// The first rule that a limit by itself breaks.
    pub fn broken_as_limit(&self, limit: Option<Amount>) -> Option<&'static str> {
        let limit = limit?;
        // No rule of these knows the bidder.
        PLAIN.into_iter().find(|rule| self.breaks(rule, 0, limit))
    }

    /// Whether a price is so far below the highest that it must be confirmed.
    pub fn guarded(&self, bidder: u16, price: Amount) -> bool {
        if self.only_plain() {
            return false;
        }
        match (self.plan.guard, self.highest(bidder)) {
            (Some(guard), Highest::At(next)) => price * 100_000 <= next * (100_000 - guard),
            _ => false,
        }
    }

    pub fn bids_left(&self, bidder: u16) -> bool {
        let used = self.accepted.iter().find(|(who, _)| *who == bidder).map_or(0, |(_, count)| *count);
        self.plan.max_bids.is_none_or(|most| used < most)
    }

    /// The highest price that would be taken from a bidder that may bid: found by trying, from above.
    fn highest(&self, bidder: u16) -> Highest {
        if !self.bids_left(bidder) {
            return Highest::None;
        }
        let bar = if self.only_plain() { None } else { self.bar(bidder) };
        let Some(top) = [self.plan.ceiling, bar].into_iter().flatten().min() else { return Highest::Unlimited };
        let stride = self.plan.tick.unwrap_or(self.plan.unit());
        let mut price = top.min(UNITS_MAX * self.plan.unit()).div_euclid(stride) * stride;
        while price > 0 {
            match self.broken_by(bidder, Some(price), None) {
                None => return Highest::At(price),
                // Lower ones break these too.
                Some("below_floor" | "step_too_large") => return Highest::None,
                // The whole buffer is closed: go on below it.
                Some("not_improved") => {
                    let (above, _) = self.buffer_around(bidder).expect("only the buffer refuses below the bar");
                    price = self.price_for(bidder, above, stride);
                }
                Some(_) => price -= stride,
            }
        }
        Highest::None
    }
}

impl Tender {
    /// The highest price that would be taken from this organisation now.
    pub fn highest_next(&self, lot: &Lot, index: usize) -> Highest {
        let bidder = &self.bidders[index];
        let number = index as u16 + 1;
        if bidder.status != "admitted" || bidder.org == self.buyer || !self.published {
            return Highest::None;
        }
        let may = match lot.stage {
            "pending" => lot.plan.takes_prebids(),
            "open" => {
                let late = lot.plan.needs_prebid() && !lot.prebidders.contains(&number);
                if let Some(price) = lot.ladder_price() {
                    let inside = lot.plan.is_dutch() || lot.inside.contains(&number);
                    return if inside { Highest::At(price) } else { Highest::None };
                }
                !late && (!lot.plan.is_rounds() || lot.has_a_turn(number))
            }
            _ => false,
        };
        if may { lot.highest(number) } else { Highest::None }
    }
}
