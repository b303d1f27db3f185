//! Raft's requests to the other nodes.
//!
//! Time limits are kept here, openraft's own but for appends: a lost answer would otherwise hold up
//! a follower for good. What is too large for one request is sent in several.

use std::future::Future;
use std::time::Duration;

use futures::stream;
use openraft::errors::{
    NetworkError, RPCError, ReplicationClosed, StreamingError, Timeout, Unreachable,
};
use openraft::network::RPCOption;
use openraft::raft::{
    AppendEntriesRequest, AppendEntriesResponse, SnapshotResponse, TransferLeaderRequest,
    TransferLeaderResponse, VoteRequest, VoteResponse,
};
use openraft::{OptionalSend, RPCTypes, RaftNetworkFactory, RaftNetworkV2};
use prost::Message as _;
use quorate_api::convert::{DecodeError, cluster_id_bytes};
use quorate_api::peer::v1 as peer;
use quorate_api::peer::v1::peer_client::PeerClient;
use quorate_model::id::NodeId;
use tokio::task::JoinSet;
use tokio::time::error::Elapsed;
use tokio::time::{Instant, sleep_until, timeout_at};
use tonic::transport::Channel;
use tonic::{Code, Status};

use super::channel::{Channels, Lane, Purpose, with_causes};
use super::dropped;
use crate::identity::authority::sha256;
use crate::raft::store::Store;
use crate::raft::types::{LogId, Member, Snapshot, SnapshotBytes, TypeConfig, Vote};
use crate::raft::wire;

type RpcError = RPCError<TypeConfig>;

/// Entries of one request, in bytes; one larger entry goes by itself.
const APPEND_BYTES: usize = 1024 * 1024;
/// The largest message that is taken.
pub(crate) const MESSAGE_BYTES_MAX: usize = 64 * 1024 * 1024;
/// Snapshot data of one message.
const PART_BYTES: usize = 256 * 1024;

/// Makes the ways to the other nodes.
#[derive(Debug, Clone)]
pub(crate) struct Network {
    pub(crate) channels: Channels,
    /// What must not be forgotten of an answer stands there.
    pub(crate) store: Store,
}

/// The way to one other node, for one purpose.
#[derive(Debug)]
pub(crate) struct Way {
    channels: Channels,
    store: Store,
    target: NodeId,
    purpose: Purpose,
}

impl RaftNetworkFactory<TypeConfig> for Network {
    type Network = Way;

    async fn new_client(&mut self, target: u64, _node: &Member) -> Way {
        self.way(target, Purpose::Replication)
    }

    async fn new_heartbeat_client(&mut self, target: u64, _node: &Member) -> Way {
        self.way(target, Purpose::Heartbeat)
    }

    async fn new_snapshot_client(&mut self, target: u64, _node: &Member) -> Way {
        self.way(target, Purpose::Snapshot)
    }
}

impl Network {
    fn way(&self, target: u64, purpose: Purpose) -> Way {
        let (channels, store) = (self.channels.clone(), self.store.clone());
        Way { channels, store, target: NodeId(target), purpose }
    }
}

/// The header of a request to a node.
pub(crate) fn route(channels: &Channels, to: NodeId) -> peer::Route {
    let directory = channels.directory();
    peer::Route {
        cluster_id: cluster_id_bytes(directory.cluster_id()),
        to: to.0,
        from: directory.me().0,
    }
}

pub(crate) fn client(lane: &Lane) -> PeerClient<Channel> {
    PeerClient::new(lane.channel.clone())
        .max_decoding_message_size(MESSAGE_BYTES_MAX)
        .max_encoding_message_size(MESSAGE_BYTES_MAX)
}

/// How a request uses the links.
#[derive(Debug, Clone, Copy)]
enum Over {
    /// All at once: the first answer counts.
    All,
    /// The best one; the next where no answer has come after this time, or at once where it fails.
    Best(Duration),
    /// One connection, over whichever link it stands.
    One,
}

/// What came of a request over one link.
type Outcome<T> = (Lane, Result<Result<tonic::Response<T>, Status>, Elapsed>);

/// An append includes that the follower writes it to its disk. Raft's own limit for it is the interval
/// of the heartbeats, which go by themselves.
const APPEND_HEARTBEATS: u32 = 3;

