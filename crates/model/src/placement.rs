//! Which director should own which group: the Raft leader's decision, from the replicated state
//! and from what every node reports each renewal interval (design §3, suspicion and placement).
//!
//! Nothing here is needed for safety: whatever is decided, a new owner is acked only when the
//! promises to the old one have run out. Tests: `placement/tests.rs`.

use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use crate::command::{Grant, GrantReason};
use crate::id::{Epoch, GroupName, NodeId, NodeName};
use crate::ownership::message::{Heard, Obstacle, Report};
use crate::ownership::quorum::Membership;
use crate::state::{ClusterState, GrantRecord};
use crate::time::Instant;
use crate::watch::arbitration_interval;

#[cfg(test)]
mod tests;

/// A node's latest report and when it came.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ReceivedReport {
    /// When, by the receiver's clock.
    pub at: Instant,
    /// What it said.
    pub report: Report,
}

/// What the leader decides by.
#[derive(Debug, Clone, Copy)]
pub struct PlacementView<'a> {
    /// Now.
    pub now: Instant,
    /// The replicated state.
    pub state: &'a ClusterState,
    /// Who votes.
    pub membership: &'a Membership,
    /// Each node's latest report, the leader's own included.
    pub reports: &'a BTreeMap<NodeId, ReceivedReport>,
    /// Who sees fewer real servers than whom.
    pub behind: &'a Behind,
}

/// For each group that shall leave a director which sees fewer of its real servers than another: those
/// pairs, first the one that sees fewer.
pub type Behind = BTreeMap<GroupName, BTreeSet<(NodeId, NodeId)>>;

