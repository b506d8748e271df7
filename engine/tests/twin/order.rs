//! Award order, ranks and results.

use super::{Amount, Lot, Ranks, Standing};

/// All standing bids in award order.
pub fn ranking(lot: &Lot) -> Vec<Standing> {
    let mut all = lot.standing.clone();
    all.sort_by_key(|standing| (standing.price, standing.at, standing.seq));
    all
}

/// Those that may still be awarded, in award order.
pub fn candidates(lot: &Lot) -> Vec<Standing> {
    ranking(lot).into_iter().filter(|standing| !standing.rejected).collect()
}

/// How a lot ended, or stands so far.
#[derive(Debug, PartialEq)]
pub struct Outcome {
    pub winner: Option<u16>,
    pub pays: Option<Amount>,
    pub abnormally_low: bool,
}

impl Lot {
    pub fn ranking(&self) -> Vec<Standing> {
        ranking(self)
    }

    pub fn standing_of(&self, bidder: u16) -> Option<&Standing> {
        self.standing.iter().find(|standing| standing.bidder == bidder)
    }

    pub fn ranks_of(&self, bidder: u16) -> Option<Ranks> {
        let own = self.standing_of(bidder)?.price;
        let better = self.standing.iter().filter(|standing| standing.price < own).count();
        let equal = self.standing.iter().filter(|standing| standing.price == own).count();
        let place = ranking(self).iter().position(|standing| standing.bidder == bidder).expect("it stands");
        let rank = match self.plan.tie_rank {
            "by_time" => place + 1,
            "best" => better + 1,
            "worst" => better + equal,
            other => panic!("no such tie rank: {other}"),
        };
        Some(Ranks { rank, award_rank: place + 1, tied: equal > 1 })
    }

    pub fn meets_reserve(&self, price: Amount) -> bool {
        self.plan.reserve.is_none_or(|reserve| price <= reserve)
    }

    pub fn reserve_met(&self) -> Option<bool> {
        self.plan.reserve?;
        Some(ranking(self).first().is_some_and(|lead| self.meets_reserve(lead.price)))
    }

    pub fn outcome(&self) -> Outcome {
        let winner = match self.stage {
            "awarded" => self.awarded_to,
            "closed" => candidates(self).iter().find(|s| self.meets_reserve(s.price)).map(|s| s.bidder),
            _ => None,
        };
        let pays = winner.map(|winner| self.standing_of(winner).expect("a winner stands").price);
        let abnormally_low = winner.is_some_and(|winner| self.is_abnormally_low(winner));
        Outcome { winner, pays, abnormally_low }
    }

    fn is_abnormally_low(&self, winner: u16) -> bool {
        let last = self.standing_of(winner).expect("a winner stands").price;
        let order = ranking(self);
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
