//! Who is granted what, and what does not move a group.

use std::sync::Arc;
use std::time::Duration;

use super::*;
use crate::command::{Digest, NodeDescription, Order, UnixMillis};
use crate::id::{Epoch, Incarnation, LogIndex, Role};
use crate::spec::{Format, parse};
use crate::state::NodeRecord;

mod facts;

struct World {
    now: Instant,
    state: ClusterState,
    membership: Membership,
    reports: BTreeMap<NodeId, ReceivedReport>,
    placement: Placement,
    behind: Behind,
}

fn g() -> GroupName {
    "g".parse().unwrap()
}

impl World {
    /// Three directors n1, n2 and n3, all well; the group prefers n2.
    fn new(settings: &str) -> Self {
        let text = format!(
            "[group.g]\ninterface = \"public\"\naddresses = [\"10.0.0.1/32\"]\n\
             preempt_delay = \"10s\"\n{settings}\n"
        );
        let spec = Arc::new(parse(&text, Format::Toml).unwrap());
        let mut world = Self {
            now: Instant(100_000_000_000),
            state: ClusterState { spec, ..ClusterState::default() },
            membership: Membership::default(),
            reports: BTreeMap::new(),
            placement: Placement::default(),
            behind: Behind::new(),
        };
        for id in (1..=3).map(NodeId) {
            let description = NodeDescription {
                name: format!("n{id}").parse().unwrap(),
                role: Role::Director,
                links: Vec::new(),
                public_key: Digest([0; 32]),
            };
            world.state.nodes.insert(id, NodeRecord { description, leaving: false });
            let report = Report {
                cold: false,
                incarnation: Incarnation(id.0),
                sequence: 1,
                heard: BTreeMap::new(),
                obstacles: BTreeMap::from([(g(), BTreeSet::new())]),
                reach: BTreeMap::new(),
            };
            world.reports.insert(id, ReceivedReport { at: world.now, report });
        }
        let ids = world.state.nodes.keys().copied().collect();
        world.membership.configs = vec![ids];
        world.membership.index = LogIndex(1);
        world
    }

    fn owned_by(mut self, owner: u64) -> Self {
        let grant = GrantRecord {
            epoch: Epoch(10),
            owner: NodeId(owner),
            incarnation: Incarnation(owner),
            reason: GrantReason::First,
            at: UnixMillis(0),
        };
        self.state.grants.insert(g(), grant);
        self.hear(&[1, 2, 3], Duration::ZERO, None);
        self
    }

    fn hear(&mut self, voters: &[u64], silent: Duration, deaf: Option<Duration>) {
        for voter in voters {
            let heard = Heard { epoch: Epoch(10), silent, deaf };
            self.reports.get_mut(&NodeId(*voter)).unwrap().report.heard.insert(g(), heard);
        }
    }

    fn obstacle(&mut self, node: u64, obstacle: Obstacle) {
        let report = &mut self.reports.get_mut(&NodeId(node)).unwrap().report;
        report.obstacles.insert(g(), BTreeSet::from([obstacle]));
    }

    fn pass(&mut self, time: Duration) {
        self.now = self.now + time;
        for received in self.reports.values_mut() {
            received.at = self.now;
        }
    }

    fn decide(&mut self) -> Option<(u64, GrantReason)> {
        let view = PlacementView {
            now: self.now,
            state: &self.state,
            membership: &self.membership,
            reports: &self.reports,
            behind: &self.behind,
        };
        let grants = self.placement.decide(view);
        assert!(grants.len() <= 1);
        grants.first().map(|grant| (grant.owner.0, grant.reason))
    }
}

const PREFER: &str = "prefer = [\"n2\"]";
const SECOND: Duration = Duration::from_secs(1);

#[test]
fn a_group_goes_to_the_preferred_director_then_to_the_others_by_name() {
    let mut world = World::new(PREFER);
    assert_eq!(world.decide(), Some((2, GrantReason::First)));
    world.obstacle(2, Obstacle::DeviceDown);
    assert_eq!(world.decide(), Some((1, GrantReason::First)));
}

