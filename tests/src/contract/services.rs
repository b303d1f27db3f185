//! The rules about virtual services and real servers.

use std::collections::{BTreeMap, BTreeSet};
use std::num::NonZeroU32;

use quorate_dataplane::{Dataplane, DataplaneError, Errno};
use quorate_model::kernel::{
    ConnectionTimeouts, DesiredService, DesiredServices, Destination, Family, ServiceKey,
    ServiceSettings, Statistics,
};
use quorate_model::plan::{Action, plan};
use quorate_model::spec::read::TIMEOUT_MAX;
use quorate_model::spec::{
    Engine, Forward, Persistence, Protocol, SCHEDULERS, Scheduler, SchedulerFlags, Thresholds,
    Tunnel, TunnelChecksum,
};

use super::{Environment, Rule, expressed, key, server, settings, sticky, tcp, to};

// include/uapi/asm-generic/errno-base.h
const ENOENT: Errno = Errno(2);
const ESRCH: Errno = Errno(3);
const EINVAL: Errno = Errno(22);
const ERANGE: Errno = Errno(34);

/// Rules that need ip_vs and CAP_NET_ADMIN.
pub const SERVICES: &[Rule] = &[
    Rule { name: "ip_vs is there and tells its version", check: tells_version },
    Rule { name: "an empty kernel is observed as empty", check: empty },
    Rule { name: "services of every kind are observed as they were added", check: every_kind },
    Rule {
        name: "every scheduler is taken by its name, or said to be missing",
        check: every_scheduler,
    },
    Rule { name: "a service by firewall mark is another in each family", check: by_mark },
    Rule { name: "a service without scheduler is one, and gets its scheduler later", check: none },
    Rule { name: "persistence is set, changed and cleared", check: persistence },
    Rule {
        name: "flags, one-packet scheduling and an engine are set, changed and cleared",
        check: settings_besides,
    },
    Rule {
        name: "every tunnel, and thresholds, are set, changed and cleared",
        check: ways_besides,
    },
    Rule { name: "weight and forwarding method are changed in place", check: change_destination },
    Rule { name: "time-outs of connections are set, and read as they were set", check: timeouts },
    Rule { name: "adding what stands already changes it", check: add_again },
    Rule { name: "deleting what is gone is success", check: delete_again },
    Rule { name: "changing what is gone fails as gone", check: change_gone },
    Rule { name: "deleting a service takes its real servers along", check: delete_with_servers },
    Rule { name: "what fails does not stop what follows", check: failures_are_apart },
    Rule { name: "a real server of the other family is reached by tunnel only", check: mixed },
    Rule { name: "addresses and weights that no server has are refused", check: refused },
    Rule { name: "a plan makes the desired table, and a second plan is empty", check: planned },
    Rule { name: "foreign services stay, and adopted ones become as desired", check: foreign },
    Rule { name: "a large table is observed in full", check: large },
];

type Kernel<'a> = &'a mut dyn Dataplane;
type World<'a> = &'a mut dyn Environment;

fn done(dataplane: Kernel<'_>, actions: &[Action]) {
    assert_eq!(dataplane.apply(actions), []);
}

fn table(dataplane: Kernel<'_>) -> DesiredServices {
    expressed(&dataplane.observe_services().unwrap())
}

/// The one error of the one action.
fn refusal(dataplane: Kernel<'_>, action: &Action) -> DataplaneError {
    let failures = dataplane.apply(std::slice::from_ref(action));
    let [(failed, error)] = failures.try_into().unwrap();
    assert_eq!(&failed, action);
    error
}

fn tells_version(dataplane: Kernel<'_>, _: World<'_>) {
    let capabilities = dataplane.capabilities();
    assert!(capabilities.net_admin);
    let info = capabilities.ipvs.unwrap();
    assert_eq!(info.version.0, 1, "{info:?}");
    assert!(info.connection_table_size.is_power_of_two(), "{info:?}");
}

