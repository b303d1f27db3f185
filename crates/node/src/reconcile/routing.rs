//! Keeping the routes and policy rules of VIP groups: part of the address thread's work. They are added after the
//! addresses that they go with, and removed before those; with none of them carried they are removed too. What carries
//! our mark is ours, so nobody else's is touched; the durable list tells the next daemon that there is something
//! to look for. Tests: `reconcile/tests/routing.rs`.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;

use quorate_dataplane::{Dataplane, DataplaneError};
use quorate_model::kernel::{DeviceAddress, DeviceAddresses};
use quorate_model::routing::{Routing, RoutingEntry};
use quorate_model::time::Instant;
use tracing::{info, warn};

use super::addresses::Worker;
use super::list::List;
use super::{ListError, routing_list};
use crate::clock;

/// From one look at them to the next, where nothing is asked: the kernel goes through all of its routes for each.
const LOOK_GAP: Duration = Duration::from_millis(250);

/// What may still stand after it was to be removed, and why.
pub(crate) type Staying = Vec<(RoutingEntry, DataplaneError)>;

/// What is known of them.
#[derive(Debug)]
pub(super) struct Kept {
    /// What may stand: on disk before it is in the kernel.
    listed: List<RoutingEntry>,
    /// What is not as wanted, and why.
    pub(super) failed: BTreeMap<RoutingEntry, String>,
    /// When they are looked at next without being asked.
    next_look: Instant,
}

impl Kept {
    pub(super) fn new(listed: List<RoutingEntry>) -> Self {
        Self { listed, failed: BTreeMap::new(), next_look: Instant::default() }
    }
}

impl Worker {
    /// Whether there is anything to keep, or to remove.
    fn has_routing(&self) -> bool {
        !self.goal.routing.is_empty() || !self.kept.listed.entries().is_empty()
    }

    /// Removes what the goal does not want, before its addresses go. What stays is told afterwards
    /// ([`Self::keep_routing`]).
    pub(super) fn drop_routing(&mut self) {
        if !self.has_routing() {
            return;
        }
        let found = self.dataplane.observe_routing();
        let found = found.unwrap_or_else(|_| self.kept.listed.entries().clone());
        let unwanted = found.into_iter().filter(|entry| !self.goal.routing.contains_key(entry));
        remove(self.dataplane.as_mut(), &unwanted.collect());
    }

    /// Has the kernel hold what goes with an address that it carries, and nothing else; whether what can be told of it
    /// has changed. What stands stays through a lapse; it is added only while a lease runs.
    pub(super) fn keep_routing(&mut self, carried: &DeviceAddresses) -> bool {
        if !self.has_routing() {
            return self.tell(BTreeMap::new());
        }
        self.kept.next_look = clock::now() + LOOK_GAP;
        let mut failed = BTreeMap::new();
        let goal = self.goal.routing.iter();
        let wanted = goal.filter(|(_, with)| with.iter().any(|address| carried.contains(address)));
        let wanted: Routing = wanted.map(|(entry, _)| entry.clone()).collect();
        let (found, missing): (Routing, Routing) = match self.dataplane.observe_routing() {
            Ok(found) => {
                let missing = wanted.difference(&found).filter(|entry| self.is_leased(entry));
                let missing = missing.cloned().collect();
                (found, missing)
            }
            Err(error) => {
                failed.extend(wanted.iter().map(|entry| (entry.clone(), error.to_string())));
                (self.kept.listed.entries().clone(), Routing::new())
            }
        };
        let unwanted = found.difference(&wanted).cloned().collect();
        let stays = remove(self.dataplane.as_mut(), &unwanted);
        let mut may_stand = wanted;
        for (entry, error) in stays {
            failed.insert(entry.clone(), error.to_string());
            may_stand.insert(entry);
        }
        // What is on no list would outlive a crash unknown to the next daemon.
        match self.kept.listed.add(may_stand.iter()) {
            Ok(()) => self.add(&missing, &mut failed),
            Err(error) => {
                failed.extend(missing.into_iter().map(|entry| (entry, error.to_string())));
            }
        }
        if let Err(error) = self.kept.listed.replace(may_stand) {
            warn!(%error, "a route or rule that is gone stays on the list");
        }
        self.tell(failed)
    }

    fn add(&mut self, missing: &Routing, failed: &mut BTreeMap<RoutingEntry, String>) {
        for entry in missing {
            match self.dataplane.add_routing(entry) {
                Ok(()) => info!("added {entry}"),
                Err(error) => {
                    failed.insert(entry.clone(), error.to_string());
                }
            }
        }
    }

    /// Whether the lease of one of its addresses runs.
    fn is_leased(&self, entry: &RoutingEntry) -> bool {
        let now = clock::now();
        let runs = |address: &DeviceAddress| {
            let until = self.goal.wanted.get(address);
            until.is_some_and(|&until| now < self.lease_end(address).max(until))
        };
        self.goal.routing.get(entry).is_some_and(|with| with.iter().any(runs))
    }

    /// Notes what is not as wanted, and logs what of it is new; whether it has changed.
    fn tell(&mut self, failed: BTreeMap<RoutingEntry, String>) -> bool {
        if failed == self.kept.failed {
            return false;
        }
        let is_new =
            |(entry, error): &(&RoutingEntry, &String)| self.kept.failed.get(entry) != Some(*error);
        for (_, error) in failed.iter().filter(is_new) {
            warn!(%error, "a route or rule of a VIP group is not as wanted");
        }
        self.kept.failed = failed;
        true
    }

    /// Looks at them unasked: who removed one by hand, or set its device down, finds it back.
    pub(super) fn look_at_routing(&mut self, carried: &DeviceAddresses) {
        if clock::now() >= self.kept.next_look {
            self.keep_routing(carried);
        }
    }
}

/// Removes these, rules before routes; returns those that may still stand, with the reason.
fn remove(dataplane: &mut dyn Dataplane, entries: &Routing) -> Vec<(RoutingEntry, DataplaneError)> {
    let mut stay = Vec::new();
    for entry in entries.iter().rev() {
        match dataplane.remove_routing(entry) {
            Ok(()) => info!("removed {entry}"),
            Err(error) => stay.push((entry.clone(), error)),
        }
    }
    stay
}

/// Removes whatever a dead daemon of this host left, be it on the list or not; returns what that was, and what of it
/// may still stand. What stays is on the list.
///
/// # Errors
///
/// If the list can't be read.
pub(crate) fn remove_routing(
    dataplane: &mut dyn Dataplane,
    data_dir: &Path,
) -> Result<(Routing, Staying), ListError> {
    let mut list: List<RoutingEntry> = List::open(routing_list(data_dir))?;
    let mut found = dataplane.observe_routing().unwrap_or_else(|error| {
        warn!(%error, "routes can't be read: those on the list are removed");
        list.entries().clone()
    });
    let stay = remove(dataplane, &found);
    // An entry too many does no harm: what is not there is removed in vain. A full disk must keep nobody from
    // giving up what it holds.
    if let Err(error) = list.replace(stay.iter().map(|(entry, _)| entry.clone()).collect()) {
        warn!(%error, "routes and rules that are gone stay on the list");
    }
    for (entry, _) in &stay {
        found.remove(entry);
    }
    Ok((found, stay))
}
