//! `quorate confirm`, `abort` and `config`: what becomes of a configuration that was applied, and those
//! before it.

use quorate_api::v1::{
    AbortRequest, ConfirmRequest, HistoryRequest, HistoryResponse, RevisionInfo, RevisionState,
};
use serde::Serialize;

use super::apply::{Wanted, have};
use super::change::Changes;
use super::configuration::{Candidate, InForce};
use super::confirm::confirm as agree;
use super::{Ended, Scene};
use crate::cli::{Abort, Config, ConfigRollback, Confirm};
use crate::client::{Admin, Client, Kind};
use crate::exit::{Exit, Failure};
use crate::output::table;

#[derive(Serialize)]
struct Settled {
    revision: u64,
    changed: bool,
}

#[derive(Serialize)]
struct Revision<'a> {
    revision: u64,
    applied_at: &'a str,
    author: &'a str,
    message: Option<&'a str>,
    state: &'static str,
    unconfirmed_until: Option<&'a str>,
    confirmed_by: Option<&'a str>,
    takes_back: Option<u64>,
}

#[derive(Serialize)]
struct History<'a> {
    revisions: Vec<Revision<'a>>,
}

#[derive(Serialize)]
struct Shown<'a> {
    #[serde(flatten)]
    of: Revision<'a>,
    text: &'a str,
}

impl<'a> From<&'a RevisionInfo> for Revision<'a> {
    fn from(info: &'a RevisionInfo) -> Self {
        Self {
            revision: info.revision,
            applied_at: &info.applied_at,
            author: &info.author,
            message: Some(info.message.as_str()).filter(|message| !message.is_empty()),
            state: word(info.state()),
            unconfirmed_until: info.unconfirmed_until.as_deref(),
            confirmed_by: info.confirmed_by.as_deref(),
            takes_back: info.takes_back,
        }
    }
}

fn word(state: RevisionState) -> &'static str {
    match state {
        RevisionState::InForce => "in_force",
        RevisionState::Unconfirmed => "unconfirmed",
        RevisionState::Replaced => "replaced",
        RevisionState::RolledBack => "rolled_back",
        RevisionState::Unspecified => "unknown",
    }
}

pub(super) async fn confirm(scene: &Scene<'_>, arguments: &Confirm) -> Ended {
    let client = scene.cluster()?;
    let revision = match arguments.revision {
        Some(revision) => revision,
        None => unconfirmed(&InForce::read(&client).await?)?,
    };
    let call = |mut admin: Admin| async move { admin.confirm(ConfirmRequest { revision }).await };
    // The same revision confirmed twice is confirmed.
    let what = format!("confirm revision {revision}");
    let answer = client.call(Kind::Repeatable, &what, call).await?.body;
    let settled = Settled { revision: answer.revision, changed: answer.changed };
    scene.output.data(&settled, |_| {
        if answer.changed {
            format!("Confirmed: revision {revision} stays in force.")
        } else {
            format!("Revision {revision} is in force, and did not wait to be confirmed.")
        }
    })?;
    Ok(Exit::Ok)
}

pub(super) async fn abort(scene: &Scene<'_>, arguments: &Abort) -> Ended {
    let client = scene.cluster()?;
    let revision = match (arguments.revision, arguments.yes) {
        (Some(revision), true) => revision,
        (revision, yes) => {
            let in_force = InForce::read(&client).await?;
            let found = unconfirmed(&in_force)?;
            if revision.is_none_or(|revision| revision == found) {
                agree_to_go_back(scene, &client, &in_force, yes).await?;
            }
            revision.unwrap_or(found)
        }
    };
    let call = |mut admin: Admin| async move { admin.abort(AbortRequest { revision }).await };
    // What was rolled back once is not rolled back again.
    let what = format!("roll revision {revision} back");
    let answer = client.call(Kind::Repeatable, &what, call).await?.body;
    let settled = Settled { revision: answer.revision, changed: answer.changed };
    scene.output.data(&settled, |_| {
        let now = answer.revision;
        if answer.changed {
            format!(
                "Revision {revision} is rolled back: the one before is in force as revision {now}."
            )
        } else {
            format!("Revision {revision} was rolled back already; revision {now} is in force.")
        }
    })?;
    Ok(Exit::Ok)
}

