//! What a director's kernel shall hold, from the configuration and from the probes' verdicts.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::sync::Arc;

use crate::id::{DeviceName, InterfaceName, ServiceName};
use crate::kernel::{
    DesiredService, DesiredServices, Destination, DeviceAddress, Family, MarkRule, MarkRules,
    ObservedServices, ServiceKey, ServiceSettings,
};
use crate::probe::{ProbeTarget, Verdict};
use crate::spec::{
    ClusterSpec, Forward, Listen, RealServer, SchedulerFlag, Via, VirtualService, WEIGHT_MAX,
};

/// What is known of one target.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Knowledge {
    /// Probed.
    Known(Verdict),
    /// Not probed yet since this daemon started; until then what its kernel held counts.
    Inherited(Standing),
}

/// How a kernel held a real server.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Standing {
    /// It took connections, or the service was not there.
    Taking,
    /// It stood with weight 0, though it should have another: it was drained, or inhibited. Its
    /// connections go on.
    Idle,
    /// It was missing.
    Out,
}

impl Knowledge {
    /// What it does to the table: the standing that it gives the real server.
    #[must_use]
    pub fn effect(&self) -> Standing {
        match self {
            Self::Known(Verdict::Up | Verdict::Weighs(_)) => Standing::Taking,
            Self::Known(Verdict::Down(_)) => Standing::Out,
            Self::Inherited(standing) => *standing,
        }
    }

    /// The weight that the real server should have by it.
    #[must_use]
    pub fn weight(&self) -> Option<u32> {
        match self {
            Self::Known(Verdict::Weighs(weight)) => Some(*weight),
            Self::Known(Verdict::Up | Verdict::Down(_)) | Self::Inherited(_) => None,
        }
    }

    /// Whether the real server takes new connections.
    #[must_use]
    pub fn is_up(&self) -> bool {
        self.effect() == Standing::Taking
    }
}

/// What is known of every target.
pub type Verdicts = BTreeMap<ProbeTarget, Knowledge>;

/// Everything that the configuration wants probed.
#[must_use]
pub fn probe_targets(spec: &ClusterSpec) -> BTreeSet<ProbeTarget> {
    let mut targets = BTreeSet::new();
    for service in spec.services.values() {
        targets
            .extend(service.real_servers.iter().flat_map(|server| self::targets(service, server)));
    }
    targets
}

/// What is probed for one real server of a service: it is up while all of it is.
pub fn targets(service: &VirtualService, server: &RealServer) -> impl Iterator<Item = ProbeTarget> {
    let own = server.address;
    service.checks_of(&own).iter().map(move |check| {
        let (ip, port) = (check.address.unwrap_or(own.ip()), check.port.unwrap_or(own.port()));
        let through = match check.via {
            Via::Direct => None,
            Via::Forwarding => service.through(server),
        };
        ProbeTarget { address: SocketAddr::new(ip, port), check: Arc::clone(check), through }
    })
}

/// Whether any real server of a service is probed by one of these.
#[must_use]
pub fn is_probed_by(service: &VirtualService, looked_for: &BTreeSet<ProbeTarget>) -> bool {
    let mut all = service.real_servers.iter().flat_map(|server| targets(service, server));
    all.any(|target| looked_for.contains(&target))
}

/// What the targets of a real server together say of it.
pub(crate) fn standing(
    service: &VirtualService,
    server: &RealServer,
    verdicts: &Verdicts,
) -> Standing {
    let known = targets(service, server).filter_map(|target| verdicts.get(&target));
    known.map(Knowledge::effect).max().unwrap_or(Standing::Taking)
}

