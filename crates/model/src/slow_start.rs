//! Slow start: a real server that comes up, or is added to a service that runs, gets its weight in ten
//! steps (`slow_start` of a service). Each director reckons for itself, by its own verdicts. It changes
//! what the kernel holds and nothing else: quorum and the like count the whole weight. Tests:
//! `slow_start/tests.rs`.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::time::Duration;

use crate::desired::{self, Lost, Standing, Verdicts};
use crate::id::ServiceName;
use crate::kernel::{DesiredServices, ServiceKey};
use crate::spec::VirtualService;
use crate::time::Instant;

#[cfg(test)]
mod tests;

/// In how many steps a weight rises.
const STEPS: u32 = 10;

/// A real server on its way to its weight.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Ramp {
    began: Instant,
    over: Duration,
    /// The whole weight; 0 where it takes no connections for another reason.
    whole: u32,
    /// What the kernel knows its service by.
    keys: Vec<ServiceKey>,
}

impl Ramp {
    /// The length of a step. All of one length end at the same moments, whenever they began: were each
    /// to go by its own beginning, the whole table would be set anew for each of thousands that come up
    /// together.
    fn step(&self) -> u64 {
        u64::try_from((self.over / STEPS).as_nanos()).unwrap_or(u64::MAX).max(1)
    }

    fn done(&self, now: Instant) -> u32 {
        let done = (now.0 / self.step()).saturating_sub(self.began.0 / self.step());
        u32::try_from(done).unwrap_or(STEPS).min(STEPS)
    }

    /// From weight 1 by tenths to all of it.
    fn weight(&self, now: Instant) -> u32 {
        let share = u64::from(self.whole) * u64::from(self.done(now)) / u64::from(STEPS);
        u32::try_from(share).unwrap_or(self.whole).max(1).min(self.whole)
    }

    fn next_step(&self, now: Instant) -> Instant {
        Instant((now.0 / self.step() + 1).saturating_mul(self.step()))
    }

    fn end(&self) -> Instant {
        Instant((self.began.0 / self.step() + u64::from(STEPS)).saturating_mul(self.step()))
    }
}

/// A real server that has not got its whole weight yet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Starting {
    /// The weight that it has.
    pub weight: u32,
    /// The one that it will have.
    pub whole: u32,
    /// When.
    pub left: Duration,
}

/// Those that have not got their whole weight yet, of each service.
pub type AllStarting = BTreeMap<ServiceName, BTreeMap<SocketAddr, Starting>>;

/// The real servers of services that start slowly.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct SlowStart {
    /// Whether each took connections by its checks when they were looked at last. A service that is new,
    /// or starts slowly only from now on, is not in it: what it has begins with its whole weight.
    took: BTreeMap<ServiceName, BTreeMap<SocketAddr, bool>>,
    ramps: BTreeMap<ServiceName, BTreeMap<SocketAddr, Ramp>>,
    /// When the next step of any is due: it is asked for with each message.
    next: Option<Instant>,
}

impl SlowStart {
    /// The configuration is another, with these services: the rest is forgotten.
    pub fn configured(&mut self, services: &BTreeMap<ServiceName, VirtualService>) {
        let slow = |name: &ServiceName| {
            services.get(name).is_some_and(|service| !service.slow_start.is_zero())
        };
        self.took.retain(|name, _| slow(name));
        self.ramps.retain(|name, _| slow(name));
    }

