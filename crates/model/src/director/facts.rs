//! What a director finds out about itself: arbitration, tracks, and who else has its VIPs; and
//! what of it stands in the way of owning a group. Tests: `director/tests/facts.rs`.

use std::collections::{BTreeMap, BTreeSet};

use super::{DeviceCondition, Director, Effect, GroupName, Instant, Obstacle, Verdict};
use crate::claim::{Answer, Claims, Question};
use crate::id::Role;
use crate::spec::{Track, TrackKind, Vip, VipGroup};
use crate::watch::{self, Record, Watched, arbitration_interval};

/// What was found out so far.
#[derive(Debug, Default)]
pub(super) struct Facts {
    /// What is tried, and what came of it.
    watched: BTreeMap<Watched, Record>,
    pub(super) claims: Claims,
}

/// How something stands that a group asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Standing {
    Unknown,
    Passing,
    Failing,
}

impl Facts {
    /// What is tried and does not do, with the reason.
    fn failing(&self, now: Instant) -> BTreeSet<String> {
        let failing = |(watched, record): (&Watched, &Record)| match record.verdict()? {
            Verdict::Down(reason) => Some(format!("{watched}: {reason}")),
            Verdict::Up | Verdict::Weighs(_)
                if matches!(watched, Watched::Track(_)) || record.is_trusted(now) =>
            {
                None
            }
            Verdict::Up | Verdict::Weighs(_) => Some(format!(
                "{watched}: it answers again after it was lost several times; this director takes \
                 no group over on its word yet"
            )),
        };
        self.watched.iter().filter_map(failing).collect()
    }

    fn standing(&self, watched: &Watched) -> Standing {
        match self.watched.get(watched).and_then(Record::verdict) {
            Some(Verdict::Up | Verdict::Weighs(_)) => Standing::Passing,
            Some(Verdict::Down(_)) => Standing::Failing,
            None => Standing::Unknown,
        }
    }
}

impl Director {
    /// What is watched follows the configuration, and whose groups may be owned here.
    pub(super) fn watch(&mut self, effects: &mut Vec<Effect>) {
        if self.config.role == Role::Witness {
            return;
        }
        let may_own = |group: &GroupName| self.state.may_own(self.config.me, group);
        let wanted = watch::watched(&self.state.spec, self.state.timing, may_own);
        if self.facts.watched.keys().eq(&wanted) {
            return;
        }
        self.facts.watched.retain(|watched, _| wanted.contains(watched));
        for watched in &wanted {
            self.facts.watched.entry(watched.clone()).or_default();
        }
        effects.push(Effect::Watch(wanted));
    }

    /// Trying something came to another verdict.
    pub(super) fn found(&mut self, now: Instant, watched: &Watched, verdict: Verdict) {
        // A try that ended as the configuration changed may speak of what is gone.
        if let Some(record) = self.facts.watched.get_mut(watched) {
            record.found(now, verdict);
        }
    }

    /// The configuration is another: so is what may have to be asked for.
    pub(super) fn claims_configured(&mut self) {
        let spec = &self.state.spec;
        let vips = spec.groups.values().flat_map(|group| &group.addresses);
        let all: BTreeSet<Question> = vips.filter_map(|vip| self.question(vip)).collect();
        self.facts.claims.configured(&all, |group| spec.groups.contains_key(group));
    }

    fn question(&self, vip: &Vip) -> Option<Question> {
        let device = self.config.devices.get(&vip.interface)?.clone();
        Some(Question { device, address: vip.net.addr() })
    }

    fn is_up(&self, question: &Question) -> bool {
        self.addresses.devices.get(&question.device) == Some(&DeviceCondition::Up)
    }

    /// Whether an owner here may serve this address. One without a device is served nowhere.
    pub(super) fn may_serve(&self, vip: &Vip) -> bool {
        self.question(vip).is_none_or(|question| self.facts.claims.may_serve(&question))
    }

    /// Notes which groups are held, and asks for what no member is known to have held.
    pub(super) fn claim(&mut self, now: Instant, effects: &mut Vec<Effect>) {
        // Only a voter hears the owners, and only who hears them can tell their answers.
        let votes = self.membership.voters().contains(&self.config.me);
        if self.config.role == Role::Witness || self.stopping || !votes {
            return;
        }
        if self.facts.claims.give_up(now) {
            self.follow_grants(now);
        }
        let state = std::sync::Arc::clone(&self.state);
        let mut wanted = BTreeSet::new();
        for (group, settings) in &state.spec.groups {
            let settled = self.facts.claims.is_settled(group);
            if settled || !state.may_own(self.config.me, group) {
                continue;
            }
            let mut questions = settings.addresses.iter().filter_map(|vip| self.question(vip));
            if self.facts.claims.was_held(group)
                && questions.all(|question| self.facts.claims.may_serve(&question))
            {
                self.facts.claims.settle(group);
                continue;
            }
            if self.held_by_another(now, group) {
                let leased: BTreeSet<_> = self.voter.promised(now, group).collect();
                let leased = settings.addresses.iter().filter(|v| leased.contains(&v.net.addr()));
                let leased = leased.filter_map(|vip| self.question(vip)).collect();
                self.facts.claims.held(now, group, leased);
                continue;
            }
            if self.owner.lease_until(group).is_some_and(|until| until > now) {
                self.facts.claims.held(now, group, BTreeSet::new());
            }
            let questions = settings.addresses.iter().filter_map(|vip| self.question(vip));
            wanted.extend(questions.filter(|q| self.is_up(q) && !self.facts.claims.may_serve(q)));
        }
        let questions = self.facts.claims.ask(now, wanted.into_iter());
        if !questions.is_empty() {
            effects.push(Effect::Ask(questions));
        }
    }

