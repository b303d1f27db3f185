//! The fuzz targets on every run, without nightly: each seed, and each changed at random a bounded number of
//! times, by dice from a fixed seed, so that a failure comes back. `cargo fuzz` goes further by hand.
#![forbid(unsafe_code)]
#![allow(clippy::unwrap_used, reason = "what a test relies on fails the test")]

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use quorate_tests::dice::Dice;
use quorate_tests::fuzzing::{TARGETS, Target};
use quorate_tests::lab::workspace_dir;

/// Changed seeds of each target: in all they take a few seconds.
const CHANGED: usize = 20_000;
/// Changes of one seed at most, one upon the other.
const CHANGES_MAX: usize = 6;
/// A changed seed is no longer.
const BYTES_MAX: usize = 4_096;

fn fuzz(folder: &str) -> PathBuf {
    workspace_dir().join("fuzz").join(folder)
}

fn names(folder: &Path) -> BTreeSet<String> {
    let entries = fs::read_dir(folder).unwrap();
    entries.map(|e| e.unwrap().path().file_stem().unwrap().to_string_lossy().into_owned()).collect()
}

fn seeds(target: &Target) -> Vec<Vec<u8>> {
    let mut paths: Vec<PathBuf> = fs::read_dir(fuzz("seeds").join(target.name))
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .collect();
    paths.sort();
    paths.iter().map(|path| fs::read(path).unwrap()).collect()
}

/// One change: a bit, a byte, a piece out, in, twice, or of another seed.
fn change(bytes: &mut Vec<u8>, seeds: &[Vec<u8>], dice: &mut Dice) {
    let at = dice.below(bytes.len());
    let end = at + dice.below(bytes.len().saturating_sub(at) + 1);
    match dice.below(7) {
        0 if !bytes.is_empty() => bytes[at] ^= 1 << dice.below(8),
        1 if !bytes.is_empty() => {
            let interesting = [0, 1, 0x7f, 0x80, 0xff, b'\n', b'-', b'"'];
            bytes[at] = interesting[dice.below(interesting.len())];
        }
        2 => bytes.truncate(at),
        3 => drop(bytes.drain(at..end.min(at + 64))),
        4 => bytes.insert(at, u8::try_from(dice.below(256)).unwrap()),
        5 => {
            let piece = bytes[at..end].to_vec();
            bytes.splice(at..at, piece);
        }
        _ => {
            let other = &seeds[dice.below(seeds.len())];
            let from = dice.below(other.len());
            bytes.splice(at..end, other[from..].iter().copied());
        }
    }
    bytes.truncate(BYTES_MAX);
}

#[allow(clippy::panic, reason = "what breaks a rule fails the test, with what broke it")]
fn failed(why: &str) -> ! {
    panic!("{why}");
}

/// Runs the target; says on what it failed.
fn run(target: &Target, bytes: &[u8]) {
    if let Err(panic) = std::panic::catch_unwind(|| (target.run)(bytes)) {
        let hex: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
        let why = panic.downcast_ref::<String>().cloned();
        let why = why.or_else(|| panic.downcast_ref().map(|text: &&str| (*text).to_owned()));
        failed(&format!("{}: {}: on {hex}", target.name, why.unwrap_or_default()));
    }
}

#[test]
fn every_target_keeps_its_rule_on_its_seeds_and_on_changed_ones() {
    std::thread::scope(|scope| {
        for target in &TARGETS {
            scope.spawn(move || {
                let seeds = seeds(target);
                assert!(!seeds.is_empty(), "{} has no seeds", target.name);
                seeds.iter().for_each(|seed| run(target, seed));
                run(target, &[]);
                let mut dice = Dice::new(1);
                for _ in 0..CHANGED {
                    let mut bytes = seeds[dice.below(seeds.len())].clone();
                    for _ in 0..=dice.below(CHANGES_MAX) {
                        change(&mut bytes, &seeds, &mut dice);
                    }
                    run(target, &bytes);
                }
            });
        }
    });
}

#[test]
fn every_target_has_its_program_and_its_seeds_and_nothing_else_is_there() {
    let targets: BTreeSet<String> = TARGETS.iter().map(|t| t.name.to_owned()).collect();
    assert_eq!(names(&fuzz("seeds")), targets);
    assert_eq!(names(&fuzz("fuzz_targets")), targets);
    let manifest = fs::read_to_string(fuzz("Cargo.toml")).unwrap();
    for name in &targets {
        let program = fs::read_to_string(fuzz("fuzz_targets").join(format!("{name}.rs"))).unwrap();
        assert!(program.contains(&format!("quorate_tests::fuzzing::{name}(bytes)")), "{name}");
        assert!(manifest.contains(&format!("[[bin]]\nname = \"{name}\"\n")), "{name}");
    }
}

/// A target that calls everything wrong would be no test: each tells a true answer from a false one.
#[test]
fn a_broken_rule_is_noticed() {
    let broken = Target { name: "broken", run: |bytes| assert!(bytes.len() < 3) };
    run(&broken, b"ab");
    assert!(std::panic::catch_unwind(|| run(&broken, b"abc")).is_err());
}
