//! `[service.NAME]`: what a virtual service is. Its real servers are read in `real_server`.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::num::NonZeroU32;
use std::time::Duration;

use crate::id::ServiceName;
use crate::spec::document::{At, Diagnostic, Diagnostics, Field, Named, Table};
use crate::spec::{
    Forward, Listen, Persistence, Protocol, RealServer, Scheduler, Tunnel, VirtualService,
};

use super::check::Checks;
use super::group::Groups;
use super::real_server::{Given, Known, Pools, Resolve, servers, sorry_server};
use super::{LISTEN_MAX, REAL_SERVERS_MAX, SERVICES_MAX, address, ipvs, keys, probing};

/// Longest persistence: 31 days, as ipvsadm(8) has it. The kernel keeps it in 32 bits of ticks,
/// which 50 days overflow at 1000 Hz (`svc->timeout = u->timeout * HZ`, ip_vs_ctl.c).
pub const PERSISTENCE_MAX: Duration = Duration::from_secs(31 * 24 * 3600);

/// Longest `drain`.
pub(super) const DRAIN_MAX: Duration = Duration::from_secs(24 * 3600);

/// What several services name: checks and pools.
#[derive(Debug, Default)]
pub(super) struct Shared<'d> {
    checks: Checks<'d>,
    pools: Pools<'d>,
}

impl<'d> Shared<'d> {
    pub(super) fn read(root: &Table<'d>, groups: &Groups, out: &mut Diagnostics) -> Self {
        let mut shared = Self { checks: Checks::read(root, out), pools: Pools::new() };
        let known = Known { groups, checks: &shared.checks };
        if let Some(field) = root.get("pool") {
            for entry in field.named::<ServiceName>("a pool", out) {
                let servers = entry.field.table(&keys::POOL, out).and_then(|table| {
                    let list = table.require("servers", out)?;
                    servers(&list, known, out)
                });
                shared.pools.insert(entry.text, servers);
                if out.is_full() {
                    return shared;
                }
            }
        }
        shared
    }
}

/// What all services together have taken.
#[derive(Debug, Default)]
struct Taken {
    /// By protocol, address and first port: none overlaps another.
    listens: BTreeMap<(Protocol, IpAddr, u16), (Listen, String)>,
    marks: BTreeMap<NonZeroU32, String>,
    entries: usize,
    /// Checks, counted for each real server.
    probes: usize,
}

impl Taken {
    /// What already takes a port that this one would take.
    fn overlapping(&self, listen: &Listen) -> Option<&(Listen, String)> {
        let key = |port| (listen.protocol, listen.address.ip(), port);
        let before = self.listens.range(key(0)..=key(listen.last_port)).next_back();
        before.map(|(_, taken)| taken).filter(|(l, _)| l.last_port >= listen.address.port())
    }

    fn take(&mut self, listen: Listen, service: &str) {
        let key = (listen.protocol, listen.address.ip(), listen.address.port());
        self.listens.insert(key, (listen, service.to_owned()));
    }
}

pub(super) fn services(
    field: &Field<'_>,
    groups: &Groups,
    shared: &Shared<'_>,
    out: &mut Diagnostics,
) -> BTreeMap<ServiceName, VirtualService> {
    let mut read = BTreeMap::new();
    let named = field.named::<ServiceName>("a service", out);
    if named.len() > SERVICES_MAX {
        let message = format!("{} services, at most {SERVICES_MAX} can be given", named.len());
        out.push(field.problem(message));
        return read;
    }
    let mut taken = Taken::default();
    for entry in named {
        let service = service(&entry, groups, shared, &mut taken, out);
        if taken.entries > REAL_SERVERS_MAX {
            let message = format!(
                "more than {REAL_SERVERS_MAX} real servers in all services together, counted \
                 for each address that their service listens on"
            );
            out.push(entry.field.problem(message));
            break;
        }
        let checked = |service: &VirtualService| -> usize {
            service.real_servers.iter().map(|s| service.checks_of(&s.address).len()).sum()
        };
        taken.probes = taken.probes.saturating_add(service.as_ref().map_or(0, checked));
        if taken.probes > REAL_SERVERS_MAX {
            let message = format!(
                "more than {REAL_SERVERS_MAX} checks in all services together, counted for each of \
                 their real servers"
            );
            out.push(entry.field.problem(message));
            break;
        }
        if let (Some(name), Some(service)) = (entry.name, service) {
            read.insert(name, service);
        }
        if out.is_full() {
            break;
        }
    }
    read
}

