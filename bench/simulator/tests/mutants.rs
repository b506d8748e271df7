//! Known bugs, put back one at a time: the simulator finds every one within a few seeds. A judge that finds none of them
//! would judge nothing.

use persistence::mutants::{Mutant, choose};
use simulator::world::{Plan, run};

/// Within how many seeds each must be found.
const SEEDS: u64 = 24;

/// The first seed that shows the bug, and what is said.
fn found(mutant: Mutant) -> Option<(u64, String)> {
    choose(Some(mutant));
    // Small worlds: what a bug needs is met early in one of them.
    let small = |seed| Plan { commands: 300, ..Plan::of(seed) };
    let found = (1..=SEEDS).find_map(|seed| Some((seed, run(small(seed)).err()?)));
    choose(None);
    match &found {
        Some((seed, text)) => {
            let text = text.lines().nth(1).unwrap_or_default();
            println!("{mutant:?}: found by seed {seed} of at most {SEEDS}: {text:.120}");
        }
        None => println!("{mutant:?}: not found within {SEEDS} seeds"),
    }
    found
}

#[test]
fn every_bug_that_is_put_back_is_found() {
    let half = |first: usize| {
        let mutants = Mutant::ALL.iter().skip(first).step_by(2);
        mutants.map(|mutant| (*mutant, found(*mutant))).collect::<Vec<_>>()
    };
    let results = std::thread::scope(|scope| {
        let other = scope.spawn(|| half(1));
        let mut results = half(0);
        results.extend(other.join().expect("the other half ends"));
        results
    });
    let missed: Vec<_> = results.iter().filter(|(_, found)| found.is_none()).map(|(mutant, _)| mutant).collect();
    assert!(missed.is_empty(), "not found within {SEEDS} seeds: {missed:?}");
}
