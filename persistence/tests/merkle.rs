//! The Merkle tree against the published vectors of Certificate Transparency, and against a naive tree that follows
//! the recursive text of RFC 9162 word by word.

use std::convert::Infallible;

use persistence::merkle::{
    Frontier, Hash, Subtrees, consistency_proof, empty_root, inclusion_proof, is_consistent, node_count,
    node_position, root, root_of_inclusion,
};
use proptest::prelude::*;
use sha2::{Digest, Sha256};

fn hash(parts: &[&[u8]]) -> Hash {
    let mut hash = Sha256::new();
    parts.iter().for_each(|part| hash.update(part));
    hash.finalize().into()
}

fn hex(text: &str) -> Vec<u8> {
    (0..text.len() / 2).map(|at| u8::from_str_radix(&text[2 * at..2 * at + 2], 16).expect("hex")).collect()
}

fn hash_of(text: &str) -> Hash {
    hex(text).try_into().expect("32 bytes")
}

/// The list of all hashes, as it is stored.
struct Nodes(Vec<Hash>);

impl Subtrees for Nodes {
    type Error = Infallible;

    fn subtree(&mut self, level: u32, index: u64) -> Result<Hash, Infallible> {
        Ok(self.0[node_position(level, index) as usize])
    }
}

fn grow(leaves: &[Hash]) -> (Frontier, Nodes) {
    let (mut frontier, mut nodes) = (Frontier::default(), Nodes(Vec::new()));
    for leaf in leaves {
        frontier.push(*leaf, |hash| nodes.0.push(*hash));
    }
    assert!(frontier.is_sound());
    assert_eq!(nodes.0.len() as u64, node_count(leaves.len() as u64));
    (frontier, nodes)
}

/// RFC 9162 section 2.1.1: MTH.
fn naive_root(leaves: &[Hash]) -> Hash {
    match leaves {
        [] => hash(&[]),
        [leaf] => *leaf,
        _ => {
            let (left, right) = leaves.split_at(naive_split(leaves.len()));
            hash(&[&[1], &naive_root(left), &naive_root(right)])
        }
    }
}

fn naive_split(count: usize) -> usize {
    let mut split = 1;
    while 2 * split < count {
        split *= 2;
    }
    split
}

/// RFC 9162 section 2.1.3.1: PATH.
fn naive_path(index: usize, leaves: &[Hash]) -> Vec<Hash> {
    if leaves.len() == 1 {
        return Vec::new();
    }
    let (left, right) = leaves.split_at(naive_split(leaves.len()));
    let (mut path, other) = if index < left.len() {
        (naive_path(index, left), naive_root(right))
    } else {
        (naive_path(index - left.len(), right), naive_root(left))
    };
    path.push(other);
    path
}

/// RFC 9162 section 2.1.4.1: SUBPROOF.
fn naive_subproof(before: usize, leaves: &[Hash], whole: bool) -> Vec<Hash> {
    if before == leaves.len() {
        return if whole { Vec::new() } else { vec![naive_root(leaves)] };
    }
    let (left, right) = leaves.split_at(naive_split(leaves.len()));
    let (mut proof, other) = if before <= left.len() {
        (naive_subproof(before, left, whole), naive_root(right))
    } else {
        (naive_subproof(before - left.len(), right, false), naive_root(left))
    };
    proof.push(other);
    proof
}

/// The eight leaves of the reference implementation of Certificate Transparency, and what was published of them.
const LEAVES: [&str; 8] =
    ["", "00", "10", "2021", "3031", "40414243", "5051525354555657", "606162636465666768696a6b6c6d6e6f"];
