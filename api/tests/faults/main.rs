//! The real program on a failing machine: killed at chosen calls to its disk, again while it recovers, its disk failing
//! or full, stopped for a while, and its files corrupted while it was down. What was answered is there afterwards; what
//! is damaged is told by file and offset.

mod clock;
mod corruption;
mod descriptors;
mod errors;
mod judge;
mod machine;
mod points;
#[path = "../process/mod.rs"]
mod process;
mod scrub;
#[path = "../support/mod.rs"]
mod support;
mod world;