/// What a starting daemon may take as known of its targets: where the kernel already carries the
/// service, a real server that is missing there was found down by the daemon before, and putting it
/// back unprobed would send clients to it. One that stands with weight 0 stays so: what drained it
/// may not be applied here yet. A target that is not named counts as its check says.
#[must_use]
pub fn inherited(spec: &ClusterSpec, found: &ObservedServices) -> BTreeMap<ProbeTarget, Standing> {
    let mut standings = BTreeMap::new();
    for service in spec.services.values() {
        let keys = keys(service);
        let observed: Vec<_> = keys.iter().filter_map(|key| found.get(key)).collect();
        if observed.is_empty() {
            continue;
        }
        for server in &service.real_servers {
            let in_table = observed.iter().map(|table| {
                let found = table.destinations.get(&server.address);
                let weight = found.and_then(|found| found.destination).map(|to| to.weight);
                match weight {
                    None => Standing::Out,
                    Some(0) if server.weight > 0 => Standing::Idle,
                    Some(_) => Standing::Taking,
                }
            });
            let found = in_table.max().unwrap_or(Standing::Taking);
            for target in targets(service, server) {
                let standing = standings.entry(target).or_insert(found);
                *standing = found.max(*standing);
            }
        }
    }
    standings
}

/// The kernel's keys of a service: one for each address it listens on, or, by firewall mark, one for
/// each family.
#[must_use]
pub fn keys(service: &VirtualService) -> BTreeSet<ServiceKey> {
    let key = |listen: &Listen| match service.mark {
        Some(mark) => ServiceKey::Marked { mark, family: Family::of(listen.address.ip()) },
        None => ServiceKey::at(listen.protocol, listen.address),
    };
    service.listen.iter().map(key).collect()
}

/// Everything that gets a firewall mark.
#[must_use]
pub fn marks(spec: &ClusterSpec) -> MarkRules {
    let mut rules = MarkRules::new();
    for service in spec.services.values() {
        let Some(mark) = service.mark else { continue };
        rules.extend(service.listen.iter().map(|listen| MarkRule {
            address: listen.address.ip(),
            protocol: listen.protocol,
            ports: (listen.address.port(), listen.last_port),
            mark,
        }));
    }
    rules
}

/// The weight of a real server that takes connections, by its configuration and its checks: each of
/// those that say one adds by how much it differs (keepalived.conf(5), MISC_CHECK). An operator's
/// order stands, and so does a weight of 0.
pub(crate) fn weight(service: &VirtualService, server: &RealServer, verdicts: &Verdicts) -> u32 {
    if server.weight == 0 || service.ordered.contains(&server.address) {
        return server.weight;
    }
    let own = i64::from(server.weight);
    let wanted = targets(service, server).filter_map(|t| verdicts.get(&t)?.weight());
    let sum = wanted.fold(own, |sum, wanted| sum.saturating_add(i64::from(wanted) - own));
    u32::try_from(sum.clamp(0, i64::from(WEIGHT_MAX))).unwrap_or(WEIGHT_MAX)
}

/// The weight that a real server shall have in the kernel; `None`: it is not in the table.
fn effective_weight(
    service: &VirtualService,
    server: &RealServer,
    verdicts: &Verdicts,
) -> Option<u32> {
    match (standing(service, server, verdicts), service.inhibit) {
        (Standing::Taking, _) => Some(weight(service, server, verdicts)),
        (Standing::Idle, _) | (Standing::Out, true) => Some(0),
        (Standing::Out, false) => None,
    }
}

/// What becomes of a service's real servers, all of them considered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Shares {
    /// The weight of each real server in the kernel, in the order of the configuration; `None`: it is
    /// not in the table.
    pub weights: Vec<Option<u32>>,
    /// The weight of those that take connections by their checks alone.
    pub up: u64,
    /// Whether that is too little: the sorry server answers, where there is one.
    pub lost: bool,
    /// Whether fewer real servers than `min_up` are up, so that all of them serve.
    pub floored: bool,
}

/// Services whose real servers were too few when they were looked at last: it takes more to bring them
/// back than it took to lose them (hysteresis).
pub type Lost = BTreeSet<ServiceName>;