/// A larger request is taken back when its caller does not wait any more: the next try would send it
/// besides.
const LARGE_BYTES: usize = 64 * 1024;

impl Way {
    /// Asks, perhaps over several links: every request of Raft may arrive twice. What comes too late
    /// for the caller still tells that the link answers.
    async fn call<T, F>(
        &self,
        action: RPCTypes,
        limit: Duration,
        (over, bytes): (Over, usize),
        request: impl Fn(PeerClient<Channel>) -> F,
    ) -> Result<T, RpcError>
    where
        T: Send + 'static,
        F: Future<Output = Result<tonic::Response<T>, Status>> + Send + 'static,
    {
        let lanes = match over {
            Over::All | Over::Best(_) => self.channels.lanes(self.target, self.purpose),
            Over::One => vec![self.channels.lane(self.target, self.purpose)],
        };
        if lanes.is_empty() {
            let text = format!("no link of node {} is known", self.target);
            return Err(Unreachable::from_string(text).into());
        }
        let apart = if let Over::Best(apart) = over { apart } else { Duration::ZERO };
        let end = Instant::now() + limit;
        let large = bytes > LARGE_BYTES;
        let mut lanes = lanes.into_iter();
        let mut attempts: JoinSet<Outcome<T>> = JoinSet::new();
        let mut failure = None;
        let mut next = Instant::now();
        loop {
            let outcome = tokio::select! {
                // An answer that is there counts, even if this task comes late to it.
                biased;
                Some(outcome) = attempts.join_next(), if !attempts.is_empty() => outcome,
                () = sleep_until(end), if !attempts.is_empty() || lanes.len() > 0 => {
                    attempts.detach_all();
                    break;
                }
                () = sleep_until(next), if lanes.len() > 0 => {
                    if let Some(lane) = lanes.next() {
                        let asking = Asking { end, large, answer: request(client(&lane)) };
                        attempts.spawn(account(self.channels.clone(), lane, asking));
                    }
                    next += apart;
                    continue;
                }
                else => break,
            };
            // It can't be joined only where the runtime ends.
            let Ok((lane, outcome)) = outcome else { continue };
            match outcome {
                Ok(Ok(response)) => {
                    // The others go on, so that it is known which links answer.
                    attempts.detach_all();
                    return Ok(response.into_inner());
                }
                Ok(Err(status)) if is_answer(&status) => return Err(self.failed(&lane, &status)),
                Ok(Err(status)) => {
                    failure = Some(self.failed(&lane, &status));
                    next = Instant::now();
                }
                Err(_) => {}
            }
        }
        let (id, target) = (self.channels.directory().me().0, self.target.0);
        Err(failure.unwrap_or_else(|| Timeout { action, id, target, timeout: limit }.into()))
    }

    fn failed(&self, lane: &Lane, status: &Status) -> RpcError {
        let text = with_causes(status);
        match status.code() {
            Code::PermissionDenied | Code::FailedPrecondition => {
                if let Some(told) = dropped::told(self.target, status) {
                    self.store.abandon(&told);
                }
                if lane.refused() {
                    tracing::warn!("node {} refuses this node: {}", self.target, status.message());
                }
                Unreachable::from_string(text).into()
            }
            Code::Internal | Code::InvalidArgument => NetworkError::from_string(text).into(),
            _ => {
                tracing::debug!("node {}: {text}", self.target);
                Unreachable::from_string(text).into()
            }
        }
    }

    fn route(&self) -> peer::Route {
        route(&self.channels, self.target)
    }
}

/// Whether the other side said it, which it says on every link alike.
fn is_answer(status: &Status) -> bool {
    matches!(
        status.code(),
        Code::PermissionDenied
            | Code::FailedPrecondition
            | Code::Internal
            | Code::InvalidArgument
            | Code::ResourceExhausted
    )
}

/// A request under way.
struct Asking<F> {
    /// When its caller waits no longer.
    end: Instant,
    large: bool,
    answer: F,
}

