//! The archive: log, snapshots and audit files copied, piece by piece, to a store of named objects, and a data folder
//! made of them again.
//!
//! Owns the names and bytes of the objects (`docs/archive.md`). Never deletes or changes a piece, never holds up a
//! commit, and knows no network: a [`Store`] is given by whoever has one.

mod copy;
mod error;
mod name;
mod reach;
mod restore;
mod ship;
mod store;
mod text;
mod thread;

pub use copy::copy;
pub use error::ArchiveError;
pub(crate) use name::parse_history;
pub use name::{PieceKind, VERSION};
pub use reach::{Extent, Reach};
pub use restore::{Part, Progress, Restore, Restored, Target};
pub use ship::{PIECE_BYTES, Shipped, Shipper, ship_folder};
pub use store::{Store, StoreError};
pub use thread::{ALARM_AFTER, Archiver, Lag, Status};
