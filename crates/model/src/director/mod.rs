//! One node's whole behaviour outside Raft: `step(now, event) -> effects`, without I/O.
//!
//! ```text
//!   replicated state, membership ──┐                 ┌── messages to other nodes
//!   messages of other nodes ───────┤                 ├── promises to write durably
//!   promises are durable ──────────┼──►  step()  ────┼── grants to propose (Raft leader only)
//!   what the kernel holds ─────────┤                 ├── addresses and services the kernel shall hold
//!   verdicts, time ────────────────┘                 └── announcements, probes
//! ```
//!
//! Effects on the kernel are goals, not steps: the newest one counts, however many were missed.
//! The parts: `leases` (renewals, voting, grants), `goals` (what the kernel shall hold), `follow` (verdicts), `view`
//! (what others may ask). Tests: `director/tests.rs`.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use crate::announce::Announcements;
use crate::claim::{Answer, Question};
use crate::command::Grant;
use crate::desired::{Lost, Verdicts};
use crate::id::{DeviceName, Epoch, GroupName, Incarnation, InterfaceName, LogIndex, NodeId, Role};
use crate::kernel::{
    DesiredServices, DeviceAddress, DeviceAddresses, ObservedServices, ServiceKey,
};
use crate::leaving::Leaving;
use crate::occurrence::Told;
use crate::ownership::message::{Message, Obstacle};
use crate::ownership::owner::Owner;
use crate::ownership::quorum::Membership;
use crate::ownership::voter::{DurablePromises, Voter, VoterView};
use crate::placement::{Placement, PlacementView, ReceivedReport};
use crate::probe::{ProbeTarget, Verdict};
use crate::reach::Hearsay;
use crate::routing::RoutingEntry;
use crate::slow_start::SlowStart;
use crate::spec::ClusterSpec;
use crate::state::ClusterState;
use crate::time::Instant;
use crate::watch::Watched;

mod facts;
mod follow;
mod goals;
mod leases;
mod reaching;
mod routing;
mod tell;
#[cfg(test)]
mod tests;
mod view;

pub use goals::{AddressGoal, ServiceGoal};
pub use view::DirectorView;

/// What a director is, for the life of its daemon.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DirectorConfig {
    /// This node.
    pub me: NodeId,
    /// Director or witness.
    pub role: Role,
    /// A random number of this start.
    pub incarnation: Incarnation,
    /// The devices behind the cluster's interface names.
    pub devices: BTreeMap<InterfaceName, DeviceName>,
}

/// How a device is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DeviceCondition {
    /// It exists, is up and has a carrier.
    Up,
    /// It exists but can't carry traffic.
    Down,
    /// There is none of this name.
    Missing,
}

/// What the kernel's addresses are after a goal was worked on.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct AddressReport {
    /// The goal's number.
    pub sequence: u64,
    /// The VIPs found afterwards, wanted or not.
    pub present: DeviceAddresses,
    /// What the kernel refused, and why.
    pub failed: BTreeMap<DeviceAddress, String>,
    /// The devices.
    pub devices: BTreeMap<DeviceName, DeviceCondition>,
    /// Why the fence does not stand on every device as it should; `None` where it does.
    pub unfenced: Option<String>,
    /// VIPs that another program had configured here, for good, with what was done about it.
    pub strange: BTreeMap<DeviceAddress, String>,
    /// Routes and policy rules that are not as wanted, and why.
    pub routing: BTreeMap<RoutingEntry, String>,
}

/// What the kernel's IPVS table is after a goal was worked on.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct ServiceReport {
    /// The goal's number; 0 before the first.
    pub sequence: u64,
    /// Why no service can be programmed at all.
    pub obstacle: Option<Obstacle>,
    /// What the kernel refused, and why.
    pub failed: BTreeMap<ServiceKey, String>,
    /// Whether both sync daemons run as wanted.
    pub synced: bool,
}

