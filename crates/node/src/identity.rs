//! Who this node is: its cluster, its number, its key and its certificate.
//!
//! The identity stands in a file of its own, outside the database, so that a database that was
//! emptied is noticed: such a node must never come back under its old number. The tests are in
//! `identity/tests.rs`.

use std::collections::{BTreeMap, BTreeSet};

use quorate_api::convert::{self, DecodeError, FORMAT, check_format};
use quorate_api::peer::v1 as peer;
use quorate_model::command::{Command, Digest, NodeDescription};
use quorate_model::id::NodeId;
use quorate_model::time::Timing;

pub mod authority;
pub mod file;
#[cfg(test)]
mod tests;
pub mod token;

use authority::Holder;
pub use authority::{AuthorityError, NodeKey};

/// Who this node is.
#[derive(Clone, PartialEq, Eq)]
pub struct Identity {
    /// The cluster's id.
    pub cluster_id: u128,
    /// The cluster's name.
    pub cluster_name: String,
    /// This node's number in it.
    pub node_id: NodeId,
    /// This node's name, as it joined.
    pub node_name: String,
    /// PKCS #8, DER.
    pub private_key: Vec<u8>,
    /// The certificate that the cluster's CA signed, DER.
    pub certificate: Vec<u8>,
    /// The certificate of the cluster's CA, DER.
    pub authority: Vec<u8>,
    /// Where the others were when this node joined: enough to be found again before the first
    /// entry of the log has come.
    pub members: BTreeMap<NodeId, NodeDescription>,
    /// The timing when this node joined, until the store knows a newer one.
    pub timing: Timing,
    /// The keys of the nodes that a recovery dropped, which may still take this one for a member of
    /// their cluster.
    pub recovered_without: BTreeSet<Digest>,
}

/// Most keys of dropped nodes that are remembered.
pub const RECOVERED_WITHOUT_MAX: usize = 1_024;

impl std::fmt::Debug for Identity {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Identity")
            .field("cluster", &self.cluster_name)
            .field("node_id", &self.node_id)
            .field("node_name", &self.node_name)
            .finish_non_exhaustive()
    }
}

/// What a node says of itself when it founds or joins a cluster: everything but its key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NodeProfile {
    /// Its name.
    pub name: quorate_model::id::NodeName,
    /// Director or witness.
    pub role: quorate_model::id::Role,
    /// Its heartbeat lines.
    pub links: Vec<quorate_model::command::LinkAddress>,
}

impl NodeProfile {
    /// The description under which the cluster knows it.
    #[must_use]
    pub fn with_key(&self, public_key: Digest) -> NodeDescription {
        NodeDescription {
            name: self.name.clone(),
            role: self.role,
            links: self.links.clone(),
            public_key,
        }
    }
}

/// Makes a new cluster whose first node is this one: its identity, and the first entry of its log.
///
/// # Errors
///
/// If no key or certificate can be made.
pub fn found(
    name: &str,
    timing: Timing,
    profile: &NodeProfile,
) -> Result<(Identity, Command), AuthorityError> {
    let cluster_id = u128::from_be_bytes(authority::random()?);
    let authority = authority::create(name)?;
    let key = NodeKey::generate()?;
    let certificate =
        authority::sign(&authority, Holder::Node, profile.name.as_str(), key.public_key())?;
    let node = profile.with_key(key.digest());
    let identity = Identity {
        cluster_id,
        cluster_name: name.to_owned(),
        node_id: NodeId(1),
        node_name: profile.name.as_str().to_owned(),
        private_key: key.private_key().to_vec(),
        certificate,
        authority: authority.certificate.clone(),
        members: BTreeMap::from([(NodeId(1), node.clone())]),
        timing,
        recovered_without: BTreeSet::new(),
    };
    let name = name.to_owned();
    Ok((identity, Command::Found { cluster_id, name, timing, authority, node }))
}

impl From<&Identity> for peer::Identity {
    fn from(identity: &Identity) -> Self {
        Self {
            format: FORMAT,
            cluster_id: convert::cluster_id_bytes(identity.cluster_id),
            cluster_name: identity.cluster_name.clone(),
            node_id: identity.node_id.0,
            node_name: identity.node_name.clone(),
            private_key: identity.private_key.clone(),
            certificate: identity.certificate.clone(),
            authority: identity.authority.clone(),
            members: identity
                .members
                .iter()
                .map(|(id, node)| peer::MembershipNode { id: id.0, node: Some(node.into()) })
                .collect(),
            timing: Some(identity.timing.into()),
            recovered_without: identity
                .recovered_without
                .iter()
                .map(|key| key.0.to_vec())
                .collect(),
        }
    }
}

impl TryFrom<peer::Identity> for Identity {
    type Error = DecodeError;

    fn try_from(identity: peer::Identity) -> Result<Self, DecodeError> {
        check_format("Identity", identity.format)?;
        let members = identity
            .members
            .into_iter()
            .map(|member| {
                let node = member.node.ok_or(DecodeError::Missing("MembershipNode.node"))?;
                Ok((NodeId(member.id), node.try_into()?))
            })
            .collect::<Result<_, DecodeError>>()?;
        Ok(Self {
            cluster_id: convert::cluster_id(&identity.cluster_id)?,
            cluster_name: identity.cluster_name,
            node_id: NodeId(identity.node_id),
            node_name: identity.node_name,
            private_key: identity.private_key,
            certificate: identity.certificate,
            authority: identity.authority,
            members,
            timing: identity.timing.map(TryInto::try_into).transpose()?.unwrap_or_default(),
            recovered_without: identity
                .recovered_without
                .iter()
                .take(RECOVERED_WITHOUT_MAX)
                .map(|key| convert::digest("Identity.recovered_without", key))
                .collect::<Result<_, DecodeError>>()?,
        })
    }
}
