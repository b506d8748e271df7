//! Real servers of others, unpacked into a folder and started on free ports of loopback: peers of the benchmarks. Installs
//! nothing, and stops what it started.

pub mod mysql;