#[test]
fn nobody_eligible_is_granted_nothing() {
    let mut world = World::new("only = [\"n3\"]");
    assert_eq!(world.decide(), Some((3, GrantReason::First)));
    world.obstacle(3, Obstacle::DeviceDown);
    assert_eq!(world.decide(), None);
}

#[test]
fn a_better_director_gets_the_group_back_after_the_delay() {
    let mut world = World::new(PREFER).owned_by(1);
    assert_eq!(world.decide(), None);
    world.pass(SECOND * 10);
    assert_eq!(world.decide(), Some((2, GrantReason::Preempt)));
}

#[test]
fn silence_moves_a_group_when_a_majority_of_fresh_reports_tells_it() {
    let mut world = World::new("").owned_by(1);
    world.hear(&[2], SECOND, None);
    assert_eq!(world.decide(), None);
    world.hear(&[3], SECOND, None);
    assert_eq!(world.decide(), Some((2, GrantReason::OwnerSilent)));
    world.reports.get_mut(&NodeId(3)).unwrap().at = Instant(0);
    assert_eq!(world.decide(), None, "an old report tells nothing");
}

#[test]
fn a_deaf_owner_loses_the_group_and_waits_before_it_gets_it_back() {
    let mut world = World::new(PREFER).owned_by(2);
    assert_eq!(world.decide(), None);
    world.pass(SECOND * 60);
    world.hear(&[1, 3], Duration::ZERO, Some(SECOND));
    assert_eq!(world.decide(), Some((1, GrantReason::OwnerDeaf)));
    let mut world = World { state: World::new(PREFER).owned_by(1).state, ..world };
    world.hear(&[1, 2, 3], Duration::ZERO, None);
    assert_eq!(world.decide(), None);
    world.pass(SECOND * 10);
    assert_eq!(world.decide(), Some((2, GrantReason::Preempt)));
}

#[test]
fn a_restarted_owner_is_granted_anew_as_soon_as_it_has_looked_at_its_kernel() {
    let mut world = World::new("").owned_by(2);
    world.reports.get_mut(&NodeId(2)).unwrap().report.incarnation = Incarnation(77);
    world.obstacle(2, Obstacle::Starting);
    assert_eq!(world.decide(), None);
    world.reports.get_mut(&NodeId(2)).unwrap().report.obstacles.insert(g(), BTreeSet::new());
    assert_eq!(world.decide(), Some((2, GrantReason::Restarted)));
}

#[test]
fn an_owner_that_says_it_is_not_fit_is_moved_and_one_that_is_not_heard_here_is_not() {
    let mut world = World::new("").owned_by(2);
    world.reports.remove(&NodeId(2));
    assert_eq!(world.decide(), None);
    let mut world = World::new("").owned_by(2);
    world.obstacle(2, Obstacle::DeviceDown);
    assert_eq!(world.decide(), Some((1, GrantReason::OwnerUnfit)));
}

#[test]
fn an_address_that_every_kernel_refuses_moves_nothing() {
    let mut world = World::new("").owned_by(2);
    for node in 1..=3 {
        world.obstacle(node, Obstacle::AddressRefused);
    }
    assert_eq!(world.decide(), None);
}

#[test]
fn a_pinned_director_gets_the_group_and_nobody_better_takes_it_back() {
    let mut world = World::new(PREFER).owned_by(2);
    world.state.pins.insert(g(), NodeId(3));
    assert_eq!(world.decide(), Some((3, GrantReason::Transfer)));
    let mut world = World::new(PREFER).owned_by(3);
    world.state.pins.insert(g(), NodeId(3));
    world.decide();
    world.pass(SECOND * 100);
    assert_eq!(world.decide(), None);
}

