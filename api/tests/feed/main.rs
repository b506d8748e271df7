//! Tests of the live feed: windows and renderings by themselves, then the protocol and the streams over real sockets.

mod formats;
mod leaks;
mod market;
mod roots;
mod socket;
mod stream;
mod support;
mod window;
