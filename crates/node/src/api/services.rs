//! This node's own view of its services, as `status` and `services` show it. Tests:
//! `services/tests.rs`.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use quorate_api::v1::{self, Counters, Rates, RealServerState, RealServerStatus, ServiceStatus};
use quorate_model::desired::{self, Knowledge, Lost, Shares, Verdicts};
use quorate_model::id::ServiceName;
use quorate_model::kernel::{ObservedServices, Statistics, Traffic};
use quorate_model::leaving::Leaver;
use quorate_model::overrides::{Override, Overrides};
use quorate_model::probe::Verdict;
use quorate_model::slow_start::{AllStarting, Starting};
use quorate_model::spec::document::duration_text;
use quorate_model::spec::{ClusterSpec, RealServer, VirtualService};

use super::status::rfc3339;

#[cfg(test)]
mod tests;

/// What this node sees of its services.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Seen<'a> {
    /// What its probes say.
    pub(crate) verdicts: &'a Verdicts,
    /// The services whose real servers are too few.
    pub(crate) lost: &'a Lost,
    /// The real servers that have not got their whole weight yet.
    pub(crate) starting: &'a AllStarting,
    /// What left the configuration.
    pub(crate) leaving: &'a [Leaver],
    /// The kernel's table; `None` where it could not be read.
    pub(crate) observed: Option<&'a ObservedServices>,
}

/// Every service of the configuration, with what this node's probes and kernel say of it.
pub(crate) fn local(
    spec: &Arc<ClusterSpec>,
    overrides: &Overrides,
    seen: Seen<'_>,
) -> Vec<ServiceStatus> {
    let Seen { verdicts, lost, starting, leaving, observed } = seen;
    let mut left: BTreeMap<&ServiceName, Vec<&Leaver>> = BTreeMap::new();
    for leaver in leaving {
        left.entry(&leaver.service.0).or_default().push(leaver);
    }
    let weighted = overrides.over(spec);
    let services = weighted.services.iter().zip(spec.services.values());
    let mut statuses: Vec<ServiceStatus> = services
        .map(|((name, service), configured)| {
            let shares = desired::shares(service, verdicts, lost.contains(name));
            let servers = service.real_servers.iter().zip(&configured.real_servers);
            let servers = servers.zip(&shares.weights).map(|((server, configured), weight)| {
                let ordered = overrides.get(name, &server.address);
                let status = real_server(service, server, ordered, verdicts, observed);
                let rises = starting.get(name).and_then(|all| all.get(&server.address));
                let effective_weight = rises.map_or(weight.unwrap_or(0), |rises| rises.weight);
                let mut reason = status.reason.clone() + besides(&shares, status.state(), *weight);
                if let Some(rises) = rises {
                    reason += &slowly(rises, !reason.is_empty());
                }
                RealServerStatus { weight: configured.weight, effective_weight, reason, ..status }
            });
            let others = left.remove(name).unwrap_or_default().into_iter().filter(|leaver| {
                service.real_servers.iter().all(|server| server.address != leaver.server.address)
            });
            let sorry = service.sorry_server.as_ref();
            ServiceStatus {
                real_servers: servers.chain(others.map(|l| leaver(l, observed))).collect(),
                sorry_server: sorry.map(|s| sorry_server(service, s, &shares, observed)),
                ..own(name, service, observed)
            }
        })
        .collect();
    // Those that left whole.
    statuses.extend(left.into_iter().filter_map(|(name, leavers)| {
        let service = &leavers.first()?.service.1;
        let real_servers = leavers.iter().map(|l| leaver(l, observed)).collect();
        let servers = leavers.iter().map(|leaver| &leaver.server);
        let forward = forward(servers);
        Some(ServiceStatus { real_servers, forward, ..own(name, service, observed) })
    }));
    statuses
}

/// What concerns the service itself.
fn own(
    name: &ServiceName,
    service: &VirtualService,
    observed: Option<&ObservedServices>,
) -> ServiceStatus {
    ServiceStatus {
        name: name.to_string(),
        group: service.group.to_string(),
        listen: service.listen.iter().map(ToString::to_string).collect(),
        scheduler: service.scheduler.to_string(),
        forward: forward(service.real_servers.iter()),
        persistence_s: service.persistence.map(|persistence| persistence.timeout_s),
        flags: flags(service),
        mark: service.mark.map(std::num::NonZeroU32::get),
        counters: observed.map(|observed| counters(traffic(service, observed).total)),
        rates: observed.map(|observed| rates(traffic(service, observed).rate)),
        // Whoever composes the status knows who sees it so, and adds the real servers.
        ..ServiceStatus::default()
    }
}

/// A real server that is of the configuration no more.
fn leaver(leaver: &Leaver, observed: Option<&ObservedServices>) -> RealServerStatus {
    let Leaver { service: (_, service), server, left } = leaver;
    let left = u64::try_from(left.as_millis().div_ceil(1000)).unwrap_or(u64::MAX);
    RealServerStatus {
        leaves_in_s: Some(left),
        state: RealServerState::Draining.into(),
        reason: format!(
            "left the configuration, deleted in {}",
            duration_text(Duration::from_secs(left))
        ),
        ..found(service, server, observed)
    }
}

