//! `evacuate`, `restore`, `pause` and `resume`.

use quorate_api::v1::{EvacuateResponse, Health, StayingGroup};

use super::fake::{Fault, Node, State};
use super::status::answered;

/// A node whose evacuation takes this course.
fn node(course: &[EvacuateResponse]) -> Node {
    let status = answered(Health::Ok);
    Node::start(State { status, evacuation: course.to_vec(), ..State::default() })
}

fn moving() -> EvacuateResponse {
    EvacuateResponse { moving: vec!["web".to_owned()], ..EvacuateResponse::default() }
}

fn staying() -> EvacuateResponse {
    let reason = "lb2: the device is down".to_owned();
    let staying = vec![StayingGroup { group: "web".to_owned(), reason }];
    EvacuateResponse { staying, ..EvacuateResponse::default() }
}

#[test]
fn an_evacuation_is_waited_for_and_says_what_moves() {
    let node = node(&[moving(), moving(), EvacuateResponse::default()]);
    let ran = node.quorate(&["evacuate", "lb1", "--yes"]).ends(0);
    assert_eq!(ran.stderr, "Moving: web\n");
    assert_eq!(ran.stdout, "lb1 owns no group, and takes none until: quorate restore lb1\n");
    let ran = node.quorate(&["evacuate", "lb1", "--yes"]).ends(0);
    assert_eq!(ran.stderr, "lb1 was evacuated already.\n");
    let json = node.quorate(&["evacuate", "lb1", "--yes", "-o", "json"]).ends(0).json();
    assert_eq!(json["changed"], false);
    assert_eq!((json["moving"].as_array(), json["node"].as_str()), (Some(&vec![]), Some("lb1")));
}

#[test]
fn moving_traffic_by_an_evacuation_needs_yes_where_nobody_can_be_asked() {
    let node = node(&[]);
    let ran = node.quorate(&["evacuate", "lb1"]).ends(2);
    assert!(ran.stderr.contains("! web: lb1 -> lb2; 5 active connections"), "{ran:#?}");
    assert!(!node.state().evacuated);
    node.quorate(&["evacuate", "lb9"]).ends(1);
    // Nothing of it moves, so nothing is asked.
    node.state().status.nodes[0].owns.clear();
    node.quorate(&["evacuate", "lb1"]).ends(0);
    assert!(node.state().evacuated);
}

#[test]
fn what_stays_on_an_evacuated_director_is_named_with_the_reason() {
    let node = node(&[moving(), staying()]);
    let ran = node.quorate(&["evacuate", "lb1", "--yes"]).ends(3);
    assert!(ran.stderr.contains("web stays (lb2: the device is down)"), "{ran:#?}");
    assert!(ran.stderr.contains("quorate restore lb1"), "{ran:#?}");
    let ran = node.quorate(&["evacuate", "lb1", "--yes", "-o", "json"]).ends(3);
    let json = ran.json();
    assert_eq!(json["staying"][0]["group"], "web");
    assert_eq!(json["staying"][0]["reason"], "lb2: the device is down");
}

#[test]
fn a_director_that_reports_again_meanwhile_takes_what_seemed_to_stay() {
    let node = node(&[staying(), staying(), moving(), EvacuateResponse::default()]);
    node.quorate(&["evacuate", "lb1", "--yes"]).ends(0);
}

#[test]
fn an_evacuation_that_takes_too_long_is_degraded_and_goes_on() {
    let node = node(&[moving()]);
    let ran = node.quorate(&["evacuate", "lb1", "--yes", "--wait", "600ms"]).ends(3);
    assert!(ran.stderr.contains("web still on the way after 0.6 s"), "{ran:#?}");
    assert!(node.state().evacuated);
}

#[test]
fn a_restore_says_whether_there_was_anything_to_take_back() {
    let node = node(&[]);
    let ran = node.quorate(&["restore", "lb1"]).ends(0);
    assert_eq!(ran.stdout, "lb1 was not evacuated.\n");
    node.quorate(&["evacuate", "lb1", "--yes"]).ends(0);
    let ran = node.quorate(&["restore", "lb1"]).ends(0);
    assert!(ran.stdout.contains("lb1 may own groups again"), "{ran:#?}");
    assert!(!node.state().evacuated);
}

