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
