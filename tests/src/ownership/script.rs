//! Schedules written by hand: one order of events, the same with a rule and without it.

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::time::Duration;

use quorate_model::id::{GroupName, NodeId};

use super::mutant::Mutant;
use super::network::{Datagram, Key};
use super::world::{Plan, World};
use crate::simulation::clock::{MS, Real};

/// A clock that runs with real time.
pub const TRUE: u64 = 1_000_000;
/// A clock that is one percent slow.
pub const SLOW: u64 = 990_000;
/// A clock that is one percent fast.
pub const FAST: u64 = 1_010_000;

/// A group's name.
#[must_use]
pub fn group(name: &str) -> GroupName {
    name.parse().unwrap()
}

/// One of the VIPs.
#[must_use]
pub fn vip(last: u8) -> IpAddr {
    IpAddr::from([10, 0, 0, last])
}

/// A configuration: the lease, and the VIPs of each group.
#[must_use]
pub fn configuration(lease: Duration, groups: &[(&str, &[u8])]) -> String {
    let (lease, renew) = (lease.as_millis(), lease.as_millis() / 10);
    let mut text =
        format!("[cluster]\ntiming = {{ lease = \"{lease}ms\", renew = \"{renew}ms\" }}\n");
    for (name, vips) in groups {
        let vips: Vec<String> = vips.iter().map(|&last| format!("\"{}/32\"", vip(last))).collect();
        let list = vips.join(", ");
        text += &format!("[group.{name}]\ninterface = \"public\"\naddresses = [{list}]\n");
    }
    text
}

/// A run that is told what happens.
#[derive(Debug)]
pub struct Script {
    /// The run.
    pub world: World,
}

/// Groups with the last octets of their addresses.
pub type Groups<'a> = &'a [(&'a str, &'a [u8])];

impl Script {
    /// Three nodes, true clocks, one group, a lease of one second.
    #[must_use]
    pub fn simple(mutant: Option<Mutant>) -> Self {
        Self::new(mutant, vec![TRUE; 3], &[(Duration::from_secs(1), &[("a", &[1])])])
    }

    /// Nodes with these clocks, the first three of which vote, and these configurations.
    #[must_use]
    pub fn new(
        mutant: Option<Mutant>,
        rates: Vec<u64>,
        configurations: &[(Duration, Groups<'_>)],
    ) -> Self {
        let configurations =
            configurations.iter().map(|(lease, groups)| configuration(*lease, groups)).collect();
        let voters = (1..=3).map(NodeId).collect();
        Self { world: World::new(Plan { rates, voters, configurations, mutant }) }
    }

    /// Group `a` is granted to a node, which hears of it. The others do not yet.
    pub fn grant(&mut self, node: u64) {
        self.grant_group("a", node);
    }

    /// A group is granted to a node, which hears of it. The others do not yet.
    pub fn grant_group(&mut self, name: &str, node: u64) {
        let previous = self.world.log.epoch(&group(name));
        self.world.grant(&group(name), NodeId(node), previous);
        self.apply(node);
    }

    /// A node applies all that it may.
    pub fn apply(&mut self, node: u64) {
        self.world.apply(NodeId(node), self.world.log.last());
    }

    /// An owner sends a round. It is on its way to every voter.
    pub fn send(&mut self, node: u64) -> Option<Key> {
        self.world.round(NodeId(node))
    }

    /// A voter gets it, and its disk is quick.
    pub fn hear(&mut self, voter: u64, datagram: Option<&Key>) {
        let Some(datagram) = datagram else { return };
        self.world.hear(NodeId(voter), datagram);
        while self.world.writes(NodeId(voter)) {
            self.world.write(NodeId(voter));
        }
    }

    /// The owner gets what a voter has answered to that round.
    pub fn back(&mut self, voter: u64, round: Option<&Key>) {
        let Some(round) = round else { return };
        let answers = self.world.network.keys().filter(|key| {
            let same = (key.owner, key.incarnation, key.number)
                == (round.owner, round.incarnation, round.number);
            key.kind == 1 && key.voter == NodeId(voter) && same
        });
        for answer in answers.cloned().collect::<Vec<Key>>() {
            self.world.count(&answer);
        }
    }

    /// A whole round: sent, heard by these voters and no others, answered, stored to the fence.
    pub fn renew(&mut self, node: u64, voters: &[u64]) {
        let round = self.send(node);
        for &voter in voters {
            self.hear(voter, round.as_ref());
        }
        for &voter in voters {
            self.back(voter, round.as_ref());
        }
        self.world.store(NodeId(node));
    }

    /// A node gives group `a` up. The release is on its way to every voter.
    pub fn give_up(&mut self, node: u64) -> Option<Key> {
        self.world.give_up(NodeId(node), &group("a"));
        let mut releases = self.world.network.iter().filter(|(key, datagram)| {
            key.owner == NodeId(node) && matches!(datagram, Datagram::Released(..))
        });
        releases.next_back().map(|(key, _)| key.clone())
    }

    /// A node's daemon dies and starts again; what was on its way to the disk is lost.
    pub fn restart(&mut self, node: u64) {
        let applied = self.world.log.last();
        self.world.restart(NodeId(node), false, applied);
    }

    /// As `restart`, and the node has applied the log only as it is in this old snapshot.
    pub fn restart_from(&mut self, node: u64, snapshot: u64) {
        self.world.restart(NodeId(node), false, snapshot);
    }

    /// The voters become these: the entry is appended by these nodes, and nobody else.
    pub fn voters(&mut self, configs: &[&[u64]], appended_by: &[u64]) {
        let set = |ids: &&[u64]| -> BTreeSet<NodeId> { ids.iter().copied().map(NodeId).collect() };
        self.world.voters(configs.iter().map(set).collect());
        for &node in appended_by {
            self.world.append(NodeId(node));
        }
        for &node in appended_by {
            self.apply(node);
        }
    }

    /// Real time goes by.
    pub fn pass(&mut self, milliseconds: Real) {
        self.world.pass(milliseconds * MS);
    }

    /// Whether a node serves the first VIP.
    #[must_use]
    pub fn serves(&self, node: u64) -> bool {
        self.world.servers(&vip(1)).any(|id| id == NodeId(node))
    }
}
