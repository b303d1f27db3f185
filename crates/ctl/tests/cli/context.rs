//! `context create|list|use`, up to asking a node over the network with what was created.

use std::os::unix::fs::PermissionsExt as _;

use super::fake::{Node, State};
use super::remote::{Authority, Remote};
use super::run::{quorate, with_input};

fn node(api: &[String]) -> Node {
    Node::start(State {
        authority: Some(Authority::new()),
        api: api.to_vec(),
        token: "qt1.secret".to_owned(),
        ..State::default()
    })
}

#[test]
fn a_created_context_leads_to_the_cluster_over_the_network() {
    let node = node(&[]);
    let authority = node.state().authority.take().unwrap();
    let remote = Remote::start(&node.cluster, &authority);
    node.state().authority = Some(authority);
    node.state().api = vec![remote.address.clone()];
    let home = tempfile::tempdir().unwrap();
    let variables = [("XDG_CONFIG_HOME", home.path().to_str().unwrap())];

    let socket = node.socket();
    let create = ["--socket", &socket, "context", "create", "prod"];
    let ran = with_input(&create, &variables, "").ends(0);
    assert!(ran.stdout.contains(&remote.address), "{ran:#?}");
    let file = home.path().join("quorate/config.toml");
    assert_eq!(std::fs::metadata(&file).unwrap().permissions().mode() & 0o777, 0o600);

    let ran = with_input(&["token", "create"], &variables, "").ends(0);
    assert_eq!(ran.stdout, "qt1.secret\n");

    // The same name again is refused, and what was there still works.
    with_input(&create, &variables, "").ends(1);
    with_input(&["--context", "prod", "token", "create"], &variables, "").ends(0);

    // Another endpoint of the same cluster is asked with the context's certificate.
    let by_name = remote.address.replace("127.0.0.1", "localhost");
    with_input(&["--endpoint", &by_name, "token", "create"], &variables, "").ends(0);
}

#[test]
fn contexts_are_listed_and_chosen() {
    let node = node(&["192.0.2.1:7401".to_owned()]);
    let home = tempfile::tempdir().unwrap();
    let variables = [("XDG_CONFIG_HOME", home.path().to_str().unwrap())];
    let socket = node.socket();
    for name in ["prod", "test"] {
        with_input(&["--socket", &socket, "context", "create", name], &variables, "").ends(0);
    }
    let ran = with_input(&["context", "list"], &variables, "").ends(0);
    assert_eq!(
        ran.stdout,
        "CURRENT  NAME  ENDPOINTS\n*        prod  192.0.2.1:7401\n         test  192.0.2.1:7401\n"
    );
    with_input(&["context", "use", "test"], &variables, "").ends(0);
    let json = with_input(&["context", "list", "-o", "json"], &variables, "").ends(0).json();
    assert_eq!(json["contexts"][1]["current"], true);
    assert_eq!(json["contexts"][0]["current"], false);
    let ran = with_input(&["context", "use", "prd"], &variables, "").ends(2);
    assert!(ran.stderr.contains("there is: prod, test"), "{ran:#?}");
}

#[test]
fn a_context_can_be_written_for_another_machine() {
    let node = node(&["192.0.2.1:7401".to_owned()]);
    let directory = tempfile::tempdir().unwrap();
    let out = directory.path().join("for-ada");
    let ran =
        node.quorate(&["context", "create", "prod", "--output", out.to_str().unwrap()]).ends(0);
    assert!(ran.stderr.contains("private key"), "{ran:#?}");
    assert!(out.join("config.toml").is_file());
}

#[test]
fn a_cluster_that_nobody_can_reach_over_the_network_gets_no_context() {
    let node = node(&[]);
    let home = tempfile::tempdir().unwrap();
    let variables = [("XDG_CONFIG_HOME", home.path().to_str().unwrap())];
    let socket = node.socket();
    let ran =
        with_input(&["--socket", &socket, "context", "create", "prod"], &variables, "").ends(1);
    assert!(ran.stderr.contains("`api` address"), "{ran:#?}");
    assert!(!home.path().join("quorate/config.toml").exists());
}

#[test]
fn without_a_home_there_is_no_context_to_list() {
    assert_eq!(quorate(&["context", "list"]).ends(0).stdout, "CURRENT  NAME  ENDPOINTS\n");
}
