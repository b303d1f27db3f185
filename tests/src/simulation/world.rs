//! One run: the nodes, what connects them, and the queue of what happens next in real time.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use quorate_model::command::{Command, UnixMillis};
use quorate_model::director::{AddressGoal, Effect, Event, ServiceReport};
use quorate_model::id::{Epoch, GroupName, LogIndex, NodeId};
use quorate_model::ownership::message::Message;
use quorate_model::ownership::quorum::Membership;
use quorate_model::time::Instant;

use super::clock::{Clock, MS, Real};
use super::datagrams::Carried;
use super::faults::Undo;
use super::invariants::at_most_one_director_serves_a_group;
use super::invariants::epoch_never_goes_back::Epochs;
use super::log::{Content, Log};
use super::mutant::Mutant;
use super::network::{Network, Weather};
use super::node::{Happening, Missed, Node};
use super::raft::Election;
use super::random::Random;
use super::setup;
use super::trace::Trace;
use super::writes::Writes;

/// What to run.
#[derive(Debug, Clone, Copy)]
pub struct Plan {
    /// What everything random comes from.
    pub seed: u64,
    /// Voters at the beginning; one node more does not vote yet.
    pub voters: u64,
    /// What is broken, if anything.
    pub mutant: Option<Mutant>,
    /// How long things go wrong, in milliseconds; two to five seconds if not said.
    pub faults: Option<u64>,
    /// Whether every line of the trace is kept.
    pub trace: bool,
}

impl Plan {
    /// A run of a few seconds, in which nothing is broken.
    #[must_use]
    pub fn new(seed: u64, voters: u64) -> Self {
        Self { seed, voters, mutant: None, faults: None, trace: false }
    }
}

/// What must hold.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Invariant {
    /// At most one director serves a group.
    OneServes,
    /// An epoch never goes back.
    EpochsRise,
    /// Every group gets an owner, and keeps it.
    EveryGroupServed,
    /// What a client was told is taken stays taken.
    AcknowledgedIsKept,
    /// A drained real server gets no new connection.
    DrainedIsLeftAlone,
    /// A director is asked again only when time has gone by.
    NoBusyLoop,
}

/// What went wrong.
#[derive(Debug, Clone)]
pub struct Violation {
    /// What does not hold.
    pub invariant: Invariant,
    /// How.
    pub what: String,
    /// The last of what happened before.
    pub story: String,
}

/// What came of it.
#[derive(Debug, Clone, Default)]
pub struct Outcome {
    /// Depends on every step.
    pub hash: u64,
    /// What went wrong.
    pub violation: Option<Violation>,
    /// Grants that were applied.
    pub grants: u64,
    /// Changes of the voters that were committed.
    pub memberships: u64,
    /// Steps of all directors.
    pub steps: u64,
    /// How often a group was served by another director than before.
    pub changes: u64,
    /// Connections that clients made.
    pub connections: u64,
    /// The trace, if it was asked for.
    pub trace: Option<String>,
}

/// What happens.
#[derive(Debug, Clone)]
pub(super) enum Item {
    /// To one start of a daemon.
    Happening(NodeId, u64, Happening),
    /// A datagram arrives: to, from.
    Datagram(NodeId, NodeId, Message),
    /// A daemon starts.
    Start(NodeId),
    /// A paused daemon goes on.
    Resume(NodeId, u64),
    /// Raft's turn.
    Raft,
    /// The next fault.
    Fault,
    /// A fault ends.
    Undo(Undo),
    /// The faults are over.
    Calm,
    /// Everything must be well by now.
    Watch,
    /// A client connects, a probe ends.
    Client,
    /// A client asks again.
    Repeat,
}

/// The world of one run.
pub(super) struct World {
    pub(super) plan: Plan,
    pub(super) now: Real,
    pub(super) random: Random,
    pub(super) nodes: BTreeMap<NodeId, Node>,
    pub(super) log: Log,
    pub(super) network: Network,
    pub(super) election: Election,
    pub(super) writes: Writes,
    pub(super) trace: Trace,
    pub(super) carried: BTreeMap<NodeId, Carried>,
    pub(super) faults_end: Real,
    pub(super) outcome: Outcome,
    queue: BTreeMap<(Real, u64), Item>,
    queued: u64,
    pub(super) epochs: Epochs,
    pub(super) watch_until: Real,
    pub(super) grants_when_calm: Option<u64>,
}

