//! The rules about routes and policy rules of VIP groups.

use std::time::Duration;

use quorate_dataplane::{Dataplane, DataplaneError};
use quorate_model::id::DeviceName;
use quorate_model::kernel::DeviceAddress;
use quorate_model::routing::{Routing, RoutingEntry};

use super::{Environment, Rule};

/// Rules that need CAP_NET_ADMIN, and no ip_vs.
pub const ROUTING: &[Rule] = &[
    Rule { name: "what is added is observed just so, and gone when it is removed", check: added },
    Rule { name: "adding and removing routes and rules twice is success", check: twice },
    Rule {
        name: "a route of another program keeps its place and is never removed",
        check: foreign,
    },
    Rule { name: "a rule of another program is never removed", check: foreign_rule },
    Rule { name: "another route of ours has the place", check: taken },
    Rule { name: "a route to send from an address needs it, and goes with it", check: source },
    Rule { name: "routes go with their device, rules stay", check: down },
    Rule { name: "a route on a missing device is refused and removed already", check: missing },
    Rule { name: "what was removed by hand is added again", check: by_hand },
];

type Kernel<'a> = &'a mut dyn Dataplane;
type World<'a> = &'a mut dyn Environment;

const VIPS: [&str; 2] = ["198.51.100.1/32", "2001:db8:100::1/128"];

fn entry(text: &str) -> RoutingEntry {
    text.parse().unwrap()
}

/// Routes to the rules' own networks, that need no address of this host.
fn plain(device: &DeviceName) -> Vec<RoutingEntry> {
    [
        format!("route unicast 198.51.100.0/24 on {device} table 254 metric 0 scope link"),
        format!("route unicast 198.51.100.0/24 on {device} table 254 metric 7 scope link"),
        format!("route unicast 198.51.100.64/26 on {device} table 254 metric 0 scope global"),
        format!("route unicast 198.51.100.2/32 on {device} table 100 metric 0 scope link"),
        format!("route unicast 0.0.0.0/0 on {device} table 4294967295 metric 4294967295 scope link mtu 1400"),
        format!("route unicast 2001:db8:100::/48 on {device} table 254 metric 1024 scope global"),
        format!("route unicast ::/0 on {device} table 256 metric 1 scope global mtu 1280"),
    ]
    .iter()
    .map(|text| entry(text))
    .chain(nowhere())
    .collect()
}

/// Routes that lead nowhere, which no device takes along.
fn nowhere() -> Vec<RoutingEntry> {
    [
        "route blackhole 198.51.100.128/25 table 254 metric 0 scope global",
        "route unreachable 0.0.0.0/0 table 100 metric 9 scope global",
        "route prohibit 198.51.100.129/32 table 100 metric 0 scope global",
        "route blackhole 2001:db8:100:1::/64 table 254 metric 1024 scope global",
        "route unreachable ::/0 table 100 metric 1024 scope global",
        "route prohibit 2001:db8:100:2::/64 table 300 metric 5 scope global",
    ]
    .map(entry)
    .into()
}

/// Rules for the rules' own networks.
fn rules(device: &DeviceName) -> Vec<RoutingEntry> {
    [
        "rule IPv4 1000 from 198.51.100.0/24 lookup 100".to_owned(),
        "rule IPv4 1001 from 198.51.100.0/24 to 198.51.100.1/32 mark 1/255 blackhole".to_owned(),
        format!("rule IPv4 1002 not from 198.51.100.0/24 to 198.51.100.0/24 incoming {device} lookup 4294967295"),
        "rule IPv4 1003 mark 4294967295/4294967295 to 198.51.100.0/24 unreachable".to_owned(),
        format!("rule IPv4 40000 to 198.51.100.0/24 outgoing {device} prohibit"),
        "rule IPv6 1000 from 2001:db8:100::/48 lookup 254".to_owned(),
        "rule IPv6 1001 to 2001:db8:100::/48 incoming nosuch0 lookup 256".to_owned(),
        "rule IPv6 1002 not to 2001:db8:100::1/128 mark 7/7 prohibit".to_owned(),
    ]
    .iter()
    .map(|text| entry(text))
    .collect()
}

/// Routes through a gateway that is on the device, with the addresses that they are to send from.
fn sourced(device: &DeviceName) -> [(DeviceAddress, RoutingEntry); 2] {
    let [four, six] =
        VIPS.map(|vip| DeviceAddress { device: device.clone(), net: vip.parse().unwrap() });
    let four_to = format!(
        "route unicast 203.0.113.0/24 via 192.0.2.2 on {device} source 198.51.100.1 table 254 metric 0 scope global mtu 1400"
    );
    let six_to = format!(
        "route unicast 2001:db8:200::/48 via fe80::1 on {device} source 2001:db8:100::1 table 254 metric 1024 scope global"
    );
    [(four, entry(&four_to)), (six, entry(&six_to))]
}

fn observed(dataplane: Kernel<'_>) -> Routing {
    dataplane.observe_routing().unwrap()
}

fn set(entries: &[RoutingEntry]) -> Routing {
    entries.iter().cloned().collect()
}

fn add_all(dataplane: Kernel<'_>, entries: &[RoutingEntry]) {
    for entry in entries {
        assert_eq!(dataplane.add_routing(entry), Ok(()), "{entry}");
    }
}

fn remove_all(dataplane: Kernel<'_>, entries: &[RoutingEntry]) {
    for entry in entries {
        assert_eq!(dataplane.remove_routing(entry), Ok(()), "{entry}");
    }
}

