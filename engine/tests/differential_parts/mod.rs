//! The two halves of the differential test: making commands, and comparing what comes of them.

mod compare;
mod generate;
mod random;

pub use compare::Comparison;
pub use generate::{Generator, tender_id};
pub use random::Random;
