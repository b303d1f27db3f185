//! The replicated state as a snapshot's data.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use quorate_model::command::UnixMillis;
use quorate_model::id::{Epoch, GroupName, Incarnation, LogIndex, NodeId, Revision, ServiceName};
use quorate_model::overrides::Override;
use quorate_model::spec;
use quorate_model::state::{
    ClusterState, Configuration, GrantRecord, NodeRecord, TakenRequest, Unconfirmed,
};

use super::command::{format, grant_reason, overridden, request_id, server};
use super::{
    DecodeError, FORMAT, check_format, cluster_id, cluster_id_bytes, digest, name, nanoseconds,
    required,
};
use crate::peer::v1 as peer;
use crate::v1;

impl From<&Configuration> for peer::Configuration {
    fn from(configuration: &Configuration) -> Self {
        Self {
            revision: configuration.revision.0,
            source: configuration.source.clone(),
            format: v1::Format::from(configuration.format).into(),
            author: configuration.author.clone(),
            at_unix_ms: configuration.at.0,
            message: configuration.message.clone(),
            takes_back: configuration.takes_back.map(|revision| revision.0),
            confirmed: configuration.confirmed.as_ref().map(Into::into),
        }
    }
}

impl TryFrom<peer::Configuration> for Configuration {
    type Error = DecodeError;

    fn try_from(configuration: peer::Configuration) -> Result<Self, DecodeError> {
        Ok(Self {
            revision: Revision(configuration.revision),
            source: configuration.source,
            format: format(configuration.format)?,
            author: configuration.author,
            at: UnixMillis(configuration.at_unix_ms),
            message: configuration.message,
            takes_back: configuration.takes_back.map(Revision),
            confirmed: configuration.confirmed.map(Into::into),
        })
    }
}

impl From<&Unconfirmed> for peer::StateUnconfirmed {
    fn from(unconfirmed: &Unconfirmed) -> Self {
        Self {
            since_unix_ms: unconfirmed.since.0,
            until_unix_ms: unconfirmed.until.0,
            timing: Some(unconfirmed.timing.into()),
            pins: unconfirmed.pins.iter().map(pin).collect(),
            overrides: unconfirmed.overrides.iter().map(state_override).collect(),
        }
    }
}

impl TryFrom<peer::StateUnconfirmed> for Unconfirmed {
    type Error = DecodeError;

    fn try_from(unconfirmed: peer::StateUnconfirmed) -> Result<Self, DecodeError> {
        Ok(Self {
            since: UnixMillis(unconfirmed.since_unix_ms),
            until: UnixMillis(unconfirmed.until_unix_ms),
            timing: required("StateUnconfirmed.timing", unconfirmed.timing)?.try_into()?,
            pins: collect(unconfirmed.pins, pinned)?,
            overrides: collect(unconfirmed.overrides, overridden_server)?,
        })
    }
}

fn pin((group, node): (&GroupName, &NodeId)) -> peer::Pin {
    peer::Pin { group: group.as_str().to_owned(), node: Some(node.0) }
}

fn pinned(pin: peer::Pin) -> Result<(GroupName, NodeId), DecodeError> {
    let node = NodeId(required("Pin.node", pin.node)?);
    Ok((name("Pin.group", &pin.group)?, node))
}

fn state_override(
    (service, address, to): (&ServiceName, &SocketAddr, &Override),
) -> peer::StateOverride {
    let server = Some(overridden(&(service.clone(), *address)));
    peer::StateOverride { server, to: Some(to.into()) }
}

fn overridden_server(
    stored: peer::StateOverride,
) -> Result<(ServiceName, SocketAddr, Override), DecodeError> {
    let (service, at) = server(required("StateOverride.server", stored.server)?)?;
    Ok((service, at, required("StateOverride.to", stored.to)?.try_into()?))
}

