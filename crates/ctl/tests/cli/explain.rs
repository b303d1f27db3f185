//! `explain`, asked of a node.

use quorate_api::v1::{Health, IneligibleDirector};

use super::fake::{Node, State};
use super::status::answered;

fn node() -> Node {
    let mut status = answered(Health::Ok);
    status.groups[0].ineligible =
        vec![IneligibleDirector { node: "lb3".to_owned(), reason: "unreachable".to_owned() }];
    let source = include_str!("../../../../examples/web.toml").to_owned();
    Node::start(State { status, source, revision: 7, ..State::default() })
}

#[test]
fn a_vip_is_explained_by_the_grant_and_by_who_may_not_have_it() {
    let ran = node().quorate(&["explain", "192.168.10.180"]).ends(0);
    assert!(ran.stdout.starts_with("lb1 serves web: "), "{ran:#?}");
    assert!(ran.stdout.contains("BAD   lb3 may not have it: unreachable"), "{ran:#?}");
    // What the configuration in force prefers.
    assert!(ran.stdout.contains("d1, d2, d3"), "{ran:#?}");
}

#[test]
fn a_word_that_means_a_group_and_a_service_explains_both() {
    let json = node().quorate(&["explain", "web", "-o", "json"]).ends(0).json();
    let subjects: Vec<_> =
        json["explanations"].as_array().unwrap().iter().map(|e| e["subject"].clone()).collect();
    assert_eq!(subjects, ["group", "service"]);
    assert_eq!(json["explanations"][0]["facts"][1]["bearing"], "ok");
    let ran = node().quorate(&["explain", "192.168.10.16"]).ends(0);
    assert!(ran.stdout.starts_with("192.168.10.16:80 in web is up\n"), "{ran:#?}");
}

#[test]
fn what_is_not_there_is_said_with_what_is() {
    let ran = node().quorate(&["explain", "wep"]).ends(1);
    assert!(ran.stderr.contains("there is: web"), "{ran:#?}");
}
