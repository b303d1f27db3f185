//! Routes and policy rules of VIP groups over rtnetlink, as blocking calls. What carries our protocol is ours; it never
//! changes or removes anything else. Tests: the contract suite.

use std::collections::BTreeMap;
use std::future::Future;
use std::io;
use std::net::IpAddr;

use futures::TryStreamExt;
use ipnet::IpNet;
use quorate_model::id::DeviceName;
use quorate_model::kernel::Family;
use quorate_model::routing::{
    PROTOCOL, Route, RouteKind, RouteScope, Routing, RoutingEntry, Rule, RuleAction,
};
use rtnetlink::packet_route::AddressFamily;
use rtnetlink::packet_route::route::{
    RouteAddress, RouteAttribute, RouteMessage, RouteMetric, RouteProtocol,
    RouteScope as KernelScope, RouteType,
};
use rtnetlink::packet_route::rule::{
    RuleAction as KernelAction, RuleAttribute, RuleFlags, RuleMessage,
};
use rtnetlink::{Handle, IpVersion};

use super::route::{Failure, Route as Links, no_device};
use crate::error::{DataplaneError, Errno, Operation};
use crate::netlink::Connection;

/// Ours, of routes and rules.
const OURS: RouteProtocol = RouteProtocol::Other(PROTOCOL);
/// A table above this stands in an attribute alone.
const TABLE_IN_HEADER_MAX: u32 = 255;

/// A connection to rtnetlink that lets the kernel choose what is dumped: a director may have the routes of the
/// whole internet, and reads its own twice a second.
#[derive(Debug)]
pub(super) struct Routes {
    connection: Connection,
}

impl Routes {
    pub(super) fn open() -> io::Result<Self> {
        // A kernel before 4.20 has no strict requests, and dumps all there is: that is looked through.
        let connection = Connection::open_strict().or_else(|_| Connection::open())?;
        Ok(Self { connection })
    }

    pub(super) fn is_broken(&self) -> bool {
        self.connection.is_broken()
    }

    fn requests(&self) -> &Handle {
        self.connection.requests()
    }

    fn wait<T>(
        &self,
        answer: impl Future<Output = Result<T, rtnetlink::Error>>,
    ) -> Result<T, Failure> {
        let answer = self.connection.wait(answer).ok_or(Failure::NoAnswer)?;
        answer.map_err(|error| Failure::of(&error))
    }

    /// All that is ours and can be said in our words.
    pub(super) fn observe(&self, links: &Links) -> Result<Routing, DataplaneError> {
        let fail = |failure: Failure| failure.during(Operation::ObserveRouting);
        let mut found = Routing::new();
        let mut routes = Vec::new();
        for family in [AddressFamily::Inet, AddressFamily::Inet6] {
            let mut ours = RouteMessage::default();
            ours.header.address_family = family;
            ours.header.protocol = OURS;
            let dump = self.requests().route().get(ours).execute();
            let some: Vec<RouteMessage> = self.wait(dump.try_collect()).map_err(fail)?;
            // Whatever the kernel makes of what was asked for.
            routes.extend(some.into_iter().filter(|route| route.header.protocol == OURS));
        }
        if !routes.is_empty() {
            let names = links.all_names().map_err(fail)?;
            found.extend(routes.iter().filter_map(|r| route(r, &names)).map(RoutingEntry::Route));
        }
        for version in [IpVersion::V4, IpVersion::V6] {
            let dump = self.requests().rule().get(version).execute();
            let some: Vec<RuleMessage> = self.wait(dump.try_collect()).map_err(fail)?;
            found.extend(some.iter().filter_map(rule).map(RoutingEntry::Rule));
        }
        Ok(found)
    }

    pub(super) fn add(&self, links: &Links, entry: &RoutingEntry) -> Result<(), DataplaneError> {
        let doing = || Operation::AddRouting(Box::new(entry.clone()));
        let fail = |failure: Failure| failure.during(doing());
        let outcome = match entry {
            RoutingEntry::Route(route) => {
                let message = route_message(route, index(links, route, doing)?);
                self.wait(self.requests().route().add(message).execute())
            }
            RoutingEntry::Rule(rule) => {
                let mut request = self.requests().rule().add();
                *request.message_mut() = rule_message(rule);
                self.wait(request.execute())
            }
        };
        match outcome {
            Err(Failure::Errno(Errno(libc::EEXIST))) => {
                if self.observe(links)?.contains(entry) {
                    return Ok(());
                }
                Err(DataplaneError::Taken { doing: doing() })
            }
            other => other.map_err(fail),
        }
    }

