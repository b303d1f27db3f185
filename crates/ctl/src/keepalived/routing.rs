//! `virtual_routes` and `virtual_rules` of an instance to routes and rules of its group. What would be another route,
//! or a rule for more packets, without an option that Quorate lacks is left out as a whole.

use std::net::IpAddr;

use quorate_model::spec::read::{ROUTE_MTU, ROUTING_MAX};

use super::ir::{Group, Net, Route, Rule};
use super::keywords::{Context, Fate, VIRTUAL_ROUTES, VIRTUAL_RULES};
use super::report::{Place, Report, clean};
use super::tree::Node;
use super::values::no_host;
use super::vrrp::net;

/// Options without which a route would be another one.
const ROUTE_WHOLE: [&str; 14] = [
    "throw",
    "local",
    "broadcast",
    "anycast",
    "multicast",
    "nat",
    "xresolve",
    "nexthop",
    "or",
    "from",
    "tos",
    "vrf",
    "encap",
    "expires",
];
/// Options of a route that are a word alone; the others have a value.
const ROUTE_FLAGS: [&str; 3] = ["onlink", "no_track", "append"];
/// Options of a rule that Quorate can do without; without any other that it lacks, a rule would take more packets,
/// or do something else with them.
const RULE_LESS: [&str; 4] = ["realms", "protocol", "no_track", "track_group"];
/// The priorities of the kernel's own rules.
const PRIORITIES_OF_THE_KERNEL: [u32; 3] = [0, 32_766, 32_767];

/// What is read, or why it is left out.
type Read<T> = Result<T, String>;

/// Puts what stands in the block to the group.
pub(super) fn of_group(node: &Node, group: &mut Group, report: &mut Report) {
    let keyword = node.keyword();
    if node.block.is_none() {
        return report.warn(node.place, keyword, "it has no block, and so nothing in it");
    }
    for child in node.children() {
        let read = if keyword == "virtual_routes" {
            route(child, report).map(|route| add(&mut group.routes, route, report))
        } else {
            rule(child, report).map(|rule| add(&mut group.rules, rule, report))
        };
        if let Err(why) = read {
            let words: Vec<&str> = child.words.iter().map(|word| word.text.as_str()).collect();
            let what = format!("{}: {why}: it is left out", clean(&words.join(" ")));
            report.warn(child.place, keyword, what);
        }
    }
}

/// What a group has several of, at most [`ROUTING_MAX`].
pub(super) trait Entry {
    /// The block that it stands in.
    const KEYWORD: &'static str;
    /// Where it stands.
    fn place(&self) -> Place;
}

impl Entry for Route {
    const KEYWORD: &'static str = "virtual_routes";
    fn place(&self) -> Place {
        self.place
    }
}

impl Entry for Rule {
    const KEYWORD: &'static str = "virtual_rules";
    fn place(&self) -> Place {
        self.place
    }
}

/// Adds one while there is room.
pub(super) fn add<T: Entry>(all: &mut Vec<T>, one: T, report: &mut Report) {
    if all.len() < ROUTING_MAX {
        return all.push(one);
    }
    let what = format!("a group has {ROUTING_MAX} of them at most: it is left out");
    report.warn(one.place(), T::KEYWORD, what);
}

/// The option of this name, by its present name, with what becomes of it.
fn option(context: &Context, word: &str) -> Option<(&'static str, Fate, &'static str)> {
    let mut found = context.find(word)?;
    if found.fate == Fate::Same {
        found = context.find(found.says)?;
    }
    Some((found.name, found.fate, found.says))
}

/// A number, of base 16 behind `0x`.
fn number(text: &str) -> Option<u32> {
    match text.strip_prefix("0x") {
        Some(digits) if !digits.starts_with('+') => u32::from_str_radix(digits, 16).ok(),
        Some(_) => None,
        None if text.starts_with('+') => None,
        None => text.parse().ok(),
    }
}

