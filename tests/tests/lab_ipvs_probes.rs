//! What probes do on real IPVS: a cable between the owner and the real servers is cut, and no other; a real
//! server loses the VIP, or its tunnel. Needs root and ip_vs; on hosts without ip_vs `cargo xtask test` runs it in
//! the virtual machine.
#![forbid(unsafe_code)]
#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "a test that can't go on ends")]

use std::net::SocketAddr;
use std::time::Duration;

use quorate_tests::lab::deployment::{Deployment, VIP};
use quorate_tests::lab::in_vm;
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
        let servers = listed.lines().filter_map(|line| line.split(" -r 192.168.10.").nth(1));
        servers.filter_map(|server| server.split(':').next()).map(str::to_owned).collect()
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