fn empty(dataplane: Kernel<'_>, _: World<'_>) {
    assert_eq!(dataplane.observe_services(), Ok(BTreeMap::new()));
}

fn every_kind(dataplane: Kernel<'_>, _: World<'_>) {
    let mut want = DesiredServices::new();
    for (_, protocol) in Protocol::WORDS {
        for (vip, servers) in [
            ("198.51.100.1:53", ["192.0.2.1:53", "192.0.2.2:53", "192.0.2.3:53"]),
            ("[2001:db8:100::1]:53", ["[2001:db8::1]:53", "[2001:db8::2]:53", "[2001:db8::3]:53"]),
        ] {
            let ways =
                [to(Forward::Dr, 0), to(Forward::Nat, 1), to(Forward::Tun(Tunnel::Ipip), 65_535)];
            let destinations = servers.iter().map(|at| server(at)).zip(ways).collect();
            let service = DesiredService { settings: settings("wrr"), destinations };
            want.insert(key(protocol, vip), service);
        }
    }
    done(dataplane, &plan(&want, &BTreeMap::new(), &BTreeSet::new()));
    assert_eq!(table(dataplane), want);
    let observed = dataplane.observe_services().unwrap();
    for service in observed.values() {
        assert_eq!(service.statistics, Statistics::default());
        assert!(service.destinations.values().all(|found| found.active + found.inactive == 0));
    }
}

fn every_scheduler(dataplane: Kernel<'_>, world: World<'_>) {
    let (vip, other) = (tcp("198.51.100.1:80"), tcp("198.51.100.2:80"));
    done(dataplane, &[Action::AddService(vip, settings("rr"))]);
    let missing = world.missing_schedulers();
    assert!(missing.len() < SCHEDULERS.len());
    for name in SCHEDULERS {
        let scheduler = Scheduler::named(name).unwrap();
        let actions =
            [Action::SetService(vip, settings(name)), Action::AddService(other, settings(name))];
        if missing.contains(&scheduler) {
            let before = table(dataplane);
            for action in actions {
                let error = refusal(dataplane, &action);
                let named = matches!(
                    error,
                    DataplaneError::NoScheduler { scheduler: named, .. } if named == scheduler
                );
                assert!(named, "{error:?}");
            }
            assert_eq!(table(dataplane), before);
        } else {
            done(dataplane, &actions);
            assert_eq!(table(dataplane)[&vip].settings, settings(name));
            assert_eq!(table(dataplane)[&other].settings, settings(name));
            done(dataplane, &[Action::DeleteService(other)]);
        }
    }
}

/// Port 0 of a real server is the one that the client asked for.
fn by_mark(dataplane: Kernel<'_>, _: World<'_>) {
    let mark = |mark, family| ServiceKey::Marked { mark: NonZeroU32::new(mark).unwrap(), family };
    let four = with_servers("rr", &[("192.0.2.1:0", to(Forward::Dr, 1))]);
    let nat = with_servers("wlc", &[("192.0.2.1:0", to(Forward::Nat, 1))]);
    let six = with_servers("mh", &[("[2001:db8::1]:0", to(Forward::Dr, 1))]);
    let mut desired: DesiredServices = [
        (mark(1, Family::V4), four),
        (mark(u32::MAX, Family::V4), nat),
        (mark(1, Family::V6), six),
        (tcp("198.51.100.1:80"), with_servers("rr", &[])),
    ]
    .into();
    let ours: BTreeSet<ServiceKey> = desired.keys().copied().collect();
    reach(dataplane, &desired, &ours);
    assert_eq!(table(dataplane), desired);
    desired.remove(&mark(1, Family::V4));
    desired.insert(
        mark(1, Family::V6),
        DesiredService { settings: sticky("rr", 50, 64), ..with_servers("rr", &[]) },
    );
    reach(dataplane, &desired, &ours);
    assert_eq!(table(dataplane), desired);
}

