//! Changes of the voters: when an entry of the log may follow, and when it is committed.

use std::collections::BTreeSet;

use quorate_model::id::NodeId;

use super::log::Entry;
use super::world::World;

impl World {
    /// Whether a majority of the voters in effect has the whole log, so that it is committed. Until
    /// then nothing more is appended here, and nobody applies the last entry.
    #[must_use]
    pub fn is_committed(&self) -> bool {
        let last = self.log.last();
        self.log.membership(last).majority(|id| self.machine(id).appended >= last)
    }

    /// What a node may apply by now.
    #[must_use]
    pub fn committed(&self) -> u64 {
        let last = self.log.last();
        if self.is_committed() { last } else { last - 1 }
    }

    /// The leader appends who votes from now on.
    pub fn voters(&mut self, configs: Vec<BTreeSet<NodeId>>) {
        assert!(self.is_committed(), "one change at a time");
        self.push(Entry::Voters(configs));
    }

    /// A node appends what the log holds by now. A membership counts from here.
    pub fn append(&mut self, id: NodeId) {
        let last = self.log.last();
        let machine = self.machine_mut(id);
        let before = machine.appended;
        machine.appended = last;
        let changed = self.log.membership(before).index != self.log.membership(last).index;
        if let Some(daemon) = &mut self.machine_mut(id).daemon
            && changed
        {
            daemon.owner.membership_changed();
        }
    }
}
