//! One node of the Raft group, running: store, state machine, transport, and the tasks around them.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use openraft::async_runtime::watch::WatchReceiver as _;
use quorate_model::command::Command;
use quorate_model::id::NodeId;
use quorate_model::state::ClusterState;
use quorate_model::time::Timing;
use tokio::net::TcpListener;
use tokio::runtime::Handle;
use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;
use tokio_stream::wrappers::ReceiverStream;
use tonic::service::interceptor::InterceptedService;

use super::config::{Timers, config};
use super::handle::{ProposeError, RaftHandle};
use super::machine::StateMachine;
use super::status::{RaftStatus, translate};
use super::store::log::LogStore;
use super::store::space::Space;
use super::store::{Fatal, FatalSender, Store};
use super::types::{Member, Raft};
use super::{leadership, membership, overrides, rollback};
use crate::identity::authority;
use crate::identity::{AuthorityError, Identity};
use crate::peer::admission::AdmissionService;
use crate::peer::channel::{Channels, Purpose};
use crate::peer::datagrams::{Around, DatagramTransport, LinkKnowledge, LinkSocket};
use crate::peer::directory::PeerDirectory;
use crate::peer::dropped::Dropped;
use crate::peer::listener;
use crate::peer::network::{MESSAGE_BYTES_MAX, Network};
use crate::peer::server::{self, Delivery, PeerHandler, PeerService};
use crate::peer::tls;
use quorate_api::peer::v1 as peer;
use quorate_api::v1;

/// Connections whose handshake is done and that wait for the server.
const ACCEPTED_QUEUE: usize = 16;
/// What a joiner says of itself is small.
const ADMISSION_BYTES_MAX: usize = 64 * 1024;
/// How often a node looks how full its disk is; before anything is written it looks besides.
const SPACE_LOOK_EVERY: Duration = Duration::from_millis(500);
/// How long requests under way may take when the node stops.
const STOP_LIMIT: Duration = Duration::from_millis(500);

