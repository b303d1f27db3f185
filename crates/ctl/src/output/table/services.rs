//! `quorate services` for people who read `ipvsadm -ln`: its columns and words, with state and
//! reason behind each real server.

use std::collections::BTreeMap;

use quorate_api::v1::{GroupStatus, RealServerState, RealServerStatus, ServiceStatus};

use super::{Cell, Style, Tone, align};
use crate::output::json;

/// The table of these virtual services.
#[must_use]
pub fn services(services: &[&ServiceStatus], groups: &[GroupStatus], style: Style) -> String {
    let owners: BTreeMap<&str, Option<&str>> =
        groups.iter().map(|group| (group.name.as_str(), group.owner.as_deref())).collect();
    let mut text = String::from("Prot LocalAddress:Port Scheduler Flags\n");
    // Every real server is aligned with every other, as ipvsadm does.
    let heading =
        ["  -> RemoteAddress:Port", "Forward", "Weight", "ActiveConn", "InActConn", "State"];
    let mut rows = vec![heading.map(Cell::from).to_vec()];
    for service in services {
        for server in &service.real_servers {
            rows.push(real_server(service, server));
        }
    }
    let aligned = align(&rows, style);
    let mut lines = aligned.lines();
    let mut next = |text: &mut String| {
        text.push_str(lines.next().unwrap_or_default());
        text.push('\n');
    };
    next(&mut text);
    for service in services {
        let owner = owners.get(service.group.as_str()).copied().flatten();
        text.push_str(&virtual_service(service, owner, style));
        for _ in &service.real_servers {
            next(&mut text);
        }
    }
    text
}

/// One line for each address, as IPVS sees it; the real servers follow the last.
fn virtual_service(service: &ServiceStatus, owner: Option<&str>, style: Style) -> String {
    let flags = match service.persistence_s {
        Some(timeout) => format!(" persistent {timeout}"),
        None => String::new(),
    };
    let owner = match owner {
        Some(owner) => format!("owner {owner}"),
        None => style.paint("no owner", Tone::Bad),
    };
    let line = |listen: &String| {
        let (protocol, address) = listen.split_once('/').unwrap_or(("?", listen));
        format!(
            "{:<4} {address} {}{flags}  {} ({owner})\n",
            protocol.to_uppercase(),
            service.scheduler,
            service.name
        )
    };
    service.listen.iter().map(line).collect()
}

fn real_server(service: &ServiceStatus, server: &RealServerStatus) -> Vec<Cell> {
    let weight = if server.effective_weight == server.weight {
        server.weight.to_string()
    } else {
        format!("{}/{}", server.effective_weight, server.weight)
    };
    let (state, tone) = match server.state() {
        RealServerState::Up => ("up", Tone::Good),
        RealServerState::Down => ("DOWN", Tone::Bad),
        RealServerState::Draining => ("DRAINING", Tone::Doubtful),
        state @ (RealServerState::Unknown | RealServerState::Unspecified) => {
            (json::real_server_state(state), Tone::Doubtful)
        }
    };
    let state = if server.reason.is_empty() {
        state.to_owned()
    } else {
        format!("{state}: {}", server.reason)
    };
    vec![
        format!("  -> {}", server.address).into(),
        forward(&service.forward).into(),
        weight.into(),
        server.active.to_string().into(),
        server.inactive.to_string().into(),
        Cell::toned(state, tone),
    ]
}

/// The forwarding method in ipvsadm's word.
fn forward(method: &str) -> &str {
    match method {
        "DR" => "Route",
        "NAT" => "Masq",
        "TUN" => "Tunnel",
        other => other,
    }
}
