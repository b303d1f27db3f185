//! Three directors driven by hand: a clock that is moved, messages that arrive at once or not at
//! all, and a kernel for each that does what it is told unless it is stuck.

use std::collections::VecDeque;

use super::*;
use crate::command::{Digest, GrantReason, NodeDescription, Order, UnixMillis};
use crate::desired;
use crate::id::LogIndex;
use crate::kernel::MacAddress;
use crate::overrides::Override;
use crate::spec::{Format, parse};
use crate::state::{Configuration, GrantRecord, NodeRecord};

/// Group web with a checked service of two real servers, and group plain without services.
pub(super) const CONFIGURATION: &str = r#"
[group.web]
interface = "public"
addresses = ["10.0.0.100/32"]

[group.plain]
interface = "public"
addresses = ["10.0.0.101/32"]

[service.web]
group = "web"
listen = "tcp/10.0.0.100:80"
forward = "DR"
check = { type = "tcp", interval = "2s" }
real_servers = [{ address = "10.0.0.11:80" }, { address = "10.0.0.12:80" }]
"#;

pub(super) fn group(name: &str) -> GroupName {
    name.parse().unwrap()
}

pub(super) fn eth0() -> DeviceName {
    "eth0".parse().unwrap()
}

/// A VIP by its last octet.
pub(super) fn vip(octet: u8) -> DeviceAddress {
    let address: std::net::IpAddr = [10, 0, 0, octet].into();
    DeviceAddress { device: eth0(), net: address.into() }
}

pub(super) const WEB: u8 = 100;
pub(super) const PLAIN: u8 = 101;

/// A node: its director, and what became of the effects.
pub(super) struct Node {
    pub(super) director: Director,
    pub(super) role: Role,
    pub(super) promises: DurablePromises,
    pub(super) found: ObservedServices,
    /// What the kernel carries.
    pub(super) present: DeviceAddresses,
    /// Whether the kernel leaves address goals undone and unanswered.
    pub(super) stuck: bool,
    /// Every goal.
    pub(super) goals: Vec<AddressGoal>,
    /// What the fence is open for, from each time on that this changed.
    pub(super) open: Vec<(Instant, Vec<DeviceAddress>)>,
    pub(super) services: Vec<ServiceGoal>,
    pub(super) probed: Vec<BTreeSet<ProbeTarget>>,
    pub(super) announced: Vec<DeviceAddress>,
    pub(super) watched: BTreeSet<crate::watch::Watched>,
    pub(super) asked: Vec<BTreeSet<Question>>,
    pub(super) proposed: Vec<Vec<Grant>>,
    pub(super) told: Vec<Told>,
}

/// A message and when it was sent.
pub(super) struct Sent {
    pub(super) at: Instant,
    pub(super) from: u64,
    pub(super) to: u64,
    pub(super) message: Message,
}

pub(super) struct World {
    pub(super) now: Instant,
    pub(super) state: ClusterState,
    pub(super) nodes: BTreeMap<u64, Node>,
    /// Nodes that nothing is heard of and that hear nothing.
    pub(super) cut: BTreeSet<u64>,
    /// What a node that starts has heard of the log.
    pub(super) heard: Option<LogIndex>,
    pub(super) sent: Vec<Sent>,
    /// Hosts that are no nodes and have a VIP, by its last octet.
    pub(super) strangers: BTreeMap<u8, MacAddress>,
    queue: VecDeque<(u64, Event)>,
}

impl World {
    /// Three directors, started and told of the configuration; nothing is granted.
    pub(super) fn new() -> Self {
        Self::with(CONFIGURATION, Role::Director, &ObservedServices::new())
    }

