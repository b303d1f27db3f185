//! Tables as they are seen.

use jiff::Timestamp;
use quorate_api::v1;

use super::*;

fn node(name: &str, raft: v1::RaftRole, state: v1::NodeState, owns: &[&str]) -> v1::NodeStatus {
    v1::NodeStatus {
        name: name.to_owned(),
        id: 1,
        role: "director".to_owned(),
        raft: raft.into(),
        state: state.into(),
        version: "0.1.0".to_owned(),
        owns: owns.iter().map(ToString::to_string).collect(),
        problems: Vec::new(),
        links: Vec::new(),
        sync: None,
        revision: None,
        programmed_revision: None,
    }
}

fn group(name: &str, owner: Option<&str>, since: &str) -> v1::GroupStatus {
    v1::GroupStatus {
        name: name.to_owned(),
        addresses: vec!["203.0.113.10/32".to_owned()],
        owner: owner.map(str::to_owned),
        epoch: 17,
        lease_remaining_ms: owner.map(|_| 2_430),
        since: Some(since.to_owned()),
        standby: vec!["lb2".to_owned()],
        reason: if owner.is_some() { String::new() } else { "no director is eligible".to_owned() },
        reach: Vec::new(),
        ineligible: Vec::new(),
    }
}

fn server(address: &str, state: v1::RealServerState, reason: &str) -> v1::RealServerStatus {
    let up = state == v1::RealServerState::Up;
    v1::RealServerStatus {
        address: address.to_owned(),
        weight: 100,
        effective_weight: if up { 100 } else { 0 },
        state: state.into(),
        reason: reason.to_owned(),
        active: 41,
        inactive: 7,
        forward: "DR".to_owned(),
        ..v1::RealServerStatus::default()
    }
}

fn example() -> v1::StatusResponse {
    use v1::{NodeState, RaftRole, RealServerState};
    v1::StatusResponse {
        member: true,
        answered_by: "lb2".to_owned(),
        cluster: Some(v1::ClusterStatus {
            name: "prod".to_owned(),
            health: v1::Health::Degraded.into(),
            leader: Some("lb2".to_owned()),
            term: 41,
            commit_index: 90_211,
            revision: 118,
            voters: 3,
            voters_reachable: 2,
            ..v1::ClusterStatus::default()
        }),
        nodes: vec![
            node("lb1", RaftRole::Follower, NodeState::Ready, &["web"]),
            node("lb3", RaftRole::Unknown, NodeState::Unreachable, &[]),
        ],
        groups: vec![
            group("web", Some("lb1"), "2026-01-01T00:00:00Z"),
            group("db", None, "2026-01-04T04:00:00Z"),
        ],
        services: vec![v1::ServiceStatus {
            name: "web-https".to_owned(),
            group: "web".to_owned(),
            listen: vec!["tcp/203.0.113.10:443".to_owned(), "tcp/203.0.113.10:80".to_owned()],
            scheduler: "wrr".to_owned(),
            forward: "DR".to_owned(),
            persistence_s: Some(50),
            real_servers: vec![
                server("10.0.1.11:443", RealServerState::Up, ""),
                server("10.0.1.12:443", RealServerState::Draining, "by ada"),
                server("10.0.1.13:443", RealServerState::Down, "connection refused"),
            ],
            flags: vec!["flag-1".to_owned(), "ops".to_owned()],
            mark: None,
            counters: None,
            rates: None,
            seen_by: "lb1".to_owned(),
            sorry_server: Some(v1::RealServerStatus {
                forward: "TUN gue port 6080".to_owned(),
                weight: 1,
                effective_weight: 0,
                ..server("10.0.1.9:443", RealServerState::Up, "stands by")
            }),
        }],
    }
}

#[test]
fn a_status_shows_health_nodes_groups_and_reasons() {
    let now: Timestamp = "2026-01-04T04:00:47Z".parse().unwrap();
    assert_eq!(
        status(&example(), now, Style::default()),
        "\
Cluster prod  DEGRADED: lb3 unreachable, db has no owner; 2 of 3 voters reachable, no further failure is tolerated
Leader lb2  term 41  commit 90211  revision 118

NODE  ID  ROLE      RAFT      STATE        OWNS  VERSION
lb1   1   director  follower  ready        web   0.1.0
lb3   1   director  unknown   UNREACHABLE  -     0.1.0

GROUP  ADDRESSES        OWNER  EPOCH  LEASE  SINCE    STANDBY  REAL SERVERS UP
web    203.0.113.10/32  lb1    17     2.4s   3d04h    lb2      1/3
db     203.0.113.10/32  NONE   17     none   47s (!)  lb2      -

! db is not served: no director is eligible
! web-https 10.0.1.13:443 is down: connection refused
"
    );
}

