//! A configuration that a client was told is taken stays taken, whoever leads; and none replaces
//! another that its author never saw: not by a write without a precondition, nor by a repetition
//! of an old one.
//!
//! The log here is the simulator's, not openraft: what is shown is that `ClusterState::apply` keeps
//! this on any log that loses no committed entry, and that it takes such a log. That the real one
//! is such a log is what the soak is for (`tests/src/soak`).

use std::collections::BTreeMap;

use quorate_model::command::RequestId;
use quorate_model::id::Revision;
use quorate_model::state::ClusterState;

use crate::simulation::mutant::Mutant;

/// What it catches.
pub const CATCHES: &[Mutant] = &[
    Mutant::AckWhenAppended,
    Mutant::ElectedBehind,
    Mutant::NoPrecondition,
    Mutant::RepeatedAsNew,
];

/// What clients were told.
#[derive(Debug, Clone, Default)]
pub struct Acknowledged {
    taken: BTreeMap<RequestId, Revision>,
}

impl Acknowledged {
    /// A client is told that its request made this revision, or was no change of it.
    pub fn note(&mut self, request: RequestId, revision: Revision) {
        self.taken.insert(request, revision);
    }

    /// Whether all that clients were told is true of a log: of its committed state, or of what
    /// `pending` says is on its way.
    ///
    /// # Errors
    ///
    /// A request is not there.
    pub fn check(
        &self,
        state: &ClusterState,
        pending: impl Fn(RequestId) -> bool,
    ) -> Result<(), String> {
        for (request, revision) in &self.taken {
            let taken = state.requests.iter().find(|taken| taken.request == *request);
            let kept = match taken {
                Some(taken) => taken.revision == *revision,
                None => pending(*request),
            };
            if !kept {
                return Err(format!("revision {revision} was acknowledged, and is lost"));
            }
        }
        Ok(())
    }
}

/// Looks at a revision that was made: its author had `seen` the one before it.
///
/// # Errors
///
/// It had not.
pub fn follows(seen: Revision, made: Revision) -> Result<(), String> {
    if made.0 == seen.0 + 1 {
        return Ok(());
    }
    Err(format!("revision {made} replaces one that its author, who saw {seen}, never saw"))
}
