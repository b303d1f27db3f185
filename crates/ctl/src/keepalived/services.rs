//! `virtual_server` and `virtual_server_group` to services.

mod targets;

use std::collections::BTreeSet;

use quorate_model::spec::SCHEDULERS;

use super::checks::Times;
use super::hooks;
use super::ir::{Fields, Forward, Hook, Listen, Server, Service, Side};
use super::keywords::VIRTUAL_SERVER;
use super::report::{Place, Report, clean};
use super::servers;
use super::side::{Known, host};
use super::tree::Node;
use super::values::{bad, number_of, prefix, quoted};
use targets::{Targets, listened, ports, targets};

/// Keepalived's own persistence.
const PERSISTENCE_DEFAULT: u32 = 360;
const PERSISTENCE_MAX: u32 = 31 * 24 * 3600;

/// What of persistence stands in several lines.
#[derive(Debug, Default)]
struct Persistence {
    timeout: Option<u32>,
    prefix: Option<u8>,
    engine: bool,
    place: Option<Place>,
}

pub(super) fn service(node: &Node, known: &Known<'_>, side: &mut Side, report: &mut Report) {
    let Some(targets) = targets(node, known, report) else { return };
    let wanted = VIRTUAL_SERVER.account(node.children(), report);
    let mut service = Service {
        place: node.place_of(1),
        until: node.until,
        protocol: "",
        listen: Vec::new(),
        mark: None,
        forward: Forward::Nat,
        fields: Vec::new(),
        scheduler: "wlc".to_owned(),
        persistent: false,
        servers: Vec::new(),
        sorry: None,
        hooks: Vec::new(),
    };
    let mut times = Times::default();
    let mut reading = Reading::default();
    for (keyword, node) in &wanted {
        if !times.take(keyword, node, report) {
            reading.setting(keyword, node, &mut service, known, report);
        }
    }
    if service.protocol.is_empty() {
        // By mark IPVS does not ask for it.
        if !targets.listen.is_empty() {
            let what =
                "it says no protocol: Keepalived makes it UDP. For TCP, write protocol TCP into it";
            report.warn(node.place, "virtual_server", what);
        }
        service.protocol = if targets.listen.is_empty() { "tcp" } else { "udp" };
    }
    if reading.method.is_none() {
        let what = "it says no lb_kind: NAT, as with Keepalived";
        report.warn(node.place, "virtual_server", what);
    }
    reading.finish(&mut service, &targets, report);
    for (_, node) in wanted.iter().filter(|(keyword, _)| *keyword == "real_server") {
        let inherited =
            servers::Inherited { times: &times, weight: reading.weight, service: &service };
        if let Some((server, inhibit)) = servers::server(node, inherited, known, report) {
            reading.inhibited += usize::from(inhibit);
            service.servers.push(server);
        }
    }
    if reading.inhibited > 0 && !reading.inhibit && reading.inhibited < service.servers.len() {
        let what = "only some real servers say it: here all that fail stay with weight 0";
        report.warn(service.place, "inhibit_on_failure", what);
    }
    reading.inhibit |= reading.inhibited > 0;
    service.fields.extend(reading.inhibit.then(|| ("inhibit", "true".to_owned())));
    each(service, targets, known, side, report);
}

/// One service of the addresses, and one of each mark.
fn each(
    service: Service,
    targets: Targets,
    known: &Known<'_>,
    side: &mut Side,
    report: &mut Report,
) {
    for (mark, place) in targets.marks {
        let said = known.marks.get(&mark).into_iter().flatten();
        let listen: Vec<_> = said.filter_map(|text| listened(text, place)).collect();
        if listen.is_empty() {
            let what = format!(
                "what firewall mark {mark} stands for is not in the file, it is set by iptables or nftables: \
                 the service is left out until it is said, by --mark {mark}=tcp/ADDRESS:PORT,udp/ADDRESS:PORT-PORT"
            );
            report.warn(place, "fwmark", what);
            continue;
        }
        let (listen, mark) = of_family(&service, listen, (mark, place), side, report);
        let known = mark.is_some_and(|mark| side.services.iter().any(|s| s.mark == Some(mark)));
        if known {
            report.warn(place, "fwmark", "the mark has a service above; that one counts");
            continue;
        }
        side.services.push(Service { place, listen, mark, ..service.clone() });
    }
    let mut listen = Vec::new();
    for (at, place) in targets.listen {
        let taken = side.services.iter().flat_map(|other| &other.listen).chain(&listen);
        let twice = taken
            .into_iter()
            .any(|(protocol, other, _)| *protocol == service.protocol && *other == at);
        if twice {
            let what = format!(
                "{}/{}:{} has a service above; that one counts",
                service.protocol, at.ip, at.port
            );
            report.warn(place, "virtual_server", what);
        } else {
            listen.push((service.protocol, at, place));
        }
    }
    if !listen.is_empty() {
        side.services.push(Service { listen, ..service });
    }
}

