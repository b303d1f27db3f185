//! The nodes that a recovery dropped: they come back with the lost cluster's data, and take the
//! survivor for a member of theirs. Two of three would be a quorum of it, with the same VIPs. So the
//! survivor says what has happened, and whoever hears that ends, for good. What a member of one's own
//! cluster says is believed: its key is pinned. Tests: `raft/tests/recover.rs`.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use quorate_model::command::Digest;
use quorate_model::id::NodeId;
use quorate_model::time::Instant;
use tonic::Status;
use tonic::metadata::MetadataValue;

use super::directory::PeerDirectory;
use crate::clock;
use crate::identity::RECOVERED_WITHOUT_MAX;

/// The metadata key by which a refusal is known.
const KEY: &str = "quorate-recovered";
/// How often the log says that the same node still comes.
const SAID_EVERY: Duration = Duration::from_secs(60);

/// On the survivor: who was told, and when the log last said so. Cheap to clone.
#[derive(Debug, Clone, Default)]
pub(crate) struct Dropped(Arc<Mutex<BTreeMap<Digest, Instant>>>);

impl Dropped {
    /// What a dropped node is told.
    pub(crate) fn refuse(&self, directory: &PeerDirectory, key: Digest) -> Status {
        let cluster = directory.cluster();
        if self.is_news(key, clock::now()) {
            tracing::warn!(
                "a node that was dropped when this one recovered cluster {cluster} is running with the \
                 lost cluster's data; it is told to end: move its data directory away and join it anew"
            );
        }
        let text = format!("the cluster was recovered without this node, as {cluster}");
        let mut status = Status::failed_precondition(text);
        status.metadata_mut().insert(KEY, MetadataValue::from_static("without-this-node"));
        status
    }

    fn is_news(&self, key: Digest, now: Instant) -> bool {
        let mut said = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let news = said.get(&key).is_none_or(|&last| now.since(last) >= SAID_EVERY);
        if news && (said.len() < RECOVERED_WITHOUT_MAX || said.contains_key(&key)) {
            said.insert(key, now);
        }
        news
    }
}

/// On a node that comes back: what it has to know, if this refusal of a member says that the cluster
/// was recovered without it.
pub(crate) fn told(by: NodeId, status: &Status) -> Option<String> {
    status.metadata().get(KEY).map(|_| format!("node {by} says: {}", status.message()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_log_says_once_a_minute_that_the_same_node_comes() {
        let (dropped, key) = (Dropped::default(), Digest([1; 32]));
        let start = Instant(5);
        assert!(dropped.is_news(key, start));
        assert!(!dropped.is_news(key, start + SAID_EVERY / 2));
        assert!(dropped.is_news(Digest([2; 32]), start));
        assert!(dropped.is_news(key, start + SAID_EVERY));
    }
}
