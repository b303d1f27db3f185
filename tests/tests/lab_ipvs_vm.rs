//! The lab proves itself: real IPVS, set up by hand with ipvsadm, alternates between two real
//! servers in direct-routing mode. No line of Quorate's runs here. Needs a kernel with ip_vs; run
//! by `cargo xtask test`, on the host or in the virtual machine.
#![forbid(unsafe_code)]
#![allow(clippy::unwrap_used, reason = "what a test relies on fails the test")]

use std::net::SocketAddr;
use std::process::Command;
use std::time::Duration;

use quorate_tests::lab::client::{arp_owner, get};
use quorate_tests::lab::clock::wait_until;
use quorate_tests::lab::network::{Host, INTERFACE, Network};
use quorate_tests::lab::{Place, artefacts_dir, bin_dir, host_has_ipvs, kernel_for_ipvs};

const LIMIT: Duration = Duration::from_secs(60);
const VIP: &str = "192.168.10.180";

fn network() -> Network {
    let host = |name, address: &str| Host::new(name, address.parse().unwrap());
    let vip = format!("{VIP}/32").parse().unwrap();
    let network = Network::new(&[
        host("client", "192.168.10.100/24"),
        host("director", "192.168.10.80/24").with_loopback(vip),
        host("rs1", "192.168.10.16/24").with_loopback(vip),
        host("rs2", "192.168.10.17/24").with_loopback(vip),
    ])
    .unwrap();
    for real_server in ["rs1", "rs2"] {
        let namespace = network.namespace(real_server).unwrap();
        namespace.set_parameter("net/ipv4/conf/all/arp_ignore", "1").unwrap();
        namespace.set_parameter("net/ipv4/conf/all/arp_announce", "2").unwrap();
    }
    network
}

#[test]
fn requests_alternate_under_direct_routing() {
    assert!(host_has_ipvs(), "this kernel has no ip_vs: run it with `cargo xtask test`");
    // Seen from within the virtual machine, this is a host with IPVS.
    assert_eq!(kernel_for_ipvs(), Place::Host);
    let network = network();
    let mut servers = Vec::new();
    for real_server in ["rs1", "rs2"] {
        let mut server = Command::new(bin_dir().unwrap().join("page-server"));
        server.args(["0.0.0.0:80", real_server]);
        let log = artefacts_dir().join(format!("lab_ipvs_vm/{real_server}.log"));
        servers.push(network.spawn(real_server, &mut server, &log).unwrap());
    }
    let client = network.namespace("client").unwrap();
    for real_server in ["192.168.10.16:80", "192.168.10.17:80"] {
        let address: SocketAddr = real_server.parse().unwrap();
        let page = wait_until(LIMIT, || get(client, address, LIMIT).ok());
        assert!(page.is_some(), "{real_server} never answered");
    }
    let director = network.namespace("director").unwrap();
    for line in [
        format!("ipvsadm -A -t {VIP}:80 -s rr"),
        format!("ipvsadm -a -t {VIP}:80 -r 192.168.10.16:80 -g"),
        format!("ipvsadm -a -t {VIP}:80 -r 192.168.10.17:80 -g"),
    ] {
        director.run_ok(&line, LIMIT).unwrap();
    }
    let vip: SocketAddr = format!("{VIP}:80").parse().unwrap();
    let pages: Vec<String> = (0..6).map(|_| get(client, vip, LIMIT).unwrap()).collect();
    for pair in pages.windows(2) {
        assert_ne!(pair[0], pair[1], "{pages:?}");
    }
    let table = director.run_ok("ipvsadm -Ln", LIMIT).unwrap();
    assert!(table.contains("192.168.10.16:80") && table.contains("Route"), "{table}");
    let wait = Duration::from_secs(2);
    let owners = arp_owner(client, INTERFACE, vip.ip(), wait).unwrap();
    assert_eq!(owners.into_iter().collect::<Vec<_>>(), [network.mac("director").unwrap()]);
}
