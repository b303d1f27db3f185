//! Two hundred connections through a daemon's restart, a planned move and a killed owner, by direct
//! routing and by NAT with the inside gateway as a VIP of the group. Needs root and ip_vs; on hosts
//! without ip_vs `cargo xtask test` runs it in the virtual machine, whose times mean nothing: how
//! long connections stood still is printed, and never asserted.
#![forbid(unsafe_code)]
#![allow(
    clippy::indexing_slicing,
    clippy::print_stdout,
    clippy::unwrap_used,
    reason = "a test that can't go on ends; how long connections stood still is printed"
)]

use std::net::SocketAddr;
use std::time::Duration;

use quorate_tests::lab::deployment::{Deployment, VIP, example_hosts};
use quorate_tests::lab::flows::Flows;
use quorate_tests::lab::in_vm;
use quorate_tests::lab::network::Host;

const NODES: [&str; 3] = ["d1", "d2", "d3"];
/// An emulated machine takes its time.
const LIMIT: Duration = Duration::from_secs(300);
const CONNECTIONS: usize = 200;
const PORT: u16 = 7000;
/// The real servers' gateway, on the inside.
const GATEWAY: &str = "10.10.0.254";

fn timing() -> &'static str {
    if in_vm() { "wan" } else { "lan" }
}

fn vip() -> SocketAddr {
    format!("{VIP}:{PORT}").parse().unwrap()
}

fn direct_routing() -> Deployment {
    let mut deployment =
        Deployment::new("lab_ipvs_connections_dr", &example_hosts().unwrap()).unwrap();
    for host in ["rs1", "rs2"] {
        deployment.quorate_on(host, &["realserver", "setup", "--vip", VIP]).unwrap();
        deployment.serve_echo(host, &format!("0.0.0.0:{PORT}"), host).unwrap();
    }
    for (node, address) in NODES.iter().zip(["192.168.10.80", "192.168.10.23", "192.168.10.24"]) {
        deployment.add_director(node, address).unwrap();
    }
    deployment.form(&NODES, timing()).unwrap();
    apply(&deployment, "", "DR", "192.168.10");
    deployment
}

/// The real servers are on a network of their own, and the group's second VIP is their way out.
fn network_address_translation() -> Deployment {
    let mut hosts = example_hosts().unwrap();
    hosts.retain(|host| !host.name.starts_with("rs"));
    for name in ["rs1", "rs2"] {
        hosts.push(Host { name: name.to_owned(), addresses: Vec::new(), loopback: Vec::new() });
    }
    let mut deployment = Deployment::new("lab_ipvs_connections_nat", &hosts).unwrap();
    let inside = [("d1", 80), ("d2", 23), ("d3", 24), ("rs1", 16), ("rs2", 17)];
    let inside: Vec<_> =
        inside.iter().map(|(host, last)| (*host, format!("10.10.0.{last}/24"))).collect();
    let inside: Vec<_> = inside.iter().map(|(host, net)| (*host, net.as_str())).collect();
    deployment.join_inside(&inside).unwrap();
    for host in ["rs1", "rs2"] {
        let route = format!("ip route add default via {GATEWAY}");
        deployment.network().namespace(host).unwrap().run_ok(&route, LIMIT).unwrap();
        deployment.serve_echo(host, &format!("0.0.0.0:{PORT}"), host).unwrap();
    }
    for (node, last) in [("d1", 80), ("d2", 23), ("d3", 24)] {
        let (lan, heartbeat) = (format!("192.168.10.{last}"), format!("10.10.0.{last}"));
        deployment.add_director_with(node, &[("lan", &lan), ("heartbeat", &heartbeat)]).unwrap();
    }
    deployment.form(&NODES, timing()).unwrap();
    let gateway = format!(", {{ address = \"{GATEWAY}/24\", interface = \"inside\" }}");
    apply(&deployment, &gateway, "NAT", "10.10.0");
    deployment
}