/// What happened.
#[derive(Debug, Clone)]
pub enum Event {
    /// Time went by.
    Tick,
    /// An entry of the log was applied.
    State(Arc<ClusterState>),
    /// Raft's view changed.
    Raft {
        /// Whether this node leads.
        leads: bool,
        /// How far the log is committed, as a leader has said since this daemon started.
        heard: Option<LogIndex>,
        /// The membership in effect, committed or not.
        membership: Membership,
    },
    /// A message came from another node.
    Message(NodeId, Message),
    /// What [`Effect::Persist`] asked for is on disk.
    Persisted(DurablePromises),
    /// A proposal ended, applied or not.
    Proposed,
    /// What the kernel's IPVS table held when the daemon started.
    ServicesFound(ObservedServices),
    /// A service goal was worked on.
    Services(ServiceReport),
    /// An address goal was worked on.
    Addresses(AddressReport),
    /// Probing came to another verdict.
    Verdict(ProbeTarget, Verdict),
    /// A target could not be tried for so long that its verdict says nothing any more, or can be again.
    Blind(ProbeTarget, bool),
    /// Other directors were asked what they see: what counts until this one has probed.
    Hearsay(Hearsay),
    /// Trying an arbitration address or a track came to another verdict.
    Found(Watched, Verdict),
    /// What [`Effect::Ask`] asked was answered, or nobody answered in time.
    Answered(BTreeMap<Question, Answer>),
    /// The disk of the data directory counts as full, in words, or does not any more.
    Disk(Option<String>),
    /// The daemon is told to stop: give everything up.
    Stop,
}

/// What is to be done.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Effect {
    /// Send this to each of these nodes; it may get lost.
    Send(Vec<NodeId>, Message),
    /// Write this durably, then say [`Event::Persisted`].
    Persist(DurablePromises),
    /// Propose these grants, then say [`Event::Proposed`].
    Grant(Vec<Grant>),
    /// Make the kernel's VIPs so.
    Addresses(AddressGoal),
    /// Make the kernel's IPVS table so.
    Services(ServiceGoal),
    /// Announce an address, if its lease still runs.
    Announce(DeviceAddress, Instant),
    /// Probe these targets, and no others.
    Probe(BTreeSet<ProbeTarget>),
    /// Try these arbitration addresses and tracks, and no others.
    Watch(BTreeSet<Watched>),
    /// Ask the network who has these addresses, then say [`Event::Answered`].
    Ask(BTreeSet<Question>),
    /// Tell whoever wants to know that this happened.
    Tell(Vec<Told>),
}

/// A group that this node serves no more, until its release is told.
#[derive(Debug, Clone)]
struct Closing {
    epoch: Epoch,
    addresses: DeviceAddresses,
    /// The address goal that no longer wants them.
    sequence: u64,
    /// How often the release is still to be sent, once the addresses are gone.
    tellings: u32,
}

/// An address that the kernel carries for a group that this node owns.
#[derive(Debug, Clone)]
struct Serving {
    /// The end of its lease: the fence is open until then. May be past: a lapse is not a loss, and
    /// the address stays behind its closed fence.
    until: Instant,
    /// Whether the lease ran when it was last looked at.
    open: bool,
    announcements: Announcements,
}