impl PlacementView<'_> {
    /// The latest report of a node, if it came so recently that the node counts as reachable.
    #[must_use]
    pub fn fresh(&self, node: NodeId) -> Option<&Report> {
        let received = self.reports.get(&node)?;
        let age = self.now.since(received.at);
        (age < self.state.timing.suspicion()).then_some(&received.report)
    }

    /// Whether a majority of the voters reported this of the group's current epoch.
    fn majority_heard(
        &self,
        group: &GroupName,
        grant: &GrantRecord,
        holds: impl Fn(&Heard) -> bool,
    ) -> bool {
        self.membership.majority(|node| {
            let heard = self.fresh(node).and_then(|report| report.heard.get(group));
            heard.is_some_and(|heard| heard.epoch == grant.epoch && holds(heard))
        })
    }

    /// What keeps a node from owning a group: `None` if it may not own it, or is not heard of.
    fn obstacles(&self, node: NodeId, group: &GroupName) -> Option<Cow<'_, BTreeSet<Obstacle>>> {
        if !self.state.may_own(node, group) {
            return None;
        }
        // A node that has not applied the configuration with this group yet is not ready for it.
        let unheard = || Cow::Owned(BTreeSet::from([Obstacle::Starting]));
        Some(self.fresh(node)?.obstacles.get(group).map_or_else(unheard, Cow::Borrowed))
    }

    /// Whether all that keeps a node from owning a group is that it has not looked at its kernel
    /// yet. That takes it a moment, and the promises to it hold for longer: moving the group
    /// meanwhile would gain nothing. If it takes longer, the owner is silent.
    fn is_starting(&self, node: NodeId, group: &GroupName) -> bool {
        self.obstacles(node, group).is_some_and(|obstacles| {
            obstacles.contains(&Obstacle::Starting)
                && obstacles.iter().all(|o| *o == Obstacle::Starting || o.is_soft())
        })
    }

    /// The directors that may be granted a group now, best first. An evacuated one takes none.
    #[must_use]
    pub fn candidates(&self, group: &GroupName) -> Vec<NodeId> {
        self.untroubled(&self.fit(group)).collect()
    }

    /// Those of the fit that are not evacuated.
    fn untroubled<'a>(&'a self, fit: &'a [NodeId]) -> impl Iterator<Item = NodeId> + 'a {
        fit.iter().copied().filter(|&node| !self.state.is_evacuated(node))
    }

    /// The directors that may own a group now, best first: the candidates, and an evacuated owner,
    /// which keeps what nobody else can take.
    fn fit(&self, group: &GroupName) -> Vec<NodeId> {
        let mut fit = self.fit_by(group, &Obstacle::SOFT);
        if let Some(behind) = self.behind.get(group) {
            // Who sees most is behind nobody, so one stays.
            let better = |&node: &NodeId| fit.contains(&node) && !self.state.is_evacuated(node);
            let worse: BTreeSet<NodeId> =
                behind.iter().filter(|(_, ahead)| better(ahead)).map(|(node, _)| *node).collect();
            fit.retain(|node| !worse.contains(node));
        }
        fit
    }

    /// Whether one director certainly sees more of the group's real servers than another, by what both
    /// said last.
    fn sees_more(&self, node: NodeId, than: NodeId, group: &GroupName) -> bool {
        let reach = |node| self.fresh(node).and_then(|report| report.reach.get(group));
        reach(node).zip(reach(than)).is_some_and(|(more, fewer)| more.exceeds(fewer))
    }

    /// Whether all that sets a node back is that another sees more of the group's real servers.
    fn sees_fewer_alone(&self, node: NodeId, group: &GroupName) -> bool {
        self.behind.contains_key(group) && self.fit_by(group, &Obstacle::SOFT).contains(&node)
    }

    /// Whether all that sets a node back is that it reaches no arbitration address while another
    /// director does.
    fn lacks_arbitration_alone(&self, node: NodeId, group: &GroupName, fit: &[NodeId]) -> bool {
        let others = Obstacle::SOFT.into_iter().filter(|o| *o != Obstacle::ArbitrationFailed);
        !fit.contains(&node)
            && !self.sees_fewer_alone(node, group)
            && self.fit_by(group, &others.collect::<Vec<_>>()).contains(&node)
    }

    /// The directors without a hard obstacle, best first; those of `counted` are counted only
    /// while another such director does not have them.
    fn fit_by(&self, group: &GroupName, counted: &[Obstacle]) -> Vec<NodeId> {
        let owner = self.state.grants.get(group).map(|grant| grant.owner);
        let mut fit: Vec<(NodeId, Cow<'_, BTreeSet<Obstacle>>)> = self
            .state
            .nodes
            .keys()
            .filter(|&&node| Some(node) == owner || !self.state.is_evacuated(node))
            .filter_map(|&node| Some((node, self.obstacles(node, group)?)))
            .filter(|(_, obstacles)| obstacles.iter().all(|o| o.is_soft()))
            .collect();
        for soft in counted {
            if fit.iter().any(|(_, obstacles)| !obstacles.contains(soft)) {
                fit.retain(|(_, obstacles)| !obstacles.contains(soft));
            }
        }
        let mut nodes: Vec<NodeId> = fit.into_iter().map(|(node, _)| node).collect();
        nodes.sort_by_key(|&node| self.rank(node, group));
        nodes
    }

    /// A node's place in a group's order: the pin, then `prefer`, then the others by name.
    fn rank(&self, node: NodeId, group: &GroupName) -> (usize, Option<&NodeName>) {
        let Some(record) = self.state.nodes.get(&node) else { return (usize::MAX, None) };
        let name = &record.description.name;
        if self.state.pins.get(group) == Some(&node) {
            return (0, None);
        }
        let prefer = self.state.spec.groups.get(group).map(|g| g.prefer.as_slice());
        let position = prefer.unwrap_or_default().iter().position(|preferred| preferred == name);
        match position {
            Some(position) => (position + 1, None),
            None => (usize::MAX, Some(name)),
        }
    }
}

/// For how long a director must at least have been eligible for a group that leaves another one only for
/// what it sees: one that takes no grant up would get it again and again.
const PROVEN_AFTER: Duration = Duration::from_secs(10);

/// So often the time doubles for which a director has to be eligible for such a group again, once it failed as
/// its owner time after time.
const DOUBLED_MAX: u32 = 6;

/// How often in a row a director failed as a group's owner.
#[derive(Debug, Clone, Copy)]
struct Setbacks {
    times: u32,
    /// The last time, and the grant that it had then.
    at: Instant,
    epoch: Epoch,
}

