//! What a recovery makes of a stored state, and what is to be said of it.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::path::Path;

use quorate_api::convert::Promises;
use quorate_model::command::{Digest, NodeDescription, UnixMillis};
use quorate_model::id::{LogIndex, NodeId, Role};
use quorate_model::state::{EPOCH_GAP, Recovered};

use super::RecoverError;
use crate::api::status::rfc3339;
use crate::identity::{Identity, RECOVERED_WITHOUT_MAX};
use crate::raft::store::offline::{Fresh, Stored};
use crate::raft::types::{
    LeaderId, LogId, Member, RaftMembership, SnapshotMeta, StoredMembership, Vote, membership,
};

/// A recovery that was thought out, and not done.
#[derive(Debug)]
pub(super) struct Plan {
    /// This node in the new cluster.
    pub(super) identity: Identity,
    recovered: Recovered,
    promises: Promises,
    vote: Vote,
    begin: LogId,
    membership: RaftMembership,
    /// The last entry that this node has.
    last: LogIndex,
    /// The last one of which it knows that a majority has it.
    committed: LogIndex,
    /// The voters of the lost cluster; several sets in a joint configuration.
    voters: Vec<BTreeSet<NodeId>>,
    dropped: BTreeMap<NodeId, NodeDescription>,
    former_id: u128,
}

impl Plan {
    /// # Errors
    ///
    /// If there is nothing to recover.
    pub(super) fn new(
        identity: &Identity,
        stored: Stored,
        cluster_id: u128,
    ) -> Result<Self, RecoverError> {
        let me = identity.node_id;
        let empty = || RecoverError::Empty(identity.cluster_name.clone());
        let last = stored.applied.last.ok_or_else(empty)?;
        let members = membership(stored.applied.membership.membership());
        if members.configs.iter().all(|voters| voters.iter().eq([&me])) {
            return Err(RecoverError::Alone(identity.cluster_name.clone()));
        }
        let begin = last.index.checked_add(EPOCH_GAP);
        let begin = begin.ok_or(RecoverError::Exhausted(last.index))?;
        let state = &stored.applied.state;
        let recovered = state.recovered(me, cluster_id, LogIndex(begin)).ok_or_else(empty)?;
        // Not below any term of the old log, or the new one's entries would count as older.
        let term = stored.vote.map_or(0, |vote| vote.leader_id.term).max(last.leader_id.term);
        let leader_id = LeaderId { term, node_id: me.0 };
        let mut dropped = members.nodes;
        dropped
            .extend(recovered.dropped.iter().map(|(id, record)| (*id, record.description.clone())));
        dropped.remove(&me);
        let nodes = recovered.state.nodes.iter();
        let mine: BTreeMap<NodeId, NodeDescription> =
            nodes.map(|(id, record)| (*id, record.description.clone())).collect();
        let nodes: BTreeMap<u64, Member> =
            mine.iter().map(|(id, node)| (id.0, node.clone().into())).collect();
        let only = RaftMembership::new(vec![BTreeSet::from([me.0])], nodes);
        Ok(Self {
            identity: Identity {
                cluster_id,
                members: mine,
                timing: recovered.state.timing,
                recovered_without: without(identity, dropped.values()),
                ..identity.clone()
            },
            promises: Promises {
                // Owners of the lost cluster may have been promised as much, by others than this
                // node: it votes for nobody until that is over.
                longest: stored.promises.longest.max(recovered.state.longest_promise()),
                floors: stored.promises.floors,
            },
            vote: Vote { leader_id, committed: false },
            begin: LogId::new(leader_id, begin),
            membership: only.map_err(|_| empty())?,
            last: LogIndex(last.index),
            committed: LogIndex(stored.committed.map_or(0, |id| id.index).min(last.index)),
            voters: members.configs,
            dropped,
            former_id: identity.cluster_id,
            recovered,
        })
    }

