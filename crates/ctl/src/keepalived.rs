//! keepalived.conf(5) to a configuration: `read` makes lines of files, `tree` blocks of lines, `side` and what is
//! below it what one director's files say (`ir`), `merge` one of several directors, `arrange` services that can be,
//! `write` TOML. `keywords` knows what becomes of each keyword, and `report` tells it. Pure but for `source`.

mod arrange;
mod checks;
mod hooks;
mod ir;
pub mod keywords;
mod merge;
mod names;
mod read;
pub mod report;
mod routing;
mod servers;
mod services;
mod side;
pub mod source;
mod tracks;
mod tree;
mod values;
mod vrrp;
mod write;

use std::collections::BTreeMap;

use quorate_model::spec::document::Severity;
use quorate_model::spec::{self, Format};

use report::{Place, Report, clean};
use source::Files;

/// Most ids of `@id` that are taken for directors.
const DIRECTORS_MAX: usize = 8;

/// What the files do not say.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Options {
    /// The config-id, as `keepalived -i` has it.
    pub id: Option<String>,
    /// The directors' names, by the place of their file among those given.
    pub names: BTreeMap<usize, String>,
    /// The interface of addresses that no instance holds; empty: that of the first instance.
    pub interface: String,
    /// What a firewall mark stands for: `"tcp/192.0.2.80:80"` and so on.
    pub marks: BTreeMap<u32, Vec<String>>,
    /// Whether what can be carried over is written in spite of errors.
    pub keep_going: bool,
}

/// A configuration, or why there is none.
#[derive(Debug)]
pub struct Imported {
    /// TOML; nothing where an error forbids it.
    pub source: Option<String>,
    /// How many groups, services and real servers.
    pub counts: (usize, usize, usize),
    /// What there is to say.
    pub report: Report,
}

/// Reads the files, one of each director, and makes a configuration of them.
#[must_use]
pub fn import(files: &dyn Files, paths: &[String], options: &Options) -> Imported {
    let mut report = Report::default();
    let mut sides = Vec::new();
    for path in paths {
        match directors(files, path, paths.len() == 1, options, &mut report) {
            Some(more) => sides.extend(more),
            // Of half a file nobody knows what is missing.
            None => return Imported { source: None, counts: (0, 0, 0), report },
        }
    }
    let labels: Vec<String> = sides.iter().map(|side| side.label.clone()).collect();
    let names = merge::names(&sides, &options.names, &mut report);
    let mut whole = merge::merge(sides, names, &mut report);
    arrange::groups(&mut whole, &options.interface, &mut report);
    let services = arrange::services(&mut whole, &mut report);
    if whole.groups.is_empty() && report.errors() == 0 {
        report.note("nothing of it is an address that moves or a virtual service: the configuration is empty");
    }
    let mut services = services;
    // What the configuration can't have though all of the above let it through is told where it comes from.
    let mut document = write::document(&whole, &services, &labels, &mut report);
    let mut text = document.text();
    let mut valid = false;
    for _ in 0..ROUNDS_MAX {
        let Err(wrong) = spec::parse(&text, Format::Toml) else {
            valid = true;
            break;
        };
        let errors = wrong.iter().filter(|problem| problem.severity == Severity::Error);
        let mut places = Vec::new();
        for problem in errors {
            let place =
                problem.position.and_then(|at| document.place_of(at.line)).unwrap_or_default();
            let help = problem.help.as_deref().unwrap_or("change it there, or take it out");
            let what = format!(
                "it can't be kept in a configuration: {}: {}",
                problem.path, problem.message
            );
            report.error(place, "", what, help);
            places.push(place);
        }
        if !options.keep_going || !without(&mut whole, &mut services, &places) {
            break;
        }
        document = write::document(&whole, &services, &labels, &mut report);
        text = document.text();
    }
    let counts = document.counts;
    let written = valid && (report.errors() == 0 || options.keep_going);
    Imported { source: written.then_some(text), counts, report }
}

/// How often what can't be kept is taken out and the rest tried.
const ROUNDS_MAX: usize = 8;

/// Takes out what stands at these places; whether there was any.
fn without(
    whole: &mut merge::Whole,
    services: &mut Vec<(String, ir::Service)>,
    places: &[Place],
) -> bool {
    let within = |from: Place, until: u32| {
        let lines = from.line..=until.max(from.line);
        places.iter().any(|place| place.file == from.file && lines.contains(&place.line))
    };
    let before = (services.len(), whole.groups.len(), whole.cluster.len(), whole.tracks.len());
    services.retain(|(_, service)| !within(service.place, service.until));
    whole.cluster.retain(|(.., place)| !within(*place, place.line));
    whole.tracks.retain(|track| !within(track.place, track.place.line));
    let groups = |whole: &merge::Whole| whole.groups.len();
    whole.groups.retain(|(group, _)| !within(group.place, group.until));
    if groups(whole) < before.1 {
        let left: Vec<String> = whole.groups.iter().map(|(group, _)| group.name.clone()).collect();
        services.retain(|(group, _)| left.contains(group));
    }
    let after = (services.len(), whole.groups.len(), whole.cluster.len(), whole.tracks.len());
    before != after
}

/// What one file says of one director, or of several by `@id`; nothing if it was not read to its end.
fn directors(
    files: &dyn Files,
    path: &str,
    alone: bool,
    options: &Options,
    report: &mut Report,
) -> Option<Vec<ir::Side>> {
    let shown = if path == "-" { "<stdin>" } else { path };
    let ids = match &options.id {
        Some(_) => Vec::new(),
        // Only to see which ids there are: what there is to say comes below.
        None => read::read(files, path, None, &mut Report::default()).ids,
    };
    let listed = clean(&ids.join(", "));
    let chosen: Vec<Option<&str>> = if ids.is_empty() || !alone {
        if !ids.is_empty() {
            report.note(format!(
                "{}: lines for {listed} are left out: give --config-id, or this file alone, which makes a \
                 director of each",
                clean(shown)
            ));
        }
        vec![options.id.as_deref()]
    } else {
        report.note(format!(
            "{}: a director for each id of its conditional lines: {listed}; --config-id takes one of them alone",
            clean(shown)
        ));
        if ids.len() > DIRECTORS_MAX {
            report.note(format!("of {} ids the first {DIRECTORS_MAX} are taken", ids.len()));
        }
        ids.iter().take(DIRECTORS_MAX).map(|id| Some(id.as_str())).collect()
    };
    let several = !ids.is_empty() && alone;
    let mut sides = Vec::new();
    for id in chosen {
        let lines = read::read(files, path, id, report);
        if lines.stopped {
            return None;
        }
        let blocks = tree::blocks(lines.lines, report);
        let label = match id.filter(|_| several) {
            Some(id) => format!("{shown}, @{id}"),
            None => shown.to_owned(),
        };
        let mut side = side::side(&blocks, &label, &options.marks, report);
        if several {
            side.router_id = id.map(|id| (id.to_owned(), Place::default()));
        }
        sides.push(side);
    }
    Some(sides)
}
