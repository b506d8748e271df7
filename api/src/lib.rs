//! The parts of the `reversetender` program: the edge around the engine.

/// Whether a known bug is put back; always false but in test builds with the feature `mutants`.
macro_rules! mutant {
    ($name:ident) => {{
        #[cfg(feature = "mutants")]
        let is = persistence::mutants::is(persistence::mutants::Mutant::$name);
        #[cfg(not(feature = "mutants"))]
        let is = false;
        is
    }};
}

pub mod admin;
pub mod archive;
pub mod audit;
pub mod body;
pub mod cli;
pub mod cluster;
pub mod config;
pub mod demo;
pub mod feed;
pub mod key;
pub mod keys;
pub mod limits;
pub mod node;
pub mod render;
pub mod rest;
pub mod server;
pub mod simulate;
pub mod sql;
pub mod text;
pub mod web;