    /// The role of node 3, and what every kernel holds at the start.
    pub(super) fn with(source: &str, third: Role, found: &ObservedServices) -> Self {
        let spec = parse(source, Format::Toml).unwrap();
        let configuration = Configuration {
            revision: crate::id::Revision(1),
            source: source.to_owned(),
            format: Format::Toml,
            author: String::new(),
            at: UnixMillis(0),
            message: String::new(),
            takes_back: None,
            confirmed: None,
        };
        let mut world = Self {
            now: Instant(1_000_000_000),
            state: ClusterState {
                applied: LogIndex(10),
                spec: Arc::new(spec),
                configuration: Some(configuration),
                ..ClusterState::default()
            },
            nodes: BTreeMap::new(),
            cut: BTreeSet::new(),
            heard: Some(LogIndex(10)),
            sent: Vec::new(),
            strangers: BTreeMap::new(),
            queue: VecDeque::new(),
        };
        for id in 1..=3 {
            let role = if id == 3 { third } else { Role::Director };
            let description = NodeDescription {
                name: format!("n{id}").parse().unwrap(),
                role,
                links: Vec::new(),
                public_key: Digest([0; 32]),
            };
            world.state.nodes.insert(NodeId(id), NodeRecord { description, leaving: false });
            let node = world.node(id, id, role, DurablePromises::default(), found.clone());
            world.nodes.insert(id, node);
        }
        for id in 1..=3 {
            world.boot(id);
        }
        world
    }

    fn node(
        &self,
        id: u64,
        incarnation: u64,
        role: Role,
        promises: DurablePromises,
        found: ObservedServices,
    ) -> Node {
        let config = DirectorConfig {
            me: NodeId(id),
            role,
            incarnation: Incarnation(incarnation),
            devices: BTreeMap::from([("public".parse().unwrap(), eth0())]),
        };
        Node {
            director: Director::new(self.now, config, promises.clone()),
            role,
            promises,
            found,
            present: DeviceAddresses::new(),
            stuck: false,
            goals: Vec::new(),
            open: Vec::new(),
            services: Vec::new(),
            probed: Vec::new(),
            announced: Vec::new(),
            watched: BTreeSet::new(),
            asked: Vec::new(),
            proposed: Vec::new(),
            told: Vec::new(),
        }
    }

    pub(super) fn membership(&self) -> Membership {
        let voters: BTreeSet<NodeId> = self.state.nodes.keys().copied().collect();
        Membership { index: LogIndex(1), configs: vec![voters.clone()], nodes: voters }
    }

    /// What a daemon tells its director at the start.
    fn boot(&mut self, id: u64) {
        let membership = self.membership();
        self.event(id, Event::Raft { leads: false, heard: self.heard, membership });
        self.event(id, Event::State(Arc::new(self.state.clone())));
        if self.nodes[&id].role == Role::Director {
            self.event(id, Event::ServicesFound(self.nodes[&id].found.clone()));
            self.kernel_answers(id, 0);
        }
    }

    /// The daemon of a node dies and starts again: another incarnation, its disk kept, its VIPs
    /// removed as a starting daemon does.
    pub(super) fn restart(&mut self, id: u64, incarnation: u64) {
        let old = self.nodes.remove(&id).unwrap();
        let node = self.node(id, incarnation, old.role, old.promises, old.found);
        self.nodes.insert(id, node);
        self.boot(id);
    }

    /// An entry of the log grants a group; returns its epoch.
    pub(super) fn grant_to(&mut self, name: &str, owner: u64, incarnation: u64) -> Epoch {
        self.decide(name, owner, incarnation);
        self.apply_on(&[1, 2, 3]);
        Epoch(self.state.applied.0)
    }

    pub(super) fn grant(&mut self, name: &str, owner: u64) -> Epoch {
        self.grant_to(name, owner, owner)
    }

    /// The entry is in the log, and nobody has applied it yet.
    pub(super) fn decide(&mut self, name: &str, owner: u64, incarnation: u64) {
        self.state.applied.0 += 1;
        let record = GrantRecord {
            epoch: Epoch(self.state.applied.0),
            owner: NodeId(owner),
            incarnation: Incarnation(incarnation),
            reason: GrantReason::First,
            at: UnixMillis(0),
        };
        self.state.grants.insert(group(name), record);
    }

    /// These nodes apply the log to its end.
    pub(super) fn apply_on(&mut self, nodes: &[u64]) {
        for &id in nodes {
            self.event(id, Event::State(Arc::new(self.state.clone())));
        }
    }

