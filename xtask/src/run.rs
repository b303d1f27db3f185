//! Runs a command, showing its output as it comes and keeping it to be read afterwards. Owns the
//! two threads of that. Its test is below.

use std::io::{self, IsTerminal, Read, Write};
use std::process::{Command, ExitStatus, Stdio};
use std::sync::{Mutex, PoisonError};

use crate::TaskError;

/// `cargo`, the one that runs us; coloured as if it wrote to our terminal itself.
pub(crate) fn cargo(words: &[&str]) -> Command {
    let mut cargo = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    cargo.current_dir(quorate_tests::lab::workspace_dir()).args(words);
    // What `cargo xtask` says of xtask itself: build scripts that look at it would run again each time
    // that cargo is called by hand, or by us.
    let of_xtask =
        |name: &str| name.starts_with("CARGO_PKG_") || name.starts_with("CARGO_MANIFEST");
    for (name, _) in std::env::vars_os() {
        if name.to_str().is_some_and(of_xtask) {
            cargo.env_remove(&name);
        }
    }
    if io::stderr().is_terminal() {
        cargo.env("CARGO_TERM_COLOR", "always");
    }
    cargo
}

/// Whether a cargo subcommand is installed.
pub(crate) fn has_cargo(subcommand: &str) -> bool {
    let mut probe = cargo(&[subcommand, "--version"]);
    probe.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    probe.status().is_ok_and(|status| status.success())
}

/// Runs it to its end; gives its status and all that it printed.
pub(crate) fn shown(command: &mut Command) -> Result<(ExitStatus, String), TaskError> {
    let program = command.get_program().to_string_lossy().into_owned();
    let failed = |what: &str| {
        let what = format!("{what} {program}");
        move |source| TaskError::Io { what, source }
    };
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().map_err(failed("start"))?;
    let (stdout, stderr) = (child.stdout.take(), child.stderr.take());
    let kept = Mutex::new(Vec::new());
    std::thread::scope(|scope| {
        scope.spawn(|| pass_on(stdout, io::stdout(), &kept));
        scope.spawn(|| pass_on(stderr, io::stderr(), &kept));
    });
    let status = child.wait().map_err(failed("wait for"))?;
    let kept = kept.into_inner().unwrap_or_else(PoisonError::into_inner);
    Ok((status, String::from_utf8_lossy(&kept).into_owned()))
}

/// Keeps whole lines together, so that the two streams never mix within one.
fn pass_on(from: Option<impl Read>, mut to: impl Write, kept: &Mutex<Vec<u8>>) {
    let Some(mut from) = from else { return };
    let mut line = Vec::new();
    let mut buffer = [0; 8192];
    loop {
        // An error ends the output as its end does; the exit status tells what counts.
        let count = from.read(&mut buffer).unwrap_or(0);
        let bytes = buffer.get(..count).unwrap_or_default();
        // A closed output is the reader's wish.
        let _closed = to.write_all(bytes).and_then(|()| to.flush());
        line.extend_from_slice(bytes);
        let whole = line.iter().rposition(|byte| *byte == b'\n').map_or(0, |at| at + 1);
        let whole = if count == 0 { line.len() } else { whole };
        let lines: Vec<u8> = line.drain(..whole).collect();
        kept.lock().unwrap_or_else(PoisonError::into_inner).extend(lines);
        if count == 0 {
            return;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_streams_are_kept_line_by_line() {
        let mut command = Command::new("sh");
        command.args(["-c", "printf 'one\\ntwo'; printf 'three\\n' >&2; exit 4"]);
        let (status, output) = shown(&mut command).unwrap();
        assert_eq!(status.code(), Some(4));
        for line in ["one\n", "two", "three\n"] {
            assert!(output.contains(line), "{output:?}");
        }
    }
}
