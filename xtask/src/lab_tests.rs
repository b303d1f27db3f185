//! Lab tests: prebuilt binaries of `tests/tests/lab_*.rs`, run one after another. `lab_host_*` run
//! in namespaces on the host, `lab_ipvs_*` where IPVS is: on the host, or in the virtual machine.
//! Never runs cargo in the machine. Its test is below.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use quorate_tests::lab::clock::Stopwatch;
use quorate_tests::lab::vm::{self, VmCommand};
use quorate_tests::lab::{Place, artefacts_dir, is_root, kernel_for_ipvs, packages};

use crate::count::Count;
use crate::programs::Profile;
use crate::report::{Outcome, Report, Step, complain, say};
use crate::run::{cargo, shown};
use crate::test::{TestArguments, skipped, step};
use crate::{TaskError, machine, programs};

/// For one file of lab tests; under emulation all takes ten to thirty times longer.
const LIMIT: Duration = Duration::from_secs(30 * 60);

/// Builds the lab tests and the daemons, and runs what is asked for.
pub(crate) fn run(arguments: &TestArguments, report: &mut Report) -> Result<(), TaskError> {
    let names = names()?;
    if !names.iter().any(|name| arguments.wants(name)) {
        return Ok(());
    }
    let daemons = step("build of the daemons", &mut programs::build_command(Profile::Dev))?;
    // Who asks for one test by name knows whether it needs them.
    let stale = daemons.outcome != Outcome::Passed && !arguments.is_partial();
    report.add(daemons);
    say("=== build of the lab tests");
    let stopwatch = Stopwatch::start();
    let built = build()?;
    let outcome = if built.is_some() { Outcome::Passed } else { Outcome::Failed };
    let name = "build of the lab tests".to_owned();
    let (count, output) = (Count::default(), String::new());
    report.add(Step { name, outcome, count, took: stopwatch.elapsed(), output });
    for (name, executable) in built.unwrap_or_default() {
        if !arguments.wants(&name) {
            continue;
        }
        report.add(if stale {
            skipped(&name, "the daemons were not built: old ones would tell nothing")
        } else {
            run_one(&name, &executable)?
        });
    }
    Ok(())
}

fn run_one(name: &str, executable: &Path) -> Result<Step, TaskError> {
    let place = if name.starts_with("lab_ipvs_") { kernel_for_ipvs() } else { Place::Host };
    if place == Place::Host && !is_root() {
        return Ok(skipped(name, "namespaces need root"));
    }
    say(&format!(
        "=== {name} ({})",
        match place {
            Place::Host => "on this host's kernel",
            Place::Vm => "in a virtual machine: this host's kernel has no ip_vs",
        }
    ));
    let stopwatch = Stopwatch::start();
    let result = match place {
        Place::Host => on_host(executable),
        Place::Vm => in_machine(executable),
    };
    let (passed, output) = result.unwrap_or_else(|error| {
        let why = format!("xtask: {name}: {error}");
        complain(&why);
        (false, why)
    });
    let count = Count::read(&output);
    let outcome = if passed { Outcome::Passed } else { Outcome::Failed };
    Ok(Step { name: name.to_owned(), outcome, count, took: stopwatch.elapsed(), output })
}

fn on_host(executable: &Path) -> Result<(bool, String), TaskError> {
    packages::ensure(&[packages::NETWORK, packages::IPVS], &mut packages::say_on_stderr)?;
    let mut command = Command::new(executable);
    command.args(["--test-threads=1", "--show-output"]).envs(programs::environment(Profile::Dev));
    let (status, output) = shown(&mut command)?;
    Ok((status.success(), output))
}

fn in_machine(executable: &Path) -> Result<(bool, String), TaskError> {
    packages::ensure(&[packages::NETWORK, packages::IPVS], &mut packages::say_on_stderr)?;
    let arguments = vec!["--test-threads=1".to_owned(), "--show-output".to_owned()];
    let mut command = VmCommand::new(executable.to_string_lossy(), arguments);
    command.environment = machine::passed_on();
    command.environment.extend(programs::environment(Profile::Dev));
    command.artefacts = Some(artefacts_dir());
    command.limit = LIMIT;
    let mut output = Vec::new();
    let status = vm::run(&command, &mut |bytes| {
        vm::to_stdout(bytes);
        output.extend_from_slice(bytes);
    })?;
    Ok((status.success(), String::from_utf8_lossy(&output).into_owned()))
}

/// The files of lab tests, whether or not they can be built.
fn names() -> Result<Vec<String>, TaskError> {
    let folder = quorate_tests::lab::workspace_dir().join("tests/tests");
    let failed = |source| TaskError::Io { what: format!("read {}", folder.display()), source };
    let mut names = Vec::new();
    for entry in std::fs::read_dir(&folder).map_err(failed)? {
        let name = entry.map_err(failed)?.file_name().to_string_lossy().into_owned();
        if let Some(name) = name.strip_suffix(".rs").filter(|name| name.starts_with("lab_")) {
            names.push(name.to_owned());
        }
    }
    Ok(names)
}

/// Their executables, in the order of their names; none when they don't build.
fn build() -> Result<Option<Vec<(String, PathBuf)>>, TaskError> {
    let mut command = cargo(&["test", "--no-run", "--message-format=json-render-diagnostics"]);
    command.args(["--workspace", "--test", "lab_*"]);
    let output = command
        .stderr(std::process::Stdio::inherit())
        .output()
        .map_err(|source| TaskError::Io { what: "start cargo".to_owned(), source })?;
    let messages = String::from_utf8_lossy(&output.stdout);
    Ok(output.status.success().then(|| executables(&messages)))
}

fn executables(messages: &str) -> Vec<(String, PathBuf)> {
    let mut found: Vec<(String, PathBuf)> = messages
        .lines()
        .filter_map(|line| serde_json::from_str::<serde_json::Value>(line).ok())
        .filter_map(|message| {
            let name = message.pointer("/target/name")?.as_str()?.to_owned();
            let executable = message.get("executable")?.as_str()?;
            name.starts_with("lab_").then(|| (name, PathBuf::from(executable)))
        })
        .collect();
    found.sort();
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn executables_of_lab_tests_are_found_among_cargos_messages() {
        let messages = r#"{"reason":"compiler-artifact","target":{"name":"lab_z"},"executable":"/t/z"}
{"reason":"compiler-artifact","target":{"name":"quorate_tests"},"executable":null}
{"reason":"compiler-artifact","target":{"name":"house"},"executable":"/t/house"}
{"reason":"compiler-artifact","target":{"name":"lab_a"},"executable":"/t/a"}
{"reason":"build-finished","success":true}"#;
        let expected = [("lab_a", "/t/a"), ("lab_z", "/t/z")];
        let expected = expected.map(|(name, path)| (name.to_owned(), PathBuf::from(path)));
        assert_eq!(executables(messages), expected);
    }
}
