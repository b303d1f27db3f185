//! The public API (`quorate.v1.Admin`), on the local socket and over mutual TLS.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use futures::future::join_all;
use quorate_api::peer::v1::ObserveResponse;
use quorate_api::peer::v1::forward_request::Request as Write;
use quorate_api::peer::v1::forward_response::Response as Written;
use quorate_api::v1;
use quorate_model::id::NodeId;
use quorate_model::state::ClusterState;
use quorate_model::time::Timing;
use tonic::{Request, Response, Status};

use super::error::{Kind, detailed, error, is};
use super::events::{self, EventStream};
use super::revisions;
use super::status::{Knowledge, compose};
use crate::clock;
use crate::member::Member;
use crate::node::Node;

/// How long a request waits for the cluster to have a leader.
const LEADER_TIMEOUT: Duration = Duration::from_secs(15);
/// How long an answer waits for this node to have applied what the leader did.
const CATCH_UP_TIMEOUT: Duration = Duration::from_secs(2);
/// How long to wait before a node is asked again that does not lead, or not yet.
const LEADER_PAUSE: Duration = Duration::from_millis(50);

/// Who asks, and from where.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Caller {
    /// Somebody on this machine who may open the socket.
    Local {
        /// Numeric user id.
        uid: u32,
    },
    /// A client with a certificate of the cluster.
    Remote {
        /// The name it was made with.
        name: String,
    },
}

impl std::fmt::Display for Caller {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Local { uid } => write!(f, "local uid {uid}"),
            Self::Remote { name } => write!(f, "client {name}"),
        }
    }
}

/// The service.
#[derive(Debug, Clone)]
pub(crate) struct AdminService {
    node: Arc<Node>,
}

impl AdminService {
    pub(crate) fn new(node: Arc<Node>) -> Self {
        Self { node }
    }

    fn member(&self) -> Result<Arc<Member>, Status> {
        self.node.member().ok_or_else(|| {
            let text = format!(
                "{} belongs to no cluster yet: make one (quorate init --name NAME), or join one \
                 (quorate token create on a member, then quorate join TOKEN here)",
                self.node.config().name
            );
            error(Kind::NotMember, text)
        })
    }

    /// Who changed something over this node reads it from this node: waits a while until it has applied
    /// that.
    async fn caught_up(&self, mut done: impl FnMut(&ClusterState) -> bool) -> Result<(), Status> {
        let mut state = self.member()?.raft.state();
        let caught_up = state.wait_for(|state| done(state));
        let _ = tokio::time::timeout(CATCH_UP_TIMEOUT, caught_up).await;
        Ok(())
    }

    /// Has a write done by the leader, whoever that is; goes after one that changes.
    async fn write(&self, caller: &Caller, write: Write) -> Result<Written, Status> {
        let member = self.member()?;
        let deadline = clock::now() + LEADER_TIMEOUT;
        // Once the way broke after something was sent, an old leader may have it in its log.
        let mut interrupted = false;
        loop {
            let left = deadline.since(clock::now());
            let Some(leader) = member.wait_for_leader(left).await else {
                return Err(no_leader(interrupted, "", None));
            };
            let written = if leader == member.me {
                member.write(&caller.to_string(), write.clone()).await
            } else {
                member.forward(leader, caller.to_string(), write.clone()).await
            };
            match written {
                // What this node knows of the leader is catching up.
                Err(status) if is(Kind::NotLeader, &status) || is(Kind::Interrupted, &status) => {
                    interrupted |= is(Kind::Interrupted, &status);
                    if clock::now() >= deadline {
                        let state = member.state();
                        let record = state.nodes.get(&leader);
                        let leader = record.map(|record| record.description.name.to_string());
                        return Err(no_leader(interrupted, status.message(), leader));
                    }
                    tokio::time::sleep(LEADER_PAUSE).await;
                }
                written => return written,
            }
        }
    }
}

/// No leader took the write: nothing was written, unless one may have got it before it was lost.
fn no_leader(interrupted: bool, last: &str, leader: Option<String>) -> Status {
    let detail = v1::ErrorDetail { leader, ..Default::default() };
    let last = if last.is_empty() { String::new() } else { format!("{last}; ") };
    if interrupted {
        let text = format!(
            "{last}the leader was lost after the write was sent to it, and none confirmed it within \
             {LEADER_TIMEOUT:?}; it may still be applied: see `quorate status`, then do it again"
        );
        return detailed(Kind::UnknownOutcome, text, detail);
    }
    let text = format!(
        "{last}no Raft leader could take the write (waited {LEADER_TIMEOUT:?}): a majority of the \
         voters must be up and reach each other; see `quorate status`"
    );
    detailed(Kind::NoQuorum, text, detail)
}

