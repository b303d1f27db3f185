//! Commands with a time limit. Owns waiting for children without polling (pidfd). Never leaves a
//! child behind: one that is late is killed and reaped. Its tests are below.

use std::io::Read;
use std::os::fd::{AsFd, OwnedFd};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::mpsc::{Receiver, sync_channel};
use std::thread;
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::{
    Pid, PidfdFlags, Signal, WaitId, WaitIdOptions, pidfd_open, pidfd_send_signal, waitid,
};

use super::LabError;
use super::clock::Deadline;

/// How a command ended and what it printed.
#[derive(Debug, Clone)]
pub struct Finished {
    /// How it ended.
    pub status: ExitStatus,
    /// Standard output.
    pub stdout: String,
    /// Standard error.
    pub stderr: String,
}

/// Runs a command to its end, whatever its status.
///
/// # Errors
/// When it cannot be started, or is not over within the limit (it is killed then).
pub fn run(command: &mut Command, limit: Duration) -> Result<Finished, LabError> {
    let line = line_of(command);
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().map_err(LabError::io(format!("start `{line}`")))?;
    let handle = ChildHandle::open(&child)?;
    let stdout = collect(child.stdout.take());
    let stderr = collect(child.stderr.take());
    let deadline = Deadline::after(limit);
    let in_time = handle.wait(deadline)?;
    if !in_time {
        handle.signal(Signal::KILL)?;
    }
    let status = child.wait().map_err(LabError::io(format!("wait for `{line}`")))?;
    // A grandchild may hold the pipes open for ever: what is there by then is what is taken.
    let patience = deadline.remaining().max(Duration::from_secs(1));
    let stdout = stdout.recv_timeout(patience).unwrap_or_default();
    let stderr = stderr.recv_timeout(patience).unwrap_or_default();
    if in_time {
        Ok(Finished { status, stdout, stderr })
    } else {
        Err(LabError::TimedOut { command: line, limit, output: format!("{stderr}{stdout}") })
    }
}

/// Runs a command that must succeed; gives its standard output.
///
/// # Errors
/// As [`run`], and when it ends with another status than 0.
pub fn run_ok(command: &mut Command, limit: Duration) -> Result<String, LabError> {
    let finished = run(command, limit)?;
    if finished.status.success() {
        return Ok(finished.stdout);
    }
    Err(LabError::Command {
        command: line_of(command),
        status: finished.status.to_string(),
        output: format!("{}{}", finished.stderr, finished.stdout).trim().to_owned(),
    })
}

/// A program with its arguments, as a person would type it.
pub fn line_of(command: &Command) -> String {
    let mut line = command.get_program().to_string_lossy().into_owned();
    for argument in command.get_args() {
        line.push(' ');
        line.push_str(&argument.to_string_lossy());
    }
    line
}

fn collect(pipe: Option<impl Read + Send + 'static>) -> Receiver<String> {
    let (sender, receiver) = sync_channel(1);
    thread::spawn(move || {
        let mut bytes = Vec::new();
        if let Some(mut pipe) = pipe {
            // A broken pipe ends the output; what came before it still counts.
            let _ended_early = pipe.read_to_end(&mut bytes);
        }
        // The receiver may have given up; then nobody wants the text.
        let _unwanted = sender.send(String::from_utf8_lossy(&bytes).into_owned());
    });
    receiver
}

/// A handle on a child that cannot come to mean another process (a pidfd).
#[derive(Debug)]
pub(crate) struct ChildHandle {
    pidfd: OwnedFd,
}

impl ChildHandle {
    /// Opens the handle; the child has not been waited for yet, so its id is still its own.
    pub(crate) fn open(child: &Child) -> Result<Self, LabError> {
        let pid = i32::try_from(child.id())
            .ok()
            .and_then(Pid::from_raw)
            .ok_or_else(|| std::io::Error::from(std::io::ErrorKind::InvalidInput))
            .map_err(LabError::io("read a child's process id"))?;
        let pidfd = pidfd_open(pid, PidfdFlags::empty())
            .map_err(std::io::Error::from)
            .map_err(LabError::io("open a child's pidfd"))?;
        Ok(Self { pidfd })
    }

