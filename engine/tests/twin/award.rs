//! Awards and rejections after the close.

use super::{Event, Named, Said, Sent, Twin, given, refused};

impl Twin {
    /// The places of a lot and its tender, and the number of a bidder that may be awarded or passed by.
    fn awardable(&self, sent: &Sent, id: u64, number: u16, bidder: Named) -> Result<(usize, usize, u16), Said> {
        let (place, index) = self.owned_lot(id, number, sent.from)?;
        let lot = &self.tenders[place].lots[index];
        match lot.stage {
            "awarded" => return Err(refused("already_awarded")),
            "closed" => {}
            _ => return Err(refused("wrong_stage")),
        }
        if matches!(bidder, Named::Id(_)) && self.tenders[place].hides_names() {
            return Err(refused("bidder_not_found"));
        }
        let who = self.tenders[place].named(bidder).ok_or_else(|| refused("bidder_not_found"))? as u16 + 1;
        if lot.candidates().iter().all(|standing| standing.bidder != who) {
            return Err(refused("bid_not_found"));
        }
        Ok((place, index, who))
    }

    pub(super) fn award(
        &mut self,
        sent: &Sent,
        id: u64,
        number: u16,
        bidder: Named,
        reason: &Option<String>,
    ) -> Said {
        let (place, index, who) = match self.awardable(sent, id, number, bidder) {
            Ok(places) => places,
            Err(said) => return said,
        };
        let lot = &mut self.tenders[place].lots[index];
        if lot.candidates()[0].bidder != who && given(reason).is_none() {
            return refused("reason_required");
        }
        let price = lot.standing_of(who).expect("it stands").price;
        if !lot.meets_reserve(price) {
            return refused("reserve_not_met");
        }
        lot.stage = "awarded";
        lot.awarded_to = Some(who);
        let pays = lot.pays(who);
        self.step(place, index, sent.at, vec![Event::Awarded { bidder: who, price: pays }]);
        self.settle_stage(place);
        let seq = self.tenders[place].lots[index].seq;
        Said::Award { stage: "awarded", bidder: who, pays: Some(pays), seq }
    }

    pub(super) fn reject(
        &mut self,
        sent: &Sent,
        id: u64,
        number: u16,
        bidder: Named,
        reason: &Option<String>,
    ) -> Said {
        let (place, index, who) = match self.awardable(sent, id, number, bidder) {
            Ok(places) => places,
            Err(said) => return said,
        };
        if given(reason).is_none() {
            return refused("reason_required");
        }
        let lot = &mut self.tenders[place].lots[index];
        let standing = lot.standing.iter_mut().find(|standing| standing.bidder == who);
        standing.expect("it stands").rejected = true;
        let mut events = vec![Event::Rejected { bidder: who }];
        if lot.candidates().is_empty() {
            lot.stage = "unsuccessful";
            events.push(Event::Unsuccessful);
        }
        self.step(place, index, sent.at, events);
        self.settle_stage(place);
        let lot = &self.tenders[place].lots[index];
        Said::Award { stage: lot.stage, bidder: who, pays: None, seq: lot.seq }
    }
}