fn service(
    entry: &Named<'_, ServiceName>,
    groups: &Groups,
    shared: &Shared<'_>,
    taken: &mut Taken,
    out: &mut Diagnostics,
) -> Option<VirtualService> {
    let table = entry.field.table(&keys::SERVICE, out)?;
    let group = table.require("group", out).and_then(|field| group_of(&field, groups, out));
    let listen = table.require("listen", out).and_then(|field| {
        let marked = table.get("mark").is_some();
        let listen = listens(&field, entry.text, marked, taken, out)?;
        group.map_or(Some(()), |name| in_group(&listen, name, groups, out))?;
        Some(listen.into_iter().map(|(listen, _)| listen).collect::<Vec<_>>())
    });
    let mark = table
        .get("mark")
        .map_or(Some(None), |field| mark(&field, entry.text, taken, out).map(Some));
    let scheduler = table
        .get("scheduler")
        .map_or_else(|| Scheduler::named("wlc"), |field| ipvs::scheduler(&field, out));
    let flags = table
        .get("flags")
        .map_or(Some(Default::default()), |field| ipvs::flags(&field, scheduler, out));
    let one_packet = table
        .get("one_packet")
        .map_or(Some(false), |field| ipvs::one_packet(&field, listen.as_deref(), out));
    let forward = forward_of(&table, out);
    let persistence = match (table.get("persistence"), &listen) {
        (Some(field), listen) => persistence(&field, listen.as_deref(), out).map(Some),
        (None, _) => Some(None),
    };
    let checks = table.get("check").map_or(Some(Vec::new()), |field| shared.checks.of(&field, out));
    let inhibit = table.get("inhibit").map_or(Some(false), |field| field.flag(out));
    let few = probing::few(&table, out);
    let slow_start = probing::slow_start(&table, out);
    let drain = table
        .get("drain")
        .map_or(Some(Duration::ZERO), |d| d.duration("drain", Duration::ZERO..=DRAIN_MAX, out));
    let given = given(&table, groups, shared, out);
    let sorry = table.get("sorry_server").map_or(Some(None), |field| {
        sorry_server(&field, Known { groups, checks: &shared.checks }, out).map(Some)
    });
    let resolved = match (&listen, forward, &given, &sorry) {
        (Some(listen), Some(forward), Some(given), Some(sorry)) => {
            let servers = given.len() + usize::from(sorry.is_some());
            let marked = table.get("mark").is_some();
            let families: BTreeSet<bool> = listen.iter().map(|l| l.address.is_ipv4()).collect();
            let keys = if marked { families.len() } else { listen.len() };
            taken.entries = taken.entries.saturating_add(keys.saturating_mul(servers));
            if taken.entries > REAL_SERVERS_MAX {
                return None;
            }
            let resolve = Resolve { service: entry.text, listen, marked, forward };
            resolve.servers(given, sorry.as_ref(), out)
        }
        _ => None,
    };
    let (real_servers, sorry_server) = resolved?;
    let parsed = (scheduler, one_packet, forward.map(|(forward, _)| forward));
    fits(&table, parsed, &real_servers, sorry_server.as_ref(), out)?;
    let own_checks = probing::own_checks(given.as_deref(), &real_servers);
    let (quorum, hysteresis, min_up) = few?;
    let service = VirtualService {
        group: group.and_then(|name| name.parse().ok())?,
        listen: listen?,
        mark: mark?,
        scheduler: scheduler?,
        flags: flags?,
        one_packet: one_packet?,
        persistence: persistence?,
        checks: checks?,
        own_checks,
        ordered: BTreeSet::new(),
        inhibit: inhibit?,
        quorum,
        hysteresis,
        min_up,
        slow_start: slow_start?,
        drain: drain?,
        real_servers,
        sorry_server,
    };
    probing::probed(&table, &service, out)?;
    probing::rises(&table, &service, out)?;
    Some(service)
}

/// The name of a group that there is.
fn group_of<'d>(field: &Field<'d>, groups: &Groups, out: &mut Diagnostics) -> Option<&'d str> {
    let name = field.text("the name of a group", out)?;
    if !groups.declared.contains(name) {
        let known = groups.declared.iter().map(String::as_str);
        out.push(unknown(&field.at, "group", name, known));
        return None;
    }
    Some(name)
}

