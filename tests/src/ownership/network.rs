//! What is on its way. Nothing is ever taken out by being delivered: a datagram may come twice,
//! late, after any other, or never.

use std::sync::Arc;

use quorate_model::id::{Epoch, GroupName, NodeId};
use quorate_model::ownership::message::{Renew, RenewReply};

/// A datagram.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Datagram {
    /// A renewal, for every voter.
    Renew(Arc<Renew>),
    /// What a voter answered.
    Reply(Arc<RenewReply>),
    /// A release, for every voter.
    Released(GroupName, Epoch),
}

/// What tells a datagram from the others. Two with the same key are one.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Key {
    /// 0: renewal, 1: reply, 2: release.
    pub kind: u8,
    /// Whose owner it is about.
    pub owner: NodeId,
    /// That owner's start.
    pub incarnation: u64,
    /// The round, or the released epoch.
    pub number: u64,
    /// Who answers; of a reply only.
    pub voter: NodeId,
    /// The group; of a reply and a release only.
    pub group: Option<Arc<GroupName>>,
}
