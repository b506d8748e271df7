//! The order book of one lot: the standing bids in award order, and what is kept of each bidder.
//!
//! Every question about a place is answered by binary search. The book knows prices, times and steps; which bids
//! may come in is decided elsewhere.

use std::cmp::Ordering;

use wincode::{SchemaRead, SchemaWrite};

use crate::{BidderNumber, LogTime, Price, Ranks, TieRank};

/// What a lot keeps of a bidder that ever had a bid accepted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, SchemaWrite, SchemaRead)]
pub(crate) struct Slot {
    /// The standing price.
    pub price: Price,
    /// Since when it stands at this price.
    pub at: LogTime,
    /// The step since which it stands at this price.
    pub seq: u32,
    /// Place in the history of the newest accepted bid.
    pub newest: u32,
    /// Place in the history of the first accepted bid.
    pub first: u32,
    /// How many bids were accepted.
    pub accepted: u32,
    /// Whether a bid stands; the three above it say nothing otherwise.
    pub stands: bool,
    /// Whether the buyer passed the standing bid by.
    pub rejected: bool,
}

impl Slot {
    /// What award order goes by.
    fn key(&self) -> (Price, LogTime, u32) {
        (self.price, self.at, self.seq)
    }
}

/// Up to this many standing bids a scan finds one faster than a search.
const SCAN_MAX: usize = 32;

/// Slots that are read ahead: in a larger book a bid touches some of many.
const GLANCE_MAX: usize = 16;

/// The standing bids of a lot.
#[derive(Clone, Debug, Default)]
pub(crate) struct Book {
    /// The dense indices of those with a standing bid, in award order.
    order: Vec<u16>,
    /// By dense index; shorter than the list of bidders while later ones have not bid.
    slots: Vec<Slot>,
}

impl Book {
    /// The book with these slots.
    pub fn restore(slots: Vec<Slot>) -> Self {
        let mut order: Vec<u16> =
            (0..slots.len() as u16).filter(|index| slots[usize::from(*index)].stands).collect();
        order.sort_by_key(|index| slots[usize::from(*index)].key());
        Self { order, slots }
    }

    pub fn slots(&self) -> &[Slot] {
        &self.slots
    }

    /// Makes room for this many bidders.
    pub fn reserve(&mut self, bidders: usize) {
        if self.slots.capacity() < bidders {
            self.slots.reserve_exact(bidders - self.slots.len());
            self.order.reserve_exact(bidders - self.order.len());
        }
    }

    /// Reads the book.
    pub fn glance(&self) -> u64 {
        let slots = self.slots.iter().take(GLANCE_MAX).fold(0, |seen, slot| seen ^ slot.price.0 as u64);
        slots ^ u64::from(self.order.first().copied().unwrap_or_default())
    }

    /// How many bids stand.
    pub fn len(&self) -> usize {
        self.order.len()
    }

    /// What is kept of a bidder with an accepted bid.
    pub fn slot(&self, bidder: BidderNumber) -> Option<&Slot> {
        self.slots.get(bidder.index()).filter(|slot| slot.accepted > 0)
    }

    /// The slot of a bidder whose bid stands.
    pub fn standing(&self, bidder: BidderNumber) -> Option<&Slot> {
        self.slots.get(bidder.index()).filter(|slot| slot.stands)
    }

    /// The standing bids in award order.
    pub fn iter(&self) -> impl DoubleEndedIterator<Item = (BidderNumber, &Slot)> + ExactSizeIterator {
        self.order
            .iter()
            .map(|index| (BidderNumber::from_index(usize::from(*index)), &self.slots[usize::from(*index)]))
    }

    /// The first in award order.
    pub fn lead(&self) -> Option<(BidderNumber, &Slot)> {
        let index = usize::from(*self.order.first()?);
        Some((BidderNumber::from_index(index), &self.slots[index]))
    }

    /// How many standing prices are strictly better.
    pub fn better(&self, price: Price) -> usize {
        self.order.partition_point(|index| self.slots[usize::from(*index)].price < price)
    }

    /// How many standing prices are equal or better.
    pub fn not_worse(&self, price: Price) -> usize {
        self.order.partition_point(|index| self.slots[usize::from(*index)].price <= price)
    }

    /// The place in award order of a standing bid, from 0.
    fn place(&self, bidder: BidderNumber) -> usize {
        let index = bidder.index() as u16;
        let place = if self.order.len() <= SCAN_MAX {
            self.order.iter().position(|other| *other == index)
        } else {
            let own = self.slots[bidder.index()].key();
            self.order.binary_search_by(|other| self.slots[usize::from(*other)].key().cmp(&own)).ok()
        };
        place.expect("a standing bid is in the order")
    }

    /// Where a bidder stands.
    pub fn ranks(&self, bidder: BidderNumber, tie_rank: TieRank) -> Option<Ranks> {
        self.standing(bidder)?;
        Some(self.ranks_at(self.place(bidder), tie_rank))
    }

