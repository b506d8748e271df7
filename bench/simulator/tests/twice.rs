//! One seed in two processes gives one trace: nothing of the machine gets into a world.

use std::process::Command;

fn traces(seed: u64) -> String {
    let program = env!("CARGO_BIN_EXE_simulate");
    let arguments = ["--brief", "--seeds", "3", "--seed", &seed.to_string()];
    let output = Command::new(program).args(arguments).output().expect("the program runs");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stdout));
    let mut lines: Vec<_> = String::from_utf8_lossy(&output.stdout).lines().map(str::to_owned).collect();
    lines.sort();
    assert_eq!(lines.len(), 3, "one line a seed");
    lines.join("\n")
}

#[test]
fn a_seed_is_a_run_bit_for_bit() {
    // The first of them is a world without an atlas.
    let first = traces(7);
    assert!(first.lines().all(|line| line.split(' ').nth(1).is_some_and(|trace| trace.len() == 64)), "{first}");
    assert_eq!(first, traces(7), "the same in another process");
    assert_ne!(first, traces(11), "and another world is another run");
}
