//! `quorate doctor`: looks at this machine, and says what is wrong and what mends it.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::path::Path;

use quorate_dataplane::fence::Fence;
use serde::Serialize;

use super::configuration::{Candidate, InForce};
use super::{Ended, Scene};
use crate::cli::{Doctor, Format};
use crate::doctor::facts::Wanted;
use crate::doctor::read::Machine;
use crate::doctor::{Finding, Level, examine, worst};
use crate::exit::{Exit, Failure};
use crate::output::table;

#[derive(Serialize)]
struct Examined<'a> {
    findings: &'a [Finding],
    warnings: usize,
    failures: usize,
}

pub(super) async fn run(scene: &Scene<'_>, arguments: &Doctor) -> Ended {
    let nagios = scene.global.format == Format::Nagios;
    let findings = match findings(scene, arguments).await {
        Ok(findings) => findings,
        Err(failure) if nagios => {
            scene.output.line(&format!("QUORATE UNKNOWN: {}", failure.what))?;
            return Ok(Exit::Degraded);
        }
        Err(failure) => return Err(failure),
    };
    let count = |level| findings.iter().filter(|finding| finding.level == level).count();
    let (warnings, failures) = (count(Level::Warn), count(Level::Fail));
    if nagios {
        scene.output.line(&one_line(&findings, warnings, failures))?;
        // The monitoring system's own codes: 0 ok, 1 warning, 2 critical.
        return Ok(match worst(&findings) {
            Level::Ok => Exit::Ok,
            Level::Warn => Exit::Failed,
            Level::Fail => Exit::Usage,
        });
    }
    let examined = Examined { findings: &findings, warnings, failures };
    scene.output.data(&examined, |style| table::examined(&findings, style))?;
    Ok(match worst(&findings) {
        Level::Ok => Exit::Ok,
        Level::Warn => Exit::Degraded,
        Level::Fail => Exit::Failed,
    })
}

/// Looks, and judges.
pub(super) async fn findings(
    scene: &Scene<'_>,
    arguments: &Doctor,
) -> Result<Vec<Finding>, Failure> {
    let mut wanted = wanted_of_node(&arguments.node);
    wanted.pre = arguments.pre;
    match (&arguments.cluster, arguments.pre) {
        (Some(file), _) => {
            wanted.take(&Candidate::read(&file.to_string_lossy())?.spec);
        }
        (None, true) => {
            wanted.cluster_unread = Some("no configuration was given".to_owned());
        }
        (None, false) => match of_cluster(scene).await {
            Ok(in_force) => match &in_force.spec {
                Some(spec) => wanted.take(spec),
                None => {
                    let why = "the one in force can't be read by this version of quorate";
                    wanted.cluster_unread = Some(why.to_owned());
                }
            },
            Err(failure) => wanted.cluster_unread = Some(failure.what),
        },
    }
    let looked = tokio::task::spawn_blocking(move || {
        let machine = Machine::at(Path::new("/"));
        let mut facts = machine.look(wanted);
        if facts.root {
            facts.synced = Some(machine.sync(&facts.wanted.data_dir));
            facts.fence = (!facts.wanted.witness).then(try_fence);
        }
        examine(&facts)
    });
    looked.await.map_err(|error| Failure::new(Exit::Failed, format!("cannot look: {error}")))
}

async fn of_cluster(scene: &Scene<'_>) -> Result<InForce, Failure> {
    InForce::read(&scene.cluster()?).await
}

/// Loads the fence's program, puts it nowhere, and lets it go.
fn try_fence() -> Result<(), String> {
    Fence::arm(&[], &[]).map(drop).map_err(|error| error.to_string())
}

/// What node.toml says of this machine; the daemon checks the file as a whole.
fn wanted_of_node(file: &Path) -> Wanted {
    let default = Wanted {
        sysctls_are_set: true,
        data_dir: "/var/lib/quorate".to_owned(),
        ..Wanted::default()
    };
    let read = std::fs::read_to_string(file).map_err(|error| error.to_string());
    let read = read.and_then(|text| {
        toml::from_str::<toml::Table>(&text).map_err(|error| error.message().to_owned())
    });
    let table = match read {
        Ok(table) => table,
        Err(error) => {
            let node_unread = Some(format!("cannot read {}: {error}", file.display()));
            return Wanted { node_unread, ..default };
        }
    };
    let text = |key: &str| table.get(key).and_then(toml::Value::as_str);
    let devices = table.get("interfaces").and_then(toml::Value::as_table).into_iter().flatten();
    let links = table.get("link").and_then(toml::Value::as_array).into_iter().flatten();
    let ports = links.filter_map(|link| {
        let listen: SocketAddr = link.get("listen")?.as_str()?.parse().ok()?;
        Some(listen.port())
    });
    Wanted {
        witness: text("role") == Some("witness"),
        sysctls_are_set: text("sysctl") != Some("check"),
        data_dir: text("data_dir").unwrap_or(&default.data_dir).to_owned(),
        devices: devices
            .filter_map(|(_, device)| device.as_str().map(str::to_owned))
            .collect::<BTreeSet<_>>(),
        ports: ports.collect(),
        ..default
    }
}

fn one_line(findings: &[Finding], warnings: usize, failures: usize) -> String {
    let (word, level) = match worst(findings) {
        Level::Ok => return format!("QUORATE OK: {} findings, nothing to mend", findings.len()),
        Level::Warn => ("WARNING", Level::Warn),
        Level::Fail => ("CRITICAL", Level::Fail),
    };
    let first = findings.iter().find(|finding| finding.level == level);
    let first = first.map(|finding| format!("; {} {}", finding.on, finding.what));
    // A bar begins performance data.
    format!("QUORATE {word}: {failures} failures, {warnings} warnings{}", first.unwrap_or_default())
        .replace('|', "/")
}
