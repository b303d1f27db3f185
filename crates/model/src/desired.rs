//! What a director's kernel shall hold, from the configuration and from the probes' verdicts.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::sync::Arc;

use crate::id::{DeviceName, InterfaceName};
use crate::kernel::{
    DesiredService, DesiredServices, Destination, DeviceAddress, Family, MarkRule, MarkRules,
    ObservedServices, ServiceKey, ServiceSettings,
};
use crate::probe::{ProbeTarget, Verdict};
use crate::spec::{
    ClusterSpec, Forward, Listen, RealServer, SchedulerFlag, VirtualService, WEIGHT_MAX,
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
        ProbeTarget { address: SocketAddr::new(ip, port), check: Arc::clone(check) }
    })
}

/// What the targets of a real server together say of it.
fn standing(service: &VirtualService, server: &RealServer, verdicts: &Verdicts) -> Standing {
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
fn weight(service: &VirtualService, server: &RealServer, verdicts: &Verdicts) -> u32 {
    if server.weight == 0 || service.ordered.contains(&server.address) {
        return server.weight;
    }
    let own = i64::from(server.weight);
    let wanted = targets(service, server).filter_map(|t| verdicts.get(&t)?.weight());
    let sum = wanted.fold(own, |sum, wanted| sum.saturating_add(i64::from(wanted) - own));
    u32::try_from(sum.clamp(0, i64::from(WEIGHT_MAX))).unwrap_or(WEIGHT_MAX)
}

/// The weight that a real server shall have in the kernel; `None`: it is not in the table.
#[must_use]
pub fn effective_weight(
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

/// The sorry server of a service, if it has one and no real server takes new connections.
#[must_use]
pub fn sorry<'s>(service: &'s VirtualService, verdicts: &Verdicts) -> Option<&'s RealServer> {
    let mut weights =
        service.real_servers.iter().filter_map(|s| effective_weight(service, s, verdicts));
    if weights.any(|weight| weight > 0) { None } else { service.sorry_server.as_ref() }
}

