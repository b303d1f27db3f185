//! The node as a whole: waiting to be told its cluster, then a member of it. Founding, joining and
//! coming back end in the same place, `begin`, which starts every part of a member.

use std::sync::{Arc, PoisonError};
use std::time::Duration;

use quorate_api::peer::v1 as peer;
use quorate_api::v1;
use quorate_dataplane::linux::Linux;
use quorate_dataplane::{Dataplane, SysctlMode};
use quorate_model::command::LinkAddress;
use quorate_model::director::{Director, DirectorConfig, Event};
use quorate_model::id::{DeviceName, Incarnation, NodeId, Role};
use quorate_model::time::Timing;
use tokio::net::TcpListener;
use tokio::sync::{Mutex, mpsc, watch};
use tonic::Status;
use tracing::{info, warn};

use crate::StartError;
use crate::api::error::{Kind, error};
use crate::clock;
use crate::config::{NodeConfig, Sysctl};
use crate::director;
use crate::fifo;
use crate::hooks::Hooks;
use crate::identity::{self, Identity, NodeProfile, authority, file, token::Token};
use crate::journal::{Journal, Teller};
use crate::member::Member;
use crate::memory;
use crate::peer::datagrams::LinkSocket;
use crate::peer::join::join;
use crate::peer::server::PeerHandler;
use crate::peer::tls;
use crate::raft::node::{RaftNode, Surroundings};
use crate::raft::store::Store;
use crate::raft::store::lock::DataDirectory;
use crate::reconcile::{
    AddressThread, MakeDataplane, QuestionThread, ServiceThread, watch_filter, watch_kernel,
};
use crate::release::holding::{self, Holder, Leases};
use crate::renewals::Renewals;

/// How long a joined node may take to become a voter: the leader spaces changes of the voters.
const VOTER_TIMEOUT: Duration = Duration::from_secs(180);
/// How long a founded cluster may take until it has its first leader and entry.
const FOUNDED_TIMEOUT: Duration = Duration::from_secs(30);
/// Renewals and reports that may wait for the director loop; past it they are dropped.
const DELIVERIES_MAX: usize = 1_024;
/// How long a stopping node waits for its hooks.
const HOOKS_TIMEOUT: Duration = Duration::from_secs(3);
/// Entries between two snapshots.
const SNAPSHOT_EVERY: u64 = 1_000;

/// The kernel as the start has left it: fenced, and without VIPs.
pub(crate) struct Kernel(pub(crate) Box<dyn Dataplane>);

impl std::fmt::Debug for Kernel {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Kernel").finish_non_exhaustive()
    }
}

/// A node.
#[derive(Debug)]
pub(crate) struct Node {
    config: NodeConfig,
    member: watch::Sender<Option<Arc<Member>>>,
    /// The data directory's lock until a store takes it; held by who founds or joins.
    directory: Mutex<Option<DataDirectory>>,
    raft: Mutex<Option<RaftNode>>,
    /// Until a member's address thread takes it.
    kernel: std::sync::Mutex<Option<Kernel>>,
    /// Whoever ends the process waits at the other end.
    fatal: mpsc::Sender<String>,
}

impl Node {
    /// A node that belongs to no cluster yet.
    #[must_use]
    pub(crate) fn new(
        config: NodeConfig,
        directory: DataDirectory,
        kernel: Option<Kernel>,
        fatal: mpsc::Sender<String>,
    ) -> Arc<Self> {
        Arc::new(Self {
            config,
            member: watch::Sender::new(None),
            directory: Mutex::new(Some(directory)),
            raft: Mutex::new(None),
            kernel: std::sync::Mutex::new(kernel),
            fatal,
        })
    }

    /// This node's own configuration.
    #[must_use]
    pub(crate) fn config(&self) -> &NodeConfig {
        &self.config
    }

    /// The node as a member, once it is one.
    #[must_use]
    pub(crate) fn member(&self) -> Option<Arc<Member>> {
        self.member.borrow().clone()
    }

    fn profile(&self) -> NodeProfile {
        let links = self.config.links.iter();
        NodeProfile {
            name: self.config.name.clone(),
            role: self.config.role,
            links: links
                .map(|link| LinkAddress { name: link.name.clone(), listen: link.listen })
                .collect(),
        }
    }

