//! The leader's task that brings the Raft group in line with the nodes of the state.
//!
//! What comes next is decided in `quorate_model::membership`; here it is carried out, step by
//! step, for as long as this node leads.

use std::sync::Arc;
use std::time::Duration;

use quorate_model::membership::{Next, Situation, Step, next_step};
use quorate_model::state::ClusterState;
use quorate_model::time::Instant;
use tokio::sync::watch;
use tokio::time::sleep;

use super::handle::{ProposeError, RaftHandle};
use super::status::{RaftRole, RaftStatus};
use crate::clock;
use quorate_model::id::NodeId;

/// After a step that failed.
const PAUSE: Duration = Duration::from_millis(200);
/// After one that this node's disk has no room for: another node is about to lead.
const FULL_PAUSE: Duration = Duration::from_secs(5);

/// Since when this node leads, and when it last changed the voters.
#[derive(Debug, Default)]
struct Lead {
    term: Option<u64>,
    changed: Instant,
}

impl Lead {
    /// Whether this node leads; a new lead counts as a change of voters, since the leader before
    /// may have made one just now.
    fn follow(&mut self, now: Instant, status: &RaftStatus) -> bool {
        let leads = status.role == RaftRole::Leader;
        let term = leads.then_some(status.term);
        if self.term != term {
            *self = Self { term, changed: now };
        }
        leads
    }
}

/// Runs as long as Raft does. `takeover` is true while a group is changing its owner.
pub(super) async fn run(handle: RaftHandle, me: NodeId, mut takeover: watch::Receiver<bool>) {
    let mut state = handle.state();
    let mut status = handle.status();
    let mut lead = Lead::default();
    loop {
        let current = Arc::clone(&status.borrow_and_update());
        let known = Arc::clone(&state.borrow_and_update());
        let busy = *takeover.borrow_and_update();
        let now = clock::now();
        let next = if lead.follow(now, &current) {
            decide(now, me, &current, &known, lead.changed, busy)
        } else {
            Next::Settled
        };
        let pause = match next {
            Next::Do(step) => {
                let voters = changes_voters(&step);
                tracing::info!("membership: {step:?}");
                let taken = handle.take(step).await;
                // Also after an error: it may have taken effect.
                if voters {
                    lead.changed = clock::now();
                }
                match taken {
                    Ok(()) => continue,
                    Err(error) => {
                        tracing::info!("membership: not done: {error}");
                        let full = matches!(error, ProposeError::DiskFull(_));
                        Some(if full { FULL_PAUSE } else { PAUSE })
                    }
                }
            }
            Next::Wait(until) => Some(until.since(now)),
            Next::Settled => None,
        };
        let changed = async {
            tokio::select! {
                changed = status.changed() => changed.is_ok(),
                changed = state.changed() => changed.is_ok(),
                changed = takeover.changed() => changed.is_ok(),
            }
        };
        let goes_on = match pause {
            None => changed.await,
            Some(pause) => tokio::select! {
                goes_on = changed => goes_on,
                () = sleep(pause) => true,
            },
        };
        if !goes_on {
            return;
        }
    }
}

fn changes_voters(step: &Step) -> bool {
    match step {
        Step::FinishJoint | Step::AddVoter(_) | Step::RemoveVoter(_) => true,
        Step::AddLearner(..) | Step::RemoveLearner(_) | Step::Forget(_) => false,
    }
}

fn decide(
    now: Instant,
    me: NodeId,
    status: &RaftStatus,
    state: &ClusterState,
    changed: Instant,
    takeover: bool,
) -> Next {
    // Before the founding command is applied, the state knows no nodes.
    if state.cluster_id == 0 || status.membership.configs.is_empty() {
        return Next::Settled;
    }
    next_step(
        now,
        &Situation {
            me,
            nodes: &state.nodes,
            membership: &status.membership,
            // The longest promise is that of a state in which the membership is applied: a leader
            // that applies late would not know yet under how long a lease an owner may serve who
            // goes by the membership before, and would not wait for its end.
            committed: status.membership_committed && state.applied >= status.membership_index,
            matched: &status.matched,
            last: status.last_log,
            voters_not_before: changed + state.longest_promise() * 2,
            takeover,
        },
    )
}

#[cfg(test)]
mod tests {
    use std::collections::{BTreeMap, BTreeSet};

    use quorate_model::command::{Digest, NodeDescription};
    use quorate_model::id::{LogIndex, Role};
    use quorate_model::membership::Membership;
    use quorate_model::state::NodeRecord;

    use super::*;

    #[test]
    fn a_leader_that_applies_late_does_not_change_the_voters() {
        let description = |id: u64| NodeDescription {
            name: format!("n{id}").parse().unwrap(),
            role: Role::Director,
            links: Vec::new(),
            public_key: Digest([0; 32]),
        };
        let ids = [1, 2].map(NodeId);
        let status = RaftStatus {
            role: RaftRole::Leader,
            membership: Arc::new(Membership {
                configs: vec![BTreeSet::from([NodeId(1)])],
                nodes: ids.iter().map(|id| (*id, description(id.0))).collect(),
            }),
            membership_index: LogIndex(7),
            membership_committed: true,
            matched: BTreeMap::from([(NodeId(2), LogIndex(9))]),
            last_log: LogIndex(9),
            ..RaftStatus::default()
        };
        let nodes = ids
            .iter()
            .map(|id| (*id, NodeRecord { description: description(id.0), leaving: false }));
        let mut state = ClusterState {
            cluster_id: 1,
            nodes: nodes.collect(),
            applied: LogIndex(6),
            ..ClusterState::default()
        };
        let long_after = Instant(3_600_000_000_000);
        let next =
            |state: &ClusterState| decide(long_after, NodeId(1), &status, state, Instant(0), false);
        assert_eq!(next(&state), Next::Settled);
        state.applied = LogIndex(7);
        assert_eq!(next(&state), Next::Do(Step::AddVoter(NodeId(2))));
    }
}
