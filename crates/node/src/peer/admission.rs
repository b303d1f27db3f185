//! Admitting a node that shows a join token.
//!
//! Only the leader admits. Another node says where the leader is, and the joiner goes there. The
//! token is judged where every node comes to the same answer: when the command is applied.

use std::sync::Arc;

use quorate_api::convert::cluster_id;
use quorate_api::peer::v1 as peer;
use quorate_model::command::{Command, Digest, NodeDescription};
use quorate_model::state::{ClusterState, Refused, Reply};
use tonic::{Request, Response, Status};

use crate::clock;
use crate::identity::authority::{self, Holder, sha256};
use crate::raft::handle::{ProposeError, RaftHandle};

/// Where a follower's refusal names the leader's addresses, separated by commas.
pub(crate) const LEADER_HINT: &str = "quorate-leader";

/// The service `Admission`.
#[derive(Debug)]
pub struct AdmissionService {
    raft: RaftHandle,
}

impl AdmissionService {
    /// Admits through this node's Raft.
    #[must_use]
    pub fn new(raft: RaftHandle) -> Self {
        Self { raft }
    }

    async fn admit(&self, request: peer::AdmitRequest) -> Result<peer::AdmitResponse, Status> {
        let invalid = |error: &dyn std::error::Error| Status::invalid_argument(error.to_string());
        let state = Arc::clone(&self.raft.state().borrow());
        if cluster_id(&request.cluster_id).map_err(|e| invalid(&e))? != state.cluster_id {
            return Err(Status::invalid_argument("this join token is for another cluster"));
        }
        let node = request.node.ok_or_else(|| Status::invalid_argument("node is missing"))?;
        let node = NodeDescription::try_from(node).map_err(|e| invalid(&e))?;
        if sha256(&request.public_key) != node.public_key {
            return Err(Status::invalid_argument("the public key is not the one described"));
        }
        let secret = sha256(&request.secret);
        let name = node.name.clone();
        self.expect_token(&secret, &node).await?;
        let command = Command::Admit { secret, at: clock::wall(), node };
        let id = match self.raft.propose(command).await {
            Ok(Reply::Admitted(id)) => id,
            Ok(Reply::Refused(refused)) => return Err(refusal(&refused)),
            Ok(other) => return Err(Status::internal(format!("unexpected reply {other:?}"))),
            Err(error) => return Err(self.elsewhere(&state, error)),
        };
        tracing::info!("admitted {name} as node {id}");
        let state = Arc::clone(&self.raft.state().borrow());
        let authority = state.authority.as_ref();
        let authority = authority.ok_or_else(|| Status::internal("the cluster has no CA"))?;
        let certificate =
            authority::sign(authority, Holder::Node, name.as_str(), &request.public_key)
                .map_err(|e| invalid(&e))?;
        let members = state.nodes.iter().map(|(id, record)| peer::Member {
            id: id.0,
            node: Some((&record.description).into()),
        });
        Ok(peer::AdmitResponse {
            node_id: id.0,
            certificate,
            cluster_name: state.name.clone(),
            members: members.collect(),
            timing: Some(state.timing.into()),
        })
    }

    /// Whoever reaches the port may ask, so what can't succeed must not reach the log.
    async fn expect_token(&self, secret: &Digest, node: &NodeDescription) -> Result<(), Status> {
        let expected = || {
            let state = self.raft.state();
            let state = state.borrow();
            state.tokens.contains_key(secret)
                || state.nodes.values().any(|record| record.description == *node)
        };
        if expected() {
            return Ok(());
        }
        // A new leader, or a node that follows, may not know of the token yet.
        if let Err(error) = self.raft.catch_up().await {
            let state = Arc::clone(&self.raft.state().borrow());
            return Err(self.elsewhere(&state, error));
        }
        if expected() { Ok(()) } else { Err(refusal(&Refused::Token)) }
    }

    fn elsewhere(&self, state: &ClusterState, error: ProposeError) -> Status {
        let ProposeError::NotLeader { leader } = error else {
            return Status::unavailable(error.to_string());
        };
        let status = Arc::clone(&self.raft.status().borrow());
        let leader = leader.or(status.leader).and_then(|leader| state.nodes.get(&leader));
        let Some(leader) = leader else {
            return Status::unavailable("the cluster has no leader at the moment");
        };
        let links = leader.description.links.iter().map(|link| link.listen.to_string());
        let hint = links.collect::<Vec<_>>().join(",");
        let mut refusal = Status::failed_precondition("another node leads the cluster");
        if let Ok(hint) = hint.parse() {
            refusal.metadata_mut().insert(LEADER_HINT, hint);
        }
        refusal
    }
}

fn refusal(refused: &Refused) -> Status {
    let text = refused.to_string();
    match refused {
        Refused::Token => Status::permission_denied(text),
        Refused::DuplicateName(_) | Refused::DuplicateAddress { .. } => {
            Status::already_exists(text)
        }
        Refused::Full { .. } => Status::resource_exhausted(text),
        _ => Status::invalid_argument(text),
    }
}

#[tonic::async_trait]
impl peer::admission_server::Admission for AdmissionService {
    async fn admit(
        &self,
        request: Request<peer::AdmitRequest>,
    ) -> Result<Response<peer::AdmitResponse>, Status> {
        self.admit(request.into_inner()).await.map(Response::new)
    }
}
