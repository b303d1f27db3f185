//! `quorate import keepalived`: files in, a configuration out; no node is asked.

use std::collections::BTreeMap;
use std::io::Write as _;
use std::path::Path;

use serde::Serialize;

use super::{Ended, Scene};
use crate::cli::ImportKeepalived;
use crate::exit::{Exit, Failure};
use crate::keepalived::report::{Report, Severity};
use crate::keepalived::source::Disk;
use crate::keepalived::{Options, import as import_files};

#[derive(Serialize)]
struct Converted<'a> {
    source: &'a str,
    groups: usize,
    services: usize,
    real_servers: usize,
    findings: Vec<Finding<'a>>,
}

/// One of what there is to say.
#[derive(Serialize)]
struct Finding<'a> {
    severity: &'static str,
    /// `FILE:LINE`; absent where it is about all of it.
    place: Option<String>,
    keyword: &'a str,
    message: &'a str,
    help: Option<&'a str>,
}

pub(super) fn import(scene: &Scene<'_>, arguments: &ImportKeepalived) -> Ended {
    let options = options(arguments)?;
    let imported = import_files(&Disk::default(), &arguments.files, &options);
    let report = &imported.report;
    let said = report.render();
    if !said.is_empty() {
        scene.output.remark(said.trim_end());
    }
    let (errors, warnings) = (report.errors(), report.warnings());
    let Some(source) = &imported.source else {
        let what = format!("{errors} errors, {warnings} warnings; nothing was written");
        let hint = "mend these lines, or write the rest by --keep-going";
        let shown = Failure::new(Exit::Failed, what).hint(hint);
        // JSON has no place for what a failure says in front of it.
        if scene.global.format == crate::cli::Format::Json {
            scene.output.message(said.trim_end());
        }
        return Err(shown);
    };
    let (groups, services, real_servers) = imported.counts;
    let left = if errors > 0 {
        format!("{errors} errors, whose lines are left out; ")
    } else {
        String::new()
    };
    // As everywhere, `-` is the standard output.
    let output = arguments.output.as_ref().filter(|path| path.as_os_str() != "-");
    let next = match output {
        Some(path) => {
            write(path, source)?;
            format!("Written to {0}. Next: quorate diff {0}", path.display())
        }
        None => "Next: quorate diff FILE".to_owned(),
    };
    scene.output.remark(&format!(
        "{groups} groups, {services} services, {real_servers} real servers; {left}{warnings} warnings. {next}"
    ));
    let converted =
        Converted { source, groups, services, real_servers, findings: findings(report) };
    let table = if output.is_some() { String::new() } else { source.clone() };
    scene.output.data(&converted, |_| table)?;
    Ok(if errors > 0 { Exit::Degraded } else { Exit::Ok })
}

fn options(arguments: &ImportKeepalived) -> Result<Options, Failure> {
    let mut names = BTreeMap::new();
    for (file, node) in &arguments.name {
        let Some(at) = arguments.files.iter().position(|known| known == file) else {
            return Err(Failure::usage(format!(
                "--name {file}={node}: {file} is not one of the files"
            )));
        };
        names.insert(at, node.clone());
    }
    if arguments.files.iter().filter(|file| *file == "-").count() > 1 {
        return Err(Failure::usage("stdin can be one of the files only once"));
    }
    if let Some(output) = &arguments.output
        && arguments.files.iter().any(|file| Path::new(file) == output)
    {
        return Err(Failure::usage("the output is one of the files that are read"));
    }
    Ok(Options {
        id: arguments.config_id.clone(),
        names,
        interface: arguments.interface.clone().unwrap_or_default(),
        marks: arguments.mark.iter().cloned().collect(),
        keep_going: arguments.keep_going,
    })
}

fn findings(report: &Report) -> Vec<Finding<'_>> {
    let all = report.entries().iter().map(|entry| Finding {
        severity: match entry.severity {
            Severity::Error => "error",
            Severity::Warning => "warning",
        },
        place: entry.place.map(|place| report.shown(place)),
        keyword: &entry.keyword,
        message: &entry.message,
        help: entry.help.as_deref(),
    });
    all.collect()
}

/// Whole or not at all: nobody reads half a configuration.
fn write(path: &Path, text: &str) -> Result<(), Failure> {
    let mut name = path.file_name().unwrap_or_default().to_os_string();
    name.push(format!(".{}.tmp", std::process::id()));
    let beside = path.with_file_name(name);
    let written = std::fs::File::create_new(&beside)
        .and_then(|mut file| file.write_all(text.as_bytes()).and_then(|()| file.sync_all()))
        .and_then(|()| std::fs::rename(&beside, path));
    written.map_err(|error| {
        // What could not be made is not there to remove.
        let _ = std::fs::remove_file(&beside);
        Failure::new(Exit::Failed, format!("cannot write {}: {error}", path.display()))
    })
}