    pub(super) fn remove(&self, links: &Links, entry: &RoutingEntry) -> Result<(), DataplaneError> {
        let doing = || Operation::RemoveRouting(Box::new(entry.clone()));
        let outcome = match entry {
            RoutingEntry::Route(route) => {
                let index = match index(links, route, doing) {
                    // Its routes went with it.
                    Err(DataplaneError::NoDevice { .. }) => return Ok(()),
                    other => other?,
                };
                self.wait(self.requests().route().del(route_message(route, index)).execute())
            }
            RoutingEntry::Rule(rule) => {
                self.wait(self.requests().rule().del(rule_message(rule)).execute())
            }
        };
        match outcome {
            Err(Failure::Errno(Errno(libc::ESRCH | libc::ENOENT | libc::ENODEV))) => Ok(()),
            other => other.map_err(|failure| failure.during(doing())),
        }
    }
}

/// The index of a route's device, if it names one.
fn index(
    links: &Links,
    route: &Route,
    doing: impl Fn() -> Operation,
) -> Result<Option<u32>, DataplaneError> {
    let Some(device) = &route.interface else { return Ok(None) };
    let link = links.link(device).map_err(|failure| failure.during(doing()))?;
    link.map(|link| Some(link.header.index)).ok_or_else(|| no_device(doing(), device))
}

fn family_of(family: Family) -> AddressFamily {
    match family {
        Family::V4 => AddressFamily::Inet,
        Family::V6 => AddressFamily::Inet6,
    }
}

fn route_message(route: &Route, index: Option<u32>) -> RouteMessage {
    let mut message = RouteMessage::default();
    let header = &mut message.header;
    header.address_family = family_of(Family::of(route.to.addr()));
    header.destination_prefix_length = route.to.prefix_len();
    header.protocol = OURS;
    header.kind = match route.kind {
        RouteKind::Unicast => RouteType::Unicast,
        RouteKind::Blackhole => RouteType::BlackHole,
        RouteKind::Unreachable => RouteType::Unreachable,
        RouteKind::Prohibit => RouteType::Prohibit,
    };
    header.scope = match route.scope {
        RouteScope::Global => KernelScope::Universe,
        RouteScope::Link => KernelScope::Link,
        RouteScope::Host => KernelScope::Host,
    };
    header.table = if route.table <= TABLE_IN_HEADER_MAX {
        u8::try_from(route.table).unwrap_or_default()
    } else {
        0
    };
    let attributes = &mut message.attributes;
    if route.to.prefix_len() > 0 {
        attributes.push(RouteAttribute::Destination(route.to.addr().into()));
    }
    attributes.push(RouteAttribute::Table(route.table));
    attributes.extend(route.via.map(|via| RouteAttribute::Gateway(via.into())));
    attributes.extend(index.map(RouteAttribute::Oif));
    attributes.extend(route.source.map(|source| RouteAttribute::PrefSource(source.into())));
    if route.metric > 0 {
        attributes.push(RouteAttribute::Priority(route.metric));
    }
    attributes.extend(route.mtu.map(|mtu| RouteAttribute::Metrics(vec![RouteMetric::Mtu(mtu)])));
    message
}

fn address(address: &RouteAddress) -> Option<IpAddr> {
    match address {
        RouteAddress::Inet(ip) => Some((*ip).into()),
        RouteAddress::Inet6(ip) => Some((*ip).into()),
        _ => None,
    }
}

fn everything(family: &AddressFamily) -> Option<IpNet> {
    match family {
        AddressFamily::Inet => Some(IpNet::V4(ipnet::Ipv4Net::default())),
        AddressFamily::Inet6 => Some(IpNet::V6(ipnet::Ipv6Net::default())),
        _ => None,
    }
}

/// A route of ours; `None` where it has what we can't say, so was not set by us as it is.
fn route(message: &RouteMessage, names: &BTreeMap<u32, DeviceName>) -> Option<Route> {
    let header = &message.header;
    let kind = match header.kind {
        RouteType::Unicast => RouteKind::Unicast,
        RouteType::BlackHole => RouteKind::Blackhole,
        RouteType::Unreachable => RouteKind::Unreachable,
        RouteType::Prohibit => RouteKind::Prohibit,
        _ => return None,
    };
    let scope = match header.scope {
        KernelScope::Universe => RouteScope::Global,
        KernelScope::Link => RouteScope::Link,
        KernelScope::Host => RouteScope::Host,
        _ => return None,
    };
    let mut route = Route {
        to: everything(&header.address_family)?,
        kind,
        via: None,
        interface: None,
        source: None,
        table: header.table.into(),
        metric: 0,
        scope,
        mtu: None,
    };
    for attribute in &message.attributes {
        match attribute {
            RouteAttribute::Destination(to) => {
                route.to = IpNet::new(address(to)?, header.destination_prefix_length).ok()?;
            }
            RouteAttribute::Table(table) => route.table = *table,
            RouteAttribute::Gateway(via) => route.via = Some(address(via)?),
            RouteAttribute::PrefSource(source) => route.source = Some(address(source)?),
            RouteAttribute::Priority(metric) => route.metric = *metric,
            // Those of IPv6 that lead nowhere lead to lo.
            RouteAttribute::Oif(index) if kind == RouteKind::Unicast => {
                route.interface = Some(names.get(index)?.clone());
            }
            RouteAttribute::Metrics(metrics) => {
                for metric in metrics {
                    match metric {
                        RouteMetric::Mtu(mtu) => route.mtu = Some(*mtu),
                        _ => return None,
                    }
                }
            }
            RouteAttribute::MultiPath(_) | RouteAttribute::Via(_) | RouteAttribute::Source(_) => {
                return None;
            }
            _ => {}
        }
    }
    Some(route)
}

