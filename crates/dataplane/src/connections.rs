//! The connections of a virtual service as the kernel lists them, some of them: a kernel may know
//! millions. Read from /proc/net/ip_vs_conn_sync (`ip_vs_conn_sync_seq_show`, ip_vs_conn.c) of the
//! calling thread's network namespace. Nothing here changes anything. Tests: below; lab_ipvs_modes.

use std::fs::File;
use std::io::{BufRead, BufReader};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::num::NonZeroU32;
use std::path::PathBuf;

use quorate_model::spec::{Listen, Protocol, VirtualService};

use crate::error::{DataplaneError, Operation};

const LIST: &str = "/proc/thread-self/net/ip_vs_conn_sync";
/// Lines that are looked at: what a service's connections stand among. The kernel writes some
/// millions a second.
const LINES_MAX: usize = 2_000_000;

/// One connection, or the template by which clients stick to a real server.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Connection {
    /// "TCP", "UDP", "SCTP", or "IP" for a template of a service by firewall mark.
    pub protocol: String,
    /// The client; port 0 of a template.
    pub client: SocketAddr,
    /// What it went to; of a template by firewall mark, the mark as an address.
    pub to: SocketAddr,
    /// The real server.
    pub server: SocketAddr,
    /// In the kernel's word, such as "ESTABLISHED".
    pub state: String,
    /// Whether another director told of it.
    pub synced: bool,
    /// When it is forgotten if nothing comes, in seconds.
    pub expires_s: u64,
}

/// Some connections of a service.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Connections {
    /// As many as were asked for.
    pub found: Vec<Connection>,
    /// Whether there may be more.
    pub more: bool,
}

/// Up to `limit` connections of a service. Blocks, for a second or two where the kernel knows
/// millions.
///
/// # Errors
/// Where the kernel's list can't be read.
pub fn of(service: &VirtualService, limit: usize) -> Result<Connections, DataplaneError> {
    let failed =
        |error| DataplaneError::from_io(Operation::ReadConnections(PathBuf::from(LIST)), &error);
    let file = File::open(LIST).map_err(failed)?;
    read(BufReader::new(file), service, limit).map_err(failed)
}

fn read(
    list: impl BufRead,
    service: &VirtualService,
    limit: usize,
) -> std::io::Result<Connections> {
    let mut connections = Connections::default();
    for (number, line) in list.lines().skip(1).enumerate() {
        // What this version does not understand is not shown.
        let found = parse(&line?).filter(|connection| belongs(connection, service));
        if number >= LINES_MAX || (found.is_some() && connections.found.len() >= limit) {
            connections.more = true;
            break;
        }
        connections.found.extend(found);
    }
    Ok(connections)
}

fn belongs(connection: &Connection, service: &VirtualService) -> bool {
    let template =
        |mark: NonZeroU32| connection.protocol == "IP" && last32(connection.to.ip()) == mark.get();
    let listens = |listen: &Listen| {
        let protocol = Protocol::named(&connection.protocol.to_ascii_lowercase());
        let ports = listen.address.port()..=listen.last_port;
        protocol == Some(listen.protocol)
            && connection.to.ip() == listen.address.ip()
            && ports.contains(&connection.to.port())
    };
    service.mark.is_some_and(template) || service.listen.iter().any(listens)
}

fn last32(ip: IpAddr) -> u32 {
    match ip {
        IpAddr::V4(ip) => ip.into(),
        IpAddr::V6(ip) => {
            let [.., a, b] = ip.segments();
            u32::from(a) << 16 | u32::from(b)
        }
    }
}

/// `TCP C0A80A64 A5BC C0A80AB4 1B58 C0A80A10 1B58 ESTABLISHED LOCAL      899`: addresses and ports in
/// hexadecimal, those of IPv6 with colons.
fn parse(line: &str) -> Option<Connection> {
    let words: Vec<&str> = line.split_whitespace().collect();
    let [protocol, client, client_port, to, to_port, server, server_port, state, origin, expires] =
        words.as_slice()
    else {
        return None;
    };
    let at = |ip: &str, port: &str| {
        Some(SocketAddr::new(address(ip)?, u16::from_str_radix(port, 16).ok()?))
    };
    Some(Connection {
        protocol: (*protocol).to_owned(),
        client: at(client, client_port)?,
        to: at(to, to_port)?,
        server: at(server, server_port)?,
        state: (*state).to_owned(),
        synced: *origin == "SYNC",
        expires_s: expires.parse().ok()?,
    })
}