/// Why Raft can't start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The log can't be read.
    #[error("the log can't be read: {0}")]
    Log(#[from] io::Error),
    /// The key or certificate in the identity is damaged.
    #[error("the identity's key or certificate can't be used: {0}")]
    Tls(#[from] rustls::Error),
    /// Datagrams can't be sent or received.
    #[error("datagrams can't be exchanged on the links: {0}")]
    Datagrams(io::Error),
    /// The system gives no random bytes.
    #[error(transparent)]
    Random(#[from] AuthorityError),
    /// openraft refuses the settings.
    #[error("Raft's settings contradict each other: {0}")]
    Settings(#[from] openraft::ConfigError),
    /// openraft can't start from what is on disk.
    #[error("Raft can't start from what is on disk: {0}")]
    Raft(String),
}

/// What the rest of the daemon gives to Raft.
pub struct Surroundings {
    /// The listeners of all links.
    pub listeners: Vec<TcpListener>,
    /// The sockets of all links, for datagrams.
    pub sockets: Vec<LinkSocket>,
    /// What sends, receives and keeps the connections of datagrams; nothing of theirs waits for
    /// another runtime.
    pub datagrams: Handle,
    /// Answers what other nodes ask.
    pub handler: Arc<dyn PeerHandler>,
    /// Takes renewals and reports of other nodes.
    pub deliveries: mpsc::Sender<Delivery>,
    /// True while a group is changing its owner: the voters stay as they are then.
    pub takeover: watch::Receiver<bool>,
    /// Entries between two snapshots.
    pub snapshot_every: u64,
}

impl std::fmt::Debug for Surroundings {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Surroundings").field("listeners", &self.listeners).finish_non_exhaustive()
    }
}

/// One node of the Raft group.
#[derive(Debug)]
pub struct RaftNode {
    handle: RaftHandle,
    store: Store,
    channels: Channels,
    transport: Arc<DatagramTransport>,
    stop: watch::Sender<bool>,
    server: JoinSet<()>,
    tasks: JoinSet<()>,
}

impl RaftNode {
    /// Starts from what the store has; a cluster whose founding was cut off is founded now.
    ///
    /// # Errors
    ///
    /// If the store, the identity or the settings don't allow it.
    pub async fn start(
        store: Store,
        identity: Identity,
        surroundings: Surroundings,
    ) -> Result<Self, StartError> {
        let timing = store.timing().unwrap_or(identity.timing);
        let timers = Timers::of(timing);
        let settings = config(&identity.cluster_name, timers, surroundings.snapshot_every)?;
        let tls_server = tls::server(&identity)?;
        let identity = Arc::new(identity);
        let me = identity.node_id;
        let (machine, state) = StateMachine::new(&store);
        let reader = machine.reader();
        let (status_sender, status) = watch::channel(Arc::<RaftStatus>::default());
        let directory = PeerDirectory::new(Arc::clone(&identity), state.clone(), status.clone());
        let tls_client = tls::client(&identity, directory.clone())?;
        let around = Around {
            directory: directory.clone(),
            state: state.clone(),
            raft: status.clone(),
            deliveries: surroundings.deliveries.clone(),
            sockets: surroundings.sockets,
            runtime: surroundings.datagrams,
        };
        let pair = (&*tls_server, &*tls_client);
        let transport = DatagramTransport::start(around, &identity, pair, authority::random()?)
            .map_err(StartError::Datagrams)?;
        let channels = Channels::new(directory.clone(), tls_client, Some(transport.links()));
        let log = LogStore::new(store.clone())?;
        let network = Network { channels: channels.clone(), store: store.clone() };
        let raft = Raft::build(me.0, Arc::new(settings), network, log, machine)
            .await
            .map_err(|error| StartError::Raft(error.to_string()))?;
        let limit = Duration::from_millis(timers.election_max * 8).max(Duration::from_secs(3));
        let handle = RaftHandle {
            reader,
            raft: raft.clone(),
            state: state.clone(),
            status,
            space: store.space(),
            limit,
            quorum_limit: Duration::from_millis(timers.election_max * 2),
        };
        let (stop, stopping) = watch::channel(false);
        let service = PeerService {
            raft: raft.clone(),
            space: store.space(),
            directory,
            handler: surroundings.handler,
            deliveries: surroundings.deliveries,
        };
        let mut server = JoinSet::new();
        let admission = AdmissionService::new(handle.clone());
        serve(&mut server, surroundings.listeners, tls_server, service, admission, stopping);
        let mut tasks = JoinSet::new();
        tasks.spawn(publish_status(raft.clone(), status_sender, store.fatal_sender()));
        tasks.spawn(keep_timing(store.clone(), state.clone()));
        tasks.spawn(watch_space(raft.clone(), store.space()));
        let heard_within = Duration::from_millis(timers.heartbeat * 3);
        let takeover = surroundings.takeover;
        tasks.spawn(leadership::run(handle.clone(), me, heard_within, takeover.clone()));
        tasks.spawn(membership::run(handle.clone(), me, takeover));
        tasks.spawn(overrides::run(handle.clone()));
        tasks.spawn(rollback::run(handle.clone()));
        raft.run();
        let transport = Arc::new(transport);
        let mut node = Self { handle, store, channels, transport, stop, server, tasks };
        node.found().await?;
        Ok(node)
    }

    /// Founds the cluster, if that is still to be done.
    async fn found(&mut self) -> Result<(), StartError> {
        let founding =
            self.store.founding().map_err(|error| StartError::Raft(error.to_string()))?;
        let Some(Command::Found { node, .. }) = &founding else { return Ok(()) };
        let stopped = |error: String| StartError::Raft(error);
        let raft = &self.handle.raft;
        if !raft.is_initialized().await.map_err(|error| stopped(error.to_string()))? {
            let me = *raft.node_id();
            let members = std::collections::BTreeMap::from([(me, Member::from(node.clone()))]);
            raft.initialize(members).await.map_err(|error| stopped(error.to_string()))?;
        }
        let (handle, store) = (self.handle.clone(), self.store.clone());
        self.tasks.spawn(async move {
            if let Some(founding) = founding {
                propose_founding(handle, store, founding).await;
            }
        });
        Ok(())
    }

    /// The way to Raft for the rest of the daemon.
    #[must_use]
    pub fn handle(&self) -> RaftHandle {
        self.handle.clone()
    }

    /// What carries renewals and reports.
    #[must_use]
    pub fn transport(&self) -> Arc<DatagramTransport> {
        Arc::clone(&self.transport)
    }

    /// What is known of the links to other nodes.
    #[must_use]
    pub fn links(&self) -> LinkKnowledge {
        self.transport.links()
    }

    /// Who the peers are.
    #[must_use]
    pub fn directory(&self) -> PeerDirectory {
        self.channels.directory().clone()
    }

    /// Whether Raft's heartbeats to a node are answered over each of its links.
    #[cfg(test)]
    pub(crate) fn heartbeats_answered(&self, node: NodeId) -> bool {
        self.channels.lanes(node, Purpose::Heartbeat).iter().all(|lane| lane.answers())
    }

    /// Raft's ways to other nodes.
    #[cfg(test)]
    pub(crate) fn network(&self) -> Network {
        Network { channels: self.channels.clone(), store: self.store.clone() }
    }

    /// Questions to other nodes.
    #[must_use]
    pub fn calls(&self) -> PeerCalls {
        PeerCalls(self.channels.clone())
    }

    /// The store, for promises.
    #[must_use]
    pub fn store(&self) -> Store {
        self.store.clone()
    }

    /// Whoever must end the process after a fatal error waits here.
    #[must_use]
    pub fn fatal(&self) -> watch::Receiver<Option<Fatal>> {
        self.store.fatal()
    }

    /// Stops: what is under way is finished or refused, and the store is closed when the last
    /// clone of it is gone.
    pub async fn stop(mut self) {
        self.stop.send_replace(true);
        self.transport.stop().await;
        let served = tokio::time::timeout(STOP_LIMIT, async {
            while self.server.join_next().await.is_some() {}
        });
        if served.await.is_err() {
            self.server.shutdown().await;
        }
        if let Err(error) = self.handle.raft.shutdown().await {
            tracing::warn!("Raft did not stop in order: {error}");
        }
        self.tasks.shutdown().await;
    }
}

/// Questions to other nodes. Cheap to clone.
#[derive(Debug, Clone)]
pub struct PeerCalls(Channels);

impl PeerCalls {
    /// Asks a node what it knows of itself; in brief without services.
    ///
    /// # Errors
    ///
    /// If it does not answer in time, or refuses.
    pub async fn observe(
        &self,
        node: NodeId,
        brief: bool,
        limit: Duration,
    ) -> Result<peer::ObserveResponse, tonic::Status> {
        let route = Some(crate::peer::network::route(&self.0, node));
        self.call(node, limit, |mut client| async move {
            client.observe(peer::ObserveRequest { route, brief }).await
        })
        .await
    }

    /// Asks a node for some connections of a service.
    ///
    /// # Errors
    ///
    /// If it does not answer in time, or refuses.
    pub async fn connections(
        &self,
        node: NodeId,
        request: v1::ConnectionsRequest,
        limit: Duration,
    ) -> Result<v1::ConnectionsResponse, tonic::Status> {
        let route = Some(crate::peer::network::route(&self.0, node));
        let request = peer::ConnectionsOfRequest { route, request: Some(request) };
        self.call(node, limit, |mut client| async move { client.connections(request).await }).await
    }

    /// Forwards a write to the leader.
    ///
    /// # Errors
    ///
    /// If it does not answer in time (`DEADLINE_EXCEEDED`: the outcome is unknown), or refuses.
    pub async fn forward(
        &self,
        node: NodeId,
        caller: String,
        request: peer::forward_request::Request,
        limit: Duration,
    ) -> Result<peer::ForwardResponse, tonic::Status> {
        let route = Some(crate::peer::network::route(&self.0, node));
        let request = peer::ForwardRequest { route, caller, request: Some(request) };
        self.call(node, limit, |mut client| async move { client.forward(request).await }).await
    }

    async fn call<T, F>(
        &self,
        node: NodeId,
        limit: Duration,
        request: impl FnOnce(peer::peer_client::PeerClient<tonic::transport::Channel>) -> F,
    ) -> Result<T, tonic::Status>
    where
        T: Send + 'static,
        F: Future<Output = Result<tonic::Response<T>, tonic::Status>> + Send + 'static,
    {
        let lane = self.0.lane(node, Purpose::Calls);
        let answer = request(crate::peer::network::client(&lane));
        match crate::peer::network::ask(&self.0, lane, limit, answer).await {
            Some(answer) => answer.map(tonic::Response::into_inner),
            None => Err(tonic::Status::deadline_exceeded(format!("no answer from node {node}"))),
        }
    }
}

fn serve(
    tasks: &mut JoinSet<()>,
    listeners: Vec<TcpListener>,
    config: Arc<rustls::ServerConfig>,
    service: PeerService,
    admission: AdmissionService,
    mut stopping: watch::Receiver<bool>,
) {
    let (accepted, connections) = mpsc::channel(ACCEPTED_QUEUE);
    let directory = service.directory.clone();
    for listener in listeners {
        tasks.spawn(listener::accept(listener, Arc::clone(&config), accepted.clone()));
    }
    let peers = peer::peer_server::PeerServer::new(service)
        .max_decoding_message_size(MESSAGE_BYTES_MAX)
        .max_encoding_message_size(MESSAGE_BYTES_MAX);
    let dropped = Dropped::default();
    let peers = InterceptedService::new(peers, move |request: tonic::Request<()>| {
        server::guard(&directory, &dropped, request)
    });
    let admission = peer::admission_server::AdmissionServer::new(admission)
        .max_decoding_message_size(ADMISSION_BYTES_MAX);
    let server = tonic::transport::Server::builder().add_service(peers).add_service(admission);
    tasks.spawn(async move {
        let stopped = async move {
            let _ = stopping.wait_for(|&stopping| stopping).await;
        };
        let connections = ReceiverStream::new(connections);
        if let Err(error) = server.serve_with_incoming_shutdown(connections, stopped).await {
            tracing::warn!("the server for peers ended: {error}");
        }
    });
}

async fn publish_status(raft: Raft, status: watch::Sender<Arc<RaftStatus>>, fatal: FatalSender) {
    let mut metrics = raft.metrics();
    drop(raft);
    loop {
        let current = metrics.borrow_watched().clone();
        status.send_if_modified(|published| {
            let translated = translate(&current, published);
            let changed = **published != translated;
            if changed {
                *published = Arc::new(translated);
            }
            changed
        });
        match &current.running_state {
            Ok(()) => {}
            Err(openraft::errors::Fatal::Stopped) => return,
            Err(error) => return fatal.tell(&format!("Raft has stopped: {error}")),
        }
        if metrics.changed().await.is_err() {
            return;
        }
    }
}

async fn keep_timing(store: Store, mut state: watch::Receiver<Arc<ClusterState>>) {
    let mut kept: Option<Timing> = store.timing();
    loop {
        let timing = {
            let state = state.borrow_and_update();
            (state.cluster_id != 0).then_some(state.timing)
        };
        if let Some(timing) = timing
            && kept != Some(timing)
        {
            if let Err(error) = store.keep_timing(timing) {
                tracing::warn!("the timing can't be kept: {error}");
            }
            kept = Some(timing);
        }
        if state.changed().await.is_err() {
            return;
        }
    }
}

/// A node whose disk counts as full does not lead: as leader it falls silent, so that the others elect
/// another one, and it stands for no election.
async fn watch_space(raft: Raft, space: Space) {
    let mut may_lead = true;
    loop {
        let looking = space.clone();
        // A file system may take its time to answer.
        if tokio::task::spawn_blocking(move || looking.tend()).await.is_err() {
            return;
        }
        let room = space.look().is_ok();
        if room != may_lead {
            may_lead = room;
            raft.runtime_config().elect(may_lead);
            raft.runtime_config().heartbeat(may_lead);
        }
        tokio::time::sleep(SPACE_LOOK_EVERY).await;
    }
}

async fn propose_founding(handle: RaftHandle, store: Store, founding: Command) {
    let mut status = handle.status();
    loop {
        if handle.state.borrow().cluster_id != 0 {
            if let Err(error) = store.founded() {
                tracing::warn!("{error}");
            }
            return;
        }
        match handle.propose(founding.clone()).await {
            Ok(_) | Err(ProposeError::Unknown(_)) => {}
            Err(ProposeError::Stopped(_)) => return,
            Err(ProposeError::DiskFull(_)) => tokio::time::sleep(SPACE_LOOK_EVERY).await,
            Err(ProposeError::NotLeader { .. } | ProposeError::NoQuorum) => {
                if status.changed().await.is_err() {
                    return;
                }
            }
        }
    }
}