/// One node's behaviour.
#[derive(Debug)]
pub struct Director {
    config: DirectorConfig,
    state: Arc<ClusterState>,
    membership: Membership,
    leads: bool,
    stopping: bool,
    voter: Voter,
    owner: Owner,
    given_up: BTreeMap<GroupName, Epoch>,
    /// When a grant was applied last.
    last_grant: Option<Instant>,
    closing: BTreeMap<GroupName, Closing>,
    placement: Placement,
    proposing: bool,
    reports: BTreeMap<NodeId, ReceivedReport>,
    report_sequence: u64,
    next_round: Instant,
    /// When a release made this node ask before its time, last.
    last_hint: Instant,
    serving: BTreeMap<DeviceAddress, Serving>,
    address_sequence: u64,
    /// The VIPs of the configuration, as the last address goal named them.
    known: DeviceAddresses,
    /// The routes and policy rules that it wanted.
    routed: BTreeMap<RoutingEntry, DeviceAddresses>,
    next_refresh: Instant,
    addresses: AddressReport,
    /// When the kernel last refused an address. A director that does not own the group does not
    /// try, so what it would say is not known from its last report.
    refused: BTreeMap<DeviceAddress, Instant>,
    found: Option<ObservedServices>,
    service_goal: Option<ServiceGoal>,
    /// How far the log is committed, as a leader has said since this daemon started.
    heard: Option<LogIndex>,
    /// Until when the kernel's table is left as the daemon before it had it, if no leader is heard of
    /// sooner.
    waits: Option<Instant>,
    /// The real servers that left the configuration, and still have connections.
    leaving: Leaving,
    services: Option<ServiceReport>,
    /// The groups that have services, and whether the kernel took all of each.
    programmed: BTreeMap<GroupName, bool>,
    /// Since when the kernel runs both sync daemons.
    synced_since: Option<Instant>,
    verdicts: Verdicts,
    /// The services whose real servers are too few.
    lost: Lost,
    /// The real servers that get their weight in steps.
    slow_start: SlowStart,
    following: follow::Following,
    /// The configuration with the weights that operators gave real servers.
    weighted: Arc<ClusterSpec>,
    /// That by which the verdicts are known.
    probed: Arc<ClusterSpec>,
    /// Why nothing new is begun here: the disk counts as full.
    full: Option<String>,
    facts: facts::Facts,
    reaching: reaching::Reaching,
    telling: tell::Telling,
}

impl Director {
    /// A director whose daemon started at `now`, with the promises that it had written before.
    #[must_use]
    pub fn new(now: Instant, config: DirectorConfig, promises: DurablePromises) -> Self {
        Self {
            owner: Owner::new(config.incarnation),
            config,
            state: Arc::new(ClusterState::default()),
            membership: Membership::default(),
            leads: false,
            stopping: false,
            voter: Voter::new(now, promises),
            given_up: BTreeMap::new(),
            last_grant: None,
            closing: BTreeMap::new(),
            placement: Placement::default(),
            proposing: false,
            reports: BTreeMap::new(),
            report_sequence: 0,
            next_round: now,
            last_hint: Instant::default(),
            serving: BTreeMap::new(),
            address_sequence: 0,
            known: DeviceAddresses::new(),
            routed: BTreeMap::new(),
            next_refresh: now,
            addresses: AddressReport::default(),
            refused: BTreeMap::new(),
            found: None,
            service_goal: None,
            heard: None,
            waits: None,
            leaving: Leaving::default(),
            services: None,
            programmed: BTreeMap::new(),
            synced_since: None,
            verdicts: Verdicts::new(),
            lost: Lost::new(),
            slow_start: SlowStart::default(),
            following: follow::Following::default(),
            weighted: Arc::default(),
            probed: Arc::default(),
            full: None,
            facts: facts::Facts::default(),
            reaching: reaching::Reaching::default(),
            telling: tell::Telling::default(),
        }
    }

    /// Takes an event and says what is to be done now.
    pub fn step(&mut self, now: Instant, event: Event) -> Vec<Effect> {
        let mut effects = Vec::new();
        let mut decisive = matches!(event, Event::State(_) | Event::Raft { .. } | Event::Stop);
        let kernel_told = matches!(event, Event::Services(_) | Event::Addresses(_));
        let found_out = matches!(event, Event::Found(..) | Event::Answered(_) | Event::Disk(_));
        let learned = matches!(event, Event::Addresses(_) | Event::Answered(_));
        match event {
            Event::Tick => {}
            Event::State(state) => self.state_changed(now, state, &mut effects),
            Event::Raft { leads, heard, membership } => {
                self.heard = heard;
                self.note_current();
                self.catch_up(now, &mut effects);
                self.raft_changed(now, leads, membership);
            }
            Event::Message(from, message) => {
                decisive = self.message(now, from, message, &mut effects);
            }
            Event::Persisted(written) => self.persisted(now, written, &mut effects),
            Event::Proposed => self.proposing = false,
            Event::ServicesFound(found) => self.services_found(now, found, &mut effects),
            Event::Services(report) => self.services_applied(now, report),
            Event::Addresses(report) => self.addresses_applied(now, report, &mut effects),
            Event::Verdict(target, verdict) => self.verdict(now, target, verdict, &mut effects),
            Event::Blind(target, blind) => self.blinded(target, blind),
            Event::Hearsay(told) => self.heard_say(now, &told, &mut effects),
            Event::Found(watched, verdict) => self.found(now, &watched, verdict),
            Event::Answered(answers) => self.answered(now, answers),
            Event::Disk(full) => self.full = full,
            Event::Stop => self.stop(now, &mut effects),
        }
        if decisive || learned || now >= self.next_round {
            self.claim(now, &mut effects);
        }
        // What keeps a director from serving is told at once, not with the next round.
        let news = (kernel_told || found_out) && self.tell_obstacles(now, &mut effects);
        self.due(now, decisive || news, &mut effects);
        effects
    }

