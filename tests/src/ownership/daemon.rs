//! A daemon, as far as ownership needs one: it starts and dies, takes grants up and gives them up,
//! sends rounds, counts acks, and stores to the fence. It follows the rules that
//! `model::director` follows; that one itself is run by `simulation`.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use quorate_model::id::{Epoch, GroupName, Incarnation, NodeId};
use quorate_model::ownership::message::{Renew, RenewReply};
use quorate_model::ownership::owner::Owner;
use quorate_model::ownership::quorum::Membership;
use quorate_model::ownership::voter::{DurablePromises, Voter};
use quorate_model::time::{Instant, promise};

use super::mutant::Mutant;
use super::network::{Datagram, Key};
use super::world::{Machine, World};
use crate::simulation::clock::Real;

/// One start of a daemon.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) struct Daemon {
    pub(super) voter: Voter,
    pub(super) owner: Owner,
    /// What is computed, and not stored to the fence yet: until when, under which grant, and when
    /// that was computed.
    pub(super) found: BTreeMap<IpAddr, Found>,
    pub(super) given_up: BTreeMap<GroupName, Epoch>,
}

/// A deadline on its way to the fence.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) struct Found {
    pub(super) until: Instant,
    pub(super) at: Instant,
    pub(super) group: GroupName,
    pub(super) epoch: Epoch,
}

/// What mutants remember; empty without one.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Default)]
pub(super) struct Shadow {
    /// The latest epoch that this voter heard of each node for each group.
    pub(super) heard: BTreeMap<(NodeId, GroupName), Epoch>,
}

impl Machine {
    /// When all that this voter promised, and its quarantine, is over.
    pub(super) fn after_the_end(&self) -> Option<Real> {
        self.ends.last().map(|&end| self.clock.real(end))
    }
}

impl World {
    /// A daemon starts: its fence is loaded afresh, closed.
    pub fn start(&mut self, id: NodeId) {
        let mutant = self.mutant();
        let local = self.local(id);
        let current = promise(self.log.state(self.machine(id).applied).timing.lease());
        let machine = self.machine_mut(id);
        machine.starts += 1;
        machine.fence.clear();
        machine.writing = None;
        let mut disk = machine.disk.clone();
        match mutant {
            Some(Mutant::NoQuarantine) => disk.longest = Duration::ZERO,
            Some(Mutant::QuarantineOfTheCurrentLease) => {
                disk.longest = disk.longest.min(current);
            }
            Some(Mutant::VolatileFloor) => disk.floors.clear(),
            _ => {}
        }
        machine.ends = BTreeSet::from([local + disk.longest]);
        machine.daemon = Some(Daemon {
            voter: Voter::new(local, disk),
            owner: Owner::new(Incarnation(machine.starts)),
            found: BTreeMap::new(),
            given_up: BTreeMap::new(),
        });
        let applied = machine.applied;
        self.follow(id, applied);
    }

    /// A daemon dies, and the next one starts. `written`: whether what was on its way to the disk
    /// has reached it. What the next one has applied may be an older snapshot.
    pub fn restart(&mut self, id: NodeId, written: bool, applied: u64) {
        let machine = self.machine_mut(id);
        if let Some(writing) = machine.writing.take()
            && written
        {
            machine.disk = writing;
        }
        machine.applied = applied.min(machine.applied);
        self.start(id);
    }

    /// A node applies the log up to this entry, if it is committed and known here.
    pub fn apply(&mut self, id: NodeId, index: u64) {
        let known = index.min(self.committed()).min(self.machine(id).appended);
        if known > self.machine(id).applied {
            self.machine_mut(id).applied = known;
            self.follow(id, known);
        }
    }

