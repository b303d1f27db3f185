//! Keeping the IPVS sync daemons: part of the services thread's work. They end only on what is known,
//! never for a question that could not be answered: their unsent messages would be lost with them.

use std::collections::BTreeSet;

use quorate_model::sync::{SyncGoal, SyncSettings, SyncStep, plan_sync};
use tracing::info;

use super::services::Worker;

/// What this node's kernel shall run.
pub(super) enum Aim {
    /// Both daemons, with these settings.
    Run(SyncSettings),
    /// None, by the configuration or for want of the link.
    Nothing,
    /// It can't be told now: what runs stays.
    Unknown,
}

impl Worker {
    /// Ends daemons that are not wanted, or not with these settings.
    pub(super) fn end_sync(
        &mut self,
        goal: Option<&SyncGoal>,
        problems: &mut BTreeSet<String>,
    ) -> Aim {
        let aim = match goal {
            None => Aim::Nothing,
            Some(goal) => match self.wanted_sync(goal) {
                Ok(settings) => Aim::Run(settings),
                Err((aim, problem)) => {
                    problems.insert(problem);
                    aim
                }
            },
        };
        let wanted = match &aim {
            Aim::Unknown => return aim,
            Aim::Nothing if self.synced.entries().is_empty() => return aim,
            Aim::Nothing => None,
            Aim::Run(settings) => Some(settings),
        };
        match self.take_steps(wanted, |step| matches!(step, SyncStep::Stop(_))) {
            // Noted as ours until none runs any more.
            Ok(_) if wanted.is_none() => {
                if let Err(error) = self.synced.replace(BTreeSet::new()) {
                    problems.insert(error.to_string());
                }
            }
            Ok(_) => {}
            Err(problem) => {
                problems.insert(problem);
            }
        }
        aim
    }

    /// Starts what does not run, behind its filter; whether both run as wanted, and did before.
    pub(super) fn start_sync(
        &mut self,
        goal: Option<&SyncGoal>,
        aim: Aim,
        problems: &mut BTreeSet<String>,
    ) -> bool {
        let (Some(goal), Aim::Run(wanted)) = (goal, aim) else { return false };
        let filter = goal.filter();
        let filtered = match &self.rules.known {
            Some(rules) => rules.sync == filter,
            // Without the filter they would believe whoever sends to their group.
            None => false,
        };
        if !filtered {
            let text =
                "connections are not synchronised: the packet filter can't keep other senders out";
            problems.insert(text.to_owned());
            if self.rules.known.is_some()
                && let Err(problem) = self.take_steps(None, |_| true)
            {
                problems.insert(problem);
            }
            return false;
        }
        // Ours before the kernel has them, so that a crash leaves none that nobody would end.
        if let Err(error) = self.synced.replace([wanted.clone()].into()) {
            problems.insert(error.to_string());
            return false;
        }
        match self.take_steps(Some(&wanted), |_| true) {
            // Who has just started one has heard nothing so far, whoever ended it.
            Ok(steps) => steps == 0,
            Err(problem) => {
                problems.insert(problem);
                false
            }
        }
    }

    /// Takes these of the steps that lead to what is wanted; how many.
    fn take_steps(
        &mut self,
        wanted: Option<&SyncSettings>,
        take: impl Fn(&SyncStep) -> bool,
    ) -> Result<usize, String> {
        let ours = !self.synced.entries().is_empty();
        let found = self.dataplane.sync_daemons().map_err(|error| error.to_string())?;
        let steps = plan_sync(wanted, &found, ours);
        let mut taken = 0;
        for step in steps.iter().filter(|step| take(step)) {
            match step {
                SyncStep::Start(role, settings) => {
                    info!(%role, %settings, "starting a sync daemon")
                }
                SyncStep::Stop(role) => info!(%role, "ending a sync daemon"),
            }
            self.dataplane.sync_step(step).map_err(|error| error.to_string())?;
            taken += 1;
        }
        Ok(taken)
    }

    /// Their settings on the device that has this node's address on the link; else what that means.
    fn wanted_sync(&mut self, goal: &SyncGoal) -> Result<SyncSettings, (Aim, String)> {
        let link = &goal.spec.link;
        let Some(address) = goal.address else {
            let text = format!(
                "connections are not synchronised: node.toml has no [[link]] named {link:?}, which \
                 the configuration's sync names"
            );
            return Err((Aim::Nothing, text));
        };
        match self.dataplane.device_with(address) {
            Ok(Some(place)) if place.first => Ok(goal.settings(place.device)),
            Ok(Some(place)) => {
                let text = format!(
                    "connections are not synchronised: {address}, where link {link} listens, is not the \
                     first address of {}, from which the kernel would send: the others would drop it",
                    place.device
                );
                Err((Aim::Nothing, text))
            }
            Ok(None) => {
                let text = format!(
                    "connections are not synchronised: no device has {address}, where link {link} \
                     listens"
                );
                Err((Aim::Nothing, text))
            }
            Err(error) => Err((Aim::Unknown, error.to_string())),
        }
    }
}
