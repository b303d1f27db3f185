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
use std::num::NonZeroU32;
use std::time::Duration;

use quorate_dataplane::Dataplane;
use quorate_dataplane::linux::Linux;
use quorate_model::kernel::{
    ConnectionTimeouts, DesiredService, DesiredServices, Destination, Family, ServiceKey,
    ServiceSettings,
};
use quorate_model::plan::plan;
use quorate_model::spec::{
    Engine, Forward, Persistence, Protocol, Scheduler, SchedulerFlags, Thresholds, Tunnel,
    TunnelChecksum,
};
use quorate_tests::contract::{self, ADDRESSES, LinuxWorld, RULES, SERVICES, SYNC};
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
        contract::run(SYNC, &mut linux, &mut world, |rule| println!("{rule}"));
        contract::run(ADDRESSES, &mut linux, &mut world, |rule| println!("{rule}"));
        contract::run(RULES, &mut linux, &mut world, |rule| println!("{rule}"));
    };
    director.enter(work).unwrap();
}

fn service(
    scheduler: &str,
    persistence: Option<Persistence>,
    servers: &[(&str, Forward, u32)],
) -> DesiredService {
    DesiredService {
        settings: ServiceSettings {
            persistence,
            ..ServiceSettings::plain(Scheduler::named(scheduler).unwrap())
        },
        destinations: servers
            .iter()
            .map(|(at, forward, weight)| (at.parse().unwrap(), Destination::new(*forward, *weight)))
            .collect(),
    }
}

/// What only some services and real servers have.
fn besides(desired: &mut DesiredServices) {
    let named = |scheduler: &str| ServiceSettings::plain(Scheduler::named(scheduler).unwrap());
    let key = |protocol, at: &str| ServiceKey::at(protocol, at.parse().unwrap());
    let sip = Some(Persistence { timeout_s: 60, prefix: 32, engine: Engine::named("sip") });
    let gue = Tunnel::Gue { port: 6080, checksum: TunnelChecksum::Full };
    let thresholds = Thresholds { upper: 1_000, lower: 800 };
    let with = |settings, servers: &[(&str, Destination)]| {
        let at = |(at, to): &(&str, Destination)| (at.parse().unwrap(), *to);
        DesiredService { settings, destinations: servers.iter().map(at).collect() }
    };
    let dr = Destination::new(Forward::Dr, 1);
    let mark = |mark, family| ServiceKey::Marked { mark: NonZeroU32::new(mark).unwrap(), family };
    let sticky = Some(Persistence { timeout_s: 50, prefix: 32, engine: None });
    let tun = |tunnel| Destination::new(Forward::Tun(tunnel), 1);
    desired.extend([
        (
            mark(7, Family::V4),
            with(
                ServiceSettings { persistence: sticky, ..named("rr") },
                &[
                    ("192.168.10.16:0", dr),
                    ("192.168.10.17:8443", Destination::new(Forward::Nat, 2)),
                ],
            ),
        ),
        (mark(i32::MAX as u32, Family::V6), with(named("wlc"), &[("[2001:db8:10::16]:0", dr)])),
        (
            key(Protocol::Sctp, "192.168.10.180:3868"),
            with(named("fo"), &[("192.168.10.16:3868", dr)]),
        ),
        (
            key(Protocol::Udp, "192.168.10.180:53"),
            with(ServiceSettings { one_packet: true, ..named("rr") }, &[("192.168.10.16:53", dr)]),
        ),
        (
            key(Protocol::Udp, "192.168.10.180:5060"),
            with(ServiceSettings { persistence: sip, ..named("rr") }, &[]),
        ),
        (
            key(Protocol::Tcp, "192.168.10.180:8080"),
            with(
                ServiceSettings { flags: SchedulerFlags::from_bits(3), ..named("mh") },
                &[
                    ("192.168.10.16:8080", Destination { thresholds, ..dr }),
                    ("192.168.10.17:8080", tun(gue)),
                    ("[2001:db8:10::16]:8080", tun(Tunnel::Gre { checksum: true })),
                ],
            ),
        ),
        (
            key(Protocol::Tcp, "192.168.10.180:8081"),
            with(ServiceSettings { flags: SchedulerFlags::from_bits(2), ..named("sh") }, &[]),
        ),
    ]);
}

