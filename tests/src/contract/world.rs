//! The contract's [`Environment`] on Linux: a namespace of the lab, changed with the tools that an
//! administrator uses.

use std::collections::BTreeSet;
use std::process::Command;
use std::time::Duration;

use quorate_model::id::DeviceName;
use quorate_model::kernel::{DeviceAddress, MacAddress, ServiceKey};
use quorate_model::routing::{RouteScope, RoutingEntry, RuleAction};
use quorate_model::spec::{Protocol, SCHEDULERS, Scheduler};

use super::Environment;
use crate::lab::clock::Deadline;
use crate::lab::namespace::Namespace;
use crate::lab::network::{Host, INTERFACE, Network};

/// For one command, or one change of a link; generous, for emulated machines.
const LIMIT: Duration = Duration::from_secs(60);

/// A director and its neighbour on one network.
#[derive(Debug)]
pub struct LinuxWorld {
    network: Network,
}

impl LinuxWorld {
    /// Makes the namespaces. Their devices get no address by themselves, so that the rules see
    /// only what they did.
    ///
    /// # Panics
    /// Where the lab can't make them.
    #[must_use]
    pub fn new() -> Self {
        let host = |name, address: &str| Host::new(name, address.parse().unwrap());
        let hosts = [host("director", "192.0.2.1/24"), host("neighbour", "192.0.2.2/24")];
        let world = Self { network: Network::new(&hosts).unwrap() };
        for namespace in [world.director(), world.neighbour()] {
            for line in [
                format!("ip link set dev {INTERFACE} addrgenmode none"),
                format!("ip -6 address flush dev {INTERFACE}"),
            ] {
                namespace.run_ok(&line, LIMIT).unwrap();
            }
        }
        world
    }

    /// Where the dataplane is.
    ///
    /// # Panics
    /// Never: [`LinuxWorld::new`] made it.
    #[must_use]
    pub fn director(&self) -> &Namespace {
        self.network.namespace("director").unwrap()
    }

    /// Another host on the director's network.
    ///
    /// # Panics
    /// Never: [`LinuxWorld::new`] made it.
    #[must_use]
    pub fn neighbour(&self) -> &Namespace {
        self.network.namespace("neighbour").unwrap()
    }

    fn director_does(&self, line: &str) -> String {
        self.director().run_ok(line, LIMIT).unwrap()
    }
}

impl Default for LinuxWorld {
    fn default() -> Self {
        Self::new()
    }
}

impl Environment for LinuxWorld {
    fn device(&self) -> DeviceName {
        INTERFACE.parse().unwrap()
    }

    fn set_device_up(&mut self, up: bool) {
        let state = if up { "up" } else { "down" };
        self.director_does(&format!("ip link set dev {INTERFACE} {state}"));
        let want = format!("state {}", state.to_uppercase());
        // The carrier follows a moment later, with no answer to wait for.
        let deadline = Deadline::after(LIMIT);
        while !self.director_does(&format!("ip -o link show dev {INTERFACE}")).contains(&want) {
            assert!(!deadline.passed(), "{INTERFACE} never came {state}");
        }
    }

    fn add_foreign_address(&mut self, address: &DeviceAddress) {
        let nodad = if address.net.addr().is_ipv6() { "nodad" } else { "" };
        self.director_does(&format!(
            "ip address add {} dev {} {nodad}",
            address.net, address.device
        ));
    }

    fn give_neighbour(&mut self, address: &DeviceAddress) -> MacAddress {
        self.network.add_address("neighbour", INTERFACE, &address.net).unwrap();
        let text = self.network.mac("neighbour").unwrap();
        let bytes: Vec<u8> =
            text.split(':').map(|byte| u8::from_str_radix(byte, 16).unwrap()).collect();
        MacAddress(bytes.try_into().unwrap())
    }

    fn take_neighbour(&mut self, address: &DeviceAddress) {
        self.network.delete_address("neighbour", INTERFACE, &address.net).unwrap();
    }

