//! `cargo xtask`: the two commands of the README (`demo`, `test`) and their kin. Owns the command
//! line only; each command has its module. Never ships. Its tests are in the modules.
#![forbid(unsafe_code)]

mod machine;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

#[derive(Debug, Parser)]
#[command(name = "cargo xtask", about = "Tests and shows Quorate on real kernels")]
struct Arguments {
    #[command(subcommand)]
    command: Task,
}

#[derive(Debug, Subcommand)]
enum Task {
    /// Runs a command by hand on the kernel that the lab uses where the host has no IPVS
    Vm(machine::VmArguments),
}

fn main() -> ExitCode {
    let result = match Arguments::parse().command {
        Task::Vm(arguments) => machine::run_by_hand(arguments),
    };
    result.unwrap_or_else(|error| {
        quorate_tests::lab::packages::say_on_stderr(&error.to_string());
        ExitCode::FAILURE
    })
}
