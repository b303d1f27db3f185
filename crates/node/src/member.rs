//! This node as a member of a cluster: Raft, the director loop and the way to the other nodes,
//! as the API uses them.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use quorate_api::peer::v1::forward_request::Request as Write;
use quorate_api::peer::v1::forward_response::Response as Written;
use quorate_api::peer::v1::{HeldGroup, ObserveResponse, ObservedLink};
use quorate_api::v1::{self, ServiceStatus};
use quorate_model::director::DirectorView;
use quorate_model::id::NodeId;
use quorate_model::kernel::ObservedServices;
use quorate_model::state::ClusterState;
use tonic::{Code, Status};

use crate::api::error::{KEY, Kind, error, was_never_sent};
use crate::api::services::{self, Seen};
use crate::director::DirectorHandle;
use crate::hooks::Hooks;
use crate::journal::Journal;
use crate::peer::datagrams::{LinkKnowledge, LinkView};
use crate::raft::handle::RaftHandle;
use crate::raft::node::PeerCalls;
use crate::reconcile::ServiceThread;
use crate::renewals::Renewals;

/// How long the services thread may take to read the kernel's counters.
const COUNTERS_TIMEOUT: Duration = Duration::from_millis(400);
/// How long another node may take to say what it knows of itself.
const ASK_TIMEOUT: Duration = Duration::from_millis(700);
/// How long a forwarded write may take, removals included.
const FORWARD_TIMEOUT: Duration = Duration::from_secs(190);

/// This node as a member of a cluster.
#[derive(Debug)]
pub(crate) struct Member {
    /// This node.
    pub(crate) me: NodeId,
    /// The cluster's id.
    pub(crate) cluster_id: u128,
    /// The cluster's name.
    pub(crate) cluster_name: String,
    /// Raft.
    pub(crate) raft: RaftHandle,
    pub(crate) director: DirectorHandle,
    pub(crate) services: Option<ServiceThread>,
    pub(crate) calls: PeerCalls,
    pub(crate) links: LinkKnowledge,
    pub(crate) api: Option<SocketAddr>,
    /// The thread that renews.
    pub(crate) renewals: Renewals,
    /// What happened, as far as this node knows.
    pub(crate) journal: Journal,
    /// The programs that are run for it; a witness runs none.
    pub(crate) hooks: Option<Hooks>,
}

impl Member {
    /// What the director knows now.
    pub(crate) async fn view(&self) -> Result<DirectorView, Status> {
        self.director
            .view()
            .await
            .ok_or_else(|| error(Kind::Refused, "this node is stopping: ask another one"))
    }

    /// The Raft leader, as soon as there is one.
    pub(crate) async fn wait_for_leader(&self, limit: Duration) -> Option<NodeId> {
        let mut status = self.raft.status();
        let led = status.wait_for(|status| status.leader.is_some());
        tokio::time::timeout(limit, led).await.ok()?.ok()?.leader
    }

    /// What this node says of itself; in brief without services.
    pub(crate) async fn observe(&self, brief: bool) -> Result<ObserveResponse, Status> {
        let view = Arc::new(self.view().await?);
        let state = self.state();
        let services = if brief { Vec::new() } else { self.observe_services(&state, &view).await };
        let held = view.held.iter().map(|(group, (epoch, left))| HeldGroup {
            group: group.to_string(),
            epoch: epoch.0,
            lease_remaining_ms: u64::try_from(left.as_millis()).unwrap_or(u64::MAX),
        });
        Ok(ObserveResponse {
            version: env!("CARGO_PKG_VERSION").to_owned(),
            problems: self.problems(&view),
            held: held.collect(),
            services,
            api: self.api.map(|address| address.to_string()).unwrap_or_default(),
            links: self.links.view().into_iter().map(observed_link).collect(),
            disk_full: view.disk_full,
            sync: sync_status(&state, &view),
            revision: Some(state.revision().0),
            programmed_revision: view.programmed.map(|revision| revision.0),
        })
    }

