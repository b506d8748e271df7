//! The only place where the state of lots becomes JSON for readers, and always as the visibility function allows.
//! Feed and REST write the same bytes because both write these types. What a reader may not see is left out.

mod bid;
mod checkpoint;
mod event;
mod result;
mod state;

pub use bid::{
    BidBodyAnswer, BidLine, BidStatus, LimitBody, LimitStatus, Refusal, bid_answer, bid_line, limit_answer,
    max_next, refusal,
};
pub use checkpoint::{CheckpointBody, checkpoint};
pub use event::{EventBody, UpdateBody, actors, events, set, update};
pub use result::{RankedBody, ResultBody, result};
pub use state::{BoardRow, LeadBody, SnapBody, StateBody, You, YouBody, snap, state, you};

use engine::{Lot, Price, Reader, Sight, Tender, sight};

use crate::body::DecimalText;

/// What a reader sees in the frames of a lot, without what only itself sees: all readers with the same audience get the
/// same bytes. The own part of a reader is [`You`], and comes beside the frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[allow(clippy::struct_excessive_bools)] // One flag a field, named as the field.
pub struct Audience {
    /// Which bidder (by number) an event is about.
    pub numbers: bool,
    /// The lead's price.
    pub lead: bool,
    /// The number of the lead's bidder.
    pub lead_bidder: bool,
    /// All standing prices under bidder numbers.
    pub board: bool,
    /// The number of bidders with a standing bid.
    pub bidder_count: bool,
    /// The effective prices beside the prices that are seen.
    pub effective: bool,
    /// Reasons given by the buyer to all.
    pub reasons: bool,
    /// Reasons that concern one bidder's bid.
    pub bid_reasons: bool,
    /// The price of the winner.
    pub winning_price: bool,
}

impl Audience {
    /// The widest view: for rehearsals, where nobody is hidden from anybody.
    pub const ALL: Self = Self {
        numbers: true,
        lead: true,
        lead_bidder: true,
        board: true,
        bidder_count: true,
        effective: true,
        reasons: true,
        bid_reasons: true,
        winning_price: true,
    };

    /// Whether `now` sees all that this one sees.
    pub fn grows_into(&self, now: &Self) -> bool {
        let flags = |it: &Self| {
            [
                it.numbers,
                it.lead,
                it.lead_bidder,
                it.board,
                it.bidder_count,
                it.effective,
                it.reasons,
                it.bid_reasons,
                it.winning_price,
            ]
        };
        flags(self).iter().zip(flags(now)).all(|(before, now)| !before || now)
    }

    /// The same without numbers and effective prices: what is told of the past when only they were learnt since.
    #[must_use]
    pub fn without_names(self) -> Self {
        Self { numbers: false, effective: false, ..self }
    }

    /// The part of `sight` that frames obey.
    pub fn of(sight: &Sight) -> Self {
        let buyer = sight.reader == Reader::Buyer;
        Self {
            numbers: sight.numbers && (buyer || sight.board),
            lead: sight.lead,
            lead_bidder: sight.lead_bidder,
            board: sight.board,
            bidder_count: sight.bidder_count,
            effective: sight.adjustments,
            reasons: sight.reasons,
            bid_reasons: buyer,
            winning_price: sight.winning_price,
        }
    }
}

/// Everybody who may see a lot, as audiences.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Audiences {
    /// The buyer; always sees it.
    pub buyer: Audience,
    /// Suppliers that are no bidders, and anybody else; none where they see nothing.
    pub others: [Option<Audience>; 2],
    /// Each bidder, by dense index; none where bidders see nothing yet.
    pub bidders: Vec<Option<Audience>>,
}

impl Audiences {
    /// All of them, repeats included.
    pub fn all(&self) -> impl Iterator<Item = Audience> + '_ {
        let some = self.others.iter().chain(&self.bidders).flatten().copied();
        std::iter::once(self.buyer).chain(some)
    }
}

/// The audience of each reader there may be of a lot as it stands.
pub fn audiences(tender: &Tender, lot: &Lot) -> Audiences {
    let of = |reader| sight(tender, lot, reader).map(|sight| Audience::of(&sight));
    Audiences {
        buyer: of(Reader::Buyer).expect("a buyer sees its own lots"),
        others: [of(Reader::Member), of(Reader::Observer)],
        bidders: tender.bidders().iter().map(|bidder| of(Reader::Bidder(bidder.number))).collect(),
    }
}

/// A price as it is written: a decimal string at the lot's scale.
fn price(price: Price, scale: u8) -> DecimalText {
    DecimalText(price.decimal(scale))
}
