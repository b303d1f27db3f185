//! Configurations as the log decides them: which is in force, which were before, and which may yet give
//! way to the one before it.
//!
//! A configuration that was applied to be confirmed is *unconfirmed* until then. At its deadline the leader,
//! whoever that is, proposes to roll it back (`Command::RollBack`), which counts only for the revision and the
//! deadline that it names. Nothing else is applied meanwhile. Tests: `state/tests/configuration.rs`.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use super::{
    ApplyError, ClusterState, REQUESTS_MAX, Read, Refused, Reply, RequestId, TakenRequest,
};
use crate::command::{Configure, Order, UnixMillis};
use crate::id::{GroupName, NodeId, Revision};
use crate::overrides::{OVERRIDES_MAX, Overrides};
use crate::spec::{self, ClusterSpec, Format};
use crate::time::Timing;

/// Revisions whose texts are kept, the one in force among them.
pub const REVISIONS_MAX: usize = 20;
/// How long their texts may be together; the one in force, and the one that an unconfirmed one goes back
/// to, are kept however long they are.
pub const REVISIONS_BYTES_MAX: usize = 8 << 20;
/// The shortest time to confirm a configuration in.
pub const CONFIRM_MIN: Duration = Duration::from_secs(1);
/// The longest time to confirm a configuration in.
pub const CONFIRM_MAX: Duration = Duration::from_secs(24 * 3_600);
/// How long what is said of a configuration may be.
pub const MESSAGE_BYTES_MAX: usize = 500;

/// Whether this may be said of a configuration: one line of text that is not too long.
#[must_use]
pub fn is_message(text: &str) -> bool {
    text.len() <= MESSAGE_BYTES_MAX && !text.chars().any(char::is_control)
}

/// A configuration that is in force, or was.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Configuration {
    /// Its number.
    pub revision: Revision,
    /// The text as it was applied.
    pub source: String,
    /// How the text is written.
    pub format: Format,
    /// Who applied it.
    pub author: String,
    /// When, by the clock of the leader of that time.
    pub at: UnixMillis,
    /// What its author said of it; empty: nothing.
    pub message: String,
    /// The unconfirmed revision that it took back: then its text is that of the revision before that.
    pub takes_back: Option<Revision>,
    /// Who confirmed it, where that was asked for.
    pub confirmed: Option<Order>,
}

/// That the configuration in force gives way to the one before unless it is confirmed, and what else
/// comes back then.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Unconfirmed {
    /// When that was asked for last, by the clock of the leader of that time.
    pub since: UnixMillis,
    /// When it gives way, by the same clock.
    pub until: UnixMillis,
    /// The timing before it.
    pub timing: Timing,
    /// The pins that it ended with their groups.
    pub pins: BTreeMap<GroupName, NodeId>,
    /// The overrides that it ended with their real servers.
    pub overrides: Overrides,
}

impl Unconfirmed {
    /// How long it has from `now` of a node's wall clock on. However wrong that clock is, it is never more
    /// than was asked for: whoever counts this down by a clock that nobody sets is late by that at most.
    #[must_use]
    pub fn left(&self, now: UnixMillis) -> Duration {
        let all = self.until.0.saturating_sub(self.since.0);
        Duration::from_millis(self.until.0.saturating_sub(now.0).min(all))
    }
}

/// The pins and overrides that a configuration ends.
type Ended = (BTreeMap<GroupName, NodeId>, Overrides);

impl ClusterState {
    /// The configuration of this revision, if it is in force or still kept.
    #[must_use]
    pub fn configuration_of(&self, revision: Revision) -> Option<&Configuration> {
        let before = self.history.iter().map(Arc::as_ref);
        before.chain(&self.configuration).find(|kept| kept.revision == revision)
    }

    /// Whether a revision was taken back since nobody confirmed it.
    #[must_use]
    pub fn was_taken_back(&self, revision: Revision) -> bool {
        let before = self.history.iter().map(Arc::as_ref);
        before.chain(&self.configuration).any(|kept| kept.takes_back == Some(revision))
    }

    pub(super) fn configure(
        &mut self,
        new: &Configure,
        read: &Read<'_>,
    ) -> Result<Result<Reply, Refused>, ApplyError> {
        if let Some(taken) = self.requests.iter().find(|taken| taken.request == new.request) {
            let (revision, changed) = (taken.revision, taken.changed);
            return Ok(Ok(Reply::Configured { revision, changed }));
        }
        let current = self.revision();
        if let Some(expected) = new.expected
            && expected != current
        {
            return Ok(Err(Refused::Conflict { current, expected }));
        }
        let spec = readable(&new.source, new.format, read)?;
        if let Some(unconfirmed) = &mut self.unconfirmed {
            // The same again, to be confirmed: it has longer.
            let Some(until) = new.confirm_until.filter(|_| self.spec == spec) else {
                return Ok(Err(Refused::Unconfirmed(current)));
            };
            unconfirmed.since = new.at;
            unconfirmed.until = until;
            return Ok(Ok(self.taken(new.request, current, false)));
        }
        // Nodes may have joined since the proposer checked: this check is the one that counts.
        let problems = spec::against_nodes(&spec, &self.known_nodes());
        if problems.has_errors() {
            return Ok(Err(Refused::Configuration(problems.render("cluster", &new.source))));
        }
        if self.spec == spec && self.configuration.is_some() {
            return Ok(Ok(self.taken(new.request, current, false)));
        }
        let timing = self.timing;
        let configuration = Configuration {
            revision: Revision(current.0 + 1),
            source: new.source.clone(),
            format: new.format,
            author: new.author.clone(),
            at: new.at,
            message: new.message.clone(),
            takes_back: None,
            confirmed: None,
        };
        let (pins, overrides) = self.take_up(spec, configuration);
        let since = new.at;
        self.unconfirmed =
            new.confirm_until.map(|until| Unconfirmed { since, until, timing, pins, overrides });
        self.forget_oldest();
        Ok(Ok(self.taken(new.request, self.revision(), true)))
    }

