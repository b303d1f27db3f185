//! What the kernel shall hold: the director's goals for addresses and services, and what stands
//! in the way of them.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use super::{
    AddressReport, Announcements, DesiredServices, DeviceAddress, DeviceAddresses, DeviceCondition,
    Director, Effect, GroupName, Instant, ObservedServices, Obstacle, ProbeTarget, Serving,
    Verdict,
};
use crate::desired::{self, Knowledge, NatFamilies};
use crate::id::Role;
use crate::spec::Vip;

/// For how long an address that the kernel refused counts as refused. Long, so that a group whose
/// address every kernel refuses is not handed round between the directors.
const REFUSED_FOR: Duration = Duration::from_secs(300);

/// Which VIPs the kernel shall carry. The newest goal replaces all earlier ones.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct AddressGoal {
    /// Its number; rises with each goal.
    pub sequence: u64,
    /// The VIPs to carry, each only while its time has not come.
    pub wanted: BTreeMap<DeviceAddress, Instant>,
    /// How long the kernel may keep a wanted VIP if nobody refreshes it (`valid_lft`,
    /// ip-address(8); whole seconds).
    pub lifetime: Duration,
    /// Every VIP of the configuration on this node: those that are not wanted shall be gone.
    pub known: DeviceAddresses,
}

/// Which services the kernel shall carry. The newest goal replaces all earlier ones.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct ServiceGoal {
    /// Its number; rises with each goal.
    pub sequence: u64,
    /// The services.
    pub services: DesiredServices,
    /// In which address families the director must forward packets for NAT.
    pub nat: NatFamilies,
}

impl Director {
    pub(super) fn services_found(&mut self, found: ObservedServices, effects: &mut Vec<Effect>) {
        self.found = Some(found);
        self.configuration_changed(effects);
    }

    /// The configuration, or what is known of the kernel, is another: probes and services follow.
    pub(super) fn configuration_changed(&mut self, effects: &mut Vec<Effect>) {
        // A witness has no dataplane and probes nothing.
        if self.config.role == Role::Witness {
            return;
        }
        let Some(found) = &self.found else { return };
        let targets = desired::probe_targets(&self.state.spec);
        self.verdicts.retain(|target, _| targets.contains(target));
        for target in &targets {
            if !self.verdicts.contains_key(target) {
                let knowledge = desired::inherited(&self.state.spec, found, target);
                self.verdicts.insert(target.clone(), knowledge);
            }
        }
        effects.push(Effect::Probe(targets));
        self.aim_services(effects);
    }

    pub(super) fn verdict(
        &mut self,
        target: ProbeTarget,
        verdict: Verdict,
        effects: &mut Vec<Effect>,
    ) {
        // A probe that ended as the configuration changed may speak of what is gone.
        if let Some(known) = self.verdicts.get_mut(&target) {
            *known = Knowledge::Known(verdict);
            self.aim_services(effects);
        }
    }

    fn aim_services(&mut self, effects: &mut Vec<Effect>) {
        if self.state.configuration.is_none() {
            return;
        }
        let services = desired::services(&self.state.spec, &self.verdicts);
        let nat = desired::nat_families(&self.state.spec);
        let last = self.service_goal.as_ref();
        if last.is_some_and(|g| g.services == services && g.nat == nat) {
            return;
        }
        let sequence = last.map_or(1, |goal| goal.sequence + 1);
        let goal = ServiceGoal { sequence, services, nat };
        self.service_goal = Some(goal.clone());
        effects.push(Effect::Services(goal));
    }

    pub(super) fn addresses_applied(
        &mut self,
        now: Instant,
        report: AddressReport,
        effects: &mut Vec<Effect>,
    ) {
        self.refused.retain(|a, at| now.since(*at) < REFUSED_FOR && !report.present.contains(a));
        for address in report.failed.keys().filter(|a| !report.present.contains(a)) {
            self.refused.insert(address.clone(), now);
        }
        self.addresses = report;
        self.tell_releases(effects);
    }

    /// The addresses that this node may serve at `now`, each with the end of its lease.
    fn leased(&self, now: Instant) -> BTreeMap<DeviceAddress, Instant> {
        let guard = self.guard();
        let mut leased = BTreeMap::new();
        for (group, _) in self.owner.groups() {
            let Some(settings) = self.state.spec.groups.get(group) else { continue };
            for (ip, until) in self.owner.addresses(group) {
                let closes = until - guard;
                let vip = settings.addresses.iter().find(|vip| vip.net.addr() == ip);
                let address = vip.and_then(|vip| self.device_address(vip));
                if let Some(address) = address
                    && closes > now
                {
                    leased.insert(address, closes);
                }
            }
        }
        leased
    }

