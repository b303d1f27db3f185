//! Virtual services to `virtual_server` blocks.

use std::net::{Ipv4Addr, SocketAddr};

use quorate_model::desired;
use quorate_model::id::ServiceName;
use quorate_model::kernel::{Family, ServiceKey, ServiceSettings};
use quorate_model::occurrence::Kind;
use quorate_model::spec::{
    Forward, Protocol, RealServer, SCHEDULERS, SchedulerFlag, Tunnel, TunnelChecksum,
    VirtualService,
};

use super::hooks::{self, Concerns};
use super::page::Page;
use super::words::seconds;
use super::{Exporting, checks};

/// Writes the blocks of all services: one for each address, or, by firewall mark, for each family.
pub(super) fn write(with: &Exporting<'_>, page: &mut Page) {
    for (name, service) in &with.spec.services {
        page.line("");
        page.comment(&format!("service {name} of group {}", service.group));
        said(name, service, page);
        if service.real_servers.is_empty() {
            // The sorry server, too, would be in vain.
            let what = "no real servers: Keepalived ignores a virtual_server that has none";
            page.lost(&format!("service {name}"), what);
            continue;
        }
        for key in desired::keys(service) {
            virtual_server(name, service, key, with, page);
        }
    }
}

/// What is of the service as a whole, and has no word.
fn said(name: &ServiceName, service: &VirtualService, page: &mut Page) {
    let whose = format!("service {name}");
    if service.min_up > 0 {
        let what = format!(
            "min_up {}: real servers that fail are taken out, however many they are",
            service.min_up
        );
        page.lost(&whose, &what);
    }
    if !service.slow_start.is_zero() {
        let what = format!(
            "slow_start {} s: a real server gets its whole weight at once",
            seconds(service.slow_start)
        );
        page.lost(&whose, &what);
    }
    if !service.drain.is_zero() {
        let what = format!(
            "drain {} s: the connections of a real server that is removed end with it",
            seconds(service.drain)
        );
        page.lost(&whose, &what);
    }
    if service.scheduler.hashes() && (service.inhibit || service.sorry_server.is_some()) {
        let flag = SchedulerFlag::One.word(service.scheduler);
        let what = format!(
            "the fallback of scheduler {} while a real server has weight 0: {flag} has it always",
            service.scheduler
        );
        page.lost(&whose, &what);
    }
    if let Some(mark) = service.mark {
        page.lost(&whose, &format!("the firewall rules that set mark {mark}; they are such as:"));
        for listen in &service.listen {
            let (at, last) = (listen.address, listen.last_port);
            let program = if at.is_ipv4() { "iptables" } else { "ip6tables" };
            let ports = match (at.port(), last) {
                (0, _) => String::new(),
                (first, last) if first == last => format!(" --dport {first}"),
                (first, last) => format!(" --dport {first}:{last}"),
            };
            page.comment(&format!(
                "  {program} -t mangle -A PREROUTING -d {} -p {}{ports} -j MARK --set-mark {mark}",
                at.ip(),
                listen.protocol
            ));
        }
    }
}

fn virtual_server(
    name: &ServiceName,
    service: &VirtualService,
    key: ServiceKey,
    with: &Exporting<'_>,
    page: &mut Page,
) {
    let whose = format!("service {name}");
    match key {
        ServiceKey::At { address, .. } => page.open(&format!("virtual_server {}", at(address))),
        ServiceKey::Marked { mark, .. } => page.open(&format!("virtual_server fwmark {mark}")),
    }
    settings(&whose, service, &key, page);
    let forward = service.real_servers.first().map_or(Forward::Dr, |server| server.forward);
    page.set("lvs_method", method(forward));
    match key {
        ServiceKey::At { protocol: Protocol::Tcp, .. } => page.line("protocol TCP"),
        ServiceKey::At { protocol: Protocol::Udp, .. } => page.line("protocol UDP"),
        ServiceKey::At { protocol: Protocol::Sctp, .. } => page.line("protocol SCTP"),
        ServiceKey::Marked { family: Family::V6, .. } => page.line("ip_family inet6"),
        ServiceKey::Marked { family: Family::V4, .. } => {}
    }
    quorum(&whose, service, page);
    if service.inhibit {
        page.line("inhibit_on_failure");
    }
    let concerns = Concerns { group: Some(&service.group), service: Some(name), server: None };
    hooks::write("quorum_up", Kind::QuorumUp, concerns, with, page);
    hooks::write("quorum_down", Kind::QuorumDown, concerns, with, page);
    if let Some(sorry) = &service.sorry_server {
        page.set("sorry_server", at(sorry.address));
        if sorry.forward != forward {
            page.set("sorry_server_lvs_method", method(sorry.forward));
        }
        if sorry.weight != 1 {
            page.lost(&whose, &format!("the sorry server's weight {}: it has 1", sorry.weight));
        }
        if sorry.thresholds.upper > 0 || sorry.thresholds.lower > 0 {
            page.lost(&whose, "the sorry server's thresholds");
        }
    }
    for server in &service.real_servers {
        real_server(server, (name, service, forward), with, page);
    }
    page.close();
}

