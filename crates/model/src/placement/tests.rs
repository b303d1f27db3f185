//! Who is granted what, and what does not move a group.

use std::sync::Arc;
use std::time::Duration;

use super::*;
use crate::command::{Digest, NodeDescription, UnixMillis};
use crate::id::{Epoch, Incarnation, LogIndex, Role};
use crate::spec::{Format, parse};
use crate::state::NodeRecord;

struct World {
    now: Instant,
    state: ClusterState,
    membership: Membership,
    reports: BTreeMap<NodeId, ReceivedReport>,
    placement: Placement,
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
                incarnation: Incarnation(id.0),
                sequence: 1,
                heard: BTreeMap::new(),
                obstacles: BTreeMap::from([(g(), BTreeSet::new())]),
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
