//! Thirty faults of the soak of failover, with dice that are always the same: at no instant do two
//! directors answer, and none answers past its lease. Needs root. Run by `cargo xtask test`; more
//! faults, with other dice, by `cargo xtask soak failover`.
#![forbid(unsafe_code)]

use quorate_tests::failover::quorate::Timing;
use quorate_tests::failover::soak::{self, Options};

#[test]
fn at_no_instant_do_two_directors_answer_whatever_fails() {
    let options = Options {
        faults: 30,
        seed: 3,
        name: "lab_host_failover".to_owned(),
        deployments: vec![(3, Timing::FAST)],
        long_stops: false,
    };
    let summary = soak::run(&options, &mut |line| println!("{line}")).unwrap();
    assert_eq!(summary.faults, options.faults);
    assert!(summary.held(), "{summary}");
    // Else it would have shown nothing.
    assert!(summary.gaps.len() > 5 && summary.answers > 10_000, "{summary}");
}
