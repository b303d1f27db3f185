//! What the kernel shall hold: the director's goals for addresses and services, and what stands
//! in the way of them.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use super::{
    AddressReport, Announcements, DesiredServices, DeviceAddress, DeviceAddresses, DeviceCondition,
    Director, Effect, GroupName, Instant, ObservedServices, Obstacle, ProbeTarget, ServiceReport,
    Serving,
};
use crate::desired::{self, Knowledge, NatFamilies, Standing, Verdicts};
use crate::id::{Role, ServiceName};
use crate::kernel::MarkRules;
use crate::routing::{self, RoutingEntry};
use crate::spec::{ClusterSpec, ForeignServices, Timeouts, Vip, VipGroup, VirtualService};
use crate::sync::SyncGoal;

/// For how long an address that the kernel refused counts as refused. Long, so that a group whose
/// address every kernel refuses is not handed round between the directors.
const REFUSED_FOR: Duration = Duration::from_secs(300);

/// How long the kernel keeps a VIP that nobody refreshes (`valid_lft`, ip-address(8)): the second
/// layer of the fence (design §4), for where the first is bypassed.
const LIFETIME: Duration = Duration::from_secs(10);
/// How often it is refreshed while the lease holds.
const REFRESH_EVERY: Duration = Duration::from_millis(2_500);

/// For how long a director that starts over a table that stands already waits to hear of a leader. What
/// the daemon before applied last it may not have written (design §7), and by the configuration before
/// it would take real servers out, and end their connections, only to put them back.
const CATCH_UP_MAX: Duration = Duration::from_secs(5);

/// Which VIPs the kernel shall carry. The newest goal replaces all earlier ones.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct AddressGoal {
    /// Its number; rises with each goal.
    pub sequence: u64,
    /// The VIPs to carry, each with the end of its lease as it was when the goal was set. One whose
    /// time has come may stay, and is added or refreshed only if the fence has been opened anew.
    pub wanted: BTreeMap<DeviceAddress, Instant>,
    /// How long the kernel may keep a wanted VIP if nobody refreshes it.
    pub lifetime: Duration,
    /// Every VIP of the configuration on this node: they are fenced, and those that are not wanted
    /// shall be gone.
    pub known: DeviceAddresses,
    /// The routes and policy rules to hold, each as long as one of these addresses, which are wanted, is carried.
    pub routing: BTreeMap<RoutingEntry, DeviceAddresses>,
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
    /// How long the kernel shall keep connections on which nothing comes.
    pub timeouts: Timeouts,
    /// What gets a firewall mark.
    pub marks: MarkRules,
    /// How connections are synchronised, if they are.
    pub sync: Option<SyncGoal>,
    /// Whether a service of a hashing scheduler is there: any director may take its connections over.
    pub hashed: bool,
    /// What becomes of services that are not these.
    pub foreign: ForeignServices,
}

/// Whether each real server that was probed was up, by all that was probed of it: another check of
/// it may look at another port.
fn up_before(spec: &ClusterSpec, verdicts: &Verdicts) -> BTreeMap<SocketAddr, bool> {
    let mut up = BTreeMap::new();
    for service in spec.services.values() {
        for server in &service.real_servers {
            let known = desired::targets(service, server).filter_map(|t| verdicts.get(&t));
            // Of several services that look at it differently, one that sees it up counts.
            if let Some(all) = known.map(Knowledge::is_up).reduce(|all, is_up| all && is_up) {
                *up.entry(server.address).or_default() |= all;
            }
        }
    }
    up
}

/// The real server of each target; where several have it, one stands for all.
fn servers_of_targets(spec: &ClusterSpec) -> BTreeMap<ProbeTarget, SocketAddr> {
    let mut servers = BTreeMap::new();
    for service in spec.services.values() {
        for server in &service.real_servers {
            for target in desired::targets(service, server) {
                servers.entry(target).or_insert(server.address);
            }
        }
    }
    servers
}

impl Director {
    pub(super) fn services_found(
        &mut self,
        now: Instant,
        found: ObservedServices,
        effects: &mut Vec<Effect>,
    ) {
        self.waits = (!found.is_empty() && !self.is_current()).then_some(now + CATCH_UP_MAX);
        self.found = Some(found);
        self.configuration_changed(now, effects);
    }