fn local_only(caller: &Caller) -> Result<(), Status> {
    match caller {
        Caller::Local { .. } => Ok(()),
        Caller::Remote { .. } => Err(error(
            Kind::Forbidden,
            "a node is founded or joined over its local socket only: run this on the node itself",
        )),
    }
}

fn caller<T>(request: &Request<T>) -> Result<Caller, Status> {
    request
        .extensions()
        .get::<Caller>()
        .cloned()
        .ok_or_else(|| error(Kind::Forbidden, "the caller is not known"))
}

fn mismatch() -> Status {
    error(
        Kind::UnknownOutcome,
        "the leader answered something else than was asked: report this as a bug",
    )
}

#[tonic::async_trait]
impl v1::admin_server::Admin for AdminService {
    async fn init(
        &self,
        request: Request<v1::InitRequest>,
    ) -> Result<Response<v1::InitResponse>, Status> {
        local_only(&caller(&request)?)?;
        let request = request.into_inner();
        let timing = match request.timing.as_str() {
            "" => Timing::LAN,
            name => Timing::profile(name).ok_or_else(|| {
                let text = format!("{name:?} is no timing: use fast, lan or wan");
                error(Kind::Invalid, text)
            })?,
        };
        let member = self.node.init(&request.name, timing).await?;
        Ok(Response::new(v1::InitResponse { cluster_id: format!("{:032x}", member.cluster_id) }))
    }

    async fn join(
        &self,
        request: Request<v1::JoinRequest>,
    ) -> Result<Response<v1::JoinResponse>, Status> {
        local_only(&caller(&request)?)?;
        let member = self.node.join(&request.into_inner().token).await?;
        let cluster_name = member.cluster_name.clone();
        Ok(Response::new(v1::JoinResponse { node_id: member.me.0, cluster_name }))
    }

    async fn create_token(
        &self,
        request: Request<v1::CreateTokenRequest>,
    ) -> Result<Response<v1::CreateTokenResponse>, Status> {
        let caller = caller(&request)?;
        match self.write(&caller, Write::CreateToken(request.into_inner())).await? {
            Written::CreateToken(response) => Ok(Response::new(response)),
            _ => Err(mismatch()),
        }
    }

    async fn apply(
        &self,
        request: Request<v1::ApplyRequest>,
    ) -> Result<Response<v1::ApplyResponse>, Status> {
        let caller = caller(&request)?;
        match self.write(&caller, Write::Apply(request.into_inner())).await? {
            Written::Apply(response) => {
                self.caught_up(|state| state.revision().0 >= response.revision).await?;
                Ok(Response::new(response))
            }
            _ => Err(mismatch()),
        }
    }

    async fn get_configuration(
        &self,
        request: Request<v1::GetConfigurationRequest>,
    ) -> Result<Response<v1::GetConfigurationResponse>, Status> {
        let state = self.member()?.state();
        Ok(Response::new(revisions::configuration(&state, request.get_ref().revision)?))
    }

    async fn history(
        &self,
        _: Request<v1::HistoryRequest>,
    ) -> Result<Response<v1::HistoryResponse>, Status> {
        Ok(Response::new(revisions::history(&self.member()?.state())))
    }

    async fn confirm(
        &self,
        request: Request<v1::ConfirmRequest>,
    ) -> Result<Response<v1::ConfirmResponse>, Status> {
        let caller = caller(&request)?;
        match self.write(&caller, Write::Confirm(request.into_inner())).await? {
            Written::Confirm(response) => {
                self.caught_up(|state| {
                    state.revision().0 > response.revision || state.unconfirmed.is_none()
                })
                .await?;
                Ok(Response::new(response))
            }
            _ => Err(mismatch()),
        }
    }

    async fn abort(
        &self,
        request: Request<v1::AbortRequest>,
    ) -> Result<Response<v1::AbortResponse>, Status> {
        let caller = caller(&request)?;
        match self.write(&caller, Write::Abort(request.into_inner())).await? {
            Written::Abort(response) => {
                self.caught_up(|state| state.revision().0 >= response.revision).await?;
                Ok(Response::new(response))
            }
            _ => Err(mismatch()),
        }
    }

    async fn status(
        &self,
        request: Request<v1::StatusRequest>,
    ) -> Result<Response<v1::StatusResponse>, Status> {
        let Some(member) = self.node.member() else {
            let answered_by = self.node.config().name.to_string();
            return Ok(Response::new(v1::StatusResponse { answered_by, ..Default::default() }));
        };
        let view = member.view().await?;
        let state = member.state();
        let others: Vec<NodeId> =
            state.nodes.keys().copied().filter(|&node| node != member.me).collect();
        let brief = request.get_ref().brief;
        let asked = others.into_iter().map(|node| ask(&member, node, brief));
        let answers = join_all(asked).await.into_iter().flatten();
        let mut answers: BTreeMap<NodeId, ObserveResponse> = answers.collect();
        answers.insert(member.me, member.observe(brief).await?);
        let raft = Arc::clone(&member.raft.status().borrow());
        Ok(Response::new(compose(&Knowledge {
            me: member.me,
            now: clock::wall(),
            state: &state,
            membership: &raft.membership,
            leader: raft.leader,
            term: raft.term,
            committed: raft.committed.0,
            view: &view,
            answers: &answers,
        })))
    }

