//! `cargo xtask demo` and `soak`: programs of package quorate-tests, run where their kernel is.
//! Owns how they are built and started; what they do is theirs (`tests/src/bin`). Tried by running
//! them.

use std::io::IsTerminal;
use std::path::PathBuf;
use std::process::{Command, ExitCode};
use std::time::Duration;

use clap::Args;
use quorate_tests::lab::vm::{self, VmCommand};
use quorate_tests::lab::{Place, artefacts_dir, cache_dir, is_root, kernel_for_ipvs, packages};

use crate::TaskError;
use crate::machine::{exit_code, passed_on};
use crate::report::say;
use crate::run::{cargo, shown};

/// How to show Quorate.
#[derive(Debug, Args)]
pub(crate) struct DemoArguments {
    /// Leaves the deployment running at the end, with a shell to look around in
    #[arg(long)]
    keep: bool,
}

/// How long to try to break it.
#[derive(Debug, Args)]
pub(crate) struct SoakArguments {
    /// Rounds; each kills daemons at other points
    #[arg(long, default_value_t = 100)]
    rounds: u32,
    /// Whose dice are thrown: the one that a former run printed, to throw the same [default: new]
    #[arg(long)]
    seed: Option<u64>,
}

/// Runs `lab-demo` where IPVS is, on this terminal.
pub(crate) fn demo(arguments: &DemoArguments) -> Result<ExitCode, TaskError> {
    let words = if arguments.keep { vec!["--keep".to_owned()] } else { Vec::new() };
    // Only with a shell at its end does it need a terminal; else its output is all there is.
    let terminal = arguments.keep && std::io::stdin().is_terminal();
    start("lab-demo", words, kernel_for_ipvs(), terminal)
}

/// Runs `lab-soak`: in namespaces on the host, since it needs true timing and no IPVS; in the
/// machine only where this user may not make them.
pub(crate) fn soak(arguments: &SoakArguments) -> Result<ExitCode, TaskError> {
    let mut words = vec!["--rounds".to_owned(), arguments.rounds.to_string()];
    words.extend(arguments.seed.iter().flat_map(|seed| ["--seed".to_owned(), seed.to_string()]));
    start("lab-soak", words, if is_root() { Place::Host } else { Place::Vm }, false)
}

/// Builds everything that runs in the lab.
pub(crate) fn build_command() -> Command {
    // The whole workspace, as the tests do: for fewer packages the features of what they share
    // would be others, and all of it would be built once more. One that does not build keeps none
    // of the others from being built.
    cargo(&["build", "--workspace", "--bins", "--keep-going"])
}

/// What lab programs and tests need to know.
pub(crate) fn environment() -> Vec<(String, String)> {
    let text = |path: PathBuf| path.to_string_lossy().into_owned();
    vec![
        ("QUORATE_BIN_DIR".to_owned(), text(bin_dir())),
        (vm::ARTEFACTS.to_owned(), text(artefacts_dir())),
    ]
}

fn bin_dir() -> PathBuf {
    // The cache stands in the target directory, beside the profiles.
    cache_dir().with_file_name("debug")
}

fn start(
    name: &str,
    arguments: Vec<String>,
    place: Place,
    terminal: bool,
) -> Result<ExitCode, TaskError> {
    say("building the daemons");
    let (status, _shown) = shown(&mut build_command())?;
    if !status.success() {
        return Err(TaskError::Build("the daemons"));
    }
    let program = bin_dir().join(name);
    if !program.exists() {
        return Err(TaskError::NoProgram(name.to_owned()));
    }
    packages::ensure(&[packages::NETWORK, packages::IPVS], &mut packages::say_on_stderr)?;
    match place {
        Place::Host => {
            say(&format!("running {name} on this host's kernel, in network namespaces"));
            let mut command = Command::new(&program);
            command.args(arguments).envs(environment());
            let failed = |source| TaskError::Io { what: format!("start {name}"), source };
            command.status().map(exit_code).map_err(failed)
        }
        Place::Vm => {
            say(&format!("running {name} in a virtual machine: this host's kernel has no ip_vs"));
            let mut command = VmCommand::new(program.to_string_lossy(), arguments);
            command.environment = passed_on();
            command.environment.extend(environment());
            command.artefacts = Some(artefacts_dir());
            command.interactive = terminal;
            command.limit = Duration::from_secs(24 * 3600);
            Ok(exit_code(vm::run(&command, &mut vm::to_stdout)?))
        }
    }
}