    /// Once this node has applied what the cluster has, the kernel's table may be touched.
    pub(super) fn catch_up(&mut self, now: Instant, effects: &mut Vec<Effect>) {
        if self.is_current() && self.waits.take().is_some() {
            self.forget_found();
            self.aim_services(now, effects);
        }
    }

    /// What the kernel held at the start says nothing of a real server that comes later: once all are
    /// known, and it was aimed at what the cluster has, it is not looked at any more.
    pub(super) fn forget_found(&mut self) {
        let is_known = |knowledge: &Knowledge| matches!(knowledge, Knowledge::Known(_));
        let starting = self.found.as_ref().is_some_and(|found| !found.is_empty());
        if starting && self.waits.is_none() && self.verdicts.values().all(is_known) {
            self.found = Some(ObservedServices::new());
        }
    }

    pub(super) fn is_current(&self) -> bool {
        self.heard.is_some_and(|heard| self.state.applied >= heard)
    }

    /// The configuration, or what is known of the kernel, is another: probes and services follow.
    pub(super) fn configuration_changed(&mut self, now: Instant, effects: &mut Vec<Effect>) {
        // A witness has no dataplane and probes nothing.
        if self.config.role == Role::Witness {
            return;
        }
        let Some(found) = &self.found else { return };
        if self.service_goal.is_none() {
            self.leaving.found(now, found, &self.state.spec);
        }
        let before = std::mem::take(&mut self.verdicts);
        let up_before = up_before(&self.probed, &before);
        self.probed = Arc::clone(&self.weighted);
        let found = desired::inherited(&self.weighted, found);
        for (target, server) in servers_of_targets(&self.weighted) {
            let standing = || match up_before.get(&server) {
                // Another check of it: until that has spoken, what the one before said counts.
                Some(true) => Standing::Taking,
                Some(false) => Standing::Out,
                None => found.get(&target).copied().unwrap_or(match target.check.starts_down {
                    true => Standing::Out,
                    false => Standing::Taking,
                }),
            };
            let known = before.get(&target).cloned();
            let knowledge = known.unwrap_or_else(|| Knowledge::Inherited(standing()));
            self.verdicts.insert(target, knowledge);
        }
        self.reaching.recount();
        effects.push(Effect::Probe(self.verdicts.keys().cloned().collect()));
        self.tell_seen(true, effects);
        self.aim_services(now, effects);
    }

    pub(super) fn aim_services(&mut self, now: Instant, effects: &mut Vec<Effect>) {
        if self.state.configuration.is_none() || self.waits.is_some() {
            return;
        }
        let sequence = self.service_goal.as_ref().map_or(0, |goal| goal.sequence);
        let weighted = Arc::clone(&self.weighted);
        self.lost.retain(|name| weighted.services.contains_key(name));
        self.slow_start.configured(&weighted.services);
        let mut services = DesiredServices::new();
        self.reckon(now, &weighted.services, &mut services);
        let goal = ServiceGoal {
            sequence,
            services,
            nat: desired::nat_families(&self.state.spec),
            timeouts: self.state.spec.timeouts,
            marks: desired::marks(&self.state.spec),
            sync: SyncGoal::of(&self.state, self.config.me),
            hashed: desired::hashed(&self.state.spec),
            foreign: self.state.spec.foreign_services,
        };
        self.aim_at(goal, effects);
    }

