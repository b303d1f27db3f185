//! Memory after a large configuration: reading one takes some forty times its text for a moment. The
//! allocator would keep that for good, and a director's memory does not leave for the disk
//! (`renewals`).

use std::sync::Arc;
use std::time::Duration;

use quorate_dataplane::scheduling;
use quorate_model::id::Revision;
use quorate_model::state::{ClusterState, Configuration};
use tokio::sync::watch;
use tracing::{info, warn};

/// The text of a configuration that is worth it.
const LARGE_BYTES: usize = 128 * 1024;
/// How long all parts of the node may take to be done with it.
const SETTLES: Duration = Duration::from_secs(5);

/// Gives memory back each time that a large configuration was taken; ends with the sender.
pub(crate) async fn keep(mut state: watch::Receiver<Arc<ClusterState>>) {
    state.mark_changed();
    let mut last = (None, false);
    while state.changed().await.is_ok() {
        let taken = size(state.borrow_and_update().configuration.as_ref());
        let former = std::mem::replace(&mut last, taken);
        // A small one in place of a large one leaves as much behind.
        if taken.0 == former.0 || !(taken.1 || former.1) {
            continue;
        }
        tokio::time::sleep(SETTLES).await;
        match tokio::task::spawn_blocking(scheduling::give_memory_back).await {
            Ok(Ok(())) => info!("memory that reading the configuration took was given back"),
            Ok(Err(lack)) => warn!("the renewal thread may be held up under load: {lack}"),
            // The runtime ends.
            Err(_) => return,
        }
    }
}

/// The revision in force, and whether its text is large.
fn size(configuration: Option<&Configuration>) -> (Option<Revision>, bool) {
    let large = configuration.is_some_and(|taken| taken.source.len() >= LARGE_BYTES);
    (configuration.map(|taken| taken.revision), large)
}
