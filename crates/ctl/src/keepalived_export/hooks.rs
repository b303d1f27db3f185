//! Hooks to the scripts that Keepalived runs at the same events.

use std::net::SocketAddr;

use quorate_model::id::{GroupName, HookName, ServiceName};
use quorate_model::occurrence::Kind;
use quorate_model::spec::{ClusterSpec, Hook, RunOn};

use super::Exporting;
use super::page::Page;
use super::words::{one_after_the_other, script, word};

/// What an event concerns.
#[derive(Debug, Clone, Copy)]
pub(super) struct Concerns<'a> {
    pub(super) group: Option<&'a GroupName>,
    pub(super) service: Option<&'a ServiceName>,
    pub(super) server: Option<SocketAddr>,
}

/// The events at which Keepalived runs something, too.
const KNOWN: [Kind; 6] = [
    Kind::GroupUp,
    Kind::GroupDown,
    Kind::QuorumUp,
    Kind::QuorumDown,
    Kind::RealServerUp,
    Kind::RealServerDown,
];

/// Writes a keyword with the program that is run at an event, if there is one.
pub(super) fn write(
    keyword: &str,
    kind: Kind,
    concerns: Concerns<'_>,
    with: &Exporting<'_>,
    page: &mut Page,
) {
    let wanted = |hook: &Hook| {
        let group = hook
            .groups
            .as_ref()
            .is_none_or(|groups| concerns.group.is_some_and(|group| groups.contains(group)));
        let service = hook.services.as_ref().is_none_or(|services| {
            concerns.service.is_some_and(|service| services.contains(service))
        });
        hook.on.contains(&kind) && group && service
    };
    let all: Vec<(&HookName, &Hook)> =
        with.spec.hooks.iter().filter(|(_, hook)| wanted(hook)).collect();
    let Some((_, first)) = all.first() else { return };
    let mut commands = Vec::new();
    for (name, hook) in &all {
        if hook.user == first.user {
            commands.push(told(hook, kind, concerns, with));
        } else {
            let what =
                format!("{keyword} is run as one user, so that this program is left out there");
            page.lost(&format!("hook {name}"), &what);
        }
    }
    let words = match commands.as_slice() {
        [one] => one.clone(),
        several => one_after_the_other(several),
    };
    page.scripts = true;
    let user = first.user.as_ref().map(|user| format!(" {}", word(user))).unwrap_or_default();
    page.userless |= first.user.is_none();
    page.set(keyword, format!("{}{user}", script(words.iter().map(String::as_str))));
}

/// A hook's program, with what of its environment is known beforehand.
fn told(hook: &Hook, kind: Kind, concerns: Concerns<'_>, with: &Exporting<'_>) -> Vec<String> {
    let mut words = vec!["/usr/bin/env".to_owned(), format!("QUORATE_EVENT={}", kind.word())];
    words.extend(concerns.group.map(|group| format!("QUORATE_GROUP={group}")));
    words.extend(concerns.service.map(|service| format!("QUORATE_SERVICE={service}")));
    words.extend(concerns.server.map(|server| format!("QUORATE_REAL_SERVER={server}")));
    words.extend(with.node.as_ref().map(|node| format!("QUORATE_NODE={node}")));
    words.extend(hook.command.iter().cloned());
    words
}

/// Says what Keepalived does otherwise, or not at all.
pub(super) fn left_out(spec: &ClusterSpec, page: &mut Page) {
    for (name, hook) in &spec.hooks {
        let whose = format!("hook {name}");
        let mut what = Vec::new();
        let unknown: Vec<&str> =
            hook.on.iter().filter(|kind| !KNOWN.contains(kind)).map(|kind| kind.word()).collect();
        if !unknown.is_empty() {
            what.push(format!("on {}: Keepalived runs nothing then", unknown.join(", ")));
        }
        let known = hook.on.iter().filter(|kind| KNOWN.contains(kind));
        if hook.run_on == RunOn::Owner && known.clone().any(|kind| kind.concerns_service()) {
            what.push(
                "run_on = \"owner\": each director runs it, as it sees the real servers".to_owned(),
            );
        }
        if hook.on.contains(&Kind::GroupDown) {
            what.push("on group_down: Keepalived runs it when it starts as backup, too".to_owned());
        }
        if known.count() > 0 {
            what.push(
                "its environment has QUORATE_EVENT and what it concerns and no more, nothing is on its standard input, \
                 and its time is not limited"
                    .to_owned(),
            );
        }
        if what.is_empty() {
            continue;
        }
        page.line("");
        page.comment(&format!("{whose}: {}", hook.command.join(" ")));
        what.iter().for_each(|what| page.lost(&whose, what));
    }
}
