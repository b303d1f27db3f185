//! Routes and policy rules that go with a VIP group (`virtual_routes` and `virtual_rules` of
//! keepalived.conf(5)), as values, and which of them a director's kernel shall hold. Nothing here decides who
//! serves: they stand where the group's addresses do. Tests: below, and `director/tests/routing.rs`.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::net::IpAddr;
use std::str::FromStr;

use ipnet::IpNet;

use crate::id::{DeviceName, InterfaceName};
use crate::kernel::Family;
use crate::spec::VipGroup;

/// Quorate's mark on routes (`rtm_protocol`) and policy rules (`FRA_PROTOCOL`): `Q`, which nobody else has in
/// linux/rtnetlink.h. What does not carry it is another program's, and is never touched.
pub const PROTOCOL: u8 = b'Q';
/// RT_TABLE_MAIN.
pub const TABLE_MAIN: u32 = 254;
/// RT_TABLE_LOCAL: the kernel's own, by which it knows its addresses.
pub const TABLE_LOCAL: u32 = 255;
/// IP6_RT_PRIO_USER: the metric of a route of IPv6 that was given none, or 0.
const METRIC_IPV6: u32 = 1_024;

/// What becomes of packets that a route takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum RouteKind {
    /// They go on.
    Unicast,
    /// They are dropped, and nobody is told.
    Blackhole,
    /// The sender is told that nobody is there.
    Unreachable,
    /// The sender is told that it is forbidden.
    Prohibit,
}

/// The kinds of routes by their words in ip-route(8).
pub const ROUTE_KINDS: [(&str, RouteKind); 4] = [
    ("unicast", RouteKind::Unicast),
    ("blackhole", RouteKind::Blackhole),
    ("unreachable", RouteKind::Unreachable),
    ("prohibit", RouteKind::Prohibit),
];

/// How far the destinations of a route of IPv4 are.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum RouteScope {
    /// Anywhere.
    Global,
    /// On the device's own network.
    Link,
    /// At this host.
    Host,
}

/// The scopes by their words in ip-route(8).
pub const ROUTE_SCOPES: [(&str, RouteScope); 3] =
    [("global", RouteScope::Global), ("link", RouteScope::Link), ("host", RouteScope::Host)];

/// A route; `I` names interfaces.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Route<I = DeviceName> {
    /// Where to; no bit of a host is set.
    pub to: IpNet,
    /// What becomes of packets.
    pub kind: RouteKind,
    /// The next hop.
    pub via: Option<IpAddr>,
    /// The interface; given where packets go on.
    pub interface: Option<I>,
    /// The address that this host itself sends from.
    pub source: Option<IpAddr>,
    /// The table.
    pub table: u32,
    /// The lowest of a table's counts; as the kernel has it ([`effective_metric`]).
    pub metric: u32,
    /// As the kernel has it: [`RouteScope::Global`] for IPv6.
    pub scope: RouteScope,
    /// The longest packet.
    pub mtu: Option<u32>,
}

/// What is done with packets that a rule takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum RuleAction {
    /// A route is looked for in this table.
    Lookup(u32),
    /// They are dropped, and nobody is told.
    Blackhole,
    /// The sender is told that nobody is there.
    Unreachable,
    /// The sender is told that it is forbidden.
    Prohibit,
}

/// A policy rule; `I` names interfaces.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Rule<I = DeviceName> {
    /// Which family's packets it looks at.
    pub family: Family,
    /// Its place among the rules: the kernel asks the lowest first.
    pub priority: u32,
    /// Whether it takes what it would else not take.
    pub not: bool,
    /// Where they come from; never all of the family.
    pub from: Option<IpNet>,
    /// Where they go to; never all of the family.
    pub to: Option<IpNet>,
    /// Their firewall mark, and the bits of it that count.
    pub mark: Option<(u32, u32)>,
    /// The interface that they came in by.
    pub incoming: Option<I>,
    /// The interface that a socket is bound to.
    pub outgoing: Option<I>,
    /// What is done with them.
    pub action: RuleAction,
}

/// A route or a policy rule: in this order they are added, and in the other removed.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum RoutingEntry<I = DeviceName> {
    /// A route.
    Route(Route<I>),
    /// A policy rule.
    Rule(Rule<I>),
}

/// Routes and policy rules of a kernel.
pub type Routing = BTreeSet<RoutingEntry>;

/// What a kernel holds one of.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Place {
    /// A route: to here, in this table, with this metric.
    Route(IpNet, u32, u32),
    /// A rule. The kernel takes several of one priority, and asks them in the order in which they came: what
    /// that was, nobody can tell afterwards.
    Rule(Family, u32),
}

/// The metric that a route has in the kernel.
#[must_use]
pub fn effective_metric(family: Family, metric: Option<u32>) -> u32 {
    match (family, metric.unwrap_or(0)) {
        (Family::V6, 0) => METRIC_IPV6,
        (_, metric) => metric,
    }
}

