//! The arguments of `quorate`, as clap reads them. Their reference is
//! `docs/reference/command-line.md`; `tests/reference.rs` compares the two.

use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, Parser, Subcommand, ValueEnum};

mod configuration;
mod examples;
mod export;
mod keepalived;
mod realserver;
mod tools;

pub use configuration::{
    Abort, Apply, Config, ConfigGet, ConfigRollback, ConfigShow, Confirm, How, Part,
};
pub use examples::command;
pub use export::ExportKeepalived;
use keepalived::IMPORT_KEEPALIVED_EXAMPLES;
pub use keepalived::{ImportKeepalived, arguments};
pub use realserver::{Drain, Enable, Meant, Realserver, RealserverMode, RealserverTarget, Weight};
pub use tools::{
    Completion, Doctor, Explain, History, Man, Shell, SupportBundle, Tool, Validate, Watch, Watched,
};

/// The command line of a Quorate cluster.
#[derive(Debug, Parser)]
#[command(name = "quorate", version, about, max_term_width = 100)]
#[command(
    after_help = "Exit codes: 0 ok, 1 failed or refused, 2 usage, 3 degraded, 4 no endpoint \
    reachable, 5 no quorum, 6 conflict, 7 timed out with the outcome unknown, 10 differences \
    (diff --detailed-exitcode).\n\nThe cluster is found by --endpoint or --socket, else \
    QUORATE_ENDPOINT, else a context, else the local socket (QUORATE_SOCKET)."
)]
pub struct Cli {
    /// What every command takes.
    #[command(flatten)]
    pub global: Global,
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// What every command takes.
#[derive(Debug, Clone, Args)]
pub struct Global {
    /// A node to ask, HOST:PORT or unix:PATH; several may be given, the first that answers is
    /// asked [env: QUORATE_ENDPOINT]
    #[arg(long, global = true, value_name = "ENDPOINT", value_delimiter = ',')]
    pub endpoint: Vec<String>,
    /// The context whose endpoints and certificate to use
    #[arg(long, global = true, value_name = "NAME")]
    pub context: Option<String>,
    /// The socket of the daemon on this machine [env: QUORATE_SOCKET] [default:
    /// /run/quorate/quorate.sock]
    #[arg(long, global = true, value_name = "PATH")]
    pub socket: Option<PathBuf>,
    /// How stdout is written
    #[arg(short = 'o', long = "format", global = true, value_enum, default_value_t)]
    pub format: Format,
    /// How long to wait for each endpoint's answer, such as 10s or 2m [default: 10s to read, 30s
    /// to change something, 5m to join or remove a node]
    #[arg(long, global = true, value_name = "DURATION", value_parser = duration)]
    pub timeout: Option<Duration>,
}

/// How stdout is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, ValueEnum)]
pub enum Format {
    /// Aligned text for people.
    #[default]
    Table,
    /// JSON for programs; its keys are a promise.
    Json,
    /// A line for a monitoring system, with its exit codes (of `doctor` alone).
    Nagios,
}

/// The commands.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Make a new cluster whose first node is this one
    Init(Init),
    /// Make join tokens
    #[command(subcommand)]
    Token(Token),
    /// Make this node join a cluster; returns once it is a voter
    Join(Join),
    /// Manage the clusters that this user knows
    #[command(subcommand)]
    Context(Context),
    /// Replace the cluster's configuration
    #[command(after_help = configuration::APPLY_EXAMPLES)]
    Apply(Apply),
    /// Keep a configuration that was applied with --confirm
    #[command(after_help = configuration::CONFIRM_EXAMPLES)]
    Confirm(Confirm),
    /// Go back at once to the configuration before one that was applied with --confirm
    #[command(after_help = configuration::ABORT_EXAMPLES)]
    Abort(Abort),
    /// Show the last revisions of the configuration, and go back to one
    #[command(subcommand)]
    Config(Config),
    /// Show what `apply` would change
    Diff(Diff),
    /// Show the cluster's health, nodes and VIP groups
    Status(Status),
    /// Show virtual services and real servers in the shape of `ipvsadm -ln`
    Services(Services),
    /// Show some connections of a virtual service, in the shape of `ipvsadm -Lnc`
    Connections(Connections),
    /// Show what happened, as the node that is asked came to know of it
    Events(Events),
    /// Print the configuration in force, as it was applied or for another program
    #[command(subcommand)]
    Export(Export),
    /// Make a configuration of another program's tables
    #[command(subcommand)]
    Import(Import),
    /// Move a VIP group to another director and pin it there
    Transfer(Transfer),
    /// Make a director give its groups away and take none; returns once it owns nothing that can
    /// move
    Evacuate(Evacuate),
    /// Let an evacuated director own groups again
    Restore(Restore),
    /// From now on no group moves by itself: no failover, no return to a preferred director
    Pause,
    /// Groups move by themselves again
    Resume,
    /// List and remove nodes
    #[command(subcommand)]
    Node(Node),
    /// Drain real servers and weigh them, or set this machine up as one (DR or TUN)
    #[command(subcommand)]
    Realserver(Realserver),
    /// Looks, explains, helps.
    #[command(flatten)]
    Tool(Tool),
    /// Print the version of this program
    Version,
}

