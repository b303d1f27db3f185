//! What this director sees of the real servers, held against what the others do. Tests:
//! `director/tests/reaching.rs`.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use super::{Director, Effect};
use crate::desired::{self, Knowledge, Standing};
use crate::id::{GroupName, NodeId};
use crate::occurrence::{Kind, Occurrence};
use crate::placement::{Behind, PlacementView};
use crate::probe::ProbeTarget;
use crate::reach::{self, Disagreement, Disagreements, Hearsay, Reach};
use crate::spec::ClusterSpec;
use crate::time::Instant;

/// How long after it was counted what this director sees is counted again at the earliest, and how much
/// longer for each target: at its start ten thousand first verdicts come within seconds.
const COUNT_EVERY: Duration = Duration::from_millis(20);
const COUNT_EVERY_EACH: Duration = Duration::from_micros(100);

/// What is known of it.
#[derive(Debug, Default)]
pub(super) struct Reaching {
    /// What this director sees of each group.
    pub(super) own: BTreeMap<GroupName, Reach>,
    /// What this director can't try, for longer than a verdict takes.
    blind: BTreeSet<ProbeTarget>,
    /// Whether a verdict came since that was counted.
    pub(super) stale: bool,
    /// When it may be counted again.
    next: Instant,
    /// For how long directors have to disagree.
    delays: BTreeMap<GroupName, Duration>,
    disagreements: Disagreements,
    /// What placement heeds of them.
    pub(super) behind: Behind,
    /// Who was told to see fewer real servers than another.
    told: BTreeSet<(GroupName, NodeId)>,
}

impl Reaching {
    /// The configuration is another.
    pub(super) fn configured(&mut self, spec: &ClusterSpec) {
        self.delays = reach::delays(spec);
        self.disagreements.retain(|group| self.delays.contains_key(group));
    }

    /// What is probed is another: it is counted with the next report.
    pub(super) fn recount(&mut self) {
        (self.stale, self.next) = (true, Instant::default());
    }
}

impl Director {
    /// Counts anew what this director sees, where verdicts came since.
    pub(super) fn count_reach(&mut self, now: Instant) {
        if !self.reaching.stale || now < self.reaching.next {
            return;
        }
        let targets = u32::try_from(self.verdicts.len()).unwrap_or(u32::MAX);
        self.reaching.next = now + COUNT_EVERY + COUNT_EVERY_EACH.saturating_mul(targets);
        self.reaching.stale = false;
        let Self { weighted, verdicts, reaching, state, .. } = self;
        reaching.blind.retain(|target| verdicts.contains_key(target));
        reaching.own = reach::count(weighted, verdicts, &reaching.blind, state.revision());
    }

    /// A target can't be tried here any more, or can again.
    pub(super) fn blinded(&mut self, target: ProbeTarget, blind: bool) {
        if blind {
            self.reaching.blind.insert(target);
        } else {
            self.reaching.blind.remove(&target);
        }
        self.reaching.stale = true;
    }

    /// What the others see counts until this director has probed, but for what its own kernel held: that
    /// is what it saw itself a moment ago, by its own way.
    pub(super) fn heard_say(&mut self, now: Instant, told: &Hearsay, effects: &mut Vec<Effect>) {
        if self.found.is_none() {
            return;
        }
        // Verdicts that the table has not followed yet are news still.
        self.tell_seen(false, effects);
        let Some(found) = &self.found else { return };
        let own = desired::inherited(&self.weighted, found);
        for (name, service) in &self.weighted.services {
            let Some(seen) = told.get(name) else { continue };
            for server in &service.real_servers {
                let Some(&up) = seen.get(&server.address) else { continue };
                let targets = desired::targets(service, server);
                for target in targets.filter(|target| !own.contains_key(target)) {
                    if let Some(Knowledge::Inherited(standing)) = self.verdicts.get_mut(&target) {
                        *standing = if up { Standing::Taking } else { Standing::Out };
                    }
                }
            }
        }
        // What others have seen already is no news when it is found to be so here.
        self.look_without_telling();
        self.aim_services(now, effects);
    }

    /// Holds the reports of all against each other.
    pub(super) fn compare_reach(&mut self, now: Instant, effects: &mut Vec<Effect>) {
        let behind = std::mem::take(&mut self.reaching.behind);
        let view = PlacementView {
            now,
            state: &self.state,
            membership: &self.membership,
            reports: &self.reports,
            behind: &behind,
        };
        self.reaching.disagreements.note(view);
        for group in self.reaching.disagreements.groups() {
            let settings = self.state.spec.groups.get(group);
            let heeded = settings.is_some_and(|settings| settings.evacuate_on_disagreement);
            let Some(&delay) = self.reaching.delays.get(group).filter(|_| heeded) else { continue };
            let lasting = self.reaching.disagreements.lasting(now, group, delay);
            if !lasting.is_empty() {
                self.reaching.behind.insert(group.clone(), lasting);
            }
        }
        self.tell_disagreements(now, effects);
    }

