//! The contract of a dataplane, on Linux with real IPVS; and that `ipvsadm` sees what was
//! programmed. Needs a kernel with ip_vs; run by `cargo xtask test`, on the host or in the virtual
//! machine.
#![forbid(unsafe_code)]
#![allow(
    clippy::unwrap_used,
    clippy::print_stdout,
    reason = "what a test relies on fails the test; the rule that fails is the last one named"
)]

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use quorate_dataplane::Dataplane;
use quorate_dataplane::linux::Linux;
use quorate_model::kernel::{
    DesiredService, DesiredServices, Destination, ServiceKey, ServiceSettings,
};
use quorate_model::plan::plan;
use quorate_model::spec::{Forward, Persistence, Protocol, Scheduler};
use quorate_tests::contract::{self, ADDRESSES, LinuxWorld, SERVICES};
use quorate_tests::lab::namespace::Namespace;
use quorate_tests::lab::{host_has_ipvs, in_vm};

const LIMIT: Duration = Duration::from_secs(60);

#[test]
fn linux_keeps_the_rules_of_services_and_addresses() {
    assert!(host_has_ipvs(), "this kernel has no ip_vs: run it with `cargo xtask test`");
    let mut world = LinuxWorld::new();
    let director = Namespace::open(world.director().name()).unwrap();
    let work = || {
        let mut linux = Linux::new().unwrap();
        contract::run(SERVICES, &mut linux, &mut world, |rule| println!("{rule}"));
        contract::run(ADDRESSES, &mut linux, &mut world, |rule| println!("{rule}"));
    };
    director.enter(work).unwrap();
}

fn service(
    scheduler: &str,
    persistence: Option<Persistence>,
    servers: &[(&str, Forward, u32)],
) -> DesiredService {
    DesiredService {
        settings: ServiceSettings { scheduler: Scheduler::named(scheduler).unwrap(), persistence },
        destinations: servers
            .iter()
            .map(|(at, forward, weight)| {
                (at.parse().unwrap(), Destination { forward: *forward, weight: *weight })
            })
            .collect(),
    }
}

fn desired() -> DesiredServices {
    let key = |protocol, at: &str| ServiceKey { protocol, address: at.parse().unwrap() };
    let sticky = |timeout_s, prefix| Some(Persistence { timeout_s, prefix });
    [
        (
            key(Protocol::Tcp, "192.168.10.180:80"),
            service(
                "rr",
                None,
                &[("192.168.10.16:80", Forward::Dr, 1), ("192.168.10.17:80", Forward::Dr, 0)],
            ),
        ),
        (
            key(Protocol::Tcp, "192.168.10.180:443"),
            service(
                "wlc",
                sticky(50, 24),
                &[("192.168.10.16:443", Forward::Tun, 3), ("192.168.10.17:8443", Forward::Nat, 7)],
            ),
        ),
        (
            key(Protocol::Udp, "[2001:db8:10::180]:53"),
            service("mh", sticky(10, 64), &[("[2001:db8:10::16]:53", Forward::Dr, 65_535)]),
        ),
    ]
    .into()
}

/// What ipvsadm(8) prints of that table with `-Sn`, in any order.
const SAVED: [&str; 8] = [
    "-A -t 192.168.10.180:80 -s rr",
    "-a -t 192.168.10.180:80 -r 192.168.10.16:80 -g -w 1",
    "-a -t 192.168.10.180:80 -r 192.168.10.17:80 -g -w 0",
    "-A -t 192.168.10.180:443 -s wlc -p 50 -M 255.255.255.0",
    "-a -t 192.168.10.180:443 -r 192.168.10.16:443 -i -w 3 --tun-type ipip",
    "-a -t 192.168.10.180:443 -r 192.168.10.17:8443 -m -w 7",
    "-A -u [2001:db8:10::180]:53 -s mh -p 10 -M 64",
    "-a -u [2001:db8:10::180]:53 -r [2001:db8:10::16]:53 -g -w 65535",
];

fn saved(director: &Namespace) -> BTreeSet<String> {
    let saved = director.run_ok("ipvsadm -Sn", LIMIT).unwrap();
    saved.lines().map(|line| line.split_whitespace().collect::<Vec<_>>().join(" ")).collect()
}

#[test]
fn ipvsadm_sees_what_was_programmed_and_quorate_sees_what_ipvsadm_restored() {
    assert!(host_has_ipvs(), "this kernel has no ip_vs: run it with `cargo xtask test`");
    let world = LinuxWorld::new();
    let desired = desired();
    let apply = || {
        let actions = plan(&desired, &BTreeMap::new(), &BTreeSet::new());
        Linux::new().unwrap().apply(&actions)
    };
    assert_eq!(world.director().enter(apply).unwrap(), []);
    assert_eq!(saved(world.director()), SAVED.map(str::to_owned).into());

    // The other way round: another program makes the same table, and there is nothing to do.
    world.director().run_ok("ipvsadm -C", LIMIT).unwrap();
    for line in SAVED {
        world.director().run_ok(&format!("ipvsadm {line}"), LIMIT).unwrap();
    }
    let observe = || Linux::new().unwrap().observe_services();
    let observed = world.director().enter(observe).unwrap().unwrap();
    assert_eq!(plan(&desired, &observed, &BTreeSet::new()), []);
    assert_eq!(observed.len(), desired.len());
}

#[test]
fn services_by_firewall_mark_are_left_out_and_left_alone() {
    assert!(host_has_ipvs(), "this kernel has no ip_vs: run it with `cargo xtask test`");
    let world = LinuxWorld::new();
    for line in ["ipvsadm -A -f 7 -s rr", "ipvsadm -a -f 7 -r 192.168.10.16 -g -w 1"] {
        world.director().run_ok(line, LIMIT).unwrap();
    }
    let before = saved(world.director());
    let observe = || Linux::new().unwrap().observe_services();
    assert_eq!(world.director().enter(observe).unwrap(), Ok(BTreeMap::new()));
    assert_eq!(saved(world.director()), before);
    assert_eq!(before.len(), 2);
}

/// The family's number changes then; a dataplane that is open goes on with the new one.
#[test]
fn ip_vs_may_be_loaded_anew_under_an_open_dataplane() {
    assert!(host_has_ipvs(), "this kernel has no ip_vs: run it with `cargo xtask test`");
    if !in_vm() {
        return; // Nobody else's ip_vs is unloaded.
    }
    let world = LinuxWorld::new();
    let key = ServiceKey { protocol: Protocol::Tcp, address: "192.168.10.180:80".parse().unwrap() };
    let desired: DesiredServices =
        [(key, service("rr", None, &[("192.168.10.16:80", Forward::Dr, 1)]))].into();
    let actions = plan(&desired, &BTreeMap::new(), &BTreeSet::new());
    let director = world.director();
    let work = || {
        let mut linux = Linux::new().unwrap();
        let mut writer = Linux::new().unwrap();
        for round in 0..3 {
            assert_eq!(writer.apply(&actions), [], "round {round}");
            let observed = linux.observe_services().unwrap();
            assert_eq!(plan(&desired, &observed, &BTreeSet::new()), [], "round {round}");
            director.run_ok("ipvsadm -C", LIMIT).unwrap();
            director.run_ok("modprobe -r ip_vs_rr ip_vs", LIMIT).unwrap();
        }
    };
    director.enter(work).unwrap();
}