/// Of all its keys.
fn traffic(service: &VirtualService, observed: &ObservedServices) -> Statistics {
    let found = desired::keys(service).into_iter().filter_map(|key| observed.get(&key));
    found.fold(Statistics::default(), |all, found| all + found.statistics)
}

fn counters(traffic: Traffic) -> Counters {
    let Traffic { connections, packets_in, packets_out, bytes_in, bytes_out } = traffic;
    Counters { connections, packets_in, packets_out, bytes_in, bytes_out }
}

fn rates(traffic: Traffic) -> Rates {
    let Traffic { connections, packets_in, packets_out, bytes_in, bytes_out } = traffic;
    Rates { connections, packets_in, packets_out, bytes_in, bytes_out }
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
    shares: &Shares,
    observed: Option<&ObservedServices>,
) -> RealServerStatus {
    let answers = shares.lost;
    let reason = match (answers, shares.up) {
        (false, _) => "stands by".to_owned(),
        (true, 0) => "answers: no real server takes connections".to_owned(),
        (true, up) => format!(
            "answers: real servers of weight {up} are up, {} of quorum {}",
            if up < u64::from(service.quorum) { "short" } else { "not yet enough above" },
            service.quorum
        ),
    };
    RealServerStatus {
        effective_weight: if answers { server.weight } else { 0 },
        state: RealServerState::Up.into(),
        reason,
        ..found(service, server, observed)
    }
}

/// What is configured of a server, and what the kernel says of it.
fn found(
    service: &VirtualService,
    server: &RealServer,
    observed: Option<&ObservedServices>,
) -> RealServerStatus {
    let of_key = |key| observed?.get(&key)?.destinations.get(&server.address);
    let (mut active, mut inactive, mut statistics) = (0, 0, Statistics::default());
    let mut kernel_weight = None;
    for destination in desired::keys(service).into_iter().filter_map(of_key) {
        active += u64::from(destination.active);
        inactive += u64::from(destination.inactive);
        statistics = statistics + destination.statistics;
        kernel_weight = kernel_weight.max(destination.destination.map(|to| to.weight));
    }
    RealServerStatus {
        address: server.address.to_string(),
        weight: server.weight,
        forward: server.forward.to_string(),
        active,
        inactive,
        counters: observed.map(|_| counters(statistics.total)),
        rates: observed.map(|_| rates(statistics.rate)),
        kernel_weight,
        ..RealServerStatus::default()
    }
}

/// Of a real server that has not got its whole weight yet.
fn slowly(Starting { whole, left, .. }: &Starting, follows: bool) -> String {
    let left = duration_text(Duration::from_secs(left.as_secs().saturating_add(1)));
    format!("{}starts slowly: weight {whole} in {left}", if follows { "; " } else { "" })
}

/// What else an operator should know of a real server's share.
fn besides(shares: &Shares, state: RealServerState, weight: Option<u32>) -> &'static str {
    let serves = weight.is_some_and(|weight| weight > 0);
    match state {
        RealServerState::Down if shares.floored && serves => {
            "; serves all the same, since too few are up (min_up)"
        }
        RealServerState::Up if shares.lost && weight == Some(0) => {
            "the sorry server answers, since too few are up (quorum)"
        }
        _ => "",
    }
}

/// The method of all real servers, or each that occurs.
fn forward<'s>(servers: impl Iterator<Item = &'s RealServer>) -> String {
    let methods: BTreeSet<String> = servers.map(|s| s.forward.word().to_owned()).collect();
    methods.into_iter().collect::<Vec<_>>().join("+")
}

fn real_server(
    service: &VirtualService,
    server: &RealServer,
    ordered: Option<&Override>,
    verdicts: &Verdicts,
    observed: Option<&ObservedServices>,
) -> RealServerStatus {
    let known: Vec<_> = desired::targets(service, server).map(|t| verdicts.get(&t)).collect();
    let down = known.iter().filter_map(|knowledge| match knowledge {
        Some(Knowledge::Known(Verdict::Down(reason))) => Some(reason.as_str()),
        _ => None,
    });
    let down: Vec<&str> = down.collect();
    let unknown = |knowledge: &Option<&Knowledge>| !matches!(knowledge, Some(Knowledge::Known(_)));
    let draining = || {
        let why = ordered.map_or("weight 0".to_owned(), |to| format!("by {}", to.order.author));
        (RealServerState::Draining, why)
    };
    let (state, reason) = match () {
        () if !down.is_empty() => (RealServerState::Down, down.join("; ")),
        () if known.iter().any(unknown) => (RealServerState::Unknown, "not probed yet".to_owned()),
        () if server.weight == 0 => draining(),
        () if known.is_empty() => (RealServerState::Up, "not checked".to_owned()),
        () => match known.iter().find_map(|knowledge| (*knowledge)?.weight()) {
            Some(weight) => (RealServerState::Up, format!("its check gives it weight {weight}")),
            None => (RealServerState::Up, String::new()),
        },
    };
    RealServerStatus {
        state: state.into(),
        reason,
        r#override: ordered.map(|to| v1::Override {
            weight: to.weight,
            by: to.order.author.clone(),
            since: rfc3339(to.order.at),
            until: to.until.map(rfc3339),
        }),
        ..found(service, server, observed)
    }
}
