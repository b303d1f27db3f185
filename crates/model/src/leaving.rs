//! Real servers that left the configuration and keep their connections for a while (`drain`): they
//! stand with weight 0 until their time is over. Each director reckons for itself, from the same
//! configurations and from what its kernel held when it started. Tests: `leaving/tests.rs`.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use crate::desired;
use crate::id::ServiceName;
use crate::kernel::{
    DesiredService, DesiredServices, Destination, Family, ObservedServices, ServiceKey,
};
use crate::spec::{ClusterSpec, RealServer, VirtualService};
use crate::time::Instant;

#[cfg(test)]
mod tests;

/// Real servers that may be leaving at once, counted for each address that their service listens on;
/// more than these leave without their time.
pub const LEAVING_MAX: usize = 10_000;

/// A real server that leaves a service.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Leaver {
    /// The service's name, and what it was when the real server left it; without real servers.
    pub service: (ServiceName, Arc<VirtualService>),
    /// The real server, with weight 0.
    pub server: RealServer,
    /// For how much longer it keeps its connections.
    pub left: Duration,
}

/// One real server under one key of a service.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Remains {
    service: (ServiceName, Arc<VirtualService>),
    destination: Destination,
    until: Instant,
}

/// The real servers that are leaving.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Leaving {
    remains: BTreeMap<(ServiceKey, SocketAddr), Remains>,
    /// When the next one's time is over: it is asked for with each message.
    next_end: Option<Instant>,
}

/// The services of a configuration by the keys that the kernel knows them by.
struct ByKey<'s>(BTreeMap<ServiceKey, (&'s ServiceName, &'s VirtualService)>);

impl<'s> ByKey<'s> {
    fn new(spec: &'s ClusterSpec) -> Self {
        let of =
            |(name, service)| desired::keys(service).into_iter().map(move |k| (k, (name, service)));
        Self(spec.services.iter().flat_map(of).collect())
    }

    fn drains(&self) -> bool {
        self.0.values().any(|(_, service)| !service.drain.is_zero())
    }

    /// What is configured, whether or not it takes connections.
    fn servers(&self) -> BTreeSet<(ServiceKey, SocketAddr)> {
        let of = |(key, (_, service)): (&ServiceKey, &(&ServiceName, &'s VirtualService))| {
            let key = *key;
            let servers = service.real_servers.iter().chain(&service.sorry_server);
            servers.map(move |server| (key, server.address)).collect::<Vec<_>>()
        };
        self.0.iter().flat_map(of).collect()
    }
}

impl Leaving {
    /// The configuration is `after` now, and was `before`: what the table has and the new one does
    /// not leaves from `now` on, where it is to drain; what came back leaves no more. A drain that is
    /// shorter now counts for those that are leaving already.
    pub fn configured(
        &mut self,
        now: Instant,
        table: &DesiredServices,
        before: &ClusterSpec,
        after: &ClusterSpec,
    ) {
        let of = |(key, service): (&ServiceKey, &DesiredService)| {
            let key = *key;
            let to = |(server, to): (&SocketAddr, &Destination)| ((key, *server), *to);
            service.destinations.iter().map(to).collect::<Vec<_>>()
        };
        self.changed(now, table.iter().flat_map(of), before, after);
    }

    /// What the kernel held when the daemon started: a real server that the configuration does not
    /// have left it lately, or while no daemon ran.
    pub fn found(&mut self, now: Instant, table: &ObservedServices, spec: &ClusterSpec) {
        let entries = table.iter().flat_map(|(key, service)| {
            let key = *key;
            let to = move |(server, found): (&SocketAddr, &crate::kernel::ObservedDestination)| {
                Some(((key, *server), found.destination?))
            };
            service.destinations.iter().filter_map(to).collect::<Vec<_>>()
        });
        self.changed(now, entries, spec, spec);
    }