impl Setbacks {
    /// One more, unless this grant's was noted already. Those before are forgotten once it has not failed for
    /// twice as long as it had to wait last.
    fn after(before: Option<Self>, now: Instant, epoch: Epoch, delay: Duration) -> Self {
        match before {
            Some(same) if same.epoch == epoch => same,
            Some(before) if now.since(before.at) < before.wait(delay).saturating_mul(2) => {
                Self { times: before.times.saturating_add(1), at: now, epoch }
            }
            _ => Self { times: 1, at: now, epoch },
        }
    }

    /// For how long it has to have been eligible then, where that is so long otherwise.
    fn wait(self, delay: Duration) -> Duration {
        delay.saturating_mul(1 << self.times.saturating_sub(1).min(DOUBLED_MAX))
    }
}

/// The directors that may own each group now, best first.
type Fits<'a> = BTreeMap<&'a GroupName, Vec<NodeId>>;

/// The leader's memory: since when each director has been eligible for each group.
#[derive(Debug, Clone, Default)]
pub struct Placement {
    eligible_since: BTreeMap<(GroupName, NodeId), Instant>,
    /// Since when each group's owner has reached no arbitration address while another did.
    unreached_since: BTreeMap<GroupName, Instant>,
    /// Since when each group without an owner could have had one.
    ownerless_since: BTreeMap<GroupName, Instant>,
    /// The directors that failed as owners of a group.
    setbacks: BTreeMap<(GroupName, NodeId), Setbacks>,
}

impl Placement {
    /// The grants to propose now. Call it often, and only while this node is the Raft leader.
    pub fn decide(&mut self, view: PlacementView<'_>) -> Vec<Grant> {
        // There may be hundreds of groups, and this is asked each round: once for each.
        let fits: Fits<'_> =
            view.state.spec.groups.keys().map(|group| (group, view.fit(group))).collect();
        self.note_eligible(view, &fits);
        self.note_unreached(view, &fits);
        let mut grants = Vec::new();
        for (&group, fit) in &fits {
            let ordered = ordered(view, group, fit);
            let wanted = match &view.state.paused {
                None => self.wanted(view, group, fit, ordered),
                Some(_) => ordered,
            };
            let Some((node, reason)) = wanted else { continue };
            self.note_failure(view, group, reason);
            grants.extend(grant(view, group, node, reason));
        }
        grants
    }

    /// An owner that lost its group though it looks eligible waits like one that has just become
    /// so. Else a director that can be heard but hears nothing would take the group back at once,
    /// for ever.
    fn note_failure(&mut self, view: PlacementView<'_>, group: &GroupName, reason: GrantReason) {
        let failed = match reason {
            GrantReason::OwnerSilent
            | GrantReason::OwnerDeaf
            | GrantReason::OwnerUnfit
            | GrantReason::Disagreement => true,
            GrantReason::First
            | GrantReason::Restarted
            | GrantReason::Preempt
            | GrantReason::Transfer
            | GrantReason::Evacuated => false,
        };
        let Some(grant) = view.state.grants.get(group).filter(|_| failed) else { return };
        let key = (group.clone(), grant.owner);
        if let Some(since) = self.eligible_since.get_mut(&key) {
            *since = view.now;
        }
        let before = self.setbacks.get(&key).copied();
        let delay = proven_after(view, group);
        self.setbacks.insert(key, Setbacks::after(before, view.now, grant.epoch, delay));
    }

    fn note_eligible(&mut self, view: PlacementView<'_>, fits: &Fits<'_>) {
        let mut eligible = BTreeMap::new();
        for (&group, fit) in fits {
            for node in view.untroubled(fit) {
                let key = (group.clone(), node);
                let since = self.eligible_since.get(&key).copied().unwrap_or(view.now);
                eligible.insert(key, since);
            }
        }
        self.eligible_since = eligible;
        self.setbacks.retain(|(group, node), _| {
            view.state.spec.groups.contains_key(group) && view.state.nodes.contains_key(node)
        });
        let ownerless = |group: &GroupName| !view.state.grants.contains_key(group);
        self.ownerless_since.retain(|group, _| ownerless(group));
        for (&group, fit) in fits.iter().filter(|(group, _)| ownerless(group)) {
            if view.untroubled(fit).next().is_some() {
                self.ownerless_since.entry(group.clone()).or_insert(view.now);
            }
        }
    }

