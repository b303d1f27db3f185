//! Blocks to what one director's files say. Tests: `tests/keepalived`.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::time::Duration;

use super::ir::{Group, Side};
use super::keywords::{BFD_INSTANCE, GARP_GROUP, GLOBAL_DEFS, SSL, TOP};
use super::report::{Place, Report, clean};
use super::tracks;
use super::tree::Node;
use super::values::{bad, no_host, number_of, quoted, time};
use super::{services, vrrp};

/// What blocks name, and what holds for all of them.
#[derive(Debug, Default)]
pub(super) struct Known<'n> {
    pub(super) scripts: BTreeMap<&'n str, &'n Node>,
    pub(super) processes: BTreeMap<&'n str, &'n Node>,
    pub(super) files: BTreeMap<&'n str, &'n Node>,
    pub(super) addresses: BTreeMap<&'n str, &'n Node>,
    pub(super) routers: BTreeMap<&'n str, u32>,
    pub(super) user: Option<String>,
    pub(super) device: Option<String>,
    /// `ca`, `certificate` and `key`.
    pub(super) tls: Vec<(&'static str, String)>,
    pub(super) marks: BTreeMap<u32, Vec<String>>,
}

/// What one director's blocks say.
pub(super) fn side(
    nodes: &[Node],
    label: &str,
    marks: &BTreeMap<u32, Vec<String>>,
    report: &mut Report,
) -> Side {
    let mut side = Side { label: label.to_owned(), ..Side::default() };
    let top = TOP.account(nodes, report);
    let mut known = Known { marks: marks.clone(), ..Known::default() };
    for (keyword, node) in &top {
        named(keyword, node, &mut known, report);
    }
    for (keyword, node) in &top {
        if *keyword == "global_defs" {
            globals(node, &mut known, &mut side, report);
        }
    }
    let mut instances: Vec<Group> = Vec::new();
    for (keyword, node) in &top {
        match *keyword {
            "vrrp_instance" => {
                if let Some(group) = vrrp::instance(node, &known, &mut side, report) {
                    let twice = instances.iter().any(|other| other.name == group.name);
                    if twice {
                        let what =
                            "an instance of this name stands above; Keepalived leaves this one out";
                        report.warn(node.place, "vrrp_instance", what);
                    } else {
                        instances.push(group);
                    }
                }
            }
            "virtual_server" => services::service(node, &known, &mut side, report),
            "static_ipaddress" | "static_routes" | "static_rules" => stays(node, report),
            "bfd_instance" => {
                let what = "Quorate has no BFD: renewals find a dead director within the lease";
                report.warn(node.place, "bfd_instance", what);
                BFD_INSTANCE.account(node.children(), report);
            }
            "garp_group" => {
                GARP_GROUP.account(node.children(), report);
            }
            _ => {}
        }
    }
    let groups = top.iter().filter(|(keyword, _)| *keyword == "vrrp_sync_group");
    side.groups = vrrp::synchronised(
        groups.map(|(_, node)| *node).collect(),
        instances,
        &known,
        &mut side.tracks,
        report,
    );
    virtual_macs(&side, report);
    unused(&known, &side, report);
    for (name, node) in &known.addresses {
        let of = |node: &&Node| node.arg(1) == "group" && node.arg(2) == *name;
        if !top.iter().any(|(keyword, node)| *keyword == "virtual_server" && of(node)) {
            report.warn(node.place, "virtual_server_group", "no virtual_server uses it");
        }
    }
    side
}

/// A virtual MAC of its own is left out; not where clients of a service may rely on it.
fn virtual_macs(side: &Side, report: &mut Report) {
    let listens = |ip: IpAddr| {
        let mut all = side.services.iter().flat_map(|service| &service.listen);
        all.any(|(_, listen, _)| listen.ip == ip)
    };
    for group in &side.groups {
        let Some(place) = group.vmac else { continue };
        if group.vips.iter().any(|vip| listens(vip.ip)) {
            let what =
                "clients of a virtual_server may rely on it, and Quorate has no virtual MACs";
            report.error(place, "use_vmac", what, vrrp::VMAC_HELP);
        } else {
            report.warn(
                place,
                "use_vmac",
                format!("Quorate has no virtual MACs: {}", vrrp::VMAC_HELP),
            );
        }
    }
}

