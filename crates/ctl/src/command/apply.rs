//! `quorate apply`: check here, show what changes, ask where something is taken away, then have
//! the cluster take it as a whole.

use quorate_api::v1::ApplyResponse;
use ring::rand::{SecureRandom as _, SystemRandom};
use serde::Serialize;

use super::change::{Changes, Entry};
use super::configuration::{Candidate, InForce, both};
use super::confirm::confirm;
use super::{Ended, Scene};
use crate::cli::Apply;
use crate::client::{Admin, Client, Kind};
use crate::exit::{Exit, Failure};

#[derive(Serialize)]
struct Applied<'a> {
    revision: u64,
    changed: bool,
    dry_run: bool,
    changes: Vec<Entry>,
    warnings: &'a [String],
}

pub(super) async fn run(scene: &Scene<'_>, arguments: Apply) -> Ended {
    let (candidate, client, in_force) = both(scene, &arguments.file).await?;
    let changes = Changes::between(&in_force, &candidate);
    if !changes.none() {
        scene.output.remark(&format!("Revision {} is in force.", in_force.revision));
        scene.output.remark(changes.text().trim_end());
    }
    let impact = if arguments.dry_run { Vec::new() } else { changes.impact() };
    confirm(scene.output, arguments.yes, &impact, "Apply this?")?;

    // Whoever did not say --yes agreed to what was shown, and to nothing that came between.
    let shown = (!arguments.yes && !arguments.dry_run).then_some(in_force.revision);
    let expected = arguments.expect_revision.or(shown);
    send(
        scene,
        &client,
        &Wanted { candidate: &candidate, changes, expected, dry_run: arguments.dry_run },
    )
    .await
}

/// Has the cluster take a configuration that was agreed to.
pub(super) async fn apply(
    scene: &Scene<'_>,
    client: &Client,
    candidate: &Candidate,
    in_force: &InForce,
    expected: Option<u64>,
) -> Ended {
    let changes = Changes::between(in_force, candidate);
    send(scene, client, &Wanted { candidate, changes, expected, dry_run: false }).await
}

struct Wanted<'a> {
    candidate: &'a Candidate,
    changes: Changes,
    expected: Option<u64>,
    dry_run: bool,
}

async fn send(scene: &Scene<'_>, client: &Client, wanted: &Wanted<'_>) -> Ended {
    let mut request = wanted.candidate.request(wanted.dry_run);
    request.expected_revision = wanted.expected;
    // Made once: a repetition of this request is recognised by it, and applied once.
    request.request_id = request_id()?;
    let call = |mut admin: Admin| {
        let request = request.clone();
        async move { admin.apply(request).await }
    };
    let what = if wanted.dry_run { "check the configuration" } else { "apply the configuration" };
    let answer = client.call(Kind::Repeatable, what, call).await?.body;
    for warning in &answer.warnings {
        scene.output.message(&format!("warning: {warning}"));
    }
    let applied = Applied {
        revision: answer.revision,
        changed: answer.changed,
        dry_run: wanted.dry_run,
        changes: wanted.changes.entries(),
        warnings: &answer.warnings,
    };
    scene.output.data(&applied, |_| told(&answer, wanted.dry_run))?;
    Ok(Exit::Ok)
}

fn told(answer: &ApplyResponse, dry_run: bool) -> String {
    match (dry_run, answer.changed) {
        (true, true) => "The cluster would take this; nothing was changed.".to_owned(),
        (_, true) => format!("Revision {} is in force.", answer.revision),
        (_, false) => {
            format!("Nothing changes: revision {} says the same already.", answer.revision)
        }
    }
}

fn request_id() -> Result<Vec<u8>, Failure> {
    let mut id = vec![0; 16];
    SystemRandom::new()
        .fill(&mut id)
        .map_err(|_| Failure::new(Exit::Failed, "the system gives no random numbers"))?;
    Ok(id)
}