fn apply(deployment: &Deployment, more: &str, forward: &str, net: &str) {
    let configuration = format!(
        "[cluster]\nsync = {{ link = \"lan\", refresh = \"1s\" }}\nsync_warmup = \"1s\"\n\
         [group.web]\ninterface = \"public\"\naddresses = [\"{VIP}/32\"{more}]\npreempt = false\n\
         [service.echo]\ngroup = \"web\"\nlisten = \"tcp/{VIP}:{PORT}\"\nscheduler = \"rr\"\n\
         forward = \"{forward}\"\ncheck = {{ type = \"tcp\", interval = \"2s\" }}\ninhibit = true\n\
         real_servers = [{{ address = \"{net}.16:{PORT}\" }}, {{ address = \"{net}.17:{PORT}\" }}]\n"
    );
    deployment.apply("d2", &configuration).unwrap();
}

fn wait_for_owner(deployment: &Deployment, among: &[&str]) -> String {
    let mut owner = String::new();
    deployment
        .wait_for(&format!("one owner among {among:?}"), LIMIT, |deployment| {
            let carriers = deployment.carriers(&NODES, VIP)?;
            owner = carriers.first().cloned().unwrap_or_default();
            let named = deployment.owner(among[0], "web");
            let one = carriers.len() == 1 && named.as_ref() == Some(&owner);
            Ok(one && among.contains(&owner.as_str()))
        })
        .unwrap();
    owner
}

fn others(node: &str) -> Vec<&'static str> {
    NODES.into_iter().filter(|other| *other != node).collect()
}

/// How many connections to the service a director's kernel knows as established.
fn known(deployment: &Deployment, node: &str) -> usize {
    let namespace = deployment.network().namespace(node).unwrap();
    let listed = namespace.run_ok("ipvsadm -Lnc", LIMIT).unwrap();
    let of_service = format!(" {VIP}:{PORT} ");
    listed.lines().filter(|l| l.contains("ESTABLISHED") && l.contains(&of_service)).count()
}

/// Every standby knows all of them: what comes later is what the owner would lose with its death.
fn wait_until_told(deployment: &Deployment, owner: &str) {
    let all = |d: &Deployment| Ok(others(owner).iter().all(|node| known(d, node) >= CONNECTIONS));
    deployment.wait_for("every standby to know every connection", LIMIT, all).unwrap();
}

fn wait_until_all_go_on(deployment: &Deployment, flows: &Flows, after: &str) {
    let then = flows.rounds();
    let go_on = |_: &Deployment| {
        assert_eq!(flows.ended(), [], "connections ended with {after}");
        Ok(flows.all_go_on_since(&then))
    };
    deployment.wait_for(&format!("every connection to go on after {after}"), LIMIT, go_on).unwrap();
    println!("{after}: a connection stood still for at most {:?}", flows.take_longest());
}

fn every_connection_survives(mut deployment: Deployment) {
    let owner = wait_for_owner(&deployment, &NODES);
    let client = deployment.network().namespace("client").unwrap();
    let flows = Flows::open(client, vip(), CONNECTIONS, LIMIT).unwrap();
    wait_until_all_go_on(&deployment, &flows, "their start");
    wait_until_told(&deployment, &owner);

    deployment.kill(&owner).unwrap();
    deployment.start(&owner).unwrap();
    let owner = wait_for_owner(&deployment, &NODES);
    wait_until_all_go_on(&deployment, &flows, "a daemon's restart");

    let next = others(&owner)[0];
    wait_until_told(&deployment, &owner);
    deployment.quorate_ok(next, &["transfer", "web", "--to", next, "--yes"]).unwrap();
    assert_eq!(wait_for_owner(&deployment, &[next]), next);
    wait_until_all_go_on(&deployment, &flows, "a planned move");

    wait_until_told(&deployment, next);
    deployment.kill(next).unwrap();
    let last = wait_for_owner(&deployment, &others(next));
    wait_until_all_go_on(&deployment, &flows, "the owner's death");
    assert_ne!(last, next);
    assert_eq!(flows.rounds().len(), CONNECTIONS);
}

#[test]
fn by_direct_routing_every_connection_survives_restart_move_and_death() {
    every_connection_survives(direct_routing());
}

#[test]
fn by_nat_every_connection_survives_restart_move_and_death() {
    every_connection_survives(network_address_translation());
}
