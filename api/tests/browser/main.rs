//! The page in a real browser, against the real server. Pictures of what people saw lie in `target/browser/`. Where
//! Chromium is not installed it says so by name and is passed over.

#[path = "../support/mod.rs"]
mod support;

mod cdp;
mod english;
mod formats;
mod people;
mod replay;
