//! What a daemon's services thread does, on the fake kernel of `quorate-dataplane`: observe, plan,
//! apply, and again after a moment if anything failed. And the clients: connections through
//! whichever kernel serves the address, and probes of the real servers.

use std::net::SocketAddr;

use quorate_dataplane::fake::Call;
use quorate_dataplane::{Dataplane as _, Errno};
use quorate_model::director::{Event, ServiceGoal, ServiceReport};
use quorate_model::id::NodeId;
use quorate_model::kernel::ServiceKey;
use quorate_model::plan::plan;
use quorate_model::probe::Verdict;
use quorate_model::spec::Protocol;

use super::clock::MS;
use super::invariants::a_drained_server_gets_no_new_connection as drained;
use super::mutant::Mutant;
use super::node::Happening;
use super::setup;
use super::world::{Invariant, Item, World};

impl World {
    pub(super) fn aim_services(&mut self, id: NodeId, mut goal: ServiceGoal) {
        if self.plan.mutant == Some(Mutant::WeightByVerdict) {
            let servers = goal.services.values_mut().flat_map(|s| s.destinations.values_mut());
            servers.for_each(|server| server.weight = 1);
        }
        self.node(id).services = Some(goal);
        let takes = self.random.between(MS / 2, 5 * MS);
        self.after_for(takes, id, Happening::Program);
    }

    pub(super) fn program(&mut self, id: NodeId) {
        let fails = self.now < self.faults_end && self.random.chance(250);
        let node = self.node(id);
        let Some(goal) = node.services.clone() else { return };
        let mut kernel = node.ipvs.dataplane();
        let mut failed = std::collections::BTreeMap::new();
        if let Ok(observed) = kernel.observe_services() {
            node.ours.extend(goal.services.keys().copied());
            let actions = plan(&goal.services, &observed, &node.ours);
            // Where nothing is to be done the failure would wait for a later call, in the calm.
            if fails && !actions.is_empty() {
                node.ipvs.fail_next(Call::Apply, 1, Errno(12));
            }
            for (action, error) in kernel.apply(&actions) {
                failed.insert(action.service(), error.to_string());
            }
        }
        let again = !failed.is_empty() && self.plan.mutant != Some(Mutant::ServicesTriedOnce);
        let report = ServiceReport { sequence: goal.sequence, failed, ..Default::default() };
        if again {
            self.after_for(20 * MS, id, Happening::Program);
        }
        self.step(id, Event::Services(report));
    }

    /// A client connects to some address; some probe ends.
    pub(super) fn client(&mut self) {
        let port = 80;
        let Some(address) = self.random.pick(&setup::addresses()) else { return };
        let key = ServiceKey::at(Protocol::Tcp, SocketAddr::new(address, port));
        let ids: Vec<NodeId> = self.nodes.keys().copied().collect();
        for &id in &ids {
            let node = &self.nodes[&id];
            if node.kernel.serves(node.clock.at(self.now), address) {
                self.connect(id, &key);
            }
        }
        // Seldom: each verdict makes a new goal, which would hide that an old one failed.
        if self.random.chance(50)
            && let Some(id) = self.random.pick(&ids)
        {
            let verdict =
                if self.random.chance(800) { Verdict::Up } else { Verdict::Down(String::new()) };
            let at = self.random.number();
            let targets = &self.nodes[&id].targets;
            let count = targets.len() as u64;
            if count > 0
                && let Some(target) = targets.get(usize::try_from(at % count).unwrap()).cloned()
            {
                self.after_for(0, id, Happening::Verdict(target, verdict));
            }
        }
        let pause = self.random.between(5, 40) * MS;
        self.after(pause, Item::Client);
    }

    fn connect(&mut self, id: NodeId, key: &ServiceKey) {
        let table = self.nodes[&id].ipvs.services();
        let Some(service) = table.get(key) else { return };
        let weighted = service.destinations.iter().filter_map(|(server, found)| {
            found.destination.filter(|found| found.weight > 0).map(|_| *server)
        });
        let servers: Vec<SocketAddr> = weighted.collect();
        let Some(server) = self.random.pick(&servers) else { return };
        self.outcome.connections += 1;
        let result = drained::check(self.now, &self.nodes[&id], key, &server);
        self.demand(Invariant::DrainedIsLeftAlone, result);
    }
}
