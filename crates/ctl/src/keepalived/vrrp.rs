//! `vrrp_instance` and `vrrp_sync_group` to groups.

use std::net::IpAddr;
use std::time::Duration;

use super::ir::{Group, Side, Track, Vip};
use super::keywords::{ADDRESS, AUTHENTICATION, Fate, VRRP_INSTANCE, VRRP_SYNC_GROUP};
use super::report::{Report, clean};
use super::side::{Known, synchronises};
use super::tree::Node;
use super::values::{is_edge, no_host, number_of, prefix, time_of};
use super::{hooks, routing, tracks};

/// Longest `preempt_delay` of Keepalived.
const DELAY_MAX: Duration = Duration::from_secs(1000);
/// Keepalived's own device for addresses that name none.
const DEVICE_DEFAULT: &str = "eth0";

/// What to do about a virtual MAC.
pub(super) const VMAC_HELP: &str = "take it out, and let the addresses be on the interface itself: a new owner is \
    announced by gratuitous ARP and unsolicited neighbour advertisements. What names the device of the virtual MAC \
    (routes, rules, firewall) has to name the interface then";

pub(super) fn instance(
    node: &Node,
    known: &Known<'_>,
    side: &mut Side,
    report: &mut Report,
) -> Option<Group> {
    let name = node.arg(1);
    if name.is_empty() {
        report.warn(
            node.place,
            "vrrp_instance",
            "it has no name: Keepalived leaves it out as well",
        );
        return None;
    }
    let mut group = Group::new(name, node.place_of(1), node.until);
    group.instances.push(name.to_owned());
    let wanted = VRRP_INSTANCE.account(node.children(), report);
    for (keyword, node) in &wanted {
        setting(keyword, node, known, &mut group, side, report);
    }
    let followed: Vec<_> = wanted.iter().map(|(keyword, node)| (*keyword, *node)).collect();
    tracks::of(&followed, known, &mut group, &mut side.tracks, report);
    hooks::of_group(&followed, "INSTANCE", known, &mut group, report);
    if group.device.is_none() {
        group.device = known.device.clone();
    }
    if group.device.is_none() && group.vips.iter().any(|vip| vip.device.is_none()) {
        let what = format!(
            "it names no interface: its addresses go to {DEVICE_DEFAULT}, as with Keepalived"
        );
        report.warn(node.place, "vrrp_instance", what);
        group.device = Some(DEVICE_DEFAULT.to_owned());
    }
    Some(group)
}

fn setting(
    keyword: &str,
    node: &Node,
    known: &Known<'_>,
    group: &mut Group,
    side: &mut Side,
    report: &mut Report,
) {
    match keyword {
        "interface" if node.arg(1).is_empty() => {
            super::values::bad(node, 1, "an interface", report)
        }
        "interface" => {
            group.device = Some(node.arg(1).to_owned());
            if node.words.len() > 2 {
                let what = "VRRP has one interface; for several, give node.toml several [[link]]s";
                report.warn(node.place, "interface", what);
            }
        }
        "state" => match node.arg(1).to_ascii_uppercase().as_str() {
            "MASTER" => group.master = true,
            "BACKUP" | "FAULT" => {}
            _ => super::values::bad(node, 1, "MASTER or BACKUP", report),
        },
        "priority" => {
            if let Some(priority) = number_of(node, 1, (1, 255), report) {
                group.priority = priority;
            }
        }
        "nopreempt" => group.preempt = false,
        "preempt" => group.preempt = true,
        "preempt_delay" => {
            let delay = time_of(node, 1, (Duration::ZERO, DELAY_MAX), report);
            group.preempt_delay = delay.unwrap_or_default();
        }
        "virtual_ipaddress" | "virtual_ipaddress_excluded" => addresses(node, group, report),
        "virtual_routes" | "virtual_rules" => routing::of_group(node, group, report),
        "authentication" => {
            let what = "the directors know each other by keys of their own (mutual TLS)";
            report.warn(node.place, "authentication", what);
            AUTHENTICATION.account(node.children(), report);
        }
        "use_vmac" => virtual_mac(node, group, report),
        "lvs_sync_daemon_interface" => {
            let router = known.routers.get(group.name.as_str()).copied();
            synchronises(node.arg(1), router, Vec::new(), node.place, side, report);
        }
        _ => {}
    }
}

