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
            flags: flags(service),
            mark: service.mark.map(std::num::NonZeroU32::get),
            sorry_server: service
                .sorry_server
                .as_ref()
                .map(|server| sorry_server(service, server, verdicts, observed)),
        })
        .collect()
}

/// In the words of ipvsadm(8).
fn flags(service: &VirtualService) -> Vec<String> {
    let own = service.flags.iter().map(|flag| flag.word(service.scheduler).to_owned());
    let one_packet = service.one_packet.then(|| "ops".to_owned());
    let engine = service.persistence.and_then(|persistence| persistence.engine);
    own.chain(one_packet).chain(engine.map(|engine| format!("pe {engine}"))).collect()
}

fn sorry_server(
    service: &VirtualService,
    server: &RealServer,
    verdicts: &Verdicts,
    observed: &ObservedServices,
) -> RealServerStatus {
    let answers = desired::sorry(service, verdicts).is_some();
    let reason = if answers { "answers: no real server takes connections" } else { "stands by" };
    RealServerStatus {
        effective_weight: if answers { server.weight } else { 0 },
        state: RealServerState::Up.into(),
        reason: reason.to_owned(),
        ..found(service, server, observed)
    }
}

/// What is configured of a server, and what the kernel says of it.
fn found(
    service: &VirtualService,
    server: &RealServer,
    observed: &ObservedServices,
) -> RealServerStatus {
    let found = desired::keys(service)
        .into_iter()
        .filter_map(|key| observed.get(&key)?.destinations.get(&server.address));
    let (active, inactive) = found.fold((0_u64, 0_u64), |(active, inactive), destination| {
        (active + u64::from(destination.active), inactive + u64::from(destination.inactive))
    });
    RealServerStatus {
        address: server.address.to_string(),
        weight: server.weight,
        forward: server.forward.to_string(),
        active,
        inactive,
        ..RealServerStatus::default()
    }
}

/// The method of all real servers, or each that occurs.
fn forward(service: &VirtualService) -> String {
    let methods: std::collections::BTreeSet<String> =
        service.real_servers.iter().map(|server| server.forward.word().to_owned()).collect();
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
    RealServerStatus {
        effective_weight: desired::effective_weight(service, server, verdicts).unwrap_or(0),
        state: state.into(),
        reason,
        ..found(service, server, observed)
    }
}
