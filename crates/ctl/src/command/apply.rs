//! `quorate apply`: check here, show what changes, ask where something is taken away, then have
//! the cluster take it as a whole.

use std::time::Duration;

use quorate_api::v1::ApplyResponse;
use ring::rand::{SecureRandom as _, SystemRandom};
use serde::Serialize;

use super::change::{Changes, Entry};
use super::configuration::{Candidate, InForce, both};
use super::confirm::confirm;
use super::converge::converged;
use super::{Ended, Scene, only};
use crate::cli::{Apply, How};
use crate::client::{Admin, Client, Kind};
use crate::exit::{Exit, Failure};

#[derive(Serialize)]
struct Applied<'a> {
    revision: u64,
    changed: bool,
    dry_run: bool,
    unconfirmed_until: Option<&'a str>,
    changes: Vec<Entry>,
    warnings: &'a [String],
}

pub(super) async fn run(scene: &Scene<'_>, arguments: Apply) -> Ended {
    if !arguments.only.is_empty() {
        return apply_only(scene, arguments).await;
    }
    let (candidate, client, in_force) = both(scene, &arguments.file).await?;
    let Apply { how, expect_revision, dry_run, .. } = arguments;
    have(scene, &client, &in_force, Wanted { candidate, expected: expect_revision, dry_run, how })
        .await
}

/// Takes some of the file alone; all else is as in the revision that it is put into, and in no other.
async fn apply_only(scene: &Scene<'_>, arguments: Apply) -> Ended {
    let client = scene.cluster()?;
    let in_force = InForce::read(&client).await?;
    let base = in_force.revision;
    if let Some(expected) = arguments.expect_revision.filter(|expected| *expected != base) {
        let what = format!("revision {base} is in force, not {expected}");
        return Err(Failure::new(Exit::Conflict, what)
            .hint("see what changed with `quorate config history`, then apply again"));
    }
    let candidate = only::candidate(&arguments.file, &arguments.only, &in_force)?;
    let Apply { how, dry_run, .. } = arguments;
    let wanted = Wanted { candidate, expected: Some(base), dry_run, how };
    have(scene, &client, &in_force, wanted).await
}

/// Has the cluster take a configuration that was agreed to.
pub(super) async fn apply(
    scene: &Scene<'_>,
    client: &Client,
    candidate: Candidate,
    in_force: &InForce,
) -> Ended {
    let how = How { yes: true, confirm: None, message: String::new(), no_wait: true };
    let expected = Some(in_force.revision);
    let wanted = Wanted { candidate, expected, dry_run: false, how };
    send(scene, client, &wanted, &Changes::between(in_force, &wanted.candidate)).await
}

/// What is to be in force.
pub(super) struct Wanted {
    pub(super) candidate: Candidate,
    /// The revision that it may replace, if only one.
    pub(super) expected: Option<u64>,
    pub(super) dry_run: bool,
    pub(super) how: How,
}

/// Shows what changes, asks about it, and has the cluster take it.
pub(super) async fn have(
    scene: &Scene<'_>,
    client: &Client,
    in_force: &InForce,
    mut wanted: Wanted,
) -> Ended {
    let changes = Changes::between(in_force, &wanted.candidate);
    if !changes.none() {
        scene.output.remark(&format!("Revision {} is in force.", in_force.revision));
        scene.output.remark(changes.text().trim_end());
    }
    let impact = if wanted.dry_run { Vec::new() } else { changes.impact() };
    confirm(scene.output, wanted.how.yes, &impact, "Apply this?")?;

    // Whoever did not say --yes agreed to what was shown, and to nothing that came between.
    let shown = (!wanted.how.yes && !wanted.dry_run).then_some(in_force.revision);
    wanted.expected = wanted.expected.or(shown);
    send(scene, client, &wanted, &changes).await
}

async fn send(scene: &Scene<'_>, client: &Client, wanted: &Wanted, changes: &Changes) -> Ended {
    let mut request = wanted.candidate.request(wanted.dry_run);
    request.expected_revision = wanted.expected;
    // Made once: a repetition of this request is recognised by it, and applied once.
    request.request_id = request_id()?;
    request.message.clone_from(&wanted.how.message);
    let milliseconds = |within: Duration| u64::try_from(within.as_millis()).unwrap_or(u64::MAX);
    request.confirm_ms = wanted.how.confirm.map(milliseconds);
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
        unconfirmed_until: answer.unconfirmed_until.as_deref(),
        changes: changes.entries(),
        warnings: &answer.warnings,
    };
    scene.output.data(&applied, |_| told(&answer, wanted.dry_run))?;
    if wanted.dry_run {
        return Ok(Exit::Ok);
    }
    if wanted.how.confirm.is_some() && answer.changed && answer.unconfirmed_until.is_none() {
        // A repeated request whose first answer was lost: it was settled meanwhile.
        let what =
            format!("revision {} was taken, and waits to be confirmed no more", answer.revision);
        return Err(Failure::new(Exit::Conflict, what)
            .hint("it was confirmed, or the cluster went back: quorate config history"));
    }
    remark(scene, &answer, &wanted.how);
    if wanted.how.no_wait || !answer.changed {
        return Ok(Exit::Ok);
    }
    converged(scene, client, answer.revision).await
}

fn told(answer: &ApplyResponse, dry_run: bool) -> String {
    let revision = answer.revision;
    match (dry_run, answer.changed, &answer.unconfirmed_until) {
        (true, true, _) => "The cluster would take this; nothing was changed.".to_owned(),
        (false, true, Some(until)) => format!(
            "Revision {revision} is in force, unconfirmed: the cluster goes back to the one before at \
             {until}, unless: quorate confirm"
        ),
        (_, true, _) => format!("Revision {revision} is in force."),
        (false, false, Some(until)) => format!(
            "Nothing changes: revision {revision} says the same already. It is unconfirmed, and has until \
             {until} now: quorate confirm"
        ),
        (_, false, _) => format!("Nothing changes: revision {revision} says the same already."),
    }
}

/// What the answer does not say, and whoever applies should know.
fn remark(scene: &Scene<'_>, answer: &ApplyResponse, how: &How) {
    if answer.unconfirmed_until.is_some() {
        scene.output.remark(
            "Without a majority of the nodes nothing goes back. `quorate abort` goes back at once.",
        );
    } else if how.confirm.is_some() && !answer.changed {
        scene.output.remark("There is nothing to confirm.");
    }
    if !how.message.is_empty() && !answer.changed {
        scene.output.remark("The message is not kept: no revision was made.");
    }
}

fn request_id() -> Result<Vec<u8>, Failure> {
    let mut id = vec![0; 16];
    SystemRandom::new()
        .fill(&mut id)
        .map_err(|_| Failure::new(Exit::Failed, "the system gives no random numbers"))?;
    Ok(id)
}
