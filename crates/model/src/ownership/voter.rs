//! A voter: to whom it has promised what, and what it heard of each owner.
//!
//! The rules are those of design §3 by number. Floors and the longest promise are durable before
//! anything is answered that rests on them; promises are volatile, which the quarantine after a
//! start makes up for. Tests: `voter/tests.rs`.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::time::Duration;

use super::message::{Heard, Refusal, Renew, RenewGroup, RenewReply, RenewResult};
use super::quorum::Membership;
use crate::id::{Epoch, GroupName, NodeId};
use crate::state::ClusterState;
use crate::time::{Instant, LEASE_MAX, promise};

#[cfg(test)]
mod tests;

/// Groups that one renewal may carry; more is no message of ours.
pub const GROUPS_MAX: usize = 10_000;

/// What a voter must not forget.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Default)]
pub struct DurablePromises {
    /// The longest promise it has ever given.
    pub longest: Duration,
    /// The highest epoch that it has ever supported, for each group.
    pub floors: BTreeMap<GroupName, Epoch>,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
struct Promise {
    epoch: Epoch,
    node: NodeId,
    until: Instant,
    /// Each address until the promise that quoted it last runs out. The design keeps one set that
    /// only grows while the promise lives; with a time for each address, one that left the group
    /// is free when its own last promise is over, though the group is renewed for ever.
    addresses: BTreeMap<IpAddr, Instant>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
struct Listening {
    epoch: Epoch,
    /// When a renewal of this epoch came last, or the grant was applied.
    last: Instant,
    /// Since when the owner says that it does not hold its lease, nobody else being in the way.
    deaf_since: Option<Instant>,
    /// Whether the last renewal said that the lease runs.
    holding: bool,
}

/// What a voter decides by, besides its own memory.
#[derive(Debug, Clone, Copy)]
pub struct VoterView<'a> {
    /// The membership in effect here, committed or not.
    pub membership: &'a Membership,
    /// The replicated state as applied here.
    pub state: &'a ClusterState,
}

/// A voter's answer to one renewal.
#[derive(Debug, Clone, Default)]
pub struct Answer {
    /// To send now; `None` if every group waits for the disk.
    pub reply: Option<RenewReply>,
    /// Write this durably, then call [`Voter::persisted`].
    pub persist: Option<DurablePromises>,
}

/// A voter's memory.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Voter {
    quarantine_until: Instant,
    durable: DurablePromises,
    /// What shall be on disk; never behind `durable`.
    wanted: DurablePromises,
    /// What is on its way to the disk: one write at a time.
    writing: Option<DurablePromises>,
    promises: BTreeMap<GroupName, Promise>,
    /// The latest renewal of each node that waits for the disk.
    waiting: BTreeMap<NodeId, Renew>,
    listening: BTreeMap<GroupName, Listening>,
}

/// Until when groups and addresses are promised to other nodes than the one that asks.
#[derive(Debug, Default)]
struct Held {
    groups: BTreeMap<GroupName, Instant>,
    addresses: BTreeMap<IpAddr, Instant>,
}

impl Held {
    fn until(&self, group: &GroupName, addresses: &BTreeSet<IpAddr>) -> Option<Instant> {
        let by_address = addresses.iter().filter_map(|address| self.addresses.get(address));
        self.groups.get(group).into_iter().chain(by_address).max().copied()
    }
}

impl Voter {
    /// A voter whose daemon started at `now`, with what it had written before.
    #[must_use]
    pub fn new(now: Instant, durable: DurablePromises) -> Self {
        Self {
            quarantine_until: now + durable.longest,
            wanted: durable.clone(),
            durable,
            writing: None,
            promises: BTreeMap::new(),
            waiting: BTreeMap::new(),
            listening: BTreeMap::new(),
        }
    }

    /// Takes note of the grants in force, so that silence is counted from when they were applied.
    pub fn applied(&mut self, now: Instant, state: &ClusterState) {
        // Promises that have run out bind nobody, and the group may be gone.
        self.promises.retain(|_, promise| promise.until > now);
        self.listening.retain(|group, _| state.grants.contains_key(group));
        for (group, grant) in &state.grants {
            let known = self.listening.get(group).is_some_and(|l| l.epoch >= grant.epoch);
            if !known {
                let fresh =
                    Listening { epoch: grant.epoch, last: now, deaf_since: None, holding: false };
                self.listening.insert(group.clone(), fresh);
            }
        }
    }