    fn note_unreached(&mut self, view: PlacementView<'_>, fits: &Fits<'_>) {
        let unreached = |group: &GroupName, fit: &[NodeId]| {
            let owner = view.state.grants.get(group).map(|grant| grant.owner);
            owner.is_some_and(|owner| view.lacks_arbitration_alone(owner, group, fit))
        };
        let groups = fits.iter().filter(|(group, fit)| unreached(group, fit));
        let groups: BTreeSet<&GroupName> = groups.map(|(group, _)| *group).collect();
        self.unreached_since.retain(|group, _| groups.contains(group));
        for group in groups {
            self.unreached_since.entry(group.clone()).or_insert(view.now);
        }
    }

    /// Whether the owner's lost arbitration may still turn out to be everybody's: the directors
    /// notice it one after another, within one interval of their echo requests.
    fn others_may_lose_it_too(&self, view: PlacementView<'_>, group: &GroupName) -> bool {
        let wait = arbitration_interval(view.state.timing) * 2;
        self.unreached_since.get(group).is_some_and(|&since| view.now.since(since) < wait)
    }

    /// Forgets what was seen: for a node that leads no longer.
    pub fn reset(&mut self) {
        self.unreached_since.clear();
        self.eligible_since.clear();
        self.ownerless_since.clear();
        self.setbacks.clear();
    }

    fn wanted(
        &self,
        view: PlacementView<'_>,
        group: &GroupName,
        fit: &[NodeId],
        ordered: Option<(NodeId, GrantReason)>,
    ) -> Option<(NodeId, GrantReason)> {
        let best = view.untroubled(fit).next();
        let Some(grant) = view.state.grants.get(group) else {
            let best = best?;
            let waits = self.waits_for_a_better(view, group, best);
            return (!waits).then_some((best, GrantReason::First));
        };
        let owner = grant.owner;
        // Better one that sees fewer real servers than none.
        let anyone = || other(view, &view.fit_by(group, &Obstacle::SOFT), owner);
        let to_other = |reason| other(view, fit, owner).or_else(anyone).map(|node| (node, reason));
        if restarted(view, grant) {
            if fit.contains(&owner) {
                return ordered;
            }
            if !view.is_starting(owner, group) {
                return to_other(GrantReason::OwnerUnfit);
            }
        }
        let suspicion = view.state.timing.suspicion();
        if view.majority_heard(group, grant, |heard| heard.is_silent(suspicion)) {
            return to_other(GrantReason::OwnerSilent);
        }
        if view.majority_heard(group, grant, |heard| heard.is_deaf(suspicion)) {
            return to_other(GrantReason::OwnerDeaf);
        }
        if ordered.is_some() {
            return ordered;
        }
        if !fit.contains(&owner) {
            if view.is_starting(owner, group) || self.others_may_lose_it_too(view, group) {
                return None;
            }
            // An owner that is not heard of here may be heard by the others: only suspicion
            // moves it. One that says itself that it is not fit is moved at once.
            if view.sees_fewer_alone(owner, group) {
                let better = self.better_placed(view, group, (owner, fit));
                return better.map(|node| (node, GrantReason::Disagreement));
            }
            let says_so = view.fresh(owner).is_some() || !view.state.may_own(owner, group);
            return if says_so { to_other(GrantReason::OwnerUnfit) } else { None };
        }
        let best = best?;
        self.preempts(view, group, (best, owner)).then_some((best, GrantReason::Preempt))
    }

    /// Whether a better director is about to be ready for a group that had no owner so far: a
    /// moment's wait spares the move that would follow.
    fn waits_for_a_better(&self, view: PlacementView<'_>, group: &GroupName, best: NodeId) -> bool {
        let since = self.ownerless_since.get(group).copied().unwrap_or(view.now);
        let soon = view.now.since(since) < view.state.timing.lease() * 2;
        let rank = view.rank(best, group);
        let better = |&node: &NodeId| {
            view.rank(node, group) < rank
                && view.is_starting(node, group)
                && !view.state.is_evacuated(node)
        };
        soon && view.state.nodes.keys().any(better)
    }

