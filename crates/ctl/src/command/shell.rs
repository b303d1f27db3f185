//! `quorate completion` and `quorate man`: what shells and man(1) know of the command line, made of the
//! same arguments that clap reads.

use std::fs;

use super::{Ended, Scene};
use crate::cli::{self, Completion, Man, Shell};
use crate::exit::{Exit, Failure};

pub(super) fn completion(scene: &Scene<'_>, arguments: &Completion) -> Ended {
    let shell = match arguments.shell {
        Shell::Bash => clap_complete::Shell::Bash,
        Shell::Zsh => clap_complete::Shell::Zsh,
        Shell::Fish => clap_complete::Shell::Fish,
    };
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut cli::command(), "quorate", &mut script);
    scene.output.line(String::from_utf8_lossy(&script).trim_end())?;
    Ok(Exit::Ok)
}

/// A page for `quorate`, and one for each command and subcommand.
pub(super) fn man(scene: &Scene<'_>, arguments: &Man) -> Ended {
    let directory = &arguments.directory;
    fs::create_dir_all(directory)
        .and_then(|()| clap_mangen::generate_to(cli::command(), directory))
        .map_err(|error| {
            let shown = directory.display();
            Failure::new(Exit::Failed, format!("cannot write the man pages to {shown}: {error}"))
        })?;
    scene.output.remark(&format!("The man pages are in {}.", directory.display()));
    Ok(Exit::Ok)
}
