//! The ownership protocol in every order of events within bounds, and in random orders without
//! bounds; and a check that the checker finds what is broken.
//!
//! `QUORATE_DEPTH=1` looks further (`cargo xtask check --depth 1`).
#![forbid(unsafe_code)]
#![allow(clippy::unwrap_used, clippy::panic, reason = "what a test relies on fails the test")]
#![allow(clippy::print_stderr, reason = "how far was looked is worth seeing")]

use quorate_tests::ownership::Mutant;
use quorate_tests::ownership::check::{Bounds, check, configurations};
use quorate_tests::ownership::walk::{Walk, walk};

fn number(name: &str) -> Option<u64> {
    std::env::var(name).ok().map(|text| text.parse().unwrap())
}

fn bounds(name: &str) -> Bounds {
    let depth = number("QUORATE_DEPTH").unwrap_or(0);
    configurations(depth).into_iter().find(|bounds| bounds.name == name).unwrap()
}

fn threads() -> usize {
    number("QUORATE_THREADS").map_or(2, |count| usize::try_from(count).unwrap())
}

fn holds(name: &str) {
    let started = quorate_tests::lab::clock::Stopwatch::start();
    let mut bounds = bounds(name);
    let most = number("QUORATE_STATES").map(|most| usize::try_from(most).unwrap());
    bounds.most = most.or(bounds.most);
    let found = check(&bounds, threads());
    eprintln!("{name}: {found:?} in {:?}", started.elapsed());
    assert!(found.broken.is_none(), "{}", found.broken.unwrap());
    assert!(bounds.most.is_some() || found.held && found.moved, "nothing happened");
}

#[test]
fn a_handover_is_safe_in_every_order() {
    holds("handover");
}

#[test]
fn restarts_are_safe_in_every_order() {
    holds("restart");
}

#[test]
fn releases_are_safe_in_every_order() {
    holds("release");
}

#[test]
fn a_change_of_the_lease_is_safe_in_every_order() {
    holds("lease changes");
}

#[test]
fn slow_answers_are_safe_in_every_order() {
    holds("slow answers");
}

#[test]
fn slow_disks_are_safe_in_every_order() {
    holds("slow disks");
}

/// Not every order: within these bounds there are too many to look at in a test.
#[test]
fn a_new_voter_is_safe_in_many_orders() {
    holds("a voter joins");
}

#[test]
fn random_orders_are_safe() {
    let (mut moves, mut released, mut steps) = (0, 0, 0);
    let started = quorate_tests::lab::clock::Stopwatch::start();
    for seed in 1..=number("QUORATE_SEEDS").unwrap_or(40) {
        let walked = walk(Walk {
            seed,
            voters: 3 + seed % 2 * 2,
            steps: 10_000,
            mutant: None,
            trace: false,
        });
        moves += walked.moves;
        released += walked.released;
        steps += walked.steps;
        if let Some((broken, story)) = walked.broken {
            panic!("seed {seed}: {broken:?}\n{story}");
        }
    }
    eprintln!(
        "{moves} moves ({released} after a release) in {steps} steps, {:?}",
        started.elapsed()
    );
    assert!(moves > 1_000);
}

#[test]
fn the_same_seed_gives_the_same_walk() {
    let go = |seed| walk(Walk { seed, voters: 3, steps: 2_000, mutant: None, trace: false }).hash;
    assert_eq!(go(5), go(5));
    assert_ne!(go(5), go(6));
}

#[test]
fn the_checker_finds_what_is_broken() {
    for (name, mutant) in [
        ("handover", Mutant::NoHeld),
        ("handover", Mutant::Minority),
        ("restart", Mutant::NoQuarantine),
        ("release", Mutant::ReleaseBeforeClosing),
    ] {
        let found = check(&Bounds { mutant: Some(mutant), ..bounds(name) }, 2);
        eprintln!("{mutant:?} in {} states of {name}", found.states);
        assert!(found.broken.is_some(), "{mutant:?} is not found in {} states", found.states);
    }
}
