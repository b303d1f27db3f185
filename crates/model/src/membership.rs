//! Which change of the Raft group comes next, so that it follows the nodes that the state knows.
//!
//! A pure decision: the leader's task in `quorate-node` asks it whenever something changed, takes
//! the step, and asks again. A new leader asks the same question, so it finishes what its
//! predecessor left. Its tests are at the end of this file.

use std::collections::{BTreeMap, BTreeSet};

use crate::command::NodeDescription;
use crate::id::{LogIndex, NodeId};
use crate::state::NodeRecord;
use crate::time::Instant;

/// The members of the Raft group, as one entry of the log sets them.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Membership {
    /// One set of voters, or two in a joint configuration: a majority of each is then needed.
    pub configs: Vec<BTreeSet<NodeId>>,
    /// Every member, learners included.
    pub nodes: BTreeMap<NodeId, NodeDescription>,
}

impl Membership {
    /// Whether this is a joint configuration.
    #[must_use]
    pub fn is_joint(&self) -> bool {
        self.configs.len() > 1
    }

    /// Every voter of every configuration.
    #[must_use]
    pub fn voters(&self) -> BTreeSet<NodeId> {
        self.configs.iter().flatten().copied().collect()
    }
}

/// One change of the Raft group.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Step {
    /// The last change is only half done: commit the new set of voters by itself.
    FinishJoint,
    /// The node receives the log from now on, and does not vote yet.
    AddLearner(NodeId, NodeDescription),
    /// The learner votes from now on.
    AddVoter(NodeId),
    /// The node votes no more, and receives the log no more.
    RemoveVoter(NodeId),
    /// The node that never voted receives the log no more.
    RemoveLearner(NodeId),
    /// The node is in the Raft group no more: the state forgets it, and its key with it.
    Forget(NodeId),
}

/// What the leader sees when it asks for the next step.
#[derive(Debug, Clone, Copy)]
pub struct Situation<'a> {
    /// The leader itself.
    pub me: NodeId,
    /// The nodes that the state knows.
    pub nodes: &'a BTreeMap<NodeId, NodeRecord>,
    /// The membership in force, which is that of the last such entry of the log.
    pub membership: &'a Membership,
    /// Whether the entry of `membership` is committed, and applied in the state that `nodes` is of.
    pub committed: bool,
    /// How far the log of each follower and learner is known to match.
    pub matched: &'a BTreeMap<NodeId, LogIndex>,
    /// The last entry of the leader's own log.
    pub last: LogIndex,
    /// Before this, the voters must not change again: 2 × the longest promise since the last
    /// change, or since this leader began (design §3).
    pub voters_not_before: Instant,
    /// Whether a group is changing its owner: the voters stay as they are until it has one.
    pub takeover: bool,
}

/// How far a learner's log may lag behind when it becomes a voter, in entries.
pub const CAUGHT_UP_ENTRIES: u64 = 100;

/// What is to be done now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Next {
    /// Nothing, until something changes.
    Settled,
    /// Nothing before this time.
    Wait(Instant),
    /// This.
    Do(Step),
}

/// The next step towards a Raft group that consists of the nodes which the state knows.
///
/// One step at a time, and one voter at a time: any two successive majorities share a voter. A
/// learner changes no majority, so adding one waits for nothing.
#[must_use]
pub fn next_step(now: Instant, situation: &Situation<'_>) -> Next {
    let Situation { nodes, membership, .. } = *situation;
    if !situation.committed {
        return Next::Settled;
    }
    if membership.is_joint() {
        return Next::Do(Step::FinishJoint);
    }
    let voters = membership.voters();
    // A node that left is forgotten before anything else: only then is it refused.
    for (&id, record) in nodes {
        if record.leaving && !membership.nodes.contains_key(&id) {
            return Next::Do(Step::Forget(id));
        }
    }
    for (&id, record) in nodes {
        if !record.leaving && !membership.nodes.contains_key(&id) {
            return Next::Do(Step::AddLearner(id, record.description.clone()));
        }
    }
    let leaves = |id: &NodeId| nodes.get(id).is_none_or(|record| record.leaving);
    for &id in membership.nodes.keys().filter(|id| !voters.contains(id)) {
        if leaves(&id) {
            return Next::Do(Step::RemoveLearner(id));
        }
    }
    match change_of_voters(situation, &voters, leaves) {
        None => Next::Settled,
        Some(_) if situation.takeover => Next::Settled,
        Some(_) if now < situation.voters_not_before => Next::Wait(situation.voters_not_before),
        Some(step) => Next::Do(step),
    }
}