#[test]
fn links_are_shown_where_they_are_down_or_lose_packets() {
    let link = |to: &str, up, loss_ppm| v1::LinkStatus {
        name: "heartbeat".to_owned(),
        to: to.to_owned(),
        up,
        loss_ppm,
        round_trip_us: up.then_some(1_290),
    };
    let mut example = example();
    let now: Timestamp = "2026-01-04T04:00:47Z".parse().unwrap();
    example.nodes[0].links = vec![link("lb2", true, Some(9_999)), link("lb3", false, None)];
    assert!(!status(&example, now, Style::default()).contains("LINK"), "lb3 is down as a whole");
    example.nodes[0].links.push(link("lb2", true, Some(125_000)));
    example.nodes[0].links.push(link("lb4", false, None));
    let shown = status(&example, now, Style::default());
    let expected = "\
LINK       FROM  TO   STATE  LOSS   ROUND TRIP
heartbeat  lb1   lb2  up     12.5%  1.2ms
heartbeat  lb1   lb4  DOWN   -      -
";
    assert!(shown.contains(expected), "{shown}");
}

#[test]
fn who_synchronises_connections_shows_for_how_long() {
    let mut example = example();
    let sync = |running_ms: Option<u64>, warm| v1::SyncStatus {
        running: running_ms.is_some(),
        running_ms,
        warm,
        ..v1::SyncStatus::default()
    };
    let shown = |sync| {
        let mut nodes = example.nodes.clone();
        nodes[0].sync = Some(sync);
        let text = super::nodes(&nodes, Style::default());
        text.lines().map(|line| line.rsplit("  ").next().unwrap().to_owned()).collect::<Vec<_>>()
    };
    assert_eq!(shown(sync(Some(65_000), false)), ["SYNC", "1m05s", "-"]);
    assert_eq!(shown(sync(Some(65_000), true)), ["SYNC", "warm", "-"]);
    assert_eq!(shown(sync(None, false)), ["SYNC", "OFF", "-"]);
    example.nodes.truncate(1);
    assert!(!super::nodes(&example.nodes, Style::default()).contains("SYNC"));
}

#[test]
fn services_have_the_shape_of_ipvsadm() {
    let mut example = example();
    let ordered = |weight| {
        let (by, until) = ("ada".to_owned(), Some("2026-01-04T04:23:00Z".to_owned()));
        Some(v1::Override { weight, by, until, ..v1::Override::default() })
    };
    example.services[0].real_servers[0].r#override = ordered(100);
    example.services[0].real_servers[1].r#override = ordered(0);
    let now: Timestamp = "2026-01-04T04:00:47Z".parse().unwrap();
    let chosen: Vec<_> = example.services.iter().collect();
    assert_eq!(
        services(&chosen, &example.groups, now, Style::default()),
        "\
Prot LocalAddress:Port Scheduler Flags
  -> RemoteAddress:Port  Forward               Weight  ActiveConn  InActConn  State
TCP  203.0.113.10:443 wrr flag-1 ops persistent 50  web-https (owner lb1)
TCP  203.0.113.10:80 wrr flag-1 ops persistent 50  web-https (owner lb1)
  -> 10.0.1.11:443       Route                 100     41          7          up: weight 100 by ada, 22m13s left
  -> 10.0.1.12:443       Route                 0/100   41          7          DRAINING: by ada, 22m13s left
  -> 10.0.1.13:443       Route                 0/100   41          7          DOWN: connection refused
  -> 10.0.1.9:443        Tunnel gue port 6080  0/1     41          7          sorry server: stands by
"
    );
}

