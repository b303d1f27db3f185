//! What a director does, driven by hand (`tests/world.rs`): one rule a test. Every step of every
//! test also shows that `next_deadline` lies ahead.

use std::time::Duration;

use super::*;
use crate::kernel::{Destination, ObservedDestination, ObservedService};
use crate::ownership::message::Renew;
use crate::spec::{Forward, Protocol};
use crate::time::promise;
use world::{CONFIGURATION, PLAIN, WEB, World, eth0, group, vip};

mod facts;
mod follow;
mod moves;
mod probes;
mod reaching;
mod routing;
mod tell;
mod world;

const L: Duration = Duration::from_millis(500);
const R: Duration = Duration::from_millis(50);
const SECOND: Duration = Duration::from_secs(1);

fn down() -> Verdict {
    Verdict::Down("connection refused".to_owned())
}

/// What web's weights are, written short.
fn weights(of: &[(u8, u32)]) -> Vec<(String, u32)> {
    of.iter().map(|(octet, weight)| (format!("10.0.0.{octet}:80"), *weight)).collect()
}

/// Web's service as a kernel holds it, with these real servers.
fn found(of: &[(u8, u32)]) -> ObservedServices {
    let key = ServiceKey::at(Protocol::Tcp, ([10, 0, 0, WEB], 80).into());
    let destinations = of.iter().map(|(octet, weight)| {
        let destination = Some(Destination::new(Forward::Dr, *weight));
        let observed =
            ObservedDestination { destination, active: 0, inactive: 0, ..Default::default() };
        (([10, 0, 0, *octet], 80).into(), observed)
    });
    let service =
        ObservedService { destinations: destinations.collect(), ..ObservedService::default() };
    BTreeMap::from([(key, service)])
}

#[test]
fn an_owner_serves_only_after_a_majority_has_acked() {
    let mut world = World::new();
    world.cut = BTreeSet::from([2, 3]);
    world.grant("web", 1);
    world.run(SECOND);
    assert_eq!(world.opened_at(1), None, "its own ack is no majority");
    assert!(!world.renewed(1, "web", Instant(0)).is_empty());
    world.cut = BTreeSet::from([3]);
    world.run(R);
    assert_eq!(world.serves(1), [vip(WEB)]);
}

#[test]
fn an_owner_serves_the_groups_that_it_was_granted_and_no_others() {
    let mut world = World::new();
    world.grant("web", 1);
    world.grant("plain", 2);
    world.run(SECOND);
    assert_eq!(world.serves(1), [vip(WEB)]);
    assert_eq!(world.serves(2), [vip(PLAIN)]);
    assert_eq!(world.serves(3), []);
    let goal = world.nodes[&3].goals.last().unwrap();
    assert_eq!(
        goal.known,
        DeviceAddresses::from([vip(WEB), vip(PLAIN)]),
        "what is not wanted is fenced, and goes"
    );
}

#[test]
fn an_owner_stops_serving_before_its_lease_expires_when_acks_stop() {
    let mut world = World::new();
    world.grant("web", 1);
    world.run(SECOND);
    let end = world.lease_end(1, "web").unwrap();
    world.cut = BTreeSet::from([1]);
    world.run(L / 2);
    assert_eq!(world.serves(1), [vip(WEB)], "the lease still runs");
    assert_eq!(world.lease_end(1, "web"), Some(end), "and is not extended");
    world.run(L);
    let closed = world.closed_at(1);
    assert_eq!(closed.len(), 1);
    assert!(closed[0] <= end);
    assert_eq!(world.serves(1), []);
}

#[test]
fn what_the_kernel_may_serve_ends_with_the_lease() {
    let mut world = World::new();
    world.grant("web", 1);
    for _ in 0..20 {
        world.run(R);
        let end = world.lease_end(1, "web").unwrap();
        let deadlines: Vec<_> = world.director(1).deadlines().collect();
        assert!(deadlines.iter().all(|(_, until)| *until <= end), "{deadlines:?}");
        assert_eq!(deadlines.len(), 1);
    }
}