fn named<'n>(keyword: &str, node: &'n Node, known: &mut Known<'n>, report: &mut Report) {
    let place = match keyword {
        "vrrp_script" => &mut known.scripts,
        "vrrp_track_process" => &mut known.processes,
        "track_file" => &mut known.files,
        "virtual_server_group" => &mut known.addresses,
        "vrrp_instance" => {
            let router = node.children().iter().find(|n| n.keyword() == "virtual_router_id");
            if let Some(id) = router.and_then(|node| node.arg(1).parse().ok()) {
                known.routers.insert(node.arg(1), id);
            }
            return;
        }
        "SSL" => {
            for (key, node) in SSL.account(node.children(), report) {
                if node.arg(1).starts_with('/') {
                    known.tls.retain(|(known, _)| *known != key);
                    known.tls.push((key, node.arg(1).to_owned()));
                } else {
                    bad(node, 1, "the absolute path of a file", report);
                }
            }
            let both = ["certificate", "key"].map(|key| known.tls.iter().any(|(k, _)| *k == key));
            if both[0] != both[1] {
                let what =
                    "a certificate needs its key, and the key its certificate: both are left out";
                report.warn(node.place, "SSL", what);
                known.tls.retain(|(key, _)| *key == "ca");
            }
            return;
        }
        _ => return,
    };
    if node.arg(1).is_empty() {
        report.warn(node.place, keyword, "it has no name, and is ignored");
    } else if let Some(first) = place.insert(node.arg(1), node) {
        let what = format!("{:?} stands above already; that one counts", clean(node.arg(1)));
        report.warn(node.place, keyword, what);
        place.insert(node.arg(1), first);
    }
}

fn globals<'n>(node: &'n Node, known: &mut Known<'n>, side: &mut Side, report: &mut Report) {
    for (keyword, node) in GLOBAL_DEFS.account(node.children(), report) {
        match keyword {
            "router_id" => {
                let name = Some(node.arg(1).to_owned()).filter(|name| !name.is_empty());
                side.router_id = name.map(|name| (name, node.place));
            }
            "script_user" => known.user = super::tracks::who(node, 1, report),
            "default_interface" => {
                known.device = Some(node.arg(1).to_owned()).filter(|name| !name.is_empty());
            }
            "lvs_flush" => {
                side.cluster.push(("foreign_services", quoted("remove"), node.place));
            }
            "lvs_timeouts" => timeouts(node, side, report),
            "lvs_sync_daemon" => sync(node, &known.routers, side, report),
            _ => {}
        }
    }
}

fn timeouts(node: &Node, side: &mut Side, report: &mut Report) {
    let mut fields = Vec::new();
    let mut at = 1;
    while at < node.words.len() {
        let key = match node.arg(at) {
            "tcp" => "tcp",
            "tcpfin" | "tcp_fin" => "tcp_fin",
            "udp" => "udp",
            _ => {
                bad(node, at, "tcp, tcpfin or udp", report);
                at += 1;
                continue;
            }
        };
        // 0 leaves the kernel's own.
        if let Some(seconds) =
            number_of(node, at + 1, (0, 24 * 24 * 3600), report).filter(|s| *s > 0)
        {
            set(&mut fields, key, &time(Duration::from_secs(seconds.into())));
        }
        at += 2;
    }
    if !fields.is_empty() {
        side.cluster.push(("timeouts", format!("{{ {} }}", fields.join(", ")), node.place));
    }
}

/// `lvs_sync_daemon DEVICE [[inst] INSTANCE] [id N] [maxlen N] [port N] [ttl N] [group ADDRESS]`.
fn sync(node: &Node, routers: &BTreeMap<&str, u32>, side: &mut Side, report: &mut Report) {
    let device = node.arg(1);
    if device.is_empty() {
        return bad(node, 1, "an interface", report);
    }
    let (mut id, mut fields, mut at) = (None, Vec::new(), 2);
    while at < node.words.len() {
        let bounds = match node.arg(at) {
            "id" | "syncid" => (0, 255),
            "maxlen" => (1_024, 65_487),
            "port" => (1, 65_535),
            "ttl" => (1, 255),
            "group" => {
                match node.arg(at + 1).parse::<IpAddr>() {
                    Ok(ip) if ip.is_multicast() && !is_narrow(ip) => {
                        set(&mut fields, "group", &quoted(&ip.to_string()));
                    }
                    _ => bad(node, at + 1, "a multicast address of more than one link", report),
                }
                at += 2;
                continue;
            }
            "inst" => {
                at += 1;
                continue;
            }
            name => {
                match routers.get(name) {
                    Some(router) => id = Some(id.unwrap_or(*router)),
                    None => bad(node, at, "the name of a vrrp_instance", report),
                }
                at += 1;
                continue;
            }
        };
        match number_of(node, at + 1, bounds, report) {
            Some(number) if bounds == (0, 255) => id = Some(number),
            Some(number) => set(&mut fields, node.arg(at), &number.to_string()),
            None => {}
        }
        at += 2;
    }
    synchronises(device, id, fields, node.place, side, report);
}

