//! The leader's task that lets a node lead which owns nothing.
//!
//! Whether and whom is decided in `quorate_model::leadership`; here it is carried out, and it is
//! remembered which hand-overs came to nothing. Tests: at the end, and `raft/tests/leadership.rs`.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use quorate_model::id::{Epoch, GroupName, NodeId};
use quorate_model::leadership::{Next, Situation, next_leader};
use quorate_model::state::ClusterState;
use quorate_model::time::Instant;
use tokio::sync::watch;
use tokio::time::{sleep, timeout};

use super::handle::RaftHandle;
use super::status::{RaftRole, RaftStatus};
use crate::clock;

/// How often a leader looks. What it waits for lasts much longer.
const LOOK_EVERY: Duration = Duration::from_secs(1);
/// How long a hand-over may take until the other one leads.
const HAND_OVER_TIMEOUT: Duration = Duration::from_secs(5);

/// What this node remembers from one look to the next.
#[derive(Debug, Default)]
struct Memory {
    /// The term that this node leads in, and the grants in force, at the last look.
    seen: Option<(u64, BTreeMap<GroupName, Epoch>)>,
    quiet_since: Instant,
    /// When a hand-over was tried last, and how many in succession came to nothing.
    last_try: Option<(Instant, u32)>,
}

impl Memory {
    /// Since when nothing has changed; a new lead or a grant counts as a change.
    fn note(&mut self, now: Instant, term: u64, state: &ClusterState) {
        let epochs = state.grants.iter().map(|(group, grant)| (group.clone(), grant.epoch));
        let seen = (term, epochs.collect());
        if self.seen.as_ref() != Some(&seen) {
            self.seen = Some(seen);
            self.quiet_since = now;
        }
    }

    fn tried(&mut self, began: Instant, succeeded: bool) {
        let failures = self.last_try.map_or(0, |(_, failures)| failures);
        self.last_try = (!succeeded).then(|| (began, failures.saturating_add(1)));
    }
}

/// Runs as long as Raft does. A member counts as reachable if it answered `heard_within`; `takeover`
/// is true while a group is changing its owner.
pub(super) async fn run(
    handle: RaftHandle,
    me: NodeId,
    heard_within: Duration,
    takeover: watch::Receiver<bool>,
) {
    let mut status = handle.status();
    let mut memory = Memory::default();
    loop {
        if status.wait_for(|status| status.role == RaftRole::Leader).await.is_err() {
            return;
        }
        let now = clock::now();
        let current = Arc::clone(&status.borrow());
        let state = Arc::clone(&handle.state.borrow());
        memory.note(now, current.term, &state);
        let next = next_leader(
            now,
            &Situation {
                me,
                state: &state,
                membership: &current.membership,
                committed: current.membership_committed,
                matched: &current.matched,
                last: current.last_log,
                reachable: &handle.reachable(heard_within),
                takeover: *takeover.borrow(),
                quiet_since: memory.quiet_since,
                last_try: memory.last_try,
            },
        );
        match next {
            Next::Stay | Next::Wait(_) => sleep(LOOK_EVERY).await,
            Next::HandOver(to) => {
                tracing::info!(%to, "the lead is handed over: this node owns VIP groups, or is evacuated");
                let succeeded = hand_over(&handle, to, &mut status).await;
                if !succeeded {
                    tracing::warn!(%to, "it does not lead; this is tried again later");
                }
                memory.tried(now, succeeded);
            }
        }
    }
}

/// Returns whether the other one leads.
async fn hand_over(
    handle: &RaftHandle,
    to: NodeId,
    status: &mut watch::Receiver<Arc<RaftStatus>>,
) -> bool {
    if handle.transfer_leader(to).await.is_err() {
        return false;
    }
    let leads = status.wait_for(|status| status.leader == Some(to));
    matches!(timeout(HAND_OVER_TIMEOUT, leads).await, Ok(Ok(_)))
}

#[cfg(test)]
mod tests {
    use quorate_model::command::{GrantReason, UnixMillis};
    use quorate_model::id::Incarnation;
    use quorate_model::state::GrantRecord;

    use super::*;

    #[test]
    fn a_new_lead_and_a_new_grant_end_the_quiet_and_nothing_else_does() {
        let mut memory = Memory::default();
        let mut state = ClusterState::default();
        memory.note(Instant(1), 1, &state);
        memory.note(Instant(2), 1, &state);
        assert_eq!(memory.quiet_since, Instant(1));
        memory.note(Instant(3), 2, &state);
        assert_eq!(memory.quiet_since, Instant(3));
        let grant = GrantRecord {
            epoch: Epoch(9),
            owner: NodeId(1),
            incarnation: Incarnation(1),
            reason: GrantReason::First,
            at: UnixMillis(0),
        };
        state.grants.insert("web".parse().unwrap(), grant);
        memory.note(Instant(4), 2, &state);
        memory.note(Instant(5), 2, &state);
        assert_eq!(memory.quiet_since, Instant(4));
    }

    #[test]
    fn failures_are_counted_until_one_succeeds() {
        let mut memory = Memory::default();
        memory.tried(Instant(1), false);
        memory.tried(Instant(2), false);
        assert_eq!(memory.last_try, Some((Instant(2), 2)));
        memory.tried(Instant(3), true);
        assert_eq!(memory.last_try, None);
    }
}
