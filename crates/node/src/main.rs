//! `quorated`: the daemon of a Quorate node.
#![forbid(unsafe_code)]

use std::io::IsTerminal as _;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::Parser;
use tracing::error;
use tracing_subscriber::EnvFilter;

/// The daemon of a Quorate node.
#[derive(Debug, Parser)]
#[command(version, about)]
struct Arguments {
    /// This node's configuration.
    #[arg(long, default_value = "/etc/quorate/node.toml")]
    config: PathBuf,
    /// Only check the configuration.
    #[arg(long)]
    check: bool,
}

/// EX_CONFIG of sysexits(3): systemd must not start it again.
const BAD_CONFIGURATION: u8 = 78;

/// What is logged unless `QUORATE_LOG` says otherwise. Raft's own words are for its developers.
const LOG_DEFAULT: &str = "info,openraft=warn";

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let filter =
        EnvFilter::try_from_env("QUORATE_LOG").unwrap_or_else(|_| EnvFilter::new(LOG_DEFAULT));
    tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_ansi(std::io::stderr().is_terminal())
        .with_writer(std::io::stderr)
        .init();
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
    match quorate_node::run(config) {
        Ok(()) => ExitCode::SUCCESS,
        Err(cause) => {
            error!("{cause}");
            ExitCode::FAILURE
        }
    }
}