/// Whether its settings and real servers go together.
fn fits(
    table: &Table<'_>,
    (scheduler, one_packet, forward): (Option<Scheduler>, Option<bool>, Option<Forward>),
    real_servers: &[RealServer],
    sorry: Option<&RealServer>,
    out: &mut Diagnostics,
) -> Option<()> {
    let mut fits = Some(());
    let mut refuse = |problem: Diagnostic| {
        out.push(problem);
        fits = None;
    };
    let mut servers = real_servers.iter().chain(sorry);
    if let Some(field) = table.get("tunnel")
        && !servers.clone().any(|server| matches!(server.forward, Forward::Tun(_)))
        && !matches!(forward, Some(Forward::Tun(_)))
        && field.peek() != Some("ipip")
    {
        let problem = field.problem("no real server of the service is reached by a tunnel");
        refuse(problem.help("forward = \"TUN\", or leave the tunnel out"));
    }
    // The kernel keeps no connection, by which it would translate the answer back.
    if let (Some(field), Some(true)) = (table.get("one_packet"), one_packet)
        && let Some(server) = servers.find(|server| server.forward == Forward::Nat)
    {
        let message = format!("NAT needs connections, for the answers of {}", server.address);
        refuse(field.problem(message).help("forward = \"DR\" or \"TUN\", or one_packet = false"));
    }
    if let (Some(field), Some(scheduler)) = (table.get("drain"), scheduler)
        && !scheduler.heeds_weights()
    {
        let problem = field.problem("scheduler dh does not heed weights: clients would be refused");
        refuse(problem.help("another scheduler, such as sh or mh, or no drain"));
    }
    if let (Some(field), Some(scheduler), Some(sorry)) =
        (table.get("sorry_server"), scheduler, sorry)
    {
        match scheduler.as_str() {
            // Its buckets have no weights, so that clients of a drained real server would be lost.
            "dh" => {
                let problem = field.problem("scheduler dh does not heed weights");
                refuse(problem.help("another scheduler, such as sh or mh, or no sorry server"));
            }
            "ovf" if !field.is_table() || sorry.weight == 1 => {
                let problem = field.problem(
                    "scheduler ovf takes a weight for the number of connections: this sorry server \
                     would take one",
                );
                refuse(problem.help("sorry_server = { address = \"..\", weight = 65535 }"));
            }
            _ => {}
        }
    }
    fits
}

/// The firewall mark of a service, which no other has.
fn mark(
    field: &Field<'_>,
    service: &str,
    taken: &mut Taken,
    out: &mut Diagnostics,
) -> Option<NonZeroU32> {
    let mark = field.integer("a firewall mark", 1..=u32::MAX, out).and_then(NonZeroU32::new)?;
    if let Some(other) = taken.marks.get(&mark) {
        let problem = field.problem(format!("service {other} already has mark {mark}"));
        out.push(problem.help("give each service a mark of its own"));
        return None;
    }
    taken.marks.insert(mark, service.to_owned());
    Some(mark)
}

/// The service's forwarding method, for real servers that have none of their own, with the tunnel
/// for those that are tunnelled.
fn forward_of(table: &Table<'_>, out: &mut Diagnostics) -> Option<(Forward, Option<Tunnel>)> {
    let forward =
        table.get("forward").map_or(Some(Forward::Dr), |field| ipvs::forward(&field, out));
    let tunnel = match table.get("tunnel") {
        Some(field) => ipvs::tunnel(&field, out).map(Some),
        None => Some(None),
    };
    Some((forward?, tunnel?))
}

pub(super) fn unknown<'k>(
    at: &At,
    what: &str,
    name: &str,
    known: impl Iterator<Item = &'k str>,
) -> crate::spec::document::Diagnostic {
    let word: String = name.chars().take(64).collect();
    let problem = at.problem(format!("there is no {what} {word:?}")).consequence();
    problem.help(match crate::spec::document::nearest(name, known) {
        Some(near) => format!("did you mean {near:?}?"),
        None => format!("add [{what}.NAME]"),
    })
}

fn listens<'d>(
    field: &Field<'d>,
    service: &str,
    marked: bool,
    taken: &mut Taken,
    out: &mut Diagnostics,
) -> Option<Vec<(Listen, Field<'d>)>> {
    let items = field.list_or_one();
    if items.is_empty() || items.len() > LISTEN_MAX {
        let message = format!("a service listens on 1 to {LISTEN_MAX} addresses");
        out.push(field.problem(message).help("listen = \"tcp/192.0.2.1:80\""));
        return None;
    }
    let mut all = Some(Vec::with_capacity(items.len()));
    for item in items {
        let listen = address::listen(&item, out).filter(|listen| {
            if !marked && listen.last_port != listen.address.port() {
                let message = format!("{listen} is a range of ports, and the service has no mark");
                out.push(item.problem(message).help("mark = 1 makes one service of all its ports"));
                return false;
            }
            let Some((same, other)) = taken.overlapping(listen) else {
                taken.take(*listen, service);
                return true;
            };
            let message = match (other == service, same == listen) {
                (true, true) => format!("{listen} stands twice"),
                (true, false) => format!("{listen} overlaps {same}"),
                (false, _) => format!("service {other} already listens on {same}"),
            };
            out.push(item.problem(message).help("one service can have it"));
            false
        });
        all = all.zip(listen).map(|(mut all, listen)| {
            all.push((listen, item));
            all
        });
    }
    all
}

