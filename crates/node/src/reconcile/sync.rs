//! Keeping the IPVS sync daemons: part of the services thread's work.

use std::collections::BTreeSet;

use quorate_model::kernel::PacketRules;
use quorate_model::sync::{SyncGoal, SyncSettings, SyncStep, plan_sync};
use tracing::info;

use super::services::Worker;

impl Worker {
    /// Makes both daemons run as wanted; whether they do. What fails is tried again at the next look,
    /// and no service fails for it.
    pub(super) fn keep_sync(
        &mut self,
        goal: Option<&SyncGoal>,
        problems: &mut BTreeSet<String>,
    ) -> bool {
        match self.try_sync(goal) {
            Ok(runs) => runs,
            Err(problem) => {
                problems.insert(problem);
                false
            }
        }
    }

    fn try_sync(&mut self, goal: Option<&SyncGoal>) -> Result<bool, String> {
        let ours = !self.synced.entries().is_empty();
        if goal.is_none() && !ours {
            return Ok(false);
        }
        let wanted = goal.map(|goal| self.wanted_sync(goal)).transpose();
        let found = self.dataplane.sync_daemons().map_err(|error| error.to_string())?;
        // Without the filter they would believe whoever sends to their group.
        let filtered = self.rules.as_ref().is_some_and(|rules: &PacketRules| {
            goal.is_some_and(|goal| goal.filter().is_some_and(|f| rules.sync.as_ref() == Some(&f)))
        });
        let (aim, problem) = match wanted {
            Ok(Some(_)) if !filtered => (
                None,
                Some(
                    "connections are not synchronised: the packet filter can't keep other \
                             senders out"
                        .to_owned(),
                ),
            ),
            Ok(wanted) => (wanted, None),
            Err(problem) => (None, Some(problem)),
        };
        // Ours before the kernel has them, so that a crash leaves none that nobody would end.
        if let Some(wanted) = &aim {
            self.synced.replace([wanted.clone()].into()).map_err(|error| error.to_string())?;
        }
        for step in plan_sync(aim.as_ref(), &found, ours) {
            match &step {
                SyncStep::Start(role, settings) => {
                    info!(%role, %settings, "starting a sync daemon")
                }
                SyncStep::Stop(role) => info!(%role, "ending a sync daemon"),
            }
            self.dataplane.sync_step(&step).map_err(|error| error.to_string())?;
        }
        if aim.is_none() {
            self.synced.replace(BTreeSet::new()).map_err(|error| error.to_string())?;
        }
        problem.map_or(Ok(aim.is_some()), Err)
    }

    /// Their settings on the device that has this node's address on the link.
    fn wanted_sync(&mut self, goal: &SyncGoal) -> Result<SyncSettings, String> {
        let link = &goal.spec.link;
        let Some(address) = goal.address else {
            return Err(format!(
                "connections are not synchronised: node.toml has no [[link]] named {link:?}, which \
                 the configuration's sync names"
            ));
        };
        match self.dataplane.device_with(address) {
            Ok(Some(device)) => Ok(goal.settings(device)),
            Ok(None) => Err(format!(
                "connections are not synchronised: no device has {address}, where link {link} listens"
            )),
            Err(error) => Err(error.to_string()),
        }
    }
}
