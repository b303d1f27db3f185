//! What several directors say becomes one: where they disagree, the first counts.

mod routing;

use std::collections::{BTreeMap, BTreeSet};

use super::ir::{Group, Server, Service, Side, Track};
use super::names::{Names, name_of};
use super::report::{Place, Report, clean};

/// What all of them say.
#[derive(Debug, Default)]
pub(super) struct Whole {
    /// The directors' names, as given.
    pub(super) directors: Vec<String>,
    pub(super) cluster: Vec<(&'static str, String, Place)>,
    pub(super) groups: Vec<(Group, Vec<String>)>,
    pub(super) tracks: Vec<Track>,
    pub(super) services: Vec<Service>,
    /// Devices of other directors that are called otherwise than the first one's.
    pub(super) devices: BTreeMap<String, Vec<(String, String)>>,
}

/// The directors' names: what the caller says, else what `router_id` says, else by their order.
pub(super) fn names(
    sides: &[Side],
    given: &BTreeMap<usize, String>,
    report: &mut Report,
) -> Vec<String> {
    let own: Vec<String> = sides
        .iter()
        .filter_map(|side| side.router_id.as_ref())
        .map(|(name, _)| name_of(name))
        .collect();
    let distinct = own.iter().collect::<BTreeSet<_>>().len() == sides.len();
    if !distinct || sides.len() == 1 {
        for (_, place) in sides.iter().filter_map(|side| side.router_id.as_ref()) {
            let what = "a node has its name in node.toml; of several files with names of their own, they would be \
                        those in `prefer`";
            report.warn(*place, "router_id", what);
        }
    }
    let by_order = |at: usize| format!("lb{}", at + 1);
    let mut names = Names::default();
    (0..sides.len())
        .map(|at| match (given.get(&at), own.get(at)) {
            (Some(name), _) => names.take(name),
            (None, Some(name)) if distinct && sides.len() > 1 => names.take(name),
            _ => names.take(&by_order(at)),
        })
        .collect()
}

pub(super) fn merge(sides: Vec<Side>, directors: Vec<String>, report: &mut Report) -> Whole {
    let several = sides.len() > 1;
    let mut whole = Whole { directors, ..Whole::default() };
    // Who has a group, with its priority.
    let mut ranks: Vec<Vec<(u32, bool, usize)>> = Vec::new();
    for (at, side) in sides.into_iter().enumerate() {
        let first = at == 0;
        for (key, value, place) in side.cluster {
            match whole.cluster.iter().find(|(known, ..)| *known == key) {
                None => {
                    if !first {
                        report.warn(place, key, only_here(&side.label));
                    }
                    whole.cluster.push((key, value, place));
                }
                Some((_, known, other)) if *known != value => {
                    report.warn(place, key, differs(report, *other));
                }
                Some(_) => {}
            }
        }
        for track in side.tracks {
            match whole.tracks.iter().find(|known| known.key == track.key) {
                None => whole.tracks.push(track),
                Some(known) if known.fields != track.fields => {
                    report.warn(track.place, &track.name, differs(report, known.place));
                }
                Some(_) => {}
            }
        }
        for group in side.groups {
            let rank = (group.priority, group.master, at);
            let same = if first { None } else { same_group(&whole.groups, &group) };
            let Some(found) = same else {
                if !first {
                    report.warn(group.place, &group.name, only_here(&side.label));
                }
                whole.groups.push((group, Vec::new()));
                ranks.push(vec![rank]);
                continue;
            };
            ranks[found].push(rank);
            let (known, _) = &mut whole.groups[found];
            devices(known, &group, &whole.directors[at], &mut whole.devices);
            compare_groups(known, &group, report);
        }
        for service in side.services {
            let mut known = whole.services.iter_mut().filter(|_| !first);
            let same = known.find(|known| same_service(known, &service));
            let Some(known) = same else {
                if !first {
                    report.warn(service.place, "virtual_server", only_here(&side.label));
                }
                whole.services.push(service);
                continue;
            };
            compare_services(known, &service, report);
        }
    }
    if several {
        for ((_, prefer), mut rank) in whole.groups.iter_mut().zip(ranks) {
            rank.sort_by_key(|(priority, master, at)| {
                (std::cmp::Reverse((*priority, *master)), *at)
            });
            let order = rank.iter().filter_map(|(.., at)| whole.directors.get(*at)).cloned();
            *prefer = order.collect();
            prefer.dedup();
        }
    }
    whole
}

fn only_here(label: &str) -> String {
    format!("it stands in the files of {} alone, and is taken over", clean(label))
}

fn differs(report: &Report, other: Place) -> String {
    format!("the directors disagree: what {} says counts", report.shown(other))
}

fn same_group(known: &[(Group, Vec<String>)], group: &Group) -> Option<usize> {
    let shares =
        |other: &Group| other.vips.iter().any(|vip| group.vips.iter().any(|own| own.ip == vip.ip));
    let named = known.iter().position(|(other, _)| other.name == group.name && shares(other));
    named
        .or_else(|| known.iter().position(|(other, _)| shares(other)))
        .or_else(|| known.iter().position(|(other, _)| other.name == group.name))
}

fn devices(
    known: &Group,
    group: &Group,
    director: &str,
    devices: &mut BTreeMap<String, Vec<(String, String)>>,
) {
    let mut note = |first: &Option<String>, own: &Option<String>| {
        if let (Some(first), Some(own)) = (first, own)
            && first != own
        {
            let others = devices.entry(first.clone()).or_default();
            let other = (director.to_owned(), own.clone());
            if !others.contains(&other) {
                others.push(other);
            }
        }
    };
    note(&known.device, &group.device);
    for vip in &known.vips {
        let same = group.vips.iter().find(|own| own.ip == vip.ip);
        if let Some(same) = same {
            note(&vip.device, &same.device);
        }
    }
    routing::devices(known, group, &mut note);
}

fn compare_groups(known: &mut Group, group: &Group, report: &mut Report) {
    for vip in &group.vips {
        match known.vips.iter().find(|other| other.ip == vip.ip) {
            None => {
                let what = format!(
                    "the directors disagree: {} has no {} in {}; it is left out",
                    report.shown(known.place),
                    vip.ip,
                    clean(&known.name)
                );
                report.warn(vip.place, "virtual_ipaddress", what);
            }
            Some(other) if other.prefix != vip.prefix => {
                let what = differs(report, other.place);
                report.warn(vip.place, "virtual_ipaddress", what);
            }
            Some(_) => {}
        }
    }
    for vip in &known.vips {
        if group.vips.iter().all(|other| other.ip != vip.ip) {
            let what = format!(
                "the directors disagree: {} has no {}; it is taken over",
                report.shown(group.place),
                vip.ip
            );
            report.warn(vip.place, "virtual_ipaddress", what);
        }
    }
    routing::compare(known, group, report);
    if known.preempt != group.preempt {
        let what =
            format!("the directors disagree ({}): nopreempt counts", report.shown(known.place));
        report.warn(group.place, "nopreempt", what);
        known.preempt = false;
    }
    // Only who comes back waits: the longest time is that of the one that does.
    known.preempt_delay = known.preempt_delay.max(group.preempt_delay);
    let tracks = |group: &Group| -> BTreeSet<String> {
        // Devices are called otherwise on each machine.
        group.tracks.iter().filter(|key| !key.starts_with("interface ")).cloned().collect()
    };
    if tracks(known) != tracks(group) {
        report.warn(group.place, "track_script", differs(report, known.place));
    }
    let hooks = |group: &Group| -> BTreeSet<(&'static str, Vec<String>)> {
        // What Keepalived appends has the priority in it.
        let own = group.hooks.iter().filter(|hook| hook.name != "notify");
        own.map(|hook| (hook.name, hook.command.clone())).collect()
    };
    if hooks(known) != hooks(group) {
        report.warn(group.place, "notify", differs(report, known.place));
    }
}

fn same_service(known: &Service, service: &Service) -> bool {
    match (known.mark, service.mark) {
        (None, None) => known.listen.iter().any(|(protocol, listen, _)| {
            service.listen.iter().any(|(own, at, _)| own == protocol && at == listen)
        }),
        (known, own) => known == own,
    }
}

/// Where a real server stands in the first, and what it says.
fn shape(server: &Server) -> (Vec<(&'static str, String)>, String) {
    let checks: Vec<String> =
        server.checks.iter().map(|check| format!("{:?} {:?}", check.fields, check.port)).collect();
    (server.fields.clone(), format!("{:?} {checks:?}", server.forward))
}

fn compare_services(known: &Service, service: &Service, report: &mut Report) {
    let same = known.fields == service.fields
        && known.scheduler == service.scheduler
        && known.forward == service.forward;
    if !same {
        report.warn(service.place, "virtual_server", differs(report, known.place));
    }
    for (one, other, verdict) in
        [(service, known, "it is left out"), (known, service, "it is taken over")]
    {
        for server in &one.servers {
            let same = other.servers.iter().find(|s| (s.ip, s.port) == (server.ip, server.port));
            if same.is_none() {
                let what = format!(
                    "the directors disagree: {} has no {}; {verdict}",
                    report.shown(other.place),
                    server.ip
                );
                report.warn(server.place, "real_server", what);
            } else if let Some(same) = same
                && verdict == "it is left out"
                && shape(same) != shape(server)
            {
                report.warn(server.place, "real_server", differs(report, same.place));
            }
        }
    }
    let sorry = |service: &Service| service.sorry.as_ref().map(|sorry| (sorry.ip, sorry.port));
    if sorry(known) != sorry(service) {
        report.warn(service.place, "sorry_server", differs(report, known.place));
    }
}