    /// Comes back as the member that it was.
    ///
    /// # Errors
    ///
    /// If the store is not the one that belongs to the identity, or a part can't be started.
    pub(crate) async fn resume(self: &Arc<Self>, identity: Identity) -> Result<(), StartError> {
        let Some(directory) = self.directory.lock().await.take() else { return Ok(()) };
        let store = Store::open(directory, &identity)?;
        self.begin(identity, store).await.map(drop)
    }

    /// Makes a new cluster whose first node is this one; returns once it has a leader.
    pub(crate) async fn init(
        self: &Arc<Self>,
        name: &str,
        timing: Timing,
    ) -> Result<Arc<Member>, Status> {
        let mut slot = self.directory.lock().await;
        let directory = self.take_directory(&mut slot)?;
        if name.is_empty() || name.len() > quorate_model::id::NAME_BYTES_MAX {
            *slot = Some(directory);
            return Err(error(Kind::Invalid, "a cluster's name has 1 to 63 bytes: --name NAME"));
        }
        let (identity, founding) = match identity::found(name, timing, &self.profile()) {
            Ok(founded) => founded,
            Err(cause) => {
                *slot = Some(directory);
                return Err(error(Kind::Refused, cause.to_string()));
            }
        };
        let created = Store::create(directory, &identity, Some(&founding));
        let member = self.enter(identity, created).await?;
        let mut state = member.raft.state();
        let founded = state.wait_for(|state| state.cluster_id != 0);
        match tokio::time::timeout(FOUNDED_TIMEOUT, founded).await {
            Ok(Ok(_)) => Ok(member),
            Ok(Err(_)) | Err(_) => {
                Err(error(Kind::UnknownOutcome, "the cluster was founded, and has no leader yet"))
            }
        }
    }

    /// Joins the cluster that made the token; returns once this node is a voter.
    pub(crate) async fn join(self: &Arc<Self>, token: &str) -> Result<Arc<Member>, Status> {
        let mut slot = self.directory.lock().await;
        let directory = self.take_directory(&mut slot)?;
        let admitted = match token.trim().parse::<Token>() {
            Ok(token) => join(&token, &self.profile())
                .await
                .map_err(|cause| error(Kind::Refused, cause.to_string())),
            Err(cause) => Err(error(Kind::Invalid, cause.to_string())),
        };
        let identity = match admitted {
            Ok(identity) => identity,
            Err(status) => {
                *slot = Some(directory);
                return Err(status);
            }
        };
        let created = Store::create(directory, &identity, None);
        let member = self.enter(identity, created).await?;
        let mut raft = member.raft.status();
        let me = member.me;
        let voting = raft.wait_for(|raft| raft.membership.voters().contains(&me));
        match tokio::time::timeout(VOTER_TIMEOUT, voting).await {
            Ok(Ok(_)) => Ok(member),
            Ok(Err(_)) | Err(_) => Err(error(
                Kind::UnknownOutcome,
                format!(
                    "this node was admitted, and is no voter after {VOTER_TIMEOUT:?}; the leader goes \
                     on trying: see `quorate node list`"
                ),
            )),
        }
    }
    fn take_directory(&self, slot: &mut Option<DataDirectory>) -> Result<DataDirectory, Status> {
        slot.take().ok_or_else(|| {
            let text = match self.member() {
                Some(member) => format!(
                    "{} is already a member of cluster {}: to move it, remove it there (quorate node \
                     remove {}), stop quorated, and move {} away",
                    self.config.name,
                    member.cluster_name,
                    self.config.name,
                    self.config.data_dir.display()
                ),
                None => "an earlier attempt to found or join a cluster failed half-way: restart \
                         quorated, then try again"
                    .to_owned(),
            };
            error(Kind::Refused, text)
        })
    }

    /// Becomes a member for good: the identity is on disk before anything acts by it.
    async fn enter(
        self: &Arc<Self>,
        identity: Identity,
        created: Result<Store, crate::raft::store::StoreError>,
    ) -> Result<Arc<Member>, Status> {
        let failed = |cause: String| error(Kind::Refused, cause);
        let store = created.map_err(|cause| failed(cause.to_string()))?;
        file::save(&self.config.data_dir, &identity).map_err(|cause| failed(cause.to_string()))?;
        self.begin(identity, store).await.map_err(|cause| failed(cause.to_string()))
    }

