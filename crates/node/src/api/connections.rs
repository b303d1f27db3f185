//! Some connections of a service, as the kernel of its group's owner knows them.

use std::time::Duration;

use quorate_api::v1;
use quorate_dataplane::connections;
use quorate_model::id::{Epoch, NodeId};
use quorate_model::spec::VirtualService;
use tonic::Status;

use super::error::{Kind, error};
use crate::member::Member;

/// Connections that are listed where nothing is said.
const LIMIT_DEFAULT: u32 = 100;
/// Most that are listed: some 200 bytes each.
const LIMIT_MAX: u32 = 10_000;
/// How long another node may take to list its own.
const ASK_TIMEOUT: Duration = Duration::from_secs(8);

impl Member {
    /// Those of the owner; of this node where no owner is known.
    pub(crate) async fn connections(
        &self,
        request: v1::ConnectionsRequest,
    ) -> Result<v1::ConnectionsResponse, Status> {
        let service = self.service(&request.service)?;
        let owner = self.owner_of(&service).await?;
        match owner.filter(|&owner| owner != self.me) {
            Some(owner) => self.calls.connections(owner, request, ASK_TIMEOUT).await,
            None => self.own_connections(&request).await,
        }
    }

    /// Those of this node.
    pub(crate) async fn own_connections(
        &self,
        request: &v1::ConnectionsRequest,
    ) -> Result<v1::ConnectionsResponse, Status> {
        let service = self.service(&request.service)?;
        let limit = match request.limit {
            0 => LIMIT_DEFAULT,
            limit => limit.min(LIMIT_MAX),
        };
        let limit = usize::try_from(limit).unwrap_or(0);
        let list = move || connections::of(&service, limit);
        let listed = tokio::task::spawn_blocking(list)
            .await
            .map_err(|cause| error(Kind::Refused, format!("connections can't be listed: {cause}")))?
            .map_err(|cause| error(Kind::Refused, cause.to_string()))?;
        let state = self.state();
        let me = state.nodes.get(&self.me).map(|record| record.description.name.to_string());
        Ok(v1::ConnectionsResponse {
            node: me.unwrap_or_default(),
            connections: listed.found.into_iter().map(shown).collect(),
            more: listed.more,
        })
    }

    fn service(&self, name: &str) -> Result<VirtualService, Status> {
        let state = self.state();
        let found = state.spec.services.iter().find(|(known, _)| known.as_str() == name);
        found.map(|(_, service)| service.clone()).ok_or_else(|| {
            let known: Vec<&str> = state.spec.services.keys().map(|name| name.as_str()).collect();
            let name: String = name.chars().take(60).collect();
            let text = if known.is_empty() {
                format!("no service is named {name:?}: the configuration in force has none")
            } else {
                format!("no service is named {name:?}; there is {}", known.join(", "))
            };
            error(Kind::Refused, text)
        })
    }

    /// The node that is known to hold the lease of the service's group.
    async fn owner_of(&self, service: &VirtualService) -> Result<Option<NodeId>, Status> {
        let view = self.view().await?;
        let state = self.state();
        let Some(grant) = state.grants.get(&service.group) else { return Ok(None) };
        let heard: Option<&Epoch> = view.heard.get(&service.group);
        let mine = view.held.contains_key(&service.group);
        Ok((mine || heard == Some(&grant.epoch)).then_some(grant.owner))
    }
}

fn shown(connection: connections::Connection) -> v1::Connection {
    v1::Connection {
        protocol: connection.protocol,
        client: connection.client.to_string(),
        to: connection.to.to_string(),
        real_server: connection.server.to_string(),
        state: connection.state,
        expires_s: connection.expires_s,
        synced: connection.synced,
    }
}
