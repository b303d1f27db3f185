//! What the rest of the daemon does with Raft: propose, look, wait.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use openraft::async_runtime::watch::WatchReceiver as _;
use openraft::errors::{
    ClientWriteError, ForwardReason, ForwardToLeader, LinearizableReadError, RaftError,
};
use openraft::{ChangeMembers, ReadPolicy};
use quorate_model::command::Command;
use quorate_model::id::NodeId;
use quorate_model::membership::Step;
use quorate_model::spec::{ClusterSpec, Diagnostics, Format};
use quorate_model::state::{ClusterState, Reply};
use tokio::sync::watch;
use tokio::time::{Instant, timeout, timeout_at};

use super::reader::Reader;
use super::status::RaftStatus;
use super::store::space::{LowSpace, Space};
use super::types::{Member, Raft, TypeConfig};

/// Entries that a leader has written and no majority has taken: more are refused. Followers whose disks
/// are full answer heartbeats and take none, so that nothing else would bound what waits for them.
pub(super) const UNCOMMITTED_MAX: u64 = 256;

/// Why there is no reply to a command.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ProposeError {
    /// Another node leads, or nobody does. Nothing was proposed.
    #[error("this node does not lead the cluster")]
    NotLeader {
        /// Who does, if this node knows.
        leader: Option<NodeId>,
    },
    /// The leader can't reach a majority of the voters. Nothing was proposed.
    #[error("no quorum: the leader can't reach a majority of the voters")]
    NoQuorum,
    /// This node's disk counts as full: it takes nothing, and another one is about to lead. Nothing
    /// was proposed.
    #[error(transparent)]
    DiskFull(#[from] LowSpace),
    /// It was proposed, and nobody knows what became of it.
    #[error("the outcome is unknown: the command was proposed, and not confirmed within {0:?}")]
    Unknown(Duration),
    /// Raft has stopped on this node.
    #[error("Raft has stopped on this node: {0}")]
    Stopped(String),
}

/// The way to Raft. Cheap to clone.
#[derive(Debug, Clone)]
pub struct RaftHandle {
    pub(super) raft: Raft,
    pub(super) state: watch::Receiver<Arc<ClusterState>>,
    pub(super) status: watch::Receiver<Arc<RaftStatus>>,
    pub(super) space: Space,
    pub(super) reader: Arc<Reader>,
    pub(super) limit: Duration,
    /// How long a leader whom nobody has answered yet may wait for that.
    pub(super) quorum_limit: Duration,
}

fn forward(forward: &ForwardToLeader<TypeConfig>) -> ProposeError {
    match forward.reason {
        ForwardReason::LeaseExpired => ProposeError::NoQuorum,
        ForwardReason::NotLeader | ForwardReason::LeadershipTransfer => {
            ProposeError::NotLeader { leader: forward.leader_id.map(NodeId) }
        }
    }
}

impl RaftHandle {
    fn refused(&self, error: RaftError<TypeConfig, ClientWriteError<TypeConfig>>) -> ProposeError {
        match error {
            RaftError::APIError(ClientWriteError::ForwardToLeader(to)) => forward(&to),
            RaftError::APIError(ClientWriteError::LogEntryDiscarded(_)) => {
                ProposeError::Unknown(self.limit)
            }
            RaftError::APIError(other) => ProposeError::Stopped(other.to_string()),
            RaftError::Fatal(fatal) => ProposeError::Stopped(fatal.to_string()),
        }
    }

    /// Proposes a command on the leader; when this returns, it is applied and published here.
    ///
    /// A leader takes nothing while no majority answers it; just after its election that is soon
    /// over, so it is waited for.
    ///
    /// # Errors
    ///
    /// If this node does not lead, or nobody knows what became of it.
    pub async fn propose(&self, command: Command) -> Result<Reply, ProposeError> {
        let deadline = Instant::now() + self.quorum_limit;
        let mut metrics = self.raft.metrics();
        loop {
            match self.propose_once(command.clone()).await {
                Err(ProposeError::NoQuorum) => {
                    if timeout_at(deadline, metrics.changed()).await.is_err() {
                        return Err(ProposeError::NoQuorum);
                    }
                }
                outcome => return outcome,
            }
        }
    }

