//! What a director's kernel shall hold, from the configuration and from the probes' verdicts.

use std::collections::{BTreeMap, BTreeSet};

use crate::id::{DeviceName, InterfaceName};
use crate::kernel::{
    DesiredService, DesiredServices, Destination, DeviceAddress, ObservedServices, ServiceKey,
    ServiceSettings,
};
use crate::probe::{ProbeTarget, Verdict};
use crate::spec::{ClusterSpec, Forward, RealServer, VirtualService};

/// What is known of one target.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Knowledge {
    /// Probed.
    Known(Verdict),
    /// Not probed yet since this daemon started; until then what its kernel held counts.
    Inherited {
        /// Whether the kernel held it as a server that takes connections.
        up: bool,
    },
}

impl Knowledge {
    /// Whether the real server takes new connections.
    #[must_use]
    pub fn is_up(&self) -> bool {
        matches!(self, Self::Known(Verdict::Up) | Self::Inherited { up: true })
    }
}

/// What is known of every target.
pub type Verdicts = BTreeMap<ProbeTarget, Knowledge>;

/// Everything that the configuration wants probed.
#[must_use]
pub fn probe_targets(spec: &ClusterSpec) -> BTreeSet<ProbeTarget> {
    let mut targets = BTreeSet::new();
    for service in spec.services.values() {
        targets.extend(service.real_servers.iter().filter_map(|server| target(service, server)));
    }
    targets
}

/// What is probed for one real server of a service.
#[must_use]
pub fn target(service: &VirtualService, server: &RealServer) -> Option<ProbeTarget> {
    let check = service.check.clone()?;
    Some(ProbeTarget { address: server.address, check })
}

/// What a starting daemon may take as known of a target: where the kernel already carries the
/// service, a real server that is missing there (or stands with weight 0 though it should not) was
/// found down by the daemon before, and putting it back unprobed would send clients to it.
#[must_use]
pub fn inherited(spec: &ClusterSpec, found: &ObservedServices, target: &ProbeTarget) -> Knowledge {
    let mut up = true;
    for service in spec.services.values().filter(|s| s.check.as_ref() == Some(&target.check)) {
        for server in service.real_servers.iter().filter(|s| s.address == target.address) {
            for key in keys(service) {
                let Some(observed) = found.get(&key) else { continue };
                let weight = observed
                    .destinations
                    .get(&server.address)
                    .and_then(|destination| destination.destination)
                    .map(|destination| destination.weight);
                let taken_out = weight.is_none() || (weight == Some(0) && server.weight > 0);
                up = up && !taken_out;
            }
        }
    }
    Knowledge::Inherited { up }
}

/// The kernel's keys of a service, one for each address it listens on.
pub fn keys(service: &VirtualService) -> impl Iterator<Item = ServiceKey> {
    service.listen.iter().map(|l| ServiceKey { protocol: l.protocol, address: l.address })
}

/// The weight that a real server shall have in the kernel; `None`: it is not in the table.
#[must_use]
pub fn effective_weight(
    service: &VirtualService,
    server: &RealServer,
    verdicts: &Verdicts,
) -> Option<u32> {
    let up = match target(service, server) {
        None => true,
        Some(target) => verdicts.get(&target).is_none_or(Knowledge::is_up),
    };
    match (up, service.inhibit) {
        (true, _) => Some(server.weight),
        (false, true) => Some(0),
        (false, false) => None,
    }
}

/// Every virtual service that a director's kernel shall carry, owner or not (warm standby).
#[must_use]
pub fn services(spec: &ClusterSpec, verdicts: &Verdicts) -> DesiredServices {
    let mut desired = DesiredServices::new();
    for service in spec.services.values() {
        let settings =
            ServiceSettings { scheduler: service.scheduler, persistence: service.persistence };
        let destinations: BTreeMap<_, _> = service
            .real_servers
            .iter()
            .filter_map(|server| {
                let weight = effective_weight(service, server, verdicts)?;
                Some((server.address, Destination { forward: server.forward, weight }))
            })
            .collect();
        for key in keys(service) {
            let service =
                DesiredService { settings: settings.clone(), destinations: destinations.clone() };
            desired.insert(key, service);
        }
    }
    desired
}

/// Every VIP of the configuration on this node's devices, wanted now or not.
#[must_use]
pub fn vips(
    spec: &ClusterSpec,
    devices: &BTreeMap<InterfaceName, DeviceName>,
) -> BTreeSet<DeviceAddress> {
    let mut vips = BTreeSet::new();
    for vip in spec.groups.values().flat_map(|group| &group.addresses) {
        if let Some(device) = devices.get(&vip.interface) {
            vips.insert(DeviceAddress { device: device.clone(), net: vip.net });
        }
    }
    vips
}

/// The address families in which real servers are reached by NAT, so that the director must
/// forward packets.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct NatFamilies {
    /// IPv4.
    pub ipv4: bool,
    /// IPv6.
    pub ipv6: bool,
}

/// The address families in which any real server is reached by NAT.
#[must_use]
pub fn nat_families(spec: &ClusterSpec) -> NatFamilies {
    let servers = spec.services.values().flat_map(|service| &service.real_servers);
    let mut families = NatFamilies::default();
    for server in servers.filter(|server| server.forward == Forward::Nat) {
        families.ipv4 |= server.address.is_ipv4();
        families.ipv6 |= server.address.is_ipv6();
    }
    families
}