    fn changed(
        &mut self,
        now: Instant,
        table: impl Iterator<Item = ((ServiceKey, SocketAddr), Destination)>,
        before: &ClusterSpec,
        after: &ClusterSpec,
    ) {
        let (old, new) = (ByKey::new(before), ByKey::new(after));
        if self.remains.is_empty() && !old.drains() && !new.drains() {
            return;
        }
        let stays = new.servers();
        let groups = after.groups.values().flat_map(|group| &group.addresses);
        let vips: BTreeSet<IpAddr> = groups.map(|vip| vip.net.addr()).collect();
        // Else nothing comes for it.
        let is_served = |key: &ServiceKey, service: &VirtualService| match key {
            ServiceKey::At { address, .. } => vips.contains(&address.ip()),
            ServiceKey::Marked { .. } => {
                service.listen.iter().any(|listen| vips.contains(&listen.address.ip()))
            }
        };
        // Who has the key now, else who had it; how long counts by the name, where that is still there.
        let of_key = |key: &ServiceKey| new.0.get(key).or_else(|| old.0.get(key)).copied();
        let drain = |name: &ServiceName, service: &VirtualService| {
            after.services.get(name).map_or(service.drain, |service| service.drain)
        };
        // A kernel that synchronises connections takes no real server of another family.
        let mixed = |key: &ServiceKey, server: &SocketAddr| {
            after.sync.is_some() && key.family() != Family::of(server.ip())
        };
        self.remains.retain(|place, remains| {
            let (key, server) = place;
            let by = new.0.get(key).map_or(&remains.service.0, |(name, _)| *name);
            if let Some(service) = after.services.get(by) {
                remains.until = remains.until.min(now + service.drain);
            }
            !stays.contains(place) && !mixed(key, server) && is_served(key, &remains.service.1)
        });
        let mut formers: BTreeMap<(&ServiceName, bool), Arc<VirtualService>> = BTreeMap::new();
        for (place, destination) in table {
            let (key, server) = &place;
            if self.remains.contains_key(&place) || stays.contains(&place) || mixed(key, server) {
                continue;
            }
            let Some((name, service)) = of_key(key) else { continue };
            let drain = drain(name, service);
            if drain.is_zero() || !is_served(key, service) {
                continue;
            }
            if self.remains.len() >= LEAVING_MAX {
                break;
            }
            let bare = || Arc::new(VirtualService { real_servers: Vec::new(), ..service.clone() });
            let former =
                Arc::clone(formers.entry((name, new.0.contains_key(key))).or_insert_with(bare));
            let remains = Remains {
                service: (name.clone(), former),
                destination: Destination { weight: 0, ..destination },
                until: now + drain,
            };
            self.remains.insert(place, remains);
        }
        self.look_when_next_ends();
        self.expire(now);
    }

    /// Forgets those whose time is over; says whether there were any.
    pub fn expire(&mut self, now: Instant) -> bool {
        if self.next_end.is_none_or(|end| end > now) {
            return false;
        }
        self.remains.retain(|_, remains| remains.until > now);
        self.look_when_next_ends();
        true
    }

    fn look_when_next_ends(&mut self) {
        self.next_end = self.remains.values().map(|remains| remains.until).min();
    }

    /// When the next one's time is over.
    #[must_use]
    pub fn next_end(&self) -> Option<Instant> {
        self.next_end
    }

    /// Puts them beside what the configuration wants.
    pub fn add_to(&self, desired: &mut DesiredServices) {
        let mut touched = BTreeSet::new();
        for ((key, server), remains) in &self.remains {
            let service = desired.entry(*key).or_insert_with(|| {
                let settings = desired::settings(&remains.service.1, key.family());
                DesiredService { settings, destinations: BTreeMap::new() }
            });
            service.destinations.entry(*server).or_insert(remains.destination);
            touched.insert(*key);
        }
        for key in touched {
            if let Some(service) = desired.get_mut(&key) {
                desired::heed_idle(service);
            }
        }
    }

    /// Each of them, once for all keys of its service.
    #[must_use]
    pub fn leavers(&self, now: Instant) -> Vec<Leaver> {
        let mut leavers: BTreeMap<(&ServiceName, SocketAddr), Leaver> = BTreeMap::new();
        for ((_, address), remains) in &self.remains {
            let Destination { forward, weight, thresholds } = remains.destination;
            let left = remains.until.since(now);
            let leaver = leavers.entry((&remains.service.0, *address)).or_insert_with(|| Leaver {
                service: remains.service.clone(),
                server: RealServer { address: *address, weight, forward, thresholds },
                left,
            });
            leaver.left = leaver.left.max(left);
        }
        leavers.into_values().collect()
    }
}
