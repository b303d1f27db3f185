//! A group is never served under an epoch that is older than one it was served under before, and
//! no voter acks an older epoch of a group than it acked before, restarts included.

use std::collections::BTreeMap;

use quorate_model::id::{Epoch, GroupName, NodeId};
use quorate_model::ownership::message::{RenewReply, RenewResult};

use crate::simulation::mutant::Mutant;

/// What it catches here. Floors that a restart forgets take a schedule of their own:
/// `a_floor_outlives_the_voters_daemon` in `tests/tests/ownership_rules.rs`.
pub const CATCHES: &[Mutant] = &[Mutant::NoFloor];

/// The highest epochs seen.
#[derive(Debug, Clone, Default)]
pub struct Epochs {
    served: BTreeMap<GroupName, (Epoch, NodeId)>,
    /// How often a group was served by another node than before.
    pub changes: u64,
    acked: BTreeMap<(NodeId, GroupName), Epoch>,
}

impl Epochs {
    /// A node opens the fence for a group under this epoch.
    ///
    /// # Errors
    ///
    /// The group was served under a later one.
    pub fn served(&mut self, node: NodeId, group: &GroupName, epoch: Epoch) -> Result<(), String> {
        let before = self.served.insert(group.clone(), (epoch, node));
        let Some((highest, by)) = before else { return Ok(()) };
        self.changes += u64::from(by != node);
        if epoch < highest {
            return Err(format!("n{node} serves {group} at epoch {epoch} after {highest}"));
        }
        Ok(())
    }

    /// A voter answers.
    ///
    /// # Errors
    ///
    /// It acks an epoch older than one that it acked.
    pub fn answered(&mut self, voter: NodeId, reply: &RenewReply) -> Result<(), String> {
        for (group, (epoch, result)) in &reply.results {
            let highest = self.acked.entry((voter, group.clone())).or_default();
            if *result == RenewResult::Ack {
                if epoch < highest {
                    return Err(format!("n{voter} acks {group} at epoch {epoch} after {highest}"));
                }
                *highest = *epoch;
            }
        }
        Ok(())
    }
}