/// `quorate init`.
#[derive(Debug, Args)]
pub struct Init {
    /// The cluster's name
    #[arg(long)]
    pub name: String,
    /// The cluster's timing [default: lan]
    #[arg(long, value_enum)]
    pub timing: Option<Timing>,
}

/// Timing profiles (design §3).
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Timing {
    /// Lease 250 ms, renewed every 25 ms.
    Fast,
    /// Lease 500 ms, renewed every 50 ms.
    Lan,
    /// Lease 3 s, renewed every 300 ms.
    Wan,
}

/// `quorate token`.
#[derive(Debug, Subcommand)]
pub enum Token {
    /// Print a single-use join token, alone on stdout
    Create,
}

/// `quorate join`.
#[derive(Debug, Args)]
pub struct Join {
    /// The token that `quorate token create` printed on a member; `-` reads it from stdin
    pub token: String,
}

/// `quorate context`.
#[derive(Debug, Subcommand)]
pub enum Context {
    /// Make a key here, have it certified by the cluster, and store both as a context
    Create(ContextCreate),
    /// List the contexts
    List,
    /// Choose the context that is used when none is named
    Use(ContextUse),
}

/// `quorate context create`.
#[derive(Debug, Args)]
pub struct ContextCreate {
    /// The context's name; the certificate carries it too
    pub name: String,
    /// Write DIR/config.toml, to be carried to another machine, in place of this user's own
    #[arg(long = "output", value_name = "DIR")]
    pub directory: Option<PathBuf>,
}

/// `quorate context use`.
#[derive(Debug, Args)]
pub struct ContextUse {
    /// The context's name
    pub name: String,
}

/// `quorate diff`.
#[derive(Debug, Args)]
pub struct Diff {
    /// The configuration, TOML or JSON; `-` reads stdin
    pub file: String,
    /// End with exit code 10 if there are differences
    #[arg(long)]
    pub detailed_exitcode: bool,
}

/// `quorate status`.
#[derive(Debug, Args)]
pub struct Status {
    /// Wait until the cluster is healthy and every group's owner holds its lease [default: 5m]
    #[arg(long, value_name = "DURATION", value_parser = duration)]
    #[arg(num_args = 0..=1, require_equals = true, default_missing_value = "5m")]
    pub wait: Option<Duration>,
    /// Without services: cheap however many there are, for whoever asks often
    #[arg(long)]
    pub brief: bool,
}

/// `quorate services`.
#[derive(Debug, Args)]
#[command(args_conflicts_with_subcommands = true)]
pub struct Services {
    /// What to do with them; nothing: show them.
    #[command(subcommand)]
    pub action: Option<ServicesAction>,
    /// Only the virtual service of this name
    pub name: Option<String>,
    /// Show connections, packets and bytes since each was made
    #[arg(long, conflicts_with = "rate")]
    pub stats: bool,
    /// Show connections, packets and bytes per second
    #[arg(long)]
    pub rate: bool,
    /// Show numbers in full, without K, M, G
    #[arg(long)]
    pub exact: bool,
}

/// `quorate services ACTION`.
#[derive(Debug, Subcommand)]
pub enum ServicesAction {
    /// Delete every virtual service from the configuration, and so from every director's kernel, as
    /// `ipvsadm -C` does; groups stay
    Clear(ServicesClear),
}

/// `quorate services clear`.
#[derive(Debug, Args)]
pub struct ServicesClear {
    /// Don't ask
    #[arg(long, short)]
    pub yes: bool,
}

/// `quorate connections`.
#[derive(Debug, Args)]
pub struct Connections {
    /// The virtual service
    pub service: String,
    /// Show so many at most, up to 10000
    #[arg(long, value_name = "N", default_value_t = 100)]
    #[arg(value_parser = clap::value_parser!(u32).range(1..=10_000))]
    pub limit: u32,
}

/// `quorate events`.
#[derive(Debug, Args)]
pub struct Events {
    /// Go on with what happens from now on
    #[arg(long, short)]
    pub follow: bool,
    /// Only what happened within this time before now
    #[arg(long, value_name = "DURATION", value_parser = duration)]
    pub since: Option<Duration>,
    /// Only what follows the event of this sequence
    #[arg(long, value_name = "SEQUENCE")]
    pub after: Option<u64>,
}

/// `quorate export`.
#[derive(Debug, Subcommand)]
pub enum Export {
    /// As it was applied
    Config,
    /// As `ipvsadm-save -n` writes a table, for `ipvsadm-restore`: every real server, up or down
    Ipvsadm,
    /// As the keepalived.conf of one director: the way back to Keepalived
    Keepalived(ExportKeepalived),
}