#[test]
fn a_new_group_waits_a_moment_for_a_better_director_that_is_about_to_be_ready() {
    let mut world = World::new(PREFER);
    // It has not heard of the group yet.
    world.reports.get_mut(&NodeId(2)).unwrap().report.obstacles.clear();
    assert_eq!(world.decide(), None);
    world.pass(world.state.timing.lease() * 2);
    assert_eq!(world.decide(), Some((1, GrantReason::First)));
    let mut world = World::new(PREFER);
    world.obstacle(2, Obstacle::Starting);
    assert_eq!(world.decide(), None);
    world.reports.get_mut(&NodeId(2)).unwrap().report.obstacles.insert(g(), BTreeSet::new());
    assert_eq!(world.decide(), Some((2, GrantReason::First)));
}

impl World {
    fn evacuate(&mut self, node: u64) {
        let order = Order { author: "ada".to_owned(), at: UnixMillis(0) };
        self.state.evacuated.insert(NodeId(node), order);
    }

    fn pause(&mut self) {
        self.state.paused = Some(Order { author: "ada".to_owned(), at: UnixMillis(0) });
    }

    fn restarts(&mut self, node: u64) {
        self.reports.get_mut(&NodeId(node)).unwrap().report.incarnation = Incarnation(77);
    }

    fn fit(&mut self, node: u64) {
        let report = &mut self.reports.get_mut(&NodeId(node)).unwrap().report;
        report.obstacles.insert(g(), BTreeSet::new());
    }
}

#[test]
fn an_evacuated_owner_gives_its_group_to_the_best_other_at_once() {
    let mut world = World::new(PREFER).owned_by(2);
    world.evacuate(2);
    assert_eq!(world.decide(), Some((1, GrantReason::Evacuated)));
    world.evacuate(1);
    assert_eq!(world.decide(), Some((3, GrantReason::Evacuated)));
}

#[test]
fn an_evacuated_director_that_the_leader_does_not_hear_gives_its_group_away_too() {
    let mut world = World::new("").owned_by(2);
    world.reports.remove(&NodeId(2));
    assert_eq!(world.decide(), None);
    world.evacuate(2);
    assert_eq!(world.decide(), Some((1, GrantReason::Evacuated)));
}

#[test]
fn what_nobody_else_can_take_stays_with_its_evacuated_owner_until_somebody_can() {
    let mut world = World::new("only = [\"n1\", \"n2\"]").owned_by(2);
    world.evacuate(2);
    world.obstacle(1, Obstacle::DeviceDown);
    assert_eq!(world.decide(), None, "n3 may not, n1 can't");
    // Even over a restart of its daemon, which is no taking.
    world.restarts(2);
    assert_eq!(world.decide(), Some((2, GrantReason::Restarted)));
    world.fit(1);
    assert_eq!(world.decide(), Some((1, GrantReason::Evacuated)));
}

#[test]
fn a_group_is_not_moved_off_an_evacuated_owner_to_one_whose_kernel_lacks_its_services() {
    let mut world = World::new("only = [\"n1\", \"n2\"]").owned_by(2);
    world.evacuate(2);
    world.obstacle(1, Obstacle::NotProgrammed);
    assert_eq!(world.decide(), None);
    // Better some services than none, once the evacuated one serves none.
    world.obstacle(2, Obstacle::DeviceDown);
    assert_eq!(world.decide(), Some((1, GrantReason::Evacuated)));
}

#[test]
fn an_evacuated_director_takes_no_group_though_nobody_else_is_eligible() {
    let mut world = World::new("only = [\"n2\", \"n3\"]");
    world.evacuate(2);
    world.obstacle(3, Obstacle::DeviceDown);
    assert_eq!(world.decide(), None, "no first owner");
    let mut world = World::new("only = [\"n2\", \"n3\"]").owned_by(3);
    world.evacuate(2);
    world.hear(&[1, 2], SECOND, None);
    assert_eq!(world.decide(), None, "no successor");
    world.state.evacuated.clear();
    assert_eq!(world.decide(), Some((2, GrantReason::OwnerSilent)));
}

