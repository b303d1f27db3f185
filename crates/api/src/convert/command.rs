//! Commands: what travels in the Raft log.

use std::net::SocketAddr;
use std::time::Duration;

use quorate_model::command::{
    CertificateAuthority, Command, Configure, Grant, GrantReason, Order, RequestId, UnixMillis,
};
use quorate_model::id::{Epoch, Incarnation, NodeId, Revision, ServiceName};
use quorate_model::overrides::Override;
use quorate_model::spec::Format;
use quorate_model::time::Timing;

use super::{
    DecodeError, array, cluster_id, cluster_id_bytes, digest, name, nanoseconds, required,
};
use crate::peer::v1 as peer;
use crate::v1;

impl From<Format> for v1::Format {
    fn from(format: Format) -> Self {
        match format {
            Format::Toml => Self::Toml,
            Format::Json => Self::Json,
        }
    }
}

/// The format that a message names.
///
/// # Errors
///
/// If it names none that this version knows.
impl TryFrom<v1::Format> for Format {
    type Error = DecodeError;

    fn try_from(format: v1::Format) -> Result<Self, DecodeError> {
        match format {
            v1::Format::Toml => Ok(Self::Toml),
            v1::Format::Json => Ok(Self::Json),
            v1::Format::Unspecified => {
                Err(DecodeError::Unknown { field: "format", found: format.into() })
            }
        }
    }
}

pub(super) fn format(found: i32) -> Result<Format, DecodeError> {
    let unknown = DecodeError::Unknown { field: "format", found };
    v1::Format::try_from(found).map_err(|_| unknown)?.try_into()
}

impl From<Timing> for peer::Timing {
    fn from(timing: Timing) -> Self {
        Self { lease_ns: nanoseconds(timing.lease()), renew_ns: nanoseconds(timing.renew()) }
    }
}

impl TryFrom<peer::Timing> for Timing {
    type Error = DecodeError;

    fn try_from(timing: peer::Timing) -> Result<Self, DecodeError> {
        let lease = Duration::from_nanos(timing.lease_ns);
        Ok(Self::new(lease, Duration::from_nanos(timing.renew_ns))?)
    }
}

impl From<&CertificateAuthority> for peer::Authority {
    fn from(authority: &CertificateAuthority) -> Self {
        Self {
            certificate: authority.certificate.clone(),
            private_key: authority.private_key.clone(),
        }
    }
}

impl From<peer::Authority> for CertificateAuthority {
    fn from(authority: peer::Authority) -> Self {
        Self { certificate: authority.certificate, private_key: authority.private_key }
    }
}

impl From<GrantReason> for peer::GrantReason {
    fn from(reason: GrantReason) -> Self {
        match reason {
            GrantReason::First => Self::First,
            GrantReason::Restarted => Self::Restarted,
            GrantReason::OwnerSilent => Self::OwnerSilent,
            GrantReason::OwnerDeaf => Self::OwnerDeaf,
            GrantReason::OwnerUnfit => Self::OwnerUnfit,
            GrantReason::Preempt => Self::Preempt,
            GrantReason::Transfer => Self::Transfer,
            GrantReason::Evacuated => Self::Evacuated,
            GrantReason::Disagreement => Self::Disagreement,
        }
    }
}

pub(super) fn grant_reason(found: i32) -> Result<GrantReason, DecodeError> {
    match peer::GrantReason::try_from(found) {
        Ok(peer::GrantReason::First) => Ok(GrantReason::First),
        Ok(peer::GrantReason::Restarted) => Ok(GrantReason::Restarted),
        Ok(peer::GrantReason::OwnerSilent) => Ok(GrantReason::OwnerSilent),
        Ok(peer::GrantReason::OwnerDeaf) => Ok(GrantReason::OwnerDeaf),
        Ok(peer::GrantReason::OwnerUnfit) => Ok(GrantReason::OwnerUnfit),
        Ok(peer::GrantReason::Preempt) => Ok(GrantReason::Preempt),
        Ok(peer::GrantReason::Transfer) => Ok(GrantReason::Transfer),
        Ok(peer::GrantReason::Evacuated) => Ok(GrantReason::Evacuated),
        Ok(peer::GrantReason::Disagreement) => Ok(GrantReason::Disagreement),
        Ok(peer::GrantReason::Unspecified) | Err(_) => {
            Err(DecodeError::Unknown { field: "Grant.reason", found })
        }
    }
}