    /// Waits until the process has ended or the deadline has passed; says whether it has ended.
    pub(crate) fn wait(&self, deadline: Deadline) -> Result<bool, LabError> {
        loop {
            let remaining = deadline.remaining();
            let limit = Timespec {
                tv_sec: i64::try_from(remaining.as_secs()).unwrap_or(i64::MAX),
                tv_nsec: i64::from(remaining.subsec_nanos()),
            };
            let mut fds = [PollFd::from_borrowed_fd(self.pidfd.as_fd(), PollFlags::IN)];
            match poll(&mut fds, Some(&limit)) {
                Ok(0) if remaining.is_zero() => return Ok(false),
                Ok(0) | Err(rustix::io::Errno::INTR) => {}
                Ok(_) => return Ok(true),
                Err(error) => {
                    return Err(LabError::io("wait for a child")(error.into()));
                }
            }
        }
    }

    /// Waits until all threads of the process stand still, after SIGSTOP, or it has ended.
    pub(crate) fn wait_until_stopped(&self) -> Result<(), LabError> {
        // Neither is taken: who waits for its end still finds it.
        let options = WaitIdOptions::STOPPED | WaitIdOptions::EXITED | WaitIdOptions::NOWAIT;
        loop {
            match waitid(WaitId::PidFd(self.pidfd.as_fd()), options) {
                Err(rustix::io::Errno::INTR) => {}
                Ok(_) | Err(rustix::io::Errno::CHILD) => return Ok(()),
                Err(error) => return Err(LabError::io("wait for a child to stop")(error.into())),
            }
        }
    }

    /// Whether a stopped process goes on since, by whomever's SIGCONT. Asking clears it.
    pub(crate) fn has_gone_on(&self) -> Result<bool, LabError> {
        let options = WaitIdOptions::CONTINUED | WaitIdOptions::NOHANG;
        match waitid(WaitId::PidFd(self.pidfd.as_fd()), options) {
            Ok(status) => Ok(status.is_some()),
            Err(rustix::io::Errno::CHILD) => Ok(false),
            Err(error) => Err(LabError::io("ask whether a child goes on")(error.into())),
        }
    }

    /// Sends a signal; a process that has already ended is no error.
    pub(crate) fn signal(&self, signal: Signal) -> Result<(), LabError> {
        match pidfd_send_signal(&self.pidfd, signal) {
            Ok(()) | Err(rustix::io::Errno::SRCH) => Ok(()),
            Err(error) => Err(LabError::io("signal a child")(error.into())),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stopped_process_that_somebody_lets_go_on_is_noticed() {
        let mut child = Command::new("sleep").arg("60").spawn().unwrap();
        let handle = ChildHandle::open(&child).unwrap();
        handle.signal(Signal::STOP).unwrap();
        handle.wait_until_stopped().unwrap();
        assert!(!handle.has_gone_on().unwrap());
        handle.signal(Signal::CONT).unwrap();
        assert!(handle.has_gone_on().unwrap());
        assert!(!handle.has_gone_on().unwrap(), "it is told of once");
        handle.signal(Signal::KILL).unwrap();
        child.wait().unwrap();
    }

    #[test]
    fn output_and_status_are_kept_apart() {
        let mut command = Command::new("sh");
        command.args(["-c", "echo out; echo err >&2; exit 3"]);
        let finished = run(&mut command, Duration::from_secs(30)).unwrap();
        assert_eq!(finished.status.code(), Some(3));
        assert_eq!((finished.stdout.as_str(), finished.stderr.as_str()), ("out\n", "err\n"));
        let error = run_ok(&mut command, Duration::from_secs(30)).unwrap_err();
        assert!(error.to_string().contains("err"), "{error}");
    }

    #[test]
    fn a_late_command_is_killed_and_said_to_be_late() {
        let mut command = Command::new("sleep");
        command.arg("3600");
        let error = run(&mut command, Duration::from_millis(20)).unwrap_err();
        assert!(matches!(error, LabError::TimedOut { .. }), "{error}");
    }
}
