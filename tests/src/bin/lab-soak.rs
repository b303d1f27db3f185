//! `cargo xtask soak writes | failover | loss`: faults at random points, round by round; or a bad
//! line for a while. Exits with 0 only if every promise held.
#![forbid(unsafe_code)]

use std::io::{self, Write as _};
use std::process::ExitCode;
use std::time::Duration;

use quorate_tests::failover::quorate::Timing;
use quorate_tests::failover::soak as failover;
use quorate_tests::lab::clock;
use quorate_tests::loss;
use quorate_tests::soak as writes;

const USAGE: &str = "usage: lab-soak writes [--rounds N] [--seed N]\n       \
                     lab-soak failover [--faults N] [--seed N] [--directors 3|5]\n       \
                     lab-soak loss [--minutes N] [--percent N] [--links 1|2]";

enum Soak {
    Writes(writes::Options),
    Failover(failover::Options),
    Loss(loss::Options),
}

fn main() -> ExitCode {
    let Some(soak) = arguments(std::env::args().skip(1)) else {
        say(USAGE);
        return ExitCode::from(2);
    };
    let held = match soak {
        Soak::Writes(options) => {
            writes::run(&options, &mut say).map(|_| true).map_err(|error| error.to_string())
        }
        Soak::Failover(options) => failover::run(&options, &mut say)
            .map(|summary| summary.held())
            .map_err(|error| error.to_string()),
        Soak::Loss(options) => {
            loss::run(&options, &mut say).map(|_| true).map_err(|error| error.to_string())
        }
    };
    match held {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            say(&format!("\nThe soak failed: {error}"));
            ExitCode::FAILURE
        }
    }
}

fn say(text: &str) {
    let mut out = io::stdout().lock();
    // Nobody reads on: the exit status still tells.
    let _ = writeln!(out, "{text}").and_then(|()| out.flush());
}

/// `None` for arguments that mean nothing. Without a seed, the time since boot is as good as any.
fn arguments(mut words: impl Iterator<Item = String>) -> Option<Soak> {
    let kind = words.next()?;
    if kind == "loss" {
        return loss_arguments(words).map(Soak::Loss);
    }
    let count = match kind.as_str() {
        "writes" => "--rounds",
        "failover" => "--faults",
        _ => return None,
    };
    let mut seed = u64::try_from(clock::now().as_micros()).unwrap_or_default();
    let mut rounds = None;
    let mut deployments = vec![(3, Timing::FAST), (3, Timing::LAN), (5, Timing::FAST)];
    while let Some(word) = words.next() {
        let value = words.next()?;
        match word.as_str() {
            "--seed" => seed = value.parse().ok()?,
            // Only these, under `fast`.
            "--directors" if kind == "failover" => {
                let directors = value.parse().ok().filter(|count| [3, 5].contains(count))?;
                deployments = vec![(directors, Timing::FAST)];
            }
            word if word == count => rounds = Some(value.parse().ok()?),
            _ => return None,
        }
    }
    Some(if kind == "writes" {
        let rounds = rounds.unwrap_or(100);
        Soak::Writes(writes::Options { rounds, seed, name: "soak".to_owned() })
    } else {
        Soak::Failover(failover::Options {
            faults: rounds.unwrap_or(1_000),
            seed,
            name: "soak_failover".to_owned(),
            deployments,
            long_stops: true,
        })
    })
}

fn loss_arguments(mut words: impl Iterator<Item = String>) -> Option<loss::Options> {
    let (mut minutes, mut percent, mut links) = (30, 20, 1);
    while let Some(word) = words.next() {
        let value: u32 = words.next()?.parse().ok()?;
        match word.as_str() {
            "--minutes" => minutes = value,
            "--percent" if value <= 100 => percent = value,
            "--links" if (1..=2).contains(&value) => links = value,
            _ => return None,
        }
    }
    let time = Duration::from_secs(60) * minutes;
    Some(loss::Options { time, percent, second_link: links == 2 })
}
