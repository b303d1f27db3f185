//! `routes` and `rules` of a group.

use std::collections::BTreeSet;
use std::net::IpAddr;

use ipnet::IpNet;

use crate::id::InterfaceName;
use crate::kernel::Family;
use crate::routing::{
    Place, ROUTE_KINDS, ROUTE_SCOPES, Route, RouteKind, RouteScope, RoutingEntry, Rule, RuleAction,
    TABLE_LOCAL, TABLE_MAIN, effective_metric,
};
use crate::spec::Vip;
use crate::spec::document::{Diagnostics, Field, Table};

use super::group::Groups;
use super::{ROUTE_MTU, ROUTING_MAX, ROUTING_TOTAL_MAX, address, keys};

/// The priorities of the kernel's own rules, besides 0 (`fib_default_rules_init`, net/ipv4/fib_rules.c).
const PRIORITIES_OF_THE_KERNEL: [u32; 2] = [32_766, 32_767];

/// What the entries of one group share.
struct Of<'v> {
    /// The group's interface: `None` if it gives none, `Some(None)` if what it gives is none.
    interface: Option<Option<InterfaceName>>,
    /// Its addresses, as far as they could be read.
    vips: Option<&'v [Vip]>,
}

impl Of<'_> {
    /// The families of the group's addresses, if they are known.
    fn families(&self) -> Option<BTreeSet<Family>> {
        Some(self.vips?.iter().map(|vip| Family::of(vip.net.addr())).collect())
    }
}

type Read = BTreeSet<RoutingEntry<InterfaceName>>;

pub(super) fn routing(
    table: &Table<'_>,
    group: &str,
    vips: Option<&[Vip]>,
    groups: &mut Groups,
    out: &mut Diagnostics,
) -> Option<Read> {
    // What is wrong with it was noted with the addresses.
    let interface = table.get("interface").map(|field| field.peek().and_then(|t| t.parse().ok()));
    let of = Of { interface, vips };
    let mut all = Some(Read::new());
    for key in ["routes", "rules"] {
        let Some(field) = table.get(key) else { continue };
        let Some(list) = field.list(out) else {
            all = None;
            continue;
        };
        if list.len() > ROUTING_MAX {
            let message = format!("{} {key}, at most {ROUTING_MAX} can be given", list.len());
            out.push(field.problem(message));
            all = None;
            continue;
        }
        for item in &list {
            let read = match key {
                "routes" => route(item, &of, out).map(|route| vec![RoutingEntry::Route(route)]),
                _ => rules(item, &of, out)
                    .map(|rules| rules.into_iter().map(RoutingEntry::Rule).collect()),
            };
            let read = read.filter(|read| read.iter().all(|e| is_new(e, item, group, groups, out)));
            all = all.zip(read).map(|(mut all, read)| {
                all.extend(read);
                all
            });
        }
    }
    all
}

/// Notes what this group has; no kernel could hold it twice.
fn is_new(
    entry: &RoutingEntry<InterfaceName>,
    item: &Field<'_>,
    group: &str,
    groups: &mut Groups,
    out: &mut Diagnostics,
) -> bool {
    let place = entry.place();
    if let Some(other) = groups.routing.get(&place) {
        let (what, help) = match place {
            Place::Route(to, table, metric) => (
                format!("a route to {to} in table {table} with metric {metric}"),
                "give one of the two another metric or table, or remove it",
            ),
            Place::Rule(family, priority) => (
                format!("a rule of {family} with priority {priority}"),
                "give one of the two another priority: rules of one priority have no order",
            ),
        };
        out.push(item.problem(format!("group {other} has {what} already")).help(help));
        return false;
    }
    if groups.routing.len() >= ROUTING_TOTAL_MAX {
        let message =
            format!("more than {ROUTING_TOTAL_MAX} routes and rules in all groups together");
        out.push(item.problem(message));
        return false;
    }
    groups.routing.insert(place, group.to_owned());
    true
}

