//! The parts of the `reversetender` program: the edge around the engine.

pub mod admin;
pub mod archive;
pub mod audit;
pub mod body;
pub mod cli;
pub mod config;
pub mod demo;
pub mod feed;
pub mod key;
pub mod node;
pub mod render;
pub mod rest;
pub mod server;
pub mod simulate;
pub mod text;
pub mod web;
