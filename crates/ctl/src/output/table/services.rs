//! `quorate services` for people who read `ipvsadm -ln`: its columns and words, with state and
//! reason behind each real server.

use std::collections::BTreeMap;

use jiff::Timestamp;
use quorate_api::v1::{
    GroupStatus, OtherView, Override, RealServerState, RealServerStatus, ServiceStatus,
};

use super::status::span;
use super::{Cell, Style, Tone, align};
use crate::output::json;

/// The table of these virtual services.
#[must_use]
pub fn services(
    services: &[&ServiceStatus],
    groups: &[GroupStatus],
    now: Timestamp,
    style: Style,
) -> String {
    let owners: BTreeMap<&str, Option<&str>> =
        groups.iter().map(|group| (group.name.as_str(), group.owner.as_deref())).collect();
    let mut text = String::from("Prot LocalAddress:Port Scheduler Flags\n");
    // Every real server is aligned with every other, as ipvsadm does.
    let heading =
        ["  -> RemoteAddress:Port", "Forward", "Weight", "ActiveConn", "InActConn", "State"];
    let mut rows = vec![heading.map(Cell::from).to_vec()];
    for service in services {
        let row = |server| real_server(service, server, None, now);
        rows.extend(service.real_servers.iter().map(row));
        let sorry = service.sorry_server.iter();
        rows.extend(sorry.map(|server| real_server(service, server, Some("sorry server"), now)));
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
    now: Timestamp,
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
    let ordered = server.r#override.as_ref().map(|to| ordered(server, to, now));
    let reasons = [server.reason.clone(), ordered.unwrap_or_default(), otherwise(server)];
    let reasons: Vec<String> = reasons.into_iter().filter(|text| !text.is_empty()).collect();
    let state = match reasons.as_slice() {
        [] => state.to_owned(),
        reasons => format!("{state}: {}", reasons.join(", ")),
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

/// Which directors see it otherwise.
pub(super) fn otherwise(server: &RealServerStatus) -> String {
    let view = |other: &OtherView| {
        let state = json::real_server_state(other.state());
        let reason = match other.reason.as_str() {
            "" => String::new(),
            reason => format!(" ({reason})"),
        };
        format!("{state} for {}{reason}", other.node)
    };
    server.otherwise.iter().map(view).collect::<Vec<_>>().join(", ")
}

/// That an operator ordered its weight, and how long that holds, as far as the state does not say so.
fn ordered(server: &RealServerStatus, to: &Override, now: Timestamp) -> String {
    let drained = server.state() == RealServerState::Draining;
    let by = if drained { String::new() } else { format!("weight {} by {}", to.weight, to.by) };
    let Some(until) = &to.until else { return by };
    let left = match until.parse::<Timestamp>() {
        Ok(end) => span(end.duration_since(now).as_secs().max(0)),
        // What can't be read is shown as it came.
        Err(_) => return format!("{by} until {until}"),
    };
    if by.is_empty() { format!("{left} left") } else { format!("{by}, {left} left") }
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
