//! What `quorated` is called with. docs/reference/daemon.md says the same; a test compares.

use std::path::PathBuf;

use clap::{Parser, Subcommand};

/// The daemon of a Quorate node.
#[derive(Debug, Parser)]
#[command(name = "quorated", version, about)]
pub struct Cli {
    /// This node's configuration.
    #[arg(long, global = true, default_value = "/etc/quorate/node.toml")]
    pub config: PathBuf,
    /// Only check the configuration.
    #[arg(long)]
    pub check: bool,
    /// What to do instead of running the daemon.
    #[command(subcommand)]
    pub command: Option<Command>,
}

/// What `quorated` does with the daemon stopped.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Make a new cluster of what this node has, where a majority of the voters is lost for good.
    Recover {
        /// What would have to be typed at the terminal, to the letter; for scripts.
        #[arg(long, value_name = "PHRASE")]
        confirm: Option<String>,
    },
    /// Release what a dead daemon held: close its VIPs, and tell the voters (ExecStopPost).
    Release,
    /// Take all that is Quorate's out of the kernel: VIPs, services, the fence.
    Purge,
}