/// Runs a plan to its end or to the first violation.
#[must_use]
pub fn run(plan: Plan) -> Outcome {
    let mut world = World::new(plan);
    world.begin();
    while world.outcome.violation.is_none() {
        let Some(((at, _), item)) = world.queue.pop_first() else { break };
        world.now = at;
        if world.grants_when_calm.is_some() && at >= world.watch_until {
            break;
        }
        world.happen(item);
    }
    world.outcome.hash = world.trace.hash();
    world.outcome.changes = world.epochs.changes;
    world.outcome.trace = plan.trace.then(|| world.trace.story());
    if let Some(violation) = &mut world.outcome.violation {
        violation.story = world.trace.story();
    }
    world.outcome
}

impl World {
    fn new(plan: Plan) -> Self {
        let mut random = Random::new(plan.seed);
        let ids: BTreeSet<NodeId> = (1..=plan.voters + 1).map(NodeId).collect();
        let mut nodes = BTreeMap::new();
        for &id in &ids {
            let clock = Clock {
                since: 0,
                offset: random.between(1, 1_000_000 * MS),
                rate: random.between(990_000, 1_010_000),
            };
            let mut node = Node::new(clock);
            node.kernel.unfenced = plan.mutant == Some(Mutant::NoFence);
            nodes.insert(id, node);
        }
        let weather = Weather::any(&mut random);
        let faults_end = random.between(2_000, 5_000) * MS;
        let faults_end = plan.faults.map_or(faults_end, |milliseconds| milliseconds * MS);
        let outcome = Outcome::default();
        Self {
            plan,
            now: 0,
            random,
            nodes,
            log: Log::new(ids),
            network: Network::new(weather),
            election: Election::default(),
            writes: Writes::default(),
            trace: if plan.trace { Trace::whole() } else { Trace::default() },
            carried: BTreeMap::new(),
            faults_end,
            outcome,
            queue: BTreeMap::new(),
            queued: 0,
            epochs: Epochs::default(),
            watch_until: Real::MAX,
            grants_when_calm: None,
        }
    }

    fn begin(&mut self) {
        let ids = self.log.nodes.clone();
        let voters: BTreeSet<NodeId> = ids.iter().copied().take(ids.len() - 1).collect();
        self.log.push(Content::Voters(vec![voters]), None);
        for command in setup::founding(&ids) {
            self.log.push(Content::Command(command), None);
        }
        let first = setup::configure(&mut self.random, &ids);
        self.log.push(Content::Command(first), None);
        let all = self.log.length();
        self.log.commit(|_| all);
        for (&id, node) in &mut self.nodes {
            (node.appended, node.applied) = (all, all);
            let item = Item::Start(id);
            self.queue.insert((0, id.0), item);
        }
        self.queued = 1_000;
        self.after(MS, Item::Raft);
        self.after(300 * MS, Item::Fault);
        self.after(10 * MS, Item::Client);
        self.after(self.faults_end, Item::Calm);
    }

    pub(super) fn after(&mut self, delay: Real, item: Item) {
        self.queued += 1;
        self.queue.insert((self.now + delay, self.queued), item);
    }

    pub(super) fn after_for(&mut self, delay: Real, node: NodeId, happening: Happening) {
        let boot = self.nodes[&node].boot;
        self.after(delay, Item::Happening(node, boot, happening));
    }

    pub(super) fn tell(&mut self, line: &str) {
        self.trace.tell(self.now, line);
    }

    pub(super) fn node(&mut self, id: NodeId) -> &mut Node {
        self.nodes.get_mut(&id).unwrap()
    }

    pub(super) fn demand(&mut self, invariant: Invariant, result: Result<(), String>) {
        if let Err(what) = result
            && self.outcome.violation.is_none()
        {
            let what = format!("at {} ms: {what}", self.now / MS);
            self.outcome.violation = Some(Violation { invariant, what, story: String::new() });
        }
    }

    fn happen(&mut self, item: Item) {
        match item {
            Item::Happening(id, boot, happening) => {
                if self.nodes[&id].boot == boot && self.nodes[&id].director.is_some() {
                    self.befall(id, happening);
                }
            }
            Item::Datagram(to, from, message) => self.arrive(to, from, message),
            Item::Start(id) => self.start(id),
            Item::Resume(id, boot) => {
                if self.nodes[&id].boot == boot {
                    self.resume(id);
                }
            }
            Item::Raft => self.raft(),
            Item::Fault => self.fault(),
            Item::Undo(undo) => self.undo(&undo),
            Item::Calm => self.calm(),
            Item::Watch => self.watch(),
            Item::Client => self.client(),
            Item::Repeat => self.repeat(),
        }
    }

