//! The configuration of a cluster in memory, with the revisions before it.

use quorate_api::v1::*;
use quorate_model::spec;
use tonic::Status;

use super::{State, error};

/// When what waits to be confirmed goes back.
pub(crate) const UNTIL: &str = "2026-01-02T03:09:05Z";

fn read(source: &str) -> Result<spec::ClusterSpec, Status> {
    let format = if source.starts_with('{') { spec::Format::Json } else { spec::Format::Toml };
    spec::parse(source, format).map_err(|_| error("invalid", "it can't be read"))
}

impl State {
    pub(super) fn apply(&mut self, request: ApplyRequest) -> Result<ApplyResponse, Status> {
        self.applies += 1;
        if let Some(answer) = self.seen.get(&request.request_id).filter(|_| !request.dry_run) {
            return Ok(answer.clone());
        }
        if request.expected_revision.is_some_and(|expected| expected != self.revision) {
            return Err(error("conflict", &format!("revision {} is in force", self.revision)));
        }
        let changed = read(&request.source)? != read(&self.source)?;
        if self.waits() && !request.dry_run && (changed || request.confirm_ms.is_none()) {
            let text = format!("revision {} is not confirmed yet", self.revision);
            return Err(error("unconfirmed", &text));
        }
        if changed && !request.dry_run {
            self.take(request.source);
            self.info.message = request.message;
            if request.confirm_ms.is_some() {
                self.info.unconfirmed_until = Some(UNTIL.to_owned());
            }
        }
        self.confirm_asked = request.confirm_ms;
        let answer = ApplyResponse {
            revision: self.revision,
            changed,
            warnings: Vec::new(),
            unconfirmed_until: self.info.unconfirmed_until.clone(),
        };
        if !request.dry_run {
            assert_eq!(request.request_id.len(), 16, "a request id has 16 bytes");
            self.seen.insert(request.request_id, answer.clone());
        }
        Ok(answer)
    }

    fn waits(&self) -> bool {
        self.info.unconfirmed_until.is_some()
    }

    fn take(&mut self, source: String) {
        let mut former = self.shown();
        former.set_state(RevisionState::Replaced);
        self.before.push((former, std::mem::replace(&mut self.source, source)));
        self.revision += 1;
        self.info = RevisionInfo {
            author: "client ada".to_owned(),
            applied_at: "2026-01-02T03:04:05Z".to_owned(),
            ..RevisionInfo::default()
        };
    }

    /// What is in force.
    fn shown(&self) -> RevisionInfo {
        let state = if self.waits() { RevisionState::Unconfirmed } else { RevisionState::InForce };
        RevisionInfo { revision: self.revision, state: state.into(), ..self.info.clone() }
    }

    fn settle(&self, revision: u64) -> Result<(), Status> {
        if revision == self.revision && self.waits() {
            return Ok(());
        }
        Err(error("settled", &format!("revision {revision} does not wait to be confirmed")))
    }

    pub(super) fn confirm(&mut self, revision: u64) -> Result<ConfirmResponse, Status> {
        if revision == self.revision && !self.waits() {
            return Ok(ConfirmResponse { revision, changed: false });
        }
        self.settle(revision)?;
        self.info.unconfirmed_until = None;
        Ok(ConfirmResponse { revision, changed: true })
    }

    pub(crate) fn abort(&mut self, revision: u64) -> Result<AbortResponse, Status> {
        if self.info.takes_back == Some(revision) {
            return Ok(AbortResponse { revision: self.revision, changed: false });
        }
        self.settle(revision)?;
        let source = self.before.last().map(|(_, source)| source.clone()).unwrap_or_default();
        self.take(source);
        self.info.takes_back = Some(revision);
        if let Some((former, _)) = self.before.last_mut() {
            former.set_state(RevisionState::RolledBack);
            former.unconfirmed_until = None;
        }
        Ok(AbortResponse { revision: self.revision, changed: true })
    }

    pub(super) fn history(&self) -> HistoryResponse {
        let before = self.before.iter().rev().map(|(info, _)| info.clone());
        let all = std::iter::once(self.shown()).chain(before);
        HistoryResponse { revisions: all.filter(|info| info.revision > 0).collect() }
    }

    pub(super) fn configuration(
        &self,
        revision: Option<u64>,
    ) -> Result<GetConfigurationResponse, Status> {
        let in_force = (self.shown(), self.source.clone());
        let all = self.before.iter().cloned().chain([in_force]);
        let wanted = revision.unwrap_or(self.revision);
        let found = all.into_iter().find(|(info, _)| info.revision == wanted);
        let (info, source) =
            found.ok_or_else(|| error("refused", &format!("revision {wanted} is not kept")))?;
        let format = if source.starts_with('{') { Format::Json } else { Format::Toml };
        Ok(GetConfigurationResponse {
            revision: info.revision,
            source,
            format: format.into(),
            author: info.author.clone(),
            applied_at: info.applied_at.clone(),
            info: Some(info),
        })
    }
}
