//! Addresses as a configuration may name them: what can be a VIP or a real server, and where a
//! virtual service listens.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use ipnet::{IpNet, Ipv4Net, Ipv6Net};

use crate::spec::document::{Diagnostic, Diagnostics, Field, socket_address};
use crate::spec::{Listen, Protocol};

/// Why an address can't belong to one host of a network, if it can't.
pub(in crate::spec) fn not_a_host(ip: IpAddr) -> Option<&'static str> {
    match ip {
        IpAddr::V4(ip) => not_a_host_v4(ip),
        IpAddr::V6(ip) => not_a_host_v6(ip),
    }
}

fn not_a_host_v4(ip: Ipv4Addr) -> Option<&'static str> {
    if ip.is_unspecified() {
        Some("the unspecified address")
    } else if ip.octets()[0] == 0 {
        Some("an address of \"this network\" (RFC 791)")
    } else if ip.is_loopback() {
        Some("a loopback address")
    } else if ip.is_multicast() {
        Some("a multicast address")
    } else if ip.is_broadcast() {
        Some("the broadcast address")
    } else if ip.octets()[0] >= 240 {
        Some("a reserved address (RFC 1112)")
    } else if ip.is_link_local() {
        Some("a link-local address, which means something else on each link")
    } else {
        None
    }
}

fn not_a_host_v6(ip: Ipv6Addr) -> Option<&'static str> {
    if ip.is_unspecified() {
        Some("the unspecified address")
    } else if ip.is_loopback() {
        Some("a loopback address")
    } else if ip.is_multicast() {
        Some("a multicast address")
    } else if ip.is_unicast_link_local() {
        Some("a link-local address, which means something else on each link")
    } else if ip.to_ipv4_mapped().is_some() {
        Some("an IPv4 address in IPv6 form, which never stands in a packet")
    } else {
        None
    }
}

/// Refuses an address that no host of a network has.
pub(super) fn refuse_no_host(ip: IpAddr, field: &Field<'_>, out: &mut Diagnostics) -> Option<()> {
    match not_a_host(ip) {
        None => Some(()),
        Some(what) => {
            out.push(
                field.problem(format!("{ip} is {what}")).help("use the unicast address of a host"),
            );
            None
        }
    }
}

/// A VIP with its prefix length: `"192.168.10.180/32"`. Without one it is the address alone.
pub(super) fn vip(field: &Field<'_>, out: &mut Diagnostics) -> Option<IpNet> {
    let text = field.text("an address", out)?;
    let net = match text.parse::<IpNet>() {
        Ok(net) => net,
        Err(_) => match text.parse::<IpAddr>() {
            Ok(ip) => IpNet::from(ip),
            Err(_) => {
                out.push(no_vip(text, field));
                return None;
            }
        },
    };
    refuse_no_host(net.addr(), field, out)?;
    if let Some((message, help)) = edge_of_network(net) {
        out.push(field.problem(message).help(help));
        return None;
    }
    Some(net)
}

fn no_vip(text: &str, field: &Field<'_>) -> Diagnostic {
    let quoted: String = text.chars().take(60).collect();
    if let Some((Ok(ip), length)) = text.split_once('/').map(|(ip, l)| (ip.parse::<IpAddr>(), l)) {
        let max = if ip.is_ipv4() { 32 } else { 128 };
        let length: String = length.chars().take(20).collect();
        let problem = field.problem(format!("{length:?} is not a prefix length of {ip}"));
        return problem.help(format!("use 1 to {max}"));
    }
    if text.parse::<SocketAddr>().is_ok() {
        let problem = field.problem(format!("{quoted:?} has a port, a VIP has none"));
        return problem.help("ports stand in the listen key of [service.NAME]");
    }
    let problem = field.problem(format!("{quoted:?} is not an address"));
    problem.help("write it as \"192.0.2.1/32\" or \"2001:db8::1/128\"")
}

