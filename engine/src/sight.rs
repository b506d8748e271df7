//! Who sees what: the one function that feed, REST and exports obey. It knows no wire format.

use crate::{BidderNumber, LeadVisibility, Lot, LotStage, OrganisationId, Tender};

/// Who reads a lot.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reader {
    /// The tender's buyer.
    Buyer,
    /// A bidder of the tender, whatever its status.
    Bidder(BidderNumber),
    /// A supplier that is no bidder of the tender.
    Member,
    /// Anybody else.
    Observer,
}

/// What a reader may see of a lot now. What is not here (stage, times, extensions, that somebody bid and when)
/// everybody sees that has a sight of the lot at all.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(clippy::struct_excessive_bools)] // One flag a field, named as the field.
pub struct Sight {
    /// Who reads.
    pub reader: Reader,
    /// Numbers of bidders at all, the own one included: false before they are drawn.
    pub numbers: bool,
    /// The lead's price.
    pub lead: bool,
    /// The number of the lead's bidder.
    pub lead_bidder: bool,
    /// All standing prices under bidder numbers.
    pub board: bool,
    /// The reader's own `rank`, `award_rank`, `tied` and `lead`. False for who is no bidder.
    pub rank: bool,
    /// The number of bidders with a standing bid.
    pub bidder_count: bool,
    /// The effective prices of all, which tell their adjustments; the own is never hidden.
    pub adjustments: bool,
    /// The reader's own traffic light. False for who is no bidder.
    pub light: bool,
    /// The reserve's price.
    pub reserve: bool,
    /// Reasons given by the buyer to all: of a pause, a resumption, a cancellation.
    pub reasons: bool,
    /// Which organisation has which number.
    pub organisations: bool,
    /// The price of the winner, in the result and in the event `awarded`.
    pub winning_price: bool,
    /// The name of the winner: there is one, and the reader may know it.
    pub winner: bool,
    /// The whole ranking in the result.
    pub ranking: bool,
    /// Every bidder's decisions, not only the own.
    pub decisions: bool,
}

impl Sight {
    /// The reader's own number.
    pub fn own(&self) -> Option<BidderNumber> {
        match self.reader {
            Reader::Bidder(number) => Some(number),
            _ => None,
        }
    }

    /// Whether the reader may see which bidder (by number) an event is about.
    pub fn names(&self, bidder: BidderNumber) -> bool {
        self.numbers && (self.board || self.reader == Reader::Buyer || self.own() == Some(bidder))
    }

    /// Whether the reader may see the price of a bid of `bidder`; `lead`: whether the bid became the lead.
    pub fn price(&self, bidder: BidderNumber, lead: bool) -> bool {
        self.board || self.own() == Some(bidder) || (lead && self.lead)
    }
}

/// Which reader of a tender an organisation is; `supplies`: whether it may bid at all.
pub fn reader(tender: &Tender, organisation: Option<OrganisationId>, supplies: bool) -> Reader {
    let Some(organisation) = organisation else {
        return Reader::Observer;
    };
    if organisation == tender.buyer {
        return Reader::Buyer;
    }
    match tender.bidder_of(organisation) {
        Some(bidder) => Reader::Bidder(bidder.number),
        None if supplies => Reader::Member,
        None => Reader::Observer,
    }
}

/// What a reader may see of a lot now; none if it may not see the lot.
pub fn sight(tender: &Tender, lot: &Lot, reader: Reader) -> Option<Sight> {
    let rules = lot.rules();
    let published = tender.published_at.is_some();
    let public = tender.spec().public;
    let awarded = lot.stage == LotStage::Awarded;
    match reader {
        Reader::Buyer => Some(Sight {
            reader,
            numbers: tender.is_numbered(),
            lead: true,
            lead_bidder: true,
            board: true,
            rank: false,
            bidder_count: true,
            // What a buyer gave a bidder would tell who it is.
            adjustments: tender.shows_names() || !tender.spec().anonymous_to_buyer,
            light: false,
            reserve: true,
            reasons: true,
            organisations: tender.shows_names(),
            winning_price: true,
            winner: awarded && tender.shows_names(),
            ranking: true,
            decisions: true,
        }),
        Reader::Bidder(number) if published => {
            let lead = match rules.lead {
                LeadVisibility::Always => true,
                LeadVisibility::AfterOwnBid => lot.standing(number).is_some(),
                LeadVisibility::Never => false,
            };
            Some(Sight {
                reader,
                numbers: tender.is_numbered(),
                lead,
                lead_bidder: lead && rules.board,
                board: rules.board,
                rank: rules.rank,
                bidder_count: rules.bidder_count,
                adjustments: rules.adjustments,
                light: rules.light,
                reserve: rules.reserve.is_some_and(|reserve| reserve.shown),
                reasons: true,
                organisations: false,
                winning_price: rules.board || rules.lead != LeadVisibility::Never,
                winner: awarded,
                ranking: rules.board,
                decisions: false,
            })
        }
        Reader::Member | Reader::Observer if published && public => {
            let lead = rules.lead == LeadVisibility::Always;
            Some(Sight {
                reader,
                numbers: tender.is_numbered(),
                lead,
                lead_bidder: false,
                board: false,
                rank: false,
                bidder_count: rules.bidder_count,
                adjustments: false,
                light: false,
                reserve: rules.reserve.is_some_and(|reserve| reserve.shown),
                reasons: true,
                organisations: false,
                winning_price: lead,
                winner: awarded,
                ranking: false,
                decisions: false,
            })
        }
        _ => None,
    }
}
