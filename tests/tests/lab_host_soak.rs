//! A few rounds of the soak, with dice that are always the same: every acknowledged `apply` is there
//! on every node after `kill -9`. Needs root. Run by `cargo xtask test`; more rounds, with other
//! dice, by `cargo xtask soak`.
#![forbid(unsafe_code)]

use quorate_tests::soak::{self, Options};

#[test]
fn what_was_acknowledged_survives_kills_at_random_points() {
    let options = Options { rounds: 6, seed: 2, name: "lab_host_soak".to_owned() };
    let summary = soak::run(&options, &mut |line| println!("{line}")).unwrap();
    assert_eq!(summary.rounds, options.rounds);
    // Else it would have shown nothing.
    assert!(summary.all_killed > 0 && summary.acknowledged > 50, "{summary}");
}
