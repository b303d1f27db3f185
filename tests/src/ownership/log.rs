//! The replicated log, as far as ownership needs it: entries that are committed in one order, and
//! the state after each. Grants are compare-and-set on the previous epoch, by the real
//! `ClusterState::apply`. Raft itself is not modelled here: each node hears of the entries as late
//! as it likes.

use std::collections::BTreeSet;
use std::hash::{Hash, Hasher};
use std::sync::Arc;

use quorate_model::command::{Command, Configure, Grant, GrantReason, RequestId, UnixMillis};
use quorate_model::id::{Epoch, GroupName, Incarnation, LogIndex, NodeId};
use quorate_model::ownership::quorum::Membership;
use quorate_model::spec::Format;
use quorate_model::state::ClusterState;

use crate::simulation::setup;

/// An entry.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Entry {
    /// A group is granted to this start of a node, if its epoch is still that of the entry.
    Grant {
        /// The group.
        group: GroupName,
        /// The epoch that the proposer knew.
        previous: Epoch,
        /// To whom.
        owner: NodeId,
        /// To which of its starts.
        incarnation: u64,
    },
    /// One of the configurations of the plan.
    Configure(usize),
    /// Who votes from now on: one set, or two.
    Voters(Vec<BTreeSet<NodeId>>),
}

/// The log. Its beginning, which every node has applied, may have been forgotten.
#[derive(Debug, Clone)]
pub struct Log {
    /// How many entries were forgotten.
    forgotten: u64,
    entries: Vec<Entry>,
    /// The state before the first entry, and after each.
    states: Vec<Arc<ClusterState>>,
    /// The membership that counts before the first entry, and after each.
    memberships: Vec<Arc<Membership>>,
}

impl PartialEq for Log {
    fn eq(&self, other: &Self) -> bool {
        (self.forgotten, &self.entries) == (other.forgotten, &other.entries)
    }
}

impl Eq for Log {}

impl Hash for Log {
    fn hash<H: Hasher>(&self, state: &mut H) {
        // The states follow from the entries.
        self.forgotten.hash(state);
        self.entries.hash(state);
    }
}

impl Log {
    /// A cluster of so many nodes, some of which vote, with the first of these configurations.
    #[must_use]
    pub fn new(nodes: u64, voters: BTreeSet<NodeId>, configuration: &str) -> Self {
        let ids: BTreeSet<NodeId> = (1..=nodes).map(NodeId).collect();
        let mut state = ClusterState::default();
        let mut index = 0;
        let commands = setup::founding(&ids).into_iter().chain([configure(0, configuration)]);
        for command in commands {
            index += 1;
            state.apply(LogIndex(index), &command).unwrap();
        }
        let membership = Membership { index: LogIndex(1), configs: vec![voters], nodes: ids };
        Self {
            forgotten: index,
            entries: Vec::new(),
            states: vec![Arc::new(state)],
            memberships: vec![Arc::new(membership)],
        }
    }

    /// The index of the last entry that is forgotten.
    #[must_use]
    pub fn forgotten(&self) -> u64 {
        self.forgotten
    }

    /// The index of the last entry.
    #[must_use]
    pub fn last(&self) -> u64 {
        self.forgotten + self.entries.len() as u64
    }

    /// Appends an entry, which is committed by that.
    pub fn push(&mut self, entry: Entry, configurations: &[String]) {
        let index = LogIndex(self.last() + 1);
        let mut state = ClusterState::clone(self.states.last().unwrap());
        let mut membership = Arc::clone(self.memberships.last().unwrap());
        match &entry {
            Entry::Grant { group, previous, owner, incarnation } => {
                let grant = Grant {
                    group: group.clone(),
                    previous: *previous,
                    owner: *owner,
                    incarnation: Incarnation(*incarnation),
                    reason: GrantReason::Transfer,
                };
                let grant = Command::Grant { at: UnixMillis(0), grants: vec![grant] };
                state.apply(index, &grant).unwrap();
            }
            Entry::Configure(which) => {
                state.apply(index, &configure(index.0, &configurations[*which])).unwrap();
            }
            Entry::Voters(configs) => {
                state.skip(index);
                let nodes = membership.nodes.clone();
                membership = Arc::new(Membership { index, configs: configs.clone(), nodes });
            }
        }
        self.entries.push(entry);
        self.states.push(Arc::new(state));
        self.memberships.push(membership);
    }

    fn position(&self, index: u64) -> usize {
        let position = usize::try_from(index.saturating_sub(self.forgotten)).unwrap_or(0);
        position.min(self.entries.len())
    }

    /// The state after the entry of this index.
    #[must_use]
    pub fn state(&self, index: u64) -> &Arc<ClusterState> {
        &self.states[self.position(index)]
    }

    /// The membership after the entry of this index.
    #[must_use]
    pub fn membership(&self, index: u64) -> &Arc<Membership> {
        &self.memberships[self.position(index)]
    }

    /// The epoch of a group after the last entry.
    #[must_use]
    pub fn epoch(&self, group: &GroupName) -> Epoch {
        self.state(self.last()).grants.get(group).map(|grant| grant.epoch).unwrap_or_default()
    }

    /// Forgets the entries that every node has applied.
    pub fn forget(&mut self, applied: u64) {
        let known = self.position(applied);
        if known >= 32 {
            self.entries.drain(..known);
            self.states.drain(..known);
            self.memberships.drain(..known);
            self.forgotten += known as u64;
        }
    }
}

fn configure(request: u64, source: &str) -> Command {
    Command::Configure(Configure {
        request: RequestId(u128::from(request)),
        author: "adversary".to_owned(),
        at: UnixMillis(0),
        expected: None,
        source: source.to_owned(),
        format: Format::Toml,
        message: String::new(),
        confirm_until: None,
    })
}
