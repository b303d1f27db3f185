//! The examples of each command's help: there is one, clap takes it, and it runs.

use std::io::Write as _;
use std::path::Path;
use std::process::{Command, Stdio};

use quorate_api::v1::Health;

use super::fake::{Node, State};
use super::status::answered;

const CONFIGURATION: &str = include_str!("../../../../examples/web.toml");
/// They would change this machine, or go on for ever.
const NOT_RUN: [&str; 4] = ["realserver setup", "realserver check", "realserver undo", "watch"];

/// Each command with its help; one that has commands of its own counts where it can be called by itself.
fn commands(command: &clap::Command, path: &str, found: &mut Vec<(String, String)>) {
    for child in command.get_subcommands() {
        let path = format!("{path} {}", child.get_name()).trim_start().to_owned();
        if !child.is_subcommand_required_set() {
            let help = child.get_after_help().map(ToString::to_string).unwrap_or_default();
            found.push((path.clone(), help));
        }
        commands(child, &path, found);
    }
}

/// The calls of `quorate` in a help's examples, as words; what is piped or redirected is left out.
fn calls(help: &str) -> Vec<Vec<String>> {
    let lines = help.lines().filter(|line| line.starts_with("  "));
    let parts = lines.flat_map(|line| line.split([';', '|', '&']));
    let own = parts.map(str::trim).filter(|part| part.starts_with("quorate "));
    own.map(|call| {
        let call = call.split(['>', '<', '#']).next().unwrap_or_default();
        call.split_whitespace().map(str::to_owned).collect()
    })
    .collect()
}

#[test]
fn every_command_has_an_example_of_itself_that_clap_takes() {
    let command = quorate_ctl::cli::command();
    command.clone().debug_assert();
    let mut all = Vec::new();
    commands(&command, "", &mut all);
    assert!(all.len() > 30, "{all:?}");
    for (path, help) in all {
        let calls = calls(&help);
        assert!(help.starts_with("Example"), "{path}: {help}");
        let own = format!("quorate {path}");
        assert!(calls.iter().any(|call| call.join(" ").starts_with(&own)), "{path}: {calls:?}");
        for call in calls {
            let words = call.iter().map(std::ffi::OsString::from);
            let read = command.clone().try_get_matches_from(quorate_ctl::cli::arguments(words));
            assert!(read.is_ok(), "{call:?}: {}", read.unwrap_err());
        }
    }
}

/// What is piped into those that read stdin.
fn input(path: &str) -> &'static str {
    match path {
        "join" => "quorate1.x",
        "import ipvsadm" => "-A -t 192.0.2.80:80 -s rr\n",
        _ => "",
    }
}

fn run(call: &[String], input: &str, socket: &str, folder: &Path) -> (i32, String) {
    let mut child = Command::new(env!("CARGO_BIN_EXE_quorate"))
        .args(["--socket", socket])
        .args(&call[1..])
        .current_dir(folder)
        .env_clear()
        .env("XDG_CONFIG_HOME", folder)
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .expect("the binary starts");
    // A child that ends without reading closes the pipe: that is its right.
    let _ = child.stdin.take().expect("a pipe").write_all(input.as_bytes());
    let output = child.wait_with_output().expect("the binary ends");
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    (output.status.code().expect("no signal"), said)
}

/// Against a node in memory. It may refuse (the token is not its own), but nothing is called wrongly.
#[test]
fn the_examples_run() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("cluster.toml"), CONFIGURATION).unwrap();
    let mut all = Vec::new();
    commands(&quorate_ctl::cli::command(), "", &mut all);
    let mut ran = 0;
    for (path, help) in all.iter().filter(|(path, _)| !NOT_RUN.contains(&path.as_str())) {
        let calls = calls(help).into_iter().filter(|call| call[1..].join(" ").starts_with(path));
        // What a monitoring system takes for critical is 2.
        for call in &calls.filter(|call| !call.contains(&"nagios".to_owned())).collect::<Vec<_>>() {
            let source = CONFIGURATION.to_owned();
            let status = answered(Health::Ok);
            let node = Node::start(State {
                // Connections have ended at the first look.
                drains_after: 1,
                status,
                source,
                revision: 118,
                ..State::default()
            });
            if path == "man" {
                let into = folder.path().join("man1").to_str().unwrap().to_owned();
                let call: Vec<String> = call[..2].iter().cloned().chain([into]).collect();
                assert_eq!(run(&call, "", &node.socket(), folder.path()).0, 0);
                continue;
            }
            let (code, said) = run(call, input(path), &node.socket(), folder.path());
            let no_context = path == "context use" && said.contains("no context is named");
            assert!(code != 2 || no_context, "{call:?}: {said}");
            assert!(!said.contains("panicked"), "{call:?}: {said}");
            let offline = ["validate", "completion", "version", "diff", "status", "explain"];
            assert!(code == 0 || !offline.contains(&path.as_str()), "{call:?}: {code} {said}");
            ran += 1;
        }
    }
    assert!(ran > 40, "{ran}");
}
