//! `apply --confirm`, `confirm`, `abort` and `config`.

use super::configuration::{PLAIN, holding, with_service};
use super::fake::{Fault, Node, State, UNTIL};
use super::run::{Ran, file};

/// Revision 118 in force, and 119, applied with these flags.
fn applied(flags: &[&str]) -> (Node, Ran) {
    let node = holding(PLAIN);
    let directory = tempfile::tempdir().unwrap();
    let file = file(directory.path(), "web.toml", &with_service("rr"));
    let arguments: Vec<&str> = ["apply", &file].into_iter().chain(flags.iter().copied()).collect();
    let ran = node.quorate(&arguments).ends(0);
    (node, ran)
}

#[test]
fn what_has_to_be_confirmed_says_until_when_and_how() {
    let (node, ran) = applied(&["--confirm", "20s", "-m", "add .16"]);
    assert_eq!(
        ran.stdout,
        format!(
            "Revision 119 is in force, unconfirmed: the cluster goes back to the one before at {UNTIL}, \
             unless: quorate confirm\n"
        )
    );
    assert!(ran.stderr.contains("Without a majority of the nodes nothing goes back"), "{ran:#?}");
    assert_eq!(node.state().confirm_asked, Some(20_000));
    assert_eq!(node.state().info.message, "add .16");
    let (node, ran) = applied(&["--confirm", "-o", "json"]);
    assert_eq!(node.state().confirm_asked, Some(300_000), "five minutes if nothing else is said");
    assert_eq!(ran.json()["unconfirmed_until"], UNTIL);
    let (_, ran) = applied(&["-o", "json"]);
    assert_eq!(ran.json()["unconfirmed_until"], serde_json::Value::Null);
}

#[test]
fn confirm_keeps_the_revision_that_waits() {
    let (node, _) = applied(&["--confirm"]);
    let ran = node.quorate(&["confirm"]).ends(0);
    assert_eq!(ran.stdout, "Confirmed: revision 119 stays in force.\n");
    let ran = node.quorate(&["confirm"]).ends(1);
    assert!(
        ran.stderr.contains("nothing waits to be confirmed: revision 119 is in force"),
        "{ran:#?}"
    );
    let ran = node.quorate(&["confirm", "--revision", "118"]).ends(6);
    assert!(
        ran.stderr.contains("next: see what became of it with `quorate config history`"),
        "{ran:#?}"
    );
}

#[test]
fn whoever_confirms_too_late_is_told_so_by_exit_code_6() {
    let (node, _) = applied(&["--confirm"]);
    node.state().abort(119).unwrap();
    let ran = node.quorate(&["confirm"]).ends(6);
    assert!(
        ran.stderr.contains("revision 119 was rolled back: revision 120 is in force"),
        "{ran:#?}"
    );
    node.quorate(&["confirm", "--revision", "119"]).ends(6);
}

#[test]
fn abort_shows_what_changes_and_asks_before_something_is_taken_away() {
    let (node, _) = applied(&["--confirm"]);
    let ran = node.quorate(&["abort"]).ends(2);
    assert!(ran.stderr.contains("! deletes service web tcp/192.168.10.180:80"), "{ran:#?}");
    assert_eq!(node.state().revision, 119);
    let ran = node.quorate(&["abort", "--yes", "-o", "json"]).ends(0).json();
    assert_eq!((&ran["revision"], &ran["changed"]), (&120.into(), &true.into()));
    assert_eq!(node.state().source, PLAIN);
    let ran = node.quorate(&["abort", "--revision", "119", "--yes"]).ends(0);
    assert_eq!(ran.stdout, "Revision 119 was rolled back already; revision 120 is in force.\n");
}

#[test]
fn the_first_configuration_is_aborted_to_none() {
    let node = Node::start(State::default());
    let directory = tempfile::tempdir().unwrap();
    let file = file(directory.path(), "web.toml", PLAIN);
    node.quorate(&["apply", &file, "--confirm", "1m"]).ends(0);
    let ran = node.quorate(&["abort"]).ends(2);
    assert!(ran.stderr.contains("! deletes group web"), "{ran:#?}");
    node.quorate(&["abort", "--yes"]).ends(0);
    assert_eq!(node.state().source, "");
}

#[test]
fn another_change_while_one_waits_is_a_conflict_with_its_next_command() {
    let (node, _) = applied(&["--confirm"]);
    let directory = tempfile::tempdir().unwrap();
    let other = file(directory.path(), "web.toml", &with_service("wlc"));
    for arguments in [&["apply", &other][..], &["config", "rollback", "118", "--yes"]] {
        let ran = node.quorate(arguments).ends(6);
        assert!(ran.stderr.contains("revision 119 is not confirmed yet"), "{ran:#?}");
        assert!(ran.stderr.contains("`quorate confirm` keeps it, `quorate abort`"), "{ran:#?}");
    }
    let same = file(directory.path(), "same.toml", &with_service("rr"));
    let ran = node.quorate(&["apply", &same, "--confirm", "1m"]).ends(0);
    assert!(ran.stdout.contains(&format!("has until {UNTIL} now")), "{ran:#?}");
    assert_eq!(node.state().revision, 119);
}

