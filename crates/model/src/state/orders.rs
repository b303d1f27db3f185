//! What operators order, and who owns what, as the log decides it: grants, pins, evacuated
//! directors, a paused cluster, weights. Each grant is held against the orders in force when it is applied,
//! so that none which was proposed before an order gets past it. Tests: `state/tests/orders.rs`.

use std::net::SocketAddr;

use super::{ClusterState, GrantRecord, Refused, Reply};
use crate::command::{Grant, GrantReason, Order, UnixMillis};
use crate::id::{Epoch, GroupName, LogIndex, NodeId, Role, ServiceName};
use crate::overrides::{OVERRIDES_MAX, Override};

impl ClusterState {
    /// Whether a node gives its groups away and takes none.
    #[must_use]
    pub fn is_evacuated(&self, node: NodeId) -> bool {
        self.evacuated.contains_key(&node)
    }

    pub(super) fn grant(&mut self, index: LogIndex, at: UnixMillis, grants: &[Grant]) -> Reply {
        let mut granted = Vec::new();
        for grant in grants {
            let before = self.grants.get(&grant.group);
            let current = before.map_or(Epoch(0), |record| record.epoch);
            let owner = before.map(|record| record.owner);
            let moves = owner != Some(grant.owner);
            let allowed = self.may_own(grant.owner, &grant.group)
                && !(moves && self.is_evacuated(grant.owner))
                && !(moves && self.paused.is_some() && !grant.reason.is_ordered());
            if current != grant.previous || !allowed {
                continue;
            }
            let record = GrantRecord {
                epoch: Epoch(index.0),
                owner: grant.owner,
                incarnation: grant.incarnation,
                reason: grant.reason,
                at,
            };
            if self.ends_pin(grant, owner) {
                self.pins.remove(&grant.group);
            }
            self.grants.insert(grant.group.clone(), record);
            granted.push(grant.group.clone());
        }
        Reply::Granted(granted)
    }

    /// A pin holds until its owner fails. A director that is evacuated and has given the group
    /// away can't fail it: the pin waits for it.
    fn ends_pin(&self, grant: &Grant, owner: Option<NodeId>) -> bool {
        let Some(&pin) = self.pins.get(&grant.group) else { return false };
        let failed = !grant.reason.is_ordered() && grant.reason != GrantReason::Restarted;
        let waits = self.is_evacuated(pin) && owner != Some(pin);
        failed && pin != grant.owner && !waits
    }

    pub(super) fn pin(
        &mut self,
        group: &GroupName,
        node: Option<NodeId>,
    ) -> Result<Reply, Refused> {
        if !self.spec.groups.contains_key(group) {
            return Err(Refused::NoSuchGroup(group.clone()));
        }
        match node {
            None => {
                self.pins.remove(group);
            }
            Some(node) => {
                let record = self.nodes.get(&node).ok_or(Refused::NoSuchNode(node))?;
                let name = &record.description.name;
                if !self.may_own(node, group) {
                    return Err(Refused::NotADirector(name.clone()));
                }
                if self.is_evacuated(node) {
                    return Err(Refused::Evacuated(name.clone()));
                }
                self.pins.insert(group.clone(), node);
            }
        }
        Ok(Reply::Done)
    }

    /// Who ordered it first, and when, stays.
    pub(super) fn evacuate(
        &mut self,
        node: NodeId,
        order: Option<&Order>,
    ) -> Result<Reply, Refused> {
        let record = self.nodes.get(&node).ok_or(Refused::NoSuchNode(node))?;
        if record.description.role == Role::Witness {
            return Err(Refused::Witness(record.description.name.clone()));
        }
        let changed = order.is_some() != self.is_evacuated(node);
        match order {
            Some(order) if changed => {
                self.evacuated.insert(node, order.clone());
            }
            Some(_) => {}
            None => {
                self.evacuated.remove(&node);
            }
        }
        Ok(Reply::Ordered { changed })
    }

    /// Who ordered it first, and when, stays.
    pub(super) fn pause(&mut self, order: Option<&Order>) -> Reply {
        let changed = order.is_some() != self.paused.is_some();
        if changed {
            self.paused = order.cloned();
        }
        Reply::Ordered { changed }
    }

    pub(super) fn override_weights(
        &mut self,
        servers: &[(ServiceName, SocketAddr)],
        to: Option<&Override>,
    ) -> Result<Reply, Refused> {
        for (name, server) in servers {
            if self.spec.service_with(name, server).is_none() {
                return Err(Refused::NoSuchServer { service: name.clone(), server: *server });
            }
        }
        let new = servers.iter().filter(|(name, at)| self.overrides.get(name, at).is_none());
        if to.is_some() && self.overrides.len().saturating_add(new.count()) > OVERRIDES_MAX {
            return Err(Refused::Full { what: "overridden weights", max: OVERRIDES_MAX });
        }
        let mut changed = false;
        for (name, server) in servers {
            let before = self.overrides.get(name, server);
            let same = before.map(|b| (b.weight, b.until)) == to.map(|to| (to.weight, to.until));
            if !same {
                self.overrides.set(name, *server, to.cloned());
                changed = true;
            }
        }
        Ok(Reply::Ordered { changed })
    }

    pub(super) fn end_overrides(&mut self, at: UnixMillis) -> Reply {
        let before = self.overrides.len();
        self.overrides.retain(|_, _, to| to.until.is_none_or(|until| until > at));
        Reply::Ordered { changed: self.overrides.len() != before }
    }
}