const ROOTS: [&str; 9] = [
    "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855",
    "6e340b9cffb37a989ca544e6bb780a2c78901d3fb33738768511a30617afa01d",
    "fac54203e7cc696cf0dfcb42c92a1d9dbaf70ad9e621f4bd8d98662f00e3c125",
    "aeb6bcfe274b70a14fb067a5e5578264db0fa9b51af5e0ba159158f329e06e77",
    "d37ee418976dd95753c1c73862b9398fa2a2cf9b4ff0fdfe8b30cd95209614b7",
    "4e3bbb1f7b478dcfe71fb631631519a3bca12c9aefca1612bfce4c13a86264d4",
    "76e67dadbcdf1e10e1b74ddc608abd2f98dfb16fbce75277b5232a127f2087ef",
    "ddb89be403809e325750d3d263cd78929c2942b7942a34b77e122c9594a74c8c",
    "5dc9da79a70659a9ad559cb701ded9a2ab9d823aad2f4960cfe370eff4604328",
];
const NODES_0_1: &str = ROOTS[2];
const NODES_0_3: &str = ROOTS[4];
const LEAF_1: &str = "96a296d224f285c67bee93c30f8a309157f0daa35dc5b87e410b78630a09cfc7";
const LEAF_4: &str = "bc1a0643b12e4d2d7c77918f44e0f4f79a838b6cf9ec5b5c283e1f4d88599e6b";
const NODES_2_3: &str = "5f083f0a1a33ca076a95279832580db3e0ef4584bdff1f54c8a360f50de3031e";
const NODES_4_5: &str = "0ebc5d3437fbe2db158b9f126a1d118e308181031d0a949f8dededebc558ef6a";
const NODES_4_7: &str = "6b47aaf29ee3c2af9af889bc1fb9254dabd31177f16232dd6aab035ca39bf6e4";
const NODES_6_7: &str = "ca854ea128ed050b41b35ffc1b87b8eb2bde461e9e3b5596ece6b9d5975a0ae0";

fn reference(size: usize) -> Vec<Hash> {
    LEAVES[..size].iter().map(|leaf| hash(&[&[0], &hex(leaf)])).collect()
}

#[test]
fn roots_are_those_that_were_published() {
    assert_eq!(empty_root(), hash_of(ROOTS[0]));
    for (size, expected) in ROOTS.iter().enumerate() {
        let (frontier, mut nodes) = grow(&reference(size));
        assert_eq!(frontier.root(), hash_of(expected), "{size} leaves");
        let Ok(stored) = root(size as u64, &mut nodes);
        assert_eq!(stored, hash_of(expected), "{size} leaves");
    }
}

#[test]
fn proofs_of_inclusion_are_those_that_were_published() {
    let cases: [(u64, u64, &[&str]); 5] = [
        (0, 1, &[]),
        (0, 8, &[LEAF_1, NODES_2_3, NODES_4_7]),
        (5, 8, &[LEAF_4, NODES_6_7, NODES_0_3]),
        (2, 3, &[NODES_0_1]),
        (1, 5, &[ROOTS[1], NODES_2_3, LEAF_4]),
    ];
    for (index, size, expected) in cases {
        let leaves = reference(size as usize);
        let (_, mut nodes) = grow(&leaves);
        let Ok(proof) = inclusion_proof(index, size, &mut nodes);
        let expected: Vec<Hash> = expected.iter().map(|text| hash_of(text)).collect();
        assert_eq!(proof, expected, "leaf {index} of {size}");
        let root = root_of_inclusion(&leaves[index as usize], index, size, &proof);
        assert_eq!(root, Some(hash_of(ROOTS[size as usize])));
    }
}

#[test]
fn proofs_of_consistency_are_those_that_were_published() {
    let cases: [(u64, u64, &[&str]); 4] = [
        (1, 1, &[]),
        (1, 8, &[LEAF_1, NODES_2_3, NODES_4_7]),
        (6, 8, &[NODES_4_5, NODES_6_7, NODES_0_3]),
        (2, 5, &[NODES_2_3, LEAF_4]),
    ];
    for (before, size, expected) in cases {
        let (_, mut nodes) = grow(&reference(size as usize));
        let Ok(proof) = consistency_proof(before, size, &mut nodes);
        let expected: Vec<Hash> = expected.iter().map(|text| hash_of(text)).collect();
        assert_eq!(proof, expected, "{before} in {size}");
        let (old, new) = (hash_of(ROOTS[before as usize]), hash_of(ROOTS[size as usize]));
        assert!(is_consistent(before, &old, size, &new, &proof));
    }
}

