//! The simulator over many seeds: no invariant is violated, the same seed gives the same run, and
//! each way of breaking the protocol is caught.
//!
//! A failure names its seed. Run that one again with
//! `QUORATE_SEED=… cargo nextest run -p quorate-tests --test simulation one_seed_of_choice`
//! (with `QUORATE_VOTERS=5` for five voters). More seeds: `QUORATE_SEEDS=10000`.
#![forbid(unsafe_code)]
#![allow(clippy::unwrap_used, clippy::panic, reason = "what a test relies on fails the test")]
#![allow(clippy::print_stderr, reason = "what a run was like is worth seeing")]

use quorate_tests::simulation::{Invariant, Mutant, Outcome, Plan, run};

fn number(name: &str) -> Option<u64> {
    std::env::var(name).ok().map(|text| text.parse().unwrap())
}

fn simulate(seed: u64, voters: u64) -> Outcome {
    let outcome = run(Plan { seed, voters, mutant: None });
    if let Some(violation) = &outcome.violation {
        panic!(
            "{}{}\nrun it again: QUORATE_SEED={seed} QUORATE_VOTERS={voters} \
             cargo nextest run -p quorate-tests --test simulation one_seed_of_choice",
            violation.story, violation.what
        );
    }
    outcome
}

fn simulate_many(first: u64, count: u64, voters: u64) {
    let count = number("QUORATE_SEEDS").unwrap_or(count);
    let (mut grants, mut memberships, mut steps) = (0, 0, 0);
    for seed in first..first + count {
        let outcome = simulate(seed, voters);
        grants += outcome.grants;
        memberships += outcome.memberships;
        steps += outcome.steps;
    }
    eprintln!("{count} runs: {steps} steps, {grants} grants, {memberships} changes of voters");
    // A simulator in which nothing happens shows nothing.
    assert!(grants >= count * 3, "only {grants} grants");
    assert!(count < 20 || memberships > 0, "the voters never changed");
}

#[test]
fn three_voters_keep_every_invariant() {
    simulate_many(1, 60, 3);
}

#[test]
fn five_voters_keep_every_invariant() {
    simulate_many(1_000_000, 30, 5);
}

#[test]
fn one_seed_of_choice() {
    simulate(number("QUORATE_SEED").unwrap_or(7), number("QUORATE_VOTERS").unwrap_or(3));
}

#[test]
fn the_same_seed_gives_the_same_run() {
    let (first, again) = (simulate(42, 3), simulate(42, 3));
    assert_eq!((first.hash, first.steps), (again.hash, again.steps));
    assert_ne!(first.hash, simulate(43, 3).hash);
}

fn caught(mutant: Mutant) {
    // One is rare: only a release that is late by a whole restart shows it. Which seed does moves
    // with every change of the model, so the search for it goes far; it ends with the first.
    let most = if mutant == Mutant::ReleaseOfAnyEpoch { 5_000 } else { 200 };
    let most = number("QUORATE_SEEDS").unwrap_or(most);
    // Rare ones are searched for from a seed near one that caught them when this was written.
    let first = if mutant == Mutant::ReleaseOfAnyEpoch { 600 } else { 1 };
    let violation = (first..first + most).find_map(|seed| {
        let violation = run(Plan { seed, voters: 3, mutant: Some(mutant) }).violation?;
        (violation.invariant == Invariant::OneServes)
            .then(|| format!("seed {seed}: {}", violation.what))
    });
    match violation {
        Some(violation) => eprintln!("{mutant:?}: {violation}"),
        None => panic!("{mutant:?} is not caught in {most} seeds"),
    }
}

#[test]
fn a_voter_without_quarantine_is_caught() {
    caught(Mutant::NoQuarantine);
}

#[test]
fn a_promise_shorter_than_the_lease_is_caught() {
    caught(Mutant::ShortPromise);
}

#[test]
fn a_voter_that_holds_nothing_back_is_caught() {
    caught(Mutant::NoHeld);
}

#[test]
fn a_release_of_any_epoch_is_caught() {
    caught(Mutant::ReleaseOfAnyEpoch);
}

#[test]
fn a_lease_that_counts_from_the_ack_is_caught() {
    caught(Mutant::AckForTheNewestRound);
}

#[test]
fn an_owner_without_a_majority_is_caught() {
    caught(Mutant::Minority);
}

#[test]
fn a_kernel_without_a_fence_is_caught() {
    caught(Mutant::NoFence);
}
