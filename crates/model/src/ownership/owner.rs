//! An owner: the rounds it sent, who acked them, and until when each address may be served.
//!
//! A lease runs until *(the newest send time that a majority has acked) + L*, each ack counted
//! with the L of its round (design §3). The send time is noted before the round leaves, so a
//! delay can only shorten a lease. Tests: `owner/tests.rs`.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::net::IpAddr;
use std::time::Duration;

use super::message::{Refusal, Renew, RenewGroup, RenewReply, RenewResult};
use super::quorum::Membership;
use crate::id::{Epoch, GroupName, Incarnation, LogIndex, NodeId, Round};
use crate::time::Instant;

#[cfg(test)]
mod tests;

/// Rounds that are remembered: older ones can't extend a lease any more at any timing allowed
/// (a lease holds at most this many renewal intervals in practice; forgetting is safe).
const ROUNDS_MAX: usize = 256;

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
struct SentRound {
    round: Round,
    sent: Instant,
    lease: Duration,
    membership: LogIndex,
    groups: BTreeMap<GroupName, (Epoch, BTreeSet<IpAddr>)>,
}

/// The lease of one address.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Default)]
struct AddressLease {
    backed: BTreeMap<NodeId, Instant>,
    until: Instant,
}

/// A group that this incarnation owns.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
struct Owned {
    epoch: Epoch,
    addresses: BTreeSet<IpAddr>,
    leases: BTreeMap<IpAddr, AddressLease>,
    /// Whether a voter holds a promise to another that covers one of the addresses.
    held: bool,
}

impl Owned {
    fn new(epoch: Epoch, addresses: BTreeSet<IpAddr>) -> Self {
        Self { epoch, addresses, leases: BTreeMap::new(), held: false }
    }

    /// What to quote in this round. An address that came from another owner's group is held for
    /// up to a promise's length, which is longer than a lease, and a voter answers for a group as
    /// a whole. So while one is held, every other round quotes only what is leased already: the
    /// newcomer must not close the group's other addresses.
    fn quoted(&self, now: Instant, round: Round) -> BTreeSet<IpAddr> {
        let leased = |a: &&IpAddr| self.leases.get(a).is_some_and(|lease| lease.until > now);
        let leased: BTreeSet<IpAddr> = self.addresses.iter().filter(leased).copied().collect();
        let only_leased = self.held && round.0 % 2 == 1 && !leased.is_empty();
        if only_leased { leased } else { self.addresses.clone() }
    }

    fn acked(
        &mut self,
        from: NodeId,
        (addresses, until): (&BTreeSet<IpAddr>, Instant),
        membership: &Membership,
    ) {
        for address in addresses.intersection(&self.addresses) {
            let lease = self.leases.entry(*address).or_default();
            let backed = lease.backed.entry(from).or_default();
            *backed = (*backed).max(until);
            if let Some(time) = membership.backed_until(&lease.backed) {
                lease.until = lease.until.max(time);
            }
        }
    }

    fn lease_until(&self) -> Instant {
        let until = |address| self.leases.get(address).map_or(Instant(0), |lease| lease.until);
        self.addresses.iter().map(until).min().unwrap_or_default()
    }
}

/// What a reply brought.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Outcome {
    /// Groups whose epoch a voter knows to be over: give them up at once.
    pub superseded: BTreeSet<GroupName>,
    /// The soonest that a voter which still holds a promise to another may be asked again.
    pub retry_in: Option<Duration>,
}

/// One incarnation's leases.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Owner {
    incarnation: Incarnation,
    next_round: u64,
    rounds: VecDeque<SentRound>,
    owned: BTreeMap<GroupName, Owned>,
}

impl Owner {
    /// An owner of nothing.
    #[must_use]
    pub fn new(incarnation: Incarnation) -> Self {
        Self { incarnation, next_round: 1, rounds: VecDeque::new(), owned: BTreeMap::new() }
    }

    /// Takes up a grant, or gives a group that it already owns other addresses.
    pub fn take_up(&mut self, group: &GroupName, epoch: Epoch, addresses: &BTreeSet<IpAddr>) {
        let fresh = || Owned::new(epoch, addresses.clone());
        let owned = self.owned.entry(group.clone()).or_insert_with(fresh);
        if owned.epoch != epoch {
            *owned = fresh();
        } else if owned.addresses != *addresses {
            owned.leases.retain(|address, _| addresses.contains(address));
            owned.addresses.clone_from(addresses);
            owned.held = false;
        }
    }