    /// Configuration or verdicts of these services are others: whoever takes connections and did not before
    /// begins, and whoever takes none ends.
    pub fn follow<'a>(
        &mut self,
        now: Instant,
        services: impl IntoIterator<Item = (&'a ServiceName, &'a VirtualService)>,
        verdicts: &Verdicts,
        lost: &Lost,
    ) {
        let slow = |(_, service): &(&ServiceName, &VirtualService)| !service.slow_start.is_zero();
        for (name, service) in services.into_iter().filter(slow) {
            let (ramping, took) = (self.ramps.remove(name), self.took.remove(name));
            let (ramping, took) = (ramping.as_ref(), took.as_ref());
            let mut of = Service { now, service, ramping, took, ramps: BTreeMap::new() };
            self.took.insert(name.clone(), of.follow(verdicts, lost.contains(name)));
            if !of.ramps.is_empty() {
                self.ramps.insert(name.clone(), of.ramps);
            }
        }
        self.look_when_next_is_due(now);
    }

    /// Gives those that start the weight that they have by now; says whether that changes anything.
    /// Looks at no others.
    pub fn apply(&mut self, now: Instant, services: &mut DesiredServices) -> bool {
        let mut changed = false;
        for (address, ramp) in self.ramps.values().flatten() {
            let weight = ramp.weight(now);
            for key in &ramp.keys {
                let service = services.get_mut(key);
                let to = service.and_then(|service| service.destinations.get_mut(address));
                // One of weight 0 stays so.
                if let Some(to) = to.filter(|to| to.weight > 0 && weight > 0) {
                    changed |= to.weight != weight;
                    to.weight = weight;
                }
            }
        }
        self.ramps.retain(|_, ramps| {
            ramps.retain(|_, ramp| ramp.done(now) < STEPS);
            !ramps.is_empty()
        });
        self.look_when_next_is_due(now);
        changed
    }

    fn look_when_next_is_due(&mut self, now: Instant) {
        self.next = self.ramps.values().flatten().map(|(_, ramp)| ramp.next_step(now)).min();
    }

    /// When the next step of any is due.
    #[must_use]
    pub fn next_step(&self) -> Option<Instant> {
        self.next
    }

    /// Who has not got its whole weight yet.
    #[must_use]
    pub fn starting(&self, now: Instant) -> AllStarting {
        let of = |ramp: &Ramp| Starting {
            weight: ramp.weight(now),
            whole: ramp.whole,
            left: ramp.end().since(now),
        };
        let below = |(address, ramp): (&SocketAddr, &Ramp)| {
            let starting = of(ramp);
            (starting.weight < starting.whole).then_some((*address, starting))
        };
        let of_service = |(name, ramps): (&ServiceName, &BTreeMap<SocketAddr, Ramp>)| {
            (name.clone(), ramps.iter().filter_map(below).collect())
        };
        self.ramps.iter().map(of_service).collect()
    }
}

/// One service that starts slowly, as it is looked at.
struct Service<'a> {
    now: Instant,
    service: &'a VirtualService,
    ramping: Option<&'a BTreeMap<SocketAddr, Ramp>>,
    took: Option<&'a BTreeMap<SocketAddr, bool>>,
    ramps: BTreeMap<SocketAddr, Ramp>,
}

impl Service<'_> {
    fn follow(&mut self, verdicts: &Verdicts, lost: bool) -> BTreeMap<SocketAddr, bool> {
        let service = self.service;
        let shares = desired::shares(service, verdicts, lost);
        let mut taking = BTreeMap::new();
        for (server, weight) in service.real_servers.iter().zip(&shares.weights) {
            let address = server.address;
            let takes = desired::standing(service, server, verdicts) == Standing::Taking;
            taking.insert(address, takes);
            // Where too few are up, all serve, the dead with their whole weight. And what an operator
            // ordered counts at once.
            if !takes || shares.floored || service.ordered.contains(&address) {
                continue;
            }
            let ramping = self.ramping.and_then(|ramps| ramps.get(&address));
            let comes = self.took.is_some_and(|took| took.get(&address) != Some(&true));
            let began = ramping.map(|ramp| ramp.began).or(comes.then_some(self.now));
            let Some(began) = began else { continue };
            let keys = desired::keys(service).into_iter().collect();
            let whole = weight.unwrap_or(0);
            let ramp = Ramp { began, over: service.slow_start, whole, keys };
            if ramp.done(self.now) < STEPS {
                self.ramps.insert(address, ramp);
            }
        }
        taking
    }
}
