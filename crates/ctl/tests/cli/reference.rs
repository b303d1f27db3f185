//! `docs/reference/command-line.md` names every command, flag, exit code and JSON key.

use clap::CommandFactory as _;
use quorate_ctl::cli::Cli;
use quorate_ctl::exit::Exit;

const PAGE: &str = include_str!("../../../../docs/reference/command-line.md");

fn commands(command: &clap::Command, path: &str, missing: &mut Vec<String>) {
    for child in command.get_subcommands() {
        let path = format!("{path} {}", child.get_name());
        if child.has_subcommands() {
            commands(child, &path, missing);
            continue;
        }
        let Some((_, section)) = PAGE.split_once(&format!("### `{path}")) else {
            missing.push(path);
            continue;
        };
        let section = section.split("\n### ").next().unwrap_or_default();
        let flags = child.get_arguments().filter_map(|argument| argument.get_long());
        let absent = flags.map(|flag| format!("--{flag}")).filter(|flag| !section.contains(flag));
        missing.extend(absent.map(|flag| format!("{path} {flag}")));
    }
}

#[test]
fn every_command_and_flag_is_on_the_page() {
    let command = Cli::command();
    let mut missing = Vec::new();
    commands(&command, "quorate", &mut missing);
    let global = command.get_arguments().filter_map(|argument| argument.get_long());
    missing.extend(
        global.map(|flag| format!("`--{flag}")).filter(|flag| !PAGE.contains(flag.as_str())),
    );
    assert!(missing.is_empty(), "not on the page: {missing:#?}");
}

#[test]
fn every_exit_code_is_on_the_page() {
    for exit in Exit::ALL {
        let row = format!("| {} |", exit.code());
        assert!(PAGE.contains(&row), "no row {row}");
    }
}

#[test]
fn every_key_of_the_status_is_on_the_page() {
    use quorate_api::v1::{
        GroupStatus, LinkStatus, NodeStatus, RealServerStatus, ServiceStatus, StatusResponse,
    };
    use quorate_ctl::output::json::{Document, Status};
    use serde_json::Value;

    fn keys(value: &Value, found: &mut Vec<String>) {
        match value {
            Value::Object(object) => {
                for (key, value) in object {
                    found.push(key.clone());
                    keys(value, found);
                }
            }
            Value::Array(items) => items.iter().for_each(|item| keys(item, found)),
            _ => {}
        }
    }
    let service = ServiceStatus {
        real_servers: vec![RealServerStatus::default()],
        ..ServiceStatus::default()
    };
    let status = StatusResponse {
        member: true,
        cluster: Some(quorate_api::v1::ClusterStatus::default()),
        nodes: vec![NodeStatus { links: vec![LinkStatus::default()], ..NodeStatus::default() }],
        groups: vec![GroupStatus::default()],
        services: vec![service],
        ..StatusResponse::default()
    };
    let status = Status::from(status);
    let mut found = Vec::new();
    keys(&serde_json::to_value(Document::of(&status)).unwrap(), &mut found);
    assert!(found.len() > 40, "{found:?}");
    let missing: Vec<_> = found.iter().filter(|key| !PAGE.contains(&format!("`{key}`"))).collect();
    assert!(missing.is_empty(), "not on the page: {missing:?}");
}