#[test]
fn a_new_group_does_not_wait_for_a_better_director_that_is_evacuated() {
    let mut world = World::new(PREFER);
    world.obstacle(2, Obstacle::Starting);
    world.evacuate(2);
    assert_eq!(world.decide(), Some((1, GrantReason::First)));
}

#[test]
fn after_a_restore_a_group_returns_when_the_preempt_delay_is_over() {
    let mut world = World::new(PREFER).owned_by(1);
    world.evacuate(2);
    world.decide();
    world.pass(SECOND * 100);
    assert_eq!(world.decide(), None);
    world.state.evacuated.clear();
    assert_eq!(world.decide(), None, "it is eligible from now on");
    world.pass(SECOND * 10);
    assert_eq!(world.decide(), Some((2, GrantReason::Preempt)));
}

#[test]
fn a_pin_to_an_evacuated_director_waits_for_its_restore() {
    let mut world = World::new("").owned_by(1);
    world.state.pins.insert(g(), NodeId(3));
    world.evacuate(3);
    assert_eq!(world.decide(), None);
    world.state.evacuated.clear();
    assert_eq!(world.decide(), Some((3, GrantReason::Transfer)));
}

/// Groups g of n2, h of n2 which prefers n3, and i of n3.
fn active_active() -> World {
    let more = "[group.h]\ninterface = \"public\"\naddresses = [\"10.0.0.2/32\"]\n\
                prefer = [\"n3\"]\n[group.i]\ninterface = \"public\"\n\
                addresses = [\"10.0.0.3/32\"]\n";
    let mut world = World::new(&format!("prefer = [\"n2\", \"n1\"]\n{more}")).owned_by(2);
    for (name, owner) in [("h", 2), ("i", 3)] {
        let name: GroupName = name.parse().unwrap();
        let grant = GrantRecord { owner: NodeId(owner), ..world.state.grants[&g()].clone() };
        let grant = GrantRecord { incarnation: Incarnation(owner), ..grant };
        world.state.grants.insert(name.clone(), grant);
        for received in world.reports.values_mut() {
            let heard = Heard { epoch: Epoch(10), silent: Duration::ZERO, deaf: None };
            received.report.heard.insert(name.clone(), heard);
            received.report.obstacles.insert(name.clone(), BTreeSet::new());
        }
    }
    world
}

impl World {
    fn moves(&mut self) -> Vec<(String, u64, GrantReason)> {
        let view = PlacementView {
            now: self.now,
            state: &self.state,
            membership: &self.membership,
            reports: &self.reports,
            behind: &self.behind,
        };
        let grants = self.placement.decide(view);
        grants.iter().map(|g| (g.group.to_string(), g.owner.0, g.reason)).collect()
    }
}

#[test]
fn several_groups_leave_an_evacuated_director_in_one_decision_each_by_its_own_order() {
    let mut world = active_active();
    assert_eq!(world.moves(), []);
    world.evacuate(2);
    let to = |group: &str, node| (group.to_owned(), node, GrantReason::Evacuated);
    assert_eq!(world.moves(), [to("g", 1), to("h", 3)], "i is another's");
}

#[test]
fn of_groups_on_several_directors_only_those_of_the_failed_one_move() {
    let mut world = active_active();
    for report in [1, 3] {
        let heard = &mut world.reports.get_mut(&NodeId(report)).unwrap().report.heard;
        for (name, heard) in heard.iter_mut() {
            if name.as_str() != "i" {
                heard.silent = SECOND;
            }
        }
    }
    world.reports.remove(&NodeId(2));
    let to = |group: &str, node| (group.to_owned(), node, GrantReason::OwnerSilent);
    assert_eq!(world.moves(), [to("g", 1), to("h", 3)]);
}

