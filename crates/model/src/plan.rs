//! From what is wanted and what is found to an ordered list of actions on the kernel.
//!
//! A pure comparison: it never touches a kernel, and it never plans a change of what is right
//! already. Tests: `plan/tests.rs`.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::net::SocketAddr;

use crate::kernel::{
    ConnectionTimeouts, DesiredServices, Destination, ObservedServices, ServiceKey, ServiceSettings,
};
use crate::spec::{Scheduler, SchedulerFlag, Timeouts};

#[cfg(test)]
mod tests;

/// One change of the kernel's IPVS table. "Already so" is success for each (design §5).
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Action {
    /// Make a virtual service without real servers.
    AddService(ServiceKey, ServiceSettings),
    /// Give a virtual service other settings, keeping its connections.
    SetService(ServiceKey, ServiceSettings),
    /// Remove a virtual service with its real servers.
    DeleteService(ServiceKey),
    /// Add a real server to a virtual service.
    AddDestination(ServiceKey, SocketAddr, Destination),
    /// Give a real server another weight or forwarding method, keeping its connections.
    SetDestination(ServiceKey, SocketAddr, Destination),
    /// Remove a real server from a virtual service.
    DeleteDestination(ServiceKey, SocketAddr),
}

impl Action {
    /// The virtual service that it changes.
    #[must_use]
    pub fn service(&self) -> ServiceKey {
        match self {
            Self::AddService(key, _)
            | Self::SetService(key, _)
            | Self::DeleteService(key)
            | Self::AddDestination(key, _, _)
            | Self::SetDestination(key, _, _)
            | Self::DeleteDestination(key, _) => *key,
        }
    }
}

impl Action {
    /// The real server that it changes; none where it changes a virtual service itself.
    #[must_use]
    pub fn server(&self) -> Option<SocketAddr> {
        match self {
            Self::AddDestination(_, server, _)
            | Self::SetDestination(_, server, _)
            | Self::DeleteDestination(_, server) => Some(*server),
            Self::AddService(..) | Self::SetService(..) | Self::DeleteService(_) => None,
        }
    }

    /// Whether it takes something out of the table.
    #[must_use]
    pub fn deletes(&self) -> bool {
        matches!(self, Self::DeleteService(_) | Self::DeleteDestination(..))
    }
}

/// Those of some actions that are not among the expected ones, in their order. Its time grows with
/// their number, not with its square: there may be a hundred thousand.
#[must_use]
pub fn unexpected<'a>(actions: &'a [Action], expected: &[Action]) -> Vec<&'a Action> {
    let place = |action: &Action| (action.service(), action.server());
    let mut by_place: BTreeMap<_, Vec<&Action>> = BTreeMap::new();
    for action in expected {
        by_place.entry(place(action)).or_default().push(action);
    }
    let known = |action: &Action| {
        by_place.get(&place(action)).is_some_and(|expected| expected.contains(&action))
    };
    actions.iter().filter(|action| !known(action)).collect()
}

/// Does in a table what the action does in the kernel's.
pub fn done(table: &mut ObservedServices, action: &Action) {
    match action {
        Action::AddService(key, settings) | Action::SetService(key, settings) => {
            table.entry(*key).or_default().settings = Some(*settings);
        }
        Action::DeleteService(key) => drop(table.remove(key)),
        Action::AddDestination(key, server, to) | Action::SetDestination(key, server, to) => {
            let service = table.entry(*key).or_default();
            service.destinations.entry(*server).or_default().destination = Some(*to);
        }
        Action::DeleteDestination(key, server) => {
            if let Some(service) = table.get_mut(key) {
                service.destinations.remove(server);
            }
        }
    }
}

