//! Where a `virtual_server` listens: addresses, ranges of them, marks.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use super::super::ir::Listen;
use super::super::report::{Place, Report, clean};
use super::super::side::{Known, host};
use super::super::tree::Node;
use super::super::values::{bad, no_host, number_of, prefix};

/// Most addresses that a group of virtual servers makes.
const LISTEN_MAX: usize = 1_000;

/// What a `virtual_server` listens on.
#[derive(Debug, Default)]
pub(super) struct Targets {
    pub(super) listen: Vec<(Listen, Place)>,
    pub(super) marks: Vec<(u32, Place)>,
}

/// `tcp/192.0.2.80:80-90` of the command line.
pub(super) fn listened(text: &str, place: Place) -> Option<(&'static str, Listen, Place)> {
    let (protocol, at) = text.split_once('/')?;
    let protocol = ["tcp", "udp", "sctp"].into_iter().find(|known| *known == protocol)?;
    let (at, last) = match at.rsplit_once('-') {
        Some((at, last)) => (at, Some(last.parse::<u16>().ok()?)),
        None => (at, None),
    };
    let at: std::net::SocketAddr = at.parse().ok()?;
    let listen = Listen { ip: at.ip(), port: at.port(), last: last.unwrap_or(at.port()) };
    Some((protocol, listen, place))
}

pub(super) fn targets(node: &Node, known: &Known<'_>, report: &mut Report) -> Option<Targets> {
    let mut targets = Targets::default();
    match node.arg(1) {
        "" => {
            report.warn(node.place, "virtual_server", "it names no address: it is left out");
            return None;
        }
        "fwmark" => {
            let mark = number_of(node, 2, (0, u32::MAX), report)?;
            targets.marks.push((mark, node.place));
        }
        "group" => {
            let Some(block) = known.addresses.get(node.arg(2)) else {
                let what = format!(
                    "there is no virtual_server_group {:?}: it is left out",
                    clean(node.arg(2))
                );
                report.warn(node.place, "virtual_server", what);
                return None;
            };
            for entry in block.children() {
                entry_of(entry, &mut targets, report);
            }
        }
        _ => {
            let ip = host(node, 1, report)?;
            let (port, last) = ports(node, 2, report)?;
            targets.listen.push((Listen { ip, port, last }, node.place_of(1)));
        }
    }
    if targets.listen.len() > LISTEN_MAX {
        let what = format!("it listens on more than {LISTEN_MAX} addresses");
        report.error(node.place, "virtual_server_group", what, "make several groups of it");
        return None;
    }
    (!targets.listen.is_empty() || !targets.marks.is_empty()).then_some(targets)
}

/// A port, a range, or nothing: all of them.
pub(super) fn ports(node: &Node, at: usize, report: &mut Report) -> Option<(u16, u16)> {
    let text = node.arg(at);
    if text.is_empty() || text == "0" {
        return Some((0, 0));
    }
    let (first, last) = text.split_once('-').unwrap_or((text, text));
    match (first.parse::<u16>(), last.parse::<u16>()) {
        (Ok(first), Ok(last)) if first <= last && first > 0 => Some((first, last)),
        _ => {
            bad(node, at, "a port", report);
            None
        }
    }
}

/// A line of a `virtual_server_group`.
fn entry_of(node: &Node, targets: &mut Targets, report: &mut Report) {
    if node.keyword() == "fwmark" {
        let mark = number_of(node, 1, (0, u32::MAX), report);
        let new = mark.filter(|mark| targets.marks.iter().all(|(other, _)| other != mark));
        targets.marks.extend(new.map(|mark| (mark, node.place)));
        return;
    }
    let Some((first, last)) = addresses(node.keyword()) else {
        let what = format!(
            "{:?} is no address or range of them: Keepalived leaves it out as well",
            clean(node.keyword())
        );
        return report.warn(node.place, "virtual_server_group", what);
    };
    let Some((port, last_port)) = ports(node, 1, report) else { return };
    let mut ip = Some(first);
    while let Some(at) = ip {
        if targets.listen.len() > LISTEN_MAX {
            return;
        }
        match no_host(at) {
            Some(what) => report.warn(
                node.place,
                "virtual_server_group",
                format!("{at} is {what}: it is left out"),
            ),
            None => targets.listen.push((Listen { ip: at, port, last: last_port }, node.place)),
        }
        ip = (at < last).then(|| next(at)).flatten();
    }
}

fn next(ip: IpAddr) -> Option<IpAddr> {
    match ip {
        IpAddr::V4(ip) => u32::from(ip).checked_add(1).map(|next| Ipv4Addr::from(next).into()),
        IpAddr::V6(ip) => u128::from(ip).checked_add(1).map(|next| Ipv6Addr::from(next).into()),
    }
}

/// `A`, `A-D` where D is another last part or a whole address, `A/LENGTH`.
fn addresses(text: &str) -> Option<(IpAddr, IpAddr)> {
    if let Some((ip, length)) = text.split_once('/') {
        let ip: IpAddr = ip.parse().ok()?;
        let length = prefix(length, ip.is_ipv4())?;
        let range: (IpAddr, IpAddr) = match ip {
            IpAddr::V4(ip) => {
                let host = u32::MAX.checked_shr(length.into()).unwrap_or(0);
                (
                    Ipv4Addr::from(u32::from(ip) & !host).into(),
                    Ipv4Addr::from(u32::from(ip) | host).into(),
                )
            }
            IpAddr::V6(ip) => {
                let host = u128::MAX.checked_shr(length.into()).unwrap_or(0);
                (
                    Ipv6Addr::from(u128::from(ip) & !host).into(),
                    Ipv6Addr::from(u128::from(ip) | host).into(),
                )
            }
        };
        return Some(range);
    }
    let Some((first, last)) = text.split_once('-') else {
        let ip = text.parse().ok()?;
        return Some((ip, ip));
    };
    let first: IpAddr = first.parse().ok()?;
    let last = match last.parse::<IpAddr>() {
        Ok(last) => last,
        Err(_) => match first {
            IpAddr::V4(ip) => {
                let [a, b, c, _] = ip.octets();
                Ipv4Addr::new(a, b, c, last.parse().ok()?).into()
            }
            IpAddr::V6(ip) => {
                let mut parts = ip.segments();
                parts[7] = u16::from_str_radix(last, 16).ok()?;
                Ipv6Addr::from(parts).into()
            }
        },
    };
    (first.is_ipv4() == last.is_ipv4() && first <= last).then_some((first, last))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_are_read_in_every_spelling() {
        for (text, first, last) in [
            ("192.0.2.1", "192.0.2.1", "192.0.2.1"),
            ("192.0.2.1-10", "192.0.2.1", "192.0.2.10"),
            ("192.0.2.250-192.0.3.10", "192.0.2.250", "192.0.3.10"),
            ("192.0.2.8/29", "192.0.2.8", "192.0.2.15"),
            ("2001:db8::2-1f", "2001:db8::2", "2001:db8::1f"),
        ] {
            let range = addresses(text).map(|(a, b)| (a.to_string(), b.to_string()));
            assert_eq!(range, Some((first.to_owned(), last.to_owned())), "{text}");
        }
        for bad in ["192.0.2.9-1", "192.0.2.1-300", "x", "192.0.2.1-2001:db8::1", ""] {
            assert_eq!(addresses(bad), None, "{bad:?}");
        }
    }
}
