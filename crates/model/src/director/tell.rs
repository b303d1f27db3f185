//! What a director tells of what happens: the occurrences of `crate::occurrence`, as it comes to know
//! of them. What was so before its daemon began is not told. Tests: `director/tests/tell.rs`.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use super::{Director, Effect};
use crate::id::{Epoch, GroupName, ServiceName};
use crate::occurrence::{self, Kind, Occurrence, Seen, Told};
use crate::spec::VirtualService;
use crate::state::ClusterState;
use crate::time::Instant;

/// What was told, so that nothing is told twice.
#[derive(Debug, Default)]
pub(super) struct Telling {
    /// Whether this node has once known all that its cluster had decided: what comes to it from then on
    /// happens now, and is not the log being read again.
    current: bool,
    seen: Seen,
    /// The groups that are served, under these epochs.
    serving: BTreeMap<GroupName, Epoch>,
    /// The groups that moved, or that this node serves no more: when it noted so, and how long nobody
    /// had been heard serving them by then. Shown, and nothing is decided by it.
    unserved: BTreeMap<GroupName, (Instant, Duration)>,
}

impl Director {
    /// Notes whether what comes from now on is news.
    pub(super) fn note_current(&mut self) {
        self.telling.current |= self.is_current();
    }

    /// Tells what an applied entry changed.
    pub(super) fn tell_state(&mut self, before: &ClusterState, effects: &mut Vec<Effect>) {
        let mut found = occurrence::between(before, &self.state);
        if !self.telling.current {
            // A grant for this start can't have been before it, though the log may still be read.
            found.retain(|found| found.kind == Kind::OwnerChanged && self.is_mine(found));
        }
        self.note_current();
        self.tell(found, effects);
    }

    /// Notes of each group that was granted anew when this node last heard a renewal of the grant
    /// before: from then on it is not known to have been served.
    pub(super) fn note_unserved(&mut self, now: Instant, before: &ClusterState) {
        if before.grants == self.state.grants {
            return;
        }
        let heard = self.voter.heard(now);
        let unserved = &mut self.telling.unserved;
        unserved.retain(|group, _| self.state.grants.contains_key(group));
        for (group, grant) in &self.state.grants {
            let old = before.grants.get(group).filter(|old| old.epoch != grant.epoch);
            let last = heard.get(group).filter(|h| old.is_some_and(|old| old.epoch == h.epoch));
            match (old, last) {
                (Some(_), Some(last)) => {
                    unserved.insert(group.clone(), (now, last.silent));
                }
                // What was noted of an earlier grant says nothing of this one.
                (Some(_), None) => {
                    unserved.remove(group);
                }
                (None, _) => {}
            }
        }
    }

    /// Tells what is not as it was of the real servers.
    pub(super) fn tell_seen(&mut self, configured: bool, effects: &mut Vec<Effect>) {
        let weighted = Arc::clone(&self.weighted);
        if configured {
            self.telling.seen.configured(&weighted.services);
        }
        let found = self.seen(&weighted.services, configured);
        self.tell(found, effects);
    }

    /// Tells what is not as it was of the real servers of these services.
    pub(super) fn tell_seen_of<'a>(
        &mut self,
        services: impl IntoIterator<Item = (&'a ServiceName, &'a VirtualService)>,
        effects: &mut Vec<Effect>,
    ) {
        let found = self.seen(services, false);
        self.tell(found, effects);
    }

    fn seen<'a>(
        &mut self,
        services: impl IntoIterator<Item = (&'a ServiceName, &'a VirtualService)>,
        configured: bool,
    ) -> Vec<Occurrence> {
        let Self { telling, state, verdicts, .. } = self;
        telling.seen.look(state, services, verdicts, configured)
    }

    /// Takes what is known of the real servers now for what was so before.
    pub(super) fn look_without_telling(&mut self) {
        let weighted = Arc::clone(&self.weighted);
        let _no_news = self.seen(&weighted.services, true);
    }

    /// Tells which groups are served that were not, or are served no more.
    pub(super) fn tell_serving(&mut self, now: Instant, effects: &mut Vec<Effect>) {
        let fenced = self.addresses.unfenced.is_none();
        let runs = |group: &GroupName| self.owner.addresses(group).any(|(_, until)| until > now);
        let serves = self.owner.groups().filter(|(group, _)| fenced && runs(group));
        let serving: BTreeMap<_, _> = serves.map(|(group, epoch)| (group.clone(), epoch)).collect();
        if serving == self.telling.serving {
            return;
        }
        let before = std::mem::replace(&mut self.telling.serving, serving.clone());
        let mut found = Vec::new();
        for (group, epoch) in before.iter().filter(|(g, epoch)| serving.get(*g) != Some(epoch)) {
            let reason = self.why_not(group, *epoch);
            self.telling.unserved.insert(group.clone(), (now, Duration::ZERO));
            found.push(Occurrence::of_group(Kind::GroupDown, &self.state, group, reason));
        }
        for (group, _) in serving.iter().filter(|(g, epoch)| before.get(*g) != Some(epoch)) {
            let reason = self.state.grants.get(group).map(|grant| grant.reason.to_string());
            let reason = reason.unwrap_or_default();
            let up = Occurrence::of_group(Kind::GroupUp, &self.state, group, reason);
            let noted = self.telling.unserved.remove(group);
            let gap = noted.map(|(at, silent)| now.since(at).saturating_add(silent));
            found.push(Occurrence { gap, ..up });
        }
        self.tell(found, effects);
    }

    /// Why a group is not served any more that was, under this epoch.
    fn why_not(&self, group: &GroupName, epoch: Epoch) -> String {
        if self.stopping {
            return "the daemon stops".to_owned();
        }
        if let Some(unfenced) = &self.addresses.unfenced {
            return format!("the fence does not stand: {unfenced}");
        }
        match self.state.grants.get(group) {
            None => "the configuration has it no more".to_owned(),
            Some(grant) if grant.epoch != epoch => format!("granted anew: {}", grant.reason),
            Some(_) if self.owner.epoch(group).is_none() => {
                "a voter knows of a newer grant".to_owned()
            }
            Some(_) => "the lease ran out: no majority of the voters acked it".to_owned(),
        }
    }

    /// Whether this start of this node owns the group that it concerns.
    fn is_mine(&self, found: &Occurrence) -> bool {
        match found.kind {
            Kind::GroupUp | Kind::GroupDown => true,
            _ => found.group.as_ref().is_some_and(|group| self.granted(group).is_some()),
        }
    }

    pub(super) fn tell(&self, found: Vec<Occurrence>, effects: &mut Vec<Effect>) {
        if found.is_empty() {
            return;
        }
        let told = found.into_iter().map(|occurrence| {
            let mine = self.is_mine(&occurrence);
            Told { occurrence, mine }
        });
        effects.push(Effect::Tell(told.collect()));
    }
}
