//! Completion and man pages.

use std::io::Write as _;
use std::process::{Command, Stdio};

use super::run::quorate;

fn leaves(command: &clap::Command, path: &str, found: &mut Vec<String>) {
    for child in command.get_subcommands().filter(|child| !child.is_hide_set()) {
        let path = format!("{path}-{}", child.get_name());
        found.push(path.clone());
        leaves(child, &path, found);
    }
}

#[test]
fn each_shell_gets_a_script_that_knows_every_command() {
    for shell in ["bash", "zsh", "fish"] {
        let script = quorate(&["completion", shell]).ends(0).stdout;
        let command = quorate_ctl::cli::command();
        for child in command.get_subcommands().filter(|child| !child.is_hide_set()) {
            assert!(script.contains(child.get_name()), "{shell}: {}", child.get_name());
        }
        assert!(script.contains("expect-revision"), "{shell}");
        if shell == "bash" {
            let mut bash =
                Command::new("bash").arg("-n").stdin(Stdio::piped()).spawn().expect("bash");
            bash.stdin.take().unwrap().write_all(script.as_bytes()).unwrap();
            assert!(bash.wait().unwrap().success());
        }
    }
    quorate(&["completion", "tcsh"]).ends(2);
}

#[test]
fn each_command_has_a_man_page_with_its_flags_and_an_example() {
    let folder = tempfile::tempdir().unwrap();
    let into = folder.path().join("man1");
    quorate(&["man", into.to_str().unwrap()]).ends(0);
    let mut wanted = vec!["quorate".to_owned()];
    leaves(&quorate_ctl::cli::command(), "quorate", &mut wanted);
    assert!(wanted.len() > 30, "{wanted:?}");
    for name in &wanted {
        let page = std::fs::read_to_string(into.join(format!("{name}.1")));
        let page = page.unwrap_or_else(|error| panic!("{name}: {error}"));
        assert!(page.contains(".SH NAME") && page.contains(".SH SYNOPSIS"), "{name}");
    }
    let page = std::fs::read_to_string(into.join("quorate-apply.1")).unwrap();
    assert!(page.contains("expect\\-revision") && page.contains("quorate apply"), "{page}");
    let root = std::fs::read_to_string(into.join("quorate.1")).unwrap();
    assert!(root.contains("Exit codes: 0 ok"), "{root}");
    let file = folder.path().join("file");
    std::fs::write(&file, "").unwrap();
    quorate(&["man", file.to_str().unwrap()]).ends(1);
}
