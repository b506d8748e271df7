//! Where the answer under an idempotency key is kept: a look-up table that grows in small parts.
//!
//! The keys themselves lie with their answers; a slot here is a hash and a place. When the table is half as large
//! as it should be, a larger one is begun beside it and slots move over a few at a time between batches, so that
//! recording a key neither allocates nor moves many slots. Order of slots is never visible.

/// Where an answer is kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Place {
    /// Dense index of the tender; [`Place::NOWHERE`] for answers about a tender that was never made.
    pub tender: u32,
    /// Number of the lot in whose history it is; 0 for the tender's other answers.
    pub lot: u16,
    /// Place in that history or list.
    pub index: u32,
}

impl Place {
    pub const NOWHERE: u32 = u32::MAX - 1;
}

/// Hash, tender + 1 (0: free), lot, index. An array of integers, so that a new table is zeroed lazily.
type Slot = [u32; 4];

const FIRST_CAPACITY: usize = 1 << 10;
/// Slots that move over in one round of upkeep …
const MOVED_BY_MAINTAIN: usize = 4 << 10;
/// … and with each new key, so that a table without upkeep is ready in time too.
const MOVED_BY_INSERT: usize = 8;

#[derive(Clone, Debug)]
struct Table {
    /// One byte a slot: 0 where it is free, else some bits of its hash. A key that is not there, the usual case, is
    /// told by these alone: one line of memory in a list a sixteenth as long as the slots.
    tags: Vec<u8>,
    slots: Vec<Slot>,
    used: usize,
}

/// What stands for a hash among the tags: bits that its place doesn't depend on in tables of up to 2^25 slots.
fn tag(hash: u32) -> u8 {
    (hash >> 25) as u8 | 0x80
}

impl Table {
    fn new(capacity: usize) -> Self {
        Self { tags: vec![0; capacity], slots: vec![[0; 4]; capacity], used: 0 }
    }

    fn find(&self, hash: u32, mut is: impl FnMut(Place) -> bool) -> Option<Place> {
        let mask = self.tags.len() - 1;
        let tag = tag(hash);
        let mut at = hash as usize & mask;
        loop {
            match self.tags[at] {
                0 => return None,
                other if other == tag && self.slots[at][0] == hash => {
                    let [_, tender, lot, index] = self.slots[at];
                    let place = Place { tender: tender - 1, lot: lot as u16, index };
                    if is(place) {
                        return Some(place);
                    }
                }
                _ => {}
            }
            at = (at + 1) & mask;
        }
    }

    fn insert(&mut self, new: Slot) {
        let mask = self.tags.len() - 1;
        let mut at = new[0] as usize & mask;
        while self.tags[at] != 0 {
            at = (at + 1) & mask;
        }
        self.tags[at] = tag(new[0]);
        self.slots[at] = new;
        self.used += 1;
    }
}

/// The places of all answers that were given under a key.
#[derive(Clone, Debug)]
pub(crate) struct Keys {
    young: Table,
    old: Option<Table>,
    /// Slots of the old table before this have moved.
    moved: usize,
}

impl Default for Keys {
    fn default() -> Self {
        Self { young: Table::new(FIRST_CAPACITY), old: None, moved: 0 }
    }
}

fn hash(scoped: u128) -> u32 {
    // The key is a hash already; mixing guards against keys that are not.
    let mixed = ((scoped >> 64) as u64 ^ scoped as u64).wrapping_mul(0x9E37_79B9_7F4A_7C15);
    (mixed >> 32) as u32
}

impl Keys {
    /// A table in which `keys` keys have room from the beginning.
    pub fn with_room(keys: usize) -> Self {
        // As full as upkeep would leave it: at most three quarters.
        let capacity = (keys + keys / 3 + 1).next_power_of_two().max(FIRST_CAPACITY);
        Self { young: Table::new(capacity), old: None, moved: 0 }
    }

