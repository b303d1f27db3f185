//! What the pages say holds: relative links lead to files and headings that are there, and every
//! cluster configuration in them is one that `quorate apply` takes; the tests that the page on IPVS
//! names are there. Those of `node.toml` are
//! read in crates/node/tests/documents.rs. Reads the repository; changes nothing.
#![forbid(unsafe_code)]
#![allow(clippy::unwrap_used, reason = "what a test relies on fails the test")]

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use quorate_model::spec::{self, Format};
use quorate_tests::lab::workspace_dir;

/// Every page of the repository, with its text.
fn pages() -> Vec<(PathBuf, String)> {
    let root = workspace_dir();
    let top = fs::read_dir(&root).unwrap().map(|entry| entry.unwrap().path());
    let mut paths: Vec<PathBuf> = top.filter(|path| is_page(path)).collect();
    let mut folders = vec![root.join("docs"), root.join("examples"), root.join("packaging")];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else if is_page(&path) {
                paths.push(path);
            }
        }
    }
    assert!(paths.len() >= 8, "the pages are not where this test looks for them");
    paths.into_iter().map(|path| (path.clone(), fs::read_to_string(path).unwrap())).collect()
}

fn is_page(path: &Path) -> bool {
    path.extension().is_some_and(|extension| extension == "md")
}

/// A code block: its language, the number of its first line, its text.
type Block = (String, usize, String);

/// The lines outside of code blocks, each with its number, and the code blocks.
fn split(text: &str) -> (Vec<(usize, &str)>, Vec<Block>) {
    let (mut prose, mut blocks) = (Vec::new(), Vec::new());
    let mut block: Option<Block> = None;
    for (number, line) in text.lines().enumerate() {
        match (line.trim_start().strip_prefix("```"), block.take()) {
            (Some(_), Some(done)) => blocks.push(done),
            (Some(language), None) => {
                block = Some((language.trim().to_owned(), number + 2, String::new()));
            }
            (None, Some((language, first, body))) => {
                block = Some((language, first, body + line + "\n"));
            }
            (None, None) => prose.push((number + 1, line)),
        }
    }
    assert!(block.is_none(), "a code block does not end");
    (prose, blocks)
}

/// The targets of the links in a line of Markdown: `[text](target)`.
fn targets(line: &str) -> Vec<&str> {
    let after = line.split("](").skip(1);
    after.filter_map(|rest| rest.split_once(')')).map(|(target, _)| target).collect()
}

/// The anchors of a page's headings, as they are made where the pages are read: lower case, spaces
/// as dashes, other marks left out.
fn anchors(text: &str) -> BTreeSet<String> {
    let (prose, _) = split(text);
    let headings = prose.into_iter().map(|(_, line)| line).filter(|line| line.starts_with('#'));
    headings
        .map(|line| {
            let heading = line.trim_start_matches('#').trim();
            let kept = heading.chars().filter(|c| c.is_alphanumeric() || " -_".contains(*c));
            kept.map(|c| if c == ' ' { '-' } else { c.to_ascii_lowercase() }).collect()
        })
        .collect()
}

/// Complaints are collected, so that one run names them all.
fn assert_none(complaints: &[String]) {
    assert!(complaints.is_empty(), "\n{}", complaints.join("\n"));
}

#[test]
fn every_relative_link_leads_somewhere() {
    let mut complaints = Vec::new();
    let mut followed = 0;
    for (path, text) in pages() {
        for (number, line) in split(&text).0 {
            for target in targets(line).into_iter().filter(|target| !target.contains("://")) {
                followed += 1;
                let (file, anchor) = target.split_once('#').unwrap_or((target, ""));
                let to = if file.is_empty() { path.clone() } else { path.with_file_name(file) };
                let there = to.exists()
                    && (anchor.is_empty()
                        || anchors(&fs::read_to_string(&to).unwrap()).contains(anchor));
                if !there {
                    complaints.push(format!("{}:{number}: {target}", path.display()));
                }
            }
        }
    }
    assert!(followed > 20, "no links were found");
    assert_none(&complaints);
}

#[test]
fn every_cluster_configuration_in_the_pages_is_right() {
    let mut complaints = Vec::new();
    let mut read = 0;
    // The design also shows what is planned.
    let design = workspace_dir().join("docs/design");
    for (path, text) in pages().into_iter().filter(|(path, _)| !path.starts_with(&design)) {
        for (language, first, source) in split(&text).1 {
            // A node.toml has links; it has a test of its own.
            if language != "toml" || source.contains("[[link]]") {
                continue;
            }
            read += 1;
            if let Err(wrong) = spec::parse(&source, Format::Toml) {
                let name = format!("{}, block at line {first}", path.display());
                complaints.push(wrong.render(&name, &source));
            }
        }
    }
    assert!(read >= 2, "no configurations were found");
    assert_none(&complaints);
}

#[test]
fn the_examples_are_right() {
    let mut complaints = Vec::new();
    for entry in fs::read_dir(workspace_dir().join("examples")).unwrap() {
        let path = entry.unwrap().path();
        // Programs stand in folders of their own.
        if path.is_dir() {
            continue;
        }
        let source = fs::read_to_string(&path).unwrap();
        if let Err(wrong) = spec::parse(&source, Format::Toml) {
            complaints.push(wrong.render(&path.display().to_string(), &source));
        }
    }
    assert_none(&complaints);
}

/// Every source file of these folders, joined.
fn sources(folders: &[&str]) -> String {
    let mut folders: Vec<PathBuf> = folders.iter().map(|f| workspace_dir().join(f)).collect();
    let mut text = String::new();
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                text.push_str(&fs::read_to_string(path).unwrap());
            }
        }
    }
    text
}

/// A row without one says in words that the option is not there.
#[test]
fn every_test_that_the_pages_of_options_name_is_there() {
    for page in ["docs/reference/ipvs.md", "docs/reference/probes.md"] {
        names_tests_that_are_there(page);
    }
}

fn names_tests_that_are_there(page: &str) {
    let page = fs::read_to_string(workspace_dir().join(page)).unwrap();
    let sources = sources(&["crates", "tests/src", "tests/tests"]);
    let mut complaints = Vec::new();
    let mut named = 0;
    let rows = page.lines().enumerate().filter(|(_, line)| line.starts_with("| "));
    for (number, row) in
        rows.filter(|(_, row)| !row.starts_with("| option") && !row.starts_with("| keyword"))
    {
        let cells: Vec<&str> = row.trim_matches('|').split('|').map(str::trim).collect();
        let [_, here, test] = cells.as_slice() else {
            complaints.push(format!("{}: not three cells", number + 1));
            continue;
        };
        let test = test.trim_matches('`');
        let there = sources.contains(&format!("fn {test}("))
            || sources.contains(&format!("name: \"{test}\""));
        if test.is_empty() {
            if !here.contains("not yet") && !here.contains("not there") {
                complaints.push(format!("{}: neither a test nor a reason", number + 1));
            }
        } else if there {
            named += 1;
        } else {
            complaints.push(format!("{}: there is no test {test:?}", number + 1));
        }
    }
    assert!(named > 20, "no tests are named");
    assert_none(&complaints);
}