fn address(text: &str) -> Option<IpAddr> {
    if text.contains(':') {
        return text.parse::<Ipv6Addr>().ok().map(IpAddr::from);
    }
    u32::from_str_radix(text, 16).ok().map(|ip| Ipv4Addr::from(ip).into())
}

#[cfg(test)]
mod tests {
    use quorate_model::spec::{Format, parse as configuration};

    use super::*;

    const LISTED: &str = "\
Pro FromIP   FPrt ToIP     TPrt DestIP   DPrt State       Origin Expires
TCP C0A80A64 A5BC C0A80AB4 0050 C0A80A10 0050 ESTABLISHED LOCAL      899
TCP C0A80A64 A5BD C0A80AB4 0051 C0A80A10 0050 ESTABLISHED SYNC        12
UDP C0A80A64 A5BD C0A80AB4 0050 C0A80A10 0050 UDP         LOCAL      300
IP  C0A80A64 0000 00000007 0000 C0A80A11 0000 ASSURED     SYNC        45
TCP 2001:0db8:0010:0000:0000:0000:0000:0100 A5BC 2001:0db8:0010:0000:0000:0000:0000:0180 0050 \
2001:0db8:0010:0000:0000:0000:0000:0016 0050 FIN_WAIT    LOCAL      119
rubbish
";

    fn service(lines: &str) -> VirtualService {
        let source = format!(
            "group.web = {{ interface = \"x\", addresses = [\"192.168.10.180\", \"2001:db8:10::180\"] \
             }}\n[service.web]\ngroup = \"web\"\nreal_servers = []\n{lines}\n"
        );
        let spec = configuration(&source, Format::Toml).unwrap();
        spec.services.into_values().next().unwrap()
    }

    fn shown(lines: &str, limit: usize) -> (Vec<String>, bool) {
        let found = read(LISTED.as_bytes(), &service(lines), limit).unwrap();
        let text = |c: &Connection| {
            format!(
                "{} {} {} {} {} {} {}",
                c.protocol, c.client, c.to, c.server, c.state, c.synced, c.expires_s
            )
        };
        (found.found.iter().map(text).collect(), found.more)
    }

    const FIRST: &str =
        "TCP 192.168.10.100:42428 192.168.10.180:80 192.168.10.16:80 ESTABLISHED false 899";
    const SECOND: &str =
        "TCP 192.168.10.100:42429 192.168.10.180:81 192.168.10.16:80 ESTABLISHED true 12";

    #[test]
    fn connections_are_those_of_the_service() {
        let four = "listen = \"tcp/192.168.10.180:80\"";
        assert_eq!(shown(four, 9), (vec![FIRST.to_owned()], false));
        let six = "listen = \"tcp/[2001:db8:10::180]:80\"";
        let want = "TCP [2001:db8:10::100]:42428 [2001:db8:10::180]:80 [2001:db8:10::16]:80 FIN_WAIT \
                    false 119";
        assert_eq!(shown(six, 9), (vec![want.to_owned()], false));
        let marked = "listen = \"tcp/192.168.10.180:80-90\"\nmark = 7";
        let template = "IP 192.168.10.100:0 0.0.0.7:0 192.168.10.17:0 ASSURED true 45";
        assert_eq!(shown(marked, 9).0, [FIRST, SECOND, template]);
    }

    #[test]
    fn no_more_are_taken_than_asked_for_and_that_there_are_more_is_said() {
        let marked = "listen = \"tcp/192.168.10.180:80-90\"\nmark = 7";
        assert_eq!(shown(marked, 1), (vec![FIRST.to_owned()], true));
        assert!(!shown(marked, 3).1);
    }
}
