//! What a service says of the probing of its real servers, and of what happens while few are up.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use crate::spec::document::{Diagnostics, Table};
use crate::spec::{Check, CheckKind, RealServer, Via, VirtualService};

use super::real_server::Given;

/// Largest quorum: all real servers that there can be, with the largest weight.
pub(super) const QUORUM_MAX: u32 = 2_000_000_000;

/// Shortest slow start: each of its steps is a change of the kernel's table. And the longest.
const SLOW_START_MIN: Duration = Duration::from_secs(1);
const SLOW_START_MAX: Duration = Duration::from_secs(3600);

/// Quorum, hysteresis and floor of a service.
pub(super) type Few = (u32, u32, u32);

/// The checks of the real servers that have their own.
pub(super) fn own_checks(
    given: Option<&[Given]>,
    real_servers: &[RealServer],
) -> BTreeMap<SocketAddr, Vec<Arc<Check>>> {
    let given = given.unwrap_or_default().iter();
    let own = given.zip(real_servers).filter_map(|(given, server)| {
        given.checks.as_ref().map(|checks| (server.address, checks.clone()))
    });
    own.collect()
}

/// What happens while few of its real servers are up: quorum, hysteresis and floor.
pub(super) fn few(table: &Table<'_>, out: &mut Diagnostics) -> Option<Few> {
    let number = |key: &str, range: std::ops::RangeInclusive<u32>, out: &mut Diagnostics| {
        let default = *range.start();
        table.get(key).map_or(Some(default), |field| {
            field.integer(&format!("the {key} of a service"), range, out)
        })
    };
    let quorum = number("quorum", 1..=QUORUM_MAX, out);
    let hysteresis = number("hysteresis", 0..=QUORUM_MAX, out);
    let min_up = number("min_up", 0..=u32::from(u16::MAX), out);
    let (quorum, hysteresis, min_up) = (quorum?, hysteresis?, min_up?);
    if let (Some(field), true) = (table.get("hysteresis"), hysteresis >= quorum) {
        let message = format!("a quorum of {quorum} could never be lost by more than {hysteresis}");
        out.push(field.problem(message).help("a hysteresis below the quorum"));
        return None;
    }
    if let (Some(field), Some(_)) = (table.get("min_up"), table.get("sorry_server")) {
        let message = "there is a sorry server: while few are up, either it answers or all do";
        out.push(field.problem(message).help("leave one of the two out"));
        return None;
    }
    Some((quorum, hysteresis, min_up))
}

/// In which time a real server gets its whole weight.
pub(super) fn slow_start(table: &Table<'_>, out: &mut Diagnostics) -> Option<Duration> {
    let Some(field) = table.get("slow_start") else { return Some(Duration::ZERO) };
    let time = field.duration("slow_start", Duration::ZERO..=SLOW_START_MAX, out)?;
    if !time.is_zero() && time < SLOW_START_MIN {
        let problem =
            field.problem("no slow start is shorter than 1s, in which weights rise by tenths");
        out.push(problem.help("\"1s\" or longer, or \"0s\" for none"));
        return None;
    }
    Some(time)
}

/// Refuses a slow start that could change nothing.
pub(super) fn rises(
    table: &Table<'_>,
    service: &VirtualService,
    out: &mut Diagnostics,
) -> Option<()> {
    let field = table.get("slow_start").filter(|_| !service.slow_start.is_zero());
    let Some(field) = field else { return Some(()) };
    let scheduler = service.scheduler;
    if !scheduler.shares_by_weights() {
        let problem = field.problem(format!("scheduler {scheduler} does not go by weights"));
        out.push(problem.help("scheduler = \"wrr\" or \"wlc\", or no slow_start"));
        return None;
    }
    let has_steps = |server: &RealServer| {
        let says = |check: &Arc<Check>| match &check.kind {
            CheckKind::Exec(exec) => exec.dynamic,
            CheckKind::File(file) => file.dynamic,
            _ => false,
        };
        server.weight > 1 || service.checks_of(&server.address).iter().any(says)
    };
    if !service.real_servers.is_empty() && !service.real_servers.iter().any(has_steps) {
        let problem =
            field.problem("no real server has a weight above 1, and there is none below 1");
        out.push(problem.help("give the real servers weight = 100"));
        return None;
    }
    Some(())
}

/// A real server that takes any port has none that could be probed; and nothing goes from one
/// address family to the other.
pub(super) fn probed(
    table: &Table<'_>,
    service: &VirtualService,
    out: &mut Diagnostics,
) -> Option<()> {
    let lacks = |server: &&RealServer| {
        let checks = service.checks_of(&server.address);
        server.address.port() == 0 && checks.iter().any(|c| c.port.is_none() && c.has_port())
    };
    let of = |server: &RealServer| format!("real server {}", server.address.ip());
    let portless = service.real_servers.iter().find(lacks);
    let foreign = service.real_servers.iter().find_map(|server| {
        let checks = service.checks_of(&server.address).iter();
        let differs = |source: &IpAddr, check: &Check| {
            source.is_ipv4() != check.address.unwrap_or(server.address.ip()).is_ipv4()
        };
        let mut sources = checks.filter_map(|check| Some((check.origin.address?, check)));
        let (source, _) = sources.find(|(source, check)| differs(source, check))?;
        Some((server, source))
    });
    let pathless = service.real_servers.iter().find(|server| {
        let mut checks = service.checks_of(&server.address).iter();
        checks.any(|check| check.via == Via::Forwarding) && service.through(server).is_none()
    });
    let at = table.get("check").map_or_else(|| table.at.clone(), |field| field.at);
    if let Some(server) = portless {
        let message = format!("{} has no port to probe", of(server));
        out.push(at.problem(message).help("check = { type = \"tcp\", port = 80 }"));
        return None;
    }
    if let Some(server) = pathless {
        let message = format!("{} can't be tried on the way of clients' packets", of(server));
        let help = "via = \"forwarding\" needs a listener by TCP with an address of its family and a \
                    port, and forward = \"DR\" or \"TUN\" (ipip)";
        out.push(at.problem(message).help(help));
        return None;
    }
    if let Some((server, source)) = foreign {
        let message = format!("{source} can't be the source of what goes to {}", of(server));
        out.push(at.problem(message).help("a source of its address family"));
        return None;
    }
    Some(())
}