#[test]
fn colour_changes_no_width() {
    let example = example();
    let now = Timestamp::UNIX_EPOCH;
    let coloured = status(&example, now, Style { color: true });
    assert!(coloured.contains("\x1b[31mUNREACHABLE\x1b[0m"), "{coloured}");
    let mut bare = coloured;
    for code in ["\x1b[31m", "\x1b[32m", "\x1b[33m", "\x1b[0m"] {
        bare = bare.replace(code, "");
    }
    assert_eq!(bare, status(&example, now, Style::default()));
}

#[test]
fn no_quorum_says_what_it_means() {
    let mut example = example();
    example.cluster.as_mut().unwrap().health = v1::Health::NoQuorum.into();
    let text = status(&example, Timestamp::UNIX_EPOCH, Style::default());
    assert!(text.starts_with("Cluster prod  NO QUORUM: "), "{text}");
    assert!(text.contains("every VIP goes down until a majority is back"), "{text}");
}

#[test]
fn a_node_of_no_cluster_is_one_line() {
    let status = status(&v1::StatusResponse::default(), Timestamp::UNIX_EPOCH, Style::default());
    assert_eq!(status, "Node belongs to no cluster yet.\n");
}

#[test]
fn a_pause_has_a_line_of_its_own_and_an_evacuated_node_is_named() {
    let mut example = example();
    let cluster = example.cluster.as_mut().unwrap();
    cluster.paused = true;
    cluster.paused_by = Some("client ada".to_owned());
    cluster.paused_since = Some("2026-01-04T03:00:00Z".to_owned());
    example.nodes[1].state = v1::NodeState::Evacuated.into();
    let text = status(&example, Timestamp::UNIX_EPOCH, Style::default());
    let lines: Vec<&str> = text.lines().take(3).collect();
    assert!(lines[0].contains("DEGRADED: paused, lb3 evacuated, db has no owner; "), "{text}");
    assert_eq!(
        lines[2],
        "PAUSED by client ada since 2026-01-04T03:00:00Z: no failover, nothing moves by itself \
         until `quorate resume`"
    );
}

#[test]
fn who_sees_a_real_server_otherwise_stands_behind_its_state() {
    let mut example = example();
    let view = |node: &str, reason: &str| v1::OtherView {
        node: node.to_owned(),
        state: if reason.is_empty() { v1::RealServerState::Up } else { v1::RealServerState::Down }
            .into(),
        reason: reason.to_owned(),
    };
    let down = i32::from(v1::RealServerState::Down);
    for server in &mut example.services[0].real_servers {
        let other = if server.state == down { view("lb2", "") } else { view("lb3", "no route") };
        server.otherwise = vec![other];
    }
    let now: Timestamp = "2026-01-04T04:00:47Z".parse().unwrap();
    let text = status(&example, now, Style::default());
    assert!(text.contains(", up for lb2"), "{text}");
    let chosen: Vec<_> = example.services.iter().collect();
    let text = services(&chosen, &example.groups, now, Style::default());
    assert!(text.contains("up: down for lb3 (no route)"), "{text}");
    assert!(text.contains(", up for lb2"), "{text}");
}

#[test]
fn an_unconfirmed_revision_has_a_countdown_and_its_next_command() {
    let head = |left, health: v1::Health| {
        let mut status = example();
        let cluster = status.cluster.as_mut().unwrap();
        cluster.health = health.into();
        cluster.revision = 12;
        cluster.unconfirmed_until = Some("2026-01-02T03:09:05Z".to_owned());
        cluster.unconfirmed_left_ms = left;
        let text = super::status(&status, Timestamp::UNIX_EPOCH, Style::default());
        text.lines().nth(1).unwrap().split("  ").last().unwrap().to_owned()
    };
    for (left, shown) in [(220_001, "3:41"), (0, "0:00"), (3_723_000, "1:02:03")] {
        let expected =
            format!("revision 12 unconfirmed: reverts in {shown} unless `quorate confirm`");
        assert_eq!(head(Some(left), v1::Health::Ok), expected);
    }
    let lost = "revision 12 unconfirmed: reverts once there is a quorum unless `quorate confirm`";
    assert_eq!(head(Some(0), v1::Health::NoQuorum), lost);
    let older = "revision 12 unconfirmed: reverts at 2026-01-02T03:09:05Z unless `quorate confirm`";
    assert_eq!(head(None, v1::Health::Ok), older);
}
