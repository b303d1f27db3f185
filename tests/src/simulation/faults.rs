//! What goes wrong, and when: one fault after another until the run is to be calm.

use std::collections::BTreeSet;
use std::sync::Arc;

use quorate_model::command::{Command, Order, UnixMillis};
use quorate_model::id::{GroupName, NodeId};
use quorate_model::overrides::Override;

use super::clock::MS;
use super::log::Content;
use super::node::Happening;
use super::world::{Item, World};

/// What ends a fault.
#[derive(Debug, Clone)]
pub(super) enum Undo {
    /// A direction works again.
    Join(NodeId, NodeId),
    /// A disk is as fast as before.
    Disk(NodeId),
    /// Entries are applied in time.
    Apply(NodeId),
    /// The device is up.
    Device(NodeId),
}

impl World {
    pub(super) fn fault(&mut self) {
        if self.now >= self.faults_end {
            return;
        }
        let ids: Vec<NodeId> = self.nodes.keys().copied().collect();
        let Some(id) = self.random.pick(&ids) else { return };
        let length = self.random.between(10, 1_200) * MS;
        match self.random.between(0, 18) {
            0 | 1 => self.after_for(0, id, Happening::Crash),
            2 | 3 => self.pause(id, length),
            4 => {
                self.tell(&format!("n{id} is told to stop"));
                self.after_for(0, id, Happening::Stop);
            }
            5 | 6 => self.cut_off(id, length),
            7 => {
                let other = self.random.pick(&ids).unwrap_or(id);
                self.cut(id, other, length);
            }
            8 | 9 => self.write(),
            10 => self.pin(id),
            16 => self.evacuate(id),
            18 => self.weigh(),
            11 => {
                self.node(id).slow_disk = true;
                self.after(length, Item::Undo(Undo::Disk(id)));
            }
            12 => {
                self.tell(&format!("n{id} applies late"));
                self.node(id).slow_apply = true;
                self.after(length, Item::Undo(Undo::Apply(id)));
            }
            13 => self.change_wanted(id),
            15 => self.flicker(id, &ids),
            14 => {
                self.node(id).kernel.down = true;
                self.after_for(0, id, Happening::Looked);
                self.after(length, Item::Undo(Undo::Device(id)));
            }
            _ => {
                let voter = self.log.membership(self.log.length()).voters().contains(&id);
                if voter && self.nodes[&id].runs() {
                    self.lead(id);
                }
            }
        }
        let pause = self.random.between(5, 250) * MS;
        self.after(pause, Item::Fault);
    }

    fn pause(&mut self, id: NodeId, length: u64) {
        if self.nodes[&id].runs() {
            self.tell(&format!("n{id} is paused for {} ms", length / MS));
            let node = self.node(id);
            node.paused = true;
            let boot = node.boot;
            self.after(length, Item::Resume(id, boot));
        }
    }

    fn cut(&mut self, from: NodeId, to: NodeId, length: u64) {
        self.tell(&format!("n{from} is not heard by n{to} for {} ms", length / MS));
        self.network.set_cut(from, to, true);
        self.after(length, Item::Undo(Undo::Join(from, to)));
    }

    /// The power flickers where the others stand: one node is cut off, with all its leases, and
    /// the daemons of the others restart while they take its groups.
    fn flicker(&mut self, id: NodeId, ids: &[NodeId]) {
        for &other in ids.iter().filter(|&&other| other != id) {
            self.cut(id, other, 1_200 * MS);
            self.cut(other, id, 1_200 * MS);
            self.pin(other);
            let delay = self.random.between(0, 50) * MS;
            self.after_for(delay, other, Happening::Crash);
            self.after(delay + 5 * MS, Item::Start(other));
        }
    }

    /// One node, or one direction of all its links, or half of the nodes.
    fn cut_off(&mut self, id: NodeId, length: u64) {
        let (hears, speaks) = (self.random.chance(250), self.random.chance(250));
        let mut side = BTreeSet::from([id]);
        if self.random.chance(300) {
            side.extend(self.random.pick(&self.nodes.keys().copied().collect::<Vec<_>>()));
        }
        let others: Vec<NodeId> =
            self.nodes.keys().copied().filter(|other| !side.contains(other)).collect();
        for &one in &side {
            for &other in &others {
                if !speaks {
                    self.cut(one, other, length);
                }
                if !hears {
                    self.cut(other, one, length);
                }
            }
        }
    }

    /// An operator pins every group to one node.
    fn evacuate(&mut self, id: NodeId) {
        let Some(leader) = self.log.leader else { return };
        let groups: Vec<GroupName> =
            self.log.state(self.log.committed()).spec.groups.keys().cloned().collect();
        for group in groups {
            let node = Some(id);
            self.log.push(Content::Command(Command::Pin { group, node }), None);
        }
        self.node(leader).appended = self.log.length();
    }

    /// An operator drains a real server, or ends that.
    fn weigh(&mut self) {
        let Some(leader) = self.log.leader else { return };
        let spec = Arc::clone(&self.log.state(self.log.committed()).spec);
        let services: Vec<_> = spec.services.iter().collect();
        let Some((name, service)) = self.random.pick(&services) else { return };
        let servers: Vec<_> = service.real_servers.iter().map(|server| server.address).collect();
        let Some(address) = self.random.pick(&servers) else { return };
        let order = Order { author: "simulator".to_owned(), at: UnixMillis(0) };
        let to = Override { weight: u32::from(self.random.chance(300)), order, until: None };
        let to = self.random.chance(600).then_some(to);
        let command = Command::Override { servers: vec![(name.clone(), address)], to };
        self.tell(&command.to_string());
        self.log.push(Content::Command(command), None);
        self.node(leader).appended = self.log.length();
    }

    fn pin(&mut self, id: NodeId) {
        let Some(leader) = self.log.leader else { return };
        let group: GroupName = format!("g{}", self.random.between(1, 3)).parse().unwrap();
        let node = self.random.chance(700).then_some(id);
        self.log.push(Content::Command(Command::Pin { group, node }), None);
        self.node(leader).appended = self.log.length();
    }

    fn change_wanted(&mut self, id: NodeId) {
        let mut voters = self.log.membership(self.log.length()).configs.pop().unwrap_or_default();
        let enough = voters.len() > 3 || !voters.contains(&id);
        if !enough {
            return;
        }
        if !voters.remove(&id) {
            voters.insert(id);
        }
        self.election.wanted = Some(voters);
    }

    pub(super) fn undo(&mut self, undo: &Undo) {
        match *undo {
            Undo::Join(from, to) => self.network.set_cut(from, to, false),
            Undo::Disk(id) => self.node(id).slow_disk = false,
            Undo::Apply(id) => self.node(id).slow_apply = false,
            Undo::Device(id) => {
                self.node(id).kernel.down = false;
                self.after_for(0, id, Happening::Looked);
            }
        }
    }
}
