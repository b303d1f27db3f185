//! Evacuating, restoring, pausing and resuming, with three real daemons on the host's kernel. Needs
//! root. Run by `cargo xtask test`.
#![forbid(unsafe_code)]
#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "a test that can't go on ends")]

use std::time::Duration;

use quorate_tests::lab::deployment::{Deployment, VIP};
use serde_json::Value;

const NODES: [&str; 3] = ["d1", "d2", "d3"];
/// Long past any lease, promise and election of the `lan` profile.
const LIMIT: Duration = Duration::from_secs(60);
const SECOND_VIP: &str = "192.168.10.181";

/// Two groups on two directors: active/active.
const TWO_GROUPS: &str = r#"
[group.web]
interface = "public"
addresses = ["192.168.10.180/32"]
prefer = ["d1", "d3"]
preempt_delay = "1s"

[group.db]
interface = "public"
addresses = ["192.168.10.181/32"]
only = ["d1", "d2"]
prefer = ["d2"]
preempt_delay = "1s"
"#;

fn deployment(name: &str) -> Deployment {
    let deployment = Deployment::of_three(name, "lan", 1).unwrap();
    deployment.apply("d1", TWO_GROUPS).unwrap();
    wait_for_owners(&deployment, "d1", "d2");
    deployment
}

/// Waits until these directors alone carry the VIPs of web and of db.
fn wait_for_owners(deployment: &Deployment, web: &str, db: &str) {
    deployment
        .wait_for(&format!("web is with {web} and db with {db}"), LIMIT, |deployment| {
            let named =
                |node, group, owner| deployment.owner(node, group).as_deref() == Some(owner);
            let named = |node| named(node, "web", web) && named(node, "db", db);
            Ok(named("d2")
                && deployment.carriers(&NODES, VIP)? == [web]
                && deployment.carriers(&NODES, SECOND_VIP)? == [db])
        })
        .unwrap();
}

fn node(deployment: &Deployment, asked: &str, name: &str) -> Value {
    let status = deployment.status(asked).unwrap();
    status["nodes"].as_array().unwrap().iter().find(|n| n["name"] == name).unwrap().clone()
}

#[test]
fn an_evacuated_director_gives_its_groups_away_and_gets_them_back_after_its_restore() {
    let mut deployment = deployment("lab_host_evacuate");
    let evacuated = deployment.quorate("d2", &["evacuate", "d1", "--yes", "-o", "json"]).unwrap();
    assert_eq!(evacuated.status.code(), Some(0), "{}", evacuated.stderr);
    let told: Value = serde_json::from_str(&evacuated.stdout).unwrap();
    assert_eq!((&told["changed"], &told["staying"]), (&Value::from(true), &serde_json::json!([])));
    // It returned when the VIP was served elsewhere.
    assert_eq!(deployment.owner("d2", "web").as_deref(), Some("d3"));
    assert_eq!(node(&deployment, "d3", "d1")["state"], "evacuated");
    let again = deployment.quorate("d3", &["evacuate", "d1", "--yes"]).unwrap();
    assert_eq!(again.status.code(), Some(0));
    assert!(again.stderr.contains("d1 was evacuated already"), "{}", again.stderr);
    let refused = deployment.quorate("d2", &["transfer", "web", "--to", "d1", "--yes"]).unwrap();
    assert_eq!(refused.status.code(), Some(1));
    assert!(refused.stderr.contains("d1 is evacuated"), "{}", refused.stderr);

    // Over restarts of every daemon, so from a disk, too.
    for name in NODES {
        assert!(deployment.terminate(name).unwrap().success());
    }
    for name in NODES {
        deployment.start(name).unwrap();
    }
    wait_for_owners(&deployment, "d3", "d2");
    assert_eq!(node(&deployment, "d3", "d1")["state"], "evacuated");
    deployment.quorate_ok("d3", &["restore", "d1"]).unwrap();
    wait_for_owners(&deployment, "d1", "d2");
    assert_eq!(node(&deployment, "d3", "d1")["state"], "ready");
}

#[test]
fn a_group_that_nobody_else_may_own_stays_on_its_evacuated_director() {
    let mut deployment = deployment("lab_host_evacuate_stays");
    deployment.kill("d1").unwrap();
    wait_for_owners(&deployment, "d3", "d2");
    let evacuated = deployment.quorate("d3", &["evacuate", "d2", "--yes"]).unwrap();
    assert_eq!(evacuated.status.code(), Some(3), "{}", evacuated.stderr);
    assert!(evacuated.stderr.contains("db stays (d1 is unreachable)"), "{}", evacuated.stderr);
    assert!(deployment.carries("d2", SECOND_VIP).unwrap());
    // As soon as somebody else can take it, it goes.
    deployment.start("d1").unwrap();
    wait_for_owners(&deployment, "d1", "d1");
}

#[test]
fn a_paused_cluster_moves_nothing_but_what_an_operator_asks_for() {
    let mut deployment = deployment("lab_host_evacuate_pause");
    deployment.quorate_ok("d3", &["pause"]).unwrap();
    // A follower tells what it has applied: it learns a heartbeat later that this is committed.
    deployment
        .wait_for("d2 tells of the pause", LIMIT, |deployment| {
            let status = deployment.quorate("d2", &["status"])?;
            let paused = status.stdout.contains("\nPAUSED by local uid 0");
            Ok(paused && status.status.code() == Some(3))
        })
        .unwrap();
    deployment.kill("d1").unwrap();
    deployment
        .wait_for("web has no owner, and nobody takes it", LIMIT, |deployment| {
            let down = deployment.carriers(&["d2", "d3"], VIP)?.is_empty();
            Ok(down && deployment.owner("d2", "web").is_none())
        })
        .unwrap();
    // An operator moves it by hand; and an owner that comes back gets its own.
    deployment.quorate_ok("d2", &["transfer", "web", "--to", "d3", "--yes"]).unwrap();
    wait_for_owners(&deployment, "d3", "d2");
    deployment.kill("d3").unwrap();
    deployment.start("d3").unwrap();
    wait_for_owners(&deployment, "d3", "d2");
    deployment.start("d1").unwrap();
    deployment.quorate_ok("d2", &["transfer", "web", "--auto"]).unwrap();
    deployment.quorate_ok("d2", &["resume"]).unwrap();
    wait_for_owners(&deployment, "d1", "d2");
    assert_eq!(deployment.status("d3").unwrap()["cluster"]["paused"], false);
}
