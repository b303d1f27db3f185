//! Answering the other nodes.

use std::sync::Arc;

use openraft::raft::SnapshotResponse;
use quorate_api::convert::{DecodeError, cluster_id};
use quorate_api::peer::v1 as peer;
use quorate_api::v1;
use quorate_model::id::NodeId;
use tokio::sync::mpsc;
use tonic::{Request, Response, Status, Streaming};

use super::directory::{PeerDirectory, Refusal};
use super::dropped::Dropped;
use super::listener::Caller;
use super::network::MESSAGE_BYTES_MAX;
use crate::raft::store::snapshots;
use crate::raft::store::space::{LowSpace, Space};
use crate::raft::types::{Raft, Snapshot};
use crate::raft::wire;

/// What the rest of the daemon answers to other nodes.
#[tonic::async_trait]
pub trait PeerHandler: Send + Sync + 'static {
    /// What this node knows of itself that others show in `status`; in brief without services.
    async fn observe(&self, brief: bool) -> peer::ObserveResponse;

    /// Some connections of a service, as this node's kernel knows them.
    async fn connections(
        &self,
        request: v1::ConnectionsRequest,
    ) -> Result<v1::ConnectionsResponse, Status>;

    /// A write that another node forwards to this one, which it takes for the leader.
    async fn forward(
        &self,
        from: NodeId,
        caller: String,
        request: peer::forward_request::Request,
    ) -> Result<peer::forward_response::Response, Status>;
}

/// A renewal, its answer, a release or a report of another node.
#[derive(Debug, Clone, PartialEq)]
pub struct Delivery {
    /// Who sent it.
    pub from: NodeId,
    /// What.
    pub message: peer::datagram::Message,
}

/// The service `Peer`.
pub(crate) struct PeerService {
    pub(crate) raft: Raft,
    /// Where what is received would have to be written.
    pub(crate) space: Space,
    pub(crate) directory: PeerDirectory,
    pub(crate) handler: Arc<dyn PeerHandler>,
    /// For what a dead daemon's node says in its name. Full: it is refused.
    pub(crate) deliveries: mpsc::Sender<Delivery>,
}

/// The refusal as the sender reads it.
impl From<Refusal> for Status {
    fn from(refusal: Refusal) -> Self {
        match refusal {
            Refusal::Stranger(_) => Self::permission_denied(refusal.to_string()),
            Refusal::Cluster(_) | Refusal::Node { .. } => {
                Self::failed_precondition(refusal.to_string())
            }
        }
    }
}

fn garbled(error: &DecodeError) -> Status {
    Status::invalid_argument(error.to_string())
}

/// Who is at the other end.
pub(crate) fn caller<T>(request: &Request<T>) -> Option<Caller> {
    request.extensions().get::<Caller>().copied()
}

fn failed(error: &dyn std::error::Error) -> Status {
    Status::unavailable(error.to_string())
}

impl From<LowSpace> for Status {
    fn from(low: LowSpace) -> Self {
        Self::resource_exhausted(low.to_string())
    }
}

/// Refuses strangers before what they send is read.
pub(crate) fn guard<T>(
    directory: &PeerDirectory,
    dropped: &Dropped,
    request: Request<T>,
) -> Result<Request<T>, Status> {
    match caller(&request).and_then(|caller| caller.key) {
        Some(key) if directory.is_member(&key) => Ok(request),
        Some(key) if directory.was_dropped(&key) => Err(dropped.refuse(directory, key)),
        _ => Err(Status::permission_denied("no member of this cluster has this key")),
    }
}

impl PeerService {
    fn authorise(
        &self,
        caller: Option<Caller>,
        route: Option<&peer::Route>,
    ) -> Result<NodeId, Status> {
        let route = route.ok_or_else(|| Status::invalid_argument("route is missing"))?;
        let from = NodeId(route.from);
        let cluster = cluster_id(&route.cluster_id).map_err(|e| garbled(&e))?;
        let key = caller.and_then(|caller| caller.key);
        self.directory.authorise(cluster, NodeId(route.to), from, key)?;
        Ok(from)
    }

    async fn receive_snapshot(
        &self,
        caller: Option<Caller>,
        mut parts: Streaming<peer::SnapshotPart>,
    ) -> Result<peer::SnapshotResponse, Status> {
        let missing = || Status::invalid_argument("the snapshot has no beginning");
        let first = parts.message().await?.ok_or_else(missing)?;
        self.authorise(caller, first.route.as_ref())?;
        self.space.look()?;
        let vote = wire::read_vote(first.vote.as_ref()).map_err(|e| garbled(&e))?;
        let header = first.header.ok_or_else(missing)?;
        let mut data = first.data;
        while let Some(part) = parts.message().await? {
            data.extend(part.data);
            if data.len() > MESSAGE_BYTES_MAX {
                return Err(Status::resource_exhausted("the snapshot is too large"));
            }
        }
        let meta = snapshots::check(header, &data)
            .map_err(|error| Status::invalid_argument(error.to_string()))?;
        let snapshot = Snapshot { meta, snapshot: data };
        let response = self.raft.install_full_snapshot(vote, snapshot).await;
        let SnapshotResponse { vote, .. } = response.map_err(|e| failed(&e))?;
        Ok(peer::SnapshotResponse { vote: Some(wire::vote(&vote)) })
    }
}

