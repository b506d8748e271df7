//! The order book of one lot: the standing bids in award order, and what is kept of each bidder.
//!
//! Every question about a place is answered by binary search. The book knows prices, times and steps; which bids
//! may come in is decided elsewhere.

use std::cmp::Ordering;

use wincode::{SchemaRead, SchemaWrite};

use crate::adjust::{Adjust, Effective};
use crate::tender::permuted;
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
    /// How many bids were accepted, automatic ones left out.
    pub accepted: u32,
    /// The place of its present amount in the order in which all amounts of the lot came.
    pub order: u32,
    /// Whether there was an automatic bid.
    pub automatic: bool,
    /// Whether a bid stands; price, time, step and order say nothing otherwise.
    pub stands: bool,
    /// Whether the buyer passed the standing bid by.
    pub rejected: bool,
}

impl Slot {
    /// What award order goes by where no price is adjusted. Amounts come in order of time.
    fn key(&self) -> (Price, u32) {
        (self.price, self.order)
    }

    fn set(&mut self, amount: &Amount) {
        (self.price, self.at, self.order) = (amount.price, amount.at, amount.order);
        self.seq = u32::try_from(amount.seq).expect("a lot makes fewer than 2^32 steps");
    }

    /// Whether any bid was ever accepted.
    pub fn has_bid(&self) -> bool {
        self.accepted > 0 || self.automatic
    }
}

/// An amount that begins to stand.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Amount {
    pub price: Price,
    pub at: LogTime,
    /// The step at which it was offered.
    pub seq: u64,
    /// Its place among all amounts of the lot, in the order in which they came.
    pub order: u32,
}

/// The bidder has no initial bid yet.
pub(crate) const NO_FIRST: u32 = u32::MAX;

/// Up to this many standing bids a scan finds one faster than a search.
const SCAN_MAX: usize = 32;

/// Up to this many automatic bids are put into the order one by one.
const FEW_MAX: usize = 4;

/// Slots that are read ahead: in a larger book a bid touches some of many.
const GLANCE_MAX: usize = 16;

/// The standing bids of a lot.
#[derive(Clone, Debug, Default)]
pub(crate) struct Book {
    /// The dense indices of those with a standing bid, in award order.
    order: Vec<u16>,
    /// By dense index; shorter than the list of bidders while later ones have not bid.
    slots: Vec<Slot>,
    /// How prices are adjusted, by dense index; empty where none is.
    adjusts: Vec<Adjust>,
}

impl Book {
    /// The book with these slots.
    pub fn restore(slots: Vec<Slot>, adjusts: Vec<Adjust>) -> Self {
        let mut order: Vec<u16> =
            (0..slots.len() as u16).filter(|index| slots[usize::from(*index)].stands).collect();
        let mut book = Self { order: Vec::new(), slots, adjusts };
        order.sort_by(|a, b| book.compare(*a, *b));
        book.order = order;
        book
    }

    /// Sets how the prices of a bidder are adjusted, before it bids.
    pub fn set_adjust(&mut self, bidder: BidderNumber, adjust: Adjust) {
        let index = bidder.index();
        if self.adjusts.len() <= index {
            if adjust == Adjust::NONE {
                return;
            }
            self.adjusts.resize(index + 1, Adjust::NONE);
        }
        self.adjusts[index] = adjust;
    }

    /// Gives bidders the numbers that were drawn, before anything stands; `moves` has the new index by the old one.
    pub fn renumber(&mut self, moves: &[usize]) {
        assert!(self.order.is_empty(), "numbers are drawn before anything stands");
        self.slots = permuted(std::mem::take(&mut self.slots), moves, Some(Slot::default()));
        self.adjusts = permuted(std::mem::take(&mut self.adjusts), moves, Some(Adjust::NONE));
    }

    /// Takes the adjustments out.
    pub fn take_adjusts(&mut self) -> Vec<Adjust> {
        std::mem::take(&mut self.adjusts)
    }

    /// Whether some price may be adjusted.
    pub fn is_adjusted(&self) -> bool {
        !self.adjusts.is_empty()
    }

    /// How the prices of a bidder are adjusted.
    pub fn adjust(&self, bidder: BidderNumber) -> Adjust {
        self.adjusts.get(bidder.index()).copied().unwrap_or(Adjust::NONE)
    }

