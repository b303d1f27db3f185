//! The simulator over many seeds: no invariant is violated, the same seed gives the same run, and
//! each way of breaking the protocol is caught.
//!
//! A failure names its seed. Run that one again with
//! `cargo xtask sim --seed … --trace` (with `--voters 5` for five voters). More seeds:
//! `QUORATE_SEEDS=10000`, or `cargo xtask sim --runs 10000`.
#![forbid(unsafe_code)]
#![allow(clippy::unwrap_used, clippy::panic, reason = "what a test relies on fails the test")]
#![allow(clippy::print_stderr, reason = "what a run was like is worth seeing")]

use quorate_tests::simulation::invariants::{
    a_drained_server_gets_no_new_connection, an_acknowledged_configuration_is_never_lost,
    at_most_one_director_serves_a_group, epoch_never_goes_back, every_group_gets_an_owner,
};
use quorate_tests::simulation::{Invariant, Mutant, Outcome, Plan, run};

fn number(name: &str) -> Option<u64> {
    std::env::var(name).ok().map(|text| text.parse().unwrap())
}

fn simulate(seed: u64, voters: u64) -> Outcome {
    let outcome = run(Plan::new(seed, voters));
    if let Some(violation) = &outcome.violation {
        panic!(
            "{}{}\nrun it again: cargo xtask sim --seed {seed} --voters {voters} --trace",
            violation.story, violation.what
        );
    }
    outcome
}

fn simulate_many(first: u64, count: u64, voters: u64) {
    let count = number("QUORATE_SEEDS").unwrap_or(count);
    let (mut grants, mut memberships, mut steps) = (0, 0, 0);
    let (mut changes, mut connections) = (0, 0);
    for seed in first..first + count {
        let outcome = simulate(seed, voters);
        grants += outcome.grants;
        memberships += outcome.memberships;
        steps += outcome.steps;
        changes += outcome.changes;
        connections += outcome.connections;
    }
    eprintln!(
        "{count} runs: {steps} steps, {grants} grants, {changes} changes of an owner, {memberships} \
         changes of voters, {connections} connections"
    );
    // A simulator in which nothing happens shows nothing.
    assert!(grants >= count * 3, "only {grants} grants");
    assert!(connections >= count * 10, "only {connections} connections");
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
fn the_same_seed_gives_the_same_run() {
    let (first, again) = (simulate(42, 3), simulate(42, 3));
    assert_eq!((first.hash, first.steps), (again.hash, again.steps));
    assert_ne!(first.hash, simulate(43, 3).hash);
}

/// The first seed with which a mutant breaks this invariant. Which one does moves with every change
/// of the model, so the search for the rare ones goes far; it ends with the first.
fn caught(mutants: &[Mutant], invariant: Invariant) {
    let most = number("QUORATE_SEEDS").unwrap_or(3_000);
    for &mutant in mutants {
        let found = (1..=most).find_map(|seed| {
            let violation = run(Plan { mutant: Some(mutant), ..Plan::new(seed, 3) }).violation?;
            (violation.invariant == invariant).then(|| format!("seed {seed}: {}", violation.what))
        });
        match found {
            Some(violation) => eprintln!("{mutant:?}: {violation}"),
            None => panic!("{mutant:?} is not caught in {most} seeds"),
        }
    }
}

#[test]
fn two_directors_that_serve_an_address_are_caught() {
    caught(at_most_one_director_serves_a_group::CATCHES, Invariant::OneServes);
}

#[test]
fn an_epoch_that_goes_back_is_caught() {
    caught(epoch_never_goes_back::CATCHES, Invariant::EpochsRise);
}

#[test]
fn a_group_without_an_owner_is_caught() {
    caught(every_group_gets_an_owner::CATCHES, Invariant::EveryGroupServed);
}

#[test]
fn a_lost_configuration_is_caught() {
    let mutants = an_acknowledged_configuration_is_never_lost::CATCHES;
    caught(mutants, Invariant::AcknowledgedIsKept);
}

#[test]
fn a_connection_to_a_drained_server_is_caught() {
    let mutants = a_drained_server_gets_no_new_connection::CATCHES;
    caught(mutants, Invariant::DrainedIsLeftAlone);
}
