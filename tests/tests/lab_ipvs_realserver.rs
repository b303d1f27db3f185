//! A real server's set-up: idempotent, silent on the network, and undone without harm to other
//! VIPs. Needs root and the tunnel modules; run by `cargo xtask test`, on the host or in the
//! virtual machine.
#![forbid(unsafe_code)]
#![allow(clippy::unwrap_used, reason = "what a test relies on fails the test")]

use std::net::IpAddr;
use std::time::Duration;

use quorate_dataplane::realserver::{self, Mode, Outcome, Part, Step};
use quorate_tests::contract::LinuxWorld;
use quorate_tests::lab::client::arp_owner;
use quorate_tests::lab::network::INTERFACE;

const LIMIT: Duration = Duration::from_secs(60);

type Call = fn(IpAddr, Mode) -> Result<Vec<Step>, quorate_dataplane::DataplaneError>;

/// A real server with nothing set up.
struct RealServer(LinuxWorld);

impl RealServer {
    fn new() -> Self {
        let world = LinuxWorld::new();
        for (key, value) in [("arp_ignore", "0"), ("arp_announce", "0"), ("rp_filter", "2")] {
            for place in ["all", "default", "lo"] {
                let name = format!("net/ipv4/conf/{place}/{key}");
                world.director().set_parameter(&name, value).unwrap();
            }
        }
        // There already where an earlier test has loaded the module.
        let _absent = world.director().set_parameter("net/ipv4/conf/tunl0/rp_filter", "2");
        Self(world)
    }

    fn does(&self, call: Call, vip: &str, mode: Mode) -> Vec<Step> {
        let vip = vip.parse().unwrap();
        self.0.director().enter(|| call(vip, mode)).unwrap().unwrap()
    }

    fn prints(&self, line: &str) -> String {
        self.0.director().run_ok(line, LIMIT).unwrap()
    }

    fn conf(&self, name: &str) -> String {
        self.prints(&format!("cat /proc/sys/net/ipv4/conf/{name}")).trim().to_owned()
    }
}

fn all(steps: &[Step], outcome: &Outcome) -> bool {
    !steps.is_empty() && steps.iter().all(|step| step.outcome == *outcome)
}

#[test]
fn setting_up_twice_is_setting_up_once_and_undoing_leaves_nothing() {
    for (vip, mode, parts) in [
        ("198.51.100.1", Mode::Dr, 6),
        ("198.51.100.1", Mode::Tun, 10),
        ("2001:db8:100::1", Mode::Dr, 2),
        ("2001:db8:100::1", Mode::Tun, 4),
    ] {
        let server = RealServer::new();
        let before = server.does(realserver::check, vip, mode);
        assert!(all(&before, &Outcome::Missing), "{before:?}");
        assert_eq!(before.len(), parts);

        let first = server.does(realserver::setup, vip, mode);
        assert!(all(&first, &Outcome::Done), "{first:?}");
        for call in [realserver::setup as Call, realserver::check] {
            let again = server.does(call, vip, mode);
            assert!(all(&again, &Outcome::Already), "{again:?}");
        }

        let undone = server.does(realserver::undo, vip, mode);
        assert!(all(&undone, &Outcome::Done), "{undone:?}");
        assert_eq!(undone.len(), parts);
        let again = server.does(realserver::undo, vip, mode);
        assert!(all(&again, &Outcome::Already), "{again:?}");
        let after = server.does(realserver::check, vip, mode);
        assert!(all(&after, &Outcome::Missing), "{after:?}");
    }
}

#[test]
fn administrators_see_the_address_its_route_and_the_sysctls() {
    let server = RealServer::new();
    server.does(realserver::setup, "198.51.100.1", Mode::Tun);
    assert!(server.prints("ip -o -4 address show dev lo").contains("inet 198.51.100.1/32 "));
    assert!(server.prints("ip route show dev lo").contains("198.51.100.1 proto static scope link"));
    assert!(server.prints("ip -o link show dev tunl0").contains(",UP"));
    for (name, value) in [
        ("lo/arp_ignore", "1"),
        ("all/arp_ignore", "1"),
        ("lo/arp_announce", "2"),
        ("all/arp_announce", "2"),
        ("tunl0/rp_filter", "0"),
        ("all/rp_filter", "0"),
    ] {
        assert_eq!(server.conf(name), value, "{name}");
    }
    // What tunl0 carries, without the headers of IP and TCP.
    let clamp = server.prints("nft list table inet quorate_rs_198.51.100.1");
    assert!(
        clamp.contains("ip saddr 198.51.100.1") && clamp.contains("maxseg size set 1440"),
        "{clamp}"
    );
    server.does(realserver::setup, "2001:db8:100::1", Mode::Dr);
    assert!(server.prints("ip -o -6 address show dev lo").contains("inet6 2001:db8:100::1/128 "));
    assert!(server.prints("ip -6 route show dev lo").contains("2001:db8:100::1 "));
}

#[test]
fn undoing_one_vip_leaves_what_another_needs() {
    let server = RealServer::new();
    server.does(realserver::setup, "198.51.100.1", Mode::Dr);
    server.does(realserver::setup, "198.51.100.2", Mode::Dr);

    let undone = server.does(realserver::undo, "198.51.100.1", Mode::Dr);
    for step in &undone {
        let of_one_vip = matches!(step.part, Part::Address(_) | Part::Route(_));
        let want = if of_one_vip { Outcome::Done } else { Outcome::Left };
        assert_eq!(step.outcome, want, "{}", step.part);
    }
    let other = server.does(realserver::check, "198.51.100.2", Mode::Dr);
    assert!(all(&other, &Outcome::Already), "{other:?}");

    let undone = server.does(realserver::undo, "198.51.100.2", Mode::Dr);
    assert!(all(&undone, &Outcome::Done), "{undone:?}");
    assert_eq!(
        (server.conf("all/arp_ignore"), server.conf("lo/arp_announce")),
        ("0".into(), "0".into())
    );
}

#[test]
fn a_real_server_never_tells_the_network_that_it_has_the_vip() {
    let server = RealServer::new();
    // Without the sysctls, Linux answers for an address of any of its devices.
    server.prints("ip address add 198.51.100.9/32 dev lo");
    let ask = |vip: &str| {
        let neighbour = server.0.neighbour();
        arp_owner(neighbour, INTERFACE, vip.parse().unwrap(), Duration::from_secs(2)).unwrap()
    };
    assert_eq!(ask("198.51.100.9").len(), 1, "the question is never answered: it proves nothing");
    server.does(realserver::setup, "198.51.100.1", Mode::Dr);
    assert_eq!(ask("198.51.100.1").len(), 0);
    assert_eq!(ask("198.51.100.9").len(), 0);
}