fn table(text: &str) -> Read<u32> {
    match (text, number(text)) {
        ("main", _) => Ok(254),
        ("default", _) => Ok(253),
        ("local", _) | (_, Some(255)) => Err("table 255 (local) is the kernel's own".to_owned()),
        (_, Some(0)) => Err("a table is 1 or more".to_owned()),
        (_, Some(number)) => Ok(number),
        (name, None) => Err(format!(
            "which number table {:?} has, /etc/iproute2/rt_tables of each director says: write the number",
            clean(name)
        )),
    }
}

/// All addresses of a family.
fn everything(four: bool) -> Net {
    let ip = if four { IpAddr::from([0_u8; 4]) } else { IpAddr::from([0_u16; 8]) };
    (ip, 0)
}

/// A network, without bits of a host; nothing of one that is all of a family that nobody says.
fn network(node: &Node, at: usize, report: &mut Report) -> Read<Option<Net>> {
    let text = node.arg(at);
    if ["default", "any", "all"].contains(&text) {
        return Ok(None);
    }
    let Some((ip, length)) = net(text) else {
        return Err(format!("{:?} is not a network", clean(text)));
    };
    let length = length.unwrap_or(if ip.is_ipv4() { 32 } else { 128 });
    let masked = masked(ip, length);
    if masked != ip {
        let what = format!("{ip}/{length} has bits of a host: it becomes {masked}/{length}");
        report.warn(node.place_of(at), clean(text).as_str(), what);
    }
    Ok(Some((masked, length)))
}

fn masked(ip: IpAddr, length: u8) -> IpAddr {
    match ip {
        IpAddr::V4(ip) => {
            let mask = u32::MAX.checked_shl(32 - u32::from(length.min(32))).unwrap_or(0);
            IpAddr::V4((u32::from(ip) & mask).into())
        }
        IpAddr::V6(ip) => {
            let mask = u128::MAX.checked_shl(128 - u32::from(length.min(128))).unwrap_or(0);
            IpAddr::V6((u128::from(ip) & mask).into())
        }
    }
}

fn device(text: &str) -> Read<String> {
    if text.is_empty() {
        return Err("a device is missing".to_owned());
    }
    Ok(text.to_owned())
}

fn agrees(family: &mut Option<bool>, four: bool) -> Read<()> {
    if family.is_some_and(|family| family != four) {
        return Err("it has addresses of both families".to_owned());
    }
    *family = Some(four);
    Ok(())
}

fn route(node: &Node, report: &mut Report) -> Read<Route> {
    let mut route = Route {
        place: node.place,
        kind: "unicast",
        to: everything(true),
        via: None,
        device: None,
        source: None,
        table: 254,
        metric: None,
        scope: None,
        mtu: None,
    };
    // Whether it is of IPv4, and where it goes to.
    let (mut family, mut to) = (None, None);
    let mut at = 0;
    while at < node.words.len() {
        let word = node.arg(at);
        let Some((name, fate, says)) = option(&VIRTUAL_ROUTES, word) else {
            if to.is_some() {
                return Err(format!(
                    "{:?} is no option of a route, so that Keepalived ignores it",
                    clean(word)
                ));
            }
            to = Some(network(node, at, report)?);
            if let Some(Some((ip, _))) = to {
                agrees(&mut family, ip.is_ipv4())?;
            }
            at += 1;
            continue;
        };
        if ROUTE_WHOLE.contains(&name) {
            return Err(format!("{word}: {says}"));
        }
        if fate == Fate::Dropped {
            report.warn(node.place_of(at), word, says);
            let locked = usize::from(node.arg(at + 1) == "lock");
            at += if ROUTE_FLAGS.contains(&name) { 1 } else { 2 + locked };
            continue;
        }
        at += 1;
        match name {
            "to" => continue,
            "inet" | "inet6" => {
                agrees(&mut family, name == "inet")?;
                continue;
            }
            "unicast" | "blackhole" | "unreachable" | "prohibit" => {
                route.kind = name;
                continue;
            }
            "via" if ["inet", "inet6"].contains(&node.arg(at)) => at += 1,
            "mtu" if node.arg(at) == "lock" => {
                report.warn(node.place_of(at), "lock", "an MTU of a route is not locked");
                at += 1;
            }
            _ => {}
        }
        route_option(name, node, at, (&mut route, &mut family), report)?;
        at += 1;
    }
    let to = to.ok_or("it has no destination")?;
    // Without any address it is of IPv4 for Keepalived as well.
    let four = family.unwrap_or(true);
    route.to = to.unwrap_or(everything(four));
    fit(&mut route, four, report);
    Ok(route)
}

