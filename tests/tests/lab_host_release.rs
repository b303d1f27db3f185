//! What a dead daemon held is free at once, on the host's kernel; and `quorated purge` takes out all
//! that is ours. Needs root. Run by `cargo xtask test`.
#![forbid(unsafe_code)]
#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "a test that can't go on ends")]

use std::time::Duration;

use quorate_tests::lab::deployment::{Deployment, VIP};

const NODES: [&str; 3] = ["d1", "d2", "d3"];
/// Long past any lease, promise and election.
const SECONDS: Duration = Duration::from_secs(60);

const PLAIN_VIP: &str = r#"
[cluster]
timing = { lease = "20s", renew = "1s" }
[group.web]
interface = "public"
addresses = ["192.168.10.180/32"]
prefer = ["d1", "d2", "d3"]
"#;

const VIP_LINE: &str = "eth0 192.168.10.180/32\n";

/// d1 owns the VIP for twenty seconds whatever happens to it, but for a release.
fn owned_by_d1(name: &str) -> Deployment {
    let mut deployment = Deployment::of_three(name, "lan", 1).unwrap();
    for node in NODES {
        assert!(deployment.terminate(node).unwrap().success());
    }
    // What the unit allows has to be enough.
    for node in NODES {
        deployment.start_as_the_unit(node).unwrap();
    }
    deployment.apply("d1", PLAIN_VIP).unwrap();
    deployment
        .wait_for("d1 alone owns the VIP, and says so", SECONDS, |deployment| {
            let owner = deployment.owner("d2", "web");
            Ok(deployment.carriers(&NODES, VIP)? == ["d1"] && owner.as_deref() == Some("d1"))
        })
        .unwrap();
    deployment
}

#[test]
fn a_killed_daemons_vip_goes_to_the_next_director_long_before_its_lease_ends() {
    let mut deployment = owned_by_d1("lab_host_release_killed");
    let lease_of_d1 = deployment.status("d2").unwrap()["groups"][0]["lease_remaining_ms"].clone();
    deployment.kill("d1").unwrap();
    let released = deployment.quorated("d1", &["release"]).unwrap();
    assert!(released.status.success(), "{}", released.stderr);
    assert!(released.stderr.contains("told=2"), "{}", released.stderr);
    // Closed before it was told: d1's own address is gone when the command returns.
    assert!(!deployment.carries("d1", VIP).unwrap());
    deployment
        .wait_for("the VIP on d2", SECONDS, |deployment| {
            Ok(deployment.carriers(&NODES, VIP)? == ["d2"])
        })
        .unwrap();
    let status = deployment.status("d2").unwrap();
    let group = &status["groups"][0];
    // Nobody suspected d1: the lease and the suspicion that goes with it are too long for that.
    let reason = group["reason"].as_str().unwrap();
    assert!(reason.contains("owner not eligible"), "{reason}; d1's lease was {lease_of_d1}");
    // There is nothing left to do, and nothing is said about it.
    let again = deployment.quorated("d1", &["release"]).unwrap();
    assert!(again.status.success() && again.stderr.is_empty(), "{}", again.stderr);
}

#[test]
fn beside_a_living_daemon_nothing_is_released() {
    let deployment = owned_by_d1("lab_host_release_alive");
    for command in ["release", "purge"] {
        let refused = deployment.quorated("d1", &[command]).unwrap();
        assert_eq!(refused.status.code(), Some(1));
        assert!(refused.stderr.contains("another quorated (pid"), "{}", refused.stderr);
        assert!(deployment.carries("d1", VIP).unwrap());
        assert_eq!(deployment.owner("d2", "web").as_deref(), Some("d1"));
    }
}

#[test]
fn after_a_clean_stop_there_is_nothing_to_release() {
    let mut deployment = owned_by_d1("lab_host_release_stopped");
    assert!(deployment.terminate("d1").unwrap().success());
    let released = deployment.quorated("d1", &["release"]).unwrap();
    assert!(released.status.success() && released.stderr.is_empty(), "{}", released.stderr);
}

fn filters(deployment: &Deployment) -> String {
    let host = deployment.network().namespace("d1").unwrap();
    let show = |side| {
        let show = format!("tc filter show dev eth0 {side}");
        host.run_ok(&show, Duration::from_secs(30)).unwrap()
    };
    show("ingress") + &show("egress")
}

#[test]
fn a_purge_leaves_nothing_of_ours_and_what_is_anothers() {
    let mut deployment = owned_by_d1("lab_host_release_purge");
    deployment.kill("d1").unwrap();
    let host = deployment.network().namespace("d1").unwrap();
    let limit = Duration::from_secs(30);
    // A fence of its own, so that there is one to take off, whoever put the VIP there.
    let released = deployment.quorated("d1", &["release"]).unwrap();
    assert!(released.status.success(), "{}", released.stderr);
    let put_back = format!("ip address add {VIP}/32 dev eth0");
    host.run_ok(&put_back, limit).unwrap();
    std::fs::write(deployment.folder_of("d1").unwrap().join("data/vips"), VIP_LINE).unwrap();
    assert!(filters(&deployment).contains("handle 0x51554f52"), "a fence stands");
    let foreign = "ip address add 192.168.10.199/32 dev eth0";
    host.run_ok(foreign, limit).unwrap();
    let purged = deployment.quorated("d1", &["purge"]).unwrap();
    assert!(purged.status.success(), "{}", purged.stderr);
    assert!(purged.stdout.contains("removed VIP 192.168.10.180/32 from eth0"), "{}", purged.stdout);
    assert!(!deployment.carries("d1", VIP).unwrap());
    assert!(deployment.carries("d1", "192.168.10.199").unwrap());
    assert_eq!(filters(&deployment), "", "no fence stands");
    let again = deployment.quorated("d1", &["purge"]).unwrap();
    assert!(again.status.success() && !again.stdout.contains("removed"), "{}", again.stdout);
}