impl From<&Grant> for peer::Grant {
    fn from(grant: &Grant) -> Self {
        Self {
            group: grant.group.as_str().to_owned(),
            previous: grant.previous.0,
            owner: grant.owner.0,
            incarnation: grant.incarnation.0,
            reason: peer::GrantReason::from(grant.reason).into(),
        }
    }
}

impl TryFrom<peer::Grant> for Grant {
    type Error = DecodeError;

    fn try_from(grant: peer::Grant) -> Result<Self, DecodeError> {
        Ok(Self {
            group: name("Grant.group", &grant.group)?,
            previous: Epoch(grant.previous),
            owner: NodeId(grant.owner),
            incarnation: Incarnation(grant.incarnation),
            reason: grant_reason(grant.reason)?,
        })
    }
}

impl From<&Order> for peer::Order {
    fn from(order: &Order) -> Self {
        Self { author: order.author.clone(), at_unix_ms: order.at.0 }
    }
}

impl From<peer::Order> for Order {
    fn from(order: peer::Order) -> Self {
        Self { author: order.author, at: UnixMillis(order.at_unix_ms) }
    }
}

impl From<&Configure> for peer::Configure {
    fn from(configure: &Configure) -> Self {
        Self {
            request: configure.request.0.to_be_bytes().to_vec(),
            author: configure.author.clone(),
            at_unix_ms: configure.at.0,
            expected: configure.expected.map(|revision| revision.0),
            source: configure.source.clone(),
            format: v1::Format::from(configure.format).into(),
            message: configure.message.clone(),
            confirm_until_unix_ms: configure.confirm_until.map(|until| until.0),
        }
    }
}

impl TryFrom<peer::Configure> for Configure {
    type Error = DecodeError;

    fn try_from(configure: peer::Configure) -> Result<Self, DecodeError> {
        Ok(Self {
            request: request_id(&configure.request)?,
            author: configure.author,
            at: UnixMillis(configure.at_unix_ms),
            expected: configure.expected.map(Revision),
            source: configure.source,
            format: format(configure.format)?,
            message: configure.message,
            confirm_until: configure.confirm_until_unix_ms.map(UnixMillis),
        })
    }
}

/// The number of a write.
///
/// # Errors
///
/// If there are not 16 bytes.
pub(super) fn request_id(bytes: &[u8]) -> Result<RequestId, DecodeError> {
    Ok(RequestId(u128::from_be_bytes(array("request_id", bytes)?)))
}

impl From<&Override> for peer::Override {
    fn from(to: &Override) -> Self {
        Self {
            weight: to.weight,
            order: Some((&to.order).into()),
            until_unix_ms: to.until.map(|until| until.0),
        }
    }
}

impl TryFrom<peer::Override> for Override {
    type Error = DecodeError;

    fn try_from(to: peer::Override) -> Result<Self, DecodeError> {
        Ok(Self {
            weight: to.weight,
            order: required("Override.order", to.order)?.into(),
            until: to.until_unix_ms.map(UnixMillis),
        })
    }
}

pub(super) fn overridden((service, address): &(ServiceName, SocketAddr)) -> peer::OverriddenServer {
    peer::OverriddenServer { service: service.to_string(), address: address.to_string() }
}

pub(super) fn server(
    server: peer::OverriddenServer,
) -> Result<(ServiceName, SocketAddr), DecodeError> {
    let address = server.address.parse().map_err(|_| DecodeError::Address {
        field: "OverriddenServer.address",
        found: server.address.clone(),
    })?;
    Ok((name("OverriddenServer.service", &server.service)?, address))
}

