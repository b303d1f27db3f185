//! The director's part in ownership: taking grants up, renewing, voting, giving up, releasing.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use super::{Closing, Director, Effect};
use crate::id::{Epoch, GroupName, NodeId, Role};
use crate::kernel::DeviceAddresses;
use crate::ownership::message::{Message, Renew, RenewReply, Report};
use crate::ownership::quorum::Membership;
use crate::ownership::voter::{Answer, DurablePromises};
use crate::placement::ReceivedReport;
use crate::state::ClusterState;
use crate::time::Instant;

/// How often a release is sent: the first time at once, then with the rounds that follow, since
/// each may be lost. A release that never arrives costs the successor one promise's length.
pub(super) const TELLINGS: u32 = 3;

/// Nodes whose reports are kept.
const REPORTS_MAX: usize = 64;

impl Director {
    pub(super) fn state_changed(
        &mut self,
        now: Instant,
        state: Arc<ClusterState>,
        effects: &mut Vec<Effect>,
    ) {
        // The first configuration may be an empty one.
        let first = state.configuration.is_some() && self.state.configuration.is_none();
        let configured = first || state.spec != self.state.spec;
        let weighed = state.overrides != self.state.overrides;
        let peopled = state.nodes != self.state.nodes;
        if state.grants != self.state.grants {
            self.last_grant = Some(now);
        }
        if state.revision() != self.state.revision() {
            self.reaching.recount();
        }
        let before = std::mem::replace(&mut self.state, state);
        self.watch(effects);
        self.claims_configured();
        self.note_unserved(now, &before);
        self.voter.applied(now, &self.state);
        self.reports.retain(|node, _| self.state.nodes.contains_key(node));
        if configured {
            self.look_what_is_programmed();
            self.reaching.configured(&self.state.spec);
        }
        if configured || weighed || peopled {
            self.weighted = self.state.overrides.over(&self.state.spec);
            if configured && let Some(goal) = &self.service_goal {
                self.leaving.configured(now, &goal.services, &before.spec, &self.state.spec);
            }
            self.configuration_changed(now, effects);
        }
        self.catch_up(now, effects);
        if configured && self.config.role == Role::Director {
            self.know_vips(now, effects);
        }
        self.follow_grants(now);
        self.tell_state(&before, effects);
    }

    /// Takes up what is granted to this start of this node; gives up everything else.
    pub(super) fn follow_grants(&mut self, now: Instant) {
        let mut taken = false;
        let owned: Vec<GroupName> = self.owner.groups().map(|(group, _)| group.clone()).collect();
        for group in owned {
            if self.granted(&group) != self.owner.epoch(&group) {
                self.close(&group);
            }
        }
        // An epoch that is over never comes back, so it need not be remembered.
        let mut given_up = std::mem::take(&mut self.given_up);
        given_up.retain(|group, epoch| self.granted(group) == Some(*epoch));
        self.given_up = given_up;
        if self.stopping {
            return;
        }
        let state = Arc::clone(&self.state);
        for (group, settings) in &state.spec.groups {
            let Some(epoch) = self.granted(group) else { continue };
            if self.given_up.get(group).is_some_and(|&given_up| given_up >= epoch) {
                continue;
            }
            // Until an address is known to be free it is not even asked of the voters.
            let free = settings.addresses.iter().filter(|vip| self.may_serve(vip));
            let addresses: BTreeSet<IpAddr> = free.map(|vip| vip.net.addr()).collect();
            taken |= self.owner.epoch(group) != Some(epoch);
            self.owner.take_up(group, epoch, &addresses);
        }
        if taken {
            self.next_round = now;
        }
    }

    /// The epoch under which this start of this node owns a group.
    pub(super) fn granted(&self, group: &GroupName) -> Option<Epoch> {
        let grant = self.state.grants.get(group)?;
        let mine = grant.owner == self.config.me && grant.incarnation == self.config.incarnation;
        mine.then_some(grant.epoch)
    }

    /// Stops serving a group and renewing it; its release is told once its addresses are gone.
    fn close(&mut self, group: &GroupName) {
        let Some(epoch) = self.owner.give_up(group) else { return };
        self.given_up.insert(group.clone(), epoch);
        // The next address goal is the first that does not want them. Those that an earlier goal
        // gave up already, in vain so far, must be gone too.
        let addresses: DeviceAddresses =
            self.serving.keys().chain(&self.addresses.present).cloned().collect();
        let closing =
            Closing { epoch, addresses, sequence: self.address_sequence + 1, tellings: TELLINGS };
        self.closing.insert(group.clone(), closing);
    }