/// So it is loaded with many real servers at once, where each would have it reckoned anew.
fn none(dataplane: Kernel<'_>, _: World<'_>) {
    let (vip, dr) = (tcp("198.51.100.1:80"), to(Forward::Dr, 1));
    let want = with_servers("mh", &[("192.0.2.1:80", dr), ("192.0.2.2:80", dr)]);
    let desired: DesiredServices = [(vip, want.clone())].into();
    let actions = plan(&desired, &BTreeMap::new(), &BTreeSet::new());
    let (last, before) = actions.split_last().unwrap();
    done(dataplane, before);
    assert_eq!(table(dataplane)[&vip].settings.scheduler, Scheduler::NONE);
    let half_done = dataplane.observe_services().unwrap();
    assert_eq!(plan(&desired, &half_done, &BTreeSet::new()), std::slice::from_ref(last));
    done(dataplane, std::slice::from_ref(last));
    assert_eq!(table(dataplane), desired);
}

fn persistence(dataplane: Kernel<'_>, _: World<'_>) {
    for (vip, prefixes) in
        [(tcp("198.51.100.1:80"), [32, 24, 1]), (tcp("[2001:db8:100::1]:80"), [128, 64, 1])]
    {
        done(dataplane, &[Action::AddService(vip, settings("rr"))]);
        for prefix in prefixes {
            for timeout_s in [1, 50, 86_400] {
                let want = sticky("rr", timeout_s, prefix);
                done(dataplane, &[Action::SetService(vip, want)]);
                assert_eq!(table(dataplane)[&vip].settings, want);
            }
        }
        done(dataplane, &[Action::SetService(vip, settings("rr"))]);
        assert_eq!(table(dataplane)[&vip].settings, settings("rr"));
        done(dataplane, &[Action::DeleteService(vip)]);
        done(dataplane, &[Action::AddService(vip, sticky("rr", 7, prefixes[1]))]);
        assert_eq!(table(dataplane)[&vip].settings, sticky("rr", 7, prefixes[1]));
    }
}

fn settings_besides(dataplane: Kernel<'_>, _: World<'_>) {
    let vip = key(Protocol::Udp, "198.51.100.1:5060");
    done(dataplane, &[Action::AddService(vip, settings("sh"))]);
    let engine = Engine::named("sip");
    let by_engine = |settings: ServiceSettings| {
        let persistence = settings.persistence.map(|p| Persistence { engine, ..p });
        ServiceSettings { persistence, ..settings }
    };
    let flags = |scheduler, bits| ServiceSettings {
        flags: SchedulerFlags::from_bits(bits),
        ..settings(scheduler)
    };
    for want in [
        flags("sh", 1),
        flags("sh", 2),
        flags("mh", 3),
        flags("wlc", 7),
        ServiceSettings { one_packet: true, ..flags("rr", 0) },
        by_engine(sticky("rr", 50, 32)),
        sticky("rr", 50, 32),
        ServiceSettings { one_packet: true, ..by_engine(sticky("mh", 50, 24)) },
        settings("wlc"),
    ] {
        done(dataplane, &[Action::SetService(vip, want)]);
        assert_eq!(table(dataplane)[&vip].settings, want);
        done(dataplane, &[Action::DeleteService(vip), Action::AddService(vip, want)]);
        assert_eq!(table(dataplane)[&vip].settings, want);
    }
}

