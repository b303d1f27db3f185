//! Real servers, in a service or a pool: read once, then fitted to each service that names them.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use crate::spec::document::{At, Diagnostics, Field, socket_address};
use crate::spec::{Check, Forward, Listen, RealServer, Thresholds, Tunnel, WEIGHT_MAX};

use super::check::Checks;
use super::group::Groups;
use super::{REAL_SERVERS_MAX, address, ipvs, keys};

/// Sets of real servers by name; absent where one could not be read.
pub(super) type Pools<'d> = BTreeMap<&'d str, Option<Vec<Given>>>;

/// A real server as written: its service may add port and forwarding method.
#[derive(Debug, Clone)]
pub(super) struct Given {
    ip: IpAddr,
    port: Option<u16>,
    weight: u32,
    forward: Option<Forward>,
    tunnel: Option<Tunnel>,
    thresholds: Thresholds,
    /// Its own, in place of the service's.
    pub(super) checks: Option<Vec<Arc<Check>>>,
    at: At,
}

/// What a document says before its real servers are read.
#[derive(Debug, Clone, Copy)]
pub(super) struct Known<'a, 'd> {
    pub(super) groups: &'a Groups,
    pub(super) checks: &'a Checks<'d>,
}

/// A list of different real servers.
pub(super) fn servers(
    list: &Field<'_>,
    known: Known<'_, '_>,
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
        let server = server(item, known, out).filter(|server| {
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

impl Given {
    fn resolved(&self, port: u16, forward: Forward) -> RealServer {
        let address = SocketAddr::new(self.ip, port);
        RealServer { address, weight: self.weight, forward, thresholds: self.thresholds }
    }
}

impl std::fmt::Display for Given {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self.port {
            Some(port) => SocketAddr::new(self.ip, port).fmt(f),
            None => self.ip.fmt(f),
        }
    }
}

fn server(item: &Field<'_>, known: Known<'_, '_>, out: &mut Diagnostics) -> Option<Given> {
    if item.peek().is_some() {
        let problem = item.problem("a real server is a table");
        out.push(problem.help("write { address = \"192.0.2.16:80\" }"));
        return None;
    }
    let table = item.table(&keys::REAL_SERVER, out)?;
    let (ip, port, at) =
        table.require("address", out).and_then(|f| own_address(&f, known.groups, out))?;
    let weight = table
        .get("weight")
        .map_or(Some(1), |field| field.integer("the weight of a real server", 0..=WEIGHT_MAX, out));
    let forward = match table.get("forward") {
        Some(field) => ipvs::forward(&field, out).map(Some),
        None => Some(None),
    };
    let tunnel = match table.get("tunnel") {
        Some(field) => ipvs::tunnel(&field, out).map(Some),
        None => Some(None),
    };
    let thresholds = ipvs::thresholds(&table, out);
    let checks = match table.get("check") {
        Some(field) => known.checks.of(&field, out).map(Some),
        None => Some(None),
    };
    Some(Given {
        ip,
        port,
        weight: weight?,
        forward: forward?,
        tunnel: tunnel?,
        thresholds: thresholds?,
        checks: checks?,
        at,
    })
}

/// Who answers while no real server does: an address, or a table that says how it is reached.
pub(super) fn sorry_server(
    field: &Field<'_>,
    known: Known<'_, '_>,
    out: &mut Diagnostics,
) -> Option<Given> {
    if field.is_table() {
        let sorry = server(field, known, out)?;
        if sorry.checks.is_some() {
            let problem = sorry.at.problem("a sorry server is not checked");
            out.push(problem.help("leave its check out"));
            return None;
        }
        if sorry.weight == 0 {
            let problem = sorry.at.problem("a sorry server of weight 0 takes no connection");
            out.push(problem.help("leave the weight out, or leave the sorry server out"));
            return None;
        }
        return Some(sorry);
    }
    let (ip, port, at) = own_address(field, known.groups, out)?;
    let (forward, tunnel, thresholds) = (None, None, Thresholds::default());
    Some(Given { ip, port, weight: 1, forward, tunnel, thresholds, checks: None, at })
}

fn own_address(
    field: &Field<'_>,
    groups: &Groups,
    out: &mut Diagnostics,
) -> Option<(IpAddr, Option<u16>, At)> {
    let (ip, port) = address_of(field, out)?;
    address::refuse_no_host(ip, field, out)?;
    if let Some(group) = groups.owner.get(&ip) {
        let message = format!("{ip} is a VIP, of group {group}: a real server has its own");
        out.push(field.problem(message).help("use the real server's own address"));
        return None;
    }
    Some((ip, port, field.at.clone()))
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
    /// Whether IPVS takes all of that for one service, by a firewall mark.
    pub(super) marked: bool,
    /// How packets reach its real servers unless one says otherwise, and in which tunnel.
    pub(super) forward: (Forward, Option<Tunnel>),
}

impl Resolve<'_> {
    pub(super) fn servers(
        self,
        given: &[Given],
        sorry: Option<&Given>,
        out: &mut Diagnostics,
    ) -> Option<(Vec<RealServer>, Option<RealServer>)> {
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
        let sorry = match sorry {
            Some(server) => {
                let real = self.server(server, &ports, out).filter(|real| {
                    let other = !seen.contains(&real.address);
                    if !other {
                        let problem = server.at.problem(format!(
                            "{} is a real server of service {} already",
                            real.address, self.service
                        ));
                        out.push(problem.help("a sorry server answers while no real server does"));
                    }
                    other
                });
                Some(real?)
            }
            None => None,
        };
        Some((all?, sorry))
    }

    /// The real server's own method and tunnel, or the service's.
    fn forward_of(self, server: &Given, out: &mut Diagnostics) -> Option<Forward> {
        let (forward, tunnel) = self.forward;
        let forward = server.forward.unwrap_or(forward);
        match (forward, server.tunnel, tunnel) {
            (Forward::Tun(_), Some(tunnel), _) | (Forward::Tun(_), None, Some(tunnel)) => {
                Some(Forward::Tun(tunnel))
            }
            (Forward::Dr | Forward::Nat, Some(_), _) => {
                let message =
                    format!("real server {server} has a tunnel, and is reached by {forward}");
                let problem = server.at.problem(message);
                out.push(problem.help("forward = \"TUN\", or leave the tunnel out"));
                None
            }
            (forward, None, _) => Some(forward),
        }
    }

    fn server(
        self,
        server: &Given,
        ports: &BTreeSet<u16>,
        out: &mut Diagnostics,
    ) -> Option<RealServer> {
        let forward = self.forward_of(server, out)?;
        let first = self.listen.first()?;
        let other_family = self.listen.iter().find(|l| l.address.is_ipv4() != server.ip.is_ipv4());
        if let Some(listen) = other_family
            && !matches!(forward, Forward::Tun(_))
        {
            let message = format!(
                "real server {server} and {listen} of service {} are not of one address family",
                self.service
            );
            let both = self.listen.iter().any(|l| l.address.is_ipv4() == server.ip.is_ipv4());
            let help = if both {
                "only a tunnel carries one family in the other: forward = \"TUN\", or make a service \
                 for each family"
            } else {
                "only a tunnel carries one family in the other: forward = \"TUN\", or an address of \
                 the service's family"
            };
            out.push(server.at.problem(message).help(help));
            return None;
        }
        if self.marked {
            return self.marked_server(server, forward, out);
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
                "{} can't change ports: real server {server}, service {} on {listen}",
                forward.word(),
                self.service
            );
            let help = format!("use port {}, or forward = \"NAT\"", listen.address.port());
            out.push(server.at.problem(message).help(help));
            return None;
        }
        Some(server.resolved(port, forward))
    }

    /// Port 0 is the one that the client asked for (`ip_vs_schedule`, ip_vs_core.c).
    fn marked_server(
        self,
        server: &Given,
        forward: Forward,
        out: &mut Diagnostics,
    ) -> Option<RealServer> {
        if let (Some(port), true) = (server.port, forward != Forward::Nat) {
            let message = format!(
                "{} can't change ports: real server {server} of service {}, which has a mark, can't \
                 have port {port} alone",
                forward.word(),
                self.service
            );
            let help = format!("address = \"{}\", or forward = \"NAT\"", server.ip);
            out.push(server.at.problem(message).help(help));
            return None;
        }
        Some(server.resolved(server.port.unwrap_or(0), forward))
    }
}