    /// The network was asked. An answer while another member holds the group is that member's.
    pub(super) fn answered(&mut self, now: Instant, mut answers: BTreeMap<Question, Answer>) {
        let state = std::sync::Arc::clone(&self.state);
        for (group, settings) in &state.spec.groups {
            if self.held_by_another(now, group) {
                let its = settings.addresses.iter().filter_map(|vip| self.question(vip));
                for question in its {
                    answers.remove(&question);
                }
            }
        }
        self.facts.claims.answered(now, answers);
        self.follow_grants(now);
    }

    fn held_by_another(&self, now: Instant, group: &GroupName) -> bool {
        let Some(grant) = self.state.grants.get(group) else { return false };
        let lease = self.state.timing.lease();
        let held = self.voter.held_epoch(now, group, lease) == Some(grant.epoch);
        held && grant.owner != self.config.me
    }

    /// What of it keeps this node from owning a group.
    pub(super) fn fact_obstacles(
        &self,
        now: Instant,
        group: &GroupName,
        settings: &VipGroup,
    ) -> BTreeSet<Obstacle> {
        let mut obstacles = BTreeSet::new();
        let mut note = |standing, failing| match standing {
            Standing::Passing => {}
            Standing::Unknown => {
                obstacles.insert(Obstacle::Starting);
            }
            Standing::Failing => {
                obstacles.insert(failing);
            }
        };
        note(self.arbitration(now, group, settings), Obstacle::ArbitrationFailed);
        for track in &settings.tracks {
            note(self.track(track), Obstacle::TrackFailed);
        }
        // An address that is added to a served group is only not served until it is free.
        if !self.facts.claims.was_held(group) && !self.held_by_another(now, group) {
            // A device that is down can't be asked through, and is an obstacle itself.
            let questions = settings.addresses.iter().filter_map(|vip| self.question(vip));
            for question in questions.filter(|question| self.is_up(question)) {
                note(self.claimable(&question), Obstacle::AddressInUse);
            }
        }
        obstacles
    }

    /// One address that answers is enough: what is to be told is a director that is cut off from
    /// a host that is gone.
    fn arbitration(&self, now: Instant, group: &GroupName, settings: &VipGroup) -> Standing {
        let owned = self.granted(group).is_some();
        let interval = arbitration_interval(self.state.timing);
        let addresses = self.state.spec.arbitration_of(settings).iter();
        let watched = addresses.map(|&address| Watched::Arbitration { address, interval });
        let standing = |watched: Watched| match self.facts.watched.get(&watched) {
            // It may keep a group on the word of an address that comes and goes, and take none.
            Some(record) if !owned && !record.is_trusted(now) => Standing::Failing,
            _ => self.facts.standing(&watched),
        };
        let standings: Vec<Standing> = watched.map(standing).collect();
        let any = |of| standings.contains(&of);
        match (standings.is_empty() || any(Standing::Passing), any(Standing::Unknown)) {
            (true, _) => Standing::Passing,
            (false, true) => Standing::Unknown,
            (false, false) => Standing::Failing,
        }
    }

    fn track(&self, track: &Track) -> Standing {
        let TrackKind::Interface(interface) = &track.kind else {
            return self.facts.standing(&Watched::Track(track.clone()));
        };
        let Some(device) = self.config.devices.get(interface) else { return Standing::Failing };
        match self.addresses.devices.get(device) {
            None => Standing::Unknown,
            Some(DeviceCondition::Up) => Standing::Passing,
            Some(DeviceCondition::Down | DeviceCondition::Missing) => Standing::Failing,
        }
    }

    fn claimable(&self, question: &Question) -> Standing {
        match self.facts.claims.answer(question) {
            _ if self.facts.claims.may_serve(question) => Standing::Passing,
            Some(Answer::InUse(_)) => Standing::Failing,
            Some(Answer::Failed(_) | Answer::Free) | None => Standing::Unknown,
        }
    }

    /// What an operator should know of it, in words.
    pub(super) fn fact_problems(&self, now: Instant) -> BTreeSet<String> {
        let mut problems = self.facts.failing(now);
        problems.extend(self.full.clone());
        problems.extend(self.routing_problems());
        let me = self.config.me;
        for (group, settings) in &self.state.spec.groups {
            if self.config.role == Role::Witness || !self.state.may_own(me, group) {
                continue;
            }
            problems.extend(settings.tracks.iter().filter_map(|track| self.interface_down(track)));
            if self.held_by_another(now, group) {
                continue;
            }
            for question in settings.addresses.iter().filter_map(|vip| self.question(vip)) {
                problems.extend(self.in_the_way(&question));
            }
        }
        problems
    }

    fn interface_down(&self, track: &Track) -> Option<String> {
        let TrackKind::Interface(interface) = &track.kind else { return None };
        let what = match self.config.devices.get(interface) {
            None => format!("node.toml maps no device to the interface {interface}"),
            Some(device) => match self.addresses.devices.get(device) {
                Some(DeviceCondition::Down) => {
                    format!("{device} ({interface}) is down or has no carrier")
                }
                Some(DeviceCondition::Missing) => {
                    format!("{device} ({interface}) does not exist")
                }
                Some(DeviceCondition::Up) | None => return None,
            },
        };
        Some(format!("track {}: {what}", track.name))
    }

    fn in_the_way(&self, question: &Question) -> Option<String> {
        match self.facts.claims.answer(question)? {
            Answer::Free => None,
            Answer::InUse(mac) => Some(format!(
                "{question} is in use by the host with MAC {mac}: a real server that answers ARP \
                 for it, or a stranger; it is not served before that host gives it up"
            )),
            Answer::Failed(reason) => {
                Some(format!("it is not known whether somebody else has {question}: {reason}"))
            }
        }
    }
}
