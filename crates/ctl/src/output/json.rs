//! JSON for programs. Its keys and enumerations are a promise (design §6): add, never rename.
//! Tests: `tests.rs` beside this file, with every promised key.

use quorate_api::v1;
use serde::Serialize;

/// The version of every JSON document.
pub const API_VERSION: &str = "quorate/v1";

/// A document: its version, then its body's keys.
#[derive(Debug, Serialize)]
pub struct Document<'a, T> {
    api_version: &'static str,
    #[serde(flatten)]
    body: &'a T,
}

impl<'a, T> Document<'a, T> {
    /// The document of this body.
    pub fn of(body: &'a T) -> Self {
        Self { api_version: API_VERSION, body }
    }
}

/// `quorate status`.
#[derive(Debug, Serialize)]
pub struct Status {
    /// Null where the node belongs to no cluster.
    pub cluster: Option<Cluster>,
    /// Its nodes.
    pub nodes: Vec<Node>,
    /// Its VIP groups.
    pub groups: Vec<Group>,
    /// Its virtual services.
    pub services: Vec<Service>,
    /// The node that answered.
    pub answered_by: String,
}

/// The cluster as a whole.
#[derive(Debug, Serialize)]
#[allow(missing_docs, reason = "the keys are explained in docs/reference/command-line.md")]
pub struct Cluster {
    pub id: String,
    pub name: String,
    pub health: &'static str,
    pub leader: Option<String>,
    pub term: u64,
    pub commit_index: u64,
    pub revision: u64,
    pub unconfirmed_until: Option<String>,
    pub unconfirmed_left_ms: Option<u64>,
    pub voters: u32,
    pub voters_reachable: u32,
    pub failures_tolerated: u32,
    pub paused: bool,
    pub paused_by: Option<String>,
    pub paused_since: Option<String>,
}

/// A node.
#[derive(Debug, Serialize)]
#[allow(missing_docs, reason = "the keys are explained in docs/reference/command-line.md")]
pub struct Node {
    pub name: String,
    pub id: u64,
    pub role: String,
    pub raft: &'static str,
    pub state: &'static str,
    pub version: String,
    pub owns: Vec<String>,
    pub problems: Vec<String>,
    pub links: Vec<Link>,
    pub sync: Option<Sync>,
    pub revision: Option<u64>,
    pub programmed_revision: Option<u64>,
}

/// A director's part in the synchronisation of connections.
#[derive(Debug, Serialize)]
#[allow(missing_docs, reason = "the keys are explained in docs/reference/command-line.md")]
pub struct Sync {
    pub link: String,
    pub id: u32,
    pub running: bool,
    pub running_ms: Option<u64>,
    pub warm: bool,
}

/// A link of a node to another, as the first one sees it.
#[derive(Debug, Serialize)]
#[allow(missing_docs, reason = "the keys are explained in docs/reference/command-line.md")]
pub struct Link {
    pub name: String,
    pub to: String,
    pub up: bool,
    pub loss: Option<f64>,
    pub rtt_ms: Option<f64>,
}

/// A VIP group.
#[derive(Debug, Serialize)]
#[allow(missing_docs, reason = "the keys are explained in docs/reference/command-line.md")]
pub struct Group {
    pub name: String,
    pub addresses: Vec<String>,
    pub owner: Option<String>,
    pub epoch: u64,
    pub lease_remaining_ms: Option<u64>,
    pub since: Option<String>,
    pub standby: Vec<String>,
    pub reason: String,
    pub reach: Vec<Reach>,
    pub ineligible: Vec<Ineligible>,
}

/// A director that may not be granted a group.
#[derive(Debug, Serialize)]
#[allow(missing_docs, reason = "the keys are explained in docs/reference/command-line.md")]
pub struct Ineligible {
    pub node: String,
    pub reason: String,
}

/// How many real servers of a group a director sees.
#[derive(Debug, Serialize)]
#[allow(missing_docs, reason = "the keys are explained in docs/reference/command-line.md")]
pub struct Reach {
    pub node: String,
    pub up: u32,
    pub down: u32,
    pub all: u32,
}

/// A virtual service.
#[derive(Debug, Serialize)]
#[allow(missing_docs, reason = "the keys are explained in docs/reference/command-line.md")]
pub struct Service {
    pub name: String,
    pub group: String,
    pub listen: Vec<String>,
    pub scheduler: String,
    pub forward: String,
    pub flags: Vec<String>,
    pub persistence_s: Option<u32>,
    pub real_servers: Vec<RealServer>,
    pub sorry_server: Option<RealServer>,
    pub mark: Option<u32>,
    pub counters: Option<Traffic>,
    pub rates: Option<Traffic>,
    pub seen_by: String,
}