    /// Starts every part of a member.
    async fn begin(
        self: &Arc<Self>,
        identity: Identity,
        store: Store,
    ) -> Result<Arc<Member>, StartError> {
        let (mut listeners, mut sockets) = (Vec::new(), Vec::new());
        for link in self.profile().links {
            let address = link.listen;
            let failed = |cause| StartError::Listen { address, cause };
            listeners.push(TcpListener::bind(address).await.map_err(failed)?);
            sockets.push(LinkSocket::bind(link).map_err(failed)?);
        }
        let promises = match store.promises()? {
            Some(stored) => stored.try_into()?,
            None => quorate_api::convert::Promises::default(),
        };
        let renewals = Renewals::start()?;
        let (deliveries, datagrams) = mpsc::channel(DELIVERIES_MAX);
        let (takeover, takeover_watch) = watch::channel(false);
        let handler: Arc<dyn PeerHandler> = Arc::new(Handler(Arc::clone(self)));
        let surroundings = Surroundings {
            listeners,
            sockets,
            datagrams: renewals.handle(),
            handler,
            deliveries,
            takeover: takeover_watch,
            snapshot_every: SNAPSHOT_EVERY,
        };
        let server_tls = tls::server(&identity).map_err(crate::raft::node::StartError::Tls)?;
        let (me, cluster_id) = (identity.node_id, identity.cluster_id);
        let cluster_name = identity.cluster_name.clone();
        let raft = RaftNode::start(store, identity, surroundings).await?;
        self.attend(&raft);

        let (sender, events) = mpsc::channel(director::EVENTS_MAX);
        let (services, addresses, questions) = self.keep_kernel(&sender)?;
        let incarnation = Incarnation(u64::from_be_bytes(authority::random()?));
        let (journal, teller) = Journal::start(self.config.name.as_str());
        let hooks = self.attend_events(&journal, &teller, &raft);
        let held = self.keep_holding(Holder { cluster_id, me, incarnation }, &raft);
        let config = DirectorConfig {
            me,
            role: self.config.role,
            incarnation,
            devices: self.config.interfaces.clone(),
        };
        let loop_handle = director::start(director::Parts {
            director: Director::new(clock::now(), config, promises),
            raft: raft.handle(),
            store: raft.store(),
            transport: raft.transport(),
            datagrams,
            events,
            sender,
            devices: self.config.interfaces.clone(),
            services: services.clone(),
            addresses,
            questions,
            takeover,
            renewals: renewals.clone(),
            teller,
            held,
        });
        let member = Arc::new(Member {
            me,
            cluster_id,
            cluster_name,
            raft: raft.handle(),
            director: loop_handle,
            services,
            calls: raft.calls(),
            links: raft.links(),
            api: self.config.api,
            renewals,
            journal,
            hooks,
        });
        self.serve_remote(server_tls, &raft).await?;
        *self.raft.lock().await = Some(raft);
        info!(node = %me, cluster = member.cluster_name, "member of the cluster");
        self.member.send_replace(Some(Arc::clone(&member)));
        Ok(member)
    }

    /// Starts the API for other machines, where there is one.
    async fn serve_remote(
        self: &Arc<Self>,
        tls: Arc<rustls::ServerConfig>,
        raft: &RaftNode,
    ) -> Result<(), StartError> {
        let Some(address) = self.config.api else { return Ok(()) };
        crate::api::remote::start(address, tls, raft.directory(), Arc::clone(self))
            .await
            .map_err(|cause| StartError::Listen { address, cause })
    }

    /// Starts what follows the journal: the FIFO, and a director's hooks.
    fn attend_events(&self, journal: &Journal, teller: &Teller, raft: &RaftNode) -> Option<Hooks> {
        if let Some(path) = &self.config.events_fifo {
            let node = self.config.name.to_string();
            tokio::spawn(fifo::feed(path.clone(), node, journal.reader()));
        }
        let directs = self.config.role == Role::Director;
        let hooks = || Hooks::start(journal.reader(), raft.handle().state(), teller.clone());
        directs.then(hooks)
    }

