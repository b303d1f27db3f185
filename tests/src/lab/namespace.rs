//! One network namespace, entered by a thread of its own. Owns an open handle on it, not its life:
//! `network` makes and removes them. Never uses `ip netns exec`, which mounts a fresh /sys where
//! there is no bpffs (design §8). Its test is `tests/tests/lab_host_network.rs`.

use std::fs::File;
use std::os::fd::AsFd;
use std::process::Command;
use std::time::Duration;

use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};

use super::LabError;
use super::command::{self, Finished};

/// A handle on a network namespace.
#[derive(Debug)]
pub struct Namespace {
    name: String,
    file: File,
}

impl Namespace {
    /// Opens a namespace by the name that `ip netns` knows it by.
    ///
    /// # Errors
    /// When there is none of this name.
    pub fn open(name: &str) -> Result<Self, LabError> {
        let path = format!("/run/netns/{name}");
        let file = File::open(&path).map_err(LabError::io(format!("open {path}")))?;
        Ok(Self { name: name.to_owned(), file })
    }

    /// Its name, as for `ip -n NAME`.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Does some work on a fresh thread in this namespace. Sockets that it makes, and processes
    /// that it starts, stay there.
    ///
    /// # Errors
    /// When the namespace cannot be entered.
    pub fn enter<T: Send>(&self, work: impl FnOnce() -> T + Send) -> Result<T, LabError> {
        let worker = move || {
            move_into_link_name_space(self.file.as_fd(), Some(LinkNameSpaceType::Network))?;
            Ok::<T, rustix::io::Errno>(work())
        };
        match std::thread::scope(|scope| scope.spawn(worker).join()) {
            Ok(Ok(value)) => Ok(value),
            Ok(Err(error)) => {
                Err(LabError::io(format!("enter the namespace {}", self.name))(error.into()))
            }
            // A failed assertion of a test is the test's, wherever it was made.
            Err(panic) => std::panic::resume_unwind(panic),
        }
    }

    /// Runs a command to its end in this namespace, whatever its status.
    ///
    /// # Errors
    /// When it cannot be started, or is not over within the limit (it is killed then).
    pub fn run(&self, command: &mut Command, limit: Duration) -> Result<Finished, LabError> {
        self.enter(|| command::run(command, limit))?
    }

    /// Runs a command, given as a line of words, that must succeed; gives its standard output.
    ///
    /// # Errors
    /// As [`Namespace::run`], and when it ends with another status than 0.
    pub fn run_ok(&self, line: &str, limit: Duration) -> Result<String, LabError> {
        let mut words = line.split_whitespace();
        let mut command = Command::new(words.next().unwrap_or_default());
        command.args(words);
        self.enter(|| command::run_ok(&mut command, limit))?
    }

    /// Sets a kernel parameter of this namespace, such as `net/ipv4/ip_forward`.
    ///
    /// # Errors
    /// When the kernel does not have it or refuses the value.
    pub fn set_parameter(&self, name: &str, value: &str) -> Result<(), LabError> {
        let path = format!("/proc/sys/{name}");
        self.enter(|| std::fs::write(&path, value))?
            .map_err(LabError::io(format!("set {path} to {value}")))
    }
}
