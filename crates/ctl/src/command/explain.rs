//! `quorate explain`: asks, and shows the chain of facts that `crate::explain` finds.

use serde::Serialize;

use super::configuration::InForce;
use super::{Ended, Scene, read_member_status};
use crate::cli::Explain;
use crate::exit::{Exit, Failure};
use crate::explain::{Explanation, explain, known};
use crate::output::table;

/// Names in a hint.
const NAMES_SHOWN: usize = 20;

#[derive(Serialize)]
struct Explained {
    explanations: Vec<Explanation>,
    answered_by: String,
}

pub(super) async fn run(scene: &Scene<'_>, arguments: &Explain) -> Ended {
    let client = scene.cluster()?;
    let status = read_member_status(&client).await?;
    // Without it some facts are missing, and the others are as true.
    let spec = match InForce::read(&client).await {
        Ok(in_force) => in_force.spec,
        Err(failure) => {
            scene.output.message(&format!("warning: {}", failure.what));
            None
        }
    };
    let explanations = explain(&status, spec.as_ref(), &arguments.what);
    if explanations.is_empty() {
        let what = format!(
            "nothing is called {:?}: neither a group, a service, a VIP nor a real server",
            arguments.what
        );
        let names = known(&status);
        let failure = Failure::new(Exit::Failed, what);
        return Err(if names.is_empty() {
            failure.hint("the configuration in force has nothing: quorate apply FILE")
        } else {
            let shown = names.iter().take(NAMES_SHOWN).cloned().collect::<Vec<_>>().join(", ");
            let more = if names.len() > NAMES_SHOWN { ", ..." } else { "" };
            failure.hint(format!("there is: {shown}{more}"))
        });
    }
    let explained = Explained { explanations, answered_by: status.answered_by };
    scene.output.data(&explained, |style| table::explained(&explained.explanations, style))?;
    Ok(Exit::Ok)
}