#[tonic::async_trait]
impl peer::peer_server::Peer for PeerService {
    async fn append_entries(
        &self,
        request: Request<peer::AppendEntriesRequest>,
    ) -> Result<Response<peer::AppendEntriesResponse>, Status> {
        self.authorise(caller(&request), request.get_ref().route.as_ref())?;
        let request = wire::read_append_request(request.into_inner()).map_err(|e| garbled(&e))?;
        // Heartbeats go on, and votes: they are small, and the database has space in reserve.
        if !request.entries.is_empty() {
            self.space.look()?;
        }
        let response = self.raft.append_entries(request).await.map_err(|e| failed(&e))?;
        Ok(Response::new(wire::append_response(&response)))
    }

    async fn vote(
        &self,
        request: Request<peer::VoteRequest>,
    ) -> Result<Response<peer::VoteResponse>, Status> {
        self.authorise(caller(&request), request.get_ref().route.as_ref())?;
        let request = wire::read_vote_request(request.get_ref()).map_err(|e| garbled(&e))?;
        let response = self.raft.vote(request).await.map_err(|e| failed(&e))?;
        Ok(Response::new(wire::vote_response(&response)))
    }

    async fn pre_vote(
        &self,
        request: Request<peer::VoteRequest>,
    ) -> Result<Response<peer::VoteResponse>, Status> {
        self.authorise(caller(&request), request.get_ref().route.as_ref())?;
        let request = wire::read_vote_request(request.get_ref()).map_err(|e| garbled(&e))?;
        let response = self.raft.pre_vote(request).await.map_err(|e| failed(&e))?;
        Ok(Response::new(wire::vote_response(&response)))
    }

    async fn install_snapshot(
        &self,
        request: Request<Streaming<peer::SnapshotPart>>,
    ) -> Result<Response<peer::SnapshotResponse>, Status> {
        let caller = caller(&request);
        self.receive_snapshot(caller, request.into_inner()).await.map(Response::new)
    }

    async fn transfer_leader(
        &self,
        request: Request<peer::TransferLeaderRequest>,
    ) -> Result<Response<peer::TransferLeaderResponse>, Status> {
        self.authorise(caller(&request), request.get_ref().route.as_ref())?;
        self.space.look()?;
        let request = wire::read_transfer_request(request.get_ref()).map_err(|e| garbled(&e))?;
        let taken = self.raft.handle_transfer_leader(request).await.map_err(|e| failed(&e))?;
        taken.map_err(|error| Status::aborted(error.to_string()))?;
        Ok(Response::new(peer::TransferLeaderResponse {}))
    }

    async fn release(
        &self,
        request: Request<peer::ReleaseRequest>,
    ) -> Result<Response<peer::ReleaseResponse>, Status> {
        let from = self.authorise(caller(&request), request.get_ref().route.as_ref())?;
        let request = request.into_inner();
        // The promises first: who is granted the group then finds it free.
        let released = request.released.map(peer::datagram::Message::Released);
        let report = request.report.map(peer::datagram::Message::Report);
        for message in released.into_iter().chain(report) {
            let full = |_| Status::unavailable("this node does not keep up");
            self.deliveries.try_send(Delivery { from, message }).map_err(full)?;
        }
        Ok(Response::new(peer::ReleaseResponse {}))
    }

    async fn observe(
        &self,
        request: Request<peer::ObserveRequest>,
    ) -> Result<Response<peer::ObserveResponse>, Status> {
        self.authorise(caller(&request), request.get_ref().route.as_ref())?;
        Ok(Response::new(self.handler.observe(request.get_ref().brief).await))
    }

    async fn connections(
        &self,
        request: Request<peer::ConnectionsOfRequest>,
    ) -> Result<Response<v1::ConnectionsResponse>, Status> {
        self.authorise(caller(&request), request.get_ref().route.as_ref())?;
        let request = request.into_inner().request.unwrap_or_default();
        Ok(Response::new(self.handler.connections(request).await?))
    }

    async fn forward(
        &self,
        request: Request<peer::ForwardRequest>,
    ) -> Result<Response<peer::ForwardResponse>, Status> {
        let from = self.authorise(caller(&request), request.get_ref().route.as_ref())?;
        let request = request.into_inner();
        let wanted =
            request.request.ok_or_else(|| Status::invalid_argument("request is missing"))?;
        let response = self.handler.forward(from, request.caller, wanted).await?;
        Ok(Response::new(peer::ForwardResponse { response: Some(response) }))
    }
}