fn route_option(
    name: &str,
    node: &Node,
    at: usize,
    (route, family): (&mut Route, &mut Option<bool>),
    report: &mut Report,
) -> Read<()> {
    let text = node.arg(at);
    match name {
        "via" | "src" => {
            let ip: IpAddr =
                text.parse().map_err(|_| format!("{name} {:?} is not an address", clean(text)))?;
            agrees(family, ip.is_ipv4())?;
            // A router of IPv6 is commonly known by its link-local address.
            let router =
                name == "via" && matches!(ip, IpAddr::V6(ip) if ip.is_unicast_link_local());
            if let Some(what) = no_host(ip).filter(|_| !router) {
                return Err(format!("{name} {ip} is {what}"));
            }
            *(if name == "via" { &mut route.via } else { &mut route.source }) = Some(ip);
        }
        "dev" => route.device = Some(device(text)?),
        "table" => route.table = table(text)?,
        "metric" => {
            let wrong = || format!("metric {:?} is not a number", clean(text));
            route.metric = Some(number(text).ok_or_else(wrong)?);
        }
        "scope" => match text {
            "global" | "0" => route.scope = Some("global"),
            "link" | "253" => route.scope = Some("link"),
            "host" | "254" => route.scope = Some("host"),
            _ => {
                let what = format!("a scope is global, link or host, not {:?}", clean(text));
                report.warn(node.place_of(at), name, what);
            }
        },
        _ => match number(text) {
            Some(mtu) => route.mtu = Some(mtu),
            None => super::values::bad(node, at, "an MTU", report),
        },
    }
    Ok(())
}

/// Takes out of a route what its kind, family and next hop forbid.
fn fit(route: &mut Route, four: bool, report: &mut Report) {
    let mut dropped = |keyword: &str, what: &str| report.warn(route.place, keyword, what);
    if route.kind != "unicast" {
        let only = "only a route of type unicast has it: packets go nowhere";
        for (keyword, has) in [
            ("via", route.via.take().is_some()),
            ("dev", route.device.take().is_some()),
            ("src", route.source.take().is_some()),
            ("scope", route.scope.take().is_some()),
            ("mtu", route.mtu.take().is_some()),
        ] {
            if has {
                dropped(keyword, only);
            }
        }
        return;
    }
    if route.scope.is_some() && !four {
        dropped("scope", "a route of IPv6 has no scope");
        route.scope = None;
    }
    if route.via.is_some() && route.scope.is_some_and(|scope| scope != "global") {
        dropped("scope", "what is behind a next hop is of scope global");
        route.scope = None;
    }
    let least = if four { ROUTE_MTU.0 } else { ROUTE_MTU.1 };
    if route.mtu.is_some_and(|mtu| !(least..=ROUTE_MTU.2).contains(&mtu)) {
        dropped("mtu", &format!("an MTU is {least} to {}", ROUTE_MTU.2));
        route.mtu = None;
    }
}