    /// Who gets a group whose owner lastingly sees fewer real servers: one that has seen more for as long,
    /// that nobody sees more than by now, and that did not fail as an owner a moment ago.
    fn better_placed(
        &self,
        view: PlacementView<'_>,
        group: &GroupName,
        (owner, fit): (NodeId, &[NodeId]),
    ) -> Option<NodeId> {
        let pairs = view.behind.get(group)?;
        let delay = proven_after(view, group);
        let proven = |&node: &NodeId| {
            let key = (group.clone(), node);
            let wait = self.setbacks.get(&key).map_or(delay, |setbacks| setbacks.wait(delay));
            self.eligible_since.get(&key).is_some_and(|&since| view.now.since(since) >= wait)
        };
        let better = view.untroubled(fit).filter(|&node| {
            pairs.contains(&(owner, node))
                && !fit.iter().any(|&other| view.sees_more(other, node, group))
        });
        let better: Vec<NodeId> = better.filter(proven).collect();
        other(view, &better, owner)
    }

    /// Whether a better director has been eligible for long enough to take the group back.
    fn preempts(
        &self,
        view: PlacementView<'_>,
        group: &GroupName,
        (best, owner): (NodeId, NodeId),
    ) -> bool {
        let Some(settings) = view.state.spec.groups.get(group) else { return false };
        let preferred = view.rank(best, group).0 < view.rank(owner, group).0;
        let since = self.eligible_since.get(&(group.clone(), best));
        let long_enough =
            since.is_some_and(|&since| view.now.since(since) >= settings.preempt_delay);
        // Connections that it does not know would be cut off by the move.
        let cold = |node| view.fresh(node).is_none_or(|report| report.cold);
        let warm = !cold(best) || cold(owner);
        let blind = settings.evacuate_on_disagreement && view.sees_more(owner, best, group);
        settings.preempt && preferred && long_enough && warm && !blind
    }
}

/// For how long a director has to have been eligible for a group that it gets for what it sees.
fn proven_after(view: PlacementView<'_>, group: &GroupName) -> Duration {
    let delay = view.state.spec.groups.get(group).map(|group| group.preempt_delay);
    delay.unwrap_or_default().max(PROVEN_AFTER)
}

/// Whether the owner's daemon is another than the one that was granted the group: it never takes up
/// an old grant.
fn restarted(view: PlacementView<'_>, grant: &GrantRecord) -> bool {
    view.fresh(grant.owner).is_some_and(|report| report.incarnation != grant.incarnation)
}

/// The best director that may be granted what this owner has.
fn other(view: PlacementView<'_>, fit: &[NodeId], owner: NodeId) -> Option<NodeId> {
    let others = || view.untroubled(fit).filter(|&node| node != owner);
    // One that knows the connections before a better one that does not.
    let warm = |&node: &NodeId| view.fresh(node).is_some_and(|report| !report.cold);
    others().find(warm).or_else(|| others().next())
}

/// What is decided even while the cluster is paused: what an operator ordered, and a new grant for
/// an owner that restarted, which moves nothing.
fn ordered(
    view: PlacementView<'_>,
    group: &GroupName,
    fit: &[NodeId],
) -> Option<(NodeId, GrantReason)> {
    let state = view.state;
    let grant = state.grants.get(group);
    if let Some(grant) = grant {
        let owner = grant.owner;
        if state.is_evacuated(owner)
            && let Some(node) = other(view, fit, owner)
        {
            return Some((node, GrantReason::Evacuated));
        }
        if restarted(view, grant) && fit.contains(&owner) {
            return Some((owner, GrantReason::Restarted));
        }
    }
    let pin = state.pins.get(group).copied()?;
    let elsewhere = grant.is_none_or(|grant| grant.owner != pin);
    let candidate = fit.contains(&pin) && !state.is_evacuated(pin);
    (elsewhere && candidate).then_some((pin, GrantReason::Transfer))
}

fn grant(
    view: PlacementView<'_>,
    group: &GroupName,
    owner: NodeId,
    reason: GrantReason,
) -> Option<Grant> {
    let incarnation = view.fresh(owner)?.incarnation;
    let previous = view.state.grants.get(group).map(|grant| grant.epoch).unwrap_or_default();
    Some(Grant { group: group.clone(), previous, owner, incarnation, reason })
}
