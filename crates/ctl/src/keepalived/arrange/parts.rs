//! A `virtual_server` to services that can be.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use super::super::ir::{Check, Forward, Listen, Server, Service};
use super::super::report::{Place, Report};
use super::super::services;
use super::{MARK_FIRST, keeps_port, port_by_port, tunnelled};

type Listens = Vec<(&'static str, Listen, Place)>;

/// The services of one: by group, by address family, by port where it matters.
pub(super) fn of(
    service: Service,
    owner: &BTreeMap<IpAddr, String>,
    taken: &[(&'static str, Listen)],
    marks: &mut BTreeSet<u32>,
    report: &mut Report,
) -> Vec<(String, Service)> {
    let mut parts: BTreeMap<(String, bool, u8, (u16, u16)), Listens> = BTreeMap::new();
    let by_port = port_by_port(&service) && service.mark.is_none();
    for (protocol, listen, place) in &service.listen {
        let Some(group) = owner.get(&listen.ip) else { continue };
        let portless = listen.port == 0 || listen.last != listen.port;
        let family = match service.mark {
            // IPVS has one service for each family, which Quorate makes of one.
            Some(_) => 0,
            None => {
                if listen.ip.is_ipv4() {
                    4
                } else {
                    6
                }
            }
        };
        let port =
            if by_port && service.mark.is_none() { (listen.port, listen.last) } else { (0, 0) };
        let key = (group.clone(), portless && service.mark.is_none(), family, port);
        parts.entry(key).or_default().push((*protocol, *listen, *place));
    }
    let mut all = Vec::new();
    for ((group, portless, ..), listen) in parts {
        let mut part = Service { listen, ..service.clone() };
        if portless {
            part.listen = part.listen.iter().flat_map(|at| ranges(*at, taken)).collect();
            let mark = (MARK_FIRST..).find(|mark| marks.insert(*mark));
            part.mark = mark;
            let what = "it is for more than one port: here nftables marks what goes there, and IPVS goes by the \
                        mark (docs/reference/ipvs.md, \"Firewall marks\")";
            report.warn(part.place, "virtual_server", what);
            if part.listen.is_empty() {
                continue;
            }
        }
        all.push((group, part));
    }
    all
}

/// All ports of an address but those that have a service of their own, which IPVS would never reach.
fn ranges(
    (protocol, listen, place): (&'static str, Listen, Place),
    taken: &[(&'static str, Listen)],
) -> Listens {
    let (first, last) = if listen.port == 0 { (1, u16::MAX) } else { (listen.port, listen.last) };
    let mut own: Vec<(u16, u16)> = taken
        .iter()
        .filter(|(other, at)| *other == protocol && at.ip == listen.ip && *at != listen)
        .map(|(_, at)| (at.port, at.last))
        .collect();
    own.sort_unstable();
    let mut all = Vec::new();
    let mut push = |port: u32, end: u32| {
        if let (Ok(port), Ok(last)) = (u16::try_from(port), u16::try_from(end))
            && port <= last
        {
            all.push((protocol, Listen { ip: listen.ip, port, last }, place));
        }
    };
    let (mut from, last) = (u32::from(first), u32::from(last));
    for (start, end) in own {
        push(from, last.min(u32::from(start).saturating_sub(1)));
        from = from.max(u32::from(end) + 1);
    }
    push(from, last);
    all
}

/// Real servers as they can be: ports, families, each once.
pub(super) fn servers(part: &mut Service, owner: &BTreeMap<IpAddr, String>, report: &mut Report) {
    let ports: BTreeSet<u16> = part.listen.iter().map(|(_, listen, _)| listen.port).collect();
    let families: BTreeSet<bool> =
        part.listen.iter().map(|(_, listen, _)| listen.ip.is_ipv4()).collect();
    let port = match (part.mark, ports.len()) {
        (None, 1) => ports.first().copied(),
        _ => None,
    };
    let shape = part.clone();
    let mut seen: BTreeSet<(IpAddr, Option<u16>)> = BTreeSet::new();
    let mut fits = |server: &mut Server, keyword: &str, report: &mut Report| {
        if let Some(group) = owner.get(&server.ip) {
            let what = format!(
                "{} is a VIP, of {group}: a director can't be a real server of itself; it is left out",
                server.ip
            );
            report.warn(server.place, keyword, what);
            return false;
        }
        if families.iter().any(|four| *four != server.ip.is_ipv4()) && !tunnelled(&shape, server) {
            let what = format!(
                "{} is of another address family than the service: it is left out",
                server.ip
            );
            report.warn(server.place, keyword, what);
            return false;
        }
        fit_port(&shape, server, port, keyword, report);
        let new = seen.insert((server.ip, server.port.or(port)));
        if !new {
            let what = format!("{} stands twice: once is enough", server.ip);
            report.warn(server.place, keyword, what);
        }
        new
    };
    part.servers.retain_mut(|server| fits(server, "real_server", report));
    if services::all(part).any(|server| server.forward == Some(Forward::Nat))
        && let Some(at) = part.fields.iter().position(|(key, _)| *key == "one_packet")
    {
        part.fields.remove(at);
        let what =
            "a real server of it is reached by NAT, whose answers need connections: it is left out";
        report.warn(part.place, "ops", what);
    }
    enough(part, report);
    if let Some(sorry) = &mut part.sorry {
        if shape.scheduler == "ovf" {
            sorry.fields.push(("weight", "65535".to_owned()));
        }
        if !fits(sorry, "sorry_server", report) {
            part.sorry = None;
        }
    }
}

/// Keepalived asks for no more weight than there is.
fn enough(part: &mut Service, report: &mut Report) {
    let weight = |server: &Server| {
        let own = server.fields.iter().find(|(key, _)| *key == "weight");
        own.and_then(|(_, text)| text.parse::<u64>().ok()).unwrap_or(1)
    };
    let total = part.servers.iter().map(weight).sum::<u64>().max(1);
    let mut lowered = None;
    for (key, text) in &mut part.fields {
        let most = match *key {
            "quorum" => total,
            "hysteresis" => lowered.unwrap_or(u64::MAX),
            _ => continue,
        };
        if text.parse::<u64>().is_ok_and(|wanted| wanted > most) {
            let what = format!(
                "{text} is more than the weight of all real servers allows: {most}, as with Keepalived"
            );
            report.warn(part.place, key, what);
            *text = most.to_string();
            lowered = Some(total - 1);
        }
    }
}

/// Under DR and TUN a packet keeps its port; by mark each packet has its own.
fn fit_port(
    part: &Service,
    server: &mut Server,
    port: Option<u16>,
    keyword: &str,
    report: &mut Report,
) {
    let own = server.port;
    if keeps_port(part, server) {
        if let (Some(own), Some(port)) = (own, port)
            && own != port
        {
            let what = format!(
                "DR and TUN leave the port of packets as it is: {} has port {port} of the service, as with \
                 Keepalived; its checks go to {own}",
                server.ip
            );
            report.warn(server.place, keyword, what);
        }
        server.port = port;
    } else if part.mark.is_none() {
        server.port = own.or(port);
    }
    let at = server.port;
    server.checks.retain_mut(|check| fit_check(check, own, at, report));
}

fn fit_check(check: &mut Check, own: Option<u16>, at: Option<u16>, report: &mut Report) -> bool {
    if !check.has_port {
        return true;
    }
    check.port = check.port.or(own).filter(|port| Some(*port) != at);
    if check.port.is_none() && at.is_none() {
        let what = "it says no port, nor does its real server: it is left out, and the real server counts as up. \
                    Say connect_port";
        report.warn(check.place, check.kind, what);
        return false;
    }
    true
}

/// What has to be the same for two to be one.
pub(super) fn shape(part: &Service) -> String {
    let server = |server: &Server| {
        let checks: Vec<_> = server.checks.iter().map(|c| (&c.fields, c.port)).collect();
        let hooks: Vec<_> = server.hooks.iter().map(|h| (&h.on, &h.command, &h.user)).collect();
        format!(
            "{} {:?} {:?} {:?} {checks:?} {hooks:?}",
            server.ip, server.port, server.forward, server.fields
        )
    };
    let servers: Vec<String> = part.servers.iter().map(server).collect();
    let hooks: Vec<_> = part.hooks.iter().map(|h| (&h.on, &h.command, &h.user)).collect();
    let port: BTreeSet<u16> = part.listen.iter().map(|(_, listen, _)| listen.port).collect();
    let four = part.listen.iter().all(|(_, listen, _)| listen.ip.is_ipv4());
    format!(
        "{} {port:?} {four} {:?} {:?} {} {servers:?} {:?} {hooks:?}",
        part.protocol,
        part.forward,
        part.fields,
        part.scheduler,
        part.sorry.as_ref().map(server)
    )
}