    fn befall(&mut self, id: NodeId, happening: Happening) {
        let now = self.now;
        let node = self.node(id);
        let happening = match happening {
            // The disk goes on while the daemon is paused.
            Happening::Written(written) => {
                node.disk.clone_from(&written);
                node.writing = None;
                Happening::Persisted(written)
            }
            other => other,
        };
        if let Happening::Crash = happening {
            return self.crash(id);
        }
        if node.paused {
            return node.missed.push(Missed::Happening(happening));
        }
        match happening {
            Happening::Tick(wish) if wish != node.tick.1 => {}
            Happening::Tick(_) => {
                let asked = node.tick.0;
                node.tick.0 = Instant(u64::MAX);
                self.step(id, Event::Tick);
                let again = self.nodes[&id].tick.0;
                if again <= asked {
                    self.demand(
                        Invariant::NoBusyLoop,
                        Err(format!("n{id} wants a tick again at once: a busy loop")),
                    );
                }
            }
            Happening::Persisted(written) => self.step(id, Event::Persisted(written)),
            Happening::Worked(goal) => self.worked(id, &goal),
            Happening::Looked => self.report_addresses(id),
            Happening::ServicesFound => {
                let found = node.ipvs.services();
                self.step(id, Event::ServicesFound(found));
                self.step(id, Event::Services(ServiceReport::default()));
            }
            Happening::Program => self.program(id),
            Happening::Verdict(target, verdict) => {
                self.step(id, Event::Verdict(target, verdict));
            }
            Happening::Fence(deadlines) => {
                node.kernel.set_fence(&deadlines);
                self.look_at_kernels();
            }
            Happening::Asked(questions) => self.asked(id, &questions),
            Happening::Proposed => self.step(id, Event::Proposed),
            Happening::Applied(state) => {
                node.tell_of(now, &state);
                self.step(id, Event::State(state));
            }
            Happening::Raft { leads, membership } => self.tell_raft(id, leads, membership),
            Happening::Stop => {
                self.step(id, Event::Stop);
                self.after_for(1_000 * MS, id, Happening::Crash);
            }
            Happening::Written(_) | Happening::Crash => {}
        }
    }

    pub(super) fn tell_raft(&mut self, id: NodeId, leads: bool, mut membership: Membership) {
        if self.plan.mutant == Some(Mutant::Minority) {
            membership.configs = vec![BTreeSet::from([id])];
        }
        self.step(id, Event::Raft { leads, heard: Some(LogIndex(0)), membership });
    }

    fn look_at_kernels(&mut self) {
        let result =
            at_most_one_director_serves_a_group::check(self.now, &self.nodes, &setup::addresses());
        self.demand(Invariant::OneServes, result);
    }

    fn worked(&mut self, id: NodeId, goal: &AddressGoal) {
        let keeps = self.now < self.faults_end && self.random.chance(20);
        let now = self.now;
        let node = self.node(id);
        node.kernel.work(node.clock.at(now), goal, keeps);
        node.worked = goal.sequence;
        node.kernel.busy = false;
        let next = node.kernel.next.take();
        self.look_at_kernels();
        self.report_addresses(id);
        if let Some(goal) = next {
            self.work(id, goal);
        }
    }

    fn report_addresses(&mut self, id: NodeId) {
        let now = self.now;
        let node = self.node(id);
        let report = node.kernel.report(node.clock.at(now), node.worked, &setup::device());
        self.step(id, Event::Addresses(report));
    }

    pub(super) fn work(&mut self, id: NodeId, goal: AddressGoal) {
        let takes = self.random.between(MS / 2, 5 * MS);
        let node = self.node(id);
        if node.kernel.busy {
            node.kernel.next = Some(goal);
        } else {
            node.kernel.busy = true;
            self.after_for(takes, id, Happening::Worked(goal));
        }
    }

