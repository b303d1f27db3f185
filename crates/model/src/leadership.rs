//! Who should lead the Raft group: a node that owns nothing, so that one death is not two (design
//! §3).
//!
//! A pure decision, which the leader alone asks for; `quorate-node` carries it out. Nothing depends
//! on it for safety, and losing the leader moves no VIP: so it waits for quiet, and when in doubt
//! everything stays as it is. Its tests are at the end of this file.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use crate::id::{LogIndex, NodeId, Role};
use crate::membership::Membership;
use crate::state::ClusterState;
use crate::time::Instant;

/// How long a leader has led, and no group has moved, before it hands the lead over.
pub const QUIET: Duration = Duration::from_secs(10);
/// How long after a hand-over that came to nothing the next one is tried, at first; it doubles with
/// each, up to 64 times this. Such a try costs an election time-out without a leader.
const RETRY: Duration = Duration::from_secs(30);
const DOUBLINGS_MAX: u32 = 6;

/// What the leader sees when it asks.
#[derive(Debug, Clone, Copy)]
pub struct Situation<'a> {
    /// The leader itself.
    pub me: NodeId,
    /// The replicated state.
    pub state: &'a ClusterState,
    /// The membership in force.
    pub membership: &'a Membership,
    /// Whether the entry of `membership` is committed.
    pub committed: bool,
    /// How far the log of each other member is known to match.
    pub matched: &'a BTreeMap<NodeId, LogIndex>,
    /// The last entry of the leader's own log.
    pub last: LogIndex,
    /// The other members that answered the leader lately.
    pub reachable: &'a BTreeSet<NodeId>,
    /// Whether a group is changing its owner.
    pub takeover: bool,
    /// Since when this node leads and no group has been granted anew.
    pub quiet_since: Instant,
    /// The last hand-over that this node began, and how many in succession came to nothing.
    pub last_try: Option<(Instant, u32)>,
}

/// What is to be done now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Next {
    /// Nothing, until something changes.
    Stay,
    /// Nothing before this time.
    Wait(Instant),
    /// Let this node lead.
    HandOver(NodeId),
}

/// Whether another node should lead, and which.
///
/// A leader that owns nothing stays, unless it is evacuated, so that its machine may be stopped. A
/// witness is preferred to a standby; an evacuated director is not asked. Only a node that has the
/// whole log is, and only while every member is a voter that answers, nothing changes, and the
/// cluster is not paused.
#[must_use]
pub fn next_leader(now: Instant, situation: &Situation<'_>) -> Next {
    let owners: BTreeSet<NodeId> =
        situation.state.grants.values().map(|grant| grant.owner).collect();
    let better_elsewhere =
        |node: NodeId| owners.contains(&node) || situation.state.is_evacuated(node);
    if !better_elsewhere(situation.me) || !is_settled(situation) {
        return Next::Stay;
    }
    let able = situation.state.nodes.iter().filter(|&(id, _)| {
        let up_to_date = situation.matched.get(id).is_some_and(|m| *m >= situation.last);
        *id != situation.me && !better_elsewhere(*id) && up_to_date
    });
    let preference = able.map(|(&id, record)| (record.description.role != Role::Witness, id));
    let Some((_, best)) = preference.min() else { return Next::Stay };
    let earliest = not_before(situation);
    if now < earliest { Next::Wait(earliest) } else { Next::HandOver(best) }
}

/// Whether every node is a voter that answers, and nothing is under way.
fn is_settled(situation: &Situation<'_>) -> bool {
    let Situation { state, membership, reachable, .. } = *situation;
    let voters = membership.voters();
    let known = || state.nodes.keys().copied().collect::<BTreeSet<NodeId>>();
    situation.committed
        && !membership.is_joint()
        && membership.nodes.keys().all(|node| voters.contains(node))
        && voters == known()
        && voters.iter().all(|node| *node == situation.me || reachable.contains(node))
        && !state.nodes.values().any(|record| record.leaving)
        && !situation.takeover
        && state.paused.is_none()
}

