//! The state of one run: machines, log, network, real time, and what went wrong.
//!
//! Each method is one event. What an event can't do now, it leaves undone: a script or a checker
//! need not know whether a voter will ack.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::sync::Arc;

use quorate_model::id::{Epoch, GroupName, NodeId};
use quorate_model::ownership::voter::DurablePromises;
use quorate_model::time::{Instant, promise};

use super::daemon::{Daemon, Shadow};
use super::log::{Entry, Log};
use super::mutant::Mutant;
use super::network::{Datagram, Key};
use crate::simulation::clock::{Clock, Real};

/// What a run is made of, and does not change.
#[derive(Debug, Clone)]
pub struct Plan {
    /// The rate of each node's clock, in ticks for a million real ones.
    pub rates: Vec<u64>,
    /// Who votes at the beginning.
    pub voters: BTreeSet<NodeId>,
    /// The configurations; the first is in force at the beginning.
    pub configurations: Vec<String>,
    /// What is broken, if anything.
    pub mutant: Option<Mutant>,
}

impl Plan {
    /// Whether owners are told that an address is held: it changes only what is quoted while
    /// addresses move between groups.
    pub(super) fn tells_held(&self) -> bool {
        self.configurations.len() > 1
    }
}

/// Which invariant does not hold, and how.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Broken {
    /// Two directors serve an address.
    TwoServe(IpAddr, NodeId, NodeId),
    /// A group is served under an epoch older than one that it was served under.
    EpochWentBack(GroupName, Epoch, Epoch),
}

/// A node: its kernel and disk, and its daemon.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Machine {
    pub(super) clock: Clock,
    pub(super) daemon: Option<Daemon>,
    pub(super) disk: DurablePromises,
    pub(super) writing: Option<DurablePromises>,
    /// Until when the kernel lets each address be served, by this node's clock.
    pub(super) fence: BTreeMap<IpAddr, Instant>,
    pub(super) appended: u64,
    pub(super) applied: u64,
    /// How often its daemon was started.
    pub(super) starts: u64,
    /// When what is known to this voter runs out, by its clock.
    pub(super) ends: BTreeSet<Instant>,
    pub(super) shadow: Shadow,
}

impl Machine {
    /// Whether its kernel serves an address.
    #[must_use]
    pub fn serves(&self, now: Real, address: &IpAddr, mutant: Option<Mutant>) -> bool {
        let open = self.fence.get(address).copied().unwrap_or_default();
        let unfenced = mutant == Some(Mutant::NoFence) && open > Instant(0);
        unfenced || self.clock.at(now) < open
    }
}

/// A run.
#[derive(Debug, Clone)]
pub struct World {
    /// What does not change.
    pub plan: Arc<Plan>,
    /// Real time.
    pub now: Real,
    pub(super) machines: Vec<Arc<Machine>>,
    /// The log.
    pub log: Arc<Log>,
    /// What is on its way.
    pub network: Arc<BTreeMap<Key, Datagram>>,
    /// What every node has applied at the beginning, and when that was.
    first: u64,
    begun: Real,
    pub(super) served: BTreeMap<GroupName, (Epoch, NodeId)>,
    /// How often a group was served by another director than before.
    pub moves: u64,
    /// How many of them followed a release; the others waited for promises to run out.
    pub released: u64,
    pub(super) given_up: BTreeMap<GroupName, Epoch>,
    /// The first thing that went wrong.
    pub broken: Option<Broken>,
}

impl World {
    /// All daemons are started for the first time, long ago, and own nothing.
    #[must_use]
    pub fn new(plan: Plan) -> Self {
        let nodes = plan.rates.len() as u64;
        let log = Log::new(nodes, plan.voters.clone(), &plan.configurations[0]);
        let last = log.last();
        // What earlier owners were promised is on every disk, so that the first ack needs no write.
        let lease = log.state(last).timing.lease();
        let disk = DurablePromises { longest: promise(lease), floors: BTreeMap::new() };
        let machine = |&rate: &u64| Machine {
            clock: Clock { since: 0, offset: 1, rate },
            daemon: None,
            disk: disk.clone(),
            writing: None,
            fence: BTreeMap::new(),
            appended: last,
            applied: last,
            starts: 0,
            ends: BTreeSet::new(),
            shadow: Shadow::default(),
        };
        let machines = plan.rates.iter().map(machine).map(Arc::new).collect();
        let mut world = Self {
            plan: Arc::new(plan),
            now: 0,
            machines,
            log: Arc::new(log),
            network: Arc::default(),
            first: last,
            begun: 0,
            served: BTreeMap::new(),
            moves: 0,
            released: 0,
            given_up: BTreeMap::new(),
            broken: None,
        };
        for id in world.ids() {
            world.start(id);
        }
        world.now = world.machines.iter().filter_map(|m| m.after_the_end()).max().unwrap_or(0);
        world.forget_what_is_over();
        world.begin();
        world
    }

    /// The nodes.
    #[must_use]
    pub fn ids(&self) -> Vec<NodeId> {
        (1..=self.machines.len() as u64).map(NodeId).collect()
    }

    /// One node.
    #[must_use]
    pub fn machine(&self, id: NodeId) -> &Machine {
        &self.machines[usize::try_from(id.0 - 1).unwrap()]
    }

    pub(super) fn machine_mut(&mut self, id: NodeId) -> &mut Machine {
        Arc::make_mut(&mut self.machines[usize::try_from(id.0 - 1).unwrap()])
    }

