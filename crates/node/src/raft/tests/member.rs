//! One node of a test cluster, which can be killed and started again.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicU16, Ordering};
use std::time::Duration;

use quorate_api::peer::v1 as peer;
use quorate_model::command::{Command, Digest, LinkAddress};
use quorate_model::id::{NodeId, Role};
use quorate_model::state::{ClusterState, Reply};
use quorate_model::time::Timing;
use tempfile::TempDir;
use tokio::net::TcpListener;
use tokio::runtime::Runtime;
use tokio::sync::{mpsc, watch};
use tokio::time::Instant;
use tonic::Status;

use crate::clock;
use crate::identity::token::{self, Token};
use crate::identity::{Identity, NodeProfile, file, found};
use crate::peer::datagrams::LinkSocket;
use crate::peer::join::{JoinError, join_within};
use crate::peer::server::{Delivery, PeerHandler};
use crate::raft::handle::RaftHandle;
use crate::raft::node::{RaftNode, Surroundings};
use crate::raft::status::{RaftRole, RaftStatus};
use crate::raft::store::Store;
use crate::raft::store::lock::DataDirectory;

/// Long enough for a busy machine; nothing waits this long where all is well.
pub(super) const LIMIT: Duration = Duration::from_secs(60);

pub(super) struct Member {
    pub(super) directory: TempDir,
    pub(super) profile: NodeProfile,
    listen: Vec<SocketAddr>,
    snapshot_every: u64,
    running: Option<Running>,
}

struct Running {
    runtime: Runtime,
    node: RaftNode,
    deliveries: mpsc::Receiver<Delivery>,
    _takeover: watch::Sender<bool>,
}

struct Handler;

#[tonic::async_trait]
impl PeerHandler for Handler {
    async fn observe(&self, _: bool) -> peer::ObserveResponse {
        peer::ObserveResponse { version: "test".to_owned(), ..Default::default() }
    }

    async fn connections(
        &self,
        request: quorate_api::v1::ConnectionsRequest,
    ) -> Result<quorate_api::v1::ConnectionsResponse, Status> {
        Err(Status::unimplemented(request.service))
    }

    async fn forward(
        &self,
        _from: NodeId,
        caller: String,
        _request: peer::forward_request::Request,
    ) -> Result<peer::forward_response::Response, Status> {
        Err(Status::unimplemented(caller))
    }
}

fn runtime() -> Runtime {
    tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap()
}

/// An address that nobody uses: a loopback address that belongs to this process alone, so that no
/// other test's outgoing connection takes the port while a member is down.
pub(super) fn free_address() -> SocketAddr {
    static PORT: AtomicU16 = AtomicU16::new(20_000);
    let [_, high, middle, low] = std::process::id().to_be_bytes();
    let ip = Ipv4Addr::new(127, 64 + high % 64, middle, low);
    SocketAddr::from((ip, PORT.fetch_add(1, Ordering::Relaxed)))
}

pub(super) fn profile(name: &str) -> NodeProfile {
    let link = |name: &str| LinkAddress { name: name.to_owned(), listen: free_address() };
    NodeProfile {
        name: name.parse().unwrap(),
        role: Role::Director,
        links: vec![link("a"), link("b")],
    }
}

impl Member {
    fn new(profile: NodeProfile, listen: Vec<SocketAddr>, snapshot_every: u64) -> Self {
        let directory = tempfile::tempdir().unwrap();
        Self { directory, profile, listen, snapshot_every, running: None }
    }

    pub(super) fn founder(cluster: &str, name: &str, snapshot_every: u64) -> Self {
        let profile = profile(name);
        let listen = profile.links.iter().map(|link| link.listen).collect();
        Self::founder_at(cluster, profile, listen, snapshot_every)
    }

    /// It listens elsewhere than others think.
    pub(super) fn founder_at(
        cluster: &str,
        profile: NodeProfile,
        listen: Vec<SocketAddr>,
        snapshot_every: u64,
    ) -> Self {
        let mut member = Self::new(profile, listen, snapshot_every);
        let (identity, command) = found(cluster, Timing::LAN, &member.profile).unwrap();
        let lock = DataDirectory::lock(member.directory.path()).unwrap();
        file::save(member.directory.path(), &identity).unwrap();
        let store = Store::create(lock, &identity, Some(&command)).unwrap();
        member.run(store, identity);
        member
    }