fn quorum(whose: &str, service: &VirtualService, page: &mut Page) {
    let total: u64 = service.real_servers.iter().map(|server| u64::from(server.weight)).sum();
    let (mut quorum, mut hysteresis) = (service.quorum, service.hysteresis);
    if u64::from(quorum) > total {
        let what = format!(
            "quorum {quorum} with a weight of {total} in all: Keepalived asks for no more than there is"
        );
        page.lost(whose, &what);
        quorum = u32::try_from(total).unwrap_or(quorum).max(1);
        hysteresis = hysteresis.min(quorum - 1);
    }
    if quorum != 1 {
        page.set("quorum", quorum);
    }
    if hysteresis > 0 {
        page.set("hysteresis", hysteresis);
    }
}

fn settings(whose: &str, service: &VirtualService, key: &ServiceKey, page: &mut Page) {
    let ServiceSettings { scheduler, flags, persistence, one_packet } =
        desired::settings(service, key.family());
    if SCHEDULERS.contains(&scheduler.as_str()) {
        page.set("lvs_sched", scheduler);
    } else {
        let what =
            format!("scheduler {scheduler}: wlc, which Keepalived takes for what it does not know");
        page.lost(whose, &what);
        page.set("lvs_sched", "wlc");
    }
    for flag in flags.iter() {
        page.line(flag.word(scheduler));
    }
    if one_packet {
        page.line("ops");
    }
    let Some(persistence) = persistence else { return };
    page.set("persistence_timeout", persistence.timeout_s);
    match (key.family(), persistence.prefix) {
        (Family::V4, 32) | (Family::V6, 128) => {}
        (Family::V4, prefix) => {
            let bits = u32::MAX.checked_shl(32_u32.saturating_sub(u32::from(prefix))).unwrap_or(0);
            page.set("persistence_granularity", Ipv4Addr::from(bits));
        }
        (Family::V6, prefix) => page.set("persistence_granularity", prefix),
    }
    if let Some(engine) = persistence.engine {
        page.set("persistence_engine", engine);
    }
}

fn real_server(
    server: &RealServer,
    (name, service, forward): (&ServiceName, &VirtualService, Forward),
    with: &Exporting<'_>,
    page: &mut Page,
) {
    page.open(&format!("real_server {}", at(server.address)));
    page.set("weight", server.weight);
    if server.forward != forward {
        page.set("lvs_method", method(server.forward));
    }
    for (keyword, threshold) in
        [("uthreshold", server.thresholds.upper), ("lthreshold", server.thresholds.lower)]
    {
        if threshold > 0 {
            page.set(keyword, threshold);
        }
    }
    let concerns =
        Concerns { group: Some(&service.group), service: Some(name), server: Some(server.address) };
    hooks::write("notify_up", Kind::RealServerUp, concerns, with, page);
    hooks::write("notify_down", Kind::RealServerDown, concerns, with, page);
    for check in service.checks_of(&server.address) {
        checks::write(name, server.address, check, with, page);
    }
    page.close();
}

/// Address and port; all ports are none.
fn at(address: SocketAddr) -> String {
    match address.port() {
        0 => address.ip().to_string(),
        port => format!("{} {port}", address.ip()),
    }
}

fn method(forward: Forward) -> String {
    let tunnel = match forward {
        Forward::Tun(tunnel) => tunnel,
        Forward::Dr | Forward::Nat => return forward.word().to_owned(),
    };
    match tunnel {
        Tunnel::Ipip => "TUN".to_owned(),
        Tunnel::Gre { checksum: false } => "TUN type gre".to_owned(),
        Tunnel::Gre { checksum: true } => "TUN type gre csum".to_owned(),
        Tunnel::Gue { port, checksum } => {
            let checksum = match checksum {
                TunnelChecksum::None => "",
                TunnelChecksum::Full => " csum",
                TunnelChecksum::Remote => " remcsum",
            };
            format!("TUN type gue port {port}{checksum}")
        }
    }
}