impl From<&Command> for peer::Command {
    fn from(command: &Command) -> Self {
        use peer::command::Command as Proto;
        let command = match command {
            Command::Found { cluster_id, name, timing, authority, node } => {
                Proto::Found(peer::Found {
                    cluster_id: cluster_id_bytes(*cluster_id),
                    name: name.clone(),
                    timing: Some((*timing).into()),
                    authority: Some(authority.into()),
                    node: Some(node.into()),
                })
            }
            Command::Configure(configure) => Proto::Configure(configure.into()),
            Command::Confirm { revision, order } => Proto::Confirm(peer::ConfirmRevision {
                revision: revision.0,
                order: Some(order.into()),
            }),
            Command::RollBack { revision, until, order } => {
                Proto::RollBack(peer::RollBackRevision {
                    revision: revision.0,
                    until_unix_ms: until.map(|until| until.0),
                    order: Some(order.into()),
                })
            }
            Command::Grant { at, grants } => Proto::Grant(peer::GrantGroups {
                at_unix_ms: at.0,
                grants: grants.iter().map(Into::into).collect(),
            }),
            Command::AddToken { secret, at, expires } => Proto::AddToken(peer::AddToken {
                secret: secret.0.to_vec(),
                at_unix_ms: at.0,
                expires_unix_ms: expires.0,
            }),
            Command::Admit { secret, at, node } => Proto::Admit(peer::AdmitNode {
                secret: secret.0.to_vec(),
                at_unix_ms: at.0,
                node: Some(node.into()),
            }),
            Command::Leave(node) => Proto::Leave(node.0),
            Command::Forget(node) => Proto::Forget(node.0),
            Command::Pin { group, node } => Proto::Pin(peer::Pin {
                group: group.as_str().to_owned(),
                node: node.map(|node| node.0),
            }),
            Command::Evacuate { node, order } => Proto::Evacuate(peer::Evacuate {
                node: node.0,
                order: order.as_ref().map(Into::into),
            }),
            Command::Pause(order) => {
                Proto::Pause(peer::Pause { order: order.as_ref().map(Into::into) })
            }
            Command::Override { servers, to } => Proto::OverrideWeights(peer::OverrideWeights {
                servers: servers.iter().map(overridden).collect(),
                to: to.as_ref().map(Into::into),
            }),
            Command::EndOverrides(at) => Proto::EndOverridesUnixMs(at.0),
            Command::AddClient { name, public_key } => Proto::AddClient(peer::AddClient {
                name: name.clone(),
                public_key: public_key.0.to_vec(),
            }),
        };
        Self { command: Some(command) }
    }
}

impl TryFrom<peer::Command> for Command {
    type Error = DecodeError;

    fn try_from(command: peer::Command) -> Result<Self, DecodeError> {
        use peer::command::Command as Proto;
        Ok(match required("Command.command", command.command)? {
            Proto::Found(found) => Self::Found {
                cluster_id: cluster_id(&found.cluster_id)?,
                name: found.name,
                timing: required("Found.timing", found.timing)?.try_into()?,
                authority: required("Found.authority", found.authority)?.into(),
                node: required("Found.node", found.node)?.try_into()?,
            },
            Proto::Configure(configure) => Self::Configure(configure.try_into()?),
            Proto::Confirm(confirm) => Self::Confirm {
                revision: Revision(confirm.revision),
                order: required("ConfirmRevision.order", confirm.order)?.into(),
            },
            Proto::RollBack(back) => Self::RollBack {
                revision: Revision(back.revision),
                until: back.until_unix_ms.map(UnixMillis),
                order: required("RollBackRevision.order", back.order)?.into(),
            },
            Proto::Grant(grant) => Self::Grant {
                at: UnixMillis(grant.at_unix_ms),
                grants: grant
                    .grants
                    .into_iter()
                    .map(TryInto::try_into)
                    .collect::<Result<_, _>>()?,
            },
            Proto::AddToken(token) => Self::AddToken {
                secret: digest("AddToken.secret", &token.secret)?,
                at: UnixMillis(token.at_unix_ms),
                expires: UnixMillis(token.expires_unix_ms),
            },
            Proto::Admit(admit) => Self::Admit {
                secret: digest("AdmitNode.secret", &admit.secret)?,
                at: UnixMillis(admit.at_unix_ms),
                node: required("AdmitNode.node", admit.node)?.try_into()?,
            },
            Proto::Leave(node) => Self::Leave(NodeId(node)),
            Proto::Forget(node) => Self::Forget(NodeId(node)),
            Proto::Pin(pin) => {
                Self::Pin { group: name("Pin.group", &pin.group)?, node: pin.node.map(NodeId) }
            }
            Proto::Evacuate(evacuate) => Self::Evacuate {
                node: NodeId(evacuate.node),
                order: evacuate.order.map(Into::into),
            },
            Proto::Pause(pause) => Self::Pause(pause.order.map(Into::into)),
            Proto::OverrideWeights(weights) => Self::Override {
                servers: weights.servers.into_iter().map(server).collect::<Result<_, _>>()?,
                to: weights.to.map(TryInto::try_into).transpose()?,
            },
            Proto::EndOverridesUnixMs(at) => Self::EndOverrides(UnixMillis(at)),
            Proto::AddClient(client) => Self::AddClient {
                public_key: digest("AddClient.public_key", &client.public_key)?,
                name: client.name,
            },
        })
    }
}
