//! What may be written to the replicated log: every change of the cluster's state, as a value.
//!
//! Whatever a command needs of the outside (time, random numbers, keys) it carries with it, so
//! that every node computes the same state from it.

use std::net::SocketAddr;

use crate::id::{Epoch, GroupName, Incarnation, NodeId, NodeName, Revision, Role, ServiceName};
use crate::overrides::Override;
use crate::spec::Format;
use crate::time::Timing;

/// Wall-clock time in milliseconds since 1970, for people and for token expiry by the leader's
/// clock; no ownership decision reads it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct UnixMillis(pub u64);

/// SHA-256 of something: a public key, a certificate, a token's secret.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Digest(pub [u8; 32]);

/// The number that a client gives to a write, so that it is applied once however often it is sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RequestId(pub u128);

/// One heartbeat line of a node.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct LinkAddress {
    /// Its name in `node.toml`.
    pub name: String,
    /// Where the node listens on it.
    pub listen: SocketAddr,
}

/// What a node is, as the cluster knows it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NodeDescription {
    /// Its name; unique in the cluster.
    pub name: NodeName,
    /// Director or witness.
    pub role: Role,
    /// Its heartbeat lines, at least one.
    pub links: Vec<LinkAddress>,
    /// SHA-256 of its public key (DER SubjectPublicKeyInfo): what peers pin.
    pub public_key: Digest,
}

/// The cluster's own certificate authority. Replicated so that any leader can admit a node.
#[derive(Clone, PartialEq, Eq)]
pub struct CertificateAuthority {
    /// X.509 certificate, DER.
    pub certificate: Vec<u8>,
    /// PKCS #8 private key, DER. Secret: never logged, never sent to a client.
    pub private_key: Vec<u8>,
}

impl std::fmt::Debug for CertificateAuthority {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "CertificateAuthority({} bytes, key withheld)", self.certificate.len())
    }
}

/// A decision that a director owns a group from now on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Grant {
    /// The group.
    pub group: GroupName,
    /// The epoch that this grant follows; if the group has another by then, nothing happens.
    pub previous: Epoch,
    /// The new owner.
    pub owner: NodeId,
    /// The start of the owner's daemon that may take the grant up.
    pub incarnation: Incarnation,
    /// Why.
    pub reason: GrantReason,
}

/// Why a group got an owner.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum GrantReason {
    /// The group had no owner yet.
    First,
    /// The owner's daemon restarted and is still the best owner.
    Restarted,
    /// A majority heard no renewal of the owner's lease.
    OwnerSilent,
    /// The owner said that its lease is not acked.
    OwnerDeaf,
    /// The owner is not eligible any more.
    OwnerUnfit,
    /// A director that the group prefers was eligible for long enough.
    Preempt,
    /// An operator asked for it.
    Transfer,
    /// The owner is evacuated.
    Evacuated,
    /// The owner sees fewer of the group's real servers than another director does.
    Disagreement,
}

impl GrantReason {
    /// Whether an operator asked for the move. Only these are made while the cluster is paused,
    /// besides a restarted owner's new grant, which moves nothing.
    #[must_use]
    pub fn is_ordered(self) -> bool {
        match self {
            Self::Transfer | Self::Evacuated => true,
            Self::First
            | Self::Restarted
            | Self::OwnerSilent
            | Self::OwnerDeaf
            | Self::OwnerUnfit
            | Self::Preempt
            | Self::Disagreement => false,
        }
    }
}

impl std::fmt::Display for GrantReason {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.pad(match self {
            Self::First => "first owner",
            Self::Restarted => "owner restarted",
            Self::OwnerSilent => "owner silent",
            Self::OwnerDeaf => "owner heard no acks",
            Self::OwnerUnfit => "owner not eligible",
            Self::Preempt => "returned to a preferred director",
            Self::Transfer => "asked for by an operator",
            Self::Evacuated => "owner evacuated",
            Self::Disagreement => "owner sees fewer real servers than another director",
        })
    }
}

/// What an operator ordered, and what holds until it is taken back.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Order {
    /// Who did.
    pub author: String,
    /// When, by the leader's clock.
    pub at: UnixMillis,
}

/// A new configuration.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Configure {
    /// The client's number for this write.
    pub request: RequestId,
    /// Who asked for it.
    pub author: String,
    /// When, by the leader's clock.
    pub at: UnixMillis,
    /// The revision that it was made from; another one by then is a conflict.
    pub expected: Option<Revision>,
    /// The text, already checked by the node that proposes it.
    pub source: String,
    /// How the text is written.
    pub format: Format,
    /// What whoever asked for it says of it; empty: nothing.
    pub message: String,
    /// If given, the cluster goes back to the configuration before at this moment of the proposing
    /// leader's clock, unless it is confirmed.
    pub confirm_until: Option<UnixMillis>,
}

