//! The replicated state: what every node computes from the same log, entry by entry.
//!
//! `apply` is deterministic. It answers with a [`Reply`], or refuses and changes nothing. What
//! operators order about ownership, and grants, are in `orders`; configurations and their revisions in
//! `configuration`. Tests: `state/tests.rs`.

use std::collections::{BTreeMap, VecDeque};
use std::net::SocketAddr;
use std::sync::Arc;

use crate::command::{
    CertificateAuthority, Command, Digest, GrantReason, NodeDescription, Order, RequestId,
    UnixMillis,
};
use crate::id::{
    Epoch, GroupName, Incarnation, LogIndex, NodeId, NodeName, Revision, Role, ServiceName,
};
use crate::overrides::Overrides;
use crate::spec::{self, ClusterSpec, Diagnostics, Format, KnownNode};
use crate::time::{Timing, promise};

mod configuration;
mod orders;
mod recovered;
#[cfg(test)]
mod tests;

pub use configuration::{
    CONFIRM_MAX, CONFIRM_MIN, Configuration, MESSAGE_BYTES_MAX, REVISIONS_BYTES_MAX, REVISIONS_MAX,
    Unconfirmed, is_message,
};
pub use recovered::{EPOCH_GAP, Recovered};

/// Tokens that may be open at once.
pub const TOKENS_MAX: usize = 1_000;
/// Client certificates that may be valid at once.
pub const CLIENTS_MAX: usize = 1_000;
/// Nodes of one cluster.
pub const NODES_MAX: usize = 32;
/// Requests that are remembered so that a repetition is not applied twice.
pub const REQUESTS_MAX: usize = 1_000;

/// A node as the cluster knows it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NodeRecord {
    /// What it is.
    pub description: NodeDescription,
    /// Whether it was told to leave.
    pub leaving: bool,
}

/// Who owns a group.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GrantRecord {
    /// The fencing token: the log index of the grant.
    pub epoch: Epoch,
    /// The owner.
    pub owner: NodeId,
    /// The start of the owner's daemon that may take it up.
    pub incarnation: Incarnation,
    /// Why it was granted.
    pub reason: GrantReason,
    /// When, by the clock of the leader of that time.
    pub at: UnixMillis,
}

/// The replicated state of a cluster.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct ClusterState {
    /// The index of the last entry that was applied.
    pub applied: LogIndex,
    /// The cluster's id; 0 before it is founded.
    pub cluster_id: u128,
    /// The cluster's name.
    pub name: String,
    /// Lease and renewal interval in force.
    pub timing: Timing,
    /// The longest lease that was ever in force, which bounds every promise ever given.
    pub longest_lease: std::time::Duration,
    /// The certificate authority; `None` before the cluster is founded.
    pub authority: Option<CertificateAuthority>,
    /// The id that the next node gets; never goes back, so ids are never reused.
    pub next_node: u64,
    /// The nodes.
    pub nodes: BTreeMap<NodeId, NodeRecord>,
    /// Open join tokens: SHA-256 of the secret, and when each ends.
    pub tokens: BTreeMap<Digest, UnixMillis>,
    /// Valid client certificates: SHA-256 of the public key, and the name.
    pub clients: BTreeMap<Digest, String>,
    /// The configuration's text and number; `None` before the first.
    pub configuration: Option<Configuration>,
    /// What is in force may yet give way to the configuration before, which is the last of `history`, or
    /// the empty one.
    pub unconfirmed: Option<Unconfirmed>,
    /// The configurations before, oldest first: the last ones.
    pub history: VecDeque<Arc<Configuration>>,
    /// The configuration as values.
    pub spec: Arc<ClusterSpec>,
    /// The owner of each group that has one.
    pub grants: BTreeMap<GroupName, GrantRecord>,
    /// Groups that an operator pinned.
    pub pins: BTreeMap<GroupName, NodeId>,
    /// Directors that give their groups away and take none.
    pub evacuated: BTreeMap<NodeId, Order>,
    /// While it is there, no group moves by itself.
    pub paused: Option<Order>,
    /// Weights that real servers have in place of the configured ones.
    pub overrides: Overrides,
    /// Configurations that were taken, oldest first, with what was answered.
    pub requests: VecDeque<TakenRequest>,
}

