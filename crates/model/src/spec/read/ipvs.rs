//! What a service and its real servers ask of IPVS besides: schedulers and their flags, persistence
//! engines, tunnels, connection thresholds.

use std::time::Duration;

use crate::spec::document::{Diagnostics, Field, Table};
use crate::spec::{
    Engine, Forward, Listen, Protocol, SCHEDULERS, Scheduler, SchedulerFlag, SchedulerFlags,
    Thresholds, Timeouts, Tunnel, TunnelChecksum,
};

use super::keys;

/// Longest time-out of a connection: 24 days. The kernel takes what fits 31 bits of ticks, which at
/// 1000 Hz is little more (`ip_vs_set_timeout`, ip_vs_ctl.c).
pub const TIMEOUT_MAX: Duration = Duration::from_secs(24 * 24 * 3600);

/// Most connections that a threshold can be: the kernel reckons three quarters of it in 32 bits
/// (`ip_vs_dest_update_overload`).
pub(super) const CONNECTIONS_MAX: u32 = i32::MAX as u32 / 4;
const FORWARDS: [(&str, Forward); 3] =
    [("DR", Forward::Dr), ("NAT", Forward::Nat), ("TUN", Forward::Tun(Tunnel::Ipip))];
const FORWARDS_FOREIGN: [(&str, &str); 7] = [
    ("route", "DR"),
    ("gatewaying", "DR"),
    ("direct", "DR"),
    ("masq", "NAT"),
    ("masquerading", "NAT"),
    ("ipip", "TUN"),
    ("tunnel", "TUN"),
];
const SCHEDULERS_FOREIGN: [(&str, &str); 4] =
    [("roundrobin", "rr"), ("round-robin", "rr"), ("leastconn", "lc"), ("source", "sh")];

/// Linux's own by their names; another's, which no typing error shall become, as a table.
pub(super) fn scheduler(field: &Field<'_>, out: &mut Diagnostics) -> Option<Scheduler> {
    if !field.is_table() {
        let words = SCHEDULERS.map(|name| (name, name));
        let name = field.choice("scheduler", &words, &SCHEDULERS_FOREIGN, out)?;
        return Scheduler::named(name);
    }
    let table = field.table(&keys::SCHEDULER, out)?;
    let field = table.require("name", out)?;
    let name = field.text("the name of a scheduler", out)?;
    // With `none` the kernel makes a service that schedules nothing (`ip_vs_add_service`).
    let scheduler = Scheduler::named(name).filter(|_| name != "none");
    if scheduler.is_none() {
        let name: String = name.chars().take(40).collect();
        let problem = field.problem(format!("{name:?} can't be the name of a scheduler"));
        out.push(problem.help("up to 15 of a-z, 0-9, _ and -; its module is ip_vs_NAME"));
    }
    scheduler
}

/// Flags of a scheduler; those that it does not know would change nothing, silently.
pub(super) fn flags(
    field: &Field<'_>,
    scheduler: Option<Scheduler>,
    out: &mut Diagnostics,
) -> Option<SchedulerFlags> {
    let items = field.list_or_one();
    if items.is_empty() {
        return Some(SchedulerFlags::default());
    }
    let scheduler = scheduler?;
    let own = SCHEDULERS.contains(&scheduler.as_str());
    if own && !scheduler.hashes() {
        let problem = field.problem(format!("scheduler {scheduler} has no flags"));
        out.push(problem.help("leave the key out; sh and mh have `fallback` and `port`"));
        return None;
    }
    let mut words = SchedulerFlag::words(scheduler);
    if own {
        // Neither of the two looks at the third.
        words.retain(|(_, flag)| *flag != SchedulerFlag::Three);
        words.extend([("fallback", SchedulerFlag::One), ("port", SchedulerFlag::Two)]);
    }
    if items.len() > words.len() {
        out.push(field.problem(format!("{} flags, scheduler {scheduler} has fewer", items.len())));
        return None;
    }
    items.iter().map(|item| item.choice("flag", &words, &[], out)).collect()
}

/// Only UDP has no connections to keep together.
pub(super) fn one_packet(
    field: &Field<'_>,
    listen: Option<&[Listen]>,
    out: &mut Diagnostics,
) -> Option<bool> {
    let wanted = field.flag(out)?;
    if wanted {
        udp_alone("one-packet scheduling is for UDP", field, listen, out)?;
    }
    Some(wanted)
}

/// Refuses what only UDP can have, for a service that listens on something else too.
fn udp_alone(
    why: &str,
    field: &Field<'_>,
    listen: Option<&[Listen]>,
    out: &mut Diagnostics,
) -> Option<()> {
    let other = listen.unwrap_or_default().iter().find(|l| l.protocol != Protocol::Udp);
    let Some(listen) = other else { return Some(()) };
    let problem = field.problem(format!("{why}: the service listens on {listen}"));
    out.push(problem.help("make a service of its own for the UDP addresses"));
    None
}

