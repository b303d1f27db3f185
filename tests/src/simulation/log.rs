//! The replicated log: what Raft does for the directors, without its messages. One leader at a
//! time appends; an entry is committed when a majority of the voters (of both sets, in a joint
//! configuration) has it; a new leader has every committed entry and cuts the rest off.

use std::collections::BTreeSet;
use std::sync::Arc;

use quorate_model::command::{Command, RequestId};
use quorate_model::id::{LogIndex, NodeId};
use quorate_model::ownership::quorum::Membership;
use quorate_model::state::ClusterState;

/// What an entry says.
#[derive(Debug, Clone)]
pub enum Content {
    /// A command.
    Command(Command),
    /// The voters from now on, of one set or two.
    Voters(Vec<BTreeSet<NodeId>>),
}

/// An entry of the log.
#[derive(Debug, Clone)]
pub struct Entry {
    /// What it says.
    pub content: Content,
    /// Who waits for its end, and in which of its starts.
    pub proposer: Option<(NodeId, u64)>,
}

/// The log.
#[derive(Debug, Clone)]
pub struct Log {
    entries: Vec<Entry>,
    /// The state after each committed entry; the first is before all of them.
    states: Vec<Arc<ClusterState>>,
    /// Every node that there is.
    pub nodes: BTreeSet<NodeId>,
    /// The leader, who may not know yet that it can't commit any more.
    pub leader: Option<NodeId>,
}

impl Log {
    /// An empty log.
    #[must_use]
    pub fn new(nodes: BTreeSet<NodeId>) -> Self {
        Self { entries: Vec::new(), states: vec![Arc::default()], nodes, leader: None }
    }

    /// Entries, committed or not.
    #[must_use]
    pub fn length(&self) -> usize {
        self.entries.len()
    }

    /// Committed entries.
    #[must_use]
    pub fn committed(&self) -> usize {
        self.states.len() - 1
    }

    /// Appends an entry.
    pub fn push(&mut self, content: Content, proposer: Option<(NodeId, u64)>) {
        self.entries.push(Entry { content, proposer });
    }

    /// The state after so many entries, all committed.
    #[must_use]
    pub fn state(&self, entries: usize) -> Arc<ClusterState> {
        Arc::clone(&self.states[entries.min(self.committed())])
    }

    /// The membership by the first so many entries, committed or not.
    #[must_use]
    pub fn membership(&self, entries: usize) -> Membership {
        let known = self.entries.iter().take(entries).enumerate().rev();
        let mut voters = known.filter_map(|(at, entry)| match &entry.content {
            Content::Voters(configs) => Some((at, configs.clone())),
            Content::Command(_) => None,
        });
        let (at, configs) = voters.next().unwrap_or_default();
        let index = LogIndex(u64::try_from(at + 1).unwrap_or(u64::MAX));
        Membership { index, configs, nodes: self.nodes.clone() }
    }

    /// Commits what a majority has; `appended` tells how many entries a node has. Returns the
    /// entries that were committed.
    pub fn commit(&mut self, appended: impl Fn(NodeId) -> usize) -> Vec<Entry> {
        let mut done = Vec::new();
        while self.committed() < self.entries.len() {
            let next = self.committed() + 1;
            // A membership counts from when it is appended.
            let membership = self.membership(self.entries.len());
            if !membership.majority(|node| appended(node) >= next) {
                break;
            }
            let entry = self.entries[next - 1].clone();
            let mut state = ClusterState::clone(&self.states[next - 1]);
            let index = LogIndex(u64::try_from(next).unwrap_or(u64::MAX));
            match &entry.content {
                Content::Command(command) => {
                    state.apply(index, command).unwrap();
                }
                Content::Voters(_) => state.skip(index),
            }
            self.states.push(Arc::new(state));
            done.push(entry);
        }
        done
    }

    /// Cuts everything after so many entries off. Returns it.
    pub fn cut(&mut self, entries: usize) -> Vec<Entry> {
        assert!(entries >= self.committed(), "a committed entry would be lost");
        self.entries.split_off(entries)
    }

    /// As `cut`, but loses committed entries (for mutants).
    pub fn lose(&mut self, entries: usize) -> Vec<Entry> {
        self.states.truncate(entries + 1);
        self.entries.split_off(entries)
    }

    /// Whether a client's request stands in it, committed or not.
    #[must_use]
    pub fn holds(&self, request: RequestId) -> bool {
        self.entries.iter().any(|entry| match &entry.content {
            Content::Command(Command::Configure(configure)) => configure.request == request,
            Content::Command(_) | Content::Voters(_) => false,
        })
    }
}
