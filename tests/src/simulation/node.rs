//! One node of a run: what survives a crash of its daemon, and the daemon.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::sync::Arc;

use quorate_model::claim::Question;
use quorate_model::director::{AddressGoal, Director};
use quorate_model::id::{Epoch, GroupName, NodeId, Round};
use quorate_model::ownership::message::Message;
use quorate_model::ownership::quorum::Membership;
use quorate_model::ownership::voter::DurablePromises;
use quorate_model::state::ClusterState;
use quorate_model::time::Instant;

use super::clock::Clock;
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
    /// The IPVS table is as this goal wants it.
    Services(u64),
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
}

impl Node {
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
        }
    }

    /// Whether its daemon runs and is not paused.
    #[must_use]
    pub fn runs(&self) -> bool {
        self.director.is_some() && !self.paused
    }
}
