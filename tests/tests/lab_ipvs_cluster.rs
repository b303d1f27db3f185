//! Three real daemons on real IPVS: what issue 2 calls done. Needs root and ip_vs; on hosts
//! without ip_vs `cargo xtask test` runs it in the virtual machine.
#![forbid(unsafe_code)]
#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "a test that can't go on ends")]

use std::collections::BTreeMap;
use std::fs;
use std::time::Duration;

use quorate_tests::lab::client;
use quorate_tests::lab::clock::Deadline;
use quorate_tests::lab::deployment::{Deployment, VIP};
use quorate_tests::lab::{in_vm, workspace_dir};

const NODES: [&str; 3] = ["d1", "d2", "d3"];
/// "Within seconds" on real machines; an emulated one takes its time.
const SOON: Duration = Duration::from_secs(240);
const REQUEST: Duration = Duration::from_secs(10);
/// The table that examples/web.toml asks for, as `ipvsadm -Sn` prints it.
const TABLE: &str = "-A -t 192.168.10.180:80 -s rr\n\
                     -a -t 192.168.10.180:80 -r 192.168.10.16:80 -g -w 1\n\
                     -a -t 192.168.10.180:80 -r 192.168.10.17:80 -g -w 1\n";

fn vip() -> std::net::SocketAddr {
    format!("{VIP}:80").parse().unwrap()
}

fn deployment(name: &str) -> Deployment {
    let deployment = Deployment::of_three_by_dr(name, if in_vm() { "wan" } else { "lan" }).unwrap();
    let example = fs::read_to_string(workspace_dir().join("examples/web.toml")).unwrap();
    deployment.apply("d2", &example).unwrap();
    deployment
}

fn table(deployment: &Deployment, node: &str) -> String {
    let namespace = deployment.network().namespace(node).unwrap();
    namespace.run_ok("ipvsadm -Sn", SOON).unwrap()
}

fn wait_for_tables(deployment: &Deployment) {
    let equal = |d: &Deployment| Ok(NODES.iter().all(|node| table(d, node) == TABLE));
    deployment.wait_for("every director's table as configured", SOON, equal).unwrap();
}

fn wait_for_one_owner(deployment: &Deployment, among: &[&str]) -> String {
    let mut owner = String::new();
    deployment
        .wait_for(&format!("one owner among {among:?}"), SOON, |deployment| {
            let carriers = deployment.carriers(&NODES, VIP)?;
            let named = deployment.owner(among[0], "web");
            owner = carriers.first().cloned().unwrap_or_default();
            Ok(carriers.len() == 1
                && named.as_ref() == Some(&owner)
                && among.contains(&owner.as_str()))
        })
        .unwrap();
    owner
}

fn wait_for_page(deployment: &Deployment) {
    deployment
        .wait_for("a page", SOON, |d| Ok(d.get("client", vip(), Duration::from_secs(2)).is_ok()))
        .unwrap();
}

fn others(node: &str) -> Vec<&'static str> {
    NODES.into_iter().filter(|other| *other != node).collect()
}

/// Whether the kernel of a node knows the connection that a client opened from this port.
fn knows_connection(deployment: &Deployment, node: &str, port: u16) -> bool {
    let namespace = deployment.network().namespace(node).unwrap();
    let listed = namespace.run_ok("ipvsadm -Lnc", SOON).unwrap();
    listed.lines().any(|line| line.contains(&format!("192.168.10.100:{port} ")))
}

#[test]
fn requests_alternate_and_every_directors_table_is_the_configuration() {
    let deployment = deployment("lab_ipvs_cluster_tables");
    wait_for_tables(&deployment);
    wait_for_one_owner(&deployment, &NODES);
    wait_for_page(&deployment);
    let mut pages: BTreeMap<String, u32> = BTreeMap::new();
    let mut last = String::new();
    for _ in 0..8 {
        let page = deployment.get("client", vip(), REQUEST).unwrap();
        assert_ne!(page, last, "round robin alternates");
        *pages.entry(page.clone()).or_default() += 1;
        last = page;
    }
    assert_eq!(pages.into_values().collect::<Vec<_>>(), [4, 4]);
    // A table changed by hand is mended by the next full compare.
    let d2 = deployment.network().namespace("d2").unwrap();
    d2.run_ok("ipvsadm -d -t 192.168.10.180:80 -r 192.168.10.16:80", SOON).unwrap();
    d2.run_ok("ipvsadm -A -t 192.168.10.80:8080 -s wrr", SOON).unwrap();
    let foreign = "-A -t 192.168.10.80:8080 -s wrr";
    let mended = |d: &Deployment| {
        let lines = table(d, "d2");
        Ok(TABLE.lines().all(|line| lines.contains(line)) && lines.contains(foreign))
    };
    deployment.wait_for("d2's table mended, the foreign service left", SOON, mended).unwrap();
}

#[test]
fn a_restart_changes_no_entry_that_is_right_and_connections_stay() {
    let mut deployment = deployment("lab_ipvs_cluster_restart");
    wait_for_tables(&deployment);
    let owner = wait_for_one_owner(&deployment, &NODES);
    wait_for_page(&deployment);
    let namespace = deployment.network().namespace("client").unwrap();
    let open = client::connect(namespace, vip(), REQUEST).unwrap();
    let port = open.local_addr().unwrap().port();
    assert!(knows_connection(&deployment, &owner, port));
    deployment.kill(&owner).unwrap();
    let changes = |deployment: &Deployment| {
        deployment.log(&owner).unwrap().matches("changing the IPVS table").count()
    };
    let changed = changes(&deployment);
    deployment.start(&owner).unwrap();
    wait_for_one_owner(&deployment, &NODES);
    wait_for_tables(&deployment);
    // The new daemon has compared once it says that nothing stands in the way of the service.
    deployment
        .wait_for("the restarted director ready", SOON, |d| {
            let status = d.status(&owner).unwrap_or_default();
            Ok(status["cluster"]["health"] == "ok")
        })
        .unwrap();
    assert_eq!(changes(&deployment), changed, "{}", deployment.log(&owner).unwrap());
    assert!(knows_connection(&deployment, &owner, port), "the kernel kept its connections");
}

#[test]
fn each_loss_leaves_one_owner_and_no_configuration_is_lost() {
    let mut deployment = deployment("lab_ipvs_cluster_losses");
    wait_for_tables(&deployment);
    for victim in NODES {
        wait_for_one_owner(&deployment, &NODES);
        deployment.kill(victim).unwrap();
        wait_for_one_owner(&deployment, &others(victim));
        wait_for_page(&deployment);
        deployment.start(victim).unwrap();
    }
    let owner = wait_for_one_owner(&deployment, &NODES);
    deployment.network().cut(&owner).unwrap();
    wait_for_one_owner(&deployment, &others(&owner));
    wait_for_page(&deployment);
    deployment.network().heal(&owner).unwrap();

    let owner = wait_for_one_owner(&deployment, &NODES);
    deployment.network().partition(&owner, &others(&owner)).unwrap();
    wait_for_one_owner(&deployment, &others(&owner));
    deployment.network().heal_partitions().unwrap();
    wait_for_one_owner(&deployment, &NODES);
    wait_for_tables(&deployment);
    let deadline = Deadline::after(SOON);
    let revision =
        |node: &str| deployment.status(node).and_then(|s| s["cluster"]["revision"].as_u64());
    while NODES.iter().any(|node| revision(node) != Some(1)) {
        assert!(!deadline.passed(), "a node lost the configuration");
    }
}