    /// The store that this makes.
    pub(super) fn store(&self) -> Fresh<'_> {
        Fresh {
            identity: &self.identity,
            meta: SnapshotMeta {
                last_log_id: Some(self.begin),
                last_membership: StoredMembership::new(Some(self.begin), self.membership.clone()),
            },
            state: &self.recovered.state,
            vote: self.vote,
            promises: &self.promises,
            timing: self.recovered.state.timing,
        }
    }

    /// What has to be typed.
    pub(super) fn phrase(&self) -> String {
        let nodes = if self.dropped.len() == 1 { "node" } else { "nodes" };
        format!("{} without {} {nodes}", self.recovered.state.name, self.dropped.len())
    }

    /// All that can be lost.
    pub(super) fn warning(&self) -> String {
        let mut text = String::new();
        self.facts(&mut text);
        self.losses(&mut text);
        self.danger(&mut text);
        text
    }

    fn facts(&self, text: &mut String) {
        let state = &self.recovered.state;
        let identity = &self.identity;
        let me = identity.node_id;
        let role = self.role(me);
        let voter = self.voters.iter().any(|voters| voters.contains(&me));
        let _ = writeln!(
            text,
            "This makes a new cluster of what this node has. It is for when a majority of the voters is \
             lost for good.\n\n\
             Cluster    {}, id {:032x}; the new one has the same name and another id\n\
             This node  {} (node {me}, {role}{}): the only voter of the new cluster",
            state.name,
            self.former_id,
            identity.node_name,
            if voter { "" } else { ", no voter so far: it may lack more than a voter would" },
        );
        let _ = write!(text, "State      up to entry {} of the log", self.last);
        let open = self.last.0.saturating_sub(self.committed.0);
        let _ = match open {
            0 => writeln!(text, ", all of it known to be committed"),
            open => writeln!(
                text,
                "; the last {open} of them are not known to be committed, and are taken too: a \
                 change that nobody was told of may come true"
            ),
        };
        let _ = match &state.configuration {
            None => writeln!(text, "Revision   none: no configuration was ever applied here"),
            Some(configuration) => writeln!(
                text,
                "Revision   {}, applied by {} at {}",
                configuration.revision,
                configuration.author,
                rfc3339(configuration.at)
            ),
        };
        if let Some(unconfirmed) = &state.unconfirmed {
            let _ = writeln!(
                text,
                "           unconfirmed: the new cluster goes back to the one before at {}",
                rfc3339(unconfirmed.until)
            );
        }
        for (group, grant) in &self.recovered.owners {
            let owner = match self.dropped.get(&grant.owner) {
                Some(node) => node.name.as_str(),
                None => identity.node_name.as_str(),
            };
            let _ = writeln!(
                text,
                "Owner      {group}: {owner}, since {}, as far as it is known here",
                rfc3339(grant.at)
            );
        }
        let _ = writeln!(text, "\nDropped; each has to join anew, as a new node:");
        for (id, node) in &self.dropped {
            let links: Vec<String> = node.links.iter().map(|l| l.listen.to_string()).collect();
            let _ = writeln!(
                text,
                "  {} (node {id}, {}) {}",
                node.name,
                self.role(*id),
                links.join(", ")
            );
        }
    }

    fn role(&self, node: NodeId) -> Role {
        let known = self.dropped.get(&node).or_else(|| self.identity.members.get(&node));
        known.map_or(Role::Director, |node| node.role)
    }

    fn losses(&self, text: &mut String) {
        let _ = writeln!(
            text,
            "\nLost:\n\
             - whatever the others acknowledged without this node after entry {}: configurations, \
             joined and removed nodes, transfers, client certificates. Compare with what you have \
             (quorate diff)",
            self.committed
        );
        if self.recovered.tokens > 0 {
            let _ = writeln!(text, "- {} open join tokens", self.recovered.tokens);
        }
        for group in &self.recovered.unowned {
            let _ = writeln!(
                text,
                "- group {group} is served by nobody until a director has joined that may own it"
            );
        }
    }

    fn danger(&self, text: &mut String) {
        let voters: BTreeSet<NodeId> = self
            .voters
            .iter()
            .flatten()
            .copied()
            .filter(|id| self.dropped.contains_key(id))
            .collect();
        let names: Vec<&str> =
            voters.iter().filter_map(|id| Some(self.dropped.get(id)?.name.as_str())).collect();
        let most = self.voters.iter().map(|set| set.len() / 2 + 1).max().unwrap_or(1);
        if most <= voters.len() {
            let _ = writeln!(
                text,
                "\n! {most} of {} alive are still a quorum of the old cluster, with the same VIPs: two \
                 directors would answer for each. Make sure that they are off, and that none comes \
                 back but with its data directory moved away.",
                names.join(", ")
            );
        } else {
            let _ = writeln!(
                text,
                "\n! {} must be off, and come back only with the data directory moved away.",
                names.join(", ")
            );
        }
        let _ = writeln!(
            text,
            "  One that comes back all the same, and reaches this node, is told so and ends. One that \
             does not reach it does not know.\n"
        );
    }

    /// What was done, and what comes next.
    pub(super) fn done(&self, former: &Path) -> String {
        format!(
            "\nCluster {} is a new one now: id {:032x}, one voter, no failure tolerated.\n\
             What was there before is in {}; remove it when you are sure.\n\
             Next: start quorated here, look (quorate status, quorate diff), then join the others: on \
             each, move the data directory away, start quorated, and quorate join with a token of \
             this node (quorate token create).\n",
            self.recovered.state.name,
            self.identity.cluster_id,
            former.display()
        )
    }
}

/// The keys of all that recoveries dropped, this one's always.
fn without<'a>(
    identity: &Identity,
    dropped: impl Iterator<Item = &'a NodeDescription>,
) -> BTreeSet<Digest> {
    let now: BTreeSet<Digest> = dropped.map(|node| node.public_key).collect();
    let before = identity.recovered_without.difference(&now).copied();
    let before: Vec<Digest> =
        before.take(RECOVERED_WITHOUT_MAX.saturating_sub(now.len())).collect();
    now.into_iter().chain(before).collect()
}

/// A time as part of a file's name.
pub(super) fn stamp(at: UnixMillis) -> String {
    rfc3339(at).chars().filter(|c| *c != '-' && *c != ':').collect()
}
