//! The life of a daemon: it starts, is paused, goes on, and dies; or the whole machine does.

use std::time::Duration;

use quorate_dataplane::fake::FakeKernel;
use quorate_model::director::{Director, Event};
use quorate_model::id::NodeId;
use quorate_model::time::Instant;

use super::clock::{Clock, MS};
use super::mutant::Mutant;
use super::node::{Happening, Missed};
use super::setup;
use super::world::{Item, World};

impl World {
    pub(super) fn start(&mut self, id: NodeId) {
        if self.nodes[&id].director.is_some() || self.nodes[&id].gone {
            return;
        }
        let fresh = self.random.number();
        let (replayed, snapshot) = (self.random.between(0, 2), self.random.number());
        let mutant = self.plan.mutant;
        let (now, log) = (self.now, &self.log);
        let Some(node) = self.nodes.get_mut(&id) else { return };
        node.boot += 1;
        node.incarnation = fresh;
        if mutant == Some(Mutant::NoQuarantine) {
            node.disk.longest = Duration::ZERO;
        }
        // What was applied is known from a snapshot, which may be older.
        let applied = node.applied.min(log.committed());
        node.applied = match replayed {
            0 => 0,
            1 => usize::try_from(snapshot % (applied as u64 + 1)).unwrap(),
            _ => applied,
        };
        (node.services, node.running_since) = (None, now);
        node.gagged.clear();
        node.told_of.clear();
        node.kernel.sweep();
        node.worked = 0;
        node.fence = Vec::new();
        node.tick = (Instant(u64::MAX), node.tick.1 + 1);
        node.told = (false, log.membership(node.appended));
        let config = setup::director_config(id, node.incarnation);
        node.director = Some(Director::new(node.clock.at(now), config, node.disk.clone()));
        let (membership, state) = (node.told.1.clone(), log.state(node.applied));
        self.tell(&format!("n{id} starts"));
        self.tell_raft(id, false, membership);
        self.node(id).tell_of(now, &state);
        self.step(id, Event::State(state));
        let looks = self.random.between(MS, 20 * MS);
        self.after_for(looks, id, Happening::Looked);
        self.after_for(looks / 2, id, Happening::ServicesFound);
    }

    pub(super) fn crash(&mut self, id: NodeId) {
        let written = self.random.chance(500);
        let reboots = self.random.chance(150);
        let now = self.now;
        let node = self.node(id);
        if reboots {
            // The whole machine: its kernel forgets everything, and its clock begins anew.
            node.kernel.sweep();
            node.ipvs = FakeKernel::new();
            node.clock = Clock { since: now, offset: 1, rate: node.clock.rate };
        }
        node.director = None;
        node.paused = false;
        node.missed.clear();
        node.kernel.abandon();
        if let Some(writing) = node.writing.take().filter(|_| written) {
            node.disk = writing;
        }
        self.tell(&format!("n{id} is dead{}", if reboots { ": its machine restarts" } else { "" }));
        let rest = self.random.between(5, 1_500) * MS;
        self.after(rest, Item::Start(id));
    }

    pub(super) fn resume(&mut self, id: NodeId) {
        let now = self.now;
        let node = self.node(id);
        if !node.paused {
            return;
        }
        node.paused = false;
        node.running_since = now;
        let (boot, missed) = (node.boot, std::mem::take(&mut node.missed));
        self.tell(&format!("n{id} goes on"));
        for missed in missed {
            let item = match missed {
                Missed::Happening(happening) => Item::Happening(id, boot, happening),
                Missed::Datagram(from, message) => Item::Datagram(id, from, message),
            };
            let takes = self.random.between(0, 200);
            self.after(takes, item);
        }
    }
}