    async fn propose_once(&self, command: Command) -> Result<Reply, ProposeError> {
        self.space.look()?;
        let waiting = {
            let metrics = self.raft.metrics();
            let metrics = metrics.borrow_watched();
            let committed = metrics.local_committed.as_ref().map_or(0, |id| id.index);
            metrics.last_log_index.unwrap_or(0).saturating_sub(committed)
        };
        if waiting > UNCOMMITTED_MAX {
            return Err(ProposeError::NoQuorum);
        }
        match timeout(self.limit, self.raft.client_write(command)).await {
            Ok(Ok(response)) => Ok(response.data),
            Ok(Err(error)) => Err(self.refused(error)),
            Err(_) => Err(ProposeError::Unknown(self.limit)),
        }
    }

    /// Waits until this node, which must lead, has applied everything that was committed before.
    ///
    /// # Errors
    ///
    /// If it does not lead, or can't reach a majority.
    pub async fn catch_up(&self) -> Result<(), ProposeError> {
        // It would go on sending heartbeats for this, and so keep a lead that it has given up.
        self.space.look()?;
        let reading = self.raft.ensure_linearizable(ReadPolicy::ReadIndex);
        match timeout(self.limit, reading).await {
            Ok(Ok(_)) => Ok(()),
            Ok(Err(RaftError::APIError(LinearizableReadError::ForwardToLeader(to)))) => {
                Err(forward(&to))
            }
            Ok(Err(RaftError::APIError(LinearizableReadError::QuorumNotEnough(_)))) | Err(_) => {
                Err(ProposeError::NoQuorum)
            }
            Ok(Err(RaftError::Fatal(fatal))) => Err(ProposeError::Stopped(fatal.to_string())),
        }
    }

    /// Takes one step of the Raft group, on the leader.
    pub(super) async fn take(&self, step: Step) -> Result<(), ProposeError> {
        self.space.look()?;
        let only = |id: NodeId| [id.0].into();
        // Removed voters don't stay as learners.
        let (change, keep) = match step {
            Step::Forget(node) => return self.propose(Command::Forget(node)).await.map(drop),
            Step::AddLearner(node, description) => {
                let member = Member::from(description);
                let added = self.raft.add_learner(node.0, member, false).await;
                return added.map(drop).map_err(|error| self.refused(error));
            }
            Step::FinishJoint => (ChangeMembers::AddVoterIds([].into()), false),
            Step::AddVoter(node) => (ChangeMembers::AddVoterIds(only(node)), true),
            Step::RemoveVoter(node) => (ChangeMembers::RemoveVoters(only(node)), false),
            Step::RemoveLearner(node) => (ChangeMembers::RemoveNodes(only(node)), true),
        };
        let changed = self.raft.change_membership(change, keep).await;
        changed.map(drop).map_err(|error| self.refused(error))
    }

    /// Asks the leader, which must be this node, to let another voter lead.
    ///
    /// # Errors
    ///
    /// If Raft has stopped.
    pub async fn transfer_leader(&self, to: NodeId) -> Result<(), ProposeError> {
        let sent = self.raft.trigger().transfer_leader(to.0).await;
        sent.map_err(|fatal| ProposeError::Stopped(fatal.to_string()))
    }

    /// On the leader: the other members that answered within this time.
    #[must_use]
    pub fn reachable(&self, within: Duration) -> BTreeSet<NodeId> {
        use openraft::Instant as _;
        let metrics = self.raft.metrics();
        let watched = metrics.borrow_watched();
        let heartbeats = watched.heartbeat.iter().flatten();
        let lately =
            heartbeats.filter(|(_, at)| at.as_ref().is_some_and(|at| at.elapsed() < within));
        lately.map(|(&node, _)| NodeId(node)).collect()
    }

    /// What a configuration's text says.
    ///
    /// # Errors
    ///
    /// If it is wrong, with every reason.
    pub(crate) fn read(
        &self,
        source: &str,
        format: Format,
    ) -> Result<Arc<ClusterSpec>, Diagnostics> {
        self.reader.read(source, format)
    }

    /// The replicated state, as this node has applied it; a new value after every apply.
    #[must_use]
    pub fn state(&self) -> watch::Receiver<Arc<ClusterState>> {
        self.state.clone()
    }

    /// Raft's state on this node.
    #[must_use]
    pub fn status(&self) -> watch::Receiver<Arc<RaftStatus>> {
        self.status.clone()
    }

    /// On the leader: how long ago it sent what a majority has answered last. `None` elsewhere,
    /// and on a leader that nobody has answered yet.
    #[must_use]
    pub fn since_quorum(&self) -> Option<Duration> {
        use openraft::Instant as _;
        let acked = self.raft.metrics().borrow_watched().last_quorum_acked?;
        Some(acked.elapsed())
    }
}
