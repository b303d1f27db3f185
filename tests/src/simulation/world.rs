//! One run: the nodes, what connects them, and the queue of what happens next in real time.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use quorate_model::command::{Command, UnixMillis};
use quorate_model::director::{Director, Effect, Event, ServiceReport};
use quorate_model::id::{Epoch, NodeId};
use quorate_model::kernel::ObservedServices;
use quorate_model::ownership::message::Message;
use quorate_model::time::Instant;

use super::clock::{Clock, MS, Real};
use super::faults::Undo;
use super::invariants::epoch_never_goes_back::Epochs;
use super::invariants::{at_most_one_director_serves_a_group, every_group_gets_an_owner};
use super::log::{Content, Log};
use super::mutant::Mutant;
use super::network::{Network, Weather};
use super::node::{Happening, Missed, Node};
use super::raft::Election;
use super::random::Random;
use super::setup;
use super::trace::Trace;

/// Datagrams that wait for a paused daemon: a socket's buffer holds no more.
const MISSED_MAX: usize = 2_000;

/// What to run.
#[derive(Debug, Clone, Copy)]
pub struct Plan {
    /// What everything random comes from.
    pub seed: u64,
    /// Voters at the beginning; one node more does not vote yet.
    pub voters: u64,
    /// What is broken, if anything.
    pub mutant: Option<Mutant>,
}