    /// Answers a renewal.
    pub fn renew(
        &mut self,
        now: Instant,
        from: NodeId,
        renew: &Renew,
        view: VoterView<'_>,
    ) -> Answer {
        // No configuration has a longer lease, and the proof does not hold for one. Its promise would
        // be on disk for ever, and so would the quarantine after each start.
        if renew.groups.len() > GROUPS_MAX || renew.lease > LEASE_MAX {
            return Answer::default();
        }
        let answer = self.answer(now, from, renew, view);
        let results = answer.reply.as_ref().map(|reply| &reply.results);
        for (group, asked) in &renew.groups {
            let result = results.and_then(|results| results.get(group));
            let acked = result.is_some_and(|(_, result)| *result == RenewResult::Ack);
            self.listen(now, group, asked, acked);
        }
        answer
    }

    fn answer(&mut self, now: Instant, from: NodeId, renew: &Renew, view: VoterView<'_>) -> Answer {
        let mut results = BTreeMap::new();
        let mut later = BTreeMap::new();
        // Promises that have run out bind nobody.
        self.promises.retain(|_, promise| promise.until > now);
        let held = self.held_by_others(now, from);
        for (group, asked) in &renew.groups {
            match self.decide(now, from, (renew, group, asked), (view, &held)) {
                Some(result) => {
                    results.insert(group.clone(), (asked.epoch, result));
                }
                None => {
                    later.insert(group.clone(), asked.clone());
                }
            }
        }
        if !later.is_empty() {
            self.wait(from, renew, later);
        }
        let reply = (!results.is_empty()).then_some(RenewReply {
            incarnation: renew.incarnation,
            round: renew.round,
            results,
        });
        Answer { reply, persist: self.next_write() }
    }

    /// These groups of a renewal wait for the disk, with those of other parts of the same round.
    fn wait(&mut self, from: NodeId, renew: &Renew, groups: BTreeMap<GroupName, RenewGroup>) {
        let &Renew { incarnation, round, membership, lease, .. } = renew;
        let same = |w: &&mut Renew| {
            (w.incarnation, w.round, w.membership, w.lease)
                == (incarnation, round, membership, lease)
                && w.groups.len() + groups.len() <= GROUPS_MAX
        };
        match self.waiting.get_mut(&from).filter(same) {
            Some(waiting) => waiting.groups.extend(groups),
            None => {
                let waiting = Renew { incarnation, round, membership, lease, groups };
                self.waiting.insert(from, waiting);
            }
        }
    }

    /// What was asked to be written is on disk: answers what waited for it. Anything else than the
    /// write under way is ignored: nothing may rest on it.
    pub fn persisted(
        &mut self,
        now: Instant,
        written: DurablePromises,
        view: VoterView<'_>,
    ) -> (Vec<(NodeId, RenewReply)>, Option<DurablePromises>) {
        if self.writing.as_ref() != Some(&written) {
            return (Vec::new(), None);
        }
        self.durable = written;
        self.writing = None;
        let mut replies = Vec::new();
        let mut persist = None;
        for (from, renew) in std::mem::take(&mut self.waiting) {
            // Rules 1 to 5 are asked anew: other promises may have been given meanwhile. The owner
            // was heard when it asked, not now.
            let answer = self.answer(now, from, &renew, view);
            replies.extend(answer.reply.map(|reply| (from, reply)));
            persist = answer.persist.or(persist);
        }
        let persist = persist.or_else(|| self.next_write());
        (replies, persist)
    }

    /// A former owner released a group: drops that promise, and only that epoch's.
    pub fn released(&mut self, from: NodeId, group: &GroupName, epoch: Epoch) {
        let this = |p: &Promise| p.node == from && p.epoch == epoch;
        if self.promises.get(group).is_some_and(this) {
            self.promises.remove(group);
        }
        // A renewal that waits for the disk must not bring it back.
        if let Some(renew) = self.waiting.get_mut(&from) {
            renew.groups.retain(|name, asked| name != group || asked.epoch != epoch);
        }
    }

    /// What this voter heard of each group's owner.
    #[must_use]
    pub fn heard(&self, now: Instant) -> BTreeMap<GroupName, Heard> {
        let heard = |l: &Listening| Heard {
            epoch: l.epoch,
            silent: now.since(l.last),
            deaf: l.deaf_since.map(|since| now.since(since)),
        };
        self.listening.iter().map(|(group, l)| (group.clone(), heard(l))).collect()
    }

    /// When an owner will have been silent, or deaf, for so long: the first such moment after `after`,
    /// as far as is known now.
    #[must_use]
    pub fn next_suspicion(&self, after: Instant, suspicion: Duration) -> Option<Instant> {
        let since = self.listening.values().flat_map(|l| [Some(l.last), l.deaf_since]).flatten();
        since.map(|since| since + suspicion).filter(|moment| *moment > after).min()
    }

    /// The epoch whose owner said within the last `lease` that it holds this group.
    #[must_use]
    pub fn held_epoch(&self, now: Instant, group: &GroupName, lease: Duration) -> Option<Epoch> {
        let l = self.listening.get(group)?;
        (l.holding && now.since(l.last) < lease).then_some(l.epoch)
    }

