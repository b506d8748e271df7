//! What will happen by itself, ordered: openings of tenders and ends of lots of one shard.
//!
//! An indexed heap: whoever may have a deadline owns a clock, and moving a clock's deadline allocates nothing.

use crate::LogTime;

/// A deadline. Those of one instant are ordered by tender, then by lot.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Due {
    /// When.
    pub at: LogTime,
    /// Dense index of the tender.
    pub tender: u32,
    /// The lot that ends; 0: the tender opens.
    pub lot: u16,
    /// Whose clock it is.
    pub clock: u32,
}

const NOT_SET: u32 = u32::MAX;

/// The deadlines of a shard.
#[derive(Clone, Debug, Default)]
pub(crate) struct Deadlines {
    heap: Vec<Due>,
    /// The place in the heap of each clock's deadline.
    places: Vec<u32>,
}

impl Deadlines {
    /// Makes `count` clocks that follow each other; the first is answered.
    pub fn clocks(&mut self, count: usize) -> u32 {
        let first = u32::try_from(self.places.len()).expect("fewer than 2^32 clocks");
        self.places.resize(self.places.len() + count, NOT_SET);
        self.heap.reserve(self.places.len() - self.heap.len());
        first
    }

    /// The earliest.
    pub fn first(&self) -> Option<Due> {
        self.heap.first().copied()
    }

    /// Sets or moves the deadline of a clock.
    pub fn set(&mut self, due: Due) {
        let place = self.places[due.clock as usize];
        if place == NOT_SET {
            self.places[due.clock as usize] = self.heap.len() as u32;
            self.heap.push(due);
            self.rise(self.heap.len() - 1);
        } else {
            self.heap[place as usize] = due;
            self.settle(place as usize);
        }
    }

    /// Takes the deadline of a clock away, if it has one.
    pub fn clear(&mut self, clock: u32) {
        let place = self.places[clock as usize];
        if place == NOT_SET {
            return;
        }
        let place = place as usize;
        self.places[clock as usize] = NOT_SET;
        let last = self.heap.pop().expect("a set clock is in the heap");
        if place < self.heap.len() {
            self.heap[place] = last;
            self.places[last.clock as usize] = place as u32;
            self.settle(place);
        }
    }

    /// How many are set.
    pub fn len(&self) -> usize {
        self.heap.len()
    }

    /// The deadline of a clock.
    pub fn get(&self, clock: u32) -> Option<Due> {
        self.heap.get(self.places[clock as usize] as usize).copied()
    }

    fn settle(&mut self, place: usize) {
        let place = self.rise(place);
        self.sink(place);
    }

    fn swap(&mut self, a: usize, b: usize) {
        self.heap.swap(a, b);
        self.places[self.heap[a].clock as usize] = a as u32;
        self.places[self.heap[b].clock as usize] = b as u32;
    }

    fn rise(&mut self, mut place: usize) -> usize {
        while place > 0 && self.heap[place] < self.heap[(place - 1) / 2] {
            self.swap(place, (place - 1) / 2);
            place = (place - 1) / 2;
        }
        place
    }

    fn sink(&mut self, mut place: usize) {
        loop {
            let left = place * 2 + 1;
            if left >= self.heap.len() {
                return;
            }
            let right = left + 1;
            let least = if right < self.heap.len() && self.heap[right] < self.heap[left] { right } else { left };
            if self.heap[place] <= self.heap[least] {
                return;
            }
            self.swap(place, least);
            place = least;
        }
    }

    /// Panics if the heap or its index is broken.
    pub fn check_invariants(&self) {
        for (place, due) in self.heap.iter().enumerate() {
            assert_eq!(self.places[due.clock as usize] as usize, place);
            assert!(place == 0 || self.heap[(place - 1) / 2] <= *due, "a parent is not later than its children");
        }
        assert_eq!(self.places.iter().filter(|place| **place != NOT_SET).count(), self.heap.len());
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::*;

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]

        #[test]
        fn agrees_with_a_sorted_set(steps in proptest::collection::vec((0u32..20, 0i64..50, any::<bool>()), 1..200)) {
            let mut deadlines = Deadlines::default();
            let first = deadlines.clocks(20);
            prop_assert_eq!(first, 0);
            let mut set = BTreeSet::new();
            for (clock, at, clear) in steps {
                set.retain(|due: &Due| due.clock != clock);
                if clear {
                    deadlines.clear(clock);
                } else {
                    let due = Due { at: LogTime(at), tender: clock % 3, lot: clock as u16, clock };
                    deadlines.set(due);
                    set.insert(due);
                }
                deadlines.check_invariants();
                prop_assert_eq!(deadlines.first(), set.first().copied());
                prop_assert_eq!(deadlines.len(), set.len());
            }
        }
    }
}
