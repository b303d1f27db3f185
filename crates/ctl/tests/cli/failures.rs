//! What goes wrong, and the exit code that says so.

use super::fake::{Cluster, Fault, Node, State};
use super::run::{file, quorate, with_input};

#[test]
fn wrong_usage_ends_with_2() {
    for wrong in [
        &["frobnicate"][..],
        &["init"],
        &["apply"],
        &["status", "--wait=soon"],
        &["--endpoint", "nowhere", "status"],
        &["--socket", "/s", "--endpoint", "unix:/t", "status"],
        &["--context", "none", "status"],
        &["--endpoint", "192.0.2.1:7401", "status"],
        &["--endpoint", "unix:/t", "init", "--name", "prod"],
        &["transfer", "web", "--to", "lb1", "--auto"],
        &["realserver", "setup", "--vip", "web.example"],
    ] {
        let ran = quorate(wrong).ends(2);
        assert!(ran.stdout.is_empty() && !ran.stderr.is_empty(), "{wrong:?}: {ran:#?}");
    }
}

#[test]
fn every_unreachable_endpoint_is_named_with_its_cause() {
    let directory = tempfile::tempdir().unwrap();
    let dead = directory.path().join("dead.sock");
    drop(std::os::unix::net::UnixListener::bind(&dead).unwrap());
    let dead = format!("unix:{}", dead.display());
    let absent = format!("unix:{}", directory.path().join("absent.sock").display());
    let ran = quorate(&["--endpoint", &dead, "--endpoint", &absent, "status"]).ends(4);
    assert_eq!(
        ran.stderr,
        format!(
            "error: cannot read the status: no endpoint answers\n  \
             {dead}: nobody listens there: is quorated running?\n  \
             {absent}: there is no such socket: is quorated running, and is this its socket?\n\
             next: start quorated, or name a node that runs with --endpoint\n"
        )
    );
    assert_eq!(ran.stdout, "");
}

#[test]
fn the_next_endpoint_answers_for_one_that_does_not() {
    let node = Node::start(State::default());
    let list = format!("unix:/nowhere/q.sock,{}", node.endpoint());
    let ran = with_input(&["status"], &[("QUORATE_ENDPOINT", &list)], "").ends(3);
    assert!(ran.stdout.contains("belongs to no cluster"), "{ran:#?}");
}

#[test]
fn a_flag_beats_the_environment_without_a_word() {
    let node = Node::start(State::default());
    let variables = [("QUORATE_ENDPOINT", "unix:/nowhere"), ("QUORATE_SOCKET", "/nowhere")];
    let ran =
        with_input(&["token", "create", "--endpoint", &node.endpoint()], &variables, "").ends(0);
    assert!(!ran.stderr.contains("QUORATE"), "{ran:#?}");
}

#[test]
fn the_socket_of_the_environment_is_the_local_one() {
    let node = Node::start(State::default());
    with_input(&["token", "create"], &[("QUORATE_SOCKET", &node.socket())], "").ends(0);
}

#[test]
fn what_a_node_answers_decides_the_exit_code() {
    for (word, code) in [
        ("no_quorum", 5),
        ("conflict", 6),
        ("unknown_outcome", 7),
        ("not_member", 1),
        ("refused", 1),
    ] {
        let node = Node::failing(Fault::Refuses(word, "because of the test"));
        let ran = node.quorate(&["token", "create"]).ends(code);
        let line = format!("  {}: because of the test\n", node.endpoint());
        assert!(ran.stderr.starts_with("error: cannot make a join token: "), "{word}: {ran:#?}");
        assert!(ran.stderr.contains(&line), "{word}: {ran:#?}");
    }
}

#[test]
fn a_node_without_quorum_does_not_speak_for_the_others() {
    let cut_off = Node::failing(Fault::Refuses("no_quorum", "1 of 3 voters reachable"));
    let well = Node::start(State { token: "T".to_owned(), ..State::default() });
    let ran = quorate(&[
        "--endpoint",
        &cut_off.endpoint(),
        "--endpoint",
        &well.endpoint(),
        "token",
        "create",
    ])
    .ends(0);
    assert_eq!(ran.stdout, "T\n");
}

#[test]
fn a_change_without_an_answer_has_an_unknown_outcome_and_is_sent_once() {
    let cluster = Cluster::default();
    let mute = Node::of(&cluster, Fault::Mute);
    let well = Node::of(&cluster, Fault::None);
    let arguments = ["--timeout", "300ms", "node", "remove", "lb3", "--yes"];
    let endpoints = format!("{},{}", mute.endpoint(), well.endpoint());
    let ran = with_input(&arguments, &[("QUORATE_ENDPOINT", &endpoints)], "").ends(7);
    assert!(ran.stderr.contains("no answer within 0.3 s"), "{ran:#?}");
    assert_eq!(mute.state().removed, ["lb3"]);
}

#[test]
fn a_question_without_an_answer_is_asked_elsewhere() {
    let mute = Node::failing(Fault::Mute);
    let well = Node::start(State::default());
    let endpoints = format!("{},{}", mute.endpoint(), well.endpoint());
    let arguments = ["--timeout", "300ms", "status"];
    with_input(&arguments, &[("QUORATE_ENDPOINT", &endpoints)], "").ends(3);
    let ran = mute.quorate(&arguments).ends(4);
    assert!(ran.stderr.contains("no answer within 0.3 s"), "{ran:#?}");
}

#[test]
fn an_apply_whose_answer_was_lost_is_applied_once() {
    for lost in [Fault::Mute, Fault::Forgets] {
        let cluster = Cluster::default();
        let first = Node::of(&cluster, lost);
        let second = Node::of(&cluster, Fault::None);
        let directory = tempfile::tempdir().unwrap();
        let file = file(directory.path(), "web.toml", super::configuration::PLAIN);
        let endpoints = format!("{},{}", first.endpoint(), second.endpoint());
        let arguments = ["--timeout", "300ms", "apply", &file];
        let ran = with_input(&arguments, &[("QUORATE_ENDPOINT", &endpoints)], "").ends(0);
        assert!(ran.stdout.contains("Revision 1 is in force."), "{ran:#?}");
        let state = first.state();
        assert_eq!((state.revision, state.applies), (1, 2));
    }
}

#[test]
fn an_apply_whose_outcome_stays_unknown_says_so() {
    let node = Node::failing(Fault::Forgets);
    let directory = tempfile::tempdir().unwrap();
    let file = file(directory.path(), "web.toml", super::configuration::PLAIN);
    let ran = node.quorate(&["apply", &file]).ends(7);
    assert!(ran.stderr.contains("the outcome is unknown"), "{ran:#?}");
    assert_eq!(node.state().revision, 1);
    assert!(node.state().applies > 1, "it was never repeated");
}
