//! Hooks: identical ones of several groups or services are one.

use std::collections::BTreeMap;
use std::net::SocketAddr;

use super::super::ir::{Hook, Service};
use super::super::merge::Whole;
use super::super::names::Names;
use super::super::report::Report;
use super::super::values::{list, quoted, shell_line};
use super::{Document, key_of};

/// Most hooks of a configuration.
const HOOKS_MAX: usize = 64;
/// Longest word of a command.
const WORD_BYTES_MAX: usize = 4_095;

/// A hook, and for what it is run.
struct Scoped {
    hook: Hook,
    groups: Vec<String>,
    services: Vec<String>,
}

pub(super) fn write(
    whole: &Whole,
    names: &BTreeMap<String, String>,
    services: &[(String, &Service)],
    out: &mut Document,
    report: &mut Report,
) {
    let mut all: Vec<Scoped> = Vec::new();
    for (group, _) in &whole.groups {
        let name = names.get(&group.name).cloned().unwrap_or_default();
        for hook in &group.hooks {
            put(&mut all, hook.clone(), Some(name.clone()), None);
        }
    }
    for (name, service) in services {
        let of_servers = of_servers(service);
        for hook in service.hooks.iter().cloned().chain(of_servers) {
            put(&mut all, hook, None, Some(name.clone()));
        }
    }
    if all.len() > HOOKS_MAX {
        all = folded(all);
    }
    let mut taken = Names::default();
    for (number, Scoped { hook, groups, services }) in all.into_iter().enumerate() {
        let long = hook.command.iter().any(|word| word.len() > WORD_BYTES_MAX);
        if number >= HOOKS_MAX || long {
            let what = if long {
                format!("a word of it is longer than {WORD_BYTES_MAX} bytes: it is left out")
            } else {
                format!("there are {HOOKS_MAX} hooks at most: it is left out")
            };
            report.warn(hook.place, hook.name, what);
            continue;
        }
        let of = groups.first().or(services.first()).cloned().unwrap_or_default();
        let name = taken.take(&format!("{of}-{}", hook.name));
        out.place = Some(hook.place);
        out.line("");
        out.comment(&report.shown(hook.place));
        out.line(format!("[hook.{}]", key_of(&name)));
        out.line(format!("on = {}", list(&hook.on)));
        if !groups.is_empty() {
            out.line(format!("groups = {}", list(&groups)));
        }
        if !services.is_empty() {
            out.line(format!("services = {}", list(&services)));
            // Keepalived runs it on every director, as each sees it.
            out.line(format!("run_on = {}", quoted("all")));
        }
        out.line(format!("command = {}", list(&hook.command)));
        if let Some(user) = &hook.user {
            out.line(format!("user = {}", quoted(user)));
        }
    }
}

/// Too many hooks become few: one for each event and user, whose shell goes by what the event concerns.
fn folded(all: Vec<Scoped>) -> Vec<Scoped> {
    let (end, mut kinds) = (" esac", BTreeMap::<_, Vec<Scoped>>::new());
    for scoped in all {
        let hook = &scoped.hook;
        let key = (hook.on.clone(), hook.name, hook.user.clone(), scoped.groups.is_empty());
        kinds.entry(key).or_default().push(scoped);
    }
    let mut folded: Vec<Scoped> = Vec::new();
    for ((.., of_services), kind) in kinds {
        let variable = if of_services { "QUORATE_SERVICE" } else { "QUORATE_GROUP" };
        let begin = format!("case ${variable} in");
        let mut whole: Option<(Scoped, String)> = None;
        for one in kind {
            let names = one.groups.iter().chain(&one.services).map(|name| format!("'{name}'"));
            let names: Vec<String> = names.collect();
            let case = format!(" {}) exec {};;", names.join("|"), shell_line(&one.hook.command));
            let full = |line: &str| line.len() + case.len() + end.len() > WORD_BYTES_MAX;
            match &mut whole {
                Some((first, line)) if !full(line) => {
                    first.groups.extend(one.groups);
                    first.services.extend(one.services);
                    line.push_str(&case);
                }
                _ => {
                    let next = (one, format!("{begin}{case}"));
                    folded.extend(
                        whole.replace(next).map(|(first, line)| chosen_of(first, &line, end)),
                    );
                }
            }
        }
        folded.extend(whole.map(|(first, line)| chosen_of(first, &line, end)));
    }
    folded
}

fn chosen_of(scoped: Scoped, line: &str, end: &str) -> Scoped {
    Scoped { hook: chosen(&scoped.hook, &format!("{line}{end}")), ..scoped }
}

fn put(all: &mut Vec<Scoped>, hook: Hook, group: Option<String>, service: Option<String>) {
    let same = all.iter_mut().find(|known| {
        let (a, b) = (&known.hook, &hook);
        (&a.on, &a.command, &a.user) == (&b.on, &b.command, &b.user)
            && known.groups.is_empty() == group.is_none()
    });
    match same {
        Some(known) => {
            let new = |names: &[String], name: &String| !names.contains(name);
            known.groups.extend(group.filter(|name| new(&known.groups, name)));
            known.services.extend(service.filter(|name| new(&known.services, name)));
        }
        None => all.push(Scoped {
            hook,
            groups: group.into_iter().collect(),
            services: service.into_iter().collect(),
        }),
    }
}

/// The name of a hook, and who runs it.
type Kind = (&'static str, Option<String>);

/// A service's hooks hear of all its real servers: where each has its own program, a shell chooses.
fn of_servers(service: &Service) -> Vec<Hook> {
    let mut kinds: BTreeMap<Kind, Vec<(String, &Hook)>> = BTreeMap::new();
    let port = service.listen.first().map_or(0, |(_, listen, _)| listen.port);
    for server in &service.servers {
        let port = server.port.unwrap_or(if service.mark.is_some() { 0 } else { port });
        let address = SocketAddr::new(server.ip, port).to_string();
        for hook in &server.hooks {
            let key = (hook.name, hook.user.clone());
            kinds.entry(key).or_default().push((address.clone(), hook));
        }
    }
    let mut all = Vec::new();
    for servers in kinds.into_values() {
        let Some((_, first)) = servers.first() else { continue };
        let alike = servers.iter().all(|(_, hook)| hook.command == first.command);
        if alike && servers.len() == service.servers.len() {
            all.push((*first).clone());
            continue;
        }
        let (begin, end) = ("case $QUORATE_REAL_SERVER in", " esac");
        let mut line = begin.to_owned();
        for (address, hook) in &servers {
            let case = format!(" '{address}') exec {};;", shell_line(&hook.command));
            if line.len() + case.len() + end.len() > WORD_BYTES_MAX && line != begin {
                all.push(chosen(first, &format!("{line}{end}")));
                begin.clone_into(&mut line);
            }
            line.push_str(&case);
        }
        all.push(chosen(first, &format!("{line}{end}")));
    }
    all
}

fn chosen(hook: &Hook, line: &str) -> Hook {
    let command = ["/bin/sh", "-c", line].map(str::to_owned).to_vec();
    Hook { command, ..hook.clone() }
}