/// A configuration that was taken, and its answer: a repetition of the request gets the same.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TakenRequest {
    /// The request.
    pub request: RequestId,
    /// The revision in force after it.
    pub revision: Revision,
    /// Whether it made that revision.
    pub changed: bool,
}

/// What became of a command.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Reply {
    /// It was applied.
    Done,
    /// What an operator ordered is so; `changed` is false where it already was.
    Ordered {
        /// Whether this command changed it.
        changed: bool,
    },
    /// The configuration in force; `changed` is false where it already was.
    Configured {
        /// Its number.
        revision: Revision,
        /// Whether this command changed it.
        changed: bool,
    },
    /// The groups that were granted; those whose epoch had moved on are missing.
    Granted(Vec<GroupName>),
    /// The node is known under this id.
    Admitted(NodeId),
    /// Nothing was changed.
    Refused(Refused),
}

/// Why a command was refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Refused {
    /// The log does not begin with `Found`, or `Found` comes twice.
    #[error("the cluster is already founded, or not yet")]
    Founding,
    /// The revision has moved on.
    #[error(
        "the configuration is at revision {current}, not {expected}: look at what changed (quorate diff), then apply again"
    )]
    Conflict {
        /// The revision in force.
        current: Revision,
        /// The revision that the client expected.
        expected: Revision,
    },
    /// The revision in force waits to be confirmed.
    #[error(
        "revision {0} is not confirmed yet, and nothing else is applied until it is, or is rolled back"
    )]
    Unconfirmed(Revision),
    /// The revision does not wait to be confirmed.
    #[error("revision {revision} does not wait to be confirmed: revision {current} is in force")]
    NotUnconfirmed {
        /// The revision that was meant.
        revision: Revision,
        /// The revision in force.
        current: Revision,
    },
    /// The configuration does not fit the cluster.
    #[error("{0}")]
    Configuration(String),
    /// The token is unknown, used, or past its time.
    #[error(
        "this join token is unknown, already used or expired: make a new one on a member (quorate token create)"
    )]
    Token,
    /// Too many tokens, clients or nodes.
    #[error("the cluster already has {max} {what}")]
    Full {
        /// Of what.
        what: &'static str,
        /// How many at most.
        max: usize,
    },
    /// The name is taken.
    #[error(
        "the cluster already has a node named {0}: change `name` in node.toml, or remove the old node first (quorate node remove {0})"
    )]
    DuplicateName(NodeName),
    /// An address is taken.
    #[error("node {node} already listens on {address}: change [[link]] in node.toml")]
    DuplicateAddress {
        /// The node that has it.
        node: NodeName,
        /// The address.
        address: std::net::SocketAddr,
    },
    /// No such node.
    #[error("the cluster has no node {0}")]
    NoSuchNode(NodeId),
    /// No such group.
    #[error("the configuration has no group {0}")]
    NoSuchGroup(GroupName),
    /// No such real server.
    #[error("service {service} has no real server {server}: another configuration is in force")]
    NoSuchServer {
        /// The service.
        service: ServiceName,
        /// The real server.
        server: SocketAddr,
    },
    /// The last node can't be removed.
    #[error("the last node of a cluster can't be removed: stop its daemon instead")]
    LastNode,
    /// The node is evacuated.
    #[error(
        "node {0} is evacuated: let it own groups again first (quorate restore {0}), or choose another"
    )]
    Evacuated(NodeName),
    /// A witness can't be evacuated.
    #[error("node {0} is a witness: it never owns a VIP group, so there is nothing to evacuate")]
    Witness(NodeName),
    /// The node can't own VIPs.
    #[error("node {0} can't own a VIP group: it is a witness, is leaving, or `only` excludes it")]
    NotADirector(NodeName),
}

