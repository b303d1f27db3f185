//! `status`, `services` and `node list`.

use quorate_api::v1::{
    ClusterStatus, Counters, GroupStatus, Health, NodeState, NodeStatus, RaftRole, RealServerState,
    RealServerStatus, ServiceStatus, StatusResponse,
};

use super::fake::{Node, State};

pub(crate) fn answered(health: Health) -> StatusResponse {
    StatusResponse {
        member: true,
        answered_by: "lb1".to_owned(),
        cluster: Some(ClusterStatus {
            name: "prod".to_owned(),
            health: health.into(),
            leader: (health != Health::NoQuorum).then(|| "lb1".to_owned()),
            voters: 3,
            voters_reachable: 3,
            failures_tolerated: 1,
            ..ClusterStatus::default()
        }),
        nodes: vec![NodeStatus {
            name: "lb1".to_owned(),
            id: 1,
            role: "director".to_owned(),
            raft: RaftRole::Leader.into(),
            state: NodeState::Ready.into(),
            owns: vec!["web".to_owned()],
            ..NodeStatus::default()
        }],
        groups: vec![GroupStatus {
            name: "web".to_owned(),
            addresses: vec!["192.168.10.180/32".to_owned()],
            owner: Some("lb1".to_owned()),
            epoch: 17,
            lease_remaining_ms: Some(400),
            standby: vec!["lb2".to_owned()],
            ..GroupStatus::default()
        }],
        services: vec![ServiceStatus {
            name: "web".to_owned(),
            group: "web".to_owned(),
            listen: vec!["tcp/192.168.10.180:80".to_owned()],
            scheduler: "rr".to_owned(),
            forward: "DR".to_owned(),
            real_servers: vec![RealServerStatus {
                address: "192.168.10.16:80".to_owned(),
                weight: 1,
                effective_weight: 1,
                state: RealServerState::Up.into(),
                active: 5,
                counters: Some(Counters::default()),
                kernel_weight: Some(1),
                ..RealServerStatus::default()
            }],
            seen_by: "lb1".to_owned(),
            ..ServiceStatus::default()
        }],
    }
}

fn node(status: StatusResponse) -> Node {
    Node::start(State { status, ..State::default() })
}

#[test]
fn the_exit_code_is_the_health() {
    for (health, code, word) in [
        (Health::Ok, 0, "OK"),
        (Health::Degraded, 3, "DEGRADED"),
        (Health::NoQuorum, 5, "NO QUORUM"),
    ] {
        let ran = node(answered(health)).quorate(&["status"]).ends(code);
        assert!(ran.stdout.starts_with(&format!("Cluster prod  {word}: ")), "{ran:#?}");
    }
}

#[test]
fn json_is_the_same_document_whatever_the_health() {
    let ran = node(answered(Health::NoQuorum)).quorate(&["status", "-o", "json"]).ends(5);
    let json = ran.json();
    assert_eq!(json["cluster"]["health"], "no_quorum");
    assert_eq!(json["cluster"]["leader"], serde_json::Value::Null);
    assert_eq!(ran.stderr, "");
}

#[test]
fn a_node_of_no_cluster_says_what_to_do() {
    let ran = node(StatusResponse::default()).quorate(&["status"]).ends(3);
    assert_eq!(ran.stdout, "Node belongs to no cluster yet.\n");
    assert!(ran.stderr.contains("quorate init") && ran.stderr.contains("quorate join"), "{ran:#?}");
}

#[test]
fn waiting_ends_when_every_owner_holds_its_lease() {
    let mut status = answered(Health::Ok);
    status.groups[0].lease_remaining_ms = None;
    let node = node(status);
    let ran = node.quorate(&["status", "--wait=600ms"]).ends(3);
    assert!(ran.stderr.contains("did not settle within 0.6 s: web has no owner"), "{ran:#?}");
    // Without --wait, the health that the cluster gives is the answer.
    node.quorate(&["status"]).ends(0);

    // The third look from here finds it healed.
    node.state().heals_after = 3;
    node.quorate(&["status", "--wait=60s"]).ends(0);
    assert_eq!(node.state().heals_after, 0);
}

#[test]
fn services_can_be_chosen_by_name() {
    let node = node(answered(Health::Ok));
    let ran = node.quorate(&["services"]).ends(0);
    assert!(ran.stdout.contains("TCP  192.168.10.180:80 rr  web (owner lb1)\n"), "{ran:#?}");
    assert!(ran.stdout.contains("  -> 192.168.10.16:80"), "{ran:#?}");
    let json = node.quorate(&["services", "web", "-o", "json"]).ends(0).json();
    assert_eq!(json["services"][0]["real_servers"][0]["active"], 5);
    let ran = node.quorate(&["services", "wep"]).ends(1);
    assert!(ran.stderr.contains("there is: web"), "{ran:#?}");
}

#[test]
fn nodes_are_listed() {
    let node = node(answered(Health::Ok));
    let ran = node.quorate(&["node", "list"]).ends(0);
    assert!(ran.stdout.starts_with("NODE  ID  ROLE"), "{ran:#?}");
    let json = node.quorate(&["node", "list", "-o", "json"]).ends(0).json();
    assert_eq!(json["nodes"][0]["raft"], "leader");
}
