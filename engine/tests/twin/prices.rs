//! What a bid must beat, and the highest price that would be taken.

use super::{Amount, Lot, Standing, Step, Tender, order};

/// The highest price that would be accepted with `confirm`.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Highest {
    None,
    Unlimited,
    At(Amount),
}

/// No price is above this many units, ceiling or not.
const UNITS_MAX: Amount = 1_000_000_000_000_000;

impl Lot {
    /// The least improvement below `base`.
    pub fn step_below(&self, base: Amount) -> Amount {
        let unit = self.plan.unit();
        match &self.plan.step {
            Step::Unit => unit,
            Step::Amount(amount) => *amount,
            Step::Percent(thousandths) => {
                let exact = base * thousandths;
                let whole = unit * 100_000;
                let units = exact / whole + if exact % whole == 0 { 0 } else { 1 };
                units.max(1) * unit
            }
            Step::Table(rows) => {
                let row = rows.iter().filter(|(from, _)| *from <= base).max_by_key(|(from, _)| *from);
                row.expect("a row from 0 is required").1
            }
        }
    }

    fn lead(&self) -> Option<Standing> {
        order::ranking(self).into_iter().next()
    }

    /// The price below which a bid must stay because of `improvement`; none where nothing but the ceiling limits it.
    fn bar(&self, bidder: u16) -> Option<Amount> {
        let base = match self.plan.improvement {
            "own" | "own_and_buffer" => self.standing_of(bidder).map(|own| own.price),
            "lead" => self.lead().map(|lead| lead.price),
            "free" => None,
            other => panic!("no such improvement: {other}"),
        };
        base.map(|base| base - self.step_below(base))
    }

    /// The first rule about prices alone that `price` breaks, from `price_scale` to `tie_not_allowed`.
    pub fn broken_by(&self, bidder: u16, price: Amount) -> Option<&'static str> {
        let plan = &self.plan;
        let own = self.standing_of(bidder).map(|own| own.price);
        if price % plan.unit() != 0 {
            return Some("price_scale");
        }
        if price <= 0 {
            return Some("price_not_positive");
        }
        if plan.tick.is_some_and(|tick| price % tick != 0) {
            return Some("price_tick");
        }
        if plan.ceiling.is_some_and(|ceiling| price > ceiling) || price > UNITS_MAX * plan.unit() {
            return Some("above_ceiling");
        }
        if plan.floor.is_some_and(|floor| price < floor) {
            return Some("below_floor");
        }
        if self.bar(bidder).is_some_and(|bar| price > bar) {
            return Some("not_improved");
        }
        if plan.improvement == "own_and_buffer" {
            let (front, back) = plan.buffer.expect("the mode needs a buffer");
            if let Some(lead) = self.lead().filter(|lead| lead.bidder != bidder)
                && price > lead.price - front
                && price < lead.price + back
            {
                return Some("not_improved");
            }
        }
        let base = match plan.improvement {
            "free" => None,
            "lead" => self.lead().map(|lead| lead.price),
            _ => own,
        };
        if let (Some(base), Some(most)) = (base, plan.max_step)
            && base - price > most
        {
            return Some("step_too_large");
        }
        let others: Vec<&Standing> = self.standing.iter().filter(|standing| standing.bidder != bidder).collect();
        let ties_high = others.iter().filter(|other| other.price == price).any(|other| {
            let rank = 1 + others.iter().filter(|better| better.price < other.price).count();
            rank <= plan.tie_free_ranks
        });
        if ties_high {
            return Some("tie_not_allowed");
        }
        None
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
        let limits = [self.plan.ceiling, self.bar(bidder)];
        let Some(top) = limits.into_iter().flatten().min() else { return Highest::Unlimited };
        let stride = self.plan.tick.unwrap_or(self.plan.unit());
        let mut price = top.min(UNITS_MAX * self.plan.unit()).div_euclid(stride) * stride;
        while price > 0 {
            match self.broken_by(bidder, price) {
                None => return Highest::At(price),
                // Lower ones break these too.
                Some("below_floor" | "step_too_large") => return Highest::None,
                // The whole buffer is closed: go on below it.
                Some("not_improved") => {
                    let lead = self.lead().expect("only a lead has a buffer").price;
                    let front = self.plan.buffer.expect("only the buffer refuses below the bar").0;
                    price = (lead - front).div_euclid(stride) * stride;
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
        if lot.stage != "open" || bidder.status != "admitted" || bidder.org == self.buyer {
            return Highest::None;
        }
        lot.highest(index as u16 + 1)
    }
}
