//! `cargo xtask soak`: kills daemons at random points of a write load, round by round. Exits with 0
//! only if every promise held.
#![forbid(unsafe_code)]

use std::io::{self, Write as _};
use std::process::ExitCode;

use quorate_tests::lab::clock;
use quorate_tests::soak::{self, Options};

const USAGE: &str = "usage: lab-soak [--rounds N] [--seed N]";

fn main() -> ExitCode {
    let Some(options) = options(std::env::args().skip(1)) else {
        say(USAGE);
        return ExitCode::from(2);
    };
    match soak::run(&options, &mut say) {
        Ok(_) => ExitCode::SUCCESS,
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
fn options(mut arguments: impl Iterator<Item = String>) -> Option<Options> {
    let seed = u64::try_from(clock::now().as_micros()).unwrap_or_default();
    let mut options = Options { rounds: 100, seed, name: "soak".to_owned() };
    while let Some(argument) = arguments.next() {
        let value = arguments.next()?;
        match argument.as_str() {
            "--rounds" => options.rounds = value.parse().ok()?,
            "--seed" => options.seed = value.parse().ok()?,
            _ => return None,
        }
    }
    Some(options)
}
