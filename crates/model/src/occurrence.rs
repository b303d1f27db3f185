//! Occurrences: what happened that an operator may want to be told of, or have a program run for.
//!
//! Pure: what is told follows from two states of the cluster, or from what a director saw of the real
//! servers before and sees now. What stood already when it began to look is no news. When an occurrence
//! is told by whom is in `director/tell.rs`; who writes it down and runs programs is `node`. Tests: below.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::time::Duration;

use crate::command::Order;
use crate::desired::{self, Knowledge, Standing, Verdicts};
use crate::id::{Epoch, GroupName, NodeId, Revision, ServiceName};
use crate::probe::Verdict;
use crate::spec::{RealServer, VirtualService};
use crate::state::ClusterState;

/// What kind of occurrence it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Kind {
    /// A group was granted, to another director or anew to the same one.
    OwnerChanged,
    /// This director began to serve a group: its lease runs.
    GroupUp,
    /// This director serves a group no more.
    GroupDown,
    /// A real server of a service passes its checks again.
    RealServerUp,
    /// It passes them no more.
    RealServerDown,
    /// Its checks want it to have another weight.
    RealServerWeight,
    /// Enough of a service's real servers are up again.
    QuorumUp,
    /// Too few are.
    QuorumDown,
    /// A director lastingly sees fewer of a group's real servers than another.
    Disagreement,
    /// It sees as many again.
    DisagreementOver,
    /// An operator gave a real server a weight, or took that back.
    WeightOrdered,
    /// Another configuration is in force.
    ConfigurationApplied,
    /// An operator confirmed the one in force.
    ConfigurationConfirmed,
    /// Nobody did, or it was aborted: the one before it is in force again.
    ConfigurationReverted,
    /// A director was told to give its groups away.
    NodeEvacuated,
    /// It may own groups again.
    NodeRestored,
    /// From now on no group moves by itself.
    ClusterPaused,
    /// Groups move by themselves again.
    ClusterResumed,
    /// A hook's program failed, or was not run.
    HookFailed,
    /// There were more occurrences than could be kept.
    EventsLost,
}

/// Every kind that a hook may be for, by its word.
pub const HOOK_KINDS: [(&str, Kind); 18] = [
    ("owner_changed", Kind::OwnerChanged),
    ("group_up", Kind::GroupUp),
    ("group_down", Kind::GroupDown),
    ("real_server_up", Kind::RealServerUp),
    ("real_server_down", Kind::RealServerDown),
    ("real_server_weight", Kind::RealServerWeight),
    ("quorum_up", Kind::QuorumUp),
    ("quorum_down", Kind::QuorumDown),
    ("disagreement", Kind::Disagreement),
    ("disagreement_over", Kind::DisagreementOver),
    ("weight_ordered", Kind::WeightOrdered),
    ("configuration_applied", Kind::ConfigurationApplied),
    ("configuration_confirmed", Kind::ConfigurationConfirmed),
    ("configuration_reverted", Kind::ConfigurationReverted),
    ("node_evacuated", Kind::NodeEvacuated),
    ("node_restored", Kind::NodeRestored),
    ("cluster_paused", Kind::ClusterPaused),
    ("cluster_resumed", Kind::ClusterResumed),
];

impl Kind {
    /// The word for it, everywhere.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            // No hook runs for them: a hook that fails would run itself.
            Self::HookFailed => "hook_failed",
            Self::EventsLost => "events_lost",
            other => {
                HOOK_KINDS.iter().find(|(_, kind)| *kind == other).map_or("", |(word, _)| word)
            }
        }
    }

    /// Whether it concerns a service of a group.
    #[must_use]
    pub fn concerns_service(self) -> bool {
        matches!(
            self,
            Self::RealServerUp
                | Self::RealServerDown
                | Self::RealServerWeight
                | Self::QuorumUp
                | Self::QuorumDown
                | Self::WeightOrdered
        )
    }

    /// Whether it concerns a group, so that one director is its owner.
    #[must_use]
    pub fn concerns_group(self) -> bool {
        matches!(
            self,
            Self::OwnerChanged
                | Self::GroupUp
                | Self::GroupDown
                | Self::Disagreement
                | Self::DisagreementOver
        ) || self.concerns_service()
    }
}

