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

/// Real servers that may be leaving at once; more than these leave without their time.
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
pub struct Leaving(BTreeMap<(ServiceKey, SocketAddr), Remains>);

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
        if self.0.is_empty() && !old.drains() && !new.drains() {
            return;
        }
        let stays = new.servers();
        let groups = after.groups.values().flat_map(|group| &group.addresses);
        let vips: BTreeSet<IpAddr> = groups.map(|vip| vip.net.addr()).collect();
        // Else nothing comes for it.
        let is_served = |service: &VirtualService| {
            service.listen.iter().any(|listen| vips.contains(&listen.address.ip()))
        };
        // A kernel that synchronises connections takes no real server of another family.
        let mixed = |key: &ServiceKey, server: &SocketAddr| {
            after.sync.is_some() && key.family() != Family::of(server.ip())
        };
        self.0.retain(|place, remains| {
            let (key, server) = place;
            if let Some((_, service)) = new.0.get(key) {
                remains.until = remains.until.min(now + service.drain);
            }
            !stays.contains(place) && !mixed(key, server) && is_served(&remains.service.1)
        });
        let mut formers: BTreeMap<&ServiceName, Arc<VirtualService>> = BTreeMap::new();
        for (place, destination) in table {
            let (key, server) = &place;
            if self.0.contains_key(&place) || stays.contains(&place) || mixed(key, server) {
                continue;
            }
            let Some(&(name, service)) = new.0.get(key).or_else(|| old.0.get(key)) else {
                continue;
            };
            if service.drain.is_zero() || !is_served(service) {
                continue;
            }
            if self.0.len() >= LEAVING_MAX {
                break;
            }
            let bare = || Arc::new(VirtualService { real_servers: Vec::new(), ..service.clone() });
            let former = Arc::clone(formers.entry(name).or_insert_with(bare));
            let remains = Remains {
                service: (name.clone(), former),
                destination: Destination { weight: 0, ..destination },
                until: now + service.drain,
            };
            self.0.insert(place, remains);
        }
        self.expire(now);
    }

    /// Forgets those whose time is over; says whether there were any.
    pub fn expire(&mut self, now: Instant) -> bool {
        let before = self.0.len();
        self.0.retain(|_, remains| remains.until > now);
        self.0.len() < before
    }

    /// When the next one's time is over.
    #[must_use]
    pub fn next_end(&self) -> Option<Instant> {
        self.0.values().map(|remains| remains.until).min()
    }

    /// Puts them beside what the configuration wants.
    pub fn add_to(&self, desired: &mut DesiredServices) {
        for ((key, server), remains) in &self.0 {
            let service = desired.entry(*key).or_insert_with(|| {
                let settings = desired::settings(&remains.service.1, key.family());
                DesiredService { settings, destinations: BTreeMap::new() }
            });
            service.destinations.entry(*server).or_insert(remains.destination);
            desired::heed_idle(service);
        }
    }

    /// Each of them, once for all keys of its service.
    #[must_use]
    pub fn leavers(&self, now: Instant) -> Vec<Leaver> {
        let mut leavers: BTreeMap<(&ServiceName, SocketAddr), Leaver> = BTreeMap::new();
        for ((_, address), remains) in &self.0 {
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