/// What came of it.
#[derive(Debug, Clone)]
pub struct Outcome {
    /// Depends on every step.
    pub hash: u64,
    /// What went wrong, with the last of what happened.
    pub violation: Option<String>,
    /// Grants that were applied.
    pub grants: u64,
    /// Changes of the voters that were committed.
    pub memberships: u64,
    /// Steps of all directors.
    pub steps: u64,
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
    pub(super) trace: Trace,
    pub(super) faults_end: Real,
    pub(super) outcome: Outcome,
    queue: BTreeMap<(Real, u64), Item>,
    queued: u64,
    epochs: Epochs,
    watch_until: Real,
    grants_when_calm: Option<u64>,
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
    let story = world.trace.story();
    if let Some(violation) = &mut world.outcome.violation {
        *violation = format!("{story}at {} ms: {violation}", world.now / MS);
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
                offset: random.between(1, 1_000_000 * MS),
                rate: random.between(990_000, 1_010_000),
            };
            let mut node = Node::new(clock);
            node.kernel.unfenced = plan.mutant == Some(Mutant::NoFence);
            nodes.insert(id, node);
        }
        let weather = Weather::any(&mut random);
        let faults_end = random.between(2_000, 5_000) * MS;
        let outcome = Outcome { hash: 0, violation: None, grants: 0, memberships: 0, steps: 0 };
        Self {
            plan,
            now: 0,
            random,
            nodes,
            log: Log::new(ids),
            network: Network::new(weather),
            election: Election::default(),
            trace: Trace::default(),
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

    fn violated(&mut self, result: Result<(), String>) {
        if let Err(violation) = result
            && self.outcome.violation.is_none()
        {
            self.outcome.violation = Some(violation);
        }
    }

    fn happen(&mut self, item: Item) {
        match item {
            Item::Happening(id, boot, happening) => {
                if self.nodes[&id].boot == boot && self.nodes[&id].director.is_some() {
                    self.to_node(id, happening);
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
        }
    }

    fn to_node(&mut self, id: NodeId, happening: Happening) {
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
                    self.violated(Err(format!("n{id} wants a tick again at once: a busy loop")));
                }
            }
            Happening::Persisted(written) => self.step(id, Event::Persisted(written)),
            Happening::Worked(goal) => self.worked(id, &goal),
            Happening::Looked => self.report_addresses(id),
            Happening::ServicesFound => {
                self.step(id, Event::ServicesFound(ObservedServices::new()));
            }
            Happening::Services(sequence) => {
                let report = ServiceReport { sequence, ..ServiceReport::default() };
                self.step(id, Event::Services(report));
            }
            Happening::Fence(deadlines) => {
                node.kernel.set_fence(&deadlines);
                self.look_at_kernels();
            }
            Happening::Proposed => self.step(id, Event::Proposed),
            Happening::Applied(state) => self.step(id, Event::State(state)),
            Happening::Raft { leads, membership } => self.tell_raft(id, leads, membership),
            Happening::Stop => {
                self.step(id, Event::Stop);
                self.after_for(1_000 * MS, id, Happening::Crash);
            }
            Happening::Written(_) | Happening::Crash => {}
        }
    }

    fn tell_raft(
        &mut self,
        id: NodeId,
        leads: bool,
        mut membership: quorate_model::ownership::quorum::Membership,
    ) {
        if self.plan.mutant == Some(Mutant::Minority) {
            membership.configs = vec![BTreeSet::from([id])];
        }
        self.step(id, Event::Raft { leads, membership });
    }

    fn look_at_kernels(&mut self) {
        let result =
            at_most_one_director_serves_a_group::check(self.now, &self.nodes, &setup::addresses());
        self.violated(result);
    }

    fn worked(&mut self, id: NodeId, goal: &quorate_model::director::AddressGoal) {
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

    fn work(&mut self, id: NodeId, goal: quorate_model::director::AddressGoal) {
        let takes = self.random.between(MS / 2, 5 * MS);
        let node = self.node(id);
        if node.kernel.busy {
            node.kernel.next = Some(goal);
        } else {
            node.kernel.busy = true;
            self.after_for(takes, id, Happening::Worked(goal));
        }
    }

    fn start(&mut self, id: NodeId) {
        if self.nodes[&id].director.is_some() {
            return;
        }
        let fresh = self.random.next();
        let replayed = self.random.between(0, 2);
        let mutant = self.plan.mutant;
        let (now, log) = (self.now, &self.log);
        let Some(node) = self.nodes.get_mut(&id) else { return };
        node.boot += 1;
        node.incarnation = fresh;
        if mutant == Some(Mutant::NoQuarantine) {
            node.disk.longest = std::time::Duration::ZERO;
        }
        if mutant == Some(Mutant::VolatileFloor) {
            node.disk.floors.clear();
        }
        // What was applied is known from a snapshot, which may be older.
        node.applied = if replayed == 0 || mutant == Some(Mutant::VolatileFloor) {
            0
        } else {
            node.applied.min(log.committed())
        };
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
        self.step(id, Event::State(state));
        let looks = self.random.between(MS, 20 * MS);
        self.after_for(looks, id, Happening::Looked);
        self.after_for(looks / 2, id, Happening::ServicesFound);
        self.after_for(looks, id, Happening::Services(0));
    }

    fn crash(&mut self, id: NodeId) {
        let written = self.random.chance(500);
        let node = self.node(id);
        node.director = None;
        node.paused = false;
        node.missed.clear();
        node.kernel.abandon();
        if let Some(writing) = node.writing.take().filter(|_| written) {
            node.disk = writing;
        }
        self.tell(&format!("n{id} is dead"));
        let rest = self.random.between(5, 1_500) * MS;
        self.after(rest, Item::Start(id));
    }

    pub(super) fn resume(&mut self, id: NodeId) {
        let node = self.node(id);
        if !node.paused {
            return;
        }
        node.paused = false;
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

    fn step(&mut self, id: NodeId, event: Event) {
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
            self.violated(Err(format!("n{id} wants a tick that is past: a busy loop")));
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
        epochs: &BTreeMap<quorate_model::id::GroupName, Epoch>,
    ) {
        let node = self.node(id);
        if node.fence == fence {
            return;
        }
        let opened: Vec<IpAddr> =
            fence.iter().map(|f| f.0).filter(|a| node.fence.iter().all(|f| f.0 != *a)).collect();
        node.fence.clone_from(&fence);
        let applied = node.applied;
        let state = self.log.state(applied);
        for (name, group) in &state.spec.groups {
            let served = |a: &IpAddr| fence.iter().any(|f| f.0 == *a);
            let open = group.addresses.iter().any(|vip| served(&vip.net.addr()));
            if let Some(epoch) = epochs.get(name).filter(|_| open) {
                let result = self.epochs.served(id, name, *epoch);
                self.violated(result);
            }
        }
        if !opened.is_empty() {
            self.tell(&format!("n{id} opens {opened:?} under {epochs:?}"));
        }
        self.after_for(50_000, id, Happening::Fence(fence));
    }

    fn effect(&mut self, id: NodeId, effect: Effect) {
        match effect {
            Effect::Send(to, message) => self.send(id, to, message),
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
                    self.tell(&format!("n{id} grants {group} to n{owner}: {reason}"));
                }
                if self.log.leader == Some(id) {
                    let at = UnixMillis(self.now / MS);
                    let proposer = Some((id, self.nodes[&id].boot));
                    let command = Command::Grant { at, grants };
                    self.log.push(Content::Command(command), proposer);
                    self.node(id).appended = self.log.length();
                } else {
                    self.after_for(20 * MS, id, Happening::Proposed);
                }
            }
            Effect::Addresses(goal) => self.work(id, goal),
            Effect::Services(goal) => {
                self.after_for(MS, id, Happening::Services(goal.sequence));
            }
            Effect::Announce(..) | Effect::Probe(_) => {}
        }
    }

    fn send(&mut self, from: NodeId, to: NodeId, message: Message) {
        match &message {
            Message::RenewReply(reply) => {
                let result = self.epochs.answered(from, reply);
                self.violated(result);
            }
            Message::Renew(renew) => self.node(from).newest = renew.round,
            Message::Released(groups) => {
                if to.0 == 1 || from.0 == 1 {
                    self.tell(&format!("n{from} releases {groups:?}"));
                }
            }
            Message::Report(_) => {}
        }
        for delay in self.network.delays(&mut self.random, from, to) {
            self.after(delay, Item::Datagram(to, from, message.clone()));
        }
    }

    fn arrive(&mut self, to: NodeId, from: NodeId, mut message: Message) {
        let mutant = self.plan.mutant;
        let Some(node) = self.nodes.get_mut(&to) else { return };
        if node.director.is_none() {
            return;
        }
        if node.paused {
            if node.missed.len() < MISSED_MAX {
                node.missed.push(Missed::Datagram(from, message));
            }
            return;
        }
        let mut forged = Vec::new();
        match &mut message {
            Message::Renew(renew) => {
                if mutant == Some(Mutant::ShortPromise) {
                    renew.lease /= 3;
                }
                if mutant == Some(Mutant::NoHeld) {
                    let others = node.heard.iter().filter(|((other, _), _)| *other != from);
                    forged.extend(others.map(|((other, group), epoch)| {
                        let released = BTreeMap::from([(group.clone(), *epoch)]);
                        (*other, Message::Released(released))
                    }));
                }
                for (group, asked) in &renew.groups {
                    node.heard.insert((from, group.clone()), asked.epoch);
                }
            }
            Message::Released(groups) if mutant == Some(Mutant::ReleaseOfAnyEpoch) => {
                for (group, epoch) in groups.iter_mut() {
                    let latest = node.heard.get(&(from, group.clone()));
                    *epoch = latest.copied().unwrap_or(*epoch);
                }
            }
            Message::RenewReply(reply) if mutant == Some(Mutant::AckForTheNewestRound) => {
                reply.round = node.newest;
            }
            _ => {}
        }
        for (other, message) in forged {
            self.step(to, Event::Message(other, message));
        }
        self.step(to, Event::Message(from, message));
    }

    fn calm(&mut self) {
        self.tell("the faults are over");
        self.network.heal();
        self.network.weather = Weather::CALM;
        let ids: Vec<NodeId> = self.nodes.keys().copied().collect();
        for id in ids {
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

    fn watch(&mut self) {
        if self.grants_when_calm.is_none() {
            self.grants_when_calm = Some(self.outcome.grants);
            self.watch_until = self.now + 1_000 * MS;
        }
        let state = self.log.state(self.log.committed());
        let result = every_group_gets_an_owner::check(self.now, &self.nodes, &state.spec);
        self.violated(result);
        if self.grants_when_calm != Some(self.outcome.grants) {
            self.violated(Err("a group moves though all is well".to_owned()));
        }
        self.after(10 * MS, Item::Watch);
    }
}
