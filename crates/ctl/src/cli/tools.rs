//! The arguments of what looks and explains, and of what helps at the shell: they change nothing.

use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, Subcommand, ValueEnum};

use super::duration;

/// `quorate validate`.
#[derive(Debug, Args)]
pub struct Validate {
    /// The configurations, TOML or JSON; `-` reads stdin
    #[arg(value_name = "FILE", required_unless_present = "schema")]
    pub files: Vec<String>,
    /// Print the JSON Schema of the configuration instead
    #[arg(long, conflicts_with = "files")]
    pub schema: bool,
}

/// `quorate explain`.
#[derive(Debug, Args)]
pub struct Explain {
    /// A VIP, a VIP group, a virtual service, or the address of a real server with or without port
    #[arg(value_name = "WHAT")]
    pub what: String,
}

/// `quorate history`.
#[derive(Debug, Args)]
pub struct History {
    /// The VIP group [default: all]
    #[arg(value_name = "GROUP")]
    pub group: Option<String>,
    /// Only what happened within this time before now
    #[arg(long, value_name = "DURATION", value_parser = duration)]
    pub since: Option<Duration>,
}

/// `quorate doctor`.
#[derive(Debug, Args)]
pub struct Doctor {
    /// Before Quorate runs here: ask no daemon
    #[arg(long)]
    pub pre: bool,
    /// This node's configuration
    #[arg(long, value_name = "FILE", default_value = "/etc/quorate/node.toml")]
    pub node: PathBuf,
    /// A cluster's configuration that is not in force yet, for its VIPs and modes
    #[arg(long, value_name = "FILE")]
    pub cluster: Option<PathBuf>,
}

/// `quorate watch`.
#[derive(Debug, Args)]
pub struct Watch {
    /// What is looked at
    #[arg(value_enum, default_value_t)]
    pub what: Watched,
    /// How long to wait between two looks
    #[arg(long, value_name = "DURATION", value_parser = duration, default_value = "1s")]
    pub interval: Duration,
    /// End after so many looks [default: never]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    pub count: Option<u64>,
}

/// What `quorate watch` looks at.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, ValueEnum)]
pub enum Watched {
    /// Nodes, groups and services.
    #[default]
    Status,
    /// Services and their real servers alone.
    Services,
}

/// `quorate support-bundle`.
#[derive(Debug, Args)]
pub struct SupportBundle {
    /// The archive that is written, a tar; it must not be there yet
    #[arg(value_name = "FILE")]
    pub file: PathBuf,
    /// This node's configuration
    #[arg(long, value_name = "FILE", default_value = "/etc/quorate/node.toml")]
    pub node: PathBuf,
}

/// `quorate completion`.
#[derive(Debug, Args)]
pub struct Completion {
    /// The shell
    #[arg(value_enum)]
    pub shell: Shell,
}

/// A shell whose completion can be written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Shell {
    /// GNU bash.
    Bash,
    /// The Z shell.
    Zsh,
    /// The friendly interactive shell.
    Fish,
}

/// `quorate man`.
#[derive(Debug, Args)]
pub struct Man {
    /// The folder that they are written to
    #[arg(value_name = "DIR")]
    pub directory: PathBuf,
}

/// What looks and explains.
#[derive(Debug, Subcommand)]
pub enum Tool {
    /// Check a configuration by itself, without a cluster: every error at once
    Validate(Validate),
    /// Say why a group is where it is, or why a real server is up or down: the chain of facts
    Explain(Explain),
    /// Show which director got a group when, from whom and why
    History(History),
    /// Check this machine for what a director needs; each finding comes with what mends it
    Doctor(Doctor),
    /// Show what changes in the status of the cluster or its services, as it changes
    Watch(Watch),
    /// Pack what somebody who helps needs to see, without keys, into one file
    SupportBundle(SupportBundle),
    /// Print the completion script of a shell
    Completion(Completion),
    /// Write the man pages
    #[command(hide = true)]
    Man(Man),
}