/// Of what stands twice in one line, the last counts.
fn set(fields: &mut Vec<String>, key: &str, value: &str) {
    let start = format!("{key} = ");
    fields.retain(|field| !field.starts_with(&start));
    fields.push(format!("{start}{value}"));
}

/// Whether it is a group of one host or one link, which is sent from a link-local address.
fn is_narrow(ip: IpAddr) -> bool {
    matches!(ip, IpAddr::V6(six) if matches!(six.segments()[0] & 0xf, 1 | 2))
}

/// Notes what the sync daemons shall do; both run on every director.
pub(super) fn synchronises(
    device: &str,
    id: Option<u32>,
    fields: Vec<String>,
    place: Place,
    side: &mut Side,
    report: &mut Report,
) {
    if side.cluster.iter().any(|(key, ..)| *key == "sync") {
        return report.warn(place, "lvs_sync_daemon", "it stands above already; that one counts");
    }
    let link = super::names::name_of(device);
    let mut all = vec![format!("link = {}", quoted(&link))];
    match id {
        Some(0) => {
            let what = "id 0 becomes 1, the least that there is: no other daemons on that network may have it";
            report.warn(place, "lvs_sync_daemon", what);
        }
        Some(id) if id != 1 => all.push(format!("id = {id}")),
        _ => {}
    }
    all.extend(fields);
    let what = format!(
        "both daemons run on every director, over the [[link]] {link:?} of its node.toml: give that name \
         to the link on {}",
        clean(device)
    );
    report.warn(place, "lvs_sync_daemon", what);
    side.cluster.push(("sync", format!("{{ {} }}", all.join(", ")), place));
}

/// What is no cluster's: each of it is named.
fn stays(node: &Node, report: &mut Report) {
    for child in node.children() {
        let words: Vec<&str> = child.words.iter().map(|word| word.text.as_str()).collect();
        let what = format!(
            "{}: it stays on the machine, so put it into its own network set-up",
            clean(&words.join(" "))
        );
        report.warn(child.place, node.keyword(), what);
    }
    if node.children().is_empty() {
        report.warn(node.place, node.keyword(), "it is empty");
    }
}

/// What nobody names does nothing.
fn unused(known: &Known<'_>, side: &Side, report: &mut Report) {
    let named = |kind: &str, name: &str| {
        let keys = [false, true].map(|reverse| tracks::key(kind, name, reverse));
        side.tracks.iter().any(|track| keys.contains(&track.key))
    };
    for (name, node) in &known.scripts {
        if !named("script", name) {
            report.warn(node.place, "vrrp_script", "nothing tracks it, so that it never runs");
        }
    }
    for (name, node) in &known.processes {
        if !named("process", name) {
            report.warn(node.place, "vrrp_track_process", "nothing tracks it");
        }
    }
    for (name, node) in &known.files {
        let probed = side.services.iter().flat_map(|service| &service.servers);
        let mut probed = probed.flat_map(|server| &server.checks);
        if !named("file", name) && !probed.any(|check| check.kind == "file") {
            report.warn(node.place, "track_file", "nothing tracks it");
        }
    }
}

/// What a real server or VIP may be; told if it is not.
pub(super) fn host(node: &Node, at: usize, report: &mut Report) -> Option<IpAddr> {
    let text = node.arg(at);
    // Of `fe80::1%eth0`, the device is none of the address.
    let Ok(ip) = text.parse::<IpAddr>() else {
        let what = "an address: Keepalived leaves it out as well, and so does the import";
        let message = format!("{:?} is not {what}", clean(text));
        report.warn(node.place, node.keyword(), message);
        return None;
    };
    if let Some(what) = no_host(ip) {
        report.warn(node.place, node.keyword(), format!("{ip} is {what}: it is left out"));
        return None;
    }
    Some(ip)
}
