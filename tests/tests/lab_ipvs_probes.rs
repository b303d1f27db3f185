//! What probes do on real IPVS: a cable between the owner and the real servers is cut, and no other; a real
//! server loses the VIP, or its tunnel. Needs root and ip_vs; on hosts without ip_vs `cargo xtask test` runs it in
//! the virtual machine.
#![forbid(unsafe_code)]
#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "a test that can't go on ends")]

use std::net::SocketAddr;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::time::Duration;

use quorate_tests::lab::deployment::{Deployment, VIP};
use quorate_tests::lab::in_vm;
use quorate_tests::lab::network::INTERFACE;
use serde_json::Value;

const NODES: [&str; 3] = ["d1", "d2", "d3"];
/// "Within seconds" on real machines; an emulated one takes its time.
const SOON: Duration = Duration::from_secs(240);
const REQUEST: Duration = Duration::from_secs(10);
const REQUESTS: u32 = 40;

const CONFIGURATION: &str = r#"
[group.web]
interface = "public"
addresses = ["192.168.10.180/32"]
evacuate_on_disagreement = true
preempt_delay = "5s"

[service.web]
group = "web"
listen = "tcp/192.168.10.180:80"
scheduler = "rr"
forward = "DR"
check = { type = "tcp", interval = "1s", timeout = "1s", retry = 2, retry_delay = "500ms" }
real_servers = [{ address = "192.168.10.16:80" }, { address = "192.168.10.17:80" }]
"#;

fn vip() -> SocketAddr {
    format!("{VIP}:80").parse().unwrap()
}

fn group(deployment: &Deployment, node: &str) -> Value {
    deployment.status(node).map_or(Value::Null, |status| status["groups"][0].clone())
}

/// How many real servers each director sees, as this node knows it.
fn all_see(deployment: &Deployment, node: &str, up: u64) -> bool {
    let reach = group(deployment, node)["reach"].as_array().cloned().unwrap_or_default();
    reach.len() == NODES.len() && reach.iter().all(|seen| seen["up"].as_u64() == Some(up))
}

/// The example's directors and real servers, which have the VIP on lo, as this configuration says.
fn deployment(name: &str, configuration: &str) -> Deployment {
    let deployment = Deployment::of_three_by_dr(name, if in_vm() { "wan" } else { "lan" }).unwrap();
    deployment.apply("d1", configuration).unwrap();
    deployment
}

#[test]
fn a_group_leaves_an_owner_that_alone_lost_its_real_servers_once_and_no_request_fails_after() {
    let deployment = deployment("lab_ipvs_probes_cut", CONFIGURATION);
    deployment
        .wait_for("all see all, and one owns the group", SOON, |d| {
            Ok(all_see(d, "d1", 2) && d.owner("d1", "web").is_some())
        })
        .unwrap();
    let owner = deployment.owner("d1", "web").unwrap();
    let other = NODES.into_iter().find(|node| *node != owner).unwrap();
    let epoch = group(&deployment, other)["epoch"].clone();
    deployment.get("client", vip(), REQUEST).unwrap();

    deployment.network().partition(&owner, &["rs1", "rs2"]).unwrap();
    deployment
        .wait_for("the group is served by another director", SOON, |d| {
            Ok(d.owner(other, "web").is_some_and(|now| now != owner))
        })
        .unwrap();
    // The move is over once the former owner does not carry the VIP; whoever asks then is answered.
    deployment
        .wait_for("one director carries the VIP", SOON, |d| {
            Ok(d.carriers(&NODES, VIP)? == [d.owner(other, "web").unwrap_or_default()])
        })
        .unwrap();
    for number in 0..REQUESTS {
        let page = deployment.get("client", vip(), REQUEST);
        assert!(page.is_ok(), "request {number} after the move: {page:?}");
    }
    let told = group(&deployment, other);
    assert_eq!(told["reason"], "owner sees fewer real servers than another director");
    let moved = told["epoch"].clone();
    assert_ne!(moved, epoch);
    let said = |d: &Deployment| {
        let status = d.status(other).unwrap_or_default();
        let nodes = status["nodes"].as_array().cloned().unwrap_or_default();
        let problems = nodes.iter().filter(|node| node["name"] == owner.as_str());
        let problems: Vec<String> = problems.map(|node| node["problems"].to_string()).collect();
        problems.join(" ").contains("sees 2 of 2 real servers of web down")
    };
    deployment.wait_for("the former owner says why", SOON, |d| Ok(said(d))).unwrap();

    deployment.network().heal_partitions().unwrap();
    deployment
        .wait_for("all see all again", SOON, |d| Ok(all_see(d, other, 2) && !said(d)))
        .unwrap();
    assert_eq!(group(&deployment, other)["epoch"], moved, "it moved once");
    deployment.get("client", vip(), REQUEST).unwrap();
}