    async fn connections(
        &self,
        request: Request<v1::ConnectionsRequest>,
    ) -> Result<Response<v1::ConnectionsResponse>, Status> {
        let member = self.member()?;
        Ok(Response::new(member.connections(request.into_inner()).await?))
    }

    async fn transfer(
        &self,
        request: Request<v1::TransferRequest>,
    ) -> Result<Response<v1::TransferResponse>, Status> {
        let caller = caller(&request)?;
        match self.write(&caller, Write::Transfer(request.into_inner())).await? {
            Written::Transfer(response) => Ok(Response::new(response)),
            _ => Err(mismatch()),
        }
    }

    async fn evacuate(
        &self,
        request: Request<v1::EvacuateRequest>,
    ) -> Result<Response<v1::EvacuateResponse>, Status> {
        let caller = caller(&request)?;
        match self.write(&caller, Write::Evacuate(request.into_inner())).await? {
            Written::Evacuate(response) => Ok(Response::new(response)),
            _ => Err(mismatch()),
        }
    }

    async fn restore(
        &self,
        request: Request<v1::RestoreRequest>,
    ) -> Result<Response<v1::RestoreResponse>, Status> {
        let caller = caller(&request)?;
        match self.write(&caller, Write::Restore(request.into_inner())).await? {
            Written::Restore(response) => Ok(Response::new(response)),
            _ => Err(mismatch()),
        }
    }

    async fn pause(
        &self,
        request: Request<v1::PauseRequest>,
    ) -> Result<Response<v1::PauseResponse>, Status> {
        let caller = caller(&request)?;
        match self.write(&caller, Write::Pause(request.into_inner())).await? {
            Written::Pause(response) => Ok(Response::new(response)),
            _ => Err(mismatch()),
        }
    }

    async fn resume(
        &self,
        request: Request<v1::ResumeRequest>,
    ) -> Result<Response<v1::ResumeResponse>, Status> {
        let caller = caller(&request)?;
        match self.write(&caller, Write::Resume(request.into_inner())).await? {
            Written::Resume(response) => Ok(Response::new(response)),
            _ => Err(mismatch()),
        }
    }

    async fn override_weight(
        &self,
        request: Request<v1::OverrideWeightRequest>,
    ) -> Result<Response<v1::OverrideWeightResponse>, Status> {
        let caller = caller(&request)?;
        match self.write(&caller, Write::OverrideWeight(request.into_inner())).await? {
            Written::OverrideWeight(response) => Ok(Response::new(response)),
            _ => Err(mismatch()),
        }
    }

    type EventsStream = EventStream;

    async fn events(
        &self,
        request: Request<v1::EventsRequest>,
    ) -> Result<Response<EventStream>, Status> {
        let member = self.member()?;
        let node = self.node.config().name.as_str();
        Ok(Response::new(events::stream(&member.journal, node, request.get_ref())?))
    }

    async fn remove_node(
        &self,
        request: Request<v1::RemoveNodeRequest>,
    ) -> Result<Response<v1::RemoveNodeResponse>, Status> {
        let caller = caller(&request)?;
        match self.write(&caller, Write::RemoveNode(request.into_inner())).await? {
            Written::RemoveNode(response) => Ok(Response::new(response)),
            _ => Err(mismatch()),
        }
    }

    async fn create_client(
        &self,
        request: Request<v1::CreateClientRequest>,
    ) -> Result<Response<v1::CreateClientResponse>, Status> {
        let caller = caller(&request)?;
        match self.write(&caller, Write::CreateClient(request.into_inner())).await? {
            Written::CreateClient(response) => Ok(Response::new(response)),
            _ => Err(mismatch()),
        }
    }
}

/// What another node says of itself; `None` if it does not answer in time.
async fn ask(member: &Member, node: NodeId, brief: bool) -> Option<(NodeId, ObserveResponse)> {
    Some((node, member.ask(node, brief).await.ok()?))
}

#[cfg(test)]
mod tests {
    use quorate_api::failure;

    use super::*;

    #[test]
    fn a_write_that_may_have_reached_a_lost_leader_has_an_unknown_outcome() {
        let lost = no_leader(true, "connection reset", Some("lb2".to_owned()));
        assert!(is(Kind::UnknownOutcome, &lost));
        assert_eq!(failure::detail(&lost).unwrap().leader.as_deref(), Some("lb2"));
        assert!(is(Kind::NoQuorum, &no_leader(false, "connection refused", None)));
    }
}