/// A real server of a virtual service.
#[derive(Debug, Serialize)]
#[allow(missing_docs, reason = "the keys are explained in docs/reference/command-line.md")]
pub struct RealServer {
    pub address: String,
    pub forward: String,
    pub weight: u32,
    pub effective_weight: u32,
    pub state: &'static str,
    pub reason: String,
    pub active: u64,
    pub inactive: u64,
    #[serde(rename = "override")]
    pub overridden: Option<Override>,
    pub counters: Option<Traffic>,
    pub rates: Option<Traffic>,
    pub kernel_weight: Option<u32>,
    pub leaves_in_s: Option<u64>,
    pub otherwise: Vec<OtherView>,
}

/// What another director sees of a real server.
#[derive(Debug, Serialize)]
#[allow(missing_docs, reason = "the keys are explained in docs/reference/command-line.md")]
pub struct OtherView {
    pub node: String,
    pub state: &'static str,
    pub reason: String,
}

/// A weight that an operator ordered in place of the configured one.
#[derive(Debug, Serialize)]
#[allow(missing_docs, reason = "the keys are explained in docs/reference/command-line.md")]
pub struct Override {
    pub weight: u32,
    pub by: String,
    pub since: String,
    pub until: Option<String>,
}

/// What passed, in all or each second.
#[derive(Debug, Clone, Copy, Serialize)]
#[allow(missing_docs, reason = "the keys are explained in docs/reference/command-line.md")]
pub struct Traffic {
    pub connections: u64,
    pub packets_in: u64,
    pub packets_out: u64,
    pub bytes_in: u64,
    pub bytes_out: u64,
}

impl From<v1::Counters> for Traffic {
    fn from(counters: v1::Counters) -> Self {
        let v1::Counters { connections, packets_in, packets_out, bytes_in, bytes_out } = counters;
        Self { connections, packets_in, packets_out, bytes_in, bytes_out }
    }
}

impl From<v1::Rates> for Traffic {
    fn from(rates: v1::Rates) -> Self {
        let v1::Rates { connections, packets_in, packets_out, bytes_in, bytes_out } = rates;
        Self { connections, packets_in, packets_out, bytes_in, bytes_out }
    }
}

/// The word for a cluster's health. What this program doesn't know is not ok.
#[must_use]
pub fn health(health: v1::Health) -> &'static str {
    match health {
        v1::Health::Ok => "ok",
        v1::Health::Degraded | v1::Health::Unspecified => "degraded",
        v1::Health::NoQuorum => "no_quorum",
    }
}

/// The word for a node's place in Raft.
#[must_use]
pub fn raft(role: v1::RaftRole) -> &'static str {
    match role {
        v1::RaftRole::Leader => "leader",
        v1::RaftRole::Follower => "follower",
        v1::RaftRole::Learner => "learner",
        v1::RaftRole::Unknown | v1::RaftRole::Unspecified => "unknown",
    }
}

/// The word for a node's state.
#[must_use]
pub fn node_state(state: v1::NodeState) -> &'static str {
    match state {
        v1::NodeState::Ready => "ready",
        v1::NodeState::Joining => "joining",
        v1::NodeState::Evacuated => "evacuated",
        v1::NodeState::Unreachable | v1::NodeState::Unspecified => "unreachable",
    }
}

/// The word for a real server's state.
#[must_use]
pub fn real_server_state(state: v1::RealServerState) -> &'static str {
    match state {
        v1::RealServerState::Up => "up",
        v1::RealServerState::Down => "down",
        v1::RealServerState::Draining => "draining",
        v1::RealServerState::Unknown | v1::RealServerState::Unspecified => "unknown",
    }
}

impl From<v1::StatusResponse> for Status {
    fn from(status: v1::StatusResponse) -> Self {
        Self {
            cluster: status.cluster.filter(|_| status.member).map(Cluster::from),
            nodes: status.nodes.into_iter().map(Node::from).collect(),
            groups: status.groups.into_iter().map(Group::from).collect(),
            services: status.services.into_iter().map(Service::from).collect(),
            answered_by: status.answered_by,
        }
    }
}