    /// The place for which `is` holds, among those under this key.
    pub fn find(&self, scoped: u128, mut is: impl FnMut(Place) -> bool) -> Option<Place> {
        let hash = hash(scoped);
        self.young.find(hash, &mut is).or_else(|| self.old.as_ref()?.find(hash, &mut is))
    }

    /// Reads the tag where a search for this key begins, and the slot that it will get.
    pub fn glance(&self, scoped: u128) -> u64 {
        let hash = hash(scoped);
        let begin = |table: &Table| u64::from(table.tags[hash as usize & (table.tags.len() - 1)]);
        let slot = self.young.slots[hash as usize & (self.young.slots.len() - 1)][1];
        u64::from(slot) ^ begin(&self.young) ^ self.old.as_ref().map_or(0, begin)
    }

    /// Remembers the place of a key that is not there yet.
    pub fn insert(&mut self, scoped: u128, place: Place) {
        if self.young.used >= self.young.slots.len() / 16 * 15 {
            self.grow(); // Only where nobody calls `maintain`.
        }
        self.young.insert([hash(scoped), place.tender + 1, u32::from(place.lot), place.index]);
        // A part of the room is left to upkeep; then every new key helps.
        if self.old.is_some() && self.young.used > self.young.slots.len() / 4 {
            self.advance(MOVED_BY_INSERT);
        }
    }

    /// Grows the table in time, between batches.
    pub fn maintain(&mut self) {
        self.advance(MOVED_BY_MAINTAIN);
        if self.old.is_none() && self.young.used >= self.young.slots.len() / 4 * 3 {
            self.grow();
        }
    }

    fn grow(&mut self) {
        self.advance(usize::MAX);
        let larger = Table::new(self.young.slots.len() * 2);
        self.old = Some(std::mem::replace(&mut self.young, larger));
        self.moved = 0;
    }

    fn advance(&mut self, most: usize) {
        let Some(old) = &self.old else { return };
        let end = old.slots.len().min(self.moved.saturating_add(most));
        for slot in &old.slots[self.moved..end] {
            if slot[1] != 0 {
                self.young.insert(*slot);
            }
        }
        self.moved = end;
        if end == old.slots.len() {
            self.old = None;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn place(number: u32) -> Place {
        Place { tender: number, lot: 1, index: number }
    }

    #[test]
    fn every_key_is_found_while_the_table_grows() {
        for upkeep in [0, 1, 64] {
            let mut keys = Keys::default();
            for number in 0..20_000u32 {
                if upkeep > 0 && number % upkeep == 0 {
                    keys.maintain();
                }
                let scoped = u128::from(number);
                assert_eq!(keys.find(scoped, |found| found.index == number), None);
                keys.insert(scoped, place(number));
                let probe = number / 2;
                let found = keys.find(u128::from(probe), |found| found.index == probe);
                assert_eq!(found, Some(place(probe)));
            }
        }
    }

    #[test]
    fn a_table_with_room_does_not_grow() {
        for keys in [0, 1, 767, 768, 769, 3_000, 100_000] {
            let mut table = Keys::with_room(keys);
            let slots = table.young.slots.len();
            for number in 0..keys as u32 {
                table.insert(u128::from(number), place(number));
            }
            assert_eq!((table.young.slots.len(), table.old.is_none()), (slots, true), "{keys} keys");
            table.maintain();
            assert_eq!((table.young.slots.len(), table.old.is_none()), (slots, true), "{keys} keys");
            let last = keys as u32;
            assert!(
                (0..last).all(|number| table.find(u128::from(number), |found| found.index == number).is_some())
            );
        }
    }

    #[test]
    fn equal_hashes_are_told_apart_by_the_key() {
        let mut keys = Keys::default();
        keys.insert(5, place(1));
        keys.insert(5, place(2));
        assert_eq!(keys.find(5, |found| found.index == 2), Some(place(2)));
        assert_eq!(keys.find(5, |found| found.index == 3), None);
    }
}
