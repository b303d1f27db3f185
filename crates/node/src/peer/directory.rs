//! Who the peers are: their links, and the keys that are pinned for them.
//!
//! It keeps nothing of its own: it reads the replicated state and the Raft membership at the moment
//! it is asked, so a removal holds from the moment it is applied.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::sync::Arc;

use quorate_model::command::{Digest, NodeDescription};
use quorate_model::id::NodeId;
use quorate_model::state::ClusterState;
use tokio::sync::watch;

use crate::identity::Identity;
use crate::raft::status::RaftStatus;

/// Who the peers are. Cheap to clone.
#[derive(Debug, Clone)]
pub struct PeerDirectory {
    identity: Arc<Identity>,
    state: watch::Receiver<Arc<ClusterState>>,
    raft: watch::Receiver<Arc<RaftStatus>>,
}

/// Why a peer's request is refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// It is meant for another cluster.
    #[error("this node belongs to another cluster, named {0}")]
    Cluster(String),
    /// It is meant for another node.
    #[error("this is node {me}, not node {meant}")]
    Node {
        /// The node that was asked.
        me: NodeId,
        /// The node that it was meant for.
        meant: NodeId,
    },
    /// The sender is no member, or not the one that it says.
    #[error("node {0} is no member of this cluster, or its key is another")]
    Stranger(NodeId),
}

impl PeerDirectory {
    /// Reads from these from now on.
    #[must_use]
    pub fn new(
        identity: Arc<Identity>,
        state: watch::Receiver<Arc<ClusterState>>,
        raft: watch::Receiver<Arc<RaftStatus>>,
    ) -> Self {
        Self { identity, state, raft }
    }

    /// This node.
    #[must_use]
    pub fn me(&self) -> NodeId {
        self.identity.node_id
    }

    /// The cluster's id.
    #[must_use]
    pub fn cluster_id(&self) -> u128 {
        self.identity.cluster_id
    }

    /// A node's description, if it is a member: of the Raft group, or admitted to it. Where the
    /// others were when this node joined counts only until it has the cluster's state.
    #[must_use]
    pub fn node(&self, id: NodeId) -> Option<NodeDescription> {
        self.look(id, NodeDescription::clone)
    }

    fn look<T>(&self, id: NodeId, at: impl FnOnce(&NodeDescription) -> T) -> Option<T> {
        let raft = Arc::clone(&self.raft.borrow());
        if let Some(node) = raft.membership.nodes.get(&id) {
            return Some(at(node));
        }
        let state = Arc::clone(&self.state.borrow());
        if let Some(record) = state.nodes.get(&id) {
            return Some(at(&record.description));
        }
        let unborn = state.cluster_id == 0 && raft.membership.nodes.is_empty();
        unborn.then(|| self.identity.members.get(&id).map(at)).flatten()
    }

    /// The key that is pinned for a node.
    #[must_use]
    pub fn pin(&self, id: NodeId) -> Option<Digest> {
        self.look(id, |node| node.public_key)
    }

    /// The nodes that may be members; those that are have a description.
    fn known(&self) -> BTreeSet<NodeId> {
        let raft = Arc::clone(&self.raft.borrow());
        let state = Arc::clone(&self.state.borrow());
        let known = state.nodes.keys().chain(raft.membership.nodes.keys());
        known.chain(self.identity.members.keys()).copied().collect()
    }

    /// Every member but this node.
    #[must_use]
    pub fn others(&self) -> BTreeSet<NodeId> {
        let mut known = self.known();
        known.retain(|&node| node != self.me() && self.look(node, |_| ()).is_some());
        known
    }

    /// The node that this key is pinned for.
    #[must_use]
    pub fn who(&self, key: &Digest) -> Option<NodeId> {
        self.known().into_iter().find(|&node| self.pin(node) == Some(*key))
    }

    /// Whether this key is pinned for any node.
    #[must_use]
    pub fn is_member(&self, key: &Digest) -> bool {
        self.who(key).is_some()
    }

    /// Where a node listens.
    #[must_use]
    pub fn links(&self, id: NodeId) -> Vec<SocketAddr> {
        let links = self.node(id).map(|node| node.links).unwrap_or_default();
        links.iter().map(|link| link.listen).collect()
    }

    /// Whether a request of `from`, who showed `key`, for node `to` of a cluster is answered.
    ///
    /// # Errors
    ///
    /// If it is not, and why.
    pub fn authorise(
        &self,
        cluster_id: u128,
        to: NodeId,
        from: NodeId,
        key: Option<Digest>,
    ) -> Result<(), Refusal> {
        if cluster_id != self.identity.cluster_id {
            return Err(Refusal::Cluster(self.identity.cluster_name.clone()));
        }
        if to != self.identity.node_id {
            return Err(Refusal::Node { me: self.identity.node_id, meant: to });
        }
        match key {
            Some(key) if self.pin(from) == Some(key) => Ok(()),
            _ => Err(Refusal::Stranger(from)),
        }
    }

    /// Whether this key is of a node that a recovery of this cluster dropped. It may take this node for a
    /// member of the lost cluster, and has to be told.
    #[must_use]
    pub fn was_dropped(&self, key: &Digest) -> bool {
        self.identity.recovered_without.contains(key)
    }

    /// The cluster's name and id, for people.
    #[must_use]
    pub fn cluster(&self) -> String {
        format!("{} ({:032x})", self.identity.cluster_name, self.identity.cluster_id)
    }

    /// The name of the client whose certificate has this key, if it is valid.
    #[must_use]
    pub fn client(&self, key: &Digest) -> Option<String> {
        self.state.borrow().clients.get(key).cloned()
    }
}