    /// Takes up what is granted to this start of this node; gives up everything else.
    fn follow(&mut self, id: NodeId, applied: u64) {
        let state = Arc::clone(self.log.state(applied));
        let resumes = self.mutant() == Some(Mutant::ResumedEpoch);
        let incarnation = self.machine(id).starts;
        let granted = |group: &GroupName| {
            let grant = state.grants.get(group).filter(|grant| grant.owner == id)?;
            (resumes || grant.incarnation == Incarnation(incarnation)).then_some(grant.epoch)
        };
        let owned: Vec<(GroupName, Epoch)> = match &self.machine(id).daemon {
            Some(daemon) => daemon.owner.groups().map(|(g, e)| (g.clone(), e)).collect(),
            None => return,
        };
        for (group, epoch) in &owned {
            if granted(group) != Some(*epoch) {
                self.give_up(id, group);
            }
        }
        let local = self.local(id);
        let Some(daemon) = &mut self.machine_mut(id).daemon else { return };
        daemon.voter.applied(local, &state);
        for (group, settings) in &state.spec.groups {
            let Some(epoch) = granted(group) else { continue };
            if daemon.given_up.get(group).is_some_and(|&given_up| given_up >= epoch) {
                continue;
            }
            let addresses = settings.addresses.iter().map(|vip| vip.net.addr()).collect();
            daemon.owner.take_up(group, epoch, &addresses);
        }
        self.close_what_left(id);
    }

    /// The fence is set to what the leases say, which can only close it here: an address that is of no
    /// owned group any more, or of another one now, whose own lease does not cover it yet.
    fn close_what_left(&mut self, id: NodeId) {
        let machine = self.machine_mut(id);
        let Some(daemon) = &mut machine.daemon else { return };
        let groups: Vec<GroupName> = daemon.owner.groups().map(|(g, _)| g.clone()).collect();
        let leased: BTreeMap<IpAddr, Instant> =
            groups.iter().flat_map(|group| daemon.owner.addresses(group)).collect();
        daemon.found.retain(|address, found| {
            let mut addresses = daemon.owner.addresses(&found.group);
            daemon.owner.epoch(&found.group) == Some(found.epoch)
                && addresses.any(|(of_group, _)| of_group == *address)
        });
        machine.fence.retain(|address, open| {
            let until = leased.get(address).copied().unwrap_or_default();
            *open = (*open).min(until);
            *open > Instant(0)
        });
    }

    /// A daemon gives a group up: fence, addresses, release, in this order.
    pub fn give_up(&mut self, id: NodeId, group: &GroupName) {
        let mutant = self.mutant();
        let machine = self.machine_mut(id);
        let Some(daemon) = &mut machine.daemon else { return };
        let Some(epoch) = daemon.owner.epoch(group) else { return };
        if mutant != Some(Mutant::ReleaseBesideALiveDaemon) {
            daemon.owner.give_up(group);
            daemon.given_up.insert(group.clone(), epoch);
            if mutant != Some(Mutant::ReleaseBeforeClosing) {
                self.close_what_left(id);
            }
        }
        self.given_up.insert(group.clone(), epoch);
        let key = Key {
            kind: 2,
            owner: id,
            incarnation: 0,
            number: epoch.0,
            voter: NodeId(0),
            group: Some(Arc::new(group.clone())),
        };
        self.send(key, Datagram::Released(group.clone(), epoch));
        self.release(id, id, group, epoch);
    }

    /// The membership that a node goes by.
    pub(super) fn membership(&self, id: NodeId) -> Arc<Membership> {
        Arc::clone(self.log.membership(self.machine(id).appended))
    }

    /// An owner sends a round. Returns it, to be delivered to any voter at any time.
    pub fn round(&mut self, id: NodeId) -> Option<Key> {
        let local = self.local(id);
        let membership = self.membership(id).index;
        let lease = self.log.state(self.machine(id).applied).timing.lease();
        let daemon = self.machine_mut(id).daemon.as_mut()?;
        let renew = daemon.owner.next_round(local, lease, membership)?;
        let key = Key {
            kind: 0,
            owner: id,
            incarnation: renew.incarnation.0,
            number: renew.round.0,
            voter: NodeId(0),
            group: None,
        };
        self.send(key.clone(), Datagram::Renew(Arc::new(renew)));
        Some(key)
    }

