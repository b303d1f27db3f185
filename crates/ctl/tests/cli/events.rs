//! `events`.

use quorate_api::v1::Event;

use super::fake::{Fault, Node, State};

fn event(sequence: u64, kind: &str, reason: &str) -> Event {
    Event {
        sequence,
        time: format!("2026-01-02T03:04:0{sequence}Z"),
        node: "lb1".to_owned(),
        kind: kind.to_owned(),
        group: Some("web".to_owned()),
        owner: Some("lb1".to_owned()),
        reason: reason.to_owned(),
        ..Event::default()
    }
}

fn node() -> Node {
    let events =
        vec![event(1, "group_up", "first owner"), event(2, "group_down", "the daemon stops")];
    Node::start(State { events, ..State::default() })
}

#[test]
fn events_are_a_line_each_for_people_and_for_programs() {
    let node = node();
    let ran = node.quorate(&["events"]).ends(0);
    assert_eq!(
        ran.stdout,
        "2026-01-02T03:04:01Z  lb1  group_up              web  first owner\n\
         2026-01-02T03:04:02Z  lb1  group_down            web  the daemon stops\n"
    );
    let ran = node.quorate(&["events", "-o", "json"]).ends(0);
    let lines: Vec<serde_json::Value> =
        ran.stdout.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(lines.len(), 2);
    for (line, kind) in lines.iter().zip(["group_up", "group_down"]) {
        assert_eq!(line["api_version"], "quorate/v1");
        assert_eq!(line["event"], kind);
        assert!(line["service"].is_null());
    }
}

#[test]
fn since_and_after_are_asked_of_the_node() {
    let node = node();
    let ran = node.quorate(&["events", "--since", "1h", "--after", "1"]).ends(0);
    assert_eq!(ran.stdout.lines().count(), 1);
    let asked = node.state().events_asked.clone();
    assert_eq!((asked[0].since_ms, asked[0].after), (Some(3_600_000), Some(1)));
    assert!(!asked[0].follow);
}

#[test]
fn who_follows_and_is_cut_off_is_told_how_to_go_on() {
    let ran = node().quorate(&["events", "-f"]).ends(1);
    assert_eq!(ran.stdout.lines().count(), 2);
    assert!(ran.stderr.contains("quorate events -f --after 2"), "{ran:#?}");
}

#[test]
fn a_node_of_no_cluster_has_no_events() {
    let node = Node::failing(Fault::Refuses("not_member", "it belongs to no cluster yet"));
    let ran = node.quorate(&["events"]).ends(1);
    assert!(ran.stderr.contains("quorate init"), "{ran:#?}");
}
