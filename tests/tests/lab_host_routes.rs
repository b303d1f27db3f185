//! Routes and policy rules of a group are where its VIPs are: real daemons on the host's kernel, looked at with ip(8).
//! Needs root. Run by `cargo xtask test`.
#![forbid(unsafe_code)]
#![allow(clippy::unwrap_used, reason = "a test that can't go on ends")]

use std::time::Duration;

use quorate_tests::lab::LabError;
use quorate_tests::lab::deployment::{Deployment, VIP};

const NODES: [&str; 3] = ["d1", "d2", "d3"];
/// Long past any lease, promise and election of the `lan` profile.
const SECONDS: Duration = Duration::from_secs(60);
const LIMIT: Duration = Duration::from_secs(30);

const GROUP: &str = r#"
[group.web]
interface = "public"
addresses = ["192.168.10.180/32", "2001:db8:10::180/128"]
prefer = ["d1", "d2", "d3"]
preempt = false
routes = [
  { to = "198.51.100.0/24", via = "192.168.10.100", source = "192.168.10.180" },
  { to = "0.0.0.0/0", type = "unreachable", table = 100 },
  { to = "2001:db8:99::/48", source = "2001:db8:10::180", table = 100 },
]
rules = [{ from = "192.168.10.180", table = 100, priority = 1000 }]
"#;

/// All of Quorate's on a host, as ip(8) shows it.
fn shown(deployment: &Deployment, node: &str) -> Result<String, LabError> {
    let host = deployment.network().namespace(node)?;
    let mut text = String::new();
    for line in ["ip -4 route show table all proto 81", "ip -6 route show table all proto 81"] {
        text += &host.run_ok(line, LIMIT)?;
    }
    for line in ["ip rule show", "ip -6 rule show"] {
        let rules = host.run_ok(line, LIMIT)?;
        text.extend(
            rules.lines().filter(|rule| rule.contains("proto 81")).map(|r| format!("{r}\n")),
        );
    }
    Ok(text)
}

fn has_all(shown: &str) -> bool {
    [
        "198.51.100.0/24 via 192.168.10.100 dev eth0 src 192.168.10.180",
        "unreachable default table 100",
        "2001:db8:99::/48 dev eth0 table 100 src 2001:db8:10::180",
        "1000:\tfrom 192.168.10.180 lookup 100 proto 81",
    ]
    .iter()
    .all(|line| shown.contains(line))
        && shown.lines().count() == 4
}

/// Waits until this director alone has the VIP, and all of the routes and rules, and no other has any.
fn wait_for(deployment: &Deployment, owner: &str, alive: &[&str]) {
    let what = format!("{owner} alone has the VIP and its routes");
    let holds = |deployment: &Deployment| {
        for node in alive {
            let shown = shown(deployment, node)?;
            if if *node == owner { !has_all(&shown) } else { !shown.is_empty() } {
                return Ok(false);
            }
        }
        Ok(deployment.carriers(alive, VIP)? == [owner])
    };
    deployment.wait_for(&what, SECONDS, holds).unwrap();
}

fn deployment(name: &str) -> Deployment {
    let deployment = Deployment::of_three(name, "lan", 1).unwrap();
    deployment.apply("d1", GROUP).unwrap();
    wait_for(&deployment, "d1", &NODES);
    deployment
}

#[test]
fn the_owner_alone_has_them_and_they_move_with_the_group() {
    let deployment = deployment("lab_host_routes_moves");
    deployment.quorate_ok("d1", &["transfer", "web", "--to", "d2", "--yes"]).unwrap();
    wait_for(&deployment, "d2", &NODES);
    // A new configuration takes one away.
    let without = GROUP.replace("rules = [", "rules = [] #");
    deployment.apply("d1", &without).unwrap();
    deployment
        .wait_for("the rule is gone", SECONDS, |deployment| {
            let shown = shown(deployment, "d2")?;
            Ok(!shown.contains("1000:") && shown.lines().count() == 3)
        })
        .unwrap();
}

#[test]
fn what_is_removed_by_hand_or_goes_with_its_device_comes_back() {
    let deployment = deployment("lab_host_routes_by_hand");
    let host = deployment.network().namespace("d1").unwrap();
    for line in [
        "ip route del 198.51.100.0/24",
        "ip route del unreachable default table 100",
        "ip -6 route del 2001:db8:99::/48 table 100",
        "ip rule del priority 1000",
        "ip address del 192.168.10.180/32 dev eth0",
        "ip address del 2001:db8:10::180/128 dev eth0",
    ] {
        host.run_ok(line, LIMIT).unwrap();
        wait_for(&deployment, "d1", &NODES);
    }
    // What is another's is told, and not touched.
    host.run_ok("ip route replace 198.51.100.0/24 dev eth0 proto static", LIMIT).unwrap();
    deployment
        .wait_for("d1 says so", SECONDS, |deployment| {
            let status = deployment.status("d2").unwrap_or_default().to_string();
            Ok(status.contains("another one has its place"))
        })
        .unwrap();
    host.run_ok("ip route del 198.51.100.0/24 dev eth0 proto static", LIMIT).unwrap();
    wait_for(&deployment, "d1", &NODES);
}

#[test]
fn after_a_kill_the_successor_has_them_and_the_next_daemon_removes_what_was_left() {
    let mut deployment = deployment("lab_host_routes_kill");
    deployment.kill("d1").unwrap();
    wait_for(&deployment, "d2", &["d2", "d3"]);
    assert!(shown(&deployment, "d1").unwrap().contains("1000:"), "a dead daemon removes nothing");
    deployment.start("d1").unwrap();
    wait_for(&deployment, "d2", &NODES);

    // Nor does it take another start: what the unit runs after each daemon is enough, or a purge.
    for command in ["release", "purge"] {
        let owner = deployment.carriers(&NODES, VIP).unwrap().remove(0);
        deployment.kill(&owner).unwrap();
        assert!(!shown(&deployment, &owner).unwrap().is_empty());
        let done = deployment.quorated(&owner, &[command]).unwrap();
        assert!(done.status.success(), "{command}: {}", done.stderr);
        assert_eq!(shown(&deployment, &owner).unwrap(), "", "{command}");
        deployment
            .wait_for("another owner has them", SECONDS, |deployment| {
                let has = |node: &&&str| shown(deployment, node).is_ok_and(|s| has_all(&s));
                Ok(NODES.iter().filter(has).count() == 1)
            })
            .unwrap();
        deployment.start(&owner).unwrap();
    }
}
