//! Three real daemons with two links each: the death of either link of the owner moves nothing, and
//! is seen. Needs root. Run by `cargo xtask test`.
#![forbid(unsafe_code)]
#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "a test that can't go on ends")]

use std::process::Command;
use std::time::Duration;

use quorate_tests::lab::artefacts_dir;
use quorate_tests::lab::deployment::{Deployment, VIP};
use quorate_tests::lab::network::INTERFACE;
use serde_json::Value;

const NODES: [&str; 3] = ["d1", "d2", "d3"];
/// Long past any lease, promise and election of the `lan` profile.
const SECONDS: Duration = Duration::from_secs(60);
/// How often the status is looked at while a link is cut: several leases in all, since each look
/// asks three daemons.
const LOOKS: usize = 30;

const PLAIN_VIP: &str = r#"
[group.web]
interface = "public"
addresses = ["192.168.10.180/32"]
prefer = ["d1", "d2", "d3"]
"#;

fn with_two_links(name: &str) -> Deployment {
    let deployment = Deployment::of_three(name, "lan", 2).unwrap();
    deployment.apply("d1", PLAIN_VIP).unwrap();
    deployment
}

/// The links of d1, by its own word and by the others': up or down.
fn links_of_d1(status: &Value, link: &str) -> Vec<Option<bool>> {
    let nodes = status["nodes"].as_array().unwrap();
    let of = |from: &str, to: &str| {
        let node = nodes.iter().find(|node| node["name"] == from)?;
        let mut links = node["links"].as_array()?.iter();
        links.find(|l| l["name"] == link && l["to"] == to)?["up"].as_bool()
    };
    vec![of("d1", "d2"), of("d1", "d3"), of("d2", "d1"), of("d3", "d1")]
}

fn wait_for_links(deployment: &Deployment, lan: bool, heartbeat: bool) -> Value {
    let what = format!("d1's link lan up: {lan}, heartbeat up: {heartbeat}");
    let mut last = Value::Null;
    deployment
        .wait_for(&what, SECONDS, |deployment| {
            let Some(status) = deployment.status("d2") else { return Ok(false) };
            let seen = links_of_d1(&status, "lan") == [Some(lan); 4]
                && links_of_d1(&status, "heartbeat") == [Some(heartbeat); 4];
            last = status;
            Ok(seen)
        })
        .unwrap();
    last
}

/// What must stay: owner, epoch, Raft's leader and term.
fn standing(status: &Value) -> [Value; 4] {
    let (group, cluster) = (&status["groups"][0], &status["cluster"]);
    [&group["owner"], &group["epoch"], &cluster["leader"], &cluster["term"]].map(Value::clone)
}

#[test]
fn the_death_of_either_link_of_the_owner_moves_nothing_and_is_seen() {
    let name = "lab_host_links";
    let deployment = with_two_links(name);
    let healthy = |deployment: &Deployment| {
        deployment
            .wait_for("d1 owns the VIP, and all is well", SECONDS, |deployment| {
                let Some(status) = deployment.status("d2") else { return Ok(false) };
                Ok(status["groups"][0]["owner"] == "d1" && status["cluster"]["health"] == "ok")
            })
            .unwrap();
        wait_for_links(deployment, true, true)
    };
    let before = standing(&healthy(&deployment));
    // A lease that lapses takes the address away, were it for a moment.
    let log = artefacts_dir().join(name).join("addresses.log");
    let mut monitor = Command::new("ip");
    monitor.args(["monitor", "address"]);
    let _monitor = deployment.network().spawn("d1", &mut monitor, &log).unwrap();
    let network = deployment.network();
    for link in ["heartbeat", "lan", "heartbeat"] {
        let lan = link == "lan";
        if lan { network.cut_silently("d1") } else { network.cut_second_silently("d1") }.unwrap();
        let seen = wait_for_links(&deployment, !lan, lan);
        assert_eq!(seen["cluster"]["health"], "degraded", "{seen:#}");
        let problems = seen["nodes"][0]["problems"].to_string();
        assert!(problems.contains(&format!("link {link} to d2 is down")), "{problems}");
        for _ in 0..LOOKS {
            for node in NODES {
                let status = deployment.status(node).unwrap();
                assert_eq!(standing(&status), before, "{link} cut, by {node}: {status:#}");
                assert!(status["groups"][0]["lease_remaining_ms"].is_u64(), "{status:#}");
            }
        }
        if lan { network.heal("d1") } else { network.heal_second("d1") }.unwrap();
        assert_eq!(standing(&healthy(&deployment)), before, "{link} healed");
    }
    assert!(deployment.carries("d1", VIP).unwrap());
    let log = std::fs::read_to_string(log).unwrap();
    // The monitor writes a line for each refresh of the address's lifetime.
    assert!(log.contains(VIP), "the monitor saw nothing: {log}");
    let gone = log.lines().filter(|line| line.contains("Deleted") && line.contains(VIP));
    assert_eq!(gone.count(), 0, "the VIP went away on {INTERFACE}: {log}");
}
