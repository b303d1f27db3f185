//! Raft's turn, every few milliseconds: elections, what reaches whom, what is committed, and the
//! change of voters by one at a time, spaced as design §3 asks.

use std::collections::BTreeSet;

use quorate_model::id::NodeId;
use quorate_model::ownership::quorum::Membership;

use super::clock::{MS, Real};
use super::log::{Content, Entry};
use super::mutant::Mutant;
use super::node::Happening;
use super::world::{Item, World};

const EVERY: Real = 5 * MS;

/// What is known of elections and of changes of the voters.
#[derive(Debug, Clone, Default)]
pub(super) struct Election {
    /// When the next leader is elected, while there is none.
    at: Option<Real>,
    /// Before this the voters don't change: twice the longest promise after the last change or
    /// election.
    voters_not_before: Real,
    /// Who shall vote.
    pub(super) wanted: Option<BTreeSet<NodeId>>,
}

impl World {
    pub(super) fn raft(&mut self) {
        self.elect();
        if let Some(leader) = self.log.leader {
            self.change_voters(leader);
            self.replicate(leader);
            self.commit();
        }
        self.tell_nodes();
        self.after(EVERY, Item::Raft);
    }

    fn latest(&self) -> Membership {
        self.log.membership(self.log.length())
    }

    fn reaches_majority(&self, id: NodeId) -> bool {
        let reached = |other: NodeId| self.nodes[&other].runs() && self.network.joined(id, other);
        self.nodes[&id].runs() && self.latest().majority(reached)
    }

    fn elect(&mut self) {
        let leads = self
            .log
            .leader
            .is_some_and(|id| self.reaches_majority(id) && self.latest().voters().contains(&id));
        if leads {
            self.election.at = None;
            return;
        }
        let timeout = self.random.between(100, 300) * MS;
        let at = *self.election.at.get_or_insert(self.now + timeout);
        if self.now < at {
            return;
        }
        let behind = self.plan.mutant == Some(Mutant::ElectedBehind);
        let committed = if behind { 0 } else { self.log.committed() };
        let mut able: Vec<NodeId> = self.latest().voters().into_iter().collect();
        able.retain(|&id| self.reaches_majority(id) && self.nodes[&id].appended >= committed);
        let Some(leader) = self.random.pick(&able) else { return };
        self.lead(leader);
    }

    pub(super) fn lead(&mut self, leader: NodeId) {
        let last = self.nodes[&leader].appended;
        let loses = last < self.log.committed();
        let behind = self.plan.mutant == Some(Mutant::ElectedBehind);
        if (loses && !behind) || self.log.leader == Some(leader) {
            return;
        }
        self.tell(&format!("n{leader} leads from entry {last}"));
        self.log.leader = Some(leader);
        self.election.at = None;
        let lost = if loses { self.log.lose(last) } else { self.log.cut(last) };
        for node in self.nodes.values_mut() {
            node.appended = node.appended.min(last);
        }
        self.check_writes();
        if self.plan.mutant != Some(Mutant::ProposalNeverEnds) {
            self.ended(lost);
        }
        self.election.voters_not_before = self.now + self.spacing();
    }

    fn spacing(&self) -> Real {
        let longest = self.log.state(self.log.committed()).longest_promise();
        // By the leader's clock, which may be fast.
        u64::try_from(longest.as_nanos() * 2 * 100 / 101).unwrap_or(u64::MAX)
    }

    fn change_voters(&mut self, leader: NodeId) {
        let latest = self.latest();
        let settled = latest.index.0 <= u64::try_from(self.log.committed()).unwrap_or(0);
        let Some(voters) = latest.configs.last().cloned().filter(|_| settled) else { return };
        let next = if latest.configs.len() > 1 {
            vec![voters]
        } else {
            let wanted = self.election.wanted.clone().filter(|wanted| *wanted != voters);
            let (Some(wanted), true) = (wanted, self.now >= self.election.voters_not_before) else {
                return;
            };
            vec![voters, wanted]
        };
        self.tell(&format!("the voters become {next:?}"));
        self.log.push(Content::Voters(next), None);
        self.node(leader).appended = self.log.length();
        self.election.voters_not_before = Real::MAX;
    }

    fn replicate(&mut self, leader: NodeId) {
        let ids: Vec<NodeId> = self.nodes.keys().copied().collect();
        for id in ids.into_iter().filter(|&id| id != leader) {
            let reached = self.nodes[&id].runs()
                && self.nodes[&leader].runs()
                && self.network.joined(leader, id);
            if reached && self.random.chance(700) {
                let length = self.log.length();
                self.node(id).appended = length;
            }
        }
    }

    fn commit(&mut self) {
        let appended: std::collections::BTreeMap<NodeId, usize> =
            self.nodes.iter().map(|(&id, node)| (id, node.appended)).collect();
        let before = self.log.committed();
        let done = self.log.commit(|id| appended.get(&id).copied().unwrap_or(0));
        for (entry, entries) in done.iter().zip(before + 1..) {
            match &entry.content {
                Content::Voters(configs) if configs.len() == 1 => {
                    self.outcome.memberships += 1;
                    self.election.voters_not_before = self.now + self.spacing();
                }
                Content::Voters(_) => {}
                Content::Command(command) => {
                    if matches!(command, quorate_model::command::Command::Grant { .. }) {
                        self.outcome.grants += 1;
                    }
                    if let quorate_model::command::Command::Configure(configure) = command {
                        self.answer_write(configure.request, entries);
                    }
                    self.tell(&format!("{command} at {entries}"));
                }
            }
        }
        self.ended(done);
    }

    fn ended(&mut self, entries: Vec<Entry>) {
        for (id, boot) in entries.into_iter().filter_map(|entry| entry.proposer) {
            let delay = self.random.between(0, 3 * MS);
            self.after(delay, Item::Happening(id, boot, Happening::Proposed));
        }
    }

    /// A node hears of Raft only while it reaches the leader; a former leader that does not gives
    /// up after a while by itself.
    fn tell_nodes(&mut self) {
        let ids: Vec<NodeId> = self.nodes.keys().copied().collect();
        for id in ids {
            let leader = self.log.leader;
            let reached = leader.is_some_and(|leader| self.network.joined(leader, id));
            if !self.nodes[&id].runs() || !(reached || self.random.chance(10)) {
                continue;
            }
            let told = (leader == Some(id), self.log.membership(self.nodes[&id].appended));
            if self.nodes[&id].told != told {
                let delay = self.random.between(0, 3 * MS);
                self.node(id).told = told.clone();
                let (leads, membership) = told;
                self.after_for(delay, id, Happening::Raft { leads, membership });
            }
            let known = self.log.committed().min(self.nodes[&id].appended);
            let applies = if self.nodes[&id].slow_apply { 15 } else { 900 };
            if reached && self.nodes[&id].applied < known && self.random.chance(applies) {
                self.node(id).applied = known;
                let state = self.log.state(known);
                let delay = self.random.between(0, 2 * MS);
                self.after_for(delay, id, Happening::Applied(state));
            }
        }
    }
}