/// A state that this node can't compute: it must stop, or it would diverge from the others.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ApplyError {
    /// The configuration was accepted by a node of another version.
    #[error(
        "the cluster applied a configuration that this version of quorated can't read: install the version that the other nodes run ({0})"
    )]
    ConfigurationNotReadable(String),
}

/// Reads a configuration's text: says what [`spec::parse`] does.
pub type Read<'r> = dyn Fn(&str, Format) -> Result<Arc<ClusterSpec>, Diagnostics> + 'r;

impl ClusterState {
    /// Applies the command at `index` of the log.
    ///
    /// # Errors
    ///
    /// If this node can't compute the new state, and must stop.
    pub fn apply(&mut self, index: LogIndex, command: &Command) -> Result<Reply, ApplyError> {
        self.apply_reading(index, command, &|source, format| {
            spec::parse(source, format).map(Arc::new)
        })
    }

    /// The same, with configurations read by `read`.
    ///
    /// # Errors
    ///
    /// If this node can't compute the new state, and must stop.
    pub fn apply_reading(
        &mut self,
        index: LogIndex,
        command: &Command,
        read: &Read<'_>,
    ) -> Result<Reply, ApplyError> {
        self.applied = index;
        let outcome = match command {
            Command::Found { cluster_id, name, timing, authority, node } => {
                self.found(*cluster_id, name, *timing, authority, node)
            }
            Command::Configure(configure) => self.configure(configure, read)?,
            Command::Confirm { revision, order } => self.confirm(*revision, order),
            Command::RollBack { revision, until, order } => {
                self.roll_back(*revision, *until, order, read)?
            }
            Command::Grant { at, grants } => Ok(self.grant(index, *at, grants)),
            Command::AddToken { secret, at, expires } => self.add_token(*secret, *at, *expires),
            Command::Admit { secret, at, node } => self.admit(secret, *at, node),
            Command::Leave(node) => self.leave(*node),
            Command::Forget(node) => Ok(self.forget(*node)),
            Command::Pin { group, node } => self.pin(group, *node),
            Command::Evacuate { node, order } => self.evacuate(*node, order.as_ref()),
            Command::Pause(order) => Ok(self.pause(order.as_ref())),
            Command::Override { servers, to } => self.override_weights(servers, to.as_ref()),
            Command::EndOverrides(at) => Ok(self.end_overrides(*at)),
            Command::AddClient { name, public_key } => self.add_client(name, *public_key),
        };
        Ok(outcome.unwrap_or_else(Reply::Refused))
    }

    /// An entry that carries no command (a membership change, a new leader's blank entry).
    pub fn skip(&mut self, index: LogIndex) {
        self.applied = index;
    }

    /// The node of this name.
    #[must_use]
    pub fn node_named(&self, name: &str) -> Option<(NodeId, &NodeRecord)> {
        self.nodes
            .iter()
            .find(|(_, record)| record.description.name.as_str() == name)
            .map(|(&id, record)| (id, record))
    }

    /// The number of the configuration in force.
    #[must_use]
    pub fn revision(&self) -> Revision {
        self.configuration.as_ref().map_or(Revision(0), |c| c.revision)
    }

    /// The longest promise that any voter can ever have given under the timings in force so far.
    #[must_use]
    pub fn longest_promise(&self) -> std::time::Duration {
        promise(self.longest_lease)
    }

    /// What validation has to know of the nodes.
    #[must_use]
    pub fn known_nodes(&self) -> Vec<KnownNode> {
        self.nodes
            .values()
            .map(|record| KnownNode {
                name: record.description.name.clone(),
                director: record.description.role == Role::Director,
                addresses: record.description.links.iter().map(|l| l.listen.ip()).collect(),
                links: record
                    .description
                    .links
                    .iter()
                    .map(|link| (link.name.clone(), link.listen.ip()))
                    .collect(),
            })
            .collect()
    }

