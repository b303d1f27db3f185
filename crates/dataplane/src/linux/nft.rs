//! Runs nft(8), for a bounded time, and takes what it says. Knows no rule. Tried by the contract
//! suite on the kernel.

use std::io::{ErrorKind, Read as _, Write as _};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc;
use std::time::Duration;

use rustix::time::{ClockId, clock_gettime};

use crate::error::{DataplaneError, Operation};

/// How long nft may take; 100,000 rules take it about a second.
const NFT_MAX: Duration = Duration::from_secs(10);
/// How often it is looked whether a killed one has ended.
const END_LOOK: Duration = Duration::from_millis(10);
/// The longest answer that is read.
const ANSWER_MAX: u64 = 64 << 20;
/// The longest part of nft's complaint that is shown.
const SAID_MAX: usize = 300;

/// A table of family inet as JSON (libnftables-json(5)), with numbers for names; `None`: there is none.
pub(super) fn list(
    table: &str,
    doing: impl Fn() -> Operation,
) -> Result<Option<Vec<u8>>, DataplaneError> {
    match nft(&["-n", "-j", "list", "table", "inet", table], None, doing) {
        Ok(answer) => Ok(Some(answer)),
        Err(DataplaneError::Nft { said, .. })
            if said.starts_with("Error: No such file or directory") =>
        {
            Ok(None)
        }
        Err(error) => Err(error),
    }
}

/// Runs nft(8); what it wrote.
pub(super) fn nft(
    arguments: &[&str],
    input: Option<String>,
    doing: impl Fn() -> Operation,
) -> Result<Vec<u8>, DataplaneError> {
    let failed = |said: String| DataplaneError::Nft { doing: doing(), said };
    let spawned = Command::new("nft")
        .args(arguments)
        .env("LC_ALL", "C")
        .stdin(if input.is_some() { Stdio::piped() } else { Stdio::null() })
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn();
    let child = match spawned {
        Ok(child) => child,
        Err(error) if matches!(error.kind(), ErrorKind::NotFound | ErrorKind::PermissionDenied) => {
            let cause = error.to_string();
            return Err(DataplaneError::NoNft { doing: doing(), cause });
        }
        Err(error) => return Err(failed(format!("nothing, it could not be started: {error}"))),
    };
    let (answer, said, well) = talk(child, input).map_err(failed)?;
    if well {
        return Ok(answer);
    }
    let said = String::from_utf8_lossy(&said);
    if said.contains("Operation not permitted") {
        let errno = crate::Errno(libc::EPERM);
        return Err(DataplaneError::NotPermitted { doing: doing(), errno });
    }
    let first = said.lines().next().unwrap_or("nothing");
    let said = first.chars().take(SAID_MAX).collect();
    Err(DataplaneError::Nft { doing: doing(), said })
}

/// Hands a program its input and takes what it writes, both at once, for a bounded time: standard
/// output, standard error, whether it ended well.
fn talk(mut child: Child, input: Option<String>) -> Result<(Vec<u8>, Vec<u8>, bool), String> {
    let (done, ended) = mpsc::sync_channel(2);
    let streams = (child.stdin.take(), child.stdout.take(), child.stderr.take());
    let (stdin, Some(stdout), Some(stderr)) = streams else { return Err("no pipe".to_owned()) };
    if let (Some(mut stdin), Some(input)) = (stdin, input) {
        // It may end before it has read all: what it says then is what counts.
        std::thread::spawn(move || drop(stdin.write_all(input.as_bytes())));
    }
    let errors = done.clone();
    std::thread::spawn(move || {
        let mut bytes = Vec::new();
        let read = stdout.take(ANSWER_MAX).read_to_end(&mut bytes);
        let _ = done.send((true, read.map(|_| bytes)));
    });
    std::thread::spawn(move || {
        let mut bytes = Vec::new();
        let read = stderr.take(ANSWER_MAX).read_to_end(&mut bytes);
        let _ = errors.send((false, read.map(|_| bytes)));
    });
    let (mut out, mut err) = (Vec::new(), Vec::new());
    let mut failed = None;
    // Both at once: the first to wait for uses up what there is.
    let begun = now();
    for _ in 0..2 {
        let left = NFT_MAX.saturating_sub(now().saturating_sub(begun));
        match ended.recv_timeout(left) {
            Ok((true, Ok(bytes))) => out = bytes,
            Ok((false, Ok(bytes))) => err = bytes,
            Ok((_, Err(error))) => failed = Some(error.to_string()),
            Err(_) => failed = Some(format!("nothing, for {} s", NFT_MAX.as_secs())),
        }
    }
    if failed.is_some() {
        let _ = child.kill();
    }
    // Not for ever: the kernel may hold it. What is left then ends with this process.
    for _ in 0..100 {
        match child.try_wait() {
            Ok(Some(status)) => return failed.map_or(Ok((out, err, status.success())), Err),
            Ok(None) => std::thread::sleep(END_LOOK),
            Err(error) => return Err(error.to_string()),
        }
    }
    Err(failed.unwrap_or_else(|| "nothing, and it does not end".to_owned()))
}

/// The time since boot.
fn now() -> Duration {
    let time = clock_gettime(ClockId::Boottime);
    Duration::new(time.tv_sec.unsigned_abs(), u32::try_from(time.tv_nsec).unwrap_or(0))
}
