//! The archive of a real node: what it holds is restored to the same state, every missing or damaged object is found and
//! named, and a store that is away, full or somebody else's costs nobody a bid.

mod damage;
mod drill;
#[path = "../process/mod.rs"]
mod process;
mod running;
mod s3;
mod store_away;
#[path = "../support/mod.rs"]
mod support;
mod world;
