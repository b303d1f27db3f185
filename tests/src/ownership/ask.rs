//! The voter's side: what it is asked and told, and what each mutant makes of that.

use std::borrow::Cow;
use std::sync::Arc;
use std::time::Duration;

use quorate_model::id::{Epoch, GroupName, LogIndex, NodeId};
use quorate_model::ownership::message::{Refusal, Renew, RenewReply, RenewResult};
use quorate_model::ownership::voter::{DurablePromises, VoterView};
use quorate_model::state::ClusterState;
use quorate_model::time::promise;

use super::mutant::Mutant;
use super::network::{Datagram, Key};
use super::world::World;

impl World {
    /// A renewal or a release reaches a voter.
    pub fn hear(&mut self, voter: NodeId, key: &Key) {
        match self.network.get(key).cloned() {
            Some(Datagram::Renew(renew)) => self.asked(voter, key.owner, &renew),
            Some(Datagram::Released(group, epoch)) => {
                self.release(voter, key.owner, &group, epoch);
            }
            Some(Datagram::Reply(_)) | None => {}
        }
    }

    /// A voter is told that an epoch is released.
    pub(super) fn release(&mut self, voter: NodeId, from: NodeId, group: &GroupName, epoch: Epoch) {
        let any = self.mutant() == Some(Mutant::ReleaseOfAnyEpoch);
        let machine = self.machine_mut(voter);
        let heard = machine.shadow.heard.get(&(from, group.clone())).copied();
        let epoch = if any { heard.unwrap_or(epoch) } else { epoch };
        if let Some(daemon) = &mut machine.daemon {
            daemon.voter.released(from, group, epoch);
        }
    }

    fn asked(&mut self, voter: NodeId, from: NodeId, renew: &Renew) {
        let mutant = self.mutant();
        let local = self.local(voter);
        let state = Arc::clone(self.log.state(self.machine(voter).applied));
        let mut membership = self.membership(voter);
        let mut asked = Cow::Borrowed(renew);
        if mutant.is_some() {
            self.break_renewal(voter, from, &state, asked.to_mut());
        }
        if mutant == Some(Mutant::NoMembershipRule) {
            Arc::make_mut(&mut membership).index = LogIndex(0);
        }
        let Some(daemon) = &mut self.machine_mut(voter).daemon else { return };
        let view = VoterView { membership: &membership, state: &state };
        let answer = daemon.voter.renew(local, from, &asked, view);
        // What is listened for is the leader's to judge, and not modelled here.
        daemon.voter.applied(local, &state);
        if let Some(reply) = answer.reply {
            self.answer(voter, from, reply, &asked);
        }
        if let Some(promises) = answer.persist {
            self.begin_write(voter, promises);
        }
    }

    fn break_renewal(
        &mut self,
        voter: NodeId,
        from: NodeId,
        state: &ClusterState,
        asked: &mut Renew,
    ) {
        let mutant = self.mutant();
        match mutant {
            Some(Mutant::ShortPromise) => asked.lease /= 3,
            Some(Mutant::PromiseWithoutDrift) => asked.lease = whose_promise_is(asked.lease),
            Some(Mutant::PromiseByTheVotersLease) => asked.lease = state.timing.lease(),
            Some(Mutant::PromiseByGroupName) => {
                asked.groups.values_mut().for_each(|group| group.addresses.clear());
            }
            Some(Mutant::NoMembershipRule) => asked.membership = LogIndex(0),
            Some(Mutant::NoHeld) => self.release_all_others(voter, from),
            _ => {}
        }
        let machine = self.machine_mut(voter);
        for (group, of_group) in &mut asked.groups {
            let heard = machine.shadow.heard.entry((from, group.clone())).or_default();
            *heard = (*heard).max(of_group.epoch);
            if mutant == Some(Mutant::NoFloor) {
                let all = machine.shadow.heard.iter().filter(|((_, g), _)| g == group);
                let highest = all.map(|(_, epoch)| *epoch).max().unwrap_or_default();
                let granted = state.grants.get(group).map(|g| g.epoch).unwrap_or_default();
                of_group.epoch = of_group.epoch.max(highest).max(granted);
            }
        }
    }

    pub(super) fn persisted(&mut self, voter: NodeId, written: DurablePromises) {
        let mutant = self.mutant();
        let local = self.local(voter);
        let state = Arc::clone(self.log.state(self.machine(voter).applied));
        let mut membership = self.membership(voter);
        if mutant == Some(Mutant::NoMembershipRule) {
            Arc::make_mut(&mut membership).index = LogIndex(0);
        }
        let Some(daemon) = &mut self.machine_mut(voter).daemon else { return };
        let view = VoterView { membership: &membership, state: &state };
        let (replies, persist) = daemon.voter.persisted(local, written, view);
        for (to, mut reply) in replies {
            if mutant == Some(Mutant::HeldAskedBeforeTheDisk) {
                for (_, result) in reply.results.values_mut() {
                    if matches!(result, RenewResult::Refused(Refusal::Held { .. })) {
                        *result = RenewResult::Ack;
                    }
                }
            }
            let key = renewal(to, &reply);
            if let Some(Datagram::Renew(asked)) = self.network.get(&key).cloned() {
                self.answer(voter, to, reply, &asked);
            }
        }
        if let Some(promises) = persist {
            self.begin_write(voter, promises);
        }
    }

    /// Sends an answer, one datagram for each group. Refusals that change nothing are left out:
    /// an owner may give up, or send again, at any time anyhow.
    fn answer(&mut self, voter: NodeId, owner: NodeId, reply: RenewReply, asked: &Renew) {
        let end = self.local(voter) + promise(asked.lease);
        let original = self.network.get(&renewal(owner, &reply)).cloned();
        for (group, (epoch, result)) in reply.results {
            let counts = match result {
                RenewResult::Ack => true,
                RenewResult::Refused(refusal) => matches!(refusal, Refusal::Held { .. }),
            };
            if !counts || (result != RenewResult::Ack && !self.plan.tells_held()) {
                continue;
            }
            if result == RenewResult::Ack {
                self.machine_mut(voter).ends.insert(end);
            }
            // The mutant without a floor answered for another epoch than was asked for.
            let asked = match &original {
                Some(Datagram::Renew(renew)) => renew.groups.get(&group).map(|g| g.epoch),
                _ => None,
            };
            let result = (asked.unwrap_or(epoch), result);
            let key = Key {
                kind: 1,
                owner,
                incarnation: reply.incarnation.0,
                number: reply.round.0,
                voter,
                group: Some(Arc::new(group.clone())),
            };
            let results = [(group, result)].into();
            let (incarnation, round) = (reply.incarnation, reply.round);
            let reply = RenewReply { incarnation, round, results };
            self.send(key, Datagram::Reply(Arc::new(reply)));
        }
    }

    fn release_all_others(&mut self, voter: NodeId, from: NodeId) {
        let machine = self.machine_mut(voter);
        let Some(daemon) = &mut machine.daemon else { return };
        for ((other, group), epoch) in &machine.shadow.heard {
            if *other != from {
                daemon.voter.released(*other, group, *epoch);
            }
        }
    }
}

fn renewal(owner: NodeId, reply: &RenewReply) -> Key {
    Key {
        kind: 0,
        owner,
        incarnation: reply.incarnation.0,
        number: reply.round.0,
        voter: NodeId(0),
        group: None,
    }
}

/// The lease for which the promise lasts as long as this one.
fn whose_promise_is(lease: Duration) -> Duration {
    (lease.saturating_sub(Duration::from_millis(10))) * 50 / 51
}
