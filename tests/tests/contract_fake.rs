//! The contract of a dataplane, on the fake kernel.
#![forbid(unsafe_code)]
#![allow(
    clippy::unwrap_used,
    clippy::print_stdout,
    reason = "what a test relies on fails the test; the rule that fails is the last one named"
)]

use std::collections::BTreeSet;
use std::time::Duration;

use quorate_dataplane::fake::FakeKernel;
use quorate_dataplane::{DeviceState, MacAddress};
use quorate_model::claim::Question;
use quorate_model::id::DeviceName;
use quorate_model::kernel::{DeviceAddress, ObservedService, ServiceKey};
use quorate_model::routing::RoutingEntry;
use quorate_model::spec::Scheduler;
use quorate_tests::contract::{self, ADDRESSES, Environment, ROUTING, RULES, Rule, SERVICES, SYNC};

struct World(FakeKernel);

impl World {
    fn new() -> Self {
        let mut world = Self(FakeKernel::new());
        world.set_device_up(true);
        world.0.set_missing_schedulers(world.missing_schedulers());
        world
    }
}

impl Environment for World {
    fn device(&self) -> DeviceName {
        "eth0".parse().unwrap()
    }

    fn set_device_up(&mut self, up: bool) {
        let mac = Some(MacAddress([2, 0, 0, 0, 0, 1]));
        let state = if up { DeviceState::Up { index: 2, mac } } else { DeviceState::Down };
        self.0.set_device(&self.device(), state);
    }

    fn add_foreign_address(&mut self, address: &DeviceAddress) {
        self.0.put_foreign_address(address);
    }

    fn give_neighbour(&mut self, address: &DeviceAddress) -> MacAddress {
        let mac = MacAddress([2, 0, 0, 0, 0, 2]);
        self.0.set_neighbour(&question(address), Some(mac));
        mac
    }

    fn take_neighbour(&mut self, address: &DeviceAddress) {
        self.0.set_neighbour(&question(address), None);
    }

    fn add_foreign_service(&mut self, key: &ServiceKey) {
        self.0.put_foreign_service(*key, ObservedService::default());
    }

    fn spoil_rules(&mut self) {
        self.0.spoil_rules();
    }

    fn add_foreign_routing(&mut self, entry: &RoutingEntry) {
        self.0.put_foreign_routing(entry);
    }

    fn has_routing(&self, entry: &RoutingEntry) -> bool {
        self.0.routing().contains(entry) || self.0.foreign_routing().contains(entry)
    }

    fn take_routing(&mut self, entry: &RoutingEntry) {
        self.0.take_routing_by_hand(entry);
    }

    fn missing_schedulers(&self) -> BTreeSet<Scheduler> {
        [Scheduler::named("twos").unwrap()].into()
    }

    fn let_pass(&mut self, time: Duration) {
        self.0.advance(time);
    }
}

fn question(address: &DeviceAddress) -> Question {
    Question { device: address.device.clone(), address: address.net.addr() }
}

fn run(rules: &[Rule]) {
    let mut world = World::new();
    let mut dataplane = world.0.dataplane();
    contract::run(rules, &mut dataplane, &mut world, |rule| println!("{rule}"));
}

#[test]
fn the_fake_keeps_the_rules_of_services() {
    run(SERVICES);
    run(SYNC);
}

#[test]
fn the_fake_keeps_the_rules_of_the_packet_filter() {
    run(RULES);
}

#[test]
fn the_fake_keeps_the_rules_of_routes() {
    run(ROUTING);
}

#[test]
fn the_fake_keeps_the_rules_of_addresses() {
    run(ADDRESSES);
}
