//! Which group has which address, and what of a `virtual_server` can be one service.

mod parts;
mod routing;

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use super::ir::{Forward, Group, Listen, Server, Service, Vip};
use super::merge::Whole;
use super::report::Report;
use super::services;

/// Most addresses that one service listens on.
const LISTEN_MAX: usize = 1_000;
/// The first mark of services that have none of their own.
const MARK_FIRST: u32 = 1_000;

/// Removes what stands twice, and groups without an address.
pub(super) fn groups(whole: &mut Whole, interface: &str, report: &mut Report) {
    // A sync group may be called as an instance is.
    let mut names: BTreeSet<String> = BTreeSet::new();
    for (group, _) in &mut whole.groups {
        while !names.insert(group.name.clone()) {
            group.name.push_str("-2");
        }
    }
    let mut owner: BTreeMap<IpAddr, String> = BTreeMap::new();
    for (group, _) in &mut whole.groups {
        let name = group.name.clone();
        group.vips.retain(|vip| {
            let Some(other) = owner.get(&vip.ip) else {
                owner.insert(vip.ip, name.clone());
                return true;
            };
            let what = format!("{} is an address of {other} already: it is left out", vip.ip);
            report.warn(vip.place, "virtual_ipaddress", what);
            false
        });
    }
    whole.groups.retain(|(group, _)| {
        if group.vips.is_empty() {
            let what = "no address of it is left: nothing becomes of it";
            report.warn(group.place, "vrrp_instance", what);
        }
        !group.vips.is_empty()
    });
    routing::arrange(whole, report);
    orphans(whole, &owner, interface, report);
}

/// Addresses that services listen on, and that no instance holds.
fn orphans(
    whole: &mut Whole,
    owner: &BTreeMap<IpAddr, String>,
    interface: &str,
    report: &mut Report,
) {
    let mut vips: Vec<Vip> = Vec::new();
    for service in &whole.services {
        for (_, listen, place) in &service.listen {
            if owner.contains_key(&listen.ip) || vips.iter().any(|vip| vip.ip == listen.ip) {
                continue;
            }
            let what = format!(
                "no vrrp_instance holds {}: here a group of its own does, or Quorate would not program the \
                 service. Who held it so far (a startup script, the network set-up, BGP) has to let it go",
                listen.ip
            );
            report.warn(*place, "virtual_server", what);
            let prefix = if listen.ip.is_ipv4() { 32 } else { 128 };
            vips.push(Vip { ip: listen.ip, prefix, device: None, place: *place });
        }
    }
    let Some(first) = vips.first() else { return };
    let mut group = Group::new("imported", first.place, first.place.line);
    group.device = Some(if interface.is_empty() {
        let device = whole.groups.iter().find_map(|(group, _)| group.device.clone());
        device.unwrap_or_else(|| "public".to_owned())
    } else {
        interface.to_owned()
    });
    group.vips = vips;
    let taken = |name: &str| whole.groups.iter().any(|(group, _)| group.name == name);
    while taken(&group.name) {
        group.name.push_str("-2");
    }
    whole.groups.push((group, Vec::new()));
}

/// The services, each of one group, with ports that its real servers can have; identical ones as one.
pub(super) fn services(whole: &mut Whole, report: &mut Report) -> Vec<(String, Service)> {
    let mut owner: BTreeMap<IpAddr, String> = BTreeMap::new();
    for (group, _) in &whole.groups {
        owner.extend(group.vips.iter().map(|vip| (vip.ip, group.name.clone())));
    }
    let given = std::mem::take(&mut whole.services);
    let mut marks: BTreeSet<u32> = given.iter().filter_map(|service| service.mark).collect();
    let taken: Vec<(&'static str, Listen)> = given
        .iter()
        .flat_map(|service| service.listen.iter().map(|(protocol, listen, _)| (*protocol, *listen)))
        .filter(|(_, listen)| listen.port != 0)
        .collect();
    let mut all: Vec<(String, Service)> = Vec::new();
    let mut index: BTreeMap<String, usize> = BTreeMap::new();
    for service in given {
        for (group, mut part) in parts::of(service, &owner, &taken, &mut marks, report) {
            parts::servers(&mut part, &owner, report);
            let key = format!("{group} {}", parts::shape(&part));
            match index.get(&key) {
                Some(at)
                    if part.mark.is_none()
                        && all[*at].1.listen.len() + part.listen.len() <= LISTEN_MAX =>
                {
                    all[*at].1.listen.extend(part.listen);
                }
                _ => {
                    index.insert(key, all.len());
                    all.push((group, part));
                }
            }
        }
    }
    beside_sync(whole, &all, report);
    all
}

/// The kernel has no sync daemons beside a tunnel into the other address family.
fn beside_sync(whole: &mut Whole, services: &[(String, Service)], report: &mut Report) {
    let foreign = |service: &Service| {
        services::all(service).any(|server| {
            tunnelled(service, server)
                && service.listen.iter().any(|(_, at, _)| at.ip.is_ipv4() != server.ip.is_ipv4())
        })
    };
    if !services.iter().any(|(_, service)| foreign(service)) {
        return;
    }
    whole.cluster.retain(|(key, _, place)| {
        let sync = *key == "sync";
        if sync {
            let what = "the kernel has no sync daemons beside a tunnel into the other address family: it is left out";
            report.warn(*place, "lvs_sync_daemon", what);
        }
        !sync
    });
}

/// Whether a way of forwarding leaves the port as it is.
fn keeps_port(service: &Service, server: &Server) -> bool {
    !matches!(server.forward.as_ref().unwrap_or(&service.forward), Forward::Nat)
}

/// Whether it goes by a tunnel.
fn tunnelled(service: &Service, server: &Server) -> bool {
    matches!(server.forward.as_ref().unwrap_or(&service.forward), Forward::Tun(_))
}

/// Whether the real servers want a service for each port.
fn port_by_port(service: &Service) -> bool {
    services::all(service).any(|server| keeps_port(service, server) || server.port.is_none())
}
