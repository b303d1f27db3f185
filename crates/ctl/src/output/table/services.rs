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
        rows.extend(service.real_servers.iter().map(|server| real_server(service, server, None)));
        let sorry = service.sorry_server.iter();
        rows.extend(sorry.map(|server| real_server(service, server, Some("sorry server"))));
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
        for _ in service.real_servers.iter().chain(&service.sorry_server) {
            next(&mut text);
        }
    }
    text
}

/// One line for each address, or one for a firewall mark; the real servers follow the last.
fn virtual_service(service: &ServiceStatus, owner: Option<&str>, style: Style) -> String {
    let mut flags: String = service.flags.iter().map(|flag| format!(" {flag}")).collect();
    if let Some(timeout) = service.persistence_s {
        flags.push_str(&format!(" persistent {timeout}"));
    }
    let owner = match owner {
        Some(owner) => format!("owner {owner}"),
        None => style.paint("no owner", Tone::Bad),
    };
    if let Some(mark) = service.mark {
        let what = service.listen.join(" ");
        let (scheduler, name) = (&service.scheduler, &service.name);
        return format!("FWM  {mark} {scheduler}{flags}  {name} ({owner}): {what}\n");
    }
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

fn real_server(
    service: &ServiceStatus,
    server: &RealServerStatus,
    standing: Option<&str>,
) -> Vec<Cell> {
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
    let state = standing.unwrap_or(state);
    let state = if server.reason.is_empty() {
        state.to_owned()
    } else {
        format!("{state}: {}", server.reason)
    };
    vec![
        format!("  -> {}", server.address).into(),
        // A node of an earlier version says the service's alone.
        forward(if server.forward.is_empty() { &service.forward } else { &server.forward }).into(),
        weight.into(),
        server.active.to_string().into(),
        server.inactive.to_string().into(),
        Cell::toned(state, tone),
    ]
}

/// The forwarding method in ipvsadm's word.
fn forward(method: &str) -> String {
    match method.split_once(' ').unwrap_or((method, "")) {
        ("DR", _) => "Route".to_owned(),
        ("NAT", _) => "Masq".to_owned(),
        ("TUN", "") => "Tunnel".to_owned(),
        ("TUN", tunnel) => format!("Tunnel {tunnel}"),
        (other, _) => other.to_owned(),
    }
}
