//! The lab: real kernels on one machine (design §8).
//!
//! Owns what a test of the whole needs from the machine: packages, a kernel with IPVS (the host's
//! or a virtual machine's), deployments in network namespaces, processes and clients in them.
//! Never knows what Quorate is: callers bring the daemons and their files. It only ends processes
//! and removes namespaces that it, or a dead run of it, has made. Its tests are
//! `tests/tests/lab_host_network.rs` and `tests/tests/lab_ipvs_vm.rs`, run by `cargo xtask test`.

pub mod client;
pub mod clock;
pub mod command;
pub mod deployment;
pub mod disk;
pub mod flows;
mod initramfs;
pub mod kernel;
pub mod namespace;
pub mod network;
pub mod observer;
pub mod packages;
pub mod place;
pub mod process;
pub mod segment;
pub mod server;
mod sweep;
pub mod vm;

use std::path::{Path, PathBuf};
use std::time::Duration;

pub use network::{Host, Network};
pub use place::{Place, host_has_ipvs, kernel_for_ipvs};

/// What can go wrong in the lab.
#[derive(Debug, thiserror::Error)]
pub enum LabError {
    /// A system call or a file operation failed.
    #[error("{what}: {source}")]
    Io {
        /// What was being done, on what.
        what: String,
        /// The operating system's word.
        source: std::io::Error,
    },
    /// A command ended with another status than 0.
    #[error("`{command}` failed ({status}): {output}")]
    Command {
        /// The command line.
        command: String,
        /// How it ended.
        status: String,
        /// What it printed, standard error first.
        output: String,
    },
    /// A command did not end within its time limit and was killed.
    #[error("`{command}` did not end within {limit:?} and was killed; it had printed: {output}")]
    TimedOut {
        /// The command line.
        command: String,
        /// Its limit.
        limit: Duration,
        /// What it had printed so far.
        output: String,
    },
    /// Packages are missing and cannot be installed by this user or on this system.
    #[error("the lab needs these Debian packages:\n{list}as root, run: {install}")]
    PackagesMissing {
        /// One line each: name and reason.
        list: String,
        /// The command that installs them.
        install: String,
    },
    /// What a tool printed, or a file holds, is not what the lab can read.
    #[error("{what} cannot be understood: {text}")]
    Unreadable {
        /// What it is.
        what: String,
        /// The text itself.
        text: String,
    },
    /// The virtual machine ended without a status of its command.
    #[error("the virtual machine ended without a result ({reason}); its console:\n{console}")]
    Vm {
        /// What is known about why.
        reason: String,
        /// The end of its kernel's console.
        console: String,
    },
    /// A name was used that the deployment does not have.
    #[error("the lab's network has no host `{0}`")]
    NoSuchHost(String),
}

impl LabError {
    /// For `map_err`: an I/O error with what was being done.
    pub fn io(what: impl Into<String>) -> impl FnOnce(std::io::Error) -> Self {
        let what = what.into();
        move |source| Self::Io { what, source }
    }
}

/// Whether this process may install packages, load modules and make namespaces.
pub fn is_root() -> bool {
    rustix::process::geteuid().is_root()
}

/// Whether this process runs in the lab's own virtual machine.
pub fn in_vm() -> bool {
    std::env::var_os(vm::IN_VM).is_some()
}

/// The workspace's root, as it was when this library was built.
pub fn workspace_dir() -> PathBuf {
    let tests = Path::new(env!("CARGO_MANIFEST_DIR"));
    tests.parent().unwrap_or(tests).to_path_buf()
}

/// Where the lab keeps what it has fetched and what it leaves behind, ignored by git.
pub fn cache_dir() -> PathBuf {
    let target = std::env::var_os("CARGO_TARGET_DIR")
        .map_or_else(|| workspace_dir().join("target"), |dir| workspace_dir().join(dir));
    target.join("lab")
}

/// Where artefacts of a run (logs) go; the same path in the virtual machine, which can write
/// nowhere else on the host.
pub fn artefacts_dir() -> PathBuf {
    std::env::var_os(vm::ARTEFACTS).map_or_else(|| cache_dir().join("artefacts"), PathBuf::from)
}

/// Where the built daemons are: `QUORATE_BIN_DIR`, else where the running binary came from.
///
/// # Errors
/// When the running binary's own path cannot be read.
pub fn bin_dir() -> Result<PathBuf, LabError> {
    if let Some(dir) = std::env::var_os("QUORATE_BIN_DIR") {
        return Ok(PathBuf::from(dir));
    }
    let binary = std::env::current_exe().map_err(LabError::io("read own path"))?;
    // target/PROFILE/BINARY, or target/PROFILE/deps/TEST.
    let dir = binary.parent().unwrap_or(&binary);
    let dir = if dir.ends_with("deps") { dir.parent().unwrap_or(dir) } else { dir };
    Ok(dir.to_path_buf())
}
