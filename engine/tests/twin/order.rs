//! Award order, ranks and results.

use super::{Amount, Format, Lot, Ms, Ranks, Ratio, Standing};

/// What a book is, for questions about another moment than now.
pub type Book = Vec<Standing>;

/// How a lot ended, or stands so far.
#[derive(Debug, PartialEq)]
pub struct Outcome {
    pub winner: Option<u16>,
    pub pays: Option<Amount>,
    pub abnormally_low: bool,
}

impl Lot {
    /// Factor and addend of a bidder.
    fn adjustment(&self, bidder: u16) -> (Ratio, Amount) {
        let own = self.adjustments.iter().find(|(who, _, _)| *who == bidder);
        own.map_or((Ratio::whole(1), 0), |(_, factor, addend)| (*factor, *addend))
    }

    /// What a price of a bidder counts as.
    pub fn effective(&self, bidder: u16, price: Amount) -> Ratio {
        let (factor, addend) = self.adjustment(bidder);
        Ratio::whole(price) * factor + Ratio::whole(addend)
    }

    /// The highest price on multiples of `stride` that counts as no more than `effective`.
    pub fn price_for(&self, bidder: u16, effective: Ratio, stride: Amount) -> Amount {
        let (factor, addend) = self.adjustment(bidder);
        (effective - Ratio::whole(addend)).over(factor).floor_to(stride)
    }

    pub fn worth(&self, standing: &Standing) -> Ratio {
        self.effective(standing.bidder, standing.price)
    }

    /// All standing bids in award order.
    pub fn ranking(&self) -> Vec<Standing> {
        let mut all = self.standing.clone();
        all.sort_by_key(|standing| (self.worth(standing), standing.at, standing.seq, standing.order));
        all
    }

    /// Those that may still be awarded, in award order.
    pub fn candidates(&self) -> Vec<Standing> {
        self.ranking().into_iter().filter(|standing| !standing.rejected).collect()
    }

    pub fn lead(&self) -> Option<Standing> {
        self.ranking().into_iter().next()
    }

    pub fn standing_of(&self, bidder: u16) -> Option<&Standing> {
        self.standing.iter().find(|standing| standing.bidder == bidder)
    }

    /// 1 + the number of strictly better effective prices in a book.
    pub fn rank_in(&self, book: &Book, bidder: u16) -> Option<usize> {
        let own = self.worth(book.iter().find(|standing| standing.bidder == bidder)?);
        Some(1 + book.iter().filter(|other| self.worth(other) < own).count())
    }

    pub fn ranks_of(&self, bidder: u16) -> Option<Ranks> {
        let own = self.worth(self.standing_of(bidder)?);
        let better = self.standing.iter().filter(|standing| self.worth(standing) < own).count();
        let equal = self.standing.iter().filter(|standing| self.worth(standing) == own).count();
        let place = self.ranking().iter().position(|standing| standing.bidder == bidder).expect("it stands");
        let rank = match self.plan.tie_rank {
            "by_time" => place + 1,
            "best" => better + 1,
            "worst" => better + equal,
            other => panic!("no such tie rank: {other}"),
        };
        Some(Ranks { rank, award_rank: place + 1, tied: equal > 1 })
    }

    /// The traffic light of a bidder.
    pub fn light(&self, bidder: u16) -> Option<&'static str> {
        let own = self.worth(self.standing_of(bidder)?);
        let lead = self.lead()?;
        let yellow = self.worth(&lead) * Ratio::new(100_000 + self.plan.near, 100_000);
        Some(if lead.bidder == bidder {
            "green"
        } else if own <= yellow {
            "yellow"
        } else {
            "red"
        })
    }

    /// What a bidder knows itself to stand at: what it gave and nobody else sees yet, or its standing bid.
    pub fn own_standing(&self, bidder: u16) -> Option<(Amount, Ms)> {
        let given = self.given.iter().chain(&self.hidden).find(|bid| bid.bidder == bidder);
        given.or_else(|| self.standing_of(bidder)).map(|bid| (bid.price, bid.at))
    }

    pub fn meets_reserve(&self, price: Amount) -> bool {
        self.plan.reserve.is_none_or(|reserve| price <= reserve)
    }

    pub fn reserve_met(&self) -> Option<bool> {
        self.plan.reserve?;
        Some(self.lead().is_some_and(|lead| self.meets_reserve(lead.price)))
    }

    pub fn outcome(&self) -> Outcome {
        let winner = match self.stage {
            "awarded" => self.awarded_to,
            "closed" => self.candidates().iter().find(|s| self.meets_reserve(s.price)).map(|s| s.bidder),
            _ => None,
        };
        let pays = winner.map(|winner| self.pays(winner));
        let abnormally_low = winner.is_some_and(|winner| self.is_abnormally_low(winner));
        Outcome { winner, pays, abnormally_low }
    }

    /// What a winner is paid.
    pub fn pays(&self, winner: u16) -> Amount {
        let own = self.standing_of(winner).expect("a winner stands").price;
        if self.plan.format != (Format::Sealed { second_price: true }) {
            return own;
        }
        let order = self.ranking();
        let place = order.iter().position(|standing| standing.bidder == winner).expect("it stands");
        let next = order[place + 1..].iter().find(|standing| !standing.rejected);
        let price = match next {
            Some(next) => {
                let equal = self.price_for(winner, self.worth(next), self.plan.unit());
                [self.plan.reserve, self.plan.ceiling].into_iter().flatten().fold(equal, Amount::min)
            }
            None => self.plan.reserve.or(self.plan.ceiling).unwrap_or(own),
        };
        price.max(own)
    }

    fn is_abnormally_low(&self, winner: u16) -> bool {
        if self.plan.is_dutch() || self.plan.is_japanese() {
            return false;
        }
        let last = self.standing_of(winner).expect("a winner stands").price;
        let order = self.ranking();
        let others: Vec<Amount> = order
            .iter()
            .filter(|standing| standing.bidder != winner)
            .map(|s| self.initial.iter().find(|(bidder, _)| *bidder == s.bidder).expect("it bid once").1)
            .collect();
        // 1 - last/mean >= 0.40  <=>  last/mean <= 0.60  <=>  10 * last * count <= 6 * sum
        let far_below_mean =
            !others.is_empty() && 10 * last * others.len() as i128 <= 6 * others.iter().sum::<Amount>();
        let place = order.iter().position(|standing| standing.bidder == winner).expect("it stands");
        // 1 - last/next >= 0.30  <=>  10 * last <= 7 * next
        let far_below_next = order.get(place + 1).is_some_and(|next| 10 * last <= 7 * next.price);
        far_below_mean || far_below_next
    }
}
