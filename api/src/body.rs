//! The JSON bodies of `/v1` as types: what may be in a request, and how a specification is written in an answer.
//! Decides nothing about rules: a body that can be read becomes a command, and the engine judges it.
//!
//! The OpenAPI document is generated from these types, so their names and comments are part of it.

mod action;
mod parse;
mod patch;
mod rules;
mod scalar;
mod tender;

pub use action::*;
pub use parse::{BodyError, parse, parse_optional, parse_value};
pub use patch::merge_patch;
pub use rules::*;
pub use scalar::*;
pub use tender::*;