    /// When [`Event::Tick`] is due at the latest.
    #[must_use]
    pub fn next_deadline(&self) -> Instant {
        let open = || self.serving.iter().filter(|(_, serving)| serving.open);
        let lapse = open().map(|(_, serving)| serving.until);
        let carried = open().filter(|(address, _)| self.addresses.present.contains(address));
        let announce = carried.map(|(_, serving)| serving.announcements.due());
        let times = lapse.chain(announce).chain([self.next_round]);
        let refresh = open().next().is_some().then_some(self.next_refresh);
        let times = times.chain(refresh).chain(self.leaving.next_end()).chain(self.waits);
        let times = times.chain(self.following.due).chain(self.slow_start.next_step());
        times.chain(self.suspicion_due()).min().unwrap_or(self.next_round)
    }

    /// Whether a group is on its way to another owner: one was granted lately, and some owner's
    /// lease does not run yet. Not for ever, since a group may stay without an owner, and the
    /// node that is to blame must be removable.
    #[must_use]
    pub fn takeover(&self, now: Instant) -> bool {
        let lately = |granted: Instant| now.since(granted) < self.state.longest_promise() * 2;
        let lease = self.state.timing.lease();
        self.last_grant.is_some_and(lately)
            && self
                .state
                .grants
                .iter()
                .any(|(group, g)| self.voter.held_epoch(now, group, lease) != Some(g.epoch))
    }

    /// Whether a stopping node has given everything up and told so.
    #[must_use]
    pub fn has_stopped(&self) -> bool {
        self.stopping
            && self.serving.is_empty()
            && self.owner.groups().next().is_none()
            && self.closing.values().all(|closing| closing.tellings < leases::TELLINGS)
    }

    /// What is due by time: leases that lapse, rounds, goals, announcements.
    fn due(&mut self, now: Instant, decisive: bool, effects: &mut Vec<Effect>) {
        let round = now >= self.next_round;
        if round {
            self.next_round = now + self.state.timing.renew();
            self.send_round(now, effects);
            self.send_report(now, effects);
            self.tell_releases(effects);
            self.compare_reach(now, effects);
        }
        // So is that an owner is silent: with the next round, up to two intervals would be lost.
        let suspects = self.suspicion_due().is_some_and(|due| now >= due);
        if suspects {
            self.send_report(now, effects);
        }
        // A leader whose disk is full can't write a grant: another one is about to lead.
        let leads = self.leads && self.full.is_none();
        if leads && !self.proposing && (round || decisive || suspects) {
            let view = PlacementView {
                now,
                state: &self.state,
                membership: &self.membership,
                reports: &self.reports,
                behind: &self.reaching.behind,
            };
            let grants = self.placement.decide(view);
            if !grants.is_empty() {
                self.proposing = true;
                effects.push(Effect::Grant(grants));
            }
        }
        let expired = self.leaving.expire(now);
        let waited = self.waits.take_if(|until| now >= *until).is_some();
        if waited {
            self.forget_found();
        }
        if expired || waited {
            self.aim_services(now, effects);
        }
        self.follow_late_verdicts(now, effects);
        self.raise_weights(now, effects);
        self.serve(now, effects);
        self.announce(now, effects);
    }

    fn voter_view<'a>(state: &'a ClusterState, membership: &'a Membership) -> VoterView<'a> {
        VoterView { membership, state }
    }
}