    pub(super) fn stop(&mut self, now: Instant, effects: &mut Vec<Effect>) {
        self.stopping = true;
        let owned: Vec<GroupName> = self.owner.groups().map(|(group, _)| group.clone()).collect();
        for group in &owned {
            self.close(group);
        }
        // The leader shall hear of it now, not with the next round.
        self.send_report(now, effects);
    }

    pub(super) fn raft_changed(&mut self, now: Instant, leads: bool, membership: Membership) {
        if self.leads && !leads {
            self.placement.reset();
        }
        self.leads = leads;
        if self.membership != membership {
            self.owner.membership_changed();
            self.next_round = now;
        }
        self.membership = membership;
    }

    pub(super) fn message(
        &mut self,
        now: Instant,
        from: NodeId,
        message: Message,
        effects: &mut Vec<Effect>,
    ) -> bool {
        match message {
            Message::Renew(renew) => self.vote(now, from, &renew, effects),
            Message::RenewReply(reply) => self.voted(now, from, &reply),
            Message::Released(groups) => self.released(now, from, &groups),
            Message::Report(report) => return self.reported(now, from, report),
        }
        false
    }

    /// A former owner serves these groups no more.
    fn released(&mut self, now: Instant, from: NodeId, groups: &BTreeMap<GroupName, Epoch>) {
        for (group, epoch) in groups {
            self.voter.released(from, group, *epoch);
        }
        // The other voters are told at the same time: whoever waits for a promise to end asks them
        // again now. It is only a hint; what counts is what they answer. An owner whose lease runs
        // does not follow it.
        let waits = |(group, _)| self.owner.lease_until(group).is_some_and(|until| until <= now);
        if self.owner.groups().any(waits) {
            // Not in a frenzy: a release comes over every link and three times, and the network may
            // repeat it for ever.
            let asks = now.max(self.last_hint + self.least_gap());
            if asks < self.next_round {
                self.next_round = asks;
                self.last_hint = asks;
            }
        }
    }

    fn vote(&mut self, now: Instant, from: NodeId, renew: &Renew, effects: &mut Vec<Effect>) {
        let view = Self::voter_view(&self.state, &self.membership);
        let Answer { reply, persist } = self.voter.renew(now, from, renew, view);
        effects.extend(persist.map(Effect::Persist));
        if let Some(reply) = reply {
            self.answer(now, from, reply, effects);
        }
    }

    /// Sends a voter's answer; this node's own does not leave it.
    fn answer(&mut self, now: Instant, to: NodeId, reply: RenewReply, effects: &mut Vec<Effect>) {
        if to == self.config.me {
            self.voted(now, to, &reply);
        } else {
            effects.push(Effect::Send(vec![to], Message::RenewReply(reply)));
        }
    }

    fn voted(&mut self, now: Instant, from: NodeId, reply: &RenewReply) {
        let outcome = self.owner.reply(from, reply, &self.membership);
        for group in &outcome.superseded {
            self.close(group);
        }
        if let Some(wait) = outcome.retry_in {
            // Asked again as soon as the promise in the way is over, but not in a frenzy.
            let soonest = now + self.least_gap();
            self.next_round = self.next_round.min((now + wait).max(soonest));
        }
    }

    pub(super) fn persisted(
        &mut self,
        now: Instant,
        written: DurablePromises,
        effects: &mut Vec<Effect>,
    ) {
        let view = Self::voter_view(&self.state, &self.membership);
        let (replies, persist) = self.voter.persisted(now, written, view);
        effects.extend(persist.map(Effect::Persist));
        for (to, reply) in replies {
            self.answer(now, to, reply, effects);
        }
    }