/// Shows what an abort changes, and asks where that takes something away.
async fn agree_to_go_back(
    scene: &Scene<'_>,
    client: &Client,
    in_force: &InForce,
    yes: bool,
) -> Result<(), Failure> {
    let history = read_history(client).await?;
    let mut before = history.revisions.iter().skip_while(|kept| kept.revision >= in_force.revision);
    let changes = match before.next() {
        Some(before) => {
            let before = InForce::of(client, Some(before.revision)).await?;
            let Some(spec) = before.spec else {
                return agree(
                    scene.output,
                    yes,
                    &["goes back to an unreadable text".into()],
                    "Abort?",
                );
            };
            let (source, format) = (before.source, before.format);
            Changes::between(in_force, &Candidate { source, format, spec })
        }
        None => {
            let empty = Candidate::of(String::new(), quorate_model::spec::Format::Toml)?;
            Changes::between(in_force, &empty)
        }
    };
    scene.output.remark(&format!("Revision {} is in force, unconfirmed.", in_force.revision));
    scene.output.remark(changes.text().trim_end());
    agree(scene.output, yes, &changes.impact(), "Go back?")
}

/// The revision that waits to be confirmed.
fn unconfirmed(in_force: &InForce) -> Result<u64, Failure> {
    let revision = in_force.revision;
    if in_force.info.state() == RevisionState::Unconfirmed {
        return Ok(revision);
    }
    Err(match in_force.info.takes_back {
        Some(taken) => Failure::new(
            Exit::Conflict,
            format!("revision {taken} was rolled back: revision {revision} is in force"),
        )
        .hint("see `quorate config history`, then apply again"),
        None => {
            let what = format!("nothing waits to be confirmed: revision {revision} is in force");
            Failure::new(Exit::Failed, what).hint("see `quorate config history`")
        }
    })
}

pub(super) async fn run(scene: &Scene<'_>, action: &Config) -> Ended {
    let client = scene.cluster()?;
    match action {
        Config::Get(arguments) => get(scene, &InForce::of(&client, arguments.revision).await?),
        Config::Show(arguments) => {
            let shown = InForce::of(&client, Some(arguments.revision)).await?;
            let of = Revision::from(&shown.info);
            let said = of.message.map_or_else(String::new, |message| format!(": {message}"));
            scene.output.remark(&format!(
                "Revision {}, applied by {} at {}, {}{said}",
                of.revision,
                of.author,
                of.applied_at,
                of.state.replace('_', " ")
            ));
            get(scene, &shown)
        }
        Config::History => {
            let history = read_history(&client).await?;
            let revisions = history.revisions.iter().map(Revision::from).collect();
            scene.output.data(&History { revisions }, |_| rows(&history))?;
            Ok(Exit::Ok)
        }
        Config::Rollback(arguments) => rollback(scene, &client, arguments).await,
    }
}

fn get(scene: &Scene<'_>, shown: &InForce) -> Ended {
    let info = RevisionInfo { revision: shown.revision, ..shown.info.clone() };
    let of = Revision::from(&info);
    scene.output.data(&Shown { of, text: &shown.source }, |_| shown.source.clone())?;
    Ok(Exit::Ok)
}

/// Applies an earlier text again, with all that belongs to `apply`.
async fn rollback(scene: &Scene<'_>, client: &Client, arguments: &ConfigRollback) -> Ended {
    let earlier = InForce::of(client, Some(arguments.revision)).await?;
    let in_force = InForce::read(client).await?;
    let candidate = Candidate::of(earlier.source, earlier.format)?;
    let mut how = arguments.how.clone();
    if how.message.is_empty() {
        how.message = format!("rollback to revision {}", arguments.revision);
    }
    have(scene, client, &in_force, Wanted { candidate, expected: None, dry_run: false, how }).await
}

async fn read_history(client: &Client) -> Result<HistoryResponse, Failure> {
    let call = |mut admin: Admin| async move { admin.history(HistoryRequest {}).await };
    Ok(client.call(Kind::Read, "read the history of the configuration", call).await?.body)
}

fn rows(history: &HistoryResponse) -> String {
    if history.revisions.is_empty() {
        return "No configuration was ever applied.".to_owned();
    }
    let row = |info: &RevisionInfo| {
        let of = Revision::from(info);
        vec![
            of.revision.to_string(),
            of.applied_at.to_owned(),
            of.author.to_owned(),
            of.state.replace('_', " "),
            of.message.unwrap_or("-").to_owned(),
        ]
    };
    let rows: Vec<_> = history.revisions.iter().map(row).collect();
    table::plain(&["REVISION", "APPLIED", "AUTHOR", "STATE", "MESSAGE"], &rows)
}