#[test]
fn a_lapse_is_not_a_loss_the_next_majority_opens_the_same_epoch() {
    let mut world = World::new();
    let epoch = world.grant("web", 1);
    world.run(SECOND);
    world.cut = BTreeSet::from([1]);
    world.run(SECOND);
    assert_eq!(world.serves(1), []);
    let announced = world.nodes[&1].announced.len();
    world.cut.clear();
    world.run(SECOND);
    assert_eq!(world.serves(1), [vip(WEB)]);
    assert_eq!(world.renewed(1, "web", Instant(0)), BTreeSet::from([epoch]));
    assert!(world.nodes[&1].announced.len() > announced, "neighbours are told anew");
}

#[test]
fn a_successor_of_a_silent_owner_waits_until_that_lease_has_ended() {
    let mut world = World::new();
    world.grant("web", 1);
    world.run(SECOND);
    let end = world.lease_end(1, "web").unwrap();
    world.cut = BTreeSet::from([1]);
    world.decide("web", 2, 2);
    world.apply_on(&[2, 3]);
    let since = world.now;
    world.run(promise(L) + R);
    assert_eq!(world.serves(2), [vip(WEB)]);
    let opened = world.opened_at(2).unwrap();
    assert!(opened > end);
    assert!(world.closed_at(1)[0] <= end);
    // It asks when the promise in its way is over, not with the next round.
    assert!(opened.since(since) <= promise(L) + R / 2);
}

#[test]
fn a_superseded_owner_closes_first_and_releases_when_the_kernel_has_shown_it() {
    let mut world = World::new();
    let old = world.grant("web", 1);
    world.run(SECOND);
    world.nodes.get_mut(&1).unwrap().stuck = true;
    world.grant("web", 2);
    assert_eq!(world.serves(1), [], "closed in the step that applied the grant");
    let sequence = world.nodes[&1].goals.last().unwrap().sequence;
    world.run(R);
    world.kernel_answers(1, sequence - 1);
    world.kernel_answers(1, sequence);
    assert_eq!(world.released(1, "web"), [], "the kernel still carries it");
    world.kernel_goes_on(1);
    assert_eq!(world.released(1, "web"), [(2, old), (3, old)]);
    world.run(R);
    assert_eq!(world.serves(2), [vip(WEB)], "the release spares it the promise's length");
}

#[test]
fn a_report_from_before_the_close_releases_nothing() {
    let mut world = World::new();
    world.nodes.get_mut(&1).unwrap().stuck = true;
    world.grant("web", 1);
    world.run(R * 2);
    // The kernel has not carried the address yet, but an order to carry it is on its way.
    assert_eq!(world.serves(1), [vip(WEB)]);
    let opened = world.nodes[&1].goals.last().unwrap().sequence;
    world.grant("web", 2);
    world.kernel_answers(1, opened);
    assert_eq!(world.released(1, "web"), []);
    world.kernel_goes_on(1);
    assert_ne!(world.released(1, "web"), []);
}

#[test]
fn a_release_is_told_three_times_since_each_may_be_lost() {
    let mut world = World::new();
    let old = world.grant("web", 1);
    world.run(SECOND);
    world.grant("web", 2);
    world.run(SECOND);
    assert_eq!(world.released(1, "web"), [(2, old), (3, old)].repeat(3));
}

#[test]
fn a_released_epoch_is_never_renewed_again() {
    let mut world = World::new();
    let old = world.grant("web", 1);
    world.run(SECOND);
    world.decide("web", 2, 2);
    world.apply_on(&[2, 3]);
    // The others refuse the old epoch, which this node's own state still knows as the one in force.
    world.run(SECOND);
    assert_eq!(world.serves(1), []);
    assert_eq!(world.released(1, "web").len(), 6);
    let released = world.now;
    let behind = Arc::clone(&world.director(1).state);
    assert_eq!(behind.grants[&group("web")].epoch, old);
    world.event(1, Event::State(behind));
    world.run(SECOND);
    assert_eq!(world.renewed(1, "web", released), BTreeSet::new());
}