/// An address that its own prefix makes the name of the network or its broadcast address.
fn edge_of_network(net: IpNet) -> Option<(String, String)> {
    let help = format!("use an address inside it, or \"{}/{}\"", net.addr(), net.max_prefix_len());
    if net.prefix_len() == 0 {
        return Some((format!("{net} has prefix length 0, which is every address"), help));
    }
    match net {
        IpNet::V4(v4) if v4.prefix_len() < 31 && v4.addr() == v4.network() => {
            Some((format!("{net} is the network's own address"), help))
        }
        IpNet::V4(v4) if v4.prefix_len() < 31 && v4.addr() == v4.broadcast() => {
            Some((format!("{net} is the network's broadcast address"), help))
        }
        IpNet::V6(v6) if v6.prefix_len() < 127 && v6.addr() == v6.network() => {
            Some((format!("{net} is the subnet-router anycast address (RFC 4291 §2.6.1)"), help))
        }
        IpNet::V4(_) | IpNet::V6(_) => None,
    }
}

/// Where a virtual service listens: `"tcp/192.168.10.180:80"`, or `"tcp/192.168.10.180:8000-8099"`.
pub(super) fn listen(field: &Field<'_>, out: &mut Diagnostics) -> Option<Listen> {
    let text = field.text("an address to listen on", out)?;
    let Some((protocol, address)) = text.split_once('/') else {
        let problem = match socket_address(text) {
            Ok(address) => field
                .problem(format!("\"{address}\" has no protocol"))
                .help(format!("write \"tcp/{address}\" or \"udp/{address}\"")),
            Err((message, _)) => field.problem(message).help("write it as \"tcp/192.0.2.1:80\""),
        };
        out.push(problem);
        return None;
    };
    let protocol = protocol_of(protocol, field, out)?;
    let (first, last) = match address.rsplit_once('-') {
        Some((first, last)) => (first, Some(last)),
        None => (address, None),
    };
    let address = match socket_address(first) {
        Ok(address) => address,
        Err((message, help)) => {
            out.push(field.problem(message).help(help));
            return None;
        }
    };
    let Some(last) = last else {
        return Some(Listen { protocol, address, last_port: address.port() });
    };
    match last.parse::<u16>() {
        Ok(last_port) if last_port > address.port() => {
            Some(Listen { protocol, address, last_port })
        }
        _ => {
            let last: String = last.chars().take(20).collect();
            let message = format!("{last:?} is no last port of a range from {}", address.port());
            out.push(field.problem(message).help("write it as \"tcp/192.0.2.1:8000-8099\""));
            None
        }
    }
}

fn protocol_of(word: &str, field: &Field<'_>, out: &mut Diagnostics) -> Option<Protocol> {
    if let Some(protocol) = Protocol::named(word) {
        return Some(protocol);
    }
    if let "fwmark" | "mark" = word {
        let problem = field.problem(format!("{word:?} is no protocol"));
        out.push(problem.help("mark = 1 in [service.NAME], and the addresses and ports in listen"));
        return None;
    }
    let word: String = word.chars().take(20).collect();
    let lower = word.to_ascii_lowercase();
    let help = match Protocol::named(&lower) {
        Some(protocol) => format!("did you mean \"{protocol}\"?"),
        None => "known: tcp, udp, sctp".to_owned(),
    };
    out.push(field.problem(format!("unknown protocol {word:?}")).help(help));
    None
}

/// The prefix length that a netmask such as `"255.255.255.0"` stands for, with its family.
pub(super) fn netmask(field: &Field<'_>, out: &mut Diagnostics) -> Option<(u8, bool)> {
    let mask = field.address(out)?;
    let prefix = match mask {
        IpAddr::V4(mask) => {
            Ipv4Net::with_netmask(Ipv4Addr::UNSPECIFIED, mask).map(|n| n.prefix_len())
        }
        IpAddr::V6(mask) => {
            Ipv6Net::with_netmask(Ipv6Addr::UNSPECIFIED, mask).map(|n| n.prefix_len())
        }
    };
    match prefix {
        Ok(0) => {
            out.push(field.problem("a netmask of 0 makes all clients one"));
            None
        }
        Ok(prefix) => Some((prefix, mask.is_ipv4())),
        Err(_) => {
            let problem =
                field.problem(format!("{mask} is not a netmask: its ones are not together"));
            out.push(problem.help("such as \"255.255.255.0\""));
            None
        }
    }
}
