//! What directors see of a group's real servers, and whether one of them lastingly sees fewer than
//! another: its own way to them is broken then, which no probe of one director alone can tell from
//! real servers that are down.
//!
//! Each director counts for itself, tells it with every report, and holds what the others tell against it: all
//! come to the same answer, and a new leader has it already. Tests: at the end.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::time::Duration;

use crate::desired::{self, Knowledge, Standing, Verdicts};
use crate::id::{GroupName, NodeId, Revision, ServiceName};
use crate::placement::PlacementView;
use crate::probe::{self, ProbeTarget};
use crate::spec::ClusterSpec;
use crate::time::Instant;

/// How many of a group's real servers a director sees. One of several services counts once for each;
/// those that nobody probes, and those that shall take no connections, don't count.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Reach {
    /// The configuration that it is counted by.
    pub revision: Revision,
    /// Probed and up.
    pub up: u32,
    /// Probed and down.
    pub down: u32,
    /// All of them; the rest is not probed yet.
    pub all: u32,
}

impl Reach {
    /// Whether it certainly sees more than another does: what has not been probed counts for the other.
    #[must_use]
    pub fn exceeds(&self, other: &Self) -> bool {
        self.is_of_same(other) && self.up > other.all.saturating_sub(other.down)
    }

    /// Whether both were counted over the same: by one configuration, and by the same orders of operators.
    fn is_of_same(&self, other: &Self) -> bool {
        (self.revision, self.all) == (other.revision, other.all)
    }

    /// Whether it certainly sees as much as another does, by all that is probed.
    fn matches(&self, other: &Self) -> bool {
        self.is_of_same(other)
            && !other.exceeds(self)
            && self.up.saturating_add(self.down) >= self.all
    }
}

/// What other directors see of each service's real servers: whether one of them sees it up, of those that
/// have probed it.
pub type Hearsay = BTreeMap<ServiceName, BTreeMap<SocketAddr, bool>>;

/// Counts what a director sees, for each group that has probed real servers.
#[must_use]
pub fn count(
    spec: &ClusterSpec,
    verdicts: &Verdicts,
    blind: &BTreeSet<ProbeTarget>,
    revision: Revision,
) -> BTreeMap<GroupName, Reach> {
    let mut groups = BTreeMap::new();
    for service in spec.services.values() {
        for server in service.real_servers.iter().filter(|server| server.weight > 0) {
            // What could not be tried for long says nothing, whatever it was before.
            let known = |t| if blind.contains(&t) { None } else { verdicts.get(&t) };
            let mut known = desired::targets(service, server).map(known).peekable();
            if known.peek().is_none() {
                continue;
            }
            let (mut down, mut probed) = (false, true);
            for knowledge in known {
                match knowledge {
                    Some(Knowledge::Known(_)) => {
                        down |= knowledge.is_some_and(|k| k.effect() == Standing::Out);
                    }
                    Some(Knowledge::Inherited(_)) | None => probed = false,
                }
            }
            let nothing = Reach { revision, up: 0, down: 0, all: 0 };
            let reach = groups.entry(service.group.clone()).or_insert(nothing);
            reach.all = reach.all.saturating_add(1);
            reach.down = reach.down.saturating_add(u32::from(down));
            reach.up = reach.up.saturating_add(u32::from(probed && !down));
        }
    }
    groups
}

/// For how long one director has to see fewer than another before that says anything: both would have
/// come to the same verdict by then, if both saw the same. A group's own `disagreement_delay`, or what
/// its slowest check takes.
#[must_use]
pub fn delays(spec: &ClusterSpec) -> BTreeMap<GroupName, Duration> {
    let mut delays: BTreeMap<GroupName, Duration> = BTreeMap::new();
    for service in spec.services.values() {
        let checks = service.checks.iter().chain(service.own_checks.values().flatten());
        let slowest = checks.map(|check| probe::longest_verdict(check)).max().unwrap_or_default();
        let delay = delays.entry(service.group.clone()).or_default();
        *delay = slowest.max(*delay);
    }
    for (group, settings) in &spec.groups {
        if let Some(own) = settings.disagreement_delay {
            delays.insert(group.clone(), own);
        }
    }
    delays
}

