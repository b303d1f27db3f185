//! `quorate export keepalived`: the configuration in force, or one in a file, as a director's keepalived.conf.

use quorate_model::spec;
use serde::Serialize;

use super::configuration::{InForce, format_of, read_text};
use super::convert::unreadable;
use super::{Ended, Scene};
use crate::cli::ExportKeepalived;
use crate::exit::{Exit, Failure};
use crate::keepalived_export::{Options, export};

#[derive(Serialize)]
struct Exported<'a> {
    /// Absent where it is of a file.
    revision: Option<u64>,
    text: &'a str,
    warnings: &'a [String],
}

pub(super) async fn run(scene: &Scene<'_>, arguments: &ExportKeepalived) -> Ended {
    let (revision, spec) = match &arguments.file {
        Some(file) => (None, of_file(file)?),
        None => {
            let in_force = InForce::read(&scene.cluster()?).await?;
            (Some(in_force.revision), in_force.spec.ok_or_else(unreadable)?)
        }
    };
    let options = Options {
        node: arguments.node.clone(),
        router_ids: arguments.router_id.iter().cloned().collect(),
        devices: arguments.device.iter().cloned().collect(),
        script_user: arguments.script_user.clone(),
    };
    let exported = export(&spec, &options).map_err(Failure::usage)?;
    for warning in &exported.warnings {
        scene.output.remark(&format!("warning: {warning}"));
    }
    let count = exported.warnings.len();
    scene.output.remark(&format!("{count} warnings. Next, on the director: keepalived -t -f FILE"));
    let data = Exported { revision, text: &exported.text, warnings: &exported.warnings };
    scene.output.data(&data, |_| exported.text.clone())?;
    Ok(Exit::Ok)
}

fn of_file(file: &str) -> Result<spec::ClusterSpec, Failure> {
    let source = read_text(file)?;
    let shown = if file == "-" { "<stdin>" } else { file };
    spec::parse(&source, format_of(file, &source)).map_err(|wrong| {
        let report = wrong.render(shown, &source);
        Failure::new(
            Exit::Failed,
            format!("{shown} is no right configuration\n{}", report.trim_end()),
        )
    })
}