fn ways_besides(dataplane: Kernel<'_>, _: World<'_>) {
    let gue = |port, checksum| Forward::Tun(Tunnel::Gue { port, checksum });
    let gre = |checksum| Forward::Tun(Tunnel::Gre { checksum });
    for (vip, rs) in [
        (tcp("198.51.100.1:80"), server("192.0.2.1:80")),
        (tcp("[2001:db8:100::1]:80"), server("[2001:db8::1]:80")),
        (tcp("198.51.100.2:80"), server("[2001:db8::1]:80")),
        (tcp("[2001:db8:100::2]:80"), server("192.0.2.1:80")),
    ] {
        let first = to(Forward::Tun(Tunnel::Ipip), 1);
        done(
            dataplane,
            &[Action::AddService(vip, settings("rr")), Action::AddDestination(vip, rs, first)],
        );
        for forward in [
            gue(6080, TunnelChecksum::None),
            gue(65_535, TunnelChecksum::Full),
            gre(true),
            gue(1, TunnelChecksum::Remote),
            gre(false),
            Forward::Tun(Tunnel::Ipip),
        ] {
            for (upper, lower) in [(0, 0), (100, 0), (100, 80), (1, 1)] {
                let thresholds = Thresholds { upper, lower };
                let want = Destination { thresholds, ..to(forward, 1) };
                done(dataplane, &[Action::SetDestination(vip, rs, want)]);
                assert_eq!(table(dataplane)[&vip].destinations, [(rs, want)].into());
            }
        }
    }
    let (vip, rs) = (tcp("198.51.100.1:80"), server("192.0.2.2:80"));
    let thresholds = Thresholds { upper: 1, lower: 2 };
    let upside_down = Destination { thresholds, ..to(Forward::Dr, 1) };
    let error = refusal(dataplane, &Action::AddDestination(vip, rs, upside_down));
    assert!(matches!(error, DataplaneError::Refused { errno: ERANGE, .. }), "{error:?}");
}

fn timeouts(dataplane: Kernel<'_>, _: World<'_>) {
    let before = dataplane.timeouts().unwrap();
    let most = u32::try_from(TIMEOUT_MAX.as_secs()).unwrap();
    for (tcp_s, tcp_fin_s, udp_s) in [(1, 2, 3), (most, most, most), (900, 120, 300)] {
        let want = ConnectionTimeouts { tcp_s, tcp_fin_s, udp_s };
        dataplane.set_timeouts(want).unwrap();
        assert_eq!(dataplane.timeouts(), Ok(want));
    }
    let much = ConnectionTimeouts { udp_s: u32::MAX, ..before };
    let error = dataplane.set_timeouts(much).unwrap_err();
    assert!(matches!(error, DataplaneError::Refused { errno: EINVAL, .. }), "{error:?}");
    dataplane.set_timeouts(before).unwrap();
}

fn change_destination(dataplane: Kernel<'_>, _: World<'_>) {
    let (vip, rs) = (tcp("198.51.100.1:80"), server("192.0.2.1:80"));
    done(
        dataplane,
        &[
            Action::AddService(vip, settings("rr")),
            Action::AddDestination(vip, rs, to(Forward::Dr, 1)),
        ],
    );
    for forward in [Forward::Nat, Forward::Tun(Tunnel::Ipip), Forward::Dr] {
        for weight in [0, 1, 65_535] {
            done(dataplane, &[Action::SetDestination(vip, rs, to(forward, weight))]);
            assert_eq!(table(dataplane)[&vip].destinations, [(rs, to(forward, weight))].into());
        }
    }
}

fn add_again(dataplane: Kernel<'_>, _: World<'_>) {
    let (vip, rs) = (tcp("198.51.100.1:80"), server("192.0.2.1:80"));
    let first = to(Forward::Dr, 1);
    done(
        dataplane,
        &[Action::AddService(vip, settings("rr")), Action::AddDestination(vip, rs, first)],
    );
    let second = to(Forward::Tun(Tunnel::Ipip), 9);
    done(
        dataplane,
        &[Action::AddService(vip, sticky("wlc", 50, 24)), Action::AddDestination(vip, rs, second)],
    );
    let want =
        DesiredService { settings: sticky("wlc", 50, 24), destinations: [(rs, second)].into() };
    assert_eq!(table(dataplane), [(vip, want)].into());
}

fn delete_again(dataplane: Kernel<'_>, _: World<'_>) {
    let (vip, rs) = (tcp("198.51.100.1:80"), server("192.0.2.1:80"));
    done(dataplane, &[Action::DeleteDestination(vip, rs), Action::DeleteService(vip)]);
    done(dataplane, &[Action::AddService(vip, settings("rr"))]);
    done(dataplane, &[Action::DeleteDestination(vip, rs)]);
    done(dataplane, &[Action::DeleteService(vip), Action::DeleteService(vip)]);
    assert_eq!(table(dataplane), BTreeMap::new());
}

