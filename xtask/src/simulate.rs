//! `cargo xtask sim` and `check`: the simulator and the model check, which touch no kernel. Owns how
//! they are built and started; what they do is package quorate-tests'. Tried by running them.

use std::process::{Command, ExitCode};

use clap::Args;

use crate::TaskError;
use crate::machine::exit_code;
use crate::programs::{Profile, bin_dir, build_command};
use crate::run::cargo;

/// What to simulate.
#[derive(Debug, Args)]
pub(crate) struct SimArguments {
    /// The first seed
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Runs, each with the seed after that of the one before
    #[arg(long, default_value_t = 1)]
    runs: u64,
    /// Nodes that vote at the beginning
    #[arg(long, default_value_t = 3)]
    voters: u64,
    /// Seconds of faults, of simulated time [default: two to five, by the seed]
    #[arg(long)]
    seconds: Option<u64>,
    /// Runs at once
    #[arg(long, default_value_t = 1)]
    threads: u64,
    /// Only voters and owners in random orders of events: no directors, no kernels, ten times as fast
    #[arg(long)]
    bare: bool,
    /// Prints everything that happened
    #[arg(long)]
    trace: bool,
}

/// How far to look.
#[derive(Debug, Args)]
pub(crate) struct CheckArguments {
    /// How far: 0 as `cargo xtask test` looks, seconds each; 1 up to a promise's end in all, minutes to
    /// hours each; 2 and more beyond it
    #[arg(long, default_value_t = 0)]
    depth: u64,
    /// Runs only the checks whose name contains this (handover, release …)
    #[arg(long, value_name = "NAME")]
    only: Option<String>,
}

/// Runs `simulator` on this host: it touches no kernel.
pub(crate) fn sim(arguments: &SimArguments) -> Result<ExitCode, TaskError> {
    let numbers = [
        ("--seed", Some(arguments.seed)),
        ("--runs", Some(arguments.runs)),
        ("--voters", Some(arguments.voters)),
        ("--seconds", arguments.seconds),
        ("--threads", Some(arguments.threads)),
    ];
    let mut words: Vec<String> = numbers
        .into_iter()
        .filter_map(|(name, value)| Some([name.to_owned(), value?.to_string()]))
        .flatten()
        .collect();
    for (name, wanted) in [("--bare", arguments.bare), ("--trace", arguments.trace)] {
        words.extend(wanted.then(|| name.to_owned()));
    }
    // Quietly: what a seed prints is compared byte for byte.
    let built = build_command(Profile::Dev).arg("--quiet").status();
    let io = |what: &str| {
        let what = what.to_owned();
        move |source| TaskError::Io { what, source }
    };
    if !built.map_err(io("start cargo"))?.success() {
        return Err(TaskError::Build("the simulator"));
    }
    let mut command = Command::new(bin_dir(Profile::Dev).join("simulator"));
    command.args(words).status().map(exit_code).map_err(io("start simulator"))
}

/// Runs the checks of `tests/tests/ownership_check.rs`, showing how far each looked.
pub(crate) fn check(arguments: &CheckArguments) -> Result<ExitCode, TaskError> {
    let mut command = cargo(&["test", "--workspace", "--test", "ownership_check", "--"]);
    command.env("QUORATE_DEPTH", arguments.depth.to_string());
    command.args(["--nocapture", "--test-threads", "1"]);
    command.arg(arguments.only.as_deref().unwrap_or("_orde"));
    let failed = |source| TaskError::Io { what: "start cargo".to_owned(), source };
    command.status().map(exit_code).map_err(failed)
}
