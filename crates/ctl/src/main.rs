//! Entry point of `quorate`: reads the arguments, runs the command, ends with its exit code.
//! Everything else is in the library beside it.
#![forbid(unsafe_code)]

use std::process::ExitCode;

use clap::FromArgMatches as _;
use quorate_ctl::cli::{self, Cli};
use quorate_ctl::client::Environment;

fn main() -> ExitCode {
    // clap prints its own usage errors (exit code 2), help and version (0).
    let arguments = cli::arguments(std::env::args_os());
    let matches = cli::command().get_matches_from(arguments);
    let cli = Cli::from_arg_matches(&matches).unwrap_or_else(|error| error.exit());
    quorate_ctl::run(cli, &Environment::of_process()).into()
}
