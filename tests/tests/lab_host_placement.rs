//! What directors find out about themselves moves a group, or does not: arbitration, tracks, and a
//! stranger that has the VIP before the first claim. Real daemons on the host's kernel, true
//! timing, plain VIPs. Needs root. Run by `cargo xtask test`.
#![forbid(unsafe_code)]
#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "a test that can't go on ends")]

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::time::Duration;

use quorate_tests::lab::deployment::{Deployment, VIP};
use quorate_tests::lab::network::INTERFACE;

const NODES: [&str; 3] = ["d1", "d2", "d3"];
/// Long past any lease, promise and election of the `lan` profile.
const SECONDS: Duration = Duration::from_secs(60);
/// The host that stands for the gateway.
const GATEWAY: &str = "client";
/// How often a state that must stay is looked at.
const LOOKS: u32 = 20;

fn group(lines: &str) -> String {
    format!(
        "[group.web]\ninterface = \"public\"\naddresses = [\"{VIP}/32\"]\n\
         prefer = [\"d1\", \"d2\", \"d3\"]\npreempt_delay = \"1s\"\n{lines}\n"
    )
}

fn three_directors(name: &str) -> Deployment {
    Deployment::of_three(name, "lan", 1).unwrap()
}

/// Waits until this director alone carries the VIP, and d3 names it as the owner.
fn wait_for(deployment: &Deployment, owner: &str) {
    deployment
        .wait_for(&format!("{owner} alone owns the VIP"), SECONDS, |deployment| {
            let carriers = deployment.carriers(&NODES, VIP)?;
            Ok(carriers == [owner] && deployment.owner("d3", "web").as_deref() == Some(owner))
        })
        .unwrap();
}

/// What a node's problems are, as another one shows them.
fn problems(deployment: &Deployment, node: &str) -> String {
    let status = deployment.status("d3").unwrap_or_default();
    let nodes = status["nodes"].as_array().cloned().unwrap_or_default();
    let node = nodes.iter().find(|found| found["name"] == *node);
    node.map(|node| node["problems"].to_string()).unwrap_or_default()
}

fn wait_for_problem(deployment: &Deployment, node: &str, text: &str) {
    deployment
        .wait_for(&format!("{node} says {text:?}"), SECONDS, |deployment| {
            Ok(problems(deployment, node).contains(text))
        })
        .unwrap();
}

fn wait_for_no_problem(deployment: &Deployment, node: &str, text: &str) {
    deployment
        .wait_for(&format!("{node} no longer says {text:?}"), SECONDS, |deployment| {
            let problems = problems(deployment, node);
            Ok(problems.starts_with('[') && !problems.contains(text))
        })
        .unwrap();
}

fn epoch(deployment: &Deployment) -> u64 {
    deployment.status("d3").unwrap()["groups"][0]["epoch"].as_u64().unwrap()
}

#[test]
fn a_gateway_that_the_owner_alone_has_lost_moves_the_group_and_one_that_all_have_lost_does_not() {
    let deployment = three_directors("lab_host_placement_arbitration");
    let arbitration = "cluster.arbitration = [\"192.168.10.100\"]\n";
    deployment.apply("d1", &format!("{arbitration}{}", group(""))).unwrap();
    wait_for(&deployment, "d1");

    // The owner keeps its carrier, and every other node: only the gateway is out of its reach.
    deployment.network().partition("d1", &[GATEWAY]).unwrap();
    wait_for(&deployment, "d2");
    let lost = "arbitration address 192.168.10.100: ";
    wait_for_problem(&deployment, "d1", lost);
    wait_for_problem(&deployment, "d1", "can't own web: it reaches no arbitration address");
    assert!(!problems(&deployment, "d2").contains("arbitration"));
    deployment.network().heal_partitions().unwrap();
    wait_for(&deployment, "d1");

    let before = epoch(&deployment);
    deployment.network().cut_silently(GATEWAY).unwrap();
    for node in NODES {
        wait_for_problem(&deployment, node, lost);
    }
    for _ in 0..LOOKS {
        assert_eq!(epoch(&deployment), before, "nobody reaches it, so nothing moves");
        assert!(deployment.carries("d1", VIP).unwrap());
    }
    deployment.network().heal(GATEWAY).unwrap();
    for node in NODES {
        wait_for_no_problem(&deployment, node, lost);
    }
    assert_eq!(epoch(&deployment), before, "nor as it comes back");
}

