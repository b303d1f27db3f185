//! `quorate status` and `quorate node list` for people.

use jiff::Timestamp;
use quorate_api::v1::{
    ClusterStatus, GroupStatus, Health, NodeState, NodeStatus, StatusResponse, SyncStatus,
};

use super::{Cell, Style, Tone, align};
use crate::output::json;

/// A group that moved so recently that it deserves a look.
const RECENT_S: i64 = 300;
/// A link that loses as much, one packet in a hundred, deserves a look.
const LOSSY_PPM: u32 = 10_000;

/// The whole status; empty of all but one line where the node belongs to no cluster.
#[must_use]
pub fn status(status: &StatusResponse, now: Timestamp, style: Style) -> String {
    let mut text = headline(status, style);
    if !status.nodes.is_empty() {
        text.push('\n');
        text.push_str(&nodes(&status.nodes, style));
    }
    if !status.groups.is_empty() {
        text.push('\n');
        text.push_str(&groups(status, now, style));
    }
    let links = links(&status.nodes, style);
    if !links.is_empty() {
        text.push('\n');
        text.push_str(&links);
    }
    let remarks = remarks(status);
    if !remarks.is_empty() {
        text.push('\n');
        for remark in remarks {
            text.push_str(&format!("! {remark}\n"));
        }
    }
    text
}

fn headline(status: &StatusResponse, style: Style) -> String {
    let Some(cluster) = status.cluster.as_ref().filter(|_| status.member) else {
        let name = &status.answered_by;
        let node = if name.is_empty() { String::new() } else { format!(" {name}") };
        return format!("Node{node} belongs to no cluster yet.\n");
    };
    let quorum = format!("{} of {} voters reachable", cluster.voters_reachable, cluster.voters);
    let health = match cluster.health() {
        Health::Ok => style.paint("OK", Tone::Good),
        Health::NoQuorum => style.paint("NO QUORUM", Tone::Bad),
        Health::Degraded | Health::Unspecified => style.paint("DEGRADED", Tone::Doubtful),
    };
    let why = troubles(status);
    let why = if why.is_empty() { String::new() } else { format!("{}; ", why.join(", ")) };
    let tolerated = match (cluster.health(), cluster.failures_tolerated) {
        (Health::NoQuorum, _) => "every VIP goes down until a majority is back".to_owned(),
        (_, 0) => "no further failure is tolerated".to_owned(),
        (_, 1) => "1 failure tolerated".to_owned(),
        (_, more) => format!("{more} failures tolerated"),
    };
    let leader = cluster.leader.as_deref().unwrap_or("none");
    let unconfirmed = unconfirmed(cluster, style);
    format!(
        "Cluster {}  {health}: {why}{quorum}, {tolerated}\n\
         Leader {leader}  term {}  commit {}  revision {}{unconfirmed}\n{}",
        cluster.name,
        cluster.term,
        cluster.commit_index,
        cluster.revision,
        paused(cluster, style)
    )
}

/// How long the revision in force has until the cluster goes back to the one before.
fn unconfirmed(cluster: &ClusterStatus, style: Style) -> String {
    let Some(until) = &cluster.unconfirmed_until else { return String::new() };
    let word = style.paint("unconfirmed", Tone::Doubtful);
    let when = match (cluster.health(), cluster.unconfirmed_left_ms) {
        (Health::NoQuorum, _) => "reverts once there is a quorum".to_owned(),
        (_, Some(left)) => format!("reverts in {}", countdown(left)),
        (_, None) => format!("reverts at {until}"),
    };
    format!(" {word}: {when} unless `quorate confirm`")
}

/// `3:41`, or `1:02:03`.
fn countdown(milliseconds: u64) -> String {
    let seconds = milliseconds.div_ceil(1_000);
    let (hours, minutes, seconds) = (seconds / 3_600, seconds / 60 % 60, seconds % 60);
    if hours > 0 {
        format!("{hours}:{minutes:02}:{seconds:02}")
    } else {
        format!("{minutes}:{seconds:02}")
    }
}

/// A line of its own while nothing moves by itself.
fn paused(cluster: &ClusterStatus, style: Style) -> String {
    if !cluster.paused {
        return String::new();
    }
    let by = cluster.paused_by.as_deref().unwrap_or("somebody");
    let since = cluster.paused_since.as_deref().unwrap_or("an unknown time");
    let word = style.paint("PAUSED", Tone::Bad);
    format!(
        "{word} by {by} since {since}: no failover, nothing moves by itself until `quorate resume`\n"
    )
}

