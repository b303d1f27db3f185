//! Datagrams on their way, and what a mutant does to them.

use std::collections::BTreeMap;

use quorate_model::director::Event;
use quorate_model::id::NodeId;
use quorate_model::ownership::message::Message;

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
    pub(super) fn send(&mut self, from: NodeId, to: NodeId, message: Message) {
        match &message {
            Message::RenewReply(reply) => {
                let result = self.epochs.answered(from, reply);
                self.demand(Invariant::EpochsRise, result);
            }
            Message::Renew(renew) => self.node(from).newest = renew.round,
            Message::Released(groups) => {
                if to.0 == 1 || from.0 == 1 {
                    self.tell(&format!("n{from} releases {groups:?}"));
                }
            }
            Message::Report(_) => {}
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
            }
            Message::Released(groups) if mutant == Some(Mutant::ReleaseOfAnyEpoch) => {
                for (group, epoch) in groups.iter_mut() {
                    let latest = node.heard.get(&(from, group.clone()));
                    *epoch = latest.copied().unwrap_or(*epoch);
                }
            }
            Message::RenewReply(reply) if mutant == Some(Mutant::AckForTheNewestRound) => {
                reply.round = node.newest;
            }
            _ => {}
        }
        for (other, mut message) in forged {
            if let (Message::Released(groups), Some(Mutant::ReleaseOfAnyEpoch)) =
                (&mut message, mutant)
            {
                let heard = &self.node(to).heard;
                for (group, epoch) in groups.iter_mut() {
                    let latest = heard.get(&(other, group.clone()));
                    *epoch = latest.copied().unwrap_or(*epoch);
                }
            }
            self.step(to, Event::Message(other, message));
        }
        self.step(to, Event::Message(from, message));
    }
}
