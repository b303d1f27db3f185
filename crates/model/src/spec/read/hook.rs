//! `[hook.NAME]`.

use std::collections::{BTreeMap, BTreeSet};
use std::str::FromStr;
use std::time::Duration;

use crate::id::{GroupName, HookName, ServiceName};
use crate::occurrence::{HOOK_KINDS, Kind};
use crate::spec::document::{Diagnostics, Field, Named, Table};
use crate::spec::{Hook, RunOn};

use super::{HOOKS_MAX, keys, service, track};

/// Longest time that a run may take.
pub const HOOK_TIMEOUT_MAX: Duration = Duration::from_secs(3600);

const TIMEOUT_DEFAULT: Duration = Duration::from_secs(10);
/// Keepalived's words (keepalived.conf(5)).
const KINDS_FOREIGN: [(&str, &str); 9] = [
    ("notify", "owner_changed"),
    ("notify_master", "group_up"),
    ("notify_backup", "group_down"),
    ("notify_fault", "group_down"),
    ("notify_stop", "group_down"),
    ("notify_deleted", "group_down"),
    ("notify_up", "real_server_up"),
    ("notify_down", "real_server_down"),
    ("apply", "configuration_applied"),
];

/// The names of the document that a hook may give.
#[derive(Debug)]
pub(super) struct Names {
    pub(super) groups: BTreeSet<String>,
    pub(super) services: BTreeSet<String>,
}

pub(super) fn hooks(
    field: &Field<'_>,
    names: &Names,
    out: &mut Diagnostics,
) -> BTreeMap<HookName, Hook> {
    let mut hooks = BTreeMap::new();
    let named = field.named::<HookName>("a hook", out);
    if named.len() > HOOKS_MAX {
        let message = format!("{} hooks, at most {HOOKS_MAX} can be given", named.len());
        out.push(field.problem(message));
        return hooks;
    }
    for entry in named {
        let read = hook(&entry, names, out);
        if let (Some(name), Some(hook)) = (entry.name, read) {
            hooks.insert(name, hook);
        }
        if out.is_full() {
            break;
        }
    }
    hooks
}

fn hook(entry: &Named<'_, HookName>, names: &Names, out: &mut Diagnostics) -> Option<Hook> {
    let table = entry.field.table(&keys::HOOK, out)?;
    let program = track::program(&table, out);
    let timeout = table.get("timeout").map_or(Some(TIMEOUT_DEFAULT), |field| {
        let range = Duration::from_millis(1)..=HOOK_TIMEOUT_MAX;
        field.duration("the timeout of a hook", range, out)
    });
    let run_on = table.get("run_on").map_or(Some(RunOn::Owner), |field| {
        field.choice("run_on", &[("owner", RunOn::Owner), ("all", RunOn::All)], &[], out)
    });
    let groups = chosen::<GroupName>(&table, "groups", "group", &names.groups, out);
    let services = chosen::<ServiceName>(&table, "services", "service", &names.services, out);
    let limits = Limits {
        groups: table.get("groups").is_some(),
        services: table.get("services").is_some(),
        owner: run_on == Some(RunOn::Owner),
    };
    let on = kinds(&table, &limits, out);
    let (command, user) = program?;
    Some(Hook {
        on: on?,
        command,
        user,
        timeout: timeout?,
        groups: groups?,
        services: services?,
        run_on: run_on?,
    })
}

/// What a hook leaves out, so that some kinds could never come to it.
struct Limits {
    groups: bool,
    services: bool,
    owner: bool,
}

fn kinds(table: &Table<'_>, limits: &Limits, out: &mut Diagnostics) -> Option<BTreeSet<Kind>> {
    let field = table.require("on", out)?;
    let items = field.list_or_one();
    if items.is_empty() {
        let problem = field.problem("a hook that is for nothing never runs");
        out.push(problem.help("on = [\"owner_changed\"]"));
        return None;
    }
    let mut kinds = Some(BTreeSet::new());
    for item in &items {
        let kind = item.choice("event", &HOOK_KINDS, &KINDS_FOREIGN, out).filter(|kind| {
            let word = kind.word();
            let (message, help) = if limits.services && !kind.concerns_service() {
                (format!("{word} concerns no service"), "leave out `services`, or make two hooks")
            } else if limits.groups && !kind.concerns_group() {
                (format!("{word} concerns no group"), "leave out `groups`, or make two hooks")
            } else if limits.owner && !kind.concerns_group() {
                (format!("{word} concerns no group, so that it has no owner"), "run_on = \"all\"")
            } else {
                return true;
            };
            out.push(item.problem(message).help(help));
            false
        });
        kinds = kinds.zip(kind).map(|(mut kinds, kind)| {
            kinds.insert(kind);
            kinds
        });
    }
    kinds
}

/// A list of names of this document; `Some(None)` where there is no list.
fn chosen<N: FromStr + Ord>(
    table: &Table<'_>,
    key: &str,
    what: &str,
    known: &BTreeSet<String>,
    out: &mut Diagnostics,
) -> Option<Option<BTreeSet<N>>>
where
    N::Err: std::fmt::Display,
{
    let Some(list) = table.get(key) else { return Some(None) };
    let items = list.list_or_one();
    if items.is_empty() {
        let problem = list.problem(format!("a hook for no {what} never runs"));
        out.push(problem.help(format!("name one, or leave out `{key}`")));
        return None;
    }
    let mut names = Some(BTreeSet::new());
    for item in &items {
        let name = item.text(&format!("the name of a {what}"), out).and_then(|text| {
            if !known.contains(text) {
                out.push(service::unknown(&item.at, what, text, known.iter().map(String::as_str)));
                return None;
            }
            // One that is no name was refused where it stands.
            text.parse().ok()
        });
        names = names.zip(name).map(|(mut names, name)| {
            names.insert(name);
            names
        });
    }
    names.map(Some)
}
