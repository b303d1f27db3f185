//! The house stays as drawn (design §2): who depends on whom, which crate alone touches what, no
//! forbidden names, short files that say what they own. Reads manifests and sources; builds and
//! changes nothing.
#![forbid(unsafe_code)]
#![allow(clippy::unwrap_used, reason = "what a test relies on fails the test")]

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use cargo_metadata::{Metadata, MetadataCommand, Package};
use quorate_tests::lab::workspace_dir;

const LINES_AT_MOST: usize = 500;

/// Which crates of ours each crate may depend on, tests of its own included.
const ARROWS: &[(&str, &[&str])] = &[
    ("quorate-model", &[]),
    ("quorate-api", &["quorate-model"]),
    ("quorate-dataplane", &["quorate-model"]),
    ("quorate-ctl", &["quorate-api", "quorate-model", "quorate-dataplane"]),
    ("quorate-node", &["quorate-model", "quorate-api", "quorate-dataplane"]),
];

/// Dependencies that only one crate may name.
const CONFINED: &[(&str, &str)] = &[
    ("aya", "quorate-dataplane"),
    ("neli", "quorate-dataplane"),
    ("rtnetlink", "quorate-dataplane"),
    ("libc", "quorate-dataplane"),
    ("openraft", "quorate-node"),
    ("sled", "quorate-node"),
];

/// Names that explain nothing.
const FORBIDDEN: &[&str] = &["util", "utils", "common", "helper", "helpers", "misc"];

fn metadata() -> Metadata {
    let manifest = workspace_dir().join("Cargo.toml");
    MetadataCommand::new().manifest_path(manifest).no_deps().exec().unwrap()
}

fn dependencies(package: &Package) -> BTreeSet<&str> {
    package.dependencies.iter().map(|dependency| dependency.name.as_str()).collect()
}

/// Every Rust source of ours, with its text.
fn sources() -> Vec<(PathBuf, String)> {
    let mut found = Vec::new();
    let mut folders: Vec<PathBuf> =
        ["crates", "tests", "xtask"].iter().map(|folder| workspace_dir().join(folder)).collect();
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() && !path.ends_with("target") {
                folders.push(path);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                let text = fs::read_to_string(&path).unwrap();
                found.push((path, text));
            }
        }
    }
    assert!(found.len() > 20, "sources are not where this test looks for them");
    found
}

/// Complaints are collected, so that one run names them all.
fn assert_none(complaints: &[String]) {
    assert!(complaints.is_empty(), "\n{}", complaints.join("\n"));
}

#[test]
fn crates_depend_only_along_the_arrows() {
    let metadata = metadata();
    let mut complaints = Vec::new();
    for &(name, allowed) in ARROWS {
        let package = metadata.packages.iter().find(|package| package.name == name).unwrap();
        for dependency in dependencies(package) {
            let ours = dependency.starts_with("quorate-") || dependency == "xtask";
            if ours && !allowed.contains(&dependency) {
                complaints.push(format!("{name} must not depend on {dependency}"));
            }
        }
    }
    let crates = metadata.packages.iter().filter(|p| p.manifest_path.as_str().contains("/crates/"));
    for package in crates {
        let name = package.name.as_str();
        if !ARROWS.iter().any(|(known, _)| *known == name) {
            complaints.push(format!("{name} has no arrows: add it to ARROWS and to the design"));
        }
    }
    assert_none(&complaints);
}

#[test]
fn confined_dependencies_stay_in_their_crate() {
    let mut complaints = Vec::new();
    for package in &metadata().packages {
        for dependency in dependencies(package) {
            // A family counts as one: openraft-rt is openraft's.
            let family = |root: &str| {
                dependency == root
                    || dependency.strip_prefix(root).is_some_and(|r| r.starts_with('-'))
            };
            for &(confined, owner) in CONFINED {
                if family(confined) && package.name != owner {
                    complaints
                        .push(format!("{} names {dependency}: only {owner} may", package.name));
                }
            }
        }
    }
    assert_none(&complaints);
}

#[test]
fn no_module_has_a_name_that_explains_nothing() {
    let mut complaints = Vec::new();
    for (path, text) in sources() {
        let mut names: Vec<String> =
            path.components().map(|part| part.as_os_str().to_string_lossy().into_owned()).collect();
        names.extend(path.file_stem().map(|stem| stem.to_string_lossy().into_owned()));
        // Only the part of the path that is ours to name.
        names.drain(..workspace_dir().components().count());
        let modules = text.lines().filter_map(|line| {
            let line = line.trim_start();
            let rest = line.split_once("mod ").filter(|(before, _)| {
                before.is_empty() || (before.starts_with("pub") && before.ends_with([' ', ')']))
            });
            Some(rest?.1.split([';', ' ', '{']).next()?.to_owned())
        });
        names.extend(modules);
        for name in names.iter().filter(|name| FORBIDDEN.contains(&name.as_str())) {
            complaints.push(format!("{}: {name}", path.display()));
        }
    }
    assert_none(&complaints);
}

#[test]
fn files_are_short_and_say_what_they_own() {
    let mut complaints = Vec::new();
    for (path, text) in sources() {
        let lines = text.lines().count();
        if lines > LINES_AT_MOST {
            complaints.push(format!("{}: {lines} lines", path.display()));
        }
        if !text.starts_with("//! ") {
            complaints.push(format!("{}: does not begin with //!", path.display()));
        }
    }
    assert_none(&complaints);
}

#[test]
fn only_the_dataplane_may_hold_unsafe_code() {
    let mut complaints = Vec::new();
    for package in &metadata().packages {
        if package.name == "quorate-dataplane" {
            continue;
        }
        for target in package.targets.iter().filter(|target| !target.is_custom_build()) {
            let root = Path::new(target.src_path.as_str());
            if !fs::read_to_string(root).unwrap().contains("\n#![forbid(unsafe_code)]") {
                complaints.push(format!("{}: no #![forbid(unsafe_code)]", root.display()));
            }
        }
    }
    assert_none(&complaints);
}

#[test]
fn nothing_is_left_undone_or_passed_over() {
    let mut complaints = Vec::new();
    // Written in parts, so that this file does not find itself.
    let words = [concat!("todo", "!("), concat!("unimplemented", "!("), concat!("#[", "ignore")];
    for (path, text) in sources() {
        for (number, line) in text.lines().enumerate() {
            for word in words.iter().filter(|word| line.contains(*word)) {
                complaints.push(format!("{}:{}: {word}", path.display(), number + 1));
            }
        }
    }
    assert_none(&complaints);
}

#[test]
fn lab_tests_are_left_to_xtask() {
    let metadata = metadata();
    let tests = metadata.packages.iter().find(|package| package.name == "quorate-tests").unwrap();
    let mut complaints = Vec::new();
    for target in &tests.targets {
        let name = &target.name;
        let of_lab = target.is_test() && name.starts_with("lab_");
        if of_lab && target.test {
            complaints.push(format!("tests/Cargo.toml: [[test]] name = \"{name}\", test = false"));
        }
        if of_lab && !name.starts_with("lab_host_") && !name.starts_with("lab_ipvs_") {
            complaints.push(format!("{name}: lab_host_ or lab_ipvs_ says where it runs"));
        }
        if target.is_test() && !of_lab && !target.test {
            complaints.push(format!("{name} is never run"));
        }
    }
    assert_none(&complaints);
}