impl From<v1::ClusterStatus> for Cluster {
    fn from(cluster: v1::ClusterStatus) -> Self {
        Self {
            health: health(cluster.health()),
            id: cluster.id,
            name: cluster.name,
            leader: cluster.leader,
            term: cluster.term,
            commit_index: cluster.commit_index,
            revision: cluster.revision,
            unconfirmed_until: cluster.unconfirmed_until,
            unconfirmed_left_ms: cluster.unconfirmed_left_ms,
            voters: cluster.voters,
            voters_reachable: cluster.voters_reachable,
            failures_tolerated: cluster.failures_tolerated,
            paused: cluster.paused,
            paused_by: cluster.paused_by,
            paused_since: cluster.paused_since,
        }
    }
}

impl From<v1::NodeStatus> for Node {
    fn from(node: v1::NodeStatus) -> Self {
        Self {
            raft: raft(node.raft()),
            state: node_state(node.state()),
            name: node.name,
            id: node.id,
            role: node.role,
            version: node.version,
            owns: node.owns,
            problems: node.problems,
            links: node.links.into_iter().map(Link::from).collect(),
            sync: node.sync.map(|sync| Sync {
                link: sync.link,
                id: sync.id,
                running: sync.running,
                running_ms: sync.running_ms,
                warm: sync.warm,
            }),
            revision: node.revision,
            programmed_revision: node.programmed_revision,
        }
    }
}

impl From<v1::LinkStatus> for Link {
    fn from(link: v1::LinkStatus) -> Self {
        // Past an hour, a round trip is no measurement.
        let micros = |time: u64| f64::from(u32::try_from(time).unwrap_or(u32::MAX));
        Self {
            name: link.name,
            to: link.to,
            up: link.up,
            loss: link.loss_ppm.map(|ppm| f64::from(ppm) / 1e6),
            rtt_ms: link.round_trip_us.map(|time| micros(time) / 1e3),
        }
    }
}

impl From<v1::GroupStatus> for Group {
    fn from(group: v1::GroupStatus) -> Self {
        Self {
            name: group.name,
            addresses: group.addresses,
            owner: group.owner,
            epoch: group.epoch,
            lease_remaining_ms: group.lease_remaining_ms,
            since: group.since,
            standby: group.standby,
            reason: group.reason,
            reach: group.reach.into_iter().map(Reach::from).collect(),
            ineligible: group.ineligible.into_iter().map(Ineligible::from).collect(),
        }
    }
}

impl From<v1::ServiceStatus> for Service {
    fn from(service: v1::ServiceStatus) -> Self {
        Self {
            name: service.name,
            group: service.group,
            listen: service.listen,
            scheduler: service.scheduler,
            forward: service.forward,
            flags: service.flags,
            persistence_s: service.persistence_s,
            real_servers: service.real_servers.into_iter().map(RealServer::from).collect(),
            sorry_server: service.sorry_server.map(RealServer::from),
            mark: service.mark,
            counters: service.counters.map(Traffic::from),
            rates: service.rates.map(Traffic::from),
            seen_by: service.seen_by,
        }
    }
}

impl From<v1::RealServerStatus> for RealServer {
    fn from(server: v1::RealServerStatus) -> Self {
        Self {
            state: real_server_state(server.state()),
            address: server.address,
            forward: server.forward,
            weight: server.weight,
            effective_weight: server.effective_weight,
            reason: server.reason,
            active: server.active,
            inactive: server.inactive,
            overridden: server.r#override.map(|to| Override {
                weight: to.weight,
                by: to.by,
                since: to.since,
                until: to.until,
            }),
            counters: server.counters.map(Traffic::from),
            rates: server.rates.map(Traffic::from),
            kernel_weight: server.kernel_weight,
            leaves_in_s: server.leaves_in_s,
            otherwise: server.otherwise.into_iter().map(OtherView::from).collect(),
        }
    }
}

impl From<v1::GroupReach> for Reach {
    fn from(reach: v1::GroupReach) -> Self {
        let v1::GroupReach { node, up, down, all } = reach;
        Self { node, up, down, all }
    }
}

impl From<v1::IneligibleDirector> for Ineligible {
    fn from(out: v1::IneligibleDirector) -> Self {
        Self { node: out.node, reason: out.reason }
    }
}

impl From<v1::OtherView> for OtherView {
    fn from(view: v1::OtherView) -> Self {
        Self { state: real_server_state(view.state()), node: view.node, reason: view.reason }
    }
}

#[cfg(test)]
mod tests;