#[test]
fn an_owner_that_was_superseded_takes_up_a_later_grant() {
    let mut world = World::new();
    world.grant("web", 1);
    world.run(SECOND);
    world.grant("web", 2);
    world.run(SECOND);
    let third = world.grant("web", 1);
    let since = world.now;
    world.run(SECOND);
    assert_eq!(world.serves(1), [vip(WEB)]);
    assert_eq!(world.serves(2), []);
    assert_eq!(world.renewed(1, "web", since), BTreeSet::from([third]));
}

#[test]
fn a_restarted_director_takes_up_no_old_grant() {
    let mut world = World::new();
    world.grant("web", 1);
    world.run(SECOND);
    let restarted = world.now + Duration::from_nanos(1);
    world.restart(1, 101);
    world.run(SECOND * 2);
    assert_eq!(world.renewed(1, "web", restarted), BTreeSet::new());
    assert_eq!(world.opened_at(1), None);
    let anew = world.grant_to("web", 1, 101);
    world.run(R);
    assert_eq!(world.renewed(1, "web", restarted), BTreeSet::from([anew]));
    assert_eq!(world.serves(1), [vip(WEB)]);
}

#[test]
fn a_restarted_voter_supports_nobody_until_promises_that_it_forgot_are_over() {
    let mut world = World::new();
    world.grant("web", 1);
    world.run(SECOND);
    world.restart(3, 103);
    world.cut = BTreeSet::from([1]);
    let restarted = world.now;
    world.decide("web", 2, 2);
    world.apply_on(&[2, 3]);
    world.run(SECOND * 2);
    let opened = world.opened_at(2).unwrap();
    assert!(opened.since(restarted) >= promise(L), "{:?}", opened.since(restarted));
}

#[test]
fn a_standby_programs_services_and_no_vips() {
    let mut world = World::new();
    world.grant("web", 1);
    world.run(SECOND);
    for standby in [2, 3] {
        assert_eq!(world.weights(standby), weights(&[(11, 1), (12, 1)]));
        assert_eq!(world.opened_at(standby), None);
        assert_eq!(world.nodes[&standby].probed.len(), 1, "it probes by itself");
    }
}

#[test]
fn nothing_is_programmed_before_the_kernel_was_looked_at() {
    let mut world = World::with("", Role::Director, &ObservedServices::new());
    world.nodes.get_mut(&1).unwrap().services.clear();
    let spec = crate::spec::parse(CONFIGURATION, crate::spec::Format::Toml).unwrap();
    world.state.spec = Arc::new(spec);
    let director = &mut world.nodes.get_mut(&1).unwrap().director;
    *director = Director::new(world.now, director.config.clone(), DurablePromises::default());
    world.apply_on(&[1]);
    assert_eq!(world.nodes[&1].services, []);
    let obstacles = world.director(1).obstacles(world.now);
    assert_eq!(obstacles[&group("web")], BTreeSet::from([Obstacle::Starting]));
    world.event(1, Event::ServicesFound(ObservedServices::new()));
    assert_eq!(world.nodes[&1].services.len(), 1);
}

#[test]
fn a_stopping_director_has_stopped_only_when_the_release_was_told() {
    let mut world = World::new();
    let web = world.grant("web", 1);
    world.run(SECOND);
    world.nodes.get_mut(&1).unwrap().stuck = true;
    world.event(1, Event::Stop);
    assert_eq!(world.serves(1), []);
    world.run(R * 3);
    assert!(!world.director(1).has_stopped(), "the kernel still carries the address");
    assert_eq!(world.released(1, "web"), []);
    world.kernel_goes_on(1);
    assert_eq!(world.released(1, "web"), [(2, web), (3, web)]);
    assert!(world.director(1).has_stopped());
}

