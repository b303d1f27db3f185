//! Break-glass on the host's kernel: two of three daemons are gone for good, and the third goes on
//! alone with `quorated recover`. Needs root. Run by `cargo xtask test`.
#![forbid(unsafe_code)]
#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "a test that can't go on ends")]

use std::time::Duration;

use quorate_tests::lab::deployment::{Deployment, VIP};

const NODES: [&str; 3] = ["d1", "d2", "d3"];
/// Long past any lease, promise and election of the `lan` profile.
const SECONDS: Duration = Duration::from_secs(60);
const PHRASE: &str = "lab without 2 nodes";

const PLAIN_VIP: &str = r#"
[group.web]
interface = "public"
addresses = ["192.168.10.180/32"]
prefer = ["d1", "d2", "d3"]
"#;

/// d1 owned the VIP; it and d2 were killed, and d3 was stopped.
fn lost(name: &str) -> Deployment {
    let mut deployment = Deployment::of_three(name, "lan", 1).unwrap();
    deployment.apply("d1", PLAIN_VIP).unwrap();
    deployment.wait_for("d1 carries the VIP", SECONDS, |d| d.carries("d1", VIP)).unwrap();
    for victim in ["d1", "d2"] {
        deployment.kill(victim).unwrap();
    }
    deployment.terminate("d3").unwrap();
    deployment
}

fn recovered(name: &str) -> Deployment {
    let mut deployment = lost(name);
    let done = deployment.quorated("d3", &["recover", "--confirm", PHRASE]).unwrap();
    assert!(done.status.success(), "{}{}", done.stdout, done.stderr);
    deployment.start("d3").unwrap();
    wait_for_d3_alone(&deployment);
    deployment
}

/// What the dead left in their kernels is gone by now: its lifetime is over.
fn wait_for_d3_alone(deployment: &Deployment) {
    deployment
        .wait_for("d3 alone carries the VIP and says so", SECONDS, |deployment| {
            let carriers = deployment.carriers(&NODES, VIP)?;
            Ok(carriers == ["d3"] && deployment.owner("d3", "web").as_deref() == Some("d3"))
        })
        .unwrap();
}

#[test]
fn a_survivor_serves_alone_and_tolerates_nothing() {
    let mut deployment = recovered("lab_host_recover_alone");
    let status = deployment.status("d3").unwrap();
    assert_eq!(status["cluster"]["voters"], 1);
    assert_eq!(status["cluster"]["failures_tolerated"], 0);
    assert_eq!(status["cluster"]["revision"], 1);
    assert_eq!(status["nodes"].as_array().unwrap().len(), 1);
    assert!(status["groups"][0]["epoch"].as_u64().unwrap() > 1 << 32, "{status}");
    // An empty machine of the same name joins it.
    let data = deployment.folder_of("d1").unwrap().join("data");
    std::fs::rename(&data, data.with_extension("lost")).unwrap();
    deployment.start("d1").unwrap();
    let token = deployment.quorate_ok("d3", &["token", "create"]).unwrap();
    deployment.quorate_ok("d1", &["join", token.trim()]).unwrap();
    assert_eq!(deployment.status("d1").unwrap()["cluster"]["voters"], 2);
}

#[test]
fn nobody_recovers_without_saying_what_is_lost_nor_beside_a_daemon() {
    let mut deployment = lost("lab_host_recover_refused");
    let asked = deployment.quorated("d3", &["recover"]).unwrap();
    assert_eq!(asked.status.code(), Some(1));
    assert!(asked.stdout.contains("d1, d2") && asked.stdout.contains("VIPs"), "{}", asked.stdout);
    assert!(asked.stderr.contains("no terminal"), "{}", asked.stderr);
    let wrong = deployment.quorated("d3", &["recover", "--confirm", "yes"]).unwrap();
    assert_eq!(wrong.status.code(), Some(1), "{}", wrong.stderr);
    deployment.start("d3").unwrap();
    let beside = deployment.quorated("d3", &["recover", "--confirm", PHRASE]).unwrap();
    assert_eq!(beside.status.code(), Some(1));
    assert!(beside.stderr.contains("another quorated"), "{}", beside.stderr);
    // It is still a member of the old cluster, which goes on with two of three.
    deployment.start("d2").unwrap();
    deployment
        .wait_for("an owner of the old cluster", SECONDS, |deployment| {
            Ok(deployment.owner("d2", "web").is_some())
        })
        .unwrap();
}

/// Together they would be a quorum of the lost cluster.
#[test]
fn the_dead_that_return_end_and_never_carry_the_vip() {
    let mut deployment = recovered("lab_host_recover_return");
    for node in ["d1", "d2"] {
        // It may have ended before its socket was asked.
        let _ = deployment.start(node);
    }
    for node in ["d1", "d2"] {
        deployment
            .wait_for(&format!("{node} was told"), SECONDS, |deployment| {
                assert_eq!(deployment.carriers(&NODES, VIP)?, ["d3"]);
                Ok(deployment.log(node)?.contains("recovered without this node"))
            })
            .unwrap();
        assert!(!deployment.wait_for_end(node).unwrap().success());
        assert_eq!(deployment.carriers(&NODES, VIP).unwrap(), ["d3"]);
    }
    assert!(deployment.log("d3").unwrap().contains("was dropped"), "the survivor says who came");
    // For good: it does not ask anybody the next time.
    assert!(deployment.start("d1").is_err());
    assert_eq!(deployment.wait_for_end("d1").unwrap().code(), Some(78), "nobody starts it again");
    assert!(deployment.log("d1").unwrap().contains("goes on without this node"));
    wait_for_d3_alone(&deployment);
}
