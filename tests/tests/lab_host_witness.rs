//! Two directors and a witness, real daemons on the host's kernel: any one of the three may be lost,
//! the witness owns nothing, and it leads. Needs root. Run by `cargo xtask test`.
#![forbid(unsafe_code)]
#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "a test that can't go on ends")]

use std::time::Duration;

use quorate_tests::lab::deployment::{Deployment, VIP, example_hosts};
use quorate_tests::lab::network::Host;

const NODES: [&str; 3] = ["d1", "d2", "w1"];
/// Long past any lease, promise, election, and the quiet before the lead is handed over.
const LIMIT: Duration = Duration::from_secs(60);

const PLAIN_VIP: &str = r#"
[group.web]
interface = "public"
addresses = ["192.168.10.180/32"]
prefer = ["d1", "d2"]
preempt_delay = "1s"
"#;

/// The witness leads, and d1 owns the VIP.
fn deployment(name: &str) -> Deployment {
    let mut hosts = example_hosts().unwrap();
    hosts.push(Host::new("w1", "192.168.10.25/24".parse().unwrap()));
    let mut deployment = Deployment::new(name, &hosts).unwrap();
    deployment.add_director("d1", "192.168.10.80").unwrap();
    deployment.add_director("d2", "192.168.10.23").unwrap();
    deployment.add_witness("w1", "192.168.10.25").unwrap();
    deployment.form(&NODES, "lan").unwrap();
    deployment.apply("d1", PLAIN_VIP).unwrap();
    wait_for_owner(&deployment, "d1", &NODES);
    let epoch = epoch(&deployment, "d1");
    // It was founded on d1, which led at first: the lead leaves the owner by itself.
    deployment
        .wait_for("the witness leads", LIMIT, |deployment| {
            Ok(NODES.iter().all(|node| deployment.leader(node).as_deref() == Some("w1")))
        })
        .unwrap();
    assert_eq!(self::epoch(&deployment, "d1"), epoch, "no VIP moved for it");
    deployment
}

fn epoch(deployment: &Deployment, node: &str) -> u64 {
    deployment.status(node).unwrap()["groups"][0]["epoch"].as_u64().unwrap()
}

/// Waits until this director alone carries the VIP, and all of these nodes name it.
fn wait_for_owner(deployment: &Deployment, owner: &str, named_by: &[&str]) {
    deployment
        .wait_for(&format!("{owner} alone owns the VIP"), LIMIT, |deployment| {
            let named =
                named_by.iter().all(|n| deployment.owner(n, "web").as_deref() == Some(owner));
            Ok(named && deployment.carriers(&NODES, VIP)? == [owner])
        })
        .unwrap();
}

#[test]
fn a_director_is_followed_by_the_other_one_and_never_by_the_witness() {
    let mut deployment = deployment("lab_host_witness_director");
    deployment.kill("d1").unwrap();
    wait_for_owner(&deployment, "d2", &["d2", "w1"]);
    assert_eq!(deployment.leader("d2").as_deref(), Some("w1"), "one death was not two");
    deployment.start("d1").unwrap();
    wait_for_owner(&deployment, "d1", &NODES);
    let status = deployment.status("w1").unwrap();
    let witness = status["nodes"].as_array().unwrap().iter().find(|n| n["name"] == "w1").unwrap();
    assert_eq!(
        (witness["role"].as_str(), &witness["owns"]),
        (Some("witness"), &serde_json::json!([]))
    );
}

#[test]
fn a_witness_that_is_cut_off_moves_no_vip_though_it_led() {
    let deployment = deployment("lab_host_witness_cut");
    let before = epoch(&deployment, "d1");
    deployment.network().cut_silently("w1").unwrap();
    deployment
        .wait_for("a director leads", LIMIT, |deployment| {
            Ok(matches!(deployment.leader("d1").as_deref(), Some("d1" | "d2")))
        })
        .unwrap();
    // What is committed now was decided after the cut.
    deployment.apply("d2", &PLAIN_VIP.replace("\"1s\"", "\"2s\"")).unwrap();
    wait_for_owner(&deployment, "d1", &["d1", "d2"]);
    assert_eq!(epoch(&deployment, "d1"), before);
    deployment.network().heal("w1").unwrap();
    deployment
        .wait_for("the witness is a follower or leads again", LIMIT, |deployment| {
            let status = deployment.status("w1");
            Ok(status.is_some_and(|status| status["cluster"]["revision"] == 2))
        })
        .unwrap();
    wait_for_owner(&deployment, "d1", &NODES);
    assert_eq!(epoch(&deployment, "d1"), before);
}

#[test]
fn a_director_alone_serves_nothing_and_says_why() {
    let mut deployment = deployment("lab_host_witness_quorum");
    for node in ["w1", "d1"] {
        deployment.kill(node).unwrap();
    }
    deployment
        .wait_for("d2 says that there is no quorum, and no VIP is there", LIMIT, |deployment| {
            let status = deployment.quorate("d2", &["status"])?;
            let down = deployment.carriers(&NODES, VIP)?.is_empty();
            Ok(down && status.status.code() == Some(5) && status.stdout.contains("NO QUORUM"))
        })
        .unwrap();
    assert_eq!(deployment.owner("d2", "web"), None);
    deployment.start("w1").unwrap();
    wait_for_owner(&deployment, "d2", &["d2", "w1"]);
}