impl From<&ClusterState> for peer::State {
    fn from(state: &ClusterState) -> Self {
        Self {
            format: FORMAT,
            applied: state.applied.0,
            cluster_id: cluster_id_bytes(state.cluster_id),
            name: state.name.clone(),
            timing: Some(state.timing.into()),
            longest_lease_ns: nanoseconds(state.longest_lease),
            authority: state.authority.as_ref().map(Into::into),
            next_node: state.next_node,
            nodes: state.nodes.iter().map(node).collect(),
            tokens: state
                .tokens
                .iter()
                .map(|(secret, expires)| peer::StateToken {
                    secret: secret.0.to_vec(),
                    expires_unix_ms: expires.0,
                })
                .collect(),
            clients: state
                .clients
                .iter()
                .map(|(public_key, name)| peer::AddClient {
                    name: name.clone(),
                    public_key: public_key.0.to_vec(),
                })
                .collect(),
            configuration: state.configuration.as_ref().map(Into::into),
            grants: state
                .grants
                .iter()
                .map(|(group, grant)| peer::StateGrant {
                    group: group.as_str().to_owned(),
                    epoch: grant.epoch.0,
                    owner: grant.owner.0,
                    incarnation: grant.incarnation.0,
                    reason: peer::GrantReason::from(grant.reason).into(),
                    at_unix_ms: grant.at.0,
                })
                .collect(),
            pins: state.pins.iter().map(pin).collect(),
            evacuated: state
                .evacuated
                .iter()
                .map(|(node, order)| peer::Evacuate { node: node.0, order: Some(order.into()) })
                .collect(),
            paused: state.paused.as_ref().map(Into::into),
            overrides: state.overrides.iter().map(state_override).collect(),
            unconfirmed: state.unconfirmed.as_ref().map(Into::into),
            history: state.history.iter().map(|kept| kept.as_ref().into()).collect(),
            requests: state
                .requests
                .iter()
                .map(|taken| peer::StateRequest {
                    id: taken.request.0.to_be_bytes().to_vec(),
                    revision: taken.revision.0,
                    changed: taken.changed,
                })
                .collect(),
        }
    }
}

fn node((id, record): (&NodeId, &NodeRecord)) -> peer::StateNode {
    peer::StateNode { id: id.0, node: Some((&record.description).into()), leaving: record.leaving }
}

impl TryFrom<peer::State> for ClusterState {
    type Error = DecodeError;

    fn try_from(state: peer::State) -> Result<Self, DecodeError> {
        check_format("State", state.format)?;
        let configuration: Option<Configuration> =
            state.configuration.map(TryInto::try_into).transpose()?;
        let spec = match &configuration {
            None => Arc::default(),
            Some(configuration) => {
                let parsed = spec::parse(&configuration.source, configuration.format);
                Arc::new(parsed.map_err(|diagnostics| {
                    let text = diagnostics.render("cluster", &configuration.source);
                    DecodeError::Configuration(text)
                })?)
            }
        };
        Ok(Self {
            applied: LogIndex(state.applied),
            cluster_id: cluster_id(&state.cluster_id)?,
            name: state.name,
            timing: required("State.timing", state.timing)?.try_into()?,
            longest_lease: Duration::from_nanos(state.longest_lease_ns),
            authority: state.authority.map(Into::into),
            next_node: state.next_node,
            nodes: collect(state.nodes, |node| {
                let description = required("StateNode.node", node.node)?.try_into()?;
                Ok((NodeId(node.id), NodeRecord { description, leaving: node.leaving }))
            })?,
            tokens: collect(state.tokens, |token| {
                let secret = digest("StateToken.secret", &token.secret)?;
                Ok((secret, UnixMillis(token.expires_unix_ms)))
            })?,
            clients: collect(state.clients, |client| {
                Ok((digest("AddClient.public_key", &client.public_key)?, client.name))
            })?,
            configuration,
            spec,
            grants: collect(state.grants, |grant| {
                let record = GrantRecord {
                    epoch: Epoch(grant.epoch),
                    owner: NodeId(grant.owner),
                    incarnation: Incarnation(grant.incarnation),
                    reason: grant_reason(grant.reason)?,
                    at: UnixMillis(grant.at_unix_ms),
                };
                Ok((name("StateGrant.group", &grant.group)?, record))
            })?,
            pins: collect(state.pins, pinned)?,
            evacuated: collect(state.evacuated, |evacuate| {
                let order = required("Evacuate.order", evacuate.order)?;
                Ok((NodeId(evacuate.node), order.into()))
            })?,
            paused: state.paused.map(Into::into),
            overrides: collect(state.overrides, overridden_server)?,
            unconfirmed: state.unconfirmed.map(TryInto::try_into).transpose()?,
            history: collect(state.history, |kept| Ok(Arc::new(kept.try_into()?)))?,
            requests: collect(state.requests, |request| {
                Ok(TakenRequest {
                    request: request_id(&request.id)?,
                    revision: Revision(request.revision),
                    changed: request.changed,
                })
            })?,
        })
    }
}

fn collect<M, T, C: FromIterator<T>>(
    messages: Vec<M>,
    convert: impl FnMut(M) -> Result<T, DecodeError>,
) -> Result<C, DecodeError> {
    messages.into_iter().map(convert).collect()
}
