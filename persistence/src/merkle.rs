//! The Merkle tree of RFC 9162 (section 2.1): roots, proofs of inclusion and of consistency, and their checks.
//!
//! Knows leaf hashes only: what a leaf is made of is in [`crate::leaf_hash`]. Keeps no leaf: whoever makes a proof
//! says how to look a subtree up.

use sha2::{Digest, Sha256};
use wincode::{SchemaRead, SchemaWrite};

/// A SHA-256 hash.
pub type Hash = [u8; 32];

/// Domain of a node (RFC 9162 section 2.1.1).
const NODE: u8 = 0x01;

/// The hash of a node over two subtrees: SHA-256(0x01 ‖ left ‖ right).
pub fn node_hash(left: &Hash, right: &Hash) -> Hash {
    Sha256::new().chain_update([NODE]).chain_update(left).chain_update(right).finalize().into()
}

/// The root of a tree without leaves: SHA-256 of nothing.
pub fn empty_root() -> Hash {
    Sha256::new().finalize().into()
}

/// A tree that only grows: all that is needed to go on, at most 64 hashes whatever its size.
#[derive(Clone, Debug, Default, PartialEq, Eq, SchemaWrite, SchemaRead)]
pub struct Frontier {
    size: u64,
    /// The roots of the full subtrees that cover all leaves, the largest first: one a bit of `size`.
    peaks: Vec<Hash>,
}

impl Frontier {
    /// How many leaves it has.
    pub fn size(&self) -> u64 {
        self.size
    }

    /// Adds a leaf; `made` gets its hash and that of every subtree it completes, in the order of [`node_position`].
    pub fn push(&mut self, leaf: Hash, mut made: impl FnMut(&Hash)) {
        made(&leaf);
        let mut top = leaf;
        for _ in 0..self.size.trailing_ones() {
            let left = self.peaks.pop().expect("a peak for each bit of the size");
            top = node_hash(&left, &top);
            made(&top);
        }
        self.peaks.push(top);
        self.size += 1;
    }

    /// Becomes as `other`, in the memory it has.
    pub(crate) fn copy_from(&mut self, other: &Self) {
        self.size = other.size;
        self.peaks.clone_from(&other.peaks);
    }

    /// The root over all leaves.
    pub fn root(&self) -> Hash {
        let mut peaks = self.peaks.iter().rev();
        let Some(last) = peaks.next() else { return empty_root() };
        peaks.fold(*last, |right, left| node_hash(left, &right))
    }

    /// Whether it can be the frontier of a tree: a peak for each bit of its size.
    pub fn is_sound(&self) -> bool {
        self.peaks.len() == self.size.count_ones() as usize
    }
}

/// The place, in the list of all hashes that [`Frontier::push`] makes, of the full subtree of height `level` over the
/// leaves from `index << level`.
pub fn node_position(level: u32, index: u64) -> u64 {
    // The subtree is made with its last leaf; before a leaf there are two hashes a leaf but for the open peaks.
    let last = ((index + 1) << level) - 1;
    2 * last - u64::from(last.count_ones()) + u64::from(level)
}

/// How many hashes [`Frontier::push`] has made of `size` leaves.
pub fn node_count(size: u64) -> u64 {
    2 * size - u64::from(size.count_ones())
}

/// Looks up the hash of the full subtree of height `level` over the leaves from `index << level`.
pub trait Subtrees {
    /// Why it can't be looked up.
    type Error;

    /// The hash.
    ///
    /// # Errors
    /// It can't be read.
    fn subtree(&mut self, level: u32, index: u64) -> Result<Hash, Self::Error>;
}

/// The root over the leaves `from..to`, where `from` is a multiple of the power of two that covers the range.
fn range_root<S: Subtrees>(from: u64, to: u64, subtrees: &mut S) -> Result<Hash, S::Error> {
    let count = to - from;
    if count.is_power_of_two() {
        let level = count.trailing_zeros();
        return subtrees.subtree(level, from >> level);
    }
    let middle = from + split(count);
    let right = range_root(middle, to, subtrees)?;
    Ok(node_hash(&range_root(from, middle, subtrees)?, &right))
}

/// The largest power of two below `count`.
fn split(count: u64) -> u64 {
    1 << (u64::BITS - 1 - (count - 1).leading_zeros())
}