/// The engine reads the Call-ID out of a UDP packet. A packet that is no SIP is dropped (
/// `ip_vs_sched_persist`, ip_vs_core.c).
pub(super) fn engine(
    field: &Field<'_>,
    listen: Option<&[Listen]>,
    out: &mut Diagnostics,
) -> Option<Engine> {
    let engine = field.choice("persistence engine", &[("sip", "sip")], &[], out)?;
    udp_alone(&format!("engine {engine} reads UDP"), field, listen, out)?;
    Engine::named(engine)
}

pub(super) fn forward(field: &Field<'_>, out: &mut Diagnostics) -> Option<Forward> {
    field.choice("forwarding method", &FORWARDS, &FORWARDS_FOREIGN, out)
}

/// `"ipip"`, `"gre"`, or a table that says more.
pub(super) fn tunnel(field: &Field<'_>, out: &mut Diagnostics) -> Option<Tunnel> {
    const KINDS: [(&str, &str); 3] = [("ipip", "ipip"), ("gue", "gue"), ("gre", "gre")];
    const CHECKSUMS: [(&str, TunnelChecksum); 3] = [
        ("none", TunnelChecksum::None),
        ("full", TunnelChecksum::Full),
        ("remote", TunnelChecksum::Remote),
    ];
    let needs_port = |at: &Field<'_>| {
        at.problem("a GUE tunnel needs the port that the real server decapsulates at")
            .help("tunnel = { type = \"gue\", port = 6080 }")
    };
    if !field.is_table() {
        return match field.choice("tunnel", &KINDS, &[], out)? {
            "gue" => {
                out.push(needs_port(field));
                None
            }
            "gre" => Some(Tunnel::Gre { checksum: false }),
            _ => Some(Tunnel::Ipip),
        };
    }
    let table = field.table(&keys::TUNNEL, out)?;
    let kind = table.require("type", out)?.choice("tunnel", &KINDS, &[], out)?;
    let checksum = match table.get("checksum") {
        Some(field) => (field.choice("checksum", &CHECKSUMS, &[], out)?, Some(field)),
        None => (TunnelChecksum::None, None),
    };
    let port = match table.get("port") {
        Some(field) => Some((field.integer("the port of a tunnel", 1..=u16::MAX, out)?, field)),
        None => None,
    };
    if let ("ipip" | "gre", Some((_, port))) = (kind, &port) {
        out.push(port.problem(format!("a tunnel of type {kind} has no port")).help("leave it out"));
        return None;
    }
    match (kind, checksum) {
        ("gue", (checksum, _)) => match port {
            Some((port, _)) => Some(Tunnel::Gue { port, checksum }),
            None => {
                out.push(needs_port(field));
                None
            }
        },
        ("gre", (TunnelChecksum::None, _)) => Some(Tunnel::Gre { checksum: false }),
        ("gre", (TunnelChecksum::Full, _)) => Some(Tunnel::Gre { checksum: true }),
        ("ipip", (TunnelChecksum::None, _)) => Some(Tunnel::Ipip),
        (_, (_, at)) => {
            let at = at.unwrap_or_else(|| field.clone());
            let problem = at.problem(format!("a tunnel of type {kind} has no such checksum"));
            out.push(problem.help("gue has none, full and remote; gre none and full; ipip none"));
            None
        }
    }
}

/// `[cluster] timeouts`. Those that are left out stay as each kernel has them.
pub(super) fn timeouts(field: &Field<'_>, out: &mut Diagnostics) -> Timeouts {
    let Some(table) = field.table(&keys::TIMEOUTS, out) else { return Timeouts::default() };
    let mut seconds = |key: &str| {
        let field = table.get(key)?;
        super::seconds("a time-out", &field, TIMEOUT_MAX, out)
    };
    Timeouts { tcp_s: seconds("tcp"), tcp_fin_s: seconds("tcp_fin"), udp_s: seconds("udp") }
}

/// `upper_threshold` and `lower_threshold` of a real server.
pub(super) fn thresholds(table: &Table<'_>, out: &mut Diagnostics) -> Option<Thresholds> {
    let number = |field: Option<Field<'_>>, out: &mut Diagnostics| match field {
        Some(field) => field.integer("a number of connections", 0..=CONNECTIONS_MAX, out),
        None => Some(0),
    };
    let upper = number(table.get("upper_threshold"), out);
    let lower = number(table.get("lower_threshold"), out);
    let (upper, lower) = (upper?, lower?);
    if lower > upper {
        let field = table.get("lower_threshold")?;
        let message = format!("lower_threshold {lower} is above upper_threshold {upper}");
        let help = "the real server takes no new connection from the upper one on, and takes some \
                    again below the lower one";
        out.push(field.problem(message).help(help));
        return None;
    }
    Some(Thresholds { upper, lower })
}