    /// Whether this node may own this group at all: a director that stays, which `only` allows.
    #[must_use]
    pub fn may_own(&self, node: NodeId, group: &GroupName) -> bool {
        let Some(record) = self.nodes.get(&node) else { return false };
        let Some(group) = self.spec.groups.get(group) else { return false };
        let allowed =
            group.only.as_ref().is_none_or(|only| only.contains(&record.description.name));
        record.description.role == Role::Director && !record.leaving && allowed
    }

    fn found(
        &mut self,
        cluster_id: u128,
        name: &str,
        timing: Timing,
        authority: &CertificateAuthority,
        node: &NodeDescription,
    ) -> Result<Reply, Refused> {
        if self.cluster_id != 0 {
            return Err(Refused::Founding);
        }
        self.cluster_id = cluster_id;
        name.clone_into(&mut self.name);
        self.set_timing(timing);
        self.authority = Some(authority.clone());
        self.nodes.insert(NodeId(1), NodeRecord { description: node.clone(), leaving: false });
        self.next_node = 2;
        Ok(Reply::Admitted(NodeId(1)))
    }

    fn set_timing(&mut self, timing: Timing) {
        self.timing = timing;
        self.longest_lease = self.longest_lease.max(timing.lease());
    }

    fn add_token(
        &mut self,
        secret: Digest,
        at: UnixMillis,
        expires: UnixMillis,
    ) -> Result<Reply, Refused> {
        self.tokens.retain(|_, end| *end >= at);
        if self.tokens.len() >= TOKENS_MAX {
            return Err(Refused::Full { what: "open join tokens", max: TOKENS_MAX });
        }
        self.tokens.insert(secret, expires);
        Ok(Reply::Done)
    }

    fn admit(
        &mut self,
        secret: &Digest,
        at: UnixMillis,
        node: &NodeDescription,
    ) -> Result<Reply, Refused> {
        // The joiner's answer may have been lost: the same key asking again is the same node.
        let again = self.nodes.iter().find(|(_, record)| record.description == *node);
        if let Some((&id, record)) = again
            && !record.leaving
        {
            return Ok(Reply::Admitted(id));
        }
        if self.tokens.get(secret).is_none_or(|expires| *expires < at) {
            return Err(Refused::Token);
        }
        if self.nodes.len() >= NODES_MAX {
            return Err(Refused::Full { what: "nodes", max: NODES_MAX });
        }
        self.check_unique(node)?;
        self.tokens.remove(secret);
        let id = NodeId(self.next_node);
        self.next_node += 1;
        self.nodes.insert(id, NodeRecord { description: node.clone(), leaving: false });
        Ok(Reply::Admitted(id))
    }

    fn check_unique(&self, node: &NodeDescription) -> Result<(), Refused> {
        for record in self.nodes.values() {
            let other = &record.description;
            if other.name == node.name {
                return Err(Refused::DuplicateName(node.name.clone()));
            }
            let same =
                |l: &&crate::command::LinkAddress| other.links.iter().any(|o| o.listen == l.listen);
            if let Some(link) = node.links.iter().find(same) {
                let node = other.name.clone();
                return Err(Refused::DuplicateAddress { node, address: link.listen });
            }
        }
        Ok(())
    }

    fn leave(&mut self, node: NodeId) -> Result<Reply, Refused> {
        let staying =
            self.nodes.iter().filter(|(id, record)| !record.leaving && **id != node).count();
        if staying == 0 {
            return Err(Refused::LastNode);
        }
        let record = self.nodes.get_mut(&node).ok_or(Refused::NoSuchNode(node))?;
        record.leaving = true;
        self.pins.retain(|_, pin| *pin != node);
        Ok(Reply::Done)
    }

    fn forget(&mut self, node: NodeId) -> Reply {
        self.nodes.remove(&node);
        self.evacuated.remove(&node);
        Reply::Done
    }

    fn add_client(&mut self, name: &str, public_key: Digest) -> Result<Reply, Refused> {
        if self.clients.len() >= CLIENTS_MAX {
            return Err(Refused::Full { what: "client certificates", max: CLIENTS_MAX });
        }
        self.clients.insert(public_key, name.to_owned());
        Ok(Reply::Done)
    }
}