#[test]
fn the_same_again_makes_no_revision_and_says_that_its_message_is_not_kept() {
    let node = holding(PLAIN);
    let directory = tempfile::tempdir().unwrap();
    let file = file(directory.path(), "web.toml", PLAIN);
    let ran = node.quorate(&["apply", &file, "-m", "again", "--confirm"]).ends(0);
    assert_eq!(ran.stdout, "Nothing changes: revision 118 says the same already.\n");
    assert!(ran.stderr.contains("There is nothing to confirm."), "{ran:#?}");
    assert!(ran.stderr.contains("The message is not kept"), "{ran:#?}");
    assert_eq!(node.state().revision, 118);
}

#[test]
fn the_history_says_who_applied_what_and_what_became_of_it() {
    let (node, _) = applied(&["--confirm", "-m", "add .16"]);
    node.quorate(&["abort", "--yes"]).ends(0);
    let ran = node.quorate(&["config", "history"]).ends(0);
    let lines: Vec<&str> = ran.stdout.lines().collect();
    assert_eq!(lines[0], "REVISION  APPLIED               AUTHOR      STATE        MESSAGE");
    assert_eq!(lines[1], "120       2026-01-02T03:04:05Z  client ada  in force     -");
    assert_eq!(lines[2], "119       2026-01-02T03:04:05Z  client ada  rolled back  add .16");
    let json = node.quorate(&["config", "history", "-o", "json"]).ends(0).json();
    let rolled_back = serde_json::json!({
        "revision": 119, "applied_at": "2026-01-02T03:04:05Z", "author": "client ada",
        "message": "add .16", "state": "rolled_back", "unconfirmed_until": null,
        "confirmed_by": null, "takes_back": null
    });
    assert_eq!(json["revisions"][1], rolled_back);
    assert_eq!(json["revisions"][0]["takes_back"], 119);
    let empty = Node::start(State::default());
    let ran = empty.quorate(&["config", "history"]).ends(0);
    assert_eq!(ran.stdout, "No configuration was ever applied.\n");
}

#[test]
fn an_earlier_revision_is_printed_as_it_was_applied() {
    let (node, _) = applied(&[]);
    assert_eq!(node.quorate(&["config", "get"]).ends(0).stdout, with_service("rr"));
    assert_eq!(node.quorate(&["config", "get", "--revision", "118"]).ends(0).stdout, PLAIN);
    let ran = node.quorate(&["config", "show", "119"]).ends(0);
    assert_eq!(ran.stdout, with_service("rr"));
    assert!(ran.stderr.contains("Revision 119, applied by client ada at 2026-"), "{ran:#?}");
    let json = node.quorate(&["config", "show", "118", "-o", "json"]).ends(0).json();
    assert_eq!((&json["text"], &json["state"]), (&PLAIN.into(), &"replaced".into()));
    let ran = node.quorate(&["config", "show", "7"]).ends(1);
    assert!(ran.stderr.contains("revision 7 is not kept"), "{ran:#?}");
}

#[test]
fn a_rollback_applies_an_earlier_text_under_a_new_revision() {
    let (node, _) = applied(&[]);
    let ran = node.quorate(&["config", "rollback", "118"]).ends(2);
    assert!(ran.stderr.contains("! deletes service web"), "{ran:#?}");
    let ran = node.quorate(&["config", "rollback", "118", "--yes"]).ends(0);
    assert_eq!(ran.stdout, "Revision 120 is in force.\n");
    let state = node.state();
    assert_eq!(
        (state.source.as_str(), state.info.message.as_str()),
        (PLAIN, "rollback to revision 118")
    );
    drop(state);
    let rollback = ["config", "rollback", "119", "--confirm", "2m", "-m", "once more"];
    let ran = node.quorate(&rollback).ends(0);
    assert!(ran.stdout.contains("Revision 121 is in force, unconfirmed"), "{ran:#?}");
    assert_eq!(node.state().info.message, "once more");
}

#[test]
fn a_time_or_a_message_that_is_wrong_is_never_sent() {
    let node = holding(PLAIN);
    let directory = tempfile::tempdir().unwrap();
    let file = file(directory.path(), "web.toml", PLAIN);
    let long = "x".repeat(501);
    for flags in [["--confirm", "25h"], ["--confirm", "1ms"], ["-m", "a\nb"], ["-m", &long]] {
        node.quorate(&["apply", &file, flags[0], flags[1]]).ends(2);
    }
    assert_eq!(node.state().applies, 0);
}