/// What happened. What does not concern it is `None`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Occurrence {
    /// What kind it is.
    pub kind: Kind,
    /// The VIP group; of a service, the one that holds its addresses.
    pub group: Option<GroupName>,
    /// The virtual service.
    pub service: Option<ServiceName>,
    /// The real server.
    pub real_server: Option<SocketAddr>,
    /// The group's owner by the grant in force, by name.
    pub owner: Option<String>,
    /// Who was that before; `None` where nobody was, or that is not known.
    pub previous_owner: Option<String>,
    /// The epoch of the grant.
    pub epoch: Option<Epoch>,
    /// The revision in force.
    pub revision: Revision,
    /// The weight that the real server shall have; of an order that was taken back: the configured one.
    pub weight: Option<u32>,
    /// The node that it is about, where that is no owner.
    pub subject: Option<String>,
    /// Of a group that is served again: for how long nobody was known to serve it, as measured by the
    /// director that does.
    pub gap: Option<Duration>,
    /// Why, or by whom.
    pub reason: String,
}

/// An occurrence as a director tells it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Told {
    /// What happened.
    pub occurrence: Occurrence,
    /// Whether this director is the one that acts on it where only an owner shall: of all that tell the
    /// same, at most one is.
    pub mine: bool,
}

impl Occurrence {
    /// One that concerns nothing yet.
    #[must_use]
    pub fn new(kind: Kind, reason: String) -> Self {
        Self {
            kind,
            group: None,
            service: None,
            real_server: None,
            owner: None,
            previous_owner: None,
            epoch: None,
            revision: Revision(0),
            weight: None,
            subject: None,
            gap: None,
            reason,
        }
    }

    /// One of a group, with the grant that is in force.
    #[must_use]
    pub fn of_group(kind: Kind, state: &ClusterState, group: &GroupName, reason: String) -> Self {
        let grant = state.grants.get(group);
        Self {
            group: Some(group.clone()),
            owner: grant.map(|grant| name(state, grant.owner)),
            epoch: grant.map(|grant| grant.epoch),
            revision: state.revision(),
            ..Self::new(kind, reason)
        }
    }

    fn of_server(
        kind: Kind,
        state: &ClusterState,
        (name, service): (&ServiceName, &VirtualService),
        server: Option<SocketAddr>,
        reason: String,
    ) -> Self {
        Self {
            service: Some(name.clone()),
            real_server: server,
            ..Self::of_group(kind, state, &service.group, reason)
        }
    }
}

fn name(state: &ClusterState, node: NodeId) -> String {
    state
        .nodes
        .get(&node)
        .map_or_else(|| format!("node {node}"), |record| record.description.name.to_string())
}

/// What happened from one state of the cluster to the next: the same on every node that compares these
/// two.
#[must_use]
pub fn between(before: &ClusterState, after: &ClusterState) -> Vec<Occurrence> {
    let mut found = Vec::new();
    if before.revision() != after.revision() {
        let author = after.configuration.as_ref().map(|c| format!("applied by {}", c.author));
        let reason = author.unwrap_or_default();
        let revision = after.revision();
        found.push(Occurrence { revision, ..Occurrence::new(Kind::ConfigurationApplied, reason) });
    }
    found.extend(settled(before, after));
    orders(before, after, &mut found);
    if before.overrides != after.overrides {
        weights(before, after, &mut found);
    }
    for (group, grant) in &after.grants {
        let old = before.grants.get(group);
        if old.is_some_and(|old| old.epoch == grant.epoch) {
            continue;
        }
        let reason = grant.reason.to_string();
        // One that was removed meanwhile has its name in the state before.
        let named = |node| {
            if after.nodes.contains_key(&node) { name(after, node) } else { name(before, node) }
        };
        found.push(Occurrence {
            previous_owner: old.map(|old| named(old.owner)),
            ..Occurrence::of_group(Kind::OwnerChanged, after, group, reason)
        });
    }
    found
}

