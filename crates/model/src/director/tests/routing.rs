//! The routes and policy rules of a group are where its addresses are.

use super::*;
use crate::director::AddressGoal;
use crate::routing::RoutingEntry;

const ROUTE: &str =
    "route unicast 10.9.0.0/16 via 10.0.0.1 on eth0 table 254 metric 0 scope global";
const RULE: &str = "rule IPv4 1000 from 10.0.0.100/32 lookup 100";
const LINES: &str = "routes = [{ to = \"10.9.0.0/16\", via = \"10.0.0.1\" }]\n\
                     rules = [{ from = \"10.0.0.100\", table = 100, priority = 1000 }]";

fn with(lines: &str) -> String {
    let addresses = "addresses = [\"10.0.0.100/32\"]\n";
    CONFIGURATION.replacen(addresses, &format!("{addresses}{lines}\n"), 1)
}

fn world() -> World {
    World::with(&with(LINES), Role::Director, &ObservedServices::new())
}

fn goal(world: &World, id: u64) -> &AddressGoal {
    world.nodes[&id].goals.last().unwrap()
}

/// What a node's kernel shall hold, and with which addresses.
fn routed(world: &World, id: u64) -> Vec<(String, DeviceAddresses)> {
    let goal = goal(world, id).routing.iter();
    goal.map(|(entry, with)| (entry.to_string(), with.clone())).collect()
}

fn both() -> Vec<(String, DeviceAddresses)> {
    [ROUTE, RULE].map(|text| (text.to_owned(), DeviceAddresses::from([vip(WEB)]))).into()
}

#[test]
fn the_owner_alone_has_the_routes_and_rules_of_its_group() {
    let mut world = world();
    world.grant("web", 1);
    world.grant("plain", 2);
    world.run(SECOND);
    assert_eq!(routed(&world, 1), both());
    assert_eq!(routed(&world, 2), []);
    assert_eq!(routed(&world, 3), []);
}

#[test]
fn routes_stay_through_a_lapse_as_their_addresses_do_and_go_with_the_group() {
    let mut world = world();
    world.grant("web", 1);
    world.run(SECOND);
    world.cut = BTreeSet::from([1]);
    world.run(SECOND);
    assert_eq!(world.serves(1), []);
    assert!(goal(&world, 1).wanted.contains_key(&vip(WEB)));
    assert_eq!(routed(&world, 1), both());
    world.cut.clear();
    world.grant("web", 2);
    world.run(SECOND);
    assert_eq!(routed(&world, 1), []);
    assert_eq!(routed(&world, 2), both());
}

#[test]
fn a_route_that_a_new_configuration_brings_or_takes_is_aimed_at_at_once() {
    let mut world = world();
    world.grant("web", 1);
    world.run(SECOND);
    let before = goal(&world, 1).sequence;
    world.configure(&with(LINES.lines().next().unwrap()));
    assert_eq!(goal(&world, 1).sequence, before + 1);
    assert_eq!(routed(&world, 1), both()[..1]);
    assert_eq!(routed(&world, 2), []);
}

#[test]
fn a_director_without_the_interface_of_a_route_can_not_own_the_group_and_says_so() {
    let lines = "routes = [{ to = \"10.9.0.0/16\", interface = \"inside\" }]";
    let mut world = World::with(&with(lines), Role::Director, &ObservedServices::new());
    world.run(SECOND);
    let director = world.director(1);
    let obstacles = director.obstacles(world.now);
    assert!(obstacles[&group("web")].contains(&Obstacle::InterfaceUnknown));
    assert!(!obstacles[&group("plain")].contains(&Obstacle::InterfaceUnknown));
    let problems = director.view(world.now).problems;
    let said = "group web has a route or rule on interface inside, ";
    assert!(problems.iter().any(|problem| problem.starts_with(said)), "{problems:?}");
}

#[test]
fn a_route_that_the_kernel_refuses_is_told_and_moves_no_group() {
    let mut world = world();
    world.grant("web", 1);
    world.run(SECOND);
    let entry: RoutingEntry = ROUTE.parse().unwrap();
    let mut report = world.director(1).view(world.now).addresses;
    let before = world.director(1).obstacles(world.now);
    report.routing = [(entry, "cannot add the route".to_owned())].into();
    world.event(1, Event::Addresses(report));
    assert_eq!(world.director(1).obstacles(world.now), before);
    assert!(world.director(1).view(world.now).problems.contains("cannot add the route"));
}