    /// The effective price of a bidder's price.
    pub fn effective(&self, bidder: BidderNumber, price: Price) -> Effective {
        self.adjust(bidder).effective(price)
    }

    fn effective_at(&self, index: u16) -> Effective {
        let index = usize::from(index);
        self.adjusts.get(index).copied().unwrap_or(Adjust::NONE).effective(self.slots[index].price)
    }

    /// Award order of two standing bids.
    fn compare(&self, a: u16, b: u16) -> Ordering {
        let (first, second) = (&self.slots[usize::from(a)], &self.slots[usize::from(b)]);
        if self.adjusts.is_empty() {
            return first.key().cmp(&second.key());
        }
        self.effective_at(a).cmp(&self.effective_at(b)).then(first.order.cmp(&second.order))
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
        self.slots.get(bidder.index()).filter(|slot| slot.has_bid())
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

    /// How many standing bids are strictly better than this price of a bidder.
    pub fn better(&self, bidder: BidderNumber, price: Price) -> usize {
        if self.is_adjusted() {
            return self.better_than(self.effective(bidder, price));
        }
        self.order.partition_point(|index| self.slots[usize::from(*index)].price < price)
    }

    /// How many standing bids are strictly better than this.
    fn better_than(&self, effective: Effective) -> usize {
        self.order.partition_point(|index| self.effective_at(*index) < effective)
    }

    /// How many standing bids are as good as this price of a bidder, or better.
    pub fn not_worse(&self, bidder: BidderNumber, price: Price) -> usize {
        if self.is_adjusted() {
            let effective = self.effective(bidder, price);
            return self.order.partition_point(|index| self.effective_at(*index) <= effective);
        }
        self.order.partition_point(|index| self.slots[usize::from(*index)].price <= price)
    }

    /// The place in award order of a standing bid, from 0.
    fn place(&self, bidder: BidderNumber) -> usize {
        let index = bidder.index() as u16;
        let place = if self.order.len() <= SCAN_MAX {
            self.order.iter().position(|other| *other == index)
        } else {
            self.order.binary_search_by(|other| self.compare(*other, index)).ok()
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
        let index = self.order[place];
        let (bidder, price) = (BidderNumber::from_index(usize::from(index)), self.slots[usize::from(index)].price);
        // Equal prices lie beside each other.
        let tied = if self.is_adjusted() {
            let effective = self.effective_at(index);
            let is_equal =
                |place: usize| self.order.get(place).is_some_and(|other| self.effective_at(*other) == effective);
            is_equal(place + 1) || (place > 0 && is_equal(place - 1))
        } else {
            let is_equal = |place: usize| {
                self.order.get(place).is_some_and(|other| self.slots[usize::from(*other)].price == price)
            };
            is_equal(place + 1) || (place > 0 && is_equal(place - 1))
        };
        let rank = match tie_rank {
            TieRank::Best if tied => self.better(bidder, price) + 1,
            TieRank::Worst if tied => self.not_worse(bidder, price),
            _ => place + 1,
        };
        Ranks { rank: rank as u16, award_rank: place as u16 + 1, tied }
    }

    fn slot_mut(&mut self, bidder: BidderNumber) -> &mut Slot {
        let index = bidder.index();
        if self.slots.len() <= index {
            self.slots.resize(index + 1, Slot::default());
        }
        &mut self.slots[index]
    }

    /// Counts an accepted bid without letting it stand; `record` is its place in the history.
    pub fn note(&mut self, bidder: BidderNumber, record: u32) {
        let slot = self.slot_mut(bidder);
        if !slot.has_bid() || slot.first == NO_FIRST {
            slot.first = record;
        }
        if !slot.stands {
            slot.newest = record;
        }
        slot.accepted += 1;
    }

    /// A pre-bid that was voided never stood while the lot was open: what comes next is the initial bid.
    pub fn forget_first(&mut self, bidder: BidderNumber) {
        self.slot_mut(bidder).first = NO_FIRST;
    }

    /// The bid that stood when the lot opened is the bidder's initial one.
    pub fn set_first(&mut self, bidder: BidderNumber, record: u32) {
        self.slot_mut(bidder).first = record;
    }

    /// Lets a new bid stand in place of the bidder's old one; its place in award order is answered, from 0. The same
    /// amount again keeps its time, step and order.
    pub fn stand(&mut self, bidder: BidderNumber, amount: Amount, newest: u32) -> usize {
        let slot = self.slot_mut(bidder);
        if !slot.has_bid() || slot.first == NO_FIRST {
            slot.first = newest;
        }
        slot.accepted += 1;
        self.put(bidder, amount, newest)
    }

    /// Lets a bid stand that a limit made.
    pub fn stand_automatic(&mut self, bidder: BidderNumber, amount: Amount, newest: u32) -> usize {
        let slot = self.slot_mut(bidder);
        if !slot.has_bid() || slot.first == NO_FIRST {
            slot.first = newest;
        }
        slot.automatic = true;
        self.put(bidder, amount, newest)
    }

    /// Lets many bids stand that limits made: each by bidder, amount and place in the history, nobody twice. However
    /// many they are, the order is made once.
    pub fn stand_automatic_all(&mut self, bids: &[(BidderNumber, Amount, u32)]) {
        if bids.len() <= FEW_MAX {
            for (bidder, amount, newest) in bids {
                self.stand_automatic(*bidder, *amount, *newest);
            }
            return;
        }
        let mut moved: Vec<u16> = Vec::with_capacity(bids.len());
        let last = bids.iter().map(|(bidder, ..)| *bidder).max().expect("there are many");
        self.slot_mut(last);
        let mut is_moved = vec![false; self.slots.len()];
        for (bidder, amount, newest) in bids {
            let slot = &mut self.slots[bidder.index()];
            assert!(!slot.stands || amount.price < slot.price, "an automatic bid is better than the one before");
            if !slot.has_bid() || slot.first == NO_FIRST {
                slot.first = *newest;
            }
            (slot.automatic, slot.stands, slot.rejected, slot.newest) = (true, true, false, *newest);
            slot.set(amount);
            is_moved[bidder.index()] = true;
            moved.push(bidder.index() as u16);
        }
        moved.sort_unstable_by(|a, b| self.compare(*a, *b));
        let old = std::mem::take(&mut self.order);
        let mut stayed = old.into_iter().filter(|index| !is_moved[usize::from(*index)]).peekable();
        let mut order = Vec::with_capacity(self.slots.len());
        for index in moved {
            while let Some(other) = stayed.next_if(|other| self.compare(*other, index) == Ordering::Less) {
                order.push(other);
            }
            order.push(index);
        }
        order.extend(stayed);
        self.order = order;
    }

    /// Lets a bid stand that was counted already.
    pub fn put(&mut self, bidder: BidderNumber, amount: Amount, newest: u32) -> usize {
        let index = bidder.index();
        let slot = &mut self.slots[index];
        slot.newest = newest;
        slot.rejected = false;
        let stood = slot.stands;
        if stood && slot.price == amount.price {
            return self.place(bidder);
        }
        if stood {
            let place = self.place(bidder);
            self.order.remove(place);
        }
        let slot = &mut self.slots[index];
        slot.stands = true;
        slot.set(&amount);
        let place = if self.adjusts.is_empty() {
            let own = slot.key();
            self.order.partition_point(|other| self.slots[usize::from(*other)].key() < own)
        } else {
            self.order.partition_point(|other| self.compare(*other, index as u16) == Ordering::Less)
        };
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
        let ordered = self.order.windows(2).all(|pair| self.compare(pair[0], pair[1]) == Ordering::Less);
        assert!(ordered, "best effective price, then earliest");
        assert_eq!(self.order.len(), self.slots.iter().filter(|slot| slot.stands).count());
        for index in &self.order {
            let slot = &self.slots[usize::from(*index)];
            assert!(slot.stands && slot.has_bid() && slot.price.0 > 0 && slot.first <= slot.newest);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn amount(price: i64, step: u32) -> Amount {
        Amount { price: Price(price), at: LogTime(0), seq: u64::from(step) + 1, order: step }
    }

    fn book(bids: &[(u16, i64)]) -> Book {
        let mut book = Book::default();
        for (step, (bidder, price)) in bids.iter().enumerate() {
            book.stand(BidderNumber(*bidder), amount(*price, step as u32), step as u32);
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
        book.stand(BidderNumber(1), amount(50, 9), 9);
        book.check_invariants();
        assert_eq!(book.lead().map(|(bidder, _)| bidder), Some(BidderNumber(2)));
        assert_eq!(Book::restore(book.slots().to_vec(), Vec::new()).order, book.order);
    }
}