fn rule_message(rule: &Rule) -> RuleMessage {
    let mut message = RuleMessage::default();
    let header = &mut message.header;
    header.family = family_of(rule.family);
    header.src_len = rule.from.map_or(0, |from| from.prefix_len());
    header.dst_len = rule.to.map_or(0, |to| to.prefix_len());
    if rule.not {
        header.flags |= RuleFlags::Invert;
    }
    let attributes = &mut message.attributes;
    match rule.action {
        RuleAction::Lookup(table) => {
            header.action = KernelAction::ToTable;
            header.table = if table <= TABLE_IN_HEADER_MAX {
                u8::try_from(table).unwrap_or_default()
            } else {
                0
            };
            attributes.push(RuleAttribute::Table(table));
        }
        RuleAction::Blackhole => header.action = KernelAction::Blackhole,
        RuleAction::Unreachable => header.action = KernelAction::Unreachable,
        RuleAction::Prohibit => header.action = KernelAction::Prohibit,
    }
    attributes.push(RuleAttribute::Protocol(OURS));
    attributes.push(RuleAttribute::Priority(rule.priority));
    attributes.extend(rule.from.map(|from| RuleAttribute::Source(from.addr())));
    attributes.extend(rule.to.map(|to| RuleAttribute::Destination(to.addr())));
    if let Some((mark, mask)) = rule.mark {
        attributes.extend([RuleAttribute::FwMark(mark), RuleAttribute::FwMask(mask)]);
    }
    attributes.extend(rule.incoming.iter().map(|d| RuleAttribute::Iifname(d.to_string())));
    attributes.extend(rule.outgoing.iter().map(|d| RuleAttribute::Oifname(d.to_string())));
    message
}

/// A rule of ours; `None` where it is another's, or has what we can't say.
fn rule(message: &RuleMessage) -> Option<Rule> {
    let header = &message.header;
    let family = match header.family {
        AddressFamily::Inet => Family::V4,
        AddressFamily::Inet6 => Family::V6,
        _ => return None,
    };
    let mut rule = Rule {
        family,
        priority: 0,
        not: header.flags.contains(RuleFlags::Invert),
        from: None,
        to: None,
        mark: None,
        incoming: None,
        outgoing: None,
        action: RuleAction::Blackhole,
    };
    let (mut ours, mut table, mut mark, mut mask) = (false, u32::from(header.table), None, 0);
    for attribute in &message.attributes {
        match attribute {
            RuleAttribute::Protocol(protocol) => ours = *protocol == OURS,
            RuleAttribute::Priority(priority) => rule.priority = *priority,
            RuleAttribute::Table(of) => table = *of,
            RuleAttribute::Source(from) => rule.from = IpNet::new(*from, header.src_len).ok(),
            RuleAttribute::Destination(to) => rule.to = IpNet::new(*to, header.dst_len).ok(),
            RuleAttribute::FwMark(of) => mark = Some(*of),
            RuleAttribute::FwMask(of) => mask = *of,
            RuleAttribute::Iifname(name) => rule.incoming = Some(name.parse().ok()?),
            RuleAttribute::Oifname(name) => rule.outgoing = Some(name.parse().ok()?),
            RuleAttribute::IpProtocol(_)
            | RuleAttribute::UidRange(_)
            | RuleAttribute::SourcePortRange(_)
            | RuleAttribute::DestinationPortRange(_)
            | RuleAttribute::TunId(_)
            | RuleAttribute::Goto(_) => return None,
            _ => {}
        }
    }
    rule.mark = mark.map(|mark| (mark, mask));
    rule.action = match header.action {
        KernelAction::ToTable => RuleAction::Lookup(table),
        KernelAction::Blackhole => RuleAction::Blackhole,
        KernelAction::Unreachable => RuleAction::Unreachable,
        KernelAction::Prohibit => RuleAction::Prohibit,
        _ => return None,
    };
    ours.then_some(rule)
}
