//! What others may ask a director: a snapshot for `status`, the API and metrics.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use super::{AddressReport, Director, ServiceReport};
use crate::desired::{Lost, Verdicts};
use crate::id::{Epoch, GroupName, NodeId, Revision};
use crate::kernel::DeviceAddress;
use crate::leaving::Leaver;
use crate::ownership::message::Obstacle;
use crate::placement::PlacementView;
use crate::reach::Reach;
use crate::slow_start::AllStarting;
use crate::time::Instant;

/// A director's view of the cluster at one instant.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct DirectorView {
    /// The groups whose lease this node holds, with epoch and the time that is left.
    pub held: BTreeMap<GroupName, (Epoch, Duration)>,
    /// The groups whose owner said lately that it holds its lease, with that epoch.
    pub heard: BTreeMap<GroupName, Epoch>,
    /// The nodes that reported lately, this one included.
    pub reachable: BTreeSet<NodeId>,
    /// Whether those are a majority of the voters.
    pub quorate: bool,
    /// What keeps each node from owning each group, as far as it is heard of.
    pub obstacles: BTreeMap<NodeId, BTreeMap<GroupName, BTreeSet<Obstacle>>>,
    /// The directors that may own each group now, best first.
    pub candidates: BTreeMap<GroupName, Vec<NodeId>>,
    /// What is known of the real servers.
    pub verdicts: Verdicts,
    /// The services whose real servers are too few.
    pub lost: Lost,
    /// The real servers that have not got their whole weight yet.
    pub starting: AllStarting,
    /// The real servers that left the configuration, and keep their connections for a while.
    pub leaving: Vec<Leaver>,
    /// What this node found out about itself that an operator should know, in words.
    pub problems: BTreeSet<String>,
    /// How many real servers of each group each node sees, as far as it is heard of.
    pub reach: BTreeMap<NodeId, BTreeMap<GroupName, Reach>>,
    /// The groups of which one director lastingly sees fewer real servers than another.
    pub disagreed: BTreeSet<GroupName>,
    /// Whether the disk of its data directory counts as full.
    pub disk_full: bool,
    /// What the kernel said of this node's addresses.
    pub addresses: AddressReport,
    /// What the kernel said of this node's services; `None` before it was asked.
    pub services: Option<ServiceReport>,
    /// The revision of which this node's kernel holds every service; `None` while it is at work on them, or
    /// where one of them failed, and at a witness.
    pub programmed: Option<Revision>,
    /// For how long its kernel has run both sync daemons, and whether that is long enough for a group
    /// to return to it.
    pub synced: (Option<Duration>, bool),
}

impl Director {
    /// Until when each address that the kernel shall carry may be served: what the fence is set to
    /// after every step, before its effects are carried out. A time that has come closes it, and an
    /// address that is not listed is closed.
    pub fn deadlines(&self) -> impl Iterator<Item = (&DeviceAddress, Instant)> {
        self.serving.iter().map(|(address, serving)| (address, serving.until))
    }

    /// The groups that this node renews, with their epochs.
    pub fn epochs(&self) -> impl Iterator<Item = (&GroupName, Epoch)> {
        self.owner.groups()
    }

    fn programmed_revision(&self) -> Option<Revision> {
        let (goal, report) = (self.service_goal.as_ref()?, self.services.as_ref()?);
        let whole = report.obstacle.is_none() && report.failed.is_empty();
        (whole && report.sequence == goal.sequence).then(|| self.state.revision())
    }

    /// A snapshot of what this director knows.
    #[must_use]
    pub fn view(&self, now: Instant) -> DirectorView {
        let view = PlacementView {
            now,
            state: &self.state,
            membership: &self.membership,
            reports: &self.reports,
            behind: &self.reaching.behind,
        };
        let lease = self.state.timing.lease();
        let groups = self.state.spec.groups.keys();
        let nodes = self.state.nodes.keys();
        let reachable: BTreeSet<NodeId> =
            nodes.copied().filter(|&node| view.fresh(node).is_some()).collect();
        DirectorView {
            held: self
                .owner
                .groups()
                .filter_map(|(group, epoch)| {
                    let until = self.owner.lease_until(group)?;
                    (until > now).then(|| (group.clone(), (epoch, until.since(now))))
                })
                .collect(),
            heard: groups
                .clone()
                .filter_map(|g| Some((g.clone(), self.voter.held_epoch(now, g, lease)?)))
                .collect(),
            quorate: self.membership.majority(|node| reachable.contains(&node)),
            obstacles: reachable
                .iter()
                .filter_map(|&node| Some((node, view.fresh(node)?.obstacles.clone())))
                .collect(),
            candidates: groups.map(|group| (group.clone(), view.candidates(group))).collect(),
            verdicts: self.verdicts.clone(),
            lost: self.lost.clone(),
            starting: self.slow_start.starting(now),
            leaving: self.leaving.leavers(now),
            problems: self.problems(now),
            disagreed: self.disagreed(now),
            reach: reachable
                .iter()
                .filter_map(|&node| Some((node, view.fresh(node)?.reach.clone())))
                .collect(),
            reachable,
            disk_full: self.full.is_some(),
            addresses: self.addresses.clone(),
            services: self.services.clone(),
            programmed: self.programmed_revision(),
            synced: (self.synced_since.map(|since| now.since(since)), !self.is_cold(now)),
        }
    }
}