/// The real servers of each director's table, by their addresses' last part.
fn tables(deployment: &Deployment) -> Vec<Vec<String>> {
    let table = |node: &&str| {
        let namespace = deployment.network().namespace(node).unwrap();
        let listed = namespace.run_ok("ipvsadm -Sn", SOON).unwrap();
        let last = |line: &str| {
            let (_, server) = line.split_once(" -r ")?;
            let (address, _) = server.split(' ').next()?.trim_end_matches(']').rsplit_once(':')?;
            Some(address.trim_end_matches(']').rsplit(['.', ':']).next()?.to_owned())
        };
        listed.lines().filter_map(last).collect()
    };
    NODES.iter().map(table).collect()
}

fn wait_for_tables(deployment: &Deployment, servers: &[&str]) {
    let waited = deployment.wait_for("every director's table", SOON, |deployment| {
        Ok(tables(deployment).iter().all(|table| table == servers))
    });
    let seen = NODES.map(|node| deployment.quorate(node, &["services"]));
    assert!(waited.is_ok(), "{waited:?}: not {servers:?} but {:?}: {seen:#?}", tables(deployment));
}

#[test]
fn a_real_server_without_the_vip_or_its_tunnel_leaves_every_directors_table() {
    let via = CONFIGURATION.replace("type = \"tcp\"", "type = \"tcp\", via = \"forwarding\"");
    let deployment = deployment("lab_ipvs_probes_via", &via);
    wait_for_tables(&deployment, &["16", "17"]);
    deployment
        .wait_for("the group has an owner, which has the VIP", SOON, |d| {
            Ok(d.owner("d1", "web").is_some() && d.carriers(&NODES, VIP)?.len() == 1)
        })
        .unwrap();
    let on = |host: &str, command: &str| {
        deployment.network().namespace(host).unwrap().run_ok(command, SOON).unwrap();
    };
    // Their program answers at their own address all the time, and what is not for it rs1 would send on to
    // the owner, whose other real server answers.
    on("rs1", "sysctl -qw net.ipv4.ip_forward=1");
    on("rs1", &format!("ip route del {VIP}/32 dev lo"));
    on("rs1", &format!("ip address del {VIP}/32 dev lo"));
    wait_for_tables(&deployment, &["17"]);
    deployment.get("client", vip(), REQUEST).unwrap();
    deployment.quorate_on("rs1", &["realserver", "setup", "--vip", VIP]).unwrap();
    wait_for_tables(&deployment, &["16", "17"]);

    // By tunnels that nobody takes apart, and by those that they do.
    deployment.apply("d1", &via.replace("\"DR\"", "\"TUN\"")).unwrap();
    wait_for_tables(&deployment, &[]);
    for host in ["rs1", "rs2"] {
        deployment
            .quorate_on(host, &["realserver", "setup", "--vip", VIP, "--mode", "TUN"])
            .unwrap();
    }
    wait_for_tables(&deployment, &["16", "17"]);
    deployment.get("client", vip(), REQUEST).unwrap();
    on("rs2", "ip link set tunl0 down");
    wait_for_tables(&deployment, &["16"]);
    deployment.get("client", vip(), REQUEST).unwrap();
}

/// By IPv6 IPVS would take what a raw socket sends to the VIP, and hand it to any real server.
#[test]
fn by_ipv6_a_real_server_without_the_vip_leaves_every_directors_table_and_the_owners_too() {
    const VIP6: &str = "2001:db8:10::180";
    let six = CONFIGURATION
        .replace("192.168.10.180/32", "2001:db8:10::180/128")
        .replace("192.168.10.180:80", "[2001:db8:10::180]:80")
        .replace("192.168.10.16:80", "[2001:db8:10::16]:80")
        .replace("192.168.10.17:80", "[2001:db8:10::17]:80")
        .replace("type = \"tcp\"", "type = \"tcp\", via = \"forwarding\"");
    let timing = if in_vm() { "wan" } else { "lan" };
    let mut deployment = Deployment::of_three("lab_ipvs_probes_via6", timing, 1).unwrap();
    for (host, last) in [("d1", 80), ("d2", 23), ("d3", 24), ("rs1", 16), ("rs2", 17)] {
        let own = format!("2001:db8:10::{last}/64").parse().unwrap();
        deployment.network().add_address(host, INTERFACE, &own).unwrap();
    }
    for host in ["rs1", "rs2"] {
        deployment.serve_echo(host, "[::]:80", host).unwrap();
        deployment.quorate_on(host, &["realserver", "setup", "--vip", VIP6]).unwrap();
    }
    deployment.apply("d1", &six).unwrap();
    wait_for_tables(&deployment, &["16", "17"]);
    deployment
        .wait_for("the group has an owner, which has the VIP", SOON, |d| {
            Ok(d.owner("d1", "web").is_some() && d.carriers(&NODES, VIP6)?.len() == 1)
        })
        .unwrap();
    let on = |host: &str, command: &str| {
        deployment.network().namespace(host).unwrap().run_ok(command, SOON).unwrap();
    };
    on("rs1", &format!("ip address del {VIP6}/128 dev lo"));
    wait_for_tables(&deployment, &["17"]);
    deployment.quorate_on("rs1", &["realserver", "setup", "--vip", VIP6]).unwrap();
    wait_for_tables(&deployment, &["16", "17"]);

    // By tunnels that nobody takes apart, and by those that they do.
    deployment.apply("d1", &six.replace("\"DR\"", "\"TUN\"")).unwrap();
    wait_for_tables(&deployment, &[]);
    for host in ["rs1", "rs2"] {
        let setup = ["realserver", "setup", "--vip", VIP6, "--mode", "TUN"];
        deployment.quorate_on(host, &setup).unwrap();
    }
    wait_for_tables(&deployment, &["16", "17"]);
}

