//! Chance from one seed: a stream for each part of the world, so that a change in one does not shift the others, and
//! the bytes that a node takes for randomness of its machine. Never asks the machine for anything.

use std::cell::RefCell;

pub use crate::differential_parts::Random;

/// The stream of `part` in the world of `seed`.
pub fn stream(seed: u64, part: &str) -> Random {
    let mixed = part.bytes().fold(seed ^ 0x51_7C_C1_B7_27_22_0A_95, |mixed, byte| {
        (mixed ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01B3).rotate_left(23)
    });
    Random::new(mixed)
}

thread_local! {
    static ENTROPY: RefCell<Option<Random>> = const { RefCell::new(None) };
}

/// Begins the stream of [`entropy`] anew, on this thread.
pub fn seed_entropy(seed: u64) {
    ENTROPY.with_borrow_mut(|entropy| *entropy = Some(stream(seed, "entropy")));
}

/// What the simulated machine gives for randomness: ids, generations, keys, nonces, salts.
///
/// # Panics
/// When no world was begun on this thread.
pub fn entropy(bytes: &mut [u8]) {
    ENTROPY.with_borrow_mut(|entropy| {
        let random = entropy.as_mut().expect("a world has begun on this thread");
        for part in bytes.chunks_mut(8) {
            part.copy_from_slice(&random.next().to_le_bytes()[..part.len()]);
        }
    });
}
