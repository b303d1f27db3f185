//! `quorate diff`: what `apply` would change. The cluster checks it too, and changes nothing.

use serde::Serialize;

use super::change::{Changes, Entry};
use super::configuration::both;
use super::{Ended, Scene};
use crate::cli::Diff;
use crate::client::{Admin, Kind};
use crate::exit::Exit;

#[derive(Serialize)]
struct Difference<'a> {
    revision: u64,
    differs: bool,
    changes: Vec<Entry>,
    warnings: &'a [String],
}

pub(super) async fn run(scene: &Scene<'_>, arguments: Diff) -> Ended {
    let (candidate, client, in_force) = both(scene, &arguments.file).await?;
    let changes = Changes::between(&in_force, &candidate);
    let request = candidate.request(true);
    let call = |mut admin: Admin| {
        let request = request.clone();
        async move { admin.apply(request).await }
    };
    let answer = client.call(Kind::Read, "check the configuration", call).await?.body;
    for warning in &answer.warnings {
        scene.output.message(&format!("warning: {warning}"));
    }
    let differs = !changes.none();
    let difference = Difference {
        revision: in_force.revision,
        differs,
        changes: changes.entries(),
        warnings: &answer.warnings,
    };
    scene.output.data(&difference, |_| {
        if !differs {
            return format!("No differences: revision {} says the same.", in_force.revision);
        }
        let summary = changes.summary();
        let summary = if summary.is_empty() { String::new() } else { format!("{summary}. ") };
        format!(
            "Base: revision {}\n{}{summary}To apply exactly this:\n  quorate apply {} \
             --expect-revision {}\n",
            in_force.revision,
            changes.text(),
            arguments.file,
            in_force.revision
        )
    })?;
    Ok(if differs && arguments.detailed_exitcode { Exit::Differs } else { Exit::Ok })
}
