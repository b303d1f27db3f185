//! The end of a run: the faults stop, and everything has to be well after a while.

use quorate_model::id::NodeId;

use super::clock::MS;
use super::invariants::every_group_gets_an_owner;
use super::network::Weather;
use super::node::Happening;
use super::world::{Invariant, Item, World};

impl World {
    /// Sometimes one node never comes back, if the others are enough.
    fn one_that_stays_dead(&mut self, ids: &[NodeId]) -> Option<NodeId> {
        let (stays, one) = (self.random.chance(300), self.random.pick(ids)?);
        let latest = self.log.membership(self.log.length());
        let committed = self.log.committed();
        let enough = latest.majority(|id| id != one && self.nodes[&id].appended >= committed);
        if !stays || !enough {
            return None;
        }
        self.crash(one);
        self.node(one).gone = true;
        Some(one)
    }

    pub(super) fn calm(&mut self) {
        self.tell("the faults are over");
        self.network.heal();
        self.network.weather = Weather::CALM;
        let ids: Vec<NodeId> = self.nodes.keys().copied().collect();
        let dead = self.one_that_stays_dead(&ids);
        for id in ids.into_iter().filter(|&id| Some(id) != dead) {
            let node = self.node(id);
            (node.slow_disk, node.slow_apply) = (false, false);
            node.kernel.down = false;
            if node.director.is_none() {
                self.after(0, Item::Start(id));
            } else {
                self.resume(id);
                self.after_for(MS, id, Happening::Looked);
            }
        }
        let lease = self.log.state(self.log.committed()).longest_lease;
        self.after(every_group_gets_an_owner::bound(lease), Item::Watch);
    }

    pub(super) fn watch(&mut self) {
        if self.grants_when_calm.is_none() {
            self.grants_when_calm = Some(self.outcome.grants);
            self.watch_until = self.now + 1_000 * MS;
        }
        let state = self.log.state(self.log.committed());
        let result = every_group_gets_an_owner::check(self.now, &self.nodes, &state.spec);
        self.demand(Invariant::EveryGroupServed, result);
        self.check_writes();
        if self.grants_when_calm != Some(self.outcome.grants) {
            self.demand(
                Invariant::EveryGroupServed,
                Err("a group moves though all is well".to_owned()),
            );
        }
        self.after(10 * MS, Item::Watch);
    }
}
