//! Verdicts that come from probes, and the IPVS table that follows them. Only the services that a verdict
//! concerns are reckoned anew: of ten thousand real servers, one fails. Tests: `director/tests/follow.rs`.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use super::{Director, Effect, Instant, ProbeTarget, Verdict};
use crate::desired::{self, Knowledge};
use crate::id::ServiceName;
use crate::spec::VirtualService;

/// How long after it followed a verdict the table follows the next ones, all together, and how much
/// longer for each target. Where a rack fails, a thousand come at once, and with them most of the table
/// is reckoned each time.
const FOLLOW_EVERY: Duration = Duration::from_millis(5);
const FOLLOW_EVERY_EACH: Duration = Duration::from_micros(2);

/// The verdicts that the table is still to follow.
#[derive(Debug, Default)]
pub(super) struct Following {
    /// Whose they are.
    pub(super) targets: BTreeSet<ProbeTarget>,
    /// When the table followed verdicts last.
    last: Option<Instant>,
    /// When it follows those that came since.
    pub(super) due: Option<Instant>,
}

impl Director {
    pub(super) fn verdict(
        &mut self,
        now: Instant,
        target: ProbeTarget,
        verdict: Verdict,
        effects: &mut Vec<Effect>,
    ) {
        // A probe that ended as the configuration changed may speak of what is gone.
        if let Some(known) = self.verdicts.get_mut(&target) {
            let before = (known.effect(), known.weight());
            *known = Knowledge::Known(verdict);
            self.reaching.stale = true;
            let changes = (known.effect(), known.weight()) != before;
            self.forget_found();
            // Ten thousand first verdicts that say what was taken for so already cost nothing more.
            if changes {
                self.following.targets.insert(target);
                self.follow_verdicts(now, effects);
            }
        }
    }

    /// Has the table follow the verdicts: at once, or soon where it did so just now.
    fn follow_verdicts(&mut self, now: Instant, effects: &mut Vec<Effect>) {
        if self.following.due.is_some() {
            return;
        }
        let targets = u32::try_from(self.verdicts.len()).unwrap_or(u32::MAX);
        let apart = FOLLOW_EVERY + FOLLOW_EVERY_EACH.saturating_mul(targets);
        match self.following.last.map(|last| last + apart) {
            Some(due) if due > now => self.following.due = Some(due),
            _ => {
                self.following.last = Some(now);
                self.follow(now, effects);
            }
        }
    }

    /// Has the table follow the verdicts that came too close on others.
    pub(super) fn follow_late_verdicts(&mut self, now: Instant, effects: &mut Vec<Effect>) {
        if self.following.due.take_if(|due| now >= *due).is_some() {
            self.follow_verdicts(now, effects);
        }
    }

    fn follow(&mut self, now: Instant, effects: &mut Vec<Effect>) {
        let targets = std::mem::take(&mut self.following.targets);
        let weighted = Arc::clone(&self.weighted);
        let concerned: Vec<(&ServiceName, &VirtualService)> = weighted
            .services
            .iter()
            .filter(|(_, service)| desired::is_probed_by(service, &targets))
            .collect();
        self.tell_seen_of(concerned.iter().copied(), effects);
        let (true, None, Some(goal)) =
            (self.state.configuration.is_some(), self.waits, &self.service_goal)
        else {
            // There is no table yet to which this is a change.
            return self.aim_services(now, effects);
        };
        let mut next = goal.clone();
        self.reckon(now, concerned.iter().copied(), &mut next.services);
        self.aim_at(next, effects);
    }
}
