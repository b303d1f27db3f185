//! One node of a run: what survives a crash of its daemon, and the daemon.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::net::IpAddr;
use std::sync::Arc;

use quorate_dataplane::fake::FakeKernel;
use quorate_model::claim::Question;
use quorate_model::director::{AddressGoal, Director, ServiceGoal};
use quorate_model::id::{Epoch, GroupName, NodeId, Round};
use quorate_model::kernel::ServiceKey;
use quorate_model::ownership::message::Message;
use quorate_model::ownership::quorum::Membership;
use quorate_model::ownership::voter::DurablePromises;
use quorate_model::probe::{ProbeTarget, Verdict};
use quorate_model::spec::ClusterSpec;
use quorate_model::state::ClusterState;
use quorate_model::time::Instant;

use super::clock::{Clock, Real};
use super::kernel::Kernel;

/// What happens to one start of a daemon.
#[derive(Debug, Clone)]
pub enum Happening {
    /// The time that the director asked for has come; the number tells whether it still asks.
    Tick(u64),
    /// A write has reached the disk.
    Written(DurablePromises),
    /// The daemon hears of it.
    Persisted(DurablePromises),
    /// The kernel is done with a goal.
    Worked(AddressGoal),
    /// Devices and addresses are looked at unasked.
    Looked,
    /// The IPVS table was read at the start.
    ServicesFound,
    /// The IPVS table is brought in line with the goal.
    Program,
    /// Probing came to a verdict.
    Verdict(ProbeTarget, Verdict),
    /// The fence is set.
    Fence(Vec<(IpAddr, Instant)>),
    /// The network was asked who has these addresses.
    Asked(BTreeSet<Question>),
    /// A proposal ended.
    Proposed,
    /// Entries were applied.
    Applied(Arc<ClusterState>),
    /// Raft's view changed.
    Raft {
        /// Whether this node leads.
        leads: bool,
        /// The membership in effect.
        membership: Membership,
    },
    /// The daemon is told to stop.
    Stop,
    /// The daemon dies.
    Crash,
}

/// Something for a paused daemon to find when it goes on.
#[derive(Debug, Clone)]
pub enum Missed {
    /// Something happened to it.
    Happening(Happening),
    /// A datagram came.
    Datagram(NodeId, Message),
}

/// A node.
#[derive(Debug)]
pub struct Node {
    /// Its lease clock.
    pub clock: Clock,
    /// How often its daemon was started.
    pub boot: u64,
    /// The daemon, while it runs.
    pub director: Option<Director>,
    /// Whether the daemon is paused.
    pub paused: bool,
    /// What it missed meanwhile.
    pub missed: Vec<Missed>,
    /// What its disk holds.
    pub disk: DurablePromises,
    /// What is on its way to the disk.
    pub writing: Option<DurablePromises>,
    /// Its kernel.
    pub kernel: Kernel,
    /// The goal that the kernel worked on last.
    pub worked: u64,
    /// How many entries of the log are on its disk.
    pub appended: usize,
    /// How many of them it has applied.
    pub applied: usize,
    /// What the daemon was told of Raft.
    pub told: (bool, Membership),
    /// When the director wants to be asked again, and the number of that wish.
    pub tick: (Instant, u64),
    /// What the fence was last told to be.
    pub fence: Vec<(IpAddr, Instant)>,
    /// Whether the disk takes its time.
    pub slow_disk: bool,
    /// Whether entries are applied late.
    pub slow_apply: bool,
    /// The last epoch that it heard from each node for each group (for mutants).
    pub heard: BTreeMap<(NodeId, GroupName), Epoch>,
    /// Its newest round (for mutants).
    pub newest: Round,
    /// The incarnation of this start.
    pub incarnation: u64,
    /// Groups that it asks for no more (for mutants).
    pub gagged: BTreeSet<GroupName>,
    /// Whether it stays dead.
    pub gone: bool,
    /// Its IPVS table.
    pub ipvs: FakeKernel,
    /// What the table shall hold.
    pub services: Option<ServiceGoal>,
    /// The services that it programmed at some time, as its disk has them.
    pub ours: BTreeSet<ServiceKey>,
    /// What its daemon probes.
    pub targets: Vec<ProbeTarget>,
    /// Since when its daemon runs without a pause.
    pub running_since: Real,
    /// The configurations that the daemon was told of, and when each was replaced.
    pub told_of: VecDeque<(Arc<ClusterSpec>, Option<Real>)>,
}

impl Node {
    /// What it has heard that keeps each node from owning a group.
    pub(super) fn obstacles(&self, now: Real, group: &GroupName) -> String {
        let view = self.director.as_ref().map(|director| director.view(self.clock.at(now)));
        let obstacles = view.map(|view| view.obstacles).unwrap_or_default();
        let of_group = obstacles.iter().filter_map(|(node, all)| Some((node.0, all.get(group)?)));
        format!("{:?}", of_group.collect::<Vec<_>>())
    }

    /// A node whose daemon has not been started.
    #[must_use]
    pub fn new(clock: Clock) -> Self {
        Self {
            clock,
            boot: 0,
            director: None,
            paused: false,
            missed: Vec::new(),
            disk: DurablePromises::default(),
            writing: None,
            kernel: Kernel::default(),
            worked: 0,
            appended: 0,
            applied: 0,
            told: (false, Membership::default()),
            tick: (Instant(u64::MAX), 0),
            fence: Vec::new(),
            slow_disk: false,
            slow_apply: false,
            heard: BTreeMap::new(),
            newest: Round(0),
            incarnation: 0,
            gagged: BTreeSet::new(),
            gone: false,
            ipvs: FakeKernel::new(),
            services: None,
            ours: BTreeSet::new(),
            targets: Vec::new(),
            running_since: 0,
            told_of: VecDeque::new(),
        }
    }

    /// The daemon is told of a state.
    pub fn tell_of(&mut self, now: Real, state: &ClusterState) {
        let told = state.overrides.over(&state.spec);
        let last = self.told_of.back_mut();
        if last.as_ref().is_some_and(|(spec, _)| Arc::ptr_eq(spec, &told) || *spec == told) {
            return;
        }
        if let Some((_, replaced)) = last {
            *replaced = Some(now);
        }
        self.told_of.push_back((told, None));
        if self.told_of.len() > 16 {
            self.told_of.pop_front();
        }
    }

    /// Whether its daemon runs and is not paused.
    #[must_use]
    pub fn runs(&self) -> bool {
        self.director.is_some() && !self.paused
    }
}
