//! One tender: its specification, stage, bidders and lots.
//! Pure: time and identities come in with the command.

use crate::{
    Access, BidderNumber, BidderStatus, LogTime, Lot, OrganisationId, RequestId, TenderId, TenderSpec, TenderStage,
};

/// One procurement event of one buyer.
#[derive(Clone, Debug)]
pub struct Tender {
    /// Its id.
    pub id: TenderId,
    /// Whose it is.
    pub buyer: OrganisationId,
    /// The version of the rules' logic it is decided by, fixed at its creation.
    pub logic: u16,
    /// Its stage.
    pub stage: TenderStage,
    /// Counts every change of specification or stage, from 1.
    pub version: u32,
    /// When it was created.
    pub created_at: LogTime,
    /// When its rules were frozen.
    pub published_at: Option<LogTime>,
    /// When it will open or opened.
    pub opens_at: Option<LogTime>,
    pub(crate) has_opened: bool,
    pub(crate) created: Box<TenderSpec>,
    pub(crate) changed: Option<Box<TenderSpec>>,
    pub(crate) bidders: Vec<Bidder>,
    /// Organisation and dense index of every bidder, by organisation.
    pub(crate) by_organisation: Vec<(OrganisationId, u16)>,
    pub(crate) lots: Vec<Lot>,
}

/// A supplier that may bid in a tender, or was invited to, or was taken out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Bidder {
    /// The request that admitted it.
    pub id: RequestId,
    /// Its number in the tender, in order of admission.
    pub number: BidderNumber,
    /// Who it is.
    pub organisation: OrganisationId,
    /// What it may do.
    pub status: BidderStatus,
    /// When it was admitted, invited, or joined an open tender.
    pub admitted_at: LogTime,
    /// Whether it accepted the terms.
    pub accepted: bool,
}

impl Tender {
    /// What the tender is now.
    pub fn spec(&self) -> &TenderSpec {
        self.changed.as_deref().unwrap_or(&self.created)
    }

    /// What the tender was when it was created.
    pub fn created_spec(&self) -> &TenderSpec {
        &self.created
    }

    /// Its lots, by number.
    pub fn lots(&self) -> &[Lot] {
        &self.lots
    }

    /// The lot with this number, from 1.
    pub fn lot(&self, number: u16) -> Option<&Lot> {
        self.lots.get(usize::from(number).checked_sub(1)?)
    }

    /// Its bidders, by number.
    pub fn bidders(&self) -> &[Bidder] {
        &self.bidders
    }

    /// The bidder with this number.
    pub fn bidder(&self, number: BidderNumber) -> Option<&Bidder> {
        self.bidders.get(usize::from(number.0).checked_sub(1)?)
    }

    /// The bidder that this organisation is.
    pub fn bidder_of(&self, organisation: OrganisationId) -> Option<&Bidder> {
        let place = self.by_organisation.binary_search_by_key(&organisation, |(id, _)| *id).ok()?;
        Some(&self.bidders[usize::from(self.by_organisation[place].1)])
    }

    /// Whether the tender has opened; from then on the buyer knows which organisation has which number.
    pub fn opened(&self) -> bool {
        self.has_opened
    }

    /// Whether a reader may see the tender: the organisation and whether it supplies, or nobody known.
    pub fn visible_to(&self, reader: Option<(OrganisationId, bool)>) -> bool {
        if reader.is_some_and(|(organisation, _)| organisation == self.buyer) {
            return true;
        }
        if self.published_at.is_none() {
            return false;
        }
        self.spec().public
            || reader.is_some_and(|(organisation, supplies)| {
                (supplies && self.spec().access == Access::Open) || self.bidder_of(organisation).is_some()
            })
    }
}
