//! Datagrams on their way, and what a mutant does to them.

use std::collections::BTreeMap;

use quorate_model::director::Event;
use quorate_model::id::NodeId;
use quorate_model::ownership::message::{Message, Refusal, RenewResult};

use super::mutant::Mutant;
use super::node::Missed;
use super::world::{Invariant, Item, World};

/// Datagrams that wait for a paused daemon: a socket's buffer holds no more.
const MISSED_MAX: usize = 2_000;

/// What the network carried to a node, and may carry again.
#[derive(Debug, Clone, Default)]
pub(super) struct Carried {
    releases: BTreeMap<NodeId, Message>,
    renewals: Vec<(NodeId, Message)>,
}

impl World {
    pub(super) fn send(&mut self, from: NodeId, to: NodeId, mut message: Message) {
        match &mut message {
            Message::RenewReply(reply) => {
                let result = self.epochs.answered(from, reply);
                self.demand(Invariant::EpochsRise, result);
            }
            Message::Renew(renew) => {
                let node = self.node(from);
                node.newest = renew.round;
                renew.groups.retain(|group, _| !node.gagged.contains(group));
            }
            Message::Released(groups) => {
                if to.0 == 1 || from.0 == 1 {
                    self.tell(&format!("n{from} releases {groups:?}"));
                }
            }
            Message::Report(report) => {
                if self.plan.mutant == Some(Mutant::Unsuspecting) {
                    report.heard.clear();
                }
            }
        }
        for delay in self.network.delays(&mut self.random, from, to) {
            self.after(delay, Item::Datagram(to, from, message.clone()));
        }
    }

    /// The network repeats what it once carried, as late as it likes: another node's last release
    /// just before this renewal, or any renewal of long ago.
    fn replay(&mut self, to: NodeId, from: NodeId, message: &Message) -> Vec<(NodeId, Message)> {
        let mut again = Vec::new();
        let (releases, old) = (self.random.chance(300), self.random.chance(60));
        let at = usize::try_from(self.random.between(0, 7)).unwrap_or(0);
        let carried = self.carried.entry(to).or_default();
        match message {
            Message::Released(_) => {
                carried.releases.insert(from, message.clone());
            }
            Message::Renew(_) if self.now < self.faults_end => {
                if releases {
                    let others = carried.releases.iter().filter(|(other, _)| **other != from);
                    again.extend(others.map(|(other, message)| (*other, message.clone())));
                }
                if old && carried.renewals.len() < 8 {
                    carried.renewals.push((from, message.clone()));
                } else if old {
                    again.extend(carried.renewals.get(at).cloned());
                    carried.renewals[at] = (from, message.clone());
                }
            }
            Message::Renew(_) | Message::RenewReply(_) | Message::Report(_) => {}
        }
        again
    }

    pub(super) fn arrive(&mut self, to: NodeId, from: NodeId, mut message: Message) {
        let mutant = self.plan.mutant;
        let replayed = self.replay(to, from, &message);
        let Some(node) = self.nodes.get_mut(&to) else { return };
        if node.director.is_none() {
            return;
        }
        if node.paused {
            if node.missed.len() < MISSED_MAX {
                node.missed.push(Missed::Datagram(from, message));
            }
            return;
        }
        let mut forged = replayed;
        match &mut message {
            Message::Renew(renew) => {
                if mutant == Some(Mutant::ShortPromise) {
                    renew.lease /= 3;
                }
                if mutant == Some(Mutant::NoHeld) {
                    let others = node.heard.iter().filter(|((other, _), _)| *other != from);
                    forged.extend(others.map(|((other, group), epoch)| {
                        let released = BTreeMap::from([(group.clone(), *epoch)]);
                        (*other, Message::Released(released))
                    }));
                }
                for (group, asked) in &renew.groups {
                    node.heard.insert((from, group.clone()), asked.epoch);
                }
                if mutant == Some(Mutant::NoFloor) {
                    for (group, asked) in &mut renew.groups {
                        let all = node.heard.iter().filter(|((_, g), _)| g == group);
                        let highest = all.map(|(_, epoch)| *epoch).max().unwrap_or_default();
                        asked.epoch = asked.epoch.max(highest);
                    }
                }
            }
            Message::RenewReply(reply) if mutant == Some(Mutant::AckForTheNewestRound) => {
                reply.round = node.newest;
            }
            Message::RenewReply(reply) if mutant == Some(Mutant::NoFloor) => {
                // The voter answered for the epoch that it saw.
                for (group, (epoch, _)) in &mut reply.results {
                    let mine = node.director.iter().flat_map(|d| d.epochs());
                    let mine: Vec<_> = mine.filter(|(g, _)| *g == group).collect();
                    *epoch = mine.first().map_or(*epoch, |(_, own)| *own);
                }
            }
            Message::RenewReply(reply) if mutant == Some(Mutant::NeverAsksAgain) => {
                for (group, (_, result)) in &reply.results {
                    if matches!(result, RenewResult::Refused(Refusal::Held { .. })) {
                        node.gagged.insert(group.clone());
                    }
                }
            }
            _ => {}
        }
        for (other, message) in forged {
            self.step(to, Event::Message(other, message));
        }
        self.step(to, Event::Message(from, message));
    }
}