/// What is wrong with the cluster, in a few words each.
#[must_use]
pub fn troubles(status: &StatusResponse) -> Vec<String> {
    let mut troubles = Vec::new();
    if status.cluster.as_ref().is_some_and(|cluster| cluster.paused) {
        troubles.push("paused".to_owned());
    }
    for node in &status.nodes {
        match node.state() {
            NodeState::Ready if node.problems.is_empty() => {}
            NodeState::Ready => troubles.push(format!("{} has a problem", node.name)),
            state => troubles.push(format!("{} {}", node.name, json::node_state(state))),
        }
    }
    let unowned = status.groups.iter().filter(|group| !held(group));
    troubles.extend(unowned.map(|group| format!("{} has no owner", group.name)));
    for service in &status.services {
        let mut all = service.real_servers.iter().filter(|server| stays(server)).peekable();
        if all.peek().is_some() && !all.any(takes_traffic) {
            troubles.push(format!("{} has no real server", service.name));
        }
    }
    troubles
}

/// Whether an owner holds a lease of this group now, as far as is known.
fn held(group: &GroupStatus) -> bool {
    group.owner.is_some() && group.lease_remaining_ms.is_some_and(|left| left > 0)
}

/// Whether it is of the configuration still: one that left it, and drains, is missed by nobody.
fn stays(server: &quorate_api::v1::RealServerStatus) -> bool {
    server.leaves_in_s.is_none()
}

fn takes_traffic(server: &quorate_api::v1::RealServerStatus) -> bool {
    matches!(json::real_server_state(server.state()), "up" | "unknown")
}

/// The table of nodes.
#[must_use]
pub fn nodes(nodes: &[NodeStatus], style: Style) -> String {
    let mut heading = vec!["NODE", "ID", "ROLE", "RAFT", "STATE", "OWNS", "VERSION"];
    let synced = nodes.iter().any(|node| node.sync.is_some());
    heading.extend(synced.then_some("SYNC"));
    let mut rows = vec![heading.into_iter().map(Cell::from).collect()];
    for node in nodes {
        let state = match node.state() {
            NodeState::Ready => Cell::toned("ready", Tone::Good),
            NodeState::Joining => Cell::toned("joining", Tone::Doubtful),
            NodeState::Evacuated => Cell::toned("evacuated", Tone::Doubtful),
            NodeState::Unreachable | NodeState::Unspecified => {
                Cell::toned("UNREACHABLE", Tone::Bad)
            }
        };
        rows.push(vec![
            node.name.as_str().into(),
            node.id.to_string().into(),
            node.role.as_str().into(),
            json::raft(node.raft()).into(),
            state,
            Cell::list(&node.owns),
            if node.version.is_empty() { "?".into() } else { node.version.as_str().into() },
        ]);
        if let (true, Some(row)) = (synced, rows.last_mut()) {
            row.push(sync(node.sync.as_ref()));
        }
    }
    align(&rows, style)
}

/// Whether a director knows the connections of the others: since when it has listened, where that is
/// not long enough.
fn sync(sync: Option<&SyncStatus>) -> Cell {
    match sync {
        None => "-".into(),
        Some(SyncStatus { running: false, .. }) => Cell::toned("OFF", Tone::Bad),
        Some(SyncStatus { warm: true, .. }) => Cell::toned("warm", Tone::Good),
        Some(SyncStatus { running_ms, .. }) => {
            let seconds = running_ms.unwrap_or(0) / 1_000;
            Cell::toned(span(i64::try_from(seconds).unwrap_or(i64::MAX)), Tone::Doubtful)
        }
    }
}

/// The links of which there is something to say: down, or losing packets. Those to a node that is
/// unreachable say nothing new.
fn links(nodes: &[NodeStatus], style: Style) -> String {
    let dead = |name: &str| {
        let mut nodes = nodes.iter();
        nodes.any(|node| node.name == name && node.state() == NodeState::Unreachable)
    };
    let heading = ["LINK", "FROM", "TO", "STATE", "LOSS", "ROUND TRIP"];
    let mut rows = vec![heading.map(Cell::from).to_vec()];
    for (node, link) in nodes.iter().flat_map(|node| node.links.iter().map(move |l| (node, l))) {
        let lossy = link.loss_ppm.is_some_and(|ppm| ppm >= LOSSY_PPM);
        if dead(&link.to) || (link.up && !lossy) {
            continue;
        }
        let state =
            if link.up { Cell::toned("up", Tone::Good) } else { Cell::toned("DOWN", Tone::Bad) };
        let tenths = |ppm: u32| format!("{}.{}%", ppm / 10_000, ppm % 10_000 / 1_000);
        let millis = |time: u64| format!("{}.{}ms", time / 1_000, time % 1_000 / 100);
        let loss = match link.loss_ppm {
            Some(ppm) if lossy => Cell::toned(tenths(ppm), Tone::Doubtful),
            Some(ppm) => tenths(ppm).into(),
            None => "-".into(),
        };
        rows.push(vec![
            link.name.as_str().into(),
            node.name.as_str().into(),
            link.to.as_str().into(),
            state,
            loss,
            link.round_trip_us.map_or_else(|| "-".into(), |time| millis(time).into()),
        ]);
    }
    if rows.len() > 1 { align(&rows, style) } else { String::new() }
}

