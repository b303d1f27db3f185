//! `cargo xtask test`: every check and test, each step with its time, a table at the end. Owns
//! the order of the steps. A failed step stops none of the others. Tried by running it.

use std::process::{Command, ExitCode};

use clap::Args;
use quorate_tests::lab::clock::Stopwatch;

use crate::count::Count;
use crate::report::{Outcome, Report, Step, say};
use crate::run::{cargo, has_cargo, shown};
use crate::{TaskError, lab_tests};

/// What to test.
#[derive(Debug, Args)]
pub(crate) struct TestArguments {
    /// Leaves out what needs root, namespaces or IPVS
    #[arg(long)]
    no_lab: bool,
    /// Runs only the steps whose name contains this (fmt, clippy, doc, tests, lab_host_network …)
    #[arg(long, value_name = "NAME")]
    only: Option<String>,
}

impl TestArguments {
    /// Whether only a part was asked for.
    pub(crate) fn is_partial(&self) -> bool {
        self.only.is_some()
    }

    /// Whether a step is to be run.
    pub(crate) fn wants(&self, step: &str) -> bool {
        self.only.as_ref().is_none_or(|only| step.contains(only.as_str()))
    }
}

/// Runs the steps; fails when one of them did.
pub(crate) fn run(arguments: &TestArguments) -> Result<ExitCode, TaskError> {
    let ci = std::env::var("CI").is_ok_and(|ci| ci == "true");
    let mut report = Report::default();
    for (name, mut command) in checks() {
        if arguments.wants(name) {
            report.add(step(name, &mut command)?);
        }
    }
    if arguments.no_lab {
        report.add(skipped("lab", "--no-lab"));
    } else {
        lab_tests::run(arguments, &mut report)?;
    }
    say(&format!("\n{}", report.table(ci)));
    Ok(if report.succeeded(ci) { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// The steps that need no root.
fn checks() -> Vec<(&'static str, Command)> {
    let mut doc = cargo(&["doc", "--workspace", "--no-deps"]);
    doc.env("RUSTDOCFLAGS", "-D warnings");
    let tests = if has_cargo("nextest") {
        cargo(&["nextest", "run", "--workspace", "--no-fail-fast", "--failure-output=final"])
    } else {
        cargo(&["test", "--workspace", "--all-targets", "--no-fail-fast"])
    };
    let clippy = ["clippy", "--workspace", "--all-targets", "--", "-D", "warnings"];
    // Targets that an ordinary `cargo test` leaves out are left out of --all-targets too.
    let lab = ["clippy", "--workspace", "--test", "lab_*", "--", "-D", "warnings"];
    vec![
        ("fmt", cargo(&["fmt", "--all", "--check"])),
        ("clippy", cargo(&clippy)),
        ("clippy of the lab", cargo(&lab)),
        ("doc", doc),
        ("tests", tests),
        ("doctests", cargo(&["test", "--workspace", "--doc"])),
    ]
}

/// Runs a command as a step, showing its output.
pub(crate) fn step(name: &str, command: &mut Command) -> Result<Step, TaskError> {
    say(&format!("=== {name}"));
    let stopwatch = Stopwatch::start();
    let (status, output) = shown(command)?;
    Ok(Step {
        name: name.to_owned(),
        outcome: if status.success() { Outcome::Passed } else { Outcome::Failed },
        count: Count::read(&output),
        took: stopwatch.elapsed(),
        output,
    })
}

/// A step that is not run, with the reason for a person to see.
pub(crate) fn skipped(name: &str, reason: &'static str) -> Step {
    Step {
        name: name.to_owned(),
        outcome: Outcome::Skipped(reason),
        count: Count::default(),
        took: std::time::Duration::ZERO,
        output: String::new(),
    }
}