    /// Remembers a request and its answer.
    fn taken(&mut self, request: RequestId, revision: Revision, changed: bool) -> Reply {
        if self.requests.len() >= REQUESTS_MAX {
            self.requests.pop_front();
        }
        self.requests.push_back(TakenRequest { request, revision, changed });
        Reply::Configured { revision, changed }
    }

    /// From now on this is in force.
    fn take_up(&mut self, spec: Arc<ClusterSpec>, configuration: Configuration) -> Ended {
        if let Some(timing) = spec.timing {
            self.set_timing(timing);
        }
        self.grants.retain(|group, _| spec.groups.contains_key(group));
        let (pins, ended) = std::mem::take(&mut self.pins)
            .into_iter()
            .partition(|(group, _)| spec.groups.contains_key(group));
        self.pins = pins;
        let mut gone = self.overrides.clone();
        gone.retain(|name, server, _| spec.service_with(name, server).is_none());
        self.overrides.retain(|name, server, _| spec.service_with(name, server).is_some());
        self.spec = spec;
        let former = self.configuration.replace(configuration);
        self.history.extend(former.map(Arc::new));
        (ended, gone)
    }

    /// An unconfirmed configuration stays. The same again is no error.
    pub(super) fn confirm(&mut self, revision: Revision, order: &Order) -> Result<Reply, Refused> {
        let current = self.revision();
        if revision != current {
            return Err(Refused::NotUnconfirmed { revision, current });
        }
        let changed = self.unconfirmed.take().is_some();
        if changed && let Some(configuration) = &mut self.configuration {
            configuration.confirmed = Some(order.clone());
        }
        self.forget_oldest();
        Ok(Reply::Configured { revision, changed })
    }

    /// An unconfirmed configuration gives way to the one before it. The same again is no error.
    ///
    /// What was in force before is taken as it stands, whichever nodes have come and gone meanwhile: without
    /// the other it would be in force now.
    pub(super) fn roll_back(
        &mut self,
        revision: Revision,
        until: Option<UnixMillis>,
        order: &Order,
        read: &Read<'_>,
    ) -> Result<Result<Reply, Refused>, ApplyError> {
        let current = self.revision();
        let meant = |unconfirmed: &Unconfirmed| {
            revision == current && until.is_none_or(|until| until == unconfirmed.until)
        };
        if !self.unconfirmed.as_ref().is_some_and(meant) {
            return Ok(
                if self.configuration.as_ref().and_then(|c| c.takes_back) == Some(revision) {
                    Ok(Reply::Configured { revision: current, changed: false })
                } else {
                    Err(Refused::NotUnconfirmed { revision, current })
                },
            );
        }
        let (source, format) = self.before();
        let spec = readable(&source, format, read)?;
        let Some(unconfirmed) = self.unconfirmed.take() else {
            return Ok(Err(Refused::NotUnconfirmed { revision, current }));
        };
        let why = if until.is_some() { "which nobody confirmed" } else { "which was aborted" };
        let configuration = Configuration {
            revision: Revision(current.0 + 1),
            source,
            format,
            author: order.author.clone(),
            at: order.at,
            message: format!("rollback of revision {revision}, {why}"),
            takes_back: Some(revision),
            confirmed: None,
        };
        self.take_up(spec, configuration);
        self.set_timing(unconfirmed.timing);
        self.restore(&unconfirmed, order.at);
        self.forget_oldest();
        Ok(Ok(Reply::Configured { revision: self.revision(), changed: true }))
    }

    /// The text that an unconfirmed configuration gives way to.
    #[must_use]
    pub fn before(&self) -> (String, Format) {
        let former = self.history.back();
        former.map_or((String::new(), Format::Toml), |kept| (kept.source.clone(), kept.format))
    }

    /// Brings back what the configuration that was taken back had ended, where nobody gave another order
    /// since.
    fn restore(&mut self, ended: &Unconfirmed, now: UnixMillis) {
        for (group, node) in &ended.pins {
            if self.may_own(*node, group)
                && !self.is_evacuated(*node)
                && !self.pins.contains_key(group)
            {
                self.pins.insert(group.clone(), *node);
            }
        }
        for (service, server, to) in ended.overrides.iter() {
            let runs = to.until.is_none_or(|until| until > now);
            let there = self.spec.service_with(service, server).is_some();
            let free = self.overrides.get(service, server).is_none();
            if runs && there && free && self.overrides.len() < OVERRIDES_MAX {
                self.overrides.set(service, *server, Some(to.clone()));
            }
        }
    }

    /// Keeps no more revisions, and no more text, than there may be.
    fn forget_oldest(&mut self) {
        let in_force = self.configuration.as_ref().map_or(0, |kept| kept.source.len());
        let kept: fn(&VecDeque<Arc<Configuration>>) -> usize =
            |history| history.iter().map(|kept| kept.source.len()).sum();
        let least = usize::from(self.unconfirmed.is_some());
        while self.history.len() > least
            && (self.history.len() >= REVISIONS_MAX
                || kept(&self.history).saturating_add(in_force) > REVISIONS_BYTES_MAX)
        {
            self.history.pop_front();
        }
    }
}

fn readable(source: &str, format: Format, read: &Read<'_>) -> Result<Arc<ClusterSpec>, ApplyError> {
    read(source, format).map_err(|diagnostics| {
        ApplyError::ConfigurationNotReadable(diagnostics.render("cluster", source))
    })
}
