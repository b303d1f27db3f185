//! `[hook.NAME]` as types: a program that directors run when something happened. What happens is in
//! `crate::occurrence`; who runs it is `node`.

use std::collections::BTreeSet;
use std::fmt;
use std::time::Duration;

use super::document::duration_text;
use crate::id::{GroupName, ServiceName};
use crate::occurrence::{Kind, Told};

/// A program that is run when something happened.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Hook {
    /// What it is run for; never empty.
    pub on: BTreeSet<Kind>,
    /// Absolute path and arguments; never empty. It is started as it is, by no shell.
    pub command: Vec<String>,
    /// Who runs it; left out, nobody where the daemon is root, and else the daemon's own user.
    pub user: Option<String>,
    /// How long a run may take.
    pub timeout: Duration,
    /// If given, it is run for these groups alone.
    pub groups: Option<BTreeSet<GroupName>>,
    /// If given, it is run for these services alone.
    pub services: Option<BTreeSet<ServiceName>>,
    /// Which directors run it.
    pub run_on: RunOn,
}

/// Which directors run a hook.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum RunOn {
    /// The owner of the group that it concerns.
    #[default]
    Owner,
    /// Each that tells what happened.
    All,
}

impl Hook {
    /// Whether the director that tells this runs it.
    #[must_use]
    pub fn wants(&self, Told { occurrence, mine }: &Told) -> bool {
        let named = |wanted: bool| self.on.contains(&occurrence.kind) && wanted;
        let groups = self.groups.as_ref().is_none_or(|groups| {
            occurrence.group.as_ref().is_some_and(|group| groups.contains(group))
        });
        let services = self.services.as_ref().is_none_or(|services| {
            occurrence.service.as_ref().is_some_and(|service| services.contains(service))
        });
        named(groups && services) && (*mine || self.run_on == RunOn::All)
    }
}

impl fmt::Display for RunOn {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Owner => "owner",
            Self::All => "all",
        })
    }
}

impl fmt::Display for Hook {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let words: Vec<&str> = self.on.iter().map(|kind| kind.word()).collect();
        write!(f, "{} on {}", self.command.join(" "), words.join(", "))?;
        if let Some(user) = &self.user {
            write!(f, " as {user}")?;
        }
        if let Some(groups) = &self.groups {
            let names: Vec<&str> = groups.iter().map(GroupName::as_str).collect();
            write!(f, " of groups {}", names.join(", "))?;
        }
        if let Some(services) = &self.services {
            let names: Vec<&str> = services.iter().map(ServiceName::as_str).collect();
            write!(f, " of services {}", names.join(", "))?;
        }
        write!(f, " timeout {} run_on {}", duration_text(self.timeout), self.run_on)
    }
}
