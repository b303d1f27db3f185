//! `cargo xtask bench`: Quorate beside Keepalived (`failover`, `probes`), and beside ipvsadm too (`ipvs`).
//! Prints a page, or JSON; lines of progress go to standard error.
#![forbid(unsafe_code)]

use std::fs;
use std::io::{self, Write as _};
use std::process::ExitCode;

use quorate_tests::failover::bench::report::{Machine, document, page};
use quorate_tests::failover::bench::{self, Options};
use quorate_tests::lab::{LabError, artefacts_dir, clock, workspace_dir};
use quorate_tests::{probing, scale};

const USAGE: &str =
    "usage: lab-bench failover [--rounds N] [--seed N] [--quick | --many] [--json] [--write]
       lab-bench ipvs [--rounds N] [--quick | --failovers]
       lab-bench probes host|ipvs [--quick] [--verdicts]";
/// Where the page stands among the others.
const PAGE: &str = "docs/benchmarks/failover.md";

struct Arguments {
    options: Options,
    json: bool,
    write: bool,
}

fn main() -> ExitCode {
    let mut words = std::env::args().skip(1);
    let result = match words.next().as_deref() {
        Some("failover") => arguments(words).map(|arguments| run(&arguments)),
        Some("ipvs") => of_scale(words).map(at_scale),
        Some("probes") => of_probing(words).map(probes),
        _ => None,
    };
    let Some(result) = result else {
        progress(USAGE);
        return ExitCode::from(2);
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            progress(&format!("\nThe bench failed: {error}"));
            ExitCode::FAILURE
        }
    }
}

fn run(arguments: &Arguments) -> Result<(), LabError> {
    let machine = Machine::here();
    let sections = bench::run(&arguments.options, &mut progress)?;
    let page = page(&arguments.options, &machine, &sections);
    let text = if arguments.json {
        format!("{:#}\n", document(&arguments.options, &machine, &sections))
    } else {
        page.clone()
    };
    // Nobody reads on: the page may still be written.
    let _closed = io::stdout().lock().write_all(text.as_bytes());
    if arguments.write {
        let path = workspace_dir().join(PAGE);
        if let Some(folder) = path.parent() {
            fs::create_dir_all(folder).map_err(LabError::io("make the folder of the page"))?;
        }
        fs::write(&path, page).map_err(LabError::io(format!("write {}", path.display())))?;
        progress(&format!("written to {}", path.display()));
    }
    Ok(())
}

/// The page goes among the artefacts too, since the machine that it is measured in has no other place.
fn at_scale(options: scale::Options) -> Result<(), LabError> {
    let machine = Machine::here();
    let results = scale::run(options, &mut progress)?;
    keep(scale::PAGE, &scale::report::page(options, &machine, &results))
}

/// One part of a page: the other is measured on another kernel.
fn probes(options: probing::Options) -> Result<(), LabError> {
    let machine = Machine::here();
    let results = probing::run(options, &mut progress)?;
    keep(options.place.page(), &probing::report::part(options, &machine, &results))
}

fn keep(name: &str, page: &str) -> Result<(), LabError> {
    let _closed = io::stdout().lock().write_all(page.as_bytes());
    let path = artefacts_dir().join(name);
    fs::write(&path, page).map_err(LabError::io(format!("write {}", path.display())))
}

fn progress(text: &str) {
    // Nobody is left to hear it when standard error is closed.
    let _closed = writeln!(io::stderr(), "{text}");
}

/// `None` for arguments that mean nothing. Without a seed, the time since boot is as good as any.
fn arguments(mut words: impl Iterator<Item = String>) -> Option<Arguments> {
    let seed = u64::try_from(clock::now().as_micros()).unwrap_or_default();
    let mut found = Arguments {
        options: Options { rounds: 20, seed, quick: false, many: false },
        json: false,
        write: false,
    };
    let mut rounds = None;
    while let Some(word) = words.next() {
        match word.as_str() {
            "--rounds" => rounds = Some(words.next()?.parse().ok()?),
            "--seed" => found.options.seed = words.next()?.parse().ok()?,
            "--quick" => found.options.quick = true,
            "--many" => found.options.many = true,
            "--json" => found.json = true,
            "--write" => found.write = true,
            _ => return None,
        }
    }
    found.options.rounds = rounds.unwrap_or(if found.options.quick { 3 } else { 20 });
    Some(found)
}

fn of_scale(mut words: impl Iterator<Item = String>) -> Option<scale::Options> {
    let (mut rounds, mut quick, mut only_failovers) = (None, false, false);
    while let Some(word) = words.next() {
        match word.as_str() {
            "--rounds" => rounds = Some(words.next()?.parse().ok()?),
            "--quick" => quick = true,
            "--failovers" => only_failovers = true,
            _ => return None,
        }
    }
    let rounds = rounds.unwrap_or(if quick { 1 } else { 3 });
    Some(scale::Options { rounds, quick, only_failovers })
}

fn of_probing(mut words: impl Iterator<Item = String>) -> Option<probing::Options> {
    let place = match words.next()?.as_str() {
        "host" => probing::Place::Host,
        "ipvs" => probing::Place::Ipvs,
        _ => return None,
    };
    let mut options = probing::Options { place, quick: false, verdicts: false };
    for word in words {
        match word.as_str() {
            "--quick" => options.quick = true,
            "--verdicts" => options.verdicts = true,
            _ => return None,
        }
    }
    Some(options)
}
