//! What the benchmarks, the load generator and their small runs in the tests share. Never ships.
//!
//! Without the feature `load` there is nothing here: `xtask` must build within seconds.

#[cfg(feature = "load")]
pub mod allocations;
#[cfg(feature = "load")]
pub mod apply;
#[cfg(feature = "load")]
pub mod machine;
#[cfg(feature = "load")]
pub mod std_maps;
#[cfg(feature = "load")]
pub mod workload;