#[test]
fn a_director_that_serves_nothing_has_stopped_at_once() {
    let mut world = World::new();
    assert!(!world.director(1).has_stopped());
    world.event(1, Event::Stop);
    assert!(world.director(1).has_stopped());
}

#[test]
fn a_stopping_director_takes_no_grant_up_and_says_so_at_once() {
    let mut world = World::new();
    world.event(1, Event::Stop);
    let view = world.director(2).view(world.now);
    let stopping = BTreeSet::from([Obstacle::Stopping]);
    assert_eq!(view.obstacles[&NodeId(1)][&group("web")], stopping);
    world.grant("web", 1);
    world.run(SECOND);
    assert_eq!(world.renewed(1, "web", Instant(0)), BTreeSet::new());
    assert_eq!(world.serves(1), []);
}

#[test]
fn an_address_is_announced_only_while_the_kernel_carries_it() {
    let mut world = World::new();
    world.nodes.get_mut(&1).unwrap().stuck = true;
    world.grant("web", 1);
    world.run(SECOND);
    assert_eq!(world.serves(1), [vip(WEB)]);
    assert_eq!(world.nodes[&1].announced, []);
    world.kernel_goes_on(1);
    assert_eq!(world.nodes[&1].announced, [vip(WEB)]);
    // Taken away by another program: the announcements that were due are not made.
    let node = world.nodes.get_mut(&1).unwrap();
    node.stuck = true;
    node.present.clear();
    let sequence = node.goals.last().unwrap().sequence;
    world.kernel_answers(1, sequence);
    world.run(SECOND * 10);
    assert_eq!(world.nodes[&1].announced, [vip(WEB)]);
}

#[test]
fn a_witness_votes_and_has_no_goals() {
    let mut world = World::with(CONFIGURATION, Role::Witness, &ObservedServices::new());
    world.event(3, Event::ServicesFound(ObservedServices::new()));
    world.cut = BTreeSet::from([2]);
    world.grant("web", 1);
    world.run(SECOND);
    assert_eq!(world.serves(1), [vip(WEB)], "its ack makes the majority");
    let witness = &world.nodes[&3];
    assert_eq!((witness.goals.len(), witness.services.len(), witness.probed.len()), (0, 0, 0));
}

/// What keeps node 1 from owning each group, as node 2 heard it.
fn obstacles(world: &World) -> [BTreeSet<Obstacle>; 2] {
    let view = world.director(2).view(world.now);
    ["web", "plain"].map(|name| view.obstacles[&NodeId(1)][&group(name)].clone())
}

#[test]
fn a_kernel_without_ip_vs_is_an_obstacle_only_to_groups_with_services() {
    let mut world = World::new();
    let tell = |world: &mut World, obstacle| {
        let report = ServiceReport { sequence: 1, obstacle, ..ServiceReport::default() };
        world.event(1, Event::Services(report));
        world.run(R);
        obstacles(world)
    };
    let none = BTreeSet::new();
    assert_eq!(tell(&mut world, None), [none.clone(), none.clone()]);
    let no_ipvs = Obstacle::NoIpvs;
    assert_eq!(tell(&mut world, Some(no_ipvs)), [BTreeSet::from([no_ipvs]), none]);
    // Every VIP needs the right to configure it.
    let no_right = BTreeSet::from([Obstacle::NoNetAdmin]);
    assert_eq!(tell(&mut world, Some(Obstacle::NoNetAdmin)), [no_right.clone(), no_right]);
}

#[test]
fn a_service_that_the_kernel_refuses_is_an_obstacle_to_its_own_group() {
    let mut world = World::new();
    let key = *found(&[]).keys().next().unwrap();
    let failed = BTreeMap::from([(key, "refused".to_owned())]);
    let report = ServiceReport { sequence: 1, failed, ..ServiceReport::default() };
    world.event(1, Event::Services(report));
    world.run(R);
    assert_eq!(obstacles(&world), [BTreeSet::from([Obstacle::NotProgrammed]), BTreeSet::new()]);
}