impl<I: Clone> RoutingEntry<I> {
    /// What a kernel holds one of.
    #[must_use]
    pub fn place(&self) -> Place {
        match self {
            Self::Route(route) => Place::Route(route.to, route.table, route.metric),
            Self::Rule(rule) => Place::Rule(rule.family, rule.priority),
        }
    }

    /// The interfaces that it names.
    pub fn interfaces(&self) -> impl Iterator<Item = &I> {
        match self {
            Self::Route(route) => route.interface.iter().chain(None.iter()),
            Self::Rule(rule) => rule.incoming.iter().chain(rule.outgoing.iter()),
        }
    }

    /// The same with other names for interfaces; `None` where one has none.
    fn named<J>(&self, name: impl Fn(&I) -> Option<J>) -> Option<RoutingEntry<J>> {
        let named = |interface: &Option<I>| match interface {
            Some(interface) => name(interface).map(Some),
            None => Some(None),
        };
        Some(match self {
            Self::Route(route) => RoutingEntry::Route(Route {
                interface: named(&route.interface)?,
                to: route.to,
                kind: route.kind,
                via: route.via,
                source: route.source,
                table: route.table,
                metric: route.metric,
                scope: route.scope,
                mtu: route.mtu,
            }),
            Self::Rule(rule) => RoutingEntry::Rule(Rule {
                incoming: named(&rule.incoming)?,
                outgoing: named(&rule.outgoing)?,
                family: rule.family,
                priority: rule.priority,
                not: rule.not,
                from: rule.from,
                to: rule.to,
                mark: rule.mark,
                action: rule.action,
            }),
        })
    }
}

/// The routes and rules of a group on this node's devices, and the interfaces of them that it does not have.
#[must_use]
pub fn of_group(
    group: &VipGroup,
    devices: &BTreeMap<InterfaceName, DeviceName>,
) -> (Routing, BTreeSet<InterfaceName>) {
    let (mut routing, mut unknown) = (Routing::new(), BTreeSet::new());
    for entry in &group.routing {
        match entry.named(|interface| devices.get(interface).cloned()) {
            Some(entry) => {
                routing.insert(entry);
            }
            None => {
                unknown.extend(entry.interfaces().filter(|i| !devices.contains_key(*i)).cloned());
            }
        }
    }
    (routing, unknown)
}

fn word<T: PartialEq>(words: &[(&'static str, T)], of: &T) -> &'static str {
    words.iter().find(|(_, value)| value == of).map_or("", |(word, _)| word)
}

fn named<T: Copy>(words: &[(&'static str, T)], text: &str) -> Option<T> {
    words.iter().find(|(word, _)| *word == text).map(|(_, value)| *value)
}

impl fmt::Display for RouteKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(word(&ROUTE_KINDS, self))
    }
}

impl<I: fmt::Display> fmt::Display for Route<I> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { to, kind, via, interface, source, table, metric, scope, mtu } = self;
        write!(f, "{kind} {to}")?;
        if let Some(via) = via {
            write!(f, " via {via}")?;
        }
        if let Some(interface) = interface {
            write!(f, " on {interface}")?;
        }
        if let Some(source) = source {
            write!(f, " source {source}")?;
        }
        write!(f, " table {table} metric {metric} scope {}", word(&ROUTE_SCOPES, scope))?;
        mtu.map_or(Ok(()), |mtu| write!(f, " mtu {mtu}"))
    }
}

impl<I: fmt::Display> fmt::Display for Rule<I> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { family, priority, not, from, to, mark, incoming, outgoing, action } = self;
        write!(f, "{family} {priority}{}", if *not { " not" } else { "" })?;
        if let Some(from) = from {
            write!(f, " from {from}")?;
        }
        if let Some(to) = to {
            write!(f, " to {to}")?;
        }
        if let Some((mark, mask)) = mark {
            write!(f, " mark {mark}/{mask}")?;
        }
        if let Some(incoming) = incoming {
            write!(f, " incoming {incoming}")?;
        }
        if let Some(outgoing) = outgoing {
            write!(f, " outgoing {outgoing}")?;
        }
        match action {
            RuleAction::Lookup(table) => write!(f, " lookup {table}"),
            RuleAction::Blackhole => f.write_str(" blackhole"),
            RuleAction::Unreachable => f.write_str(" unreachable"),
            RuleAction::Prohibit => f.write_str(" prohibit"),
        }
    }
}

impl<I: fmt::Display> fmt::Display for RoutingEntry<I> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Route(route) => write!(f, "route {route}"),
            Self::Rule(rule) => write!(f, "rule {rule}"),
        }
    }
}

/// A text that is no route or rule.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("this is no route and no rule")]
pub struct RoutingError;