fn numbered(size: u64) -> Vec<Hash> {
    (0..size).map(|number| hash(&[&[0], &number.to_le_bytes()])).collect()
}

const SIZE_MAX: u64 = 256;

#[test]
fn every_leaf_of_every_tree_is_proved_at_its_place_only() {
    let leaves = numbered(SIZE_MAX);
    for size in 1..=SIZE_MAX {
        let (frontier, mut nodes) = grow(&leaves[..size as usize]);
        let expected = naive_root(&leaves[..size as usize]);
        assert_eq!(frontier.root(), expected);
        for index in 0..size {
            let Ok(proof) = inclusion_proof(index, size, &mut nodes);
            let leaf = &leaves[index as usize];
            assert_eq!(root_of_inclusion(leaf, index, size, &proof), Some(expected), "leaf {index} of {size}");
            // The neighbour's place, one hash too few, one too many.
            assert_ne!(root_of_inclusion(leaf, index ^ 1, size, &proof), Some(expected), "leaf {index} of {size}");
            if let Some((_, short)) = proof.split_last() {
                assert_ne!(root_of_inclusion(leaf, index, size, short), Some(expected));
            }
            let long = [&proof[..], &[expected]].concat();
            assert_ne!(root_of_inclusion(leaf, index, size, &long), Some(expected));
        }
    }
}

#[test]
fn every_tree_is_consistent_with_all_it_grew_from() {
    let leaves = numbered(SIZE_MAX);
    let roots: Vec<Hash> = (0..=SIZE_MAX).map(|size| grow(&leaves[..size as usize]).0.root()).collect();
    let (_, mut nodes) = grow(&leaves);
    let mut wrong = roots[1];
    wrong[31] ^= 1;
    for size in 1..=SIZE_MAX {
        let new = &roots[size as usize];
        assert!(is_consistent(0, &roots[0], size, new, &[]));
        for before in 1..=size {
            let Ok(proof) = consistency_proof(before, size, &mut nodes);
            let old = &roots[before as usize];
            assert!(is_consistent(before, old, size, new, &proof), "{before} in {size}");
            assert!(!is_consistent(before, &wrong, size, new, &proof), "{before} in {size}");
            assert!(!is_consistent(before, old, size, &wrong, &proof), "{before} in {size}");
            if before < size {
                assert!(!is_consistent(before + 1, old, size, new, &proof), "{before} in {size}");
                assert!(!is_consistent(before, old, size, new, &proof[1..]), "{before} in {size}");
                let long = [&proof[..], &[*old]].concat();
                assert!(!is_consistent(before, old, size, new, &long), "{before} in {size}");
            }
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(128))]

    #[test]
    fn proofs_are_those_of_the_text(size in 1..=SIZE_MAX, a in any::<u64>(), b in any::<u64>(), flip in any::<u16>()) {
        let leaves = numbered(size);
        let (frontier, mut nodes) = grow(&leaves);
        let (index, before) = (a % size, 1 + b % size);
        let Ok(proof) = inclusion_proof(index, size, &mut nodes);
        prop_assert_eq!(&proof, &naive_path(index as usize, &leaves));
        let Ok(consistency) = consistency_proof(before, size, &mut nodes);
        prop_assert_eq!(&consistency, &naive_subproof(before as usize, &leaves, true));
        let flipped = |proof: &[Hash]| {
            let mut flipped = proof.to_vec();
            let bit = usize::from(flip) % (256 * flipped.len());
            flipped[bit / 256][bit % 256 / 8] ^= 1 << (bit % 8);
            flipped
        };
        let new = frontier.root();
        if !proof.is_empty() {
            let root = root_of_inclusion(&leaves[index as usize], index, size, &flipped(&proof));
            prop_assert_ne!(root, Some(new));
        }
        if !consistency.is_empty() {
            let old = naive_root(&leaves[..before as usize]);
            prop_assert!(!is_consistent(before, &old, size, &new, &flipped(&consistency)));
        }
    }
}