    /// Puts what the kernel shall hold of these services, as the verdicts are now, in place of what stands there
    /// of them.
    pub(super) fn reckon<'a>(
        &mut self,
        now: Instant,
        of: impl IntoIterator<Item = (&'a ServiceName, &'a VirtualService)> + Clone,
        services: &mut DesiredServices,
    ) {
        let lost = desired::lost(of.clone(), &self.verdicts, &self.lost);
        for (name, _) in of.clone() {
            self.lost.remove(name);
        }
        self.lost.extend(lost);
        services.extend(desired::services(of.clone(), &self.verdicts, &self.lost));
        self.slow_start.follow(now, of, &self.verdicts, &self.lost);
        self.slow_start.apply(now, services);
        self.leaving.add_to(services);
    }

    /// Makes this the goal, with the next number, unless it is already.
    pub(super) fn aim_at(&mut self, mut goal: ServiceGoal, effects: &mut Vec<Effect>) {
        if self.service_goal.as_ref() == Some(&goal) {
            return;
        }
        goal.sequence += 1;
        self.service_goal = Some(goal.clone());
        effects.push(Effect::Services(goal));
    }

    /// Real servers that start slowly get the next of their weight; nothing else is looked at.
    pub(super) fn raise_weights(&mut self, now: Instant, effects: &mut Vec<Effect>) {
        if self.slow_start.next_step().is_none_or(|step| step > now) {
            return;
        }
        let Some(mut goal) = self.service_goal.clone() else { return };
        if self.slow_start.apply(now, &mut goal.services) {
            self.aim_at(goal, effects);
        }
    }

    /// The kernel runs both sync daemons as wanted, or does not.
    pub(super) fn services_applied(&mut self, now: Instant, report: ServiceReport) {
        self.synced_since = match (report.synced, self.synced_since) {
            (true, None) => Some(now),
            (true, since) => since,
            (false, _) => None,
        };
        self.services = Some(report);
        self.look_what_is_programmed();
    }

    /// Which groups have services, and whether the kernel took all of each. Not looked at anew for each
    /// round: there may be ten thousand services.
    pub(super) fn look_what_is_programmed(&mut self) {
        self.programmed.clear();
        let failed = self.services.as_ref().map(|report| &report.failed);
        let failed = failed.filter(|failed| !failed.is_empty());
        let took = |service: &VirtualService| {
            failed
                .is_none_or(|failed| !desired::keys(service).iter().any(|k| failed.contains_key(k)))
        };
        for service in self.state.spec.services.values() {
            match self.programmed.get_mut(&service.group) {
                Some(all) => *all &= took(service),
                None => {
                    self.programmed.insert(service.group.clone(), took(service));
                }
            }
        }
    }

    /// Whether connections are synchronised, and this node has not listened for long enough.
    pub(super) fn is_cold(&self, now: Instant) -> bool {
        let warm = |since: Instant| now.since(since) >= self.state.spec.sync_warmup;
        self.config.role == Role::Director
            && self.state.spec.sync.is_some()
            && !self.synced_since.is_some_and(warm)
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

    /// The addresses of the groups that this node owns, each with the end of its lease. None while
    /// the fence does not stand: nothing would close them.
    fn leased(&self) -> BTreeMap<DeviceAddress, Instant> {
        let mut leased = BTreeMap::new();
        if self.addresses.unfenced.is_some() {
            return leased;
        }
        for (group, _) in self.owner.groups() {
            let Some(settings) = self.state.spec.groups.get(group) else { continue };
            for (ip, until) in self.owner.addresses(group) {
                let vip = settings.addresses.iter().find(|vip| vip.net.addr() == ip);
                if let Some(address) = vip.and_then(|vip| self.device_address(vip)) {
                    leased.insert(address, until);
                }
            }
        }
        leased
    }

    pub(super) fn device_address(&self, vip: &Vip) -> Option<DeviceAddress> {
        let device = self.config.devices.get(&vip.interface)?.clone();
        Some(DeviceAddress { device, net: vip.net })
    }

    /// Opens what the leases allow, lets go of what this node owns no longer, refreshes the rest.
    /// An address whose lease has lapsed stays: the fence is closed, and opens with the next lease.
    pub(super) fn serve(&mut self, now: Instant, effects: &mut Vec<Effect>) {
        let leased = self.leased();
        let before = self.serving.len();
        self.serving.retain(|address, _| leased.contains_key(address));
        let mut changed = self.serving.len() != before;
        let mut lapsed = false;
        for (address, until) in leased {
            let runs = until > now;
            match self.serving.get_mut(&address) {
                None if !runs => {}
                Some(serving) => {
                    lapsed |= serving.open && !runs;
                    if runs && !serving.open {
                        // Its lifetime in the kernel may have run out, and neighbours are told anew.
                        serving.announcements = Announcements::opened(now);
                        changed = true;
                    }
                    (serving.until, serving.open) = (until, runs);
                }
                None => {
                    let announcements = Announcements::opened(now);
                    self.serving.insert(address, Serving { until, open: true, announcements });
                    changed = true;
                }
            }
        }
        if changed || lapsed {
            self.tell_serving(now, effects);
        }
        let closing = self.closing.values().any(|c| c.sequence > self.address_sequence);
        let open = self.serving.values().any(|serving| serving.open);
        let refresh = open && now >= self.next_refresh;
        if changed || closing || refresh {
            self.aim_addresses(now, effects);
        }
    }

    /// The configuration's VIPs are others: the kernel fences them from now on.
    pub(super) fn know_vips(&mut self, now: Instant, effects: &mut Vec<Effect>) {
        let known = desired::vips(&self.state.spec, &self.config.devices);
        if known != self.known || self.routed != self.routed() {
            self.known = known;
            self.aim_addresses(now, effects);
        }
    }

    fn aim_addresses(&mut self, now: Instant, effects: &mut Vec<Effect>) {
        self.address_sequence += 1;
        self.next_refresh = now + REFRESH_EVERY;
        self.routed = self.routed();
        let wanted = self.serving.iter().map(|(address, serving)| (address.clone(), serving.until));
        effects.push(Effect::Addresses(AddressGoal {
            sequence: self.address_sequence,
            wanted: wanted.collect(),
            lifetime: LIFETIME,
            known: self.known.clone(),
            routing: self.routed.clone(),
        }));
    }

    /// Announces what is due, once the kernel carries it.
    pub(super) fn announce(&mut self, now: Instant, effects: &mut Vec<Effect>) {
        for (address, serving) in self.serving.iter_mut().filter(|(_, serving)| serving.open) {
            if serving.announcements.due() <= now && self.addresses.present.contains(address) {
                serving.announcements.sent(now);
                effects.push(Effect::Announce(address.clone(), serving.until));
            }
        }
    }

    /// What keeps this node from owning each group that it knows, if anything does.
    pub(super) fn obstacles(&self, now: Instant) -> BTreeMap<GroupName, BTreeSet<Obstacle>> {
        let of = |(group, settings): (&GroupName, &VipGroup)| {
            (group.clone(), self.obstacles_of(now, group, settings))
        };
        self.state.spec.groups.iter().map(of).collect()
    }

    fn obstacles_of(
        &self,
        now: Instant,
        group: &GroupName,
        settings: &VipGroup,
    ) -> BTreeSet<Obstacle> {
        let mut obstacles = BTreeSet::new();
        if self.config.role == Role::Witness {
            return obstacles;
        }
        if self.stopping {
            obstacles.insert(Obstacle::Stopping);
        }
        if self.addresses.unfenced.is_some() {
            obstacles.insert(Obstacle::FenceNotArmed);
        }
        // To keep a group takes no disk: three full ones must not take every VIP down. Who does not
        // hold it now could not even hear that it has gone to another.
        let holds = || self.owner.lease_until(group).is_some_and(|until| until > now);
        if self.full.is_some() && !holds() {
            obstacles.insert(Obstacle::DiskFull);
        }
        for vip in &settings.addresses {
            obstacles.extend(self.address_obstacle(now, vip));
        }
        if !routing::of_group(settings, &self.config.devices).1.is_empty() {
            obstacles.insert(Obstacle::InterfaceUnknown);
        }
        obstacles.extend(self.service_obstacles(group));
        obstacles.extend(self.fact_obstacles(now, group, settings));
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
        let mut obstacles = BTreeSet::new();
        let Some(report) = &self.services else {
            obstacles.insert(Obstacle::Starting);
            return obstacles;
        };
        let programmed = self.programmed.get(group);
        // Without services the group needs no ip_vs, but every VIP needs CAP_NET_ADMIN.
        match report.obstacle {
            Some(Obstacle::NoIpvs) if programmed.is_none() => {}
            Some(obstacle) => {
                obstacles.insert(obstacle);
            }
            None if programmed.is_none() => {}
            None if report.sequence == 0 => {
                obstacles.insert(Obstacle::Starting);
            }
            None if programmed == Some(&false) => {
                obstacles.insert(Obstacle::NotProgrammed);
            }
            None => {}
        }
        obstacles
    }
}
