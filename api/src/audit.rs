//! Exports and receipts: what the log says of a tender, with proofs that need nobody's word but a public key.
//!
//! [`export`] writes them, [`verify`] checks them offline. What is hashed and signed is in persistence/docs/audit.md.
//! Nothing here decides who may ask; who may see a secret is the visibility function's word.

pub mod command;
pub mod document;
pub mod export;
pub mod rebuild;
pub mod replay;
pub mod verify;
