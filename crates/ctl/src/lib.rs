//! `quorate`: the command line of a Quorate cluster.
//!
//! It speaks the public API to any node and holds no state of its own but the contexts. Data goes
//! to stdout, messages to stderr, and every way to end has an exit code (`exit`). It decides
//! nothing about the cluster. Tests: beside each module, and `tests/`, which run the real binary
//! against a node that is kept in memory.
#![forbid(unsafe_code)]

pub mod bundle;
pub mod cli;
pub mod client;
pub mod command;
pub mod context;
pub mod doctor;
pub mod exit;
pub mod explain;
pub mod history;
pub mod ipvsadm;
pub mod keepalived;
pub mod keepalived_export;
pub mod output;
mod shell;
pub mod watching;

use cli::Cli;
use client::Environment;
use exit::{Exit, Failure};
use output::Output;

/// Runs one command to its end; a failure is told on stderr.
#[must_use]
pub fn run(cli: Cli, environment: &Environment) -> Exit {
    let output = Output::new(cli.global.format);
    let ended = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|error| Failure::new(Exit::Failed, format!("cannot start: {error}")))
        .and_then(|runtime| runtime.block_on(command::run(cli, environment, &output)));
    match ended {
        Ok(exit) => exit,
        Err(failure) => {
            output.message(&failure.to_string());
            failure.exit
        }
    }
}