impl FromStr for RoutingEntry {
    type Err = RoutingError;

    /// Reads what is shown.
    fn from_str(text: &str) -> Result<Self, RoutingError> {
        let mut words = text.split(' ');
        let entry = match words.next() {
            Some("route") => route(&mut words).map(Self::Route),
            Some("rule") => rule(&mut words).map(Self::Rule),
            _ => None,
        };
        entry.ok_or(RoutingError)
    }
}

fn route<'w>(words: &mut impl Iterator<Item = &'w str>) -> Option<Route> {
    let kind = named(&ROUTE_KINDS, words.next()?)?;
    let to = words.next()?.parse().ok()?;
    let mut route = Route {
        to,
        kind,
        via: None,
        interface: None,
        source: None,
        table: TABLE_MAIN,
        metric: 0,
        scope: RouteScope::Global,
        mtu: None,
    };
    while let Some(word) = words.next() {
        let value = words.next()?;
        match word {
            "via" => route.via = Some(value.parse().ok()?),
            "on" => route.interface = Some(value.parse().ok()?),
            "source" => route.source = Some(value.parse().ok()?),
            "table" => route.table = value.parse().ok()?,
            "metric" => route.metric = value.parse().ok()?,
            "scope" => route.scope = named(&ROUTE_SCOPES, value)?,
            "mtu" => route.mtu = Some(value.parse().ok()?),
            _ => return None,
        }
    }
    Some(route)
}

fn rule<'w>(words: &mut impl Iterator<Item = &'w str>) -> Option<Rule> {
    let family = named(&[("IPv4", Family::V4), ("IPv6", Family::V6)], words.next()?)?;
    let mut rule = Rule {
        family,
        priority: words.next()?.parse().ok()?,
        not: false,
        from: None,
        to: None,
        mark: None,
        incoming: None,
        outgoing: None,
        action: RuleAction::Blackhole,
    };
    let mut action = None;
    while let Some(word) = words.next() {
        match word {
            "not" => rule.not = true,
            "from" => rule.from = Some(words.next()?.parse().ok()?),
            "to" => rule.to = Some(words.next()?.parse().ok()?),
            "mark" => {
                let (mark, mask) = words.next()?.split_once('/')?;
                rule.mark = Some((mark.parse().ok()?, mask.parse().ok()?));
            }
            "incoming" => rule.incoming = Some(words.next()?.parse().ok()?),
            "outgoing" => rule.outgoing = Some(words.next()?.parse().ok()?),
            "lookup" => action = Some(RuleAction::Lookup(words.next()?.parse().ok()?)),
            "blackhole" => action = Some(RuleAction::Blackhole),
            "unreachable" => action = Some(RuleAction::Unreachable),
            "prohibit" => action = Some(RuleAction::Prohibit),
            _ => return None,
        }
    }
    Some(Rule { action: action?, ..rule })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_route_or_rule_is_read_as_it_is_shown() {
        for text in [
            "route unicast 10.0.0.0/8 via 192.0.2.1 on eth0 source 192.0.2.80 table 100 metric 7 scope global mtu 1400",
            "route unicast 2001:db8::/32 on eth0 table 254 metric 1024 scope global",
            "route blackhole 0.0.0.0/0 table 4294967295 metric 0 scope global",
            "route unicast 10.0.0.0/8 on eth0 table 254 metric 0 scope link",
            "rule IPv4 100 from 10.0.0.0/8 to 192.0.2.0/24 mark 1/255 incoming eth0 outgoing eth1 lookup 100",
            "rule IPv6 4294967295 not mark 7/4294967295 prohibit",
            "rule IPv6 1 unreachable",
            "rule IPv4 1 blackhole",
        ] {
            let entry: RoutingEntry = text.parse().expect(text);
            assert_eq!(entry.to_string(), text);
        }
        for text in [
            "",
            "route",
            "route unicast",
            "route multicast 10.0.0.0/8",
            "route unicast 10.0.0.0",
            "route unicast 10.0.0.0/8 via",
            "route unicast 10.0.0.0/8 dev eth0",
            "rule IPv4 1",
            "rule 1 blackhole",
            "rule IPv4 1 mark 1 blackhole",
            "rules IPv4 1 blackhole",
        ] {
            assert_eq!(text.parse::<RoutingEntry>(), Err(RoutingError), "{text:?}");
        }
    }

    #[test]
    fn routes_are_added_before_the_rules_that_lead_to_them() {
        let route: RoutingEntry =
            "route blackhole 0.0.0.0/0 table 1 metric 0 scope global".parse().expect("a route");
        let rule: RoutingEntry = "rule IPv4 1 lookup 1".parse().expect("a rule");
        assert_eq!(Routing::from([rule.clone(), route.clone()]).first(), Some(&route));
    }
}