/// What becomes of a service's real servers, which were too few before or were not.
#[must_use]
pub fn shares(service: &VirtualService, verdicts: &Verdicts, was_lost: bool) -> Shares {
    let own = service.real_servers.iter().map(|s| effective_weight(service, s, verdicts));
    let mut weights: Vec<Option<u32>> = own.collect();
    let up = weights.iter().flatten().map(|weight| u64::from(*weight)).sum::<u64>();
    let (quorum, hysteresis) = (u64::from(service.quorum), u64::from(service.hysteresis));
    let lost = if was_lost { up < quorum + hysteresis } else { up + hysteresis < quorum };
    let taking = weights.iter().filter(|weight| weight.is_some_and(|w| w > 0)).count();
    let floored = u32::try_from(taking).is_ok_and(|taking| taking < service.min_up);
    for (weight, server) in weights.iter_mut().zip(&service.real_servers) {
        if floored && standing(service, server, verdicts) == Standing::Out {
            *weight = Some(server.weight);
        } else if lost && service.sorry_server.is_some() {
            // Its connections go on.
            *weight = weight.map(|_| 0);
        }
    }
    Shares { weights, up, lost, floored }
}

/// Those of these services whose real servers are too few.
#[must_use]
pub fn lost<'a>(
    services: impl IntoIterator<Item = (&'a ServiceName, &'a VirtualService)>,
    verdicts: &Verdicts,
    before: &Lost,
) -> Lost {
    let is_lost = |(name, service): &(&ServiceName, &VirtualService)| {
        shares(service, verdicts, before.contains(*name)).lost
    };
    // Nothing to remember of those that come back as they went.
    let damped = services.into_iter().filter(|(_, service)| service.hysteresis > 0);
    damped.filter(is_lost).map(|(name, _)| name.clone()).collect()
}

/// What a director's kernel shall carry for these virtual services, owner or not (warm standby).
#[must_use]
pub fn services<'a>(
    services: impl IntoIterator<Item = (&'a ServiceName, &'a VirtualService)>,
    verdicts: &Verdicts,
    lost: &Lost,
) -> DesiredServices {
    let mut desired = DesiredServices::new();
    for (name, service) in services {
        let shares = shares(service, verdicts, lost.contains(name));
        let servers = service.real_servers.iter().zip(shares.weights);
        let mut destinations: BTreeMap<_, _> = servers
            .filter_map(|(server, weight)| Some((server.address, destination(server, weight?))))
            .collect();
        if let (Some(sorry), true) = (&service.sorry_server, shares.lost) {
            destinations.insert(sorry.address, destination(sorry, sorry.weight));
        }
        for key in keys(service) {
            let settings = settings(service, key.family());
            let mut service = DesiredService { settings, destinations: destinations.clone() };
            heed_idle(&mut service);
            desired.insert(key, service);
        }
    }
    desired
}

/// The service's own settings under a key of this family.
#[must_use]
pub fn settings(service: &VirtualService, family: Family) -> ServiceSettings {
    let settings = ServiceSettings {
        scheduler: service.scheduler,
        flags: service.flags,
        persistence: service.persistence,
        one_packet: service.one_packet,
    };
    settings.of_family(family)
}

/// A hashing scheduler gives a real server of weight 0 its clients too, and refuses them then, unless
/// it falls back.
pub fn heed_idle(service: &mut DesiredService) {
    let DesiredService { settings, destinations } = service;
    if settings.scheduler.hashes() && destinations.values().any(|to| to.weight == 0) {
        settings.flags = settings.flags.iter().chain([SchedulerFlag::One]).collect();
    }
}

fn destination(server: &RealServer, weight: u32) -> Destination {
    Destination { forward: server.forward, weight, thresholds: server.thresholds }
}

/// Whether a service chooses by hashing alone, so that every director chooses alike.
#[must_use]
pub fn hashed(spec: &ClusterSpec) -> bool {
    spec.services.values().any(|service| service.scheduler.hashes())
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
    let servers = spec
        .services
        .values()
        .flat_map(|service| service.real_servers.iter().chain(&service.sorry_server));
    let mut families = NatFamilies::default();
    for server in servers.filter(|server| server.forward == Forward::Nat) {
        families.ipv4 |= server.address.is_ipv4();
        families.ipv6 |= server.address.is_ipv6();
    }
    families
}

#[cfg(test)]
mod tests;