/// Refuses an address that is no VIP of the service's group: nobody would answer for it.
fn in_group(
    listen: &[(Listen, Field<'_>)],
    group: &str,
    groups: &Groups,
    out: &mut Diagnostics,
) -> Option<()> {
    if groups.unclear.contains(group) {
        return Some(());
    }
    let mut right = Some(());
    for (listen, field) in listen {
        let ip = listen.address.ip();
        let problem = match groups.owner.get(&ip) {
            Some(owner) if owner == group => continue,
            Some(owner) => field
                .problem(format!("{ip} is an address of group {owner}, not of {group}"))
                .help(format!("group = {owner:?}, or listen on an address of {group}")),
            None if groups.unclear.is_empty() => field
                .problem(format!("{ip} is an address of no group"))
                .help(format!("add \"{ip}\" to the addresses of group {group}")),
            // It may be an address of a group that could not be read.
            None => continue,
        };
        out.push(problem.consequence());
        right = None;
    }
    right
}

fn persistence(
    field: &Field<'_>,
    listen: Option<&[Listen]>,
    out: &mut Diagnostics,
) -> Option<Persistence> {
    let families: BTreeSet<bool> =
        listen.unwrap_or_default().iter().map(|listen| listen.address.is_ipv4()).collect();
    let full = if families.contains(&false) { 128 } else { 32 };
    if !field.is_table() {
        return Some(Persistence {
            timeout_s: super::seconds("persistence", field, PERSISTENCE_MAX, out)?,
            prefix: full,
            engine: None,
        });
    }
    let table = field.table(&keys::PERSISTENCE, out)?;
    let timeout = table
        .require("timeout", out)
        .and_then(|field| super::seconds("persistence", &field, PERSISTENCE_MAX, out));
    let prefix = match (table.get("netmask"), table.get("prefix")) {
        (Some(_), Some(prefix)) => {
            let problem = prefix.problem("`netmask` and `prefix` say the same");
            out.push(problem.help("give one of the two"));
            None
        }
        (Some(mask), None) => address::netmask(&mask, out).and_then(|(prefix, v4)| {
            if families.contains(&!v4) {
                let family = if v4 { "IPv6" } else { "IPv4" };
                let problem = mask.problem(format!("the service listens on {family}"));
                out.push(problem.help("give a netmask of that family, or prefix = .."));
                return None;
            }
            Some(prefix)
        }),
        (None, Some(prefix)) if families.len() > 1 => {
            let message = "a prefix is another network in IPv4 than in IPv6, and the service listens \
                           on both";
            out.push(prefix.problem(message).help("make a service for each, or leave it out"));
            None
        }
        (None, Some(prefix)) => prefix.integer("the prefix length", 1..=full, out),
        (None, None) => Some(full),
    };
    let engine = match table.get("engine") {
        Some(field) => ipvs::engine(&field, listen, out).map(Some),
        None => Some(None),
    };
    Some(Persistence { timeout_s: timeout?, prefix: prefix?, engine: engine? })
}

fn given<'s>(
    table: &Table<'_>,
    groups: &Groups,
    shared: &'s Shared<'_>,
    out: &mut Diagnostics,
) -> Option<std::borrow::Cow<'s, [Given]>> {
    match (table.get("real_servers"), table.get("pool")) {
        (Some(list), None) => {
            servers(&list, Known { groups, checks: &shared.checks }, out).map(Into::into)
        }
        (None, Some(field)) => {
            let name = field.text("the name of a pool", out)?;
            match shared.pools.get(name) {
                Some(servers) => servers.as_deref().map(Into::into),
                None => {
                    out.push(unknown(&field.at, "pool", name, shared.pools.keys().copied()));
                    None
                }
            }
        }
        (Some(_), Some(pool)) => {
            let problem = pool.problem("`real_servers` and `pool` are both given");
            out.push(problem.help("give one of the two"));
            None
        }
        (None, None) => {
            let missing = table.missing("real_servers");
            out.push(missing.help("real_servers = [..], or pool = \"NAME\" of a [pool.NAME]"));
            None
        }
    }
}
