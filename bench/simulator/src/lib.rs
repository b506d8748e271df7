//! The deterministic simulator: the real engine, log, recovery, snapshots and sequencer in one thread with virtual
//! time, from one seed. It owns the world around them (disk, clocks, clients) and the judge; it decides no bid, and
//! nothing of it ships.
//!
//! ```text
//!   chance ──► world (heap of events) ──► node: Sequencer · Log · Views · snapshots   (the real ones)
//!                │    ▲                      │ Surroundings          │ Disk
//!                ▼    │                      ▼                       ▼
//!             clients · subscribers       clocks                  disk: sectors, names, lengths; lies, rot, power
//!                │                           │                       archive: objects; away, refused, answers lost
//!                │                           │
//!                └────────► judge ◄──────────┘   replica that never restarts + naive twin: D, A, F, V
//! ```
//!
//! A seed is a run, bit for bit: streams for workload, disk, clock, crashes and pace, no threads, no clock and no
//! randomness of the machine. Three seeds of four are worlds that can recover (crashes at every operation of the disk,
//! in recovery and in snapshots, full, slow and failing disks, devices that are dead for a while, archives that are away,
//! clocks that jump): nothing answered may be lost. Every fourth has a disk that lies and rots: then only safety counts;
//! what is damaged is refused by name, and after it was restored everything must be there. In the end folders are
//! restored from the archive and compared with a cold replay.
//!
//! `cargo xtask simulate --seeds N --minutes M` runs it at length; `--seed S` runs one world again.

#[allow(dead_code, unused_imports)] // The engine's own tests use the rest.
#[path = "../../../engine/tests/differential_parts/mod.rs"]
mod differential_parts;
#[allow(dead_code, missing_docs)] // The engine's own tests use the rest.
#[path = "../../../engine/tests/twin/mod.rs"]
mod twin;
#[allow(dead_code, missing_docs)] // As above.
#[path = "../../../engine/tests/watch/mod.rs"]
mod watch;

mod archive;
mod chance;
mod client;
pub mod disk;
mod judge;
pub mod marks;
mod node;
mod quiet;
mod report;
pub mod totals;
pub mod world;
