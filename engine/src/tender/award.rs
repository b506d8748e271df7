//! Awards of closed lots, and bidders that are passed by. Decides nothing about bids.

use smallvec::smallvec;

use super::{Decided, Flow, Tender, required};
use crate::{Answer, AwardAnswer, BidderNumber, BidderRef, Event, LotStage, Price, Refusal, Sink};

impl Tender {
    /// The bidder a buyer wants to award or pass by, with its standing price, in a lot that waits for it.
    fn award_candidate(&self, lot: usize, bidder: BidderRef) -> Result<(BidderNumber, Price), Refusal> {
        match self.lots[lot].stage {
            LotStage::Awarded => return Err(Refusal::AlreadyAwarded),
            LotStage::Closed => {}
            _ => return Err(Refusal::WrongStage),
        }
        // Whom an id means in the ranking would tell whose number is whose.
        if matches!(bidder, BidderRef::Id(_)) && !self.shows_names() {
            return Err(Refusal::BidderNotFound);
        }
        let bidder = self.named(bidder)?;
        let slot = self.lots[lot].book.standing(bidder).filter(|slot| !slot.rejected);
        slot.map(|slot| (bidder, slot.price)).ok_or(Refusal::BidNotFound)
    }

    fn award_answer(&self, lot: usize, bidder: BidderNumber, pays: Option<Price>) -> Answer {
        let lot = &self.lots[lot];
        let price_scale = lot.rules.price_scale;
        Answer::Award(AwardAnswer { lot: lot.id, stage: lot.stage, bidder, pays, price_scale, seq: lot.seq })
    }

    pub(crate) fn award<S: Sink>(
        &mut self,
        lot: usize,
        bidder: BidderRef,
        reason: Option<&str>,
        flow: &mut Flow<'_, S>,
    ) -> Decided {
        let (bidder, price) = self.award_candidate(lot, bidder)?;
        let first = self.lots[lot].book.first_left().map(|(first, _)| first);
        if first != Some(bidder) {
            required(reason)?;
        }
        if !self.lots[lot].meets_reserve(price) {
            return Err(Refusal::ReserveNotMet);
        }
        let before = self.lots[lot].face();
        let price = self.lots[lot].pays(bidder);
        let event = self.lots[lot].award_to(bidder, price);
        self.set_end(lot, flow.deadlines);
        self.step(lot, &before, false, smallvec![event], flow);
        self.settle();
        Ok(self.award_answer(lot, bidder, Some(price)))
    }

    pub(crate) fn reject<S: Sink>(
        &mut self,
        lot: usize,
        bidder: BidderRef,
        reason: Option<&str>,
        flow: &mut Flow<'_, S>,
    ) -> Decided {
        let (bidder, _) = self.award_candidate(lot, bidder)?;
        required(reason)?;
        let before = self.lots[lot].face();
        self.lots[lot].book.reject(bidder);
        let mut events = smallvec![Event::Rejected { bidder }];
        events.extend(self.lots[lot].fail_if_none_left());
        self.set_end(lot, flow.deadlines);
        self.step(lot, &before, false, events, flow);
        self.settle();
        Ok(self.award_answer(lot, bidder, None))
    }
}