/// Every change of the cluster's state.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Command {
    /// The cluster begins: the first entry of its log.
    Found {
        /// The cluster's id, random.
        cluster_id: u128,
        /// The name that people use.
        name: String,
        /// Lease and renewal interval to begin with.
        timing: Timing,
        /// The new certificate authority.
        authority: CertificateAuthority,
        /// The first node; it gets id 1.
        node: NodeDescription,
    },
    /// A new configuration.
    Configure(Configure),
    /// An unconfirmed configuration stays, if it is this one.
    Confirm {
        /// Its number.
        revision: Revision,
        /// Who says so.
        order: Order,
    },
    /// An unconfirmed configuration, if it is this one, gives way to the one before it.
    RollBack {
        /// Its number.
        revision: Revision,
        /// The deadline that has passed; if it was moved meanwhile, nothing happens. `None`: an operator
        /// asked for it.
        until: Option<UnixMillis>,
        /// Who rolls back.
        order: Order,
    },
    /// New owners for groups, each by itself a compare-and-set on the group's epoch.
    Grant {
        /// When, by the leader's clock, for people.
        at: UnixMillis,
        /// The grants.
        grants: Vec<Grant>,
    },
    /// A join token may be used from now on.
    AddToken {
        /// SHA-256 of its secret.
        secret: Digest,
        /// The leader's clock: tokens that ended before it are dropped.
        at: UnixMillis,
        /// When it ends, by the leader's clock.
        expires: UnixMillis,
    },
    /// A node joins with a token, which is used up. The same node asking again gets the same id.
    Admit {
        /// SHA-256 of the token's secret.
        secret: Digest,
        /// The leader's clock.
        at: UnixMillis,
        /// The node.
        node: NodeDescription,
    },
    /// A node shall leave: it is granted nothing, and stops being a voter.
    Leave(NodeId),
    /// A node has left the Raft group: its key is pinned no longer.
    Forget(NodeId),
    /// An operator pins a group to a node, or lets it go (`transfer`, `transfer --auto`).
    Pin {
        /// The group.
        group: GroupName,
        /// The node; `None`: placement is automatic again.
        node: Option<NodeId>,
    },
    /// An operator evacuates a director, or restores it.
    Evacuate {
        /// The node.
        node: NodeId,
        /// The order; `None`: it may own groups again.
        order: Option<Order>,
    },
    /// An operator pauses the cluster, or lets it go on (`None`).
    Pause(Option<Order>),
    /// An operator gives real servers another weight than the configured one, or takes that back.
    Override {
        /// Each with its service.
        servers: Vec<(ServiceName, SocketAddr)>,
        /// What they get; `None`: the configured weight counts again.
        to: Option<Override>,
    },
    /// Overrides whose time is over at this moment of the leader's clock end.
    EndOverrides(UnixMillis),
    /// A client certificate for remote `quorate` is valid from now on.
    AddClient {
        /// The name of the context.
        name: String,
        /// SHA-256 of its public key.
        public_key: Digest,
    },
}

/// What kind of command it is, without its contents: for logs.
impl std::fmt::Display for Command {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Found { name, .. } => write!(f, "found {name}"),
            Self::Configure(configure) => write!(f, "configure ({} bytes)", configure.source.len()),
            Self::Confirm { revision, .. } => write!(f, "confirm revision {revision}"),
            Self::RollBack { revision, until: Some(_), .. } => {
                write!(f, "roll revision {revision} back, unconfirmed")
            }
            Self::RollBack { revision, until: None, .. } => {
                write!(f, "roll revision {revision} back, aborted")
            }
            Self::Grant { grants, .. } => {
                f.write_str("grant")?;
                grants.iter().try_for_each(|g| write!(f, " {} to {}", g.group, g.owner))
            }
            Self::AddToken { .. } => f.write_str("add token"),
            Self::Admit { node, .. } => write!(f, "admit {}", node.name),
            Self::Leave(node) => write!(f, "leave {node}"),
            Self::Forget(node) => write!(f, "forget {node}"),
            Self::Pin { group, node: Some(node) } => write!(f, "pin {group} to {node}"),
            Self::Pin { group, node: None } => write!(f, "unpin {group}"),
            Self::Evacuate { node, order: Some(_) } => write!(f, "evacuate {node}"),
            Self::Evacuate { node, order: None } => write!(f, "restore {node}"),
            Self::Pause(Some(_)) => f.write_str("pause"),
            Self::Pause(None) => f.write_str("resume"),
            Self::Override { servers, to: Some(to) } => {
                write!(f, "override the weight of {} real servers: {}", servers.len(), to.weight)
            }
            Self::Override { servers, to: None } => {
                write!(f, "end the overrides of {} real servers", servers.len())
            }
            Self::EndOverrides(_) => f.write_str("end overrides whose time is over"),
            Self::AddClient { name, .. } => write!(f, "add client {name}"),
        }
    }
}