/// What the hook wrote: kind, director, owner, and the real server's last part.
fn hook_lines(log: &Path) -> Vec<String> {
    let text = std::fs::read_to_string(log).unwrap_or_default();
    text.lines().map(str::to_owned).collect()
}

/// The weight of the one real server in a director's table, if one is there.
fn weight(deployment: &Deployment, node: &str) -> Option<u32> {
    let namespace = deployment.network().namespace(node).unwrap();
    let listed = namespace.run_ok("ipvsadm -Sn", SOON).unwrap();
    let line = listed.lines().find(|line| line.contains(" -r "))?;
    line.rsplit_once(" -w ")?.1.trim().parse().ok()
}

/// All real servers go, which the owner's hooks are told; one comes back, and rises to its weight.
#[test]
fn real_servers_that_go_are_told_to_the_owners_hook_and_one_that_comes_back_rises_in_the_kernel() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::set_permissions(folder.path(), std::fs::Permissions::from_mode(0o777)).unwrap();
    let log = folder.path().join("log");
    let hook = format!(
        "[hook.told]\non = [\"real_server_down\", \"quorum_down\", \"quorum_up\"]\n\
         command = [\"/bin/sh\", \"-c\", \
         'echo \"$QUORATE_EVENT $QUORATE_NODE $QUORATE_OWNER $QUORATE_REAL_SERVER\" >> \"$0\"', \"{}\"]\n",
        log.display()
    );
    let weighted = CONFIGURATION
        .replace(":80\" }", ":80\", weight = 100 }")
        .replace("scheduler = \"rr\"", "scheduler = \"wrr\"\nslow_start = \"100s\"")
        .replace("evacuate_on_disagreement = true\n", "");
    let mut deployment = deployment("lab_ipvs_probes_slow", &(weighted + &hook));
    wait_for_tables(&deployment, &["16", "17"]);
    deployment
        .wait_for("the group has an owner", SOON, |d| Ok(d.owner("d1", "web").is_some()))
        .unwrap();
    let owner = deployment.owner("d1", "web").unwrap();
    assert_eq!(weight(&deployment, &owner), Some(100), "what the service began with has all");

    for host in ["rs1", "rs2"] {
        deployment.stop_pages(host).unwrap();
    }
    wait_for_tables(&deployment, &[]);
    let expected = [
        format!("quorum_down {owner} {owner} "),
        format!("real_server_down {owner} {owner} 192.168.10.16:80"),
        format!("real_server_down {owner} {owner} 192.168.10.17:80"),
    ];
    deployment
        .wait_for("the owner's hook was told all of it", SOON, |_| Ok(hook_lines(&log).len() >= 3))
        .unwrap();
    let mut lines = hook_lines(&log);
    lines.sort();
    assert_eq!(lines, expected, "once each, by the owner alone");

    deployment.serve_pages("rs1", 80, "rs1").unwrap();
    let mut seen = Vec::new();
    deployment
        .wait_looking("it has its whole weight", SOON, Duration::from_millis(500), |d| {
            let now = weight(d, &owner);
            if now.is_some() && seen.last() != now.as_ref() {
                seen.extend(now);
            }
            Ok(now == Some(100))
        })
        .unwrap();
    assert!(seen.is_sorted(), "{seen:?}");
    assert!(seen.iter().all(|weight| *weight == 1 || weight % 10 == 0), "{seen:?}");
    assert!(seen.len() >= 4, "steps on the way to 100: {seen:?}");
    let up = format!("quorum_up {owner} {owner} ");
    assert_eq!(hook_lines(&log).last(), Some(&up));
}
