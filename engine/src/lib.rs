//! The reverse-auction state machine: tenders, lots and bids, and the accounts around them.
//!
//! Pure: no I/O, no clock, no randomness, no threads, no floats, no hash order. Everything the
//! engine knows comes in with a log [`Entry`]; the same entries give the same answers, the same
//! steps and the same [`Engine::state_hash`] on every machine.

mod answer;
mod command;
mod event;
mod id;
mod number;
mod refusal;
mod spec;

pub use answer::*;
pub use command::*;
pub use event::*;
pub use id::*;
pub use number::*;
pub use refusal::*;
pub use spec::*;
