//! A bounded number of worlds in every test run: no promise is broken, and everything that must happen happens.
//! `cargo xtask simulate` runs many more.

use simulator::world::{Plan, Report, run};

/// How many worlds: enough for every mark, and on two cores about a minute.
const SEEDS: u64 = 48;

#[test]
fn no_promise_is_broken_and_every_mark_is_hit() {
    let half = |first: u64| {
        let mut sum = Report::default();
        for seed in (first..=SEEDS).step_by(2) {
            match run(Plan::of(seed)) {
                Ok(report) => sum.add(&report),
                Err(text) => panic!("{text}\nagain: cargo xtask simulate --seed {seed}"),
            }
        }
        sum
    };
    let (mut sum, other) = std::thread::scope(|scope| {
        let other = scope.spawn(|| half(2));
        (half(1), other.join().expect("the other half holds too"))
    });
    sum.add(&other);
    println!(
        "{SEEDS} seeds, {} virtual minutes, {} commands, {} starts, {} crash points; {:?}",
        sum.virtual_ns / 60_000_000_000,
        sum.commands,
        sum.starts,
        sum.crash_points,
        sum.injected
    );
    assert!(sum.marks.missing().is_empty(), "never happened: {:?}", sum.marks.missing());
    assert!(sum.commands > 15_000 && sum.answers > 10_000 && sum.frames > 2_000, "the worlds are too small");
}