#[test]
fn a_revision_is_programmed_once_the_kernel_has_the_newest_goal_whole() {
    let mut world = World::new();
    let programmed = |world: &World| world.nodes[&1].director.view(world.now).programmed;
    let report = |sequence| ServiceReport { sequence, ..ServiceReport::default() };
    world.event(1, Event::Services(report(1)));
    assert_eq!(programmed(&world), Some(crate::id::Revision(1)));
    world.event(1, Event::Services(report(0)));
    assert_eq!(programmed(&world), None, "of an older goal");
    let key = *found(&[]).keys().next().unwrap();
    let failed = BTreeMap::from([(key, "refused".to_owned())]);
    world.event(1, Event::Services(ServiceReport { failed, ..report(1) }));
    assert_eq!(programmed(&world), None, "not whole");
    let obstacle = Some(Obstacle::NoIpvs);
    world.event(1, Event::Services(ServiceReport { obstacle, ..report(1) }));
    assert_eq!(programmed(&world), None, "none at all");
}

#[test]
fn a_device_that_is_down_or_gone_is_an_obstacle() {
    let mut world = World::new();
    let cases = [
        (DeviceCondition::Down, Obstacle::DeviceDown),
        (DeviceCondition::Missing, Obstacle::DeviceMissing),
    ];
    for (condition, obstacle) in cases {
        let devices = BTreeMap::from([(eth0(), condition)]);
        let report = AddressReport { devices, ..AddressReport::default() };
        world.event(1, Event::Addresses(report));
        world.run(R);
        let obstacle = BTreeSet::from([obstacle]);
        assert_eq!(obstacles(&world), [obstacle.clone(), obstacle]);
    }
}

#[test]
fn a_leader_proposes_again_only_after_its_proposal_has_ended() {
    let mut world = World::new();
    let voters: BTreeSet<NodeId> = (1..=3).map(NodeId).collect();
    let membership = Membership {
        index: world.director(1).membership.index,
        configs: vec![voters.clone()],
        nodes: voters,
    };
    world.event(1, Event::Raft { leads: true, heard: Some(LogIndex(10)), membership });
    world.run(SECOND);
    let groups = |grants: &Vec<Grant>| grants.iter().map(|g| g.group.clone()).collect::<Vec<_>>();
    let proposed: Vec<_> = world.nodes[&1].proposed.iter().map(groups).collect();
    assert_eq!(proposed, [[group("plain"), group("web")]], "both groups in one entry, once");
    world.event(1, Event::Proposed);
    world.run(SECOND);
    assert_eq!(world.nodes[&1].proposed.len(), 2, "what was not committed is proposed again");
}

#[test]
fn a_message_that_comes_late_or_twice_moves_nothing() {
    let mut world = World::new();
    world.grant("web", 1);
    world.run(SECOND);
    world.grant("web", 2);
    world.run(SECOND);
    let late: Vec<(u64, u64, Message)> =
        world.sent.iter().map(|sent| (sent.from, sent.to, sent.message.clone())).collect();
    for (from, to, message) in late {
        if !matches!(message, Message::Report(_)) {
            world.event(to, Event::Message(NodeId(from), message));
        }
    }
    assert_eq!((world.serves(1), world.serves(2)), (vec![], vec![vip(WEB)]));
    assert!(world.lease_end(2, "web").unwrap() <= world.now + L);
}

#[test]
fn a_takeover_is_under_way_until_the_owner_says_that_it_holds_its_lease() {
    let mut world = World::new();
    world.grant("web", 1);
    assert!(world.director(3).takeover(world.now));
    world.run(R * 2);
    assert!(!world.director(3).takeover(world.now));
}

#[test]
fn a_renewal_of_nothing_is_not_sent() {
    let mut world = World::new();
    world.run(SECOND);
    let renewals = |sent: &&world::Sent| matches!(&sent.message, Message::Renew(Renew { .. }));
    assert_eq!(world.sent.iter().filter(renewals).count(), 0);
}
