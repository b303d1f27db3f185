//! `quorated`: the daemon of a Quorate node.
#![forbid(unsafe_code)]

use std::process::ExitCode;

use clap::Parser as _;
use quorate_node::cli::{Cli, Command};
use quorate_node::config::NodeConfig;
use quorate_node::purge::purge;
use quorate_node::recover::{Confirmation, recover};
use quorate_node::release::release;
use tracing::error;

/// EX_CONFIG of sysexits(3): systemd must not start it again.
const BAD_CONFIGURATION: u8 = 78;

fn main() -> ExitCode {
    let arguments = Cli::parse();
    let _log = quorate_node::log::start();
    quorate_node::abort_on_panic();
    let config = match quorate_node::config::load(&arguments.config) {
        Ok(config) => config,
        Err(errors) => {
            error!("\n{errors}");
            return ExitCode::from(BAD_CONFIGURATION);
        }
    };
    if arguments.check {
        return ExitCode::SUCCESS;
    }
    match arguments.command {
        None => run(config),
        Some(Command::Recover { confirm }) => {
            let confirmation = confirm.map_or(Confirmation::Terminal, Confirmation::Given);
            ended(recover(&config, &confirmation, &mut std::io::stdout()))
        }
        Some(Command::Release) => ended(release(&config)),
        Some(Command::Purge) => ended(purge(&config, &mut std::io::stdout())),
    }
}

fn run(config: NodeConfig) -> ExitCode {
    match quorate_node::run(config) {
        Err(cause) if cause.is_final() => {
            error!("{cause}");
            ExitCode::from(BAD_CONFIGURATION)
        }
        outcome => ended(outcome),
    }
}

fn ended<E: std::fmt::Display>(outcome: Result<(), E>) -> ExitCode {
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(cause) => {
            error!("{cause}");
            ExitCode::FAILURE
        }
    }
}
