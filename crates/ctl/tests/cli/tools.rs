//! `history`, `watch`, `doctor` and `support-bundle`.

use quorate_api::v1::{Event, Health};

use super::fake::{Cluster, Fault, Node, State};
use super::run::quorate;
use super::status::answered;

const CONFIGURATION: &str = include_str!("../../../../examples/web.toml");

fn node() -> Node {
    let source = CONFIGURATION.to_owned();
    Node::start(State { status: answered(Health::Ok), source, revision: 7, ..State::default() })
}

fn moved(node: &str, kind: &str, sequence: u64) -> Event {
    Event {
        sequence,
        node: node.to_owned(),
        time: format!("2026-01-02T03:04:0{sequence}.000Z"),
        kind: kind.to_owned(),
        group: Some("web".to_owned()),
        epoch: Some(17),
        owner: Some("lb2".to_owned()),
        previous_owner: (kind == "owner_changed").then(|| "lb1".to_owned()),
        reason: "owner silent".to_owned(),
        gap_ms: (kind == "group_up").then_some(738),
        ..Event::default()
    }
}

#[test]
fn history_asks_every_endpoint_and_makes_one_row_of_one_grant() {
    let telling = |events| Node::start(State { events, ..State::default() });
    let first = telling(vec![moved("lb1", "owner_changed", 2)]);
    let owner = telling(vec![moved("lb2", "owner_changed", 1), moved("lb2", "group_up", 3)]);
    let ran = first.quorate(&["history"]).ends(0);
    assert_eq!(
        ran.stdout,
        "TIME                      GROUP  FROM  TO   EPOCH  GAP  REASON\n\
         2026-01-02T03:04:02.000Z  web    lb1   lb2  17     -    owner silent\n"
    );
    assert!(ran.stderr.contains("name every node with --endpoint"), "{ran:#?}");
    let away = Node::of(&Cluster::default(), Fault::Refuses("not_member", "of no cluster"));
    let all = [first.endpoint(), owner.endpoint(), away.endpoint()].join(",");
    let ran = quorate(&["--endpoint", &all, "history", "web", "--since", "1h"]).ends(0);
    assert!(
        ran.stdout.contains("2026-01-02T03:04:01.000Z  web    lb1   lb2  17     738ms"),
        "{ran:#?}"
    );
    assert!(ran.stderr.contains("did not answer: of no cluster"), "{ran:#?}");
    assert_eq!(owner.state().events_asked[0].since_ms, Some(3_600_000));
    let json = quorate(&["--endpoint", &all, "history", "-o", "json"]).ends(0).json();
    assert_eq!(json["told_by"], serde_json::json!(["lb1", "lb2"]));
    assert_eq!(json["moves"][0]["gap_ms"], 738);
    let none = first.quorate(&["history", "wep"]).ends(0);
    assert!(none.stdout.is_empty() && none.stderr.contains("No move of wep"), "{none:#?}");
    away.quorate(&["history"]).ends(1);
}

#[test]
fn watch_prints_everything_once_and_then_what_changed() {
    let mut status = answered(Health::Ok);
    status.groups[0].lease_remaining_ms = None;
    // The second look finds the lease there, which is no news; the third what an operator did.
    let node = Node::start(State { status, ..State::default() });
    let ran = node.quorate(&["watch", "--count", "1"]).ends(0);
    assert!(ran.stdout.contains("  groups.web.owner: - -> lb1\n"), "{ran:#?}");
    assert!(!ran.stdout.contains("lease_remaining_ms"), "{ran:#?}");
    let all = ran.stdout.lines().count();
    let ran = node.quorate(&["watch", "--count", "3", "--interval", "10ms"]).ends(0);
    assert_eq!(ran.stdout.lines().count(), all, "nothing changed");
    let ran = node.quorate(&["watch", "services", "--count", "1", "-o", "json"]).ends(0);
    let line: serde_json::Value = serde_json::from_str(ran.stdout.trim()).unwrap();
    assert_eq!(line["api_version"], "quorate/v1");
    let fields: Vec<&str> =
        line["changes"].as_array().unwrap().iter().filter_map(|c| c["field"].as_str()).collect();
    assert!(fields.contains(&"services.web.real_servers.192.168.10.16:80.state"), "{fields:?}");
    assert!(fields.iter().all(|field| field.starts_with("services.")), "{fields:?}");
    quorate(&["--socket", "/nowhere.sock", "watch"]).ends(4);
    node.quorate(&["watch", "--count", "0"]).ends(2);
}

