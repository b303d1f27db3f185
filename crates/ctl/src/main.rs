//! Entry point of `quorate`: reads the arguments, runs the command, ends with its exit code.
//! Everything else is in the library beside it.
#![forbid(unsafe_code)]

use std::process::ExitCode;

use clap::Parser as _;
use quorate_ctl::cli::Cli;
use quorate_ctl::client::Environment;

fn main() -> ExitCode {
    // clap prints its own usage errors (exit code 2), help and version (0).
    let cli = Cli::parse();
    quorate_ctl::run(cli, &Environment::of_process()).into()
}
