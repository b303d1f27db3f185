//! `real_server` to real servers.

use std::net::IpAddr;

use super::checks::{self, Times};
use super::hooks;
use super::ir::{Fields, Forward, Hook, Server, Service};
use super::keywords::REAL_SERVER;
use super::report::{Place, Report};
use super::side::{Known, host};
use super::tree::Node;
use super::values::{bad, number_of, quoted};

/// Most checks of one real server.
const CHECKS_MAX: usize = 16;
/// The kernel reckons three quarters of it in 32 bits.
const THRESHOLD_MAX: u32 = i32::MAX as u32 / 4;

/// What the virtual server says for all.
#[derive(Clone, Copy)]
pub(super) struct Inherited<'a> {
    pub(super) times: &'a Times,
    pub(super) weight: Option<u32>,
    pub(super) service: &'a Service,
}

/// One of which nothing is known but where it is.
pub(super) fn bare(place: Place, ip: IpAddr, port: Option<u16>) -> Server {
    let (fields, checks, hooks) = (Vec::new(), Vec::new(), Vec::new());
    Server { place, ip, port, forward: None, fields, checks, hooks }
}

/// A real server, and whether it is to stay in the table when it fails.
pub(super) fn server(
    node: &Node,
    inherited: Inherited<'_>,
    known: &Known<'_>,
    report: &mut Report,
) -> Option<(Server, bool)> {
    let ip = host(node, 1, report)?;
    let port = match node.arg(2) {
        "" | "0" => None,
        text => match text.parse::<u16>() {
            Ok(port) => Some(port),
            Err(_) => {
                bad(node, 2, "a port", report);
                return None;
            }
        },
    };
    let mut server = bare(node.place_of(1), ip, port);
    let mut times = inherited.times.clone();
    let (mut weight, mut upper, mut lower) = (inherited.weight, 0, 0);
    let mut inhibit = false;
    let wanted = REAL_SERVER.account(node.children(), report);
    for (keyword, node) in &wanted {
        if times.take(keyword, node, report) {
            continue;
        }
        match *keyword {
            "weight" => weight = number_of(node, 1, (0, 65_535), report).or(weight),
            "lvs_method" => server.forward = forward(node, report),
            "uthreshold" => upper = number_of(node, 1, (0, THRESHOLD_MAX), report).unwrap_or(0),
            "lthreshold" => lower = number_of(node, 1, (0, THRESHOLD_MAX), report).unwrap_or(0),
            "inhibit_on_failure" => inhibit = checks::flag(node, report) == Some(true),
            "notify_up" | "notify_down" => {
                if let Some((run, user)) = hooks::program(node, known, report) {
                    let (name, on) = if *keyword == "notify_up" {
                        ("server-up", "real_server_up")
                    } else {
                        ("server-down", "real_server_down")
                    };
                    let (on, place) = (vec![on], node.place);
                    server.hooks.push(Hook { name, on, command: run, user, place });
                }
            }
            _ => {}
        }
    }
    server.forward = server.forward.filter(|method| *method != inherited.service.forward);
    for (keyword, node) in &wanted {
        if keyword.ends_with("_CHECK") || keyword.ends_with("_GET") {
            let made = checks::checks(keyword, node, &times, ip, known, report);
            server.checks.extend(made);
        }
    }
    if server.checks.len() > CHECKS_MAX {
        let what =
            format!("a real server has {CHECKS_MAX} checks at most: the others are left out");
        report.warn(node.place, "real_server", what);
        server.checks.truncate(CHECKS_MAX);
    }
    server.fields = fields(node, weight, (upper, lower), report);
    Some((server, inhibit))
}

fn fields(
    node: &Node,
    weight: Option<u32>,
    (upper, lower): (u32, u32),
    report: &mut Report,
) -> Fields {
    let mut fields: Fields = Vec::new();
    fields
        .extend(weight.filter(|weight| *weight != 1).map(|weight| ("weight", weight.to_string())));
    fields.extend((upper > 0).then(|| ("upper_threshold", upper.to_string())));
    if lower > upper {
        let what = format!("lthreshold {lower} is above uthreshold {upper}: it is left out");
        report.warn(node.place, "lthreshold", what);
    } else if lower > 0 {
        fields.push(("lower_threshold", lower.to_string()));
    }
    fields
}

/// `NAT`, `DR`, `TUN [type {ipip | gue port N | gre}] [nocsum | csum | remcsum]`.
pub(super) fn forward(node: &Node, report: &mut Report) -> Option<Forward> {
    match node.arg(1).to_ascii_uppercase().as_str() {
        "DR" => return Some(Forward::Dr),
        "NAT" => return Some(Forward::Nat),
        "TUN" => {}
        _ => {
            bad(node, 1, "NAT, DR or TUN", report);
            return None;
        }
    }
    let (mut kind, mut port, mut checksum) = ("ipip", None, None);
    let mut at = 2;
    while at < node.words.len() {
        match node.arg(at) {
            "type" => {
                at += 1;
                match node.arg(at) {
                    "ipip" => kind = "ipip",
                    "gue" => kind = "gue",
                    "gre" => kind = "gre",
                    _ => bad(node, at, "ipip, gue or gre", report),
                }
            }
            "port" => {
                at += 1;
                port = number_of(node, at, (1, 65_535), report);
            }
            "nocsum" => checksum = None,
            "csum" => checksum = Some("full"),
            "remcsum" => checksum = Some("remote"),
            _ => bad(node, at, "an option of a tunnel", report),
        }
        at += 1;
    }
    if kind == "gue" && port.is_none() {
        report.warn(node.place, node.keyword(), "gue needs a port: ipip, as with Keepalived");
        kind = "ipip";
    }
    let fits = match kind {
        "gue" => true,
        "gre" => checksum != Some("remote"),
        _ => checksum.is_none(),
    };
    if !fits {
        report.warn(
            node.place,
            node.keyword(),
            format!("{kind} has no such checksum: it is left out"),
        );
        checksum = None;
    }
    if kind == "ipip" {
        return Some(Forward::Tun(None));
    }
    let port = port.filter(|_| kind == "gue").map(|port| format!(", port = {port}"));
    let checksum = checksum.map(|checksum| format!(", checksum = {}", quoted(checksum)));
    let more = format!("{}{}", port.unwrap_or_default(), checksum.unwrap_or_default());
    let kind = quoted(kind);
    Some(Forward::Tun(Some(if more.is_empty() {
        kind
    } else {
        format!("{{ type = {kind}{more} }}")
    })))
}