/// What a mark stands for in the address family of the real servers: Keepalived has a service for each family. One
/// of the other family than the service above that has the mark goes by its addresses.
fn of_family(
    service: &Service,
    mut listen: Vec<(&'static str, Listen, Place)>,
    (mark, place): (u32, Place),
    side: &Side,
    report: &mut Report,
) -> (Vec<(&'static str, Listen, Place)>, Option<u32>) {
    let families: BTreeSet<bool> = service.servers.iter().map(|s| s.ip.is_ipv4()).collect();
    let (Some(four), 1) = (families.first().copied(), families.len()) else {
        return (listen, Some(mark));
    };
    if !listen.iter().any(|(_, at, _)| at.ip.is_ipv4() == four) {
        return (listen, Some(mark));
    }
    listen.retain(|(_, at, _)| at.ip.is_ipv4() == four);
    let above = side.services.iter().find(|other| other.mark == Some(mark));
    let other_family =
        above.is_some_and(|above| above.listen.iter().all(|(_, at, _)| at.ip.is_ipv4() != four));
    if !other_family {
        return (listen, Some(mark));
    }
    let what =
        format!("mark {mark} is that of the other address family: this one goes by its addresses");
    report.warn(place, "fwmark", what);
    (listen, None)
}

/// What is known once all lines were read.
#[derive(Debug, Default)]
struct Reading {
    method: Option<Forward>,
    sorry_method: Option<Forward>,
    flags: Vec<(&'static str, Place)>,
    persistence: Persistence,
    quorum: u32,
    hysteresis: u32,
    one_packet: Option<Place>,
    inhibit: bool,
    /// How many real servers say so for themselves.
    inhibited: usize,
    weight: Option<u32>,
}

impl Reading {
    fn setting(
        &mut self,
        keyword: &'static str,
        node: &Node,
        service: &mut Service,
        known: &Known<'_>,
        report: &mut Report,
    ) {
        match keyword {
            "protocol" => match node.arg(1).to_ascii_uppercase().as_str() {
                "TCP" => service.protocol = "tcp",
                "UDP" => service.protocol = "udp",
                "SCTP" => service.protocol = "sctp",
                _ => bad(node, 1, "TCP, UDP or SCTP", report),
            },
            "lb_algo" => {
                let name = node.arg(1).to_ascii_lowercase();
                if SCHEDULERS.contains(&name.as_str()) {
                    service.scheduler = name;
                } else {
                    let what = format!(
                        "Keepalived has no scheduler {:?}, and takes wlc",
                        clean(node.arg(1))
                    );
                    report.warn(node.place, node.keyword(), what);
                }
            }
            "lb_kind" => self.method = servers::forward(node, report).or(self.method.take()),
            "sorry_server_lvs_method" => self.sorry_method = servers::forward(node, report),
            "flag-1" | "flag-2" | "flag-3" | "sh-fallback" | "sh-port" | "mh-fallback"
            | "mh-port" => {
                self.flags.push((keyword, node.place));
            }
            "ops" => self.one_packet = Some(node.place),
            "persistence_timeout" | "persistence_granularity" | "persistence_engine" => {
                self.persistence.setting(keyword, node, report);
            }
            "quorum" => {
                self.quorum = number_of(node, 1, (1, 2_000_000_000), report).unwrap_or(1);
            }
            "hysteresis" => {
                self.hysteresis = number_of(node, 1, (0, 2_000_000_000), report).unwrap_or(0);
            }
            "weight" => self.weight = number_of(node, 1, (0, 65_535), report),
            "inhibit_on_failure" => self.inhibit = super::checks::flag(node, report) == Some(true),
            "quorum_up" | "quorum_down" => {
                if let Some((run, user)) = hooks::program(node, known, report) {
                    let name = if keyword == "quorum_up" { "quorum-up" } else { "quorum-down" };
                    let on = vec![keyword];
                    service.hooks.push(Hook { name, on, command: run, user, place: node.place });
                }
            }
            "sorry_server" => {
                if let Some(ip) = host(node, 1, report) {
                    let port =
                        ports(node, 2, report).map(|(port, _)| port).filter(|port| *port > 0);
                    service.sorry = Some(servers::bare(node.place, ip, port));
                }
            }
            _ => {}
        }
    }

    fn finish(&mut self, service: &mut Service, targets: &Targets, report: &mut Report) {
        service.forward = self.method.take().unwrap_or(Forward::Nat);
        if let (Some(sorry), Some(method)) = (&mut service.sorry, self.sorry_method.take()) {
            sorry.forward = Some(method).filter(|method| *method != service.forward);
        }
        if let Some(sorry) = &service.sorry
            && service.scheduler == "dh"
        {
            let what = "scheduler dh does not heed weights, so that a sorry server is not possible: it is left out";
            report.warn(sorry.place, "sorry_server", what);
            service.sorry = None;
        }
        self.flags(service, report);
        let udp = service.protocol == "udp";
        if let Some(place) = self.one_packet {
            if !udp || service.forward == Forward::Nat {
                let what = "one packet at a time is for UDP, and not with NAT, whose answers need connections: it is \
                            left out";
                report.warn(place, "ops", what);
            } else {
                service.fields.push(("one_packet", "true".to_owned()));
            }
        }
        let portless = targets.listen.iter().any(|(listen, _)| listen.port == 0);
        if portless && self.persistence.timeout.is_none() {
            let what =
                "a virtual_server of all ports has to be persistent: 360 s, as with Keepalived";
            report.warn(service.place, "virtual_server", what);
            self.persistence.timeout = Some(PERSISTENCE_DEFAULT);
        }
        let four = targets.listen.iter().all(|(listen, _)| listen.ip.is_ipv4());
        if let Some(text) = self.persistence.text(udp, four, report) {
            service.persistent = true;
            service.fields.push(("persistence", text));
        }
        let quorum = self.quorum.max(1);
        if self.hysteresis >= quorum {
            let what = format!("it becomes {}, below the quorum, as with Keepalived", quorum - 1);
            report.warn(service.place, "hysteresis", what);
            self.hysteresis = quorum - 1;
        }
        service.fields.extend((quorum > 1).then(|| ("quorum", quorum.to_string())));
        let hysteresis = (self.hysteresis > 0).then(|| ("hysteresis", self.hysteresis.to_string()));
        service.fields.extend(hysteresis);
    }

    fn flags(&self, service: &mut Service, report: &mut Report) {
        let hashes = matches!(service.scheduler.as_str(), "sh" | "mh");
        let mut words: Vec<&str> = Vec::new();
        for (flag, place) in &self.flags {
            let word = match *flag {
                "flag-1" => "fallback",
                "flag-2" => "port",
                "flag-3" => "",
                flag if flag.starts_with(service.scheduler.as_str()) => {
                    flag.split_once('-').map_or("", |(_, word)| word)
                }
                _ => "",
            };
            if !hashes || word.is_empty() {
                let what =
                    format!("scheduler {} has no such flag: it is left out", service.scheduler);
                report.warn(*place, flag, what);
            } else if !words.contains(&word) {
                words.push(word);
            }
        }
        if !words.is_empty() {
            service.fields.push(("flags", super::values::list(words)));
        }
    }
}

impl Persistence {
    fn setting(&mut self, keyword: &str, node: &Node, report: &mut Report) {
        self.place = Some(node.place);
        match keyword {
            "persistence_timeout" if node.words.len() < 2 => {
                self.timeout = Some(PERSISTENCE_DEFAULT)
            }
            "persistence_timeout" => {
                self.timeout = number_of(node, 1, (0, PERSISTENCE_MAX), report).or(self.timeout);
            }
            "persistence_granularity" => {
                let text = node.arg(1);
                self.prefix = prefix(text, true).or_else(|| prefix(text, false)).filter(|p| *p > 0);
                if self.prefix.is_none() {
                    bad(node, 1, "a netmask", report);
                }
            }
            _ if node.arg(1) == "sip" => self.engine = true,
            _ => bad(node, 1, "sip, the only engine", report),
        }
    }

    fn text(&self, udp: bool, four: bool, report: &mut Report) -> Option<String> {
        let place = self.place.unwrap_or_default();
        let asked = self.prefix.is_some() || self.engine;
        let timeout = match self.timeout {
            Some(0) => return None,
            Some(timeout) => timeout,
            None if asked => PERSISTENCE_DEFAULT,
            None => return None,
        };
        let mut fields: Fields = Vec::new();
        match self.prefix {
            Some(prefix) if four && prefix > 32 => {
                report.warn(
                    place,
                    "persistence_granularity",
                    "it is longer than an address: it is left out",
                );
            }
            Some(prefix) if prefix < if four { 32 } else { 128 } => {
                fields.push(("prefix", prefix.to_string()));
            }
            _ => {}
        }
        if self.engine && udp {
            fields.push(("engine", quoted("sip")));
        } else if self.engine {
            report.warn(place, "persistence_engine", "engine sip reads UDP alone: it is left out");
        }
        let time = quoted(&format!("{timeout}s"));
        if fields.is_empty() {
            return Some(time);
        }
        let fields: Vec<String> =
            fields.iter().map(|(key, value)| format!(", {key} = {value}")).collect();
        Some(format!("{{ timeout = {time}{} }}", fields.concat()))
    }
}

/// The servers of a service, and who stands in for them.
pub(super) fn all(service: &Service) -> impl Iterator<Item = &Server> {
    service.servers.iter().chain(&service.sorry)
}
