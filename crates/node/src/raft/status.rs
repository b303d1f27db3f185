//! What the rest of the daemon sees of Raft.

use std::collections::BTreeMap;
use std::sync::Arc;

use openraft::{RaftMetrics, ServerState};
use quorate_model::id::{LogIndex, NodeId};
use quorate_model::membership::Membership;

use super::types::{self, LogId, TypeConfig};

/// What this node is in the Raft group.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum RaftRole {
    /// It receives the log and does not vote.
    #[default]
    Learner,
    /// It votes, and follows a leader if there is one.
    Follower,
    /// It asks for votes.
    Candidate,
    /// It leads.
    Leader,
    /// Raft has stopped.
    Stopped,
}

/// Raft's state on this node.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct RaftStatus {
    /// What this node is.
    pub role: RaftRole,
    /// The term.
    pub term: u64,
    /// The leader that this node follows, or itself.
    pub leader: Option<NodeId>,
    /// The last entry of this node's log.
    pub last_log: LogIndex,
    /// The last entry that this node knows to be committed.
    pub committed: LogIndex,
    /// The last entry that the leader of this term has said to be committed; `None`: since this
    /// daemon started, this node has heard of no such leader.
    pub heard: Option<LogIndex>,
    /// The last entry that this node applied.
    pub applied: LogIndex,
    /// The membership in force here: that of the last such entry in the log, committed or not.
    pub membership: Arc<Membership>,
    /// The index of that entry.
    pub membership_index: LogIndex,
    /// Whether that entry is known to be committed.
    pub membership_committed: bool,
    /// Whether that entry is applied here.
    pub membership_applied: bool,
    /// On the leader: how far the log of each other member is known to match.
    pub matched: BTreeMap<NodeId, LogIndex>,
}

fn index(id: Option<&LogId>) -> LogIndex {
    id.map_or(LogIndex(0), |id| LogIndex(id.index))
}

/// Openraft's metrics in our words.
pub(crate) fn translate(metrics: &RaftMetrics<TypeConfig>, before: &RaftStatus) -> RaftStatus {
    let stored = &metrics.membership_config;
    let membership_index = index(stored.log_id().as_ref());
    let committed_membership = metrics.committed_membership_config.log_id();
    let matched = metrics.replication.iter().flatten();
    let fresh = types::membership(stored.membership());
    RaftStatus {
        role: match metrics.state {
            ServerState::Learner => RaftRole::Learner,
            ServerState::Follower => RaftRole::Follower,
            ServerState::Candidate => RaftRole::Candidate,
            ServerState::Leader => RaftRole::Leader,
            ServerState::Shutdown => RaftRole::Stopped,
        },
        term: metrics.current_term,
        leader: metrics.current_leader.map(NodeId),
        last_log: LogIndex(metrics.last_log_index.unwrap_or(0)),
        committed: index(metrics.local_committed.as_ref()),
        heard: metrics
            .cluster_committed
            .as_ref()
            .filter(|id| id.committed_leader_id().term == metrics.current_term)
            .map(|id| LogIndex(id.index)),
        applied: index(metrics.last_applied.as_ref()),
        membership: if *before.membership == fresh {
            Arc::clone(&before.membership)
        } else {
            Arc::new(fresh)
        },
        membership_index,
        membership_committed: committed_membership == stored.log_id(),
        membership_applied: index(metrics.last_applied.as_ref()) >= membership_index,
        matched: matched.map(|(&id, matched)| (NodeId(id), index(matched.as_ref()))).collect(),
    }
}
