//! Numbers that are drawn at the opening, so that the buyer can't tell who is who. Who is shown them is decided
//! elsewhere.

use sha2::{Digest, Sha256};

use super::Tender;
use crate::BidderNumber;

impl Tender {
    /// Gives everybody who is a bidder now a new number: by the hash of `salt` and the bidder's id. From here on the
    /// dense index of a bidder goes by the new number, in all that is kept of it.
    pub(super) fn draw_numbers(&mut self, salt: [u8; 16]) {
        self.salt = [0; 16];
        let draw = |index: &usize| {
            let id = self.bidders[*index].id.0.to_be_bytes();
            let hash: [u8; 32] = Sha256::new().chain_update(salt).chain_update(id).finalize().into();
            hash
        };
        let mut drawn: Vec<usize> = (0..self.bidders.len()).collect();
        drawn.sort_by_cached_key(draw);
        // By the old index, the new one.
        let mut moves = vec![0; drawn.len()];
        for (new, old) in drawn.iter().enumerate() {
            moves[*old] = new;
        }
        let moved = |number: BidderNumber| BidderNumber::from_index(moves[number.index()]);
        self.bidders = permuted(std::mem::take(&mut self.bidders), &moves, None);
        for (index, bidder) in self.bidders.iter_mut().enumerate() {
            bidder.number = BidderNumber::from_index(index);
        }
        for (_, index) in &mut self.by_organisation {
            *index = moves[usize::from(*index)] as u16;
        }
        for admission in &mut self.admissions {
            admission.bidder = moved(admission.bidder);
        }
        for lot in &mut self.lots {
            lot.renumber(&moves);
        }
    }
}

/// A list by dense index, every item at its new place; `absent` fills it up where it is too short.
pub(crate) fn permuted<T: Clone>(mut list: Vec<T>, moves: &[usize], absent: Option<T>) -> Vec<T> {
    if list.is_empty() {
        return list;
    }
    if let Some(absent) = absent {
        list.resize(moves.len(), absent);
    }
    assert_eq!(list.len(), moves.len(), "a list holds everybody");
    let mut new = list.clone();
    for (item, place) in list.into_iter().zip(moves) {
        new[*place] = item;
    }
    new
}
