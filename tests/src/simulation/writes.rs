//! Clients that write configurations: each reads the one in force at some node, changes it, and
//! says which it saw; some repeat a request of before, as one does whose answer was lost.

use std::collections::BTreeMap;

use quorate_model::command::{Command, Configure, RequestId};
use quorate_model::id::Revision;

use super::clock::MS;
use super::invariants::an_acknowledged_configuration_is_never_lost::{Acknowledged, follows};
use super::log::Content;
use super::mutant::Mutant;
use super::setup;
use super::world::{Invariant, Item, World};

/// What clients did.
#[derive(Debug, Clone, Default)]
pub(super) struct Writes {
    seen: BTreeMap<RequestId, Revision>,
    sent: Vec<Configure>,
    acknowledged: Acknowledged,
}

impl World {
    /// A client writes, or repeats what it wrote.
    pub(super) fn write(&mut self) {
        let Some(leader) = self.log.leader else { return };
        let at = if self.random.chance(800) {
            leader
        } else {
            let ids: Vec<_> = self.nodes.keys().copied().collect();
            self.random.pick(&ids).unwrap_or(leader)
        };
        let seen = self.log.state(self.nodes[&at].applied).revision();
        let mutant = self.plan.mutant;
        let Command::Configure(mut new) = setup::configure(&mut self.random, &self.log.nodes)
        else {
            return;
        };
        new.expected = (mutant != Some(Mutant::NoPrecondition)).then_some(seen);
        self.writes.seen.insert(new.request, seen);
        self.writes.sent.push(new.clone());
        if mutant == Some(Mutant::AckWhenAppended) {
            self.writes.acknowledged.note(new.request, Revision(seen.0 + 1));
        }
        self.submit(new);
        if self.random.chance(300) {
            let delay = self.random.between(1, 400) * MS;
            self.after(delay, Item::Repeat);
        }
    }

    /// A client whose answer was lost asks again.
    pub(super) fn repeat(&mut self) {
        let count = self.writes.sent.len();
        let back = usize::try_from(self.random.between(1, 3)).unwrap_or(1);
        let Some(mut again) = self.writes.sent.get(count.saturating_sub(back)).cloned() else {
            return;
        };
        if self.plan.mutant == Some(Mutant::RepeatedAsNew) {
            let seen = self.writes.seen.get(&again.request).copied().unwrap_or_default();
            again.request = RequestId(u128::from(self.random.number()));
            again.expected = None;
            self.writes.seen.insert(again.request, seen);
        }
        self.submit(again);
    }

    fn submit(&mut self, configure: Configure) {
        let Some(leader) = self.log.leader else { return };
        self.log.push(Content::Command(Command::Configure(configure)), None);
        self.node(leader).appended = self.log.length();
    }

    /// An entry was committed: its client is answered.
    pub(super) fn answer_write(&mut self, request: RequestId, entries: usize) {
        let before = self.log.state(entries - 1).revision();
        let state = self.log.state(entries);
        let made = state.revision();
        if made != before {
            let seen = self.writes.seen.get(&request).copied().unwrap_or_default();
            self.demand(Invariant::AcknowledgedIsKept, follows(seen, made));
        }
        if let Some(taken) = state.requests.iter().find(|taken| taken.request == request)
            && self.plan.mutant != Some(Mutant::AckWhenAppended)
        {
            self.writes.acknowledged.note(request, taken.revision);
        }
    }

    /// What clients were told must be true of the log, also of a new leader's.
    pub(super) fn check_writes(&mut self) {
        let state = self.log.state(self.log.committed());
        let result = self.writes.acknowledged.check(&state, |request| self.log.holds(request));
        self.demand(Invariant::AcknowledgedIsKept, result);
    }
}