fn change_gone(dataplane: Kernel<'_>, _: World<'_>) {
    let (vip, rs, way) = (tcp("198.51.100.1:80"), server("192.0.2.1:80"), to(Forward::Dr, 1));
    for action in [
        Action::SetService(vip, settings("rr")),
        Action::AddDestination(vip, rs, way),
        Action::SetDestination(vip, rs, way),
    ] {
        let error = refusal(dataplane, &action);
        assert!(matches!(error, DataplaneError::Gone { errno: ESRCH, .. }), "{error:?}");
    }
    done(dataplane, &[Action::AddService(vip, settings("rr"))]);
    let error = refusal(dataplane, &Action::SetDestination(vip, rs, way));
    assert!(matches!(error, DataplaneError::Gone { errno: ENOENT, .. }), "{error:?}");
    assert_eq!(table(dataplane)[&vip].destinations, BTreeMap::new());
}

fn delete_with_servers(dataplane: Kernel<'_>, _: World<'_>) {
    let (vip, rs) = (tcp("198.51.100.1:80"), server("192.0.2.1:80"));
    let add = [
        Action::AddService(vip, settings("rr")),
        Action::AddDestination(vip, rs, to(Forward::Dr, 1)),
    ];
    done(dataplane, &add);
    done(dataplane, &[Action::DeleteService(vip)]);
    assert_eq!(table(dataplane), BTreeMap::new());
    done(dataplane, &add[..1]);
    assert_eq!(table(dataplane)[&vip].destinations, BTreeMap::new());
}

fn failures_are_apart(dataplane: Kernel<'_>, _: World<'_>) {
    let (vip, gone) = (tcp("198.51.100.1:80"), tcp("198.51.100.9:80"));
    let rs = server("192.0.2.1:80");
    let way = to(Forward::Dr, 1);
    let actions = [
        Action::SetService(gone, settings("rr")),
        Action::AddService(vip, settings("rr")),
        Action::AddDestination(gone, rs, way),
        Action::AddDestination(vip, rs, way),
    ];
    let failed: Vec<Action> =
        dataplane.apply(&actions).into_iter().map(|(action, _)| action).collect();
    assert_eq!(failed, [actions[0].clone(), actions[2].clone()]);
    assert_eq!(table(dataplane)[&vip].destinations, [(rs, way)].into());
}

fn mixed(dataplane: Kernel<'_>, _: World<'_>) {
    let vip = tcp("198.51.100.1:80");
    let rs = server("[2001:db8::1]:80");
    done(dataplane, &[Action::AddService(vip, settings("rr"))]);
    for forward in [Forward::Dr, Forward::Nat] {
        let error = refusal(dataplane, &Action::AddDestination(vip, rs, to(forward, 1)));
        assert!(matches!(error, DataplaneError::Refused { errno: EINVAL, .. }), "{error:?}");
    }
    done(dataplane, &[Action::AddDestination(vip, rs, to(Forward::Tun(Tunnel::Ipip), 1))]);
    assert_eq!(
        table(dataplane)[&vip].destinations,
        [(rs, to(Forward::Tun(Tunnel::Ipip), 1))].into()
    );
}

fn refused(dataplane: Kernel<'_>, _: World<'_>) {
    let (four, six) = (tcp("198.51.100.1:80"), tcp("[2001:db8:100::1]:80"));
    done(dataplane, &[four, six].map(|vip| Action::AddService(vip, settings("rr"))));
    for (vip, address) in [
        (four, "224.0.0.1:80"),
        (four, "0.0.0.0:80"),
        (four, "255.255.255.255:80"),
        (six, "[ff02::1]:80"),
        (six, "[::]:80"),
        (six, "[fe80::1]:80"),
    ] {
        let action = Action::AddDestination(vip, server(address), to(Forward::Dr, 1));
        let error = refusal(dataplane, &action);
        assert!(matches!(error, DataplaneError::Refused { errno: EINVAL, .. }), "{error:?}");
    }
    let heavy = to(Forward::Dr, 1 << 31);
    let error = refusal(dataplane, &Action::AddDestination(four, server("192.0.2.1:80"), heavy));
    assert!(matches!(error, DataplaneError::Refused { errno: ERANGE, .. }), "{error:?}");
}

