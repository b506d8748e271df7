//! REST against the running server: every status and code that exists, and who may do what.

#[path = "../support/mod.rs"]
mod support;

mod accounts;
mod auction;
mod refusals;
mod slow;
mod tenants;
mod tokens;
