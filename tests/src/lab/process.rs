//! A long-running process in a namespace, with its output in a log. Owns the child: it never
//! outlives this handle. Its test is `tests/tests/lab_host_network.rs`.

use std::fs::{self, OpenOptions};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::Duration;

use rustix::process::Signal;

use super::LabError;
use super::clock::Deadline;
use super::command::{ChildHandle, line_of};
use super::namespace::Namespace;

/// A running process of the lab.
#[derive(Debug)]
pub struct Process {
    line: String,
    child: Child,
    handle: ChildHandle,
    log: PathBuf,
}

impl Process {
    /// Starts a process; its output is added to the end of the log.
    ///
    /// # Errors
    /// When the log cannot be written or the process cannot be started.
    pub fn spawn(
        namespace: &Namespace,
        command: &mut Command,
        log: &Path,
    ) -> Result<Self, LabError> {
        if let Some(folder) = log.parent() {
            fs::create_dir_all(folder).map_err(LabError::io("make the folder of a log"))?;
        }
        let open = || OpenOptions::new().create(true).append(true).open(log);
        let file = open().map_err(LabError::io(format!("open the log {}", log.display())))?;
        let errors = file.try_clone().map_err(LabError::io("open the log twice"))?;
        let line = line_of(command);
        command.stdin(Stdio::null()).stdout(file).stderr(errors);
        let child = namespace
            .enter(|| command.spawn())?
            .map_err(LabError::io(format!("start `{line}` in {}", namespace.name())))?;
        let handle = ChildHandle::open(&child)?;
        Ok(Self { line, child, handle, log: log.to_path_buf() })
    }

    /// Its process id.
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// The processes that its first thread has started, and has not reaped.
    ///
    /// # Errors
    /// When the system cannot say.
    pub fn children(&self) -> Result<Vec<u32>, LabError> {
        let id = self.id();
        let path = format!("/proc/{id}/task/{id}/children");
        let children = fs::read_to_string(&path).map_err(LabError::io(format!("read {path}")))?;
        Ok(children.split_whitespace().filter_map(|word| word.parse().ok()).collect())
    }

    /// Sends it a signal.
    ///
    /// # Errors
    /// When it cannot be signalled.
    pub fn signal(&self, signal: Signal) -> Result<(), LabError> {
        self.handle.signal(signal)
    }

    /// Its log so far.
    pub fn log(&self) -> String {
        let bytes = fs::read(&self.log).unwrap_or_default();
        String::from_utf8_lossy(&bytes).into_owned()
    }

    /// Whether it still runs (a stopped process does).
    ///
    /// # Errors
    /// When the system cannot say.
    pub fn is_running(&mut self) -> Result<bool, LabError> {
        let status = self.child.try_wait().map_err(LabError::io(format!("ask for {}", self.line)));
        Ok(status?.is_none())
    }

    /// Ends it with SIGKILL, as a crash would, and reaps it.
    ///
    /// # Errors
    /// When it cannot be signalled or waited for.
    pub fn kill(&mut self) -> Result<ExitStatus, LabError> {
        self.handle.signal(Signal::KILL)?;
        self.child.wait().map_err(LabError::io(format!("wait for `{}`", self.line)))
    }

    /// Asks it to end (SIGTERM) and waits for that.
    ///
    /// # Errors
    /// When it has not ended within the limit; it then still runs.
    pub fn terminate(&mut self, limit: Duration) -> Result<ExitStatus, LabError> {
        self.handle.signal(Signal::TERM)?;
        self.wait(limit)
    }

    /// Stops it where it stands (SIGSTOP), and returns when all its threads do: on a busy machine,
    /// some run on for a while.
    ///
    /// # Errors
    /// When it cannot be signalled or waited for.
    pub fn stop(&self) -> Result<(), LabError> {
        // An earlier SIGCONT is not taken for one of this time.
        self.handle.has_gone_on()?;
        self.handle.signal(Signal::STOP)?;
        self.handle.wait_until_stopped()
    }

    /// Lets a stopped process go on (SIGCONT).
    ///
    /// # Errors
    /// When it cannot be signalled, or did not stand still all the while: then what was seen
    /// meanwhile says nothing about a stopped process.
    pub fn resume(&self) -> Result<(), LabError> {
        let gone_on = self.handle.has_gone_on()?;
        self.handle.signal(Signal::CONT)?;
        if gone_on {
            return Err(LabError::Unreadable {
                what: format!("what `{}` did while it was stopped", self.line),
                text:
                    "somebody else sent it SIGCONT; the kernel does when the shell that a run in \
                       the background was started from ends: start it with setsid(1)"
                        .to_owned(),
            });
        }
        Ok(())
    }

    /// Waits until it has ended by itself.
    ///
    /// # Errors
    /// When it has not ended within the limit; it then still runs.
    pub fn wait(&mut self, limit: Duration) -> Result<ExitStatus, LabError> {
        if self.handle.wait(Deadline::after(limit))? {
            return self.child.wait().map_err(LabError::io(format!("wait for `{}`", self.line)));
        }
        Err(LabError::TimedOut { command: self.line.clone(), limit, output: self.log() })
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // One that has ended and been reaped is no error.
        let _gone = self.kill();
    }
}
