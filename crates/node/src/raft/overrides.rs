//! The leader's task that ends overrides of weights whose time is over. What is over is the leader's
//! clock to say; that it ends is in the log, so that it ends on every node alike. Without a leader they
//! hold on.

use std::time::Duration;

use quorate_model::command::Command;
use tokio::time::{sleep, timeout};
use tracing::{info, warn};

use super::handle::RaftHandle;
use super::status::RaftRole;
use crate::clock;

/// How often a leader looks.
const LOOK_EVERY: Duration = Duration::from_secs(1);
/// How long the end of one may take to be committed before it is tried again.
const COMMIT_TIMEOUT: Duration = Duration::from_secs(10);

/// Runs as long as Raft does.
pub(super) async fn run(handle: RaftHandle) {
    let mut status = handle.status();
    loop {
        if status.wait_for(|status| status.role == RaftRole::Leader).await.is_err() {
            return;
        }
        let end = handle.state.borrow().overrides.next_end();
        let now = clock::wall();
        if end.is_some_and(|end| end <= now) {
            match timeout(COMMIT_TIMEOUT, handle.propose(Command::EndOverrides(now))).await {
                Ok(Ok(_)) => {
                    info!("the time of overridden weights is over: they are as configured")
                }
                Ok(Err(error)) => {
                    warn!(%error, "overridden weights whose time is over can't be ended")
                }
                Err(_) => warn!("overridden weights whose time is over can't be ended in time"),
            }
        }
        sleep(LOOK_EVERY).await;
    }
}
