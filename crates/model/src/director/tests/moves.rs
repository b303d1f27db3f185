//! Planned moves, which wait for no promise, and two directors with a witness.

use super::*;
use crate::command::{Command, GrantReason, Order, UnixMillis};
use crate::id::LogIndex;

impl World {
    /// This node leads the Raft group from now on, and no other.
    pub(super) fn lead(&mut self, leader: u64) {
        let membership = self.director(leader).membership.clone();
        for id in self.nodes.keys().copied().collect::<Vec<_>>() {
            let leads = id == leader;
            self.event(
                id,
                Event::Raft { leads, heard: Some(LogIndex(10)), membership: membership.clone() },
            );
        }
    }

    /// What the leader proposed last is committed, if it proposed anything; nobody has applied it.
    fn commit(&mut self, leader: u64) -> Vec<(String, u64, GrantReason)> {
        let proposed = std::mem::take(&mut self.nodes.get_mut(&leader).unwrap().proposed);
        let Some(grants) = proposed.last().cloned() else { return Vec::new() };
        let told = grants.iter().map(|g| (g.group.to_string(), g.owner.0, g.reason)).collect();
        let index = LogIndex(self.state.applied.0 + 1);
        let command = Command::Grant { at: UnixMillis(0), grants };
        self.state.apply(index, &command).unwrap();
        told
    }

    /// Time passes; what the leader proposes is committed, and applied by all that are not cut off.
    pub(super) fn govern(
        &mut self,
        leader: u64,
        time: Duration,
    ) -> Vec<(String, u64, GrantReason)> {
        let mut moves = Vec::new();
        let end = self.now + time;
        while self.now < end {
            self.run(R);
            let committed = self.commit(leader);
            if !committed.is_empty() {
                moves.extend(committed);
                let there = self.nodes.keys().copied().filter(|id| !self.cut.contains(id));
                let there: Vec<u64> = there.collect();
                self.apply_on(&there);
                self.event(leader, Event::Proposed);
            }
        }
        moves
    }

    pub(super) fn evacuate(&mut self, node: u64) {
        let order = Some(Order { author: "ada".to_owned(), at: UnixMillis(0) });
        let index = LogIndex(self.state.applied.0 + 1);
        self.state.apply(index, &Command::Evacuate { node: NodeId(node), order }).unwrap();
    }
}

#[test]
fn a_silent_owner_is_replaced_without_waiting_for_a_round() {
    // The last renewal came just before a report, and just after.
    for offset in [Duration::ZERO, R / 4, R / 2, R * 3 / 4] {
        let mut world = World::new();
        world.grant("web", 1);
        world.grant("plain", 1);
        world.lead(2);
        world.run(SECOND + offset);
        let heard = world.director(2).voter.heard(world.now)[&group("web")];
        let due = world.now + crate::time::Timing::LAN.suspicion().saturating_sub(heard.silent);
        world.cut = BTreeSet::from([1]);
        let reasons = |grants: &[Grant]| grants.iter().map(|g| g.reason).collect::<Vec<_>>();
        world.run(due.since(world.now) - Duration::from_millis(1));
        assert!(world.nodes[&2].proposed.is_empty(), "not before it is suspect");
        world.run(Duration::from_millis(1) + R / 8);
        let proposed = world.nodes[&2].proposed.first();
        assert_eq!(proposed.map(|grants| reasons(grants)), Some(vec![GrantReason::OwnerSilent; 2]));
    }
}

#[test]
fn a_planned_move_waits_for_no_promise_and_no_round_whoever_applies_it_first() {
    for order in [[1, 2, 3], [2, 3, 1], [3, 2, 1], [2, 1, 3]] {
        let mut world = World::new();
        world.grant("web", 1);
        world.run(SECOND);
        world.decide("web", 2, 2);
        let at = world.now;
        for node in order {
            world.apply_on(&[node]);
        }
        assert_eq!((world.serves(1), world.serves(2)), (vec![], vec![vip(WEB)]), "{order:?}");
        assert_eq!(world.now, at);
    }
}

#[test]
fn a_new_owner_asks_again_when_the_old_one_has_released_though_the_kernel_was_slow() {
    let mut world = World::new();
    world.grant("web", 1);
    world.run(SECOND);
    world.nodes.get_mut(&1).unwrap().stuck = true;
    world.grant("web", 2);
    // In the middle of a round: it asked in vain a moment ago.
    world.run(R + R / 3);
    assert_eq!(world.serves(2), []);
    let at = world.now;
    world.kernel_goes_on(1);
    assert_eq!(world.serves(2), [vip(WEB)]);
    assert_eq!(world.now, at);
}

#[test]
fn an_owner_that_holds_its_lease_does_not_ask_for_every_release_that_it_hears_of() {
    let mut world = World::new();
    let old = world.grant("web", 1);
    world.run(SECOND);
    world.grant("web", 2);
    world.run(SECOND);
    let asked = world.sent.len();
    let released = Message::Released(BTreeMap::from([(group("web"), old)]));
    world.event(2, Event::Message(NodeId(1), released));
    assert_eq!(world.sent.len(), asked);
}