    /// A voter's answer reaches the owner.
    pub fn count(&mut self, key: &Key) {
        let Some(Datagram::Reply(mut reply)) = self.network.get(key).cloned() else { return };
        let (id, voter) = (key.owner, key.voter);
        let mutant = self.mutant();
        let local = self.local(id);
        let mut membership = self.membership(id);
        let lease = self.log.state(self.machine(id).applied).timing.lease();
        let Some(daemon) = &mut self.machine_mut(id).daemon else { return };
        if mutant == Some(Mutant::AckByRoundAlone) {
            relabel(daemon, Arc::make_mut(&mut reply));
        }
        if mutant == Some(Mutant::Minority) {
            Arc::make_mut(&mut membership).configs = vec![BTreeSet::from([id])];
        }
        let mut superseded = BTreeSet::new();
        for group in reply.results.keys() {
            let before: Vec<(IpAddr, Instant)> = daemon.owner.addresses(group).collect();
            let outcome = daemon.owner.reply(voter, &reply, &membership);
            let Some(epoch) = daemon.owner.epoch(group) else { continue };
            for ((address, until), (_, known)) in daemon.owner.addresses(group).zip(before) {
                if until != known {
                    let from_ack = mutant == Some(Mutant::LeaseFromTheAck);
                    let until = if from_ack { local + lease } else { until };
                    let found = Found { until, at: local, group: group.clone(), epoch };
                    daemon.found.insert(address, found);
                }
            }
            superseded.extend(outcome.superseded);
        }
        for group in superseded {
            self.give_up(id, &group);
        }
    }

    /// A daemon stores to its fence what it has computed.
    pub fn store(&mut self, id: NodeId) {
        let relative = self.mutant() == Some(Mutant::RelativeDeadline);
        let local = self.local(id);
        let machine = self.machine_mut(id);
        let Some(daemon) = &mut machine.daemon else { return };
        let found = std::mem::take(&mut daemon.found);
        for (address, found) in found {
            let until = if relative { local + found.until.since(found.at) } else { found.until };
            self.machine_mut(id).fence.insert(address, until);
            if until > local {
                self.note_served(id, &found.group, found.epoch);
            }
        }
        self.look();
    }

    /// What is on its way to a node's disk arrives there, and the voter hears of it.
    pub fn write(&mut self, id: NodeId) {
        let machine = self.machine_mut(id);
        let Some(written) = machine.writing.take() else { return };
        machine.disk.clone_from(&written);
        if self.mutant() != Some(Mutant::AckBeforeTheDisk) {
            self.persisted(id, written);
        }
    }

    /// Whether a node's disk has something to write.
    #[must_use]
    pub fn writes(&self, id: NodeId) -> bool {
        self.machine(id).writing.is_some()
    }

    pub(super) fn begin_write(&mut self, id: NodeId, promises: DurablePromises) {
        self.machine_mut(id).writing = Some(promises.clone());
        if self.mutant() == Some(Mutant::AckBeforeTheDisk) {
            self.persisted(id, promises);
        }
    }

    /// Whether a node owns a group.
    #[must_use]
    pub fn owns(&self, id: NodeId, group: &GroupName) -> bool {
        self.machine(id).daemon.as_ref().is_some_and(|d| d.owner.epoch(group).is_some())
    }

    /// Whether a node has something to store to its fence.
    #[must_use]
    pub fn stores(&self, id: NodeId) -> bool {
        self.machine(id).daemon.as_ref().is_some_and(|d| !d.found.is_empty())
    }
}

/// Makes a reply look as if it were for the present start of an owner, and its present grants.
fn relabel(daemon: &mut Daemon, reply: &mut RenewReply) {
    let probe: Option<Renew> =
        daemon.owner.clone().next_round(Instant(0), Duration::ZERO, Membership::default().index);
    let Some(probe) = probe else { return };
    reply.incarnation = probe.incarnation;
    for (group, (epoch, _)) in &mut reply.results {
        if let Some(asked) = probe.groups.get(group) {
            *epoch = asked.epoch;
        }
    }
}