    /// Returns whether it says something new of what the node can own, or of an owner that it hears
    /// no more: the leader decides at once then.
    fn reported(&mut self, now: Instant, from: NodeId, report: Report) -> bool {
        // Numbers rise over the restarts of a daemon, so a late report of the one before is told
        // from that of the next. Over a restart of the machine they fall, and it was silent.
        let suspicion = self.state.timing.suspicion();
        let newer = self.reports.get(&from).is_none_or(|known| {
            let restarted = known.report.incarnation != report.incarnation;
            known.report.sequence < report.sequence
                || (restarted && now.since(known.at) >= suspicion)
        });
        if !newer || (self.reports.len() >= REPORTS_MAX && !self.reports.contains_key(&from)) {
            return false;
        }
        let suspected = |report: &Report| -> BTreeSet<(GroupName, Epoch)> {
            let heard = report
                .heard
                .iter()
                .filter(|(_, heard)| heard.is_silent(suspicion) || heard.is_deaf(suspicion));
            heard.map(|(group, heard)| (group.clone(), heard.epoch)).collect()
        };
        let news =
            self.reports.get(&from).is_none_or(|ReceivedReport { report: before, .. }| {
                before.incarnation != report.incarnation
                    || before.obstacles != report.obstacles
                    || !suspected(&report).is_subset(&suspected(before))
            });
        self.reports.insert(from, ReceivedReport { at: now, report });
        news
    }

    /// When others are to be told that an owner is silent or deaf; none before the first report.
    pub(super) fn suspicion_due(&self) -> Option<Instant> {
        let told = self.reports.get(&self.config.me)?.at;
        let moment = self.voter.next_suspicion(told, self.state.timing.suspicion())?;
        // The owners of many groups may fall silent one shortly after another.
        Some(moment.max(told + self.least_gap()))
    }

    /// The least time between two messages that something asks for before the next round.
    fn least_gap(&self) -> Duration {
        self.state.timing.renew() / 16
    }

    pub(super) fn send_round(&mut self, now: Instant, effects: &mut Vec<Effect>) {
        let lease = self.state.timing.lease();
        let Some(renew) = self.owner.next_round(now, lease, self.membership.index) else { return };
        let voters = self.membership.voters();
        self.send(voters.iter(), Message::Renew(renew.clone()), effects);
        if voters.contains(&self.config.me) {
            self.vote(now, self.config.me, &renew, effects);
        }
    }

    pub(super) fn send_report(&mut self, now: Instant, effects: &mut Vec<Effect>) {
        self.count_reach(now);
        // Never lower than the lease clock, which goes on when a daemon restarts.
        self.report_sequence = (self.report_sequence + 1).max(now.0);
        let report = Report {
            incarnation: self.config.incarnation,
            sequence: self.report_sequence,
            heard: self.voter.heard(now),
            obstacles: self.obstacles(now),
            reach: self.reaching.own.clone(),
            cold: self.is_cold(now),
        };
        self.send(self.state.nodes.keys(), Message::Report(report.clone()), effects);
        self.reports.insert(self.config.me, ReceivedReport { at: now, report });
    }

    /// Sends a message to others.
    fn send<'a>(
        &self,
        nodes: impl Iterator<Item = &'a NodeId>,
        message: Message,
        effects: &mut Vec<Effect>,
    ) {
        let others: Vec<NodeId> = nodes.copied().filter(|node| *node != self.config.me).collect();
        if !others.is_empty() {
            effects.push(Effect::Send(others, message));
        }
    }

    /// Tells what keeps this node from its groups, where that is not what it told last.
    pub(super) fn tell_obstacles(&mut self, now: Instant, effects: &mut Vec<Effect>) -> bool {
        let told = self.reports.get(&self.config.me).map(|own| &own.report.obstacles);
        let news = told.is_some_and(|told| *told != self.obstacles(now));
        if news {
            self.send_report(now, effects);
        }
        news
    }

    /// Sends the releases of groups whose addresses are gone.
    pub(super) fn tell_releases(&mut self, effects: &mut Vec<Effect>) {
        let mut released = BTreeMap::new();
        for (group, closing) in &mut self.closing {
            let applied = self.addresses.sequence >= closing.sequence;
            // An address that another group of this node serves is covered by that group's lease.
            let gone = closing
                .addresses
                .iter()
                .all(|a| !self.addresses.present.contains(a) || self.serving.contains_key(a));
            if closing.tellings > 0 && applied && gone {
                closing.tellings -= 1;
                released.insert(group.clone(), closing.epoch);
            }
        }
        if released.is_empty() {
            return;
        }
        let voters = self.membership.voters();
        self.send(voters.iter(), Message::Released(released.clone()), effects);
        for (group, epoch) in &released {
            self.voter.released(self.config.me, group, *epoch);
        }
        self.closing.retain(|_, closing| closing.tellings > 0);
    }
}