fn added(dataplane: Kernel<'_>, world: World<'_>) {
    let all = [plain(&world.device()), rules(&world.device())].concat();
    assert_eq!(observed(dataplane), Routing::new());
    let mut want = Routing::new();
    for entry in &all {
        assert_eq!(dataplane.add_routing(entry), Ok(()), "{entry}");
        want.insert(entry.clone());
        assert_eq!(observed(dataplane), want);
    }
    for entry in &all {
        assert_eq!(dataplane.remove_routing(entry), Ok(()), "{entry}");
        want.remove(entry);
        assert_eq!(observed(dataplane), want);
    }
}

fn twice(dataplane: Kernel<'_>, world: World<'_>) {
    let all = [plain(&world.device()), rules(&world.device())].concat();
    for _ in 0..2 {
        add_all(dataplane, &all);
        assert_eq!(observed(dataplane), set(&all));
    }
    for _ in 0..2 {
        remove_all(dataplane, &all);
        assert_eq!(observed(dataplane), Routing::new());
    }
}

fn foreign(dataplane: Kernel<'_>, world: World<'_>) {
    for route in plain(&world.device()) {
        world.add_foreign_routing(&route);
        let error = dataplane.add_routing(&route).unwrap_err();
        assert!(matches!(error, DataplaneError::Taken { .. }), "{route}: {error:?}");
        assert_eq!(observed(dataplane), Routing::new());
        assert_eq!(dataplane.remove_routing(&route), Ok(()));
        assert!(world.has_routing(&route), "{route}");
        world.take_routing(&route);
        assert_eq!(dataplane.add_routing(&route), Ok(()));
        assert_eq!(dataplane.remove_routing(&route), Ok(()));
    }
}

/// Some kernels take one rule of each program, others the first alone.
fn foreign_rule(dataplane: Kernel<'_>, world: World<'_>) {
    for rule in rules(&world.device()) {
        world.add_foreign_routing(&rule);
        match dataplane.add_routing(&rule) {
            Ok(()) => assert_eq!(observed(dataplane), [rule.clone()].into()),
            Err(error) => assert!(matches!(error, DataplaneError::Taken { .. }), "{error:?}"),
        }
        for _ in 0..2 {
            assert_eq!(dataplane.remove_routing(&rule), Ok(()));
            assert_eq!(observed(dataplane), Routing::new());
        }
        assert!(world.has_routing(&rule), "{rule}");
        world.take_routing(&rule);
        assert!(!world.has_routing(&rule), "{rule}");
    }
}

fn taken(dataplane: Kernel<'_>, _: World<'_>) {
    let [one, other] = [
        "route blackhole 198.51.100.0/24 table 100 metric 3 scope global",
        "route unreachable 198.51.100.0/24 table 100 metric 3 scope global",
    ]
    .map(entry);
    add_all(dataplane, std::slice::from_ref(&one));
    let error = dataplane.add_routing(&other).unwrap_err();
    assert!(matches!(error, DataplaneError::Taken { .. }), "{error:?}");
    remove_all(dataplane, std::slice::from_ref(&other));
    assert_eq!(observed(dataplane), set(&[one]));
}

fn source(dataplane: Kernel<'_>, world: World<'_>) {
    for (address, route) in sourced(&world.device()) {
        let error = dataplane.add_routing(&route).unwrap_err();
        assert!(matches!(error, DataplaneError::Refused { .. }), "{route}: {error:?}");
        dataplane.add_address(&address, Some(Duration::from_secs(100))).unwrap();
        add_all(dataplane, std::slice::from_ref(&route));
        assert_eq!(observed(dataplane), set(std::slice::from_ref(&route)));
        dataplane.remove_address(&address).unwrap();
        // Of IPv6 the route stays without its source, which makes it another.
        let left = observed(dataplane);
        assert!(!left.contains(&route), "{left:?}");
        dataplane.add_address(&address, Some(Duration::from_secs(100))).unwrap();
        let left: Vec<RoutingEntry> = left.into_iter().collect();
        remove_all(dataplane, &left);
        add_all(dataplane, std::slice::from_ref(&route));
        assert_eq!(observed(dataplane), set(std::slice::from_ref(&route)));
        remove_all(dataplane, &[route]);
    }
}

fn down(dataplane: Kernel<'_>, world: World<'_>) {
    let device = world.device();
    let stay = [nowhere(), rules(&device)].concat();
    add_all(dataplane, &[plain(&device), rules(&device)].concat());
    world.set_device_up(false);
    assert_eq!(observed(dataplane), set(&stay));
    let route = &plain(&device)[0];
    let error = dataplane.add_routing(route).unwrap_err();
    assert!(matches!(error, DataplaneError::Refused { .. }), "{error:?}");
    world.set_device_up(true);
    add_all(dataplane, &plain(&device));
    assert_eq!(observed(dataplane), set(&[plain(&device), stay].concat()));
}

fn missing(dataplane: Kernel<'_>, _: World<'_>) {
    let route = entry("route unicast 198.51.100.0/24 on nosuch0 table 254 metric 0 scope link");
    let error = dataplane.add_routing(&route).unwrap_err();
    assert!(matches!(error, DataplaneError::NoDevice { .. }), "{error:?}");
    assert_eq!(dataplane.remove_routing(&route), Ok(()));
}

fn by_hand(dataplane: Kernel<'_>, world: World<'_>) {
    let all = [plain(&world.device()), rules(&world.device())].concat();
    add_all(dataplane, &all);
    for entry in &all {
        world.take_routing(entry);
        assert!(!observed(dataplane).contains(entry), "{entry}");
        assert_eq!(dataplane.add_routing(entry), Ok(()));
        assert_eq!(observed(dataplane), set(&all));
    }
}