    pub(super) fn joiner(
        token: &Token,
        profile: NodeProfile,
        snapshot_every: u64,
    ) -> Result<Self, JoinError> {
        let listen = profile.links.iter().map(|link| link.listen).collect();
        Self::joiner_at(token, profile, listen, snapshot_every)
    }

    /// It listens elsewhere than others think.
    pub(super) fn joiner_at(
        token: &Token,
        profile: NodeProfile,
        listen: Vec<SocketAddr>,
        snapshot_every: u64,
    ) -> Result<Self, JoinError> {
        let mut member = Self::new(profile, listen, snapshot_every);
        let joining = join_within(token, &member.profile, LIMIT);
        let identity = runtime().block_on(joining)?;
        let lock = DataDirectory::lock(member.directory.path()).unwrap();
        file::save(member.directory.path(), &identity).unwrap();
        let store = Store::create(lock, &identity, None).unwrap();
        member.run(store, identity);
        Ok(member)
    }

    pub(super) fn restart(&mut self) {
        let path = self.directory.path();
        let identity = file::load(path).unwrap().unwrap();
        let store = Store::open(DataDirectory::lock(path).unwrap(), &identity).unwrap();
        self.run(store, identity);
    }

    fn run(&mut self, store: Store, identity: Identity) {
        assert!(self.running.is_none());
        let runtime = runtime();
        let (deliveries, received) = mpsc::channel(1_024);
        let (takeover, takeovers) = watch::channel(false);
        let (links, listen) = (self.profile.links.clone(), self.listen.clone());
        let snapshot_every = self.snapshot_every;
        let node = runtime.block_on(async move {
            let (mut listeners, mut sockets) = (Vec::new(), Vec::new());
            for (link, listen) in links.into_iter().zip(listen) {
                listeners.push(TcpListener::bind(listen).await.unwrap());
                sockets.push(LinkSocket::bind(LinkAddress { listen, ..link }).unwrap());
            }
            let surroundings = Surroundings {
                listeners,
                sockets,
                datagrams: tokio::runtime::Handle::current(),
                handler: Arc::new(Handler),
                deliveries,
                takeover: takeovers,
                snapshot_every,
            };
            RaftNode::start(store, identity, surroundings).await.unwrap()
        });
        let deliveries = received;
        self.running = Some(Running { runtime, node, deliveries, _takeover: takeover });
    }

    /// As by `kill -9`, as far as one process allows: nothing is finished or said.
    pub(super) fn kill(&mut self) {
        let Running { runtime, node, .. } = self.running.take().unwrap();
        runtime.shutdown_timeout(LIMIT);
        drop(node);
    }

    /// In order.
    pub(super) fn stop(&mut self) {
        let Running { runtime, node, .. } = self.running.take().unwrap();
        runtime.block_on(node.stop());
        runtime.shutdown_timeout(LIMIT);
    }

    pub(super) fn node(&self) -> &RaftNode {
        &self.running.as_ref().unwrap().node
    }

    pub(super) fn handle(&self) -> RaftHandle {
        self.node().handle()
    }

    pub(super) fn id(&self) -> NodeId {
        self.node().directory().me()
    }

    pub(super) fn block_on<F: Future>(&self, future: F) -> F::Output {
        self.running.as_ref().unwrap().runtime.block_on(future)
    }

    pub(super) fn spawn<F>(&self, future: F) -> tokio::task::JoinHandle<F::Output>
    where
        F: Future<Output: Send> + Send + 'static,
    {
        self.running.as_ref().unwrap().runtime.spawn(future)
    }

    pub(super) fn wait_status(&self, what: &str, until: impl FnMut(&Arc<RaftStatus>) -> bool) {
        let mut status = self.handle().status();
        // What `wait_for` gives holds the watch's lock: it must be gone before the next look.
        let reached = self
            .block_on(async { tokio::time::timeout(LIMIT, status.wait_for(until)).await.is_ok() });
        let last = self.handle().status().borrow().clone();
        assert!(reached, "{} waits for {what}: {last:?}", self.profile.name);
    }

