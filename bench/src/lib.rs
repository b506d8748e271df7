//! What the benchmarks, the load generator and their small runs in the tests share. Never ships.
