//! `notify` and its kin to hooks.

use super::ir::{Group, Hook};
use super::report::{Report, clean};
use super::side::Known;
use super::tree::Node;
use super::values::{bad, command, command_line, shell_line};
use crate::shell;

/// Words that are arguments of scripts, where people forgot the quotes; none is a user's name.
const ARGUMENTS: [&str; 12] = [
    "master", "backup", "fault", "stop", "up", "down", "MASTER", "BACKUP", "FAULT", "STOP",
    "start", "notify",
];

/// The program that a keyword names, and who runs it.
pub(super) fn program(
    node: &Node,
    known: &Known<'_>,
    report: &mut Report,
) -> Option<(Vec<String>, Option<String>)> {
    let arguments = |text: &str| {
        ARGUMENTS.contains(&text)
            || text.contains(['/', '-', '=', '.', ':'])
            || text.parse::<i64>().is_ok()
    };
    let loose = node.words.len() > 4
        || node.words.get(1).is_some_and(|word| !word.quoted) && node.args().skip(1).any(arguments);
    let run = if loose {
        let what = "words behind the program without quotes around it all: Keepalived takes them for user \
                    and group, here they are arguments";
        report.warn(node.place, node.keyword(), what);
        command(node.words.get(1..).unwrap_or_default())
    } else {
        command_line(node.arg(1))
    };
    let Some(run) = run else {
        bad(node, 1, "a program", report);
        return None;
    };
    let user = match node.words.len() > 2 && !loose {
        true => super::tracks::who(node, 2, report),
        false => known.user.clone(),
    };
    if user.is_none() {
        let what =
            "it names no user: here `nobody` runs it, with Keepalived keepalived_script or root";
        report.warn(node.place, node.keyword(), what);
    }
    Some((run, user))
}

/// What is run for a group.
pub(super) fn of_group(
    wanted: &[(&str, &Node)],
    kind: &str,
    known: &Known<'_>,
    group: &mut Group,
    report: &mut Report,
) {
    let has = |name: &str| wanted.iter().any(|(keyword, _)| *keyword == name);
    let (backup, fault) = (has("notify_backup"), has("notify_fault"));
    for (keyword, node) in wanted {
        let (name, on) = match *keyword {
            "notify_master" => ("up", vec!["group_up"]),
            "notify_backup" => ("down", vec!["group_down"]),
            "notify_fault" | "notify_stop" => {
                if backup || *keyword == "notify_stop" && fault {
                    let what = "that a group goes down is one event, which notify_backup or notify_fault \
                                has: its reason says whether the director failed or stops";
                    report.warn(node.place, keyword, what);
                    continue;
                }
                ("down", vec!["group_down"])
            }
            "notify" => ("notify", vec!["group_up", "group_down"]),
            _ => continue,
        };
        let Some((run, user)) = program(node, known, report) else { continue };
        let run = if *keyword == "notify" { with_arguments(&run, kind, group) } else { run };
        if *keyword == "notify_backup" {
            let what =
                "it runs when the director loses the group, and not at a start as with Keepalived";
            report.warn(node.place, keyword, what);
        }
        group.hooks.push(Hook { name, on, command: run, user, place: node.place });
    }
}

/// `notify` gets four arguments more: kind, name, state and priority.
fn with_arguments(run: &[String], kind: &str, group: &Group) -> Vec<String> {
    let line = format!(
        "case $QUORATE_EVENT in group_up) s=MASTER;; *) s=BACKUP;; esac; exec {} {kind} {} $s {}",
        shell_line(run),
        shell::word(&clean(&group.name)),
        group.priority
    );
    ["/bin/sh", "-c", &line].map(str::to_owned).to_vec()
}
