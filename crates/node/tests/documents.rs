//! Every `node.toml` in the pages is one that the daemon takes. The rest of what the pages say is
//! tested in tests/tests/documents.rs.
#![forbid(unsafe_code)]
#![allow(clippy::unwrap_used, reason = "what a test relies on fails the test")]

use std::fs;
use std::path::Path;

#[test]
fn every_node_toml_in_the_pages_is_right() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    let mut paths = vec![root.join("README.md")];
    let operate = fs::read_dir(root.join("docs/operate")).unwrap();
    paths.extend(operate.map(|entry| entry.unwrap().path()));
    let mut read = 0;
    for path in paths {
        let text = fs::read_to_string(&path).unwrap();
        // Between ``` and ```, every second part is a code block.
        for block in text.split("```").skip(1).step_by(2) {
            let Some(source) = block.strip_prefix("toml\n") else { continue };
            if !source.contains("[[link]]") {
                continue;
            }
            read += 1;
            if let Err(wrong) = quorate_node::config::parse(source) {
                panic!("{}:\n{}", path.display(), wrong.render("node.toml", source));
            }
        }
    }
    assert!(read >= 3, "the pages have fewer examples than they had: {read}");
}

#[test]
fn every_command_and_flag_of_the_daemon_is_on_its_page() {
    use clap::CommandFactory as _;

    let page = include_str!("../../../docs/reference/daemon.md");
    let cli = quorate_node::cli::Cli::command();
    let flags = |command: &clap::Command| -> Vec<String> {
        let long = command.get_arguments().filter_map(clap::Arg::get_long);
        long.map(|flag| format!("`--{flag}")).collect()
    };
    let absent = flags(&cli).into_iter().filter(|flag| !page.contains(flag.as_str()));
    let mut missing: Vec<String> = absent.collect();
    for command in cli.get_subcommands() {
        let name = format!("quorated {}", command.get_name());
        let Some((_, section)) = page.split_once(&format!("### `{name}`")) else {
            missing.push(name);
            continue;
        };
        let section = section.split("\n### ").next().unwrap_or_default();
        let absent = flags(command).into_iter().filter(|flag| !section.contains(flag.as_str()));
        missing.extend(absent.map(|flag| format!("{name} {flag}")));
    }
    assert!(missing.is_empty(), "not on the page: {missing:#?}");
}

#[test]
fn the_units_call_the_daemon_as_it_is_called() {
    use clap::Parser as _;

    let units = [
        include_str!("../../../packaging/systemd/quorated.service"),
        include_str!("../../../packaging/systemd/quorated@.service"),
    ];
    let mut read = 0;
    for line in units.iter().flat_map(|unit| unit.lines()) {
        let Some(("ExecStart" | "ExecStopPost", command)) = line.split_once('=') else { continue };
        read += 1;
        let words = command.trim_start_matches('-').split(' ');
        if let Err(wrong) = quorate_node::cli::Cli::try_parse_from(words) {
            panic!("{line}: {wrong}");
        }
    }
    assert!(read >= 2, "the units start nothing");
}
