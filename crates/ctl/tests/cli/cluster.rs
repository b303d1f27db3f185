//! `init`, `token create`, `join`, `transfer`, `node remove` and `version`.

use quorate_api::v1::Health;

use super::fake::{Node, State};
use super::run::{quorate, with_input};
use super::status::answered;

fn running() -> Node {
    Node::start(State {
        status: answered(Health::Ok),
        token: "qt1.secret".to_owned(),
        ..State::default()
    })
}

#[test]
fn a_cluster_is_made_once() {
    let node = Node::start(State::default());
    let ran = node.quorate(&["init", "--name", "prod", "--timing", "wan"]).ends(0);
    assert!(ran.stdout.contains("prod") && ran.stdout.contains("c0ffee-wan"), "{ran:#?}");
    assert!(ran.stderr.contains("quorate token create"), "{ran:#?}");
    let ran = node.quorate(&["init", "--name", "prod"]).ends(1);
    assert!(ran.stderr.contains("belongs to a cluster already"), "{ran:#?}");
}

#[test]
fn a_token_stands_alone_on_stdout() {
    let node = running();
    let ran = node.quorate(&["token", "create"]).ends(0);
    assert_eq!(ran.stdout, "qt1.secret\n");
    assert!(ran.stderr.contains("2026-01-02T03:19:05Z"), "{ran:#?}");
    let json = node.quorate(&["token", "create", "-o", "json"]).ends(0).json();
    assert_eq!(json["token"], "qt1.secret");
}

#[test]
fn a_token_is_taken_from_the_arguments_or_stdin() {
    let node = running();
    let ran = node.quorate(&["join", "qt1.secret"]).ends(0);
    assert!(ran.stdout.contains("voter of cluster prod (node id 2)"), "{ran:#?}");
    let socket = node.socket();
    with_input(&["--socket", &socket, "join", "-"], &[], "qt1.secret\n").ends(0);
    with_input(&["--socket", &socket, "join", "-"], &[], "\n").ends(2);
    let ran = node.quorate(&["join", "qt1.old"]).ends(1);
    assert!(ran.stderr.contains("expired or was used"), "{ran:#?}");
}

#[test]
fn moving_traffic_needs_yes_where_nobody_can_be_asked() {
    let node = running();
    let ran = node.quorate(&["transfer", "web", "--to", "lb2"]).ends(2);
    assert!(ran.stderr.contains("! web: lb1 -> lb2; 5 active connections"), "{ran:#?}");
    assert_eq!(node.state().status.groups[0].epoch, 17);
    let ran = node.quorate(&["transfer", "web", "--to", "lb2", "--yes"]).ends(0);
    assert!(ran.stdout.contains("web is with lb2 now (epoch 18)"), "{ran:#?}");
    // It is there already: nothing is moved, so nothing is asked.
    let ran = node.quorate(&["transfer", "web", "--to", "lb2"]).ends(0);
    assert_eq!(ran.stdout, "web is with lb2 already.\n");
    node.quorate(&["transfer", "web", "--auto"]).ends(0);
    let ran = node.quorate(&["transfer", "wep", "--to", "lb2"]).ends(1);
    assert!(ran.stderr.contains("there is: web"), "{ran:#?}");
}

#[test]
fn removing_a_node_needs_yes_where_nobody_can_be_asked() {
    let node = running();
    let ran = node.quorate(&["node", "remove", "lb1"]).ends(2);
    assert!(ran.stderr.contains("it owns web"), "{ran:#?}");
    assert!(node.state().removed.is_empty());
    node.quorate(&["node", "remove", "lb1", "--yes"]).ends(0);
    assert_eq!(node.state().removed, ["lb1"]);
    node.quorate(&["node", "remove", "lb9"]).ends(1);
}

#[test]
fn the_version_needs_no_cluster() {
    let version = env!("CARGO_PKG_VERSION");
    assert_eq!(quorate(&["version"]).ends(0).stdout, format!("quorate {version}\n"));
    assert_eq!(quorate(&["version", "-o", "json"]).ends(0).json()["version"], version);
}

#[test]
fn checking_a_real_server_says_what_is_missing_and_changes_nothing() {
    // RFC 5737: an address that no machine has.
    let arguments = ["realserver", "check", "--vip", "198.51.100.77", "-o", "json"];
    let ran = quorate(&arguments).ends(1);
    let json = ran.json();
    let steps = json["steps"].as_array().unwrap();
    let address = steps.iter().find(|step| step["step"] == "address 198.51.100.77/32 on lo");
    assert_eq!(address.unwrap()["state"], "missing");
    assert!(ran.stderr.contains("quorate realserver setup"), "{ran:#?}");
    assert_eq!(quorate(&arguments).ends(1).stdout, ran.stdout);
}
