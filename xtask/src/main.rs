//! `cargo xtask`: the two commands of the README (`demo`, `test`) and their kin. Owns the command
//! line only; each command has its module. Never ships. Its tests are in the modules.
#![forbid(unsafe_code)]

mod bpf;
mod count;
mod lab_tests;
mod machine;
mod programs;
mod report;
mod run;
mod simulate;
mod test;

use std::process::ExitCode;

use clap::{Parser, Subcommand};
use quorate_tests::lab::LabError;

#[derive(Debug, Parser)]
#[command(name = "cargo xtask", about = "Tests Quorate, and shows it, on real kernels")]
struct Arguments {
    #[command(subcommand)]
    task: Task,
}

#[derive(Debug, Subcommand)]
enum Task {
    /// Runs every check and test: formatting, lints, documentation, tests, then the lab
    Test(test::TestArguments),
    /// Shows three directors serve a deployment, and survive the loss of its owner
    Demo(programs::DemoArguments),
    /// Faults at random points, round after round: `writes` (the default) or `failover`
    Soak(programs::SoakArguments),
    /// Measures, and prints what was measured beside the budgets
    Bench(programs::BenchArguments),
    /// Runs the simulator; the same seed gives the same run, byte for byte
    Sim(simulate::SimArguments),
    /// Tries every order of events of the ownership protocol, within bounds
    Check(simulate::CheckArguments),
    /// Builds the fence's program for the kernel anew, with clang
    Bpf,
    /// Runs a command by hand in the virtual machine that hosts without IPVS use
    Vm(machine::VmArguments),
}

/// Why a task could not be carried out.
#[derive(Debug, thiserror::Error)]
enum TaskError {
    #[error(transparent)]
    Lab(#[from] LabError),
    #[error("cannot {what}: {source}")]
    Io { what: String, source: std::io::Error },
    #[error("{0} needs root: it makes network namespaces on this host")]
    NotRoot(&'static str),
    #[error("cargo could not build {0}")]
    Build(&'static str),
    #[error("there is no {0}: it is built from a binary of that name in package quorate-tests")]
    NoProgram(String),
}

fn main() -> ExitCode {
    let result = match Arguments::parse().task {
        Task::Test(arguments) => test::run(&arguments),
        Task::Demo(arguments) => programs::demo(&arguments),
        Task::Soak(arguments) => programs::soak(&arguments),
        Task::Bench(arguments) => programs::bench(&arguments),
        Task::Sim(arguments) => simulate::sim(&arguments),
        Task::Check(arguments) => simulate::check(&arguments),
        Task::Bpf => bpf::run(),
        Task::Vm(arguments) => machine::run_by_hand(arguments),
    };
    result.unwrap_or_else(|error| {
        report::complain(&format!("xtask: {error}"));
        ExitCode::FAILURE
    })
}