/// Whether it may be left out is known once the services are.
fn virtual_mac(node: &Node, group: &mut Group, report: &mut Report) {
    if node.words.len() > 1 {
        let what = "it names a device or a MAC, and Quorate has no virtual MACs";
        report.error(node.place, "use_vmac", what, VMAC_HELP);
    } else {
        group.vmac = Some(node.place);
    }
}

/// Addresses with what stands behind each, several in a line too.
fn addresses(node: &Node, group: &mut Group, report: &mut Report) {
    if node.block.is_none() {
        return report.warn(node.place, node.keyword(), "it has no block, and so no address");
    }
    for child in node.children() {
        let mut at = 0;
        while at < child.words.len() {
            at = address(child, at, group, report);
        }
    }
}

/// Reads one address; where the next begins.
fn address(node: &Node, from: usize, group: &mut Group, report: &mut Report) -> usize {
    let parsed = net(node.arg(from));
    let place = node.place_of(from);
    let mut device = None;
    let mut at = from + 1;
    while at < node.words.len() && net(node.arg(at)).is_none() {
        let word = node.arg(at);
        let mut name = word;
        let mut keyword = ADDRESS.find(word);
        if let Some(found) = keyword.filter(|keyword| keyword.fate == Fate::Same) {
            name = found.says;
            keyword = ADDRESS.find(found.says);
        }
        match keyword {
            Some(keyword) if keyword.fate == Fate::Becomes => {
                device = Some(node.arg(at + 1).to_owned()).filter(|name| !name.is_empty());
            }
            Some(keyword) => report.warn(node.place_of(at), word, keyword.says),
            None => {
                let what = "it is no option of an address: Keepalived ignores it";
                report.warn(node.place_of(at), word, what);
            }
        }
        let valued = ["dev", "label", "scope", "brd", "peer", "track_group", "preferred_lft"];
        at += if valued.contains(&name) { 2 } else { 1 };
    }
    let Some((ip, length)) = parsed else {
        let what = format!(
            "{:?} is not an address: Keepalived leaves it out as well",
            clean(node.arg(from))
        );
        report.warn(place, "virtual_ipaddress", what);
        return at;
    };
    if let Some(what) = no_host(ip) {
        let what = format!("{ip} is {what}, which can be no VIP: it is left out");
        report.warn(place, "virtual_ipaddress", what);
        return at;
    }
    let full = if ip.is_ipv4() { 32 } else { 128 };
    let mut prefix = length.unwrap_or(full);
    if prefix == 0 || is_edge(ip, prefix) {
        let what = format!(
            "{ip}/{prefix} is the first or last address of its network: it becomes {ip}/{full}"
        );
        report.warn(place, "virtual_ipaddress", what);
        prefix = full;
    }
    if group.vips.iter().any(|vip| vip.ip == ip) {
        report.warn(place, "virtual_ipaddress", format!("{ip} stands twice: once is enough"));
    } else {
        group.vips.push(Vip { ip, prefix, device, place });
    }
    at
}

/// An address with the length that it says.
pub(super) fn net(text: &str) -> Option<(IpAddr, Option<u8>)> {
    let text = text.trim_end_matches([',', ';']);
    let (ip, length) = match text.split_once('/') {
        Some((ip, length)) => (ip, Some(length)),
        None => (text, None),
    };
    let ip: IpAddr = ip.parse().ok()?;
    match length {
        Some(length) => Some((ip, Some(prefix(length, ip.is_ipv4())?))),
        None => Some((ip, None)),
    }
}

