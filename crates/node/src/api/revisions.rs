//! Configurations, as the API takes and shows them: applied, confirmed, aborted by the leader; and the last
//! revisions, which any node knows.

use std::sync::Arc;
use std::time::Duration;

use quorate_api::{failure, v1};
use quorate_model::command::{Command, Configure, Order, RequestId, UnixMillis};
use quorate_model::id::Revision;
use quorate_model::spec::{self, ClusterSpec, Format};
use quorate_model::state::{
    CONFIRM_MAX, CONFIRM_MIN, ClusterState, Configuration, MESSAGE_BYTES_MAX, Reply, is_message,
};
use tonic::Status;
use tracing::info;

use super::error::{Kind, detailed, error};
use super::leader::unexpected;
use super::status::rfc3339;
use crate::clock;
use crate::member::Member;

/// Of the orders that a configuration ends, so many are named.
const WARNINGS_MAX: usize = 20;

impl Member {
    pub(super) async fn apply(
        &self,
        caller: &str,
        request: v1::ApplyRequest,
    ) -> Result<v1::ApplyResponse, Status> {
        let state = self.state();
        let format = format(request.format)?;
        let confirm = request.confirm_ms.map(confirm_within).transpose()?;
        if !is_message(&request.message) {
            let text =
                format!("the message is no single line of {MESSAGE_BYTES_MAX} bytes at most");
            return Err(error(Kind::Invalid, text));
        }
        let (spec, mut warnings) = self.check(&state, &request.source, format)?;
        warnings.extend(state.overrides.warnings(&spec).into_iter().take(WARNINGS_MAX));
        let current = state.revision();
        if request.dry_run {
            let changed = state.spec != spec || state.configuration.is_none();
            let revision = current.0;
            let unconfirmed_until = unconfirmed_until(&state);
            return Ok(v1::ApplyResponse { revision, changed, warnings, unconfirmed_until });
        }
        let Ok(id) = <[u8; 16]>::try_from(request.request_id.as_slice()) else {
            return Err(error(Kind::Invalid, "request_id is not 16 bytes"));
        };
        let at = clock::wall();
        let command = Command::Configure(Configure {
            request: RequestId(u128::from_be_bytes(id)),
            author: caller.to_owned(),
            at,
            expected: request.expected_revision.map(Revision),
            source: request.source,
            format,
            message: request.message,
            confirm_until: confirm.map(|within| UnixMillis(at.0.saturating_add(within))),
        });
        match self.commit(command).await? {
            Reply::Configured { revision, changed } => {
                let state = self.state();
                let in_force = state.revision() == revision;
                let unconfirmed_until = unconfirmed_until(&state).filter(|_| in_force);
                info!(%revision, changed, caller, ?unconfirmed_until, "configuration applied");
                let revision = revision.0;
                Ok(v1::ApplyResponse { revision, changed, warnings, unconfirmed_until })
            }
            other => Err(unexpected(&other)),
        }
    }

    pub(super) async fn confirm(
        &self,
        caller: &str,
        request: v1::ConfirmRequest,
    ) -> Result<v1::ConfirmResponse, Status> {
        let order = Order { author: caller.to_owned(), at: clock::wall() };
        let command = Command::Confirm { revision: Revision(request.revision), order };
        let (revision, changed) = self.settle(command).await?;
        info!(revision, changed, caller, "configuration confirmed");
        Ok(v1::ConfirmResponse { revision, changed })
    }

    pub(super) async fn abort(
        &self,
        caller: &str,
        request: v1::AbortRequest,
    ) -> Result<v1::AbortResponse, Status> {
        let state = self.state();
        let (source, format) = state.before();
        // Every node has to read it: one that this node can't read would end them all.
        self.raft.read(&source, format).map_err(|problems| {
            let text = problems.render("configuration", &source);
            error(Kind::Refused, format!("the one before can't be read any more: {text}"))
        })?;
        let order = Order { author: caller.to_owned(), at: clock::wall() };
        let revision = Revision(request.revision);
        let (revision, changed) =
            self.settle(Command::RollBack { revision, until: None, order }).await?;
        info!(revision, changed, caller, "configuration rolled back");
        Ok(v1::AbortResponse { revision, changed })
    }

