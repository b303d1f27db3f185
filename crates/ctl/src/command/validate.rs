//! `quorate validate`: whether configurations are right by themselves, as far as this machine can tell. It
//! asks no node.

use quorate_model::spec::document::{Diagnostic, Severity};
use quorate_model::spec::{self, ClusterSpec, Diagnostics};
use serde::Serialize;

use super::configuration::{format_of, read_text};
use super::{Ended, Scene};
use crate::cli::Validate;
use crate::exit::{Exit, Failure};
use crate::output::Output;

/// What the schema says of each key.
const PAGE: &str = include_str!("../../../../docs/reference/configuration.md");

#[derive(Serialize)]
struct Validated {
    valid: bool,
    files: Vec<Judged>,
    diagnostics: Vec<Said>,
    /// Errors and warnings beyond those that are listed.
    more: usize,
}

#[derive(Serialize)]
struct Judged {
    file: String,
    valid: bool,
    groups: usize,
    services: usize,
    real_servers: usize,
}

#[derive(Serialize)]
struct Said {
    severity: &'static str,
    file: String,
    line: Option<usize>,
    column: Option<usize>,
    field: Option<String>,
    message: String,
    hint: Option<String>,
}

pub(super) fn run(scene: &Scene<'_>, arguments: &Validate) -> Ended {
    if arguments.schema {
        return schema(scene.output);
    }
    let stdin = arguments.files.iter().filter(|file| *file == "-").count();
    if stdin > 1 {
        return Err(Failure::usage("stdin can be read once: give `-` once"));
    }
    let mut all = Validated { valid: true, files: Vec::new(), diagnostics: Vec::new(), more: 0 };
    for file in &arguments.files {
        one(scene.output, file, &mut all);
    }
    all.valid = all.files.iter().all(|file| file.valid);
    scene.output.data(&all, |_| all.files.iter().map(told).collect())?;
    Ok(if all.valid { Exit::Ok } else { Exit::Failed })
}

fn schema(output: &Output) -> Ended {
    let text = serde_json::to_string_pretty(&spec::json_schema(PAGE))
        .map_err(|error| Failure::new(Exit::Failed, format!("cannot write the schema: {error}")))?;
    output.line(&text)?;
    Ok(Exit::Ok)
}

/// Judges one file; for people, what is wrong goes to stderr with the lines that it is about.
fn one(output: &Output, file: &str, all: &mut Validated) {
    let shown = if file == "-" { "<stdin>" } else { file };
    let source = match read_text(file) {
        Ok(source) => source,
        Err(failure) => {
            output.remark(&failure.to_string());
            all.diagnostics.push(Said {
                severity: "error",
                file: shown.to_owned(),
                line: None,
                column: None,
                field: None,
                message: failure.what,
                hint: None,
            });
            all.files.push(judged(shown, None));
            return;
        }
    };
    let (spec, found) = spec::examine(&source, format_of(file, &source));
    if !found.is_empty() {
        output.remark(&found.render(shown, &source));
    }
    say(shown, &found, all);
    all.files.push(judged(shown, spec.as_ref()));
}

fn say(shown: &str, found: &Diagnostics, all: &mut Validated) {
    all.more += found.more();
    all.diagnostics.extend(found.iter().map(|diagnostic| said(shown, diagnostic)));
}

fn said(file: &str, diagnostic: &Diagnostic) -> Said {
    let Diagnostic { severity, path, position, message, help, .. } = diagnostic;
    Said {
        severity: match severity {
            Severity::Error => "error",
            Severity::Warning => "warning",
        },
        file: file.to_owned(),
        line: position.map(|position| position.line),
        column: position.map(|position| position.column),
        field: (!path.is_empty()).then(|| path.clone()),
        message: message.clone(),
        hint: help.clone(),
    }
}

fn judged(file: &str, spec: Option<&ClusterSpec>) -> Judged {
    let services = spec.into_iter().flat_map(|spec| spec.services.values());
    Judged {
        file: file.to_owned(),
        valid: spec.is_some(),
        groups: spec.map_or(0, |spec| spec.groups.len()),
        services: services.clone().count(),
        real_servers: services.map(|service| service.real_servers.len()).sum(),
    }
}

fn told(judged: &Judged) -> String {
    let Judged { file, valid, groups, services, real_servers } = judged;
    if *valid {
        format!(
            "{file}: right; groups {groups}, services {services}, real servers {real_servers}\n"
        )
    } else {
        format!("{file}: WRONG\n")
    }
}