fn rule(node: &Node, report: &mut Report) -> Read<Rule> {
    let mut rule = Rule {
        place: node.place,
        four: true,
        priority: None,
        not: false,
        from: None,
        to: None,
        mark: None,
        incoming: None,
        outgoing: None,
        action: None,
        table: None,
    };
    let mut family = None;
    let mut at = 0;
    while at < node.words.len() {
        let word = node.arg(at);
        let Some((name, fate, says)) = option(&VIRTUAL_RULES, word) else {
            return Err(format!(
                "{:?} is no option of a rule, so that Keepalived ignores it",
                clean(word)
            ));
        };
        if fate == Fate::Dropped {
            if !RULE_LESS.contains(&name) {
                return Err(format!("{word}: {says}"));
            }
            report.warn(node.place_of(at), word, says);
            at += if name == "no_track" { 1 } else { 2 };
            continue;
        }
        at += 1;
        match name {
            "not" => rule.not = true,
            "inet" | "inet6" => agrees(&mut family, name == "inet")?,
            "blackhole" | "unreachable" | "prohibit" => acts(&mut rule, Some(name), None)?,
            _ => {
                rule_option(name, node, at, (&mut rule, &mut family), report)?;
                at += 1;
            }
        }
    }
    rule.four = family.unwrap_or(true);
    if rule.action.is_none() && rule.table.is_none() {
        return Err(
            "it says neither a table nor what to do, so that Keepalived ignores it".to_owned()
        );
    }
    let some = |net: &Option<Net>| net.is_some_and(|(_, length)| length > 0);
    let chooses = some(&rule.from)
        || some(&rule.to)
        || rule.mark.is_some()
        || rule.incoming.is_some()
        || rule.outgoing.is_some();
    if !chooses && (rule.not || rule.action.is_some()) {
        return Err("it takes every packet of the director, or none".to_owned());
    }
    // What names no address is of one family all the same.
    if rule.from.is_none() && rule.to.is_none() {
        rule.from = Some(everything(rule.four));
    }
    Ok(rule)
}

fn acts(rule: &mut Rule, action: Option<&'static str>, table: Option<u32>) -> Read<()> {
    if rule.action.is_some() || rule.table.is_some() {
        return Err("it says twice what to do, so that Keepalived ignores it".to_owned());
    }
    (rule.action, rule.table) = (action, table);
    Ok(())
}

fn rule_option(
    name: &str,
    node: &Node,
    at: usize,
    (rule, family): (&mut Rule, &mut Option<bool>),
    report: &mut Report,
) -> Read<()> {
    let text = node.arg(at);
    match name {
        "from" | "to" => {
            let net = network(node, at, report)?;
            if let Some((ip, _)) = net {
                agrees(family, ip.is_ipv4())?;
            }
            *(if name == "from" { &mut rule.from } else { &mut rule.to }) = net;
        }
        "iif" => rule.incoming = Some(device(text)?),
        "oif" => rule.outgoing = Some(device(text)?),
        "table" => acts(rule, None, Some(table(text)?))?,
        "fwmark" => rule.mark = Some(mark(text)?),
        _ => {
            let wrong = || format!("priority {:?} is not a number", clean(text));
            let priority = number(text).ok_or_else(wrong)?;
            if PRIORITIES_OF_THE_KERNEL.contains(&priority) {
                return Err(format!(
                    "priority {priority} is that of one of the kernel's own rules; use 1 to 32765"
                ));
            }
            rule.priority = Some(priority);
        }
    }
    Ok(())
}

/// A firewall mark, with the bits that count.
fn mark(text: &str) -> Read<(u32, Option<u32>)> {
    let (mark, mask) = match text.split_once('/') {
        Some((mark, mask)) => (number(mark), Some(number(mask))),
        None => (number(text), None),
    };
    let read = match (mark, mask) {
        (Some(mark), None) => Some((mark, None)),
        (Some(mark), Some(Some(mask))) => Some((mark, Some(mask))),
        _ => None,
    };
    let Some((mark, mask)) = read else {
        return Err(format!("fwmark {:?} is not a mark", clean(text)));
    };
    if mark == 0 {
        return Err("a rule can't choose packets that have no mark".to_owned());
    }
    if mask.is_some_and(|mask| mark & mask != mark) {
        return Err(format!("no packet can have fwmark {}", clean(text)));
    }
    Ok((mark, mask))
}

#[cfg(test)]
mod tests;