#[test]
fn a_transfer_moves_its_own_group_and_the_pins_of_others_stay() {
    let mut world = active_active();
    world.state.pins.insert("i".parse().unwrap(), NodeId(3));
    world.state.pins.insert(g(), NodeId(3));
    assert_eq!(world.moves(), [("g".to_owned(), 3, GrantReason::Transfer)]);
}

#[test]
fn nothing_moves_by_itself_while_the_cluster_is_paused() {
    let mut world = World::new(PREFER);
    world.pause();
    assert_eq!(world.decide(), None, "no first owner");

    let mut world = World::new(PREFER).owned_by(1);
    world.pause();
    world.pass(SECOND * 100);
    assert_eq!(world.decide(), None, "no return to a better director");
    world.hear(&[1, 2, 3], SECOND, None);
    assert_eq!(world.decide(), None, "no failover of a silent owner");
    world.hear(&[1, 2, 3], Duration::ZERO, Some(SECOND));
    assert_eq!(world.decide(), None, "nor of a deaf one");
    world.obstacle(1, Obstacle::DeviceDown);
    assert_eq!(world.decide(), None, "nor of one that is not fit");
    world.state.paused = None;
    assert_eq!(world.decide(), Some((2, GrantReason::OwnerDeaf)));
}

#[test]
fn an_owner_that_restarts_in_a_pause_gets_its_own_group_back() {
    let mut world = World::new(PREFER).owned_by(1);
    world.pause();
    world.restarts(1);
    world.obstacle(1, Obstacle::Starting);
    world.hear(&[1, 2, 3], SECOND, None);
    assert_eq!(world.decide(), None);
    world.fit(1);
    assert_eq!(world.decide(), Some((1, GrantReason::Restarted)));
}

#[test]
fn an_operator_moves_groups_in_a_pause_dead_owners_ones_too() {
    let mut world = World::new("").owned_by(1);
    world.pause();
    world.reports.remove(&NodeId(1));
    world.hear(&[2, 3], SECOND, None);
    world.state.pins.insert(g(), NodeId(3));
    assert_eq!(world.decide(), Some((3, GrantReason::Transfer)));
    world.state.pins.clear();
    world.evacuate(1);
    assert_eq!(world.decide(), Some((2, GrantReason::Evacuated)));

    let mut world = World::new("");
    world.pause();
    world.state.pins.insert(g(), NodeId(3));
    assert_eq!(world.decide(), Some((3, GrantReason::Transfer)), "a new group, where asked for");
}

/// Connections that it does not know would be cut off.
#[test]
fn no_group_returns_by_itself_to_a_director_that_has_not_listened_for_long_enough() {
    let mut world = World::new("prefer = [\"n1\"]\n").owned_by(2);
    let cold = |world: &mut World, cold| {
        world.reports.get_mut(&NodeId(1)).unwrap().report.cold = cold;
    };
    cold(&mut world, true);
    world.decide();
    world.pass(SECOND * 60);
    assert_eq!(world.decide(), None);
    cold(&mut world, false);
    assert_eq!(world.decide(), Some((1, GrantReason::Preempt)));
    // An operator's order, and a failure, don't wait.
    cold(&mut world, true);
    world.state.pins.insert(g(), NodeId(1));
    assert_eq!(world.decide(), Some((1, GrantReason::Transfer)));
}

#[test]
fn a_director_that_knows_the_connections_comes_before_a_better_one_that_does_not() {
    let mut world = World::new("prefer = [\"n1\", \"n2\", \"n3\"]\n").owned_by(2);
    world.reports.get_mut(&NodeId(1)).unwrap().report.cold = true;
    world.evacuate(2);
    assert_eq!(world.decide(), Some((3, GrantReason::Evacuated)));
    world.reports.get_mut(&NodeId(3)).unwrap().report.cold = true;
    assert_eq!(world.decide(), Some((1, GrantReason::Evacuated)), "somebody has to serve");
}