    /// The revision in force, and whether the command changed anything.
    async fn settle(&self, command: Command) -> Result<(u64, bool), Status> {
        match self.commit(command).await? {
            Reply::Configured { revision, changed } => Ok((revision.0, changed)),
            other => Err(unexpected(&other)),
        }
    }

    /// Checks a configuration against itself and against the nodes that this node knows.
    fn check(
        &self,
        state: &ClusterState,
        source: &str,
        format: Format,
    ) -> Result<(Arc<ClusterSpec>, Vec<String>), Status> {
        let invalid = |problems: &spec::Diagnostics| {
            let text = problems.render("configuration", source);
            detailed(Kind::Invalid, text, failure::violations(problems))
        };
        let spec = self.raft.read(source, format).map_err(|problems| invalid(&problems))?;
        let problems = spec::against_nodes(&spec, &state.known_nodes());
        if problems.has_errors() {
            return Err(invalid(&problems));
        }
        let warnings = problems.render("configuration", source);
        let warnings = if warnings.is_empty() { Vec::new() } else { vec![warnings] };
        Ok((spec, warnings))
    }
}

fn format(found: i32) -> Result<Format, Status> {
    match v1::Format::try_from(found) {
        Ok(v1::Format::Toml) => Ok(Format::Toml),
        Ok(v1::Format::Json) => Ok(Format::Json),
        Ok(v1::Format::Unspecified) | Err(_) => {
            Err(error(Kind::Invalid, "the format is neither TOML nor JSON"))
        }
    }
}

fn confirm_within(milliseconds: u64) -> Result<u64, Status> {
    if (CONFIRM_MIN..=CONFIRM_MAX).contains(&Duration::from_millis(milliseconds)) {
        return Ok(milliseconds);
    }
    Err(error(Kind::Invalid, "the time to confirm it in is 1 s to 24 h"))
}

fn unconfirmed_until(state: &ClusterState) -> Option<String> {
    state.unconfirmed.as_ref().map(|unconfirmed| rfc3339(unconfirmed.until))
}

/// The configuration of this revision; none asked for: the one in force.
pub(super) fn configuration(
    state: &ClusterState,
    revision: Option<u64>,
) -> Result<v1::GetConfigurationResponse, Status> {
    let found = match revision {
        None => state.configuration.as_ref(),
        Some(revision) => Some(state.configuration_of(Revision(revision)).ok_or_else(|| {
            let kept = revisions(state).map(|kept| kept.revision.to_string()).collect::<Vec<_>>();
            let kept = if kept.is_empty() { "none".to_owned() } else { kept.join(", ") };
            error(Kind::Refused, format!("revision {revision} is not kept; there are: {kept}"))
        })?),
    };
    let Some(configuration) = found else { return Ok(v1::GetConfigurationResponse::default()) };
    Ok(v1::GetConfigurationResponse {
        revision: configuration.revision.0,
        source: configuration.source.clone(),
        format: v1::Format::from(configuration.format).into(),
        author: configuration.author.clone(),
        applied_at: rfc3339(configuration.at),
        info: Some(info_of(state, configuration)),
    })
}

/// The revisions that are kept, the newest first.
pub(super) fn history(state: &ClusterState) -> v1::HistoryResponse {
    let revisions = revisions(state).map(|kept| info_of(state, kept)).collect();
    v1::HistoryResponse { revisions }
}

fn revisions(state: &ClusterState) -> impl Iterator<Item = &Configuration> {
    state.configuration.iter().chain(state.history.iter().rev().map(Arc::as_ref))
}

