//! The contract of a dataplane, on Linux, as far as it needs no ip_vs; and that announcements do
//! what they are for. Needs root. Run by `cargo xtask test`.
#![forbid(unsafe_code)]
#![allow(
    clippy::unwrap_used,
    clippy::print_stdout,
    reason = "what a test relies on fails the test; the rule that fails is the last one named"
)]

use std::net::{IpAddr, UdpSocket};
use std::time::Duration;

use quorate_dataplane::linux::Linux;
use quorate_dataplane::{Dataplane, DataplaneError, DeviceState, IpvsProblem};
use quorate_model::kernel::DeviceAddress;
use quorate_tests::contract::{self, ADDRESSES, Environment, LinuxWorld, ROUTING, RULES};
use quorate_tests::lab::clock::Deadline;
use quorate_tests::lab::namespace::Namespace;
use quorate_tests::lab::network::INTERFACE;
use rustix::thread::{CapabilitySet, CapabilitySets, set_capabilities};

const LIMIT: Duration = Duration::from_secs(60);

#[test]
fn linux_keeps_the_rules_of_routes() {
    let mut world = LinuxWorld::new();
    let director = Namespace::open(world.director().name()).unwrap();
    let work = || {
        let mut linux = Linux::new().unwrap();
        contract::run(ROUTING, &mut linux, &mut world, |rule| println!("{rule}"));
    };
    director.enter(work).unwrap();
}

#[test]
fn linux_keeps_the_rules_of_addresses_and_of_the_packet_filter() {
    let mut world = LinuxWorld::new();
    let director = Namespace::open(world.director().name()).unwrap();
    let work = || {
        let mut linux = Linux::new().unwrap();
        contract::run(ADDRESSES, &mut linux, &mut world, |rule| println!("{rule}"));
        contract::run(RULES, &mut linux, &mut world, |rule| println!("{rule}"));
    };
    director.enter(work).unwrap();
}

/// A neighbour that holds a wrong MAC for an address, as after a failover, learns the right one.
#[test]
fn an_announcement_moves_an_address_in_the_neighbours_caches() {
    let world = LinuxWorld::new();
    for vip in ["198.51.100.1", "2001:db8:100::1"] {
        let address: IpAddr = vip.parse().unwrap();
        let wrong = format!("ip neigh replace {vip} lladdr 02:00:00:00:00:99 dev {INTERFACE}");
        world.neighbour().run_ok(&format!("{wrong} nud stale"), LIMIT).unwrap();
        let announced = world.director().enter(|| {
            let mut linux = Linux::new().unwrap();
            let device = world.device();
            let net = address.into();
            linux.add_address(&DeviceAddress { device: device.clone(), net }, None).unwrap();
            linux.announce(&device, address).unwrap();
            linux.device(&device).unwrap()
        });
        let DeviceState::Up { mac: Some(mac), .. } = announced.unwrap() else {
            panic!("the device is not up")
        };
        let show = format!("ip neigh show {vip} dev {INTERFACE}");
        let deadline = Deadline::after(LIMIT);
        loop {
            let entry = world.neighbour().run_ok(&show, LIMIT).unwrap();
            if entry.contains(&mac.to_string()) {
                break;
            }
            assert!(!deadline.passed(), "{vip} is still at: {entry}");
        }
    }
}

/// Else a real server would answer the director's probes to itself, since it has the VIP too.
#[test]
fn a_vip_is_never_the_source_of_what_the_director_itself_sends() {
    let world = LinuxWorld::new();
    for (own, vip, other) in [
        ("198.51.100.80/24", "198.51.100.180/32", "198.51.100.16:80"),
        ("2001:db8:100::80/64", "2001:db8:100::180/128", "[2001:db8:100::16]:80"),
    ] {
        let nodad = if own.contains(':') { "nodad" } else { "" };
        let add = format!("ip address add {own} dev {INTERFACE} {nodad}");
        world.director().run_ok(&add, LIMIT).unwrap();
        let source = || {
            let socket =
                UdpSocket::bind(if own.contains(':') { "[::]:0" } else { "0.0.0.0:0" }).unwrap();
            socket.connect(other).unwrap();
            socket.local_addr().unwrap().ip()
        };
        let sources = world.director().enter(|| {
            let address = DeviceAddress { device: world.device(), net: vip.parse().unwrap() };
            let mut linux = Linux::new().unwrap();
            // As it comes, and as it is refreshed.
            [(); 2].map(|()| {
                linux.add_address(&address, Some(Duration::from_secs(10))).unwrap();
                source()
            })
        });
        let own: ipnet::IpNet = own.parse().unwrap();
        assert_eq!(sources.unwrap(), [own.addr(); 2]);
    }
}

/// Said at start and in `status`, never an error.
#[test]
fn a_kernel_without_ip_vs_is_told() {
    let capabilities = Linux::new().unwrap().capabilities();
    assert!(capabilities.net_admin, "lab tests run as root");
    assert_eq!(capabilities.ipvs.is_ok(), quorate_tests::lab::host_has_ipvs());
    if let Err(problem) = &capabilities.ipvs {
        assert!(problem.to_string().contains("modprobe ip_vs"), "{problem}");
    }
}

#[test]
fn a_process_without_rights_opens_its_dataplane_and_is_told_what_it_lacks() {
    let world = LinuxWorld::new();
    let work = || {
        let nothing = CapabilitySet::empty();
        let sets = CapabilitySets { effective: nothing, permitted: nothing, inheritable: nothing };
        // Of this thread alone, which ends with the work.
        set_capabilities(None, sets).unwrap();
        let mut linux = Linux::new().unwrap();
        let capabilities = linux.capabilities();
        assert!(!capabilities.net_admin);
        let want = if quorate_tests::lab::host_has_ipvs() {
            IpvsProblem::NotPermitted
        } else {
            IpvsProblem::NoModule
        };
        assert_eq!(capabilities.ipvs, Err(want));

        let address =
            DeviceAddress { device: world.device(), net: "198.51.100.1/32".parse().unwrap() };
        for error in [
            linux.add_address(&address, None).unwrap_err(),
            linux.announce(&world.device(), address.net.addr()).unwrap_err(),
        ] {
            assert!(matches!(error, DataplaneError::NotPermitted { .. }), "{error:?}");
            assert!(error.to_string().contains("CAP_NET_ADMIN"), "{error}");
        }
        assert!(linux.observe_addresses(&[world.device()]).unwrap().len() == 1);
    };
    world.director().enter(work).unwrap();
}
