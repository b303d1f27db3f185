//! Three real daemons on the host's kernel with true timing: a plain VIP survives the loss of any
//! of them, and no applied configuration is lost. Needs root. Run by `cargo xtask test`.
#![forbid(unsafe_code)]
#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "a test that can't go on ends")]

use std::collections::BTreeSet;
use std::time::Duration;

use quorate_tests::lab::deployment::{Deployment, VIP};
use quorate_tests::scale::Shape;

const NODES: [&str; 3] = ["d1", "d2", "d3"];
/// Long past any lease, promise and election of the `lan` profile.
const SECONDS: Duration = Duration::from_secs(60);

const PLAIN_VIP: &str = r#"
[group.web]
interface = "public"
addresses = ["192.168.10.180/32"]
prefer = ["d1", "d2", "d3"]
preempt_delay = "1s"
"#;

fn three_directors(name: &str) -> Deployment {
    let deployment = Deployment::of_three(name, "lan", 1).unwrap();
    deployment.apply("d1", PLAIN_VIP).unwrap();
    deployment
}

fn only_carrier(deployment: &Deployment) -> Option<String> {
    match deployment.carriers(&NODES, VIP).unwrap().as_slice() {
        [one] => Some(one.clone()),
        _ => None,
    }
}

/// Waits until this director alone carries the VIP, and all of these nodes name it.
fn wait_for(deployment: &Deployment, owner: &str, named_by: &[&str]) {
    let what = format!("{owner} alone owns the VIP, and {named_by:?} say so");
    deployment
        .wait_for(&what, SECONDS, |deployment| {
            let named: BTreeSet<Option<String>> =
                named_by.iter().map(|node| deployment.owner(node, "web")).collect();
            Ok(only_carrier(deployment).as_deref() == Some(owner)
                && named == [Some(owner.to_owned())].into())
        })
        .unwrap();
}

fn others(node: &str) -> Vec<&'static str> {
    NODES.into_iter().filter(|other| *other != node).collect()
}

#[test]
fn a_plain_vip_survives_the_loss_of_each_daemon() {
    let mut deployment = three_directors("lab_host_cluster_kill");
    wait_for(&deployment, "d1", &NODES);
    for (revision, victim) in NODES.into_iter().enumerate() {
        deployment.kill(victim).unwrap();
        let survivors = others(victim);
        wait_for(&deployment, survivors[0], &survivors);
        // Written without the victim, by whoever leads now, over whoever is asked.
        let changed = PLAIN_VIP.replace("\"1s\"", &format!("\"{}s\"", revision + 2));
        deployment.apply(survivors[1], &changed).unwrap();
        deployment.start(victim).unwrap();
        deployment
            .wait_for("the configuration on the restarted node", SECONDS, |deployment| {
                let status = deployment.status(victim);
                let found = status.and_then(|s| s["cluster"]["revision"].as_u64());
                Ok(found == Some(revision as u64 + 2))
            })
            .unwrap();
        // The group returns to the preferred.
        wait_for(&deployment, "d1", &NODES);
    }
}

/// Fifty thousand real servers are one entry of the log, of some megabytes; nobody may take its
/// writer or its readers for dead, and no owner's lease may lapse for it.
#[test]
fn a_large_configuration_is_taken_and_moves_nothing() {
    let deployment = Deployment::of_three("lab_host_cluster_large", "lan", 1).unwrap();
    deployment.apply("d1", PLAIN_VIP).unwrap();
    wait_for(&deployment, "d1", &NODES);
    let epoch = |deployment: &Deployment| {
        deployment.status("d1").and_then(|status| status["groups"][1]["epoch"].as_u64())
    };
    let large = "\n[group.large]\ninterface = \"public\"\naddresses = [\"192.168.10.181/32\"]\n";
    let services = Shape::LARGE.services_toml(1);
    let services = services.replace("\"web\"", "\"large\"").replace(VIP, "192.168.10.181");
    deployment.apply("d1", &format!("{PLAIN_VIP}{large}")).unwrap();
    let before = epoch(&deployment);
    for from in ["d2", "d3"] {
        let weight = if from == "d2" { "weight = 1" } else { "weight = 2" };
        let text = format!("{PLAIN_VIP}{large}{}", services.replace("weight = 1", weight));
        deployment.apply(from, &text).unwrap();
    }
    deployment
        .wait_for("every director to have it", SECONDS, |deployment| {
            let has = |node: &&str| {
                let status = deployment.status(node)?;
                (status["cluster"]["revision"] == 4).then_some(())
            };
            Ok(NODES.iter().all(|node| has(node).is_some()))
        })
        .unwrap();
    assert!(before.is_some());
    assert_eq!(epoch(&deployment), before, "the group was granted anew");
    assert_eq!(only_carrier(&deployment).as_deref(), Some("d1"));
}