fn groups(status: &StatusResponse, now: Timestamp, style: Style) -> String {
    let heading =
        ["GROUP", "ADDRESSES", "OWNER", "EPOCH", "LEASE", "SINCE", "STANDBY", "REAL SERVERS UP"];
    let mut rows = vec![heading.map(Cell::from).to_vec()];
    for group in &status.groups {
        let owner = match &group.owner {
            Some(owner) => Cell::from(owner.as_str()),
            None => Cell::toned("NONE", Tone::Bad),
        };
        let lease = match group.lease_remaining_ms {
            Some(0) | None => Cell::toned("none", Tone::Bad),
            Some(left) => lease(left).into(),
        };
        rows.push(vec![
            group.name.as_str().into(),
            Cell::list(&group.addresses),
            owner,
            group.epoch.to_string().into(),
            lease,
            since(group.since.as_deref(), now),
            Cell::list(&group.standby),
            real_servers_up(status, &group.name),
        ]);
    }
    align(&rows, style)
}

fn lease(left_ms: u64) -> String {
    if left_ms < 1_000 {
        format!("{left_ms}ms")
    } else {
        format!("{}.{}s", left_ms / 1_000, left_ms % 1_000 / 100)
    }
}

fn since(since: Option<&str>, now: Timestamp) -> Cell {
    let Some(time) = since else { return "-".into() };
    // What can't be read is shown as it came.
    let Ok(start) = time.parse::<Timestamp>() else { return time.into() };
    // A clock that is behind the owner's makes a time in the future: then it is now.
    let seconds = now.duration_since(start).as_secs().max(0);
    let text = span(seconds);
    if seconds < RECENT_S {
        Cell::toned(format!("{text} (!)"), Tone::Doubtful)
    } else {
        text.into()
    }
}

/// A span of whole seconds, as two units at most.
pub(super) fn span(seconds: i64) -> String {
    match seconds {
        0..60 => format!("{seconds}s"),
        60..3_600 => format!("{}m{:02}s", seconds / 60, seconds % 60),
        3_600..86_400 => format!("{}h{:02}m", seconds / 3_600, seconds % 3_600 / 60),
        _ => format!("{}d{:02}h", seconds / 86_400, seconds % 86_400 / 3_600),
    }
}

fn real_servers_up(status: &StatusResponse, group: &str) -> Cell {
    let services = status.services.iter().filter(|service| service.group == group);
    let servers = services.flat_map(|service| &service.real_servers);
    let servers: Vec<_> = servers.filter(|server| stays(server)).collect();
    if servers.is_empty() {
        return "-".into();
    }
    let up = servers.iter().filter(|server| takes_traffic(server)).count();
    let text = format!("{up}/{}", servers.len());
    match up {
        0 => Cell::toned(text, Tone::Bad),
        up if up < servers.len() => Cell::toned(text, Tone::Doubtful),
        _ => text.into(),
    }
}

fn remarks(status: &StatusResponse) -> Vec<String> {
    let mut remarks = Vec::new();
    for node in &status.nodes {
        remarks.extend(node.problems.iter().map(|problem| format!("{}: {problem}", node.name)));
    }
    for group in status.groups.iter().filter(|group| !held(group)) {
        let reason = if group.reason.is_empty() { "no reason is known" } else { &group.reason };
        remarks.push(format!("{} is not served: {reason}", group.name));
    }
    for service in &status.services {
        for server in &service.real_servers {
            if let Some(to) = &server.r#override {
                remarks.push(format!(
                    "{} {} has weight {} by {}: `quorate realserver enable {} --service {}` takes \
                     it back",
                    service.name, server.address, to.weight, to.by, server.address, service.name
                ));
            }
            let state = json::real_server_state(server.state());
            if state == "down" {
                let parts = [server.reason.clone(), super::services::otherwise(server)];
                let parts: Vec<String> = parts.into_iter().filter(|p| !p.is_empty()).collect();
                let colon = if parts.is_empty() { "" } else { ": " };
                let (name, address) = (&service.name, &server.address);
                remarks.push(format!("{name} {address} is down{colon}{}", parts.join(", ")));
            }
        }
    }
    remarks
}
