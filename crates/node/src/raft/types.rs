//! What openraft is told about our types.
//!
//! The leader id is the "advanced" one, openraft's default: of two candidates of one term the one
//! with the higher node id wins instead of both losing, which shortens the slowest elections. A
//! term may then have two leaders, one after the other. Nothing here takes a term for unique:
//! epochs are log indexes.

use std::collections::BTreeMap;

use quorate_model::command::{Command, NodeDescription};
use quorate_model::id::NodeId;
use quorate_model::membership::Membership;
use quorate_model::state::Reply;

use super::machine::StateMachine;

openraft::declare_raft_types!(
    /// The types of this project's Raft group.
    pub TypeConfig:
        D = Command,
        R = Reply,
        NodeId = u64,
        Node = Member,
);

/// A member's description, as the Raft membership carries it. It is absent only in openraft's own
/// test suite, which makes members out of nothing.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Member(pub Option<Box<NodeDescription>>);

impl From<NodeDescription> for Member {
    fn from(description: NodeDescription) -> Self {
        Self(Some(Box::new(description)))
    }
}

pub(crate) type Raft = openraft::Raft<TypeConfig, StateMachine>;
pub(crate) type LogId = openraft::alias::LogIdOf<TypeConfig>;
pub(crate) type Vote = openraft::alias::VoteOf<TypeConfig>;
pub(crate) type Entry = openraft::alias::EntryOf<TypeConfig>;
pub(crate) type LeaderId = openraft::alias::LeaderIdOf<TypeConfig>;
pub(crate) type StoredMembership = openraft::alias::StoredMembershipOf<TypeConfig>;
pub(crate) type SnapshotMeta = openraft::alias::SnapshotMetaOf<TypeConfig>;
pub(crate) type Snapshot = openraft::alias::SnapshotOf<TypeConfig, SnapshotBytes>;
pub(crate) type RaftMembership = openraft::Membership<u64, Member>;
/// A snapshot's data: an encoded state. It is small (the configuration, the nodes, the grants), so
/// it is held in memory whole.
pub(crate) type SnapshotBytes = Vec<u8>;

/// The membership in the model's words.
pub(crate) fn membership(of: &RaftMembership) -> Membership {
    let configs =
        of.get_joint_config().iter().map(|set| set.iter().map(|&id| NodeId(id)).collect());
    let nodes: BTreeMap<NodeId, NodeDescription> = of
        .nodes()
        .filter_map(|(&id, member)| Some((NodeId(id), member.0.as_deref()?.clone())))
        .collect();
    Membership { configs: configs.collect(), nodes }
}