/// Instances that move together are one group; the others each their own.
pub(super) fn synchronised(
    sync: Vec<&Node>,
    instances: Vec<Group>,
    known: &Known<'_>,
    all_tracks: &mut Vec<Track>,
    report: &mut Report,
) -> Vec<Group> {
    let mut instances: Vec<Option<Group>> = instances.into_iter().map(Some).collect();
    let mut groups = Vec::new();
    for node in sync {
        let mut members: Vec<(String, super::report::Place)> = Vec::new();
        // Of old they stood in its block by themselves.
        let is_member = |child: &&Node| {
            let there = |group: &&Option<Group>| {
                group.as_ref().is_some_and(|group| group.name == child.keyword())
            };
            VRRP_SYNC_GROUP.find(child.keyword()).is_none() && instances.iter().any(|g| there(&g))
        };
        let (loose, settings): (Vec<&Node>, Vec<&Node>) =
            node.children().iter().partition(is_member);
        for child in loose {
            let what = "an instance stands in `group { }`, and Keepalived ignores this: it is taken for one";
            report.warn(child.place, "vrrp_sync_group", what);
            members.extend(named(child, 0));
        }
        let settings: Vec<Node> = settings.into_iter().cloned().collect();
        let wanted = VRRP_SYNC_GROUP.account(&settings, report);
        for (_, node) in wanted.iter().filter(|(keyword, _)| *keyword == "group") {
            members.extend(named(node, 1));
            members.extend(node.children().iter().flat_map(|child| named(child, 0)));
        }
        let mut whole: Option<Group> = None;
        for (name, place) in members {
            let found = instances
                .iter_mut()
                .find(|slot| slot.as_ref().is_some_and(|group| group.name == name));
            let Some(member) = found.and_then(Option::take) else {
                let what = format!(
                    "there is no vrrp_instance {:?} that is in no other group",
                    clean(&name)
                );
                report.warn(place, "vrrp_sync_group", what);
                continue;
            };
            whole = Some(match whole {
                Some(whole) => together(whole, member, report),
                None => member,
            });
        }
        let Some(mut whole) = whole else {
            report.warn(node.place, "vrrp_sync_group", "it has no instance, and is left out");
            continue;
        };
        if !node.arg(1).is_empty() {
            node.arg(1).clone_into(&mut whole.name);
        }
        (whole.place, whole.until) = (node.place, node.until);
        let followed: Vec<_> = wanted.iter().map(|(keyword, node)| (*keyword, *node)).collect();
        tracks::of(&followed, known, &mut whole, all_tracks, report);
        hooks::of_group(&followed, "GROUP", known, &mut whole, report);
        groups.push(whole);
    }
    // In the order of the file, as far as one can tell.
    groups.extend(instances.into_iter().flatten());
    groups
}

fn named(node: &Node, from: usize) -> Vec<(String, super::report::Place)> {
    let words = node.words.iter().enumerate().skip(from);
    words.map(|(at, word)| (word.text.clone(), node.place_of(at))).collect()
}

/// Puts a second instance to the first.
fn together(mut whole: Group, member: Group, report: &mut Report) -> Group {
    if member.priority != whole.priority {
        let what = format!(
            "the instances of one sync group have priorities {} and {}: the first counts",
            whole.priority, member.priority
        );
        report.warn(member.place, "priority", what);
    }
    for mut vip in member.vips {
        if vip.device.is_none() && member.device != whole.device {
            vip.device.clone_from(&member.device);
        }
        if whole.vips.iter().any(|other| other.ip == vip.ip) {
            report.warn(
                vip.place,
                "virtual_ipaddress",
                format!("{} stands twice: once is enough", vip.ip),
            );
        } else {
            whole.vips.push(vip);
        }
    }
    for mut route in member.routes {
        // One that drops packets has no device.
        let goes_on = route.kind == "unicast" && route.device.is_none();
        if goes_on && member.device != whole.device {
            route.device.clone_from(&member.device);
        }
        routing::add(&mut whole.routes, route, report);
    }
    for rule in member.rules {
        routing::add(&mut whole.rules, rule, report);
    }
    whole.instances.extend(member.instances);
    whole.master |= member.master;
    whole.preempt &= member.preempt;
    whole.preempt_delay = whole.preempt_delay.max(member.preempt_delay);
    for track in member.tracks {
        if !whole.tracks.contains(&track) {
            whole.tracks.push(track);
        }
    }
    whole.hooks.extend(member.hooks);
    whole.vmac = whole.vmac.or(member.vmac);
    whole
}