    /// An event happens at a node, and all that follows from it at once.
    pub(super) fn event(&mut self, id: u64, event: Event) {
        self.queue.push_back((id, event));
        while let Some((id, event)) = self.queue.pop_front() {
            let director = &mut self.nodes.get_mut(&id).unwrap().director;
            let effects = director.step(self.now, event);
            let deadline = director.next_deadline();
            assert!(deadline > self.now, "n{id} asks for a step that it has just had");
            let open: Vec<DeviceAddress> = director
                .deadlines()
                .filter(|(_, until)| *until > self.now)
                .map(|(address, _)| address.clone())
                .collect();
            if open != self.serves(id) {
                self.nodes.get_mut(&id).unwrap().open.push((self.now, open));
            }
            for effect in effects {
                self.carry_out(id, effect);
            }
        }
    }

    fn carry_out(&mut self, id: u64, effect: Effect) {
        let now = self.now;
        let node = self.nodes.get_mut(&id).unwrap();
        match effect {
            Effect::Send(to, message) => {
                for NodeId(to) in to {
                    if !self.cut.contains(&id) && !self.cut.contains(&to) {
                        let event = Event::Message(NodeId(id), message.clone());
                        self.queue.push_back((to, event));
                    }
                    self.sent.push(Sent { at: now, from: id, to, message: message.clone() });
                }
            }
            Effect::Persist(promises) => {
                node.promises = promises.clone();
                self.queue.push_back((id, Event::Persisted(promises)));
            }
            Effect::Grant(grants) => node.proposed.push(grants),
            Effect::Addresses(goal) => {
                node.goals.push(goal);
                if !node.stuck {
                    let carried = self.carry(id);
                    self.queue.push_back((id, carried));
                }
            }
            Effect::Services(goal) => {
                let report = ServiceReport { sequence: goal.sequence, ..ServiceReport::default() };
                node.services.push(goal);
                self.queue.push_back((id, Event::Services(report)));
            }
            Effect::Announce(address, _) => node.announced.push(address),
            Effect::Probe(targets) => node.probed.push(targets),
            Effect::Watch(watched) => node.watched = watched,
            Effect::Tell(told) => node.told.extend(told),
            Effect::Ask(questions) => {
                let answers = self.ask(id, &questions);
                self.nodes.get_mut(&id).unwrap().asked.push(questions);
                self.queue.push_back((id, Event::Answered(answers)));
            }
        }
    }

    /// The kernel does what the newest goal says.
    fn carry(&mut self, id: u64) -> Event {
        let now = self.now;
        let node = self.nodes.get_mut(&id).unwrap();
        let goal = node.goals.last().unwrap();
        let present = std::mem::take(&mut node.present);
        let open: DeviceAddresses = node
            .director
            .deadlines()
            .filter(|(_, until)| *until > now)
            .map(|(address, _)| address.clone())
            .collect();
        let carried = |(address, _): &(&DeviceAddress, &Instant)| {
            open.contains(*address) || present.contains(*address)
        };
        node.present = goal.wanted.iter().filter(carried).map(|(a, _)| a.clone()).collect();
        Event::Addresses(self.report(id, self.nodes[&id].goals.last().unwrap().sequence))
    }

    fn report(&self, id: u64, sequence: u64) -> AddressReport {
        AddressReport {
            sequence,
            present: self.nodes[&id].present.clone(),
            failed: BTreeMap::new(),
            devices: BTreeMap::from([(eth0(), DeviceCondition::Up)]),
            ..AddressReport::default()
        }
    }

    /// The kernel tells what it carries, as the answer to this goal.
    pub(super) fn kernel_answers(&mut self, id: u64, sequence: u64) {
        self.event(id, Event::Addresses(self.report(id, sequence)));
    }

    /// The kernel is stuck no longer and does the newest goal.
    pub(super) fn kernel_goes_on(&mut self, id: u64) {
        self.nodes.get_mut(&id).unwrap().stuck = false;
        let event = self.carry(id);
        self.event(id, event);
    }

    /// Lets time pass; every director is stepped when it asks to be.
    pub(super) fn run(&mut self, time: Duration) {
        let end = self.now + time;
        loop {
            let next = self.nodes.values().map(|node| node.director.next_deadline()).min();
            let Some(next) = next.filter(|next| *next <= end) else { break };
            self.now = next;
            let due = |node: &Node| node.director.next_deadline() <= next;
            let ids: Vec<u64> =
                self.nodes.iter().filter(|(_, node)| due(node)).map(|(id, _)| *id).collect();
            for id in ids {
                self.event(id, Event::Tick);
            }
        }
        self.now = end;
    }

