//! The promise of design §6, key by key and in its order: a rename fails here.

use quorate_api::v1;
use serde_json::{Value, json};

use super::*;

fn real_server() -> v1::RealServerStatus {
    v1::RealServerStatus {
        address: "192.168.10.16:80".to_owned(),
        weight: 1,
        effective_weight: 0,
        state: v1::RealServerState::Down.into(),
        reason: "connection refused".to_owned(),
        active: 3,
        inactive: 4,
        forward: "DR".to_owned(),
        r#override: Some(v1::Override {
            weight: 0,
            by: "client ada".to_owned(),
            since: "2026-01-02T03:04:05Z".to_owned(),
            until: None,
        }),
        counters: Some(v1::Counters {
            connections: 1,
            packets_in: 2,
            packets_out: 3,
            bytes_in: 4,
            bytes_out: 5,
        }),
        rates: None,
        kernel_weight: Some(0),
        leaves_in_s: None,
        otherwise: vec![v1::OtherView {
            node: "lb2".to_owned(),
            state: v1::RealServerState::Up.into(),
            reason: String::new(),
        }],
    }
}

fn ineligible() -> v1::IneligibleDirector {
    v1::IneligibleDirector { node: "lb3".to_owned(), reason: "unreachable".to_owned() }
}

fn links() -> Vec<v1::LinkStatus> {
    let link = |name: &str| v1::LinkStatus {
        name: name.to_owned(),
        to: "lb2".to_owned(),
        ..v1::LinkStatus::default()
    };
    let lan = v1::LinkStatus {
        up: true,
        loss_ppm: Some(12_500),
        round_trip_us: Some(310),
        ..link("lan")
    };
    vec![lan, link("heartbeat")]
}

fn answered() -> v1::StatusResponse {
    v1::StatusResponse {
        member: true,
        answered_by: "lb2".to_owned(),
        cluster: Some(v1::ClusterStatus {
            id: "c0ffee".to_owned(),
            name: "prod".to_owned(),
            health: v1::Health::Degraded.into(),
            leader: Some("lb2".to_owned()),
            term: 41,
            commit_index: 90_211,
            revision: 118,
            unconfirmed_until: None,
            unconfirmed_left_ms: None,
            voters: 3,
            voters_reachable: 2,
            failures_tolerated: 0,
            paused: true,
            paused_by: Some("local uid 0".to_owned()),
            paused_since: Some("2026-01-02T03:04:05Z".to_owned()),
        }),
        nodes: vec![v1::NodeStatus {
            name: "lb1".to_owned(),
            id: 1,
            role: "director".to_owned(),
            raft: v1::RaftRole::Follower.into(),
            state: v1::NodeState::Ready.into(),
            version: "0.1.0".to_owned(),
            owns: vec!["web".to_owned()],
            problems: vec!["no ip_vs".to_owned()],
            sync: Some(v1::SyncStatus {
                link: "lan".to_owned(),
                id: 1,
                running: true,
                running_ms: Some(7_000),
                warm: false,
            }),
            revision: Some(118),
            programmed_revision: None,
            links: links(),
        }],
        groups: vec![v1::GroupStatus {
            name: "web".to_owned(),
            addresses: vec!["192.168.10.180/32".to_owned()],
            owner: Some("lb1".to_owned()),
            epoch: 17,
            lease_remaining_ms: Some(430),
            since: Some("2026-01-02T03:04:05Z".to_owned()),
            standby: vec!["lb2".to_owned()],
            reason: "preferred".to_owned(),
            reach: vec![v1::GroupReach { node: "lb2".to_owned(), up: 3, down: 1, all: 5 }],
            ineligible: vec![ineligible()],
        }],
        services: vec![v1::ServiceStatus {
            name: "web".to_owned(),
            group: "web".to_owned(),
            listen: vec!["tcp/192.168.10.180:80".to_owned()],
            scheduler: "rr".to_owned(),
            forward: "DR".to_owned(),
            persistence_s: Some(50),
            real_servers: vec![real_server()],
            flags: vec!["sh-port".to_owned()],
            sorry_server: None,
            mark: None,
            counters: None,
            rates: None,
            seen_by: "lb1".to_owned(),
        }],
    }
}

fn document(status: v1::StatusResponse) -> Value {
    serde_json::to_value(Document::of(&Status::from(status))).unwrap()
}

