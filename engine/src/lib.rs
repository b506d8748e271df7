//! The reverse-auction state machine: tenders, lots and bids, and the accounts around them.
//!
//! Pure: no I/O, no clock, no randomness, no threads, no floats, no hash order. Everything the
//! engine knows comes in with a log [`Entry`]; the same entries give the same answers, the same
//! steps and the same [`Engine::state_hash`] on every machine.

#![deny(clippy::disallowed_methods, clippy::disallowed_types, clippy::float_arithmetic)]

mod accounts;
mod adjust;
mod admission;
mod ahead;
mod answer;
mod book;
mod command;
mod deadlines;
mod engine;
mod english;
mod event;
mod formats;
mod history;
mod id;
mod keys;
mod live;
mod lot;
mod number;
mod offer;
mod refusal;
mod rule_conflicts;
mod rule_table;
mod rule_template;
mod rules;
mod settle;
mod sight;
mod snapshot;
mod spec;
mod tender;

pub use accounts::*;
pub use adjust::*;
pub use answer::*;
pub use command::*;
pub use engine::*;
pub use event::*;
pub use id::*;
pub use live::Phase;
pub use lot::*;
pub use number::*;
pub use refusal::*;
pub use rule_table::*;
pub use rule_template::*;
pub use rules::*;
#[doc(hidden)]
pub use settle::Settling;
pub use sight::*;
pub use snapshot::*;
pub use spec::*;
pub use tender::*;
