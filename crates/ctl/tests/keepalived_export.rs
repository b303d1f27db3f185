//! `quorate export keepalived`: what it writes of a configuration that has something of everything, and that Keepalived
//! itself takes what comes out, of that one, of the examples and of the pages' recipes.
#![forbid(unsafe_code)]
#![allow(clippy::expect_used, clippy::unwrap_used, reason = "a test that can't go on ends")]
#![allow(clippy::print_stderr, reason = "a test that is skipped says why")]

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::process::Command;

use quorate_ctl::keepalived_export::{Exported, Options, export};
use quorate_model::id::NodeName;
use quorate_model::spec::{ClusterSpec, Format, parse};

const WHOLE: &str = include_str!("fixtures/keepalived_export/whole.toml");
const WHOLE_CONF: &str = include_str!("fixtures/keepalived_export/whole.conf");
const WHOLE_SAID: &str = include_str!("fixtures/keepalived_export/whole.said");
const KEEPALIVED: &str = "/usr/sbin/keepalived";

fn spec(source: &str) -> ClusterSpec {
    parse(source, Format::Toml).map_err(|wrong| wrong.render("it", source)).unwrap()
}

fn of(spec: &ClusterSpec, node: &str) -> Exported {
    let devices = [("public", "eth0"), ("inside", "eth1")];
    let devices = devices.map(|(name, device)| (name.to_owned(), device.to_owned()));
    let node = (!node.is_empty()).then(|| node.parse().unwrap());
    let options = Options { node, devices: BTreeMap::from(devices), ..Options::default() };
    export(spec, &options).unwrap()
}

/// What Keepalived says of a file: nothing, where it takes it. Devices that this machine lacks are none of the
/// file's faults; nor is that 2.2 ends itself where a script's user is not root (only with -t).
fn refused(text: &str) -> Option<String> {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("keepalived.conf");
    let text = text.replacen("global_defs {\n", "global_defs {\n    dynamic_interfaces\n", 1);
    std::fs::write(&path, text).unwrap();
    let ran = Command::new(KEEPALIVED).arg("-t").arg("-f").arg(&path).output().unwrap();
    let said = String::from_utf8_lossy(&ran.stderr).into_owned();
    (!ran.status.success()).then(|| format!("{}: {said}", ran.status))
}

/// Whether Keepalived is here to be asked.
fn keepalived() -> bool {
    let there = Path::new(KEEPALIVED).exists();
    if !there {
        eprintln!("skipped: there is no {KEEPALIVED} (apt-get install keepalived)");
    }
    there
}

#[test]
fn everything_has_its_place_or_a_comment_and_a_warning() {
    let exported = of(&spec(WHOLE), "lb1");
    assert_eq!(exported.text.trim_end(), WHOLE_CONF.trim_end());
    let said: Vec<&str> =
        WHOLE_SAID.lines().filter_map(|line| line.strip_prefix("warning: ")).collect();
    assert_eq!(exported.warnings, said);
    // What is said in the file is said on stderr.
    let comments = exported.text.lines().filter_map(|line| line.split_once("not in Keepalived: "));
    for (_, what) in comments {
        assert!(said.iter().any(|said| said.contains(what)), "{what}");
    }
}

#[test]
fn the_same_configuration_is_the_same_text() {
    let (first, again) = (of(&spec(WHOLE), "lb2"), of(&spec(WHOLE), "lb2"));
    assert_eq!((first.text, first.warnings), (again.text, again.warnings));
}

#[test]
fn the_directors_files_differ_in_who_they_are_and_what_they_may_own() {
    let spec = spec(WHOLE);
    let ids = |text: &str| -> Vec<String> {
        let lines = text.lines().map(str::trim);
        lines.filter(|line| line.starts_with("virtual_router_id")).map(str::to_owned).collect()
    };
    let (one, two) = (of(&spec, "lb1").text, of(&spec, "lb2").text);
    assert!(one.contains("router_id lb1") && two.contains("router_id lb2"));
    assert!(one.contains("priority 150") && one.contains("priority 140"));
    assert!(!one.contains("vrrp_instance other") && two.contains("vrrp_instance other"));
    assert_eq!(ids(&one)[..], ids(&two)[..2]);
    let services = |text: &str| text.matches("virtual_server ").count();
    assert_eq!(services(&one), services(&two));
}