#[test]
fn the_status_has_every_promised_key() {
    let expected = json!({
        "api_version": "quorate/v1",
        "cluster": {
            "id": "c0ffee", "name": "prod", "health": "degraded", "leader": "lb2", "term": 41,
            "commit_index": 90211, "revision": 118, "unconfirmed_until": null,
            "unconfirmed_left_ms": null, "voters": 3,
            "voters_reachable": 2, "failures_tolerated": 0, "paused": true,
            "paused_by": "local uid 0", "paused_since": "2026-01-02T03:04:05Z"
        },
        "nodes": [{
            "name": "lb1", "id": 1, "role": "director", "raft": "follower", "state": "ready",
            "version": "0.1.0", "owns": ["web"], "problems": ["no ip_vs"],
            "sync": { "link": "lan", "id": 1, "running": true, "running_ms": 7000, "warm": false },
            "revision": 118, "programmed_revision": null,
            "links": [
                { "name": "lan", "to": "lb2", "up": true, "loss": 0.0125, "rtt_ms": 0.31 },
                { "name": "heartbeat", "to": "lb2", "up": false, "loss": null, "rtt_ms": null }
            ]
        }],
        "groups": [{
            "name": "web", "addresses": ["192.168.10.180/32"], "owner": "lb1", "epoch": 17,
            "lease_remaining_ms": 430, "since": "2026-01-02T03:04:05Z", "standby": ["lb2"],
            "reason": "preferred", "reach": [{ "node": "lb2", "up": 3, "down": 1, "all": 5 }],
            "ineligible": [{ "node": "lb3", "reason": "unreachable" }]
        }],
        "services": [{
            "name": "web", "group": "web", "listen": ["tcp/192.168.10.180:80"],
            "scheduler": "rr", "forward": "DR", "flags": ["sh-port"], "persistence_s": 50,
            "sorry_server": null, "mark": null, "counters": null, "rates": null, "seen_by": "lb1",
            "real_servers": [{
                "address": "192.168.10.16:80", "forward": "DR", "weight": 1, "effective_weight": 0,
                "state": "down", "reason": "connection refused", "active": 3, "inactive": 4,
                "override": {
                    "weight": 0, "by": "client ada", "since": "2026-01-02T03:04:05Z", "until": null
                },
                "counters": {
                    "connections": 1, "packets_in": 2, "packets_out": 3, "bytes_in": 4,
                    "bytes_out": 5
                },
                "rates": null, "kernel_weight": 0, "leaves_in_s": null,
                "otherwise": [{ "node": "lb2", "state": "up", "reason": "" }]
            }]
        }],
        "answered_by": "lb2"
    });
    assert_eq!(document(answered()), expected);
}

#[test]
fn what_is_not_known_is_null_and_never_left_out() {
    let mut status = answered();
    let cluster = status.cluster.as_mut().unwrap();
    (cluster.leader, cluster.paused_by, cluster.paused_since) = (None, None, None);
    status.groups[0].owner = None;
    status.groups[0].lease_remaining_ms = None;
    status.groups[0].since = None;
    let document = document(status);
    for key in ["owner", "lease_remaining_ms", "since"] {
        assert_eq!(document["groups"][0].get(key), Some(&Value::Null), "{key}");
    }
    for key in ["leader", "paused_by", "paused_since"] {
        assert_eq!(document["cluster"].get(key), Some(&Value::Null), "{key}");
    }
}

#[test]
fn a_node_of_no_cluster_has_a_null_cluster() {
    let document = document(v1::StatusResponse::default());
    assert_eq!(document.get("cluster"), Some(&Value::Null));
    assert_eq!(document["nodes"], json!([]));
}

#[test]
fn every_enumeration_has_the_promised_words() {
    use v1::{Health, NodeState, RaftRole, RealServerState};
    assert_eq!(
        [Health::Ok, Health::Degraded, Health::NoQuorum].map(health),
        ["ok", "degraded", "no_quorum"]
    );
    let roles = [RaftRole::Leader, RaftRole::Follower, RaftRole::Learner, RaftRole::Unknown];
    assert_eq!(roles.map(raft), ["leader", "follower", "learner", "unknown"]);
    let states =
        [NodeState::Ready, NodeState::Joining, NodeState::Evacuated, NodeState::Unreachable];
    assert_eq!(states.map(node_state), ["ready", "joining", "evacuated", "unreachable"]);
    let states = [
        RealServerState::Up,
        RealServerState::Down,
        RealServerState::Draining,
        RealServerState::Unknown,
    ];
    assert_eq!(states.map(real_server_state), ["up", "down", "draining", "unknown"]);
    // A word of a newer node is one of the promised words, and not the good one.
    let mut status = answered();
    status.cluster.as_mut().unwrap().health = 99;
    status.nodes[0].state = 99;
    let document = document(status);
    assert_eq!(document["cluster"]["health"], "degraded");
    assert_eq!(document["nodes"][0]["state"], "unreachable");
}
