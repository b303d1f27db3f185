//! `apply` and `diff`.

use super::fake::{Node, State};
use super::run::{file, quorate, with_input};

/// A group without a service.
pub(crate) const PLAIN: &str = "\
[group.web]
interface = \"public\"
addresses = [\"192.168.10.180/32\"]
";

pub(crate) fn with_service(scheduler: &str) -> String {
    format!(
        "{PLAIN}\n[service.web]\ngroup = \"web\"\nlisten = \"tcp/192.168.10.180:80\"\n\
         scheduler = \"{scheduler}\"\nforward = \"DR\"\n\
         real_servers = [{{ address = \"192.168.10.16:80\" }}]\n"
    )
}

pub(crate) fn holding(source: &str) -> Node {
    Node::start(State { revision: 118, source: source.to_owned(), ..State::default() })
}

#[test]
fn a_first_configuration_is_applied_from_stdin() {
    let node = Node::start(State::default());
    let socket = node.socket();
    let ran = with_input(&["--socket", &socket, "apply", "-"], &[], &with_service("rr")).ends(0);
    assert_eq!(ran.stdout, "Revision 1 is in force.\n");
    assert!(ran.stderr.contains("+ service web tcp/192.168.10.180:80"), "{ran:#?}");
    assert_eq!(node.state().source, with_service("rr"));
}

#[test]
fn the_same_again_changes_nothing_and_says_so() {
    let node = holding(PLAIN);
    let directory = tempfile::tempdir().unwrap();
    let file = file(directory.path(), "web.toml", PLAIN);
    let ran = node.quorate(&["apply", &file]).ends(0);
    assert_eq!(ran.stdout, "Nothing changes: revision 118 says the same already.\n");
    let json = node.quorate(&["apply", &file, "-o", "json"]).ends(0).json();
    assert_eq!((&json["changed"], &json["revision"]), (&false.into(), &118.into()));
    assert_eq!(json["changes"], serde_json::json!([]));
    assert_eq!(node.state().revision, 118);
}

#[test]
fn a_wrong_file_is_shown_with_a_caret_and_never_sent() {
    let node = holding(PLAIN);
    let directory = tempfile::tempdir().unwrap();
    let wrong = with_service("rrr").replace("/32", "/33");
    let file = file(directory.path(), "web.toml", &wrong);
    for command in ["apply", "diff"] {
        let ran = node.quorate(&[command, &file]).ends(1);
        assert!(ran.stderr.contains(&format!("{file}:3:")), "{ran:#?}");
        assert!(ran.stderr.contains("rrr"), "every error at once: {ran:#?}");
        assert!(ran.stderr.contains('^'), "{ran:#?}");
        assert_eq!(ran.stdout, "");
    }
    assert_eq!(node.state().applies, 0);
}

#[test]
fn a_wrong_file_is_refused_even_where_no_node_runs() {
    let directory = tempfile::tempdir().unwrap();
    let file = file(directory.path(), "web.toml", "[group.web\n");
    let ran = quorate(&["--endpoint", "unix:/nowhere", "apply", &file]).ends(1);
    assert!(ran.stderr.contains(&format!("{file}:1:")), "{ran:#?}");
}

#[test]
fn deleting_needs_yes_where_nobody_can_be_asked() {
    let node = holding(&with_service("rr"));
    let directory = tempfile::tempdir().unwrap();
    let file = file(directory.path(), "web.toml", PLAIN);
    let ran = node.quorate(&["apply", &file]).ends(2);
    assert!(ran.stderr.contains("! deletes service web tcp/192.168.10.180:80"), "{ran:#?}");
    assert!(ran.stderr.contains("--yes"), "{ran:#?}");
    assert_eq!(node.state().revision, 118);
    assert_eq!(node.state().applies, 0);

    node.quorate(&["apply", &file, "--yes"]).ends(0);
    assert_eq!(node.state().revision, 119);
}

#[test]
fn what_takes_nothing_away_is_not_asked_about() {
    let node = holding(&with_service("rr"));
    let directory = tempfile::tempdir().unwrap();
    let file = file(directory.path(), "web.toml", &with_service("wlc"));
    let ran = node.quorate(&["apply", &file]).ends(0);
    assert!(ran.stderr.contains("~ scheduler rr -> wlc"), "{ran:#?}");
    assert_eq!(ran.stdout, "Revision 119 is in force.\n");
}

#[test]
fn a_moved_group_is_asked_about() {
    let node = holding(&format!("{PLAIN}prefer = [\"lb1\", \"lb2\"]\n"));
    let directory = tempfile::tempdir().unwrap();
    let file = file(directory.path(), "web.toml", &format!("{PLAIN}prefer = [\"lb2\", \"lb1\"]\n"));
    node.quorate(&["apply", &file]).ends(2);
    assert_eq!(node.state().revision, 118);
}

#[test]
fn another_revision_than_expected_is_a_conflict() {
    let node = holding(PLAIN);
    let directory = tempfile::tempdir().unwrap();
    let file = file(directory.path(), "web.toml", &with_service("rr"));
    let ran = node.quorate(&["apply", &file, "--expect-revision", "117"]).ends(6);
    assert!(ran.stderr.contains("revision 118 is in force"), "{ran:#?}");
    assert!(ran.stderr.contains("quorate diff"), "{ran:#?}");
    node.quorate(&["apply", &file, "--expect-revision", "118"]).ends(0);
}

#[test]
fn a_dry_run_changes_nothing_and_asks_nothing() {
    let node = holding(&with_service("rr"));
    let directory = tempfile::tempdir().unwrap();
    let file = file(directory.path(), "web.toml", PLAIN);
    let ran = node.quorate(&["apply", &file, "--dry-run"]).ends(0);
    assert!(ran.stdout.contains("nothing was changed"), "{ran:#?}");
    assert_eq!(node.state().revision, 118);
}

#[test]
fn diff_shows_the_changes_and_the_command_that_makes_exactly_them() {
    let node = holding(&with_service("rr"));
    let directory = tempfile::tempdir().unwrap();
    let file = file(directory.path(), "web.toml", &with_service("wlc"));
    let ran = node.quorate(&["diff", &file]).ends(0);
    assert_eq!(
        ran.stdout,
        format!(
            "Base: revision 118\n  ~ service web\n      ~ scheduler rr -> wlc  (in place, \
             connections kept)\n1 to change. To apply exactly this:\n  quorate apply {file} \
             --expect-revision 118\n"
        )
    );
    node.quorate(&["diff", &file, "--detailed-exitcode"]).ends(10);
    let json = node.quorate(&["diff", &file, "-o", "json"]).ends(0).json();
    assert_eq!((&json["differs"], &json["revision"]), (&true.into(), &118.into()));
    let change = serde_json::json!([{
        "object": "service", "name": "web", "action": "change",
        "fields": [{ "field": "scheduler", "action": "change", "old": "rr", "new": "wlc" }]
    }]);
    assert_eq!(json["changes"], change);
    assert_eq!(node.state().revision, 118);
}

#[test]
fn diff_of_the_same_ends_with_0_whatever_is_asked_for() {
    let node = holding(PLAIN);
    let directory = tempfile::tempdir().unwrap();
    let file = file(directory.path(), "web.toml", PLAIN);
    let ran = node.quorate(&["diff", &file, "--detailed-exitcode"]).ends(0);
    assert_eq!(ran.stdout, "No differences: revision 118 says the same.\n");
}

#[test]
fn json_is_taken_by_its_name_or_its_brace() {
    let text =
        r#"{ "group": { "web": { "interface": "public", "addresses": ["192.168.10.180/32"] } } }"#;
    let node = holding(PLAIN);
    let directory = tempfile::tempdir().unwrap();
    let file = file(directory.path(), "web.json", text);
    let ran = node.quorate(&["apply", &file]).ends(0);
    assert!(ran.stdout.starts_with("Nothing changes"), "{ran:#?}");
    let socket = node.socket();
    with_input(&["--socket", &socket, "diff", "-", "--detailed-exitcode"], &[], text).ends(0);
}