fn change_of_voters(
    situation: &Situation<'_>,
    voters: &BTreeSet<NodeId>,
    leaves: impl Fn(&NodeId) -> bool,
) -> Option<Step> {
    // Adding comes first, so that a group from which one leaves while one joins is never smaller
    // than it must be. The leader itself goes last: whoever leads next has nothing left to do.
    let learners = situation.membership.nodes.keys().filter(|id| !voters.contains(id));
    let caught_up = |id: &NodeId| {
        situation
            .matched
            .get(id)
            .is_some_and(|m| m.0.saturating_add(CAUGHT_UP_ENTRIES) >= situation.last.0 && m.0 > 0)
    };
    if let Some(&id) = learners.filter(|id| !leaves(id)).find(|id| caught_up(id)) {
        return Some(Step::AddVoter(id));
    }
    let mut leaving: Vec<NodeId> = voters.iter().copied().filter(|id| leaves(id)).collect();
    leaving.sort_by_key(|&id| (id == situation.me, id));
    let first = leaving.first().copied()?;
    // A group without a voter could never commit again.
    (voters.len() > 1).then_some(Step::RemoveVoter(first))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::command::{Digest, LinkAddress};
    use crate::id::Role;

    const LATER: Instant = Instant(1_000);

    fn description(id: u64) -> NodeDescription {
        NodeDescription {
            name: format!("n{id}").parse().unwrap(),
            role: Role::Director,
            links: vec![LinkAddress {
                name: "lan".to_owned(),
                listen: format!("10.0.0.{id}:7400").parse().unwrap(),
            }],
            public_key: Digest([0; 32]),
        }
    }

    struct World {
        nodes: BTreeMap<NodeId, NodeRecord>,
        membership: Membership,
        matched: BTreeMap<NodeId, LogIndex>,
        committed: bool,
        voters_not_before: Instant,
        takeover: bool,
    }

    impl World {
        fn new(known: &[u64], members: &[u64], voters: &[&[u64]]) -> Self {
            let ids = |ids: &[u64]| ids.iter().map(|&id| NodeId(id)).collect::<BTreeSet<_>>();
            Self {
                nodes: known
                    .iter()
                    .map(|&id| {
                        (NodeId(id), NodeRecord { description: description(id), leaving: false })
                    })
                    .collect(),
                membership: Membership {
                    configs: voters.iter().map(|v| ids(v)).collect(),
                    nodes: members.iter().map(|&id| (NodeId(id), description(id))).collect(),
                },
                matched: BTreeMap::new(),
                committed: true,
                voters_not_before: Instant(0),
                takeover: false,
            }
        }

        fn leaving(mut self, id: u64) -> Self {
            self.nodes.get_mut(&NodeId(id)).unwrap().leaving = true;
            self
        }

        fn next(&self) -> Next {
            next_step(
                Instant(500),
                &Situation {
                    me: NodeId(1),
                    nodes: &self.nodes,
                    membership: &self.membership,
                    committed: self.committed,
                    matched: &self.matched,
                    last: LogIndex(1_000),
                    voters_not_before: self.voters_not_before,
                    takeover: self.takeover,
                },
            )
        }
    }

    #[test]
    fn nothing_is_done_where_the_group_is_the_nodes() {
        assert_eq!(World::new(&[1, 2, 3], &[1, 2, 3], &[&[1, 2, 3]]).next(), Next::Settled);
    }

    #[test]
    fn a_new_node_is_a_learner_first_and_a_voter_when_it_has_caught_up() {
        let world = World::new(&[1, 2], &[1], &[&[1]]);
        assert_eq!(world.next(), Next::Do(Step::AddLearner(NodeId(2), description(2))));

        let mut world = World::new(&[1, 2], &[1, 2], &[&[1]]);
        assert_eq!(world.next(), Next::Settled);
        world.matched.insert(NodeId(2), LogIndex(899));
        assert_eq!(world.next(), Next::Settled);
        world.matched.insert(NodeId(2), LogIndex(900));
        assert_eq!(world.next(), Next::Do(Step::AddVoter(NodeId(2))));
    }

    #[test]
    fn the_voters_change_only_after_the_wait_and_learners_at_once() {
        let mut world = World::new(&[1, 2], &[1, 2], &[&[1]]);
        world.matched.insert(NodeId(2), LogIndex(1_000));
        world.voters_not_before = LATER;
        assert_eq!(world.next(), Next::Wait(LATER));
        let mut world = World::new(&[1, 2, 3], &[1, 2, 3], &[&[1, 2, 3]]).leaving(2);
        world.voters_not_before = LATER;
        assert_eq!(world.next(), Next::Wait(LATER));
        let mut world = World::new(&[1, 2], &[1], &[&[1]]);
        world.voters_not_before = LATER;
        assert!(matches!(world.next(), Next::Do(Step::AddLearner(..))));
    }

    #[test]
    fn the_voters_do_not_change_while_a_takeover_is_under_way() {
        let mut world = World::new(&[1, 2, 3], &[1, 2, 3], &[&[1, 2, 3]]).leaving(2);
        world.takeover = true;
        assert_eq!(world.next(), Next::Settled);
        world.takeover = false;
        assert_eq!(world.next(), Next::Do(Step::RemoveVoter(NodeId(2))));
    }

    #[test]
    fn a_joint_configuration_is_finished_first_and_without_a_wait() {
        let mut world = World::new(&[1, 2, 3], &[1, 2], &[&[1], &[1, 2]]);
        world.voters_not_before = LATER;
        assert_eq!(world.next(), Next::Do(Step::FinishJoint));
    }

    #[test]
    fn an_uncommitted_membership_is_waited_for() {
        let mut world = World::new(&[1, 2, 3], &[1, 2], &[&[1], &[1, 2]]);
        world.committed = false;
        assert_eq!(world.next(), Next::Settled);
    }

    #[test]
    fn a_node_that_leaves_is_removed_and_then_forgotten_and_the_leader_goes_last() {
        let world = World::new(&[1, 2, 3], &[1, 2, 3], &[&[1, 2, 3]]).leaving(1).leaving(2);
        assert_eq!(world.next(), Next::Do(Step::RemoveVoter(NodeId(2))));
        let world = World::new(&[1, 2, 3], &[1, 3], &[&[1, 3]]).leaving(1).leaving(2);
        assert_eq!(world.next(), Next::Do(Step::Forget(NodeId(2))));
        let world = World::new(&[1, 3], &[1, 3], &[&[1, 3]]).leaving(1);
        assert_eq!(world.next(), Next::Do(Step::RemoveVoter(NodeId(1))));
        let world = World::new(&[1, 2], &[1, 2], &[&[1]]).leaving(2);
        assert_eq!(world.next(), Next::Do(Step::RemoveLearner(NodeId(2))));
    }

    #[test]
    fn a_member_that_the_state_does_not_know_is_removed() {
        let world = World::new(&[1, 2], &[1, 2, 3], &[&[1, 2, 3]]);
        assert_eq!(world.next(), Next::Do(Step::RemoveVoter(NodeId(3))));
    }

    #[test]
    fn a_joiner_becomes_a_voter_before_a_leaver_goes() {
        let mut world = World::new(&[1, 2, 3], &[1, 2, 3], &[&[1, 2]]).leaving(2);
        world.matched.insert(NodeId(3), LogIndex(1_000));
        assert_eq!(world.next(), Next::Do(Step::AddVoter(NodeId(3))));
    }

    #[test]
    fn the_last_voter_stays() {
        let world = World::new(&[1], &[1], &[&[1]]).leaving(1);
        assert_eq!(world.next(), Next::Settled);
    }
}