fn desired() -> DesiredServices {
    let key = |protocol, at: &str| ServiceKey::at(protocol, at.parse().unwrap());
    let sticky = |timeout_s, prefix| Some(Persistence { timeout_s, prefix, engine: None });
    let mut desired: DesiredServices = [
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
                &[
                    ("192.168.10.16:443", Forward::Tun(Tunnel::Ipip), 3),
                    ("192.168.10.17:8443", Forward::Nat, 7),
                ],
            ),
        ),
        (
            key(Protocol::Udp, "[2001:db8:10::180]:53"),
            service("mh", sticky(10, 64), &[("[2001:db8:10::16]:53", Forward::Dr, 65_535)]),
        ),
    ]
    .into();
    besides(&mut desired);
    desired
}

/// ipvsadm(8) takes them, and does not print them with `-S`.
const THRESHOLDS: &str = " -x 1000 -y 800";
/// What ipvsadm(8) prints of that table with `-Sn` but for thresholds, in any order.
const SAVED: [&str; 23] = [
    "-A -f 7 -s rr -p 50",
    "-a -f 7 -r 192.168.10.16:0 -g -w 1",
    "-a -f 7 -r 192.168.10.17:8443 -m -w 2",
    "-A -f 2147483647 -6 -s wlc",
    "-a -f 2147483647 -6 -r [2001:db8:10::16]:0 -g -w 1",
    "-A -t 192.168.10.180:80 -s rr",
    "-a -t 192.168.10.180:80 -r 192.168.10.16:80 -g -w 1",
    "-a -t 192.168.10.180:80 -r 192.168.10.17:80 -g -w 0",
    "-A -t 192.168.10.180:443 -s wlc -p 50 -M 255.255.255.0",
    "-a -t 192.168.10.180:443 -r 192.168.10.16:443 -i -w 3 --tun-type ipip",
    "-a -t 192.168.10.180:443 -r 192.168.10.17:8443 -m -w 7",
    "-A -u [2001:db8:10::180]:53 -s mh -p 10 -M 64",
    "-a -u [2001:db8:10::180]:53 -r [2001:db8:10::16]:53 -g -w 65535",
    "-A --sctp-service 192.168.10.180:3868 -s fo",
    "-a --sctp-service 192.168.10.180:3868 -r 192.168.10.16:3868 -g -w 1",
    "-A -u 192.168.10.180:53 -s rr -o",
    "-a -u 192.168.10.180:53 -r 192.168.10.16:53 -g -w 1",
    "-A -u 192.168.10.180:5060 -s rr -p 60 --pe sip",
    "-A -t 192.168.10.180:8080 -s mh -b mh-fallback,mh-port",
    "-a -t 192.168.10.180:8080 -r 192.168.10.16:8080 -g -w 1 -x 1000 -y 800",
    "-a -t 192.168.10.180:8080 -r 192.168.10.17:8080 -i -w 1 --tun-type gue --tun-port 6080 --tun-csum",
    "-a -t 192.168.10.180:8080 -r [2001:db8:10::16]:8080 -i -w 1 --tun-type gre --tun-csum",
    "-A -t 192.168.10.180:8081 -s sh -b sh-port",
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
        let mut linux = Linux::new().unwrap();
        linux.set_timeouts(ConnectionTimeouts { tcp_s: 600, tcp_fin_s: 60, udp_s: 30 }).unwrap();
        linux.apply(&actions)
    };
    assert_eq!(world.director().enter(apply).unwrap(), []);
    let without_thresholds = SAVED.map(|line| line.replace(THRESHOLDS, ""));
    assert_eq!(saved(world.director()), without_thresholds.into());
    let shown = world.director().run_ok("ipvsadm -Ln --thresholds", LIMIT).unwrap();
    let timeouts = world.director().run_ok("ipvsadm -L --timeout", LIMIT).unwrap();
    assert_eq!(timeouts.trim(), "Timeout (tcp tcpfin udp): 600 60 30");
    let limits = |line: &str| {
        let words: Vec<&str> = line.split_whitespace().collect();
        matches!(words.as_slice(), ["->", "192.168.10.16:8080", "1000", "800", ..])
    };
    assert!(shown.lines().any(limits), "{shown}");

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

/// The family's number changes then; a dataplane that is open goes on with the new one.
#[test]
fn ip_vs_may_be_loaded_anew_under_an_open_dataplane() {
    assert!(host_has_ipvs(), "this kernel has no ip_vs: run it with `cargo xtask test`");
    if !in_vm() {
        return; // Nobody else's ip_vs is unloaded.
    }
    let world = LinuxWorld::new();
    let key = ServiceKey::at(Protocol::Tcp, "192.168.10.180:80".parse().unwrap());
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
