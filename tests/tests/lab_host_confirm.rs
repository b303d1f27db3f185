//! Configurations that have to be confirmed, with three real daemons on the host's kernel: the cluster rolls
//! them back by itself. Needs root. Run by `cargo xtask test`.
#![forbid(unsafe_code)]
#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "a test that can't go on ends")]

use std::time::Duration;

use quorate_tests::lab::deployment::{Deployment, VIP};
use serde_json::Value;

const NODES: [&str; 3] = ["d1", "d2", "d3"];
/// Long past any deadline of these tests, and any election of the `lan` profile.
const LIMIT: Duration = Duration::from_secs(90);
const SECOND_VIP: &str = "192.168.10.181";

const WEB: &str = r#"
[group.web]
interface = "public"
addresses = ["192.168.10.180/32"]
"#;

/// The same with a second group.
fn two() -> String {
    format!("{WEB}\n[group.db]\ninterface = \"public\"\naddresses = [\"192.168.10.181/32\"]\n")
}

/// Three directors with revision 1, which is `WEB`.
fn deployment(name: &str) -> Deployment {
    let deployment = Deployment::of_three(name, "lan", 1).unwrap();
    deployment.apply("d1", WEB).unwrap();
    deployment
}

/// Writes a configuration, and gives its path.
fn file(deployment: &Deployment, text: &str) -> String {
    let path = deployment.folder_of("d1").unwrap().join("candidate.toml");
    std::fs::write(&path, text).unwrap();
    path.to_str().unwrap().to_owned()
}

/// Applies this on a node, to be confirmed within this time.
fn try_out(deployment: &Deployment, node: &str, text: &str, within: &str) -> Value {
    let path = file(deployment, text);
    let arguments = ["apply", &path, "--yes", "--no-wait", "--confirm", within, "-o", "json"];
    serde_json::from_str(&deployment.quorate_ok(node, &arguments).unwrap()).unwrap()
}

/// What a node says of the configuration in force: revision, text, and until when it may be confirmed.
fn in_force(deployment: &Deployment, node: &str) -> (u64, String, Value) {
    let shown = deployment.quorate_ok(node, &["config", "get", "-o", "json"]).unwrap();
    let shown: Value = serde_json::from_str(&shown).unwrap();
    let text = shown["text"].as_str().unwrap().to_owned();
    (shown["revision"].as_u64().unwrap(), text, shown["unconfirmed_until"].clone())
}

/// Waits until these nodes say that this revision is in force, confirmed, with this text.
fn wait_for_revision(deployment: &Deployment, nodes: &[&str], revision: u64, text: &str) {
    let wanted = (revision, text.to_owned(), Value::Null);
    deployment
        .wait_for(&format!("revision {revision} is in force"), LIMIT, |deployment| {
            Ok(nodes.iter().all(|node| in_force(deployment, node) == wanted))
        })
        .unwrap();
}

fn wait_for_carriers(deployment: &Deployment, nodes: &[&str], address: &str, count: usize) {
    deployment
        .wait_for(&format!("{count} of them carry {address}"), LIMIT, |deployment| {
            Ok(deployment.carriers(nodes, address)?.len() == count)
        })
        .unwrap();
}

#[test]
fn a_killed_leader_takes_no_deadline_with_it() {
    let mut deployment = deployment("lab_host_confirm");
    let applied = try_out(&deployment, "d2", &two(), "20s");
    assert_eq!((&applied["revision"], &applied["changed"]), (&2.into(), &true.into()));
    wait_for_carriers(&deployment, &NODES, SECOND_VIP, 1);
    let cluster = deployment.status("d2").unwrap()["cluster"].clone();
    assert_eq!(cluster["unconfirmed_until"], applied["unconfirmed_until"]);
    assert!(cluster["unconfirmed_left_ms"].as_u64().unwrap() <= 20_000, "{cluster}");
    let shown = deployment.quorate("d2", &["status"]).unwrap();
    assert!(shown.stdout.contains("revision 2 unconfirmed: reverts in 0:"), "{}", shown.stdout);

    let leader = deployment.leader("d2").unwrap();
    deployment.kill(&leader).unwrap();
    let left: Vec<&str> = NODES.into_iter().filter(|node| *node != leader).collect();
    wait_for_revision(&deployment, &left, 3, WEB);
    // The kernels follow: one VIP is served, the other is gone.
    wait_for_carriers(&deployment, &left, SECOND_VIP, 0);
    wait_for_carriers(&deployment, &left, VIP, 1);
    let history = deployment.quorate_ok(left[0], &["config", "history", "-o", "json"]).unwrap();
    let history: Value = serde_json::from_str(&history).unwrap();
    let states: Vec<&str> = history["revisions"]
        .as_array()
        .unwrap()
        .iter()
        .map(|r| r["state"].as_str().unwrap())
        .collect();
    assert_eq!(states, ["in_force", "rolled_back", "replaced"]);
    assert_eq!(history["revisions"][0]["author"], "the cluster");
    let events = deployment.quorate_ok(left[0], &["events"]).unwrap();
    assert!(events.contains("configuration_reverted"), "{events}");
    // Whoever was away learns of it, and that it is too late.
    deployment.start(&leader).unwrap();
    wait_for_revision(&deployment, &[&leader], 3, WEB);
    let late = deployment.quorate(&leader, &["confirm"]).unwrap();
    assert_eq!(late.status.code(), Some(6), "{}", late.stderr);
}