/// The root of the tree of the first `size` leaves.
///
/// # Errors
/// A subtree can't be read.
pub fn root<S: Subtrees>(size: u64, subtrees: &mut S) -> Result<Hash, S::Error> {
    if size == 0 { Ok(empty_root()) } else { range_root(0, size, subtrees) }
}

/// The proof that leaf `index` is in the tree of the first `size` leaves (RFC 9162 section 2.1.3.1).
///
/// # Errors
/// A subtree can't be read.
///
/// # Panics
/// If there is no such leaf.
pub fn inclusion_proof<S: Subtrees>(index: u64, size: u64, subtrees: &mut S) -> Result<Vec<Hash>, S::Error> {
    assert!(index < size, "a proof is about a leaf of the tree");
    let mut proof = Vec::new();
    let (mut from, mut to) = (0, size);
    while to - from > 1 {
        let middle = from + split(to - from);
        if index < middle {
            proof.push(range_root(middle, to, subtrees)?);
            to = middle;
        } else {
            proof.push(range_root(from, middle, subtrees)?);
            from = middle;
        }
    }
    proof.reverse();
    Ok(proof)
}

/// The proof that the tree of the first `size` leaves begins with that of the first `before` (RFC 9162 section
/// 2.1.4.1).
///
/// # Errors
/// A subtree can't be read.
///
/// # Panics
/// If `before` is zero or above `size`.
pub fn consistency_proof<S: Subtrees>(before: u64, size: u64, subtrees: &mut S) -> Result<Vec<Hash>, S::Error> {
    assert!((1..=size).contains(&before), "a proof is about two trees of which one has grown into the other");
    let mut proof = Vec::new();
    let (mut from, mut to) = (0, size);
    // The old tree, as far as it is a full subtree from the left, is known to who has its root.
    let mut known = true;
    while before != to {
        let middle = from + split(to - from);
        if before <= middle {
            proof.push(range_root(middle, to, subtrees)?);
            to = middle;
        } else {
            proof.push(range_root(from, middle, subtrees)?);
            from = middle;
            known = false;
        }
    }
    if !known {
        proof.push(range_root(from, to, subtrees)?);
    }
    proof.reverse();
    Ok(proof)
}

/// The root that a tree of `size` leaves has if `leaf` is at `index` and `proof` is right (RFC 9162 section 2.1.3.2);
/// none if the proof can't be of that place.
pub fn root_of_inclusion(leaf: &Hash, index: u64, size: u64, proof: &[Hash]) -> Option<Hash> {
    if index >= size {
        return None;
    }
    let (mut number, mut last) = (index, size - 1);
    let mut root = *leaf;
    for hash in proof {
        if last == 0 {
            return None;
        }
        if number & 1 == 1 || number == last {
            root = node_hash(hash, &root);
            while number & 1 == 0 && number != 0 {
                number >>= 1;
                last >>= 1;
            }
        } else {
            root = node_hash(&root, hash);
        }
        number >>= 1;
        last >>= 1;
    }
    (last == 0).then_some(root)
}

/// Whether `proof` shows that the tree of `size` leaves with root `root` begins with the tree of `before` leaves with
/// root `root_before` (RFC 9162 section 2.1.4.2).
pub fn is_consistent(before: u64, root_before: &Hash, size: u64, root: &Hash, proof: &[Hash]) -> bool {
    if before == size {
        return proof.is_empty() && root_before == root;
    }
    if before == 0 {
        return proof.is_empty() && *root_before == empty_root();
    }
    if before > size {
        return false;
    }
    let (mut number, mut last) = (before - 1, size - 1);
    while number & 1 == 1 {
        number >>= 1;
        last >>= 1;
    }
    let mut hashes = proof.iter();
    let first = if before.is_power_of_two() { Some(root_before) } else { hashes.next() };
    let Some(first) = first else { return false };
    let (mut old, mut new) = (*first, *first);
    for hash in hashes {
        if last == 0 {
            return false;
        }
        if number & 1 == 1 || number == last {
            old = node_hash(hash, &old);
            new = node_hash(hash, &new);
            while number & 1 == 0 && number != 0 {
                number >>= 1;
                last >>= 1;
            }
        } else {
            new = node_hash(&new, hash);
        }
        number >>= 1;
        last >>= 1;
    }
    last == 0 && old == *root_before && new == *root
}