fn not_before(situation: &Situation<'_>) -> Instant {
    let quiet = situation.quiet_since + QUIET;
    let retry = situation.last_try.map(|(began, failures)| {
        let doublings = failures.saturating_sub(1).min(DOUBLINGS_MAX);
        began + RETRY * 2_u32.pow(doublings)
    });
    retry.map_or(quiet, |retry| quiet.max(retry))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::command::{Digest, GrantReason, NodeDescription, Order, UnixMillis};
    use crate::id::{Epoch, Incarnation};
    use crate::state::{GrantRecord, NodeRecord};

    const NOW: Instant = Instant(10_000_000_000_000);
    const LAST: LogIndex = LogIndex(50);

    /// What the leader, n1, sees.
    struct World {
        state: ClusterState,
        membership: Membership,
        committed: bool,
        matched: BTreeMap<NodeId, LogIndex>,
        reachable: BTreeSet<NodeId>,
        takeover: bool,
        quiet_since: Instant,
        last_try: Option<(Instant, u32)>,
    }

    fn order() -> Order {
        Order { author: "ada".to_owned(), at: UnixMillis(0) }
    }

    impl World {
        /// Nodes of these roles, all voters and well; these own a group each.
        fn new(roles: &[Role], owners: &[u64]) -> Self {
            let ids = (1..).map(NodeId).zip(roles);
            let mut state = ClusterState::default();
            for (id, &role) in ids {
                let description = NodeDescription {
                    name: format!("n{id}").parse().unwrap(),
                    role,
                    links: Vec::new(),
                    public_key: Digest([0; 32]),
                };
                state.nodes.insert(id, NodeRecord { description, leaving: false });
            }
            for &owner in owners {
                let grant = GrantRecord {
                    epoch: Epoch(owner),
                    owner: NodeId(owner),
                    incarnation: Incarnation(1),
                    reason: GrantReason::First,
                    at: UnixMillis(0),
                };
                state.grants.insert(format!("g{owner}").parse().unwrap(), grant);
            }
            let nodes: BTreeSet<NodeId> = state.nodes.keys().copied().collect();
            let described = state.nodes.iter().map(|(id, r)| (*id, r.description.clone()));
            Self {
                membership: Membership { configs: vec![nodes.clone()], nodes: described.collect() },
                committed: true,
                matched: nodes.iter().map(|id| (*id, LAST)).collect(),
                reachable: nodes,
                takeover: false,
                quiet_since: Instant(0),
                last_try: None,
                state,
            }
        }

        /// Two directors and a witness; the leader owns the group.
        fn deployment() -> Self {
            Self::new(&[Role::Director, Role::Director, Role::Witness], &[1])
        }

        fn next(&self) -> Next {
            next_leader(
                NOW,
                &Situation {
                    me: NodeId(1),
                    state: &self.state,
                    membership: &self.membership,
                    committed: self.committed,
                    matched: &self.matched,
                    last: LAST,
                    reachable: &self.reachable,
                    takeover: self.takeover,
                    quiet_since: self.quiet_since,
                    last_try: self.last_try,
                },
            )
        }
    }

    use Role::{Director, Witness};

    #[test]
    fn the_lead_goes_to_a_witness_before_a_standby_and_to_no_evacuated_director() {
        let mut world = World::new(&[Director, Director, Director, Witness], &[1]);
        assert_eq!(world.next(), Next::HandOver(NodeId(4)));
        world.matched.insert(NodeId(4), LogIndex(49));
        assert_eq!(world.next(), Next::HandOver(NodeId(2)), "the witness lacks an entry");
        world.state.evacuated.insert(NodeId(2), order());
        assert_eq!(world.next(), Next::HandOver(NodeId(3)));
        world.state.evacuated.insert(NodeId(3), order());
        assert_eq!(world.next(), Next::Stay);
    }

    #[test]
    fn an_evacuated_leader_hands_the_lead_over_though_it_owns_nothing() {
        let mut world = World::new(&[Director, Director, Witness], &[2]);
        world.state.evacuated.insert(NodeId(1), order());
        assert_eq!(world.next(), Next::HandOver(NodeId(3)));
        world.matched.remove(&NodeId(3));
        assert_eq!(world.next(), Next::Stay, "the other one owns something");
    }

    #[test]
    fn a_leader_that_owns_nothing_keeps_the_lead() {
        assert_eq!(World::new(&[Director, Director, Witness], &[2]).next(), Next::Stay);
        assert_eq!(World::new(&[Witness, Director, Director], &[2]).next(), Next::Stay);
    }

    #[test]
    fn where_everybody_owns_something_the_lead_stays() {
        assert_eq!(World::new(&[Director, Director, Director], &[1, 2, 3]).next(), Next::Stay);
        assert_eq!(World::new(&[Director], &[1]).next(), Next::Stay);
    }

    #[test]
    fn the_lead_stays_until_nothing_has_changed_for_a_while() {
        let mut world = World::deployment();
        world.quiet_since = NOW;
        assert_eq!(world.next(), Next::Wait(NOW + QUIET));
        world.quiet_since = NOW - QUIET;
        assert_eq!(world.next(), Next::HandOver(NodeId(3)));
    }

    #[test]
    fn the_lead_stays_while_a_group_moves_or_the_cluster_is_paused() {
        let mut world = World::deployment();
        world.takeover = true;
        assert_eq!(world.next(), Next::Stay);
        let mut world = World::deployment();
        world.state.paused = Some(order());
        assert_eq!(world.next(), Next::Stay);
    }

    #[test]
    fn the_lead_stays_while_a_member_does_not_answer() {
        let mut world = World::deployment();
        world.reachable.remove(&NodeId(2));
        assert_eq!(world.next(), Next::Stay);
    }

    #[test]
    fn the_lead_stays_while_the_members_change() {
        let mut world = World::deployment();
        world.committed = false;
        assert_eq!(world.next(), Next::Stay);
        let mut world = World::deployment();
        world.membership.configs.push(BTreeSet::from([NodeId(1), NodeId(2)]));
        assert_eq!(world.next(), Next::Stay, "a joint configuration");
        let mut world = World::deployment();
        world.membership.configs[0].remove(&NodeId(3));
        assert_eq!(world.next(), Next::Stay, "a learner");
        let mut world = World::deployment();
        world.membership.configs[0].remove(&NodeId(3));
        world.membership.nodes.remove(&NodeId(3));
        assert_eq!(world.next(), Next::Stay, "a node that is no member yet");
        let mut world = World::deployment();
        world.state.nodes.get_mut(&NodeId(2)).unwrap().leaving = true;
        assert_eq!(world.next(), Next::Stay, "a node that leaves");
    }

    #[test]
    fn each_hand_over_that_came_to_nothing_makes_the_next_one_later() {
        let mut world = World::deployment();
        for (failures, pause) in [(1, RETRY), (2, RETRY * 2), (3, RETRY * 4), (99, RETRY * 64)] {
            world.last_try = Some((NOW, failures));
            assert_eq!(world.next(), Next::Wait(NOW + pause), "{failures}");
            world.last_try = Some((NOW - pause, failures));
            assert_eq!(world.next(), Next::HandOver(NodeId(3)), "{failures}");
        }
    }
}