#[test]
fn which_director_it_is_has_to_be_said_where_there_are_several() {
    let whole = spec(WHOLE);
    let refused = export(&whole, &Options::default()).unwrap_err();
    assert!(refused.contains("--node") && refused.contains("lb1, lb2"), "{refused}");
    let other: NodeName = "lb9".parse().unwrap();
    let exported = export(&whole, &Options { node: Some(other), ..Options::default() }).unwrap();
    assert!(exported.warnings.iter().any(|said| said.contains("lb9")));
    assert!(exported.text.contains("priority 130"));
    let nobody = "[group.web]\ninterface = \"public\"\naddresses = [\"192.0.2.1\"]\n";
    let exported = export(&spec(nobody), &Options::default()).unwrap();
    assert!(exported.text.contains("priority 150") && !exported.text.contains("router_id lb"));
}

#[test]
fn what_is_longer_than_keepalived_reads_is_a_comment() {
    let long = "x".repeat(2_000);
    let source = format!(
        "[group.web]\ninterface = \"public\"\naddresses = [\"192.0.2.1\"]\n[service.web]\ngroup = \"web\"\n\
         listen = \"tcp/192.0.2.1:80\"\ncheck = {{ type = \"exec\", command = [\"/usr/bin/true\", \"{long}\"], \
         user = \"root\" }}\nreal_servers = [{{ address = \"10.0.0.1:80\" }}]\n"
    );
    let exported = of(&spec(&source), "");
    assert!(exported.text.lines().all(|line| line.len() < 1_024));
    assert!(exported.warnings.iter().any(|said| said.contains("bytes")), "{:?}", exported.warnings);
}

/// The blocks of TOML on the pages that are whole configurations.
fn recipes() -> Vec<(PathBuf, String)> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    let mut all = Vec::new();
    for folder in
        ["docs/operate", "docs/reference", "examples", "crates/ctl/tests/fixtures/keepalived"]
    {
        let Ok(entries) = std::fs::read_dir(root.join(folder)) else { continue };
        let paths: BTreeSet<PathBuf> = entries.map(|entry| entry.unwrap().path()).collect();
        for path in paths.into_iter().filter(|path| path.is_file()) {
            let Ok(text) = std::fs::read_to_string(&path) else { continue };
            match path.extension().and_then(|name| name.to_str()) {
                Some("toml") => all.push((path, text)),
                Some("md") => {
                    for block in text.split("```toml\n").skip(1) {
                        let block = block.split("```").next().unwrap_or_default();
                        all.push((path.clone(), block.to_owned()));
                    }
                }
                _ => {}
            }
        }
    }
    all
}

#[test]
fn keepalived_takes_what_is_exported() {
    if !keepalived() {
        return;
    }
    let mut asked = 0;
    let whole = (PathBuf::from("whole.toml"), WHOLE.to_owned());
    for (path, source) in recipes().into_iter().chain([whole]) {
        let Ok(mut spec) = parse(&source, Format::Toml) else { continue };
        as_root(&mut spec);
        let groups = spec.groups.values();
        let nodes: BTreeSet<String> =
            groups.flat_map(|group| &group.prefer).map(ToString::to_string).collect();
        let nodes = if nodes.is_empty() { BTreeSet::from(["lb1".to_owned()]) } else { nodes };
        for node in nodes {
            let exported = of(&spec, &node);
            if let Some(said) = refused(&exported.text) {
                panic!("{} of {node}: {said}\n{}", path.display(), exported.text);
            }
            asked += 1;
        }
    }
    assert!(asked > 4, "{asked}");
}

/// Programs that are here, as root: that others are not installed, or have users of their own, is no fault of the file.
fn as_root(spec: &mut ClusterSpec) {
    use quorate_model::spec::{CheckKind, TrackKind};

    let program = |command: &mut Vec<String>, user: &mut Option<String>| {
        command[0] = "/usr/bin/true".to_owned();
        *user = Some("root".to_owned());
    };
    for hook in spec.hooks.values_mut() {
        program(&mut hook.command, &mut hook.user);
    }
    for track in spec.groups.values_mut().flat_map(|group| &mut group.tracks) {
        if let TrackKind::Exec { command, user } = &mut track.kind {
            program(command, user);
        }
    }
    for service in spec.services.values_mut() {
        for check in service.checks.iter_mut().chain(service.own_checks.values_mut().flatten()) {
            let mut own = (**check).clone();
            if let CheckKind::Exec(exec) = &mut own.kind {
                program(&mut exec.command, &mut exec.user);
            }
            *check = std::sync::Arc::new(own);
        }
    }
}
