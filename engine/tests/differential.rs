//! Feeds the same random commands to the engine and to its naive twin and compares everything that can be seen,
//! after every entry. A failing run prints its seed; `SEED=n` runs that one alone, `RUNS=n` sets how many there are.

#[allow(dead_code, unused_imports)] // The simulator uses the rest.
mod differential_parts;
#[allow(dead_code)] // The sample cases use the rest.
mod twin;
mod watch;

use std::collections::BTreeMap;
use std::env;

use differential_parts::{Comparison, Generator};
use engine::{Engine, Entry, LogTime};

/// How many entries a run has.
const ENTRIES: usize = 1_000;

/// Runs in a plain test; about 1.3 commands an entry make this more than 100 000 steps.
const RUNS: u64 = 80;

/// What every full test must have met: answers, refusals and events.
const REACHED: &str = "
    Award Bid Bidder Done Limit Tender Voided Withdrawn
    lot_not_found not_admitted own_tender terms_not_accepted lot_not_open lot_paused lot_closed lot_cancelled expired
    stale_view wrong_action price_scale price_not_positive price_tick above_ceiling below_floor not_improved
    step_too_large tie_not_allowed drop_too_large limit_not_allowed bids_exhausted
    tender_not_found not_owner already_awarded wrong_stage rules_frozen bidder_not_found bid_not_found
    reason_required reserve_not_met invalid_rules version_mismatch idempotency_key_reused
    not_your_turn stale_step already_out prebid_required
    event:Opened event:Bid event:Voided event:Paused event:Resumed event:Disqualified event:Closed event:Awarded
    event:Rejected event:Unsuccessful event:Cancelled event:overtime event:buyer event:outage event:staggered
    event:Automatic event:Withdrawn event:Turn event:Step event:Level event:Out
";

fn run(seed: u64, tally: &mut BTreeMap<String, usize>) -> usize {
    let mut generator = Generator::new(seed);
    let mut twin = twin::Twin::default();
    let mut engine = Engine::new();
    let mut log: Vec<Entry> = Vec::new();
    let mut comparison = Comparison::default();
    let mut commands = 0;
    for index in 1..=ENTRIES as u64 {
        let batch = generator.batch(&twin);
        commands += batch.len();
        let entry = Entry { index, commands: batch.iter().map(|sent| comparison.command(sent)).collect() };
        let told: Vec<_> = batch.iter().map(|sent| (twin.take(sent), twin.repeated)).collect();
        engine.apply(&entry, &mut comparison);
        comparison.replies(&batch, &told, &mut twin);
        comparison.states(&twin, &engine, index % 20 == 0);
        log.push(entry);
        if generator.one_in(40) {
            engine.maintain();
        }
        if generator.one_in(150) {
            engine = through_a_snapshot(&engine);
        }
    }
    let mut again = Engine::new();
    for entry in &log {
        again.apply(entry, &mut ());
    }
    assert_eq!(again.state_hash(), engine.state_hash(), "replay from zero, and with snapshots in between");
    assert_eq!(again.index(), engine.index());
    assert_eq!(again.now(), LogTime(twin.now));
    for (word, count) in comparison.tally {
        *tally.entry(word).or_default() += count;
    }
    commands
}

/// The engine that a snapshot of `engine` makes, after a way through bytes.
fn through_a_snapshot(engine: &Engine) -> Engine {
    let parts: Vec<Vec<u8>> =
        engine.snapshot().map(|part| wincode::serialize(&part).expect("a part can be encoded")).collect();
    assert!(parts.iter().all(|part| part.len() <= 1 << 20), "parts are small");
    let read = parts.iter().map(|bytes| wincode::deserialize(bytes).expect("a part can be read"));
    let restored = Engine::restore(read).expect("a snapshot can be read");
    assert_eq!(restored.state_hash(), engine.state_hash(), "a snapshot holds the whole state");
    restored.check_invariants();
    restored
}

/// A number from the environment.
#[allow(clippy::disallowed_methods)] // What a test does may depend on it; what the engine does may not.
fn number(name: &str) -> Option<u64> {
    env::var(name).ok().map(|text| text.parse().expect("SEED and RUNS are numbers"))
}

#[test]
fn engine_and_twin_agree() {
    let seeds = match number("SEED") {
        Some(seed) => seed..seed + 1,
        None => 0..number("RUNS").unwrap_or(RUNS),
    };
    let (mut commands, mut tally) = (0, BTreeMap::new());
    for seed in seeds {
        println!("SEED={seed}");
        commands += run(seed, &mut tally);
    }
    println!("{commands} commands, no disagreement; {tally:#?}");
    // A generator that no longer reaches something proves nothing about it.
    if number("SEED").is_none() && number("RUNS").is_none() {
        assert!(commands > 100_000, "only {commands} commands");
        let missed: Vec<_> = REACHED.split_whitespace().filter(|word| !tally.contains_key(*word)).collect();
        assert!(missed.is_empty(), "never reached: {missed:?}");
    }
}