/// What became of a configuration that had to be confirmed.
fn settled(before: &ClusterState, after: &ClusterState) -> Option<Occurrence> {
    let in_force = after.configuration.as_ref()?;
    let told = |kind, reason| {
        Some(Occurrence { revision: in_force.revision, ..Occurrence::new(kind, reason) })
    };
    if before.revision() != after.revision() && in_force.takes_back.is_some() {
        return told(Kind::ConfigurationReverted, in_force.message.clone());
    }
    let confirmed = in_force.confirmed.as_ref()?;
    let waited = before.unconfirmed.is_some() && before.revision() == after.revision();
    if !waited || after.unconfirmed.is_some() {
        return None;
    }
    told(Kind::ConfigurationConfirmed, format!("confirmed by {}", confirmed.author))
}

fn orders(before: &ClusterState, after: &ClusterState, found: &mut Vec<Occurrence>) {
    let by = |order: &Order| format!("ordered by {}", order.author);
    let revision = after.revision();
    let mut tell = |kind, subject, reason| {
        found.push(Occurrence { revision, subject, ..Occurrence::new(kind, reason) });
    };
    for (node, order) in &after.evacuated {
        if !before.evacuated.contains_key(node) {
            tell(Kind::NodeEvacuated, Some(name(after, *node)), by(order));
        }
    }
    for node in before.evacuated.keys() {
        if !after.evacuated.contains_key(node) && after.nodes.contains_key(node) {
            tell(Kind::NodeRestored, Some(name(after, *node)), String::new());
        }
    }
    match (&before.paused, &after.paused) {
        (None, Some(order)) => tell(Kind::ClusterPaused, None, by(order)),
        (Some(_), None) => tell(Kind::ClusterResumed, None, String::new()),
        (Some(_), Some(_)) | (None, None) => {}
    }
}

fn weights(before: &ClusterState, after: &ClusterState, found: &mut Vec<Occurrence>) {
    for (of, server, to) in after.overrides.iter() {
        let old = before.overrides.get(of, server);
        let Some(service) = after.spec.services.get(of) else { continue };
        if old.is_some_and(|old| old.weight == to.weight) {
            continue;
        }
        let reason = format!("ordered by {}", to.order.author);
        let told =
            Occurrence::of_server(Kind::WeightOrdered, after, (of, service), Some(*server), reason);
        found.push(Occurrence { weight: Some(to.weight), ..told });
    }
    for (of, server, _) in before.overrides.iter() {
        let gone = after.overrides.get(of, server).is_none();
        let service = after.spec.service_with(of, server).filter(|_| gone);
        // That of a real server which left the configuration is no order that was taken back.
        let Some(service) = service else { continue };
        let configured = service.real_servers.iter().find(|real| real.address == *server);
        let reason = "the order was taken back, or its time is over".to_owned();
        let told =
            Occurrence::of_server(Kind::WeightOrdered, after, (of, service), Some(*server), reason);
        found.push(Occurrence { weight: configured.map(|real| real.weight), ..told });
    }
}

/// What a director last saw of its real servers, so that only changes are told.
#[derive(Debug, Default)]
pub struct Seen(BTreeMap<ServiceName, SeenService>);

#[derive(Debug)]
struct SeenService {
    /// Whether too few real servers were up.
    lost: bool,
    /// In the order of the configuration.
    servers: Vec<SeenServer>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct SeenServer {
    address: SocketAddr,
    up: bool,
    weight: u32,
}

impl Seen {
    /// The configuration is another, with these services: the rest is forgotten.
    pub fn configured(&mut self, services: &BTreeMap<ServiceName, VirtualService>) {
        self.0.retain(|name, _| services.contains_key(name));
    }