#[test]
fn a_confirmation_ends_by_its_own_exit_code_where_the_cluster_does_not_take_it() {
    let refusals = [
        ("no_quorum", 5, "a majority of the nodes must run"),
        ("settled", 6, "quorate config history"),
        ("unconfirmed", 6, "quorate abort"),
    ];
    for (word, code, next) in refusals {
        let node = Node::failing(Fault::Refuses(word, "it can't be"));
        for arguments in [&["confirm", "--revision", "2"][..], &["abort", "--revision", "2", "-y"]]
        {
            let ran = node.quorate(arguments).ends(code);
            assert!(ran.stderr.contains(next), "{ran:#?}");
        }
    }
}

#[test]
fn a_confirmation_that_nobody_answers_may_have_happened() {
    let (waiting, _) = applied(&["--confirm"]);
    let node = Node::of(&waiting.cluster, Fault::Mute);
    let ran = node.quorate(&["confirm", "--revision", "119", "--timeout", "100ms"]);
    let ran = ran.ends(7);
    assert!(ran.stderr.contains("it was sent, and may have happened"), "{ran:#?}");
    assert!(node.state().info.unconfirmed_until.is_none(), "it did happen");
}

/// lb1 holds what is in force at its second look, lb2 is as it is said.
fn directors(second: quorate_api::v1::NodeStatus) -> Node {
    use quorate_api::v1::{NodeState, NodeStatus, StatusResponse};
    let first = NodeStatus {
        name: "lb1".to_owned(),
        role: "director".to_owned(),
        state: NodeState::Ready.into(),
        version: "0.1.0".to_owned(),
        revision: Some(119),
        programmed_revision: Some(119),
        ..NodeStatus::default()
    };
    let second = NodeStatus { name: "lb2".to_owned(), role: "director".to_owned(), ..second };
    let status =
        StatusResponse { member: true, nodes: vec![first, second], ..StatusResponse::default() };
    let source = PLAIN.to_owned();
    Node::start(State { revision: 118, source, status, ..State::default() })
}

#[test]
fn apply_waits_for_each_director_and_names_the_one_that_can_not() {
    use quorate_api::v1::{NodeState, NodeStatus};
    let directory = tempfile::tempdir().unwrap();
    let file = file(directory.path(), "web.toml", &with_service("rr"));
    let done = NodeStatus {
        state: NodeState::Ready.into(),
        revision: Some(119),
        programmed_revision: Some(119),
        ..NodeStatus::default()
    };
    let ran = directors(done.clone()).quorate(&["apply", &file]).ends(0);
    assert!(ran.stderr.contains("lb2: its kernel holds revision 119\n"), "{ran:#?}");
    let problems = vec!["the kernel has no ip_vs".to_owned()];
    let failed = NodeStatus { programmed_revision: None, problems, ..done.clone() };
    let ran = directors(failed.clone()).quorate(&["apply", &file, "--timeout", "500ms"]).ends(3);
    assert_eq!(ran.stdout, "Revision 119 is in force.\n");
    let named = "! lb2 does not hold revision 119 yet: it says: the kernel has no ip_vs\n";
    assert!(ran.stderr.contains(named), "{ran:#?}");
    directors(failed).quorate(&["apply", &file, "--no-wait"]).ends(0);
    let gone = NodeStatus { state: NodeState::Unreachable.into(), ..NodeStatus::default() };
    let ran = directors(gone).quorate(&["apply", &file]).ends(3);
    assert!(ran.stderr.contains("! lb2 does not hold revision 119 yet: unreachable"), "{ran:#?}");
    let slow = NodeStatus { programmed_revision: Some(118), ..done };
    let ran = directors(slow).quorate(&["apply", &file, "--timeout", "500ms"]).ends(3);
    assert!(
        ran.stderr.contains("! lb2 does not hold revision 119 yet: nothing says why"),
        "{ran:#?}"
    );
}

#[test]
fn only_a_part_of_a_file_is_applied_and_only_over_what_it_was_put_into() {
    let node = holding(&with_service("rr"));
    let directory = tempfile::tempdir().unwrap();
    // By itself it is no configuration: its group is missing.
    let part = with_service("wlc").replace(PLAIN, "");
    let part = file(directory.path(), "part.toml", &part);
    let only = ["apply", &part, "--only", "service/web"];
    let ran = node.quorate(&only).ends(0);
    assert!(ran.stderr.contains("~ scheduler rr -> wlc"), "{ran:#?}");
    assert!(!ran.stderr.contains("group web"), "{ran:#?}");
    assert_eq!(node.state().revision, 119);
    let ran = node.quorate(&[&only[..], &["--expect-revision", "118"]].concat()).ends(6);
    assert!(ran.stderr.contains("revision 119 is in force, not 118"), "{ran:#?}");
    let empty = file(directory.path(), "empty.toml", "");
    let ran = node.quorate(&["apply", &empty, "--only", "service/web"]).ends(1);
    assert!(ran.stderr.contains("the file has no service web"), "{ran:#?}");
    assert_eq!(node.state().revision, 119);
    node.quorate(&["apply", &empty, "--only", "service/other"]).ends(1);
    node.quorate(&["apply", &empty, "--only", "hook/page"]).ends(2);
}
