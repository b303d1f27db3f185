//! Rolls an unconfirmed configuration back at its deadline: on each node a task that counts, of which the
//! leader's proposes.
//!
//! The deadline is a moment of the wall clock of whoever led when it was given. A node that sees it come while it
//! runs counts the whole time that was asked for down by the lease clock, which nobody sets. One that has just
//! started may read it in its log, and looks at its own wall clock once. So a wrong wall clock makes a leader that started
//! meanwhile early by as much as it is ahead; late it is by as much as it is behind, and at most by the time that
//! was asked for once more. A node that was cut off and comes to know of it late is late by as much.
//! Without a leader nothing is rolled back.

use std::time::Duration;

use quorate_model::command::{Command, Order, UnixMillis};
use quorate_model::id::Revision;
use quorate_model::state::{ClusterState, Reply};
use quorate_model::time::Instant;
use tokio::time::{sleep, timeout};
use tracing::{info, warn};

use super::handle::RaftHandle;
use super::status::RaftRole;
use crate::clock;

/// How often a node looks while one waits: the lease clock counts suspend, a runtime's timer does not.
const LOOK_EVERY: Duration = Duration::from_millis(250);
/// For so long after its start what a node learns may be what it knew before.
const CATCHES_UP: Duration = Duration::from_secs(60);
/// How long the rollback may take to be committed before it is tried again.
const COMMIT_TIMEOUT: Duration = Duration::from_secs(10);
/// After so long one that failed is tried again.
const RETRY_AFTER: Duration = Duration::from_secs(1);
/// Who rolls back, in the history.
const AUTHOR: &str = "the cluster";

/// A deadline, and when it has passed by this node's lease clock.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Deadline {
    revision: Revision,
    until: UnixMillis,
    due: Instant,
}

/// Keeps a deadline that is known already; of another one it is found out now when it is over: by the wall clock
/// if that is given, and else it has all of its time.
fn noted(
    known: Option<Deadline>,
    state: &ClusterState,
    wall: Option<UnixMillis>,
    now: Instant,
) -> Option<Deadline> {
    let unconfirmed = state.unconfirmed.as_ref()?;
    let (revision, until) = (state.revision(), unconfirmed.until);
    let same = |known: &Deadline| (known.revision, known.until) == (revision, until);
    let due = now + unconfirmed.left(wall.unwrap_or(unconfirmed.since));
    Some(known.filter(same).unwrap_or(Deadline { revision, until, due }))
}

/// Runs as long as Raft does.
pub(super) async fn run(handle: RaftHandle) {
    let mut state = handle.state();
    let status = handle.status();
    let started = clock::now();
    let mut known = None;
    loop {
        let wall = (clock::now().since(started) < CATCHES_UP).then(clock::wall);
        known = noted(known, &state.borrow_and_update(), wall, clock::now());
        let Some(deadline) = known else {
            if state.changed().await.is_err() {
                return;
            }
            continue;
        };
        let left = deadline.due.since(clock::now());
        if !left.is_zero() {
            sleep(left.min(LOOK_EVERY)).await;
        } else if status.borrow().role == RaftRole::Leader {
            roll_back(&handle, deadline).await;
        } else {
            sleep(LOOK_EVERY).await;
        }
        if state.has_changed().is_err() {
            return;
        }
    }
}

async fn roll_back(handle: &RaftHandle, deadline: Deadline) {
    let Deadline { revision, until, .. } = deadline;
    let (source, format) = handle.state.borrow().before();
    // Every node has to read it: one that this node can't read would end them all.
    if let Err(problems) = handle.read(&source, format) {
        let problems = problems.render("configuration", &source);
        warn!(%revision, "nobody confirmed it, and the one before can't be read any more: {problems}");
        sleep(COMMIT_TIMEOUT).await;
        return;
    }
    let order = Order { author: AUTHOR.to_owned(), at: clock::wall() };
    let command = Command::RollBack { revision, until: Some(until), order };
    match timeout(COMMIT_TIMEOUT, handle.propose(command)).await {
        Ok(Ok(Reply::Configured { revision: now, changed: true })) => {
            warn!(%revision, %now, "nobody confirmed the configuration: the one before is in force");
            return;
        }
        // It was settled meanwhile.
        Ok(Ok(reply)) => info!(%revision, "not rolled back: {reply:?}"),
        Ok(Err(error)) => warn!(%revision, %error, "the configuration can't be rolled back"),
        Err(_) => warn!(%revision, "the configuration can't be rolled back in time"),
    }
    sleep(RETRY_AFTER).await;
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use quorate_model::overrides::Overrides;
    use quorate_model::state::Unconfirmed;
    use quorate_model::time::Timing;

    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    /// Applied at 100 s of the leader's wall clock, for ten seconds from then on.
    fn state(until: u64) -> ClusterState {
        let unconfirmed = Unconfirmed {
            since: UnixMillis(until - 10_000),
            until: UnixMillis(until),
            timing: Timing::LAN,
            pins: BTreeMap::new(),
            overrides: Overrides::default(),
        };
        ClusterState { unconfirmed: Some(unconfirmed), ..ClusterState::default() }
    }

    fn due(known: Option<Deadline>, until: u64, wall: u64, now: Instant) -> Option<Deadline> {
        noted(known, &state(until), Some(UnixMillis(wall)), now)
    }

    #[test]
    fn a_wall_clock_that_is_set_meanwhile_moves_no_deadline() {
        let start = Instant(1_000_000_000_000);
        let first = due(None, 110_000, 100_000, start);
        assert_eq!(first.unwrap().due, start + 10 * SECOND);
        for wall in [0, 109_000, u64::MAX] {
            assert_eq!(due(first, 110_000, wall, start + SECOND), first);
        }
        let settled = noted(first, &ClusterState::default(), Some(UnixMillis(0)), start);
        assert_eq!(settled, None);
    }

    #[test]
    fn another_deadline_is_counted_anew() {
        let start = Instant(1_000_000_000_000);
        let first = due(None, 110_000, 100_000, start);
        let later = due(first, 115_000, 105_000, start + 5 * SECOND);
        assert_eq!(later.unwrap().due, start + 15 * SECOND);
    }

    #[test]
    fn a_node_that_sees_it_given_has_all_of_the_time_whatever_its_wall_clock_says() {
        let start = Instant(1_000_000_000_000);
        assert_eq!(noted(None, &state(110_000), None, start).unwrap().due, start + 10 * SECOND);
    }

    #[test]
    fn a_node_that_starts_later_has_what_is_left_and_never_more_than_all() {
        let start = Instant(1_000_000_000_000);
        assert_eq!(due(None, 110_000, 107_000, start).unwrap().due, start + 3 * SECOND);
        assert_eq!(due(None, 110_000, 200_000, start).unwrap().due, start);
        assert_eq!(due(None, 110_000, 0, start).unwrap().due, start + 10 * SECOND);
    }
}