    /// The ranks of who has this place in award order, from 0.
    pub fn ranks_at(&self, place: usize, tie_rank: TieRank) -> Ranks {
        let price_at = |place: usize| self.order.get(place).map(|index| self.slots[usize::from(*index)].price);
        let price = price_at(place).expect("somebody stands there");
        // Equal prices lie beside each other.
        let tied = price_at(place + 1) == Some(price) || (place > 0 && price_at(place - 1) == Some(price));
        let rank = match tie_rank {
            TieRank::Best if tied => self.better(price) + 1,
            TieRank::Worst if tied => self.not_worse(price),
            _ => place + 1,
        };
        Ranks { rank: rank as u16, award_rank: place as u16 + 1, tied }
    }

    /// Lets a bid stand in place of the bidder's old one; its place in award order is answered, from 0. The same amount
    /// again keeps its time and step.
    pub fn stand(&mut self, bidder: BidderNumber, price: Price, at: LogTime, seq: u64, newest: u32) -> usize {
        let index = bidder.index();
        if self.slots.len() <= index {
            self.slots.resize(index + 1, Slot::default());
        }
        let slot = &mut self.slots[index];
        if slot.accepted == 0 {
            slot.first = newest;
        }
        slot.newest = newest;
        slot.accepted += 1;
        slot.rejected = false;
        let stood = slot.stands;
        if stood && slot.price == price {
            return self.place(bidder);
        }
        if stood {
            let place = self.place(bidder);
            self.order.remove(place);
        }
        let slot = &mut self.slots[index];
        slot.stands = true;
        (slot.price, slot.at) = (price, at);
        slot.seq = u32::try_from(seq).expect("a lot makes fewer than 2^32 steps");
        // The newest step is last among equal prices whatever the stamp, so equality cannot happen.
        let own = slot.key();
        let place = self.order.partition_point(|other| self.slots[usize::from(*other)].key() < own);
        self.order.insert(place, index as u16);
        place
    }

    /// Takes a standing bid out; whether there was one.
    pub fn take(&mut self, bidder: BidderNumber) -> bool {
        if self.standing(bidder).is_none() {
            return false;
        }
        let place = self.place(bidder);
        self.order.remove(place);
        let slot = &mut self.slots[bidder.index()];
        (slot.stands, slot.rejected) = (false, false);
        true
    }

    /// Passes a standing bid by.
    pub fn reject(&mut self, bidder: BidderNumber) {
        let slot = &mut self.slots[bidder.index()];
        assert!(slot.stands && !slot.rejected, "only a standing bid is rejected, and once");
        slot.rejected = true;
    }

    /// The first in award order that was not passed by.
    pub fn first_left(&self) -> Option<(BidderNumber, &Slot)> {
        self.iter().find(|(_, slot)| !slot.rejected)
    }

    /// Panics if the order is not the award order of exactly the standing bids.
    pub fn check_invariants(&self) {
        let key = |index: &u16| self.slots[usize::from(*index)].key();
        let ordered = self.order.windows(2).all(|pair| key(&pair[0]).cmp(&key(&pair[1])) == Ordering::Less);
        assert!(ordered, "best price, then earliest, then first step");
        assert_eq!(self.order.len(), self.slots.iter().filter(|slot| slot.stands).count());
        for index in &self.order {
            let slot = &self.slots[usize::from(*index)];
            assert!(slot.stands && slot.accepted > 0 && slot.price.0 > 0 && slot.first <= slot.newest);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn book(bids: &[(u16, i64)]) -> Book {
        let mut book = Book::default();
        for (step, (bidder, price)) in bids.iter().enumerate() {
            book.stand(BidderNumber(*bidder), Price(*price), LogTime(0), step as u64 + 1, step as u32);
            book.check_invariants();
        }
        book
    }

    fn shown(book: &Book, tie_rank: TieRank) -> Vec<u16> {
        (1..=4).map(|bidder| book.ranks(BidderNumber(bidder), tie_rank).expect("stands").rank).collect()
    }

    #[test]
    fn ties_are_shown_as_the_lot_says() {
        let book = book(&[(1, 50), (2, 40), (3, 50), (4, 60)]);
        assert_eq!(shown(&book, TieRank::ByTime), [2, 1, 3, 4]);
        assert_eq!(shown(&book, TieRank::Best), [2, 1, 2, 4]);
        assert_eq!(shown(&book, TieRank::Worst), [3, 1, 3, 4]);
        let ranks = book.ranks(BidderNumber(3), TieRank::Best).expect("stands");
        assert!(ranks.tied && ranks.award_rank == 3);
    }

    #[test]
    fn the_same_amount_again_keeps_its_place() {
        let book = book(&[(1, 50), (2, 50), (1, 50)]);
        assert_eq!(book.lead().map(|(bidder, _)| bidder), Some(BidderNumber(1)));
        let slot = book.standing(BidderNumber(1)).expect("stands");
        assert_eq!((slot.seq, slot.newest, slot.first, slot.accepted), (1, 2, 0, 2));
    }

    #[test]
    fn leaving_and_coming_back_loses_the_place() {
        let mut book = book(&[(1, 50), (2, 50)]);
        assert!(book.take(BidderNumber(1)));
        assert!(!book.take(BidderNumber(1)));
        book.stand(BidderNumber(1), Price(50), LogTime(0), 9, 9);
        book.check_invariants();
        assert_eq!(book.lead().map(|(bidder, _)| bidder), Some(BidderNumber(2)));
        assert_eq!(Book::restore(book.slots().to_vec()).order, book.order);
    }
}