    pub(super) fn wait_state(&self, what: &str, until: impl FnMut(&Arc<ClusterState>) -> bool) {
        let mut state = self.handle().state();
        let reached = self
            .block_on(async { tokio::time::timeout(LIMIT, state.wait_for(until)).await.is_ok() });
        assert!(reached, "{} waits for {what}", self.profile.name);
    }

    pub(super) fn wait_voters(&self, count: usize) {
        self.wait_status(&format!("{count} voters"), |status| {
            status.membership_committed
                && !status.membership.is_joint()
                && status.membership.voters().len() == count
        });
    }

    pub(super) fn leads(&self) -> bool {
        self.running.is_some() && self.handle().status().borrow().role == RaftRole::Leader
    }

    pub(super) fn propose(&self, command: Command) -> Reply {
        self.block_on(self.handle().propose(command)).unwrap()
    }

    pub(super) fn add_client(&self, name: &str) {
        assert_eq!(self.propose(client(name)), Reply::Done);
    }

    pub(super) fn wait_client(&self, name: &str) {
        let key: Digest = crate::identity::authority::sha256(name.as_bytes());
        self.wait_state(name, |state| state.clients.contains_key(&key));
    }

    pub(super) fn token(&self) -> Token {
        self.wait_state("its founding", |state| state.cluster_id != 0);
        let state = self.handle().state().borrow().clone();
        let (token, command) = token::create(&state, clock::wall()).unwrap().unwrap();
        assert_eq!(self.propose(command), Reply::Done);
        token
    }

    pub(super) fn delivery(&mut self) -> Delivery {
        let Running { runtime, deliveries, .. } = self.running.as_mut().unwrap();
        let delivery =
            runtime.block_on(async { tokio::time::timeout(LIMIT, deliveries.recv()).await });
        delivery.expect("a datagram in time").unwrap()
    }

    pub(super) fn delivered_already(&mut self) -> Option<Delivery> {
        self.running.as_mut().unwrap().deliveries.try_recv().ok()
    }
}

/// A cluster of three voters.
pub(super) fn three(snapshot_every: u64) -> Vec<Member> {
    let first = Member::founder("prod", "n1", snapshot_every);
    let mut members = vec![first];
    for name in ["n2", "n3"] {
        let token = members[0].token();
        let member = Member::joiner(&token, profile(name), snapshot_every).unwrap();
        members.push(member);
        members[0].wait_voters(members.len());
    }
    members
}

/// A client of this name comes.
fn client(name: &str) -> Command {
    let public_key = crate::identity::authority::sha256(name.as_bytes());
    Command::AddClient { name: name.to_owned(), public_key }
}

/// Writes where somebody leads: while lines are bad, elections may come in between.
pub(super) fn write_until_taken(members: &[Member], name: &str) {
    let running: Vec<&Member> = members.iter().filter(|m| m.running.is_some()).collect();
    let begin = Instant::now();
    loop {
        let mut statuses: Vec<_> = running.iter().map(|m| m.handle().status()).collect();
        let leading = running.iter().filter(|member| member.leads());
        let proposed = leading.map(|m| m.block_on(m.handle().propose(client(name))));
        let outcomes: Vec<_> = proposed.collect();
        if outcomes.iter().any(Result::is_ok) {
            return;
        }
        assert!(begin.elapsed() < LIMIT, "{name:?} is not taken: {outcomes:?}");
        let changed = statuses.iter_mut().map(|status| Box::pin(status.changed()));
        let changed = futures::future::select_all(changed);
        drop(running[0].block_on(async { tokio::time::timeout(LIMIT, changed).await }));
    }
}

/// The member that leads, once one does.
pub(super) fn leader(members: &[Member]) -> &Member {
    let running = members.iter().find(|m| m.running.is_some()).unwrap();
    let ids: Vec<_> = members.iter().filter(|m| m.running.is_some()).map(Member::id).collect();
    running.wait_status("a leader", |s| s.leader.is_some_and(|leader| ids.contains(&leader)));
    let leader = running.handle().status().borrow().leader;
    let found = members.iter().find(|m| m.running.is_some() && Some(m.id()) == leader).unwrap();
    found.wait_status("leading", |status| status.role == RaftRole::Leader);
    found
}