/// Which directors see fewer of a group's real servers than which others.
#[derive(Debug, Clone, Default)]
pub struct Disagreements {
    /// Since when, first the one that sees fewer.
    since: BTreeMap<GroupName, BTreeMap<(NodeId, NodeId), Instant>>,
}

/// Two directors that lastingly disagree about a group's real servers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Disagreement {
    /// Who sees fewer, and what.
    pub behind: (NodeId, Reach),
    /// Who sees more, and what.
    pub ahead: (NodeId, Reach),
}

impl Disagreements {
    /// Holds the latest reports against each other. Call it each round.
    pub fn note(&mut self, view: PlacementView<'_>) {
        let mut reaches: BTreeMap<&GroupName, Vec<(NodeId, Reach)>> = BTreeMap::new();
        for &node in view.state.nodes.keys() {
            for (group, reach) in view.fresh(node).iter().flat_map(|report| &report.reach) {
                reaches.entry(group).or_default().push((node, *reach));
            }
        }
        let mut disagreeing = BTreeMap::new();
        let reported: BTreeSet<GroupName> = reaches.keys().map(|&group| group.clone()).collect();
        for (group, reaches) in reaches {
            let pairs = reaches.iter().flat_map(|(behind, fewer)| {
                let ahead = reaches.iter().filter(|(_, more)| more.exceeds(fewer));
                ahead.map(|(ahead, _)| (*behind, *ahead))
            });
            let before = self.since.get(group);
            let since = |pair| *before.and_then(|known| known.get(&pair)).unwrap_or(&view.now);
            let mut pairs: BTreeMap<_, _> = pairs.map(|pair| (pair, since(pair))).collect();
            // A report that is late, another configuration or a restart is no agreement.
            let known = before.into_iter().flatten();
            let reach = |node| reaches.iter().find(|(of, _)| *of == node).map(|(_, reach)| reach);
            pairs.extend(known.filter_map(|(&(behind, ahead), &since)| {
                let there = |node| view.state.nodes.contains_key(&node);
                let agreed = match (reach(behind), reach(ahead)) {
                    (Some(fewer), Some(more)) => fewer.matches(more),
                    (None, _) | (_, None) => false,
                };
                (!agreed && there(behind) && there(ahead)).then_some(((behind, ahead), since))
            }));
            if !pairs.is_empty() {
                disagreeing.insert(group.clone(), pairs);
            }
        }
        let silent = |group: &GroupName, pairs: &mut BTreeMap<(NodeId, NodeId), Instant>| {
            pairs.retain(|(behind, ahead), _| {
                view.state.nodes.contains_key(behind) && view.state.nodes.contains_key(ahead)
            });
            !reported.contains(group) && !pairs.is_empty()
        };
        self.since.retain(silent);
        self.since.extend(disagreeing);
    }

    /// The pairs of a group that have disagreed for this long: who sees fewer, then who sees more.
    #[must_use]
    pub fn lasting(
        &self,
        now: Instant,
        group: &GroupName,
        delay: Duration,
    ) -> BTreeSet<(NodeId, NodeId)> {
        let pairs = self.since.get(group).into_iter().flatten();
        pairs.filter(|(_, since)| now.since(**since) >= delay).map(|(pair, _)| *pair).collect()
    }

    /// Forgets the groups that are of the configuration no more.
    pub fn retain(&mut self, mut is_there: impl FnMut(&GroupName) -> bool) {
        self.since.retain(|group, _| is_there(group));
    }

    /// The groups about which somebody disagrees, for however short a time.
    pub fn groups(&self) -> impl Iterator<Item = &GroupName> {
        self.since.keys()
    }
}