    /// Ten thousand real servers take a while: not on a thread that Raft needs.
    async fn observe_services(
        &self,
        state: &Arc<ClusterState>,
        view: &Arc<DirectorView>,
    ) -> Vec<ServiceStatus> {
        let observed = self.counters().await;
        let (state, view) = (Arc::clone(state), Arc::clone(view));
        let composed = tokio::task::spawn_blocking(move || {
            let DirectorView { verdicts, lost, starting, leaving, .. } = &*view;
            let observed = observed.as_ref();
            let seen = Seen { verdicts, lost, starting, leaving, observed };
            services::local(&state.spec, &state.overrides, seen)
        });
        // It ends early only with the daemon.
        composed.await.unwrap_or_default()
    }

    /// The kernel's table; `None` where it could not be read in time.
    async fn counters(&self) -> Option<ObservedServices> {
        let services = self.services.as_ref()?;
        tokio::time::timeout(COUNTERS_TIMEOUT, services.observe()).await.ok().flatten()
    }

    /// What an operator should know of this node, each once.
    fn problems(&self, view: &DirectorView) -> Vec<String> {
        let mut problems = BTreeSet::new();
        if let Some(services) = &self.services {
            problems.extend(services.view().problems);
        }
        problems.extend(view.addresses.failed.values().cloned());
        problems.extend(view.addresses.strange.values().cloned());
        problems.extend(view.addresses.unfenced.clone());
        problems.extend(view.problems.iter().cloned());
        problems.extend(self.hooks.iter().flat_map(Hooks::problems));
        for (group, obstacles) in view.obstacles.get(&self.me).into_iter().flatten() {
            for obstacle in obstacles {
                problems.insert(format!("can't own {group}: {obstacle}"));
            }
        }
        problems.into_iter().collect()
    }

    /// What another node says of itself.
    pub(crate) async fn ask(&self, node: NodeId, brief: bool) -> Result<ObserveResponse, Status> {
        self.calls.observe(node, brief, ASK_TIMEOUT).await
    }

    /// Has the leader do a write.
    pub(crate) async fn forward(
        &self,
        leader: NodeId,
        caller: String,
        write: Write,
    ) -> Result<Written, Status> {
        let response = self.calls.forward(leader, caller, write, FORWARD_TIMEOUT).await;
        let response = response.map_err(|status| match status.code() {
            // Those that the leader marked say it all; the rest is between the two nodes.
            _ if status.metadata().contains_key(KEY) => status,
            // Every write may be repeated: configurations by their request id, the rest by what
            // they say.
            Code::Unavailable => error(
                if was_never_sent(&status) { Kind::NotLeader } else { Kind::Interrupted },
                format!("the leader can't be reached from here: {}", status.message()),
            ),
            _ => error(Kind::UnknownOutcome, status.message()),
        })?;
        response.response.ok_or_else(|| error(Kind::UnknownOutcome, "the leader's answer is empty"))
    }

    /// Where the cluster's API can be reached from other machines.
    pub(crate) async fn api_endpoints(&self) -> Vec<String> {
        let state = self.state();
        let mut endpoints: BTreeSet<String> =
            self.api.map(|address| address.to_string()).into_iter().collect();
        for &node in state.nodes.keys().filter(|&&node| node != self.me) {
            if let Ok(answer) = self.ask(node, true).await
                && !answer.api.is_empty()
            {
                endpoints.insert(answer.api);
            }
        }
        endpoints.into_iter().collect()
    }
}

/// This director's part in the synchronisation of connections.
fn sync_status(state: &ClusterState, view: &DirectorView) -> Option<v1::SyncStatus> {
    // A witness has no services thread, and says nothing of services.
    let sync = state.spec.sync.as_ref().filter(|_| view.services.is_some())?;
    let (running, warm) = view.synced;
    let millis = |time: Duration| u64::try_from(time.as_millis()).unwrap_or(u64::MAX);
    Some(v1::SyncStatus {
        link: sync.link.clone(),
        id: sync.id.into(),
        running: running.is_some(),
        running_ms: running.map(millis),
        warm,
    })
}

fn observed_link(link: LinkView) -> ObservedLink {
    let LinkView { node, link, up, loss_ppm, round_trip } = link;
    let micros = |time: Duration| u64::try_from(time.as_micros()).unwrap_or(u64::MAX);
    ObservedLink { name: link, to: node.0, up, loss_ppm, round_trip_us: round_trip.map(micros) }
}