    /// The addresses of a group that this voter's live promise covers.
    pub fn promised(&self, now: Instant, group: &GroupName) -> impl Iterator<Item = IpAddr> {
        let promise = self.promises.get(group).into_iter();
        let alive = promise.flat_map(move |p| p.addresses.iter().filter(move |(_, t)| **t > now));
        alive.map(|(address, _)| *address)
    }

    fn decide(
        &mut self,
        now: Instant,
        from: NodeId,
        (renew, group, asked): (&Renew, &GroupName, &RenewGroup),
        (view, held): (VoterView<'_>, &Held),
    ) -> Option<RenewResult> {
        // Rule 1: promises that a former daemon of this node gave may still be alive.
        if now < self.quarantine_until {
            let remaining = self.quarantine_until.since(now);
            return Some(RenewResult::Refused(Refusal::Quarantine { remaining }));
        }
        // Rule 2.
        let applied = view.state.applied;
        if renew.membership < view.membership.index || renew.membership > applied {
            return Some(RenewResult::Refused(Refusal::Membership));
        }
        // Rule 3. An applied epoch without a grant is that of a group that was deleted since: an
        // owner that has not heard of it must not keep the addresses from their new group.
        let floor = self.durable.floors.get(group).copied().unwrap_or_default();
        let over = match view.state.grants.get(group) {
            Some(grant) => asked.epoch < grant.epoch,
            None => asked.epoch.0 <= applied.0,
        };
        if over || asked.epoch < floor {
            return Some(RenewResult::Refused(Refusal::Superseded));
        }
        // Rule 4, and the longest promise likewise: durable before anything rests on it.
        let length = promise(renew.lease);
        let durable_enough = asked.epoch <= floor && length <= self.durable.longest;
        if !durable_enough {
            let wanted = self.wanted.floors.entry(group.clone()).or_default();
            *wanted = (*wanted).max(asked.epoch);
            self.wanted.longest = self.wanted.longest.max(length);
            return None;
        }
        // Rule 5: after rule 4's write has returned, never before.
        if let Some(until) = held.until(group, &asked.addresses) {
            let remaining = until.since(now);
            return Some(RenewResult::Refused(Refusal::Held { remaining }));
        }
        // Rule 6.
        self.promise(now, from, group, asked, now + length);
        Some(RenewResult::Ack)
    }

    /// The live promises to other nodes. They are the same for every group of one renewal: what is
    /// promised in answering it is promised to its sender.
    fn held_by_others(&self, now: Instant, from: NodeId) -> Held {
        let mut held = Held::default();
        for (group, promise) in self.promises.iter().filter(|(_, p)| p.node != from) {
            if promise.until > now {
                held.groups.insert(group.clone(), promise.until);
            }
            for (&address, &until) in promise.addresses.iter().filter(|(_, t)| **t > now) {
                let latest = held.addresses.entry(address).or_insert(until);
                *latest = (*latest).max(until);
            }
        }
        held
    }

    fn promise(
        &mut self,
        now: Instant,
        from: NodeId,
        group: &GroupName,
        asked: &RenewGroup,
        until: Instant,
    ) {
        let fresh =
            || Promise { epoch: asked.epoch, node: from, until, addresses: BTreeMap::new() };
        let promise = self.promises.entry(group.clone()).or_insert_with(fresh);
        if promise.node != from {
            *promise = fresh();
        }
        promise.epoch = promise.epoch.max(asked.epoch);
        promise.until = promise.until.max(until);
        promise.addresses.retain(|_, end| *end > now);
        for &address in &asked.addresses {
            let end = promise.addresses.entry(address).or_insert(until);
            *end = (*end).max(until);
        }
    }

    fn listen(&mut self, now: Instant, group: &GroupName, asked: &RenewGroup, acked: bool) {
        let fresh = Listening { epoch: asked.epoch, last: now, deaf_since: None, holding: false };
        let listening = self.listening.entry(group.clone()).or_insert(fresh);
        if asked.epoch < listening.epoch {
            return;
        }
        if asked.epoch > listening.epoch {
            *listening = fresh;
        }
        listening.last = now;
        listening.holding = asked.holding;
        // An owner that this voter refuses is not deaf: it waits for its turn.
        if asked.holding || !acked {
            listening.deaf_since = None;
        } else {
            listening.deaf_since.get_or_insert(now);
        }
    }

    fn next_write(&mut self) -> Option<DurablePromises> {
        if self.writing.is_some() || self.wanted == self.durable {
            return None;
        }
        self.writing = Some(self.wanted.clone());
        self.writing.clone()
    }
}