    /// Tells who lastingly sees fewer real servers than another, and did not, or does no more.
    fn tell_disagreements(&mut self, now: Instant, effects: &mut Vec<Effect>) {
        let groups = self.reaching.disagreements.groups();
        let lasting = groups.flat_map(|group| {
            self.lasting(now, group).into_iter().map(move |found| (group.clone(), found))
        });
        let lasting: Vec<(GroupName, Disagreement)> = lasting.collect();
        let behind = |(group, found): &(GroupName, Disagreement)| (group.clone(), found.behind.0);
        let told: BTreeSet<_> = lasting.iter().map(behind).collect();
        let before = std::mem::replace(&mut self.reaching.told, told);
        let mut found = Vec::new();
        let of = |kind, group: &GroupName, node: &NodeId, reason| {
            let record = self.state.nodes.get(node)?;
            let subject = Some(record.description.name.to_string());
            let of_group = Occurrence::of_group(kind, &self.state, group, reason);
            Some(Occurrence { subject, ..of_group })
        };
        for (group, node) in before.difference(&self.reaching.told) {
            let reason =
                "it sees as many real servers as the others, or is not heard of".to_owned();
            found.extend(of(Kind::DisagreementOver, group, node, reason));
        }
        for (group, disagreement) in &lasting {
            let node = disagreement.behind.0;
            if !before.contains(&(group.clone(), node)) {
                let reason = self.in_words(group, disagreement);
                found.extend(of(Kind::Disagreement, group, &node, reason));
            }
        }
        self.tell(found, effects);
    }

    /// What it is about.
    fn in_words(&self, group: &GroupName, disagreement: &Disagreement) -> String {
        let Disagreement { behind: (_, Reach { down, all, .. }), ahead: (other, more) } =
            disagreement;
        let record = self.state.nodes.get(other);
        let other = record.map_or_else(|| other.to_string(), |r| r.description.name.to_string());
        let up = more.up;
        format!("sees {down} of {all} real servers of {group} down, while {other} sees {up} up")
    }

    /// Who lastingly sees fewer real servers of a group than others do, and whom each is furthest behind.
    fn lasting(&self, now: Instant, group: &GroupName) -> Vec<Disagreement> {
        let Some(&delay) = self.reaching.delays.get(group) else { return Vec::new() };
        let reach = |node| Some((node, *self.reports.get(&node)?.report.reach.get(group)?));
        let mut furthest: BTreeMap<_, Disagreement> = BTreeMap::new();
        for (behind, ahead) in self.reaching.disagreements.lasting(now, group, delay) {
            let (Some(behind), Some(ahead)) = (reach(behind), reach(ahead)) else { continue };
            let known = furthest.entry(behind.0).or_insert(Disagreement { behind, ahead });
            if ahead.1.up > known.ahead.1.up {
                known.ahead = ahead;
            }
        }
        furthest.into_values().collect()
    }

    /// The groups about which directors lastingly disagree.
    pub(super) fn disagreed(&self, now: Instant) -> BTreeSet<GroupName> {
        let groups = self.reaching.disagreements.groups();
        groups.filter(|group| !self.lasting(now, group).is_empty()).cloned().collect()
    }

    /// What an operator should know of this director, in words.
    pub(super) fn problems(&self, now: Instant) -> BTreeSet<String> {
        let mut problems = self.fact_problems(now);
        match self.reaching.blind.len() {
            0 => {}
            count => {
                problems.insert(format!(
                    "can't try {count} of its checks, whose verdicts stay as they were: its log says why"
                ));
            }
        }
        let me = self.config.me;
        for group in self.reaching.disagreements.groups() {
            let lasting = self.lasting(now, group);
            let Some(mine) = lasting.iter().find(|d| d.behind.0 == me) else { continue };
            let order = match (self.granted(group), self.state.nodes.get(&mine.ahead.0)) {
                (Some(_), Some(ahead)) => {
                    let to = &ahead.description.name;
                    format!(", or move it: `quorate transfer {group} --to {to}`")
                }
                _ => String::new(),
            };
            problems.insert(format!(
                "{}: look at this director's own way to them{order}",
                self.in_words(group, mine)
            ));
        }
        problems
    }
}