#[test]
fn releases_that_come_again_and_again_make_no_storm_of_rounds() {
    let mut world = World::new();
    let old = world.grant("web", 1);
    world.run(SECOND);
    // n2 waits for a promise to end that nobody releases: what comes is old, and comes without end.
    world.cut = BTreeSet::from([1]);
    world.decide("web", 2, 2);
    world.apply_on(&[2, 3]);
    let since = world.now;
    for _ in 0..200 {
        world.run(R / 200);
        let released = Message::Released(BTreeMap::from([(group("plain"), old)]));
        world.event(2, Event::Message(NodeId(1), released));
    }
    let asks = |sent: &&world::Sent| {
        sent.at > since
            && (sent.from, sent.to) == (2, 3)
            && matches!(sent.message, Message::Renew(_))
    };
    let asked = world.sent.iter().filter(asks).count();
    assert!((1..=17).contains(&asked), "{asked} rounds in one renewal interval");
}

#[test]
fn an_evacuated_directors_groups_are_served_by_another_within_round_trips() {
    let mut world = World::new();
    world.grant("web", 1);
    world.grant("plain", 1);
    world.lead(3);
    world.run(SECOND);
    world.nodes.get_mut(&3).unwrap().proposed.clear();
    world.evacuate(1);
    let at = world.now;
    world.apply_on(&[1, 2, 3]);
    let evacuated = |name: &str| (name.to_owned(), 2, GrantReason::Evacuated);
    assert_eq!(world.commit(3), [evacuated("plain"), evacuated("web")]);
    world.apply_on(&[3, 2, 1]);
    assert_eq!((world.serves(1), world.serves(2)), (vec![], vec![vip(WEB), vip(PLAIN)]));
    assert_eq!(world.now, at, "no time was waited for");
}

#[test]
fn a_stopping_owners_groups_are_served_by_another_within_round_trips() {
    for leader in [1, 3] {
        let mut world = World::new();
        world.grant("web", 1);
        world.lead(leader);
        world.run(SECOND);
        let proposed = &mut world.nodes.get_mut(&leader).unwrap().proposed;
        proposed.clear();
        world.event(leader, Event::Proposed);
        world.nodes.get_mut(&leader).unwrap().proposed.clear();
        let at = world.now;
        world.event(1, Event::Stop);
        let moves = world.commit(leader);
        assert!(moves.contains(&("web".to_owned(), 2, GrantReason::OwnerUnfit)), "{moves:?}");
        world.apply_on(&[3, 2, 1]);
        assert!(world.serves(2).contains(&vip(WEB)), "n{leader} leads");
        assert_eq!(world.now, at, "no time was waited for");
    }
}

/// Directors n1 and n2, witness n3, which leads; n1 owns everything.
fn with_witness() -> World {
    let mut world = World::with(CONFIGURATION, Role::Witness, &ObservedServices::new());
    world.lead(3);
    world.govern(3, SECOND);
    assert_eq!(world.serves(1), [vip(WEB), vip(PLAIN)]);
    world
}

#[test]
fn of_two_directors_and_a_witness_the_second_takes_over_and_the_witness_owns_nothing() {
    let mut world = with_witness();
    world.cut = BTreeSet::from([1]);
    let moves = world.govern(3, SECOND * 2);
    let silent = |name: &str| (name.to_owned(), 2, GrantReason::OwnerSilent);
    assert_eq!(moves, [silent("plain"), silent("web")]);
    assert_eq!(world.serves(2), [vip(WEB), vip(PLAIN)]);
    assert_eq!(world.serves(1), [], "its lease ran out");
    // The second is lost, too: nobody is left that could own anything.
    world.cut = BTreeSet::from([1, 2]);
    assert_eq!(world.govern(3, SECOND * 2), []);
    assert_eq!(world.nodes[&3].goals, []);
}

#[test]
fn a_witness_that_is_lost_moves_nothing() {
    let mut world = with_witness();
    world.cut = BTreeSet::from([3]);
    world.lead(2);
    assert_eq!(world.govern(2, SECOND * 5), []);
    assert_eq!(world.serves(1), [vip(WEB), vip(PLAIN)]);
}

#[test]
fn a_director_alone_of_the_three_serves_nothing() {
    let mut world = with_witness();
    world.cut = BTreeSet::from([1, 3]);
    world.lead(2);
    world.govern(2, SECOND * 2);
    assert_eq!((world.serves(1), world.serves(2)), (vec![], vec![]));
}

#[test]
fn a_leader_that_is_lost_moves_no_vip() {
    let mut world = with_witness();
    let goals = world.nodes[&1].goals.len();
    // Nobody leads for a while; then another does.
    world.cut = BTreeSet::from([3]);
    let membership = world.director(1).membership.clone();
    world.event(3, Event::Raft { leads: false, heard: Some(LogIndex(10)), membership });
    world.run(SECOND * 2);
    world.lead(2);
    assert_eq!(world.govern(2, SECOND), []);
    assert!(world.nodes[&1].goals[goals..].iter().all(|goal| goal.wanted.len() == 2));
    assert_eq!(world.closed_at(1), [], "never closed");
}

#[test]
fn a_leader_whose_disk_is_full_grants_nothing_until_there_is_room() {
    let mut world = World::new();
    world.grant("web", 1);
    world.grant("plain", 1);
    world.lead(2);
    world.run(SECOND);
    world.event(2, Event::Disk(Some("the disk is full".to_owned())));
    world.cut = BTreeSet::from([1]);
    assert_eq!(world.govern(2, SECOND), [], "the owner is silent, and no grant can be written");
    world.event(2, Event::Disk(None));
    let moved = world.govern(2, SECOND);
    assert!(moved.iter().any(|(group, to, _)| group == "web" && *to != 1), "{moved:?}");
}
