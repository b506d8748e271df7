//! The projection of the log into SQL: for buyers, analysts and other services, who read; nothing here is ever believed
//! by the engine.
//!
//! Owns the tables, their migrations, what rows an entry makes, and the position in the transaction of its rows. Never
//! decides anything and never makes anybody wait.

mod gather;
mod row;
mod store;
mod tables;

pub use gather::Gather;
pub use row::{Batch, Row, Rows, Value};
pub use store::{Advance, Place, PlaceError, Point, Position, Store, StoreError};
pub use tables::{
    AWARDS, BIDDERS, BIDS, Column, EVENTS, EXTENSIONS, Kind, LOT_STATES, LOTS, MEMBERS, ORGANISATIONS, PROJECTION,
    TABLES, TENDERS, Table,
};