#[test]
fn what_is_confirmed_stays_and_nothing_else_is_applied_before() {
    let deployment = deployment("lab_host_confirm_stays");
    try_out(&deployment, "d1", &two(), "60s");
    let path = file(&deployment, WEB);
    for arguments in [&["apply", &path, "--yes"][..], &["config", "rollback", "1", "--yes"]] {
        let refused = deployment.quorate("d3", arguments).unwrap();
        assert_eq!(refused.status.code(), Some(6), "{}", refused.stderr);
        assert!(refused.stderr.contains("`quorate confirm` keeps it"), "{}", refused.stderr);
    }
    // Asked for again, it has less time, and is confirmed within that.
    try_out(&deployment, "d3", &two(), "5s");
    let confirmed = deployment.quorate_ok("d3", &["confirm", "--revision", "2"]).unwrap();
    assert_eq!(confirmed, "Confirmed: revision 2 stays in force.\n");
    wait_for_revision(&deployment, &NODES, 2, &two());
    // A later deadline passes, and only its own revision goes.
    try_out(&deployment, "d2", WEB, "6s");
    wait_for_revision(&deployment, &NODES, 4, &two());
    let rolled_back =
        deployment.quorate_ok("d1", &["config", "rollback", "1", "--yes", "--no-wait"]).unwrap();
    assert_eq!(rolled_back, "Revision 5 is in force.\n");
    wait_for_revision(&deployment, &NODES, 5, WEB);
}

#[test]
fn an_abort_goes_back_at_once() {
    let deployment = deployment("lab_host_confirm_abort");
    try_out(&deployment, "d1", &two(), "24h");
    let asked = deployment.quorate("d1", &["abort"]).unwrap();
    assert_eq!(asked.status.code(), Some(2), "a group goes: {}", asked.stderr);
    deployment.quorate_ok("d1", &["abort", "--yes"]).unwrap();
    wait_for_revision(&deployment, &NODES, 3, WEB);
    wait_for_carriers(&deployment, &NODES, SECOND_VIP, 0);
}

#[test]
fn a_restart_of_all_takes_no_deadline_with_it() {
    let mut deployment = deployment("lab_host_confirm_restart");
    try_out(&deployment, "d1", &two(), "15s");
    for name in NODES {
        deployment.kill(name).unwrap();
    }
    for name in NODES {
        deployment.start(name).unwrap();
    }
    wait_for_revision(&deployment, &NODES, 3, WEB);
}

#[test]
fn without_a_majority_nothing_goes_back_until_there_is_one() {
    let mut deployment = deployment("lab_host_confirm_quorum");
    try_out(&deployment, "d1", &two(), "8s");
    deployment.kill("d2").unwrap();
    deployment.kill("d3").unwrap();
    deployment
        .wait_for("the deadline has passed", LIMIT, |deployment| {
            let status = deployment.status("d1");
            Ok(status.is_some_and(|status| status["cluster"]["unconfirmed_left_ms"] == 0))
        })
        .unwrap();
    assert_eq!(in_force(&deployment, "d1").0, 2);
    let refused = deployment.quorate("d1", &["confirm"]).unwrap();
    assert_eq!(refused.status.code(), Some(5), "{}", refused.stderr);
    deployment.start("d2").unwrap();
    wait_for_revision(&deployment, &["d1", "d2"], 3, WEB);
}

#[test]
fn apply_names_the_directors_whose_kernels_do_not_hold_it() {
    let mut deployment = deployment("lab_host_confirm_converges");
    let path = file(&deployment, &two());
    let whole = deployment.quorate("d1", &["apply", &path, "--yes"]).unwrap();
    let status = deployment.status("d1").unwrap();
    // A kernel without ip_vs holds no services; which it has is told, not guessed.
    for node in status["nodes"].as_array().unwrap() {
        let name = node["name"].as_str().unwrap();
        assert_eq!(node["revision"], 2, "{node}");
        let holds = format!("{name}: its kernel holds revision 2\n");
        let named = format!("! {name} does not hold revision 2 yet: ");
        let programmed = node["programmed_revision"] == 2;
        assert_eq!(whole.stderr.contains(&holds), programmed, "{node} {}", whole.stderr);
        assert_eq!(whole.stderr.contains(&named), !programmed, "{node} {}", whole.stderr);
        assert!(programmed || !node["problems"].as_array().unwrap().is_empty(), "{node}");
        assert!(programmed || whole.status.code() == Some(3), "{}", whole.stderr);
    }

    deployment.kill("d3").unwrap();
    let path = file(&deployment, WEB);
    let part = deployment.quorate("d1", &["apply", &path, "--yes"]).unwrap();
    assert_eq!(part.stdout, "Revision 3 is in force.\n");
    assert_eq!(part.status.code(), Some(3), "{}", part.stderr);
    let named = "! d3 does not hold revision 3 yet: unreachable: it applies it when it returns\n";
    assert!(part.stderr.contains(named), "{}", part.stderr);
    deployment.start("d3").unwrap();
    wait_for_revision(&deployment, &["d3"], 3, WEB);
}