#[test]
fn a_failed_track_moves_the_group_and_says_why_and_a_passing_one_brings_it_back() {
    let deployment = three_directors("lab_host_placement_track");
    let folder = deployment.folder_of("d1").unwrap().to_owned();
    // Every director looks at the same files here, so each has its own: by its own address.
    let flag = folder.join("d1-is-in-maintenance");
    let check = folder.join("check");
    let script = "#!/bin/sh\nip -o address show | grep -q 192.168.10.80/ || exit 0\n";
    fs::write(&check, format!("{script}test ! -e {}\n", flag.display())).unwrap();
    fs::set_permissions(&check, fs::Permissions::from_mode(0o755)).unwrap();
    let tracks = format!(
        "track.maintenance = {{ type = \"exec\", user = \"root\", command = [\"{}\"], interval = \
         \"200ms\", timeout = \"30s\" }}\n\
         track.daemon = {{ type = \"process\", name = \"quorated\" }}\n\
         track.uplink = {{ type = \"interface\", interface = \"public\" }}\n",
        check.display()
    );
    let track = "track = [\"maintenance\", \"daemon\", \"uplink\"]";
    deployment.apply("d1", &format!("{tracks}{}", group(track))).unwrap();
    wait_for(&deployment, "d1");
    fs::write(&flag, "").unwrap();
    wait_for(&deployment, "d2");
    wait_for_problem(&deployment, "d1", "track maintenance: it ended with 1");
    wait_for_problem(&deployment, "d1", "can't own web: a track fails");
    fs::remove_file(&flag).unwrap();
    wait_for(&deployment, "d1");

    // What fails at every director leaves the group where it is.
    let before = epoch(&deployment);
    let missing = format!(
        "track.gone = {{ type = \"file\", path = \"{}\", interval = \"200ms\" }}\n",
        folder.join("nothing").display()
    );
    deployment.apply("d1", &format!("{missing}{}", group("track = \"gone\""))).unwrap();
    for node in NODES {
        wait_for_problem(&deployment, node, "track gone: ");
    }
    for _ in 0..LOOKS {
        assert_eq!(epoch(&deployment), before);
        assert!(deployment.carries("d1", VIP).unwrap());
    }
}

#[test]
fn a_stranger_that_has_the_vip_is_named_and_the_group_is_claimed_when_it_is_gone() {
    let deployment = three_directors("lab_host_placement_claim");
    let network = deployment.network();
    let vip = format!("{VIP}/32").parse().unwrap();
    network.add_address("rs1", INTERFACE, &vip).unwrap();
    let mac = network.mac("rs1").unwrap();
    deployment.apply("d1", &group("")).unwrap();
    for node in NODES {
        wait_for_problem(&deployment, node, &format!("{VIP} on {INTERFACE} is in use"));
        assert!(problems(&deployment, node).contains(&mac));
    }
    let status = deployment.status("d3").unwrap();
    let reason = status["groups"][0]["reason"].as_str().unwrap();
    assert!(reason.contains("d1: another host has one of its addresses"), "{reason}");
    for _ in 0..LOOKS {
        assert_eq!(deployment.owner("d3", "web"), None);
        assert!(deployment.carriers(&NODES, VIP).unwrap().is_empty());
    }
    network.delete_address("rs1", INTERFACE, &vip).unwrap();
    wait_for(&deployment, "d1");
}

#[test]
fn a_takeover_asks_nothing_though_a_stranger_would_answer() {
    let mut deployment = three_directors("lab_host_placement_takeover");
    deployment.apply("d1", &group("")).unwrap();
    wait_for(&deployment, "d1");
    let vip = format!("{VIP}/32").parse().unwrap();
    deployment.network().add_address("rs1", INTERFACE, &vip).unwrap();
    deployment.kill("d1").unwrap();
    deployment
        .wait_for("d2 takes the VIP over", SECONDS, |deployment| deployment.carries("d2", VIP))
        .unwrap();
    // The killed one starts anew: it hears the owner, and does not take the stranger for one.
    deployment.start("d1").unwrap();
    wait_for(&deployment, "d1");
}
