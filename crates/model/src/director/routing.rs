//! The routes and policy rules that go with the groups whose addresses this director's kernel carries. They are
//! no ground to own a group or not, but for an interface that this node does not have.

use std::collections::{BTreeMap, BTreeSet};

use super::{DeviceAddresses, Director};
use crate::id::Role;
use crate::routing::{self, RoutingEntry};

impl Director {
    /// What the kernel shall hold besides addresses, each with the addresses of its group that are served: it is
    /// there as long as one of them is, so also through a lapse, and no longer.
    pub(super) fn routed(&self) -> BTreeMap<RoutingEntry, DeviceAddresses> {
        let mut routed: BTreeMap<RoutingEntry, DeviceAddresses> = BTreeMap::new();
        for (group, _) in self.owner.groups() {
            let Some(settings) = self.state.spec.groups.get(group) else { continue };
            if settings.routing.is_empty() {
                continue;
            }
            let vips = settings.addresses.iter().filter_map(|vip| self.device_address(vip));
            let served: DeviceAddresses =
                vips.filter(|address| self.serving.contains_key(address)).collect();
            if served.is_empty() {
                continue;
            }
            for entry in routing::of_group(settings, &self.config.devices).0 {
                routed.entry(entry).or_default().extend(served.iter().cloned());
            }
        }
        routed
    }

    /// What an operator should know of it, in words.
    pub(super) fn routing_problems(&self) -> BTreeSet<String> {
        let mut problems: BTreeSet<String> = self.addresses.routing.values().cloned().collect();
        for (group, settings) in &self.state.spec.groups {
            if settings.routing.is_empty()
                || self.config.role == Role::Witness
                || !self.state.may_own(self.config.me, group)
            {
                continue;
            }
            for interface in routing::of_group(settings, &self.config.devices).1 {
                problems.insert(format!(
                    "group {group} has a route or rule on interface {interface}, which [interfaces] of this \
                     node's node.toml does not name"
                ));
            }
        }
        problems
    }
}
