//! The arguments of `quorate realserver`.

use std::net::IpAddr;
use std::time::Duration;

use clap::{Args, Subcommand, ValueEnum};

use super::duration;

/// `quorate realserver`.
#[derive(Debug, Subcommand)]
pub enum Realserver {
    /// Put the VIPs on lo and keep them out of ARP; repeating it changes nothing
    Setup(RealserverTarget),
    /// Say what is missing (exit code 1), change nothing
    Check(RealserverTarget),
    /// Take back what `setup` did
    Undo(RealserverTarget),
    /// Give a real server no new connection, on every director, until `enable`
    Drain(Drain),
    /// Give a real server another weight than the configured one, on every director, until `enable`
    Weight(Weight),
    /// Take `drain` and `weight` back: the configured weight counts again
    Enable(Enable),
}

/// Which real servers are meant.
#[derive(Debug, Args)]
pub struct Meant {
    /// Its address, with or without port
    #[arg(value_name = "ADDRESS")]
    pub server: String,
    /// Only in this virtual service [default: in all that have it]
    #[arg(long, value_name = "NAME")]
    pub service: Option<String>,
}

/// `quorate realserver drain`.
#[derive(Debug, Args)]
pub struct Drain {
    /// Which.
    #[command(flatten)]
    pub server: Meant,
    /// End it by itself after so long
    #[arg(long, value_name = "DURATION", value_parser = duration)]
    pub ttl: Option<Duration>,
    /// Wait until its connections have ended, so long at most [default: 5m]
    #[arg(long, value_name = "DURATION", value_parser = duration)]
    #[arg(num_args = 0..=1, require_equals = true, default_missing_value = "5m")]
    pub wait: Option<Duration>,
    /// Don't ask
    #[arg(long, short)]
    pub yes: bool,
}

/// `quorate realserver weight`.
#[derive(Debug, Args)]
pub struct Weight {
    /// Which.
    #[command(flatten)]
    pub server: Meant,
    /// The weight; 0 takes no new connection
    #[arg(value_parser = clap::value_parser!(u32).range(0..=65_535))]
    pub weight: u32,
    /// End it by itself after so long
    #[arg(long, value_name = "DURATION", value_parser = duration)]
    pub ttl: Option<Duration>,
    /// Don't ask
    #[arg(long, short)]
    pub yes: bool,
}

/// `quorate realserver enable`.
#[derive(Debug, Args)]
pub struct Enable {
    /// Which.
    #[command(flatten)]
    pub server: Meant,
}

/// What every `quorate realserver` command takes.
#[derive(Debug, Args)]
pub struct RealserverTarget {
    /// A VIP of the virtual services that this real server takes traffic of; several may be given
    #[arg(long, value_name = "ADDRESS", required = true, num_args = 1.., value_delimiter = ',')]
    pub vip: Vec<IpAddr>,
    /// How the director forwards to this real server
    #[arg(long, value_enum, ignore_case = true, default_value_t)]
    pub mode: RealserverMode,
}

/// How a director forwards to a real server that carries the VIP itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, ValueEnum)]
#[value(rename_all = "UPPER")]
pub enum RealserverMode {
    /// Direct routing.
    #[default]
    Dr,
    /// IP-in-IP tunnel.
    Tun,
}
