//! `cargo xtask vm`: a command, or a shell, in the lab's virtual machine. Owns nothing of the
//! machine itself (`quorate_tests::lab::vm`). Tried by hand.

use std::io::IsTerminal;
use std::process::{ExitCode, ExitStatus};
use std::time::Duration;

use clap::Args;
use quorate_tests::lab::artefacts_dir;
use quorate_tests::lab::vm::{self, VmCommand};

use crate::TaskError;

/// What to run in the machine.
#[derive(Debug, Args)]
pub(crate) struct VmArguments {
    /// Gives a shell on the machine's console; `exit` ends it
    #[arg(long, conflicts_with = "command", required_unless_present = "command")]
    shell: bool,
    /// Minutes until the machine is ended
    #[arg(long, default_value_t = 60)]
    minutes: u32,
    /// The command with its arguments
    #[arg(last = true)]
    command: Vec<String>,
}

/// Runs it, with the terminal attached where a shell is wanted.
pub(crate) fn run_by_hand(arguments: VmArguments) -> Result<ExitCode, TaskError> {
    let mut words = arguments.command.into_iter();
    let program = words.next().unwrap_or_else(|| "/bin/bash".to_owned());
    let mut command = VmCommand::new(program, words.collect());
    command.environment = passed_on();
    command.interactive = arguments.shell && std::io::stdin().is_terminal();
    command.limit = Duration::from_secs(u64::from(arguments.minutes) * 60);
    command.artefacts = Some(artefacts_dir());
    Ok(exit_code(vm::run(&command, &mut vm::to_stdout)?))
}

/// The variables of this process that a command in the machine gets too.
pub(crate) fn passed_on() -> Vec<(String, String)> {
    let wanted = |name: &str| {
        name.starts_with("QUORATE_") || name.starts_with("RUST_") || ["CI", "TERM"].contains(&name)
    };
    std::env::vars().filter(|(name, _)| wanted(name)).collect()
}

/// A child's status as our own: its code, or 128 + the signal that ended it, as shells do.
pub(crate) fn exit_code(status: ExitStatus) -> ExitCode {
    use std::os::unix::process::ExitStatusExt;
    let code = status.code().or(status.signal().map(|signal| 128 + signal)).unwrap_or(1);
    u8::try_from(code).map_or(ExitCode::FAILURE, ExitCode::from)
}
