//! The parts of the `reversetender` program: the edge around the engine.

pub mod body;
pub mod demo;
pub mod feed;
pub mod node;
pub mod render;
pub mod simulate;
pub mod text;
pub mod web;
