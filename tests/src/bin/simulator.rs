//! `cargo xtask sim`: runs of the simulator by their seeds. What it prints on its output follows from
//! its arguments, byte for byte; how fast that went stands on the error stream. Exits with 0 only
//! if no invariant was violated.
#![forbid(unsafe_code)]

use std::io::{self, Write as _};
use std::process::ExitCode;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};

use quorate_tests::lab::clock::Stopwatch;
use quorate_tests::ownership::walk::{Walk, walk};
use quorate_tests::simulation::{Plan, run};

const USAGE: &str = "usage: simulator --seed N [--runs K] [--voters V] [--seconds S] [--threads T] \
                     [--bare] [--trace]";
/// Steps of a walk for each second that was asked for.
const STEPS_A_SECOND: u64 = 10_000;
/// Up to so many runs get a line each.
const LINES_MAX: u64 = 50;

#[derive(Debug, Clone, Copy)]
struct Options {
    seed: u64,
    runs: u64,
    voters: u64,
    seconds: Option<u64>,
    threads: u64,
    bare: bool,
    trace: bool,
}

/// What one run, or all of them, came to.
#[derive(Debug, Clone, Default)]
struct Sum {
    hash: u64,
    steps: u64,
    changes: u64,
    released: u64,
    violation: Option<String>,
    trace: Option<String>,
}

fn main() -> ExitCode {
    let Some(options) = options(std::env::args().skip(1)) else {
        complain(USAGE);
        return ExitCode::from(2);
    };
    let stopwatch = Stopwatch::start();
    let sum = all(options);
    let seconds = stopwatch.elapsed().as_secs_f64();
    say(&format!(
        "seeds {} to {}: {} steps, {} ownership changes, hash {:016x}",
        options.seed,
        options.seed + options.runs - 1,
        sum.steps,
        sum.changes,
        sum.hash
    ));
    if options.bare {
        say(&format!("{} of them after a release, the others by time", sum.released));
    }
    let speed = f64::from(u32::try_from(sum.changes).unwrap_or(u32::MAX)) / seconds;
    complain(&format!("{seconds:.1} s, {speed:.0} ownership changes a second"));
    match sum.violation {
        None => ExitCode::SUCCESS,
        Some(violation) => {
            say(&violation);
            ExitCode::FAILURE
        }
    }
}

/// Runs every seed, on some threads; adds up in the order of the seeds.
fn all(options: Options) -> Sum {
    let next = AtomicU64::new(0);
    let violated = AtomicU64::new(u64::MAX);
    let pending = Mutex::new((0, std::collections::BTreeMap::new(), Sum::default()));
    std::thread::scope(|scope| {
        for _ in 0..options.threads {
            scope.spawn(|| {
                loop {
                    let at = next.fetch_add(1, Ordering::Relaxed);
                    if at >= options.runs || at > violated.load(Ordering::Relaxed) {
                        return;
                    }
                    let one = one(options, options.seed + at);
                    if one.violation.is_some() {
                        violated.fetch_min(at, Ordering::Relaxed);
                    }
                    let Ok(mut pending) = pending.lock() else { return };
                    pending.1.insert(at, one);
                    let (reached, waiting, sum) = &mut *pending;
                    while let Some(one) = waiting.remove(reached) {
                        add(options, options.seed + *reached, sum, one);
                        *reached += 1;
                    }
                }
            });
        }
    });
    pending.into_inner().map(|(_, _, sum)| sum).unwrap_or_default()
}

fn add(options: Options, seed: u64, sum: &mut Sum, one: Sum) {
    if sum.violation.is_some() {
        return;
    }
    if let Some(trace) = &one.trace {
        say(trace);
    }
    if options.runs <= LINES_MAX {
        say(&format!(
            "seed {seed}: {} steps, {} ownership changes, hash {:016x}",
            one.steps, one.changes, one.hash
        ));
    } else if (seed - options.seed + 1).is_multiple_of(options.runs / 20) {
        complain(&format!("up to seed {seed}: {} ownership changes", sum.changes + one.changes));
    }
    sum.hash = (sum.hash ^ one.hash).wrapping_mul(0x0100_0000_01b3).rotate_left(17);
    sum.steps += one.steps;
    sum.changes += one.changes;
    sum.released += one.released;
    sum.violation = one.violation.map(|violation| format!("seed {seed}:\n{violation}"));
}

fn one(options: Options, seed: u64) -> Sum {
    if options.bare {
        let steps = options.seconds.unwrap_or(5) * STEPS_A_SECOND;
        let plan = Walk { seed, voters: options.voters, steps, mutant: None, trace: options.trace };
        let walked = walk(plan);
        return Sum {
            hash: walked.hash,
            steps: walked.steps,
            changes: walked.moves,
            released: walked.released,
            violation: walked.broken.map(|(broken, story)| format!("{story}{broken:?}")),
            trace: walked.trace,
        };
    }
    let faults = options.seconds.map(|seconds| seconds * 1_000);
    let outcome = run(Plan { faults, trace: options.trace, ..Plan::new(seed, options.voters) });
    Sum {
        hash: outcome.hash,
        steps: outcome.steps,
        changes: outcome.changes,
        released: 0,
        violation: outcome.violation.map(|v| format!("{}{:?}: {}", v.story, v.invariant, v.what)),
        trace: outcome.trace,
    }
}

fn say(text: &str) {
    let mut out = io::stdout().lock();
    // Nobody reads on: the exit status still tells.
    let _ = writeln!(out, "{text}").and_then(|()| out.flush());
}

fn complain(text: &str) {
    let _ = writeln!(io::stderr().lock(), "{text}");
}

/// `None` for arguments that mean nothing.
fn options(mut arguments: impl Iterator<Item = String>) -> Option<Options> {
    let mut options = Options {
        seed: 1,
        runs: 1,
        voters: 3,
        seconds: None,
        threads: 1,
        bare: false,
        trace: false,
    };
    while let Some(argument) = arguments.next() {
        match argument.as_str() {
            "--bare" => options.bare = true,
            "--trace" => options.trace = true,
            _ => {
                let value: u64 = arguments.next()?.parse().ok()?;
                match argument.as_str() {
                    "--seed" => options.seed = value,
                    "--runs" => options.runs = value.max(1),
                    "--voters" => options.voters = value,
                    "--seconds" => options.seconds = Some(value),
                    "--threads" => options.threads = value.clamp(1, 64),
                    _ => return None,
                }
            }
        }
    }
    ((1..=9).contains(&options.voters)).then_some(options)
}