    pub(super) fn director(&self, id: u64) -> &Director {
        &self.nodes[&id].director
    }

    /// The VIPs for which a node's fence is open.
    pub(super) fn serves(&self, id: u64) -> Vec<DeviceAddress> {
        self.nodes[&id].open.last().map(|(_, open)| open.clone()).unwrap_or_default()
    }

    /// When a node first opened the fence for anything.
    pub(super) fn opened_at(&self, id: u64) -> Option<Instant> {
        self.nodes[&id].open.iter().find(|(_, open)| !open.is_empty()).map(|(at, _)| *at)
    }

    /// When a node's fence was closed for everything, each time after it was open.
    pub(super) fn closed_at(&self, id: u64) -> Vec<Instant> {
        self.nodes[&id].open.iter().filter(|(_, open)| open.is_empty()).map(|(at, _)| *at).collect()
    }

    /// The end of the lease that a node holds.
    pub(super) fn lease_end(&self, id: u64, name: &str) -> Option<Instant> {
        let view = self.director(id).view(self.now);
        view.held.get(&group(name)).map(|(_, left)| self.now + *left)
    }

    /// The nodes that a node told of a release, with the epoch.
    pub(super) fn released(&self, from: u64, name: &str) -> Vec<(u64, Epoch)> {
        let told = |sent: &Sent| match &sent.message {
            Message::Released(groups) if sent.from == from => {
                groups.get(&group(name)).map(|epoch| (sent.to, *epoch))
            }
            _ => None,
        };
        self.sent.iter().filter_map(told).collect()
    }

    /// The epochs of a group that a node has asked others to support since `since`.
    pub(super) fn renewed(&self, from: u64, name: &str, since: Instant) -> BTreeSet<Epoch> {
        let asked = |sent: &Sent| match &sent.message {
            Message::Renew(renew) if sent.from == from && sent.at >= since => {
                renew.groups.get(&group(name)).map(|asked| asked.epoch)
            }
            _ => None,
        };
        self.sent.iter().filter_map(asked).collect()
    }

    /// The weights of web's real servers in a node's newest goal, by last octet.
    pub(super) fn weights(&self, id: u64) -> Vec<(String, u32)> {
        let goal = self.nodes[&id].services.last().unwrap();
        let service = goal.services.values().next().unwrap();
        let weights = service.destinations.iter();
        weights.map(|(server, to)| (server.to_string(), to.weight)).collect()
    }

    /// Another configuration is in force, on every node.
    pub(super) fn configure(&mut self, source: &str) {
        self.state.spec = Arc::new(parse(source, Format::Toml).unwrap());
        self.state.applied = LogIndex(self.state.applied.0 + 1);
        self.apply_on(&[1, 2, 3]);
    }

    /// An operator gives one of web's real servers a weight, or takes that back.
    pub(super) fn weigh(&mut self, octet: u8, weight: Option<u32>) {
        let order = Order { author: "ada".to_owned(), at: UnixMillis(0) };
        let to = weight.map(|weight| Override { weight, order, until: None });
        let web = self.state.spec.services.keys().next().unwrap().clone();
        self.state.overrides.set(&web, ([10, 0, 0, octet], 80).into(), to);
        self.state.applied = LogIndex(self.state.applied.0 + 1);
        self.apply_on(&[1, 2, 3]);
    }

    /// Probing one of web's real servers came to a verdict, and the table follows.
    pub(super) fn verdict(&mut self, id: u64, octet: u8, verdict: Verdict) {
        self.hear_verdict(id, octet, verdict);
        self.run(Duration::from_millis(6));
    }

    /// Probing one of web's real servers came to a verdict, and no time goes by.
    pub(super) fn hear_verdict(&mut self, id: u64, octet: u8, verdict: Verdict) {
        let address = std::net::SocketAddr::from(([10, 0, 0, octet], 80));
        let targets = desired::probe_targets(&self.state.spec);
        let target = targets.into_iter().find(|target| target.address == address).unwrap();
        self.event(id, Event::Verdict(target, verdict));
    }
}