/// `quorate import`.
#[derive(Debug, Subcommand)]
pub enum Import {
    /// What `ipvsadm-save -n` wrote; the configuration goes to stdout, and nothing is applied
    Ipvsadm(ImportIpvsadm),
    /// keepalived.conf with what it includes, of one director or of several, a file each
    #[command(after_help = IMPORT_KEEPALIVED_EXAMPLES)]
    Keepalived(ImportKeepalived),
}

/// `quorate import ipvsadm`.
#[derive(Debug, Args)]
pub struct ImportIpvsadm {
    /// The file; `-` reads stdin
    pub file: String,
    /// The name of the VIP group that all addresses go to
    #[arg(long, value_name = "NAME", default_value = "imported")]
    pub group: String,
    /// The interface of its addresses, by the name that every node.toml maps
    #[arg(long, value_name = "NAME", default_value = "public")]
    pub interface: String,
    /// What a firewall mark stands for, such as 7=tcp/192.0.2.80:80,tcp/192.0.2.80:8000-8099; repeatable
    #[arg(long, value_name = "MARK=LISTEN", value_parser = mark)]
    pub mark: Vec<(u32, Vec<String>)>,
}

/// Reads `7=tcp/192.0.2.80:80,udp/192.0.2.80:53`.
fn mark(text: &str) -> Result<(u32, Vec<String>), String> {
    let wrong = || format!("{text:?} is no mark with addresses: write it like 7=tcp/192.0.2.80:80");
    let (mark, listen) = text.split_once('=').ok_or_else(wrong)?;
    let mark = mark.parse().map_err(|_| wrong())?;
    Ok((mark, listen.split(',').map(str::to_owned).collect()))
}

/// `quorate transfer`.
#[derive(Debug, Args)]
pub struct Transfer {
    /// The VIP group
    pub group: String,
    /// The director that gets it [default: the best other one]
    #[arg(long, value_name = "NODE", conflicts_with = "auto")]
    pub to: Option<String>,
    /// Unpin the group: placement is automatic again
    #[arg(long)]
    pub auto: bool,
    /// Don't ask
    #[arg(long, short)]
    pub yes: bool,
}

/// `quorate evacuate`.
#[derive(Debug, Args)]
pub struct Evacuate {
    /// The director
    pub node: String,
    /// How long to wait for its groups to move
    #[arg(long, value_name = "DURATION", value_parser = duration, default_value = "1m")]
    pub wait: Duration,
    /// Don't ask
    #[arg(long, short)]
    pub yes: bool,
}

/// `quorate restore`.
#[derive(Debug, Args)]
pub struct Restore {
    /// The director
    pub node: String,
}

/// `quorate node`.
#[derive(Debug, Subcommand)]
pub enum Node {
    /// List the nodes
    List,
    /// Remove a node from the cluster, at once and for good
    Remove(NodeRemove),
}

/// `quorate node remove`.
#[derive(Debug, Args)]
pub struct NodeRemove {
    /// The node's name
    pub name: String,
    /// Don't ask
    #[arg(long, short)]
    pub yes: bool,
}

/// Reads a duration such as `500ms`, `10s`, `5m` or `1h30m`.
fn duration(text: &str) -> Result<Duration, String> {
    let wrong = || format!("{text:?} is no duration above zero: write it like 500ms, 10s or 5m");
    let signed: jiff::SignedDuration = text.parse().map_err(|_| wrong())?;
    let length = Duration::try_from(signed).map_err(|_| wrong())?;
    if length.is_zero() { Err(wrong()) } else { Ok(length) }
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory as _;

    use super::*;

    #[test]
    fn the_arguments_do_not_contradict_each_other() {
        Cli::command().debug_assert();
    }

    #[test]
    fn a_duration_is_read_as_people_write_it() {
        assert_eq!(duration("500ms"), Ok(Duration::from_millis(500)));
        assert_eq!(duration("1h30m"), Ok(Duration::from_secs(5_400)));
        for bad in ["", "5", "-5s", "0s", "soon"] {
            assert!(duration(bad).is_err(), "{bad:?} passed");
        }
    }

    #[test]
    fn wait_takes_a_duration_only_after_an_equals_sign() {
        let wait = |arguments: &[&str]| match Cli::try_parse_from(arguments).unwrap().command {
            Command::Status(status) => status.wait,
            other => panic!("{other:?}"),
        };
        assert_eq!(wait(&["quorate", "status"]), None);
        assert_eq!(wait(&["quorate", "status", "--wait"]), Some(Duration::from_secs(300)));
        assert_eq!(wait(&["quorate", "status", "--wait=20s"]), Some(Duration::from_secs(20)));
    }
}
