//! Nodes, and the members of the Raft group.

use quorate_model::command::{LinkAddress, NodeDescription};
use quorate_model::id::{NodeId, Role};
use quorate_model::membership::Membership;

use super::{DecodeError, digest, name, required};
use crate::peer::v1 as peer;

impl From<Role> for peer::node_description::Role {
    fn from(role: Role) -> Self {
        match role {
            Role::Director => Self::Director,
            Role::Witness => Self::Witness,
        }
    }
}

impl From<&LinkAddress> for peer::LinkAddress {
    fn from(link: &LinkAddress) -> Self {
        Self { name: link.name.clone(), listen: link.listen.to_string() }
    }
}

impl TryFrom<peer::LinkAddress> for LinkAddress {
    type Error = DecodeError;

    fn try_from(link: peer::LinkAddress) -> Result<Self, DecodeError> {
        let listen = link.listen.parse().map_err(|_| DecodeError::Address {
            field: "LinkAddress.listen",
            found: link.listen.clone(),
        })?;
        Ok(Self { name: link.name, listen })
    }
}

impl From<&NodeDescription> for peer::NodeDescription {
    fn from(node: &NodeDescription) -> Self {
        Self {
            name: node.name.as_str().to_owned(),
            role: peer::node_description::Role::from(node.role).into(),
            links: node.links.iter().map(Into::into).collect(),
            public_key: node.public_key.0.to_vec(),
        }
    }
}

impl TryFrom<peer::NodeDescription> for NodeDescription {
    type Error = DecodeError;

    fn try_from(node: peer::NodeDescription) -> Result<Self, DecodeError> {
        use peer::node_description::Role as ProtoRole;
        let role = match ProtoRole::try_from(node.role) {
            Ok(ProtoRole::Director) => Role::Director,
            Ok(ProtoRole::Witness) => Role::Witness,
            Ok(ProtoRole::Unspecified) | Err(_) => {
                let field = "NodeDescription.role";
                return Err(DecodeError::Unknown { field, found: node.role });
            }
        };
        if node.links.is_empty() {
            return Err(DecodeError::Missing("NodeDescription.links"));
        }
        Ok(Self {
            name: name("NodeDescription.name", &node.name)?,
            role,
            links: node.links.into_iter().map(TryInto::try_into).collect::<Result<_, _>>()?,
            public_key: digest("NodeDescription.public_key", &node.public_key)?,
        })
    }
}

impl From<&Membership> for peer::Membership {
    fn from(membership: &Membership) -> Self {
        let configs = membership
            .configs
            .iter()
            .map(|voters| peer::VoterSet { voters: voters.iter().map(|id| id.0).collect() })
            .collect();
        let nodes = membership
            .nodes
            .iter()
            .map(|(id, node)| peer::MembershipNode { id: id.0, node: Some(node.into()) })
            .collect();
        Self { configs, nodes }
    }
}

impl TryFrom<peer::Membership> for Membership {
    type Error = DecodeError;

    fn try_from(membership: peer::Membership) -> Result<Self, DecodeError> {
        let configs = membership
            .configs
            .into_iter()
            .map(|set| set.voters.into_iter().map(NodeId).collect())
            .collect();
        let nodes = membership
            .nodes
            .into_iter()
            .map(|member| {
                let node = required("MembershipNode.node", member.node)?;
                Ok((NodeId(member.id), node.try_into()?))
            })
            .collect::<Result<_, DecodeError>>()?;
        Ok(Self { configs, nodes })
    }
}