#[test]
fn a_cluster_is_paused_once_and_resumed_once() {
    let node = node(&[]);
    let ran = node.quorate(&["pause"]).ends(0);
    assert!(ran.stdout.starts_with("Paused: no group moves by itself."), "{ran:#?}");
    let ran = node.quorate(&["pause"]).ends(0);
    assert!(ran.stdout.contains("already, by client ada since 2026-01-02T03:04:05Z"), "{ran:#?}");
    let json = node.quorate(&["pause", "-o", "json"]).ends(0).json();
    assert_eq!((json["paused"].as_bool(), json["changed"].as_bool()), (Some(true), Some(false)));
    let json = node.quorate(&["resume", "-o", "json"]).ends(0).json();
    assert_eq!((json["paused"].as_bool(), json["changed"].as_bool()), (Some(false), Some(true)));
    assert_eq!(node.quorate(&["resume"]).ends(0).stdout, "It was not paused.\n");
}

#[test]
fn an_order_without_a_quorum_ends_with_5() {
    let node = Node::failing(Fault::Refuses("no_quorum", "no majority"));
    for order in [&["pause"][..], &["resume"], &["restore", "lb1"], &["evacuate", "lb1", "--yes"]] {
        node.quorate(order).ends(5);
    }
}

fn serving(drains_after: u32) -> Node {
    Node::start(State { status: answered(Health::Ok), drains_after, ..State::default() })
}

#[test]
fn a_weight_is_ordered_for_every_service_or_for_one_and_for_a_time() {
    let node = serving(0);
    let ran = node.quorate(&["realserver", "drain", "192.168.10.16", "--yes"]).ends(0);
    assert_eq!(ran.stdout, "web 192.168.10.16:80: drained: no new connection\n");
    let ran = node.quorate(&["realserver", "drain", "192.168.10.16", "--yes"]).ends(0);
    assert_eq!(ran.stdout, "It was drained already.\n");
    let arguments = ["weight", "192.168.10.16:80", "5", "--service", "web", "--ttl", "1h"];
    node.quorate(&[&["realserver"], &arguments[..]].concat()).ends(0);
    let json =
        node.quorate(&["realserver", "enable", "192.168.10.16", "-o", "json"]).ends(0).json();
    assert_eq!(
        (json["changed"].as_bool(), json["servers"][0]["service"].as_str()),
        (Some(true), Some("web"))
    );
    let ordered: Vec<_> =
        node.state().weights[1..].iter().map(|r| (r.weight, r.ttl_ms, r.service.clone())).collect();
    let hour = Some(3_600_000);
    let web = "web".to_owned();
    assert_eq!(
        ordered,
        [(Some(0), None, String::new()), (Some(5), hour, web), (None, None, String::new())]
    );
    node.quorate(&["realserver", "weight", "192.168.10.16", "65536"]).ends(2);
}

/// web has one real server.
#[test]
fn draining_the_last_real_server_has_to_be_confirmed() {
    let node = serving(0);
    for arguments in [&["drain", "192.168.10.16"][..], &["weight", "192.168.10.16:80", "0"]] {
        let ran = node.quorate(&[&["realserver"], arguments].concat()).ends(2);
        assert!(ran.stderr.contains("! web: no real server is left"), "{ran:#?}");
    }
    assert!(node.state().weights.is_empty());
    node.quorate(&["realserver", "drain", "192.168.10.17"]).ends(0);
    node.quorate(&["realserver", "weight", "192.168.10.16", "5"]).ends(0);
    let both = ["realserver", "drain", "192.168.10.17", "--ttl", "1m", "--wait=2m"];
    node.quorate(&both).ends(2);
}

#[test]
fn a_drain_that_is_waited_for_says_how_many_connections_are_left() {
    let node = serving(3);
    let ran = node.quorate(&["realserver", "drain", "192.168.10.16", "--yes", "--wait"]).ends(0);
    assert_eq!(ran.stderr, "5 connections left\n");
    assert_eq!(ran.stdout, "web 192.168.10.16:80: drained: no established connection is left\n");
}

#[test]
fn a_drain_whose_time_is_over_says_what_is_left_and_how_to_take_it_back() {
    let node = serving(0);
    let ran = node
        .quorate(&["realserver", "drain", "192.168.10.16", "--yes", "--wait=1ms", "-o", "json"])
        .ends(3);
    assert!(ran.stderr.contains("5 are left after 0.001 s"), "{ran:#?}");
    assert!(ran.stderr.contains("quorate realserver enable 192.168.10.16"), "{ran:#?}");
    assert_eq!(ran.json()["connections"], 5);
}
