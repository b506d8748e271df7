//! Who may bid in a tender: admitted, joined, named by the buyer, taken out. Decides nothing about bids.

use smallvec::smallvec;

use super::{Decided, Flow, Tender, invalid, required};
use crate::admission::Admission;
use crate::{
    Access, AdjustmentSpec, Answer, BIDDERS_MAX, Bidder, BidderAnswer, BidderNumber, BidderRef, BidderStatus,
    Event, FeatureValue, LogTime, LotStage, OrganisationId, Refusal, RequestId, Sink, TenderStage,
};

impl Tender {
    /// Admits a supplier, with its adjustments and the weights it won.
    pub(crate) fn admit(
        &mut self,
        organisation: OrganisationId,
        accepted: bool,
        adjustments: &[AdjustmentSpec],
        features: &[FeatureValue],
        request: RequestId,
        at: LogTime,
    ) -> Decided {
        if !matches!(self.stage, TenderStage::Draft | TenderStage::Published | TenderStage::Open) {
            return Err(Refusal::WrongStage);
        }
        let known = self.bidder_of(organisation).map(|bidder| (bidder.number.index(), bidder.status));
        if let Some((_, status)) = known
            && (self.has_opened || status == BidderStatus::Disqualified)
        {
            return Err(Refusal::RulesFrozen);
        }
        let adjusts = match self.adjusts(adjustments, features) {
            Ok(adjusts) => adjusts,
            Err(errors) => return Ok(Answer::InvalidRules(errors)),
        };
        let index = match known {
            Some((index, _)) => index,
            None if self.bidders.len() == BIDDERS_MAX => {
                let detail = "would be one bidder too many";
                return Ok(invalid("/organisation", detail, &format!("at most {BIDDERS_MAX} bidders")));
            }
            None => self.add(organisation, request, at),
        };
        let number = BidderNumber::from_index(index);
        self.set_adjusts(number, &adjusts);
        self.admissions.retain(|admission| admission.bidder != number);
        if !adjustments.is_empty() || !features.is_empty() {
            let (adjustments, features) = (adjustments.to_vec(), features.to_vec());
            self.admissions.push(Admission { bidder: number, adjustments, features });
        }
        let terms = self.spec().terms.is_some();
        let bidder = &mut self.bidders[index];
        bidder.accepted |= accepted;
        let invited = terms && !bidder.accepted;
        bidder.status = if invited { BidderStatus::Invited } else { BidderStatus::Admitted };
        Ok(self.bidder_answer(index, self.shows_names()))
    }

    /// Adds a bidder; its dense index is answered.
    fn add(&mut self, organisation: OrganisationId, request: RequestId, at: LogTime) -> usize {
        let index = self.bidders.len();
        let place = self.by_organisation.partition_point(|(other, _)| *other < organisation);
        self.by_organisation.insert(place, (organisation, index as u16));
        self.bidders.push(Bidder {
            id: request,
            number: BidderNumber::from_index(index),
            organisation,
            status: BidderStatus::Invited,
            admitted_at: at,
            accepted: false,
        });
        index
    }

    pub(super) fn bidder_answer(&self, index: usize, numbered: bool) -> Answer {
        let bidder = &self.bidders[index];
        Answer::Bidder(BidderAnswer {
            id: bidder.id,
            number: numbered.then_some(bidder.number),
            organisation: bidder.organisation,
            status: bidder.status,
        })
    }

    /// The bidder a buyer names, unless it was taken out.
    pub(super) fn named(&self, bidder: BidderRef) -> Result<BidderNumber, Refusal> {
        let found = match bidder {
            BidderRef::Id(id) => self.bidders.iter().find(|bidder| bidder.id == id),
            BidderRef::Number(number) => {
                let number = u16::try_from(number).ok().filter(|_| self.is_numbered());
                number.and_then(|number| self.bidder(BidderNumber(number)))
            }
        };
        let found = found.filter(|bidder| bidder.status != BidderStatus::Disqualified);
        found.map(|bidder| bidder.number).ok_or(Refusal::BidderNotFound)
    }

    pub(crate) fn disqualify<S: Sink>(
        &mut self,
        bidder: BidderRef,
        reason: Option<&str>,
        flow: &mut Flow<'_, S>,
    ) -> Decided {
        let lots = self.lots_in(&[LotStage::Pending, LotStage::Open, LotStage::Paused, LotStage::Closed]);
        if lots.is_empty() {
            return Err(Refusal::WrongStage);
        }
        let number = self.named(bidder)?;
        required(reason)?;
        self.bidders[number.index()].status = BidderStatus::Disqualified;
        for lot in lots {
            let before = self.lots[lot].face();
            let board = self.lots[lot].book.take(number);
            self.lots[lot].forget(number, true);
            let shown = self.is_numbered().then_some(number);
            let mut events = smallvec![Event::Disqualified { bidder: shown }];
            events.extend(self.lots[lot].fail_if_none_left());
            self.set_end(lot, flow.deadlines);
            if self.published_at.is_some() {
                self.step(lot, &before, board, events, flow);
            }
        }
        self.settle();
        Ok(self.bidder_answer(number.index(), self.shows_names()))
    }

    /// Accepts the terms of an invitation, or joins an open tender. The tender is known to be visible.
    pub(crate) fn join(&mut self, organisation: OrganisationId, request: RequestId, at: LogTime) -> Decided {
        if organisation == self.buyer {
            return Err(Refusal::OwnTender);
        }
        let known = self.bidder_of(organisation).map(|bidder| (bidder.number.index(), bidder.status));
        match known {
            Some((_, BidderStatus::Disqualified)) => return Err(Refusal::NotAdmitted),
            None if self.spec().access == Access::Invited => return Err(Refusal::NotAdmitted),
            _ => {}
        }
        if !matches!(self.stage, TenderStage::Published | TenderStage::Open) {
            return Err(Refusal::WrongStage);
        }
        let index = match known {
            Some((index, _)) => index,
            None if self.bidders.len() == BIDDERS_MAX => return Err(Refusal::NotAdmitted),
            None => self.add(organisation, request, at),
        };
        self.bidders[index].accepted = true;
        self.bidders[index].status = BidderStatus::Admitted;
        Ok(self.bidder_answer(index, self.is_numbered()))
    }
}