fn with_servers(scheduler: &str, servers: &[(&str, Destination)]) -> DesiredService {
    let destinations = servers.iter().map(|(at, way)| (server(at), *way)).collect();
    DesiredService { settings: settings(scheduler), destinations }
}

/// Reaches what is desired by one plan, and plans nothing more.
fn reach(dataplane: Kernel<'_>, desired: &DesiredServices, ours: &BTreeSet<ServiceKey>) {
    let before = dataplane.observe_services().unwrap();
    done(dataplane, &plan(desired, &before, ours));
    let after = dataplane.observe_services().unwrap();
    assert_eq!(plan(desired, &after, ours), []);
}

fn planned(dataplane: Kernel<'_>, _: World<'_>) {
    let (web, dns) = (tcp("198.51.100.1:80"), key(Protocol::Udp, "[2001:db8:100::1]:53"));
    let dr = to(Forward::Dr, 1);
    let mut desired: DesiredServices = [
        (web, with_servers("rr", &[("192.0.2.1:80", dr), ("192.0.2.2:80", dr)])),
        (dns, with_servers("mh", &[("[2001:db8::1]:53", to(Forward::Nat, 5))])),
    ]
    .into();
    let ours = [web, dns].into();
    reach(dataplane, &desired, &ours);
    assert_eq!(table(dataplane), desired);

    desired.remove(&dns);
    desired.insert(web, with_servers("wlc", &[("192.0.2.2:80", to(Forward::Dr, 0))]));
    reach(dataplane, &desired, &ours);
    assert_eq!(table(dataplane), desired);
}

fn foreign(dataplane: Kernel<'_>, world: World<'_>) {
    let (ours, adopted, other) =
        (tcp("198.51.100.1:80"), tcp("198.51.100.2:80"), tcp("198.51.100.3:80"));
    world.add_foreign_service(&adopted);
    world.add_foreign_service(&other);
    let observed = dataplane.observe_services().unwrap();
    assert_eq!(observed.len(), 2);
    let before = observed[&other].clone();
    assert_ne!(before.settings, Some(settings("rr")));

    let service = with_servers("rr", &[("192.0.2.1:80", to(Forward::Dr, 1))]);
    let desired: DesiredServices = [(ours, service.clone()), (adopted, service.clone())].into();
    reach(dataplane, &desired, &[ours].into());
    let mut observed = dataplane.observe_services().unwrap();
    let untouched = observed.remove(&other).unwrap();
    assert_eq!(untouched, before);
    assert_eq!(expressed(&observed), desired);
}

fn large(dataplane: Kernel<'_>, _: World<'_>) {
    let mut desired = DesiredServices::new();
    for octet in 1..=150_u8 {
        let servers = (1..=2).map(|rs| (([192, 0, 2, rs], 80).into(), to(Forward::Dr, rs.into())));
        let vip = ServiceKey::at(Protocol::Tcp, ([198, 51, 100, octet], 80).into());
        let service = DesiredService { settings: settings("rr"), destinations: servers.collect() };
        desired.insert(vip, service);
    }
    let many = (1..=250).map(|rs: u8| (([203, 0, 113, rs], 443).into(), to(Forward::Nat, 1)));
    let service = DesiredService { settings: settings("wrr"), destinations: many.collect() };
    desired.insert(tcp("198.51.100.200:443"), service);
    reach(dataplane, &desired, &desired.keys().copied().collect());
    assert_eq!(table(dataplane), desired);
    reach(dataplane, &DesiredServices::new(), &desired.keys().copied().collect());
    assert_eq!(table(dataplane), BTreeMap::new());
}