#[test]
fn a_cut_owner_gives_the_vip_up_and_names_nobody() {
    let deployment = three_directors("lab_host_cluster_cut");
    wait_for(&deployment, "d1", &NODES);
    // Behind the switch: the owner keeps its carrier and only its lease can tell it.
    deployment.network().cut_silently("d1").unwrap();
    wait_for(&deployment, "d2", &["d2", "d3"]);
    assert!(!deployment.carries("d1", VIP).unwrap());
    assert_eq!(deployment.owner("d1", "web"), None, "a cut-off node does not name itself");
    deployment.network().heal("d1").unwrap();
    wait_for(&deployment, "d1", &NODES);
}

#[test]
fn a_director_cut_off_from_the_other_two_alone_is_no_owner() {
    let deployment = three_directors("lab_host_cluster_partition");
    wait_for(&deployment, "d1", &NODES);
    for victim in NODES {
        let rest = others(victim);
        deployment.network().partition(victim, &rest).unwrap();
        wait_for(&deployment, rest[0], &rest);
        deployment.network().heal_partitions().unwrap();
        wait_for(&deployment, "d1", &NODES);
    }
}

#[test]
fn a_planned_move_and_a_clean_stop_leave_one_owner() {
    let mut deployment = three_directors("lab_host_cluster_move");
    wait_for(&deployment, "d1", &NODES);
    deployment.quorate_ok("d2", &["transfer", "web", "--to", "d3", "--yes"]).unwrap();
    wait_for(&deployment, "d3", &NODES);
    // A pin holds: d1 is preferred, and does not get it back.
    let status = deployment.status("d1").unwrap();
    assert!(status["groups"][0]["reason"].as_str().unwrap().contains("pinned to d3"), "{status}");
    assert!(deployment.terminate("d3").unwrap().success());
    assert!(!deployment.carries("d3", VIP).unwrap(), "a clean stop takes the VIP along");
    wait_for(&deployment, "d1", &["d1", "d2"]);
}

#[test]
fn a_removed_node_is_no_member_and_owns_nothing() {
    let deployment = three_directors("lab_host_cluster_remove");
    wait_for(&deployment, "d1", &NODES);
    deployment.quorate_ok("d2", &["node", "remove", "d1", "--yes"]).unwrap();
    wait_for(&deployment, "d2", &["d2", "d3"]);
    assert!(!deployment.carries("d1", VIP).unwrap());
    let status = deployment.status("d2").unwrap();
    assert_eq!(status["nodes"].as_array().unwrap().len(), 2);
    assert_eq!(status["cluster"]["failures_tolerated"], 0);
}

#[test]
fn without_a_majority_a_write_takes_nothing_and_says_so() {
    let mut deployment = three_directors("lab_host_cluster_minority");
    wait_for(&deployment, "d1", &NODES);
    // No connection to a dead leader can be made, so the write never leaves d3.
    for victim in ["d1", "d2"] {
        deployment.kill(victim).unwrap();
    }
    let file = deployment.folder_of("d3").unwrap().join("changed.toml");
    std::fs::write(&file, PLAIN_VIP.replace("\"1s\"", "\"9s\"")).unwrap();
    let applied =
        deployment.quorate("d3", &["apply", "--yes", "--no-wait", file.to_str().unwrap()]).unwrap();
    assert_eq!(applied.status.code(), Some(5), "{}", applied.stderr);
    for node in ["d1", "d2"] {
        deployment.start(node).unwrap();
    }
    wait_for(&deployment, "d1", &NODES);
    assert_eq!(deployment.status("d3").unwrap()["cluster"]["revision"], 1);
}