    /// Gives a group up: it is never renewed under this epoch again. Returns the epoch to release.
    pub fn give_up(&mut self, group: &GroupName) -> Option<Epoch> {
        self.owned.remove(group).map(|owned| owned.epoch)
    }

    /// The groups that are renewed, with their epochs.
    pub fn groups(&self) -> impl Iterator<Item = (&GroupName, Epoch)> {
        self.owned.iter().map(|(group, owned)| (group, owned.epoch))
    }

    /// The epoch under which a group is renewed.
    #[must_use]
    pub fn epoch(&self, group: &GroupName) -> Option<Epoch> {
        self.owned.get(group).map(|owned| owned.epoch)
    }

    /// Until when all addresses of a group may be served; `None` if the group is not owned.
    #[must_use]
    pub fn lease_until(&self, group: &GroupName) -> Option<Instant> {
        self.owned.get(group).map(Owned::lease_until)
    }

    /// Until when each address of a group may be served.
    pub fn addresses(&self, group: &GroupName) -> impl Iterator<Item = (IpAddr, Instant)> {
        let owned = self.owned.get(group);
        owned.into_iter().flat_map(|owned| {
            owned.addresses.iter().map(|address| {
                (*address, owned.leases.get(address).map_or(Instant(0), |lease| lease.until))
            })
        })
    }

    /// The next round, noted as sent at `now`; send it to every voter. `None` with nothing owned.
    pub fn next_round(
        &mut self,
        now: Instant,
        lease: Duration,
        membership: LogIndex,
    ) -> Option<Renew> {
        if self.owned.is_empty() {
            return None;
        }
        let round = Round(self.next_round);
        self.next_round += 1;
        let mut groups = BTreeMap::new();
        let mut sent = BTreeMap::new();
        for (group, owned) in &self.owned {
            let asked = RenewGroup {
                epoch: owned.epoch,
                addresses: owned.quoted(now, round),
                holding: owned.lease_until() > now,
            };
            sent.insert(group.clone(), (owned.epoch, asked.addresses.clone()));
            groups.insert(group.clone(), asked);
        }
        self.rounds.retain(|r| r.sent + r.lease > now);
        if self.rounds.len() >= ROUNDS_MAX {
            self.rounds.pop_front();
        }
        self.rounds.push_back(SentRound { round, sent: now, lease, membership, groups: sent });
        Some(Renew { incarnation: self.incarnation, round, membership, lease, groups })
    }

    /// Takes a voter's answer.
    pub fn reply(&mut self, from: NodeId, reply: &RenewReply, membership: &Membership) -> Outcome {
        let mut outcome = Outcome::default();
        if reply.incarnation != self.incarnation {
            return outcome;
        }
        let Self { rounds, owned, .. } = self;
        let Some(sent) = rounds.iter().find(|sent| sent.round == reply.round) else {
            return outcome;
        };
        for (group, (epoch, result)) in &reply.results {
            let Some((asked, addresses)) = sent.groups.get(group) else { continue };
            let Some(owned) = owned.get_mut(group).filter(|owned| owned.epoch == *epoch) else {
                continue;
            };
            if asked != epoch {
                continue;
            }
            match result {
                // An ack under a membership that is over by now says nothing of today's majority.
                RenewResult::Ack if sent.membership == membership.index => {
                    owned.acked(from, (addresses, sent.sent + sent.lease), membership);
                }
                RenewResult::Ack | RenewResult::Refused(Refusal::Membership) => {}
                RenewResult::Refused(Refusal::Superseded) => {
                    outcome.superseded.insert(group.clone());
                }
                RenewResult::Refused(
                    refusal @ (Refusal::Held { remaining } | Refusal::Quarantine { remaining }),
                ) => {
                    owned.held |= matches!(refusal, Refusal::Held { .. });
                    let soonest = outcome.retry_in.map_or(*remaining, |t| t.min(*remaining));
                    outcome.retry_in = Some(soonest);
                }
            }
        }
        outcome
    }

    /// The membership changed: acks of before are counted no more. Leases that they gave still
    /// run, since their promises do.
    pub fn membership_changed(&mut self) {
        for owned in self.owned.values_mut() {
            for lease in owned.leases.values_mut() {
                lease.backed.clear();
            }
        }
    }
}