    fn device_address(&self, vip: &Vip) -> Option<DeviceAddress> {
        let device = self.config.devices.get(&vip.interface)?.clone();
        Some(DeviceAddress { device, net: vip.net })
    }

    /// Opens what the leases allow, closes what they no longer do, refreshes the rest.
    pub(super) fn serve(&mut self, now: Instant, effects: &mut Vec<Effect>) {
        let leased = self.leased(now);
        let changed = !leased.keys().eq(self.serving.keys());
        self.serving.retain(|address, _| leased.contains_key(address));
        for (address, until) in &leased {
            let fresh = || Serving { until: *until, announcements: Announcements::opened(now) };
            self.serving.entry(address.clone()).or_insert_with(fresh).until = *until;
        }
        let closing = self.closing.values().any(|c| c.sequence > self.address_sequence);
        let refresh = !self.serving.is_empty() && now >= self.next_refresh;
        if changed || closing || refresh {
            self.aim_addresses(now, leased, effects);
        }
    }

    fn aim_addresses(
        &mut self,
        now: Instant,
        wanted: BTreeMap<DeviceAddress, Instant>,
        effects: &mut Vec<Effect>,
    ) {
        let lease = self.state.timing.lease();
        // The kernel counts whole seconds: the lease rounded up, and one, so that a refresh that
        // is a little late does not take a served address away.
        let whole = lease.as_secs() + u64::from(lease.subsec_nanos() > 0);
        let lifetime = Duration::from_secs(whole + 1);
        self.address_sequence += 1;
        self.next_refresh = now + lifetime / 4;
        let known = desired::vips(&self.state.spec, &self.config.devices);
        let sequence = self.address_sequence;
        effects.push(Effect::Addresses(AddressGoal { sequence, wanted, lifetime, known }));
    }

    /// Announces what is due, once the kernel carries it.
    pub(super) fn announce(&mut self, now: Instant, effects: &mut Vec<Effect>) {
        for (address, serving) in &mut self.serving {
            if serving.announcements.due() <= now && self.addresses.present.contains(address) {
                serving.announcements.sent(now);
                effects.push(Effect::Announce(address.clone(), serving.until));
            }
        }
    }

    /// What keeps this node from owning a group.
    pub(super) fn obstacles_of(&self, now: Instant, group: &GroupName) -> BTreeSet<Obstacle> {
        let mut obstacles = BTreeSet::new();
        let Some(settings) = self.state.spec.groups.get(group) else { return obstacles };
        if self.config.role == Role::Witness {
            return obstacles;
        }
        if self.stopping {
            obstacles.insert(Obstacle::Stopping);
        }
        for vip in &settings.addresses {
            obstacles.extend(self.address_obstacle(now, vip));
        }
        obstacles.extend(self.service_obstacles(group));
        obstacles
    }

    fn address_obstacle(&self, now: Instant, vip: &Vip) -> Option<Obstacle> {
        let Some(address) = self.device_address(vip) else {
            return Some(Obstacle::InterfaceUnknown);
        };
        match self.addresses.devices.get(&address.device) {
            None => return Some(Obstacle::Starting),
            Some(DeviceCondition::Missing) => return Some(Obstacle::DeviceMissing),
            Some(DeviceCondition::Down) => return Some(Obstacle::DeviceDown),
            Some(DeviceCondition::Up) => {}
        }
        let refused = self.refused.get(&address).is_some_and(|&at| now.since(at) < REFUSED_FOR);
        refused.then_some(Obstacle::AddressRefused)
    }

    fn service_obstacles(&self, group: &GroupName) -> BTreeSet<Obstacle> {
        let services = self.state.spec.services.values().filter(|s| s.group == *group);
        let keys: BTreeSet<_> = services.flat_map(desired::keys).collect();
        let mut obstacles = BTreeSet::new();
        let Some(report) = &self.services else {
            obstacles.insert(Obstacle::Starting);
            return obstacles;
        };
        // Without services the group needs no ip_vs, but every VIP needs CAP_NET_ADMIN.
        match report.obstacle {
            Some(Obstacle::NoIpvs) if keys.is_empty() => {}
            Some(obstacle) => {
                obstacles.insert(obstacle);
            }
            None if keys.is_empty() => {}
            None if report.sequence == 0 => {
                obstacles.insert(Obstacle::Starting);
            }
            None if keys.iter().any(|key| report.failed.contains_key(key)) => {
                obstacles.insert(Obstacle::NotProgrammed);
            }
            None => {}
        }
        obstacles
    }
}
