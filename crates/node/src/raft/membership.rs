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

use super::handle::RaftHandle;
use super::status::{RaftRole, RaftStatus};
use crate::clock;
use quorate_model::id::NodeId;

/// After a step that failed.
const PAUSE: Duration = Duration::from_millis(200);

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
                    Err(error) => tracing::info!("membership: not done: {error}"),
                }
                Some(PAUSE)
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
            committed: status.membership_committed,
            matched: &status.matched,
            last: status.last_log,
            voters_not_before: changed + state.longest_promise() * 2,
            takeover,
        },
    )
}