/// Waits for an answer, and notes whether this link gives any: longer than the caller does.
async fn account<T>(
    channels: Channels,
    lane: Lane,
    asking: Asking<impl Future<Output = Result<tonic::Response<T>, Status>>>,
) -> Outcome<T> {
    let Asking { end, large, answer } = asking;
    let asked = lane.asked();
    let patience = end + lane.patience();
    let mut answer = Box::pin(answer);
    let mut outcome = timeout_at(end, &mut answer).await;
    if outcome.is_err() {
        lane.late();
        if large {
            drop(answer);
            sleep_until(patience).await;
        } else {
            outcome = timeout_at(patience, answer).await;
        }
    }
    match &outcome {
        Ok(Ok(_)) => channels.answered(&lane, asked),
        Ok(Err(status)) if is_answer(status) => channels.answered(&lane, asked),
        Ok(Err(_)) => {}
        Err(_) => channels.silent(&lane, asked),
    }
    (lane, outcome)
}

/// Asks over one connection and waits so long; what comes later still tells that the link answers.
pub(crate) async fn ask<T: Send + 'static>(
    channels: &Channels,
    lane: Lane,
    limit: Duration,
    answer: impl Future<Output = Result<tonic::Response<T>, Status>> + Send + 'static,
) -> Option<Result<tonic::Response<T>, Status>> {
    let end = Instant::now() + limit;
    let asking = Asking { end, large: false, answer };
    let asking = tokio::spawn(account(channels.clone(), lane, asking));
    match timeout_at(end, asking).await {
        Ok(Ok((_, outcome))) => outcome.ok(),
        Ok(Err(_)) | Err(_) => None,
    }
}

fn garbled(error: &DecodeError) -> RpcError {
    NetworkError::new(error).into()
}

/// As many entries as fit into one request, and the last of them if not all did.
fn fitting(request: &AppendEntriesRequest<TypeConfig>) -> (Vec<peer::Entry>, Option<LogId>) {
    let mut entries = Vec::new();
    let mut bytes = 0;
    let mut last = None;
    for entry in &request.entries {
        let message = wire::entry(entry);
        bytes += message.encoded_len();
        if bytes > APPEND_BYTES && last.is_some() {
            return (entries, last);
        }
        entries.push(message);
        last = Some(entry.log_id);
    }
    (entries, None)
}

impl RaftNetworkV2<TypeConfig> for Way {
    type SnapshotData = SnapshotBytes;

    async fn append_entries(
        &mut self,
        request: AppendEntriesRequest<TypeConfig>,
        option: RPCOption,
    ) -> Result<AppendEntriesResponse<TypeConfig>, RpcError> {
        let (entries, cut_at) = fitting(&request);
        let message = wire::append_request(self.route(), &request, entries);
        let (over, limit) = match self.purpose {
            Purpose::Heartbeat => (Over::All, option.soft_ttl()),
            _ => (Over::Best(option.soft_ttl() / 3), option.hard_ttl() * APPEND_HEARTBEATS),
        };
        let response = self
            .call(RPCTypes::AppendEntries, limit, (over, message.encoded_len()), |mut client| {
                let message = message.clone();
                async move { client.append_entries(message).await }
            })
            .await?;
        let response = wire::read_append_response(&response).map_err(|e| garbled(&e))?;
        Ok(match (response, cut_at) {
            (AppendEntriesResponse::Success, Some(last)) => {
                AppendEntriesResponse::PartialSuccess(Some(last))
            }
            (response, _) => response,
        })
    }

    async fn vote(
        &mut self,
        request: VoteRequest<TypeConfig>,
        option: RPCOption,
    ) -> Result<VoteResponse<TypeConfig>, RpcError> {
        let message = wire::vote_request(self.route(), &request);
        let response = self
            .call(RPCTypes::Vote, option.soft_ttl(), (Over::All, 0), |mut client| {
                let message = message.clone();
                async move { client.vote(message).await }
            })
            .await?;
        wire::read_vote_response(&response).map_err(|e| garbled(&e))
    }

    async fn pre_vote(
        &mut self,
        request: VoteRequest<TypeConfig>,
        option: RPCOption,
    ) -> Result<VoteResponse<TypeConfig>, RpcError> {
        let message = wire::vote_request(self.route(), &request);
        let response = self
            .call(RPCTypes::Vote, option.soft_ttl(), (Over::All, 0), |mut client| {
                let message = message.clone();
                async move { client.pre_vote(message).await }
            })
            .await?;
        wire::read_vote_response(&response).map_err(|e| garbled(&e))
    }