    /// Notes on disk what a director holds, for `quorated release` after its death.
    fn keep_holding(&self, holder: Holder, raft: &RaftNode) -> watch::Sender<Leases> {
        let (held, leases) = watch::channel(Leases::new());
        if self.config.role == Role::Director {
            let data_dir = self.config.data_dir.clone();
            let (status, state) = (raft.handle().status(), raft.handle().state());
            tokio::spawn(holding::keep(data_dir, holder, leases, status, state));
        }
        held
    }

    /// Starts the threads that keep a director's kernel; a witness has no dataplane.
    fn keep_kernel(&self, sender: &mpsc::Sender<Event>) -> Result<KernelThreads, StartError> {
        if self.config.role == Role::Witness {
            return Ok((None, None, None));
        }
        let devices: Vec<DeviceName> = self.config.interfaces.values().cloned().collect();
        let data = &self.config.data_dir;
        let mode = match self.config.sysctl {
            Sysctl::Set => SysctlMode::Set,
            Sysctl::Check => SysctlMode::Check,
        };
        let services =
            ServiceThread::start(dataplane(), data, devices.clone(), mode, sender.clone())?;
        let kernel = self.kernel.lock().unwrap_or_else(PoisonError::into_inner).take();
        let make = kernel.map_or_else(dataplane, |Kernel(kernel)| Box::new(|| Ok(kernel)));
        let addresses = AddressThread::start(make, data, devices, sender.clone())?;
        watch_kernel(addresses.clone(), sender.clone());
        watch_filter(services.clone(), sender.clone());
        let questions =
            QuestionThread::start(dataplane(), sender.clone()).map_err(StartError::Questions)?;
        Ok((Some(services), Some(addresses), Some(questions)))
    }

    /// What follows what Raft does. A failed or doubtful write ends the process: the fence closes by
    /// itself.
    fn attend(&self, raft: &RaftNode) {
        tokio::spawn(memory::keep(raft.handle().state()));
        let mut store = raft.fatal();
        let fatal = self.fatal.clone();
        tokio::spawn(async move {
            let found = store.wait_for(Option::is_some).await;
            let text = match found.as_deref() {
                Ok(Some(cause)) => cause.to_string(),
                Ok(None) | Err(_) => return,
            };
            // Full: the process is ending already.
            let _ = fatal.try_send(text);
        });
    }

    /// Gives every group up, then stops Raft.
    pub(crate) async fn stop(&self) {
        if let Some(member) = self.member() {
            member.director.stop().await;
            if let Some(hooks) = &member.hooks
                && tokio::time::timeout(HOOKS_TIMEOUT, hooks.settle()).await.is_err()
            {
                warn!(
                    "hooks are killed: they were not done {HOOKS_TIMEOUT:?} after all was given up"
                );
            }
        }
        if let Some(raft) = self.raft.lock().await.take() {
            raft.stop().await;
        }
    }
}

/// The threads that call the dataplane.
type KernelThreads = (Option<ServiceThread>, Option<AddressThread>, Option<QuestionThread>);

fn dataplane() -> MakeDataplane {
    Box::new(|| Ok(Box::new(Linux::new()?) as Box<dyn Dataplane>))
}

/// Answers what other nodes ask.
#[derive(Debug)]
struct Handler(Arc<Node>);

#[tonic::async_trait]
impl PeerHandler for Handler {
    async fn observe(&self, brief: bool) -> peer::ObserveResponse {
        match self.0.member() {
            Some(member) => member.observe(brief).await.unwrap_or_default(),
            None => peer::ObserveResponse::default(),
        }
    }

    async fn connections(
        &self,
        request: v1::ConnectionsRequest,
    ) -> Result<v1::ConnectionsResponse, Status> {
        let Some(member) = self.0.member() else {
            return Err(error(Kind::NoQuorum, "this node is still starting: ask again"));
        };
        member.own_connections(&request).await
    }

    async fn forward(
        &self,
        from: NodeId,
        caller: String,
        request: peer::forward_request::Request,
    ) -> Result<peer::forward_response::Response, Status> {
        let Some(member) = self.0.member() else {
            return Err(error(Kind::NoQuorum, "this node is still starting: send it again"));
        };
        member.write(&format!("{caller} through node {from}"), request).await
    }
}
