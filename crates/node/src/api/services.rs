//! This node's own view of its services, as `status` and `services` show it. Tests:
//! `services/tests.rs`.

use quorate_api::v1::{RealServerState, RealServerStatus, ServiceStatus};
use quorate_model::desired::{self, Knowledge, Verdicts};
use quorate_model::kernel::ObservedServices;
use quorate_model::probe::Verdict;
use quorate_model::spec::{ClusterSpec, RealServer, VirtualService};

#[cfg(test)]
mod tests;

/// Every service of the configuration, with what this node's probes and kernel say of it.
pub(crate) fn local(
    spec: &ClusterSpec,
    verdicts: &Verdicts,
    observed: &ObservedServices,
) -> Vec<ServiceStatus> {
    let services = spec.services.iter();
    services
        .map(|(name, service)| ServiceStatus {
            name: name.to_string(),
            group: service.group.to_string(),
            listen: service.listen.iter().map(ToString::to_string).collect(),
            scheduler: service.scheduler.to_string(),
            forward: forward(service),
            real_servers: service
                .real_servers
                .iter()
                .map(|server| real_server(service, server, verdicts, observed))
                .collect(),
            persistence_s: service.persistence.map(|persistence| persistence.timeout_s),
        })
        .collect()
}

/// The method of all real servers, or each that occurs.
fn forward(service: &VirtualService) -> String {
    let methods: std::collections::BTreeSet<String> =
        service.real_servers.iter().map(|server| server.forward.to_string()).collect();
    methods.into_iter().collect::<Vec<_>>().join("+")
}

fn real_server(
    service: &VirtualService,
    server: &RealServer,
    verdicts: &Verdicts,
    observed: &ObservedServices,
) -> RealServerStatus {
    let target = desired::target(service, server);
    let knowledge = target.as_ref().and_then(|target| verdicts.get(target));
    let (state, reason) = match (&target, knowledge) {
        (None, _) if server.weight == 0 => (RealServerState::Draining, "weight 0".to_owned()),
        (None, _) => (RealServerState::Up, "not checked".to_owned()),
        (Some(_), Some(Knowledge::Known(Verdict::Down(reason)))) => {
            (RealServerState::Down, reason.clone())
        }
        (Some(_), Some(Knowledge::Known(Verdict::Up))) if server.weight == 0 => {
            (RealServerState::Draining, "weight 0".to_owned())
        }
        (Some(_), Some(Knowledge::Known(Verdict::Up))) => (RealServerState::Up, String::new()),
        (Some(_), Some(Knowledge::Inherited { .. }) | None) => {
            (RealServerState::Unknown, "not probed yet".to_owned())
        }
    };
    let found = desired::keys(service)
        .filter_map(|key| observed.get(&key)?.destinations.get(&server.address));
    let (active, inactive) = found.fold((0_u64, 0_u64), |(active, inactive), destination| {
        (active + u64::from(destination.active), inactive + u64::from(destination.inactive))
    });
    RealServerStatus {
        address: server.address.to_string(),
        weight: server.weight,
        effective_weight: desired::effective_weight(service, server, verdicts).unwrap_or(0),
        state: state.into(),
        reason,
        active,
        inactive,
    }
}