    async fn full_snapshot(
        &mut self,
        vote: Vote,
        snapshot: Snapshot,
        cancel: impl Future<Output = ReplicationClosed> + OptionalSend + 'static,
        option: RPCOption,
    ) -> Result<SnapshotResponse<TypeConfig>, StreamingError<TypeConfig>> {
        let parts = parts(self.route(), &vote, &snapshot);
        let whole = (Over::One, usize::MAX);
        let sending =
            self.call(RPCTypes::InstallSnapshot, option.hard_ttl(), whole, |mut client| {
                let parts = stream::iter(parts.clone());
                async move { client.install_snapshot(parts).await }
            });
        let response = tokio::select! {
            closed = cancel => return Err(closed.into()),
            response = sending => response?,
        };
        let vote = wire::read_vote(response.vote.as_ref()).map_err(|e| garbled(&e))?;
        Ok(SnapshotResponse::new(vote))
    }

    async fn transfer_leader(
        &mut self,
        request: TransferLeaderRequest<TypeConfig>,
        option: RPCOption,
    ) -> Result<TransferLeaderResponse<TypeConfig>, RpcError> {
        let message = wire::transfer_request(self.route(), &request);
        let limit = option.soft_ttl();
        let sent = self
            .call(RPCTypes::TransferLeader, limit, (Over::Best(limit / 3), 0), |mut client| {
                let message = message.clone();
                async move { client.transfer_leader(message).await }
            })
            .await;
        sent.map(|peer::TransferLeaderResponse {}| Ok(()))
    }
}

fn parts(route: peer::Route, vote: &Vote, snapshot: &Snapshot) -> Vec<peer::SnapshotPart> {
    let data = &snapshot.snapshot;
    let first = peer::SnapshotPart {
        route: Some(route),
        vote: Some(wire::vote(vote)),
        header: Some(wire::snapshot_header(&snapshot.meta, data, sha256(data).0)),
        data: Vec::new(),
    };
    let rest = data
        .chunks(PART_BYTES)
        .map(|chunk| peer::SnapshotPart { data: chunk.to_vec(), ..peer::SnapshotPart::default() });
    std::iter::once(first).chain(rest).collect()
}

#[cfg(test)]
mod tests {
    use openraft::EntryPayload;
    use quorate_model::command::{Command, Configure, RequestId, UnixMillis};
    use quorate_model::spec::Format;

    use super::*;
    use crate::raft::types::{Entry, LeaderId};

    fn request(sizes: &[usize]) -> AppendEntriesRequest<TypeConfig> {
        let leader_id = LeaderId { term: 1, node_id: 1 };
        let entry = |(index, &size): (u64, &usize)| Entry {
            log_id: LogId::new(leader_id, index),
            payload: EntryPayload::Normal(Command::Configure(Configure {
                request: RequestId(0),
                author: String::new(),
                at: UnixMillis(0),
                expected: None,
                source: "x".repeat(size),
                format: Format::Toml,
                message: String::new(),
                confirm_until: None,
            })),
        };
        AppendEntriesRequest {
            vote: Vote { leader_id, committed: true },
            prev_log_id: None,
            entries: (1..).zip(sizes).map(entry).collect(),
            leader_commit: None,
        }
    }

    fn cut(sizes: &[usize]) -> (usize, Option<u64>) {
        let (entries, cut_at) = fitting(&request(sizes));
        (entries.len(), cut_at.map(|id| id.index))
    }

    #[test]
    fn a_request_holds_as_many_entries_as_fit_and_one_at_least() {
        assert_eq!(cut(&[]), (0, None));
        assert_eq!(cut(&[10, 20]), (2, None));
        assert_eq!(cut(&[600_000, 600_000, 10]), (1, Some(1)));
        assert_eq!(cut(&[10, APPEND_BYTES]), (1, Some(1)));
        assert_eq!(cut(&[2 * APPEND_BYTES]), (1, None));
        assert_eq!(cut(&[2 * APPEND_BYTES, 10]), (1, Some(1)));
    }
}
