//! REST against the running server: every status and code that exists, and who may do what.

#[path = "../support/mod.rs"]
mod support;

mod accounts;
mod anonymity;
mod auction;
mod doors;
mod formats;
mod rates;
mod refusals;
mod slow;
mod tenants;
mod tokens;

#[test]
fn answers_are_held_against_the_openapi_document() {
    support::contract::check_itself();
}