    pub(super) fn mutant(&self) -> Option<Mutant> {
        self.plan.mutant
    }

    /// What every node has applied at the beginning.
    #[must_use]
    pub fn first_applied(&self) -> u64 {
        self.first
    }

    /// Forgets entries that every node has applied: no snapshot is older.
    pub fn forget(&mut self, applied: u64) {
        Arc::make_mut(&mut self.log).forget(applied);
        self.first = self.first.max(self.log.forgotten());
    }

    /// From here on the run counts: what is applied now is in every snapshot.
    pub fn begin(&mut self) {
        self.begun = self.now;
        self.first = self.log.last();
    }

    /// When the run began.
    #[must_use]
    pub fn begun(&self) -> Real {
        self.begun
    }

    /// How long it has lasted.
    #[must_use]
    pub fn passed(&self) -> Real {
        self.now - self.begun
    }

    /// What a node's clock shows.
    #[must_use]
    pub fn local(&self, id: NodeId) -> Instant {
        self.machine(id).clock.at(self.now)
    }

    /// Who serves an address.
    pub fn servers(&self, address: &IpAddr) -> impl Iterator<Item = NodeId> {
        let serving = |m: &Machine| m.serves(self.now, address, self.plan.mutant);
        let numbered = self.machines.iter().zip(1..);
        numbered.filter(move |(m, _)| serving(m)).map(|(_, number)| NodeId(number))
    }

    /// The group under whose epoch a node was the last to serve it.
    #[must_use]
    pub fn last_served(&self, group: &GroupName) -> Option<(Epoch, NodeId)> {
        self.served.get(group).copied()
    }

    /// The leader grants a group to the present start of a node. `previous` is the epoch that it
    /// knows of: an old one is refused by all who apply the entry.
    pub fn grant(&mut self, group: &GroupName, owner: NodeId, previous: Epoch) {
        let incarnation = self.machine(owner).starts;
        self.push(Entry::Grant { group: group.clone(), previous, owner, incarnation });
    }

    /// Another configuration of the plan.
    pub fn configure(&mut self, which: usize) {
        self.push(Entry::Configure(which));
    }

    pub(super) fn push(&mut self, entry: Entry) {
        let plan = Arc::clone(&self.plan);
        Arc::make_mut(&mut self.log).push(entry, &plan.configurations);
        if !self.log_is_slow() {
            for id in self.ids() {
                self.append(id);
            }
        }
    }

    /// Whether nodes append one by one: only where the voters change does it matter.
    fn log_is_slow(&self) -> bool {
        self.plan.voters.len() < self.machines.len()
    }

    pub(super) fn send(&mut self, key: Key, datagram: Datagram) {
        Arc::make_mut(&mut self.network).insert(key, datagram);
    }

    /// A datagram never arrives any more.
    pub fn lose(&mut self, key: &Key) {
        Arc::make_mut(&mut self.network).remove(key);
    }

    /// Real time goes on.
    pub fn pass(&mut self, time: Real) {
        self.now += time;
        self.forget_what_is_over();
        self.look();
    }

    /// The next instant after now at which a promise, a quarantine or a lease ends.
    #[must_use]
    pub fn next_end(&self) -> Option<Real> {
        let ends = self.machines.iter().flat_map(|machine| {
            let local = machine.clock.at(self.now);
            let fence = machine.fence.values().chain(&machine.ends);
            fence.filter(move |&&end| end > local).map(|&end| machine.clock.real(end))
        });
        ends.filter(|&at| at > self.now).min()
    }

    /// Voters forget promises that bind nobody, as they do in time; so that states are the same
    /// which can't be told from one another.
    fn forget_what_is_over(&mut self) {
        let now = self.now;
        for machine in &mut self.machines {
            let local = machine.clock.at(now);
            if machine.ends.first().is_none_or(|&end| end > local) {
                continue;
            }
            let machine = Arc::make_mut(machine);
            machine.ends = machine.ends.split_off(&Instant(local.0 + 1));
            let state = self.log.state(machine.applied);
            if let Some(daemon) = &mut machine.daemon {
                daemon.voter.applied(local, state);
            }
        }
    }

    /// Holds the world against the first invariant. Serving begins only when a fence is set, and
    /// ends by itself.
    pub(super) fn look(&mut self) {
        if self.broken.is_some() {
            return;
        }
        let addresses: BTreeSet<IpAddr> =
            self.machines.iter().flat_map(|machine| machine.fence.keys().copied()).collect();
        for address in addresses {
            let mut serving = self.servers(&address);
            if let (Some(one), Some(other)) = (serving.next(), serving.next()) {
                drop(serving);
                self.broken = Some(Broken::TwoServe(address, one, other));
                return;
            }
        }
    }

    /// A node's fence is open for a group under this epoch: holds it against the second.
    pub(super) fn note_served(&mut self, id: NodeId, group: &GroupName, epoch: Epoch) {
        let before = self.served.get(group).copied();
        if let Some((highest, _)) = before
            && epoch < highest
            && self.broken.is_none()
        {
            self.broken = Some(Broken::EpochWentBack(group.clone(), highest, epoch));
        }
        if let Some((before, by)) = before
            && by != id
        {
            self.moves += 1;
            self.released += u64::from(self.given_up.get(group) == Some(&before));
        }
        self.served.insert(group.clone(), (epoch, id));
    }
}
