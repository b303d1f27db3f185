//! Real servers, in a service or a pool: read once, then fitted to each service that names them.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, SocketAddr};

use crate::spec::document::{At, Diagnostics, Field, socket_address};
use crate::spec::{Forward, Listen, RealServer, WEIGHT_MAX};

use super::group::Groups;
use super::{REAL_SERVERS_MAX, address, keys, service};

/// Sets of real servers by name; absent where one could not be read.
pub(super) type Pools<'d> = BTreeMap<&'d str, Option<Vec<Given>>>;

/// A real server as written: its service may add port and forwarding method.
#[derive(Debug, Clone)]
pub(super) struct Given {
    ip: IpAddr,
    port: Option<u16>,
    weight: u32,
    forward: Option<Forward>,
    at: At,
}

/// A list of different real servers.
pub(super) fn servers(
    list: &Field<'_>,
    groups: &Groups,
    out: &mut Diagnostics,
) -> Option<Vec<Given>> {
    let items = list.list(out)?;
    if items.len() > REAL_SERVERS_MAX {
        let message =
            format!("{} real servers, at most {REAL_SERVERS_MAX} can be given", items.len());
        out.push(list.problem(message));
        return None;
    }
    let mut all = Some(Vec::with_capacity(items.len()));
    let mut seen = BTreeSet::new();
    for item in &items {
        let server = server(item, groups, out).filter(|server| {
            let new = seen.insert((server.ip, server.port));
            if !new {
                let problem = server.at.problem(format!("real server {server} stands twice"));
                out.push(problem.help("remove one of the two"));
            }
            new
        });
        all = all.zip(server).map(|(mut all, server)| {
            all.push(server);
            all
        });
        if out.is_full() {
            return None;
        }
    }
    all
}

impl std::fmt::Display for Given {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self.port {
            Some(port) => SocketAddr::new(self.ip, port).fmt(f),
            None => self.ip.fmt(f),
        }
    }
}

fn server(item: &Field<'_>, groups: &Groups, out: &mut Diagnostics) -> Option<Given> {
    if item.peek().is_some() {
        let problem = item.problem("a real server is a table");
        out.push(problem.help("write { address = \"192.0.2.16:80\" }"));
        return None;
    }
    let table = item.table(&keys::REAL_SERVER, out)?;
    let address = table.require("address", out).and_then(|field| {
        let (ip, port) = address_of(&field, out)?;
        address::refuse_no_host(ip, &field, out)?;
        if let Some(group) = groups.owner.get(&ip) {
            let message = format!("{ip} is a VIP, of group {group}: a real server has its own");
            out.push(field.problem(message).help("use the real server's own address"));
            return None;
        }
        Some((ip, port, field.at))
    });
    let weight = table
        .get("weight")
        .map_or(Some(1), |field| field.integer("the weight of a real server", 0..=WEIGHT_MAX, out));
    let forward = match table.get("forward") {
        Some(field) => service::forward(&field, out).map(Some),
        None => Some(None),
    };
    let (ip, port, at) = address?;
    Some(Given { ip, port, weight: weight?, forward: forward?, at })
}

fn address_of(field: &Field<'_>, out: &mut Diagnostics) -> Option<(IpAddr, Option<u16>)> {
    let text = field.text("the address of a real server", out)?;
    if let Ok(ip) = text.parse::<IpAddr>() {
        return Some((ip, None));
    }
    match socket_address(text) {
        Ok(address) => Some((address.ip(), Some(address.port()))),
        Err((message, help)) => {
            out.push(field.problem(message).help(help));
            None
        }
    }
}

/// What a service makes of the real servers that it is given.
#[derive(Debug, Clone, Copy)]
pub(super) struct Resolve<'a> {
    pub(super) service: &'a str,
    /// Where it listens; never empty.
    pub(super) listen: &'a [Listen],
    /// How packets reach its real servers unless one says otherwise.
    pub(super) forward: Forward,
}

impl Resolve<'_> {
    pub(super) fn servers(self, given: &[Given], out: &mut Diagnostics) -> Option<Vec<RealServer>> {
        let ports: BTreeSet<u16> = self.listen.iter().map(|l| l.address.port()).collect();
        let mut all = Some(Vec::with_capacity(given.len()));
        let mut seen = BTreeSet::new();
        for server in given {
            let real = self.server(server, &ports, out).filter(|real| {
                let new = seen.insert(real.address);
                if !new {
                    let message =
                        format!("service {} has real server {} twice", self.service, real.address);
                    out.push(server.at.problem(message).help("remove one of the two"));
                }
                new
            });
            all = all.zip(real).map(|(mut all, real)| {
                all.push(real);
                all
            });
            if out.is_full() {
                return None;
            }
        }
        all
    }

    fn server(
        self,
        server: &Given,
        ports: &BTreeSet<u16>,
        out: &mut Diagnostics,
    ) -> Option<RealServer> {
        let forward = server.forward.unwrap_or(self.forward);
        let first = self.listen.first()?;
        let other_family = self.listen.iter().find(|l| l.address.is_ipv4() != server.ip.is_ipv4());
        if let Some(listen) = other_family {
            let message = format!(
                "real server {server} and {listen} of service {} are not of one address family",
                self.service
            );
            let help =
                "this version of Quorate does not mix IPv4 and IPv6: make a service for each";
            out.push(server.at.problem(message).help(help));
            return None;
        }
        let Some(port) = server.port.or((ports.len() == 1).then_some(first.address.port())) else {
            let message = format!(
                "real server {server} has no port, and service {} listens on several",
                self.service
            );
            out.push(server.at.problem(message).help("append the port to the address"));
            return None;
        };
        // Under DR and TUN the packet arrives as the client sent it, port included.
        if forward != Forward::Nat
            && let Some(listen) = self.listen.iter().find(|l| l.address.port() != port)
        {
            let message = format!(
                "{forward} can't change ports: real server {server}, service {} on {listen}",
                self.service
            );
            let help = format!("use port {}, or forward = \"NAT\"", listen.address.port());
            out.push(server.at.problem(message).help(help));
            return None;
        }
        Some(RealServer {
            address: SocketAddr::new(server.ip, port),
            weight: server.weight,
            forward,
        })
    }
}