    pub(super) fn step(&mut self, id: NodeId, event: Event) {
        self.outcome.steps += 1;
        let now = self.now;
        let node = self.node(id);
        let local = node.clock.at(now);
        let Some(director) = &mut node.director else { return };
        let effects = director.step(local, event);
        let due = director.next_deadline();
        let epochs: BTreeMap<_, Epoch> =
            director.epochs().map(|(group, epoch)| (group.clone(), epoch)).collect();
        let fence: Vec<(IpAddr, Instant)> =
            director.deadlines().map(|(address, until)| (address.net.addr(), until)).collect();
        let stopped = director.has_stopped();
        let count = u64::try_from(effects.len()).unwrap_or(u64::MAX);
        self.trace.note(&[now, id.0, local.0, due.0, count]);
        if due <= local {
            self.demand(
                Invariant::NoBusyLoop,
                Err(format!("n{id} wants a tick that is past: a busy loop")),
            );
        }
        for effect in effects {
            self.effect(id, effect);
        }
        self.set_fence(id, fence, &epochs);
        let jitter = self.random.between(0, 300_000);
        let node = self.node(id);
        if node.tick.0 != due {
            node.tick = (due, node.tick.1 + 1);
            let (wish, at) = (node.tick.1, node.clock.real(due));
            self.after_for(at.saturating_sub(now) + jitter, id, Happening::Tick(wish));
        }
        if stopped {
            self.tell(&format!("n{id} has stopped"));
            self.after_for(0, id, Happening::Crash);
        }
    }

    fn set_fence(
        &mut self,
        id: NodeId,
        fence: Vec<(IpAddr, Instant)>,
        epochs: &BTreeMap<GroupName, Epoch>,
    ) {
        let now = self.now;
        let node = self.node(id);
        if node.fence == fence {
            return;
        }
        // A deadline that is past stays in the list for as long as the group is owned.
        let local = node.clock.at(now);
        let open = |fence: &[(IpAddr, Instant)]| -> BTreeSet<IpAddr> {
            fence.iter().filter(|(_, until)| *until > local).map(|(address, _)| *address).collect()
        };
        let (before, open) = (open(&node.fence), open(&fence));
        let opened: Vec<&IpAddr> = open.difference(&before).collect();
        node.fence.clone_from(&fence);
        let applied = node.applied;
        let state = self.log.state(applied);
        for (name, group) in &state.spec.groups {
            let served = group.addresses.iter().any(|vip| open.contains(&vip.net.addr()));
            if let Some(epoch) = epochs.get(name).filter(|_| served) {
                let result = self.epochs.served(id, name, *epoch);
                self.demand(Invariant::EpochsRise, result);
            }
        }
        if !opened.is_empty() {
            self.tell(&format!("n{id} opens {opened:?} under {epochs:?}"));
        }
        self.after_for(50_000, id, Happening::Fence(fence));
    }

    fn effect(&mut self, id: NodeId, effect: Effect) {
        match effect {
            Effect::Send(to, message) => {
                to.into_iter().for_each(|to| self.send(id, to, message.clone()));
            }
            Effect::Persist(promises) => {
                let slow = self.nodes[&id].slow_disk || self.random.chance(10);
                let most = if slow { 300 } else { 6 };
                let takes = self.random.between(MS / 10, most * MS);
                self.node(id).writing = Some(promises.clone());
                self.after_for(takes, id, Happening::Written(promises));
            }
            Effect::Grant(grants) => {
                for grant in &grants {
                    let (group, owner, reason) = (&grant.group, grant.owner, grant.reason);
                    let against = self.nodes[&id].obstacles(self.now, group);
                    self.tell(&format!("n{id} grants {group} to n{owner}: {reason} {against}"));
                }
                if self.log.leader == Some(id) {
                    let at = UnixMillis(self.now / MS);
                    let proposer = Some((id, self.nodes[&id].boot));
                    let command = Command::Grant { at, grants };
                    self.log.push(Content::Command(command), proposer);
                    self.node(id).appended = self.log.length();
                } else if self.plan.mutant != Some(Mutant::ProposalNeverEnds) {
                    self.after_for(20 * MS, id, Happening::Proposed);
                }
            }
            Effect::Addresses(goal) => self.work(id, goal),
            Effect::Services(goal) => self.aim_services(id, goal),
            Effect::Probe(targets) => self.node(id).targets = targets.into_iter().collect(),
            Effect::Ask(questions) => self.ask(id, questions),
            Effect::Announce(..) | Effect::Watch(_) | Effect::Tell(_) => {}
        }
    }
}