/// Every virtual service that a director's kernel shall carry, owner or not (warm standby).
#[must_use]
pub fn services(spec: &ClusterSpec, verdicts: &Verdicts) -> DesiredServices {
    let mut desired = DesiredServices::new();
    for service in spec.services.values() {
        let mut destinations: BTreeMap<_, _> = service
            .real_servers
            .iter()
            .filter_map(|server| {
                let weight = effective_weight(service, server, verdicts)?;
                Some((server.address, destination(server, weight)))
            })
            .collect();
        if let Some(sorry) = sorry(service, verdicts) {
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
mod tests {
    use super::*;
    use crate::spec::document::Format;
    use crate::spec::read::parse;

    const SOURCE: &str = "group.web = { interface = \"public\", addresses = [\"192.0.2.80\"] }\n\
        [service.web]\ngroup = \"web\"\nlisten = \"tcp/192.0.2.80:80\"\nscheduler = \"mh\"\n\
        persistence = \"50s\"\nflags = \"port\"\ncheck = { type = \"tcp\" }\nsorry_server = \"192.0.2.9\"\n\
        real_servers = [{ address = \"192.0.2.16\", upper_threshold = 9 }, \
        { address = \"192.0.2.17\", weight = 0 }]\n";

    fn desired(source: &str, up: bool) -> DesiredService {
        let spec = parse(source, Format::Toml).unwrap();
        let knowledge = || match up {
            true => Knowledge::Known(Verdict::Up),
            false => Knowledge::Known(Verdict::Down("no answer".to_owned())),
        };
        let verdicts = probe_targets(&spec).into_iter().map(|t| (t, knowledge())).collect();
        services(&spec, &verdicts).into_values().next().unwrap()
    }

    fn weights(service: &DesiredService) -> Vec<(String, u32)> {
        let weight = |(at, to): (&std::net::SocketAddr, &Destination)| (at.to_string(), to.weight);
        service.destinations.iter().map(weight).collect()
    }

    #[test]
    fn what_the_configuration_says_reaches_the_kernel() {
        let service = desired(SOURCE, true);
        let settings = service.settings;
        assert_eq!(settings.flags.words(settings.scheduler), "mh-fallback,mh-port");
        assert_eq!(settings.persistence.map(|persistence| persistence.prefix), Some(32));
        let first = service.destinations.values().next().unwrap();
        assert_eq!(first.thresholds.upper, 9);
    }

    /// One prefix stands for all addresses: what no network of IPv4 has would never read back.
    #[test]
    fn a_service_of_both_families_has_a_prefix_of_each() {
        let both = SOURCE.replace("addresses = [", "addresses = [\"2001:db8::80\", ").replace(
            "listen = \"tcp/192.0.2.80:80\"",
            "listen = [\"tcp/192.0.2.80:80\", \
                      \"tcp/[2001:db8::80]:80\"]\nforward = \"TUN\"",
        );
        let spec = parse(&both, Format::Toml).unwrap();
        let prefixes: Vec<_> = services(&spec, &Verdicts::new())
            .into_iter()
            .map(|(key, service)| (key.family(), service.settings.persistence))
            .map(|(family, persistence)| (family, persistence.unwrap().prefix))
            .collect();
        assert_eq!(prefixes, [(Family::V4, 32), (Family::V6, 128)]);
    }

    /// They choose it for some clients whatever its weight, and refuse those.
    #[test]
    fn a_hashing_scheduler_falls_back_while_a_real_server_is_drained() {
        let words = |source: &str, up| {
            let settings = desired(source, up).settings;
            settings.flags.words(settings.scheduler)
        };
        let drained = |source: &str| words(source, true);
        assert_eq!(drained(SOURCE), "mh-fallback,mh-port");
        assert_eq!(drained(&SOURCE.replace("weight = 0", "weight = 1")), "mh-port");
        assert_eq!(
            drained(&SOURCE.replace("\"mh\"", "\"wlc\"").replace("flags = \"port\"\n", "")),
            ""
        );
        let inhibit = SOURCE.replace("flags", "inhibit = true\nflags");
        assert_eq!(words(&inhibit, false), "mh-fallback,mh-port");
    }

    #[test]
    fn checks_may_change_a_weight_but_not_that_of_a_drained_real_server() {
        let source = SOURCE
            .replace(
                "check = { type = \"tcp\" }",
                "check = [{ type = \"tcp\" }, \
            { type = \"exec\", command = [\"/bin/a\"], dynamic = true }, \
            { type = \"exec\", command = [\"/bin/b\"], dynamic = true }]",
            )
            .replace("upper_threshold = 9", "weight = 10");
        let mut spec = parse(&source, Format::Toml).unwrap();
        let mut shown = |said: [u32; 2], ordered: bool| {
            let service = spec.services.values_mut().next().unwrap();
            let address = service.real_servers[0].address;
            service.ordered = ordered.then_some(address).into_iter().collect();
            let mut said = said.into_iter().cycle();
            let verdict = |target: ProbeTarget| match target.check.kind {
                crate::spec::CheckKind::Exec(_) => {
                    (target, Knowledge::Known(Verdict::Weighs(said.next().unwrap())))
                }
                _ => (target, Knowledge::Known(Verdict::Up)),
            };
            let verdicts = probe_targets(&spec).into_iter().map(verdict).collect();
            weights(&services(&spec, &verdicts).into_values().next().unwrap())
                .into_iter()
                .map(|(_, weight)| weight)
                .collect::<Vec<_>>()
        };
        assert_eq!(shown([10, 30], false), [30, 0]);
        assert_eq!(shown([12, 11], false), [13, 0]);
        assert_eq!(shown([0, 0], false), [1, 0, 0], "and the sorry server's");
        assert_eq!(shown([12, 11], true), [10, 0], "an operator's order stands");
    }

    #[test]
    fn a_sorry_server_takes_connections_only_while_no_real_server_does() {
        let at = |host: u8, weight| (format!("192.0.2.{host}:80"), weight);
        assert_eq!(weights(&desired(SOURCE, true)), [at(16, 1), at(17, 0)]);
        assert_eq!(weights(&desired(SOURCE, false)), [at(9, 1)]);
        // What stays with weight 0 takes none, either: failed ones, and those that are drained.
        let inhibit = SOURCE.replace("flags", "inhibit = true\nflags");
        assert_eq!(weights(&desired(&inhibit, false)), [at(9, 1), at(16, 0), at(17, 0)]);
        let drained = SOURCE.replace("upper_threshold = 9", "weight = 0");
        assert_eq!(weights(&desired(&drained, true)), [at(9, 1), at(16, 0), at(17, 0)]);
        let none = SOURCE.replace("sorry_server = \"192.0.2.9\"\n", "");
        assert_eq!(weights(&desired(&none, false)), []);
    }
}