#[test]
fn doctor_looks_at_this_machine_and_its_exit_codes_say_how_it_is() {
    let folder = tempfile::tempdir().unwrap();
    let node_file = folder.path().join("node.toml");
    let text = format!(
        "name = \"lb1\"\nrole = \"director\"\ndata_dir = {:?}\nlink = [{{ name = \"lan\", listen = \"192.0.2.1:7400\" }}]\n\
         [interfaces]\npublic = \"no-such-dev\"\n",
        folder.path()
    );
    std::fs::write(&node_file, text).unwrap();
    let cluster = folder.path().join("cluster.toml");
    std::fs::write(&cluster, CONFIGURATION).unwrap();
    let arguments = |more: &[&str]| {
        let given = ["doctor", "--pre", "--node", node_file.to_str().unwrap(), "--cluster"];
        let given = given.iter().copied().chain([cluster.to_str().unwrap()]);
        quorate(&given.chain(more.iter().copied()).collect::<Vec<_>>())
    };
    // The device that node.toml names is not there, on whatever machine this runs.
    let ran = arguments(&[]).ends(1);
    assert!(ran.stdout.contains("FAIL  no-such-dev: there is no such device"), "{ran:#?}");
    assert!(ran.stdout.contains("        fix: name the right one in [interfaces]"), "{ran:#?}");
    let json = arguments(&["-o", "json"]).ends(1).json();
    let findings = json["findings"].as_array().unwrap();
    assert!(findings.iter().any(|f| f["on"] == "no-such-dev" && f["level"] == "fail"));
    let failures = findings.iter().filter(|f| f["level"] == "fail").count();
    assert_eq!(json["failures"], failures);
    let ran = arguments(&["-o", "nagios"]).ends(2);
    assert!(ran.stdout.starts_with("QUORATE CRITICAL: "), "{ran:#?}");
    assert_eq!(ran.stdout.lines().count(), 1);
    // It could not look.
    std::fs::write(&cluster, "wrong").unwrap();
    let ran = arguments(&["-o", "nagios"]).ends(3);
    assert!(ran.stdout.starts_with("QUORATE UNKNOWN: "), "{ran:#?}");
    arguments(&[]).ends(1);
    assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 2, "nothing is left behind");
    node().quorate(&["status", "-o", "nagios"]).ends(2);
}

#[test]
fn a_support_bundle_is_a_tar_for_its_owner_alone_and_replaces_nothing() {
    use std::os::unix::fs::PermissionsExt as _;
    let folder = tempfile::tempdir().unwrap();
    let node_file = folder.path().join("node.toml");
    std::fs::write(&node_file, "name = \"lb1\"\npassword = \"hunter2\"\n").unwrap();
    let file = folder.path().join("lb1.tar");
    let arguments = [
        "support-bundle",
        file.to_str().unwrap(),
        "--node",
        node_file.to_str().unwrap(),
        "-o",
        "json",
    ];
    let node = node();
    let json = node.quorate(&arguments).ends(0).json();
    let texts: Vec<&str> =
        json["texts"].as_array().unwrap().iter().filter_map(|text| text.as_str()).collect();
    for text in ["status.json", "events.jsonl", "configuration.txt", "node.toml", "doctor.txt"] {
        assert!(texts.contains(&text), "{text}: {json:#}");
    }
    let bytes = std::fs::read(&file).unwrap();
    let text = String::from_utf8_lossy(&bytes);
    assert!(text.contains("preempt_delay = \"5s\"") && !text.contains("hunter2"));
    assert_eq!(std::fs::metadata(&file).unwrap().permissions().mode() & 0o777, 0o600);
    node.quorate(&arguments).ends(1);
    assert_eq!(std::fs::read(&file).unwrap(), bytes);
    // Without a cluster there is a bundle still, which says what is not in it.
    let other = folder.path().join("other.tar");
    let arguments = ["--socket", "/nowhere.sock", "support-bundle", other.to_str().unwrap()];
    let ran = quorate(&arguments).ends(0);
    assert!(ran.stderr.contains("left out: status: "), "{ran:#?}");
}
