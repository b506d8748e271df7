//! What the benchmarks, the load generator and their small runs in the tests share. Never ships.
//!
//! Without the feature `load` there is nothing here: `xtask` must build within seconds.

#[cfg(feature = "load")]
pub mod allocations;
#[cfg(feature = "load")]
pub mod apply;
#[cfg(feature = "load")]
pub mod client;
#[cfg(feature = "load")]
pub mod codec;
#[cfg(feature = "load")]
pub mod drill;
#[cfg(feature = "load")]
pub mod floor;
#[cfg(feature = "load")]
pub mod formats;
#[cfg(feature = "load")]
pub mod load;
#[cfg(feature = "load")]
pub mod log_append;
#[cfg(feature = "load")]
pub mod machine;
#[cfg(feature = "load")]
pub mod plot;
#[cfg(feature = "load")]
pub mod protection;
#[cfg(feature = "load")]
pub mod redis;
#[cfg(feature = "load")]
pub mod replay;
#[cfg(feature = "load")]
pub mod replication;
#[cfg(feature = "load")]
pub mod restart;
#[cfg(feature = "load")]
pub mod server;
#[cfg(feature = "load")]
pub mod servers;
#[cfg(feature = "load")]
pub mod socket;
#[cfg(feature = "load")]
pub mod std_maps;
#[cfg(feature = "load")]
pub mod stores;
#[cfg(feature = "load")]
pub mod workload;
