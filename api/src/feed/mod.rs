//! The live feed: windows of steps, and (in the socket half) the connections that read them.

#![allow(dead_code)] // Until the sockets land.

mod hub;
mod lane;
mod window;

pub use hub::{Hub, WINDOWS_BYTES_MAX};
pub use window::{LotFeed, Missed};