    fn add_foreign_service(&mut self, key: &ServiceKey) {
        let ServiceKey::At { protocol, address } = key else { panic!("no service by address") };
        let protocol = match protocol {
            Protocol::Tcp => "-t",
            Protocol::Udp => "-u",
            Protocol::Sctp => "--sctp-service",
        };
        self.director_does(&format!("ipvsadm -A {protocol} {} -s sh -b sh-port", address));
    }

    fn spoil_rules(&mut self) {
        self.director_does("nft add rule inet quorate prerouting counter accept");
    }

    fn add_foreign_routing(&mut self, entry: &RoutingEntry) {
        self.director_does(&ip(entry, "add"));
    }

    fn has_routing(&self, entry: &RoutingEntry) -> bool {
        let shown = self.director_does(&ip(entry, "show"));
        // ip-rule(8) shows the rules of a priority whatever else they are.
        !shown.trim().is_empty()
    }

    fn take_routing(&mut self, entry: &RoutingEntry) {
        self.director_does(&ip(entry, "del"));
    }

    fn missing_schedulers(&self) -> BTreeSet<Scheduler> {
        let missing = |name: &&&str| {
            let mut modprobe = Command::new("modprobe");
            modprobe.args(["--quiet", "--dry-run", &format!("ip_vs_{name}")]);
            !self.director().run(&mut modprobe, LIMIT).unwrap().status.success()
        };
        let names = SCHEDULERS.iter().filter(missing);
        names.map(|name| Scheduler::named(name).unwrap()).collect()
    }

    fn let_pass(&mut self, time: Duration) {
        // Only the kernel's clock ends a lifetime.
        std::thread::sleep(time);
    }
}

/// The command of ip(8) that adds a route or rule as another program, shows it, or deletes it.
fn ip(entry: &RoutingEntry, verb: &str) -> String {
    let mut words = Vec::new();
    let family = |is_ipv4: bool| if is_ipv4 { "-4" } else { "-6" };
    match entry {
        RoutingEntry::Route(route) => {
            words.push(format!("ip {} route {verb}", family(route.to.addr().is_ipv4())));
            let (to, kind) = (route.to, route.kind);
            words.push(if verb == "show" { format!("{to}") } else { format!("{kind} {to}") });
            words.extend(
                route.interface.iter().filter(|_| verb != "show").map(|d| format!("dev {d}")),
            );
            words.push(format!("table {}", route.table));
            if route.metric > 0 {
                words.push(format!("metric {}", route.metric));
            }
            if verb == "add" {
                words.extend(route.mtu.map(|mtu| format!("mtu {mtu}")));
                words.push(match (route.scope, route.to.addr().is_ipv4()) {
                    (RouteScope::Link, true) => "scope link".to_owned(),
                    (RouteScope::Host, true) => "scope host".to_owned(),
                    (RouteScope::Global, true) => "scope global".to_owned(),
                    (_, false) => String::new(),
                });
            }
        }
        RoutingEntry::Rule(rule) => {
            let family = family(rule.family == quorate_model::kernel::Family::V4);
            let not = if rule.not && verb != "show" { "not " } else { "" };
            words.push(format!("ip {family} rule {verb} {not}pref {}", rule.priority));
            if verb == "show" {
                return words.join(" ");
            }
            words.extend(rule.from.map(|from| format!("from {from}")));
            words.extend(rule.to.map(|to| format!("to {to}")));
            words.extend(rule.mark.map(|(mark, mask)| format!("fwmark {mark}/{mask}")));
            words.extend(rule.incoming.iter().map(|device| format!("iif {device}")));
            words.extend(rule.outgoing.iter().map(|device| format!("oif {device}")));
            words.push(match rule.action {
                RuleAction::Lookup(table) => format!("lookup {table}"),
                RuleAction::Blackhole => "blackhole".to_owned(),
                RuleAction::Unreachable => "unreachable".to_owned(),
                RuleAction::Prohibit => "prohibit".to_owned(),
            });
        }
    }
    words.join(" ")
}
