//! Keeping Quorate's own table of the packet filter: part of the services thread's work.

use std::collections::BTreeSet;
use std::time::Duration;

use quorate_dataplane::DataplaneError;
use quorate_model::director::ServiceGoal;
use quorate_model::kernel::PacketRules;
use quorate_model::sync::SyncGoal;
use quorate_model::time::Instant;
use tracing::{info, warn};

use super::services::Worker;
use crate::clock;

/// How often the table is read without being asked: the kernel tells who changes it, and nft is a
/// program that has to be run for it.
const READ_EVERY: Duration = Duration::from_secs(30);

/// What is known of the table.
#[derive(Debug, Default)]
pub(super) struct Rules {
    /// What stands there, as it was read or set last; `None`: not known, or not Quorate's.
    pub(super) known: Option<PacketRules>,
    /// What was set and could not be read back as such: this version does not understand how nft
    /// prints it, and does not set it again and again.
    opaque: Option<PacketRules>,
    /// When it is read next.
    next_read: Instant,
}

impl Worker {
    /// Makes the packet filter do just what the goal says; why not, if not. A look that fails says
    /// nothing of what stands: that is told as a problem, and no more.
    pub(super) fn keep_rules(
        &mut self,
        goal: &ServiceGoal,
        look: bool,
        problems: &mut BTreeSet<String>,
    ) -> Option<String> {
        let wanted = PacketRules {
            marks: goal.marks.clone(),
            sync: goal.sync.as_ref().and_then(SyncGoal::filter),
        };
        // Who never wanted any needs no nftables.
        if wanted.is_empty() && self.rules.known.as_ref().is_some_and(PacketRules::is_empty) {
            return None;
        }
        let now = clock::now();
        if look || self.rules.known.is_none() || now >= self.rules.next_read {
            self.rules.next_read = now + READ_EVERY;
            self.read_rules(&wanted, problems);
        }
        let stands = [&self.rules.known, &self.rules.opaque];
        if stands.into_iter().any(|known| known.as_ref() == Some(&wanted)) {
            return None;
        }
        let marks = wanted.marks.len();
        info!(marks, sync = wanted.sync.is_some(), "setting table inet quorate of nftables");
        if let Err(error) = self.dataplane.set_rules(&wanted) {
            problems.insert(error.to_string());
            return Some(error.to_string());
        }
        (self.rules.known, self.rules.opaque) = (Some(wanted.clone()), None);
        if let Ok(found) = self.dataplane.rules()
            && found.as_ref() != Some(&wanted)
        {
            (self.rules.known, self.rules.opaque) = (None, Some(wanted));
            self.tell_opaque(problems);
        }
        None
    }

    fn read_rules(&mut self, wanted: &PacketRules, problems: &mut BTreeSet<String>) {
        if self.rules.opaque.as_ref() == Some(wanted) {
            return self.tell_opaque(problems);
        }
        match self.dataplane.rules() {
            Ok(found) => {
                let stood = self.rules.known.as_ref() == Some(wanted);
                if stood && found.as_ref() != Some(wanted) {
                    warn!("table inet quorate of nftables was changed by hand: putting it back");
                }
                (self.rules.known, self.rules.opaque) = (found, None);
            }
            // There never was any.
            Err(DataplaneError::NoNft { .. }) if wanted.is_empty() => {
                self.rules.known = Some(PacketRules::default());
            }
            Err(error) => {
                problems.insert(error.to_string());
                // Told as long as it is so: the next look tries again.
                self.rules.next_read = clock::now();
            }
        }
    }

    fn tell_opaque(&self, problems: &mut BTreeSet<String>) {
        let text = "table inet quorate of nftables was set, and what `nft -j list table inet quorate` \
                    prints of it is not understood: changes by hand are not seen; please report this \
                    with `nft --version`";
        problems.insert(text.to_owned());
    }

    /// Somebody changed the packet filter, perhaps here.
    pub(super) fn look_at_rules(&mut self) {
        let Some(goal) = self.goal.clone() else { return };
        let mut problems = BTreeSet::new();
        let failed = self.keep_rules(&goal, true, &mut problems);
        if failed.is_some() || !problems.is_empty() {
            // Told, and tried again, with the next look, which is at once.
            self.next_look = clock::now();
        }
    }
}
