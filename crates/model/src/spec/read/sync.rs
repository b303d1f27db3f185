//! `[cluster] sync`: how directors tell each other of their connections.

use std::net::IpAddr;
use std::time::Duration;

use crate::id::NodeName;
use crate::spec::document::{Diagnostics, Field};
use crate::spec::{Forward, Sync, VirtualService};

use super::keys;

/// As ipvsadm(8) and the kernel have it (`IP_VS_SYNC_GROUP`, `IP_VS_SYNC_PORT`).
const GROUP_DEFAULT: [u8; 4] = [224, 0, 0, 81];
const PORT_DEFAULT: u16 = 8848;
/// Longest time between two tellings of a connection.
pub const REFRESH_MAX: Duration = Duration::from_secs(3600);
/// Longest warm-up.
pub const WARMUP_MAX: Duration = Duration::from_secs(24 * 3600);
/// How long a director must have listened before a group returns to it, if nothing is said.
pub const WARMUP_DEFAULT: Duration = Duration::from_secs(60);

pub(super) fn sync(field: &Field<'_>, out: &mut Diagnostics) -> Option<Sync> {
    let table = field.table(&keys::SYNC, out)?;
    let link =
        table.require("link", out).and_then(|f| f.parsed::<NodeName>("the name of a link", out));
    let mut group = Some(IpAddr::from(GROUP_DEFAULT));
    if let Some(field) = table.get("group") {
        group = field.address(out).filter(|group| {
            // Those of one host or one link are sent from a link-local address, which no member's is.
            let narrow =
                matches!(group, IpAddr::V6(six) if matches!(six.segments()[0] & 0xf, 1 | 2));
            let right = group.is_multicast() && !narrow;
            if narrow {
                let problem = field.problem(format!("{group} is sent from a link-local address"));
                out.push(problem.help("a group of the site, such as \"ff05::224:0:0:81\""));
            } else if !right {
                let problem = field.problem(format!("{group} is no multicast group"));
                out.push(problem.help("such as \"224.0.0.81\" or \"ff05::224:0:0:81\""));
            }
            right
        });
    }
    let mut number = |key: &str, what: &str, least: u16, most: u16, default: u16| {
        table.get(key).map_or(Some(default), |field| field.integer(what, least..=most, out))
    };
    let id = number("id", "the id of the daemons", 1, 255, 1);
    let port = number("port", "the port of the group", 1, u16::MAX, PORT_DEFAULT);
    let ttl = number("ttl", "the number of hops", 1, 255, 1);
    let retries = number("retries", "the number of repetitions", 0, 3, 2);
    // What the kernel takes for both daemons and families as it is (`start_sync_thread`).
    let max_len = match table.get("maxlen") {
        Some(field) => field.integer("the length of a message", 1_024..=65_487_u16, out).map(Some),
        None => Some(None),
    };
    let refresh_s = match table.get("refresh") {
        Some(field) => super::seconds("a refresh", &field, REFRESH_MAX, out),
        None => Some(10),
    };
    let small = |number: Option<u16>| u8::try_from(number?).ok();
    Some(Sync {
        link: link?.to_string(),
        group: group?,
        id: small(id)?,
        port: port?,
        ttl: small(ttl)?,
        retries: small(retries)?,
        max_len: max_len?,
        refresh_s: refresh_s?,
    })
}

/// The kernel refuses the one while it has the other (`ip_vs_add_dest`, `start_sync_thread`).
pub(super) fn against<'s>(
    field: &Field<'_>,
    services: impl Iterator<Item = (&'s crate::id::ServiceName, &'s VirtualService)>,
    out: &mut Diagnostics,
) {
    for (name, service) in services {
        let mixed = service.real_servers.iter().chain(&service.sorry_server).find(|server| {
            matches!(server.forward, Forward::Tun(_))
                && service.listen.iter().any(|l| l.address.is_ipv4() != server.address.is_ipv4())
        });
        if let Some(server) = mixed {
            let message = format!(
                "real server {} of service {name} is of another address family than the service, \
                 which the kernel does not allow beside the sync daemons",
                server.address
            );
            let problem = field.problem(message);
            out.push(
                problem.help("leave sync out, or give the service real servers of its family"),
            );
            return;
        }
    }
}