    /// Looks at the real servers of these services, and tells what is not as it was. What is looked at for
    /// the first time tells nothing, and neither does a weight that another configuration or an order gave
    /// (`configured`).
    pub fn look<'a>(
        &mut self,
        state: &ClusterState,
        services: impl IntoIterator<Item = (&'a ServiceName, &'a VirtualService)>,
        verdicts: &Verdicts,
        configured: bool,
    ) -> Vec<Occurrence> {
        let mut found = Vec::new();
        for (name, service) in services {
            let before = self.0.get(name);
            let shares = desired::shares(service, verdicts, before.is_some_and(|b| b.lost));
            let servers = service.real_servers.iter().map(|server| see(service, server, verdicts));
            let now = SeenService { lost: shares.lost, servers: servers.collect() };
            if let Some(before) = before {
                let of = (name, service);
                // As they come, but for those that a configuration moved: there may be all.
                let mut by_address: Option<BTreeMap<SocketAddr, &SeenServer>> = None;
                for (at, (server, real)) in
                    now.servers.iter().zip(&service.real_servers).enumerate()
                {
                    let same = |old: &&SeenServer| old.address == server.address;
                    let old = before.servers.get(at).filter(same).or_else(|| {
                        let all = || before.servers.iter().map(|old| (old.address, old)).collect();
                        by_address.get_or_insert_with(all).get(&server.address).copied()
                    });
                    let Some(old) = old.filter(|old| *old != server) else { continue };
                    found.extend(told(state, of, (server, real), *old, (verdicts, configured)));
                }
                if before.lost != now.lost {
                    found.push(quorum(state, of, shares.up, now.lost));
                }
            }
            self.0.insert(name.clone(), now);
        }
        found
    }
}

fn see(service: &VirtualService, server: &RealServer, verdicts: &Verdicts) -> SeenServer {
    let up = match desired::standing(service, server, verdicts) {
        Standing::Taking => true,
        // By the table that the daemon before left: one that failed, or one that was drained.
        Standing::Idle => !service.inhibit,
        Standing::Out => false,
    };
    let weight = desired::weight(service, server, verdicts);
    SeenServer { address: server.address, up, weight }
}

fn told(
    state: &ClusterState,
    of: (&ServiceName, &VirtualService),
    (server, real): (&SeenServer, &RealServer),
    old: SeenServer,
    (verdicts, configured): (&Verdicts, bool),
) -> Option<Occurrence> {
    let (_, service) = of;
    let address = server.address;
    let (kind, reason) = match (old.up, server.up) {
        (true, false) => {
            let mut known = desired::targets(service, real).filter_map(|t| verdicts.get(&t));
            let reason = known.find_map(|known| match known {
                Knowledge::Known(Verdict::Down(reason)) => Some(reason.clone()),
                Knowledge::Known(_) | Knowledge::Inherited(_) => None,
            });
            (Kind::RealServerDown, reason.unwrap_or_default())
        }
        (false, true) => (Kind::RealServerUp, "it passes its checks".to_owned()),
        (true, true) if old.weight != server.weight && !configured => {
            (Kind::RealServerWeight, format!("its checks want it, after {}", old.weight))
        }
        (true, true) | (false, false) => return None,
    };
    let told = Occurrence::of_server(kind, state, of, Some(address), reason);
    Some(Occurrence { weight: server.up.then_some(server.weight), ..told })
}

fn quorum(
    state: &ClusterState,
    of: (&ServiceName, &VirtualService),
    up: u64,
    lost: bool,
) -> Occurrence {
    let (_, service) = of;
    let kind = if lost { Kind::QuorumDown } else { Kind::QuorumUp };
    let mut reason =
        format!("real servers of weight {up} are up, the quorum is {}", service.quorum);
    if let (true, Some(sorry)) = (lost, &service.sorry_server) {
        reason.push_str(&format!("; the sorry server {} answers", sorry.address));
    }
    Occurrence::of_server(kind, state, of, None, reason)
}

#[cfg(test)]
mod tests;