impl fmt::Display for Action {
    /// What it does, as the words after "cannot" in an error.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::AddService(key, settings) => {
                write!(f, "add virtual service {key} (scheduler {})", settings.scheduler)
            }
            Self::SetService(key, settings) => {
                write!(f, "change virtual service {key} (scheduler {})", settings.scheduler)
            }
            Self::DeleteService(key) => write!(f, "delete virtual service {key}"),
            Self::AddDestination(key, server, to) => {
                write!(f, "add real server {server} ({to}) to {key}")
            }
            Self::SetDestination(key, server, to) => {
                write!(f, "change real server {server} of {key} to {to}")
            }
            Self::DeleteDestination(key, server) => {
                write!(f, "delete real server {server} from {key}")
            }
        }
    }
}

/// The time-outs that have to be set; `None` where all that are wanted are so already. Those that
/// are not wanted stay as they are.
#[must_use]
pub fn plan_timeouts(wanted: Timeouts, found: ConnectionTimeouts) -> Option<ConnectionTimeouts> {
    let goal = ConnectionTimeouts {
        tcp_s: wanted.tcp_s.unwrap_or(found.tcp_s),
        tcp_fin_s: wanted.tcp_fin_s.unwrap_or(found.tcp_fin_s),
        udp_s: wanted.udp_s.unwrap_or(found.udp_s),
    };
    (goal != found).then_some(goal)
}

/// What has to be done so that the kernel holds what is desired.
///
/// `ours` are the keys that this node programmed at some time: only those are deleted when they
/// are no longer desired; every other service is foreign and left alone. A desired key that stands
/// already is adopted whoever made it, and brought to what is desired in full.
///
/// The order adds before it removes, so that no service is ever without a real server that it had
/// or will have: new services, new real servers, changes, then deletions. A new service of `mh` gets
/// its scheduler last.
#[must_use]
pub fn plan(
    desired: &DesiredServices,
    observed: &ObservedServices,
    ours: &BTreeSet<ServiceKey>,
) -> Vec<Action> {
    let mut new_services = Vec::new();
    let mut new_destinations = Vec::new();
    let mut changes = Vec::new();
    let mut old_destinations = Vec::new();

    for (&key, want) in desired {
        let found = observed.get(&key);
        let mut settings = None;
        match found {
            // It reckons its table anew for each real server (`ip_vs_mh_dest_changed`): once will do.
            None if want.settings.scheduler.as_str() == "mh" && want.destinations.len() > 1 => {
                let none = Scheduler::NONE;
                let scheduler = ServiceSettings { scheduler: none, ..want.settings };
                new_services.push(Action::AddService(key, scheduler));
                changes.push(Action::SetService(key, want.settings));
            }
            None => new_services.push(Action::AddService(key, want.settings)),
            Some(found) if found.settings.as_ref() != Some(&want.settings) => {
                settings = Some(Action::SetService(key, want.settings));
            }
            Some(_) => {}
        }
        // A hashing scheduler falls back before a real server of weight 0 would refuse its clients,
        // and until none has that any more.
        let falls_back = want.settings.flags.iter().any(|flag| flag == SchedulerFlag::One);
        if falls_back {
            changes.extend(settings.take());
        }
        for (&server, &destination) in &want.destinations {
            match found.and_then(|service| service.destinations.get(&server)) {
                None => new_destinations.push(Action::AddDestination(key, server, destination)),
                Some(found) if found.destination != Some(destination) => {
                    changes.push(Action::SetDestination(key, server, destination));
                }
                Some(_) => {}
            }
        }
        changes.extend(settings);
        let found_servers = found.iter().flat_map(|service| service.destinations.keys());
        for &server in found_servers.filter(|server| !want.destinations.contains_key(server)) {
            old_destinations.push(Action::DeleteDestination(key, server));
        }
    }
    let old_services = ours
        .iter()
        .filter(|key| observed.contains_key(key) && !desired.contains_key(key))
        .map(|&key| Action::DeleteService(key));

    let mut actions = new_services;
    actions.append(&mut new_destinations);
    actions.append(&mut changes);
    actions.append(&mut old_destinations);
    actions.extend(old_services);
    actions
}
