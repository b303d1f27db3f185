//! `quorate apply`, `confirm`, `abort` and `config`: the configuration as a whole.

use std::time::Duration;

use clap::{Args, Subcommand};
use quorate_model::state::{CONFIRM_MAX, CONFIRM_MIN, MESSAGE_BYTES_MAX, is_message};

use super::duration;

/// What a change of the configuration has to be confirmed in if no time is given.
const CONFIRM_DEFAULT: &str = "5m";

pub(super) const APPLY_EXAMPLES: &str = "Examples:\n  quorate apply lvs.toml --expect-revision 118 -m \"add .14\"\n  \
    quorate apply lvs.toml --confirm 5m && curl -fsS http://203.0.113.10/ && quorate confirm\n\nWith --confirm \
    the cluster itself goes back to the configuration before unless `quorate confirm` comes in time, whoever \
    leads it then. The same file again with --confirm gives it that time anew.";
pub(super) const CONFIRM_EXAMPLES: &str =
    "Examples:\n  quorate confirm\n  quorate confirm --revision 119";
pub(super) const ABORT_EXAMPLES: &str = "Examples:\n  quorate abort\n  quorate abort --yes";

/// `quorate apply`.
#[derive(Debug, Args)]
pub struct Apply {
    /// The configuration, TOML or JSON; `-` reads stdin
    pub file: String,
    /// Refuse (exit code 6) unless this revision is in force
    #[arg(long, value_name = "N")]
    pub expect_revision: Option<u64>,
    /// Take only this of FILE, such as group/web or service/web, and leave the rest as it is in force;
    /// repeatable
    #[arg(long, value_name = "KIND/NAME", value_parser = part)]
    pub only: Vec<Part>,
    /// What is said of the change, and how it is made.
    #[command(flatten)]
    pub how: How,
    /// Have the cluster check everything, and change nothing
    #[arg(long)]
    pub dry_run: bool,
}

/// How the configuration is changed.
#[derive(Debug, Clone, Args)]
pub struct How {
    /// The cluster goes back by itself unless `quorate confirm` comes within this time, 1s to 24h
    /// [default: 5m]
    #[arg(long, value_name = "DURATION", value_parser = confirm_within)]
    #[arg(num_args = 0..=1, default_missing_value = CONFIRM_DEFAULT)]
    pub confirm: Option<Duration>,
    /// What the history says of it: one line
    #[arg(long, short, value_name = "TEXT", value_parser = message, default_value = "")]
    #[arg(hide_default_value = true)]
    pub message: String,
    /// Don't ask before something is removed or moved
    #[arg(long, short)]
    pub yes: bool,
    /// Return once it is in force, before every director's kernel holds it
    #[arg(long)]
    pub no_wait: bool,
}

/// `quorate confirm`.
#[derive(Debug, Args)]
pub struct Confirm {
    /// The revision that stays [default: the one that waits to be confirmed]
    #[arg(long, value_name = "N")]
    pub revision: Option<u64>,
}

/// `quorate abort`.
#[derive(Debug, Args)]
pub struct Abort {
    /// The revision that is rolled back [default: the one that waits to be confirmed]
    #[arg(long, value_name = "N")]
    pub revision: Option<u64>,
    /// Don't ask before something is removed or moved
    #[arg(long, short)]
    pub yes: bool,
}

/// `quorate config`.
#[derive(Debug, Subcommand)]
pub enum Config {
    /// Print the configuration in force, or one before it, as it was applied
    #[command(after_help = "Example:\n  quorate config get > lvs.toml")]
    Get(ConfigGet),
    /// List the last revisions: who applied them when, and what became of them
    #[command(after_help = "Example:\n  quorate config history")]
    History,
    /// Print a revision as it was applied, and say on stderr who applied it
    #[command(after_help = "Example:\n  quorate config show 117")]
    Show(ConfigShow),
    /// Apply the text of an earlier revision again, as a new one
    #[command(after_help = "Example:\n  quorate config rollback 117 --confirm 5m")]
    Rollback(ConfigRollback),
}

/// `quorate config get`.
#[derive(Debug, Args)]
pub struct ConfigGet {
    /// The revision [default: the one in force]
    #[arg(long, value_name = "N")]
    pub revision: Option<u64>,
}

/// `quorate config show`.
#[derive(Debug, Args)]
pub struct ConfigShow {
    /// The revision
    #[arg(value_name = "N")]
    pub revision: u64,
}

/// `quorate config rollback`.
#[derive(Debug, Args)]
pub struct ConfigRollback {
    /// The revision whose text is applied again
    #[arg(value_name = "N")]
    pub revision: u64,
    /// What is said of the change, and how it is made.
    #[command(flatten)]
    pub how: How,
}

/// A part of a configuration.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Part {
    /// `group` or `service`.
    pub kind: &'static str,
    /// Its name.
    pub name: String,
}

/// Reads `group/web` or `service/web`.
fn part(text: &str) -> Result<Part, String> {
    let wrong = || format!("{text:?} is no part: write group/NAME or service/NAME");
    let (kind, name) = text.split_once('/').ok_or_else(wrong)?;
    let kind = ["group", "service"].into_iter().find(|known| *known == kind).ok_or_else(wrong)?;
    if name.is_empty() {
        return Err(wrong());
    }
    Ok(Part { kind, name: name.to_owned() })
}

/// Reads a time to confirm a configuration in.
fn confirm_within(text: &str) -> Result<Duration, String> {
    let within = duration(text)?;
    if (CONFIRM_MIN..=CONFIRM_MAX).contains(&within) {
        return Ok(within);
    }
    Err("the time to confirm it in is 1s to 24h".to_owned())
}

/// Reads what is said of a change.
fn message(text: &str) -> Result<String, String> {
    if is_message(text) {
        return Ok(text.to_owned());
    }
    Err(format!("it is one line of {MESSAGE_BYTES_MAX} bytes at most"))
}

#[cfg(test)]
mod tests {
    use clap::Parser as _;

    use super::super::{Cli, Command};
    use super::*;

    fn how(arguments: &[&str]) -> Option<How> {
        let all = ["quorate", "apply", "web.toml"].iter().chain(arguments);
        match Cli::try_parse_from(all).ok()?.command {
            Command::Apply(apply) => Some(apply.how),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn the_time_to_confirm_in_is_given_or_five_minutes() {
        let confirm = |arguments: &[&str]| how(arguments).map(|how| how.confirm);
        assert_eq!(confirm(&[]), Some(None));
        assert_eq!(confirm(&["--confirm"]), Some(Some(Duration::from_secs(300))));
        assert_eq!(confirm(&["--confirm", "20s"]), Some(Some(Duration::from_secs(20))));
        assert_eq!(confirm(&["--confirm=24h", "--yes"]), Some(Some(CONFIRM_MAX)));
        for bad in ["999ms", "25h", "0s", "soon"] {
            assert_eq!(confirm(&["--confirm", bad]), None, "{bad} passed");
        }
    }

    #[test]
    fn a_part_is_a_group_or_a_service() {
        assert_eq!(part("group/web"), Ok(Part { kind: "group", name: "web".to_owned() }));
        assert_eq!(part("service/a-b").map(|part| part.kind), Ok("service"));
        for bad in ["web", "group/", "hook/page", "cluster", "/web"] {
            assert!(part(bad).is_err(), "{bad} passed");
        }
    }

    #[test]
    fn a_message_is_one_line() {
        assert_eq!(how(&["-m", "add .14"]).map(|how| how.message).as_deref(), Some("add .14"));
        assert!(how(&["-m", "a\nb"]).is_none());
    }
}