/// What an optional key gives: `Some(None)` if it is left out, `None` if it is wrong.
fn optional<T>(
    table: &Table<'_>,
    key: &str,
    read: impl FnOnce(&Field<'_>) -> Option<T>,
) -> Option<Option<T>> {
    match table.get(key) {
        Some(field) => read(&field).map(Some),
        None => Some(None),
    }
}

fn route(item: &Field<'_>, of: &Of<'_>, out: &mut Diagnostics) -> Option<Route<InterfaceName>> {
    let table = item.table(&keys::ROUTE, out)?;
    let kind = table.get("type").map_or(Some(RouteKind::Unicast), |field| {
        field.choice("type of route", &ROUTE_KINDS, &[], out)
    });
    let goes_on = kind.is_none_or(|kind| kind == RouteKind::Unicast);
    if !goes_on {
        for key in ["via", "interface", "source", "scope", "mtu"] {
            if let Some(field) = table.get(key) {
                let problem = field.problem(format!("only a route of type unicast has {key:?}"));
                out.push(problem.help("leave it out"));
            }
        }
    }
    let to = table.require("to", out).and_then(|field| destination(&field, out));
    let via = optional(&table, "via", |field| gateway(field, of, out));
    let source = optional(&table, "source", |field| {
        let source = field.address(out)?;
        address::refuse_no_host(source, field, out).map(|()| source)
    });
    let own = optional(&table, "interface", |field| field.parsed("an interface name", out));
    let interface = match (own, goes_on) {
        (_, false) => Some(None),
        (Some(None), true) => {
            if of.interface.is_none() {
                out.push(table.missing("interface").help("give it here or to the whole group"));
            }
            // What the group gives may be none: that is noted already.
            of.interface.clone().flatten().map(Some)
        }
        (own, true) => own,
    };
    let number = table_number(&table, out);
    let metric = optional(&table, "metric", |field| field.integer("a metric", 0..=u32::MAX, out));
    let scope = optional(&table, "scope", |field| field.choice("scope", &ROUTE_SCOPES, &[], out));
    let mtu =
        optional(&table, "mtu", |field| field.integer("an MTU", ROUTE_MTU.0..=ROUTE_MTU.2, out));
    let (to, via, source) = (to?, via?, source?);
    let family = family(&table, (to, via, source), of, out)?;
    let to = to.unwrap_or(match family {
        Family::V4 => IpNet::V4(ipnet::Ipv4Net::default()),
        Family::V6 => IpNet::V6(ipnet::Ipv6Net::default()),
    });
    let scope = scope_of(&table, family, (scope?, via, goes_on), out)?;
    let mtu = mtu?;
    if let (Some(mtu), Family::V6, Some(field)) = (mtu, family, table.get("mtu"))
        && mtu < ROUTE_MTU.1
    {
        out.push(field.problem(format!("an MTU of IPv6 is {} or more, not {mtu}", ROUTE_MTU.1)));
        return None;
    }
    Some(Route {
        to,
        kind: kind?,
        via,
        interface: interface?,
        source,
        table: number?,
        metric: effective_metric(family, metric?),
        scope,
        mtu,
    })
}

/// `"default"` (`None`: of which family, the rest says), a network, or an address.
fn destination(field: &Field<'_>, out: &mut Diagnostics) -> Option<Option<IpNet>> {
    if field.peek() == Some("default") {
        return Some(None);
    }
    network(field, out).map(Some)
}

/// A network, or an address alone; without bits of a host.
fn network(field: &Field<'_>, out: &mut Diagnostics) -> Option<IpNet> {
    let text = field.text("a network", out)?;
    let net = text.parse::<IpNet>().ok().or_else(|| text.parse::<IpAddr>().ok().map(IpNet::from));
    let Some(net) = net else {
        let quoted: String = text.chars().take(60).collect();
        let problem = field.problem(format!("{quoted:?} is not a network"));
        out.push(problem.help("write it as \"10.0.0.0/8\" or \"2001:db8::/32\""));
        return None;
    };
    if net.addr() != net.network() {
        let problem = field.problem(format!("{net} has bits of a host set"));
        out.push(problem.help(format!("write \"{}\"", net.trunc())));
        return None;
    }
    Some(net)
}

fn gateway(field: &Field<'_>, of: &Of<'_>, out: &mut Diagnostics) -> Option<IpAddr> {
    let via = field.address(out)?;
    // A router of IPv6 is commonly known by its link-local address.
    let link_local = matches!(via, IpAddr::V6(via) if via.is_unicast_link_local());
    if !link_local {
        address::refuse_no_host(via, field, out)?;
    }
    if of.vips.is_some_and(|vips| vips.iter().any(|vip| vip.net.addr() == via)) {
        let problem = field.problem(format!("{via} is an address of the group itself"));
        out.push(problem.help("name the next hop, or leave out `via`"));
        return None;
    }
    Some(via)
}

/// The family that all of a route's addresses have; of a default route without any, the group's.
fn family(
    table: &Table<'_>,
    (to, via, source): (Option<IpNet>, Option<IpAddr>, Option<IpAddr>),
    of: &Of<'_>,
    out: &mut Diagnostics,
) -> Option<Family> {
    let named = [("to", to.map(|to| to.addr())), ("via", via), ("source", source)];
    let mut named = named.into_iter().filter_map(|(key, ip)| Some((key, Family::of(ip?))));
    let Some((first, family)) = named.next() else {
        let families = of.families()?;
        let (Some(family), 1) = (families.first(), families.len()) else {
            let problem = table.at.problem("the group has addresses of both families");
            out.push(problem.help("write \"0.0.0.0/0\" or \"::/0\" in place of \"default\""));
            return None;
        };
        return Some(*family);
    };
    let mut agree = true;
    for (key, other) in named.filter(|(_, other)| *other != family) {
        if let Some(field) = table.get(key) {
            let message = format!("{key:?} is of {other}, and {first:?} of {family}");
            out.push(field.problem(message).help("a route is of one family"));
        }
        agree = false;
    }
    agree.then_some(family)
}

/// The scope as the kernel has it.
fn scope_of(
    table: &Table<'_>,
    family: Family,
    (scope, via, goes_on): (Option<RouteScope>, Option<IpAddr>, bool),
    out: &mut Diagnostics,
) -> Option<RouteScope> {
    let (Some(scope), Some(field)) = (scope, table.get("scope")) else {
        let link = goes_on && via.is_none() && family == Family::V4;
        return Some(if link { RouteScope::Link } else { RouteScope::Global });
    };
    if family == Family::V6 {
        out.push(field.problem("a route of IPv6 has no scope").help("leave it out"));
        return None;
    }
    if via.is_some() && scope != RouteScope::Global {
        let problem = field.problem("what is behind a next hop is of scope global");
        out.push(problem.help("leave out `scope`, or `via`"));
        return None;
    }
    Some(scope)
}

/// The table of a route or rule; `None` if it is wrong.
fn table_number(table: &Table<'_>, out: &mut Diagnostics) -> Option<u32> {
    let Some(field) = table.get("table") else { return Some(TABLE_MAIN) };
    let number = field.integer("a table", 1..=u32::MAX, out)?;
    if number == TABLE_LOCAL {
        let problem = field.problem("table 255 (local) is the kernel's own");
        out.push(problem.help("use another: 254 is main, and 1 to 252 are free"));
        return None;
    }
    Some(number)
}

/// One rule, or one for each family of the group where it says nothing of addresses.
fn rules(item: &Field<'_>, of: &Of<'_>, out: &mut Diagnostics) -> Option<Vec<Rule<InterfaceName>>> {
    let table = item.table(&keys::RULE, out)?;
    let priority = table.require("priority", out).and_then(|field| priority(&field, out));
    let not = table.get("not").map_or(Some(false), |flag| flag.flag(out));
    let from = optional(&table, "from", |field| network(field, out));
    let to = optional(&table, "to", |field| network(field, out));
    let mark = mark(&table, out);
    let incoming = optional(&table, "incoming", |field| field.parsed("an interface name", out));
    let outgoing = optional(&table, "outgoing", |field| field.parsed("an interface name", out));
    let action = action(&table, out);
    let (from, to) = (from?, to?);
    let families = match (from, to) {
        (Some(from), Some(to)) if Family::of(from.addr()) != Family::of(to.addr()) => {
            let problem = table.at.problem("\"from\" and \"to\" are of different families");
            out.push(problem.help("a rule is of one family: write two"));
            return None;
        }
        (Some(net), _) | (None, Some(net)) => [Family::of(net.addr())].into(),
        (None, None) => of.families()?,
    };
    // All addresses of the family are no choice.
    let some = |net: &IpNet| net.prefix_len() > 0;
    let rule = Rule {
        family: Family::V4,
        priority: priority?,
        not: not?,
        from: from.filter(some),
        to: to.filter(some),
        mark: mark?,
        incoming: incoming?,
        outgoing: outgoing?,
        action: action?,
    };
    let chooses = rule.from.is_some()
        || rule.to.is_some()
        || rule.mark.is_some()
        || rule.incoming.is_some()
        || rule.outgoing.is_some();
    let help = "say which packets: from, to, mark, incoming or outgoing";
    if !chooses && rule.not {
        out.push(table.at.problem("`not` turns a choice round, and there is none").help(help));
        return None;
    }
    if !chooses && !matches!(rule.action, RuleAction::Lookup(_)) {
        let message = "this rule takes every packet of the director, those to other nodes too";
        out.push(table.at.problem(message).help(help));
        return None;
    }
    Some(families.into_iter().map(|family| Rule { family, ..rule.clone() }).collect())
}

fn priority(field: &Field<'_>, out: &mut Diagnostics) -> Option<u32> {
    let priority = field.integer("a priority", 0..=u32::MAX, out)?;
    let whose = match priority {
        0 => "priority 0 is that of the lookup of the host's own addresses",
        _ if PRIORITIES_OF_THE_KERNEL.contains(&priority) => {
            "priorities 32766 and 32767 are those of the kernel's own rules"
        }
        _ => return Some(priority),
    };
    let help = "use 1 to 32765 to be asked before table main, or 32768 and more after it";
    out.push(field.problem(whose).help(help));
    None
}

/// The firewall mark with its mask.
fn mark(table: &Table<'_>, out: &mut Diagnostics) -> Option<Option<(u32, u32)>> {
    let mark = optional(table, "mark", |field| field.integer("a firewall mark", 1..=u32::MAX, out));
    let mask = optional(table, "mask", |field| field.integer("a mask", 1..=u32::MAX, out));
    match (mark?, mask?, table.get("mask")) {
        (None, Some(_), Some(field)) => {
            out.push(field.problem("a mask without a mark").help("add `mark`, or leave it out"));
            None
        }
        (Some(mark), Some(mask), Some(field)) if mark & mask != mark => {
            let message = format!("no packet can have mark {mark} under mask {mask}");
            out.push(field.problem(message).help("the mask has every bit of the mark"));
            None
        }
        (mark, mask, _) => Some(mark.map(|mark| (mark, mask.unwrap_or(u32::MAX)))),
    }
}

#[derive(Clone, Copy)]
pub(super) enum Word {
    Lookup,
    Other(RuleAction),
}

/// What a rule does, as it is written.
pub(super) const ACTIONS: [(&str, Word); 4] = [
    ("lookup", Word::Lookup),
    ("blackhole", Word::Other(RuleAction::Blackhole)),
    ("unreachable", Word::Other(RuleAction::Unreachable)),
    ("prohibit", Word::Other(RuleAction::Prohibit)),
];

fn action(table: &Table<'_>, out: &mut Diagnostics) -> Option<RuleAction> {
    let word = table
        .get("action")
        .map_or(Some(Word::Lookup), |field| field.choice("action", &ACTIONS, &[], out))?;
    match (word, table.get("table")) {
        (Word::Lookup, _) => {
            table.require("table", out)?;
            table_number(table, out).map(RuleAction::Lookup)
        }
        (Word::Other(action), None) => Some(action),
        (Word::Other(_), Some(field)) => {
            let problem = field.problem("only a rule that looks a route up has a table");
            out.push(problem.help("leave out `table`, or `action`"));
            None
        }
    }
}
