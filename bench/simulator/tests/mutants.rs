//! Known bugs, put back one at a time: the simulator finds every one within a few seeds. A judge that finds none of them
//! would judge nothing.

use persistence::mutants::{Mutant, choose};
use simulator::world::{Plan, run};

/// Within how many worlds each must be found.
const WORLDS: u64 = 24;

/// The worlds that bugs are looked for in: small ones, where what they need is met early in one of them.
fn world(seed: u64) -> Plan {
    Plan { commands: 300, ..Plan::of(seed) }
}

/// The first world that shows the bug, and what is said.
fn found(mutant: Mutant) -> Option<(u64, String)> {
    choose(Some(mutant));
    let found = (1..=WORLDS).find_map(|number| Some((number, run(world(number)).err()?)));
    choose(None);
    match &found {
        Some((number, text)) => {
            let text = text.lines().nth(1).unwrap_or_default();
            println!("{mutant:?}: found in world {number} of at most {WORLDS}: {text:.120}");
        }
        None => println!("{mutant:?}: not found in {WORLDS} worlds"),
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
    assert!(results.len() >= 22, "fewer bugs than there were");
    let missed: Vec<_> = results.iter().filter(|(_, found)| found.is_none()).map(|(mutant, _)| mutant).collect();
    assert!(missed.is_empty(), "not found in {WORLDS} worlds: {missed:?}");
}