fn info_of(state: &ClusterState, kept: &Configuration) -> v1::RevisionInfo {
    use v1::RevisionState::{InForce, Replaced, RolledBack, Unconfirmed};
    let in_force = kept.revision == state.revision();
    let what = match (in_force, state.was_taken_back(kept.revision)) {
        (true, _) if state.unconfirmed.is_some() => Unconfirmed,
        (true, _) => InForce,
        (false, true) => RolledBack,
        (false, false) => Replaced,
    };
    v1::RevisionInfo {
        revision: kept.revision.0,
        applied_at: rfc3339(kept.at),
        author: kept.author.clone(),
        message: kept.message.clone(),
        state: what.into(),
        unconfirmed_until: unconfirmed_until(state).filter(|_| in_force),
        confirmed_by: kept.confirmed.as_ref().map(|order| order.author.clone()),
        takes_back: kept.takes_back.map(|revision| revision.0),
    }
}

#[cfg(test)]
mod tests {
    use quorate_model::command::{Digest, NodeDescription};
    use quorate_model::id::{LogIndex, NodeId, Role};
    use quorate_model::state::NodeRecord;

    use super::*;

    const WEB: &str = "group.web = { interface = \"x\", addresses = [\"192.0.2.80\"] }\n";

    /// Revision 1 is plain, 2 was rolled back by 3, and 4 waits to be confirmed.
    fn state() -> ClusterState {
        let mut state = ClusterState::default();
        let description = NodeDescription {
            name: "n1".parse().unwrap(),
            role: Role::Director,
            links: Vec::new(),
            public_key: Digest([0; 32]),
        };
        state.nodes.insert(NodeId(1), NodeRecord { description, leaving: false });
        let mut index = 0;
        let mut apply = |command: Command| {
            index += 1;
            let reply = state.apply(LogIndex(index), &command).unwrap();
            assert!(matches!(reply, Reply::Configured { changed: true, .. }), "{reply:?}");
        };
        let configure = |number: u8, confirm_until: Option<u64>| {
            Command::Configure(Configure {
                request: RequestId(number.into()),
                author: "ada".to_owned(),
                at: UnixMillis(1_000),
                expected: None,
                source: format!("{WEB}cluster.sync_warmup = \"{number}s\"\n"),
                format: Format::Toml,
                message: format!("number {number}"),
                confirm_until: confirm_until.map(UnixMillis),
            })
        };
        apply(configure(1, None));
        apply(configure(2, Some(9_000)));
        let order = Order { author: "the cluster".to_owned(), at: UnixMillis(9_000) };
        let until = Some(UnixMillis(9_000));
        apply(Command::RollBack { revision: Revision(2), until, order });
        apply(configure(4, Some(99_000)));
        state
    }

    #[test]
    fn the_history_names_the_newest_first_and_what_became_of_each() {
        let told: Vec<_> = history(&state())
            .revisions
            .into_iter()
            .map(|kept| (kept.revision, kept.state(), kept.message.clone(), kept.takes_back))
            .collect();
        let back = "rollback of revision 2, which nobody confirmed".to_owned();
        use v1::RevisionState::{Replaced, RolledBack, Unconfirmed};
        assert_eq!(
            told,
            [
                (4, Unconfirmed, "number 4".to_owned(), None),
                (3, Replaced, back, Some(2)),
                (2, RolledBack, "number 2".to_owned(), None),
                (1, Replaced, "number 1".to_owned(), None),
            ]
        );
    }

    #[test]
    fn an_old_revision_is_shown_with_its_text_and_one_that_is_not_kept_is_refused() {
        let state = state();
        let source = |revision| configuration(&state, revision).unwrap().source;
        assert!(source(Some(2)).ends_with("\"2s\"\n"));
        assert!(source(None).ends_with("\"4s\"\n"));
        let refused = configuration(&state, Some(9)).unwrap_err();
        assert_eq!(refused.message(), "revision 9 is not kept; there are: 4, 3, 2, 1");
        let empty = configuration(&ClusterState::default(), None).unwrap();
        assert_eq!(empty, v1::GetConfigurationResponse::default());
    }

    #[test]
    fn the_time_to_confirm_in_is_bounded() {
        for (milliseconds, right) in
            [(0, false), (999, false), (1_000, true), (86_400_000, true), (86_400_001, false)]
        {
            assert_eq!(confirm_within(milliseconds).is_ok(), right, "{milliseconds}");
        }
    }
}
