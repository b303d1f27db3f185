//! The rules that every [`Dataplane`] keeps, run on the fake and on Linux alike, so that what the
//! simulator shows on the fake is true of a kernel.
//!
//! Owns the rules and the values that they use. It makes no kernel: the caller brings a dataplane
//! and its [`Environment`]. Run by `tests/contract_fake.rs`, `tests/lab_host_contract.rs` (no
//! ip_vs needed) and `tests/lab_ipvs_contract.rs`.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a suite of assertions: a panic is how a rule says that it is broken"
)]

mod addresses;
mod routing;
mod rules;
mod services;
mod sync;
mod world;

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::time::Duration;

use quorate_dataplane::Dataplane;
use quorate_model::id::DeviceName;
use quorate_model::kernel::{
    DesiredService, Destination, DeviceAddress, MacAddress, ObservedServices, ServiceKey,
    ServiceSettings,
};
use quorate_model::plan::Action;
use quorate_model::routing::RoutingEntry;
use quorate_model::spec::{Forward, Persistence, Protocol, Scheduler};

pub use addresses::ADDRESSES;
pub use routing::ROUTING;
pub use rules::RULES;
pub use services::SERVICES;
pub use sync::SYNC;
pub use world::LinuxWorld;

/// What a rule needs besides the dataplane: the world that the kernel stands in.
pub trait Environment {
    /// An Ethernet device, up; rules may put addresses on it. (`lo` in an empty world won't do.)
    fn device(&self) -> DeviceName;

    /// Sets that device up or down, and returns when it is so.
    fn set_device_up(&mut self, up: bool);

    /// Adds an address to that device as another program would.
    fn add_foreign_address(&mut self, address: &DeviceAddress);

    /// Gives an address of that device's network to a neighbour, and returns its MAC.
    fn give_neighbour(&mut self, address: &DeviceAddress) -> MacAddress;

    /// Takes it away again.
    fn take_neighbour(&mut self, address: &DeviceAddress);

    /// Adds a service without real servers that another program would make, with settings that
    /// Quorate can't express.
    fn add_foreign_service(&mut self, key: &ServiceKey);

    /// Adds to Quorate's table of the packet filter what is not Quorate's.
    fn spoil_rules(&mut self);

    /// Adds a route or policy rule as another program would.
    fn add_foreign_routing(&mut self, entry: &RoutingEntry);

    /// Whether such a route or policy rule stands, whoever added it.
    fn has_routing(&self, entry: &RoutingEntry) -> bool;

    /// Takes a route or policy rule away by hand, whoever added it.
    fn take_routing(&mut self, entry: &RoutingEntry);

    /// Schedulers that this kernel has no module for.
    fn missing_schedulers(&self) -> BTreeSet<Scheduler>;

    /// Lets a little time pass, up to a tenth of a second.
    fn let_pass(&mut self, time: Duration);
}

/// One rule.
#[derive(Debug, Clone, Copy)]
pub struct Rule {
    /// What holds, as a sentence.
    pub name: &'static str,
    /// Panics where it does not.
    pub check: fn(&mut dyn Dataplane, &mut dyn Environment),
}

/// Runs rules one after another, each on a kernel without services and VIPs.
///
/// # Panics
/// Where a rule is broken; the name of the rule was handed to `say` just before.
pub fn run(
    rules: &[Rule],
    dataplane: &mut dyn Dataplane,
    environment: &mut dyn Environment,
    mut say: impl FnMut(&str),
) {
    for rule in rules {
        say(rule.name);
        (rule.check)(dataplane, environment);
        clear(dataplane, environment);
    }
}

/// Removes every service, every route and policy rule of ours, and every address of the device that a rule may have put there.
fn clear(dataplane: &mut dyn Dataplane, environment: &mut dyn Environment) {
    if let Ok(services) = dataplane.observe_services() {
        let actions: Vec<Action> = services.into_keys().map(Action::DeleteService).collect();
        assert_eq!(dataplane.apply(&actions), []);
    }
    for entry in dataplane.observe_routing().unwrap().iter().rev() {
        assert_eq!(dataplane.remove_routing(entry), Ok(()));
    }
    for address in dataplane.observe_addresses(&[environment.device()]).unwrap().into_keys() {
        if is_rules_own(&address) {
            assert_eq!(dataplane.remove_address(&address), Ok(()));
        }
    }
}

/// The rules' addresses: 198.51.100.0/24 (RFC 5737) and 2001:db8:100::/48 (RFC 3849).
fn is_rules_own(address: &DeviceAddress) -> bool {
    let nets: [ipnet::IpNet; 2] =
        ["198.51.100.0/24".parse().unwrap(), "2001:db8:100::/48".parse().unwrap()];
    nets.iter().any(|net| net.contains(&address.net.addr()))
}

fn key(protocol: Protocol, address: &str) -> ServiceKey {
    ServiceKey::at(protocol, address.parse().unwrap())
}

fn tcp(address: &str) -> ServiceKey {
    key(Protocol::Tcp, address)
}

fn server(address: &str) -> SocketAddr {
    address.parse().unwrap()
}

fn settings(scheduler: &str) -> ServiceSettings {
    ServiceSettings::plain(Scheduler::named(scheduler).unwrap())
}

fn sticky(scheduler: &str, timeout_s: u32, prefix: u8) -> ServiceSettings {
    let persistence = Some(Persistence { timeout_s, prefix, engine: None });
    ServiceSettings { persistence, ..settings(scheduler) }
}

fn to(forward: Forward, weight: u32) -> Destination {
    Destination::new(forward, weight)
}

/// What a table holds in Quorate's words; a service or real server that Quorate can't express
/// breaks the rule.
fn expressed(services: &ObservedServices) -> BTreeMap<ServiceKey, DesiredService> {
    services
        .iter()
        .map(|(key, service)| {
            let destinations = service
                .destinations
                .iter()
                .map(|(server, found)| (*server, found.destination.unwrap()))
                .collect();
            let settings = service.settings.unwrap();
            (*key, DesiredService { settings, destinations })
        })
        .collect()
}
